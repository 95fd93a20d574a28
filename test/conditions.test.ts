import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { evaluate, type Json, type World } from "./harness/conditions.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

let db: TestDatabase;
const ids: Record<string, string> = {};
const uuid = (n: number) => `00000000-0000-4000-8000-00000000000${n}`;
const properties = {
  n: { type: "integer", "x-index": true },
  region: { type: "string", "x-index": true },
  status: { type: "string" },
  level: { type: "integer", "x-index": true },
  amount: { type: "number", format: "decimal", precision: 12, scale: 2 },
  active: { type: "boolean" },
  due: { type: "string", format: "date" },
  owner_id: { type: "string", format: "uuid" },
  tags: { type: "array", items: { type: "string" } },
  address: { type: "object", properties: { city: { type: "string" }, floor: { type: "integer" } } },
  twice: { type: "integer", "x-computed": "level * 2" },
  zone: { type: "string", "x-alias": "region" },
  company_id: { type: "string", format: "uuid", "x-relation": { entity: "companies", field: "id" } },
};
const records: Record<string, Json>[] = [
  {
    region: "north",
    status: "draft",
    level: 1,
    amount: 1.5,
    active: true,
    due: "2026-01-01",
    tags: ["a", "b"],
  },
  { region: "south", status: "it's", level: 2, active: false, owner_id: uuid(1), address: { city: "Oslo" } },
  { region: "", level: 3, amount: 0, tags: [], due: "2026-06-30", owner_id: uuid(2) },
  { status: "north", level: -1, amount: -0.5, address: { city: "north", floor: 3 }, tags: ["north"] },
  { region: "$account.id", status: "100%", active: true, tags: ["'; drop table x"] },
  {},
];

beforeAll(async () => {
  db = await cloneDatabase();
  for (const site of ["acme", "beta"]) {
    await db.site(site);
    for (const [name, role] of [
      ["own", "admin"],
      ["ann", "editor"],
      ["vic", "viewer"],
    ]) {
      ids[`${name}@${site}`] = await db.account(`${name}@${site}.test`);
      await db.query("select tenancy.add_member($1, $2, $3)", [site, `${name}@${site}.test`, role]);
    }
    await db.query("select tenancy.set_member_role($1, $2, 'owner')", [site, `own@${site}.test`]);
  }
  const companies = { type: "object", properties: { name: { type: "string" }, city: { type: "string" } } };
  await db.query("select data.define_entity('acme/crm', 'companies', $1)", [companies]);
  for (const storage of ["jsonb", "flat"]) {
    const name = `docs_${storage[0]}`;
    await db.query("select data.define_entity('acme/crm', $1, $2)", [
      name,
      { type: "object", "x-storage": storage, properties },
    ]);
    for (const [n, record] of records.entries()) {
      await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { ...record, n }]);
    }
  }
  for (const row of await db.query<{ id: string; name: string }>("select id, name from data.entities")) {
    ids[row.name] = row.id;
  }
  for (const row of await db.query<{ id: string; name: string }>("select id, name from tenancy.sites")) {
    ids[row.name] = row.id;
  }
});
afterAll(() => db.drop());

const storages = [
  ["docs_j", "docs_j_jsonb"],
  ["docs_f", "docs_f_flat"],
] as const;
const quoted = (value: unknown) => `'${JSON.stringify(value).replaceAll("'", "''")}'::jsonb`;
const world = (account: Json, env: Json = {}, action = "read"): World => ({ account, env, action }) as World;

/** The numbers of the records that each question's predicate lets pass, the same in both storages. */
async function ask(
  questions: [condition: unknown, effect: string][],
  { account, env, action }: World,
  wrap = true,
) {
  const as = (value: unknown) => (wrap ? `(select ${quoted(value)})` : quoted(value));
  const compiled = await db.query<{ sql: string }>(
    `select format('select %s::int as q, %L as t, n::int from acme_crm.%I t where %s', q.n, s.t, s.t, access.compile_condition(s.id, q.c, 't', $3, $4, $5, q.e)) as sql
     from jsonb_to_recordset($1) q (n int, c jsonb, e text), jsonb_to_recordset($2) s (id uuid, t text)`,
    [
      JSON.stringify(questions.map(([c, e], n) => ({ n, c, e }))),
      JSON.stringify(storages.map(([entity, t]) => ({ id: ids[entity], t }))),
      as(account),
      as(env),
      action,
    ],
  );
  const rows = await db.query<{ q: number; t: string; n: number }>(
    compiled.map((row) => row.sql).join(" union all "),
  );
  return questions.map((_, q) => {
    const [one, other] = storages.map(([, t]) =>
      rows
        .filter((row) => row.q === q && row.t === t)
        .map((row) => row.n)
        .sort(),
    );
    expect(one).toEqual(other);
    return one;
  });
}
const matches = async (condition: unknown, someone: World, effect = "allow", wrap = true) =>
  (await ask([[condition, effect]], someone, wrap))[0];
const parse = async (text: string) =>
  (await db.query<{ c: Json }>("select access.parse_condition($1) as c", [text]))[0]?.c;
