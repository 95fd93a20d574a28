import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { type Logins, logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { type Embedded, startEmbedded } from "../server/embedded/postgres.ts";

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

const schema = (city: object) => ({ type: "object", properties: { name: { type: "string" }, city } });
const define = (city: object) =>
  db.query("select data.define_entity('acme/crm', 'people', $1)", [schema(city)]);

test.each([
  ["copy", "index"],
  ["index", "index"],
  ["copy", "search"],
])("killed with -9 in the middle of step %s of an %s, it goes on where it was", async (at, kind) => {
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
  await define({ type: "string", [`x-${kind}`]: true });
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
  await sleep(100);
  process.kill(rows[0].pid, "SIGKILL");
  expect(await failed).toBe(true);
  // All others are ended a moment later.
  await expect(writer.query("select pg_sleep(20)")).rejects.toThrow();
  writer.release(true);
  await victim.end().catch(() => {});
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(100)) {
    if (
      await db.query("select 1").then(
        () => true,
        () => false,
      )
    )
      break;
  }
  expect(await operation()).toEqual(before);
  for (let state = "running"; state === "running"; ) state = await step();
  expect(await operation()).toMatchObject({ state: "done", error: null });
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
