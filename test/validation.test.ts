import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { validate as validateOpenApi } from "@readme/openapi-parser";
import { base, type Crm, find, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());

const define = (name: string, properties: object, more: object = {}) =>
  crm.db.query("select (data.define_entity('acme/crm', $1, $2)).version", [
    name,
    JSON.stringify({ type: "object", properties, ...more }),
  ]);
const post = (entity: string, body: unknown) => crm.send(`${base}/${entity}`, { method: "POST", body });
type Problem = { errors?: { pointer: string; message: string }[]; code: string; detail: string };
const pointers = (answer: { json: unknown }) => (answer.json as Problem).errors?.map((e) => e.pointer).sort();
const check = async (schema: unknown, value: unknown) =>
  (
    await crm.db.query<{ e: { pointer: string; message: string }[] }>("select data.validate($1, $2) as e", [
      typeof schema === "string" ? schema : JSON.stringify(schema),
      typeof value === "string" ? value : JSON.stringify(value),
    ])
  )[0]?.e;

describe("data.validate", () => {
  test("any account may use it, on any value, and a constant schema is read once per statement", async () => {
    const schema =
      '{"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"minimum": 3}}}';
    await crm.db.as("acme", "vic@acme.test", async (client) => {
      const { rows } = await client.query("select data.validate($1, $2) as e", [schema, '{"a": 2}']);
      expect(rows[0].e).toEqual([{ pointer: "/a", message: "must be at least 3" }]);
      const plan = await client.query(
        `explain (verbose, costs off) select data.validate('${schema}', to_jsonb(n)) from generate_series(1, 9) n`,
      );
      const text = plan.rows.map((row) => row["QUERY PLAN"]).join("\n");
      expect(text).toContain("apply_schema");
      expect(text).not.toMatch(/prepare_schema|data\.validate/);
    });
  });

  test("messages name the place and what is wrong there", async () => {
    const schema = {
      properties: {
        "a/b": { items: { type: ["string", "integer"] }, uniqueItems: true },
        kind: { oneOf: [{ const: "x" }, { minLength: 5 }] },
        extra: { additionalProperties: false, properties: { known: true } },
      },
      dependentRequired: { kind: ["a/b"] },
    };
    expect(await check(schema, { kind: "y", extra: { unknown: 1 } })).toEqual([
      { pointer: "/a~1b", message: "is required when kind is there" },
      {
        pointer: "/kind",
        message: 'must fit one of 2 schemas (oneOf): must be "x"; or must have at least 5 characters',
      },
      { pointer: "/extra/unknown", message: "is not a property; known: known" },
    ]);
    expect(await check(schema, { "a/b": [1, 1.0, null] })).toEqual([
      { pointer: "/a~1b", message: "must not have the same item twice" },
      { pointer: "/a~1b/2", message: "must be of type string or integer" },
    ]);
  });

  test("numbers of any size are exact", async () => {
    expect(await check('{"multipleOf": 0.01}', "4.35")).toEqual([]);
    expect(await check('{"maximum": 12345678901234567890.1}', "12345678901234567890.2")).toHaveLength(1);
    expect(await check('{"type": "integer", "const": 1e3}', "1000.000")).toEqual([]);
    expect(await check('{"multipleOf": 1e-300}', "1e308")).toEqual([]);
    expect(await check('{"enum": [1e131071]}', "1e131071")).toEqual([]);
  });

  const hostile = `$body$'"; drop table auth.accounts; -- %1$I %s \\ $$`;
  test("hostile text is text: patterns, enums, names, prototypes", async () => {
    const schema = {
      properties: { [hostile]: { enum: [hostile] }, __proto__x: { const: 1 } },
      patternProperties: { "^\\$body\\$'": { type: "string" } },
      propertyNames: { pattern: "^[$_]" },
    };
    expect(await check(schema, { [hostile]: hostile })).toEqual([]);
    expect(await check(schema, { [hostile]: "other" })).toHaveLength(1);
    expect(
      await check(
        '{"properties": {"__proto__": {"type": "string"}}, "required": ["constructor"]}',
        '{"__proto__": 1}',
      ),
    ).toEqual(
      [
        { pointer: "/__proto__", message: "must be of type string" },
        { pointer: "/constructor", message: "is required" },
      ].reverse(),
    );
    expect((await refusal(check('{"const": "a\\u0000b"}', "1"))).code).toBe("22P05");
  });

  const circular: [string, object, string][] = [
    ["itself", { $ref: "#" }, ""],
    [
      "each other",
      { $defs: { a: { allOf: [{ $ref: "#/$defs/b" }] }, b: { not: { $ref: "#/$defs/a" } } } },
      "/$defs/a",
    ],
    ["by dynamic reference", { $dynamicAnchor: "a", anyOf: [{ $dynamicRef: "#a" }] }, ""],
  ];
  test.each(circular)("a $ref that goes round in circles is refused: %s", async (_title, schema, pointer) => {
    expect(await refusal(check(schema, 1))).toMatchObject({
      code: "RH400",
      detail: { errors: [{ pointer, message: expect.stringMatching(/circular/) }] },
    });
  });

  const tree =
    '{"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {"c": {"$ref": "#/$defs/t"}}, "additionalProperties": false}}}';
  const nested = (levels: number, inner: string) => `${'{"c":'.repeat(levels)}${inner}${"}".repeat(levels)}`;
  test("trees are validated, and one of 10,000 levels ends in a clear error", async () => {
    expect(await check(tree, nested(30, "{}"))).toEqual([]);
    expect(await check(tree, nested(30, "1"))).toMatchObject([{ pointer: "/c".repeat(30) }]);
    for (const levels of [60, 1_000, 10_000])
      expect(await refusal(check(tree, nested(levels, "{}")))).toMatchObject({
        code: "RH400",
        detail: { code: "nested_too_deeply" },
      });
    for (const levels of [65, 1_000, 10_000])
      expect(await refusal(check(`${'{"items":'.repeat(levels)}{}${"}".repeat(levels)}`, "1"))).toMatchObject(
        {
          code: "RH400",
          message: expect.stringMatching(/nested too deeply/),
        },
      );
  });

  test("a schema of 1 MB is read, and a problem in it found", async () => {
    const many = Object.fromEntries(
      Array.from({ length: 4_000 }, (_, n) => [
        `p${n}`,
        { $ref: `#/$defs/d${n}`, description: "x".repeat(200) },
      ]),
    );
    const $defs = Object.fromEntries(Array.from({ length: 4_000 }, (_, n) => [`d${n}`, { type: "string" }]));
    const schema = { properties: many, $defs };
    expect(JSON.stringify(schema).length).toBeGreaterThan(1_000_000);
    expect(await check(schema, { p3999: 1 })).toMatchObject([{ pointer: "/p3999" }]);
    (many.p7 as { $ref: string }).$ref = "#/$defs/none";
    expect(await refusal(check(schema, 1))).toMatchObject({
      detail: { errors: [{ pointer: "/properties/p7/$ref" }] },
    });
  });

  const regexes: [string, string | null][] = [
    ["(a+)+$", null],
    ["^[\\w.-]+\\s\\d{2,3}(?=x)\\b", null],
    ["\\u{1F600}|[\\ud83d\\ude00-\\ud83d\\ude4f]", null],
    ["(?<year>\\d{4})", null],
    ["\\p{L}", "\\p{L}"],
    ["(a)\\1", "\\1"],
    ["a{1,300}", "{1,300}"],
    ["(?i)a", "(?"],
    ["(?<=a*)+b", "not supported"],
    ["[b-a]", "not supported"],
    ["((((a{1,200}){1,200}){1,200}){1,200})", "not supported"],
    ["((a{1,200}){1,200})", "too complex: repeat less within what is repeated"],
    ["(a", "parentheses () not balanced"],
    [`^${"a".repeat(1_001)}`, "1000"],
    ["***=a", "nothing to repeat"],
  ];
  test.each(regexes)("regular expression %s", async (pattern, problem) => {
    if (problem === null) return expect(await check({ pattern }, '""')).toBeDefined();
    const failure = await refusal(check({ properties: { x: { pattern } } }, "1"));
    expect(failure).toMatchObject({
      code: "RH400",
      detail: { errors: [{ pointer: "/properties/x/pattern" }] },
    });
    expect(failure.message).toContain(problem);
  });
  test("classes are those of ECMA-262, whatever the locale", async () => {
    const fits = async (pattern: string, value: string) =>
      (await check({ pattern }, JSON.stringify(value)))?.length === 0;
    expect(await fits("^\\w$", "ä")).toBe(false);
    expect(await fits("^\\W$", "ä")).toBe(true);
    expect(await fits("^\\s$", "\u00a0")).toBe(true);
    expect(await fits("^\\d$", "٣")).toBe(false);
    expect(await fits("^.$", "\n")).toBe(false);
    expect(await fits("^[^]$", "\n")).toBe(true);
    expect(await fits("^[\\D]$", "1")).toBe(false);
    expect(await fits("\\bfoo\\B", "a foox")).toBe(true);
    expect(await fits("^[[:alpha:]]$", "a]")).toBe(true);
    expect(await fits("^[[:alpha:]]$", "z")).toBe(false);
  });
});

