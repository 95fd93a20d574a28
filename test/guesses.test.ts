import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// What was promised of unique fields that a writer does not see: 20 taken values an hour, whatever the door, and then no more.

const storages = ["jsonb", "flat"] as const;
let crm: Crm;
let gateway: TestGateway;
beforeAll(async () => {
  crm = await startCrm();
  gateway = await startGateway(crm.db, { ROWHOUSE_TRUST_PROXY: "1" }, 10, true);
  for (const [name, role] of [
    ["ed", "editor"],
    ["otto", "admin"],
    ["mia", "viewer"],
    ["box", "guest"],
  ] as const) {
    await crm.db.account(`${name}@acme.test`);
    await run("select tenancy.add_member('acme', $1, $2)", [
      `${name}@acme.test`,
      role === "guest" ? "viewer" : role,
    ]);
    crm.tokens[name] = await crm.gateway.token(`${name}@acme.test`, "acme");
  }
  await run(`select tenancy.set_member_role('acme', 'otto@acme.test', 'admin'),
    access.define_role('acme', '{"name": "managing", "permissions": ["@members:manage"]}'),
    access.assign_role('acme', 'mia@acme.test', 'managing'),
    access.define_role('acme', '{"name": "sending", "permissions": ["crm/*:create"]}'),
    access.revoke_role('acme', 'box@acme.test', 'viewer'), access.assign_role('acme', 'box@acme.test', 'sending')`);
  for (const storage of storages) {
    await run("select data.define_entity('acme/crm', $1, $2)", [
      `guests_${storage}_kind`,
      {
        type: "object",
        "x-storage": storage,
        "x-soft-delete": true,
        "x-unique": [["region", "badge"]],
        properties: {
          name: { type: "string" },
          code: { type: "string", "x-unique": true },
          email: { type: "string", format: "email", "x-unique": true, "x-pii": true },
          mail: { type: "string", format: "email", "x-alias": "email" },
          phone: { type: "string", "x-mask": "last_four" },
          digits: {
            type: "string",
            "x-unique": true,
            "x-computed": { expression: "replace(phone, ' ', '')", stored: true },
          },
          region: { type: "string" },
          badge: { type: "string", "x-mask": "null" },
        },
      },
    ]);
    await run("select data.insert($1, $2)", [
      `acme/crm/guests_${storage}_kind`,
      JSON.stringify([
        { name: "Ada", email: "ada@x.test", code: "a", phone: "47 5550 1234", region: "north", badge: "n1" },
        { name: "Bea", email: "bea@x.test", code: "b", region: "south", badge: "s1" },
      ]),
    ]);
    const schema = {
      type: "object",
      "x-storage": storage,
      properties: { email: { type: "string", "x-unique": true, "x-pii": true }, note: { type: "string" } },
    };
    await run("select data.define_entity('acme/crm', $1, $2)", [`letters_${storage}_kind`, schema]);
    await run('select data.insert($1, \'{"email": "ada@x.test"}\')', [`acme/crm/letters_${storage}_kind`]);
    await run("select access.grant_permission('acme', 'anonymous', $1)", [
      `crm/letters_${storage}_kind:create`,
    ]);
  }
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});
beforeEach(() => run("delete from access.guesses"));

const run = <T extends Record<string, unknown>>(sql: string, values: unknown[] = []) =>
  crm.db.query<T>(sql, values);
const send = (path: string, call: Call = {}) => sendTo(gateway, crm.tokens, `${base}/${path}`, call);
const email = (as: string) => `${as}@acme.test`;
/** How often an account has guessed. */
const guesses = async (as = "ann") =>
  Number(
    (
      await run<{ n: string }>(
        "select coalesce(sum(cardinality(g.times)), 0) as n from access.guesses g join auth.accounts a on a.id = g.account_id where a.email = $1",
        [email(as)],
      )
    )[0]?.n,
  );
/** As after 20 guesses. */
const block = (entity: string, as = "ann", age = "1 minute") =>
  run(
    `insert into access.guesses (site_id, entity_id, account_id, address, times)
     select e.site_id, e.id, a.id, '::/64', array(select now() - $3::interval from generate_series(1, 20))
     from data.entities e, auth.accounts a where e.name = $1 and a.email = $2`,
    [entity, email(as), age],
  );
let last = 0;
const free = () => `free${++last}@x.test`;

