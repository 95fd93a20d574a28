import type { TestDatabase } from "./database.ts";

// Lets time pass for records: what the write rule forbids, as the platform. No test has to wait for it.

/** Changes stored records, of a table in acme_crm. */
export async function age(
  db: Pick<TestDatabase, "query">,
  table: string,
  set: string,
  where = "true",
): Promise<void> {
  await db.query(`do $$ begin
    set local role rowhouse_owner; set local rowhouse.maintenance = 'on';
    update acme_crm.${table} set ${set} where ${where};
  end $$`);
}

/** Lets records of a table expire, a second ago. */
export const expire = (db: Pick<TestDatabase, "query">, table: string, where?: string): Promise<void> =>
  age(db, table, "expires_at = now() - interval '1 s'", where);
