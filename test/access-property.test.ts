import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { Json } from "./harness/conditions.ts";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";
import { type Account, type Action, type Condition, type Model, may } from "./harness/rights.ts";
import { idsFor, makeRoleless } from "./harness/roleless.ts";

// Whatever roles, groups and policies a site has: every door shows and changes exactly what the reference evaluator says.

const WORLDS = 20;
const EMAILS = ["w0@acme.test", "w1@acme.test", "w2@acme.test", "w3@acme.test"];
const schema = {
  type: "object",
  properties: {
    region: { type: "string", "x-index": true },
    status: { type: "string" },
    level: { type: "integer" },
  },
};

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
let ids: string[];
const tokens: string[] = [];
let cases = 0;

beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  ids = await makeRoleless(crm.db, EMAILS);
  for (const email of EMAILS) tokens.push(await crm.gateway.token(email, "acme"));
  await run("select access.create_group('acme', 'team')");
  await run("select access.set_attribute_schema('acme', $1)", [
    {
      type: "object",
      properties: {
        region: { type: "string" },
        regions: { type: "array", items: { type: "string" } },
        level: { type: "integer" },
      },
    },
  ]);
  for (const storage of ["jsonb", "flat"])
    await run("select data.define_entity('acme/crm', $1, $2)", [
      `things_in_${storage}s`,
      { ...schema, "x-storage": storage },
    ]);
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);

const word = fc.constantFrom("north", "south");
const attribute = fc.constantFrom("$account.attributes.region", "$account.attributes.regions");
const leaf: fc.Arbitrary<Condition> = fc.oneof(
  word.map((value) => ({ region: { $eq: value } })),
  word.map((value) => ({ region: { $ne: value } })),
  fc.constant({ region: { $in: "$account.attributes.regions" } }),
  fc.constant({ region: { $eq: "$account.attributes.region" } }),
  fc.constant({ level: { $lte: "$account.attributes.level" } }),
  fc.integer({ min: 0, max: 3 }).map((value) => ({ level: { $gt: value } })),
  fc.constantFrom("draft", "done").map((value) => ({ status: { $in: [value, "lost"] } })),
  fc.constant({ created_by: { $eq: "$account.id" } }),
  fc.constantFrom("r0", "r1", "authenticated").map((value) => ({ "$account.roles": { $contains: value } })),
  fc.constant({ "$account.groups": { $contains: "team" } }),
  fc.constantFrom(...EMAILS).map((value) => ({ "$account.email": { $eq: value } })),
  attribute.map((name) => ({ [name]: { $exists: true } })),
  fc.constantFrom("read", "update").map((value) => ({ $action: { $eq: value } })),
);
const { condition } = fc.letrec<{ condition: Condition }>((tie) => ({
  condition: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    leaf,
    fc.array(tie("condition"), { minLength: 1, maxLength: 3 }).map((list) => ({ $and: list })),
    fc.array(tie("condition"), { minLength: 1, maxLength: 3 }).map((list) => ({ $or: list })),
    tie("condition").map((inner) => ({ $not: inner })),
  ),
}));
const action = fc.constantFrom<Action | "*">("create", "read", "update", "delete", "*", "read");
const indices = (max: number) => fc.uniqueArray(fc.integer({ min: 0, max }), { maxLength: 2 });
const permission = fc.record({ action, own: fc.boolean(), condition: fc.option(condition) });
const role = fc.array(permission, { maxLength: 3 });
const anyWorld = fc.record({
  storage: fc.constantFrom("jsonb", "flat"),
  permissions: fc.tuple(role, role, role),
  parents: fc.tuple(fc.constant([] as number[]), indices(0), indices(1)),
  groupRoles: indices(2),
  policies: fc.uniqueArray(
    fc.record({
      scope: fc.constantFrom(0 as const, 1 as const, 2 as const),
      name: fc.constantFrom("pa", "pb"),
      effect: fc.constantFrom("allow" as const, "deny" as const),
      actions: fc.uniqueArray(action, { minLength: 1, maxLength: 2 }),
      condition,
      enabled: fc.boolean(),
    }),
    { maxLength: 3, selector: ({ scope, name }) => `${scope}${name}` },
  ),
  accounts: fc.array(
    fc.record({
      attributes: fc.record(
        { region: word, regions: fc.array(word, { maxLength: 2 }), level: fc.integer({ min: 0, max: 3 }) },
        { requiredKeys: [] },
      ),
      roles: indices(2),
      inGroup: fc.boolean(),
    }),
    { minLength: EMAILS.length, maxLength: EMAILS.length },
  ),
  records: fc.array(
    fc.record({
      region: fc.option(word),
      status: fc.constantFrom("draft", "done"),
      level: fc.option(fc.integer({ min: 0, max: 4 })),
      creator: fc.integer({ min: 0, max: EMAILS.length }),
    }),
    { minLength: 10, maxLength: 10 },
  ),
});
type World = typeof anyWorld extends fc.Arbitrary<infer T> ? T : never;

