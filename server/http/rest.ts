import type { IncomingMessage, ServerResponse } from "node:http";
import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import { etagOf, sendRead } from "./conditional.ts";
import type { Claims } from "./context.ts";
import { type Operation, planQuery } from "./plan.ts";
import { Problem, problemOf } from "./problem.ts";
import { type Caller, callerOf, queryAs, type Statement, type Texts } from "./query.ts";
import { isShare } from "./received-shares.ts";
import { ifMatch, type Request, readJsonText } from "./request.ts";
import { sendEmpty, sendJson } from "./response.ts";
import { type Result, Results } from "./results.ts";
import type { Tenant } from "./tenant.ts";
import type { Usage } from "./usage.ts";

/**
 * Records of an entity, or of several where it is `query`: all, one by id, or, with `aggregate` as id, what is computed of
 * them; of one, also a part (restore, purge, history).
 */
export type Target = { entity: string; id: string | null; part?: string | undefined };

type Compiled = {
  app: { appId: string; version: string };
  /** What it is about: for the most part the entity asked for. */
  entities: string[];
  statement: Statement;
  /** Where the result may be kept: seconds, and the statement that tells whether it still holds. */
  cache: { ttl: number; statement: Statement } | null;
};

/** A row of a statement's answer; `result` is what was kept of it, if it may be. */
type Answer = { row: Texts; result?: Result; isHit?: boolean };

const collection: Record<string, Operation> = {
  GET: "find",
  HEAD: "find",
  POST: "insert",
  PUT: "upsert",
  PATCH: "update_where",
  DELETE: "delete_where",
};
const record: Record<string, Operation> = {
  GET: "get",
  HEAD: "get",
  PUT: "replace",
  PATCH: "update",
  DELETE: "delete",
};
const written = new Set<Operation>(["insert", "replace", "update", "upsert", "update_where"]);
const reads = new Set<Operation>([
  "find",
  "search",
  "aggregate",
  "find_union",
  "aggregate_union",
  "get",
  "history",
]);
/** What an operation is when the body is a list. */
const ofList: Partial<Record<Operation, Operation>> = { insert: "insert_list", update_where: "update_list" };

const reading = (operation: Operation): Record<string, Operation> => ({ GET: operation, HEAD: operation });
const aggregates = reading("aggregate");
const union = { all: reading("find_union"), aggregate: reading("aggregate_union") };
const searching = reading("search");
const share = { list: reading("find"), record: reading("get") };
const parts: Record<string, Record<string, Operation>> = {
  restore: { POST: "restore" },
  purge: { POST: "purge" },
  history: reading("history"),
};

/** Whether a record has this under its address. */
export function isPart(name: string | undefined): boolean {
  return name === undefined || Object.hasOwn(parts, name);
}

const compileStatement: Statement = {
  name: "compile",
  text: "select data.compile($1::text, $2::text, $3::text, $4::jsonb)::text",
};

/** The REST interface to records: an operation and a shape, one compiled statement, JSON passed through unparsed. */
export class Rest {
  readonly #pool: Pool;
  readonly #bodyLimit: number;
  readonly #results: Results;
  readonly #usage: Usage;
  readonly #apps = new LRUCache<string, LRUCache<string, Compiled>>({ max: 2_000 });
  #statements = 0;

  /** `bodyLimit` and `cacheSize` in bytes. */
  constructor(pool: Pool, bodyLimit: number, cacheSize: number, usage: Usage) {
    this.#usage = usage;
    this.#pool = pool;
    this.#bodyLimit = bodyLimit;
    this.#results = new Results(cacheSize);
  }

