import { isDeepStrictEqual } from "node:util";
import { type Client, escapeIdentifier } from "pg";
import { addImportKey, contentKey, type Definition, IMPORT_KEY, type Inferred, named } from "./infer.ts";
import { KeySet } from "./keys.ts";
import { isUnique, keysOf } from "./observe.ts";
import { leaveOut, overridden } from "./overrides.ts";
import { ImportError, type Source } from "./read.ts";
import type { SourceBatch } from "./source.ts";
import { type Kind, kindOfProperty, textOf, valueAs } from "./values.ts";

/** How many records were written, per entity. */
export interface Loaded {
  entity: string;
  inserted: number;
  updated: number;
  unchanged: number;
}

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
 * Defines the entities and writes their records, reading the file once; the caller holds the transaction. Relations are there
 * before the first record, when they cost nothing, and checked after the last, so that circles and references to later records load.
 * @param progress is told after each batch how many records of an entity are done; entity is null once all are written and relations are checked.
 */
export async function load(
  client: Client,
  app: string,
  inferred: Inferred[],
  progress: (done: number, entity: string | null) => void,
): Promise<Loaded[]> {
  const known = await existingSchemas(client, app);
  for (const one of inferred) await settleKey(one, known.get(one.entity));
  const final = new Map(inferred.map((one) => [one.entity, mergeSchema(one, known.get(one.entity))]));
  const changed = inferred.filter((one) => !isDeepStrictEqual(known.get(one.entity), final.get(one.entity)));
  const define = async (entity: string, definition: Definition) => {
    await client.query("select data.define_entity($1, $2, $3)", [app, entity, JSON.stringify(definition)]);
  };
  for (const { entity } of changed)
    if (!known.has(entity)) await define(entity, withoutRelations(final.get(entity) as Definition));
  for (const { entity } of changed) await define(entity, final.get(entity) as Definition);
  await client.query("set constraints all deferred");
  const loads = new Map<string, EntityLoad>();
  for (const one of inferred) {
    const definition = final.get(one.entity) as Definition;
    loads.set(one.source, new EntityLoad(client, app, one, definition, known.has(one.entity)));
  }
  await loadAll(inferred, loads, progress);
  try {
    progress(0, null);
    await client.query("set constraints all immediate");
  } catch (error) {
    throw (error as { code?: string }).code === "23503"
      ? await dangling(inferred, final, error as Error)
      : error;
  }
  return [...loads.values()].map((one) => one.loaded);
}

/** Writes batch after batch; while PostgreSQL writes one, the next is read. */
async function loadAll(
  inferred: Inferred[],
  loads: Map<string, EntityLoad>,
  progress: (done: number, entity: string | null) => void,
): Promise<void> {
  let writing = Promise.resolve();
  try {
    for await (const batch of inferred[0]?.file.read() ?? []) {
      const one = loads.get(batch.list);
      if (!one || batch.records.length === 0) continue;
      const records = one.typed(batch.records);
      await writing;
      writing = one.write(records, batch).then(() => progress(records.length, one.loaded.entity));
      writing.catch(() => {}); // said when it is waited for
    }
  } finally {
    await writing;
  }
}

/** The first record that refers to one that is not there, where the file can tell. */
async function dangling(inferred: Inferred[], final: Map<string, Definition>, cause: Error): Promise<Error> {
  for (const one of inferred)
    for (const [name, property] of Object.entries(final.get(one.entity)?.properties ?? {})) {
      const relation = property["x-relation"];
      const target = inferred.find((other) => other.entity === relation?.entity);
      if (!relation?.field || !target || !one.columns.has(name)) continue;
      const keys = await keysOf(target, relation.field);
      for await (const batch of one.file.read()) {
        if (batch.list !== one.source) continue;
        const values = batch.records.map((record) => named(one, record)[name]);
        const index = values.findIndex((value) => value !== undefined && !keys.has(textOf(value)));
        if (index >= 0)
          return new ImportError(
            `Nothing was imported. ${placeOf(one, batch, index)}: /${name} is ${textOf(values[index])}, and no ${target.entity} has that ${relation.field}.`,
            { cause },
          );
      }
    }
  return cause;
}

function placeOf(one: Inferred, { first, lines }: SourceBatch, index: number): string {
  return `Record ${first + index} of ${one.entity}${lines ? ` (line ${lines[index]})` : ""}`;
}

async function existingSchemas(client: Client, app: string): Promise<Map<string, Definition>> {
  const { rows } = await client.query(
    `select e.name, e.schema from data.entities e join tenancy.apps a on a.id = e.app_id join tenancy.sites s on s.id = a.site_id
     where s.name || '/' || a.name = $1`,
    [app],
  );
  return new Map(rows.map((row: { name: string; schema: Definition }) => [row.name, row.schema]));
}

