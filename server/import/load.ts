import type { Client } from "pg";
import type { Definition, Inferred, Property } from "./infer.ts";
import { ImportError } from "./read.ts";

/** Definitions given with --schema: per entity, parts that replace what was inferred. */
export type Overrides = { entities: Record<string, Partial<Definition> & { key?: string[] }> };
/** How many records were written, per entity. */
export interface Loaded {
  entity: string;
  inserted: number;
  updated: number;
  unchanged: number;
}

const BATCH = 1000;

/** Replaces what was inferred by what the user says, property by property; null removes x-relation and the like. */
export function override(inferred: Inferred[], overrides: Overrides): void {
  for (const [entity, given] of Object.entries(overrides.entities ?? {})) {
    const one = inferred.find((candidate) => candidate.entity === entity);
    if (!one)
      throw new ImportError(
        `--schema speaks of "${entity}", but the file has ${inferred.map((i) => i.entity).join(", ")}.`,
      );
    for (const [name, property] of Object.entries(given.properties ?? {})) {
      const merged = { ...one.definition.properties[name], ...property };
      one.definition.properties[name] = Object.fromEntries(
        Object.entries(merged).filter(([, value]) => value !== null),
      ) as Property;
    }
    if (given.required) one.definition.required = given.required;
    if (given.key) one.key = given.key;
  }
}

/** Creates organization, site and app where they are missing. Returns what was created. */
export async function ensureApp(client: Client, path: string): Promise<string[]> {
  const [site, app, ...rest] = path.split("/");
  if (!site || !app || rest.length > 0)
    throw new ImportError(`"${path}" does not name an app; write site/app, for example acme/crm.`);
  const created: string[] = [];
  const exists = async (text: string, values: string[]) =>
    ((await client.query(text, values)).rowCount ?? 0) > 0;
  if (!(await exists("select from tenancy.sites where name = $1", [site]))) {
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

/**
 * Defines the entities and writes their records; the caller holds the transaction. Relations are defined last, so that
 * circles and references to later records load; later imports defer their checks to the end instead.
 * @param progress is told after each batch how many records of an entity are done.
 */
export async function load(
  client: Client,
  app: string,
  inferred: Inferred[],
  progress: (done: number) => void,
): Promise<Loaded[]> {
  const known = await existingSchemas(client, app);
  const final = new Map(
    inferred.map((one) => [one.entity, mergeSchema(one.definition, known.get(one.entity))]),
  );
  const changed = inferred.filter(
    (one) => JSON.stringify(known.get(one.entity)) !== JSON.stringify(final.get(one.entity)),
  );
  const loaded: Loaded[] = [];
  await client.query("set constraints all deferred");
  for (const one of changed) {
    const definition = final.get(one.entity) as Definition;
    await define(client, app, one.entity, known.has(one.entity) ? definition : withoutRelations(definition));
  }
  for (const one of inferred)
    loaded.push(await loadEntity(client, app, one, known.has(one.entity), progress));
  for (const one of changed) await define(client, app, one.entity, final.get(one.entity) as Definition);
  await client.query("set constraints all immediate");
  return loaded;
}

async function existingSchemas(client: Client, app: string): Promise<Map<string, Definition>> {
  const { rows } = await client.query(
    `select e.name, e.schema from data.entities e join tenancy.apps a on a.id = e.app_id join tenancy.sites s on s.id = a.site_id
     where s.name || '/' || a.name = $1`,
    [app],
  );
  return new Map(rows.map((row: { name: string; schema: Definition }) => [row.name, row.schema]));
}

/** What exists stays as it is; new properties are added. */
function mergeSchema(inferred: Definition, existing: Definition | undefined): Definition {
  if (!existing) return inferred;
  const properties = { ...inferred.properties, ...existing.properties };
  return Object.keys(properties).length === Object.keys(existing.properties).length
    ? existing
    : { ...existing, properties };
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
  exists: boolean,
  progress: (done: number) => void,
): Promise<Loaded> {
  const loaded: Loaded = { entity: one.entity, inserted: 0, updated: 0, unchanged: 0 };
  for (let start = 0; start < one.records.length; start += BATCH) {
    const batch = one.records.slice(start, start + BATCH);
    await client.query("savepoint batch");
    try {
      const path = `${app}/${one.entity}`;
      if (exists) {
        const { rows } = await client.query("select data.upsert($1, $2, $3) as counts", [
          path,
          JSON.stringify(batch),
          one.key,
        ]);
        for (const name of ["inserted", "updated", "unchanged"] as const)
          loaded[name] += rows[0].counts[name];
      } else {
        await client.query("select jsonb_array_length(data.insert($1, $2))", [path, JSON.stringify(batch)]);
        loaded.inserted += batch.length;
      }
    } catch (error) {
      await client.query("rollback to savepoint batch");
      throw await describe(client, app, one, start, batch, error as Error);
    }
    await client.query("release savepoint batch");
    progress(batch.length);
  }
  return loaded;
}

/** The error of a batch, as an error of the one record that caused it. */
async function describe(
  client: Client,
  app: string,
  one: Inferred,
  start: number,
  batch: unknown[],
  cause: Error,
): Promise<Error> {
  const { rows: apps } = await client.query(
    "select a.schema_name from tenancy.apps a join tenancy.sites s on s.id = a.site_id where s.name || '/' || a.name = $1",
    [app],
  );
  const schema = client.escapeIdentifier(apps[0].schema_name);
  const { rows } = await client.query(
    `select r.n::int, e->>'pointer' as pointer, e->>'message' as message from jsonb_array_elements($1) with ordinality r (value, n),
       jsonb_array_elements(${schema}.${client.escapeIdentifier(`${one.entity}_violations`)}(data.without_nulls(r.value))) e limit 1`,
    [JSON.stringify(batch)],
  );
  if (!rows[0]) {
    const { detail } = cause as { detail?: string };
    return new ImportError(
      `Nothing was imported. Records ${start + 1} to ${start + batch.length} of ${one.entity}: ${cause.message}${detail ? ` (${detail})` : ""}`,
      { cause },
    );
  }
  const index = start + rows[0].n - 1;
  const line = one.lines ? ` (line ${one.lines[index]})` : "";
  return new ImportError(
    `Nothing was imported. Record ${index + 1} of ${one.entity}${line}: ${rows[0].pointer} ${rows[0].message}. It is ${JSON.stringify(one.records[index]).slice(0, 200)}`,
    { cause },
  );
}
