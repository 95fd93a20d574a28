import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parse } from "csv-parse/sync";
import { exportPath } from "../server/cli/export.ts";
import { base, type Call, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

let crm: Crm;
let dir: string;
beforeAll(async () => {
  crm = await startCrm();
  dir = mkdtempSync(join(tmpdir(), "rowhouse-export-"));
});
afterAll(async () => {
  await crm?.stop();
  rmSync(dir, { recursive: true, force: true });
});
const send = (path: string, call?: Call) => crm.send(path, call);
const contacts = (query: string) => `${base}/contacts/export?${query}`;

/** Rows that take the server much longer to write than a test waits: 300,000 of 200 bytes. */
async function bigEntity(): Promise<void> {
  await crm.db.query("select data.define_entity('acme/crm', 'logs', $1)", [
    { type: "object", properties: { n: { type: "integer" }, text: { type: "string" } } },
  ]);
  await crm.db.query(`insert into acme_crm.logs_jsonb (data)
    select jsonb_build_object('n', n, 'text', repeat('x', 200)) from generate_series(1, 300000) n`);
}
const running = async () =>
  (
    await crm.db.query(
      "select from pg_stat_activity where query like 'copy (%' and state = 'active' and datname = current_database()",
    )
  ).length;
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(50);
}

describe("an entity, with the filter, select and sort of lists", () => {
  test.each<[string, string, string]>([
    ["JSON", "select=name,age&sort=name", '[{"name":"Ada","age":36}\n,{"name":"Bea","age":20}'],
    [
      "NDJSON",
      "format=ndjson&select=name,age&sort=-name&filter=%7B%22age%22:%7B%22$gt%22:21%7D%7D",
      '{"name":"Cyd","age":51}\n{"name":"Ada","age":36}\n',
    ],
    [
      "CSV",
      "format=csv&select=name,age,active,born&sort=name&filter=%7B%22name%22:%22Bea%22%7D",
      "name,age,active,born\r\nBea,20,true,2001-02-03\r\n",
    ],
    [
      "nested fields",
      "format=csv&select=name,address.city&filter=%7B%22name%22:%22Cyd%22%7D",
      "name,address.city\r\nCyd,Oslo\r\n",
    ],
    ["nothing found, JSON", "filter=%7B%22name%22:%22Nobody%22%7D", "[]\n"],
    ["nothing found, NDJSON", "format=ndjson&filter=%7B%22name%22:%22Nobody%22%7D", ""],
    ["nothing found, CSV", "format=csv&select=id,name&filter=%7B%22name%22:%22Nobody%22%7D", "id,name\r\n"],
    [
      "every digit",
      "format=csv&select=balance&filter=%7B%22balance%22:12345678901234567890.12%7D",
      "balance\r\n12345678901234567890.12\r\n",
    ],
  ])("%s", async (_title, query, expected) => {
    const answer = await send(contacts(query));
    expect([answer.status, answer.text.slice(0, expected.length)]).toEqual([200, expected]);
  });

  test("JSON is the list's records, whole, and named for saving", async () => {
    const list = await send(`${base}/contacts?sort=name`);
    const answer = await send(contacts("sort=name"));
    expect(JSON.parse(answer.text)).toEqual(list.json.data);
    expect(answer.headers["content-disposition"]).toBe('attachment; filename="contacts.json"');
  });

  const hostile = [
    'a "quoted", b',
    "line\nfeed\r\nand \u0001 control \\ back",
    "=1+1",
    "\\.",
    "é 名前",
    "'; drop table x --",
  ];
  test("CSV quotes by RFC 4180; lists and objects are JSON text", async () => {
    for (const name of hostile)
      await send(`${base}/companies`, { method: "POST", body: { name, city: name } });
    const csv = await send(`${base}/companies/export?format=csv&select=name,city`);
    const rows = parse(csv.text, { columns: true, record_delimiter: "\r\n" }) as {
      name: string;
      city: string;
    }[];
    for (const name of hostile) expect(rows).toContainEqual({ name, city: name });
    const lines = (await send(`${base}/companies/export?format=ndjson&select=name`)).text.trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).name)).toEqual(expect.arrayContaining(hostile));
    const bea = parse((await send(contacts("format=csv&filter=%7B%22name%22:%22Bea%22%7D"))).text, {
      columns: true,
    }) as Record<string, string>[];
    expect(JSON.parse(bea[0]?.tags ?? "")).toContain("art");
    expect(JSON.parse(bea[0]?.address ?? "")).toMatchObject({ city: "Oslo" });
    expect(bea[0]?.created_at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/);
  });

  test.each<[string, string, Call, number, string]>([
    ["an unknown format", contacts("format=xml"), {}, 400, "invalid_format"],
    ["two formats", contacts("format=csv&format=json"), {}, 400, "invalid_format"],
    ["a limit", contacts("limit=5"), {}, 400, "invalid_query"],
    ["an expand", contacts("expand=company"), {}, 400, "invalid_query"],
    ["an unknown parameter", contacts("x=1"), {}, 400, "unknown_parameter"],
    ["an unknown field", contacts("select=nope"), {}, 400, "unknown_field"],
    ["SQL in select", contacts("format=csv&select=name)%20from%20x;--"), {}, 400, "unknown_field"],
    [
      "SQL in a column of CSV",
      contacts("format=csv&select=address.a%22;%20drop%20table%20x;--"),
      {},
      200,
      "",
    ],
    ["SQL in sort", contacts("sort=name;drop"), {}, 400, "unknown_field"],
    ["a filter on nothing", contacts("filter=%7B%22x%22:1%7D"), {}, 400, "unknown_field"],
    ["a filter of another type", contacts("filter=%7B%22age%22:%22x%22%7D"), {}, 400, ""],
    ["an unknown entity", `${base}/nothing/export`, {}, 404, "not_found"],
    [
      "SQL in the entity",
      `${base}/${encodeURIComponent("contacts' or true --")}/export`,
      {},
      404,
      "not_found",
    ],
    [
      "a slash in the entity",
      `${base}/${encodeURIComponent("beta/crm/contacts")}/export`,
      {},
      404,
      "not_found",
    ],
    ["another tenant", "/api/v1/sites/beta/apps/crm/contacts/export", {}, 404, "not_found"],
    ["another tenant's app", "/api/v1/sites/beta/apps/crm/export", {}, 404, "not_found"],
    ["no token", contacts(""), { as: null }, 401, "token_missing"],
    ["another method", contacts(""), { method: "POST", body: {} }, 405, "method_not_allowed"],
    ["an app as CSV", `${base}/export?format=csv`, {}, 400, "invalid_format"],
    ["an app with a filter", `${base}/export?filter=%7B%7D`, {}, 400, "unknown_parameter"],
  ])("%s: %#", async (_title, path, call, status, code) => {
    const answer = await send(path, call);
    expect([answer.status, answer.json.code ?? ""]).toEqual([status, code || (answer.json.code ?? "")]);
  });

  test("rows of others are not in it, and no role means no rows", async () => {
    expect((await send(contacts("format=ndjson"))).text).not.toContain("secret");
    const id = await crm.db.account("out@acme.test");
    await crm.db.query(
      "insert into tenancy.site_members (site_id, account_id) select id, $1 from tenancy.sites where name = 'acme'",
      [id],
    );
    const token = await crm.gateway.token("out@acme.test", "acme");
    expect((await send(contacts(""), { as: token })).text).toBe("[]\n");
  });
});

