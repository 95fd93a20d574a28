import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
});
afterAll(() => db.drop());

const define = (name: string, properties: object, more: object = {}) =>
  db.query("select (data.define_entity('acme/crm', $1, $2)).version", [
    name,
    { type: "object", properties, ...more },
  ]);
const insert = async (name: string, record: unknown) =>
  (
    await db.query<{ r: Record<string, unknown> }>("select data.insert($1, $2) as r", [
      `acme/crm/${name}`,
      JSON.stringify(record),
    ])
  )[0]?.r as Record<string, unknown>;
const columns = (view: string) =>
  db.query(
    "select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = $1::regclass and attnum > 0 order by attnum",
    [view],
  );

test("an entity is a view with one typed column per property", async () => {
  await define("everything", {
    s: { type: "string" },
    i: { type: "integer" },
    n: { type: "number" },
    m: { type: "number", format: "decimal", precision: 12, scale: 2 },
    b: { type: "boolean" },
    d: { type: "string", format: "date" },
    t: { type: "string", format: "date-time" },
    u: { type: "string", format: "uuid" },
    e: { type: "string", format: "email" },
    c: { enum: ["red", "green"] },
    a: { type: "array", items: { type: "string" } },
    o: { type: "object", properties: { city: { type: "string" } } },
  });
  const types = Object.fromEntries((await columns("acme_crm.everything")).map((c) => [c.name, c.type]));
  expect(types).toEqual({
    ...{ id: "uuid", s: "text", i: "bigint", n: "double precision", m: "numeric", b: "boolean", d: "date" },
    ...{ t: "timestamp with time zone", u: "uuid", e: "text", c: "text", a: "jsonb", o: "jsonb" },
    ...{
      created_at: "timestamp with time zone",
      updated_at: "timestamp with time zone",
      version: "integer",
      created_by: "uuid",
    },
  });
});

describe("validation lists every problem with its JSON pointer", () => {
  beforeAll(async () => {
    await define(
      "people",
      {
        name: { type: "string", minLength: 2, maxLength: 5, pattern: "^[A-Z]" },
        age: { type: "integer", minimum: 0, maximum: 150 },
        price: { type: "number", format: "decimal", precision: 10, scale: 2, minimum: 0 },
        mail: { type: "string", format: "email" },
        born: { type: "string", format: "date" },
        seen: { type: "string", format: "date-time" },
        ref: { type: "string", format: "uuid" },
        color: { enum: ["red", "green"] },
        tags: { type: "array", items: { type: "string", maxLength: 3 }, maxItems: 2 },
        address: {
          type: "object",
          required: ["city"],
          properties: { city: { type: "string" }, "z/p": { type: "integer" } },
        },
        active: { type: "boolean", default: true },
      },
      { required: ["name"] },
    );
  });
  const cases: [string, object, string[]][] = [
    ["a good record", { name: "Ann", age: 1, price: "1.10", tags: ["a"], address: { city: "X" } }, []],
    ["null is absent", { name: "Ann", age: null, tags: null }, []],
    ["required", {}, ["/name"]],
    ["null for required", { name: null }, ["/name"]],
    ["too short, wrong start", { name: "a" }, ["/name", "/name"]],
    ["too long", { name: "Abcdef" }, ["/name"]],
    [
      "types",
      { name: 1, age: "1", mail: 2, tags: {}, address: [], active: "yes" },
      ["/active", "/address", "/age", "/mail", "/name", "/tags"],
    ],
    ["fraction", { name: "Ann", age: 1.5 }, ["/age"]],
    ["range", { name: "Ann", age: -1 }, ["/age"]],
    ["beyond 64 bits", { name: "Ann", age: 1e30 }, ["/age", "/age"]],
    ["three decimals are refused, not rounded", { name: "Ann", price: 1.234 }, ["/price"]],
    ["too many digits", { name: "Ann", price: "123456789.00" }, ["/price"]],
    ["no number", { name: "Ann", price: "1e5" }, ["/price"]],
    [
      "formats",
      { name: "Ann", mail: "x", born: "2026-02-30", seen: "2026-01-01T00:00:00", ref: "x" },
      ["/born", "/mail", "/ref", "/seen"],
    ],
    ["enum", { name: "Ann", color: "blue" }, ["/color"]],
    ["items and their number", { name: "Ann", tags: ["a", "long", 3] }, ["/tags", "/tags/1", "/tags/2"]],
    ["inside an object", { name: "Ann", address: { "z/p": "x" } }, ["/address/city", "/address/z~1p"]],
    ["unknown property", { name: "Ann", nmae: 1 }, ["/nmae"]],
    [
      "system columns cannot be written",
      { name: "Ann", created_by: "00000000-0000-0000-0000-000000000000", version: 7 },
      ["/created_by", "/version"],
    ],
  ];
  test.each(cases)("%s", async (_title, record, pointers) => {
    const outcome = insert("people", record).then(() => [] as string[]);
    if (pointers.length === 0) return expect(await outcome).toEqual([]);
    const failure = await refusal(outcome);
    expect(failure.code).toBe("RH422");
    expect(failure.detail.errors?.map((e) => e.pointer).sort()).toEqual(pointers);
  });

  test("psql through the view meets the same rule, and a decimal is refused rather than rounded there too", async () => {
    const failure = await refusal(
      db.query("insert into acme_crm.people (name, price, age) values ('a', 1.234, -1)"),
    );
    expect(failure.detail.errors?.map((e) => e.pointer).sort()).toEqual(["/age", "/name", "/name", "/price"]);
  });

  test("in a list, the pointer begins with the record's place, and nothing is written", async () => {
    const failure = await refusal(insert("people", [{ name: "Bob" }, { name: "Cid", age: -1 }, {}]));
    expect(failure.detail.errors?.map((e) => e.pointer)).toEqual(["/1/age", "/2/name"]);
    expect(await db.query("select from acme_crm.people where name = 'Bob'")).toHaveLength(0);
  });
});

