import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { base } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { ada, entity, startPeopleByDoors, storages } from "./harness/people.ts";
import { forgetRules } from "./harness/roleless.ts";

// What an attacker tries who sees a field masked or hidden: to find it by comparing, sorting, computing, searching, writing.

let crm: Awaited<ReturnType<typeof startPeopleByDoors>>;
beforeAll(async () => {
  crm = await startPeopleByDoors();
});
afterAll(() => crm?.stop());
beforeEach(() => forgetRules(crm.db));

const run: typeof crm.run = (...asked) => crm.run(...asked);
const as: typeof crm.as = (...asked) => crm.as(...asked);
const give = async (name: string, permissions: unknown[]) => {
  await run("select access.define_role('acme', $1)", [{ name: `of-${name}`, permissions }]);
  await run("select access.assign_role('acme', $1, $2)", [`${name}@acme.test`, `of-${name}`]);
};
const q = (query: Record<string, unknown>) =>
  Object.entries(query)
    .map(
      ([key, value]) =>
        `${key}=${encodeURIComponent(typeof value === "string" ? value : JSON.stringify(value))}`,
    )
    .join("&");

describe.each(storages)("in %s storage", (storage) => {
  const name = entity(storage);
  const address = `acme/crm/${name}`;
  const path = `${base}/${name}`;
  const view = `acme_crm.${name}`;
  const ids = () => crm.ids[`${storage} Ada`] as string;

  const queries: [string, Record<string, unknown>, string][] = [
    ["filter", { filter: { email: ada.email } }, "email"],
    ["filter by another name", { filter: { mail: ada.email } }, "mail"],
    ["filter by a beginning", { filter: { email: { $like: "ada%" } } }, "email"],
    ["filter under $or and $not", { filter: { $or: [{ name: "Ada" }, { $not: { ssn: ada.ssn } }] } }, "ssn"],
    ["filter by what is computed", { filter: { card: { $like: "%1234" } } }, "card"],
    ["filter by whether it is there", { filter: { phone: { $exists: true } } }, "phone"],
    [
      "filter that matches nothing",
      { filter: { id: "00000000-0000-0000-0000-000000000000", ssn: "1" } },
      "ssn",
    ],
    ["sort", { sort: "-born" }, "born"],
    ["sort by what is computed", { sort: "card" }, "card"],
    ["search", { q: "5550" }, "phone"],
    ["count", { filter: { ssn: ada.ssn }, count: "exact", limit: "0" }, "ssn"],
    ["estimate", { filter: { ssn: ada.ssn }, count: "estimated" }, "ssn"],
    ["list of deleted records", { filter: { email: ada.email }, deleted: "only" }, "email"],
  ];
  test.each(queries)("%s: a field that is masked is refused by name", async (_what, query, field) => {
    const rest = await crm.send(`${path}?${q(query)}`);
    expect([rest.status, rest.json.code]).toEqual([403, "field_not_seen"]);
    expect(rest.text).toContain(`"/${field}"`);
    expect(rest.text).not.toContain("ada@");
    const { sort, limit, ...rest2 } = query;
    const psql = await refusal(
      as("ann", "select data.find($1, $2)", [
        address,
        {
          ...rest2,
          ...(sort ? { sort: [{ field: String(sort).replace("-", "") }] } : {}),
          ...(limit ? { limit: 0 } : {}),
        },
      ]),
    );
    expect([psql.code, psql.detail.errors?.map(({ pointer }) => pointer)]).toEqual(["RH403", [`/${field}`]]);
    expect((await crm.send(`${path}?${q(query)}`, { as: "otto" })).status).toBe(200);
  });

  test.each<[string, string, unknown[]]>([
    ["group", "select data.aggregate($1, $2)", [{ group: ["ssn"] }]],
    ["aggregate", "select data.aggregate($1, $2)", [{ aggregate: ["max(born)"] }]],
    ["count of what is there", "select data.aggregate($1, $2)", [{ aggregate: ["count(phone)"] }]],
    [
      "aggregate of a filter",
      "select data.aggregate($1, $2)",
      [{ aggregate: ["count"], filter: { email: ada.email } }],
    ],
    [
      "aggregate over a relation",
      "select data.aggregate(replace($1, 'people', 'visits'), $2)",
      [{ group: ["person.ssn"] }],
    ],
    [
      "relation filter",
      "select data.find(replace($1, 'people', 'visits'), $2)",
      [{ filter: { "person.email": ada.email } }],
    ],
    [
      "nested relation filter",
      "select data.find(replace($1, 'people', 'visits'), $2)",
      [{ filter: { person: { email: ada.email } } }],
    ],
    [
      "many back and forth",
      "select data.find($1, $2)",
      [{ filter: { visits: { $some: { "person.ssn": ada.ssn } } } }],
    ],
    [
      "sort over a relation",
      "select data.find(replace($1, 'people', 'visits'), $2)",
      [{ sort: [{ field: "person.born" }] }],
    ],
    [
      "union",
      "select data.find_union('acme/crm', $2) from (select $1::text) x",
      [{ entities: [name], filter: { ssn: ada.ssn } }],
    ],
    [
      "union sorted",
      "select data.find_union('acme/crm', $2) from (select $1::text) x",
      [{ entities: [name], sort: [{ field: "born" }] }],
    ],
    [
      "union aggregated",
      "select data.aggregate_union('acme/crm', $2) from (select $1::text) x",
      [{ entities: [name], aggregate: ["max(born)"] }],
    ],
    [
      "search of the app",
      "select data.search('acme/crm', $2) from (select $1::text) x",
      [{ q: "Ada", entities: [name] }],
    ],
    ["explain", "select data.explain($1, $2)", [{ filter: { ssn: ada.ssn } }]],
    ["explain of a sort", "select data.explain($1, $2)", [{ sort: [{ field: "born" }] }]],
    ["update where", 'select data.update_where($1, $2, \'{"team": "x"}\', 10)', [{ ssn: ada.ssn }]],
    ["delete where", "select data.delete_where($1, $2, 10)", [{ email: ada.email }]],
    ["upsert by it", "select data.upsert($1, $2, array['email'])", [[{ name: "X", email: ada.email }]]],
    [
      "its index's view",
      `select email from ${view}__seen_email where $1::text is not null and $2::jsonb is not null`,
      [{}],
    ],
    [
      "the search function",
      `select id from ${view}_search('5550') where $1::text is not null and $2::jsonb is not null`,
      [{}],
    ],
  ])("%s: refused, and nothing is told", async (_what, sql, [value]) => {
    const told = await refusal(as("ann", sql, [address, JSON.stringify(value)]));
    expect([told.code, told.detail.code]).toEqual(["RH403", "field_not_seen"]);
    expect(JSON.stringify(told)).not.toContain(ada.ssn);
  });

  test("exports show masks, and are refused by what is masked", async () => {
    for (const format of ["csv", "ndjson", "json"]) {
      const file = await crm.send(`${path}/export?format=${format}`);
      expect([file.status, file.text.includes("a***@x.test"), file.text.includes(ada.email)]).toEqual([
        200,
        true,
        false,
      ]);
      expect(
        (await crm.send(`${path}/export?format=${format}&${q({ filter: { email: ada.email } })}`)).status,
      ).not.toBe(200);
    }
  });

  test("SQL on the view compares masks, which tells nothing", async () => {
    expect(
      await as(
        "ann",
        `select name from ${view} where email = 'ada@x.test' or ssn = $1 or born = '1990-05-17'`,
        [ada.ssn],
      ),
    ).toEqual([]);
    expect(await as("ann", `select name from ${view} where email like 'a***%'`)).toEqual([{ name: "Ada" }]);
    expect(
      await as(
        "ann",
        `select count(*)::int as n from ${view} where 1 / (case when ssn = $1 then 0 else 1 end) = 1`,
        [ada.ssn],
      ),
    ).toEqual([{ n: 2 }]);
  });

  test("who sees a field finds by its index", async () => {
    const sql =
      `explain (format json) ${(await as("otto", "select data.compile('acme/crm', $1, 'find', $2)->>'sql' as sql", [name, { filter: { email: { $param: 1 } } }]))[0].sql}`.replace(
        "$1::text",
        "'ada@x.test'::text",
      );
    const plan = await crm.db.as("acme", "otto@acme.test", async (client) => {
      await client.query("set enable_seqscan = off");
      return JSON.stringify((await client.query(sql)).rows[0]);
    });
    expect(plan).toMatch(/"Index Cond": ?"\(\(?email/);
    const [found] = await as("otto", "select data.find($1, $2) as f", [
      address,
      { filter: { email: ada.email }, sort: [{ field: "email" }] },
    ]);
    expect(found.f.data.map((row: { name: string }) => row.name)).toEqual(["Ada"]);
  });

  test("who sees a field in some records only cannot compare by it; who sees it in all of theirs can", async () => {
    const red = { permission: `${name}:read`, condition: { team: "red" }, fields: { unmasked: ["*"] } };
    await give("pat", [red]);
    const mine = await as("pat", "select data.find($1, $2) as f", [
      address,
      { filter: { ssn: ada.ssn }, sort: [{ field: "born" }] },
    ]);
    expect(mine[0].f.data).toHaveLength(1);
    await give("pat", [red, `${name}:read`]);
    expect(
      (await refusal(as("pat", "select data.find($1, $2)", [address, { filter: { ssn: ada.ssn } }]))).code,
    ).toBe("RH403");
  });

  test("a hidden field is refused like a masked one, and estimates count what is seen", async () => {
    await give("pat", [
      { permission: `${name}:read`, condition: { team: "red" }, fields: { readable: ["name", "team"] } },
    ]);
    expect(
      (await refusal(as("pat", "select data.find($1, $2)", [address, { filter: { salary: { $gt: 150 } } }])))
        .detail.code,
    ).toBe("field_not_seen");
    const [row] = await as("pat", "select data.find($1, '{\"count\": \"estimated\"}')->'meta' as m", [
      address,
    ]);
    expect(row.m).toMatchObject({ count: 1, count_is_estimated: false });
    expect((await refusal(as("pat", "select data.explain($1, '{}')", [address]))).code).toBe("RH403");
  });

  test("the history shows what the record shows, and nothing of when it was not one's own", async () => {
    const [{ id }] = (await run(
      `insert into ${view} (name, email, phone, ssn, team, salary) values ('Cyd', 'cyd@x.test', '+47 5550 0001', '1', 'blue', 1) returning id`,
    )) as [{ id: string }];
    await run(`update ${view} set phone = '+47 5550 0002', salary = 2 where id = $1`, [id]);
    await run(`update ${view} set team = 'red', ssn = '2' where id = $1`, [id]);
    const history = async (who: string) =>
      (await as(who, "select data.history($1, $2)->'data' as h", [address, id]))[0].h.map(
        (e: { operation: string; changes?: object }) => e.changes ?? e.operation,
      );
    expect(await history("otto")).toEqual([
      { team: { old: "blue", new: "red" }, ssn: { old: "1", new: "2" } },
      { phone: { old: "+47 5550 0001", new: "+47 5550 0002" }, salary: { old: 1, new: 2 } },
      "insert",
    ]);
    const text = JSON.stringify(await history("ann"));
    expect(text).toContain('"****0002"');
    expect(text).not.toContain("5550");
    await give("pat", [{ permission: `${name}:read`, condition: { team: "red" } }]);
    expect(await history("pat")).toEqual(["update"]);
    expect(
      (await crm.send(`${path}/${id}?as_of=${encodeURIComponent(new Date().toISOString())}`)).json.phone,
    ).toBe("****0002");
    await run(`delete from ${view} where id = $1`, [id]);
    const [gone] = await as("ann", "select data.deleted($1)->'data'->0 as d", [address]);
    expect(gone.d).toMatchObject({ name: "Cyd", phone: "****0002", email: "c***@x.test" });
    await run("select data.purge($1, $2)", [address, id]);
  });

  const locked = [
    `${name}:read`,
    { permission: `${name}:update`, fields: { writable: ["team", "phone"] } },
    { permission: `${name}:update`, condition: { team: "blue" }, fields: { writable: ["salary"] } },
    { permission: `${name}:create`, fields: { writable: ["name", "email", "team"] } },
  ];
  test.each<[string, string, unknown, string[]]>([
    ["another's field", "data.update($1, $2, $3)", { name: "Eve" }, ["/name"]],
    ["several", "data.update($1, $2, $3)", { name: "Eve", ssn: "1", team: "green" }, ["/name", "/ssn"]],
    ["a guess that is right", "data.update($1, $2, $3)", { email: ada.email }, ["/email"]],
    ["a guess that is wrong", "data.update($1, $2, $3)", { email: "no@x.test" }, ["/email"]],
    ["by another name", "data.update($1, $2, $3)", { mail: ada.email }, ["/email"]],
    ["a field of other records", "data.update($1, $2, $3)", { salary: 1 }, ["/salary"]],
    [
      "a list",
      "data.update_list($1, jsonb_build_array(jsonb_build_object('id', $2::text) || $3::jsonb))",
      { name: "Eve" },
      ["/name"],
    ],
    [
      "by filter",
      "data.update_where($1, jsonb_build_object('id', $2::text), $3, 10)",
      { name: "Eve" },
      ["/name"],
    ],
    [
      "an upsert",
      "data.upsert($1, jsonb_build_array(jsonb_build_object('id', $2::text) || $3::jsonb), array['id'])",
      { ssn: ada.ssn },
      ["/ssn"],
    ],
    ["the mark of the platform", "data.update($1, $2, $3)", { "@": [], name: "Eve" }, ["/name"]],
  ])("writing %s is refused by JSON pointer", async (_what, call, changes, pointers) => {
    await give("pat", locked);
    const told = await refusal(as("pat", `select ${call}`, [address, ids(), JSON.stringify(changes)]));
    expect([told.code, told.detail.errors?.map(({ pointer }) => pointer).filter((p) => p !== "/@")]).toEqual([
      "RH403",
      pointers,
    ]);
    expect((await run(`select name, email, salary::int from ${view} where id = $1`, [ids()]))[0]).toEqual({
      name: "Ada",
      email: ada.email,
      salary: 100,
    });
  });

  test("what one may write is written, by every door, and the rest stays", async () => {
    await give("pat", locked);
    expect(
      (
        await crm.send(`${path}/${ids()}`, {
          method: "PATCH",
          as: "pat",
          body: { team: "green", name: "Ada" },
        })
      ).status,
    ).toBe(200);
    expect(
      (await crm.send(`${path}/${ids()}`, { method: "PATCH", as: "pat", body: { name: "Eve" } })).json.code,
    ).toBe("field_not_writable");
    const put = await crm.send(`${path}/${ids()}`, {
      method: "PUT",
      as: "pat",
      body: { name: "Ada", team: "red", phone: ada.phone },
    });
    expect([put.status, put.json.phone]).toEqual([200, "****1234"]);
    await as("pat", `update ${view} set team = 'green' where id = $1`, [ids()]);
    expect(
      (await refusal(as("pat", `update ${view} set ssn = $2 where id = $1`, [ids(), ada.ssn]))).code,
    ).toBe("RH403");
    const update = `mutation { update${storage === "jsonb" ? "PeopleJsonbKind" : "PeopleFlatKind"}(input: { id: "${ids()}", patch: { XX } }) { clientMutationId } }`;
    expect((await crm.ask("pat", update.replace("XX", 'team: "red"'))).errors).toEqual([]);
    expect((await crm.ask("pat", update.replace("XX", `ssn: "${ada.ssn}"`))).errors[0]?.message).toContain(
      "/ssn",
    );
    const [row] = await run(
      `select name, email, phone, born::text, ssn, salary::int, team from ${view} where id = $1`,
      [ids()],
    );
    expect(row).toEqual(ada);
    await as("pat", `update ${view} set salary = 7 where name = 'Bea'`);
    expect(await as("pat", `select salary::int from ${view} where name = 'Bea'`)).toEqual([{ salary: 7 }]);
  });

  test("a new record has only what its writer may write; defaults are not theirs", async () => {
    await give("pat", locked);
    for (const [body, status] of [
      [{ name: "New", email: "new@x.test", salary: 1 }, 403],
      [{ name: "New", email: "new@x.test", team: "red", salary: null }, 201],
    ] as const) {
      const created = await crm.send(path, { method: "POST", as: "pat", body });
      expect(created.status).toBe(status);
      if (status === 201) {
        expect(created.json.email).toBe("n***@x.test");
        await run(`delete from ${view} where id = $1`, [created.json.id]);
      }
    }
    expect(
      (await refusal(as("pat", `insert into ${view} (name, email, ssn) values ('N', 'n@x.test', '1')`))).code,
    ).toBe("RH403");
    expect(
      (
        await refusal(
          as("pat", "select data.insert($1, $2)", [
            address,
            JSON.stringify([
              { name: "N", email: "n@x.test" },
              { name: "M", email: "m@x.test", ssn: "1" },
            ]),
          ]),
        )
      ).code,
    ).toBe("RH403");
  });

  test("a mask that is sent back does not take the value's place", async () => {
    for (const body of [
      { email: "a***@x.test" },
      { phone: "****1234" },
      { born: "1990-01-01" },
      { mail: "a***@x.test" },
    ]) {
      const answer = await crm.send(`${path}/${ids()}`, { method: "PATCH", body });
      expect([answer.status, answer.json.code]).toEqual([422, "masked_value"]);
    }
    const read = await crm.send(`${path}/${ids()}`);
    const { id, version, created_at, created_by, updated_at, card, ...back } = read.json as Record<
      string,
      unknown
    >;
    expect((await crm.send(`${path}/${ids()}`, { method: "PUT", body: back })).status).toBe(422);
    const list = await refusal(
      as("ann", "select data.update_list($1, $2)", [address, JSON.stringify([{ id, phone: "****1234" }])]),
    );
    expect(list.detail.code).toBe("masked_value");
    expect((await crm.send(`${path}/${ids()}`, { method: "PATCH", body: { team: "red" } })).status).toBe(200);
    await as("ann", `update ${view} set email = email, team = team where id = $1`, [ids()]);
    expect((await run(`select phone, email from ${view} where id = $1`, [ids()]))[0]).toEqual({
      phone: ada.phone,
      email: ada.email,
    });
  });

  test("an upsert does not tell that a masked value was guessed", async () => {
    const meta = async (ssn: string) =>
      (
        await as("ann", "select data.upsert($1, $2, array['id'])->'meta' as m", [
          address,
          JSON.stringify([{ id: ids(), ssn }]),
        ])
      )[0].m;
    expect(await meta(ada.ssn)).toMatchObject({ updated: 1, unchanged: 0 });
    expect(await meta(ada.ssn)).toMatchObject({ updated: 1, unchanged: 0 });
  });

  test("what a change of rights masks is masked for statements that were compiled before", async () => {
    await give("pat", [{ permission: `${name}:read`, fields: { unmasked: ["*"] } }]);
    const call = `${path}?${q({ filter: { email: ada.email } })}`;
    expect((await crm.send(call, { as: "pat" })).status).toBe(200);
    await give("pat", [{ permission: `${name}:read`, fields: { readable: ["name"] } }]);
    expect((await crm.send(call, { as: "pat" })).status).toBe(403);
    expect((await crm.send(`${path}/${ids()}`, { as: "pat" })).json.email).toBeNull();
  });
});
