import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { importInto, inferFile } from "../server/cli/import.ts";
import type { Inferred } from "../server/import/infer.ts";
import { KeySet } from "../server/import/keys.ts";
import type { Encoding } from "../server/import/lines.ts";
import { entityNames, propertyNames, snakeCase } from "../server/import/names.ts";
import { rawNumber } from "../server/import/read.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

let db: TestDatabase;
let dir: string;
let client: pg.Client;
const silenced = console.error;

beforeAll(async () => {
  db = await cloneDatabase();
  dir = mkdtempSync(join(tmpdir(), "rowhouse-import-"));
  client = new pg.Client({ connectionString: db.operatorUrl });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await db.drop();
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(() => {
  console.error = () => {};
});
afterEach(() => {
  console.error = silenced;
});

function file(name: string, content: unknown): string {
  const path = join(dir, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}
const load = async (app: string, path: string, options = {}) =>
  importInto(client, app, await inferFile(path, options));
const property = (inferred: Inferred[], entity: string, name: string) =>
  inferred.find((one) => one.entity === entity)?.definition.properties[name];

const LIBRARY: Record<"Reader" | "Book" | "BookLoan" | "ReaderFriend", Record<string, unknown>[]> = {
  Reader: [
    { ReaderId: 1, FullName: "Ida", JoinedAt: "2024-05-01T10:00:00", Fee: 12.5, MentorId: 2, ParentId: null },
    { ReaderId: 2, FullName: "Ole", JoinedAt: "2024-06-01 11:30", Fee: 7, MentorId: null, ParentId: 1 },
    {
      ReaderId: 3,
      FullName: "Liv",
      JoinedAt: "2024-07-01T00:00:00+02:00",
      Fee: 0.05,
      MentorId: null,
      ParentId: 2,
    },
  ],
  Book: [
    { ISBN: "0001", Title: "One", Pages: 100, Cover: { color: "red" } },
    { ISBN: "0002", Title: "Two", Pages: null, Cover: null },
  ],
  BookLoan: [
    { LoanNo: "L1", ReaderId: 1, BookCode: "0001", Due: "2026-01-31", Returned: true },
    { LoanNo: "L2", ReaderId: 3, BookCode: "0002", Due: "2026-02-28", Returned: false },
  ],
  ReaderFriend: [
    { ReaderId: 1, FriendReaderId: 2 },
    { ReaderId: 1, FriendReaderId: 3 },
  ],
};

describe("names", () => {
  test.each([
    ["InvoiceLine", "invoice_line"],
    ["HTTPServer", "http_server"],
    ["order-ID", "order_id"],
    ["Größe (cm)", "grosse_cm"],
    ["__x", "x"],
  ])("%s becomes %s", (name, expected) => expect(snakeCase(name)).toBe(expected));

  test("what clashes with a system column or another name gets its own", async () => {
    const inferred = await inferFile(
      file("clash.json", { Thing: [{ id: 1, Id: 2, version: "a", "1st": true }] }),
      {},
    );
    expect(Object.keys(inferred[0]?.definition.properties ?? {})).toEqual([
      "source_id",
      "source_id_2",
      "source_version",
      "n_1st",
    ]);
    expect(inferred[0]?.key).toEqual(["source_id"]);
  });
});

test("two imports into one new app at once: one loads it, the other finds it unchanged", async () => {
  const other = new pg.Client({ connectionString: db.operatorUrl });
  await other.connect();
  try {
    const path = file("twice.json", { Part: [{ code: "A1" }, { code: "B2" }] });
    const counts = await Promise.all(
      [client, other].map(async (one) => importInto(one, "twin/parts", await inferFile(path, {}))),
    );
    expect(counts.map(([part]) => [part?.inserted, part?.unchanged]).sort()).toEqual([
      [0, 2],
      [2, 0],
    ]);
  } finally {
    await other.end();
  }
});

describe("names of the house", () => {
  const words = (path: string, pattern: RegExp) =>
    [
      ...(pattern.exec(readFileSync(new URL(path, import.meta.url), "utf8"))?.[1] ?? "").matchAll(
        /'([a-z_]+)'/gi,
      ),
    ].map(([, word]) => snakeCase(word as string));

  test("what SQL reserves for entities, an entity of a file gets another name for", () => {
    const reserved = words("../db/data/names.sql", /_reserved text\[\] := array\[([^\]]*)\]/);
    expect(reserved.length).toBeGreaterThan(20);
    const names = entityNames(reserved);
    expect(reserved.filter((name) => names.get(name) === name)).toEqual([]);
  });

  test("what SQL and GraphQL reserve for properties, a property of a file gets another name for", () => {
    const reserved = [
      ...words("../db/data/names.sql", /system_columns[\s\S]*?array\[([^\]]*)\]/),
      ...words("../db/data/define.sql", /k\.key in \(([^)]*)\)/),
      ...words(
        "../db/data/graphql_names.sql",
        /e\.type, n, 'GraphQL itself' from entities e, unnest\(array\[([^\]]*)\]/,
      ),
    ];
    expect(reserved).toEqual(expect.arrayContaining(["version", "query", "and", "node_id"]));
    const names = propertyNames(reserved);
    expect(reserved.filter((name) => names.get(name) === name)).toEqual([]);
  });

  test("any keys load: SQL's words, GraphQL's words, quotes, other scripts, names that differ in spelling only", async () => {
    const keys = [
      "r",
      "v",
      "x",
      "new",
      "old",
      "data",
      "select",
      "id",
      "ID",
      "and",
      "node_id",
      '"; drop',
      "名前",
      "Имя",
      "a_1",
      "a1",
      "constructor",
      "__proto__",
    ];
    const record = (n: number) => Object.fromEntries(keys.map((key, index) => [`${key}`, n * 100 + index]));
    const text = JSON.stringify({
      query: [record(1), record(2)],
      Order: [{ id: 1 }],
      orders: [{ id: 1 }],
      [`L${"o".repeat(90)}ng`]: [{ id: 1 }],
    });
    const path = file("keys.json", text);
    const counts = await load("odd/keys", path);
    expect(counts.map((one) => one.inserted)).toEqual([2, 1, 1, 1]);
    expect((await load("odd/keys", path)).map((one) => one.unchanged)).toEqual([2, 1, 1, 1]);
    const again = await load("odd/keys", file("keys.json", text.replace(/"v":101/, '"v":7')));
    expect(again[0]).toMatchObject({ inserted: 0, updated: 1, unchanged: 1 });
    const { rows } = await client.query(
      `select data.find('odd/keys/query_record', '{"sort": [{"field": "r", "direction": "asc"}]}') #> '{data,0}' as record`,
    );
    expect(rows[0].record).toMatchObject({ r: 100, x: 102 });
  });
});

