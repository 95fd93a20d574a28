import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

// What was written into the audit log stays as it was: nobody of the platform can change it, and who can is found out.

type Verified = {
  intact: boolean;
  seals: number;
  sealed: number;
  unsealed: number;
  head: string;
  problems: { seal?: number; entry?: string; problem: string }[];
};

let db: TestDatabase;
const write = (name: string) => db.query("select data.insert('acme/crm/notes', $1)", [{ text: name }]);
// A transaction that PostgreSQL itself runs here (autovacuum's) holds sealing up too: it is tried again until no more than so many are left.
const seal = async (most = 10_000, left = 0) => {
  let sealed = 0;
  for (const end = Date.now() + 20_000; ; await sleep(50)) {
    for (let n = 1; n > 0; sealed += n)
      n = (await db.query<{ n: number }>("select audit.seal_step($1) as n", [most]))[0]?.n ?? 0;
    if ((await verify()).unsealed <= left || Date.now() > end) return sealed;
  }
};
const verify = async (head: string | null = null): Promise<Verified> => {
  const [row] = await db.query<{ r: Verified }>("select audit.verify('acme', $1) as r", [head]);
  return (row as { r: Verified }).r;
};

async function make(): Promise<TestDatabase> {
  const made = await cloneDatabase();
  for (const [site, email] of [
    ["acme", "ann@acme.test"],
    ["beta", "bob@beta.test"],
  ] as const) {
    await made.site(site, { [email]: "admin" });
    await made.query("select data.define_entity($1, 'notes', $2)", [
      `${site}/crm`,
      { type: "object", "x-audit": true, properties: { text: { type: "string" } } },
    ]);
  }
  await made.query("select tenancy.set_member_role('acme', 'ann@acme.test', 'owner')");
  return made;
}

