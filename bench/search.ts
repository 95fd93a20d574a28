// Search on 200,000 records under row-level security, as the site's role: medians in ms, and what x-search costs an insert.
// RECORDS=20000 ROUNDS=5 node bench/search.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";

const RECORDS = Number(process.env.RECORDS ?? 200_000);
const ROUNDS = Number(process.env.ROUNDS ?? 15);
const WORDS = 20_000; // distinct ones; the nth is used with a frequency of 1/n, as in languages
const WORDS_PER_RECORD = 30;

const dir = mkdtempSync(join(tmpdir(), "rowhouse-bench-"));
const cluster = await startEmbedded(dir, ["shared_buffers=512MB"]);
await migrate(logins(cluster.operatorUrl, { gateway: cluster.gatewayPassword, worker: "bench" }));
const client = new pg.Client({ connectionString: cluster.operatorUrl });
await client.connect();

let seed = 1;
const random = () => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return seed / 2 ** 32;
};
const SYLLABLES =
  "ba be bi bo da de di do fa fe ga go ka ke ki la le li lo ma me mi na ne no pa pe ra re ri ro sa se si so ta te ti to va ve za".split(
    " ",
  );
const vocabulary = [...new Set(Array.from({ length: WORDS * 2 }, makeWord))].slice(0, WORDS);
const print = (what: string, value: Record<string, unknown>) =>
  console.log(JSON.stringify({ what, ...value }));

try {
  await define();
  await fill("searched", RECORDS);
  await fill("companies", RECORDS / 10);
  await client.query("vacuum analyze bench_crm.searched_jsonb");
  await sizes();
  await queries();
  await inserts();
} finally {
  await client.end();
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}

function makeWord(): string {
  const length = 2 + Math.floor(random() * 3);
  return Array.from({ length }, () => SYLLABLES[Math.floor(random() * SYLLABLES.length)]).join("");
}

function text(words: number): string {
  return Array.from({ length: words }, () => vocabulary[Math.floor(WORDS ** random()) - 1]).join(" ");
}

function record(n: number): object {
  return { name: text(2), city: `City ${n % 500}`, age: n % 90, body: text(WORDS_PER_RECORD) };
}

async function define(): Promise<void> {
  await client.query("insert into auth.accounts (email) values ('bench@bench.test')");
  await client.query("select tenancy.create_organization('bench')");
  await client.query("select tenancy.create_site('bench', 'bench')");
  await client.query("select tenancy.create_app('bench', 'crm')");
  await client.query("select tenancy.add_member('bench', 'bench@bench.test', 'editor')");
  const entity = (search: boolean, language = "simple") => ({
    type: "object",
    properties: {
      name: { type: "string", "x-search": search && { weight: "A" } },
      city: { type: "string", "x-index": true },
      age: { type: "integer" },
      body: { type: "string", "x-search": search },
    },
    ...(search ? { "x-search": { language } } : {}),
  });
  for (const [name, schema] of [
    ["plain", entity(false)],
    ["searched", entity(true)],
    ["companies", entity(true)],
    ["english", entity(true, "english")],
  ])
    await client.query("select data.define_entity('bench/crm', $1, $2)", [name, schema]);
}

async function fill(entity: string, count: number): Promise<void> {
  const started = performance.now();
  for (let done = 0; done < count; done += 5_000) {
    const records = Array.from({ length: Math.min(5_000, count - done) }, (_, i) => record(done + i));
    await client.query("select jsonb_array_length(data.insert($1, $2))", [
      `bench/crm/${entity}`,
      JSON.stringify(records),
    ]);
  }
  print("fill", { entity, records: count, seconds: Math.round((performance.now() - started) / 100) / 10 });
}

async function sizes(): Promise<void> {
  const { rows } = await client.query(
    `select pg_size_pretty(pg_table_size('bench_crm.searched_jsonb')) as storage, pg_size_pretty(pg_relation_size('bench_crm.searched__search_idx')) as index,
       pg_size_pretty(pg_total_relation_size('bench_crm.searched__words')) as vocabulary`,
  );
  print("sizes", rows[0]);
}

async function median(work: () => Promise<unknown>, rounds = ROUNDS): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    await work();
    times.push(performance.now() - started);
  }
  times.sort((a, b) => a - b);
  return Math.round((times[Math.floor(times.length / 2)] ?? 0) * 100) / 100;
}

