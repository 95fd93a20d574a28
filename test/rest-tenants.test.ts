import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, find, startCrm } from "./harness/crm.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());
const send = (path: string, call?: Call) => crm.send(path, call);

describe("who may not know is told nothing", () => {
  const own = "/api/v1/sites/beta/apps/crm/contacts";
  test.each<[string, () => [string, Call], number, string]>([
    ["no token", () => [`${base}/contacts`, { as: null }], 401, "token_missing"],
    ["a token of nonsense", () => [`${base}/contacts`, { as: "x.y.z" }], 401, "invalid_token"],
    [
      "an altered token",
      () => [`${base}/contacts`, { as: `${crm.tokens.ann?.slice(0, -6)}AAAAAA` }],
      401,
      "invalid_token",
    ],
    ["alg none", () => [`${base}/contacts`, { as: unsigned() }], 401, "invalid_token"],
    [
      "another scheme",
      () => [`${base}/contacts`, { as: null, headers: { authorization: "Basic YTpi" } }],
      401,
      "invalid_token",
    ],
    ["a member of beta at acme", () => [`${base}/contacts`, { as: "bob" }], 404, "not_found"],
    ["a member of acme at beta", () => [own, {}], 404, "not_found"],
    [
      "a site that does not exist looks the same",
      () => ["/api/v1/sites/ghost/apps/crm/contacts", {}],
      404,
      "not_found",
    ],
    [
      "an app that does not exist looks the same",
      () => ["/api/v1/sites/acme/apps/ghost/contacts", {}],
      404,
      "not_found",
    ],
    [
      "a viewer who writes",
      () => [`${base}/contacts`, { as: "vic", method: "POST", body: { name: "X" } }],
      403,
      "forbidden",
    ],
    [
      "a viewer who deletes",
      () => [`${base}/contacts/${crm.ids.Ada}`, { as: "vic", method: "DELETE" }],
      403,
      "forbidden",
    ],
  ])("%s", async (_title, call, status, code) => {
    const answer = await send(...call());
    expect([answer.status, answer.json.code]).toEqual([status, code]);
    if (status === 401) expect(answer.headers["www-authenticate"]).toMatch(/^Bearer/);
    expect(answer.text).not.toContain("Secret");
  });

  test("a token for one site opens no other, whatever its account may do elsewhere", async () => {
    crm.tokens.eveAtBeta = await crm.gateway.token("eve@both.test", "beta");
    expect((await send(own, { as: "eveAtBeta" })).status).toBe(200);
    expect((await send(`${base}/contacts`, { as: "eveAtBeta" })).status).toBe(404);
    expect((await send(`${base}/contacts`, { as: "eve" })).status).toBe(200);
  });

  test("logout ends the access token", async () => {
    crm.tokens.once = await crm.gateway.token("ann@acme.test", "acme");
    expect((await send(`${base}/contacts`, { as: "once" })).status).toBe(200);
    expect((await send("/api/v1/auth/logout", { method: "POST", as: "once" })).status).toBe(204);
    expect(await send(`${base}/contacts`, { as: "once" })).toMatchObject({
      status: 401,
      json: { code: "session_ended" },
    });
  });

  test("connections keep neither role nor claims of a request, failed ones included", async () => {
    for (const path of [find({}), find({ filter: { age: "old" } })]) await send(path);
    for (let i = 0; i < 6; i++) {
      const { rows } = await crm.gateway.pool.query(
        "select current_user as role, current_setting('rowhouse.account', true) as account, current_setting('rowhouse.site', true) as site",
      );
      expect([rows[0].role, rows[0].account || null, rows[0].site || null]).toEqual([
        "rowhouse_gateway",
        null,
        null,
      ]);
    }
  });
});

function unsigned(): string {
  const [, payload] = (crm.tokens.ann ?? "").split(".");
  return `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString("base64url")}.${payload}.`;
}

describe("the tenant is found by path, header or host", () => {
  const short = "/api/v1/contacts?limit=1";
  test.each<[string, () => [string, Call], number, string]>([
    [
      "X-Tenant-ID and X-App-ID, names",
      () => [short, { headers: { "x-tenant-id": "acme", "x-app-id": "crm" } }],
      200,
      "Dan",
    ],
    [
      "X-Tenant-ID and X-App-ID, UUIDs",
      () => [
        short,
        { headers: { "x-tenant-id": crm.ids.acme ?? "", "x-app-id": crm.ids["acme/crm"] ?? "" } },
      ],
      200,
      "Dan",
    ],
    [
      "X-App-ID alone, a UUID",
      () => [short, { headers: { "x-app-id": crm.ids["acme/crm"] ?? "" } }],
      200,
      "Dan",
    ],
    ["X-App-ID alone, site/app", () => [short, { headers: { "x-app-id": "acme/crm" } }], 200, "Dan"],
    [
      "UUIDs in the path",
      () => [`/api/v1/sites/${crm.ids.acme}/apps/${crm.ids["acme/crm"]}/contacts?limit=1`, {}],
      200,
      "Dan",
    ],
    [
      "a path and headers that agree, name and UUID",
      () => [`${base}/contacts?limit=1`, { headers: { "x-tenant-id": crm.ids.acme ?? "" } }],
      200,
      "Dan",
    ],
    [
      "a host of the base domain",
      () => [short, { headers: { host: "acme.rowhouse.test:4000", "x-app-id": "crm" } }],
      200,
      "Dan",
    ],
    ["a verified domain", () => [short, { headers: { host: "crm.example.org" } }], 200, "Dan"],
    [
      "an unproved domain never routes",
      () => [short, { as: "bob", headers: { host: "unproved.example.org" } }],
      400,
      "tenant_missing",
    ],
    ["no app anywhere", () => [short, { headers: { "x-tenant-id": "acme" } }], 400, "tenant_missing"],
    [
      "an app's name without a site",
      () => [short, { headers: { "x-app-id": "crm" } }],
      400,
      "tenant_missing",
    ],
    [
      "path and X-Tenant-ID disagree",
      () => [`${base}/contacts`, { headers: { "x-tenant-id": "beta" } }],
      400,
      "tenant_mismatch",
    ],
    [
      "path and X-App-ID disagree",
      () => [`${base}/contacts`, { headers: { "x-app-id": "shop" } }],
      400,
      "tenant_mismatch",
    ],
    [
      "path and a UUID disagree",
      () => [`${base}/contacts`, { headers: { "x-app-id": crm.ids["acme/shop"] ?? "" } }],
      400,
      "tenant_mismatch",
    ],
    [
      "X-Tenant-ID and an app of another site disagree",
      () => [short, { as: "eve", headers: { "x-tenant-id": "acme", "x-app-id": crm.ids["beta/crm"] ?? "" } }],
      400,
      "tenant_mismatch",
    ],
    [
      "host and path disagree",
      () => [`${base}/contacts`, { headers: { host: "beta.rowhouse.test" } }],
      400,
      "tenant_mismatch",
    ],
    [
      "a domain and path disagree",
      () => ["/api/v1/sites/acme/apps/shop/contacts", { headers: { host: "crm.example.org" } }],
      400,
      "tenant_mismatch",
    ],
    [
      "another's site by UUID beside its name says nothing of it",
      () => ["/api/v1/sites/beta/apps/crm/contacts", { headers: { "x-tenant-id": crm.ids.beta ?? "" } }],
      400,
      "tenant_mismatch",
    ],
  ])("%s", async (_title, call, status, content) => {
    const answer = await send(...call());
    expect(answer.status).toBe(status);
    expect(answer.text).toContain(content);
  });
});
