import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";
import { operations, type Plan } from "./harness/operations.ts";

// A property of an entity with many records gets another type, or comes back, while clients go on.

const RECORDS = 10_400;
const text = { type: "string" };
const integer = { type: "integer" };
const moment = [{ message: "for the moment of a catalog change" }, {}];

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "ann@acme.test": "editor", "vic@acme.test": "viewer" });
});
afterAll(() => db.drop());
const { last, finish } = operations(() => db);

const schema = (properties: object, more: object = {}) => ({
  type: "object",
  properties: { name: text, ...properties },
  ...more,
});
const one = async <T>(sql: string, values: unknown[] = []) =>
  (await db.query<{ x: T }>(sql, values))[0]?.x as T;
const count = (name: string, where: string) =>
  one<number>(`select count(*)::int as x from acme_crm.${name} where ${where}`);
const plan = (name: string, definition: object) =>
  one<Plan>("select data.plan($1, $2) as x", [`acme/crm/${name}`, definition]);
const apply = (planned: Plan) => db.query("select data.apply($1, allow_loss => true)", [planned.plan]);
/** Defines an entity and gives it records, each {"name": "N…"} and what SQL over i says. */
async function make(name: string, definition: object, record: string) {
  await db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
  for (let from = 1; from <= RECORDS; from += 5200)
    await db.query(
      `select data.insert($1, (select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', 'N' || i, ${record})))
         from generate_series($2::int, $2::int + 5199) i))`,
      [`acme/crm/${name}`, from],
    );
}
/** Does something to a storage and says what it wrote: records, and whether into a new file. */
async function written(table: string, sql: string, values: unknown[]) {
  const client = await db.pool.connect();
  try {
    await client.query("begin");
    const state = async () =>
      (
        await client.query<{ file: number; records: number }>(
          `select pg_relation_filenode($1::text::regclass) as file,
             (select sum(n_tup_upd + n_tup_ins + n_tup_del)::int from pg_stat_xact_all_tables where relid = $1::text::regclass) as records`,
          [table],
        )
      ).rows[0] as { file: number; records: number };
    const before = await state();
    await client.query(sql, values);
    const after = await state();
    await client.query("commit");
    return { records: after.records - before.records, rewritten: before.file !== after.file };
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}
/**
 * Does the steps of an entity's operation up to one. While each is done and not committed, readers and writers go on: nobody
 * holds a lock for which they would wait. row is the name of a record that is in none of the batch's 2,000.
 */
async function underClients(
  name: string,
  end: string,
  clients: (client: { query: TestDatabase["pool"]["query"] }, row: string) => Promise<void>,
) {
  const { id } = await last(name);
  let batch = 0;
  for (let at = (await last(name)).step; at !== end && at !== "switch"; at = (await last(name)).step) {
    const worker = await db.pool.connect();
    try {
      await worker.query("begin");
      await worker.query("select data.run_step($1)", [id]);
      const { rows } = await worker.query(
        `select c.relname, l.mode from pg_locks l join pg_class c on c.oid = l.relation
         where l.pid = pg_backend_pid() and c.relkind in ('r', 'v') and c.relnamespace = 'acme_crm'::regnamespace and l.mode = 'AccessExclusiveLock'`,
      );
      expect(rows).toEqual([]);
      if (at === "copy" && batch++ % 2 === 0)
        await db.as("acme", "ann@acme.test", async (client) => {
          await client.query("set lock_timeout = '2s'");
          await clients(client as never, `N${((batch + 2) % 5) * 2000 + 100}`);
        });
    } finally {
      await worker.query("commit");
      worker.release();
    }
    expect(await last(name)).toMatchObject({ state: "running", error: null });
  }
}

describe("a dropped property of flat storage comes back", () => {
  const flat = (properties: object, more: object = {}) =>
    schema(properties, { "x-storage": "flat", ...more });
  const full = flat(
    {
      kind: { enum: ["a", "b"], default: "b", "x-index": true },
      price: { ...integer, minimum: 0 },
      label: {
        ...integer,
        "x-computed": { expression: "price + length(kind)", stored: true },
        "x-index": true,
      },
    },
    { required: ["kind", "price"] },
  );
  const less = flat({ price: integer });

  test.each(["cancel", "finish"])(
    "with its checks, default and what is computed from it: %s",
    async (how) => {
      const name = `back_${how}`;
      await make(name, full, "'kind', case when i % 2 = 0 then 'a' end, 'price', i");
      await apply(await plan(name, less));
      await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { name: "without", price: 5 }]);
      await finish(name).catch(() => undefined);
      const planned = await one<Plan>("select data.plan_rollback($1, 1) as x", [`acme/crm/${name}`]);
      expect(planned).toMatchObject({ rewrites: 0, locks: moment });
      expect(planned.statements.join("\n")).not.toMatch(/update |create |set not null/);
      expect(
        await written(`acme_crm.${name}_flat`, "select data.apply($1, allow_loss => true)", [planned.plan]),
      ).toEqual({ records: 0, rewritten: false });
      const right = async () => {
        expect(await count(name, "kind = 'a' and price % 2 = 0 and label = price + 1")).toBe(RECORDS / 2);
        expect(await count(name, "kind = 'b' and label = price + 1")).toBe(RECORDS / 2 + 1);
      };
      await right();
      await underClients(name, how === "cancel" ? "keys" : "switch", async (client) => {
        const { rows } = await client.query(
          `update acme_crm.${name} set price = price + 2 where name = 'N9000' returning label - price as x, kind`,
        );
        expect(rows).toEqual([{ x: "1", kind: "a" }]);
        expect((await client.query(`select count(*)::int as x from acme_crm.${name}`)).rows[0].x).toBe(
          RECORDS + 1,
        );
      });
      await right();
      if (how === "finish") {
        expect(await finish(name)).toMatchObject({ state: "done", error: null });
        await right();
        expect(
          await one(
            "select count(*)::int as x from pg_constraint where conrelid = to_regclass($1) and not convalidated",
            [`acme_crm.${name}_flat`],
          ),
        ).toBe(0);
        expect(
          (await refusal(db.query(`update acme_crm.${name} set kind = null where name = 'N1'`))).code,
        ).toBe("RH422");
        expect(await count(`${name}_flat`, "kind is null or label is null")).toBe(0);
      } else {
        await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
        expect(await count(name, "kind = 'a' and price % 2 = 0")).toBe(RECORDS / 2);
        await db.query("select data.insert($1, $2)", [
          `acme/crm/${name}`,
          { name: "more", price: 7, kind: null },
        ]);
        expect(
          await one("select schema->'required' as x from data.entities where name = $1", [name]),
        ).toEqual([]);
      }
    },
  );
});

