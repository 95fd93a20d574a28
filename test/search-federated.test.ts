import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { validate } from "@readme/openapi-parser";
import { type Answer, type Call, sendTo } from "./harness/crm.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

type Hit = {
  entity: string;
  id: string;
  rank: number;
  title: string | null;
  snippets: Record<string, string>;
  record: Record<string, unknown>;
};

const base = "/api/v1/sites/acme/apps/crm";
const tokens: Record<string, string> = {};
let db: TestDatabase;
let gateway: TestGateway;
const send = (path: string, call?: Call): Promise<Answer> => sendTo(gateway, tokens, path, call);
const search = (query: Record<string, string>, as = "ann") =>
  send(`${base}/search?${new URLSearchParams(query)}`, { as });
const hits = (answer: Answer): Hit[] => answer.json.data as unknown as Hit[];
const titles = (list: Hit[]) => list.map((hit) => `${hit.entity}: ${hit.title}`);

beforeAll(async () => {
  db = await cloneDatabase();
  for (const site of ["acme", "beta"]) {
    await db.site(site);
    await db.query("select data.define_entity($1, 'companies', $2)", [
      `${site}/crm`,
      {
        type: "object",
        properties: {
          name: { type: "string", "x-search": { weight: "A" } },
          about: { type: "string", "x-search": true },
        },
      },
    ]);
    await db.query("select data.define_entity($1, 'contacts', $2)", [
      `${site}/crm`,
      {
        type: "object",
        "x-search": { language: "english" },
        properties: {
          name: { type: "string", "x-search": { weight: "A" } },
          email: { type: "string", format: "email", "x-search": { weight: "B" } },
          age: { type: "integer", "x-index": true },
          company_id: { "x-relation": { entity: "companies" } },
        },
      },
    ]);
    await db.query("select data.define_entity($1, 'orders', $2)", [
      `${site}/crm`,
      { type: "object", properties: { name: { type: "string" } } },
    ]);
  }
  await db.query("select data.insert('beta/crm/companies', $1)", [{ name: "Smith of beta" }]);
  await db.query("select data.insert('acme/crm/companies', $1)", [
    JSON.stringify([
      { name: "Smith & <Sons>", about: "Founded by Jon" },
      { name: "Oslo Works", about: "Its smith is a good one" },
    ]),
  ]);
  await db.query(
    `insert into acme_crm.contacts (name, email, age, company_id)
     select n, e, a, (select id from acme_crm.companies where name = 'Oslo Works')
     from (values ('Jon Smith', 'jon@smith.test', 30), ('Ann Smithson', 'ann@x.test', 40), ('Zoe', 'zoe@smith.test', 50)) v (n, e, a)`,
  );
  for (const [name, site, role] of [
    ["ann", "acme", "editor"],
    ["vic", "acme", "viewer"],
    ["bob", "beta", "editor"],
  ] as const) {
    await db.account(`${name}@x.test`);
    await db.query("select tenancy.add_member($1, $2, $3)", [site, `${name}@x.test`, role]);
  }
  await db.query("select access.create_role('acme', 'contacts-only', array['crm/contacts:read'])");
  await db.account("kim@x.test");
  await db.query("select tenancy.add_member('acme', 'kim@x.test', 'contacts-only')");
  gateway = await startGateway(db, {}, 5, true);
  for (const name of ["ann", "vic", "kim"]) tokens[name] = await gateway.token(`${name}@x.test`, "acme");
  tokens.bob = await gateway.token("bob@x.test", "beta");
});
afterAll(async () => {
  await gateway?.stop();
  await db?.drop();
});

