import { type Inferred, isScalar, type Property } from "./infer.ts";
import { camelCase, singular } from "./names.ts";
import { textOf } from "./values.ts";

// Names that many entities use for something of their own; sharing one says nothing.
const GENERIC = new Set(["source_id", "uuid", "key", "code", "number", "no", "slug", "name", "email"]);
const REFERENCE = /_(id|code|key|no|number|uuid)$/;
const ABOVE = /(^|_)(parent|replies_to|reply_to|belongs_to)(_|$)/;
const BOSS = /(^|_)(manager|supervisor|boss|reports_to|mentor)(_|$)/;
const PEOPLE = /(^|_)(employee|staff|person|people|user|member|worker|contact|agent|player|teacher|reader)$/;

/** Makes relations of properties whose name points to an entity and whose values are all among its keys. */
export function inferRelations(
  one: Inferred,
  all: Inferred[],
  given: Record<string, Record<string, unknown> | null>,
): void {
  for (const [name, property] of Object.entries(one.definition.properties)) {
    if (!isScalar(property) || (one.key.length === 1 && one.key[0] === name)) continue;
    const said = given[name];
    if (property["x-relation"] || (said && ("x-relation" in said || "type" in said || "enum" in said)))
      continue;
    const found = candidates(name, one, all).find((target) => relate(one, name, property, target));
    if (!found && name.endsWith("_id") && !one.notes.some((note) => note.startsWith(`${name} looks`)))
      one.notes.push(`${name} may be a relation; say to what with --schema`);
  }
}

function relate(one: Inferred, name: string, property: Property, target: Inferred): boolean {
  const field = target.key[0] as string;
  const theirs = target.definition.properties[field] as Property;
  const used = one.records.filter((record) => record[name] !== undefined);
  if (theirs.type !== property.type || theirs.format !== property.format || used.length === 0) return false;
  const known = new Set(target.records.map((record) => textOf(record[field])));
  const dangling = used.filter((record) => !known.has(textOf(record[name])));
  if (dangling.length > 0) {
    one.notes.push(
      `${name} looks like a relation to ${target.entity}, but ${dangling.length} of ${used.length} values are not there (${textOf(dangling[0]?.[name])}): no relation`,
    );
    return false;
  }
  property["x-index"] = true;
  property["x-relation"] = { entity: target.entity, field, onDelete: "restrict" };
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
