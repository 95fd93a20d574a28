import { resolveTxt } from "node:dns/promises";
import type { Task } from "graphile-worker";

/** Deletes sessions and refresh tokens that ended long ago, and guesses that count no more. */
export const deleteExpiredTokens: Task = async (_payload, helpers) => {
  await helpers.query("select auth.delete_expired(), access.forget_guesses()");
};

/** Deletes records whose time has come (x-ttl), of all entities, a batch a transaction. */
export const deleteExpiredRecords: Task = async (_payload, helpers) => {
  for (let state: string | null = "{}"; state !== null; ) {
    if (helpers.abortSignal?.aborted) throw new Error("The worker stops; the next one goes on.");
    const { rows }: { rows: { state: string | null }[] } = await helpers.query(
      "select data.expire_step($1)::text as state",
      [state],
    );
    state = rows[0]?.state ?? null;
  }
};

/** Deletes what is left of delegations that have ended, a site a transaction. */
export const endDelegations: Task = async (_payload, helpers) => {
  for (let after: string | null = "00000000-0000-0000-0000-000000000000"; after !== null; ) {
    if (helpers.abortSignal?.aborted) throw new Error("The worker stops; the next one goes on.");
    const { rows }: { rows: { after: string | null }[] } = await helpers.query(
      "select access.end_delegations($1) as after",
      [after],
    );
    after = rows[0]?.after ?? null;
  }
};

/**
 * Does an operation on an entity (data.operations) step by step, each a transaction of its own. SQL keeps where it stands,
 * so that whoever runs it again goes on from there.
 */
export const runOperation: Task = async (payload, helpers) => {
  const { operation } = payload as { operation: string };
  for (let state = "running"; state === "running"; ) {
    if (helpers.abortSignal?.aborted)
      throw new Error("The worker stops; the operation goes on with the next one.");
    const { rows } = await helpers.query<{ state: string }>("select data.run_step($1) as state", [operation]);
    state = rows[0]?.state ?? "gone";
  }
};

/** Puts operations whose worker has died into the queue again. */
export const resumeOperations: Task = async (_payload, helpers) => {
  await helpers.query("select data.resume_operations()");
};

/** Seals what was written into the audit log since, a transaction a batch. */
export const sealAudit: Task = async (_payload, helpers) => {
  for (let sealed = 1; sealed > 0; ) {
    if (helpers.abortSignal?.aborted) throw new Error("The worker stops; the next one goes on.");
    const { rows } = await helpers.query<{ sealed: number }>("select audit.seal_step() as sealed");
    sealed = rows[0]?.sealed ?? 0;
  }
};

/** Makes the partitions of the audit log that will be needed, and drops those that need not be kept. */
export const keepAudit: Task = async (_payload, helpers) => {
  await helpers.query("select audit.create_partitions()");
  await helpers.query("select audit.drop_expired()");
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