const violations = async (condition: unknown, entity: string | null = "docs_j", site = "acme") =>
  (
    await db.query<{ v: { pointer: string; message: string }[] }>(
      "select access.condition_violations($1, $2, $3) as v",
      [ids[site], entity && ids[entity], JSON.stringify(condition)],
    )
  )[0]?.v ?? [];

describe("a condition written as text is a filter, and the filter says itself as the same text", () => {
  const cases: [string, Json][] = [
    [
      "author_id = current_user.id and status in ('draft', 'review')",
      { author_id: "$account.id", status: { $in: ["draft", "review"] } },
    ],
    ["$account.id = $record.author_id", { "$account.id": "$record.author_id" }],
    ["5 < level", { level: { $gt: 5 } }],
    ["a = 1 or b <> 'x' and not c", { $or: [{ a: 1 }, { b: { $ne: "x" }, $not: { c: true } }] }],
    ["(a = 1 or b = 2) and d = 3", { $or: [{ a: 1 }, { b: 2 }], d: 3 }],
    ["a > 1 and a != 5", { $and: [{ a: { $gt: 1 } }, { a: { $ne: 5 } }] }],
    ["age between -1 and 2.5", { age: { $gte: -1, $lte: 2.5 } }],
    ["email is null and name IS NOT NULL", { email: { $exists: false }, name: { $exists: true } }],
    ["region in $account.attributes.regions", { region: { $in: "$account.attributes.regions" } }],
    ["region not in current_user.groups", { $not: { region: { $in: "$account.groups" } } }],
    ["$env.ip in cidr '10.0.0.0/8'", { "$env.ip": { $cidr: "10.0.0.0/8" } }],
    ["env.ip not in cidr '10.0.0.0/8'", { $not: { "$env.ip": { $cidr: "10.0.0.0/8" } } }],
    ["env.weekday in (1, 2) and action = 'read'", { "$env.weekday": { $in: [1, 2] }, $action: "read" }],
    [
      "tags contains 'x' or not tags contains current_user.email",
      { $or: [{ tags: { $contains: "x" } }, { $not: { tags: { $contains: "$account.email" } } }] },
    ],
    ["name like 'A%' and name not ilike '%b'", { name: { $like: "A%" }, $not: { name: { $ilike: "%b" } } }],
    ["address.city = 'O''slo' and company.city = 'x'", { "address.city": "O'slo", "company.city": "x" }],
    [`"action" = 1 and "In" = 2 and $record.env = 3`, { action: 1, In: 2, env: 3 }],
    [
      "name = '$account.id' and tags contains '$x'",
      { name: { $literal: "$account.id" }, tags: { $contains: { $literal: "$x" } } },
    ],
    ["price = '$5' and since = date '2026-01-31'", { price: "$5", since: "2026-01-31" }],
    ["true", {}],
    ["not true", { $not: {} }],
  ];
  test.each(cases)("%s", async (text, condition) => {
    expect(await parse(text)).toEqual(condition);
    const [said] = await db.query<{ t: string }>("select access.condition_text($1) as t", [
      JSON.stringify(condition),
    ]);
    const [again] = await db.query<{ t: string }>(
      "select access.condition_text(access.parse_condition($1)) as t",
      [said?.t],
    );
    expect(again?.t).toBe(said?.t);
  });

  test.each([
    ["", 1, "found nothing"],
    ["a = ", 5, "expected a value, found the end"],
    ["a + 1 = 2", 3, "+ computes, and a condition compares"],
    ["lower(a) = 'x'", 1, "lower() cannot be used"],
    ["a = lower(b)", 5, "lower() cannot be used"],
    ["a = null", 1, "is null"],
    ["'a' = 'b'", 1, "expected a field, found a value"],
    ["a = 'b", 5, "never closed"],
    ["a = 1; drop table x", 6, "an operator or the end"],
    ["current_user.id", 1, null],
    ["current_user = 'x'", 1, "current_user is not known here"],
    ["$nope.x = 1", 2, "$nope is not known here"],
    ["a in ()", 7, "expected a value"],
    ["a in (b, 1)", 7, "found a field"],
    ["a in cidr", 6, null],
    ["'x'", 1, "expected a comparison"],
    ['"a.b" = 1', 1, "no dot"],
    [`${"(".repeat(60)}a = 1${")".repeat(60)}`, 51, "50 levels"],
    [`a = '${"x".repeat(1_000_000)}'`, 20001, "at most 20,000 characters"],
    [`a in (${"1,".repeat(4000)}1)`, 4004, "at most 4,000 words"],
  ] as const)("refused with the position: %.60s", async (text, position, message) => {
    if (message === null) return void (await parse(text));
    const failure = await refusal(parse(text));
    expect([failure.code, failure.detail.errors]).toEqual(["RH400", [expect.objectContaining({ position })]]);
    expect(failure.message).toContain(message);
  });

  test("a NUL is refused by PostgreSQL", async () => {
    expect((await refusal(parse("a = '\0'"))).code).toBe("22021");
  });
});

