import { entityNames, propertyNames, singular } from "./names.ts";
import { numberText, type Source, type SourceList } from "./read.ts";
import { type Kind, kindOf, schemaOf, valueAs } from "./values.ts";

/** A property of an entity's definition, in the dialect of data.define_entity. */
export type Property = Record<string, unknown> & {
  "x-relation"?: { entity: string; field: string; onDelete: string };
};
/** The definition of an entity. */
export interface Definition {
  type: "object";
  required: string[];
  properties: Record<string, Property>;
}
/** A list of records, ready to be loaded: named, typed, with its key. */
export interface Inferred {
  source: string;
  entity: string;
  definition: Definition;
  key: string[];
  records: Source[];
  lines?: number[] | undefined;
  notes: string[];
}

/** Infers entities, types, keys and relations from values and names. `reserved` says which entity names are not free. */
export function infer(lists: SourceList[], reserved: (name: string) => boolean = () => false): Inferred[] {
  const names = entityNames(
    lists.map((list) => list.name),
    reserved,
  );
  const inferred = lists.map((list) => inferEntity(list, names.get(list.name) as string));
  for (const one of inferred) inferRelations(one, inferred);
  for (const one of inferred) if (one.key.length === 0) chooseCompoundKey(one);
  for (const one of inferred) markKey(one);
  return inferred;
}

function inferEntity(list: SourceList, entity: string): Inferred {
  const keys = propertyNames(new Set(list.records.flatMap((record) => Object.keys(record))));
  const notes: string[] = [];
  const properties: Record<string, Property> = {};
  const required: string[] = [];
  const kinds = new Map<string, Kind>();
  for (const [key, name] of keys) {
    const values = list.records
      .map((record) => record[key])
      .filter((value) => value !== null && value !== undefined);
    const kind = kindOf(values, list.texts);
    kinds.set(key, kind);
    properties[name] = schemaOf(kind, values);
    if (values.length === list.records.length) required.push(name);
    if (kind === "date-time" && values.some((value) => !/([Zz]|[+-]\d\d:?\d\d)$/.test(String(value))))
      notes.push(`${name}: times without a zone are taken as UTC`);
    if (name !== key && name.startsWith("source_"))
      notes.push(`${key} is called ${name}: every entity has an ${key} of its own`);
  }
  const records = list.records.map((record) =>
    Object.fromEntries(
      [...keys]
        .filter(([key]) => record[key] !== null && record[key] !== undefined)
        .map(([key, name]) => [name, valueAs(kinds.get(key) as Kind, record[key])]),
    ),
  );
  const one: Inferred = {
    source: list.name,
    entity,
    definition: { type: "object", required, properties },
    key: [],
    records,
    lines: list.lines,
    notes,
  };
  one.key = singleKey(one);
  return one;
}

/** A property that identifies records, by its name first and its values second. */
function singleKey(one: Inferred): string[] {
  const { entity, definition } = one;
  const short = singular(entity);
  const likely = [
    `${entity}_id`,
    `${short}_id`,
    "source_id",
    "uuid",
    "key",
    "code",
    "sku",
    `${short}_code`,
    `${short}_key`,
    `${short}_number`,
    "number",
    "slug",
    "email",
    "name",
  ];
  const found = likely.find(
    (name) =>
      definition.required.includes(name) && isScalar(definition.properties[name]) && isUnique(one, [name]),
  );
  return found ? [found] : [];
}

function isScalar(property: Property | undefined): boolean {
  return property !== undefined && !["object", "array", "boolean"].includes(property.type as string);
}

function inferRelations(one: Inferred, all: Inferred[]): void {
  for (const [name, property] of Object.entries(one.definition.properties)) {
    if (!isScalar(property) || (one.key.length === 1 && one.key[0] === name)) continue;
    for (const target of candidates(name, one, all)) {
      const field = target.key[0] as string;
      const theirs = target.definition.properties[field] as Property;
      if (theirs.type !== property.type || theirs.format !== property.format) continue;
      const known = new Set(target.records.map((record) => textOf(record[field])));
      const dangling = one.records.filter(
        (record) => record[name] !== undefined && !known.has(textOf(record[name])),
      );
      if (dangling.length > 0) {
        one.notes.push(
          `${name} looks like a relation to ${target.entity}, but ${dangling.length} values are not there: no relation`,
        );
        continue;
      }
      property["x-index"] = true;
      property["x-relation"] = { entity: target.entity, field, onDelete: "restrict" };
      break;
    }
    if (!property["x-relation"] && name.endsWith("_id") && one.key[0] !== name)
      one.notes.push(`${name} may be a relation; say to what with --schema`);
  }
}

/** Entities that a property's name points to, the most telling first. */
function candidates(name: string, one: Inferred, all: Inferred[]): Inferred[] {
  const keyed = all.filter((target) => target.key.length === 1);
  const bare = name.replace(/_(id|code|key|no|number|uuid)$/, "");
  const byKey = keyed.filter((target) => target.key[0] === name && target !== one && name !== "name");
  const byName =
    bare === name ? [] : keyed.filter((target) => target.entity === bare || singular(target.entity) === bare);
  const byEnd = bare === name ? [] : keyed.filter((target) => bare.endsWith(`_${singular(target.entity)}`));
  const toSelf = /(^|_)(parent|manager|supervisor|boss|reports_to|replies_to|reply_to|belongs_to)(_|$)/.test(
    name,
  )
    ? keyed.filter((target) => target === one)
    : [];
  return [...new Set([...byKey, ...byName, ...byEnd, ...toSelf])];
}

/** Records of a join table are known by what they join; failing that, by everything they say. */
function chooseCompoundKey(one: Inferred): void {
  const joined = Object.entries(one.definition.properties)
    .filter(([name, property]) => property["x-relation"] && one.definition.required.includes(name))
    .map(([name]) => name);
  if (joined.length > 0 && isUnique(one, joined)) {
    one.key = joined;
    return;
  }
  one.key = ["import_key"];
  one.definition.properties.import_key = {
    type: "string",
    description: "Place of the record in the imported file, which had no key of its own.",
  };
  one.definition.required.push("import_key");
  one.records.forEach((record, index) => {
    record.import_key = String(index + 1);
  });
  one.notes.push("no property identifies its records: import_key is their place in the file");
}

function markKey(one: Inferred): void {
  for (const name of one.key) {
    const property = one.definition.properties[name] as Property;
    property[one.key.length === 1 ? "x-unique" : "x-index"] = true;
  }
}

function isUnique(one: Inferred, names: string[]): boolean {
  const seen = new Set(one.records.map((record) => names.map((name) => textOf(record[name])).join("\u0000")));
  return seen.size === one.records.length;
}

const textOf = (value: unknown): string => numberText(value) ?? String(value);
