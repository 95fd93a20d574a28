import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { base, type Crm, startCrm } from "./harness/crm.ts";

// What was promised: that the gateway remembers how a request was opened makes nothing late that ends or changes a right.

let crm: Crm;
let vic: string;
beforeAll(async () => {
  crm = await startCrm();
  const [row] = await run("select id from auth.accounts where email = 'vic@acme.test'");
  vic = row?.id as string;
});
afterAll(() => crm.stop());

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
/** The session of a token. */
const sessionOf = (token: string) =>
  JSON.parse(Buffer.from(token.split(".")[1] as string, "base64url").toString()).sid as string;
/** Status and number of records of a list, or the code of what was refused. */
const seen = async (token: string, path = `${base}/contacts`) => {
  const { status, json } = await crm.send(path, { as: token });
  return status === 200 ? json.data.length : `${status} ${json.code}`;
};
/** A token of a new session of vic's that has opened the app twice: found, and remembered. */
const remembered = async (site: string | null = "acme") => {
  const token = await crm.gateway.token("vic@acme.test", site ?? undefined);
  expect([await seen(token), await seen(token)]).toEqual([4, 4]);
  return token;
};
/** A change that no trigger sees, as none is made but by a superuser who means to. */
async function unseen(sql: string, values: unknown[]): Promise<void> {
  const client = new pg.Client({ connectionString: crm.db.operatorUrl });
  await client.connect();
  try {
    await client.query("set session_replication_role = replica");
    expect((await client.query(sql, values)).rowCount).toBeGreaterThan(0);
  } finally {
    await client.end();
  }
}

describe.each([["acme"], [null]])("a session for %p", (site) => {
  test.each<[string, string, number | string]>([
    ["a logout", "select auth.log_out($1)", "401 session_ended"],
    [
      "an end in the table",
      "update auth.sessions set ended_at = now(), end_reason = 'logout' where id = $1",
      "401 session_ended",
    ],
    ["a shorter life", "update auth.sessions set expires_at = now() where id = $1", "401 session_ended"],
    ["being gone", "delete from auth.sessions where id = $1", "401 session_ended"],
    [
      "being for another site",
      "update auth.sessions set site_id = (select id from tenancy.sites where name = 'beta') where id = $1",
      "404 not_found",
    ],
    [
      "being of another account",
      "update auth.sessions set account_id = (select id from auth.accounts where email = 'bob@beta.test') where id = $1",
      "404 not_found",
    ],
    ["living longer", "update auth.sessions set expires_at = expires_at + interval '1 day' where id = $1", 4],
  ])("%s counts from the next request on", async (_what, sql, after) => {
    const [one, other] = [await remembered(site), await remembered(site)];
    await run(sql, [sessionOf(one)]);
    expect([await seen(one), await seen(one), await seen(other)]).toEqual([after, after, 4]);
  });
});

test("it is remembered: what nobody counted is not seen until something is", async () => {
  const token = await remembered();
  await unseen("update auth.sessions set ended_at = now(), end_reason = 'logout' where id = $1", [
    sessionOf(token),
  ]);
  expect(await seen(token)).toBe(4);
  await run(
    "select access.count_change(site_id, account_id) from tenancy.site_members where account_id = $1",
    [vic],
  );
  expect(await seen(token)).toBe("401 session_ended");
});

test("what was remembered is not believed of a database that was restored, however much has changed since", async () => {
  const token = await crm.gateway.token("vic@acme.test", "acme");
  const marks = () => run("select coalesce(jsonb_agg(c), '[]')::text as marks from access.role_changes c");
  await run("select access.revoke_role('acme', 'vic@acme.test', 'viewer')");
  expect([await seen(token), await seen(token)]).toEqual([0, 0]);
  const [before] = await marks();
  await run("select access.assign_role('acme', 'vic@acme.test', 'viewer')");
  expect([await seen(token), await seen(token)]).toEqual([4, 4]);
  await unseen("delete from access.assignments where account_id = $1", [vic]);
  await unseen("delete from access.role_changes where $1::text is not null", [vic]);
  await unseen(
    "insert into access.role_changes select * from jsonb_populate_recordset(null::access.role_changes, $1)",
    [before?.marks],
  );
  await run(
    "select access.count_change(site_id, account_id) from tenancy.site_members where account_id = $1",
    [vic],
  );
  expect([await seen(token), await seen(token)]).toEqual([0, 0]);
  await run("select access.assign_role('acme', 'vic@acme.test', 'viewer')");
});

