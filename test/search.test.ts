import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

type Row = Record<string, unknown> & { name: string; _rank: number; _snippets: Record<string, string> };
type Page = { data: Row[]; meta: { next_cursor: string | null; count?: number } };

let db: TestDatabase;
const define = (name: string, properties: object, more: object = {}) =>
  db.query("select data.define_entity('acme/crm', $1, $2)", [name, { type: "object", properties, ...more }]);
const insert = (name: string, records: object[]) =>
  db.query("select jsonb_array_length(data.insert($1, $2))", [`acme/crm/${name}`, JSON.stringify(records)]);
const find = async (entity: string, query: object): Promise<Page> =>
  (
    await db.query<{ r: Page }>("select data.find($1, $2) as r", [
      `acme/crm/${entity}`,
      JSON.stringify(query),
    ])
  )[0]?.r as Page;
const names = async (q: string, entity = "songs", more: object = {}) =>
  (await find(entity, { q, ...more })).data.map((row) => row.name);

// Names and artists as they are in the Chinook data.
const SONGS: [string, string, string?][] = [
  ["Enter Sandman", "Metallica", "Metallica"],
  ["Creeping Death", "Metallica"],
  ["Enter Sandman", "Apocalyptica"],
  ["Stairway To Heaven", "Led Zeppelin", "Jimmy Page, Robert Plant"],
  ["Let There Be Rock", "AC/DC", "Angus Young, Malcolm Young, Bon Scott"],
  ["Rock And Roll", "Led Zeppelin"],
  ["Please Don't Touch", "Motörhead"],
  ["Garota De Ipanema", "Antônio Carlos Jobim"],
  ["Smells Like Teen Spirit", "Nirvana", "Kurt Cobain"],
  ["One", "U2"],
  ["One Step Closer", "U2"],
  ["Theme From The Swan", "Passengers"],
  ["Billie Jean", "Chris Cornell", "Michael Jackson"],
  ["We're Going To Rockland", "Somebody", "Sinfonia de São Paulo"],
];

beforeAll(async () => {
  db = await cloneDatabase();
  await db.query("select tenancy.create_organization('acme'), tenancy.create_organization('beta')");
  await db.query("select tenancy.create_site('acme', 'acme'), tenancy.create_site('beta', 'beta')");
  await db.query("select tenancy.create_app('acme', 'crm'), tenancy.create_app('beta', 'crm')");
  for (const [email, site, role] of [
    ["ann@acme.test", "acme", "editor"],
    ["bob@beta.test", "beta", "editor"],
  ]) {
    await db.account(email as string);
    await db.query("select tenancy.add_member($1, $2, $3)", [site, email, role]);
  }
  await define("songs", {
    name: { type: "string", "x-search": { weight: "A" } },
    artist: { type: "string", "x-search": { weight: "B" } },
    composer: { type: "string", "x-search": true },
    year: { type: "integer", "x-index": true },
  });
  await insert(
    "songs",
    SONGS.map(([name, artist, composer], i) => ({
      name,
      artist,
      year: 1970 + i,
      ...(composer && { composer }),
    })),
  );
});
afterAll(() => db.drop());

