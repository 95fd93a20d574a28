import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGraphql } from "./harness/graphql.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm.stop());

type Row = Record<string, unknown> & { id: string; version: number };
const decimal = { type: "number", format: "decimal" };
const define = (name: string, properties: object, more: object = {}) =>
  crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", properties, ...more },
  ]);
const insert = async (name: string, record: unknown): Promise<Row> =>
  (
    await crm.db.query<{ r: Row }>("select data.insert($1, $2) as r", [
      `acme/crm/${name}`,
      JSON.stringify(record),
    ])
  )[0]?.r as Row;
const rows = async (query: string) => {
  const answer = await crm.send(`${base}/${query}`);
  expect([answer.status, answer.text]).toEqual([200, expect.any(String)]);
  return answer.json.data as unknown as Record<string, unknown>[];
};

const lines = {
  item: { type: "string" },
  price: { ...decimal, precision: 12, scale: 2 },
  quantity: { type: "integer" },
  total: { ...decimal, "x-computed": "price * quantity" },
  gross: { ...decimal, "x-computed": { expression: "round(total * 1.25, 2)" } },
  slug: { type: "string", "x-computed": { expression: "lower(replace(item, ' ', '-'))", stored: true } },
  code: { type: "string", "x-unique": true, "x-computed": "upper(slug) || '-' || quantity" },
  big: { type: "boolean", "x-computed": "gross > 100" },
  due: { type: "string", format: "date", "x-computed": "date_add(paid_at, 14, 'days')" },
  paid_at: { type: "string", format: "date" },
  days_old: { type: "integer", "x-computed": "date_diff(now(), created_at, 'days')" },
};

