import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { type Crm, startCrm } from "./harness/crm.ts";

// The control plane under the same model: a permission opens what it names, to its holder, and to nobody else; and nobody gets
// more by it than they hold.

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
  for (const email of ["clerk@acme.test", "boss@acme.test", "new@acme.test"]) await crm.db.account(email);
  await run(
    "select tenancy.add_member('acme', 'clerk@acme.test', 'viewer'), tenancy.add_member('acme', 'boss@acme.test', 'viewer'), tenancy.set_member_role('acme', 'boss@acme.test', 'admin')",
  );
  await run("select tenancy.add_member('beta', 'clerk@acme.test', 'viewer')");
});
afterAll(() => crm?.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
/** The SQLSTATE of a statement run as an account in acme, or what it returned first. */
const as = (email: string, sql: string) =>
  crm.db.as("acme", email, (client) =>
    client.query(sql).then(
      ({ rows }) => (rows[0] ? Object.values(rows[0])[0] : null),
      (error: { code: string; message: string }) => error.code,
    ),
  );
const clerk = (sql: string) => as("clerk@acme.test", sql);
const may = (...permissions: string[]) =>
  run("select access.define_role('acme', $1), access.assign_role('acme', 'clerk@acme.test', 'clerk')", [
    { name: "clerk", permissions },
  ]);

beforeEach(() => may("contacts:read"));

// What a permission opens, and what says that it does.
const opened: [string, string][] = [
  ["@members:manage", "select tenancy.add_member('acme', 'new@acme.test', 'viewer') is not null"],
  ["@members:manage", "select tenancy.remove_member('acme', 'new@acme.test')::text = ''"],
  ["@audit:read", "select audit.search('acme')->'data' is not null"],
  ["@audit:read", "select audit.verify('acme')->'intact' is not null"],
  [
    "@settings:update",
    `select tenancy.update_site_settings('acme', '{"locale": "de"}', '{"title": "A"}') is not null`,
  ],
  [
    "@settings:update",
    `select tenancy.update_app_settings('acme/crm', '{"cors": {"origins": ["https://a.test"]}}') is not null`,
  ],
  [
    "crm/@settings:update",
    `select tenancy.update_app_settings('acme/crm', '{"cors": {"origins": []}}') is not null`,
  ],
  ["@entities:define", "select (data.convert_storage('acme/crm/companies', 'flat')).id is not null"],
  [
    "crm/@entities:define",
    "select (data.cancel_operation(o.id)).id is not null from data.operations o order by created_at desc limit 1",
  ],
  ["@entities:define", "select (data.compact('acme/crm/companies')).id is not null"],
  [
    "@entities:define",
    "select (data.cancel_operation(o.id)).id is not null from data.operations o order by created_at desc limit 1",
  ],
  ["crm/@entities:define", "select count(*) >= 0 from data.index_advice('acme/crm')"],
  [
    "crm/@entities:define",
    `select data.plan('acme/crm/companies', '{"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "x-unique": true}, "city": {"type": "string"}, "zip": {"type": "string"}}}') is not null`,
  ],
  ["crm/@entities:define", "select count(*) > 0 from data.plans"],
  ["@policies:define", "select access.list_policies('acme') is not null"],
];
test.each(opened)("%s: %s", async (permission, sql) => {
  const before = await clerk(sql);
  if (!/from data\.(operations|plans)/.test(sql)) expect(before).toMatch(/^RH40[34]$/);
  else expect([null, false]).toContainEqual(before);
  await may("contacts:read", permission);
  const again = await clerk(sql);
  expect(again).toBe(true);
});

describe("nobody gets more than they hold", () => {
  test.each<[string, string]>([
    ["@members:manage", "select tenancy.add_member('acme', 'new@acme.test', 'admin')"],
    ["@members:manage", "select tenancy.add_member('acme', 'new@acme.test', 'editor')"],
    ["@members:manage", "select tenancy.add_member('acme', 'clerk@acme.test', 'admin')"],
    ["@members:manage", "select tenancy.set_member_role('acme', 'clerk@acme.test', 'admin')"],
    ["@members:manage", "select tenancy.set_member_role('acme', 'clerk@acme.test', 'owner')"],
    ["@members:manage", "select tenancy.set_member_role('acme', 'boss@acme.test', 'member')"],
    ["@members:manage", "select tenancy.remove_member('acme', 'boss@acme.test')"],
    ["@members:manage", "select access.assign_role('acme', 'clerk@acme.test', 'editor')"],
    ["@members:manage", "select audit.search('acme')"],
    ["@audit:read", "select tenancy.add_member('acme', 'new@acme.test', 'viewer')"],
    ["@audit:read", "select audit.search_organization('acme')"],
    [
      "@settings:update",
      `select tenancy.update_site_settings('acme', '{"signup": {"allowed": true, "role": "admin"}}')`,
    ],
    ["@settings:update", `select tenancy.update_site_settings('acme', '{"time_zone": "Asia/Tokyo"}')`],
    ["@settings:update", `select tenancy.update_site_settings('acme', '{"audit": {"keep_months": 3}}')`],
    ["@settings:update", "select access.set_attribute_schema('acme', '{}')"],
    ["shop/@settings:update", `select tenancy.update_app_settings('acme/crm', '{"cors": {"origins": []}}')`],
    ["crm/@settings:update", `select tenancy.update_site_settings('acme', '{"locale": "de"}')`],
    ["crm/@entities:define", "select data.convert_storage('acme/shop/companies', 'flat')"],
    ["crm/@entities:define", "select data.compact('acme/shop/companies')"],
    ["crm/@entities:define", "select data.index_advice('acme/shop')"],
    ["crm/@entities:define", "select tenancy.create_app('acme', 'mine')"],
    ["@policies:define", 'select access.define_role(\'acme\', \'{"name": "mine", "permissions": ["*:*"]}\')'],
  ])("%s is not enough for %s", async (permission, sql) => {
    await may("contacts:read", permission);
    expect(await clerk(sql)).toMatch(/^RH40[34]$/);
  });

  test.each(["@members:manage", "@audit:read", "@settings:update", "@entities:define", "@policies:define"])(
    "%s of one site is nothing in another",
    async (permission) => {
      await may("*:*", permission);
      await crm.db.as("beta", "clerk@acme.test", async (client) => {
        for (const sql of [
          "select tenancy.add_member('beta', 'new@acme.test', 'viewer')",
          "select audit.search('beta')",
          "select tenancy.update_site_settings('beta', '{}')",
          "select data.compact('beta/crm/companies')",
          "select access.list_policies('beta')",
        ])
          await expect(client.query(sql)).rejects.toMatchObject({ code: "RH403" });
      });
      await expect(as("clerk@acme.test", "select tenancy.update_site_settings('beta', '{}')")).resolves.toBe(
        "RH404",
      );
    },
  );

  const definesMine = (permissions: unknown[], more = {}) =>
    clerk(
      `select (access.define_role('acme', '${JSON.stringify({ name: "mine", permissions, ...more })}')).name`,
    );
  test("who defines roles puts into them what they hold, and no more, by whatever way", async () => {
    await may("crm/contacts:read", "*/companies:update", "shop/*:delete", "@roles:define");
    for (const permission of [
      "crm/contacts:read",
      "crm/contacts:read:own",
      "crm/companies:update",
      "shop/contacts:delete",
      "@roles:define",
    ])
      expect([permission, await definesMine([permission])]).toEqual([permission, "mine"]);
    expect(await definesMine([{ permission: "crm/contacts:read", condition: { name: "Ada" } }])).toBe("mine");
    for (const permission of [
      "*:*",
      "*:update",
      "crm/*:update",
      "companies:delete",
      "crm/contacts:*",
      "crm/contacts:update",
      "shop/*:*",
      "*:delete",
      "@roles:assign",
      "@members:manage",
      "@roles:*",
    ])
      expect([permission, await definesMine([permission])]).toEqual([permission, "RH403"]);
    expect(await definesMine([{ permission: "crm/contacts:read", fields: { unmasked: ["*"] } }])).toBe(
      "RH403",
    );
    expect(await definesMine([], { inherits: ["admin"] })).toBe("RH403");
    expect(await definesMine([], { inherits: ["viewer"] })).toBe("mine");
    // A role that they or everybody hold.
    for (const role of ["clerk", "authenticated", "anonymous", "viewer"])
      expect(await clerk(`select access.grant_permission('acme', '${role}', '*:*')`)).toBe("RH403");
    // What a role has already stays; its conditions do not go.
    await run("select access.define_role('acme', $1)", [
      {
        name: "given",
        permissions: [
          "crm/contacts:delete",
          { permission: "crm/contacts:update", condition: { name: "Ada" } },
        ],
      },
    ]);
    const given = (permissions: unknown[]) =>
      clerk(`select (access.define_role('acme', '${JSON.stringify({ name: "given", permissions })}')).name`);
    expect(
      await given([
        "crm/contacts:delete",
        "crm/contacts:read",
        { permission: "crm/contacts:update", condition: { name: "Ada" } },
      ]),
    ).toBe("given");
    expect(await given(["crm/contacts:delete", "crm/contacts:update"])).toBe("RH403");
    expect(await given(["crm/contacts:read"])).toBe("given");
    expect(await given(["crm/contacts:read", "crm/contacts:delete"])).toBe("RH403");
  });

  test("plans, operations and policies are seen by who may define, of their apps, and by nobody else", async () => {
    await run("select data.compact('acme/shop/companies')");
    const count =
      "select count(*)::int from data.operations o join data.entities e on e.id = o.entity_id join tenancy.apps a on a.id = e.app_id where a.name = 'shop'";
    await run(
      'select access.define_policy(\'acme\', \'{"name": "p", "effect": "deny", "entities": ["crm/contacts"], "actions": ["delete"]}\')',
    );
    expect([await clerk(count), await clerk("select count(*)::int from access.policies")]).toEqual([0, 0]);
    await may("contacts:read", "crm/@entities:define", "@policies:define");
    expect([await clerk(count), await clerk("select count(*)::int from access.policies")]).toEqual([0, 1]);
    await may("contacts:read", "shop/@entities:define");
    expect([await clerk(count), await clerk("select count(*)::int from access.policies")]).toEqual([1, 0]);
    expect(await as("boss@acme.test", count)).toBe(1);
  });
});
