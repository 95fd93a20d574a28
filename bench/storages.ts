// The data service's numbers in one run (npm run bench:storages): batch inserts against COPY into a plain jsonb table, reads of
// jsonb against flat storage, reads by id of a large entity against a small one. One JSON line per comparison; the order of
// contenders changes from round to round. With BATCHES=only nothing but the batches.
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { APP, any, contacts, medianOf, openPlace, type Server } from "./place.ts";

const RECORDS = Number(process.env.RECORDS ?? 200_000);
const LARGE = Number(process.env.LARGE ?? 1_000_000);
const SMALL = 10_000;
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 2);
const BATCH = 1_000;
const CITIES = 500;

const place = await openPlace("max_wal_size=8GB");
const { client, urls } = place;
try {
  for (const storage of ["jsonb", "flat"]) {
    await place.define(`in_${storage}_storage`, { "x-storage": storage });
    await place.fill(`in_${storage}_storage`, RECORDS, CITIES);
  }
  const { "x-index": _, ...city } = contacts.properties.city;
  await place.define("without_x_index", { properties: { ...contacts.properties, city } });
  await place.fill("without_x_index", RECORDS, CITIES);
  await batches();
  if (process.env.BATCHES !== "only") await reading();
} finally {
  await place.close();
}

async function reading(): Promise<void> {
  for (const [name, records] of [
    ["small", SMALL],
    ["large", LARGE],
  ] as const) {
    await place.define(name);
    await place.fill(name, records, CITIES);
  }
  const token = await place.token();
  const server = await place.start("rowhouse", "gateway.ts", [
    urls.operatorUrl,
    urls.gatewayUrl,
    urls.workerUrl,
  ]);
  await reads(server, token);
}

/**
 * Milliseconds and the backend's CPU per 1,000 records: COPY into a plain jsonb table, and into ones with an entity's indexes; the data
 * service's statements as the site's role, answered with ids and with records, in each storage, and for the entity without any x-index.
 * of_copy is what a user gets of a plain table's rate; of_indexed_copy, of a table with the same indexes, is what is ours.
 */
async function batches(): Promise<void> {
  const plain =
    "id uuid primary key default uuidv7(), data jsonb not null, created_at timestamptz not null default now()";
  await client.query(`create table public.plain (${plain})`);
  await client.query(`create table public.by_time (${plain})`);
  await client.query(
    `create table public.by_time_and_city (${plain}, city text generated always as (data->>'city') stored)`,
  );
  await client.query("create index on public.by_time_and_city (city, created_at, id)");
  for (const table of ["by_time", "by_time_and_city"]) {
    await client.query(`create index on public.${table} (created_at, id)`);
    await client.query(
      `insert into public.${table} (data, created_at) select data, created_at from bench_crm.in_jsonb_storage_jsonb`,
    );
  }
  const member = new pg.Client({ connectionString: urls.operatorUrl });
  await member.connect();
  const pids = await Promise.all(
    [client, member].map(
      async (c) => (await c.query("select pg_backend_pid() as pid")).rows[0].pid as number,
    ),
  );
  await member.query("call tenancy.enter('bench', 'bench@bench.test')");
  const statement = async (entity: string, what: string) =>
    (
      await member.query("select data.compile('crm', $1, 'insert_list', $2)->>'sql' as sql", [
        entity,
        { return: what },
      ])
    ).rows[0].sql as string;
  const copy = (table: string) => (_json: string, lines: string) =>
    pipeline(Readable.from([lines]), client.query(copyFrom(`copy public.${table} (data) from stdin`)));
  const contenders: Record<string, (json: string, lines: string) => Promise<unknown>> = {
    "COPY, plain table": copy("plain"),
    "COPY, indexes of an entity": copy("by_time"),
    "COPY, those and one on city": copy("by_time_and_city"),
  };
  const alike: Record<string, string> = {};
  for (const [title, entity, copied] of [
    ["jsonb, no x-index", "without_x_index", "COPY, indexes of an entity"],
    ["jsonb, x-index on city", "in_jsonb_storage", "COPY, those and one on city"],
    ["flat, x-index on city", "in_flat_storage", "COPY, those and one on city"],
  ] as const) {
    for (const what of ["ids", "records"]) {
      const text = await statement(entity, what);
      alike[`${title}: ${what}`] = copied;
      contenders[`${title}: ${what}`] = (json) =>
        member.query({ name: `${entity} ${what}`, text, values: [json] });
    }
  }
  const names = Object.keys(contenders);
  const times: Record<string, number[]> = Object.fromEntries(names.map((name) => [name, []]));
  const cpu: Record<string, number[]> = Object.fromEntries(names.map((name) => [name, []]));
  const spent = () => pids.reduce((sum, pid) => sum + runOf(pid), 0);
  let n = RECORDS;
  for (let round = 0; round < ROUNDS * 8; round++) {
    const records = Array.from({ length: BATCH }, () => record(n++));
    const lines = records.map((r) => `${JSON.stringify(r).replaceAll("\\", "\\\\")}\n`).join("");
    const json = JSON.stringify(records);
    for (const name of round % 2 ? names : [...names].reverse()) {
      const [begun, before] = [performance.now(), spent()];
      await contenders[name]?.(json, lines);
      times[name]?.push(performance.now() - begun);
      cpu[name]?.push(spent() - before);
    }
  }
  await member.end();
  const of = (name: string) => ({ ms: medianOf(times[name] ?? []), cpu_ms: medianOf(cpu[name] ?? []) });
  for (const name of names) {
    const own = of(name);
    const [copied, indexed] = [of("COPY, plain table"), of(alike[name] ?? name)];
    print({
      case: `insert ${BATCH} records`,
      name,
      ...own,
      of_copy: copied.ms / own.ms,
      of_copy_by_cpu: copied.cpu_ms / own.cpu_ms,
      of_indexed_copy: indexed.ms / own.ms,
      of_indexed_copy_by_cpu: indexed.cpu_ms / own.cpu_ms,
    });
  }
}

