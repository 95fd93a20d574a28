import { request as httpRequest } from "node:http";
import { cloneDatabase, type TestDatabase } from "./database.ts";
import { startGateway, type TestGateway } from "./gateway.ts";

// Two sites with a crm each: four contacts of acme, one of whose company two work for, and a secret of beta.

/** The schema of companies; contacts refer to it. */
export const companies = {
  type: "object",
  required: ["name"],
  properties: { name: { type: "string", "x-unique": true }, city: { type: "string" } },
};
const contacts = {
  type: "object",
  required: ["name"],
  properties: {
    name: { type: "string", maxLength: 80 },
    email: { type: "string", format: "email", "x-unique": true },
    age: { type: "integer", minimum: 0, "x-index": true },
    balance: { type: "number", format: "decimal", precision: 30, scale: 2 },
    active: { type: "boolean", default: true },
    born: { type: "string", format: "date" },
    tags: { type: "array", items: { type: "string" } },
    address: { type: "object", properties: { city: { type: "string" }, floor: { type: "integer" } } },
    company_id: { type: "string", format: "uuid", "x-relation": { entity: "companies", field: "id" } },
  },
};

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

/** Makes the sites and starts a gateway on them. */
export async function startCrm(): Promise<Crm> {
  const db = await cloneDatabase();
  const ids: Record<string, string> = {};
  for (const [site, app] of [
    ["acme", "crm"],
    ["acme", "shop"],
    ["beta", "crm"],
  ] as const) {
    await db.query(
      "select tenancy.create_organization($1) where not exists (select from tenancy.organizations where name = $1)",
      [site],
    );
    await db.query(
      "select tenancy.create_site($1, $1) where not exists (select from tenancy.sites where name = $1)",
      [site],
    );
    await db.query("select tenancy.create_app($1, $2)", [site, app]);
    await db.query("select data.define_entity($1, 'companies', $2)", [`${site}/${app}`, companies]);
    await db.query("select data.define_entity($1, 'contacts', $2)", [`${site}/${app}`, contacts]);
  }
  for (const [email, role, site] of [
    ["ann@acme.test", "editor", "acme"],
    ["vic@acme.test", "viewer", "acme"],
    ["bob@beta.test", "editor", "beta"],
    ["eve@both.test", "editor", "acme"],
    ["eve@both.test", "editor", "beta"],
  ] as const) {
    await db.account(email);
    await db.query("select tenancy.add_member($1, $2, $3)", [site, email, role]);
  }
  const known = await db.query<{ name: string; id: string }>(
    `select name, id from tenancy.sites union all
     select s.name || '/' || a.name, a.id from tenancy.apps a join tenancy.sites s on s.id = a.site_id`,
  );
  for (const { name, id } of known) ids[name] = id;
  const [oslo] = await db.query<{ r: { id: string } }>("select data.insert('acme/crm/companies', $1) as r", [
    { name: "Oslo Works", city: "Oslo" },
  ]);
  ids.company = oslo?.r.id ?? "";
  const people = [
    {
      name: "Ada",
      age: 36,
      balance: "12345678901234567890.12",
      email: "ada@x.test",
      tags: ["math"],
      address: { city: "London" },
      company_id: ids.company,
    },
    {
      name: "Bea",
      age: 20,
      tags: ["art", "math"],
      address: { city: "Oslo", floor: 3 },
      born: "2001-02-03",
      company_id: ids.company,
    },
    { name: "Cyd", age: 51, active: false, address: { city: "Oslo", floor: 12 } },
    { name: "Dan" },
  ];
  for (const person of people) {
    const [row] = await db.query<{ r: { id: string } }>(
      "select data.insert('acme/crm/contacts', $1::jsonb) as r",
      [JSON.stringify(person).replace(/"balance":"([\d.]+)"/, '"balance":$1')],
    );
    ids[person.name] = row?.r.id ?? "";
  }
  await db.query("select data.insert('beta/crm/contacts', $1)", [{ name: "Secret of beta" }]);
  await db.query(
    "select tenancy.add_domain('acme', 'crm.example.org', 'crm'), tenancy.add_domain('beta', 'unproved.example.org', 'crm')",
  );
  await db.query(
    "select tenancy.verify_domain(id, array[proof]) from tenancy.domains where domain = 'crm.example.org'",
  );
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
