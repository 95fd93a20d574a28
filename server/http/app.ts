import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import express from "express";
import type { Pool } from "pg";
import type { Logger } from "pino";
import { type TransferSettings, Transfers } from "../export/routes.ts";
import { serveDocs, serveDocsAsset } from "../openapi/docs.ts";
import { serveOpenapi } from "../openapi/document.ts";
import type { Settings } from "../settings.ts";
import { accessAddress, serveAccess } from "./access.ts";
import { auditAddress, serveAudit } from "./audit.ts";
import type { Claims, ControlContext, GraphqlHandlers, Readiness, Tokens } from "./context.ts";
import { Cors } from "./cors.ts";
import { Denials } from "./denials.ts";
import { Problem, problemOf, unauthenticated } from "./problem.ts";
import { serveReceivedShares, shareTarget } from "./received-shares.ts";
import { bearerToken, type Request, readRequest, requests } from "./request.ts";
import { headersOf, sendEmpty, sendJson, sendProblem } from "./response.ts";
import { isPart, Rest } from "./rest.ts";
import { type Tenant, Tenants } from "./tenant.ts";
import { serveTransaction } from "./transaction.ts";
import { Usage } from "./usage.ts";

/** What the gateway is made of. */
export type AppParts = {
  pool: Pool;
  settings: Pick<
    Settings,
    | "ROWHOUSE_BODY_LIMIT"
    | "ROWHOUSE_CACHE"
    | "ROWHOUSE_BASE_DOMAIN"
    | "ROWHOUSE_DOCS"
    | "ROWHOUSE_TRUST_PROXY"
    | "ROWHOUSE_USAGE_SECONDS"
  > &
    TransferSettings;
  log: Logger;
  tokens: Tokens;
  graphql: GraphqlHandlers;
  ready: () => Promise<Readiness>;
  /** Serves /api/v1/auth/… and /.well-known/jwks.json under their full paths. */
  auth: express.RequestHandler;
};

/** An address within /api/v1: the tenant as the path names it, if it does, and what follows. */
type Address = { tenant: Tenant | null; rest: string[] };

