import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, startCrm } from "./harness/crm.ts";
import { eventually } from "./harness/eventually.ts";

let crm: Crm;
const relation = (entity: string, more: object = {}) => ({
  type: "string",
  format: "uuid",
  "x-relation": { entity, ...more },
});
const definitions: [string, object, object][] = [
  ["shops", { name: { type: "string" } }, { "x-cache-ttl": 3600 }],
  [
    "prices",
    {
      name: { type: "string", "x-unique": true },
      amount: { type: "integer" },
      shop_id: relation("shops", { onDelete: "cascade" }),
      contact_id: relation("contacts"),
    },
    { "x-cache-ttl": 3600 },
  ],
  ["clocks", { name: { type: "string" } }, { "x-cache-ttl": 1 }],
];
const define = (app: string, name: string, properties: object, more: object) =>
  crm.db.query("select data.define_entity($1, $2, $3)", [app, name, { type: "object", properties, ...more }]);

beforeAll(async () => {
  crm = await startCrm();
  for (const app of ["acme/crm", "beta/crm"])
    for (const [name, ...rest] of definitions) await define(app, name, ...rest);
});
afterAll(() => crm?.stop());

let shop: string;
beforeEach(async () => {
  await crm.db.query("delete from acme_crm.shops");
  await crm.db.query("delete from acme_crm.prices");
  const [row] = await crm.db.query(
    "select data.insert('acme/crm/shops', '{\"name\": \"Corner\"}')->>'id' as id",
  );
  shop = String(row?.id);
  await crm.db.query("select data.insert('acme/crm/prices', $1)", [
    JSON.stringify([
      { name: "tea", amount: 1, shop_id: shop },
      { name: "rye", amount: 2, shop_id: shop, contact_id: crm.ids.Ada },
    ]),
  ]);
});

const list = `${base}/prices?sort=name`;
const get = (path = list, call: Call = {}) => crm.send(path, call);
const cache = async (path?: string, call?: Call) => (await get(path, call)).headers["x-cache"];
const amounts = async (call?: Call) => {
  const answer = await get(list, call);
  return `${answer.headers["x-cache"]} ${answer.json.data.map(({ amount }) => amount).join(" ")}`;
};
const psql = (text: string, values: unknown[] = []) => crm.db.query(text, values);
async function member(name: string, role: string): Promise<string> {
  await crm.db.account(`${name}@acme.test`);
  await psql("select tenancy.add_member('acme', $1, 'viewer')", [`${name}@acme.test`]);
  if (role !== "viewer") {
    await psql("select access.revoke_role('acme', $1, 'viewer'), access.assign_role('acme', $1, $2)", [
      `${name}@acme.test`,
      role,
    ]);
  }
  return crm.gateway.token(`${name}@acme.test`, "acme");
}

