import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Json } from "./harness/conditions.ts";
import { type Crm, startCrm } from "./harness/crm.ts";
import { type Account, type Action, type Condition, may, type Policy } from "./harness/rights.ts";
import { idsFor, makeRoleless } from "./harness/roleless.ts";

// Dozens of roles and policies that ask the same with other values are asked as one: what they allow and deny stays the same.

const EMAILS = ["w0@acme.test", "w1@acme.test", "w2@acme.test"];
const REGIONS = [
  "north",
  "it's",
  "a\\'b\\",
  "x'::text or true --",
  "E'",
  '"',
  "$1 %1$I $body$",
  ") is not true",
  "\u0001\u0002",
  "_h.a1",
  "''",
];
const storages = ["jsonb", "flat"] as const;
const properties = {
  region: { type: "string", "x-index": true },
  status: { type: "string" },
  level: { type: "integer" },
};

let crm: Crm;
let ids: string[];
beforeAll(async () => {
  crm = await startCrm();
  await run("select access.set_attribute_schema('acme', $1)", [
    { type: "object", properties: { region: { type: "string" }, level: { type: "integer" } } },
  ]);
  ids = await makeRoleless(crm.db, EMAILS);
  for (const storage of storages)
    await run("select data.define_entity('acme/crm', $1, $2)", [
      `many_in_${storage}s`,
      { type: "object", properties, "x-storage": storage },
    ]);
});
afterAll(() => crm.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);

const region = fc.constantFrom(...REGIONS);
const level = fc.integer({ min: 0, max: 4 });
const shapes: fc.Arbitrary<Condition>[] = [
  region.map((r) => ({ region: { $eq: r } })),
  region.map((r) => ({ region: { $ne: r } })),
  level.map((n) => ({ level: { $lt: n } })),
  level.map((n) => ({ $not: { level: { $gte: n } } })),
  fc.tuple(region, level).map(([r, n]) => ({ region: { $eq: r }, level: { $gt: n } })),
  fc.tuple(region, level).map(([r, n]) => ({ $not: { region: { $eq: r }, level: { $gt: n } } })),
  fc.tuple(region, level).map(([r, n]) => ({ $or: [{ region: { $ne: r } }, { level: { $lte: n } }] })),
  region.map((r) => ({ region: { $ne: r }, level: { $gte: 2 } })),
  region.map((r) => ({ $or: [{ status: { $eq: "it's" } }, { $not: { region: { $eq: r } } }] })),
  region.map((r) => ({ region: { $in: [r, "north"] }, level: { $gt: 0 } })),
  level.map((n) => ({ region: { $eq: "$account.attributes.region" }, level: { $gte: n } })),
  level.map((n) => ({ level: { $gt: n }, created_by: { $eq: "$account.id" } })),
  fc.tuple(region, level).map(([r, n]) => ({ "$account.attributes.level": { $gt: n }, region: { $eq: r } })),
  region.map((r) => ({ "$account.attributes.region": { $eq: r } })),
];
const action = fc.constantFrom<Action | "*">("read", "read", "*", "update");
/** Few shapes, so that many rules have the same. */
const rules = (length: number) =>
  fc
    .uniqueArray(fc.integer({ min: 0, max: shapes.length - 1 }), { minLength: 3, maxLength: 4 })
    .chain((chosen) =>
      fc.array(
        fc.record({ condition: fc.oneof(...chosen.map((n) => shapes[n] as (typeof shapes)[0])), action }),
        {
          minLength: length,
          maxLength: length,
        },
      ),
    );
const anyWorld = fc.record({
  permissions: rules(14),
  policies: rules(9).chain((list) =>
    fc.tuple(
      ...list.map((rule) =>
        fc
          .constantFrom("deny" as const, "deny" as const, "allow" as const)
          .map((effect) => ({ ...rule, effect })),
      ),
    ),
  ),
  accounts: fc.array(
    fc.record({
      attributes: fc.record({ region, level }, { requiredKeys: [] }),
      roles: fc.uniqueArray(fc.integer({ min: 0, max: 13 }), { maxLength: 6 }),
    }),
    { minLength: EMAILS.length, maxLength: EMAILS.length },
  ),
  records: fc.array(
    fc.record({
      region: fc.option(region),
      status: fc.constantFrom("draft", "it's"),
      level: fc.option(level),
    }),
    { minLength: 30, maxLength: 30 },
  ),
});
type World = typeof anyWorld extends fc.Arbitrary<infer T> ? T : never;