test("defaults, stamps and versions are set by the platform", async () => {
  await define("stamped", { a: { type: "integer", default: 5 }, b: { type: "string" } });
  const record = await insert("stamped", { b: "x" });
  expect(record).toMatchObject({ a: 5, b: "x", version: 1, created_by: null });
  const [row] = await db.query<{ r: object }>(
    "select data.update('acme/crm/stamped', $1, '{\"b\": null}') as r",
    [record.id],
  );
  expect(row?.r).toMatchObject({ a: 5, b: null, version: 2, created_at: record.created_at });
});

test("money is exact, in and out, as number and as text", async () => {
  await define("prices", { amount: { type: "number", format: "decimal", precision: 30, scale: 10 } });
  for (const text of [
    "0.1",
    "12345678901234567890.1234567891",
    "-0.0000000001",
    "99999999999999999999.9999999999",
  ]) {
    const [row] = await db.query<{ out: string }>(
      `select (data.insert('acme/crm/prices', '{"amount": ${text}}'::jsonb) -> 'amount')::text as out`,
    );
    const [same] = await db.query("select $1::numeric = $2::numeric as same", [row?.out, text]);
    expect(same).toEqual({ same: true });
    expect((await db.query("select from acme_crm.prices where amount = $1", [text])).length).toBe(1);
  }
});

test("a version that is no longer current conflicts, and says what is current", async () => {
  await define("versioned", { a: { type: "integer" } });
  const { id } = await insert("versioned", { a: 1 });
  await db.query("select data.update('acme/crm/versioned', $1, '{\"a\": 2}', 1)", [id]);
  const failure = await refusal(
    db.query("select data.update('acme/crm/versioned', $1, '{\"a\": 3}', 1)", [id]),
  );
  expect(failure).toMatchObject({ code: "RH409", detail: { code: "version_conflict" } });
  expect(failure.message).toContain("version 2");
  expect((await refusal(db.query("select data.delete('acme/crm/versioned', $1, 1)", [id]))).code).toBe(
    "RH409",
  );
  await db.query("select data.delete('acme/crm/versioned', $1, 2)", [id]);
  expect((await refusal(db.query("select data.delete('acme/crm/versioned', $1)", [id]))).code).toBe("RH404");
});

test("two updates of different columns through the view do not undo each other", async () => {
  await define("pairs", { a: { type: "integer" }, b: { type: "integer" } });
  const { id } = await insert("pairs", { a: 1, b: 1 });
  const [one, two] = [await db.pool.connect(), await db.pool.connect()];
  await one.query("begin");
  await one.query("update acme_crm.pairs set a = 2 where id = $1", [id]);
  const waiting = two.query("update acme_crm.pairs set b = 2 where id = $1", [id]);
  await one.query("commit");
  await waiting;
  one.release();
  two.release();
  expect(await db.query("select a::int, b::int from acme_crm.pairs where id = $1", [id])).toEqual([
    { a: 2, b: 2 },
  ]);
});

