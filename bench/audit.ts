// What the audit log costs: single inserts into entities of the same eight fields with and without x-audit, by the data
// functions, an update of the control plane with and without its triggers, and lists, in turn. One JSON line each: medians of the
// time and of PostgreSQL's CPU time, which other work on the machine does not change, and the ratio to the one without.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";
import { envText } from "../server/http/env.ts";
import { queryAs } from "../server/http/query.ts";
import { contacts } from "./place.ts";

const ROUNDS = Number(process.env.ROUNDS ?? 5_000);
const record = {
  name: "Person One",
  email: "p1@example.com",
  city: "Oslo",
  age: 33,
  balance: 12.5,
  active: true,
  born: "1990-05-05",
  note: "A note about somebody, as notes are.",
};
type Task = () => Promise<unknown>;

const dir = mkdtempSync(join(tmpdir(), "rowhouse-audit-"));
const cluster = await startEmbedded(dir, ["shared_buffers=256MB"]);
try {
  const urls = logins(cluster.operatorUrl, { gateway: cluster.gatewayPassword, worker: "bench" });
  await migrate(urls);
  const client = new pg.Client({ connectionString: cluster.operatorUrl });
  client.on("error", () => {}); // a failure stops the server first; it is that failure which should be seen
  await client.connect();
  await client.query("insert into auth.accounts (email) values ('bench@bench.test')");
  await client.query("select tenancy.create_organization('bench')");
  await client.query("select tenancy.create_site('bench', 'bench')");
  await client.query("select tenancy.create_app('bench', 'crm')");
  await client.query("select tenancy.add_member('bench', 'bench@bench.test', 'editor')");
  const entities = {
    plain: contacts,
    audited: { ...contacts, "x-audit": true },
    read: { ...contacts, "x-audit": { reads: true } },
  };
  for (const [name, schema] of Object.entries(entities))
    await client.query("select data.define_entity('bench/crm', $1, $2)", [name, schema]);
  // The same table without its triggers: what an update cost before.
  await client.query("create table public.unwatched (like tenancy.sites including all)");
  await client.query("insert into public.unwatched select * from tenancy.sites");
  const retitle = (table: string) => () =>
    client.query({
      name: table,
      text: `update ${table} set title = clock_timestamp()::text where name = 'bench'`,
    });
  const { rows: own } = await client.query("select pg_backend_pid() as pid");
  await measure(own[0].pid, "control-plane update", ROUNDS, {
    unwatched: retitle("public.unwatched"),
    watched: retitle("tenancy.sites"),
  });
  // As the gateway runs it: context and statement in one round trip.
  const [{ session, account }] = (
    await client.query(
      "select r #>> '{session,id}' as session, r #>> '{session,account_id}' as account from auth.open_development_session('bench@bench.test', 'bench') r",
    )
  ).rows;
  const [{ app, version }] = (
    await client.query("select id as app, definition_version as version from tenancy.apps")
  ).rows;
  const env = envText(
    {
      ip: "203.0.113.7",
      user_agent: "Mozilla/5.0 (X11; Linux x86_64)",
      origin: null,
      request_id: account,
      request: "POST /api/v1/sites/bench/apps/crm/plain",
    },
    session,
  );
  const pool = new pg.Pool({ connectionString: urls.gatewayUrl, max: 1 });
  pool.on("error", () => {});
  const insert = (entity: string, body: unknown): Task => {
    const one = Array.isArray(body)
      ? "count(*)"
      : "row_to_json(r.*)::text as body, r.version::text, r.id::text";
    const statement = {
      name: `${entity}${Array.isArray(body)}`,
      text: `select ${one} from bench_crm.${entity}_insert($1::jsonb) r`,
    };
    const text = JSON.stringify(body);
    return () => queryAs(pool, { session, account, env }, { appId: app, version }, statement, [text]);
  };
  const { rows } = await pool.query("select pg_backend_pid() as pid");
  await measure(rows[0].pid, "insert", ROUNDS, {
    plain: insert("plain", record),
    audited: insert("audited", record),
  });
  const batch = Array(1_000).fill(record);
  await measure(rows[0].pid, "insert of 1,000", Math.ceil(ROUNDS / 100), {
    plain: insert("plain", batch),
    audited: insert("audited", batch),
  });
  // A list of 20: not recorded, recorded as a request, and with the ids of its page too.
  for (const entity of ["plain", "read"])
    await client.query("select data.insert($1, $2, false)", [`bench/crm/${entity}`, JSON.stringify(batch)]);
  const compiled = async (entity: string) =>
    (await client.query("select data.compile('bench/crm', $1, 'find')->>'sql' as sql", [entity])).rows[0].sql;
  const list = (name: string, text: string): Task => {
    const statement = { name, text };
    return () => queryAs(pool, { session, account, env }, { appId: app, version }, statement, []);
  };
  const withIds = await compiled("read");
  await measure(rows[0].pid, "list of 20", ROUNDS, {
    plain: list("list plain", await compiled("plain")),
    request: list("list request", withIds.replace(/ \|\| audit\.note_seen\(.*?'list'\)/, "")),
    ids: list("list ids", withIds),
  });
  await pool.end();
  await client.end();
} finally {
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true });
}

/** Runs the tasks in turn, in the backend pid; the first is what the others are compared with. */
async function measure(
  pid: number,
  what: string,
  rounds: number,
  tasks: Record<string, Task>,
): Promise<void> {
  const cpu = () => Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1e3;
  const times = Object.entries(tasks).map(([name, run]) => ({
    name,
    run,
    wall: [] as number[],
    cpu: [] as number[],
  }));
  for (let round = 0; round < rounds; round++) {
    for (const one of times) {
      const [start, used] = [performance.now(), cpu()];
      await one.run();
      if (round < rounds / 10) continue; // the first ones prepare
      one.wall.push((performance.now() - start) * 1_000);
      one.cpu.push(cpu() - used);
    }
  }
  const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1] as number;
  const [base] = times;
  for (const one of times) {
    const [us, cpu_us] = [median(one.wall), median(one.cpu)];
    const ratio = Number((us / median(base?.wall ?? [])).toFixed(2));
    const cpu_ratio = Number((cpu_us / median(base?.cpu ?? [])).toFixed(2));
    console.log(
      JSON.stringify({
        what,
        name: one.name,
        us: Math.round(us),
        cpu_us: Math.round(cpu_us),
        ratio,
        cpu_ratio,
      }),
    );
  }
}
