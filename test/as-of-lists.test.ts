import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { migrate } from "../server/database/migrate.ts";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

// What an author was promised of lists as of a time: what each record says of itself as of that time, with filter, sort and pages.

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
  await crm.db.query("select access.create_role('acme', 'companies-only', array['crm/companies:read'])");
  await crm.db.account("kim@acme.test");
  await crm.db.query("select tenancy.add_member('acme', 'kim@acme.test', 'companies-only')");
  crm.tokens.kim = await crm.gateway.token("kim@acme.test", "acme");
});
afterAll(() => crm?.stop());

type Row = Record<string, unknown> & { id: string };
type Page = { data: Row[]; meta: { next_cursor: string | null; count?: number } };
const text = { type: "string" };
const rows = (sql: string, values?: unknown[]) => crm.db.query(sql, values);
const define = (name: string, properties: object, more: object = {}) =>
  rows("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", "x-history": true, properties, ...more },
  ]);
const now = async () => String((await rows("select clock_timestamp()::text as now"))[0]?.now);
const find = async (entity: string, query: object) =>
  (await rows("select data.find($1, $2) as r", [`acme/crm/${entity}`, query]))[0]?.r as Page;
const insert = async (entity: string, record: object) =>
  (await rows("select data.insert($1, $2)->>'id' as id", [`acme/crm/${entity}`, record]))[0]?.id as string;
const change = (entity: string, id: string, changes: object) =>
  rows("select data.update($1, $2, $3)", [`acme/crm/${entity}`, id, changes]);