describe("a property of flat storage gets another type", () => {
  const flat = (properties: object, more: object = {}) =>
    schema(properties, { "x-storage": "flat", ...more });
  const label = { ...integer, "x-computed": { expression: "rank + 1", stored: true }, "x-index": true };
  const scenarios = [
    {
      what: "by itself, with its checks, its index and what is computed from it",
      record: "'age', to_char(i % 90, 'FM00'), 'rank', i",
      before: flat({ age: { ...text, "x-index": true, maxLength: 3 }, rank: integer }, { required: ["age"] }),
      after: flat(
        {
          age: { ...integer, "x-index": true, minimum: 0, maximum: 99 },
          rank: integer,
          twice: { ...integer, "x-computed": { expression: "age * 2", stored: true } },
        },
        { required: ["age"], "x-indexes": [{ fields: ["rank", "-age"] }] },
      ),
      right: "age = rank % 90 and twice = age * 2",
      set: "age = age + 0, rank = rank",
      back: "age = (rank % 90)::text",
    },
    {
      what: "by an expression over what is renamed and dropped at the same time",
      record: "'euros', i || '.50', 'factor', i % 3, 'rank', i",
      before: flat({ euros: text, factor: integer, rank: integer, label }),
      after: flat({
        cents: {
          ...integer,
          "x-renamed-from": "euros",
          "x-convert": "round(to_number(euros) * 100) * factor",
          "x-convert-back": "to_text(cents)",
        },
        rank: integer,
        label,
      }),
      right: "cents = (rank * 100 + 50) * (rank % 3) and label = rank + 1",
      set: "cents = cents",
      back: "euros = ((rank * 100 + 50) * (rank % 3))::text and label = rank + 1 and factor = rank % 3",
    },
    {
      what: "by an expression within its type, where it is indexed with another",
      record: "'size', case when i % 5 > 0 then i end, 'rank', i",
      before: flat(
        { size: { ...integer, maximum: 100_000 }, rank: integer },
        { "x-indexes": [{ fields: ["size", "rank"] }] },
      ),
      after: flat(
        {
          size: {
            ...integer,
            maximum: 100_000,
            "x-convert": "size * 2",
            "x-convert-back": "round(size / 2)",
          },
          rank: integer,
        },
        { "x-indexes": [{ fields: ["size", "rank"] }] },
      ),
      right: "size is not distinct from case when rank % 5 > 0 then rank * 2 end",
      set: "size = size",
      back: "size is not distinct from case when rank % 5 > 0 then rank end",
    },
    {
      what: "to a required one, whose default takes the place of null",
      record: "'on', case when i % 2 = 0 then 'yes' end, 'rank', i",
      before: flat({ on: text, rank: integer }),
      after: flat({ on: { type: "boolean", default: false }, rank: integer }, { required: ["on"] }),
      right: '"on" = (rank % 2 = 0)',
      set: '"on" = "on"',
      back: "\"on\" = case when rank % 2 = 0 then 'true' else 'false' end",
    },
  ];
  test.each(scenarios)("$what", async ({ record, before, after, right, set, back }) => {
    const name = `types_${scenarios.findIndex((s) => s.record === record)}`;
    await make(name, before, record);
    const shape = async (of: string) => ({
      columns: await db.query(
        "select attname, atttypid::regtype::text as type, attnotnull from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped and attname !~ '@' order by 1",
        [`acme_crm.${of}_flat`],
      ),
      indexes: (
        await db.query<{ x: string }>(
          "select pg_get_indexdef(indexrelid) as x from pg_index where indrelid = to_regclass($1) order by 1",
          [`acme_crm.${of}_flat`],
        )
      ).map(({ x }) => x.replaceAll(of, "same")),
      constraints: (
        await db.query<{ x: string }>(
          "select conname || ' ' || pg_get_constraintdef(oid) as x from pg_constraint where conrelid = to_regclass($1) order by 1",
          [`acme_crm.${of}_flat`],
        )
      ).map(({ x }) => x.replaceAll(of, "same")),
    });
    const there = async (planned: Plan, is: string, wanted: object, version: number) => {
      expect(planned).toMatchObject({ rewrites: 0, offenders: [], locks: moment });
      expect(planned.statements.join("\n")).not.toMatch(/update |create |set not null| type /);
      expect(
        await written(`acme_crm.${name}_flat`, "select data.apply($1, allow_loss => true)", [planned.plan]),
      ).toEqual({ records: 0, rewritten: false });
      expect(await count(name, is)).toBe(RECORDS);
      // It is not taken back half way.
      const cancelled = db.query("select data.cancel_operation($1)", [(await last(name)).id]);
      expect(await refusal(cancelled)).toMatchObject({ code: "RH409" });
      await underClients(name, "switch", async (client, row) => {
        expect(
          (await client.query(`select count(*)::int as x from acme_crm.${name} where ${is}`)).rows[0].x,
        ).toBe(RECORDS);
        if (version === 2) {
          const { rowCount } = await client.query(`update acme_crm.${name} set ${set} where name = $1`, [
            row,
          ]);
          expect(rowCount).toBe(1);
        }
        await client.query(`update acme_crm.${name} set name = name || '!' where name = $1`, [row]);
        const { rows } = await client.query("select data.find($1, $2) as f", [
          `acme/crm/${name}`,
          { filter: { name: `${row}!` } },
        ]);
        expect(rows[0].f.data).toHaveLength(1);
        await client.query(`update acme_crm.${name} set name = $1 where name = $1 || '!'`, [row]);
      });
      expect(await count(name, is)).toBe(RECORDS);
      expect(await finish(name)).toMatchObject({ state: "done", error: null });
      expect(await count(name, is)).toBe(RECORDS);
      expect(
        await one(
          "select count(*)::int as x from pg_attribute where attrelid = to_regclass($1) and attname ~ $2",
          [`acme_crm.${name}_flat`, `^(?!factor).*@${version}$`],
        ),
      ).toBe(0);
      // The same as if it had been so from the beginning.
      const twin = `${name}_${version}`;
      await db.query("select data.define_entity('acme/crm', $1, $2)", [twin, wanted]);
      expect(await shape(name)).toEqual(await shape(twin));
    };
    await there(await plan(name, after), right, after, 2);
    await there(
      await one<Plan>("select data.plan_rollback($1, 1) as x", [`acme/crm/${name}`]),
      back,
      before,
      3,
    );
  });

  test("rights, references and a worker that is killed: everything holds meanwhile", async () => {
    await db.query("select data.define_entity('acme/crm', 'owners', $1)", [schema({})]);
    const [owner] = await db.query<{ id: string }>(
      "insert into acme_crm.owners (name) values ('O') returning id",
    );
    const fields = (level: object) =>
      flat(
        { level, rank: integer, owner_id: { "x-relation": { entity: "owners", onDelete: "set null" } } },
        { required: ["level"] },
      );
    await make("guarded", fields(text), "'level', i % 10, 'rank', i".replace("i % 10", "(i % 10)::text"));
    await db.query("update acme_crm.guarded set owner_id = $1 where rank in (50, 9000, 10300)", [owner?.id]);
    await db.query("select access.define_policy('acme', $1)", [
      {
        name: "high",
        effect: "deny",
        entities: ["crm/guarded"],
        actions: ["read"],
        condition: { rank: { $gt: 10_390 } },
      },
    ]);
    const planned = await plan("guarded", fields({ ...integer, "x-index": true, maximum: 9 }));
    expect(planned).toMatchObject({ rewrites: 0, locks: moment });
    await apply(planned);
    // A condition over the property that is converted.
    await db.query("select access.define_policy('acme', $1)", [
      {
        name: "low",
        effect: "deny",
        entities: ["crm/guarded"],
        actions: ["read"],
        condition: { level: { $lt: 3 } },
      },
    ]);
    const seen = () =>
      db.as("acme", "vic@acme.test", async (client) => {
        const { rows } = await client.query(
          "select count(*)::int as n, min(level)::int as least, max(rank)::int as most from acme_crm.guarded",
        );
        return rows[0];
      });
    const all = await seen();
    expect(all).toEqual({ n: (RECORDS / 10) * 7 - 7, least: 3, most: 10_389 });
    const { id } = await last("guarded");
    for (let batches = 0; batches < 2; ) {
      if ((await last("guarded")).step === "copy") batches++;
      await db.query("select data.run_step($1)", [id]);
      expect(await seen()).toEqual(all);
    }
    // Killed in the middle of a batch: the next one begins where the last that was whole ended.
    const killed = await db.pool.connect();
    killed.on("error", () => {});
    const [{ pid } = { pid: 0 }] = (await killed.query("select pg_backend_pid() as pid")).rows;
    const { records_done } = await last("guarded");
    await killed.query("begin");
    await killed.query("select data.run_step($1)", [id]);
    await db.query("select pg_terminate_backend($1)", [pid]);
    killed.release(true);
    expect((await last("guarded")).records_done).toBe(records_done);
    // One record of each: converted, not converted, and none of them lost.
    await db.query("delete from acme_crm.owners where id = $1", [owner?.id]);
    expect(
      await count("guarded", "rank in (50, 9000, 10300) and owner_id is null and level = rank % 10"),
    ).toBe(3);
    const wrong = db.query("update acme_crm.guarded set level = 10 where rank = 10200");
    expect((await refusal(wrong)).code).toBe("RH422");
    expect(
      (
        await refusal(
          db.query("select data.insert('acme/crm/guarded', $1)", [{ name: "x", level: "4", rank: 1 }]),
        )
      ).code,
    ).toBe("RH422");
    const { rows } = await db.as("acme", "ann@acme.test", (client) =>
      client.query("select data.upsert('acme/crm/guarded', $1, $2) as u", [
        JSON.stringify([{ name: "N10100", rank: 10_100, level: 4 }]),
        ["rank", "level"],
      ]),
    );
    expect(rows[0].u.meta).toMatchObject({ inserted: 1 });
    expect(await finish("guarded")).toMatchObject({ state: "done", error: null });
    expect(await count("guarded", "level = rank % 10")).toBe(RECORDS);
    expect(await seen()).toEqual({ ...all, n: all.n + 1 });
  });
});

