import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, base, type Call, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

// Contacts Ada, Bea, Cyd and Dan; companies Oslo Works and Rome Works; notes Alpha and Zulu, with an age as text and a city.
let crm: Crm;
type Query = Record<string, unknown>;
const send = (path: string, call?: Call) => crm.send(path, call);
const address = (query: Query, word = "query") =>
  `${base}/${word}?${Object.entries({ entities: "contacts,companies,notes", ...query })
    .map(
      ([name, value]) =>
        `${name}=${encodeURIComponent(typeof value === "string" ? value : JSON.stringify(value))}`,
    )
    .join("&")}`;
const rows = (answer: Answer): Record<string, unknown>[] => {
  expect([answer.status, answer.status === 200 ? "" : answer.text]).toEqual([200, ""]);
  return answer.json.data;
};
const ask = async (query: Query, call?: Call) => rows(await send(address(query), call));
const short = async (query: Query, call?: Call) =>
  (await ask({ select: "name", ...query }, call))
    .map(({ entity, name }) => `${String(entity).slice(0, 2)}:${name}`)
    .join(" ");
const aggregated = async (query: Query, call?: Call) =>
  rows(await send(address(query, "query/aggregate"), call));

beforeAll(async () => {
  crm = await startCrm();
  const { db } = crm;
  await db.query("select data.define_entity('acme/crm', 'notes', $1)", [
    {
      type: "object",
      required: ["name"],
      properties: {
        name: { type: "string", "x-index": true },
        age: { type: "string" },
        city: { type: "string" },
        entity: { type: "string" },
        company_id: { "x-relation": { entity: "companies" } },
      },
    },
  ]);
  await db.query("select data.insert('acme/crm/companies', $1)", [{ name: "Rome Works", city: "Rome" }]);
  await db.query("select data.insert('acme/crm/notes', $1)", [
    JSON.stringify([
      { name: "Alpha", city: "Oslo", entity: "x", company_id: crm.ids.company },
      { name: "Zulu", age: "old" },
    ]),
  ]);
  await db.query("select access.create_role('acme', 'notes-only', array['crm/notes:read'])");
  await db.account("kim@acme.test");
  await db.query("select tenancy.add_member('acme', 'kim@acme.test', 'notes-only')");
  crm.tokens.kim = await crm.gateway.token("kim@acme.test", "acme");
});
afterAll(() => crm?.stop());

