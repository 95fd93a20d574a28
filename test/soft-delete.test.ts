import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGraphql } from "./harness/graphql.ts";

// What an author was promised of x-soft-delete: what is deleted is gone through every door, and can be had back.

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
const define = (name: string, properties: object, more: object = {}) =>
  crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", properties, ...more },
  ]);
const insert = async (name: string, ...records: object[]) =>
  (
    await crm.db.query<{ r: { id: string }[] }>("select data.insert($1, $2) as r", [
      `acme/crm/${name}`,
      JSON.stringify(records),
    ])
  )[0]?.r.map((r) => r.id) as string[];
const call = async (method: string, path: string, body?: unknown, as = "ann") => {
  const answer = await crm.send(`${base}/${path}`, { method, body, as });
  return [answer.status, answer.json.code ?? answer.json] as [number, unknown];
};
const rows = (sql: string, values?: unknown[]) => crm.db.query(sql, values);
const sweep = () => crm.db.query("call data.delete_expired()");

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const soft = { "x-storage": storage, "x-soft-delete": true };
  const name = (part: string) => `${part}_${storage}s`;
  const make = async (part: string, properties: object, more: object = soft) => {
    await define(name(part), properties, more);
    return name(part);
  };
  const relation = (entity: string, onDelete: string) => ({
    type: "string",
    format: "uuid",
    "x-relation": { entity, onDelete },
  });

  test("a deleted record is gone through every door, listed to those who may delete, and comes back as it was", async () => {
    const e = await make("page", {
      title: { ...text, "x-index": true },
      n: { type: "integer", default: 7 },
      data2: text,
    });
    const seats = await make("leaf", { page_id: relation(e, "set null") }, { "x-storage": storage });
    const [gone, kept] = await insert(e, { title: "gone", n: 1 }, { title: "kept" });
    await call("PATCH", `${e}/${gone}`, { n: null });
    await insert(seats, { page_id: kept });
    const [, before] = await call("GET", `${e}/${gone}`);
    expect(await call("DELETE", `${e}/${gone}`)).toEqual([204, {}]);

    expect((await crm.send(`${base}/${e}?count=exact`)).json).toMatchObject({
      data: [{ title: "kept" }],
      meta: { count: 1 },
    });
    for (const [method, body] of [["GET"], ["PATCH", { n: 2 }], ["PUT", { n: 2 }], ["DELETE"]] as [
      string,
      object?,
    ][])
      expect(await call(method, `${e}/${gone}`, body)).toEqual([404, "not_found"]);
    expect((await crm.send(`${base}/${e}/export?format=csv`)).text).not.toContain("gone");
    expect(await call("POST", seats, { page_id: gone })).toEqual([422, "missing_reference"]);
    const part = storage === "flat" ? "Flat" : "Jsonb";
    const seen = await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `{ p: page${part}s { totalCount nodes { title } }
      __schema { types { name } } }`,
    );
    expect(seen.data.p).toEqual({ totalCount: 1, nodes: [{ title: "kept" }] });
    expect(
      seen.data.__schema.types.filter((t: { name: string }) => /deleted|__/i.test(t.name.slice(2))),
    ).toEqual([]);

    const listed = await crm.send(
      `${base}/${e}?deleted=only&filter=${encodeURIComponent('{"title":"gone"}')}&count=exact`,
    );
    expect(listed.json).toMatchObject({
      data: [
        { title: "gone", id: gone, n: null, deleted_by: expect.any(String), deleted_at: expect.any(String) },
      ],
      meta: { count: 1 },
    });
    expect(await call("GET", `${e}?deleted=only`, undefined, "vic")).toEqual([403, "forbidden"]);
    expect(await call("POST", `${e}/${gone}/restore`, undefined, "vic")).toEqual([403, "forbidden"]);
    expect(await call("POST", `${e}/${gone}/purge`, undefined, "vic")).toEqual([403, "forbidden"]);
    expect((await call("POST", `${e}/${gone}/restore`, undefined, "bob"))[0]).toBe(404);
    await crm.db.as("acme", "vic@acme.test", async (client) => {
      expect((await refusal(client.query(`select * from acme_crm.${e}__deleted`))).code).toBe("RH403");
    });
    await crm.db.as("acme", "vic@acme.test", async (client) => {
      expect((await refusal(client.query(`select * from acme_crm.${e}__deleted_records`))).code).toBe(
        "42501",
      );
    });

    const [status, after] = await call("POST", `${e}/${gone}/restore`);
    expect(status).toBe(200);
    expect(after).toEqual({ ...(before as object), version: 3, updated_at: expect.any(String) });
    expect(await call("POST", `${e}/${gone}/restore`)).toEqual([404, "not_found"]);
    expect((await call("GET", `${e}/${gone}`))[0]).toBe(200);
    expect((await crm.send(`${base}/${e}?deleted=only`)).json.data).toEqual([]);
    // Written again like any record.
    expect((await call("PATCH", `${e}/${gone}`, { title: "back", version: 3 }))[0]).toBe(200);
    expect(
      (await crm.send(`${base}/${e}?filter=${encodeURIComponent('{"title":"back"}')}`)).json.data,
    ).toHaveLength(1);
  });

  test("every way of deleting keeps the record: psql, GraphQL, functions, many at once", async () => {
    const e = await make("way", { t: text });
    const [a, b] = await insert(e, { t: "a" }, { t: "b" }, { t: "c" }, { t: "d" });
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query("select data.delete($1, $2)", [`acme/crm/${e}`, a]);
      await client.query(`delete from acme_crm.${e} where t in ('c', 'd')`);
    });
    const part = storage === "flat" ? "Flat" : "Jsonb";
    const done = await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `mutation { deleteWay${part}(input: {id: "${b}"}) { clientMutationId } }`,
    );
    expect(done.errors).toEqual([]);
    const found = await rows(`select data.deleted($1, '{"sort": [{"field": "t"}], "select": ["t"]}') as f`, [
      `acme/crm/${e}`,
    ]);
    expect(found).toMatchObject([{ f: { data: [{ t: "a" }, { t: "b" }, { t: "c" }, { t: "d" }] } }]);
    expect(await rows("select data.restore($1, $2)->>'t' as t", [`acme/crm/${e}`, a])).toEqual([{ t: "a" }]);
    await rows("select data.purge($1, $2)", [`acme/crm/${e}`, b]);
    expect((await refusal(rows("select data.restore($1, $2)", [`acme/crm/${e}`, b]))).code).toBe("RH404");
    expect((await refusal(rows("select data.purge($1, $2)", [`acme/crm/${e}`, a]))).detail.code).toBe(
      "not_deleted",
    );
    expect((await refusal(rows("select data.purge($1, $2)", [`acme/crm/${e}`, b]))).code).toBe("RH404");
  });

  test("unique values of deleted records are free, and restoring what is taken meanwhile conflicts", async () => {
    const e = await make("handle", { nick: { ...text, "x-unique": true } });
    const [a] = await insert(e, { nick: "ada" });
    await call("DELETE", `${e}/${a}`);
    expect((await call("POST", e, { nick: "ada" }))[0]).toBe(201);
    expect(await call("POST", `${e}/${a}/restore`)).toEqual([409, "not_unique"]);
    expect(await rows(`select count(*)::int as n from acme_crm.${e}__deleted`)).toEqual([{ n: 1 }]);
    await rows(`update acme_crm.${e} set nick = 'eve'`);
    expect((await call("POST", `${e}/${a}/restore`))[0]).toBe(200);
  });

  test("relations hold: restrict refuses, set null unsets, cascade goes along and comes back, and only that", async () => {
    const e = await make("order", { t: text });
    const lines = await make("line", { t: text, order_id: relation(e, "cascade") });
    const parts = await make("piece", { t: text, line_id: relation(lines, "cascade") });
    const notes = await make(
      "memo",
      { t: text, order_id: relation(e, "set null") },
      { "x-storage": storage },
    );
    const bills = await make("bill", { order_id: relation(e, "restrict") });
    const [one, two] = await insert(e, { t: "one" }, { t: "two" });
    const [, early, foreign] = await insert(
      lines,
      { t: "1", order_id: one },
      { t: "early", order_id: one },
      { t: "2", order_id: two },
    );
    const [line] = await rows(`select id from acme_crm.${lines} where t = '1'`);
    await insert(parts, { t: "p", line_id: line?.id });
    await insert(notes, { t: "n", order_id: one });
    const [bill] = await insert(bills, { order_id: one });
    expect(await call("DELETE", `${e}/${one}`)).toEqual([409, "still_referenced"]);
    await call("DELETE", `${bills}/${bill}`);
    await call("DELETE", `${lines}/${early}`);
    expect((await call("DELETE", `${e}/${one}`))[0]).toBe(204);
    expect(await rows(`select t from acme_crm.${lines} union all select t from acme_crm.${parts}`)).toEqual([
      { t: "2" },
    ]);
    expect(await rows(`select order_id from acme_crm.${notes}`)).toEqual([{ order_id: null }]);
    // A part of what went cannot come back alone.
    expect(await call("POST", `${lines}/${line?.id}/restore`)).toEqual([409, "reference_deleted"]);
    expect(await call("POST", `${bills}/${bill}/restore`)).toEqual([409, "reference_deleted"]);
    expect((await call("POST", `${e}/${one}/restore`))[0]).toBe(200);
    expect(
      await rows(`select t from acme_crm.${lines} union all select t from acme_crm.${parts} order by t`),
    ).toEqual([{ t: "1" }, { t: "2" }, { t: "p" }]);
    expect(await rows(`select t from acme_crm.${lines}__deleted`)).toEqual([{ t: "early" }]);
    expect((await call("POST", `${bills}/${bill}/restore`))[0]).toBe(200);
    expect((await call("GET", `${lines}/${foreign}`))[0]).toBe(200);
  });

  test("a cascade into records that cannot be restored is refused when it is defined", async () => {
    const hard = { "x-storage": storage };
    const e = await make("top", { t: text }, hard);
    const child = await make("sub", { top_id: relation(e, "cascade") }, hard);
    const failure = await refusal(make("top", { t: text }));
    expect([failure.code, failure.detail.errors?.[0]?.pointer]).toEqual(["RH400", "/x-soft-delete"]);
    await make("sub", { top_id: relation(e, "cascade") });
    await make("top", { t: text });
    expect((await refusal(make("sub", { top_id: relation(e, "cascade") }, hard))).code).toBe("RH400");
    expect((await refusal(make("other", { top_id: relation(e, "cascade") }, hard))).code).toBe("RH400");
    await rows("select data.drop_entity($1, $2)", [`acme/crm/${child}`, child]);
    expect(await rows("select relname from pg_class where relname like $1", [`${child}\\_\\_%`])).toEqual([]);
  });

  test("deleted records follow the definition: renamed, converted, stored otherwise, or refused when they do not fit", async () => {
    const e = await make("form", { whole: text, age: text, note: text });
    const [a, b] = await insert(
      e,
      { whole: "Ada", age: "36", note: "x" },
      { whole: "Bea", age: "old" },
      { whole: "Cyd" },
    );
    await rows(`delete from acme_crm.${e} where whole in ('Ada', 'Bea')`);
    const apply = async (properties: object) => {
      const [plan] = await rows("select data.plan($1, $2)->>'plan' as id", [
        `acme/crm/${e}`,
        { type: "object", properties, ...soft },
      ]);
      await rows("select data.apply($1, true)", [plan?.id]);
    };
    await apply({ name: { ...text, "x-renamed-from": "whole", "x-index": true }, age: { type: "integer" } });
    const listed = async () =>
      (await crm.send(`${base}/${e}?deleted=only&sort=name&select=name,age`)).json.data;
    expect((await listed())[0]).toEqual({ name: "Ada", age: 36 });
    const other = storage === "flat" ? "jsonb" : "flat";
    await rows("select data.convert_storage($1, $2)", [`acme/crm/${e}`, other]);
    await rows("call data.run_operations()");
    expect(await call("POST", `${e}/${a}/restore`)).toEqual([
      200,
      expect.objectContaining({ name: "Ada", age: 36 }),
    ]);
    const [status, code] = await call("POST", `${e}/${b}/restore`);
    expect([status, code]).toEqual([422, "validation_failed"]);
    // As the site's role, also what was never deleted.
    expect((await crm.send(`${base}/${e}?sort=name&select=name,age`)).json.data).toEqual([
      { name: "Ada", age: 36 },
      { name: "Cyd", age: null },
    ]);
  });

  test("the option goes only when nothing is kept, and dropped values leave with a compaction", async () => {
    const e = await make("off", { t: text, secret: text });
    const [a] = await insert(e, { t: "a", secret: "hush" }, { t: "b" });
    await call("DELETE", `${e}/${a}`);
    const off = () => define(e, { t: text }, { "x-storage": storage });
    const [plan] = await rows("select data.plan($1, $2)->>'plan' as id", [
      `acme/crm/${e}`,
      { type: "object", properties: { t: text }, ...soft },
    ]);
    await rows("select data.apply($1, true)", [plan?.id]);
    expect(await refusal(off())).toMatchObject({ code: "RH409", detail: { code: "deleted_records" } });
    await rows("select data.compact($1)", [`acme/crm/${e}`]);
    await rows("call data.run_operations()");
    expect(JSON.stringify(await rows(`select k::text from acme_crm.${e}__deleted_records k`))).not.toContain(
      "hush",
    );
    expect((await call("POST", `${e}/${a}/purge`))[0]).toBe(204);
    await off();
    await call("DELETE", `${e}/${a}`);
    expect(await call("GET", `${e}?deleted=only`)).toEqual([400, "option_missing"]);
    expect(await call("POST", `${e}/${a}/restore`)).toEqual([400, "option_missing"]);
  });

  test("what has expired is not kept, and what is kept expires", async () => {
    const e = await make("temp", { t: text }, { ...soft, "x-ttl": true });
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const [a, b] = await insert(e, { t: "a", expires_at: soon }, { t: "b", expires_at: soon }, { t: "c" });
    await call("DELETE", `${e}/${a}`);
    await rows(`do $$ begin set local role rowhouse_owner; set local rowhouse.maintenance = 'on';
      update acme_crm.${e}_${storage} set expires_at = now() - interval '1 s' where id = '${b}';
      update acme_crm.${e}__deleted_records set expires_at = now() - interval '1 s'; end $$`);
    expect((await crm.send(`${base}/${e}?deleted=only`)).json.data).toEqual([]);
    expect(await call("POST", `${e}/${a}/restore`)).toEqual([404, "not_found"]);
    expect(await call("POST", `${e}/${b}/purge`)).toEqual([404, "not_found"]);
    await sweep();
    expect(await rows(`select count(*)::int as n from acme_crm.${e}__deleted_records`)).toEqual([{ n: 0 }]);
    expect(await rows(`select count(*)::int as n from acme_crm.${e}_${storage}`)).toEqual([{ n: 1 }]);
  });
});