// biome-ignore format: a table
describe("what a condition allows, in both storages; deny denies whatever is not certainly false", () => {
  const me = { id: uuid(1), attributes: { region: "north", regions: ["south", 5, "north"], level: 2, levels: [1, 2], since: "2026-01-01T12:00:00Z", cities: "Oslo" }, roles: ["editor"], groups: [] };
  const office = { ip: "10.1.2.3", time: "09:30", weekday: 3, user_agent: "curl/8", now: "2026-03-01T00:00:00Z" };
  const all = [0, 1, 2, 3, 4, 5];
  const cases: [string, number[], number[]?][] = [
    ["region = 'north'", [0]],
    ["region <> 'north'", [1, 2, 3, 4, 5]],
    ["zone = 'south' or twice = 6", [1, 2]],
    ["owner_id = current_user.id", [1]],
    ["not owner_id = current_user.id", [0, 2, 3, 4, 5]],
    ["region in current_user.attributes.regions", [0, 1], all],
    ["region not in current_user.attributes.regions", [], [2, 3, 4, 5]],   // 5 is no text: unknown
    ["level not in current_user.attributes.levels", [2, 3, 4, 5]],
    ["level >= current_user.attributes.level", [1, 2]],
    ["region = current_user.attributes.regions", [], all],
    ["region in current_user.attributes.region", [], all],
    ["level = current_user.attributes.region", [], all],
    ["region = current_user.attributes.nothing", [], all],
    ["not region = current_user.attributes.nothing", [], all],
    ["region <> current_user.attributes.nothing or level = 1", [0], all],
    ["current_user.attributes.nothing is null", all],
    ["current_user.attributes.level is not null and level = 1", [0]],
    ["current_user.attributes.level >= 2 and status = 'draft'", [0]],
    ["current_user.attributes.level < 2", []],
    ["current_user.attributes.level = '2'", [], all],
    ["current_user.roles contains 'editor'", all],
    ["not current_user.roles contains 'admin'", all],
    ["current_user.attributes.cities contains 'Oslo'", [], all],
    [`current_user.id = '${uuid(1)}'`, all],
    ["env.ip in cidr '10.0.0.0/8' and level = 1", [0]],
    ["env.ip not in cidr '192.168.0.0/16'", all],
    ["env.time between '09:00' and '17:00' and env.weekday in (1,2,3)", all],
    ["env.user_agent like 'curl/%'", all],
    ["env.origin = 'https://x.test'", [], all],
    ["env.now > '2026-02-01'", all],
    ["current_user.attributes.since < '2026-01-01T13:30:00+01:00'", all],
    ["current_user.attributes.since >= '2026-01-01 12:30'", []],
    ["current_user.attributes.since < env.now", all],
    ["current_user.attributes.since in ('2026-01-01T13:00:00+01:00')", all],
    ["current_user.attributes.region < '2026-01-01T13:30:00+01:00'", [], all],
    ["action in ('read', 'update')", all],
    ["action = 'delete'", []],
    ["address.city = 'Oslo' or address.floor > 2", [1, 3]],
    ["tags contains current_user.attributes.region", [3]],
    ["tags contains '''; drop table x'", [4]],
    ["status = 'it''s' or status like '%\\%'", [1, 4]],
    ["region = '$account.id'", [4]],
    ["region = status", []],
    ["active", [0, 4]],
    ["not active", [1, 2, 3, 5]],
    ["due >= '2026-01-02'", [2]],
    ["due is null", [1, 3, 4, 5]],
    ["true", all],
    ["not true", []],
  ];
  test.each(cases)("%s", async (text, allowed, denied = allowed) => {
    const condition = await parse(text);
    expect(await matches(condition, world(me, office))).toEqual(allowed);
    expect(await matches(condition, world(me, office), "deny")).toEqual(denied);
    expect(await matches(condition, world(me, office), "allow", false)).toEqual(allowed);
  });

  test("without account and environment, nothing that needs them is true", async () => {
    for (const text of ["owner_id = current_user.id", "not env.ip in cidr '10.0.0.0/8'", "not current_user.roles contains 'x'"]) {
      expect(await matches(await parse(text), world({}, {}))).toEqual([]);
      expect(await matches(await parse(text), world({ id: null, roles: "x" }, { ip: "10.x" }))).toEqual([]);
      expect(await matches(await parse(text), world({}, {}), "deny")).toEqual(all);
    }
  });
});

const text = fc.constantFrom(
  "north",
  "south",
  "",
  "it's",
  "Oslo",
  "a",
  "100%",
  "$account.id",
  '"; drop table',
  "$1",
  "%1$I",
  "$body$",
);
const number = fc.constantFrom(-1, 0, 1, 2, 3, 1.5, 1e30);
const junk = fc.oneof(
  text,
  number,
  fc.boolean(),
  fc.constant(null),
  fc.array(fc.oneof(text, number, fc.constant(null)), { maxLength: 3 }),
  fc.constantFrom(uuid(1), "2026-01-01", "now", "NaN"),
);
const literalText = text.map((value) =>
  value.startsWith("$a") || value.startsWith("$b") ? { $literal: value } : value,
);
const attribute = fc
  .constantFrom("region", "regions", "level", "flag")
  .map((name) => `$account.attributes.${name}`);
const order = fc.constantFrom("$eq", "$ne", "$gt", "$gte", "$lt", "$lte");
const comparison = (field: string, operator: fc.Arbitrary<string>, operand: fc.Arbitrary<unknown>) =>
  fc.tuple(operator, operand).map(([op, value]) => ({ [field]: { [op]: value } }));
