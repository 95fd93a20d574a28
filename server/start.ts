import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import pg from "pg";
import type { Logger } from "pino";
import { authRoutes } from "./auth/routes.ts";
import { openTokens } from "./auth/tokens.ts";
import type { Database } from "./database/connect.ts";
import { migrate } from "./database/migrate.ts";
import { createGraphql } from "./graphql/graphql.ts";
import { createApp } from "./http/app.ts";
import type { Readiness } from "./http/context.ts";
import type { Settings } from "./settings.ts";
import { startWorker, type Worker } from "./worker/worker.ts";

/** A running gateway and worker. stop() finishes running requests first. */
export interface Rowhouse {
  url: string;
  warnings: string[];
  stop(): Promise<void>;
}

const PATIENCE_MS = 5_000;

/** Migrates the database, then starts gateway and worker in this process. */
export async function startServer(parts: {
  settings: Settings;
  database: Pick<Database, "operatorUrl" | "gatewayUrl" | "gatewayPassword">;
  masterKey: Buffer;
  log: Logger;
}): Promise<Rowhouse> {
  const { settings, database, masterKey, log } = parts;
  const { warnings } = await migrate(database.operatorUrl, database.gatewayPassword);
  const pool = openPool(database.gatewayUrl, settings.ROWHOUSE_POOL_SIZE, log);
  const operatorPool = openPool(database.operatorUrl, 10, log);
  const tokens = await openTokens({ pool, masterKey, settings });
  const worker = await startWorker(operatorPool, log);
  const graphql = createGraphql({ pool, settings, log });
  const app = createApp({
    pool,
    settings,
    log,
    tokens,
    graphql,
    auth: authRoutes({ pool, tokens }),
    ready: () => readiness(pool, worker),
  });
  const server = createServer(app);
  server.keepAliveTimeout = 65_000;
  const stop = async () => {
    await close(server);
    await Promise.all([graphql.stop(), worker.stop()]);
    await Promise.all([pool.end(), operatorPool.end()]);
  };
  try {
    await listen(server, settings);
  } catch (error) {
    await stop();
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  return { url: settings.ROWHOUSE_URL || `http://${settings.ROWHOUSE_HOST}:${port}`, warnings, stop };
}

function openPool(connectionString: string, max: number, log: Logger): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    max,
    connectionTimeoutMillis: 10_000,
    idleTimeoutMillis: 60_000,
    maxLifetimeSeconds: 1800,
  });
  pool.on("error", (error) =>
    log.warn({ part: "pool", message: error.message }, "A database connection was lost"),
  );
  // A connection that breaks while it is checked out must not end the process.
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

async function readiness(pool: pg.Pool, worker: Worker): Promise<Readiness> {
  const checks: Record<string, string> = { worker: worker.isRunning() ? "ok" : "not running" };
  try {
    await pool.query("select from tenancy.site_of_host('')");
    checks.database = "ok";
    checks.migrations = "ok";
  } catch (error) {
    const code = (error as { code?: string }).code ?? "";
    checks.database = /^(08|53|57|E)/.test(code) || code === "" ? "not reachable" : "ok";
    checks.migrations = checks.database === "ok" ? "not installed" : "unknown";
  }
  return { ready: Object.values(checks).every((check) => check === "ok"), checks };
}

function listen(server: Server, settings: Settings): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      fail(
        error.code === "EADDRINUSE"
          ? new Error(
              `Port ${settings.ROWHOUSE_PORT} is in use; set ROWHOUSE_PORT, or stop what listens there.`,
              { cause: error },
            )
          : error,
      ),
    );
    server.listen(settings.ROWHOUSE_PORT, settings.ROWHOUSE_HOST, done);
  });
}

/** Accepts nothing new, lets running requests end, and cuts what still runs after 5 s. */
async function close(server: Server): Promise<void> {
  const timer = setTimeout(() => server.closeAllConnections(), PATIENCE_MS);
  await new Promise((done) => {
    server.close(done);
    server.closeIdleConnections();
  });
  clearTimeout(timer);
}