// Groups of the official suite become properties of an entity, with a type where the group has none.
test("what is compiled for an entity says the same as the interpreter, over the official suite", async () => {
  const suite = new URL("json-schema/", import.meta.url);
  type Group = { schema: Record<string, unknown>; tests: { data: unknown }[] };
  const hasNull = (v: unknown): boolean =>
    v === null || (typeof v === "object" && Object.values(v as object).some(hasNull));
  const differences: unknown[] = [];
  let compared = 0;
  const client = await crm.db.pool.connect();
  try {
    for (const file of readdirSync(suite).filter((name) => name.endsWith(".json"))) {
      for (const group of JSON.parse(readFileSync(new URL(file, suite), "utf8")) as Group[]) {
        if (typeof group.schema !== "object") continue;
        const { $defs, $schema, $id, ...property } = group.schema;
        const types = property.type
          ? [property.type]
          : [...new Set(group.tests.map(({ data }) => (Array.isArray(data) ? "array" : typeof data)))];
        for (const type of types) {
          const v = { ...property, type };
          const values = group.tests.filter((one) => !hasNull(one.data)).map((one) => ({ v: one.data }));
          const definition = JSON.stringify({
            type: "object",
            properties: { v },
            ...($defs ? { $defs } : {}),
          });
          await client.query("begin");
          try {
            await client.query(`select (data.require_definition('x', data.resolved_schema($1)))`, [
              definition,
            ]);
            await client.query(
              `select rowhouse.create_function('create function pg_temp.%1$s(_v0 jsonb) returns jsonb language plpgsql immutable',
                 'declare _e jsonb := ''[]''; _k text; _v1 jsonb; _v2 jsonb; _v3 jsonb; _v4 jsonb; _v5 jsonb; _v6 jsonb; _v7 jsonb; _v8 jsonb; _v9 jsonb; _v10 jsonb; _i1 int; _i2 int; _i3 int; _i4 int; _i5 int; _i6 int; _i7 int; _i8 int; begin %2$s return _e; end',
                 'compiled', data.compile_record(data.resolved_schema($1)))`,
              [definition],
            );
            const { rows } = await client.query(
              `select value, pg_temp.compiled(value) = '[]' as compiled, data.validate($1, value->'v', true) = '[]' as interpreted
               from jsonb_array_elements($2) value`,
              [JSON.stringify({ ...v, ...($defs ? { $defs } : {}) }), JSON.stringify(values)],
            );
            compared += rows.length;
            differences.push(
              ...rows
                .filter((row) => row.compiled !== row.interpreted)
                .map((row) => ({ definition, ...row })),
            );
          } catch (error) {
            if (!/^(RH400|22P05)$/.test((error as { code: string }).code)) throw error;
          } finally {
            await client.query("rollback");
          }
        }
      }
    }
  } finally {
    client.release();
  }
  expect(differences).toEqual([]);
  expect(compared).toBeGreaterThan(1_000);
});

