import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGraphql } from "./harness/graphql.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm.stop());

const properties = {
  first: { type: "string" },
  last: { type: "string" },
  first_last: { type: "string", "x-unique": true },
  room: { type: "integer" },
  day: { type: "string", format: "date" },
  tags: { type: "array" },
  virtual: { type: "string", "x-computed": "lower(last)" },
  lower_last: { type: "string", "x-computed": { expression: "lower(last)", stored: true } },
};
const define = (name: string, unique: unknown, props: object = properties) =>
  crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", properties: props, ...(unique === undefined ? {} : { "x-unique": unique }) },
  ]);
const insert = (name: string, record: unknown) =>
  crm.db.query("select data.insert($1, $2)", [`acme/crm/${name}`, JSON.stringify(record)]);
const post = (name: string, body: unknown) => crm.send(`${base}/${name}`, { method: "POST", body });
const keys = (name: string) =>
  crm.db.query<{ name: string }>(
    "select indexrelid::regclass::text as name from pg_index where indrelid = $1::regclass and indisunique and not indisprimary order by 1",
    [`acme_crm.${name}_jsonb`],
  );
const taken = (fields: string[], prefix = "") => {
  const message = `${fields.join(" and ")} together are already taken by another record`;
  return fields.map((field) => ({ pointer: `${prefix}/${field}`, message }));
};

describe("two properties that are unique together", () => {
  beforeAll(() =>
    define("people", [
      ["first", "last"],
      ["room", "day"],
    ]),
  );

  test("a second record with both is a 409 that names both; one of them alone, and null, is free", async () => {
    expect((await post("people", { first: "Ann", last: "Lee", room: 1, day: "2026-01-31" })).status).toBe(
      201,
    );
    for (const fine of [
      { first: "Ann", last: "Kay" },
      { first: "Bob", last: "Lee" },
      { first: "Ann" },
      { first: "Ann" },
      { room: 1 },
      { room: 1 },
    ])
      expect((await post("people", fine)).status).toBe(201);
    const answer = await post("people", { first: "Ann", last: "Lee" });
    expect(answer.json).toMatchObject({
      status: 409,
      code: "not_unique",
      detail: "first and last together are already taken by another record",
      errors: taken(["first", "last"]),
    });
    expect(answer.text).not.toContain("Lee");
    expect((await post("people", { room: 1, day: "2026-01-31" })).json).toMatchObject({
      status: 409,
      errors: taken(["room", "day"]),
    });
    const single = await post("people", [{ first_last: "x" }, { first_last: "x" }]);
    expect(single.json).toMatchObject({ status: 409, errors: [{ pointer: "/first_last" }] });
  });

  test("updates, imports and psql meet the same index", async () => {
    const { id } = (await post("people", { first: "Cyd", last: "Lee" })).json;
    const patch = await crm.send(`${base}/people/${id}`, { method: "PATCH", body: { first: "Ann" } });
    expect(patch.json).toMatchObject({ status: 409, errors: taken(["first", "last"]) });
    const imported = await crm.send(`${base}/people/import?on_error=skip`, {
      method: "POST",
      headers: { "content-type": "text/csv" },
      body: "first,last\nAnn,Lee\nDan,Lee\n",
    });
    expect(imported.json).toMatchObject({
      inserted: 1,
      skipped: 1,
      errors: taken(["first", "last"]).map((error) => ({ line: 2, ...error })),
    });
    const failure = await refusal(
      crm.db.as("acme", "ann@acme.test", (client) =>
        client.query("update acme_crm.people set last = 'Kay', first = 'Ann' where id = $1", [id]),
      ),
    );
    expect(failure.code).toBe("23505");
  });

  test("is a key for upserts, and a lookup by both uses its index under row-level security", async () => {
    const upsert = async (records: object[]) =>
      (
        await crm.db.as("acme", "ann@acme.test", async (client) => {
          const { rows } = await client.query(
            "select data.upsert('acme/crm/people', $1, '{first,last}')->'meta' as r",
            [JSON.stringify(records)],
          );
          return rows;
        })
      )[0]?.r;
    expect(await upsert([{ first: "Up", last: "Sert", room: 5 }])).toEqual({
      inserted: 1,
      updated: 0,
      unchanged: 0,
    });
    expect(
      await upsert([
        { first: "Up", last: "Sert", room: 6 },
        { first: "Ann", last: "Lee" },
        { first: "Up", last: "Other" },
      ]),
    ).toEqual({ inserted: 1, updated: 1, unchanged: 1 });
    await insert(
      "people",
      Array.from({ length: 3000 }, (_, n) => ({ first: `f${n}`, last: `l${n}` })),
    );
    await crm.db.query("analyze acme_crm.people_jsonb");
    const plan = await crm.db.as("acme", "vic@acme.test", async (client) => {
      const { rows } = await client.query(
        "explain select * from acme_crm.people where last = 'l7' and first = 'f7'",
      );
      return rows.map((row) => row["QUERY PLAN"]).join("\n");
    });
    expect(plan).toContain("people_first__last_key");
  });

  test("GraphQL finds a record by them and names them in its error", async () => {
    const graphql = await startGraphql(crm.db);
    try {
      const ask = (query: string) => graphql.ask("acme/crm", "ann@acme.test", query);
      const found = await ask('{ personByFirstAndLast(first: "Ann", last: "Lee") { room } }');
      expect([found.errors, found.data]).toEqual([[], { personByFirstAndLast: { room: "1" } }]);
      const failed = await ask(
        'mutation { createPerson(input: { person: { first: "Ann", last: "Lee" } }) { person { id } } }',
      );
      expect(failed.errors[0]?.extensions).toMatchObject({ status: 409, errors: taken(["first", "last"]) });
    } finally {
      await graphql.stop();
    }
  });
});

