import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";
import { operations, type Plan } from "./harness/operations.ts";

// An entity with many records gets stored computed fields, required properties, checks and a time to live while clients go on.

const RECORDS = 10_400;
const text = { type: "string" };
const integer = { type: "integer" };
const schema = (changed: object = {}, more: object = {}) => ({
  type: "object",
  properties: { name: text, price: integer, quantity: integer, ...changed },
  ...more,
});
const computed = (expression: string, more: object = {}) => ({
  ...integer,
  "x-computed": { expression, stored: true },
  ...more,
});

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
  for (const [email, role] of [
    ["ann@acme.test", "editor"],
    ["vic@acme.test", "viewer"],
  ]) {
    await db.account(email as string);
    await db.query("select tenancy.add_member('acme', $1, $2)", [email, role]);
  }
});
afterAll(() => db.drop());
afterEach(() => cancelAll());

const define = (name: string, definition: object) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
const plan = async (name: string, definition: object) =>
  (await db.query<{ p: Plan }>("select data.plan($1, $2) as p", [`acme/crm/${name}`, definition]))[0]
    ?.p as Plan;
const make = async (name: string, definition: object, record = "'quantity', i % 7", count = RECORDS) => {
  await define(name, definition);
  for (let from = 1; from <= count; from += 5200)
    await db.query(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('name', 'N' || i, 'price', i, ${record}))
         from generate_series($2::int, least($2::int + 5199, $3::int)) i))`,
      [`acme/crm/${name}`, from, count],
    );
};
const { last, step, finish, until: untilStep, cancelAll } = operations(() => db);
async function until(name: string, wanted: string) {
  await untilStep(name, wanted);
  if (wanted === "copy") await step((await last(name)).id);
}
const one = async <T>(sql: string, values: unknown[] = []) =>
  (await db.query<{ x: T }>(sql, values))[0]?.x as T;
/** What is there of an entity: columns, indexes, constraints, and what its definition says. */
const shape = async (name: string, storage: string) => {
  const table = `acme_crm.${name}_${storage}`;
  const list = async (sql: string) => (await db.query<{ x: string }>(sql, [table])).map(({ x }) => x);
  return {
    columns: await list(
      "select attname || ' ' || attnotnull as x from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by 1",
    ),
    indexes: await list(
      "select pg_get_indexdef(indexrelid) as x from pg_index where indrelid = to_regclass($1) order by 1",
    ),
    constraints: await list(
      "select conname || ' ' || replace(pg_get_constraintdef(oid), ' NOT VALID', '') as x from pg_constraint where conrelid = to_regclass($1) order by 1",
    ),
    schema: await one("select schema as x from data.entities where name = $1", [name]),
    fields: await db.query(
      "select f.name, f.is_promoted, f.is_indexed, f.is_unique, f.is_building, f.is_filling from data.fields f join data.entities e on e.id = f.entity_id where e.name = $1 order by 1",
      [name],
    ),
  };
};
const unvalidated = (name: string, storage: string) =>
  db.query("select conname from pg_constraint where conrelid = to_regclass($1) and not convalidated", [
    `acme_crm.${name}_${storage}`,
  ]);

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const s = storage[0];
  const options = { "x-storage": storage };
  /** The stored values, past the view. */
  const stored = (field: string, indexed = false) =>
    storage === "flat" || indexed ? `t."${field}"` : `(t.data->>'${field}')::int`;
  const inStorage = (expression: string) =>
    expression.replace(/price|quantity|size/g, (field) =>
      storage === "flat" ? field : field === "size" ? "t.size" : `(t.data->>'${field}')::int`,
    );

  test.each([
    { what: "new", more: {} },
    { what: "indexed", more: { "x-index": true } },
    { what: "unique", more: { "x-unique": true } },
  ])(
    "a stored computed field ($what) is right for all readers from the definition on",
    async ({ what, more }) => {
      const name = `sums_${what}_${s}`;
      await make(name, schema({}, options));
      const expression = what === "unique" ? "price * 10 + quantity" : "price * quantity";
      const wanted = schema({ total: computed(expression, more) }, options);
      const planned = await plan(name, wanted);
      expect(planned.statements.join("\n")).not.toMatch(/update |create /);
      expect(planned).toMatchObject({
        rewrites: 0,
        locks: [{ message: "for the moment of a catalog change" }, {}],
      });
      expect(planned.deferred.at(-1)).toBe(`update acme_crm.${name}_${storage} set total = (${expression})`);
      await db.query("select data.apply($1)", [planned.plan]);

      const wrong = `select count(*)::int as x from acme_crm.${name} where total is distinct from ${expression}`;
      let n = 0;
      for (let at = "begin"; at !== "done"; at = (await last(name)).step) {
        expect(await one(wrong)).toBe(0);
        // Through the site's role: read, filter, sort and write by it, filled or not.
        await db.as("acme", "ann@acme.test", async (client) => {
          n++;
          const price = RECORDS - 10 * n;
          const found = await client.query("select data.find($1, $2) as f", [
            `acme/crm/${name}`,
            {
              filter: { name: `N${price}`, total: { $gte: 0 } },
              sort: [{ field: "total", direction: "desc" }],
            },
          ]);
          expect(found.rows[0].f.data).toEqual([
            expect.objectContaining({
              total: what === "unique" ? price * 10 + (price % 7) : price * (price % 7),
            }),
          ]);
          const updated = await client.query(
            `update acme_crm.${name} set quantity = 8 where name = $1 returning total, ${expression} as wanted`,
            [`N${price}`],
          );
          expect(updated.rows[0].total).toBe(updated.rows[0].wanted);
          await client.query(`insert into acme_crm.${name} (name, price, quantity) values ($1, $2, 9)`, [
            `new ${n}`,
            RECORDS + n,
          ]);
          await client.query(`delete from acme_crm.${name} where name = $1`, [`N${price - 1}`]);
        });
        await step((await last(name)).id);
        expect((await last(name)).error).toBeNull();
      }
      expect(await last(name)).toMatchObject({ state: "done", error: null });
      expect(Number((await last(name)).records_done)).toBeGreaterThanOrEqual(RECORDS - n);
      expect(await one(wrong)).toBe(0);
      const value = stored("total", what !== "new");
      expect(
        await one(
          `select count(*)::int as x from acme_crm.${name}_${storage} t where ${value} is distinct from ${inStorage(expression)}`,
        ),
      ).toBe(0);
      expect(await one(`select count(*)::int as x from acme_crm.${name} where quantity = 8`)).toBe(n);
      expect(await one(`select count(*)::int as x from acme_crm.${name}`)).toBe(RECORDS);
      expect(await one(`select max(version) as x from acme_crm.${name}`)).toBe(2);
      // The same as if it had been there from the beginning.
      const twin = `twin_${what}_${s}`;
      await define(twin, wanted);
      const plain = (x: unknown) => JSON.parse(JSON.stringify(x).replaceAll(twin, name));
      expect(await shape(name, storage)).toEqual(plain(await shape(twin, storage)));
      if (what === "unique")
        expect(
          (
            await refusal(
              db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { price: 1, quantity: 1 }]),
            )
          ).code,
        ).toBe("23505");
    },
  );

  test("another expression holds at once, for what is computed from it, too", async () => {
    const name = `changed_${s}`;
    const fields = (expression: string) => ({
      total: computed(expression, { "x-index": true }),
      double: computed("total * 2"),
      other: computed("price + 1", { "x-index": true }),
    });
    await make(name, schema(fields("price * quantity"), options));
    await define(name, schema(fields("price - quantity"), options));
    expect((await last(name)).arguments.statements).toEqual([
      expect.stringMatching(/set double = \(total \* 2\)$/),
      expect.stringMatching(/set total = \(price - quantity\)$/),
    ]);
    const wrong = `select count(*)::int as x from acme_crm.${name} where total is distinct from price - quantity or double is distinct from 2 * (price - quantity) or other is distinct from price + 1`;
    expect(await one(wrong)).toBe(0);
    await until(name, "copy");
    expect(await one(wrong)).toBe(0);
    await db.query(`update acme_crm.${name} set price = 7 where name in ('N3', 'N10000')`);
    expect(await one(wrong)).toBe(0);
    expect(await finish(name)).toMatchObject({ state: "done" });
    expect(await one(wrong)).toBe(0);
    expect(
      await one(
        `select count(*)::int as x from acme_crm.${name}_${storage} t where t.total is distinct from ${inStorage("price - quantity")} or ${stored("double")} is distinct from 2 * t.total`,
      ),
    ).toBe(0);
  });

  test.each(["index", "copy", "keys", "switch"])(
    "cancelled before step %s, a new field is gone",
    async (at) => {
      const name = `cancelled_${at}_${s}`;
      await make(name, schema({}, options));
      const before = await shape(name, storage);
      await define(
        name,
        schema({ total: computed("price * quantity", { "x-index": true, minimum: 0 }) }, options),
      );
      await until(name, at);
      await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
      expect(await shape(name, storage)).toEqual(before);
      await db.query("select data.insert($1, $2)", [
        `acme/crm/${name}`,
        { name: "more", price: -1, quantity: 2 },
      ]);
      expect(await one(`select count(*)::int as x from acme_crm.${name}`)).toBe(RECORDS + 1);
      // And again, to the end.
      await db.query(`delete from acme_crm.${name} where name = 'more'`);
      await define(name, schema({ total: computed("price + quantity", { "x-index": true }) }, options));
      expect(await finish(name)).toMatchObject({ state: "done" });
      expect(
        await one(
          `select count(*)::int as x from acme_crm.${name} where total is distinct from price + quantity`,
        ),
      ).toBe(0);
    },
  );

  test("cancelled, a changed field is computed by its former expression when it is read", async () => {
    const name = `former_${s}`;
    await make(name, schema({ total: computed("price * quantity", { "x-index": true }) }, options));
    await define(name, schema({ total: computed("price - quantity", { "x-index": true }) }, options));
    await until(name, "copy");
    await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
    expect(
      await one(
        `select count(*)::int as x from acme_crm.${name} where total is distinct from price * quantity`,
      ),
    ).toBe(0);
    expect(
      await one("select schema #> '{properties,total}' as x from data.entities where name = $1", [name]),
    ).toEqual({ type: "integer", "x-computed": "price * quantity" });
  });

  test("what is unique together and indexed together with it is so again in the end", async () => {
    const name = `joined_${s}`;
    const joined = (expression: string) =>
      schema(
        { total: computed(expression) },
        { ...options, "x-unique": [["total", "name"]], "x-indexes": [{ fields: ["quantity", "-total"] }] },
      );
    await make(name, joined("price * 2"));
    const before = await shape(name, storage);
    await define(name, joined("price * 3"));
    expect(await one(`select count(*)::int as x from acme_crm.${name} where total <> price * 3`)).toBe(0);
    await until(name, "copy");
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "N3", price: 4, quantity: 1 }]);
    expect(await finish(name)).toMatchObject({ state: "done", error: null });
    expect(await shape(name, storage)).toEqual({ ...before, schema: joined("price * 3") });
    const taken = db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "N3", price: 3 }]);
    expect((await refusal(taken)).code).toBe("23505");
    // Back to unique alone, cancelled: its sets and indexes go with it, and the field is computed when it is read.
    await define(name, joined("price * 4"));
    await until(name, "copy");
    await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
    expect(await one(`select count(*)::int as x from acme_crm.${name} where total <> price * 3`)).toBe(0);
    expect((await shape(name, storage)).indexes).toHaveLength(2);
  });

  test("a condition over it hides the same records before, meanwhile and afterwards", async () => {
    const name = `hidden_${s}`;
    await make(name, schema({}, options));
    await define(name, schema({ total: computed("price * 2", { "x-index": true }) }, options));
    await db.query("select access.define_policy('acme', $1)", [
      {
        name,
        effect: "deny",
        entities: [`crm/${name}`],
        actions: ["read"],
        condition: { total: { $gt: RECORDS } },
      },
    ]);
    for (let state = "running"; ; state = await step((await last(name)).id)) {
      await db.as("acme", "vic@acme.test", async (client) => {
        const seen = await client.query(
          `select count(*)::int as n, max(price)::int as most from acme_crm.${name}`,
        );
        expect(seen.rows).toEqual([{ n: RECORDS / 2, most: RECORDS / 2 }]);
      });
      if (state !== "running") break;
    }
    expect(await last(name)).toMatchObject({ state: "done", error: null });
  });

  test("values that are not unique fail it, and the entity is as it was", async () => {
    const name = `twice_${s}`;
    await make(name, schema({}, options));
    const before = await shape(name, storage);
    await define(name, schema({ total: computed("quantity", { "x-unique": true }) }, options));
    expect(await finish(name)).toMatchObject({
      state: "failed",
      error: {
        code: "RH409",
        errors: expect.arrayContaining([expect.objectContaining({ pointer: "/total" })]),
      },
    });
    expect(await shape(name, storage)).toEqual(before);
  });

  test("a property that is required now has its default from the definition on", async () => {
    const name = `required_${s}`;
    await make(
      name,
      schema({ size: { ...text, "x-index": true } }, options),
      "'size', case when i % 2 = 0 then 'L' end",
    );
    const before = await shape(name, storage);
    const wanted = schema(
      {
        size: { ...text, "x-index": true, default: "M", enum: ["L", "M"] },
        label: computed("price + length(size)"),
      },
      { ...options, required: ["size"] },
    );
    const planned = await plan(name, wanted);
    expect(planned.statements.join("\n")).not.toMatch(/update |create /);
    expect(planned.locks[0]?.message).toBe("for the moment of a catalog change");
    for (const how of ["cancel", "finish"]) {
      await define(name, wanted);
      const count = () =>
        one(
          `select count(*) filter (where size = 'M' and label = price + 1)::int as x from acme_crm.${name}`,
        );
      expect(await count()).toBe(RECORDS / 2);
      await until(name, "copy");
      expect(await count()).toBe(RECORDS / 2);
      await db.as("acme", "ann@acme.test", async (client) => {
        for (const n of [1, RECORDS - 1]) {
          const { rows } = await client.query(
            `update acme_crm.${name} set quantity = 1 where name = $1 returning size, label::int`,
            [`N${n}`],
          );
          expect(rows).toEqual([{ size: "M", label: n + 1 }]);
        }
        expect(
          (await refusal(client.query(`update acme_crm.${name} set size = null where name = 'N4'`))).code,
        ).toBe("RH422");
        const found = await client.query("select data.find($1, $2) as f", [
          `acme/crm/${name}`,
          { filter: { size: "M", name: `N${RECORDS - 3}` } },
        ]);
        expect(found.rows[0].f.data).toHaveLength(1);
      });
      expect(await count()).toBe(RECORDS / 2);
      if (how === "cancel") {
        await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
        const { schema: after, ...rest } = await shape(name, storage);
        const { schema: former, ...was } = before;
        expect(rest).toEqual(was);
        expect(after).toMatchObject({ ...(former as object), properties: { size: { default: "M" } } });
        await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "none", size: "XXL" }]);
        await db.query(`delete from acme_crm.${name} where name = 'none'`);
        await db.query(`update acme_crm.${name} set size = null where size = 'M'`);
      } else expect(await finish(name)).toMatchObject({ state: "done", error: null });
    }
    expect(
      await one(
        `select count(*)::int as x from acme_crm.${name}_${storage} t where t.size is distinct from case when ${inStorage("price")} % 2 = 0 then 'L' else 'M' end`,
      ),
    ).toBe(0);
    expect(await unvalidated(name, storage)).toEqual([]);
  });

  test("x-ttl hides what expires from the definition on, and its index comes later", async () => {
    const name = `mortal_${s}`;
    await make(name, schema({}, options));
    const before = await shape(name, storage);
    const ttl = { ...options, "x-ttl": { after: "30 days", from: "updated_at" } };
    const planned = await plan(name, schema({}, ttl));
    expect(planned.statements.join("\n")).not.toMatch(/update |create /);
    expect(planned.deferred).toEqual([
      expect.stringMatching(/^create index .*\(expires_at, created_at, id\)$/),
      expect.stringMatching(/^create index .*\(updated_at, id\)$/),
    ]);
    for (const how of ["cancel", "finish"]) {
      await define(name, schema({}, ttl));
      const [{ id } = { id: "" }] = await db.query<{ id: string }>(
        `update acme_crm.${name} set expires_at = now() + interval '0.2 s' where name = 'N5' returning id`,
      );
      await sleep(250);
      const seen = async () =>
        db.as("acme", "vic@acme.test", async (client) => {
          const { rows } = await client.query(`select count(*)::int as x from acme_crm.${name}`);
          return rows[0].x;
        });
      expect(await seen()).toBe(RECORDS - 1);
      await until(name, "copy");
      await db.query("call data.delete_expired()");
      expect(
        await one(`select count(*)::int as x from acme_crm.${name}_${storage} where id = $1`, [id]),
      ).toBe(1);
      if (how === "cancel") {
        await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
        expect(await seen()).toBe(RECORDS);
        const after = await shape(name, storage);
        expect({ ...after, columns: after.columns.filter((c) => !c.includes("@")) }).toEqual(before);
      } else expect(await finish(name)).toMatchObject({ state: "done", error: null });
    }
    await db.query("call data.delete_expired()");
    expect(await one(`select count(*)::int as x from acme_crm.${name}_${storage}`)).toBe(RECORDS - 1);
    expect((await shape(name, storage)).indexes.filter((x) => /expires_at|updated_at/.test(x))).toHaveLength(
      2,
    );
  });

  test("x-ttl over an expires_at that records have already hides the expired ones from the definition on", async () => {
    const name = `lapsed_${s}`;
    const kept = { ...options, "x-soft-delete": true };
    const expiring = (more: object) =>
      schema({ expires_at: { type: "string", format: "date-time" } }, { ...kept, ...more });
    await make(
      name,
      expiring({}),
      "'expires_at', now() + case when i % 2 = 0 then 1 else -1 end * interval '1 day'",
    );
    const before = await shape(name, storage);
    const seen = (where = "true") =>
      db.as("acme", "vic@acme.test", async (client) => {
        const { rows } = await client.query(`select count(*)::int as x from acme_crm.${name} where ${where}`);
        return rows[0].x;
      });
    expect(await seen()).toBe(RECORDS);
    const wanted = expiring({ "x-ttl": true });
    const planned = await plan(name, wanted);
    expect(planned.statements.join("\n")).not.toMatch(/update |create |drop column/);
    expect(planned).toMatchObject({
      rewrites: 0,
      locks: [
        { message: "for the moment of a catalog change" },
        { message: "the view is replaced where it stands" },
      ],
    });
    let alive = RECORDS / 2;
    for (const how of ["cancel", "finish"]) {
      await define(name, wanted);
      for (const at of ["begin", "copy", "switch"]) {
        await untilStep(name, at);
        expect(await seen()).toBe(alive);
        // A door that writes: what expires, what is sent for good, what is deleted with its time.
        await db.as("acme", "ann@acme.test", async (client) => {
          const [soon, forever, deleted] = [2, 4, 6].map(
            (n) => `N${n + 1000 * at.length + (how === "cancel" ? 0 : 100)}`,
          );
          await client.query(
            `update acme_crm.${name} set expires_at = now() + interval '0.2 s' where name = $1`,
            [soon],
          );
          await client.query(`update acme_crm.${name} set expires_at = null where name = $1`, [forever]);
          expect(
            (await client.query(`delete from acme_crm.${name} where name = $1`, [deleted])).rowCount,
          ).toBe(1);
          await sleep(250);
          alive -= 2;
        });
        expect(await seen()).toBe(alive);
        expect(await seen("expires_at is null")).toBe({ begin: 1, copy: 2, switch: 3 }[at as "copy"]);
        await db.query("call data.delete_expired()");
        // Inserted, it is refused as ever.
        expect(
          (
            await refusal(
              db.query("select data.insert($1, $2)", [
                `acme/crm/${name}`,
                { expires_at: "2020-01-01T00:00:00Z" },
              ]),
            )
          ).code,
        ).toBe("RH422");
      }
      expect(
        await one(
          `select count(*)::int as x from acme_crm."${name}__deleted" where expires_at > now() + interval '1 hour'`,
        ),
      ).toBe(how === "cancel" ? 3 : 6);
      if (how === "cancel") {
        await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
        expect(await shape(name, storage)).toEqual(before);
        expect(await seen()).toBe(RECORDS - 3);
        await db.query(
          `update acme_crm.${name} set expires_at = now() + interval '1 day' where expires_at is null or expires_at < now() and price % 2 = 0`,
        );
        alive += 3; // those that had expired
      } else expect(await finish(name)).toMatchObject({ state: "done", error: null });
    }
    await db.query("call data.delete_expired()");
    expect(await one(`select count(*)::int as x from acme_crm.${name}_${storage}`)).toBe(alive);
    const twin = `lapsed_twin_${s}`;
    await define(twin, wanted);
    expect(await shape(name, storage)).toEqual(
      JSON.parse(JSON.stringify(await shape(twin, storage)).replaceAll(twin, name)),
    );
  });

  test("a writer runs throughout, nobody waits for a batch, and nothing is lost", async () => {
    const name = `busy_${s}`;
    await make(name, schema({}, options));
    await define(name, schema({ total: computed("price * quantity", { "x-index": true }) }, options));
    let running = true;
    const sums = new Map<string, number>();
    const writer = db.as("acme", "ann@acme.test", async (client) => {
      for (let n = 1; running; n++) {
        const row = `N${1 + ((n * 379) % RECORDS)}`;
        const { rows } = await client.query(
          `update acme_crm.${name} set quantity = quantity + $2 where name = $1 returning quantity::int, price::int, total::int`,
          [row, n],
        );
        expect(rows[0].total).toBe(rows[0].price * rows[0].quantity);
        sums.set(row, rows[0].quantity);
      }
    });
    const { id } = await last(name);
    while ((await last(name)).step !== "copy") await step(id);
    // A batch that is not committed yet.
    const worker = await db.pool.connect();
    await worker.query("begin");
    await worker.query("select data.run_step($1)", [id]);
    await db.as("acme", "vic@acme.test", async (client) => {
      await client.query("set lock_timeout = '500ms'");
      expect(
        (await client.query(`select count(*)::int as x from acme_crm.${name} where total >= 0`)).rows,
      ).toEqual([{ x: RECORDS }]);
    });
    expect(await step(id)).toBe("busy");
    await worker.query("commit");
    worker.release();
    expect(await finish(name)).toMatchObject({ state: "done", error: null });
    running = false;
    await writer;
    const rows = await db.query<{ name: string; quantity: number; fits: boolean }>(
      `select ${storage === "flat" ? "name" : "data->>'name' as name"}, ${inStorage("quantity")} as quantity, t.total = ${inStorage("price * quantity")} as fits from acme_crm.${name}_${storage} t`,
    );
    expect(rows).toHaveLength(RECORDS);
    for (const row of rows) {
      expect(row.fits).toBe(true);
      if (sums.has(row.name)) expect(Number(row.quantity)).toBe(sums.get(row.name));
    }
    expect(sums.size).toBeGreaterThan(5);
  });

  test("two entities are filled at once; one of them is redefined and dropped meanwhile", async () => {
    const [a, b] = [`first_${s}`, `second_${s}`];
    for (const name of [a, b]) {
      await make(name, schema({}, options));
      await define(name, schema({ total: computed("price * quantity") }, options));
      await until(name, "copy");
    }
    expect((await refusal(define(b, schema({ more: text }, options)))).code).toBe("RH409");
    const [first, second] = [await last(a), await last(b)];
    const ends = await Promise.all(
      [first, second].map(async ({ id }, n) => {
        for (let steps = 0, state = "running"; ; ) {
          if (n === 1 && ++steps === 3) {
            await db.query("select data.drop_entity($1, $2)", [`acme/crm/${b}`, b]);
            return step(id);
          }
          state = await step(id);
          if (state !== "running") return state;
        }
      }),
    );
    expect(ends).toEqual(["done", "gone"]);
    expect(
      await one(`select count(*)::int as x from acme_crm.${a} where total is distinct from price * quantity`),
    ).toBe(0);
    expect(await one("select to_regclass($1) as x", [`acme_crm.${b}_${storage}`])).toBeNull();
  });
});

test("flat storage checks what is required and in range while everybody goes on", async () => {
  await make("checked", schema({ kind: text }, { "x-storage": "flat" }), "'kind', 'a', 'quantity', i % 7");
  const before = await shape("checked", "flat");
  const wanted = schema(
    {
      kind: { enum: ["a", "b"] },
      price: { ...integer, minimum: 1 },
      grade: { ...integer, maximum: 9, default: 3 },
    },
    { "x-storage": "flat", required: ["name", "kind", "grade"] },
  );
  const planned = await plan("checked", wanted);
  expect(planned).toMatchObject({
    rewrites: 0,
    locks: [{ message: "for the moment of a catalog change" }, {}],
  });
  expect(planned.statements.filter((x) => / not valid$/.test(x))).toHaveLength(6);
  expect(planned.deferred).toEqual(
    Array(6).fill(expect.stringMatching(/^alter table .* validate constraint /)),
  );
  for (const how of ["cancel", "finish"]) {
    await define("checked", wanted);
    expect(await one("select count(*)::int as x from acme_crm.checked where grade = 3")).toBe(RECORDS);
    await until("checked", "keys");
    await step((await last("checked")).id);
    for (const wrong of [{ kind: "c" }, { price: 0 }, { kind: null }, { grade: 10 }])
      expect(
        (
          await refusal(
            db.query(
              "select data.update('acme/crm/checked', (select id from acme_crm.checked where name = 'N9000'), $1)",
              [wrong],
            ),
          )
        ).code,
      ).toBe("RH422");
    if (how === "cancel") {
      await db.query("select data.cancel_operation($1)", [(await last("checked")).id]);
      const { constraints, columns } = await shape("checked", "flat");
      const old = (list: string[]) => list.filter((x) => !x.includes("grade"));
      expect(old(constraints)).toEqual(before.constraints);
      expect(old(columns)).toEqual(before.columns);
      await db.query("update acme_crm.checked set kind = null, price = -1 where name = 'N1'");
      await db.query("update acme_crm.checked set kind = 'b', price = 1 where name = 'N1'");
    } else expect(await finish("checked")).toMatchObject({ state: "done", error: null });
  }
  expect(await unvalidated("checked", "flat")).toEqual([]);
  await define("checked_twin", wanted);
  expect((await shape("checked", "flat")).constraints).toEqual(
    (await shape("checked_twin", "flat")).constraints.map((x) =>
      x.replace("checked_twin_flat", "checked_flat"),
    ),
  );
});

test("a site that is deleted while its records are filled takes the operation with it", async () => {
  await db.query("select tenancy.create_site('acme', 'brief')");
  await db.query("select tenancy.create_app('brief', 'crm')");
  await db.query("select data.define_entity('brief/crm', 'sums', $1)", [schema()]);
  for (let n = 0; n < 2; n++)
    await db.query(
      "select data.insert('brief/crm/sums', (select jsonb_agg(jsonb_build_object('price', i, 'quantity', i)) from generate_series(1, 5200) i))",
    );
  await db.query("select data.define_entity('brief/crm', 'sums', $1)", [
    schema({ total: computed("price * quantity", { "x-index": true }) }),
  ]);
  const { id } = await last("sums");
  await until("sums", "copy");
  await db.query("select tenancy.drop_site('brief', 'brief')");
  expect(await step(id)).toBe("gone");
  expect(await one("select to_regnamespace('brief_crm') as x")).toBeNull();
});

test("what is not unique ends the operation also under the worker's own login, which may read nothing", async () => {
  await make("crates", schema());
  await define("crates", schema({ size: computed("quantity * 2", { "x-unique": true }) }));
  const { id } = await last("crates");
  const worker = new pg.Client({ connectionString: db.workerUrl });
  await worker.connect();
  try {
    for (let state = "running"; state === "running"; )
      state = (await worker.query("select data.run_step($1) as s", [id])).rows[0].s;
  } finally {
    await worker.end();
  }
  expect(await last("crates")).toMatchObject({ state: "failed", error: { code: "RH409" } });
  expect(
    await one("select schema->'properties' ? 'size' as x from data.entities where name = 'crates'"),
  ).toBe(false);
});
