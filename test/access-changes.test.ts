import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { untilBlocked } from "./harness/eventually.ts";
import { startGateway } from "./harness/gateway.ts";
import { startPosts, storages } from "./harness/posts.ts";

// What conditions protect stays protected: in what is kept of deleted records, while entities are given other definitions, and
// after people, groups and apps have gone.

let crm: Awaited<ReturnType<typeof startPosts>>;
beforeAll(async () => {
  crm = await startPosts();
  await run("select access.create_role('acme', 'nothing', '{}')");
});
afterAll(() => crm.stop());

const pat = "pat@acme.test";
const quinn = "quinn@acme.test";
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const role = (definition: object) => run("select access.define_role('acme', $1)", [definition]);
const policy = (definition: object) => run("select access.define_policy('acme', $1)", [definition]);
const assign = (email: string, name: string) =>
  run("select access.assign_role('acme', $1, $2)", [email, name]);
/** What comes of a statement run as an account: its first column, or the SQLSTATE. */
const as = (email: string, sql: string, values: unknown[] = []) =>
  crm.db.as("acme", email, (client) =>
    client.query(sql, values).then(
      ({ rows }) => rows.map((row) => Object.values(row)[0]).join(" "),
      (error: { code: string }) => error.code,
    ),
  );
const define = (name: string, schema: object) =>
  run("select data.define_entity('acme/crm', $1, $2)", [name, schema]);
const papers = (options: object, field = "region") => ({
  type: "object",
  properties: {
    title: { type: "string" },
    [field]: { type: "string", ...(field === "region" ? {} : { "x-renamed-from": "region" }) },
  },
  ...options,
});
const fill = (name: string) =>
  run("select data.insert($1, $2)", [
    `acme/crm/${name}`,
    JSON.stringify([
      { title: "n1", region: "north" },
      { title: "s1", region: "south" },
      { title: "s2", region: "south" },
    ]),
  ]);
const drop = (name: string) => run("select data.drop_entity('acme/crm/' || $1, $1)", [name]);

describe.each(storages)("in %s storage", (storage) => {
  beforeEach(async () => {
    await run(
      "delete from access.assignments a using access.roles r where r.id = a.role_id and not r.system",
    );
  });

  test.each<[string, object]>([
    ["deleted records", { "x-soft-delete": true }],
    ["histories", { "x-history": true }],
    ["both", { "x-soft-delete": true, "x-history": true }],
  ])("who may delete some records purges no others: %s", async (_what, options) => {
    await define("papers", papers({ ...options, "x-storage": storage }));
    await fill("papers");
    const [north, south] = await run(
      "delete from acme_crm.papers where title in ('n1', 's1') returning id, title",
    ).then((rows) =>
      rows.sort((a, b) => String(a.title).localeCompare(String(b.title))).map((row) => row.id),
    );
    await role({
      name: "north",
      permissions: [{ permission: "crm/papers:*", condition: { region: "north" } }],
    });
    await assign(pat, "north");
    expect(await as(pat, "select data.purge('acme/crm/papers', $1)", [south])).toBe("RH404");
    expect(await as(pat, "select acme_crm.papers_purge($1)", [south])).toBe("RH404");
    expect(await as(pat, "select data.purge('acme/crm/papers', $1)", [north])).toBe("");
    // The operator finds the one and no longer the other.
    await expect(run("select data.purge('acme/crm/papers', $1)", [north])).rejects.toMatchObject({
      code: "RH404",
    });
    await run("select data.purge('acme/crm/papers', $1)", [south]);
    await run("select access.drop_role('acme', 'north')");
    await drop("papers");
  });

  test("an entity that keeps records loses its rules with its definition, and gets them again", async () => {
    const options = { "x-soft-delete": true, "x-history": true, "x-storage": storage };
    await define("papers", papers({ ...options, "x-policies": ["owner_only", "authenticated_read"] }));
    await fill("papers");
    expect(await as(pat, "select title from acme_crm.papers")).toBe("");
    await role({ name: "reading", permissions: ["crm/papers:read", "crm/papers:delete"] });
    await assign(pat, "reading");
    expect(await as(pat, "select title from acme_crm.papers")).toBe("");
    await define("papers", papers(options));
    expect(await as(pat, "select title from acme_crm.papers order by title")).toBe("n1 s1 s2");
    expect(await as(quinn, "select title from acme_crm.papers")).toBe("");
    expect(await as(pat, "delete from acme_crm.papers where title = 's2' returning title")).toBe("s2");
    expect(await as(pat, "select title from acme_crm.papers__deleted")).toBe("s2");
    await define("papers", papers({ ...options, "x-policies": ["owner_only"] }));
    expect(await as(pat, "select title from acme_crm.papers")).toBe("");
    expect(await as(pat, "select title from acme_crm.papers__deleted")).toBe("");
    await run("select access.drop_role('acme', 'reading')");
    await drop("papers");
  });

  test("a field that a denial of many entities names is not renamed away from under it", async () => {
    await define("papers", papers({ "x-storage": storage }));
    await fill("papers");
    await role({ name: "reading", permissions: ["crm/papers:read"] });
    await assign(pat, "reading");
    await policy({ name: "no-south", effect: "deny", entities: ["crm/*"], condition: { region: "south" } });
    expect(await as(pat, "select title from acme_crm.papers")).toBe("n1");
    await expect(define("papers", papers({ "x-storage": storage }, "area"))).rejects.toMatchObject({
      code: "RH409",
    });
    expect(await as(pat, "select title from acme_crm.papers")).toBe("n1");
    await policy({
      name: "no-south",
      effect: "deny",
      entities: ["crm/*"],
      condition: "region = 'south' or title = 's1'",
    });
    await run("select access.drop_policy('acme', 'no-south')");
    await define("papers", papers({ "x-storage": storage }, "area"));
    // Of one that never had the field it says nothing, as before.
    await policy({ name: "no-south", effect: "deny", entities: ["crm/*"], condition: { region: "south" } });
    expect(await as(pat, "select title from acme_crm.papers order by title")).toBe("n1 s1 s2");
    await define("papers", { ...papers({ "x-storage": storage }, "area"), description: "once more" });
    await run("select access.drop_policy('acme', 'no-south')");
    await run("select access.drop_role('acme', 'reading')");
    await drop("papers");
  });
});

