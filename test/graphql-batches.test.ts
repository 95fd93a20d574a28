import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { issueDevelopmentToken } from "../server/auth/development.ts";
import { openTokens } from "../server/auth/tokens.ts";
import { createGraphql } from "../server/graphql/graphql.ts";
import { createApp } from "../server/http/app.ts";
import { readSettings } from "../server/settings.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

let db: TestDatabase;
let pool: pg.Pool;
let server: Server;
let graphql: ReturnType<typeof createGraphql>;
const tokens: Record<string, string> = {};

type Answer = {
  // biome-ignore lint/suspicious/noExplicitAny: the shape of an answer is what the tests assert
  data: any;
  errors?: {
    message: string;
    extensions: { code: string; status: number; errors?: { pointer: string }[] };
  }[];
};
async function ask(query: string, variables: object = {}, as = "ann", site = "acme"): Promise<Answer> {
  const { port } = server.address() as AddressInfo;
  const answer = await fetch(`http://127.0.0.1:${port}/api/v1/sites/${site}/apps/crm/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${tokens[as]}` },
    body: JSON.stringify({ query, variables }),
  });
  return (await answer.json()) as Answer;
}
async function data(query: string, variables: object = {}) {
  const answer = await ask(query, variables);
  expect(answer.errors ?? []).toEqual([]);
  return answer.data;
}
async function refusal(query: string, variables: object = {}, as = "ann", site = "acme") {
  const { errors = [] } = await ask(query, variables, as, site);
  const { code, status, errors: items = [] } = errors[0]?.extensions ?? { code: "none", status: 0 };
  return [status, code, ...items.map(({ pointer }) => pointer).sort()];
}

beforeAll(async () => {
  db = await cloneDatabase();
  for (const site of ["acme", "beta"]) {
    await db.site(site);
    await db.query("select data.define_entity($1, 'companies', $2)", [
      `${site}/crm`,
      {
        type: "object",
        properties: { name: { type: "string", "x-unique": true }, head_count: { type: "integer" } },
      },
    ]);
    await db.query("select data.define_entity($1, 'contacts', $2)", [
      `${site}/crm`,
      {
        type: "object",
        required: ["full_name"],
        properties: {
          full_name: { type: "string", "x-unique": true },
          age: { type: "integer", minimum: 0 },
          balance: { type: "number", format: "decimal", precision: 24, scale: 2 },
          extra: { type: "object" },
          tags: { type: "array", items: { type: "string" } },
          company_id: { type: "string", format: "uuid", "x-relation": { entity: "companies" } },
        },
      },
    ]);
  }
  pool = new pg.Pool({ connectionString: db.gatewayUrl, max: 8 });
  pool.on("error", () => {});
  const settings = readSettings({});
  const issuer = await openTokens({ pool, masterKey: Buffer.alloc(32, 7), settings });
  for (const [name, role, site] of [
    ["ann", "editor", "acme"],
    ["vic", "viewer", "acme"],
    ["bob", "editor", "beta"],
  ] as const) {
    await db.account(`${name}@test.test`);
    await db.query("select tenancy.add_member($1, $2, $3)", [site, `${name}@test.test`, role]);
    tokens[name] = (
      await issueDevelopmentToken(db.pool, issuer, { email: `${name}@test.test`, site })
    ).access_token;
  }
  const log = pino({ level: "silent" });
  graphql = createGraphql({ pool, settings, log });
  const app = createApp({
    pool,
    settings,
    log,
    tokens: issuer,
    graphql,
    auth: (_req, _res, next) => next(),
    ready: async () => ({ ready: true, checks: {} }),
  });
  server = createServer(app);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
  await graphql.stop();
  await pool.end();
  await db.drop();
});

