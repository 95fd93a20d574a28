import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { expire } from "./harness/aging.ts";
import { type Crm, startCrm } from "./harness/crm.ts";

// Everything an entity can be told to do, told to one entity: each part does what it does alone.

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm.stop());

const text = { type: "string" };
const properties = {
  title: { ...text, minLength: 1, "x-search": { weight: "A" } },
  note: { ...text, "x-search": true },
  room: { ...text, "x-index": true },
  seat: { type: "integer" },
  price: { type: "number", format: "decimal", precision: 12, scale: 2 },
  quantity: { type: "integer", default: 1 },
  total: { type: "number", format: "decimal", "x-computed": "price * quantity" },
  label: { ...text, "x-computed": { expression: "upper(title)", stored: true } },
  company_id: { "x-relation": { entity: "companies" } },
  guest_ids: { "x-relation": { entity: "contacts", many: true } },
};
const options = {
  required: ["title"],
  "x-rules": [{ rule: "price >= 0", message: "must not be negative", field: "price" }],
  "x-unique": [["room", "seat"]],
  "x-indexes": [{ fields: ["room", "-price"], where: { quantity: { $gt: 0 } } }],
  "x-search": { language: "english" },
  "x-ttl": "30 days",
  "x-soft-delete": true,
  "x-history": true,
  "x-audit": true,
  "x-cache-ttl": 60,
};
const schema = (changed: object = {}, storage = "jsonb") => ({
  type: "object",
  properties: { ...properties, ...changed },
  ...options,
  "x-storage": storage,
});

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const e = `bookings_${storage.slice(0, 1)}`;
  const base = `/api/v1/sites/acme/apps/crm/${e}`;
  let id = "";
  const record = async () => (await crm.send(`${base}/${id}`)).json;

  test("it is defined and written", async () => {
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [e, schema({}, storage)]);
    const made = await crm.send(base, {
      method: "POST",
      body: {
        title: "Running late",
        room: "A",
        seat: 1,
        price: 2.5,
        quantity: 3,
        company_id: crm.ids.company,
        guest_ids: [crm.ids.Bea, crm.ids.Ada],
      },
    });
    expect([made.status, made.json]).toEqual([
      201,
      expect.objectContaining({
        total: 7.5,
        label: "RUNNING LATE",
        guest_ids: [crm.ids.Bea, crm.ids.Ada],
      }),
    ]);
    id = made.json.id;
    const wrong = await crm.send(base, { method: "POST", body: { title: "", price: -1, quantity: "x" } });
    expect([wrong.status, wrong.text]).toEqual([422, expect.stringContaining("/quantity")]);
    const broken = await crm.send(base, { method: "POST", body: { title: "x", price: -1 } });
    expect(broken.text).toContain("must not be negative");
    const taken = await crm.send(base, { method: "POST", body: { title: "x", room: "A", seat: 1 } });
    expect(taken.status).toBe(409);
  });

  test("it is found, sorted across relations and aggregated", async () => {
    const found = await crm.send(`${base}?q=run&select=title,_snippets`);
    expect(found.json.data[0]).toMatchObject({ title: "Running late" });
    const sorted = await crm.send(`${base}?sort=company.city&select=title,company.city`);
    expect(sorted.json.data).toEqual([{ title: "Running late", "company.city": "Oslo" }]);
    const linked = await crm.send(`${base}?filter={"guests.name":"Ada"}&expand=guests`);
    expect(linked.json.data).toMatchObject([{ guests: [{ name: "Bea" }, { name: "Ada" }] }]);
    const groups = await crm.send(`${base}/aggregate?group=room&aggregate=revenue:sum(total)`);
    expect(groups.json.data).toEqual([{ room: "A", revenue: 7.5 }]);
    await crm.send(`${base}/${id}`, { method: "PATCH", body: { quantity: 4 } });
    // What expires changes by itself, and is not kept whatever x-cache-ttl says.
    const again = await crm.send(`${base}/${id}`);
    expect([again.headers["x-cache"], again.json]).toEqual([
      undefined,
      expect.objectContaining({ total: 10, version: 2 }),
    ]);
  });

  test("it is renamed, converted and rolled back with its past", async () => {
    const renamed = schema({ cost: { ...properties.price, "x-renamed-from": "price" } }, storage);
    const { price: _gone, ...kept } = renamed.properties as Record<string, object>;
    const [{ plan } = { plan: "" }] = await crm.db.query<{ plan: string }>(
      "select data.plan($1, $2)->>'plan' as plan",
      [
        `acme/crm/${e}`,
        {
          ...renamed,
          properties: { ...kept, total: { ...properties.total, "x-computed": "cost * quantity" } },
          "x-rules": [{ rule: "cost >= 0", message: "must not be negative" }],
          "x-indexes": [{ fields: ["room", "-cost"] }],
        },
      ],
    );
    await crm.db.query("select data.apply($1)", [plan]);
    expect(await record()).toMatchObject({ cost: 2.5, total: 10, label: "RUNNING LATE" });
    await crm.send(`${base}/${id}`, { method: "PATCH", body: { cost: 3 } });
    const other = storage === "flat" ? "jsonb" : "flat";
    await crm.db.query("select data.convert_storage($1, $2)", [`acme/crm/${e}`, other]);
    await crm.db.query("call data.run_operations()");
    expect(
      await crm.db.query("select state, error from data.operations order by created_at desc limit 1"),
    ).toEqual([{ state: "done", error: null }]);
    expect(await record()).toMatchObject({ cost: 3, total: 12, guest_ids: [crm.ids.Bea, crm.ids.Ada] });
    expect((await crm.send(`${base}?q=late`)).json.data).toHaveLength(1);
    const before = await crm.send(`${base}/${id}/history`);
    expect([before.status, before.text]).toEqual([200, expect.stringContaining("quantity")]);
    await crm.db.query("select data.rollback($1, 1)", [`acme/crm/${e}`]);
    expect(await record()).toMatchObject({ price: 3, total: 12 });
    expect(
      await crm.db.query("select storage, schema->>'x-storage' as said from data.entities where name = $1", [
        e,
      ]),
    ).toEqual([{ storage: other, said: other }]);
    await crm.db.query("select data.compact($1)", [`acme/crm/${e}`]);
    await crm.db.query("call data.run_operations()");
    expect(await record()).toMatchObject({
      total: 12,
      label: "RUNNING LATE",
      guest_ids: [crm.ids.Bea, crm.ids.Ada],
    });
    // Every record, as it was last and as it was first.
    const { data } = (await crm.send(base)).json;
    expect((await crm.send(`${base}?as_of=infinity`)).json.data).toEqual(data);
    const first = await crm.send(
      `${base}?as_of=${encodeURIComponent(String((await record()).created_at))}&filter={"id":"${id}"}`,
    );
    expect(first.json.data).toMatchObject([{ id, version: 1, title: (await record()).title }]);
  });

  test("it is deleted, restored and expires", async () => {
    expect((await crm.send(`${base}/${id}`, { method: "DELETE" })).status).toBe(204);
    expect((await crm.send(`${base}/${id}`)).status).toBe(404);
    expect((await crm.send(`${base}?q=late`)).json.data).toEqual([]);
    expect((await crm.send(`${base}/${id}/restore`, { method: "POST" })).status).toBeLessThan(300);
    expect(await record()).toMatchObject({ guest_ids: [crm.ids.Bea, crm.ids.Ada] });
    expect((await crm.send(`${base}?q=late`)).json.data).toHaveLength(1);
    const expired = await crm.send(`${base}/${id}`, {
      method: "PATCH",
      body: { expires_at: new Date(Date.now() + 3_600_000) },
    });
    await expire(crm.db, `${e}_${storage === "flat" ? "jsonb" : "flat"}`); // it was converted above
    expect([expired.status, expired.text]).toEqual([200, expect.anything()]);
    expect((await crm.send(`${base}/${id}`)).status).toBe(404);
    expect((await crm.send(`${base}?q=late`)).json.data).toEqual([]);
    expect((await crm.send(`${base}/aggregate`)).json.data).toEqual([{ count: 0 }]);
    // The other tenant and the viewer.
    expect((await crm.send(`${base}/${id}`, { as: "bob" })).status).toBe(404);
    expect((await crm.send(base, { method: "POST", as: "vic", body: { title: "x" } })).status).toBe(403);
  });

  test("a large one is indexed online", async () => {
    for (const [title, room] of [
      ["T", "R"],
      ["U", "S"],
    ]) // more than 10,000, in lists of what one may hold
      await crm.db.query(
        `select from data.insert($1, (select jsonb_agg(jsonb_build_object('title', $2::text || g, 'room', $3::text || g, 'seat', g, 'price', g))
           from generate_series(1, 5001) g))`,
        [`acme/crm/${e}`, title, room],
      );
    const [{ schema: now } = { schema: {} }] = await crm.db.query<{ schema: Record<string, object> }>(
      "select schema from data.entities where name = $1",
      [e],
    );
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      e,
      { ...now, properties: { ...now.properties, seat: { type: "integer", "x-index": true } } },
    ]);
    await crm.db.query("call data.run_operations()");
    expect(
      await crm.db.query("select kind, state from data.operations order by created_at desc limit 1"),
    ).toEqual([{ kind: "build_index", state: "done" }]);
    const found = await crm.send(`${base}?filter=${encodeURIComponent('{"seat": 4711, "room": "R4711"}')}`);
    expect(found.json.data).toHaveLength(1);
  });
});
