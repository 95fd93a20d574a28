import { afterAll, beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { type Crm, startCrm } from "./harness/crm.ts";
import { told } from "./harness/staff.ts";
import { type Change, restDoors, sqlDoors, type Values } from "./harness/update-doors.ts";

// Whatever an entity asks of its fields together: two worlds in which a record differs in nothing but what its writer does not see
// answer every change in the same words, by every door. Hidden are s, t (numbers), h (a text) and e (a time).

let crm: Crm;
let doors: [string, Change][];
beforeAll(async () => {
  crm = await startCrm();
  doors = Object.entries({ ...sqlDoors(crm), ...restDoors(crm) });
});
afterAll(() => crm?.stop());

const hidden = ["s", "t", "h", "e"];
const numbers = ["a", "b", "s", "t"];
const fields = ["a", "b", "w", "d", ...hidden];
const one = <T>(...values: T[]) => fc.constantFrom(...values);
const some = (names: string[], minLength = 1, maxLength = 3) => fc.subarray(names, { minLength, maxLength });
const number = one(...numbers);
const amount = fc.integer({ min: 0, max: 5 });

const term = fc.oneof(
  number,
  amount.map(String),
  fc.tuple(number, one(" + ", " - ", " * "), number).map((parts) => `(${parts.join("")})`),
  one("length(w)", "length(h)", "c", "v"),
);
const comparison = fc.oneof(
  fc.tuple(term, one(" <= ", " < ", " != ", " >= "), term).map((parts) => parts.join("")),
  one("e <= d", "d > e", "w != h", "h < w", "e < now()", "d < now()", "h is not null", "s is null"),
);
const rule = fc.oneof(
  comparison,
  fc.tuple(comparison, comparison).map(([one, other]) => `${one} or ${other}`),
);
const part = fc.oneof(
  some(fields).map((required) => ({ required })),
  fc.tuple(number, amount).map(([name, maximum]) => ({ properties: { [name]: { maximum } } })),
  fc
    .tuple(number, amount)
    .map(([name, value]) => ({ properties: { [name]: { const: value } }, required: [name] })),
  one({ maxProperties: 5 }, { properties: { h: { minLength: 3 }, w: true } }, { $ref: "#/$defs/long" }),
);
const combined = fc.oneof(
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  fc.record({ if: part, then: part }),
  fc.record({ if: part, else: part }),
  fc.tuple(one("oneOf", "anyOf", "allOf"), part, part).map(([key, ...parts]) => ({ [key]: parts })),
  part.map((not) => ({ not })),
  fc.tuple(one(...fields), part).map(([name, schema]) => ({ dependentSchemas: { [name]: schema } })),
  fc.record({ minProperties: fc.integer({ min: 2, max: 5 }) }),
  fc.record({ maxProperties: fc.integer({ min: 4, max: 9 }) }),
);
const option = <T>(of: fc.Arbitrary<T>) => fc.option(of, { freq: 1 });
const definition = fc
  .record({
    storage: one("jsonb", "flat"),
    rules: fc.array(rule, { maxLength: 3 }),
    combined: option(combined),
    dependent: option(fc.tuple(one(...fields), some(fields)).map(([name, others]) => ({ [name]: others }))),
    unique: option(some(["a", "b", "w", "s", "t", "h", "c"], 2, 3)),
    computed: one("a + s", "a * s * 4000000000", "b + t * 2", "length(h) + a", "if(s > a, s, b)"),
    isStored: fc.boolean(),
    virtual: one("a + b", "s + t", "c + 1", "a * 2"),
  })
  .map(({ storage, rules, combined, dependent, unique, computed, isStored, virtual }) => ({
    type: "object",
    properties: {
      ...Object.fromEntries(numbers.map((name) => [name, { type: "integer" }])),
      w: { type: "string" },
      h: { type: "string" },
      d: { type: "string", format: "date-time" },
      e: { type: "string", format: "date-time" },
      c: { type: "integer", maximum: 20_000_000_000, "x-computed": { expression: computed, stored: true } },
      v: { type: "integer", "x-computed": virtual },
    } as Record<string, object>,
    $defs: { long: { properties: { h: { minLength: 2 }, a: { maximum: 4 } }, required: ["h"] } },
    "x-storage": storage,
    "x-rules": rules.map((rule) => ({ rule })),
    ...combined,
    ...(dependent && { dependentRequired: dependent }),
    ...(unique && { "x-unique": [unique] }),
    isStored,
  }))
  .map(({ isStored, ...schema }) => {
    for (const name of hidden) schema.properties[name] = { ...schema.properties[name], "x-mask": "null" };
    if (!isStored && !JSON.stringify(schema["x-unique"] ?? "").includes('"c"'))
      schema.properties.c = {
        type: "integer",
        "x-computed": (schema.properties.c as { "x-computed": { expression: string } })["x-computed"]
          .expression,
      };
    return schema;
  });

const word = one("", "x", "yy", "zzz");
const time = one(
  "2001-01-01T00:00:00Z",
  "2001-01-01T01:00:00+01:00",
  "2020-05-05T00:00:00Z",
  "2999-01-01T00:00:00Z",
);
const values = { a: amount, b: amount, w: word, d: time, s: amount, t: amount, h: word, e: time };
const record = fc.record(values, { requiredKeys: [] });
const change = fc.record(
  Object.fromEntries(
    Object.entries(values).map(([name, of]) => [
      name,
      fc.option<unknown>(of as fc.Arbitrary<unknown>, { freq: 6 }),
    ]),
  ),
  { requiredKeys: [] },
);
const only = (names: string[], record: Values) =>
  Object.fromEntries(Object.entries(record).filter(([name]) => names.includes(name)));
const seenFields = fields.filter((name) => !hidden.includes(name));

let cases = 0;
const tally: Record<string, number> = {};
test("a change is answered in the same words, whatever is hidden", async () => {
  let n = 0;
  await fc.assert(
    fc.asyncProperty(
      definition,
      fc.array(fc.tuple(record, record, record), { minLength: 8, maxLength: 8 }),
      fc.array(fc.tuple(change, fc.boolean(), fc.nat()), { minLength: 18, maxLength: 18 }),
      async (schema, tries, changes) => {
        // What is unique would be so among the two.
        const worlds = ["one", schema["x-unique"] ? "other" : "one"].map((name) => `jobs_${name}_${n}`);
        n++;
        const insert = (entity: string, values: Values) =>
          crm.db
            .query("select data.insert($1, $2)->>'id' as id", [`acme/crm/${entity}`, values])
            .then(([row]) => row?.id as string)
            .catch((error: Error & { code: string }) => {
              if (!["RH422", "23505"].includes(error.code)) throw error;
              return null;
            });
        for (const entity of new Set(worlds))
          await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [entity, schema]);
        // Of several records, one that fits in both worlds.
        let ids: (string | null)[] = [];
        let seen: Values = {};
        for (const [shown, first, second] of tries) {
          seen = only(seenFields, shown);
          ids = [];
          for (const [i, of] of [first, second].entries())
            ids.push(await insert(worlds[i] as string, { ...seen, ...only(hidden, of) }));
          if (!ids.includes(null)) break;
          for (const entity of worlds) await crm.db.query(`delete from acme_crm.${entity}`);
        }
        fc.pre(ids.length === 2 && !ids.includes(null));
        for (const [values, isFull, at] of changes) {
          const [door, write] = doors[at % doors.length] as [string, Change];
          const changed = isFull ? values : only(seenFields, values);
          if (door === "psql, the view" && Object.keys(changed).length === 0) continue;
          const said: string[] = [];
          for (const [i, entity] of worlds.entries()) {
            const outcome = await write(entity, ids[i] as string, changed, seen);
            said.push(
              told(outcome)
                .replaceAll(entity, "<entity>")
                .replaceAll(ids[i] as string, "<id>"),
            );
            if (i === 0) tally[`${outcome.status}`] = (tally[`${outcome.status}`] ?? 0) + 1;
          }
          expect([door, changed, schema, said[0]]).toEqual([door, changed, schema, said[1]]);
          cases++;
          const [now] = await crm.db.query(
            `select ${seenFields.join(", ")} from acme_crm.${worlds[0]} where id = $1`,
            [ids[0]],
          );
          seen = JSON.parse(JSON.stringify(now));
        }
        for (const entity of new Set(worlds))
          await crm.db.query("select data.drop_entity($1, $2)", [`acme/crm/${entity}`, entity]);
      },
    ),
    { numRuns: 18, endOnFailure: true },
  );
  expect(cases).toBeGreaterThan(300);
  expect(tally).toMatchObject({ 200: expect.any(Number), 403: expect.any(Number), 422: expect.any(Number) });
}, 240_000);
