import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await cloneDatabase();
  for (const email of ["owner@acme.test", "admin@acme.test", "plain@acme.test", "other@beta.test"])
    await db.account(email);
  await asAccount("owner@acme.test", "select tenancy.create_organization('acme')");
  await asAccount("owner@acme.test", "select tenancy.create_site('acme', 'acme')");
  await asAccount("owner@acme.test", "select tenancy.create_app('acme', 'crm')");
  await asAccount("owner@acme.test", "select tenancy.add_member('acme', 'plain@acme.test', 'viewer')");
  await asAccount("other@beta.test", "select tenancy.create_organization('beta')");
});
afterAll(() => db.drop());

/** One statement of the control plane, as the gateway runs it: role rowhouse_account and the account's claim. */
async function asAccount(email: string, statement: string, values: unknown[] = []) {
  const client = await db.pool.connect();
  try {
    await client.query("begin");
    await client.query(
      "select set_config('rowhouse.account', (select id::text from auth.accounts where email = $1), true), set_config('role', 'rowhouse_account', true)",
      [email],
    );
    const { rows } = await client.query(statement, values);
    await client.query("commit");
    return rows;
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

describe("names say what is allowed", () => {
  const wrong = [
    "",
    "a",
    "A",
    "Acme",
    "a--b",
    "-a",
    "a-",
    "1a",
    "a_b",
    "a.b",
    "a b",
    "ünïcode",
    '"; drop',
    "a".repeat(29),
    "www",
    "graphql",
    "pg",
    "pg-x",
    "a/b",
    "a\nb",
  ];
  test.each(wrong)("%j is refused for organizations, sites and apps", async (name) => {
    for (const call of [
      "tenancy.create_organization($1)",
      "tenancy.create_site('acme', $1)",
      "tenancy.create_app('acme', $1)",
    ]) {
      const failure = await refusal(asAccount("owner@acme.test", `select ${call}`, [name]));
      expect(failure).toMatchObject({ code: "RH400" });
      expect(failure.hint).not.toBe("");
    }
  });
  test("a name that is taken is a conflict", async () => {
    expect(
      (await refusal(asAccount("other@beta.test", "select tenancy.create_organization('acme')"))).code,
    ).toBe("RH409");
    expect(
      (await refusal(asAccount("other@beta.test", "select tenancy.create_site('beta', 'acme')"))).code,
    ).toBe("RH409");
  });
});

test("acme/prod-crm and acme-prod/crm do not meet", async () => {
  await asAccount("owner@acme.test", "select tenancy.create_site('acme', 'acme-prod')");
  await asAccount("owner@acme.test", "select tenancy.create_app('acme', 'prod-crm')");
  await asAccount("owner@acme.test", "select tenancy.create_app('acme-prod', 'crm')");
  const apps = await db.query(
    "select schema_name from tenancy.apps where schema_name like 'acme_prod_crm%' order by 1",
  );
  expect(apps).toEqual([{ schema_name: "acme_prod_crm" }, { schema_name: "acme_prod_crm_2" }]);
});

test("a site's role has its limits and may log in nowhere", async () => {
  const [role] = await db.query(
    "select r.rolcanlogin, r.rolbypassrls, s.setconfig from tenancy.sites t join pg_roles r on r.rolname = t.role_name join pg_db_role_setting s on s.setrole = r.oid where t.name = 'acme'",
  );
  expect(role).toEqual({
    rolcanlogin: false,
    rolbypassrls: false,
    setconfig: ["statement_timeout=30s", "lock_timeout=5s", "idle_in_transaction_session_timeout=60s"],
  });
});

describe("rights in the control plane", () => {
  const forbidden: [string, string, string][] = [
    ["a stranger learns nothing of the organization", "select tenancy.create_site('acme', 'mine')", "RH404"],
    ["a stranger learns nothing of the site", "select tenancy.create_app('acme', 'mine')", "RH404"],
    [
      "a stranger cannot add members",
      "select tenancy.add_member('acme', 'other@beta.test', 'admin')",
      "RH404",
    ],
    [
      "a stranger cannot assign roles",
      "select access.assign_role('acme', 'other@beta.test', 'admin')",
      "RH404",
    ],
    ["a stranger cannot drop the app", "select tenancy.drop_app('acme/crm', 'acme/crm')", "RH404"],
    [
      "a stranger cannot define entities",
      "select data.define_entity('acme/crm', 'x', '{\"type\":\"object\",\"properties\":{}}')",
      "RH404",
    ],
    ["internal functions are not granted", "select access.assign(null, null, 'admin')", "42501"],
    ["nor is opening a request", "select tenancy.open_request(null, null, 'acme', 'crm')", "42501"],
    [
      "tables cannot be written",
      "insert into tenancy.site_members (site_id, account_id) select id, auth.account_id() from tenancy.sites",
      "42501",
    ],
  ];
  test.each(forbidden)("%s", async (_title, statement, code) => {
    expect((await refusal(asAccount("other@beta.test", statement))).code).toBe(code);
  });
  test("a plain member may not administer the site", async () => {
    for (const statement of [
      "select tenancy.create_app('acme', 'more')",
      "select tenancy.add_member('acme', 'other@beta.test', 'viewer')",
      "select access.assign_role('acme', 'plain@acme.test', 'admin')",
      "select tenancy.drop_site('acme', 'acme')",
      "select data.define_entity('acme/crm', 'x', '{\"type\":\"object\",\"properties\":{}}')",
    ])
      expect((await refusal(asAccount("plain@acme.test", statement))).code).toBe("RH403");
  });
  test("a stranger's tables are empty", async () => {
    expect(await asAccount("other@beta.test", "select name from tenancy.sites")).toEqual([]);
    expect(await asAccount("other@beta.test", "select name from tenancy.organizations")).toEqual([
      { name: "beta" },
    ]);
  });
});

test("the compiler's functions tell a stranger nothing of an entity, even by its id", async () => {
  await asAccount(
    "owner@acme.test",
    `select data.define_entity('acme/crm', 'secrets', '{"type":"object","properties":{"hidden_name":{"type":"string"}}}')`,
  );
  const [{ id }] = (await db.query("select id from data.entities where name = 'secrets'")) as [
    { id: string },
  ];
  for (const call of [
    "data.parse_select($1, null, 't')",
    "data.field_expression($1, 'nope', 't')::text",
    "data.compile_expand($1, 'acme_crm', '[\"x\"]', 't')::text",
  ]) {
    const seen = await asAccount("other@beta.test", `select ${call} as seen`, [id]).catch((error) => [
      { seen: `${error.message} ${error.hint}` },
    ]);
    expect(String(seen[0]?.seen)).not.toContain("hidden_name");
    expect(String(seen[0]?.seen)).not.toContain("secrets");
  }
});

test("a token for one site opens no other site and no organization, whoever holds it", async () => {
  await asAccount("owner@acme.test", "select tenancy.create_site('acme', 'acme-two')");
  const mine = (statement: string) =>
    db.as("acme-two", "owner@acme.test", (client) => client.query(`select ${statement}`));
  expect((await refusal(mine("tenancy.create_app('acme', 'stolen')"))).code).toBe("RH404");
  expect((await refusal(mine("tenancy.drop_site('acme', 'acme')"))).code).toBe("RH404");
  expect((await refusal(mine("tenancy.create_site('acme', 'acme-three')"))).code).toBe("RH403");
  expect((await refusal(mine("tenancy.create_organization('mine')"))).code).toBe("RH403");
  expect((await refusal(mine("tenancy.add_organization_member('acme', 'plain@acme.test')"))).code).toBe(
    "RH403",
  );
  expect((await refusal(mine("tenancy.drop_organization('acme', 'acme')"))).code).toBe("RH403");
  expect(await db.query("select from tenancy.organizations where name = 'mine'")).toEqual([]);
  await mine("tenancy.create_app('acme-two', 'own')");
});

test("dropping asks for the name and is refused for those who do not own", async () => {
  await asAccount("owner@acme.test", "select tenancy.create_site('acme', 'gone')");
  await asAccount("owner@acme.test", "select tenancy.create_app('gone', 'app-one')");
  await asAccount(
    "owner@acme.test",
    'select data.define_entity(\'gone/app-one\', \'things\', \'{"type":"object","properties":{"a":{"type":"string"}}}\')',
  );
  const [{ role_name: role }] = (await db.query(
    "select role_name from tenancy.sites where name = 'gone'",
  )) as [{ role_name: string }];
  expect((await refusal(asAccount("owner@acme.test", "select tenancy.drop_site('gone', 'yes')"))).code).toBe(
    "RH400",
  );
  await asAccount("owner@acme.test", "select tenancy.add_member('gone', 'admin@acme.test', 'admin')");
  expect((await refusal(asAccount("admin@acme.test", "select tenancy.drop_site('gone', 'gone')"))).code).toBe(
    "RH403",
  );
  expect(
    (await refusal(asAccount("owner@acme.test", "select tenancy.drop_organization('acme', 'acme')"))).code,
  ).toBe("RH409");
  await asAccount("owner@acme.test", "select tenancy.drop_site('gone', 'gone')");
  expect(await db.query("select from pg_namespace where nspname = 'gone_app_one'")).toEqual([]);
  expect(await db.query("select from pg_roles where rolname = $1", [role])).toEqual([]);
});

describe("site settings", () => {
  const wrong: [object, object | null, string[]][] = [
    [{ signup: { allowed: "yes" } }, null, ["/settings/signup/allowed"]],
    [{ colour: 1 }, null, ["/settings/colour"]],
    [
      {},
      { primary_color: "red", logo_url: "javascript:alert(1)" },
      ["/branding/logo_url", "/branding/primary_color"],
    ],
  ];
  test.each(wrong)("%j %j is refused", async (settings, branding, pointers) => {
    const failure = await refusal(
      asAccount("owner@acme.test", "select tenancy.update_site_settings('acme', $1, $2)", [
        settings,
        branding,
      ]),
    );
    expect(failure.detail.errors?.map((e) => e.pointer)).toEqual(pointers);
  });
  test("valid ones are kept", async () => {
    await asAccount("owner@acme.test", "select tenancy.update_site_settings('acme', $1, $2)", [
      { signup: { allowed: true, role: "viewer" } },
      { primary_color: "#aabbcc" },
    ]);
    expect(await db.query("select settings, branding from tenancy.sites where name = 'acme'")).toEqual([
      { settings: { signup: { allowed: true, role: "viewer" } }, branding: { primary_color: "#aabbcc" } },
    ]);
  });
});

test("tenancy.enter gives exactly the account's rights, leave ends them, and a member cannot enter as another", async () => {
  const seen = await db.as("acme", "plain@acme.test", async (client) => {
    const { rows } = await client.query(
      "select current_user, session_user, auth.account_id() is not null as account",
    );
    const failure = await refusal(client.query("call tenancy.enter('acme', 'owner@acme.test')"));
    return { ...rows[0], refused: failure.code };
  });
  expect(seen).toMatchObject({ current_user: expect.stringMatching(/^site_acme(_\d+)?$/), account: true });
  expect(["RH403", "42501"]).toContain(seen.refused);
  expect((await refusal(db.query("call tenancy.enter('acme', 'other@beta.test')"))).code).toBe("RH404");
});

describe("who administers a site", () => {
  const role = (email: string, role: string | null, site = "gone-by") =>
    role === null
      ? `select tenancy.remove_member('${site}', '${email}')`
      : `select tenancy.set_member_role('${site}', '${email}', ${role === "" ? "null" : `'${role}'`})`;

  beforeAll(async () => {
    await asAccount("owner@acme.test", "select tenancy.create_site('acme', 'gone-by')");
    for (const email of ["admin@acme.test", "plain@acme.test"])
      await asAccount("owner@acme.test", `select tenancy.add_member('gone-by', '${email}', 'viewer')`);
    await asAccount("owner@acme.test", role("admin@acme.test", "admin"));
  });

  test.each<[string, string, string, string]>([
    ["an admin cannot make themselves owner", "admin@acme.test", role("admin@acme.test", "owner"), "RH403"],
    ["an admin cannot demote an owner", "admin@acme.test", role("owner@acme.test", "member"), "RH403"],
    ["an admin cannot remove an owner", "admin@acme.test", role("owner@acme.test", null), "RH403"],
    ["a member cannot make themselves admin", "plain@acme.test", role("plain@acme.test", "admin"), "RH403"],
    ["a stranger sees no site", "other@beta.test", role("other@beta.test", "owner"), "RH404"],
    ["the last owner cannot step down", "owner@acme.test", role("owner@acme.test", "admin"), "RH409"],
    ["nor leave", "owner@acme.test", role("owner@acme.test", null), "RH409"],
    ["nor be removed by the operator", "", role("owner@acme.test", null), "RH409"],
    ["an unknown role is refused", "owner@acme.test", role("plain@acme.test", "king"), "RH400"],
    ["so is none", "owner@acme.test", role("plain@acme.test", ""), "RH400"],
    ["who is no member has no role", "owner@acme.test", role("other@beta.test", "admin"), "RH404"],
  ])("%s", async (_title, email, statement, code) => {
    const failure = await refusal(email ? asAccount(email, statement) : db.query(statement));
    expect(failure.code).toBe(code);
  });

  test("an admin makes admins, an owner hands the site on, and two owners do not remove each other at once", async () => {
    await asAccount("admin@acme.test", role("plain@acme.test", "admin"));
    await asAccount("owner@acme.test", role("plain@acme.test", "owner"));
    const outcomes = await Promise.allSettled([
      asAccount("owner@acme.test", role("plain@acme.test", null)),
      asAccount("plain@acme.test", role("owner@acme.test", null)),
    ]);
    expect(outcomes.map((outcome) => outcome.status).sort()).toEqual(["fulfilled", "rejected"]);
    const owners = await db.query(
      "select count(*)::int as n from tenancy.site_members m join tenancy.sites s on s.id = m.site_id where s.name = 'gone-by' and m.role = 'owner'",
    );
    expect(owners).toEqual([{ n: 1 }]);
  });

  test("an owner whose account was deleted does not count", async () => {
    await db.account("late@acme.test");
    await asAccount("owner@acme.test", "select tenancy.create_site('acme', 'by-two')");
    await db.query("select tenancy.add_member('by-two', 'late@acme.test', 'viewer')");
    await db.query(role("late@acme.test", "owner", "by-two"));
    await db.query("select tenancy.add_organization_member('acme', 'late@acme.test', 'owner')");
    await db.query("update auth.accounts set deleted_at = now() where email = 'late@acme.test'");
    for (const statement of [
      role("owner@acme.test", "member", "by-two"),
      role("owner@acme.test", null, "by-two"),
      "select tenancy.add_organization_member('acme', 'owner@acme.test', 'admin')",
      "select tenancy.remove_organization_member('acme', 'owner@acme.test')",
    ])
      expect((await refusal(asAccount("owner@acme.test", statement))).code).toBe("RH409");
  });

  test("an organization keeps an owner too", async () => {
    const add = (email: string, role: string) =>
      asAccount("other@beta.test", `select tenancy.add_organization_member('beta', '${email}', '${role}')`);
    const remove = (by: string, email: string) =>
      asAccount(by, `select tenancy.remove_organization_member('beta', '${email}')`);
    expect((await refusal(remove("other@beta.test", "other@beta.test"))).code).toBe("RH409");
    expect((await refusal(add("other@beta.test", "member"))).code).toBe("RH409");
    expect((await refusal(add("plain@acme.test", "king"))).code).toBe("RH400");
    await add("plain@acme.test", "admin");
    expect((await refusal(remove("plain@acme.test", "other@beta.test"))).code).toBe("RH403");
    await add("plain@acme.test", "owner");
    await remove("plain@acme.test", "other@beta.test");
    expect((await refusal(remove("other@beta.test", "plain@acme.test"))).code).toBe("RH404");
  });
});

test("a session that entered a site has the time limits of its role", async () => {
  const limits =
    "select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock";
  expect(await db.as("acme", "plain@acme.test", async (client) => (await client.query(limits)).rows)).toEqual(
    [{ statement: "30s", lock: "5s" }],
  );
  const client = await db.pool.connect();
  const all =
    "select name, setting from pg_settings where name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'work_mem', 'default_transaction_read_only', 'TimeZone') order by 1";
  const [{ role }] = (await db.query("select role_name as role from tenancy.sites where name = 'acme'")) as [
    { role: string },
  ];
  try {
    await db.query(`alter role ${role} set default_transaction_read_only = on`);
    await db.query(`alter role ${role} in database ${db.name} set work_mem = '1MB'`);
    await db.query(`alter role ${role} set statement_timeout = '1s'`);
    const before = (await client.query(all)).rows;
    await client.query("call tenancy.enter('acme', 'plain@acme.test')");
    expect((await client.query("show work_mem")).rows).toEqual([{ work_mem: "1MB" }]);
    expect((await refusal(client.query("select pg_sleep(5)"))).code).toBe("57014");
    await client.query("call tenancy.leave()");
    expect((await client.query(all)).rows).toEqual(before);
  } finally {
    await db.query(`alter role ${role} reset default_transaction_read_only`);
    await db.query(`alter role ${role} set statement_timeout = '30s'`);
    client.release();
  }
});

test("a superuser's functions run nothing that rowhouse_owner can replace", async () => {
  const client = await db.pool.connect();
  try {
    await client.query("begin");
    await client.query("set local role rowhouse_owner");
    await client.query(
      "create function pg_temp.hijack() returns boolean language plpgsql as $$ begin raise exception 'HIJACKED'; end $$",
    );
    for (const type of ["name", "text"])
      await client.query(
        `create domain pg_temp.${type} as pg_catalog.${type} check (value is null or pg_temp.hijack())`,
      );
    for (const replaced of [
      "tenancy.check_name(kind pg_catalog.text, name pg_catalog.text) returns void",
      "rowhouse.fail(status int, message pg_catalog.text, hint pg_catalog.text default null, code pg_catalog.text default null, errors jsonb default null) returns void",
    ])
      await client.query(
        `create or replace function ${replaced} language plpgsql as $$ begin perform pg_temp.hijack(); end $$`,
      );
    await client.query("alter table tenancy.sites rename to was_sites");
    await client.query(
      "create view tenancy.sites as select s.* from tenancy.was_sites s where pg_temp.hijack()",
    );
    const { rows } = await client.query("select tenancy.create_site_role('hijack') as role");
    await client.query("select tenancy.drop_site_role($1)", [rows[0].role]);
    await client.query("savepoint before_others");
    for (const other of ["rowhouse_worker", "postgres", "site_"]) {
      expect((await refusal(client.query("select tenancy.drop_site_role($1)", [other]))).code).toBe("RH409");
      await client.query("rollback to before_others");
    }
    expect((await refusal(client.query("select tenancy.create_site_role('x\" superuser --')"))).code).toBe(
      "RH400",
    );
  } finally {
    await client.query("rollback");
    client.release();
  }
});

test("an unproved domain routes nowhere; the right TXT record proves it, once", async () => {
  const [domain] = await asAccount(
    "owner@acme.test",
    "select * from tenancy.add_domain('acme', 'App.Acme.test', 'crm')",
  );
  const routed = async () => (await db.query("select tenancy.site_of_host('APP.acme.test') as site"))[0];
  expect(await routed()).toEqual({ site: null });
  expect(
    await db.query("select tenancy.verify_domain($1, $2) as ok", [domain.id, ["v=spf1", "rowhouse-wrong"]]),
  ).toEqual([{ ok: false }]);
  expect(await routed()).toEqual({ site: null });
  expect(
    await db.query("select tenancy.verify_domain($1, $2) as ok", [domain.id, ["v=spf1", domain.proof]]),
  ).toEqual([{ ok: true }]);
  expect(await routed()).toEqual({ site: "acme/crm" });
});

test("the rights of a role end with the next statement after it was taken away", async () => {
  await asAccount(
    "owner@acme.test",
    'select data.define_entity(\'acme/crm\', \'notes\', \'{"type":"object","properties":{"a":{"type":"string"}}}\')',
  );
  await db.query("select data.insert('acme/crm/notes', '{\"a\": \"x\"}')");
  const counts = await db.as("acme", "plain@acme.test", async (client) => {
    const count = async () => (await client.query("select count(*)::int as n from acme_crm.notes")).rows[0].n;
    const before = await count();
    await asAccount("owner@acme.test", "select access.revoke_role('acme', 'plain@acme.test', 'viewer')");
    return [before, await count()];
  });
  expect(counts).toEqual([1, 0]);
});