async function queries(): Promise<void> {
  await client.query("call tenancy.enter('bench', 'bench@bench.test')");
  const word = (nth: number) => vocabulary[nth - 1] as string;
  const rare = word(15_000);
  const typo = (from: number) => {
    const found = vocabulary.slice(from).find((w) => w.length === 8) as string;
    return `${found.slice(0, 3)}x${found.slice(4)}`;
  };
  let statements = 0;
  const prepare = async (sql: string) => {
    await client.query(`prepare s${++statements} as ${sql}`);
    return `s${statements}`;
  };
  const run = async (title: string, shape: object, q: string, more: string[] = []) => {
    const { rows } = await client.query(
      "select data.compile('crm', 'searched', 'find', $1) ->> 'sql' as sql",
      [shape],
    );
    const statement = await prepare(rows[0].sql);
    const values = [...more, q].map((value) => client.escapeLiteral(value)).join(", ");
    const execute = async () =>
      (await client.query(`execute ${statement}(${values})`)).rows[0].body as string;
    const found = await client.query("select count(*) from bench_crm.searched_search($1)", [q]);
    print(title, { q, found: Number(found.rows[0].count), median_ms: await median(execute) });
  };
  const best = { q: true };
  await run("a rare word", best, `${rare} `);
  await run("a rare word, without snippets", { q: true, select: ["id", "name"] }, rare);
  await run("a word in a hundredth", best, word(300));
  await run("a common word", best, word(5));
  await run("the commonest word", best, word(1));
  await run("two common words", best, `${word(3)} ${word(40)}`);
  await run("a phrase", best, `"${word(3)} ${word(5)}"`);
  await run("three letters", best, word(1_000).slice(0, 3));
  await run("a misspelt word", best, typo(3_000));
  await run("two misspelt words", best, `${typo(300)} ${typo(400)}`);
  await run("a word nobody uses", best, "qqqqwwwweeee");
  await run("a hundredth, filtered by an index", { q: true, filter: { city: { $param: 1 } } }, word(300), [
    "City 7",
  ]);
  await run("a common word, filtered by an index", { q: true, filter: { city: { $param: 1 } } }, word(5), [
    "City 7",
  ]);
  await run(
    "a hundredth, newest first",
    { q: true, sort: [{ field: "created_at", direction: "desc" }] },
    word(300),
  );
  await run("a hundredth, counted", { q: true, count: "exact" }, word(300));
  for (const [title, q] of [
    ["federated, a rare word", rare],
    ["federated, a word in a hundredth", word(300)],
    ["federated, misspelt", typo(3_000)],
  ] as const) {
    const { rows } = await client.query(
      `select data.compile_search('crm', '{"q": true, "entities": ["searched", "companies"]}') ->> 'sql' as sql`,
    );
    const statement = await prepare(rows[0].sql);
    print(title, {
      q,
      median_ms: await median(() => client.query(`execute ${statement}(${client.escapeLiteral(q)})`)),
    });
  }
  await client.query("call tenancy.leave()");
}

/** Single inserts and batches of 1,000 as the site's role, interleaved. */
async function inserts(): Promise<void> {
  await fill("plain", 20_000);
  await fill("english", 20_000);
  await client.query("call tenancy.enter('bench', 'bench@bench.test')");
  const times: Record<string, number[]> = {};
  for (let round = 0; round < ROUNDS; round++) {
    for (const entity of ["plain", "searched", "english"]) {
      const time = async (kind: string, batches: unknown[]) => {
        const started = performance.now();
        for (const batch of batches)
          await client.query({
            name: `i${entity}`,
            text: `select count(*) from bench_crm.${entity}_insert($1)`,
            values: [JSON.stringify(batch)],
          });
        const list = times[`${kind} ${entity}`] ?? [];
        times[`${kind} ${entity}`] = list;
        list.push(((performance.now() - started) * 1_000) / batches.length);
      };
      await time(
        "single",
        Array.from({ length: 200 }, (_, i) => record(i)),
      );
      await time("batch", [Array.from({ length: 1_000 }, (_, i) => record(i))]);
    }
  }
  const middle = (key: string) => (times[key] ?? []).sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
  for (const kind of ["single", "batch"])
    for (const entity of ["searched", "english"])
      print(`insert, ${kind}`, {
        entity,
        median_us: Math.round(middle(`${kind} ${entity}`)),
        plain_us: Math.round(middle(`${kind} plain`)),
        ratio: Number((middle(`${kind} ${entity}`) / middle(`${kind} plain`)).toFixed(2)),
      });
  await client.query("call tenancy.leave()");
}
