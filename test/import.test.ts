import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { importInto, inferFile } from "../server/cli/import.ts";
import type { Inferred } from "../server/import/infer.ts";
import { snakeCase } from "../server/import/names.ts";
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
const load = (app: string, path: string, options = {}) => importInto(client, app, inferFile(path, options));
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

  test("what clashes with a system column or another name gets its own", () => {
    const inferred = inferFile(
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

describe("inference", () => {
  test("types, keys and relations come from values and names", () => {
    const inferred = inferFile(file("library.json", LIBRARY), {});
    expect(inferred.map((one) => [one.entity, one.key.join("+"), one.records.length])).toEqual([
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

  test("values that are not there make no relation, and are reported", () => {
    const [, line] = inferFile(
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
    ["no list", () => file("row.json", { row: 5 }), {}, /"row" in .* is no list/],
  ];
  test.each(cases)("%s", async (_title, path, options, message) => {
    const given = "schema" in options ? { schema: limited() } : {};
    await expect((async () => load("broken/desk", path(), given))()).rejects.toThrow(message);
    expect((await client.query("select from tenancy.sites where name = 'broken'")).rows).toEqual([]);
    expect((await client.query("select from pg_namespace where nspname like 'broken%'")).rows).toEqual([]);
  });
});
