import type { IncomingMessage, ServerResponse } from "node:http";
import type { Sessions } from "../export/session.ts";
import type { Operation } from "../http/plan.ts";
import { Problem, problemOf } from "../http/problem.ts";
import type { Caller } from "../http/query.ts";
import type { Request } from "../http/request.ts";
import { sendJson } from "../http/response.ts";
import type { Tenant } from "../http/tenant.ts";
import { batches, ENCODINGS, type Encoding, type LineFormat } from "./lines.ts";
import { ImportError } from "./read.ts";
import { importBatches } from "./stream.ts";

/** In bytes: the body, and in characters: a line of it. */
export type ImportLimits = { body: number; line: number };

const FORMATS: Record<string, LineFormat> = {
  "application/x-ndjson": "ndjson",
  "application/ndjson": "ndjson",
  "application/jsonl": "ndjson",
  "text/csv": "csv",
  "application/json": "json",
};
const PARAMETERS = ["on_error", "key", "encoding"];

/** Writes the lines of a request's body into an entity, and answers with counts and errors by line. Throws Problems. */
export async function handleImport(
  sessions: Sessions,
  limits: ImportLimits,
  entity: string,
  request: Request,
  tenant: Tenant,
  caller: Caller,
  used: (app: string, operation: Operation) => void,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  const { format, encoding } = readType(req);
  const query = readQuery(request.queryString);
  const left = new AbortController();
  res.on("close", () => left.abort());
  const body = batches(limited(req, limits.body), {
    format,
    encoding: query.encoding ?? encoding,
    lineLimit: limits.line,
  });
  try {
    const imported = await sessions.run("read write", caller, tenant, left.signal, async (client, app) => {
      const done = await importBatches(client, `${app.path}/${entity}`, body, query);
      used(app.id, query.key ? "upsert" : "insert_list");
      return done;
    });
    sendJson(res, 200, JSON.stringify(imported));
  } catch (error) {
    res.setHeader("connection", "close"); // the rest of the body is not read
    if (error instanceof ImportError)
      throw new Problem(400, `Nothing was imported. ${error.message}`, {
        code: "invalid_body",
        hint: "CSV: a header, then as many cells a line; a quote within quotes is doubled. Content-Type: text/csv; charset=latin1 names an encoding.",
        cause: error,
      });
    throw problemOf(error, []);
  }
}

function readType(req: IncomingMessage): { format: LineFormat; encoding: Encoding } {
  const [type = "", ...parameters] = (req.headers["content-type"] ?? "").toLowerCase().split(/\s*;\s*/);
  const format = Object.hasOwn(FORMATS, type) ? FORMATS[type] : undefined;
  if (!format || (req.headers["content-encoding"] ?? "identity") !== "identity")
    throw new Problem(415, "The body must be NDJSON, CSV or a JSON list, not compressed", {
      code: "unsupported_media_type",
      hint: "Content-Type: application/x-ndjson, text/csv or application/json",
    });
  const charset = parameters.find((one) => one.startsWith("charset="))?.slice(8);
  return { format, encoding: charset ? encodingOf(charset.replace(/"/g, "")) : "utf-8" };
}

function encodingOf(name: string): Encoding {
  const plain = name.toLowerCase().replace(/^iso-8859-1$|^windows-1252$/, "latin1");
  const found = ENCODINGS.find((one) => one === plain || one === plain.replace("utf", "utf-"));
  if (found) return found;
  throw new Problem(415, "There is no such encoding here", {
    code: "unsupported_encoding",
    hint: `Encodings: ${ENCODINGS.join(", ")}.`,
  });
}

function readQuery(queryString: string): {
  key: string[] | null;
  onError: string;
  encoding: Encoding | undefined;
} {
  const query = new URLSearchParams(queryString);
  const wrong = [...query.keys()].find(
    (name, at, all) => !PARAMETERS.includes(name) || all.indexOf(name) < at,
  );
  if (wrong !== undefined)
    throw new Problem(
      400,
      `There is no query parameter ${JSON.stringify(wrong.slice(0, 60))} here, or it is given twice`,
      {
        code: "unknown_parameter",
        hint: `Allowed here: ${PARAMETERS.join(", ")}.`,
      },
    );
  const encoding = query.get("encoding");
  return {
    key: query.get("key")?.split(",") ?? null,
    onError: query.get("on_error") ?? "stop",
    encoding: encoding === null ? undefined : encodingOf(encoding),
  };
}

async function* limited(req: IncomingMessage, limit: number): AsyncGenerator<Buffer> {
  let length = 0;
  try {
    for await (const chunk of req as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > limit)
        throw new Problem(413, `The body is larger than ${limit} bytes`, {
          code: "body_too_large",
          hint: "Send it in parts; ROWHOUSE_IMPORT_LIMIT says how much one may hold.",
        });
      yield chunk;
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(400, "The request ended before its body did", { code: "aborted", cause: error });
  }
}