const companies = (email: string) => as(email, "select count(*) from acme_crm.companies");

test("who comes back as a member has what they are given then, not what their groups had", async () => {
  await role({ name: "reading", permissions: ["crm/companies:read"] });
  await run(
    "select access.create_group('acme', 'team'), access.assign_role_to_group('acme', 'team', 'reading')",
  );
  await run("select access.add_to_group('acme', 'team', $1)", [quinn]);
  expect(await companies(quinn)).toBe("1");
  await run("select tenancy.remove_member('acme', $1)", [quinn]);
  await run("select tenancy.add_member('acme', $1, 'nothing')", [quinn]);
  expect(await companies(quinn)).toBe("0");
  await run("select access.drop_group('acme', 'team')");
});

test("what a member delegated ends when they go, and does not begin again", async () => {
  await assign(pat, "reading");
  await crm.db.as("acme", pat, (client) =>
    client.query("select access.delegate('acme', $1, 'reading', now() + interval '1 day')", [quinn]),
  );
  expect(await companies(quinn)).toBe("1");
  await run("select tenancy.remove_member('acme', $1)", [pat]);
  expect(await companies(quinn)).toBe("0");
  await run("select tenancy.add_member('acme', $1, 'reading')", [pat]);
  expect(await companies(pat)).toBe("1");
  expect(await companies(quinn)).toBe("0");
  expect(await run("select from access.roles where is_internal")).toEqual([]);
  await run("select access.revoke_role('acme', $1, 'reading')", [pat]);
});

test("what a role inherits through a role of an app goes with the app", async () => {
  await run("select tenancy.create_app('acme', 'between')");
  await role({ name: "middle", app: "between", permissions: [], inherits: ["reading"] });
  await role({ name: "low", permissions: [], inherits: ["between/middle"] });
  await assign(quinn, "low");
  expect(await companies(quinn)).toBe("1");
  await run("select tenancy.drop_app('acme/between', 'acme/between')");
  expect(await companies(quinn)).toBe("0");
});

