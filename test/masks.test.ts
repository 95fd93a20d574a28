import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { base } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { ada, bea, entity, startPeopleByDoors, storages } from "./harness/people.ts";
import { forgetRules } from "./harness/roleless.ts";

// What was promised of fields: who may not see one sees its mask or nothing, by whatever door.

let crm: Awaited<ReturnType<typeof startPeopleByDoors>>;
beforeAll(async () => {
  crm = await startPeopleByDoors();
});
afterAll(() => crm?.stop());
beforeEach(() => forgetRules(crm.db));

const run: typeof crm.run = (...asked) => crm.run(...asked);
const as: typeof crm.as = (...asked) => crm.as(...asked);
const define = (role: object) => run("select access.define_role('acme', $1)", [role]);
const policy = (definition: object) => run("select access.define_policy('acme', $1)", [definition]);
const assign = (name: string, role: string) =>
  run("select access.assign_role('acme', $1, $2)", [`${name}@acme.test`, role]);
const hash = expect.stringMatching(/^[0-9a-f]{32}$/);

const columns = "name, email, phone, born::text, ssn, salary::int, team, card, mail";
const masked = {
  name: "Ada",
  email: "a***@x.test",
  phone: "****1234",
  born: "1990-01-01",
  ssn: hash,
  salary: 100,
  team: "red",
  card: null,
  mail: "a***@x.test",
};
const whole = { ...ada, card: "Ada +47 5550 1234", mail: ada.email };

