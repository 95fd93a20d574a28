import type { Crm } from "./crm.ts";
import { base } from "./crm.ts";
import type { startGraphql } from "./graphql.ts";

// Every way of changing a record of acme's crm that is there, as ann.

export type Values = Record<string, unknown>;
/** What a change came to: the HTTP status it has or would have, the code of a refusal, and all that was told. */
export type Outcome = { status: number; code: string | undefined; said: unknown };
/** Changes a record; `seen` is all of it that ann sees and may send back. */
export type Change = (entity: string, id: string, changes: Values, seen: Values) => Promise<Outcome>;

const ann = "ann@acme.test";
const json = JSON.stringify;

/** The doors of SQL, which take milliseconds. */
export function sqlDoors({ db }: Crm): Record<string, Change> {
  const psql = (sql: string, values: unknown[]): Promise<Outcome> =>
    db.as("acme", ann, (client) =>
      client.query(sql, values).then(
        ({ rows }) => ({ status: 200, code: undefined, said: rows }),
        ({ code, message, detail, hint }) => ({
          status: /^RH/.test(code) ? Number(code.slice(2)) : code === "23505" ? 409 : 0,
          code: /^\{.*"code"/.test(detail ?? "") ? JSON.parse(detail).code : code,
          said: [code, message, detail, hint],
        }),
      ),
    );
  const path = (entity: string) => `acme/crm/${entity}`;
  return {
    "psql, the view": (entity, id, changes) =>
      psql(
        `update acme_crm.${entity} set ${Object.keys({ id, ...changes })
          .map((name, n) => `${name} = $${n + 1}`)
          .join(", ")} where id = $1 returning *`,
        Object.values({ id, ...changes }),
      ),
    "psql, an update": (entity, id, changes) =>
      psql("select data.update($1, $2, $3)", [path(entity), id, changes]),
    "psql, a replacement": (entity, id, changes, seen) =>
      psql("select data.replace($1, $2, $3)", [path(entity), id, { ...seen, ...changes }]),
    "psql, a list": (entity, id, changes) =>
      psql("select data.update_list($1, $2)", [path(entity), json([{ id, ...changes }])]),
    "psql, a filter": (entity, id, changes) =>
      psql("select data.update_where($1, $2, $3, 5, true)", [path(entity), { id }, changes]),
    "psql, an upsert": (entity, id, changes, seen) =>
      psql("select data.upsert($1, $2, '{id}', true)", [path(entity), json([{ id, ...seen, ...changes }])]),
    "psql, a transaction": (entity, id, changes) =>
      psql("select data.transaction('acme/crm', $1)", [
        json([{ operation: "update", entity, id, data: changes }]),
      ]),
    "psql, an import": (entity, id, changes, seen) =>
      psql("select data.import_lines($1, $2, null, '{id}', 'stop')", [
        path(entity),
        json([[1, { id, ...seen, ...changes }]]),
      ]),
  };
}

/** The doors of REST. */
export function restDoors({ send }: Crm): Record<string, Change> {
  const rest = async (method: string, path: string, body: unknown): Promise<Outcome> => {
    const { status, json, text } = await send(`${base}/${path}`, { method, body });
    return { status, code: json.code, said: Object.keys(json).length > 0 ? json : text };
  };
  return {
    "REST, PATCH": (entity, id, changes) => rest("PATCH", `${entity}/${id}`, changes),
    "REST, PUT": (entity, id, changes, seen) => rest("PUT", `${entity}/${id}`, { ...seen, ...changes }),
    "REST, a list": (entity, id, changes) => rest("PATCH", entity, [{ id, ...changes }]),
    "REST, a filter": (entity, id, changes) =>
      rest("PATCH", `${entity}?filter=${encodeURIComponent(json({ id }))}&max=5&return=records`, changes),
    "REST, an upsert": (entity, id, changes, seen) =>
      rest("PUT", `${entity}?key=id`, [{ id, ...seen, ...changes }]),
    "REST, a transaction": (entity, id, changes) =>
      rest("POST", "transaction", { operations: [{ operation: "update", entity, id, data: changes }] }),
  };
}

/** The doors of GraphQL; an entity of jobs_x has the type JobsX, and fields that are camelCased. */
export function graphqlDoors({ ask }: Awaited<ReturnType<typeof startGraphql>>): Record<string, Change> {
  const camel = (name: string) => name.replace(/_(\w)/g, (_, c: string) => c.toUpperCase());
  const words = (values: Values) =>
    `{ ${Object.entries(values)
      .map(([name, value]) => `${camel(name)}: ${typeof value === "bigint" ? value : json(value)}`)
      .join(", ")} }`;
  const graphql = async (query: string): Promise<Outcome> => {
    const { data, errors } = await ask("acme/crm", ann, query);
    const { status = 200, code } = (errors[0]?.extensions ?? {}) as { status?: number; code?: string };
    return { status, code, said: errors.length > 0 ? errors : data };
  };
  const type = (entity: string) => camel(`_${entity}`);
  return {
    GraphQL: (entity, id, changes) =>
      graphql(
        `mutation { update${type(entity)}(input: { id: "${id}", patch: ${words(changes)} }) { ${camel(entity)} { id } } }`,
      ),
    "GraphQL, a filter": (entity, id, changes) =>
      graphql(
        `mutation { update${type(entity)}s(input: { filter: { id: { equalTo: "${id}" } }, patch: ${words(changes)}, max: 5 }) { updated } }`,
      ),
  };
}
