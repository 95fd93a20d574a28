import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";

// An entity with many records becomes searchable while clients read and write.

const RECORDS = 12_000;
let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());

const schema = (storage: string, search?: object) => ({
  type: "object",
  "x-storage": storage,
  ...(search ? { "x-search": search } : {}),
  properties: {
    title: { type: "string", ...(search ? { "x-search": { weight: "A" } } : {}) },
    body: { type: "string", ...(search ? { "x-search": true } : {}) },
    city: { type: "string" },
  },
});
const one = async (sql: string, values: unknown[] = []) => (await crm.db.query(sql, values))[0]?.r as never;
const define = (name: string, definition: object) =>
  crm.db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
const search = (name: string, q: string) =>
  crm.send(`${base}/${name}?q=${encodeURIComponent(q)}&limit=5&count=exact&select=title`, { as: "ann" });
const titles = async (name: string, q: string) =>
  (await search(name, q)).json.data.map((r) => r.title).sort();
const operation = (name: string) =>
  one(
    "select to_jsonb(o) as r from data.operations o join data.entities e on e.id = o.entity_id where e.name = $1 order by o.created_at desc limit 1",
    [name],
  ) as Promise<{ id: string; state: string; step: string; records_done: number; records_total: number }>;
const step = async (name: string) => one("select data.run_step($1) as r", [(await operation(name)).id]);
const stepUntil = async (name: string, until: string) => {
  while ((await operation(name)).step !== until) await step(name);
};

