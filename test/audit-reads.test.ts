import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, type Call, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// Who has seen a record: of an entity whose reads are recorded, whatever the door, and across sites.

type Entry = Record<string, unknown> & { action: string; account: string; new: Record<string, unknown> };
type Page = { data: Entry[]; meta: { next_cursor: string | null } };

let crm: Crm;
let gateway: TestGateway;
let id = "";
let other = "";
let gone = "";
const object = "acme/crm/dossiers";
const path = "/api/v1/sites/acme/apps/crm/dossiers";
const log = "/api/v1/sites/acme/audit";
const send = (to: string, call?: Call): Promise<Answer> => sendTo(gateway, crm.tokens, to, call);
const graphql = (query: string) =>
  send("/api/v1/sites/acme/apps/crm/graphql", { method: "POST", body: { query } });
const psql = (sql: string, values: unknown[] = [], email = "ann@acme.test", site = "acme") =>
  crm.db.as(site, email, (client) => client.query(sql, values).then(({ rows }) => rows));
const search = async (query: object, site = "acme"): Promise<Entry[]> => {
  const [row] = await crm.db.query<{ r: Page }>("select audit.search($1, $2) as r", [
    site,
    { object, limit: "1000", ...query },
  ]);
  return (row as { r: Page }).r.data;
};
const latest = async (query: object = {}) => (await search(query))[0];
const count = async (query: object = {}) => (await search(query)).length;
const long_ago = "2020-01-01T00:00:00Z";

