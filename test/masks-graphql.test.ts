import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { startGraphql } from "./harness/graphql.ts";
import { ada, startPeople, storages } from "./harness/people.ts";

// What was promised of fields, in GraphQL: what is masked is not found by asking, and the refusal says which field it was.

let crm: Awaited<ReturnType<typeof startPeople>>;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
beforeAll(async () => {
  crm = await startPeople();
  for (const storage of storages) {
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      `bills_${storage}_kind`,
      {
        type: "object",
        properties: {
          title: { type: "string" },
          total: { type: "integer", "x-mask": "null" },
          due: { type: "string", format: "date-time", "x-mask": "year" },
          // Who does not see this does not see where it leads.
          payer_id: {
            type: "string",
            format: "uuid",
            "x-mask": "null",
            "x-relation": { entity: `people_${storage}_kind`, name: "payer", inverse: "bills" },
          },
          buyers: {
            type: "array",
            items: { type: "string", format: "uuid" },
            "x-mask": "null",
            "x-relation": { entity: `people_${storage}_kind`, many: true, inverse: "bought" },
          },
        },
        "x-storage": storage,
      },
    ]);
    await crm.db.query("select data.insert($1, $2)", [
      `acme/crm/bills_${storage}_kind`,
      { title: "first", total: 7, due: "2026-05-06T00:00:00Z", payer_id: crm.ids[`${storage} Ada`] },
    ]);
  }
  graphql = await startGraphql(crm.db);
});
afterAll(async () => {
  await graphql?.stop();
  await crm?.stop();
});

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const ask = (name: string, query: string, variables?: object) =>
  graphql.ask("acme/crm", `${name}@acme.test`, query, variables);

beforeEach(async () => {
  await run("delete from access.assignments a using access.roles r where r.id = a.role_id and not r.system");
});

