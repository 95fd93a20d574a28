import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { to as copyTo } from "pg-copy-streams";
import { type Answer, type Call, type Crm, sendTo } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";
import { startPosts } from "./harness/posts.ts";

// What another site shares is read over REST and GraphQL as one's own records are, and nothing beyond it.

let crm: Crm;
let gateway: TestGateway;
const given = "/api/v1/sites/acme/access/shares";
const received = "/api/v1/sites/beta/access/received-shares";
const app = "/api/v1/sites/beta/apps/crm";
const posts = `${app}/received-shares/acme_posts`;
const send = (path: string, call?: Call): Promise<Answer> =>
  sendTo(gateway, crm.tokens, path, { as: "rita", ...call });
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const json = (value: unknown) => encodeURIComponent(JSON.stringify(value));
const titles = (answer: Answer) => answer.json.data.map((row) => row.title);
const definition = {
  entity: "crm/letters",
  role: "partner",
  condition: { status: "sent" },
  fields: ["title", "region", "phone", "created_at", "pages"],
  masked: { phone: "last_four" },
};
const share = (more: object = {}, call: Call = {}) =>
  send(`${given}/beta/acme_posts`, { method: "PUT", as: "boss", body: { ...definition, ...more }, ...call });
const accept = (as = "chief") => send(`${received}/acme_posts`, { method: "PUT", as });

beforeAll(async () => {
  crm = await startPosts();
  gateway = await startGateway(crm.db, {}, 5, true);
  const people = "boss@acme.test rita@beta.test chief@beta.test rob@beta.test gus@gamma.test".split(" ");
  for (const email of people) await crm.db.account(email);
  await run(`select tenancy.add_member('acme', 'boss@acme.test', 'viewer'), tenancy.set_member_role('acme', 'boss@acme.test', 'owner'),
    tenancy.add_member('beta', 'chief@beta.test', 'admin'), tenancy.set_member_role('beta', 'chief@beta.test', 'owner'),
    access.create_role('beta', 'partner', '{}'), tenancy.add_member('beta', 'rita@beta.test', 'partner'),
    tenancy.add_member('beta', 'rob@beta.test', 'viewer')`);
  await run("select tenancy.create_site('acme', 'gamma'), tenancy.create_app('gamma', 'crm')");
  await run(
    "select tenancy.add_member('gamma', 'gus@gamma.test', 'admin'), access.create_role('gamma', 'partner', '{}')",
  );
  await run("select tenancy.create_app('beta', 'other')");
  await run("select data.define_entity('acme/crm', 'letters', $1)", [
    {
      type: "object",
      "x-audit": { reads: true },
      properties: {
        title: { type: "string" },
        region: { type: "string", "x-index": true },
        status: { type: "string" },
        phone: { type: "string", "x-pii": true, "x-index": true },
        pages: { type: "integer" },
        secret: { type: "string" },
        company_id: { type: "string", format: "uuid", "x-relation": { entity: "companies", field: "id" } },
      },
    },
  ]);
  await run("select data.insert('acme/crm/letters', $1)", [
    JSON.stringify(
      ["a north sent 1", "b south sent 2", "c north sent 3", "d north draft 4"].map((text, n) => {
        const [title, region, status, pages] = text.split(" ");
        const company_id = crm.ids.company;
        return {
          title,
          region,
          status,
          pages: Number(pages),
          phone: `+47 555 000${n}`,
          secret: "hush",
          company_id,
        };
      }),
    ),
  ]);
  for (const [name, email, site] of [
    ["boss", "boss@acme.test", "acme"],
    ["rita", "rita@beta.test", "beta"],
    ["chief", "chief@beta.test", "beta"],
    ["rob", "rob@beta.test", "beta"],
    ["gus", "gus@gamma.test", "gamma"],
  ] as const)
    crm.tokens[name] = await gateway.token(email, site);
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});
beforeEach(() => run("delete from access.shares"));

