import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { refusal } from "./harness/failure.ts";
import { startPosts, storages } from "./harness/posts.ts";

// What an administrator was promised: who would gain and who would lose is known before a rule holds, and it is what then happens.

let crm: Awaited<ReturnType<typeof startPosts>>;
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
type Change = {
  account: string | null;
  entity: string;
  action: string;
  gained?: number;
  lost?: number;
  before?: string;
  after?: string;
};
type Answer = { changes: Change[]; breaks: { test: string }[]; looked_at: Record<string, number> };
const simulate = async (change: unknown, ...more: number[]) =>
  (
    await run(`select access.simulate('acme', $1${more.map((n) => `, ${n}`).join("")}) as a`, [
      JSON.stringify(change),
    ])
  )[0]?.a as Answer;
const brief = ({ changes }: Answer) =>
  changes.map((c) => {
    const { account, entity, action, gained, lost, before, after } = c;
    return `${account} ${entity} ${action} ${gained ?? before} ${lost ?? after}`;
  });

beforeAll(async () => {
  crm = await startPosts();
  await run("select access.define_role('acme', $1)", [
    {
      name: "northern",
      permissions: [
        { permission: "crm/posts_flat_kind:read", condition: "region = 'north'" },
        "crm/posts_flat_kind:update:own",
      ],
    },
  ]);
  await run("select access.assign_role('acme', 'pat@acme.test', 'northern')");
  await run("select access.define_test('acme/crm', $1)", [
    {
      name: "pat reads the north",
      account: "pat@acme.test",
      entity: "posts_flat_kind",
      action: "read",
      record: { region: "north" },
      expected: "allow",
    },
  ]);
});
afterAll(() => crm.stop());

/** The records of an entity that an account sees. */
const seen = (email: string, entity: string) =>
  crm.db.as("acme", email, async (c) => (await c.query(`select id from acme_crm.${entity}`)).rowCount ?? 0);

const flat = "crm/posts_flat_kind";
test.each<[string, object, string[], string[]]>([
  [
    "a policy that denies",
    {
      policy: {
        name: "secret",
        effect: "deny",
        entities: [flat],
        actions: ["read"],
        condition: "region = 'north'",
      },
    },
    // Who sees a record no more changes and deletes it no more.
    [
      `ann@acme.test ${flat} delete 0 2`,
      `ann@acme.test ${flat} read 0 2`,
      `ann@acme.test ${flat} update 0 2`,
      `eve@both.test ${flat} delete 0 2`,
      `eve@both.test ${flat} read 0 2`,
      `eve@both.test ${flat} update 0 2`,
      `pat@acme.test ${flat} read 0 2`,
      `pat@acme.test ${flat} update 0 1`,
      `vic@acme.test ${flat} read 0 2`,
    ],
    ["crm/pat reads the north"],
  ],
  [
    "a policy that allows everybody",
    { policy: { name: "open", scope: flat, effect: "allow", actions: ["read"], condition: "score > 3" } },
    [
      `null ${flat} read 1 0`,
      `pat@acme.test ${flat} read 1 0`,
      `pat@acme.test ${flat} update 1 0`,
      `quinn@acme.test ${flat} read 1 0`,
    ],
    [],
  ],
  [
    "a role with more",
    { role: { name: "northern", permissions: ["crm/posts_flat_kind:read", "crm/posts_flat_kind:create"] } },
    [
      `pat@acme.test ${flat} create deny allow`,
      `pat@acme.test ${flat} read 2 0`,
      `pat@acme.test ${flat} update 0 1`,
    ],
    [],
  ],
  [
    "a role that goes",
    { drop_role: "northern" },
    [`pat@acme.test ${flat} read 0 2`, `pat@acme.test ${flat} update 0 1`],
    ["crm/pat reads the north"],
  ],
  [
    "an assignment",
    { assign: { email: "quinn@acme.test", role: "northern" } },
    [`quinn@acme.test ${flat} read 2 0`],
    [],
  ],
  [
    "an assignment that goes",
    { revoke: { email: "pat@acme.test", role: "northern" } },
    [`pat@acme.test ${flat} read 0 2`, `pat@acme.test ${flat} update 0 1`],
    ["crm/pat reads the north"],
  ],
])("%s", async (_what, change, changes, breaks) => {
  const versions = async () =>
    (
      await run(
        "select count(*)::int as n, (select count(*)::int from access.rules) as r from access.versions",
      )
    )[0];
  const before = await versions();
  const answer = await simulate(change);
  expect(brief(answer)).toEqual(changes);
  expect(answer.breaks.map((b) => b.test)).toEqual(breaks);
  // Nothing is left of it.
  expect(await versions()).toEqual(before);
  expect(brief(await simulate(change))).toEqual(changes);
});

