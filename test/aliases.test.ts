import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

// Expand and contract: a property gets a new name while clients of the old one go on, and loses the old one when they are gone.

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm.stop());

const text = { type: "string" };
const define = (name: string, properties: object, more: object = {}) =>
  crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", properties, ...more },
  ]);

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const e = `people_${storage.slice(0, 1)}`;
  const base = `/api/v1/sites/acme/apps/crm/${e}`;
  const more = { "x-storage": storage };
  let id = "";
  const seen = async () => {
    const { name, full_name } = (await crm.send(`${base}/${id}`)).json as unknown as Record<string, string>;
    return [name, full_name];
  };
  const patch = (body: object) => crm.send(`${base}/${id}`, { method: "PATCH", body });

  test("expand: both names are read, filtered and sorted by, and either is written", async () => {
    await define(e, { name: { ...text, "x-index": true }, note: text }, more);
    id = (await crm.send(base, { method: "POST", body: { name: "Ada" } })).json.id;
    await define(
      e,
      {
        full_name: { ...text, "x-index": true, "x-renamed-from": "name" },
        name: { ...text, "x-alias": "full_name", deprecated: true },
        note: text,
      },
      { ...more, required: ["full_name"] },
    );
    expect(await seen()).toEqual(["Ada", "Ada"]);
    await patch({ name: "Old client" });
    expect(await seen()).toEqual(["Old client", "Old client"]);
    await patch({ full_name: "New client" });
    expect(await seen()).toEqual(["New client", "New client"]);
    const list = await crm.send(`${base}?filter=${encodeURIComponent('{"name": "New client"}')}&sort=name`);
    expect(list.json.data).toHaveLength(1);
    const made = await crm.send(base, {
      method: "POST",
      body: [{ name: "By the old name" }, { full_name: "By the new" }],
    });
    expect(made.status).toBe(201);
    await crm.db.query(`insert into acme_crm.${e} (name) values ('By psql')`);
    await crm.db.query(`update acme_crm.${e} set name = 'By psql again' where full_name = 'By psql'`);
    expect(
      await crm.db.query(`select name from acme_crm.${e} where full_name like 'By%' order by 1`),
    ).toEqual([{ name: "By psql again" }, { name: "By the new" }, { name: "By the old name" }]);
  });

  test("a record that was read is sent back whole, and whichever name was changed wins", async () => {
    const {
      id: _id,
      created_at: _c,
      updated_at: _u,
      created_by: _b,
      ...read
    } = (await crm.send(`${base}/${id}`)).json as unknown as Record<string, unknown>;
    const put = (body: object) => crm.send(`${base}/${id}`, { method: "PUT", body });
    expect((await put({ ...read, version: undefined, name: "changed by old" })).status).toBe(200);
    expect(await seen()).toEqual(["changed by old", "changed by old"]);
    expect((await put({ name: "changed by old", full_name: "changed by new" })).status).toBe(200);
    expect(await seen()).toEqual(["changed by new", "changed by new"]);
    const both = await put({ name: "one", full_name: "two" });
    expect([both.status, both.text]).toEqual([422, expect.stringContaining("/name")]);
    const missing = await crm.send(base, { method: "POST", body: [{ note: "x" }] });
    expect([missing.status, missing.text]).toEqual([422, expect.stringContaining("/0/full_name")]);
    const upserted = await crm.db.query("select data.upsert($1, $2, '{id}')->'meta' as r", [
      `acme/crm/${e}`,
      JSON.stringify([{ id, name: "upserted" }]),
    ]);
    expect(upserted).toEqual([{ r: { inserted: 0, updated: 1, unchanged: 0 } }]);
    expect(await seen()).toEqual(["upserted", "upserted"]);
  });

  test("contract: dropping the old name loses nothing", async () => {
    await define(
      e,
      { full_name: { ...text, "x-index": true }, note: text },
      { ...more, required: ["full_name"] },
    );
    expect(await seen()).toEqual([undefined, "upserted"]);
    expect((await patch({ name: "late" })).status).toBe(422);
  });
});

const wrong: [string, object][] = [
  ["nothing there", { a: { ...text, "x-alias": "b" } }],
  ["another alias", { a: { ...text, "x-alias": "b" }, b: { ...text, "x-alias": "c" }, c: text }],
  ["itself", { a: { ...text, "x-alias": "a" } }],
  ["another type", { a: { ...text, "x-alias": "b" }, b: { type: "integer" } }],
  ["an index", { a: { ...text, "x-alias": "b", "x-index": true }, b: text }],
  ["SQL", { a: { ...text, "x-alias": `b"; drop table data.plans; --` }, b: text }],
  ["a number", { a: { ...text, "x-alias": 1 }, b: text }],
];
test.each(wrong)("an alias of %s is refused", async (_what, properties) => {
  expect((await refusal(define("wrong", properties))).code).toBe("RH400");
});

test("a property that holds values does not become an alias without saying that they are lost", async () => {
  await define("holding", { a: text, b: text });
  expect((await refusal(define("holding", { a: { ...text, "x-alias": "b" }, b: text }))).detail.code).toBe(
    "would_lose_data",
  );
});
