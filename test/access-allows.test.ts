import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Call, sendTo } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";
import { startPosts, storages } from "./harness/posts.ts";

// What a user interface was promised: it may ask what somebody may do, for a page full of buttons at once, and is told the truth.

let crm: Awaited<ReturnType<typeof startPosts>>;
let gateway: TestGateway;
const ids: Record<string, string> = {};
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
beforeAll(async () => {
  crm = await startPosts();
  gateway = await startGateway(crm.db, {}, 5, true);
  for (const storage of storages)
    for (const { title, id } of await run(`select title, id from acme_crm.posts_${storage}_kind`))
      ids[`${storage} ${title}`] = id as string;
  await run("select access.define_role('acme', $1)", [
    {
      name: "northern",
      permissions: [{ permission: "crm/*:read", condition: { region: "north" } }, "crm/*:update:own"],
    },
  ]);
  await run("select access.assign_role('acme', 'pat@acme.test', 'northern')");
  await run("select access.define_policy('acme', $1)", [
    { name: "kept", effect: "deny", actions: ["delete"], condition: "score > 2" },
  ]);
  await run(
    "select access.define_role('acme', '{\"name\": \"definer\", \"permissions\": [\"@policies:define\"]}'), access.assign_role('acme', 'quinn@acme.test', 'definer')",
  );
  for (const name of ["pat", "quinn"]) crm.tokens[name] = await gateway.token(`${name}@acme.test`, "acme");
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

type Question = { entity: string; action: string; id?: string | null };
type Answer = Question & { allowed: boolean };
const send = (path: string, call: Call) => sendTo(gateway, crm.tokens, `/api/v1/sites/${path}`, call);
const emails: Record<string, string> = { bob: "bob@beta.test" };
const email = (name: string) => emails[name] ?? `${name}@acme.test`;

/** The same questions by every door; they must agree. */
async function ask(as: string, questions: Question[], account: string | null = null): Promise<boolean[]> {
  const psql = await crm.db.as("acme", email(as), async (client) => {
    const sql = "select access.allows_each('acme', $1, $2)->'data' as data";
    return (await client.query(sql, [JSON.stringify(questions), account])).rows[0].data as Answer[];
  });
  const rest = await send("acme/access/allows", {
    method: "POST",
    as,
    body: { questions, ...(account && { account }) },
  });
  expect(rest.json.data).toEqual(psql);
  const query = `query ($questions: [AccessQuestion!]!, $account: String) {
    accessAnswers(questions: $questions, account: $account) { entity action id allowed } }`;
  const inApp = questions.map((q) => ({ ...q, entity: q.entity.replace("crm/", "") }));
  const graphql = await send("acme/apps/crm/graphql", {
    method: "POST",
    as,
    body: { query, variables: { questions: inApp, account } },
  });
  const { accessAnswers } = graphql.json.data as unknown as { accessAnswers: Answer[] };
  expect(accessAnswers).toEqual(inApp.map((q, i) => ({ id: null, ...q, allowed: psql[i]?.allowed })));
  const one = new URLSearchParams(
    Object.entries({ ...questions[0], ...(account && { account }) }).filter(([, v]) => v != null) as [
      string,
      string,
    ][],
  );
  expect((await send(`acme/access/allows?${one}`, { as })).json).toEqual(psql[0]);
  return psql.map(({ allowed }) => allowed);
}

describe.each(storages)("in %s storage", (storage) => {
  const name = `posts_${storage}_kind`;
  const entity = `crm/${name}`;

  test("what is answered is what happens", async () => {
    const questions = ["a1", "a2", "p1", "p2"].flatMap((title) =>
      ["read", "update", "delete"].map((action) => ({
        entity,
        action,
        id: ids[`${storage} ${title}`] as string,
      })),
    );
    const happens = async (as: string, { action, id }: (typeof questions)[0]) => {
      if (action === "read") return (await send(`acme/apps/crm/${name}/${id}`, { as })).status === 200;
      const sql =
        action === "update"
          ? `update acme_crm.${name} set status = status where id = $1`
          : `delete from acme_crm.${name} where id = $1`;
      return await crm.db
        .as("acme", email(as), async (client) => {
          await client.query("begin");
          const { rowCount } = await client.query(sql, [id]);
          await client.query("rollback");
          return rowCount === 1;
        })
        .catch(() => false);
    };
    const told: Record<string, boolean[]> = {};
    for (const as of ["ann", "vic", "pat", "quinn"]) {
      told[as] = await ask(as, questions);
      const happened = [];
      for (const question of questions) happened.push(await happens(as, question));
      expect([as, told[as]]).toEqual([as, happened]);
    }
    expect(told.ann).toEqual([true, true, true, true, true, true, true, true, false, true, true, false]);
    expect(told.pat).toContain(true);
    expect(told.quinn).not.toContain(true);
  });

  test("without an id: with any record; a record that is not there, or not seen, is not one's own to change", async () => {
    const any = ["create", "read", "update", "delete"].map((action) => ({ entity, action }));
    expect(await ask("pat", any)).toEqual([false, true, true, false]);
    expect(await ask("vic", any)).toEqual([false, true, false, false]);
    expect(
      await ask("pat", [{ entity, action: "read", id: "00000000-0000-0000-0000-000000000000" }]),
    ).toEqual([false]);
  });
});

const posts = "crm/posts_flat_kind";

test("who may ask about others hears what they would be told; others hear about themselves only", async () => {
  const questions = [
    { entity: posts, action: "read", id: ids["flat p1"] as string },
    { entity: posts, action: "read", id: ids["flat p2"] as string },
    { entity: posts, action: "delete" },
  ];
  expect(await ask("quinn", questions, "pat@acme.test")).toEqual(await ask("pat", questions));
  expect(await ask("pat", questions, "pat@acme.test")).toEqual([true, false, false]);
  expect(await ask("quinn", questions, "ann@acme.test")).toEqual([true, true, true]);
  expect(await ask("quinn", questions, "bob@beta.test")).toEqual([false, false, false]);
  // Afterwards one is oneself again.
  const [row] = await crm.db.as("acme", "quinn@acme.test", async (client) => {
    await client.query("begin");
    await client.query("select access.allows_each('acme', $1, 'ann@acme.test')", [JSON.stringify(questions)]);
    return (await client.query(`select count(*)::int as n from acme_crm.posts_flat_kind`)).rows;
  });
  expect(row.n).toBe(0);
  // Nor whether somebody has an account at all.
  for (const account of ["ann@acme.test", "quinn@acme.test", "ghost@acme.test"]) {
    const explain = await send(`acme/access/explain?account=${account}&entity=${posts}&action=read`, {
      as: "pat",
    });
    expect([
      explain.status,
      (await send(`acme/access/what-can?account=${account}`, { as: "pat" })).status,
    ]).toEqual([403, 403]);
    const refused = await send("acme/access/allows", {
      method: "POST",
      as: "pat",
      body: { questions, account },
    });
    expect([refused.status, refused.json.code]).toEqual([403, "forbidden"]);
  }
});

test("other sites are not told of, whatever the token", async () => {
  const questions = [{ entity: "crm/contacts", action: "read" }];
  const body = { questions };
  expect((await send("acme/access/allows", { method: "POST", as: "bob", body })).status).toBe(404);
  expect((await send("beta/access/allows", { method: "POST", as: "ann", body })).status).toBe(404);
  expect((await send("acme/access/allows", { method: "POST", as: null, body })).status).toBe(401);
  const there = await send("acme/access/allows?entity=crm/contacts&action=read", { as: "eve" });
  const here = await send("beta/access/allows?entity=crm/contacts&action=read", { as: "eve" });
  expect([there.json, here.json]).toEqual([
    { entity: "crm/contacts", action: "read", allowed: true },
    { entity: "crm/contacts", action: "read", allowed: true },
  ]);
  const told = await refusal(
    crm.db.as("acme", "pat@acme.test", (c) => c.query("select access.answer_questions('beta', '[]', null)")),
  );
  expect(told.code).toBe("42501");
});

test("an app that is public answers nobody in particular", async () => {
  const query = `{ accessAnswers(questions: [{ entity: "posts_flat_kind", action: "read" }, { entity: "posts_flat_kind", action: "delete" }]) { allowed } }`;
  const asked = () => send("acme/apps/crm/graphql", { method: "POST", as: null, body: { query } });
  expect((await asked()).status).toBe(401);
  await run("select access.grant_permission('acme', 'anonymous', $1)", [`${posts}:read`]);
  expect((await asked()).json.data).toEqual({ accessAnswers: [{ allowed: true }, { allowed: false }] });
  const other = await send("acme/apps/crm/graphql", {
    method: "POST",
    as: null,
    body: { query: query.replace("posts_flat_kind", "contacts") },
  });
  expect(JSON.stringify(other.json)).toContain('"status":401');
  await run("select access.revoke_permission('acme', 'anonymous', $1)", [`${posts}:read`]);
});

const good = { entity: posts, action: "read" };
test.each<[string, unknown, number]>([
  ["no questions", {}, 400],
  ["not a list", { questions: good }, 400],
  ["an empty list", { questions: [] }, 200],
  ["200", { questions: Array(200).fill(good) }, 200],
  ["201", { questions: Array(201).fill(good) }, 400],
  ["a text", { questions: ["read"] }, 400],
  ["null", { questions: [null] }, 400],
  ["no action", { questions: [{ entity: posts }] }, 400],
  ["another action", { questions: [{ ...good, action: "fly" }] }, 400],
  ["an id that is none", { questions: [{ ...good, id: "'; drop table access.roles; --" }] }, 400],
  ["an id that is a number", { questions: [{ ...good, id: 7 }] }, 400],
  ["more than it asks", { questions: [{ ...good, sql: "$body$" }] }, 400],
  ["another member", { questions: [good], site: "beta" }, 400],
  ["an entity that is not there", { questions: [good, { entity: "crm/ghosts", action: "read" }] }, 404],
  ["another site's entity by its path", { questions: [{ ...good, entity: "beta/crm/contacts" }] }, 400],
  ["a path that climbs", { questions: [{ ...good, entity: "../beta/crm/contacts" }] }, 400],
  ["%1$I", { questions: [{ ...good, entity: "%1$I/$body$'" }] }, 404],
  ["an account that is not there", { questions: [good], account: "ghost@acme.test" }, 404],
])("%s: answered or refused, and nothing else happens", async (_what, body, status) => {
  const answer = await send("acme/access/allows", { method: "POST", as: "quinn", body });
  expect(answer.status).toBe(status);
  if (status === 200) expect(answer.json.data).toHaveLength((body as { questions: [] }).questions.length);
});

test("an entity called like the query keeps its name", async () => {
  await run(
    'select data.define_entity(\'acme/shop\', \'access_answers\', \'{"type": "object", "properties": {"n": {"type": "integer"}}}\')',
  );
  await run("select data.insert('acme/shop/access_answers', '{\"n\": 7}')");
  const answer = await send("acme/apps/shop/graphql", {
    method: "POST",
    body: { query: "{ accessAnswers { nodes { n } } }" },
  });
  expect(answer.json.data).toEqual({ accessAnswers: { nodes: [{ n: "7" }] } });
  expect((await send("acme/apps/shop/access_answers", { as: "ann" })).status).toBe(200);
  expect((await crm.send(`${base}/posts_flat_kind`)).status).toBe(200);
});
