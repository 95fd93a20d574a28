import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// Masks by themselves, and the proposal of what to mark as personal.

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "otto@acme.test": "admin", "ann@acme.test": "editor" });
  await db.query("select access.define_role('acme', $1)", [
    { name: "modeller", permissions: ["@entities:define"] },
  ]);
  await db.query("select access.assign_role('acme', 'otto@acme.test', 'modeller')");
});
afterAll(() => db?.drop());

test.each<[string, string | null]>([
  ["access.mask_redact('x')", "***"],
  ["access.mask_redact(null)", null],
  ["access.mask_last_four('4111111111111111')", "****1111"],
  ["access.mask_last_four('12345')", "****"],
  ["access.mask_last_four('Ærøskøbing')", "****bing"],
  ["access.mask_email('ann@example.com')", "a***@example.com"],
  ["access.mask_email('no address')", "***"],
  ["access.mask_email('a@b@c')", "***"],
  ["access.mask_year(date '1990-05-17')::text", "1990-01-01"],
  ["access.mask_year(date 'infinity')::text", null],
  [
    "to_char(access.mask_year(timestamptz '1990-05-17 12:00Z') at time zone 'UTC', 'YYYY-MM-DD HH24:MI')",
    "1990-01-01 00:00",
  ],
  ["access.mask_year('1990-05-17')", "1990-01-01"],
  ["access.mask_year('unknown')", "***"],
  ["access.mask_template('078-05-1120', '***-{last4}')", "***-1120"],
  ["access.mask_template('1120', '***-{last4}')", "***-"],
  ["access.mask_template('ann@example.com', '{first1}…@{domain}')", "a…@example.com"],
  ["access.mask_template('secret', '{nothing} {last9}{')", "{nothing} {"],
  ["access.mask_template('secret', '%s %1$I '' \\')", "%s %1$I ' \\"],
  ["length(access.mask_hash('x', decode(repeat('ab', 64), 'hex')))::text", "32"],
  ["access.is_mask('nothing')::text", "false"],
  ["access.is_mask('{last4}')::text", "true"],
  ["access.is_mask(E'{last4}\\n')::text", "false"],
  ["access.is_luhn('4111 1111 1111 1111')::text", "true"],
  ["access.is_luhn('4111 1111 1111 1112')::text", "false"],
  ["access.is_iban('NO93 8601 1117 947')::text", "true"],
  ["access.is_iban('NO94 8601 1117 947')::text", "false"],
  ["access.is_national_id('078-05-1120')::text", "true"],
  ["access.is_national_id('12345678Z')::text", "true"],
  ["access.is_national_id('12345678A')::text", "false"],
  ["access.is_national_id('529.982.247-25')::text", "true"],
  ["access.is_national_id('529.982.247-26')::text", "false"],
  ["access.pii_kind('ann@example.com')", "email"],
  ["access.pii_kind('+47 22 33 44 55')", "phone"],
  ["access.pii_kind('2026-01-31')", null],
  ["access.pii_kind('192.168.1.7')", "ip address"],
  ["access.pii_kind(repeat('a@', 500000))", null],
])("select %s", async (sql, expected) => {
  expect((await db.query<{ v: string | null }>(`select ${sql} as v`))[0]?.v ?? null).toBe(expected);
});