describe("which fields become visible, masked and hidden", () => {
  const people = "crm/people";
  type Field = {
    account: string | null;
    entity: string;
    field: string;
    from: string | null;
    to: string;
    records: number;
  };
  const fields = async (change: unknown) =>
    ((await simulate(change)) as unknown as { fields: Field[] }).fields.map(
      (f) => `${f.account} ${f.entity} ${f.field}: ${f.from} -> ${f.to} ${f.records}`,
    );
  beforeAll(async () => {
    const text = { type: "string" };
    for (const storage of storages)
      await run("select data.define_entity('acme/crm', $1, $2)", [
        storage === "flat" ? "people" : "people_two",
        {
          type: "object",
          "x-storage": storage,
          properties: {
            name: text,
            region: text,
            email: { ...text, format: "email", "x-pii": true },
            salary: { type: "integer" },
          },
        },
      ]);
    for (const entity of ["people", "people_two"])
      await run("select data.insert($1, $2)", [
        `acme/crm/${entity}`,
        JSON.stringify([
          { name: "n1", region: "north", email: "n1@x.test", salary: 1 },
          { name: "n2", region: "north", email: "n2@x.test", salary: 2 },
          { name: "s1", region: "south", email: "s1@x.test", salary: 3 },
        ]),
      ]);
    await run("select access.define_role('acme', $1), access.assign_role('acme', 'pat@acme.test', 'staff')", [
      { name: "staff", permissions: ["crm/people:read", "crm/people_two:read"] },
    ]);
  });
  afterAll(async () => {
    await run("select access.drop_role('acme', 'staff')");
    for (const entity of ["people", "people_two"])
      await run("select data.drop_entity('acme/crm/' || $1, $1)", [entity]);
  });
  const staff = (...permissions: unknown[]) => ({ role: { name: "staff", permissions } });
  const policy = (more: object) => ({
    policy: { name: "p", effect: "deny", actions: ["read"], entities: [people], ...more },
  });
  const ofPat = (lines: string[]) => lines.filter((line) => line.startsWith("pat@"));
  const on = (...lines: string[]) => lines.map((line) => `pat@acme.test ${people} ${line}`);
  test.each<[string, object, string[]]>([
    [
      "a permission that unmasks",
      staff({ permission: "crm/people:read", fields: { unmasked: ["email"] } }),
      on("email: email -> full 3"),
    ],
    [
      "one that unmasks some records",
      staff("crm/people:read", {
        permission: "crm/people:read",
        condition: { region: "north" },
        fields: { unmasked: ["email"] },
      }),
      on("email: email -> full 2"),
    ],
    [
      "another mask",
      staff({ permission: "crm/people:read", fields: { masked: { email: "redact" } } }),
      on("email: email -> redact 3"),
    ],
    [
      "fewer fields",
      staff({ permission: "crm/people:read", fields: { readable: ["name", "region"] } }),
      on("email: email -> hidden 3", "salary: full -> hidden 3"),
    ],
    [
      "a policy that denies a field",
      policy({ fields: { readable: ["salary"] } }),
      on("salary: full -> hidden 3"),
    ],
    [
      "a policy that denies a field of some records",
      policy({ fields: { readable: ["salary"] }, condition: { region: "south" } }),
      on("salary: full -> hidden 1"),
    ],
    ["a policy that denies records", policy({ condition: { region: "south" } }), []],
    ["nothing", staff("crm/people:read", "crm/people_two:read"), []],
  ])("%s", async (_what, change, expected) => {
    expect(ofPat(await fields(change)).filter((line) => line.includes(`${people} `))).toEqual(expected);
    const text = JSON.stringify(change).replaceAll(people, "crm/people_two");
    const jsonb = ofPat(await fields(JSON.parse(text))).filter((line) => line.includes("people_two"));
    expect(jsonb.map((line) => line.replace("people_two", "people"))).toEqual(expected);
  });
  test("in records that were not seen before", async () => {
    expect(await fields({ assign: { email: "quinn@acme.test", role: "staff" } })).toEqual([
      "quinn@acme.test crm/people email: null -> email 3",
      "quinn@acme.test crm/people_two email: null -> email 3",
    ]);
  });
  test("as it then is", async () => {
    const change = staff(
      { permission: "crm/people:read", condition: { region: "north" }, fields: { unmasked: ["email"] } },
      { permission: "crm/people:read", fields: { readable: ["name", "email"], masked: { email: "redact" } } },
    );
    const said = ofPat(await fields(change));
    await run("select access.define_role('acme', $1)", [change.role]);
    const shown = await crm.db.as("acme", "pat@acme.test", (c) =>
      c.query("select email, salary from acme_crm.people order by name"),
    );
    expect(shown.rows.map(({ email, salary }) => `${email} ${salary}`)).toEqual([
      "n1@x.test 1",
      "n2@x.test 2",
      "*** null",
    ]);
    expect(said).toEqual(
      on(
        "email: email -> full 2",
        "email: email -> redact 1",
        "region: full -> hidden 1",
        "salary: full -> hidden 1",
      ),
    );
  });
});

