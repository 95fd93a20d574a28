import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// What an author was promised about indexes: said in the definition, the same in both storages, used under row-level
// security, kept over renames, gone when no longer asked for.

const text = { type: "string" };
const properties = {
  city: text,
  age: { type: "integer" },
  status: text,
  seen: { type: "string", format: "date-time" },
  note: text,
  tags: { type: "array", items: text },
};

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "ann@acme.test": "viewer" });
});
afterAll(() => db.drop());

const schema = (more: object, changed: object = {}) => ({
  type: "object",
  properties: { ...properties, doubled: { type: "integer", "x-computed": "age * 2" }, ...changed },
  ...more,
});
const define = (name: string, definition: object) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
const fill = async (name: string, count: number) => {
  await db.query(
    `select data.insert($1, (select jsonb_agg(jsonb_build_object('city', 'City ' || i % 10, 'age', i % 90, 'status', case when i % 50 = 0 then 'open' else 'done' end,
       'seen', '2026-01-01T00:00:00Z'::timestamptz + i * interval '1 minute', 'note', 'n' || i)) from generate_series(1, $2::int) i))`,
    [`acme/crm/${name}`, count],
  );
  await db.query(`analyze acme_crm.${name}_${name.endsWith("_f") ? "flat" : "jsonb"}`);
};
/** The indexes of an entity's fields: what stands behind ON … USING. */
const indexes = async (name: string) =>
  (
    await db.query<{ d: string }>(
      `select regexp_replace(indexdef, '^.* USING btree ', '') as d from pg_indexes where schemaname = 'acme_crm'
       and tablename ~ ('^' || $1 || '_(jsonb|flat)$') and indexname !~ '(pkey|created_at_idx)$' order by 1`,
      [name],
    )
  ).map(({ d }) => d);
/** The plan of a query, as the site's role makes it for a viewer, with its values as parameters. */
const planOf = (name: string, query: { filter?: object; sort?: object[] }, ...values: string[]) =>
  db.as("acme", "ann@acme.test", async (client) => {
    const { rows } = await client.query("select data.compile('crm', $1, 'find', $2)->>'sql' as sql", [
      name,
      query,
    ]);
    await client.query(`prepare q as ${rows[0].sql}`);
    const list = values.map((value) => `'${value}'`).join(", ");
    const plan = await client.query(`explain (costs off) execute q${values.length ? `(${list})` : ""}`);
    await client.query("deallocate q");
    return plan.rows.map((row) => row["QUERY PLAN"]).join("\n") as string;
  });
