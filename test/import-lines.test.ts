import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { exportPath } from "../server/cli/export.ts";
import { importLines, isAppExport } from "../server/import/file.ts";
import { base, type Call, type Crm, startCrm } from "./harness/crm.ts";

let crm: Crm;
let dir: string;
const ALL = {
  type: "object",
  required: ["code"],
  properties: {
    code: { type: "string", "x-unique": true, maxLength: 40 },
    mail: { type: "string", format: "email" },
    whole: { type: "integer" },
    float: { type: "number" },
    exact: { type: "number", format: "decimal", precision: 40, scale: 10 },
    yes: { type: "boolean" },
    day: { type: "string", format: "date" },
    at: { type: "string", format: "date-time" },
    uid: { type: "string", format: "uuid" },
    color: { enum: ["red", "blue"] },
    list: { type: "array", items: { type: "string" } },
    tree: { type: "object", properties: { a: { type: "integer" } } },
  },
};
const RECORDS = [
  {
    code: 'a "quoted", \n line; =1+1',
    mail: "a@b.de",
    whole: 9007199254740993n,
    float: 1.5e-7,
    exact: "12345678901234567890.1234567890",
    yes: false,
    day: "2026-02-28",
    at: "2026-02-28T10:00:00.123456+00:00",
    uid: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b",
    color: "red",
    list: ["x", 'y"', "é\\n"],
    tree: { a: 1 },
  },
  { code: "" },
  { code: "null", list: [], tree: {}, yes: true },
  { code: "007", whole: 0 },
];
/** JSON of a record, its long numbers as they are. */
const json = (record: object) =>
  JSON.stringify(record, (_k, v) => (typeof v === "bigint" ? `#${v}#` : v))
    .replace(/"#(\d+)#"/, "$1")
    .replace(/"exact":"([\d.]+)"/, '"exact":$1');

beforeAll(async () => {
  crm = await startCrm();
  dir = mkdtempSync(join(tmpdir(), "rowhouse-lines-"));
  for (const name of ["things", "copies"])
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [name, ALL]);
});
beforeEach(() => crm.db.query("truncate acme_crm.copies_jsonb"));
afterAll(async () => {
  await crm?.stop();
  rmSync(dir, { recursive: true, force: true });
});
const codes = async () =>
  (await crm.db.query<{ code: string }>("select code from acme_crm.copies order by code")).map(
    (row) => row.code,
  );
const post = (
  body: string | Buffer,
  query = "",
  call: Call = {},
  type = "application/x-ndjson",
  entity = "copies",
) =>
  crm.send(`${base}/${entity}/import?${query}`, {
    method: "POST",
    body,
    headers: { "content-type": type },
    ...call,
  });

describe("what is exported can be imported again: every type", () => {
  beforeAll(async () => {
    const answer = await post(RECORDS.map(json).join("\n"), "", {}, "application/x-ndjson", "things");
    expect(answer.json).toMatchObject({ inserted: 4, skipped: 0 });
  });
  test.each([
    ["ndjson", "application/x-ndjson"],
    ["csv", "text/csv"],
    ["json", "application/json"],
  ])("%s", async (format, type) => {
    const out = await crm.send(`${base}/things/export?format=${format}&sort=code`);
    expect(out.text).toContain("12345678901234567890.123456789");
    const done = await post(out.text, "", {}, type);
    expect([done.status, done.json]).toEqual([
      200,
      { inserted: 4, updated: 0, unchanged: 0, skipped: 0, errors: [] },
    ]);
    const same = await crm.db.query(
      `select t.code from acme_crm.things t join acme_crm.copies c on c.id = t.id
       where to_jsonb(t) - '{created_at,updated_at,created_by}'::text[] = to_jsonb(c) - '{created_at,updated_at,created_by}'::text[]`,
    );
    expect(same).toHaveLength(4);
    expect((await post(out.text, "", {}, type)).json).toMatchObject({ inserted: 0, unchanged: 4 });
    expect((await post(out.text.replace("2026-02-28T10", "2026-02-28T11"), "", {}, type)).json).toMatchObject(
      {
        updated: 1,
        unchanged: 3,
      },
    );
  });
});

