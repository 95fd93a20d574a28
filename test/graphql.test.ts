import { createHmac, createPublicKey, type JsonWebKey, randomBytes } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { issueDevelopmentToken } from "../server/auth/development.ts";
import { authRoutes } from "../server/auth/routes.ts";
import { openTokens } from "../server/auth/tokens.ts";
import { createGraphql } from "../server/graphql/graphql.ts";
import { listenToDefinitions } from "../server/graphql/listener.ts";
import { createApp } from "../server/http/app.ts";
import { readSettings, type Settings } from "../server/settings.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { eventually } from "./harness/eventually.ts";

type Reply = {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
  data: any;
  errors: {
    message: string;
    path?: string[];
    extensions: Record<string, unknown>;
  }[];
  text: string;
};

const crm = "/api/v1/sites/acme/apps/crm/graphql";
const masterKey = randomBytes(32);
const tokens: Record<string, string> = {};
const log: string[] = [];
let db: TestDatabase;
let pool: pg.Pool;
let server: Server;
let graphql: ReturnType<typeof createGraphql>;
let url: string;

async function define(app: string, name: string, properties: object, required: string[] = []): Promise<void> {
  await db.query("select data.define_entity($1, $2, $3)", [
    app,
    name,
    { type: "object", required, properties },
  ]);
}

async function post(path: string, body: string | object, as: string | null = "ann"): Promise<Reply> {
  const response = await fetch(url + path, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(as ? { authorization: `Bearer ${tokens[as]}` } : {}),
    },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const json = JSON.parse(text) as Partial<Reply>;
  return {
    status: response.status,
    data: json.data,
    errors: json.errors ?? [],
    text,
  };
}

const ask = (query: string, variables: object = {}, as: string | null = "ann", path = crm) =>
  post(path, { query, variables }, as);

/** The data of a query that must succeed. */
async function data(query: string, variables: object = {}, as = "ann", path = crm) {
  const reply = await ask(query, variables, as, path);
  expect([reply.status, reply.errors, reply.data ? "" : reply.text]).toEqual([200, [], ""]);
  return reply.data;
}

beforeAll(async () => {
  db = await cloneDatabase();
  for (const name of ["ann", "vic", "bob"]) await db.account(`${name}@example.test`);
  for (const site of ["acme", "beta"]) {
    await db.site(site);
  }
  await db.query("select tenancy.add_member('acme', 'ann@example.test', 'editor')");
  await db.query("select tenancy.add_member('acme', 'vic@example.test', 'viewer')");
  await db.query("select tenancy.add_member('beta', 'bob@example.test', 'editor')");
  await define(
    "acme/crm",
    "companies",
    { name: { type: "string" }, reg_no: { type: "integer", "x-unique": true } },
    ["name"],
  );
  await define(
    "acme/crm",
    "contacts",
    {
      name: { type: "string", maxLength: 20 },
      age: { type: "integer" },
      price: { type: "number", format: "decimal", precision: 24, scale: 4 },
      active: { type: "boolean", default: true },
      address: { type: "object", properties: { city: { type: "string" } } },
      extra: { type: "object" },
      scores: { type: "array", items: { type: "number" } },
      company_id: {
        type: "string",
        format: "uuid",
        "x-relation": { entity: "companies", inverse: "contacts" },
      },
      seller_no: {
        type: "integer",
        "x-relation": {
          entity: "companies",
          field: "reg_no",
          name: "seller",
          inverse: "sales",
        },
      },
    },
    ["name"],
  );
  await define("beta/crm", "contacts", { secret_title: { type: "string" } });

  const settings = readSettings({});
  pool = new pg.Pool({ connectionString: db.gatewayUrl, max: 8 });
  pool.on("error", () => {});
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      log.push(String(chunk));
      done();
    },
  });
  const issuer = await openTokens({
    pool,
    masterKey,
    settings,
  });
  const logger = pino(stream);
  graphql = createGraphql({ pool, settings, log: logger });
  const app = createApp({
    pool,
    settings,
    log: logger,
    tokens: issuer,
    graphql,
    auth: authRoutes({ pool, tokens: issuer }),
    ready: async () => ({ ready: true, checks: {} }),
  });
  server = createServer(app);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  for (const [name, site] of [
    ["ann", "acme"],
    ["vic", "acme"],
    ["bob", "beta"],
    ["roamer", undefined],
  ] as const) {
    const email = `${name === "roamer" ? "ann" : name}@example.test`;
    tokens[name] = (await issueDevelopmentToken(db.pool, issuer, { email, site })).access_token;
  }
});

afterAll(async () => {
  server?.closeAllConnections();
  await new Promise((done) => server?.close(done));
  await graphql?.stop();
  await pool?.end();
  await db?.drop();
});

