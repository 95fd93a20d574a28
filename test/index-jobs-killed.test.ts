import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { type Logins, logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { type Embedded, startEmbedded } from "../server/embedded/postgres.ts";
import { startOperator } from "../server/worker/operator.ts";
import { eventually } from "./harness/eventually.ts";

// A cluster of its own: PostgreSQL restarts all of itself when one of its processes is killed.
const PASSWORDS = { gateway: "gateway-secret", worker: "worker-secret" };
let dir: string;
let cluster: Embedded;
let urls: Logins;
let db: pg.Pool;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-killed-"));
  cluster = await startEmbedded(dir);
  urls = logins(cluster.operatorUrl, PASSWORDS);
  await migrate(urls);
  db = new pg.Pool({ connectionString: cluster.operatorUrl, max: 4 });
  db.on("error", () => {});
  db.on("connect", (client) => client.on("error", () => {}));
});
afterAll(async () => {
  await db.end();
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
});

const schema = (city: object, more: object = {}) => ({
  type: "object",
  properties: { name: { type: "string" }, city, ...more },
});
const define = (city: object, more?: object) =>
  db.query("select data.define_entity('acme/crm', 'people', $1)", [schema(city, more)]);

test.each([
  ["copy", "index"],
  ["index", "index"],
  ["copy", "search"],
  ["copy", "computed field"],
])("killed with -9 in the middle of step %s of %s, it goes on where it was", async (at, kind) => {
  if (at === "copy" && kind === "index") {
    await db.query("select tenancy.create_organization('acme')");
    await db.query("select tenancy.create_site('acme', 'acme')");
    await db.query("select tenancy.create_app('acme', 'crm')");
    await define({ type: "string" });
    for (let batch = 0; batch < 3; batch++) {
      await db.query(
        `select data.insert('acme/crm/people', (select jsonb_agg(jsonb_build_object('name', 'N' || i, 'city', 'City ' || i % 500)) from generate_series(1, 5000) i))`,
      );
    }
  } else await define({ type: "string" });
  if (kind === "computed field")
    await define(
      { type: "string" },
      { loud: { type: "string", "x-computed": { expression: "upper(city)", stored: true } } },
    );
  else await define({ type: "string", [`x-${kind}`]: true });
  const operation = async () =>
    (
      await db.query(
        "select id, state, step, records_done, error from data.operations order by created_at desc limit 1",
      )
    ).rows[0];
  const { id } = await operation();
  const step = async () => (await db.query("select data.run_step($1) as s", [id])).rows[0].s as string;
  while ((await operation()).step !== at) await step();
  if (at === "copy") await step();
  const before = await operation();

  // A writer in the way keeps the step at work, so that the kill meets it there.
  const writer = await db.connect();
  await writer.query("begin");
  await writer.query(
    "update acme_crm.people set city = 'held' where id = (select id from acme_crm.people order by id offset 3000 limit 1)",
  );
  const victim = new pg.Client({ connectionString: urls.workerUrl });
  victim.on("error", () => {});
  await victim.connect();
  const { rows } = await victim.query("select pg_backend_pid() as pid");
  const failed = victim.query("select data.run_step($1)", [id]).then(
    () => false,
    () => true,
  );
  const isHeld = `select from pg_stat_activity where pid = ${rows[0].pid} and state = 'active' and (wait_event_type = 'Lock' or wait_event = 'PgSleep')`;
  await eventually(async () => (await db.query(isHeld)).rowCount === 1);
  process.kill(rows[0].pid, "SIGKILL");
  expect(await failed).toBe(true);
  // All others are ended a moment later.
  await expect(writer.query("select pg_sleep(20)")).rejects.toThrow();
  writer.release(true);
  await victim.end().catch(() => {});
  await eventually(() =>
    db.query("select 1").then(
      () => true,
      () => false,
    ),
  );
  expect(await operation()).toEqual(before);
  for (let state = "running"; state === "running"; ) state = await step();
  expect(await operation()).toMatchObject({ state: "done", error: null });
  if (kind === "computed field") {
    const { rows } = await db.query(
      "select count(*)::int as n from acme_crm.people_jsonb where data->>'loud' is distinct from upper(data->>'city')",
    );
    expect(rows).toEqual([{ n: 0 }]);
    return;
  }
  if (kind === "search") {
    const found = await db.query(
      'select (data.find(\'acme/crm/people\', \'{"q": "\\"City 7\\"", "count": "exact"}\') #> \'{meta,count}\')::int as n',
    );
    expect(found.rows).toEqual([{ n: 30 }]);
    return;
  }
  const wrong = await db.query(
    "select count(*)::int as n from acme_crm.people_jsonb where city is distinct from data->>'city'",
  );
  expect(wrong.rows).toEqual([{ n: 0 }]);
  const plan = await db.query("explain (costs off) select * from acme_crm.people where city = 'City 7'");
  expect(JSON.stringify(plan.rows)).toMatch(/people_city_idx/);
});