const param = (n: number) => ({ $param: n });

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const more = (indexes?: object[]) => ({
    "x-storage": storage,
    ...(indexes ? { "x-indexes": indexes } : {}),
  });

  test("single, compound and partial indexes serve a viewer's queries under row-level security", async () => {
    const e = `used_${storage[0]}`;
    await define(
      e,
      schema(
        more([
          { fields: ["city", "-age"] },
          { fields: ["-seen"], where: { status: { $in: ["open", "new"] }, age: { $gte: 0 } } },
        ]),
        { note: { ...text, "x-index": true } },
      ),
    );
    await fill(e, 5000);
    const single = await planOf(e, { filter: { note: param(1) } }, "n7");
    expect(single).toMatch(/Index (Only )?Scan.*note_idx/);
    const compound = await planOf(
      e,
      { filter: { city: param(1) }, sort: [{ field: "age", direction: "desc" }] },
      "City 7",
    );
    expect(compound).toMatch(/Index Scan using \w+_ix_/);
    expect(compound).not.toContain("Sort");
    const partial = await planOf(
      e,
      {
        filter: { status: param(1), age: { $gte: param(2) } },
        sort: [{ field: "seen", direction: "desc" }],
      },
      "open",
      "3",
    );
    expect(partial).toMatch(/Index Scan using \w+_ix_/);
    expect(partial).not.toContain("Sort");
    const other = await planOf(
      e,
      { filter: { status: param(1) }, sort: [{ field: "seen", direction: "desc" }] },
      "done",
    );
    expect(other).not.toContain("_ix_");
    const [{ n } = { n: 0 }] = await db.query<{ n: number }>(
      `select jsonb_array_length(data.find('acme/crm/${e}', '{"filter": {"status": "open", "age": {"$gte": 3}}, "sort": [{"field": "seen"}], "limit": 1000}')->'data') as n`,
    );
    expect(n).toBe(
      (
        await db.query<{ n: number }>(
          `select count(*)::int as n from acme_crm.${e} where status = 'open' and age >= 3`,
        )
      )[0]?.n,
    );
  });

  test("what was asked for is there, in the plan before, and goes when it is asked for no more", async () => {
    const e = `kept_${storage[0]}`;
    await define(e, schema(more()));
    await db.query("select data.insert($1, $2)", [`acme/crm/${e}`, { city: "Oslo", age: 7, status: "open" }]);
    expect(await indexes(e)).toEqual([]);
    const wanted = schema(more([{ fields: ["city", "-age"], where: { status: { $ne: "done" } } }]));
    const [{ p } = { p: { statements: [], plan: "", changes: [] } }] = await db.query<{
      p: { statements: string[]; plan: string; changes: { message: string; checks: boolean }[] };
    }>("select data.plan($1, $2) as p", [`acme/crm/${e}`, wanted]);
    expect(p.statements.at(-1)).toMatch(/^create index .*\(city, age desc, id desc\) where /);
    expect(p.changes).toMatchObject([{ message: expect.stringMatching(/^x-indexes is /), checks: false }]);
    await db.query("select data.apply($1)", [p.plan]);
    expect(await indexes(e)).toEqual([
      "(city, age DESC, id DESC) WHERE (status IS DISTINCT FROM 'done'::text)",
    ]);
    expect(await db.query(`select city, age from acme_crm.${e}`)).toEqual([{ city: "Oslo", age: "7" }]);
    await define(e, schema(more([{ fields: ["created_at", "city"] }])));
    expect(await indexes(e)).toEqual(["(created_at, city, id)"]);
    await define(e, schema(more()));
    expect(await indexes(e)).toEqual([]);
    await db.query("select data.rollback($1, 2)", [`acme/crm/${e}`]);
    expect(await indexes(e)).toHaveLength(1);
    expect(await db.query(`select city, age from acme_crm.${e}`)).toEqual([{ city: "Oslo", age: "7" }]);
  });

  test("renamed fields keep their index; it is not built again", async () => {
    const e = `moved_${storage[0]}`;
    await define(e, schema(more([{ fields: ["city", "-age"], where: { status: "open" } }])));
    await db.query("select data.insert($1, $2)", [`acme/crm/${e}`, { city: "Oslo", age: 7, status: "open" }]);
    const node = () =>
      db.query("select relfilenode from pg_class where relkind = 'i' and relname ~ $1 order by 1", [
        `^${e}.*_ix_`,
      ]);
    const before = await node();
    const { city, status, ...rest } = properties;
    await define(e, {
      type: "object",
      properties: {
        ...rest,
        town: { ...city, "x-renamed-from": "city" },
        state: { ...status, "x-renamed-from": "status" },
      },
      ...more([{ fields: ["town", "-age"], where: { state: "open" } }]),
    });
    expect(await indexes(e)).toEqual(["(town, age DESC, id DESC) WHERE (state = 'open'::text)"]);
    expect(await node()).toEqual(before);
    expect(await db.query(`select town, state from acme_crm.${e}`)).toEqual([
      { town: "Oslo", state: "open" },
    ]);
  });

  test("an index on a field whose type changes is built anew", async () => {
    const e = `typed_${storage[0]}`;
    await define(e, schema(more([{ fields: ["note"] }]), { note: text }));
    await db.query("select data.insert($1, $2)", [`acme/crm/${e}`, { note: "7" }]);
    const [{ p } = { p: "" }] = await db.query<{ p: string }>("select data.plan($1, $2)->>'plan' as p", [
      `acme/crm/${e}`,
      schema(more([{ fields: ["note"] }]), { note: { type: "integer" } }),
    ]);
    await db.query("select data.apply($1, true)", [p]);
    expect(await indexes(e)).toEqual(["(note, id)"]);
    expect(await db.query(`select note + 1 as n from acme_crm.${e}`)).toEqual([{ n: "8" }]);
  });
});

test("x-indexes go with a conversion of the storage", async () => {
  await define(
    "converted",
    schema({ "x-indexes": [{ fields: ["city", "age"], where: { status: "open" } }] }),
  );
  await db.query("select data.insert('acme/crm/converted', $1)", [{ city: "Oslo", age: 7, status: "open" }]);
  for (const storage of ["flat", "jsonb"]) {
    await db.query("select data.convert_storage('acme/crm/converted', $1)", [storage]);
    await db.query("call data.run_operations()");
    expect(await indexes("converted")).toEqual(["(city, age, id) WHERE (status = 'open'::text)"]);
    expect(await db.query("select city, age, status from acme_crm.converted where status = 'open'")).toEqual([
      { city: "Oslo", age: "7", status: "open" },
    ]);
  }
});

