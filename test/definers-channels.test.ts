import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { companies as firms, sendTo } from "./harness/crm.ts";
import {
  changed,
  type Definer,
  kinds,
  people,
  type Schema,
  short,
  startDefiners,
} from "./harness/definers.ts";
import { startGateway } from "./harness/gateway.ts";

// What else who may define entities could read hidden values by: plans of others, jobs, going back, fields under new names, relations,
// rollups, indexes. What is answered is the same in two worlds that differ in what they do not see.

let worlds: Awaited<ReturnType<typeof startDefiners>>;
beforeAll(async () => {
  worlds = await startDefiners();
});
afterAll(() => worlds?.stop());
let used = true;
beforeEach(async () => {
  if (used) await worlds.renew(["jsonb"]);
  used = true;
});

const apps = ["crm", "shop"] as const;
const p = people.properties as Record<string, Record<string, unknown>>;
const name = kinds.jsonb;
const run = (sql: string, values: unknown[] = []) => worlds.db.query(sql, values);
const inBoth = async (work: (app: "crm" | "shop", entity: string) => Promise<unknown>) => {
  for (const app of apps) await work(app, `acme/${app}/${name}`);
};
/** Gives people a definition as the operator, in both worlds. */
const given = (schema: Schema, storage = "jsonb") =>
  inBoth((app) =>
    run("select data.define_entity($1, $2, $3)", [
      `acme/${app}`,
      storage === "flat" ? kinds.flat : name,
      { ...schema, "x-storage": storage },
    ]),
  );
/** What somebody is answered in both worlds, which is the same; entity is $1. */
async function same(who: Definer, sql: string, values: unknown[] = [], kind: string = name): Promise<string> {
  const [first, second] = await Promise.all(
    apps.map((app) => worlds.told(who, app, sql.replaceAll("%app", app), [`acme/${app}/${kind}`, ...values])),
  );
  expect([who, sql, first]).toEqual([who, sql, second]);
  return first as string;
}
/** The same, and it stays; returns what was answered. */
const done = async (who: Definer, sql: string, values: unknown[] = [], kind: string = name) => {
  const answers: string[] = [];
  for (const app of apps)
    answers.push(
      await worlds.db.as("acme", `${who}@acme.test`, (client) =>
        client.query(sql, [`acme/${app}/${kind}`, ...values]).then(
          () => "done",
          ({ code, detail }) => `${code} ${JSON.parse(detail).code}`,
        ),
      ),
    );
  expect(answers[0]).toBe(answers[1]);
  return answers[0];
};
const plan = "select data.plan($1, $2) as plan";
const define =
  "select data.define_entity(regexp_replace($1, '/[^/]*$', ''), substring($1 from '[^/]*$'), $2)";
const rollback = "select data.rollback($1, $2)";
const limited = changed({ salary: { ...p.salary, maximum: 50000 } });
const [seen, records] = ["RH403 field_not_seen", "RH403 forbidden"];

test("who is refused is told what is asked of whom, by pointers, and what is theirs to do", async () => {
  used = false;
  const masked = await same("masked", plan, [limited]);
  expect(masked).toContain(
    "is tried on the records of app/people_one_kind, and you do not see salary in full",
  );
  expect(masked).toContain(
    '"errors": [{"message": "is masked or hidden for you", "pointer": "/properties/salary"}]',
  );
  expect(masked).toContain("Ask an owner or admin of the site, or somebody with @entities:define");
  expect(await same("part", plan, [limited])).toContain("and you do not read all of them");
  // A new name is the one to look for.
  const renamed = changed({
    pay: { ...p.salary, "x-renamed-from": "salary", minimum: 1 },
    salary: null,
    wage: null,
    yearly: null,
  });
  expect(await same("masked", plan, [renamed])).toContain('"pointer": "/properties/pay"');
});

