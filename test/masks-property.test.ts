import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { evaluate, type Json } from "./harness/conditions.ts";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";
import { type Account, type Condition, type FieldRule, type FieldRules, shown } from "./harness/rights.ts";

// Whatever field rules a site's roles and policies have: psql, REST, GraphQL and a reference show the same of every field, and no
// query compares by a field that its reader does not see in full.

const EMAIL = "pat@acme.test";
const MARKED: Record<string, string | undefined> = { secret: "last_four", code: "redact" };
const FIELDS = ["region", "level", "secret", "code"];
const schema = {
  type: "object",
  properties: {
    region: { type: "string", "x-index": true },
    level: { type: "integer" },
    secret: { type: "string", "x-mask": "last_four", "x-index": true },
    code: { type: "string", "x-pii": true },
  },
};

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
let id: string;
beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  id = await crm.db.account(EMAIL);
  await run("select tenancy.add_member('acme', $1, 'viewer'), access.revoke_role('acme', $1, 'viewer')", [
    EMAIL,
  ]);
  crm.tokens.pat = await crm.gateway.token(EMAIL, "acme");
  await run("select access.set_attribute_schema('acme', $1)", [
    { type: "object", properties: { region: { type: "string" } } },
  ]);
  for (const storage of ["jsonb", "flat"])
    await run("select data.define_entity('acme/crm', $1, $2)", [
      `facts_in_${storage}s`,
      { ...schema, "x-storage": storage },
    ]);
});
afterAll(async () => {
  await graphql?.stop();
  await crm?.stop();
});
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);

const word = fc.constantFrom("north", "south");
const condition: fc.Arbitrary<Condition> = fc.oneof(
  word.map((value) => ({ region: { $eq: value } })),
  fc.constant({ region: { $eq: "$account.attributes.region" } }),
  fc.integer({ min: 0, max: 3 }).map((value) => ({ level: { $gt: value } })),
  fc.constant({ "$account.attributes.region": { $eq: "north" } }),
  fc.constant({ secret: { $eq: "12345678" } }),
);
const some = fc.subarray(FIELDS, { minLength: 1 });
const fields: fc.Arbitrary<FieldRules> = fc.record(
  {
    readable: some,
    unmasked: fc.oneof(some, fc.constant<string[]>(["*"])),
    masked: fc.dictionary(fc.constantFrom(...FIELDS), fc.constantFrom("last_four", "redact", "null"), {
      minKeys: 1,
    }),
  },
  { requiredKeys: [] },
);
const rule = fc.record({ condition: fc.option(condition), fields: fc.option(fields) });
const anyWorld = fc.record({
  storage: fc.constantFrom("jsonb", "flat"),
  permissions: fc.array(rule, { minLength: 1, maxLength: 4 }),
  allow: fc.option(rule),
  deny: fc.option(fc.record({ condition: fc.option(condition), fields: some })),
  attributes: fc.record({ region: word }, { requiredKeys: [] }),
  records: fc.array(
    fc.record({
      region: fc.option(word),
      level: fc.option(fc.integer({ min: 0, max: 4 })),
      secret: fc.option(fc.constantFrom("12345678", "87654321", "short")),
      code: fc.option(fc.constantFrom("red", "blue")),
    }),
    { minLength: 6, maxLength: 6 },
  ),
});

/** What a value of a field looks like under a mask. */
function under(mask: string, value: Json): Json {
  if (mask === "full" || value === null) return value;
  if (typeof value !== "string" || mask === "hidden" || mask === "null") return null;
  return mask === "redact" ? "***" : `****${value.length < 8 ? "" : value.slice(-4)}`;
}

