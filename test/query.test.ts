import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

let db: TestDatabase;
type Page = {
  data: Record<string, unknown>[];
  meta: { limit: number; offset: number; next_cursor: string | null };
};

beforeAll(async () => {
  db = await cloneDatabase();
  await db.query("select tenancy.create_organization('zoo')");
  await db.query("select tenancy.create_site('zoo', 'zoo')");
  await db.query("select tenancy.create_app('zoo', 'park')");
  const define = (name: string, properties: object) =>
    db.query("select data.define_entity('zoo/park', $1, $2)", [name, { type: "object", properties }]);
  await define("houses", {
    name: { type: "string", "x-unique": true },
    place: { type: "object", properties: { zone: { type: "string" }, level: { type: "integer" } } },
  });
  await define("animals", {
    name: { type: "string", "x-index": true },
    legs: { type: "integer", "x-index": true },
    weight: { type: "number", format: "decimal", precision: 8, scale: 2 },
    tame: { type: "boolean" },
    born: { type: "string", format: "date" },
    tags: { type: "array", items: { type: "string" } },
    house_id: { "x-relation": { entity: "houses" } },
  });
  await db.query("select data.insert('zoo/park/houses', $1)", [
    JSON.stringify([
      { name: "Aviary", place: { zone: "north", level: 2 } },
      { name: "Savanna", place: { zone: "south", level: 10 } },
    ]),
  ]);
  const houses = Object.fromEntries(
    (await db.query<{ name: string; id: string }>("select name, id from zoo_park.houses")).map((h) => [
      h.name,
      h.id,
    ]),
  );
  await db.query("select data.insert('zoo/park/animals', $1)", [
    JSON.stringify([
      {
        name: "Owl",
        legs: 2,
        weight: "1.50",
        tame: true,
        born: "2020-01-01",
        tags: ["bird", "night"],
        house_id: houses.Aviary,
      },
      {
        name: "Crane",
        legs: 2,
        weight: "5.00",
        tame: false,
        born: "2021-01-01",
        tags: ["bird"],
        house_id: houses.Aviary,
      },
      { name: "Lion", legs: 4, weight: "190.00", tame: false, tags: ["cat"], house_id: houses.Savanna },
      { name: "Snake", legs: 0, weight: "0.90", tame: true, born: "2019-06-01" },
      { name: "O'Hara %_", legs: null, tags: [] },
    ]),
  ]);
});
afterAll(() => db.drop());

const find = async (query: object, entity = "animals"): Promise<Page> =>
  (
    await db.query<{ r: Page }>("select data.find($1, $2) as r", [
      `zoo/park/${entity}`,
      JSON.stringify(query),
    ])
  )[0]?.r as Page;
const names = async (filter: object, entity = "animals") =>
  (await find({ filter, sort: [{ field: "name" }] }, entity)).data.map((row) => row.name);

describe("a page by its number", () => {
  const sort = [{ field: "name" }];
  test.each<[object, string]>([
    [{ page: 1, limit: 2 }, "Crane Lion"],
    [{ page: 2, limit: 2 }, "O'Hara %_ Owl"],
    [{ page: "3", limit: 2 }, "Snake"],
    [{ page: 4, limit: 2 }, ""],
    [{ page: 1 }, "Crane Lion O'Hara %_ Owl Snake"],
    [{ page: 2 }, ""],
    [{ page: null, limit: 1 }, "Crane"],
  ])("%j", async (query, expected) => {
    expect((await find({ sort, ...query })).data.map(({ name }) => name).join(" ")).toBe(expected);
  });
  test.each<[object, string]>([
    [{ page: 0 }, "page is a whole number from 1 to 999999999"],
    [{ page: -1 }, "page is a whole number from 1 to 999999999"],
    [{ page: 1.5 }, "page is a whole number from 1 to 999999999"],
    [{ page: "1'; drop table x; --" }, "page is a whole number from 1 to 999999999"],
    [{ page: ["$1"] }, "page is a whole number from 1 to 999999999"],
    [{ page: 10_000_000_000 }, "page is a whole number from 1 to 999999999"],
    [{ page: 1, offset: 0 }, "page and offset exclude each other"],
    [{ page: 1, cursor: "x" }, "page and cursor exclude each other"],
  ])("%j is refused", async (query, message) => {
    expect((await refusal(find({ sort, ...query }))).message).toBe(message);
  });
});

