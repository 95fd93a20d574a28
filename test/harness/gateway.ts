import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Writable } from "node:stream";
import pg from "pg";
import { pino } from "pino";
import { issueDevelopmentToken } from "../../server/auth/development.ts";
import { authRoutes } from "../../server/auth/routes.ts";
import { openTokens } from "../../server/auth/tokens.ts";
import { createApp } from "../../server/http/app.ts";
import { Problem } from "../../server/http/problem.ts";
import { readSettings } from "../../server/settings.ts";
import type { TestDatabase } from "./database.ts";

/** A gateway, with its pool and its log open to the test. */
export type TestGateway = {
  url: string;
  pool: pg.Pool;
  /** Round trips to PostgreSQL so far. */
  roundTrips(): number;
  /** The log, line by line. */
  log: string[];
  /** An access token of an account, for one site or for none in particular. */
  token(email: string, site?: string): Promise<string>;
  stop(): Promise<void>;
};

/** Starts a gateway on a free port. `connections` is the pool's size; GraphQL only where asked for. */
export async function startGateway(
  db: TestDatabase,
  env: Record<string, string> = {},
  connections = 5,
  withGraphql = false,
): Promise<TestGateway> {
  const settings = readSettings(env);
  const pool = new pg.Pool({ connectionString: db.gatewayUrl, max: connections });
  pool.on("error", () => {});
  let trips = 0;
  pool.on("connect", (client) => {
    const { connection } = client as unknown as { connection: NodeJS.EventEmitter };
    connection.on("readyForQuery", () => trips++);
  });
  const log: string[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      log.push(String(chunk));
      done();
    },
  });
  const tokens = await openTokens({ pool, masterKey: Buffer.alloc(32, 7), settings });
  const noGraphql = async () => {
    throw new Problem(501, "This gateway has no GraphQL");
  };
  const logger = pino(stream);
  // Loading PostGraphile takes a second.
  const graphql = withGraphql
    ? (await import("../../server/graphql/graphql.ts")).createGraphql({ pool, settings, log: logger })
    : null;
  const app = createApp({
    pool,
    settings,
    log: logger,
    tokens,
    graphql: graphql ?? { appHandler: noGraphql, controlHandler: noGraphql },
    ready: async () => ({ ready: true, checks: { database: "ok" } }),
    auth: authRoutes({ pool, tokens }),
  });
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    pool,
    roundTrips: () => trips,
    log,
    token: async (email, site) =>
      (await issueDevelopmentToken(db.pool, tokens, { email, site })).access_token,
    async stop() {
      await graphql?.stop();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await pool.end();
    },
  };
}