const member = fc.constantFrom("$in", "$nin");
const equal = fc.constantFrom("$eq", "$ne");
const leaf = fc.oneof(
  ...["region", "status", "address.city"].flatMap((field) => [
    comparison(field, equal, fc.oneof(literalText, attribute)),
    comparison(field, member, fc.oneof(fc.array(literalText, { minLength: 1, maxLength: 3 }), attribute)),
    comparison(field, fc.constant("$contains"), literalText),
  ]),
  ...["level", "twice"].map((field) =>
    comparison(field, order, fc.oneof(fc.constantFrom(-1, 0, 2, 3), attribute)),
  ),
  comparison("level", member, fc.oneof(fc.array(fc.constantFrom(-1, 1, 2), { minLength: 1 }), attribute)),
  comparison("amount", order, fc.oneof(number, attribute)),
  comparison("due", order, fc.oneof(fc.constantFrom("2026-01-01", "2026-03-01"), attribute)),
  comparison("owner_id", equal, fc.oneof(fc.constantFrom(uuid(1), uuid(2), "$account.id"), attribute)),
  comparison("tags", fc.constant("$contains"), fc.oneof(literalText, attribute)),
  comparison("active", equal, fc.oneof(fc.boolean(), attribute)),
  comparison("region", equal, fc.constantFrom("$record.status", "$record.address.city")),
  ...["region", "amount", "tags", "$account.attributes.region"].map((field) =>
    comparison(field, fc.constant("$exists"), fc.boolean()),
  ),
  comparison("$account.attributes.level", order, number),
  comparison("$account.attributes.region", fc.oneof(equal, fc.constant("$contains")), literalText),
  comparison("$account.attributes.region", member, fc.array(literalText, { minLength: 1, maxLength: 3 })),
  comparison("$account.attributes.flag", equal, fc.boolean()),
  comparison("$account.attributes.region", equal, fc.constantFrom("$env.origin", "$record.status")),
  comparison(
    "$account.roles",
    fc.constant("$contains"),
    fc.oneof(literalText, fc.constantFrom("$record.region", "$account.attributes.region")),
  ),
  comparison("$env.ip", fc.constant("$cidr"), fc.constantFrom("10.0.0.0/8", ["10.1.0.0/16", "::/0"])),
  comparison("$action", equal, fc.constantFrom("read", "update")),
);
const { condition } = fc.letrec<{ condition: Record<string, unknown> }>((tie) => ({
  condition: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    leaf as fc.Arbitrary<Record<string, unknown>>,
    fc.array(tie("condition"), { minLength: 1, maxLength: 3 }).map((list) => ({ $and: list })),
    fc.array(tie("condition"), { minLength: 1, maxLength: 3 }).map((list) => ({ $or: list })),
    tie("condition").map((inner) => ({ $not: inner })),
  ),
}));
const anyWorld = fc.record({
  account: fc.record({
    id: fc.constantFrom(uuid(1), null),
    attributes: fc.record({ region: junk, regions: junk, level: junk, flag: junk }, { requiredKeys: [] }),
    roles: fc.array(text, { maxLength: 3 }),
  }),
  env: fc.record(
    { ip: fc.constantFrom("10.1.2.3", "::ffff:10.9.9.9", "2001:db8::1", "8.8.8.8", "x"), origin: text },
    { requiredKeys: [] },
  ),
  action: fc.constantFrom("read", "update"),
}) as unknown as fc.Arbitrary<World>;

test("any condition means the same in SQL, over both storages, as in a plain evaluator, and as its own text", async () => {
  await fc.assert(
    fc.asyncProperty(condition, anyWorld, fc.boolean(), async (tree, someone, wrap) => {
      const results = records.map((record) =>
        evaluate(
          tree,
          { ...record, twice: typeof record.level === "number" ? record.level * 2 : null },
          someone,
        ),
      );
      const where = (test: (result: boolean | null) => boolean) =>
        results.flatMap((result, n) => (test(result) ? [n] : []));
      const allowed = where((result) => result === true);
      const denied = where((result) => result !== false);
      const [said] = await db.query<{ c: Json }>(
        "select access.parse_condition(access.condition_text($1)) as c",
        [JSON.stringify(tree)],
      );
      const found = await ask(
        [
          [tree, "allow"],
          [tree, "deny"],
          [said?.c, "allow"],
          [said?.c, "deny"],
        ],
        someone,
        wrap,
      );
      expect(found).toEqual([allowed, denied, allowed, denied]);
    }),
    { numRuns: Number(process.env.RUNS ?? 200) },
  );
});

