import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, base, type Call, type Crm, find, names, startCrm } from "./harness/crm.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());
const send = (path: string, call?: Call) => crm.send(path, call);

describe("filters, by every operator", () => {
  test.each([
    ["equal, short", { name: "Ada" }, "Ada"],
    ["$eq", { age: { $eq: 20 } }, "Bea"],
    ["$ne, absent values too", { name: { $ne: "Ada" } }, "Bea Cyd Dan"],
    ["$gt", { age: { $gt: 36 } }, "Cyd"],
    ["$gte and $lt", { age: { $gte: 20, $lt: 51 } }, "Ada Bea"],
    ["$lte", { age: { $lte: 20 } }, "Bea"],
    ["$in", { name: { $in: ["Ada", "Dan"] } }, "Ada Dan"],
    ["$in of numbers", { age: { $in: [20, 51] } }, "Bea Cyd"],
    ["$nin", { name: { $nin: ["Ada", "Dan"] } }, "Bea Cyd"],
    ["$like", { name: { $like: "%d_" } }, "Ada"],
    ["$ilike", { name: { $ilike: "a%" } }, "Ada"],
    ["$contains in a list", { tags: { $contains: "art" } }, "Bea"],
    ["$exists", { age: { $exists: false } }, "Dan"],
    ["null", { age: null }, "Dan"],
    ["$or", { $or: [{ age: 36 }, { age: 20 }] }, "Ada Bea"],
    ["$and", { $and: [{ age: 36 }, { name: "Ada" }] }, "Ada"],
    ["$not", { $not: { age: { $gt: 21 } } }, "Bea Dan"],
    ["$not under a field", { name: { $not: { $like: "A%" } } }, "Bea Cyd Dan"],
    ["nested path", { "address.city": "Oslo" }, "Bea Cyd"],
    ["nested path with a number", { "address.floor": { $gt: 3 } }, "Cyd"],
    ["boolean", { active: false }, "Cyd"],
    ["date", { born: "2001-02-03" }, "Bea"],
    ["a system column", { version: 1, name: "Dan" }, "Dan"],
    ["SQL in a string is a string", { name: "' or true --" }, ""],
    ["a dollar string is a string", { name: "$account.id" }, ""],
  ])("%s", async (_title, filter, expected) => {
    const answer = await send(find({ filter, sort: "name" }));
    expect(answer.text).toContain('"data"');
    expect(names(answer)).toBe(expected);
  });

  test("a number in a filter keeps every digit", async () => {
    const answer = await send(`${base}/contacts?filter=%7B%22balance%22:12345678901234567890.12%7D`);
    expect(names(answer)).toBe("Ada");
    expect(answer.text).toContain('"balance":12345678901234567890.12');
    expect(names(await send(`${base}/contacts?filter=%7B%22balance%22:12345678901234567890.13%7D`))).toBe("");
  });
});

describe("how many there are", () => {
  test.each<[string, Record<string, unknown>, number | undefined]>([
    ["is not counted unless asked for", { limit: "1" }, undefined],
    ["none", { count: "none" }, undefined],
    ["all, not only this page's", { count: "exact", limit: "1" }, 4],
    ["of a filter", { count: "exact", filter: { age: { $gt: 30 } }, limit: "1" }, 2],
    ["of a filter on a relation", { count: "exact", filter: { company: { $exists: true } } }, 2],
    ["of nothing", { count: "exact", filter: { name: "Zoe" } }, 0],
  ])("%s", async (_title, query, count) => {
    expect((await send(find(query))).json.meta).toMatchObject(count === undefined ? {} : { count });
    if (count === undefined) expect((await send(find(query))).json.meta).not.toHaveProperty("count");
  });

  test("is the same on every page, and not more than one may see", async () => {
    const first = await send(find({ count: "exact", limit: "3", sort: "name" }));
    const second = await send(
      find({ count: "exact", limit: "3", sort: "name", cursor: first.json.meta.next_cursor ?? "" }),
    );
    expect([names(second), second.json.meta]).toMatchObject(["Dan", { count: 4 }]);
    const other = await send("/api/v1/sites/beta/apps/crm/contacts?count=exact", { as: "bob" });
    expect(other.json.meta).toMatchObject({ count: 1 });
  });

  test("anything else is refused", async () => {
    expect(await send(find({ count: "guess" }))).toMatchObject({
      status: 400,
      json: { code: "invalid_count" },
    });
  });
});

