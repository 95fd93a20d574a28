import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { untilBlocked } from "./harness/eventually.ts";
import { refusal } from "./harness/failure.ts";

// What an author was promised about changing a definition: a plan that tells everything, an apply that does just that,
// a way back, and records that keep their values, in both storages.

type Plan = {
  plan: string;
  version: number;
  changes: { change: string; field?: string; message: string; loses_data: boolean }[];
  statements: string[];
  locks: { relation: string; mode: string; message: string }[];
  records: number;
  rewrites: number;
  loses_data: boolean;
  offenders: { id: string; pointer: string; message: string }[];
  dependents: { kind: string; name: string; message: string }[];
};

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "olga@acme.test": "admin", "ann@acme.test": "editor" });
});
afterAll(() => db.drop());

const text = { type: "string" };
const schema = (properties: object, more: object = {}) => ({ type: "object", properties, ...more });
const define = (name: string, definition: object) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
const insert = async (name: string, ...records: object[]) =>
  (await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, JSON.stringify(records)])).length;
const plan = async (name: string, definition: object): Promise<Plan> =>
  (await db.query<{ plan: Plan }>("select data.plan($1, $2) as plan", [`acme/crm/${name}`, definition]))[0]
    ?.plan as Plan;
const apply = (id: string, allowLoss = false) => db.query("select data.apply($1, $2)", [id, allowLoss]);
const rollback = (name: string, version: number) =>
  db.query("select data.rollback($1, $2)", [`acme/crm/${name}`, version]);
const rows = (name: string, columns: string) =>
  db.query(`select ${columns} from acme_crm.${name} order by created_at, id`);
