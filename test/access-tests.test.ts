import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { refusal } from "./harness/failure.ts";
import { startPosts } from "./harness/posts.ts";

// What an administrator was promised: what access should be is written down, and a change that breaks it is refused.

let crm: Awaited<ReturnType<typeof startPosts>>;
const ids: Record<string, string> = {};
beforeAll(async () => {
  crm = await startPosts();
  for (const storage of ["jsonb", "flat"])
    for (const { title, id } of await run(`select title, id from acme_crm.${crm.entity(storage)}`))
      ids[`${storage} ${title}`] = id as string;
  await run("select access.define_role('acme', $1)", [
    {
      name: "northern",
      permissions: [{ permission: "crm/*:read", condition: { region: "north" } }, "crm/*:update:own"],
    },
  ]);
  await run("select access.assign_role('acme', 'pat@acme.test', 'northern')");
  await run("select access.set_attribute_schema('acme', $1)", [
    { type: "object", properties: { regions: { type: "array", items: { type: "string" } } } },
  ]);
  await run("select access.define_policy('acme', $1)", [
    {
      name: "regional",
      effect: "allow",
      actions: ["delete"],
      condition: "region in current_user.attributes.regions and current_user.email like '%@acme.test'",
    },
  ]);
});
afterAll(() => crm.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const one = async (sql: string, values: unknown[] = []) =>
  (await run(`select ${sql} as answer`, values))[0]?.answer as Record<string, unknown>;
const define = (definition: object) => one("access.define_test('acme/crm', $1)", [definition]);
const drop = (name: string) => run("select access.drop_test('acme/crm', $1)", [name]);
const as = (email: string, sql: string, values: unknown[] = [], site = "acme") =>
  crm.db.as(site, email, (client) => client.query(sql, values));

const north = { region: "north", title: "t" };
const south = { region: "south", title: "t" };
const roles = { roles: ["northern"] };
describe.each(["jsonb", "flat"])("a test says who may, of %s", (storage) => {
  test.each<[string, unknown, string, unknown, string, RegExp]>([
    ["an account and a record", "pat@acme.test", "read", "p1", "allow", /role northern \(region = 'north'\)/],
    [
      "an account, another record",
      "pat@acme.test",
      "read",
      "a2",
      "deny",
      /nothing allows it for this record/,
    ],
    ["nobody logged in", null, "read", "p1", "deny", /no role of this account/],
    ["nobody in particular, by roles", roles, "read", north, "allow", /role northern/],
    ["values that nobody has written", roles, "read", south, "deny", /nothing allows it for this record/],
    ["own records of nobody in particular", roles, "update", { created_by: "$account.id" }, "allow", /:own/],
    [
      "others' records",
      roles,
      "update",
      { created_by: "01900000-0000-7000-8000-000000000000" },
      "deny",
      /:own/,
    ],
    ["no permission", roles, "create", null, "deny", /no role/],
    [
      "attributes and email",
      { email: "x@acme.test", attributes: { regions: ["south"] } },
      "delete",
      south,
      "allow",
      /the policy regional/,
    ],
    [
      "other attributes",
      { email: "x@acme.test", attributes: { regions: ["north"] } },
      "delete",
      south,
      "deny",
      /./,
    ],
    [
      "another email",
      { email: "x@beta.test", attributes: { regions: ["south"] } },
      "delete",
      south,
      "deny",
      /./,
    ],
    ["depends on the record", roles, "read", null, "depends", /for records that fit/],
    ["a role that is not there", { roles: ["nil"] }, "read", north, "error", /no role/],
    ["no member", "bob@beta.test", "read", north, "error", /not a member/],
    ["no such record", "pat@acme.test", "read", "01900000-0000-7000-8000-000000000000", "error", /no record/],
    ["values of another type", roles, "read", { id: "x" }, "error", /uuid/],
  ])("%s", async (name, account, action, record, outcome, because) => {
    const values = ids[`${storage} ${record}`] ?? record;
    const expected = outcome === "allow" ? "allow" : "deny";
    const definition = { name, account, entity: crm.entity(storage), action, record: values, expected };
    expect(await define(definition)).toEqual({
      test: `crm/${name}`,
      expected,
      outcome,
      because: expect.stringMatching(because),
    });
    await drop(name);
  });
});

test("access.test runs them all and names what fails", async () => {
  const entity = crm.entity("jsonb");
  await define({ name: "a", account: roles, entity, action: "read", record: north, expected: "allow" });
  await define({ name: "b", account: roles, entity, action: "read", record: south, expected: "allow" });
  expect(await one("access.test('acme/crm')")).toEqual({
    passed: 1,
    failed: [{ name: "b", expected: "allow", outcome: "deny", because: expect.stringContaining("northern") }],
  });
  await drop("a");
  await drop("b");
});

describe("a change that breaks a test is refused, unless forced", () => {
  beforeAll(async () => {
    const entity = crm.entity("jsonb");
    await define({
      name: "north reads",
      account: roles,
      entity,
      action: "read",
      record: north,
      expected: "allow",
    });
    await define({
      name: "fails anyway",
      account: roles,
      entity,
      action: "read",
      record: south,
      expected: "allow",
    });
    await define({
      name: "regional deletes",
      account: { email: "x@acme.test", attributes: { regions: ["south"] } },
      entity,
      action: "delete",
      record: south,
      expected: "allow",
    });
  });
  afterAll(async () => {
    for (const name of ["north reads", "fails anyway", "regional deletes"]) await drop(name);
  });
  const night = { name: "night", effect: "deny", actions: ["read"], condition: "region = 'north'" };
  test.each<[string, string, unknown[], string]>([
    [
      "define_role",
      "access.define_role('acme', $1",
      [{ name: "northern", permissions: ["crm/*:update"] }],
      "north reads",
    ],
    ["drop_role", "access.drop_role('acme', 'northern'", [], "north reads"],
    ["revoke_permission", "access.revoke_permission('acme', 'northern', 'crm/*:read'", [], "north reads"],
    ["define_policy", "access.define_policy('acme', $1", [night], "north reads"],
    ["drop_policy", "access.drop_policy('acme', 'regional'", [], "regional deletes"],
  ])("%s", async (_what, call, values, name) => {
    const refused = await refusal(run(`select ${call})`, values));
    expect(refused.code).toBe("RH409");
    expect(refused.message).toContain(`crm/${name}`);
    expect(refused.message).not.toContain("fails anyway");
    expect(refused.detail.errors).toEqual([
      {
        pointer: `/tests/crm~1${name}`,
        message: expect.stringMatching(/^expected allow, and it would be (deny|error): ./),
      },
    ]);
    expect((await one("access.test('acme/crm')")).passed).toBe(2);
    const client = await crm.db.pool.connect();
    try {
      await client.query("begin");
      await client.query(`select ${call}, force => true)`, values);
      const { rows } = await client.query("select access.test('acme/crm') as t");
      expect(rows[0].t.failed.map((f: { name: string }) => f.name)).toContain(name);
    } finally {
      await client.query("rollback");
      client.release();
    }
  });
  test("what mends one and breaks none is made", async () => {
    await run("select access.grant_permission('acme', 'northern', 'crm/*:read', $1)", [{ region: "south" }]);
    expect(await one("access.test('acme/crm')")).toEqual({ passed: 3, failed: [] });
    await run("select access.revoke_permission('acme', 'northern', 'crm/*:read', force => true)");
    await run("select access.grant_permission('acme', 'northern', 'crm/*:read', $1)", [{ region: "north" }]);
  });
  test("ready-made policies in a definition", async () => {
    const schema = {
      type: "object",
      properties: { title: { type: "string" }, region: { type: "string", "x-index": true } },
      "x-policies": ["public_read"],
    };
    const declare = (policies: string[]) =>
      run("select data.define_entity('acme/crm', 'notices', $1)", [{ ...schema, "x-policies": policies }]);
    await declare(["public_read"]);
    const open = {
      name: "notices are public",
      account: null,
      entity: "notices",
      action: "read",
      record: { title: "n" },
    };
    await define({ ...open, expected: "allow" });
    const refused = await refusal(declare(["authenticated_read"]));
    expect([refused.code, refused.message]).toEqual([
      "RH409",
      expect.stringContaining("crm/notices are public"),
    ]);
    expect((await one("access.test('acme/crm')")).failed).toHaveLength(1);
    const client = await crm.db.pool.connect();
    try {
      await client.query("begin; set local rowhouse.break_tests = 'on'");
      await client.query("select data.define_entity('acme/crm', 'notices', $1)", [
        { ...schema, "x-policies": ["authenticated_read"] },
      ]);
      await client.query("commit");
    } finally {
      client.release();
    }
    expect((await one("access.test('acme/crm')")).failed).toHaveLength(2);
    await drop("notices are public");
  });
  test("who may define roles and not policies hears which test, and not which policy", async () => {
    await run("select access.define_role('acme', $1)", [{ name: "definer", permissions: ["@roles:define"] }]);
    await run("select access.assign_role('acme', 'quinn@acme.test', 'definer')");
    const refused = await refusal(as("quinn@acme.test", "select access.drop_role('acme', 'northern')"));
    expect([refused.code, refused.detail.errors?.[0]?.message]).toEqual([
      "RH409",
      "expected allow, and it would be error",
    ]);
  });
});

test.each<[string, unknown, string]>([
  ["nothing", {}, "/action"],
  ["a list", [], ""],
  ["null", null, ""],
  [
    "an unknown member",
    { name: "x", entity: "contacts", action: "read", expected: "deny", sql: "drop" },
    "/sql",
  ],
  ["an unknown action", { name: "x", entity: "contacts", action: "fly", expected: "deny" }, "/action"],
  [
    "an account of another form",
    { name: "x", entity: "contacts", action: "read", expected: "deny", account: 7 },
    "/account",
  ],
  [
    "roles that are no list",
    { name: "x", entity: "contacts", action: "read", expected: "deny", account: { roles: "a" } },
    "/account",
  ],
  [
    "a record that is no id",
    { name: "x", entity: "contacts", action: "read", expected: "deny", record: "'; drop" },
    "/record",
  ],
  ["a name of two lines", { name: "x\ny", entity: "contacts", action: "read", expected: "deny" }, "/name"],
  [
    "a million characters",
    { name: "x".repeat(1e6), entity: "contacts", action: "read", expected: "deny" },
    "",
  ],
])("%s is no test", async (_what, definition, pointer) => {
  const refused = await refusal(
    run("select access.define_test('acme/crm', $1)", [JSON.stringify(definition)]),
  );
  expect(refused.code).toBe("RH400");
  expect(refused.detail.errors?.map((e) => e.pointer)).toContain(pointer);
});

test("nothing in a test becomes code", async () => {
  for (const evil of ["'; drop table access.tests; --", "$body$", "%1$I %L", '"', "\\"]) {
    const record = { title: evil, region: evil, [evil]: evil };
    const account = { roles: ["northern"], attributes: { regions: [evil], [evil]: evil }, email: evil };
    const answer = await define({
      name: evil,
      account,
      entity: crm.entity("jsonb"),
      action: "delete",
      record,
      expected: "deny",
    });
    expect(answer.outcome).toBe("deny");
    await drop(evil);
  }
});

test.each<[string, string, unknown[]]>([
  [
    "define_test",
    "select access.define_test('acme/crm', $1)",
    [{ name: "x", entity: "contacts", action: "read", expected: "deny" }],
  ],
  ["drop_test", "select access.drop_test('acme/crm', 'x')", []],
  ["test", "select access.test('acme/crm')", []],
  ["history_of", "select access.history_of('acme', 'policy', 'regional')", []],
  ["history_of a role", "select access.history_of('acme', 'role', 'northern')", []],
  ["diff", "select access.diff('acme', 'policy', 'regional', 1, 1)", []],
  ["rollback", "select access.rollback('acme', 'policy', 'regional', 1)", []],
  ["rollback of a role", "select access.rollback('acme', 'role', 'northern', 1, true)", []],
])("%s: not for viewers, nor for members of other sites", async (_what, sql, values) => {
  expect((await refusal(as("vic@acme.test", sql, values))).code).toBe("RH403");
  expect((await refusal(as("bob@beta.test", sql, values, "beta"))).code).toBe("RH404");
  for (const name of ["run_test(t)", "test_result(t)", "outcome(e, null, 'read')"])
    await expect(
      as("vic@acme.test", `select access.${name} from access.tests t, data.entities e`),
    ).rejects.toMatchObject({ code: "42501" });
  expect((await as("vic@acme.test", "select from access.tests")).rowCount).toBe(0);
});

describe("a change beside roles and policies that breaks a test is refused", () => {
  const text = { type: "string" };
  const schema = (properties: object, more: object = {}) => ({ type: "object", properties, ...more });
  const papers = (properties: object, more: object = {}) =>
    run("select data.define_entity('acme/crm', 'papers', $1)", [schema(properties, more)]);
  beforeAll(async () => {
    await papers({ title: text, region: text });
    await define({
      name: "the north",
      account: roles,
      entity: "papers",
      action: "read",
      record: north,
      expected: "allow",
    });
    await define({
      name: "the south",
      account: roles,
      entity: "papers",
      action: "read",
      record: south,
      expected: "deny",
    });
  });
  afterAll(async () => {
    await drop("the north");
    await drop("the south");
    await run("select data.drop_entity('acme/crm/papers', 'papers')");
  });
  test("a definition under which a rule of many entities says nothing any more", async () => {
    await papers({ title: text, region: text, body: text });
    const renamed = { title: text, area: { ...text, "x-renamed-from": "region" }, body: text };
    const refused = await refusal(papers(renamed));
    expect([refused.code, refused.detail.code, refused.message]).toEqual([
      "RH409",
      "breaks_tests",
      expect.stringMatching(/would fail that pass today: crm\/the north$/),
    ]);
    const [plan] = await run("select data.plan('acme/crm/papers', $1)->>'plan' as plan", [schema(renamed)]);
    expect((await refusal(run("select data.apply($1, true)", [plan?.plan]))).code).toBe("RH409");
    expect(await one("access.test('acme/crm')")).toMatchObject({ failed: [] });
  });
  test("unless it is forced, or what fails failed before", async () => {
    const same = { title: text, region: text, body: text };
    const client = await crm.db.pool.connect();
    try {
      await client.query("begin; set local rowhouse.break_tests = 'on'");
      await client.query("select data.define_entity('acme/crm', 'papers', $1)", [
        schema(same, { "x-policies": ["owner_only"] }),
      ]);
      await client.query("commit");
    } finally {
      client.release();
    }
    expect(((await one("access.test('acme/crm')")).failed as unknown[]).length).toBe(1);
    await papers({ ...same, more: text }, { "x-policies": ["owner_only"] });
  });
  test("a role that a group gets or loses, and a group that goes", async () => {
    await run(
      "select access.create_group('acme', 'desk'), access.assign_role_to_group('acme', 'desk', 'northern')",
    );
    const desk = { account: { groups: ["desk"] }, entity: "contacts", action: "read" };
    await define({
      ...desk,
      name: "the desk",
      action: "update",
      record: { created_by: "$account.id" },
      expected: "allow",
    });
    await define({ ...desk, name: "no more", expected: "deny" });
    for (const sql of [
      "select access.revoke_role_from_group('acme', 'desk', 'northern')",
      "select access.assign_role_to_group('acme', 'desk', 'viewer')",
      "select access.drop_group('acme', 'desk')",
    ])
      expect([sql, (await refusal(run(sql))).detail.code]).toEqual([sql, "breaks_tests"]);
    await drop("the desk");
    await run("select access.revoke_role_from_group('acme', 'desk', 'northern')");
    await drop("no more");
    await run("select access.drop_group('acme', 'desk')");
  });
  test("but not who holds a role, is in a group or has an attribute", async () => {
    await define({
      name: "quinn",
      account: "quinn@acme.test",
      entity: "contacts",
      action: "delete",
      expected: "deny",
    });
    await run("select access.assign_role('acme', 'quinn@acme.test', 'editor')");
    expect(JSON.stringify(await one("access.test('acme/crm')"))).toContain("quinn");
    await run("select access.revoke_role('acme', 'quinn@acme.test', 'editor')");
    await drop("quinn");
  });
  test("a denied field denies no record", async () => {
    await run("select access.define_policy('acme', $1)", [
      {
        name: "untitled",
        effect: "deny",
        actions: ["read"],
        entities: [`crm/${crm.entity("flat")}`],
        fields: { readable: ["title"] },
      },
    ]);
    expect(
      await define({
        name: "denied field",
        account: roles,
        entity: crm.entity("flat"),
        action: "read",
        record: north,
        expected: "allow",
      }),
    ).toMatchObject({ outcome: "allow" });
    await run("select access.define_policy('acme', $1)", [
      { name: "other", effect: "deny", entities: ["crm/nothing"] },
    ]);
    expect(JSON.stringify(await one("access.test('acme/crm')"))).not.toContain("denied field");
    // And it is denied, though the site has tests.
    const { rows } = await as("pat@acme.test", `select title, region from acme_crm.${crm.entity("flat")}`);
    expect(rows.map((row) => row.title)).toEqual([null, null]);
    await drop("denied field");
    await run("select access.drop_policy('acme', 'untitled'), access.drop_policy('acme', 'other')");
  });
});

describe("versions", () => {
  const history = async (kind: string, name: string) =>
    (await run("select * from access.history_of('acme', $1, $2)", [kind, name])) as {
      version: number;
      by: string | null;
      definition: Record<string, unknown> | null;
    }[];
  test("are kept with who and when, differ readably, and come back", async () => {
    await crm.db.account("ada@acme.test");
    await run("select tenancy.add_member('acme', 'ada@acme.test', 'viewer')");
    await run("select tenancy.set_member_role('acme', 'ada@acme.test', 'admin')");
    const policy = { name: "hours", effect: "deny", actions: ["update"], condition: { status: "published" } };
    await as("ada@acme.test", "select access.define_policy('acme', $1)", [policy]);
    await run("select access.define_policy('acme', $1)", [
      { ...policy, actions: ["update", "delete"], condition: "status = 'draft'", priority: 4 },
    ]);
    await run("select access.drop_policy('acme', 'hours')");
    expect(
      (await history("policy", "hours")).map(({ version, by, definition }) => [
        version,
        by,
        definition?.condition,
      ]),
    ).toEqual([
      [3, null, undefined],
      [2, null, "status = 'draft'"],
      [1, "ada@acme.test", "status = 'published'"],
    ]);
    expect(await one("access.diff('acme', 'policy', 'hours', 1, 2)")).toEqual({
      added: {},
      removed: {},
      changed: {
        condition: { from: "status = 'published'", to: "status = 'draft'" },
        priority: { from: 0, to: 4 },
        actions: { added: ["delete"], removed: [] },
      },
    });
    expect((await one("access.diff('acme', 'policy', 'hours', 3, 1)")).added).toMatchObject({
      effect: "deny",
    });
    expect(await one("access.rollback('acme', 'policy', 'hours', 1)")).toMatchObject({ version: 4 });
    const vague = await one("access.explain('ann@acme.test', $1, 'update', $2)", [
      `acme/crm/${crm.entity("jsonb")}`,
      ids["jsonb a2"],
    ]);
    expect(vague.because).toMatch(/denied by the policy hours/);
    expect(await one("access.rollback('acme', 'policy', 'hours', 3)")).toEqual({
      version: 5,
      definition: null,
    });
  });
  test("of a role, of an app, and of one that every site has", async () => {
    const role = { name: "author", app: "crm", permissions: ["companies:read"] };
    await run("select access.define_role('acme', $1)", [role]);
    await run("select access.define_role('acme', $1)", [{ ...role, inherits: ["viewer"], permissions: [] }]);
    expect(await one("access.diff('acme', 'role', 'crm/author', 1, 2)")).toEqual({
      added: { inherits: ["viewer"] },
      removed: {},
      changed: { permissions: { added: [], removed: ["crm/companies:read"] } },
    });
    await run("select access.rollback('acme', 'role', 'crm/author', 1)");
    expect((await history("role", "crm/author"))[0]?.definition).toMatchObject({
      permissions: ["crm/companies:read"],
    });
    await run("select access.grant_permission('acme', 'viewer', 'companies:create')");
    await run("select access.rollback('acme', 'role', 'viewer', 1)");
    expect((await history("role", "viewer")).map((v) => v.definition?.permissions)).toEqual([
      ["*:read"],
      expect.arrayContaining(["*:read", "companies:create"]),
      ["*:read"],
    ]);
  });
  test("that break a test do not come back unless forced", async () => {
    const role = { name: "tested", permissions: ["contacts:read"] };
    await run("select access.define_role('acme', $1)", [{ ...role, permissions: [] }]);
    await run("select access.define_role('acme', $1)", [role]);
    await define({
      name: "t",
      account: { roles: ["tested"] },
      entity: "contacts",
      action: "read",
      expected: "allow",
    });
    expect((await refusal(run("select access.rollback('acme', 'role', 'tested', 1)"))).code).toBe("RH409");
    await run("select access.rollback('acme', 'role', 'tested', 1, true)");
    await drop("t");
  });
  test.each([
    ["kind", "'table', 'viewer', 1", "RH400"],
    ["name", "'role', 'nobody', 1", "RH404"],
    ["version", "'role', 'viewer', 99", "RH404"],
    ["name with code in it", "'role', '''; drop table access.roles', 1", "RH404"],
  ])("no such %s", async (_what, args, code) => {
    expect((await refusal(run(`select access.rollback('acme', ${args})`))).code).toBe(code);
  });
});
