import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { pino } from "pino";
import type { Claims } from "../server/auth/tokens.ts";
import { createGraphql } from "../server/graphql/graphql.ts";
import { Problem } from "../server/http/problem.ts";
import { sendProblem } from "../server/http/response.ts";
import { readSettings } from "../server/settings.ts";
import { type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

// biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
type Data = any;
type Reply = {
  status: number;
  data: Data;
  errors: { message: string; extensions: Record<string, unknown> }[];
};

let crm: Crm;
let graphql: ReturnType<typeof createGraphql>;
let server: Server;
let url: string;

/** Asks an app's GraphQL as the owner of a token. */
async function ask(query: string, { as = "ann", variables = {}, site = "acme" } = {}): Promise<Reply> {
  const response = await fetch(`${url}/${site}/${as}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors = [] } = (await response.json()) as Partial<Reply>;
  return { status: response.status, data, errors };
}
async function data(query: string, options: Parameters<typeof ask>[1] = {}): Promise<Data> {
  const reply = await ask(query, options);
  expect([reply.errors, reply.status]).toEqual([[], 200]);
  return reply.data;
}
const orders = async (inner: string, options: Parameters<typeof ask>[1] = {}) =>
  (await data(`{ orders${inner} }`, options)).orders;

beforeAll(async () => {
  crm = await startCrm();
  const { db } = crm;
  await db.query("select data.define_entity('acme/crm', 'orders', $1)", [
    {
      type: "object",
      properties: {
        status: { type: "string", "x-index": true },
        total: { type: "number", format: "decimal", precision: 30, scale: 2 },
        amount: { type: "integer" },
        score: { type: "number" },
        placed_at: { type: "string", format: "date-time" },
        due: { type: "string", format: "date" },
        due_month: { type: "string" },
        open: { type: "boolean" },
        notes: { type: "array", items: { type: "string" } },
        company_id: { "x-relation": { entity: "companies" } },
      },
    },
  ]);
  await db.query("select data.insert('acme/crm/orders', $1::jsonb)", [
    `[{"status":"open","total":10.10,"amount":1,"score":0.5,"placed_at":"2025-12-31T23:30:00Z","due":"2025-12-31","open":true,"company_id":"${crm.ids.company}"},
      {"status":"open","total":20.20,"amount":2,"score":1.5,"placed_at":"2026-01-15T12:00:00Z","due":"2026-01-15"},
      {"status":"paid","total":99999999999999999999.01,"amount":9007199254740993,"placed_at":"2026-02-01T00:00:00Z","due":"2026-02-01","company_id":"${crm.ids.company}"},
      {"status":"paid","total":0.02,"amount":9007199254740993,"score":2,"placed_at":"2026-03-29T00:30:00Z"},
      {"status":"void"}]`,
  ]);
  await db.query("select access.create_role('acme', 'nothing', array[]::text[])");
  await db.account("lee@acme.test");
  await db.query("select tenancy.add_member('acme', 'lee@acme.test', 'nothing')");
  crm.tokens.lee = await crm.gateway.token("lee@acme.test", "acme");
  graphql = createGraphql({
    pool: crm.gateway.pool,
    settings: readSettings({}),
    log: pino({ level: "silent" }),
  });
  server = createServer((req, res) => {
    const [, site = "", who = ""] = (req.url ?? "").split("/");
    const claims = JSON.parse(
      Buffer.from(crm.tokens[who]?.split(".")[1] ?? "", "base64url").toString(),
    ) as Claims;
    graphql
      .appHandler(
        {
          site,
          app: "crm",
          claims,
          env: { ip: null, user_agent: null, origin: null, request_id: "r", request: "" },
        },
        req,
        res,
      )
      .catch((error: unknown) => {
        sendProblem(
          res,
          error instanceof Problem
            ? error
            : new Problem((error as { code: string }).code === "RH404" ? 404 : 500, String(error)),
          "r",
        );
      });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server?.closeAllConnections();
  server?.close();
  await graphql?.stop();
  await crm?.stop();
});

describe("aggregates of a connection", () => {
  test("keep every digit, as strings", async () => {
    const fields = `aggregates { count sum { total amount score } avg { total amount score } min { due status amount placedAt } max { total } distinctCount { status score } }`;
    expect((await orders(`{ ${fields} }`)).aggregates).toEqual({
      count: 5,
      sum: { total: "100000000000000000029.33", amount: "18014398509481989", score: 4 },
      avg: { total: "25000000000000000007.3325", amount: "4503599627370497.25", score: 4 / 3 },
      min: { due: "2025-12-31", status: "open", amount: "1", placedAt: "2025-12-31T23:30:00.000000+00:00" },
      max: { total: "99999999999999999999.01" },
      distinctCount: { status: 3, score: 3 },
    });
  });
  test("are of what the filter leaves, and not of the page", async () => {
    expect(
      await orders(
        `(filter: {status: {equalTo: "open"}}, first: 1) { nodes { status } aggregates { count sum { total } } }`,
      ),
    ).toEqual({
      nodes: [{ status: "open" }],
      aggregates: { count: 2, sum: { total: "30.30" } },
    });
    expect(
      (await orders(`(filter: {company: {city: {equalTo: "Oslo"}}}) { aggregates { count } }`)).aggregates
        .count,
    ).toBe(2);
  });
  test("of nothing: count is 0, the others null", async () => {
    expect(
      await orders(
        `(filter: {status: {equalTo: "none"}}) { aggregates { count sum { total } avg { total } min { due } distinctCount { status } } groupedAggregates(groupBy: [STATUS]) { keys } }`,
      ),
    ).toEqual({
      aggregates: {
        count: 0,
        sum: { total: null },
        avg: { total: null },
        min: { due: null },
        distinctCount: { status: 0 },
      },
      groupedAggregates: [],
    });
  });
  test("of the many of a record", async () => {
    const { companies } = await data(
      `{ companies(orderBy: NAME_ASC) { nodes { name orders { aggregates { count sum { total } } groupedAggregates(groupBy: [STATUS], first: 5) { keys count } } } } }`,
    );
    expect(companies.nodes).toEqual([
      {
        name: "Oslo Works",
        orders: {
          aggregates: { count: 2, sum: { total: "100000000000000000009.11" } },
          groupedAggregates: [
            { keys: ["open"], count: 1 },
            { keys: ["paid"], count: 1 },
          ],
        },
      },
    ]);
  });
});

describe("groups", () => {
  test.each<[string, string, Data[]]>([
    [
      "by a field, largest first",
      `(groupBy: [STATUS]) { keys count sum { total } }`,
      [
        { keys: ["open"], count: 2, sum: { total: "30.30" } },
        { keys: ["paid"], count: 2, sum: { total: "99999999999999999999.03" } },
        { keys: ["void"], count: 1, sum: { total: null } },
      ],
    ],
    ["by two", `(groupBy: [STATUS, OPEN], first: 1) { keys count }`, [{ keys: ["paid", null], count: 2 }]],
    [
      "having",
      `(groupBy: [STATUS], having: {count: {greaterThan: "1"}, sum: {total: {lessThan: "99999999999999999999.02"}}}) { keys }`,
      [{ keys: ["open"] }],
    ],
    [
      "having one or the other",
      `(groupBy: [STATUS], having: {OR: [{count: {lessThan: 2}}, {avg: {amount: {equalTo: 1.5}}}]}) { keys }`,
      [{ keys: ["open"] }, { keys: ["void"] }],
    ],
    [
      "by month in a time zone",
      `(timezone: "Europe/Oslo", groupBy: [PLACED_AT__MONTH]) { keys count }`,
      [
        { keys: ["2026-01-01"], count: 2 },
        { keys: ["2026-02-01"], count: 1 },
        { keys: ["2026-03-01"], count: 1 },
        { keys: [null], count: 1 },
      ],
    ],
    [
      "by year, UTC unless told",
      `(groupBy: [PLACED_AT__YEAR], first: 1) { keys count }`,
      [{ keys: ["2026-01-01"], count: 3 }],
    ],
    [
      "by month of a date, beside a property of that name",
      `(groupBy: [DUE__MONTH, DUE_MONTH], first: 1) { keys count }`,
      [{ keys: [null, null], count: 2 }],
    ],
    [
      "by hour, an instant",
      `(groupBy: [PLACED_AT__HOUR], timezone: "Asia/Kolkata", having: {max: {amount: {equalTo: 1}}}) { keys }`,
      [{ keys: ["2025-12-31T23:30:00+00:00"] }],
    ],
  ])("%s", async (_title, call, expected) => {
    expect((await orders(`{ groupedAggregates${call} }`)).groupedAggregates).toEqual(expected);
  });

  test("variables choose them", async () => {
    const query = `query ($by: [OrderGroupBy!]!, $zone: String, $first: Int) { orders { groupedAggregates(groupBy: $by, timezone: $zone, first: $first) { keys } } }`;
    const variables = { by: ["PLACED_AT__DAY"], zone: "America/New_York", first: 1 };
    expect((await data(query, { variables })).orders.groupedAggregates).toEqual([{ keys: ["2025-12-31"] }]);
  });
});

describe("what is refused", () => {
  test.each<[string, string, RegExp]>([
    ["an average of text", `{ orders { aggregates { avg { status } } } }`, /Cannot query field "status"/],
    [
      "having of dates",
      `{ orders { groupedAggregates(groupBy: [STATUS], having: {avg: {due: {equalTo: 1}}}) { keys } } }`,
      /"due" is not defined/,
    ],
    [
      "an unknown group",
      `{ orders { groupedAggregates(groupBy: [TOWN]) { keys } } }`,
      /"TOWN" does not exist/,
    ],
    [
      "a hostile time zone",
      `{ orders { groupedAggregates(groupBy: [PLACED_AT__DAY], timezone: "UTC'); drop table x; --") { keys } } }`,
      /is not a time zone/,
    ],
    [
      "a POSIX time zone",
      `{ orders { groupedAggregates(groupBy: [PLACED_AT__DAY], timezone: "Oslo+2") { keys } } }`,
      /is not a time zone/,
    ],
    [
      "1,001 groups",
      `{ orders { groupedAggregates(groupBy: [STATUS], first: 1001) { keys } } }`,
      /asks for 1001 records/,
    ],
    [
      "a negative number of groups",
      `{ orders { groupedAggregates(groupBy: [STATUS], first: -1) { keys } } }`,
      /./,
    ],
    [
      "300 aggregates at the root",
      `{ ${Array.from({ length: 300 }, (_, i) => `a${i}: orders { aggregates { count } }`).join(" ")} }`,
      /too much/,
    ],
    [
      "1,000 groupings",
      `{ orders { ${Array.from({ length: 1000 }, (_, i) => `a${i}: groupedAggregates(groupBy: [STATUS], first: 1000) { keys }`).join(" ")} } }`,
      /too m/,
    ],
    [
      "groups of groups of many",
      `{ companies(first: 1000) { nodes { orders(first: 1000) { groupedAggregates(groupBy: [STATUS], first: 1000) { keys } } } } }`,
      /too many records/,
    ],
  ])("%s", async (_title, query, message) => {
    const { errors, status, data } = await ask(query);
    expect(errors[0]?.message ?? JSON.stringify(data)).toMatch(message);
    expect([status, errors[0]?.extensions.status]).toEqual([expect.any(Number), 400]);
  });

  test("an entity whose name one of the new types would have", async () => {
    for (const name of [
      "order_group_by",
      "order_having_inputs",
      "order_having_sum_inputs",
      "having_float_filters",
    ]) {
      const failure = await refusal(
        crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
          name,
          { type: "object", properties: { a: { type: "string" } } },
        ]),
      );
      expect([name, failure.code, failure.detail.code]).toEqual([name, "RH400", "name_collision"]);
    }
  });
});

test("21 aggregates are too many, also by way of fragments", async () => {
  const of = (n: number) => Array.from({ length: n }, (_, i) => `a${i}: aggregates { count }`).join(" ");
  expect((await ask(`{ orders { ${of(20)} } }`)).errors).toEqual([]);
  for (const query of [
    `{ orders { ${of(21)} } }`,
    `fragment f on OrderConnection { ${of(10)} } { a: orders { ...f } b: orders { ...f } c: orders { ...f } }`,
  ]) {
    const { errors } = await ask(query);
    expect(errors[0]?.extensions).toMatchObject({
      limit: { setting: "ROWHOUSE_GRAPHQL_AGGREGATES", value: 20 },
    });
  }
});

describe("rights", () => {
  test("records that one may not read are in no aggregate and no group", async () => {
    const fields = `{ aggregates { count max { total } } groupedAggregates(groupBy: [STATUS]) { keys count } }`;
    expect(await orders(fields, { as: "lee" })).toEqual({
      aggregates: { count: 0, max: { total: null } },
      groupedAggregates: [],
    });
  });
  test("another tenant's are not there", async () => {
    expect((await ask(`{ contacts { aggregates { count } } }`, { as: "bob" })).status).toBe(404);
    expect(
      (await data(`{ contacts { aggregates { count } } }`, { as: "bob", site: "beta" })).contacts.aggregates
        .count,
    ).toBe(1);
  });
});

test("the example of docs/queries.md", async () => {
  const text = readFileSync(new URL("../docs/queries.md", import.meta.url), "utf8");
  const { aggregates, groupedAggregates } = (await data(/```graphql\n([\s\S]*?)```/.exec(text)?.[1] ?? ""))
    .orders;
  expect(aggregates).toMatchObject({ count: 4, sum: { total: "100000000000000000029.33" } });
  expect(groupedAggregates[0]).toEqual({
    keys: ["open", "2026-01-01"],
    count: 2,
    sum: { total: "30.30" },
    min: { placedAt: "2025-12-31T23:30:00.000000+00:00" },
    distinctCount: { companyId: 1 },
  });
});
