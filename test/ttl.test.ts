import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import * as aging from "./harness/aging.ts";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGraphql } from "./harness/graphql.ts";

// What an author was promised of x-ttl: a record is gone for everybody the moment it expires, and deleted within the hour.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
let worker: pg.Pool;
beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  worker = new pg.Pool({ connectionString: crm.db.workerUrl, max: 2 });
});
afterAll(async () => {
  await worker.end();
  await graphql.stop();
  await crm.stop();
});

const text = { type: "string" };
const inSeconds = (n: number) => new Date(Date.now() + n * 1000).toISOString();
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
const age = (name: string, storage: string, set: string, where?: string) =>
  aging.age(crm.db, `${name}_${storage}`, set, where);
const expire = (name: string, storage: string, where?: string) =>
  aging.expire(crm.db, `${name}_${storage}`, where);
const stored = async (name: string, storage: string) =>
  (await crm.db.query<{ n: number }>(`select count(*)::int as n from acme_crm.${name}_${storage}`))[0]?.n;
const sweep = async () => {
  for (let state: string | null = "{}"; state !== null; ) {
    const { rows }: { rows: { state: string | null }[] } = await worker.query(
      "select data.expire_step($1)::text as state",
      [state],
    );
    state = rows[0]?.state ?? null;
  }
};
const entityId = async (name: string) =>
  (await crm.db.query<{ id: string }>("select id from data.entities where name = $1", [name]))[0]?.id;
