import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { to as copyTo } from "pg-copy-streams";
import { exportPath } from "../server/cli/export.ts";
import { type Answer, type Call, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// What was promised: whichever door shows records of an entity whose reads are recorded, the log tells by their ids which.

type Entry = { action: string; account: string; object: string; new: { of: string; records: string[] } };
let crm: Crm;
let gateway: TestGateway;
const ids: Record<string, string> = {};
const app = "/api/v1/sites/acme/apps/crm";
const send = (to: string, call?: Call): Promise<Answer> => sendTo(gateway, crm.tokens, app + to, call);
const graphql = (query: string, as = "ann") => send("/graphql", { method: "POST", as, body: { query } });
const psql = (sql: string, values: unknown[] = [], email = "ann@acme.test", site = "acme") =>
  crm.db.as(site, email, (client) => client.query(sql, values).then(({ rows }) => rows));
const seen = async (query: object = {}): Promise<Entry[]> => {
  const [row] = await crm.db.query<{ r: { data: Entry[] } }>("select audit.search('acme', $1) as r", [
    { action: "seen", limit: "1000", ...query },
  ]);
  return row?.r.data ?? [];
};
const nameOf = (id: string) => Object.keys(ids).find((name) => ids[name] === id) ?? id;
/** What the log tells a read added, newest last: "search wards W1". */
async function told(read: () => Promise<unknown>): Promise<string[]> {
  const before = (await seen()).length;
  const answer = await read();
  if (answer && typeof answer === "object" && "status" in answer) {
    const { status, text } = answer as Answer;
    expect([status, text.includes('"errors"') ? text : ""]).toEqual([200, ""]);
  }
  const after = await seen();
  return after
    .slice(0, after.length - before)
    .map(
      (entry) =>
        `${entry.new.of} ${entry.object.split("/").pop()} ${entry.new.records.map(nameOf).sort().join(" ")}`,
    )
    .sort();
}
const q = (query: object) => `?${new URLSearchParams(Object.entries(query)).toString()}`;

const audited = { type: "object", "x-audit": { reads: true } };
beforeAll(async () => {
  crm = await startCrm();
  gateway = await startGateway(crm.db, {}, 5, true);
  await crm.db.account("mel@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'mel@acme.test', null)");
  crm.tokens.mel = await gateway.token("mel@acme.test", "acme");
  const define = (name: string, schema: object) =>
    crm.db.query("select data.define_entity('acme/crm', $1, $2)", [name, schema]);
  await define("wards", {
    ...audited,
    properties: { name: { type: "string", "x-search": true }, floor: { type: "integer" } },
  });
  await define("patients", {
    ...audited,
    "x-soft-delete": true,
    "x-history": true,
    properties: {
      name: { type: "string", "x-search": true },
      ward_id: { type: "string", format: "uuid", "x-relation": { entity: "wards", field: "id" } },
      pin: { type: "string", "x-pii": true },
    },
  });
  await define("visits", {
    type: "object",
    properties: {
      name: { type: "string", "x-search": true },
      patient_id: { type: "string", format: "uuid", "x-relation": { entity: "patients", field: "id" } },
    },
  });
  const make = async (entity: string, body: Record<string, unknown>) => {
    const [row] = await crm.db.query<{ r: { id: string } }>("select data.insert($1, $2) as r", [
      `acme/crm/${entity}`,
      body,
    ]);
    ids[body.name as string] = row?.r.id ?? "";
  };
  for (const [name, floor] of [
    ["W1", 1],
    ["W2", 2],
  ])
    await make("wards", { name, floor });
  await make("patients", { name: "Ada", ward_id: ids.W1 });
  await make("patients", { name: "Bea", ward_id: ids.W1 });
  await make("patients", { name: "Cyd" });
  await make("visits", { name: "V1", patient_id: ids.Ada });
  await make("visits", { name: "V2", patient_id: ids.Ada });
  await make("visits", { name: "V3" });
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

describe("over REST and in psql", () => {
  const find = (entity: string, query: object) =>
    psql("select data.find($1, $2)", [`acme/crm/${entity}`, query]);
  test.each<[door: string, read: () => Promise<unknown>, told: string[]]>([
    [
      "what a list embeds",
      () => send(`/patients${q({ sort: "name", expand: "ward" })}`),
      ["list patients Ada Bea Cyd", "related wards W1"],
    ],
    [
      "what a record embeds, and what that embeds",
      () => send(`/visits/${ids.V1}?expand=patient.ward`),
      ["related patients Ada", "related wards W1"],
    ],
    [
      "many that a record embeds",
      () => send(`/wards/${ids.W1}?expand=patients`),
      ["record wards W1", "related patients Ada Bea"],
    ],
    [
      "in many in a list",
      () => send(`/wards${q({ sort: "-name", expand: "patients.visits,patients.ward" })}`),
      ["list wards W1 W2", "related patients Ada Bea", "related wards W1"],
    ],
    [
      "only those of the page",
      () => send(`/patients${q({ sort: "-name", expand: "ward", limit: 1 })}`),
      ["list patients Cyd"],
    ],
    [
      "by a path in select",
      () => send(`/visits${q({ select: "id,patient.ward.name" })}`),
      ["related patients Ada", "related wards W1"],
    ],
    [
      "by a path of one record",
      () => send(`/visits/${ids.V2}?select=patient.name`),
      ["related patients Ada"],
    ],
    [
      "by a sort, whose values cursors hold",
      () => send(`/visits${q({ select: "id", sort: "patient.name", limit: 1 })}`),
      ["related patients Ada"],
    ],
    [
      "expand in data.find",
      () => find("visits", { expand: ["patient"], filter: { name: "V1" } }),
      ["related patients Ada"],
    ],
    [
      "expand in data.get",
      () => psql("select data.get('acme/crm/visits', $1, $2)", [ids.V1, { expand: ["patient"] }]),
      ["related patients Ada"],
    ],
    ["a search of an entity", () => send("/patients?q=ada"), ["search patients Ada"]],
    ["q in data.find", () => find("patients", { q: "bea" }), ["search patients Bea"]],
    [
      "a search over the app",
      () => send(`/search${q({ q: "w1 or ada or v1" })}`),
      ["search patients Ada", "search wards W1"],
    ],
    ["of one entity", () => send(`/search${q({ q: "w1 or ada", entities: "wards" })}`), ["search wards W1"]],
    [
      "data.search",
      () => psql(`select data.search('acme/crm', '{"q": "w1 or ada"}')`),
      ["search patients Ada", "search wards W1"],
    ],
    ["a search that finds nothing", () => send("/search?q=nobody"), []],
    [
      "a union",
      () => send(`/query${q({ entities: "wards,patients,visits", sort: "name" })}`),
      ["union patients Ada Bea Cyd", "union wards W1 W2"],
    ],
    [
      "a page of it",
      () => send(`/query${q({ entities: "wards,patients", sort: "name", limit: 2, offset: 2 })}`),
      ["union patients Cyd", "union wards W1"],
    ],
    [
      "related fields in it",
      () =>
        send(
          `/query${q({ entities: "visits,patients", select: "name,ward.name,patient.name", nullable: "ward.name,patient.name", sort: "name", filter: '{"name":{"$in":["Ada","V2"]}}' })}`,
        ),
      ["related patients Ada", "related wards W1", "union patients Ada"],
    ],
    [
      "data.find_union",
      () =>
        psql(
          `select data.find_union('acme/crm', '{"entities": ["wards", "visits"], "sort": [{"field": "name"}]}')`,
        ),
      ["union wards W1 W2"],
    ],
    ["an aggregate shows no record", () => send("/patients/aggregate"), []],
    ["nor does one of a union", () => send("/query/aggregate?entities=wards,patients"), []],
  ])("%s", async (_door, read, entries) => {
    expect(await told(read)).toEqual(entries);
  });
});

describe("over GraphQL", () => {
  test.each<[door: string, query: string, told: string[]]>([
    ["a list", "{ patients(orderBy: NAME_ASC) { nodes { name } } }", ["graphql patients Ada Bea Cyd"]],
    [
      "a page of it",
      "{ patients(orderBy: NAME_ASC, first: 1, offset: 1) { nodes { pin } } }",
      ["graphql patients Bea"],
    ],
    ["a record", "{ patient(id: $Ada) { name ward_: wardId } }", ["graphql patients Ada"]],
    [
      "one place after the other, and one entry each",
      "{ a: patients(first: 1, orderBy: NAME_ASC) { nodes { name id } } b: patients(first: 1, orderBy: NAME_DESC) { nodes { name } } }",
      ["graphql patients Ada Cyd"],
    ],
    [
      "related records, both ways",
      "{ wards(orderBy: NAME_ASC) { nodes { name patients { nodes { name visits { nodes { name } } } } } } }",
      ["graphql patients Ada Bea", "graphql wards W1 W2"],
    ],
    [
      "of an entity whose reads are not recorded",
      "{ visits { nodes { name patient { ward { name } } } } }",
      ["graphql wards W1"],
    ],
    [
      "edges",
      '{ patients(filter: {name: {equalTo: "Bea"}}) { edges { node { name } } } }',
      ["graphql patients Bea"],
    ],
    [
      "cursors alone, which hold values",
      "{ patients(orderBy: NAME_ASC, first: 2) { edges { cursor } } }",
      ["graphql patients Ada Bea"],
    ],
    [
      "those of the page",
      "{ patients(orderBy: NAME_ASC, first: 2) { pageInfo { endCursor } } }",
      ["graphql patients Bea"],
    ],
    [
      "its first",
      "{ patients(orderBy: NAME_DESC) { pageInfo { startCursor hasNextPage } } }",
      ["graphql patients Cyd"],
    ],
    [
      "fragments and aliases",
      "query ($x: Boolean = true) { p: patients(first: 1, orderBy: NAME_ASC) { ...f } } fragment f on PatientConnection { nodes @include(if: $x) { n: name } }",
      ["graphql patients Ada"],
    ],
    ["a search of an entity", '{ patients(search: "ada") { nodes { name } } }', ["graphql patients Ada"]],
    [
      "a search over the app",
      '{ search(q: "w1 or ada or v1") { title } }',
      ["search patients Ada", "search wards W1"],
    ],
    ["a union", '{ findUnion(entities: ["wards", "visits"]) { nodes { entity } } }', ["union wards W1 W2"]],
    [
      "records as they were",
      "{ patientsAsOf(at: $now) { nodes { name } } }",
      ["graphql patients Ada Bea Cyd"],
    ],
    ["a record as it was", "{ patientAsOf(id: $Ada, at: $now) { name } }", ["graphql patients Ada"]],
    ["how many there are shows none", "{ patients { totalCount aggregates { count } } }", []],
    ["nor does a list of nothing but types", "{ patients { nodes { __typename } } }", []],
    [
      "nor one that finds nothing",
      '{ patients(filter: {name: {equalTo: "x"}}) { nodes { name } pageInfo { endCursor } } patient(id: $ghost) { name } }',
      [],
    ],
    ["what is not recorded", "{ visits { nodes { name } pageInfo { endCursor } } }", []],
  ])("%s", async (_door, query, entries) => {
    const filled = query
      .replaceAll("$Ada", JSON.stringify(ids.Ada))
      .replaceAll("$ghost", JSON.stringify("0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b"))
      .replaceAll("$now", JSON.stringify(new Date().toISOString()));
    expect(await told(() => graphql(filled))).toEqual(entries);
  });

  test("what cannot be recorded is not shown", async () => {
    await crm.db.query("alter function audit.note_seen rename to note_seen_");
    try {
      const { text } = await graphql(
        "{ patients { nodes { name ward { name } } edges { cursor } pageInfo { endCursor } } }",
      );
      expect(text).not.toMatch(/Ada|Bea|W1/);
      expect(JSON.parse(text)).toMatchObject({
        data: { patients: { nodes: [{ name: null }, {}, {}], pageInfo: { endCursor: null } } },
      });
    } finally {
      await crm.db.query("alter function audit.note_seen_ rename to note_seen");
    }
  });
});

describe("exports", () => {
  /** As psql's \gexec does. */
  const gexec = (call: string) =>
    crm.db.as("acme", "ann@acme.test", async (client) => {
      const { rows } = await client.query(`select data.export_statement(${call}) as sql`);
      return text(client.query(copyTo(rows[0].sql)));
    });
  test.each<[door: string, read: () => Promise<unknown>, told: string[]]>([
    ["JSON", () => send("/patients/export"), ["export patients Ada Bea Cyd"]],
    [
      "CSV by a filter, of other fields",
      () =>
        send(
          `/patients/export${q({ format: "csv", select: "name", filter: '{"name":{"$in":["Ada","x"]}}' })}`,
        ),
      ["export patients Ada"],
    ],
    [
      "NDJSON, in an order, and what a path reaches",
      () =>
        send(
          `/visits/export${q({ format: "ndjson", select: "name,patient.name,patient.ward.name", sort: "-name" })}`,
        ),
      ["related patients Ada", "related wards W1"],
    ],
    ["a whole app", () => send("/export"), ["export patients Ada Bea Cyd", "export wards W1 W2"]],
    ["nothing", () => send(`/patients/export${q({ filter: '{"name":"nobody"}' })}`), []],
    [
      "psql, by data.export_statement",
      () => gexec(`'acme/crm/patients', 'csv', '{"filter": {"name": "Bea"}}'`),
      ["export patients Bea"],
    ],
    [
      "psql, JSON with a path",
      () => gexec(`'acme/crm/visits', 'json', '{"select": ["patient.name"]}'`),
      ["related patients Ada"],
    ],
    [
      "rowhouse export",
      async () => {
        const client = await crm.db.pool.connect();
        const out = new PassThrough();
        try {
          await exportPath(client, "acme/crm/wards", { format: "json" }, out);
        } finally {
          client.release();
        }
      },
      ["export wards W1 W2"],
    ],
  ])("%s", async (_door, read, entries) => {
    expect(await told(read)).toEqual(entries);
  });

  test("names them by the reader, who sees some, and only those", async () => {
    await crm.db.query(
      "select access.define_role('acme', $1), access.assign_role('acme', 'mel@acme.test', 'first_floor')",
      [{ name: "first_floor", permissions: [{ permission: "crm/wards:read", condition: "floor = 1" }] }],
    );
    expect(await told(() => send("/wards/export", { as: "mel" }))).toEqual(["export wards W1"]);
    expect(await told(() => send(`/search${q({ q: "w1 or w2" })}`, { as: "mel" }))).toEqual([
      "search wards W1",
    ]);
    expect((await seen())[0]?.account).toBe("mel@acme.test");
    expect(await told(() => send("/query?entities=wards", { as: "mel" }))).toEqual(["union wards W1"]);
  });

  test("what was begun is known, also when the reader leaves", async () => {
    await crm.db.query("select data.define_entity('acme/crm', 'logs', $1)", [
      { ...audited, properties: { text: { type: "string" } } },
    ]);
    await crm.db.query(`insert into acme_crm.logs_jsonb (data)
      select jsonb_build_object('text', repeat('x', 4000)) from generate_series(1, 3500) n`);
    const before = (await seen({ object: "acme/crm/logs" })).length;
    const response = await new Promise<IncomingMessage>((done) =>
      get(
        `${gateway.url}${app}/logs/export`,
        { headers: { authorization: `Bearer ${crm.tokens.ann}` } },
        done,
      ),
    );
    await once(response, "data");
    response.destroy();
    const entries = await seen({ object: "acme/crm/logs" });
    expect(entries.length - before).toBe(4);
    expect(Math.max(...entries.map(({ new: { records } }) => records.length))).toBe(1_000);
    expect(new Set(entries.flatMap(({ new: { records } }) => records)).size).toBe(3_500);
  });

  test("one who cannot be recorded cannot export, and nobody notes what they may not see", async () => {
    const sql = (await psql("select data.export_statement('acme/crm/patients') as sql"))[0].sql;
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query("begin read only");
      const read = text(client.query(copyTo(sql))).finally(() => client.query("rollback"));
      expect(await refusal(read)).toMatchObject({ code: "RH403", detail: { code: "read_only" } });
    });
    const before = (await seen()).length;
    expect(
      await refusal(psql("select data.note_export('acme/crm/patients')", [], "bob@beta.test", "beta")),
    ).toMatchObject({ code: "RH404" });
    for (const query of [
      `{"select": ["name') from x; --"]}`,
      `{"filter": {"'; drop table x": 1}}`,
      '{"select": ["ward.x"]}',
    ])
      expect((await refusal(psql("select data.note_export('acme/crm/patients', $1)", [query]))).code).toBe(
        "RH400",
      );
    expect((await seen()).length).toBe(before);
  });
});