const versionOf = async (name: string) =>
  (await db.query<{ version: number }>("select version from data.entities where name = $1", [name]))[0]
    ?.version;

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const name = (base: string) => `${base}_${storage === "flat" ? "f" : "j"}`;
  const make = async (base: string, properties: object, more: object = {}) => {
    await define(name(base), schema(properties, { "x-storage": storage, ...more }));
    return name(base);
  };

  test("a rename keeps the values, of records old and new, indexed or not", async () => {
    const e = await make("renamed", { fullname: text, mail: { ...text, "x-unique": true } });
    await insert(e, { fullname: "Ada", mail: "a@x.test" });
    const p = await plan(
      e,
      schema(
        {
          name: { ...text, "x-renamed-from": "fullname" },
          email: { ...text, "x-unique": true, "x-renamed-from": "mail" },
        },
        { "x-storage": storage },
      ),
    );
    expect(p).toMatchObject({ loses_data: false, rewrites: 0, records: 1, offenders: [], version: 2 });
    expect(p.changes.map((c) => c.message)).toEqual(["mail is called email", "fullname is called name"]);
    expect(await rows(e, "fullname")).toEqual([{ fullname: "Ada" }]); // a plan changes nothing
    await apply(p.plan);
    await insert(e, { name: "Bea", email: "b@x.test" });
    expect(await rows(e, "name, email, version")).toEqual([
      { name: "Ada", email: "a@x.test", version: 1 },
      { name: "Bea", email: "b@x.test", version: 1 },
    ]);
    expect((await refusal(insert(e, { name: "Cyd", email: "a@x.test" }))).code).toBe("23505");
    await db.query(`update acme_crm.${e} set name = 'Ada L' where name = 'Ada'`);
    expect(await rows(e, "name, email")).toContainEqual({ name: "Ada L", email: "a@x.test" });
  });

  test("an entity that refers to others, or to itself, is given another property", async () => {
    const owner = await make("owning", { name: text });
    const relation = (entity: string) => ({ type: "string", format: "uuid", "x-relation": { entity } });
    const refs = { owner_id: relation(owner), parent_id: relation(name("owned")) };
    const e = await make("owned", refs);
    await apply((await plan(e, schema({ ...refs, more: text }, { "x-storage": storage }))).plan);
    const id = "00000000-0000-7000-8000-000000000000";
    expect((await refusal(insert(e, { more: "x", owner_id: id }))).code).toBe("23503");
    expect(await insert(e, { more: "x" })).toBe(1);
  });

  test("a property that is dropped comes back with its values on rollback, as do names and kinds", async () => {
    const e = await make("dropped", {
      name: text,
      age: text,
      phone: { ...text, "x-index": true },
      note: text,
    });
    await insert(
      e,
      { name: "Ada", age: "36", phone: "1", note: "x" },
      { name: "Bea", age: "20", phone: "2", note: "y" },
    );
    const p = await plan(
      e,
      schema(
        { title: { ...text, "x-renamed-from": "name" }, age: { type: "integer" }, city: text },
        { "x-storage": storage },
      ),
    );
    expect(p.loses_data).toBe(true);
    expect((await refusal(apply(p.plan))).detail.code).toBe("would_lose_data");
    await apply(p.plan, true);
    expect(await rows(e, "title, age + 1 as next")).toEqual([
      { title: "Ada", next: "37" },
      { title: "Bea", next: "21" },
    ]);
    await db.query(`update acme_crm.${e} set age = 37, city = 'Oslo' where title = 'Ada'`);
    await insert(e, { title: "Cyd", age: 51 });
    await rollback(e, 1);
    expect(await rows(e, "name, age, phone, note")).toEqual([
      { name: "Ada", age: "37", phone: "1", note: "x" },
      { name: "Bea", age: "20", phone: "2", note: "y" },
      { name: "Cyd", age: "51", phone: null, note: null },
    ]);
    await rollback(e, 2); // and forward again
    expect(await rows(e, "title, age, city")).toEqual([
      { title: "Ada", age: "37", city: "Oslo" },
      { title: "Bea", age: "20", city: null },
      { title: "Cyd", age: "51", city: null },
    ]);
    expect(await versionOf(e)).toBe(4);
  });

  test("what cannot be converted is listed by record, and nothing changes", async () => {
    const e = await make("converted", { n: text });
    await insert(e, { n: "1" }, { n: "1.5" }, { n: "many" }, {});
    const wanted = schema({ n: { type: "integer" } }, { "x-storage": storage });
    const p = await plan(e, wanted);
    expect(p.offenders).toHaveLength(2);
    expect(p.offenders[0]).toMatchObject({ pointer: "/n", id: expect.any(String) });
    expect(await refusal(apply(p.plan))).toMatchObject({
      code: "RH409",
      detail: { code: "records_do_not_fit" },
    });
    await db.query(`delete from acme_crm.${e} where n in ('1.5', 'many')`);
    await apply((await plan(e, wanted)).plan);
    expect(await rows(e, "n, version")).toEqual([
      { n: "1", version: 1 },
      { n: null, version: 1 },
    ]);
  });

  const conversions: [string, object, object, unknown, unknown][] = [
    ["integer to text", { type: "integer" }, text, 42, "42"],
    ["text to boolean", text, { type: "boolean" }, "yes", true],
    ["text to date", text, { type: "string", format: "date" }, "2026-01-31", "2026-01-31"],
    [
      "date to date-time",
      { type: "string", format: "date" },
      { type: "string", format: "date-time" },
      "2026-01-31",
      "2026-01-31T00:00:00+00:00",
    ],
    [
      "text to decimal",
      text,
      { type: "number", format: "decimal", precision: 30, scale: 2 },
      "12345678901234567890.12",
      "12345678901234567890.12",
    ],
    ["a scalar to a list", text, { type: "array", items: text }, "a", ["a"]],
    ["a list of one to a scalar", { type: "array", items: text }, text, ["a"], "a"],
    ["number to decimal", { type: "number" }, { type: "number", format: "decimal" }, 1.5, "1.5"],
  ];
  test.each(conversions)("%s", async (title, from, to, before, after) => {
    const e = await make(title.replace(/[ -]/g, "_"), { v: from });
    await insert(e, { v: before });
    await apply((await plan(e, schema({ v: to }, { "x-storage": storage }))).plan);
    const [row] = await db.query<{ v: unknown }>(
      `select case jsonb_typeof(to_jsonb(v)) when 'number' then to_jsonb(v::text) else to_jsonb(v) end as v from acme_crm.${e}`,
    );
    expect(row?.v).toEqual(after);
  });

  test("tightening is checked against the records, and a required property brings its default", async () => {
    const e = await make("tightened", { a: text, b: text });
    await insert(e, { a: "long" }, { a: "x" });
    const p = await plan(
      e,
      schema({ a: { ...text, maxLength: 1, "x-unique": true }, b: text }, { "x-storage": storage }),
    );
    expect(p.offenders).toMatchObject([{ pointer: "/a", message: "must have at most 1 characters" }]);
    await apply(
      (
        await plan(
          e,
          schema({ a: text, b: { ...text, default: "new" } }, { required: ["b"], "x-storage": storage }),
        )
      ).plan,
    );
    expect(await rows(e, "a, b")).toEqual([
      { a: "long", b: "new" },
      { a: "x", b: "new" },
    ]);
    await db.query(`update acme_crm.${e} set a = 'short' where a = 'long'`);
    expect(await rows(e, "a, b")).toContainEqual({ a: "short", b: "new" });
  });

  test("duplicates and dangling references are offenders too", async () => {
    const target = await make("targets", { code: { ...text, "x-unique": true } });
    await insert(target, { code: "a" });
    const e = await make("pointing", { code: text, other: text });
    await insert(e, { code: "a", other: "1" }, { code: "b", other: "1" });
    const p = await plan(
      e,
      schema(
        {
          code: { ...text, "x-relation": { entity: target, field: "code" } },
          other: { ...text, "x-unique": true },
        },
        { "x-storage": storage },
      ),
    );
    expect(p.offenders.map(({ pointer, message }) => `${pointer} ${message}`)).toEqual([
      "/code refers to no record",
      "/other is 1 in 2 records",
    ]);
  });
});