describe("which fields may be written", () => {
  type Write = { action: string; field: string; from: string | null; to: string; records?: number };
  const memos = ["memos_one", "memos_two"];
  const writes = async (change: unknown) =>
    (
      (await simulate(change)) as unknown as { writes: (Write & { account: string; entity: string })[] }
    ).writes
      .filter(({ account }) => account === "pat@acme.test")
      .map(
        ({ entity, action, field, from, to, records }) =>
          `${entity.slice(4)} ${action} ${field}: ${from} -> ${to}${records === undefined ? "" : ` ${records}`}`,
      );
  const clerk = (...fields: (object | null)[]) => ({
    role: {
      name: "clerk",
      permissions: fields.flatMap((fields) =>
        memos.flatMap((entity) =>
          ["read", "update", "create"].map((action) => ({
            permission: `crm/${entity}:${action}`,
            ...(fields && action !== "read" ? { fields } : {}),
          })),
        ),
      ),
    },
  });
  const lock = (more: object) => ({
    policy: {
      name: "locked",
      effect: "deny",
      actions: ["create", "update"],
      entities: ["crm/memos_one", "crm/memos_two"],
      fields: { writable: ["state"] },
      ...more,
    },
  });
  beforeAll(async () => {
    for (const entity of memos) {
      await run("select data.define_entity('acme/crm', $1, $2)", [
        entity,
        {
          type: "object",
          "x-storage": entity === "memos_two" ? "flat" : "jsonb",
          properties: { title: { type: "string" }, region: { type: "string" }, state: { type: "string" } },
        },
      ]);
      await run("select data.insert($1, $2)", [
        `acme/crm/${entity}`,
        JSON.stringify(
          ["north", "north", "south"].map((region, n) => ({ title: `t${n}`, region, state: "new" })),
        ),
      ]);
    }
    await run("select access.define_role('acme', $1), access.assign_role('acme', 'pat@acme.test', 'clerk')", [
      clerk(null).role,
    ]);
  });
  afterAll(async () => {
    await run("select access.drop_role('acme', 'clerk')");
    for (const entity of memos) await run("select data.drop_entity('acme/crm/' || $1, $1)", [entity]);
  });

  const of = (...lines: string[]) => memos.flatMap((entity) => lines.map((line) => `${entity} ${line}`));
  test.each<[string, object, string[]]>([
    [
      "a role that may write fewer",
      clerk({ writable: ["title", "region"] }),
      of("create state: allow -> deny", "update state: allow -> deny 3"),
    ],
    ["a role that may still write all", clerk({ writable: ["*"] }), []],
    [
      "a policy that locks a field",
      lock({}),
      of("create state: allow -> deny", "update state: allow -> deny 3"),
    ],
    [
      "a policy that locks a field of some records",
      lock({ condition: { region: "south" } }),
      of("create state: allow -> depends", "update state: allow -> deny 1"),
    ],
    ["a policy that locks a field for others", lock({ condition: "current_user.email = 'x@x.test'" }), []],
    ["a policy that denies changes altogether", lock({ fields: null, condition: null }), []],
  ])("%s", async (_what, change, expected) => {
    expect(await writes(change)).toEqual(expected);
  });

  test("in records that could not be changed before", async () => {
    await run("select access.revoke_role('acme', 'pat@acme.test', 'clerk')");
    await run("select access.define_role('acme', $1)", [clerk({ writable: ["title"] }).role]);
    const change = { assign: { email: "pat@acme.test", role: "clerk" } };
    expect((await writes(change)).filter((line) => line.startsWith("memos_two"))).toEqual([
      "memos_two create region: null -> deny",
      "memos_two create state: null -> deny",
      "memos_two update region: null -> deny 3",
      "memos_two update state: null -> deny 3",
    ]);
    await run("select access.assign_role('acme', 'pat@acme.test', 'clerk')");
    expect(await writes(clerk(null))).toEqual(
      expect.arrayContaining([
        "memos_two create state: deny -> allow",
        "memos_two update state: deny -> allow 3",
      ]),
    );
    await run("select access.define_role('acme', $1)", [clerk(null).role]);
  });

  test("as it then is", async () => {
    const change = lock({ condition: { region: "south" } });
    const said = await writes(change);
    await run("select access.define_policy('acme', $1)", [change.policy]);
    for (const entity of memos) {
      const outcomes = await crm.db.as("acme", "pat@acme.test", async (client) => {
        const { rows } = await client.query<{ id: string }>(
          `select id from acme_crm.${entity} order by title`,
        );
        const told: string[] = [];
        for (const { id } of rows)
          told.push(
            await client
              .query("select data.update($1, $2, $3)", [`acme/crm/${entity}`, id, { state: "old" }])
              .then(
                () => "allow",
                ({ code }) => code,
              ),
          );
        return told;
      });
      expect(outcomes).toEqual(["allow", "allow", "RH403"]);
      expect(said).toContain(`${entity} update state: allow -> deny 1`);
    }
    await run("select access.drop_policy('acme', 'locked')");
  });
});