describe.each(storages)("in %s storage", (storage) => {
  const path = `${base}/${entity(storage)}`;
  const view = `acme_crm.${entity(storage)}`;

  /** Ada as an account sees her, by every door; they must agree. */
  async function seen(name: string): Promise<Record<string, unknown>> {
    const id = crm.ids[`${storage} Ada`];
    const [psql] = await as(name, `select ${columns} from ${view} where id = $1`, [id]);
    const own = Object.keys(psql);
    const only = (row: Record<string, unknown>) => Object.fromEntries(own.map((key) => [key, row[key]]));
    const one = await crm.send(`${path}/${id}`, { as: name });
    const list = await crm.send(`${path}?sort=created_at&limit=1`, { as: name });
    const [found] = await as(name, `select data.find($1, '{"sort": [{"field": "created_at"}]}') as f`, [
      `acme/crm/${entity(storage)}`,
    ]);
    const camel = `people${storage === "jsonb" ? "Jsonb" : "Flat"}Kinds`;
    const answer = await crm.ask(
      name,
      `{ ${camel}(orderBy: CREATED_AT_ASC, first: 1) { nodes { ${own.join(" ")} } } }`,
    );
    const [csv] = await as(name, "select data.export_statement($1, 'ndjson', $2) as sql", [
      `acme/crm/${entity(storage)}`,
      { filter: { id: crm.ids[`${storage} Ada`] } },
    ]);
    const visits = await crm.send(
      `${base}/visits_${storage}_kind?expand=person&filter={"what":"visit of Ada"}`,
      {
        as: "otto",
      },
    );
    expect(visits.status).toBe(200);
    expect(csv.sql).toMatch(view.replace("acme_crm.", ""));
    expect(answer.errors).toEqual([]);
    expect(only(one.json)).toEqual(psql);
    expect(only(list.json.data[0] as object as Record<string, unknown>)).toEqual(psql);
    expect(only(found.f.data[0])).toEqual(psql);
    const [node] = answer.data[camel].nodes;
    expect({ ...node, salary: node.salary && Number(node.salary) }).toEqual(psql);
    return psql;
  }

  test("what is marked as personal is masked by default, by type, and stands for admins", async () => {
    expect(await seen("ann")).toEqual(masked);
    expect(await seen("vic")).toEqual(masked);
    expect(await seen("otto")).toEqual(whole);
  });

  test.each<[string, object[], object]>([
    [
      "unmasks one field",
      [{ permission: `${entity(storage)}:read`, fields: { unmasked: ["email"] } }],
      { ...masked, email: ada.email, mail: ada.email },
    ],
    [
      "unmasks by another name",
      [{ permission: `${entity(storage)}:read`, fields: { unmasked: ["mail"] } }],
      { ...masked, email: ada.email, mail: ada.email },
    ],
    ["unmasks all", [{ permission: "*:read", fields: { unmasked: ["*"] } }], whole],
    [
      "unmasks what a computed field needs",
      [{ permission: "*:read", fields: { unmasked: ["phone"] } }],
      { ...masked, phone: ada.phone, card: whole.card },
    ],
    [
      "lets some fields be read",
      [{ permission: `${entity(storage)}:read`, fields: { readable: ["name", "email"] } }],
      {
        name: "Ada",
        email: "a***@x.test",
        phone: null,
        born: null,
        ssn: null,
        salary: null,
        team: null,
        card: null,
        mail: "a***@x.test",
      },
    ],
    [
      "masks what others see",
      [
        {
          permission: `${entity(storage)}:read`,
          fields: {
            unmasked: ["*"],
            masked: { salary: "redact", team: "redact", born: "null", ssn: "***-{last4}", name: "{first1}." },
          },
        },
      ],
      { ...whole, salary: null, team: "***", born: null, ssn: "***-1120", name: "A.", card: null },
    ],
    [
      "is added to another, and the more is seen",
      [
        {
          permission: `${entity(storage)}:read`,
          fields: { readable: ["name", "ssn"], masked: { ssn: "redact" } },
        },
        {
          permission: `${entity(storage)}:read`,
          fields: { readable: ["team"], masked: { ssn: "last_four" } },
        },
      ],
      {
        name: "Ada",
        email: null,
        phone: null,
        born: null,
        ssn: "****1120",
        salary: null,
        team: "red",
        card: null,
        mail: null,
      },
    ],
    [
      "depends on the record",
      [
        { permission: `${entity(storage)}:read` },
        { permission: `${entity(storage)}:read`, condition: { team: "red" }, fields: { unmasked: ["*"] } },
        { permission: `${entity(storage)}:read`, condition: { team: "blue" }, fields: { unmasked: ["ssn"] } },
      ],
      whole,
    ],
    [
      "depends on another record's kind",
      [
        { permission: `${entity(storage)}:read` },
        { permission: `${entity(storage)}:read`, condition: { team: "blue" }, fields: { unmasked: ["*"] } },
      ],
      masked,
    ],
  ])("a permission that %s", async (_what, permissions, expected) => {
    await define({ name: "given", permissions });
    await assign("pat", "given");
    expect(await seen("pat")).toEqual(expected);
    await run("select access.revoke_role('acme', 'pat@acme.test', 'given')");
    expect(await as("pat", `select name from ${view}`)).toEqual([]);
  });

  test("a policy shows fields, and one that denies hides them from all", async () => {
    await policy({
      name: "hr",
      effect: "allow",
      actions: ["read"],
      entities: [`crm/${entity(storage)}`],
      condition: { "$account.email": "pat@acme.test" },
      fields: { unmasked: ["*"] },
    });
    expect(await seen("pat")).toEqual(whole);
    await policy({
      name: "no-pay",
      effect: "deny",
      actions: ["read"],
      entities: [`crm/${entity(storage)}`],
      condition: { "$account.roles": { $contains: "admin" } },
      fields: { readable: ["salary"] },
    });
    expect(await seen("otto")).toEqual({ ...whole, salary: null });
    expect(await seen("pat")).toEqual(whole);
    await policy({
      name: "no-pay",
      effect: "deny",
      actions: ["read"],
      entities: [`crm/${entity(storage)}`],
      condition: { team: "red" },
      fields: { readable: ["salary", "phone"] },
    });
    expect(await seen("otto")).toEqual({ ...whole, salary: null, phone: null, card: null });
    expect(await as("otto", `select salary::int, phone from ${view} where name = 'Bea'`)).toEqual([
      { salary: bea.salary, phone: bea.phone },
    ]);
  });

  test("the hash is of the site's secret: the same for the same value, and not to be found by trying", async () => {
    const [row] = await as("ann", `select ssn from ${view} where name = 'Ada'`);
    expect((await as("ann", `select ssn from ${view} where name = 'Ada'`))[0].ssn).toBe(row.ssn);
    expect((await refusal(as("ann", "select key from access.mask_keys"))).code).toBe("42501");
    expect((await refusal(as("otto", "select key from access.mask_keys"))).code).toBe("42501");
    const [other] = await run("select access.mask_hash($1, decode(repeat('00', 64), 'hex')) as h", [ada.ssn]);
    expect(row.ssn).not.toBe((other as { h: string }).h);
    expect(row.ssn).not.toContain("1120");
  });
});
