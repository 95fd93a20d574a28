import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type pg from "pg";
import { pull, push, testApp } from "../server/cli/policy.ts";
import { fileOf, readRules, writeRules } from "../server/policy/files.ts";
import { refusal } from "./harness/failure.ts";
import { startPosts } from "./harness/posts.ts";

// What was promised: access rules are readable files in somebody's git, and what is pushed is what holds.

let crm: Awaited<ReturnType<typeof startPosts>>;
let client: pg.PoolClient;
let dir: string;
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const file = (name: string) => join(dir, name);
const read = (name: string) => JSON.parse(readFileSync(file(name), "utf8"));
const write = (name: string, value: unknown) => writeFileSync(file(name), JSON.stringify(value));
const said: string[] = [];
const say = (line: string) => said.push(line);
const yes = async () => true;
const pushed = (options = {}, confirm = yes) => push(client, "acme", dir, options, say, confirm);

beforeAll(async () => {
  crm = await startPosts();
  client = await crm.db.pool.connect();
  await run("select access.define_role('acme', $1)", [
    {
      name: "author",
      app: "crm",
      description: 'writes "posts"',
      permissions: [
        "companies:read",
        {
          permission: "posts_jsonb_kind:read",
          condition: { region: "north", status: { $in: ["draft", "it's"] } },
        },
      ],
    },
  ]);
  await run("select access.define_role('acme', $1)", [
    { name: "chief", inherits: ["crm/author"], permissions: [] },
  ]);
  await run("select access.define_policy('acme', $1)", [
    {
      name: "night",
      scope: "crm/posts_jsonb_kind",
      effect: "deny",
      actions: ["update"],
      condition: "env.weekday in (6, 7)",
    },
  ]);
  await run("select access.create_group('acme', 'sales', 'who sells')");
  await run("select access.add_to_group('acme', 'sales', 'pat@acme.test')");
  await run("select access.assign_role_to_group('acme', 'sales', 'chief')");
  await run(
    "select access.assign_role_to_group('acme', 'sales', 'crm/author', valid_until => '2100-01-01T00:00:00Z', condition => '\"env.weekday < 6\"')",
  );
  await run("select access.define_test('acme/crm', $1)", [
    {
      name: "northern drafts",
      account: { roles: ["crm/author"] },
      entity: "posts_jsonb_kind",
      action: "read",
      record: { region: "north", status: "draft" },
      expected: "allow",
    },
  ]);
});
afterAll(async () => {
  client.release();
  await crm.stop();
});
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-policy-"));
  said.length = 0;
  await pull(client, "acme", dir, () => {});
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("pull writes readable files", () => {
  expect(
    readdirSync(dir, { recursive: true })
      .filter((f) => String(f).endsWith(".json"))
      .sort(),
  ).toEqual([
    "groups/sales.json",
    "policies/crm/posts_jsonb_kind/night.json",
    "roles/anonymous.json",
    "roles/authenticated.json",
    "roles/chief.json",
    "roles/crm/author.json",
    "roles/editor.json",
    "roles/viewer.json",
    "roles/writer.json",
    "tests/crm.json",
  ]);
  expect(readFileSync(file("roles/crm/author.json"), "utf8")).toBe(`{
  "name": "author",
  "app": "crm",
  "description": "writes \\"posts\\"",
  "permissions": [
    "crm/companies:read",
    {
      "permission": "crm/posts_jsonb_kind:read",
      "condition": "region = 'north' and status in ('draft', 'it''s')"
    }
  ]
}
`);
  expect(read("groups/sales.json").roles).toEqual([
    "chief",
    { role: "crm/author", condition: "env.weekday < 6", valid_until: expect.any(String) },
  ]);
});

test("what was pulled is no change, pulled or pushed again", async () => {
  await pull(client, "acme", dir, say);
  expect(await pushed()).toBe(true);
  expect(said).toEqual(["Nothing has changed.", "Nothing has changed."]);
});

