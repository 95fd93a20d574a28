import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, find, startCrm } from "./harness/crm.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());
const send = (path: string, call?: Call) => crm.send(path, call);

describe("CORS", () => {
  const origin = "https://app.example.org";
  test("no origin is allowed by default", async () => {
    const answer = await send(`${base}/contacts`, { headers: { origin } });
    expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
  });

  test("the app's setting allows its origins, preflight and request", async () => {
    await crm.db.query("select tenancy.update_app_settings('beta/crm', $1)", [
      { cors: { origins: [origin] } },
    ]);
    const path = "/api/v1/sites/beta/apps/crm/contacts";
    const preflight = await send(path, {
      method: "OPTIONS",
      as: null,
      headers: { origin, "access-control-request-method": "PATCH" },
    });
    expect(preflight).toMatchObject({ status: 204, headers: { "access-control-allow-origin": origin } });
    expect(preflight.headers["access-control-allow-methods"]).toContain("PATCH");
    const answer = await send(path, { as: "bob", headers: { origin } });
    expect(answer.headers).toMatchObject({
      "access-control-allow-origin": origin,
      vary: "Origin, Authorization, X-Tenant-ID, X-App-ID",
    });
    const other = await send(path, { as: "bob", headers: { origin: "https://evil.example.org" } });
    expect(other.headers["access-control-allow-origin"]).toBeUndefined();
  });
});

describe("health, headers and the log", () => {
  test("health and readiness need no token", async () => {
    expect(await send("/health", { as: null })).toMatchObject({ status: 200, json: { status: "ok" } });
    expect(await send("/health/ready", { as: null })).toMatchObject({
      status: 200,
      json: { status: "ready" },
    });
    expect(await send("/health", { method: "POST", as: null })).toMatchObject({
      status: 405,
      headers: { allow: "GET, HEAD" },
    });
  });

  test("security headers are on every response", async () => {
    for (const path of ["/health", `${base}/contacts`, "/nope"]) {
      const { headers } = await send(path);
      expect(headers).toMatchObject({ "x-content-type-options": "nosniff", "x-frame-options": "DENY" });
      expect(headers["x-powered-by"]).toBeUndefined();
    }
  });

  test("a sane X-Request-Id is kept, another is not", async () => {
    expect((await send("/health", { headers: { "x-request-id": "abc-1" } })).headers["x-request-id"]).toBe(
      "abc-1",
    );
    expect((await send("/health", { headers: { "x-request-id": "a b{}" } })).headers["x-request-id"]).toMatch(
      /^[0-9a-f-]{36}$/,
    );
  });

  test("the log has one line a request and nothing secret", async () => {
    crm.gateway.log.length = 0;
    await send(find({ filter: { name: "hush-hush" } }), { headers: { "x-request-id": "log-1" } });
    await send(`${base}/contacts`, {
      method: "POST",
      body: { name: "hush-hush", nope: 1 },
      headers: { "x-request-id": "log-2" },
    });
    const lines = crm.gateway.log.map((line) => JSON.parse(line));
    expect(lines).toMatchObject([
      { request_id: "log-1", site: "acme", app: "crm", status: 200, method: "GET", ms: expect.any(Number) },
      { request_id: "log-2", status: 422 },
    ]);
    expect(crm.gateway.log.join("")).not.toMatch(/hush-hush|Bearer|eyJ/);
  });

  test("without the database: 503 with Retry-After, and work again when it is back", async () => {
    await crm.db.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rowhouse_gateway' and datname = current_database()",
    );
    const answers = await Promise.all(Array.from({ length: 5 }, () => send(`${base}/contacts`)));
    for (const { status } of answers) expect([200, 503]).toContain(status);
    expect((await send(`${base}/contacts`)).status).toBe(200);
  });
});
