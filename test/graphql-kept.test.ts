import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Crm, startCrm } from "./harness/crm.ts";
import { type GraphqlReply, startGraphql } from "./harness/graphql.ts";

// What an author was promised of deleted records and former states in GraphQL: what REST can, under the same rights.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
let ann: string;
const text = { type: "string" };
const define = (name: string, properties: object, more: object = {}) =>
  crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", properties, ...more },
  ]);
const insert = async (name: string, record: object) =>
  (await crm.db.query("select data.insert($1, $2)->>'id' as id", [`acme/crm/${name}`, record]))[0]
    ?.id as string;
const ask = (query: string, variables: object = {}, as = "ann@acme.test", app = "acme/crm") =>
  graphql.ask(app, as, query, variables);
const data = async (query: string, variables: object = {}, as?: string) => {
  const answer = await ask(query, variables, as);
  expect(answer.errors).toEqual([]);
  return answer.data;
};
const refused = ({ errors }: GraphqlReply) => [errors[0]?.extensions.status, errors[0]?.extensions.code];
const now = async () => String((await crm.db.query("select clock_timestamp()::text as now"))[0]?.now);
const restore =
  "mutation ($id: UUID!) { restorePage(input: {id: $id}) { page { title version deletedAt } } }";
const purge = "mutation ($id: UUID!) { purgePage(input: {id: $id}) { id } }";
const history =
  "query ($id: UUID!, $n: Int = 100, $v: Int) { pageHistory(id: $id, first: $n, before: $v) { version operation at by changes } }";
const asOf = `query ($at: Datetime!, $filter: PageFilter, $after: Cursor, $first: Int = 20) {
  pagesAsOf(at: $at, filter: $filter, orderBy: [TITLE_ASC], first: $first, after: $after) { totalCount nodes { title size } pageInfo { endCursor hasNextPage } aggregates { sum { size } } } }`;

beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  [{ id: ann }] = (await crm.db.query("select id from auth.accounts where email = 'ann@acme.test'")) as [
    { id: string },
  ];
  await define(
    "pages",
    {
      title: { ...text, "x-unique": true },
      size: { type: "integer" },
      company_id: { "x-relation": { entity: "companies" } },
    },
    { "x-soft-delete": true, "x-history": true },
  );
  await define("drafts", { title: text }, { "x-soft-delete": true, "x-storage": "flat" });
  await define("logs", { line: text }, { "x-history": true, "x-storage": "flat" });
  await crm.db.query("select access.create_role('acme', 'companies-only', array['crm/companies:read'])");
  await crm.db.account("kim@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'kim@acme.test', 'companies-only')");
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

test("deleted records are listed with filter, order, pages and relations, and come back", async () => {
  const ids = [];
  for (const n of [1, 2, 3, 4])
    ids.push(await insert("pages", { title: `p${n}`, size: n, company_id: crm.ids.company }));
  for (const id of ids.slice(0, 3))
    await data("mutation ($id: UUID!) { deletePage(input: {id: $id}) { page { id } } }", { id });
  const list =
    "query ($after: Cursor) { deletedPages(filter: {size: {greaterThan: 1}}, orderBy: [SIZE_DESC], first: 1, after: $after) { totalCount nodes { title deletedAt deletedBy company { name } } pageInfo { endCursor hasNextPage } } }";
  const first = (await data(list)).deletedPages;
  expect(first).toMatchObject({
    totalCount: 2,
    nodes: [
      {
        title: "p3",
        deletedAt: expect.stringMatching(/^20/),
        deletedBy: ann,
        company: { name: "Oslo Works" },
      },
    ],
    pageInfo: { hasNextPage: true },
  });
  expect((await data(list, { after: first.pageInfo.endCursor })).deletedPages).toMatchObject({
    nodes: [{ title: "p2" }],
    pageInfo: { hasNextPage: false },
  });
  expect((await data("{ pages { nodes { title deletedAt } } }")).pages.nodes).toEqual([
    { title: "p4", deletedAt: null },
  ]);
  expect((await data(restore, { id: ids[2] })).restorePage.page).toEqual({
    title: "p3",
    version: 2,
    deletedAt: null,
  });
  expect(refused(await ask(restore, { id: ids[2] }))).toEqual([404, "not_found"]);
  await insert("pages", { title: "p2" });
  expect(refused(await ask(restore, { id: ids[1] }))[0]).toBe(409);
  expect((await data(purge, { id: ids[1] })).purgePage).toEqual({ id: ids[1] });
  expect(refused(await ask(purge, { id: ids[1] }))).toEqual([404, "not_found"]);
  expect(refused(await ask(purge, { id: ids[3] }))).toEqual([409, "not_deleted"]);
  expect((await data("{ deletedPages { nodes { title } } }")).deletedPages.nodes).toEqual([{ title: "p1" }]);
});

