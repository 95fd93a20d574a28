import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

// The expression that lets valid records pass quickly must never let one pass that the full check refuses.

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
});
afterAll(() => db.drop());

const properties: Record<string, object> = {
  text: { type: "string", minLength: 2, maxLength: 5, pattern: "^[a-z']+$" },
  choice: { enum: ["a", "b", "it's"] },
  email: { type: "string", format: "email" },
  uuid: { type: "string", format: "uuid" },
  date: { type: "string", format: "date" },
  moment: { type: "string", format: "date-time" },
  whole: { type: "integer", minimum: -5, maximum: 10 },
  real: { type: "number", exclusiveMinimum: 0, exclusiveMaximum: 1 },
  money: { type: "number", format: "decimal", precision: 6, scale: 2 },
  exact: { type: "number", format: "decimal" },
  flag: { type: "boolean" },
  fixed: { const: "it's" },
  even: { type: "integer", multipleOf: 2, enum: [0, 10, 11] },
  link: { type: "string", format: "uri" },
  unique: { type: "array", uniqueItems: true },
  nested: {
    type: "object",
    required: ["a"],
    properties: { a: { type: "integer", maximum: 3 } },
    additionalProperties: false,
    dependentRequired: { a: ["a"] },
  },
  words: { type: "array", items: { type: "string" }, minItems: 1, maxItems: 3 },
  flags: { type: "array", items: { type: "boolean" } },
  ids: { type: "array", items: { type: "string", format: "uuid" }, uniqueItems: true },
  either: { oneOf: [{ type: "string", maxLength: 3 }, { type: "integer" }, { const: "abcdef" }] },
  other_than: { type: "string", not: { enum: ["ab", "it's"] }, allOf: [{ minLength: 1 }] },
  holding: { type: "array", contains: { const: "a" }, maxContains: 1 },
  tuple: { type: "array", prefixItems: [{ type: "string" }, { type: "number" }], items: { type: "boolean" } },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  cases: { type: "integer", if: { minimum: 0 }, then: { multipleOf: 2 }, else: { const: -5 } },
  outside: { type: "number", format: "decimal", anyOf: [{ maximum: 1 }, { minimum: 1000 }] },
  some: {
    type: "object",
    anyOf: [{ required: ["a"] }, { maxProperties: 0 }],
    dependentSchemas: { a: { minProperties: 1 } },
  },
  several: { type: ["string", "array"], minLength: 2, maxItems: 1 },
};
const values = [
  '"ab"',
  '"abcdef"',
  '"a"',
  '"a\'b"',
  '"A"',
  '"it\'s"',
  '"b"',
  '""',
  '"x@y.zz"',
  '"x@y"',
  '"2026-02-29"',
  '"2024-02-29"',
  '"2026-01-31T12:00:00Z"',
  '"2026-01-31T25:00:00Z"',
  '"2026-01-31 12:00:00"',
  '"01890a5d-ac96-774b-bcce-b302099a8057"',
  '"01890a5dac96774bbcceb302099a8057"',
  '["01890a5d-ac96-774b-bcce-b302099a8057"]',
  '["01890a5dac96774bbcceb302099a8057"]',
  '[["01890a5d-ac96-774b-bcce-b302099a8057"]]',
  '[["a"]]',
  "[[true]]",
  "[true, false]",
  '["a", [true]]',
  '"0.5"',
  '"12.345"',
  "0",
  "1",
  "-5",
  "-6",
  "10.0",
  "10.5",
  "11",
  "0.5",
  "1e400",
  "1e-400",
  "9223372036854775808",
  "1234.56",
  "12345.6",
  "1234.567",
  "99999",
  "true",
  "false",
  "null",
  "[]",
  '["a"]',
  '["a","b","c","d"]',
  '["a",1]',
  "[null]",
  "{}",
  '{"a":1}',
  '["a","b"]',
  '"\\u0001"',
  '"é́"',
];

const combined: Record<string, object> = {
  "if, then and else": {
    if: { properties: { city: { const: "Rome" } }, required: ["city"] },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { required: ["note"] },
    else: { properties: { price: { maximum: 10 } } },
  },
  oneOf: { oneOf: [{ required: ["city"] }, { required: ["note"] }] },
  references: {
    $defs: { short: { maxLength: 4 }, cheap: { properties: { price: { maximum: 10 } } } },
    anyOf: [
      { $ref: "#/$defs/cheap" },
      { properties: { note: { $ref: "#/$defs/short" } }, required: ["note"] },
    ],
  },
  counts: { minProperties: 2, not: { required: ["city", "note"] } },
  inside: { allOf: [{ properties: { tree: { required: ["a"], properties: { a: { minimum: 0 } } } } }] },
};
const records = [
  {},
  { city: "Rome" },
  { city: "Rome", note: "x" },
  { city: "Rome", note: null },
  { city: "Oslo", price: 11 },
  { city: "Oslo", price: "11" },
  { city: "Oslo", price: 9.5 },
  { city: "Oslo", price: "9.5" },
  { note: "abcd", price: 12 },
  { note: "abcde", price: 12 },
  { note: "abcde", price: "12" },
  { city: null, note: "n" },
  { tree: {} },
  { tree: { a: null } },
  { tree: { a: 1, b: null }, note: "n" },
  { tree: { a: -1 } },
  { tree: { a: "x" } },
  { tree: null, price: 1 },
];

