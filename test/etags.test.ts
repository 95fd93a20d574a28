import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, find, startCrm } from "./harness/crm.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());
const send = (path: string, call?: Call) => crm.send(path, call);
const etagOf = async (path: string, call?: Call) => String((await send(path, call)).headers.etag);
const contact = (name: string, query = "") => `${base}/contacts/${crm.ids[name]}${query}`;
const company = (query = "") => `${base}/companies/${crm.ids.company}${query}`;

describe("what is read has an ETag, and is not sent again to those who have it", () => {
  test.each([
    ["a record", () => contact("Ada")],
    ["some fields of a record", () => contact("Ada", "?select=name")],
    ["a record with related ones", () => contact("Ada", "?expand=company")],
    ["a list", () => find({ sort: "name", limit: "2" })],
    ["a list with a count", () => find({ count: "exact", filter: { age: { $gt: 20 } } })],
    ["an empty list", () => find({ filter: { name: "nobody" } })],
    ["the OpenAPI document", () => `${base}/openapi.json`],
  ])("%s", async (_title, path) => {
    const first = await send(path());
    const etag = String(first.headers.etag);
    expect(first).toMatchObject({
      status: 200,
      headers: {
        etag: expect.stringMatching(/^W\/"[\w-]+"$/),
        "cache-control": "private, no-cache",
        vary: "Authorization, X-Tenant-ID, X-App-ID",
      },
    });
    for (const known of [etag, etag.replace("W/", ""), `"other", ${etag}`, "*"]) {
      const again = await send(path(), { headers: { "if-none-match": known } });
      expect([known, again.status, again.text]).toEqual([known, 304, ""]);
      expect(again.headers).toMatchObject({
        etag,
        "cache-control": "private, no-cache",
        vary: first.headers.vary,
      });
      expect(again.headers["content-type"]).toBeUndefined();
    }
    for (const other of [
      'W/"other"',
      "",
      "nonsense",
      etag.slice(3, -1),
      '"',
      `W/"1", '${etag.slice(2, -1)}'`,
    ]) {
      expect([other, (await send(path(), { headers: { "if-none-match": other } })).status]).toEqual([
        other,
        200,
      ]);
    }
    const head = await send(path(), { method: "HEAD" });
    expect(head).toMatchObject({ status: 200, text: "", headers: { etag } });
    const known = await send(path(), { method: "HEAD", headers: { "if-none-match": etag } });
    expect([known.status, known.text]).toEqual([304, ""]);
  });

  test("a page of another origin may use it, and a cache tells origins apart", async () => {
    const path = `${base.replace("crm", "shop")}/contacts`;
    const headers = { origin: "https://a.test" };
    await crm.db.query("select tenancy.update_app_settings('acme/shop', $1)", [
      { cors: { origins: [headers.origin] } },
    ]);
    const preflight = await send(path, { method: "OPTIONS", as: null, headers });
    expect(preflight.headers["access-control-allow-headers"]).toContain("If-None-Match");
    const answer = await send(path, { headers });
    expect(answer.headers.vary).toBe("Origin, Authorization, X-Tenant-ID, X-App-ID");
    expect(answer.headers["access-control-expose-headers"]).toContain("ETag");
  });
});

