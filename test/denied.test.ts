import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { type Call, type Crm, sendTo } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";
import { startPosts, storages } from "./harness/posts.ts";

// What was promised about refusals: those who may ask hear which rule refused them, others no more than that they were.

let crm: Crm & { entity(storage: string): string };
let gateway: TestGateway;
beforeAll(async () => {
  crm = await startPosts();
  gateway = await startGateway(crm.db, {}, 5, true);
  await crm.db.account("boss@acme.test");
  await run(`select tenancy.add_member('acme', 'boss@acme.test', 'viewer'), tenancy.set_member_role('acme', 'boss@acme.test', 'admin'),
    access.define_role('acme', '{"name": "auditor", "permissions": ["@policies:define", "crm/*:read"]}'), access.assign_role('acme', 'pat@acme.test', 'auditor')`);
  for (const name of ["boss", "pat", "quinn"])
    crm.tokens[name] = await crm.gateway.token(`${name}@acme.test`, "acme");
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

const run = <T extends Record<string, unknown>>(sql: string, values: unknown[] = []) =>
  crm.db.query<T>(sql, values);
type Explained = {
  because: string;
  roles: string[];
  outcome: string;
  rules: { words: string }[];
  entity: string;
  action: string;
};
const send = async (path: string, call: Call) => {
  const answer = await sendTo(gateway, crm.tokens, `/api/v1/sites/acme/apps/crm/${path}`, call);
  return { ...answer, explanation: (answer.json as unknown as { explanation?: Explained }).explanation };
};

describe.each(storages)("in %s storage", (storage) => {
  const entity = `posts_${storage}_kind`;
  let id = "";
  beforeEach(async () => {
    for (const { name, scope } of await run("select name, scope from access.policies"))
      await run("select access.drop_policy('acme', $1, $2)", [name, scope]);
    [{ id = "" } = {}] = await run<{ id: string }>(`select id from acme_crm.${entity} where title = 'a1'`);
  });
  const wants: [string, () => [string, Call], string][] = [
    ["creates", () => [entity, { method: "POST", body: { title: "x" } }], "create"],
    ["changes", () => [`${entity}/${id}`, { method: "PATCH", body: { title: "x" } }], "update"],
    ["deletes", () => [`${entity}/${id}`, { method: "DELETE" }], "delete"],
    [
      "creates in a transaction",
      () => [
        "transaction",
        { method: "POST", body: { operations: [{ operation: "insert", entity, data: { title: "x" } }] } },
      ],
      "create",
    ],
  ];
  test.each(wants)(
    "REST: an admin who %s without a permission is told why; so is who defines policies; others are not",
    async (_title, call, action) => {
      const [path, what] = call();
      for (const as of ["boss", "pat"]) {
        const { status, explanation } = await send(path, { ...what, as });
        expect([status, explanation?.outcome, explanation?.action, explanation?.entity]).toEqual([
          403,
          "deny",
          action,
          `crm/${entity}`,
        ]);
        expect(explanation?.because).toMatch(/^nothing allows it/);
        expect(explanation?.roles).toContain(as === "boss" ? "viewer" : "auditor");
      }
      await run("select access.assign_role('acme', 'quinn@acme.test', 'viewer')");
      const plain = await send(path, { ...what, as: "quinn" });
      await run("select access.revoke_role('acme', 'quinn@acme.test', 'viewer')");
      expect([plain.status, plain.json.code, plain.explanation]).toEqual([403, "forbidden", undefined]);
      expect(plain.text).not.toMatch(/because|rules/);
    },
  );

  test("the policy that denies is named, with its condition", async () => {
    await run(
      "select access.assign_role('acme', 'boss@acme.test', 'editor'), access.assign_role('acme', 'quinn@acme.test', 'editor')",
    );
    await run("select access.define_policy('acme', $1)", [
      {
        name: "frozen",
        effect: "deny",
        entities: [`crm/${entity}`],
        actions: ["update", "delete"],
        condition: { region: "north" },
      },
    ]);
    const boss = await send(`${entity}/${id}`, { method: "PATCH", body: { title: "x" }, as: "boss" });
    expect([boss.status, boss.explanation?.because]).toEqual([
      403,
      expect.stringMatching(/^denied by the policy frozen \(region = 'north'\)/),
    ]);
    const quinn = await send(`${entity}/${id}`, { method: "PATCH", body: { title: "x" }, as: "quinn" });
    expect([quinn.status, quinn.text.includes("frozen")]).toEqual([403, false]);
    const [south] = await run<{ id: string }>(`select id from acme_crm.${entity} where title = 'p2'`);
    const moved = await send(`${entity}/${south?.id}`, {
      method: "PATCH",
      body: { region: "north" },
      as: "boss",
    });
    expect([moved.status, JSON.stringify(moved.explanation)]).toEqual([
      403,
      expect.stringContaining("frozen"),
    ]);
    await run(
      "select access.revoke_role('acme', 'boss@acme.test', 'editor'), access.revoke_role('acme', 'quinn@acme.test', 'editor')",
    );
  });

  test("GraphQL says it in extensions, psql in DETAIL, and both leave the claims as they were", async () => {
    const type = storage === "jsonb" ? "PostsJsonbKind" : "PostsFlatKind";
    const field = `${type[0]?.toLowerCase()}${type.slice(1)}`;
    const query = `mutation { create${type}(input: {${field}: {title: "x"}}) { ${field} { id } } }`;
    const replies = await Promise.all(
      ["boss", "quinn"].map(
        async (as) =>
          (await send("graphql", { method: "POST", body: { query }, as })).json as unknown as {
            errors: { extensions: Record<string, unknown> }[];
          },
      ),
    );
    expect(
      replies.map(({ errors }) => [errors[0]?.extensions.status, errors[0]?.extensions.explanation]),
    ).toEqual([
      [403, expect.objectContaining({ outcome: "deny" })],
      [403, undefined],
    ]);
    for (const [email, told] of [
      ["boss@acme.test", true],
      ["quinn@acme.test", false],
    ] as const)
      await crm.db.as("acme", email, async (client) => {
        const before = (await client.query("select auth.account_id(), tenancy.site_id()")).rows;
        const refused = await refusal(client.query(`insert into acme_crm.${entity} (title) values ('x')`));
        expect([refused.code, "explanation" in refused.detail]).toEqual(["RH403", told]);
        expect((await client.query("select auth.account_id(), tenancy.site_id()")).rows).toEqual(before);
      });
  });
});

test("who is a member of another site is told nothing, whatever they are there", async () => {
  await run("select tenancy.set_member_role('beta', 'eve@both.test', 'admin')");
  crm.tokens.eveAtAcme = await crm.gateway.token("eve@both.test", "acme");
  await run("select access.revoke_role('acme', 'eve@both.test', 'editor')");
  const answer = await send("contacts", { method: "POST", body: { name: "x" }, as: "eveAtAcme" });
  expect([answer.status, answer.explanation]).toEqual([403, undefined]);
});
