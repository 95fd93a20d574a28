import { spawn } from "node:child_process";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// An entity changes its storage while clients read and write, and nobody notices.

type Operation = {
  id: string;
  state: string;
  step: string;
  records_done: string;
  records_total: string;
  error: object | null;
};

const text = { type: "string" };
const people = {
  type: "object",
  required: ["name"],
  properties: {
    name: { ...text, maxLength: 200 },
    email: { ...text, "x-unique": true },
    age: { type: "integer", minimum: 0, "x-index": true },
    balance: { type: "number", format: "decimal", precision: 30, scale: 2 },
    active: { type: "boolean" },
    born: { type: "string", format: "date" },
    tags: { type: "array", items: text },
    address: { type: "object", properties: { city: text } },
    boss_id: { "x-relation": { entity: "people" } },
    firm: { ...text, "x-relation": { entity: "firms", field: "name", onDelete: "set null" } },
  },
};

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "olga@acme.test": "admin", "ann@acme.test": "editor" });
  await db.query("select data.define_entity('acme/crm', 'firms', $1)", [
    { type: "object", properties: { name: { ...text, "x-unique": true } } },
  ]);
  await db.query("select data.define_entity('acme/crm', 'people', $1)", [people]);
  await db.query("select data.define_entity('acme/crm', 'notes', $1)", [
    { type: "object", properties: { about: { "x-relation": { entity: "people", onDelete: "cascade" } } } },
  ]);
  await db.query(`select data.insert('acme/crm/firms', '[{"name": "Oslo Works"}, {"name": "Rome Works"}]')`);
  await db.query(
    `select data.insert('acme/crm/people', (select jsonb_agg(jsonb_build_object('name', 'P' || g, 'email', 'p' || g || '@x.test', 'age', g % 90,
       'balance', '12345678901234567890.12'::numeric + g, 'active', g % 2 = 0, 'born', '1980-01-01', 'tags', jsonb_build_array('a', g), 'address', '{"city": null}'::jsonb,
       'firm', 'Oslo Works')) from generate_series(1, 9000) g))`
      .replace("jsonb_build_array('a', g)", "jsonb_build_array('a', g::text)")
      .replace(`'{"city": null}'`, `'{"city": "Oslo"}'`),
  );
  await db.query(
    "update acme_crm.people set boss_id = (select min(id::text)::uuid from acme_crm.people) where age = 3",
  );
  await db.query(
    "select data.insert('acme/crm/notes', (select jsonb_agg(jsonb_build_object('about', id)) from acme_crm.people where age < 5))",
  );
});
afterAll(() => db.drop());
afterEach(async () => {
  for (const { id } of await unfinished()) await db.query("select data.cancel_operation($1)", [id]);
});

const unfinished = () =>
  db.query<Operation>("select * from data.operations where state in ('waiting', 'running')");
const operation = async (id: string) =>
  (await db.query<Operation>("select * from data.operations where id = $1", [id]))[0] as Operation;
const convert = async (storage: string) =>
  (await db.query<{ id: string }>("select (data.convert_storage('acme/crm/people', $1)).id", [storage]))[0]
    ?.id as string;
const step = async (id: string) =>
  (await db.query<{ s: string }>("select data.run_step($1) as s", [id]))[0]?.s;
async function finish(id: string) {
  for (let state = "running"; state === "running"; ) state = (await step(id)) ?? "";
  return operation(id);
}
/** Everything about every record that a client can see. */
const contents = async () =>
  db.query("select row_to_json(p.*)::jsonb::text as r from acme_crm.people p order by id");
const storages = async () =>
  (
    await db.query<{ t: string }>(
      "select table_name as t from information_schema.tables where table_schema = 'acme_crm' and table_name ~ '^people_'",
    )
  ).map((r) => r.t);

