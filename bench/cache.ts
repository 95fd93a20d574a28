// What x-cache-ttl gains on heavy reads and costs on writes: two entities of the same records, one of them cached, asked in
// turns. One JSON line per case: median ms of each, and their ratio; for writes also with 8 writers at once.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { issueDevelopmentToken } from "../server/auth/development.ts";
import { openTokens } from "../server/auth/tokens.ts";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";
import { readSettings } from "../server/settings.ts";

const RECORDS = Number(process.env.RECORDS ?? 50_000);
const SAMPLES = Number(process.env.SAMPLES ?? 60);

const dir = mkdtempSync(join(tmpdir(), "rowhouse-cache-"));
const cluster = await startEmbedded(dir, ["shared_buffers=512MB"]);
const urls = logins(cluster.operatorUrl, { gateway: cluster.gatewayPassword, worker: "bench" });
await migrate(urls);
const client = new pg.Client({ connectionString: cluster.operatorUrl });
await client.connect();
await client.query(`select tenancy.create_organization('bench'), tenancy.create_site('bench', 'bench')`);
await client.query("select tenancy.create_app('bench', 'crm')");
await client.query("insert into auth.accounts (email) values ('bench@bench.test')");
await client.query("select tenancy.add_member('bench', 'bench@bench.test', 'editor')");
for (const [entity, more] of [
  ["plain", {}],
  ["kept", { "x-cache-ttl": 3600 }],
] as const) {
  const properties = { name: { type: "string" }, city: { type: "string" }, age: { type: "integer" } };
  await client.query("select data.define_entity('bench/crm', $1, $2)", [
    entity,
    { type: "object", properties, ...more },
  ]);
  for (let from = 0; from < RECORDS; from += 10_000) {
    await client.query(
      `select jsonb_array_length(data.insert($1, (select jsonb_agg(jsonb_build_object('name', 'Person ' || i, 'city', 'City ' || i % 500, 'age', i % 90))
       from generate_series($2::int, $3::int) i)))`,
      [`bench/crm/${entity}`, from + 1, Math.min(RECORDS, from + 10_000)],
    );
  }
  await client.query(`vacuum analyze bench_crm.${entity}_jsonb`);
}
const tokens = await openTokens({ pool: client, masterKey: Buffer.alloc(32, 7), settings: readSettings({}) });
const { access_token } = await issueDevelopmentToken(client, tokens, {
  email: "bench@bench.test",
  site: "bench",
});

const child = spawn(
  process.execPath,
  [fileURLToPath(new URL("gateway.ts", import.meta.url)), urls.operatorUrl, urls.gatewayUrl, urls.workerUrl],
  { stdio: ["ignore", "pipe", "inherit"] },
);
const port = await new Promise<string>((resolve) =>
  child.stdout.once("data", (data) => resolve(String(data).trim())),
);
const headers = { authorization: `Bearer ${access_token}`, "content-type": "application/json" };
const app = `http://127.0.0.1:${port}/api/v1/sites/bench/apps/crm`;

async function timed(path: string, init: RequestInit = {}): Promise<number> {
  const begun = performance.now();
  const answer = await fetch(`${app}/${path}`, { headers, ...init });
  await answer.text();
  if (!answer.ok) throw new Error(`${answer.status} for ${path}`);
  return performance.now() - begun;
}

function report(name: string, plain: number[], kept: number[]): void {
  const median = (list: number[]) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0;
  const round = (value: number) => Math.round(value * 100) / 100;
  const [without, cached] = [median(plain), median(kept)];
  console.log(
    JSON.stringify({ name, plain_ms: round(without), kept_ms: round(cached), gain: round(without / cached) }),
  );
}

const filter = (value: object) => encodeURIComponent(JSON.stringify(value));
for (const [name, query] of [
  ["read 20", "limit=20"],
  ["read 1,000", "limit=1000"],
  [
    "find 100 by a field without an index, and count them",
    `limit=100&count=exact&filter=${filter({ city: "City 7" })}`,
  ],
  ["sort all by a field without an index", "limit=20&sort=name"],
] as const) {
  const plain: number[] = [];
  const kept: number[] = [];
  await timed(`kept?${query}`);
  for (let i = 0; i < SAMPLES; i++) {
    plain.push(await timed(`plain?${query}`));
    kept.push(await timed(`kept?${query}`));
  }
  report(name, plain, kept);
}
for (const writers of [1, 8]) {
  const insert = async (entity: string) => {
    const body = JSON.stringify({ name: "New", city: "City 1", age: 1 });
    const times = await Promise.all(
      Array.from({ length: writers }, async () => {
        const own: number[] = [];
        for (let i = 0; i < SAMPLES; i++) own.push(await timed(entity, { method: "POST", body }));
        return own;
      }),
    );
    return times.flat();
  };
  const plain: number[] = [];
  const kept: number[] = [];
  for (let round = 0; round < 3; round++) {
    plain.push(...(await insert("plain")));
    kept.push(...(await insert("kept")));
  }
  report(`insert one, ${writers} at once`, plain, kept);
}
const [{ slots }] = (await client.query("select count(*)::int as slots from data.changes")).rows;
console.log(JSON.stringify({ name: "slots", slots }));

child.kill();
await client.end();
await cluster.stop();
rmSync(dir, { recursive: true, force: true });
