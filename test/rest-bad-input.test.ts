import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, find, names, startCrm } from "./harness/crm.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());
const send = (path: string, call?: Call) => crm.send(path, call);

describe("bad input is refused with a problem that says what to do", () => {
  const deep = "[".repeat(60_000) + "]".repeat(60_000);
  const post = (body: unknown, headers: Record<string, string> = {}): Call => ({
    method: "POST",
    body,
    headers,
  });
  test.each<[string, () => [string, Call?], number, unknown]>([
    [
      "unknown field in filter",
      () => [find({ filter: { nope: 1 } })],
      400,
      { code: "unknown_field", hint: /name/ },
    ],
    [
      "SQL as a field name",
      () => [find({ filter: { 'name"; drop table x; --': 1 } })],
      400,
      { code: "unknown_field" },
    ],
    [
      "unknown operator",
      () => [find({ filter: { name: { $regex: "x" } } })],
      400,
      { code: "unknown_operator" },
    ],
    ["an operator at the top", () => [find({ filter: { $eq: 1 } })], 400, { code: "unknown_operator" }],
    ["a placeholder of one's own", () => [find({ filter: { name: { $param: 1 } } })], 400, {}],
    ["a null placeholder", () => [find({ filter: { name: { $param: null } } })], 400, {}],
    [
      "__proto__ as a field",
      () => [`${base}/contacts?filter=${encodeURIComponent('{"__proto__":{"x":1}}')}`],
      400,
      {},
    ],
    [
      "a value of the wrong type",
      () => [find({ filter: { age: "old" } })],
      400,
      { detail: /"old" is not a valid whole number/ },
    ],
    ["a number out of range", () => [find({ filter: { age: 1e30 } })], 400, {}],
    ["NUL in a value", () => [find({ filter: { name: "a\u0000b" } })], 400, {}],
    ["$in without a list", () => [find({ filter: { name: { $in: "Ada" } } })], 400, {}],
    ["$like on a number", () => [find({ filter: { age: { $like: "1%" } } })], 400, {}],
    ["an empty $or", () => [find({ filter: { $or: [] } })], 400, {}],
    [
      "filter is no JSON",
      () => [find({ filter: "{name" })],
      400,
      { code: "invalid_filter", errors: [{ parameter: "filter" }] },
    ],
    ["filter is a list", () => [find({ filter: "[1]" })], 400, { code: "invalid_filter" }],
    [
      "filter nested too deeply",
      () => [find({ filter: `${'{"$not":'.repeat(500)}{}${"}".repeat(500)}` })],
      400,
      { detail: /too deeply/ },
    ],
    ["unknown sort field", () => [find({ sort: "nope" })], 400, { code: "unknown_field" }],
    ["SQL in sort", () => [find({ sort: "name;drop table x" })], 400, { code: "unknown_field" }],
    ["sort direction", () => [find({ sort: [{ field: "name", direction: "sideways" }] })], 400, {}],
    ["unknown select field", () => [find({ select: "name,nope" })], 400, { code: "unknown_field" }],
    ["select with quotes", () => [find({ select: '["na\\"me"]' })], 400, { code: "unknown_field" }],
    ["select of numbers", () => [find({ select: "[1]" })], 400, { code: "invalid_select" }],
    [
      "unknown relation",
      () => [find({ expand: "boss" })],
      400,
      { code: "unknown_relation", hint: /company/ },
    ],
    ["limit that is no number", () => [find({ limit: "ten" })], 400, { code: "invalid_limit" }],
    ["limit over the maximum", () => [find({ limit: "100000" })], 400, { code: "invalid_limit" }],
    ["negative offset", () => [find({ offset: "-1" })], 400, { code: "invalid_offset" }],
    ["page 0", () => [find({ page: "0" })], 400, { detail: "page is a whole number from 1 to 999999999" }],
    ["page with offset", () => [find({ page: "1", offset: "1" })], 400, { code: "invalid_page" }],
    ["a cursor that is none", () => [find({ cursor: "xyz" })], 400, { code: "invalid_cursor" }],
    [
      "unknown parameter",
      () => [find({ fliter: "{}" })],
      400,
      { code: "unknown_parameter", hint: /filter, sort/ },
    ],
    ["a parameter twice", () => [`${base}/contacts?limit=1&limit=2`], 400, { detail: /more than once/ }],
    [
      "a list's parameter on one record",
      () => [`${base}/contacts/${crm.ids.Ada}?limit=1`],
      400,
      { hint: /select, expand/ },
    ],
    [
      "an id that is no UUID",
      () => [`${base}/contacts/1%27%20or%20true`],
      400,
      { detail: /is not a valid UUID/ },
    ],
    [
      "an unknown id",
      () => [`${base}/contacts/00000000-0000-0000-0000-000000000000`],
      404,
      { code: "not_found" },
    ],
    ["an unknown entity", () => [`${base}/nope`], 404, { code: "not_found" }],
    ["quoting tricks in the entity", () => [`${base}/contacts%22%3B%20drop%20table%20x`], 404, {}],
    ["unicode in the entity", () => [`${base}/${encodeURIComponent("contаcts")}`], 404, {}],
    ["NUL in the entity", () => [`${base}/a%00b`], 400, {}],
    ["bad percent-encoding", () => [`${base}/%E0%A4%A`], 400, { code: "invalid_path" }],
    ["the storage by its name", () => [`${base}/contacts_jsonb`], 404, {}],
    ["a long entity name", () => [`${base}/${"x".repeat(300)}`], 404, {}],
    ["a body that is no JSON", () => [`${base}/contacts`, post("{name")], 400, { code: "invalid_json" }],
    ["an empty body", () => [`${base}/contacts`, post("")], 400, { code: "invalid_json" }],
    ["a body that is text", () => [`${base}/contacts`, post('"x"')], 400, { code: "invalid_body" }],
    [
      "a body nested too deeply",
      () => [`${base}/contacts`, post(`{"name":${deep}}`)],
      400,
      { code: "nested_too_deeply" },
    ],
    [
      "a body over the limit",
      () => [`${base}/contacts`, post(`{"name":"${"x".repeat(300_000)}"}`)],
      413,
      { code: "body_too_large" },
    ],
    [
      "a chunked body over the limit",
      () => [`${base}/contacts`, post(Buffer.alloc(3_000_000, 32), { "transfer-encoding": "chunked" })],
      413,
      {},
    ],
    [
      "invalid UTF-8",
      () => [`${base}/contacts`, post(Buffer.from([0x7b, 0xff, 0x7d]))],
      400,
      { code: "invalid_utf8" },
    ],
    ["\\u0000 in a body", () => [`${base}/contacts`, post('{"name":"a\\u0000"}')], 400, {}],
    [
      "another content type",
      () => [`${base}/contacts`, post("{}", { "content-type": "text/plain" })],
      415,
      {},
    ],
    ["a compressed body", () => [`${base}/contacts`, post("{}", { "content-encoding": "gzip" })], 415, {}],
    [
      "unknown property",
      () => [`${base}/contacts`, post({ name: "X", nope: 1 })],
      422,
      { errors: [{ pointer: "/nope" }] },
    ],
    [
      "every problem at once",
      () => [`${base}/contacts`, post({ age: -1, born: "soon" })],
      422,
      { errors: [{}, {}, {}] },
    ],
    [
      "money with too many digits is not rounded",
      () => [`${base}/contacts`, post('{"name":"X","balance":0.105}')],
      422,
      { errors: [{ pointer: "/balance" }] },
    ],
    [
      "a value that must be unique",
      () => [`${base}/contacts`, post({ name: "X", email: "ada@x.test" })],
      409,
      { code: "not_unique", errors: [{ pointer: "/email" }] },
    ],
    [
      "a reference to nothing",
      () => [`${base}/contacts`, post({ name: "X", company_id: "00000000-0000-0000-0000-000000000000" })],
      422,
      { code: "missing_reference", errors: [{ pointer: "/company_id" }] },
    ],
    [
      "deleting what is referred to",
      () => [`${base}/companies/${crm.ids.company}`, { method: "DELETE" }],
      409,
      { code: "still_referenced" },
    ],
    [
      "If-Match that is no version",
      () => [`${base}/contacts/${crm.ids.Ada}`, { method: "PATCH", body: {}, headers: { "if-match": "x" } }],
      400,
      { code: "invalid_if_match" },
    ],
    [
      "a method that is not allowed",
      () => [`${base}/contacts`, { method: "REPORT", body: {} }],
      405,
      { hint: /POST/ },
    ],
    [
      "an unheard-of method",
      () => [`${base}/contacts/${crm.ids.Ada}`, { method: "POST", body: {} }],
      405,
      {},
    ],
    ["an unknown route", () => ["/api/v2/x"], 404, { code: "no_route" }],
    ["too long a path", () => [`${base}/contacts/${crm.ids.Ada}/x`], 404, { code: "no_route" }],
  ])("%s", async (_title, call, status, content) => {
    const answer = await send(...call());
    expect({ status: answer.status, ...answer.json }).toMatchObject({
      status,
      title: expect.any(String),
      detail: expect.any(String),
      request_id: answer.headers["x-request-id"],
    });
    expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
    for (const [key, value] of Object.entries(content as object)) {
      if (value instanceof RegExp) expect(answer.json[key]).toMatch(value);
      else expect(answer.json).toMatchObject({ [key]: value });
    }
    expect(answer.text).not.toMatch(/select .* from|acme_crm|node_modules|\bat \w+ \(/);
  });

  test("nothing of it was written", async () => {
    expect(names(await send(find({ sort: "name" })))).toBe("Ada Bea Cyd Dan");
  });
});
