import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm.stop());

const properties = {
  name: { type: "string", minLength: 2 },
  start_date: { type: "string", format: "date" },
  end_date: { type: "string", format: "date" },
  seats: { type: "integer", minimum: 0 },
  taken: { type: "integer" },
  status: { enum: ["draft", "open"] },
};
const rules = [
  { rule: "end_date >= start_date", message: "must not end before it starts", field: "end_date" },
  { rule: "taken <= seats" },
  {
    rule: "status != 'open' or (name is not null and seats > 0)",
    message: "An open event has a name and seats",
  },
];
const define = (name: string, more: object, props: object = properties) =>
  crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
    name,
    { type: "object", properties: props, ...more },
  ]);
const insert = (name: string, record: object) =>
  crm.db.query("select data.insert($1, $2) as r", [`acme/crm/${name}`, JSON.stringify(record)]);

describe("a record that breaks a rule is refused, with the rule's message at its field", () => {
  beforeAll(() => define("meetings", { "x-rules": rules }));

  const cases: [string, object, [string, string][]][] = [
    ["all fine", { start_date: "2026-01-01", end_date: "2026-01-02", taken: 1, seats: 2 }, []],
    ["null passes", { start_date: "2026-01-01", taken: 5 }, []],
    [
      "one",
      { start_date: "2026-01-02", end_date: "2026-01-01" },
      [["/end_date", "must not end before it starts"]],
    ],
    [
      "all at once, beside other problems",
      { name: "x", start_date: "2026-01-02", end_date: "2026-01-01", taken: 3, seats: 2, status: "open" },
      [
        ["/name", "must have at least 2 characters"],
        ["/end_date", "must not end before it starts"],
        ["", "must fulfil taken <= seats"],
      ],
    ],
    ["no field: the record", { status: "open" }, [["", "An open event has a name and seats"]]],
    [
      "what is wrong itself breaks no rule",
      { start_date: "soon", end_date: "2026-01-01", taken: "many", seats: 1 },
      [
        ["/start_date", "must be a date like 2026-01-31"],
        ["/taken", "must be a number"],
      ],
    ],
  ];
  test.each(cases)("psql and REST: %s", async (_title, record, problems) => {
    const answer = await crm.send(`${base}/meetings`, { method: "POST", body: record });
    expect(answer.status).toBe(problems.length ? 422 : 201);
    const sorted = (list: [string, string][]) => [...list].sort();
    const found =
      (answer.json as unknown as { errors?: { pointer: string; message: string }[] }).errors ?? [];
    expect(sorted(found.map((e) => [e.pointer, e.message]))).toEqual(sorted(problems));
    const outcome = crm.db.as("acme", "ann@acme.test", (client) =>
      client.query("select data.insert('acme/crm/meetings', $1)", [JSON.stringify(record)]),
    );
    if (problems.length === 0) return void (await outcome);
    const failure = await refusal(outcome);
    expect([failure.code, failure.detail.errors?.length]).toEqual(["RH422", problems.length]);
    expect(failure.message).not.toContain("  ");
  });

  test("updates, batches, imports and the view meet the same rule", async () => {
    const [row] = (await insert("meetings", { start_date: "2026-01-05", end_date: "2026-01-06" })) as [
      { r: { id: string } },
    ];
    const patch = await crm.send(`${base}/meetings/${row.r.id}`, {
      method: "PATCH",
      body: { end_date: "2026-01-01" },
    });
    expect([patch.status, patch.text]).toEqual([422, expect.stringContaining('"/end_date"')]);
    const list = await crm.send(`${base}/meetings`, {
      method: "POST",
      body: [{ seats: 1 }, { seats: 1, taken: 2 }, { start_date: "2026-01-02", end_date: "2026-01-01" }],
    });
    expect((list.json as unknown as { errors: object[] }).errors).toEqual([
      { pointer: "/1", message: "must fulfil taken <= seats" },
      { pointer: "/2/end_date", message: "must not end before it starts" },
    ]);
    const imported = await crm.send(`${base}/meetings/import?on_error=skip`, {
      method: "POST",
      headers: { "content-type": "application/x-ndjson" },
      body: '{"seats":1}\n{"seats":1,"taken":9}\n',
    });
    expect(imported.json).toMatchObject({
      inserted: 1,
      skipped: 1,
      errors: [{ line: 2, pointer: "", message: "must fulfil taken <= seats" }],
    });
    const failure = await refusal(
      crm.db.as("acme", "ann@acme.test", (client) =>
        client.query("update acme_crm.meetings set taken = 10, seats = 9 where id = $1", [row.r.id]),
      ),
    );
    expect(failure.code).toBe("RH422");
    const merged = await refusal(
      crm.db.query("select data.update('acme/crm/meetings', $1, $2)", [
        row.r.id,
        '{"start_date": "2027-01-01"}',
      ]),
    );
    expect(merged.detail.errors).toEqual([
      { pointer: "/end_date", message: "must not end before it starts" },
    ]);
  });

  test("those who may not write learn that, and not the rule", async () => {
    const answer = await crm.send(`${base}/meetings`, {
      method: "POST",
      as: "vic",
      body: { taken: 2, seats: 1 },
    });
    expect([answer.status, answer.text]).toEqual([403, expect.not.stringContaining("taken")]);
  });
});