test("there and back again, with a writer running throughout, nothing is lost", async () => {
  for (const storage of ["flat", "jsonb"]) {
    const expected = new Map<string, { name: string; version: number } | null>();
    let isOver = false;
    const write = async (seed: number) => {
      for (let n = 0; !isOver; n++) {
        const email = `${storage}-${seed}-${n}@x.test`;
        const [made] = await db.query<{ r: { id: string } }>(
          "select data.insert('acme/crm/people', $1) as r",
          [{ name: "new", email, age: n }],
        );
        const id = made?.r.id as string;
        expected.set(id, { name: "new", version: 1 });
        if (n % 2 === 0) {
          await db.query("update acme_crm.people set name = 'changed' where id = $1", [id]);
          expected.set(id, { name: "changed", version: 2 });
        }
        if (n % 3 === 0) {
          await db.query("select data.delete('acme/crm/people', $1)", [id]);
          expected.set(id, null);
        }
        // Old records too, wherever the copying is.
        const [old] = await db.query<{ id: string; name: string; version: number }>(
          "update acme_crm.people set name = $1 where email = $2 returning id, name, version",
          [`${storage} ${seed} ${n}`, `p${1 + ((n * 37 + seed * 3001) % 3000) + seed * 3000}@x.test`],
        );
        if (old) expected.set(old.id, { name: old.name, version: old.version });
      }
    };
    const writers = [write(0), write(1), write(2)];
    const id = await convert(storage);
    const done = await finish(id);
    isOver = true;
    await Promise.all(writers);
    expect(done).toMatchObject({ state: "done", error: null });
    expect(Number(done.records_done)).toBeGreaterThanOrEqual(9000);
    expect(await storages()).toEqual([`people_${storage}`]);
    expect(expected.size).toBeGreaterThan(20);
    const found = new Map(
      (
        await db.query<{ id: string; name: string; version: number }>(
          "select id, name, version from acme_crm.people",
        )
      ).map(({ id: key, name, version }) => [key, { name, version }]),
    );
    for (const [key, value] of expected) expect([key, found.get(key) ?? null]).toEqual([key, value]);
  }
});

test("every value, relation and rule is what it was", async () => {
  const before = await contents();
  await finish(await convert("flat"));
  expect(await contents()).toEqual(before);
  const [plan] = await db.query<{ "QUERY PLAN": string }>(
    "explain select * from acme_crm.people where email = 'p5@x.test'",
  );
  expect(plan?.["QUERY PLAN"]).toContain("people_flat_email_key");
  const bad = (record: object) => refusal(db.query("select data.insert('acme/crm/people', $1)", [record]));
  expect((await bad({ name: "x", email: "p5@x.test" })).code).toBe("23505");
  expect((await bad({ age: -1 })).code).toBe("RH422");
  expect((await bad({ name: "x", firm: "None" })).code).toBe("23503");
  // The other way round: those who refer to it, and what it refers to.
  await db.query("delete from acme_crm.firms where name = 'Rome Works'");
  const notes = async () =>
    (await db.query<{ n: number }>("select count(*)::int as n from acme_crm.notes"))[0]?.n ?? 0;
  const [{ about } = { about: 0 }] = await db.query<{ about: number }>(
    "select count(*)::int as about from acme_crm.notes n join acme_crm.people p on p.id = n.about where p.age = 4",
  );
  const all = await notes();
  await db.query("delete from acme_crm.people where age = 4");
  expect([about > 50, await notes()]).toEqual([true, all - about]);
  expect(await db.query("select conname from pg_constraint where not convalidated")).toEqual([]);
  const flat = await contents();
  await finish(await convert("jsonb"));
  expect(await contents()).toEqual(flat);
});

test("set null reaches a flat record, whose version grows", async () => {
  await finish(await convert("flat"));
  const [{ v } = { v: 0 }] = await db.query<{ v: number }>(
    "select version as v from acme_crm.people where email = 'p7@x.test'",
  );
  await db.query("delete from acme_crm.firms where name = 'Oslo Works'");
  expect(await db.query("select firm, version from acme_crm.people where email = 'p7@x.test'")).toEqual([
    { firm: null, version: v + 1 },
  ]);
  await finish(await convert("jsonb"));
  await db.query(`select data.insert('acme/crm/firms', '{"name": "Oslo Works"}')`);
});