describe("errors by line", () => {
  const lines = [
    '{"code": "a"}',
    '{"code": "b", "whole": "x"}',
    "",
    '{"code": ',
    "[1]",
    '{"code": "a"}',
    '{"code": "c\\u0000"}',
    '{"code": "d", "color": "green", "mail": "x"}',
    '{"cod": "e"}',
    '{"code": "\u0000"}',
    '{"id": "7", "code": "f"}',
    '{"code": "z"}',
  ];
  const wrong = [2, 4, 5, 6, 7, 8, 8, 9, 9, 10, 11];

  test("skip: the wrong lines are left out and listed", async () => {
    const answer = await post(lines.join("\n"), "on_error=skip");
    const body = answer.json as unknown as {
      inserted: number;
      skipped: number;
      errors: { line: number; pointer: string; message: string }[];
    };
    expect([answer.status, await codes(), body.skipped]).toEqual([200, ["a", "z"], 9]);
    expect(body.errors.map((error) => error.line).sort((a, b) => a - b)).toEqual(wrong);
    expect(body.errors).toContainEqual({ line: 2, pointer: "/whole", message: "must be a number" });
    expect(body.errors).toContainEqual({
      line: 6,
      pointer: "/code",
      message: "is already taken by another record",
    });
    expect(body.errors).toContainEqual({ line: 4, pointer: "", message: "is not a JSON object" });
  });

  test.each([
    ["inserted", null, ""],
    ["by a key", ["code"], ""],
    ["by a key of two", ["code", "whole"], ""],
    ["some with an id", null, '"id": "7", '],
  ])("many wrong lines are told what each would be told alone: %s", async (_what, key, id) => {
    const kinds = [
      (n: number) => `{"code": "n${n}", "whole": ${n}}`,
      (n: number) => `{"code": "w${n}", "whole": "x", "mail": "no"}`,
      (n: number) => `{"whole": ${n}}`,
      // One that an earlier line has; every other time one that is there before, or that a later line has, too.
      (n: number) => `{"code": "${n % 2 ? `n${n - (n % 7)}` : `m${n % 40}`}", "whole": ${n - (n % 7)}}`,
      (n: number) => `{${id}"code": "d${n}", "day": "2026-13-01", "tree": {"a": ${n}.5}}`,
      (n: number) => `{"code": "t${n}", "whole": ${n}, "tree": {"a": "x"}, "/0/is": "is the same as in /3"}`,
      (n: number) => `{"code": "u${n}", "whole": null, "uid": "${n}", "list": [1, "a", 2]}`,
    ];
    const lines = Array.from({ length: 420 }, (_, n) => [n + 1, kinds[n % 7]?.(n)]);
    const load = async (some: unknown[]) =>
      (
        await crm.db.query<{
          done: { errors: object[]; inserted: number; updated: number; skipped: number };
        }>("select data.import_lines('acme/crm/copies', $1, null, $2, 'skip') as done", [
          JSON.stringify(some),
          key,
        ])
      )[0]?.done as { errors: object[]; inserted: number; updated: number; skipped: number };
    const sum = { inserted: 0, skipped: 0, errors: [] as object[] };
    for (const line of lines) {
      const one = await load([line]);
      sum.inserted += one.inserted;
      sum.skipped += one.skipped;
      sum.errors.push(...one.errors);
    }
    const alone = await codes();
    await crm.db.query("delete from acme_crm.copies");
    expect(await load(lines)).toMatchObject(sum);
    expect(await codes()).toEqual(alone);
    expect(sum.skipped).toBeGreaterThan(200);
  });

  test("stop: nothing is imported, of earlier batches neither", async () => {
    const many = Array.from({ length: 2500 }, (_, n) => `{"code": "n${n}"}`);
    const answer = await post([...many, '{"code": 5}'].join("\r\n"));
    expect([answer.status, answer.json.code]).toEqual([422, "import_failed"]);
    expect((answer.json as unknown as { errors: unknown[] }).errors).toMatchObject([
      { line: 2501, pointer: "/code" },
    ]);
    expect(await codes()).toEqual([]);
  });

  test("stop: every wrong line of the whole input is listed, 1,000 at most", async () => {
    const wrong = (n: number) => [3, 1700, 2400].includes(n) || n > 3000;
    const lines = Array.from({ length: 6000 }, (_, n) =>
      wrong(n + 1) ? `{"code": "n${n}", "whole": "x"}` : `{"code": "n${n}"}`,
    );
    const listed = async (count: number) => {
      const answer = await post(lines.slice(0, count).join("\n"));
      expect(answer.status).toBe(422);
      return (answer.json as unknown as { errors: { line: number; pointer: string }[] }).errors;
    };
    expect((await listed(3000)).map((error) => [error.line, error.pointer])).toEqual([
      [3, "/whole"],
      [1700, "/whole"],
      [2400, "/whole"],
    ]);
    expect(await listed(6000)).toHaveLength(1000);
    expect(await codes()).toEqual([]);
  });

  test.each<[string, string | Buffer, string, string, number, string]>([
    [
      "a quote that does not end",
      'code,mail\na,b\nc,"d\ne,f\n',
      "",
      "text/csv",
      400,
      "Line 3 is not valid CSV: a quote that opens there, or in a line below, does not end",
    ],
    ["a quote in the middle", 'code,mail\na"b,c"', "", "text/csv", 400, "Line 2"],
    [
      "a row that is too short",
      "code,mail\na\n",
      "",
      "text/csv",
      400,
      "Line 2 has 1 columns, and the header 2",
    ],
    ["two columns of one name", "code,code\na,b\n", "", "text/csv", 400, '"code"'],
    ["a column that is no field", "code,nope\na,b\n", "", "text/csv", 400, "There is no field nope"],
    ["SQL in a column", 'code,"x\'); drop table y; --"\na,b\n', "", "text/csv", 400, "There is no field x'"],
    [
      "bytes that are no UTF-8",
      Buffer.from([0x61, 0xff, 0xfe, 0x0a]),
      "",
      "application/x-ndjson",
      400,
      "not valid utf-8",
    ],
    ["another type", "[]", "", "application/xml", 415, "NDJSON, CSV or a JSON list"],
    ["JSON that does not end", '[{"code": "a"}', "", "application/json", 400, "Line 1 is not valid JSON"],
    ["JSON that goes on", '[{"code": "a"}] 7', "", "application/json", 400, "is not valid JSON"],
    ["no JSON at all", "", "", "application/json", 400, "is not valid JSON"],
    ["an object", '{"copies": [{"code": "a"}]}', "", "application/json", 400, "expected a list"],
    ["a text", '"a"', "", "application/json", 400, "holds no records"],
    ["1 MB of brackets", "[".repeat(1_000_000), "", "application/json", 400, "500 levels"],
    ["an unknown encoding", "code\na", "encoding=ebcdic", "text/csv", 415, "encoding"],
    ["an unknown parameter", "code\na", "x=1", "text/csv", 400, '"x"'],
    ["an unknown way with errors", "code\na", "on_error=ignore", "text/csv", 400, "stop or skip"],
    ["a key that is no field", "code\na", "key=nope", "text/csv", 422, "nope"],
    ["SQL in the key", "code\na", "key=code)%20or%20true--", "text/csv", 422, "is not a field"],
  ])("%s", async (_title, body, query, type, status, text) => {
    const answer = await post(body, query, {}, type);
    expect([answer.status, answer.text]).toEqual([
      status,
      expect.stringContaining(JSON.stringify(text).slice(1, -1)),
    ]);
    expect(await codes()).toEqual([]);
  });
});

