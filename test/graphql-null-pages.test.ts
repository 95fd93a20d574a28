import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";

// What an author was promised of pages in GraphQL: every record comes once, in REST's order, however many have no value.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;

const properties = {
  name: { type: "string" },
  age: { type: "integer", "x-index": true },
  born: { type: "string", format: "date" },
  score: { type: "number" },
  code: { type: "string", "x-unique": true },
};

beforeAll(async () => {
  crm = await startCrm();
  for (const storage of ["jsonb", "flat"]) {
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      `${storage}_people`,
      { type: "object", required: ["name"], properties, "x-storage": storage },
    ]);
    await crm.db.query("select data.insert($1, $2)", [
      `acme/crm/${storage}_people`,
      JSON.stringify(
        Array.from({ length: 31 }, (_, n) => ({
          name: `p${String(n).padStart(2, "0")}`,
          ...(n % 3 && { age: n % 4 }),
          ...(n % 2 && { born: `2020-01-0${1 + (n % 3)}` }),
          ...(n % 5 > 2 && { score: (n % 2) + 0.5 }),
          ...(n % 4 === 0 && { code: `c${n % 7}${n}` }),
        })),
      ),
    ]);
  }
  graphql = await startGraphql(crm.db);
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

type Page = {
  nodes: { name: string }[];
  pageInfo: { startCursor: string; endCursor: string; hasNextPage: boolean; hasPreviousPage: boolean };
};

async function page(storage: string, by: string[], window: Record<string, unknown>): Promise<Page> {
  const [size, cursor] = "first" in window ? ["first", "after"] : ["last", "before"];
  const type = storage === "jsonb" ? "Jsonb" : "Flat";
  const answer = await graphql.ask(
    "acme/crm",
    "ann@acme.test",
    `query ($by: [${type}PersonOrderBy!], $${size}: Int, $${cursor}: Cursor) { ${storage}People(orderBy: $by, ${size}: $${size}, ${cursor}: $${cursor}) { nodes { name } pageInfo { startCursor endCursor hasNextPage hasPreviousPage } } }`,
    { by, ...window },
  );
  expect(answer.errors).toEqual([]);
  return answer.data[`${storage}People`];
}

const orders: [string[], string][] = [
  [["AGE_ASC", "NAME_ASC"], "age,name"],
  [["AGE_ASC", "NAME_DESC"], "age,-name"],
  [["AGE_DESC", "NAME_DESC"], "-age,-name"],
  [["AGE_ASC", "BORN_DESC", "NAME_ASC"], "age,-born,name"],
  [["AGE_DESC", "BORN_ASC", "SCORE_DESC", "NAME_ASC"], "-age,born,-score,name"],
  [["SCORE_DESC", "AGE_DESC", "NAME_DESC"], "-score,-age,-name"],
  [["CODE_ASC", "NAME_DESC"], "code,-name"],
  [["CODE_DESC", "NAME_ASC"], "-code,name"],
];

test.each(["jsonb", "flat"].flatMap((storage) => orders.map(([by, sort]) => [storage, by, sort] as const)))(
  "%s %j: pages forwards and backwards are what REST's sort=%s is",
  async (storage, by, sort) => {
    const rest = (await crm.send(`${base}/${storage}_people?limit=100&sort=${sort}`)).json.data.map(
      ({ name }) => name,
    );
    expect(rest).toHaveLength(31);
    for (const size of [1, 4, 7]) {
      const forwards: string[] = [];
      for (let after: string | null = null, more = true; more && forwards.length < 40; ) {
        const { nodes, pageInfo } = await page(storage, [...by], { first: size, after });
        forwards.push(...nodes.map(({ name }) => name));
        after = pageInfo.endCursor;
        more = pageInfo.hasNextPage;
      }
      expect([size, forwards]).toEqual([size, rest]);
      const backwards: string[] = [];
      for (let before: string | null = null, more = true; more && backwards.length < 40; ) {
        const { nodes, pageInfo } = await page(storage, [...by], { last: size, before });
        backwards.unshift(...nodes.map(({ name }) => name));
        before = pageInfo.startCursor;
        more = pageInfo.hasPreviousPage;
      }
      expect([size, backwards]).toEqual([size, rest]);
    }
  },
);

test.each([["AGE_ASC"], ["AGE_DESC"], ["CODE_ASC"], ["CODE_DESC"], ["BORN_ASC"]])(
  "%s alone, with many records alike, shows each record once",
  async (order) => {
    const seen: string[] = [];
    for (let after: string | null = null, more = true; more && seen.length < 40; ) {
      const { nodes, pageInfo } = await page("jsonb", [order], { first: 3, after });
      seen.push(...nodes.map(({ name }) => name));
      after = pageInfo.endCursor;
      more = pageInfo.hasNextPage;
    }
    expect([seen.length, new Set(seen).size]).toEqual([31, 31]);
  },
);