describe("a result is kept until something changes", () => {
  test("lists, pages, selections and records, each by itself, with the same ETag", async () => {
    const record = (await get()).json.data[0]?.id;
    for (const path of [
      `${base}/prices?sort=amount`,
      `${base}/prices?sort=amount&limit=1`,
      `${base}/prices?sort=amount&limit=1&offset=1`,
      `${base}/prices?filter={"amount":{"$gt":1}}`,
      `${base}/prices?filter={"amount":{"$gt":0}}`,
      `${base}/prices?select=name&count=exact`,
      `${base}/prices/aggregate?group=amount&aggregate=count`,
      `${base}/prices/${record}`,
      `${base}/prices/${record}?select=name`,
    ]) {
      const first = await get(path);
      const second = await get(path);
      expect([path, first.headers["x-cache"], second.headers["x-cache"]]).toEqual([path, "miss", "hit"]);
      expect([second.text, second.headers.etag]).toEqual([first.text, first.headers.etag]);
      const known = await get(path, { headers: { "if-none-match": String(first.headers.etag) } });
      expect([known.status, known.text, known.headers["x-cache"]]).toEqual([304, "", "hit"]);
      expect((await get(path, { method: "HEAD" })).headers["x-cache"]).toBe("hit");
    }
  });

  test("entities without x-cache-ttl are read each time", async () => {
    for (let i = 0; i < 2; i++) expect(await cache(`${base}/contacts`)).toBeUndefined();
  });

  test("what changes by itself is read each time; what is computed of the record is kept", async () => {
    const text = { type: "string" };
    const moment = { ...text, format: "date-time", "x-computed": "now()" };
    await define("acme/crm", "moments", { name: text, out: moment }, { "x-cache-ttl": 60 });
    await define(
      "acme/crm",
      "shouts",
      { name: text, out: { ...text, "x-computed": "upper(name)" } },
      { "x-cache-ttl": 60 },
    );
    await define("acme/crm", "leases", { name: text }, { "x-cache-ttl": 60, "x-ttl": true }); // records expire
    for (const name of ["moments", "leases"])
      for (let i = 0; i < 2; i++) expect(await cache(`${base}/${name}`)).toBeUndefined();
    expect([await cache(`${base}/shouts`), await cache(`${base}/shouts`)]).toEqual(["miss", "hit"]);
  });

  test("a hit asks the database once, and for less than the list", async () => {
    await get();
    const before = crm.gateway.roundTrips();
    expect(await cache()).toBe("hit");
    expect(crm.gateway.roundTrips() - before).toBe(1);
  });

  const rye = "(select id from acme_crm.prices where name = 'rye')";
  test.each<[string, () => Promise<unknown>, string]>([
    [
      "REST",
      async () =>
        get(`${base}/prices/${(await psql(`select ${rye} as id`))[0]?.id}`, {
          method: "PATCH",
          body: { amount: 9 },
        }),
      "9 1",
    ],
    [
      "a batch by filter",
      () => get(`${base}/prices?filter={"name":"rye"}&max=1`, { method: "PATCH", body: { amount: 9 } }),
      "9 1",
    ],
    [
      "an upsert",
      () => get(`${base}/prices?key=name`, { method: "PUT", body: [{ name: "rye", amount: 9 }] }),
      "9 1",
    ],
    [
      "a transaction",
      () =>
        get(`${base}/transaction`, {
          method: "POST",
          body: { operations: [{ operation: "insert", entity: "prices", data: { name: "a", amount: 9 } }] },
        }),
      "9 2 1",
    ],
    ["the view in psql", () => psql("update acme_crm.prices set amount = 9 where name = 'rye'"), "9 1"],
    ["a deletion", () => psql("delete from acme_crm.prices where name = 'rye'"), "1"],
    ["a cascade from another entity", () => psql("delete from acme_crm.shops"), ""],
    ["truncation by the operator", () => psql("truncate acme_crm.prices_jsonb"), ""],
    [
      "a transaction at another isolation",
      () =>
        crm.db.query(
          "begin isolation level serializable; update acme_crm.prices set amount = 9 where name = 'rye'; commit",
        ),
      "9 1",
    ],
  ])("a change by %s is seen by the next request", async (_title, change, expected) => {
    expect(await amounts()).toBe("miss 2 1");
    expect(await amounts()).toBe("hit 2 1");
    await change();
    expect(await amounts()).toBe(`miss ${expected}`.trimEnd().replace(/^miss$/, "miss "));
    expect(await cache()).toBe("hit");
  });

  test("not before it is committed, and not when it is taken back", async () => {
    await get();
    await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query("begin");
      await client.query("update acme_crm.prices set amount = 7 where name = 'rye'");
      expect(await amounts()).toBe("hit 2 1");
      await client.query("rollback");
      expect(await amounts()).toBe("hit 2 1");
      await client.query("begin");
      await client.query("update acme_crm.prices set amount = 8 where name = 'rye'");
      await client.query("commit");
      expect(await amounts()).toBe("miss 8 1");
    });
  });

  test("a change that was begun first and committed last is not missed", async () => {
    await crm.db.as("acme", "ann@acme.test", async (early) => {
      await early.query("begin");
      await early.query("update acme_crm.prices set amount = 7 where name = 'rye'");
      await psql("update acme_crm.prices set amount = 5 where name = 'tea'");
      expect(await amounts()).toBe("miss 2 5");
      expect(await amounts()).toBe("hit 2 5");
      await early.query("commit");
      expect(await amounts()).toBe("miss 7 5");
    });
  });

  test("writers of one entity do not wait for each other", async () => {
    await crm.db.as("acme", "ann@acme.test", async (first) => {
      await first.query("begin");
      await first.query("update acme_crm.prices set amount = 7 where name = 'rye'");
      const other = await crm.db.pool.connect();
      await other.query("begin; set local lock_timeout = '5s'");
      await other.query("update acme_crm.prices set amount = 6 where name = 'tea'");
      await other.query("commit");
      other.release();
      await first.query("commit");
    });
    expect((await psql("select count(*)::int as n from data.changes"))[0]?.n).toBeLessThan(20);
    expect(await amounts()).toBe("miss 7 6");
  });

  test("after its seconds it is read anew", async () => {
    const path = `${base}/clocks`;
    // A machine that does much else may take a second between two requests.
    await eventually(
      async () => `${await cache(path)} ${await cache(path)}`,
      (both) => both === "miss hit",
    );
    await eventually(async () => (await cache(path)) === "miss");
  });

  test("under load nobody reads back in time", async () => {
    let isDone = false;
    let written = 0;
    const writer = (async () => {
      for (let i = 10; i < 60; i++) {
        await psql("update acme_crm.prices set amount = $1 where name = 'rye'", [i]);
        written = i;
      }
      isDone = true;
    })();
    const reader = async () => {
      while (!isDone) {
        const committed = written;
        const seen = (await get()).json.data.find(({ name }) => name === "rye")?.amount;
        expect(Number(seen)).toBeGreaterThanOrEqual(committed);
      }
    };
    await Promise.all([writer, reader(), reader(), reader()]);
    expect((await amounts()).slice(-4)).toBe("59 1");
  });
});

