import { createHash } from "node:crypto";
import { entityNames, propertyNames, singular } from "./names.ts";
import { type EntityOverride, type Overrides, overrideDefinition } from "./overrides.ts";
import type { Source, SourceList } from "./read.ts";
import { inferRelations, nameRelations } from "./relations.ts";
import { kindOf, schemaOf, textOf } from "./values.ts";

/** A property of an entity's definition, in the dialect of data.define_entity. */
export type Property = Record<string, unknown> & {
  "x-relation"?: { entity: string; field?: string; onDelete?: string; name?: string; inverse?: string };
};
/** The definition of an entity. */
export interface Definition {
  type: "object";
  required: string[];
  properties: Record<string, Property>;
}
/** A list of records, ready to be loaded: named, typed, with its key. The values are still the file's. */
export interface Inferred {
  source: string;
  entity: string;
  definition: Definition;
  key: string[];
  records: Source[];
  lines?: number[] | undefined;
  notes: string[];
  override?: EntityOverride | undefined;
}

/** The property that identifies records which nothing in the file identifies. */
export const IMPORT_KEY = "import_key";

/** Infers entities, types, keys and relations from values and names; `overrides` goes before what is inferred. */
export function infer(lists: SourceList[], overrides: Overrides = { entities: {} }): Inferred[] {
  const names = entityNames(lists.map((list) => list.name));
  const inferred = lists
    .map((list) => inferEntity(list, overrides.names?.[list.name] ?? (names.get(list.name) as string)))
    .filter((one) => one.records.length > 0 || overrides.entities[one.entity]);
  for (const one of inferred) {
    overrideDefinition(one, inferred, overrides);
    if (one.key.length === 0) one.key = singleKey(one, inferred);
  }
  for (const one of inferred) inferRelations(one, inferred, overrides.entities[one.entity]?.properties ?? {});
  for (const one of inferred) {
    if (one.key.length === 0) one.key = compoundKey(one);
    if ((one.key.length === 0 && one.records.length > 0) || one.key[0] === IMPORT_KEY) addImportKey(one);
    markKey(one);
  }
  nameRelations(inferred);
  return inferred;
}

function inferEntity(list: SourceList, entity: string): Inferred {
  const keys = propertyNames(new Set(list.records.flatMap((record) => Object.keys(record))));
  const notes: string[] = [];
  const properties: Record<string, Property> = {};
  const required: string[] = [];
  for (const [key, name] of keys) {
    const values = list.records
      .map((record) => (Object.hasOwn(record, key) ? record[key] : null))
      .filter((value) => value !== null);
    const kind = kindOf(values, list.texts);
    properties[name] = schemaOf(kind, values);
    if (values.length === list.records.length) required.push(name);
    if (kind === "date-time" && values.some((value) => !/([Zz]|[+-]\d\d:?\d\d)$/.test(String(value))))
      notes.push(`${name}: times without a zone are taken as UTC`);
    if (values.length === 0) notes.push(`${name} has no value anywhere and is taken as text`);
    if (/^source_/.test(name) && !/^source/i.test(key))
      notes.push(`${key} is called ${name}: the name ${name.slice(7)} is taken`);
  }
  const records = list.records.map((record) =>
    Object.fromEntries(
      [...keys]
        .filter(([key]) => Object.hasOwn(record, key) && record[key] !== null)
        .map(([key, name]) => [name, record[key]]),
    ),
  );
  const definition: Definition = { type: "object", required, properties };
  return { source: list.name, entity, definition, key: [], records, lines: list.lines, notes };
}

/**
 * A property that identifies records, by its name first and its values second. Where the name of the entity does not tell (a
 * file orders-2026.csv), it is the first one that ends like an identifier and is not another entity's.
 */
function singleKey(one: Inferred, all: Inferred[]): string[] {
  const short = singular(one.entity);
  const others = all.filter((other) => other !== one).map((other) => singular(other.entity));
  const likely = [
    ...["id", "key", "code", "no", "number", "uuid"].flatMap((end) => [
      `${one.entity}_${end}`,
      `${short}_${end}`,
    ]),
    ...["source_id", "uuid", "key", "code", "sku", "number", "slug"],
    ...Object.keys(one.definition.properties).filter((name) => {
      const bare = singular(name.replace(/_(id|uuid)$/, ""));
      return bare !== singular(name) && !others.some((other) => bare === other || bare.endsWith(`_${other}`));
    }),
    ...["email", "name"],
  ];
  const found = likely.find(
    (name) =>
      one.definition.required.includes(name) &&
      isScalar(one.definition.properties[name]) &&
      isUnique(one, [name]),
  );
  return found ? [found] : [];
}

/** Records of a join table are known by what they join, those of a list by what it belongs to and their place. */
function compoundKey(one: Inferred): string[] {
  const present = Object.entries(one.definition.properties).filter(([name]) =>
    one.definition.required.includes(name),
  );
  const joined = present.filter(([, property]) => property["x-relation"]).map(([name]) => name);
  if (joined.length === 0) return [];
  if (isUnique(one, joined)) return joined;
  const place = present.find(
    ([name, property]) =>
      /(^|_)(line|position|pos|number|no|nr|index|ordinal|seq|sequence|rank|step)$/.test(name) &&
      isScalar(property) &&
      isUnique(one, [...joined, name]),
  );
  return place ? [...joined, place[0]] : [];
}

/**
 * Gives each record its content as key: importing the same again adds nothing, and another file overwrites nothing. The key
 * is not required, so that records written by others do without.
 */
export function addImportKey(one: Inferred): void {
  one.key = [IMPORT_KEY];
  one.definition.properties[IMPORT_KEY] ??= {
    type: "string",
    description: "Hash of the imported record, which had no key of its own.",
  };
  const seen = new Map<string, number>();
  for (const record of one.records) {
    const content = JSON.stringify(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
    const hash = createHash("sha256").update(content).digest("hex").slice(0, 32);
    const count = (seen.get(hash) ?? 0) + 1;
    seen.set(hash, count);
    record[IMPORT_KEY] = count === 1 ? hash : `${hash}-${count}`;
  }
  one.notes.push(
    "no property identifies its records, so their content does (import_key): a record that changes in the file becomes a new one",
  );
}

function markKey(one: Inferred): void {
  for (const name of one.key) {
    const property = one.definition.properties[name] as Property;
    property[one.key.length === 1 ? "x-unique" : "x-index"] = true;
  }
}

/** Whether a property may be a key or a relation. */
export function isScalar(property: Property | undefined): boolean {
  return property !== undefined && !["object", "array", "boolean"].includes(property.type as string);
}

/** Whether no two records have the same values of these properties, and all have them. */
export function isUnique(one: Inferred, names: string[]): boolean {
  const seen = new Set<string>();
  for (const record of one.records) {
    if (names.some((name) => record[name] === undefined)) return false;
    seen.add(JSON.stringify(names.map((name) => textOf(record[name]))));
  }
  return seen.size === one.records.length;
}
