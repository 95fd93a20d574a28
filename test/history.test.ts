import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGraphql } from "./harness/graphql.ts";

// What an author was promised of x-history: who changed what and when, and a record as it was at any time.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
let ann: string;
beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  [{ id: ann }] = (await crm.db.query("select id from auth.accounts where email = 'ann@acme.test'")) as [
    { id: string },
  ];
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

const text = { type: "string" };
const rows = (sql: string, values?: unknown[]) => crm.db.query(sql, values);
const define = (name: string, properties: object, more: object = {}) =>
  rows("select data.define_entity('acme/crm', $1, $2)", [name, { type: "object", properties, ...more }]);
const call = async (method: string, path: string, body?: unknown, as = "ann") => {
  const answer = await crm.send(`${base}/${path}`, { method, body, as });
  return [answer.status, answer.json.code ?? answer.json] as [number, unknown];
};
const create = async (name: string, record: object) =>
  ((await call("POST", name, record)) as [number, { id: string }])[1].id;
const history = async (name: string, id: string, query = "") =>
  (
    (await crm.send(`${base}/${name}/${id}/history${query}`)).json as unknown as {
      data: Record<string, unknown>[];
    }
  ).data;
const now = async () => (await rows("select clock_timestamp() as now"))[0]?.now as Date;
const asOf = async (name: string, id: string, at: Date, more = "") =>
  call("GET", `${name}/${id}?as_of=${encodeURIComponent(at.toISOString())}${more}`);
