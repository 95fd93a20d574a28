import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, base, type Call, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

let crm: Crm;
const send = (path: string, call?: Call) => crm.send(path, call);
type Query = Record<string, unknown>;
type Rows = Record<string, unknown>[];

/** An aggregate of acme's orders over REST; what is no text becomes JSON. */
function address(query: Query, entity = "orders"): string {
  const text = (value: unknown) =>
    encodeURIComponent(typeof value === "string" ? value : JSON.stringify(value));
  return `${base}/${entity}/aggregate?${Object.entries(query)
    .map(([name, value]) => `${name}=${text(value)}`)
    .join("&")}`;
}
const rows = (answer: Answer): Rows => {
  expect([answer.status, answer.status === 200 ? "" : answer.text]).toEqual([200, ""]);
  return answer.json.data;
};
const ask = async (query: Query, call?: Call) => rows(await send(address(query), call));
const psql = async (query: Query): Promise<Rows> => {
  const [row] = await crm.db.query<{ r: { data: Rows } }>(
    "select data.aggregate('acme/crm/orders', $1) as r",
    [JSON.stringify(query)],
  );
  return row?.r.data ?? [];
};

const orders = [
  ["open", "10.10", 1, 0.5, "2025-12-31T23:30:00Z", "2025-12-31", "Oslo Works"],
  ["open", "20.20", 2, 1.5, "2026-01-15T12:00:00Z", "2026-01-15", "Rome Works"],
  [
    "paid",
    "99999999999999999999.01",
    "9007199254740993",
    null,
    "2026-02-01T00:00:00Z",
    "2026-02-01",
    "Oslo Works",
  ],
  ["paid", "0.02", "9007199254740993", 2, "2026-03-29T00:30:00Z", null, "Oslo Works"],
  ["void", null, null, null, null, null, null],
] as const;

beforeAll(async () => {
  crm = await startCrm();
  const { db } = crm;
  await db.query("select data.define_entity('acme/crm', 'orders', $1)", [
    {
      type: "object",
      properties: {
        status: { type: "string", "x-index": true },
        total: { type: "number", format: "decimal", precision: 30, scale: 2 },
        amount: { type: "integer", "x-index": true },
        score: { type: "number" },
        placed_at: { type: "string", format: "date-time" },
        due: { type: "string", format: "date" },
        notes: { type: "array", items: { type: "string" } },
        place: { type: "object", properties: { floor: { type: "integer" } } },
        company_id: { "x-relation": { entity: "companies" } },
      },
    },
  ]);
  await db.query("select data.insert('acme/crm/companies', $1)", [{ name: "Rome Works", city: "Rome" }]);
  const ids = await db.query<{ name: string; id: string }>("select name, id from acme_crm.companies");
  for (const [status, total, amount, score, placed_at, due, company] of orders) {
    const company_id = ids.find(({ name }) => name === company)?.id ?? null;
    const record = JSON.stringify({ status, total, amount: "A", score, placed_at, due, company_id })
      .replace(/"total":"([\d.]+)"/, '"total":$1')
      .replace('"A"', String(amount));
    await db.query("select data.insert('acme/crm/orders', $1::jsonb)", [record]);
  }
  await db.query("select access.create_role('acme', 'orders-only', array['crm/orders:read'])");
  for (const [email, role] of [
    ["kim@acme.test", "orders-only"],
    ["lee@acme.test", "nothing"],
  ] as const) {
    if (role === "nothing") await db.query("select access.create_role('acme', 'nothing', array[]::text[])");
    await db.account(email);
    await db.query("select tenancy.add_member('acme', $1, $2)", [email, role]);
    crm.tokens[email.slice(0, 3)] = await crm.gateway.token(email, "acme");
  }
});
afterAll(() => crm?.stop());

