import "./environment.ts";
import type { IncomingMessage, ServerResponse } from "node:http";
import { getHeapStatistics } from "node:v8";
import type { Pool } from "pg";
import type { Logger } from "pino";
import { GraphQLError } from "postgraphile/graphql";
import type { Claims, ControlContext, GraphqlHandlers, RequestContext } from "../http/context.ts";
import { type Env, envText } from "../http/env.ts";
import { Problem, unauthenticated } from "../http/problem.ts";
import { readJsonText } from "../http/request.ts";
import { sendJson } from "../http/response.ts";
import type { Settings } from "../settings.ts";
import { controlScope, controlTags } from "./control.ts";
import { Endpoint, type GraphqlRequest } from "./endpoint.ts";
import { formatError, nestedTooDeeply } from "./errors.ts";
import { parseExactly } from "./exactness.ts";
import { serveGraphiql } from "./graphiql.ts";
import { type App, Instances } from "./instances.ts";
import type { Limits } from "./limits.ts";
import { listenToDefinitions } from "./listener.ts";
import { buildSchema } from "./schema.ts";

type Parts = {
  pool: Pool;
  settings: Pick<Settings, "ROWHOUSE_BODY_LIMIT" | "ROWHOUSE_GRAPHQL_APPS" | "ROWHOUSE_GRAPHIQL"> & Limits;
  log: Logger;
};

type OpenedApp = App & { site_id: string; role_name: string };

/** GraphQL for every app and for the control plane. `pool` logs in as rowhouse_gateway. */
export function createGraphql({ pool, settings, log }: Parts): GraphqlHandlers & { stop(): Promise<void> } {
  const heapLimit = getHeapStatistics().heap_size_limit / 1024 / 1024;
  const instances = new Instances(pool, log, settings, settings.ROWHOUSE_GRAPHQL_APPS, heapLimit);
  const connectionString = pool.options.connectionString;
  const listener = connectionString
    ? listenToDefinitions(connectionString, log, (appId) => void forgetDropped(appId))
    : null;
  let control: Promise<Endpoint> | null = null;

  // The next request rebuilds what changed; an app that was dropped has no next request.
  async function forgetDropped(appId: string): Promise<void> {
    if (!instances.has(appId)) return;
    const { rows } = await pool
      .query<{ app_id: string | null }>("select app_id from tenancy.resolve(null, $1)", [appId])
      .catch(() => ({ rows: [{ app_id: appId }] }));
    if (!rows[0]?.app_id) instances.forget(appId);
  }

  async function controlEndpoint(): Promise<Endpoint> {
    control ??= buildSchema(pool, controlScope, [controlTags]).then(
      (built) => new Endpoint(built, pool, settings, "control"),
    );
    try {
      return await control;
    } catch (cause) {
      control = null;
      throw cause;
    }
  }

  async function answer(
    req: IncomingMessage,
    res: ServerResponse,
    context: ControlContext,
    open: (request: GraphqlRequest) => Promise<{ endpoint: Endpoint; claims: Record<string, string> }>,
  ): Promise<void> {
    if (settings.ROWHOUSE_GRAPHIQL && (req.method === "GET" || req.method === "HEAD"))
      return serveGraphiql(req, res);
    if (req.method !== "POST") {
      throw new Problem(405, "GraphQL is asked with POST", {
        code: "method_not_allowed",
        headers: { allow: "POST" },
      });
    }
    const request = readGraphql(await readJsonText(req, settings.ROWHOUSE_BODY_LIMIT));
    const { endpoint, claims } = await open(request);
    const { data, errors, executed } = await endpoint.run(request, claims);
    const formatted = errors.map((error) =>
      formatError(error, context.env.request_id, ({ message, cause }) =>
        log.error(
          {
            request_id: context.env.request_id,
            err: cause instanceof Error ? { message: cause.message, stack: cause.stack } : undefined,
          },
          message,
        ),
      ),
    );
    for (const { message, extensions = {} } of formatted)
      context.denied?.({
        status: Number(extensions.status),
        code: String(extensions.code),
        reason: message,
      });
    const parts = [
      ...(formatted.length > 0 ? [`"errors":${JSON.stringify(formatted)}`] : []),
      ...(executed ? [`"data":${data}`] : []),
    ];
    sendJson(res, executed ? 200 : 400, `{${parts.join(",")}}`);
  }

  return {
    appHandler: (context: RequestContext, req, res) =>
      answer(req, res, context, async (request) => {
        const { claims } = context;
        const app = await openApp(pool, claims, context);
        const endpoint = await instances.of(app);
        const env = endpoint.readsAreNoted ? asked(context.env, request) : context.env;
        return {
          endpoint,
          claims: {
            "rowhouse.account": claims?.sub ?? "",
            "rowhouse.site": app.site_id,
            "rowhouse.env": envText(env, claims?.sid ?? null),
            role: app.role_name,
          },
        };
      }),
    controlHandler: (context: ControlContext, req, res) =>
      answer(req, res, context, async () => {
        const { claims } = context;
        if (!claims) throw unauthenticated();
        await requireSession(pool, claims);
        return {
          endpoint: await controlEndpoint(),
          claims: {
            "rowhouse.account": claims.sub,
            "rowhouse.site": claims.tenant_id ?? "",
            "rowhouse.env": envText(context.env, claims.sid),
            role: "rowhouse_account",
          },
        };
      }),
    stop: async () => {
      await listener?.stop();
    },
  };
}

