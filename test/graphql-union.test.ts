import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";

// What an author was promised of one query over several entities in GraphQL: what REST's /query answers, under the same rights and limits.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
const ask = (query: string, variables: object = {}, as = "ann@acme.test", app = "acme/crm") =>
  graphql.ask(app, as, query, variables);
const data = async (query: string, variables: object = {}, as?: string) => {
  const answer = await ask(query, variables, as);
  expect(answer.errors).toEqual([]);
  return answer.data;
};
const find = `query ($e: [String!]!, $select: [String!], $nullable: [String!], $filter: JSON, $sort: [UnionSort!], $first: Int = 20, $after: String) {
  findUnion(entities: $e, select: $select, nullable: $nullable, filter: $filter, sort: $sort, first: $first, after: $after) { nodes { entity fields } nextCursor } }`;
const groups = `query ($e: [String!]!, $group: JSON, $aggregate: JSON, $having: JSON, $nullable: [String!], $filter: JSON, $sort: [UnionSort!]) {
  aggregateUnion(entities: $e, group: $group, aggregate: $aggregate, having: $having, nullable: $nullable, filter: $filter, sort: $sort) { nodes nextCursor } }`;
const e = ["contacts", "companies"];
const rest = async (path: string, query: Record<string, unknown>, as = "ann") =>
  (
    await crm.send(
      `${base}/${path}?${Object.entries({ entities: e.join(), ...query })
        .map(([name, v]) => `${name}=${encodeURIComponent(typeof v === "string" ? v : JSON.stringify(v))}`)
        .join("&")}`,
      { as },
    )
  ).json.data;

beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  await crm.db.query("select data.insert('acme/crm/companies', $1)", [{ name: "Rome Works", city: "Rome" }]);
  await crm.db.query("select access.create_role('acme', 'companies-only', array['crm/companies:read'])");
  await crm.db.account("kim@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'kim@acme.test', 'companies-only')");
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

test.each<[string, object, Record<string, unknown>]>([
  ["newest first", {}, {}],
  ["a common selection", { select: ["name", "id"] }, { select: "name,id" }],
  [
    "a field that one lacks",
    { select: ["name", "age"], nullable: ["age"] },
    { select: "name,age", nullable: "age" },
  ],
  ["a filter", { filter: { name: { $gte: "C" } } }, { filter: { name: { $gte: "C" } } }],
  ["an order", { sort: [{ field: "name", direction: "desc" }] }, { sort: "-name" }],
  [
    "hostile text",
    { filter: { name: "'; drop table x; -- $body$ %1$I \" \\" } },
    { filter: { name: "'; drop table x; -- $body$ %1$I \" \\" } },
  ],
])("%s is as in REST", async (_title, variables, query) => {
  const expected = await rest("query", query);
  const { findUnion } = await data(find, { e, ...variables });
  expect(findUnion.nodes).toEqual(expected.map(({ entity, ...fields }) => ({ entity, fields })));
});

test("pages follow one another by the cursor", async () => {
  const sort = [{ field: "name" }];
  const seen: unknown[] = [];
  let after: string | null = null;
  do {
    const page: { nodes: { fields: { name: string } }[]; nextCursor: string | null } = (
      await data(find, { e, select: ["name"], sort, first: 2, after })
    ).findUnion;
    seen.push(...page.nodes.map(({ fields }) => fields.name));
    after = page.nextCursor;
  } while (after);
  expect(seen).toEqual(["Ada", "Bea", "Cyd", "Dan", "Oslo Works", "Rome Works"]);
});

test("groups and aggregates are as in REST, exact", async () => {
  expect((await data(groups, { e, group: ["entity"] })).aggregateUnion.nodes).toEqual(
    await rest("query/aggregate", { group: "entity" }),
  );
  const { aggregateUnion } = await data(groups, {
    e,
    nullable: ["balance"],
    group: ["entity"],
    aggregate: { n: { $count: "*" }, total: { $sum: "balance" } },
    having: { n: { $gte: 3 } },
    sort: [{ field: "n", direction: "desc" }],
  });
  expect(aggregateUnion.nodes).toEqual([{ entity: "contacts", n: 4, total: expect.anything() }]);
});

