import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Call, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// Roles, policies, assignments, groups and questions over REST and the control plane's GraphQL: as in SQL, no more and no less.

let crm: Crm;
let gateway: TestGateway;
beforeAll(async () => {
  crm = await startCrm();
  gateway = await startGateway(crm.db, {}, 5, true);
  for (const entity of ["posts", "secrets"])
    await run("select data.define_entity('acme/crm', $1, $2)", [
      entity,
      {
        type: "object",
        properties: { title: { type: "string" }, status: { type: "string" }, phone: { type: "string" } },
      },
    ]);
  await crm.db.account("boss@acme.test");
  await run(
    "select tenancy.add_member('acme', 'boss@acme.test', 'editor'), tenancy.set_member_role('acme', 'boss@acme.test', 'admin'), tenancy.set_member_role('beta', 'bob@beta.test', 'owner')",
  );
  crm.tokens.boss = await gateway.token("boss@acme.test");
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const send = (path: string, call: Call = {}) =>
  sendTo(gateway, crm.tokens, `/api/v1/sites/acme/access/${path}`, { as: "boss", ...call });
const guide = readFileSync(new URL("../docs/access-api.md", import.meta.url), "utf8");

test("docs/access-api.md says what happens", async () => {
  const commands = [...guide.matchAll(/```(sh|sql)\n([\s\S]*?)```/g)].flatMap(([, language, block]) =>
    (block as string)
      .trim()
      .split("\n")
      .map((line) => ({ language, line })),
  );
  expect(commands.length).toBeGreaterThan(18);
  for (const { language, line } of commands) {
    if (language === "sql") {
      await run(line);
      continue;
    }
    const [, command = "", status, text = ""] = /^(.*) # (\d{3}) ?(.*)$/.exec(line) ?? [];
    const { stdout } = await promisify(execFile)("bash", ["-c", `${command} -w '\\n%{http_code}'`], {
      env: {
        ...process.env,
        SITE: `${gateway.url}/api/v1/sites/acme`,
        TOKEN: crm.tokens.boss ?? "",
        OTHER: `${gateway.url}/api/v1/sites/beta`,
        READER: crm.tokens.bob ?? "",
      },
    });
    const at = stdout.lastIndexOf("\n");
    expect([line, stdout.slice(at + 1)]).toEqual([line, status]);
    expect(stdout.slice(0, at)).toContain(text);
  }
});

describe("who may not is refused as in SQL", () => {
  const definition = { effect: "allow", permissions: undefined };
  const doors: [string, string, unknown][] = [
    ["PUT", "roles/mine", { permissions: ["*:*"] }],
    ["DELETE", "roles/viewer", undefined],
    ["PUT", "policies/mine", definition],
    ["DELETE", "policies/mine", undefined],
    ["GET", "policies", undefined],
    ["PUT", "assignments/vic@acme.test/admin", {}],
    ["DELETE", "assignments/ann@acme.test/editor", undefined],
    ["GET", "assignments?account=ann@acme.test", undefined],
    ["GET", "assignments", undefined],
    ["GET", "groups", undefined],
    ["POST", "groups", { name: "mine" }],
    ["GET", "who-can?entity=crm/posts&action=read", undefined],
    ["GET", "what-can?account=ann@acme.test", undefined],
    ["GET", "explain?account=ann@acme.test&entity=crm/posts&action=read", undefined],
    ["POST", "delegations", { account: "ann@acme.test", role: "admin", until: "2999-01-01" }],
  ];
  test.each(doors)("%s %s", async (method, path, body) => {
    expect((await send(path, { method, body, as: "vic" })).status).toBe(403);
    // A member of another site, a stranger to this one, and nobody at all.
    expect((await send(path, { method, body, as: "bob" })).status).toBe(404);
    expect((await send(path, { method, body, as: null })).status).toBe(401);
  });

  test("everybody may ask about themselves, in plain words", async () => {
    const answer = await send("explain?account=vic@acme.test&entity=crm/posts&action=delete", { as: "vic" });
    expect([answer.status, "rules" in answer.json]).toEqual([200, false]);
    expect((await send("what-can?account=vic@acme.test", { as: "vic" })).status).toBe(200);
    expect((await send("assignments?account=vic@acme.test", { as: "vic" })).json.data).toEqual([
      expect.objectContaining({ account: "vic@acme.test", role: "viewer" }),
    ]);
  });

  test("a token for one site opens no other's access control", async () => {
    await run("select tenancy.set_member_role('acme', 'eve@both.test', 'admin')");
    expect((await send("roles", { as: "eve" })).status).toBe(200);
    crm.tokens.eveAtBeta = await gateway.token("eve@both.test", "beta");
    expect((await send("roles", { as: "eveAtBeta" })).status).toBe(404);
    await run("select tenancy.set_member_role('acme', 'eve@both.test', 'member')");
  });

  test("who may define roles defines none that is more than the site's rules let them", async () => {
    await run(
      `select access.define_role('acme', '{"name": "hr", "permissions": ["@roles:assign"]}'), access.assign_role('acme', 'vic@acme.test', 'hr')`,
    );
    expect((await send("assignments/vic@acme.test/admin", { method: "PUT", as: "vic" })).status).toBe(403);
    expect((await send("assignments/ann@acme.test/viewer", { method: "PUT", as: "vic" })).status).toBe(204);
    expect((await send("groups", { method: "POST", body: { name: "team" }, as: "vic" })).status).toBe(201);
    expect((await send("groups/team/roles/admin", { method: "PUT", as: "vic" })).status).toBe(403);
    await run("select access.revoke_role('acme', 'vic@acme.test', 'hr')");
  });
});

describe("bad input", () => {
  test.each<[string, string, unknown, number]>([
    ["GET", "nothing", undefined, 404],
    ["GET", "", undefined, 404],
    ["GET", "constructor", undefined, 404],
    ["GET", "roles/a/b/c/d/e", undefined, 404],
    ["GET", "roles/ghost", undefined, 404],
    ["GET", "policies/crm/ghost", undefined, 404],
    ["PATCH", "roles/viewer", {}, 405],
    ["DELETE", "explain", undefined, 405],
    ["GET", "roles?x=1", undefined, 400],
    ["GET", "explain?entity=crm/posts&action=read&action=update", undefined, 400],
    ["GET", "explain?entity=crm/posts&action=read&record=abc", undefined, 400],
    ["GET", "explain?entity=crm/posts&action=fly", undefined, 400],
    ["GET", "explain?action=read", undefined, 400],
    ["GET", "explain?entity=crm%2Fghosts&action=read", undefined, 404],
    ["GET", "explain?entity=..%2Fbeta%2Fcrm%2Fposts&action=read", undefined, 400],
    ["GET", "who-can?entity=crm/posts&action=read&max=0", undefined, 400],
    ["GET", "who-can?entity=crm/posts&action=read&max=x", undefined, 400],
    ["GET", "what-can?account='; drop table access.roles; --", undefined, 404],
    ["GET", "what-can?account=%00", undefined, 400],
    ["PUT", "roles/x", [], 400],
    ["PUT", "roles/x", '{"permissions": ', 400],
    ["PUT", "roles/x", { name: "y", permissions: [] }, 400],
    ["PUT", "roles/x", { permissions: ["'; drop table x; --"] }, 400],
    ["PUT", "roles/x", { permissions: "$body$" }, 400],
    ["PUT", "policies/x", { effect: "allow", scope: "crm" }, 400],
    ["PUT", "policies/crm/posts/x", { effect: "maybe" }, 400],
    ["PUT", "assignments/ann@acme.test/viewer", { until: "2999-01-01" }, 400],
    ["PUT", "assignments/ann@acme.test/viewer", { valid_until: "soon" }, 400],
    ["PUT", "assignments/ghost@acme.test/viewer", {}, 404],
    ["PUT", "assignments/ann@acme.test/ghost", {}, 404],
    ["PUT", "assignments/ann@acme.test", {}, 404],
    ["POST", "groups", { name: "Bad Name" }, 400],
    ["POST", "groups", { name: "g", color: "red" }, 400],
    ["PUT", "groups/ghost/members/ann@acme.test", undefined, 404],
    ["PUT", "groups/ghost/things/x", undefined, 404],
    ["POST", "delegations", { account: "ann@acme.test", role: "editor", until: "never" }, 400],
    ["DELETE", "delegations/1", undefined, 400],
    ["DELETE", "roles/admin", undefined, 409],
  ])("%s %s %j", async (method, path, body, status) => {
    const answer = await send(path.replace(/ /g, "%20"), { method, body });
    expect([answer.status, typeof answer.json.code]).toEqual([status, "string"]);
  });
});

test("delegations are made and taken back", async () => {
  const made = await send("delegations", {
    method: "POST",
    body: {
      account: "vic@acme.test",
      role: "editor",
      until: new Date(Date.now() + 86_400_000).toISOString(),
      permissions: ["*:create"],
    },
    as: "ann",
  });
  expect(made.status).toBe(201);
  const posted = () =>
    sendTo(gateway, crm.tokens, "/api/v1/sites/acme/apps/crm/posts", {
      method: "POST",
      body: { title: "v" },
      as: "vic",
    });
  expect((await posted()).status).toBe(201);
  expect((await send("assignments?account=vic@acme.test", { as: "vic" })).json.data).toContainEqual(
    expect.objectContaining({ delegated_by: "ann@acme.test" }),
  );
  expect((await send(`delegations/${made.json.id}`, { method: "DELETE", as: "ann" })).status).toBe(204);
  expect((await posted()).status).toBe(403);
});

test("the control plane's GraphQL does the same", async () => {
  const ask = async (query: string, variables: object, as: string) =>
    (await sendTo(gateway, crm.tokens, "/graphql", { method: "POST", body: { query, variables }, as }))
      .json as unknown as {
      // biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
      data: any;
      errors?: { extensions: { status: number } }[];
    };
  const define =
    "mutation ($site: String!, $definition: JSON!) { defineRole(input: {site: $site, definition: $definition}) { result { name } } }";
  const role = { site: "acme", definition: { name: "reporter", permissions: ["crm/posts:read"] } };
  expect((await ask(define, role, "vic")).errors?.[0]?.extensions.status).toBe(403);
  expect((await ask(define, role, "bob")).errors?.[0]?.extensions.status).toBe(404);
  expect((await ask(define, role, "boss")).data.defineRole.result.name).toBe("reporter");
  const policy =
    "mutation ($site: String!, $definition: JSON!) { definePolicy(input: {site: $site, definition: $definition}) { result { name } } }";
  const definition = { name: "late", effect: "deny", entities: ["crm/posts"], actions: ["update"] };
  expect((await ask(policy, { site: "acme", definition }, "vic")).errors?.[0]?.extensions.status).toBe(403);
  expect((await ask(policy, { site: "acme", definition }, "boss")).errors).toBeUndefined();
  const explain =
    'query ($account: String!) { explain(account: $account, entity: "acme/crm/posts", action: "update") }';
  expect((await ask(explain, { account: "ann@acme.test" }, "boss")).data.explain).toMatchObject({
    outcome: "deny",
    because: expect.stringContaining("late"),
  });
  expect((await ask(explain, { account: "ann@acme.test" }, "vic")).errors?.[0]?.extensions.status).toBe(403);
  const questions =
    '{ whoCan(entity: "acme/crm/posts", action: "read") whatCan(site: "acme", account: "ann@acme.test") policies { nodes { name } } groups { nodes { name } } }';
  const { data } = await ask(questions, {}, "boss");
  expect(data.whoCan.accounts.length).toBeGreaterThan(0);
  expect(data.policies.nodes).toContainEqual({ name: "late" });
  const narrow = {
    ...definition,
    scope: "crm/posts",
    entities: ["crm/posts"],
    condition: "status = 'draft'",
  };
  expect((await ask(policy, { site: "acme", definition: narrow }, "boss")).errors).toBeUndefined();
  const effective = '{ effective(entity: "acme/crm/posts") }';
  const rules = (await ask(effective, {}, "boss")).data.effective;
  expect(rules.policies).toContainEqual(
    expect.objectContaining({ policy: "crm/posts/late", says: "status = 'draft'", overrides: ["late"] }),
  );
  expect(rules.not_in_effect).toEqual([{ policy: "late", effect: "deny", overridden_by: "crm/posts/late" }]);
  expect((await send("effective?entity=crm/posts")).json).toEqual(rules);
  for (const [as, status] of [
    ["vic", 403],
    ["bob", 404],
  ] as const)
    expect((await ask(effective, {}, as)).errors?.[0]?.extensions.status).toBe(status);
  await ask(
    'mutation { dropPolicy(input: {site: "acme", name: "late", scope: "crm/posts"}) { clientMutationId } }',
    {},
    "boss",
  );
  const vic = await ask("{ policies { nodes { name } } }", {}, "vic");
  expect(vic.data.policies.nodes).toEqual([]);
  const drop =
    'mutation { dropPolicy(input: {site: "acme", name: "late"}) { clientMutationId } dropRole(input: {site: "acme", role: "reporter"}) { clientMutationId } }';
  expect((await ask(drop, {}, "bob")).errors).toHaveLength(2);
  expect((await ask(drop, {}, "boss")).errors).toBeUndefined();
});
