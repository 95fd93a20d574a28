import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
});
afterAll(() => db.drop());

const schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    nick: { type: "string" },
    mail: { type: "string", format: "email" },
    qty: { type: "integer" },
    big: { type: "integer" },
    ratio: { type: "number" },
    price: { type: "number", format: "decimal", precision: 20, scale: 4 },
    active: { type: "boolean" },
    born: { type: "string", format: "date" },
    seen: { type: "string", format: "date-time" },
    ref: { type: "string", format: "uuid" },
    tags: { type: "array", items: { type: "string" } },
    free: { type: "object" },
    address: {
      type: "object",
      properties: {
        city: { type: "string" },
        floor: { type: "integer" },
        "z/p; --": { type: "integer" },
        geo: { type: "object", properties: { lat: { type: "number" } } },
      },
    },
    in: { type: "string" },
    date: { type: "string", format: "date" },
  },
};
const record = {
  name: "Ann O'Hara",
  mail: "Ann@X.test",
  qty: 7,
  big: "9223372036854775807",
  ratio: 0.1,
  price: "12.50",
  active: true,
  born: "2000-02-29",
  seen: "2026-01-31T23:30:00+02:00",
  ref: "0197a5b0-7e4c-7a6e-9d3c-2f1f6f0c1a2b",
  tags: ["a"],
  address: { city: "Oslo", floor: 3, "z/p; --": 5, geo: { lat: 59.9 } },
  in: "keyword",
  date: "2026-03-01",
};
const recordText = JSON.stringify(record).replace('"9223372036854775807"', "9223372036854775807");

/** The SQL of an expression over a record of the schema. */
async function compile(expression: string): Promise<{ sql: string; type: string }> {
  const [row] = await db.query<{ part: { sql: string; type: string } }>(
    `select data.compile_expression(data.parse_expression($1),
       data.expression_fields($2::jsonb, data.data_columns($2::jsonb, 'r.data'))) as part`,
    [expression, JSON.stringify(schema)],
  );
  return row?.part as { sql: string; type: string };
}

/** What an expression gives, as JSON text, with its type. */
async function evaluate(expression: string, data = recordText): Promise<string> {
  const { sql, type } = await compile(expression);
  const [row] = await db.query<{ v: string }>(
    `select coalesce(to_jsonb(${sql})::text, 'null') as v from (select $1::jsonb as data) r`,
    [data],
  );
  return `${row?.v} ${type}`;
}

