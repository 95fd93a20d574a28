import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";
import { startPosts } from "./harness/posts.ts";

// What was promised: it shows which rules are used and which never were, and no request waits for it.

let crm: Awaited<ReturnType<typeof startPosts>>;
let gateway: TestGateway;
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
type Line = { name?: string; role?: string; permission?: string; requests: number; last_used: string | null };
type Usage = {
  since: string | null;
  roles: (Line & { holders: number; never_used_by: string[] })[];
  permissions: Line[];
  policies: (Line & { in_effect: boolean })[];
  expired: object[];
};
const usage = async () => (await run("select access.usage('acme') as u"))[0]?.u as Usage;
const roleOf = async (name: string) => (await usage()).roles.find((r) => r.name === name);

beforeAll(async () => {
  crm = await startPosts();
  gateway = await startGateway(crm.db, { ROWHOUSE_USAGE_SECONDS: "1" }, 5, true);
  await run("select access.define_role('acme', $1)", [
    {
      name: "northern",
      inherits: ["writer"],
      permissions: [
        { permission: "crm/posts_flat_kind:read", condition: "region = 'north'" },
        "crm/posts_flat_kind:delete",
      ],
    },
  ]);
  for (const email of ["pat@acme.test", "quinn@acme.test"])
    await run("select access.assign_role('acme', $1, 'northern')", [email]);
  for (const [name, condition] of [
    ["pats", "current_user.email = 'pat@acme.test' and score > 100"],
    ["others", "current_user.email = 'nobody@acme.test'"],
    ["tools", "env.user_agent like 'never%'"],
  ])
    await run("select access.define_policy('acme', $1)", [
      { name, effect: "deny", entities: ["crm/posts_flat_kind"], actions: ["read"], condition },
    ]);
  await run("select access.define_policy('acme', $1)", [
    { name: "lost", effect: "deny", entities: ["crm/nothing"] },
  ]);
});
afterAll(async () => {
  await gateway.stop();
  await crm.stop();
});

test("before anything is counted", async () => {
  const { since, roles, policies } = await usage();
  expect(since).toBeNull();
  expect(roles.find((r) => r.name === "northern")).toEqual({
    name: "northern",
    holders: 2,
    requests: 0,
    last_used: null,
    never_used_by: ["pat@acme.test", "quinn@acme.test"],
  });
  expect(policies.map((p) => `${p.name} ${p.in_effect}`)).toEqual([
    "lost false",
    "others true",
    "pats true",
    "tools true",
  ]);
});