describe("records are created, read, changed and deleted with types of their own", () => {
  test("create, update with the version seen, conflict, delete", async () => {
    const { createContact } = await data(
      `mutation { createContact(input: { contact: { name: "Ada", age: 36 } }) { contact { id name age active version createdAt } } }`,
    );
    const { id } = createContact.contact;
    expect(createContact.contact).toMatchObject({
      name: "Ada",
      age: "36",
      active: true,
      version: 1,
    });

    const update = `mutation ($id: UUID!, $patch: ContactPatch!) { updateContact(input: { id: $id, patch: $patch }) { contact { name age version } } }`;
    expect((await data(update, { id, patch: { age: 37, version: 1 } })).updateContact.contact).toEqual({
      name: "Ada",
      age: "37",
      version: 2,
    });
    const conflict = await ask(update, { id, patch: { age: 38, version: 1 } });
    expect(conflict.errors[0]?.extensions).toMatchObject({
      status: 409,
      code: "version_conflict",
    });
    expect((await data(update, { id, patch: { age: null } })).updateContact.contact).toEqual({
      name: "Ada",
      age: null,
      version: 3,
    });

    const remove = `mutation ($id: UUID!) { deleteContact(input: { id: $id }) { contact { name } } }`;
    expect((await data(remove, { id })).deleteContact.contact).toEqual({
      name: "Ada",
    });
    expect((await data(`query ($id: UUID!) { contact(id: $id) { id } }`, { id })).contact).toBeNull();
    expect((await ask(remove, { id })).errors[0]?.extensions).toMatchObject({
      status: 404,
      code: "not_found",
    });
    expect((await ask(update, { id, patch: { age: 1 } })).errors[0]?.extensions).toMatchObject({
      status: 404,
    });
  });

  test("what is not valid is refused with every problem by pointer", async () => {
    const { errors } = await ask(
      `mutation { createContact(input: { contact: { name: "a name that is far too long" } }) { clientMutationId } }`,
    );
    expect(errors[0]?.extensions).toMatchObject({
      status: 422,
      code: "validation_failed",
      errors: [{ pointer: "/name" }],
    });
    const missing = await ask(
      `mutation { createContact(input: { contact: { age: 1 } }) { clientMutationId } }`,
    );
    expect([missing.status, missing.errors[0]?.message]).toEqual([
      400,
      expect.stringContaining('name" of required type "String!"'),
    ]);
  });

  test("a constraint names the field, not the table", async () => {
    const create = `mutation { createCompany(input: { company: { name: "Twice", regNo: 77 } }) { clientMutationId } }`;
    await data(create);
    const { errors, text } = await ask(create);
    expect(errors[0]?.extensions).toMatchObject({
      status: 409,
      code: "not_unique",
      errors: [{ pointer: "/reg_no" }],
    });
    expect(text).not.toMatch(/companies_jsonb|insert into|acme_crm/);
  });
});

describe("money is never rounded", () => {
  const create = `mutation ($price: BigFloat) { createContact(input: { contact: { name: "M", price: $price } }) { contact { price } } }`;
  test.each([
    ["a string", '"12345678901234567890.1234"', "12345678901234567890.1234"],
    ["a number in variables", "12345678901234567890.1234", "12345678901234567890.1234"],
    ["a small number in variables", "0.1", "0.1"],
  ])("%s", async (_title, price, expected) => {
    const reply = await post(crm, `{"query":${JSON.stringify(create)},"variables":{"price":${price}}}`);
    expect(reply.data.createContact.contact.price).toMatch(new RegExp(`^${expected.replace(".", "\\.")}0*$`));
  });

  test("a number in the query's text", async () => {
    const { createContact } = await data(
      `mutation { createContact(input: { contact: { name: "M", price: 98765432109876543210.1200, age: 9007199254740993 } }) { contact { price age } } }`,
    );
    expect(createContact.contact).toEqual({
      price: expect.stringMatching(/^98765432109876543210\.12(00)?$/),
      age: "9007199254740993",
    });
  });

  test("more digits than the scale are refused", async () => {
    const { errors } = await ask(create, { price: "0.12345" });
    expect(errors[0]?.extensions).toMatchObject({ status: 422 });
  });

  test("a float that a double cannot hold is refused where only doubles are", async () => {
    const reply = await post(
      crm,
      `{"query":"query ($n: Int) { contacts(first: $n) { totalCount } }","variables":{"n":1.00000000000000000001}}`,
    );
    expect(reply.status).toBe(400);
  });
});