/** The gateway: request → tenant → plan → query → response. */
export function createApp(parts: AppParts): RequestListener {
  const { pool, settings, log, tokens, graphql, ready, auth } = parts;
  const tenants = new Tenants(pool, settings.ROWHOUSE_BASE_DOMAIN);
  const usage = new Usage(pool, log, settings.ROWHOUSE_USAGE_SECONDS);
  const rest = new Rest(pool, settings.ROWHOUSE_BODY_LIMIT, settings.ROWHOUSE_CACHE, usage);
  const transfers = new Transfers(pool, settings, usage);
  const cors = new Cors(pool);
  const denials = new Denials(pool, log);

  function claimsOf(request: Request, req: IncomingMessage): Claims | null {
    const token = bearerToken(req);
    request.claims = token === null ? null : tokens.verify(token);
    return request.claims;
  }

  function contextOf(request: Request): ControlContext {
    const { claims, env } = request;
    return {
      claims,
      env,
      denied: (denial) => denials.note(request, denial),
      used: (...used) => usage.note(...used),
    };
  }

  async function serveApp(address: Address, request: Request, req: IncomingMessage, res: ServerResponse) {
    if (req.headers.origin !== undefined) {
      await cors.allow(await tenants.findUnasked(address.tenant, req.headers), req, res);
    }
    if (request.method === "OPTIONS")
      return sendEmpty(res, 204, { allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" });
    request.site = address.tenant?.site ?? null; // as the path says, for what is refused before more is known
    const [entity, id, part] = address.rest;
    const share = shareTarget(address.rest);
    if (entity === undefined || address.rest.length > 3 || (share === undefined && !isPart(part)))
      throw noRoute();
    const isGet = request.method === "GET" || request.method === "HEAD";
    if (settings.ROWHOUSE_DOCS && isGet && entity === "docs" && id === undefined) return serveDocs(res);
    const claims = claimsOf(request, req);
    const isGraphql = entity === "graphql" && id === undefined;
    const isTransfer = transfers.takes(address.rest);
    if (!claims && (isTransfer || share !== undefined)) throw unauthenticated();
    const found = tenants.find(address.tenant, req.headers, claims);
    const tenant = found instanceof Promise ? await found : found;
    request.site = tenant.site;
    request.app = tenant.app;
    if (isGraphql) return graphql.appHandler({ ...tenant, ...contextOf(request) }, req, res);
    if (entity === "openapi.json" && id === undefined)
      return serveOpenapi(pool, request, tenant, claims, req, res);
    if (entity === "transaction" && id === undefined)
      return serveTransaction(pool, settings.ROWHOUSE_BODY_LIMIT, usage, request, tenant, claims, req, res);
    if (claims && isTransfer) return transfers.handle(address.rest, request, tenant, claims, req, res);
    if (claims && share === null) return serveReceivedShares(pool, request, tenant, claims, req, res);
    if (share) return rest.handle(request, tenant, share, claims, req, res);
    return rest.handle(request, tenant, { entity, id: id ?? null, part }, claims, req, res);
  }

  async function serve(request: Request, req: IncomingMessage, res: ServerResponse, other: () => void) {
    const { segments, method } = request;
    if (!segments) throw new Problem(400, "The path is not valid percent-encoding", { code: "invalid_path" });
    const audit = auditAddress(segments);
    if (audit) {
      if (audit.of === "sites") request.site = audit.name;
      const claims = claimsOf(request, req);
      if (!claims) throw unauthenticated();
      return serveAudit(pool, audit, request, claims, req, res);
    }
    const access = accessAddress(segments);
    if (access) {
      request.site = access.site;
      const claims = claimsOf(request, req);
      if (!claims) throw unauthenticated();
      return serveAccess(pool, settings.ROWHOUSE_BODY_LIMIT, access, request, claims, req, res);
    }
    const address = addressOf(segments);
    if (address) return serveApp(address, request, req, res);
    if (request.path.startsWith("/graphql/assets/")) {
      return graphql.controlHandler(contextOf(request), req, res);
    }
    if (settings.ROWHOUSE_DOCS && method === "GET" && serveDocsAsset(request.path, res)) return;
    switch (request.path) {
      case "/graphql":
        claimsOf(request, req);
        return graphql.controlHandler(contextOf(request), req, res);
      case "/health":
        requireGet(method);
        return sendJson(res, 200, '{"status":"ok"}');
      case "/health/ready": {
        requireGet(method);
        const { ready: isReady, checks } = await ready();
        return sendJson(
          res,
          isReady ? 200 : 503,
          JSON.stringify({ status: isReady ? "ready" : "unavailable", checks }),
        );
      }
    }
    other();
  }

  // What is not records or GraphQL. Express costs a request 17 µs, so those do not pass through it.
  const others = express();
  others.disable("x-powered-by");
  others.disable("etag");
  others.use(auth);
  others.use(() => {
    throw noRoute();
  });
  others.use((error: unknown, req: express.Request, res: express.Response, _next: express.NextFunction) => {
    const request = requests.get(req);
    if (request) fail(error, request, res);
  });

  function fail(error: unknown, request: Request, res: ServerResponse): void {
    const problem = problemOf(error);
    denials.note(request, { status: problem.status, code: problem.code ?? "", reason: problem.message });
    if (problem.status >= 500)
      log.error({ request_id: request.id, err: describe(problem.cause) }, problem.message);
    sendProblem(res, problem, request.id);
  }

  return (req, res) => {
    const request = readRequest(req, settings.ROWHOUSE_TRUST_PROXY);
    headersOf(res)["x-request-id"] = request.id;
    res.on("close", () => logRequest(log, request, res));
    serve(request, req, res, () => {
      requests.set(req, request);
      for (const [name, value] of Object.entries(headersOf(res))) res.setHeader(name, value);
      others(req, res);
    }).catch((error: unknown) => fail(error, request, res));
  };
}

/** The part of a path that belongs to an app, or null. Paths that name no app find theirs by header or host. */
function addressOf(segments: string[]): Address | null {
  const [api, version, first, site, apps, app] = segments;
  if (api !== "api" || version !== "v1" || first === undefined || first === "auth") return null;
  if (first !== "sites") return { tenant: null, rest: segments.slice(2) };
  if (site === undefined || apps !== "apps" || app === undefined) return null;
  return { tenant: { site, app }, rest: segments.slice(6) };
}

function requireGet(method: string): void {
  if (method === "GET" || method === "HEAD") return;
  throw new Problem(405, "This method is not allowed here", {
    code: "method_not_allowed",
    hint: "Allowed: GET, HEAD.",
    headers: { allow: "GET, HEAD" },
  });
}

function noRoute(): Problem {
  return new Problem(404, "There is nothing at this address", {
    code: "no_route",
    hint: "Records are at /api/v1/sites/{site}/apps/{app}/{entity} and …/{entity}/{id}; …/{app}/openapi.json lists what there is.",
  });
}

// One line a request. Query strings and bodies hold people's data and are left out, headers hold tokens.
function logRequest(log: Logger, request: Request, res: ServerResponse): void {
  const { id, method, path, site, app, startedAt } = request;
  log.info({
    request_id: id,
    method,
    path: path.slice(0, 300),
    site: site ?? undefined,
    app: app ?? undefined,
    status: res.writableFinished ? res.statusCode : 499,
    ms: Math.round((performance.now() - startedAt) * 100) / 100,
  });
}

/** An error for the log: without pg's DETAIL and parameters, which hold people's data. */
function describe(error: unknown): Record<string, unknown> | undefined {
  if (!(error instanceof Error)) return error === undefined ? undefined : { message: String(error) };
  const { code, table, constraint } = error as { code?: unknown; table?: unknown; constraint?: unknown };
  return { message: error.message, code, table, constraint, stack: error.stack };
}