describe("an expression gives", () => {
  const cases: [string, string][] = [
    ["1 + 2 * 3", "7 integer"],
    ["(1 + 2) * 3", "9 integer"],
    ["10 - 3 - 2", "5 integer"],
    ["2 * -3", "-6 integer"],
    ["- (qty)", "-7 integer"],
    ["7 / 2", "3.5 decimal"],
    ["qty % 4", "3 integer"],
    ["1 / 0", "null decimal"],
    ["qty % 0", "null integer"],
    ["0.1 + 0.2", "0.3 decimal"],
    ["ratio + 0.2", "0.3 number"],
    ["ratio * 3", "0.3 number"],
    ["price * qty", "87.5000 decimal"],
    ["big + 1", "9223372036854775808 integer"],
    ["9223372036854775808", "9223372036854775808 decimal"],
    ["-9223372036854775808", "-9223372036854775808 integer"],
    ["'a' || 'b' || qty", '"ab7" text'],
    ["name || nick", "null text"],
    ["concat(name, nick, '!')", '"Ann O\'Hara!" text'],
    ["name = 'Ann O''Hara'", "true boolean"],
    ["mail ilike 'ann@%'", "true boolean"],
    ["mail like 'ann@%'", "false boolean"],
    ["name not like 'B%'", "true boolean"],
    ["qty between 1 and 7 and active", "true boolean"],
    ["qty not between 1 and 7", "false boolean"],
    ["qty in (1, 2, 7)", "true boolean"],
    ["name not in ('a', 'b')", "true boolean"],
    ["qty <> 7 or qty != 7", "false boolean"],
    ["not active or not qty = 8", "true boolean"],
    ["NOT (Active) Or TRUE".replace("Active", "active"), "true boolean"],
    ["nick is null and name is not null", "true boolean"],
    ["nick = 'x'", "null boolean"],
    ["if(qty > 5, 'many', 'few')", '"many" text'],
    ["if(nick = 'x', 1, 2.5)", "2.5 decimal"],
    ["coalesce(nick, name, 'none')", '"Ann O\'Hara" text'],
    ["coalesce(qty, 0)", "7 integer"],
    ["lower(upper(trim('  aB ')))", '"ab" text'],
    ["length('żółw')", "4 integer"],
    ["substr(name, 1, 3)", '"Ann" text'],
    ["substr(name, 5)", '"O\'Hara" text'],
    ["substr(name, 2, -1)", '"" text'],
    ["substr(name, big, big)", '"" text'],
    ["replace(name, 'Ann', '%1$s')", '"%1$s O\'Hara" text'],
    ["round(2.5)", "3 integer"],
    ["round(-2.5)", "-3 integer"],
    ["round(price / 3, 2)", "4.17 decimal"],
    ["round(1.23456, 1000000000)", "1.234560000000000000000000000000 decimal"],
    ["floor(-1.5) + ceil(1.2)", "0 integer"],
    ["abs(-3)", "3 integer"],
    ["min(3, qty, 1.5)", "1.5 decimal"],
    ["greatest(1, 2) + least(3, 4) + max(5, 6)", "11 integer"],
    ["year(born) * 100 + month(born)", "200002 integer"],
    ["day(seen)", "31 integer"],
    ["date '2026-01-31' > born", "true boolean"],
    ["born = '2000-02-29'", "true boolean"],
    ["seen >= '2026-01-31T21:30:00Z'", "true boolean"],
    ["seen = '2026-01-31 21:30'", "true boolean"],
    ["seen > born", "true boolean"],
    ["born + 1", '"2000-03-01" date'],
    ["born - 1 - 1", '"2000-02-27" date'],
    ["date '2000-03-01' - born", "1 integer"],
    ["date - born", "9497 integer"],
    ["date_add(born, 1, 'year')", '"2001-02-28" date'],
    ["date_add(born, 8000, 'years')", "null date"],
    ["date_add(born, big, 'days')", "null date"],
    ["to_text(date_add(seen, 90, 'minutes'))", '"2026-01-31T23:00:00+00:00" text'],
    ["date_diff(date, born, 'months')", "312 integer"],
    ["date_diff(born, date, 'years')", "-26 integer"],
    ["date_diff('2026-01-01', born)", "9438 integer"],
    ["date_diff(seen, '2026-01-31T20:00:00Z', 'minutes')", "90 integer"],
    ["to_number('12.50') + 1", "13.50 decimal"],
    ["to_number('1e5')", "null decimal"],
    ["to_number(name)", "null decimal"],
    [
      "to_text(price) || to_text(active) || to_text(born) || to_text(ratio)",
      '"12.5000true2000-02-290.1" text',
    ],
    ["to_text(seen)", '"2026-01-31T21:30:00+00:00" text'],
    ["ref = '0197A5B0-7E4C-7A6E-9D3C-2F1F6F0C1A2B'", "true boolean"],
    ["address.city || address.floor", '"Oslo3" text'],
    ['address."z/p; --" + 1', "6 integer"],
    ["address.geo.lat", "59.9 number"],
    ["tags is not null and free is null", "true boolean"],
    ['"in" || 1', '"keyword1" text'],
    ["null", "null null"],
  ];
  test.each(cases)("%s is %s", async (expression, value) => {
    expect(await evaluate(expression)).toBe(value);
  });

  test("the same whatever the session's settings, but now() and today() in UTC", async () => {
    const { sql } = await compile(
      "to_text(seen) || ' ' || born || ' ' || ratio || ' ' || day(seen) || (seen > '2026-01-31') || born",
    );
    const client = await db.pool.connect();
    try {
      await client.query("begin; set local timezone = 'Pacific/Kiritimati'; set local datestyle = 'German'");
      const { rows } = await client.query(`select ${sql} as v from (select $1::jsonb as data) r`, [
        recordText,
      ]);
      expect(rows).toEqual([{ v: "2026-01-31T21:30:00+00:00 2000-02-29 0.1 31true2000-02-29" }]);
      const now = await compile("if(day(now()) = day(today()), today(), null)");
      const { rows: days } = await client.query(
        `select ${now.sql}::text = to_char(now() at time zone 'UTC', 'DD.MM.YYYY') as same`,
      );
      expect(days).toEqual([{ same: true }]);
    } finally {
      await client.query("rollback");
      client.release();
    }
  });

  test("a comparison that an index can serve: a column and a literal are of the column's type", async () => {
    for (const [expression, sql] of [
      ["qty >= 18", "((r.data->'qty')::int8 >= '18'::int8)"],
      ["ratio < 1", "((r.data->'ratio')::float8 < '1'::float8)"],
      ["name in ('a', 'b')", "(r.data->>'name' in ('a'::text, 'b'::text))"],
      ["born > '2026-01-31'", "((r.data->>'born')::date > '2026-01-31'::date)"],
    ] as const)
      expect((await compile(expression)).sql).toBe(sql);
  });
});

