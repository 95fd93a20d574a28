import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Logger } from "@graphile/logger";
import { migrate as runMigrations } from "graphile-migrate";
import { clearAllPools } from "graphile-migrate/dist/pgReal.js";
import { Logger as QueueLogger, runMigrations as runQueueMigrations } from "graphile-worker";
import pg from "pg";
import type { Logins } from "./connect.ts";
import { givingWay } from "./giving-way.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MODULES = ["rowhouse", "tenancy", "auth", "access", "data", "audit"];
const POSTGRES = 18;
const LOCK = "hashtextextended('rowhouse.migrate', 0)";

/** What migrate() did. warnings say what this login may not do, for the operator to read at start. */
export interface Migrated {
  installed: boolean;
  warnings: string[];
}

/**
 * Brings a database up to date: migrations/, the job queue's own, then db/ and policies/ in one transaction when their
 * content changed. Several servers may start at once: they wait for each other on an advisory lock.
 * The logins of gateway and worker get the passwords that their URLs have.
 */
export async function migrate({ operatorUrl, gatewayUrl, workerUrl }: Logins): Promise<Migrated> {
  const client = new pg.Client({ connectionString: operatorUrl });
  await client.connect();
  try {
    await requireVersion(client);
    await client.query(`select pg_advisory_lock(${LOCK})`);
    await givingWay(() =>
      runMigrations(
        {
          connectionString: operatorUrl,
          rootConnectionString: operatorUrl.replace(/[^/]*$/, "template1"), // asked for, not used: nothing is reset
          migrationsFolder: join(ROOT, "migrations"),
          manageGraphileMigrateSchema: true,
          logger: new Logger(() => () => {}),
        },
        false,
      ),
    );
    await migrateQueue(operatorUrl);
    const installed = await install(client);
    await client.query(DATABASE_RIGHTS);
    await setLogin(client, gatewayUrl, GATEWAY_LIMITS);
    await setLogin(client, workerUrl, WORKER_LIMITS);
    return { installed, warnings: await installSuperuserPart(client) };
  } finally {
    // graphile-migrate keeps its pool for 200 ms and ends the process if the server goes away meanwhile.
    clearAllPools();
    await client.end();
  }
}

async function requireVersion(client: pg.Client): Promise<void> {
  const { rows } = await client.query(
    "select current_setting('server_version_num')::int >= $1 as new_enough, current_setting('server_version') as version",
    [POSTGRES * 10_000],
  );
  if (rows[0].new_enough) return;
  throw new Error(`Rowhouse needs PostgreSQL ${POSTGRES} or newer; this server is ${rows[0].version}.`);
}

/** What installed_content() of a database says that this version was the last to migrate. */
export function contentHash(): string {
  return createHash("sha256").update(definitions()).update(auditorsPart()).digest("hex");
}

/** graphile-worker's tables and functions, as rowhouse_owner's. */
async function migrateQueue(operatorUrl: string): Promise<void> {
  const pgPool = new pg.Pool({
    connectionString: operatorUrl,
    max: 1,
    onConnect: async (client) => {
      await client.query("set role rowhouse_owner");
    },
  });
  // What breaks a connection is said by the query that meets it.
  pgPool.on("error", () => {});
  pgPool.on("connect", (client) => client.on("error", () => {}));
  try {
    await runQueueMigrations({ pgPool, logger: new QueueLogger(() => () => {}) });
  } finally {
    await pgPool.end();
  }
}

/** db/auditor.sql: the part of the audit log that no role of the platform may change. */
const auditorsPart = () => readFileSync(join(ROOT, "db", "auditor.sql"), "utf8");

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
  const texts = files.map((file) => `-- ${file}\n${readFileSync(join(ROOT, file), "utf8")}`);
  // Grants on the queue are given anew when it may have new tables.
  return [...texts, `-- graphile-worker ${queueVersion()}`].join("\n");
}

function queueVersion(): string {
  const entry = createRequire(import.meta.url).resolve("graphile-worker");
  return JSON.parse(readFileSync(join(entry, "../../package.json"), "utf8")).version;
}