describe.each([
  ["jsonb", "line"],
  ["flat", "flatline"],
])("computed fields, virtual and stored, in %s storage", (storage, one) => {
  const many = `${one}s`;
  const type = one[0]?.toUpperCase() + one.slice(1);
  const record = { item: "Red Tea", price: 12.5, quantity: 10, paid_at: "2026-02-20" };
  const computed = {
    total: 125,
    gross: 156.25,
    slug: "red-tea",
    code: "RED-TEA-10",
    big: true,
    due: "2026-03-06",
    days_old: 0,
  };
  let id: string;
  beforeAll(async () => {
    await define(many, lines, { "x-storage": storage });
    const answer = await crm.send(`${base}/${many}`, { method: "POST", body: record });
    expect(answer.json).toMatchObject({ ...record, ...computed });
    id = answer.json.id;
    await insert(many, { item: "Salt", price: 1, quantity: 1 });
  });

  test("are read by id, in lists, selected, filtered, sorted, paged, counted and exported", async () => {
    expect((await crm.send(`${base}/${many}/${id}`)).json).toMatchObject(computed);
    const filter = encodeURIComponent('{"big": true, "total": {"$gte": 125}, "slug": {"$like": "red%"}}');
    expect(await rows(`${many}?filter=${filter}&select=item,gross,code`)).toEqual([
      { item: "Red Tea", gross: 156.25, code: "RED-TEA-10" },
    ]);
    const first = await crm.send(`${base}/${many}?sort=-total&limit=1&count=exact`);
    expect(first.json).toMatchObject({ data: [{ item: "Red Tea" }], meta: { count: 2 } });
    const cursor = first.json.meta.next_cursor;
    expect(await rows(`${many}?sort=-total&limit=1&cursor=${cursor}`)).toMatchObject([{ item: "Salt" }]);
    const csv = await crm.send(`${base}/${many}/export?format=csv&select=item,total,due&sort=item`);
    expect(csv.text).toBe("item,total,due\r\nRed Tea,125.00,2026-03-06\r\nSalt,1.00,\r\n");
    const [sql] = await crm.db.as("acme", "vic@acme.test", async (client) => {
      const { rows } = await client.query(`select total, code, big from acme_crm.${many} where total > 2`);
      return rows;
    });
    expect(sql).toEqual({ total: "125.00", code: "RED-TEA-10", big: true });
  });

  test("follow every write, and what is sent for them is ignored, so that a record that was read can be put", async () => {
    const read = (await crm.send(`${base}/${many}/${id}`)).json;
    const { created_at: _c, updated_at: _u, created_by: _b, ...body } = read as unknown as Row;
    const put = await crm.send(`${base}/${many}/${id}`, {
      method: "PUT",
      body: { ...body, quantity: 2, total: 9 },
    });
    expect([put.status, put.json]).toEqual([
      200,
      expect.objectContaining({ quantity: 2, total: 25, gross: 31.25, big: false, code: "RED-TEA-2" }),
    ]);
    const patch = await crm.send(`${base}/${many}/${id}`, {
      method: "PATCH",
      body: { item: "Blue Tea", slug: "mine", code: "stolen", big: "nonsense" },
    });
    expect(patch.json).toMatchObject({ slug: "blue-tea", code: "BLUE-TEA-2", big: false });
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query(`update acme_crm.${many} set quantity = 3, total = 1, code = 'x' where id = $1`, [
        id,
      ]);
      await client.query(`insert into acme_crm.${many} (item, slug, total) values ('From SQL', 'x', 5)`);
      const { rows } = await client.query(
        `select slug, total, code from acme_crm.${many} where item = 'From SQL' or id = $1 order by slug`,
        [id],
      );
      expect(rows).toEqual([
        { slug: "blue-tea", total: "37.50", code: "BLUE-TEA-3" },
        { slug: "from-sql", total: null, code: null },
      ]);
    });
    const [stored] = await crm.db.query(
      `select coalesce(t.data, to_jsonb(t)) ? 'total' as v, coalesce(t.data, to_jsonb(t))->>'slug' as s from acme_crm.${many}_${storage} t where id = $1`,
      [id],
    );
    expect(stored).toEqual({ v: false, s: "blue-tea" });
  });

  test("batches, upserts and imports of what was exported", async () => {
    const list = await crm.send(`${base}/${many}`, {
      method: "POST",
      body: [
        { item: "Batch", quantity: 1, price: 2, total: 7 },
        { item: "Batch", quantity: 2 },
      ],
    });
    expect(list.json).toMatchObject([
      { code: "BATCH-1", total: 2 },
      { code: "BATCH-2", total: null },
    ]);
    const again = { item: "Batch", quantity: 1, code: "BATCH-1" };
    const upsert = async (record: object) =>
      (
        await crm.db.query<{ r: object }>(
          `select data.upsert('acme/crm/${many}', $1, '{code}')->'meta' as r`,
          [JSON.stringify([record])],
        )
      )[0]?.r;
    expect(await upsert({ ...again, total: 99 })).toEqual({ inserted: 0, updated: 0, unchanged: 1 });
    expect(await upsert({ ...again, price: 3 })).toEqual({ inserted: 0, updated: 1, unchanged: 0 });
    const ndjson = (await crm.send(`${base}/${many}/export?format=ndjson`)).text;
    const imported = await crm.send(`${base}/${many}/import`, {
      method: "POST",
      headers: { "content-type": "application/x-ndjson" },
      body: ndjson,
    });
    expect(imported.json).toMatchObject({ inserted: 0, updated: 0, skipped: 0 });
  });

  test("a stored one may be unique, which names it, and keeps its index under row-level security", async () => {
    const taken = await crm.send(`${base}/${many}`, { method: "POST", body: { item: "salt", quantity: 1 } });
    expect(taken.json).toMatchObject({ status: 409, errors: [{ pointer: "/code" }] });
    await crm.db.query(
      `select data.insert('acme/crm/${many}', (select jsonb_agg(jsonb_build_object('item', 'n' || i, 'quantity', i)) from generate_series(1, 3000) i))`,
    );
    await crm.db.query(`analyze acme_crm.${many}_${storage}`);
    const plan = await crm.db.as("acme", "vic@acme.test", async (client) => {
      const { rows } = await client.query(`explain select * from acme_crm.${many} where code = 'N77-77'`);
      return rows.map((row) => row["QUERY PLAN"]).join("\n");
    });
    expect(plan).toContain(storage === "flat" ? `${many}_flat_code_key` : `${many}_code_key`);
    await crm.db.query(`delete from acme_crm.${many} where item like 'n%'`);
  });

  test("OpenAPI marks them readOnly, TypeScript readonly, and neither takes them in writes", async () => {
    const { components } = (await crm.send(`${base}/openapi.json`)).json as unknown as {
      components: { schemas: Record<string, { properties: Record<string, { readOnly?: boolean }> }> };
    };
    expect(components.schemas[many]?.properties.total).toMatchObject({ readOnly: true });
    for (const write of [`${many}.insert`, `${many}.update`]) {
      expect(components.schemas[write]?.properties).toHaveProperty("price");
      expect(components.schemas[write]?.properties).not.toHaveProperty("total");
    }
    const [types] = await crm.db.query<{ t: string }>("select data.typescript_types('acme/crm') as t");
    expect(types?.t).toContain("  readonly total: number | null;\n");
    expect(types?.t).toContain("  readonly slug: string | null;\n");
    expect(types?.t).not.toMatch(/^ {6}total/m);
  });

  test("GraphQL reads, filters and sorts them, and does not take them", async () => {
    const graphql = await startGraphql(crm.db);
    try {
      const ask = (query: string) => graphql.ask("acme/crm", "ann@acme.test", query);
      const created = await ask(
        `mutation { create${type}(input: { ${one}: { item: "Graph", price: "2.50", quantity: 2 } }) { ${one} { id total code big gross } } }`,
      );
      expect(created.errors).toEqual([]);
      const line = created.data[`create${type}`][one];
      expect(line).toMatchObject({ total: "5.00", code: "GRAPH-2", big: false, gross: "6.25" });
      const updated = await ask(
        `mutation { update${type}(input: { id: "${line.id}", patch: { quantity: 3 } }) { ${one} { total code } } }`,
      );
      expect(updated.data[`update${type}`][one]).toEqual({ total: "7.50", code: "GRAPH-3" });
      const found = await ask(
        `{ ${many}(filter: { total: { equalTo: "7.5" } }, orderBy: TOTAL_DESC) { nodes { item daysOld due } } ${one}ByCode(code: "GRAPH-3") { item } }`,
      );
      expect(found.data).toEqual({
        [many]: { nodes: [{ item: "Graph", daysOld: "0", due: null }] },
        [`${one}ByCode`]: { item: "Graph" },
      });
      for (const bad of [
        `mutation { create${type}(input: { ${one}: { item: "x", total: 1 } }) { ${one} { id } } }`,
        `mutation { update${type}(input: { id: "${line.id}", patch: { code: "x" } }) { ${one} { id } } }`,
      ])
        expect((await ask(bad)).errors[0]?.message).toMatch(/is not defined by type/);
      const overflow = await ask(
        `mutation { create${type}(input: { ${one}: { item: "salt", quantity: 1 } }) { ${one} { id } } }`,
      );
      expect(overflow.errors[0]?.extensions).toMatchObject({ status: 409, errors: [{ pointer: "/code" }] });
    } finally {
      await graphql.stop();
    }
  });

  test("nobody but members sees them, and their functions are not callable from another site", async () => {
    for (const call of [`select * from acme_crm.${many}`, `select acme_crm.${many}_computed('{}')`]) {
      const failure = await refusal(crm.db.as("beta", "bob@beta.test", (client) => client.query(call)));
      expect(failure.code).toBe("42501");
    }
  });
});