describe("records of several entities in one list", () => {
  test.each<[string, Query, string]>([
    ["sorted", { sort: "name" }, "co:Ada no:Alpha co:Bea co:Cyd co:Dan co:Oslo Works co:Rome Works no:Zulu"],
    ["newest first unless told", { limit: "3" }, "no:Zulu no:Alpha co:Rome Works"],
    [
      "filtered",
      { filter: { name: { $gt: "B" } }, sort: "-name" },
      "no:Zulu co:Rome Works co:Oslo Works co:Dan co:Cyd co:Bea",
    ],
    [
      "filtered by a relation that all have",
      { entities: "contacts,notes", filter: { "company.city": "Oslo" }, sort: "name" },
      "co:Ada no:Alpha co:Bea",
    ],
    [
      "sorted by a relation that all have",
      { entities: "contacts,notes", sort: "-company.city,name", limit: "4" },
      "co:Cyd co:Dan no:Zulu co:Ada",
    ],
    ["one page", { sort: "name", limit: "2", page: "2" }, "co:Bea co:Cyd"],
    ["of one entity", { entities: "notes", sort: "name" }, "no:Alpha no:Zulu"],
    [
      "sorted by a field that some lack",
      { nullable: "city", sort: "city,name", limit: "4" },
      "no:Alpha co:Oslo Works co:Rome Works co:Ada",
    ],
  ])("%s", async (_title, query, expected) => {
    expect(await short(query)).toBe(expected);
  });

  test("each with its entity, and what all have unless told", async () => {
    const [first] = await ask({ sort: "name" });
    expect(first).toEqual({
      entity: "contacts",
      id: crm.ids.Ada,
      name: "Ada",
      created_at: expect.any(String),
      updated_at: expect.any(String),
      version: 1,
      created_by: null,
    });
    expect(
      await ask({
        select: "name,city,company.city",
        nullable: "city,company.city",
        filter: { name: { $in: ["Alpha", "Ada", "Rome Works"] } },
        sort: "name",
      }),
    ).toEqual([
      { entity: "contacts", name: "Ada", city: null, "company.city": "Oslo" },
      { entity: "notes", name: "Alpha", city: "Oslo", "company.city": "Oslo" },
      { entity: "companies", name: "Rome Works", city: "Rome", "company.city": null },
    ]);
  });

  test.each(["name", "-name", "created_at", "-updated_at,name", "city,-name", "-city", "company.city,name"])(
    "cursors lead through all of them once, sorted by %s",
    async (sort) => {
      const query = { sort, nullable: "city,company.city" };
      const all = await short(query);
      const paged: string[] = [];
      let cursor: string | null = null;
      do {
        const answer: Answer = await send(
          address({ ...query, select: "name", limit: "1", ...(cursor ? { cursor } : {}) }),
        );
        paged.push(...rows(answer).map(({ entity, name }) => `${String(entity).slice(0, 2)}:${name}`));
        cursor = answer.json.meta.next_cursor;
      } while (cursor && paged.length < 20);
      expect(paged.join(" ")).toBe(all);
      expect(paged).toHaveLength(8);
    },
  );

  test("records with one id in two entities are two", async () => {
    const id = "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b";
    for (const entity of ["companies", "notes"])
      await crm.db.query(`select data.insert('acme/crm/${entity}', $1)`, [{ id, name: "Twin" }]);
    const twins = { filter: { name: "Twin" }, sort: "name", select: "id" };
    const first = await send(address({ ...twins, limit: "1" }));
    const second = await ask({ ...twins, cursor: first.json.meta.next_cursor as string });
    expect([...rows(first), ...second]).toEqual([
      { entity: "companies", id },
      { entity: "notes", id },
    ]);
    await crm.db.query("delete from acme_crm.companies where id = $1", [id]);
    await crm.db.query("delete from acme_crm.notes where id = $1", [id]);
  });

  test("psql says the same", async () => {
    const [row] = await crm.db.query<{ r: { data: Query[] } }>(
      `select data.find_union('acme/crm', '{"entities": ["contacts", "notes"], "select": ["name"], "filter": {"name": {"$lt": "B"}}, "sort": [{"field": "name"}]}') as r`,
    );
    expect(row?.r.data).toEqual([
      { entity: "contacts", name: "Ada" },
      { entity: "notes", name: "Alpha" },
    ]);
  });
});

describe("aggregated", () => {
  test.each<[string, Query, Query[]]>([
    [
      "by entity",
      { group: "entity" },
      [
        { entity: "companies", count: 2 },
        { entity: "contacts", count: 4 },
        { entity: "notes", count: 2 },
      ],
    ],
    [
      "over all",
      { aggregate: "count,count_distinct(entity),max(name)" },
      [{ count: 8, count_distinct_entity: 3, max_name: "Zulu" }],
    ],
    [
      "by a field that some lack",
      { nullable: "city", group: "city", having: { city: { $exists: true } } },
      [
        { city: "Oslo", count: 2 },
        { city: "Rome", count: 1 },
      ],
    ],
    [
      "filtered, over a relation",
      { entities: "contacts,notes", filter: { "company.city": "Oslo" }, group: "company.name,entity" },
      [
        { "company.name": "Oslo Works", entity: "contacts", count: 2 },
        { "company.name": "Oslo Works", entity: "notes", count: 1 },
      ],
    ],
  ])("%s", async (_title, query, expected) => {
    expect(await aggregated(query)).toEqual(expected);
  });
  test("psql says the same", async () => {
    const [row] = await crm.db.query<{ r: { data: Query[] } }>(
      `select data.aggregate_union('acme/crm', '{"entities": ["contacts", "notes"], "group": ["entity"], "having": {"count": {"$gt": 2}}}') as r`,
    );
    expect(row?.r.data).toEqual([{ entity: "contacts", count: 4 }]);
  });
});