describe("an entity's schema", () => {
  beforeAll(async () => {
    await define(
      "bookings",
      {
        room: { type: "string", pattern: "^[A-Z]\\d{3}$" },
        guests: { type: "integer", multipleOf: 2, enum: [2, 4, 6] },
        price: { type: "number", format: "decimal", precision: 10, scale: 2, multipleOf: 0.05 },
        currency: { const: "EUR" },
        site: { type: "string", format: "uri" },
        tags: {
          type: "array",
          items: { type: "string" },
          uniqueItems: true,
          contains: { const: "paid" },
          maxContains: 1,
        },
        pair: { type: "array", prefixItems: [{ type: "string" }, { type: "integer" }], items: false },
        labels: {
          type: "object",
          patternProperties: { "^x-": { type: "string" } },
          additionalProperties: { type: "integer" },
          minProperties: 1,
        },
        address: { $ref: "#/$defs/address", description: "where" },
        value: { oneOf: [{ type: "integer" }, { type: "string", maxLength: 3 }] },
        note: { anyOf: [{ type: "string", maxLength: 5 }, { type: "null" }] },
        tree: { type: "array", items: { $ref: "#/$defs/node" } },
      },
      {
        dependentRequired: { price: ["currency"] },
        if: { properties: { price: { minimum: 100 } }, required: ["price"] },
        // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
        then: { required: ["site"] },
        not: { required: ["note", "value"] },
        $defs: {
          address: {
            type: "object",
            required: ["city"],
            properties: { city: { type: "string", minLength: 2 } },
            additionalProperties: false,
          },
          node: {
            type: "object",
            required: ["name"],
            properties: {
              name: { type: "string" },
              children: { type: "array", items: { $ref: "#/$defs/node" } },
            },
          },
        },
      },
    );
  });

  const cases: [string, object, string[]][] = [
    [
      "a good one",
      {
        room: "A123",
        guests: 4,
        price: "12.35",
        currency: "EUR",
        site: "https://a.test/",
        tags: ["paid", "x"],
        pair: ["a", 1],
        labels: { "x-a": "b", n: 1 },
        address: { city: "Oslo" },
        value: "abc",
        tree: [{ name: "a", children: [{ name: "b" }] }],
      },
      [],
    ],
    ["nothing at all", {}, []],
    [
      "null is absent, at every depth",
      {
        note: null,
        address: { city: "Oslo" },
        labels: { n: 1, "x-m": null },
        tree: [{ name: "a", children: null }],
      },
      [],
    ],
    ["pattern of ECMA-262", { room: "A12٣" }, ["/room"]],
    ["multipleOf and an enum of numbers", { guests: 3 }, ["/guests", "/guests"]],
    ["multipleOf of a decimal sent as text", { price: "1.01", currency: "EUR" }, ["/price"]],
    ["const", { currency: "USD" }, ["/currency"]],
    ["format", { site: "no uri" }, ["/site"]],
    ["uniqueItems", { tags: ["paid", "a", "a"] }, ["/tags"]],
    ["contains", { tags: ["a"] }, ["/tags"]],
    ["maxContains", { tags: ["paid", "a", "paid"] }, ["/tags", "/tags"]],
    ["prefixItems", { pair: [1, "a", 2] }, ["/pair/0", "/pair/1", "/pair/2"]],
    [
      "patternProperties and what is additional",
      { labels: { "x-a": 1, n: "b" } },
      ["/labels/n", "/labels/x-a"],
    ],
    ["minProperties", { labels: {} }, ["/labels"]],
    [
      "$ref to a definition",
      { address: { city: "O", planet: "Earth" } },
      ["/address/city", "/address/planet"],
    ],
    [
      "a recursive $ref",
      { tree: [{ name: "a", children: [{ name: "b", children: [{}] }] }] },
      ["/tree/0/children/0/children/0/name"],
    ],
    ["oneOf without a type", { value: 1.5 }, ["/value"]],
    ["anyOf with null", { note: "too long" }, ["/note"]],
    ["dependentRequired", { price: 1 }, ["/currency"]],
    ["if and then, a decimal sent as text too", { price: "100.00", currency: "EUR" }, ["/site"]],
    ["not", { note: "a", value: 1 }, [""]],
    ["an extreme number where any is allowed", { value: "a" }, []],
  ];
  test.each(cases)("%s", async (_title, record, expected) => {
    const answer = await post("bookings", record);
    expect([answer.status, expected.length === 0 ? [] : pointers(answer)]).toEqual([
      expected.length === 0 ? 201 : 422,
      expected,
    ]);
    const list = await post("bookings", [{}, record]);
    expect([list.status, expected.length === 0 ? [] : pointers(list)]).toEqual([
      expected.length === 0 ? 201 : 422,
      expected.map((pointer) => `/1${pointer}`),
    ]);
  });
  test("a number of 130 kB is refused where any value is allowed", async () => {
    const failure = await refusal(
      crm.db.query("select data.insert('acme/crm/bookings', '{\"value\": 1e131071}')"),
    );
    expect(failure.detail.errors).toContainEqual({
      pointer: "/value",
      message: "holds a number beyond 1e309 or below 1e-400",
    });
  });

  test("a property that is a $ref, or a type or null, has the column of what it refers to; one without a type is jsonb", async () => {
    const types = await crm.db.query(
      "select f.name, f.kind, f.sql_type from data.fields f join data.entities e on e.id = f.entity_id where e.name = 'bookings' and f.name in ('address', 'note', 'value', 'currency', 'guests') order by f.name",
    );
    expect(types).toEqual([
      { name: "address", kind: "object", sql_type: "jsonb" },
      { name: "currency", kind: "string", sql_type: "text" },
      { name: "guests", kind: "integer", sql_type: "int8" },
      { name: "note", kind: "string", sql_type: "text" },
      { name: "value", kind: "any", sql_type: "jsonb" },
    ]);
    expect(
      (
        await crm.send(
          `${base}/bookings?filter=${encodeURIComponent('{"address.city": "Oslo"}')}&count=exact`,
        )
      ).json.data.length,
    ).toBeGreaterThan(0);
  });

  test("psql through the view, and flat storage, meet the same rules", async () => {
    const failure = await refusal(crm.db.query("insert into acme_crm.bookings (price) values (200)"));
    expect(failure.detail.errors?.map((e) => e.pointer).sort()).toEqual(["/currency", "/site"]);
    await define(
      "flats",
      { v: { oneOf: [{ type: "integer" }, { type: "array" }] }, n: { type: "integer", multipleOf: 3 } },
      { "x-storage": "flat", minProperties: 1 },
    );
    expect((await post("flats", { v: [1], n: 3 })).json).toMatchObject({ v: [1], n: 3 });
    expect(pointers(await post("flats", { v: "a", n: 2 }))).toEqual(["/n", "/v"]);
    expect(pointers(await post("flats", {}))).toEqual([""]);
  });

  test("OpenAPI is valid and its references lead somewhere, TypeScript knows the types", async () => {
    const doc = JSON.parse((await crm.send(`${base}/openapi.json`)).text);
    expect(await validateOpenApi(structuredClone(doc))).toMatchObject({ valid: true });
    expect(doc.components.schemas["bookings.def.node"]).toBeDefined();
    expect(doc.components.schemas["bookings.insert"].dependentRequired).toEqual({ price: ["currency"] });
    const [row] = await crm.db.query<{ t: string }>("select data.typescript_types('acme/crm') as t");
    expect(row?.t).toContain("value: (number) | (string) | null;");
    expect(row?.t).toContain('currency: "EUR" | null;');
  });

  const refused: [string, object, object, string, RegExp][] = [
    ["\\p{…}", { a: { type: "string", pattern: "^\\p{Lu}" } }, {}, "/properties/a/pattern", /not supported/],
    [
      "a format nobody checks",
      { a: { type: "string", format: "iri" } },
      {},
      "/properties/a/format",
      /not supported/,
    ],
    [
      "a format of a number",
      { a: { type: "integer", format: "int32" } },
      {},
      "/properties/a/format",
      /not supported/,
    ],
    ["a remote $ref", { a: { $ref: "https://example.com/x" } }, {}, "/properties/a/$ref", /not supported/],
    ["a $ref to nothing", { a: { $ref: "#/$defs/none" } }, {}, "/properties/a/$ref", /no schema/],
    [
      "a circular $ref",
      { a: { $ref: "#/$defs/a" } },
      { $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } },
      "/$defs/a",
      /circular/,
    ],
    [
      "an unknown keyword in a part of oneOf",
      { a: { oneOf: [{ type: "string", maxLenght: 3 }, {}] } },
      {},
      "/properties/a/oneOf/0/maxLenght",
      /not supported/,
    ],
    [
      "an unknown x- keyword",
      { a: { type: "string", "x-evil": 1 } },
      {},
      "/properties/a/x-evil",
      /not supported/,
    ],
    [
      "a keyword of another type",
      { a: { type: "boolean", minItems: 1 } },
      {},
      "/properties/a/minItems",
      /not supported/,
    ],
    [
      "a wrong value deep inside",
      { a: { type: "object", properties: { "b/c": { not: { required: "x" } } } } },
      {},
      "/properties/a/properties/b~1c/not/required",
      /list/,
    ],
    [
      "$dynamicRef",
      { a: { type: "array", items: { $dynamicRef: "#a" } } },
      {},
      "/properties/a/items/$dynamicRef",
      /not supported/,
    ],
    [
      "patternProperties of the entity",
      { a: { type: "string" } },
      { patternProperties: { "^b": true } },
      "/patternProperties",
      /exactly/,
    ],
    [
      "an index on what has no single type",
      { a: { oneOf: [{ type: "string" }, { type: "integer" }], "x-index": true } },
      {},
      "/properties/a",
      /scalar/,
    ],
    [
      "a name of a definition with a slash",
      { a: { type: "string" } },
      { $defs: { "a/b": {} } },
      "/$defs/a~1b",
      /not supported/,
    ],
    [
      "another draft",
      { a: { type: "string" } },
      { $schema: "http://json-schema.org/draft-07/schema#" },
      "/$schema",
      /not supported/,
    ],
  ];
  test.each(refused)("refuses %s when it is defined", async (_title, properties, more, pointer, message) => {
    const failure = await refusal(define("refused", properties, more));
    expect(failure.code).toBe("RH400");
    expect(failure.detail.errors).toEqual([{ pointer, message: expect.stringMatching(message) }]);
  });
  test("definitions that refer to each other twice do not explode", async () => {
    const $defs: Record<string, object> = { d0: { type: "string" } };
    for (let n = 1; n <= 30; n++)
      $defs[`d${n}`] = {
        type: "object",
        properties: { l: { $ref: `#/$defs/d${n - 1}` }, r: { $ref: `#/$defs/d${n - 1}` } },
      };
    await define("laughs", { a: { $ref: "#/$defs/d30" } }, { $defs });
    expect((await post("laughs", { a: { l: { r: { l: "x" } } } })).status).toBe(422);
  });

  test("hostile text in keywords of every kind is text", async () => {
    const hostile = `$body$'"; drop table auth.accounts; -- %1$I %s \\ $$`;
    await define(
      "hostile",
      {
        a: { enum: [hostile, 1] },
        b: {
          type: "object",
          properties: { [hostile]: { const: hostile } },
          dependentRequired: { [hostile]: [`${hostile}2`] },
        },
        c: { not: { const: hostile } },
        d: { type: "string", default: hostile, pattern: "^\\$body\\$'\"" },
      },
      { $defs: { unused: { const: hostile } }, propertyNames: { not: { const: hostile } } },
    );
    expect(
      (await post("hostile", { a: hostile, b: { [hostile]: hostile, [`${hostile}2`]: 1 } })).json,
    ).toMatchObject({ a: hostile, d: hostile });
    const failed = await post("hostile", { a: "x", b: { [hostile]: "y" }, c: hostile });
    expect(pointers(failed)).toEqual(["/a", `/b/${hostile}`, `/b/${hostile}2`, "/c"]);
    expect(await crm.db.query("select from auth.accounts")).not.toHaveLength(0);
  });
});