  /** Answers a request for records. Throws Problems and errors of pg. */
  async handle(
    request: Request,
    tenant: Tenant,
    target: Target,
    claims: Claims | null,
    req: IncomingMessage,
    res: ServerResponse,
  ): Promise<void> {
    const operations = operationsOf(target);
    const isRecord = operations === record || operations === share.record || target.part !== undefined;
    let operation = Object.hasOwn(operations, request.method) ? operations[request.method] : undefined;
    if (!operation) throw notAllowed(operations);
    const body = written.has(operation) ? await readJsonText(req, this.#bodyLimit) : null;
    if (body !== null && /^\s*\[/.test(body)) operation = ofList[operation] ?? operation;
    const { shape, values } = planQuery(operation, request.queryString);
    const parameters: (string | null)[] = isRecord ? [target.id, ...values] : values;
    if (body !== null) parameters.push(body);
    if (operation === "replace" || operation === "update" || operation === "delete")
      parameters.push(ifMatch(req));

    const { row, result, isHit } = await this.#run(
      tenant,
      target.entity,
      operation,
      shape,
      parameters,
      callerOf(claims, request.env),
    );
    if (result) return sendRead(req, res, result.text, result.etag, { "x-cache": isHit ? "hit" : "miss" });
    const [answer, version, id] = row;
    if (answer === undefined || answer === null) throw notFound(target);
    switch (operation) {
      case "delete":
      case "purge":
        return sendEmpty(res, 204);
      case "insert":
        return sendJson(res, 201, answer, {
          etag: etagOf(answer, version),
          location: `${request.path.replace(/\/$/, "")}/${id}`,
        });
      case "insert_list":
        return sendJson(res, 201, answer);
      case "replace":
      case "update":
        return sendJson(res, 200, answer, { etag: etagOf(answer, version) });
      case "update_list":
      case "update_where":
      case "delete_where":
      case "upsert":
        return sendJson(res, 200, answer);
      default:
        return sendRead(req, res, answer, etagOf(answer, version));
    }
  }

  async #run(
    tenant: Tenant,
    entity: string,
    operation: Operation,
    shape: string,
    parameters: Texts,
    caller: Caller,
  ): Promise<Answer> {
    // What nobody may know of is not there for nobody, whatever was compiled for others.
    const appKey = `${caller.account === null ? "?" : ""}${tenant.site ?? ""}/${tenant.app}`;
    const planKey = `${operation} ${entity} ${shape}`;
    for (let attempt = 1; ; attempt++) {
      const plan =
        this.#apps.get(appKey)?.get(planKey) ??
        (await this.#compile(caller, tenant, appKey, planKey, [entity, operation, shape]));
      try {
        const answer = plan.cache
          ? await this.#read(caller, plan, plan.cache, planKey, parameters)
          : { row: (await queryAs(this.#pool, caller, plan.app, plan.statement, parameters))[0] ?? [] };
        for (const about of plan.entities) this.#usage.note(plan.app.appId, about, operation, caller);
        return answer;
      } catch (error) {
        if (!isStale(error)) throw problemOf(error, parameters);
        this.#apps.delete(appKey);
        if (attempt > 2) throw problemOf(error, parameters);
      }
    }
  }

  /** What was kept, if SQL says that for this reader it still holds; else what the statement gives, kept with what SQL says of it. */
  async #read(
    caller: Caller,
    { app, statement }: Compiled,
    cache: NonNullable<Compiled["cache"]>,
    planKey: string,
    parameters: Texts,
  ): Promise<Answer> {
    const nameOf = (key: unknown) => this.#results.nameOf([app.appId, app.version, key, planKey, parameters]);
    const [keys] = await queryAs(this.#pool, caller, app, cache.statement, []);
    const kept = this.#results.get(nameOf(keys?.[0]));
    if (kept) return { row: [], result: kept, isHit: true };
    const [row = []] = await queryAs(this.#pool, caller, app, statement, parameters);
    const text = row[0];
    if (text === undefined || text === null) return { row };
    const result = { text, etag: etagOf(text, row.length > 2 ? row[1] : null) };
    this.#results.keep(nameOf(row.at(-1)), result, cache.ttl);
    return { row, result };
  }

  /** Compiled with the rights of the request, so that what its account may not know is not there. */
  async #compile(
    caller: Caller,
    tenant: Tenant,
    appKey: string,
    planKey: string,
    call: [entity: string, operation: Operation, shape: string],
  ): Promise<Compiled> {
    const parameters = [tenant.app, ...call];
    const rows = await queryAs(this.#pool, caller, tenant, compileStatement, parameters).catch(
      (error: unknown) => {
        throw problemOf(error, parameters);
      },
    );
    const { sql, app, version, cache, entities } = JSON.parse(rows[0]?.[0] ?? "{}") as {
      sql: string;
      app: string;
      version: number;
      cache?: { ttl: number; sql: string };
      entities?: string[];
    };
    const compiled: Compiled = {
      app: { appId: app, version: String(version) },
      entities: entities ?? [call[0]],
      statement: { name: `s${++this.#statements}`, text: sql, isRead: reads.has(call[1]) },
      cache:
        cache && this.#results.isOn
          ? { ttl: cache.ttl, statement: { name: `s${++this.#statements}`, text: cache.sql, isRead: true } }
          : null,
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

function operationsOf(target: Target): Record<string, Operation> {
  const { entity, id, part } = target;
  if (isShare(target)) return id === null ? share.list : id === "aggregate" ? aggregates : share.record;
  if (part !== undefined) return parts[part] ?? {};
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
