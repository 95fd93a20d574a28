import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// data.explain says in plain words how a query is answered, and what would help.

type Explanation = {
  summary: string;
  ms?: number;
  steps: {
    step: string;
    entity?: string;
    index?: string;
    message: string;
    rows?: number;
    rows_read?: number;
  }[];
  advice: { message: string; definition: object }[];
};

const text = { type: "string" };
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.query("select tenancy.create_organization('acme')");
  for (const site of ["acme", "beta"]) {
    await db.query("select tenancy.create_site('acme', $1)", [site]);
    await db.query("select tenancy.create_app($1, 'crm')", [site]);
  }
  for (const [email, site] of [
    ["vic@acme.test", "acme"],
    ["nia@acme.test", "acme"],
    ["bob@beta.test", "beta"],
  ] as const) {
    await db.account(email);
    await db.query("select tenancy.add_member($1, $2, 'viewer')", [site, email]);
  }
  await db.query("select access.revoke_role('acme', 'nia@acme.test', 'viewer')");
  await db.query("select data.define_entity('acme/crm', 'firms', $1)", [
    { type: "object", properties: { name: text } },
  ]);
  for (const storage of ["jsonb", "flat"]) {
    await db.query("select data.define_entity('acme/crm', $1, $2)", [
      storage === "flat" ? "flats" : "people",
      {
        type: "object",
        "x-storage": storage,
        properties: {
          city: { ...text, "x-index": true },
          note: text,
          age: { type: "integer" },
          tags: { type: "array", items: text },
          firm_id: { "x-relation": { entity: "firms" } },
        },
      },
    ]);
    await db.query(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('city', 'City ' || i % 500, 'note', 'n' || i, 'age', i % 90, 'tags', '["a"]'::jsonb)) from generate_series(1, 5000) i))`,
      [storage === "flat" ? "acme/crm/flats" : "acme/crm/people"],
    );
  }
  await db.query("analyze acme_crm.people_jsonb, acme_crm.flats_flat, acme_crm.firms_jsonb");
});
afterAll(() => db.drop());

const explain = (query: object, analyze = false, entity = "people", email = "vic@acme.test") =>
  db.as("acme", email, async (client) => {
    const { rows } = await client.query<{ e: Explanation }>("select data.explain($1, $2, $3) as e", [
      `acme/crm/${entity}`,
      query,
      analyze,
    ]);
    return rows[0]?.e as Explanation;
  });

const plans: [string, object, boolean, RegExp][] = [
  ["the newest", {}, false, /^reads the first 21 of 5,000 records, in the order of created_at$/],
  ["one city", { filter: { city: "City 7" } }, true, /^reads 10 of 5,000 records through the index on city/],
  [
    "no record",
    { filter: { note: "none" } },
    true,
    /reads 5,000 of 5,000 records.* and keeps 0: no index on note/,
  ],
  [
    "a part of a text",
    { filter: { note: { $contains: "7" } } },
    false,
    /: no index helps \$contains on note/,
  ],
  ["an element", { filter: { tags: { $contains: "a" } } }, false, /: no index helps \$contains on tags/],
  [
    "a sort",
    { sort: [{ field: "age", direction: "desc" }] },
    true,
    /^reads 5,000 of 5,000 records.*; sorts 5,000 records by age$/,
  ],
  [
    "an index and more",
    { filter: { city: "City 7", note: "n7" } },
    true,
    /^reads 10 of 5,000 records through the index on city and keeps 1: no index on note/,
  ],
  [
    "an id",
    { filter: { id: "00000000-0000-0000-0000-000000000000" } },
    true,
    /^reads 0 of 5,000 records through the index on id/,
  ],
];
test.each(["people", "flats"].flatMap((entity) => plans.map((plan) => [entity, ...plan] as const)))(
  "of %s, %s",
  async (entity, _what, query, analyze, expected) => {
    const { summary, ms } = await explain(query, analyze, entity);
    expect(summary).toMatch(expected);
    expect(ms === undefined).toBe(!analyze);
  },
);

test("steps tell entity, index and rows; a relation's records are a step of their own", async () => {
  const { steps } = await explain({ filter: { city: "City 7" }, expand: ["firm"] }, true);
  expect(steps[0]).toMatchObject({ step: "read", entity: "people", index: "city", rows: 10, rows_read: 10 });
  expect(steps.map((step) => step.message).join("\n")).toMatch(/firms records/);
});

test("advice is a definition to paste, and there is none where an index serves already", async () => {
  expect((await explain({ filter: { note: "n7" } })).advice).toEqual([
    { message: expect.stringMatching(/note/), definition: { properties: { note: { "x-index": true } } } },
  ]);
  expect(
    (await explain({ filter: { note: "n7" }, sort: [{ field: "age", direction: "desc" }] })).advice[0]
      ?.definition,
  ).toEqual({ "x-indexes": [{ fields: ["note", "-age"] }] });
  for (const query of [{}, { filter: { city: "City 7" } }, { filter: { note: { $contains: "7" } } }]) {
    expect((await explain(query)).advice).toEqual([]);
  }
});

test("the advice, followed, changes the plan", async () => {
  const [row] = await db.query<{ schema: { properties: Record<string, object> } }>(
    "select schema from data.entities where name = 'flats'",
  );
  const schema = row?.schema as { properties: Record<string, object> };
  const query = { filter: { note: "n7" }, sort: [{ field: "age", direction: "desc" }] };
  await db.query("select data.define_entity('acme/crm', 'flats', $1)", [
    { ...schema, ...(await explain(query, false, "flats")).advice[0]?.definition },
  ]);
  const { summary, advice } = await explain(query, true, "flats");
  expect(summary).toBe("reads 1 of 5,000 records through the index on note, age");
  expect(advice).toEqual([]);
  await db.query("select data.define_entity('acme/crm', 'flats', $1)", [schema]);
});

test("who may not read the entity learns nothing of it", async () => {
  const failure = await refusal(explain({}, false, "people", "nia@acme.test"));
  expect(failure).toMatchObject({ code: "RH403" });
  await db.as("beta", "bob@beta.test", async (client) => {
    for (const analyze of [true, false]) {
      expect(
        (await refusal(client.query("select data.explain('acme/crm/people', '{}', $1)", [analyze]))).code,
      ).toBe("RH404");
    }
  });
});

const hostile: [string, object, string][] = [
  ["an unknown member", { where: 1 }, "RH400"],
  ["an unknown field", { filter: { "city'; drop table data.entities; --": 1 } }, "RH400"],
  ["a filter that is none", { filter: [] }, "RH400"],
  ["a sort that is none", { sort: "x" }, "RH400"],
  ["a limit out of range", { limit: -1 }, "RH400"],
  ["a search without words", { q: true }, "RH400"],
];
test.each(hostile)("%s is refused as in data.find", async (_what, query, code) => {
  expect((await refusal(explain(query))).code).toBe(code);
});

test("values stay values, and explaining writes nothing", async () => {
  for (const value of ["'; delete from acme_crm.people; --", "$body$", "%1$I", "x".repeat(1_000_000)]) {
    expect((await explain({ filter: { note: value } }, true)).summary).toMatch(/keeps 0/);
  }
  expect(await db.query("select count(*)::int as n from acme_crm.people")).toEqual([{ n: 5000 }]);
});
