import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// test/json-schema: draft2020-12 of https://github.com/json-schema-org/JSON-Schema-Test-Suite as it is, but for refRemote.json
// and vocabulary.json, which ask for documents from elsewhere.
const SUITE = new URL("json-schema/", import.meta.url);
type Group = {
  description: string;
  schema: unknown;
  tests: { description: string; data: unknown; valid: boolean }[];
};
const assertions = readdirSync(SUITE)
  .filter((file) => file.endsWith(".json"))
  .flatMap((file) =>
    (JSON.parse(readFileSync(new URL(file, SUITE), "utf8")) as Group[]).flatMap((group) =>
      group.tests.map((one) => ({
        name: `${file}: ${group.description}: ${one.description}`,
        schema: JSON.stringify(group.schema),
        data: JSON.stringify(one.data),
        valid: one.valid,
      })),
    ),
  );

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
});
afterAll(() => db.drop());

test("at least 97 % of the official assertions are right, and the rest is refused as not supported", async () => {
  const wrong: string[] = [];
  const refused: string[] = [];
  for (const { name, schema, data, valid } of assertions) {
    try {
      const [row] = await db.query<{ errors: unknown[] }>(
        "select data.validate($1::jsonb, $2::jsonb) as errors",
        [schema, data],
      );
      if ((row?.errors.length === 0) !== valid) wrong.push(name);
    } catch {
      // A schema with \u0000 is refused by PostgreSQL's JSON itself.
      const failure = await refusal(db.query("select data.validate($1::jsonb, 'null')", [schema]));
      const said = failure.code === "22P05" ? "unsupported Unicode escape sequence" : failure.message;
      if (!/not supported|^unsupported/.test(said)) wrong.push(`${name}: ${said}`);
      refused.push(name);
    }
  }
  expect(wrong).toEqual([]);
  expect(assertions.length).toBeGreaterThan(1_200);
  expect(refused.length / assertions.length).toBeLessThan(0.03);
});

test("what is refused is named by data.unsupported_keywords", async () => {
  const unsupported = async (schema: unknown) =>
    (
      await db.query<{ p: { pointer: string }[] }>("select data.unsupported_keywords($1) as p", [
        JSON.stringify(schema),
      ])
    )[0]?.p.map((problem) => problem.pointer);
  expect(await unsupported({ properties: { "a/b": { pattern: "\\p{Letter}" } } })).toEqual([
    "/properties/a~1b/pattern",
  ]);
  expect(await unsupported({ $ref: "https://example.com/other.json" })).toEqual(["/$ref"]);
  expect(await unsupported({ $schema: "http://json-schema.org/draft-07/schema#" })).toEqual(["/$schema"]);
  expect(await unsupported({ allOf: [{ dependencies: {} }, { additionalItems: false }] })).toEqual([
    "/allOf/0/dependencies",
    "/allOf/1/additionalItems",
  ]);
  expect(await unsupported({ minimum: "1", required: "a", type: "text", properties: [] })).toEqual([
    "/minimum",
    "/properties",
    "/required",
    "/type",
  ]);
  expect(await unsupported({ type: "string", format: "idn-email" })).toEqual([]);
  expect(await unsupported(true)).toEqual([]);
});

const email = { format: "email" };
const formats: [string, string[], string[]][] = [
  ["email", ["a@b.test"], ["a@b", "a b@c.test", `${"a".repeat(65)}@b.test`]],
  ["date", ["2024-02-29", "2000-02-29"], ["2023-02-29", "1900-02-29", "2024-13-01", "0000-01-01"]],
  [
    "date-time",
    ["1998-12-31T23:59:60Z", "2026-01-31T12:00:00.5+02:00"],
    ["1998-12-31T22:59:60Z", "2026-01-31"],
  ],
  ["time", ["12:00:00Z", "01:29:60+01:30"], ["24:00:00Z", "12:00:00", "01:29:60+01:31"]],
  ["duration", ["P1DT12H", "P4W", "P1Y2M3D"], ["P", "PT", "P1Y2D", "P1WT1H"]],
  ["hostname", ["example.com", "a-b.c"], ["-a.b", "a_b", "a..b", `${"a".repeat(64)}.b`]],
  ["ipv4", ["192.0.2.1"], ["192.0.2.01", "256.0.0.1", "1.2.3"]],
  ["ipv6", ["::1", "2001:db8::192.0.2.1"], ["::1/64", "1::2::3", "12345::", "::1%eth0"]],
  [
    "uri",
    ["https://u@example.com:8/a?b#c", "urn:isbn:1", "http://[::1]/"],
    ["/a", "http://a b", "http://a/%zz", "http://[1::2::3]/"],
  ],
  ["uri-reference", ["../a?b#c", "//x/y", ""], ["a b", "\\x", "1:2"]],
  ["uuid", ["0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b"], ["0197a5b07e4c7a6e9d3c2f1f6f0c1a2b"]],
  ["json-pointer", ["", "/a~1b/0"], ["a", "/a~2"]],
  ["relative-json-pointer", ["1/a", "0#"], ["/a", "01/a"]],
];
test.each(formats)(
  "format %s is asserted where asked for, and an annotation otherwise",
  async (format, good, bad) => {
    const valid = async (value: string, asserted: boolean) =>
      (
        await db.query<{ ok: boolean }>("select data.validate($1, to_jsonb($2::text), $3) = '[]' as ok", [
          { format },
          value,
          asserted,
        ])
      )[0]?.ok;
    for (const value of good) expect([value, await valid(value, true)]).toEqual([value, true]);
    for (const value of bad) expect([value, await valid(value, true)]).toEqual([value, false]);
    for (const value of bad) expect([value, await valid(value, false)]).toEqual([value, true]);
  },
);
test("a format that cannot be asserted is refused where formats are", async () => {
  const failure = await refusal(
    db.query("select data.validate($1, '1', true)", [{ anyOf: [email, { format: "iri" }] }]),
  );
  expect(failure).toMatchObject({ code: "RH400", detail: { errors: [{ pointer: "/anyOf/1/format" }] } });
});