test("shows its progress, and is cancelled without a trace", async () => {
  const before = await contents();
  const id = await convert("flat");
  await step(id);
  await step(id);
  const seen = await operation(id);
  expect(seen).toMatchObject({ state: "running", step: "copy", records_done: "2000" });
  expect(Number(seen.records_total)).toBeGreaterThan(8000);
  // Nothing else may change the entity meanwhile.
  expect((await refusal(convert("flat"))).detail.code).toBe("operation_running");
  const other = await refusal(
    db.query("select data.define_entity('acme/crm', 'people', $1)", [{ ...people, description: "x" }]),
  );
  expect(other.detail.code).toBe("operation_running");
  await db.query("select data.cancel_operation($1)", [id]);
  expect(await operation(id)).toMatchObject({ state: "cancelled" });
  expect(await step(id)).toBe("cancelled");
  expect(await storages()).toEqual(["people_jsonb"]);
  expect(await contents()).toEqual(before);
  await db.query("update acme_crm.people set name = 'after' where email = 'p9@x.test'");
});

test("whoever works on it is killed with SIGKILL in the middle, and another one goes on", async () => {
  const id = await convert("flat");
  const script = `
    import pg from "pg";
    const client = new pg.Client({ connectionString: process.argv[1] });
    await client.connect();
    for (;;) { await client.query("select data.run_step($1)", [process.argv[2]]); console.log("step"); }`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, db.workerUrl, id], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: process.cwd(),
  });
  await new Promise<void>((resolve) => {
    let steps = 0;
    child.stdout.on("data", (chunk) => {
      steps += String(chunk).split("step").length - 1;
      if (steps >= 2) resolve();
    });
  });
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("exit", resolve));
  expect(await operation(id)).toMatchObject({ state: "running" });
  // The worker's cron finds it when nobody has worked on it for 30 s.
  await db.query("update data.operations set seen_at = now() - interval '1 minute' where id = $1", [id]);
  await db.query("delete from graphile_worker._private_jobs");
  expect(await db.query("select data.resume_operations() as n")).toEqual([{ n: 1 }]);
  expect(await db.query("select task_identifier from graphile_worker.jobs")).toEqual([
    { task_identifier: "run_operation" },
  ]);
  const before = await contents();
  expect(await finish(id)).toMatchObject({ state: "done" });
  expect(await contents()).toEqual(before);
  await finish(await convert("jsonb"));
});

test("records that no storage may hold fail it with a reason, and nothing has changed", async () => {
  const id = await convert("flat");
  await step(id);
  await db.query("alter table acme_crm.people_flat add check (age <> 88)"); // what nobody foresaw
  expect(await finish(id)).toMatchObject({ state: "failed", error: { code: "23514" } });
  expect(await storages()).toEqual(["people_jsonb"]);
});

test("dropped values come back after a conversion, in both directions", async () => {
  const schema = (properties: object) => ({ type: "object", properties });
  await db.query("select data.define_entity('acme/crm', 'dropping', $1)", [schema({ a: text, b: text })]);
  await db.query(`select data.insert('acme/crm/dropping', '{"a": "1", "b": "2"}')`);
  for (const [to, column] of [
    ["flat", "b"],
    ["jsonb", "a"],
  ] as const) {
    const keep = column === "b" ? { a: text } : { b: text };
    const [{ plan } = { plan: "" }] = await db.query<{ plan: string }>(
      "select data.plan('acme/crm/dropping', $1)->>'plan' as plan",
      [schema(keep)],
    );
    await db.query("select data.apply($1, true)", [plan]);
    const [{ v } = { v: 0 }] = await db.query<{ v: number }>(
      "select version as v from data.entities where name = 'dropping'",
    );
    const [made] = await db.query<{ id: string }>(
      "select (data.convert_storage('acme/crm/dropping', $1)).id",
      [to],
    );
    expect(await finish(made?.id as string)).toMatchObject({ state: "done" });
    await db.query("select data.rollback('acme/crm/dropping', $1)", [v - 1]);
    expect(await db.query("select a, b from acme_crm.dropping")).toEqual([{ a: "1", b: "2" }]);
  }
});