// biome-ignore format: a table
describe("a condition that cannot work is refused when it is defined, by JSON pointer", () => {
  const deep = (levels: number) => Array.from({ length: levels }).reduce<unknown>((inner) => ({ $not: inner }), { level: 1 });
  beforeAll(() =>
    db.query("select access.set_attribute_schema('acme', $1)", [
      { type: "object", properties: { region: { type: "string" }, regions: { type: "array", items: { type: "string" } }, level: { type: "integer" }, team: { type: "object", properties: { lead: { type: "string", format: "uuid" } } } } },
    ]));
  const cases: [string, unknown, [string, string][]][] = [
    ["all fine", { region: { $in: "$account.attributes.regions" }, level: { $lte: "$account.attributes.level" }, owner_id: "$account.attributes.team.lead", "company.city": "Oslo" }, []],
    ["no object", [], [["", "must be an object"]]],
    ["null", null, [["", "must be an object"]]],
    ["an unknown field", { nope: 1 }, [["/nope", "is not a field"]]],
    ["several problems", { $or: [{ nope: 1 }, { level: { $gt: "x" } }] }, [["/$or/0/nope", "not a field"], ["/$or/1/level/$gt", "cannot be compared"]]],
    ["SQL as a field", { "level) or (true": 1 }, [["/level) or (true", "is not a field"]]],
    ["SQL as a path", { "address.city') is null or ('": 1 }, [["/address.city') is null or ('", "cannot be compared"]]],
    ["an unknown operator", { level: { $regex: "x" } }, [["/level/$regex", "is not an operator"]]],
    ["an operator at the top", { $eq: 1 }, [["/$eq", "neither a field"]]],
    ["nothing compared", { level: {} }, [["/level", "compares with nothing"]]],
    ["an empty list of conditions", { $and: [] }, [["/$and", "must be a list"]]],
    ["a fraction for an integer", { level: 1.5 }, [["/level", "cannot be compared"]]],
    ["a text for a date", { due: "now" }, [["/due", "cannot be compared"]]],
    ["a list for one value", { region: ["a"] }, [["/region", "cannot be compared"]]],
    ["one value for a list", { region: { $in: "a" } }, [["/region/$in", "$in a list"]]],
    ["an empty list", { region: { $in: [] } }, [["/region/$in", "$in a list"]]],
    ["a list of mixed types", { level: { $in: [1, "x"] } }, [["/level/$in", "$in a list"]]],
    ["a reference within a list", { region: { $in: ["$account.id"] } }, [["/region/$in", "$in a list"]]],
    ["an attribute nobody declared", { region: "$account.attributes.nope" }, [["/region", "is not an attribute"]]],
    ["the same on the left", { "$account.attributes.nope": 1 }, [["/$account.attributes.nope", "is not an attribute"]]],
    ["an attribute of another type", { level: "$account.attributes.region" }, [["/level", "is string"]]],
    ["a list where one value is", { region: "$account.attributes.regions" }, [["/region", "is a list"]]],
    ["one value where a list is", { region: { $in: "$account.attributes.region" } }, [["/region/$in", "no list"]]],
    ["roles as one value", { "$account.roles": "editor" }, [["/$account.roles", "is a list"]]],
    ["a reference to nothing", { region: "$acount.id" }, [["/region", "is not known"]]],
    ["no part of the account", { region: "$account.password_hash" }, [["/region", "is not known"]]],
    ["no part of the environment", { "$env.ip.x": 1 }, [["/$env.ip.x", "is not known"]]],
    ["no network", { "$env.ip": { $cidr: "10.0.0.0/99" } }, [["/$env.ip/$cidr", "no network"]]],
    ["a network of a field", { region: { $cidr: "10.0.0.0/8" } }, [["/region/$cidr", "asked of $env.ip"]]],
    ["no time", { "$env.time": { $gt: "9:00" } }, [["/$env.time/$gt", "no time of day"]]],
    ["no weekday", { "$env.weekday": "monday" }, [["/$env.weekday", "cannot be compared"]]],
    ["the eighth day", { "$env.weekday": { $in: [1, 8] } }, [["/$env.weekday/$in", "no weekday"]]],
    ["a pattern of a number", { level: { $like: "1%" } }, [["/level/$like", "needs text"]]],
    ["a pattern that ends within an escape", { status: { $like: "x\\" } }, [["/status/$like", "a pattern is a text"]]],
    ["the same of the environment", { "$env.user_agent": { $ilike: "x\\" } }, [["/$env.user_agent/$ilike", "a pattern is a text"]]],
    ["a pattern from an attribute", { status: { $like: "$account.attributes.region" } }, [["/status/$like", "a pattern is a text"]]],
    ["an order of booleans", { active: { $gt: false } }, [["/active/$gt", "does not fit"]]],
    ["a moment for a day", { due: { $lt: "$env.now" } }, [["/due/$lt", "is date-time"]]],
    ["a day for a day", { due: { $lt: "$env.today" }, created_at: { $gt: "$env.today" } }, []],
    ["fields of two types", { region: "$record.level" }, [["/region", "different types"]]],
    ["existence of maybe", { region: { $exists: "x" } }, [["/region/$exists", "true or false"]]],
    ["a relation as a value", { company: "x" }, [["/company", "is a relation"]]],
    ["too deep", deep(12), [["/$not".repeat(11), "too deeply"]]],
    ["much too deep", deep(3000), [["", "20,000"]]],
    ["too many comparisons", { $or: Array.from({ length: 101 }, () => ({ level: 1 })) }, [["", "100 comparisons"]]],
    ["a million characters", { region: "x".repeat(1_000_000) }, [["", "20,000 characters"]]],
  ];
  test.each(cases)("%s", async (_title, condition, problems) => {
    const found = await violations(condition);
    expect(found).toEqual(problems.map(([pointer, message]) => ({ pointer, message: expect.stringContaining(message) })));
    if (problems.length === 0) return;
    if (!problems[0]?.[1].match(/attribute$|is string|is date-time|is a list|no list|comparisons|no weekday/)) {
      const failure = await refusal(db.query("select access.compile_condition($1, $2, 't')", [ids.docs_j, JSON.stringify(condition)]));
      expect(failure.code).toBe("RH400");
    }
  });

  test("for a whole site, fields are only checked for their form", async () => {
    expect(await violations({ anything: 1, "$account.attributes.level": { $gt: 1 }, x: { $in: "$account.attributes.regions" } }, null)).toEqual([]);
    expect((await violations({ a: { $regex: 1 }, "b..c": 1, c: "$account.attributes.nope", d: { $in: [] } }, null)).map((e) => e.pointer).sort()).toEqual(["/a/$regex", "/b..c", "/c", "/d/$in"]);
  });

  test("without an entity, what concerns a record is not compiled, and the rest is", async () => {
    const compile = async (condition: unknown) => (await db.query<{ sql: string }>("select access.compile_condition(null, $1, '', '$1', '$2') as sql", [JSON.stringify(condition)]))[0]?.sql;
    expect((await refusal(compile({ $not: { region: "x" } }))).code).toBe("RH400");
    const sql = await compile({ "$account.attributes.level": { $gte: 2 }, "$env.ip": { $cidr: "10.0.0.0/8" } });
    const holds = async (level: Json) => (await db.query(`select ${sql?.replaceAll("$1", "$1::jsonb").replaceAll("$2", "$2::jsonb")} as x`, [{ attributes: { level } }, { ip: "10.0.0.1" }]))[0]?.x;
    expect([await holds(2), await holds(1), await holds("2")]).toEqual([true, false, null]);
  });

  test("attributes declared by one site are not known to another", async () => {
    expect(await violations({ "$account.attributes.region": "x" }, null, "beta")).toHaveLength(1);
  });
});