describe("what is typed finds what is meant, the best first", () => {
  test.each<[string, string, string[]]>([
    ["an exact word", "stairway", ["Stairway To Heaven"]],
    ["in any case", "STAIRWAY", ["Stairway To Heaven"]],
    ["an unfinished last word", "stairw", ["Stairway To Heaven"]],
    ["only the last word may be unfinished", "stairw heaven", []],
    ["all words, whatever the field", "sandman metallica", ["Enter Sandman"]],
    ["a missing letter", "metalica sandmn", ["Enter Sandman"]],
    ["letters that changed places", "stairawy", ["Stairway To Heaven"]],
    ["a wrong letter", "nirvada", ["Smells Like Teen Spirit"]],
    ["an unfinished misspelt word", "zepel", ["Rock And Roll", "Stairway To Heaven"]],
    ["two wrong letters in a long word", "apocaliptyca", ["Enter Sandman"]],
    ["three are too many", "apokaliptyka", []],
    ["a phrase", '"there be rock"', ["Let There Be Rock"]],
    ["a phrase in another order", '"rock there"', []],
    ["without a word", "led -stairway", ["Rock And Roll"]],
    ["without a phrase", 'led -"rock and"', ["Stairway To Heaven"]],
    ["one or another", "sandman -apocalyptica or nirvana", ["Enter Sandman", "Smells Like Teen Spirit"]],
    ["accents need not be typed", "motorhead", ["Please Don't Touch"]],
    ["and may be", "MOTÖRHEAD", ["Please Don't Touch"]],
    ["signs within a name", "ac/dc", ["Let There Be Rock"]],
    ["a part of it", "dc", ["Let There Be Rock"]],
    ["an apostrophe", "don't", ["Please Don't Touch"]],
    ["the heavier field first", "one", ["One", "One Step Closer"]],
    [
      "a word before what begins with it",
      "rock",
      ["Let There Be Rock", "Rock And Roll", "We're Going To Rockland"],
    ],
    ["a short word is not corrected", "u3", []],
    ["nothing but a negation", "-rock", []],
    ["nothing but signs", "!!! ?", []],
    ["nothing", "", []],
  ])("%s: %s", async (_title, q, expected) => {
    expect((await names(q)).sort()).toEqual([...expected].sort());
  });

  test("a name counts for more than an artist, and that for more than a composer", async () => {
    await define("weights", {
      name: { type: "string", "x-search": { weight: "A" } },
      b: { type: "string", "x-search": { weight: "B" } },
      c: { type: "string", "x-search": { weight: "C" } },
      d: { type: "string", "x-search": true },
      none: { type: "string", "x-search": false },
    });
    const word = "zebra";
    await insert("weights", [
      { name: "in none", none: word },
      { name: "in d", d: word },
      { name: "in c", c: word },
      { name: "in b", b: word },
      { name: word },
    ]);
    expect(await names(word, "weights")).toEqual([word, "in b", "in c", "in d"]);
    const ranks = (await find("weights", { q: word })).data.map((row) => row._rank);
    expect(ranks).toEqual([...ranks].sort((x, y) => y - x));
  });

  test("what was spelt right hides what would be a guess", async () => {
    expect(await names("rock")).not.toContain("Rocky");
    await insert("songs", [{ name: "Nirvama" }]);
    expect(await names("nirvana")).toEqual(["Smells Like Teen Spirit"]);
    expect((await names("nirvata")).sort()).toEqual(["Nirvama", "Smells Like Teen Spirit"]);
    await db.query("delete from acme_crm.songs where name = 'Nirvama'");
  });
});

test("the example of docs/search.md works as printed", async () => {
  const page = readFileSync(new URL("../docs/search.md", import.meta.url), "utf8");
  const example = /```sql\n([\s\S]*?)```/.exec(page)?.[1] ?? "";
  const results = (await db.pool.query(example)) as unknown as { rows: { find: Page }[] }[];
  expect(results.at(-1)?.rows[0]?.find.data).toEqual([
    {
      name: "Jon Smith",
      _rank: expect.any(Number),
      _snippets: { name: "<mark>Jon</mark> <mark>Smith</mark>", email: "<mark>jon</mark>@acme.test" },
    },
  ]);
});

describe("languages", () => {
  beforeAll(async () => {
    const text = { type: "string", "x-search": true };
    await define("english", { name: text }, { "x-search": { language: "english" } });
    await define("german", { name: text }, { "x-search": { language: "german" } });
    await insert("english", [{ name: "He was running home" }, { name: "The theory of cafés" }]);
    await insert("german", [{ name: "Die Häuser am Fluß" }]);
  });
  test.each([
    ["english", "runs", ["He was running home"]],
    ["english", "runni", ["He was running home"]],
    ["english", "runing", ["He was running home"]],
    ["english", "cafe", ["The theory of cafés"]],
    ["english", "the of", []],
    ["english", "the", []],
    ["english", "theo", ["The theory of cafés"]],
    ["german", "haus", ["Die Häuser am Fluß"]],
    ["german", "fluss", ["Die Häuser am Fluß"]],
    ["german", "die", []],
  ])("%s: %s", async (entity, q, expected) => {
    expect(await names(q, entity)).toEqual(expected);
  });
});

