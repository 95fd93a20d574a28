import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";
import { guideText } from "./harness/guide.ts";

// What an author was promised: what REST can, GraphQL can, as far as a sort reaches, in transactions, counts and groups.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
const ask = (query: string, variables: object = {}, as = "ann@acme.test") =>
  graphql.ask("acme/crm", as, query, variables);
const data = async (query: string, variables: object = {}, as?: string) => {
  const answer = await ask(query, variables, as);
  expect(answer.errors).toEqual([]);
  return answer.data;
};
const relation = (entity: string, more: object = {}) => ({
  type: "string",
  format: "uuid",
  "x-relation": { entity, ...more },
});
const text = { type: "string" };
const nobody = "00000000-0000-4000-8000-000000000000";

beforeAll(async () => {
  crm = await startCrm();
  for (const [name, schema] of Object.entries({
    regions: { properties: { name: text } },
    cities: { properties: { name: text, region_id: relation("regions") } },
    firms: { "x-storage": "flat", properties: { name: text, city_id: relation("cities") } },
    marks: { properties: { name: text } },
    workers: {
      properties: {
        name: { ...text, "x-unique": true },
        firm_id: relation("firms"),
        boss_id: relation("workers", { name: "boss", inverse: "team" }),
        home: { type: "object", properties: { street: text } },
        mark_ids: { "x-relation": { entity: "marks", many: true } },
      },
    },
  }))
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      name,
      { type: "object", ...schema },
    ]);
  const insert = async (entity: string, records: object[]) =>
    (
      await crm.db.query<{ id: string }>(
        "select r.v->>'id' as id from jsonb_array_elements(data.insert($1, $2)) with ordinality r (v, n) order by n",
        [`acme/crm/${entity}`, JSON.stringify(records)],
      )
    ).map(({ id }) => id);
  const [north, south] = await insert("regions", [{ name: "North" }, { name: "South" }]);
  const [alta, nice] = await insert("cities", [
    { name: "Alta", region_id: north },
    { name: "Nice", region_id: south },
    { name: "Adrift" },
  ]);
  const [one, two, three] = await insert("firms", [
    { name: "One", city_id: alta },
    { name: "Two", city_id: nice },
    { name: "Three" },
  ]);
  const [boss] = await insert("workers", [{ name: "Ada", firm_id: two, home: { street: "B" } }]);
  await insert("workers", [
    { name: "Bea", firm_id: one, boss_id: boss, home: { street: "A" } },
    { name: "Cyd", firm_id: two, boss_id: boss },
    { name: "Dan", firm_id: three },
    { name: "Eli" },
    { name: "Fay", firm_id: one },
  ]);
  await crm.db.query("select access.create_role('acme', 'staff-only', array['crm/workers:read'])");
  await crm.db.account("kim@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'kim@acme.test', 'staff-only')");
  graphql = await startGraphql(crm.db);
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

type Page = { nodes: { name: string }[]; pageInfo: Record<string, string> };
const list =
  "query ($sort: [WorkerSort!], $first: Int = 100, $last: Int, $after: Cursor, $before: Cursor) { workers(sort: $sort, first: $first, last: $last, after: $after, before: $before) { totalCount nodes { name } pageInfo { startCursor endCursor hasNextPage hasPreviousPage } } }";