test("nothing in names or values reaches SQL unquoted", async () => {
  const evil = [
    "'; drop table acme_crm.docs_j_jsonb; --",
    "$body$",
    "%1$I",
    '"',
    "\\'",
    "') or true or ('",
    "$1",
    "x".repeat(10_000),
  ];
  for (const value of evil) {
    const plain = { $literal: value };
    for (const condition of [
      { region: plain },
      { region: { $in: [plain] } },
      { status: { $like: { $literal: value.replaceAll("\\", "\\\\") } } },
      { tags: { $contains: plain } },
      { "address.city": plain },
      { "$account.attributes.region": plain },
      { "$account.roles": { $contains: plain } },
      { $action: plain },
    ]) {
      expect(await matches(condition, world({ id: null, attributes: { region: "n" }, roles: [] }))).toEqual(
        [],
      );
    }
    expect(
      await matches({ region: "$account.attributes.region" }, world({ attributes: { region: value } })),
    ).toEqual([]);
    expect(
      await matches(
        { [`$account.attributes.${value.slice(0, 40).replaceAll(".", "")}`]: 1 },
        world({ attributes: {} }),
      ),
    ).toEqual([]);
  }
  expect(await matches({}, world({}))).toHaveLength(records.length);
});

/** Puts a predicate into the row-level security of docs_j, as its reading rule. */
async function protect(condition: unknown, entity = "docs_j", effect = "allow") {
  const table = `acme_crm.${entity}_jsonb`;
  const [row] = await db.query<{ sql: string }>(
    "select access.compile_condition($1, $2, $3, effect => $4) as sql",
    [ids[entity], JSON.stringify(condition), table, effect],
  );
  const holds = effect === "deny" ? `not (${row?.sql})` : row?.sql;
  await db.query(
    `drop policy may_read on ${table}; create policy may_read on ${table} for select to rowhouse_data using (${holds})`,
  );
}
const seen = (email: string, env?: Json, view = "docs_j", column = "n") =>
  db.as("acme", email, async (client) => {
    if (env !== undefined)
      await client.query(`set rowhouse.env = '${typeof env === "string" ? env : JSON.stringify(env)}'`);
    try {
      return (await client.query(`select ${column}::text as v from acme_crm.${view} order by 1`)).rows.map(
        (row) => row.v,
      );
    } finally {
      if (env !== undefined) await client.query("set rowhouse.env = ''");
    }
  });