describe("one ranked list over the entities of an app", () => {
  test("the best match first, whatever its entity, with title, snippets and record", async () => {
    const answer = await search({ q: "smith" });
    expect(answer.status).toBe(200);
    const list = hits(answer);
    expect(new Set(titles(list).slice(0, 2))).toEqual(
      new Set(["contacts: Jon Smith", "companies: Smith & <Sons>"]),
    );
    expect(titles(list).sort()).toEqual([
      "companies: Oslo Works",
      "companies: Smith & <Sons>",
      "contacts: Ann Smithson",
      "contacts: Jon Smith",
      "contacts: Zoe",
    ]);
    const ranks = list.map((hit) => hit.rank);
    expect(ranks).toEqual([...ranks].sort((x, y) => y - x));
    const company = list.find((hit) => hit.title === "Smith & <Sons>");
    expect(company).toMatchObject({
      snippets: { name: "<mark>Smith</mark> &amp; &lt;Sons&gt;" },
      record: { name: "Smith & <Sons>", about: "Founded by Jon", id: company?.id, version: 1 },
    });
    expect(answer.json.meta).toEqual({ limit: 20 });
  });

  test.each<[Record<string, string>, string[]]>([
    [{ q: "jon", entities: "contacts" }, ["contacts: Jon Smith"]],
    [{ q: "jon", entities: "contacts,companies" }, ["contacts: Jon Smith", "companies: Smith & <Sons>"]],
    [{ q: "jon", limit: "1" }, ["contacts: Jon Smith"]],
    [{ q: "jno smiht", entities: "contacts" }, []],
    [{ q: "jon smiht" }, ["contacts: Jon Smith", "companies: Smith & <Sons>"]],
    [{ q: "the" }, []],
    [{ q: "nowhere" }, []],
  ])("%j", async (query, expected) => {
    expect(titles(hits(await search(query)))).toEqual(expected);
  });

  test("psql says the same", async () => {
    const list = hits(await search({ q: "smith", limit: "3" }));
    const [row] = await db.query<{ r: { data: Hit[] } }>(
      `select data.search('acme/crm', '{"q": "smith", "limit": 3}') as r`,
    );
    expect(row?.r.data).toEqual(list);
  });
});

describe("one entity over REST", () => {
  test("q with filter, select, expand and page", async () => {
    const query = (parameters: Record<string, string>) =>
      send(`${base}/contacts?${new URLSearchParams(parameters)}`);
    const filtered = await query({ q: "smith", filter: '{"age":{"$gt":35}}', select: "name,_snippets" });
    expect(filtered.json.data).toEqual([
      { name: "Ann Smithson", _snippets: { name: "Ann <mark>Smithson</mark>" } },
      { name: "Zoe", _snippets: { email: "zoe@<mark>smith</mark>.test" } },
    ]);
    const first = await query({ q: "smith", limit: "1", count: "exact" });
    expect([first.json.data[0]?.name, first.json.meta]).toMatchObject(["Jon Smith", { count: 3 }]);
    const next = await query({ q: "smith", limit: "1", cursor: first.json.meta.next_cursor ?? "" });
    expect(next.json.data.map((row) => row.name)).toEqual(["Ann Smithson"]);
    const third = await query({ q: "smith", limit: "1", page: "3" });
    expect(third.json.data.map((row) => row.name)).toEqual(["Zoe"]);
    const related = await query({ q: "jon", expand: "company", filter: '{"company.name":"Oslo Works"}' });
    expect(related.json.data).toMatchObject([{ name: "Jon Smith", company: { name: "Oslo Works" } }]);
  });
});

describe("rights", () => {
  test("entities that one may not read contribute nothing, in REST, GraphQL and psql", async () => {
    const expected = ["contacts: Ann Smithson", "contacts: Jon Smith", "contacts: Zoe"];
    expect(titles(hits(await search({ q: "smith" }, "kim"))).sort()).toEqual(expected);
    expect(hits(await search({ q: "smith", entities: "companies" }, "kim"))).toEqual([]);
    const reply = await graphql(
      '{ search(q: "smith") { entity title } companies(search: "smith") { totalCount } }',
      "kim",
    );
    expect(titles(reply.data.search as Hit[]).sort()).toEqual(expected);
    expect(reply.data.companies).toEqual({ totalCount: 0 });
    await db.as("acme", "kim@x.test", async (client) => {
      const { rows } = await client.query(`select data.search('crm', '{"q": "smith"}') as r`);
      expect(titles(rows[0].r.data).sort()).toEqual(expected);
    });
  });

  test("another site's app is not there", async () => {
    expect((await search({ q: "smith" }, "bob")).status).toBe(404);
    const own = await send("/api/v1/sites/beta/apps/crm/search?q=smith", { as: "bob" });
    expect(titles(hits(own))).toEqual(["companies: Smith of beta"]);
    await db.as("beta", "bob@x.test", async (client) => {
      const failure = await refusal(client.query(`select data.search('acme/crm', '{"q": "smith"}')`));
      expect(failure.code).toBe("RH404");
    });
    expect((await send(`${base}/search?q=smith`, { as: null })).status).toBe(401);
  });
});

async function graphql(query: string, as = "ann", variables: object = {}) {
  const answer = await send(`${base}/graphql`, { method: "POST", as, body: { query, variables } });
  return answer.json as unknown as {
    data: Record<string, unknown>;
    errors?: { message: string; extensions: Record<string, unknown> }[];
  };
}