describe("with the rest of a query", () => {
  test("filter, sort, select, count, limit 0", async () => {
    expect(await names("rock", "songs", { filter: { year: { $lt: 1975 } } })).toEqual(["Let There Be Rock"]);
    expect(await names("one", "songs", { sort: [{ field: "name", direction: "desc" }] })).toEqual([
      "One Step Closer",
      "One",
    ]);
    const page = await find("songs", { q: "rock", select: ["name"], count: "exact", limit: 1 });
    expect([page.data.map((row) => Object.keys(row)), page.meta.count]).toEqual([[["name"]], 3]);
    const [chosen] = (await find("songs", { q: "one", select: ["_rank", "_snippets"], limit: 1 })).data;
    expect(Object.keys(chosen ?? {}).sort()).toEqual(["_rank", "_snippets", "id"]);
    expect((await find("songs", { q: "one", limit: 0 })).data).toEqual([]);
  });

  test.each([[undefined], [[{ field: "year" }]], [[{ field: "artist", direction: "desc" }]]])(
    "a cursor with sort %j visits every match once, in order; offset too",
    async (sort) => {
      const query = { q: "rock or one or sandman", ...(sort && { sort }) };
      const all = (await find("songs", { ...query, limit: 100 })).data.map((row) => row.id);
      expect(all).toHaveLength(6);
      const seen: unknown[] = [];
      for (let cursor: string | null | undefined; cursor !== null; ) {
        const page: Page = await find("songs", { ...query, limit: 2, ...(cursor && { cursor }) });
        seen.push(...page.data.map((row) => row.id));
        cursor = page.meta.next_cursor;
      }
      expect(seen).toEqual(all);
      const second = await find("songs", { ...query, limit: 3, offset: 3 });
      expect(second.data.map((row) => row.id)).toEqual(all.slice(3, 6));
    },
  );

  test("expand", async () => {
    await define("labels", { name: { type: "string" } });
    await define("discs", {
      name: { type: "string", "x-search": true },
      label_id: { "x-relation": { entity: "labels" } },
    });
    await insert("labels", [{ name: "Blue Note" }]);
    await db.query(
      "insert into acme_crm.discs (name, label_id) select 'Blue Train', id from acme_crm.labels",
    );
    const { data } = await find("discs", { q: "train", expand: ["label"] });
    expect(data).toMatchObject([
      { name: "Blue Train", label: { name: "Blue Note" }, _snippets: { name: "Blue <mark>Train</mark>" } },
    ]);
  });
});

