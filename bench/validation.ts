// What validation costs an insert: entities of the same eight fields with and without keywords, by the data functions,
// in turn. One JSON line per entity and size of batch: medians of the time and of PostgreSQL's CPU time, which other work
// on the machine does not change, and its ratio to the entity without.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";

// Calls of each entity.
const SIZES = [
  { records: 1, rounds: 6_000 },
  { records: 1_000, rounds: 60 },
];

const plain = {
  name: { type: "string" },
  email: { type: "string" },
  city: { type: "string" },
  age: { type: "integer" },
  balance: { type: "number", format: "decimal" },
  active: { type: "boolean" },
  born: { type: "string", format: "date" },
  note: { type: "string" },
};
const common = {
  ...plain,
  name: { type: "string", minLength: 1, maxLength: 80, pattern: "^[A-Z]" },
  email: { type: "string", format: "email", maxLength: 200 },
  city: { enum: ["Oslo", "Rome", "Paris"] },
  age: { type: "integer", minimum: 0, maximum: 150 },
  balance: { type: "number", format: "decimal", precision: 12, scale: 2, minimum: 0 },
  note: { type: "string", maxLength: 500 },
};
const ENTITIES: Record<string, object> = {
  unchecked: { type: "object", properties: plain }, // its check of types is taken away too
  unvalidated: { type: "object", properties: plain },
  validated: { type: "object", required: ["name", "email"], properties: common },
  combined: {
    type: "object",
    required: ["name", "email"],
    properties: common,
    if: { properties: { city: { const: "Rome" } }, required: ["city"] },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { required: ["note"] },
  },
  interpreted: {
    type: "object",
    required: ["name", "email"],
    properties: common,
    propertyNames: { maxLength: 20 },
  },
};
const record = (n: number) => ({
  name: `Person ${n}`,
  email: `p${n}@example.com`,
  city: "Oslo",
  age: n % 90,
  balance: 12.5,
  active: true,
  born: "1990-05-05",
  note: "A note about somebody, as notes are.",
});

const dir = mkdtempSync(join(tmpdir(), "rowhouse-validation-"));
const cluster = await startEmbedded(dir, ["shared_buffers=256MB", "fsync=off", "synchronous_commit=off"]);
try {
  await migrate(logins(cluster.operatorUrl, { gateway: cluster.gatewayPassword, worker: "bench" }));
  const client = new pg.Client({ connectionString: cluster.operatorUrl });
  client.on("error", () => {}); // a failure stops the server first; it is that failure which should be seen
  await client.connect();
  await client.query("insert into auth.accounts (email) values ('bench@bench.test')");
  await client.query("select tenancy.create_organization('bench')");
  await client.query("select tenancy.create_site('bench', 'bench')");
  await client.query("select tenancy.create_app('bench', 'crm')");
  await client.query("select tenancy.add_member('bench', 'bench@bench.test', 'editor')");
  for (const [name, schema] of Object.entries(ENTITIES))
    await client.query("select data.define_entity('bench/crm', $1, $2)", [name, schema]);
  const { rows } = await client.query(
    "select pg_get_functiondef('bench_crm.unchecked_before_write'::regproc) as f",
  );
  const unchecked = (rows[0].f as string).replace(
    /if \(\([\s\S]*?\) is not false\) is not true then/,
    "if false then",
  );
  if (unchecked === rows[0].f) throw new Error("The write rule has no quick check.");
  await client.query(unchecked);
  await client.query("call tenancy.enter('bench', 'bench@bench.test')");
  for (const size of SIZES) await measure(client, size.records, size.rounds);
  await client.end();
} finally {
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}

async function measure(client: pg.Client, records: number, rounds: number): Promise<void> {
  const body = JSON.stringify(
    records === 1 ? record(1) : Array.from({ length: records }, (_, n) => record(n)),
  );
  const pid = (await client.query("select pg_backend_pid() as pid")).rows[0].pid as number;
  const cpu = () => Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  const times = new Map(
    Object.keys(ENTITIES).map((name) => [name, { wall: [] as number[], cpu: [] as number[] }]),
  );
  for (let round = 0; round <= rounds; round++) {
    for (const [name, list] of times) {
      const statement = {
        name: `${name}/${records}`,
        text: `select count(*) from bench_crm.${name}_insert($1)`,
        values: [body],
      };
      const [start, used] = [performance.now(), cpu()];
      await client.query(statement);
      if (round < rounds / 10) continue; // the first ones prepare
      list.wall.push(performance.now() - start);
      list.cpu.push(cpu() - used);
    }
  }
  const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1] as number;
  const base = median(times.get("unvalidated")?.cpu ?? []);
  for (const [entity, list] of times) {
    const [ms, cpu_ms] = [Number(median(list.wall).toFixed(3)), Number(median(list.cpu).toFixed(3))];
    console.log(
      JSON.stringify({ entity, records, ms, cpu_ms, ratio: Number((median(list.cpu) / base).toFixed(2)) }),
    );
  }
}