describe("what is refused, with what there is", () => {
  test.each<[string, Query, string, RegExp?]>([
    ["a field that one lacks", { select: "city" }, "unknown_field", /nullable=city/],
    ["a sort that one lacks", { sort: "city" }, "unknown_field", /Fields of all: id, name/],
    ["a filter that one lacks", { filter: { city: "Oslo" } }, "unknown_field"],
    ["a field that none has", { select: "town", nullable: "town" }, "unknown_field"],
    ["types that differ", { entities: "contacts,notes", select: "age" }, "type_mismatch", /fit: id, name/],
    ["no entities", { entities: "" }, "invalid_entities", /entities=contacts/],
    ["one twice", { entities: "notes,notes" }, "invalid_entities"],
    ["nine", { entities: "a,b,c,d,e,f,g,h,i" }, "invalid_entities"],
    ["an unknown entity", { entities: "notes,nothing" }, "not_found"],
    ["a sort by entity", { sort: "entity" }, "invalid_sort"],
    ["a cursor of another query", { sort: "name", cursor: "WyJ4Il0" }, "invalid_cursor"],
    ["expand", { expand: "company" }, "unknown_parameter"],
    ["1,001 records", { limit: "1001" }, "invalid_limit"],
    ["SQL as an entity", { entities: "notes; drop table x" }, "not_found"],
    ["SQL as a field", { select: `name" from x; --` }, "unknown_field"],
    ["SQL as a nullable field", { select: `x') --`, nullable: `x') --` }, "unknown_field"],
    ["a list of no texts", { entities: "[1]" }, "invalid_entities"],
  ])("%s", async (_title, query, code, hint = /./) => {
    const { json } = await send(address(query));
    expect([json.status, json.code]).toEqual([code === "not_found" ? 404 : 400, code]);
    expect(json.hint).toMatch(hint);
  });
  test("without entities, and other methods than GET", async () => {
    expect((await send(`${base}/query`)).status).toBe(400);
    expect((await send(`${base}/query/aggregate`)).status).toBe(400);
    expect((await send(`${base}/query`, { method: "POST", body: {} })).status).toBe(405);
  });
});

describe("rights", () => {
  test("records of entities that one may not read are not there", async () => {
    const as = { as: "kim" };
    expect(await short({ sort: "name" }, as)).toBe("no:Alpha no:Zulu");
    expect(await aggregated({ group: "entity" }, as)).toEqual([{ entity: "notes", count: 2 }]);
    expect(await ask({ entities: "contacts,notes", select: "company.city", sort: "name" }, as)).toEqual([
      { entity: "notes", "company.city": null },
      { entity: "notes", "company.city": null },
    ]);
  });
  test("another tenant's are not there", async () => {
    expect((await send(address({}), { as: "bob" })).status).toBe(404);
    const asAnn = (query: string) =>
      refusal(crm.db.as("acme", "ann@acme.test", (client) => client.query(query)));
    expect((await asAnn(`select data.find_union('beta/crm', '{"entities": ["contacts"]}')`)).code).toBe(
      "RH404",
    );
    expect(
      (await asAnn(`select data.find_union('crm', '{"entities": ["contacts", "beta/crm/contacts"]}')`)).code,
    ).toBe("RH404");
  });
});

