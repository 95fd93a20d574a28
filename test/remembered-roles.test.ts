import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import pg from "pg";
import { base, type Crm, startCrm } from "./harness/crm.ts";

// What a site's administrator was promised: that a request need not look for roles anew does not make a revocation late.

let crm: Crm;
let site: string;
let vic: string;
let session: pg.Client; // of vic, by psql, all the time
beforeAll(async () => {
  crm = await startCrm();
  session = new pg.Client({ connectionString: crm.db.operatorUrl });
  await session.connect();
  await session.query("call tenancy.enter('acme', 'vic@acme.test')");
  site = crm.ids.acme as string;
  [{ id: vic }] = (await run("select id from auth.accounts where email = 'vic@acme.test'")) as [
    { id: string },
  ];
  await run("select access.define_role('acme', $1)", [{ name: "base", permissions: ["crm/*:read"] }]);
  await run("select access.define_role('acme', $1)", [
    { name: "upper", permissions: [], inherits: ["base"] },
  ]);
  await run(
    "select access.create_group('acme', 'crew'), access.add_to_group('acme', 'crew', 'vic@acme.test')",
  );
});
afterAll(async () => {
  await session.end();
  await crm.stop();
});
beforeEach(() => run("delete from access.assignments where account_id = $1 or group_id is not null", [vic]));

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
/** How many records vic sees over REST, or the status. */
const seen = async () => {
  const { status, json } = await crm.send(`${base}/contacts`, { as: "vic" });
  return status === 200 ? json.data.length : status;
};
/** How many the psql session sees. */
const seenInPsql = async () =>
  (await session.query("select count(*)::int as n from acme_crm.contacts")).rows[0].n;
/** The roles a request opens with are those that the tables say, twice: found and remembered; tells whether they were remembered. */
const remembered = async () => {
  let kept = "";
  for (let time = 0; time < 2; time++) {
    const [row] = await run(
      `select coalesce(r.held_role_ids, access.remember_roles(r.site_id, r.account_id)) @> f.roles
          and coalesce(r.held_role_ids, access.remember_roles(r.site_id, r.account_id)) <@ f.roles as same,
         r.held_role_ids is not null as kept
       from tenancy.open_requests r, access.roles_of(r.site_id, r.account_id) f (roles)
       where r.account_id = $1 and r.site_id = $2 limit 1`,
      [vic, site],
    );
    expect(row?.same).toBe(true);
    kept += row?.kept ? "y" : "n";
  }
  return kept;
};

test.each<[string, string[], number, string[], number]>([
  [
    "a role",
    ["select access.assign_role('acme', 'vic@acme.test', 'base')"],
    4,
    ["select access.revoke_role('acme', 'vic@acme.test', 'base')"],
    0,
  ],
  [
    "a group's role",
    ["select access.assign_role_to_group('acme', 'crew', 'base')"],
    4,
    ["select access.remove_from_group('acme', 'crew', 'vic@acme.test')"],
    0,
  ],
  [
    "being in a group",
    [
      "select access.assign_role_to_group('acme', 'crew', 'base')",
      "select access.add_to_group('acme', 'crew', 'vic@acme.test')",
    ],
    4,
    ["select access.revoke_role_from_group('acme', 'crew', 'base')"],
    0,
  ],
  [
    "what a role inherits",
    ["select access.assign_role('acme', 'vic@acme.test', 'upper')"],
    4,
    [`select access.define_role('acme', '{"name": "upper", "permissions": [], "inherits": []}')`],
    0,
  ],
  [
    "a role that is dropped",
    [
      `select access.define_role('acme', '{"name": "short", "permissions": ["crm/*:read"]}')`,
      "select access.assign_role('acme', 'vic@acme.test', 'short')",
    ],
    4,
    ["select access.drop_role('acme', 'short')"],
    0,
  ],
  [
    "a role given straight into the table",
    [
      `insert into access.assignments (site_id, account_id, role_id)
       select r.site_id, a.id, r.id from access.roles r, auth.accounts a where r.name = 'base' and a.email = 'vic@acme.test'`,
    ],
    4,
    ["delete from access.assignments a using access.roles r where r.id = a.role_id and r.name = 'base'"],
    0,
  ],
])("%s counts from the next request on, and not after", async (_what, give, with_it, take, without) => {
  expect([await seen(), await seenInPsql()]).toEqual([0, 0]);
  expect(await remembered()).toMatch(/.y/);
  for (const sql of give) await run(sql);
  expect([await seenInPsql(), await seen(), await seenInPsql()]).toEqual([with_it, with_it, with_it]);
  expect(await remembered()).toBe("yy");
  for (const sql of take) await run(sql);
  expect([await seenInPsql(), await seen()]).toEqual([without, without]);
  expect(await remembered()).toBe("yy");
});

