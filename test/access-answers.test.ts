import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { startPosts } from "./harness/posts.ts";

// What an administrator was promised: every decision can be asked for, and says which rule made it.

const posts = "acme/crm/posts_jsonb_kind";
let crm: Awaited<ReturnType<typeof startPosts>>;
const ids: Record<string, string> = {};
beforeAll(async () => {
  crm = await startPosts();
  for (const { title, id } of await run("select title, id from acme_crm.posts_jsonb_kind"))
    ids[title as string] = id as string;
  await run("select access.define_role('acme', $1)", [
    {
      name: "northern",
      permissions: [{ permission: "crm/*:read", condition: { region: "north" } }, "crm/*:update:own"],
    },
  ]);
  await run("select access.assign_role('acme', 'pat@acme.test', 'northern')");
  await run("select access.define_policy('acme', $1)", [
    {
      name: "lowly",
      effect: "deny",
      priority: 3,
      actions: ["read"],
      condition: "score < 2 and current_user.email <> 'ann@acme.test'",
    },
  ]);
  await run("select access.define_role('acme', $1)", [
    { name: "definer", permissions: ["@policies:define"] },
  ]);
  await run("select access.assign_role('acme', 'quinn@acme.test', 'definer')");
});
afterAll(() => crm.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const ask = async (sql: string, values: unknown[], as?: string) => {
  const work = async (query: (text: string, values: unknown[]) => Promise<Record<string, unknown>[]>) =>
    (await query(`select ${sql} as answer`, values))[0]?.answer as Record<string, unknown>;
  return as
    ? crm.db.as("acme", as, (client) => work(async (text, list) => (await client.query(text, list)).rows))
    : work(run);
};
const explain = (account: string | null, action: string, title: string | null, as?: string) =>
  ask("access.explain($1, $2, $3, $4)", [account, posts, action, title && ids[title]], as);

test.each<[string, string | null, string, string | null, string, RegExp]>([
  [
    "a plain permission",
    "ann@acme.test",
    "read",
    "a1",
    "allow",
    /^allowed by the permission \*:read of the role editor$/,
  ],
  [
    "a condition that holds",
    "pat@acme.test",
    "read",
    "p1",
    "allow",
    /^allowed by the permission crm\/\*:read of the role northern \(region = 'north'\)$/,
  ],
  [
    "a condition that does not hold",
    "pat@acme.test",
    "read",
    "p2",
    "deny",
    /^nothing allows it for this record: what is allowed of others is by the permission crm\/\*:read of the role northern/,
  ],
  [
    "one's own",
    "pat@acme.test",
    "update",
    "p2",
    "allow",
    /crm\/\*:update:own of the role northern \(created_by = current_user.id\)/,
  ],
  ["not another's", "pat@acme.test", "update", "a1", "deny", /nothing allows it for this record/],
  [
    "a denial",
    "pat@acme.test",
    "read",
    "a1",
    "deny",
    /^denied by the policy lowly \(score < 2 and current_user.email <> 'ann@acme.test'\)$/,
  ],
  ["a denial of others", "ann@acme.test", "read", "a1", "allow", /role editor/],
  [
    "no record in particular",
    "pat@acme.test",
    "read",
    null,
    "depends",
    /^allowed, for records that fit, by the permission crm\/\*:read of the role northern .*, but not where the policy lowly .* says no$/,
  ],
  ["nothing", "quinn@acme.test", "read", "a2", "deny", /no role of this account has a permission/],
  ["nobody in particular", null, "read", "a2", "deny", /no role of this account/],
])("explained: %s", async (_what, account, action, title, outcome, because) => {
  const answer = await explain(account, action, title);
  expect([answer.outcome, answer.because]).toEqual([outcome, expect.stringMatching(because)]);
  if (account === null) return;
  // What is said is what happens.
  if (title && action === "read") {
    const seen = await crm.db.as("acme", account, (client) =>
      client.query(`select from acme_crm.posts_jsonb_kind where id = $1`, [ids[title]]),
    );
    expect(seen.rowCount).toBe(outcome === "allow" ? 1 : 0);
  }
});

test("rules are listed with what became of them, to who may define policies", async () => {
  const answer = await explain("pat@acme.test", "read", "a1", "quinn@acme.test");
  expect(answer.rules).toEqual(
    expect.arrayContaining([
      expect.objectContaining({
        effect: "allow",
        kind: "permission",
        name: "northern",
        says: "allow",
        concerns: true,
        fits: true,
      }),
      expect.objectContaining({
        effect: "deny",
        kind: "policy",
        name: "lowly",
        priority: 3,
        says: "deny",
        condition: expect.any(Object),
      }),
    ]),
  );
});

describe("others learn no more than a refused request tells", () => {
  test("about oneself, without rules", async () => {
    expect(await explain("pat@acme.test", "read", "p1", "pat@acme.test")).toEqual({
      outcome: "allow",
      because: expect.stringContaining("northern"),
      roles: ["anonymous", "authenticated", "northern"],
    });
  });
  test("a hidden record looks like one that is not there", async () => {
    const hidden = await explain("pat@acme.test", "read", "a1", "pat@acme.test");
    ids.none = "01900000-0000-7000-8000-000000000000";
    expect(await explain("pat@acme.test", "read", "none", "pat@acme.test")).toEqual(hidden);
    expect(JSON.stringify(hidden)).not.toMatch(/lowly|score/);
  });
  test.each<[string, string, unknown[]]>([
    ["about somebody else", "access.explain('ann@acme.test', $1, 'read')", [posts]],
    ["who can", "access.who_can($1, 'read')", [posts]],
    ["what somebody else can", "access.what_can('acme', 'ann@acme.test')", []],
  ])("not %s", async (_what, sql, values) => {
    await expect(ask(sql, values, "pat@acme.test")).rejects.toMatchObject({ code: "RH403" });
  });
  test("nor of another site", async () => {
    await expect(
      ask("access.explain('bob@beta.test', $1, 'read')", ["beta/crm/contacts"], "quinn@acme.test"),
    ).rejects.toMatchObject({ code: "RH404" });
  });
});

test("who can, by pages", async () => {
  const all = await ask("access.who_can($1, 'read', $2)", [posts, ids.p1]);
  const accounts = all.accounts as { account: string; outcome: string }[];
  expect(accounts.map(({ account, outcome }) => `${account} ${outcome}`)).toEqual(
    expect.arrayContaining(["ann@acme.test allow", "pat@acme.test allow", "vic@acme.test allow"]),
  );
  expect(accounts.map(({ account }) => account)).not.toContain("quinn@acme.test");
  expect(all.anonymous).toBe("deny");
  const first = await ask("access.who_can($1, 'read', $2, 1)", [posts, ids.p1]);
  expect(first.next).toBe("ann@acme.test");
  const second = await ask("access.who_can($1, 'read', $2, 1, $3)", [posts, ids.p1, first.next]);
  expect(second.accounts).toEqual([accounts[1]]);
});

test("what somebody can", async () => {
  const { entities } = (await ask("access.what_can('acme', 'pat@acme.test')", [])) as {
    entities: Record<string, { outcome: string }>[];
  };
  const post = entities.find(({ entity }) => (entity as unknown as string) === "crm/posts_jsonb_kind");
  expect([post?.read?.outcome, post?.update?.outcome, post?.delete?.outcome]).toEqual([
    "depends",
    "depends",
    "deny",
  ]);
});

test.each(["fly", "", "read; drop table access.roles"])("%p is no action", async (action) => {
  await expect(explain("ann@acme.test", action, null)).rejects.toMatchObject({ code: "RH400" });
});

test.each<[string, string, string | null, boolean]>([
  ["ann@acme.test", "read", "a1", true],
  ["pat@acme.test", "read", "p1", true],
  ["pat@acme.test", "read", "p2", false],
  ["pat@acme.test", "read", "a1", false],
  ["pat@acme.test", "update", "p1", true],
  ["pat@acme.test", "update", "p2", false],
  ["pat@acme.test", "delete", "p1", false],
  ["pat@acme.test", "create", "p1", false],
  ["pat@acme.test", "delete", null, false],
  ["pat@acme.test", "read", null, true],
  ["quinn@acme.test", "read", "a2", false],
])("%s is told by access.allows whether %s of %s is theirs: %s", async (account, action, title, expected) => {
  expect(await ask("access.allows($1, $2, $3::uuid)", [posts, action, title && ids[title]], account)).toBe(
    expected,
  );
});

test("access.allows says what an id is", async () => {
  await expect(ask("access.allows($1, 'read', 'p1')", [posts], "pat@acme.test")).rejects.toMatchObject({
    code: "RH400",
  });
  await expect(ask("access.allows('beta/crm/contacts', 'read')", [], "pat@acme.test")).rejects.toMatchObject({
    code: "RH404",
  });
});
