// Where benchmarks happen: an embedded PostgreSQL with the site bench, its app crm and one account, and processes to load.
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

/** A process that answers HTTP. */
export type Server = { name: string; pid: number; base: string; stop(): void };

/** What one run of load measured: requests a second, milliseconds, CPU microseconds a request. */
export type Sample = {
  rate: number;
  p50: number;
  p97: number;
  p99: number;
  serverCpu: number;
  postgresCpu: number;
};

/** Path of the app's records. */
export const APP = "/api/v1/sites/bench/apps/crm";

const text = { type: "string" };
/** Eight fields, as an entity of a CRM has them; one is indexed. */
export const contacts = {
  type: "object",
  required: ["name"],
  properties: {
    name: text,
    email: { type: "string", format: "email" },
    city: { type: "string", "x-index": true },
    age: { type: "integer", minimum: 0 },
    balance: { type: "number", format: "decimal", precision: 12, scale: 2 },
    active: { type: "boolean" },
    born: { type: "string", format: "date" },
    note: text,
  },
};

/** Starts the cluster, with PostgreSQL's settings given, and makes site, app and account. */
export async function openPlace(...postgresSettings: string[]) {
  const dir = mkdtempSync(join(tmpdir(), "rowhouse-bench-"));
  const cluster = await startEmbedded(dir, ["shared_buffers=512MB", ...postgresSettings]);
  const postmaster = Number.parseInt(readFileSync(join(dir, "postgres", "postmaster.pid"), "utf8"), 10);
  const urls = logins(cluster.operatorUrl, { gateway: cluster.gatewayPassword, worker: "bench" });
  await migrate(urls);
  const client = new pg.Client({ connectionString: cluster.operatorUrl });
  await client.connect();
  await client.query("insert into auth.accounts (email) values ('bench@bench.test')");
  await client.query("select tenancy.create_organization('bench')");
  await client.query("select tenancy.create_site('bench', 'bench')");
  await client.query("select tenancy.create_app('bench', 'crm')");
  await client.query("select tenancy.add_member('bench', 'bench@bench.test', 'editor')");
  const servers: Server[] = [];

  return {
    client,
    urls,
    /** Defines an entity like contacts. */
    async define(name: string, more: object = {}): Promise<void> {
      await client.query("select data.define_entity('bench/crm', $1, $2)", [name, { ...contacts, ...more }]);
    },
    /** Inserts records into such an entity, by the data functions, with so many cities. */
    async fill(name: string, records: number, cities: number): Promise<void> {
      for (let done = 0; done < records; done += 10_000) {
        await client.query(
          `select jsonb_array_length(data.insert('bench/crm/' || $4, (select jsonb_agg(jsonb_build_object('name', 'Person ' || g, 'email', 'p' || g || '@example.com',
             'city', 'City ' || g % $3, 'age', g % 90, 'balance', (g % 10000) / 100.0, 'active', g % 2 = 0, 'born', '1980-01-01', 'note', 'A note about person ' || g))
             from generate_series($1::int + 1, least($1::int + 10000, $2::int)) g)))`,
          [done, records, cities, name],
        );
      }
      const [{ storage }] = (await client.query("select storage from data.entities where name = $1", [name]))
        .rows;
      await client.query(`vacuum analyze bench_crm.${name}_${storage}`);
    },
    /** Ids of an entity's records, at random. */
    async ids(name: string): Promise<string[]> {
      const { rows } = await client.query(`select id from bench_crm.${name} order by random() limit 5000`);
      return rows.map((row) => row.id as string);
    },
    /** A token of the account. */
    async token(): Promise<string> {
      const tokens = await openTokens({
        pool: client,
        masterKey: Buffer.alloc(32, 7),
        settings: readSettings({}),
      });
      return (await issueDevelopmentToken(client, tokens, { email: "bench@bench.test", site: "bench" }))
        .access_token;
    },
    /** Starts a script of bench/ that prints its port. */
    async start(name: string, script: string, args: string[]): Promise<Server> {
      const server = await startScript(name, script, args);
      servers.push(server);
      return server;
    },
    /** Loads a server for so many seconds; fails when an answer is not 2xx. */
    async shoot(
      server: Server,
      request: () => object,
      seconds: number,
      connections: number,
    ): Promise<Sample> {
      const [own, postgres] = [cpuOf(server.pid), cpuOfPostgres(postmaster)];
      const result = await autocannon({
        url: server.base,
        connections,
        duration: seconds,
        requests: [{ setupRequest: (defaults: object) => ({ ...defaults, ...request() }) }],
      });
      if (result.non2xx > 0 || result.errors > 0)
        throw new Error(`${server.name}: ${result.non2xx} answers were not 2xx, ${result.errors} failed`);
      const total = result.requests.total;
      return {
        rate: total / result.duration,
        p50: result.latency.p50,
        p97: result.latency.p97_5,
        p99: result.latency.p99,
        serverCpu: ((cpuOf(server.pid) - own) * 1e6) / total,
        postgresCpu: ((cpuOfPostgres(postmaster) - postgres) * 1e6) / total,
      };
    },
    async close(): Promise<void> {
      for (const server of servers) server.stop();
      await client.end();
      await cluster.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** The median of one measure of several samples. */
export function median(samples: Sample[], key: keyof Sample): number {
  return medianOf(samples.map((sample) => sample[key]));
}

/** The median of numbers; 0 of none. */
export function medianOf(numbers: number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** One of a list, at random. */
export const any = <T>(list: T[]): T => list[Math.floor(Math.random() * list.length)] as T;

function startScript(name: string, script: string, args: string[]): Promise<Server> {
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