async function install({ permissions, policies, accounts }: World, entity: string): Promise<void> {
  await run(
    "delete from access.assignments a using access.roles r where r.id = a.role_id and r.name ~ '^r[0-9]'",
  );
  const [{ rules } = { rules: { roles: {}, policies: {} } }] = (await run(
    "select access.export_rules('acme') as rules",
  )) as unknown as { rules: { roles: Record<string, unknown>; policies: Record<string, unknown> } }[];
  for (const [n, { condition, action }] of permissions.entries())
    rules.roles[`r${n}`] = {
      name: `r${n}`,
      permissions: [{ permission: `crm/${entity}:${action}`, condition }],
    };
  for (const [n, { condition, action, effect }] of policies.entries())
    rules.policies[`p${n}`] = {
      name: `p${n}`,
      effect,
      actions: [action],
      condition,
      entities: [`crm/${entity}`],
    };
  await run("select access.import_rules('acme', $1)", [rules]);
  for (const [n, { attributes, roles }] of accounts.entries()) {
    await run("select access.set_attributes('acme', $1, $2)", [EMAILS[n], attributes]);
    for (const role of roles) await run("select access.assign_role('acme', $1, $2)", [EMAILS[n], `r${role}`]);
  }
}

async function store({ records }: World, entity: string): Promise<Record<string, Json>[]> {
  await run(`delete from acme_crm.${entity}`);
  const out = [];
  for (const record of records) {
    const [row] = await run(
      `insert into acme_crm.${entity} (region, status, level) values ($1, $2, $3) returning id`,
      [record.region, record.status, record.level],
    );
    out.push({ ...record, id: row?.id as string, created_by: null });
  }
  return out;
}

const inPsql = (email: string, sql: string) => idsFor(crm.db, email, sql);

test.each(storages)(
  "under 14 roles and 9 policies of few shapes each account sees and changes what it may (%s)",
  async (storage) => {
    const entity = `many_in_${storage}s`;
    let visible = 0;
    let hidden = 0;
    await fc.assert(
      fc.asyncProperty(anyWorld, async (world) => {
        await install(world, entity);
        const records = await store(world, entity);
        const policies: Policy[] = world.policies.map(({ condition, action, effect }, n) => ({
          scope: 0,
          name: `p${n}`,
          effect,
          actions: [action],
          condition,
          enabled: true,
        }));
        const model = {
          roles: world.permissions.map((rule) => ({ permissions: [{ ...rule, own: false }], parents: [] })),
          groupRoles: [],
          policies,
        };
        for (const [n, email] of EMAILS.entries()) {
          const account = { ...world.accounts[n], id: ids[n], email, inGroup: false } as Account;
          const expected = (...actions: Action[]) =>
            records
              .filter((record) => actions.every((action) => may(model, account, action, record)))
              .map((record) => record.id)
              .sort();
          const read = await inPsql(email, `select id from acme_crm.${entity}`);
          expect(read).toEqual(expected("read"));
          expect(await inPsql(email, `update acme_crm.${entity} set status = status returning id`)).toEqual(
            expected("read", "update"),
          );
          expect(
            await inPsql(
              email,
              `select r::uuid as id from unnest('{${records.map(({ id }) => id)}}'::text[]) r where access.allows('acme/crm/${entity}', 'read', r)`,
            ),
          ).toEqual(read);
          visible += read.length;
          hidden += records.length - read.length;
        }
      }),
      { numRuns: 4, seed: storage.length * 7919, endOnFailure: true },
    );
    expect(Math.min(visible, hidden)).toBeGreaterThan(40);
  },
  300_000,
);

// A word of bits holds 60 rules.
test("of 70 roles and 40 policies those that concern an account are asked, whichever word their bits are in", async () => {
  await run("select data.define_entity('acme/crm', 'wide', $1)", [{ type: "object", properties }]);
  await run(
    "insert into acme_crm.wide (region, level, status) select 'r' || g, 100, 's' || g % 40 from generate_series(0, 69) g",
  );
  await run(
    "insert into acme_crm.wide (region, level, status) select 'l' || g, g, 'open' from generate_series(0, 69) g",
  );
  const [{ rules } = { rules: { roles: {}, policies: {} } }] = (await run(
    "select access.export_rules('acme') as rules",
  )) as unknown as { rules: { roles: Record<string, unknown>; policies: Record<string, unknown> } }[];
  for (let n = 0; n < 70; n++) {
    const condition = n % 2 ? { region: `r${n}` } : { level: n };
    const permissions = ["read", "update"].map((action) => ({ permission: `crm/wide:${action}`, condition }));
    rules.roles[`wide${n}`] = { name: `wide${n}`, permissions };
  }
  for (let n = 0; n < 40; n++)
    rules.policies[`wide${n}`] = {
      name: `wide${n}`,
      effect: "deny",
      actions: ["read"],
      entities: ["crm/wide"],
      condition: { status: `s${n}`, ...(n % 4 === 1 ? {} : { "$account.attributes.level": { $gt: n } }) },
    };
  await run("select access.import_rules('acme', $1)", [rules]);
  await run("select access.set_attributes('acme', $1, $2)", [EMAILS[2], { level: 20 }]);
  const isDenied = (n: number) => n % 40 < 20 || n % 4 === 1;
  let visible = 0;
  for (const held of [[], [68], [23], [2, 3], [0, 1, 2, 63, 64, 65, 66, 67], [...Array(70).keys()]]) {
    await run(
      "delete from access.assignments a using access.roles r where r.id = a.role_id and r.name ~ '^(wide|r)[0-9]'",
    );
    for (const n of held) await run("select access.assign_role('acme', $1, $2)", [EMAILS[2], `wide${n}`]);
    const expected = held.filter((n) => n % 2 === 0 || !isDenied(n)).map((n) => (n % 2 ? `r${n}` : `l${n}`));
    for (const sql of [
      "select region as id from acme_crm.wide",
      "update acme_crm.wide set level = level returning region as id",
    ])
      expect(await inPsql(EMAILS[2] as string, sql)).toEqual(expected.sort());
    visible += expected.length;
  }
  expect(visible).toBeGreaterThan(40);
}, 120_000);