describe.each(storages)("in %s storage", (storage) => {
  const entity = `guests_${storage}_kind`;
  const letters = `letters_${storage}_kind`;
  const Type = storage === "jsonb" ? "GuestsJsonbKind" : "GuestsFlatKind";
  const field = `${Type[0]?.toLowerCase()}${Type.slice(1)}`;
  const path = `acme/crm/${entity}`;
  const view = `acme_crm.${entity}`;
  let mine = "";
  beforeEach(async () => {
    await run(`delete from ${view} where name is distinct from 'Ada' and name is distinct from 'Bea'`);
    [{ id: mine } = { id: "" }] = await run<{ id: string }>(
      `insert into ${view} (name, email, badge) values ('Mine', $1, 'n1') returning id`,
      [free()],
    );
  });

  type Told = { status: number | string; code?: unknown; text: string; retry?: unknown };
  type Doors = [string, (values: Record<string, unknown>, as?: string) => Promise<Told>];
  const rest =
    (method: string, path: () => string, body: (values: Record<string, unknown>) => unknown, type?: string) =>
    async (values: Record<string, unknown>, as = "ann"): Promise<Told> => {
      const headers = type ? { headers: { "content-type": type } } : {};
      const answer = await send(path(), { method, body: body(values), as, ...headers });
      const text = answer.text.replace(/"request_id":"[^"]*"/, "");
      return { status: answer.status, code: answer.json.code, text, retry: answer.headers["retry-after"] };
    };
  const graphql =
    (query: (values: string) => string) =>
    async (values: Record<string, unknown>, as = "ann"): Promise<Told> => {
      const body = { query: query(JSON.stringify(values).replace(/"(\w+)":/g, "$1:")) };
      const { json, text } = await send("graphql", { method: "POST", body, as });
      type Reply = { errors?: { extensions: { status: number; code: string; retry_after?: number } }[] };
      const told = (json as unknown as Reply).errors?.[0]?.extensions;
      return { status: told?.status ?? 200, code: told?.code, text, retry: told?.retry_after };
    };
  const psql =
    (sql: string, values: (values: Record<string, unknown>) => unknown[]) =>
    (given: Record<string, unknown>, as = "ann"): Promise<Told> =>
      crm.db.as("acme", email(as), (client) =>
        client.query(sql, values(given)).then(
          () => ({ status: 200, text: "" }),
          ({ code, message, detail, hint, constraint }) => ({
            status: /^RH/.test(code) ? Number(code.slice(2)) : code,
            code: /"code": "(\w+)"/.exec(detail ?? "")?.[1],
            retry: /"retry_after": (\d+)/.exec(detail ?? "")?.[1],
            text: JSON.stringify([message, detail, hint, constraint]),
          }),
        ),
      );
  const list = (values: unknown) => JSON.stringify([values]);
  const at = () => encodeURIComponent(JSON.stringify({ id: mine }));
  const gatewayDoors: Doors[] = [
    [
      "REST, POST",
      rest(
        "POST",
        () => entity,
        (v) => v,
      ),
    ],
    [
      "REST, a list",
      rest(
        "POST",
        () => entity,
        (v) => [{ name: "x" }, v],
      ),
    ],
    [
      "REST, a list for ids",
      rest(
        "POST",
        () => `${entity}?return=ids`,
        (v) => [v, { name: "x" }],
      ),
    ],
    [
      "REST, PATCH",
      rest(
        "PATCH",
        () => `${entity}/${mine}`,
        (v) => v,
      ),
    ],
    [
      "REST, PUT",
      rest(
        "PUT",
        () => `${entity}/${mine}`,
        (v) => v,
      ),
    ],
    [
      "REST, a list of changes",
      rest(
        "PATCH",
        () => entity,
        (v) => [{ id: mine, ...v }],
      ),
    ],
    [
      "REST, by filter",
      rest(
        "PATCH",
        () => `${entity}?filter=${at()}&max=1`,
        (v) => v,
      ),
    ],
    [
      "REST, an upsert",
      rest(
        "PUT",
        () => `${entity}?key=id`,
        (v) => [{ id: mine, ...v }],
      ),
    ],
    [
      "REST, an upsert of a new one",
      rest(
        "PUT",
        () => `${entity}?key=code`,
        (v) => ({ code: `c${++last}`, ...v }),
      ),
    ],
    [
      "REST, a transaction",
      rest(
        "POST",
        () => "transaction",
        (data) => [{ operation: "insert", entity, data }],
      ),
    ],
    [
      "REST, a transaction that changes",
      rest(
        "POST",
        () => "transaction",
        (data) => [{ operation: "update", entity, id: mine, data }],
      ),
    ],
    [
      "REST, an import",
      rest(
        "POST",
        () => `${entity}/import`,
        (v) => `${JSON.stringify(v)}\n`,
        "application/x-ndjson",
      ),
    ],
    [
      "REST, an import of CSV",
      rest(
        "POST",
        () => `${entity}/import`,
        (v) => `${Object.keys(v)}\n${Object.values(v)}\n`,
        "text/csv",
      ),
    ],
    ["GraphQL", graphql((v) => `mutation { create${Type}(input: {${field}: ${v}}) { ${field} { id } } }`)],
    [
      "GraphQL, a change",
      graphql((v) => `mutation { update${Type}(input: {id: "${mine}", patch: ${v}}) { ${field} { id } } }`),
    ],
    ["GraphQL, a list", graphql((v) => `mutation { create${Type}s(input: {records: [${v}]}) { inserted } }`)],
    [
      "GraphQL, by filter",
      graphql(
        (v) =>
          `mutation { update${Type}s(input: {filter: {id: {equalTo: "${mine}"}}, patch: ${v}, max: 1}) { updated } }`,
      ),
    ],
    [
      "GraphQL, a transaction",
      graphql(
        (v) =>
          `mutation { transaction(operations: [{operation: "insert", entity: "${entity}", data: ${v}}]) }`,
      ),
    ],
  ];
  const psqlDoors: Doors[] = [
    ["psql, data.insert", psql("select data.insert($1, $2)", (v) => [path, v])],
    [
      "psql, the view",
      psql(
        `insert into ${view} select (jsonb_populate_record(null::${view}, $1::jsonb || '{"version": 1}')).*`,
        (v) => [v],
      ),
    ],
    [
      "psql, a change of the view",
      psql(
        `update ${view} set email = coalesce($2::jsonb->>'email', email), name = coalesce($2::jsonb->>'name', name) where id = $1`,
        (v) => [mine, v],
      ),
    ],
    ["psql, data.update", psql("select data.update($1, $2, $3)", (v) => [path, mine, v])],
    ["psql, its function", psql(`select ${view}_insert($1)`, (v) => [v])],
    ["psql, its ids", psql(`select ${view}_insert_ids($1)`, (v) => [list(v)])],
    ["psql, its function that changes", psql(`select ${view}_update($1, $2, null, false)`, (v) => [mine, v])],
    ["psql, a list", psql("select data.update_list($1, $2)", (v) => [path, list({ id: mine, ...v })])],
    ["psql, an upsert", psql("select data.upsert($1, $2, '{id}')", (v) => [path, list({ id: mine, ...v })])],
    [
      "psql, a transaction",
      psql("select data.transaction('acme/crm', $1)", (data) => [
        list({ operation: "insert", entity, data }),
      ]),
    ],
    ["psql, an import", psql("select data.import_lines($1, $2)", (v) => [path, JSON.stringify([[1, v]])])],
  ];

  test.each(gatewayDoors)(
    "%s: a taken value counts, and what it says is that alone",
    async (_door, write) => {
      const told = await write({ email: "ada@x.test" });
      expect([told.status, told.code]).toEqual([409, "not_unique"]);
      expect(told.text).not.toMatch(/Key \(|_key|a\*\*\*|Ada|47 5550|n1/);
      expect(await guesses()).toBe(1);
      expect([(await write({ email: free() })).status, await guesses()]).toEqual([expect.any(Number), 1]);
    },
  );

  test.each([...gatewayDoors, ...psqlDoors])(
    "%s: after 20 guesses taken and free values are refused in the same words, and what leaves them out is written",
    async (_door, write) => {
      await block(entity);
      const taken = await write({ email: "ada@x.test" });
      const other = await write({ email: free() });
      const alias = await write({ mail: "ada@x.test" });
      expect([taken.status, taken.code]).toEqual([429, "too_many_guesses"]);
      const words = (told: Told) => [told.status, told.text.replace(/"retry_after": ?\d+/, "")];
      expect(words(other)).toEqual(words(taken));
      if (!/view/.test(_door)) expect(alias.status).toBe(429);
      expect(Number(taken.retry)).toBeGreaterThan(3000);
      expect(Number(taken.retry)).toBeLessThanOrEqual(3600);
      expect((await write({ name: "Mine too" })).status).toBeLessThan(300);
      for (const as of ["ed", "otto"])
        expect([as, (await write({ email: free() }, as)).status]).toEqual([
          as,
          expect.not.stringMatching("429"),
        ]);
      expect((await write({ email: free() }, "ed")).status).toBeLessThan(300);
    },
  );

  test("the 20 taken values an hour of an account and an entity are those of all its unique fields together, and are told", async () => {
    const create = (body: object, as = "ann") => send(entity, { method: "POST", body, as });
    for (let n = 0; n < 5; n++) {
      expect((await create({ email: "ada@x.test" })).status).toBe(409);
      expect((await create({ mail: "bea@x.test" })).status).toBe(409);
      expect((await create({ phone: "4755501234" })).status).toBe(409); // what is computed of it is unique
      expect((await create({ region: "north", badge: "n1" })).status).toBe(409);
    }
    // What somebody sees is no guess.
    for (let n = 0; n < 3; n++) expect((await create({ code: "a" })).json.code).toBe("not_unique");
    expect(await guesses()).toBe(20);
    for (const body of [
      { email: "ada@x.test" },
      { phone: "1" },
      { region: "x" },
      { badge: "y" },
      { mail: free() },
    ]) {
      const { status, json, headers } = await create(body);
      expect([body, status, json.code]).toEqual([body, 429, "too_many_guesses"]);
      expect(Number(headers["retry-after"])).toBeGreaterThan(3500);
    }
    expect((await create({ name: "Cyd", code: "a" })).status).toBe(409);
    expect((await create({ name: "Cyd", email: null })).status).toBe(201);
    // Neither another account, nor another entity, nor who sees the fields.
    expect((await create({ email: "ada@x.test" }, "ed")).json.code).toBe("not_unique");
    expect((await create({ email: free() }, "ed")).status).toBe(201);
    expect((await send(letters, { method: "POST", body: { email: "ada@x.test" } })).status).toBe(409);
    for (let n = 0; n < 22; n++) expect((await create({ email: "ada@x.test" }, "otto")).status).toBe(409);
    expect([await guesses("otto"), await guesses("ed"), await guesses()]).toEqual([0, 1, 21]);
  });

  test("who keeps a field that they do not see changes nothing that is unique with it, and so guesses nothing", async () => {
    for (const region of ["north", "nowhere"]) {
      const { status, json } = await send(`${entity}/${mine}`, { method: "PATCH", body: { region } });
      expect([region, status, json.code]).toEqual([region, 403, "field_not_seen"]);
      for (const write of [
        psql(`select data.update($1, $2, $3)`, () => [path, mine, { region }]),
        psql(`update ${view} set region = $2 where id = $1`, () => [mine, region]),
      ])
        expect((await write({})).status).toBe(403);
    }
    expect(await guesses()).toBe(0);
  });

  test("100 guesses at once are told of 20 taken values at most, and no more is counted", async () => {
    const told = await Promise.all(
      Array.from({ length: 100 }, () => send(entity, { method: "POST", body: { email: "ada@x.test" } })),
    );
    const count = (status: number) => told.filter((one) => one.status === status).length;
    expect([count(409), count(429), await guesses()]).toEqual([20, 80, 20]);
  });

  test("each of a GraphQL request's mutations counts", async () => {
    const one = (name: string) =>
      `${name}: create${Type}(input: {${field}: {email: "ada@x.test"}}) { ${field} { id } }`;
    const ask = async (names: string[]) => {
      const body = { query: `mutation { ${names.map(one).join(" ")} }` };
      const { json } = await send("graphql", { method: "POST", body });
      return (json as unknown as { errors: { extensions: { code: string } }[] }).errors.map(
        (e) => e.extensions.code,
      );
    };
    const codes = [
      ...(await ask([..."abcdefghij"])),
      ...(await ask([..."abcdefghij"])),
      ...(await ask(["a"])),
    ];
    expect(codes).toEqual([...Array(20).fill("not_unique"), "too_many_guesses"]);
    expect(await guesses()).toBe(20);
  });

  test("a list, a transaction and an import are one guess, of however many values; no import says which", async () => {
    const taken = ["ada@x.test", "bea@x.test", free()].map((email) => ({ email }));
    const lines = taken.map((one) => JSON.stringify(one)).join("\n");
    const type = { headers: { "content-type": "application/x-ndjson" } };
    expect((await send(entity, { method: "POST", body: taken })).status).toBe(409);
    const operations = taken.map((data) => ({ operation: "insert", entity, data }));
    expect((await send("transaction", { method: "POST", body: operations })).status).toBe(409);
    const stopped = await send(`${entity}/import`, { method: "POST", body: lines, ...type });
    expect([stopped.status, stopped.json.code]).toEqual([409, "not_unique"]);
    expect(stopped.text).not.toMatch(/"line"|ada@|bea@/);
    expect(await guesses()).toBe(3);
    const skipped = await send(`${entity}/import?on_error=skip`, { method: "POST", body: lines, ...type });
    expect([skipped.status, skipped.json.code]).toEqual([403, "field_not_seen"]);
    for (const onError of ["skip", "stop", "list"]) {
      const { status, text } = await psql("select data.import_lines($1, $2, on_error => $3)", () => [
        path,
        JSON.stringify(taken.map((one, n) => [n + 1, one])),
        onError,
      ])({});
      expect(status).toBe(onError === "skip" ? 403 : "23505");
      expect(text).not.toMatch(/"line"|ada@|bea@/);
    }
    const byIds = await crm.db.as("acme", email("ann"), async (client) => {
      await client.query("begin; set local rowhouse.skips_taken = 'on'");
      const told = client.query(`select acme_crm.${letters}_insert_ids($1)`, [JSON.stringify(taken)]);
      return told.catch(({ code }) => code).finally(() => client.query("rollback"));
    });
    expect(byIds).toBe("23505");
    const keyed = await send(`${entity}?key=email`, { method: "PUT", body: taken });
    expect([keyed.status, keyed.json.code]).toEqual([403, "field_not_seen"]);
    // As before for what everybody sees, and for who sees it.
    const plain = await send(`${entity}/import?on_error=skip`, {
      method: "POST",
      body: '{"code": "a"}\n{"code": "z"}',
      ...type,
    });
    expect([plain.status, plain.text]).toEqual([200, expect.stringContaining('"skipped":1')]);
    const seen = await send(`${entity}/import?on_error=skip`, {
      method: "POST",
      body: lines,
      ...type,
      as: "otto",
    });
    expect([seen.status, seen.text]).toEqual([200, expect.stringContaining('"skipped":2')]);
  });

  test("who may create and sees nothing guesses as well; so does nobody, by the address, an IPv6 network being one", async () => {
    for (let n = 0; n < 20; n++)
      expect((await send(letters, { method: "POST", body: { email: "ada@x.test" }, as: "box" })).status).toBe(
        409,
      );
    expect((await send(letters, { method: "POST", body: { email: free() }, as: "box" })).status).toBe(429);
    expect((await send(letters, { method: "POST", body: { note: "x" }, as: "box" })).status).toBe(201);
    const stranger = (ip: string, body: object) =>
      send(letters, { method: "POST", body, as: null, headers: { "x-forwarded-for": ip } });
    for (const [ip, same, other] of [
      ["203.0.113.7", "203.0.113.7", "203.0.113.8"],
      ["2001:db8:1:2::5", "2001:db8:1:2:9:9:9:9", "2001:db8:1:3::5"],
    ] as const) {
      for (let n = 0; n < 20; n++) expect((await stranger(ip, { email: "ada@x.test" })).status).toBe(409);
      for (const email of ["ada@x.test", free()]) expect((await stranger(same, { email })).status).toBe(429);
      expect((await stranger(ip, { note: "x" })).status).toBe(201);
      expect((await stranger(other, { email: "ada@x.test" })).status).toBe(409);
      expect((await stranger(other, { email: free() })).status).toBe(201);
    }
  });

  test("a guess counts for an hour", async () => {
    await block(entity, "ann", "59 minutes");
    expect((await send(entity, { method: "POST", body: { email: free() } })).status).toBe(429);
    await run("delete from access.guesses");
    await block(entity, "ann", "61 minutes");
    expect((await send(entity, { method: "POST", body: { email: "ada@x.test" } })).json.code).toBe(
      "not_unique",
    );
    await run("select access.forget_guesses()");
    expect(await guesses()).toBe(20); // 19 that count no more and one that does
    await run("update access.guesses set times = array(select t - interval '1 hour' from unnest(times) t)");
    await run("select access.forget_guesses()");
    expect(await guesses()).toBe(0);
  });

  test("an admin sees who guesses, in the audit log too, and lets them again; others do neither", async () => {
    const access = (path: string, call: Call = {}) =>
      sendTo(gateway, crm.tokens, `/api/v1/sites/acme/access/${path}`, { as: "otto", ...call });
    await run("select access.grant_permission('acme', 'anonymous', $1)", [`crm/${letters}:create`]);
    for (let n = 0; n < 20; n++) await send(entity, { method: "POST", body: { email: "ada@x.test" } });
    expect((await send(entity, { method: "POST", body: { email: "ada@x.test" } })).status).toBe(429);
    await send(letters, {
      method: "POST",
      body: { email: "ada@x.test" },
      as: null,
      headers: { "x-forwarded-for": "203.0.113.9" },
    });
    for (const as of ["otto", "mia"]) {
      const { status, json } = await access("guesses", { as });
      expect([status, json.data]).toEqual([
        200,
        [
          expect.objectContaining({
            account: "ann@acme.test",
            entity: `crm/${entity}`,
            guesses: 20,
            refused_until: expect.any(String),
          }),
          { address: "203.0.113.9", entity: `crm/${letters}`, guesses: 1, last_at: expect.any(String) },
        ],
      ]);
    }
    for (const as of ["ann", "bob"]) {
      expect((await access("guesses", { as })).status).toBe(as === "ann" ? 403 : 404);
      expect((await access("guesses/ann@acme.test", { as, method: "DELETE" })).status).toBe(
        as === "ann" ? 403 : 404,
      );
    }
    await new Promise((done) => setTimeout(done, 1500)); // denials are written a second later
    const audit = async (query: string) =>
      (await sendTo(gateway, crm.tokens, `/api/v1/sites/acme/audit?${query}`, { as: "otto" })).json
        .data as unknown as Record<string, unknown>[];
    const noted = await audit(`action=guess&account=ann@acme.test&object=acme/crm/${entity}`);
    expect(noted.length).toBeGreaterThanOrEqual(20);
    expect(noted[0]).toMatchObject({
      outcome: "denied",
      new: { status: 409, code: "not_unique" },
      reason: expect.stringMatching(/^A value of email .* 20 of 20/),
    });
    expect(JSON.stringify(noted)).not.toContain("ada@x.test");
    const refused = (await audit("outcome=denied&action=POST")).filter(
      (one) => (one.new as { code: string }).code === "too_many_guesses",
    );
    expect(refused.length).toBeGreaterThan(0);

    expect((await access("guesses/203.0.113.9", { method: "DELETE" })).status).toBe(204);
    expect((await access("guesses/ann@acme.test", { method: "DELETE", as: "mia" })).status).toBe(204);
    expect((await access("guesses")).json.data).toEqual([]);
    expect((await send(entity, { method: "POST", body: { email: free() } })).status).toBe(201);
    for (const who of [
      "ann@acme.test",
      "nobody@x.test",
      "'; drop table access.guesses; --",
      "%00",
      "203.0.113.0/24",
    ])
      expect([
        who,
        (await access(`guesses/${encodeURIComponent(who)}`, { method: "DELETE" })).status,
      ]).toEqual([who, who === "%00" ? 404 : 404]);
    expect(await audit("object=access.guesses&action=delete")).not.toEqual([]);
  });

  test("guesses are nobody's to read or to write in psql, and noting one is about oneself", async () => {
    await block(entity);
    for (const sql of [
      "select * from access.guesses",
      "delete from access.guesses",
      "update access.guesses set times = '{}'",
      "select access.forget_guesses()",
      "select access.forgive_guesses('acme', 'ann@acme.test')",
      "select access.list_guesses('acme')",
    ])
      expect([sql, String((await psql(sql, () => [])({})).status)]).toEqual([
        sql,
        expect.stringMatching(/42501|403/),
      ]);
    const note = psql("select access.note_guess('acme_crm', $1, $2)", () => [
      `${entity.replace("_kind", "_kind")}_${storage}`,
      "x'; drop table access.guesses; --",
    ]);
    expect((await note({}, "ed")).status).toBe(200);
    expect([await guesses("ed"), await guesses("ann")]).toEqual([1, 20]);
    const bob = await crm.db.as("beta", "bob@beta.test", (client) =>
      client.query("select access.note_guess('acme_crm', $1, 'x') as told", [`${entity}_${storage}`]),
    );
    expect(bob.rows).toEqual([{ told: null }]);
  });

  test("a deleted record whose value was taken meanwhile is a guess to restore, and not to be tried without end", async () => {
    const deleted = async (value: string) => {
      const made = await send(entity, { method: "POST", body: { name: "Gone", email: value } });
      expect((await send(`${entity}/${made.json.id}`, { method: "DELETE" })).status).toBe(204);
      return `${entity}/${made.json.id}/restore`;
    };
    const [taken, value] = [free(), free()];
    const [gone, other] = [await deleted(taken), await deleted(value)];
    expect(
      (await send(entity, { method: "POST", body: { name: "Next", email: taken }, as: "ed" })).status,
    ).toBe(201);
    const told = await send(gone, { method: "POST" });
    expect([told.status, told.json.code, await guesses()]).toEqual([409, "not_unique", 1]);
    expect(told.text).not.toContain(taken);
    const inPsql = await psql("select data.restore($1, $2)", () => [path, gone.split("/")[1]])({});
    expect(inPsql.status).toBe("23505");
    expect(inPsql.text).not.toMatch(/Key \(|@x/);
    await run("delete from access.guesses");
    await block(entity);
    for (const path of [gone, other]) expect((await send(path, { method: "POST" })).status).toBe(429);
    await run("delete from access.guesses");
    expect((await send(other, { method: "POST" })).status).toBe(200);
  });

  const isChecked = async (name: string) =>
    (
      await run<{ n: number }>(
        `select count(*)::int as n from pg_proc where pronamespace = 'acme_crm'::regnamespace and prosrc like '%check_guesses%'
           and proname = any (array[$1 || '_insert', $1 || '_insert_ids', $1 || '_update', $1 || '_update_list', $1 || '_update_many',
             $1 || '_upsert', $1 || '_write_through', $1 || '_restore'])`,
        [name],
      )
    )[0]?.n;

  test("only where a field that not everybody sees is unique is anything asked, from when a policy hides one until it does not", async () => {
    const plain = `plain_${storage}_kind`;
    const schema = {
      type: "object",
      "x-storage": storage,
      properties: { code: { type: "string", "x-unique": true }, pin: { type: "string", "x-mask": "redact" } },
    };
    await run("select data.define_entity('acme/crm', $1, $2)", [plain, schema]);
    await run('select data.insert($1, \'{"code": "a"}\')', [`acme/crm/${plain}`]);
    await block(plain);
    const create = (body: object) => send(plain, { method: "POST", body });
    expect([await isChecked(plain), (await create({ code: "b" })).status]).toEqual([0, 201]);
    const policy = {
      name: "codes",
      effect: "deny",
      entities: [`crm/${plain}`],
      actions: ["read"],
      fields: { readable: ["code"] },
    };
    await run("select access.define_policy('acme', $1)", [policy]);
    for (const code of ["a", "c"]) expect((await create({ code })).json.code).toBe("too_many_guesses");
    expect([await isChecked(plain), (await create({ pin: "1" })).status]).toEqual([7, 201]);
    await run("select access.drop_policy('acme', 'codes')");
    expect([await isChecked(plain), (await create({ code: "c" })).status]).toEqual([0, 201]);
    await run("select data.drop_entity($1, $2)", [`acme/crm/${plain}`, plain]);
    expect(await guesses()).toBe(0);
  });

  test("an upgrade gives the checks to entities that a release before has built", async () => {
    expect(await isChecked(entity)).toBe(8);
    for (const { made } of await run<{ made: string }>(
      `select regexp_replace(pg_get_functiondef(oid), 'perform access.check_guesses[^;]*;', 'null;', 'g') as made from pg_proc
       where pronamespace = 'acme_crm'::regnamespace and proname like $1 || '\\_%' and prosrc like '%check_guesses%'`,
      [entity],
    ))
      await run(made);
    await block(entity);
    const create = () => send(entity, { method: "POST", body: { name: "Up", email: free() } });
    expect([await isChecked(entity), (await create()).status]).toEqual([0, 201]);
    await run("set role rowhouse_owner; select access.renew_guess_checks(); reset role");
    expect([await isChecked(entity), (await create()).status]).toEqual([8, 429]);
  });
});