describe("what cannot be computed", () => {
  const cases: [string, object, object, string][] = [
    [
      "an integer beyond 64 bits",
      { n: { type: "integer", "x-computed": "a * a" } },
      { a: "9223372036854775807" },
      "/n",
    ],
    [
      "a stored integer beyond 64 bits",
      { n: { type: "integer", "x-computed": { expression: "a * a", stored: true } } },
      { a: "9223372036854775807" },
      "/n",
    ],
    ["a number beyond floats", { n: { type: "number", "x-computed": "f * 10" } }, { f: "1.7e308" }, "/n"],
    [
      "a stored number beyond floats",
      { n: { type: "number", "x-index": true, "x-computed": "-f * 10" } },
      { f: "1.7e308" },
      "/n",
    ],
    [
      "a text of more than a million characters",
      { t: { type: "string", "x-computed": "s || s" } },
      { s: `"${"x".repeat(600_000)}"` },
      "/t",
    ],
    [
      "a stored value that its own rules refuse",
      { n: { type: "integer", maximum: 10, "x-computed": { expression: "a + 1", stored: true } } },
      { a: "10" },
      "/n",
    ],
  ];
  const inputs = { a: { type: "integer" }, f: { type: "number" }, s: { type: "string" } };
  test.each(cases)(
    "%s is a 422 at the field, alone and in a list",
    async (title, properties, record, pointer) => {
      const name = title
        .replace(/[^a-z]+/gi, "_")
        .replace(/_+$/, "")
        .toLowerCase()
        .slice(0, 40)
        .replace(/_$/, "");
      await define(name, { ...inputs, ...properties });
      const text = `{${Object.entries(record).map(([key, value]) => `"${key}": ${value}`)}}`;
      const failure = await refusal(
        crm.db.query("select data.insert($1, $2::jsonb)", [`acme/crm/${name}`, text]),
      );
      expect(failure).toMatchObject({ code: "RH422", detail: { errors: [{ pointer }] } });
      const list = await refusal(
        crm.db.query("select data.insert($1, $2::jsonb)", [`acme/crm/${name}`, `[{}, ${text}]`]),
      );
      expect(list).toMatchObject({ code: "RH422", detail: { errors: [{ pointer: `/1${pointer}` }] } });
      if (text.length < 1000)
        expect(await crm.send(`${base}/${name}`, { method: "POST", body: text })).toMatchObject({
          status: 422,
        });
      expect(await rows(name)).toEqual([]);
      expect(await insert(name, {})).toMatchObject({ version: 1 });
    },
  );

  test("division by zero is null; a wrong input is named itself, and not what is computed of it", async () => {
    await define("ratios", {
      a: { type: "integer" },
      b: { type: "integer" },
      r: { ...decimal, "x-computed": "a / b" },
      s: { ...decimal, "x-computed": { expression: "a % b", stored: true } },
    });
    expect(await insert("ratios", { a: 1, b: 0 })).toMatchObject({ r: null, s: null });
    const failure = await refusal(insert("ratios", { a: "x", b: 1 }));
    expect(failure.detail.errors).toEqual([{ pointer: "/a", message: "must be a number" }]);
  });

  test("lists of changes and upserts name the record in which it is", async () => {
    await define("capped", {
      key: { type: "string", "x-unique": true },
      a: { type: "integer" },
      n: { type: "integer", maximum: 10, "x-computed": { expression: "a + 1", stored: true } },
    });
    const [one, two] = (await insert("capped", [
      { key: "one", a: 1 },
      { key: "two", a: 2 },
    ])) as unknown as Row[];
    const errors = [{ pointer: "/1/n", message: "must be at most 10" }];
    const changes = [
      { id: one?.id, a: 3 },
      { id: two?.id, a: 10 },
    ];
    const listed = await refusal(
      crm.db.query("select data.update_list('acme/crm/capped', $1)", [JSON.stringify(changes)]),
    );
    expect(listed).toMatchObject({ code: "RH422", detail: { errors } });
    const upserts = [
      { key: "one", a: 3 },
      { key: "two", a: 10, n: 1 },
    ];
    const upserted = await refusal(
      crm.db.query("select data.upsert('acme/crm/capped', $1, '{key}')", [JSON.stringify(upserts)]),
    );
    expect(upserted).toMatchObject({ code: "RH422", detail: { errors } });
    expect(await rows("capped?sort=key&select=a,n")).toEqual([
      { a: 1, n: 2 },
      { a: 2, n: 3 },
    ]);
  });

  test("a default stands for null before anything is computed from it", async () => {
    await define("defaulted", {
      a: { type: "integer", default: 5 },
      n: { type: "integer", "x-computed": { expression: "a + 1", stored: true } },
    });
    expect(await insert("defaulted", [{}, { a: null }, { a: 1 }])).toMatchObject([
      { n: 6 },
      { n: 6 },
      { n: 2 },
    ]);
  });

  test("what a foreign key unset is computed again", async () => {
    for (const storage of ["jsonb", "flat"]) {
      const name = `offices_${storage}s`;
      await define(
        name,
        {
          parent_id: { "x-relation": { entity: "companies", onDelete: "set null" } },
          kind: {
            type: "string",
            "x-computed": { expression: "if(parent_id is null, 'head', 'branch')", stored: true },
          },
        },
        { "x-storage": storage },
      );
      const company = await insert("companies", { name: `Gone ${storage}` });
      expect(await insert(name, { parent_id: company.id })).toMatchObject({ kind: "branch" });
      await crm.db.query("delete from acme_crm.companies where id = $1", [company.id]);
      expect(await rows(`${name}?select=kind,version`)).toEqual([{ kind: "head", version: 2 }]);
    }
  });

  test("a day that passes makes no list fail: what is read is null beyond its range", async () => {
    await define("clocks", {
      n: { type: "integer" },
      day: { type: "string", format: "date", "x-computed": "date_add(today(), n, 'days')" },
      huge: { type: "integer", "x-computed": "year(today()) * n" },
    });
    const { id } = await insert("clocks", { n: 1 });
    await crm.db.query("alter table acme_crm.clocks_jsonb disable trigger user");
    await crm.db.query("update acme_crm.clocks_jsonb set data = '{\"n\": 9223372036854775807}'");
    expect((await crm.send(`${base}/clocks/${id}`)).json).toMatchObject({ day: null, huge: null });
    await crm.db.query("alter table acme_crm.clocks_jsonb enable trigger user");
  });
});

