import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// An upsert of what is there already as it is sent changes nothing and keeps nobody waiting; who may not change it is refused.

const ACCOUNTS = { ann: "editor", bob: "editor", vic: "viewer" };
const schema = (more: object) => ({
  type: "object",
  properties: {
    code: { type: "string", "x-unique": true },
    at: { type: "string", format: "date-time" },
    n: { type: "integer", default: 7 },
  },
  ...more,
});
const AT = { sent: "2026-01-31T13:00:00+01:00", same: "2026-01-31T12:00:00Z" };

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
  for (const [name, role] of Object.entries(ACCOUNTS)) {
    await db.account(`${name}@acme.test`);
    await db.query("select tenancy.add_member('acme', $1, $2)", [`${name}@acme.test`, role]);
  }
});
afterAll(() => db.drop());

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const name = `things_${storage[0]}`;
  const own = `own_${storage[0]}`;
  const record = (code: string, more: object = {}) => ({ code, at: AT.sent, n: 1, ...more });
  const upsert = (who: string, records: unknown, entity = name, key = "{code}") =>
    db.as("acme", `${who}@acme.test`, async (client) => {
      await client.query("set lock_timeout = '700ms'");
      const { rows } = await client.query("select data.upsert($1, $2, $3) as u", [
        `acme/crm/${entity}`,
        JSON.stringify(records),
        key,
      ]);
      return (rows[0].u as { meta: object }).meta;
    });
  const rows = (entity = name) =>
    db.query(`select t.code, t.n::int, t.version, t.xmin::text from (
      select xmin, version, ${storage === "flat" ? "code, n" : "code, (data->>'n')::int as n"} from acme_crm.${entity}_${storage}) t order by 1`);

  beforeAll(async () => {
    await db.query("select data.define_entity('acme/crm', $1, $2)", [name, schema({ "x-storage": storage })]);
    await db.query("select data.define_entity('acme/crm', $1, $2)", [own, schema({ "x-storage": storage })]);
    await upsert("ann", [record("a"), record("b"), record("c")]);
    await upsert("bob", [record("a"), record("b")], own);
    await db.query("select access.define_policy('acme', $1)", [
      { name: own, effect: "deny", entities: [`crm/${own}`], actions: ["update"], condition: { code: "a" } },
    ]);
  });

  test("nothing is written, and a record that another holds is not waited for", async () => {
    const before = await rows();
    const other = await db.pool.connect();
    await other.query(`begin; select from acme_crm.${name}_${storage} where code in ('a', 'b') for update`);
    try {
      expect(await upsert("bob", [record("a", { at: AT.same }), record("b"), { code: "c" }])).toEqual({
        inserted: 0,
        updated: 0,
        unchanged: 3,
      });
      expect((await refusal(upsert("bob", [record("a"), record("b", { n: 2 })]))).code).toBe("55P03");
      // Of a list, only what changes is waited for.
      expect(await upsert("bob", [record("a"), record("c", { n: 5 }), record("d")])).toEqual({
        inserted: 1,
        updated: 1,
        unchanged: 1,
      });
    } finally {
      await other.query("rollback");
      other.release();
    }
    const after = await rows();
    expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
    expect(after.slice(2)).toMatchObject([
      { code: "c", n: 5, version: 2 },
      { code: "d", n: 1, version: 1 },
    ]);
  });

  test("a version that is not the current one is a conflict all the same", async () => {
    const failure = await refusal(upsert("ann", [record("a", { version: 9 })]));
    expect(failure.code).toBe("RH409");
    expect(await upsert("ann", [record("a", { version: 1 })])).toMatchObject({ unchanged: 1 });
  });

  test("who may not change a record does not learn that it is the same", async () => {
    const before = await rows();
    for (const n of [1, 2])
      expect((await refusal(upsert("vic", [record("a", { n })]))).code).toMatch(/^RH403|42501$/);
    // She may read this record, and change others.
    const codes = [];
    for (const n of [1, 2])
      codes.push((await refusal(upsert("ann", [record("b"), record("a", { n })], own))).code);
    expect(codes[0]).toMatch(/^RH403|42501|23505$/);
    expect(codes[1]).toBe(codes[0]);
    expect(await upsert("ann", [record("b")], own)).toMatchObject({ unchanged: 1 });
    expect(await upsert("ann", [record("b", { n: 3 })], own)).toMatchObject({ updated: 1 });
    expect(await rows()).toEqual(before);
  });

  test("a key without an index, and 3,000 records of which some are new and some changed", async () => {
    expect(await upsert("ann", [record("b")], name, "{code,at}")).toMatchObject({ unchanged: 1 });
    const many = (n: number, from: number) =>
      Array.from({ length: 3000 }, (_, i) => record(`m${i + from}`, { n: i % 10 === 0 ? n : 1 }));
    expect(await upsert("ann", many(1, 0))).toEqual({ inserted: 3000, updated: 0, unchanged: 0 });
    for (let round = 0; round < 7; round++)
      expect(await upsert("ann", many(1, 0))).toEqual({ inserted: 0, updated: 0, unchanged: 3000 });
    expect(await upsert("ann", many(2, 1000))).toEqual({ inserted: 1000, updated: 200, unchanged: 1800 });
  });
});