describe.each(storages)("in %s storage", (storage) => {
  const kind = storage === "jsonb" ? "JsonbKind" : "FlatKind";
  const [people, visits, bills] = [`people${kind}s`, `visits${kind}s`, `bills${kind}s`];
  const one = `people${kind}`;

  test.each<[string, string, string[]]>([
    ["a filter", `{ ${people}(filter: { email: { equalTo: "ada@x.test" } }) { nodes { name } } }`, ["email"]],
    [
      "another name",
      `{ ${people}(filter: { mail: { equalTo: "ada@x.test" } }) { nodes { name } } }`,
      ["mail"],
    ],
    ["a beginning", `{ ${people}(filter: { email: { startsWith: "ada" } }) { nodes { name } } }`, ["email"]],
    [
      "what is computed",
      `{ ${people}(filter: { card: { endsWith: "1234" } }) { nodes { name } } }`,
      ["card"],
    ],
    [
      "whether it is there",
      `{ ${people}(filter: { phone: { isNull: false } }) { nodes { name } } }`,
      ["phone"],
    ],
    [
      "an or whose other branch holds of all",
      `{ ${people}(filter: { or: [{ name: { isNull: false } }, { not: { ssn: { equalTo: "1" } } }] }) { nodes { name } } }`,
      ["ssn"],
    ],
    [
      "a filter that matches nothing",
      `{ ${people}(filter: { id: { equalTo: "00000000-0000-0000-0000-000000000000" }, ssn: { equalTo: "1" } }) { nodes { name } } }`,
      ["ssn"],
    ],
    ["a count", `{ ${people}(filter: { ssn: { in: ["078-05-1120"] } }) { totalCount } }`, ["ssn"]],
    [
      "whether there are more",
      `{ ${people}(filter: { ssn: { equalTo: "1" } }) { pageInfo { hasNextPage } } }`,
      ["ssn"],
    ],
    ["an order", `{ ${people}(orderBy: BORN_DESC) { nodes { name } } }`, ["born"]],
    ["a second order", `{ ${people}(orderBy: [NAME_ASC, SSN_ASC]) { nodes { name } } }`, ["ssn"]],
    ["an order by what is computed", `{ ${people}(orderBy: CARD_ASC) { nodes { name } } }`, ["card"]],
    ["a sort", `{ ${people}(sort: [{ name: ASC }, { born: DESC }]) { nodes { name } } }`, ["born"]],
    [
      "a sort by a related record",
      `{ ${visits}(sort: [{ person: { ssn: ASC } }]) { nodes { what } } }`,
      ["ssn"],
    ],
    [
      "an estimate",
      `{ ${people}Estimate(filter: { email: { equalTo: "ada@x.test" } }) { count } }`,
      ["email"],
    ],
    ["a cursor", `{ ${people}(orderBy: BORN_ASC, first: 1) { edges { cursor } } }`, ["born"]],
    ["a sort", `{ ${people}(sort: [{ name: ASC }, { born: DESC }]) { nodes { name } } }`, ["born"]],
    ["a related sort", `{ ${visits}(sort: [{ person: { ssn: ASC } }]) { nodes { what } } }`, ["ssn"]],
    [
      "a sort along a masked relation",
      `{ ${bills}(sort: [{ payer: { name: ASC } }]) { nodes { title } } }`,
      ["payer_id"],
    ],
    ["an estimate", `{ ${people}Estimate(filter: { ssn: { equalTo: "1" } }) { count } }`, ["ssn"]],
    ["an estimate of what is found", `{ ${people}Estimate(search: "5550") { count } }`, ["phone"]],
    ["a look-up", `{ one: ${one}ByEmail(email: "ada@x.test") { name } }`, ["email"]],
    ["search", `{ ${people}(search: "5550") { nodes { name } } }`, ["phone"]],
    ["search of the app", `{ search(q: "Ada", entities: ["people_${storage}_kind"]) { id } }`, ["phone"]],
    [
      "a relation's filter",
      `{ ${visits}(filter: { person: { email: { equalTo: "ada@x.test" } } }) { nodes { what } } }`,
      ["email"],
    ],
    [
      "many back and forth",
      `{ ${people}(filter: { visits: { some: { person: { ssn: { equalTo: "1" } } } } }) { nodes { name } } }`,
      ["ssn"],
    ],
    [
      "every",
      `{ ${people}(filter: { visits: { every: { person: { ssn: { equalTo: "1" } } } } }) { nodes { name } } }`,
      ["ssn"],
    ],
    [
      "a filter within records",
      `{ ${visits} { nodes { person { visits(filter: { person: { born: { isNull: true } } }) { totalCount } } } } }`,
      ["born"],
    ],
    ["an order over a relation", `{ ${visits}(orderBy: PERSON__BORN_ASC) { nodes { what } } }`, ["born"]],
    [
      "a masked relation",
      `{ ${bills}(filter: { payer: { name: { equalTo: "Ada" } } }) { nodes { title } } }`,
      ["payer_id"],
    ],
    [
      "whether it leads anywhere",
      `{ ${bills}(filter: { payerExists: true }) { nodes { title } } }`,
      ["payer_id"],
    ],
    [
      "the way back",
      `{ ${people}(filter: { bills: { some: { title: { equalTo: "first" } } } }) { nodes { name } } }`,
      ["payer_id"],
    ],
    [
      "whether there is a way back",
      `{ ${people}(filter: { billsExist: true }) { nodes { name } } }`,
      ["payer_id"],
    ],
    [
      "an order by a masked relation",
      `{ ${bills}(orderBy: PAYER__NAME_ASC) { nodes { title } } }`,
      ["payer_id"],
    ],
    [
      "links",
      `{ ${bills}(filter: { buyers: { some: { name: { equalTo: "Ada" } } } }) { nodes { title } } }`,
      ["buyers"],
    ],
    ["links the other way", `{ ${people}(filter: { boughtExist: true }) { nodes { name } } }`, ["buyers"]],
    ["an aggregate", `{ ${bills} { aggregates { max { total } } } }`, ["total"]],
    ["a count of what is there", `{ ${people} { aggregates { distinctCount { phone } } } }`, ["phone"]],
    [
      "an aggregate of a filter",
      `{ ${people}(filter: { ssn: { equalTo: "1" } }) { aggregates { count } } }`,
      ["ssn"],
    ],
    ["groups", `{ ${people} { groupedAggregates(groupBy: [SSN]) { keys } } }`, ["ssn"]],
    [
      "groups in buckets",
      `{ ${bills} { groupedAggregates(groupBy: [DUE__MONTH]) { keys count } } }`,
      ["due"],
    ],
    [
      "having",
      `{ ${bills} { groupedAggregates(groupBy: [TITLE], having: { sum: { total: { greaterThan: 5 } } }) { keys } } }`,
      ["total"],
    ],
    [
      "having under OR",
      `{ ${bills} { groupedAggregates(groupBy: [TITLE], having: { OR: [{ count: { greaterThan: 0 } }, { max: { total: { greaterThan: 5 } } }] }) { keys } } }`,
      ["total"],
    ],
    [
      "a union",
      `{ findUnion(entities: ["people_${storage}_kind"], filter: { ssn: "1" }) { nodes { entity } } }`,
      ["ssn"],
    ],
    [
      "a union's groups",
      `{ aggregateUnion(entities: ["people_${storage}_kind"], aggregate: ["max(born)"]) { nodes } }`,
      ["born"],
    ],
    [
      "deleted records",
      `{ deletedPeople${kind}s(filter: { email: { equalTo: "ada@x.test" } }) { nodes { name } } }`,
      ["email"],
    ],
    [
      "former records",
      `{ people${kind}sAsOf(at: "2999-01-01T00:00:00Z", filter: { ssn: { equalTo: "1" } }) { nodes { name } } }`,
      ["ssn"],
    ],
    [
      "an order of former records",
      `{ people${kind}sAsOf(at: "2999-01-01T00:00:00Z", orderBy: SSN_ASC) { nodes { name } } }`,
      ["ssn"],
    ],
    [
      "changes of many",
      `mutation { updatePeople${kind}s(input: { filter: { ssn: { equalTo: "1" } }, patch: { team: "x" }, max: 10 }) { updated } }`,
      ["ssn"],
    ],
    [
      "deletions of many",
      `mutation { deletePeople${kind}s(input: { filter: { email: { equalTo: "1" } }, max: 10 }) { deleted } }`,
      ["email"],
    ],
    [
      "an upsert by it",
      `mutation { upsertPeople${kind}s(input: { key: ["email"], records: [{ name: "X", email: "ada@x.test" }] }) { updated } }`,
      ["email"],
    ],
  ])(
    "%s: a field that is masked is refused by name, and answered to who sees it",
    async (_what, query, fields) => {
      const told = await ask("ann", query);
      expect(told.errors[0]?.extensions).toMatchObject({
        status: 403,
        code: "field_not_seen",
        errors: fields.map((field) => ({ pointer: `/${field}` })),
      });
      expect(told.errors[0]?.message).toContain("in full");
      expect(JSON.stringify(told)).not.toMatch(/ada@|078-05|5550 |1990-05/);
      if (!query.startsWith("mutation")) expect((await ask("otto", query)).errors).toEqual([]);
    },
  );

  const filter = `query ($f: People${kind}Filter) { ${people}(filter: $f) { ...some } } fragment some on People${kind}Connection { nodes { name } totalCount }`;
  const give = async (permissions: unknown[]) => {
    await run("select access.define_role('acme', $1)", [{ name: "of-pat", permissions }]);
    await run("select access.assign_role('acme', 'pat@acme.test', 'of-pat')");
  };

  test("by variables, in fragments, for all of one's records or not; a change of rights holds for the next request", async () => {
    const entity = `people_${storage}_kind`;
    const red = { permission: `${entity}:read`, condition: { team: "red" }, fields: { unmasked: ["*"] } };
    const find = () => ask("pat", filter, { f: { ssn: { equalTo: ada.ssn } } });
    const refused = { errors: [{ extensions: { code: "field_not_seen", status: 403 } }] };
    await give([red]);
    expect((await find()).data[people]).toEqual({ nodes: [{ name: "Ada" }], totalCount: 1 });
    await give([red, `${entity}:read`]);
    expect(await find()).toMatchObject(refused);
    await give([{ permission: `${entity}:read`, fields: { readable: ["name"] } }]);
    const byTeam = () => ask("pat", `{ ${people}(filter: { team: { equalTo: "red" } }) { nodes { name } } }`);
    expect(await byTeam()).toMatchObject(refused);
    await give([`${entity}:read`]);
    expect((await byTeam()).data[people].nodes).toEqual([{ name: "Ada" }]);
    expect(await ask("pat", `{ ${people}(filter: {}, orderBy: NAME_ASC) { nodes { name } } }`)).toMatchObject(
      {
        errors: [],
      },
    );
  });
});