describe("groups and what is computed of them, over REST and in psql alike", () => {
  test.each<[string, Query, Rows]>([
    ["everything", {}, [{ count: 5 }]],
    [
      "by a field",
      { group: ["status"] },
      [
        { status: "open", count: 2 },
        { status: "paid", count: 2 },
        { status: "void", count: 1 },
      ],
    ],
    [
      "several, named",
      {
        group: ["status"],
        aggregate: {
          n: { $count: "*" },
          totals: { $count: "total" },
          cities: { $count_distinct: "company.city" },
        },
        sort: [{ field: "n" }, { field: "cities" }],
      },
      [
        { status: "void", n: 1, totals: 0, cities: 0 },
        { status: "paid", n: 2, totals: 2, cities: 1 },
        { status: "open", n: 2, totals: 2, cities: 2 },
      ],
    ],
    [
      "by a field of the record it refers to, none last",
      { group: ["company.city"], aggregate: ["count"] },
      [
        { "company.city": "Oslo", count: 3 },
        { "company.city": "Rome", count: 1 },
        { "company.city": null, count: 1 },
      ],
    ],
    [
      "over a field of the record it refers to",
      { group: ["status"], aggregate: ["max(company.name)"] },
      [
        { status: "open", max_company_name: "Rome Works" },
        { status: "paid", max_company_name: "Oslo Works" },
        { status: "void", max_company_name: null },
      ],
    ],
    [
      "having",
      { group: ["status"], having: { count: { $gt: 1 }, status: { $ne: "paid" } } },
      [{ status: "open", count: 2 }],
    ],
    [
      "having with $or and $not",
      { group: ["status"], having: { $or: [{ count: 1 }, { $not: { status: { $like: "p%" } } }] } },
      [
        { status: "open", count: 2 },
        { status: "void", count: 1 },
      ],
    ],
    [
      "filter and having, each with values",
      { filter: { amount: { $gte: 2 } }, group: ["status"], having: { count: { $lt: 2 } } },
      [{ status: "open", count: 1 }],
    ],
    [
      "nothing matches: count is 0, the others null",
      {
        filter: { status: "none" },
        aggregate: ["count", "sum(total)", "avg(amount)", "min(due)", "count_distinct(status)"],
      },
      [{ count: 0, sum_total: null, avg_amount: null, min_due: null, count_distinct_status: 0 }],
    ],
    ["nothing matches: no groups", { filter: { status: "none" }, group: ["status"] }, []],
    [
      "min and max of dates, times and text",
      { aggregate: ["min(due)", "max(placed_at)", "max(status)"] },
      [{ min_due: "2025-12-31", max_placed_at: "2026-03-29T00:30:00+00:00", max_status: "void" }],
    ],
    ["numbers", { aggregate: ["sum(score)", "avg(score)"] }, [{ sum_score: 4, avg_score: 4 / 3 }]],
    ["inside an object", { group: ["place.floor"] }, [{ "place.floor": null, count: 5 }]],
    [
      "buckets: days are of the time zone",
      { group: ["placed_at:month"], timezone: "Europe/Oslo" },
      [
        { placed_at_month: "2026-01-01", count: 2 },
        { placed_at_month: "2026-02-01", count: 1 },
        { placed_at_month: "2026-03-01", count: 1 },
        { placed_at_month: null, count: 1 },
      ],
    ],
    [
      "buckets: UTC unless told",
      { group: [{ field: "placed_at", bucket: "year", as: "year" }], having: { year: { $exists: true } } },
      [
        { year: "2025-01-01", count: 1 },
        { year: "2026-01-01", count: 3 },
      ],
    ],
    [
      "buckets: hours are instants, also where clocks change",
      {
        filter: { placed_at: { $gte: "2026-03-01T00:00:00Z" } },
        group: [{ field: "placed_at", bucket: "hour", timezone: "Asia/Kolkata" }],
      },
      [{ placed_at_hour: "2026-03-29T00:30:00+00:00", count: 1 }],
    ],
    [
      "buckets of a date: weeks from Monday",
      { group: ["due:week", "due:quarter"], having: { due_week: { $gte: "2026-01-01" } } },
      [
        { due_week: "2026-01-12", due_quarter: "2026-01-01", count: 1 },
        { due_week: "2026-01-26", due_quarter: "2026-01-01", count: 1 },
      ],
    ],
  ])("%s", async (_title, query, expected) => {
    expect(await ask(query)).toEqual(expected);
    expect(await psql(query)).toEqual(expected);
  });

  test("the short forms of an address", async () => {
    const query = {
      group: "status,due:year",
      aggregate: "count,last:max(due)",
      sort: "-count,status,due_year",
      limit: "1",
    };
    expect(await ask(query)).toEqual([
      { status: "open", due_year: "2025-01-01", count: 1, last: "2025-12-31" },
    ]);
  });

  test("sums and averages of integers and decimals keep every digit", async () => {
    const { text } = await send(address({ aggregate: "sum(total),avg(total),sum(amount),avg(amount)" }));
    expect(text).toContain('"sum_total":100000000000000000029.33');
    expect(text).toContain('"avg_total":25000000000000000007.3325');
    expect(text).toContain('"sum_amount":18014398509481989');
    expect(text).toContain('"avg_amount":4503599627370497.25');
    const having = `{"sum_amount":{"$gt":18014398509481988},"sum_total":{"$lt":100000000000000000029.34}}`;
    expect(await ask({ aggregate: "sum(amount),sum(total)", having })).toHaveLength(1);
    expect(
      await ask({ aggregate: "sum(amount)", having: '{"sum_amount":{"$gt":18014398509481989}}' }),
    ).toEqual([]);
  });
});