const counts = async (name: string) =>
  crm.db.query("select records::int, blocked::int, failure from data.expirations where entity_id = $1", [
    await entityId(name),
  ]);

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const name = (part: string) => `${part}_${storage}s`;
  const make = async (part: string, properties: object, more: object) => {
    await define(name(part), properties, { "x-storage": storage, ...more });
    return name(part);
  };

  test("an expired record is gone through every door", async () => {
    const rooms = await make("room", { code: text }, { "x-ttl": true });
    const seats = await make(
      "seat",
      { label: text, room_id: { type: "string", format: "uuid", "x-relation": { entity: rooms } } },
      { "x-storage": storage },
    );
    const part = storage === "flat" ? "Flat" : "Jsonb";
    const [old, kept] = await insert(
      rooms,
      { code: "old", expires_at: inSeconds(600) },
      { code: "kept", expires_at: null },
    );
    await insert(seats, { label: "1", room_id: old }, { label: "2", room_id: kept });
    await expire(rooms, storage, `id = '${old}'`);

    const list = await crm.send(`${base}/${rooms}?count=exact`);
    expect(list.json).toMatchObject({ data: [{ code: "kept", expires_at: null }], meta: { count: 1 } });
    for (const [path, call] of [
      [`${rooms}/${old}`, {}],
      [`${rooms}/${old}`, { method: "PATCH", body: { code: "again" } }],
      [`${rooms}/${old}`, { method: "PATCH", body: { expires_at: null } }],
      [`${rooms}/${old}`, { method: "PUT", body: { code: "again" } }],
      [`${rooms}/${old}`, { method: "DELETE" }],
    ] as const) {
      expect([path, call, (await crm.send(`${base}/${path}`, call)).status]).toEqual([path, call, 404]);
    }
    const seen = (await crm.send(`${base}/${seats}?expand=room&sort=label`)).json.data;
    expect(seen.map((seat) => (seat.room as { code: string } | null)?.code)).toEqual([undefined, "kept"]);
    const matching = async (filter: object) =>
      (await crm.send(`${base}/${seats}?filter=${encodeURIComponent(JSON.stringify(filter))}`)).json.data
        .length;
    expect(await matching({ "room.code": "old" })).toBe(0);
    expect(await matching({ room: { $exists: false } })).toBe(1);
    expect((await crm.send(`${base}/${rooms}/export?format=ndjson`)).text).not.toContain("old");
    expect(
      await crm.db.as("acme", "ann@acme.test", async (client) => [
        (await client.query(`select code from acme_crm.${rooms}`)).rows,
        (await client.query(`update acme_crm.${rooms} set code = 'x' where code = 'old'`)).rowCount,
        (await client.query(`delete from acme_crm.${rooms} where code = 'old'`)).rowCount,
        (await client.query("select data.find($1) as f", [`acme/crm/${rooms}`])).rows[0].f.data.length,
      ]),
    ).toEqual([[{ code: "kept" }], 0, 0, 1]);
    // Operators too.
    expect(await crm.db.query(`select code from acme_crm.${rooms}`)).toEqual([{ code: "kept" }]);
    const answer = await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `{ rooms: room${part}s { totalCount nodes { code expiresAt } }
         seats: seat${part}s(filter: {roomExists: false}) { totalCount nodes { room { code } } } }`,
    );
    expect(answer).toMatchObject({
      errors: [],
      data: {
        rooms: { totalCount: 1, nodes: [{ code: "kept", expiresAt: null }] },
        seats: { totalCount: 1, nodes: [{ room: null }] },
      },
    });

    // A reference to it is refused like one to nothing, operators' too.
    const missing = "00000000-0000-7000-8000-000000000000";
    const refused = await Promise.all(
      [old, missing].map((room_id) =>
        crm.send(`${base}/${seats}`, { method: "POST", body: { label: "3", room_id } }),
      ),
    );
    expect(refused.map((a) => [a.status, a.json.code])).toEqual([
      [422, "missing_reference"],
      [422, "missing_reference"],
    ]);
    expect((await refusal(insert(seats, { label: "3", room_id: old as string }))).code).toBe("23503");
    expect(await stored(rooms, storage)).toBe(2);
  });

  test("an expired record is in no aggregate, search, batch, upsert or transaction", async () => {
    const e = await make(
      "stall",
      { code: { ...text, "x-unique": true }, note: { ...text, "x-search": true }, n: { type: "integer" } },
      { "x-ttl": true },
    );
    const [old] = await insert(
      e,
      { code: "old", note: "zebra crossing", n: 1, expires_at: inSeconds(600) },
      { code: "kept", note: "zebra stripes", n: 2 },
    );
    await expire(e, storage, `id = '${old}'`);
    const find = async (query: Record<string, unknown>, part = "") => {
      const pairs = Object.entries(query).map(
        ([k, v]) => `${k}=${encodeURIComponent(typeof v === "string" ? v : JSON.stringify(v))}`,
      );
      return (await crm.send(`${base}/${e}${part}?${pairs.join("&")}`)).json;
    };
    expect((await find({ q: "zebra" })).data.map((row) => row.code)).toEqual(["kept"]);
    const [sums] = await crm.db.query<{ a: unknown }>(
      `select data.aggregate($1, '{"aggregate": {"total": {"$sum": "n"}, "many": {"$count": "*"}}}') as a`,
      [`acme/crm/${e}`],
    );
    expect(sums?.a).toMatchObject({ data: [{ total: 2, many: 1 }] });
    const send = (method: string, query: string, body: unknown) =>
      crm.send(`${base}/${e}${query}`, { method, body });
    expect((await send("PATCH", "", [{ id: old, n: 5 }])).status).toBe(404);
    const everything = `filter=${encodeURIComponent('{"n":{"$gte":0}}')}&max=10&return=true`;
    expect((await send("PATCH", `?${everything}`, { n: 9 })).text).not.toContain("old");
    const upserted = await send("PUT", "?key=code", [{ code: "old", n: 7 }]);
    expect([upserted.status, upserted.json]).toEqual([
      200,
      { meta: { inserted: 1, updated: 0, unchanged: 0 } },
    ]);
    expect((await crm.send(`${base}/${e}/${old}`)).status).toBe(404);
    expect(await stored(e, storage)).toBe(2);
  });

  test("the rule of the entity counts from creation, or from the last change", async () => {
    const notes = await make("note", { t: text }, { "x-ttl": "30 days" });
    const drafts = await make("draft", { t: text }, { "x-ttl": { after: "P30D", from: "updated_at" } });
    for (const e of [notes, drafts]) {
      await insert(e, { t: "a" }, { t: "b" }, { t: "c", expires_at: inSeconds(60) });
      await age(e, storage, "created_at = now() - interval '30 days 1 s', updated_at = created_at", "true");
      await age(e, storage, "updated_at = now() - interval '30 days 1 s'", e === drafts ? "true" : "false");
    }
    await age(
      notes,
      storage,
      "created_at = now() - interval '29 days 23 hours'",
      `id = (select min(id::text)::uuid from acme_crm.${notes}_${storage})`,
    );
    expect(await crm.db.query(`select t from acme_crm.${notes} order by t`)).toEqual([
      { t: "a" },
      { t: "c" },
    ]);
    expect(await crm.db.query(`select t from acme_crm.${drafts} order by t`)).toEqual([{ t: "c" }]);
    await sweep();
    expect([await stored(notes, storage), await stored(drafts, storage)]).toEqual([2, 1]);
    expect([await counts(notes), await counts(drafts)]).toEqual([
      [{ records: 1, blocked: 0, failure: null }],
      [{ records: 2, blocked: 0, failure: null }],
    ]);
  });

  test("unique values and ids of expired records are free at once, unless others refer to them", async () => {
    const e = await make(
      "key",
      { mail: { ...text, "x-unique": true }, n: { type: "integer" } },
      { "x-ttl": true },
    );
    const child = await make(
      "lock",
      { key_id: { type: "string", format: "uuid", "x-relation": { entity: e } } },
      { "x-storage": storage },
    );
    const [a, , c] = await insert(
      e,
      { mail: "a@x.test", expires_at: inSeconds(600) },
      { mail: "b@x.test", expires_at: inSeconds(600) },
      { mail: "c@x.test", expires_at: inSeconds(600) },
    );
    await insert(child, { key_id: c });
    const [other] = await insert(e, { mail: "other@x.test" });
    await expire(e, storage, "mail <> 'other@x.test'");
    const post = async (body: object) => {
      const { status, json } = await crm.send(`${base}/${e}`, { method: "POST", body });
      return [status, json.code];
    };
    expect(await post({ mail: "a@x.test" })).toEqual([201, undefined]);
    expect(await post({ mail: "a@x.test" })).toEqual([409, "not_unique"]);
    expect((await crm.send(`${base}/${e}/${a}`)).status).toBe(404);
    const moved = await crm.send(`${base}/${e}/${other}`, { method: "PATCH", body: { mail: "b@x.test" } });
    expect(moved.status).toBe(200);
    expect(await post({ mail: "c@x.test" })).toEqual([409, "not_unique"]);
    expect(await post({ id: c, mail: "d@x.test" })).toEqual([409, "not_unique"]);
    expect(await counts(e)).toEqual([{ records: 2, blocked: 0, failure: null }]);
    // Two at once: one gets it.
    await expire(e, storage, "mail = 'a@x.test'");
    const both = await Promise.all([post({ mail: "a@x.test" }), post({ mail: "a@x.test" })]);
    expect(both.map(([status]) => status).sort()).toEqual([201, 409]);
  });

  test("the job deletes in batches, honours relations and does not go round in circles", async () => {
    const e = await make(
      "job",
      { n: { type: "integer" }, parent_id: { type: "string", format: "uuid" } },
      { "x-ttl": true },
    );
    const relation = (onDelete: string) => ({
      type: "string",
      format: "uuid",
      "x-relation": { entity: e, onDelete },
    });
    const kept = await make("kept", { job_id: relation("restrict") }, {});
    const gone = await make("gone", { job_id: relation("cascade") }, {});
    const unset = await make("unset", { t: text, job_id: relation("set null") }, {});
    const deep = await make(
      "deep",
      { gone_id: { type: "string", format: "uuid", "x-relation": { entity: gone, onDelete: "restrict" } } },
      {},
    );
    await crm.db.query(
      "select count(data.insert($1, (select jsonb_agg(jsonb_build_object('n', i, 'expires_at', now() + interval '1 hour')) from generate_series(1, 1250) i)))",
      [`acme/crm/${e}`],
    );
    const ids = (
      await crm.db.query<{ id: string }>(`select id from acme_crm.${e} order by n limit 1100`)
    ).map((r) => r.id);
    await insert(kept, ...ids.slice(0, 1050).map((job_id) => ({ job_id })));
    const [, second] = await insert(gone, { job_id: ids[1060] }, { job_id: ids[1061] });
    await insert(deep, { gone_id: second });
    await insert(unset, { t: "stays", job_id: ids[1062] });
    await expire(e, storage);
    await sweep();
    // 1,050 are referred to, and one has something that is referred to.
    expect(await stored(e, storage)).toBe(1051);
    expect(await counts(e)).toEqual([{ records: 199, blocked: 1051, failure: null }]);
    expect(await stored(gone, storage)).toBe(1);
    expect(await crm.db.query(`select t, job_id from acme_crm.${unset}`)).toEqual([
      { t: "stays", job_id: null },
    ]);
    await crm.db.query(`update acme_crm.${unset} set t = 'writable'`);
    await crm.db.query(`delete from acme_crm.${deep}`);
    await crm.db.query(`delete from acme_crm.${kept}`);
    await sweep();
    expect(await stored(e, storage)).toBe(0);
    expect(await counts(e)).toEqual([{ records: 1250, blocked: 0, failure: null }]);
  });

  test("expires_at is written by those who may write, must be in the future and a time", async () => {
    const e = await make("until", { t: text }, { "x-ttl": "1 hour" });
    const post = async (body: object, as = "ann") => {
      const { status, json } = await crm.send(`${base}/${e}`, { method: "POST", body, as });
      return [status, json.code];
    };
    expect(await post({ expires_at: inSeconds(60) })).toEqual([201, undefined]);
    expect(await post({ expires_at: inSeconds(60) }, "vic")).toEqual([403, "forbidden"]);
    for (const expires_at of [
      inSeconds(-60),
      "never",
      "infinity",
      5,
      "'; drop table",
      "2026-13-01T00:00:00Z",
    ]) {
      expect([expires_at, (await post({ expires_at }))[0]]).toEqual([expires_at, 422]);
    }
    const list = await crm.send(`${base}/${e}`, {
      method: "POST",
      body: [{ t: "a" }, { expires_at: inSeconds(-1) }],
    });
    expect([list.status, list.json.code]).toEqual([422, "validation_failed"]);
    const [row] = (await crm.send(`${base}/${e}`)).json.data;
    const path = `${base}/${e}/${row?.id}`;
    expect(
      (await crm.send(path, { method: "PATCH", body: { expires_at: inSeconds(-60) } })).json,
    ).toMatchObject({
      code: "validation_failed",
      errors: [{ pointer: "/expires_at" }],
    });
    expect((await crm.send(path, { method: "PATCH", body: { expires_at: null } })).status).toBe(200);
    expect((await crm.send(path, { method: "PATCH", as: "bob", body: { expires_at: null } })).status).toBe(
      404,
    );
    const sorted = await crm.send(
      `${base}/${e}?sort=-expires_at&filter=${encodeURIComponent('{"expires_at":null}')}`,
    );
    expect(sorted.json.data).toHaveLength(1);
  });

  test("the option comes and goes with the definition, and its values with it", async () => {
    const e = await make("turn", { t: text }, {});
    await insert(e, { t: "a" });
    const redefine = (more: object) => define(e, { t: text }, { "x-storage": storage, ...more });
    await redefine({ "x-ttl": true });
    await insert(e, { t: "b", expires_at: inSeconds(600) });
    await expire(e, storage, "expires_at is not null");
    expect(await crm.db.query(`select t, expires_at from acme_crm.${e}`)).toEqual([
      { t: "a", expires_at: null },
    ]);
    await redefine({ "x-ttl": "1 day" });
    await age(e, storage, "created_at = now() - interval '2 days'");
    expect(await crm.db.query(`select t from acme_crm.${e}`)).toEqual([]);
    expect((await refusal(redefine({}))).detail.code).toBe("would_lose_data");
    await sweep();
    const [plan] = await crm.db.query<{ id: string }>("select data.plan($1, $2)->>'plan' as id", [
      `acme/crm/${e}`,
      { type: "object", properties: { t: text }, "x-storage": storage },
    ]);
    await crm.db.query("select data.apply($1, true)", [plan?.id]);
    await insert(e, { t: "c" });
    await age(e, storage, "created_at = now() - interval '2 days'");
    expect(await crm.db.query(`select * from acme_crm.${e}`)).toEqual([
      expect.not.objectContaining({ expires_at: null }),
    ]);
    await crm.db.query("select data.rollback($1, 3)", [`acme/crm/${e}`]);
    expect(await crm.db.query(`select * from acme_crm.${e}`)).toEqual([]);
  });

  test("the option is obeyed at once by an entity with many records", async () => {
    const e = await make("many", { n: { type: "integer" } }, {});
    for (let i = 0; i < 2; i++)
      await crm.db.query(
        "select count(data.insert($1, (select jsonb_agg(jsonb_build_object('n', i)) from generate_series(1, 6000) i)))",
        [`acme/crm/${e}`],
      );
    await define(e, { n: { type: "integer" } }, { "x-storage": storage, "x-ttl": "1 day" });
    const [soon] = await insert(e, { n: 0, expires_at: inSeconds(600) });
    await expire(e, storage, `id = '${soon}'`);
    await age(
      e,
      storage,
      "created_at = now() - interval '2 days'",
      storage === "flat" ? "n > 5000" : "(data->>'n')::int > 5000",
    );
    const count = () => crm.db.query(`select count(*)::int as n from acme_crm.${e}`);
    expect(await count()).toEqual([{ n: 10_000 }]);
    await crm.db.query("call data.run_operations()");
    expect(await count()).toEqual([{ n: 10_000 }]);
    await sweep();
    expect(await stored(e, storage)).toBe(10_000);
  });

  test("a conversion to the other storage keeps what expires when", async () => {
    const e = await make("moved", { t: text }, { "x-ttl": true });
    await insert(e, { t: "a", expires_at: inSeconds(600) }, { t: "b", expires_at: inSeconds(600) });
    await expire(e, storage, storage === "flat" ? "t = 'a'" : "data->>'t' = 'a'");
    const other = storage === "flat" ? "jsonb" : "flat";
    await crm.db.query("select data.convert_storage($1, $2)", [`acme/crm/${e}`, other]);
    await crm.db.query("call data.run_operations()");
    expect(await crm.db.query(`select t from acme_crm.${e}`)).toEqual([{ t: "b" }]);
    expect(await stored(e, other)).toBe(2);
    await sweep();
    expect(await stored(e, other)).toBe(1);
  });

  test("reads keep their indexes under row-level security", async () => {
    const e = await make("plan", { city: { ...text, "x-index": true } }, { "x-ttl": "30 days" });
    await crm.db.query(
      "select count(data.insert($1, (select jsonb_agg(jsonb_build_object('city', 'c' || i)) from generate_series(1, 5000) i)))",
      [`acme/crm/${e}`],
    );
    await crm.db.query(`analyze acme_crm.${e}_${storage}`);
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      const explain = async (rest: string) =>
        (await client.query(`explain (costs off) select * from acme_crm.${e} ${rest}`)).rows
          .map((r) => r["QUERY PLAN"])
          .join("\n");
      const prefix = storage === "flat" ? `${e}_flat` : e;
      expect(await explain("where city = 'c7'")).toContain(`${prefix}_city_idx`);
      expect(await explain("order by created_at desc, id desc limit 20")).toMatch(
        new RegExp(`Index Scan Backward using ${prefix}_created_at_idx`),
      );
    });
  });
});