test("what requests used is told a window later", async () => {
  const token = await gateway.token("pat@acme.test", "acme");
  for (let i = 0; i < 3; i++) {
    const response = await fetch(`${gateway.url}${base}/posts_flat_kind`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(response.status).toBe(200);
  }
  while ((await roleOf("northern"))?.requests !== 3) await sleep(50);
  const { since, roles, permissions, policies } = await usage();
  expect(since).toEqual(expect.any(String));
  const requests = (list: Line[]) =>
    Object.fromEntries(list.map((l) => [l.name ?? `${l.role} ${l.permission}`, l.requests]));
  expect(requests(roles)).toMatchObject({ northern: 3, writer: 3, viewer: 0, authenticated: 0 });
  expect(roles.find((r) => r.name === "northern")).toMatchObject({ never_used_by: ["quinn@acme.test"] });
  expect(requests(permissions)).toMatchObject({
    "northern crm/posts_flat_kind:read": 3,
    "northern crm/posts_flat_kind:delete": 0,
    "writer crm/*:read": 3,
    "writer crm/*:create": 0,
  });
  expect(requests(policies)).toEqual({ pats: 3, others: 0, lost: 0, tools: 0 });
});

test("no request waits for it: compiling and opening aside, it is one round trip, as ever", async () => {
  const later = await startGateway(crm.db, { ROWHOUSE_USAGE_SECONDS: "3600" });
  const headers = { authorization: `Bearer ${await later.token("vic@acme.test", "acme")}` };
  const trips = later.roundTrips();
  for (let i = 0; i < 3; i++)
    expect((await fetch(`${later.url}${base}/posts_jsonb_kind`, { headers })).status).toBe(200);
  expect(later.roundTrips() - trips).toBeLessThanOrEqual(4);
  await later.stop();
});

test("a refused request is not counted, and counts add up", async () => {
  const token = await gateway.token("pat@acme.test", "acme");
  const get = () =>
    fetch(`${gateway.url}${base}/posts_flat_kind`, { headers: { authorization: `Bearer ${token}` } });
  const patch = await fetch(
    `${gateway.url}${base}/posts_flat_kind?max=100&filter=${encodeURIComponent('{"score":{"$gt":0}}')}`,
    {
      method: "PATCH",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: '{"score": 1}',
    },
  );
  expect([patch.status, await patch.text()]).toEqual([403, expect.any(String)]);
  await get();
  while ((await roleOf("northern"))?.requests !== 4) await sleep(50);
});

test("GraphQL is counted too: what is read, related records too, and what is written; not what was refused", async () => {
  const { policies, permissions } = await usage();
  const before = (await roleOf("northern"))?.requests ?? 0;
  const count = (list: Line[], name: string) =>
    list.find((l) => (l.name ?? `${l.role} ${l.permission}`) === name)?.requests ?? 0;
  const ask = async (email: string, query: string, operationName: string | null = null) => {
    const response = await fetch(`${gateway.url}${base}/graphql`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${await gateway.token(email, "acme")}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({ query, operationName }),
    });
    return { errors: [], ...((await response.json()) as object) };
  };
  const pat = "pat@acme.test";
  const list = `query one { postsFlatKinds { ...page } } query two { postsJsonbKinds { totalCount } } fragment page on PostsFlatKindConnection { nodes { title } }`;
  for (let i = 0; i < 2; i++) expect((await ask(pat, list, "one")).errors).toEqual([]);
  expect((await ask(pat, "{ postsFlatKinds(orderBy: SCORE_ASC) { aggregates { count } } }")).errors).toEqual(
    [],
  );
  // Refused, invalid, and of another entity.
  expect(
    (
      await ask(
        "vic@acme.test",
        'mutation { createPostsFlatKind(input: { postsFlatKind: { title: "x" } }) { clientMutationId } }',
      )
    ).errors,
  ).not.toEqual([]);
  expect((await ask(pat, "{ postsFlatKinds { nodes { nothing } } }")).errors).not.toEqual([]);
  expect((await ask(pat, "{ contacts { nodes { name } } }")).errors).toEqual([]);
  const made = await ask(
    pat,
    'mutation { createPostsFlatKind(input: { postsFlatKind: { title: "made" } }) { postsFlatKind { title } } }',
  );
  expect(made.errors).toEqual([]);
  while (((await roleOf("northern"))?.requests ?? 0) < before + 5) await sleep(50);
  await sleep(1_500); // one more window
  const after = await usage();
  expect((await roleOf("northern"))?.requests).toBe(before + 5);
  expect(count(after.policies, "pats") - count(policies, "pats")).toBe(3);
  expect(
    count(after.permissions, "northern crm/posts_flat_kind:read") -
      count(permissions, "northern crm/posts_flat_kind:read"),
  ).toBe(3);
  expect(count(after.permissions, "writer crm/*:create") - count(permissions, "writer crm/*:create")).toBe(1);
  expect(count(after.permissions, "writer crm/*:read") - count(permissions, "writer crm/*:read")).toBe(4);
});

