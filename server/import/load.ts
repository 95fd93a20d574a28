import { isDeepStrictEqual } from "node:util";
import type { Client } from "pg";
import { addImportKey, type Definition, IMPORT_KEY, type Inferred, isUnique } from "./infer.ts";
import { leaveOut, overridden } from "./overrides.ts";
import { ImportError } from "./read.ts";
import { kindOfProperty, textOf, valueAs } from "./values.ts";

/** How many records were written, per entity. */
export interface Loaded {
  entity: string;
  inserted: number;
  updated: number;
  unchanged: number;
}

const BATCH = 1000;

/**
 * Creates organization, site and app where they are missing. Returns what was created. Imports into one app at once wait
 * for each other here; the caller holds the transaction.
 */
export async function ensureApp(client: Client, path: string): Promise<string[]> {
  const [site, app, ...rest] = path.split("/");
  if (!site || !app || rest.length > 0)
    throw new ImportError(`"${path}" does not name an app; write site/app, for example acme/crm.`);
  const created: string[] = [];
  const exists = async (text: string, values: string[]) =>
    ((await client.query(text, values)).rowCount ?? 0) > 0;
  const isSite = () => exists("select from tenancy.sites where name = $1", [site]);
  await alone(client, path);
  if (!(await isSite())) await alone(client, site);
  if (!(await isSite())) {
    if (!(await exists("select from tenancy.organizations where name = $1", [site]))) {
      await client.query("select tenancy.create_organization($1)", [site]);
      created.push(`organization ${site}`);
    }
    await client.query("select tenancy.create_site($1, $1)", [site]);
    created.push(`site ${site}`);
  }
  if (
    !(await exists(
      "select from tenancy.apps a join tenancy.sites s on s.id = a.site_id where s.name = $1 and a.name = $2",
      [site, app],
    ))
  ) {
    await client.query("select tenancy.create_app($1, $2)", [site, app]);
    created.push(`app ${path}`);
  }
  return created;
}

async function alone(client: Client, what: string): Promise<void> {
  await client.query("select pg_advisory_xact_lock(hashtextextended('rowhouse.import/' || $1, 0))", [what]);
}

/**
 * Defines the entities and writes their records; the caller holds the transaction. Relations are defined last, so that
 * circles and references to later records load; later imports defer their checks to the end instead.
 * @param progress is told after each batch how many records of an entity are done.
 */
export async function load(
  client: Client,
  app: string,
  inferred: Inferred[],
  progress: (done: number, entity: string) => void,
): Promise<Loaded[]> {
  const known = await existingSchemas(client, app);
  for (const one of inferred) settleKey(one, known.get(one.entity));
  const final = new Map(inferred.map((one) => [one.entity, mergeSchema(one, known.get(one.entity))]));
  const changed = inferred.filter((one) => !isDeepStrictEqual(known.get(one.entity), final.get(one.entity)));
  const loaded: Loaded[] = [];
  await client.query("set constraints all deferred");
  for (const one of changed) {
    const definition = final.get(one.entity) as Definition;
    await define(client, app, one.entity, known.has(one.entity) ? definition : withoutRelations(definition));
  }
  for (const one of inferred) {
    const definition = final.get(one.entity) as Definition;
    loaded.push(await loadEntity(client, app, one, definition, known.has(one.entity), progress));
  }
  try {
    for (const one of changed) await define(client, app, one.entity, final.get(one.entity) as Definition);
    await client.query("set constraints all immediate");
  } catch (error) {
    throw (error as { code?: string }).code === "23503" ? dangling(inferred, final, error as Error) : error;
  }
  return loaded;
}

/** The first record that refers to one that is not there, where the file can tell. */
function dangling(inferred: Inferred[], final: Map<string, Definition>, cause: Error): Error {
  for (const one of inferred)
    for (const [name, property] of Object.entries(final.get(one.entity)?.properties ?? {})) {
      const relation = property["x-relation"];
      const target = inferred.find((other) => other.entity === relation?.entity);
      if (!relation?.field || !target) continue;
      const known = new Set(target.records.map((record) => textOf(record[relation.field as string])));
      const index = one.records.findIndex(
        (record) => record[name] !== undefined && !known.has(textOf(record[name])),
      );
      if (index >= 0)
        return new ImportError(
          `Nothing was imported. Record ${index + 1} of ${one.entity}${lineOf(one, index)}: /${name} is ${textOf(one.records[index]?.[name])}, and no ${target.entity} has that ${relation.field}.`,
          { cause },
        );
    }
  return cause;
}

const lineOf = (one: Inferred, index: number) => (one.lines ? ` (line ${one.lines[index]})` : "");

async function existingSchemas(client: Client, app: string): Promise<Map<string, Definition>> {
  const { rows } = await client.query(
    `select e.name, e.schema from data.entities e join tenancy.apps a on a.id = e.app_id join tenancy.sites s on s.id = a.site_id
     where s.name || '/' || a.name = $1`,
    [app],
  );
  return new Map(rows.map((row: { name: string; schema: Definition }) => [row.name, row.schema]));
}