test.each(["jsonb", "flat"])("compacted, a dropped value is gone for good, in %s", async (storage) => {
  const e = `compacted_${storage.slice(0, 1)}`;
  const made = (properties: object) => schema(properties, { "x-storage": storage });
  await define(e, made({ a: text, b: text }));
  await insert(e, { a: "1", b: "secret" }, { a: "2", b: "secret" });
  await apply((await plan(e, made({ a: { type: "integer" } }))).plan, true);
  await db.query(`update acme_crm.${e} set a = 3 where a = 2`);
  const [operation] = await db.query<{ id: string }>("select (data.compact($1)).id", [`acme/crm/${e}`]);
  await db.query("call data.run_operations()");
  expect(
    await db.query("select state, records_done from data.operations where id = $1", [operation?.id]),
  ).toEqual([{ state: "done", records_done: "2" }]);
  expect(await rows(e, "a, version")).toEqual([
    { a: "1", version: 1 },
    { a: "3", version: 2 },
  ]);
  const stored = await db.query(`select to_jsonb(t)::text as t from acme_crm.${e}_${storage} t`);
  expect(JSON.stringify(stored)).not.toContain("secret");
  await rollback(e, 1);
  expect(await rows(e, "a, b")).toEqual([
    { a: "1", b: null },
    { a: "3", b: null },
  ]);
});

test.each(["jsonb", "flat"])(
  "what is kept of records is compacted in batches while clients go on, in %s",
  async (storage) => {
    const e = `kept_${storage.slice(0, 1)}`;
    const made = (properties: object) =>
      schema(properties, { "x-storage": storage, "x-history": true, "x-soft-delete": true });
    await define(e, made({ a: { type: "integer" }, b: text }));
    await db.query(
      "select data.insert($1, (select jsonb_agg(jsonb_build_object('a', i, 'b', 'secret')) from generate_series(1, 2300) i))",
      [`acme/crm/${e}`],
    );
    await db.query(`update acme_crm.${e} set a = a + 10000`);
    await db.query(`delete from acme_crm.${e} where a > 10500`);
    await apply((await plan(e, made({ a: { type: "integer" } }))).plan, true);
    const [operation] = await db.query<{ id: string }>("select (data.compact($1)).id", [`acme/crm/${e}`]);
    const left = async () =>
      (
        await db.query<{ n: number }>(
          `select count(*)::int as n from (select k::text from acme_crm.${e}__deleted_records k union all select h::text from acme_crm.${e}__history h) x (k) where k like '%secret%'`,
        )
      )[0]?.n as number;
    let before = await left();
    expect(before).toBeGreaterThan(4000); // two batches and more
    for (let state = "running", n = 0; state === "running"; n++) {
      [{ state } = { state: "" }] = await db.query<{ state: string }>("select data.run_step($1) as state", [
        operation?.id,
      ]);
      const now = await left();
      expect(before - now).toBeLessThanOrEqual(2_002); // 2,000, and what else there is of the last record
      await db.query(`update acme_crm.${e} set a = a + 20000 where a = $1`, [10_001 + n]);
      before = await left();
    }
    expect(
      await db.query(
        "select state, error, records_done >= 6400 as all, records_done <= records_total + 20 as no_more from data.operations where id = $1",
        [operation?.id],
      ),
    ).toEqual([{ state: "done", error: null, all: true, no_more: true }]);
    expect(await left()).toBe(0);
    expect(
      await db.query(`select count(*)::int as n, min(version)::int as version from acme_crm.${e}`),
    ).toEqual([{ n: 500, version: 2 }]);
  },
);

test("on jsonb, adding, dropping, renaming and converting touch no row", async () => {
  await define("untouched", schema({ a: text, b: text, c: text }));
  await insert("untouched", { a: "1", b: "2", c: "3" });
  const physical = () => db.query("select ctid::text, xmin::text from acme_crm.untouched_jsonb");
  const before = await physical();
  const p = await plan(
    "untouched",
    schema({ a: { type: "integer" }, d: { ...text, "x-renamed-from": "b" }, e: text }),
  );
  expect(p.rewrites).toBe(0);
  await apply(p.plan, true);
  expect(await physical()).toEqual(before);
  expect(await rows("untouched", "a, d, e")).toEqual([{ a: "1", d: "2", e: null }]);
});