describe("requests about several entities, and what moves records in and out", () => {
  const send = async (path: string, body?: object, type = "application/json") => {
    const response = await fetch(`${gateway.url}${base}/${path}`, {
      method: body ? "POST" : "GET",
      headers: {
        authorization: `Bearer ${await gateway.token("pat@acme.test", "acme")}`,
        ...(body ? { "content-type": type } : {}),
      },
      ...(body ? { body: type.includes("json") ? JSON.stringify(body) : String(body) } : {}),
    });
    const answer = await response.text();
    expect([response.status, answer.includes('"errors":[{') ? answer : ""]).toEqual([200, ""]);
  };
  const graphql = (query: string) => send("graphql", { query });
  const insert = { operation: "insert", entity: "posts_flat_kind", data: { title: "made by pat" } };
  const both = "posts_flat_kind,contacts";

  beforeAll(async () => {
    await run("select data.define_entity('acme/crm', 'notes', $1)", [
      { type: "object", properties: { text: { type: "string", "x-search": true } } },
    ]);
  });

  // A policy concerns reads of posts_flat_kind; the others, what is asked of each.
  test.each<[what: string, ask: () => Promise<void>, reads: number, notes: number, creates: number]>([
    ["a union", () => send(`query?entities=${both}&select=id`), 1, 0, 0],
    ["its aggregate", () => send(`query/aggregate?entities=${both}`), 1, 0, 0],
    ["a search over the app", () => send("search?q=word"), 0, 1, 0],
    ["of one entity", () => send("search?q=word&entities=notes"), 0, 1, 0],
    ["an export", () => send("posts_flat_kind/export"), 1, 0, 0],
    ["of the app", () => send("export?format=ndjson"), 1, 1, 0],
    ["an import", () => send("posts_flat_kind/import", [{ title: "in" }]), 0, 0, 1],
    ["a transaction", () => send("transaction", { operations: [insert, insert] }), 0, 0, 1],
    [
      "a union over GraphQL",
      () =>
        graphql('{ findUnion(entities: ["notes", "posts_flat_kind"], select: ["id"]) { nodes { entity } } }'),
      1,
      1,
      0,
    ],
    ["its aggregate", () => graphql('{ aggregateUnion(entities: ["posts_flat_kind"]) { nodes } }'), 1, 0, 0],
    ["a search over GraphQL", () => graphql('{ search(q: "word") { id } }'), 0, 1, 0],
    [
      "a transaction over GraphQL",
      () =>
        graphql(
          'mutation { transaction(operations: [{operation: "insert", entity: "notes", data: {text: "x"}}, {operation: "insert", entity: "posts_flat_kind", data: {title: "y"}}]) }',
        ),
      0,
      0,
      2,
    ],
  ])("%s is counted: %#", async (_what, ask, reads, notes, creates) => {
    const counted = async () => {
      await run("select access.note_used('[]')");
      const rows = await run(
        `select name, sum(requests)::int as n from access.used where site_id = $1 group by name`,
        [crm.ids.acme],
      );
      const by = Object.fromEntries(rows.map(({ name, n }) => [name, n])) as Record<string, number>;
      return {
        policy: by.pats ?? 0,
        reads: by["writer crm/*:read"] ?? 0,
        creates: by["writer crm/*:create"] ?? 0,
      };
    };
    const before = await counted();
    await ask();
    const expected = { policy: before.policy + reads, creates: before.creates + creates };
    if (notes > 0) while ((await counted()).reads - before.reads < reads + notes) await sleep(50);
    while ((await counted()).policy < expected.policy || (await counted()).creates < expected.creates)
      await sleep(50);
    expect(await counted()).toMatchObject(expected);
  });

  test("what failed is not", async () => {
    const token = await gateway.token("vic@acme.test", "acme");
    const before = await run(
      "select * from access.used where account_id = (select id from auth.accounts where email = 'vic@acme.test') order by kind, name",
    );
    for (const [path, body] of [
      ["transaction", { operations: [insert] }],
      ["transaction", { operations: [] }],
      ["transaction", { operations: [{ operation: "drop", entity: "'; drop table access.used" }] }],
      ["transaction", { operations: "x" }],
      ["transaction", [1]],
    ] as const) {
      const response = await fetch(`${gateway.url}${base}/${path}`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      expect([path, body, response.status < 500]).toEqual([path, body, true]);
    }
    await sleep(1_500);
    expect(
      await run(
        "select * from access.used where account_id = (select id from auth.accounts where email = 'vic@acme.test') order by kind, name",
      ),
    ).toEqual(before);
  });
});

test("expired assignments and roles that nobody holds are named", async () => {
  await run(
    "select access.assign_role('acme', 'vic@acme.test', 'writer', valid_until => now() + interval '1 hour')",
  );
  await run(
    "update access.assignments set valid_until = now() - interval '1 hour' where valid_until is not null",
  );
  const { expired, roles } = await usage();
  expect(expired).toEqual([
    { account: "vic@acme.test", group: null, role: "writer", valid_until: expect.any(String) },
  ]);
  expect(roles.find((r) => r.name === "admin")?.holders).toBe(0);
});

test("what a gateway tells of nobody and nothing counts nothing", async () => {
  const before = await run("select * from access.used order by kind, name");
  const app = crm.ids["acme/crm"];
  const [pat] = await run("select id from auth.accounts where email = 'pat@acme.test'");
  const one = { app, entity: "posts_flat_kind", operation: "find", account: pat?.id, env: "", requests: 1 };
  for (const wrong of [
    { account: "01900000-0000-7000-8000-000000000000" },
    { app: crm.ids.acme },
    { entity: "'; drop table access.used" },
    { operation: "$body$" },
    { requests: -5 },
  ])
    await run("select access.note_used($1)", [JSON.stringify([{ ...one, ...wrong }])]);
  expect(await run("select * from access.used order by kind, name")).toEqual(before);
});

test("not for viewers, nor for members of other sites; and only a gateway counts", async () => {
  const as = (site: string, email: string, sql: string) =>
    refusal(crm.db.as(site, email, (c) => c.query(sql)));
  expect((await as("acme", "vic@acme.test", "select access.usage('acme')")).code).toBe("RH403");
  expect((await as("beta", "bob@beta.test", "select access.usage('acme')")).code).toBe("RH404");
  expect((await as("acme", "vic@acme.test", "select access.note_used('[]')")).code).toBe("42501");
  await crm.db.as("acme", "vic@acme.test", async (c) => {
    await expect(c.query("select from access.used")).rejects.toMatchObject({ code: "42501" });
  });
});