const deep = (levels: number): object => (levels === 0 ? { city: "x" } : { $not: deep(levels - 1) });
const refused: [string, unknown, RegExp][] = [
  ["is no list", "city", /is a list of at most 16/],
  ["is longer than 16", Array.from({ length: 17 }, () => ({ fields: ["city"] })), /at most 16/],
  ["holds something else", [7], /has fields, a list/],
  ["has no fields", [{ where: { city: "x" } }], /has fields, a list/],
  ["has other members", [{ fields: ["city"], using: "gin" }], /nothing else/],
  ["has an empty list of fields", [{ fields: [] }], /1 to 8 different fields/],
  ["has a field twice", [{ fields: ["city", "-city"] }], /different fields/],
  ["has a field that is no text", [{ fields: [1] }], /different fields/],
  ["names an unknown field", [{ fields: ["nobody"] }], /nobody is no property/],
  ["names a list", [{ fields: ["tags"] }], /tags is no property that can be indexed/],
  ["names an index twice", [{ fields: ["city"] }, { fields: ["city"] }], /twice/],
  ["names what is computed when it is read", [{ fields: ["doubled"] }], /doubled is no property.*stored/],
  ["filters by an unknown field", [{ fields: ["city"], where: { nobody: 1 } }], /nobody is no property/],
  ["filters across a relation", [{ fields: ["city"], where: { "company.city": "x" } }], /no property/],
  ["depends on who asks", [{ fields: ["city"], where: { city: "$account.id" } }], /for everybody/],
  ["has an unknown operator", [{ fields: ["city"], where: { city: { $where: "1" } } }], /not an operator/],
  [
    "compares with what a field cannot be",
    [{ fields: ["city"], where: { age: { $gt: "x" } } }],
    /cannot have/,
  ],
  ["has a filter that is nested too deeply", [{ fields: ["city"], where: deep(12) }], /too deeply/],
  [
    "has an endless filter",
    [{ fields: ["city"], where: { city: "x".repeat(1_000_000) } }],
    /4,000 characters/,
  ],
  ["has an empty filter", [{ fields: ["city"], where: {} }], /is a filter/],
];
test.each(refused)("a definition whose x-indexes %s is refused", async (_what, value, message) => {
  const failure = await refusal(define("refused", schema({ "x-indexes": value })));
  expect(failure).toMatchObject({ code: "RH400", message: expect.stringMatching(message) });
});

test("what a plan refuses it refuses as the definition does", async () => {
  await define("planned", schema({}));
  const failure = await refusal(
    db.query("select data.plan('acme/crm/planned', $1)", [
      schema({ "x-indexes": [{ fields: ["city"], where: { age: { $gt: "x" } } }] }),
    ]),
  );
  expect(failure).toMatchObject({ code: "RH400", message: expect.stringMatching(/cannot have/) });
});

test("hostile values in a filter stay values, hostile names stay names", async () => {
  const values = ["'; drop table data.entities; --", "$body$", "%1$I %s", "\\'", 'a"b', "$$", "é\u202e"];
  await define(
    "hostile",
    schema({ "x-indexes": values.map((value) => ({ fields: ["age"], where: { city: value } })) }),
  );
  expect(await indexes("hostile")).toHaveLength(values.length);
  for (const name of [
    'city") ; drop table data.entities; --',
    "city desc",
    "a'",
    "%1$I",
    "-",
    "--city",
    "",
  ]) {
    const failure = await refusal(define("hostile", schema({ "x-indexes": [{ fields: [name] }] })));
    expect(failure.code).toBe("RH400");
  }
});

test("every statement of the guide does what the guide says", async () => {
  const guide = readFileSync(fileURLToPath(new URL("../docs/indexes.md", import.meta.url)), "utf8");
  const outcomes: Record<string, unknown>[][] = [];
  for (const [, block] of guide.matchAll(/```sql\n([\s\S]*?)```/g)) {
    for (const statement of (block as string).split(/;\n/).filter((s) => s.trim())) {
      outcomes.push(await db.query(statement));
    }
  }
  expect(await indexes("orders")).toEqual([
    "(city, created_at, id)",
    "(city, total DESC, id DESC)",
    "(created_at, id) WHERE ((status = 'open'::text) OR (status = 'new'::text))",
    "(note, created_at, id)",
    "(number)",
  ]);
  expect(outcomes[5]?.at(-1)).toMatchObject({ kind: "build_index", state: "waiting", records_done: "0" });
  expect(outcomes[7]).toEqual([
    { summary: "reads at most 21 of 18,000 records through the index on city, total" },
  ]);
  expect(outcomes[8]?.[0]?.summary).toMatch(/^reads 18,000 of 18,000 records.*: no index on status/);
  expect(JSON.stringify(outcomes[9])).toContain('{"properties":{"status":{"x-index":true}}}');
  expect(outcomes[10]?.length).toBeGreaterThan(0);
});