describe("sort reaches as far as REST's", () => {
  test.each<[object[], string]>([
    [[{ name: "DESC" }], "-name"],
    [[{ firm: { name: "ASC" } }, { name: "ASC" }], "firm.name,name"],
    [[{ firm: { city: { name: "ASC" } } }, { name: "DESC" }], "firm.city.name,-name"],
    [[{ firm: { city: { region: { name: "DESC" } } } }, { name: "ASC" }], "-firm.city.region.name,name"],
    [
      [{ boss: { firm: { city: { region: { name: "ASC" } } } } }, { name: "ASC" }],
      "boss.firm.city.region.name,name",
    ],
    [
      [{ firm: { city: { name: "ASC" } } }, { firm: { city: { region: { name: "ASC" } } } }, { id: "ASC" }],
      "firm.city.name,firm.city.region.name,id",
    ],
  ])("%j is sort=%s, page by page in both directions", async (sort, rest) => {
    const names = (await crm.send(`${base}/workers?limit=100&sort=${rest}`)).json.data.map(
      ({ name }) => name,
    );
    expect(names).toHaveLength(6);
    for (const size of [1, 2, 4]) {
      const seen: string[] = [];
      const back: string[] = [];
      for (let after: string | null = null, more = true; more && seen.length < 10; ) {
        const { nodes, pageInfo }: Page = (await data(list, { sort, first: size, after })).workers;
        seen.push(...nodes.map(({ name }) => name));
        after = pageInfo.endCursor ?? null;
        more = Boolean(pageInfo.hasNextPage);
      }
      for (let before: string | null = null, more = true; more && back.length < 10; ) {
        const page = (await data(list, { sort, first: null, last: size, before })).workers as Page;
        back.unshift(...page.nodes.map(({ name }) => name));
        before = page.pageInfo.startCursor ?? null;
        more = Boolean(page.pageInfo.hasPreviousPage);
      }
      expect([size, seen, back]).toEqual([size, names, names]);
    }
    expect((await data(list, { sort, first: 1 })).workers.totalCount).toBe(6);
  });

  test("literals, lists within records and orderBy before it", async () => {
    const answer = await data(
      `{ workers(orderBy: FIRM__NAME_ASC, sort: [{name: DESC}], first: 3) { nodes { name } }
         firms(sort: {name: ASC}) { nodes { name workers(sort: [{boss: {name: DESC}}, {name: ASC}]) { nodes { name } } } } }`,
    );
    expect(answer.workers.nodes.map(({ name }: { name: string }) => name).join(" ")).toBe("Fay Bea Dan");
    expect(answer.firms.nodes).toEqual([
      { name: "One", workers: { nodes: [{ name: "Fay" }, { name: "Bea" }] } },
      { name: "Three", workers: { nodes: [{ name: "Dan" }] } },
      { name: "Two", workers: { nodes: [{ name: "Ada" }, { name: "Cyd" }] } },
    ]);
  });

  test("pages of lists within records, and orders written in the document", async () => {
    const team = async (args: string, variables: object = {}, types = "") =>
      (
        await data(
          `query ${types} { workers(filter: {name: {equalTo: "Ada"}}){ nodes { team(${args}) { totalCount nodes { name } pageInfo { endCursor hasNextPage } } } } }`,
          variables,
        )
      ).workers.nodes[0].team;
    for (const by of ["orderBy: FIRM__NAME_DESC", "orderBy: [NAME_DESC]", "sort: {firm: {name: DESC}}"]) {
      const first = await team(`${by}, first: 1`);
      expect(first).toMatchObject({
        totalCount: 2,
        nodes: [{ name: "Cyd" }],
        pageInfo: { hasNextPage: true },
      });
      const { endCursor } = first.pageInfo;
      for (const rest of [
        await team(`${by}, first: 1, after: "${endCursor}"`),
        await team(`${by}, first: 1, after: $after`, { after: endCursor }, "($after: Cursor)"),
      ])
        expect(rest).toMatchObject({
          totalCount: 2,
          nodes: [{ name: "Bea" }],
          pageInfo: { hasNextPage: false },
        });
    }
  });

  test("what the reader may not see counts as null", async () => {
    const seen = async (sort: object[]) =>
      (await data(list, { sort }, "kim@acme.test")).workers.nodes.map(({ name }: { name: string }) => name);
    const byName = await seen([{ name: "ASC" }]);
    for (const way of ["ASC", "DESC"])
      expect(await seen([{ firm: { city: { region: { name: way } } } }, { name: "ASC" }])).toEqual(byName);
  });

  const far = { boss: { boss: { boss: { boss: { boss: { name: "ASC" } } } } } };
  test.each<[string, object[], string]>([
    ["two fields in one", [{ name: "ASC", id: "ASC" }], "Exactly one key"],
    ["none", [{}], "Exactly one key"],
    ["null", [{ name: null }], "must be non-null|names one field"],
    ["no such field", [{ secret: "ASC" }], 'Field "secret" is not defined'],
    ["a relation to many", [{ team: { name: "ASC" } }], 'Field "team" is not defined'],
    ["SQL", [{ name: "ASC; drop table x" }], 'does not exist in "SortDirection" enum'],
    ["a list of ids", [{ markIds: "ASC" }], 'Field "markIds" is not defined'],
  ])("%s is refused", async (_title, sort, message) => {
    const { errors } = await ask(list, { sort });
    expect(errors[0]).toMatchObject({
      message: expect.stringMatching(new RegExp(message)),
      extensions: { status: 400 },
    });
  });

  const nine = Array.from({ length: 9 }, () => "name");
  test.each<[string, object[], string]>([
    ["five relations", [far], "boss.boss.boss.boss.boss.name"],
    ["nine fields", nine.map((name) => ({ [name]: "ASC" })), nine.join(",")],
  ])("%s are refused in the words of REST, which are SQL's", async (_title, sort, rest) => {
    const refused = await crm.send(`${base}/workers?sort=${rest}`);
    const problem = refused.json as unknown as Record<string, unknown>;
    expect(refused.status).toBe(400);
    expect((await ask(list, { sort })).errors).toMatchObject([
      { message: problem.detail, extensions: { status: 400, code: problem.code, hint: problem.hint } },
    ]);
  });

  test("eight fields and four relations are not too many", async () => {
    const sort = [far.boss, ...nine.slice(2).map((name) => ({ [name]: "DESC" }))];
    expect((await ask(list, { sort })).errors).toEqual([]);
  });

  test("a cursor of another order, or made up, is refused and says what to do", async () => {
    const by = async (sort: object[], after?: string) => await ask(list, { sort, first: 1, after });
    const foreign = (await by([{ firm: { name: "ASC" } }])).data.workers.pageInfo.endCursor;
    const own = (await by([{ name: "ASC" }])).data.workers.pageInfo.endCursor;
    const [digest] = JSON.parse(Buffer.from(own, "base64").toString());
    const made = (...values: unknown[]) => Buffer.from(JSON.stringify(values)).toString("base64");
    for (const cursor of [
      foreign,
      "x",
      "",
      made(digest),
      made(digest, {}, nobody),
      made(digest, "a", "b", "c"),
    ])
      expect((await by([{ name: "ASC" }], cursor)).errors).toMatchObject([
        { extensions: { status: 400, code: "invalid_cursor", hint: expect.stringContaining("endCursor") } },
      ]);
    expect((await by([{ name: "ASC" }], made(digest, "a", "'; drop table x"))).errors).toMatchObject([
      { extensions: { status: 400 } },
    ]);
    expect((await by([{ name: "ASC" }], made(digest, "Ada'; --", nobody))).errors).toEqual([]);
  });
});