test("fields are shown, masked and hidden alike by psql, REST, GraphQL and the reference", async () => {
  let cases = 0;
  await fc.assert(
    fc.asyncProperty(anyWorld, async ({ storage, permissions, allow, deny, attributes, records }) => {
      const entity = `facts_in_${storage}s`;
      const permission = `crm/${entity}:read`;
      await run("select access.drop_policy('acme', name, scope) from access.policies");
      await run("select access.define_role('acme', $1)", [
        {
          name: "given",
          permissions: permissions.map((p) => ({
            permission,
            ...(p.condition && { condition: p.condition }),
            ...(p.fields && { fields: p.fields }),
          })),
        },
      ]);
      await run("select access.assign_role('acme', $1, 'given')", [EMAIL]);
      await run("select access.set_attributes('acme', $1, $2)", [EMAIL, attributes]);
      const policy = { entities: [`crm/${entity}`], actions: ["read"] };
      if (allow)
        await run("select access.define_policy('acme', $1)", [
          {
            ...policy,
            name: "allows",
            effect: "allow",
            ...(allow.condition && { condition: allow.condition }),
            ...(allow.fields && { fields: allow.fields }),
          },
        ]);
      if (deny)
        await run("select access.define_policy('acme', $1)", [
          {
            ...policy,
            name: "denies",
            effect: "deny",
            fields: { readable: deny.fields },
            ...(deny.condition && { condition: deny.condition }),
          },
        ]);
      await run(`delete from acme_crm.${entity}`);
      for (const { region, level, secret, code } of records)
        await run(`insert into acme_crm.${entity} (region, level, secret, code) values ($1, $2, $3, $4)`, [
          region,
          level,
          secret,
          code,
        ]);
      const account: Account = { id, email: EMAIL, attributes, roles: [], inGroup: false };
      const rules: FieldRule[] = [
        ...permissions.map((p) => ({ ...p, effect: "allow" as const })),
        ...(allow ? [{ ...allow, effect: "allow" as const }] : []),
        ...(deny
          ? [{ condition: deny.condition, fields: { readable: deny.fields }, effect: "deny" as const }]
          : []),
      ];
      const world = {
        account: { id, email: EMAIL, attributes, roles: [], groups: [] },
        env: {},
        action: "read" as const,
      };
      const visible = records.filter((record) =>
        rules.some(
          ({ effect, condition }) => effect === "allow" && evaluate(condition ?? {}, record, world) === true,
        ),
      );
      const expected = visible
        .map((record) =>
          JSON.stringify(
            FIELDS.map((f) =>
              under(shown(rules, account, record, f, MARKED[f]), record[f as keyof typeof record]),
            ),
          ),
        )
        .sort();
      const flat = (rows: Record<string, unknown>[]) =>
        rows
          .map((row) =>
            JSON.stringify(FIELDS.map((f) => (f === "level" && row[f] !== null ? Number(row[f]) : row[f]))),
          )
          .sort();
      const psql = await crm.db.as(
        "acme",
        EMAIL,
        async (c) => (await c.query(`select * from acme_crm.${entity}`)).rows,
      );
      const rest = await crm.send(`${base}/${entity}?limit=100`, { as: "pat" });
      const list = storage === "jsonb" ? "factsInJsonbs" : "factsInFlats";
      const answer = await graphql.ask("acme/crm", EMAIL, `{ ${list} { nodes { ${FIELDS.join(" ")} } } }`);
      expect({
        psql: flat(psql),
        rest: flat(rest.json.data),
        graphql: flat(answer.data[list].nodes),
      }).toEqual({
        psql: expected,
        rest: expected,
        graphql: expected,
      });
      for (const f of FIELDS) {
        const sorted = await crm.send(`${base}/${entity}?sort=${f}&limit=100`, { as: "pat" });
        const isSeen = visible.every((record) => shown(rules, account, record, f, MARKED[f]) === "full");
        if (sorted.status === 200) expect([f, isSeen]).toEqual([f, true]);
        else expect([sorted.status, sorted.json.code]).toEqual([403, "field_not_seen"]);
      }
      cases += visible.length * FIELDS.length * 3 + FIELDS.length;
    }),
    { numRuns: 20, endOnFailure: true },
  );
  expect(cases).toBeGreaterThan(300);
}, 240_000);