/** Records that are there are known by a key already: the same is used again, unless the user says another. */
function settleKey(one: Inferred, existing: Definition | undefined): void {
  if (!existing || one.records.length === 0 || one.override?.key) return;
  const { properties } = existing;
  const uniques = Object.keys(properties).filter(
    (name) => properties[name]?.["x-unique"] && name !== IMPORT_KEY,
  );
  const known = (names: string[]) =>
    names.length > 0 &&
    names.every((name) => properties[name] && name !== IMPORT_KEY) &&
    (names.length > 1 || uniques.includes(names[0] as string)) &&
    isUnique(one, names);
  const key = [one.key, ...uniques.map((name) => [name])].find(known);
  if (key) {
    one.key = key;
    if (one.definition.properties[IMPORT_KEY]) leaveOut(one.definition, one.records, IMPORT_KEY);
  } else if (!properties[IMPORT_KEY]) {
    throw new ImportError(
      `Nothing was imported. The records of ${one.entity} that exist are known by ${uniques.join(" or ") || "several properties"}, which does not tell the ${one.records.length} records of ${one.source} apart. Say what does, with --schema: {"entities": {"${one.entity}": {"key": […]}}}.`,
    );
  } else if (one.key[0] !== IMPORT_KEY) addImportKey(one);
}

/** What exists stays as it is, but for what the user says; new properties are added. */
function mergeSchema(one: Inferred, existing: Definition | undefined): Definition {
  if (!existing) return one.definition;
  return {
    ...existing,
    properties: { ...one.definition.properties, ...overridden(existing.properties, one.override) },
    required: one.override?.required ?? existing.required ?? [],
  };
}

function withoutRelations(definition: Definition): Definition {
  const properties = Object.entries(definition.properties).map(([name, { "x-relation": _, ...property }]) => [
    name,
    property,
  ]);
  return { ...definition, properties: Object.fromEntries(properties) };
}

async function define(client: Client, app: string, entity: string, definition: Definition): Promise<void> {
  await client.query("select data.define_entity($1, $2, $3)", [app, entity, JSON.stringify(definition)]);
}

async function loadEntity(
  client: Client,
  app: string,
  one: Inferred,
  definition: Definition,
  exists: boolean,
  progress: (done: number, entity: string) => void,
): Promise<Loaded> {
  const loaded: Loaded = { entity: one.entity, inserted: 0, updated: 0, unchanged: 0 };
  const kinds = new Map(
    Object.entries(definition.properties).map(([name, property]) => [name, kindOfProperty(property)]),
  );
  const typed = (record: Record<string, unknown>) =>
    Object.fromEntries(
      Object.entries(record).map(([name, value]) => {
        const kind = kinds.get(name);
        return [name, kind === undefined ? value : valueAs(kind, value)];
      }),
    );
  const write = async (records: unknown[]) => {
    const path = `${app}/${one.entity}`;
    if (exists) {
      const { rows } = await client.query("select data.upsert($1, $2, $3)->'meta' as counts", [
        path,
        JSON.stringify(records),
        one.key,
      ]);
      return rows[0].counts as Omit<Loaded, "entity">;
    }
    await client.query("select jsonb_array_length(data.insert($1, $2))", [path, JSON.stringify(records)]);
    return { inserted: records.length, updated: 0, unchanged: 0 };
  };
  for (let start = 0; start < one.records.length; start += BATCH) {
    const batch = one.records.slice(start, start + BATCH).map(typed);
    await client.query("savepoint batch");
    try {
      const counts = await write(batch);
      for (const name of ["inserted", "updated", "unchanged"] as const) loaded[name] += counts[name];
    } catch (error) {
      throw await describe(client, one, start, batch, write, error as Error);
    }
    await client.query("release savepoint batch");
    progress(batch.length, one.entity);
  }
  return loaded;
}

/** The error of a batch, as an error of the first record that cannot be written: half the batch at a time finds it. */
async function describe(
  client: Client,
  one: Inferred,
  start: number,
  batch: Record<string, unknown>[],
  write: (records: unknown[]) => Promise<unknown>,
  cause: Error,
): Promise<Error> {
  let [fits, fails] = [0, batch.length];
  let error = cause;
  while (fails - fits > 1) {
    const middle = (fits + fails) >> 1;
    await client.query("rollback to savepoint batch");
    try {
      await write(batch.slice(0, middle));
      fits = middle;
    } catch (caught) {
      error = caught as Error;
      fails = middle;
    }
  }
  await client.query("rollback to savepoint batch");
  const index = start + fails - 1;
  return new ImportError(
    `Nothing was imported. Record ${index + 1} of ${one.entity}${lineOf(one, index)}: ${reason(error)}. It is ${JSON.stringify(batch[fails - 1]).slice(0, 200)}`,
    { cause },
  );
}

/** What is wrong with one record: where PostgreSQL tells a pointer, the part after the number of the record. */
function reason(error: Error): string {
  const { detail } = error as { detail?: string };
  const problems = detail?.startsWith("{")
    ? (JSON.parse(detail).errors as { pointer: string; message: string }[] | undefined)
    : undefined;
  if (problems?.length)
    return problems.map(({ pointer, message }) => `${pointer.replace(/^\/\d+/, "")} ${message}`).join("; ");
  return detail && !detail.startsWith("{") ? `${error.message} (${detail})` : error.message;
}