const remove = (entity: string, id: string) => rows("select data.delete($1, $2)", [`acme/crm/${entity}`, id]);
const list = (entity: string, query: Record<string, unknown>, as = "ann") =>
  crm.send(
    `${base}/${entity}?${Object.entries(query)
      .map(
        ([name, v]) => `${name}=${encodeURIComponent(typeof v === "object" ? JSON.stringify(v) : String(v))}`,
      )
      .join("&")}`,
    { as },
  );

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const make = async (part: string, properties: object, more: object = {}) => {
    await define(`${part}_${storage}s`, properties, { "x-storage": storage, ...more });
    return `${part}_${storage}s`;
  };

  test("at every moment of a long story a list holds what each record was then, and no record twice", async () => {
    const e = await make(
      "story",
      { n: { type: "integer", "x-index": true }, t: text },
      { "x-soft-delete": true },
    );
    const ids: string[] = [];
    const moments = [await now()];
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 16_807) % 2_147_483_647;
      return seed % below;
    };
    for (let step = 0; step < 60; step++) {
      const id = ids[random(ids.length + 1)];
      const kind = random(5);
      if (!id || kind === 0) ids.push(await insert(e, { n: step, t: `t${step % 3}` }));
      else if (kind === 1)
        await remove(e, id).catch(() => rows("select data.restore($1, $2)", [`acme/crm/${e}`, id]));
      else await change(e, id, { n: step, t: `t${step % 3}` }).catch(() => null);
      if (step % 6 === 0) moments.push(await now());
    }
    let seen = 0;
    for (const as_of of moments) {
      const expected = [];
      for (const id of ids) {
        const [row] = await rows("select data.get($1, $2, $3) as r", [`acme/crm/${e}`, id, { as_of }]).catch(
          () => [],
        );
        if (row) expected.push(row.r as Row);
      }
      expected.sort((a, b) => (String(a.created_at) < String(b.created_at) ? 1 : -1));
      expect((await find(e, { as_of, limit: 1000 })).data).toEqual(expected);
      const filtered = await find(e, {
        as_of,
        limit: 1000,
        count: "exact",
        filter: { t: "t1" },
        sort: [{ field: "n" }],
      });
      expect(filtered.data).toEqual(
        expected.filter(({ t }) => t === "t1").sort((a, b) => Number(a.n) - Number(b.n)),
      );
      expect(filtered.meta.count).toBe(filtered.data.length);
      seen += filtered.data.length;
    }
    expect(seen).toBeGreaterThan(15);
  });

  test("REST and psql answer alike, page by page", async () => {
    const e = await make("page", { n: { type: "integer" }, t: text });
    for (let n = 0; n < 7; n++) await insert(e, { n, t: "a" });
    const as_of = await now();
    await rows(`update acme_crm.${e} set n = n + 100, t = 'b' where n in (1, 3, 5)`);
    await rows(`delete from acme_crm.${e} where n = 4`);
    await insert(e, { n: 50, t: "a" });
    const seen: unknown[] = [];
    let cursor: string | null | undefined;
    do {
      const query = {
        as_of,
        filter: { t: "a", n: { $gte: 1 } },
        sort: "-n",
        select: "n,t",
        limit: 2,
        count: "exact",
        ...(cursor ? { cursor } : {}),
      };
      const answer = await list(e, query);
      expect([answer.status, answer.json.meta]).toEqual([200, expect.objectContaining({ count: 6 })]);
      const bySql = await find(e, {
        ...query,
        sort: [{ field: "n", direction: "desc" }],
        select: ["n", "t"],
      });
      expect(answer.json).toEqual(bySql);
      seen.push(...answer.json.data.map(({ n }) => n));
      cursor = answer.json.meta.next_cursor;
    } while (cursor);
    expect(seen).toEqual([6, 5, 4, 3, 2, 1]);
    const estimated = await list(e, { as_of, count: "estimated", limit: 1 });
    expect(estimated.json.meta).toMatchObject({ count: 7, count_is_estimated: false });
  });

  test("who began first and wrote last leaves one state, the younger", async () => {
    const e = await make("race", { n: { type: "integer" } });
    const id = await insert(e, { n: 1 });
    const first = await crm.db.pool.connect();
    await first.query("begin; select now()");
    const between = await now();
    await change(e, id, { n: 2 });
    await first.query(`update acme_crm.${e} set n = 3`);
    await first.query("commit");
    first.release();
    for (const as_of of [between, await now()])
      expect((await find(e, { as_of, select: ["n"] })).data).toEqual([{ n: 3 }]);
  });

  test("former states have the names and kinds of today, and what does not fit is not shown", async () => {
    const e = await make("shape", { old_name: text, size: text });
    const id = await insert(e, { old_name: "a", size: "12" });
    const odd = await insert(e, { old_name: "b", size: "wide" });
    const as_of = await now();
    await change(e, id, { old_name: "c", size: "13" });
    await change(e, odd, { size: "14" });
    const [plan] = await rows("select data.plan($1, $2)->>'plan' as id", [
      `acme/crm/${e}`,
      {
        type: "object",
        properties: {
          name: { ...text, "x-renamed-from": "old_name", "x-index": true },
          size: { type: "integer" },
        },
        "x-storage": storage,
        "x-history": true,
      },
    ]);
    await rows("select data.apply($1, true)", [plan?.id]);
    const sort = [{ field: "name" }];
    const select = ["name", "size"];
    const then = [
      { name: "a", size: 12 },
      { name: "b", size: null },
    ];
    expect((await find(e, { as_of, sort, select })).data).toEqual(then);
    expect((await find(e, { as_of, select, filter: { name: "a" } })).data).toEqual(then.slice(0, 1));
    await rows("select data.convert_storage($1, $2)", [
      `acme/crm/${e}`,
      storage === "flat" ? "jsonb" : "flat",
    ]);
    await rows("call data.run_operations()");
    expect((await find(e, { as_of, sort, select })).data).toEqual(then);
  });

  test("of an expired record nothing is told, whether it was deleted before or is to be", async () => {
    const e = await make("leak", { t: text }, { "x-ttl": true });
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const [a, b] = [
      await insert(e, { t: "1", expires_at: soon }),
      await insert(e, { t: "1", expires_at: soon }),
    ];
    const c = await insert(e, { t: "1" });
    for (const id of [a, b, c]) await change(e, id, { t: "2" });
    const as_of = await now();
    await change(e, a, { t: "3" });
    await remove(e, b);
    expect((await find(e, { as_of })).data.map(({ t }) => t)).toEqual(["2", "2", "2"]);
    await rows(`do $$ begin set local role rowhouse_owner; set local rowhouse.maintenance = 'on';
      update acme_crm.${e}_${storage} set expires_at = now() - interval '1 s' where id = '${a}';
      update acme_crm.${e}__history set expires_at = now() - interval '1 s' where operation = 'delete'; end $$`);
    expect((await list(e, { as_of })).json.data.map(({ id }) => id)).toEqual([c]);
  });

  test("filters and sorts are served by the indexes of records and of history, under row-level security", async () => {
    const e = await make("plan", { city: { ...text, "x-index": true }, n: { type: "integer" } });
    await rows(
      "select data.insert($1, (select jsonb_agg(jsonb_build_object('city', 'c' || i % 200, 'n', i)) from generate_series(1, 2000) i))",
      [`acme/crm/${e}`],
    );
    const as_of = await now();
    await rows(`update acme_crm.${e} set n = 0 where n % 2 = 0`);
    await rows(`analyze acme_crm.${e}_${storage}; analyze acme_crm.${e}__history`);
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      const plan = async (shape: object, ...values: string[]) => {
        const { rows: compiled } = await client.query(
          "select data.compile('crm', $1, 'find', $2)->>'sql' as sql",
          [e, shape],
        );
        const sql = values.reduce(
          (s, v, i) => s.replaceAll(`$${i + 1}::`, `'${v}'::`),
          String(compiled[0].sql),
        );
        return (await client.query(`explain (costs off) ${sql}`)).rows
          .map((row) => row["QUERY PLAN"])
          .join("\n");
      };
      const newest = await plan({ as_of: true, limit: 20 }, as_of);
      expect(newest).toContain("Merge Append");
      expect(newest).toMatch(new RegExp(`${e}(_flat)?_created_at_idx`));
      expect(newest).toContain(`${e}__history_created_at_idx`);
      const filtered = await plan({ filter: { city: { $param: 1 } }, as_of: true, limit: 20 }, "c7", as_of);
      expect(filtered).toMatch(new RegExp(`${e}(_flat)?_city_idx`));
      for (const one of [newest, filtered]) expect(one).not.toContain("Seq Scan");
    });
  });

  test("who may not read learns nothing, other tenants neither, and viewers read what editors do", async () => {
    const e = await make("secret", { t: text });
    const id = await insert(e, { t: "hush" });
    const as_of = await now();
    await change(e, id, { t: "sh" });
    await remove(e, await insert(e, { t: "gone" }));
    const after = await now();
    expect((await list(e, { as_of }, "vic")).json.data).toMatchObject([{ t: "hush" }]);
    for (const at of [as_of, after, "infinity"])
      expect((await list(e, { as_of: at }, "kim")).json.data).toEqual([]);
    expect((await list(e, { as_of }, "bob")).status).toBe(404);
    await crm.db.as("beta", "bob@beta.test", async (client) => {
      for (const attack of [
        `select * from acme_crm.${e}_as_of('infinity')`,
        `select * from acme_crm.${e}__former`,
        `select data.find('acme/crm/${e}', '{"as_of": "infinity"}')`,
      ])
        expect(["42501", "RH404"]).toContain((await refusal(client.query(attack))).code);
    });
    await crm.db.as("acme", "kim@acme.test", async (client) => {
      expect((await client.query(`select * from acme_crm.${e}_as_of('${as_of}')`)).rows).toEqual([]);
      expect((await client.query(`select * from acme_crm.${e}__former`)).rows).toEqual([]);
    });
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      for (const attack of [`delete from acme_crm.${e}__former`, `update acme_crm.${e}__former set t = 'x'`])
        expect((await refusal(client.query(attack))).code).toMatch(/^(42501|55000)$/);
    });
  });
});