async function install(client: pg.Client): Promise<boolean> {
  const hash = contentHash();
  const { rows } = await client.query("select content_hash from rowhouse.installed");
  if (rows[0]?.content_hash === hash) return false;
  await givingWay(async (lockTimeoutMs) => {
    await client.query(`begin; set local lock_timeout = ${lockTimeoutMs}`);
    try {
      await installAtOnce(client, hash);
      await client.query("commit");
    } catch (error) {
      await client.query("rollback");
      throw error;
    }
  });
  return true;
}

async function installAtOnce(client: pg.Client, hash: string): Promise<void> {
  const asAuditor = (text: string) =>
    `reset role; set local role rowhouse_auditor; ${text}; reset role; set local role rowhouse_owner`;
  await client.query("set local check_function_bodies = off; set local client_min_messages = warning");
  // Where a superuser installed before, these are his (db/superuser.sql).
  await client.query("drop function if exists tenancy.create_site_role(text), tenancy.drop_site_role(name)");
  await client.query(`set local role rowhouse_owner; ${LOCK_OWN_TABLES}; ${asAuditor(LOCK_OWN_TABLES)}`);
  await client.query(definitions());
  await client.query(asAuditor(auditorsPart()));
  await client.query(
    "insert into rowhouse.installed (content_hash) values ($1) on conflict (only_row) do update set content_hash = excluded.content_hash, installed_at = now()",
    [hash],
  );
}

// First of all, and views before what they look at, as who uses them: requests that have begun end before, others begin after.
// One by one, as they are changed, these locks met requests in the middle: with four clients that ended 2 of 8 updates and 2 %
// of the requests as deadlocks.
const LOCK_OWN_TABLES = `do $$
declare
  _own record;
begin
  for _own in
    select c.oid::regclass as name, c.relkind = 'v' as is_view from pg_class c
    where c.relowner = current_user::regrole and c.relkind in ('v', 'r', 'p') and not c.relispartition
      and c.relnamespace::regnamespace::text in ('${MODULES.join("', '")}')
    order by c.relkind <> 'v', c.oid
  loop
    -- LOCK TABLE takes with a view all it looks at; to give it to its own owner is the same lock, on the view alone.
    execute format(case when _own.is_view then 'alter view %s owner to current_user' else 'lock table %s in access exclusive mode' end, _own.name);
  end loop;
end
$$`;

// At each start, as a database that was restored or copied has the rights of a new one, and everybody may make temporary types
// in that: found before pg_catalog's own, they would stand for uuid or jsonb in functions that run as their owner.
const DATABASE_RIGHTS = `do $$
begin
  if pg_has_role((select d.datdba from pg_database d where d.datname = current_database()), 'usage') then
    execute format('revoke create, temporary on database %I from public', current_database());
    execute format('grant create, connect, temporary on database %I to rowhouse_owner', current_database());
    execute format('grant connect on database %I to rowhouse_gateway, rowhouse_worker', current_database());
  end if;
end
$$`;

// A site's role has the same limits, but SET ROLE does not apply a role's settings: here they bind every request.
const GATEWAY_LIMITS = [
  "timezone = 'UTC'",
  "statement_timeout = '30s'",
  "lock_timeout = '5s'",
  "idle_in_transaction_session_timeout = '60s'",
];
// A job may take longer than a request.
const WORKER_LIMITS = GATEWAY_LIMITS.filter((limit) => !limit.startsWith("statement_timeout"));

async function setLogin(client: pg.Client, url: string, limits: string[]): Promise<void> {
  const { username, password } = new URL(url);
  const role = pg.escapeIdentifier(username);
  await client.query(`alter role ${role} password ${pg.escapeLiteral(decodeURIComponent(password))}`);
  for (const limit of limits) await client.query(`alter role ${role} set ${limit}`);
}

async function installSuperuserPart(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query("select rolsuper from pg_roles where rolname = current_user");
  if (rows[0]?.rolsuper) {
    await client.query(readFileSync(join(ROOT, "db", "superuser.sql"), "utf8"));
    return [];
  }
  // tenancy.enter becomes a site's role by way of the gateway, which may: were rowhouse_owner a member of each site's role
  // to that end, creating a site would cost 131 ms with 10,000 sites instead of 40.
  await client.query("grant rowhouse_gateway to current_user with inherit false, set true");
  return [
    "This login is no superuser: set_config, advisory locks and large objects could not be revoked from public, so SQL that tenants write is not offered.",
    "This login is no superuser: numeric comparison could not be marked leakproof, so filters on decimal fields use no index.",
  ];
}
