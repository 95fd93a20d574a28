import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, type Call, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { eventually } from "./harness/eventually.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// Who did what, when, from where, old and new values: recorded whatever the door, read by those who may.

type Entry = Record<string, unknown> & {
  id: string;
  action: string;
  object: string;
  old: Record<string, unknown> | null;
  new: Record<string, unknown> | null;
};
type Page = { data: Entry[]; meta: { next_cursor: string | null } };

let crm: Crm;
let gateway: TestGateway;
const log = "/api/v1/sites/acme/audit";
const patients = (storage: string) => `/api/v1/sites/acme/apps/crm/${storage}_patients`;
const send = (path: string, call?: Call): Promise<Answer> => sendTo(gateway, crm.tokens, path, call);
const page = (answer: Answer) => answer.json as unknown as Page;

async function search(query: object, site = "acme"): Promise<Entry[]> {
  const [row] = await crm.db.query<{ r: Page }>("select audit.search($1, $2) as r", [site, query]);
  return (row as { r: Page }).r.data;
}

const definition = (storage: string, more: object = {}) => ({
  type: "object",
  "x-storage": storage,
  "x-audit": true,
  properties: {
    name: { type: "string" },
    ward: { type: "string", "x-index": true },
    pin: { type: "string", writeOnly: true },
    notes: { type: "string" },
  },
  ...more,
});

beforeAll(async () => {
  crm = await startCrm();
  const { db } = crm;
  await db.account("own@acme.test");
  await db.query("select tenancy.add_member('acme', 'own@acme.test', 'admin')");
  await db.query("select tenancy.set_member_role('acme', 'own@acme.test', 'owner')");
  await db.query("select tenancy.add_organization_member('acme', 'own@acme.test', 'owner')");
  for (const storage of ["jsonb", "flat"])
    await db.query("select data.define_entity('acme/crm', $1, $2)", [
      `${storage}_patients`,
      definition(storage),
    ]);
  gateway = await startGateway(db, {}, 5, true);
  crm.tokens.own = await gateway.token("own@acme.test", "acme");
  crm.tokens.own_everywhere = await gateway.token("own@acme.test");
});
afterAll(async () => {
  await gateway.stop();
  await crm.stop();
});