test("GraphQL refuses and says the same", async () => {
  used = false;
  const gateway = await startGateway(worlds.db, {}, 5, true);
  try {
    const answers = await Promise.all(
      apps.map(async (app) => {
        const { text } = await sendTo(gateway, worlds.tokens, "/graphql", {
          method: "POST",
          as: await gateway.token("masked@acme.test", "acme"),
          body: {
            query: `mutation ($schema: JSON!) { defineEntity(input: {app: "acme/${app}", name: "${name}", schema: $schema}) { clientMutationId } }`,
            variables: { schema: limited },
          },
        });
        return text.replaceAll(app, "app");
      }),
    );
    expect(answers[0]).toContain("field_not_seen");
    expect(answers[0]).toBe(answers[1]);
  } finally {
    await gateway.stop();
  }
});

test("a plan that somebody else made is applied by who could have made it", async () => {
  await inBoth(async (app, entity) => {
    const plan = (await run("select data.plan($1, $2) as p", [entity, app === "crm" ? limited : people]))[0]
      ?.p as {
      plan: string;
    };
    const lossy = (
      await run("select data.plan($1, $2) as p", [
        entity,
        changed({ bonus: { type: "integer", "x-convert": "bonus - salary" }, wage: null }),
      ])
    )[0]?.p as { plan: string };
    for (const who of short)
      await worlds.db.as("acme", `${who}@acme.test`, async (client) => {
        const apply = (id: string) =>
          client.query("select data.apply($1)", [id]).then(
            () => "done",
            ({ code, detail }) => `${code} ${JSON.parse(detail).code}`,
          );
        if (app === "crm") expect(await apply(plan.plan)).toBe(who === "masked" ? seen : records);
        expect(await apply(lossy.plan)).toBe(who === "masked" ? seen : records);
        // Whether it loses anything is what the records hold.
        const { rows } = await client.query("select id from data.plans where id = any ($1)", [
          [plan.plan, lossy.plan],
        ]);
        expect(rows).toEqual([{ id: plan.plan }]);
      });
    for (const who of ["admin", "reader"])
      await worlds.db.as("acme", `${who}@acme.test`, async (client) => {
        const { rows } = await client.query("select loses_data from data.plans where id = $1", [lossy.plan]);
        expect(rows).toHaveLength(1);
      });
  });
});

test("what a failed operation says of records is for who sees them, and who started it", async () => {
  await inBoth(async (_app, entity) => {
    const [row] = await run("select (data.compact($1)).id", [entity]);
    const count = async (who: Definer) =>
      worlds.db.as(
        "acme",
        `${who}@acme.test`,
        async (client) =>
          (await client.query("select from data.operations where id = $1", [row?.id])).rowCount,
      );
    for (const who of ["admin", "reader", ...short] as const)
      expect([who, await count(who)]).toEqual([who, 1]);
    await run("update data.operations set state = 'failed', error = $2 where id = $1", [
      row?.id,
      { code: "RH409", errors: [{ id: "1", pointer: "/salary", message: "is 90000 in 2 records" }] },
    ]);
    for (const who of ["admin", "reader"] as const) expect([who, await count(who)]).toEqual([who, 1]);
    for (const who of short) expect([who, await count(who)]).toEqual([who, 0]);
    for (const [who, told] of [
      ["masked", 1],
      ["blind", 0],
    ] as const) {
      const account = await worlds.db.account(`${who}@acme.test`);
      await run("update data.operations set created_by = $2 where id = $1", [row?.id, account]);
      expect([who, await count(who)]).toEqual([who, told]);
    }
  });
});

test("another storage and compaction fail nowhere by what records hold", async () => {
  for (const sql of ["select data.compact($1)", "select data.convert_storage($1, 'flat')"]) {
    expect(await done("blind", sql)).toBe("done");
    await run("call data.run_operations()");
  }
  const told = await same(
    "blind",
    "select kind, state, step, error, records_done, records_total from data.operations o join data.entities e on e.id = o.entity_id and $1 ~ e.name join tenancy.apps a on a.id = e.app_id and a.name = '%app' order by o.created_at",
  );
  expect(told).toContain('"kind":"convert_storage","state":"done"');
});