describe("giving and receiving over REST", () => {
  test("a share is given, waits for the other organization, is accepted, listed, changed and revoked", async () => {
    const made = await share();
    expect([made.status, made.json]).toMatchObject([
      200,
      {
        direction: "given",
        to_site: "beta",
        name: "acme_posts",
        state: "waiting",
        masked: definition.masked,
      },
    ]);
    expect((await send(posts)).status).toBe(404);
    const listed = await send("/api/v1/sites/beta/access/shares", { as: "chief" });
    expect(listed.json.data).toMatchObject([{ direction: "received", site: "acme", state: "waiting" }]);
    expect(listed.text).not.toMatch(/condition|letters/);
    expect((await accept()).json).toEqual({ view: "beta_shared.acme_posts" });
    expect(titles(await send(posts))).toEqual(["c", "b", "a"]);
    expect((await send(`${given}/beta/acme_posts`, { as: "boss" })).json).toMatchObject({ state: "open" });
    expect((await share({ condition: { region: "south", status: "sent" } })).status).toBe(200);
    expect(titles(await send(posts))).toEqual(["b"]);
    expect((await send(`${app}/received-shares`)).json.data).toMatchObject([
      { name: "acme_posts", site: "acme", view: "beta_shared.acme_posts", masked: definition.masked },
    ]);
    expect((await send(`${given}/beta/acme_posts`, { method: "DELETE", as: "boss" })).status).toBe(204);
    expect((await send(posts)).status).toBe(404);
    expect((await send(`${app}/received-shares`)).json.data).toEqual([]);
  });

  test("within an organization it holds at once, and the receiver may decline", async () => {
    const path = `${given}/gamma/letters`;
    expect((await send(path, { method: "PUT", as: "boss", body: definition })).json).toMatchObject({
      state: "open",
    });
    const gus = "/api/v1/sites/gamma/apps/crm/received-shares/letters";
    await run("select access.assign_role('gamma', 'gus@gamma.test', 'partner')");
    expect(titles(await send(gus, { as: "gus" }))).toHaveLength(3);
    await run("select tenancy.set_member_role('gamma', 'gus@gamma.test', 'owner')");
    const decline = "/api/v1/sites/gamma/access/received-shares/letters";
    expect((await send(decline, { method: "DELETE", as: "gus" })).status).toBe(204);
    expect((await send(gus, { as: "gus" })).status).toBe(404);
    expect((await send(path, { as: "boss" })).status).toBe(404);
  });

  test.each<[what: string, ask: () => Promise<Answer>, status: number, code: string]>([
    [
      "giving as a viewer of one's own site",
      () => share({}, { as: "vic" } as Call).then(() => share({}, { as: "vic" })),
      403,
      "forbidden",
    ],
    ["giving what is another site's", () => share({}, { as: "chief" }), 404, "not_found"],
    ["accepting without the right", () => share().then(() => accept("rita")), 403, "forbidden"],
    ["accepting another site's share", () => share().then(() => accept("boss")), 404, "not_found"],
    [
      "accepting what is not there",
      () => send(`${received}/ghost`, { method: "PUT", as: "chief" }),
      404,
      "not_found",
    ],
    [
      "revoking as the receiver by the giver's door",
      () =>
        share().then(() =>
          send("/api/v1/sites/beta/access/shares/beta/acme_posts", { method: "DELETE", as: "chief" }),
        ),
      404,
      "not_found",
    ],
    ["a body that is none", () => share({ fields: "title" }), 400, "invalid_body"],
    ["an unknown member", () => share({ writable: true }), 400, "invalid_body"],
    ["a field that is not there", () => share({ fields: ["ghost"] }), 400, "invalid_share"],
    ["a mask that is none", () => share({ masked: { phone: "';drop" } }), 400, "invalid_share"],
    [
      "re-sharing what was received",
      () =>
        share()
          .then(() => accept())
          .then(() =>
            send("/api/v1/sites/beta/access/shares/acme/back", {
              method: "PUT",
              as: "chief",
              body: { entity: "crm/acme_posts", role: "viewer" },
            }),
          ),
      404,
      "not_found",
    ],
    [
      "re-sharing it by its view",
      () =>
        send("/api/v1/sites/beta/access/shares/acme/back", {
          method: "PUT",
          as: "chief",
          body: { entity: "received-shares/acme_posts", role: "viewer" },
        }),
      404,
      "not_found",
    ],
  ])("refused: %s", async (_what, ask, status, code) => {
    expect(await ask()).toMatchObject({ status, json: { code } });
  });

  test("who has @shares:define gives no more than they see themselves", async () => {
    await run(
      "select access.define_role('acme', $1), access.define_role('acme', $2), access.define_role('acme', $3)",
      [
        { name: "sharer", permissions: ["@shares:define"] },
        {
          name: "north",
          permissions: [{ permission: "crm/letters:read", condition: { region: "north" } }],
        },
        { name: "reader", permissions: ["crm/letters:read"] },
      ],
    );
    await crm.db.account("sam@acme.test");
    await run(
      "select tenancy.add_member('acme', 'sam@acme.test', 'sharer'), access.assign_role('acme', 'sam@acme.test', 'north')",
    );
    crm.tokens.sam = await gateway.token("sam@acme.test", "acme");
    const bare = { masked: {}, fields: ["title", "region"] };
    expect(await share(bare, { as: "sam" })).toMatchObject({ status: 403, json: { code: "forbidden" } });
    await run("select access.assign_role('acme', 'sam@acme.test', 'reader')");
    expect(await share({ ...bare, fields: ["title", "phone"] }, { as: "sam" })).toMatchObject({
      status: 403,
      text: expect.stringContaining("phone"),
    });
    expect((await share(bare, { as: "sam" })).status).toBe(200);
    await run("select access.define_policy('acme', $1)", [
      {
        name: "no_north",
        effect: "deny",
        entities: ["crm/letters"],
        actions: ["read"],
        condition: { region: "north", "$account.email": "sam@acme.test" },
      },
    ]);
    expect((await share(bare, { as: "sam" })).status).toBe(403);
    await run("select access.drop_policy('acme', 'no_north')");
  });
});