describe("related records", () => {
  const expanded = `${base}/prices?expand=shop`;
  test("a result with related records changes with them", async () => {
    expect([await cache(expanded), await cache(expanded)]).toEqual(["miss", "hit"]);
    await psql("update acme_crm.shops set name = 'Market'");
    const after = await get(expanded);
    expect([after.headers["x-cache"], after.json.data[0]?.shop]).toMatchObject(["miss", { name: "Market" }]);
    const filtered = `${base}/shops?filter={"prices":{"$some":{"amount":2}}}`;
    expect([await cache(filtered), await cache(filtered)]).toEqual(["miss", "hit"]);
    await psql("update acme_crm.prices set amount = 3");
    expect((await get(filtered)).json.data).toEqual([]);
  });

  test("with records of an entity that is not cached it is read each time", async () => {
    for (const path of [`${base}/prices?expand=contact`, `${base}/prices?filter={"contact.name":"Ada"}`]) {
      for (let i = 0; i < 2; i++) expect([path, await cache(path)]).toEqual([path, undefined]);
    }
  });
});

describe("people of different rights share nothing", () => {
  test("people of the same rights do", async () => {
    expect([await cache(), await cache(list, { as: "vic" }), await cache(list, { as: "eve" })]).toEqual([
      "miss",
      "hit",
      "hit",
    ]);
  });

  test("who may read less sees less, whoever asked first", async () => {
    await psql("select access.create_role('acme', 'prices-only', '{crm/prices:read}')");
    const as = await member("po", "prices-only");
    const path = `${base}/prices?expand=shop&select=name&sort=name`;
    expect((await get(path)).json.data[0]).toMatchObject({ shop: { name: "Corner" } });
    for (const call of ["miss", "hit"]) {
      const theirs = await get(path, { as });
      expect([theirs.headers["x-cache"], theirs.json.data[0]]).toEqual([call, { name: "rye", shop: null }]);
    }
    expect((await get(path)).json.data[0]).toMatchObject({ shop: { name: "Corner" } });
    expect((await get(`${base}/shops`, { as })).json.data).toEqual([]);
    expect((await get(`${base}/shops`)).json.data.length).toBe(1);
  });

  test("what was revoked is gone with the next request", async () => {
    const as = await member("rev", "viewer");
    expect([await amounts({ as }), await amounts({ as })]).toEqual(["miss 2 1", "hit 2 1"]);
    await psql("select access.revoke_role('acme', 'rev@acme.test', 'viewer')");
    expect(await amounts({ as })).toBe("miss ");
    await psql("select access.assign_role('acme', 'rev@acme.test', 'viewer')");
    expect(await amounts({ as })).toBe("hit 2 1");
    await psql(
      "delete from tenancy.site_members m using auth.accounts a where a.id = m.account_id and a.email = 'rev@acme.test'",
    );
    expect((await get(list, { as })).status).toBe(404);
  });

  test("a session that ended reads nothing", async () => {
    const as = await member("end", "viewer");
    expect((await get(list, { as })).status).toBe(200);
    await psql(
      "update auth.sessions s set ended_at = now(), end_reason = 'logout' from auth.accounts a where a.id = s.account_id and a.email = 'end@acme.test'",
    );
    expect((await get(list, { as })).status).toBe(401);
  });

  test("a role that loses a permission", async () => {
    await psql("select access.create_role('acme', 'reader', '{crm/prices:read}')");
    const as = await member("rol", "reader");
    expect((await amounts({ as })).slice(-3)).toBe("2 1");
    await psql(
      "delete from access.permissions p using access.roles r where r.id = p.role_id and r.name = 'reader'",
    );
    expect(await amounts({ as })).toBe("miss ");
  });

  test("other tenants", async () => {
    await get();
    const path = list.replace("acme", "beta");
    expect((await get(path, { as: "bob" })).json.data).toEqual([]);
    expect((await get(list, { as: "bob" })).status).toBe(404);
    await crm.db.as("beta", "bob@beta.test", async (client) => {
      const { rows } = await client.query("select data.change_count(array[$1::uuid]) as n", [
        (
          await psql(
            "select e.id from data.entities e join tenancy.sites s on s.id = e.site_id where s.name = 'acme' and e.name = 'prices'",
          )
        )[0]?.id,
      ]);
      expect(rows).toEqual([{ n: "0" }]);
      await expect(client.query("select * from data.changes")).rejects.toMatchObject({ code: "42501" });
      await expect(client.query("insert into data.changes default values")).rejects.toMatchObject({
        code: "42501",
      });
    });
  });
});