let oslo: string;
beforeEach(async () => {
  await db.query("delete from acme_crm.contacts; delete from acme_crm.companies");
  const [row] = await db.query(
    "select data.insert('acme/crm/companies', '{\"name\": \"Oslo\", \"head_count\": 5}')->>'id' as id",
  );
  oslo = String(row?.id);
  await db.query("select data.insert('acme/crm/contacts', $1)", [
    JSON.stringify([
      { full_name: "Ada", age: 36, company_id: oslo },
      { full_name: "Bea_%", age: 20, tags: ["x"] },
      { full_name: "Cyd", balance: 1.5 },
    ]),
  ]);
});
const names = async () =>
  (
    await db.query(
      "select concat_ws(' ', full_name, age, balance) as n from acme_crm.contacts order by full_name",
    )
  )
    .map(({ n }) => n)
    .join(", ");
const all = "Ada 36, Bea_% 20, Cyd 1.50";
const hostile = "'; drop table acme_crm.contacts; -- $body$ %1$I \" \\";

const create =
  "mutation ($records: [ContactInput!]!) { createContacts(input: {records: $records}) { inserted records { fullName age balance extra company { name } } } }";
const update =
  "mutation ($filter: ContactFilter!, $patch: ContactPatch!, $max: Int!) { updateContacts(input: {filter: $filter, patch: $patch, max: $max}) { updated records { fullName version } } }";
const remove =
  "mutation ($filter: ContactFilter!, $max: Int!) { deleteContacts(input: {filter: $filter, max: $max}) { deleted ids } }";
const upsert =
  "mutation ($records: [ContactPatch!]!, $key: [String!]!) { upsertContacts(input: {records: $records, key: $key}) { inserted updated unchanged records { fullName age } } }";

test("creates many, typed and exact, with relations in the answer", async () => {
  const answer = await data(create, {
    records: [
      {
        fullName: "Dan",
        age: 9007199254740993n.toString(),
        balance: "1234567890123456789012.25",
        companyId: oslo,
        extra: { some_key: { camelCase: 1 } },
      },
      { fullName: hostile, age: 3 },
    ],
  });
  expect(answer.createContacts).toEqual({
    inserted: 2,
    records: [
      {
        fullName: "Dan",
        age: "9007199254740993",
        balance: "1234567890123456789012.25",
        extra: { some_key: { camelCase: 1 } },
        company: { name: "Oslo" },
      },
      { fullName: hostile, age: "3", balance: null, extra: null, company: null },
    ],
  });
  expect((await data(create, { records: [] })).createContacts).toEqual({ inserted: 0, records: [] });
});

test("creates or changes by what is unique", async () => {
  const records = [{ fullName: "Eli", age: 1 }, { fullName: "Ada", age: 37 }, { fullName: "Cyd" }];
  expect((await data(upsert, { records, key: ["fullName"] })).upsertContacts).toEqual({
    inserted: 1,
    updated: 1,
    unchanged: 1,
    records: [
      { fullName: "Eli", age: "1" },
      { fullName: "Ada", age: "37" },
      { fullName: "Cyd", age: null },
    ],
  });
});

