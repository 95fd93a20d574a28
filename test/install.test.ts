import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { type Embedded, startEmbedded } from "../server/embedded/postgres.ts";
import { startOperator } from "../server/worker/operator.ts";
import { startWorker } from "../server/worker/worker.ts";
import { eventually } from "./harness/eventually.ts";

// Roles belong to a cluster: an installation by another owner needs a cluster of its own.
const PASSWORDS = { gateway: "gateway-secret", worker: "worker-secret" };
let dir: string;
let cluster: Embedded;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-install-"));
  cluster = await startEmbedded(dir, ["fsync=off"]);
});
afterAll(async () => {
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

test("installs as a database owner with CREATEROLE only, says what is missing, and walls and records work", async () => {
  const root = await connect(cluster.operatorUrl);
  await root.query("create role landlord login createrole password 'landlord-secret'");
  await root.query("create database managed owner landlord");
  await root.end();
  const url = new URL(cluster.operatorUrl);
  url.username = "landlord";
  url.password = "landlord-secret";
  url.pathname = "/managed";
  const [one, two] = await Promise.all([
    migrate(logins(url.href, PASSWORDS)),
    migrate(logins(url.href, PASSWORDS)),
  ]);
  expect([one.installed, two.installed].sort()).toEqual([false, true]);
  expect(one.warnings.join("\n")).toMatch(/set_config[\s\S]*leakproof/);

  const client = await connect(url.href);
  await client.query(
    "insert into auth.accounts (email) values ('ann@acme.test'), ('vic@acme.test'), ('bob@beta.test')",
  );
  for (const site of ["acme", "beta"]) {
    await client.query("select tenancy.create_organization($1)", [site]);
    await client.query("select tenancy.create_site($1, $1)", [site]);
    await client.query("select tenancy.create_app($1, 'crm')", [site]);
    await client.query("select data.define_entity($1, 'notes', $2)", [
      `${site}/crm`,
      { type: "object", properties: { text: { type: "string", "x-unique": true, "x-search": true } } },
    ]);
    await client.query("select data.insert($1, $2)", [`${site}/crm/notes`, { text: `of ${site}` }]);
  }
  await client.query(
    "select tenancy.add_member('acme', 'ann@acme.test', 'editor'), tenancy.add_member('acme', 'vic@acme.test', 'viewer'), tenancy.add_member('beta', 'bob@beta.test', 'editor')",
  );

  expect(
    (await client.query("select role from tenancy.set_member_role('acme', 'ann@acme.test', 'owner')")).rows,
  ).toEqual([{ role: "owner" }]);

  await client.query("call tenancy.enter('acme', 'ann@acme.test')");
  const { rows } = await client.query(
    "select data.insert('acme/crm/notes', '{\"text\": \"new\"}') ->> 'id' as id",
  );
  await client.query("select data.update('acme/crm/notes', $1, '{\"text\": \"newer\"}')", [rows[0].id]);
  expect((await client.query("select text from acme_crm.notes order by text")).rows).toEqual([
    { text: "newer" },
    { text: "of acme" },
  ]);
  for (const q of ["newer", "newr"]) {
    const found = await client.query("select data.find('acme/crm/notes', $1) -> 'data' as r", [{ q }]);
    expect(found.rows[0].r).toMatchObject([{ text: "newer" }]);
  }
  await client.query("select data.delete('acme/crm/notes', $1)", [rows[0].id]);
  await expect(client.query("select text from beta_crm.notes")).rejects.toThrow(
    "permission denied for schema beta_crm",
  );
  await expect(client.query("select data.find('beta/crm/notes')")).rejects.toMatchObject({ code: "RH404" });
  await expect(client.query("select * from acme_crm.notes_jsonb")).rejects.toThrow("permission denied");
  await client.query("call tenancy.leave()");
  await client.query("call tenancy.enter('acme', 'vic@acme.test')");
  await expect(client.query("insert into acme_crm.notes (text) values ('x')")).rejects.toMatchObject({
    code: "RH403",
  });
  await client.query("call tenancy.leave()");
  await client.query("select tenancy.drop_site('beta', 'beta')");
  await client.query("select graphile_worker.add_job('delete_expired_tokens')");

  const pool = new pg.Pool({ connectionString: logins(url.href, PASSWORDS).workerUrl, max: 4 });
  pool.on("error", () => {});
  pool.on("connect", (one) => one.on("error", () => {}));
  for (const attack of [
    "select * from acme_crm.notes",
    "select * from acme_crm.notes_jsonb",
    "select * from auth.accounts",
    "set role site_acme",
    "set role rowhouse_owner",
    "create temporary table mine (n int)",
    "alter function graphile_worker.remove_job(text) rename to mine",
  ]) {
    await expect(pool.query(attack)).rejects.toMatchObject({ code: "42501" });
  }
  const worker = await startWorker(pool, pino({ level: "silent" }));
  const waiting = async () =>
    (await client.query("select count(*)::int as n from graphile_worker.jobs")).rows[0].n;
  await eventually(async () => (await waiting()) === 0);

  // Such an operator, too, builds large indexes while everybody goes on.
  const wide = (city: object) =>
    client.query("select data.define_entity('acme/crm', 'wide', $1)", [
      { type: "object", "x-storage": "flat", properties: { city } },
    ]);
  await wide({ type: "string" });
  for (let batch = 0; batch < 2; batch++)
    await client.query(
      "select data.insert('acme/crm/wide', (select jsonb_agg(jsonb_build_object('city', i::text)) from generate_series(1, 6000) i))",
    );
  const operator = startOperator(url.href, pino({ level: "silent" }));
  const row = async (sql: string) => (await client.query(sql)).rows[0];
  await eventually(async () => (await row("select rowhouse.operator_is_alive() as alive")).alive);
  await wide({ type: "string", "x-index": true });
  const ended = "select state, note, error from data.operations order by created_at desc limit 1";
  await eventually(async () => !/waiting|running/.test((await row(ended)).state));
  expect(await row(ended)).toEqual({
    state: "done",
    note: expect.stringMatching(/ was built while everybody went on$/),
    error: null,
  });
  await operator.stop();
  await worker.stop();
  await pool.end();
  await client.end();
});

test("installs again over itself when its content changed, as an upgrade does", async () => {
  const root = await connect(cluster.operatorUrl);
  await root.query("create database upgraded");
  await root.end();
  const url = cluster.operatorUrl.replace(/\/rowhouse$/, "/upgraded");
  expect(await migrate(logins(url, PASSWORDS))).toEqual({ installed: true, warnings: [] });
  const client = await connect(url);
  await client.query("select tenancy.create_organization('acme'), tenancy.create_site('acme', 'acme')");
  await client.query("update rowhouse.installed set content_hash = 'of an older version'");
  expect(await migrate(logins(url, PASSWORDS))).toEqual({ installed: true, warnings: [] });
  expect(await migrate(logins(url, PASSWORDS))).toEqual({ installed: false, warnings: [] });
  await client.query("select tenancy.drop_site('acme', 'acme'), tenancy.create_site('acme', 'acme')");
  await client.end();
});
