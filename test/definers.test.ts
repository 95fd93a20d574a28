import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import {
  changed,
  type Definer,
  definers,
  kinds,
  people,
  type Schema,
  startDefiners,
} from "./harness/definers.ts";

// Whether a definition is accepted, and whatever a plan says, tells its author nothing of records that they may not see.

let worlds: Awaited<ReturnType<typeof startDefiners>>;
beforeAll(async () => {
  worlds = await startDefiners();
});
afterAll(() => worlds?.stop());

const p = people.properties as Record<string, Record<string, unknown>>;
const more = (field: string, keywords: object) => ({ [field]: { ...p[field], ...keywords } });

const hidden: [string, Schema][] = [
  ["a maximum", changed(more("salary", { maximum: 50000 }))],
  ["a minimum", changed(more("salary", { minimum: 1 }))],
  ["a rule", changed({}, { "x-rules": [{ rule: "name <> 'Bea' or salary < 50000" }] })],
  ["a rule over what is computed from it", changed({}, { "x-rules": [{ rule: "yearly < 5000" }] })],
  ["a unique field", changed(more("email", { "x-unique": true }))],
  ["fields that are unique together", changed({}, { "x-unique": [["region", "salary"]] })],
  ["an enum", changed(more("grade", { enum: ["1", "2"] }))],
  ["a pattern", changed(more("email", { pattern: "^a[0-9]@" }))],
  ["a length", changed(more("grade", { maxLength: 10 }))],
  ["a constant", changed(more("grade", { const: "1" }))],
  // biome-ignore lint/suspicious/noThenProperty: it is JSON Schema's
  ["an if", changed({}, { if: { required: ["boss_id"] }, then: { required: ["note", "ends"] } })],
  ["fields that go together", changed({}, { dependentRequired: { name: ["ends"] } })],
  ["a field that is required", changed({}, { required: ["ends"] })],
  ["one with a default", changed(more("ends", { default: "2999-01-01T00:00:00Z" }), { required: ["ends"] })],
  ["another type", changed({ salary: { type: "string", "x-mask": "null" }, wage: null, yearly: null })],
  ["a type that not all values have", changed(more("grade", { type: "integer" }))],
  ["a computed field", changed({ large: { type: "integer", "x-computed": "salary * 1000000000000000" } })],
  [
    "a computed one with a bound",
    changed({
      twice: { type: "integer", maximum: 1000, "x-computed": { expression: "salary * 2", stored: true } },
    }),
  ],
  ["a relation", changed(more("boss_id", { "x-relation": { entity: "companies" } }))],
  ["an index on a text", changed(more("grade", { "x-index": true }))],
  ["an index on a text and another field", changed({}, { "x-indexes": [{ fields: ["name", "grade"] }] })],
  [
    "an index with a condition",
    changed({}, { "x-indexes": [{ fields: ["name"], where: { salary: { $gt: 50000 } } }] }),
  ],
  [
    "another name and a bound",
    changed({
      pay: { ...p.salary, maximum: 50000, "x-renamed-from": "salary" },
      salary: null,
      wage: { ...p.wage, "x-alias": "pay" },
      yearly: null,
    }),
  ],
  [
    "another name and a length",
    changed({ rank: { ...p.grade, maxLength: 10, "x-renamed-from": "grade" }, grade: null }),
  ],
  [
    "a moment of expiry",
    changed({ expires_at: { ...p.ends, "x-renamed-from": "ends" }, ends: null }, { "x-ttl": true }),
  ],
];
/** What would be done in both worlds. */
const fits = ["one with a default", "another type", "an index with a condition", "a moment of expiry"];
const shown: [string, Schema][] = [
  ["a maximum", changed(more("bonus", { maximum: 500 }))],
  ["a length", changed(more("note", { maxLength: 20 }))],
  ["a rule", changed({}, { "x-rules": [{ rule: "bonus < 500" }] })],
  ["a unique field", changed(more("bonus", { "x-unique": true }))],
  ["a new field that is required", changed({ nick: { type: "string" } }, { required: ["nick"] })],
  ["a computed field", changed({ double: { type: "integer", "x-computed": "bonus * 2" } })],
];
const unchecked: [string, Schema][] = [
  ["an optional field", changed({ nick: { type: "string", maxLength: 5, pattern: "^a" } })],
  [
    "one that is unique, related and indexed",
    changed({
      firm_id: { type: "string", format: "uuid", "x-unique": true, "x-relation": { entity: "companies" } },
    }),
  ],
  ["a limit that is loosened", changed(more("bonus", { maximum: 2000 }))],
  ["a limit that goes", changed({ bonus: { type: "integer" } })],
  ["another name", changed({ remark: { ...p.note, "x-renamed-from": "note" }, note: null })],
  [
    "words about it",
    changed(more("salary", { title: "Pay", description: "a year" }), { description: "People" }),
  ],
  ["a search", changed(more("note", { "x-search": true }))],
  ["an index on numbers", changed(more("bonus", { "x-index": true }))],
  ["an index on a date that is masked", changed(more("born", { "x-index": true }))],
  ["more in the audit log", changed({}, { "x-audit": true })],
  ["history and soft deletion", changed({}, { "x-history": true, "x-soft-delete": true })],
];