test("the plan for few records says that they are locked while their search is filled", async () => {
  await define("leaflets", schema("jsonb"));
  await crm.db.query("select data.insert('acme/crm/leaflets', $1)", [
    JSON.stringify([{ title: "One" }, { title: "Two" }]),
  ]);
  const plan = (definition: object) =>
    one("select data.plan('acme/crm/leaflets', $1) as r", [definition]) as Promise<{
      rewrites: number;
      locks: { message: string }[];
    }>;
  const searched = await plan(schema("jsonb", { language: "english" }));
  expect([searched.rewrites, searched.locks[0]?.message]).toEqual([
    2,
    "nobody reads or writes while every record is written",
  ]);
  const unsearched = await plan({ ...schema("jsonb"), description: "Small." });
  expect([unsearched.rewrites, unsearched.locks[0]?.message]).toEqual([
    0,
    "for the moment of a catalog change",
  ]);
});

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const name = `papers_${storage}_kept`;
  const english = schema(storage, { language: "english" });
  beforeAll(async () => {
    await define(name, schema(storage));
    for (let from = 0; from < RECORDS; from += 6_000)
      await crm.db.query(
        `select data.insert($1, (select jsonb_agg(jsonb_build_object('title', 'Paper ' || i, 'body', case when i % 1000 = 7 then 'about running kangaroos' else 'about nothing' end))
           from generate_series($2::int + 1, $2::int + 6000) i), with_records => false)`,
        [`acme/crm/${name}`, from],
      );
  });

  test("the plan says that a worker does it, and that nobody waits for every record", async () => {
    const plan = (await one("select data.plan($1, $2) as r", [`acme/crm/${name}`, english])) as {
      deferred: string[];
      rewrites: number;
      locks: { message: string }[];
    };
    expect(plan.deferred).toEqual([expect.stringMatching(/ using gin \(_search\) /)]);
    expect(plan.rewrites).toBe(0);
    expect(plan.locks[0]?.message).toBe("for the moment of a catalog change");
  });

  test("until it is done a search says so, and everything else goes on", async () => {
    await define(name, english);
    expect(await operation(name)).toMatchObject({ state: "waiting", step: "begin" });
    expect(await search(name, "kangaroo")).toMatchObject({
      status: 503,
      json: { code: "search_in_preparation" },
    });
    const federated = await crm.send(`${base}/search?q=kangaroo&entities=${name}`, { as: "ann" });
    expect(federated.status).toBe(400);
    const document = await crm.send(`${base}/openapi.json`, { as: "ann" });
    expect(document.text).toContain(name);
    const made = await crm.send(`${base}/${name}`, {
      method: "POST",
      as: "ann",
      body: { title: "Early", body: "wombats ran" },
    });
    expect(made.status).toBe(201);
    expect(
      (await crm.send(`${base}/${name}?limit=1&sort=-created_at`, { as: "ann" })).json.data[0]?.title,
    ).toBe("Early");
  });

  test("writes in the middle are found in the end, with every record of before, once", async () => {
    await stepUntil(name, "copy");
    await step(name);
    const { records_done, records_total } = await operation(name);
    expect([records_done, records_total]).toEqual([2_000, RECORDS + 1]);
    const change = (title: string, body: string) =>
      crm.db.query(`update acme_crm.${name} set body = $2 where title = $1`, [title, body]);
    await change("Paper 7", "a platypus"); // filled already
    await change("Paper 11007", "an echidna"); // not yet
    await crm.db.query(`update acme_crm.${name} set city = 'Rome' where title = 'Paper 10007'`);
    await crm.db.query(`delete from acme_crm.${name} where title = 'Paper 9007'`);
    await crm.db.query("select data.insert($1, $2)", [
      `acme/crm/${name}`,
      JSON.stringify([{ title: "Late", body: "wombats run" }]),
    ]);
    await stepUntil(name, "done");
    expect(await operation(name)).toMatchObject({ state: "done" });

    const found = await search(name, "kangaroo run");
    expect(found).toMatchObject({ status: 200, json: { meta: { count: 9 } } });
    expect(await titles(name, "wombat")).toEqual(["Early", "Late"]);
    expect(await titles(name, "platypus")).toEqual(["Paper 7"]);
    expect(await titles(name, "echidna")).toEqual(["Paper 11007"]);
    expect(await titles(name, "platipus")).toEqual(["Paper 7"]); // misspelt
    expect((await search(name, "kangarooos")).json.meta).toMatchObject({ count: 9 });
    expect(await one(`select count(*)::int as r from acme_crm.${name} where version > 1`)).toBe(3);
    const plan = (
      await crm.db.query(`explain select from acme_crm.${name}_${storage} t where t._search @@ 'kangaroo'`)
    ).map((row) => row["QUERY PLAN"]);
    expect(plan.join()).toContain("__search_idx");
  });

  test("cancelled, the entity is what it was, and can be defined again", async () => {
    await define(name, schema(storage));
    await define(name, english);
    await stepUntil(name, "copy");
    await step(name);
    await crm.db.query("select data.cancel_operation($1)", [(await operation(name)).id]);
    expect(await search(name, "kangaroo")).toMatchObject({ status: 400, json: { code: "not_searchable" } });
    expect(await one("select schema ? 'x-search' as r from data.entities where name = $1", [name])).toBe(
      false,
    );
    expect(await one("select to_regclass($1) as r", [`acme_crm.${name}__words`])).toBeNull();
    await define(name, english);
    await crm.db.query("call data.run_operations()");
    expect((await search(name, "kangaroo")).json.meta).toMatchObject({ count: 9 });
  });

  test("other languages, weights and indexes in one definition are one operation", async () => {
    const changed = schema(storage, { language: "german" });
    await define(name, {
      ...changed,
      properties: { ...changed.properties, city: { type: "string", "x-index": true } },
    });
    expect((await search(name, "kangaroo")).status).toBe(503);
    await crm.db.query("call data.run_operations()");
    expect((await search(name, "kangaroos")).json.meta).toMatchObject({ count: 9 });
    expect(await one(`select count(*)::int as r from acme_crm.${name} where city = 'Rome'`)).toBe(1);
  });

  test("who may not read finds nothing, and another site's member no entity", async () => {
    const path = `${base}/${name}?q=kangaroo`;
    expect([401, 403, 404]).toContain((await crm.send(path, { as: "bob" })).status);
    expect((await crm.send(path, { as: null })).status).toBe(401);
  });
});