const BIN = fileURLToPath(new URL("../bin/rowhouse.mjs", import.meta.url));

test.each(["PostgreSQL's process", "the process that asked for it"])(
  "an index that is built concurrently while %s is killed with -9 is there in the end, whole",
  async (what) => {
    const flat = (city: object) =>
      db.query("select data.define_entity('acme/crm', 'places', $1)", [
        { ...schema(city), "x-storage": "flat" },
      ]);
    await flat({ type: "string" });
    const { rows: there } = await db.query("select count(*)::int as n from acme_crm.places");
    for (let batch = 0; there[0].n === 0 && batch < 3; batch++)
      await db.query(
        `select data.insert('acme/crm/places', (select jsonb_agg(jsonb_build_object('name', 'N' || i, 'city', 'City ' || i % 500)) from generate_series(1, 5000) i))`,
      );
    const reader = await db.connect(); // what is built waits for it
    await reader.query("begin isolation level repeatable read");
    await reader.query("select 1 from tenancy.sites");
    const child = spawn(process.execPath, [BIN, "start", "--only", "operator"], {
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: cluster.operatorUrl,
        ROWHOUSE_WORKER_PORT: "0",
        ROWHOUSE_DIR: dir,
        ROWHOUSE_MASTER_KEY: "07".repeat(32),
      },
      stdio: "ignore",
    });
    const query = async (text: string, values: unknown[] = []) => (await db.query(text, values)).rows[0];
    const reached = (text: string, wanted: (row: Record<string, unknown>) => boolean) =>
      eventually(
        () => query(text).catch(() => undefined),
        (row) => row !== undefined && wanted(row),
      );
    await reached("select rowhouse.operator_is_alive() as alive", ({ alive }) => alive === true);
    await flat({ type: "string", "x-index": true });
    const { id } = await query("select id from data.operations order by created_at desc limit 1");
    const step = async () => (await query("select data.run_step($1) as s", [id])).s as string;
    for (let state = await step(); state !== "asked"; ) state = await step();
    const { pid } = (await reached(
      "select max(pid) as pid from pg_stat_progress_create_index where phase ~ 'waiting for old'",
      (row) => row.pid !== null,
    )) as { pid: number };
    const index =
      "select indisvalid as valid from pg_index where indexrelid = to_regclass('acme_crm.places_flat_city_idx')";
    expect(await query(index)).toEqual({ valid: false });
    if (what === "PostgreSQL's process") {
      process.kill(pid, "SIGKILL");
      await expect(reader.query("select pg_sleep(20)")).rejects.toThrow();
      reader.release(true);
    } else {
      child.kill("SIGKILL");
      await once(child, "exit");
      await reader.query("rollback");
      reader.release();
    }
    const next = startOperator(cluster.operatorUrl, pino({ level: "silent" }));
    await reached(index, ({ valid }) => valid === true);
    for (let state = "asked"; state === "asked" || state === "running"; state = await step()) await sleep(20);
    expect(await query("select state, error, statement from data.operations where id = $1", [id])).toEqual({
      state: "done",
      error: null,
      statement: null,
    });
    expect(
      await query(
        "select count(*)::int as n from pg_index x join pg_class c on c.oid = x.indrelid where c.relname = 'places_flat' and not x.indisvalid",
      ),
    ).toEqual({ n: 0 });
    await next.stop();
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      expect((await ended)[0]).toBe(0);
    }
  },
);