describe("an ETag changes with what it is of", () => {
  test("related records, not only the record's own version", async () => {
    const path = company("?expand=contacts");
    const before = await etagOf(path);
    expect(before).toMatch(/^W\/"1-/);
    await send(contact("Bea"), { method: "PATCH", body: { age: 21 } });
    const after = await send(path, { headers: { "if-none-match": before } });
    expect(after.status).toBe(200);
    expect(after.headers.etag).toMatch(/^W\/"1-/);
    expect(after.headers.etag).not.toBe(before);
  });

  test("other selections of one record have other ETags", async () => {
    const tags = await Promise.all([
      etagOf(contact("Ada")),
      etagOf(contact("Ada", "?select=name")),
      etagOf(contact("Ada", "?select=name,age")),
      etagOf(contact("Ada", "?expand=company")),
    ]);
    expect(new Set(tags).size).toBe(4);
  });

  test("what a write answers is what a read answers", async () => {
    const made = await send(`${base}/contacts`, { method: "POST", body: { name: "Eli", tags: ["x"] } });
    const path = `${base}/contacts/${made.json.id}`;
    expect(await etagOf(path)).toBe(made.headers.etag);
    const changed = await send(path, { method: "PATCH", body: { age: 5 } });
    expect(changed.headers.etag).not.toBe(made.headers.etag);
    expect((await send(path, { headers: { "if-none-match": String(changed.headers.etag) } })).status).toBe(
      304,
    );
    const replaced = await send(path, { method: "PUT", body: { name: "Eli" } });
    expect((await send(path, { headers: { "if-none-match": String(replaced.headers.etag) } })).status).toBe(
      304,
    );
  });
});

describe("If-Match takes what a read gave", () => {
  test.each([
    ["the ETag as it came", (etag: string) => etag, 200],
    ["a strong one", (etag: string) => etag.replace("W/", ""), 200],
    ["the bare version", () => 'W/"1"', 200],
    ["the version as a strong tag", () => '"1"', 200],
    ["anything", () => "*", 200],
    ["the ETag of another version", () => 'W/"7-abcdefghijklmnopqrstuv"', 409],
    ["another version", () => '"7"', 409],
    ["the ETag of a list", () => 'W/"abcdefghijklmnopqrstuv"', 400],
    ["SQL", () => `W/"1-'; drop table x--"`, 400],
    ["a very long one", () => `W/"1-${"a".repeat(5_000)}"`, 400],
    ["a number out of range", () => 'W/"99999999999999-a"', 400],
  ])("%s", async (_title, header, status) => {
    const made = await send(`${base}/contacts`, { method: "POST", body: { name: "Match" } });
    const path = `${base}/contacts/${made.json.id}`;
    const headers = { "if-match": header(await etagOf(`${path}?expand=company`)) };
    expect((await send(path, { method: "PATCH", body: { age: 3 }, headers })).status).toBe(status);
  });

  test("a stale one loses nobody's change", async () => {
    const made = await send(`${base}/contacts`, { method: "POST", body: { name: "Race" } });
    const path = `${base}/contacts/${made.json.id}`;
    const headers = { "if-match": String(made.headers.etag) };
    const answers = await Promise.all(
      [1, 2, 3].map((age) => send(path, { method: "PATCH", body: { age }, headers })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409]);
  });
});

describe("If-None-Match tells nothing to those who may not read", () => {
  test.each([
    ["another tenant", "bob", 404],
    ["nobody", null, 401],
  ])("%s", async (_title, as, status) => {
    const etag = await etagOf(contact("Ada"));
    for (const known of [etag, "*"])
      expect((await send(contact("Ada"), { as, headers: { "if-none-match": known } })).status).toBe(status);
  });

  test("a record that is gone, or never was", async () => {
    const made = await send(`${base}/contacts`, { method: "POST", body: { name: "Gone" } });
    const path = `${base}/contacts/${made.json.id}`;
    await send(path, { method: "DELETE" });
    expect((await send(path, { headers: { "if-none-match": "*" } })).status).toBe(404);
  });

  test("rights that were revoked", async () => {
    await crm.db.account("rob@acme.test");
    await crm.db.query("select tenancy.add_member('acme', 'rob@acme.test', 'viewer')");
    const as = await crm.gateway.token("rob@acme.test", "acme");
    const etag = await etagOf(contact("Ada"), { as });
    await crm.db.query("select access.revoke_role('acme', 'rob@acme.test', 'viewer')");
    expect((await send(contact("Ada"), { as, headers: { "if-none-match": etag } })).status).toBe(404);
  });
});
