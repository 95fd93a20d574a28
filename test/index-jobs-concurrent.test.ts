import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { type Operator, startOperator } from "../server/worker/operator.ts";
import { startWorker, type Worker } from "../server/worker/worker.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";
import { type Operation, operations } from "./harness/operations.ts";

// Where a process has the operator's login, an index over full columns is built and no writer waits for it.

const RECORDS = 11_000;
const text = { type: "string" };
const properties = { name: text, city: text, age: { type: "integer" } };
const schema = (changed: object = {}, more: object = {}) => ({
  type: "object",
  properties: { ...properties, ...changed },
  ...more,
});
const indexed = { ...text, "x-index": true };
const flat = { "x-storage": "flat" };
const log = pino({ level: "silent" });

let db: TestDatabase;
let workerPool: pg.Pool;
let worker: Worker;
const operators: Operator[] = [];
const operator = () => {
  const started = startOperator(db.operatorUrl, log);
  operators.push(started);
  return started;
};

beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "olga@acme.test": "admin" });
  workerPool = new pg.Pool({ connectionString: db.workerUrl, max: 4 });
  workerPool.on("error", () => {});
  workerPool.on("connect", (client) => client.on("error", () => {}));
  worker = await startWorker(workerPool, log);
});
afterEach(async () => {
  await release();
  for (const running of operators.splice(0)) await running.stop();
  await db.query("delete from rowhouse.operators");
});
afterAll(async () => {
  await worker.stop();
  await workerPool.end();
  await db.drop();
});

