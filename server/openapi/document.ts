import type { IncomingMessage, ServerResponse } from "node:http";
import type { Pool } from "pg";
import { etagOf, sendRead } from "../http/conditional.ts";
import type { Claims } from "../http/context.ts";
import { Problem, problemOf } from "../http/problem.ts";
import { callerOf, queryAs } from "../http/query.ts";
import type { Request } from "../http/request.ts";
import type { Tenant } from "../http/tenant.ts";

const statement = {
  name: "openapi",
  text: "select data.openapi($1::text)::text",
};

/** Serves the OpenAPI document of an app as SQL makes it; 304 when the caller has it. Throws Problems. */
export async function serveOpenapi(
  pool: Pool,
  request: Request,
  tenant: Tenant,
  claims: Claims | null,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  if (req.method !== "GET" && req.method !== "HEAD")
    throw new Problem(405, "This method is not allowed here", {
      code: "method_not_allowed",
      hint: "Allowed: GET, HEAD.",
      headers: { allow: "GET, HEAD, OPTIONS" },
    });
  const rows = await queryAs(pool, callerOf(claims, request.env), tenant, statement, [tenant.app]).catch(
    (error: unknown) => {
      throw problemOf(error, [tenant.app]);
    },
  );
  const document = rows[0]?.[0] ?? "{}";
  sendRead(req, res, document, etagOf(document));
}
