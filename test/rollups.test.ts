import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGraphql } from "./harness/graphql.ts";

// What an author was promised of x-rollup: a field of the records that refer to one, right at any moment, and telling nobody more
// than those records would.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

const text = { type: "string" };
const integer = { type: "integer" };
const decimal = { type: "number", format: "decimal" };
const rows = (sql: string, values?: unknown[]) => crm.db.query(sql, values);
const define = (name: string, properties: object, more: object = {}) =>
  rows("select data.define_entity('acme/crm', $1, $2)", [name, { type: "object", properties, ...more }]);
const insert = async (name: string, ...records: object[]) =>
  (
    await crm.db.query<{ r: { id: string }[] }>("select data.insert($1, $2) as r", [
      `acme/crm/${name}`,
      JSON.stringify(records),
    ])
  )[0]?.r.map((r) => r.id) as string[];
const call = async (method: string, path: string, body?: unknown, as = "ann") => {
  const answer = await crm.send(`${base}/${path}`, { method, body, as });
  return [answer.status, answer.json.code ?? answer.json] as unknown as [number, Record<string, unknown>];
};

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const parents = `clients_${storage}s`;
  const children = `bills_${storage}s`;
  const stored = { "x-storage": storage };
  const rollup = (type: object, fn: string, field?: string, filter?: object) => ({
    ...type,
    "x-rollup": {
      relation: children,
      function: fn,
      ...(field ? { field } : {}),
      ...(filter ? { filter } : {}),
    },
  });
  const rolled = {
    name: { ...text, "x-index": true },
    bills: rollup(integer, "count"),
    open: rollup(integer, "count", undefined, { paid: { $ne: true } }),
    total: rollup(decimal, "sum", "total"),
    pieces: rollup(integer, "sum", "pieces"),
    least: rollup(decimal, "min", "total"),
    most: rollup(decimal, "max", "total"),
    latest: rollup(text, "last", "label"),
  };
  const child = (onDelete = "restrict") => ({
    label: text,
    total: decimal,
    pieces: integer,
    paid: { type: "boolean", default: false },
    client_id: { type: "string", format: "uuid", "x-relation": { entity: parents, onDelete } },
  });
  let ada: string;
  let bea: string;
  const of = async (id: string, as = "ann") => {
    const [, record] = await call(
      "GET",
      `${parents}/${id}?select=bills,open,total,pieces,least,most,latest`,
      undefined,
      as,
    );
    return record;
  };
  const none = { bills: 0, open: 0, total: 0, pieces: 0, least: null, most: null, latest: null };

  beforeAll(async () => {
    await define(parents, { name: rolled.name }, stored);
    await define(children, child(), { ...stored, "x-ttl": true, "x-soft-delete": true });
    [ada, bea] = (await insert(parents, { name: "Ada" }, { name: "Bea" })) as [string, string];
    await insert(children, { label: "a", total: 0.1, pieces: 1, client_id: ada });
    await define(parents, rolled, stored);
  });

  test("it follows every write: insert, update, another parent, delete, restore, expiry", async () => {
    expect(await of(ada)).toEqual({
      bills: 1,
      open: 1,
      total: 0.1,
      pieces: 1,
      least: 0.1,
      most: 0.1,
      latest: "a",
    });
    const [b, c] = await insert(
      children,
      { label: "b", total: 0.2, pieces: 2, paid: true, client_id: ada },
      {
        label: "c",
        total: 5,
        pieces: 3,
        client_id: ada,
        expires_at: new Date(Date.now() + 600_000).toISOString(),
      },
    );
    expect(await of(ada)).toEqual({
      bills: 3,
      open: 2,
      total: 5.3,
      pieces: 6,
      least: 0.1,
      most: 5,
      latest: "c",
    });
    await call("PATCH", `${children}/${b}`, { client_id: bea });
    expect(await of(bea)).toEqual({
      bills: 1,
      open: 0,
      total: 0.2,
      pieces: 2,
      least: 0.2,
      most: 0.2,
      latest: "b",
    });
    await call("DELETE", `${children}/${b}`);
    expect(await of(bea)).toEqual(none);
    await call("POST", `${children}/${b}/restore`);
    expect(await of(bea)).toMatchObject({ bills: 1, total: 0.2 });
    await rows(`do $$ begin set local role rowhouse_owner; set local rowhouse.maintenance = 'on';
      update acme_crm.${children}_${storage} set expires_at = now() - interval '1 s' where id = '${c}'; end $$`);
    expect(await of(ada)).toMatchObject({ bills: 1, total: 0.1, latest: "a" });
  });

  test("it is right with writers at once", async () => {
    const [id] = await insert(parents, { name: "Busy" });
    const bodies = Array.from({ length: 40 }, (_, i) => ({
      label: `${i}`,
      total: 0.01,
      pieces: 1,
      client_id: id,
    }));
    await Promise.all(bodies.map((body) => call("POST", children, body)));
    expect(await of(id as string)).toMatchObject({ bills: 40, total: 0.4, pieces: 40 });
    await rows(`delete from acme_crm.${children} where client_id = $1`, [id]);
    await call("DELETE", `${parents}/${id}`);
  });

  test("it is filtered, sorted, exported, counted and asked in GraphQL like any field", async () => {
    const find = (query: string) => crm.send(`${base}/${parents}?${query}`);
    const filter = encodeURIComponent('{"total":{"$gt":0.15}}');
    expect((await find(`filter=${filter}&count=exact`)).json).toMatchObject({
      data: [{ name: "Bea" }],
      meta: { count: 1 },
    });
    expect((await find("sort=-total")).json.data.map((row) => row.name)).toEqual(["Bea", "Ada"]);
    expect((await crm.send(`${base}/${parents}/export?format=csv&sort=name&select=name,bills`)).text).toMatch(
      /Ada,1/,
    );
    const part = storage === "flat" ? "Flat" : "Jsonb";
    const answer = await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `{ clients: clients${part}s(orderBy: NAME_ASC) { nodes { name bills total latest } } }`,
    );
    expect(answer).toMatchObject({
      errors: [],
      data: { clients: { nodes: [{ name: "Ada", bills: "1", total: "0.1", latest: "a" }, { name: "Bea" }] } },
    });
    const input = await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `{ __type(name: "Clients${part}Input") { inputFields { name } } }`,
    );
    expect(input.data.__type.inputFields.map((f: { name: string }) => f.name)).not.toContain("bills");
  });

  test("nobody writes it", async () => {
    const [status, record] = await call("POST", parents, { name: "Liar", bills: 99, total: 1e6 });
    expect([status, record.bills, record.total]).toEqual([201, 0, 0]);
    expect((await call("PATCH", `${parents}/${record.id}`, { bills: 5 }))[1]).toMatchObject({ bills: 0 });
    await call("DELETE", `${parents}/${record.id}`);
  });

  test("who may not read the records learns nothing of them", async () => {
    await rows("select access.create_role('acme', $1, array['crm/' || $2 || ':read'])", [
      `half_${storage}`,
      parents,
    ]);
    await crm.db.account(`nora-${storage}@acme.test`);
    await rows("select tenancy.add_member('acme', $1, 'viewer')", [`nora-${storage}@acme.test`]);
    await rows("select access.assign_role('acme', $1, $2), access.revoke_role('acme', $1, 'viewer')", [
      `nora-${storage}@acme.test`,
      `half_${storage}`,
    ]);
    await crm.db.as("acme", `nora-${storage}@acme.test`, async (client) => {
      const { rows: seen } = await client.query(
        `select name, bills, total::float8, latest from acme_crm.${parents} order by name`,
      );
      expect(seen).toEqual(["Ada", "Bea"].map((name) => ({ name, bills: "0", total: 0, latest: null })));
      expect((await client.query(`select from acme_crm.${parents} where total > 0`)).rowCount).toBe(0);
    });
    await crm.db.as("beta", "bob@beta.test", async (client) => {
      const failure = await refusal(client.query(`select acme_crm.${parents}__rollup_total($1)`, [ada]));
      expect(failure.code).toBe("42501");
    });
  });

  test("what it needs cannot go before it, and it goes with a new definition", async () => {
    const drop = await refusal(rows("select data.drop_entity($1, $2)", [`acme/crm/${children}`, children]));
    expect([drop.code, drop.detail.code]).toEqual(["RH409", "still_referenced"]);
    const { total, ...rest } = child();
    const [plan] = await rows("select data.plan($1, $2)->>'plan' as id", [
      `acme/crm/${children}`,
      { type: "object", properties: rest, ...stored, "x-ttl": true, "x-soft-delete": true },
    ]);
    expect((await refusal(rows("select data.apply($1, true)", [plan?.id]))).detail.code).toBe(
      "still_referenced",
    );
    // The records it rolls up are stored otherwise, and it goes on.
    await rows("select data.convert_storage($1, $2)", [
      `acme/crm/${children}`,
      storage === "flat" ? "jsonb" : "flat",
    ]);
    await rows("call data.run_operations()");
    expect(await of(ada)).toMatchObject({ bills: 1, total: 0.1 });
    const { total: _sum, ...fewer } = rolled;
    await define(parents, fewer, stored);
    expect(
      await rows("select proname from pg_proc where proname = $1", [`${parents}__rollup_total`]),
    ).toEqual([]);
    await define(parents, rolled, stored);
    expect(await of(ada)).toMatchObject({ total: 0.1 });
  });

  test.each([
    ["no relation", rollup(integer, "count", undefined), { relation: "nothing" }],
    ["a relation to one", rollup(integer, "count"), { relation: "client" }],
    ["no function", rollup(integer, "median", "pieces"), {}],
    ["a field too many", rollup(integer, "count", "pieces"), {}],
    ["a field too few", rollup(integer, "sum"), {}],
    ["an unknown field", rollup(integer, "sum", "nope"), {}],
    ["a sum of text", rollup(integer, "sum", "label"), {}],
    ["decimals as integers", rollup(integer, "sum", "total"), {}],
    ["a sum as text", rollup(text, "sum", "pieces"), {}],
    ["the last of another kind", rollup(integer, "last", "label"), {}],
    ["a bad filter", rollup(integer, "count", undefined, { nope: 1 }), {}],
    ["a hostile filter", rollup(integer, "count", undefined, { "label'; drop table x; --": 1 }), {}],
    ["an index", { ...rollup(integer, "count"), "x-index": true }, {}],
    ["a default", { ...rollup(integer, "count"), default: 1 }, {}],
    ["an expression", { ...rollup(integer, "count"), "x-computed": "1 + 1" }, {}],
    ["injection", rollup(integer, "count"), { relation: `${children}"; drop table data.entities; --` }],
  ])("a rollup with %s is refused", async (_what, property, changed) => {
    const bad = {
      ...property,
      "x-rollup": { ...(property as { "x-rollup": object })["x-rollup"], ...changed },
    };
    expect((await refusal(define(parents, { ...rolled, bad }, stored))).code).toBe("RH400");
  });

  test("literals of its filter are data", async () => {
    const hostile = "'); drop table data.entities; -- $body$ %1$I";
    await define(
      parents,
      { ...rolled, odd: rollup(integer, "count", undefined, { label: hostile }) },
      stored,
    );
    const [id] = await insert(children, { label: hostile, client_id: bea });
    expect((await call("GET", `${parents}/${bea}?select=odd`))[1]).toEqual({ odd: 1 });
    await rows(`delete from acme_crm.${children} where id = $1`, [id]);
  });
});

