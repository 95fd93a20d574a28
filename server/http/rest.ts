import type { IncomingMessage, ServerResponse } from "node:http";
import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import type { Claims } from "./context.ts";
import { type Operation, planQuery } from "./plan.ts";
import { Problem, problemOf } from "./problem.ts";
import { type Caller, queryAs, type Statement, type Texts } from "./query.ts";
import { ifMatch, type Request, readJsonText } from "./request.ts";
import { sendEmpty, sendJson } from "./response.ts";
import type { Tenant } from "./tenant.ts";

/** Records of an entity, or of several where it is `query`: all, one by id, or, with `aggregate` as id, what is computed of them. */
export type Target = { entity: string; id: string | null };

type Compiled = { app: { appId: string; version: string }; statement: Statement };

const collection: Record<string, Operation> = { GET: "find", HEAD: "find", POST: "insert" };
const record: Record<string, Operation> = {
  GET: "get",
  HEAD: "get",
  PUT: "replace",
  PATCH: "update",
  DELETE: "delete",
};

const reading = (operation: Operation): Record<string, Operation> => ({ GET: operation, HEAD: operation });
const aggregates = reading("aggregate");
const union = { all: reading("find_union"), aggregate: reading("aggregate_union") };
const searching = reading("search");

const compileStatement: Statement = {
  name: "compile",
  text: "select data.compile($1::text, $2::text, $3::text, $4::jsonb)::text",
};

const compileSearch: Statement = {
  name: "compile_search",
  text: "select data.compile_search($1::text, $2::jsonb)::text",
};

/** The REST interface to records: an operation and a shape, one compiled statement, JSON passed through unparsed. */
export class Rest {
  readonly #pool: Pool;
  readonly #bodyLimit: number;
  readonly #apps = new LRUCache<string, LRUCache<string, Compiled>>({ max: 2_000 });
  #statements = 0;

  /** `bodyLimit` in bytes. */
  constructor(pool: Pool, bodyLimit: number) {
    this.#pool = pool;
    this.#bodyLimit = bodyLimit;
  }

  /** Answers a request for records. Throws Problems and errors of pg. */
  async handle(
    request: Request,
    tenant: Tenant,
    target: Target,
    claims: Claims,
    req: IncomingMessage,
    res: ServerResponse,
  ): Promise<void> {
    const operations = operationsOf(target);
    const isRecord = operations === record;
    let operation = Object.hasOwn(operations, request.method) ? operations[request.method] : undefined;
    if (!operation) throw notAllowed(operations);
    const { shape, values } = planQuery(operation, request.queryString);
    const parameters: (string | null)[] = isRecord ? [target.id] : [];
    if (operation === "insert" || operation === "replace" || operation === "update") {
      const body = await readJsonText(req, this.#bodyLimit);
      if (operation === "insert" && /^\s*\[/.test(body)) operation = "insert_list";
      parameters.push(body);
    }
    if (operation === "replace" || operation === "update" || operation === "delete")
      parameters.push(ifMatch(req));
    parameters.push(...values);

    const rows = await this.#run(tenant, target.entity, operation, shape, parameters, claims);
    const [body, version, id] = rows[0] ?? [];
    if (body === undefined || body === null) throw notFound(target);
    const headers: Record<string, string> = {};
    switch (operation) {
      case "delete":
        return sendEmpty(res, 204);
      case "insert":
        headers.etag = `W/"${version}"`;
        headers.location = `${request.path.replace(/\/$/, "")}/${id}`;
        return sendJson(res, 201, body, headers);
      case "insert_list":
        return sendJson(res, 201, body);
      case "find":
      case "search":
      case "aggregate":
      case "find_union":
      case "aggregate_union":
        return sendJson(res, 200, body);
      default:
        headers.etag = `W/"${version}"`;
        return sendJson(res, 200, body, headers);
    }
  }

  async #run(
    tenant: Tenant,
    entity: string,
    operation: Operation,
    shape: string,
    parameters: Texts,
    claims: Claims,
  ): Promise<Texts[]> {
    const caller: Caller = { session: claims.sid, account: claims.sub };
    const appKey = `${tenant.site ?? ""}/${tenant.app}`;
    const planKey = `${operation} ${entity} ${shape}`;
    for (let attempt = 1; ; attempt++) {
      const plan =
        this.#apps.get(appKey)?.get(planKey) ??
        (await this.#compile(
          caller,
          tenant,
          appKey,
          planKey,
          operation === "search" ? [shape] : [entity, operation, shape],
        ));
      try {
        return await queryAs(this.#pool, caller, plan.app, plan.statement, parameters);
      } catch (error) {
        if (!isStale(error)) throw problemOf(error, parameters);
        this.#apps.delete(appKey);
        if (attempt > 2) throw problemOf(error, parameters);
      }
    }
  }

  /** Compiled with the rights of the request, so that what its account may not know is not there. */
  async #compile(
    caller: Caller,
    tenant: Tenant,
    appKey: string,
    planKey: string,
    call: string[],
  ): Promise<Compiled> {
    const parameters = [tenant.app, ...call];
    const statement = call.length === 1 ? compileSearch : compileStatement;
    const rows = await queryAs(this.#pool, caller, tenant, statement, parameters).catch((error: unknown) => {
      throw problemOf(error, parameters);
    });
    const { sql, app, version } = JSON.parse(rows[0]?.[0] ?? "{}") as {
      sql: string;
      app: string;
      version: number;
    };
    const compiled = {
      app: { appId: app, version: String(version) },
      statement: { name: `s${++this.#statements}`, text: sql },
    };
    let plans = this.#apps.get(appKey);
    if (!plans) {
      plans = new LRUCache({ max: 500 });
      this.#apps.set(appKey, plans);
    }
    plans.set(planKey, compiled);
    return compiled;
  }
}

// RH001: the app has another definition by now, or the session may no longer open it: compiling anew says which. The others: what a statement names is gone, as when an app
// was dropped and made again.
function isStale(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === "RH001" || code === "42P01" || code === "42703" || code === "42883" || code === "3F000";
}

function operationsOf({ entity, id }: Target): Record<string, Operation> {
  if (id !== null && id !== "aggregate") return record;
  if (entity === "search" && id === null) return searching;
  if (entity === "query") return id === null ? union.all : union.aggregate;
  return id === null ? collection : aggregates;
}

function notFound(target: Target): Problem {
  return new Problem(404, `There is no such record of ${target.entity} that you may see`, {
    code: "not_found",
    hint: "Check the id; it may have been deleted.",
  });
}

function notAllowed(operations: Record<string, Operation>): Problem {
  const allow = [...Object.keys(operations), "OPTIONS"].join(", ");
  return new Problem(405, `This method is not allowed here`, {
    code: "method_not_allowed",
    hint: `Allowed: ${allow}.`,
    headers: { allow },
  });
}