describe("a JSON list", () => {
  const list = (records: string[], by = ",\n ") => `[${records.join(by)}]`;
  const type = "application/json";
  test.each([",\n", ","])(
    "is read like lines, numbers with every digit (between records: %j)",
    async (by) => {
      const records = Array.from({ length: 2500 }, (_, n) => `{"code": "n${n}", "whole": ${n}}`);
      const exact = `{"code": "x", "exact": 12345678901234567890.1234567890, "whole": 9007199254740993, "float": 1.50e-7, "tree": {"a": 1, "__proto__": [{}]}}`;
      const answer = await post(list([...records, exact], by), "", {}, type);
      expect([answer.status, answer.json]).toMatchObject([200, { inserted: 2501, skipped: 0, errors: [] }]);
      const [row] = await crm.db.query(
        "select exact::text, whole::text, tree::text from acme_crm.copies where code = 'x'",
      );
      expect(row).toEqual({
        exact: "12345678901234567890.1234567890",
        whole: "9007199254740993",
        tree: '{"a": 1, "__proto__": [{}]}',
      });
      expect((await post(list([exact]), "key=code", {}, type)).json).toMatchObject({ unchanged: 1 });
    },
  );
  test("the wrong records are listed by their place", async () => {
    const wrong = [
      "7",
      "null",
      '{"code": 5}',
      '{"code": "\\u0000"}',
      '{"code": "a", "whole": 1e400000}',
      "[[]]",
    ];
    const body = list(['{"code": "a"}', ...wrong, '{"code": "z"}']);
    const skipped = await post(body, "on_error=skip", {}, type);
    expect([skipped.status, await codes()]).toEqual([200, ["a", "z"]]);
    const { errors } = skipped.json as unknown as { errors: { line: number }[] };
    expect(errors.map((error) => error.line)).toEqual([2, 3, 4, 5, 6, 7]);
    await crm.db.query("delete from acme_crm.copies");
    expect((await post(body, "", {}, type)).json).toMatchObject({ code: "import_failed", errors });
    expect(await codes()).toEqual([]);
  });
  test("psql takes records as they are, too", async () => {
    const lines = '[[1, {"code": "a", "version": 7}], [2, "{\\"code\\": \\"b\\"}"], [3, 5]]';
    const done = await crm.db.as("acme", "ann@acme.test", async (client) => {
      const { rows } = await client.query(
        "select data.import_lines('acme/crm/copies', $1, on_error => 'skip') as done",
        [lines],
      );
      return rows[0].done;
    });
    expect(done).toMatchObject({ inserted: 2, skipped: 1, errors: [{ line: 3 }] });
  });
});

