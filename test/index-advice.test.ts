import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Crm, find, sendTo, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway } from "./harness/gateway.ts";

// data.index_advice tells an app's owner what requests would gain by, from what PostgreSQL counted anyway.

type Advice = {
  kind: string;
  entity: string;
  fields: string[];
  message: string;
  calls: string;
  gain: string;
  definition: object;
};

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
  await crm.db.query(
    `select data.insert(e, (select jsonb_agg(jsonb_build_object('name', 'Name ' || i, 'age', i % 80, 'born', '2000-01-01', 'active', i % 2 = 0)) from generate_series(1, 9000) i))
     from unnest(array['acme/crm/contacts', 'beta/crm/contacts']) e`,
  );
  await crm.db.query("analyze acme_crm.contacts_jsonb, beta_crm.contacts_jsonb");
  for (const [email, site] of [
    ["olga@acme.test", "acme"],
    ["olaf@beta.test", "beta"],
  ] as const) {
    await crm.db.account(email);
    await crm.db.query("select tenancy.add_member($1, $2, 'admin')", [site, email]);
    await crm.db.query("select tenancy.set_member_role($1, $2, 'admin')", [site, email]);
  }
});
afterAll(() => crm.stop());

const advice = (app: string, email = "olga@acme.test") =>
  crm.db.as(app.split("/")[0] as string, email, async (client) => {
    const { rows } = await client.query<Advice>("select * from data.index_advice($1)", [app]);
    return rows;
  });
const missing = (rows: Advice[]) => rows.filter(({ kind }) => kind === "missing");

test("before anybody asked for anything, it says that it knows nothing", async () => {
  expect((await advice("acme/shop")).map(({ kind }) => kind)).toContain("unknown");
});

test("what requests filter and sort by without an index is told, with a definition that helps", async () => {
  for (let n = 0; n < 5; n++) {
    expect((await crm.send(find({ filter: { name: `Name ${n + 10}` } }))).json.data).toHaveLength(1);
    await crm.send(find({ filter: { active: true, born: { $gte: "2000-01-01" } }, sort: "-name" }));
    await crm.send(find({ filter: { age: n } })); // has one
    await crm.send(find({ filter: { name: { $contains: "7" } } })); // none would help
    await crm.send(find({})); // every entity has one
  }
  const rows = missing(await advice("acme/crm"));
  expect(rows.map(({ entity, fields }) => [entity, ...fields])).toEqual(
    expect.arrayContaining([
      ["contacts", "name"],
      ["contacts", "active", "-name"],
    ]),
  );
  expect(rows).toHaveLength(2);
  const name = rows.find(({ fields }) => fields.join() === "name");
  // It is estimated from values: for who defines, of what they see.
  await crm.db.account("mo@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'mo@acme.test', 'viewer')");
  for (const [read, told] of [
    [{ permission: "contacts:read" }, 2],
    [{ permission: "contacts:read", fields: { masked: { name: "redact" } } }, 0],
    [{ permission: "contacts:read", condition: { active: true } }, 0],
    [{ permission: "companies:read" }, 0],
  ] as const) {
    await crm.db.query(
      "select access.define_role('acme', $1), access.assign_role('acme', 'mo@acme.test', 'modeller')",
      [{ name: "modeller", permissions: ["@entities:define", read] }],
    );
    await crm.db.query("select access.revoke_role('acme', 'mo@acme.test', 'viewer')");
    expect([read, missing(await advice("acme/crm", "mo@acme.test")).length]).toEqual([read, told]);
  }
  expect(name).toMatchObject({ calls: "5", definition: { properties: { name: { "x-index": true } } } });
  expect(Number(name?.gain)).toBeGreaterThan(0.5);
  expect(rows.find(({ fields }) => fields.length === 2)?.definition).toEqual({
    "x-indexes": [{ fields: ["active", "-name"] }],
  });
});

test("what GraphQL asked is told as well", async () => {
  const gateway = await startGateway(crm.db, {}, 2, true);
  const token = await gateway.token("bob@beta.test", "beta");
  const answer = await sendTo(gateway, { bob: token }, "/api/v1/sites/beta/apps/crm/graphql", {
    method: "POST",
    as: "bob",
    body: {
      query: '{ contacts(filter: { name: { equalTo: "Name 7" } }, orderBy: AGE_DESC) { nodes { id } } }',
    },
  });
  await gateway.stop();
  expect(answer.text).toMatch(/"nodes":\[\{"id"/);
  expect(missing(await advice("beta/crm", "olaf@beta.test"))).toMatchObject([
    {
      entity: "contacts",
      fields: ["name", "-age"],
      definition: { "x-indexes": [{ fields: ["name", "-age"] }] },
    },
  ]);
});

test("what an app has got is advised no longer", async () => {
  await crm.db.query(
    "select data.define_entity('acme/crm', 'contacts', jsonb_set(schema, '{properties,name,x-index}', 'true')) from data.entities e join tenancy.apps a on a.id = e.app_id where a.schema_name = 'acme_crm' and e.name = 'contacts'",
  );
  await crm.send(find({ filter: { name: "Name 7" } }));
  expect(missing(await advice("acme/crm")).map(({ fields }) => fields)).toEqual([["active", "-name"]]);
});

test("the index by which records expire is not called unused: no definition takes it away", async () => {
  await crm.db.query("select data.define_entity('beta/crm', 'invites', $1)", [
    { type: "object", "x-ttl": "30 days", properties: { code: { type: "string" } } },
  ]);
  const about = (await advice("beta/crm", "olaf@beta.test")).filter(({ entity }) => entity === "invites");
  expect(about).toEqual([]);
});

test("indexes that nothing used are told, but not those that a rule needs", async () => {
  const unused = (await advice("beta/crm", "olaf@beta.test")).filter(({ kind }) => kind === "unused");
  expect(unused.map(({ entity, fields, definition }) => [entity, fields, definition])).toEqual([
    ["contacts", ["age"], { properties: { age: { "x-index": false } } }],
  ]);
});

test("an app's statements are told to its own owners and admins only", async () => {
  // Those of acme are not among beta's.
  expect(missing(await advice("beta/crm", "olaf@beta.test")).map(({ fields }) => fields)).toEqual([
    ["name", "-age"],
  ]);
  for (const email of ["ann@acme.test", "vic@acme.test"]) {
    expect((await refusal(advice("acme/crm", email))).code).toBe("RH403");
  }
  await crm.db.as("beta", "olaf@beta.test", async (client) => {
    expect((await refusal(client.query("select * from data.index_advice('acme/crm')"))).code).toMatch(
      /^RH40[34]$/,
    );
    expect(
      (await refusal(client.query("select * from data.app_statements($1)", [crm.ids["acme/crm"]]))).code,
    ).toBe("42501");
    expect(
      (
        await refusal(
          client.query("select data.field_selectivity(e, 'acme_crm', 'name') from data.entities e"),
        )
      ).code,
    ).toBe("42501");
  });
  for (const app of [null, "", "acme", "acme/nobody", "a'/b", "acme/crm/contacts", "x".repeat(1_000_000)]) {
    expect((await refusal(crm.db.query("select * from data.index_advice($1)", [app]))).code).toMatch(
      /^RH40[04]$/,
    );
  }
});
