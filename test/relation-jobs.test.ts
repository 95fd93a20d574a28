import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { eventually } from "./harness/eventually.ts";
import { refusal } from "./harness/failure.ts";
import { operations } from "./harness/operations.ts";

// An entity with many records gets a relation, or properties that are unique together, while clients read and write.

const RECORDS = 10_400;
const text = { type: "string" };
const uuid = { type: "string", format: "uuid" };
const properties = { name: text, city: text, company: uuid };
const schema = (changed: object = {}, more: object = {}) => ({
  type: "object",
  properties: { ...properties, ...changed },
  ...more,
});
const relation = (onDelete?: string) => ({
  ...uuid,
  "x-relation": { entity: "companies", name: "employer", ...(onDelete && { onDelete }) },
});

let db: TestDatabase;
let companies: string[];
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "ann@acme.test": "editor" });
  await define("companies", { type: "object", properties: { name: text } });
  await db.query(
    "select data.insert('acme/crm/companies', (select jsonb_agg(jsonb_build_object('name', 'C' || i)) from generate_series(1, 20) i))",
  );
  companies = (await db.query<{ id: string }>("select id from acme_crm.companies order by id")).map(
    ({ id }) => id,
  );
});
afterAll(() => db.drop());
afterEach(() => cancelAll());