describe.each(["jsonb", "flat"])("records in %s storage", (storage) => {
  const object = `acme/crm/${storage}_patients`;
  let id = "";

  test("an insert, an update and a delete are recorded with who, from where, old and new", async () => {
    const headers = { "user-agent": "probe/1", "x-request-id": `r-${storage}`, "x-forwarded-for": "6.6.6.6" };
    const made = await send(patients(storage), {
      method: "POST",
      body: { name: "Ada", ward: "A", pin: "1234-very-secret" },
      headers,
    });
    id = made.json.id;
    await send(`${patients(storage)}/${id}`, {
      method: "PATCH",
      body: { ward: "B", pin: "99-secret" },
      headers,
    });
    await send(`${patients(storage)}/${id}`, { method: "DELETE", headers });
    const common = {
      account: "ann@acme.test",
      login: "rowhouse_gateway",
      ip: "127.0.0.1",
      user_agent: "probe/1",
      request_id: `r-${storage}`,
      site: "acme",
      record: id,
      object,
      outcome: "done",
      session_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    };
    expect(await search({ record: id })).toMatchObject([
      { ...common, action: "delete", old: { name: "Ada", ward: "B", pin: "***" }, new: null },
      { ...common, action: "update", old: { ward: "A", pin: "***" }, new: { ward: "B", pin: "***" } },
      { ...common, action: "create", old: null, new: { name: "Ada", ward: "A", pin: "***" } },
    ]);
    expect((await search({ record: id }))[1]?.old).not.toHaveProperty("name");
  });

  test("so are psql, batches and GraphQL, each record of a statement", async () => {
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query(`insert into acme_crm.${storage}_patients (name) values ('P1'), ('P2')`);
      await client.query(`update acme_crm.${storage}_patients set ward = 'X' where name = 'P1'`);
      await client.query(`select data.insert('${object}', '[{"name": "B1"}, {"name": "B2"}]')`);
    });
    const type = `${storage[0]?.toUpperCase()}${storage.slice(1)}Patient`;
    const input = `${storage}Patient`;
    const made = await send("/api/v1/sites/acme/apps/crm/graphql", {
      method: "POST",
      body: { query: `mutation { create${type}(input: {${input}: {name: "G1"}}) { clientMutationId } }` },
    });
    expect(made.text).not.toContain("errors");
    const found = (await search({ object, account: "ann@acme.test" })).map(
      (entry) =>
        `${entry.action} ${entry.new?.name ?? entry.new?.ward ?? ""} ${entry.login === "rowhouse_gateway"}`,
    );
    expect(found.slice(0, 6).sort()).toEqual(
      [
        "create G1 true",
        "create B1 false",
        "create B2 false",
        "create P1 false",
        "create P2 false",
        "update X false",
      ].sort(),
    );
  });

  test("what is rolled back was not done, and what changes nothing is not recorded", async () => {
    const before = (await search({ object, limit: "1000" })).length;
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query(`begin; insert into acme_crm.${storage}_patients (name) values ('never'); rollback`);
      await client.query(`update acme_crm.${storage}_patients set ward = ward`);
      await client.query(`delete from acme_crm.${storage}_patients where name = 'nobody'`);
    });
    expect(await search({ object, limit: "1000" })).toHaveLength(before);
  });

  test("a value of 1 MB is cut, with its length and digest", async () => {
    const made = await crm.db.query<{ id: string }>("select data.insert($1, $2)->>'id' as id", [
      object,
      { name: "Big", notes: "x".repeat(1_000_000) },
    ]);
    const [entry] = await search({ record: made[0]?.id });
    expect(entry?.new).toMatchObject({
      name: "Big",
      notes: {
        $cut: "x".repeat(200),
        characters: 1_000_000,
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    });
  });
});

test("records stay recorded after a conversion, and no longer once x-audit is taken away", async () => {
  const define = (schema: object) =>
    crm.db.query("select data.define_entity('acme/crm', 'guests', $1)", [schema]);
  const write = () => crm.db.query(`select data.insert('acme/crm/guests', '{"name": "n"}')`);
  const count = async () => (await search({ object: "acme/crm/guests", action: "create" })).length;
  await define(definition("jsonb"));
  await write();
  const [operation] = await crm.db.query<{ id: string }>(
    "select (data.convert_storage('acme/crm/guests', 'flat')).id",
  );
  for (let state = "running"; state === "running"; )
    state = (await crm.db.query<{ s: string }>("select data.run_step($1) as s", [operation?.id]))[0]?.s ?? "";
  expect(await count()).toBe(1); // the conversion itself writes nothing new
  await write();
  expect(await count()).toBe(2);
  await define(definition("flat", { "x-audit": false }));
  await write();
  expect(await count()).toBe(2);
  expect(await refusal(define(definition("flat", { "x-audit": "yes" })))).toMatchObject({
    code: "RH400",
    message: expect.stringContaining("x-audit"),
  });
});