/** Puts a world's roles, policies and records in the place of those before. */
async function install(world: World, entity: string): Promise<void> {
  const permissionOf = ({ action, own, condition }: World["permissions"][0][0]) => ({
    permission: `crm/${entity}:${action}${own ? ":own" : ""}`,
    ...(condition ? { condition } : {}),
  });
  await run(
    "delete from access.assignments a using access.roles r where r.id = a.role_id and r.name ~ '^r[0-9]$'",
  );
  await run("delete from access.group_members");
  for (const [n, permissions] of world.permissions.entries())
    await run("select access.define_role('acme', $1)", [
      {
        name: `r${n}`,
        permissions: permissions.map(permissionOf),
        inherits: world.parents[n]?.map((parent) => `r${parent}`),
      },
    ]);
  await run("select access.drop_policy('acme', name, scope) from access.policies");
  for (const { scope, ...policy } of world.policies)
    await run("select access.define_policy('acme', $1)", [
      { ...policy, entities: ["*"], scope: ["", "crm", `crm/${entity}`][scope] },
    ]);
  for (const number of world.groupRoles)
    await run("select access.assign_role_to_group('acme', 'team', $1)", [`r${number}`]);
  for (const [n, account] of world.accounts.entries()) {
    await run("select access.set_attributes('acme', $1, $2)", [EMAILS[n], account.attributes]);
    if (account.inGroup) await run("select access.add_to_group('acme', 'team', $1)", [EMAILS[n]]);
    for (const number of account.roles)
      await run("select access.assign_role('acme', $1, $2)", [EMAILS[n], `r${number}`]);
  }
}

/** Stores a world's records, each created by the account it says; returns them as the reference sees them. */
async function store(world: World, entity: string): Promise<Record<string, Json>[]> {
  await run(`delete from acme_crm.${entity}`);
  const client = await crm.db.pool.connect();
  try {
    const records = [];
    for (const { creator, ...values } of world.records) {
      const { rows } = await client.query(
        `insert into acme_crm.${entity} (region, status, level) values ($1, $2, $3) returning id`,
        [values.region, values.status, values.level],
      );
      const created_by = ids[creator] ?? null;
      await client.query("begin");
      await client.query("set local role rowhouse_owner; set local rowhouse.maintenance = 'on'");
      await client.query(`update acme_crm.${entity}_${world.storage} set created_by = $1 where id = $2`, [
        created_by,
        rows[0].id,
      ]);
      await client.query("commit");
      records.push({ ...values, id: rows[0].id as string, created_by });
    }
    return records;
  } finally {
    client.release();
  }
}

const inPsql = (email: string, sql: string) => idsFor(crm.db, email, sql);