describe("pages", () => {
  test.each<[string, string]>([
    ["by group keys, null last", ""],
    ["by an aggregate with nulls", "-sum_total"],
    ["by both", "count,-status"],
  ])("cursors lead through all groups once: %s", async (_title, sort) => {
    const query = {
      group: "status,company.city,due:year",
      aggregate: "count,sum(total)",
      ...(sort ? { sort } : {}),
    };
    const all = await ask(query);
    const paged: Rows = [];
    let cursor: string | null = null;
    do {
      const answer: Answer = await send(address({ ...query, limit: "1", ...(cursor ? { cursor } : {}) }));
      paged.push(...rows(answer));
      cursor = answer.json.meta.next_cursor;
    } while (cursor && paged.length < 20);
    expect(paged).toEqual(all);
    expect(all.length).toBeGreaterThan(3);
  });
  test("page and offset", async () => {
    expect(await ask({ group: "status", limit: "1", page: "2" })).toEqual([{ status: "paid", count: 2 }]);
    expect(await ask({ group: "status", offset: "2" })).toEqual([{ status: "void", count: 1 }]);
    expect((await send(address({ group: "status", page: "1" }))).json.meta).toMatchObject({ limit: 100 });
  });
});

describe("what is refused, with what there is", () => {
  const many = (n: number, name: string) => Array.from({ length: n }, (_, i) => `${name}${i}`);
  test.each<[string, Query, string, RegExp?]>([
    ["an unknown field", { group: "town" }, "unknown_field", /Fields: .*status/],
    ["an unknown related field", { group: "company.town" }, "unknown_field", /city/],
    ["an unknown relation", { group: "firm.city" }, "unknown_field", /Relations: company/],
    [
      "a relation to many",
      { group: "status", aggregate: ["count"], filter: {}, sort: "orders.total" },
      "unknown_column",
    ],
    ["an unknown function", { aggregate: "median(total)" }, "invalid_aggregate", /count_distinct/],
    ["a function of nothing", { aggregate: "sum" }, "invalid_aggregate"],
    ["a function of an empty field", { aggregate: "count()" }, "invalid_aggregate"],
    ["a sum of text", { aggregate: "sum(status)" }, "invalid_aggregate", /numbers/],
    ["a minimum of a list", { aggregate: "min(notes)" }, "invalid_aggregate"],
    ["a group by a list", { group: "notes" }, "invalid_group"],
    ["a bucket of text", { group: "status:month" }, "invalid_group"],
    ["an unknown bucket", { group: "due:decade" }, "invalid_group", /quarter/],
    ["hours of a date", { group: "due:hour" }, "invalid_group"],
    ["a sort by what is not there", { group: "status", sort: "total" }, "unknown_column", /count, status/],
    [
      "having of what is not there",
      { group: "status", having: { total: 1 } },
      "unknown_column",
      /count, status/,
    ],
    ["having that is no filter", { having: { count: { $near: 1 } } }, "unknown_operator"],
    ["having of an object", { having: { count: { a: { b: 1 } } } }, "unknown_operator"],
    ["having that compares with nothing", { having: { count: {} } }, "invalid_filter"],
    ["an empty $or", { having: { $or: [] } }, "unknown_column"],
    ["one name twice", { group: "status", aggregate: "status:count" }, "duplicate_name"],
    ["9 groups", { group: many(9, "f") }, "invalid_group"],
    ["17 aggregates", { aggregate: many(17, "count_") }, "invalid_aggregate"],
    [
      "1,000 aggregates",
      { aggregate: Array.from({ length: 1000 }, (_, i) => `a${i}:count`).join(",") },
      "invalid_aggregate",
    ],
    ["1,001 groups on a page", { group: "status", limit: "1001" }, "invalid_limit"],
    ["a cursor of another query", { group: "status", cursor: "WyJ4Il0" }, "invalid_cursor"],
    ["a cursor of one row", { cursor: "WyJ4Il0" }, "invalid_cursor"],
    ["select", { select: "status" }, "unknown_parameter"],
    ["a number as a group", { group: [5] }, "invalid_group"],
    ["nested lists", { group: `${"[".repeat(900)}${"]".repeat(900)}` }, "invalid_group"],
    [
      "nested having",
      { having: JSON.parse(`${'{"$not":'.repeat(12)}{"count":1}${"}".repeat(12)}`) },
      "invalid_having",
    ],
    ["five relations", { group: "company.orders.company.name" }, "invalid_path", /orders/],
  ])("%s", async (_title, query, code, hint = /./) => {
    const { status, json } = await send(address(query));
    expect([status, json.code]).toEqual([400, code]);
    expect(json.hint).toMatch(hint);
  });

  test("other methods than GET", async () => {
    const { status, headers } = await send(`${base}/orders/aggregate`, { method: "DELETE" });
    expect([status, headers.allow]).toEqual([405, "GET, HEAD, OPTIONS"]);
  });
});

