// One site with many records and many users at once (npm run bench:mixed): reads by id, first pages, filtered lists and single
// inserts in one load, 4 : 2 : 2 : 2. Prints what it cost to fill, then rates and latencies; p97_5 bounds the p95.
import { APP, any, openPlace } from "./place.ts";

const RECORDS = Number(process.env.RECORDS ?? 10_000_000);
const USERS = Number(process.env.USERS ?? 100);
const SECONDS = Number(process.env.SECONDS ?? 30);
const CITIES = 50_000;

const place = await openPlace("shared_buffers=2GB", "max_wal_size=16GB", "maintenance_work_mem=1GB");
const { client, urls } = place;
try {
  await place.define("contacts");
  const begun = performance.now();
  // Past the write rule, as the platform itself: what is measured here is not the filling.
  await client.query("set role rowhouse_owner");
  await client.query("set rowhouse.maintenance = 'on'");
  for (let done = 0; done < RECORDS; done += 500_000) {
    await client.query(
      `insert into bench_crm.contacts_jsonb (data, city, created_at)
       select jsonb_build_object('name', 'Person ' || g, 'email', 'p' || g || '@example.com', 'city', 'City ' || g % $3, 'age', g % 90,
         'balance', (g % 10000) / 100.0, 'active', g % 2 = 0, 'born', '1980-01-01', 'note', 'A note about person ' || g),
         'City ' || g % $3, now() - interval '1 year' + g * interval '1 second'
       from generate_series($1::int + 1, least($1::int + 500000, $2::int)) g`,
      [done, RECORDS, CITIES],
    );
  }
  await client.query("reset role");
  await client.query("reset rowhouse.maintenance");
  await client.query("vacuum analyze bench_crm.contacts_jsonb");
  const [{ size }] = (
    await client.query("select pg_size_pretty(pg_total_relation_size('bench_crm.contacts_jsonb')) as size")
  ).rows;
  console.log(
    JSON.stringify({ records: RECORDS, size, filled_in_s: Math.round((performance.now() - begun) / 1000) }),
  );

  const ids = (
    await client.query(
      "select id from bench_crm.contacts_jsonb tablesample system (0.5) order by random() limit 20000",
    )
  ).rows.map((row) => row.id as string);
  const token = await place.token();
  const server = await place.start("rowhouse", "gateway.ts", [
    urls.operatorUrl,
    urls.gatewayUrl,
    urls.workerUrl,
  ]);
  const headers = () => ({ authorization: `Bearer ${token}`, "content-type": "application/json" });
  const city = () => `City ${Math.floor(Math.random() * CITIES)}`;
  const kinds: [number, string, () => object][] = [
    [4, "read by id", () => ({ path: `${APP}/contacts/${any(ids)}`, headers: headers() })],
    [2, "first 20 newest", () => ({ path: `${APP}/contacts?limit=20`, headers: headers() })],
    [
      2,
      "filtered list",
      () => ({
        path: `${APP}/contacts?filter=${encodeURIComponent(JSON.stringify({ city: city() }))}&limit=20`,
        headers: headers(),
      }),
    ],
    [
      2,
      "single insert",
      () => ({
        method: "POST",
        path: `${APP}/contacts`,
        headers: headers(),
        body: JSON.stringify({ name: "New", city: city(), age: 33, active: true }),
      }),
    ],
  ];
  const mix = kinds.flatMap(([share, , request]) => Array.from({ length: share }, () => request));
  await place.shoot(server, () => any(mix)(), 3, USERS);
  const all = await place.shoot(server, () => any(mix)(), SECONDS, USERS);
  print("mixed", all);
  for (const [, name, request] of kinds) print(`${name} alone`, await place.shoot(server, request, 5, USERS));
} finally {
  await place.close();
}

function print(load: string, sample: { rate: number; p50: number; p97: number; p99: number }): void {
  console.log(
    JSON.stringify({
      load,
      users: USERS,
      requests_per_second: Math.round(sample.rate),
      p50_ms: sample.p50,
      p97_5_ms: sample.p97,
      p99_ms: sample.p99,
    }),
  );
}
