import { type Crm, startCrm } from "./crm.ts";
import { startGraphql } from "./graphql.ts";
import { makeRoleless } from "./roleless.ts";

// People of acme in both storages, with fields that not everybody sees, and their visits.

export const storages = ["jsonb", "flat"] as const;
/** The entity of a storage. */
export const entity = (storage: string) => `people_${storage}_kind`;

/** What an entity of people is defined as. */
export const people = {
  type: "object",
  required: ["name", "email"],
  properties: {
    name: { type: "string", "x-search": true },
    email: { type: "string", format: "email", "x-unique": true, "x-pii": true },
    phone: { type: "string", "x-mask": "last_four", "x-search": true },
    born: { type: "string", format: "date", "x-pii": true },
    ssn: { type: "string", "x-mask": "hash", "x-index": true },
    salary: { type: "integer" },
    team: { type: "string", "x-index": true },
    card: { type: "string", "x-computed": "name || ' ' || phone" },
    mail: { type: "string", format: "email", "x-alias": "email" },
  },
  "x-soft-delete": true,
  "x-history": true,
};

export const ada = {
  name: "Ada",
  email: "ada@x.test",
  phone: "+47 5550 1234",
  born: "1990-05-17",
  ssn: "078-05-1120",
  salary: 100,
  team: "red",
};
export const bea = {
  name: "Bea",
  email: "bea@x.test",
  phone: "+47 5550 9876",
  born: "2001-02-03",
  ssn: "219-09-9999",
  salary: 200,
  team: "blue",
};

/** A crm with people (Ada and Bea) in both storages. Pat, Quinn and Hana have no roles; ann is editor, otto admin. */
export async function startPeople(): Promise<Crm & { ids: Record<string, string> }> {
  const crm = await startCrm();
  await makeRoleless(crm.db, ["pat@acme.test", "quinn@acme.test", "hana@acme.test"]);
  await crm.db.account("otto@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'otto@acme.test', 'admin')");
  for (const name of ["pat", "quinn", "hana", "otto"])
    crm.tokens[name] = await crm.gateway.token(`${name}@acme.test`, "acme");
  for (const storage of storages) {
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      entity(storage),
      { ...people, "x-storage": storage },
    ]);
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      `visits_${storage}_kind`,
      {
        type: "object",
        properties: {
          what: { type: "string" },
          person_id: {
            type: "string",
            format: "uuid",
            "x-relation": { entity: entity(storage), name: "person", inverse: "visits" },
          },
        },
        "x-storage": storage,
      },
    ]);
    for (const person of [ada, bea]) {
      const [row] = await crm.db.query<{ r: { id: string } }>("select data.insert($1, $2) as r", [
        `acme/crm/${entity(storage)}`,
        person,
      ]);
      crm.ids[`${storage} ${person.name}`] = row?.r.id as string;
      await crm.db.query("select data.insert($1, $2)", [
        `acme/crm/visits_${storage}_kind`,
        { what: `visit of ${person.name}`, person_id: row?.r.id },
      ]);
    }
  }
  return crm;
}

/** The same for who asks by every door: `send` is REST, `ask` GraphQL, `as` psql, by the name of who asks; `run` the operator. */
export async function startPeopleByDoors() {
  const crm = await startPeople();
  const graphql = await startGraphql(crm.db);
  return {
    ...crm,
    run: (sql: string, values: unknown[] = []) => crm.db.query(sql, values),
    as: (name: string, sql: string, values: unknown[] = []) =>
      crm.db.as("acme", `${name}@acme.test`, async (client) => (await client.query(sql, values)).rows),
    ask: (name: string, query: string) => graphql.ask("acme/crm", `${name}@acme.test`, query),
    async stop() {
      await graphql.stop();
      await crm.stop();
    },
  };
}
