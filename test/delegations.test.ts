import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { pino } from "pino";
import { startWorker } from "../server/worker/worker.ts";
import { startPosts } from "./harness/posts.ts";

// What is delegated is never more than the delegator holds, and ends with it, however that is lost: over REST and in psql.

let crm: Awaited<ReturnType<typeof startPosts>>;
const ann = "ann@acme.test";
const pat = "pat@acme.test";
const quinn = "quinn@acme.test";
const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const as = (email: string, sql: string, values: unknown[] = []) =>
  crm.db.as("acme", email, (client) =>
    client.query(sql, values).then(
      ({ rows }) => rows.map((row) => Object.values(row)[0]).join(" "),
      (error: { code: string }) => error.code,
    ),
  );
const role = (name: string, permissions: unknown[], inherits: string[] = []) =>
  run("select access.define_role('acme', $1)", [{ name, permissions, inherits }]);
const delegate = (to: string, what: string, by = ann, until = "1 hour") =>
  as(by, "select access.delegate('acme', $1, $2, now() + $3::interval)", [to, what, until]);
/** What pat sees of the posts, in psql and over REST. */
async function seen(email = pat) {
  const sql = await as(email, "select title from acme_crm.posts_flat_kind order by title");
  const answer = await crm.send("/api/v1/sites/acme/apps/crm/posts_flat_kind?sort=title", {
    as: crm.tokens[email] as string,
  });
  const rest = answer.status === 403 ? "" : answer.json.data.map((row) => row.title).join(" ");
  expect(rest).toBe(sql === "42501" || sql === "RH403" ? "" : sql);
  return rest;
}
const all = "a1 a2 p1 p2";
const north = { permission: "crm/posts_flat_kind:read", condition: { region: "north" } };

beforeAll(async () => {
  crm = await startPosts();
  for (const email of [pat, quinn]) crm.tokens[email] = await crm.gateway.token(email, "acme");
  await run("select access.create_group('acme', 'desk')");
});
afterAll(() => crm?.stop());
beforeEach(async () => {
  await run(
    "select access.revoke_delegation(a.id) from access.assignments a where a.delegator_id is not null",
  );
  await run("delete from access.assignments a using access.roles r where r.id = a.role_id and not r.system");
  await run("delete from access.group_members");
  await role("lower", ["crm/posts_flat_kind:read"]);
  await role("upper", ["crm/companies:read"], ["lower"]);
  expect(await seen()).toBe("");
});
const assign = (what = "upper", email = ann) =>
  run("select access.assign_role('acme', $1, $2)", [email, what]);