describe("append-only", () => {
  beforeAll(async () => {
    db = await make();
    await write("kept");
    await seal();
  });
  afterAll(() => db.drop());

  const month = new Date().toISOString().slice(0, 7).replace("-", "_");
  const attacks = [
    "update audit.entries set action = 'x'",
    "delete from audit.entries",
    "truncate audit.entries",
    `update audit.entries_12_${month} set action = 'x'`,
    `delete from audit.entries_12_${month}`,
    `truncate audit.entries_12_${month}`,
    `drop table audit.entries_12_${month}`,
    `alter table audit.entries detach partition audit.entries_12_${month}`,
    "alter table audit.entries disable trigger all",
    "alter table audit.entries disable row level security",
    "alter table audit.entries add column mine int",
    "drop trigger entries_before_change on audit.entries",
    "create or replace function audit.refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    "alter function audit.digest(audit.entries) rename to mine",
    "drop schema audit cascade",
    "alter schema audit owner to current_user",
    "delete from audit.seals",
    "update audit.seals set hash = previous",
    "insert into audit.seals select * from audit.seals",
    "delete from audit.sealed",
    "update audit.heads set n = 0",
    "update audit.sealing set sealed_to = '0'",
    "set role rowhouse_auditor",
  ];
  const roles = [
    "site_acme",
    "rowhouse_owner",
    "rowhouse_account",
    "rowhouse_data",
    "rowhouse_gateway",
    "rowhouse_worker",
  ];

  test.each(roles)("%s can change nothing of it", async (role) => {
    const client = new pg.Client({ connectionString: db.operatorUrl });
    await client.connect();
    try {
      const [site] = await db.query<{ role: string }>(
        "select role_name as role from tenancy.sites where name = 'acme'",
      );
      // As its own login, so that SET ROLE is checked against the role itself.
      const session = role === "site_acme" ? (site?.role as string) : role;
      await client.query(`set session authorization ${session}`);
      for (const attack of attacks) {
        const { code } = await refusal(client.query(attack));
        expect([attack, code]).toEqual([attack, "42501"]);
      }
      for (const call of ["audit.drop_expired()", "audit.seal_step()", "audit.create_partitions()"])
        if (role !== "rowhouse_worker")
          expect((await refusal(client.query(`select ${call}`))).code).toBe("42501");
    } finally {
      await client.end();
    }
  });

  test("not even a superuser by a plain statement", async () => {
    for (const attack of attacks.slice(0, 6))
      expect(await refusal(db.query(attack))).toMatchObject({ code: "RH403" });
  });

  test("nobody but the platform writes into it, nor reads it past audit.search", async () => {
    await db.as("acme", "ann@acme.test", async (client) => {
      for (const attack of [
        "insert into audit.entries (env, action, object) values ('{}', 'x', 'y')",
        "select * from audit.entries",
        "select audit.note_rows('x', '{}', '{}', '{}', '{}')",
        `select audit.note_denied('[{"site": "acme"}]')`,
        "select audit.find('{}', null, '{}')",
        "select audit.verify_chain('00000000-0000-0000-0000-000000000000')",
        "select audit.chain_entries('00000000-0000-0000-0000-000000000000')",
        "create trigger mine after insert on acme_crm.notes_jsonb for each statement execute function audit.note_change()",
        "alter table acme_crm.notes_jsonb disable trigger all",
        "drop trigger notes_note_changes_insert on acme_crm.notes_jsonb",
      ])
        expect([attack, (await refusal(client.query(attack))).code]).toEqual([attack, "42501"]);
      expect((await refusal(client.query("select audit.search('beta')"))).code).toBe("RH404");
      expect((await refusal(client.query("select audit.search(null)"))).code).toBe("RH403");
      expect((await refusal(client.query("select audit.verify(null)"))).code).toBe("RH403");
      const { rows } = await client.query("select audit.search('acme') #>> '{data,0,site}' as site");
      expect(rows[0].site).toBe("acme");
    });
  });

  test("every partition is protected as the table is", async () => {
    const rows = await db.query<{ name: string }>(
      `select c.relname as name from pg_class c where c.relnamespace = 'audit'::regnamespace and c.relkind in ('r', 'p')
         and (not c.relrowsecurity or not c.relforcerowsecurity or c.relowner <> 'rowhouse_auditor'::regrole
           or has_table_privilege('rowhouse_owner', c.oid, 'update, delete, truncate'))`,
    );
    expect(rows).toEqual([]);
    expect(await db.query("select from pg_auth_members where roleid = 'rowhouse_auditor'::regrole")).toEqual(
      [],
    );
  });
});

