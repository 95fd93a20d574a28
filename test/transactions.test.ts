import { readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { base, type Call, type Crm, startCrm } from "./harness/crm.ts";
import { eventually } from "./harness/eventually.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
  const text = { type: "string" };
  await crm.db.query("select data.define_entity('acme/crm', 'orders', $1)", [
    {
      type: "object",
      required: ["title"],
      properties: {
        title: { type: "string", "x-unique": true },
        total: { type: "integer", minimum: 0 },
        address: { type: "object", properties: { city: text } },
        extra: { type: "object" },
      },
    },
  ]);
  await crm.db.query("select data.define_entity('acme/crm', 'lines', $1)", [
    {
      type: "object",
      properties: {
        order_id: { type: "string", format: "uuid", "x-relation": { entity: "orders", onDelete: "cascade" } },
        text,
        count: { type: "integer" },
      },
    },
  ]);
});
afterAll(() => crm?.stop());
beforeEach(() => crm.db.query("delete from acme_crm.orders"));

const run = (operations: unknown, call: Call = {}) =>
  crm.send(`${base}/transaction`, { method: "POST", body: { operations }, ...call });
const count = async () =>
  (
    await crm.db.query(
      "select (select count(*) from acme_crm.orders) || ' ' || (select count(*) from acme_crm.lines) as n",
    )
  )[0]?.n;
const order = (title: string, more: object = {}) => ({
  operation: "insert",
  entity: "orders",
  data: { title },
  ...more,
});
const line = (ref: string, more: object = {}) => ({
  operation: "insert",
  entity: "lines",
  data: { order_id: { $ref: ref }, ...more },
});
const unknownId = "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b";
const hostile = "'; drop table acme_crm.orders; -- $body$ %1$I \" \\";

describe("several operations, all or nothing", () => {
  test("later ones use what earlier ones gave; the results are in order", async () => {
    const answer = await run(
      [
        order("first", { as: "o", data: { title: "first", total: 2, address: { city: "Oslo" } } }),
        line("o.id", { text: { $ref: "o.address.city" }, count: { $ref: "o.version" } }),
        {
          operation: "update",
          entity: "orders",
          id: { $ref: "o.id" },
          version: 1,
          data: { total: 3 },
          as: "again",
        },
        { operation: "upsert", entity: "orders", key: ["title"], data: { title: "first", total: 4 } },
        { operation: "upsert", entity: "orders", key: ["title"], data: { title: "other" }, as: "other" },
        {
          operation: "replace",
          entity: "orders",
          id: { $ref: "other.id" },
          data: { title: { $ref: "again.title" }, extra: { of: [{ $ref: "again.total" }] } },
        },
        { operation: "delete", entity: "orders", id: { $ref: "again.id" } },
      ].toSpliced(5, 1),
    );
    expect([answer.status, answer.json.data]).toMatchObject([
      200,
      [
        { title: "first", total: 2 },
        { text: "Oslo", count: 1, order_id: (answer.json.data[0] as { id: string }).id },
        { total: 3, version: 2 },
        { total: 4, version: 3 },
        { title: "other" },
        null,
      ],
    ]);
    expect(await count()).toBe("1 0"); // cascaded
  });

  test("references stand anywhere in the data; what only looks like one is written as a literal", async () => {
    const answer = await run([
      order("a", { as: "a" }),
      order("b", {
        data: {
          title: "b",
          extra: { deep: [{ of: { $ref: "a.title" } }], schema: { $literal: { $ref: "#/x" } }, $ref: "a.id" },
        },
      }),
      order("c", { data: { title: "c", extra: { dollar: "$ref", value: hostile } } }),
    ]);
    expect(answer.json.data).toMatchObject([
      {},
      { extra: { deep: [{ of: "a" }], schema: { $ref: "#/x" }, $ref: "a.id" } },
      { extra: { dollar: "$ref", value: hostile } },
    ]);
  });

  test("1,000 operations in one round trip, inserts in a row as one statement", async () => {
    const before = crm.gateway.roundTrips();
    const operations = Array.from({ length: 999 }, (_, i) => order(`n${i}`, i === 500 ? { as: "mid" } : {}));
    const answer = await run([...operations, line("mid.id")]);
    expect(answer.status).toBe(200);
    expect(answer.json.data.map(({ title }) => title)).toEqual([
      ...operations.map(({ data }) => data.title),
      undefined,
    ]);
    expect(crm.gateway.roundTrips() - before).toBe(1);
    expect(await count()).toBe("999 1");
    expect((await run([])).json).toEqual({ data: [] });
  });

  test("in psql", async () => {
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      const { rows } = await client.query("select data.transaction('acme/crm', $1) as r", [
        JSON.stringify([order("p", { as: "p" }), line("p.id")]),
      ]);
      expect(rows[0].r.data[1].order_id).toBe(rows[0].r.data[0].id);
      await expect(
        client.query("select data.transaction('acme/crm', $1)", [JSON.stringify([order("q"), order("p")])]),
      ).rejects.toMatchObject({
        code: "23505",
        constraint: "orders_title_key",
        detail: '{"pointer": "/operations/1/data"}',
      });
    });
  });
});

