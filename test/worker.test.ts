import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { startWorker, type Worker } from "../server/worker/worker.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { eventually } from "./harness/eventually.ts";

let db: TestDatabase;
let worker: pg.Pool;
let siteRole: string;
let running: Worker | undefined;

beforeAll(async () => {
  db = await cloneDatabase();
  worker = new pg.Pool({ connectionString: db.workerUrl, max: 8 });
  worker.on("error", () => {});
  worker.on("connect", (client) => client.on("error", () => {}));
  await db.account("ann@acme.test");
  await db.site("acme");
  await db.query("select tenancy.add_member('acme', 'ann@acme.test', 'admin')");
  await db.query("select data.define_entity('acme/crm', 'notes', $1)", [
    { type: "object", properties: { text: { type: "string" } } },
  ]);
  await db.query(`select data.insert('acme/crm/notes', '{"text": "secret"}')`);
  await db.query("select tenancy.add_domain('acme', 'acme.example.com')");
  [siteRole] = (await db.query<{ role_name: string }>("select role_name from tenancy.sites")).map(
    (row) => row.role_name,
  ) as [string];
});
afterAll(async () => {
  await running?.stop();
  await worker.end();
  await db.drop();
});

const isAlive = async () => (await worker.query("select rowhouse.worker_is_alive() as alive")).rows[0].alive;

test("jobs are done with the worker's own login, and SQL tells whether a worker is alive", async () => {
  expect(await isAlive()).toBe(false);
  running = await startWorker(worker, pino({ level: "silent" }));
  expect(await isAlive()).toBe(true);
  await db.query(
    "insert into auth.sessions (account_id, expires_at) select id, now() - interval '1 day' from auth.accounts",
  );
  await db.query("select graphile_worker.add_job('delete_expired_tokens')");
  const left = async () =>
    (
      await db.query<{ n: number }>(
        "select (select count(*) from auth.sessions)::int + (select count(*) from graphile_worker.jobs)::int as n",
      )
    )[0]?.n;
  await eventually(async () => (await left()) === 0);
  expect((await worker.query("select domain from tenancy.list_unverified_domains()")).rows).toEqual([
    { domain: "acme.example.com" },
  ]);

  await db.query("update rowhouse.workers set seen_at = now() - interval '31 s'");
  expect(await isAlive()).toBe(false);
  await worker.query("select rowhouse.report_worker(id) from unnest(array[gen_random_uuid()]) u (id)");
  expect(await isAlive()).toBe(true);
  await db.query("delete from rowhouse.workers");
  await running.stop();
  expect(await isAlive()).toBe(false);
});

test("an entity is converted by the worker", async () => {
  running = await startWorker(worker, pino({ level: "silent" }));
  await db.query("select data.convert_storage('acme/crm/notes', 'flat')");
  const state = async () =>
    (await db.query<{ state: string }>("select state from data.operations"))[0]?.state;
  await eventually(async () => (await state()) === "done");
  expect(await db.query("select text from acme_crm.notes_flat")).toEqual([{ text: "secret" }]);
  await running.stop();
});

test("the worker's login has no attribute, no membership and no object", async () => {
  expect(
    await db.query(
      "select rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = 'rowhouse_worker'",
    ),
  ).toEqual([
    {
      rolsuper: false,
      rolinherit: false,
      rolcreaterole: false,
      rolcreatedb: false,
      rolreplication: false,
      rolbypassrls: false,
    },
  ]);
  expect(
    await db.query(
      `select roleid::regrole::text from pg_auth_members where member = 'rowhouse_worker'::regrole
       union all select relname from pg_class where relowner = 'rowhouse_worker'::regrole
       union all select proname from pg_proc where proowner = 'rowhouse_worker'::regrole`,
    ),
  ).toEqual([]);
});

test("a job reads no tenant's records and no control table", async () => {
  const tables = await db.query<{ name: string; kind: string }>(
    `select format('%I.%I', c.relnamespace::regnamespace, c.relname) as name, c.relkind as kind from pg_class c where c.relkind in ('r', 'v')
     and c.relnamespace::regnamespace::text in ('rowhouse', 'tenancy', 'auth', 'access', 'data', 'acme_crm', 'graphile_migrate')`,
  );
  expect(tables.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["acme_crm.notes", "acme_crm.notes_flat", "auth.signing_keys"]),
  );
  for (const { name, kind } of tables) {
    await expect(worker.query(`select * from ${name}`)).rejects.toMatchObject({ code: "42501" });
    if (kind === "v") continue;
    await expect(worker.query(`delete from ${name}`)).rejects.toMatchObject({ code: "42501" });
    await expect(worker.query(`truncate ${name}`)).rejects.toMatchObject({ code: "42501" });
  }
});

test("a job becomes nobody else", async () => {
  const roles = await db.query<{ name: string }>(
    "select rolname as name from pg_roles where rolname <> 'rowhouse_worker'",
  );
  expect(roles.map(({ name }) => name)).toEqual(
    expect.arrayContaining([siteRole, "rowhouse_owner", "rowhouse_gateway", "rowhouse_data", "rowhouse"]),
  );
  for (const { name } of roles) {
    await expect(worker.query(`set role ${name}`)).rejects.toMatchObject({ code: "42501" });
    await expect(worker.query(`set session authorization ${name}`)).rejects.toMatchObject({ code: "42501" });
  }
});

test.each([
  ["enters a site", "call tenancy.enter('acme', 'ann@acme.test')"],
  ["opens a request", "select tenancy.open_request(null, null, 'acme', 'crm')"],
  ["opens a session", "select auth.open_development_session('ann@acme.test', 'acme', 1)"],
  ["reads the signing keys", "select auth.list_signing_keys()"],
  ["makes a member", "select tenancy.add_member('acme', 'ann@acme.test', 'admin')"],
  ["reads records by function", "select data.find('acme/crm/notes', '{}')"],
  ["forges claims", "select set_config('rowhouse.account', '', false)"],
  ["replaces what others call", "alter function graphile_worker.remove_job(text) rename to x"],
  ["adds to the queue's schema", "create function graphile_worker.x() returns int language sql return 1"],
  [
    "switches the queue's row security off",
    "alter table graphile_worker._private_jobs disable row level security",
  ],
  ["notes another migration", "insert into graphile_worker.migrations (id) values (999)"],
  ["creates a schema", "create schema mine"],
  ["creates a role", "create role mine"],
  ["reads a file", "select pg_read_file('postgresql.conf')"],
  ["runs a program", "copy (select 1) to program 'true'"],
])("no job %s", async (_what, statement) => {
  await expect(worker.query(statement)).rejects.toMatchObject({ code: "42501" });
});

test("neither the gateway nor a site puts jobs in the queue or speaks for a worker", async () => {
  const gateway = new pg.Client({ connectionString: db.gatewayUrl });
  await gateway.connect();
  const statements = [
    "select graphile_worker.add_job('delete_expired_tokens')",
    "select * from graphile_worker.jobs",
    "select rowhouse.report_worker(gen_random_uuid())",
    "select tenancy.list_unverified_domains()",
  ];
  for (const statement of statements) {
    await expect(gateway.query(statement)).rejects.toMatchObject({ code: "42501" });
    await db.as("acme", "ann@acme.test", (client) =>
      expect(client.query(statement)).rejects.toMatchObject({ code: "42501" }),
    );
  }
  await gateway.end();
});