test.each([
  ["deleted=all", 400],
  ["deleted=", 400],
  ["deleted=only&q=x", 400],
  ["deleted=only&filter=%7B%22nope%22%3A1%7D", 400],
  ["deleted=only%27%3Bdrop", 400],
])("bad queries for deleted records: %s", async (query, status) => {
  await define("asked", { t: text }, { "x-soft-delete": true });
  expect((await crm.send(`${base}/asked?${query}`)).status).toBe(status);
});

test.each([
  ["GET", "asked/nope/restore", 405],
  ["POST", "asked/nope/restore", 400],
  ["POST", "asked/00000000-0000-7000-8000-000000000000/restore", 404],
  ["POST", "asked/00000000-0000-7000-8000-000000000000/purge?x=1", 400],
  ["POST", "contacts/00000000-0000-7000-8000-000000000000/restore", 400],
  ["POST", "nothing/00000000-0000-7000-8000-000000000000/restore", 404],
  ["POST", "asked/00000000-0000-7000-8000-000000000000/vanish", 404],
])("%s %s answers %d", async (method, path, status) => {
  await define("asked", { t: text }, { "x-soft-delete": true });
  expect((await crm.send(`${base}/${path}`, { method })).status).toBe(status);
});

test("options are true or false", async () => {
  for (const option of ["x-soft-delete", "x-history", "x-metadata", "x-tags"])
    for (const value of ["yes", 1, null, {}])
      expect(
        (await refusal(define("wrong", { t: text }, { [option]: value }))).detail.errors?.[0]?.pointer,
      ).toBe(`/${option}`);
});
