// Imports as many records as argv says (default 1,000,000) of about eight fields into an entity, as `rowhouse import` does: one
// JSON line per format with seconds, CPU seconds of Node and of PostgreSQL, and Node's peak resident memory. With "infer" as the
// format a fifth of the records are companies, which the others refer to before they come, and Rowhouse finds out what they are.
import { createWriteStream, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { importInto, inferFile } from "../server/cli/import.ts";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";
import { importLines } from "../server/import/file.ts";
import { cpuOfPostgres } from "./cpu.ts";

const COUNT = Number(process.argv[2] ?? 1_000_000);
const FORMATS = (process.argv[3] ?? "ndjson,csv").split(",");
const SCHEMA = {
  type: "object",
  required: ["code", "name"],
  properties: {
    code: { type: "string", maxLength: 40, "x-unique": true },
    name: { type: "string", minLength: 1, maxLength: 80 },
    email: { type: "string", format: "email" },
    city: { enum: ["Oslo", "Rome", "Paris"] },
    age: { type: "integer", minimum: 0, maximum: 150, "x-index": true },
    balance: { type: "number", format: "decimal", precision: 12, scale: 2 },
    active: { type: "boolean" },
    born: { type: "string", format: "date" },
  },
};
const NAMES = Object.keys(SCHEMA.properties);
const record = (n: number) => ({
  code: `c${n}`,
  name: `Person ${n}`,
  email: `p${n}@example.com`,
  city: ["Oslo", "Rome", "Paris"][n % 3],
  age: n % 90,
  balance: (n % 100_000) / 4,
  active: n % 2 === 0,
  born: `19${10 + (n % 90)}-05-05`,
});
const WRITERS: Record<string, () => Generator<string>> = {
  *ndjson() {
    for (let n = 0; n < COUNT; n++) yield `${JSON.stringify(record(n))}\n`;
  },
  *csv() {
    yield `${NAMES.join(",")}\n`;
    for (let n = 0; n < COUNT; n++) yield `${Object.values(record(n)).join(",")}\n`;
  },
  *json() {
    for (let n = 0; n < COUNT; n++) yield `${n === 0 ? "[" : ",\n"}${JSON.stringify(record(n))}`;
    yield "]\n";
  },
  *infer() {
    const companies = Math.ceil(COUNT / 5);
    yield '{"contact": [';
    for (let n = 0; n < COUNT - companies; n++)
      yield `${n === 0 ? "" : ",\n"}${JSON.stringify({ contact_id: n, ...record(n), company_id: (n * 7) % companies })}`;
    yield '], "company": [';
    for (let n = 0; n < companies; n++)
      yield `${n === 0 ? "" : ",\n"}${JSON.stringify({ company_id: n, title: `Company ${n}` })}`;
    yield "]}\n";
  },
};

const dir = mkdtempSync(join(tmpdir(), "rowhouse-import-"));
const cluster = await startEmbedded(dir, ["shared_buffers=256MB", "max_wal_size=4GB"]);
try {
  await migrate(logins(cluster.operatorUrl, { gateway: cluster.gatewayPassword, worker: "bench" }));
  const client = new pg.Client({ connectionString: cluster.operatorUrl });
  client.on("error", () => {}); // a failure stops the server first; it is that failure which should be seen
  await client.connect();
  await client.query("select tenancy.create_organization('bench')");
  await client.query("select tenancy.create_site('bench', 'bench')");
  await client.query("select tenancy.create_app('bench', 'crm')");
  const postmaster = Number(readFileSync(join(dir, "postgres", "postmaster.pid"), "utf8").split("\n")[0]);
  for (const format of FORMATS) {
    const file = join(dir, `people.${format}`);
    await pipeline(Readable.from((WRITERS[format] as () => Generator<string>)()), createWriteStream(file));
    await client.query("checkpoint");
    if (format === "infer") {
      await measure(client, postmaster, format, file, inferred);
      await measure(client, postmaster, format, file, inferred);
      continue;
    }
    await client.query("select data.define_entity('bench/crm', $1, $2)", [`people_${format}`, SCHEMA]);
    for (const key of [undefined, "code"])
      await measure(client, postmaster, format, file, (client, file) =>
        importLines(
          client,
          `bench/crm/people_${format}`,
          file,
          { encoding: "utf-8", onError: "stop", ...(key ? { key } : {}) },
          () => {},
        ),
      );
  }
  await client.end();
} finally {
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}

async function inferred(client: pg.Client, file: string) {
  const loaded = await importInto(client, "bench/crm", await inferFile(file, {}));
  const sum = (name: "inserted" | "updated" | "unchanged") => loaded.reduce((all, one) => all + one[name], 0);
  return { inserted: sum("inserted"), updated: sum("updated"), unchanged: sum("unchanged"), errors: [] };
}

async function measure(
  client: pg.Client,
  postmaster: number,
  format: string,
  file: string,
  run: (client: pg.Client, file: string) => Promise<{ inserted: number; errors: unknown[] }>,
): Promise<void> {
  const [start, node, postgres] = [performance.now(), process.cpuUsage(), cpuOfPostgres(postmaster)];
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 100);
  const done = await run(client, file);
  clearInterval(timer);
  const used = process.cpuUsage(node);
  const { errors: _, ...counts } = done;
  console.log(
    JSON.stringify({
      format,
      bytes: statSync(file).size,
      ...counts,
      seconds: Number(((performance.now() - start) / 1000).toFixed(1)),
      node_cpu_s: Number(((used.user + used.system) / 1e6).toFixed(1)),
      postgres_cpu_s: Number((cpuOfPostgres(postmaster) - postgres).toFixed(1)),
      peak_rss_mb: Math.round(peak / 1024 / 1024),
    }),
  );
}
