import type { TestDatabase } from "./database.ts";

// Members of acme without any role: what they may do is what a test gives them.

/** Makes them, and returns their ids. */
export async function makeRoleless(db: TestDatabase, emails: readonly string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const email of emails) {
    ids.push(await db.account(email));
    await db.query(
      "select tenancy.add_member('acme', $1, 'viewer'), access.revoke_role('acme', $1, 'viewer')",
      [email],
    );
  }
  return ids;
}

/** The ids that a statement returns to one of them in psql, none where nothing at all is allowed; nothing of it stays. */
export function idsFor(db: TestDatabase, email: string, sql: string): Promise<string[]> {
  return db.as("acme", email, async (client) => {
    await client.query("begin");
    try {
      return (await client.query(sql)).rows.map((row) => row.id).sort();
    } catch (error) {
      if ((error as { code: string }).code !== "RH403") throw error;
      return [];
    } finally {
      await client.query("rollback");
    }
  });
}

/** Takes all roles that were assigned, all policies and all roles but the system's. */
export async function forgetRules(db: TestDatabase): Promise<void> {
  await db.query("select access.drop_policy('acme', name, scope) from access.policies");
  await db.query(
    "delete from access.assignments a using access.roles r where r.id = a.role_id and not r.system",
  );
  for (const { path } of await db.query(
    "select access.role_path(r) as path from access.roles r where not r.system and not r.is_internal order by r.created_at desc",
  ))
    await db.query("select access.drop_role('acme', $1)", [path]);
}