async function openApp(pool: Pool, claims: Claims | null, context: RequestContext): Promise<OpenedApp> {
  const { rows } = await pool.query<OpenedApp>({
    name: "graphql_open_request",
    text: `select site_id, site_name, role_name, app_id, app_name, schema_name, definition_version
      from tenancy.open_request($1::uuid, $2::uuid, $3, $4)`,
    values: [claims?.sid ?? null, claims?.sub ?? null, context.site, context.app],
  });
  return rows[0] as OpenedApp;
}

async function requireSession(pool: Pool, claims: Claims): Promise<void> {
  const { rows } = await pool.query<{ is_live: boolean }>({
    name: "graphql_session_is_live",
    text: "select auth.session_is_live($1::uuid) as is_live",
    values: [claims.sid ?? null],
  });
  if (rows[0]?.is_live) return;
  throw new Problem(401, "This session has ended", {
    code: "session_ended",
    hint: "Log in again: POST /api/v1/auth/login.",
  });
}

/** Reads {query, variables, operationName}. Throws a 400 Problem. */
function readGraphql(text: string): GraphqlRequest {
  let body: unknown;
  try {
    body = parseExactly(text);
  } catch (cause) {
    if (cause instanceof GraphQLError) throw new Problem(400, cause.message, { code: "invalid_value" });
    if (cause instanceof RangeError) throw nestedTooDeeply(cause);
    throw new Problem(400, "The body is not valid JSON", { code: "invalid_json", cause });
  }
  const { query, variables, operationName } = (isObject(body) ? body : {}) as Record<string, unknown>;
  if (
    typeof query !== "string" ||
    !(variables == null || isObject(variables)) ||
    !(operationName == null || typeof operationName === "string")
  ) {
    throw new Problem(400, "The body is not a GraphQL request", {
      code: "invalid_body",
      hint: '{"query": "{ contacts { nodes { id } } }", "variables": {}}; one request, no list of them.',
    });
  }
  return { query, variables: variables ?? {}, operationName: operationName ?? null };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const longest = 2_000; // characters of a query that are noted

/** What a query asked for, which its address does not say: for reads that are written down. */
function asked(env: Env, { query, variables }: GraphqlRequest): Env {
  return { ...env, request: `${env.request} ${JSON.stringify({ query, variables })}`.slice(0, longest) };
}