describe.each(["jsonb", "flat"])("redefining in %s storage", (storage) => {
  const define = (name: string, properties: object) =>
    crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      `${name}_${storage[0]}`,
      { type: "object", properties, "x-storage": storage },
    ]);
  const insertInto = (name: string, record: unknown) => insert(`${name}_${storage[0]}`, record);
  const read = (name: string, query: string) => rows(`${name}_${storage[0]}?${query}`);
  const stamps = (name: string) =>
    crm.db.query(
      `select version, updated_at = created_at as untouched from acme_crm.${name}_${storage[0]} limit 1`,
    );
  const stored = (expression: string) => ({
    a: { type: "integer" },
    b: { type: "integer" },
    n: { type: "integer", "x-computed": { expression, stored: true } },
  });

  test("a stored field that is added or changed fills existing records, which keep version and stamps", async () => {
    await define("filled", { a: { type: "integer" }, b: { type: "integer" } });
    await insertInto("filled", [
      { a: 1, b: 2 },
      { a: 2, b: 1 },
    ]);
    await define("filled", stored("a + 10"));
    expect(await read("filled", "sort=n&select=n")).toEqual([{ n: 11 }, { n: 12 }]);
    expect(await stamps("filled")).toEqual([{ version: 1, untouched: true }]);
    await define("filled", { ...stored("b + 10"), n: { ...stored("b + 10").n, "x-unique": true } });
    await define("filled", { ...stored("a + 10"), n: { ...stored("a + 10").n, "x-unique": true } });
    expect(await read("filled", "sort=n&select=n,a")).toEqual([
      { n: 11, a: 1 },
      { n: 12, a: 2 },
    ]);
    expect(await stamps("filled")).toEqual([{ version: 1, untouched: true }]);
  });

  test("virtual, stored, indexed, of another type and gone: nothing stale is left", async () => {
    await define("moving", stored("a + 1"));
    const { id } = await insertInto("moving", { a: 1 });
    const get = async () =>
      (await crm.send(`${base}/moving_${storage[0]}/${id}`)).json as Record<string, unknown>;
    await define("moving", { ...stored(""), n: { type: "integer", "x-computed": "a + 2" } });
    expect(await get()).toMatchObject({ n: 3 });
    await define("moving", { ...stored(""), n: { type: "integer", "x-index": true, "x-computed": "a + 3" } });
    expect(await get()).toMatchObject({ n: 4 });
    await define("moving", {
      ...stored(""),
      n: { type: "string", "x-index": true, "x-computed": "'n' || a" },
    });
    expect(await get()).toMatchObject({ n: "n1" });
    await define("moving", { a: { type: "integer" }, b: { type: "integer" } });
    expect(await get()).not.toHaveProperty("n");
    expect(
      (await crm.send(`${base}/moving_${storage[0]}`, { method: "POST", body: { a: 5, n: 1 } })).status,
    ).toBe(422);
  });

  test("what clients wrote is not computed over, and what does not fit is named", async () => {
    await define("written", { a: { type: "integer" }, n: { type: "integer" } });
    await insertInto("written", { a: 1, n: 5 });
    const loss = await refusal(
      define("written", { a: { type: "integer" }, n: { type: "integer", "x-computed": "a" } }),
    );
    expect(loss).toMatchObject({
      code: "RH409",
      detail: { code: "would_lose_data", errors: [{ pointer: "/properties/n" }] },
    });
    const misfit = await refusal(
      define("written", {
        a: { type: "integer" },
        n: { type: "integer" },
        m: { type: "integer", minimum: 100, "x-computed": { expression: "a + n", stored: true } },
      }),
    );
    expect(misfit).toMatchObject({
      code: "RH409",
      detail: { code: "records_do_not_fit", errors: [{ pointer: "/m" }] },
    });
    expect(await read("written", "select=a,n")).toEqual([{ a: 1, n: 5 }]);
  });

  test("a property that was indexed, was not, and is again shows no old value", async () => {
    const indexed = { a: { type: "string", "x-index": true } };
    await define("again", indexed);
    const { id } = await insertInto("again", { a: "old" });
    await define("again", { a: { type: "string" } });
    await crm.send(`${base}/again_${storage[0]}/${id}`, { method: "PATCH", body: { a: "new" } });
    await define("again", indexed);
    expect(await read("again", "select=a")).toEqual([{ a: "new" }]);
  });

  test("a plan says what it does to computed fields, and going back brings back what clients wrote", async () => {
    const path = `acme/crm/planned_${storage[0]}`;
    const plain = { a: { type: "integer" }, n: { type: "integer" } };
    const schema = (n: object) => ({ type: "object", "x-storage": storage, properties: { ...plain, n } });
    await define("planned", plain);
    await insertInto("planned", { a: 1, n: 5 });
    const plan = async (n: object) =>
      (
        await crm.db.query<{ p: Record<string, unknown> }>("select data.plan($1, $2) as p", [path, schema(n)])
      )[0]?.p as { plan: string; loses_data: boolean; offenders: object[]; statements: string[] };
    const tight = await plan({
      type: "integer",
      maximum: 1,
      "x-computed": { expression: "a + 1", stored: true },
    });
    expect(tight).toMatchObject({ loses_data: true, offenders: [{ pointer: "/n" }] });
    const good = await plan({ type: "integer", "x-computed": { expression: "a + 1", stored: true } });
    expect(good).toMatchObject({ loses_data: true, offenders: [] });
    expect(good.statements.join()).toContain("_computed");
    expect((await refusal(crm.db.query("select data.apply($1)", [good.plan]))).detail.code).toBe(
      "would_lose_data",
    );
    await crm.db.query("select data.apply($1, true)", [good.plan]);
    expect(await read("planned", "select=a,n")).toEqual([{ a: 1, n: 2 }]);
    await crm.db.query("select data.rollback($1, 1)", [path]);
    expect(await read("planned", "select=a,n")).toEqual([{ a: 1, n: 2 }]);
    await insertInto("planned", { a: 3, n: 9 });
  });

  test("renamed inputs, converted inputs and the other storage leave them right", async () => {
    const upper = (input: string) => ({
      v: { type: "string", "x-computed": `upper(${input})` },
      s: { type: "string", "x-unique": true, "x-computed": `lower(${input}) || '!'` },
    });
    await define("moved", { t: { type: "integer" }, ...upper("to_text(t)") });
    await insertInto("moved", [{ t: 1 }, { t: 2 }]);
    const name = `moved_${storage[0]}`;
    const renamed = { type: "object", "x-storage": storage };
    const plan = async (schema: object) =>
      crm.db.query("select (data.apply((data.plan($1, $2)->>'plan')::uuid, true)).version", [
        `acme/crm/${name}`,
        schema,
      ]);
    await plan({
      ...renamed,
      properties: { u: { type: "integer", "x-renamed-from": "t" }, ...upper("to_text(u)") },
    });
    expect(await read("moved", "select=u,v,s&sort=s")).toEqual([
      { u: 1, v: "1", s: "1!" },
      { u: 2, v: "2", s: "2!" },
    ]);
    await plan({ ...renamed, properties: { u: { type: "string" }, ...upper("('x' || u)") } });
    expect(await read("moved", "select=u,v,s&sort=s")).toEqual([
      { u: "1", v: "X1", s: "x1!" },
      { u: "2", v: "X2", s: "x2!" },
    ]);
    await crm.db.query("select data.convert_storage($1, $2)", [
      `acme/crm/${name}`,
      storage === "flat" ? "jsonb" : "flat",
    ]);
    await crm.db.query("call data.run_operations()");
    expect(await read("moved", "select=u,v,s&sort=-s")).toMatchObject([{ v: "X2", s: "x2!" }, { v: "X1" }]);
    const taken = await crm.send(`${base}/${name}`, { method: "POST", body: { u: "1" } });
    expect(taken.json).toMatchObject({ status: 409, errors: [{ pointer: "/s" }] });
    expect(await insertInto("moved", { u: "New" })).toMatchObject({ v: "XNEW", s: "xnew!" });
  });
});