describe("an expression that is not valid is RH400, and says where and what", () => {
  const cases: [string, number, RegExp][] = [
    ["", 1, /expected a value, found nothing/],
    [" \n ", 1, /expected a value, found nothing/],
    ["1 +", 4, /expected a value, found the end/],
    ["(1 + 2", 7, /expected an operator or "\)", found the end/],
    ["1 2", 3, /expected an operator or the end, found "2"/],
    ["1e5", 2, /found "e5"/],
    ["qty = 'abc", 7, /never closed/],
    ['qty = "abc', 7, /never closed/],
    ["a ; drop table x", 3, /found ";"/],
    ["$body$", 1, /found "\$"/],
    ["qty -- 1", 1, /RIGHT/],
    ["qty /* 1 */", 6, /found "\*"/],
    ["qty::text", 4, /found ":"/],
    ["(select 1)", 9, /found "1"/],
    ["1 < 2 < 3", 7, /comparisons do not follow/],
    ["qty is 5", 8, /expected null or not null/],
    ["qty in ()", 9, /expected a value/],
    ["qty in 5", 8, /expected "\("/],
    ["qty between 1 or 2", 15, /expected and/],
    ["and", 1, /expected a value, found "and"/],
    ["address.", 9, /expected a name/],
    ["date '2026-02-30'", 6, /expected a date/],
    ["born = '2026-02-30'", 8, /is not a date/],
    ["seen > 'now'", 8, /is not a date-time/],
    ["seen > 'infinity'", 8, /is not a date-time/],
    ["ref = 'x'", 7, /is not a uuid/],
    ["nme", 1, /'nme' is not a field here/],
    ["pg_catalog.pg_class", 1, /is not a field/],
    ["current_user", 1, /is not a field/],
    ["address.town", 1, /has no property 'town'/],
    ["free.x", 1, /has no property 'x'/],
    ["name.x", 1, /has no property/],
    ["qty = null", 5, /write is null/],
    ["name = 5", 8, /this is an integer, and what it stands beside is not/],
    ["name + 1", 1, /takes numbers, and this is text/],
    ["'a' + 1", 1, /takes numbers/],
    ["active and 1", 12, /takes true or false, and this is an integer/],
    ["not name", 5, /takes true or false/],
    ["if(1, 2, 3)", 4, /takes true or false/],
    ["if(active, 'a', 1)", 12, /what it stands beside is not/],
    ["if(active, 1)", 1, /if\(condition, then, else\)/],
    ["coalesce()", 1, /coalesce\(a, b/],
    ["coalesce(name, born)", 16, /a date/],
    ["lower(5)", 7, /takes text/],
    ["lower(name, name)", 1, /is written lower\(text\)/],
    ["substr(name, 1.5)", 14, /takes an integer/],
    ["tags = 'a'", 1, /only be tested with is null/],
    ["to_text(tags)", 9, /an array/],
    ["tags || 'x'", 1, /an array/],
    ["born + 'x'", 6, /number of days/],
    ["born + born", 6, /number of days/],
    ["seen - seen", 6, /number of days/],
    ["born * 2", 1, /takes numbers/],
    ["date_add(born, 1, 'hours')", 19, /a date has no hours/],
    ["date_add(born, 1, 'fortnight')", 19, /expected a unit/],
    ["date_add(born, 1, name)", 19, /expected a unit/],
    ["year(name)", 6, /takes a date/],
    ["name like nick", 11, /text in quotes as its pattern/],
    ["name like 'a\\'", 11, /text in quotes as its pattern/],
    ["pg_sleep(10)", 1, /'pg_sleep' is not a function/],
    ["set_config('role', 'x', true)", 1, /is not a function/],
    ["current_setting('x')", 1, /is not a function/],
    ["pg_read_file('/etc/passwd')", 1, /is not a function/],
    ["data.define_entity('a')", 19, /found "\("/],
    ["lower('a').x", 11, /found "\."/],
  ];
  test.each(cases)("%s", async (expression, position, message) => {
    if (message.source === "RIGHT") return expect(await evaluate(expression)).toBe("8 integer");
    const failure = await refusal(compile(expression));
    expect(failure).toMatchObject({
      code: "RH400",
      detail: { code: "invalid_expression", errors: [{ position }] },
    });
    expect(failure.message).toMatch(message);
    expect(failure.message).toContain(`position ${position}: `);
    expect(failure.hint).not.toBe("");
  });

  const sizes: [string, string][] = [
    ["a megabyte", `'${"a".repeat(1_000_000)}'`],
    ["4,001 characters", "1".repeat(4001)],
    ["10,000 parentheses", "(".repeat(10_000)],
    ["3,900 parentheses", "(".repeat(3900)],
    ["51 pairs of parentheses", `${"(".repeat(51)}1${")".repeat(51)}`],
    ["1,000 nots", `${"not ".repeat(990)}true`],
    ["1,000 minuses", `${"- ".repeat(1990)}qty`],
    ["calls in calls", `${"lower(".repeat(60)}'a'${")".repeat(60)}`],
    ["alternating signs", `1${"+1-1".repeat(900)}`],
    ["alternating signs in parentheses", `${"(".repeat(40)}1${"+1-1*2)".repeat(40)}`],
    ["101 texts joined", `'a'${"||'a'".repeat(100)}`],
  ];
  test.each(sizes)("%s", async (_title, expression) => {
    const failure = await refusal(compile(expression));
    expect([failure.code, failure.detail.code]).toEqual(["RH400", "invalid_expression"]);
    expect(failure.message.length).toBeLessThan(300);
  });

  test("long chains and 49 levels of everything are fine", async () => {
    expect(await evaluate(`1${"+1".repeat(1900)}`)).toBe("1901 integer");
    expect(await evaluate(`${"active and ".repeat(300)}active`)).toBe("true boolean");
    expect(await evaluate(`${"qty=0 or ".repeat(400)}qty=7`)).toBe("true boolean");
    const nested = `${"if(active and qty > 1 + 2, ".repeat(40)}1${", 0)".repeat(40)}`;
    expect(await evaluate(nested)).toBe("1 integer");
    expect(await evaluate(`${"(".repeat(49)}1${")".repeat(49)}`)).toBe("1 integer");
    expect(await evaluate(`${"(1 - ".repeat(48)}1${")".repeat(48)}`)).toBe("1 integer");
  });
});

describe("hostile texts are values and names, and nothing else", () => {
  const hostile = [
    "'; drop table auth.accounts; --",
    "$body$ $$ $1 %1$I %s %L",
    "\\'; select 1; --",
    'a"b" -- /* ',
    "\\",
    "E'\\x41'",
    "ünï\u{1F600}\r\n\t",
    "\u0001\u001f\u2028",
  ];
  test.each(hostile)("%j", async (text) => {
    const quoted = `'${text.replaceAll("'", "''")}'`;
    expect(await evaluate(`${quoted} || ''`)).toBe(`${await jsonb(text)} text`);
    expect(await evaluate(`nick = ${quoted}`, JSON.stringify({ nick: text }))).toBe("true boolean");
    const failure = await refusal(compile(`"${text.replaceAll('"', '""')}" = 1`));
    expect(failure.message).toContain("is not a field here");
  });

  async function jsonb(text: string): Promise<string> {
    const [row] = await db.query<{ v: string }>("select to_jsonb($1::text)::text as v", [text]);
    return row?.v as string;
  }

  test("NUL never reaches the parser", async () => {
    expect((await refusal(compile("'\u0000'"))).code).toBe("22021");
  });

  test("a computed text ends at a million characters, before memory does", async () => {
    const { sql } = await compile("replace(replace(name, 'a', name), 'a', name)");
    for (const bad of [sql, (await compile("name || name")).sql, (await compile("concat(name, name)")).sql]) {
      const failure = await refusal(
        db.query(`select ${bad} from (select jsonb_build_object('name', repeat('a', 600000)) as data) r`),
      );
      expect(failure).toMatchObject({ code: "RH422", detail: { code: "too_large" } });
    }
  });

  test("every function that expressions have is in the list, and no SQL function beside them", async () => {
    const { hint } = await refusal(compile("nothing()"));
    const names = hint.replace(/^Functions: |\.$/g, "").split(/[, ()]+/);
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) {
      const failure = await refusal(
        compile(`${name}(tags, tags, tags, tags)`).then(() => Promise.reject({ code: "", message: "" })),
      );
      expect(failure.message).not.toContain("is not a function");
    }
    const [all] = await db.query<{ names: string[] }>(
      "select array_agg(distinct proname::text) as names from pg_proc where proname ~ '^[a-z_][a-z0-9_]*$'",
    );
    const sample = (all?.names ?? []).filter((name, n) => n % 20 === 0 && !names.includes(name));
    expect(sample.length).toBeGreaterThan(50);
    for (const name of sample) {
      const failure = await refusal(compile(`${name}('x')`));
      expect(failure.message).toMatch(/is not a function|expected/);
    }
  });
});

