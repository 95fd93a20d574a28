import type { IncomingMessage, ServerResponse } from "node:http";
import type { Pool } from "pg";
import type { Claims } from "./context.ts";
import { planQuery } from "./plan.ts";
import { Problem, problemOf } from "./problem.ts";
import { callerOf, queryAs } from "./query.ts";
import { type Request, readJsonText } from "./request.ts";
import { sendJson } from "./response.ts";
import type { Tenant } from "./tenant.ts";

const statement = { name: "transaction", text: "select data.run_transaction($1::text, $2::jsonb)" };

/** Runs several operations on an app, all or nothing, in one round trip. `bodyLimit` in bytes. Throws Problems. */
export async function serveTransaction(
  pool: Pool,
  bodyLimit: number,
  request: Request,
  tenant: Tenant,
  claims: Claims | null,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  if (request.method !== "POST") {
    throw new Problem(405, "A transaction is sent with POST", {
      code: "method_not_allowed",
      hint: "Allowed: POST.",
      headers: { allow: "POST, OPTIONS" },
    });
  }
  planQuery("insert", request.queryString); // takes no parameters
  const parameters = [tenant.app, await readJsonText(req, bodyLimit)];
  const caller = callerOf(claims, request.env);
  const rows = await queryAs(pool, caller, tenant, statement, parameters).catch((error: unknown) => {
    throw problemOf(error, parameters);
  });
  sendJson(res, 200, rows[0]?.[0] ?? "{}");
}