/** What comes of it: that it is done, or the SQLSTATE with the code of the error. */
const outcome = (text: string) => {
  const [sqlstate, , detail] = text.split(" | ");
  return /^[0-9A-Z]{5}$/.test(sqlstate as string)
    ? `${sqlstate} ${detail?.startsWith("{") ? JSON.parse(detail).code : ""}`
    : "done";
};
const plan = "select data.plan($1, $2) as plan";
const define =
  "select (data.define_entity(regexp_replace($1, '/[^/]*$', ''), substring($1 from '[^/]*$'), $2)).version";
const apply = "select (data.apply((data.plan($1, $2)->>'plan')::uuid, true)).version";

describe.each(Object.entries(kinds))("in %s storage", (storage, name) => {
  const stored = (schema: Schema) => ({ ...schema, "x-storage": storage });
  const told = (who: Definer, app: "crm" | "shop", sql: string, schema: Schema) =>
    worlds.told(who, app, sql, [`acme/${app}/${name}`, stored(schema)]);
  const [seen, records] = ["RH403 field_not_seen", "RH403 forbidden"];
  // What is asked before a record is read does not look at the storage: in flat of two, by one door.
  const all = storage === "flat" ? [plan] : [plan, define, apply];
  const asked: readonly Definer[] = storage === "flat" ? ["masked", "blind"] : definers;
  /** Who may plan it, and who is refused by every door, and told the same in both worlds. */
  const may = async (schema: Schema, expected: Record<Definer, string>, doors = all) => {
    for (const sql of doors)
      for (const who of asked) {
        const isRefused = expected[who] !== "done";
        if (sql !== plan && (!isRefused || who === "part")) continue; // who sees a part is who sees nothing, to these
        const answer = await told(who, "crm", sql, schema);
        expect([sql, who, outcome(answer)]).toEqual([sql, who, expected[who]]);
        if (isRefused) expect([who, await told(who, "shop", sql, schema)]).toEqual([who, answer]);
      }
  };

  test.each(hidden)("%s over what is masked is for who sees it in every record", async (what, schema) => {
    const doors = what.includes("type") ? all.filter((sql) => sql !== define) : all;
    await may(schema, { admin: "done", reader: "done", masked: seen, part: records, blind: records }, doors);
    const sql = what.includes("index") ? define : plan;
    if (!fits.includes(what))
      expect(await told("admin", "shop", sql, schema)).not.toBe(await told("admin", "crm", sql, schema));
  });

  test("what a conversion reads is seen by who plans it", async () => {
    const schema = changed({
      bonus: { type: "integer", "x-convert": "bonus + salary" },
    });
    await may(schema, { admin: "done", reader: "done", masked: seen, part: records, blind: records }, [plan]);
  });

  test.each(shown)("%s over what is shown is for who reads every record", async (what, schema) => {
    await may(schema, { admin: "done", reader: "done", masked: "done", part: records, blind: records });
    const isMissing = what.includes("required");
    expect(outcome(await told("masked", "crm", define, schema))).toBe(
      isMissing ? "RH409 records_do_not_fit" : "done",
    );
  });

  test("a unique field of a type that its values have not is told by them", async () => {
    const schema = changed({ name: { type: "string", format: "date", "x-unique": true } });
    expect(await told("masked", "crm", plan, schema)).toMatch(/"offenders":\[\{[^\]]*"\/name"/);
  });

  test.each(unchecked)("%s is for everybody who defines", async (_what, schema) => {
    for (const [who, sql] of [...asked.map((who) => [who, plan] as const), ["blind", define] as const]) {
      const answer = await told(who, "crm", sql, schema);
      expect([who, outcome(answer)]).toEqual([who, "done"]);
      expect([who, await told(who, "shop", sql, schema)]).toEqual([who, answer]);
    }
  });
});