describe("inference", () => {
  let cases = 0;
  test.each<[string, unknown[], object]>([
    ["days that are none", ["2024-02-30", "2024-02-28"], { type: "string" }],
    ["nanoseconds", ["2024-02-20T10:00:00.123456789Z"], { type: "string" }],
    ["booleans and numbers", [true, 1], { type: "string" }],
    ["integers beyond 64 bits", [rawNumber("9223372036854775808")], { format: "decimal" }],
    ["nothing", [null, null], { type: "string" }],
    ["addresses", ["a@b.de"], { format: "email" }],
    ["lists", [[1], []], { type: "array" }],
    ["floating point", [1e-20, 0.1], { type: "number" }],
  ])("%s", async (_title, values, expected) => {
    const inferred = await inferFile(file("kind.json", JSON.stringify(values.map((v) => ({ v })))), {});
    expect(inferred[0]?.definition.properties.v).toMatchObject(expected);
    if ("type" in expected) expect(inferred[0]?.definition.properties.v).not.toHaveProperty("format");
  });

  test.each<[string, Record<string, object[]>, Record<string, string | undefined>]>([
    [
      "numbers shared by chance",
      { order: [1, 2, 3].map((number) => ({ number })), line: [1, 1].map((number) => ({ number })) },
      { "line.number": undefined },
    ],
    [
      "ids shared by chance",
      { a: [{ id: 1 }, { id: 2 }], b: [{ id: 1 }, { id: 1 }] },
      { "b.source_id": undefined },
    ],
    [
      "a manager is a person",
      {
        department: [1, 2].map((department_id) => ({ department_id, manager_id: 1 })),
        employee: [1, 2].map((employee_id) => ({ employee_id, manager_id: 1, department_id: 2 })),
      },
      {
        "department.manager_id": "employee",
        "employee.manager_id": "employee",
        "employee.department_id": "department",
      },
    ],
    [
      "a property called like an entity",
      { customers: [{ id: 5 }], orders: [{ id: 1, customer: 5 }] },
      { "orders.customer": "customers" },
    ],
    [
      "two to one",
      { city: [{ city_id: 1 }], trip: [{ trip_id: 1, from_city_id: 1, to_city_id: 1 }] },
      { "trip.from_city_id": "city", "trip.to_city_id": "city" },
    ],
    ["a circle", { a: [{ a_id: 1, b_id: 1 }], b: [{ b_id: 1, a_id: 1 }] }, { "a.b_id": "b", "b.a_id": "a" }],
    [
      "a name that is taken at the other end",
      { customer: [{ customer_id: 1, orders: 1 }], order: [{ order_id: 1, customer_id: 1 }] },
      { "order.customer_id": "customer" },
    ],
    [
      "a name that is taken",
      { customer: [{ customer_id: 1 }], order: [{ order_id: 1, customer_id: 1, customer: "x" }] },
      { "order.customer_id": "customer" },
    ],
    [
      "UUIDs in either case",
      {
        p: [{ id: "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11" }],
        c: [{ id: 1, p_id: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" }],
      },
      { "c.p_id": "p" },
    ],
  ])("relations: %s", async (_title, content, expected) => {
    const path = file("relations.json", content);
    const inferred = await inferFile(path, {});
    for (const [name, target] of Object.entries(expected)) {
      const [entity, field] = name.split(".") as [string, string];
      expect([name, property(inferred, entity, field)?.["x-relation"]?.entity]).toEqual([name, target]);
    }
    const app = `relations/case-${++cases}`;
    await load(app, path);
    expect((await load(app, path)).every((one) => one.inserted + one.updated === 0)).toBe(true);
  });

  test("a relation of more records than are changed at once is there when the import is done, no job left", async () => {
    const content = {
      ride: Array.from({ length: 10_001 }, (_, n) => ({ ride_id: n, stop_id: n % 7 })),
      stop: Array.from({ length: 7 }, (_, n) => ({ stop_id: n })),
    };
    await load("relations/many", file("many.json", content));
    const { rows } = await client.query(
      `select f.is_promoted and not f.is_building as is_column, (select count(*)::int from data.operations o where o.entity_id = e.id) as operations,
         (select bool_and(c.convalidated) from pg_constraint c where c.contype = 'f' and c.conname like 'ride%stop_id%') as is_valid
       from data.entities e join data.fields f on f.entity_id = e.id and f.name = 'stop_id' where e.name = 'ride'`,
    );
    expect(rows).toEqual([{ is_column: true, operations: 0, is_valid: true }]);
  });

  test.each<[string, string, object[], string[]]>([
    [
      "an identifier under another name than the file's",
      "orders-2026.json",
      [
        { order_id: 1, zip: 1 },
        { order_id: 2, zip: 2 },
      ],
      ["order_id"],
    ],
    ["an id that repeats is none", "log.json", [{ id: 1 }, { id: 1 }], ["import_key"]],
    ["a name where there is nothing better", "tag.json", [{ name: "a" }, { name: "b" }], ["name"]],
  ])("keys: %s", async (_title, name, records, key) => {
    expect((await inferFile(file(name, records), {}))[0]?.key).toEqual(key);
  });

  test("lines are known by what they belong to and their place", async () => {
    const lines = [1, 2].map((line) => ({ invoice_id: 1, line, sku: "a" }));
    const inferred = await inferFile(file("lines.json", { invoice: [{ invoice_id: 1 }], lines }), {});
    expect(inferred[1]?.key).toEqual(["invoice_id", "line"]);
  });

  test("a column of 150,000 decimals", async () => {
    const records = Array.from({ length: 150_000 }, (_, n) => `{"a_id":${n},"v":${n}.25}`);
    const [one] = await inferFile(file("long.ndjson", records.join("\n")), {});
    expect(one?.definition.properties.v).toMatchObject({ format: "decimal", scale: 2 });
  });

  test("types, keys and relations come from values and names", async () => {
    const inferred = await inferFile(file("library.json", LIBRARY), {});
    expect(inferred.map((one) => [one.entity, one.key.join("+"), one.count])).toEqual([
      ["reader", "reader_id", 3],
      ["book", inferred[1]?.key[0], 2],
      ["book_loan", inferred[2]?.key[0], 2],
      ["reader_friend", "reader_id+friend_reader_id", 2],
    ]);
    expect(property(inferred, "reader", "joined_at")).toEqual({ type: "string", format: "date-time" });
    expect(property(inferred, "reader", "fee")).toMatchObject({ format: "decimal", scale: 2 });
    expect(property(inferred, "book", "isbn")).toMatchObject({ type: "string" });
    expect(property(inferred, "book", "cover")).toEqual({ type: "object" });
    expect(property(inferred, "book_loan", "due")).toEqual({ type: "string", format: "date" });
    expect(property(inferred, "book_loan", "returned")).toEqual({ type: "boolean" });
    expect(property(inferred, "book_loan", "reader_id")?.["x-relation"]).toMatchObject({
      entity: "reader",
      field: "reader_id",
    });
    expect(property(inferred, "reader_friend", "friend_reader_id")?.["x-relation"]).toMatchObject({
      entity: "reader",
    });
    expect(property(inferred, "reader", "parent_id")?.["x-relation"]).toMatchObject({ entity: "reader" });
    expect(inferred[1]?.definition.required).not.toContain("pages");
  });

  test("values that are not there make no relation, and are reported", async () => {
    const [, line] = await inferFile(
      file("dangling.json", { Box: [{ BoxId: 1 }], Item: [{ ItemId: 1, BoxId: 9 }] }),
      {},
    );
    expect(line?.definition.properties.box_id).not.toHaveProperty("x-relation");
    expect(line?.notes.join()).toContain("1 values are not there");
  });

  test("numbers that JavaScript would round keep every digit", async () => {
    await load(
      "exact/desk",
      file(
        "exact.json",
        '{"Coin": [{"CoinId": 9007199254740993, "Value": 12345678901234567890.12345678, "Short": 1.10}]}',
      ),
    );
    const { rows } = await client.query(
      "select coin_id::text, value::text, short::text from exact_desk.coin",
    );
    expect(rows).toEqual([
      { coin_id: "9007199254740993", value: "12345678901234567890.12345678", short: "1.10" },
    ]);
  });

  test("CSV: codes with leading zeros stay text, empty is absent, quotes and BOM are understood", async () => {
    await load(
      "csv/desk",
      file(
        "stock.csv",
        '\uFEFFcode,name,price,active,when\n007,"Bolt, small",0.10,true,2026-01-01\n008,"Say ""hi""",2.00,false,\n',
      ),
    );
    const { rows } = await client.query(
      'select code, name, price::text, active, "when"::text from csv_desk.stock order by code',
    );
    expect(rows).toEqual([
      { code: "007", name: "Bolt, small", price: "0.10", active: true, when: "2026-01-01" },
      { code: "008", name: 'Say "hi"', price: "2.00", active: false, when: null },
    ]);
  });
});

test("a file becomes organization, site, app and entities; importing it again changes nothing, a changed one updates", async () => {
  const path = file("library.json", LIBRARY);
  const sum = (loaded: { inserted: number; updated: number; unchanged: number }[]) =>
    loaded.reduce(
      (all, one) => [all[0] + one.inserted, all[1] + one.updated, all[2] + one.unchanged] as const,
      [0, 0, 0] as readonly [number, number, number],
    );
  expect(sum(await load("city/library", path))).toEqual([9, 0, 0]);
  expect(sum(await load("city/library", path))).toEqual([0, 0, 9]);
  const changed = structuredClone(LIBRARY);
  (changed.Reader[0] as { FullName: string }).FullName = "Ida B.";
  changed.Reader.push(
    { ReaderId: 5, FullName: "New", JoinedAt: "2026-01-01T00:00:00", Fee: 1, MentorId: null, ParentId: 6 },
    {
      ReaderId: 6,
      FullName: "Later",
      JoinedAt: "2026-01-01T00:00:00",
      Fee: 1,
      MentorId: null,
      ParentId: null,
    },
  );
  expect(sum(await load("city/library", file("library2.json", changed)))).toEqual([2, 1, 8]);
  const { rows } = await client.query(
    "select jsonb_array_length(data.find('city/library/reader', '{\"expand\": [\"book_loans\"]}') -> 'data') as readers",
  );
  expect(rows).toEqual([{ readers: 5 }]);
});

test("NDJSON loads, and --schema replaces what was inferred", async () => {
  const path = file("events.ndjson", '{"code": "a", "amount": 1}\n\n{"code": "b", "amount": 2}\n');
  const schema = file("schema.json", {
    entities: {
      happening: {
        properties: { amount: { type: "number", format: "decimal", precision: 8, scale: 3, minimum: 0 } },
      },
    },
  });
  await load("nd/desk", path, { entity: "happening", schema });
  const { rows } = await client.query("select code, amount::text from nd_desk.happening order by code");
  expect(rows).toEqual([
    { code: "a", amount: "1.000" },
    { code: "b", amount: "2.000" },
  ]);
});

describe("files of any size and encoding", () => {
  const records = (count: number) =>
    Array.from({ length: count }, (_, n) => JSON.stringify({ part_id: n, name: `Part ${n}`, price: n / 4 }));

  test("a list of 400,000 records is read twice within 64 MB of heap", () => {
    const path = file(
      "large.json",
      `{"Part": [${records(400_000).join(",")}], "Box": [{"BoxId": 1, "PartId": 399999}]}`,
    );
    const main = fileURLToPath(new URL("../server/main.ts", import.meta.url));
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      ["--max-old-space-size=64", main, "import", "large/desk", path, "--dry-run"],
      { encoding: "utf8" },
    );
    expect([status, stderr]).toEqual([0, expect.stringContaining("part: 400000 records, key part_id")]);
    expect(JSON.parse(stdout).entities.box.properties.part_id).toMatchObject({
      "x-relation": { entity: "part", field: "part_id" },
    });
  });

  test("a key that repeats in the last of 100,000 records is none", async () => {
    const [one] = await inferFile(
      file("parts.json", `[${[...records(100_000), '{"part_id": 7}'].join(",\n")}]`),
      {},
    );
    expect(one).toMatchObject({ count: 100_001, key: ["import_key"] });
  });

  test("beyond what is remembered a key is taken for one, a relation is not, and both are said", async () => {
    const limit = KeySet.limit;
    KeySet.limit = 0;
    try {
      const part = [...records(500), '{"part_id": 499, "name": "again", "price": 1}'];
      const path = file("beyond.json", `{"part": [${part}], "box": [{"box_id": 1, "part_id": 3}]}`);
      const inferred = await inferFile(path, {});
      expect(inferred[0]?.key).toEqual(["part_id"]);
      expect(inferred[0]?.notes.join()).toMatch(/only \d+ values of part_id were compared/);
      expect(property(inferred, "box", "part_id")).not.toHaveProperty("x-relation");
      expect(inferred[1]?.notes.join()).toMatch(/relation to part, which has too many records/);
      await expect(importInto(client, "beyond/desk", inferred)).rejects.toThrow(
        /Record 501 of part: duplicate/,
      );
    } finally {
      KeySet.limit = limit;
    }
  });

  const text = "stock_id;name\n1;Größe\n";
  test.each<[string, Buffer, Encoding | undefined]>([
    ["UTF-8 with a mark", Buffer.from(`\uFEFF${text}`), undefined],
    ["UTF-16 with a mark", Buffer.from(`\uFEFF${text}`, "utf16le"), undefined],
    ["Latin-1 by name", Buffer.from(text, "latin1"), "latin1"],
  ])("%s", async (_title, content, encoding) => {
    writeFileSync(join(dir, "stock.csv"), content);
    await load("encoded/desk", join(dir, "stock.csv"), { encoding });
    expect((await client.query("select name from encoded_desk.stock")).rows).toEqual([{ name: "Größe" }]);
  });

  test.each<[string, string | Buffer, RegExp]>([
    ["a.csv", Buffer.from(text, "latin1"), /not valid utf-8; name its encoding.*latin1/],
    ["a.csv", Buffer.from(text, "utf16le"), /looks like utf-16le/],
    ["a.csv", 'a,b\n1,"2', /a \(line \d\) is not valid CSV/],
    ["a.csv", 'a,b\n1,2"3"\n', /a \(line 2\) is not valid CSV/],
    ["a.json", '{"a": [{"b": 1}], "a": [{"b": 2}]}', /"a" is in .*a\.json twice/],
    ["a.json", '[{"b": 1}] x', /not valid JSON.*line 1, column 12/],
    ["a.json", '[{"b": "\\x"}]', /not valid JSON.*line 1/],
    ["a.json", `[{"b": ${"[".repeat(100_000)}`, /nested more than 500 levels/],
    ["a.json", "[{}, {}", /not valid JSON/],
    ["a.json", "", /not valid JSON/],
    ["a.json", "{}", /holds no records/],
    ["none.json/x", "", /no file|ENOENT|ENOTDIR/],
  ])("%s with %j is refused", async (name, content, message) => {
    if (!name.includes("/")) writeFileSync(join(dir, name), content);
    await expect(inferFile(join(dir, name), {})).rejects.toThrow(message);
  });
});

describe("importing again", () => {
  test("records without a key: the same adds nothing, another file of the same entity overwrites nothing", async () => {
    const log = (name: string, t: string) =>
      load("again/log", file(name, `t,n\n${t},1\n${t},1\n`), { entity: "log" });
    expect(await log("jan.csv", "a")).toMatchObject([{ inserted: 2 }]);
    expect(await log("jan.csv", "a")).toMatchObject([{ inserted: 0, unchanged: 2 }]);
    expect(await log("feb.csv", "b")).toMatchObject([{ inserted: 2, updated: 0 }]);
  });

  test("values are read as the entity's types, whatever this file alone would look like", async () => {
    await load("again/types", file("parts.csv", "code,note\n007,x\n100,1\n"));
    const counts = await load("again/types", file("parts.csv", "code,note\n100,2\n200,3\n"));
    expect(counts).toMatchObject([{ inserted: 1, updated: 1 }]);
    const { rows } = await client.query("select code, note from again_types.parts order by code");
    expect(rows.map((row) => [row.code, row.note])).toEqual([
      ["007", "x"],
      ["100", "2"],
      ["200", "3"],
    ]);
  });

  test("with a key that no longer tells records apart is refused, and says what to do", async () => {
    await load("again/key", file("p.csv", "name,v\na,1\nb,2\n"));
    await expect(load("again/key", file("p.csv", "name,v\na,1\na,2\n"))).rejects.toThrow(
      /known by name.*--schema/,
    );
  });
});

describe("--schema", () => {
  const schema = (content: unknown) => file("schema.json", content);
  test("what --dry-run prints and is given back infers the same", async () => {
    const path = file("library.json", LIBRARY);
    const entities = async (options: object) =>
      Object.fromEntries(
        (await inferFile(path, options)).map((one) => [one.entity, { key: one.key, ...one.definition }]),
      );
    const printed = await entities({});
    expect(await entities({ schema: schema({ entities: printed }) })).toEqual(printed);
  });

  test("types, keys, names and what to leave out", async () => {
    const given = schema({
      names: { shops: "branch" },
      entities: {
        branch: {
          key: ["zip", "no"],
          properties: { zip: { type: "string" }, mail: { type: "string" }, junk: null },
        },
      },
    });
    const path = file("shops.csv", "zip;no;mail;junk\n100;1;a@b.de;q\n100;2;b@b.de;q\n");
    const inferred = await inferFile(path, { schema: given });
    expect(inferred).toMatchObject([{ entity: "branch", key: ["zip", "no"] }]);
    expect(Object.keys(inferred[0]?.definition.properties ?? {})).toEqual(["zip", "no", "mail"]);
    expect(property(inferred, "branch", "mail")).toEqual({ type: "string" });
    await load("given/desk", path, { schema: given });
    const { rows } = await client.query("select zip, no from given_desk.branch order by no");
    expect(rows).toEqual([
      { zip: "100", no: "1" },
      { zip: "100", no: "2" },
    ]);
  });

  test.each<[string, string, RegExp]>([
    ["no JSON", "{", /cannot be read as JSON/],
    ["entities at the top", '{"a": {"properties": {}}}', /is no schema for import/],
    ["an unknown part", '{"entities": {"a": {"propertys": {}}}}', /"a" in .* is not understood/],
    ["an unknown entity", '{"entities": {"b": {}}}', /speaks of "b", but the file has a/],
    ["a key that is no property", '{"entities": {"a": {"key": ["z"]}}}', /names "z", which is no property/],
  ])("%s is refused", (_title, content, message) => {
    return expect(inferFile(file("a.json", [{ id: 1 }]), { schema: schema(content) })).rejects.toThrow(
      message,
    );
  });
});

describe("a broken record stops the import, is named, and leaves nothing behind", () => {
  const many = Array.from({ length: 2500 }, (_, n) => ({ code: `c${n}`, n }));
  const limited = () => file("limit.json", { entities: { row: { properties: { n: { maximum: 2000 } } } } });
  const cases: [string, () => string, object, RegExp][] = [
    [
      "against the schema, in the third batch",
      () => file("row.json", many),
      { schema: true },
      /Record 2002 of row: \/n must be at most 2000/,
    ],
    [
      "no object",
      () => file("row.json", [...many.slice(0, 5), 7]),
      {},
      /Record 6 of row is not an object: 7/,
    ],
    ["JSON syntax", () => file("row.json", '[{"a": 1},\n {"a": }]'), {}, /line 2, column 8/],
    ["NDJSON syntax", () => file("row.ndjson", '{"a": 1}\n{"a": 2\n'), {}, /Record 2 of row \(line 2\)/],
    ["CSV columns", () => file("row.csv", "a,b\n1,2\n3\n"), {}, /of row \(line 3\)/],
    ["two columns of one name", () => file("row.csv", "a,b,a\n1,2,3\n"), {}, /"a" \(line 1\)/],
    ["nothing in it", () => file("row.csv", "a,b\n"), {}, /holds no records/],
    [
      "a character that text cannot hold",
      () => file("row.json", [...many.slice(0, 1500), { code: "a\u0000b", n: 1 }]),
      {},
      /Record 1501 of row/,
    ],
    ["a number beyond all numbers", () => file("row.json", '[{"a": 1e999}]'), {}, /1e999 is beyond/],
    [
      "a value that must be unique",
      () => file("row.json", [...many, { code: "other", n: 1 }]),
      { given: { n: { "x-unique": true } } },
      /Record 2501 of row: duplicate/,
    ],
    [
      "a relation to nothing",
      () =>
        file("row.json", {
          box: [{ box_id: 1 }],
          row: [
            { row_id: 1, in: 1 },
            { row_id: 2, in: 9 },
          ],
        }),
      { given: { in: { "x-relation": { entity: "box", field: "box_id" } } } },
      /Record 2 of row: \/in is 9, and no box has that box_id/,
    ],
    ["no list", () => file("row.json", { row: 5 }), {}, /"row" in .* is no list/],
  ];
  test.each(cases)("%s", async (_title, path, options, message) => {
    const given =
      "given" in options
        ? { schema: file("given.json", { entities: { row: { properties: options.given } } }) }
        : "schema" in options
          ? { schema: limited() }
          : {};
    await expect((async () => load("broken/desk", path(), given))()).rejects.toThrow(message);
    expect((await client.query("select from tenancy.sites where name = 'broken'")).rows).toEqual([]);
    expect((await client.query("select from pg_namespace where nspname like 'broken%'")).rows).toEqual([]);
  });
});