test("the history of a record says who changed what, by pages", async () => {
  const id = await insert("pages", { title: "h1" });
  await data(
    'mutation ($id: UUID!) { updatePage(input: {id: $id, patch: {title: "h2", size: "9007199254740993"}}) { clientMutationId } }',
    { id },
  );
  await data("mutation ($id: UUID!) { deletePage(input: {id: $id}) { clientMutationId } }", { id });
  const { pageHistory } = await data(history, { id });
  expect(pageHistory).toEqual([
    { version: 2, operation: "delete", at: expect.any(String), by: ann, changes: null },
    {
      version: 2,
      operation: "update",
      at: expect.any(String),
      by: ann,
      changes: expect.objectContaining({ title: { old: "h1", new: "h2" } }),
    },
    { version: 1, operation: "insert", at: expect.any(String), by: null, changes: null },
  ]);
  expect((await data(history, { id, n: 1, v: 2 })).pageHistory).toMatchObject([{ version: 1 }]);
  expect(refused(await ask(history, { id: crm.ids.company }))).toEqual([404, "not_found"]);
});

test("records and lists are read as of a time, with filter, order, pages and aggregates", async () => {
  const ids = [];
  for (const n of [1, 2, 3]) ids.push(await insert("pages", { title: `t${n}`, size: n }));
  const at = await now();
  await crm.db.query("update acme_crm.pages set title = 'u' || title, size = size + 10 where title ~ '^t'");
  await crm.db.query("delete from acme_crm.pages where title = 'ut3'");
  const filter = { title: { startsWith: "t" } };
  const first = (await data(asOf, { at, filter, first: 2 })).pagesAsOf;
  expect(first).toMatchObject({
    totalCount: 3,
    nodes: [{ title: "t1", size: "1" }, { title: "t2" }],
    pageInfo: { hasNextPage: true },
    aggregates: { sum: { size: "6" } },
  });
  expect(
    (await data(asOf, { at, filter, first: 2, after: first.pageInfo.endCursor })).pagesAsOf.nodes,
  ).toEqual([{ title: "t3", size: "3" }]);
  expect(
    (await data(asOf, { at: await now(), filter: { title: { startsWith: "ut" } }, first: 9 })).pagesAsOf
      .nodes,
  ).toHaveLength(2);
  const one = "query ($id: UUID!, $at: Datetime!) { pageAsOf(id: $id, at: $at) { title version } }";
  expect(await data(one, { id: ids[2], at })).toEqual({ pageAsOf: { title: "t3", version: 1 } });
  expect(await data(one, { id: ids[2], at: await now() })).toEqual({ pageAsOf: null });
});

test("only entities with the option have it", async () => {
  const { __schema } = await data(
    "{ __schema { queryType { fields { name } } mutationType { fields { name } } } }",
  );
  const names = [...__schema.queryType.fields, ...__schema.mutationType.fields].map(({ name }) => name);
  const of = (part: RegExp) => names.filter((name: string) => part.test(name)).sort();
  expect(of(/^(restore|purge|deleted[A-Z])|AsOf$|History$/)).toEqual([
    "deletedDrafts",
    "deletedPages",
    "logAsOf",
    "logHistory",
    "logsAsOf",
    "pageAsOf",
    "pageHistory",
    "pagesAsOf",
    "purgeDraft",
    "purgeLog",
    "purgePage",
    "restoreDraft",
    "restorePage",
  ]);
});