describe("who may define roles, and administers nothing,", () => {
  const definitions: [string, object, string][] = [
    ["puts in what they hold", { permissions: ["crm/companies:read"] }, ""],
    [
      "puts in a part of it",
      { permissions: [{ permission: "crm/companies:read", condition: { city: "Oslo" } }] },
      "",
    ],
    [
      "puts in what they hold under a condition",
      { permissions: [{ permission: "crm/contacts:*", condition: { age: 7 } }] },
      "",
    ],
    ["inherits what they hold", { permissions: [], inherits: ["reading"] }, ""],
    ["puts in no other action", { permissions: ["crm/companies:update"] }, "RH403"],
    ["puts in no wider pattern", { permissions: ["crm/*:read"] }, "RH403"],
    ["puts in everything not", { permissions: ["*:*"] }, "RH403"],
    ["puts in no permission without its condition", { permissions: ["crm/contacts:read"] }, "RH403"],
    [
      "puts in no other condition",
      { permissions: [{ permission: "crm/contacts:*", condition: { age: 8 } }] },
      "RH403",
    ],
    [
      "unmasks nothing",
      { permissions: [{ permission: "crm/companies:read", fields: { unmasked: ["*"] } }] },
      "RH403",
    ],
    ["puts in no other right to administer", { permissions: ["@members:manage"] }, "RH403"],
    [
      "puts in the one they have, of one app too",
      { permissions: ["@roles:define", "crm/@roles:define"] },
      "",
    ],
    ["inherits nothing else", { permissions: [], inherits: ["admin"] }, "RH403"],
  ];
  beforeAll(async () => {
    await role({
      name: "definer",
      permissions: ["@roles:define", { permission: "crm/contacts:*", condition: { age: 7 } }],
    });
    await assign(quinn, "definer");
    await assign(quinn, "reading");
  });
  const by = (definition: object) =>
    as(quinn, "select (access.define_role('acme', $1)).system", [definition]);

  test.each(definitions)("%s", async (_what, definition, expected) => {
    expect(await by({ name: "made", ...definition })).toBe(expected || "false");
    const own = {
      permissions: ["@roles:define", { permission: "crm/contacts:*", condition: { age: 7 } }],
    };
    // Nor into the role by which they hold what they hold.
    expect(await by({ name: "definer", ...definition })).toBe(expected || "false");
    await role({ name: "definer", ...own });
  });
  test("leaves what a role has by others as it is", async () => {
    await role({ name: "made", permissions: ["crm/*:delete"] });
    expect(await as(quinn, "select access.grant_permission('acme', 'made', 'crm/companies:read')")).toBe("");
    expect(await as(quinn, "select access.grant_permission('acme', 'made', 'crm/companies:update')")).toBe(
      "RH403",
    );
    expect(await as(quinn, "select access.revoke_permission('acme', 'made', 'crm/companies:read')")).toBe("");
  });
});

test("a policy that waited for its entity to be dropped is defined all the same", async () => {
  await define("papers", papers({}));
  const dropping = await crm.db.pool.connect();
  try {
    await dropping.query("begin");
    await dropping.query("select data.drop_entity('acme/crm/papers', 'papers')");
    const defined = policy({
      name: "late",
      effect: "deny",
      entities: ["crm/*"],
      condition: { region: "south" },
    });
    await untilBlocked(crm.db, "define_policy");
    await dropping.query("commit");
    await defined;
  } finally {
    dropping.release();
  }
  expect(await run("select count(*)::int as n from access.policies where name = 'late'")).toEqual([{ n: 1 }]);
  await run("select access.drop_policy('acme', 'late')");
});

describe("who may define entities, and not policies,", () => {
  beforeAll(async () => {
    await role({ name: "modeller", permissions: ["crm/@entities:define"] });
    await assign(pat, "modeller");
    await define("papers", papers({ "x-policies": ["owner_only"] }));
    await fill("papers");
  });
  afterAll(async () => {
    await run("select access.drop_role('acme', 'modeller')");
    await drop("papers");
  });
  const by = (options: object, field?: string) =>
    as(pat, "select (data.define_entity('acme/crm', 'papers', $1)).name", [papers(options, field)]);

  test.each<[string, string[], string]>([
    ["allows nobody anything", ["owner_only", "authenticated_read"], "RH403"],
    ["takes no denial away", [], "RH403"],
    ["leaves them as they are", ["owner_only"], "papers"],
  ])("%s by x-policies", async (_what, policies, expected) => {
    expect(await by({ "x-policies": policies, description: expected })).toBe(expected);
    expect(await as(pat, "select title from acme_crm.papers")).toBe("");
  });
  test("is not told what a conversion would lose of records", async () => {
    const schema = {
      type: "object",
      "x-policies": ["owner_only"],
      properties: { title: { type: "string" }, region: { type: "integer", "x-convert": "length(region)" } },
    };
    const asked =
      "select jsonb_path_query_array(data.plan('acme/crm/papers', $1), '$.losses[*].examples[*].was') as was";
    expect(await as(pat, asked, [schema])).toBe("RH403");
    expect((await run(asked, [schema]))[0]?.was).toEqual(["north", "south", "south"]);
  });
});

test("the definition that GraphQL shows of an entity tells nothing of conditions", async () => {
  const gateway = await startGateway(crm.db, {}, 5, true);
  try {
    const response = await fetch(`${gateway.url}/graphql`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${await gateway.token(quinn, "acme")}`,
      },
      body: JSON.stringify({ query: '{ __type(name: "Entity") { fields { name } } }' }),
    });
    const { data } = (await response.json()) as { data: { __type: { fields: { name: string }[] } } };
    const names = data.__type.fields.map(({ name }) => name);
    expect(names).toContain("schema");
    expect(names).not.toContain("rightsSql");
  } finally {
    await gateway.stop();
  }
});
