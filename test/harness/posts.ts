import { type Call, type Crm, sendTo, startCrm } from "./crm.ts";
import { madeSites } from "./crm-sites.ts";
import { madeOnce, type TestDatabase } from "./database.ts";
import { startGateway } from "./gateway.ts";
import { makeRoleless } from "./roleless.ts";

// acme's blog in both storages: posts of two authors in two regions.

export const storages = ["jsonb", "flat"] as const;
export const pat = "pat@acme.test";
/** An id that no record has. */
export const nowhere = "01900000-0000-7000-8000-000000000000";

const posts = {
  type: "object",
  required: ["title"],
  properties: {
    title: { type: "string" },
    region: { type: "string", "x-index": true },
    status: { type: "string" },
    score: { type: "integer" },
  },
};

const entity = (storage: string) => `posts_${storage}_kind`;

async function makePosts(db: TestDatabase): Promise<void> {
  await makeRoleless(db, [pat, "quinn@acme.test"]);
  await db.query("select access.create_role('acme', 'writer', '{crm/*:read,crm/*:create}')");
  for (const storage of storages) {
    await db.query("select data.define_entity('acme/crm', $1, $2)", [
      entity(storage),
      { ...posts, "x-storage": storage },
    ]);
    for (const [email, titles] of [
      ["ann@acme.test", ["a1 north draft 1", "a2 south published 2"]],
      ["pat@acme.test", ["p1 north published 3", "p2 south draft 4"]],
    ] as const) {
      await db.query("select access.assign_role('acme', $1, 'writer')", [email]);
      await db.as("acme", email, (client) =>
        client.query("select data.insert($1, $2)", [
          `acme/crm/${entity(storage)}`,
          JSON.stringify(
            titles.map((text) => {
              const [title, region, status, score] = text.split(" ");
              return { title, region, status, score: Number(score) };
            }),
          ),
        ]),
      );
      await db.query("select access.revoke_role('acme', $1, 'writer')", [email]);
    }
  }
}

/** A crm whose app crm also has posts_jsonb_kind and posts_flat_kind, written by ann (editor) and pat (author). */
export async function startPosts(): Promise<Crm & { entity(storage: string): string }> {
  return { ...(await startCrm(await madeOnce("posts", makePosts, await madeSites()))), entity };
}

/** The same with pat, who may do everything with what is in the north, and a gateway with GraphQL. */
export async function startNorth() {
  const crm = await startPosts();
  const gateway = await startGateway(crm.db, {}, 5, true);
  crm.tokens.pat = await gateway.token("pat@acme.test", "acme");
  await crm.db.query(`select access.define_role('acme', '{"name": "north", "permissions": [{"permission": "crm/*:*", "condition": {"region": "north"}}]}'),
    access.assign_role('acme', 'pat@acme.test', 'north')`);
  return {
    crm,
    gateway,
    run: (sql: string, values: unknown[] = []) => crm.db.query(sql, values),
    /** What pat is told over REST or GraphQL. */
    send: (path: string, call: Call = {}) =>
      sendTo(gateway, crm.tokens, `/api/v1/sites/acme/${path}`, { as: "pat", ...call }),
    /** What pat is told in psql: rows, or the error. */
    told: (sql: string, values: unknown[] = []) =>
      crm.db.as("acme", pat, (client) =>
        client.query(sql, values).then(
          ({ rows }): unknown => rows,
          ({ code, message, detail, hint }) => ({ code, message, detail, hint }),
        ),
      ),
    async stop() {
      await gateway.stop();
      await crm.stop();
    },
  };
}