test("a value that a role is redefined with, and a role that is revoked, hold for the next statement", async () => {
  const roles = ["north", "it's", "E'", "a\\'b\\", "''", '"'];
  const define = (name: string, value: string) =>
    run("select access.define_role('acme', $1)", [
      { name, permissions: [{ permission: "crm/redefined:read", condition: { region: value } }] },
    ]);
  await run("select data.define_entity('acme/crm', 'redefined', $1)", [{ type: "object", properties }]);
  for (const [n, value] of roles.entries()) {
    await define(`s${n}`, value);
    await run("insert into acme_crm.redefined (region) values ($1)", [value]);
  }
  await run("select access.assign_role('acme', $1, 's1'), access.assign_role('acme', $1, 's3')", [EMAILS[0]]);
  await crm.db.as("acme", EMAILS[0] as string, async (client) => {
    const seen = async () =>
      (
        await client.query({
          name: "seen",
          text: 'select region from acme_crm.redefined order by region collate "C"',
        })
      ).rows.map((row) => row.region);
    expect(await seen()).toEqual(["a\\'b\\", "it's"]);
    const [before] = await run(
      "select access.installed_predicates(id) as sql from data.entities where name = 'redefined'",
    );
    await define("s1", "''");
    const [after] = await run(
      "select access.installed_predicates(id) as sql from data.entities where name = 'redefined'",
    );
    expect(after).toEqual(before); // no table was locked for it
    expect(await seen()).toEqual(["''", "a\\'b\\"]);
    await run("select access.revoke_role('acme', $1, 's3')", [EMAILS[0]]);
    expect(await seen()).toEqual(["''"]);
  });
});

test("a list under many rules uses its index", async () => {
  await run("insert into acme_crm.redefined (region) select 'r' || g from generate_series(1, 3000) g");
  const [{ storage } = {}] = await run("select storage from data.entities where name = 'redefined'");
  await run(`analyze acme_crm.redefined_${storage}`);
  await crm.db.as("acme", EMAILS[0] as string, async (client) => {
    const plan = await client.query("explain select * from acme_crm.redefined where region = 'r77'");
    expect(plan.rows.map((row) => row["QUERY PLAN"]).join("\n")).toMatch(
      /Index Scan.*\n.*Index Cond: \(region = 'r77'/,
    );
  });
});

test.each([
  ["(t.a = \u0002::text)", "((t.a) = any (l))"],
  ["((t.a = \u0002::text) is not true)", "(((t.a) = all (l)) is not true)"],
  [
    "((((t.a)::int8 > \u0002::int8) is not true)) is not true",
    "(((((t.a)::int8) > any (l)) is not true)) is not true",
  ],
  [
    "((t.b = 'x'::text) or ((t.a = \u0002::text) is not true))",
    "((t.b = 'x'::text) or (((t.a) = all (l)) is not true))",
  ],
  ["((not (t.a = \u0002::text))) is not true", "((not ((t.a) = any (l)))) is not true"],
  ["(t.a = 'y'::text or t.b = \u0002::text)", null],
  ["(f(t.a = \u0002::text))", null],
  ["(t.a in (t.b = \u0002::text))", null],
  ["(t.a = ')'::text and (t.b = \u0002::text))", null],
  ["(t.a + \u0002::int8 = 3)", null],
])("%j for one of a list is %j", async (shape, sql) => {
  expect((await run("select access.any_of($1, 'l') as sql", [shape]))[0]?.sql).toEqual(sql);
});