test.each(Object.entries(combined))(
  "%s of a record: what passes quickly has no violation, and what has none passes",
  async (title, keywords) => {
    const properties = {
      city: { type: "string" },
      note: { type: "string" },
      price: { type: "number", format: "decimal" },
      tree: { type: "object" },
    };
    const schema = { type: "object", properties, ...keywords };
    const name = `combined_${Object.keys(combined).indexOf(title) + 1}`;
    await db.query("select data.define_entity('acme/crm', $1, $2)", [name, schema]);
    const [{ check } = { check: null }] = await db.query<{ check: string | null }>(
      "select data.fast_check($1, 'v') as check",
      [schema],
    );
    expect(check).not.toBeNull();
    const rows = await db.query<{ v: string; quick: boolean; errors: object[] }>(
      `select v::text, (${check}) is true as quick, acme_crm.${name}_violations(data.without_nulls(v)) as errors from unnest($1::jsonb[]) v`,
      [records.map((record) => JSON.stringify(record))],
    );
    for (const { v, quick, errors } of rows) {
      if (quick) expect([v, errors]).toEqual([v, []]);
      else if (!/null|"price": "/.test(v)) expect([v, errors.length > 0]).toEqual([v, true]);
      const written = db
        .query(
          `insert into acme_crm.${name} select * from jsonb_populate_record(null::acme_crm.${name}, $1)`,
          [v],
        )
        .then(
          () => true,
          () => false,
        );
      expect([v, await written]).toEqual([v, errors.length === 0]);
    }
    expect(rows.some((row) => row.quick) && rows.some((row) => row.errors.length > 0)).toBe(true);
  },
);

test("on every kind and 54 values each, what passes quickly has no violation, and most valid values do", async () => {
  let quick = 0;
  let valid = 0;
  for (const [name, property] of Object.entries(properties)) {
    for (const required of [[], [name]]) {
      const schema = {
        type: "object",
        required,
        properties: { [name]: property, other: { type: "string" } },
      };
      await db.query("select data.define_entity('acme/crm', $1, $2)", [
        `e_${name}_${required.length}`,
        schema,
      ]);
      const [{ check } = { check: null }] = await db.query<{ check: string | null }>(
        "select data.fast_check($1, 'v') as check",
        [schema],
      );
      expect(check).not.toBeNull();
      const records = [
        ...values.map((value) => `{"${name}": ${value}}`),
        "{}",
        '{"unknown": 1}',
        '{"other": "x"}',
        '{"other": 1}',
      ];
      const rows = await db.query<{ v: string; quick: boolean; errors: object[] }>(
        `select v::text, (${check}) is true as quick, acme_crm.e_${name}_${required.length}_violations(data.without_nulls(v)) as errors
         from unnest($1::jsonb[]) v`,
        [records],
      );
      for (const row of rows) {
        if (row.quick) expect([name, row.v, row.errors]).toEqual([name, row.v, []]);
        if (row.errors.length === 0 && !row.v.includes("null")) valid++;
        if (row.quick) quick++;
      }
    }
  }
  expect(valid).toBeGreaterThan(100);
  expect(quick / valid).toBeGreaterThan(0.9);
});

test("a list in a list is not looked into", async () => {
  for (const [name, value] of [
    ["words", [["a"]]],
    ["flags", [[true]]],
    ["ids", [["01890a5d-ac96-774b-bcce-b302099a8057"]]],
  ] as const) {
    const [row] = await db.query<{ errors: object[] }>(
      `select acme_crm.e_${name}_0_violations($1) as errors`,
      [{ [name]: value }],
    );
    expect(row?.errors).toEqual([expect.objectContaining({ pointer: `/${name}/0` })]);
  }
});

test.each(["a", "", 'a"b', "a\\b", "$", "$.a", "%1$s", "'; drop table x; --", "é🙂", "\n", "@"])(
  "a property called %j has its type, is missing, or is looked at by the full check",
  async (name) => {
    for (const [type, right] of [
      ["string", ["x", ""]],
      ["boolean", [true, false]],
      ["number", [0, -1.5, 3]],
    ] as const) {
      const rows = async (values: readonly unknown[]) => {
        const [{ check } = { check: "" }] = await db.query<{ check: string }>(
          "select data.fast_check($1, 'v') as check",
          [{ type: "object", properties: { [name]: { type }, other: { type: "string" } } }],
        );
        return (
          await db.query<{ quick: boolean }>(
            `select (${check}) is true as quick from unnest($1::jsonb[]) with ordinality v (v, n) order by n`,
            [values.map((value) => JSON.stringify({ [name]: value }))],
          )
        ).map(({ quick }) => quick);
      };
      expect(await rows([undefined, ...right])).toEqual([true, ...right.map(() => true)]);
      const wrong = [null, [], {}, [...right], [right[0]], { [name]: right[0] }, "1", 1, true].filter(
        (value) => typeof value !== type,
      );
      expect(await rows(wrong)).toEqual(wrong.map(() => false));
    }
  },
);

test("a keyword that it does not know leaves the work to the full check", async () => {
  const check = async (schema: object) =>
    (await db.query<{ c: string | null }>("select data.fast_check($1, 'v') as c", [schema]))[0]?.c;
  const a = { type: "string" };
  expect(
    await check({ type: "object", patternProperties: { b: { minLength: 1 } }, properties: { a } }),
  ).toBeNull();
  expect(
    await check({ type: "object", properties: { a: { type: "object", propertyNames: { maxLength: 3 } } } }),
  ).toBeNull();
  expect(
    await check({ type: "object", allOf: [{ unevaluatedProperties: false }], properties: { a } }),
  ).toBeNull();
  expect(await check({ type: "object", minProperties: 1, properties: { a } })).not.toBeNull();
  expect(
    await check({ type: "object", properties: { a: { type: "array", items: { type: "object" } } } }),
  ).toBeNull();
});
