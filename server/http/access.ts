import type { IncomingMessage, ServerResponse } from "node:http";
import type { Pool } from "pg";
import type { Claims } from "./context.ts";
import { Problem, problemOf } from "./problem.ts";
import { callerOf, queryControl } from "./query.ts";
import { type Request, readJsonText } from "./request.ts";
import { sendEmpty, sendJson } from "./response.ts";

// Access control over REST: an address and a method are one SQL function, whose parameters are the site, the parts of the
// address, the query parameters and the body. Who may do what, the functions say.

/** The site, and what follows `access` in the path. */
export type AccessAddress = { site: string; parts: string[] };

type Route = {
  /** After the site: $2 … are the parts of the address, then the query parameters, then the body. */
  sql: string;
  /** Of a path, the last part may itself have slashes: crm/editor. */
  parts?: number;
  query?: string[];
  body?: "required" | "optional";
  status?: number;
};

const term = (body: string) =>
  `(${body}->>'valid_from')::timestamptz, (${body}->>'valid_until')::timestamptz, ${body}->'condition'`;
const terms = (body: string) => `access.refuse_members(${body}, '{valid_from,valid_until,condition}')`;

const routes: Record<string, Record<string, Route>> = {
  roles: { GET: { sql: "access.list_roles($1)" } },
  "roles/": {
    GET: { sql: "access.get_role($1, $2)", parts: 1 },
    PUT: { sql: "access.put_role($1, $2, $3::jsonb)", parts: 1, body: "required" },
    DELETE: { sql: "access.drop_role($1, $2)", parts: 1 },
  },
  policies: { GET: { sql: "access.list_policies($1, $2)", query: ["entity"] } },
  "policies/": {
    GET: { sql: "access.get_policy($1, $2)", parts: 1 },
    PUT: { sql: "access.put_policy($1, $2, $3::jsonb)", parts: 1, body: "required" },
    DELETE: { sql: "access.delete_policy($1, $2)", parts: 1 },
  },
  assignments: { GET: { sql: "access.list_assignments($1, $2)", query: ["account"] } },
  "assignments/": {
    PUT: {
      sql: `${terms("$4::jsonb")}, access.assign_role($1, $2, $3, ${term("$4::jsonb")})`,
      parts: 2,
      body: "optional",
    },
    DELETE: { sql: "access.revoke_role($1, $2, $3)", parts: 2 },
  },
  groups: {
    GET: { sql: "access.list_groups($1)" },
    POST: {
      sql: "access.refuse_members($2::jsonb, '{name,description}'), (access.create_group($1, $2::jsonb->>'name', $2::jsonb->>'description')).name",
      body: "required",
      status: 201,
    },
  },
  "groups/": { DELETE: { sql: "access.drop_group($1, $2)", parts: 1 } },
  "groups/*/members/": {
    PUT: { sql: "access.add_to_group($1, $2, $3)", parts: 2 },
    DELETE: { sql: "access.remove_from_group($1, $2, $3)", parts: 2 },
  },
  "groups/*/roles/": {
    PUT: {
      sql: `${terms("$4::jsonb")}, access.assign_role_to_group($1, $2, $3, ${term("$4::jsonb")})`,
      parts: 2,
      body: "optional",
    },
    DELETE: { sql: "access.revoke_role_from_group($1, $2, $3)", parts: 2 },
  },
  shares: { GET: { sql: "access.list_shares($1)" } },
  "shares/": {
    GET: { sql: "access.get_share($1, $2, $3)", parts: 2 },
    PUT: { sql: "access.put_share($1, $2, $3, $4::jsonb)", parts: 2, body: "required" },
    DELETE: { sql: "access.revoke_share($1, $2, $3)", parts: 2 },
  },
  "received-shares/": {
    PUT: { sql: "jsonb_build_object('view', access.accept_share($1, $2))", parts: 1 },
    DELETE: { sql: "access.decline_share($1, $2)", parts: 1 },
  },
  delegations: {
    POST: {
      sql: `access.refuse_members($2::jsonb, '{account,role,until,permissions}'), jsonb_build_object('id', access.delegate($1, $2::jsonb->>'account', $2::jsonb->>'role',
        ($2::jsonb->>'until')::timestamptz, case when $2::jsonb ? 'permissions' then array(select jsonb_array_elements_text($2::jsonb->'permissions')) end))`,
      body: "required",
      status: 201,
    },
  },
  "delegations/": { DELETE: { sql: "access.revoke_delegation($2::uuid) from (select $1) s", parts: 1 } },
  allows: {
    GET: {
      sql: `access.allows_each($1, jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('entity', $2, 'action', $3, 'id', $4))), $5)->'data'->0`,
      query: ["entity", "action", "id", "account"],
    },
    POST: {
      sql: "access.refuse_members($2::jsonb, '{questions,account}'), access.allows_each($1, $2::jsonb->'questions', $2::jsonb->>'account')",
      body: "required",
    },
  },
  explain: {
    GET: {
      sql: "access.explain($2, $1 || '/' || $3, $4, $5::uuid)",
      query: ["account", "entity", "action", "record"],
    },
  },
  "who-can": {
    GET: {
      sql: "access.who_can($1 || '/' || $2, $3, $4::uuid, coalesce($5::int, 100), coalesce($6, ''))",
      query: ["entity", "action", "record", "max", "after"],
    },
  },
  guesses: { GET: { sql: "access.list_guesses($1)" } },
  "guesses/": { DELETE: { sql: "access.forgive_guesses($1, $2)", parts: 1 } },
  effective: { GET: { sql: "access.effective($1 || '/' || $2)", query: ["entity"] } },
  "what-can": { GET: { sql: "access.what_can($1, $2)", query: ["account"] } },
};

