import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Writable } from "node:stream";
import pg from "pg";
import { pino } from "pino";
import { issueDevelopmentToken } from "../../server/auth/development.ts";
import { authRoutes } from "../../server/auth/routes.ts";
import { openTokens } from "../../server/auth/tokens.ts";
import { createGraphql } from "../../server/graphql/graphql.ts";
import { createApp } from "../../server/http/app.ts";
import { readSettings } from "../../server/settings.ts";
import type { TestDatabase } from "./database.ts";

/** What GraphQL answered. */
export type GraphqlReply = {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
  data: any;
  errors: { message: string; extensions: Record<string, unknown> }[];
};

/** A gateway with GraphQL on a database. `ask` asks an app (acme/crm) as an account. */
export async function startGraphql(db: TestDatabase): Promise<{
  ask(app: string, email: string, query: string, variables?: object): Promise<GraphqlReply>;
  stop(): Promise<void>;
}> {
  const settings = readSettings({});
  const pool = new pg.Pool({ connectionString: db.gatewayUrl, max: 5 });
  pool.on("error", () => {});
  const log = pino(new Writable({ write: (_chunk, _encoding, done) => done() }));
  const tokens = await openTokens({ pool, masterKey: Buffer.alloc(32, 7), settings });
  const graphql = createGraphql({ pool, settings, log });
  const app = createApp({
    pool,
    settings,
    log,
    tokens,
    graphql,
    auth: authRoutes({ pool, tokens }),
    ready: async () => ({ ready: true, checks: {} }),
  });
  const server = createServer(app);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    async ask(path, email, query, variables = {}) {
      const [site, name] = path.split("/") as [string, string];
      const { access_token } = await issueDevelopmentToken(db.pool, tokens, { email, site });
      const response = await fetch(`${url}/api/v1/sites/${site}/apps/${name}/graphql`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${access_token}` },
        body: JSON.stringify({ query, variables }),
      });
      const { data, errors = [] } = (await response.json()) as Partial<GraphqlReply>;
      return { status: response.status, data, errors };
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
      await graphql.stop();
      await pool.end();
    },
  };
}