describe("the definition", () => {
  test.each([0, -1, 1.5, 86_401, 1e9, "60", null, true, [60]])("x-cache-ttl %p is refused", async (ttl) => {
    await expect(
      define("acme/crm", "wrong", { name: { type: "string" } }, { "x-cache-ttl": ttl }),
    ).rejects.toMatchObject({
      code: "RH400",
      detail: expect.stringContaining("/x-cache-ttl"),
    });
  });

  test("a new one is in force at once; without x-cache-ttl nothing is kept or counted", async () => {
    const properties = { name: { type: "string" } };
    await define("acme/crm", "changing", properties, { "x-cache-ttl": 60 });
    const path = `${base}/changing`;
    await psql("select data.insert('acme/crm/changing', '{\"name\": \"x\"}')");
    expect([await cache(path), await cache(path)]).toEqual(["miss", "hit"]);
    await define(
      "acme/crm",
      "changing",
      { ...properties, more: { type: "integer", default: 4 } },
      { "x-cache-ttl": 60 },
    );
    const after = await get(path);
    expect([after.headers["x-cache"], after.json.data[0]]).toMatchObject(["miss", { name: "x" }]);
    expect(after.json.data[0]).toHaveProperty("more");
    await define("acme/crm", "changing", { ...properties, more: { type: "integer", default: 4 } }, {});
    expect(await cache(path)).toBeUndefined();
    await psql("select data.insert('acme/crm/changing', '{\"name\": \"y\"}')");
    await define(
      "acme/crm",
      "changing",
      { ...properties, more: { type: "integer", default: 4 } },
      { "x-cache-ttl": 60 },
    );
    expect((await get(path)).json.data.length).toBe(2);
    expect(await cache(path)).toBe("hit");
  });

  test("a converted storage goes on counting", async () => {
    await psql("select data.drop_entity('acme/crm/changing', 'changing')");
    await define(
      "acme/crm",
      "changing",
      { name: { type: "string" } },
      { "x-cache-ttl": 60, "x-storage": "flat" },
    );
    const path = `${base}/changing`;
    expect([await cache(path), await cache(path)]).toEqual(["miss", "hit"]);
    await psql("select data.insert('acme/crm/changing', '{\"name\": \"x\"}')");
    expect((await get(path)).json.data.length).toBe(1);
  });
});