test.each(["cancel", "finish"])(
  "jsonb storage fills the column of an indexed property anew by its expression: %s",
  async (how) => {
    const name = `doubled_${how}`;
    const size = (more: object = {}) =>
      schema(
        { size: { ...integer, "x-index": true, ...more }, rank: integer },
        { "x-indexes": [{ fields: ["rank", "size"] }], "x-unique": [["size", "rank"]] },
      );
    await make(name, size(), "'size', i, 'rank', i");
    const planned = await plan(name, size({ "x-convert": "size * 2" }));
    expect(planned).toMatchObject({ rewrites: 0, locks: moment });
    expect(planned.statements.join("\n")).not.toMatch(/update |create /);
    expect(
      await written(`acme_crm.${name}_jsonb`, "select data.apply($1, allow_loss => true)", [planned.plan]),
    ).toEqual({ records: 0, rewritten: false });
    const indexes = () =>
      one<string[]>(
        "select array_agg(regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', '') order by 1) as x from pg_index where indrelid = to_regclass($1)",
        [`acme_crm.${name}_jsonb`],
      );
    await underClients(name, how === "cancel" ? "keys" : "switch", async (client, row) => {
      const { rows } = await client.query(
        `select count(*)::int as x from acme_crm.${name} where size = rank * 2`,
      );
      expect(rows[0].x).toBe(RECORDS);
      await client.query(`update acme_crm.${name} set size = size + 0, name = $1 where name = $1`, [row]);
    });
    if (how === "cancel") await db.query("select data.cancel_operation($1)", [(await last(name)).id]);
    else expect(await finish(name)).toMatchObject({ state: "done", error: null });
    expect(await count(name, "size = rank * 2")).toBe(RECORDS);
    expect((await indexes()).filter((x) => x.includes("size"))).toHaveLength(how === "cancel" ? 0 : 3);
    if (how === "finish")
      expect(await count(`${name}_jsonb`, "size is distinct from (data->>'rank')::int * 2")).toBe(0);
  },
);