describe("an error names its operation, and nothing is written", () => {
  const deep = (levels: number) => `${'{"a":'.repeat(levels)}{"$ref":"a.id"}${"}".repeat(levels)}`;
  test.each<[string, unknown[], number, string, string[]]>([
    [
      "a value that is not valid",
      [order("a"), order("b", { data: { total: -1, nope: 1 } })],
      422,
      "validation_failed",
      ["/operations/1/data/nope", "/operations/1/data/title", "/operations/1/data/total"],
    ],
    [
      "the same after a reference",
      [order("a", { as: "a" }), line("a.id", { count: 1.5 })],
      422,
      "validation_failed",
      ["/operations/1/data/count"],
    ],
    [
      "a value that is taken",
      [order("a"), order("b"), order("c"), order("b")],
      409,
      "not_unique",
      ["/operations/3/data/title"],
    ],
    [
      "a reference to a missing record",
      [order("a"), { operation: "insert", entity: "lines", data: { order_id: unknownId } }],
      422,
      "missing_reference",
      ["/operations/1/data/order_id"],
    ],
    [
      "a record that is not there",
      [order("a"), { operation: "update", entity: "orders", id: unknownId, data: {} }],
      404,
      "not_found",
      ["/operations/1"],
    ],
    [
      "a stale version",
      [order("a", { as: "a" }), { operation: "delete", entity: "orders", id: { $ref: "a.id" }, version: 9 }],
      409,
      "version_conflict",
      ["/operations/1"],
    ],
    [
      "an unknown entity",
      [order("a"), { operation: "insert", entity: "nope", data: {} }],
      404,
      "not_found",
      ["/operations/1"],
    ],
    [
      "SQL as entity",
      [{ operation: "insert", entity: hostile, data: {} }],
      404,
      "not_found",
      ["/operations/0"],
    ],
    [
      "another app's entity by path",
      [{ operation: "insert", entity: "beta_crm.contacts", data: { name: "x" } }],
      404,
      "not_found",
      ["/operations/0"],
    ],
    [
      "a key that is no field",
      [{ operation: "upsert", entity: "orders", key: [hostile], data: { title: "a" } }],
      400,
      "invalid_key",
      ["/operations/0"],
    ],
    [
      "an upsert that is not valid",
      [{ operation: "upsert", entity: "orders", key: ["title"], data: { title: "a", total: -1 } }],
      422,
      "validation_failed",
      ["/operations/0/data/total"],
    ],
    [
      "an unknown reference",
      [order("a", { as: "a" }), line("b.id")],
      422,
      "invalid_reference",
      ["/operations/1/data/order_id"],
    ],
    [
      "a later reference",
      [line("a.id"), order("a", { as: "a" })],
      422,
      "invalid_reference",
      ["/operations/0/data/order_id"],
    ],
    [
      "a reference to itself",
      [order("a", { as: "a", data: { title: { $ref: "a.title" } } })],
      422,
      "invalid_reference",
      ["/operations/0/data/title"],
    ],
    [
      "a reference to a property that is not there",
      [order("a", { as: "a" }), line("a.secret")],
      422,
      "invalid_reference",
      ["/operations/1/data/order_id"],
    ],
    [
      "a reference to no property",
      [order("a", { as: "a" }), line("a")],
      422,
      "invalid_reference",
      ["/operations/1/data/order_id"],
    ],
    [
      "a reference to an object",
      [order("a", { as: "a", data: { title: "a", extra: { x: [1] } } }), line("a.extra.x")],
      422,
      "invalid_reference",
      ["/operations/1/data/order_id"],
    ],
    [
      "a reference of no text",
      [order("a", { data: { title: { $ref: 5 } } })],
      422,
      "invalid_reference",
      ["/operations/0/data/title"],
    ],
    [
      "a reference to a huge value",
      [order("a", { as: "a", data: { title: "a", extra: { x: "x".repeat(9_000) } } }), line("a.extra.x")],
      422,
      "invalid_reference",
      ["/operations/1/data/order_id"],
    ],
    [
      "a reference to what was deleted",
      [
        order("a", { as: "a" }),
        { operation: "delete", entity: "orders", id: { $ref: "a.id" }, as: "gone" },
        line("gone.id"),
      ],
      422,
      "invalid_reference",
      ["/operations/2/data/order_id"],
    ],
    [
      "SQL as reference",
      [order("a", { as: "a" }), line(`a.id${hostile}`)],
      422,
      "invalid_reference",
      ["/operations/1/data/order_id"],
    ],
    [
      "an id that is no UUID",
      [{ operation: "delete", entity: "orders", id: hostile }],
      422,
      "invalid_id",
      ["/operations/0/id"],
    ],
    [
      "an id that is an object",
      [{ operation: "delete", entity: "orders", id: { a: 1 } }],
      422,
      "invalid_id",
      ["/operations/0/id"],
    ],
    [
      "an id that is null",
      [{ operation: "delete", entity: "orders", id: null }],
      422,
      "invalid_id",
      ["/operations/0/id"],
    ],
    [
      "an id that refers to no id",
      [order("a", { as: "a" }), { operation: "delete", entity: "orders", id: { $ref: "a.title" } }],
      422,
      "invalid_id",
      ["/operations/1/id"],
    ],
    [
      "references nested too deeply",
      [order("a", { as: "a" }), order("b", { data: { title: "b", extra: JSON.parse(deep(100)) } })],
      400,
      "nested_too_deeply",
      [expect.stringMatching(/^.operations.1.data.extra.a/) as unknown as string],
    ],
    [
      "an unknown operation",
      [order("a"), { operation: "drop", entity: "orders" }],
      400,
      "invalid_operations",
      ["/operations/1/operation"],
    ],
    [
      "no object, no entity, no data",
      [5, { operation: "insert" }, null],
      400,
      "invalid_operations",
      ["/operations/0", "/operations/1/entity", "/operations/1/data", "/operations/2"],
    ],
    [
      "members of another operation",
      [{ ...order("a"), id: unknownId, sql: "x" }],
      400,
      "invalid_operations",
      ["/operations/0/id", "/operations/0/sql"],
    ],
    [
      "a list as data",
      [{ operation: "insert", entity: "orders", data: [{ title: "a" }] }],
      400,
      "invalid_operations",
      ["/operations/0/data"],
    ],
    [
      "a version that is no number",
      [{ operation: "delete", entity: "orders", id: unknownId, version: "1;" }],
      400,
      "invalid_operations",
      ["/operations/0/version"],
    ],
    [
      "one name twice",
      [order("a", { as: "x" }), order("b", { as: "x" })],
      400,
      "invalid_operations",
      ["/operations/1/as"],
    ],
    ["a name that is none", [order("a", { as: "a.b" })], 400, "invalid_operations", ["/operations/0/as"]],
  ])("%s", async (_title, operations, status, code, pointers) => {
    const answer = await run(operations);
    const { errors = [] } = answer.json as unknown as { errors?: { pointer: string }[] };
    expect([answer.status, answer.json.code]).toEqual([status, code]);
    expect(errors.map(({ pointer }) => pointer).sort()).toEqual(pointers.toSorted());
    expect(await count()).toBe("0 0");
  });

  test.each([
    ["no list", { operations: { a: 1 } }, 400],
    ["nothing", {}, 400],
    ["more than operations", { operations: [], sql: "x" }, 400],
    ["a text", '"x"', 400],
    ["no JSON", "{", 400],
    [
      "too many",
      { operations: Array.from({ length: 1_001 }, () => ({ operation: "delete", entity: "o", id: "" })) },
      413,
    ],
    ["too large", { operations: [order("x".repeat(300_000))] }, 413],
    [
      "NUL",
      '{"operations": [{"operation": "insert", "entity": "orders", "data": {"title": "\\u0000"}}]}',
      400,
    ],
    ["a million brackets", "[".repeat(100_000), 400],
  ])("%s", async (_title, body, status) => {
    expect((await crm.send(`${base}/transaction`, { method: "POST", body })).status).toBe(status);
  });

  test("only POST, and no parameters", async () => {
    expect(await crm.send(`${base}/transaction`)).toMatchObject({
      status: 405,
      headers: { allow: "POST, OPTIONS" },
    });
    expect((await crm.send(`${base}/transaction?x=1`, { method: "POST", body: {} })).json.code).toBe(
      "unknown_parameter",
    );
  });
});