describe("reading over REST", () => {
  beforeEach(async () => {
    await share();
    await accept();
  });

  test.each<[query: string, expected: string[]]>([
    ["", ["c", "b", "a"]],
    ["sort=title", ["a", "b", "c"]],
    ["sort=-pages&limit=1", ["c"]],
    ["sort=title&limit=1&page=2", ["b"]],
    [`filter=${json({ region: "north" })}&sort=pages`, ["a", "c"]],
    [`filter=${json({ $or: [{ pages: { $gte: 3 } }, { title: { $like: "a%" } }] })}`, ["c", "a"]],
    [`filter=${json({ pages: { $in: [2, 4] } })}`, ["b"]],
    [`filter=${json({ $not: { region: "north" } })}`, ["b"]],
    [`filter=${json({ title: "d" })}`, []],
  ])("a list: %s", async (query, expected) => {
    const answer = await send(`${posts}?${query}`);
    expect([answer.status, titles(answer)]).toEqual([200, expected]);
  });

  test("fields, masks, counts, cursors, one record, aggregates and ETags", async () => {
    const list = await send(`${posts}?sort=title&limit=2&count=exact`);
    expect(list.json.data[0]).toEqual({
      id: expect.any(String),
      title: "a",
      region: "north",
      phone: "****0000",
      created_at: expect.any(String),
      pages: 1,
    });
    expect(list.json.meta).toMatchObject({ limit: 2, count: 3, next_cursor: expect.any(String) });
    const next = await send(`${posts}?sort=title&limit=2&cursor=${list.json.meta.next_cursor}`);
    expect(titles(next)).toEqual(["c"]);
    expect((await send(`${posts}?select=title&count=estimated&sort=title`)).json).toMatchObject({
      data: [{ title: "a" }, { title: "b" }, { title: "c" }],
      meta: { count: 3 },
    });
    const id = list.json.data[0]?.id;
    const one = await send(`${posts}/${id}?select=title,phone`);
    expect([one.status, one.json]).toEqual([200, { title: "a", phone: "****0000" }]);
    const again = await send(`${posts}/${id}?select=title,phone`, {
      headers: { "if-none-match": String(one.headers.etag) },
    });
    expect(again.status).toBe(304);
    const sums = await send(`${posts}/aggregate?group=region&aggregate=count,sum(pages)&sort=region`);
    expect(sums.json.data).toEqual([
      { region: "north", count: 2, sum_pages: 4 },
      { region: "south", count: 1, sum_pages: 2 },
    ]);
    const [draft] = await run("select id from acme_crm.letters where title = 'd'");
    expect((await send(`${posts}/${draft?.id}`)).status).toBe(404);
    expect((await send(posts, { method: "HEAD" })).status).toBe(200);
  });

  test.each<[what: string, path: () => string, status: number, code: string]>([
    ["filtering by what is not shared", () => `?filter=${json({ secret: "hush" })}`, 400, "unknown_field"],
    [
      "the same, deep",
      () => `?filter=${json({ $or: [{ $not: { $and: [{ status: "x" }] } }] })}`,
      400,
      "unknown_field",
    ],
    ["sorting by it", () => "?sort=secret", 400, "unknown_field"],
    ["selecting it", () => "?select=title,secret", 400, "unknown_field"],
    ["grouping by it", () => "/aggregate?group=secret", 400, "unknown_field"],
    ["computing of it", () => "/aggregate?aggregate=max(secret)", 400, "unknown_field"],
    ["who made it", () => "?select=created_by", 400, "unknown_field"],
    ["following a relation", () => `?filter=${json({ "company.name": "Oslo Works" })}`, 400, "unknown_field"],
    [
      "following it by $some",
      () => `?filter=${json({ company: { name: "Oslo Works" } })}`,
      400,
      "unknown_field",
    ],
    ["sorting along it", () => "?sort=company.name", 400, "unknown_field"],
    ["selecting along it", () => "?select=company.name", 400, "unknown_field"],
    ["expanding it", () => "?expand=company", 400, "invalid_query"],
    ["deleted ones", () => "?deleted=only", 400, "invalid_query"],
    ["former states", () => "?as_of=2020-01-01T00:00:00Z", 400, "invalid_query"],
    ["a search of what is not searched", () => "?q=a", 400, "not_searchable"],
    ["filtering by a mask", () => `?filter=${json({ phone: "+47 555 0000" })}`, 403, "field_not_seen"],
    ["sorting by a mask", () => "?sort=phone", 403, "field_not_seen"],
    ["grouping by a mask", () => "/aggregate?group=phone", 403, "field_not_seen"],
    ["computing of a mask", () => "/aggregate?aggregate=min(phone)", 403, "field_not_seen"],
    ["an injection", () => `?filter=${json({ "title') or true --": 1 })}`, 400, "unknown_field"],
    ["a member of our own", () => "?_share=x", 400, "unknown_parameter"],
    ["a path into text", () => "?sort=title.x", 400, "unknown_field"],
  ])("refused: %s", async (_what, path, status, code) => {
    const answer = await send(`${posts}${path()}`);
    expect([answer.status, answer.json.code]).toEqual([status, code]);
    expect(answer.text).not.toMatch(/hush|\bstatus, |company_id/);
  });

  test.each<[query: string, expected: string]>([
    [
      "select=title,phone&sort=title",
      '[{"title":"a","phone":"****0000"}\n,{"title":"b","phone":"****0001"}\n,{"title":"c","phone":"****0002"}\n]\n',
    ],
    [
      "format=csv&select=title,phone,pages&sort=-title",
      "title,phone,pages\r\nc,****0002,3\r\nb,****0001,2\r\na,****0000,1\r\n",
    ],
    [`format=ndjson&select=title&filter=${json({ region: "south" })}`, '{"title":"b"}\n'],
    [`format=ndjson&filter=${json({ title: "d" })}`, ""],
  ])("an export, which is in the giver's log: %s", async (query, expected) => {
    const answer = await send(`${posts}/export?${query}`);
    expect([answer.status, answer.text]).toEqual([200, expected]);
    const [entry] = await run(
      `select entry->'new' as new, entry->>'account' as account, (select jsonb_agg(title order by title) from acme_crm.letters l
         where l.id::text in (select jsonb_array_elements_text(entry #> '{new,records}'))) as titles
       from jsonb_array_elements(audit.search('acme', '{"object": "acme/crm/letters", "action": "seen"}')->'data') entry limit 1`,
    );
    if (expected !== "")
      expect(entry).toMatchObject({
        account: "rita@beta.test",
        new: { of: "export", share: "acme_posts", site: "beta" },
        titles: [...new Set(expected.match(/\b[a-d]\b/g))].sort(),
      });
    expect((await run("select audit.search('beta', '{\"action\": \"seen\"}')->'data' as d"))[0]?.d).toEqual(
      [],
    );
  });

  test("an export has every field that is shared, and no other", async () => {
    const answer = await send(`${posts}/export?format=csv`);
    expect(answer.text.split("\r\n")[0]).toBe("id,title,region,phone,created_at,pages");
    expect(answer.headers["content-disposition"]).toBe('attachment; filename="acme_posts.csv"');
    const sql = "select data.export_statement($1, 'csv', '{\"select\": [\"title\"]}') as sql";
    for (const path of ["crm", "beta/crm", crm.ids["beta/crm"]]) {
      const copied = await crm.db.as("beta", "rita@beta.test", async (client) => {
        const { rows } = await client.query(sql, [`${path}/received-shares/acme_posts`]);
        return text(client.query(copyTo(rows[0].sql)));
      });
      expect(copied.trim().split("\n").sort()).toEqual(["a", "b", "c", "title"]);
    }
    expect((await send(`${posts}/export`, { method: "POST", body: {} })).status).toBe(405);
    for (const as of ["rob", "chief", "boss", "gus"])
      expect((await send(`${posts}/export`, { as })).status).toBe(404);
    expect((await send(`${posts}/export`, { as: null })).status).toBe(401);
    expect((await send(`${app}/received-shares/ghost/export`)).status).toBe(404);
    expect((await send(`${app}/received-shares/acme_posts%2Fx/export`)).status).toBe(404);
    expect(
      (await send(`${app}/received-shares/acme_posts/import`, { method: "POST", body: {} })).status,
    ).toBe(405);
    await send(`${given}/beta/acme_posts`, { method: "DELETE", as: "boss" });
    expect((await send(`${posts}/export`)).status).toBe(404);
  });

  test.each<[what: string, query: string, status: number, code: string]>([
    ["a field that is not shared", "select=title,secret", 400, "unknown_field"],
    ["filtering by it", `filter=${json({ secret: "hush" })}`, 400, "unknown_field"],
    ["sorting by it", "sort=secret", 400, "unknown_field"],
    ["a relation", "select=company.name", 400, "unknown_field"],
    ["filtering along it", `filter=${json({ "company.name": "x" })}`, 400, "unknown_field"],
    ["a mask", "sort=phone", 403, "field_not_seen"],
    ["filtering by a mask", `filter=${json({ phone: "+47 555 0000" })}`, 403, "field_not_seen"],
    ["what an export has not", "limit=1", 400, "invalid_query"],
    ["expand", "expand=company", 400, "invalid_query"],
    ["an injection", "select=title') from acme_crm.letters --", 400, "unknown_field"],
    ["a member of our own", "_share=x", 400, "unknown_parameter"],
  ])("an export refuses %s", async (_what, query, status, code) => {
    for (const format of ["csv", "ndjson"]) {
      const answer = await send(`${posts}/export?format=${format}&${query}`);
      expect([answer.status, answer.json.code]).toEqual([status, code]);
      expect(answer.text).not.toMatch(/hush|company_id/);
    }
  });

  test.each(["POST", "PUT", "PATCH", "DELETE"])("%s is refused", async (method) => {
    expect((await send(posts, method === "DELETE" ? { method } : { method, body: {} })).status).toBe(405);
    expect((await send(`${posts}/0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b`, { method })).status).toBe(405);
  });

  test("nobody without the role reads it, and cannot tell it from one that is not there", async () => {
    const ghost = await send(`${app}/received-shares/ghost`);
    for (const as of ["rob", "chief"]) {
      const answer = await send(posts, { as });
      expect([answer.status, answer.json.code]).toEqual([ghost.status, ghost.json.code]);
      expect((await send(`${app}/received-shares`, { as })).json.data).toEqual([]);
    }
    for (const as of ["boss", "gus"]) expect((await send(posts, { as })).status).toBe(404);
    expect((await send(posts, { as: null })).status).toBe(401);
    const [row] = await run("select id from access.shares");
    expect((await send(`${app}/received-shares/${row?.id}`)).status).toBe(404);
    expect(
      (await send("/api/v1/sites/gamma/apps/crm/received-shares/acme_posts", { as: "gus" })).status,
    ).toBe(404);
  });

  test("a role of an app reads it in that app only, one of the site in each", async () => {
    expect((await send("/api/v1/sites/beta/apps/other/received-shares/acme_posts")).status).toBe(200);
    await run("select access.define_role('beta', $1)", [{ name: "clerk", app: "crm", permissions: [] }]);
    await run("select access.assign_role('beta', 'rita@beta.test', 'crm/clerk')");
    await share({ role: "crm/clerk" });
    expect((await send(posts)).status).toBe(404); // another role, so accepted anew
    await accept();
    expect((await send(posts)).status).toBe(200);
    expect((await send("/api/v1/sites/beta/apps/other/received-shares/acme_posts")).status).toBe(404);
    await run("select access.drop_role('beta', 'crm/clerk')");
    expect((await send(posts)).status).toBe(404);
  });

  test("it follows its entity: a field that is dropped, the entity's end", async () => {
    await run("select data.define_entity('acme/crm', 'memos', $1)", [
      { type: "object", properties: { title: { type: "string" }, note: { type: "string" } } },
    ]);
    await run(`select data.insert('acme/crm/memos', '{"title": "t", "note": "n"}')`);
    await run("select access.share('acme/crm/memos', 'beta', 'partner', name => 'memos')");
    await run("select access.accept_share('beta', 'memos')");
    const memos = `${app}/received-shares/memos`;
    expect((await send(`${memos}?select=title,note`)).json.data).toEqual([{ title: "t", note: "n" }]);
    const [plan] = await run("select data.plan('acme/crm/memos', $1)->>'plan' as id", [
      { type: "object", properties: { title: { type: "string" } } },
    ]);
    await run("select data.apply($1, true)", [plan?.id]);
    expect((await send(`${memos}?select=note`)).json).toMatchObject({ code: "unknown_field" });
    expect((await send(memos)).status).toBe(200);
    expect((await send(memos)).text).not.toContain('"note"');
    await run("select data.drop_entity('acme/crm/memos', 'memos')");
    expect((await send(memos)).status).toBe(404);
  });

  test("the receiving app's OpenAPI knows it, for those who read it", async () => {
    const document = (await send(`${app}/openapi.json`)).json as unknown as {
      paths: Record<string, object>;
      components: { schemas: Record<string, { properties: object }> };
    };
    const paths = Object.keys(document.paths).filter((path) => path.includes("received-shares"));
    expect(paths.sort()).toEqual([
      "/received-shares/acme_posts",
      "/received-shares/acme_posts/aggregate",
      "/received-shares/acme_posts/export",
      "/received-shares/acme_posts/{id}",
    ]);
    const { properties } = document.components.schemas["received-shares.acme_posts"] ?? {};
    expect(Object.keys(properties ?? {}).sort()).toEqual(
      ["created_at", "id", "pages", "phone", "region", "title"].sort(),
    );
    expect(properties).toMatchObject({ pages: { type: ["integer", "null"] } });
    expect((await send(`${app}/openapi.json`, { as: "rob" })).text).not.toContain("acme_posts");
  });

  test("a selective filter uses its index, as the receiving site's role", async () => {
    await run("select data.define_entity('acme/crm', 'many', $1)", [
      {
        type: "object",
        properties: { code: { type: "string", "x-index": true }, note: { type: "string" } },
      },
    ]);
    await run(
      `select data.insert('acme/crm/many', (select jsonb_agg(jsonb_build_object('code', 'c' || n, 'note', 'x')) from generate_series(1, 10000) n), false)`,
    );
    await run("select access.share('acme/crm/many', 'beta', 'partner', name => 'many')");
    await run("select access.accept_share('beta', 'many')");
    await run("analyze");
    const plan = await crm.db.as("beta", "rita@beta.test", async (client) => {
      const { rows } = await client.query("explain select * from beta_shared.many where code = 'c77'");
      return rows.map((row) => row["QUERY PLAN"]).join("\n");
    });
    expect(plan).toMatch(/Index Scan.*code/);
    const compiled = await crm.db.as("beta", "rita@beta.test", async (client) => {
      const { rows } = await client.query<{ sql: string }>(
        `select data.compile('crm', 'received-shares/many', 'find', '{"filter": {"code": {"$param": 1}}}')->>'sql' as sql`,
      );
      const explained = await client.query(`explain ${rows[0]?.sql.replaceAll("$1::text", "'c77'")}`);
      return explained.rows.map((row) => row["QUERY PLAN"]).join("\n");
    });
    expect(compiled).toMatch(/Index Scan.*code/);
    expect(
      (await send(`${app}/received-shares/many?filter=${json({ code: "c77" })}`)).json.data,
    ).toHaveLength(1);
  });

  describe("a search of it", () => {
    const memos = `${app}/received-shares/memos`;
    const define = (more: object = {}) =>
      run("select data.define_entity('acme/crm', 'searched', $1)", [
        {
          type: "object",
          "x-audit": { reads: true },
          properties: {
            title: { type: "string", "x-search": { weight: "A" } },
            text: { type: "string", "x-search": true },
            kind: { type: "string" },
            secret: { type: "string" },
            ...more,
          },
        },
      ]);
    const give = async (fields = "title,text", masked = "{}") => {
      await run(
        "select access.share('acme/crm/searched', 'beta', 'partner', '{\"kind\": \"open\"}', $1, masked => $2, name => 'memos')",
        [`{${fields}}`, masked],
      );
      await run("select access.accept_share('beta', 'memos')");
    };
    beforeAll(async () => {
      await define();
      await run("select data.insert('acme/crm/searched', $1)", [
        JSON.stringify([
          { title: "Winter roads", text: "Snow on the pass", kind: "open", secret: "hush" },
          { title: "Snow", text: "Ploughs", kind: "open", secret: "hush" },
          { title: "Snow ball", text: "Hidden", kind: "closed", secret: "hush" },
        ]),
      ]);
    });

    test("finds what is shared, ranked, with snippets, and is in the giver's log", async () => {
      await give();
      const found = await send(`${memos}?q=snow`);
      expect([found.status, titles(found)]).toEqual([200, ["Snow", "Winter roads"]]);
      expect(found.json.data[0]).toEqual({
        id: expect.any(String),
        title: "Snow",
        text: "Ploughs",
        _rank: expect.any(Number),
        _snippets: { title: "<mark>Snow</mark>" },
      });
      const [entry] = await run(
        `select entry->'new' as new from jsonb_array_elements(audit.search('acme', '{"object": "acme/crm/searched", "action": "seen"}')->'data') entry limit 1`,
      );
      expect(entry?.new).toMatchObject({
        of: "search",
        share: "memos",
        site: "beta",
        records: [found.json.data[0]?.id, expect.any(String)],
      });
      expect(titles(await send(`${memos}?q=sno&select=title&sort=title`))).toEqual(["Snow", "Winter roads"]);
      expect(titles(await send(`${memos}?q=snwo&select=title`))).toEqual([
        ...titles(await send(`${memos}?q=snow&select=title`)),
      ]);
      expect((await send(`${memos}?q=snow&limit=1&count=exact`)).json.meta).toMatchObject({
        count: 2,
        next_cursor: expect.any(String),
      });
      const first = await send(`${memos}?q=snow&limit=1`);
      expect(titles(await send(`${memos}?q=snow&limit=1&cursor=${first.json.meta.next_cursor}`))).toEqual([
        "Winter roads",
      ]);
      for (const q of ["hidden", "ball", "hush", "nothing", "'; drop table x --", "$body$", "%1$I"])
        expect([q, titles(await send(`${memos}?q=${encodeURIComponent(q)}`))]).toEqual([q, []]);
      const { paths } = (await send(`${app}/openapi.json`)).json as unknown as {
        paths: Record<string, object>;
      };
      const takesQ = (path: string) => JSON.stringify(paths[path]).includes('#/components/parameters/q"');
      expect(["memos", "acme_posts"].map((name) => takesQ(`/received-shares/${name}`))).toEqual([
        true,
        false,
      ]);
    });

    test("only by fields that are all shared, and by who reads it", async () => {
      const psql = (email: string, site = "beta") =>
        crm.db.as(site, email, (client) =>
          client.query("select * from beta_shared.memos_search('snow')").then(({ rows }) => rows),
        );
      for (const [fields, masked] of [
        ["title,kind", "{}"],
        ["title,text", '{"text": "redact"}'],
      ] as const) {
        await give(fields, masked);
        const refused = await send(`${memos}?q=snow`);
        expect([refused.status, refused.json.code]).toEqual([400, "not_searchable"]);
        expect(refused.text).not.toContain("secret");
        await expect(psql("rita@beta.test")).rejects.toMatchObject({ code: "42883" });
      }
      await give();
      expect(await psql("rita@beta.test")).toHaveLength(2);
      expect(await psql("rob@beta.test")).toEqual([]);
      await expect(psql("boss@acme.test", "acme")).rejects.toMatchObject({ code: "42501" });
      expect((await send(`${memos}?q=snow`, { as: "rob" })).status).toBe(404);
      expect((await send(`${memos}?q=snow&expand=company`)).json.code).toBe("invalid_query");
      expect((await send(`${memos}/aggregate?q=snow`)).status).toBe(400);
      // A searched field more, which is not shared: from the next statement on there is no search.
      await define({ secret: { type: "string", "x-search": true } });
      expect((await send(`${memos}?q=hush`)).json.code).toBe("not_searchable");
      expect(await psql("rita@beta.test").catch(({ code }) => code)).toMatch(/RH400|42883/);
      await define();
      expect(titles(await send(`${memos}?q=snow&select=title`))).toEqual(["Snow", "Winter roads"]);
      await run("select data.convert_storage('acme/crm/searched', 'flat')").catch(() => {});
      await run("delete from access.shares");
      expect((await send(`${memos}?q=snow`)).status).toBe(404);
      expect(await run("select from pg_proc where proname = 'memos_search'")).toEqual([]);
    });
  });

  describe("a sort by what an index holds reads a page of it", () => {
    const plan = (query: object) =>
      crm.db.as("beta", "rita@beta.test", async (client) => {
        const { rows } = await client.query<{ sql: string }>(
          "select data.compile('crm', 'received-shares/sorted', 'find', $1)->>'sql' as sql",
          [query],
        );
        const explained = await client.query(`explain (analyze, buffers off, timing off) ${rows[0]?.sql}`);
        return explained.rows.map((row) => row["QUERY PLAN"]).join("\n");
      });
    const most = (text: string) =>
      Math.max(...[...text.matchAll(/actual rows=([\d.]+)/g)].map(([, rows]) => Number(rows)));
    const define = (more: object = {}) =>
      run("select data.define_entity('acme/crm', 'sorted', $1)", [
        {
          type: "object",
          properties: {
            code: { type: "string", "x-index": true },
            n: { type: "integer", "x-index": true },
            note: { type: "string", "x-index": true },
            phone: { type: "string", "x-index": true, "x-pii": true },
            ...more,
          },
        },
      ]);
    const give = (more = "") =>
      run(
        `select access.share('acme/crm/sorted', 'beta', 'partner', '{"note": "x"}', '{code,n,note,phone,created_at}', masked => '{"phone": "redact"}', name => 'sorted'${more})`,
      );
    beforeAll(async () => {
      await define();
      await run(
        `select data.insert('acme/crm/sorted', (select jsonb_agg(jsonb_build_object('code', 'c' || lpad(n::text, 5, '0'), 'n', 10000 - n, 'note', case when n % 10 = 0 then 'y' else 'x' end, 'phone', n::text)) from generate_series(1, 10000) n), false)`,
      );
      await run("analyze");
    });
    beforeEach(async () => {
      await give();
      await run("select access.accept_share('beta', 'sorted')");
    });

    test.each<[query: string, shape: object, first: string[]]>([
      ["sort=code&limit=2", { sort: [{ field: "code" }], limit: 2 }, ["c00001", "c00002"]],
      [
        "sort=-code&limit=2",
        { sort: [{ field: "code", direction: "desc" }], limit: 2 },
        ["c09999", "c09998"],
      ],
      ["sort=n&limit=2", { sort: [{ field: "n" }], limit: 2 }, ["c09999", "c09998"]],
      ["limit=3", { limit: 3 }, []],
      [
        `sort=code&limit=2&filter=${json({ n: { $lt: 9000 } })}`,
        { sort: [{ field: "code" }], limit: 2 },
        ["c01001", "c01002"],
      ],
      [
        `sort=code&limit=2&filter=${json({ note: { $like: "x%" } })}`,
        { sort: [{ field: "code" }], limit: 2 },
        ["c00001", "c00002"],
      ],
    ])("%s", async (query, shape, first) => {
      const explained = await plan(shape);
      expect([most(explained) < 200, explained]).toEqual([true, explained]);
      const list = `${app}/received-shares/sorted?${query}`;
      const answer = await send(list);
      const codes = (of: Answer) => of.json.data.map((row) => row.code);
      if (first.length > 0) expect(codes(answer)).toEqual(first);
      expect(answer.json.data.every((row) => row.phone === "***")).toBe(true);
      // Pages follow each other, and a count changes nothing.
      const next = await send(`${list}&cursor=${answer.json.meta.next_cursor}`);
      expect(codes(next).filter((code) => codes(answer).includes(code))).toEqual([]);
      expect(codes(await send(`${list}&count=exact`))).toEqual(codes(answer));
    });

    test("its views show what the share shows, to whom it does, and go with it", async () => {
      const views = () =>
        run(
          "select viewname as name from pg_views where schemaname = 'beta_shared' and viewname like 'sorted\\_\\_%' order by 1",
        );
      const names = (await views()).map(({ name }) => String(name));
      expect(names.length).toBe(10); // code, n, note, created_at and id, both ways; phone is masked
      for (const name of names) {
        const read = (email: string, site: string, sql: string) =>
          crm.db.as(site, email, (client) => client.query(sql).then(({ rows }) => rows));
        expect(
          await read(
            "rita@beta.test",
            "beta",
            `select count(*)::int as n, count(*) filter (where note <> 'x' or phone <> '***')::int as hidden from beta_shared.${name}`,
          ),
        ).toEqual([{ n: 9_000, hidden: 0 }]);
        expect(await read("rob@beta.test", "beta", `select * from beta_shared.${name}`)).toEqual([]);
        await expect(
          read("boss@acme.test", "acme", `select * from beta_shared.${name}`),
        ).rejects.toMatchObject({ code: "42501" });
        await expect(read("rita@beta.test", "beta", `delete from beta_shared.${name}`)).rejects.toThrow();
      }
      await run(
        `select access.share('acme/crm/sorted', 'beta', 'partner', fields => '{n}', name => 'sorted')`,
      );
      expect(await views()).toHaveLength(4);
      expect((await send(`${app}/received-shares/sorted?sort=n&limit=1`)).json.data).toHaveLength(1);
      expect((await send(`${app}/received-shares/sorted?sort=code`)).status).toBe(400);
      await define({ code: { type: "integer", "x-index": true } }).catch(() => {});
      await define({ more: { type: "string" } });
      expect(await views()).toHaveLength(4);
      expect((await send(`${app}/received-shares/sorted?sort=-n&limit=1`)).json.data).toMatchObject([
        { n: 9_999 },
      ]);
      await run("delete from access.shares");
      expect(await views()).toEqual([]);
    });
  });

  test("a revocation waits for no reader", async () => {
    await crm.db.as("beta", "rita@beta.test", async (client) => {
      await client.query("begin");
      expect((await client.query("select * from beta_shared.acme_posts")).rowCount).toBe(3);
      expect((await send(`${given}/beta/acme_posts`, { method: "DELETE", as: "boss" })).status).toBe(204);
      const left = await client.query("select * from beta_shared.acme_posts").catch(() => ({ rowCount: 0 }));
      expect(left.rowCount).toBe(0);
      expect((await send(posts)).status).toBe(404);
      await client.query("rollback");
    });
    // The view that was left there is in nobody's way.
    await share();
    await accept();
    expect((await send(posts)).status).toBe(200);
  });
});