describe("what is written is found at once", () => {
  test("updates, deletes, nulls, lists and objects, by every door", async () => {
    await define("people", {
      name: { type: "string", "x-search": { weight: "A" } },
      tags: { type: "array", items: { type: "string" }, "x-search": true },
      address: {
        type: "object",
        properties: { city: { type: "string" }, floor: { type: "integer" } },
        "x-search": true,
      },
      age: { type: "integer" },
    });
    await insert("people", [{ name: "Zoe", tags: ["alpha", "beta"], address: { city: "Bergen", floor: 7 } }]);
    for (const q of ["zoe", "alpha", "bergen", "zoe bergen beta"])
      expect(await names(q, "people")).toEqual(["Zoe"]);
    for (const q of ["7", "city", "floor"]) expect(await names(q, "people")).toEqual([]);
    await db.query("update acme_crm.people set name = 'Zora', tags = null");
    expect([
      await names("zora", "people"),
      await names("alpha", "people"),
      await names("zoe", "people"),
    ]).toEqual([["Zora"], [], []]);
    expect(await names("zorra", "people")).toEqual(["Zora"]); // the vocabulary learns from updates
    await db.query("update acme_crm.people set age = 5");
    expect(await names("bergen", "people")).toEqual(["Zora"]);
    await db.query("delete from acme_crm.people");
    expect(await names("zora", "people")).toEqual([]);
  });

  test("adding, changing and removing x-search rebuilds, for the records that are there", async () => {
    const text = { type: "string" };
    await define("notes", { name: text, body: text });
    await insert("notes", [
      { name: "apples", body: "oranges" },
      { name: "oranges", body: "running" },
    ]);
    const failure = await refusal(find("notes", { q: "apples" }));
    expect(failure).toMatchObject({ code: "RH400", detail: { code: "not_searchable" } });
    expect(failure.hint).toContain('"x-search": true');

    await define("notes", { name: { ...text, "x-search": { weight: "A" } }, body: text });
    expect([await names("oranges", "notes"), await names("orangs", "notes")]).toEqual([
      ["oranges"],
      ["oranges"],
    ]);
    await define("notes", {
      name: { ...text, "x-search": true },
      body: { ...text, "x-search": { weight: "A" } },
    });
    expect(await names("oranges", "notes")).toEqual(["apples", "oranges"]);
    expect(await names("run", "notes", { filter: { body: "running" } })).toEqual(["oranges"]);
    expect(await names("runs", "notes")).toEqual([]);
    await define(
      "notes",
      { name: text, body: { ...text, "x-search": true } },
      { "x-search": { language: "english" } },
    );
    expect([await names("runs", "notes"), await names("apples", "notes")]).toEqual([["oranges"], []]);
    const size = () => db.query("select pg_relation_filenode('acme_crm.notes__words') as n");
    const before = await size();
    await define(
      "notes",
      { name: text, body: { ...text, "x-search": true }, more: text },
      { "x-search": { language: "english" } },
    );
    expect(await size()).toEqual(before); // nothing searched has changed: nothing was rebuilt
    expect(await names("runs", "notes")).toEqual(["oranges"]);

    await define("notes", { name: text, body: text, more: text });
    expect((await refusal(find("notes", { q: "x" }))).code).toBe("RH400");
    const left = await db.query(
      "select relname as n from pg_class where relname ~ '^notes_.*(words|search)' union all select proname from pg_proc where proname ~ '^notes_.*(search|words|candidates)'",
    );
    expect(left).toEqual([]);
    await insert("notes", [{ name: "still written" }]);
    await db.query("select data.drop_entity('acme/crm/weights', 'weights')");
    expect(await db.query("select from pg_class where relname ~ '^weights_'")).toEqual([]);
  });
});

describe("a definition says what is wrong with x-search", () => {
  const text = { type: "string" };
  test.each<[string, object, object, string]>([
    ["a weight", { a: { ...text, "x-search": { weight: "E" } } }, {}, "/properties/a/x-search"],
    ["no weight", { a: { ...text, "x-search": {} } }, {}, "/properties/a/x-search"],
    [
      "another member",
      { a: { ...text, "x-search": { weight: "A", boost: 2 } } },
      {},
      "/properties/a/x-search",
    ],
    ["a text", { a: { ...text, "x-search": "A" } }, {}, "/properties/a/x-search"],
    ["a number", { a: { type: "integer", "x-search": true } }, {}, "/properties/a/x-search"],
    [
      "a list of numbers",
      { a: { type: "array", items: { type: "integer" }, "x-search": true } },
      {},
      "/properties/a/x-search",
    ],
    [
      "inside an object",
      { a: { type: "object", properties: { b: { ...text, "x-search": true } } } },
      {},
      "/properties/a/properties/b",
    ],
    [
      "an unknown language",
      { a: { ...text, "x-search": true } },
      { "x-search": { language: "klingon" } },
      "/x-search/language",
    ],
    [
      "SQL as a language",
      { a: { ...text, "x-search": true } },
      { "x-search": { language: "simple'; drop table auth.accounts; --" } },
      "/x-search/language",
    ],
    ["no object", { a: { ...text, "x-search": true } }, { "x-search": true }, "/x-search"],
    [
      "another option",
      { a: { ...text, "x-search": true } },
      { "x-search": { language: "simple", stem: true } },
      "/x-search",
    ],
    ["a language and nothing to search", { a: text }, { "x-search": { language: "english" } }, "/x-search"],
  ])("%s", async (_title, properties, more, pointer) => {
    const failure = await refusal(define("wrong", properties, more));
    expect(failure).toMatchObject({ code: "RH400", detail: { code: "invalid_schema" } });
    expect(failure.detail.errors?.[0]?.pointer).toBe(pointer);
  });
});

