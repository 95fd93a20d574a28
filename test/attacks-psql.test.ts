import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { type Crm, startCrm } from "./harness/crm.ts";
import { testCluster } from "./harness/database.ts";

// What SQL of a site's role can reach: its records under its account's rights, and of PostgreSQL nothing that stops, fills or overhears
// the platform. Statements run as the gateway runs them: its login, a role and claims of the transaction.

let crm: Crm;
let gateway: pg.Pool;
let vic: string;
let role: string;
beforeAll(async () => {
  crm = await startCrm();
  gateway = new pg.Pool({ connectionString: crm.db.gatewayUrl, max: 3 });
  gateway.on("error", () => {});
  vic = await crm.db.account("vic@acme.test");
  role = String(
    (await crm.db.query("select role_name from tenancy.sites where name = 'acme'"))[0]?.role_name,
  );
  await crm.db.query(
    `select access.define_policy('acme', '{"name": "hidden", "effect": "deny", "entities": ["crm/contacts"], "actions": ["read"], "condition": "name = ''Cyd''"}')`,
  );
});
afterAll(async () => {
  await gateway?.end();
  await crm?.stop();
});

/** Runs statements in a transaction with the role and claims of vic, a viewer of acme; the SQLSTATE of what fails, else the last one's rows. */
async function asVic(...statements: string[]): Promise<unknown> {
  const client = await gateway.connect();
  try {
    await client.query("begin");
    await client.query(
      "select set_config('rowhouse.account', $1, true), set_config('rowhouse.site', $2, true), set_config('role', $3, true)",
      [vic, crm.ids.acme, role],
    );
    let rows: unknown[] = [];
    for (const sql of statements) rows = (await client.query({ text: sql, rowMode: "array" })).rows;
    return rows;
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    await client.query("rollback");
    client.release();
  }
}
const names = "select string_agg(name, ' ' order by name) from acme_crm.contacts";

test("it reads its account's records", async () => {
  expect(await asVic(names)).toEqual([["Ada Bea Dan"]]);
});

describe("claims", () => {
  test.each([
    ["set_config of the account", "select set_config('rowhouse.account', '', false)"],
    ["set_config of the roles", "select set_config('rowhouse.roles', '{}', true)"],
    ["set_config of the attributes", "select set_config('rowhouse.attributes', '{}', true)"],
    ["set_config of the rights", "select set_config('rowhouse.rights', ' *:delete ', true)"],
    ["set_config of the role", "select set_config('role', 'rowhouse_owner', false)"],
    ["pg_settings", "update pg_settings set setting = '' where name = 'statement_timeout'"],
    [
      "within another query",
      "select query_to_xml('select set_config(''rowhouse.account'', '''', false)', true, true, '')",
    ],
    [
      "SET within another query",
      "select query_to_xml('set rowhouse.account = ''''', true, true, '')",
      "0A000",
    ],
    [
      "a function that sets",
      "create function pg_temp.f() returns int language sql set rowhouse.account = '' as 'select 1'",
    ],
    ["entering a site", "call tenancy.enter('acme', 'ann@acme.test')"],
    ["the gateway's own functions", "select tenancy.open_control(null)"],
    ["another's roles", `select access.roles_of('${"0".repeat(8)}-0000-0000-0000-000000000000', null)`],
  ])("are not changed by %s", async (_what, sql, code = "42501") => {
    expect(await asVic(sql)).toBe(code);
    expect(await asVic(names)).toEqual([["Ada Bea Dan"]]);
  });

  test("of rowhouse.roles and rowhouse.rights that are no role of the account's show nothing to a login that is not the gateway's", async () => {
    await crm.db.as("acme", "vic@acme.test", async (client) => {
      const [{ ids } = { ids: "" }] = await crm.db.query<{ ids: string }>(
        "select array_agg(id)::text as ids from access.roles",
      );
      await client.query(`set rowhouse.roles = '${ids}'`);
      await expect(client.query("delete from acme_crm.contacts")).rejects.toMatchObject({ code: "RH403" });
      await client.query("set rowhouse.rights = ' *:read *:create *:update *:delete '");
      await expect(client.query("delete from acme_crm.contacts")).rejects.toMatchObject({ code: "RH403" });
      await client.query("reset rowhouse.roles; reset rowhouse.rights");
    });
  });
});

describe("roles and sessions", () => {
  test.each([
    ["the owner", "set role rowhouse_owner", "42501"],
    ["the owner of views", "set role rowhouse_data", "42501"],
    ["a superuser", "set session authorization postgres", "22023"],
    ["the owner's session", "set session authorization rowhouse_owner", "42501"],
    ["a prepared transaction", "prepare transaction 'x'", "55000"],
    ["a role of its own", "create role mine", "42501"],
    ["a grant", "grant rowhouse_data to rowhouse_account", "42501"],
  ])("%s is not to be had", async (_what, sql, code) => {
    expect(await asVic(sql)).toBe(code);
  });

  test("a cursor that was opened before a revocation is gone with its transaction, and the next sees nothing", async () => {
    expect(await asVic(`declare c cursor for ${names}`, "fetch c")).toEqual([["Ada Bea Dan"]]);
    await crm.db.query("select access.revoke_role('acme', 'vic@acme.test', 'viewer')");
    expect(await asVic("fetch c")).toBe("34000");
    expect(await asVic(names)).toEqual([[null]]);
    expect(
      await asVic(
        "declare c cursor with hold for select * from acme_crm.contacts",
        "commit",
        "fetch all from c",
      ),
    ).toEqual([]);
    await crm.db.query("select access.assign_role('acme', 'vic@acme.test', 'viewer')");
  });
});

