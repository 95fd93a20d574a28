import { type Crm, startCrm } from "./crm.ts";

// Two apps of one site, crm and shop, with the same entity: what differs is what its masked fields hold, and what records of the south
// hold. And people who may define entities, and see all of it or less.

/** A definition of people, or what a change makes of it. */
export type Schema = { properties: Record<string, Record<string, unknown>> } & Record<string, unknown>;

/** Who defines: admins, who sees everything, who sees masks, who sees the north, who may read nothing. */
export const definers = ["admin", "reader", "masked", "part", "blind"] as const;
export type Definer = (typeof definers)[number];
/** The definers from whom something is kept. */
export const short = ["masked", "part", "blind"] as const;

const many = { type: "string", format: "uuid" };
/** The definition that both worlds begin with. */
export const people: Schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    region: { type: "string" },
    bonus: { type: "integer", maximum: 1000 },
    note: { type: "string" },
    email: { type: "string", format: "email", "x-pii": true },
    salary: { type: "integer", "x-mask": "null" },
    wage: { type: "integer", "x-alias": "salary" },
    grade: { type: "string", "x-mask": "redact" },
    born: { type: "string", format: "date", "x-pii": true },
    boss_id: { ...many, "x-mask": "null" },
    ends: { type: "string", format: "date-time", "x-mask": "null" },
    yearly: { type: "integer", "x-computed": { expression: "salary * 12", stored: true } },
  },
};

/** What people are called in an app. */
export const kinds = { jsonb: "people_one_kind", flat: "people_two_kind" } as const;

const other = "01900000-0000-7000-8000-0000000000ff";
const ends = "2999-01-01T00:00:00Z";
// Masks show the same of both worlds: the first letter and the domain, the year, that there is a grade.
const hidden = {
  // Whatever is tried fits, and
  crm: [
    { email: "a1@x.test", salary: 100, grade: "1", born: "1990-01-01", ends },
    { email: "a2@x.test", salary: 200, grade: "1", born: "1991-01-01", ends },
    { email: "a3@x.test", salary: 300, grade: "1", born: "1992-01-01", ends, bonus: 1, note: "short" },
  ],
  // nothing does.
  shop: [
    { email: "a1@x.test", salary: 90000, grade: "noise", boss_id: other, born: "1990-09-09" },
    {
      email: "a1@x.test",
      salary: 90000,
      grade: "x",
      boss_id: other,
      born: "1991-01-01",
      ends: "2001-01-01T00:00:00Z",
    },
    {
      email: "azz@x.test",
      salary: 0,
      grade: "y",
      boss_id: other,
      born: "1992-12-31",
      bonus: 900,
      note: "z".repeat(50),
    },
  ],
};
const noise = () => Array.from({ length: 300 }, () => Math.random().toString(36)).join("");

/** The two worlds. */
export async function startDefiners(): Promise<
  Crm & {
    /** Gives people the definition and records that they began with, in both worlds. */
    renew(storages?: (keyof typeof kinds)[]): Promise<void>;
    /** What somebody is answered, as text, without what differs between any two definitions; nothing of it stays. */
    told(who: Definer, app: "crm" | "shop", sql: string, values: unknown[]): Promise<string>;
  }
> {
  const crm = await startCrm();
  const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
  const role = (name: string, permissions: unknown[]) =>
    run("select access.define_role('acme', $1)", [
      { name, permissions: ["@entities:define", ...permissions] },
    ]);
  await role("reader", [{ permission: "*:read", fields: { unmasked: ["*"] } }]);
  await role("masked", ["*:read"]);
  await role(
    "part",
    Object.values(kinds).map((name) => ({
      permission: `${name}:read`,
      condition: { region: "north" },
      fields: { unmasked: ["*"] },
    })),
  );
  await role("blind", []);
  for (const who of definers) {
    const email = `${who}@acme.test`;
    await crm.db.account(email);
    await run("select tenancy.add_member('acme', $1, 'viewer')", [email]);
    if (who === "admin") await run("select tenancy.set_member_role('acme', $1, 'admin')", [email]);
    if (who !== "admin")
      await run("select access.assign_role('acme', $1, $2), access.revoke_role('acme', $1, 'viewer')", [
        email,
        who,
      ]);
    crm.tokens[who] = await crm.gateway.token(email, "acme");
  }
  const renew = async (storages = Object.keys(kinds) as (keyof typeof kinds)[]) => {
    for (const storage of storages)
      for (const app of ["crm", "shop"] as const) {
        const name = kinds[storage];
        await run(
          "select data.drop_entity(format('acme/%s/%s', $1::text, name), name) from data.entities e where name = $2 and app_id = $3",
          [app, name, crm.ids[`acme/${app}`]],
        );
        await run("select data.define_entity($1, $2, $3)", [
          `acme/${app}`,
          name,
          { ...people, "x-storage": storage },
        ]);
        const records = hidden[app].map((values, i) => ({
          name: ["Ada", "Bea", "Cyd"][i],
          region: i < 2 ? "north" : "south",
          bonus: 10 + i,
          note: `n${i}`,
          ...values,
          ...(values.grade === "noise" ? { grade: noise() } : {}),
        }));
        await run("select data.insert($1, $2)", [`acme/${app}/${name}`, JSON.stringify(records)]);
      }
  };
  await renew();
  return {
    ...crm,
    renew,
    told: (who, app, sql, values) =>
      crm.db
        .as("acme", `${who}@acme.test`, async (client) => {
          await client.query("begin");
          try {
            const { rows } = await client.query(sql, values);
            return JSON.stringify(rows);
          } catch (error) {
            const { code, message, detail, hint } = error as Record<string, string>;
            return [code, message, detail, hint].join(" | ");
          } finally {
            await client.query("rollback");
          }
        })
        .then((text) =>
          text
            .replaceAll(app, "app")
            .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.[\d.]+(\+00:00|Z|\+00)?/g, "<time>")
            .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "<id>"),
        ),
  };
}

/** People with other properties (null takes one away) and options. */
export function changed(
  properties: Record<string, object | null>,
  options: object = {},
  from: Schema = people,
): Schema {
  const all = { ...from.properties, ...properties };
  return {
    ...from,
    ...options,
    properties: Object.fromEntries(Object.entries(all).filter(([, p]) => p !== null)) as Schema["properties"],
  };
}
