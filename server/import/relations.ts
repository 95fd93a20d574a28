import { type Inferred, isScalar, type Property } from "./infer.ts";
import { camelCase, singular } from "./names.ts";
import { type Column, keysOf } from "./observe.ts";
import type { Overrides } from "./overrides.ts";
import { textOf } from "./values.ts";

// Names that many entities use for something of their own; sharing one says nothing.
const GENERIC = new Set(["source_id", "uuid", "key", "code", "number", "no", "slug", "name", "email"]);
const REFERENCE = /_(id|code|key|no|number|uuid)$/;
const ABOVE = /(^|_)(parent|replies_to|reply_to|belongs_to)(_|$)/;
const BOSS = /(^|_)(manager|supervisor|boss|reports_to|mentor)(_|$)/;
const PEOPLE = /(^|_)(employee|staff|person|people|user|member|worker|contact|agent|player|teacher|reader)$/;

/** A property and the entities it may refer to; how many of its values, and which first, are of no record there. */
type Guess = {
  one: Inferred;
  name: string;
  property: Property;
  targets: { to: Inferred; dangling: number; first: unknown }[];
};

/** Makes relations of properties whose name points to an entity and whose values are all among its keys. */
export async function inferRelations(all: Inferred[], overrides: Overrides): Promise<void> {
  const guesses = all.flatMap((one) => guessesOf(one, all, overrides.entities[one.entity]?.properties ?? {}));
  await compare(guesses);
  for (const guess of guesses) {
    const found = guess.targets.some(({ to, dangling, first }) => relate(guess, to, dangling, first));
    const { one, name } = guess;
    if (!found && name.endsWith("_id") && !one.notes.some((note) => note.startsWith(`${name} looks`)))
      one.notes.push(`${name} may be a relation; say to what with --schema`);
  }
}

function guessesOf(
  one: Inferred,
  all: Inferred[],
  given: Record<string, Record<string, unknown> | null>,
): Guess[] {
  return Object.entries(one.definition.properties).flatMap(([name, property]) => {
    if (!isScalar(property) || (one.key.length === 1 && one.key[0] === name)) return [];
    const said = given[name];
    if (property["x-relation"] || (said && ("x-relation" in said || "type" in said || "enum" in said)))
      return [];
    const targets = candidates(name, one, all).filter((to) => {
      const theirs = to.definition.properties[to.key[0] as string] as Property;
      return theirs.type === property.type && theirs.format === property.format && countOf(one, name) > 0;
    });
    return [{ one, name, property, targets: targets.map((to) => ({ to, dangling: 0, first: undefined })) }];
  });
}

const countOf = (one: Inferred, name: string) => one.columns.get(name)?.kinds.count ?? 0;

/** Compares values with keys, reading the file once for all. */
async function compare(guesses: Guess[]): Promise<void> {
  const first = guesses.find(({ targets }) => targets.length > 0);
  if (!first) return;
  for (const to of new Set(guesses.flatMap(({ targets }) => targets.map((target) => target.to))))
    await keysOf(to, to.key[0] as string);
  for await (const { list, records } of first.one.file.read()) {
    const here = guesses.filter(({ one, targets }) => one.source === list && targets.length > 0);
    for (const { one, name, targets } of here) {
      const { key } = one.columns.get(name) as Column;
      for (const record of records) {
        const value = Object.hasOwn(record, key) ? record[key] : null;
        if (value === null) continue;
        for (const target of targets) {
          const keys = target.to.columns.get(target.to.key[0] as string)?.keys;
          if (keys?.has(textOf(value))) continue;
          if (target.dangling++ === 0) target.first = value;
        }
      }
    }
  }
}

function relate({ one, name, property }: Guess, to: Inferred, dangling: number, first: unknown): boolean {
  const field = to.key[0] as string;
  if (to.columns.get(field)?.keys?.isFull) {
    one.notes.push(
      `${name} looks like a relation to ${to.entity}, which has too many records to compare with: say so with --schema`,
    );
    return false;
  }
  if (dangling > 0) {
    one.notes.push(
      `${name} looks like a relation to ${to.entity}, but ${dangling} of ${countOf(one, name)} values are not there (${textOf(first)}): no relation`,
    );
    return false;
  }
  property["x-index"] = true;
  property["x-relation"] = { entity: to.entity, field, onDelete: "restrict" };
  return true;
}

/** Entities that a property's name points to, the most telling first. */
function candidates(name: string, one: Inferred, all: Inferred[]): Inferred[] {
  const keyed = all.filter((target) => target.key.length === 1);
  const bare = name.replace(REFERENCE, "");
  const called = (target: Inferred) => [target.entity, singular(target.entity)];
  const byKey = keyed.filter((target) => target !== one && target.key[0] === name && !GENERIC.has(name));
  const byName = keyed.filter((target) => called(target).includes(bare));
  const byEnd =
    bare === name
      ? []
      : keyed
          .filter((target) => called(target).some((entity) => bare.endsWith(`_${entity}`)))
          .sort((a, b) => b.entity.length - a.entity.length);
  const people = keyed.filter((target) => called(target).some((entity) => PEOPLE.test(entity)));
  const boss = BOSS.test(name) ? (people.includes(one) ? [one] : people.length === 1 ? people : []) : [];
  const above = ABOVE.test(name) && keyed.includes(one) ? [one] : [];
  return [...new Set([...byKey, ...byName, ...byEnd, ...above, ...boss])];
}

/** Names relations where the names they would get (see data.save_fields) are taken already. */
export function nameRelations(all: Inferred[]): void {
  const system = ["id", "created_at", "updated_at", "version", "created_by"];
  const taken = new Map(
    all.map((one) => [
      one.entity,
      new Set([...system, ...Object.keys(one.definition.properties)].map(camelCase)),
    ]),
  );
  const free = (entity: string, names: string[]) => {
    const used = taken.get(entity) ?? new Set();
    const found = names.find((name) => !used.has(camelCase(name))) ?? (names[0] as string);
    used.add(camelCase(found));
    return found;
  };
  const relations = all.flatMap((one) =>
    Object.entries(one.definition.properties).flatMap(([field, { "x-relation": relation }]) =>
      relation ? [{ one, field, relation }] : [],
    ),
  );
  for (const { one, field, relation } of relations) {
    const name = /.+_id$/.test(field) ? field.slice(0, -3) : `${field}_${relation.entity}`;
    const found = free(
      one.entity,
      relation.name ? [relation.name] : [name, `${name}_${relation.entity}`, `${name}_record`],
    );
    if (found !== name) relation.name = found;
  }
  for (const { one, field, relation } of relations) {
    const used = taken.get(relation.entity) ?? new Set();
    const several =
      relations.filter((r) => r.one === one && r.relation.entity === relation.entity).length > 1;
    const usual = plurals(one.entity).map((plural) => camelCase(several ? `${plural}_by_${field}` : plural));
    if (!relation.inverse && usual.some((name) => used.has(name))) {
      const full = `${one.entity}_by_${field}`;
      relation.inverse = free(relation.entity, [full, `${full}_records`]);
    } else for (const name of relation.inverse ? [camelCase(relation.inverse)] : usual) used.add(name);
  }
}

// SQL makes the plural (data.plural); to know whether it is free, what it could be is enough.
function plurals(name: string): string[] {
  return singular(name) === name ? [`${name}s`, `${name}es`, name.replace(/y$/, "ies")] : [name];
}
