import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { logins } from "../../server/database/connect.ts";
import { migrate } from "../../server/database/migrate.ts";
import { startEmbedded } from "../../server/embedded/postgres.ts";

/** One PostgreSQL for the whole run, with a migrated template database `rowhouse` that tests clone. */
export async function startCluster() {
  const dir = mkdtempSync(join(tmpdir(), "rowhouse-test-"));
  const server = await startEmbedded(dir, ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
  const workerPassword = randomBytes(24).toString("base64url");
  const stop = async () => {
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await migrate(logins(server.operatorUrl, { gateway: server.gatewayPassword, worker: workerPassword }));
    const client = new pg.Client({
      connectionString: server.operatorUrl.replace(/\/rowhouse$/, "/postgres"),
    });
    await client.connect();
    await client.query("alter database rowhouse with is_template true allow_connections false");
    await client.end();
  } catch (error) {
    await stop();
    throw error;
  }
  return { ...server, workerPassword, stop };
}
