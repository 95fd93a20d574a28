import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { sendTo } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";
import { startPosts, storages } from "./harness/posts.ts";

// Under which conditions rules hold, and with which values, members are not told: in tables, lists, GraphQL, answers and refusals.

let crm: Awaited<ReturnType<typeof startPosts>>;
let gateway: TestGateway;
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const secrets = /top-?secret|10\.9\.8/;
beforeAll(async () => {
  crm = await startPosts();
  gateway = await startGateway(crm.db, {}, 5, true);
  await run("select access.set_attribute_schema('acme', $1)", [
    { type: "object", properties: { team: { type: "string" } } },
  ]);
  for (const storage of storages)
    await run("select access.define_policy('acme', $1)", [
      {
        name: `hidden-${storage}`,
        effect: "deny",
        entities: [`crm/${crm.entity(storage)}`],
        condition: {
          status: "top-secret",
          $or: [{ "$account.attributes.team": "topsecret" }, { "$env.ip": { $cidr: "10.9.8.0/24" } }],
        },
      },
    ]);
  await run("select access.define_role('acme', $1)", [
    {
      name: "reader",
      permissions: [
        "crm/companies:read",
        { permission: `crm/${crm.entity("flat")}:read`, condition: { status: { $ne: "top-secret" } } },
      ],
    },
  ]);
  await run("select access.assign_role('acme', 'pat@acme.test', 'reader')");
  for (const name of ["pat", "quinn"]) crm.tokens[name] = await gateway.token(`${name}@acme.test`, "acme");
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});
/** All rows of a statement run as pat, as text; or how it is refused. */
const pat = (sql: string) =>
  crm.db.as("acme", "pat@acme.test", (client) =>
    client.query(sql).then(
      ({ rows }) => JSON.stringify(rows),
      (error: { code: string; message: string; detail?: string; hint?: string }) =>
        `${error.code} ${error.message} ${error.detail} ${error.hint}`,
    ),
  );

describe("in psql", () => {
  test("no table that a member reads has them", async () => {
    const tables = await run(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname in ('access', 'data', 'tenancy', 'auth', 'audit') and c.relkind in ('r', 'v', 'm', 'p') order by 1`,
    );
    const read: string[] = [];
    for (const { name } of tables) {
      const text = await pat(`select * from ${name}`);
      expect([name, text]).toEqual([name, expect.not.stringMatching(secrets)]);
      if (!/^42501/.test(text)) read.push(name as string);
    }
    expect(read).toEqual(expect.arrayContaining(["data.entities", "access.permissions", "access.roles"]));
    expect(read).not.toContain("access.installed");
    // They are there.
    expect(JSON.stringify(await run("select * from access.installed"))).toMatch(secrets);
  });
  test.each([
    "select access.list_roles('acme')",
    "select access.get_role('acme', 'reader')",
    "select access.list_policies('acme')",
    "select access.effective('acme/crm/posts_flat_kind')",
    "select access.export_rules('acme')",
    "select access.explain('pat@acme.test', 'acme/crm/posts_flat_kind', 'read')",
    "select access.what_can('acme', 'pat@acme.test')",
    "select access.usage('acme')",
    "select access.history_of('acme', 'role', 'reader')",
    "select access.test('acme/crm')",
    "select data.explain('acme/crm/posts_flat_kind')",
    "select audit.search('acme')",
    "insert into acme_crm.posts_flat_kind (title, status) values ('x', 'top' || '-secret')",
  ])("%s", async (sql) => {
    expect(await pat(sql)).not.toMatch(secrets);
  });
  test("who may define roles or policies reads them", async () => {
    for (const permission of ["@roles:define", "@policies:define"]) {
      await run(
        "select access.define_role('acme', $1), access.assign_role('acme', 'quinn@acme.test', 'keeper')",
        [{ name: "keeper", permissions: [permission] }],
      );
      const role = await crm.db.as("acme", "quinn@acme.test", (c) =>
        c.query(
          "select access.get_role('acme', 'reader') as role, (select count(*)::int from access.permissions where condition is not null) as n",
        ),
      );
      expect(JSON.stringify(role.rows)).toMatch(secrets);
      expect(role.rows[0].n).toBeGreaterThan(0);
    }
    await run("select access.drop_role('acme', 'keeper')");
  });
  test("a member is told what a role permits, and not when", async () => {
    expect(JSON.parse(await pat("select access.get_role('acme', 'reader')->'permissions' as p"))).toEqual([
      { p: ["crm/companies:read", "crm/posts_flat_kind:read"] },
    ]);
  });
});

test.each([
  "roles",
  "roles/reader",
  "assignments?account=pat@acme.test",
  "what-can?account=pat@acme.test",
  "policies",
  "effective?entity=crm/posts_flat_kind",
])("over REST: %s", async (path) => {
  const answer = await sendTo(gateway, crm.tokens, `/api/v1/sites/acme/access/${path}`, { as: "pat" });
  expect(answer.text).not.toMatch(secrets);
  expect(answer.status).toBe(/^(policies|effective)/.test(path) ? 403 : 200);
});

test("over GraphQL", async () => {
  const ask = async (query: string) =>
    (await sendTo(gateway, crm.tokens, "/graphql", { method: "POST", body: { query }, as: "pat" })).text;
  const text = await ask(
    "{ permissions { nodes { entity action condition fields } } roles { nodes { name } } policies { nodes { name } } }",
  );
  expect(text).toContain("crm/companies");
  expect(text).not.toMatch(secrets);
  expect(await ask('{ __type(name: "Entity") { fields { name } } }')).not.toMatch(/rights|installed/i);
});