test("a definition of before is taken back by who could give it", async () => {
  await given(
    changed({ bonus: { ...p.bonus, maximum: 5000 }, salary: { type: "integer", "x-mask": "null" } }),
  );
  const [v1, v2] = [changed({ salary: { ...p.salary, maximum: 100000 } }), people];
  await given(v1);
  await given(v2);
  for (const who of short)
    for (const sql of ["select data.plan_rollback($1, $2)", rollback])
      expect(await same(who, sql, [3])).toMatch(who === "masked" ? '"field_not_seen"' : '"forbidden"');
  expect(await same("reader", rollback, [3])).not.toContain("RH4");
});

test.each([
  ["masked since", { type: "string", "x-mask": "redact" }, "code"],
  ["denied under the name that it got since", { type: "string", "x-renamed-from": "code" }, "cipher"],
])("a field that is %s and dropped does not come back as it was at first", async (_what, since, as) => {
  await given(changed({ code: { type: "string" } }));
  await inBoth((_app, entity) =>
    run(
      "select data.update($1, id, '{\"code\": \"secret\"}') from jsonb_to_recordset(data.find($1)->'data') x (id uuid)",
      [entity],
    ),
  );
  await given(changed({ [as]: since }));
  const isDenied = as === "cipher";
  const policy = isDenied ? "no_cipher" : "no_more";
  await run(
    `select access.define_policy('acme', '{"name": "${policy}", "effect": "deny", "entities": ["*/${isDenied ? name : "contacts"}"], "actions": ["read"], "fields": {"readable": ["${isDenied ? as : "name"}"]}}')`,
  );
  try {
    const apply = "select data.apply((data.plan($1, $2)->>'plan')::uuid, true)";
    expect(await done("masked", apply, [people])).toBe("done");
    for (const who of short) expect(await done(who, rollback, [2])).toMatch(/^RH40[39] /);
    const read = `select to_jsonb(t) from acme_%app.${name} t where region = 'north' and $1::text is not null order by name`;
    expect(await same("masked", read)).not.toContain("secret");
    // With what kept it, it does, for who sees it.
    expect(await done("reader", rollback, [3])).toBe(isDenied ? seen : "done");
  } finally {
    await run("select access.drop_policy('acme', $1)", [policy]);
  }
});

test("a computed field does not become one like any other, which would show what it was computed from", async () => {
  const plain = changed({ yearly: { type: "integer" } });
  for (const storage of ["jsonb", "flat"] as const)
    for (const sql of [define, "select data.apply((data.plan($1, $2)->>'plan')::uuid, true)"])
      for (const who of ["reader", ...short] as const)
        expect([who, await done(who, sql, [{ ...plain, "x-storage": storage }], kinds[storage])]).toEqual([
          who,
          expect.stringContaining("RH403"),
        ]);
});

test("a relation to a field that one does not see would tell by writing it which values there are", async () => {
  await inBoth((app) =>
    run("select data.define_entity($1, 'badges', $2)", [
      `acme/${app}`,
      { type: "object", properties: { code: { type: "string", "x-unique": true, "x-mask": "redact" } } },
    ]),
  );
  const refers = { type: "string", "x-relation": { entity: "badges", field: "code" } };
  const fresh = "select (data.define_entity(regexp_replace($1, '/[^/]*$', ''), 'probes', $2)).name";
  for (const who of ["masked", "blind"] as const) {
    const isNew = await same(who, fresh, [{ type: "object", properties: { code: refers } }]);
    expect([who, isNew]).toEqual([
      who,
      expect.stringContaining(who === "masked" ? '"field_not_seen"' : "RH403"),
    ]);
    expect(await same(who, plan, [changed({ badge: refers })])).toContain("RH403");
  }
  expect(await same("reader", fresh, [{ type: "object", properties: { code: refers } }])).toContain("probes");
  await inBoth((app) => run("select data.drop_entity($1, 'badges')", [`acme/${app}/badges`]));
});

