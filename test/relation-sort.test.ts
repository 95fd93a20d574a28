import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Answer, base, type Call, type Crm, find, names, startCrm } from "./harness/crm.ts";

// Ada and Bea work in Oslo, Eli and Fay in Rome, Gus for a company without city, Cyd and Dan for none.
let crm: Crm;
const send = (path: string, call?: Call) => crm.send(path, call);

beforeAll(async () => {
  crm = await startCrm();
  const { db } = crm;
  await db.query("select data.define_entity('acme/crm', 'owners', $1)", [
    { type: "object", properties: { name: { type: "string" }, rank: { type: "number" } } },
  ]);
  await db.query("select data.define_entity('acme/crm', 'companies', $1)", [
    {
      type: "object",
      required: ["name"],
      properties: {
        name: { type: "string", "x-unique": true },
        city: { type: "string" },
        place: { type: "object", properties: { floor: { type: "integer" } } },
        owner_id: { "x-relation": { entity: "owners" } },
      },
    },
  ]);
  const [owner] = await db.query<{ r: { id: string } }>(
    `select data.insert('acme/crm/owners', '{"name": "Olga", "rank": 1.5}') as r`,
  );
  for (const company of [
    { name: "Rome Works", city: "Rome", owner_id: owner?.r.id, place: { floor: 3 } },
    { name: "Nowhere" },
  ]) {
    const [row] = await db.query<{ r: { id: string } }>("select data.insert('acme/crm/companies', $1) as r", [
      company,
    ]);
    crm.ids[company.name] = row?.r.id ?? "";
  }
  for (const [name, company] of [
    ["Eli", "Rome Works"],
    ["Fay", "Rome Works"],
    ["Gus", "Nowhere"],
  ] as const)
    await db.query("select data.insert('acme/crm/contacts', $1)", [{ name, company_id: crm.ids[company] }]);
  await db.query("select access.create_role('acme', 'contacts-only', array['crm/contacts:read'])");
  await db.account("kim@acme.test");
  await db.query("select tenancy.add_member('acme', 'kim@acme.test', 'contacts-only')");
  crm.tokens.kim = await crm.gateway.token("kim@acme.test", "acme");
});
afterAll(() => crm?.stop());

/** All pages of a query, one record each. */
async function paged(query: Record<string, unknown>, call?: Call): Promise<string> {
  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const answer: Answer = await send(find({ ...query, limit: "1", ...(cursor ? { cursor } : {}) }), call);
    expect([answer.status, answer.status === 200 ? "" : answer.text]).toEqual([200, ""]);
    seen.push(names(answer));
    cursor = answer.json.meta.next_cursor;
  } while (cursor && seen.length < 20);
  return seen.join(" ");
}

describe("a list sorted by a field of the record it refers to, and its pages", () => {
  test.each<[string, string, string]>([
    ["ascending, none last", "company.city,name", "Ada Bea Eli Fay Cyd Dan Gus"],
    ["descending, none first", "-company.city,name", "Cyd Dan Gus Eli Fay Ada Bea"],
    ["mixed directions", "company.city,-name", "Bea Ada Fay Eli Gus Dan Cyd"],
    ["by its own field first", "active,-company.name,name", "Cyd Dan Eli Fay Ada Bea Gus"],
    ["two relations away", "company.owner.name,name", "Eli Fay Ada Bea Cyd Dan Gus"],
    [
      "two fields of one record, and of the next",
      "-company.owner.rank,-company.name,name",
      "Cyd Dan Ada Bea Gus Eli Fay",
    ],
    ["inside an object", "company.place.floor,name", "Eli Fay Ada Bea Cyd Dan Gus"],
  ])("%s", async (_title, sort, expected) => {
    expect(names(await send(find({ sort })))).toBe(expected);
    expect(await paged({ sort })).toBe(expected);
    expect(await paged({ sort, select: "name,company.city" })).toBe(expected);
  });

  test("pages of filtered and expanded records", async () => {
    const query = {
      sort: "-company.city,name",
      filter: { "company.city": { $exists: true } },
      expand: "company",
    };
    expect(await paged(query)).toBe("Eli Fay Ada Bea");
    const { json } = await send(find({ ...query, limit: "1" }));
    expect(json.data[0]).toMatchObject({ name: "Eli", company: { city: "Rome" } });
    expect(Object.keys(json.data[0] ?? {})).not.toContain("sort.1");
  });

  test("psql says the same", async () => {
    const [row] = await crm.db.query<{ r: Answer["json"] }>(
      `select data.find('acme/crm/contacts', '{"sort": [{"field": "company.city"}, {"field": "name"}], "limit": 3}') as r`,
    );
    expect(row?.r.data.map(({ name }) => name)).toEqual(["Ada", "Bea", "Eli"]);
  });

  test("an export is sorted so too", async () => {
    const { text } = await send(
      `${base}/contacts/export?format=csv&sort=-company.city,name&select=name,company.city`,
    );
    expect(text.trim().split("\r\n").slice(0, 5)).toEqual([
      "name,company.city",
      "Cyd,",
      "Dan,",
      "Gus,",
      "Eli,Rome",
    ]);
  });
});

