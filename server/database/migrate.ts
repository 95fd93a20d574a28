import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Logger } from "@graphile/logger";
import { migrate as runMigrations } from "graphile-migrate";
import { clearAllPools } from "graphile-migrate/dist/pgReal.js";
import pg from "pg";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MODULES = ["rowhouse", "tenancy", "auth", "access", "data"];
const LOCK = "hashtextextended('rowhouse.migrate', 0)";

/** What migrate() did. warnings say what this login may not do, for the operator to read at start. */
export interface Migrated {
  installed: boolean;
  warnings: string[];
}

/**
 * Brings a database up to date: migrations/, then db/ and policies/ in one transaction when their content changed.
 * Several servers may start at once: they wait for each other on an advisory lock.
 * @param gatewayPassword the password the login role rowhouse_gateway gets.
 */
export async function migrate(operatorUrl: string, gatewayPassword: string): Promise<Migrated> {
  const client = new pg.Client({ connectionString: operatorUrl });
  await client.connect();
  try {
    await client.query(`select pg_advisory_lock(${LOCK})`);
    await runMigrations(
      {
        connectionString: operatorUrl,
        rootConnectionString: operatorUrl.replace(/[^/]*$/, "template1"), // asked for, not used: nothing is reset
        migrationsFolder: join(ROOT, "migrations"),
        manageGraphileMigrateSchema: true,
        logger: new Logger(() => () => {}),
      },
      false,
    );
    const installed = await install(client);
    await setGatewayLogin(client, gatewayPassword);
    return { installed, warnings: await installSuperuserPart(client) };
  } finally {
    // graphile-migrate keeps its pool for 200 ms and ends the process if the server goes away meanwhile.
    clearAllPools();
    await client.end();
  }
}

/** The text of db/<module>/*.sql, module by module, then of policies/<module>.sql. */
function definitions(): string {
  const files = [
    ...MODULES.flatMap((module) =>
      readdirSync(join(ROOT, "db", module))
        .sort()
        .map((name) => join("db", module, name)),
    ),
    ...readdirSync(join(ROOT, "policies"))
      .sort((a, b) => MODULES.indexOf(a.replace(".sql", "")) - MODULES.indexOf(b.replace(".sql", "")))
      .map((name) => join("policies", name)),
  ];
  return files.map((file) => `-- ${file}\n${readFileSync(join(ROOT, file), "utf8")}`).join("\n");
}

async function install(client: pg.Client): Promise<boolean> {
  const text = definitions();
  const hash = createHash("sha256").update(text).digest("hex");
  const { rows } = await client.query("select content_hash from rowhouse.installed");
  if (rows[0]?.content_hash === hash) return false;
  await client.query("begin");
  try {
    await client.query("set local check_function_bodies = off; set local client_min_messages = warning");
    // Where a superuser installed before, these are his (db/superuser.sql).
    await client.query(
      "drop function if exists tenancy.create_site_role(text), tenancy.drop_site_role(name)",
    );
    await client.query("set local role rowhouse_owner");
    await client.query(text);
    await client.query(
      "insert into rowhouse.installed (content_hash) values ($1) on conflict (only_row) do update set content_hash = excluded.content_hash, installed_at = now()",
      [hash],
    );
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
  return true;
}

async function setGatewayLogin(client: pg.Client, password: string): Promise<void> {
  await client.query(`alter role rowhouse_gateway password ${pg.escapeLiteral(password)}`);
  // A site's role has the same limits, but SET ROLE does not apply a role's settings: here they bind every request.
  for (const setting of [
    "timezone = 'UTC'",
    "statement_timeout = '30s'",
    "lock_timeout = '5s'",
    "idle_in_transaction_session_timeout = '60s'",
  ]) {
    await client.query(`alter role rowhouse_gateway set ${setting}`);
  }
}

async function installSuperuserPart(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query("select rolsuper from pg_roles where rolname = current_user");
  if (rows[0]?.rolsuper) {
    await client.query(readFileSync(join(ROOT, "db", "superuser.sql"), "utf8"));
    return [];
  }
  return [
    "This login is no superuser: set_config could not be revoked from public, so SQL that tenants write is not offered.",
    "This login is no superuser: numeric comparison could not be marked leakproof, so filters on decimal fields use no index.",
  ];
}
