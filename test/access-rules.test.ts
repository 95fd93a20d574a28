import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { refusal } from "./harness/failure.ts";
import { startPosts, storages } from "./harness/posts.ts";

// What a site's administrator was promised: roles, conditions and policies are in effect from the next statement, for psql as for
// the data functions, and say no more than they say.

let crm: Awaited<ReturnType<typeof startPosts>>;
beforeAll(async () => {
  crm = await startPosts();
});
afterAll(() => crm.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const define = (role: object) => run("select access.define_role('acme', $1)", [role]);
const policy = (policy: object) => run("select access.define_policy('acme', $1)", [policy]);
const assign = (email: string, role: string) =>
  run("select access.assign_role('acme', $1, $2)", [email, role]);

/** The titles that an account sees in the view, in order. */
const seen = (email: string, storage: string) =>
  crm.db.as("acme", email, async (client) =>
    (await client.query(`select title from acme_crm.${crm.entity(storage)} order by title`)).rows
      .map((row) => row.title)
      .join(" "),
  );
/** What comes of a statement run as an account: its one value, or the SQLSTATE. */
const as = (email: string, sql: string, values: unknown[] = []) =>
  crm.db.as("acme", email, (client) =>
    client.query(sql, values).then(
      ({ rows, rowCount }) => (rows[0] ? Object.values(rows[0])[0] : rowCount),
      (error: { code: string }) => error.code,
    ),
  );

beforeEach(async () => {
  for (const { scope, name } of await run("select scope, name from access.policies"))
    await run("select access.drop_policy('acme', $1, $2)", [name, scope]);
  await run("delete from access.assignments a using access.roles r where r.id = a.role_id and not r.system");
  for (const { path } of await run(
    "select access.role_path(r) as path from access.roles r where not r.system and r.name <> 'writer' and not r.is_internal order by r.created_at desc",
  ))
    await run("select access.drop_role('acme', $1)", [path]);
});

describe.each(storages)("in %s storage", (storage) => {
  const entity = crm?.entity(storage) ?? `posts_${storage}_kind`;

  test.each<[string, object, string]>([
    ["all", { permissions: [`crm/${entity}:read`] }, "a1 a2 p1 p2"],
    ["of any app by its name", { permissions: [`${entity}:read`] }, "a1 a2 p1 p2"],
    ["one's own", { permissions: [`${entity}:read:own`] }, "p1 p2"],
    [
      "by a filter",
      { permissions: [{ permission: `${entity}:read`, condition: { region: "north" } }] },
      "a1 p1",
    ],
    [
      "by the filter's text",
      { permissions: [{ permission: "crm/*:read", condition: "score > 2 or region = 'north'" }] },
      "a1 p1 p2",
    ],
    [
      "own or published",
      {
        permissions: [
          `${entity}:read:own`,
          { permission: `${entity}:read`, condition: { status: "published" } },
        ],
      },
      "a2 p1 p2",
    ],
    [
      "own and published",
      { permissions: [{ permission: `${entity}:read:own`, condition: { status: "published" } }] },
      "p1",
    ],
    [
      "by the short form",
      { permissions: [`${entity}:read`], data_filters: { [entity]: "created_by = current_user.id" } },
      "p1 p2",
    ],
    [
      "by the account's address",
      { permissions: [{ permission: `${entity}:read`, condition: { "$account.email": "pat@acme.test" } }] },
      "a1 a2 p1 p2",
    ],
    [
      "by another's address",
      { permissions: [{ permission: `${entity}:read`, condition: { "$account.email": "ann@acme.test" } }] },
      "",
    ],
    ["nothing, by a permission to write", { permissions: [`${entity}:create`] }, ""],
    ["of another app", { permissions: ["shop/*:read"] }, ""],
  ])("a role lets its holder see %s", async (_what, role, expected) => {
    await define({ name: "given", ...role });
    expect(await seen("pat@acme.test", storage)).toBe("");
    await assign("pat@acme.test", "given");
    expect(await seen("pat@acme.test", storage)).toBe(expected);
    await run("select access.revoke_role('acme', 'pat@acme.test', 'given')");
    expect(await seen("pat@acme.test", storage)).toBe("");
  });

  test("a role has what those have from which it inherits, and loses it with them", async () => {
    await define({
      name: "northern",
      permissions: [{ permission: `${entity}:read`, condition: { region: "north" } }],
    });
    await define({ name: "owning", permissions: [`${entity}:read:own`], inherits: ["northern"] });
    await define({ name: "lead", permissions: [], inherits: ["owning"] });
    await assign("pat@acme.test", "lead");
    expect(await seen("pat@acme.test", storage)).toBe("a1 p1 p2");
    await define({ name: "owning", permissions: [`${entity}:read:own`] });
    expect(await seen("pat@acme.test", storage)).toBe("p1 p2");
    await define({ name: "owning", permissions: [] });
    expect(await seen("pat@acme.test", storage)).toBe("");
  });

  test.each<[string, object[], string]>([
    [
      "deny wins over every allow",
      [{ name: "d", effect: "deny", actions: ["read"], condition: { region: "north" } }],
      "a2 p2",
    ],
    [
      "deny by what the account is",
      [{ name: "d", effect: "deny", condition: "current_user.email = 'ann@acme.test'" }],
      "",
    ],
    [
      "deny by what another is",
      [{ name: "d", effect: "deny", condition: "current_user.email = 'pat@acme.test'" }],
      "a1 a2 p1 p2",
    ],
    [
      "deny by both",
      [{ name: "d", effect: "deny", condition: "current_user.email = 'ann@acme.test' and status = 'draft'" }],
      "a2 p1",
    ],
    ["deny of another action", [{ name: "d", effect: "deny", actions: ["delete"] }], "a1 a2 p1 p2"],
    ["deny of another entity", [{ name: "d", effect: "deny", entities: ["crm/contacts"] }], "a1 a2 p1 p2"],
    [
      "deny of a site, replaced further in",
      [
        { name: "d", effect: "deny" },
        { name: "d", scope: "crm", effect: "deny", condition: { region: "south" } },
      ],
      "a1 p1",
    ],
    [
      "deny of a site, switched off further in",
      [
        { name: "d", effect: "deny" },
        { name: "d", scope: `crm/posts_${storage}_kind`, effect: "deny", enabled: false },
      ],
      "a1 a2 p1 p2",
    ],
    [
      "deny where an allow has a higher priority",
      [
        { name: "d", effect: "deny", condition: { region: "south" } },
        { name: "a", effect: "allow", priority: 9 },
      ],
      "a1 p1",
    ],
    [
      "two denials",
      [
        { name: "d", effect: "deny", condition: { region: "south" } },
        { name: "e", effect: "deny", condition: { score: { $lt: 2 } } },
      ],
      "p1",
    ],
  ])("a policy: %s", async (_what, policies, expected) => {
    expect(await seen("ann@acme.test", storage)).toBe("a1 a2 p1 p2");
    for (const definition of policies) await policy(definition);
    expect(await seen("ann@acme.test", storage)).toBe(expected);
  });

  test("a policy allows what no role does", async () => {
    await policy({
      name: "a",
      effect: "allow",
      actions: ["read"],
      condition: "status = 'published' and current_user.roles contains 'authenticated'",
    });
    expect(await seen("quinn@acme.test", storage)).toBe("a2 p1");
  });

  test.each<[string, unknown[], unknown]>([
    ["an own record is changed", ["update acme_crm.$e set status = 'seen' where title = 'p1'"], 1],
    ["another's is not there to change", ["update acme_crm.$e set status = 'seen' where title = 'a1'"], 0],
    [
      "it says so where the record can be seen",
      [
        "select data.update('acme/crm/$e', (select id from acme_crm.$e where title = 'a1'), '{\"status\": \"x\"}')",
      ],
      "RH403",
    ],
    [
      "it says so of a delete",
      ["select data.delete('acme/crm/$e', (select id from acme_crm.$e where title = 'a1'))"],
      "RH403",
    ],
    [
      "a record cannot be made to leave its writer's rights",
      ["update acme_crm.$e set region = 'south' where title = 'p1'"],
      "RH403",
    ],
    [
      "nor by the data function",
      [
        "select data.update('acme/crm/$e', (select id from acme_crm.$e where title = 'p1'), '{\"region\": \"south\"}')",
      ],
      "RH403",
    ],
    [
      "a record in one's own region can be made",
      ["insert into acme_crm.$e (title, region) values ('new', 'north')"],
      1,
    ],
    ["and elsewhere not", ["insert into acme_crm.$e (title, region) values ('new', 'south')"], "RH403"],
    [
      "nor in a batch",
      [
        'select data.insert(\'acme/crm/$e\', \'[{"title": "n1", "region": "north"}, {"title": "n2", "region": "south"}]\')',
      ],
      "RH403",
    ],
    [
      "created_by is nobody's to say",
      [
        "insert into acme_crm.$e (title, region, created_by) values ('forged', 'north', uuidv7()) returning created_by = auth.account_id()",
      ],
      true,
    ],
  ])("writing under conditions: %s", async (_what, [sql], expected) => {
    await define({
      name: "northern",
      permissions: [
        `${entity}:read`,
        { permission: `${entity}:create`, condition: { region: "north" } },
        { permission: `${entity}:update:own`, condition: { region: "north" } },
        { permission: `${entity}:delete:own`, condition: { region: "north" } },
      ],
    });
    await assign("pat@acme.test", "northern");
    expect(await as("pat@acme.test", (sql as string).replaceAll("$e", entity))).toEqual(expected);
    await run(`delete from acme_crm.${entity} where title in ('new', 'n1', 'n2', 'forged')`);
  });

  test("reading by an indexed field uses its index whatever the conditions", async () => {
    await define({
      name: "northern",
      permissions: [
        `${entity}:read:own`,
        { permission: `${entity}:read`, condition: { status: "published" } },
      ],
    });
    await assign("pat@acme.test", "northern");
    await policy({
      name: "d",
      effect: "deny",
      condition: "score = 77 and current_user.email = 'pat@acme.test'",
    });
    const plan = await crm.db.as("acme", "pat@acme.test", async (client) => {
      await client.query("set enable_seqscan = off");
      const { rows } = await client.query(
        `explain select * from acme_crm.${entity} where region = 'north' order by created_at, id limit 20`,
      );
      await client.query("reset enable_seqscan");
      return rows.map((row) => row["QUERY PLAN"]).join("\n");
    });
    expect(plan).toMatch(/Index Cond: \(region = 'north'::text\)/);
  });
});

test("what is assigned to a group its members hold", async () => {
  await run(
    "select access.create_group('acme', 'team'), access.assign_role_to_group('acme', 'team', 'viewer')",
  );
  expect(await seen("pat@acme.test", "jsonb")).toBe("");
  await run("select access.add_to_group('acme', 'team', 'pat@acme.test')");
  expect(await seen("pat@acme.test", "jsonb")).toBe("a1 a2 p1 p2");
  await run("select access.remove_from_group('acme', 'team', 'pat@acme.test')");
  expect(await seen("pat@acme.test", "jsonb")).toBe("");
  await run("select access.add_to_group('acme', 'team', 'pat@acme.test'), access.drop_group('acme', 'team')");
  expect(await seen("pat@acme.test", "jsonb")).toBe("");
});

test.each<[string, string, string]>([
  ["from a time on", "valid_from => now() + interval '1 hour'", ""],
  ["until a time", "valid_until => now() + interval '1 hour'", "a1 a2 p1 p2"],
  ["while a condition holds", `condition => '"current_user.email = ''pat@acme.test''"'`, "a1 a2 p1 p2"],
  ["not while it does not", `condition => '{"$account.email": "else@acme.test"}'`, ""],
])("an assignment holds %s", async (_what, terms, expected) => {
  await run(`select access.assign_role('acme', 'pat@acme.test', 'viewer', ${terms})`);
  expect(await seen("pat@acme.test", "jsonb")).toBe(expected);
  await run("select access.revoke_role('acme', 'pat@acme.test', 'viewer')");
});

test("a request opens with the roles that psql finds, however they are held", async () => {
  await define({ name: "base", permissions: ["crm/*:read"] });
  await define({ name: "upper", permissions: [], inherits: ["base"] });
  await run(
    "select access.create_group('acme', 'crew'), access.add_to_group('acme', 'crew', 'pat@acme.test')",
  );
  const held = async () => {
    const rows = await run(
      `select array(select distinct unnest(coalesce(r.held_role_ids, access.remember_roles(r.site_id, r.account_id))) order by 1)::text as request,
         array(select unnest(access.roles_of(r.site_id, r.account_id)) order by 1)::text as psql
       from tenancy.open_requests r join auth.accounts a on a.id = r.account_id where a.email = 'pat@acme.test' and r.app_name = 'crm' and r.site_name = 'acme'`,
    );
    expect(rows.length).toBeGreaterThan(0);
    for (const { request, psql } of rows) expect(request).toBe(psql);
    return String(rows[0]?.psql).split(",").length;
  };
  await crm.gateway.token("pat@acme.test", "acme");
  expect(await held()).toBe(2); // authenticated and anonymous
  for (const [terms, roles] of [
    ["", 4],
    [", valid_from => now() + interval '1 hour'", 2],
    [", valid_until => now() + interval '1 hour'", 4],
    [`, condition => '{"$account.email": "pat@acme.test"}'`, 4],
    [`, condition => '{"$account.email": "else@acme.test"}'`, 2],
  ] as const) {
    for (const call of ["assign_role('acme', 'pat@acme.test'", "assign_role_to_group('acme', 'crew'"]) {
      await run(`select access.${call}, 'upper'${terms})`);
      expect([call, terms, await held()]).toEqual([call, terms, roles]);
      await run(
        `select access.${call.replace("assign", "revoke").replace("role_to_group", "role_from_group")}, 'upper')`,
      );
    }
  }
  await assign("ann@acme.test", "upper");
  await as(
    "ann@acme.test",
    "select access.delegate('acme', 'pat@acme.test', 'upper', now() + interval '1 hour')",
  );
  expect(await held()).toBe(3);
  await run("select access.revoke_role('acme', 'ann@acme.test', 'upper')");
  expect(await held()).toBe(2);
  await run("select access.drop_group('acme', 'crew')");
});

describe("a delegation", () => {
  const delegate = (role: string, permissions: string | null = null, from = "ann@acme.test") =>
    as(from, "select access.delegate('acme', 'pat@acme.test', $1, now() + interval '1 hour', $2)", [
      role,
      permissions,
    ]);

  test("hands on what its delegator has, and ends when the delegator loses it", async () => {
    await define({ name: "half", permissions: ["crm/*:read:own", "crm/*:update:own"] });
    await assign("ann@acme.test", "half");
    const id = await delegate("half", "{crm/*:read:own}");
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    // own means the delegator's.
    expect(await seen("pat@acme.test", "jsonb")).toBe("a1 a2");
    expect(await as("pat@acme.test", "update acme_crm.posts_jsonb_kind set status = 'x'")).toBe("RH403");
    await run("select access.revoke_role('acme', 'ann@acme.test', 'half')");
    expect(await seen("pat@acme.test", "jsonb")).toBe("");
    await assign("ann@acme.test", "half");
    expect(await seen("pat@acme.test", "jsonb")).toBe("a1 a2");
    await define({ name: "half", permissions: ["crm/*:update:own"] });
    expect(await seen("pat@acme.test", "jsonb")).toBe("");
  });

  test("is revoked by its delegator, and not by others", async () => {
    const id = await delegate("editor");
    expect(await seen("pat@acme.test", "jsonb")).toBe("a1 a2 p1 p2");
    expect(await as("vic@acme.test", "select access.revoke_delegation($1)", [id])).toBe("RH404");
    expect(await as("ann@acme.test", "select access.revoke_delegation($1) is null", [id])).toBe(false);
    expect(await seen("pat@acme.test", "jsonb")).toBe("");
  });

  test.each<[string, () => Promise<unknown>, string]>([
    ["a role one does not hold", () => delegate("admin"), "RH403"],
    ["a permission the role does not have", () => delegate("editor", "{*:*}"), "RH403"],
    [
      "what was delegated to oneself",
      async () => {
        await delegate("editor");
        return as(
          "pat@acme.test",
          "select access.delegate('acme', 'quinn@acme.test', 'editor', now() + interval '1 hour')",
        );
      },
      "RH403",
    ],
    [
      "for ever",
      () => as("ann@acme.test", "select access.delegate('acme', 'pat@acme.test', 'editor', 'infinity')"),
      "RH400",
    ],
    [
      "to oneself",
      () =>
        as(
          "ann@acme.test",
          "select access.delegate('acme', 'ann@acme.test', 'editor', now() + interval '1 hour')",
        ),
      "RH404",
    ],
    [
      "to somebody of another site",
      () =>
        as(
          "ann@acme.test",
          "select access.delegate('acme', 'bob@beta.test', 'editor', now() + interval '1 hour')",
        ),
      "RH404",
    ],
  ])("cannot hand on %s", async (_what, attempt, expected) => {
    expect(await attempt()).toBe(expected);
  });
});

describe("what is not a role or policy is refused, saying where", () => {
  test.each<[string, object, string, string]>([
    ["no name", { permissions: [] }, "RH400", "/name"],
    ["an unknown member", { name: "r", permision: [] }, "RH400", "/permision"],
    ["no permission", { name: "r", permissions: ["posts"] }, "RH400", "posts"],
    ["an unknown action", { name: "r", permissions: ["posts:fly"] }, "RH400", "posts:fly"],
    ["an unknown control permission", { name: "r", permissions: ["@moon:land"] }, "RH400", "@moon:land"],
    [
      "an injection",
      { name: "r", permissions: ["posts:read'; drop table access.roles; --"] },
      "RH400",
      "drop",
    ],
    [
      "an unknown field of an entity that is named",
      { name: "r", permissions: [{ permission: "crm/posts_flat_kind:read", condition: { nosuch: 1 } }] },
      "RH409",
      "nosuch",
    ],
    [
      "an unknown operator",
      { name: "r", permissions: [{ permission: "crm/*:read", condition: { region: { $near: 1 } } }] },
      "RH400",
      "$near",
    ],
    [
      "a filter that narrows nothing",
      { name: "r", permissions: ["crm/*:read"], data_filters: { posts: "score > 1" } },
      "RH400",
      "posts",
    ],
    ["an unknown parent", { name: "r", permissions: [], inherits: ["nobody"] }, "RH404", "nobody"],
    ["itself as parent", { name: "r", permissions: [], inherits: ["r"] }, "RH400", "itself"],
    ["the role admin", { name: "admin", permissions: [] }, "RH409", "admin"],
  ])("a role with %s", async (_what, role, code, word) => {
    await define({ name: "r", permissions: [] });
    const error = await refusal(define(role));
    expect(error.code).toBe(code);
    expect(`${error.message} ${JSON.stringify(error.detail)}`).toContain(word);
  });

  test("a circle of roles", async () => {
    await define({ name: "one", permissions: [] });
    await define({ name: "two", permissions: [], inherits: ["one"] });
    expect((await refusal(define({ name: "one", permissions: [], inherits: ["two"] }))).code).toBe("RH400");
  });

  test("system roles stay", async () => {
    for (const role of ["admin", "editor", "viewer", "authenticated", "anonymous"])
      expect((await refusal(run("select access.drop_role('acme', $1)", [role]))).code).toBe("RH409");
  });

  test.each<[string, object, string]>([
    ["no effect", { name: "p" }, "/effect"],
    ["an unknown action", { name: "p", effect: "deny", actions: ["fly"] }, "/actions/0"],
    ["a scope that is none", { name: "p", effect: "deny", scope: "../x" }, "/scope"],
    ["a condition that is none", { name: "p", effect: "deny", condition: "region =" }, "position 9"],
  ])("a policy with %s", async (_what, definition, word) => {
    const error = await refusal(policy(definition));
    expect(error.code).toBe("RH400");
    expect(`${error.message} ${JSON.stringify(error.detail)}`).toContain(word);
  });
});

describe("nobody takes what they were not given", () => {
  test.each<[string, string]>([
    ["assigning oneself a role", "select access.assign_role('acme', 'ann@acme.test', 'admin')"],
    ["defining a role", `select access.define_role('acme', '{"name": "mine", "permissions": ["*:*"]}')`],
    ["adding to a role one holds", "select access.grant_permission('acme', 'editor', '*:*')"],
    ["defining a policy", `select access.define_policy('acme', '{"name": "mine", "effect": "allow"}')`],
    ["making a group", "select access.create_group('acme', 'mine')"],
    [
      "defining an entity",
      `select data.define_entity('acme/crm', 'mine', '{"type": "object", "properties": {}}')`,
    ],
  ])("%s", async (_what, sql) => {
    expect(await as("ann@acme.test", sql)).toBe("RH403");
    expect(await as("vic@acme.test", sql)).toBe("RH403");
  });

  test("who may assign roles assigns those they hold", async () => {
    await define({ name: "helper", permissions: ["@roles:assign"], inherits: ["viewer"] });
    await assign("pat@acme.test", "helper");
    expect(
      await as("pat@acme.test", "select access.assign_role('acme', 'quinn@acme.test', 'viewer') is null"),
    ).toBe(false);
    expect(await as("pat@acme.test", "select access.assign_role('acme', 'pat@acme.test', 'admin')")).toBe(
      "RH403",
    );
    expect(await as("pat@acme.test", "select access.create_group('acme', 'crew') is null")).toBe(false);
    await run("select access.assign_role_to_group('acme', 'crew', 'admin')");
    expect(await as("pat@acme.test", "select access.add_to_group('acme', 'crew', 'pat@acme.test')")).toBe(
      "RH403",
    );
    await run(
      "select access.drop_group('acme', 'crew'), access.revoke_role('acme', 'quinn@acme.test', 'viewer')",
    );
  });

  test("who may define entities of one app does so there", async () => {
    await define({ name: "modeller", permissions: ["crm/@entities:define"] });
    await assign("pat@acme.test", "modeller");
    const sql = (app: string) =>
      `select (data.define_entity('acme/${app}', 'things', '{"type": "object", "properties": {}}')).name`;
    expect(await as("pat@acme.test", sql("crm"))).toBe("things");
    expect(await as("pat@acme.test", sql("shop"))).toBe("RH403");
  });

  test("a session's own rowhouse.roles is not believed", async () => {
    const roles = await run("select array_agg(id)::text as ids from access.roles");
    await crm.db.as("acme", "quinn@acme.test", async (client) => {
      await client.query(`set rowhouse.roles = '${roles[0]?.ids}'`);
      expect((await client.query("select * from acme_crm.posts_jsonb_kind")).rows).toEqual([]);
      await client.query("reset rowhouse.roles");
    });
  });

  test("a field that a condition names cannot go", async () => {
    await policy({
      name: "d",
      effect: "deny",
      scope: "crm/posts_jsonb_kind",
      condition: { region: "north" },
    });
    const [{ schema }] = (await run("select schema from data.entities where name = 'posts_jsonb_kind'")) as [
      { schema: { properties: object } },
    ];
    const { region: _region, ...properties } = schema.properties as { region: object };
    const [{ plan }] = (await run("select data.plan('acme/crm/posts_jsonb_kind', $1) as plan", [
      { ...schema, properties },
    ])) as [{ plan: { plan: string; dependents: object[] } }];
    expect(plan.dependents).toContainEqual(
      expect.objectContaining({ kind: "policy", name: "crm/posts_jsonb_kind/d" }),
    );
    expect((await refusal(run("select data.apply($1, true)", [plan.plan]))).code).toBe("RH409");
  });

  test("an owner of one site does nothing in another", async () => {
    await crm.db.account("olga@acme.test");
    await run(
      "select tenancy.add_member('acme', 'olga@acme.test', 'admin'), tenancy.set_member_role('acme', 'olga@acme.test', 'owner')",
    );
    for (const sql of [
      "select access.assign_role('beta', 'olga@acme.test', 'admin')",
      `select access.define_role('beta', '{"name": "mine", "permissions": ["*:*"]}')`,
      `select access.define_policy('beta', '{"name": "mine", "effect": "allow"}')`,
      "select access.delegate('beta', 'bob@beta.test', 'editor', now() + interval '1 hour')",
      "select access.explain('bob@beta.test', 'beta/crm/contacts', 'read')",
      "select access.effective('beta/crm/contacts')",
    ])
      expect(await as("olga@acme.test", sql)).toBe("RH404");
    expect(
      await as(
        "olga@acme.test",
        "select count(*)::int from access.roles r join tenancy.sites s on s.id = r.site_id where s.name = 'beta'",
      ),
    ).toBe(0);
  });
});

describe("a change of rules", () => {
  /** Runs work while somebody reads an entity in a transaction that stays open. */
  const whileRead = async (entity: string, work: () => Promise<unknown>) => {
    const reader = await crm.db.pool.connect();
    try {
      await reader.query("begin");
      await reader.query(`select * from acme_crm.${entity}`);
      return await work();
    } finally {
      await reader.query("rollback");
      reader.release();
    }
  };

  test("that asks nothing new of records waits for no reader", async () => {
    await policy({ name: "d", effect: "deny", condition: "current_user.email = 'nobody@acme.test'" });
    await whileRead("posts_jsonb_kind", () =>
      policy({ name: "d", effect: "deny", condition: "current_user.email = 'ann@acme.test'" }),
    );
    expect(await seen("ann@acme.test", "jsonb")).toBe("");
  });

  test("that does, gives way to readers and tells when they do not end", async () => {
    await policy({ name: "d", effect: "deny", condition: { region: "north" } });
    const waiting = await whileRead("posts_jsonb_kind", async () => {
      const change = refusal(policy({ name: "d", effect: "deny", condition: { region: "south" } }));
      // Whoever reads meanwhile does not queue behind the change for longer than it asks for the lock at a time.
      for (let n = 0; n < 5; n++) expect(await seen("ann@acme.test", "jsonb")).toBe("a2 p2");
      return change;
    });
    expect((waiting as { code: string }).code).toBe("RH503");
    expect(await seen("ann@acme.test", "jsonb")).toBe("a2 p2");
  });

  test("all rules of an entity are shown as they are in effect", async () => {
    await policy({ name: "d", effect: "deny", condition: { region: "north" } });
    await policy({ name: "d", scope: "crm", effect: "deny", condition: "score < 2", priority: 4 });
    await define({
      name: "northern",
      permissions: [{ permission: "crm/*:read", condition: { region: "north" } }],
    });
    const effective = (await run("select access.effective('acme/crm/posts_jsonb_kind') as e"))[0]?.e as {
      permissions: object[];
      policies: object[];
    };
    expect(effective.policies).toEqual([
      expect.objectContaining({ name: "d", scope: "crm", says: "score < 2", overrides: ["d"] }),
    ]);
    expect(effective.permissions).toContainEqual({
      role: "northern",
      permission: "crm/*:read",
      condition: "region = 'north'",
    });
    expect(await as("ann@acme.test", "select access.effective('acme/crm/posts_jsonb_kind')")).toBe("RH403");
  });
});

test("rules that change what an entity is guarded by say nothing of how to who defines them", async () => {
  await run("select data.define_entity('acme/crm', 'quiet_ones', $1)", [
    { type: "object", properties: { region: { type: "string" } } },
  ]);
  const client = await crm.db.pool.connect();
  const notices: unknown[] = [];
  const note = (notice: { message?: string }) => notices.push(notice.message);
  client.on("notice", note);
  try {
    await client.query("select access.create_role('acme', 'quiet', '{}')");
    await client.query(
      `select access.grant_permission('acme', 'quiet', 'crm/quiet_ones:read', '{"region": "north"}', '{"masked": {"region": "redact"}}')`,
    );
    await client.query("select access.revoke_permission('acme', 'quiet', 'crm/quiet_ones:read')");
    await client.query("select access.drop_role('acme', 'quiet')");
  } finally {
    client.off("notice", note);
    client.release();
  }
  expect(notices).toEqual([]);
});