// Random trees: numbers as exact fractions in TypeScript, the answer compared with SQL's.
describe("2,000 random expressions agree with a reference evaluator", () => {
  type Value = bigint | boolean | string | null;
  type Node = { text: string; value: Value };
  type Kind = "number" | "boolean" | "text";
  const scale = 10n ** 4n;
  const fields: Record<string, { kind: Kind; value: Value }> = {
    qty: { kind: "number", value: 7n * scale },
    price: { kind: "number", value: 125000n },
    name: { kind: "text", value: "Ann O'Hara" },
    nick: { kind: "text", value: null },
    active: { kind: "boolean", value: true },
  };
  let seed = 20260131;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return Math.floor((seed / 0x80000000) * n);
  };
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const lift = <A, B extends Value>(a: A | null, b: A | null, f: (a: A, b: A) => B): B | null =>
    a === null || b === null ? null : f(a, b);
  const compare = { "=": 0, "!=": 0, "<": 0, "<=": 0, ">": 0, ">=": 0 };
  const holds = (sign: string, order: number) =>
    ({
      "=": order === 0,
      "!=": order !== 0,
      "<": order < 0,
      "<=": order <= 0,
      ">": order > 0,
      ">=": order >= 0,
    })[sign] as boolean;
  const sign = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0);

  function tree(kind: Kind, depth: number): Node {
    if (depth === 0 || random(6) === 0) return leaf(kind);
    const sub = (k: Kind) => tree(k, depth - 1);
    const form = random(5);
    if (form === 0) {
      const [c, a, b] = [sub("boolean"), sub(kind), sub(kind)];
      return { text: `if(${c.text}, ${a.text}, ${b.text})`, value: c.value === true ? a.value : b.value };
    }
    if (form === 1) {
      const [a, b] = [sub(kind), sub(kind)];
      return { text: `coalesce(${a.text}, ${b.text})`, value: a.value ?? b.value };
    }
    return { number, boolean, text }[kind](sub);
  }
  function leaf(kind: Kind): Node {
    const named = Object.entries(fields).filter(([, field]) => field.kind === kind);
    if (random(2) === 0) {
      const [name, { value }] = pick(named);
      return { text: name, value };
    }
    if (kind === "boolean")
      return pick([
        { text: "true", value: true },
        { text: "false", value: false },
      ]);
    if (kind === "text") {
      const value = pick(["", "a", "it's", "%1$I", "$$", "\\"]);
      return { text: `'${value.replaceAll("'", "''")}'`, value };
    }
    const value = BigInt(random(20000)) * 100n;
    return { text: `${value / scale}.${String(value % scale).padStart(4, "0")}`, value };
  }
  function number(sub: (kind: Kind) => Node): Node {
    const [a, b] = [sub("number"), sub("number")];
    const op = pick(["+", "-", "%", "min", "length", "neg", "abs"]);
    const [x, y] = [a.value as bigint | null, b.value as bigint | null];
    if (op === "neg") return { text: `(- ${a.text})`, value: x === null ? null : -x };
    if (op === "abs") return { text: `abs(${a.text})`, value: x === null ? null : x < 0n ? -x : x };
    if (op === "min")
      return {
        text: `min(${a.text}, ${b.text})`,
        value: x === null ? y : lift(x, y ?? x, (m, n) => (sign(m, n) < 0 ? m : n)),
      };
    if (op === "length") {
      const t = sub("text");
      return {
        text: `length(${t.text})`,
        value: t.value === null ? null : BigInt((t.value as string).length) * scale,
      };
    }
    if (op === "%")
      return { text: `(${a.text} % ${b.text})`, value: y === 0n ? null : lift(x, y, (m, n) => m % n) };
    return { text: `(${a.text} ${op} ${b.text})`, value: lift(x, y, (m, n) => (op === "+" ? m + n : m - n)) };
  }
  function boolean(sub: (kind: Kind) => Node): Node {
    const op = pick(["and", "or", "not", "null", "in", "between", "text", ...Object.keys(compare)]);
    if (op === "and" || op === "or") {
      const [a, b] = [sub("boolean"), sub("boolean")];
      const decisive = op === "or";
      const value =
        a.value === decisive || b.value === decisive
          ? decisive
          : a.value === null || b.value === null
            ? null
            : !decisive;
      return { text: `(${a.text} ${op} ${b.text})`, value };
    }
    if (op === "not") {
      const a = sub("boolean");
      return { text: `not (${a.text})`, value: a.value === null ? null : !a.value };
    }
    if (op === "null") {
      const a = sub(pick(["number", "text", "boolean"]));
      return { text: `(${a.text}) is null`, value: a.value === null };
    }
    if (op === "text") {
      const [a, b] = [sub("text"), sub("text")];
      return { text: `(${a.text}) = (${b.text})`, value: lift(a.value, b.value, (m, n) => m === n) };
    }
    const [a, b, c] = [sub("number"), sub("number"), sub("number")];
    const [x, y, z] = [a.value, b.value, c.value] as (bigint | null)[];
    if (op === "in") {
      const some = [y, z].some((v) => x !== null && v === x);
      return {
        text: `(${a.text}) in (${b.text}, ${c.text})`,
        value: some ? true : x === null || y === null || z === null ? null : false,
      };
    }
    if (op === "between") {
      const low = lift(x ?? null, y ?? null, (m, n) => m >= n);
      const high = lift(x ?? null, z ?? null, (m, n) => m <= n);
      return {
        text: `(${a.text}) between (${b.text}) and (${c.text})`,
        value: low === false || high === false ? false : low === null || high === null ? null : true,
      };
    }
    return {
      text: `(${a.text}) ${op} (${b.text})`,
      value: lift(x ?? null, y ?? null, (m, n) => holds(op, sign(m, n))),
    };
  }
  function text(sub: (kind: Kind) => Node): Node {
    const [a, b] = [sub("text"), sub("text")];
    const op = pick(["||", "concat", "upper", "replace"]);
    const [x, y] = [a.value as string | null, b.value as string | null];
    if (op === "upper") return { text: `upper(${a.text})`, value: x === null ? null : x.toUpperCase() };
    if (op === "concat") return { text: `concat(${a.text}, ${b.text})`, value: `${x ?? ""}${y ?? ""}` };
    if (op === "replace")
      return {
        text: `replace(${a.text}, 'n', '$&')`,
        value: x === null ? null : x.replaceAll("n", () => "$&"),
      };
    return { text: `(${a.text} || ${b.text})`, value: lift(x, y, (m, n) => m + n) };
  }

  test("(seeded, so that a failure repeats)", async () => {
    const nodes: (Node & { kind: Kind })[] = [];
    while (nodes.length < 2000) {
      const kind = pick(["number", "boolean", "text"] as const);
      const node = tree(kind, 1 + random(4));
      if (node.text.length <= 4000 && String(node.value).length < 2000) nodes.push({ ...node, kind });
    }
    const { rows } = await db.pool.query<{ sql: string }>(
      `select data.compile_expression(data.parse_expression(e), f.fields)->>'sql' as sql
       from unnest($1::text[]) with ordinality x (e, n),
         (select data.expression_fields($2::jsonb, data.data_columns($2::jsonb, 'r.data')) as fields) f order by n`,
      [nodes.map((node) => node.text), JSON.stringify(schema)],
    );
    const found: (string | null)[] = [];
    for (let n = 0; n < rows.length; n += 100) {
      const list = rows.slice(n, n + 100).map(({ sql }, i) => `(${sql})::text as c${i}`);
      const result = await db.pool.query({
        text: `select ${list.join(", ")} from (select $1::jsonb as data) r`,
        values: [recordText],
        rowMode: "array",
      });
      found.push(...(result.rows[0] as unknown as (string | null)[]));
    }
    const wrong = nodes.flatMap((node, n) => {
      const value = found[n] ?? null;
      const same =
        node.kind === "number" && value !== null && node.value !== null
          ? fraction(value) === node.value
          : value === (node.value === null ? null : String(node.value));
      return same ? [] : [{ text: node.text, expected: String(node.value), found: value }];
    });
    expect(wrong).toEqual([]);
    expect(nodes.filter((node) => node.value !== null).length).toBeGreaterThan(1000);
  });

  function fraction(text: string): bigint {
    const [, minus, whole, rest = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text) as unknown as string[];
    const value = BigInt(whole as string) * scale + BigInt(rest.padEnd(4, "0").slice(0, 4));
    return minus ? -value : value;
  }
});
