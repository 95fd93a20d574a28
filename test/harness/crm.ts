import { request as httpRequest } from "node:http";
import { madeSites } from "./crm-sites.ts";
import { cloneDatabase, type TestDatabase } from "./database.ts";
import { startGateway, type TestGateway } from "./gateway.ts";

export { companies } from "./crm-sites.ts";

// Two sites with a crm each: four contacts of acme, one of whose company two work for, and a secret of beta.

/** A request; `as` is a name in tokens, a token, or null for none. */
export type Call = {
  method?: string;
  as?: string | null;
  headers?: Record<string, string>;
  body?: unknown;
};

/** A response; `json` is its body where that is JSON, else empty. */
export type Answer = {
  status: number;
  text: string;
  json: Body;
  headers: Record<string, string | string[] | undefined>;
};

type Row = Record<string, unknown> & { id: string; name: string };
type Body = Row & { data: Row[]; meta: { next_cursor: string | null }; code: string };

/** The sites, a gateway on them, ids by name ("acme", "acme/crm", "Ada") and tokens by first name. */
export type Crm = {
  db: TestDatabase;
  gateway: TestGateway;
  ids: Record<string, string>;
  tokens: Record<string, string>;
  send(path: string, call?: Call): Promise<Answer>;
  stop(): Promise<void>;
};

/** Where acme's records are. */
export const base = "/api/v1/sites/acme/apps/crm";

/** A query on acme's contacts; objects become JSON in the query string. */
export function find(query: Record<string, unknown>): string {
  const pairs = Object.entries(query).map(
    ([name, value]) =>
      `${name}=${encodeURIComponent(typeof value === "string" ? value : JSON.stringify(value))}`,
  );
  return `${base}/contacts?${pairs.join("&")}`;
}
/** The names of the records found. */
export const names = (answer: Answer): string => answer.json.data.map((row) => row.name).join(" ");

/** The two sites in a database of one's own, and a gateway on them; also what else a template has that was made of theirs. */
export async function startCrm(template?: string): Promise<Crm> {
  const db = await cloneDatabase(template ?? (await madeSites()));
  const known = await db.query<{ name: string; id: string }>(
    `select name, id from tenancy.sites union all
     select s.name || '/' || a.name, a.id from tenancy.apps a join tenancy.sites s on s.id = a.site_id union all
     select name, id from acme_crm.contacts union all select 'company', id from acme_crm.companies`,
  );
  const ids = Object.fromEntries(known.map(({ name, id }) => [name, id]));
  const gateway = await startGateway(db, {
    ROWHOUSE_BASE_DOMAIN: "rowhouse.test",
    ROWHOUSE_BODY_LIMIT: "200000",
  });
  const tokens: Record<string, string> = {
    ann: await gateway.token("ann@acme.test", "acme"),
    vic: await gateway.token("vic@acme.test", "acme"),
    bob: await gateway.token("bob@beta.test", "beta"),
    eve: await gateway.token("eve@both.test"),
  };
  return {
    db,
    gateway,
    ids,
    tokens,
    send: (path, call) => sendTo(gateway, tokens, path, call),
    async stop() {
      await gateway.stop();
      await db.drop();
    },
  };
}

// node:http and not fetch: fetch sets no Host header.
/** Sends a request. */
export function sendTo(
  gateway: TestGateway,
  tokens: Record<string, string>,
  path: string,
  { method = "GET", as = "ann", headers = {}, body }: Call = {},
): Promise<Answer> {
  const all: Record<string, string> = {};
  if (as !== null) all.authorization = `Bearer ${tokens[as] ?? as}`;
  if (body !== undefined) all["content-type"] = "application/json";
  Object.assign(all, headers);
  return new Promise((resolve, reject) => {
    const call = httpRequest(`${gateway.url}${path}`, { method, headers: all }, (res) => {
      const chunks: Buffer[] = [];
      res.on("data", (chunk: Buffer) => chunks.push(chunk));
      res.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        resolve({
          status: res.statusCode ?? 0,
          text,
          json: (/\bjson/.test(res.headers["content-type"] ?? "") && text ? JSON.parse(text) : {}) as Body,
          headers: res.headers,
        });
      });
    });
    call.on("error", reject);
    call.end(
      body === undefined
        ? undefined
        : typeof body === "string" || Buffer.isBuffer(body)
          ? body
          : JSON.stringify(body),
    );
  });
}
