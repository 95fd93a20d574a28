import { resolveTxt } from "node:dns/promises";
import type { Task } from "graphile-worker";

/** Deletes sessions and refresh tokens that ended long ago. */
export const deleteExpiredTokens: Task = async (_payload, helpers) => {
  await helpers.query("select auth.delete_expired()");
};

/** Looks up the TXT record _rowhouse.<domain> of every claimed domain; SQL decides whether it proves anything. */
export const verifyDomains: Task = async (_payload, helpers) => {
  const { rows } = await helpers.query<{ id: string; domain: string }>(
    "select id, domain from tenancy.list_unverified_domains()",
  );
  for (const { id, domain } of rows) {
    const records = await resolveTxt(`_rowhouse.${domain}`).catch(() => []);
    await helpers.query("select tenancy.verify_domain($1, $2)", [id, records.map((parts) => parts.join(""))]);
  }
};