test("a default that refers to a record asks whether it is there of who reads them all", async () => {
  await inBoth((app) =>
    run(
      'select data.define_entity($1, \'notes\', \'{"type": "object", "properties": {"text": {"type": "string"}}}\'), data.insert($1 || \'/notes\', \'{"text": "a"}\')',
      [`acme/${app}`],
    ),
  );
  const probing = {
    type: "object",
    required: ["about"],
    properties: {
      text: { type: "string" },
      about: {
        type: "string",
        format: "uuid",
        default: "01900000-0000-7000-8000-0000000000ff",
        "x-relation": { entity: name },
      },
    },
  };
  const sql = "select data.plan(regexp_replace($1, '[^/]*$', 'notes'), $2)";
  for (const who of ["part", "blind"] as const)
    expect(await same(who, sql, [probing])).toContain("forbidden");
  await inBoth((app) => run("select data.drop_entity($1, 'notes')", [`acme/${app}/notes`]));
});

test("what a rule says of now, or of a default, is asked of who sees all that it reads", async () => {
  await inBoth((app, entity) =>
    run(
      "select data.update($1, id, jsonb_build_object('ends', now() + case '%s' when 'shop' then interval '2 seconds' else '2 years' end)) from (select id from jsonb_to_recordset(data.find($1)->'data') x (id uuid)) x".replace(
        "%s",
        app,
      ),
      [entity],
    ),
  );
  const ruled = changed(
    { rank: { type: "integer" } },
    { "x-rules": [{ rule: "ends > now()" }, { rule: "rank <= salary" }] },
  );
  await inBoth((app) =>
    run(
      "select data.update(format('acme/%s/%s', $1::text, $2::text), id, '{\"salary\": 10}') from (select id from jsonb_to_recordset(data.find(format('acme/%s/%s', $1::text, $2::text))->'data') x (id uuid)) x",
      [app, name],
    ),
  );
  await given(ruled);
  await run("select pg_sleep(2)");
  expect(
    await same("masked", plan, [
      changed({ bonus: { type: "integer", maximum: 1000, multipleOf: 1 } }, {}, ruled),
    ]),
  ).toContain('"/properties/ends"');
  expect(
    await same("masked", plan, [
      changed({ rank: { type: "integer", default: 20 } }, { required: ["rank"] }, ruled),
    ]),
  ).toContain('"/properties/salary"');
});

test("what is accepted shows no more than before", async () => {
  const accepted: Schema[] = [
    changed({ pay: { type: "integer", "x-alias": "salary" }, hint: { type: "string", "x-alias": "grade" } }),
    changed({ grade: { ...p.grade, "x-search": true }, note: { ...p.note, "x-search": true } }),
    changed({ born: { ...p.born, "x-index": true }, salary: { ...p.salary, "x-index": true } }),
    changed({}, { "x-history": true, "x-soft-delete": true, "x-audit": { reads: true } }),
  ];
  const view = `acme_%app.${name}`;
  const read = [
    `select to_jsonb(t) - 'id' from ${view} t where region = 'north' and $1::text is not null order by name`,
    'select data.find($1, \'{"sort": "name", "filter": {"region": "north"}}\')',
    'select data.find($1, \'{"q": "1"}\')',
    'select data.find($1, \'{"filter": {"salary": {"$gt": 1}}}\')',
    'select data.explain($1, \'{"filter": {"salary": {"$gt": 1}}}\')',
    'select data.explain($1, \'{"sort": "-born"}\', true)',
    `select name from ${view} where born = '1991-01-01' and $1::text is not null`,
    "select message from data.index_advice(regexp_replace($1, '/[^/]*$', '')) where kind = 'unused' and entity = substring($1 from '[^/]*$')",
    "select access.detect_pii($1)",
  ];
  for (const schema of accepted) {
    expect(await done("masked", define, [schema])).toBe("done");
    for (const who of ["masked", "blind"] as const)
      for (const sql of read) {
        const told = await same(who, sql);
        expect(told).not.toMatch(/90000|a1@|azz/);
        // How large an index is tells how many different values it holds.
        if (sql.includes("unused")) expect(told).not.toMatch(/bytes|kB/);
      }
    await worlds.renew();
  }
});

