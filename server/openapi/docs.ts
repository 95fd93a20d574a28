import { readFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { createRequire } from "node:module";
import { headersOf } from "../http/response.ts";

/** Where the reference page's scripts and styles are served from, out of node_modules: no CDN. */
const ASSETS = "/openapi/assets/";
const CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'", // Swagger UI sets style attributes
  "img-src 'self' data:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const { resolve } = createRequire(import.meta.url);
const own = (name: string) => new URL(`page/${name}`, import.meta.url);
const FILES: Record<string, { type: string; file: () => string | URL }> = {
  "swagger-ui-bundle.js": {
    type: "text/javascript",
    file: () => resolve("swagger-ui-dist/swagger-ui-bundle.js"),
  },
  "swagger-ui.css": { type: "text/css", file: () => resolve("swagger-ui-dist/swagger-ui.css") },
  "docs.js": { type: "text/javascript", file: () => own("docs.js") },
  "docs.css": { type: "text/css", file: () => own("docs.css") },
};
const read = new Map<string, Buffer>();

/** Serves the reference page of an app: the same for everybody, who then gives a token. */
export function serveDocs(res: ServerResponse): void {
  send(res, "text/html", readFileSync(own("docs.html")), { "content-security-policy": CSP });
}

/** Serves a file of the reference page; false when the path is none. */
export function serveDocsAsset(path: string, res: ServerResponse): boolean {
  const name = path.startsWith(ASSETS) ? path.slice(ASSETS.length) : "";
  const found = Object.hasOwn(FILES, name) ? FILES[name] : undefined;
  if (!found) return false;
  const content = read.get(name) ?? readFileSync(found.file());
  read.set(name, content);
  send(res, found.type, content, { "cache-control": "public, max-age=3600" });
  return true;
}

function send(res: ServerResponse, type: string, content: Buffer, more: Record<string, string>): void {
  const headers = { "content-type": `${type}; charset=utf-8`, "content-length": content.length, ...more };
  res.writeHead(200, Object.assign(headersOf(res), headers));
  res.end(res.req.method === "HEAD" ? undefined : content);
}