test("a change is shown, asked for, made, and then no change any more", async () => {
  const author = read("roles/crm/author.json");
  write("roles/crm/author.json", { ...author, permissions: [...author.permissions, "companies:update"] });
  // Roles that are new and inherit from each other, whatever their order; another way to write a condition.
  write("roles/alpha.json", { name: "alpha", inherits: ["beta"], permissions: [] });
  write("roles/beta.json", {
    name: "beta",
    permissions: ["posts:read"],
    data_filters: { posts: "status = 'draft'" },
  });
  rmSync(file("policies/crm/posts_jsonb_kind/night.json"));
  const before = (await run("select count(*)::int as n from access.versions"))[0]?.n;
  expect(await pushed({ dryRun: true })).toBe(true);
  expect(await pushed({}, async () => false)).toBe(false);
  expect((await run("select count(*)::int as n from access.versions"))[0]?.n).toBe(before);
  said.length = 0;
  let asked = "";
  expect(
    await push(client, "acme", dir, {}, say, async (question) => {
      asked = question;
      return true;
    }),
  ).toBe(true);
  expect(asked).toBe("Change 4 (1 dropped) in acme?");
  expect(said).toEqual([
    "- policy crm/posts_jsonb_kind/night",
    "+ role alpha",
    "+ role beta",
    "~ role crm/author\n    + permissions: crm/companies:update",
    "4 changed.",
  ]);
  said.length = 0;
  expect(await pushed()).toBe(true);
  expect(said).toEqual(["Nothing has changed."]);
  expect((await run("select count(*)::int as n from access.versions"))[0]?.n).toBe((before as number) + 4);
  // Turned round: who inherited is inherited from; and dropped again.
  write("roles/alpha.json", { name: "alpha", permissions: [] });
  write("roles/beta.json", { name: "beta", inherits: ["alpha"], permissions: [] });
  expect(await pushed({ yes: true })).toBe(true);
  write("roles/alpha.json", { name: "alpha", inherits: ["beta"], permissions: [] });
  write("roles/beta.json", { name: "beta", permissions: [] });
  expect(await pushed({ yes: true })).toBe(true);
  for (const name of ["alpha", "beta"]) rmSync(file(`roles/${name}.json`));
  expect(await pushed({ yes: true })).toBe(true);
  await run("select access.rollback('acme', 'policy', 'crm/posts_jsonb_kind/night', 1)");
});

test("members of groups stay, roles that every site has are never dropped", async () => {
  write("groups/sales.json", { name: "sales", roles: ["crm/author"] });
  rmSync(file("roles/viewer.json"));
  expect(await pushed({ yes: true })).toBe(true);
  expect(said[0]).toBe(
    '~ group sales\n    - description: who sells\n    - roles: chief\n    - roles: {"role":"crm/author","condition":"env.weekday < 6","valid_until":"2100-01-01T00:00:00+00:00"}\n    + roles: crm/author',
  );
  expect(await run("select email from access.group_members join auth.accounts on id = account_id")).toEqual([
    { email: "pat@acme.test" },
  ]);
  expect((await run("select from access.roles where name = 'viewer'")).length).toBe(2);
});

describe("tests", () => {
  test("a push that breaks one, or brings one that fails, is refused unless forced", async () => {
    const author = read("roles/crm/author.json");
    write("roles/crm/author.json", { ...author, permissions: [] });
    expect(await pushed({ yes: true })).toBe(false);
    expect(said.at(-2)).toMatch(
      /^! test crm\/northern drafts would fail: expected allow, and it would be deny: nothing allows it/,
    );
    write("roles/crm/author.json", author);
    const tests = read("tests/crm.json");
    write("tests/crm.json", [...tests, { ...tests[0], name: "wrong", expected: "deny" }]);
    expect(await pushed({ yes: true })).toBe(false);
    expect(await pushed({ yes: true, force: true })).toBe(true);
    said.length = 0;
    expect(await testApp(client, "acme/crm", say)).toBe(false);
    expect(said).toEqual([
      expect.stringMatching(/^failed: wrong\n {2}expected deny, and it is allow: allowed by/),
      "1 passed, 1 failed",
    ]);
    write("tests/crm.json", tests);
    expect(await pushed({ yes: true })).toBe(true);
    expect(await testApp(client, "acme/crm", say)).toBe(true);
  });
});

test("two pushes at once: one of them is told to compare again", async () => {
  const other = mkdtempSync(join(tmpdir(), "rowhouse-policy-"));
  const second = await crm.db.pool.connect();
  try {
    await pull(second, "acme", other, () => {});
    write("roles/one.json", { name: "one", permissions: [] });
    writeFileSync(join(other, "roles/two.json"), JSON.stringify({ name: "two", permissions: [] }));
    let arrived = 0;
    let open: () => void = () => {};
    const both = new Promise<void>((resolve) => {
      open = resolve;
    });
    const together = async () => {
      if (++arrived === 2) open();
      await both;
      return true;
    };
    const results = await Promise.allSettled([
      pushed({}, together),
      push(second, "acme", other, {}, say, together),
    ]);
    expect(results.map((r) => r.status).sort()).toEqual(["fulfilled", "rejected"]);
    const failed = results.find((r) => r.status === "rejected") as PromiseRejectedResult;
    expect(failed.reason).toMatchObject({ code: "RH409", message: expect.stringContaining("changed since") });
    expect((await run("select from access.roles where name in ('one', 'two')")).length).toBe(1);
    await run("select access.drop_role('acme', name) from access.roles where name in ('one', 'two')");
  } finally {
    second.release();
    rmSync(other, { recursive: true });
  }
});

