import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { ruruHTML } from "ruru/server";
import { getStaticFile } from "ruru/static";
import { Problem } from "../http/problem.ts";
import { headersOf } from "../http/response.ts";

/** Where GraphiQL's scripts and styles are served from, out of node_modules: no CDN. */
export const GRAPHIQL_ASSETS = "/graphql/assets/";

const read = (name: string) => readFileSync(new URL(`page/${name}`, import.meta.url), "utf8");
const signInForm = read("sign-in.html");
const signInScript = read("sign-in.js");

/** Serves GraphiQL for the address of the request, or one of its files. Throws a 404 Problem. */
export async function serveGraphiql(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const path = (req.url ?? "/").split("?", 1)[0] ?? "/";
  if (path.startsWith(GRAPHIQL_ASSETS)) return serveAsset(path, req, res);
  const nonce = randomBytes(16).toString("base64");
  const html = ruruHTML({
    endpoint: path.replace(/[^\w/.~%-]/g, encodeURIComponent),
    staticPath: GRAPHIQL_ASSETS,
    debugTools: [], // they ask for SQL and plans, which this server tells nobody
    htmlParts: {
      metaTags: (stock) => `${stock}<link rel="icon" href="data:,">`,
      titleTag: "<title>GraphQL of Rowhouse</title>",
      bodyContent: (stock) => signInForm + stock.replace('id="ruru-root"', 'id="ruru-root" hidden'),
      bodyInitScript: `<script type="module">
import { React, createRoot, Ruru } from "${GRAPHIQL_ASSETS}ruru.js";
${signInScript}</script>`,
    },
  }).replaceAll("<script", `<script nonce="${nonce}"`);
  res.writeHead(200, {
    ...headersOf(res),
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": [
      "default-src 'none'",
      `script-src 'self' 'nonce-${nonce}'`,
      "style-src 'self' 'unsafe-inline'",
      "font-src 'self' data:",
      "img-src 'self' data:",
      "connect-src 'self'",
      "worker-src 'self' blob:",
      "frame-ancestors 'none'",
      "base-uri 'none'",
    ].join("; "),
  });
  res.end(html);
}

async function serveAsset(path: string, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const file = await getStaticFile({
    staticPath: GRAPHIQL_ASSETS,
    urlPath: path,
    acceptEncoding: req.headers["accept-encoding"],
    disallowDevAssets: true,
  });
  if (!file) throw new Problem(404, "There is nothing at this address", { code: "no_route" });
  res.writeHead(200, { ...headersOf(res), ...file.headers, "cache-control": "public, max-age=3600" });
  res.end(file.content);
}