beforeAll(async () => {
  crm = await startCrm();
  gateway = await startGateway(crm.db, {}, 5, true);
  for (const email of ["own@acme.test", "chief@beta.test"]) await crm.db.account(email);
  await crm.db.query(`select tenancy.add_member('acme', 'own@acme.test', 'admin'), tenancy.set_member_role('acme', 'own@acme.test', 'owner'),
    tenancy.add_organization_member('acme', 'own@acme.test', 'owner'), tenancy.add_member('beta', 'chief@beta.test', 'admin'),
    tenancy.set_member_role('beta', 'chief@beta.test', 'owner'), tenancy.add_organization_member('beta', 'chief@beta.test', 'owner')`);
  await crm.db.query("select data.define_entity('acme/crm', 'dossiers', $1)", [
    {
      type: "object",
      "x-audit": { reads: true },
      "x-history": true,
      "x-soft-delete": true,
      properties: { name: { type: "string" }, ward: { type: "string", "x-index": true } },
    },
  ]);
  const make = async (name: string) => (await send(path, { method: "POST", body: { name } })).json.id;
  id = await make("Ada");
  other = await make("Bea");
  gone = await make("Cyd");
  await send(`${path}/${id}`, { method: "PATCH", body: { ward: "A" } });
  await send(`${path}/${gone}`, { method: "DELETE" });
  crm.tokens.own = await gateway.token("own@acme.test", "acme");
  crm.tokens.own_everywhere = await gateway.token("own@acme.test");
  crm.tokens.chief = await gateway.token("chief@beta.test", "beta");
  crm.tokens.chief_everywhere = await gateway.token("chief@beta.test");
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

describe("what is kept of records", () => {
  const now = () => new Date().toISOString();
  test.each<[door: string, read: () => Promise<unknown>, of: string, is: () => string | null]>([
    ["a history over REST", () => send(`${path}/${id}/history`), "history", () => id],
    ["of a deleted record", () => send(`${path}/${gone}/history`), "history", () => gone],
    ["in SQL", () => psql("select data.history($1, $2)", [object, id]), "history", () => id],
    [
      "by the function",
      () => psql(`select acme_crm.dossiers_history('${id}', 10, null)`),
      "history",
      () => id,
    ],
    ["over GraphQL", () => graphql(`{ dossierHistory(id: "${id}") { version } }`), "history", () => id],
    ["a record as it was, over REST", () => send(`${path}/${id}?as_of=${now()}`), "as_of", () => id],
    ["in SQL", () => psql("select data.get($1, $2, $3)", [object, id, { as_of: now() }]), "as_of", () => id],
    [
      "by the function",
      () => psql(`select * from acme_crm.dossiers_as_of('${id}', now())`),
      "as_of",
      () => id,
    ],
    [
      "over GraphQL",
      () => graphql(`{ dossierAsOf(id: "${id}", at: "${now()}") { name } }`),
      "as_of",
      () => id,
    ],
    ["a list as it was, over REST", () => send(`${path}?as_of=${now()}`), "as_of", () => null],
    ["in SQL", () => psql("select data.find($1, $2)", [object, { as_of: now() }]), "as_of", () => null],
    ["by the function", () => psql("select * from acme_crm.dossiers_as_of(now())"), "as_of", () => null],
    [
      "over GraphQL",
      () => graphql(`{ dossiersAsOf(at: "${now()}") { nodes { name } } }`),
      "as_of",
      () => null,
    ],
    ["former states in psql", () => psql("select * from acme_crm.dossiers__former"), "as_of", () => null],
    ["deleted ones over REST", () => send(`${path}?deleted=only`), "deleted", () => null],
    ["in SQL", () => psql("select data.find($1, $2)", [object, { deleted: "only" }]), "deleted", () => null],
    ["in psql", () => psql("select * from acme_crm.dossiers__deleted"), "deleted", () => null],
    ["over GraphQL", () => graphql("{ deletedDossiers { nodes { name } } }"), "deleted", () => null],
  ])("%s is recorded", async (_door, read, of, is) => {
    const which = { action: "read", ...(is() ? { seen: is() } : {}) };
    const before = (await search(which)).filter((entry) => entry.new.of === of).length;
    const answer = (await read()) as Answer;
    if ("status" in answer) expect([answer.status, answer.text.includes("errors")]).toEqual([200, false]);
    const after = (await search(which)).filter((entry) => entry.new.of === of);
    expect(after.length).toBeGreaterThan(before);
    expect(after[0]).toMatchObject({ account: "ann@acme.test", record: is() });
  });

  test("what nobody saw is not recorded as seen", async () => {
    const ghost = "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b";
    expect((await send(`${path}/${ghost}/history`)).status).toBe(404);
    expect((await send(`${path}/${ghost}`)).status).toBe(404);
    expect((await send(`${path}/${id}?as_of=${long_ago}`)).status).toBe(404);
    expect(await count({ seen: ghost })).toBe(0);
  });

  test.each([
    "select * from acme_crm.dossiers__deleted",
    "select acme_crm.dossiers_history('$ID', 10, null)",
    "select * from acme_crm.dossiers_as_of('$ID', now())",
    "select * from acme_crm.dossiers__former",
  ])("one who cannot be recorded cannot read: %s", async (sql) => {
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query("begin read only");
      const read = client.query(sql.replace("$ID", id)).finally(() => client.query("rollback"));
      expect(await refusal(read)).toMatchObject({ code: "RH403", detail: { code: "read_only" } });
    });
  });
});