describe("attacks", () => {
  const hostile = [
    `x'; drop table acme_crm.orders_jsonb; --`,
    `x" from x; --`,
    "$body$",
    "%1$I %s",
    "a\u0000b",
    "\\'",
    "é".repeat(500),
    "__proto__",
  ];
  test.each(hostile)("a hostile word %j is no SQL, wherever it stands", async (word) => {
    const queries: Query[] = [
      { group: [word] },
      { group: [{ field: "status", as: word }] },
      { group: [{ field: "due", bucket: word }] },
      { group: [{ field: "placed_at", bucket: "day", timezone: word }] },
      { aggregate: [word] },
      { aggregate: [`sum(${word})`] },
      { aggregate: { [word]: { $count: "*" } } },
      { aggregate: { a: { [`$${word}`]: "total" } } },
      { having: { [word]: 1 } },
      { group: ["status"], sort: [{ field: word }] },
      { group: [`place.${word}:day`] },
    ];
    for (const query of queries) expect([query, (await send(address(query))).status]).toEqual([query, 400]);
    const inPath = await send(address({ group: [`place.${word}`] }));
    expect([200, 400]).toContain(inPath.status);
    expect(await ask({ group: ["status"], having: { status: word.replace("\0", "") } })).toEqual([]);
    expect(await ask({})).toEqual([{ count: 5 }]);
  });

  test.each([
    "Oslo+2",
    "FOO5BAR",
    "Europe/Nowhere",
    "Foo/Bar+5",
    "../../etc/passwd",
    "posixrules",
    "<+02>-2",
    "Etc/GMT+99",
    "",
    "a".repeat(5000),
    "Europe/Oslo' or '1",
  ])("%j is no time zone", async (timezone) => {
    const { status, json } = await send(address({ group: "placed_at:day", timezone }));
    expect([status, json.code]).toEqual([400, "invalid_timezone"]);
  });

  test("a hostile field name inside an object groups by it", async () => {
    expect(await ask({ group: ["place.x') from pg_authid; --"] })).toEqual([
      { "place.x') from pg_authid; --": null, count: 5 },
    ]);
  });

  test("an overflow is the asker's error; sums of large integers and decimals do not overflow", async () => {
    await crm.db.query("select data.define_entity('acme/crm', 'big', $1)", [
      { type: "object", properties: { f: { type: "number" }, i: { type: "integer" } } },
    ]);
    await crm.db.query("select data.insert('acme/crm/big', $1::jsonb)", [
      '[{"f":1.7e308,"i":9223372036854775807},{"f":1.7e308,"i":9223372036854775807}]',
    ]);
    expect((await send(address({ aggregate: "sum(f)" }, "big"))).json).toMatchObject({
      status: 400,
      code: "invalid_value",
    });
    expect((await send(address({ aggregate: "sum(i)" }, "big"))).text).toContain("18446744073709551614");
  });
});

describe("rights", () => {
  test("records that one may not read are in no group", async () => {
    expect(await ask({ aggregate: "count,sum(total)" }, { as: "lee" })).toEqual([
      { count: 0, sum_total: null },
    ]);
    expect(await ask({ group: "status" }, { as: "lee" })).toEqual([]);
    expect(await ask({ group: "status", having: { count: { $gte: 0 } } }, { as: "lee" })).toEqual([]);
  });
  test("records of a related entity that one may not read say nothing", async () => {
    const as = { as: "kim" };
    expect(await ask({ group: "company.city" }, as)).toEqual([{ "company.city": null, count: 5 }]);
    expect(
      await ask({ aggregate: "max(company.name),count(company.id),count_distinct(company.city)" }, as),
    ).toEqual([{ max_company_name: null, count_company_id: 0, count_distinct_company_city: 0 }]);
    expect(await ask({ group: "company.city", having: { "company.city": "Oslo" } }, as)).toEqual([]);
    expect((await ask({ group: "company.city", aggregate: "count", sort: "-company.city" }, as))[0]).toEqual({
      "company.city": null,
      count: 5,
    });
  });
  test("another tenant's are not there", async () => {
    expect((await send(address({}), { as: "bob" })).status).toBe(404);
    const failure = await refusal(
      crm.db.as("acme", "ann@acme.test", (client) =>
        client.query(`select data.aggregate('beta/crm/contacts')`),
      ),
    );
    expect(failure.code).toBe("RH404");
  });
});