describe("an app", () => {
  test("JSON: every entity, in an order in which it can be imported", async () => {
    const answer = await send(`${base}/export`);
    const app = JSON.parse(answer.text);
    const names = Object.keys(app);
    expect(names.indexOf("companies")).toBeLessThan(names.indexOf("contacts"));
    expect(app.contacts).toHaveLength(4);
  });
  test("NDJSON: each line says its entity", async () => {
    const lines = (await send(`${base}/export?format=ndjson`)).text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(
      lines
        .filter((line) => line.entity === "contacts")
        .map((line) => line.record.name)
        .sort(),
    ).toEqual(["Ada", "Bea", "Cyd", "Dan"]);
  });
});

describe("long exports", () => {
  let other: TestGateway | undefined;
  const path = `${base}/logs/export`;
  const open = (gateway: TestGateway) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      get(`${gateway.url}${path}`, { headers: { authorization: `Bearer ${crm.tokens.ann}` } }, resolve).on(
        "error",
        reject,
      );
    });
  const start = async (env: Record<string, string>) => {
    const before = other;
    other = undefined;
    await before?.stop();
    other = await startGateway(crm.db, env);
    return other;
  };
  beforeAll(bigEntity);
  afterAll(async () => {
    await other?.stop();
    await crm.db.query("select data.drop_entity('acme/crm', 'logs')").catch(() => {});
  });

  test("a reader that goes away ends the query", async () => {
    const answer = await open(crm.gateway);
    await until(async () => (await running()) === 1);
    answer.destroy();
    await until(async () => (await running()) === 0);
    expect((await send(contacts("format=ndjson"))).status).toBe(200);
  });

  test("a reader that stops reading is cut, not waited for", async () => {
    const gateway = await start({ ROWHOUSE_TRANSFER_STALL: "1" });
    const answer = await open(gateway);
    answer.pause();
    await until(async () => (await running()) === 1);
    await until(async () => (await running()) === 0);
    answer.destroy();
  });

  test("what is cut by the time limit is no whole file: the connection breaks", async () => {
    const gateway = await start({ ROWHOUSE_TRANSFER_SECONDS: "2", ROWHOUSE_TRANSFER_STALL: "30" });
    const answer = await open(gateway);
    let bytes = 0;
    const end = new Promise<string>((done) => {
      answer.on("end", () => done("end"));
      answer.on("error", (error) => done(error.message));
    });
    answer.once("data", () => {
      answer.pause();
      void until(async () => (await running()) === 0).then(() => answer.resume());
    });
    answer.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    expect(await end).toBe("aborted");
    expect(bytes).toBeGreaterThan(1000);
  });

  test("a login's time limit for requests does not cut them", async () => {
    await crm.db.query(`alter role rowhouse_gateway in database ${crm.db.name} set statement_timeout = '2s'`);
    try {
      const gateway = await start({});
      const answer = await open(gateway);
      await sleep(2500); // longer than the limit, while PostgreSQL waits to write
      let lines = 0;
      for await (const chunk of answer) lines += String(chunk).split("{").length - 1;
      expect([answer.statusCode, lines]).toEqual([200, 300_000]);
    } finally {
      await crm.db.query(`alter role rowhouse_gateway in database ${crm.db.name} reset statement_timeout`);
    }
  });

  test("more at once than allowed are told to come back", async () => {
    const gateway = await start({ ROWHOUSE_TRANSFERS: "1" });
    const first = await open(gateway);
    first.pause();
    const second = await sendTo(gateway, crm.tokens, path);
    expect([second.status, second.json.code, second.headers["retry-after"]]).toEqual([
      503,
      "too_many_transfers",
      "5",
    ]);
    first.destroy();
    await until(async () => (await sendTo(gateway, crm.tokens, contacts("format=ndjson"))).status === 200);
  });
});