test.each<[string, object, number, string | null]>([
  ["no time", { as_of: "yesterday-ish" }, 400, "*"],
  ["nothing", { as_of: "" }, 400, "*"],
  ["no date there is", { as_of: "2026-13-45" }, 400, "*"],
  ["SQL", { as_of: "2999-01-01'::timestamptz); drop table data.entities; --" }, 400, "*"],
  ["a NUL", { as_of: "2999-01-01\0" }, 400, "*"],
  ["words", { as_of: "2999-01-01", q: "x" }, 400, "invalid_query"],
  ["deleted ones", { as_of: "2999-01-01", deleted: "only" }, 400, "invalid_query"],
  ["relations to expand", { as_of: "2999-01-01", expand: "x" }, 400, "invalid_expand"],
  ["an unknown field", { as_of: "2999-01-01", filter: { nope: 1 } }, 400, "unknown_field"],
  ["too long a page", { as_of: "2999-01-01", limit: 1001 }, 400, "invalid_limit"],
  ["a foreign cursor", { as_of: "2999-01-01", cursor: "WyJ4Il0" }, 400, "invalid_cursor"],
  ["the end of time", { as_of: "infinity" }, 200, null],
  ["its beginning", { as_of: "-infinity" }, 200, null],
  ["hostile text", { as_of: "2999-01-01", filter: { t: "'; drop table x; -- $body$ %1$I \\" } }, 200, null],
])("a list as of %s", async (_title, query, status, code) => {
  await define("queried", { t: text }, { "x-soft-delete": true });
  const answer = await list("queried", query as Record<string, unknown>);
  expect([answer.status, answer.json.code ?? null]).toEqual([
    status,
    code === "*" ? expect.any(String) : code,
  ]);
});

