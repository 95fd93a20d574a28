import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Call, type Crm, companies, find, names, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());
const send = (path: string, call?: Call) => crm.send(path, call);

/** Runs work against a gateway with one connection, as ann. */
async function onOneConnection(
  work: (gateway: TestGateway, send: Crm["send"]) => Promise<void>,
): Promise<void> {
  const gateway = await startGateway(crm.db, {}, 1);
  try {
    const ann = await gateway.token("ann@acme.test", "acme");
    await work(gateway, (path, call) => sendTo(gateway, { ann }, path, call));
  } finally {
    await gateway.stop();
  }
}

describe("one round trip", () => {
  test.each<[string, () => [string, Call?]]>([
    ["a record", () => [`${base}/contacts/${crm.ids.Ada}`]],
    ["a filtered list", () => [find({ filter: { age: { $gt: 30 } }, sort: "name" })]],
    ["an insert", () => [`${base}/companies`, { method: "POST", body: { name: `C${Math.random()}` } }]],
    ["an update", () => [`${base}/contacts/${crm.ids.Dan}`, { method: "PATCH", body: { age: 9 } }]],
  ])("%s", async (_title, call) => {
    await send(...call());
    const before = crm.gateway.roundTrips();
    expect((await send(...call())).status).toBeLessThan(300);
    expect(crm.gateway.roundTrips() - before).toBe(1);
  });

  test("the same shape with other values is not compiled again", async () => {
    await send(find({ filter: { age: 1 }, limit: "5" }));
    const before = crm.gateway.roundTrips();
    expect(names(await send(find({ filter: { age: 36 }, limit: "5" })))).toBe("Ada");
    expect(crm.gateway.roundTrips() - before).toBe(1);
  });

  test("a statement that failed at its first use on a connection works at the next", async () => {
    await onOneConnection(async (_gateway, send) => {
      const path = find({ filter: { age: "x" }, select: "name,age" });
      expect((await send(path)).status).toBe(400);
      const good = find({ filter: { age: 36 }, select: "name,age" });
      for (let i = 0; i < 2; i++)
        expect(await send(good)).toMatchObject({ status: 200, json: { data: [{ name: "Ada" }] } });
    });
  });

  test("more shapes than a connection keeps statements for", async () => {
    await onOneConnection(async (gateway, send) => {
      for (let i = 0; i < 520; i++) {
        const bits = [...i.toString(2)].map((bit) => (bit === "1" ? { age: 36 } : { name: "Ada" }));
        const answer = await send(find({ filter: { $and: bits, $or: [{ age: 36 }] }, select: "name" }));
        expect([answer.status, names(answer)]).toEqual([200, "Ada"]);
      }
      const { rows } = await gateway.pool.query("select count(*)::int as n from pg_prepared_statements");
      expect(rows[0].n).toBeLessThanOrEqual(500);
      expect(
        names(await send(find({ filter: { $and: [{ name: "Ada" }], $or: [{ age: 36 }] }, select: "name" }))),
      ).toBe("Ada");
    });
  });
});

test("a new definition shows in the next request", async () => {
  await send(`${base}/companies?limit=1`);
  await crm.db.query("select data.define_entity('acme/crm', 'companies', $1)", [
    { ...companies, properties: { ...companies.properties, motto: { type: "string" } } },
  ]);
  const made = await send(`${base}/companies`, {
    method: "POST",
    body: { name: "Motto Inc", motto: "On we go" },
  });
  expect(made).toMatchObject({ status: 201, json: { motto: "On we go" } });
  const found = await send(`${base}/companies?filter=${encodeURIComponent('{"motto":"On we go"}')}`);
  expect(found.json.data).toMatchObject([{ name: "Motto Inc", motto: "On we go" }]);
});

test("an app that was dropped and made again is served as it is now", async () => {
  const path = "/api/v1/sites/acme/apps/shop/contacts";
  expect((await send(path)).status).toBe(200);
  await crm.db.query("select tenancy.drop_app('acme/shop', 'acme/shop')");
  expect((await send(path)).status).toBe(404);
  await crm.db.query("select tenancy.create_app('acme', 'shop')");
  expect((await send(path)).status).toBe(404);
  await crm.db.query("select data.define_entity('acme/shop', 'contacts', $1)", [
    { type: "object", properties: { nick: { type: "string" } } },
  ]);
  await crm.db.query("select data.insert('acme/shop/contacts', $1)", [{ nick: "Zed" }]);
  expect((await send(path)).json.data).toMatchObject([{ nick: "Zed" }]);
});
