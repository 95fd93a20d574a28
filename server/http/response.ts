import type { ServerResponse } from "node:http";
import type { Problem } from "./problem.ts";

/** Set on every response; GraphiQL's page overrides the content security policy with its own. */
export const securityHeaders: Readonly<Record<string, string>> = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
};

/** Sends JSON text as it is. */
export function sendJson(
  res: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string | number> = {},
): void {
  headers["content-type"] ??= "application/json; charset=utf-8";
  headers["content-length"] = Buffer.byteLength(text);
  res.writeHead(status, headers);
  res.end(res.req.method === "HEAD" ? undefined : text);
}

/** Sends nothing but a status. */
export function sendEmpty(res: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  res.writeHead(status, headers).end();
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