describe("lists of links are lists of UUIDs", () => {
  test("in every input and in what is answered", async () => {
    const type = (
      await data(
        '{ __type(name: "WorkerInput") { inputFields { name type { kind ofType { kind ofType { name } } } } } }',
      )
    ).__type.inputFields.find(({ name }: { name: string }) => name === "markIds");
    expect(type.type).toEqual({ kind: "LIST", ofType: { kind: "NON_NULL", ofType: { name: "UUID" } } });
    const [a, b] = (
      await data('mutation { createMarks(input: {records: [{name: "a"}, {name: "b"}]}) { records { id } } }')
    ).createMarks.records.map(({ id }: { id: string }) => id);
    const created = await data(
      'mutation ($ids: [UUID!]) { createWorker(input: {worker: {name: "Gus", markIds: $ids}}) { worker { id markIds marks { nodes { name } } } } }',
      { ids: [b, a] },
    );
    const { id } = created.createWorker.worker;
    expect(created.createWorker.worker).toMatchObject({
      markIds: [b, a],
      marks: { nodes: [{ name: "b" }, { name: "a" }] },
    });
    const set = async (markIds: unknown) =>
      await ask(
        "mutation ($id: UUID!, $patch: WorkerPatch!) { updateWorker(input: {id: $id, patch: $patch}) { worker { markIds } } }",
        { id, patch: { markIds } },
      );
    expect((await set([a])).data.updateWorker.worker).toEqual({ markIds: [a] });
    expect((await set(null)).data.updateWorker.worker).toEqual({ markIds: [] });
    expect((await set(a)).data.updateWorker.worker).toEqual({ markIds: [a] });
    for (const wrong of [["'; drop table x"], { a }, [null], 7])
      expect([wrong, (await set(wrong)).errors]).toMatchObject([wrong, [{ extensions: { status: 400 } }]]);
    expect((await set([a, a])).errors).toMatchObject([
      { extensions: { status: 422, errors: [{ pointer: "/mark_ids" }] } },
    ]);
    expect((await set([nobody])).errors).toMatchObject([
      { extensions: { status: 422, code: "missing_reference" } },
    ]);
    const batch = await data(
      `mutation ($a: UUID!, $b: UUID!) {
        createWorkers(input: {records: [{name: "Hal", markIds: [$a, $b]}]}) { records { markIds } }
        upsertWorkers(input: {key: ["name"], records: [{name: "Hal", markIds: [$b]}]}) { updated records { markIds } }
        updateWorkers(input: {filter: {marks: {some: {id: {in: [$b]}}}}, patch: {markIds: [$a]}, max: 5}) { updated }
      }`,
      { a, b },
    );
    expect(batch).toMatchObject({
      createWorkers: { records: [{ markIds: [a, b] }] },
      upsertWorkers: { updated: 1, records: [{ markIds: [b] }] },
      updateWorkers: { updated: 1 },
    });
    const found = await data(
      "query ($a: UUID!) { workers(filter: {marks: {some: {id: {equalTo: $a}}}}, sort: [{name: ASC}]) { nodes { name } } }",
      { a },
    );
    expect(found.workers.nodes).toEqual([{ name: "Gus" }, { name: "Hal" }]);
    await data(
      'mutation { deleteWorkers(input: {filter: {name: {in: ["Gus", "Hal"]}}, max: 2}) { deleted } }',
    );
  });
});

