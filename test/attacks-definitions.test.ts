import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// Who may define entities, and not policies, gives nobody by a definition what rules and masks keep from them; and nobody loses what
// protects a field without being told.

type Schema = { properties: Record<string, Record<string, unknown>> } & Record<string, unknown>;

const people = (storage: string): Schema => ({
  type: "object",
  "x-storage": storage,
  "x-history": true,
  properties: {
    name: { type: "string", "x-search": true },
    note: { type: "string" },
    email: { type: "string", format: "email", "x-pii": true },
    phone: { type: "string", "x-mask": "last_four" },
    ssn: { type: "string", "x-mask": "hash" },
    salary: { type: "integer" },
    wage: { type: "integer", "x-alias": "salary" },
  },
});
const ada = {
  name: "Ada",
  note: "n",
  email: "ada@x.test",
  phone: "555 1234",
  ssn: "078-05-1120",
  salary: 100,
};

let crm: Crm;
let gateway: TestGateway;
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const modeller = "mo@acme.test";
beforeAll(async () => {
  crm = await startCrm();
  gateway = await startGateway(crm.db, {}, 5, true);
  for (const email of [modeller, "owner@acme.test"]) {
    await crm.db.account(email);
    await run("select tenancy.add_member('acme', $1, 'viewer')", [email]);
    crm.tokens[email] = await gateway.token(email, "acme");
  }
  await run(
    `select tenancy.set_member_role('acme', 'owner@acme.test', 'owner'), access.revoke_role('acme', '${modeller}', 'viewer'),
       access.define_role('acme', '{"name": "modeller", "permissions": ["crm/@entities:define", {"permission": "crm/*:read", "fields": {"masked": {"note": "redact"}}}]}'),
       access.assign_role('acme', '${modeller}', 'modeller')`,
  );
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

/** What comes of a definition given by somebody through psql: its name, or the SQLSTATE. */
const define = (email: string, entity: string, schema: Schema) =>
  crm.db.as("acme", email, (client) =>
    client.query("select (data.define_entity('acme/crm', $1, $2)).name", [entity, schema]).then(
      ({ rows }) => rows[0].name as string,
      ({ code }) => code as string,
    ),
  );
/** The same through a plan that is applied although it loses data, and through GraphQL. */
const otherwise: [string, typeof define][] = [
  ["psql", define],
  [
    "a plan",
    (email, entity, schema) =>
      crm.db.as("acme", email, (client) =>
        client
          .query("select data.plan($1, $2)->>'plan' as plan", [`acme/crm/${entity}`, schema])
          .then(({ rows }) => client.query("select (data.apply($1, true)).name", [rows[0].plan]))
          .then(
            ({ rows }) => rows[0].name as string,
            ({ code }) => code as string,
          ),
      ),
  ],
  [
    "GraphQL",
    async (email, entity, schema) => {
      const answer = await sendTo(gateway, crm.tokens, "/graphql", {
        method: "POST",
        as: email,
        body: {
          query: `mutation ($schema: JSON!) { defineEntity(input: {app: "acme/crm", name: "${entity}", schema: $schema}) { clientMutationId } }`,
          variables: { schema },
        },
      });
      const { errors } = answer.json as unknown as { errors?: { extensions: { status: number } }[] };
      return errors ? `RH${errors[0]?.extensions.status}` : entity;
    },
  ],
];
const seen = (email: string, sql: string) =>
  crm.db.as("acme", email, async (client) => (await client.query(sql)).rows[0]);
const without = (property: Record<string, unknown>, ...keys: string[]) =>
  Object.fromEntries(Object.entries(property).filter(([key]) => !keys.includes(key)));
const changed = (schema: Schema, properties: Schema["properties"], ...gone: string[]): Schema => ({
  ...schema,
  properties: { ...(without(schema.properties, ...gone) as Schema["properties"]), ...properties },
});

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const entity = `people_${storage}s`;
  const schema = people(storage);
  const p = schema.properties as Record<string, Record<string, unknown>>;
  const renew = async () => {
    await run("select access.drop_policy('acme', name, scope) from access.policies");
    await run("select data.drop_entity('acme/crm/' || name, name) from data.entities where name = $1", [
      entity,
    ]);
    await run("select data.define_entity('acme/crm', $1, $2)", [entity, schema]);
    await run("select data.insert($1, $2)", [`acme/crm/${entity}`, ada]);
  };
  beforeAll(renew);
  const shown = `select email, phone, ssn, note from acme_crm.${entity}`;

  test("what is masked by a hash is given another definition like anything else", async () => {
    for (const email of [modeller, "owner@acme.test"])
      expect(await define(email, entity, { ...schema, description: email })).toBe(entity);
  });

  const lifts: [string, Schema][] = [
    [
      "x-pii is taken away",
      changed(schema, { email: without(p.email as object as Record<string, unknown>, "x-pii") }),
    ],
    ["x-mask is taken away", changed(schema, { phone: { type: "string" } })],
    [
      "a mask becomes one that says more",
      changed(schema, { ssn: { type: "string", "x-mask": "last_four" } }),
    ],
    [
      "a mask becomes a template",
      changed(schema, { phone: { type: "string", "x-mask": "{first4}{last4}" } }),
    ],
    [
      "a field that is masked is renamed without its mask",
      changed(schema, { tel: { type: "string", "x-renamed-from": "phone" } }, "phone"),
    ],
    [
      "it is converted into one that is not",
      changed(schema, { name: { type: "string", "x-convert": "phone" } }),
    ],
    [
      "what a role masks is converted into one that it does not",
      changed(schema, { name: { type: "string", "x-convert": "note" } }),
    ],
  ];
  test.each(otherwise.flatMap(([door, by]) => lifts.map(([what, to]) => [door, what, by, to] as const)))(
    "by %s: nothing is shown when %s",
    async (door, what, by, to) => {
      // A conversion is planned first.
      const code = what.includes("converted") && door !== "a plan" ? "RH409" : "RH403";
      const before = await seen(modeller, shown);
      expect(before).toMatchObject({ phone: "****1234", note: "***" });
      expect(await by(modeller, entity, to)).toBe(code);
      expect(await seen(modeller, shown)).toEqual(before);
    },
  );

  test("who may define policies does all that, and a mask that says less is for every modeller", async () => {
    await renew();
    expect(
      await define(modeller, entity, changed(schema, { phone: { type: "string", "x-mask": "redact" } })),
    ).toBe(entity);
    expect(await define("owner@acme.test", entity, changed(schema, { phone: { type: "string" } }))).toBe(
      entity,
    );
    expect((await seen(modeller, shown)).phone).toBe("555 1234");
  });

  test("a field that a policy hides or a role masks keeps the name by which they know it, whoever renames it", async () => {
    await renew();
    await run(
      `select access.define_policy('acme', '{"name": "pay", "effect": "deny", "entities": ["crm/${entity}"], "actions": ["read"], "fields": {"readable": ["salary"]}}')`,
    );
    for (const to of [
      changed(schema, { pay: { type: "integer", "x-renamed-from": "salary" } }, "salary", "wage"),
      changed(schema, { remark: { type: "string", "x-renamed-from": "note" } }, "note"),
    ])
      for (const email of [modeller, "owner@acme.test"])
        expect(await define(email, entity, to)).toBe("RH409");
    expect(await seen(modeller, `select salary, note from acme_crm.${entity}`)).toEqual({
      salary: null,
      note: "***",
    });
    const aliased = changed(
      schema,
      { pay: { type: "integer", "x-renamed-from": "salary" }, salary: { type: "integer", "x-alias": "pay" } },
      "wage",
    );
    expect(await define("owner@acme.test", entity, aliased)).toBe(entity);
    expect(await seen(modeller, `select pay from acme_crm.${entity}`)).toEqual({ pay: null });
  });

  test("a field takes no name that a role may read", async () => {
    await renew();
    await run(
      `select access.define_role('acme', '{"name": "reader", "permissions": [{"permission": "crm/${entity}:read", "fields": {"readable": ["name", "title"]}}]}')`,
    );
    const renamed = changed(
      schema,
      { title: { type: "integer", "x-renamed-from": "salary" } },
      "salary",
      "wage",
    );
    const aliased = changed(schema, { title: { type: "integer", "x-alias": "salary" } });
    for (const to of [renamed, aliased]) expect(await define(modeller, entity, to)).toBe("RH403");
    expect(await define("owner@acme.test", entity, aliased)).toBe(entity);
    await run("select access.drop_role('acme', 'reader')");
  });

  test("records go on being in the audit log, and values that are not unique are told to who sees them", async () => {
    const logged = `logged_${storage}s`;
    const audited = (reads: boolean | undefined): Schema => ({
      ...schema,
      ...(reads === undefined ? {} : { "x-audit": reads ? { reads } : true }),
    });
    expect(await define("owner@acme.test", logged, audited(false))).toBe(logged);
    expect(await define(modeller, logged, audited(undefined))).toBe("RH403");
    expect(await define(modeller, logged, audited(true))).toBe(logged);
    expect(await define(modeller, logged, audited(false))).toBe("RH403");
    expect(await define("owner@acme.test", logged, audited(undefined))).toBe(logged);
    await run("select data.insert($1, $2)", [`acme/crm/${logged}`, JSON.stringify([ada, ada])]);
    const offenders = (email: string) =>
      crm.db.as("acme", email, async (client) => {
        const unique = changed(schema, { phone: { ...(p.phone as object), "x-unique": true } });
        return client
          .query("select data.plan($1, $2)->'offenders' as o", [`acme/crm/${logged}`, unique])
          .then(
            ({ rows }) => rows[0].o.map(({ message }: { message: string }) => message),
            ({ code }) => code,
          );
      });
    expect(await offenders(modeller)).toBe("RH403");
    expect(await offenders("owner@acme.test")).toEqual(["is 555 1234 in 2 records"]);
  });

  test("nor is it shown by a definition of before, when that is taken back", async () => {
    const bare = `bare_${storage}s`;
    await run("select data.define_entity('acme/crm', $1, $2)", [
      bare,
      changed(schema, { phone: { type: "string" } }),
    ]);
    await run("select data.define_entity('acme/crm', $1, $2)", [bare, schema]);
    await run("select data.insert($1, $2)", [`acme/crm/${bare}`, ada]);
    const back = (email: string) =>
      crm.db.as("acme", email, (client) =>
        client.query("select (data.rollback($1, 1)).name", [`acme/crm/${bare}`]).then(
          ({ rows }) => rows[0].name,
          ({ code }) => code,
        ),
      );
    expect(await back(modeller)).toBe("RH403");
    expect(await back("owner@acme.test")).toBe(bare);
  });
});