describe("who has seen a record", () => {
  test.each<[door: string, read: () => Promise<unknown>, of: string, ids: () => string[]]>([
    ["a list", () => send(`${path}?sort=name`), "list", () => [id, other]],
    ["a page of it", () => send(`${path}?sort=name&limit=1&offset=1`), "list", () => [other]],
    [
      "with other fields than the id",
      () => send(`${path}?select=name&sort=-name`),
      "list",
      () => [other, id],
    ],
    ["a record", () => send(`${path}/${id}?select=name`), "record", () => [id]],
    [
      "data.find",
      () => psql("select data.find($1, $2)", [object, { sort: [{ field: "name" }] }]),
      "list",
      () => [id, other],
    ],
    ["data.get", () => psql("select data.get($1, $2)", [object, other]), "record", () => [other]],
    ["deleted ones", () => send(`${path}?deleted=only`), "deleted", () => [gone]],
    [
      "former ones",
      () => send(`${path}?as_of=${new Date().toISOString()}&sort=name`),
      "as_of",
      () => [id, other],
    ],
  ])("%s tells the ids of its page", async (_door, read, of, ids) => {
    await read();
    expect(await latest({ action: "seen" })).toMatchObject({
      account: "ann@acme.test",
      record: ids().length === 1 ? ids()[0] : null,
      new: { of, records: ids() },
    });
  });

  test("an empty page tells nothing, and the longest page all of it", async () => {
    const before = await count({ action: "seen" });
    await send(`${path}?filter=${encodeURIComponent('{"name": "nobody"}')}`);
    expect(await count({ action: "seen" })).toBe(before);
    await crm.db.query("select data.insert($1, $2, false)", [
      object,
      JSON.stringify(Array.from({ length: 1_200 }, (_, n) => ({ name: `z${n}` }))),
    ]);
    await send(`${path}?limit=1000`);
    expect((await latest({ action: "seen" }))?.new.records).toHaveLength(1_000);
    await crm.db.query("delete from acme_crm.dossiers where name like 'z%'");
  });

  test("is answered over REST, GraphQL and SQL alike, and only to those who may read the log", async () => {
    await send(`${path}/${other}`, { as: "vic" });
    const seen = await search({ seen: other });
    expect(seen.map((entry) => entry.account)).toEqual(
      expect.arrayContaining(["vic@acme.test", "ann@acme.test"]),
    );
    expect(seen.every((entry) => (entry.new.records as string[]).includes(other))).toBe(true);
    const rest = await send(`${log}?object=${object}&limit=1000&seen=${other}`, { as: "own" });
    expect((rest.json as unknown as Page).data.map((entry) => entry.id)).toEqual(
      seen.map((entry) => entry.id),
    );
    const query = `{ auditLog(site: "acme", query: {seen: "${other}", object: "${object}", limit: 1000}) }`;
    const asked = await send("/graphql", { method: "POST", as: "own", body: { query } });
    const { data } = JSON.parse(asked.text) as { data: { auditLog: Page } };
    expect(data.auditLog.data.map((entry) => entry.id)).toEqual(seen.map((entry) => entry.id));
    for (const [as, status] of [
      ["ann", 403],
      ["vic", 403],
      ["bob", 404],
      ["chief", 404],
    ] as const)
      expect((await send(`${log}?seen=${other}`, { as })).status).toBe(status);
    for (const bad of ["x", "' or true --", "%00"])
      expect((await send(`${log}?seen=${encodeURIComponent(bad)}`, { as: "own" })).status).toBe(400);
    expect((await send(`/api/v1/sites/beta/audit?seen=${other}`, { as: "chief" })).json.data).toEqual([]);
  });

  test("is found by an index among many entries", async () => {
    await crm.db.query(`insert into audit.entries (site_id, keep, env, action, object, new)
      select s.id, 12, '{}', 'seen', '${object}', jsonb_build_object('of', 'list', 'records', (select jsonb_agg(uuidv7()) from generate_series(1, 20) where n > 0))
      from tenancy.sites s, generate_series(1, 5000) n where s.name = 'acme'`);
    await crm.db.query("analyze audit.entries");
    const client = await crm.db.pool.connect();
    const scans = async () => {
      await client.query("select pg_stat_force_next_flush()");
      const { rows } = await client.query<{ n: number }>(`select sum(s.idx_scan)::int as n
        from pg_stat_all_indexes s join pg_indexes i on i.schemaname = s.schemaname and i.indexname = s.indexrelname
        where s.schemaname = 'audit' and i.indexdef like '%jsonb_path_ops%'`);
      return rows[0]?.n ?? 0;
    };
    try {
      const before = await scans();
      const found = await client.query("select audit.search('acme', $1)->'data' as d", [{ seen: other }]);
      expect(found.rows[0].d.length).toBeGreaterThan(0);
      await client.query("select pg_stat_clear_snapshot()");
      expect(await scans()).toBeGreaterThan(before);
    } finally {
      client.release();
    }
  });

  test("nobody notes what records of another site were seen", async () => {
    const [entity] = await crm.db.query<{ id: string }>(
      "select id from data.entities where name = 'dossiers'",
    );
    const before = await count();
    await psql(
      "select audit.note_seen($1, array[uuidv7()], 'list'), audit.note_kept($1, 'history')",
      [entity?.id],
      "bob@beta.test",
      "beta",
    ).catch(() => {});
    expect(await count()).toBe(before);
    expect((await refusal(psql("select audit.note_access($1, 'read', '{}')", [entity?.id]))).code).toBe(
      "42501",
    );
  });

  test("what GraphQL asked for is known", async () => {
    await graphql(`{ dossier(id: "${other}") { name } }`);
    const [entry] = await search({ action: "read" });
    expect(entry?.request).toContain(other);
  });
});