describe("filters", () => {
  const cases: [object, string[]][] = [
    [{}, ["Crane", "Lion", "O'Hara %_", "Owl", "Snake"]],
    [{ name: "Owl" }, ["Owl"]],
    [{ name: { $eq: "O'Hara %_" } }, ["O'Hara %_"]],
    [{ legs: { $ne: 2 } }, ["Lion", "O'Hara %_", "Snake"]],
    [{ legs: { $gt: 2 } }, ["Lion"]],
    [{ legs: { $gte: 2 } }, ["Crane", "Lion", "Owl"]],
    [{ legs: { $lt: 2 } }, ["Snake"]],
    [{ weight: { $lte: "1.5" } }, ["Owl", "Snake"]],
    [{ legs: { $in: [0, 4] } }, ["Lion", "Snake"]],
    [{ legs: { $nin: [0, 4] } }, ["Crane", "O'Hara %_", "Owl"]],
    [{ name: { $in: [] } }, []],
    [{ name: { $like: "%n%" } }, ["Crane", "Lion", "Snake"]],
    [{ name: { $ilike: "o%" } }, ["O'Hara %_", "Owl"]],
    [{ name: { $contains: "%_" } }, ["O'Hara %_"]],
    [{ tags: { $contains: "bird" } }, ["Crane", "Owl"]],
    [{ tags: { $contains: "b" } }, []],
    [{ born: { $exists: false } }, ["Lion", "O'Hara %_"]],
    [{ born: null }, ["Lion", "O'Hara %_"]],
    [{ born: { $ne: null, $gt: "2019-12-31" } }, ["Crane", "Owl"]],
    [{ tame: true, legs: 2 }, ["Owl"]],
    [{ $or: [{ legs: 0 }, { $and: [{ tame: false }, { legs: 4 }] }] }, ["Lion", "Snake"]],
    [{ $not: { legs: 2 } }, ["Lion", "O'Hara %_", "Snake"]],
    [{ legs: { $not: { $gte: 2 } } }, ["O'Hara %_", "Snake"]],
  ];
  test.each(cases)("%j", async (filter, expected) => {
    expect(await names(filter)).toEqual(expected);
  });
  const nested: [object, string[]][] = [
    [{ "place.zone": "north" }, ["Aviary"]],
    [{ "place.level": { $gt: 9 } }, ["Savanna"]],
    [{ place: { $contains: { zone: "south" } } }, ["Savanna"]],
  ];
  test.each(nested)("nested %j", async (filter, expected) => {
    expect(await names(filter, "houses")).toEqual(expected);
  });

  const wrong: [string, object, string][] = [
    ["unknown field", { filter: { nmae: 1 } }, "unknown_field"],
    ["SQL as a field", { filter: { "name; drop table x": 1 } }, "unknown_field"],
    ["unknown operator", { filter: { name: { $regex: "x" } } }, "unknown_operator"],
    ["operator at the top", { filter: { $gt: 1 } }, "unknown_operator"],
    ["$or without a list", { filter: { $or: {} } }, "invalid_filter"],
    ["text operator on a number", { filter: { legs: { $like: "2" } } }, "invalid_filter"],
    ["a path into a scalar", { filter: { "name.x": 1 } }, "unknown_field"],
    ["unknown sort key", { sort: [{ field: "x" }] }, "unknown_field"],
    ["unknown direction", { sort: [{ field: "name", direction: "up; --" }] }, "invalid_sort"],
    ["unknown selected field", { select: ["name", "x"] }, "unknown_field"],
    ["unknown relation", { expand: ["owner"] }, "unknown_relation"],
    ["a limit that is too large", { limit: 100000 }, "invalid_limit"],
    ["a foreign cursor", { cursor: "x'; drop table y" }, "invalid_cursor"],
    ["a member that queries do not have", { where: {} }, "invalid_query"],
    [
      "endless nesting",
      { filter: JSON.parse(`${'{"$not":'.repeat(50)}{"legs":1}${"}".repeat(50)}`) },
      "invalid_filter",
    ],
  ];
  test.each(wrong)("%s is a clear 400", async (_title, query, code) => {
    const failure = await refusal(find(query));
    expect(failure).toMatchObject({ code: "RH400", detail: { code } });
    expect(failure.hint).not.toBe("");
  });

  test("SQL in every string is only a string", async () => {
    for (const evil of [
      "'; drop table auth.accounts; --",
      "\\'; select 1",
      "$1",
      "$$",
      '"',
      "{}",
      "%s",
      "\u2028",
    ]) {
      for (const operator of ["$eq", "$ne", "$gt", "$like", "$ilike", "$contains"])
        await find({ filter: { name: { [operator]: evil } } });
      expect(await names({ name: { $in: [evil] } })).toEqual([]);
      expect(await names({ "place.zone": evil }, "houses")).toEqual([]);
    }
    await db.query("select from auth.accounts");
  });
});

