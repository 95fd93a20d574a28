import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, type Call, type Crm, find, startCrm } from "./harness/crm.ts";

// 50,000 contacts, 500 of each age, of 100 companies.
let crm: Crm;
const counted = async (query: object, call?: Call) => {
  const answer: Answer = await crm.send(find({ limit: "1", count: "estimated", ...query }), call);
  expect([answer.status, answer.status === 200 ? "" : answer.text]).toEqual([200, ""]);
  const { count, count_is_estimated } = answer.json.meta as unknown as {
    count: number;
    count_is_estimated: boolean;
  };
  return { count, count_is_estimated };
};
const exactly = async (query: object, call?: Call) =>
  (
    (await crm.send(find({ limit: "1", count: "exact", ...query }), call)).json.meta as unknown as {
      count: number;
    }
  ).count;

beforeAll(async () => {
  crm = await startCrm();
  const { db } = crm;
  await db.query(
    "select data.insert('acme/crm/companies', (select jsonb_agg(jsonb_build_object('name', 'c' || i, 'city', 'town')) from generate_series(1, 100) i))",
  );
  for (let batch = 0; batch < 5; batch++)
    await db.query(
      `select data.insert('acme/crm/contacts', (select jsonb_agg(jsonb_build_object('name', 'n' || i, 'age', i % 100, 'company_id', c.id))
        from generate_series($1::int + 1, $1 + 10000) i join (select id, row_number() over (order by name) as n from acme_crm.companies where city = 'town') c on c.n = i % 100 + 1))`,
      [batch * 10_000],
    );
  await db.query("analyze acme_crm.contacts_jsonb, acme_crm.companies_jsonb");
  for (const [who, permissions] of [
    ["kim", "array['crm/contacts:read']"],
    ["lee", "array[]::text[]"],
  ] as const) {
    await db.query(`select access.create_role('acme', 'only-${who}', ${permissions})`);
    await db.account(`${who}@acme.test`);
    await db.query("select tenancy.add_member('acme', $1, $2)", [`${who}@acme.test`, `only-${who}`]);
    crm.tokens[who] = await crm.gateway.token(`${who}@acme.test`, "acme");
  }
});
afterAll(() => crm?.stop());

describe("an estimate is near the truth, and not half of it", () => {
  test.each<[string, object]>([
    ["all", {}],
    ["a range of an indexed field", { filter: { age: { $lt: 50 } } }],
    ["another value of the same statement", { filter: { age: { $lt: 10 } } }],
    ["two conditions", { filter: { age: { $gte: 20 }, company_id: { $exists: true } } }],
    ["either of two", { filter: { $or: [{ age: { $lt: 10 } }, { age: { $gte: 80 } }] } }],
    ["with a cursor's sort, select and expand", { sort: "-age", select: "id", expand: "company" }],
  ])("%s", async (_title, query) => {
    const { count, count_is_estimated } = await counted(query);
    const exact = await exactly(query);
    expect(count_is_estimated).toBe(true);
    expect([count / exact, count / exact > 0.75 && count / exact < 1.33]).toEqual([expect.any(Number), true]);
  });

  test("the values of one statement are seen: other values, other estimates", async () => {
    const one = await counted({ filter: { age: { $lt: 90 } } });
    const other = await counted({ filter: { age: { $lt: 10 } } });
    expect(one.count).toBeGreaterThan(5 * other.count);
  });

  test("psql says the same", async () => {
    const [row] = await crm.db.query<{ r: { meta: { count: number; count_is_estimated: boolean } } }>(
      `select data.find('acme/crm/contacts', '{"filter": {"age": {"$lt": 50}}, "count": "estimated", "limit": 1}') as r`,
    );
    expect(row?.r.meta).toMatchObject(await counted({ filter: { age: { $lt: 50 } } }));
  });

  test("it reads no records: a page without any touches a hundredth of the blocks", async () => {
    const blocks = (count: string) =>
      crm.db.as("acme", "ann@acme.test", async (client) => {
        const { rows } = await client.query(
          "select data.compile('crm', 'contacts', 'find', $1) ->> 'sql' as sql",
          // By a field that no index has: else a vacuum that has just been lets an exact count read the index alone.
          [{ count, limit: 0, filter: { name: { $ne: null } } }],
        );
        await client.query(rows[0].sql); // catalogs are cached by now
        const explained = await client.query(`explain (analyze, buffers, format json) ${rows[0].sql}`);
        const { Plan } = explained.rows[0]["QUERY PLAN"][0];
        return Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"];
      });
    expect(await blocks("estimated")).toBeLessThan(80);
    expect(await blocks("exact")).toBeGreaterThan(100);
  });

  test("flat storage too", async () => {
    await crm.db.query("select data.define_entity('acme/crm', 'level', $1)", [
      { type: "object", "x-storage": "flat", properties: { n: { type: "integer", "x-index": true } } },
    ]);
    await crm.db.query(
      "select data.insert('acme/crm/level', (select jsonb_agg(jsonb_build_object('n', i)) from generate_series(1, 10000) i))",
    );
    await crm.db.query("analyze acme_crm.level_flat");
    const path = find({ count: "estimated", limit: "1", filter: { n: { $lte: 5000 } } }).replace(
      "/contacts?",
      "/level?",
    );
    const { count, count_is_estimated } = (await crm.send(path)).json.meta as unknown as {
      count: number;
      count_is_estimated: boolean;
    };
    expect([count_is_estimated, Math.round(count / 1000)]).toEqual([true, 5]);
  });
});

