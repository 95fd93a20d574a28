import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";

// A list that is answered with ids is written by one statement, which decides itself what needs no further look.

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());

const properties = {
  code: { type: "string", "x-unique": true, maxLength: 8 },
  shelf: { type: "string", "x-index": true },
  size: { type: "integer", minimum: 0, "x-index": true },
  price: { type: "number", format: "decimal", precision: 6, scale: 2 },
  email: { type: "string", format: "email" },
  made: { type: "string", format: "date" },
  kept: { type: "string", format: "date-time" },
  fresh: { type: "boolean" },
  note: { type: "string", default: "new (v.data->>'note')" },
};
const more = {
  rules: { "x-rules": [{ rule: "size < 1000", message: "is too large", field: "size" }] },
  computed: {
    properties: {
      ...properties,
      double: { type: "integer", "x-computed": { expression: "size * 2", stored: true } },
    },
  },
  ttl: { "x-ttl": true },
  kept: { "x-history": true, "x-soft-delete": true },
};
const entities = ["jsonb", "flat"].flatMap((storage) =>
  ["plain", ...Object.keys(more)].map((kind) => ({ storage, kind, name: `${kind}_${storage}_list` })),
);

beforeAll(async () => {
  for (const { storage, kind, name } of entities)
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      name,
      {
        type: "object",
        "x-storage": storage,
        required: ["code"],
        properties,
        ...more[kind as keyof typeof more],
      },
    ]);
});

const post = (name: string, records: unknown, query = "?return=ids", as = "ann") =>
  crm.send(`${base}/${name}${query}`, { method: "POST", body: records, as });
const stored = async (name: string, ids: unknown) =>
  (
    await crm.db.query(
      `select to_jsonb(r) - '{id,created_at,updated_at,expires_at}'::text[] as r from unnest($1::uuid[]) with ordinality i (id, n) join acme_crm.${name} r using (id) order by n`,
      [ids],
    )
  ).map(({ r }) => r);

describe.each(entities)("$name", ({ name }) => {
  const list = (prefix: string) => [
    {
      code: `${prefix}3`,
      shelf: "c",
      size: 3,
      price: 1.25,
      email: "a@b.cc",
      made: "2024-02-29",
      fresh: true,
    },
    { code: `${prefix}1`, shelf: "a", kept: "2026-01-31T12:00:00+02:00", note: null },
    { code: `${prefix}2`, note: "b", price: "7.50", size: 5 },
    { code: `${prefix}4`, shelf: "b", size: null },
  ];

  test("what is answered with ids is the same as what is answered with records, in order", async () => {
    const withIds = await post(name, list("i"));
    expect(withIds).toMatchObject({ status: 201, json: { meta: { inserted: 4 } } });
    const withRecords = await post(name, list("r"), "");
    const ids = (withRecords.json as unknown as { id: string }[]).map(({ id }) => id);
    const [one, other] = [
      await stored(name, (withIds.json as unknown as { ids: string[] }).ids),
      await stored(name, ids),
    ];
    expect(one).toHaveLength(4);
    expect(JSON.parse(JSON.stringify(one).replaceAll('"i', '"r'))).toEqual(JSON.parse(JSON.stringify(other)));
    expect(one.map((r) => (r as { note: string }).note).sort()).toEqual([
      "b",
      ...Array(3).fill(properties.note.default),
    ]);
    expect(one[0]).toMatchObject({ version: 1, created_by: expect.any(String) });
    const [{ unchecked }] = (await crm.db.query(
      `select count(*)::int as unchecked from acme_crm.${name}_${name.split("_")[1]} where _schema_version = 0`,
    )) as [{ unchecked: number }];
    expect(unchecked).toBe(0);
  });

  test("ids that the records bring stay theirs, in order", async () => {
    const ids = ["ffffffff-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000001"];
    const [n, m] = ids.map((id) => id.replace("0001", name.length.toString(16).padStart(4, "0")));
    const answer = await post(name, [{ id: n, code: "own1" }, { code: "own2" }, { id: m, code: "own3" }]);
    const got = (answer.json as unknown as { ids: string[] }).ids;
    expect([got[0], got[2]]).toEqual([n, m]);
    expect((await stored(name, got)).map((r) => (r as { code: string }).code)).toEqual([
      "own1",
      "own2",
      "own3",
    ]);
  });

  test.each([
    [[{ code: "x1" }, { code: "x2", size: -1 }], "/1/size"],
    [[{ code: "x1", size: 1.5 }], "/0/size"],
    [[{ code: "x1", size: 1e19 }], "/0/size"],
    [[{ code: "x1", size: "1" }], "/0/size"],
    [[{ code: "x1", price: 1.234 }], "/0/price"],
    [[{ code: "x1", price: 10000 }], "/0/price"],
    [[{ code: "x1", made: "2025-02-29" }], "/0/made"],
    [[{ code: "x1", made: "0000-01-01" }], "/0/made"],
    [[{ code: "x1", email: "a b@c.dd" }], "/0/email"],
    [[{ code: "x1" }, { shelf: "no code" }], "/1/code"],
    [[{ code: "x1" }, { code: null }], "/1/code"],
    [[{ code: "x1", _schema_version: 1 }], "/0/_schema_version"],
    [[{ code: "x1", created_by: "00000000-0000-4000-8000-000000000001" }], "/0/created_by"],
    [[{ code: "x1", "'; drop table x": 1 }], "/0/'; drop table x"],
  ])("%j is refused by its place, and nothing is written", async (records, pointer) => {
    for (const query of ["?return=ids", "?return=count", ""]) {
      const answer = await post(name, records, query);
      expect(answer.status).toBe(422);
      expect(answer.json).toMatchObject({ errors: [{ pointer }] });
    }
    expect(await crm.db.query(`select from acme_crm.${name} where code = 'x1'`)).toEqual([]);
  });

  test.each([[[1]], [["id"]], [[["id"]]], [[null]], [[{ code: "x1" }, "x"]]])(
    "%j is no list of records",
    async (records) => {
      expect((await post(name, records)).status).toBe(400);
    },
  );
});