test("a regular expression that explodes is cut off with a clear error; the usual suspect does not explode at all", async () => {
  await define("slow", {
    harmless: { type: "string", pattern: "^(a+)+$" },
    // At each of 100,000 places it looks ahead to the end.
    quadratic: { type: "string", pattern: "(?:(?=.*b)a)*c" },
  });
  const long = `${"a".repeat(100_000)}!`;
  const start = await post("slow", { harmless: long });
  expect([start.status, pointers(start)]).toEqual([422, ["/harmless"]]);
  await crm.db.query(`alter role rowhouse_gateway in database ${crm.db.name} set statement_timeout = '2s'`);
  try {
    for (const client of await Promise.all(Array.from({ length: 5 }, () => crm.gateway.pool.connect())))
      client.release(true);
    const answer = await post("slow", { quadratic: long });
    expect([answer.status, answer.json.code]).toEqual([504, "timeout"]);
    expect((await crm.send(find({ limit: "1" }))).status).toBe(200);
  } finally {
    await crm.db.query(`alter role rowhouse_gateway in database ${crm.db.name} reset statement_timeout`);
  }
});

test("the examples of docs/data.md do what it says", async () => {
  const docs = readFileSync(new URL("../docs/data.md", import.meta.url), "utf8");
  const section = docs.slice(docs.indexOf("## Validation")).split("\n## ")[0] as string;
  const blocks = [...section.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, block]) => block as string);
  await crm.db.query("select data.drop_entity('acme/crm/bookings', 'bookings')");
  for (const block of blocks) {
    const promised = [...block.matchAll(/^-- (.*)$/gm)].map(([, line]) => line as string);
    const outcome = crm.db.query<Record<string, unknown>>(block);
    if (promised[0]?.startsWith("RH")) {
      const failure = await refusal(outcome);
      const said = failure.detail.errors?.map((e) => `${failure.code} ${e.pointer} ${e.message}`).sort();
      expect(said).toEqual(promised);
    } else {
      const [row] = await outcome;
      if (promised.length > 0) expect(Object.values(row ?? {})[0]).toEqual(JSON.parse(promised[0] as string));
    }
  }
  expect(blocks).toHaveLength(4);
});
