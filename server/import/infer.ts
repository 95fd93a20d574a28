import { createHash } from "node:crypto";
import type { KeySet } from "./keys.ts";
import { entityNames, propertyNames, singular } from "./names.ts";
import { type Column, isUnique, type List, listsOf } from "./observe.ts";
import { type EntityOverride, type Overrides, overrideDefinition } from "./overrides.ts";
import type { Source } from "./read.ts";
import { inferRelations, nameRelations } from "./relations.ts";
import type { SourceFile } from "./source.ts";

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
/** A list of records, ready to be loaded: named, typed, with its key. The records are still in the file. */
export interface Inferred {
  file: SourceFile;
  source: string;
  entity: string;
  definition: Definition;
  key: string[];
  count: number;
  /** What was seen of each property's values. */
  columns: Map<string, Column>;
  notes: string[];
  override?: EntityOverride | undefined;
}

/** The property that identifies records which nothing in the file identifies. */
export const IMPORT_KEY = "import_key";

/**
 * Infers entities, types, keys and relations from values and names; `overrides` goes before what is inferred. Reads the file
 * once, and again where values of several properties must be compared. `progress` is told how many records were read.
 */
export async function infer(
  file: SourceFile,
  overrides: Overrides = { entities: {} },
  progress: (records: number) => void = () => {},
): Promise<Inferred[]> {
  const lists = await listsOf(file, progress);
  const names = entityNames(lists.map((list) => list.name));
  const inferred = lists
    .map((list) => inferEntity(file, list, overrides.names?.[list.name] ?? (names.get(list.name) as string)))
    .filter((one) => one.count > 0 || overrides.entities[one.entity]);
  for (const one of inferred) {
    overrideDefinition(one, inferred, overrides);
    if (one.key.length === 0) one.key = await singleKey(one, inferred);
  }
  await inferRelations(inferred, overrides);
  for (const one of inferred) {
    if (one.key.length === 0) one.key = await compoundKey(one);
    if ((one.key.length === 0 && one.count > 0) || one.key[0] === IMPORT_KEY) addImportKey(one);
    markKey(one);
  }
  nameRelations(inferred);
  return inferred;
}

function inferEntity(file: SourceFile, list: List, entity: string): Inferred {
  const notes: string[] = [];
  const properties: Record<string, Property> = {};
  const required: string[] = [];
  const columns = new Map<string, Column>();
  for (const [key, name] of propertyNames(list.columns.keys())) {
    const column = list.columns.get(key) as Column;
    const { kind, schema, count, hasUnzoned } = column.kinds;
    columns.set(name, column);
    properties[name] = schema;
    if (count === list.count) required.push(name);
    if (kind === "date-time" && hasUnzoned) notes.push(`${name}: times without a zone are taken as UTC`);
    if (count === 0) notes.push(`${name} has no value anywhere and is taken as text`);
    if (/^source_/.test(name) && !/^source/i.test(key))
      notes.push(`${key} is called ${name}: the name ${name.slice(7)} is taken`);
  }
  const definition: Definition = { type: "object", required, properties };
  return { file, source: list.name, entity, definition, key: [], count: list.count, columns, notes };
}

/** A record of the file with the names of its properties, without those that are null or left out. */
export function named(one: Inferred, record: Source): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, { key }] of one.columns)
    if (Object.hasOwn(record, key) && record[key] !== null) out[name] = record[key];
  return out;
}

/**
 * A property that identifies records, by its name first and its values second. Where the name of the entity does not tell (a
 * file orders-2026.csv), it is the first one that ends like an identifier and is not another entity's.
 */
async function singleKey(one: Inferred, all: Inferred[]): Promise<string[]> {
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
  for (const name of new Set(likely)) {
    if (!one.definition.required.includes(name) || !isScalar(one.definition.properties[name])) continue;
    if (await isUnique(one, [name])) return [name];
  }
  return [];
}

/** Records of a join table are known by what they join, those of a list by what it belongs to and their place. */
async function compoundKey(one: Inferred): Promise<string[]> {
  const present = Object.entries(one.definition.properties).filter(([name]) =>
    one.definition.required.includes(name),
  );
  const joined = present.filter(([, property]) => property["x-relation"]).map(([name]) => name);
  if (joined.length === 0) return [];
  if (await isUnique(one, joined)) return joined;
  for (const [name, property] of present) {
    const isPlace = /(^|_)(line|position|pos|number|no|nr|index|ordinal|seq|sequence|rank|step)$/.test(name);
    if (isPlace && isScalar(property) && (await isUnique(one, [...joined, name]))) return [...joined, name];
  }
  return [];
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
  one.notes.push(
    "no property identifies its records, so their content does (import_key): a record that changes in the file becomes a new one",
  );
}

/** The key of a record by its content; `seen` counts the same ones, which get a number. */
export function contentKey(record: Record<string, unknown>, seen: KeySet): string {
  const content = JSON.stringify(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 32);
  const before = seen.add(hash);
  return before === 0 ? hash : `${hash}-${before + 1}`;
}

function markKey(one: Inferred): void {
  for (const name of one.key) {
    const property = one.definition.properties[name] as Property;
    property[one.key.length === 1 ? "x-unique" : "x-index"] = true;
    const compared = one.columns.get(name)?.unique;
    if (one.key.length === 1 && compared?.isFull)
      one.notes.push(
        `only ${compared.size} values of ${name} were compared: the import stops if one comes twice`,
      );
  }
}

/** Whether a property may be a key or a relation. */
export function isScalar(property: Property | undefined): boolean {
  return property !== undefined && !["object", "array", "boolean"].includes(property.type as string);
}
