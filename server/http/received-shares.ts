import type { IncomingMessage, ServerResponse } from "node:http";
import type { Pool } from "pg";
import { etagOf, sendRead } from "./conditional.ts";
import type { Claims } from "./context.ts";
import { Problem, problemOf } from "./problem.ts";
import { callerOf, queryAs } from "./query.ts";
import type { Request } from "./request.ts";
import type { Target } from "./rest.ts";
import type { Tenant } from "./tenant.ts";

// What other sites share, in an app: received-shares lists it, received-shares/{name} is a share, read as an entity is.
// No entity can be called that.

const folder = "received-shares";
const statement = { name: "my_shares", text: "select access.my_shares($1::text)::text", isRead: true };

/** What follows the app in the path, when it is about shares: one of them, or null for the list; undefined when it is not. */
export function shareTarget([first, name, id]: string[]): Target | null | undefined {
  if (first !== folder) return undefined;
  return name === undefined ? null : { entity: `${folder}/${name}`, id: id ?? null };
}

/** Whether a target is a share: it is only read. */
export const isShare = ({ entity }: Target): boolean => entity.startsWith(`${folder}/`);

/** Lists what is shared with the caller in an app. Throws Problems. */
export async function serveReceivedShares(
  pool: Pool,
  request: Request,
  tenant: Tenant,
  claims: Claims,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  if (req.method !== "GET" && req.method !== "HEAD")
    throw new Problem(405, "What others share is only read here", {
      code: "method_not_allowed",
      hint: "PUT /api/v1/sites/{site}/access/received-shares/{name} accepts a share.",
      headers: { allow: "GET, HEAD, OPTIONS" },
    });
  const rows = await queryAs(pool, callerOf(claims, request.env), tenant, statement, [tenant.app]).catch(
    (error: unknown) => {
      throw problemOf(error, [tenant.app]);
    },
  );
  const answer = rows[0]?.[0] ?? "{}";
  sendRead(req, res, answer, etagOf(answer));
}