describe("transactions", () => {
  const run = async (operations: unknown, as?: string) =>
    await ask(
      "mutation ($operations: [JSON!]!) { transaction(operations: $operations) }",
      { operations },
      as,
    );

  test("several operations with references between them, all or nothing", async () => {
    const done = await run([
      { operation: "insert", entity: "firms", data: { name: "Nine" }, as: "firm" },
      {
        operation: "upsert",
        entity: "workers",
        key: ["name"],
        data: { name: "Ian", firm_id: { $ref: "firm.id" } },
        as: "ian",
      },
      {
        operation: "update",
        entity: "workers",
        id: { $ref: "ian.id" },
        version: 1,
        data: { home: { street: "9" } },
      },
      { operation: "delete", entity: "workers", id: { $ref: "ian.id" } },
    ]);
    expect(done.errors).toEqual([]);
    expect(done.data.transaction).toMatchObject([
      { name: "Nine" },
      { name: "Ian" },
      { home: { street: "9" }, version: 2 },
      null,
    ]);
    const failed = await run([
      { operation: "insert", entity: "firms", data: { name: "Ten" } },
      { operation: "insert", entity: "workers", data: { name: "Ada" } },
    ]);
    expect(failed.data.transaction).toBeNull();
    expect(failed.errors).toMatchObject([
      { extensions: { status: 409, errors: [{ pointer: "/operations/1/data/name" }] } },
    ]);
    expect((await data('{ firms(filter: {name: {equalTo: "Ten"}}) { totalCount } }')).firms.totalCount).toBe(
      0,
    );
  });

  test.each<[string, unknown, number]>([
    ["an unknown operation", [{ operation: "drop", entity: "firms" }], 400],
    ["another tenant's app", [{ operation: "insert", entity: "../beta/contacts", data: {} }], 404],
    [
      "a reference to nothing",
      [{ operation: "insert", entity: "firms", data: { name: { $ref: "x.id" } } }],
      422,
    ],
    ["no object", ["insert"], 400],
    [
      "too many",
      Array.from({ length: 1001 }, () => ({ operation: "insert", entity: "firms", data: {} })),
      413,
    ],
  ])("%s is refused", async (_title, operations, status) => {
    expect((await run(operations)).errors).toMatchObject([{ extensions: { status } }]);
  });

  test("in the document itself, and what is too deep, empty or null", async () => {
    const written = await data(
      'mutation { transaction(operations: [{operation: "insert", entity: "firms", data: {name: "Doc", city_id: null}, as: "d"}]) }',
    );
    expect(written.transaction).toMatchObject([{ name: "Doc" }]);
    await data(
      'mutation { deleteFirms(input: {filter: {name: {in: ["Doc", "Nine"]}}, max: 2}) { deleted } }',
    );
    expect((await run([])).data.transaction).toEqual([]);
    for (const none of [null, [null]]) expect((await run(none)).errors[0]?.extensions.status).toBe(400);
    let deep: unknown = 1;
    for (let n = 0; n < 3_000; n++) deep = { deep };
    const { status, errors } = await run([{ operation: "insert", entity: "firms", data: { name: deep } }]);
    expect([status, errors[0]?.extensions.status]).toEqual([200, 422]);
    let far: unknown = { name: "ASC" };
    for (let n = 0; n < 3_000; n++) far = { boss: far };
    expect((await ask(list, { sort: [far] })).errors[0]?.extensions.status).toBe(400);
  });

  test("nobody writes what they may not", async () => {
    const operations = [{ operation: "insert", entity: "firms", data: { name: "Mine" } }];
    expect((await run(operations, "vic@acme.test")).errors).toMatchObject([{ extensions: { status: 403 } }]);
  });
});