describe("tampering by a superuser shows", () => {
  beforeEach(async () => {
    db = await make();
    for (const name of ["a", "b", "c", "d", "e", "f"]) await write(name);
    await seal(4);
    expect(await verify()).toMatchObject({ intact: true, unsealed: 0, problems: [] });
  });

  const entry = (name: string) => `(select id from audit.entries where new->>'text' = '${name}')`;
  test.each<[what: string, tamper: string, problem: string]>([
    [
      "an entry that was changed",
      `update audit.entries set account_id = null, new = '{"text": "z"}' where id = ${entry("c")}`,
      "an entry was changed",
    ],
    [
      "one character of it",
      `update audit.entries set reason = '' where id = ${entry("c")}`,
      "an entry was changed",
    ],
    [
      "an entry that was removed",
      `delete from audit.entries where id = ${entry("c")}`,
      "an entry was removed",
    ],
    [
      "two entries that were swapped",
      `update audit.entries e set new = jsonb_build_object('text', case e.new->>'text' when 'b' then 'c' else 'b' end) where e.new->>'text' in ('b', 'c')`,
      "an entry was changed",
    ],
    [
      "an entry that was moved in time",
      `update audit.entries set at = at - interval '1 minute' where id = ${entry("c")}`,
      "an entry was changed",
    ],
    [
      "an entry that was added to the past",
      `insert into audit.entries (tx, keep, site_id, env, action, object) select e.tx, e.keep, e.site_id, e.env, 'create', 'x' from audit.entries e where id = ${entry("c")}`,
      "an entry was added to what was sealed",
    ],
    [
      "an entry and its place in the seal",
      `with gone as (delete from audit.entries where id = ${entry("c")} returning id) update audit.sealed s set ids = array_remove(s.ids, g.id) from gone g`,
      "what this seal covers is lost or changed",
    ],
    [
      "the end cut off",
      "with last as (delete from audit.seals s where s.n = (select max(n) from audit.seals x where x.chain = s.chain) returning *) delete from audit.sealed s using last l where l.chain = s.chain and l.n = s.n",
      "the last seal is not the one that was made last",
    ],
    [
      "a seal taken out of the middle",
      "delete from audit.seals where n = 2",
      "a seal before this one is missing",
    ],
    [
      "a seal made anew",
      "update audit.seals s set entries = entries + 1 where n = 2",
      "its hash is not that of its content",
    ],
    ["the head forgotten", "delete from audit.heads", "the place of the last seal is lost"],
  ])("%s", async (_what, tamper, problem) => {
    const head = (await verify()).head;
    const client = await db.pool.connect();
    await client.query("set session_replication_role = replica");
    await client.query(tamper);
    await client.query("reset session_replication_role");
    client.release();
    const verified = await verify();
    expect(verified.intact).toBe(false);
    expect(verified.problems.map((one) => one.problem)).toContain(problem);
    expect(head).toMatch(/^\d+:[0-9a-f]{64}$/);
    await db.drop();
  });

  test("a chain made wholly anew is found by a head that was written down", async () => {
    const head = (await verify()).head;
    expect(await verify(head)).toMatchObject({ intact: true });
    await write("later");
    await seal();
    expect(await verify(head)).toMatchObject({ intact: true });
    const client = await db.pool.connect();
    await client.query("set session_replication_role = replica");
    await client.query(`delete from audit.entries where id = ${entry("c")}`);
    await client.query(
      "delete from audit.seals; delete from audit.sealed; delete from audit.heads; update audit.sealing set sealed_to = '0'",
    );
    await client.query("reset session_replication_role");
    client.release();
    await seal();
    expect(await verify()).toMatchObject({ intact: true }); // nothing within can tell
    expect((await verify(head)).problems).toMatchObject([
      { problem: "the chain does not contain the head that was written down" },
    ]);
    await db.drop();
  });
});