describe("plans, as the site's role, with 20,000 records of which few match", () => {
  const explained = (shape: Query, values: string) =>
    crm.db.as("acme", "ann@acme.test", async (client) => {
      const { rows } = await client.query(
        "select data.compile('crm', 'orders', 'aggregate', $1) ->> 'sql' as sql",
        [JSON.stringify(shape)],
      );
      await client.query(`prepare agg(text) as ${rows[0].sql}`);
      const plan = await client.query(`explain (costs off) execute agg(${values})`);
      await client.query("deallocate agg");
      return plan.rows.map((row) => Object.values(row)[0]).join("\n");
    });
  beforeAll(async () => {
    await crm.db.query(
      `select data.insert('acme/crm/orders', (select jsonb_agg(jsonb_build_object('status', 's' || i % 200, 'amount', i)) from generate_series(1, 10000) i)),
        data.insert('acme/crm/orders', (select jsonb_agg(jsonb_build_object('status', 's' || i % 200, 'amount', i)) from generate_series(10001, 20000) i))`,
    );
    await crm.db.query("analyze acme_crm.orders_jsonb, acme_crm.companies_jsonb");
  });
  test("the filter's index finds the records", async () => {
    const plan = await explained(
      { filter: { status: { $param: 1 } }, group: ["company.city"], aggregate: ["count", "sum(total)"] },
      "'s7'",
    );
    expect(plan).toMatch(/Index.*orders_status_idx/);
    expect(plan).not.toMatch(/Seq Scan on orders_jsonb/);
  });
  test("having on an indexed group key reaches the index too", async () => {
    const plan = await explained({ group: ["status"], having: { status: { $param: 1 } } }, "'s7'");
    expect(plan).toMatch(/orders_status_idx/);
    expect(plan).not.toMatch(/Seq Scan on orders_jsonb/);
  });
  test("groups by an indexed field are read from it, and only this tenant's tables", async () => {
    const plan = await explained(
      { filter: { amount: { $gt: { $param: 1 } } }, group: ["status"] },
      "'19990'",
    );
    expect(plan).toMatch(/orders_amount_idx/);
    const tables = [...plan.matchAll(/ on (\w+_jsonb)\b/g)].map(([, table]) => table);
    expect(new Set(tables)).toEqual(new Set(["orders_jsonb"]));
  });
});

test("flat storage computes the same, by its own index, and in a union with the other", async () => {
  const { db } = crm;
  await db.query("select data.define_entity('acme/crm', 'flat_orders', $1)", [
    {
      type: "object",
      "x-storage": "flat",
      properties: {
        status: { type: "string", "x-index": true },
        total: { type: "number", format: "decimal", precision: 30, scale: 2 },
        placed_at: { type: "string", format: "date-time" },
        company_id: { "x-relation": { entity: "companies" } },
      },
    },
  ]);
  await db.query(
    `insert into acme_crm.flat_orders (status, total, placed_at, company_id)
       select status, total, placed_at, company_id from acme_crm.orders where status in ('open', 'paid', 'void')`,
  );
  const query = {
    filter: { status: { $in: ["open", "paid"] } },
    group: "company.city,placed_at:month",
    aggregate: "count,sum(total),avg(total),max(placed_at)",
    timezone: "Europe/Oslo",
  };
  expect((await send(address(query, "flat_orders"))).text).toBe((await send(address(query))).text);
  const both = `${base}/query/aggregate?entities=orders,flat_orders&group=entity&filter=${encodeURIComponent('{"status":"paid"}')}`;
  expect(rows(await send(both))).toEqual([
    { entity: "flat_orders", count: 2 },
    { entity: "orders", count: 2 },
  ]);
});

test("the OpenAPI document has it, and its examples answer", async () => {
  const doc = JSON.parse((await send(`${base}/openapi.json`)).text);
  const { parameters } = doc.paths["/orders/aggregate"].get;
  expect(parameters).toEqual(expect.arrayContaining([{ $ref: "#/components/parameters/group" }]));
  for (const name of ["aggregate", "timezone"]) {
    const { example } = doc.components.parameters[name];
    expect([name, (await send(address({ [name]: example }))).status]).toEqual([name, 200]);
  }
});
