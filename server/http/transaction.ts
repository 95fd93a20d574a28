import type { IncomingMessage, ServerResponse } from "node:http";
import type { Pool } from "pg";
import type { Claims } from "./context.ts";
import { type Operation, planQuery } from "./plan.ts";
import { Problem, problemOf } from "./problem.ts";
import { callerOf, queryAs } from "./query.ts";
import { type Request, readJsonText } from "./request.ts";
import { sendJson } from "./response.ts";
import type { Tenant } from "./tenant.ts";
import type { Usage } from "./usage.ts";

const statement = {
  name: "transaction",
  text: "select data.run_transaction($1::text, $2::jsonb), access.uses_of($2::jsonb)",
};

/** Runs several operations on an app, all or nothing, in one round trip. `bodyLimit` in bytes. Throws Problems. */
export async function serveTransaction(
  pool: Pool,
  bodyLimit: number,
  usage: Usage,
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
  const [answer, used] = rows[0] ?? [];
  const app = tenant.site === null ? tenant.app : `${tenant.site}/${tenant.app}`;
  for (const [entity, operation] of JSON.parse(used ?? "[]") as [string, Operation][])
    usage.note(app, entity, operation, caller);
  sendJson(res, 200, answer ?? "{}");
}