describe("filters choose the same records as in a query", () => {
  test.each<[string, object, string]>([
    ["everything", {}, "Ada Bea_% Cyd"],
    ["equalTo", { fullName: { equalTo: "Ada" } }, "Ada"],
    ["a number", { age: { equalTo: 36 } }, "Ada"],
    ["notEqualTo leaves out what has no value", { age: { notEqualTo: 36 } }, "Bea_%"],
    ["distinctFrom does not", { age: { distinctFrom: 36 } }, "Bea_% Cyd"],
    ["notDistinctFrom", { age: { notDistinctFrom: 36 } }, "Ada"],
    ["isNull", { age: { isNull: true } }, "Cyd"],
    ["not isNull", { age: { isNull: false } }, "Ada Bea_%"],
    ["in", { age: { in: [36, 20] } }, "Ada Bea_%"],
    ["notIn", { age: { notIn: [36] } }, "Bea_%"],
    ["a range", { age: { greaterThan: 20, lessThanOrEqualTo: 36 } }, "Ada"],
    ["startsWith takes % as it is", { fullName: { startsWith: "Bea_%" } }, "Bea_%"],
    ["includes", { fullName: { includes: "%" } }, "Bea_%"],
    ["notIncludes", { fullName: { notIncludes: "d" } }, "Bea_%"],
    ["endsWithInsensitive", { fullName: { endsWithInsensitive: "DA" } }, "Ada"],
    ["like", { fullName: { like: "_d%" } }, "Ada"],
    [
      "and, or, not",
      {
        or: [
          { fullName: { equalTo: "Cyd" } },
          { and: [{ age: { isNull: false } }, { not: { fullName: { equalTo: "Ada" } } }] },
        ],
      },
      "Bea_% Cyd",
    ],
    ["the related record", { company: { name: { equalTo: "Oslo" }, headCount: { greaterThan: 1 } } }, "Ada"],
    ["whether there is one", { companyExists: false }, "Bea_% Cyd"],
    [
      "a system column",
      { version: { greaterThanOrEqualTo: 1 }, createdAt: { greaterThan: "2020-01-01T00:00:00Z" } },
      "Ada Bea_% Cyd",
    ],
    ["hostile text", { fullName: { equalTo: hostile } }, ""],
  ])("%s", async (_title, filter, expected) => {
    const found = await data(
      "query ($filter: ContactFilter) { contacts(filter: $filter, orderBy: FULL_NAME_ASC) { nodes { fullName } } }",
      { filter },
    );
    expect(found.contacts.nodes.map(({ fullName }: { fullName: string }) => fullName).join(" ")).toBe(
      expected,
    );
    const { updateContacts } = await data(update, { filter, patch: { tags: ["seen"] }, max: 10 });
    expect(
      updateContacts.records
        .map(({ fullName }: { fullName: string }) => fullName)
        .sort()
        .join(" "),
    ).toBe(expected);
    expect(updateContacts.updated).toBe(updateContacts.records.length);
    const { deleteContacts } = await data(remove, { filter, max: 10 });
    expect(deleteContacts).toEqual({ deleted: updateContacts.updated, ids: expect.any(Array) });
    expect((await names()).split(", ").filter((name) => name !== "").length).toBe(3 - updateContacts.updated);
  });

  test("relations to many", async () => {
    const query =
      "mutation ($filter: CompanyFilter!) { updateCompanies(input: {filter: $filter, patch: {headCount: 7}, max: 5}) { updated } }";
    for (const [filter, updated] of [
      [{ contacts: { some: { fullName: { equalTo: "Ada" } } } }, 1],
      [{ contacts: { none: { fullName: { equalTo: "Ada" } } } }, 0],
      [{ contacts: { every: { age: { equalTo: 36 } } } }, 1],
      [{ contactsExist: true }, 1],
    ] as const)
      expect((await data(query, { filter })).updateCompanies).toEqual({ updated });
  });
});

