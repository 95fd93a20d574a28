import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

let db: TestDatabase;
const schema = {
  type: "object",
  properties: {
    region: { enum: ["north", "south"] },
    level: { type: "integer", maximum: 5 },
    since: { type: "string", format: "date" },
  },
};
beforeAll(async () => {
  db = await cloneDatabase();
  for (const site of ["acme", "beta"]) {
    await db.query("select tenancy.create_organization($1)", [site]);
    await db.query("select tenancy.create_site($1, $1)", [site]);
    for (const name of ["own", "ann", "vic"]) {
      await db.account(`${name}@${site}.test`);
      await db.query("select tenancy.add_member($1, $2, 'editor')", [site, `${name}@${site}.test`]);
    }
    await db.query("select tenancy.set_member_role($1, $2, 'owner')", [site, `own@${site}.test`]);
  }
});
afterAll(() => db.drop());

const call = (site: string, email: string, sql: string, values: unknown[] = []) =>
  db.as(site, email, async (client) => (await client.query({ text: sql, values, rowMode: "array" })).rows);
const declare = (value: unknown, site = "acme", email = `own@${site}.test`) =>
  call(site, email, "select access.set_attribute_schema($1, $2)", [site, JSON.stringify(value)]);
const set = (email: string, value: unknown, as = "own@acme.test", site = "acme") =>
  call(site, as, "select access.set_attributes($1, $2, $3)", [site, email, JSON.stringify(value)]);

test("attributes are declared first, and then fit what was declared", async () => {
  expect(await refusal(set("ann@acme.test", { region: "north" }))).toMatchObject({
    code: "RH409",
    detail: { code: "no_attribute_schema" },
  });
  await declare(schema);
  await call("acme", "own@acme.test", "select access.create_group('acme', 'sales')");
  await call("acme", "own@acme.test", "select access.add_to_group('acme', 'sales', 'ann@acme.test')");
  await set("ANN@acme.test", { region: "north", level: 3, since: "2026-01-31" });
  expect(await call("acme", "ann@acme.test", "select access.account()")).toEqual([
    [
      {
        id: expect.any(String),
        email: "ann@acme.test",
        attributes: { region: "north", level: 3, since: "2026-01-31" },
        roles: expect.arrayContaining(["authenticated", "editor"]),
        groups: ["sales"],
      },
    ],
  ]);
  expect(
    await call("acme", "vic@acme.test", "select access.account()->'attributes', access.account()->'groups'"),
  ).toEqual([[{}, []]]);
});

describe("what does not fit is refused, and says where", () => {
  test.each<[string, unknown, string, string[]]>([
    ["of the wrong type", { level: "3" }, "RH422", ["/level"]],
    ["none of the choices, and no date", { region: "east", since: "soon" }, "RH422", ["/region", "/since"]],
    ["not declared", { nope: 1 }, "RH422", ["/nope"]],
    ["no object", [1], "RH400", []],
    ["null", null, "RH400", []],
    ["too long", { region: "x".repeat(1_000_000) }, "RH400", []],
    ["SQL in a name", { "'; drop table x; --": 1 }, "RH422", ["/'; drop table x; --"]],
  ])("attributes: %s", async (_title, value, code, pointers) => {
    const failure = await refusal(set("vic@acme.test", value));
    expect(failure.code).toBe(code);
    expect((failure.detail.errors ?? []).map((e) => e.pointer).sort()).toEqual(pointers);
  });
  test.each([
    ["no object", []],
    ["null", null],
    ["no properties", { type: "object" }],
    ["of a text", { type: "string", properties: {} }],
    ["an unknown type", { properties: { a: { type: "txt" } } }],
    ["an unknown reference", { properties: { a: { $ref: "#/nowhere" } } }],
    ["too long", { properties: { a: { const: "x".repeat(200_000) } } }],
  ])("schema: %s", async (_title, value) => {
    expect((await refusal(declare(value))).code).toBe("RH400");
  });
});

test("a schema that attributes of accounts violate is refused, with these accounts", async () => {
  await set("vic@acme.test", { level: 5, region: "south" });
  const failure = await refusal(
    declare({
      type: "object",
      properties: { level: { type: "integer", maximum: 4 }, region: { type: "string" } },
    }),
  );
  expect([failure.code, failure.detail.errors?.map((e) => e.pointer)]).toEqual([
    "RH409",
    ["/ann@acme.test/since", "/vic@acme.test/level"],
  ]);
  expect(await call("acme", "vic@acme.test", "select access.attribute_schema('acme')")).toEqual([[schema]]);
});

test("who may: owners and admins of that site, and for one's own attributes oneself", async () => {
  const denied = async (work: Promise<unknown>) => (await refusal(work)).code;
  expect(await denied(set("ann@acme.test", { level: 5 }, "ann@acme.test"))).toBe("RH403");
  expect(await denied(declare(schema, "acme", "ann@acme.test"))).toBe("RH403");
  expect(
    await denied(
      call("beta", "own@beta.test", "select access.set_attributes('acme', 'ann@acme.test', '{}')"),
    ),
  ).toBe("RH404");
  expect(
    await denied(call("beta", "own@beta.test", "select access.attributes('acme', 'ann@acme.test')")),
  ).toBe("RH404");
  expect(await denied(call("beta", "own@beta.test", "select access.attribute_schema('acme')"))).toBe("RH404");
  expect(await denied(set("ann@beta.test", { level: 1 }))).toBe("RH404");
  expect(
    await denied(call("acme", "vic@acme.test", "select access.attributes('acme', 'ann@acme.test')")),
  ).toBe("RH403");
  const read = "select access.attributes('acme', 'ann@acme.test')->'level'";
  expect(await call("acme", "ann@acme.test", read)).toEqual([[3]]);
  expect(await call("acme", "own@acme.test", read)).toEqual([[3]]);
  const rows = "select attributes->'level' from access.account_attributes order by 1";
  expect(await call("acme", "ann@acme.test", rows)).toEqual([[3]]);
  expect(await call("acme", "own@acme.test", rows)).toEqual([[3], [5]]);
  expect(await call("beta", "own@beta.test", rows)).toEqual([]);
  for (const table of ["attribute_schemas", "account_attributes"]) {
    expect(await denied(call("acme", "own@acme.test", `delete from access.${table}`))).toBe("42501");
  }
});

test("who leaves a site leaves their attributes behind, deleted", async () => {
  await call("acme", "own@acme.test", "select tenancy.remove_member('acme', 'vic@acme.test')");
  expect(await db.query("select count(*)::int as n from access.account_attributes")).toEqual([{ n: 1 }]);
});
