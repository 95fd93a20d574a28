// What authorization costs: a list of 20 of an entity under 100 roles and 50 policies against the same list of one with a single
// trivial policy, interleaved; the time of a decision by access.allows; the time to recompile an entity. Again with more accounts
// and sites. One JSON line per measure.
import pg from "pg";
import { cpuOf } from "./cpu.ts";
import { APP, medianOf, openPlace } from "./place.ts";

const RECORDS = Number(process.env.RECORDS ?? 50_000);
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 2);
const SITES = 100;
const STEPS = [100, 1_000, 10_000];

const place = await openPlace();
const { client, urls } = place;
try {
  for (const name of ["guarded", "trivial"]) {
    await place.define(name, name === "trivial" ? { "x-policies": ["authenticated_read"] } : {});
    await place.fill(name, RECORDS, 500);
  }
  await client.query("select access.set_attribute_schema('bench', $1)", [
    { type: "object", properties: { city: { type: "string" }, age: { type: "integer" } } },
  ]);
  await client.query("select access.revoke_role('bench', 'bench@bench.test', 'editor')");
  for (let n = 0; n < 100; n++) await client.query("select access.define_role('bench', $1)", [role(n)]);
  for (let n = 0; n < 50; n++) await client.query("select access.define_policy('bench', $1)", [policy(n)]);
  await client.query("select access.set_attributes('bench', 'bench@bench.test', $1)", [
    { city: "City 7", age: 30 },
  ]);
  for (const n of [0, 1, 2])
    await client.query("select access.assign_role('bench', 'bench@bench.test', $1)", [`role_${n}`]);
  const server = await place.start("rowhouse", "gateway.ts", [
    urls.operatorUrl,
    urls.gatewayUrl,
    urls.workerUrl,
  ]);
  const token = await place.token();
  for (const [step, accounts] of STEPS.entries()) {
    await people(STEPS[step - 1] ?? 0, accounts);
    await lists(server, token, accounts);
    await decisions(accounts);
    await recompile(accounts);
  }
} finally {
  await place.close();
}

/** A third plain, a third by conditions, a third of one's own: the member holds one of each. */
function role(n: number): object {
  const kind = n % 3;
  const read = {
    permission: "crm/guarded:read",
    condition: kind === 0 ? { age: { $gte: 0 }, city: { $ne: `City ${n}` } } : { age: { $lt: n } },
  };
  return {
    name: `role_${n}`,
    permissions: kind === 1 ? ["crm/guarded:read:own"] : [read, "crm/guarded:update:own"],
  };
}

/** A fifth each: denials by record, by account, by both; allows; and policies of another entity. */
function policy(n: number): object {
  const conditions = [
    { effect: "deny", condition: { note: `secret ${n}` } },
    { effect: "deny", condition: { "$account.attributes.city": `City ${n + 1000}` } },
    { effect: "deny", condition: { "$account.attributes.age": { $gt: n }, city: `Nowhere ${n}` } },
    { effect: "allow", condition: { city: "$account.attributes.city" } },
    { effect: "deny", entities: ["crm/other"], condition: {} },
  ];
  return { name: `policy_${n}`, entities: ["crm/guarded"], actions: ["read"], ...conditions[n % 5] };
}

/** Accounts from one number to another, a tenth of them in this site with a role, the others spread over the other sites. */
async function people(from: number, to: number): Promise<void> {
  await client.query(
    "insert into auth.accounts (email) select 'p' || g || '@bench.test' from generate_series($1::int + 1, $2::int) g",
    [from, to],
  );
  for (let n = 1; n < SITES; n++)
    await client.query(
      "select tenancy.create_site('bench', $1) where not exists (select from tenancy.sites where name = $1)",
      [`other-${n}`],
    );
  await client.query(
    `insert into tenancy.site_members (site_id, account_id) select s.id, a.id from (select a.id, substr(a.email, 2, strpos(a.email, '@') - 2)::int as n from auth.accounts a where a.email ~ '^p[0-9]') a
     join tenancy.sites s on s.name = case a.n % 10 when 0 then 'bench' else 'other-' || (1 + a.n % ${SITES - 1}) end on conflict do nothing`,
  );
  await client.query(
    `insert into access.assignments (site_id, account_id, role_id) select m.site_id, m.account_id, r.id from tenancy.site_members m
     join access.roles r on r.site_id = m.site_id and r.name = case when r.site_id = (select id from tenancy.sites where name = 'bench') then 'role_' || (abs(hashtext(m.account_id::text)) % 100) else 'viewer' end
     where m.account_id <> (select id from auth.accounts where email = 'bench@bench.test') on conflict do nothing`,
  );
  await client.query(
    "vacuum analyze auth.accounts, tenancy.site_members, access.assignments, access.permissions, access.roles",
  );
}