test("a session ends by its time, with nobody changing anything", async () => {
  const token = await crm.gateway.token("vic@acme.test", "acme");
  // Again with more time where the machine was too slow to see it live.
  for (let seconds = 1; ; seconds *= 4) {
    await run("update auth.sessions set expires_at = now() + $2 * interval '1 s' where id = $1", [
      sessionOf(token),
      seconds,
    ]);
    const lived = [await seen(token), await seen(token)];
    await new Promise((done) => setTimeout(done, seconds * 1_000 + 100));
    expect(await seen(token)).toBe("401 session_ended");
    if (lived.every((n) => n === 4) || seconds > 20) {
      expect(lived).toEqual([4, 4]);
      return;
    }
  }
});

test("membership, roles and a deleted account count from the next request on", async () => {
  const token = await remembered();
  await run("select access.revoke_role('acme', 'vic@acme.test', 'viewer')");
  expect(await seen(token)).toBe(0);
  await run("select access.assign_role('acme', 'vic@acme.test', 'viewer')");
  expect([await seen(token), await seen(token)]).toEqual([4, 4]);
  await run("select tenancy.remove_member('acme', 'vic@acme.test')");
  expect(await seen(token)).toBe("404 not_found");
  await run("select tenancy.add_member('acme', 'vic@acme.test', 'viewer')");
  expect([await seen(token), await seen(token)]).toEqual([4, 4]);
  const eve = await crm.gateway.token("eve@both.test");
  expect([await seen(eve), await seen(eve)]).toEqual([4, 4]);
  await run("update auth.accounts set deleted_at = now() where email = 'eve@both.test'");
  expect(await seen(eve)).toBe("401 session_ended");
});

const role = (permissions: string[]) =>
  run("select access.define_role('acme', $1)", [{ name: "some", permissions }]);

test("what a role permits counts from the next request on, by whatever name it says the entity", async () => {
  await run("select access.revoke_role('acme', 'vic@acme.test', 'viewer')");
  await role([]);
  await run("select access.assign_role('acme', 'vic@acme.test', 'some')");
  const token = await crm.gateway.token("vic@acme.test", "acme");
  const write = async () =>
    (await crm.send(`${base}/contacts`, { method: "POST", as: token, body: { name: "Twice" } })).status;
  for (const [permission, reads, writes] of [
    ["*:*", 4, 201],
    ["contacts:read", 4, 403],
    ["companies:read", 0, 403],
    ["crm/contacts:read", 4, 403],
    ["crm/contacts:create", 0, 201],
    ["crm/*:read", 4, 403],
    ["crm/companies:*", 0, 403],
    ["contacts:*", 4, 201],
    ["*:create", 0, 201],
    ["*:update", 0, 403],
    ["other/*:read", 0, 403],
    ["crm/contact:read", 0, 403],
  ] as const) {
    await role([permission]);
    for (let time = 0; time < 2; time++) {
      expect([permission, await seen(token), await write()]).toEqual([permission, reads, writes]);
      await run("delete from acme_crm.contacts where name = 'Twice'");
    }
  }
  // Straight in the tables, too.
  await role(["crm/contacts:read"]);
  expect([await seen(token), await seen(token)]).toEqual([4, 4]);
  await run(
    "delete from access.permissions p using access.roles r where r.id = p.role_id and r.name = 'some'",
  );
  expect(await seen(token)).toBe(0);
});