describe("rowhouse export and psql", () => {
  const out = () => {
    const chunks: Buffer[] = [];
    const stream = new Writable({
      write(chunk, _encoding, done) {
        chunks.push(chunk);
        done();
      },
    });
    return { stream, text: () => Buffer.concat(chunks).toString() };
  };
  const run = async (path: string, options: Partial<Parameters<typeof exportPath>[2]> = {}) => {
    const client = await crm.db.pool.connect();
    const { stream, text } = out();
    try {
      await exportPath(client, path, { format: "json", ...options }, stream);
      return text();
    } finally {
      client.release();
    }
  };

  test("one entity by a query, with exactly an account's rights", async () => {
    const options = {
      format: "ndjson" as const,
      select: "name",
      filter: '{"age":{"$gt":21}}',
      sort: '[{"field":"name"}]',
    };
    const both = '{"name":"Ada"}\n{"name":"Cyd"}\n';
    expect(await run("acme/crm/contacts", options)).toBe(both);
    expect(await run("acme/crm/contacts", { ...options, account: "vic@acme.test" })).toBe(both);
    await expect(run("acme/crm/contacts", { ...options, account: "bob@beta.test" })).rejects.toThrow(
      /not a member/,
    );
  });

  test("an app as a folder of CSV files, which appear when complete", async () => {
    await run("acme/crm", { format: "csv", output: join(dir, "crm") });
    expect(readdirSync(join(dir, "crm"))).toEqual(expect.arrayContaining(["companies.csv", "contacts.csv"]));
    expect(readdirSync(join(dir, "crm")).filter((name) => name.endsWith(".part"))).toEqual([]);
    expect(readFileSync(join(dir, "crm", "contacts.csv"), "utf8")).toContain("Ada");
  });

  test.each<[string, string, object, RegExp]>([
    ["no path", "acme", {}, /names neither/],
    ["an app as CSV on standard output", "acme/crm", { format: "csv" }, /--output/],
    ["a filter for an app", "acme/crm", { filter: "{}" }, /for one entity/],
    ["a filter that is no JSON", "acme/crm/contacts", { filter: "{" }, /--filter is not valid JSON/],
    ["an unknown app", "acme/none", {}, /There is no app/],
    ["an unknown entity", "acme/crm/none", {}, /There is no entity/],
  ])("%s is refused", async (_title, path, options, message) => {
    await expect(run(path, options)).rejects.toThrow(message);
  });

  test("psql gets the statement, and its literals are quoted", async () => {
    await crm.db.as("acme", "vic@acme.test", async (client) => {
      const { rows } = await client.query(
        "select data.export_statement('acme/crm/contacts', 'csv', $1) as sql",
        [{ filter: { name: "x' or true; drop table y --" } }],
      );
      expect(rows[0].sql).toContain("'x'' or true; drop table y --'::text");
      for (const app of ["beta/crm/contacts", "beta/crm"])
        expect((await refusal(client.query("select data.export_statement($1)", [app]))).code).toBe("RH404");
      expect((await refusal(client.query("select data.export_entities('beta/crm')"))).code).toBe("RH404");
    });
  });
});