describe('with {"reads": true}', () => {
  const object = "acme/crm/secrets";
  const path = "/api/v1/sites/acme/apps/crm/secrets";
  let id = "";
  const reads = async () => (await search({ object, action: "read", limit: "1000" })).length;
  beforeAll(async () => {
    await crm.db.query("select data.define_entity('acme/crm', 'secrets', $1)", [
      definition("jsonb", { "x-audit": { reads: true }, "x-cache-ttl": 60 }),
    ]);
    id = (await send(path, { method: "POST", body: { name: "s" } })).json.id;
  });

  test.each<[door: string, read: () => Promise<unknown>]>([
    ["a record over REST", () => send(`${path}/${id}`)],
    ["a list over REST, twice, cached or not", async () => [await send(path), await send(path)]],
    ["an aggregate", () => send(`${path}/aggregate?aggregate=count`)],
    [
      "a GraphQL query",
      () =>
        send("/api/v1/sites/acme/apps/crm/graphql", {
          method: "POST",
          body: { query: "{ secrets { nodes { name } } }" },
        }),
    ],
    ["an export, twice: what it will show is noted first", () => send(`${path}/export?format=ndjson`)],
    ["a union", () => send("/api/v1/sites/acme/apps/crm/query?entities=secrets,companies&select=id")],
    [
      "psql",
      () => crm.db.as("acme", "ann@acme.test", (c) => c.query("select count(*) from acme_crm.secrets")),
    ],
    ["data.find", () => crm.db.as("acme", "ann@acme.test", (c) => c.query(`select data.find('${object}')`))],
  ])("%s is recorded", async (door, read) => {
    const before = await reads();
    const answer = await read();
    if (answer && typeof answer === "object" && "status" in answer)
      expect([answer.status, (answer as Answer).text.includes("errors")]).toEqual([200, false]);
    expect(await reads()).toBe(before + (door.includes("twice") ? 2 : 1));
  });

  test("which record or filter was asked for is known", async () => {
    await send(`${path}/${id}`);
    expect((await search({ object, action: "read" }))[0]).toMatchObject({
      account: "ann@acme.test",
      request: `GET ${path}/${id}`,
    });
    await crm.db.as("acme", "vic@acme.test", (c) =>
      c.query("select name from acme_crm.secrets where ward = 'W7'"),
    );
    expect((await search({ object, action: "read" }))[0]).toMatchObject({
      account: "vic@acme.test",
      new: { statement: expect.stringContaining("ward = 'W7'") },
    });
  });

  test("one who cannot be recorded cannot read", async () => {
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      const read = async () => {
        await client.query("begin read only");
        await client.query("select * from acme_crm.secrets").finally(() => client.query("rollback"));
      };
      expect(await refusal(read())).toMatchObject({ code: "RH403", detail: { code: "read_only" } });
    });
  });

  test("nobody notes reads of another site's entity", async () => {
    const [entity] = await crm.db.query<{ id: string }>(
      "select id from data.entities where name = 'secrets'",
    );
    const before = await reads();
    await crm.db.as("beta", "bob@beta.test", (c) =>
      c.query("select audit.note_read($1)", [entity?.id]).catch(() => {}),
    );
    expect(await reads()).toBe(before);
  });
});