const define = (name: string, definition: object) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
const make = async (name: string, more: object = {}) => {
  await define(name, schema({}, more));
  for (let from = 1; from <= RECORDS; from += 5500) {
    await db.query(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('name', 'N' || i, 'city', 'City ' || i % 500, 'age', i % 90))
         from generate_series($2::int, $2::int + 5499) i))`,
      [`acme/crm/${name}`, from],
    );
  }
};
const { last } = operations(() => db);
/** Polls for up to 60 s until an operation is as wanted. */
async function until(name: string, wanted: (operation: Operation) => boolean) {
  let now = await last(name);
  for (const end = Date.now() + 60_000; !wanted(now) && Date.now() < end; now = await last(name))
    await sleep(10);
  return now;
}
const ended = ({ state }: Operation) => state !== "running" && state !== "waiting";
const alive = async () => {
  const seen = async () => (await db.query("select rowhouse.operator_is_alive() as a"))[0]?.a;
  for (const end = Date.now() + 20_000; !(await seen()) && Date.now() < end; ) await sleep(10);
};
/** The indexes of a table, with their definitions, also those that are not whole. */
const indexes = (table: string) =>
  db.query<{ name: string; valid: boolean; unique: boolean }>(
    `select c.relname as name, x.indisvalid as valid, x.indisunique as unique from pg_index x join pg_class c on c.oid = x.indexrelid
     where x.indrelid = to_regclass($1) order by 1`,
    [`acme_crm.${table}`],
  );
/** Who waits for a statement that builds an index. */
const BLOCKED = `select a.query from pg_stat_activity a where a.datname = current_database() and exists (
  select from unnest(pg_blocking_pids(a.pid)) b join pg_stat_activity s on s.pid = b where s.query ~ '^create (unique )?index' or s.query ~ 'run_step')`;

const held: pg.PoolClient[] = [];
/** A transaction that reads as of now and stays open: an index that is built waits for its end. */
async function openReader() {
  const client = await db.pool.connect();
  client.on("error", () => {});
  held.push(client);
  await client.query("begin isolation level repeatable read");
  await client.query("select 1 from tenancy.sites");
}
async function release() {
  for (const client of held.splice(0)) {
    await client.query("rollback");
    client.release();
  }
}

test.each([
  ["of one property in flat storage", schema({ city: indexed }, flat), "flat", /_city_idx$/],
  [
    "of several, some of the records",
    schema({}, { ...flat, "x-indexes": [{ fields: ["city", "-age"], where: { age: { $gt: 30 } } }] }),
    "flat",
    /_ix_/,
  ],
  ["of a unique property", schema({ name: { ...text, "x-unique": true } }, flat), "flat", /_name_key$/],
  ["of a property that gets a column", schema({ city: indexed }), "jsonb", /_city_idx$/],
  ["of several in jsonb storage", schema({}, { "x-indexes": [{ fields: ["name", "id"] }] }), "jsonb", /_ix_/],
])(
  "an index %s is built while writers write, and none of them waits for it",
  async (what, wanted, storage, index) => {
    const name = what.replace(/[^a-z]+/g, "_");
    await make(name, storage === "flat" ? flat : {});
    operator();
    await alive();
    await openReader();
    await define(name, wanted);
    // An older transaction keeps the index from being done; everybody else goes on.
    expect(
      (await until(name, ({ note }) => /is built while everybody goes on: .*waiting for/.test(note ?? "")))
        .note,
    ).toMatch(index.source.replace("$", ""));
    const waited: string[] = [];
    let isOver = false;
    const watcher = (async () => {
      while (!isOver) for (const { query } of await db.query<{ query: string }>(BLOCKED)) waited.push(query);
    })();
    for (let n = 0; n < 20; n++) {
      const [made] = await db.query<{ r: { id: string } }>("select data.insert($1, $2) as r", [
        `acme/crm/${name}`,
        { name: `new ${n}`, city: `New ${n}`, age: 50 },
      ]);
      expect(
        await db.query(`update acme_crm.${name} set age = 51 where id = $1 returning age::int`, [made?.r.id]),
      ).toEqual([{ age: 51 }]);
      if (n % 2) await db.query("select data.delete($1, $2)", [`acme/crm/${name}`, made?.r.id]);
    }
    expect((await last(name)).state).toBe("running");
    await release();
    expect(await until(name, ended)).toMatchObject({ state: "done", error: null, statement: null });
    isOver = true;
    await watcher;
    expect(waited).toEqual([]);
    expect((await last(name)).note).toMatch(/ was built while everybody went on$/);
    expect(await indexes(`${name}_${storage}`)).toContainEqual(
      expect.objectContaining({ name: expect.stringMatching(index), valid: true }),
    );
    expect(
      await db.query(`select count(*)::int as n from acme_crm.${name} where city like 'New %' and age = 51`),
    ).toEqual([{ n: 10 }]);
  },
);

test("records that are not unique fail it, with an id of them, and nothing of the index stays", async () => {
  await make("doubled", flat);
  await db.query("update acme_crm.doubled set name = 'Twice' where name in ('N10000', 'N10900')");
  const before = await indexes("doubled_flat");
  operator();
  await alive();
  await define("doubled", schema({ name: { ...text, "x-unique": true } }, flat));
  expect(await until("doubled", ended)).toMatchObject({
    state: "failed",
    error: {
      code: "RH409",
      errors: [{ pointer: "/name", message: "is the same in 2 records", id: expect.any(String) }],
    },
  });
  expect(await indexes("doubled_flat")).toEqual(before);
});

test("a value too long for an index fails it with PostgreSQL's reason", async () => {
  await make("long", flat);
  const before = await indexes("long_flat");
  const [long] = await db.query("select string_agg(md5(i::text), '') as s from generate_series(1, 30000) i");
  await db.query("update acme_crm.long set city = $1 where name = 'N1000'", [long?.s]);
  operator();
  await alive();
  await define("long", schema({ city: indexed }, flat));
  expect(await until("long", ended)).toMatchObject({ state: "failed", error: { code: "54000" } });
  expect(await indexes("long_flat")).toEqual(before);
});

test.each(["cancelled", "dropped"])("an entity whose index is being built is %s at once", async (how) => {
  await make(how, flat);
  const before = await indexes(`${how}_flat`);
  operator();
  await alive();
  await openReader();
  await define(how, schema({ city: indexed }, flat));
  const { id } = await until(how, ({ note }) => /waiting for/.test(note ?? ""));
  if (how === "cancelled") {
    await db.query("select data.cancel_operation($1)", [id]);
    expect(await last(how)).toMatchObject({ state: "cancelled", statement: null });
    expect(await indexes(`${how}_flat`)).toEqual(before);
  } else {
    await db.query("select data.drop_entity('acme/crm/dropped', 'dropped')");
    expect(await db.query("select to_regclass('acme_crm.dropped_flat') as t")).toEqual([{ t: null }]);
  }
});

test("a relation to an entity whose index is being built is defined meanwhile, and the index is begun again", async () => {
  await make("referred", flat);
  operator();
  await alive();
  await openReader();
  await define("referred", schema({ city: indexed }, flat));
  await until("referred", ({ note }) => /waiting for/.test(note ?? ""));
  await define("referrers", {
    type: "object",
    properties: {
      to: { type: "string", format: "uuid", "x-relation": { entity: "referred", name: "other" } },
    },
  });
  expect((await last("referred")).state).toBe("running");
  await release();
  expect(await until("referred", ended)).toMatchObject({ state: "done", error: null });
  expect((await indexes("referred_flat")).map(({ valid }) => valid)).not.toContain(false);
});

test("of two processes one builds; when it ends, the other begins again what it left", async () => {
  await make("shared", flat);
  const first = operator();
  await alive();
  operator();
  await openReader();
  await define("shared", schema({ city: indexed }, flat));
  await until("shared", ({ note }) => /waiting for/.test(note ?? ""));
  const building = () =>
    db.query(
      "select pid from pg_stat_activity where datname = current_database() and state = 'active' and query ~ '^create index concurrently'",
    );
  const [one, ...more] = await building();
  expect(more).toEqual([]);
  await first.stop();
  expect(await indexes("shared_flat")).toContainEqual(expect.objectContaining({ valid: false }));
  let [next] = await building();
  for (const end = Date.now() + 20_000; !next && Date.now() < end; [next] = await building()) await sleep(10);
  expect(next?.pid).not.toBe(one?.pid);
  await release();
  expect(await until("shared", ended)).toMatchObject({ state: "done", error: null });
  expect((await indexes("shared_flat")).map(({ valid }) => valid)).not.toContain(false);
});

test("without such a process the worker builds it, writers wait, and the operation says why", async () => {
  await make("alone", flat);
  operator();
  await alive();
  await openReader();
  await define("alone", schema({ city: indexed }, flat));
  await until("alone", ({ note }) => /waiting for/.test(note ?? ""));
  for (const running of operators.splice(0)) await running.stop();
  expect((await last("alone")).statement).toMatch(/^create index concurrently /);
  await release();
  await db.query("update rowhouse.operators set seen_at = seen_at - interval '31 s'"); // as if we had waited
  await db.query("select data.run_step($1)", [(await last("alone")).id]);
  expect(await until("alone", ended)).toMatchObject({ state: "done", error: null, statement: null });
  expect((await last("alone")).note).toMatch(
    /for which writers waited: no process with the operator's login has reported/,
  );
  expect((await indexes("alone_flat")).map(({ valid }) => valid)).not.toContain(false);
});

describe("what is run as the operator", () => {
  test("nobody but the platform writes it, and nobody poses as the one who runs it", async () => {
    const gateway = new pg.Client({ connectionString: db.gatewayUrl });
    await gateway.connect();
    for (const statement of [
      "update data.operations set statement = 'create index concurrently x on y (z)'",
      "select data.next_statement()",
      "select data.watch_statement(gen_random_uuid(), 1, '{}')",
      "select data.end_statement(gen_random_uuid(), 'RH409', 'x')",
      "select data.ask_operator(null, 'drop table x')",
      "select rowhouse.report_operator(gen_random_uuid())",
      "insert into rowhouse.operators (id) values (gen_random_uuid())",
    ]) {
      await expect(gateway.query(statement)).rejects.toMatchObject({ code: "42501" });
      await expect(workerPool.query(statement)).rejects.toMatchObject({ code: "42501" });
      await db.as("acme", "olga@acme.test", (client) =>
        expect(client.query(statement)).rejects.toMatchObject({ code: "42501" }),
      );
    }
    await gateway.end();
  });

  test.each([
    [
      "a second statement after it",
      "create index concurrently x on acme_crm.precious (a); drop table acme_crm.precious",
      "42601",
    ],
    [
      "what the operator owns and the platform does not",
      "create index concurrently x on public.others (a)",
      "42501",
    ],
  ])("not %s, whoever wrote that", async (what, statement, code) => {
    const name = what.replace(/[^a-z]+/g, "_").slice(0, 30);
    await make(name, flat);
    await db.query(
      "create table if not exists acme_crm.precious (a int); alter table acme_crm.precious owner to rowhouse_owner; create table if not exists public.others (a int)",
    );
    await db.query("select rowhouse.report_operator(gen_random_uuid())");
    await define(name, schema({ city: indexed }, flat));
    const { id } = await until(name, (operation) => operation.statement !== null);
    const write = (text: string) =>
      db.query("update data.operations set statement = $2 where id = $1", [id, text]);
    for (const other of [
      "drop table acme_crm.precious",
      "create index x on y (z)",
      "reindex table acme_crm.precious",
    ])
      expect((await refusal(write(other))).code).toBe("23514");
    await write(statement);
    operator();
    expect(await until(name, ended)).toMatchObject({ state: "failed", error: { code } });
    expect(
      await db.query(
        "select to_regclass('acme_crm.precious') is not null as kept, to_regclass('public.x') as x",
      ),
    ).toEqual([{ kept: true, x: null }]);
  });
});
