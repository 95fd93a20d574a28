import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { startWorker } from "../server/worker/worker.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";
import { type Operation, operations } from "./harness/operations.ts";

// An entity with many records gets an index while clients read and write.

const RECORDS = 12_000;
const text = { type: "string" };
const properties = { name: text, city: text, age: { type: "integer" } };
const schema = (changed: object = {}, more: object = {}) => ({
  type: "object",
  properties: { ...properties, ...changed },
  ...more,
});
const indexed = { ...text, "x-index": true };

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "olga@acme.test": "admin", "ann@acme.test": "editor" });
});
afterAll(() => db.drop());
afterEach(() => cancelAll());

const define = (name: string, definition: object) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
const fill = async (name: string, count = RECORDS) => {
  for (let from = 1; from <= count; from += 6000) {
    await db.query(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('name', 'N' || i, 'city', 'City ' || i % 500, 'age', i % 90))
         from generate_series($2::int, least($2::int + 5999, $3::int)) i))`,
      [`acme/crm/${name}`, from, count],
    );
  }
};
const make = async (name: string, more: object = {}) => {
  await define(name, schema({}, more));
  await fill(name);
};
const started = async (name: string) =>
  (
    await db.query<Operation>(
      "select o.* from data.operations o join data.entities e on e.id = o.entity_id where e.name = $1 and o.state in ('waiting', 'running')",
      [name],
    )
  )[0] as Operation;
const operation = async (id: string) =>
  (await db.query<Operation>("select * from data.operations where id = $1", [id]))[0] as Operation;
const { step, cancelAll } = operations(() => db);
async function finish(id: string) {
  for (let state = "running"; state === "running"; ) state = await step(id);
  return operation(id);
}
async function until(id: string, wanted: string) {
  while ((await operation(id)).step !== wanted) await step(id);
}
/** What is there of an entity: its columns and indexes, and what its definition says. */
const shape = async (name: string) => ({
  columns: (
    await db.query<{ c: string }>(
      "select attname as c from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by 1",
      [`acme_crm.${name}_jsonb`],
    )
  ).map(({ c }) => c),
  indexes: (
    await db.query<{ d: string }>(
      "select indexdef as d from pg_indexes where schemaname = 'acme_crm' and tablename = $1 || '_jsonb' order by indexname",
      [name],
    )
  ).map(({ d }) => d),
  schema: (await db.query("select schema from data.entities where name = $1", [name]))[0],
  fields: await db.query(
    "select f.name, f.is_promoted, f.is_indexed, f.is_unique, f.is_building from data.fields f join data.entities e on e.id = f.entity_id where e.name = $1 order by 1",
    [name],
  ),
});
const indexOn = async (name: string, field: string) =>
  (await shape(name)).indexes.filter((index) => index.includes(`(${field}, created_at, id)`));
/** Records whose column is not what their data says. */
const wrong = async (name: string) =>
  (
    await db.query<{ n: number }>(
      `select count(*)::int as n from acme_crm.${name}_jsonb where city is distinct from data->>'city'`,
    )
  )[0]?.n;
const plan = (name: string) =>
  db.as("acme", "ann@acme.test", async (client) => {
    const { rows } = await client.query(
      `explain (costs off) select * from acme_crm.${name} where city = 'City 7'`,
    );
    return rows.map((row) => row["QUERY PLAN"]).join("\n") as string;
  });

test("a definition of a small entity builds its index at once", async () => {
  await define("small", schema());
  await fill("small", 500);
  await define("small", schema({ city: indexed }));
  expect(await started("small")).toBeUndefined();
  expect(await indexOn("small", "city")).toHaveLength(1);
  expect(await wrong("small")).toBe(0);
});

test("a large one gets it from a worker while clients write, and then uses it", async () => {
  await make("people");
  const expected = new Map<string, string | null>();
  let isOver = false;
  let written = 0;
  const write = async (seed: number) => {
    for (let n = 0; !isOver; n++) {
      const city = `New ${seed} ${n}`;
      const [made] = await db.query<{ r: { id: string } }>("select data.insert('acme/crm/people', $1) as r", [
        { name: "new", city },
      ]);
      expected.set(made?.r.id as string, city);
      const [old] = await db.query<{ id: string }>(
        "update acme_crm.people set city = $1 where name = $2 returning id",
        [n % 4 ? city : null, `N${1 + ((n * 37 + seed * 4001) % 6000) + seed * 6000}`],
      );
      if (old) expected.set(old.id, n % 4 ? city : null);
      if (n % 5 === 0) {
        await db.query("select data.delete('acme/crm/people', $1)", [made?.r.id]);
        expected.delete(made?.r.id as string);
      }
      written++;
    }
  };
  const [before] = await db.query<{ version: number }>(
    "select version from data.entities where name = 'people'",
  );
  await define("people", schema({ city: indexed }));
  const writers = [write(0), write(1)];
  const { id, kind } = await started("people");
  expect(kind).toBe("build_index");
  // Until it is done, the view reads data, and the column is nobody's.
  expect(await plan("people")).not.toContain("city_idx");
  const worker = new pg.Pool({ connectionString: db.workerUrl, max: 4 });
  worker.on("error", () => {});
  worker.on("connect", (client) => client.on("error", () => {}));
  const running = await startWorker(worker, pino({ level: "silent" }));
  const seen = new Set<string>();
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(5)) {
    const now = await operation(id);
    seen.add(now.records_done);
    if (now.state !== "running" && now.state !== "waiting") break;
  }
  await running.stop();
  await worker.end();
  const done = await operation(id);
  isOver = true;
  await Promise.all(writers);
  expect(done).toMatchObject({ state: "done", error: null });
  expect(Number(done.records_done)).toBeGreaterThanOrEqual(RECORDS);
  expect(Number(done.records_total)).toBeGreaterThanOrEqual(RECORDS);
  expect(seen.size).toBeGreaterThan(2);
  expect(written).toBeGreaterThan(2);
  expect(await wrong("people")).toBe(0);
  // PostgreSQL does not use it for snapshots that are older than its last changed rows: not at once, where others are at work.
  for (const end = Date.now() + 60_000; !/city_idx/.test(await plan("people")) && Date.now() < end; )
    await sleep(50);
  expect(await plan("people")).toMatch(/city_idx/);
  const now = await db.query<{ id: string; city: string | null }>(
    "select id, city from acme_crm.people where id = any ($1)",
    [[...expected.keys()]],
  );
  expect(new Map(now.map((row) => [row.id, row.city]))).toEqual(expected);
  const [after] = await db.query<{ version: number }>(
    "select version from data.entities where name = 'people'",
  );
  expect(after?.version).toBe((before?.version ?? 0) + 1);
  await define("people", schema());
  expect(await indexOn("people", "city")).toEqual([]);
  expect((await shape("people")).columns).not.toContain("city");
});

test("the plan of such a definition says what the worker will do, and applying it does it", async () => {
  await make("planned");
  const [{ p } = { p: { plan: "", deferred: [""], statements: [""] } }] = await db.query<{
    p: { plan: string; deferred: string[]; statements: string[] };
  }>("select data.plan('acme/crm/planned', $1) as p", [
    schema({ city: indexed }, { "x-indexes": [{ fields: ["age", "-name"], where: { age: { $gt: 30 } } }] }),
  ]);
  expect(p.deferred).toEqual([
    expect.stringMatching(/^create index if not exists planned_city_idx /),
    expect.stringMatching(/ \(age, name desc, id desc\) where /),
  ]);
  expect(p.statements.join("\n")).not.toMatch(/create index|update /);
  await db.query("select data.apply($1)", [p.plan]);
  const { id, arguments: given } = await started("planned");
  expect(given.statements).toEqual(p.deferred);
  expect(await finish(id)).toMatchObject({ state: "done" });
  expect(await indexOn("planned", "city")).toHaveLength(1);
  const partial = await db.as("acme", "ann@acme.test", (client) =>
    client.query(
      "explain (costs off) select * from acme_crm.planned where age > 30 order by age, name desc, id desc limit 5",
    ),
  );
  expect(JSON.stringify(partial.rows)).toMatch(/Index Scan using planned_ix_/);
});

test("a role's condition on the field holds all the time, and reads the column when it is done", async () => {
  await make("ruled");
  await db.account("lena@acme.test");
  await db.query("select access.define_role('acme', $1)", [
    { name: "local", permissions: [{ permission: "ruled:read", condition: { city: "City 7" } }] },
  ]);
  await db.query("select tenancy.add_member('acme', 'lena@acme.test', 'local')");
  const seen = () =>
    db.as("acme", "lena@acme.test", async (client) => {
      const { rows } = await client.query("select distinct city from acme_crm.ruled");
      const { rows: steps } = await client.query("explain (costs off) select * from acme_crm.ruled");
      return [rows, /[( ]city = 'City 7'/.test(JSON.stringify(steps))];
    });
  const theirs = [{ city: "City 7" }];
  expect(await seen()).toEqual([theirs, false]);
  await define("ruled", schema({ city: indexed }));
  const { id } = await started("ruled");
  await until(id, "switch");
  expect(await seen()).toEqual([theirs, false]);
  expect(await finish(id)).toMatchObject({ state: "done", error: null });
  expect(await seen()).toEqual([theirs, true]);
  await define("ruled", schema());
  expect(await seen()).toEqual([theirs, false]);
});

test("a plan made when the entity was small is not applied when it is large", async () => {
  await define("grown", schema());
  const [{ p } = { p: "" }] = await db.query<{ p: string }>(
    "select data.plan('acme/crm/grown', $1)->>'plan' as p",
    [schema({ city: indexed })],
  );
  await fill("grown");
  const failure = await refusal(db.query("select data.apply($1)", [p]));
  expect(failure).toMatchObject({ code: "RH409", detail: { code: "plan_outdated" } });
});

test("flat storage gets its index from a worker too", async () => {
  await make("flat_people", { "x-storage": "flat" });
  await define("flat_people", schema({ city: indexed }, { "x-storage": "flat" }));
  const { id } = await started("flat_people");
  expect(await plan("flat_people")).not.toContain("city_idx");
  expect(await finish(id)).toMatchObject({ state: "done" });
  await db.query("analyze acme_crm.flat_people_flat");
  expect(await plan("flat_people")).toMatch(/city_idx/);
});

test.each(["index", "copy", "switch"])(
  "cancelled before step %s, the entity is as it was, and can be begun again",
  async (at) => {
    const name = `cancelled_${at}`;
    await make(name);
    const before = await shape(name);
    await define(name, schema({ city: indexed, age: { type: "integer", "x-index": true } }));
    const { id } = await started(name);
    await until(id, at);
    await db.query(
      "update acme_crm.cancelled_index set city = 'Oslo' where name = 'N1'".replace("cancelled_index", name),
    );
    expect((await refusal(define(name, schema({ extra: text })))).detail.code).toBe("operation_running");
    await define(name, schema({ city: indexed, age: { type: "integer", "x-index": true } })); // the same again is fine
    await db.query("select data.cancel_operation($1)", [id]);
    expect(await shape(name)).toEqual(before);
    expect(await db.query(`select city from acme_crm.${name} where name = 'N1'`)).toEqual([{ city: "Oslo" }]);
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "after", city: "Rome" }]);
    await define(name, schema({ city: indexed }));
    expect(await finish((await started(name)).id)).toMatchObject({ state: "done" });
    expect(await wrong(name)).toBe(0);
  },
);

test("what nobody has worked on for a while is given to a worker again", async () => {
  await make("orphaned");
  await define("orphaned", schema({ city: indexed }));
  const { id } = await started("orphaned");
  await until(id, "copy");
  await db.query("select graphile_worker.remove_job('operation/' || $1)", [id]);
  await db.query("update data.operations set seen_at = now() - interval '31 s' where id = $1", [id]);
  const worker = new pg.Pool({ connectionString: db.workerUrl, max: 4 });
  await worker.query("select data.resume_operations()");
  worker.on("error", () => {});
  worker.on("connect", (client) => client.on("error", () => {}));
  const running = await startWorker(worker, pino({ level: "silent" }));
  for (const end = Date.now() + 30_000; Date.now() < end && (await operation(id)).state !== "done"; )
    await sleep(20);
  await running.stop();
  await worker.end();
  expect(await operation(id)).toMatchObject({ state: "done" });
});

test("a writer that holds a record delays its batch, and is never the one that is stopped", async () => {
  await make("held");
  await define("held", schema({ city: indexed }));
  const { id } = await started("held");
  await until(id, "copy");
  const writer = await db.pool.connect();
  await writer.query("begin");
  await writer.query("update acme_crm.held set city = 'Held' where name = 'N5'");
  expect(await step(id)).toBe("running");
  expect((await operation(id)).records_done).toBe("0");
  await writer.query("commit");
  writer.release();
  expect(await finish(id)).toMatchObject({ state: "done" });
  expect(await db.query("select city from acme_crm.held_jsonb where data->>'name' = 'N5'")).toEqual([
    { city: "Held" },
  ]);
});

describe("a unique index", () => {
  test("is enforced when it is done", async () => {
    await make("unique_done");
    await define("unique_done", schema({ name: { ...text, "x-unique": true } }));
    expect(await finish((await started("unique_done")).id)).toMatchObject({ state: "done" });
    const failure = await refusal(
      db.query("select data.insert('acme/crm/unique_done', $1)", [{ name: "N1" }]),
    );
    expect(failure.code).toBe("23505");
    const { fields } = await shape("unique_done");
    expect(fields).toContainEqual(
      expect.objectContaining({ name: "name", is_unique: true, is_building: false }),
    );
  });

  test.each(["jsonb", "flat"])(
    "that meets duplicates in %s storage fails with them, and the entity is as it was",
    async (storage) => {
      const name = `doubled_${storage === "flat" ? "f" : "j"}`;
      await make(name, { "x-storage": storage });
      await db.query(`update acme_crm.${name} set name = 'Twice' where name in ('N11000', 'N11900')`);
      const before = await shape(name);
      await define(name, schema({ name: { ...text, "x-unique": true } }, { "x-storage": storage }));
      const failed = await finish((await started(name)).id);
      expect(failed.state).toBe("failed");
      expect(failed.error).toMatchObject({
        code: "RH409",
        errors: [{ pointer: "/name", message: "is the same in 2 records" }],
      });
      expect(await shape(name)).toEqual(before);
      await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "Twice" }]);
      expect(await db.query(`select count(*)::int as n from acme_crm.${name} where name = 'Twice'`)).toEqual([
        { n: 3 },
      ]);
    },
  );
});

test("a value too long for an index fails the operation and nothing else", async () => {
  await make("long");
  const before = await shape("long");
  const [long] = await db.query("select string_agg(md5(i::text), '') as s from generate_series(1, 30000) i");
  await db.query("update acme_crm.long set city = $1 where name = 'N11000'", [long?.s]);
  await define("long", schema({ city: indexed }));
  const failed = await finish((await started("long")).id);
  expect(failed).toMatchObject({ state: "failed", error: { code: "54000" } });
  expect(await shape("long")).toEqual(before);
  expect(await db.query("select length(city) as n from acme_crm.long where name = 'N11000'")).toEqual([
    { n: 960_000 },
  ]);
});

test("records of an earlier definition are indexed as what they are now", async () => {
  await make("older");
  const { city, ...rest } = properties;
  const [{ p } = { p: "" }] = await db.query<{ p: string }>(
    "select data.plan('acme/crm/older', $1)->>'plan' as p",
    [{ type: "object", properties: { ...rest, town: { ...city, "x-renamed-from": "city" } } }],
  );
  await db.query("select data.apply($1)", [p]);
  await define("older", { type: "object", properties: { ...rest, town: indexed } });
  expect(await finish((await started("older")).id)).toMatchObject({ state: "done" });
  expect(await db.query("select count(*)::int as n from acme_crm.older where town = 'City 7'")).toEqual([
    { n: RECORDS / 500 },
  ]);
});

test.each(["jsonb", "flat"])(
  "in %s storage an entity with every other option gets and loses an index as well",
  async (storage) => {
    const options = {
      "x-storage": storage,
      "x-soft-delete": true,
      "x-history": true,
      "x-ttl": "3650 days",
      "x-cache-ttl": 60,
      "x-unique": [["name", "age"]],
      "x-rules": [{ rule: "age >= 0", message: "is an age" }],
    };
    const searched = { name: { ...text, "x-search": true } };
    const twice = { twice: { type: "integer", "x-computed": "age * 2" } };
    const name = `optioned_${storage[0]}`;
    await define(name, schema({ ...searched, ...twice }, options));
    await fill(name);
    const wanted = schema({ ...searched, ...twice, city: indexed }, options);
    await define(name, wanted);
    await db.query("select data.cancel_operation($1)", [(await started(name)).id]);
    await define(name, wanted);
    expect(await finish((await started(name)).id)).toMatchObject({ state: "done", error: null });
    await db.query(`analyze acme_crm.${name}_${storage}`);
    expect(await plan(name)).toMatch(/city_idx/);
    const [row] = await db.query<{ id: string }>(
      `update acme_crm.${name} set city = 'Oslo' where name = 'N7' returning id`,
    );
    await db.query("select data.delete($1, $2)", [`acme/crm/${name}`, row?.id]);
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "new", city: "Rome", age: 5 }]);
    expect(await db.query(`select city, twice from acme_crm.${name} where name in ('N7', 'new')`)).toEqual([
      { city: "Rome", twice: "10" },
    ]);
  },
);

test("an index that an operator built concurrently beforehand is taken as it is", async () => {
  await make("prepared", { "x-storage": "flat" });
  await define("prepared", schema({ city: indexed }, { "x-storage": "flat" }));
  const { id, arguments: given } = await started("prepared");
  await db.query((given.statements[0] as string).replace("create index", "create index concurrently"));
  const node = () => db.query("select relfilenode from pg_class where relname = 'prepared_flat_city_idx'");
  const before = await node();
  expect(await finish(id)).toMatchObject({ state: "done" });
  expect(await node()).toEqual(before);
});

test("who may not define may neither begin nor cancel, and sees only their own site's operations", async () => {
  await make("guarded");
  await define("guarded", schema({ city: indexed }));
  const { id } = await started("guarded");
  await db.query("select tenancy.create_site('acme', 'beta')");
  await db.account("bob@beta.test");
  await db.query("select tenancy.add_member('beta', 'bob@beta.test', 'admin')");
  await db.as("acme", "ann@acme.test", async (client) => {
    expect((await refusal(client.query("select data.cancel_operation($1)", [id]))).code).toBe("RH403");
    for (const sql of [
      "data.run_step($1)",
      "data.build_index_step(null, null)",
      "data.fill_batch(null, 'acme_crm.guarded_jsonb', null)",
    ]) {
      const failure = await refusal(client.query(`select ${sql}`, sql.includes("$1") ? [id] : []));
      expect(failure.code).toBe("42501");
    }
    expect((await refusal(client.query("update data.fields set is_building = true"))).code).toBe("42501");
  });
  await db.as("beta", "bob@beta.test", async (client) => {
    expect((await client.query("select * from data.operations")).rows).toEqual([]);
    expect((await refusal(client.query("select data.cancel_operation($1)", [id]))).code).toMatch(
      /^RH40[34]$/,
    );
  });
  expect(await operation(id)).toMatchObject({ state: "waiting" });
});