/** Milliseconds that a process has run, to the microsecond: cpuOf counts in steps of 10 ms. */
function runOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
}

/** Rates over REST, each pair interleaved. */
async function reads(server: Server, token: string): Promise<void> {
  const auth = () => ({ authorization: `Bearer ${token}` });
  const city = () =>
    encodeURIComponent(JSON.stringify({ city: `City ${Math.floor(Math.random() * CITIES)}` }));
  const lists: Record<string, string[]> = {};
  for (const name of ["in_jsonb_storage", "in_flat_storage", "small", "large"])
    lists[name] = await place.ids(name);
  const byId = (entity: string) => () => ({
    path: `${APP}/${entity}/${any(lists[entity] as string[])}`,
    headers: auth(),
  });
  const newest = (entity: string) => () => ({
    path: `${APP}/${entity}?sort=-created_at&limit=20`,
    headers: auth(),
  });
  const filtered = (entity: string) => () => ({
    path: `${APP}/${entity}?filter=${city()}&sort=-created_at&limit=20`,
    headers: auth(),
  });
  const cases: [string, string, string, (entity: string) => () => object][] = [
    ["read by id", "in_jsonb_storage", "in_flat_storage", byId],
    ["first 20 newest", "in_jsonb_storage", "in_flat_storage", newest],
    ["filtered list", "in_jsonb_storage", "in_flat_storage", filtered],
    ["read by id", "large", "small", byId],
  ];
  for (const [name, one, other, request] of cases) {
    const rates: Record<string, number[]> = { [one]: [], [other]: [] };
    for (const entity of [one, other]) await place.shoot(server, request(entity), 1, 20);
    for (let round = 0; round < ROUNDS; round++) {
      for (const entity of round % 2 ? [one, other] : [other, one])
        rates[entity]?.push((await place.shoot(server, request(entity), SECONDS, 20)).rate);
    }
    const [rate, against] = [medianOf(rates[one] ?? []), medianOf(rates[other] ?? [])];
    print({
      case: name,
      of: one,
      against: other,
      requests_per_second: rate,
      requests_per_second_against: against,
      ratio: rate / against,
    });
  }
}

function record(g: number): Record<keyof typeof contacts.properties, unknown> {
  return {
    name: `Person ${g}`,
    email: `p${g}@example.com`,
    city: `City ${g % CITIES}`,
    age: g % 90,
    balance: (g % 10000) / 100,
    active: g % 2 === 0,
    born: "1980-01-01",
    note: `A note about person ${g}`,
  };
}

function print(line: Record<string, string | number>): void {
  console.log(
    JSON.stringify(line, (_key, value) => (typeof value === "number" ? Number(value.toFixed(2)) : value)),
  );
}
