import { madeOnce, type TestDatabase } from "./database.ts";

// What crm.ts starts with: made once a run, and cloned from then on (2 definitions of each of 3 apps took most of a second).

/** The schema of companies; contacts refer to it. */
export const companies = {
  type: "object",
  required: ["name"],
  properties: { name: { type: "string", "x-unique": true }, city: { type: "string" } },
};
const contacts = {
  type: "object",
  required: ["name"],
  properties: {
    name: { type: "string", maxLength: 80 },
    email: { type: "string", format: "email", "x-unique": true },
    age: { type: "integer", minimum: 0, "x-index": true },
    balance: { type: "number", format: "decimal", precision: 30, scale: 2 },
    active: { type: "boolean", default: true },
    born: { type: "string", format: "date" },
    tags: { type: "array", items: { type: "string" } },
    address: { type: "object", properties: { city: { type: "string" }, floor: { type: "integer" } } },
    company_id: { type: "string", format: "uuid", "x-relation": { entity: "companies", field: "id" } },
  },
};

/** The template of the two sites, and what is in them. */
export const madeSites = (): Promise<string> => madeOnce("crm", makeSites);

async function makeSites(db: TestDatabase): Promise<void> {
  for (const [site, app] of [
    ["acme", "crm"],
    ["acme", "shop"],
    ["beta", "crm"],
  ] as const) {
    await db.query(
      "select tenancy.create_organization($1) where not exists (select from tenancy.organizations where name = $1)",
      [site],
    );
    await db.query(
      "select tenancy.create_site($1, $1) where not exists (select from tenancy.sites where name = $1)",
      [site],
    );
    await db.query("select tenancy.create_app($1, $2)", [site, app]);
    await db.query("select data.define_entity($1, 'companies', $2)", [`${site}/${app}`, companies]);
    await db.query("select data.define_entity($1, 'contacts', $2)", [`${site}/${app}`, contacts]);
  }
  for (const [email, role, site] of [
    ["ann@acme.test", "editor", "acme"],
    ["vic@acme.test", "viewer", "acme"],
    ["bob@beta.test", "editor", "beta"],
    ["eve@both.test", "editor", "acme"],
    ["eve@both.test", "editor", "beta"],
  ] as const) {
    await db.account(email);
    await db.query("select tenancy.add_member($1, $2, $3)", [site, email, role]);
  }
  const [oslo] = await db.query<{ r: { id: string } }>("select data.insert('acme/crm/companies', $1) as r", [
    { name: "Oslo Works", city: "Oslo" },
  ]);
  const company_id = oslo?.r.id;
  const people = [
    {
      name: "Ada",
      age: 36,
      balance: "12345678901234567890.12",
      email: "ada@x.test",
      tags: ["math"],
      address: { city: "London" },
      company_id,
    },
    {
      name: "Bea",
      age: 20,
      tags: ["art", "math"],
      address: { city: "Oslo", floor: 3 },
      born: "2001-02-03",
      company_id,
    },
    { name: "Cyd", age: 51, active: false, address: { city: "Oslo", floor: 12 } },
    { name: "Dan" },
  ];
  for (const person of people) {
    await db.query("select data.insert('acme/crm/contacts', $1::jsonb)", [
      JSON.stringify(person).replace(/"balance":"([\d.]+)"/, '"balance":$1'),
    ]);
  }
  await db.query("select data.insert('beta/crm/contacts', $1)", [{ name: "Secret of beta" }]);
  await db.query(
    "select tenancy.add_domain('acme', 'crm.example.org', 'crm'), tenancy.add_domain('beta', 'unproved.example.org', 'crm')",
  );
  await db.query(
    "select tenancy.verify_domain(id, array[proof]) from tenancy.domains where domain = 'crm.example.org'",
  );
}