describe("it ends when", () => {
  const ends: [string, () => Promise<unknown>, () => Promise<unknown>][] = [
    [
      "the assignment is taken away",
      assign,
      () => run("select access.revoke_role('acme', $1, 'upper')", [ann]),
    ],
    [
      "the assignment's time is over",
      assign,
      () =>
        run(
          "update access.assignments a set valid_until = now() - interval '1 second' from access.roles r where r.id = a.role_id and r.name = 'upper' and a.delegator_id is null",
        ),
    ],
    [
      "the assignment is to begin later",
      assign,
      () =>
        run("select access.assign_role('acme', $1, 'upper', valid_from => now() + interval '1 hour')", [ann]),
    ],
    [
      "the assignment comes under a condition",
      assign,
      () =>
        run(`select access.assign_role('acme', $1, 'upper', condition => '{"$env.ip": "10.0.0.1"}')`, [ann]),
    ],
    [
      "the delegator leaves the group that holds the role",
      async () => {
        await run(
          "select access.assign_role_to_group('acme', 'desk', 'upper'), access.add_to_group('acme', 'desk', $1)",
          [ann],
        );
      },
      () => run("select access.remove_from_group('acme', 'desk', $1)", [ann]),
    ],
    [
      "the group loses the role",
      async () => {
        await run(
          "select access.assign_role_to_group('acme', 'desk', 'upper'), access.add_to_group('acme', 'desk', $1)",
          [ann],
        );
      },
      () => run("select access.revoke_role_from_group('acme', 'desk', 'upper')"),
    ],
    [
      "the group is dropped",
      async () => {
        await run(
          "select access.create_group('acme', 'short'), access.assign_role_to_group('acme', 'short', 'upper'), access.add_to_group('acme', 'short', $1)",
          [ann],
        );
      },
      () => run("select access.drop_group('acme', 'short')"),
    ],
    ["the role loses the permission that it inherited", assign, () => role("lower", [])],
    ["the role inherits no more", assign, () => role("upper", ["crm/companies:read"])],
    [
      "the inherited permission is narrowed",
      assign,
      () => role("lower", [{ ...north, condition: { title: "none" } }]),
    ],
    [
      "the inherited role is dropped",
      assign,
      async () => {
        await role("upper", []);
        await run("select access.drop_role('acme', 'lower')");
      },
    ],
    [
      "a push of rules takes the inheritance away",
      assign,
      () =>
        run(
          "select access.import_rules('acme', jsonb_set(access.export_rules('acme'), '{roles,upper,inherits}', '[]'))",
        ),
    ],
    ["the role is dropped", assign, () => run("select access.drop_role('acme', 'upper')")],
    [
      "the delegator's account is deleted",
      assign,
      () => run("update auth.accounts set deleted_at = now() where email = $1", [ann]),
    ],
    [
      "the delegate takes it back",
      assign,
      () =>
        as(
          pat,
          "select access.revoke_delegation(a.id) from access.assignments a where a.delegator_id is not null",
        ),
    ],
    [
      "the delegator is no member any more",
      assign,
      () => run("select tenancy.remove_member('acme', $1)", [ann]),
    ],
  ];
  test.each(ends)("%s", async (_what, give, lose) => {
    await give();
    expect(await delegate(pat, "upper")).toMatch(/^[0-9a-f-]{36}$/);
    expect(await seen()).toBe(all);
    await lose();
    expect(await seen()).toBe("");
    await run("update auth.accounts set deleted_at = null where email = $1", [ann]);
    await run(
      "select tenancy.add_member('acme', $1, 'editor') where not exists (select from tenancy.site_members m join auth.accounts a on a.id = m.account_id where a.email = $1)",
      [ann],
    );
  });
  test("and not before: with one of two ways to the role it goes on", async () => {
    await assign();
    await run(
      "select access.assign_role_to_group('acme', 'desk', 'upper'), access.add_to_group('acme', 'desk', $1)",
      [ann],
    );
    await delegate(pat, "upper");
    await run("select access.revoke_role('acme', $1, 'upper')", [ann]);
    expect(await seen()).toBe(all);
    await run("select access.revoke_role_from_group('acme', 'desk', 'upper')");
    expect(await seen()).toBe("");
  });
});

test("a conditional permission that was inherited ends for the delegate, too", async () => {
  await role("lower", [north]);
  await assign();
  await delegate(pat, "upper");
  expect(await seen()).toBe("a1 p1");
  await role("upper", ["crm/companies:read"]);
  expect(await seen()).toBe("");
  // What it inherits later was not delegated.
  await role("upper", [], ["lower"]);
  expect(await seen()).toBe("");
});

test("a role that others push anew, unchanged in what it inherits, keeps what was delegated of it", async () => {
  await assign();
  await delegate(pat, "upper");
  await run(
    `select access.import_rules('acme', jsonb_set(jsonb_set(access.export_rules('acme'), '{roles,upper,description}', '"u"'), '{roles,lower,description}', '"l"'))`,
  );
  expect(await seen()).toBe(all);
});

describe("there are no chains:", () => {
  test("what was delegated is not handed on, directly or through a group", async () => {
    await assign();
    await delegate(pat, "upper");
    expect(await delegate(quinn, "upper", pat)).toBe("RH403");
    expect(await delegate(quinn, "lower", pat)).toBe("RH403");
    expect(await delegate(ann, "upper", pat)).toBe("RH403");
    const [internal] = await run("select name from access.roles where is_internal");
    expect(await delegate(quinn, internal?.name as string, pat)).toBe("RH404");
    expect(await delegate(quinn, internal?.name as string, ann)).toBe("RH404");
  });
  test("who holds the role themselves, and by delegation, hands on what they hold themselves", async () => {
    await assign();
    await assign("upper", pat);
    await delegate(pat, "upper");
    await delegate(quinn, "upper", pat);
    expect(await seen(quinn)).toBe(all);
    // Then only by delegation.
    await run("select access.revoke_role('acme', $1, 'upper')", [pat]);
    expect([await seen(pat), await seen(quinn)]).toEqual([all, ""]);
    await run("select access.revoke_role('acme', $1, 'upper')", [ann]);
    expect([await seen(pat), await seen(quinn)]).toEqual(["", ""]);
  });
  test("two who delegate to each other keep nothing when both lose it", async () => {
    await assign("upper", pat);
    await assign("upper", quinn);
    await delegate(pat, "upper", quinn);
    await delegate(quinn, "upper", pat);
    await run("select access.revoke_role('acme', e, 'upper') from unnest($1::text[]) e", [[pat, quinn]]);
    expect([await seen(pat), await seen(quinn)]).toEqual(["", ""]);
  });
  test("nor a right to administer", async () => {
    await role("upper", ["@policies:define", "@roles:define", "@roles:assign", "crm/posts_flat_kind:read"]);
    await assign();
    await delegate(pat, "upper");
    expect(await seen()).toBe(all);
    expect(await as(pat, "select access.list_policies('acme')")).toBe("RH403");
    expect(await as(pat, `select access.define_role('acme', '{"name": "mine", "permissions": []}')`)).toBe(
      "RH403",
    );
  });
});