describe("small numbers are counted", () => {
  test.each<[string, object, number]>([
    ["one value", { filter: { age: 36 } }, 501],
    ["nothing", { filter: { age: 1000 } }, 0],
    ["one of another kind", { filter: { name: "Ada", age: 36 } }, 1],
  ])("%s", async (_title, query, count) => {
    expect(await counted(query)).toEqual({ count, count_is_estimated: false });
  });

  test("an estimate that is far too small does not make the count long", async () => {
    await crm.db.query("select data.define_entity('acme/crm', 'fresh', $1)", [
      { type: "object", properties: { n: { type: "integer", "x-index": true } } },
    ]);
    const insert = (n: string, records: number) =>
      crm.db.query(
        `select data.insert('acme/crm/fresh', (select jsonb_agg(jsonb_build_object('n', ${n})) from generate_series(1, $1::int) i))`,
        [records],
      );
    await crm.db.query("alter table acme_crm.fresh_jsonb set (autovacuum_enabled = false)");
    await insert("i", 1000);
    await crm.db.query("analyze acme_crm.fresh_jsonb");
    await insert("5", 10_000);
    await insert("5", 2_000);
    const fresh = find({ count: "estimated", limit: "1", filter: { n: 5 } }).replace("/contacts?", "/fresh?");
    expect((await crm.send(fresh)).json.meta).toMatchObject({ count: 10_001, count_is_estimated: true });
  });
});

describe("what one may not see is not told", () => {
  test("without the right to read there are none, and that is exact", async () => {
    for (const query of [{}, { filter: { age: { $lt: 50 } } }])
      expect(await counted(query, { as: "lee" })).toEqual({ count: 0, count_is_estimated: false });
  });
  test.each<[string, object]>([
    ["a related field", { "company.city": "town" }],
    [
      "within $or and $not",
      { $or: [{ age: 1000 }, { $not: { $not: { company: { city: { $in: ["town"] } } } } }] },
    ],
    ["back and forth", { company: { contacts: { $some: { "company.city": "town" } } } }],
  ])("a filter on a related entity one may not read estimates nothing of it: %s", async (_title, filter) => {
    expect(await counted({ filter }, { as: "kim" })).toEqual({ count: 0, count_is_estimated: false });
    expect((await counted({ filter })).count).toBeGreaterThan(0);
  });
  test("another tenant's are not there", async () => {
    expect((await crm.send(find({ count: "estimated" }), { as: "bob" })).status).toBe(404);
  });
  test("hostile values are values", async () => {
    for (const name of ["'; drop table x; --", "$1::int", "($1)[1]", "%1$I", "(InitPlan 1).col1 AND "]) {
      expect(await counted({ filter: { name } })).toEqual({ count: 0, count_is_estimated: false });
      expect((await counted({ filter: { [`address.${name}`]: "x" } })).count).toBeLessThan(1_000);
    }
  });
  test("an unknown word is refused", async () => {
    const { status, json } = await crm.send(find({ count: "about" }));
    expect([status, json.code]).toEqual([400, "invalid_count"]);
  });
});
