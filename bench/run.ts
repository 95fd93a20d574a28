// REST and GraphQL of the gateway against limit, pipelined and naive (bench/reference.ts), interleaved, on one table.
// One JSON line per case and server: medians of rates and latencies over the rounds, CPU per request, ratios.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import autocannon from "autocannon";
import pg from "pg";
import { issueDevelopmentToken } from "../server/auth/development.ts";
import { openTokens } from "../server/auth/tokens.ts";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";
import { readSettings } from "../server/settings.ts";
import { cpuOf, cpuOfPostgres } from "./cpu.ts";

const RECORDS = Number(process.env.RECORDS ?? 100_000);
const CONNECTIONS = 20;
const SECONDS = Number(process.env.SECONDS ?? 4);
const ROUNDS = Number(process.env.ROUNDS ?? 3);
const CITIES = 500;

type Server = { name: string; pid: number; base: string; stop(): void };
type Sample = { rate: number; p50: number; p99: number; serverCpu: number; postgresCpu: number };

const dir = mkdtempSync(join(tmpdir(), "rowhouse-bench-"));
const cluster = await startEmbedded(dir, ["shared_buffers=512MB"]);
const postmaster = Number.parseInt(readFileSync(join(dir, "postgres", "postmaster.pid"), "utf8"), 10);
const urls = logins(cluster.operatorUrl, { gateway: cluster.gatewayPassword, worker: "bench" });
await migrate(urls);
const client = new pg.Client({ connectionString: cluster.operatorUrl });
await client.connect();
await fill();
const ids = (await client.query("select id from bench_crm.contacts order by random() limit 5000")).rows.map(
  (row) => row.id as string,
);
const [{ account, site }] = (
  await client.query(
    "select (select id from auth.accounts) as account, (select id from tenancy.sites) as site",
  )
).rows;
const tokens = await openTokens({ pool: client, masterKey: Buffer.alloc(32, 7), settings: readSettings({}) });
const { access_token: token } = await issueDevelopmentToken(client, tokens, {
  email: "bench@bench.test",
  site: "bench",
});

const rowhouse = await start("rowhouse", "gateway.ts", [urls.operatorUrl, urls.gatewayUrl, urls.workerUrl]);
const references: Server[] = [];
for (const name of ["limit", "pipelined", "naive"])
  references.push(await start(name, "reference.ts", [name, cluster.operatorUrl, "bench_crm", account, site]));

const APP = "/api/v1/sites/bench/apps/crm";
const any = <T>(list: T[]): T => list[Math.floor(Math.random() * list.length)] as T;
const city = () => `City ${Math.floor(Math.random() * CITIES)}`;
const record = () =>
  JSON.stringify({
    name: "Somebody New",
    email: "new@example.com",
    city: city(),
    age: 33,
    balance: 12.5,
    active: true,
    born: "1990-05-05",
    note: "inserted",
  });
// autocannon writes into the headers it is given: a new object each time.
// The references do not read it, but get it too, so that all answer the same request.
const auth = () => ({ authorization: `Bearer ${token}`, "content-type": "application/json" });
const FIELDS = "id name email city age balance active born note createdAt updatedAt version createdBy";
const graphql = (query: string, variables: object) => ({
  method: "POST",
  path: `${APP}/graphql`,
  headers: auth(),
  body: JSON.stringify({ query, variables }),
});

type Case = { reference: () => object; rest: () => object; graphql?: () => object };
const CASES: Record<string, Case> = {
  "read by id": {
    reference: () => ({ path: `/get/${any(ids)}`, headers: auth() }),
    rest: () => ({ path: `${APP}/contacts/${any(ids)}`, headers: auth() }),
    graphql: () => graphql(`query ($id: UUID!) { contact(id: $id) { ${FIELDS} } }`, { id: any(ids) }),
  },
  "first 20 newest": {
    reference: () => ({ path: "/list", headers: auth() }),
    rest: () => ({ path: `${APP}/contacts?sort=-created_at&limit=20`, headers: auth() }),
    graphql: () => graphql(`{ contacts(first: 20, orderBy: CREATED_AT_DESC) { nodes { ${FIELDS} } } }`, {}),
  },
  "filtered list": {
    reference: () => ({ path: `/filter/${encodeURIComponent(city())}`, headers: auth() }),
    rest: () => ({
      path: `${APP}/contacts?filter=${encodeURIComponent(JSON.stringify({ city: city() }))}&sort=-created_at&limit=20`,
      headers: auth(),
    }),
    graphql: () =>
      graphql(
        `query ($city: String!) { contacts(first: 20, orderBy: CREATED_AT_DESC, filter: {city: {equalTo: $city}}) { nodes { ${FIELDS} } } }`,
        { city: city() },
      ),
  },
  "single insert": {
    reference: () => ({ method: "POST", path: "/insert", headers: auth(), body: record() }),
    rest: () => ({ method: "POST", path: `${APP}/contacts`, headers: auth(), body: record() }),
  },
};