test("as the site's role, each arm reads a page by its own index, filter and cursor included", async () => {
  await crm.db.query(
    `select data.insert('acme/crm/notes', (select jsonb_agg(jsonb_build_object('name', 'n' || i)) from generate_series(1, 5000) i)),
      data.insert('acme/crm/companies', (select jsonb_agg(jsonb_build_object('name', 'c' || i)) from generate_series(1, 5000) i))`,
  );
  await crm.db.query("analyze acme_crm.notes_jsonb, acme_crm.companies_jsonb");
  const explained = (shape: Query, ...values: string[]) =>
    crm.db.as("acme", "ann@acme.test", async (client) => {
      const { rows } = await client.query(
        "select data.compile('crm', '', 'find_union', $1) ->> 'sql' as sql",
        [JSON.stringify({ entities: ["notes", "companies"], limit: 20, ...shape })],
      );
      await client.query(
        `prepare u(${values.map(() => "text").join(", ")}) as ${rows[0].sql}`.replace("u()", "u"),
      );
      const list = values.map((value) => client.escapeLiteral(value)).join(", ");
      const plan = await client.query(`explain (costs off) execute u${list ? `(${list})` : ""}`);
      await client.query("deallocate u");
      return plan.rows.map((row) => Object.values(row)[0]).join("\n");
    });
  const first = await explained({});
  const { next_cursor } = (await send(address({ entities: "notes,companies", limit: "20" }))).json.meta;
  const after = await explained({ cursor: true }, String(next_cursor));
  const named = await explained({ filter: { name: { $param: 1 } } }, "n7");
  for (const plan of [first, after, named]) expect(plan).not.toMatch(/Seq Scan on (notes|companies)_jsonb/);
  for (const plan of [first, after]) {
    expect(plan).toMatch(/Index Scan Backward using notes_created_at_idx/);
    expect(plan).toMatch(/Index Scan Backward using companies_created_at_idx/);
  }
  expect(after).toMatch(/Index Cond: \(created_at <= /);
  expect(named).toMatch(/notes_name_idx[\s\S]*companies_name_key/);
});

test("the examples of docs/queries.md, in psql and over REST", async () => {
  await crm.db.query("select data.define_entity('acme/crm', 'orders', $1)", [
    {
      type: "object",
      properties: {
        status: { type: "string" },
        total: { type: "number", format: "decimal" },
        placed_at: { type: "string", format: "date-time" },
        company_id: { "x-relation": { entity: "companies" } },
      },
    },
  ]);
  await crm.db.query("select data.insert('acme/crm/orders', $1)", [
    JSON.stringify([
      { status: "paid", total: 12.5, placed_at: "2026-01-31T23:30:00Z", company_id: crm.ids.company },
      { status: "paid", total: 3, placed_at: "2026-02-03T12:00:00Z", company_id: crm.ids.company },
      { status: "void", total: 99 },
    ]),
  ]);
  const text = readFileSync(new URL("../docs/queries.md", import.meta.url), "utf8");
  const statements = [...text.matchAll(/```sql\n([\s\S]*?)```/g)].flatMap(([, sql]) =>
    (sql ?? "").split(/;\n/).filter((s) => s.trim()),
  );
  const requests = [...text.matchAll(/^GET …\/(?:apps\/\{app\}\/)?(.*(?:\n +&.*)*)/gm)].map(([, path]) =>
    (path ?? "").replace(/\n +/g, ""),
  );
  const bySql: unknown[] = [];
  for (const statement of statements) bySql.push(Object.values((await crm.db.query(statement))[0] ?? {})[0]);
  const byRest = [];
  for (const path of requests) byRest.push((await send(`${base}/${encodeURI(path)}`)).json);
  expect(bySql).toHaveLength(3);
  const data = (answers: unknown[]) => answers.map((answer) => (answer as { data: unknown }).data);
  expect(data(byRest)).toEqual(data(bySql));
  expect(bySql[0]).toMatchObject({
    data: [{ "company.city": "Oslo", placed_at_month: "2026-02-01", orders: 2, revenue: 15.5 }],
  });
});