/** Records that are there are known by a key already: the same is used again, unless the user says another. */
async function settleKey(one: Inferred, existing: Definition | undefined): Promise<void> {
  if (!existing || one.count === 0 || one.override?.key) return;
  const { properties } = existing;
  const uniques = Object.keys(properties).filter(
    (name) => properties[name]?.["x-unique"] && name !== IMPORT_KEY,
  );
  const known = (names: string[]) =>
    names.length > 0 &&
    names.every((name) => properties[name] && name !== IMPORT_KEY) &&
    (names.length > 1 || uniques.includes(names[0] as string));
  const keys = [one.key, ...uniques.map((name) => [name])].filter(known);
  let key: string[] | undefined;
  for (const names of keys) if (!key && (await isUnique(one, names))) key = names;
  if (key) {
    one.key = key;
    if (one.definition.properties[IMPORT_KEY]) leaveOut(one, IMPORT_KEY);
  } else if (!properties[IMPORT_KEY]) {
    throw new ImportError(
      `Nothing was imported. The records of ${one.entity} that exist are known by ${uniques.join(" or ") || "several properties"}, which does not tell the ${one.count} records of ${one.source} apart. Say what does, with --schema: {"entities": {"${one.entity}": {"key": […]}}}.`,
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

/** The records of one entity on their way into PostgreSQL. */
class EntityLoad {
  readonly loaded: Loaded;
  readonly #client: Client;
  readonly #path: string;
  readonly #one: Inferred;
  readonly #kinds: Map<string, Kind>;
  readonly #exists: boolean;
  readonly #contents = new KeySet(true);
  #insert: string | undefined;

  constructor(client: Client, app: string, one: Inferred, definition: Definition, exists: boolean) {
    this.loaded = { entity: one.entity, inserted: 0, updated: 0, unchanged: 0 };
    this.#client = client;
    this.#path = `${app}/${one.entity}`;
    this.#one = one;
    this.#exists = exists;
    this.#kinds = new Map(
      Object.entries(definition.properties).map(([name, property]) => [name, kindOfProperty(property)]),
    );
  }

  /** Records of the file as the entity holds them. */
  typed(records: Source[]): Record<string, unknown>[] {
    return records.map((source) => {
      const record = named(this.#one, source);
      if (this.#one.key[0] === IMPORT_KEY) record[IMPORT_KEY] = contentKey(record, this.#contents);
      for (const [name, value] of Object.entries(record)) {
        const kind = this.#kinds.get(name);
        if (kind !== undefined) record[name] = valueAs(kind, value);
      }
      return record;
    });
  }

  /** Writes a batch. Throws an ImportError that names the first record that cannot be written. */
  async write(records: Record<string, unknown>[], batch: SourceBatch): Promise<void> {
    await this.#client.query("savepoint batch");
    try {
      const counts = await this.#send(records);
      for (const name of ["inserted", "updated", "unchanged"] as const) this.loaded[name] += counts[name];
    } catch (error) {
      throw await this.#describe(records, batch, error as Error);
    }
    await this.#client.query("release savepoint batch");
  }

  async #send(records: unknown[]): Promise<Omit<Loaded, "entity">> {
    const body = JSON.stringify(records);
    if (this.#exists) {
      const text = "select data.upsert($1, $2, $3)->'meta' as counts";
      const { rows } = await this.#client.query(text, [this.#path, body, this.#one.key]);
      return rows[0].counts;
    }
    this.#insert ??= await this.#insertFunction();
    await this.#client.query(`select from ${this.#insert}($1)`, [body]);
    return { inserted: records.length, updated: 0, unchanged: 0 };
  }

  // data.insert would answer with the records.
  async #insertFunction(): Promise<string> {
    const { rows } = await this.#client.query(
      `select a.schema_name from tenancy.apps a join tenancy.sites s on s.id = a.site_id
       where s.name || '/' || a.name = regexp_replace($1, '/[^/]*$', '')`,
      [this.#path],
    );
    return `${escapeIdentifier(rows[0].schema_name)}.${escapeIdentifier(`${this.#one.entity}_insert`)}`;
  }

  /** The error of a batch, as an error of the first record that cannot be written: half the batch at a time finds it. */
  async #describe(records: Record<string, unknown>[], batch: SourceBatch, cause: Error): Promise<Error> {
    let [fits, fails] = [0, records.length];
    let error = cause;
    while (fails - fits > 1) {
      const middle = (fits + fails) >> 1;
      await this.#client.query("rollback to savepoint batch");
      try {
        await this.#send(records.slice(0, middle));
        fits = middle;
      } catch (caught) {
        error = caught as Error;
        fails = middle;
      }
    }
    await this.#client.query("rollback to savepoint batch");
    return new ImportError(
      `Nothing was imported. ${placeOf(this.#one, batch, fails - 1)}: ${reason(error)}. It is ${JSON.stringify(records[fails - 1]).slice(0, 200)}`,
      { cause },
    );
  }
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
