import type { ServerResponse } from "node:http";
import type { Problem } from "./problem.ts";

/** Headers by their lower-case names. */
export type Headers = Record<string, string | number>;

const securityHeaders: Readonly<Headers> = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
};

// Kept beside the response and written at once: set one by one, Node checks, keeps and merges them for 4 µs a request.
// In a WeakMap they would cost every collection of garbage.
const prepared = Symbol("headers");

/** The headers that a response will have whoever sends it; add to them, or override one. */
export function headersOf(res: ServerResponse & { [prepared]?: Headers }): Headers {
  res[prepared] ??= { ...securityHeaders };
  return res[prepared];
}

/** Sends JSON text as it is. */
export function sendJson(res: ServerResponse, status: number, text: string, more: Headers = {}): void {
  const headers = Object.assign(headersOf(res), more);
  headers["content-type"] ??= "application/json; charset=utf-8";
  headers["content-length"] = Buffer.byteLength(text);
  res.writeHead(status, headers);
  res.end(res.req.method === "HEAD" ? undefined : text);
}

/** Sends nothing but a status. */
export function sendEmpty(res: ServerResponse, status: number, more: Headers = {}): void {
  res.writeHead(status, Object.assign(headersOf(res), more)).end();
}

/** Sends a problem as application/problem+json; ends the connection when a response was under way already. */
export function sendProblem(res: ServerResponse, problem: Problem, requestId: string): void {
  if (res.headersSent) {
    res.destroy();
    return;
  }
  sendJson(res, problem.status, JSON.stringify(problem.toJSON(requestId)), {
    ...problem.headers,
    "content-type": "application/problem+json; charset=utf-8",
  });
}