describe("what is wrong is said as REST says it, and nothing is written", () => {
  test.each<[string, string, object, (string | number)[]]>([
    [
      "records that are not valid",
      create,
      { records: [{ fullName: "x" }, { fullName: "y", age: -1 }] },
      [422, "validation_failed", "/1/age"],
    ],
    ["a value that is taken", create, { records: [{ fullName: "Ada" }] }, [409, "not_unique", "/full_name"]],
    ["more than max", update, { filter: {}, patch: { age: 1 }, max: 2 }, [409, "too_many_matches"]],
    ["more than max, deleted", remove, { filter: {}, max: 2 }, [409, "too_many_matches"]],
    ["no max at all", remove.replace("$max: Int!", "$max: Int"), { filter: {} }, [400, "invalid_query"]],
    ["max 0", remove, { filter: {}, max: 0 }, [400, "invalid_max"]],
    ["a negative max", remove, { filter: {}, max: -5 }, [400, "invalid_max"]],
    ["a huge max", remove, { filter: {}, max: 1001 }, [413, "batch_too_large"]],
    [
      "1,001 records",
      create,
      { records: Array.from({ length: 1_001 }, (_, i) => ({ fullName: `n${i}` })) },
      [413, "batch_too_large"],
    ],
    ["a version for many", update, { filter: {}, patch: { version: 1 }, max: 5 }, [400, "invalid_body"]],
    [
      "a change that is not valid",
      update,
      { filter: {}, patch: { age: -1 }, max: 5 },
      [422, "validation_failed", "/age"],
    ],
    ["a key that is none", upsert, { records: [{ fullName: "x" }], key: [hostile] }, [400, "invalid_key"]],
    ["no key", upsert, { records: [{ fullName: "x" }], key: [] }, [400, "invalid_key"]],
    [
      "a record without the key",
      upsert,
      { records: [{ age: 1 }], key: ["fullName"] },
      [422, "validation_failed", "/0/full_name"],
    ],
    [
      "a filter that is nested too deeply",
      remove,
      { filter: JSON.parse(`${'{"not":'.repeat(30)}{}${"}".repeat(30)}`), max: 5 },
      [400, "invalid_filter"],
    ],
    [
      "a comparison with null",
      remove,
      { filter: { age: { equalTo: null } }, max: 5 },
      [400, "invalid_filter"],
    ],
    ["null as a filter on a field", remove, { filter: { age: null }, max: 5 }, [400, "invalid_filter"]],
    [
      "an operator that REST has not",
      remove,
      { filter: { tags: { anyEqualTo: "x" } }, max: 5 },
      [400, "invalid_query"],
    ],
    [
      "a field that is not there",
      remove,
      { filter: { nope: { equalTo: 1 } }, max: 5 },
      [400, "invalid_query"],
    ],
    [
      "too many records in the answer",
      "mutation { createCompanies(input: {records: []}) { records { contacts(first: 1000) { nodes { id } } } } }",
      {},
      [400, "query_too_large"],
    ],
  ])("%s", async (_title, query, variables, expected) => {
    expect(await refusal(query, variables)).toEqual(expected);
    expect(await names()).toBe(all);
  });
});

describe("rights", () => {
  test.each([
    ["a viewer creates", create, { records: [{ fullName: "x" }] }, "vic", "acme", 403],
    ["a viewer changes", update, { filter: {}, patch: { age: 1 }, max: 5 }, "vic", "acme", 403],
    ["a viewer deletes", remove, { filter: {}, max: 5 }, "vic", "acme", 403],
    [
      "a viewer upserts",
      upsert,
      { records: [{ fullName: "Ada", age: 1 }], key: ["fullName"] },
      "vic",
      "acme",
      403,
    ],
  ])("%s: refused", async (_title, query, variables, as, site, status) => {
    expect((await refusal(query, variables, as, site))[0]).toBe(status);
    expect(await names()).toBe(all);
  });

  test("another tenant's batches reach its own records only", async () => {
    expect((await ask(remove, { filter: {}, max: 1000 }, "bob", "beta")).data).toEqual({
      deleteContacts: { deleted: 0, ids: [] },
    });
    expect((await ask(remove, { filter: {}, max: 1000 }, "bob", "acme")).data).toBeUndefined();
    expect(await names()).toBe(all);
  });
});

test("names that would meet are refused when the entity is defined", async () => {
  await db.query("select tenancy.create_app('acme', 'clash')");
  const define = (name: string) =>
    db.query("select data.define_entity('acme/clash', $1, $2)", [
      name,
      { type: "object", properties: { name: { type: "string" } } },
    ]);
  await define("contacts");
  await expect(define("create_contacts_inputs")).rejects.toMatchObject({
    message: expect.stringContaining("CreateContactsInput"),
  });
  await expect(define("upsert_contacts_payload")).rejects.toMatchObject({
    message: expect.stringContaining("UpsertContactsPayload"),
  });
});

test("the example of docs/writing.md works as printed", async () => {
  const page = readFileSync(new URL("../docs/writing.md", import.meta.url), "utf8");
  await db.query(/```sql\n([\s\S]*?)```/.exec(page)?.[1] ?? "");
  expect(await data(/```graphql\n([\s\S]*?)```/.exec(page)?.[1] ?? "")).toEqual({
    updateProducts: { updated: 1, records: [{ code: "tea" }] },
  });
});
