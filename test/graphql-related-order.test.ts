import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Crm, startCrm } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";

// What an author was promised of order by related records in GraphQL, and of rules across fields: as through REST.

let crm: Crm;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
const ask = (query: string, variables: object = {}, as = "ann@acme.test") =>
  graphql.ask("acme/crm", as, query, variables);
const data = async (query: string, variables: object = {}, as?: string) => {
  const answer = await ask(query, variables, as);
  expect(answer.errors).toEqual([]);
  return answer.data;
};

beforeAll(async () => {
  crm = await startCrm();
  graphql = await startGraphql(crm.db);
  const rows = await crm.db.query("select data.insert('acme/crm/companies', $1) as r", [
    JSON.stringify([{ name: "Alta Works", city: "Alta" }, { name: "Bare" }]),
  ]);
  const [alta, bare] = (rows[0] as { r: { id: string }[] }).r;
  await crm.db.query("select data.insert('acme/crm/contacts', $1)", [
    JSON.stringify([
      { name: "Eli", company_id: alta?.id },
      { name: "Fay", company_id: bare?.id },
      { name: "Gus", company_id: alta?.id },
    ]),
  ]);
  await crm.db.query("select access.create_role('acme', 'contacts-only', array['crm/contacts:read'])");
  await crm.db.account("kim@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'kim@acme.test', 'contacts-only')");
  await crm.db.query("select data.define_entity('acme/crm', 'trips', $1)", [
    {
      type: "object",
      properties: {
        starts_on: { type: "string", format: "date" },
        ends_on: { type: "string", format: "date" },
      },
      "x-rules": [{ rule: "ends_on >= starts_on", message: "must not be before it starts" }],
    },
  ]);
});
afterAll(async () => {
  await graphql.stop();
  await crm.stop();
});

type Page = { nodes: { name: string }[]; pageInfo: { endCursor: string; hasNextPage: boolean } };
const list =
  "query ($by: [ContactOrderBy!], $first: Int = 100, $after: Cursor) { contacts(orderBy: $by, first: $first, after: $after) { nodes { name } pageInfo { endCursor hasNextPage } } }";
const names = (answer: { contacts: { nodes: { name: string }[] } }) =>
  answer.contacts.nodes.map(({ name }) => name).join(" ");

test.each([
  [["COMPANY__NAME_ASC", "NAME_ASC"], "company.name,name"],
  [["COMPANY__NAME_DESC", "NAME_ASC"], "-company.name,name"],
  [["COMPANY__CITY_ASC", "NAME_DESC"], "company.city,-name"],
  [["COMPANY__CITY_DESC", "COMPANY__NAME_ASC", "NAME_ASC"], "-company.city,company.name,name"],
])("%j is what REST's sort=%s is, page by page", async (by, sort) => {
  const rest = (await crm.send(`/api/v1/sites/acme/apps/crm/contacts?sort=${sort}`)).json.data
    .map(({ name }) => name)
    .join(" ");
  expect(names(await data(list, { by }))).toBe(rest);
  for (const first of [1, 2, 3]) {
    const seen: string[] = [];
    let after: string | null = null;
    let more = true;
    while (more) {
      const page: Page = (await data(list, { by, first, after })).contacts;
      seen.push(...page.nodes.map(({ name }) => name));
      ({ endCursor: after, hasNextPage: more } = page.pageInfo);
    }
    expect([first, seen.join(" ")]).toEqual([first, rest]);
  }
  const backwards = (
    await data("query ($by: [ContactOrderBy!]) { contacts(orderBy: $by, last: 2) { nodes { name } } }", {
      by,
    })
  ).contacts;
  expect(names({ contacts: backwards })).toBe(rest.split(" ").slice(-2).join(" "));
});

test("orders go with filters, relations and nested lists, and join the related records once", async () => {
  const answer = await data(
    "{ contacts(filter: {company: {city: {isNull: false}}}, orderBy: [COMPANY__CITY_ASC, COMPANY__NAME_ASC, NAME_ASC]) { nodes { name company { city contacts(orderBy: COMPANY__NAME_DESC, first: 1) { nodes { id } } } } } }",
  );
  expect(names(answer)).toBe("Eli Gus Ada Bea");
});

test("what the reader may not see counts as null, so that the order tells nothing of it", async () => {
  const byName = names(await data(list, { by: ["NAME_ASC"] }, "kim@acme.test"));
  for (const way of ["ASC", "DESC"])
    expect(names(await data(list, { by: [`COMPANY__NAME_${way}`, "NAME_ASC"] }, "kim@acme.test"))).toBe(
      byName,
    );
});

test.each([
  ["an unknown field", { by: ["COMPANY__SECRET_ASC"] }],
  ["a relation to many", { by: ["CONTACTS__NAME_ASC"] }],
  ["SQL", { by: ["COMPANY__NAME_ASC; drop table x"] }],
  ["a foreign cursor", { by: ["COMPANY__NAME_ASC"], after: "WyJ4IiwxXQ==" }],
])("%s is refused", async (_title, variables) => {
  expect((await ask(list, variables)).errors[0]?.extensions.status).toBe(400);
});

test("the same order a hundred times is one join", async () => {
  const by = Array.from({ length: 100 }, () => "COMPANY__NAME_ASC");
  expect(names(await data(list, { by: [...by, "NAME_ASC"] }))).toBe("Eli Gus Fay Ada Bea Cyd Dan");
});

test("a rule across fields says its message, and where, when GraphQL breaks it", async () => {
  const create =
    "mutation ($s: Date, $e: Date) { createTrip(input: {trip: {startsOn: $s, endsOn: $e}}) { trip { id } } }";
  const wrong = await ask(create, { s: "2026-02-02", e: "2026-02-01" });
  const rest = await crm.send("/api/v1/sites/acme/apps/crm/trips", {
    method: "POST",
    body: { starts_on: "2026-02-02", ends_on: "2026-02-01" },
  });
  const { errors } = rest.json as unknown as { errors: { pointer: string; message: string }[] };
  expect(errors).toEqual([{ pointer: expect.stringMatching(/^/), message: "must not be before it starts" }]);
  expect(wrong.errors).toMatchObject([
    {
      message: expect.stringContaining("must not be before it starts"),
      extensions: { status: 422, code: "validation_failed", errors },
    },
  ]);
  const { id } = (await data(create, { s: "2026-02-02", e: "2026-02-03" })).createTrip.trip;
  const update = await ask(
    'mutation ($id: UUID!) { updateTrip(input: {id: $id, patch: {endsOn: "2026-01-01"}}) { trip { id } } }',
    { id },
  );
  expect(update.errors).toMatchObject([{ extensions: { status: 422, errors } }]);
  const batch = await ask(
    'mutation { createTrips(input: {records: [{startsOn: "2026-01-01"}, {startsOn: "2026-02-02", endsOn: "2026-02-01"}]}) { inserted } }',
  );
  expect(batch.errors).toMatchObject([
    {
      extensions: {
        status: 422,
        errors: [{ pointer: `/1${errors[0]?.pointer}`, message: errors[0]?.message }],
      },
    },
  ]);
});
