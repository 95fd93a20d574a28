import type { Crm } from "./crm.ts";
import { sendTo } from "./crm.ts";
import type { TestGateway } from "./gateway.ts";

// Every way of writing records of an entity, as an account.

export type Outcome = string | number;
export type Change = [
  door: string,
  change: (id: string, values: Record<string, unknown>) => Promise<Outcome>,
];
export type Creation = [door: string, create: (values: Record<string, unknown>) => Promise<Outcome>];

/** What a write comes to: "done", or the status (of a failure that has none, the SQLSTATE) it is refused with; `as` is an email and its token's name. */
export function writeDoors(
  { crm, gateway }: { crm: () => Crm; gateway: () => TestGateway },
  as: { email: string; token: string },
  storage: string,
): { changes: Change[]; creations: Creation[] } {
  const entity = `posts_${storage}_kind`;
  const path = `acme/crm/${entity}`;
  const Type = storage === "jsonb" ? "PostsJsonbKind" : "PostsFlatKind";
  const field = `${Type[0]?.toLowerCase()}${Type.slice(1)}`;
  const at = (id: string) => encodeURIComponent(JSON.stringify({ id }));
  const psql = (sql: string, values: unknown[]): Promise<Outcome> =>
    crm().db.as("acme", as.email, (client) =>
      client.query(sql, values).then(
        ({ rowCount }) => (rowCount === 0 ? 404 : "done"),
        ({ code }) => (/^RH/.test(code) ? Number(code.slice(2)) : code),
      ),
    );
  const rest = async (
    method: string,
    path: string,
    body?: unknown,
    of = (json: unknown) => json as unknown,
  ): Promise<Outcome> => {
    const { status, json } = await sendTo(gateway(), crm().tokens, `/api/v1/sites/acme/apps/crm/${path}`, {
      method,
      body,
      as: as.token,
    });
    return status < 300 ? (of(json) === 0 ? 404 : "done") : status;
  };
  const graphql = async (query: string, of: (data: never) => unknown = () => 1): Promise<Outcome> => {
    const { json } = await sendTo(gateway(), crm().tokens, "/api/v1/sites/acme/apps/crm/graphql", {
      method: "POST",
      body: { query },
      as: as.token,
    });
    const { data, errors } = json as unknown as {
      data: never;
      errors?: { extensions: { status: number } }[];
    };
    return errors ? (errors[0]?.extensions.status ?? 0) : of(data) === 0 ? 404 : "done";
  };
  const words = (values: object) => JSON.stringify(values).replace(/"(\w+)":/g, "$1:");

  /** Every way of changing a record by id. */
  const changes: Change[] = [
    [
      "psql, the view",
      (id, values) =>
        psql(`update acme_crm.${entity} set ${Object.keys(values)[0]} = $2 where id = $1`, [
          id,
          Object.values(values)[0],
        ]),
    ],
    ["psql, data.update", (id, values) => psql("select data.update($1, $2, $3)", [path, id, values])],
    [
      "psql, the generated function",
      (id, values) => psql(`select acme_crm.${entity}_update($1, $2, null, false)`, [id, values]),
    ],
    [
      "psql, a list",
      (id, values) => psql("select data.update_list($1, $2)", [path, JSON.stringify([{ id, ...values }])]),
    ],
    [
      "psql, an upsert",
      (id, values) =>
        psql("select data.upsert($1, $2, '{id}')", [path, JSON.stringify([{ id, title: "u", ...values }])]),
    ],
    [
      "psql, a transaction",
      (id, values) =>
        psql("select data.transaction('acme/crm', $1)", [
          JSON.stringify([{ operation: "update", entity, id, data: values }]),
        ]),
    ],
    ["REST, PATCH", (id, values) => rest("PATCH", `${entity}/${id}`, values)],
    ["REST, PUT", (id, values) => rest("PUT", `${entity}/${id}`, { title: "r", region: "north", ...values })],
    ["REST, a list", (id, values) => rest("PATCH", entity, [{ id, ...values }])],
    [
      "REST, a filter",
      (id, values) =>
        rest(
          "PATCH",
          `${entity}?filter=${at(id)}&max=5`,
          values,
          (json) => (json as { meta: { updated: number } }).meta.updated,
        ),
    ],
    ["REST, an upsert", (id, values) => rest("PUT", `${entity}?key=id`, [{ id, title: "u", ...values }])],
    [
      "REST, a transaction",
      (id, values) =>
        rest("POST", "transaction", { operations: [{ operation: "update", entity, id, data: values }] }),
    ],
    [
      "GraphQL",
      (id, values) =>
        graphql(
          `mutation { update${Type}(input: {id: "${id}", patch: ${words(values)}}) { ${field} { id } } }`,
        ),
    ],
    [
      "GraphQL, a filter",
      (id, values) =>
        graphql(
          `mutation { r: update${Type}s(input: {filter: {id: {equalTo: "${id}"}}, patch: ${words(values)}, max: 5}) { updated } }`,
          (data: { r: { updated: number } }) => data.r.updated,
        ),
    ],
  ];
  const creations: Creation[] = [
    [
      "psql, the view",
      (values) =>
        psql(
          `insert into acme_crm.${entity} (${Object.keys(values).join(", ")}) values (${Object.keys(values)
            .map((_, n) => `$${n + 1}`)
            .join(", ")})`,
          Object.values(values),
        ),
    ],
    ["psql, data.insert", (values) => psql("select data.insert($1, $2)", [path, values])],
    [
      "psql, a transaction",
      (values) =>
        psql("select data.transaction('acme/crm', $1)", [
          JSON.stringify([{ operation: "insert", entity, data: values }]),
        ]),
    ],
    [
      "psql, an import",
      (values) => psql("select data.import_lines($1, $2)", [path, JSON.stringify([[1, values]])]),
    ],
    ["REST", (values) => rest("POST", entity, values)],
    ["REST, a list", (values) => rest("POST", entity, [values])],
    [
      "REST, an upsert",
      (values) =>
        rest("PUT", `${entity}?key=id`, [{ id: "01800000-0000-7000-8000-000000000000", ...values }]),
    ],
    [
      "REST, a transaction",
      (values) =>
        rest("POST", "transaction", { operations: [{ operation: "insert", entity, data: values }] }),
    ],
    [
      "GraphQL",
      (values) =>
        graphql(`mutation { create${Type}(input: {${field}: ${words(values)}}) { ${field} { id } } }`),
    ],
    [
      "GraphQL, a list",
      (values) =>
        graphql(`mutation { create${Type}s(input: {records: [${words(values)}]}) { records { id } } }`),
    ],
  ];
  return { changes, creations };
}