describe("numbers in a JSON property are never rounded", () => {
  const numbers =
    '{"big":12345678901234567890,"small":0.1000000000000000055511151231257827,"deep":[{"n":-9007199254740993}],"plain":[1.5,2,null,"12345678901234567890"]}';
  const create = `mutation ($extra: JSON) { createContact(input: { contact: { name: "J", extra: $extra } }) { contact { id extra } } }`;
  const literal = numbers.replace(/"(\w+)":/g, "$1: ");
  const send = (query: string, variables: string, as = crm) =>
    post(as, `{"query":${JSON.stringify(query)},"variables":${variables}}`);

  test.each<[string, () => Promise<Reply>]>([
    ["a variable", () => send(create, `{"extra":${numbers}}`)],
    [
      "a variable within another",
      () =>
        send(
          `mutation ($c: ContactInput!) { createContact(input: { contact: $c }) { contact { id extra } } }`,
          `{"c":{"name":"J","extra":${numbers}}}`,
        ),
    ],
    ["the query's text", () => send(create.replace("($extra: JSON)", "").replace("$extra", literal), "{}")],
    ["a variable's default", () => send(create.replace("JSON", `JSON = ${literal}`), "{}")],
    [
      "a variable within the query's text",
      () =>
        send(
          create
            .replace(
              "extra: $extra",
              "extra: {big: 12345678901234567890, small: $small, deep: $deep, plain: $plain}",
            )
            .replace("$extra: JSON", "$small: JSON, $deep: JSON, $plain: JSON"),
          `{"small":0.1000000000000000055511151231257827,"deep":[{"n":-9007199254740993}],"plain":[1.5,2,null,"12345678901234567890"]}`,
        ),
    ],
  ])("%s", async (_title, write) => {
    const reply = await write();
    const id = reply.data?.createContact.contact.id;
    const [stored] = await db.query<{ extra: string }>(
      "select jsonb_build_array(extra, extra = $2::jsonb)::text as extra from acme_crm.contacts where id = $1",
      [id, numbers],
    );
    expect(stored?.extra).toMatch(/, true]$/);
    const read = await send(
      `query ($id: UUID!) { contact(id: $id) { extra company { contacts { nodes { extra } } } } }`,
      `{"id":"${id}"}`,
    );
    for (const { text } of [reply, read])
      for (const number of [
        '"big":12345678901234567890,',
        '"small":0.1000000000000000055511151231257827',
        '{"n":-9007199254740993}',
        '[1.5,2,null,"12345678901234567890"]',
      ])
        expect(text).toContain(number);
  });

  test("a number alone, a list, and in the control plane", async () => {
    const { text } = await send(
      `mutation { createContact(input: { contact: { name: "J", scores: [12345678901234567890, 1e20, 2] } }) { contact { scores } } }`,
      "{}",
    );
    expect(text).toContain("[12345678901234567890,100000000000000000000,2]");
  });

  test("a number of a million digits keeps nobody waiting", async () => {
    const { status } = await send(create, `{"extra":{"n":0.1${"0".repeat(1_000_000)}1}}`);
    expect(status).toBeLessThan(500);
    // As many digits as PostgreSQL's numeric may have after the point come back one by one.
    const long = `1.${"0".repeat(16_000)}1`;
    const { text } = await send(create, `{"extra":{"n":${long}}}`);
    expect(text.includes(`{"n":${long}}`)).toBe(true);
  }, 20_000); // trimming zeros one by one took minutes

  test("an exponent that would fill the memory is refused", async () => {
    expect((await send(create, '{"extra":{"n":1e131071}}')).status).toBe(400);
    expect((await send(create.replace("JSON", "JSON = {n: 1e131071}"), "{}")).status).toBe(400);
  });
});

describe("lists are filtered, ordered, paged and follow relations both ways", () => {
  beforeAll(async () => {
    const { a, b } = await data(`mutation {
      a: createCompany(input: { company: { name: "Arc", regNo: 1 } }) { company { id } }
      b: createCompany(input: { company: { name: "Box", regNo: 2 } }) { company { id } } }`);
    for (const [name, age, company, seller] of [
      ["Lia", 20, a, 2],
      ["Lou", 30, a, 1],
      ["Lyn", 40, b, 1],
    ] as const) {
      await data(
        `mutation ($c: ContactInput!) { createContact(input: { contact: $c }) { clientMutationId } }`,
        {
          c: {
            name,
            age,
            companyId: company.company.id,
            sellerNo: seller,
            address: { city: "Oslo" },
          },
        },
      );
    }
  });

  test("filter, order and totalCount", async () => {
    const { contacts } =
      await data(`{ contacts(filter: { name: { startsWith: "L" }, age: { greaterThan: 25 } }, orderBy: AGE_DESC) {
      totalCount nodes { name address } } }`);
    expect(contacts).toEqual({
      totalCount: 2,
      nodes: [
        { name: "Lyn", address: { city: "Oslo" } },
        { name: "Lou", address: { city: "Oslo" } },
      ],
    });
  });

  test("and, or, not, and filters on relations", async () => {
    const { contacts } = await data(
      `{ contacts(filter: { or: [{ company: { name: { equalTo: "Box" } } }, { and: [{ age: { equalTo: "20" } }, { not: { name: { equalTo: "Lou" } } }] }] }, orderBy: NAME_ASC) { nodes { name } } }`,
    );
    expect(contacts.nodes.map((node: { name: string }) => node.name)).toEqual(["Lia", "Lyn"]);
  });

  test("an empty filter filters nothing, null is refused", async () => {
    const all = `query ($f: ContactFilter) { contacts(filter: $f) { totalCount } }`;
    const { contacts } = await data(all, { f: {} });
    expect(contacts.totalCount).toBeGreaterThan(3);
    expect((await data(all)).contacts).toEqual(contacts);
    expect((await data(all, { f: { and: [{}, { or: [] }] } })).contacts).toEqual(contacts);
    const { errors } = await ask(all, { f: { name: { equalTo: null } } });
    expect(errors[0]?.extensions).toMatchObject({
      status: 400,
      hint: expect.stringContaining("isNull"),
    });
  });

  test("pages by cursor", async () => {
    const page = `query ($after: Cursor) { contacts(first: 2, after: $after, filter: { name: { startsWith: "L" } }, orderBy: NAME_ASC) { nodes { name } pageInfo { hasNextPage endCursor } } }`;
    const first = (await data(page)).contacts;
    const second = (await data(page, { after: first.pageInfo.endCursor })).contacts;
    expect([first.nodes, first.pageInfo.hasNextPage, second.nodes]).toEqual([
      [{ name: "Lia" }, { name: "Lou" }],
      true,
      [{ name: "Lyn" }],
    ]);
  });

  test("relations both ways, by id and by a unique property", async () => {
    const { companies } = await data(`{ companies(filter: { regNo: { equalTo: 1 } }) { nodes { name
      contacts(orderBy: NAME_ASC) { totalCount nodes { name company { name } } }
      sales(orderBy: NAME_ASC) { nodes { name seller { name regNo } } } } } }`);
    expect(companies.nodes).toEqual([
      {
        name: "Arc",
        contacts: {
          totalCount: 2,
          nodes: [
            { name: "Lia", company: { name: "Arc" } },
            { name: "Lou", company: { name: "Arc" } },
          ],
        },
        sales: {
          nodes: [
            { name: "Lou", seller: { name: "Arc", regNo: "1" } },
            { name: "Lyn", seller: { name: "Arc", regNo: "1" } },
          ],
        },
      },
    ]);
    expect((await data(`{ companyByRegNo(regNo: 2) { name } }`)).companyByRegNo).toEqual({ name: "Box" });
  });
});