test("a tree counts its own children, and a field cannot be computed from a rollup", async () => {
  const parent_id = {
    type: "string",
    format: "uuid",
    "x-relation": { entity: "nodes_of_tree", name: "parent", inverse: "children" },
  };
  await define("nodes_of_tree", { name: text });
  await define("nodes_of_tree", { name: text, parent_id });
  const count = { ...integer, "x-rollup": { relation: "children", function: "count" } };
  await define("nodes_of_tree", { name: text, parent_id, count });
  const [root] = await insert("nodes_of_tree", { name: "root" });
  await insert("nodes_of_tree", { name: "a", parent_id: root }, { name: "b", parent_id: root });
  expect(await rows("select name, count::int from acme_crm.nodes_of_tree order by name")).toEqual([
    { name: "a", count: 0 },
    { name: "b", count: 0 },
    { name: "root", count: 2 },
  ]);
  const twice = { ...integer, "x-computed": "count * 2" };
  expect((await refusal(define("nodes_of_tree", { name: text, parent_id, count, twice }))).message).toContain(
    "rollup",
  );
  const deep = { ...integer, "x-rollup": { relation: "children", function: "sum", field: "count" } };
  expect((await refusal(define("nodes_of_tree", { name: text, parent_id, count, deep }))).code).toBe("RH400");
  await rows("select data.drop_entity('acme/crm/nodes_of_tree', 'nodes_of_tree')");
  expect(await rows("select proname from pg_proc where proname like 'nodes\\_of\\_tree%'")).toEqual([]);
});

test("results with rollups are not kept in the cache", async () => {
  await define("shelves", { name: text }, { "x-cache-ttl": 60 });
  await define(
    "books",
    { shelf_id: { type: "string", format: "uuid", "x-relation": { entity: "shelves" } } },
    { "x-cache-ttl": 60 },
  );
  await define(
    "shelves",
    { name: text, held: { ...integer, "x-rollup": { relation: "books", function: "count" } } },
    { "x-cache-ttl": 60 },
  );
  const [shelf] = await insert("shelves", { name: "a" });
  const count = async () => (await crm.send(`${base}/shelves`)).json.data[0]?.held;
  expect(await count()).toBe(0);
  await insert("books", { shelf_id: shelf });
  expect(await count()).toBe(1);
});