describe("the control plane", () => {
  test.each<[what: string, statement: string, object: string, action: string, changed: object]>([
    ["a new app", "select tenancy.create_app('acme', 'extra')", "tenancy.apps", "create", { name: "extra" }],
    [
      "settings",
      `select tenancy.update_site_settings('acme', '{"locale": "de"}')`,
      "tenancy.sites",
      "update",
      { name: "acme", settings: { locale: "de" } },
    ],
    [
      "a new role",
      "select access.create_role('acme', 'nurse', array['crm/*:read'])",
      "access.roles",
      "create",
      { name: "nurse" },
    ],
    [
      "an assignment",
      "select access.assign_role('acme', 'vic@acme.test', 'nurse')",
      "access.assignments",
      "create",
      {},
    ],
    [
      "a member's end",
      "select tenancy.remove_member('acme', 'eve@both.test')",
      "tenancy.site_members",
      "delete",
      {},
    ],
    [
      "a definition",
      `select data.define_entity('acme/extra', 'things', '{"type": "object", "properties": {}}')`,
      "data.entities",
      "create",
      { name: "things" },
    ],
    [
      "a dropped app",
      "select tenancy.drop_app('acme/extra', 'acme/extra')",
      "tenancy.apps",
      "delete",
      { name: "extra" },
    ],
  ])("%s is recorded", async (_what, statement, object, action, changed) => {
    await crm.db.query(statement);
    const [entry] = await search({ object, action });
    expect((action === "delete" ? entry?.old : entry?.new) ?? {}).toMatchObject(changed);
    expect(entry).toMatchObject({ outcome: "done", site: "acme", account: null, ip: expect.any(String) });
    expect(Date.now() - Date.parse(entry?.at as string)).toBeLessThan(60_000);
  });

  test("who did it is the account of the claims, over GraphQL too", async () => {
    const made = await send("/graphql", {
      method: "POST",
      as: "own",
      body: { query: 'mutation { createApp(input: {site: "acme", name: "byown"}) { clientMutationId } }' },
      headers: { "x-request-id": "r-control" },
    });
    expect(made.text).not.toContain("errors");
    const [entry] = await search({ object: "tenancy.apps", action: "create" });
    expect(entry).toMatchObject({
      account: "own@acme.test",
      request_id: "r-control",
      new: { name: "byown" },
    });
  });

  test("an update tells only what changed", async () => {
    await crm.db.query("update tenancy.sites set title = 'New title' where name = 'acme'");
    const [entry] = await search({ object: "tenancy.sites", action: "update" });
    expect([entry?.old, entry?.new]).toEqual([
      { name: "acme", title: "acme" },
      { name: "acme", title: "New title" },
    ]);
  });

  test("logins and sessions are recorded, and no secret is anywhere in the log", async () => {
    const password = "correct-horse-battery";
    await crm.db.query(
      "update auth.accounts set password_hash = extensions.crypt($1, extensions.gen_salt('bf', 4)) where email = 'own@acme.test'",
      [password],
    );
    const login = { email: "own@acme.test", password, site: "acme" };
    const answer = await send("/api/v1/auth/login", { method: "POST", as: null, body: login });
    const tokens = answer.json as unknown as { access_token: string; refresh_token: string };
    const refreshed = await send("/api/v1/auth/refresh", {
      method: "POST",
      as: null,
      body: { refresh_token: tokens.refresh_token },
    });
    expect(refreshed.status).toBe(200);
    expect((await search({ object: "auth.sessions" }))[0]).toMatchObject({
      action: "create",
      ip: "127.0.0.1",
    });
    const secrets = [password, tokens.access_token, tokens.refresh_token, "1234-very-secret", "99-secret"];
    const hidden = await crm.db.query<{ s: string }>(
      `select password_hash as s from auth.accounts where password_hash is not null
       union all select private_key::text from auth.signing_keys union all select id::text from auth.refresh_tokens
       union all select proof from tenancy.domains`,
    );
    expect(hidden.length).toBeGreaterThan(3);
    for (const secret of [...secrets, ...hidden.map((row) => row.s)]) {
      const found = await crm.db.query(
        "select from audit.entries e where position($1 in (e.old::text || coalesce(e.new::text, ''))) > 0 or position($1 in e.new::text) > 0 or position($1 in e.env::text) > 0",
        [secret],
      );
      expect([secret.slice(0, 12), found.length]).toEqual([secret.slice(0, 12), 0]);
    }
    const [change] = (await crm.db.query<{ new: object }>(
      "select new from audit.entries where object = 'auth.accounts' and action = 'update' order by at desc limit 1",
    )) as [{ new: object }];
    expect(change.new).toMatchObject({ email: "own@acme.test", password_hash: "***" });
  });
});