test("psql refuses what is no time, and an entity without history says what is missing", async () => {
  await define("asked", { t: text });
  for (const as_of of [true, 5, ["x"], { $param: 1 }])
    expect((await refusal(find("asked", { as_of }))).detail.code).toBe("invalid_as_of");
  expect((await refusal(find("asked", { as_of: "'; drop table x" }))).code).toBe("22007");
  expect((await list("contacts", { as_of: "2999-01-01" })).json.code).toBe("option_missing");
  await insert("asked", { t: "x" });
  expect((await find("asked", { as_of: "infinity" })).data).toHaveLength(1);
  expect((await find("asked", { as_of: "-infinity" })).data).toEqual([]);
});

test("whose right has a condition sees the states that fulfil it, in lists as in single records", async () => {
  await define("cases", { region: text, t: text });
  const [north, south] = [
    await insert("cases", { region: "north", t: "1" }),
    await insert("cases", { region: "south", t: "2" }),
  ];
  const as_of = await now();
  await change("cases", north, { region: "south" });
  await change("cases", south, { region: "north" });
  await remove("cases", await insert("cases", { region: "south", t: "3" }));
  await rows("select access.define_role('acme', $1)", [
    {
      name: "northern",
      permissions: [{ permission: "crm/cases:read", condition: { region: "north" } }],
    },
  ]);
  await crm.db.account("nils@acme.test");
  await rows("select tenancy.add_member('acme', 'nils@acme.test', 'northern')");
  crm.tokens.nils = await crm.gateway.token("nils@acme.test", "acme");
  const seen = async (at: string) => (await list("cases", { as_of: at, select: "t" }, "nils")).json.data;
  expect([await seen(as_of), await seen("infinity")]).toEqual([[{ t: "1" }], [{ t: "2" }]]);
  for (const [id, status] of [
    [north, 200],
    [south, 404],
  ] as const)
    expect(
      (await crm.send(`${base}/cases/${id}?as_of=${encodeURIComponent(as_of)}`, { as: "nils" })).status,
    ).toBe(status);
  expect((await list("cases", { as_of })).json.data).toHaveLength(2);
  const history = async (id: string, as: string) =>
    (await crm.send(`${base}/cases/${id}/history`, { as })).status;
  expect([await history(south, "nils"), await history(north, "nils"), await history(north, "ann")]).toEqual([
    200, 404, 200,
  ]);
});

test("an entity without properties has lists as of a time, too", async () => {
  await define("ticks", {});
  const id = await insert("ticks", {});
  expect((await find("ticks", { as_of: "infinity" })).data).toMatchObject([{ id }]);
});

test("an entity that had history before there were such lists gets them when Rowhouse is updated", async () => {
  await define("landed", { t: text });
  const id = await insert("landed", { t: "1" });
  const as_of = await now();
  await change("landed", id, { t: "2" });
  await rows(`drop function acme_crm.landed_as_of(timestamptz); drop view acme_crm.landed__former;
    drop index acme_crm.landed__history_created_at_idx, acme_crm.landed__history_changed_at_idx;
    comment on view acme_crm.landed is '@primaryKey id';
    update rowhouse.installed set content_hash = 'older'`);
  const { operatorUrl, gatewayUrl, workerUrl } = crm.db;
  expect((await migrate({ operatorUrl, gatewayUrl, workerUrl })).installed).toBe(true);
  expect((await list("landed", { as_of })).json.data).toMatchObject([{ id, t: "1" }]);
});