describe("sealing", () => {
  beforeAll(async () => {
    db = await make();
    await seal();
  });
  afterAll(() => db.drop());

  test("writers at once, and sealers at once, leave one intact chain", async () => {
    const pool = new pg.Pool({ connectionString: db.operatorUrl, max: 6 });
    pool.on("error", () => {});
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        for (let n = 0; n < 25; n++) {
          await pool.query("select data.insert('acme/crm/notes', $1)", [{ text: `w${n}` }]);
          if (n % 5 === 0) await pool.query("select audit.seal_step(7)");
        }
      }),
    );
    await pool.end();
    expect((await verify()).intact).toBe(true);
    await seal();
    expect(await verify()).toMatchObject({ intact: true, unsealed: 0 });
  });

  test("waits for a transaction that runs, and loses nothing of it", async () => {
    const open = await db.pool.connect();
    await open.query("begin");
    await open.query(`select data.insert('acme/crm/notes', '{"text": "slow"}')`);
    await write("fast");
    await seal(10_000, 1);
    expect(await verify()).toMatchObject({ intact: true, unsealed: 1 });
    await open.query("commit");
    open.release();
    expect((await verify()).unsealed).toBe(2);
    expect(await seal()).toBe(2);
    expect(await verify()).toMatchObject({ intact: true, unsealed: 0 });
  });

  test("waits for no transaction of another database", async () => {
    const elsewhere = new pg.Client({ connectionString: db.operatorUrl.replace(/[^/]+$/, "postgres") });
    await elsewhere.connect();
    await elsewhere.query("begin");
    await elsewhere.query("select pg_current_xact_id()");
    await write("next to it");
    expect(await seal()).toBe(1);
    expect(await verify()).toMatchObject({ intact: true, unsealed: 0 });
    await elsewhere.end();
  });

  test("killed in the middle, it goes on as if it had not begun", async () => {
    await write("k1");
    await write("k2");
    const before = await verify();
    const client = new pg.Client({ connectionString: db.operatorUrl });
    client.on("error", () => {});
    await client.connect();
    const { rows } = await client.query("select pg_backend_pid() as pid");
    await client.query("begin");
    let sealed = 0;
    for (const end = Date.now() + 20_000; sealed < 2 && Date.now() < end; await sleep(50))
      sealed += (await client.query("select audit.seal_step() as n")).rows[0].n;
    expect(sealed).toBe(2);
    await db.query("select pg_terminate_backend($1, 5000)", [rows[0].pid]);
    await client.end().catch(() => {});
    expect(await verify()).toEqual(before);
    expect(await seal()).toBe(2);
    expect(await verify()).toMatchObject({ intact: true, unsealed: 0 });
  });

  test("goes on in a database that was restored, where transactions are counted anew", async () => {
    const client = await db.pool.connect();
    await client.query("update audit.sealing set sealed_to = '99999999999'");
    client.release();
    const running = await db.pool.connect();
    await running.query("begin; select pg_current_xact_id()");
    await write("restored");
    expect((await db.query("select audit.seal_step() as n"))[0]?.n).toBe(0); // one that runs may precede it
    await running.query("commit");
    running.release();
    expect(await seal()).toBe(1);
    await write("after");
    expect(await seal()).toBe(1);
    expect(await verify()).toMatchObject({ intact: true, unsealed: 0 });
  });

  test("seals nothing twice when, after a restore, transactions are counted up to where they were", async () => {
    await db.query(
      "insert into audit.entries (keep, tx, site_id, env, action, object) select 84, (pg_snapshot_xmax(pg_current_snapshot())::text::int8 + 40)::text::xid8, id, '{}', 'x', 'before' from tenancy.sites where name = 'acme'",
    );
    const client = await db.pool.connect();
    await client.query("update audit.sealing set sealed_to = '99999999999'");
    client.release();
    expect(await seal(10_000, 1)).toBe(1); // it stays counted as unsealed, its transaction being one to come
    for (let n = 0; n < 60; n++) await db.query("select pg_current_xact_id()");
    await write("where they were");
    expect(await seal()).toBe(1);
    expect(await verify()).toMatchObject({ intact: true, unsealed: 0 });
  });
});