describe("a search", () => {
  test("is over REST what it is in SQL, page by page", async () => {
    const all = await search({ object: "acme/crm/*", limit: "1000" });
    const walked: string[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const answer: Answer = await send(`${log}?object=acme/crm/*&limit=7${cursor && `&cursor=${cursor}`}`, {
        as: "own",
      });
      expect(answer.status).toBe(200);
      walked.push(...page(answer).data.map((entry) => entry.id));
      cursor = page(answer).meta.next_cursor;
    }
    expect(walked).toEqual(all.map((entry) => entry.id));
  });

  test.each<[query: string, check: (entry: Entry) => boolean]>([
    ["action=delete", (entry) => entry.action === "delete"],
    ["account=ann@acme.test", (entry) => entry.account === "ann@acme.test"],
    ["object=tenancy.apps", (entry) => entry.object === "tenancy.apps"],
    ["ip=127.0.0.0/8", (entry) => entry.ip === "127.0.0.1"],
    ["request_id=r-control", (entry) => entry.request_id === "r-control"],
    ["outcome=done", (entry) => entry.outcome === "done"],
  ])("by %s finds those only", async (query, check) => {
    const { data } = page(await send(`${log}?limit=1000&${query}`, { as: "own" }));
    expect(data.length).toBeGreaterThan(0);
    expect(data.every(check)).toBe(true);
  });

  test("by time", async () => {
    const future = new Date(Date.now() + 3_600_000).toISOString();
    expect(page(await send(`${log}?since=${future}`, { as: "own" })).data).toEqual([]);
    expect(page(await send(`${log}?until=${future}&limit=1`, { as: "own" })).data).toHaveLength(1);
  });

  test("over GraphQL, with its verification", async () => {
    const query = `{ auditLog(site: "acme", query: {limit: 2, object: "tenancy.apps"}) verifyAuditLog(site: "acme") }`;
    const answer = await send("/graphql", { method: "POST", as: "own", body: { query } });
    const { data } = JSON.parse(answer.text) as {
      data: { auditLog: Page; verifyAuditLog: { intact: boolean } };
    };
    expect(data.auditLog.data.map((entry) => entry.object)).toEqual(["tenancy.apps", "tenancy.apps"]);
    expect(data.verifyAuditLog.intact).toBe(true);
  });

  test("over all sites of an organization, dropped ones too", async () => {
    await crm.db.query("select tenancy.create_site('acme', 'acme-two')");
    await crm.db.query("select tenancy.create_app('acme-two', 'gone')");
    await crm.db.query("select tenancy.drop_site('acme-two', 'acme-two')");
    const answer = await send("/api/v1/organizations/acme/audit?limit=1000", { as: "own_everywhere" });
    expect(answer.status).toBe(200);
    const said = page(answer).data.map(
      (entry) => `${entry.action} ${entry.object} ${entry.new?.name ?? entry.old?.name ?? ""}`,
    );
    expect(said).toEqual(
      expect.arrayContaining([
        "delete tenancy.sites acme-two",
        "create tenancy.apps gone",
        "delete tenancy.apps gone",
        "create tenancy.apps byown",
        "create tenancy.organizations acme",
      ]),
    );
    expect(said.join()).not.toContain("beta");
  });

  test.each<[what: string, path: string, as: string | null, status: number, code: string]>([
    ["a viewer", log, "vic", 403, "forbidden"],
    ["an editor who administers nothing", log, "ann", 403, "forbidden"],
    ["a member of another site", log, "bob", 404, "not_found"],
    ["nobody", log, null, 401, "token_missing"],
    [
      "an owner with a token for the site, of the organization",
      "/api/v1/organizations/acme/audit",
      "own",
      403,
      "forbidden",
    ],
    ["an editor, of the organization", "/api/v1/organizations/acme/audit", "eve", 404, "not_found"],
    ["a viewer who verifies", `${log}/verify`, "vic", 403, "forbidden"],
    ["an unknown parameter", `${log}?drop=1`, "own", 400, "invalid_query"],
    ["a time that is none", `${log}?since=';drop table`, "own", 400, "invalid_query"],
    ["a cursor that is none", `${log}?cursor=1.2`, "own", 400, "invalid_query"],
    ["too long a page", `${log}?limit=1001`, "own", 400, "invalid_query"],
    ["a head that is none", `${log}/verify?head=x`, "own", 400, "invalid_head"],
    ["a NUL", `${log}?object=%00`, "own", 400, "invalid_value"],
  ])("is refused to %s", async (_what, path, as, status, code) => {
    expect(await send(path, { as })).toMatchObject({ status, json: { code } });
  });

  test("cannot be injected into", async () => {
    for (const text of [
      "'; drop table audit.entries; --",
      "$body$",
      "%1$I",
      '"',
      "\\",
      "_%*",
      "x".repeat(5_000),
    ]) {
      const answer = await send(
        `${log}?object=${encodeURIComponent(text)}&record=${encodeURIComponent(text)}`,
        { as: "own" },
      );
      expect([answer.status, page(answer).data]).toEqual([200, []]);
    }
  });

  test("only reads", async () => {
    for (const method of ["POST", "PUT", "DELETE"])
      expect((await send(log, { method, as: "own" })).status).toBe(405);
  });
});