describe("sort, select, expand and pages, in JSON and in short", () => {
  test.each<[string, Record<string, unknown>, string]>([
    ["sort in short", { sort: "-name" }, "Dan Cyd Bea Ada"],
    ["sort by two", { sort: "active,-name" }, "Cyd Dan Bea Ada"],
    ["sort in JSON", { sort: [{ field: "name", direction: "desc" }] }, "Dan Cyd Bea Ada"],
    ["newest first without sort", {}, "Dan Cyd Bea Ada"],
    ["limit and offset", { sort: "name", limit: "2", offset: "1" }, "Bea Cyd"],
    ["page and limit", { sort: "name", page: "2", limit: "3" }, "Dan"],
    ["page alone", { sort: "name", page: "1" }, "Ada Bea Cyd Dan"],
  ])("%s", async (_title, query, expected) => {
    const answer = await send(find(query));
    expect([answer.status, names(answer)]).toEqual([200, expected]);
  });

  test("select, both forms, returns these fields only", async () => {
    for (const select of ["id,name", '["id","name"]']) {
      const answer = await send(find({ select, filter: { name: "Ada" } }));
      expect(answer.json.data).toEqual([{ id: crm.ids.Ada, name: "Ada" }]);
    }
  });

  test("expand embeds relations, nested and both ways, in one round trip", async () => {
    const path = find({ expand: "company", filter: { name: "Ada" }, select: "name" });
    await send(path);
    const before = crm.gateway.roundTrips();
    const answer = await send(path);
    expect(crm.gateway.roundTrips() - before).toBe(1);
    expect(answer.json.data[0]).toMatchObject({
      name: "Ada",
      company: { id: crm.ids.company, name: "Oslo Works" },
    });
    const back = await send(
      `${base}/companies/${crm.ids.company}?expand=${encodeURIComponent('["contacts.company"]')}`,
    );
    expect(back.json.contacts).toMatchObject([{ name: "Ada", company: { city: "Oslo" } }, { name: "Bea" }]);
  });

  test("a cursor walks every record once", async () => {
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const answer: Answer = await send(find({ sort: "name", limit: "1", ...(cursor ? { cursor } : {}) }));
      expect(answer.status).toBe(200);
      seen.push(names(answer));
      cursor = answer.json.meta.next_cursor ?? undefined;
    } while (cursor);
    expect(seen).toEqual(["Ada", "Bea", "Cyd", "Dan"]);
  });
});

describe("the life of a record", () => {
  test("POST, GET, PATCH, PUT, DELETE, with versions", async () => {
    const made = await send(`${base}/contacts`, {
      method: "POST",
      body: '{"name":"Eva","balance":0.10,"age":1}',
    });
    expect(made).toMatchObject({
      status: 201,
      headers: {
        etag: expect.stringMatching(/^W\/"1-[\w-]{22}"$/),
        location: `${base}/contacts/${made.json.id}`,
      },
    });
    expect(made.text).toContain('"balance":0.10');
    const path = made.headers.location as string;
    expect(await send(path)).toMatchObject({
      status: 200,
      headers: { etag: expect.stringMatching(/^W\/"1-[\w-]{22}"$/) },
      json: { name: "Eva", version: 1, active: true },
    });

    const changed = await send(path, { method: "PATCH", body: { age: 2 }, headers: { "if-match": 'W/"1"' } });
    expect(changed).toMatchObject({
      status: 200,
      headers: { etag: expect.stringMatching(/^W\/"2-[\w-]{22}"$/) },
      json: { age: 2, name: "Eva", balance: 0.1 },
    });
    const late = await send(path, { method: "PATCH", body: { age: 3 }, headers: { "if-match": '"1"' } });
    expect(late).toMatchObject({ status: 409, json: { code: "version_conflict" } });
    expect(await send(path, { method: "PATCH", body: { age: 3, version: 1 } })).toMatchObject({
      status: 409,
    });

    const replaced = await send(path, { method: "PUT", body: { name: "Eva II" } });
    expect(replaced).toMatchObject({ status: 200, json: { name: "Eva II", version: 3, active: true } });
    expect(replaced.json.age ?? null).toBeNull();

    expect(await send(path, { method: "DELETE", headers: { "if-match": '"1"' } })).toMatchObject({
      status: 409,
    });
    expect(await send(path, { method: "DELETE" })).toMatchObject({ status: 204, text: "" });
    for (const method of ["GET", "DELETE"]) expect((await send(path, { method })).status).toBe(404);
  });

  test("a list is written whole or not at all", async () => {
    const two = await send(`${base}/companies`, { method: "POST", body: [{ name: "One" }, { name: "Two" }] });
    expect(two).toMatchObject({ status: 201, json: [{ name: "One" }, { name: "Two" }] });
    expect(two.headers.location).toBeUndefined();
    const bad = await send(`${base}/companies`, {
      method: "POST",
      body: [{ name: "Three" }, { city: "no name" }],
    });
    expect(bad).toMatchObject({ status: 422, json: { errors: [{ pointer: "/1/name" }] } });
    const left = await send(`${base}/companies?filter=${encodeURIComponent('{"name":"Three"}')}`);
    expect(left.json.data).toEqual([]);
  });

  test("HEAD answers like GET, without a body", async () => {
    expect(await send(`${base}/contacts/${crm.ids.Ada}`, { method: "HEAD" })).toMatchObject({
      status: 200,
      text: "",
      headers: { etag: expect.stringMatching(/^W\/"1-[\w-]{22}"$/) },
    });
  });
});