/** JavaScript's times have milliseconds: waits until the next, so that as_of is not before what was just done. */
const tick = async () => {
  await new Promise((done) => setTimeout(done, 3));
  const at = await now();
  await new Promise((done) => setTimeout(done, 3));
  return at;
};

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const name = (part: string) => `${part}_${storage}s`;
  const make = async (part: string, properties: object, more: object = {}) => {
    await define(name(part), properties, { "x-storage": storage, "x-history": true, ...more });
    return name(part);
  };

  test("who changed what and when is told through every door, newest first", async () => {
    const e = await make("deal", {
      title: text,
      amount: { type: "integer", "x-index": true },
      tags2: { type: "array", items: text },
    });
    const id = await create(e, { title: "a", amount: 1 });
    await call("PATCH", `${e}/${id}`, { amount: 2, tags2: ["x"] });
    await crm.db.as("acme", "ann@acme.test", (client) =>
      client.query(`update acme_crm.${e} set title = null`),
    );
    const part = storage === "flat" ? "Flat" : "Jsonb";
    await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `mutation { updateDeal${part}(input: {id: "${id}", patch: {amount: "3"}}) { clientMutationId } }`,
    );
    await rows(`delete from acme_crm.${e}`);
    const all = await history(e, id);
    expect(all).toEqual([
      { version: 4, operation: "delete", at: expect.any(String), by: null },
      {
        version: 4,
        operation: "update",
        at: expect.any(String),
        by: ann,
        changes: { amount: { old: 2, new: 3 } },
      },
      {
        version: 3,
        operation: "update",
        at: expect.any(String),
        by: ann,
        changes: { title: { old: "a", new: null } },
      },
      {
        version: 2,
        operation: "update",
        at: expect.any(String),
        by: ann,
        changes: { amount: { old: 1, new: 2 }, tags2: { old: null, new: ["x"] } },
      },
      { version: 1, operation: "insert", at: expect.any(String), by: ann },
    ]);
    expect(await history(e, id, "?limit=2&before=4")).toEqual(all.slice(2, 4));
    expect(await rows("select data.history($1, $2, '{\"limit\": 1}') as h", [`acme/crm/${e}`, id])).toEqual([
      { h: { data: [all[0]] } },
    ]);
  });

  test("a record is read as of a time, also when it is deleted by now", async () => {
    const e = await make("price", { v: { type: "integer" }, w: text });
    const before = await tick();
    const id = await create(e, { v: 1, w: "x" });
    const first = await tick();
    await call("PATCH", `${e}/${id}`, { v: 2 });
    const second = await tick();
    await call("DELETE", `${e}/${id}`);
    const end = await tick();
    expect(await asOf(e, id, before)).toEqual([404, "not_found"]);
    expect(await asOf(e, id, first)).toEqual([
      200,
      expect.objectContaining({ id, v: 1, w: "x", version: 1, created_by: ann }),
    ]);
    expect(await asOf(e, id, second, "&select=v,version")).toEqual([200, { v: 2, version: 2 }]);
    expect(await asOf(e, id, end)).toEqual([404, "not_found"]);
    expect(
      await rows("select data.get($1, $2, jsonb_build_object('as_of', $3::timestamptz)) ->> 'v' as v", [
        `acme/crm/${e}`,
        id,
        first,
      ]),
    ).toEqual([{ v: "1" }]);
  });

  test("changes in one transaction are told one by one, and many records at once keep theirs", async () => {
    const e = await make("batch", { n: { type: "integer" } });
    await rows(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('n', i)) from generate_series(1, 50) i))`,
      [`acme/crm/${e}`],
    );
    const client = await crm.db.pool.connect();
    await client.query("begin");
    await client.query(`update acme_crm.${e} set n = n + 100`);
    await client.query(`update acme_crm.${e} set n = n + 1000`);
    await client.query("rollback");
    await client.query("begin");
    await client.query(`update acme_crm.${e} set n = n + 100 where n <= 2`);
    await client.query(`update acme_crm.${e} set n = n + 1000 where n > 100`);
    await client.query("commit");
    client.release();
    expect(await rows(`select count(*)::int as n from acme_crm.${e}__history`)).toEqual([{ n: 4 }]);
    const [{ id }] = (await rows(`select id from acme_crm.${e} where n = 1101`)) as [{ id: string }];
    expect((await history(e, id)).map((h) => h.changes)).toEqual([
      { n: { old: 101, new: 1101 } },
      { n: { old: 1, new: 101 } },
      undefined,
    ]);
    expect(await asOf(e, id, await tick())).toEqual([200, expect.objectContaining({ n: 1101 })]);
  });

  test("history survives a new definition, a conversion and a soft deletion, and ends with the purge", async () => {
    const more = { "x-soft-delete": true };
    const e = await make("case", { subject: text, level: text }, more);
    const id = await create(e, { subject: "a", level: "1" });
    const first = await tick();
    await call("PATCH", `${e}/${id}`, { level: "2" });
    await call("DELETE", `${e}/${id}`);
    const gone = await tick();
    const [plan] = await rows("select data.plan($1, $2)->>'plan' as id", [
      `acme/crm/${e}`,
      {
        type: "object",
        properties: {
          topic: { ...text, "x-renamed-from": "subject", "x-index": true },
          level: { type: "integer" },
        },
        "x-storage": storage,
        "x-history": true,
        ...more,
      },
    ]);
    await rows("select data.apply($1, true)", [plan?.id]);
    await rows("select data.convert_storage($1, $2)", [
      `acme/crm/${e}`,
      storage === "flat" ? "jsonb" : "flat",
    ]);
    await rows("call data.run_operations()");
    expect((await call("POST", `${e}/${id}/restore`))[0]).toBe(200);
    await call("PATCH", `${e}/${id}`, { topic: "b" });
    expect((await history(e, id)).map(({ at, by, ...rest }) => rest)).toEqual([
      { version: 4, operation: "update", changes: { topic: { old: "a", new: "b" } } },
      { version: 3, operation: "restore" },
      { version: 2, operation: "delete" },
      { version: 2, operation: "update", changes: { level: { old: 1, new: 2 } } },
      { version: 1, operation: "insert" },
    ]);
    expect(await asOf(e, id, first)).toEqual([200, expect.objectContaining({ topic: "a", level: 1 })]);
    expect(await asOf(e, id, gone)).toEqual([404, "not_found"]);
    expect(await call("POST", `${e}/${id}/purge`)).toEqual([409, "not_deleted"]);
    await call("DELETE", `${e}/${id}`);
    expect((await call("POST", `${e}/${id}/purge`))[0]).toBe(204);
    expect(await call("GET", `${e}/${id}/history`)).toEqual([404, "not_found"]);
    expect(await asOf(e, id, first)).toEqual([404, "not_found"]);
    expect(await rows(`select * from acme_crm.${e}__history`)).toEqual([]);
  });

  test("an expired record's history is hidden at once and deleted with it, also when it was deleted before", async () => {
    const e = await make("leak", { t: text }, { "x-ttl": true });
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const [a, b, c] = [
      await create(e, { t: "1", expires_at: soon }),
      await create(e, { t: "1", expires_at: soon }),
      await create(e, { t: "1" }),
    ];
    for (const id of [a, b, c]) await call("PATCH", `${e}/${id}`, { t: "2" });
    const at = await tick();
    await call("DELETE", `${e}/${b}`);
    expect(await history(e, b)).toHaveLength(3);
    await rows(`do $$ begin set local role rowhouse_owner; set local rowhouse.maintenance = 'on';
      update acme_crm.${e}_${storage} set expires_at = now() - interval '1 s' where id = '${a}';
      update acme_crm.${e}__history set expires_at = now() - interval '1 s' where operation = 'delete'; end $$`);
    for (const id of [a, b]) {
      expect(await call("GET", `${e}/${id}/history`)).toEqual([404, "not_found"]);
      expect(await asOf(e, id as string, at)).toEqual([404, "not_found"]);
    }
    expect(await call("POST", `${e}/${a}/purge`)).toEqual([404, "not_found"]);
    await rows("call data.delete_expired()");
    expect(await rows(`select distinct id from acme_crm.${e}__history`)).toEqual([{ id: c }]);
  });

  test("who may not read learns nothing, and nobody may rewrite history", async () => {
    const e = await make("secret", { t: text });
    const id = await create(e, { t: "hush" });
    await call("PATCH", `${e}/${id}`, { t: "sh" });
    await rows("select access.create_role('acme', $1, array['crm/contacts:read'])", [`blind_${storage}`]);
    await crm.db.account("nora@acme.test");
    await rows(
      "select tenancy.add_member('acme', 'nora@acme.test', 'viewer') where not exists (select from tenancy.site_members m join auth.accounts a on a.id = m.account_id where a.email = 'nora@acme.test')",
    );
    await rows(
      "select access.assign_role('acme', 'nora@acme.test', $1), access.revoke_role('acme', 'nora@acme.test', 'viewer')",
      [`blind_${storage}`],
    );
    for (const [site, email] of [
      ["acme", "nora@acme.test"],
      ["beta", "bob@beta.test"],
    ] as const) {
      await crm.db.as(site, email, async (client) => {
        expect((await refusal(client.query("select data.history($1, $2)", [`acme/crm/${e}`, id]))).code).toBe(
          "RH404",
        );
        expect(
          (
            await refusal(
              client.query('select data.get($1, $2, \'{"as_of": "2999-01-01"}\')', [`acme/crm/${e}`, id]),
            )
          ).code,
        ).toBe("RH404");
        expect((await refusal(client.query(`select * from acme_crm.${e}__history`))).code).toBe("42501");
      });
    }
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      for (const attack of [
        `select * from acme_crm.${e}__history`,
        `delete from acme_crm.${e}__history`,
        `update acme_crm.${e}__history set data = '{}'`,
        `select data.purge_record('${id}', '${id}')`,
        `select data.restore_record('${id}', '${id}')`,
        `select acme_crm.${e}_keep_history()`,
      ])
        expect((await refusal(client.query(attack))).code).toBe("42501");
    });
    // Viewers read what they may read.
    expect((await call("GET", `${e}/${id}/history`, undefined, "vic"))[0]).toBe(200);
    expect(await call("POST", `${e}/${id}/purge`, undefined, "vic")).toEqual([403, "forbidden"]);
  });

  test("the option is taken away with a plan that says what is lost, and comes to records that are there", async () => {
    const e = await make("late", { t: text }, { "x-history": false });
    const id = await create(e, { t: "1" });
    await call("PATCH", `${e}/${id}`, { t: "2" });
    await define(e, { t: text }, { "x-storage": storage, "x-history": true });
    await call("PATCH", `${e}/${id}`, { t: "3" });
    expect((await history(e, id)).map((h) => h.version)).toEqual([3, 1]);
    expect((await refusal(define(e, { t: text }, { "x-storage": storage }))).detail.code).toBe(
      "would_lose_data",
    );
    const [plan] = await rows("select data.plan($1, $2)->>'plan' as id", [
      `acme/crm/${e}`,
      { type: "object", properties: { t: text }, "x-storage": storage },
    ]);
    await rows("select data.apply($1, true)", [plan?.id]);
    expect(await call("GET", `${e}/${id}/history`)).toEqual([400, "option_missing"]);
    expect(await call("GET", `${e}/${id}?as_of=2999-01-01`)).toEqual([400, "option_missing"]);
    expect((await call("PATCH", `${e}/${id}`, { t: "4" }))[0]).toBe(200);
    expect(await rows("select relname from pg_class where relname like $1", [`${e}\\_\\_%`])).toEqual([]);
  });
});

test.each([
  ["?limit=0", 400],
  ["?limit=1001", 400],
  ["?limit=x", 400],
  ["?before=-1", 400],
  ["?before=99999999999", 400],
  ["?offset=1", 400],
  ["?limit=1%27%3Bdrop", 400],
  ["?limit=1000&before=2147483647", 200],
])("history%s answers %d", async (query, status) => {
  await define("queried", { t: text }, { "x-history": true });
  const id = await create("queried", { t: "a" });
  expect((await crm.send(`${base}/queried/${id}/history${query}`)).status).toBe(status);
});

test.each([
  ["?as_of=yesterday-ish", 400],
  ["?as_of=", 400],
  ["?as_of=2026-13-45", 400],
  ["?as_of=2999-01-01&expand=x", 400],
  ["?as_of=2999-01-01&select=nope", 400],
  ["?as_of=2999-01-01%27%3B%20drop%20table%20data.entities", 400],
  ["?as_of=2999-01-01", 200],
  ["?as_of=infinity", 200],
])("a record%s answers %d", async (query, status) => {
  await define("queried", { t: text }, { "x-history": true });
  const id = await create("queried", { t: "a" });
  expect((await crm.send(`${base}/queried/${id}${query}`)).status).toBe(status);
});
