import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { makeRoleless } from "./harness/roleless.ts";

// What is checked together with a field that somebody does not see: who that is, what else changes a record, what a refusal
// says, and what may be known of a definition. ann (editor) sees what is marked masked, otto (admin) all.

let crm: Crm;
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const as = (who: string, sql: string, values: unknown[] = []) =>
  crm.db.as("acme", `${who}@acme.test`, async (client) => (await client.query(sql, values)).rows);
const refused = async (who: string, sql: string, values: unknown[] = []) => {
  const { code, detail, ...said } = await refusal(as(who, sql, values));
  return { code: `${code} ${detail.code ?? ""}`.trim(), errors: detail.errors, ...said };
};
const text = { type: "string" };
const int = { type: "integer" };
const date = { type: "string", format: "date" };
const pii = { "x-pii": true };
const moment = { type: "string", format: "date-time" };
const define = (entity: string, schema: object) =>
  run("select data.define_entity('acme/crm', $1, $2)", [entity, { type: "object", ...schema }]);
const insert = async (entity: string, record: object) =>
  (await run("select data.insert($1, $2)->>'id' as id", [`acme/crm/${entity}`, record]))[0]?.id as string;
const update = "select data.update($1, $2, $3)";

beforeAll(async () => {
  crm = await startCrm();
  await crm.db.account("otto@acme.test");
  await run("select tenancy.add_member('acme', 'otto@acme.test', 'admin')");
  crm.tokens.otto = await crm.gateway.token("otto@acme.test", "acme");
  await makeRoleless(crm.db, ["pat@acme.test"]);
});
afterAll(() => crm?.stop());