describe("files that are wrong", () => {
  test.each<[string, string, string, RegExp]>([
    ["no JSON", "roles/x.json", "{", /^roles\/x.json is not valid JSON/],
    [
      "another name",
      "roles/x.json",
      '{"name": "y", "permissions": []}',
      /roles\/x must be an object that is called as its own name/,
    ],
    ["another app", "roles/crm/x.json", '{"name": "x", "permissions": []}', /roles\/crm~1x must be/],
    ["a list", "policies/x.json", "[]", /policies\/x must be/],
    ["no list of tests", "tests/shop.json", "{}", /tests\/shop must be a list/],
    [
      "an app that is not there",
      "tests/nil.json",
      '[{"name": "x", "entity": "e", "action": "read", "expected": "deny"}]',
      /test nil\/x: This site has no app 'nil'/,
    ],
    [
      "code for a condition",
      "policies/x.json",
      `{"name": "x", "effect": "deny", "condition": "'; drop table access.roles; --"}`,
      /^policy x: /,
    ],
    [
      "a million characters",
      "policies/x.json",
      JSON.stringify({ name: "x", effect: "deny", condition: "a".repeat(1e6) }),
      /^policy x: /,
    ],
    ["a file of 6 MB", "policies/x.json", `"${"x".repeat(6e6)}"`, /has 6000002 bytes/],
    ["a name that is none", "roles/X$(id).json", "{}", /no name that a file could have/],
    [
      "the role admin",
      "roles/admin.json",
      '{"name": "admin", "permissions": []}',
      /role admin: The role admin/,
    ],
  ])("%s", async (_what, name, text, message) => {
    writeFileSync(file(name), text);
    await expect(pushed({ yes: true })).rejects.toThrow(message);
  });
  test("a link is not followed, read or written", async () => {
    const outside = mkdtempSync(join(tmpdir(), "rowhouse-outside-"));
    writeFileSync(join(outside, "secret.json"), '{"name": "secret"}');
    symlinkSync(join(outside, "secret.json"), file("roles/secret.json"));
    await expect(pushed({ yes: true })).rejects.toThrow(/roles\/secret.json is a symbolic link/);
    rmSync(file("roles"), { recursive: true });
    symlinkSync(outside, file("roles"));
    await expect(pull(client, "acme", dir, say)).rejects.toThrow(/roles is a symbolic link/);
    expect(readdirSync(outside)).toEqual(["secret.json"]);
    rmSync(outside, { recursive: true });
  });
  test("an empty folder does not drop everything", async () => {
    const empty = mkdtempSync(join(tmpdir(), "rowhouse-empty-"));
    await expect(readRules(empty)).rejects.toThrow(/There are no rules/);
    rmSync(empty, { recursive: true });
  });
  test.each(["../../etc/passwd", "..", "/etc/x", "a//b", "a/b/c/d", "a\\b", "", "con\u0000", "A"])(
    "%j is no file's name",
    async (name) => {
      expect(() => fileOf("roles", name)).toThrow(/no name/);
      const rules = { roles: { [name]: {} }, policies: {}, groups: {}, tests: {} };
      await expect(writeRules(dir, rules)).rejects.toThrow(/no name/);
    },
  );
  test("other files in the folder stay", async () => {
    mkdirSync(file("docs"));
    writeFileSync(file("docs/a.json"), "{}");
    writeFileSync(file("roles/README.md"), "hello");
    writeFileSync(file("roles/gone.json"), "{}");
    await pull(client, "acme", dir, say);
    expect(said).toEqual(["removed roles/gone.json"]);
    expect(readFileSync(file("roles/README.md"), "utf8") + readFileSync(file("docs/a.json"), "utf8")).toBe(
      "hello{}",
    );
  });
});

test.each<[string, string, unknown[]]>([
  ["export_rules", "select access.export_rules('acme')", []],
  ["import_rules", "select access.import_rules('acme', $1)", [{ roles: {} }]],
  ["import_rules, dry", "select access.import_rules('acme', $1, true)", [{ tests: {} }]],
])("%s: not for viewers, nor for members of other sites", async (_what, sql, values) => {
  const as = (site: string, email: string) => refusal(crm.db.as(site, email, (c) => c.query(sql, values)));
  expect((await as("acme", "vic@acme.test")).code).toBe("RH403");
  expect((await as("beta", "bob@beta.test")).code).toBe("RH404");
});

test("who may define policies only imports none of the rest", async () => {
  await run("select access.define_role('acme', $1)", [
    { name: "definer", permissions: ["@policies:define", "@roles:define"] },
  ]);
  await run("select access.assign_role('acme', 'quinn@acme.test', 'definer')");
  const as = (rules: object) =>
    crm.db.as("acme", "quinn@acme.test", (c) =>
      c.query("select access.import_rules('acme', $1, true) as a", [rules]),
    );
  expect(
    (await as({ policies: { n: { name: "n", effect: "deny" } } })).rows[0].a.changes.map(
      (c: { name: string }) => c.name,
    ),
  ).toEqual(["crm/posts_jsonb_kind/night", "n"]);
  expect((await refusal(as({ groups: {} }))).code).toBe("RH403");
  await run("select access.grant_permission('acme', 'definer', '@roles:assign')");
  expect((await refusal(as({ groups: {} }))).code).toBe("RH403"); // sales has roles that quinn does not hold
});