test("counts, an empty list, too many, and what return cannot be", async () => {
  const name = "plain_jsonb_list";
  expect((await post(name, [{ code: "n1" }, { code: "n2" }], "?return=count")).text).toBe(
    '{"meta":{"inserted":2}}',
  );
  expect((await post(name, [])).json).toEqual({ meta: { inserted: 0 }, ids: [] });
  expect((await post(name, Array(10_001).fill({ code: "a" }))).status).toBe(413);
  expect((await post(name, [{ code: "n3" }], "?return=all")).json).toMatchObject({
    status: 400,
    code: "invalid_return",
  });
  expect((await post(name, [{ code: "n1" }])).status).toBe(409);
});

test("psql writes the same way", async () => {
  const [row] = await crm.db.as(
    "acme",
    "ann@acme.test",
    async (client) =>
      (
        await client.query(
          "select data.insert('acme/crm/plain_jsonb_list', $1, with_records => false) as r",
          ['[{"code": "p1"}, {"code": "p2"}]'],
        )
      ).rows,
  );
  expect(row.r).toEqual({ meta: { inserted: 2 }, ids: [expect.any(String), expect.any(String)] });
});

test("who may not write cannot, and learns nothing of what is wrong", async () => {
  const refused = await post("plain_jsonb_list", [{ code: "v1", size: -1 }], "?return=ids", "vic");
  expect([401, 403]).toContain(refused.status);
  expect(refused.text).not.toContain("size");
});