describe("GraphQL", () => {
  test("search over the app", async () => {
    const { data, errors } = await graphql(
      'query ($q: String!) { search(q: $q, entities: ["contacts"], first: 2) { entity id rank title snippets record } }',
      "ann",
      { q: "jon" },
    );
    expect(errors).toBeUndefined();
    expect(data.search).toMatchObject([
      {
        entity: "contacts",
        title: "Jon Smith",
        snippets: { name: "<mark>Jon</mark> Smith", email: "<mark>jon</mark>@smith.test" },
        record: { age: 30 },
      },
    ]);
  });

  test("an argument of lists: ranked, counted, filtered, paged, on relations too", async () => {
    const { data, errors } = await graphql(`{
      ranked: contacts(search: "smith") { totalCount nodes { name } }
      filtered: contacts(search: "smith", filter: { age: { greaterThan: 35 } }) { nodes { name } }
      ordered: contacts(search: "smith", orderBy: AGE_DESC) { nodes { name } }
      all: contacts(search: null) { totalCount }
      none: contacts(search: "") { totalCount }
      companies(search: "oslo") { nodes { name contacts(search: "jon") { nodes { name } } } }
      first: contacts(search: "smith", first: 1) { nodes { name } pageInfo { endCursor hasNextPage } }
    }`);
    expect(errors).toBeUndefined();
    const named = (key: string) =>
      (data[key] as { nodes: { name: string }[] }).nodes.map((node) => node.name);
    expect(named("ranked")).toEqual(["Jon Smith", "Ann Smithson", "Zoe"]);
    expect(data.ranked).toMatchObject({ totalCount: 3 });
    expect(named("filtered")).toEqual(["Ann Smithson", "Zoe"]);
    expect(named("ordered")).toEqual(["Zoe", "Ann Smithson", "Jon Smith"]);
    expect([data.all, data.none]).toEqual([{ totalCount: 3 }, { totalCount: 0 }]);
    expect(data.companies).toEqual({
      nodes: [{ name: "Oslo Works", contacts: { nodes: [{ name: "Jon Smith" }] } }],
    });
    const seen: string[] = [];
    let after: string | null = null;
    for (let page = 0; page < 5; page++) {
      const reply = await graphql(
        'query ($after: Cursor) { contacts(search: "smith", first: 1, after: $after) { nodes { name } pageInfo { endCursor hasNextPage } } }',
        "ann",
        { after },
      );
      const { nodes, pageInfo } = reply.data.contacts as {
        nodes: { name: string }[];
        pageInfo: { endCursor: string; hasNextPage: boolean };
      };
      seen.push(...nodes.map((node) => node.name));
      after = pageInfo.endCursor;
      if (!pageInfo.hasNextPage) break;
    }
    expect(seen).toEqual(["Jon Smith", "Ann Smithson", "Zoe"]);
  });

  test("only what can be searched takes search, and errors are those of SQL", async () => {
    const unknown = await graphql('{ orders(search: "x") { totalCount } }');
    expect(unknown.errors?.[0]?.message).toMatch(/Unknown argument "search"/);
    const long = await graphql("query ($q: String!) { search(q: $q) { id } }", "ann", {
      q: "x".repeat(100_000),
    });
    expect(long.errors?.[0]?.extensions).toMatchObject({ code: "invalid_q", status: 400 });
    const list = await graphql("query ($q: String!) { contacts(search: $q) { totalCount } }", "ann", {
      q: "x".repeat(1001),
    });
    expect(list.errors?.[0]?.extensions).toMatchObject({ code: "invalid_q", status: 400 });
    const evil = await graphql(
      "query ($q: String!) { search(q: $q) { id } contacts(search: $q) { totalCount } }",
      "ann",
      {
        q: "'); drop table auth.accounts; -- $1 \\",
      },
    );
    expect([evil.errors, evil.data]).toEqual([undefined, { search: [], contacts: { totalCount: 0 } }]);
    const nul = await graphql("query ($q: String!) { search(q: $q) { id } }", "ann", { q: "a\0b" });
    expect(nul.errors?.[0]?.extensions.status).toBe(400);
  });

  test("an app without x-search has no search and is served as before", async () => {
    await db.query("select tenancy.create_app('acme', 'plain')");
    await db.query(
      `select data.define_entity('acme/plain', 'things', '{"type": "object", "properties": {"name": {"type": "string"}}}')`,
    );
    const plain = "/api/v1/sites/acme/apps/plain";
    const ask = (query: string) => send(`${plain}/graphql`, { method: "POST", body: { query } });
    expect((await ask("{ things { totalCount } }")).json).toEqual({ data: { things: { totalCount: 0 } } });
    expect((await ask('{ search(q: "x") { id } }')).text).toMatch(/Cannot query field/);
    const refused = await send(`${plain}/search?q=x`);
    expect([refused.status, refused.json.code]).toEqual([400, "not_searchable"]);
    expect(refused.text).toContain("x-search");
    // Defined later, it is there at once, also where the plan of a query was kept.
    expect((await send(`${plain}/things?q=x`)).json.code).toBe("not_searchable");
    await db.query(
      `select data.define_entity('acme/plain', 'things', '{"type": "object", "properties": {"name": {"type": "string", "x-search": true}}}')`,
    );
    await send(`${plain}/things`, { method: "POST", body: { name: "exact" } });
    expect((await send(`${plain}/things?q=exact`)).json.data).toMatchObject([{ name: "exact" }]);
    expect((await ask('{ search(q: "exact") { title } }')).json).toEqual({
      data: { search: [{ title: "exact" }] },
    });
    await db.query(
      `select data.define_entity('acme/plain', 'things', '{"type": "object", "properties": {"name": {"type": "string"}}}')`,
    );
    expect((await send(`${plain}/things?q=exact`)).json.code).toBe("not_searchable");
  });
});