describe("snippets can be put into a page", () => {
  beforeAll(async () => {
    await define("pages", {
      name: { type: "string", "x-search": { weight: "A" } },
      body: { type: "string", "x-search": true },
    });
    await insert("pages", [
      {
        name: `<script>alert("needle")</script>`,
        body: `a <b>b</b> & 'c' needle@x.test <img src=x onerror=needle>`,
      },
      {
        name: "long",
        body: `${"filler words ".repeat(500)}the haystack hides a treasure & more ${"filler words ".repeat(500)}`,
      },
      { name: "marks", body: "<mark>evil</mark> \u0001control\u0002 &lt;tag&gt; signs" },
      { name: "Ünïcode ﬁ 😀 naïve ß", body: "x" },
    ]);
  });
  const snippets = async (q: string) => (await find("pages", { q })).data.map((row) => row._snippets);

  test.each<[string, Record<string, string>[]]>([
    [
      "needle",
      [
        {
          name: "&lt;script&gt;alert(&quot;<mark>needle</mark>&quot;)&lt;/script&gt;",
          body: "a &lt;b&gt;b&lt;/b&gt; &amp; &#39;c&#39; <mark>needle</mark>@x.test &lt;img src=x onerror=<mark>needle</mark>&gt;",
        },
      ],
    ],
    [
      "control",
      [{ body: "&lt;mark&gt;evil&lt;/mark&gt; \u0001<mark>control</mark>\u0002 &amp;lt;tag&amp;gt; signs" }],
    ],
    ["naive", [{ name: "Ünïcode ﬁ 😀 <mark>naïve</mark> ß" }]],
    [
      "script or evil",
      [
        { name: "&lt;<mark>script</mark>&gt;alert(&quot;needle&quot;)&lt;/<mark>script</mark>&gt;" },
        { body: "&lt;mark&gt;<mark>evil</mark>&lt;/mark&gt; \u0001control\u0002 &amp;lt;tag&amp;gt; signs" },
      ],
    ],
  ])("%s", async (q, expected) => {
    const found = await snippets(q);
    expect(found).toHaveLength(expected.length);
    expect(found).toEqual(expect.arrayContaining(expected));
  });

  test("a long text is cut around what was found", async () => {
    const [snippet] = await snippets("treasure");
    expect(snippet?.body).toContain("hides a <mark>treasure</mark> &amp; more");
    expect(snippet?.body?.length).toBeLessThan(400);
  });

  test("what is in the q never comes back", async () => {
    for (const evil of [
      "<img src=x onerror=alert(1)> needle",
      "needle\u0001\u0002<b>",
      "needle</mark><script>",
    ]) {
      for (const snippet of await snippets(evil))
        expect(
          Object.values(snippet)
            .join(" ")
            .replace(/<\/?mark>/g, ""),
        ).not.toMatch(/[<>"']/);
    }
  });
});

describe("bad input", () => {
  test.each<[string, unknown]>([
    ["1,001 characters", "a".repeat(1001)],
    ["a megabyte", "word ".repeat(200_000)],
    ["a number", 5],
    ["true", true],
    ["a list", ["a"]],
    ["an object", { $param: 1 }],
  ])("%s is a 400", async (_title, q) => {
    const failure = await refusal(find("songs", { q }));
    expect(failure).toMatchObject({ code: "RH400", detail: { code: "invalid_q" } });
    expect(failure.hint).not.toBe("");
  });

  test("null is no search, and a NUL is no text", async () => {
    expect((await find("songs", { q: null })).data).toHaveLength(SONGS.length);
    await expect(find("songs", { q: "a\0b" })).rejects.toThrow();
  });

  test("syntax of tsquery, SQL and regular expressions is only text", async () => {
    for (const evil of [
      "'",
      "''",
      "\\",
      "\\'",
      "rock & | ! <->",
      "rock:*",
      "rock:A",
      "(rock",
      "rock)",
      "!rock",
      "<1>",
      "rock <2> roll",
      "''':*",
      "'rock':*ABCD",
      "'; drop table auth.accounts; --",
      "$body$",
      "%1$I",
      "%s",
      "$1",
      "{}",
      '"',
      '"""',
      '-"',
      '-""',
      "or",
      "or or or",
      "- -",
      "--",
      "a or",
      "\u2028",
      "é\u0301",
      "😀",
      "rock\\:*",
      "[a-z]+",
      "(a+)+$",
      "\u202erock",
      "x".repeat(1000),
      "o'".repeat(500),
      '"a '.repeat(300),
      "-a ".repeat(300),
      "or ".repeat(333),
    ])
      expect(Array.isArray((await find("songs", { q: evil })).data)).toBe(true);
    expect(await names("!rock")).toHaveLength(3);
    await db.query("select from auth.accounts");
  });

  test("200 different misspelt words are answered, and time limits hold", async () => {
    const q = Array.from({ length: 160 }, (_, i) => `wr${i.toString(36)}ng`)
      .join(" ")
      .slice(0, 1000);
    expect((await find("songs", { q })).data).toEqual([]);
    const failure = await db.as("acme", "ann@acme.test", async (client) => {
      await client.query("begin; set local statement_timeout = '1ms'"); // until the transaction fails, and not for what ends it
      const outcome = await refusal(
        client.query("select data.find('acme/crm/songs', $1)", [{ q: `${"rock or ".repeat(100)}a` }]),
      );
      await client.query("rollback");
      return outcome;
    });
    expect(failure.code).toBe("57014");
  });

  test("a word of any length and a text of 2 MB can be written, and their beginning is found", async () => {
    await insert("songs", [
      { name: `long ${"x".repeat(5000)} tail`, composer: `begin ${"lorem ipsum ".repeat(170_000)}` },
    ]);
    expect(await names("begin")).toHaveLength(1);
    expect(await names("long tail")).toHaveLength(1);
    await db.query("delete from acme_crm.songs where name like 'long x%'");
  });
});

describe("under row-level security", () => {
  beforeAll(async () => {
    await define("letters", {
      name: { type: "string", "x-search": { weight: "A" } },
      body: { type: "string", "x-search": true },
      city: { type: "string", "x-index": true },
    });
    // 30,000 records; one word in every record, one in a hundredth, one in three.
    for (let done = 0; done < 30_000; done += 10_000)
      await db.query(
        `select jsonb_array_length(data.insert('acme/crm/letters', (select jsonb_agg(jsonb_build_object('name', 'Letter ' || g, 'city', 'City ' || g % 100,
           'body', 'everywhere ' || case when g % 100 = 0 then 'seldom' else 'otherwise' end || case when g % 10000 = 7 then ' unicorn' else '' end))
           from generate_series($1::int + 1, $1::int + 10000) g)))`,
        [done],
      );
    await db.query("vacuum analyze acme_crm.letters_jsonb");
    // As permissions with conditions will be: records that their reader may not see.
    const [site] = await db.query<{ id: string }>("select id from tenancy.sites where name = 'acme'");
    await db.query(
      `alter policy may_read on acme_crm.letters_jsonb using ((select access.allows('${site?.id}'::uuid, 'crm/letters', 'read'))
        and data ->> 'name' <> 'Letter 7' and data ->> 'city' <> 'hidden')`,
    );
  });

  /** The plans of a statement and of all it calls, as the site's role. */
  async function plans(query: object): Promise<string> {
    const client = new pg.Client({ connectionString: db.operatorUrl });
    await client.connect();
    let log = "";
    client.on("notice", (notice) => {
      log += `${notice.message}\n`;
    });
    try {
      await client.query(
        "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; set client_min_messages = log",
      );
      await client.query("call tenancy.enter('acme', 'ann@acme.test')");
      const { rows } = await client.query(
        "select data.compile('crm', 'letters', 'find', $1) ->> 'sql' as sql, current_user",
        [query],
      );
      expect(rows[0].current_user).toMatch(/^site_acme/);
      await client.query(`prepare searched(text) as ${rows[0].sql}`);
      log = "";
      const answer = await client.query("execute searched('unicorn')");
      expect(JSON.parse(answer.rows[0].body).data).toHaveLength(2);
      return log;
    } finally {
      await client.end();
    }
  }

  test.each<[string, object]>([
    ["the best matches", { q: true }],
    ["filtered", { q: true, filter: { city: { $ne: null } } }],
    ["sorted", { q: true, sort: [{ field: "created_at", direction: "desc" }] }],
    ["counted", { q: true, count: "exact" }],
  ])("%s of 30,000 records are found by the index", async (_title, query) => {
    const log = await plans(query);
    expect(log).toContain("Bitmap Index Scan on letters__search_idx");
    expect(log).toContain("Tid Scan on letters_jsonb");
    expect(log).toContain("letters_jsonb_pkey");
    expect(log).not.toMatch(/Seq Scan on letters/);
  });

  test("misspelt words are looked up by the trigram index of the vocabulary", async () => {
    await db.query(
      "insert into acme_crm.letters__words select 'filler' || translate(md5(g::text), '0123456789', 'ghijklmnop') from generate_series(1, 20000) g",
    );
    await db.query("vacuum analyze acme_crm.letters__words");
    const client = await db.pool.connect();
    try {
      await client.query("begin; set local role rowhouse_data; set local pg_trgm.similarity_threshold = 0.2");
      const { rows } = await client.query(
        "explain select v.word from acme_crm.letters__words v where v.word operator(extensions.%) 'unicron'",
      );
      expect(JSON.stringify(rows)).toContain("Bitmap Index Scan on letters__words_trgm");
    } finally {
      await client.query("rollback");
      client.release();
    }
    expect(await names("unicron", "letters")).toHaveLength(2);
  });

  test("hidden records are not found, counted or hinted at by rank, snippets or corrections", async () => {
    await db.query("select data.insert('acme/crm/letters', $1)", [
      JSON.stringify([
        { name: "secret", city: "seen", body: "merger" },
        { name: "own", city: "seen", body: "mergex" },
      ]),
    ]);
    await db.query(
      `update acme_crm.letters_jsonb set data = data || '{"city": "hidden"}' where data ->> 'name' = 'secret'`,
    );
    await db.as("acme", "ann@acme.test", async (client) => {
      const ask = async (query: object) =>
        (await client.query("select data.find('acme/crm/letters', $1) as r", [query])).rows[0].r as Page;
      expect((await ask({ q: "unicorn", count: "exact" })).meta.count).toBe(2);
      expect((await ask({ q: "letter 7" })).data.map((row) => row.name)).not.toContain("Letter 7");
      expect((await ask({ q: "secret" })).data).toEqual([]);
      // That somebody's hidden record holds exactly this word changes nothing for one's own that is close to it.
      for (const q of ["merger", "mergez"]) {
        const { data } = await ask({ q });
        expect(data.map((row) => [row.name, row._snippets])).toEqual([
          ["own", { body: "<mark>mergex</mark>" }],
        ]);
      }
      const direct = await client.query("select words from acme_crm.letters_search('mergez')");
      expect(direct.rows).toEqual([{ words: ["mergex", "mergez*"] }]); // and what was typed, as a beginning
      for (const attack of [
        "select * from acme_crm.letters_candidates('merger'::tsquery)",
        "select * from acme_crm.letters__words",
        "insert into acme_crm.letters__words values ('x')",
        "select _search from acme_crm.letters_jsonb",
        "select data.search_typos('data.simple', 'acme_crm.letters__words', array['mergez'], true)",
        "select data.search_parse('data.simple', 'mergez', 'acme_crm.letters__words')",
        "select data.build_search(e, 'acme_crm') from data.entities e",
      ])
        expect((await refusal(client.query(attack))).code).toBe("42501");
    });
  });

  test("one who may not read finds nothing, another site's member does not even find the entity", async () => {
    await db.query("select access.create_role('acme', 'writer', array['crm/*:create'])");
    await db.account("wes@acme.test");
    await db.query("select tenancy.add_member('acme', 'wes@acme.test', 'writer')");
    await db.as("acme", "wes@acme.test", async (client) => {
      const { rows } = await client.query(
        `select data.find('acme/crm/songs', '{"q": "rock", "count": "exact"}') as r`,
      );
      expect([rows[0].r.data, rows[0].r.meta.count]).toEqual([[], 0]);
      expect((await client.query("select * from acme_crm.songs_search('rock')")).rows).toEqual([]);
    });
    await db.as("beta", "bob@beta.test", async (client) => {
      expect((await refusal(client.query(`select data.find('acme/crm/songs', '{"q": "rock"}')`))).code).toBe(
        "RH404",
      );
      expect((await refusal(client.query("select * from acme_crm.songs_search('rock')"))).code).toBe("42501");
    });
  });
});