try {
  for (const [name, kinds] of Object.entries(CASES)) await measure(name, kinds);
} finally {
  for (const server of [rowhouse, ...references]) server.stop();
  await client.end();
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}

async function measure(name: string, kinds: Case): Promise<void> {
  const contenders = [
    { name: "REST", server: rowhouse, request: kinds.rest },
    ...(kinds.graphql ? [{ name: "GraphQL", server: rowhouse, request: kinds.graphql }] : []),
    ...references.map((server) => ({ name: server.name, server, request: kinds.reference })),
  ];
  const samples = new Map(contenders.map((contender) => [contender.name, [] as Sample[]]));
  for (const { server, request } of contenders) await shoot(server, request, 1);
  for (let round = 0; round < ROUNDS; round++) {
    for (const { name: who, server, request } of contenders)
      samples.get(who)?.push(await shoot(server, request, SECONDS));
  }
  const rate = (who: string) => median(samples.get(who) ?? [], "rate");
  for (const { name: who } of contenders) {
    const list = samples.get(who) ?? [];
    const ratio = (to: string) => Number((rate(who) / rate(to)).toFixed(2));
    console.log(
      JSON.stringify({
        case: name,
        server: who,
        requests_per_second: Math.round(rate(who)),
        p50_ms: median(list, "p50"),
        p99_ms: median(list, "p99"),
        server_cpu_us: Math.round(median(list, "serverCpu")),
        postgres_cpu_us: Math.round(median(list, "postgresCpu")),
        of_limit: ratio("limit"),
        of_pipelined: ratio("pipelined"),
        of_naive: ratio("naive"),
      }),
    );
  }
}

async function shoot(server: Server, request: () => object, duration: number): Promise<Sample> {
  const [own, postgres] = [cpuOf(server.pid), cpuOfPostgres(postmaster)];
  const result = await autocannon({
    url: server.base,
    connections: CONNECTIONS,
    duration,
    requests: [{ setupRequest: (defaults: object) => ({ ...defaults, ...request() }) }],
  });
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${server.name}: ${result.non2xx} answers were not 2xx, ${result.errors} failed`);
  const total = result.requests.total;
  return {
    rate: total / result.duration,
    p50: result.latency.p50,
    p99: result.latency.p99,
    serverCpu: ((cpuOf(server.pid) - own) * 1e6) / total,
    postgresCpu: ((cpuOfPostgres(postmaster) - postgres) * 1e6) / total,
  };
}

function median(samples: Sample[], key: keyof Sample): number {
  const sorted = samples.map((sample) => sample[key]).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function start(name: string, script: string, args: string[]): Promise<Server> {
  const child = spawn(process.execPath, [fileURLToPath(new URL(script, import.meta.url)), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, GRAPHILE_ENV: "production" },
  });
  return new Promise((done, fail) => {
    child.once("exit", (code) => fail(new Error(`${name} ended with ${code}`)));
    child.stdout.once("data", (chunk) =>
      done({
        name,
        pid: child.pid as number,
        base: `http://127.0.0.1:${String(chunk).trim()}`,
        stop: () => child.kill("SIGKILL"),
      }),
    );
  });
}

async function fill(): Promise<void> {
  const text = { type: "string" };
  const properties = {
    name: text,
    email: { type: "string", format: "email" },
    city: { type: "string", "x-index": true },
    age: { type: "integer", minimum: 0 },
    balance: { type: "number", format: "decimal", precision: 12, scale: 2 },
    active: { type: "boolean" },
    born: { type: "string", format: "date" },
    note: text,
  };
  await client.query("insert into auth.accounts (email) values ('bench@bench.test')");
  await client.query("select tenancy.create_organization('bench')");
  await client.query("select tenancy.create_site('bench', 'bench')");
  await client.query("select tenancy.create_app('bench', 'crm')");
  await client.query("select tenancy.add_member('bench', 'bench@bench.test', 'editor')");
  await client.query("select data.define_entity('bench/crm', 'contacts', $1)", [
    { type: "object", required: ["name"], properties },
  ]);
  for (let done = 0; done < RECORDS; done += 10_000) {
    await client.query(
      `select jsonb_array_length(data.insert('bench/crm/contacts', (select jsonb_agg(jsonb_build_object('name', 'Person ' || g, 'email', 'p' || g || '@example.com',
         'city', 'City ' || g % $3, 'age', g % 90, 'balance', (g % 10000) / 100.0, 'active', g % 2 = 0, 'born', '1980-01-01', 'note', 'A note about person ' || g))
         from generate_series($1::int + 1, least($1::int + 10000, $2::int)) g)))`,
      [done, RECORDS, CITIES],
    );
  }
  await client.query("vacuum analyze bench_crm.contacts_jsonb");
}