describe("encodings", () => {
  const text = "code;mail\nGröße;\n";
  const utf16be = Buffer.from(`\uFEFF${text}`, "utf16le").swap16();
  test.each<[string, Buffer, string, string]>([
    ["UTF-8", Buffer.from(text), "", "text/csv"],
    ["UTF-8 with a mark", Buffer.from(`\uFEFF${text}`), "", "text/csv"],
    ["UTF-16 with a mark", Buffer.from(`\uFEFF${text}`, "utf16le"), "", "text/csv"],
    ["UTF-16, big end first", utf16be, "", "text/csv"],
    ["Latin-1 by parameter", Buffer.from(text, "latin1"), "encoding=latin1", "text/csv"],
    ["Latin-1 by charset", Buffer.from(text, "latin1"), "", "text/csv; charset=ISO-8859-1"],
  ])("%s", async (_title, body, query, type) => {
    expect((await post(body, query, {}, type)).json).toMatchObject({ inserted: 1 });
    expect(await codes()).toEqual(["Größe"]);
  });
  test.each<[string, Buffer, string]>([
    ["UTF-16 without a mark", Buffer.from(text, "utf16le"), "utf-16le"],
    ["UTF-16 without a mark, big end first", utf16be.subarray(2), "utf-16be"],
    ["Latin-1 that is not said", Buffer.from(text, "latin1"), "latin1"],
  ])("%s is refused, and can be named", async (_title, body, name) => {
    const refused = await post(body, "", {}, "text/csv");
    expect([refused.status, refused.text]).toEqual([400, expect.stringContaining(name)]);
    expect((await post(body, `encoding=${name}`, {}, "text/csv")).json).toMatchObject({ inserted: 1 });
    expect(await codes()).toEqual(["Größe"]);
  });
  test("one-byte files and files without a line", async () => {
    for (const body of ["", "\n", "\uFEFF", "code"])
      expect((await post(body, "", {}, "text/csv")).json).toMatchObject({ inserted: 0 });
  });
});

describe("rights", () => {
  test.each<[string, string, Call, number]>([
    ["a viewer may not", "copies", { as: "vic" }, 403],
    ["another tenant's account", "copies", { as: "bob" }, 404],
    ["nobody", "copies", { as: null }, 401],
    ["an unknown entity", "nothing", {}, 404],
    ["another tenant's entity by path", encodeURIComponent("x/beta/crm/contacts"), {}, 404],
    ["reading is not importing", "copies", { method: "GET", body: undefined }, 405],
  ])("%s", async (_title, entity, call, status) => {
    const answer = await post('{"code": "a"}', "on_error=skip", call, "application/x-ndjson", entity);
    expect(answer.status).toBe(status);
    expect(await codes()).toEqual([]);
  });
  test("a record's stamps are not taken from the file", async () => {
    await post(
      '{"code": "a", "created_by": "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b", "version": 9, "created_at": "2001-01-01"}',
    );
    const [row] = await crm.db.query(
      "select version, created_by, extract(year from created_at) as y from acme_crm.copies",
    );
    expect(row).toMatchObject({ version: 1, created_by: crm.ids.ann ?? expect.any(String) });
    expect(Number(row?.y)).toBeGreaterThan(2020);
  });
  test("an upload that breaks off leaves nothing", async () => {
    await new Promise<void>((done) => {
      const call = request(`${crm.gateway.url}${base}/copies/import`, {
        method: "POST",
        headers: { authorization: `Bearer ${crm.tokens.ann}`, "content-type": "application/x-ndjson" },
      });
      call.on("error", () => done());
      for (let n = 0; n < 3000; n++) call.write(`{"code": "n${n}"}\n`);
      setTimeout(() => call.destroy(), 500);
    });
    while (
      (
        await crm.db.query(
          "select from pg_stat_activity where state like 'idle in%' and usename = 'rowhouse_gateway' and datname = current_database()",
        )
      ).length > 0
    )
      await sleep(50);
    expect(await codes()).toEqual([]);
  });
});