test("select gives what was asked for, expand embeds relations both ways, nested", async () => {
  const page = await find({
    filter: { name: "Owl" },
    select: ["name", "house_id"],
    expand: ["house.animals"],
  });
  expect(page.data).toHaveLength(1);
  const { house, ...own } = page.data[0] as {
    house: { name: string; animals: { name: string }[] };
    name: string;
    house_id: string;
  };
  expect(Object.keys(own).sort()).toEqual(["house_id", "name"]);
  expect([house.name, house.animals.map((a) => a.name).sort()]).toEqual(["Aviary", ["Crane", "Owl"]]);
  expect((await find({ filter: { name: "Snake" }, expand: ["house"] })).data[0]).toMatchObject({
    house: null,
  });
});

test.each([
  [[{ field: "name" }]],
  [[{ field: "legs", direction: "desc" }]],
  [[{ field: "legs" }, { field: "name", direction: "desc" }]],
  [[{ field: "born" }]],
  [[{ field: "created_at", direction: "desc" }]],
])("a cursor over %j visits every record once, in order, nulls included", async (sort) => {
  const all = (await find({ sort, limit: 100 })).data.map((row) => row.name);
  const seen: unknown[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page: Page = await find({ sort, limit: 2, ...(cursor && { cursor }) });
    seen.push(...page.data.map((row) => row.name));
    cursor = page.meta.next_cursor;
  }
  expect(seen).toEqual(all);
  expect(all).toHaveLength(5);
});

test("a filtered list, a unique look-up and the newest first use their indexes under row-level security", async () => {
  await db.account("eve@zoo.test");
  await db.query("select tenancy.add_member('zoo', 'eve@zoo.test', 'viewer')");
  await db.query(
    "select data.insert('zoo/park/animals', (select jsonb_agg(jsonb_build_object('name', 'n' || g, 'legs', g % 20)) from generate_series(1, 10000) g))",
  );
  await db.query("analyze zoo_park.animals_jsonb");
  const plans = await db.as("zoo", "eve@zoo.test", async (client) => {
    const explain = async (shape: object, ...values: unknown[]) => {
      const { rows } = await client.query(
        "select data.compile('park', 'animals', 'find', $1) ->> 'sql' as sql",
        [JSON.stringify(shape)],
      );
      const sql = (rows[0].sql as string).replace("$1", `'${values[0]}'`);
      return (await client.query(`explain ${sql}`)).rows.map((row) => row["QUERY PLAN"]).join("\n");
    };
    return [
      await explain({ filter: { legs: { $param: 1 } } }, "7"),
      await explain({ filter: { name: { $param: 1 } } }, "n77"),
      await explain({ sort: [{ field: "created_at", direction: "desc" }] }),
    ];
  });
  expect(plans[0]).toContain("Index Scan Backward using animals_legs_idx");
  expect(plans[1]).toContain("animals_name_idx");
  expect(plans[2]).toContain("Index Scan Backward using animals_created_at_idx");
  for (const plan of plans) expect(plan).not.toContain("Seq Scan");
});

test("an operation that there is not is refused, and not compiled to nothing", async () => {
  for (const operation of ["drop", "", "find'; drop table data.plans; --"])
    expect(
      await refusal(db.query("select data.compile('zoo/park', 'animals', $1)", [operation])),
    ).toMatchObject({ code: "RH400", detail: { code: "invalid_operation" } });
});