test.each([
  ["an empty text", ""],
  ["no time", "soon"],
  ["nothing", "0 seconds"],
  ["a time ago", "-1 day"],
  ["infinity", "infinity"],
  ["too long", "1000 years"],
  ["a number", 30],
  ["false", false],
  ["null", null],
  ["a list", ["1 day"]],
  ["injection", "1 day'; drop table data.entities; --"],
  ["an unknown from", { after: "1 day", from: "born" }],
  ["an unknown member", { after: "1 day", per: "x" }],
  ["no after", { from: "created_at" }],
])("x-ttl that is %s is refused", async (_what, ttl) => {
  const failure = await refusal(define("refused", { t: text }, { "x-ttl": ttl }));
  expect(failure).toMatchObject({ code: "RH400", detail: { errors: [{ pointer: "/x-ttl" }] } });
});

test.each([
  ["another kind", { type: "integer" }],
  ["a default", { type: "string", format: "date-time", default: "2999-01-01T00:00:00Z" }],
  ["no schema", 5],
])("a property expires_at that has %s is refused beside x-ttl", async (_what, expires_at) => {
  const failure = await refusal(define("refused", { expires_at }, { "x-ttl": true }));
  expect(failure.detail.errors).toContainEqual(
    expect.objectContaining({ pointer: "/properties/expires_at" }),
  );
});

