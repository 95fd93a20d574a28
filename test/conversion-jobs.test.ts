import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";
import { operations } from "./harness/operations.ts";

// A property of an entity with many records gets another type, or comes back, while clients go on.

type Plan = {
  plan: string;
  deferred: string[];
  statements: string[];
  rewrites: number;
  locks: { message: string }[];
};

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
const { last, finish, cancelAll } = operations(() => db);
afterEach(() => cancelAll());

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
    const file = async () =>
      (await client.query("select pg_relation_filenode($1) as f", [table])).rows[0].f as number;
    const before = await file();
    await client.query(sql, values);
    const { rows } = await client.query(
      "select coalesce(sum(n_tup_upd + n_tup_ins + n_tup_del), 0)::int as n from pg_stat_xact_all_tables where relid = to_regclass($1)",
      [table],
    );
    const after = await file();
    await client.query("commit");
    return { records: rows[0].n as number, rewritten: before !== after };
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
      if (at === "copy")
        await db.as("acme", "ann@acme.test", async (client) => {
          await client.query("set lock_timeout = '2s'");
          await clients(client as never, `N${((batch++ + 3) % 5) * 2000 + 100}`);
        });
    } finally {
      await worker.query("commit");
      worker.release();
    }
  }
  expect((await last(name)).error).toBeNull();
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
        ).toEqual(["price"]);
      }
    },
  );
});