test("nobody who enters a site passes the write rule by", async () => {
  await crm.db.as("acme", "ann@acme.test", async (client) => {
    for (const setting of ["maintenance", "restoring", "expiring", "checked"])
      await client.query(`set rowhouse.${setting} = 'on'`);
    const refused = async (sql: string) =>
      client.query(sql).then(
        () => "done",
        (error) => error.code,
      );
    expect(await refused("insert into acme_crm.plain_jsonb_list (code, size) values ('a1', -1)")).toBe(
      "RH422",
    );
    expect(
      await refused("insert into acme_crm.plain_jsonb_list (code, _schema_version) values ('a1', 1)"),
    ).toBe("42703");
    expect(
      await refused(
        `insert into acme_crm.plain_jsonb_list_jsonb (data, _schema_version) values ('{"size": -1}', 1)`,
      ),
    ).toBe("42501");
    expect(await refused(`update acme_crm.plain_jsonb_list_jsonb set _schema_version = 0`)).toBe("42501");
    expect(await refused(`select acme_crm.plain_jsonb_list_insert_ids('[{"code": "a1", "size": -1}]')`)).toBe(
      "RH422",
    );
    expect(await refused(`select acme_crm.plain_jsonb_list_insert('{"code": "a1", "size": -1}')`)).toBe(
      "RH422",
    );
    for (const setting of ["maintenance", "restoring", "expiring", "checked"])
      await client.query(`reset rowhouse.${setting}`);
  });
});

test("an entity that was last defined before there was such a statement takes lists, too", async () => {
  await crm.db.query("drop function acme_crm.plain_flat_list_insert_ids(jsonb)");
  const answer = await post("plain_flat_list", [{ code: "old1" }, { code: "old2" }]);
  expect(answer.json).toMatchObject({ meta: { inserted: 2 }, ids: [expect.any(String), expect.any(String)] });
});

describe("rules across fields", () => {
  const integer = { type: "integer" };
  const fields = {
    ...{ a: integer, b: integer, on: { type: "string", format: "date" }, word: { type: "string" } },
    ...{
      price: { type: "number", format: "decimal" },
      place: { type: "object", properties: { x: integer } },
    },
  };
  // What a valid record would have to be, and whether a rule only compares.
  const cases: [string, boolean, object, object][] = [
    ["a <= b", true, { a: 1, b: 1 }, { a: 2, b: 1 }],
    [
      "a <= b or word = 'it''s $body$ %1$s' and on >= '2026-01-31'",
      true,
      { a: 2, b: 1, word: "it's $body$ %1$s", on: "2026-02-01" },
      { a: 2, b: 1, on: "2026-02-01", word: "x" },
    ],
    ["word in ('x', 'y') or a is null", true, { word: "z" }, { word: "z", a: 1 }],
    ["not (price between 0.5 and b)", true, { price: "0.4", b: 2 }, { price: 1.5, b: 2 }],
    ["a + b < 10", false, { a: 4, b: 5 }, { a: 5, b: 5 }],
    ["length(word) < 3", false, { word: "ab" }, { word: "abc" }],
    ["place.x < 3", false, { place: { x: 2 } }, { place: { x: 3 } }],
  ];
  test.each(cases)(
    "%s holds in lists and for one, whether it is told quickly (%s) or not",
    async (rule, isQuick, good, bad) => {
      for (const storage of ["jsonb", "flat"]) {
        const name = `rule_${cases.findIndex(([r]) => r === rule)}_${storage}_kept`;
        const definition = {
          type: "object",
          "x-storage": storage,
          properties: fields,
          "x-rules": [{ rule, message: "is broken", field: "a" }],
        };
        await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [name, definition]);
        const [{ quick } = { quick: null }] = await crm.db.query(
          "select data.record_check(e, 'v') is not null as quick from data.entities e where e.name = $1",
          [name],
        );
        expect(quick).toBe(isQuick);
        expect((await post(name, [good, {}, good])).json).toMatchObject({ meta: { inserted: 3 } });
        expect((await post(name, good, "")).status).toBe(201);
        for (const [records, pointer] of [
          [[good, bad], "/1/a"],
          [bad, "/a"],
        ] as const) {
          const refused = await post(name, records, Array.isArray(records) ? "?return=ids" : "");
          expect(refused).toMatchObject({
            status: 422,
            json: { errors: [{ pointer, message: "is broken" }] },
          });
        }
        const { errors } = (await post(name, [{ ...bad, a: "x" }])).json as unknown as { errors: object[] };
        expect(errors[0]).toEqual({ pointer: "/0/a", message: "must be a number" });
      }
    },
  );
});