test("it ends with the definition that asked for it, and begins only when records allow it", async () => {
  await define("changing", [["first", "last"]]);
  expect(await keys("changing")).toHaveLength(2);
  await insert("changing", { first: "a", last: "b" });
  await define("changing", [["last", "first", "room"]]);
  expect((await keys("changing")).map((key) => key.name)).toEqual([
    "acme_crm.changing_first_last_key",
    "acme_crm.changing_last__first__room_key",
  ]);
  await insert("changing", { first: "a", last: "b" });
  const failure = await refusal(define("changing", [["first", "last"]]));
  expect(failure.code).toBe("23505");
  expect(await keys("changing")).toHaveLength(2);
  await define("changing", undefined);
  expect((await keys("changing")).map((key) => key.name)).toEqual(["acme_crm.changing_first_last_key"]);
  const [columns] = await crm.db.query(
    "select count(*)::int as n from pg_attribute where attrelid = 'acme_crm.changing_jsonb'::regclass and attname in ('first', 'last', 'room') and not attisdropped",
  );
  expect(columns).toEqual({ n: 0 });
});

test("a stored computed field may take part: names that differ by case only", async () => {
  await define("cased", [["first", "lower_last"]]);
  await insert("cased", { first: "Ann", last: "LEE" });
  expect((await post("cased", { first: "Ann", last: "lee" })).json).toMatchObject({
    status: 409,
    errors: taken(["first", "lower_last"]),
  });
});

