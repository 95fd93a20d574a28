import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Crm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startPosts, storages } from "./harness/posts.ts";

// What was promised across sites: a filtered, revocable view of an entity for a role of another site, and nothing beyond it.

let crm: Crm & { entity(storage: string): string };
beforeAll(async () => {
  crm = await startPosts();
  for (const email of ["boss@acme.test", "rita@beta.test", "chief@beta.test", "gus@gamma.test"])
    await crm.db.account(email);
  await run(`select tenancy.add_member('acme', 'boss@acme.test', 'viewer'), tenancy.set_member_role('acme', 'boss@acme.test', 'owner'),
    tenancy.add_member('beta', 'chief@beta.test', 'admin'), tenancy.set_member_role('beta', 'chief@beta.test', 'owner'),
    access.create_role('beta', 'partner', '{}'), tenancy.add_member('beta', 'rita@beta.test', 'partner')`);
  await run("select tenancy.create_site('acme', 'gamma')");
  await run("select tenancy.add_member('gamma', 'gus@gamma.test', 'admin')");
});
afterAll(() => crm?.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const at = (site: string, email: string, sql: string, values: unknown[] = []) =>
  crm.db.as(site, email, (client) => client.query(sql, values).then(({ rows }) => rows));
const rita = (sql: string) => at("beta", "rita@beta.test", sql);
// beta is of another organization, and accepts.
const share = async (entity: string, more: Record<string, unknown> = {}) => {
  const made = await grant(entity, more);
  await run("select access.accept_share('beta', view_name) from access.shares where accepted_at is null");
  return made;
};
const grant = (entity: string, more: Record<string, unknown> = {}) =>
  at("acme", "boss@acme.test", "select access.share($1, $2, $3, $4, $5, $6, $7, $8) as view", [
    `acme/crm/${entity}`,
    more.to ?? "beta",
    more.role ?? "partner",
    "condition" in more ? more.condition : { status: "published" },
    more.fields ?? ["id", "title", "region"],
    more.until ?? null,
    more.name ?? "acme_posts",
    more.masked ?? null,
  ]);
const view = "beta_shared.acme_posts";

beforeEach(async () => {
  await run("delete from access.shares");
});

describe.each(storages)("in %s storage", (storage) => {
  const entity = `posts_${storage}_kind`;

  test("the role of the other site sees the rows and fields of the share, and of nothing else", async () => {
    expect(await share(entity)).toEqual([{ view }]);
    expect(await rita(`select title, region from ${view} order by title`)).toEqual([
      { title: "a2", region: "south" },
      { title: "p1", region: "north" },
    ]);
    expect(Object.keys((await rita(`select * from ${view}`))[0] ?? {})).toEqual(["id", "title", "region"]);
    for (const column of ["status", "created_by", "data", "score", "version"])
      expect([column, (await refusal(rita(`select ${column} from ${view}`))).code]).toEqual([
        column,
        "42703",
      ]);
    // New records are there at once, others go.
    await run(`update acme_crm.${entity} set status = 'published' where title = 'a1'`);
    expect(await rita(`select count(*)::int from ${view}`)).toEqual([{ count: 3 }]);
    await run(`update acme_crm.${entity} set status = 'draft' where title = 'a1'`);
    expect(await rita(`select count(*)::int from ${view}`)).toEqual([{ count: 2 }]);
  });

  test("it cannot be widened, written or passed by", async () => {
    await share(entity);
    const id = (await run(`select id from acme_crm.${entity} where title = 'a1'`))[0]?.id;
    for (const [sql, code] of [
      [`insert into ${view} (title) values ('x')`, /42501|55000|0A000/],
      [`update ${view} set title = 'x'`, /42501|55000|0A000/],
      [`delete from ${view}`, /42501|55000|0A000/],
      [`select * from acme_crm.${entity}`, /42501/],
      [`select * from acme_crm.${entity}_${storage}`, /42501/],
      ["select * from acme_crm.contacts", /42501/],
      [`create or replace view ${view} as select 1`, /42501/],
      [`drop view ${view}`, /42501/],
      [`alter view ${view} owner to site_beta`, /42501/],
      ["create table beta_shared.mine (a int)", /42501/],
      ["create view beta_shared.mine as select * from beta_shared.acme_posts", /42501/],
      ["select * from access.shares", /42501/],
      ["update access.shares set condition = null", /42501/],
      ["insert into access.shares select * from access.shares", /42501/],
      [`select access.share('acme/crm/${entity}', 'beta', 'partner')`, /RH404/],
      [`select access.revoke_share('acme', 'beta', 'acme_posts')`, /RH404/],
      ["select access.build_share(s) from access.shares s", /42501/],
      ["select access.share_holds(uuidv7())", /42501/],
      ["select access.accept_share('beta', 'acme_posts')", /RH403/],
      ["select access.decline_share('beta', 'acme_posts')", /RH403/],
      ["select access.received_share(uuidv7(), 'acme_posts')", /42501/],
    ] as const)
      expect([sql, (await refusal(rita(sql))).code]).toEqual([sql, expect.stringMatching(code)]);
    expect(await rita(`select * from ${view} where id = '${id}' or true and title = 'a1'`)).toEqual([]);
    // An error that would tell of hidden rows is not raised for them: the condition comes first.
    expect(
      await rita(`select count(*)::int from ${view} where 1 / (case title when 'a1' then 0 else 1 end) = 1`),
    ).toEqual([{ count: 2 }]);
    expect(await rita(`select data.find('beta/crm/contacts')->'data' = '[]' as is`)).toEqual([{ is: true }]);
  });

  test("nobody without the role sees it: a colleague, another site, whoever shares, whose role ended", async () => {
    await share(entity);
    await run("select tenancy.add_member('beta', 'bob@beta.test', 'editor')");
    expect(await at("beta", "bob@beta.test", `select * from ${view}`)).toEqual([]);
    expect(await at("beta", "chief@beta.test", `select * from ${view}`)).toEqual([]);
    for (const [site, email] of [
      ["gamma", "gus@gamma.test"],
      ["acme", "boss@acme.test"],
    ] as const)
      expect((await refusal(at(site, email, `select * from ${view}`))).code).toBe("42501");
    expect(await rita(`select count(*)::int from ${view}`)).toEqual([{ count: 2 }]);
    await run("select access.revoke_role('beta', 'rita@beta.test', 'partner')");
    expect(await rita(`select * from ${view}`)).toEqual([]);
    await run("select access.assign_role('beta', 'rita@beta.test', 'partner')");
  });

  test("it ends: when it is revoked, at its time, with its role, its entity's definition and its entity", async () => {
    await share(entity);
    await at("acme", "boss@acme.test", "select access.revoke_share('acme', 'beta', 'acme_posts')");
    expect((await refusal(rita(`select * from ${view}`))).code).toMatch(/42P01|3F000/);
    await share(entity, { until: new Date(Date.now() + 3_600_000).toISOString() });
    expect(await rita(`select count(*)::int from ${view}`)).toEqual([{ count: 2 }]);
    await run("update access.shares set valid_until = now() - interval '1 s'");
    expect(await rita(`select * from ${view}`)).toEqual([]);
    await run("delete from access.shares");
    await run("select access.create_role('beta', 'guest', '{}')");
    await share(entity, { role: "guest" });
    await run("select access.drop_role('beta', 'guest')");
    expect((await refusal(rita(`select * from ${view}`))).code).toMatch(/42P01|3F000/);
  });

  test("an open session sees the revocation with its next statement, a prepared statement too", async () => {
    await share(entity);
    await crm.db.as("beta", "rita@beta.test", async (client) => {
      const read = () => client.query({ name: "shared", text: `select title from ${view}` });
      expect((await read()).rowCount).toBe(2);
      expect((await read()).rowCount).toBe(2);
      await run("select access.revoke_share('acme', 'beta', 'acme_posts')");
      await expect(read()).rejects.toMatchObject({ code: expect.stringMatching(/42P01|3F000|0A000/) });
    });
  });

  test("fields that are dropped are gone from it, and a condition on one shows nothing", async () => {
    const name = `short_${storage}_kind`;
    const properties = { title: { type: "string" }, note: { type: "string" }, state: { type: "string" } };
    const define = (given: object) =>
      run("select data.define_entity('acme/crm', $1, $2)", [
        name,
        { type: "object", "x-storage": storage, properties: given },
      ]);
    await define(properties);
    await run(`select data.insert('acme/crm/${name}', '{"title": "t", "note": "n", "state": "open"}')`);
    await share(name, { condition: { state: "open" }, fields: ["title", "note"] });
    expect(await rita(`select * from ${view}`)).toEqual([{ id: expect.any(String), title: "t", note: "n" }]);
    const drop = async (given: object) => {
      const [plan] = await run("select data.plan('acme/crm/' || $1, $2)->>'plan' as id", [
        name,
        { type: "object", "x-storage": storage, properties: given },
      ]);
      await run("select data.apply($1, true)", [plan?.id]);
    };
    await drop({ title: properties.title, state: properties.state });
    expect(await rita(`select title from ${view}`)).toEqual([{ title: "t" }]);
    expect((await refusal(rita(`select note from ${view}`))).code).toBe("42703");
    await drop({ title: properties.title });
    expect(await rita(`select * from ${view}`)).toEqual([]);
    await run(`select data.drop_entity('acme/crm/${name}', '${name}')`).catch(() =>
      run(`select data.drop_entity('acme/crm/${name}', 'acme/crm/${name}')`),
    );
    expect((await refusal(rita(`select * from ${view}`))).code).toMatch(/42P01|3F000/);
  });

  test("it goes on while the storage is converted", async () => {
    const name = `turned_${storage}_kind`;
    await run("select data.define_entity('acme/crm', $1, $2)", [
      name,
      { type: "object", "x-storage": storage, properties: { title: { type: "string" } } },
    ]);
    await run(`select data.insert('acme/crm/${name}', '{"title": "t"}')`);
    await share(name, { condition: null, fields: ["title"] });
    await run("select data.convert_storage('acme/crm/' || $1, $2)", [
      name,
      storage === "flat" ? "jsonb" : "flat",
    ]);
    await run("call data.run_operations()");
    expect(await rita(`select title from ${view}`)).toEqual([{ title: "t" }]);
  });
});

test("lists of links are shared as ids, follow a conversion of their target, and go with their relation", async () => {
  const tags = { type: "object", properties: { name: { type: "string" } } };
  const title = { type: "string" };
  const many = { type: "array", "x-relation": { entity: "labels", many: true } };
  const define = (name: string, schema: object) =>
    run("select data.define_entity('acme/crm', $1, $2)", [name, schema]);
  await define("labels", tags);
  await define("linked_posts", { type: "object", properties: { title, labels: many } });
  const [label] = await run(`select data.insert('acme/crm/labels', '{"name": "x"}')->>'id' as id`);
  await run("select data.insert('acme/crm/linked_posts', $1)", [{ title: "t", labels: [label?.id] }]);
  await share("linked_posts", { condition: null, fields: ["title", "labels"] });
  const shown = () => rita(`select title, labels from ${view}`);
  expect(await shown()).toEqual([{ title: "t", labels: [label?.id] }]);
  await run("select data.convert_storage('acme/crm/labels', 'flat')");
  await run("call data.run_operations()");
  expect(await shown()).toEqual([{ title: "t", labels: [label?.id] }]);
  const [plan] = await run("select data.plan('acme/crm/linked_posts', $1)->>'plan' as id", [
    { type: "object", properties: { title } },
  ]);
  await run("select data.apply($1, true)", [plan?.id]);
  expect(await rita(`select title from ${view}`)).toEqual([{ title: "t" }]);
  expect((await refusal(shown())).code).toBe("42703");
});

const entity = "posts_jsonb_kind";
test.each<[string, Record<string, unknown>, string]>([
  ["a site that is not there", { to: "ghost" }, "RH404"],
  ["the site itself", { to: "acme", role: "viewer" }, "RH404"],
  ["a role that is not there", { role: "ghost" }, "RH404"],
  ["everybody of the other site", { role: "authenticated" }, "RH404"],
  ["everybody", { role: "anonymous" }, "RH404"],
  ["a condition on accounts", { condition: { created_by: "$account.id" } }, "RH400"],
  ["a condition on a field that is not there", { condition: { ghost: 1 } }, "RH400"],
  [
    "an injection in the condition",
    { condition: { title: "'; drop table access.shares; --" }, name: "fine" },
    "",
  ],
  ["an injection in the fields", { fields: ["title', (select 1)) --"] }, "RH400"],
  ["who created a record", { fields: ["created_by"] }, "RH400"],
  ["a field twice", { fields: ["title", "title"] }, "RH400"],
  ["no field", { fields: [] }, "RH400"],
  ["a name that is none", { name: "Bad; name" }, "RH400"],
  ["a name that GraphQL could not show", { name: "a__b" }, "RH400"],
  ["a mask that is none", { masked: { title: "paint" } }, "RH400"],
  ["a mask of what is not shared", { masked: { status: "redact" } }, "RH400"],
  ["a mask of the id", { masked: { id: "null" } }, "RH400"],
  ["an injection in a mask", { masked: { title: "x') from access.shares -- {last1}" } }, ""],
  ["a time that is over", { until: "2001-01-01" }, "RH400"],
])("refused, or harmless: %s", async (_title, more, code) => {
  const outcome = await share(entity, more).then(
    () => "",
    (error: { code: string }) => error.code,
  );
  expect(outcome).toBe(code);
});

test("what is protected is shared only by its name", async () => {
  await run("select data.define_entity('acme/crm', 'persons', $1)", [
    { type: "object", properties: { name: { type: "string" }, email: { type: "string" } } },
  ]);
  await run(`select data.insert('acme/crm/persons', '{"name": "Ada", "email": "ada@x.test"}')`);
  await run(`update data.fields f set schema = f.schema || '{"x-pii": true}' where f.name = 'email'`);
  await at(
    "acme",
    "boss@acme.test",
    "select access.share('acme/crm/persons', 'beta', 'partner', name => 'acme_posts')",
  );
  await run("select access.accept_share('beta', 'acme_posts')");
  expect((await rita(`select * from ${view}`))[0]).toEqual({
    id: expect.any(String),
    name: "Ada",
    created_at: expect.anything(),
    updated_at: expect.anything(),
    version: expect.anything(),
  });
});

test("only owners and admins share; both sites see what is shared, the sharing one how", async () => {
  for (const email of ["ann@acme.test", "vic@acme.test"])
    expect(
      (await refusal(at("acme", email, `select access.share('acme/crm/${entity}', 'beta', 'partner')`))).code,
    ).toBe("RH403");
  expect(
    (
      await refusal(
        at("beta", "chief@beta.test", `select access.share('acme/crm/${entity}', 'beta', 'partner')`),
      )
    ).code,
  ).toBe("RH404");
  await share(entity);
  const [given] = await at("acme", "boss@acme.test", "select access.list_shares('acme')->'data'->0 as s");
  const [received] = await at("beta", "chief@beta.test", "select access.list_shares('beta')->'data'->0 as s");
  expect(given?.s).toMatchObject({
    direction: "given",
    to_site: "beta",
    role: "partner",
    view,
    entity: `crm/${entity}`,
    condition: { status: "published" },
  });
  expect(received?.s).toMatchObject({ direction: "received", site: "acme", view });
  expect(received?.s).not.toHaveProperty("condition");
  expect((await refusal(rita("select access.list_shares('beta')"))).code).toBe("RH403");
  const [entry] = await run(
    "select action, object from audit.entries where object like '%share%' or old::text like '%acme_posts%' or new::text like '%acme_posts%' order by at desc limit 1",
  );
  expect(entry).toBeDefined();
});

test("a site can be dropped with what it shares and what is shared with it", async () => {
  await run("select tenancy.create_site('acme', 'delta'), tenancy.create_app('delta', 'stock')");
  await run(
    'select data.define_entity(\'delta/stock\', \'things\', \'{"type": "object", "properties": {"a": {"type": "string"}}}\')',
  );
  await run(
    "select access.share('delta/stock/things', 'gamma', 'viewer'), access.share('acme/crm/posts_jsonb_kind', 'delta', 'viewer')",
  );
  await run("select tenancy.drop_site('delta', 'delta')");
  expect(
    await run("select nspname from pg_namespace where nspname in ('gamma_shared', 'delta_shared')"),
  ).toEqual([]);
});