async function lists(
  server: Awaited<ReturnType<typeof place.start>>,
  token: string,
  accounts: number,
): Promise<void> {
  const samples: Record<string, { rate: number[]; cpu: number[] }> = {
    guarded: { rate: [], cpu: [] },
    trivial: { rate: [], cpu: [] },
  };
  const request = (entity: string) => () => ({
    path: `${APP}/${entity}?sort=-created_at&limit=20`,
    headers: { authorization: `Bearer ${token}` },
  });
  for (const entity of Object.keys(samples)) await place.shoot(server, request(entity), 1, 20);
  for (let round = 0; round < ROUNDS; round++) {
    const names = Object.keys(samples);
    for (const entity of round % 2 ? names : names.reverse()) {
      const { rate, postgresCpu } = await place.shoot(server, request(entity), SECONDS, 20);
      samples[entity]?.rate.push(rate);
      samples[entity]?.cpu.push(postgresCpu);
    }
  }
  const of = (entity: string, key: "rate" | "cpu") => medianOf(samples[entity]?.[key] ?? []);
  print({
    case: "list of 20 over REST",
    accounts,
    guarded: of("guarded", "rate"),
    trivial: of("trivial", "rate"),
    ratio: of("guarded", "rate") / of("trivial", "rate"),
    postgres_cpu_us: of("guarded", "cpu"),
    postgres_cpu_us_trivial: of("trivial", "cpu"),
  });
}

async function decisions(accounts: number): Promise<void> {
  const ids = await place.ids("guarded");
  const member = new pg.Client({ connectionString: urls.operatorUrl });
  await member.connect();
  await member.query("call tenancy.enter('bench', 'bench@bench.test')");
  const times: number[] = [];
  const cpu = await cpuOfBackend(member);
  for (let n = 0; n < 500; n++) {
    const begun = performance.now();
    await member.query({
      name: "allows",
      text: "select access.allows('bench/crm/guarded', 'read', $1)",
      values: [ids[n % ids.length]],
    });
    times.push(performance.now() - begun);
  }
  const cpuMs = (cpu() * 1e3) / times.length;
  await member.end();
  times.sort((a, b) => a - b);
  print({
    case: "decision by access.allows",
    accounts,
    p50_ms: times[250] as number,
    p95_ms: times[475] as number,
    cpu_ms: cpuMs,
  });
}

async function recompile(accounts: number): Promise<void> {
  const times: number[] = [];
  const cpu = await cpuOfBackend(client);
  for (let n = 0; n < 9; n++) {
    const begun = performance.now();
    await client.query("select access.compile_entity(id) from data.entities where name = 'guarded'");
    times.push(performance.now() - begun);
  }
  print({
    case: "recompile one entity",
    accounts,
    ms: medianOf(times),
    cpu_ms: (cpu() * 1e3) / times.length,
  });
}

/** The CPU seconds that a connection's backend uses from now on: what a busy machine says of a time. */
async function cpuOfBackend(connection: pg.Client): Promise<() => number> {
  const pid = (await connection.query("select pg_backend_pid() as pid")).rows[0].pid as number;
  const before = cpuOf(pid);
  return () => cpuOf(pid) - before;
}

function print(line: Record<string, string | number>): void {
  console.log(
    JSON.stringify(line, (_key, value) => (typeof value === "number" ? Number(value.toFixed(2)) : value)),
  );
}