describe("what is wrong is said", () => {
  test.each<[string, string, number, string]>([
    ["no q", "/search", 400, "invalid_q"],
    ["a q that is too long", `/search?q=${"x".repeat(1001)}`, 400, "invalid_q"],
    ["a NUL", "/search?q=a%00b", 400, "invalid_value"],
    ["bytes that are no UTF-8", "/search?q=%ff%fe", 200, ""],
    ["an unknown entity", "/search?q=x&entities=contacts,nobody", 400, "not_searchable"],
    ["an entity without x-search", "/search?q=x&entities=orders", 400, "not_searchable"],
    [
      "SQL for an entity",
      `/search?q=x&entities=${encodeURIComponent("contacts'; drop table x; --")}`,
      400,
      "not_searchable",
    ],
    ["no entity", "/search?q=x&entities=[]", 400, "invalid_entities"],
    ["a limit of 0", "/search?q=x&limit=0", 400, "invalid_limit"],
    ["a limit that is too large", "/search?q=x&limit=1001", 400, "invalid_limit"],
    ["a limit that is no number", "/search?q=x&limit=many", 400, "invalid_limit"],
    ["an unknown parameter", "/search?q=x&sort=name", 400, "unknown_parameter"],
    ["q twice", "/search?q=x&q=y", 400, "invalid_q"],
    ["q for an entity without x-search", "/orders?q=x", 400, "not_searchable"],
    ["q for one record", `/contacts/0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b?q=x`, 400, "unknown_parameter"],
    ["q in an export", "/contacts/export?q=x", 400, "invalid_query"],
  ])("%s", async (_title, path, status, code) => {
    const answer = await send(base + path);
    expect([answer.status, answer.json.code ?? ""]).toEqual([status, code]);
    if (status === 400 && code !== "invalid_value")
      expect((answer.json as { hint?: string }).hint).toBeTruthy();
  });

  test("writing to search", async () => {
    const answer = await send(`${base}/search`, { method: "POST", body: { q: "x" } });
    expect([answer.status, answer.headers.allow]).toEqual([405, "GET, HEAD, OPTIONS"]);
  });

  test.each<[string, object | null]>([
    ["null", null],
    ["a q that is no text", { q: 5 }],
    ["true for q", { q: true }],
    ["an unknown member", { q: "x", filter: {} }],
    ["entities that are no list", { q: "x", entities: "contacts" }],
    ["a list of numbers", { q: "x", entities: [1] }],
  ])("psql: %s", async (_title, query) => {
    const failure = await refusal(
      db.query("select data.search('acme/crm', $1)", [query && JSON.stringify(query)]),
    );
    expect(failure.code).toBe("RH400");
  });
});

test("OpenAPI says where q is taken and what it adds, and stays valid", async () => {
  const document = JSON.parse((await send(`${base}/openapi.json`)).text) as {
    paths: Record<string, { get: { parameters: { $ref?: string; name?: string; required?: boolean }[] } }>;
  };
  expect(await validate(structuredClone(document) as never)).toMatchObject({ valid: true });
  const parameters = (path: string) => document.paths[path]?.get.parameters ?? [];
  const q = { $ref: "#/components/parameters/q" };
  expect(parameters("/contacts")).toContainEqual(q);
  expect(parameters("/orders")).not.toContainEqual(q);
  expect(parameters("/search")[0]).toMatchObject({ name: "q", required: true });
});

test("no entity may take the names that search has in GraphQL", async () => {
  for (const name of ["search", "searches", "search_hits"]) {
    const failure = await refusal(
      db.query("select data.define_entity('acme/crm', $1, $2)", [
        name,
        { type: "object", properties: { name: { type: "string" } } },
      ]),
    );
    expect(failure.code).toBe("RH400");
  }
});
