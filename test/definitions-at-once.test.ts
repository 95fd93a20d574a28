import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { PoolClient } from "pg";
import { type Crm, startCrm } from "./harness/crm.ts";

// Transactions that define entities, roles and policies, in whatever order and at once: each ends, and what ended well is there.

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const schema = (more: object = {}) => ({
  type: "object",
  properties: { title: { type: "string" }, region: { type: "string" } },
  ...more,
});
type Step = (client: PoolClient) => Promise<unknown>;
const define =
  (app: string, name: string, more?: object): Step =>
  (c) =>
    c.query("select data.define_entity($1, $2, $3)", [`acme/${app}`, name, schema(more)]);
const policy =
  (name: string, entities: string[]): Step =>
  (c) =>
    c.query("select access.define_policy('acme', $1)", [
      { name, effect: "deny", entities, condition: { region: "south" } },
    ]);
const role =
  (name: string, permission: string): Step =>
  (c) =>
    c.query("select access.define_role('acme', $1)", [
      { name, permissions: [{ permission, condition: { name: "Ada" } }] },
    ]);
const drop =
  (app: string, name: string): Step =>
  (c) =>
    c.query("select data.drop_entity($1, $2)", [`acme/${app}/${name}`, name]);
const insert =
  (app: string, name: string): Step =>
  (c) =>
    c.query("select data.insert($1, $2)", [`acme/${app}/${name}`, { title: "x", region: "north" }]);

/** Runs steps in one transaction; after the first, waits until every other has done its first. Null, or how it failed. */
async function transaction(steps: Step[], together: () => Promise<void>) {
  const client = await crm.db.pool.connect();
  try {
    await client.query("begin");
    for (const [n, step] of steps.entries()) {
      await step(client);
      if (n === 0) await together();
    }
    await client.query("commit");
    return null;
  } catch (error) {
    await client.query("rollback");
    return error as { code: string; message: string; hint: string };
  } finally {
    client.release();
  }
}
/** Runs transactions at once; each waits, but not for ever, for the others to have begun. */
async function atOnce(...all: Step[][]) {
  let begun = 0;
  const together = async () => {
    begun++;
    for (let n = 0; begun < all.length && n < 20; n++) await new Promise((done) => setTimeout(done, 20));
  };
  return Promise.all(all.map((steps) => transaction(steps, together)));
}
const defined = async () => ({
  entities: (await run("select name from data.entities where name ~ '^(one|two|both)' order by name")).map(
    (row) => row.name,
  ),
  policies: (await run("select name from access.policies where name ~ '^(one|two)' order by name")).map(
    (row) => row.name,
  ),
});
const clean = async () => {
  await run("select access.drop_policy('acme', p.name) from access.policies p where p.name ~ '^(one|two)'");
  await run("select access.drop_role('acme', r.name) from access.roles r where r.name ~ '^(one|two)'");
  for (const row of await run(
    "select a.name as app, e.name from data.entities e join tenancy.apps a on a.id = e.app_id where e.name ~ '^(one|two|both)'",
  ))
    await run("select data.drop_entity('acme/' || $1 || '/' || $2, $2)", [row.app, row.name]);
};

test.each<[string, Step[], Step[]]>([
  [
    "an entity, then a policy; the same in another app",
    [define("crm", "one"), policy("one", ["crm/one"])],
    [define("shop", "two"), policy("two", ["shop/two"])],
  ],
  [
    "an entity, then a policy; a policy, then an entity",
    [define("crm", "one"), policy("one", ["*"])],
    [policy("two", ["crm/*"]), define("crm", "two")],
  ],
  [
    "entities of two apps, crosswise",
    [define("crm", "one"), define("shop", "one"), policy("one", ["*"])],
    [define("shop", "two"), define("crm", "two"), policy("two", ["*"])],
  ],
  [
    "roles and entities, crosswise",
    [role("one", "crm/contacts:read"), define("crm", "one")],
    [define("crm", "two"), role("two", "crm/contacts:read")],
  ],
])("%s", async (_what, one, two) => {
  await clean();
  await Promise.all(
    [define("crm", "both"), define("shop", "both")].map((step) => transaction([step], async () => {})),
  );
  expect(await atOnce(one, two)).toEqual([null, null]);
  const { entities } = await defined();
  expect(entities).toEqual(expect.arrayContaining(["one", "two"]));
});

test("an entity that is dropped, while a policy about it is defined", async () => {
  await clean();
  await transaction([define("crm", "one")], async () => {});
  expect(
    await atOnce(
      [drop("crm", "one"), policy("one", ["crm/*"])],
      [policy("two", ["crm/*"]), define("crm", "two")],
    ),
  ).toEqual([null, null]);
  expect(await defined()).toEqual({ entities: ["two"], policies: ["one", "two"] });
});

test("who holds records that the other needs is told, or waits; nothing is kept by halves", async () => {
  await clean();
  await transaction([define("crm", "one")], async () => {});
  const results = await atOnce(
    [insert("crm", "one"), policy("one", ["crm/one"]), define("crm", "both")],
    [define("shop", "two"), define("crm", "one", { description: "changed" }), policy("two", ["crm/one"])],
  );
  for (const result of results)
    if (result) {
      expect(result.code).toBe("RH503");
      expect(result.hint).toMatch(/[Tt]ry/);
    }
  expect(results.filter((result) => result === null).length).toBeGreaterThan(0);
  const { policies } = await defined();
  expect(policies).toEqual(["one", "two"].filter((_, n) => results[n] === null));
});

test("eight at once", async () => {
  await clean();
  const shuffled = <T>(list: T[]) => [...list].sort(() => Math.random() - 0.5);
  const results = await Promise.all(
    Array.from({ length: 8 }, (_, n) =>
      transaction(
        shuffled([
          define("crm", `one${n}`),
          define("shop", `one${n}`),
          policy(`one${n}`, ["*"]),
          role(`one${n}`, "crm/contacts:read"),
        ]),
        async () => {},
      ),
    ),
  );
  expect(results).toEqual(Array(8).fill(null));
  const { entities, policies } = await defined();
  expect([entities.length, policies.length]).toEqual([16, 8]);
});

test("who set a limit to waiting is told who to wait for", async () => {
  const holder = await crm.db.pool.connect();
  try {
    await holder.query("begin");
    await define("crm", "two")(holder);
    const refused = await transaction(
      [(c) => c.query("set local lock_timeout = '100ms'"), policy("two", ["*"])],
      async () => {},
    );
    expect(refused).toMatchObject({
      code: "RH503",
      message: expect.stringMatching(/Somebody else is defining/),
    });
  } finally {
    await holder.query("rollback");
    holder.release();
  }
});