describe("nothing is made that others meet", () => {
  test.each([
    ["a table in front of a record's", "create temp table contacts (name text)"],
    ["a view", "create temp view contacts as select 1"],
    ["a type that stands for uuid", "create domain pg_temp.uuid as text"],
    ["a function", "create function pg_temp.f() returns int language sql as 'select 1'"],
    ["an operator", "create operator public.= (leftarg = text, rightarg = text, function = texteq)"],
    ["a cast", "create cast (text as int) with inout"],
    ["a schema", "create schema mine"],
    ["a table beside the records", "create table acme_crm.mine (n int)"],
    ["a policy", "create policy mine on acme_crm.contacts_jsonb using (true)"],
    [
      "a trigger",
      "create trigger mine before insert on acme_crm.contacts_jsonb for each row execute function suppress_redundant_updates_trigger()",
    ],
    ["a rule", "create rule mine as on select to acme_crm.contacts do instead select 1"],
    ["an extension", "create extension dblink"],
    ["a foreign server", "create server mine foreign data wrapper postgres_fdw", "42704"],
    ["a large object", "select lo_create(0)"],
    ["a large object with text in it", "select lo_from_bytea(0, 'x')"],
    ["a message in the log that is decoded", "select pg_logical_emit_message(false, 'rowhouse', 'x')"],
    ["a publication", "create publication mine for all tables"],
    [
      "an event trigger",
      "create event trigger mine on ddl_command_start execute function acme_crm.contacts_write_through()",
    ],
  ])("%s", async (_what, sql, code = "42501") => {
    expect(await asVic(sql)).toBe(code);
  });

  test("nor in a database that was restored, as soon as a server has started on it", async () => {
    const temporary = () =>
      crm.db
        .query("select has_database_privilege($1, current_database(), 'temporary') as may", [role])
        .then(([row]) => row?.may);
    await crm.db.query(`grant temporary on database ${crm.db.name} to public`);
    expect(await temporary()).toBe(true);
    const { gatewayPassword, workerPassword } = testCluster();
    await migrate(logins(crm.db.operatorUrl, { gateway: gatewayPassword, worker: workerPassword }));
    expect(await temporary()).toBe(false);
  });
});

describe("the platform is not stopped, overheard or looked into", () => {
  test.each([
    [
      "a lock that makes everybody wait who makes an app",
      "select pg_advisory_lock(hashtextextended('tenancy.schema_name', 0))",
    ],
    ["one for the transaction", "select pg_advisory_xact_lock(1)"],
    ["one that is tried", "select pg_try_advisory_lock_shared(1)"],
    ["a lock on what all sites share", "lock table tenancy.sites in share mode"],
    ["rows of it", "select * from tenancy.sites for share"],
    ["files", "select pg_read_file('/etc/passwd')"],
    ["a folder", "select pg_ls_dir('.')"],
    ["a file to write", "copy (select 1) to '/tmp/x'"],
    ["a program", "copy (select 1) to program 'cat'"],
    ["the queue", "select * from graphile_worker.jobs"],
    ["the storage", "copy acme_crm.contacts_jsonb to stdout"],
    ["another site", "select * from beta_crm.contacts"],
    ["statements that others ran", "select query from extensions.pg_stat_statements"],
    ["and how often", "select calls from extensions.pg_stat_statements(false)"],
    ["keys of hashes", "select key from access.mask_keys"],
    ["hashes of passwords", "select password_hash from auth.accounts"],
    ["rules", "select * from access.rules"],
    ["expiry", "call data.delete_expired()"],
    ["operations", "call data.run_operations()"],
  ])("%s", async (_what, sql, code = "42501") => {
    expect(await asVic(sql)).toBe(code);
  });

  test("nobody's statement is ended: the operator's neither, nor another request's", async () => {
    const client = await gateway.connect();
    const { rows } = await client.query("select pg_backend_pid() as pid");
    const [operator] = await crm.db.query("select pg_backend_pid() as pid");
    for (const pid of [rows[0].pid, operator?.pid])
      for (const call of ["pg_terminate_backend", "pg_cancel_backend"])
        expect(await asVic(`select ${call}(${pid})`)).toBe("42501");
    client.release();
  });

  test("what others run at this moment is hidden", async () => {
    const secret = crm.db.query("select pg_sleep(0.5), 'secret of the operator'");
    const texts = await asVic(
      "select query from pg_stat_activity where query ~ 'secret' and pid <> pg_backend_pid()",
    );
    await secret;
    expect(texts).toEqual([]);
  });

  test("what an entity of another site is called is not told by its id", async () => {
    const [{ id } = { id: "" }] = await crm.db.query<{ id: string }>(
      "select e.id from data.entities e join tenancy.sites s on s.id = e.site_id where s.name = 'beta' and e.name = 'contacts'",
    );
    expect(await asVic(`select access.require_right('${id}', 'read')`)).toBe("RH404");
    expect(await asVic("select access.require_right(uuidv7(), 'read')")).toBe("RH404");
    expect(await asVic(`select count(*)::int from data.entities where id = '${id}'`)).toEqual([[0]]);
  });

  test("a statement ends after the time that the site has", async () => {
    const client = await gateway.connect();
    try {
      expect((await client.query("show statement_timeout")).rows).toEqual([{ statement_timeout: "30s" }]);
      expect((await client.query("show idle_in_transaction_session_timeout")).rows[0]).toEqual({
        idle_in_transaction_session_timeout: "1min",
      });
    } finally {
      client.release();
    }
  });
});
