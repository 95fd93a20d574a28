import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

// Which fields a definition checks together: access.joint_rules. Too many are safe, too few a leak.

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", {});
});
afterAll(() => db?.drop());

const text = { type: "string" };
const int = { type: "integer" };
const small = { type: "integer", minimum: 0, maximum: 9 };
const short = { type: "string", maxLength: 100 };
const computed = (expression: string, more: object = {}) => ({ ...int, "x-computed": expression, ...more });
const stored = (expression: string, more: object = {}) => ({
  ...int,
  "x-computed": { expression, stored: true },
  ...more,
});
const base = { a: int, b: int, c: int, t: text, u: text, d: { type: "string", format: "date" } };
const all = "a,b,c,d,t,u";

/** What is defined, beside the fields a, b, c (whole numbers), t, u (texts) and d (a date), and what is checked together: "kind: fields", with * where the clock matters and the length from which texts do. */
const cases: [string, object, string[]][] = [
  ["nothing", {}, []],
  ["rules of one field", { "x-rules": [{ rule: "a > 1" }] }, []],
  ["rules of several", { "x-rules": [{ rule: "a > b or c is null" }] }, ["rule: a,b,c"]],
  ["rules that read the clock", { "x-rules": [{ rule: "d < today()" }] }, ["rule: d *"]],
  [
    "rules over what is computed, however often",
    {
      properties: {
        ...base,
        v: computed("if(a > 0, 1, 2)"),
        w: computed("v + 1"),
        at: { type: "boolean", "x-computed": "d < today()" },
      },
      "x-rules": [{ rule: "w > b" }, { rule: "at or c > 1" }],
    },
    ["rule: a,b", "rule: c,d *"],
  ],
  [
    "if, then, else",
    {
      if: { required: ["a"] },
      [String("then")]: { properties: { b: { minimum: 1 } } },
      else: { required: ["t"] },
    },
    ["schema: a,b,t"],
  ],
  [
    "allOf, element by element",
    {
      allOf: [
        { required: ["a", "b"] },
        { not: { properties: { t: { const: "x" }, u: { const: "y" } } } },
        { properties: { c: { minimum: 1 } } },
      ],
    },
    ["schema: a,b", "schema: t,u"],
  ],
  [
    "oneOf and anyOf",
    {
      oneOf: [{ required: ["a"] }, { required: ["b"] }],
      anyOf: [{ required: ["t"] }, { properties: { u: { type: "string" } } }],
    },
    ["schema: a,b", "schema: t,u"],
  ],
  [
    "definitions that refer to definitions, and to themselves deeper down",
    {
      $ref: "#/$defs/one",
      $defs: {
        one: { required: ["a"], allOf: [{ $ref: "#/$defs/two" }] },
        two: { properties: { b: { $ref: "#/$defs/deep" } } },
        deep: { properties: { more: { $ref: "#/$defs/deep" } } },
      },
    },
    ["schema: a,b"],
  ],
  [
    "dependentSchemas and dependentRequired, each by itself",
    {
      dependentSchemas: { a: { required: ["b"] }, c: { properties: { t: { minLength: 1 } } } },
      dependentRequired: { t: ["u", "d"] },
    },
    ["schema: a,b", "schema: c,t", "schema: t,u", "schema: d,t"],
  ],
  ["how many there are", { minProperties: 1, maxProperties: 5 }, [`schema: ${all}`, `schema: ${all}`]],
  [
    "names, and what is unevaluated",
    { propertyNames: { minLength: 1 }, unevaluatedProperties: false },
    [`schema: ${all}`, `schema: ${all}`],
  ],
  [
    "a count within a combination",
    { anyOf: [{ required: ["a"] }, { minProperties: 3 }] },
    [`schema: ${all}`],
  ],
  ["the whole as a constant", { not: { const: { a: 1 } } }, [`schema: ${all}`]],
  [
    "what is closed within",
    { anyOf: [{ properties: { a: true }, additionalProperties: false }, { required: ["b"] }] },
    [`schema: ${all}`],
  ],
  [
    "what is unique together, and by what is computed",
    {
      properties: {
        ...base,
        k: stored("a", { "x-unique": true }),
        l: stored("min(a, b)", { "x-unique": true }),
      },
      "x-unique": [
        ["t", "u"],
        ["l", "c"],
      ],
    },
    ["unique: t,u", "unique: a,b,c", "unique: a,b"],
  ],
  ["sums that may exceed", { properties: { ...base, s: computed("a + b") } }, ["computed: a,b"]],
  [
    "sums that may not",
    {
      properties: {
        a: small,
        b: small,
        c: { ...small, ...int },
        s: computed("(a + b) * 3 - a"),
        v: computed("s * 2"),
      },
    },
    [],
  ],
  [
    "sums that may for all that is known",
    { properties: { a: small, b: int, s: computed("a * b"), v: computed("round(a / b)") } },
    ["computed: a,b", "computed: a,b"],
  ],
  [
    "products beyond all numbers",
    {
      properties: {
        a: { type: "number" },
        b: { type: "number" },
        s: { type: "number", "x-computed": "a * b" },
      },
    },
    ["computed: a,b"],
  ],
  [
    "comparisons",
    { properties: { ...base, s: { type: "boolean", "x-computed": "a > b and t != u and d is not null" } } },
    [],
  ],
  [
    "a limit of what is computed",
    { properties: { a: small, b: small, s: stored("a + b", { maximum: 12 }) } },
    ["computed: a,b"],
  ],
  [
    "prices",
    {
      properties: {
        a: { type: "number", format: "decimal", precision: 12, scale: 2 },
        b: small,
        s: { type: "number", format: "decimal", "x-computed": "a * b / 3" },
        v: {
          type: "number",
          format: "decimal",
          precision: 12,
          "x-computed": { expression: "a * b", stored: true },
        },
      },
    },
    ["computed: a,b"],
  ],
  [
    "joined texts",
    { properties: { ...base, s: { ...text, "x-computed": "t || ' ' || lower(u)" } } },
    ["computed: t,u 3242"],
  ],
  [
    "joined texts that are short",
    { properties: { t: short, u: short, s: { ...text, "x-computed": "upper(t) || '-' || u" } } },
    [],
  ],
  [
    "texts that are replaced",
    { properties: { ...base, s: { ...text, "x-computed": "replace(t, 'x', u)" } } },
    ["computed: t,u"],
  ],
  [
    "a date that is moved",
    { properties: { ...base, s: { type: "string", format: "date", "x-computed": "d + a" } } },
    [],
  ],
  [
    "what doubles a hundred times",
    {
      properties: {
        ...base,
        ...Object.fromEntries(
          Array.from({ length: 90 }, (_, n) => [
            `s${n}`,
            stored(n === 0 ? "a + b" : `s${n - 1} + s${n - 1}`),
          ]),
        ),
      },
    },
    Array.from({ length: 90 }, () => "computed: a,b"),
  ],
  [
    "joined texts in an index",
    { properties: { ...base, s: { ...text, "x-index": true, "x-computed": "t || u" } } },
    ["computed: t,u 100"],
  ],
  [
    "indexes of several fields",
    { "x-indexes": [{ fields: ["a", "-t"] }, { fields: ["u"], where: { a: 1 } }] },
    ["index: a,t 100"],
  ],
  [
    "indexes of several fields that are short",
    {
      properties: { ...base, t: short, u: short },
      "x-indexes": [{ fields: ["t", "u", "a"] }, { fields: ["a", "b"] }],
    },
    [],
  ],
  [
    "what is searched under three weights",
    {
      properties: Object.fromEntries(
        ["A", "B", "C"].map((weight) => [weight.toLowerCase(), { ...text, "x-search": { weight } }]),
      ),
    },
    ["search: a,b,c 50000"],
  ],
  [
    "when a record expires by what is computed",
    {
      properties: {
        ...base,
        expires_at: { type: "string", format: "date-time", "x-computed": "date_add(d, a)" },
      },
      "x-ttl": true,
    },
    ["computed: a,d *"],
  ],
];

test.each(cases)("%s", async (what, more, expected) => {
  const name = `jobs_${cases.findIndex(([other]) => other === what)}`;
  await db.query("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", properties: base, ...more },
  ]);
  const found = await db.query(
    `select kind || ': ' || array_to_string(fields, ',') || case when timed then ' *' else '' end
       || case when longer > 0 then ' ' || longer else '' end as said
     from data.entities e, access.joint_rules(e) where e.name = $1`,
    [name],
  );
  expect(found.map(({ said }) => said).sort()).toEqual([...expected].sort());
});