test("estimates count as count=estimated does, of what the reader may see", async () => {
  const answer = await data(
    `query ($f: WorkerFilter) { all: workersEstimate { count isEstimate } some: workersEstimate(filter: $f) { count }
      none: firmsEstimate(filter: {name: {equalTo: "'; drop table x"}}) { count } }`,
    { f: { firm: { city: { name: { equalTo: "Alta" } } } } },
  );
  expect(answer).toEqual({
    all: { count: 6, isEstimate: false },
    some: { count: 2 },
    none: { count: 0 },
  });
  expect(await data("{ firmsEstimate { count } workersEstimate { count } }", {}, "kim@acme.test")).toEqual({
    firmsEstimate: { count: 0 },
    workersEstimate: { count: 6 },
  });
});

test("estimates without a filter, and in place of nothing", async () => {
  expect(
    (await data("query ($f: WorkerFilter) { workersEstimate(filter: $f) { count } }", { f: null }))
      .workersEstimate.count,
  ).toBe(6);
  for (const filter of ["{name: null}", "{name: {equalTo: null}}", '{name: {matchesNothing: "x"}}'])
    expect((await ask(`{ workersEstimate(filter: ${filter}) { count } }`)).errors[0]?.extensions.status).toBe(
      400,
    );
});

test("data.replace unsets what is not given, if it has the version that was seen", async () => {
  const text = await crm.db.as("acme", "ann@acme.test", async (client) => {
    const { rows } = await client.query(
      `with made as (select data.insert('acme/crm/firms', '{"name": "R"}') as r)
       select r->>'id' as id from made`,
    );
    const replaced = await client.query("select data.replace('acme/crm/firms', $1, '{}', 1) as r", [
      rows[0].id,
    ]);
    const again = await client
      .query("select data.replace('acme/crm/firms', $1, '{}', 1) as r", [rows[0].id])
      .catch((error) => error.code);
    return [replaced.rows[0].r.name, replaced.rows[0].r.version, again];
  });
  expect(text).toEqual([null, 2, "RH409"]);
});

test("groups by related records and values inside objects: a union of one entity", async () => {
  const answer = await data(
    `query ($filter: JSON) {
      aggregateUnion(entities: ["workers"], group: ["firm.city.name"], aggregate: ["count"], sort: [{field: "firm.city.name"}]) { nodes }
      findUnion(entities: ["workers"], select: ["name", "home.street"], filter: $filter, sort: [{field: "home.street"}]) { nodes { fields } } }`,
    { filter: { "home.street": { $gte: "A" } } },
  );
  expect(answer.aggregateUnion.nodes).toEqual([
    { "firm.city.name": "Alta", count: 2 },
    { "firm.city.name": "Nice", count: 2 },
    { "firm.city.name": null, count: 2 },
  ]);
  expect(answer.findUnion.nodes.map(({ fields }: { fields: { name: string } }) => fields.name)).toEqual([
    "Bea",
    "Ada",
  ]);
});

