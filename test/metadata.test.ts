import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

// What an author was promised of x-metadata and x-tags: a place for what no schema foresaw, found again by filters.

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
  const e = `things_${storage}s`;
  beforeAll(async () => {
    await define(e, { name: text }, { "x-storage": storage, "x-metadata": true, "x-tags": true });
    const things = [
      { name: "a", tags: ["red", "big"], metadata: { rack: { row: 7 }, label: "x", "we'ird \"key": [1] } },
      { name: "b", tags: ["big"], metadata: { label: "y", list: [1, 2] } },
      { name: "c" },
    ];
    expect((await crm.send(`${base}/${e}`, { method: "POST", body: things })).status).toBe(201);
  });

  test.each([
    [{ tags: { $contains: "red" } }, "a"],
    [{ tags: { $contains: "big" } }, "a b"],
    [{ tags: { $contains: "bi" } }, ""],
    [{ $not: { tags: { $contains: "red" } } }, "b c"],
    [{ tags: { $exists: false } }, "c"],
    [{ "metadata.label": "y" }, "b"],
    [{ "metadata.rack.row": "7" }, "a"],
    [{ metadata: { $contains: { rack: { row: 7 } } } }, "a"],
    [{ metadata: { $contains: { list: [2] } } }, "b"],
    [{ "metadata.x'); drop table data.entities; --": "1" }, ""],
    [{ tags: { $contains: "'; drop table data.entities; --" } }, ""],
  ])("filter %j finds %j", async (filter, names) => {
    const answer = await crm.send(
      `${base}/${e}?sort=name&filter=${encodeURIComponent(JSON.stringify(filter))}`,
    );
    expect([answer.status, answer.json.data?.map((row) => row.name).join(" ")]).toEqual([200, names]);
  });

  test("what was kept comes back as it was, and is changed as a whole", async () => {
    const [a] = (await crm.send(`${base}/${e}?sort=name&limit=1`)).json.data;
    expect(a).toMatchObject({
      tags: ["red", "big"],
      metadata: { rack: { row: 7 }, label: "x", "we'ird \"key": [1] },
    });
    const changed = await crm.send(`${base}/${e}/${a?.id}`, {
      method: "PATCH",
      body: { metadata: { k: null }, tags: null },
    });
    expect(changed.json).toMatchObject({ metadata: { k: null }, tags: null });
    await crm.send(`${base}/${e}/${a?.id}`, { method: "PATCH", body: a });
  });

  test.each([
    [{ tags: "red" }],
    [{ tags: [1] }],
    [{ tags: [""] }],
    [{ tags: Array(101).fill("t") }],
    [{ tags: ["x".repeat(101)] }],
    [{ metadata: "text" }],
    [{ metadata: [1] }],
  ])("%j is refused", async (body) => {
    expect((await crm.send(`${base}/${e}`, { method: "POST", body })).status).toBe(422);
  });

  test("readers and strangers do not write it", async () => {
    expect(
      (await crm.send(`${base}/${e}`, { method: "POST", as: "vic", body: { tags: ["x"] } })).status,
    ).toBe(403);
    expect((await crm.send(`${base}/${e}`, { as: "bob" })).status).toBe(404);
  });
});

test("the options come to an entity that has records, and go with a plan", async () => {
  await define("plain", { name: text });
  await crm.db.query(`select data.insert('acme/crm/plain', '{"name": "a"}')`);
  await define("plain", { name: text }, { "x-tags": true });
  await crm.db.query(`update acme_crm.plain set tags = '["x"]'`);
  expect((await refusal(define("plain", { name: text }))).detail.code).toBe("would_lose_data");
  // As an ordinary property it stays.
  await define("plain", { name: text, tags: { type: "array", items: text } });
  expect(await crm.db.query("select tags from acme_crm.plain")).toEqual([{ tags: ["x"] }]);
});

test("what data.entities holds can be defined again, and another kind of tags is refused", async () => {
  await define("again", { name: text }, { "x-tags": true, "x-metadata": true, "x-ttl": "1 day" });
  const [before] = await crm.db.query<{ schema: object; version: number }>(
    "select schema, version from data.entities where name = 'again'",
  );
  await crm.db.query("select data.define_entity('acme/crm', 'again', $1)", [before?.schema]);
  expect(await crm.db.query("select version from data.entities where name = 'again'")).toEqual([
    { version: before?.version },
  ]);
  for (const [properties, pointer] of [
    [{ tags: { type: "array", items: { type: "integer" } } }, "/properties/tags"],
    [{ tags: text }, "/properties/tags"],
    [{ metadata: text }, "/properties/metadata"],
  ] as const) {
    const failure = await refusal(define("other", properties, { "x-tags": true, "x-metadata": true }));
    expect(failure.detail.errors).toContainEqual(expect.objectContaining({ pointer }));
  }
});

test("docs/lifetimes.md is true: its examples run, in their order", async () => {
  const { readFileSync } = await import("node:fs");
  const page = readFileSync(new URL("../docs/lifetimes.md", import.meta.url), "utf8");
  const blocks = [...page.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql]) => sql as string);
  expect(blocks.length).toBeGreaterThanOrEqual(4);
  const results: unknown[] = [];
  for (const block of blocks)
    for (const statement of block.split(/;\n/).filter((s) => s.trim() !== ""))
      results.push(Object.values((await crm.db.query(statement))[0] ?? {})[0]);
  const found = results.filter((r) => Array.isArray((r as { data?: unknown })?.data)) as {
    data: Record<string, unknown>[];
  }[];
  expect(found.map((f) => f.data.length)).toEqual([1, 4, 1, 1, 0]);
  expect(results).toContainEqual(expect.objectContaining({ title: "Goodbye", version: 3 }));
});
