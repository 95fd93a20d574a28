import { randomBytes } from "node:crypto";
import { basename } from "node:path";
import { expect } from "@jest/globals";
import pg from "pg";
import { logins } from "../../server/database/connect.ts";

/** A database of one test file, cloned from the migrated template. */
export interface TestDatabase {
  name: string;
  operatorUrl: string;
  gatewayUrl: string;
  workerUrl: string;
  pool: pg.Pool;
  /** Runs one statement as the operator and returns its rows. */
  query<T extends pg.QueryResultRow = Record<string, unknown>>(
    text: string,
    values?: unknown[],
  ): Promise<T[]>;
  /** Runs work in a session that entered a site as an account (call tenancy.enter). */
  as<T>(site: string, email: string, work: (client: pg.PoolClient) => Promise<T>): Promise<T>;
  /** Creates an account with a password hash that nobody knows; returns its id. */
  account(email: string): Promise<string>;
  /** Creates an organization and a site of one name with the app crm, and accounts that are members of it by role. */
  site(name: string, members?: Record<string, string>): Promise<void>;
  drop(): Promise<void>;
}

/** The cluster of this test run, started once by jest's global setup. */
export function testCluster(): { operatorUrl: string; gatewayPassword: string; workerPassword: string } {
  return JSON.parse(process.env.TEST_CLUSTER as string);
}

const maintenanceUrl = () => testCluster().operatorUrl.replace(/\/rowhouse$/, "/postgres");

/** Clones the template: milliseconds, nothing shared but the cluster's roles. */
export async function cloneDatabase(template = "rowhouse"): Promise<TestDatabase> {
  const cluster = testCluster();
  // Named after its test file: pg_stat_activity and the server's log tell whose a session is.
  const file = basename(expect.getState().testPath ?? "", ".test.ts").replaceAll("-", "_");
  const name = `test_${file}_${randomBytes(4).toString("hex")}`;
  await runOnce(maintenanceUrl(), `create database ${name} template ${template} strategy file_copy`);
  const operatorUrl = cluster.operatorUrl.replace(/\/rowhouse$/, `/${name}`);
  await runOnce(
    operatorUrl,
    `revoke create, temporary on database ${name} from public; grant create, connect, temporary on database ${name} to rowhouse_owner; grant connect on database ${name} to rowhouse_gateway`,
  );
  const pool = new pg.Pool({ connectionString: operatorUrl, max: 4 });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const query: TestDatabase["query"] = async (text, values) =>
    (await pool.query(text, values as unknown[])).rows as never;
  const account: TestDatabase["account"] = async (email) => {
    const [row] = await query<{ id: string }>(
      "insert into auth.accounts (email) values ($1) on conflict (email) do update set email = excluded.email returning id",
      [email],
    );
    return (row as { id: string }).id;
  };
  return {
    name,
    ...logins(operatorUrl, { gateway: cluster.gatewayPassword, worker: cluster.workerPassword }),
    pool,
    query,
    async as(site, email, work) {
      const client = await pool.connect();
      try {
        await client.query("call tenancy.enter($1, $2)", [site, email]);
        return await work(client);
      } finally {
        await client.query("call tenancy.leave()").then(
          () => client.release(),
          (error) => client.release(error),
        );
      }
    },
    account,
    async site(name, members = {}) {
      await query("select tenancy.create_organization($1)", [name]);
      await query("select tenancy.create_site($1, $1)", [name]);
      await query("select tenancy.create_app($1, 'crm')", [name]);
      for (const [email, role] of Object.entries(members)) {
        await account(email);
        await query("select tenancy.add_member($1, $2, $3)", [name, email, role]);
      }
    },
    async drop() {
      // Not waited for: what a test that failed never released goes with the database, and with it its transaction. One was
      // open for 12 minutes, to the end of a run, and kept others' indexes from being used.
      void pool.end();
      await runOnce(maintenanceUrl(), `drop database ${name} with (force)`);
    },
  };
}

/** The name of a template for cloneDatabase that is made by who asks for it first, in a clone of another. */
export async function madeOnce(
  name: string,
  make: (db: TestDatabase) => Promise<void>,
  from?: string,
): Promise<string> {
  const template = `template_${name}`;
  const client = new pg.Client({ connectionString: maintenanceUrl() });
  await client.connect();
  try {
    await client.query("select pg_advisory_lock(hashtextextended($1, 0))", [template]);
    const { rowCount } = await client.query("select from pg_database where datname = $1", [template]);
    if (rowCount === 1) return template;
    const db = await cloneDatabase(from);
    await make(db);
    await db.pool.end();
    await client.query(`alter database ${db.name} with is_template true allow_connections false`);
    await client.query(`alter database ${db.name} rename to ${template}`);
    return template;
  } finally {
    await client.end();
  }
}

async function runOnce(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of text.split("; ")) await client.query(statement);
  } finally {
    await client.end();
  }
}