test("it goes along to the other storage and back, and with renamed properties", async () => {
  await define("moving", [["first", "last"]]);
  await insert("moving", [{ first: "a", last: "b" }, { first: "a" }]);
  for (const storage of ["flat", "jsonb"]) {
    await crm.db.query("select data.convert_storage('acme/crm/moving', $1)", [storage]);
    await crm.db.query("call data.run_operations()");
    expect((await post("moving", { first: "a", last: "b" })).json).toMatchObject({
      status: 409,
      errors: taken(["first", "last"]),
    });
    const imported = await crm.send(`${base}/moving/import?on_error=skip`, {
      method: "POST",
      headers: { "content-type": "application/x-ndjson" },
      body: '{"first": "a", "last": "b"}\n',
    });
    expect(imported.json).toMatchObject({ errors: taken(["first", "last"]).map((e) => ({ line: 1, ...e })) });
  }
  const { first: _first, ...others } = properties;
  const given = { ...others, given: { type: "string", "x-renamed-from": "first" } };
  const planned = await crm.db.query<{ plan: { offenders: object[]; statements: string[] } }>(
    "select data.plan('acme/crm/moving', $1) as plan",
    [
      {
        type: "object",
        properties: given,
        "x-unique": [
          ["given", "last"],
          ["given", "room"],
        ],
      },
    ],
  );
  expect(planned[0]?.plan.offenders).toEqual([]);
  expect(planned[0]?.plan.statements.join("\n")).toContain("moving_given__last_key");
  await define("moving", [["given", "last"]], given);
  expect((await post("moving", { given: "a", last: "b" })).json).toMatchObject({
    status: 409,
    errors: taken(["given", "last"]),
  });
  expect((await keys("moving")).map((key) => key.name)).toContain("acme_crm.moving_given__last_key");
});

test("a plan names the records that are not unique together", async () => {
  await define("doubled", undefined);
  await insert("doubled", [{ first: "a", last: "b" }, { first: "a", last: "b" }, { first: "a" }]);
  const [row] = await crm.db.query<{ plan: { offenders: object[] } }>(
    "select data.plan('acme/crm/doubled', $1) as plan",
    [{ type: "object", properties, "x-unique": [["first", "last"]] }],
  );
  expect(row?.plan.offenders).toMatchObject([
    { pointer: "/first", message: "are together the same in 2 records" },
  ]);
});

test("another tenant's records are no reason to refuse", async () => {
  await crm.db.query("select data.define_entity('beta/crm', 'people', $1)", [
    { type: "object", properties, "x-unique": [["first", "last"]] },
  ]);
  await crm.db.query('select data.insert(\'beta/crm/people\', \'{"first": "Ann", "last": "Lee"}\')');
});

describe("a wrong one is RH400, by JSON pointer", () => {
  const cases: [string, unknown, string][] = [
    ["no list", true, "/x-unique"],
    ["no list of lists", [["first", "last"], "room"], "/x-unique/1"],
    ["one alone", [["first"]], "/x-unique/0"],
    ["none", [[]], "/x-unique/0"],
    ["nine", [["a", "b", "c", "d", "e", "f", "g", "h", "i"]], "/x-unique/0"],
    ["a number", [["first", 1]], "/x-unique/0"],
    [
      "an unknown property",
      [
        ["first", "last"],
        ["first", "nothing"],
      ],
      "/x-unique/1",
    ],
    ["twice the same property", [["first", "first"]], "/x-unique/0"],
    [
      "the same set twice",
      [
        ["first", "last"],
        ["last", "first"],
      ],
      "/x-unique/1",
    ],
    ["a list", [["first", "tags"]], "/x-unique/0"],
    ["a virtual field", [["first", "virtual"]], "/x-unique/0"],
    ["a system column", [["first", "id"]], "/x-unique/0"],
    ["SQL", [["first", '"); drop table auth.accounts; --']], "/x-unique/0"],
    ["a name of 1 MB", [["first", "x".repeat(1e6)]], "/x-unique/0"],
    ["21 sets", Array(21).fill(["first", "last"]), "/x-unique"],
  ];
  test.each(cases)("%s", async (_title, unique, pointer) => {
    const failure = await refusal(define("wrong", unique));
    expect(failure).toMatchObject({ code: "RH400", detail: { errors: [{ pointer }] } });
    expect(failure.message.length).toBeLessThan(500);
  });
});