describe("a plan", () => {
  test("tells the SQL, the locks and who depends on the entity", async () => {
    await define("owners", schema({ code: { ...text, "x-unique": true }, name: text }));
    await define("things", schema({ owner: { ...text, "x-relation": { entity: "owners", field: "code" } } }));
    await db.query("create view public.report as select name from acme_crm.owners");
    const p = await plan(
      "owners",
      schema({ code: { ...text, "x-unique": true }, name: { ...text, "x-index": true } }),
    );
    expect(p.statements.join("\n")).toMatch(
      /add column.* name text[\s\S]*update .* set name = [\s\S]*create index/,
    );
    expect(p.locks[0]).toMatchObject({ relation: "acme_crm.owners_jsonb", mode: "ACCESS EXCLUSIVE" });
    expect(p.dependents).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ kind: "relation", name: "things.owner" }),
        expect.objectContaining({ kind: "role", name: "editor" }),
        expect.objectContaining({ kind: "view", name: "public.report" }),
      ]),
    );
    await db.query("drop view public.report");
    const broken = await refusal(
      plan("owners", schema({ name: text })).then((made) => apply(made.plan, true)),
    );
    expect(broken).toMatchObject({ code: "RH409", detail: { code: "still_referenced" } });
  });

  test("is applied once, and not when the world has moved", async () => {
    await define("moved", schema({ a: text }));
    const first = await plan("moved", schema({ a: text, b: text }));
    const second = await plan("moved", schema({ a: text, c: text }));
    await apply(first.plan);
    expect((await refusal(apply(first.plan))).detail.code).toBe("plan_applied");
    expect((await refusal(apply(second.plan))).detail.code).toBe("plan_outdated");
    expect((await refusal(apply("00000000-0000-0000-0000-000000000000"))).code).toBe("RH404");
  });

  test("of two applied at once, one wins and the other is outdated", async () => {
    await define("raced", schema({ a: text }));
    const plans = await Promise.all([
      plan("raced", schema({ a: text, b: text })),
      plan("raced", schema({ a: text, c: text })),
    ]);
    const outcomes = await Promise.allSettled(plans.map((p) => apply(p.plan)));
    expect(outcomes.map((o) => o.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await versionOf("raced")).toBe(2);
  });

  test("does not wait behind a long reader with everybody else behind it", async () => {
    await define("busy", schema({ a: text }));
    await insert("busy", { a: "1" });
    const p = await plan("busy", schema({ a: text, b: text }));
    const reader = await db.pool.connect();
    await reader.query("begin");
    await reader.query("select * from acme_crm.busy");
    const applied = apply(p.plan);
    await untilBlocked(db, "data.apply");
    // Others still read within the pauses of the one that waits.
    expect(await rows("busy", "a")).toEqual([{ a: "1" }]);
    await reader.query("commit");
    reader.release();
    await applied;
  });

  const attempts: [string, string, unknown[]][] = [
    ["plan", "select data.plan('acme/crm/guarded', $1)", [schema({ a: text, b: text })]],
    ["define", "select data.define_entity('acme/crm', 'guarded', $1)", [schema({ a: text, b: text })]],
    ["roll back", "select data.rollback('acme/crm/guarded', 1)", []],
  ];
  test.each(attempts)("who may not define may not %s", async (_what, sql, values) => {
    await define("guarded", schema({ a: text }));
    await db.as("acme", "ann@acme.test", async (client) => {
      expect((await refusal(client.query(sql, values))).code).toBe("RH403");
    });
  });

  test("of somebody else cannot be applied or read", async () => {
    await define("guarded", schema({ a: text }));
    const p = await plan("guarded", schema({ a: text, stolen: text }));
    await db.as("acme", "ann@acme.test", async (client) => {
      expect((await refusal(client.query("select data.apply($1)", [p.plan]))).code).toBe("RH403");
      await expect(client.query("update data.plans set applied_at = null")).rejects.toThrow(
        "permission denied",
      );
    });
  });

  test("hostile names stay names", async () => {
    await define("hostile", schema({ a: text }));
    for (const from of [`a"; drop table data.plans; --`, "$body$", "%1$I", "a'"]) {
      const p = await plan("hostile", schema({ b: { ...text, "x-renamed-from": from } }));
      expect(p.changes.map((c) => c.change)).toEqual(["drop", "add"]);
    }
  });
});
