import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { type Embedded, startEmbedded } from "../server/embedded/postgres.ts";
import { eventually } from "./harness/eventually.ts";

// A cluster of its own, whose autovacuum begins within seconds.
let dir: string;
let cluster: Embedded;
let db: pg.Pool;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-autovacuum-"));
  cluster = await startEmbedded(dir, ["fsync=off", "autovacuum_naptime=3s"]);
  await migrate(logins(cluster.operatorUrl, { gateway: "gateway-secret", worker: "worker-secret" }));
  db = new pg.Pool({ connectionString: cluster.operatorUrl, max: 3 });
  db.on("error", () => {});
});
afterAll(async () => {
  await db.end();
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
});

const define = (storage: string, properties: object) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [
    `${storage}_people`,
    { type: "object", "x-storage": storage, properties },
  ]);
const text = { type: "string" };

test("an entity is defined anew while PostgreSQL cleans it up, which takes long where it is large", async () => {
  await db.query("select tenancy.create_organization('acme')");
  await db.query("select tenancy.create_site('acme', 'acme'), tenancy.create_app('acme', 'crm')");
  for (const storage of ["jsonb", "flat"]) {
    await define(storage, { name: text });
    await db.query(
      "select data.insert($1, (select jsonb_agg(jsonb_build_object('name', repeat('x', 500) || i)) from generate_series(1, 5000) i))",
      [`acme/crm/${storage}_people`],
    );
    await db.query(
      `alter table acme_crm.${storage}_people_${storage} set (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_insert_threshold = 1, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)`,
    );
    const cleaning = () =>
      db.query("select from pg_stat_activity where query like 'autovacuum: VACUUM%' || $1", [
        `${storage}_people_${storage}`,
      ]);
    await eventually(async () => (await cleaning()).rowCount === 1);
    await define(storage, { name: text, note: text });
    const { rows } = await db.query(
      `select count(*)::int as n, count(note)::int as notes from acme_crm.${storage}_people`,
    );
    expect(rows).toEqual([{ n: 5000, notes: 0 }]);
  }
});
