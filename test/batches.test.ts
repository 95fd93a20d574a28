import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { expire } from "./harness/aging.ts";
import { base, type Call, type Crm, startCrm } from "./harness/crm.ts";
import { untilBlocked } from "./harness/eventually.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());

const send = (query: string, call: Call) => crm.send(`${base}/stock${query}`, call);
const where = (filter: unknown, more = "&max=100") =>
  `?filter=${encodeURIComponent(JSON.stringify(filter))}${more}`;
const insert = (records: object[]) =>
  crm.db.query("select data.insert('acme/crm/stock', $1::jsonb)", [JSON.stringify(records)]);
const codes = async (columns = "code, size::int") =>
  (await crm.db.query(`select concat_ws(' ', ${columns}) as c from acme_crm.stock order by code`))
    .map(({ c }) => c)
    .join(", ");
const ten = Array.from({ length: 10 }, (_, i) => ({ code: `c${i}`, shelf: i % 2, size: i }));

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  beforeAll(async () => {
    if (storage === "flat") await crm.db.query("select data.drop_entity('acme/crm/stock', 'stock')");
    await crm.db.query("select data.define_entity('acme/crm', 'stock', $1)", [
      {
        type: "object",
        "x-storage": storage,
        required: ["code"],
        properties: {
          code: { type: "string", "x-unique": true, maxLength: 80 },
          number: { type: "integer", "x-unique": true },
          shelf: { type: "integer", "x-index": true },
          kept: { type: "string", format: "date-time" },
          note: { type: "string", default: "new" },
          size: { type: "integer", minimum: 0 },
          contact_id: { type: "string", format: "uuid", "x-relation": { entity: "contacts" } },
        },
      },
    ]);
  });
  beforeEach(() => crm.db.query("delete from acme_crm.stock"));

  describe("PUT of a list, by key, inserts what is new and updates what is there", () => {
    const put = (body: unknown, query = "?key=code", as = "ann") => send(query, { method: "PUT", body, as });

    test("counts, and the records in their order where asked", async () => {
      expect(
        await put([
          { code: "b", size: 1 },
          { code: "a", size: 1 },
        ]),
      ).toMatchObject({
        status: 200,
        json: { meta: { inserted: 2, updated: 0, unchanged: 0 } },
      });
      const again = await put(
        [{ code: "a", size: 1 }, { code: "c" }, { code: "b", size: 2 }],
        "?key=code&return=records",
      );
      expect(again.json).toMatchObject({
        meta: { inserted: 1, updated: 1, unchanged: 1 },
        data: [
          { code: "a", size: 1, version: 1 },
          { code: "c", note: "new", version: 1 },
          { code: "b", size: 2, version: 2 },
        ],
      });
      expect((await put([])).json).toEqual({ meta: { inserted: 0, updated: 0, unchanged: 0 } });
    });

    test("one record, and what is sent twice changes nothing", async () => {
      expect((await put({ code: "a", kept: "2026-01-31T12:00:00Z" })).json.meta).toMatchObject({
        inserted: 1,
      });
      expect((await put({ code: "a", kept: "2026-01-31T13:00:00+01:00" })).json.meta).toMatchObject({
        unchanged: 1,
      });
      expect((await put({ code: "a", note: null })).json.meta).toMatchObject({ updated: 1 });
      expect((await put({ code: "a", note: null })).json.meta).toMatchObject({ unchanged: 1 });
    });

    test("by id, and by another unique property, of which only what is given is changed", async () => {
      const id = "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b";
      expect((await put([{ id, code: "a", size: 1 }], "?key=id")).json.meta).toMatchObject({ inserted: 1 });
      expect((await put([{ id, size: 2 }], "?key=id")).json.meta).toMatchObject({ updated: 1 });
      await put([{ code: "a", number: 7 }]);
      expect((await put([{ number: 7, size: 3 }], "?key=number")).json.meta).toMatchObject({ updated: 1 });
      expect(await codes()).toBe("a 3");
    });

    test.each([
      ["no key", [{ code: "a" }], "", 400, "invalid_key", /key=email/],
      ["an empty key", [{ code: "a" }], "?key=", 400, "invalid_key", /is not a field/],
      ["an unknown key", [{ code: "a" }], "?key=nope", 400, "invalid_key", /nope/],
      [
        "SQL as key",
        [{ code: "a" }],
        `?key=${encodeURIComponent("code'; drop table x; --%1$I$body$")}`,
        400,
        "invalid_key",
        /drop table/,
      ],
      ["a system column as key", [{ code: "a" }], "?key=version", 400, "invalid_key", /version/],
      ["another parameter", [{ code: "a" }], "?key=code&max=1", 400, "unknown_parameter", /max/],
      ["an unknown return", [{ code: "a" }], "?key=code&return=all", 400, "invalid_return", /return/],
      ["no list of objects", [1], "?key=code", 400, "invalid_body", /object/],
      ["null", "null", "?key=code", 400, "invalid_body", /object/],
      [
        "a record without the key",
        [{ code: "a" }, { size: 1 }],
        "?key=code",
        422,
        "validation_failed",
        /\/1\/code is required/,
      ],
      ["a key of the wrong type", [{ code: 5 }], "?key=code", 422, "validation_failed", /\/0\/code/],
      [
        "a number out of range",
        [{ code: "a", number: 1e30 }],
        "?key=number",
        422,
        "validation_failed",
        /\/0\/number/,
      ],
      ["no UUID", [{ id: "'; drop", code: "a" }], "?key=id", 422, "validation_failed", /\/0\/id/],
      [
        "one key twice",
        [{ code: "a" }, { code: "b" }, { code: "a" }],
        "?key=code",
        422,
        "validation_failed",
        /\/2\/code is the same as in \/0/,
      ],
      [
        "a value that is not valid",
        [{ code: "b" }, { code: "c", size: -1 }],
        "?key=code",
        422,
        "validation_failed",
        /\/1\/size/,
      ],
      [
        "a change that is not valid",
        [{ code: "x" }, { code: "old", size: -1, kept: "never" }],
        "?key=code",
        422,
        "validation_failed",
        /\/1\//,
      ],
      [
        "another unique property that is taken",
        [{ code: "x", number: 1 }],
        "?key=code",
        409,
        "not_unique",
        /number/,
      ],
      [
        "a stale version",
        [{ code: "old", version: 7, size: 1 }],
        "?key=code",
        409,
        "version_conflict",
        /changed/,
      ],
      [
        "a reference to nothing",
        [{ code: "x", contact_id: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b" }],
        "?key=code",
        422,
        "missing_reference",
        /contact_id/,
      ],
      [
        "too many",
        Array.from({ length: 10_001 }, (_, i) => ({ code: `${i}` })),
        "?key=code",
        413,
        /too_/,
        /./,
      ],
      ["a text of 1 MB", [{ code: "x".repeat(1_000_000) }], "?key=code", 413, "body_too_large", /./],
      ["NUL", '[{"code": "\\u0000"}]', "?key=code", 400, "invalid_value", /./],
    ])("refused, and nothing is written: %s", async (_title, body, query, status, code, says) => {
      await insert([{ code: "old", number: 1, size: 5 }]);
      const answer = await put(body, query);
      expect([answer.status, answer.json.code, answer.text]).toEqual([
        status,
        code instanceof RegExp ? expect.stringMatching(code) : code,
        expect.stringMatching(says),
      ]);
      expect(await codes()).toBe("old 5");
    });

    test("by what is unique together, two at once", async () => {
      const seats = `seats_${storage[0]}`;
      await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
        seats,
        {
          type: "object",
          "x-storage": storage,
          "x-unique": [["row", "hall"]],
          properties: { hall: { type: "string" }, row: { type: "integer" }, taken: { type: "integer" } },
        },
      ]);
      const list = (taken: number) => Array.from({ length: 50 }, (_, row) => ({ hall: "a", row, taken }));
      const answers = await Promise.all(
        [list(1), list(2).reverse()].map((body) =>
          crm.send(`${base}/${seats}?key=hall,row`, { method: "PUT", body }),
        ),
      );
      expect(answers.map(({ status }) => status)).toEqual([200, 200]);
      const [row] = await crm.db.query(
        `select count(*)::int as n, count(distinct taken)::int as t from acme_crm.${seats}`,
      );
      expect(row).toEqual({ n: 50, t: 1 });
    });

    test("what was deleted can be restored, and what expired makes room", async () => {
      const leases = `leases_${storage[0]}`;
      const path = `${base}/${leases}`;
      await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
        leases,
        {
          type: "object",
          "x-storage": storage,
          "x-soft-delete": true,
          "x-ttl": true,
          properties: { code: { type: "string", "x-unique": true }, size: { type: "integer" } },
        },
      ]);
      const list = [{ code: "a" }, { code: "b" }];
      await crm.send(`${path}?key=code`, { method: "PUT", body: list });
      expect((await crm.send(`${path}${where({ code: "a" })}`, { method: "DELETE" })).json).toEqual({
        meta: { deleted: 1 },
      });
      const [kept] = await crm.db.query("select data.deleted($1) as r", [`acme/crm/${leases}`]);
      expect(JSON.stringify(kept)).toContain('"code":"a"');
      const later = new Date(Date.now() + 3_600_000).toISOString();
      await crm.send(`${path}?key=code`, { method: "PUT", body: [{ code: "b", expires_at: later }] });
      await expire(crm.db, `${leases}_${storage}`, "expires_at is not null");
      expect((await crm.send(`${path}${where({})}`, { method: "PATCH", body: { size: 1 } })).json).toEqual({
        meta: { updated: 0 },
      });
      expect((await crm.send(`${path}?key=code`, { method: "PUT", body: list })).json.meta).toEqual({
        inserted: 2,
        updated: 0,
        unchanged: 0,
      });
    });

    test("the problems of one record point into it", async () => {
      for (const [body, pointer] of [
        [{ code: "a", size: -1 }, "/size"],
        [{ size: 1 }, "/code"],
      ] as const) {
        const { json } = await put(body);
        expect((json as unknown as { errors: unknown }).errors).toMatchObject([{ pointer }]);
      }
    });

    test("every problem of a list is told at once", async () => {
      await insert([{ code: "old" }]);
      const answer = await put([
        { code: "old", size: -1 },
        { code: "fine" },
        { code: "new", size: -2, nope: 1 },
      ]);
      const errors = (answer.json as unknown as { errors: { pointer: string }[] }).errors;
      expect(errors.map(({ pointer }) => pointer).sort()).toEqual(["/0/size", "/2/nope", "/2/size"]);
    });

    test("two at once, of the same 300 records in opposite orders: no record twice, none lost, no deadlock", async () => {
      await insert(Array.from({ length: 100 }, (_, i) => ({ code: `k${i}`, size: 0 })));
      const list = (size: number) => Array.from({ length: 300 }, (_, i) => ({ code: `k${i}`, size }));
      const answers = await Promise.all([put(list(1)), put(list(2).reverse()), put(list(3))]);
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
      const inserted = answers.map(({ json }) => (json.meta as unknown as { inserted: number }).inserted);
      expect(inserted.reduce((a, b) => a + b)).toBe(200);
      const [row] = await crm.db.query(
        "select count(*)::int as n, count(distinct size)::int as sizes from acme_crm.stock",
      );
      expect(row).toEqual({ n: 300, sizes: 1 });
    });

    test("who inserts second waits for the first, and updates", async () => {
      await crm.db.as("acme", "ann@acme.test", async (first) => {
        await first.query("begin");
        await first.query("select data.insert('acme/crm/stock', $1)", [
          { code: "w", size: 1, note: "first" },
        ]);
        const second = put([
          { code: "w", size: 2 },
          { code: "v", size: 2 },
        ]);
        await untilBlocked(crm.db, "upsert");
        await first.query("commit");
        expect((await second).json.meta).toEqual({ inserted: 1, updated: 1, unchanged: 0 });
      });
      expect(await codes("code, size, note")).toBe("v 2 new, w 2 first");
    });

    test("10,000 records in one call, from psql", async () => {
      await crm.db.as("acme", "ann@acme.test", async (client) => {
        const upsert = async (change: number) =>
          (
            await client.query(
              `select data.upsert('acme/crm/stock', (select jsonb_agg(jsonb_build_object('code', 'n' || i, 'size', i + case when i % 2 = 0 then $1::int else 0 end))
             from generate_series(1, 10000) i), '{code}') as r`,
              [change],
            )
          ).rows[0].r.meta;
        expect(await upsert(0)).toEqual({ inserted: 10_000, updated: 0, unchanged: 0 });
        expect(await upsert(1)).toEqual({ inserted: 0, updated: 5_000, unchanged: 5_000 });
      });
    });

    test("one record is found by the key's index, whatever else there is", async () => {
      await crm.db.query(
        "select data.insert('acme/crm/stock', (select jsonb_agg(jsonb_build_object('code', 'p' || i, 'number', i)) from generate_series(1, 10000) i))",
      );
      await crm.db.query(`analyze acme_crm.stock_${storage}`);
      await crm.db.as("acme", "ann@acme.test", async (client) => {
        const scans = async () =>
          (
            await client.query(
              `select pg_stat_get_numscans('acme_crm.stock_${storage}'::regclass)::int as n from pg_stat_force_next_flush()`,
            )
          ).rows[0].n;
        const [{ id }] = (await client.query("select id from acme_crm.stock where code = 'p77'")).rows;
        await scans(); // flushes what came before
        const before = await scans();
        for (const key of ["code", "number", "id"]) {
          const record = { id, code: "p77", number: 77, note: key };
          await client.query("select data.upsert('acme/crm/stock', $1, array[$2])", [record, key]);
          await client.query("select data.update_list('acme/crm/stock', $1)", [
            JSON.stringify([{ id, note: `${key}!` }]),
          ]);
        }
        await scans();
        expect(await scans()).toBe(before);
      });
    });

    test("a key that nothing keeps unique works one after the other, and names what it cannot tell apart", async () => {
      await insert([
        { code: "a", shelf: 1 },
        { code: "b", shelf: 1 },
      ]);
      const ambiguous = await put([{ shelf: 1, note: "x" }], "?key=shelf");
      expect([ambiguous.status, ambiguous.json.code]).toEqual([409, "ambiguous_key"]);
      const both = await Promise.all([1, 2].map((n) => put([{ code: `s${n}`, shelf: 9 }], "?key=shelf")));
      expect(both.map(({ json }) => json.meta as unknown)).toEqual(
        expect.arrayContaining([
          { inserted: 1, updated: 0, unchanged: 0 },
          { inserted: 0, updated: 1, unchanged: 0 },
        ]),
      );
    });

    test.each([
      ["a viewer inserts", "vic", { code: "x" }, 403],
      ["a viewer updates", "vic", { code: "old", size: 1 }, 403],
      ["another tenant", "bob", { code: "x" }, 404],
    ])("%s: refused", async (_title, as, record, status) => {
      await insert([{ code: "old" }]);
      expect((await put([record], "?key=code", as)).status).toBe(status);
      expect(await codes()).toBe("old");
    });
  });

  describe("PATCH and DELETE by filter, with an expected maximum", () => {
    test("changes what matches, and answers with the records where asked", async () => {
      await insert(ten);
      expect(
        await send(where({ shelf: 1 }), { method: "PATCH", body: { note: null, size: 50 } }),
      ).toMatchObject({
        status: 200,
        json: { meta: { updated: 5 } },
      });
      const records = await send(where({ shelf: 1, code: "c3" }, "&max=1&return=records"), {
        method: "PATCH",
        body: { size: 51 },
      });
      expect(records.json).toMatchObject({
        data: [{ code: "c3", size: 51, version: 3 }],
        meta: { updated: 1 },
      });
      expect(records.json.data[0]).toHaveProperty("note", null);
      expect((await send(where({ code: "nobody" }), { method: "PATCH", body: { size: 1 } })).json).toEqual({
        meta: { updated: 0 },
      });
      expect(await codes()).toBe("c0 0, c1 50, c2 2, c3 51, c4 4, c5 50, c6 6, c7 50, c8 8, c9 50");
    });

    test("deletes what matches; {} is all of them", async () => {
      await insert(ten);
      const gone = await send(where({ size: { $gte: 8 } }, "&max=2&return=records"), { method: "DELETE" });
      expect(gone.json.meta).toEqual({ deleted: 2 });
      expect(gone.json.data.map(({ code }) => code).sort()).toEqual(["c8", "c9"]);
      expect((await send(where({}), { method: "DELETE" })).json).toEqual({ meta: { deleted: 8 } });
      expect(await codes()).toBe("");
    });

    test("filters follow relations", async () => {
      await insert([
        { code: "a", contact_id: crm.ids.Ada },
        { code: "b", contact_id: crm.ids.Dan },
        { code: "c" },
      ]);
      const filter = { "contact.company.city": "Oslo" };
      expect((await send(where(filter), { method: "PATCH", body: { size: 1 } })).json.meta).toEqual({
        updated: 1,
      });
      expect((await send(where(filter), { method: "DELETE" })).json.meta).toEqual({ deleted: 1 });
      expect(await codes("code")).toBe("b, c");
    });

    const hostile = "'; drop table acme_crm.stock; -- $body$ %1$I \\ \" $1";
    test("hostile texts are values", async () => {
      await insert([{ code: hostile }, { code: "b" }]);
      const body = { note: hostile };
      expect((await send(where({ code: hostile }), { method: "PATCH", body })).json.meta).toEqual({
        updated: 1,
      });
      const [row] = await crm.db.query("select data.update_where('acme/crm/stock', $1, $2, 5) as r", [
        { note: hostile, $or: [{ code: hostile }, { code: "$1::jsonb, 5)" }] },
        { size: 9 },
      ]);
      expect(row).toEqual({ r: { meta: { updated: 1 } } });
      expect((await send(where({ note: hostile }), { method: "DELETE" })).json.meta).toEqual({ deleted: 1 });
    });

    test.each([
      ["no filter", "PATCH", "?max=5", { size: 1 }, 400, "filter_missing"],
      ["no filter", "DELETE", "?max=5", undefined, 400, "filter_missing"],
      ["neither filter nor max", "DELETE", "", undefined, 400, "filter_missing"],
      ["no max", "PATCH", where({}, ""), { size: 1 }, 400, "max_missing"],
      ["no max", "DELETE", where({}, ""), undefined, 400, "max_missing"],
      ["max 0", "DELETE", where({}, "&max=0"), undefined, 400, "invalid_max"],
      ["max 10,001", "DELETE", where({}, "&max=10001"), undefined, 400, "invalid_max"],
      ["max -1", "DELETE", where({}, "&max=-1"), undefined, 400, "invalid_max"],
      ["SQL as max", "DELETE", where({}, "&max=1;drop"), undefined, 400, "invalid_max"],
      ["an infinite max", "DELETE", where({}, `&max=${"9".repeat(400)}`), undefined, 400, "invalid_max"],
      ["an unknown field", "DELETE", where({ nope: 1 }), undefined, 400, "unknown_field"],
      ["a list as filter", "DELETE", where([]), undefined, 400, "invalid_filter"],
      ["null as filter", "DELETE", where(null), undefined, 400, "invalid_filter"],
      [
        "a filter nested too deeply",
        "DELETE",
        where(JSON.parse(`${'{"$not":'.repeat(12)}{"size":1}${"}".repeat(12)}`)),
        undefined,
        400,
        "invalid_filter",
      ],
      ["a limit", "DELETE", where({}, "&max=5&limit=1"), undefined, 400, "unknown_parameter"],
      [
        "an id in the changes",
        "PATCH",
        where({}),
        { id: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b" },
        400,
        "invalid_body",
      ],
      ["a version in the changes", "PATCH", where({}), { version: 1 }, 400, "invalid_body"],
      ["changes that are no object", "PATCH", where({}), 5, 400, "invalid_body"],
      ["a value that is not valid", "PATCH", where({}), { size: -1 }, 422, "validation_failed"],
      ["a property that is not there", "PATCH", where({}), { nope: 1 }, 422, "validation_failed"],
      ["one value for all of what is unique", "PATCH", where({}), { number: 1 }, 409, "not_unique"],
      [
        "a reference to nothing",
        "PATCH",
        where({}),
        { contact_id: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b" },
        422,
        "missing_reference",
      ],
    ])("refused, and nothing is written: %s, %s", async (_title, method, query, body, status, code) => {
      await insert(ten);
      const before = await codes("code, size, version");
      const answer = await send(query, { method, body });
      expect([answer.status, answer.json.code]).toEqual([status, code]);
      expect(await codes("code, size, version")).toBe(before);
    });

    test("more than max match: 409 says so, and nothing is written", async () => {
      await insert(ten);
      for (const [method, body] of [
        ["PATCH", { size: 99 }],
        ["DELETE", undefined],
      ] as const) {
        const answer = await send(where({ size: { $gte: 0 } }, "&max=9"), { method, body });
        expect(answer).toMatchObject({
          status: 409,
          json: {
            code: "too_many_matches",
            detail: expect.stringContaining("At least 10 records of stock match, and max is 9"),
          },
        });
      }
      expect((await codes()).length).toBe(10 * 6 - 2);
      expect(await codes()).not.toContain("99");
    });

    test("records that others refer to are not deleted, and the rest of them neither", async () => {
      const path = `${base}/contacts${where({ name: { $in: ["Dan", "Ada"] } })}`;
      await insert([{ code: "a", contact_id: crm.ids.Dan }]);
      const answer = await crm.send(path, { method: "DELETE" });
      expect([answer.status, answer.json.code]).toEqual([409, "still_referenced"]);
      expect((await crm.send(`${base}/contacts/${crm.ids.Ada}`)).status).toBe(200);
    });

    test("what two take at once, only one gets", async () => {
      await insert(ten);
      await crm.db.as("acme", "ann@acme.test", async (first) => {
        await first.query("begin");
        await first.query(
          `select data.update_where('acme/crm/stock', '{"note": "new"}', '{"note": "ann"}', 10)`,
        );
        const second = send(where({ note: "new" }), { method: "PATCH", body: { note: "eve" }, as: "eve" });
        await untilBlocked(crm.db, "update");
        await first.query("commit");
        expect((await second).json).toEqual({ meta: { updated: 0 } });
      });
    });

    test("many at once, in every order, end without a deadlock", async () => {
      await insert(ten);
      const answers = await Promise.all(
        Array.from({ length: 12 }, (_, i) => {
          if (i % 3 === 0)
            return send("?key=code", {
              method: "PUT",
              body: [...ten].reverse().map((r) => ({ ...r, note: `${i}` })),
            });
          return send(where(i % 3 === 1 ? { shelf: { $gte: 0 } } : { size: { $lt: 100 } }), {
            method: "PATCH",
            body: { note: `${i}` },
          });
        }),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      const rows = await crm.db.query("select distinct note from acme_crm.stock");
      expect(rows.length).toBe(1);
    });

    test.each([
      ["a viewer", "vic", 403],
      ["another tenant", "bob", 404],
      ["nobody", null, 401],
    ])("%s may not", async (_title, as, status) => {
      await insert(ten);
      const before = await codes("code, version");
      expect((await send(where({}), { method: "PATCH", body: { size: 1 }, as })).status).toBe(status);
      expect((await send(where({}), { method: "DELETE", as })).status).toBe(status);
      expect(await codes("code, version")).toBe(before);
    });

    test("who may delete and not update deletes by filter, and one who may not is told so", async () => {
      await insert(ten);
      const email = `del${storage}@acme.test`;
      await crm.db.account(email);
      await crm.db.query("select tenancy.add_member('acme', $1, 'viewer')", [email]);
      const run = (text: string) =>
        crm.db.as("acme", email, async (client) => (await client.query(text)).rows[0].r);
      const some = `select data.delete_where('acme/crm/stock', '{"size": {"$gt": 7}}', 5) as r`;
      await expect(run(some)).rejects.toMatchObject({
        code: "RH403",
        message: "You may not delete records of crm/stock",
      });
      await crm.db.query("select access.create_role('acme', $1, '{crm/stock:delete}')", [
        `deleter_${storage}`,
      ]);
      await crm.db.query("select access.assign_role('acme', $1, $2)", [email, `deleter_${storage}`]);
      expect(await run(some)).toEqual({ meta: { deleted: 2 } });
    });

    test("a record that changes while it is to be deleted stays", async () => {
      await insert(ten);
      const other = await crm.db.pool.connect();
      await other.query("begin");
      await other.query("update acme_crm.stock set size = 100 where code = 'c3'");
      const deleted = send(where({ size: { $lt: 5 } }), { method: "DELETE" });
      await untilBlocked(crm.db, "delete");
      await other.query("commit");
      other.release();
      expect((await deleted).json).toMatchObject({ meta: { deleted: 4 } });
      expect(await codes("code")).toBe("c3, c5, c6, c7, c8, c9");
    });

    test("who may update and no more, who may nothing, in psql", async () => {
      await insert(ten);
      await crm.db.account(`upd${storage}@acme.test`);
      await crm.db.query(`select tenancy.add_member('acme', 'upd${storage}@acme.test', 'viewer')`);
      await crm.db.query(
        `select access.create_role('acme', 'updater_${storage}', '{crm/stock:read,crm/stock:update}')`,
      );
      await crm.db.query(`select access.revoke_role('acme', 'upd${storage}@acme.test', 'viewer')`);
      const run = (text: string) =>
        crm.db.as("acme", `upd${storage}@acme.test`, async (client) => (await client.query(text)).rows[0].r);
      const update = `select data.update_where('acme/crm/stock', '{"size": {"$gt": 7}}', '{"size": 70}', 5) as r`;
      await expect(run(update)).rejects.toMatchObject({ code: "RH403" });
      await crm.db.query(
        `select access.assign_role('acme', 'upd${storage}@acme.test', 'updater_${storage}')`,
      );
      expect(await run(update)).toEqual({ meta: { updated: 2 } });
      await expect(run(`select data.delete_where('acme/crm/stock', '{}', 10) as r`)).rejects.toMatchObject({
        code: "RH403",
      });
      await expect(
        run(`select data.upsert('acme/crm/stock', '[{"code": "new"}]', '{code}') as r`),
      ).rejects.toMatchObject({ code: "RH403" });
      await expect(
        run(
          "select acme_crm.stock_delete_many(array(select id from acme_crm.stock), array(select version::int from acme_crm.stock), 100) as r",
        ),
      ).rejects.toMatchObject({ code: "RH403" });
      await expect(run(`select data.delete_where('beta/crm/contacts', '{}', 10) as r`)).rejects.toMatchObject(
        {
          code: "RH404",
        },
      );
      await expect(run("select beta_crm.contacts_delete_many('{}', '{}', 100) as r")).rejects.toMatchObject({
        code: "42501",
      });
      expect(await codes("code")).toBe(ten.map(({ code }) => code).join(", "));
    });

    test("an indexed field is found by its index, under row-level security, and what is changed is locked in the order of ids", async () => {
      await crm.db.query(
        "select data.insert('acme/crm/stock', (select jsonb_agg(jsonb_build_object('code', 'p' || i, 'shelf', i)) from generate_series(1, 5000) i))",
      );
      await crm.db.query(`analyze acme_crm.stock_${storage}`);
      await crm.db.as("acme", "ann@acme.test", async (client) => {
        for (const operation of ["update_where", "delete_where"]) {
          const compiled = await client.query("select data.compile('crm', 'stock', $1, $2)->>'sql' as sql", [
            operation,
            { filter: { shelf: { $param: 1 } }, max: 100 },
          ]);
          await client.query(`prepare batch as ${compiled.rows[0].sql}`);
          const plan = await client.query(
            `explain execute batch('7'${operation === "update_where" ? `, '{"size": 1}'` : ""})`,
          );
          const text = plan.rows.map((row) => row["QUERY PLAN"]).join("\n");
          expect(text).toMatch(/Index (Only )?Scan using stock_(flat_)?shelf_idx/);
          expect(/LockRows/.test(text)).toBe(operation === "update_where");
          expect(text).not.toMatch(/Seq Scan/);
          await client.query("deallocate batch");
        }
      });
    });
  });

  describe("PATCH of a list changes each record by its id", () => {
    const patch = (body: unknown, call: Call = {}) => send("", { method: "PATCH", body, ...call });
    async function three(): Promise<string[]> {
      await insert([{ code: "a" }, { code: "b" }, { code: "c" }]);
      const rows = await crm.db.query<{ id: string }>("select id from acme_crm.stock order by code");
      return rows.map(({ id }) => id);
    }

    test("answers with the records in their order", async () => {
      const [a, b, c] = await three();
      const answer = await patch([
        { id: c, size: 3, version: 1 },
        { id: a?.toUpperCase(), size: 1, note: null },
        { id: b },
      ]);
      expect([answer.status, answer.json]).toMatchObject([
        200,
        [
          { code: "c", size: 3, version: 2 },
          { code: "a", size: 1, note: null },
          { code: "b", size: null },
        ],
      ]);
      expect(await patch([])).toMatchObject({ status: 200, text: "[]" });
    });

    test.each([
      [
        "an unknown id",
        (id: string) => [
          { id, size: 1 },
          { id: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b", size: 1 },
        ],
        404,
        ["/1/id"],
      ],
      ["a stale version", (id: string) => [{ id, size: 1, version: 4 }], 409, ["/0/version"]],
      ["no id", () => [{ size: 1 }], 422, ["/0/id"]],
      ["no UUID", () => [{ id: "1; drop", size: 1 }, { id: { $ref: "x" } }], 422, ["/0/id", "/1/id"]],
      [
        "one id twice",
        (id: string) => [
          { id, size: 1 },
          { id: id.toUpperCase(), size: 2 },
        ],
        422,
        ["/1/id"],
      ],
      ["values that are not valid", (id: string) => [{ id, size: -1, nope: 1 }], 422, ["/0/nope", "/0/size"]],
      ["no objects", () => [[]], 400, []],
    ])("refused, and nothing is written: %s", async (_title, body, status, pointers) => {
      const [a] = await three();
      const answer = await patch(body(String(a)));
      const errors = (answer.json as unknown as { errors?: { pointer: string }[] }).errors ?? [];
      expect([answer.status, errors.map(({ pointer }) => pointer).sort()]).toEqual([status, pointers]);
      expect(await codes("code, version, size")).toBe("a 1, b 1, c 1");
    });

    test("viewers and other tenants may not", async () => {
      const [id] = await three();
      expect((await patch([{ id, size: 1 }], { as: "vic" })).status).toBe(403);
      expect((await patch([{ id, size: 1 }], { as: "bob" })).status).toBe(404);
      const path = "/api/v1/sites/beta/apps/crm/contacts";
      expect(
        (await crm.send(path, { method: "PATCH", as: "eve", body: [{ id: crm.ids.Ada, name: "x" }] })).status,
      ).toBe(404);
    });
  });
});
