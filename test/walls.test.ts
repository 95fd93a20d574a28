import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await cloneDatabase();
  for (const site of ["acme", "beta"]) {
    await db.account(`ann@${site}.test`);
    await db.site(site);
    await db.query("select tenancy.add_member($1, $2, 'editor')", [site, `ann@${site}.test`]);
    await db.query("select data.define_entity($1, 'notes', $2)", [
      `${site}/crm`,
      { type: "object", properties: { text: { type: "string", "x-index": true } } },
    ]);
    await db.query("select data.insert($1, $2)", [`${site}/crm/notes`, { text: `secret of ${site}` }]);
  }
});
afterAll(() => db.drop());

/** Sets role and claims as given, without tenancy.enter, so that one wall at a time can be taken away. */
async function climb(role: string, claims: { account?: string; site?: string }, query: string) {
  const client = await db.pool.connect();
  try {
    await client.query("begin");
    const [ids] = (
      await client.query(
        "select (select id from auth.accounts where email = $1) as account, (select id from tenancy.sites where name = $2) as site, (select role_name from tenancy.sites where name = $3) as role",
        [claims.account, claims.site, role],
      )
    ).rows;
    await client.query(
      "select set_config('rowhouse.account', $1, true), set_config('rowhouse.site', $2, true)",
      [ids.account ?? "", ids.site ?? ""],
    );
    await client.query(`set local role ${ids.role}`);
    return (await client.query(query)).rows;
  } finally {
    await client.query("rollback");
    client.release();
  }
}

test("with role and claims of its own site, an account reads its own record only", async () => {
  const rows = await climb(
    "acme",
    { account: "ann@acme.test", site: "acme" },
    "select text from acme_crm.notes",
  );
  expect(rows).toEqual([{ text: "secret of acme" }]);
});

test("wall 1: with another site's claims, the role still cannot enter that site's schema", async () => {
  await expect(
    climb("acme", { account: "ann@beta.test", site: "beta" }, "select text from beta_crm.notes"),
  ).rejects.toThrow("permission denied for schema beta_crm");
});

test("wall 2: with the right role, another site's claims show no row", async () => {
  for (const claims of [
    { account: "ann@beta.test", site: "beta" },
    { account: "ann@beta.test", site: "acme" },
    { account: "ann@acme.test", site: "beta" },
  ]) {
    expect(await climb("acme", claims, "select text from acme_crm.notes")).toEqual([]);
  }
});

test("wall 3: without claims there is no row, and nothing can be written", async () => {
  expect(await climb("acme", {}, "select text from acme_crm.notes")).toEqual([]);
  await expect(climb("acme", {}, "insert into acme_crm.notes (text) values ('x')")).rejects.toMatchObject({
    code: "RH403",
  });
});

test("the storage behind a view is out of reach, and so are the claims once the role is set", async () => {
  const own = { account: "ann@acme.test", site: "acme" };
  await expect(climb("acme", own, "select * from acme_crm.notes_jsonb")).rejects.toThrow("permission denied");
  await expect(climb("acme", own, "select set_config('rowhouse.site', '', false)")).rejects.toThrow(
    "permission denied",
  );
  await expect(climb("acme", own, "select password_hash from auth.accounts")).rejects.toThrow(
    "permission denied",
  );
});

test("no entity view or its functions belong to a role that row-level security does not bind", async () => {
  const rows = await db.query(
    `select c.relname, r.rolname from pg_class c join pg_roles r on r.oid = c.relowner
     where c.relkind = 'v' and c.relnamespace = 'acme_crm'::regnamespace and (r.rolsuper or r.rolbypassrls or r.rolname <> 'rowhouse_data')
     union all
     select p.proname, r.rolname from pg_proc p join pg_roles r on r.oid = p.proowner
     where p.prosecdef and p.pronamespace = 'acme_crm'::regnamespace and r.rolname <> 'rowhouse_data'`,
  );
  expect(rows).toEqual([]);
});

test("every table of the control plane forces row-level security", async () => {
  const rows = await db.query(
    `select c.oid::regclass::text from pg_class c where c.relkind = 'r'
     and c.relnamespace::regnamespace::text in ('tenancy', 'auth', 'access', 'data') and not c.relforcerowsecurity`,
  );
  expect(rows).toEqual([]);
});

test("a member of one site sees nothing of another in the control plane", async () => {
  const seen = await db.as("acme", "ann@acme.test", async (client) => ({
    sites: (await client.query("select name from tenancy.sites")).rows,
    apps: (await client.query("select schema_name from tenancy.apps")).rows,
    entities: (await client.query("select name from data.entities")).rows,
    accounts: (await client.query("select email from auth.accounts")).rows,
  }));
  expect(seen).toEqual({
    sites: [{ name: "acme" }],
    apps: [{ schema_name: "acme_crm" }],
    entities: [{ name: "notes" }],
    accounts: [{ email: "ann@acme.test" }],
  });
});

test("the gateway's login owns nothing, inherits nothing and bypasses nothing", async () => {
  expect(
    await db.query(
      "select rolsuper, rolinherit, rolcreaterole, rolbypassrls from pg_roles where rolname = 'rowhouse_gateway'",
    ),
  ).toEqual([{ rolsuper: false, rolinherit: false, rolcreaterole: false, rolbypassrls: false }]);
  expect(await db.query("select relname from pg_class where relowner = 'rowhouse_gateway'::regrole")).toEqual(
    [],
  );
});

test("a reference to a record that the writer may not see fails like one that does not exist", async () => {
  await db.query("select data.define_entity('acme/crm', 'vaults', $1)", [
    { type: "object", properties: { name: { type: "string" } } },
  ]);
  await db.query("select data.define_entity('acme/crm', 'keys', $1)", [
    {
      type: "object",
      properties: { vault_id: { type: "string", format: "uuid", "x-relation": { entity: "vaults" } } },
    },
  ]);
  await db.query("select access.create_role('acme', 'smith', array['crm/keys:*'])");
  await db.account("smith@acme.test");
  await db.query("select tenancy.add_member('acme', 'smith@acme.test', 'smith')");
  const [vault] = await db.query<{ id: string }>(
    "select data.insert('acme/crm/vaults', '{\"name\": \"hidden\"}') ->> 'id' as id",
  );
  const attempt = (id: string) =>
    db.as("acme", "smith@acme.test", (client) =>
      client.query("select data.insert('acme/crm/keys', $1)", [{ vault_id: id }]).then(
        () => "written",
        ({ code, message, detail, constraint }) => ({ code, message, detail, constraint }),
      ),
    );
  const missing = await attempt("01900000-0000-7000-8000-000000000000");
  expect(missing).toMatchObject({ code: "23503" });
  expect(await attempt(vault?.id as string)).toEqual(missing);
});
