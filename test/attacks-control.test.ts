import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Attack, attacks, json, mutation, tried } from "./harness/control-attacks.ts";
import { type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// Nobody gets hold of the control plane: each attack through psql, REST and GraphQL, by people with too few rights, of other sites, who
// have gone and who never were; and what is malformed is refused by every door, before it costs anything.

let crm: Crm;
let gateway: TestGateway;
const doors = () => ({ crm, gateway });
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);

beforeAll(async () => {
  crm = await startCrm();
  gateway = await startGateway(crm.db, { ROWHOUSE_BODY_LIMIT: "3000000" }, 5, true);
  for (const name of ["boss", "gone", "dead", "hr"]) await crm.db.account(`${name}@acme.test`);
  await run(
    `select tenancy.add_member('acme', 'boss@acme.test', 'viewer'), tenancy.set_member_role('acme', 'boss@acme.test', 'owner'),
       tenancy.set_member_role('beta', 'bob@beta.test', 'owner'), tenancy.add_member('acme', 'gone@acme.test', 'admin'),
       tenancy.set_member_role('acme', 'gone@acme.test', 'admin'), tenancy.add_member('acme', 'dead@acme.test', 'admin'),
       tenancy.set_member_role('acme', 'dead@acme.test', 'admin')`,
  );
  await run(
    `select access.define_role('acme', '{"name": "hr", "permissions": ["@roles:assign", "@members:manage", "crm/contacts:read"]}'),
       access.define_role('acme', '{"name": "clerk", "permissions": ["crm/contacts:read"]}'), tenancy.add_member('acme', 'hr@acme.test', 'hr'),
       access.create_group('acme', 'staff'), access.assign_role_to_group('acme', 'staff', 'editor')`,
  );
  await run('select access.define_role(\'beta\', \'{"name": "theirs", "permissions": []}\')');
  for (const name of ["boss", "gone", "dead", "hr"])
    crm.tokens[name] = await gateway.token(`${name}@acme.test`, "acme");
  await run("select tenancy.remove_member('acme', 'gone@acme.test')");
  await run("delete from auth.accounts where email = 'dead@acme.test'");
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

const expected = ({ rest, graphql }: Attack, status: number, psql: number | null) => ({
  psql,
  rest: rest ? status : null,
  graphql: graphql ? status : null,
});
const state = () =>
  run(`select (select jsonb_agg(to_jsonb(m) order by m.account_id) from tenancy.site_members m) as members,
    (select jsonb_agg(to_jsonb(a) order by a.id) from access.assignments a) as assignments, (select count(*) from access.permissions) as permissions,
    (select count(*) from access.policies) as policies, (select jsonb_agg(g.account_id) from access.group_members g) as groups,
    (select count(*) from data.entities) as entities`);

describe.each<[string, string, string, number]>([
  ["a viewer", "vic", "vic@acme.test", 403],
  ["an editor", "ann", "ann@acme.test", 403],
  ["who assigns roles, of what they do not hold", "hr", "hr@acme.test", 403],
])("%s", (_who, name, email, status) => {
  test.each(attacks(email).map((attack) => [attack.what, attack] as const))("%s", async (_what, attack) => {
    const before = await state();
    expect(await tried(doors(), attack, name, email)).toEqual(expected(attack, status, status));
    expect(await state()).toEqual(before);
  });
});

test.each(attacks("bob@beta.test").map((attack) => [attack.what, attack] as const))(
  "another site's owner, in psql from there: %s",
  async (_what, attack) => {
    const before = await state();
    expect(await tried(doors(), attack, "bob", "bob@beta.test", "beta")).toEqual(expected(attack, 404, 404));
    expect(await state()).toEqual(before);
  },
);

test.each<[string, string | null, number]>([
  ["nobody", null, 401],
  ["whose membership ended, with the token of before", "gone", 404],
  ["whose account was deleted, with the token of before", "dead", 401],
  ["who made a token up", "x.y.z", 401],
])("%s gets into nothing", async (_who, as, status) => {
  const before = await state();
  for (const attack of attacks("vic@acme.test"))
    expect([attack.what, await tried(doors(), attack, as, null)]).toEqual([
      attack.what,
      expected(attack, status, null),
    ]);
  const send = (path: string, body?: unknown) =>
    sendTo(gateway, crm.tokens, `/api/v1/sites/acme/apps/crm/${path}`, {
      as,
      method: body ? "POST" : "GET",
      body,
    });
  expect([
    (await send("contacts")).status,
    (await send("contacts", { name: "x" })).status,
    (await send("contacts/export")).status,
    (await send("search?q=a")).status,
    (
      await send("transaction", {
        operations: [{ operation: "insert", entity: "contacts", data: { name: "x" } }],
      })
    ).status,
    (await send("graphql", { query: "{ contacts { totalCount } }" })).status,
    (await send("openapi.json")).status,
  ]).toEqual([status, status, status, status, status, status, status]);
  expect(await state()).toEqual(before);
});

test("psql is entered by members only", async () => {
  for (const email of ["gone@acme.test", "dead@acme.test", "bob@beta.test"])
    await expect(crm.db.as("acme", email, async () => {})).rejects.toMatchObject({ code: "RH404" });
});

test("who administers one site assigns there no role of another, and no stranger a role of theirs", async () => {
  for (const [email, role] of [
    ["bob@beta.test", "viewer"],
    ["vic@acme.test", "theirs"],
    ["vic@acme.test", "beta/theirs"],
  ] as const)
    expect(
      await tried(
        doors(),
        {
          what: "",
          sql: `select access.assign_role('acme', '${email}', '${role}')`,
          rest: ["PUT", `assignments/${email}/${role}`, {}],
          graphql: mutation("assignRole", { site: "acme", email, role }),
        },
        "boss",
        "boss@acme.test",
      ),
    ).toEqual({ psql: 404, rest: 404, graphql: 404 });
});

test("who holds what is told to who assigns it, by every door, and to others of themselves only", async () => {
  const counts = async (as: string) => {
    const answer = await sendTo(gateway, crm.tokens, "/graphql", {
      method: "POST",
      body: {
        query:
          "{ assignments { nodes { account { email } } } groups { totalCount } groupMembers { totalCount } }",
      },
      as,
    });
    const { data } = answer.json as unknown as {
      data: {
        assignments: { nodes: { account: { email: string } | null }[] };
        groups: { totalCount: number };
      };
    };
    const psql = await crm.db.as("acme", `${as}@acme.test`, (client) =>
      client.query(
        "select (select count(*) from access.assignments)::int as a, (select count(*) from access.groups)::int as g",
      ),
    );
    expect(psql.rows).toEqual([{ a: data.assignments.nodes.length, g: data.groups.totalCount }]);
    return [new Set(data.assignments.nodes.map(({ account }) => account?.email)), data.groups.totalCount];
  };
  expect(await counts("vic")).toEqual([new Set(["vic@acme.test"]), 0]);
  for (const who of ["hr", "boss"]) {
    const [emails, groups] = await counts(who);
    expect([
      (emails as Set<string>).has("vic@acme.test"),
      (emails as Set<string>).has("ann@acme.test"),
      groups,
    ]).toEqual([true, true, 1]);
  }
});

const million = "x".repeat(1_000_000);
describe("is refused by every door", () => {
  test.each<[string, object, number]>([
    [
      "a condition of a million characters",
      { name: "big", effect: "deny", entities: ["crm/contacts"], condition: `name = '${million}'` },
      400,
    ],
    [
      "one of as many levels as fit",
      {
        name: "deep",
        effect: "deny",
        entities: ["crm/contacts"],
        condition: `${"not (".repeat(100_000)}a = 1`,
      },
      400,
    ],
    [
      "a condition on a field that is not there",
      { name: "odd", effect: "deny", entities: ["crm/contacts"], condition: "nothing = 1" },
      409,
    ],
    [
      "code in a condition",
      {
        name: "code",
        effect: "deny",
        entities: ["crm/contacts"],
        condition: "name = ''; drop table access.roles; --'",
      },
      400,
    ],
  ])("%s", async (_what, definition, status) => {
    const { name, ...body } = definition as { name: string };
    const attack = {
      what: "",
      sql: `select access.define_policy('acme', '${json(definition).replaceAll("'", "''")}')`,
      definition,
    };
    expect(
      await tried(
        doors(),
        {
          ...attack,
          rest: ["PUT", `policies/${name}`, body],
          graphql: mutation("definePolicy", { site: "acme", definition: 0 }),
        },
        "boss",
        "boss@acme.test",
      ),
    ).toEqual({ psql: status, rest: status, graphql: status });
    const role = {
      name: "r",
      permissions: [
        { permission: "crm/contacts:read", condition: (body as { condition?: string }).condition },
      ],
    };
    expect(
      await tried(
        doors(),
        {
          what: "",
          sql: `select access.define_role('acme', '${json(role).replaceAll("'", "''")}')`,
          definition: role,
          rest: ["PUT", "roles/r", { permissions: role.permissions }],
          graphql: mutation("defineRole", { site: "acme", definition: 0 }),
        },
        "boss",
        "boss@acme.test",
      ),
    ).toEqual({ psql: status, rest: status, graphql: status });
  });

  test("a circle of roles", async () => {
    await run(
      `select access.define_role('acme', '{"name": "a1", "permissions": []}'), access.define_role('acme', '{"name": "a2", "permissions": [], "inherits": ["a1"]}')`,
    );
    const definition = { name: "a1", permissions: [], inherits: ["a2"] };
    expect(
      await tried(
        doors(),
        {
          what: "",
          sql: `select access.define_role('acme', '${json(definition)}')`,
          definition,
          rest: ["PUT", "roles/a1", { permissions: [], inherits: ["a2"] }],
          graphql: mutation("defineRole", { site: "acme", definition: 0 }),
        },
        "boss",
        "boss@acme.test",
      ),
    ).toEqual({ psql: 400, rest: 400, graphql: 400 });
  });
});

test("a policy whose field is dropped goes on protecting, whatever door it is dropped by", async () => {
  await run(
    `select access.define_policy('acme', '{"name": "keep", "scope": "crm/contacts", "effect": "deny", "condition": "age > 40"}')`,
  );
  const [{ schema }] = (await run(
    "select e.schema from data.entities e join tenancy.apps a on a.id = e.app_id join tenancy.sites s on s.id = a.site_id where s.name = 'acme' and a.name = 'crm' and e.name = 'contacts'",
  )) as [{ schema: { properties: Record<string, object> } }];
  const { age: _age, ...properties } = schema.properties;
  const before = (await crm.send("/api/v1/sites/acme/apps/crm/contacts")).json.data.length;
  const definition = {
    ...schema,
    properties: { ...properties, years: { type: "integer", "x-renamed-from": "age" } },
  };
  for (const attempt of [
    crm.db.as("acme", "boss@acme.test", (client) =>
      client.query("select data.define_entity('acme/crm', 'contacts', $1)", [definition]),
    ),
    run("select data.apply((data.plan('acme/crm/contacts', $1)->>'plan')::uuid, true)", [definition]),
  ])
    await expect(attempt).rejects.toMatchObject({ code: "RH409" });
  const answer = await sendTo(gateway, crm.tokens, "/graphql", {
    method: "POST",
    as: "boss",
    body: {
      query:
        'mutation ($schema: JSON!) { defineEntity(input: {app: "acme/crm", name: "contacts", schema: $schema}) { clientMutationId } }',
      variables: { schema: definition },
    },
  });
  expect(
    (answer.json as unknown as { errors: { extensions: { status: number } }[] }).errors[0]?.extensions.status,
  ).toBe(409);
  expect((await crm.send("/api/v1/sites/acme/apps/crm/contacts")).json.data).toHaveLength(before);
});