const refused: [string, string, string][] = [
  ["another storage", "select data.convert_storage('acme/crm/people', 'columnar')", "RH400"],
  ["the one it has", "select data.convert_storage('acme/crm/people', 'jsonb')", "RH409"],
  ["no entity", "select data.convert_storage('acme/crm/nobody', 'flat')", "RH404"],
  ["null", "select data.convert_storage(null, null)", "RH400"],
  ["an unknown operation", "select data.cancel_operation('00000000-0000-0000-0000-000000000000')", "RH404"],
];
test.each(refused)("%s is refused", async (_what, sql, code) => {
  expect((await refusal(db.query(sql))).code).toBe(code);
});

test("only owners and admins convert, cancel and see the progress", async () => {
  const id = await convert("flat");
  await db.as("acme", "ann@acme.test", async (client) => {
    expect((await refusal(client.query("select data.convert_storage('acme/crm/people', 'flat')"))).code).toBe(
      "RH403",
    );
    expect((await refusal(client.query("select data.cancel_operation($1)", [id]))).code).toBe("RH403");
    expect((await refusal(client.query("select data.run_step($1)", [id]))).code).toBe("42501");
    // Its errors may name values of records that a member may not read.
    expect((await client.query("select state from data.operations where id = $1", [id])).rows).toEqual([]);
  });
  await db.query("select tenancy.set_member_role('acme', 'olga@acme.test', 'admin')");
  await db.as("acme", "olga@acme.test", async (client) => {
    expect((await client.query("select state from data.operations where id = $1", [id])).rows).toEqual([
      { state: "waiting" },
    ]);
  });
});

test("the view stays the one it was, and what is searched is filled batch by batch, not while all wait", async () => {
  await db.query("select data.define_entity('acme/crm', 'articles', $1)", [
    {
      type: "object",
      properties: { title: { ...text, "x-search": { weight: "A" } }, body: { ...text, "x-search": true } },
      "x-search": { language: "english" },
    },
  ]);
  await db.query(
    "select data.insert('acme/crm/articles', (select jsonb_agg(jsonb_build_object('title', 'Harvest ' || g, 'body', 'the farmers are sowing')) from generate_series(1, 3000) g))",
  );
  const view = () => db.query("select 'acme_crm.articles'::regclass::oid::int as oid");
  const found = async (words: string) =>
    (
      await db.query<{ n: number }>(
        "select jsonb_array_length(data.find('acme/crm/articles', $1)->'data') as n",
        [{ q: words, limit: 50 }],
      )
    )[0]?.n;
  const before = await view();
  for (const storage of ["flat", "jsonb"]) {
    const [{ id } = { id: "" }] = await db.query<{ id: string }>(
      "select (data.convert_storage('acme/crm/articles', $1)).id",
      [storage],
    );
    while ((await operation(id)).step !== "switch") await step(id);
    await db.query("select data.insert('acme/crm/articles', $1)", [{ title: `Meanwhile ${storage}` }]);
    const rows = () =>
      db.query(
        `select md5(string_agg(xmin::text, ' ' order by id)) as writers, count(_search)::int as filled from acme_crm.articles_${storage}`,
      );
    const written = await rows();
    expect(await finish(id)).toMatchObject({ state: "done", error: null });
    expect(await rows()).toEqual(written);
    expect(await view()).toEqual(before);
    await db.query("select data.insert('acme/crm/articles', $1)", [{ title: `Afterwards ${storage}` }]);
    await db.query("update acme_crm.articles set body = 'combined ' || $1 where title = 'Harvest 7'", [
      storage,
    ]);
    expect([
      await found("sow"),
      await found(`meanwhile ${storage}`),
      await found(`afterwards ${storage}`),
      await found(`afterwads ${storage}`),
      await found(`combine ${storage}`),
    ]).toEqual([50, 1, 1, 1, 1]);
  }
});