describe("a wrong definition is RH400, by JSON pointer", () => {
  const at = "/properties/c/x-computed";
  const int = { type: "integer" };
  const cases: [string, object, string, RegExp?, object?][] = [
    ["no expression", { c: { ...int, "x-computed": 5 } }, at],
    ["an unknown member", { c: { ...int, "x-computed": { expression: "1", cached: true } } }, at],
    ["stored that is no boolean", { c: { ...int, "x-computed": { expression: "1", stored: "yes" } } }, at],
    ["a typing error", { c: { ...int, "x-computed": "a +" } }, at, /position 4/],
    [
      "a typing error within an object",
      { c: { ...int, "x-computed": { expression: "a +" } } },
      `${at}/expression`,
    ],
    ["an unknown field", { c: { ...int, "x-computed": "d" } }, at, /'d' is not a field/],
    ["itself", { c: { ...int, "x-computed": "c + 1" } }, at, /refers to itself: c → c/],
    [
      "a cycle",
      {
        c: { ...int, "x-computed": "e" },
        d: { ...int, "x-computed": "c" },
        e: { ...int, "x-computed": "d" },
      },
      at,
      /c → e → d → c/,
    ],
    [
      "text for an integer",
      { c: { ...int, "x-computed": "'x'" } },
      at,
      /this is text, and the field is an integer/,
    ],
    ["a fraction for an integer", { c: { ...int, "x-computed": "a / 2" } }, at, /the field is an integer/],
    ["a list", { c: { type: "array", "x-computed": "a" } }, at],
    ["a default", { c: { ...int, default: 1, "x-computed": "a" } }, at],
    ["required", { c: { ...int, "x-computed": "a" } }, "/required", /is computed/, { required: ["c"] }],
    [
      "a limit that nobody would check",
      { c: { ...int, maximum: 3, "x-computed": "a" } },
      "/properties/c",
      /stored/,
    ],
    [
      "stored and now()",
      { c: { type: "string", format: "date-time", "x-index": true, "x-computed": "now()" } },
      at,
      /only virtual/,
    ],
    [
      "stored by way of a virtual one with today()",
      {
        v: { type: "string", format: "date", "x-computed": "today()" },
        c: { type: "string", format: "date", "x-computed": { expression: "v", stored: true } },
      },
      `${at}/expression`,
      /only virtual/,
    ],
    [
      "stored and a system column",
      { c: { ...int, "x-index": true, "x-computed": "version + 1" } },
      at,
      /not known before/,
    ],
    [
      "indexed and not stored",
      { c: { ...int, "x-index": true, "x-computed": { expression: "a", stored: false } } },
      `${at}/stored`,
    ],
    [
      "inside an object",
      { o: { type: "object", properties: { c: { ...int, "x-computed": "1" } } } },
      "/properties/o/properties/c/x-computed",
    ],
    ["1 MB", { c: { ...int, "x-computed": "1".repeat(1e6) } }, at, /4,000/],
    ["SQL", { c: { ...int, "x-computed": "a); drop table auth.accounts; --" } }, at],
    ["a function of PostgreSQL", { c: { ...int, "x-computed": "pg_sleep(5)" } }, at, /not a function/],
    [
      "a setting",
      { c: { type: "string", "x-computed": "current_setting('rowhouse.account')" } },
      at,
      /not a function/,
    ],
    [
      "a billion laughs",
      Object.fromEntries(
        Array.from({ length: 9 }, (_, n) => [
          n === 8 ? "c" : `l${n}`,
          {
            ...decimal,
            "x-computed":
              n === 0
                ? "a"
                : Array(20)
                    .fill(`l${n - 1}`)
                    .join("+"),
          },
        ]),
      ),
      "",
      /too long/,
    ],
  ];
  test.each(cases)("%s", async (_title, properties, pointer, message = /./, more = {}) => {
    const failure = await refusal(define("wrong", { a: int, ...properties }, more));
    expect(failure).toMatchObject({ code: "RH400", detail: { code: "invalid_schema" } });
    if (pointer) expect(failure.detail.errors?.map((e) => e.pointer)).toContain(pointer);
    expect(failure.message).toMatch(message);
    expect(failure.message.length).toBeLessThan(2000);
  });

  test("the field's name, its texts and its description are never SQL", async () => {
    const hostile = `$body$ %1$s '; drop table auth.accounts; -- " \\`;
    await define("hostile", {
      a: { type: "string" },
      v: { type: "string", description: hostile, "x-computed": `a || '${hostile.replaceAll("'", "''")}'` },
      s: { type: "string", "x-unique": true, "x-computed": `'${hostile.replaceAll("'", "''")}' || a` },
    });
    expect(await insert("hostile", { a: hostile })).toMatchObject({
      v: hostile + hostile,
      s: hostile + hostile,
    });
  });
});