describe("rights are those of the account, operation by operation", () => {
  test("a viewer writes nothing, not even what stands before", async () => {
    const answer = await run([order("a")], { as: "vic" });
    expect(answer).toMatchObject({ status: 403, json: { errors: [{ pointer: "/operations/0" }] } });
  });
  test.each([
    ["another tenant", "bob", 404],
    ["nobody", null, 401],
  ])("%s", async (_title, as, status) => {
    expect((await run([order("a")], { as })).status).toBe(status);
    expect(await count()).toBe("0 0");
  });
  test("another tenant's record stays where it is", async () => {
    const [secret] = await crm.db.query("select id from beta_crm.contacts");
    const id = secret?.id;
    for (const operation of [
      { operation: "update", entity: "contacts", id, data: { name: "x" } },
      { operation: "delete", entity: "contacts", id },
    ])
      expect((await run([operation], { as: "eve" })).status).toBe(404);
  });
  test("who may not read what they write refers to nothing", async () => {
    await crm.db.account("wri@acme.test");
    await crm.db.query("select tenancy.add_member('acme', 'wri@acme.test', 'viewer')");
    await crm.db.query("select access.create_role('acme', 'writer', '{crm/orders:create,crm/lines:*}')");
    await crm.db.query(
      "select access.revoke_role('acme', 'wri@acme.test', 'viewer'), access.assign_role('acme', 'wri@acme.test', 'writer')",
    );
    const as = await crm.gateway.token("wri@acme.test", "acme");
    const answer = await run([order("w", { as: "w" }), line("w.id")], { as });
    expect([answer.status, await count()]).toEqual([422, "0 0"]);
  });
});

