import type { Server } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import pg from "pg";
import type { Logger } from "pino";
import { authRoutes } from "./auth/routes.ts";
import { openTokens } from "./auth/tokens.ts";
import type { Logins, Only } from "./database/connect.ts";
import { contentHash, migrate } from "./database/migrate.ts";
import { createGraphql } from "./graphql/graphql.ts";
import { createApp } from "./http/app.ts";
import type { Settings } from "./settings.ts";
import { createHealthServer, readiness } from "./worker/health.ts";
import { startOperator } from "./worker/operator.ts";
import { startWorker } from "./worker/worker.ts";

/** A running gateway, worker, operator or all of them. stop() finishes running requests and jobs first. */
export interface Rowhouse {
  /** Where clients reach the gateway; a process with the worker alone: where it tells its health. */
  url: string;
  warnings: string[];
  stop(): Promise<void>;
}

const PATIENCE_MS = 5_000;

/**
 * Starts gateway, worker and what the operator's login does in this process, or `only` one of them. Migrates first, where the
 * operator's URL is given; without it, somebody else has to.
 */
export async function startServer(parts: {
  settings: Settings;
  logins: Partial<Logins>;
  only?: Only | undefined;
  /** Asked for by the gateway only: a worker needs no key. */
  masterKey: () => Buffer;
  log: Logger;
}): Promise<Rowhouse> {
  const { settings, logins, only, masterKey, log } = parts;
  const open: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const close of open.splice(0).reverse())
      await close().catch((error: Error) =>
        log.warn({ message: error.message }, "A part did not stop cleanly"),
      );
  };
  const openPool = (url: string | undefined, max: number) => {
    if (!url) throw new Error("There is no login for this part of the server");
    const pool = createPool(url, max, log);
    open.push(() => pool.end());
    return pool;
  };
  try {
    const warnings: string[] = [];
    if (hasAll(logins)) warnings.push(...(await migrate(logins)).warnings);
    const runs = (part: Only) => only === undefined || only === part;
    const workerPool = runs("worker") ? openPool(logins.workerUrl, 10) : null;
    const pool = runs("gateway") ? openPool(logins.gatewayUrl, settings.ROWHOUSE_POOL_SIZE) : null;
    if (!logins.operatorUrl) warnings.push(...(await compareInstalled((pool ?? workerPool) as pg.Pool)));

    const worker = workerPool && (await startWorker(workerPool, log));
    if (worker) open.push(() => worker.stop());
    const operator = logins.operatorUrl && only !== "gateway" ? startOperator(logins.operatorUrl, log) : null;
    if (operator) open.push(() => operator.stop());
    const health = pool ?? workerPool ?? openPool(logins.operatorUrl, 1);
    const ready = () => readiness(health, only === "operator" ? { operator } : { worker });
    if (!pool) {
      const server = createHealthServer(ready);
      open.push(() => close(server));
      return { url: await listen(server, settings, "ROWHOUSE_WORKER_PORT"), warnings, stop };
    }

    const tokens = await openTokens({ pool, masterKey: masterKey(), settings });
    const graphql = createGraphql({ pool, settings, log });
    open.push(() => graphql.stop());
    const auth = authRoutes({ pool, tokens });
    const server = createServer(createApp({ pool, settings, log, tokens, graphql, auth, ready }));
    server.keepAliveTimeout = 65_000;
    open.push(() => close(server));
    const address = await listen(server, settings, "ROWHOUSE_PORT");
    return { url: settings.ROWHOUSE_URL || address, warnings, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function hasAll(logins: Partial<Logins>): logins is Logins {
  return Boolean(logins.operatorUrl && logins.gatewayUrl && logins.workerUrl);
}

function createPool(connectionString: string, max: number, log: Logger): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    max,
    connectionTimeoutMillis: 10_000,
    idleTimeoutMillis: 0, // it would cost a timer per request; lifetime recycles connections
    maxLifetimeSeconds: 1800,
  });
  pool.on("error", (error) => {
    // end() does not wait for its connections, and an embedded server that stops right then ends them.
    if (!pool.ending) log.warn({ part: "pool", message: error.message }, "A database connection was lost");
  });
  // A connection that breaks while it is checked out must not end the process.
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

/** For a process that may not migrate: refuses a database without Rowhouse, and warns of another version's. */
async function compareInstalled(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool
    .query<{ hash: string }>("select rowhouse.installed_content() as hash")
    .catch((cause: Error & { code?: string }) => {
      // No such schema or function; no such login, or another password.
      if (!["3F000", "42883", "42501", "28P01", "28000"].includes(cause.code ?? "")) throw cause;
      throw new Error(
        `${cause.message}. This login does not migrate: run rowhouse migrate as the operator first, with the same passwords or master key.`,
        { cause },
      );
    });
  if (rows[0]?.hash === contentHash()) return [];
  return [
    "The database was migrated by another version of Rowhouse: run rowhouse migrate of the newer one as the operator.",
  ];
}

function listen(
  server: Server,
  settings: Settings,
  name: "ROWHOUSE_PORT" | "ROWHOUSE_WORKER_PORT",
): Promise<string> {
  return new Promise((done, fail) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const where = `${settings.ROWHOUSE_HOST}:${settings[name]}`;
      const reasons: Record<string, string> = {
        EADDRINUSE: `Port ${settings[name]} is in use. Set ${name} to another one (0 takes a free port), or stop what listens there; perhaps Rowhouse runs already.`,
        EACCES: `This user may not listen on ${where}. Set ${name} to a port above 1023.`,
        EADDRNOTAVAIL: `This machine has no address ${settings.ROWHOUSE_HOST}. Set ROWHOUSE_HOST, for example to 127.0.0.1 or 0.0.0.0.`,
      };
      const reason = reasons[cause.code ?? ""];
      fail(reason ? new Error(reason, { cause }) : cause);
    });
    server.listen(settings[name], settings.ROWHOUSE_HOST, () => {
      const { port } = server.address() as AddressInfo;
      const host = settings.ROWHOUSE_HOST.includes(":")
        ? `[${settings.ROWHOUSE_HOST}]`
        : settings.ROWHOUSE_HOST;
      done(`http://${host}:${port}`);
    });
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