describe("in row-level security, as the site's role", () => {
  test("attributes decide from the next statement on, and nobody else's do", async () => {
    await db.query("select access.set_attributes('acme', 'ann@acme.test', $1)", [
      { regions: ["south", "north"], level: 2 },
    ]);
    await protect({ region: { $in: "$account.attributes.regions" } });
    expect(await seen("ann@acme.test")).toEqual(["0", "1"]);
    expect(await seen("vic@acme.test")).toEqual([]);
    await db.query("select access.set_attributes('acme', 'ann@acme.test', $1)", [
      { regions: ["south"], level: 2 },
    ]);
    expect(await seen("ann@acme.test")).toEqual(["1"]);
    await protect({
      $or: [
        { owner_id: "$account.id" },
        { "$account.roles": { $contains: "viewer" }, level: 3 },
        { "$account.email": "ann@acme.test", twice: 2 },
      ],
    });
    expect(await seen("ann@acme.test")).toEqual(["0"]);
    expect(await seen("vic@acme.test")).toEqual(["2"]);
  });

  test("the environment is what the gateway said; what it did not say, or said badly, is unknown", async () => {
    await protect({
      "$env.ip": { $cidr: ["10.0.0.0/8", "2001:db8::/32"] },
      "$env.user_agent": { $like: "curl/%" },
      level: 1,
    });
    expect(await seen("ann@acme.test", { ip: "10.9.8.7", user_agent: "curl/8" })).toEqual(["0"]);
    expect(await seen("ann@acme.test", { ip: "2001:db8::7", user_agent: "curl/8" })).toEqual(["0"]);
    for (const env of [
      { ip: "11.0.0.1", user_agent: "curl/8" },
      { ip: "10.0.0.1" },
      { ip: ["10.0.0.1"], user_agent: "curl/8" },
      "{",
      "[]",
      "null",
      "x".repeat(30_000),
    ]) {
      expect(await seen("ann@acme.test", env as Json)).toEqual([]);
    }
  });

  test("time and weekday are those of the site's time zone", async () => {
    const ask = async () =>
      (
        await db.as("acme", "ann@acme.test", (client) =>
          client.query(
            "select access.env() as e, to_char(now() at time zone 'Asia/Tokyo', 'HH24:MI') as tokyo, extract(isodow from now() at time zone 'Asia/Tokyo')::int as day, to_char(now() at time zone 'UTC', 'HH24:MI') as utc",
          ),
        )
      ).rows[0];
    expect(await ask()).toMatchObject({ e: { time: expect.any(String) } });
    const utc = await ask();
    expect(utc.e.time).toBe(utc.utc);
    await db.query(`update tenancy.sites set settings = '{"time_zone": "Asia/Tokyo"}' where name = 'acme'`);
    const tokyo = await ask();
    expect([tokyo.e.time, tokyo.e.weekday]).toEqual([tokyo.tokyo, tokyo.day]);
    await db.query(`update tenancy.sites set settings = '{"time_zone": "Mon"}' where name = 'acme'`);
    const nowhere = await ask();
    expect(nowhere.e.time).toBe(nowhere.utc);
    await db.query("update tenancy.sites set settings = '{}' where name = 'acme'");
  });

  test("a list in an attribute is found by the promoted field's index", async () => {
    await db.query("select data.define_entity('acme/crm', 'many', $1)", [
      {
        type: "object",
        properties: { region: { type: "string", "x-index": true }, text: { type: "string" } },
      },
    ]);
    const [row] = await db.query<{ id: string }>("select id from data.entities where name = 'many'");
    ids.many = row?.id ?? "";
    await db.query(
      "insert into acme_crm.many_jsonb (data) select jsonb_build_object('region', 'r' || i % 2000, 'text', 'x') from generate_series(1, 20000) i",
    );
    await db.query("analyze acme_crm.many_jsonb");
    await db.query("select access.set_attributes('acme', 'ann@acme.test', $1)", [
      { regions: ["r7", "r9"], region: "r1" },
    ]);
    for (const [condition, count] of [
      [{ region: { $in: "$account.attributes.regions" } }, 20],
      [{ region: "$account.attributes.region" }, 10],
    ] as const) {
      await protect(condition, "many");
      const plan = await db.as("acme", "ann@acme.test", (client) =>
        client.query("explain (analyze, costs off, timing off) select * from acme_crm.many"),
      );
      const text = plan.rows.map((line) => line["QUERY PLAN"]).join("\n");
      expect(text).toMatch(/Index (Cond|Scan)/);
      expect(text).not.toMatch(/Seq Scan/);
      expect(await seen("ann@acme.test", undefined, "many", "region")).toHaveLength(count);
    }
  });
});