test("a rollup adds up what its reader sees", async () => {
  const firm = { type: "string", format: "uuid", "x-relation": { entity: "companies", inverse: "folk" } };
  await given(changed({ firm_id: firm }));
  await inBoth(async (app, entity) => {
    const [company] = await run(
      `select data.insert('acme/${app}/companies', '{"name": "Firm"}')->>'id' as id`,
    );
    await run(
      "select data.update($1, id, $2) from (select id from jsonb_to_recordset(data.find($1)->'data') x (id uuid)) x",
      [entity, { firm_id: company?.id }],
    );
  });
  const rollup = (type: object, of: object) => ({ ...type, "x-rollup": { relation: "folk", ...of } });
  const companies = {
    type: "object",
    required: ["name"],
    properties: {
      name: { type: "string", "x-unique": true },
      city: { type: "string" },
      total: rollup({ type: "integer" }, { function: "sum", field: "salary" }),
      rich: rollup({ type: "integer" }, { function: "count", filter: { salary: { $gt: 1000 } } }),
      newest: rollup({ type: "string", format: "email" }, { function: "last", field: "email" }),
      eldest: rollup({ type: "string", format: "date" }, { function: "min", field: "born" }),
    },
  };
  const sql = "select data.define_entity(regexp_replace($1, '/[^/]*$', ''), 'companies', $2)";
  expect(await done("masked", sql, [companies])).toBe("done");
  const read =
    "select total, rich, newest from acme_%app.companies where name = 'Firm' and $1::text is not null";
  expect(await same("masked", read)).not.toMatch(/90000|a1@|azz/);
  await same(
    "masked",
    "select data.find(regexp_replace($1, '[^/]*$', 'companies'), '{\"filter\": {\"total\": {\"$gt\": 1000}}}')",
  );
  const totals = await Promise.all(
    apps.map((app) => worlds.told("reader", app, read.replace("%app", app), [name])),
  );
  expect(totals[0]).not.toBe(totals[1]);
  await inBoth((app) => run("select data.define_entity($1, 'companies', $2)", [`acme/${app}`, firms]));
});

test("who defines gives nobody rights, and an entity made anew has nothing of the one that was dropped", async () => {
  expect(await done("blind", define, [changed({}, { "x-policies": ["authenticated_read"] })])).toBe(
    "RH403 forbidden",
  );
  await given(changed({}, { "x-history": true, "x-soft-delete": true }));
  expect(await done("blind", "select data.drop_entity($1, substring($1 from '[^/]*$'))")).toBe("done");
  const bare = {
    type: "object",
    "x-history": true,
    "x-soft-delete": true,
    properties: { name: { type: "string" }, salary: { type: "integer" } },
  };
  expect(await done("blind", define, [bare])).toBe("done");
  for (const sql of ["select data.find($1)", "select data.deleted($1)"])
    expect(await same("reader", sql)).not.toContain("Ada");
  expect(await same("blind", rollback, [1])).toContain("RH404");
});

test("an entity without records is anyone's to define", async () => {
  const own = "select data.define_entity(regexp_replace($1, '/[^/]*$', ''), 'drafts', $2)";
  const schema = (more: object) => ({
    type: "object",
    properties: { text: { type: "string", "x-mask": "redact", ...more } },
  });
  for (const more of [{}, { maxLength: 5 }, { "x-unique": true, "x-index": true }])
    expect(await done("blind", own, [schema(more)])).toBe("done");
  await inBoth((app) => run('select data.insert($1, \'{"text": "a"}\')', [`acme/${app}/drafts`]));
  expect(await done("blind", own, [schema({ maxLength: 3 })])).toBe(records);
  expect(await done("reader", own, [schema({ maxLength: 3 })])).toBe("done");
  await inBoth((app) => run("select data.drop_entity($1, 'drafts')", [`acme/${app}/drafts`]));
});