test("a validity begins and ends with nobody changing anything", async () => {
  // Again with more time where the machine was too slow to see each state.
  const counts: unknown[] = [];
  for (let seconds = 1; seconds < 20 && counts.length < 3; seconds *= 4) {
    await run(
      "select access.assign_role('acme', 'vic@acme.test', 'base', now() + $1 * interval '1 s', now() + $1 * interval '2 s')",
      [seconds],
    );
    counts.splice(0);
    for (const end = Date.now() + seconds * 2_000 + 200; Date.now() < end || counts.at(-1) !== 0; ) {
      const count = await seen();
      if (count !== counts.at(-1)) counts.push(count);
      if (counts.length === 1) expect(await remembered()).toMatch(/.y/); // n where it has just begun
      await new Promise((done) => setTimeout(done, 20));
    }
  }
  expect(counts).toEqual([0, 4, 0]);
});

test("what hangs on a condition or a delegator is not remembered", async () => {
  expect(await remembered()).toMatch(/.y/);
  await run(
    `select access.assign_role('acme', 'vic@acme.test', 'base', condition => '{"$account.email": "vic@acme.test"}')`,
  );
  expect([await seen(), await remembered()]).toEqual([4, "nn"]);
});

test("a change that is under way while roles are remembered is not missed, and nobody waits for another", async () => {
  await run("select access.assign_role('acme', 'vic@acme.test', 'base')");
  const clients = [1, 2].map(() => new pg.Client({ connectionString: crm.db.operatorUrl }));
  for (const client of clients) {
    await client.connect();
    await client.query("set lock_timeout = '2s'; begin");
  }
  const [one, other] = clients as [pg.Client, pg.Client];
  try {
    await one.query("select access.revoke_role('acme', 'vic@acme.test', 'base')");
    await other.query("select access.assign_role('acme', 'ann@acme.test', 'base')");
    expect([await seen(), await remembered()]).toEqual([4, "yy"]); // by what is committed
    await other.query("commit");
    expect([await seen(), await remembered()]).toEqual([4, "yy"]);
    await one.query("commit");
    expect(await seen()).toBe(0);
  } finally {
    for (const client of clients) await client.end();
  }
});

test.each([
  "select * from access.remembered_roles",
  "select * from access.role_changes",
  "update access.remembered_roles set role_ids = '{}'",
  "delete from access.role_changes",
  "select access.remember_roles(uuidv7(), uuidv7())",
  "select * from access.known_roles",
  "select held_role_ids from tenancy.open_requests",
])("a member may not: %s", async (sql) => {
  for (const email of ["vic@acme.test", "ann@acme.test", "bob@beta.test"]) {
    const refused = crm.db.as(email.includes("acme") ? "acme" : "beta", email, (client) => client.query(sql));
    await expect(refused).rejects.toMatchObject({ code: "42501" });
  }
});

test("a transaction of psql goes by the roles that it gave itself, and keeps none that it took back", async () => {
  const client = new pg.Client({ connectionString: crm.db.operatorUrl });
  await client.connect();
  const enterAndCount = async () => {
    await client.query("call tenancy.enter('acme', 'vic@acme.test')");
    const { rows } = await client.query("select count(*)::int as n from acme_crm.contacts");
    await client.query("call tenancy.leave()");
    return rows[0].n;
  };
  await client.query("begin");
  await client.query("select access.assign_role('acme', 'vic@acme.test', 'base')");
  expect(await enterAndCount()).toBe(4);
  expect([await seen(), await seenInPsql()]).toEqual([0, 0]);
  await client.query("rollback");
  expect([await enterAndCount(), await seen(), await seenInPsql()]).toEqual([0, 0, 0]);
  await client.end();
});

test("who is no member any more has nothing remembered", async () => {
  await run("select access.assign_role('acme', 'vic@acme.test', 'base')");
  expect([await seen(), await remembered()]).toEqual([4, "yy"]);
  const known = () =>
    run("select role_ids from access.known_roles where account_id = $1 and site_id = $2", [vic, site]);
  expect(await known()).toHaveLength(1);
  await run("delete from tenancy.site_members where account_id = $1 and site_id = $2", [vic, site]);
  expect(await known()).toEqual([]);
  expect(
    await run(
      "select array(select r.name from access.roles r where r.id = any (access.remember_roles($1, $2))) as roles",
      [site, vic],
    ),
  ).toEqual([{ roles: ["anonymous"] }]);
  expect(await seen()).toBe(404);
  await run("select tenancy.add_member('acme', 'vic@acme.test', 'viewer')");
  expect([await seen(), await remembered()]).toEqual([4, "yy"]);
});

test("what others are given, and another site's changes, leave what is remembered alone; a dropped site leaves nothing", async () => {
  await remembered();
  await run("select access.revoke_role('acme', 'ann@acme.test', 'base')");
  await run("select access.assign_role('acme', 'ann@acme.test', 'base')");
  expect(await remembered()).toBe("yy");
  await run("select tenancy.create_site('acme', 'gone')");
  await run(
    "select tenancy.create_app('gone', 'crm'), tenancy.add_member('gone', 'vic@acme.test', 'viewer')",
  );
  const [gone] = await run("select id from tenancy.sites where name = 'gone'");
  await run("select access.remember_roles($1, $2)", [gone?.id, vic]);
  expect(await remembered()).toBe("yy");
  await run("select tenancy.drop_site('gone', 'gone')");
  expect(
    await run(
      "select from access.role_changes where site_id = $1 union all select from access.remembered_roles where site_id = $1",
      [gone?.id],
    ),
  ).toEqual([]);
  expect(await remembered()).toBe("yy");
});