test("what is said is what then happens", async () => {
  const policy = {
    name: "secret",
    effect: "deny",
    entities: ["crm/*"],
    actions: ["read"],
    condition: "title like 'a%' and not current_user.roles contains 'viewer'",
  };
  const answer = await simulate({ policy });
  const people = ["ann@acme.test", "pat@acme.test", "vic@acme.test", "quinn@acme.test"];
  const entities = ["posts_flat_kind", "posts_jsonb_kind"];
  const count = async () =>
    Promise.all(people.flatMap((p) => entities.map((e) => seen(p, e).catch(() => 0))));
  const before = await count();
  await run("select access.define_policy('acme', $1, true)", [policy]);
  const after = await count();
  const lost = people.flatMap((p) =>
    entities.map(
      (e) =>
        answer.changes.find((c) => c.account === p && c.entity === `crm/${e}` && c.action === "read")?.lost ??
        0,
    ),
  );
  expect(before.map((n, i) => n - (after[i] as number))).toEqual(lost);
  expect(lost.reduce((a, b) => a + b)).toBe(5);
  expect(brief(await simulate({ drop_policy: "secret" })).filter((line) => / read /.test(line))).toContain(
    "ann@acme.test crm/posts_jsonb_kind read 2 0",
  );
  await run("select access.drop_policy('acme', 'secret')");
});