test.each(["flat", "jsonb"])(
  "a reader and a writer run throughout, there and back: nothing is wrong, and nothing lost (%s)",
  async (storage) => {
    const name = `busy_${storage[0]}`;
    const fields = (level: object, more: object = {}) =>
      schema({ level, rank: integer, ...more }, { "x-storage": storage, required: ["level"] });
    const fax = { ...text, default: "none", "x-index": true };
    await make(name, fields(text, { fax }), "'level', (i % 10)::text, 'rank', 0");
    let running = true;
    // Where a view is made anew, a statement that has begun may not find it, once.
    const again = async <T>(work: () => Promise<T>): Promise<T> => {
      for (let tries = 0; ; tries++)
        try {
          return await work();
        } catch (error) {
          if (
            tries > 2 ||
            !["42P01", "0A000", "XX000", "42883", "42703"].includes((error as { code: string }).code)
          )
            throw error;
        }
    };
    const sums = new Map<string, number>();
    const clients = Promise.all([
      db.as("acme", "ann@acme.test", async (client) => {
        await client.query("set statement_timeout = '20s'");
        for (let n = 1; running; n++) {
          const row = `N${1 + ((n * 379) % RECORDS)}`;
          await again(() =>
            client.query(`update acme_crm.${name} set rank = rank + $2 where name = $1`, [row, n]),
          );
          sums.set(row, (sums.get(row) ?? 0) + n);
        }
      }),
      db.as("acme", "vic@acme.test", async (client) => {
        await client.query("set statement_timeout = '20s'");
        while (running) {
          const { rows } = await again(() =>
            client.query(
              `select count(*)::int as n from acme_crm.${name} where level::text = (substr(name, 2)::int % 10)::text`,
            ),
          );
          expect(rows).toEqual([{ n: RECORDS }]);
        }
      }),
    ]);
    try {
      await apply(await plan(name, fields({ ...integer, "x-index": true, maximum: 9 })));
      expect(await finish(name)).toMatchObject({ state: "done", error: null });
      const back = await one<Plan>("select data.plan_rollback($1, 1) as x", [`acme/crm/${name}`]);
      expect(back).toMatchObject({ rewrites: 0, locks: moment });
      await apply(back);
      expect(await finish(name)).toMatchObject({ state: "done", error: null });
    } finally {
      running = false;
    }
    await clients;
    expect(await count(name, "fax = 'none'")).toBe(RECORDS);
    const rows = await db.query<{ name: string; rank: string }>(
      `select name, rank from acme_crm.${name} where rank <> 0`,
    );
    expect(Object.fromEntries(rows.map((row) => [row.name, Number(row.rank)]))).toEqual(
      Object.fromEntries(sums),
    );
    expect(sums.size).toBeGreaterThan(5);
  },
);

test.each(["jsonb", "flat"])(
  "a name that lived on as an alias has its values when it is rolled back to (%s)",
  async (storage) => {
    const name = `alias_${storage[0]}`;
    const define = (properties: object) =>
      db.query("select data.define_entity('acme/crm', $1, $2)", [
        name,
        schema(properties, { "x-storage": storage }),
      ]);
    await define({ rank: integer });
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { rank: 5 }]);
    await define({
      place: { ...integer, "x-renamed-from": "rank" },
      rank: { ...integer, "x-alias": "place" },
    });
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, { rank: 6 }]);
    await db.query("select data.rollback($1, 1)", [`acme/crm/${name}`]);
    expect(await one(`select array_agg(rank::int order by rank) as x from acme_crm.${name}`)).toEqual([5, 6]);
    await db.query("select data.rollback($1, 2)", [`acme/crm/${name}`]);
    expect(await one(`select array_agg(place::int order by rank) as x from acme_crm.${name}`)).toEqual([
      5, 6,
    ]);
  },
);