test("a rule that existing records break is refused, with the offenders", async () => {
  await define("kept", {});
  await insert("kept", { taken: 2, seats: 1 });
  const failure = await refusal(define("kept", { "x-rules": rules }));
  expect(failure).toMatchObject({
    code: "RH409",
    detail: { code: "records_do_not_fit", errors: [{ pointer: "", message: "must fulfil taken <= seats" }] },
  });
  await crm.db.query("select data.insert('acme/crm/kept', '{\"taken\": 5, \"seats\": 1}')");
  await crm.db.query("delete from acme_crm.kept");
  await define("kept", { "x-rules": rules });
  expect((await refusal(insert("kept", { taken: 2, seats: 1 }))).code).toBe("RH422");
  await define("kept", {});
  await insert("kept", { taken: 2, seats: 1 });
});

test("rules may depend on the day, and their function says so", async () => {
  await define("bookings", {
    "x-rules": [{ rule: "start_date >= today()", message: "must not be in the past", field: "start_date" }],
  });
  const [fn] = await crm.db.query(
    "select provolatile from pg_proc where oid = 'acme_crm.bookings_violations'::regproc",
  );
  expect(fn).toEqual({ provolatile: "s" });
  const [other] = await crm.db.query(
    "select provolatile from pg_proc where oid = 'acme_crm.meetings_violations'::regproc",
  );
  expect(other).toEqual({ provolatile: "i" });
  await insert("bookings", { start_date: "9999-01-01" });
  expect((await refusal(insert("bookings", { start_date: "2020-01-01" }))).detail.errors).toEqual([
    { pointer: "/start_date", message: "must not be in the past" },
  ]);
});

describe("a definition with a wrong rule is RH400, by JSON pointer", () => {
  const cases: [string, unknown, string, RegExp?][] = [
    ["no list", { rule: "true" }, "/x-rules"],
    ["a text", ["true"], "/x-rules/0"],
    ["no rule", [{ message: "x" }], "/x-rules/0"],
    ["an unknown member", [{ rule: "true", level: 1 }], "/x-rules/0"],
    [
      "an unknown field in the rule",
      [{ rule: "true" }, { rule: "ends > 1" }],
      "/x-rules/1/rule",
      /'ends' is not a field/,
    ],
    ["an unknown field for the pointer", [{ rule: "true", field: "ends" }], "/x-rules/0/field"],
    ["a number", [{ rule: "seats + 1" }], "/x-rules/0/rule", /takes true or false/],
    ["a typing error", [{ rule: "seats >= " }], "/x-rules/0/rule", /position 10: expected a value/],
    ["a system column", [{ rule: "created_at < now()" }], "/x-rules/0/rule", /not known before/],
    ["an empty message", [{ rule: "true", message: "" }], "/x-rules/0/message"],
    ["a message of 1 MB", [{ rule: "true", message: "x".repeat(1e6) }], "/x-rules/0/message"],
    ["a rule of 1 MB", [{ rule: "x".repeat(1e6) }], "/x-rules/0/rule", /at most 4,000/],
    ["10,000 parentheses", [{ rule: `${"(".repeat(3000)}true` }], "/x-rules/0/rule", /too deeply/],
    ["101 rules", Array(101).fill({ rule: "true" }), "/x-rules"],
    ["a function of PostgreSQL", [{ rule: "pg_sleep(1) is null" }], "/x-rules/0/rule", /not a function/],
    ["SQL", [{ rule: "true); drop table auth.accounts; --" }], "/x-rules/0/rule", /found "\)"/],
  ];
  test.each(cases)("%s", async (_title, list, pointer, message = /./) => {
    const failure = await refusal(define("wrong", { "x-rules": list }));
    expect(failure).toMatchObject({
      code: "RH400",
      detail: { code: "invalid_schema", errors: [{ pointer }] },
    });
    expect(failure.message).toMatch(message);
    expect(failure.message.length).toBeLessThan(1000);
  });

  test("hostile messages and literals are texts", async () => {
    const hostile = `$body$ %1$s %I '; drop table auth.accounts; -- " \\ $$ \u2028`;
    await define("hostile", {
      "x-rules": [{ rule: `name != '${hostile.replaceAll("'", "''")}'`, message: hostile, field: "name" }],
    });
    await insert("hostile", { name: "fine" });
    expect((await refusal(insert("hostile", { name: hostile }))).detail.errors).toEqual([
      { pointer: "/name", message: hostile },
    ]);
  });

  test("a viewer may not define rules, another site sees none of them", async () => {
    const failure = await refusal(
      crm.db.as("acme", "vic@acme.test", (client) =>
        client.query("select data.define_entity('acme/crm', 'events', $1)", [
          { type: "object", properties, "x-rules": [{ rule: "false" }] },
        ]),
      ),
    );
    expect(failure.code).toMatch(/RH403|42501/);
    const mine = await refusal(
      crm.db.as("beta", "bob@beta.test", (client) =>
        client.query("select acme_crm.meetings_violations('{}')"),
      ),
    );
    expect(mine.code).toBe("42501");
  });
});

test("a rule whose numbers cannot be computed is a violation, not a failure", async () => {
  const huge = { a: { type: "number", format: "decimal" } };
  await define("huge", { "x-rules": [{ rule: `a${" * a".repeat(200)} > 0`, field: "a" }] }, huge);
  await insert("huge", { a: 2 });
  const answer = await crm.send(`${base}/huge`, {
    method: "POST",
    body: `{"a": ${"9".repeat(990)}}`,
  });
  expect(answer.json).toMatchObject({
    status: 422,
    errors: [{ pointer: "/a", message: "cannot be computed: a number is out of range" }],
  });
});
