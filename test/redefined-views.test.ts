import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

// Who queries an entity's view while its definition changes notices nothing, as long as the columns they know stay.

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "ann@acme.test": "admin" });
});
afterAll(() => db.drop());

const text = { type: "string" };
const define = (name: string, properties: object, more: object = {}) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, { type: "object", properties, ...more }]);
const view = async (name: string) =>
  (
    await db.query<{ oid: number; columns: string[] }>(
      `select attrelid::int as oid, array_agg(attname::text order by attnum) as columns from pg_attribute
       where attrelid = to_regclass($1) and attnum > 0 group by 1`,
      [`acme_crm.${name}`],
    )
  )[0];

test.each(["jsonb", "flat"])(
  "50 redefinitions in a row break no statement of those who read and write, in %s storage",
  async (storage) => {
    const name = `busy_${storage[0]}`;
    const options = { "x-storage": storage, "x-soft-delete": true };
    await define(name, { city: text, n: { type: "integer" } }, options);
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { city: "Oslo", n: 0 }]);
    const before = await view(name);
    let isOver = false;
    const counts = [0, 0, 0];
    const client = (which: number, statement: string, prepared?: string) =>
      db.as("acme", "ann@acme.test", async (session) => {
        while (!isOver) {
          const { rows } = await session.query({ text: statement, ...(prepared && { name: prepared }) });
          expect(rows[0]).toMatchObject({ city: "Oslo" });
          counts[which] = (counts[which] ?? 0) + 1;
        }
      });
    const clients = [
      client(0, `select * from acme_crm.${name} where city = 'Oslo'`),
      client(1, `select city, n from acme_crm.${name} where city = 'Oslo'`, `known_${name}`),
      client(2, `update acme_crm.${name} set n = n + 1 where city = 'Oslo' returning city, n`),
    ];
    const done = Promise.all(clients);
    const extra: Record<string, object> = {};
    for (let i = 0; i < 50; i++) {
      if (i % 10 === 3) extra[`added_${i}`] = text;
      const city = [
        text,
        { ...text, "x-index": true },
        { ...text, "x-unique": true },
        { ...text, maxLength: 100 + i },
      ][i % 4];
      await define(name, { city, n: { type: "integer", description: `${i}` }, ...extra }, options);
      await Promise.race([done, new Promise((next) => setTimeout(next, 10))]);
    }
    isOver = true;
    await done;
    expect(Math.min(...counts)).toBeGreaterThan(0);
    expect(await db.query(`select n::int from acme_crm.${name}`)).toEqual([{ n: counts[2] }]);
    const after = await view(name);
    expect(after?.oid).toBe(before?.oid);
    expect(after?.columns).toEqual([
      ...(before?.columns ?? []),
      "added_3",
      "added_13",
      "added_23",
      "added_33",
      "added_43",
    ]);
    // What was appended is written and read like the rest.
    await db.query("select data.insert($1, $2)", [
      `acme/crm/${name}`,
      { city: "Rome", added_3: "x", added_43: "y" },
    ]);
    expect(
      await db.query(`select city, added_3, added_43, version from acme_crm.${name} where city = 'Rome'`),
    ).toEqual([{ city: "Rome", added_3: "x", added_43: "y", version: 1 }]);
    expect(
      (
        await db.query<{ f: { data: object[] } }>("select data.find($1, $2) as f", [
          `acme/crm/${name}`,
          { filter: { added_3: "x" } },
        ])
      )[0]?.f.data,
    ).toEqual([expect.objectContaining({ city: "Rome", added_3: "x", added_43: "y" })]);
  },
);

test.each([
  ["is added", { a: text, b: text, c: text }, true],
  ["loses its index", { a: text, b: text }, true],
  [
    "is renamed, the old name being an alias",
    {
      a: { ...text, "x-index": true },
      bb: { ...text, "x-renamed-from": "b" },
      b: { ...text, "x-alias": "bb" },
    },
    true,
  ],
  ["is dropped", { a: { ...text, "x-index": true } }, false],
  ["is renamed", { a: { ...text, "x-index": true }, bb: { ...text, "x-renamed-from": "b" } }, false],
  ["is converted", { a: { ...text, "x-index": true }, b: { type: "integer" } }, false],
  ["is converted, and was indexed", { a: { type: "integer", "x-index": true }, b: text }, false],
])(
  "the plan says whether the view stays when a property %s, and so it is, in both storages",
  async (what, wanted, stays) => {
    for (const storage of ["jsonb", "flat"]) {
      const name = `${what.replace(/[^a-z]+/g, "_")}_${storage[0]}`;
      const options = { "x-storage": storage };
      await define(name, { a: { ...text, "x-index": true }, b: text }, options);
      await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { a: "1", b: "2" }]);
      const before = await view(name);
      const [{ p } = { p: { plan: "", locks: [] as { relation: string; message: string }[] } }] =
        await db.query<{
          p: { plan: string; locks: { relation: string; message: string }[] };
        }>("select data.plan($1, $2) as p", [
          `acme/crm/${name}`,
          { type: "object", properties: wanted, ...options },
        ]);
      expect(p.locks.find(({ relation }) => relation === `acme_crm.${name}`)?.message).toMatch(
        stays ? /^the view is replaced where it stands$/ : /^the view is made anew/,
      );
      await db.query("select data.apply($1, true)", [p.plan]);
      const after = await view(name);
      expect(after?.oid === before?.oid).toBe(stays);
      expect([...(after?.columns ?? [])].sort()).toEqual(
        ["id", ...Object.keys(wanted), "created_at", "updated_at", "version", "created_by"].sort(),
      );
      const [record] = await db.query(`update acme_crm.${name} set a = '3' returning a::text as a, version`);
      expect(record).toEqual({ a: "3", version: 2 });
    }
  },
);