describe("a definition change shows in the next request", () => {
  test("a new property, defined over another connection", async () => {
    await define("acme/crm", "notes", { body: { type: "string" } });
    await data(`mutation { createNote(input: { note: { body: "one" } }) { note { id } } }`);
    await define("acme/crm", "notes", {
      body: { type: "string" },
      stars: { type: "integer" },
    });
    expect((await data(`{ notes { nodes { body stars } } }`)).notes.nodes).toEqual([
      { body: "one", stars: null },
    ]);
  });

  test("prepared statements survive a change of a column's type", async () => {
    const uuid = "0199aa00-0000-7000-8000-000000000001";
    const app = "/api/v1/sites/acme/apps/types/graphql";
    await db.query("select tenancy.create_app('acme', 'types')");
    await define("acme/types", "points", { x: { type: "string" } });
    await Promise.all(Array.from({ length: 8 }, () => data(`{ points { nodes { x } } }`, {}, "ann", app)));
    await db
      .query("select data.drop_entity('acme/types/points', 'acme/types/points')")
      .catch(() => db.query("select data.drop_entity('acme/types/points', 'points')"));
    await define("acme/types", "points", {
      x: { type: "string", format: "uuid" },
    });
    for (let n = 0; n < 10; n++)
      expect((await data(`{ points { nodes { x } } }`, {}, "ann", app)).points.nodes).toEqual([]);
    expect(
      (
        await data(
          `mutation { createPoint(input: { point: { x: "${uuid}" } }) { point { x } } }`,
          {},
          "ann",
          app,
        )
      ).createPoint.point.x,
    ).toBe(uuid);
  });

  test("a build that fails keeps the one before serving, and says so in the log", async () => {
    const app = "/api/v1/sites/acme/apps/broken/graphql";
    await db.query("select tenancy.create_app('acme', 'broken')");
    await define("acme/broken", "items", { label: { type: "string" } });
    await data(`{ items { totalCount } }`, {}, "ann", app);
    await db.query(
      `comment on view acme_broken.items is E'@primaryKey id\n@foreignKey (label) references acme_broken.nothing (id)'`,
    );
    await define("acme/broken", "others", { label: { type: "string" } });
    expect((await data(`{ items { totalCount } }`, {}, "ann", app)).items).toEqual({ totalCount: 0 });
    expect(
      log.some(
        (line) => line.includes("the one before keeps serving") && line.includes("non-existent table"),
      ),
    ).toBe(true);
    await define("acme/broken", "items", {
      label: { type: "string" },
      size: { type: "integer" },
    });
    expect((await data(`{ items { nodes { size } } }`, {}, "ann", app)).items).toEqual({ nodes: [] });
  });

  test("also while the listener is gone, and it comes back", async () => {
    const woken: string[] = [];
    const listener = listenToDefinitions(db.gatewayUrl, pino({ level: "silent" }), (appId) =>
      woken.push(appId),
    );
    const listening = (count: number) =>
      eventually(
        async () =>
          (
            await db.query(
              "select from pg_stat_activity where application_name = 'rowhouse definitions' and datname = current_database() and query ilike 'listen%'",
            )
          ).length === count,
      );
    const [app] = await db.query<{ id: string }>(
      "select a.id from tenancy.apps a join tenancy.sites s on s.id = a.site_id where s.name = 'acme' and a.name = 'crm'",
    );
    await listening(2); // this one and the gateway's
    await db.query(
      "select pg_terminate_backend(pid, 2000) from pg_stat_activity where application_name = 'rowhouse definitions' and datname = current_database()",
    );
    await define("acme/crm", "drafts", { body: { type: "string" } });
    expect((await data(`{ drafts { totalCount } }`)).drafts).toEqual({
      totalCount: 0,
    });
    await listening(2);
    woken.length = 0;
    await define("acme/crm", "drafts", {
      body: { type: "string" },
      stars: { type: "integer" },
    });
    expect((await data(`{ drafts { nodes { stars } } }`)).drafts).toEqual({
      nodes: [],
    });
    await eventually(() => woken.includes(app?.id as string));
    await listener.stop();
  });

  test("when the gateway's connections are cut, the next requests are answered", async () => {
    await data(`{ contacts { totalCount } }`);
    await db.query(
      "select pg_terminate_backend(pid, 2000) from pg_stat_activity where usename = 'rowhouse_gateway' and datname = current_database()",
    );
    await eventually(() => pool.totalCount === 0); // it has heard of it
    for (let n = 0; n < 5; n++) await data(`{ contacts { totalCount } }`);
  });
});

