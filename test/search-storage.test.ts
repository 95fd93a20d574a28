import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

// Search goes on through every change of a storage and of a definition.

type Page = { data: { name: string; _snippets: Record<string, string> }[] };

let db: TestDatabase;
const text = { type: "string" };
const searched = { ...text, "x-search": true };
const define = (name: string, properties: object, more: object = {}) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, { type: "object", properties, ...more }]);
const insert = (name: string, records: object[]) =>
  db.query("select jsonb_array_length(data.insert($1, $2))", [`acme/crm/${name}`, JSON.stringify(records)]);
const find = async (entity: string, q: string): Promise<Page["data"]> =>
  (
    await db.query<{ r: Page }>("select data.find($1, $2) as r", [
      `acme/crm/${entity}`,
      { q, sort: [{ field: "name" }] },
    ])
  )[0]?.r.data ?? [];
const names = async (entity: string, q: string) => (await find(entity, q)).map((row) => row.name);
const vocabulary = async (entity: string) =>
  (await db.query(`select pg_relation_filenode('acme_crm.${entity}__words') as n`))[0]?.n;
const finish = async (call: string) => {
  const [operation] = await db.query<{ id: string }>(`select id from ${call}`);
  await db.query("call data.run_operations()");
  const [done] = await db.query("select state, error from data.operations where id = $1", [operation?.id]);
  expect(done).toMatchObject({ state: "done", error: null });
};

beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "ann@acme.test": "editor" });
});
afterAll(() => db.drop());

const properties = {
  name: { ...text, "x-search": { weight: "A" } },
  tags: { type: "array", items: text, "x-search": true },
  address: { type: "object", properties: { city: text }, "x-search": true },
  age: { type: "integer" },
};
const people = [
  { name: "Jon Smith", tags: ["runner"], address: { city: "Oslo" }, age: 1 },
  { name: "Zoe", tags: ["sailor"], age: 2 },
];

describe.each(["jsonb", "flat"])("stored as %s", (storage) => {
  test("records are found, also misspelt, changed and deleted", async () => {
    const entity = `people_${storage}_like`;
    await define(entity, properties, { "x-storage": storage });
    await insert(entity, people);
    for (const q of ["jon", "smiht", "oslo", "runner"]) expect(await names(entity, q)).toEqual(["Jon Smith"]);
    await db.query(`update acme_crm.${entity} set age = 3`);
    expect(await names(entity, "sailor")).toEqual(["Zoe"]);
    await db.query(`update acme_crm.${entity} set tags = '["pilot"]' where name = 'Zoe'`);
    expect([await names(entity, "sailor"), await names(entity, "piolt")]).toEqual([[], ["Zoe"]]);
    const [row] = await db.query(`select to_jsonb(p) as r from acme_crm.${entity} p limit 1`);
    expect(Object.keys(row?.r as object)).not.toContain("_search");
    await db.query(`delete from acme_crm.${entity}`);
    expect(await names(entity, "jon")).toEqual([]);
  });
});

test("a conversion to flat and back keeps what is found", async () => {
  await define("folk", properties);
  await insert("folk", people);
  for (const storage of ["flat", "jsonb"]) {
    await finish(`data.convert_storage('acme/crm/folk', '${storage}')`);
    expect([await names("folk", "jon"), await names("folk", "slior"), await names("folk", "sailr")]).toEqual([
      ["Jon Smith"],
      [],
      ["Zoe"],
    ]);
    await insert("folk", [{ name: `New in ${storage}` }]);
    expect(await names("folk", `new ${storage}`)).toEqual([`New in ${storage}`]);
    const found = await db.as("acme", "ann@acme.test", (client) =>
      client.query("select data.find('acme/crm/folk', '{\"q\": \"zoe\"}') -> 'data' as r"),
    );
    expect(found.rows[0].r).toMatchObject([{ name: "Zoe", _snippets: { name: "<mark>Zoe</mark>" } }]);
  }
});

test.each(["jsonb", "flat"])(
  "renames, conversions, drops and compaction are followed: %s",
  async (storage) => {
    const entity = `changing_${storage}_like`;
    const more = { "x-storage": storage };
    const apply = async (next: object) => {
      const [plan] = await db.query<{ id: string }>("select (data.plan($1, $2) ->> 'plan')::uuid as id", [
        `acme/crm/${entity}`,
        { type: "object", properties: next, ...more },
      ]);
      await db.query("select data.apply($1, true)", [plan?.id]);
    };
    await define(entity, { name: searched, code: { type: "integer" } }, more);
    await insert(entity, [{ name: "alpha", code: 4711 }]);
    await define(entity, { name: searched, code: { type: "integer" }, title: text }, more);
    const before = await vocabulary(entity);
    await insert(entity, [{ name: "alpha two", code: 5, title: "untouched" }]);
    await define(entity, { name: searched, code: { type: "integer" }, title: text, more: text }, more);
    expect(await vocabulary(entity)).toBe(before); // nothing that is searched has changed

    await apply({ name: searched, code: searched, title: text, more: text });
    expect(await names(entity, "4711")).toEqual(["alpha"]);
    await apply({
      name: searched,
      heading: { ...searched, "x-renamed-from": "title" },
      code: searched,
      more: text,
    });
    expect(await names(entity, "untouched")).toEqual(["alpha two"]);
    await db.query(`update acme_crm.${entity} set more = 'x'`);
    expect([await names(entity, "untouchd"), await names(entity, "4711")]).toEqual([
      ["alpha two"],
      ["alpha"],
    ]);
    await apply({ name: searched, heading: searched, more: text });
    expect([await names(entity, "4711"), await names(entity, "alpha")]).toEqual([[], ["alpha", "alpha two"]]);
    await finish(`data.compact('acme/crm/${entity}')`);
    expect(await names(entity, "untouched")).toEqual(["alpha two"]);
    await insert(entity, [{ name: "after", heading: "everything" }]);
    expect(await names(entity, "everything")).toEqual(["after"]);
  },
);