test("bounded, and that is said", async () => {
  const answer = await simulate({ drop_role: "northern" }, 2, 1);
  expect(answer.looked_at).toEqual({ accounts: 2, of_accounts: 6, entities: 1, records_of_an_entity: 1 });
  expect(answer.changes.map((c) => c.account)).toEqual([]); // the newest record is in the south
  expect(brief(await simulate({ drop_role: "northern" }, 1, 2))).toEqual([
    `pat@acme.test ${flat} read 0 1`,
    `pat@acme.test ${flat} update 0 1`,
  ]);
});

test("readers and writers go on while it is tried", async () => {
  const client = await crm.db.pool.connect();
  try {
    await client.query("begin");
    await client.query("select access.simulate('acme', $1)", [
      { policy: { name: "x", effect: "deny", condition: "region = 'north'", entities: ["crm/*"] } },
    ]);
    const { rows } = await client.query(
      "select count(*)::int as n from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace where l.pid = pg_backend_pid() and n.nspname = 'acme_crm' and l.mode not in ('AccessShareLock')",
    );
    expect(rows[0].n).toBe(0);
    // Nor do roles and policies wait for its transaction: the lock of the model goes with what is taken back.
    await crm.db.as("acme", "ann@acme.test", (c) =>
      c.query("update acme_crm.posts_flat_kind set score = score"),
    );
  } finally {
    await client.query("rollback");
    client.release();
  }
});

test.each<[string, unknown, string]>([
  ["nothing", {}, "RH400"],
  ["null", null, "RH400"],
  ["two changes", { drop_role: "a", drop_policy: "b" }, "RH400"],
  ["something else", { sql: "drop table access.roles" }, "RH400"],
  ["a role that is none", { role: { name: "'; drop" } }, "RH400"],
  [
    "a policy with code",
    { policy: { name: "x", effect: "deny", condition: "1); drop table access.roles; --" } },
    "RH400",
  ],
  [
    "a condition of a million characters",
    { policy: { name: "x", effect: "deny", condition: "a".repeat(1e6) } },
    "RH400",
  ],
  ["a role that is not there", { drop_role: "$body$" }, "RH404"],
  ["a policy that is not there", { drop_policy: "crm/x/%1$I" }, "RH404"],
  ["somebody of another site", { assign: { email: "bob@beta.test", role: "northern" } }, "RH404"],
  ["nobody", { assign: {} }, "RH404"],
  ["the role admin", { role: { name: "admin", permissions: [] } }, "RH409"],
  [
    "a condition on a field that is not there",
    { policy: { name: "x", effect: "deny", entities: [flat], condition: "nil = 1" } },
    "RH409",
  ],
])("%s is no change", async (_what, change, code) => {
  expect((await refusal(simulate(change))).code).toBe(code);
});

test("not for viewers, nor for members of other sites", async () => {
  const as = (site: string, email: string) =>
    refusal(
      crm.db.as(site, email, (c) => c.query(`select access.simulate('acme', '{"drop_role": "northern"}')`)),
    );
  expect((await as("acme", "vic@acme.test")).code).toBe("RH403");
  expect((await as("beta", "bob@beta.test")).code).toBe("RH404");
});