test(`at least 2,000 decisions are the same by psql, REST, GraphQL, access.explain and the reference`, async () => {
  await fc.assert(
    fc.asyncProperty(anyWorld, async (world) => {
      const entity = `things_in_${world.storage}s`;
      await install(world, entity);
      const records = await store(world, entity);
      const model: Model = {
        roles: world.permissions.map((permissions, n) => ({ permissions, parents: world.parents[n] ?? [] })),
        groupRoles: world.groupRoles,
        policies: world.policies,
      };
      for (const [n, email] of EMAILS.entries()) {
        const account: Account = {
          id: ids[n] as string,
          email,
          ...(world.accounts[n] as World["accounts"][0]),
        };
        const those = (...actions: Action[]) =>
          records
            .filter((record) => actions.every((a) => may(model, account, a, record)))
            .map((record) => record.id)
            .sort();
        const send = (path: string, call = {}) =>
          crm.send(`${base}/${entity}${path}`, { as: tokens[n] as string, ...call });
        const readable = those("read");
        const list = await send("?limit=100&count=exact");
        const answer = await graphql.ask(
          "acme/crm",
          email,
          `{ ${world.storage === "jsonb" ? "thingsInJsonbs" : "thingsInFlats"} { nodes { id } totalCount } }`,
        );
        const nodes = (Object.values(answer.data ?? {})[0] ?? { nodes: [], totalCount: -1 }) as {
          nodes: { id: string }[];
          totalCount: number;
        };
        expect({
          psql: await inPsql(email, `select id from acme_crm.${entity}`),
          rest: (list.json.data ?? []).map(({ id }) => id).sort(),
          count: (list.json.meta as unknown as { count: number }).count,
          graphql: nodes.nodes.map(({ id }) => id).sort(),
          graphqlCount: nodes.totalCount,
          updated: await inPsql(email, `update acme_crm.${entity} set level = level returning id`),
          deleted: await inPsql(email, `delete from acme_crm.${entity} returning id`),
        }).toEqual({
          psql: readable,
          rest: readable,
          count: readable.length,
          graphql: readable,
          graphqlCount: readable.length,
          updated: those("read", "update"),
          deleted: those("read", "delete"),
        });
        cases += records.length * 5;
        const explained = await run(
          "select r as id, a as action, access.explain($1, $2, a, r)->>'outcome' as outcome from unnest($3::uuid[]) r, unnest($4::text[]) a",
          [
            email,
            `acme/crm/${entity}`,
            records.slice(0, 3).map(({ id }) => id),
            ["read", "update", "delete"],
          ],
        );
        for (const { id, action, outcome } of explained) {
          const record = records.find((one) => one.id === id) as Record<string, Json>;
          expect([action, outcome]).toEqual([
            action,
            may(model, account, action as Action, record) ? "allow" : "deny",
          ]);
        }
        cases += explained.length;
        const record = records[n] as Record<string, Json>;
        const statuses = { get: 200, patch: 200, delete: 204 };
        const expected = (...actions: Action[]) => actions.every((a) => may(model, account, a, record));
        const seen = {
          get: (await send(`/${record.id}`)).status === statuses.get,
          patch:
            (await send(`/${record.id}`, { method: "PATCH", body: { level: record.level } })).status ===
            statuses.patch,
          delete: (await send(`/${record.id}`, { method: "DELETE" })).status === statuses.delete,
        };
        expect(seen).toEqual({
          get: expected("read"),
          patch: expected("read", "update"),
          delete: expected("read", "delete"),
        });
        if (seen.delete) records.splice(n, 1);
        cases += 3;
        const draft = { region: "north", status: "draft", level: n };
        const created = await send("", { method: "POST", body: draft });
        const fresh = { ...draft, created_by: account.id };
        expect([created.status === 201, "region" in created.json, created.status]).toEqual([
          may(model, account, "create", fresh),
          may(model, account, "create", fresh) && may(model, account, "read", fresh),
          created.status,
        ]);
        if (created.status === 201) records.push({ ...fresh, id: created.json.id });
        cases += 1;
      }
    }),
    { numRuns: WORLDS, endOnFailure: true },
  );
  expect(cases).toBeGreaterThan(2_000);
}, 280_000);