test("who is no worker may not run the job, and only the own site's counts are seen", async () => {
  await define("counted", { t: text }, { "x-ttl": true });
  await insert("counted", { t: "a", expires_at: inSeconds(600) });
  await expire("counted", "jsonb");
  await sweep();
  const seen = (site: string, email: string) =>
    crm.db.as(site, email, async (client) => {
      expect((await refusal(client.query("select data.expire_step('{}')"))).code).toBe("42501");
      await refusal(client.query("rollback; update data.expirations set records = 0"));
      return (
        await client.query(
          "select records::int from data.expirations x join data.entities e on e.id = x.entity_id where e.name = 'counted'",
        )
      ).rows;
    });
  expect(await seen("acme", "ann@acme.test")).toEqual([{ records: 1 }]);
  expect(await seen("beta", "bob@beta.test")).toEqual([]);
});

test("one entity that is locked does not keep the others waiting", async () => {
  for (const e of ["held", "free"]) {
    await define(e, { t: text }, { "x-ttl": true });
    await insert(e, { t: "a", expires_at: inSeconds(600) });
    await expire(e, "jsonb");
  }
  const client = await crm.db.pool.connect();
  await client.query("begin");
  await client.query("lock table acme_crm.held_jsonb in access exclusive mode");
  await sweep();
  await client.query("rollback");
  client.release();
  expect(await stored("free", "jsonb")).toBe(0);
  expect(await counts("held")).toEqual([
    { records: 0, blocked: 0, failure: expect.stringContaining("55P03") },
  ]);
  await sweep();
  expect(await counts("held")).toEqual([{ records: 1, blocked: 0, failure: null }]);
});