test("more rights than are kept are asked of the tables", async () => {
  const token = await crm.gateway.token("vic@acme.test", "acme");
  const many = Array.from({ length: 200 }, (_, n) => `entity_with_a_long_name_${n}:read`);
  const kept = async () =>
    (
      await run(
        `select length(access.plain_rights(r.site_id, access.roles_of(r.site_id, r.account_id))) as n
         from tenancy.open_requests r where r.session_id = $1 and r.app_name = 'crm'`,
        [sessionOf(token)],
      )
    )[0]?.n;
  await role([...many.slice(0, 20), "contacts:read"]);
  expect([await seen(token), await seen(token), typeof (await kept())]).toEqual([4, 4, "number"]);
  await role([...many, "contacts:read"]);
  expect([await seen(token), await seen(token), await kept()]).toEqual([4, 4, null]);
  await role(many);
  expect([await seen(token), await seen(token)]).toEqual([0, 0]);
});

test("attributes count from the next request on, also those that are too long to be kept", async () => {
  await run("select access.set_attribute_schema('acme', $1)", [
    { type: "object", properties: { city: { type: "string" }, notes: { type: "string" } } },
  ]);
  await run("select data.define_entity('acme/crm', 'shops', $1)", [
    { type: "object", properties: { name: { type: "string" }, city: { type: "string" } } },
  ]);
  await run("select data.insert('acme/crm/shops', $1)", [
    JSON.stringify(["Oslo", "Oslo", "Bergen"].map((city) => ({ name: "x", city }))),
  ]);
  await run("select access.define_role('acme', $1)", [
    {
      name: "some",
      permissions: [
        { permission: "crm/shops:read", condition: { city: "$account.attributes.city" } },
        { permission: "crm/shops:update", condition: { "$account.attributes.city": "Bergen" } },
      ],
    },
  ]);
  const set = (attributes: object) =>
    run("select access.set_attributes('acme', 'vic@acme.test', $1)", [attributes]);
  const token = await crm.gateway.token("vic@acme.test", "acme");
  const shops = () => seen(token, `${base}/shops`);
  for (const [attributes, count] of [
    [{ city: "Oslo" }, 2],
    [{ city: "Bergen" }, 1],
    [{}, 0],
    [{ city: "Oslo", notes: "n".repeat(2_000) }, 2],
    [{ city: "Bergen", notes: "n".repeat(2_000) }, 1],
  ] as const) {
    await set(attributes);
    expect([attributes, await shops(), await shops()]).toEqual([attributes, count, count]);
  }
  await run("delete from access.account_attributes");
  expect([await shops(), await shops()]).toEqual([0, 0]);
});

test("rights of the caller are not those of whom an explanation is about", async () => {
  const token = await crm.gateway.token("ann@acme.test", "acme");
  const explain = async (email: string) => {
    const query = new URLSearchParams({ account: email, entity: "crm/contacts", action: "read" });
    return (await crm.send(`/api/v1/sites/acme/access/explain?${query}`, { as: token })).json as unknown as {
      outcome: string;
    };
  };
  await run("select access.define_role('acme', $1)", [{ name: "asker", permissions: ["@policies:define"] }]);
  await run("select access.assign_role('acme', 'ann@acme.test', 'asker')");
  await role([]);
  for (let time = 0; time < 2; time++) {
    expect(await seen(token)).toBe(4);
    expect([await explain("vic@acme.test"), await explain("ann@acme.test")]).toMatchObject([
      { outcome: "deny" },
      { outcome: "allow" },
    ]);
  }
  await run("select access.assign_role('acme', 'vic@acme.test', 'viewer')");
});

test("rights that are kept for one site say nothing of another, where one asks about it", async () => {
  const two = await crm.db.account("two@both.test");
  for (const name of ["acme", "beta"])
    await run("select tenancy.add_member($1, 'two@both.test', 'viewer')", [name]);
  const client = new pg.Client({ connectionString: crm.db.gatewayUrl });
  await client.connect();
  try {
    await client.query("begin");
    await client.query(
      `select set_config('rowhouse.account', $1, true), set_config('rowhouse.site', $2, true),
         set_config('rowhouse.roles', '{}', true), set_config('rowhouse.rights', ' *:delete *:read ', true),
         set_config('role', 'rowhouse_account', true)`,
      [two, crm.ids.acme],
    );
    const asked = async (site: string) =>
      (
        await client.query("select access.allows_each($1, $2) #>> '{data,0,allowed}' as allowed", [
          site,
          JSON.stringify([{ entity: "crm/contacts", action: "delete" }]),
        ])
      ).rows[0].allowed;
    expect(await asked("acme")).toBe("true");
    await expect(asked("beta")).rejects.toMatchObject({ code: "RH404" });
  } finally {
    await client.end();
  }
});