const limits = {
  properties: { title: text, region: text, pay: { ...int, ...pii }, most: int },
  "x-rules": [
    { rule: "pay <= most", message: "is '; drop table x; -- $body$ %1$I %s \" <b>", field: "most" },
  ],
};

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const stored = { "x-storage": storage };
  const called = (name: string) => `${name}_${storage}_kind`;

  test("who sees the field is told by the rule; a refusal says what it is about", async () => {
    const entity = called("limits");
    const path = `acme/crm/${entity}`;
    await define(entity, { ...limits, ...stored });
    const id = await insert(entity, { title: "a", region: "north", pay: 50, most: 100 });
    expect((await refused("otto", update, [path, id, { most: 10 }])).code).toBe("RH422 validation_failed");
    await as("otto", update, [path, id, { most: 90 }]);
    expect(await refused("ann", update, [path, id, { most: 95 }])).toEqual({
      code: "RH403 field_not_seen",
      message: `You do not see pay of ${entity}, and most is checked together with it: is '; drop table x; -- $body$ %1$I %s " <b>`,
      hint: "Whether it fits would tell what pay holds. Give pay too, if you may write it; else a role that shows it is needed.",
      errors: [
        {
          pointer: "/most",
          message: `is checked together with pay, which you do not see: is '; drop table x; -- $body$ %1$I %s " <b>`,
        },
      ],
    });
    const answer = await crm.send(`${base}/transaction`, {
      method: "POST",
      body: { operations: [{ operation: "update", entity, id, data: { most: 95 } }] },
    });
    expect([answer.status, answer.json.code]).toEqual([403, "field_not_seen"]);
    expect(answer.text).toContain('"/operations/0/data/most"');

    // Roles and policies that come and go.
    await run("select access.define_role('acme', $1)", [
      { name: "payroll", permissions: [{ permission: `${entity}:read`, fields: { unmasked: ["pay"] } }] },
    ]);
    await run("select access.assign_role('acme', 'ann@acme.test', 'payroll')");
    expect((await refused("ann", update, [path, id, { most: 10 }])).code).toBe("RH422 validation_failed");
    await as("ann", update, [path, id, { most: 95 }]);
    await run("select access.define_role('acme', $1)", [
      {
        name: "payroll",
        permissions: [
          { permission: `${entity}:read`, condition: { region: "south" }, fields: { unmasked: ["pay"] } },
        ],
      },
    ]);
    expect((await refused("ann", update, [path, id, { most: 10 }])).code).toBe("RH403 field_not_seen");
    await as("ann", update, [path, id, { region: "south" }]);
    expect((await refused("ann", update, [path, id, { most: 10 }])).code).toBe("RH422 validation_failed");
    await run("select access.define_policy('acme', $1)", [
      {
        name: "nobody",
        effect: "deny",
        entities: [`crm/${entity}`],
        actions: ["read"],
        fields: { readable: ["pay"] },
      },
    ]);
    for (const who of ["ann", "otto"])
      expect((await refused(who, update, [path, id, { most: 10 }])).code).toBe("RH403 field_not_seen");
    await run("select access.drop_policy('acme', 'nobody')");
    await run("select access.revoke_role('acme', 'ann@acme.test', 'payroll')");
    await run("select access.drop_role('acme', 'payroll')");
  });

  test("a field that everybody sees becomes hidden, and its rule is guarded from then on", async () => {
    const entity = called("plain");
    const path = `acme/crm/${entity}`;
    await define(entity, { ...limits, properties: { ...limits.properties, pay: int }, ...stored });
    const source = async () =>
      (await run("select prosrc from pg_proc where proname = $1", [`${entity}_before_write`]))[0]
        ?.prosrc as string;
    expect(await source()).not.toMatch(/check_joint|told_errors|refuse_names/);
    const id = await insert(entity, { pay: 50, most: 100 });
    expect((await refused("ann", update, [path, id, { most: 10 }])).code).toBe("RH422 validation_failed");
    await run("select access.define_role('acme', $1)", [
      {
        name: "lower",
        permissions: [
          { permission: `${entity}:read`, fields: { readable: ["title", "most"] } },
          `${entity}:update`,
        ],
      },
    ]);
    await run("select access.assign_role('acme', 'pat@acme.test', 'lower')");
    expect((await refused("pat", update, [path, id, { most: 10 }])).code).toBe("RH403 field_not_seen");
    await as("pat", update, [path, id, { most: 10, pay: 5 }]);
    await as("pat", update, [path, id, { title: "b" }]);
    expect((await refused("ann", update, [path, id, { most: 1 }])).code).toBe("RH422 validation_failed");
    // As a release before has built it.
    const [made] = await run("select pg_get_functiondef(oid) as d from pg_proc where proname = $1", [
      `${entity}_before_write`,
    ]);
    const before = String(made?.d)
      .replace(/perform access\.check_joint\(.*\);/, "")
      .replace(/_errors := access\.told_errors\(.*\);/, "");
    await run(before);
    expect((await refused("pat", update, [path, id, { most: 1 }])).code).toBe("RH422 validation_failed");
    await run("set role rowhouse_owner; select access.renew_write_rules(); reset role");
    expect((await refused("pat", update, [path, id, { most: 20 }])).code).toBe("RH403 field_not_seen");
    await run("select access.revoke_role('acme', 'pat@acme.test', 'lower')");
    await run("select access.drop_role('acme', 'lower')");
    expect(await source()).not.toMatch(/check_joint|told_errors|refuse_names/);
  });

  test("what is sent back masked is refused, also where it is the value itself", async () => {
    const entity = called("born");
    await define(entity, {
      properties: {
        born: { ...date, ...pii },
        note: { ...text, "x-mask": "null" },
        name: { ...text, ...pii },
      },
      ...stored,
    });
    const ids = [
      await insert(entity, { born: "1990-01-01", name: "***" }),
      await insert(entity, { born: "1990-05-17", note: "x", name: "Ada" }),
    ];
    for (const id of ids)
      for (const body of [{ born: "1990-01-01" }, { note: null }, { name: "***" }]) {
        const { status, json } = await crm.send(`${base}/${entity}/${id}`, { method: "PATCH", body });
        expect([id, body, status, json.code]).toEqual([id, body, 422, "masked_value"]);
      }
  });

  test("two names of one field do not tell which of two values it has", async () => {
    const entity = called("aliases");
    await define(entity, {
      properties: {
        email: { ...text, ...pii },
        mail: { ...text, "x-alias": "email" },
        post: { ...text, "x-alias": "email" },
        name: text,
        title: { ...text, "x-alias": "name" },
      },
      ...stored,
    });
    const ids = [
      await insert(entity, { email: "a", name: "n" }),
      await insert(entity, { email: "b", name: "n" }),
    ];
    for (const id of ids)
      for (const changes of [
        { email: "a", mail: "c" },
        { mail: "a", email: "c" },
        { mail: "a", post: "c" },
        { mail: "a", email: null },
      ])
        expect((await refused("ann", update, [`acme/crm/${entity}`, id, changes])).code).toBe(
          "RH422 validation_failed",
        );
    await as("ann", update, [`acme/crm/${entity}`, ids[0], { name: "n", title: "m" }]);
    await as("otto", update, [`acme/crm/${entity}`, ids[0], { email: "a", mail: "d" }]);
    await as("ann", update, [`acme/crm/${entity}`, ids[0], { email: "e", mail: "e", post: "e" }]);
    expect((await run(`select email, name from acme_crm.${entity} where id = $1`, [ids[0]]))[0]).toEqual({
      email: "e",
      name: "m",
    });
  });

  test("a list in which something else is wrong does not tell either", async () => {
    const entity = called("lists");
    const path = `acme/crm/${entity}`;
    await define(entity, { ...limits, ...stored });
    const ids = [await insert(entity, { pay: 50, most: 100 }), await insert(entity, { pay: 5, most: 100 })];
    for (const most of [4, 40, 400])
      for (const [sql, ...values] of [
        ["select data.update_list($1, $2)"],
        ["select data.upsert($1, $2, '{id}')"],
        [
          "select data.import_lines('acme/crm/' || split_part($1, '/', 3), (select jsonb_agg(jsonb_build_array(n, r)) from jsonb_array_elements($2) with ordinality x (r, n)), null, '{id}', 'skip')",
        ],
      ] as const) {
        const list = JSON.stringify([
          { id: ids[0], title: 7 },
          { id: ids[1], most },
        ]);
        const said = await refused("ann", sql, [path, list, ...values]);
        expect([sql, said.code]).toEqual([sql, "RH403 field_not_seen"]);
      }
    const wrong = JSON.stringify(
      [
        { id: ids[0], title: 7 },
        { id: ids[1], region: 8 },
        { id: ids[1], region: 8 },
      ].slice(0, 2),
    );
    expect((await refused("ann", "select data.update_list($1, $2)", [path, wrong])).errors).toHaveLength(2);
  });

  test("a list is told what is wrong, whatever its fields are called", async () => {
    const entity = called("letters");
    const letters = ["e", "r", "n", "t", "x", "i", "value", "m", "c", "o", "u", "l", "s"];
    await define(entity, { properties: Object.fromEntries(letters.map((name) => [name, int])), ...stored });
    const id = await insert(entity, { e: 1 });
    const list = JSON.stringify([{ id, e: "x" }]);
    for (const sql of ["select data.update_list($1, $2)", "select data.upsert($1, $2, '{id}')"])
      expect(await refused("ann", sql, [`acme/crm/${entity}`, list])).toMatchObject({
        code: "RH422 validation_failed",
        errors: [{ pointer: "/0/e", message: "must be a number" }],
      });
    await as("ann", "select data.update_list($1, $2)", [
      `acme/crm/${entity}`,
      JSON.stringify([{ id, ...Object.fromEntries(letters.map((name) => [name, 2])) }]),
    ]);
  });

  test("deleting what a record refers to tells nothing of that record", async () => {
    const [firms, entity] = [called("firms"), called("workers")];
    await define(firms, { properties: { name: text } });
    await define(entity, {
      properties: {
        pay: { ...int, ...pii },
        twice: { ...int, "x-computed": { expression: "pay * 2", stored: true } },
        firm_id: { type: "string", format: "uuid", "x-relation": { entity: firms, onDelete: "set null" } },
      },
      "x-rules": [{ rule: "firm_id is not null or pay < 10" }],
      ...stored,
    });
    for (const pay of [5, 50]) {
      const firm = await insert(firms, { name: "F" });
      await insert(entity, { pay, firm_id: firm });
      const gone = "select data.delete($1, $2)";
      expect((await refused("ann", gone, [`acme/crm/${firms}`, firm])).code).toBe("RH403 field_not_seen");
      if (pay === 5) await as("otto", gone, [`acme/crm/${firms}`, firm]);
      else
        expect((await refused("otto", gone, [`acme/crm/${firms}`, firm])).code).toBe(
          "RH422 validation_failed",
        );
    }
  });

  test("nor does taking the unique value of one that has expired", async () => {
    const [firms, entity] = [called("leases"), called("tenants")];
    await define(firms, { properties: { name: { ...text, "x-unique": true } }, "x-ttl": true, ...stored });
    await define(entity, {
      properties: {
        pay: { ...int, ...pii },
        twice: { ...int, "x-computed": { expression: "pay * 2", stored: true } },
        firm_id: { type: "string", format: "uuid", "x-relation": { entity: firms, onDelete: "set null" } },
      },
      "x-rules": [{ rule: "firm_id is not null or pay < 10" }],
      ...stored,
    });
    const expires_at = new Date(Date.now() + 500).toISOString();
    const firm = async (pay: number) =>
      insert(entity, { pay, firm_id: await insert(firms, { name: `F${pay}`, expires_at }) });
    for (const pay of [5, 50]) await firm(pay);
    await insert(firms, { name: "alone", expires_at });
    await run("select pg_sleep(0.6)");
    const take = (name: string) =>
      as("ann", "select data.insert($1, $2)", [`acme/crm/${firms}`, { name }]).then(
        () => "taken",
        ({ code }) => code,
      );
    expect([await take("F5"), await take("F50"), await take("alone")]).toEqual(["23505", "23505", "taken"]);
  });

  test("what is restored tells neither whether its time has passed nor what does not fit any more", async () => {
    const entity = called("kept");
    const path = `acme/crm/${entity}`;
    const kept = (pay: object, rules: object[]) => ({
      properties: { title: text, born: { ...date, ...pii }, pay: { ...int, ...pii, ...pay } },
      "x-rules": rules,
      "x-soft-delete": true,
      ...stored,
    });
    await define(entity, kept({}, []));
    const ids = [
      await insert(entity, { born: "2000-01-01", pay: 5 }),
      await insert(entity, { born: "2999-01-01", pay: 50 }),
    ];
    for (const id of ids) await as("ann", "select data.delete($1, $2)", [path, id]);
    await define(entity, kept({}, [{ rule: "born < today()" }]));
    const restore = "select data.restore($1, $2)";
    for (const id of ids)
      expect((await refused("ann", restore, [path, id])).code).toBe("RH403 field_not_seen");
    expect((await refused("otto", restore, [path, ids[1]])).code).toBe("RH422 validation_failed");
    await define(entity, kept({ maximum: 9 }, []));
    const said = await refused("ann", restore, [path, ids[1]]);
    expect(said.errors).toEqual([
      { pointer: "", message: "does not fit the definition, in what you do not see" },
    ]);
    expect(JSON.stringify(said)).not.toMatch(/pay|9/);
    expect((await refused("otto", restore, [path, ids[1]])).errors).toEqual([
      { pointer: "/pay", message: "must be at most 9" },
    ]);
    await as("ann", restore, [path, ids[0]]);
  });

  test("an upsert that changes nothing but how a time is spelt does not tell that another time has passed", async () => {
    const entity = called("spelt");
    await define(entity, {
      properties: { starts: moment, until: { ...moment, "x-mask": "null" } },
      "x-rules": [{ rule: "until > now()" }],
      ...stored,
    });
    const starts = "2020-01-01T12:00:00Z";
    const ids = [
      await insert(entity, { starts, until: new Date(Date.now() + 700).toISOString() }),
      await insert(entity, { starts, until: "2999-01-01T00:00:00Z" }),
    ];
    await run("select pg_sleep(0.8)");
    const upsert = (id: string | undefined, starts: string) =>
      as("ann", "select data.upsert($1, $2, '{id}')->'meta' as m", [
        `acme/crm/${entity}`,
        JSON.stringify([{ id, starts }]),
      ]).then(
        ([row]) => row.m,
        ({ code }) => code,
      );
    for (const id of ids) {
      expect(await upsert(id, starts)).toMatchObject({ unchanged: 1 });
      expect(await upsert(id, "2020-01-01T13:00:00+01:00")).toMatchObject({ unchanged: 1 });
      expect(await upsert(id, "2020-01-01T13:00:00Z")).toBe("RH403");
    }
  });
});