describe("what a newcomer types first is answered with what there is", () => {
  test.each<[string, string]>([
    ["{ workers(where: {}) { nodes { id } } }", "workers takes first, last, offset, "],
    ['{ worker(name: "Ada") { id } }', "worker takes id."],
    ['{ workers(filter: {name: {_eq: "Ada"}}) { nodes { id } } }', "StringFilter has isNull, equalTo, "],
    ['{ workers(filter: {name: "Ada"}) { nodes { id } } }', "StringFilter has isNull, equalTo, "],
    ["{ workers { name } }", "WorkerConnection has "],
    ["{ employees { nodes { name } } }", "Query has "],
    ["{ workers(sort: [{firm: {name: UP}}]) { nodes { id } } }", "SortDirection is ASC, DESC."],
    ["{ workers(sort: [{secret: ASC}]) { nodes { id } } }", "WorkerSort has id, "],
    ["mutation { insert_workers(objects: []) { id } }", "Mutation has "],
  ])("%s", async (query, hint) => {
    const { status, errors } = await ask(query);
    expect(status).toBe(400);
    expect(errors[0]?.extensions).toMatchObject({ status: 400, hint: expect.stringContaining(hint) });
  });

  test("in variables and mutations too", async () => {
    const { errors } = await ask(list, { sort: [{ secret: "ASC" }] });
    expect(errors[0]?.extensions.hint).toContain("WorkerSort has ");
    const mutation = await ask("mutation { nothing }");
    expect(String(mutation.errors[0]?.extensions.hint).length).toBeLessThan(2_000);
    expect(mutation.errors[0]?.extensions.hint).toMatch(/^Mutation has create\w+, /);
  });

  test("a subscription is refused, and no error of ours", async () => {
    const { status, errors } = await ask("subscription { workers { nodes { id } } }");
    expect([status, errors[0]?.extensions.status]).toEqual([400, 400]);
  });
});

test("who mistypes a name is told the names there are, and a stranger none", async () => {
  const rest = await crm.send(`${base}/worker`);
  expect([rest.status, (rest.json as unknown as { hint: string }).hint]).toEqual([
    404,
    expect.stringMatching(/^Entities of this app: cities, companies, .*workers$/),
  ]);
  const said = (as: string, email: string, path: string) =>
    crm.db.as(as, email, (client) =>
      client.query("select data.find($1)", [path]).catch((error) => [error.code, error.hint]),
    );
  expect(await said("acme", "ann@acme.test", "acme/crm/worker")).toEqual([
    "RH404",
    expect.stringContaining("workers"),
  ]);
  expect(await said("beta", "bob@beta.test", "acme/crm/worker")).toEqual([
    "RH404",
    expect.not.stringContaining("workers"),
  ]);
  for (const path of ["crm/workers", "workers", "", "acme/crm/"])
    expect([path, await said("acme", "ann@acme.test", path)]).toEqual([
      path,
      ["RH400", expect.stringContaining("site/app/entity")],
    ]);
  const anonymous = await crm.send(`${base}/worker`, { as: null });
  expect([anonymous.status, anonymous.text]).toEqual([401, expect.not.stringContaining("cities")]);
});

