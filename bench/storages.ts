// The data service's numbers in one run (npm run bench:storages): batch inserts against COPY into a plain jsonb table, reads of
// jsonb against flat storage, reads by id of a large entity against a small one. One JSON line per comparison; the order of
// contenders changes from round to round.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { APP, any, type contacts, medianOf, openPlace, type Server } from "./place.ts";

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
  await batches();
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
} finally {
  await place.close();
}

/** Milliseconds per 1,000 records: COPY, the data function as the site's role, in each storage. */
async function batches(): Promise<void> {
  await client.query(
    "create table public.plain (id uuid primary key default uuidv7(), data jsonb not null, created_at timestamptz not null default now())",
  );
  const member = new pg.Client({ connectionString: urls.operatorUrl });
  await member.connect();
  await member.query("call tenancy.enter('bench', 'bench@bench.test')");
  const times: Record<string, number[]> = { copy: [], jsonb: [], flat: [] };
  let n = RECORDS;
  for (let round = 0; round < ROUNDS * 8; round++) {
    const records = Array.from({ length: BATCH }, () => record(n++));
    const lines = records.map((r) => `${JSON.stringify(r).replaceAll("\\", "\\\\")}\n`).join("");
    const json = JSON.stringify(records);
    const contenders: Record<string, () => Promise<unknown>> = {
      copy: () =>
        pipeline(Readable.from([lines]), client.query(copyFrom("copy public.plain (data) from stdin"))),
      jsonb: () => member.query("select count(*) from bench_crm.in_jsonb_storage_insert($1)", [json]),
      flat: () => member.query("select count(*) from bench_crm.in_flat_storage_insert($1)", [json]),
    };
    const names = Object.keys(contenders);
    for (const name of round % 2 ? names : names.reverse()) {
      const begun = performance.now();
      await contenders[name]?.();
      times[name]?.push(performance.now() - begun);
    }
  }
  await member.end();
  const copy = medianOf(times.copy ?? []);
  for (const storage of ["jsonb", "flat"]) {
    const ms = medianOf(times[storage] ?? []);
    print({ case: `insert ${BATCH} records`, storage, ms, copy_ms: copy, of_copy: copy / ms });
  }
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