describe("over GraphQL", () => {
  const graphql = (query: string, as = "rita") =>
    send(`${app}/graphql`, { method: "POST", as, body: { query } }).then(
      // biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
      ({ text }) => JSON.parse(text) as { data: any; errors?: { message: string }[] },
    );
  const list = "{ sharedAcmePosts(orderBy: TITLE_ASC) { totalCount nodes { id title phone pages } } }";
  beforeEach(async () => {
    await share();
    await accept();
  });

  test("it is a read-only type of the receiving app", async () => {
    const { data } = await graphql(list);
    expect(data.sharedAcmePosts).toEqual({
      totalCount: 3,
      nodes: ["a", "b", "c"].map((title, n) => ({
        id: expect.any(String),
        title,
        phone: `****000${n}`,
        pages: String(n + 1),
      })),
    });
    const id = data.sharedAcmePosts.nodes[1].id;
    expect((await graphql(`{ sharedAcmePost(id: "${id}") { title } }`)).data).toEqual({
      sharedAcmePost: { title: "b" },
    });
    const found = await graphql(
      '{ sharedAcmePosts(filter: {region: {equalTo: "north"}}, orderBy: PAGES_DESC, first: 1) { nodes { title } pageInfo { hasNextPage } } }',
    );
    expect(found.data.sharedAcmePosts).toEqual({
      nodes: [{ title: "c" }],
      pageInfo: { hasNextPage: true },
    });
  });

  test("with neither writes, nor fields that are not shared, nor filters and orders by a mask", async () => {
    const { data } = await graphql(`{ __schema { mutationType { fields { name } } }
      type: __type(name: "SharedAcmePost") { fields { name } }
      filter: __type(name: "SharedAcmePostFilter") { inputFields { name } }
      order: __type(name: "SharedAcmePostOrderBy") { enumValues { name } } }`);
    const names = (of: { name: string }[]) => of.map(({ name }) => name);
    expect(names(data.__schema.mutationType.fields).filter((name) => /shared/i.test(name))).toEqual([]);
    expect(names(data.type.fields).sort()).toEqual(
      ["createdAt", "id", "nodeId", "pages", "phone", "region", "title"].sort(),
    );
    expect(names(data.filter.inputFields)).not.toContain("phone");
    expect(names(data.filter.inputFields)).toContain("region");
    expect(names(data.order?.enumValues ?? []).filter((name) => /PHONE/.test(name))).toEqual([]);
    for (const query of [
      "{ sharedAcmePosts { nodes { secret } } }",
      '{ sharedAcmePosts(filter: {secret: {equalTo: "hush"}}) { nodes { id } } }',
      '{ sharedAcmePosts(filter: {phone: {equalTo: "x"}}) { nodes { id } } }',
      "{ sharedAcmePosts(orderBy: SECRET_ASC) { nodes { id } } }",
      "{ sharedAcmePosts(groupBy: [PHONE]) { groupedAggregates { keys } } }",
      "{ sharedAcmePosts { aggregates { distinctCount { phone } } } }",
      'mutation { deleteSharedAcmePost(input: {id: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b"}) { clientMutationId } }',
    ])
      expect([query, (await graphql(query)).errors?.length]).toEqual([query, expect.any(Number)]);
  });

  test("who does not hold the role sees nothing in it, and after a revocation it is gone", async () => {
    expect((await graphql(list, "rob")).data.sharedAcmePosts).toEqual({ totalCount: 0, nodes: [] });
    expect((await graphql(list)).data.sharedAcmePosts.totalCount).toBe(3);
    await send(`${given}/beta/acme_posts`, { method: "DELETE", as: "boss" });
    expect((await graphql(list)).errors?.[0]?.message).toMatch(/Cannot query field "sharedAcmePosts"/);
  });

  test("it goes on when the giver has reads recorded from now on, and these are", async () => {
    const define = (more: object) =>
      run("select data.define_entity('acme/crm', 'papers', $1)", [
        { type: "object", ...more, properties: { title: { type: "string" } } },
      ]);
    await define({});
    await run("select access.share('acme/crm/papers', 'beta', 'partner', name => 'papers')");
    await run("select access.accept_share('beta', 'papers')");
    const ask = () => graphql("{ sharedPapers { totalCount } }");
    expect((await ask()).data.sharedPapers.totalCount).toBe(0);
    await define({ "x-audit": { reads: true } });
    expect((await ask()).data.sharedPapers.totalCount).toBe(0);
    expect((await send(`${app}/received-shares/papers`)).status).toBe(200);
    const noted = await run(
      `select entry->>'request' as request from jsonb_array_elements(
        audit.search('acme', '{"object": "acme/crm/papers", "action": "read", "account": "rita@beta.test"}')->'data') entry`,
    );
    const requests = noted.map(({ request }) => String(request).slice(0, 4));
    expect([...new Set(requests)].sort()).toEqual(["GET ", "POST"]);
  });

  test("a name that would meet one of the app's stays out of the schema, and the app keeps its own", async () => {
    await send(`${given}/beta/contacts`, { method: "PUT", as: "boss", body: definition });
    await send(`${received}/contacts`, { method: "PUT", as: "chief" });
    await run("select data.define_entity('beta/crm', 'shared_tasks', $1)", [
      { type: "object", properties: { title: { type: "string" } } },
    ]);
    for (const name of ["tasks", "task", "a_1", "a1"]) {
      await send(`${given}/beta/${name}`, { method: "PUT", as: "boss", body: definition });
      expect((await send(`${received}/${name}`, { method: "PUT", as: "chief" })).status).toBe(200);
    }
    const { data, errors } = await graphql(
      "{ contacts { totalCount } sharedContacts { totalCount } sharedTasks { totalCount } sharedA1s { totalCount } }",
    );
    expect(errors).toBeUndefined();
    expect([data.sharedContacts.totalCount, data.sharedTasks.totalCount, data.sharedA1s.totalCount]).toEqual([
      3, 0, 3,
    ]);
    expect((await send(`${app}/received-shares/task`)).status).toBe(200);
    await run("select data.drop_entity('beta/crm/shared_tasks', 'shared_tasks')");
  });
});