test("what looks personal is proposed, by name in several languages and by value, to who may define entities", async () => {
  const text = { type: "string" };
  await db.query("select data.define_entity('acme/crm', 'folk', $1)", [
    {
      type: "object",
      properties: {
        kontakt: text,
        geburtsdatum: { type: "string", format: "date" },
        telefono_movil: text,
        bank: text,
        betaling: text,
        reference: text,
        color: text,
        mail_marked: { type: "string", "x-pii": true },
        count: { type: "integer" },
      },
    },
  ]);
  await db.query("select data.insert('acme/crm/folk', $1)", [
    JSON.stringify(
      [1, 2, 3, 4].map((n) => ({
        kontakt: `person${n}@example.com`,
        bank: "NO93 8601 1117 947",
        betaling: n === 1 ? "4111 1111 1111 1111" : "invoice",
        reference: `A-${n}`,
        color: "red",
        mail_marked: "x@example.com",
        count: n,
      })),
    ),
  ]);
  const detect = async (email: string) =>
    db.as(
      "acme",
      email,
      async (client) => (await client.query("select access.detect_pii('acme/crm/folk') as d")).rows[0].d,
    );
  const found = (await detect("otto@acme.test")) as {
    field: string;
    kind: string;
    share?: number;
    because: string;
    definition: object;
  }[];
  expect(found.map(({ field, kind, share }) => [field, kind, share])).toEqual([
    ["bank", "iban", 1],
    ["betaling", "card", 0.25],
    ["geburtsdatum", "birth", undefined],
    ["kontakt", "email", 1],
    ["telefono_movil", "phone", undefined],
  ]);
  expect(found[3]?.because).toBe("100 % of the values in a sample look like email");
  const [{ schema }] = (await db.query("select schema from data.entities where name = 'folk'")) as [
    { schema: { properties: Record<string, object> } },
  ];
  for (const { definition } of found)
    for (const [name, more] of Object.entries((definition as typeof schema).properties))
      schema.properties[name] = { ...schema.properties[name], ...more };
  await db.query("select data.define_entity('acme/crm', 'folk', $1)", [schema]);
  expect(await detect("otto@acme.test")).toEqual([]);
  const seen = await db.as(
    "acme",
    "ann@acme.test",
    async (client) =>
      (await client.query("select kontakt, bank, betaling from acme_crm.folk limit 1")).rows[0],
  );
  expect(seen).toEqual({ kontakt: "p***@example.com", bank: "**** 947", betaling: "****1111" });
  expect((await refusal(detect("ann@acme.test"))).code).toBe("RH403");
  expect(
    (
      await refusal(
        db.as("acme", "otto@acme.test", (c) =>
          c.query("select access.detect_pii($1)", ["acme/crm/'; drop table x"]),
        ),
      )
    ).code,
  ).toBe("RH404");
});

test.each<[string, object, string]>([
  ["a mask that is none", { "x-mask": "blur" }, "/properties/a/x-mask"],
  ["a mask that is no text", { "x-mask": 4 }, "/properties/a/x-mask"],
  ["x-pii that is no boolean", { "x-pii": "yes" }, "/properties/a/x-pii"],
  ["a template of 1 MB", { "x-mask": `{last4}${"x".repeat(1_000_000)}` }, "/properties/a/x-mask"],
])("a definition with %s is refused", async (_what, property, pointer) => {
  const told = await refusal(
    db.query("select data.define_entity('acme/crm', 'odd', $1)", [
      { type: "object", properties: { a: { type: "string", ...property } } },
    ]),
  );
  expect([told.code, told.detail.errors?.[0]?.pointer]).toEqual(["RH400", pointer]);
});

test.each<[string, object]>([
  ["a mask that is none", { masked: { a: "blur" } }],
  ["a mask that is no text", { masked: { a: { b: 1 } } }],
  ["masks as a list", { masked: ["a"] }],
  ["what is not known", { hidden: ["a"] }],
])("a role with %s is refused", async (_what, fields) => {
  const told = await refusal(
    db.query("select access.define_role('acme', $1)", [
      { name: "odd", permissions: [{ permission: "*:read", fields }] },
    ]),
  );
  expect(told.code).toBe("RH400");
});

test("a policy that denies hides or locks fields, and masks none", async () => {
  const told = await refusal(
    db.query("select access.define_policy('acme', $1)", [
      { name: "odd", effect: "deny", actions: ["read"], fields: { masked: { a: "redact" } } },
    ]),
  );
  expect([told.code, told.detail.errors?.[0]?.pointer]).toEqual(["RH400", "/fields/masked"]);
});

test("a template is text and nothing else, whatever stands in it", async () => {
  for (const mask of [
    "'; drop table x; -- {last4}",
    ["$body$", "{last4}", "$body$"].join(""),
    "%1$I %s {last4}",
    '"{last4}"',
    "\\{last4}",
  ]) {
    await db.query("select data.define_entity('acme/crm', 'odd', $1)", [
      { type: "object", properties: { a: { type: "string", "x-mask": mask } } },
    ]);
    await db.query("delete from acme_crm.odd");
    await db.query("insert into acme_crm.odd (a) values ('12345678')");
    const [row] = await db.as(
      "acme",
      "ann@acme.test",
      async (client) => (await client.query("select a from acme_crm.odd")).rows,
    );
    expect(row.a).toBe(mask.replace("{last4}", "5678"));
  }
});