const define = (name: string, definition: object) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
const make = async (name: string, more: object = {}, changed: object = {}, count = RECORDS) => {
  await define(name, schema(changed, more));
  for (let from = 1; from <= count; from += 5200) {
    await db.query(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('name', 'N' || i, 'city', 'City ' || i % 500, 'company', ($2::text[])[1 + i % 19]))
         from generate_series($3::int, least($3::int + 5199, $4::int)) i))`,
      [`acme/crm/${name}`, companies, from, count],
    );
  }
};
const { last, step, finish, until, cancelAll } = operations(() => db);
/** What is there of an entity: columns, indexes, constraints, and what its definition says. */
const shape = async (name: string, storage: string) => {
  const table = `acme_crm.${name}_${storage}`;
  const list = async (sql: string) => (await db.query<{ x: string }>(sql, [table])).map(({ x }) => x);
  return {
    columns: await list(
      "select attname as x from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by 1",
    ),
    indexes: await list(
      "select pg_get_indexdef(indexrelid) as x from pg_index where indrelid = to_regclass($1) order by 1",
    ),
    constraints: await list(
      "select conname || ' ' || pg_get_constraintdef(oid) as x from pg_constraint where conrelid = to_regclass($1) order by 1",
    ),
    schema: (await db.query("select schema from data.entities where name = $1", [name]))[0],
    fields: await db.query(
      "select f.name, f.is_promoted, f.is_indexed, f.is_unique, f.is_building from data.fields f join data.entities e on e.id = f.entity_id where e.name = $1 order by 1",
      [name],
    ),
    relations: await db.query(
      "select r.field, r.on_delete from data.relations r join data.entities e on e.id = r.entity_id where e.name = $1",
      [name],
    ),
  };
};

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const s = storage[0];
  const options = { "x-storage": storage };
  const key = async (name: string) =>
    (
      await db.query<{ valid: boolean }>(
        "select convalidated as valid from pg_constraint where conrelid = to_regclass($1) and contype = 'f'",
        [`acme_crm.${name}_${storage}`],
      )
    ).map(({ valid }) => valid);

  test("a relation holds at once for what is written, and for all records when the worker is done", async () => {
    const name = `people_${s}`;
    await make(name, options);
    const wanted = schema({ company: relation("cascade") }, options);
    const [{ p } = { p: { deferred: [""], statements: [""], locks: [{ message: "" }], plan: "" } }] =
      await db.query<{
        p: { deferred: string[]; statements: string[]; locks: { message: string }[]; plan: string };
      }>("select data.plan($1, $2) as p", [`acme/crm/${name}`, wanted]);
    expect(p.statements.join("\n")).toMatch(/ foreign key \(company\) references .* not valid$/m);
    expect(p.statements.join("\n")).not.toMatch(/update |create index/);
    expect(p.locks[0]?.message).toBe("for the moment of a catalog change");
    expect(p.deferred).toEqual([
      expect.stringMatching(/^create index .*company/),
      expect.stringMatching(/ validate constraint /),
    ]);
    await db.query("select data.apply($1)", [p.plan]);
    expect((await last(name)).arguments.statements).toEqual(p.deferred);
    expect(await key(name)).toEqual([false]);

    const refused = { name: "bad", company: "00000000-0000-4000-8000-000000000000" };
    for (let at = "begin"; at !== "switch"; at = (await last(name)).step) {
      expect(
        (await refusal(db.query("select data.insert($1, $2)", [`acme/crm/${name}`, refused]))).code,
      ).toBe("23503");
      await db.as("acme", "ann@acme.test", async (client) => {
        expect(
          (
            await refusal(
              client.query(`update acme_crm.${name} set company = $1 where name = 'N7'`, [refused.company]),
            )
          ).code,
        ).toBe("23503");
        const found = await client.query("select data.find($1, $2) as f", [
          `acme/crm/${name}`,
          { filter: { "employer.name": "C2", name: "N20" }, expand: ["employer"], count: "exact" },
        ]);
        expect(found.rows[0].f.data).toEqual([expect.objectContaining({ name: "N20" })]);
      });
      await db.query(`update acme_crm.${name} set company = $1 where name = $2`, [
        companies[18],
        `N${at.length}`,
      ]);
      await step((await last(name)).id);
    }
    expect(await finish(name)).toMatchObject({ state: "done", error: null });
    expect(await key(name)).toEqual([true]);
    expect(
      await db.query(`select count(*)::int as n from acme_crm.${name} where company = $1`, [companies[3]]),
    ).toEqual([{ n: Math.ceil((RECORDS - 2) / 19) }]);
    await db.query(`analyze acme_crm.${name}_${storage}`);
    // PostgreSQL leaves an index over updated rows alone for as long as a transaction runs that is older.
    const client = await db.pool.connect();
    await client.query("set enable_seqscan = off");
    const plan = `explain (costs off) select * from acme_crm.${name} where company = '${companies[3]}'`;
    await eventually(
      async () => JSON.stringify((await client.query(plan)).rows),
      (text) => text.includes("company_idx"),
    );
    await client.query("reset enable_seqscan");
    client.release();
    const [gone] = await db.query<{ id: string }>(
      `insert into acme_crm.companies (name) values ('Gone') returning id`,
    );
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "last", company: gone?.id }]);
    await db.query("select data.delete('acme/crm/companies', $1)", [gone?.id]);
    expect(await db.query(`select id from acme_crm.${name} where name = 'last'`)).toEqual([]);
  });

  test("records that refer to none fail it, told by their ids, and the entity is as it was", async () => {
    const name = `orphans_${s}`;
    await make(name, options);
    const [bad] = await db.query<{ id: string }>(
      `update acme_crm.${name} set company = '00000000-0000-4000-8000-000000000000' where name = 'N9000' returning id`,
    );
    const before = await shape(name, storage);
    await define(name, schema({ company: relation() }, options));
    expect(await finish(name)).toMatchObject({
      state: "failed",
      error: {
        code: "RH409",
        errors: [{ pointer: "/company", message: "refers to no record", id: bad?.id }],
      },
    });
    expect(await shape(name, storage)).toEqual(before);
    await db.query("select data.insert($1, $2)", [
      `acme/crm/${name}`,
      { company: "00000000-0000-4000-8000-000000000001" },
    ]);
  });

  test("so does one whose record is deleted before it is reached", async () => {
    const name = `raced_${s}`;
    await make(name, options);
    const [company] = await db.query<{ id: string }>(
      "insert into acme_crm.companies (name) values ('Short-lived') returning id",
    );
    await db.query(`update acme_crm.${name} set company = $1 where name = 'N9000'`, [company?.id]);
    await define(name, schema({ company: relation() }, options));
    await until(name, "copy");
    const deletion = db.query("select data.delete('acme/crm/companies', $1)", [company?.id]);
    if (storage === "flat") {
      // The column is full already, so the key holds for it.
      expect((await refusal(deletion)).code).toBe("23001");
      expect(await finish(name)).toMatchObject({ state: "done" });
    } else {
      await deletion;
      expect(await finish(name)).toMatchObject({
        state: "failed",
        error: { errors: [{ message: "refers to no record" }] },
      });
    }
  });

  test.each(["index", "copy", "keys", "switch"])(
    "cancelled before step %s, the entity is as it was",
    async (at) => {
      const name = `cancelled_${at}_${s}`;
      await make(name, { ...options, "x-indexes": [{ fields: ["city"] }] });
      const before = await shape(name, storage);
      await define(
        name,
        schema(
          { company: relation() },
          { ...options, "x-indexes": [{ fields: ["city"] }], "x-unique": [["name", "company"]] },
        ),
      );
      await until(name, at);
      await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
      expect(await shape(name, storage)).toEqual(before);
      await db.query("select data.insert($1, $2)", [
        `acme/crm/${name}`,
        { name: "N1", company: companies[0] },
      ]);
    },
  );

  test("a relation that was to be another one is the former one when that is cancelled", async () => {
    const name = `changed_${s}`;
    await make(name, options, { company: relation("cascade") });
    const before = await shape(name, storage);
    await define(name, schema({ company: relation("set null") }, options));
    await until(name, "keys");
    await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
    const after = await shape(name, storage);
    expect({ ...after, constraints: after.constraints.map((c) => c.replace(" NOT VALID", "")) }).toEqual(
      before,
    );
  });

  test("properties are unique together when it is done, and an upsert by them finds the record before and after", async () => {
    const name = `together_${s}`;
    await make(name, options);
    const upsert = async (record: object) =>
      (
        await db.query<{ u: string }>("select data.upsert($1, $2, '{name,city}') as u", [
          `acme/crm/${name}`,
          record,
        ])
      )[0]?.u;
    const [{ p } = { p: { deferred: [""], statements: [""] } }] = await db.query<{
      p: { deferred: string[]; statements: string[] };
    }>("select data.plan($1, $2) as p", [
      `acme/crm/${name}`,
      schema({}, { ...options, "x-unique": [["name", "city"]] }),
    ]);
    expect(p.deferred).toEqual([expect.stringMatching(/^create unique index .*\(name, city\)$/)]);
    expect(p.statements.join("\n")).not.toMatch(/update |unique/);
    await define(name, schema({}, { ...options, "x-unique": [["name", "city"]] }));
    await until(name, "copy");
    expect(JSON.stringify(await upsert({ name: "N7", city: "City 7", company: companies[0] }))).toMatch(
      /updated.{2,4}1/,
    );
    expect(await finish(name)).toMatchObject({ state: "done", error: null });
    expect(JSON.stringify(await upsert({ name: "N7", city: "City 7", company: companies[1] }))).toMatch(
      /updated.{2,4}1/,
    );
    const failure = await refusal(
      db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "N7", city: "City 7" }]),
    );
    expect(failure.code).toBe("23505");
    expect(await db.query(`select count(*)::int as n from acme_crm.${name}`)).toEqual([{ n: RECORDS }]);
  });

  test("records that are the same together fail it, and the entity is as it was", async () => {
    const name = `same_${s}`;
    await make(name, { ...options, "x-unique": [["name", "company"]] });
    await db.query(
      `update acme_crm.${name} set city = 'Here', company = null where name in ('N9000', 'N9001')`,
    );
    await db.query(`update acme_crm.${name} set name = 'Twice' where name in ('N9000', 'N9001')`);
    const before = await shape(name, storage);
    await define(
      name,
      schema(
        {},
        {
          ...options,
          "x-unique": [
            ["name", "company"],
            ["name", "city"],
          ],
        },
      ),
    );
    expect(await finish(name)).toMatchObject({
      state: "failed",
      error: { code: "RH409", errors: [{ pointer: "/name", message: "are together the same in 2 records" }] },
    });
    expect(await shape(name, storage)).toEqual(before);
  });

  test("a small entity gets all of it at once", async () => {
    const name = `small_${s}`;
    await make(name, options, {}, 300);
    await define(name, schema({ company: relation() }, { ...options, "x-unique": [["name", "city"]] }));
    expect(await last(name)).toBeUndefined();
    expect(await key(name)).toEqual([true]);
    expect(
      (
        await refusal(
          db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "N7", city: "City 7" }]),
        )
      ).code,
    ).toBe("23505");
  });
});