test("viewers cannot list, restore or purge deleted ones; who may not read sees no history; other tenants nothing", async () => {
  const id = await insert("pages", { title: "hush" });
  const at = await now();
  await crm.db.query("select data.delete('acme/crm/pages', $1)", [id]);
  const deleted = "{ deletedPages { nodes { title } } }";
  for (const [query, variables] of [
    [deleted, {}],
    [restore, { id }],
    [purge, { id }],
  ] as const)
    expect(refused(await ask(query, variables, "vic@acme.test"))).toEqual([403, "forbidden"]);
  expect((await data(history, { id }, "vic@acme.test")).pageHistory).toHaveLength(2);
  expect(
    (await data(asOf, { at, first: 5, filter: { title: { equalTo: "hush" } } }, "vic@acme.test")).pagesAsOf
      .nodes,
  ).toHaveLength(1);
  const kim = "kim@acme.test";
  expect(refused(await ask(history, { id }, kim))).toEqual([404, "not_found"]);
  expect((await data(asOf, { at, first: 5 }, kim)).pagesAsOf).toMatchObject({ totalCount: 0, nodes: [] });
  expect(refused(await ask(deleted, {}, kim))).toEqual([403, "forbidden"]);
  expect(refused(await ask(restore, { id }, kim))[0]).toBe(403);
  for (const query of [
    deleted,
    asOf.replace(/\$filter: PageFilter, /, "").replace(/filter: \$filter, /, ""),
  ]) {
    const own = await ask(query, { at }, "bob@beta.test", "beta/crm");
    expect(own.errors[0]?.message).toMatch(/Cannot query field/);
  }
  expect((await data(deleted)).deletedPages.nodes).toContainEqual({ title: "hush" });
});

test.each<[string, string, object, number]>([
  ["no time", asOf, { at: "yesterday-ish" }, 400],
  ["SQL as a time", asOf, { at: "now'); drop table data.entities; --" }, 400],
  ["a page of a million", asOf, { at: "2999-01-01", first: 1_000_000 }, 400],
  ["a million changes", history, { id: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b", n: 1_000_000 }, 400],
  ["a version below 1", history, { id: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b", v: -1 }, 400],
  ["no id", restore, { id: "'; drop table x" }, 400],
  [
    "lists in lists",
    '{ pagesAsOf(at: "2999-01-01", first: 1000) { nodes { company { pages(first: 1000) { nodes { company { pages(first: 1000) { nodes { id } } } } } } } } }',
    {},
    400,
  ],
])("%s is refused with a clear error", async (_title, query, variables, status) => {
  const answer = await ask(query, variables);
  expect([answer.errors[0]?.extensions.status, answer.errors[0]?.message]).toEqual([
    status,
    expect.not.stringMatching(/internal|undefined/i),
  ]);
});

test("hostile filters find nothing and break nothing", async () => {
  for (const title of ["'; drop table acme_crm.pages; --", '$body$ %1$I " \\', "x".repeat(100_000)]) {
    expect(
      (await data(asOf, { at: await now(), first: 5, filter: { title: { equalTo: title } } })).pagesAsOf
        .nodes,
    ).toEqual([]);
    expect(
      (
        await data("query ($t: String!) { deletedPages(filter: {title: {equalTo: $t}}) { totalCount } }", {
          t: title,
        })
      ).deletedPages.totalCount,
    ).toBe(0);
  }
});

test("the examples of docs/lifetimes.md", async () => {
  const page = readFileSync(new URL("../docs/lifetimes.md", import.meta.url), "utf8");
  const [query, mutation] = [...page.matchAll(/```graphql\n([\s\S]*?)```/g)].map(
    ([, text]) => text as string,
  );
  const id = await insert("pages", { title: "Goodbye" });
  await crm.db.query("select data.delete('acme/crm/pages', $1)", [id]);
  const answer = await data(query as string, { id, at: "2999-12-31T00:00:00Z" });
  expect(answer).toMatchObject({ deletedPages: { nodes: [{ id, deletedBy: null }] }, pageAsOf: null });
  expect(answer.pageHistory).toHaveLength(2);
  expect(await data(mutation as string, { id })).toEqual({ restorePage: { page: { title: "Goodbye" } } });
});

test("names that would be used twice are refused when the option is given", async () => {
  await define("deleted_notes", { a: text });
  await expect(define("notes", { a: text }, { "x-soft-delete": true })).rejects.toThrow(
    "deletedNotes would be used twice",
  );
  await expect(define("trees", { deleted_at: text }, { "x-soft-delete": true })).rejects.toThrow();
});
