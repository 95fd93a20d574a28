import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, base, type Call, type Crm, find, names, startCrm } from "./harness/crm.ts";

let crm: Crm;
const send = (path: string, call?: Call) => crm.send(path, call);
const companiesBy = (filter: object): string =>
  `${base}/companies?sort=name&filter=${encodeURIComponent(JSON.stringify(filter))}`;

beforeAll(async () => {
  crm = await startCrm();
  await crm.db.query("select data.insert('acme/crm/companies', $1)", [
    JSON.stringify([
      { name: "Empty Inc", city: "Oslo" },
      { name: "Rome Works", city: "Rome" },
    ]),
  ]);
  const [rome] = await crm.db.query<{ id: string }>(
    "select id from acme_crm.companies where name = 'Rome Works'",
  );
  await crm.db.query("select data.insert('acme/crm/contacts', $1)", [
    { name: "Eli", age: 70, company_id: rome?.id },
  ]);
  // Reads contacts, and no companies.
  await crm.db.query("select access.create_role('acme', 'contacts-only', array['crm/contacts:read'])");
  await crm.db.account("kim@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'kim@acme.test', 'contacts-only')");
  crm.tokens.kim = await crm.gateway.token("kim@acme.test", "acme");
});
afterAll(() => crm?.stop());

describe("the record a record refers to", () => {
  test.each<[string, object, string]>([
    ["a path", { "company.city": "Oslo" }, "Ada Bea"],
    ["a path with an operator", { "company.city": { $in: ["Rome", "Bergen"] } }, "Eli"],
    ["an object", { company: { city: "Oslo", name: { $like: "Oslo%" } } }, "Ada Bea"],
    ["both sides", { "company.city": "Oslo", age: { $gt: 30 } }, "Ada"],
    ["or within", { company: { $or: [{ city: "Rome" }, { name: "Oslo Works" }] } }, "Ada Bea Eli"],
    ["there is one", { company: { $exists: true } }, "Ada Bea Eli"],
    ["there is none", { company: { $exists: false } }, "Cyd Dan"],
    ["not: also those without", { $not: { "company.city": "Oslo" } }, "Cyd Dan Eli"],
    ["and back: colleagues", { company: { contacts: { $some: { name: "Bea" } } } }, "Ada Bea"],
    ["SQL in a value is a value", { "company.city": "Oslo' or true --" }, ""],
  ])("%s", async (_title, filter, expected) => {
    const answer = await send(find({ filter, sort: "name" }));
    expect([answer.status, names(answer)]).toEqual([200, expected]);
  });
});

describe("the records that refer to a record", () => {
  test.each<[string, object, string]>([
    ["$some", { contacts: { $some: { age: { $lt: 30 } } } }, "Oslo Works"],
    ["$some of any", { contacts: { $some: {} } }, "Oslo Works Rome Works"],
    ["$none", { contacts: { $none: { age: { $lt: 30 } } } }, "Empty Inc Rome Works"],
    ["$every, true of none at all", { contacts: { $every: { age: { $gt: 30 } } } }, "Empty Inc Rome Works"],
    ["$exists", { contacts: { $exists: false } }, "Empty Inc"],
    ["a path means some", { "contacts.name": "Ada" }, "Oslo Works"],
    ["two conditions", { contacts: { $some: { name: "Ada" }, $none: { name: "Zoe" } } }, "Oslo Works"],
  ])("%s", async (_title, filter, expected) => {
    const answer = await send(companiesBy(filter));
    expect([answer.status, names(answer)]).toEqual([200, expected]);
  });
});

test("psql says the same", async () => {
  const found = await crm.db.query<{ r: Answer["json"] }>(
    `select data.find('acme/crm/contacts', '{"filter": {"company.city": "Oslo"}, "sort": [{"field": "name"}]}') as r`,
  );
  expect(found[0]?.r.data.map((row) => row.name)).toEqual(["Ada", "Bea"]);
});

describe("what is refused, with a hint", () => {
  const deep = {
    company: { contacts: { $some: { company: { contacts: { $some: { company: { city: "x" } } } } } } },
  };
  test.each<[string, object, string]>([
    ["an unknown relation", { "firm.city": "Oslo" }, "unknown_field"],
    ["an unknown field of a related record", { "company.town": "Oslo" }, "unknown_field"],
    ["quoting tricks in the path", { 'company.city"; drop table x; --': "Oslo" }, "unknown_field"],
    ["a value for a relation", { company: "Oslo" }, "invalid_filter"],
    ["nothing for a relation", { company: {} }, "invalid_filter"],
    ["$some of one", { company: { $some: { city: "Oslo" } } }, "invalid_filter"],
    ["five levels", deep, "invalid_filter"],
  ])("%s", async (_title, filter, code) => {
    const answer = await send(find({ filter }));
    expect([answer.status, answer.json.code]).toEqual([400, code]);
  });

  test("fields of the many without $some", async () => {
    const answer = await send(companiesBy({ contacts: { name: "Ada" } }));
    expect([answer.status, answer.json.code]).toEqual([400, "invalid_filter"]);
  });
});

test("a related record that one may not read never matches", async () => {
  const own = await send(find({ filter: { name: "Ada" } }), { as: "kim" });
  expect(names(own)).toBe("Ada");
  for (const filter of [
    { "company.city": "Oslo" },
    { company: { $exists: true } },
    { company: { name: { $like: "%" } } },
  ])
    expect(names(await send(find({ filter }), { as: "kim" }))).toBe("");
});

test("a list filtered by a relation finds the related record by its index", async () => {
  const plan = await crm.db.as("acme", "ann@acme.test", async (client) => {
    await client.query("set enable_seqscan = off");
    const { rows } = await client.query(
      `select data.compile('crm', 'contacts', 'find', '{"filter": {"company.name": {"$param": 1}}}') ->> 'sql' as sql`,
    );
    await client.query(`prepare by_company(text) as ${rows[0].sql}`);
    const explained = await client.query("explain execute by_company('Oslo Works')");
    return explained.rows.map((row) => Object.values(row)[0]).join("\n");
  });
  expect(plan).toMatch(/Index.*companies/);
});