describe("rowhouse import into an entity", () => {
  const run = async (
    name: string,
    content: string,
    options: Partial<Parameters<typeof importLines>[3]> = {},
  ) => {
    writeFileSync(join(dir, name), content);
    const client = await crm.db.pool.connect();
    try {
      return await importLines(
        client,
        "acme/crm/copies",
        join(dir, name),
        { encoding: "utf-8", onError: "stop", ...options },
        () => {},
      );
    } finally {
      client.release();
    }
  };
  test("updates by key, and counts", async () => {
    expect(await run("a.csv", "code,whole\na,1\nb,2\n")).toMatchObject({ inserted: 2 });
    expect(await run("a.ndjson", '{"code":"a","whole":5}\n{"code":"c"}\n', { key: "code" })).toMatchObject({
      inserted: 1,
      updated: 1,
    });
    expect(await codes()).toEqual(["a", "b", "c"]);
  });
  test("lists every wrong line, and imports nothing", async () => {
    const failing = run("b.csv", "code,whole\na,1\nb,x\nc,y\n");
    await expect(failing).rejects.toThrow(/Nothing was imported[\s\S]*line 3: \/whole[\s\S]*line 4: \/whole/);
    expect(await codes()).toEqual([]);
  });
  test("with an account's rights", async () => {
    await expect(run("c.csv", "code\na\n", { account: "vic@acme.test" })).rejects.toThrow(/may not create/);
    expect(await run("c.csv", "code\na\n", { account: "ann@acme.test" })).toMatchObject({ inserted: 1 });
  });
  test.each<[string, string, RegExp]>([
    ["x.txt", "a", /--format/],
    ["none/x.csv", "", /ENOENT|no file/],
  ])("%s is refused", async (name, content, message) => {
    await expect((async () => run(name, content))()).rejects.toThrow(message);
  });

  test("an app's export into another app, with its ids and relations", async () => {
    const chunks: string[] = [];
    const client = await crm.db.pool.connect();
    try {
      await client.query("select tenancy.create_app('acme', 'copy')");
      const { rows } = await client.query(
        "select e.name, e.schema from data.entities e join tenancy.apps a on a.id = e.app_id where a.schema_name = 'acme_crm' order by e.name = 'contacts'",
      );
      for (const { name, schema } of rows)
        await client.query("select data.define_entity('acme/copy', $1, $2)", [name, schema]);
      const file = join(dir, "crm.ndjson");
      await exportPath(client, "acme/crm", { format: "ndjson", output: file }, process.stdout);
      expect(await isAppExport(file)).toBe(true);
      const options = { encoding: "utf-8", onError: "stop" } as const;
      const done = await importLines(client, "acme/copy", file, options, (d) =>
        chunks.push(String(d.inserted)),
      );
      const again = await importLines(client, "acme/copy", file, options, () => {});
      expect([done.skipped, again.inserted, again.unchanged]).toEqual([0, 0, done.inserted]);
      const { rows: same } = await client.query(
        "select a.name from acme_crm.contacts a join acme_copy.contacts b on b.id = a.id and b.company_id is not distinct from a.company_id order by 1",
      );
      expect(same.map((row) => row.name)).toEqual(["Ada", "Bea", "Cyd", "Dan"]);
      writeFileSync(file, '{"entity":"contacts","record":{"name":"Eva"}}\n{"entity":"none","record":{}}\n');
      await expect(importLines(client, "acme/copy", file, options, () => {})).rejects.toThrow(
        /no entity 'none'/,
      );
      expect((await client.query("select from acme_copy.contacts where name = 'Eva'")).rows).toEqual([]);
    } finally {
      client.release();
    }
  });
});
