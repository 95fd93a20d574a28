import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Call } from "./harness/crm.ts";
import { secretFields, staffIds, startWorlds, storages, told } from "./harness/staff.ts";

// What was promised of fields over REST: two worlds that differ in nothing but what somebody may not see look the same to them, by every address.

let worlds: Awaited<ReturnType<typeof startWorlds>>;
beforeAll(async () => {
  worlds = await startWorlds();
});
afterAll(() => worlds?.stop());

const { ada, bea } = staffIds;
const q = (query: Record<string, unknown>) =>
  Object.entries(query)
    .map(([k, v]) => `${k}=${encodeURIComponent(typeof v === "string" ? v : JSON.stringify(v))}`)
    .join("&");
const rest = (path: string, call: Call = {}) =>
  worlds.same(`${path} ${JSON.stringify(call)}`, async (world) => {
    const { status, json, text } = await world.send(`${base}/${path}`, call);
    return [status, typeof json === "object" && Object.keys(json).length > 0 ? json : text];
  });

describe.each(storages)("in %s storage", (storage) => {
  const [name, view] = [`staff_${storage}_kind`, `acme_crm.staff_${storage}_kind`];

  test("the worlds differ to who sees all of it", async () => {
    const [first, second] = await Promise.all(
      [worlds.one, worlds.other].map(async (world) =>
        told((await world.send(`${base}/${name}`, { as: "otto" })).json.data),
      ),
    );
    for (const secret of ["5550", "aaa secret", "8400"])
      expect([first?.includes(secret), second?.includes(secret)]).toEqual([true, false]);
  });

  test("reading: records, lists, relations, counts, the past, what was deleted, files", async () => {
    const shown = await rest(`${name}/${ada}`);
    expect(shown).toContain("a***@y.test");
    for (const path of [
      name,
      `${name}?select=${secretFields.join(",")}`,
      `${name}?expand=boss,crew,friends,friend_of,firm`,
      `${name}?select=boss.name,boss.pay`,
      `${name}?count=exact`,
      `${name}?count=estimated`,
      `${name}?q=Ada`,
      `${name}?deleted=only`,
      `${name}?as_of=2999-01-01T00:00:00Z`,
      `${name}/${ada}?as_of=2999-01-01T00:00:00Z&expand=boss`,
      `${name}/${ada}/history`,
      `${name}/aggregate?aggregate=count`,
      `${name}/export?format=json`,
      `${name}/export?format=ndjson`,
      `${name}/export?format=csv`,
      "export?format=json",
      `firms_${storage}_kind?expand=staff`,
      `firms_${storage}_kind?sort=-total`,
      `firms_${storage}_kind?${q({ filter: { rich: 1 } })}`,
      `firms_${storage}_kind?${q({ filter: { newest: { $like: "ada%" } } })}`,
      `firms_${storage}_kind/aggregate?aggregate=sum(total),max(most)`,
      `query?entities=${name}`,
      "search?q=Ada",
      `search?q=secret&entities=${name}`,
      "openapi.json",
    ])
      await rest(path);
  });

  const operands: Record<string, unknown> = {
    pay: 700,
    born: "1990-05-17",
    grade: "high",
    yearly: 8400,
    is_rich: true,
    boss_id: bea,
    tags: { $contains: ["one"] },
    friends: { $some: { id: bea } },
    home: { $exists: true },
  };
  test.each(secretFields)("asking by %s is refused, however", async (field) => {
    const asked = { [field]: operands[field] ?? "adele@y.test" };
    const filter = q({ filter: asked });
    const asking: [string, Call?][] = [
      [`${name}?${filter}`],
      [`${name}?${filter}&count=exact&limit=0`],
      [`${name}?${filter}&count=estimated`],
      [`${name}?${filter}&deleted=only`],
      [`${name}?${filter}&as_of=2999-01-01T00:00:00Z`],
      [`${name}/aggregate?${filter}`],
      [`${name}/export?${filter}&format=csv`],
      [`${name}/export?${filter}&format=ndjson`],
      [`query?${filter}&entities=${name}`],
      [`firms_${storage}_kind?${q({ filter: { staff: { $some: asked } } })}`],
      [`${name}?${filter}&max=10`, { method: "PATCH", body: { team: "x" } }],
      [`${name}?${filter}&max=10`, { method: "DELETE" }],
      ...(["home", "tags", "friends"].includes(field)
        ? []
        : ["?sort=", "/aggregate?group=", "/aggregate?aggregate=count_distinct:", "/export?sort=-"].map(
            (way): [string] => [
              `${name}${way}${field}`.replace(/count_distinct:(\w+)/, "count_distinct($1)"),
            ],
          )),
    ];
    // What is refused does not depend on the storage.
    for (const [path, call] of storage === "flat" ? asking : asking.slice(0, 1)) {
      const { status, json } = await worlds.one.send(`${base}/${path}`, call);
      expect([path, status, json.code]).toEqual([path, 403, "field_not_seen"]);
    }
  });

  test("asking by relations that are masked, or by search, tells nothing", async () => {
    for (const filter of [
      { boss: { name: "Bea" } },
      { "boss.name": "Bea" },
      { crew: { $some: { name: "Ada" } } },
      { friends: { $some: { name: "Bea" } } },
      { friend_of: { $some: { name: "Ada" } } },
    ])
      await rest(`${name}?${q({ filter })}`);
    expect(await rest(`${name}?q=secret`)).toContain("field_not_seen");
  });

  test("writing: what comes back, what is refused and how it is said", async () => {
    const lines = (records: object[]) => records.map((record) => JSON.stringify(record)).join("\n");
    const ndjson = { "content-type": "application/x-ndjson" };
    const attempts: [string, Call][] = [
      [`${name}/${ada}`, { method: "PATCH", body: { team: "red" } }],
      [`${name}/${ada}`, { method: "PATCH", body: { pay: "much" } }],
      [`${name}/${ada}`, { method: "PATCH", body: { pay: null } }],
      [`${name}/${ada}`, { method: "PATCH", body: { grade: "none" } }],
      [`${name}/${ada}`, { method: "PATCH", body: { email: "a***@y.test" } }],
      [`${name}/${ada}`, { method: "PUT", body: { name: "Ada", team: "red" } }],
      [`${name}/${ada}`, { method: "PATCH", body: { team: "x" }, headers: { "if-match": 'W/"99"' } }],
      [
        `${name}?return=records`,
        {
          method: "PATCH",
          body: [
            { id: ada, team: "red" },
            { id: bea, team: "red" },
          ],
        },
      ],
      [`${name}?key=email`, { method: "PUT", body: [{ name: "Ada", pay: 1, email: "adele@y.test" }] }],
      [`${name}?key=phone`, { method: "PUT", body: [{ name: "Ada", pay: 1, phone: "+47 5550 1234" }] }],
      [`${name}?key=id`, { method: "PUT", body: [{ id: ada, name: "Ada", pay: 700, team: "red" }] }],
      [
        `${name}/import?key=email`,
        { method: "POST", body: lines([{ name: "Ada", pay: 1, email: "adele@y.test" }]), headers: ndjson },
      ],
      [
        `${name}/import?key=id`,
        { method: "POST", body: lines([{ id: bea, name: "Bea", note: "aaa" }]), headers: ndjson },
      ],
      [
        `${name}/import?key=id&on_error=skip`,
        { method: "POST", body: lines([{ id: ada, name: "Ada", pay: "x" }]), headers: ndjson },
      ],
      [
        "transaction",
        {
          method: "POST",
          body: { operations: [{ operation: "update", entity: name, id: ada, data: { team: "red" } }] },
        },
      ],
      [
        "transaction",
        {
          method: "POST",
          body: {
            operations: [
              { operation: "update", entity: name, id: ada, data: { team: "red" }, as: "a" },
              { operation: "update", entity: name, id: bea, data: { note: { $ref: "a.note" } } },
            ],
          },
        },
      ],
    ];
    for (const [path, call] of attempts) await rest(path, call);
  });

  test("a cached list that somebody saw in full is not what others are given; an ETag is of what is shown", async () => {
    const path = `${base}/${name}?sort=name`;
    for (const world of [worlds.one, worlds.other]) {
      expect(told((await world.send(path, { as: "otto" })).json.data)).toMatch(/5550|7777/);
      const seen = await world.send(path);
      expect(told(seen.json.data)).not.toMatch(/5550|7777/);
      const single = await world.send(`${base}/${name}/${ada}`);
      const etags = [seen.headers.etag, single.headers.etag] as string[];
      const set =
        storage === "flat" ? "note = 'changed', pay = 9" : `data = data || '{"note": "changed", "pay": 9}'`;
      await world.db.query(
        `begin; set local role rowhouse_owner; set local rowhouse.maintenance = 'on'; update ${view}_${storage} set ${set}; commit`,
      );
      const again = [await world.send(path), await world.send(`${base}/${name}/${ada}`)];
      expect(again.map(({ headers }) => headers.etag)).toEqual(etags);
      expect((await world.send(path, { as: "otto" })).text).toContain("changed");
    }
  });
});