describe("conditions on the record that one refers to", () => {
  const inOslo = { "company.city": "Oslo" };
  beforeAll(async () => {
    await protect({});
    for (const city of ["Oslo", "Bergen"]) {
      const [company] = await db.query<{ r: { id: string } }>(
        "select data.insert('acme/crm/companies', $1) as r",
        [{ name: city, city }],
      );
      for (const entity of ["docs_j", "docs_f"]) {
        await db.query("select data.insert($1, $2)", [
          `acme/crm/${entity}`,
          { n: city === "Oslo" ? 6 : 7, level: 9, company_id: company?.r.id },
        ]);
      }
    }
  });

  test("are true of what may be seen, and unknown of what is hidden", async () => {
    const level = { level: 9 };
    expect(await matches({ $and: [inOslo, level] }, world({}))).toEqual([6]);
    expect(await matches({ $not: inOslo, level: 9 }, world({}))).toEqual([7]);
    expect(await matches({ company: { city: { $in: ["Oslo", "Rome"] } } }, world({}))).toEqual([6]);
    expect(await matches({ $not: inOslo, region: "north" }, world({}))).toEqual([0]);
    await protect(inOslo);
    expect(await seen("ann@acme.test")).toEqual(["6"]);
    await protect({ $not: inOslo });
    expect(await seen("ann@acme.test")).toEqual(["0", "1", "2", "3", "4", "5", "7"]);
    await protect({ name: "Bergen" }, "companies");
    expect(await seen("ann@acme.test")).toEqual(["0", "1", "2", "3", "4", "5", "7"]);
    await protect(inOslo);
    expect(await seen("ann@acme.test")).toEqual([]);
    await protect(inOslo, "docs_j", "deny");
    expect(await seen("ann@acme.test")).toEqual(["0", "1", "2", "3", "4", "5", "7"]);
    await protect({ "company.city": "Rome" }, "docs_j", "deny"); // nobody knows of the hidden one that it is not in Rome
    expect(await seen("ann@acme.test")).toEqual(["0", "1", "2", "3", "4", "5", "7"]);
    await protect({}, "companies");
    expect(await seen("ann@acme.test")).toEqual(["0", "1", "2", "3", "4", "5", "6", "7"]);
  });

  test("are refused where rules would lead back to themselves, follow many relations or lead to many", async () => {
    await db.query("select data.define_entity('acme/crm', 'teams', $1)", [
      {
        type: "object",
        properties: {
          name: { type: "string" },
          doc_id: { type: "string", format: "uuid", "x-relation": { entity: "docs_j", field: "id" } },
          parent_id: { type: "string", format: "uuid", "x-relation": { entity: "teams", field: "id" } },
        },
      },
    ]);
    const [row] = await db.query<{ id: string }>("select id from data.entities where name = 'teams'");
    ids.teams = row?.id ?? "";
    await protect(inOslo);
    expect(await violations({ "doc.region": "x", "doc.company.city": "x" }, "teams")).toEqual([]);
    expect(await violations({ "parent.name": "x" }, "teams")).toEqual([
      { pointer: "/parent.name", message: expect.stringContaining("lead back to themselves") },
    ]);
    expect(await violations({ "parent.parent.parent.name": "x" }, "teams")).toHaveLength(1);
    await db.query("select data.define_entity('acme/crm', 'companies', $1)", [
      {
        type: "object",
        properties: {
          name: { type: "string" },
          city: { type: "string" },
          doc_id: { type: "string", format: "uuid", "x-relation": { entity: "docs_j", field: "id" } },
        },
      },
    ]);
    expect(await violations({ "doc.region": "x" }, "companies")).toEqual([
      { pointer: "/doc.region", message: expect.stringContaining("lead back to themselves") },
    ]);
    const names = await db.query<{ n: string }>(
      "select inverse_name as n from data.relations where target_id = $1",
      [ids.companies],
    );
    expect((await violations({ [`${names[0]?.n}.region`]: "x" }, "companies"))[0]?.message).toContain(
      "leads to many",
    );
  });

  test("do not stand in the way of the related entity's next definition, unless it drops what they read", async () => {
    expect(await seen("ann@acme.test")).toEqual(["6"]);
    const doc_id = { type: "string", format: "uuid", "x-relation": { entity: "docs_j", field: "id" } };
    const define = (properties: object) =>
      db.query("select data.define_entity('acme/crm', 'companies', $1)", [
        { type: "object", properties: { name: { type: "string" }, ...properties } },
      ]);
    await define({ city: { type: "string" }, size: { type: "integer" }, doc_id });
    expect(await seen("ann@acme.test")).toEqual(["6"]);
    const [plan] = await db.query<{ p: { plan: string } }>(
      "select data.plan('acme/crm/companies', $1) as p",
      [{ type: "object", properties: { name: { type: "string" } } }],
    );
    const failure = await refusal(db.query("select data.apply($1, true)", [plan?.p.plan]));
    expect([failure.code, failure.message]).toEqual(["RH409", expect.stringContaining("docs_j")]);
    expect(await seen("ann@acme.test")).toEqual(["6"]);
    for (const work of ["compact('acme/crm/companies')", "convert_storage('acme/crm/companies', 'flat')"]) {
      await db.query(`select data.${work}`);
      await db.query("call data.run_operations()");
      expect(await seen("ann@acme.test")).toEqual(["6"]);
    }
    const [companies] = await db.query("select storage from data.entities where id = $1", [ids.companies]);
    expect(companies).toEqual({ storage: "flat" });
  });
});

test("a condition on a field that was dropped is refused when it is compiled again", async () => {
  await db.query("select data.define_entity('acme/crm', 'brief', $1)", [
    { type: "object", properties: { a: { type: "string" }, b: { type: "string" } } },
  ]);
  const [row] = await db.query<{ id: string }>("select id from data.entities where name = 'brief'");
  const compile = () => db.query("select access.compile_condition($1, '{\"b\": \"x\"}', 't')", [row?.id]);
  await compile();
  const [plan] = await db.query<{ p: { plan: string } }>("select data.plan('acme/crm/brief', $1) as p", [
    { type: "object", properties: { a: { type: "string" } } },
  ]);
  await db.query("select data.apply($1, true)", [plan?.p.plan]);
  const failure = await refusal(compile());
  expect([failure.code, failure.detail.code]).toEqual(["RH400", "unknown_field"]);
});