describe("select of the record it refers to", () => {
  test.each<[string, string, Record<string, unknown>]>([
    ["one relation", "name,company.city", { name: "Eli", "company.city": "Rome" }],
    [
      "two relations, in the order given",
      "company.owner.rank,name",
      { "company.owner.rank": 1.5, name: "Eli" },
    ],
    ["inside an object", "company.place.floor", { "company.place.floor": 3 }],
  ])("%s", async (_title, select, expected) => {
    const list = await send(find({ filter: { name: "Eli" }, select }));
    expect([list.status, list.json.data]).toEqual([200, [expected]]);
    const [{ id } = { id: "" }] = (await send(find({ filter: { name: "Eli" } }))).json.data;
    expect((await send(`${base}/contacts/${id}?select=${select}`)).json).toEqual(expected);
  });
  test("there is none: null", async () => {
    expect((await send(find({ filter: { name: "Dan" }, select: "company.city" }))).json.data).toEqual([
      { "company.city": null },
    ]);
  });
});

describe("what is refused, with what there is", () => {
  test.each<[string, Record<string, string>, string, RegExp]>([
    ["an unknown relation", { sort: "firm.city" }, "unknown_field", /Relations: .*company/],
    ["an unknown field", { sort: "company.town" }, "unknown_field", /city/],
    ["a relation without a field", { sort: "company" }, "unknown_field", /company/],
    ["a relation with an empty field", { select: "company." }, "unknown_field", /city/],
    ["many records", { sort: "company.contacts.name" }, "invalid_path", /contacts/],
    ["SQL", { sort: `company.city desc, (select 1)` }, "unknown_field", /./],
    ["quotes", { select: `company.city" from x; --` }, "unknown_field", /./],
    ["a cursor of another sort", { sort: "company.city", cursor: "WyJ4Il0" }, "invalid_cursor", /./],
    [
      "a path longer than a column's name",
      { select: `company.place.${"x".repeat(60)}` },
      "invalid_select",
      /expand/,
    ],
  ])("%s", async (_title, query, code, hint) => {
    const { status, json } = await send(find(query));
    expect([status, json.code]).toEqual([400, code]);
    expect(json.hint).toMatch(hint);
  });
});

test("records of a related entity that one may not read sort and show as none", async () => {
  const as = { as: "kim" };
  const sort = "company.city,name";
  expect(names(await send(find({ sort }), as))).toBe("Ada Bea Cyd Dan Eli Fay Gus");
  expect(await paged({ sort: "-company.city,-name" }, as)).toBe("Gus Fay Eli Dan Cyd Bea Ada");
  const { json } = await send(find({ sort, select: "name,company.city" }), as);
  expect(json.data.every((row) => row["company.city"] === null)).toBe(true);
  // A cursor made by one who sees cities tells them to none who does not.
  const foreign = (await send(find({ sort, limit: "1" }))).json.meta.next_cursor as string;
  expect((await send(find({ sort, cursor: foreign, select: "company.city" }), as)).text).not.toContain(
    "Oslo",
  );
});

test("pages of 1,000 records by a related field end, and miss none", async () => {
  await crm.db.query(
    `select data.insert('acme/shop/companies', (select jsonb_agg(jsonb_build_object('name', 'c' || i, 'city', case when i % 4 > 0 then 'town' || i % 3 end)) from generate_series(1, 40) i)),
      data.insert('acme/shop/contacts', (select jsonb_agg(jsonb_build_object('name', 'n' || i)) from generate_series(1, 1000) i))`,
  );
  await crm.db.query(
    `update acme_shop.contacts t set company_id = c.id from (select id, row_number() over (order by name) as n from acme_shop.companies) c
     where c.n = substr(t.name, 2)::int % 50`,
  );
  const seen = new Set<string>();
  let cursor: string | null = null;
  let pages = 0;
  do {
    const query: string = find({ sort: "-company.city", limit: "37", ...(cursor ? { cursor } : {}) }).replace(
      "/crm/",
      "/shop/",
    );
    const { json } = await send(query);
    for (const { name } of json.data) seen.add(name);
    cursor = json.meta.next_cursor;
  } while (cursor && ++pages < 100);
  expect([seen.size, pages]).toEqual([1000, 27]);
});