/** Reads /api/v1/sites/{site}/access/…, or null. */
export function accessAddress([api, version, sites, site, access, ...parts]: string[]): AccessAddress | null {
  if (api !== "api" || version !== "v1" || sites !== "sites" || access !== "access" || !site) return null;
  return { site, parts };
}

/** Serves roles, policies, assignments, groups and questions about them. `bodyLimit` in bytes. Throws Problems. */
export async function serveAccess(
  pool: Pool,
  bodyLimit: number,
  { site, parts }: AccessAddress,
  request: Request,
  claims: Claims,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  const { resource, named } = resourceOf(parts);
  const methods = Object.hasOwn(routes, resource) ? routes[resource] : undefined;
  const method = request.method === "HEAD" ? "GET" : request.method;
  const route = methods && Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (!methods) throw nothing();
  if (!route) throw notAllowed(Object.keys(methods));
  const values = [
    site,
    ...partsOf(named, route.parts ?? 0),
    ...readQuery(request.queryString, route.query ?? []),
  ];
  if (route.body) {
    const isEmpty =
      route.body === "optional" &&
      (req.headers["content-length"] ?? "0") === "0" &&
      !req.headers["transfer-encoding"];
    values.push(isEmpty ? "{}" : await readJsonText(req, bodyLimit));
  }
  // Parameters of one type each: a text, cast where it is used.
  const text = `select ${route.sql}`.replace(/\$(\d)(?!\d)/g, "$$$1::text");
  const statement = { name: `access ${method} ${resource}`, text };
  const rows = await queryControl(pool, callerOf(claims, request.env), claims, statement, values).catch(
    (error: unknown) => {
      throw problemOf(error, values);
    },
  );
  const answer = rows[0]?.at(-1) ?? "";
  if (answer.startsWith("{")) return sendJson(res, route.status ?? 200, answer);
  if (route.status) return sendJson(res, route.status, JSON.stringify({ name: answer }));
  sendEmpty(res, 204);
}

function resourceOf(parts: string[]): { resource: string; named: string[] } {
  const [first = "", second, third, ...rest] = parts;
  if (parts.length === 1) return { resource: first, named: [] };
  if (first === "groups" && third !== undefined && second !== undefined)
    return { resource: `groups/*/${third}/`, named: rest.length > 0 ? [second, ...rest] : [] };
  return { resource: `${first}/`, named: parts.slice(1) };
}

// What a role is called may have a slash in it, an email and a group not.
function partsOf(named: string[], count: number): string[] {
  if (named.length < count || named.includes("") || named.length > count + 2) throw nothing();
  return count === 0 ? [] : [...named.slice(0, count - 1), named.slice(count - 1).join("/")];
}

function readQuery(queryString: string, names: string[]): (string | null)[] {
  const query = new URLSearchParams(queryString);
  for (const name of query.keys())
    if (!names.includes(name) || query.getAll(name).length > 1)
      throw new Problem(400, `${JSON.stringify(name.slice(0, 60))} is not known here, or given twice`, {
        code: "unknown_parameter",
        hint: names.length > 0 ? `Allowed here: ${names.join(", ")}.` : "This takes no query parameters.",
        errors: [{ parameter: name.slice(0, 60), message: "is not known, or given twice" }],
      });
  return names.map((name) => query.get(name));
}

function nothing(): Problem {
  return new Problem(404, "There is nothing at this address", {
    code: "no_route",
    hint: `Under access there are ${Object.keys(routes)
      .filter((name) => !name.includes("/"))
      .join(", ")}.`,
  });
}

function notAllowed(methods: string[]): Problem {
  const allow = methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])).join(", ");
  return new Problem(405, "This method is not allowed here", {
    code: "method_not_allowed",
    hint: `Allowed: ${allow}.`,
    headers: { allow },
  });
}