describe("what is left of those that have ended", () => {
  const left = async () => (await run("select count(*)::int as n from access.roles where is_internal"))[0]?.n;
  const over = () =>
    run(
      "update access.assignments set valid_until = now() - interval '1 second' where delegator_id is not null and account_id = (select id from auth.accounts where email = $1)",
      [pat],
    );
  const worker = async <T>(work: (pool: pg.Pool) => Promise<T>) => {
    const pool = new pg.Pool({ connectionString: crm.db.workerUrl, max: 8 });
    pool.on("error", () => {});
    pool.on("connect", (client) => client.on("error", () => {}));
    return work(pool).finally(() => pool.end());
  };
  const rules = async () =>
    (
      await run(
        "select count(*)::int as n from access.rules where entity_id = (select id from data.entities where name = 'posts_flat_kind' and site_id = (select id from tenancy.sites where name = 'acme'))",
      )
    )[0]?.n;

  test("is deleted by the worker, those that go on are not", async () => {
    await role("lower", [north]);
    await assign();
    const before = await rules();
    await delegate(pat, "upper");
    await delegate(quinn, "upper");
    await over();
    await worker(async (pool) => {
      const running = await startWorker(pool, pino({ level: "silent" }));
      await run("select graphile_worker.add_job('end_delegations')");
      for (const end = Date.now() + 10_000; (await left()) !== 1 && Date.now() < end; ) await sleep(20);
      await running.stop();
    });
    expect([await left(), await seen(), await seen(quinn)]).toEqual([1, "", "a1 p1"]);
    await run("update access.assignments set valid_until = now() where delegator_id is not null");
    await run("select access.end_delegations()");
    expect([await left(), await rules()]).toEqual([0, before]);
  });

  test("also where the assignment is gone; a hundred of a site at most in a transaction", async () => {
    await run(
      "insert into access.roles (site_id, name, is_internal) select s.id, 'delegated-' || n, true from tenancy.sites s, generate_series(1, 150) n where s.name in ('acme', 'beta')",
    );
    await worker(async (pool) => {
      const counts: unknown[] = [];
      for (let after: string | null = "00000000-0000-0000-0000-000000000000"; after !== null; ) {
        counts.push(await left());
        after = (await pool.query("select access.end_delegations($1) as after", [after])).rows[0]?.after;
      }
      expect(counts).toEqual([300, 200, 150, 50, 0]);
      // Nobody else may, and the worker may nothing else of it.
      expect(await as(ann, "select access.end_delegations()")).toBe("42501");
      await expect(pool.query("select * from access.roles")).rejects.toMatchObject({ code: "42501" });
    });
  });

  test("waits while somebody defines roles there, and does not keep other sites waiting", async () => {
    await run(
      "insert into access.roles (site_id, name, is_internal) select s.id, 'delegated-1', true from tenancy.sites s where s.name in ('acme', 'beta')",
    );
    const client = await crm.db.pool.connect();
    try {
      await client.query("begin");
      await client.query("select access.lock_model(id) from tenancy.sites where name = 'acme'");
      const [{ after } = { after: "" }] = await run("select access.end_delegations() as after");
      await run("select access.end_delegations($1)", [after]);
      expect(await left()).toBe(1);
    } finally {
      await client.query("rollback");
      client.release();
    }
    await run("select access.end_delegations()");
    expect(await left()).toBe(0);
  });
});