describe("requests that are refused", () => {
  // They are written a second later.
  async function denied(query: object, site: string | null = "acme"): Promise<Entry[]> {
    const [row] = await eventually(
      () =>
        crm.db.query<{ r: Page }>("select audit.search($1, $2) as r", [
          site,
          { outcome: "denied", ...query },
        ]),
      ([row]) => (row?.r.data.length ?? 0) > 0,
    );
    return (row as { r: Page }).r.data;
  }

  test.each<[what: string, call: Call & { path: string }, expected: object]>([
    [
      "without the right",
      { path: patients("jsonb"), method: "POST", as: "vic", body: { name: "x" } },
      { account: "vic@acme.test", new: { status: 403, code: "forbidden" }, action: "POST" },
    ],
    [
      "without a token",
      { path: patients("jsonb"), as: null },
      { account: null, new: { status: 401, code: "token_missing" }, action: "GET" },
    ],
    [
      "with a wrong token",
      { path: patients("jsonb"), as: "no-token" },
      { account: null, new: { status: 401 }, action: "GET" },
    ],
    [
      "in GraphQL",
      {
        path: "/api/v1/sites/acme/apps/crm/graphql",
        method: "POST",
        as: "vic",
        body: { query: 'mutation { createCompany(input: {company: {name: "x"}}) { clientMutationId } }' },
      },
      { account: "vic@acme.test", new: { status: 403, code: "forbidden" }, action: "POST" },
    ],
    [
      "when they read this log",
      { path: log, as: "vic" },
      { account: "vic@acme.test", new: { status: 403 }, action: "GET" },
    ],
  ])("%s are recorded", async (_what, { path, ...call }, expected) => {
    const requestId = `denied-${Math.random()}`;
    await send(path, { ...call, headers: { "x-request-id": requestId } });
    expect(await denied({ request_id: requestId })).toMatchObject([
      { ...expected, object: path, ip: "127.0.0.1", outcome: "denied", reason: expect.any(String) },
    ]);
  });

  test("a login that failed is in the platform's own log, without the password", async () => {
    await send("/api/v1/auth/login", {
      method: "POST",
      as: null,
      body: { email: "own@acme.test", password: "wrong-guess" },
      headers: { "x-request-id": "bad-login" },
    });
    const found = await denied({ request_id: "bad-login" }, null);
    expect(found).toMatchObject([
      { object: "/api/v1/auth/login", new: { status: 401, code: "wrong_credentials" } },
    ]);
    expect(JSON.stringify(found)).not.toContain("wrong-guess");
  });

  test("above a rate are counted, and each request is counted once", async () => {
    await sleep(1_200); // a new second
    const path = "/api/v1/sites/beta/apps/crm/contacts";
    await Promise.all(Array.from({ length: 60 }, () => send(path, { as: null })));
    const counted = (all: Entry[]) =>
      all.reduce((sum, entry) => sum + 1 + Number(entry.new?.not_recorded ?? 0), 0);
    await eventually(async () => counted(await denied({ limit: "1000" }, "beta")) >= 60);
    await sleep(1_200); // another second, in which nothing more is written
    const all = await denied({ limit: "1000" }, "beta");
    expect(counted(all)).toBe(60);
    expect(all.length).toBeLessThan(60);
  });

  test("their headers cannot fill the log", async () => {
    const answer = await send(patients("jsonb"), {
      as: null,
      headers: { "user-agent": "u".repeat(14_000), "x-request-id": "long-agent" },
    });
    expect(answer.status).toBe(401);
    const all = await crm.db.query<{ n: number }>(
      "select max(length(env::text))::int as n from audit.entries",
    );
    expect(all[0]?.n).toBeLessThan(3_000);
  });
});