describe("relations", () => {
  beforeAll(async () => {
    await define("companies", { code: { type: "integer", "x-unique": true }, name: { type: "string" } });
    await define("offices", {
      company_code: {
        type: "integer",
        "x-relation": { entity: "companies", field: "code", onDelete: "cascade" },
      },
      parent_id: { "x-relation": { entity: "offices", onDelete: "set null" } },
    });
  });

  test("may refer to any unique property; a missing one is refused", async () => {
    await insert("companies", { code: 7, name: "Seven" });
    await insert("offices", { company_code: 7 });
    expect((await refusal(insert("offices", { company_code: 8 }))).code).toBe("23503");
  });

  test("cascade deletes, set null unsets the property in the data as well", async () => {
    await insert("companies", { code: 9 });
    const head = await insert("offices", { company_code: 9 });
    const branch = await insert("offices", { parent_id: head.id });
    await db.query("delete from acme_crm.companies where code = 9");
    expect(await db.query("select id from acme_crm.offices where id = $1", [head.id])).toEqual([]);
    const [stored] = await db.query("select data, parent_id from acme_crm.offices_jsonb where id = $1", [
      branch.id,
    ]);
    expect(stored).toEqual({ data: {}, parent_id: null });
  });

  const wrong: [string, object, string][] = [
    [
      "an unknown entity",
      { type: "string", format: "uuid", "x-relation": { entity: "nothing" } },
      "/properties/x/x-relation/entity",
    ],
    [
      "a property that is not unique",
      { type: "string", "x-relation": { entity: "companies", field: "name" } },
      "/properties/x/x-relation/field",
    ],
    [
      "another type",
      { type: "string", "x-relation": { entity: "companies", field: "code" } },
      "/properties/x/x-relation/field",
    ],
    [
      "an unknown onDelete",
      { type: "integer", "x-relation": { entity: "companies", field: "code", onDelete: "explode" } },
      "/properties/x/x-relation/onDelete",
    ],
  ];
  test.each(wrong)("to %s are refused", async (_title, x, pointer) => {
    const failure = await refusal(define("wrong", { x }));
    expect(failure).toMatchObject({ code: "RH400", detail: { errors: [{ pointer }] } });
  });
});

test("defining and dropping say nothing in psql but their result", async () => {
  const client = await db.pool.connect();
  const notices: string[] = [];
  client.on("notice", (notice) => notices.push(notice.message ?? ""));
  try {
    for (const properties of [{ a: { type: "string" } }, { a: { type: "string" }, b: { type: "string" } }])
      await client.query("select data.define_entity('acme/crm', 'quiet', $1)", [
        { type: "object", properties },
      ]);
    await client.query("select data.drop_entity('acme/crm/quiet', 'quiet')");
  } finally {
    client.release();
  }
  expect(notices).toEqual([]);
});

test("ten bytes do not become 130 kB: exponents within free-form JSON have limits, digits have not", async () => {
  await define("loose", { extra: { type: "object" }, list: { type: "array" } });
  const insert = (record: string) =>
    db.query("select data.insert('acme/crm/loose', $1::jsonb) as r", [record]);
  for (const record of [
    '{"extra": {"n": 1e131071}}',
    '{"extra": {"a": [{"n": -1e400}]}}',
    '{"list": [[1e-16000]]}',
  ]) {
    const failure = await refusal(insert(record));
    expect(failure).toMatchObject({
      code: "RH422",
      detail: { errors: [{ message: "holds a number beyond 1e309 or below 1e-400" }] },
    });
  }
  const fine =
    '{"extra": {"n": 12345678901234567890.0000000001, "m": 1e300, "z": 0, "t": 5e-324}, "list": []}';
  const [row] = await db.query<{ n: string }>(
    "select (data.insert('acme/crm/loose', $1::jsonb) #>> '{extra,n}') as n",
    [fine],
  );
  expect(row?.n).toBe("12345678901234567890.0000000001");
});

describe("a definition that is not valid is refused", () => {
  const names = [
    "",
    "Contacts",
    '"; drop schema data; --',
    "a".repeat(46),
    "ünïcode",
    "1st",
    "graphql",
    "auth",
    "sites",
    "x_jsonb",
    "a__b",
    "a-b",
    "pg catalog",
  ];
  test.each(names)("entity name %j", async (name) => {
    expect((await refusal(define(name, { a: { type: "string" } }))).code).toBe("RH400");
  });
  const properties: [string, object, string][] = [
    ["a system column", { id: { type: "string" } }, "/properties/id"],
    ["quoting tricks", { 'x"; drop table y; --': { type: "string" } }, '/properties/x"; drop table y; --'],
    ["64 characters", { ["a".repeat(64)]: { type: "string" } }, `/properties/${"a".repeat(64)}`],
    ["no type", { a: {} }, "/properties/a"],
    ["an unknown keyword", { a: { type: "string", minimum: 3 } }, "/properties/a/minimum"],
    ["a broken regular expression", { a: { type: "string", pattern: "(" } }, "/properties/a/pattern"],
    [
      "SQL where a number belongs",
      { a: { type: "string", maxLength: "1); drop table x; --" } },
      "/properties/a/maxLength",
    ],
    ["an index on an array", { a: { type: "array", "x-index": true } }, "/properties/a"],
  ];
  test.each(properties)("property with %s", async (_title, property, pointer) => {
    const failure = await refusal(define("broken", property));
    expect(failure).toMatchObject({ code: "RH400", detail: { errors: [{ pointer }] } });
  });

  test("hostile patterns, defaults and enums are values and nothing else", async () => {
    const hostile = `$body$; drop table auth.accounts; --' " \\ %s %1$I $$`;
    await define("hostile", {
      p: { type: "string", pattern: `^(\\$body\\$|')?` },
      d: { type: "string", default: hostile },
      e: { enum: [hostile, "'; select 1; --"] },
    });
    expect(await insert("hostile", { e: hostile })).toMatchObject({ d: hostile, e: hostile });
    expect((await refusal(insert("hostile", { e: "other" }))).code).toBe("RH422");
    expect((await db.query("select count(*)::int as n from auth.accounts"))[0]).toEqual({ n: 0 });
  });
});

