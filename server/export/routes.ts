import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Pool } from "pg";
import type { Claims } from "../http/context.ts";
import { type Operation, planQuery } from "../http/plan.ts";
import { Problem, problemOf } from "../http/problem.ts";
import { callerOf } from "../http/query.ts";
import type { Request } from "../http/request.ts";
import { headersOf } from "../http/response.ts";
import type { Tenant } from "../http/tenant.ts";
import type { Usage } from "../http/usage.ts";
import { handleImport, type ImportLimits } from "../import/routes.ts";
import type { Settings } from "../settings.ts";
import { exported, exportStatements, FORMATS, type Format, noteExport, type Wanted } from "./export.ts";
import { Sessions } from "./session.ts";

const TYPES: Record<Format, string> = {
  json: "application/json; charset=utf-8",
  ndjson: "application/x-ndjson; charset=utf-8",
  csv: "text/csv; charset=utf-8; header=present",
};

/** The settings of exports and imports. */
export type TransferSettings = Pick<
  Settings,
  | "ROWHOUSE_TRANSFERS"
  | "ROWHOUSE_TRANSFER_SECONDS"
  | "ROWHOUSE_TRANSFER_STALL"
  | "ROWHOUSE_IMPORT_LIMIT"
  | "ROWHOUSE_BODY_LIMIT"
>;

/** What moves data in and out of an app: `export`, `{entity}/export`, `{entity}/import`. */
export class Transfers {
  readonly #sessions: Sessions;
  readonly #limits: ImportLimits;
  readonly #usage: Usage;

  constructor(pool: Pool, settings: TransferSettings, usage: Usage) {
    this.#usage = usage;
    this.#sessions = new Sessions(pool, {
      atOnce: settings.ROWHOUSE_TRANSFERS,
      seconds: settings.ROWHOUSE_TRANSFER_SECONDS,
      stallSeconds: settings.ROWHOUSE_TRANSFER_STALL,
    });
    this.#limits = { body: settings.ROWHOUSE_IMPORT_LIMIT, line: settings.ROWHOUSE_BODY_LIMIT };
  }

  /** Whether an address within an app is one of these; no record's id is such a word. */
  takes(rest: string[]): boolean {
    const [entity, word] = rest;
    if (isShared(rest)) return rest[2] === "export";
    return word === "export" || word === "import" || (entity === "export" && word === undefined);
  }

  /** Answers a request. Throws Problems while nothing was sent; later the connection is cut, so that nobody takes a part for the whole. */
  async handle(
    rest: string[],
    request: Request,
    tenant: Tenant,
    claims: Claims,
    req: IncomingMessage,
    res: ServerResponse,
  ): Promise<void> {
    const caller = callerOf(claims, request.env);
    const entity = rest.length === 1 ? null : rest.slice(0, -1).join("/");
    if (entity?.includes("/") && !(isShared(rest) && !rest[1]?.includes("/")))
      throw new Problem(404, "There is no such entity", { code: "not_found" });
    if (entity !== null && rest.at(-1) === "import") {
      if (req.method !== "POST") throw notAllowed("POST, OPTIONS");
      const used = (app: string, operation: Operation) => this.#usage.note(app, entity, operation, caller);
      return handleImport(this.#sessions, this.#limits, entity, request, tenant, caller, used, req, res);
    }
    if (req.method !== "GET") throw notAllowed("GET, OPTIONS");
    const { format, wanted } = readWanted(entity, request.queryString);
    const left = new AbortController();
    res.on("close", () => left.abort());
    try {
      await this.#sessions.run("read only", caller, tenant, left.signal, async (client, app) => {
        const asked = wanted(app.id);
        const statements = await exportStatements(client, asked, true);
        if (app.noted)
          await this.#sessions.beside(client, caller, tenant, left.signal, (other) =>
            noteExport(other, asked),
          );
        const name = `${(entity ?? tenant.app).replace(/^.*\/|[^\w-]/g, "")}.${format}`;
        await send(exported(client, statements, format, entity === null), res, this.#sessions.stallSeconds, {
          "content-type": TYPES[format],
          "content-disposition": `attachment; filename="${name}"`,
        });
        for (const { entity } of statements) this.#usage.note(app.id, entity, "export", caller);
      });
    } catch (error) {
      throw problemOf(error, []);
    }
    res.end();
  }
}

/** Whether an address within an app is of something that another site shares: received-shares/{name}/…. */
const isShared = (rest: string[]): boolean => rest[0] === "received-shares";

function readWanted(
  entity: string | null,
  queryString: string,
): { format: Format; wanted(app: string): Wanted } {
  const query = new URLSearchParams(queryString);
  const formats = query.getAll("format");
  const format = FORMATS.find((known) => known === (formats[0] ?? "json"));
  if (!format || formats.length > 1)
    throw new Problem(400, "There is no such format of exports", {
      code: "invalid_format",
      hint: `format=${FORMATS.join(", format=")}`,
      errors: [{ parameter: "format", message: `must be one of ${FORMATS.join(", ")}` }],
    });
  query.delete("format");
  if (entity === null) {
    if (format === "csv")
      throw new Problem(400, "An app cannot be exported as one CSV file", {
        code: "invalid_format",
        hint: "Export each entity (…/{entity}/export?format=csv), or the app as json or ndjson.",
      });
    if (query.size > 0) planQuery("delete", query.toString()); // which takes no parameters, and says so
    return { format, wanted: (app) => ({ app, entity, format }) };
  }
  const { shape, values } = planQuery("find", query.toString());
  return { format, wanted: (app) => ({ app, entity, format, shape, values }) };
}

/** Writes chunks as fast as they are read. The first one decides: until it is there, an error can still be told. */
async function send(
  chunks: AsyncIterable<Buffer | string>,
  res: ServerResponse,
  stallSeconds: number,
  headers: Record<string, string>,
): Promise<void> {
  for await (const chunk of chunks) {
    if (!res.headersSent) res.writeHead(200, Object.assign(headersOf(res), headers));
    if (!res.write(chunk)) await drained(res, stallSeconds);
  }
  if (!res.headersSent) res.writeHead(200, Object.assign(headersOf(res), headers));
}

async function drained(res: ServerResponse, stallSeconds: number): Promise<void> {
  const stalled = AbortSignal.timeout(stallSeconds * 1000);
  const gone = new AbortController();
  const leave = () => gone.abort();
  res.once("close", leave);
  try {
    if (res.destroyed) throw new Error("The reader of an export is gone");
    await once(res, "drain", { signal: AbortSignal.any([stalled, gone.signal]) });
  } catch (cause) {
    res.destroy();
    throw new Problem(408, `The reader of an export took nothing for ${stallSeconds} s, or is gone`, {
      cause,
    });
  } finally {
    res.off("close", leave);
  }
}

function notAllowed(allow: string): Problem {
  return new Problem(405, "This method is not allowed here", {
    code: "method_not_allowed",
    hint: `Allowed: ${allow}.`,
    headers: { allow },
  });
}