describe("across sites", () => {
  const shared = "/api/v1/sites/beta/apps/crm/received-shares/dossiers";
  beforeAll(async () => {
    await crm.db.query(
      "select access.create_role('beta', 'partner', '{}'), access.assign_role('beta', 'bob@beta.test', 'partner')",
    );
    await psql(
      "select access.share('acme/crm/dossiers', 'beta', 'partner', fields => '{name}', name => 'dossiers')",
      [],
      "own@acme.test",
    );
    await psql("select access.accept_share('beta', 'dossiers')", [], "chief@beta.test", "beta");
  });

  test.each<[door: string, read: () => Promise<unknown>, ids: () => string[] | null]>([
    ["a list", () => send(`${shared}?sort=name`, { as: "bob" }), () => [id, other]],
    ["a record", () => send(`${shared}/${id}`, { as: "bob" }), () => [id]],
    ["an aggregate", () => send(`${shared}/aggregate`, { as: "bob" }), () => null],
    ["psql", () => psql("select name from beta_shared.dossiers", [], "bob@beta.test", "beta"), () => null],
    [
      "GraphQL",
      () =>
        send("/api/v1/sites/beta/apps/crm/graphql", {
          method: "POST",
          as: "bob",
          body: { query: "{ sharedDossiers(orderBy: NAME_ASC) { nodes { name } } }" },
        }),
      () => [id, other],
    ],
  ])("the giver's log tells who, of which site, read what: %s", async (_door, read, ids) => {
    const before = await count({ action: "read", account: "bob@beta.test" });
    const answer = (await read()) as Answer;
    if ("status" in answer) expect([answer.status, answer.text.includes("errors")]).toEqual([200, false]);
    const by = { account: "bob@beta.test", new: { share: "dossiers", site: "beta" } };
    expect(await count({ action: "read", account: "bob@beta.test" })).toBeGreaterThan(before);
    expect(await latest({ action: "read" })).toMatchObject(by);
    if (ids())
      expect(await latest({ action: "seen" })).toMatchObject({ ...by, new: { ...by.new, records: ids() } });
    expect(await count({ site: undefined } as object)).toBeGreaterThan(0);
    expect(await search({}, "beta")).toEqual([]);
  });

  test("a read that cannot be recorded is refused, one by who does not hold the role is none", async () => {
    await crm.db.as("beta", "bob@beta.test", async (client) => {
      await client.query("begin read only");
      const read = client.query("select * from beta_shared.dossiers").finally(() => client.query("rollback"));
      expect(await refusal(read)).toMatchObject({ code: "RH403" });
    });
    const before = await count();
    expect(await psql("select * from beta_shared.dossiers", [], "eve@both.test", "beta")).toEqual([]);
    const [share] = await crm.db.query("select id from access.shares");
    await psql(
      "select audit.note_share($1, 'seen', array[uuidv7()], 'x')",
      [share?.id],
      "eve@both.test",
      "beta",
    ).catch(() => {});
    expect(await count()).toBe(before);
  });

  test("granting, accepting and revoking are in both logs", async () => {
    await psql("select access.revoke_share('acme', 'beta', 'dossiers')", [], "own@acme.test");
    const changes = await search({ object: "access.shares" });
    expect(changes.map(({ action, account }) => `${action} ${account}`)).toEqual([
      "delete own@acme.test",
      "update chief@beta.test",
      "create own@acme.test",
    ]);
    expect(await search({ object: "access.shares" }, "beta")).toMatchObject([
      { action: "accept", account: "chief@beta.test", new: { name: "dossiers", from: "acme" } },
    ]);
  });
});

