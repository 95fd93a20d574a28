import { expect } from "@jest/globals";
import { type Crm, startCrm } from "./crm.ts";
import type { GraphqlReply } from "./graphql.ts";
import { startGraphql } from "./graphql.ts";

// A firm and its staff in both storages, with fields of every kind that ann (editor) sees masked and otto (admin) in full.

export const storages = ["jsonb", "flat"] as const;

/** The fields that ann sees masked or hidden, or that are computed from such. */
export const secretFields =
  "email mail phone born pay grade note home tags yearly is_rich boss_id friends".split(" ");

/** What is hidden of one of the staff. */
export type Hidden = {
  email: string;
  phone: string;
  born: string;
  pay: number;
  grade: "low" | "high";
  note: string;
  home: object;
  tags: string[];
  boss: boolean;
};

export const staffIds = {
  firm: "01900000-0000-7000-8000-00000000000f",
  ada: "01900000-0000-7000-8000-0000000000a1",
  bea: "01900000-0000-7000-8000-0000000000b1",
  cyd: "01900000-0000-7000-8000-0000000000c1",
};

/** Two worlds that ann must not tell apart: what is masked shows the same, and no value of one is in the other. */
const hiddenIn: Record<"one" | "other", Hidden> = {
  one: {
    email: "adele@y.test",
    phone: "+47 5550 1234",
    born: "1990-05-17",
    pay: 700,
    grade: "high",
    note: "aaa secret",
    home: { city: "Quito" },
    tags: ["one"],
    boss: true,
  },
  other: {
    email: "alma@y.test",
    phone: "+99 7777 1234",
    born: "1990-11-30",
    pay: 3,
    grade: "low",
    note: "zzz hidden",
    home: { city: "Bern" },
    tags: ["two", "three"],
    boss: false,
  },
};

const staff = (name: string) => ({
  type: "object",
  required: ["name", "pay"],
  properties: {
    name: { type: "string", "x-search": true },
    team: { type: "string" },
    email: { type: "string", format: "email", "x-pii": true, "x-unique": true },
    phone: { type: "string", "x-mask": "last_four", "x-index": true },
    born: { type: "string", format: "date", "x-pii": true, "x-index": true },
    pay: { type: "integer", "x-pii": true, "x-index": true },
    grade: { type: "string", enum: ["low", "high"], "x-mask": "redact" },
    note: { type: "string", "x-mask": "null", "x-search": true },
    home: { type: "object", "x-mask": "null" },
    tags: { type: "array", items: { type: "string" }, "x-mask": "null" },
    yearly: { type: "integer", "x-computed": "pay * 12" },
    is_rich: { type: "boolean", "x-computed": "pay > 100" },
    mail: { type: "string", format: "email", "x-alias": "email" },
    firm_id: {
      type: "string",
      format: "uuid",
      "x-relation": { entity: name.replace("staff", "firms"), name: "firm", inverse: "staff" },
    },
    boss_id: {
      type: "string",
      format: "uuid",
      "x-mask": "null",
      "x-relation": { entity: name, name: "boss", inverse: "crew" },
    },
    friends: {
      type: "array",
      items: { type: "string", format: "uuid" },
      "x-mask": "null",
      "x-relation": { entity: name, many: true, inverse: "friend_of" },
    },
  },
  "x-soft-delete": true,
  "x-history": true,
});

const firms = {
  type: "object",
  properties: {
    name: { type: "string" },
    total: {
      type: "integer",
      "x-rollup": { relation: "staff", function: "sum", field: "pay" },
    },
    most: {
      type: "integer",
      "x-rollup": { relation: "staff", function: "max", field: "pay" },
    },
    rich: {
      type: "integer",
      "x-rollup": { relation: "staff", function: "count", filter: { pay: { $gt: 100 } } },
    },
    newest: {
      type: "string",
      format: "email",
      "x-rollup": { relation: "staff", function: "last", field: "email" },
    },
  },
};

/** A crm in which things are as hidden says. */
export async function startStaff(hidden: Hidden): Promise<
  Crm & {
    ask(query: string, as?: string): Promise<GraphqlReply>;
    psql(sql: string, as?: string): Promise<object[]>;
  }
> {
  const crm = await startCrm();
  const { db } = crm;
  await db.account("otto@acme.test");
  await db.query("select tenancy.add_member('acme', 'otto@acme.test', 'admin')");
  crm.tokens.otto = await crm.gateway.token("otto@acme.test", "acme");
  for (const storage of storages) {
    const name = `staff_${storage}_kind`;
    const define = (entity: string, schema: object) =>
      db.query("select data.define_entity('acme/crm', $1, $2)", [
        entity,
        { ...schema, "x-storage": storage },
      ]);
    await define(`firms_${storage}_kind`, { ...firms, properties: { name: { type: "string" } } });
    await define(name, { ...staff(name), "x-cache-ttl": 60 });
    await define(`firms_${storage}_kind`, firms);
    await db.query("select data.insert($1, $2)", [
      `acme/crm/firms_${storage}_kind`,
      { id: staffIds.firm, name: "Firm" },
    ]);
    const { boss, ...shown } = hidden;
    for (const record of [
      { id: staffIds.bea, name: "Bea", team: "red", pay: 50, email: "bea@y.test", firm_id: staffIds.firm },
      {
        id: staffIds.ada,
        name: "Ada",
        team: "red",
        ...shown,
        firm_id: staffIds.firm,
        ...(boss ? { boss_id: staffIds.bea, friends: [staffIds.bea] } : {}),
      },
    ])
      await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, record]);
    const gone = { ...shown, id: staffIds.cyd, name: "Cyd", email: hidden.email.replace("a", "c") };
    await db.query("select data.insert($1, $2)", [`acme/crm/${name}`, gone]);
    await db.query("select data.delete($1, $2)", [`acme/crm/${name}`, staffIds.cyd]);
  }
  await db.query("vacuum analyze");
  const graphql = await startGraphql(db);
  return {
    ...crm,
    ask: (query, as = "ann") => graphql.ask("acme/crm", `${as}@acme.test`, query),
    psql: (sql, as = "ann") =>
      db.as("acme", `${as}@acme.test`, async (client) => (await client.query(sql)).rows),
    async stop() {
      await graphql.stop();
      await crm.stop();
    },
  };
}

/** What a reader is told, without what differs between any two databases. */
export const told = (value: unknown): string =>
  JSON.stringify(value)
    .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:[\d.]+(\+00:00|Z|\+00)?/g, "<time>")
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-(?!0000000000)[0-9a-f]{12}/g, "<id>")
    .replace(/"(etag|next_cursor)":"[^"]*"/g, '"$1":"<text>"');

type World = Awaited<ReturnType<typeof startStaff>>;

/** Both worlds. `same` asks both, which must be told the same, and none of what is hidden but what was asked; it returns that. */
export async function startWorlds(): Promise<{
  one: World;
  other: World;
  same(asked: string, ask: (world: World) => Promise<unknown>): Promise<string>;
  stop(): Promise<void>;
}> {
  const one = await startStaff(hiddenIn.one);
  const other = await startStaff(hiddenIn.other);
  return {
    one,
    other,
    async same(asked, ask) {
      const [first, second] = [told(await ask(one)), told(await ask(other))];
      expect([asked, first]).toEqual([asked, second]);
      for (const secret of ["adele", "alma", "5550", "7777", "aaa secret", "zzz hidden", "Quito", "Bern"])
        if (!asked.includes(secret))
          expect([asked, first]).not.toContainEqual(expect.stringContaining(secret));
      return first;
    },
    async stop() {
      await one.stop();
      await other.stop();
    },
  };
}