describe("docs/doors.md tells what there is", () => {
  const guide = guideText("doors.md");
  const rows = [...guide.matchAll(/^\| (?!what|there|-)(.+) \|$/gm)].map(([, row]) =>
    (row as string).split(" | "),
  );
  const cells = (column: number) =>
    rows
      .flatMap((row) => (row.length === 4 ? [...(row[column] as string).matchAll(/`([^`]+)`/g)] : []))
      .map(([, code]) => code as string);
  const variables = { id: "", at: "2026-01-31T09:30:00Z", filter: { "address.city": "Oslo" } };

  beforeAll(async () => {
    await crm.db.query("select data.define_entity('acme/crm', 'pages', $1)", [
      {
        type: "object",
        "x-soft-delete": true,
        "x-history": true,
        properties: { title: { ...text, "x-search": true } },
      },
    ]);
    const page = await crm.send(`${base}/pages`, { method: "POST", body: { title: "Hello" } });
    variables.id = page.json.id;
  });

  test("every GET is answered", async () => {
    const paths = cells(1).flatMap((code) => /^GET …\/(.*)$/.exec(code)?.[1] ?? []);
    expect(paths.length).toBeGreaterThan(18);
    for (const path of paths) {
      const id = path.startsWith("pages") ? variables.id : (crm.ids.Ada as string);
      const [where, query] = path.replace("{id}", id).split("?");
      const { status } = await crm.send(`${base}/${where}${query ? `?${encodeURI(query)}` : ""}`);
      expect([path, status]).toEqual([path, 200]);
    }
  });

  test("every field of GraphQL answers, every mutation and function is there", async () => {
    const { __schema } = await data("{ __schema { mutationType { fields { name } } } }");
    const mutations = __schema.mutationType.fields.map(({ name }: { name: string }) => name);
    const named = cells(2).filter((code) =>
      /^(?:transaction|(?:create|update|delete|upsert|restore|purge)[A-Z]\w*)$/.test(code),
    );
    expect(named.filter((name) => !mutations.includes(name))).toEqual([]);
    const fields = cells(2).filter((code) =>
      /^(contact|pages?|deletedPages|findUnion|aggregateUnion|search)/.test(code),
    );
    expect(fields.length).toBeGreaterThan(16);
    for (const field of fields) {
      const types = { id: "UUID!", at: "Datetime!", filter: "JSON" } as const;
      const used = (Object.keys(types) as (keyof typeof types)[]).filter((name) =>
        field.includes(`$${name}`),
      );
      const query = `query ${used.length ? `(${used.map((name) => `$${name}: ${types[name]}`).join(", ")})` : ""} { ${field}${field.endsWith("}") ? "" : " { __typename }"} }`;
      const { errors } = await ask(query, Object.fromEntries(used.map((name) => [name, variables[name]])));
      expect([field, errors]).toEqual([field, []]);
    }
    const functions = [...guide.matchAll(/`data\.(\w+)`/g)].map(([, name]) => name as string);
    const known = await crm.db.query<{ proname: string }>(
      "select distinct proname from pg_proc where pronamespace = 'data'::regnamespace",
    );
    expect(functions.filter((name) => !known.some(({ proname }) => proname === name))).toEqual([]);
  });

  test("a search comes in the order that is asked for, the best first only without one", async () => {
    for (const title of ["Zed zed zed", "Any zed"])
      await crm.send(`${base}/pages`, { method: "POST", body: { title } });
    const titles = async (args: string, types = "", variables = {}) =>
      (
        await data(`query ${types} { pages(search: "zed"${args}) { nodes { title } } }`, variables)
      ).pages.nodes.map(({ title }: { title: string }) => title);
    expect(await titles("")).toEqual(["Zed zed zed", "Any zed"]);
    for (const found of [
      await titles(", sort: {title: ASC}"),
      await titles(", sort: $s", "($s: [PageSort!])", { s: [{ title: "ASC" }] }),
      await titles(", orderBy: TITLE_ASC"),
      await titles(", orderBy: $by", "($by: [PageOrderBy!])", { by: ["TITLE_ASC"] }),
    ])
      expect(found).toEqual(["Any zed", "Zed zed zed"]);
  });

  test("the transaction of docs/writing.md runs", async () => {
    const document = [...guideText("writing.md").matchAll(/```graphql\n([\s\S]*?)```/g)].at(
      -1,
    )?.[1] as string;
    const operations = [
      { operation: "insert", entity: "pages", data: { title: "T" }, as: "t" },
      { operation: "delete", entity: "pages", id: { $ref: "t.id" } },
    ];
    expect((await data(document, { operations })).transaction).toEqual([
      expect.objectContaining({ title: "T" }),
      null,
    ]);
  });
});
