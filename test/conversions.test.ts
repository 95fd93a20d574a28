import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// What an author was promised of x-convert: values become others by an expression, shown before, done by apply, undone by rollback.

type Plan = {
  plan: string;
  changes: { change: string; message: string; loses_data: boolean }[];
  statements: string[];
  rewrites: number;
  loses_data: boolean;
  losses: { field: string; records: number; examples: { id: string; was: unknown }[] }[];
  offenders: { id: string; pointer: string; message: string }[];
};

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
});
afterAll(() => db.drop());

const text = { type: "string" };
const integer = { type: "integer" };

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const name = (base: string) => `${base}_${storage === "flat" ? "f" : "j"}`;
  const schema = (properties: object, more: object = {}) => ({
    type: "object",
    properties,
    "x-storage": storage,
    ...more,
  });
  const make = async (base: string, properties: object, more: object, ...records: object[]) => {
    const e = name(base);
    await db.query("select data.define_entity('acme/crm', $1, $2)", [e, schema(properties, more)]);
    await db.query("select data.insert($1, $2)", [`acme/crm/${e}`, JSON.stringify(records)]);
    return e;
  };
  const plan = async (e: string, properties: object, more: object = {}): Promise<Plan> =>
    (
      await db.query<{ plan: Plan }>("select data.plan($1, $2) as plan", [
        `acme/crm/${e}`,
        schema(properties, more),
      ])
    )[0]?.plan as Plan;
  const apply = (p: Plan, loss = false) => db.query("select data.apply($1, $2)", [p.plan, loss]);
  const rows = (e: string, columns: string) =>
    db.query(`select ${columns} from acme_crm.${e} order by created_at, id`);
  const places = (e: string) =>
    db.query(`select ctid::text, version, updated_at from acme_crm.${e}_${storage} order by id`);
  const rollback = (e: string, version: number) =>
    db.query("select data.rollback($1, $2)", [`acme/crm/${e}`, version]);

  test("texts become cents and back, without a loss", async () => {
    const e = await make(
      "priced",
      { label: text, price: text },
      {},
      { label: "a", price: "12.50" },
      { price: "3.00" },
      { label: "c" },
    );
    const before = await places(e);
    const cents = {
      ...integer,
      "x-convert": "round(to_number(price) * 100)",
      "x-convert-back": "concat(floor(price / 100), '.', if(price % 100 < 10, '0', ''), price % 100)",
    };
    const p = await plan(e, { label: text, price: cents });
    expect(p).toMatchObject({
      loses_data: false,
      losses: [],
      offenders: [],
      rewrites: storage === "flat" ? 3 : 0,
    });
    expect(p.changes.map((c) => c.message)).toEqual([
      "price was string and becomes integer by round(to_number(price) * 100)",
    ]);
    expect(await rows(e, "price")).toEqual([{ price: "12.50" }, { price: "3.00" }, { price: null }]);
    expect(
      (
        await refusal(
          db.query("select data.define_entity('acme/crm', $1, $2)", [
            e,
            schema({ label: text, price: cents }),
          ]),
        )
      ).code,
    ).toBe("RH409");
    await apply(p);
    expect(await rows(e, "price + 1 as next")).toEqual([{ next: "1251" }, { next: "301" }, { next: null }]);
    if (storage === "jsonb") expect(await places(e)).toEqual(before);
    expect((await refusal(apply(p))).detail.code).toBe("plan_applied");
    // New and old records alike; another version of the same schema converts nothing.
    await db.query("select data.insert($1, $2)", [`acme/crm/${e}`, { price: 7 }]);
    await db.query(`update acme_crm.${e} set label = 'touched' where label = 'a'`);
    await db.query("select data.define_entity('acme/crm', $1, $2)", [
      e,
      schema({ label: text, price: cents, more: text }),
    ]);
    expect(await rows(e, "price")).toEqual([
      { price: "1250" },
      { price: "300" },
      { price: null },
      { price: "7" },
    ]);
    await rollback(e, 1);
    expect(await rows(e, "price")).toEqual([
      { price: "12.50" },
      { price: "3.00" },
      { price: null },
      { price: "0.07" },
    ]);
    await rollback(e, 2); // and forward again
    expect(await rows(e, "price")).toEqual([
      { price: "1250" },
      { price: "300" },
      { price: null },
      { price: "7" },
    ]);
    await rollback(e, 1);
    expect(await rows(e, "price")).toEqual([
      { price: "12.50" },
      { price: "3.00" },
      { price: null },
      { price: "0.07" },
    ]);
  });

  test("it reads the record as it was: other fields, former names, dropped ones, objects, two at once", async () => {
    const e = await make(
      "named",
      {
        first: text,
        last: text,
        swap: text,
        address: { type: "object", properties: { city: text } },
        code: { ...text, "x-unique": true },
      },
      {},
      { first: "Ada", last: "Lovelace", swap: "s", address: { city: "London" }, code: "a1" },
    );
    const p = await plan(e, {
      name: {
        ...text,
        "x-renamed-from": "first",
        "x-convert": "concat(first, ' ', last)",
        "x-convert-back": "substr(name, 1, 3)",
      },
      swap: { ...text, "x-convert": "concat(swap, first)", "x-convert-back": "substr(swap, 1, 1)" },
      city: { ...text, "x-renamed-from": "address", "x-convert": "address.city" },
      code: { ...text, "x-unique": true, "x-convert": "upper(code)", "x-convert-back": "lower(code)" },
    });
    expect(p.losses.map((l) => l.field).sort()).toEqual(["city"]);
    expect((await refusal(apply(p))).detail.code).toBe("would_lose_data");
    await apply(p, true);
    const after = [{ name: "Ada Lovelace", swap: "sAda", city: "London", code: "A1" }];
    expect(await rows(e, "name, swap, city, code")).toEqual(after);
    expect(await db.query(`select name from acme_crm.${e} where code = 'A1'`)).toHaveLength(1);
    const other = storage === "flat" ? "jsonb" : "flat";
    await db.query("select data.convert_storage($1, $2)", [`acme/crm/${e}`, other]);
    await db.query("call data.run_operations()");
    expect(await rows(e, "name, swap, city, code")).toEqual(after);
  });

  test("what would not come back is counted and named; what cannot be converted is an offender", async () => {
    const e = await make(
      "lossy",
      { size: text, age: text },
      {},
      { size: "10 cm", age: "1" },
      { size: "20", age: "2" },
    );
    const p = await plan(e, {
      size: { ...integer, "x-convert": "to_number(replace(size, ' cm', ''))" },
      age: text,
    }).catch((error) => error);
    expect(p.message).toContain("the field is an integer");
    const rounded = await plan(e, {
      size: { ...integer, "x-convert": "round(to_number(replace(size, ' cm', '')))" },
      age: text,
    });
    expect(rounded).toMatchObject({
      loses_data: true,
      losses: [{ field: "size", records: 1, examples: [{ was: "10 cm" }] }],
      offenders: [],
    });
    expect(rounded.changes[0]?.message).toContain(
      "records whose value would not come back by the automatic conversion: 1",
    );
    const huge = await plan(e, {
      size: text,
      age: { ...integer, maximum: 100, "x-convert": "round(to_number(age) * 9000000000000000000)" },
    });
    expect(huge.offenders).toMatchObject([{ pointer: "/age" }, { pointer: "/age" }]);
    expect((await refusal(apply(huge, true))).detail.code).toBe("records_do_not_fit");
    expect(await rows(e, "size, age")).toEqual([
      { size: "10 cm", age: "1" },
      { size: "20", age: "2" },
    ]);
    const required = await plan(
      e,
      { size: { ...integer, "x-convert": "round(to_number(size))" }, age: text },
      { required: ["size"] },
    );
    expect(required.offenders).toMatchObject([{ pointer: "/size", message: "is required" }]);
  });

  test("two conversions are rolled back one after the other", async () => {
    const e = await make("steps", { v: text }, {}, { v: "a" });
    await apply(
      await plan(e, {
        v: { ...text, "x-convert": "concat(v, '1')", "x-convert-back": "substr(v, 1, length(v) - 1)" },
      }),
    );
    await apply(
      await plan(e, {
        v: { ...text, "x-convert": "concat(v, '2')", "x-convert-back": "substr(v, 1, length(v) - 1)" },
      }),
    );
    expect(await rows(e, "v")).toEqual([{ v: "a12" }]);
    expect((await refusal(rollback(e, 1))).detail.code).toBe("rollback_in_steps");
    await rollback(e, 2);
    expect(await rows(e, "v")).toEqual([{ v: "a1" }]);
  });

  test("history, deleted records and compaction follow", async () => {
    const kept = { "x-history": true, "x-soft-delete": true };
    const e = await make("kept", { v: text }, kept, { v: "1" }, { v: "x" });
    await db.query(`update acme_crm.${e} set v = '2' where v = '1'`);
    await db.query(`delete from acme_crm.${e} where v = 'x'`);
    await apply(
      await plan(
        e,
        { v: { ...integer, "x-convert": "round(to_number(v)) * 10", "x-convert-back": "to_text(v / 10)" } },
        kept,
      ),
      true,
    );
    const [id] = await db.query<{ id: string }>(`select id from acme_crm.${e}`);
    const [h] = await db.query<{ h: { data: { changes: unknown }[] } }>("select data.history($1, $2) as h", [
      `acme/crm/${e}`,
      id?.id,
    ]);
    expect(h?.h.data[0]?.changes).toEqual({ v: { old: 10, new: 20 } });
    expect(
      (await db.query<{ d: { data: object[] } }>("select data.deleted($1, '{}') as d", [`acme/crm/${e}`]))[0]
        ?.d.data,
    ).toHaveLength(1);
    await db.query("select data.compact($1)", [`acme/crm/${e}`]);
    await db.query("call data.run_operations()");
    expect(await rows(e, "v")).toEqual([{ v: "20" }]);
  });

  test.each<[string, object, string]>([
    ["no expression", { ...integer, "x-convert": 7 }, "is an expression"],
    ["a syntax error", { ...integer, "x-convert": "round(" }, "position"],
    [
      "a name that is new",
      { ...integer, "x-convert": "round(to_number(nothing))" },
      "'nothing' is not a field",
    ],
    ["another type", { ...integer, "x-convert": "upper(v)" }, "the field is an integer"],
    ["time", { type: "string", format: "date", "x-convert": "today()" }, "change by themselves"],
    ["SQL", { ...text, "x-convert": "v'; drop table x; --" }, "position"],
    ["a list", { type: "array", items: text, "x-convert": "v" }, "is for properties that clients write"],
    [
      "a way back of another type",
      { ...integer, "x-convert": "length(v)", "x-convert-back": "v > 1" },
      "x-convert-back",
    ],
    [
      "a way back that reads what was",
      { ...integer, "x-convert": "length(v)", "x-convert-back": "gone" },
      "x-convert-back",
    ],
    [
      "computed",
      { ...integer, "x-convert": "length(v)", "x-computed": "1" },
      "is for properties that clients write",
    ],
  ])("refused: %s", async (_title, v, message) => {
    const e = name("refused");
    await db.query("select data.define_entity('acme/crm', $1, $2)", [e, schema({ v: text, gone: text })]);
    const failure = await refusal(plan(e, { v, w: text }));
    expect([failure.code, failure.message]).toEqual(["RH400", expect.stringContaining(message)]);
    expect(failure.detail.errors?.[0]?.pointer).toMatch(/^\/properties\/v/);
  });
});