describe("at the same time", () => {
  test("two that lock each other: one is done, the other told to try again, or both done one after the other", async () => {
    const made = await run([order("x"), order("y")]);
    const [x, y] = made.json.data.map(({ id }) => id);
    const update = (id: unknown, total: number) => ({
      operation: "update",
      entity: "orders",
      id,
      data: { total },
    });
    const filler = Array.from({ length: 200 }, () => update(x, 5));
    const answers = await Promise.all([
      run([...filler, update(y, 1)]),
      run([...filler.map(() => update(y, 6)), update(x, 2)]),
    ]);
    const statuses = answers.map(({ status }) => status).sort();
    expect([
      [200, 200],
      [200, 503],
    ]).toContainEqual(statuses);
    for (const answer of answers)
      if (answer.status === 503)
        expect(answer).toMatchObject({ json: { code: "busy" }, headers: { "retry-after": "1" } });
    const totals = await crm.db.query("select total::int from acme_crm.orders order by title");
    expect([
      [5, 1],
      [2, 6],
      [2, 1],
    ]).toContainEqual(totals.map(({ total }) => total));
  });

  test("a connection that breaks in the middle leaves nothing behind", async () => {
    await run([order("locked")]);
    const holder = new pg.Client({ connectionString: crm.db.operatorUrl });
    await holder.connect();
    await holder.query("begin");
    await holder.query("select from acme_crm.orders_jsonb for update");
    const pending = run([
      order("before"),
      { operation: "upsert", entity: "orders", key: ["title"], data: { title: "locked", total: 1 } },
    ]);
    const waiting =
      "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and usename = 'rowhouse_gateway'";
    const pid = await eventually(async () => (await crm.db.query(waiting))[0]?.pid);
    await crm.db.query("select pg_terminate_backend($1)", [pid]);
    expect((await pending).status).toBe(503);
    await holder.query("rollback");
    await holder.end();
    expect(await crm.db.query("select title, total from acme_crm.orders")).toEqual([
      { title: "locked", total: null },
    ]);
    expect((await run([order("after")])).status).toBe(200);
  });
});

test("the examples of docs/writing.md work as printed", async () => {
  const page = readFileSync(new URL("../docs/writing.md", import.meta.url), "utf8");
  const blocks = Array.from(page.matchAll(/```sql\n([\s\S]*?)```/g), ([, block]) => String(block));
  const results: unknown[] = [];
  for (const block of blocks) {
    const answers = (await crm.db.pool.query(block)) as unknown as { rows: object[] } | { rows: object[] }[];
    for (const { rows } of [answers].flat()) results.push(...rows.map((row) => Object.values(row)[0]));
  }
  expect(results.slice(2)).toMatchObject([
    { meta: { inserted: 1, updated: 1, unchanged: 1 } },
    { meta: { updated: 1 } },
    { meta: { deleted: 1 } },
    { data: [{ code: "jam" }, { code: "jelly", price: 2 }, { price: 3, version: 2 }] },
  ]);
});