describe("names that would collide are refused when an entity is defined", () => {
  test.each([
    ["singular and plural", "contact", { a: { type: "string" } }],
    ["GraphQL's own type", "page_infos", { a: { type: "string" } }],
    ["two properties", "boxes", { a1: { type: "string" }, a_1: { type: "string" } }],
    [
      "a property and a relation",
      "deals",
      {
        company: { type: "string" },
        company_id: {
          type: "string",
          format: "uuid",
          "x-relation": { entity: "companies" },
        },
      },
    ],
    [
      "two inverses",
      "gifts",
      {
        a_id: {
          type: "string",
          format: "uuid",
          "x-relation": { entity: "companies", inverse: "contacts" },
        },
      },
    ],
    ["nodeId", "knots", { node_id: { type: "string" } }],
  ])("%s", async (_title, name, properties) => {
    await expect(define("acme/crm", name, properties)).rejects.toMatchObject({
      code: "RH400",
    });
    await data(`{ contacts { totalCount } }`);
  });
});

test("words that name types elsewhere can name entities here", async () => {
  const app = "/api/v1/sites/acme/apps/words/graphql";
  await db.query("select tenancy.create_app('acme', 'words')");
  const words = [
    "points",
    "line",
    "paths",
    "boxes",
    "intervals",
    "times",
    "uuids",
    "news",
    "people",
    "data",
    "order_by",
    "user_input",
    "account_patch",
    "class",
    "enum",
    "type",
  ];
  for (const word of words)
    await define("acme/words", word, {
      type: { type: "string" },
      order: { type: "string" },
      natural: { type: "string" },
      primary_key: { type: "string" },
    });
  const { __schema } = await data(`{ __schema { queryType { fields { name } } } }`, {}, "ann", app);
  expect(__schema.queryType.fields.map((field: { name: string }) => field.name)).toEqual(
    expect.arrayContaining([
      "points",
      "point",
      "lines",
      "line",
      "boxes",
      "box",
      "news",
      "newsList",
      "person",
      "people",
      "userInputs",
      "types",
    ]),
  );
  const { points } = await data(
    `mutation { createPoint(input: { point: { type: "x", order: "y" } }) { clientMutationId } }`,
    {},
    "ann",
    app,
  ).then(() =>
    data(`{ points(orderBy: [PRIMARY_KEY_ASC, NATURAL]) { nodes { type order } } }`, {}, "ann", app),
  );
  expect(points.nodes).toEqual([{ type: "x", order: "y" }]);
});

describe("tenants do not see each other", () => {
  test("another site's app is unknown: 404, also with its own token", async () => {
    expect((await ask(`{ contacts { totalCount } }`, {}, "bob")).status).toBe(404);
    expect(
      (await ask(`{ contacts { totalCount } }`, {}, "ann", "/api/v1/sites/beta/apps/crm/graphql")).status,
    ).toBe(404);
    expect((await ask(`{ contacts { totalCount } }`, {}, null)).status).toBe(401);
  });

  test("two apps with the same entity names have types of their own", async () => {
    const beta = "/api/v1/sites/beta/apps/crm/graphql";
    await data(
      `mutation { createContact(input: { contact: { secretTitle: "beta's" } }) { contact { id } } }`,
      {},
      "bob",
      beta,
    );
    expect((await data(`{ contacts { nodes { secretTitle } } }`, {}, "bob", beta)).contacts.nodes).toEqual([
      { secretTitle: "beta's" },
    ]);
    expect((await ask(`{ contacts { nodes { secretTitle } } }`)).status).toBe(400);
  });

  test("introspection shows this app's types and nothing of the storage or of others", async () => {
    const { __schema } = await data(`{ __schema { types { name fields { name } inputFields { name } } } }`);
    const text = JSON.stringify(__schema);
    expect(text).toContain('"Contact"');
    expect(text).not.toMatch(/secretTitle|jsonb|Jsonb|violations|writeThrough|password/i);
  });

  test("a viewer's mutation is refused, and told why", async () => {
    expect((await data(`{ contacts { totalCount } }`, {}, "vic")).contacts.totalCount).toBeGreaterThan(0);
    const { errors } = await ask(
      `mutation { createContact(input: { contact: { name: "no" } }) { clientMutationId } }`,
      {},
      "vic",
    );
    expect(errors[0]).toMatchObject({
      message: expect.stringContaining("may not create"),
      extensions: {
        status: 403,
        code: "forbidden",
        hint: expect.stringContaining("viewer"),
      },
    });
  });
});

