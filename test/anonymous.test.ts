import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, companies, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// What a site was promised: an app is public only where somebody granted anonymous something, and no more of it than that.

let crm: Crm;
let gateway: TestGateway;
beforeAll(async () => {
  crm = await startCrm();
  gateway = await startGateway(crm.db, { ROWHOUSE_BODY_LIMIT: "200000" }, 5, true);
  for (const [name, more] of [
    ["articles", {}],
    ["orders", { "x-storage": "flat" }],
  ] as const)
    await run("select data.define_entity('acme/shop', $1, $2)", [
      name,
      {
        type: "object",
        required: ["title"],
        properties: {
          title: { type: "string", "x-search": true },
          status: { type: "string" },
          company_id: { type: "string", format: "uuid", "x-relation": { entity: "companies", field: "id" } },
        },
        ...more,
      },
    ]);
  await run("select data.define_entity('acme/shop', 'secrets', $1)", [companies]);
  await run(`select data.insert('acme/shop/articles', '[{"title": "One", "status": "published"}, {"title": "Two", "status": "draft"}]'),
    data.insert('acme/shop/secrets', '{"name": "Hidden"}'), data.insert('acme/shop/companies', '{"name": "Concealed"}')`);
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

const run = <T extends Record<string, unknown>>(sql: string, values: unknown[] = []) =>
  crm.db.query<T>(sql, values);
const shop = "/api/v1/sites/acme/apps/shop";
const ask = (path: string, call: Call = {}) => sendTo(gateway, crm.tokens, path, { as: null, ...call });
const graphql = (query: string, app = shop) =>
  ask(`${app}/graphql`, { method: "POST", body: { query } }) as Promise<
    // biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
    { status: number; text: string; json: any }
  >;
const grant = (permission: string, condition: object | null = null) =>
  run("select access.grant_permission('acme', 'anonymous', $1, condition => $2)", [permission, condition]);
const policy = (definition: object) => run("select access.define_policy('acme', $1)", [definition]);

beforeEach(async () => {
  for (const { name, scope } of await run("select name, scope from access.policies"))
    await run("select access.drop_policy('acme', $1, $2)", [name, scope]);
  for (const { permission } of await run(
    `select access.permission_text(p) as permission from access.permissions p join access.roles r on r.id = p.role_id
     join tenancy.sites s on s.id = r.site_id where s.name = 'acme' and r.name in ('anonymous', 'public_base')`,
  ))
    await run("select access.revoke_permission('acme', 'anonymous', $1)", [permission]);
});

const shut = { status: 401, json: { code: "token_missing" } };

describe("where nobody granted anonymous anything, there is nothing, and nothing tells what there is", () => {
  const places = [
    shop,
    base,
    "/api/v1/sites/acme/apps/ghost",
    "/api/v1/sites/ghost/apps/crm",
    "/api/v1/sites/beta/apps/crm",
  ];
  test("REST, GraphQL and OpenAPI answer the same for apps that are there and that are not", async () => {
    const told = new Set<string>();
    for (const place of places)
      for (const answer of [
        await ask(`${place}/articles`),
        await ask(`${place}/contacts/${crm.ids.Ada}`),
        await ask(`${place}/openapi.json`),
        await ask(`${place}/query?entities=contacts,companies`),
        await ask(`${place}/search?q=one`),
        await ask(`${place}/articles`, { method: "POST", body: { title: "X" } }),
        await ask(`${place}/transaction`, { method: "POST", body: { operations: [] } }),
        await ask(`${place}/export`),
        await graphql("{ articles { nodes { title } } }", place),
      ]) {
        expect(answer).toMatchObject(shut);
        told.add(answer.text.replace(/"request_id":"[^"]*"/, ""));
      }
    expect(told.size).toBe(1);
  });

  test("what is granted to who logs in, to one's own records or by an attribute makes nothing public", async () => {
    await run("select access.grant_permission('acme', 'authenticated', 'shop/articles:read')");
    await grant("shop/articles:read:own");
    await grant("@entities:define");
    await policy({
      name: "mine",
      effect: "allow",
      actions: ["read"],
      condition: { created_by: "$account.id" },
    });
    await policy({
      name: "north",
      effect: "allow",
      actions: ["read"],
      condition: {
        $and: [
          { "$account.email": { $like: "%@acme.test" } },
          { $or: [{ "$account.roles": { $contains: "editor" } }] },
        ],
      },
    });
    await policy({ name: "never", effect: "deny", entities: ["shop/*"] });
    expect(await ask(`${shop}/articles`)).toMatchObject(shut);
    expect(await graphql("{ __typename }")).toMatchObject(shut);
    await run("select access.revoke_permission('acme', 'authenticated', 'shop/articles:read')");
  });
});

describe("what is granted to anonymous is there without a token", () => {
  test.each<[string, () => Promise<unknown>, string]>([
    ["a permission", () => grant("shop/articles:read"), "One Two"],
    ["a permission for every app", () => grant("*:read"), "One Two"],
    ["a permission for an entity of any app", () => grant("articles:read"), "One Two"],
    ["a permission with a condition", () => grant("shop/articles:read", { status: "published" }), "One"],
    [
      "a policy",
      () => policy({ name: "open", scope: "shop/articles", effect: "allow", actions: ["read"] }),
      "One Two",
    ],
    [
      "a policy with a way that asks no account",
      () =>
        policy({
          name: "open",
          effect: "allow",
          entities: ["shop/articles"],
          actions: ["read"],
          condition: { $or: [{ status: "draft" }, { created_by: "$account.id" }] },
        }),
      "Two",
    ],
    [
      "a policy for the role anonymous",
      () =>
        policy({
          name: "open",
          scope: "shop/articles",
          effect: "allow",
          actions: ["read"],
          condition: { "$account.roles": { $contains: "anonymous" } },
        }),
      "One Two",
    ],
  ])("%s", async (_title, open, titles) => {
    await open();
    const answer = await ask(`${shop}/articles?sort=title&select=title`);
    expect([answer.status, answer.json.data?.map((row) => row.title).join(" ")]).toEqual([200, titles]);
    // The same again, by what was compiled before.
    expect((await ask(`${shop}/articles?sort=title&select=title`)).status).toBe(200);
    const reply = await graphql("{ articles(orderBy: TITLE_ASC) { nodes { title createdBy } } }");
    expect(reply.json.errors).toBeUndefined();
    expect(reply.json.data.articles.nodes.map((row: { title: string }) => row.title).join(" ")).toBe(titles);
    const client = await crm.db.pool.connect();
    try {
      await client.query("call tenancy.enter('acme', null)");
      const seen = await client.query("select title from acme_shop.articles order by title");
      expect(seen.rows.map((row) => row.title).join(" ")).toBe(titles);
      const [operator] = (await client.query("select auth.is_operator() as is, auth.account_id() as id"))
        .rows;
      expect(operator).toEqual({ is: false, id: null });
      await expect(client.query("select * from acme_shop.articles_jsonb")).rejects.toMatchObject({
        code: "42501",
      });
      expect((await client.query("select name from acme_crm.contacts")).rowCount).toBe(
        titles && _title.includes("every app") ? 4 : 0,
      );
    } finally {
      await client.query("call tenancy.leave()");
      client.release();
    }
  });

  test("only that: nothing else of the app, of its definition or of its site is known", async () => {
    await grant("shop/articles:read");
    const told = new Set<string>();
    for (const answer of [
      await ask(`${shop}/secrets`),
      await ask(`${shop}/ghosts`),
      await ask(`${shop}/query?entities=articles,secrets`),
      await ask(`${shop}/query?entities=articles,ghosts`),
      await ask(`${shop}/secrets`, { method: "POST", body: { name: "X" } }),
      await ask(`${shop}/companies/aggregate`),
      await ask(`${base}/contacts`),
    ]) {
      expect(answer).toMatchObject(shut);
      told.add(answer.text.replace(/"request_id":"[^"]*"/, ""));
    }
    expect(told.size).toBe(1);
    const document = await ask(`${shop}/openapi.json`);
    expect(document.status).toBe(200);
    expect(document.text).toContain("articles");
    expect(document.text).not.toMatch(/secrets|orders|ghosts/);
    expect((await ask(`${shop}/search?q=one`)).json.data).toHaveLength(1);
    for (const path of [`${shop}/export`, `${shop}/articles/export`])
      expect(await ask(path)).toMatchObject(shut);
    for (const query of [
      "{ secrets { nodes { name } } }",
      "{ companies { nodes { name } } }",
      "{ articles { nodes { company { name } } } }",
    ])
      expect(JSON.stringify((await graphql(query)).json)).not.toMatch(/Hidden|Concealed/);
    const expanded = await ask(`${shop}/articles?expand=company`);
    expect(expanded.text).not.toContain("Concealed");
    // The control plane knows nobody.
    expect(
      await ask("/graphql", { method: "POST", body: { query: "{ sites { nodes { name } } }" } }),
    ).toMatchObject(shut);
    expect(await ask("/api/v1/sites/acme/audit")).toMatchObject(shut);
  });

  test("what was compiled for a member is not run for nobody", async () => {
    await grant("shop/articles:read");
    expect((await ask(`${shop}/secrets`, { as: "ann" })).json.data).toHaveLength(1);
    expect(await ask(`${shop}/secrets`)).toMatchObject(shut);
    expect((await ask(`${shop}/secrets`, { as: "ann" })).json.data).toHaveLength(1);
  });

  test("a write is refused as to anybody who may only read", async () => {
    await grant("shop/articles:read");
    const { id } = (await ask(`${shop}/articles`)).json.data[0] as { id: string };
    for (const [method, path, body] of [
      ["POST", "", { title: "X" }],
      ["PATCH", `/${id}`, { title: "X" }],
      ["DELETE", `/${id}`, undefined],
      ["PATCH", "?filter={}&max=10", { title: "X" }],
    ] as const) {
      const answer = await ask(`${shop}/articles${path}`, { method, body });
      expect([method, path, answer.status]).toEqual([method, path, 403]);
    }
    expect((await ask(`${shop}/articles?limit=1001`)).status).toBe(400);
    const reply = await graphql(
      'mutation { createArticle(input: {article: {title: "X"}}) { article { id } } }',
    );
    expect(reply.json.errors[0].extensions.status).toBe(403);
  });

  test("it ends with the statement after it was taken away", async () => {
    await grant("shop/articles:read");
    expect((await ask(`${shop}/articles`)).status).toBe(200);
    await run("select access.revoke_permission('acme', 'anonymous', 'shop/articles:read')");
    expect(await ask(`${shop}/articles`)).toMatchObject(shut);
    expect(await graphql("{ articles { nodes { title } } }")).toMatchObject(shut);
  });

  test("a token that is not valid is no anonymous request", async () => {
    await grant("shop/articles:read");
    expect(await ask(`${shop}/articles`, { as: "x.y.z" })).toMatchObject({
      status: 401,
      json: { code: "invalid_token" },
    });
    expect(await ask(`${shop}/articles`, { as: "bob" })).toMatchObject({ status: 404 });
  });
});

test("records of nobody belong to nobody: not to the next one who is not logged in, and to no member", async () => {
  await grant("shop/orders:create");
  await grant("shop/orders:*:own");
  await policy({
    name: "own",
    effect: "allow",
    entities: ["shop/orders"],
    actions: ["read", "update", "delete"],
    condition: { created_by: "$account.id" },
  });
  const made = await ask(`${shop}/orders`, { method: "POST", body: { title: "Mine" } });
  expect(made.status).toBe(201);
  const [row] = await run<{ created_by: string | null; id: string }>(
    "select created_by, id from acme_shop.orders",
  );
  expect(row?.created_by).toBeNull();
  expect((await ask(`${shop}/orders`)).json.data).toEqual([]);
  for (const method of ["PATCH", "DELETE"])
    expect(
      (
        await ask(`${shop}/orders/${row?.id}`, {
          method,
          body: method === "PATCH" ? { title: "X" } : undefined,
        })
      ).status,
    ).toBeGreaterThanOrEqual(403);
});

test("who may not see a record cannot refer to it", async () => {
  await grant("shop/orders:create");
  const [company] = await run<{ id: string }>("select id from acme_shop.companies where name = 'Concealed'");
  const answer = await ask(`${shop}/orders`, {
    method: "POST",
    body: { title: "T", company_id: company?.id },
  });
  expect(answer).toMatchObject({ status: 422, json: { code: "missing_reference" } });
});

test("browsers of the app's origins may ask, as those who are logged in", async () => {
  await grant("shop/articles:read");
  await run(
    'select tenancy.update_app_settings(\'acme/shop\', \'{"cors": {"origins": ["https://shop.example"]}}\')',
  );
  const from = (origin: string) => ask(`${shop}/articles`, { headers: { origin } });
  expect((await from("https://shop.example")).headers["access-control-allow-origin"]).toBe(
    "https://shop.example",
  );
  expect((await from("https://evil.example")).headers["access-control-allow-origin"]).toBeUndefined();
});