describe("entries are kept", () => {
  beforeAll(async () => {
    db = await make();
  });
  afterAll(() => db.drop());
  const kept = async () =>
    Object.fromEntries(
      (
        await db.query<{ keep: number; n: number }>(
          "select keep, count(*)::int as n from audit.entries where object = 'old' group by keep",
        )
      ).map((row) => [row.keep, row.n]),
    );
  const partitions = async () =>
    (
      await db.query<{ name: string }>(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'audit.entries'::regclass order by 1",
      )
    ).map((row) => row.name);

  test("partitions are made ahead, once", async () => {
    const before = await partitions();
    expect(before.length).toBe(4 * 4 + 1);
    expect(await db.query("select audit.create_partitions() as n")).toEqual([{ n: 0 }]);
    expect(await db.query("select audit.create_partitions(5) as n")).toEqual([{ n: 8 }]);
  });

  test("a partition that is missing lets no write fail", async () => {
    await db.query(
      "insert into audit.entries (at, keep, env, action, object) values ('2030-01-15', 84, '{}', 'x', 'future')",
    );
    const client = await db.pool.connect();
    await client.query("set role rowhouse_auditor");
    for (const name of (await partitions()).filter((one) => one.includes("_12_")))
      await client.query(`drop table ${name}`);
    await client.query("reset role");
    client.release();
    await write("without partition");
    expect(
      await db.query(
        "select tableoid::regclass::text as part from audit.entries where new->>'text' = 'without partition'",
      ),
    ).toEqual([{ part: "audit.entries_others" }]);
    await db.query("select audit.create_partitions()"); // not of this month: its entries are where they are
    await write("still");
    await seal();
    expect(await verify()).toMatchObject({ intact: true });
  });

  test("retention drops whole partitions, when their last entry is due, and the chain stays intact", async () => {
    // Four years ago: what is kept for 36 months is due, what is kept for 84 is not.
    const client = await db.pool.connect();
    await client.query("set role rowhouse_auditor");
    const then = new Date();
    then.setUTCDate(15);
    then.setUTCFullYear(then.getUTCFullYear() - 4);
    for (const keep of [36, 84]) {
      const month = then.toISOString().slice(0, 7);
      const next = new Date(Date.UTC(then.getUTCFullYear(), then.getUTCMonth() + 1, 1)).toISOString();
      const name = `audit.entries_${keep}_${month.replace("-", "_")}`;
      await client.query(
        `create table ${name} partition of audit.entries for values from (${keep}, '${month}-01T00:00Z') to (${keep}, '${next}')`,
      );
      await client.query("reset role");
      await client.query(
        "insert into audit.entries (at, keep, site_id, env, action, object) select $1, $2, id, '{}', 'x', 'old' from tenancy.sites where name = 'acme'",
        [then, keep],
      );
      await client.query("set role rowhouse_auditor");
    }
    await client.query("reset role");
    client.release();
    await seal();
    expect(await kept()).toEqual({ 36: 1, 84: 1 });
    expect(await db.query("select audit.drop_expired() as n")).toEqual([{ n: 1 }]);
    expect(await kept()).toEqual({ 84: 1 });
    expect(await verify()).toMatchObject({ intact: true, problems: [] });
    expect(await db.query("select audit.drop_expired() as n")).toEqual([{ n: 0 }]);
  });

  test("a site says for how long its records' entries are kept; the control plane's stay seven years", async () => {
    await db.query(`select tenancy.update_site_settings('acme', '{"audit": {"keep_months": 36}}')`);
    await write("longer");
    expect(await db.query("select keep from audit.entries where new->>'text' = 'longer'")).toEqual([
      { keep: 36 },
    ]);
    expect(await db.query("select distinct keep from audit.entries where object like 'tenancy.%'")).toEqual([
      { keep: 84 },
    ]);
    expect(
      await refusal(db.query(`select tenancy.update_site_settings('acme', '{"audit": {"keep_months": 1}}')`)),
    ).toMatchObject({ code: "RH400" });
  });

  test("the worker's login may seal and keep, and read nothing", async () => {
    const pool = new pg.Pool({ connectionString: db.workerUrl, max: 1 });
    pool.on("error", () => {});
    await pool.query("select audit.seal_step(), audit.create_partitions(), audit.drop_expired()");
    for (const attack of [
      "select * from audit.entries",
      "select audit.search('acme')",
      "select audit.verify('acme')",
    ])
      expect((await refusal(pool.query(attack))).code).toBe("42501");
    await pool.end();
  });
});

test("docs/audit.md is true: its examples run, in their order", async () => {
  const guide = await cloneDatabase();
  for (const statement of [
    "tenancy.create_organization('acme')",
    "tenancy.create_site('acme', 'acme')",
    "tenancy.create_app('acme', 'crm')",
  ])
    await guide.query(`select ${statement}`);
  const page = readFileSync(new URL("../docs/audit.md", import.meta.url), "utf8");
  let answers = 0;
  for (const [, sql] of page.matchAll(/```sql\n([\s\S]*?)```/g))
    for (const [, statement, answer] of (sql as string).matchAll(/([\s\S]+?;)(?: -- (.*))?\n/g)) {
      const { rows } = await guide.pool.query({ text: statement as string, rowMode: "array" });
      const said = (rows as unknown[][])
        .flat()
        .map((value) => (typeof value === "string" ? value : JSON.stringify(value)));
      if (answer !== undefined) expect([++answers, said.join(", ")]).toEqual([answers, answer]);
    }
  expect(answers).toBe(7);
  await guide.drop();
});