describe("documents that are too much are refused before they are begun", () => {
  const nest = (levels: number): string =>
    levels === 0 ? "id" : `company { contacts { nodes { ${nest(levels - 1)} } } }`;
  test.each<[string, string]>([
    ["deep nesting", `{ contacts { nodes { ${nest(6)} } } }`],
    ["aliases", `{ ${Array.from({ length: 1200 }, (_, n) => `a${n}: contacts { totalCount }`).join(" ")} }`],
    [
      "root aliases",
      `{ ${Array.from({ length: 30 }, (_, n) => `a${n}: contacts { totalCount }`).join(" ")} }`,
    ],
    [
      "root aliases through fragments",
      `{ ...f ...f } fragment f on Query { ${Array.from({ length: 15 }, (_, n) => `a${n}: contacts { totalCount }`).join(" ")} }`,
    ],
    [
      "fragments that double",
      `{ contacts { nodes { ...f0 } } } ${Array.from({ length: 40 }, (_, n) => `fragment f${n} on Contact { a: company { contacts { nodes { ...f${n + 1} } } } b: company { contacts { nodes { ...f${n + 1} } } } }`).join(" ")} fragment f40 on Contact { id }`,
    ],
    [
      "fragments in a circle",
      `{ contacts { nodes { ...a } } } fragment a on Contact { company { contacts { nodes { ...b } } } } fragment b on Contact { ...a }`,
    ],
    [
      "many records",
      `{ contacts(first: 1000) { nodes { company { contacts(first: 1000) { nodes { id } } } } } }`,
    ],
    ["a long list", `{ contacts(first: 1000000) { nodes { id } } }`],
    ["a huge document", `{ contacts { totalCount } } # ${"x".repeat(200_000)}`],
    ["brackets", `{ contacts(filter: ${"{ not: ".repeat(4000)}{}${"}".repeat(4000)}) { totalCount } }`],
    ["no GraphQL", `{{{{`],
  ])("%s", async (_title, query) => {
    const reply = await ask(query);
    expect([reply.status, reply.data]).toEqual([400, undefined]); // not even begun
    expect(reply.errors[0]?.message).toMatch(/limit is|itself|Syntax/);
  });

  test.each([10, 1000, 5000, 50_000])("values nested %d levels are taken or refused", async (levels) => {
    const not = `${"{ not: ".repeat(levels)}{}${"}".repeat(levels)}`;
    const nots = `${'{"not":'.repeat(levels)}{}${"}".repeat(levels)}`;
    const lists = `${"[".repeat(levels)}12345678901234567890${"]".repeat(levels)}`;
    const filter = `query ($f: ContactFilter) { contacts(filter: $f) { totalCount } }`;
    const create = `mutation ($extra: JSON) { createContact(input: { contact: { name: "J", extra: {deep: $extra} } }) { contact { extra } } }`;
    for (const body of [
      JSON.stringify({
        query: `{ contacts(filter: ${not}) { totalCount } }`,
      }),
      `{"query":${JSON.stringify(filter)},"variables":{"f":${nots}}}`,
      `{"query":${JSON.stringify(create)},"variables":{"extra":${nots}}}`,
      `{"query":${JSON.stringify(create)},"variables":{"extra":${lists}}}`,
      JSON.stringify({
        query: create.replace("($extra: JSON)", "").replace("$extra", lists),
      }),
    ]) {
      const { text } = await post(crm, body);
      expect(text).toMatch(/^\{"data"|nested_too_deeply|query_too_large/);
    }
  });

  const limited: [keyof Settings, string, string][] = [
    ["ROWHOUSE_GRAPHQL_CHARACTERS", "1000", `{ contacts { totalCount } } # ${"x".repeat(1000)}`],
    ["ROWHOUSE_GRAPHQL_TOKENS", "100", `{ contacts { nodes { ${"id ".repeat(100)} } } }`],
    ["ROWHOUSE_GRAPHQL_DEPTH", "3", `{ contacts { nodes { company { name } } } }`],
    ["ROWHOUSE_GRAPHQL_FIELDS", "4", `{ contacts { nodes { id name version } } }`],
    [
      "ROWHOUSE_GRAPHQL_ROOT_FIELDS",
      "2",
      `{ ... { ... { a: contacts { totalCount } b: contacts { totalCount } c: contacts { totalCount } } } }`,
    ],
    ["ROWHOUSE_GRAPHQL_PAGE", "10", `{ contacts(first: 11) { totalCount } }`],
    [
      "ROWHOUSE_GRAPHQL_RECORDS",
      "50",
      `{ companies(first: 5) { nodes { contacts(first: 10) { totalCount } } } }`,
    ],
  ];
  test.each(limited)("%s=%s is a limit, and the error names it", async (name, value, query) => {
    const { appHandler, stop } = createGraphql({
      pool,
      settings: readSettings({ [name]: value }),
      log: pino({ level: "silent" }),
    });
    const issuer = await openTokens({
      pool,
      masterKey,
      settings: readSettings({}),
    });
    const claims = issuer.verify(tokens.ann as string);
    const other = createServer(
      (req, res) =>
        void appHandler(
          {
            site: "acme",
            app: "crm",
            claims,
            env: { ip: null, user_agent: null, origin: null, request_id: "r", request: "" },
          },
          req,
          res,
        ),
    );
    await new Promise<void>((done) => other.listen(0, "127.0.0.1", done));
    const response = await fetch(`http://127.0.0.1:${(other.address() as AddressInfo).port}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ query }),
    });
    other.close();
    await stop();
    expect((await ask(query)).status).toBe(200);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      errors: [
        {
          message: expect.stringContaining(`the limit is ${value} `),
          extensions: {
            code: "query_too_large",
            limit: { setting: name, value: Number(value) },
          },
        },
      ],
    });
  });

  test.each([["[]"], ["{}"], ['{"query": 1}'], ["not json"], ['[{"query":"{ query { nodeId } }"}]']])(
    "body %s",
    async (body) => {
      expect((await post(crm, body)).status).toBe(400);
    },
  );
});

describe("the control plane", () => {
  test("shows exactly these fields", async () => {
    const { __schema } = await data(
      `{ __schema { queryType { fields { name } } mutationType { fields { name } } } }`,
      {},
      "roamer",
      "/graphql",
    );
    const names = (type: { fields: { name: string }[] }) => type.fields.map((field) => field.name).sort();
    expect({
      query: names(__schema.queryType),
      mutation: names(__schema.mutationType),
    }).toMatchInlineSnapshot(`
     {
       "mutation": [
         "addDomain",
         "addMember",
         "addOrganizationMember",
         "addToGroup",
         "assignRole",
         "assignRoleToGroup",
         "createApp",
         "createGroup",
         "createOrganization",
         "createRole",
         "createSite",
         "defineEntity",
         "definePolicy",
         "defineRole",
         "delegate",
         "dropApp",
         "dropEntity",
         "dropGroup",
         "dropOrganization",
         "dropPolicy",
         "dropRole",
         "dropSite",
         "grantPermission",
         "removeFromGroup",
         "removeMember",
         "removeOrganizationMember",
         "revokeDelegation",
         "revokePermission",
         "revokeRole",
         "revokeRoleFromGroup",
         "setMemberRole",
         "updateAppSettings",
         "updateSiteSettings",
       ],
       "query": [
         "account",
         "accountByEmail",
         "accounts",
         "app",
         "appBySiteIdAndName",
         "apps",
         "assignment",
         "assignmentByAccountIdAndGroupIdAndSiteIdAndRoleId",
         "assignments",
         "auditLog",
         "domain",
         "domainBySiteIdAndDomain",
         "domains",
         "effective",
         "entities",
         "entity",
         "entityByAppIdAndName",
         "explain",
         "field",
         "fields",
         "group",
         "groupBySiteIdAndName",
         "groupMember",
         "groupMembers",
         "groups",
         "node",
         "nodeId",
         "organization",
         "organizationAuditLog",
         "organizationByName",
         "organizationMember",
         "organizationMembers",
         "organizations",
         "permission",
         "permissions",
         "policies",
         "policy",
         "policyBySiteIdAndScopeAndName",
         "query",
         "relation",
         "relations",
         "role",
         "roleBySiteIdAndAppIdAndName",
         "roles",
         "site",
         "siteByName",
         "siteMember",
         "siteMembers",
         "sites",
         "verifyAuditLog",
         "verifyOrganizationAuditLog",
         "whatCan",
         "whoCan",
       ],
     }
    `);
  });

  test("shows no password, no hash, no role of PostgreSQL", async () => {
    const { __schema } = await data(
      `{ __schema { types { name fields { name } inputFields { name } } } }`,
      {},
      "roamer",
      "/graphql",
    );
    expect(JSON.stringify(__schema)).not.toMatch(
      /password|hash|roleName|schemaName|openRequest|proof"?s|session|signing/i,
    );
  });

  test("creates an organization, a site, an app and an entity", async () => {
    const control = (query: string, variables = {}) => data(query, variables, "roamer", "/graphql");
    await control(`mutation { createOrganization(input: { name: "gamma" }) { result { id } } }`);
    await control(
      `mutation { createSite(input: { organization: "gamma", name: "gamma" }) { result { id } } }`,
    );
    await control(`mutation { createApp(input: { site: "gamma", name: "shop" }) { result { id } } }`);
    await control(
      `mutation ($schema: JSON!) { defineEntity(input: { app: "gamma/shop", name: "goods", schema: $schema }) { result { id version } } }`,
      {
        schema: { type: "object", properties: { title: { type: "string" } } },
      },
    );
    const { sites } = await control(
      `{ sites(filter: { name: { equalTo: "gamma" } }) { nodes { name apps(first: 5) { nodes { name entities(first: 5) { nodes { name fields { nodes { name } } } } } } } } }`,
    );
    expect(sites.nodes).toEqual([
      {
        name: "gamma",
        apps: {
          nodes: [
            {
              name: "shop",
              entities: {
                nodes: [{ name: "goods", fields: { nodes: [{ name: "title" }] } }],
              },
            },
          ],
        },
      },
    ]);
    expect(
      await data(`{ goods { totalCount } }`, {}, "roamer", "/api/v1/sites/gamma/apps/shop/graphql").catch(
        () => "other name",
      ),
    ).toBeTruthy();
  });

  test("one account does not see another's, and may not do what its role does not allow", async () => {
    const { sites } = await data(`{ sites { nodes { name } } }`, {}, "bob", "/graphql");
    expect(sites.nodes).toEqual([{ name: "beta" }]);
    const { errors } = await ask(
      `mutation { createApp(input: { site: "acme", name: "evil" }) { result { id } } }`,
      {},
      "bob",
      "/graphql",
    );
    expect(errors[0]?.extensions).toMatchObject({ status: 404 });
    const viewer = await ask(
      `mutation { dropApp(input: { app: "acme/crm", confirm: "acme/crm" }) { clientMutationId } }`,
      {},
      "vic",
      "/graphql",
    );
    expect(viewer.errors[0]?.extensions).toMatchObject({ status: 403 });
  });
});

describe("tokens", () => {
  const both: [string, string, string][] = [
    ["an app", crm, "{ contacts { totalCount } }"],
    ["the control plane", "/graphql", "{ sites { totalCount } }"],
  ];
  const logIn = async () => {
    const response = await fetch(`${url}/api/v1/auth/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        email: "lea@example.test",
        password: "a long enough passphrase 1",
      }),
    });
    return (await response.json()) as {
      access_token: string;
      refresh_token: string;
    };
  };

  beforeAll(async () => {
    await fetch(`${url}/api/v1/auth/signup`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        email: "lea@example.test",
        password: "a long enough passphrase 1",
      }),
    });
    await db.query("select tenancy.add_member('acme', 'lea@example.test', 'viewer')");
    await db.query("select tenancy.add_member('beta', 'lea@example.test', 'admin')");
  });

  test.each(both)("%s: a token ends with its session", async (_title, path, query) => {
    tokens.lea = (await logIn()).access_token;
    expect((await ask(query, {}, "lea", path)).status).toBe(200);
    const logout = await fetch(`${url}/api/v1/auth/logout`, {
      method: "POST",
      headers: { authorization: `Bearer ${tokens.lea}` },
    });
    expect(logout.status).toBe(204);
    const after = await ask(query, {}, "lea", path);
    expect([after.status, after.data]).toEqual([401, undefined]);
  });

  test.each(both)("%s: no other token is taken", async (_title, path, query) => {
    const { access_token, refresh_token } = await logIn();
    const [head = "", body = "", signature = ""] = access_token.split(".");
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const header = JSON.parse(Buffer.from(head, "base64url").toString());
    const claims = JSON.parse(Buffer.from(body, "base64url").toString());
    const foreign = await openTokens({
      pool,
      masterKey,
      settings: readSettings({ ROWHOUSE_URL: "https://other.test" }),
    });
    const own = await openTokens({
      pool,
      masterKey,
      settings: readSettings({}),
    });
    const session = {
      id: claims.sid,
      account_id: claims.sub,
      email: claims.email,
      site_id: null,
      roles: [],
      refresh_token: null,
      expires_in: 900,
    };
    const { keys } = (await (await fetch(`${url}/.well-known/jwks.json`)).json()) as { keys: JsonWebKey[] };
    const publicKey = createPublicKey({
      key: keys[0] as JsonWebKey,
      format: "jwk",
    });
    const signing = `${encode({ ...header, alg: "HS256" })}.${body}`;
    const attacks: Record<string, string> = {
      nonsense: "nonsense",
      "no signature": `${head}.${body}.`,
      "alg none": `${encode({ ...header, alg: "none" })}.${body}.`,
      "HS256 with a public key": `${signing}.${createHmac(
        "sha256",
        publicKey.export({ type: "spki", format: "pem" }),
      )
        .update(signing)
        .digest("base64url")}`,
      "other claims": `${head}.${encode({ ...claims, email: "ann@example.test" })}.${signature}`,
      "another issuer's": foreign.issue(session).access_token,
      expired: own.issue(session, -1).access_token,
      "a refresh token": refresh_token,
    };
    tokens.good = access_token;
    expect((await ask(query, {}, "good", path)).status).toBe(200);
    for (const [name, attack] of Object.entries(attacks)) {
      tokens.attack = attack;
      const reply = await ask(query, {}, "attack", path);
      expect([name, reply.status, reply.data]).toEqual([name, 401, undefined]);
    }
  });

  test("a token for one site is good for no other, also in the control plane", async () => {
    const own = await openTokens({
      pool,
      masterKey,
      settings: readSettings({}),
    });
    tokens.limited = (
      await issueDevelopmentToken(db.pool, own, {
        email: "lea@example.test",
        site: "acme",
      })
    ).access_token;
    const { sites } = await data("{ sites { nodes { name } } }", {}, "limited", "/graphql");
    const made = await ask(
      `mutation { createApp(input: { site: "beta", name: "sneaked" }) { result { id } } }`,
      {},
      "limited",
      "/graphql",
    );
    expect([sites.nodes, made.errors[0]?.extensions.status]).toEqual([[{ name: "acme" }], 404]);
    const founded = await ask(
      `mutation { createOrganization(input: { name: "sneaked" }) { result { id } } }`,
      {},
      "limited",
      "/graphql",
    );
    expect(founded.errors[0]?.extensions.status).toBe(403);
    expect(founded.errors[0]?.message).toBe("Your token is for one site; organizations are beyond it");
    expect(await db.query("select from tenancy.organizations where name = 'sneaked'")).toEqual([]);
  });
});

test("GraphiQL comes from this server alone", async () => {
  for (const path of ["/graphql", crm]) {
    const response = await fetch(url + path);
    const html = await response.text();
    expect([response.status, response.headers.get("content-type")]).toEqual([
      200,
      "text/html; charset=utf-8",
    ]);
    expect(html).not.toMatch(/(src|href)="https?:/);
    const script = /"([^"]+\/ruru\.js)"/.exec(html)?.[1];
    expect((await fetch(url + script)).status).toBe(200);
  }
  expect((await fetch(`${url}/graphql/assets/../../package.json`)).status).toBe(404);
});