test("each reader gets what they may read; other tenants nothing", async () => {
  const kim = (await data(find, { e, select: ["name"] }, "kim@acme.test")).findUnion.nodes;
  expect(kim.map(({ entity }: { entity: string }) => entity)).toEqual(["companies", "companies"]);
  const counted = (await data(groups, { e, group: ["entity"] }, "kim@acme.test")).aggregateUnion.nodes;
  expect(counted).toEqual([{ entity: "companies", count: 2 }]);
  const bob = await ask(find, { e, select: ["name"] }, "bob@beta.test", "beta/crm");
  expect(bob.data.findUnion.nodes).toEqual([{ entity: "contacts", fields: { name: "Secret of beta" } }]);
});

const deep = (levels: number): object => (levels === 0 ? { name: "x" } : { $not: deep(levels - 1) });
test.each<[string, string, object, string]>([
  ["an unknown entity", find, { e: ["contacts", "nothing"] }, "not_found"],
  ["another tenant's", find, { e: ["contacts", "beta/crm/contacts"] }, "not_found"],
  ["no entities", find, { e: [] }, "invalid_entities"],
  ["too many entities", find, { e: Array.from({ length: 9 }, (_, i) => `e${i}`) }, "invalid_entities"],
  ["a field that one lacks", find, { e, select: ["age"] }, "unknown_field"],
  ["SQL as a field", find, { e, select: ['name" from data.entities; --'] }, "unknown_field"],
  ["a page too long", find, { e, first: 100_000 }, "query_too_large"],
  ["a filter too deep", find, { e, filter: deep(60) }, "invalid_filter"],
  ["a depth bomb", find, { e, filter: deep(3_000) }, "*"],
  ["no filter", find, { e, filter: [1] }, "invalid_filter"],
  ["a bad direction", find, { e, sort: [{ field: "name", direction: "up" }] }, "invalid_sort"],
  ["a foreign cursor", find, { e, after: "WyJ4Il0" }, "invalid_cursor"],
  ["nine groups", groups, { e, group: Array.from({ length: 9 }, () => "name") }, "*"],
  ["an unknown aggregate", groups, { e, aggregate: ["median(name)"] }, "*"],
  [
    "aggregates without end",
    `query ($e: [String!]!) { ${Array.from({ length: 21 }, (_, i) => `a${i}: aggregateUnion(entities: $e) { nodes }`).join(" ")} }`,
    { e },
    "query_too_large",
  ],
  [
    "lists without end",
    `query ($e: [String!]!) { ${Array.from({ length: 19 }, (_, i) => `a${i}: findUnion(entities: $e, first: 1000) { nodes { entity } }`).join(" ")} contacts(first: 1000) { nodes { company { contacts(first: 1000) { nodes { id } } } } } }`,
    { e },
    "query_too_large",
  ],
])("%s is refused with a clear error", async (_title, query, variables, code) => {
  const { errors } = await ask(query, variables);
  expect([errors[0]?.extensions.status, errors[0]?.extensions.code]).toEqual([
    expect.any(Number),
    code === "*" ? expect.any(String) : code,
  ]);
  expect(Number(errors[0]?.extensions.status)).toBeLessThan(500);
});

test("the examples of docs/queries.md", async () => {
  const page = readFileSync(new URL("../docs/queries.md", import.meta.url), "utf8");
  const [order, union] = [...page.matchAll(/```graphql\n([\s\S]*?)```/g)]
    .map(([, text]) => text as string)
    .slice(1);
  expect((await data(order as string)).contacts.nodes[0].company).toEqual({ city: "Oslo" });
  const { findUnion, aggregateUnion } = await data(union as string, { filter: { name: { $gte: "B" } } });
  expect(findUnion.nodes[0]).toEqual({ entity: "companies", fields: { name: "Rome Works", city: "Rome" } });
  expect(aggregateUnion.nodes).toEqual([
    { entity: "companies", count: 2 },
    { entity: "contacts", count: 4 },
  ]);
});

test("names that the union has are refused to entities", async () => {
  await expect(
    crm.db.query("select data.define_entity('acme/crm', 'union_pages', $1)", [
      { type: "object", properties: {} },
    ]),
  ).rejects.toThrow("UnionPage would be used twice");
});