test("another definition, an app and a site that are dropped and made again", async () => {
  const token = await remembered(null);
  const path = "/api/v1/sites/short/apps/crm/notes";
  const make = async (title: string) => {
    await run("select tenancy.create_site('acme', 'short'), tenancy.create_app('short', 'crm')");
    await run("select tenancy.add_member('short', 'vic@acme.test', 'viewer')");
    await run("select data.define_entity('short/crm', 'notes', $1)", [
      { type: "object", properties: { [title]: { type: "string" } } },
    ]);
    await run("select data.insert('short/crm/notes', $1)", [{ [title]: "x" }]);
  };
  const titles = async () => Object.keys((await crm.send(path, { as: token })).json.data?.[0] ?? {});
  await make("first");
  for (let time = 0; time < 2; time++) expect(await titles()).toContain("first");
  await run("select data.define_entity('short/crm', 'notes', $1)", [
    { type: "object", properties: { first: { type: "string" }, second: { type: "string" } } },
  ]);
  for (let time = 0; time < 2; time++) expect(await titles()).toContain("second");
  await run("select tenancy.drop_app('short/crm', 'short/crm')");
  expect(await seen(token, path)).toBe("404 not_found");
  await run("select tenancy.drop_site('short', 'short')");
  expect(await seen(token, path)).toBe("404 not_found");
  await make("third");
  for (let time = 0; time < 2; time++) expect(await titles()).toContain("third");
  expect(await seen(token)).toBe(4);
});

test("a change that is not committed changes nothing, and one that is counts for all that is under way", async () => {
  const token = await remembered();
  const client = new pg.Client({ connectionString: crm.db.operatorUrl });
  await client.connect();
  try {
    await client.query("set lock_timeout = '2s'; begin");
    await client.query("select auth.log_out($1)", [sessionOf(token)]);
    expect([await seen(token), await seen(await crm.gateway.token("vic@acme.test", "acme"))]).toEqual([4, 4]);
    await client.query("commit");
    expect(await Promise.all([seen(token), seen(token), seen(token)])).toEqual(
      Array(3).fill("401 session_ended"),
    );
  } finally {
    await client.end();
  }
});

test("a write is made once, also where it finds out that it was opened too long ago", async () => {
  const token = await crm.gateway.token("ann@acme.test", "acme");
  const write = (name: string) => crm.send(`${base}/contacts`, { method: "POST", as: token, body: { name } });
  for (const name of ["once 1", "once 2"]) expect((await write(name)).status).toBe(201);
  await run("select access.assign_role('acme', 'ann@acme.test', 'viewer')");
  expect((await write("once 3")).status).toBe(201);
  const rows = await run("select name from acme_crm.contacts where name like 'once %' order by name");
  expect(rows.map(({ name }) => name)).toEqual(["once 1", "once 2", "once 3"]);
  await run("delete from acme_crm.contacts where name like 'once %'");
});

test.each([
  "select * from access.counted_changes",
  "select * from access.change_count(uuidv7(), uuidv7())",
  "select access.count_change(uuidv7(), uuidv7())",
  "select access.plain_rights(uuidv7(), '{}')",
  "select access.kept_attributes(uuidv7(), uuidv7())",
])("a member may not: %s", async (sql) => {
  for (const email of ["vic@acme.test", "ann@acme.test"])
    await expect(crm.db.as("acme", email, (client) => client.query(sql))).rejects.toMatchObject({
      code: "42501",
    });
});