describe("over all sites of an organization", () => {
  const everywhere = "/api/v1/organizations/acme/audit";
  beforeAll(async () => {
    await crm.db.query(
      "select tenancy.create_site('acme', 'acme-two'), tenancy.create_app('acme-two', 'crm')",
    );
    await crm.db.query("select data.define_entity('acme-two/crm', 'dossiers', $1)", [
      { type: "object", "x-audit": { reads: true }, properties: { name: { type: "string" } } },
    ]);
    await crm.db.query(
      `select data.insert('acme-two/crm/dossiers', '{"name": "two"}'), data.find('acme-two/crm/dossiers')`,
    );
    await crm.db.query("select data.define_entity('beta/crm', 'dossiers', $1)", [
      { type: "object", "x-audit": { reads: true }, properties: { name: { type: "string" } } },
    ]);
    await crm.db.query(
      `select data.insert('beta/crm/dossiers', '{"name": "theirs"}'), data.find('beta/crm/dossiers')`,
    );
  });

  test("REST, GraphQL and SQL tell the same of all its sites and of no other", async () => {
    const [row] = await crm.db.query<{ r: Page }>(
      `select audit.search_organization('acme', '{"object": "*", "limit": 1000}') as r`,
    );
    const sites = new Set((row?.r.data ?? []).map((entry) => entry.site));
    expect([...sites].filter((site) => site !== null).sort()).toEqual(["acme", "acme-two"]);
    const rest = await send(`${everywhere}?object=*/crm/dossiers&limit=1000`.replace("*/crm/dossiers", "*"), {
      as: "own_everywhere",
    });
    const ids = (page: Page) => page.data.map((entry) => entry.id);
    expect(ids(rest.json as unknown as Page)).toEqual(ids(row?.r as Page));
    const query = `{ organizationAuditLog(organization: "acme", query: {object: "*", limit: 1000}) }`;
    const asked = await send("/graphql", { method: "POST", as: "own_everywhere", body: { query } });
    const { data } = JSON.parse(asked.text) as { data: { organizationAuditLog: Page } };
    expect(ids(data.organizationAuditLog)).toEqual(ids(row?.r as Page));
    expect(rest.text).not.toContain("theirs");
    const [two] = await crm.db.query<{ id: string }>(
      "select data.find('acme-two/crm/dossiers') #>> '{data,0,id}' as id",
    );
    const seen = await send(`${everywhere}?seen=${two?.id}`, { as: "own_everywhere" });
    expect((seen.json as unknown as Page).data[0]).toMatchObject({ site: "acme-two", action: "seen" });
  });

  test.each<[who: string, as: string, organization: string, status: number]>([
    ["the owner of another organization", "chief_everywhere", "acme", 404],
    ["its own to them", "chief_everywhere", "beta", 200],
    ["the owner, of the other's", "own_everywhere", "beta", 404],
    ["the owner with a token for one site", "own", "acme", 403],
    ["a member of its sites", "eve", "acme", 404],
    ["one that is not there", "own_everywhere", "ghost", 404],
    ["an injection", "own_everywhere", encodeURIComponent("acme' or true --"), 404],
  ])("%s", async (_who, as, organization, status) => {
    for (const part of ["", "/verify"])
      expect((await send(`/api/v1/organizations/${organization}/audit${part}`, { as })).status).toBe(status);
    const name = decodeURIComponent(organization);
    const query = `query ($name: String!) { organizationAuditLog(organization: $name, query: {limit: 5}) }`;
    const asked = await send("/graphql", { method: "POST", as, body: { query, variables: { name } } });
    expect(asked.text.includes('"errors"')).toBe(status !== 200);
    if (status === 200) expect(asked.text).not.toContain("acme-two");
  });

  test("a site that moved nowhere tells nothing of another's, by cursor or filter", async () => {
    const first = await send("/api/v1/organizations/beta/audit?limit=1", { as: "chief_everywhere" });
    const { next_cursor } = (first.json as unknown as Page).meta;
    const acme = await send(`${everywhere}?limit=1&cursor=${next_cursor}`, { as: "own_everywhere" });
    expect(
      (acme.json as unknown as Page).data.every((entry) => String(entry.site ?? "acme").startsWith("acme")),
    ).toBe(true);
    for (const filter of [`object=acme/*`, `account=ann@acme.test`, `record=${id}`, `seen=${id}`])
      expect(
        (await send(`/api/v1/organizations/beta/audit?${filter}`, { as: "chief_everywhere" })).json.data,
      ).toEqual([]);
  });
});
