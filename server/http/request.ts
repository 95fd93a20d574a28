import { isUtf8 } from "node:buffer";
import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Claims } from "./context.ts";
import { type Env, readEnv } from "./env.ts";
import { Problem } from "./problem.ts";

/** A request as the gateway sees it: what the log line tells, and what routing needs. */
export type Request = {
  id: string;
  method: string;
  /** Without the query string. */
  path: string;
  queryString: string;
  /** The path's segments, decoded; null when they cannot be. */
  segments: string[] | null;
  startedAt: number;
  env: Env;
  /** Of its token, once that was verified. */
  claims: Claims | null;
  site: string | null;
  app: string | null;
};

/** What was read of the requests that Express serves. */
export const requests = new WeakMap<IncomingMessage, Request>();

/** Reads a request's address; `proxies` as readEnv takes them. Its id is the caller's X-Request-Id where that is a sane one. */
export function readRequest(req: IncomingMessage, proxies: number): Request {
  const url = req.url ?? "/";
  const mark = url.indexOf("?");
  const path = mark < 0 ? url : url.slice(0, mark);
  const given = req.headers["x-request-id"];
  const id = typeof given === "string" && /^[\w.:-]{1,64}$/.test(given) ? given : randomUUID();
  return {
    id,
    method: req.method ?? "GET",
    path,
    queryString: mark < 0 ? "" : url.slice(mark + 1),
    segments: splitPath(path),
    startedAt: performance.now(),
    env: readEnv(req, proxies, id),
    claims: null,
    site: null,
    app: null,
  };
}

function splitPath(path: string): string[] | null {
  const segments = path.slice(1).split("/");
  if (segments.length > 1 && segments.at(-1) === "") segments.pop();
  if (!path.includes("%")) return segments;
  try {
    return segments.map(decodeURIComponent);
  } catch {
    return null;
  }
}

/** The token of an Authorization: Bearer header, or null when there is none. */
export function bearerToken(req: IncomingMessage): string | null {
  const header = req.headers.authorization;
  if (!header) return null;
  const token = /^bearer +([\w.~+/=-]+) *$/i.exec(header)?.[1];
  if (!token) {
    throw new Problem(401, "The Authorization header holds no bearer token", {
      code: "invalid_token",
      hint: "Authorization: Bearer <access token>",
      headers: { "www-authenticate": 'Bearer error="invalid_token"' },
    });
  }
  return token;
}

/** The version an If-Match header asks for, as an ETag of a record or the bare version, or null. Throws a 400 Problem. */
export function ifMatch(req: IncomingMessage): string | null {
  const header = req.headers["if-match"]?.trim();
  if (header === undefined || header === "*") return null;
  const version = /^(?:W\/)?"([0-9]{1,9})(?:-[\w-]{1,64})?"$/.exec(header)?.[1];
  if (version) return version;
  throw new Problem(400, "If-Match is not the version of a record", {
    code: "invalid_if_match",
    hint: 'If-Match: W/"3", or the ETag of the record as it came.',
  });
}

/** Reads a JSON body as text, unparsed. Throws Problems: 400 (not UTF-8), 413 (over `limit` bytes), 415. */
export function readJsonText(req: IncomingMessage, limit: number): Promise<string> {
  const type = (req.headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (type !== "application/json" && !/^application\/[\w.-]+\+json$/.test(type)) {
    throw new Problem(415, "The body must be JSON", {
      code: "unsupported_media_type",
      hint: "Content-Type: application/json",
    });
  }
  if ((req.headers["content-encoding"] ?? "identity") !== "identity") {
    throw new Problem(415, "The body must not be compressed", { code: "unsupported_encoding" });
  }
  if (Number(req.headers["content-length"] ?? 0) > limit) throw tooLarge(limit);
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    req.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= limit) return chunks.push(chunk);
      req.removeAllListeners("data").resume();
      reject(tooLarge(limit));
    });
    req.on("end", () => {
      const body = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
      if (!isUtf8(body)) reject(new Problem(400, "The body is not valid UTF-8", { code: "invalid_utf8" }));
      else resolve(body.toString("utf8"));
    });
    req.on("error", (cause) => reject(aborted(cause)));
    // Also emitted after the end: an error made for nothing costs 13 µs.
    req.on("close", () => {
      if (!req.complete) reject(aborted());
    });
  });
}

function tooLarge(limit: number): Problem {
  return new Problem(413, `The body is larger than ${limit} bytes`, {
    code: "body_too_large",
    hint: "Send less at once.",
    headers: { connection: "close" },
  });
}

function aborted(cause?: unknown): Problem {
  return new Problem(400, "The request ended before its body did", { code: "aborted", cause });
}
