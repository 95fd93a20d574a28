import type { IncomingMessage, ServerResponse } from "node:http";
import type { Pool } from "pg";
import type { Claims } from "./context.ts";
import { Problem, problemOf } from "./problem.ts";
import { callerOf, queryControl } from "./query.ts";
import type { Request } from "./request.ts";
import { sendJson } from "./response.ts";

/** A part of the audit log: of a site or an organization, its entries or whether they are intact. */
export type AuditAddress = { of: "sites" | "organizations"; name: string; verify: boolean };

/** Reads /api/v1/{sites|organizations}/{name}/audit[/verify], or null. */
export function auditAddress(segments: string[]): AuditAddress | null {
  const [api, version, of, name, audit, verify] = segments;
  if (api !== "api" || version !== "v1" || audit !== "audit" || name === undefined) return null;
  if (of !== "sites" && of !== "organizations") return null;
  if (segments.length > 6 || (verify !== undefined && verify !== "verify")) return null;
  return { of, name, verify: verify === "verify" };
}

const functions = {
  sites: ["search", "verify"],
  organizations: ["search_organization", "verify_organization"],
};

/** Serves entries of the audit log, or verifies it. Throws Problems. */
export async function serveAudit(
  pool: Pool,
  { of, name, verify }: AuditAddress,
  request: Request,
  claims: Claims,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  if (req.method !== "GET" && req.method !== "HEAD")
    throw new Problem(405, "The audit log is only read", {
      code: "method_not_allowed",
      hint: "Allowed: GET, HEAD.",
      headers: { allow: "GET, HEAD" },
    });
  const query = readQuery(request.queryString, verify);
  const call = functions[of][verify ? 1 : 0];
  const statement = {
    name: `audit_${call}`,
    text: `select audit.${call}($1::text, $2::${verify ? "text" : "jsonb"})::text`,
  };
  const values = [name, verify ? (query.head ?? null) : JSON.stringify(query)];
  const rows = await queryControl(pool, callerOf(claims, request.env), claims, statement, values).catch(
    (error: unknown) => {
      throw problemOf(error, values);
    },
  );
  sendJson(res, 200, rows[0]?.[0] ?? "{}");
}

// Which parameters there are, SQL knows.
function readQuery(queryString: string, verify: boolean): Record<string, string> {
  const query: Record<string, string> = Object.create(null);
  for (const [name, value] of new URLSearchParams(queryString)) {
    if (name in query || (verify && name !== "head"))
      throw new Problem(400, `${JSON.stringify(name.slice(0, 60))} is not known here, or given twice`, {
        code: "unknown_parameter",
        errors: [{ parameter: name.slice(0, 60), message: "is not known, or given twice" }],
      });
    query[name] = value;
  }
  return query;
}
