import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type pg from "pg";
import { type Crm, startCrm } from "./harness/crm.ts";

// Who has learnt an id of another site's learns nothing more by it: every function that takes ids answers as for one that nobody has.

type Called = { name: string; types: string[] };

let crm: Crm;
let ids: string[];
let functions: Called[];
const nobodys = "01900000-0000-7000-8000-000000000000";
const values: Record<string, string[]> = {
  text: ["read", "email", "acme/crm/contacts"],
  "text[]": ["{name,email,crm/contacts}"],
  jsonb: ['{"filter": {"email": "a@x.test"}}', '{"name": "Ada"}'],
  integer: ["1"],
  boolean: ["true"],
};

beforeAll(async () => {
  crm = await startCrm();
  const { db } = crm;
  const [defined] = await db.query<{ schema: { properties: Record<string, object> } }>(
    "select schema from data.entities where name = 'contacts' and site_id = $1",
    [crm.ids.acme],
  );
  const { properties, ...schema } = defined?.schema ?? { properties: {} };
  // Masked, searched, kept, noted, guarded and planned for: all that there is to tell of an entity.
  await db.query("select data.define_entity('acme/crm', 'contacts', $1)", [
    {
      ...schema,
      properties: {
        ...properties,
        name: { ...properties.name, "x-search": true },
        email: { ...properties.email, "x-mask": "email" },
      },
      "x-cache-ttl": 60,
      "x-history": true,
      "x-audit": { reads: true },
    },
  ]);
  await db.query(
    `select access.define_policy('acme', '{"name": "hidden", "effect": "deny", "entities": ["crm/contacts"],
       "actions": ["read"], "fields": {"readable": ["age"]}}')`,
  );
  await db.query("select data.plan('acme/crm/contacts', $1)", [
    { ...schema, properties: { name: properties.name } },
  ]);
  await db.query("select data.convert_storage('acme/crm/contacts', 'flat')");
  ids = (
    await db.query<{ id: string }>(
      `select $1::uuid as id
       union select e.id from data.entities e where e.site_id = $1 and e.name = 'contacts'
       union select a.id from tenancy.apps a where a.site_id = $1 and a.name = 'crm'
       union select r.id from access.roles r where r.site_id = $1 and r.name = 'editor'
       union select p.id from access.policies p where p.site_id = $1
       union select o.id from data.operations o join data.entities e on e.id = o.entity_id where e.site_id = $1
       union select p.id from data.plans p join data.entities e on e.id = p.entity_id where e.site_id = $1
       union select id from acme_crm.contacts where name = 'Ada'`,
      [crm.ids.acme],
    )
  ).map(({ id }) => id);
  functions = await db.query<Called>(
    `select p.oid::regproc::text as name, array(select t::regtype::text from unnest(p.proargtypes) t) as types
     from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname in ('rowhouse', 'tenancy', 'auth', 'access', 'data', 'audit') and p.prokind = 'f'
       and has_function_privilege('rowhouse_account', p.oid, 'execute')
       and p.proargtypes::oid[] && array['uuid', 'uuid[]', 'data.entities']::regtype[]::oid[]
     order by 1`,
  );
  // What a statement tells whoever runs it: what it returns or how it fails. Nothing of it stays.
  await db.query(`create schema asked;
    create function asked.told(statement text) returns text language plpgsql as $$
    declare
      _told text;
      _hint text;
      _detail text;
    begin
      begin
        execute statement into _told;
        raise exception using errcode = 'UNDO0';
      exception when sqlstate 'UNDO0' then
        return _told;
      end;
    exception when others then
      get stacked diagnostics _hint = pg_exception_hint, _detail = pg_exception_detail;
      return concat_ws(' | ', sqlstate, sqlerrm, _detail, _hint);
    end $$;
    grant usage on schema asked to public`);
});
afterAll(() => crm?.stop());

/** Every way of calling a function with an id, as a statement. */
function calls({ name, types }: Called, id: string): string[] {
  const literal = (value: string, type: string) => `'${value.replaceAll("'", "''")}'::${type}`;
  const choices = types.map((type) => {
    if (type === "uuid") return [literal(id, type)];
    if (type === "uuid[]") return [literal(`{${id}}`, type)];
    if (type !== "data.entities")
      return (values[type] ?? []).map((value) => literal(value, type)).concat(`null::${type}`);
    const row = JSON.stringify({ id, app_id: id, site_id: id, name: "contacts", schema: {} });
    return [`jsonb_populate_record(null::data.entities, ${literal(row, "jsonb")})`];
  });
  const lists = choices.reduce<string[][]>(
    (lists, choice) => lists.flatMap((list) => choice.map((value) => [...list, value])),
    [[]],
  );
  return lists.map((list) => `select ${name}(${list.join(", ")})::text`);
}

const entered = (email: string | null) => (work: (client: pg.ClientBase) => Promise<void>) =>
  crm.db.as("beta", email as string, work);

test.each<[string, (work: (client: pg.ClientBase) => Promise<void>) => Promise<void>]>([
  ["an editor of another site", entered("bob@beta.test")],
  ["a member of both, inside the other", entered("eve@both.test")],
  ["who is not logged in", entered(null)],
  [
    "an account in no site in particular",
    async (work) => {
      const client = await crm.db.pool.connect();
      try {
        await client.query("begin");
        await client.query("select set_config('rowhouse.account', $1, true)", [
          await crm.db.account("bob@beta.test"),
        ]);
        await client.query("set local role rowhouse_account");
        await work(client);
      } finally {
        await client.query("rollback");
        client.release();
      }
    },
  ],
])("%s learns nothing by an id", async (_who, as) => {
  const different: object[] = [];
  await as(async (client) => {
    const tell = async (statements: string[], id: string) => {
      const { rows } = await client.query<{ told: string | null }>(
        "select asked.told(s) as told from unnest($1::text[]) with ordinality x (s, n) order by n",
        [statements],
      );
      return rows.map(({ told }) => (told ?? "null").replaceAll(id, "{id}"));
    };
    const unknown = functions.flatMap((called) => calls(called, nobodys));
    const first = await tell(unknown, nobodys);
    expect(first.length).toBeGreaterThan(300);
    const told = [];
    for (const id of ids)
      told.push(
        await tell(
          functions.flatMap((called) => calls(called, id)),
          id,
        ),
      );
    // Twice, as what is wrong with a value may be told otherwise once PostgreSQL keeps a plan.
    const last = await tell(unknown, nobodys);
    for (const answers of told)
      for (const [i, answer] of answers.entries())
        if (answer !== first[i] && answer !== last[i])
          different.push({ call: unknown[i], answer, expected: first[i] });
  });
  expect(different).toEqual([]);
});