describe("redefining", () => {
  test("adding properties keeps records; promoting one fills its column", async () => {
    await define("grows", { a: { type: "string" } });
    await insert("grows", { a: "x" });
    await define("grows", { a: { type: "string", "x-unique": true }, b: { type: "integer" } });
    expect(await db.query("select a, b from acme_crm.grows")).toEqual([{ a: "x", b: null }]);
    expect((await refusal(insert("grows", { a: "x" }))).code).toBe("23505");
    await define(
      "grows",
      { a: { type: "string" }, b: { type: "integer" }, c: { type: "string", default: "new" } },
      { required: ["c"] },
    );
    expect(await db.query("select a, c from acme_crm.grows")).toEqual([{ a: "x", c: "new" }]);
    await insert("grows", { a: "x", c: "y" });
  });

  const losses: [string, object, object][] = [
    ["removing a property", { b: { type: "string" } }, {}],
    ["another type", { a: { type: "integer" } }, {}],
    ["a tighter rule that records break", { a: { type: "string", maxLength: 1 } }, {}],
    [
      "a required property without default",
      { a: { type: "string" }, z: { type: "string" } },
      { required: ["z"] },
    ],
  ];
  test.each(losses)("%s is refused and changes nothing", async (_title, properties, more) => {
    await define("kept", { a: { type: "string" } });
    if ((await db.query("select from acme_crm.kept")).length === 0) await insert("kept", { a: "long" });
    const failure = await refusal(define("kept", properties, more));
    expect(failure.code).toBe("RH409");
    expect(await db.query("select a from acme_crm.kept")).toEqual([{ a: "long" }]);
  });

  test("dropping asks for the name, and is refused while others refer to it", async () => {
    await define("parents", { a: { type: "string" } });
    await define("children", { parent_id: { "x-relation": { entity: "parents" } } });
    expect((await refusal(db.query("select data.drop_entity('acme/crm/children', 'yes')"))).code).toBe(
      "RH400",
    );
    expect((await refusal(db.query("select data.drop_entity('acme/crm/parents', 'parents')"))).code).toBe(
      "RH409",
    );
    await db.query("select data.drop_entity('acme/crm/children', 'children')");
    await db.query("select data.drop_entity('acme/crm/parents', 'parents')");
    expect(
      await db.query(
        "select to_regclass('acme_crm.parents') as v, to_regclass('acme_crm.parents_jsonb') as t",
      ),
    ).toEqual([{ v: null, t: null }]);
  });
});

test("upsert inserts what is new, updates what changed and leaves the rest alone", async () => {
  await define("upserted", { code: { type: "string", "x-unique": true }, n: { type: "integer" } });
  const upsert = async (records: object[]) =>
    (
      await db.query<{ r: object }>("select data.upsert('acme/crm/upserted', $1, '{code}') as r", [
        JSON.stringify(records),
      ])
    )[0]?.r;
  expect(
    await upsert([
      { code: "a", n: 1 },
      { code: "b", n: 1 },
    ]),
  ).toEqual({ meta: { inserted: 2, updated: 0, unchanged: 0 } });
  expect(await upsert([{ code: "a", n: 1 }, { code: "b", n: 2 }, { code: "c" }])).toEqual({
    meta: { inserted: 1, updated: 1, unchanged: 1 },
  });
  expect(await db.query("select code, n::int, version from acme_crm.upserted order by code")).toEqual([
    { code: "a", n: 1, version: 1 },
    { code: "b", n: 2, version: 2 },
    { code: "c", n: null, version: 1 },
  ]);
});
