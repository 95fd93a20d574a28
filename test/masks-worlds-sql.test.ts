import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { secretFields, staffIds, startWorlds, storages } from "./harness/staff.ts";

// What was promised of fields in SQL and GraphQL: two worlds that differ in nothing but what somebody may not see look the same to them, whatever they ask.

let worlds: Awaited<ReturnType<typeof startWorlds>>;
beforeAll(async () => {
  worlds = await startWorlds();
});
afterAll(() => worlds?.stop());

const { ada } = staffIds;

describe.each(storages)("in %s storage", (storage) => {
  const [name, view] = [`staff_${storage}_kind`, `acme_crm.staff_${storage}_kind`];
  const [address, kind] = [`acme/crm/${name}`, storage === "jsonb" ? "JsonbKind" : "FlatKind"];
  type Failure = { code: string; message: string; detail?: string; hint?: string };
  const psql = (sql: string) =>
    worlds.same(sql, (world) =>
      world.psql(sql).catch(({ code, message, detail, hint }: Failure) => [code, message, detail, hint]),
    );

  test("psql: the view, its functions, copies, plans and errors", async () => {
    for (const sql of [
      `select ${secretFields.join(", ")} from ${view} order by name`,
      `select name from ${view} where email = 'adele@y.test' or phone = '+47 5550 1234' or pay = 700 or note = 'aaa secret'`,
      `select name from ${view} order by pay, born desc, note`,
      `select max(pay), count(note), count(distinct email), string_agg(grade, ',') from ${view}`,
      `select 1 / (pay - 700) from ${view}`,
      `select pay::text::date from ${view}`,
      `select row_to_json(v) from ${view} v order by name`,
      `update ${view} set team = note where name = 'Ada' returning name, team, note, pay`,
      `update ${view} set team = coalesce(pay::text, email, 'red') where pay is not null or name = 'Ada' returning team`,
      `update ${view} set team = 'red' where name = 'Ada' returning *`,
      `delete from ${view} where pay = 700 returning *`,
      `select s.name from ${view} s join ${view} b on b.id = s.boss_id`,
      `select * from ${view.replace(name, `${name}__linked_friends`)}`,
      `select email from ${view}__seen_email`,
      `select * from ${view}__deleted`,
      `select * from ${view}_as_of('2999-01-01'::timestamptz)`,
      `select * from ${view}_search('aaa')`,
      `select data.find('${address}', '{"filter": {"pay": {"$gt": 100}}}')`,
      `select data.explain('${address}', '{"filter": {"note": "x"}}')`,
      "select data.index_advice('acme/crm')",
      `select data.history('${address}', '${ada}')`,
      `select data.estimated_count('select * from ${view} where pay = 700')`,
      `select access.allows_each('acme', '[{"entity": "crm/${name}", "action": "read", "id": "${ada}"}]')`,
      `select * from acme_crm.firms_${storage}_kind where total > 600 or most = 700 or newest like 'ada%'`,
      `explain (format json) select name from ${view} where pay > 600`,
      `explain (format json) select name from ${view}__seen_pay where pay > 600`,
      `explain (format json) select name from ${view}__seen_born where born > '1990-06-01'`,
      `explain (format json) select name from ${view}__seen_phone where phone > '+5'`,
    ]) {
      const answer = await psql(sql);
      // What EXPLAIN estimates tells of the values.
      if (/^explain.*__seen/.test(sql)) expect(answer).toContain("field_not_seen");
    }
    expect(
      await worlds.one.psql(
        `explain (format json) select name from ${view}__seen_pay where pay > 600`,
        "otto",
      ),
    ).toHaveLength(1);
  });

  test("GraphQL: records, relations and refusals", async () => {
    const list = `staff${kind}s`;
    const one_ = `staff${kind}`;
    const fields =
      "name email phone born pay grade note home tags yearly isRich bossId boss { name pay } crew { nodes { name } } friends { nodes { name } } friendOf { nodes { name } } firm { name total most rich newest }";
    for (const query of [
      `{ ${list}(orderBy: NAME_ASC) { totalCount nodes { ${fields} } } }`,
      `{ ${one_}(id: "${ada}") { ${fields} } }`,
      `{ ${one_}ByEmail(email: "adele@y.test") { name } }`,
      `{ ${list}(filter: { pay: { greaterThan: "600" } }) { nodes { name } } }`,
      `{ ${list}(filter: { isRich: { equalTo: true } }) { nodes { name } } }`,
      `{ ${list}(filter: { friends: { some: { name: { equalTo: "Bea" } } } }) { nodes { name } } }`,
      `{ ${list}(filter: { friendOfExist: true }) { nodes { name } } }`,
      `{ ${list}(filter: { crewExist: true }) { nodes { name } } }`,
      `{ ${list}(orderBy: BOSS__NAME_ASC) { nodes { name } } }`,
      `{ ${list}(orderBy: YEARLY_ASC) { nodes { name } } }`,
      `{ deleted${kind === "JsonbKind" ? "StaffJsonbKinds" : "StaffFlatKinds"} { nodes { ${fields} } } }`,
      `{ ${list}AsOf(at: "2999-01-01T00:00:00Z") { nodes { name pay note boss { name } } } }`,
      `{ ${one_}History(id: "${ada}") { version operation changes } }`,
      `{ firms${kind}s(orderBy: TOTAL_DESC, filter: { rich: { equalTo: "1" } }) { nodes { total staff { nodes { pay } } } aggregates { sum { total } } } }`,
      `mutation { updateStaff${kind}(input: { id: "${ada}", patch: { team: "red" } }) { staff${kind} { name pay note } } }`,
      `mutation { updateStaff${kind}(input: { id: "${ada}", patch: { grade: "none" } }) { staff${kind} { name } } }`,
      `{ search(q: "Ada") { entity id title snippets record } }`,
    ])
      await worlds.same(query, async (world) => {
        const { data, errors } = await world.ask(query);
        return { data, errors };
      });
  });

  test("an upgrade guards anew what a release before has built", async () => {
    const { db, psql: ask } = worlds.one;
    const [linked, seen] = [`${view}__linked_friends`, `${view}__seen_pay`];
    const open = async () => [
      (await ask(`select * from ${linked}`)).length,
      await ask(`explain select from ${seen} where pay > 1`).then(
        () => "told",
        () => "refused",
      ),
    ];
    expect(await open()).toEqual([0, "refused"]);
    for (const [made, from, to] of [
      [seen, / AND access\.plan_seen\([^)]*\)/, ""],
      [linked, / AND \( SELECT \(\(\S+__rights\('read'::text, 1\) & '\d+'::bigint\) <> 0\)\)/, ""],
    ] as const) {
      const [row] = await db.query<{ d: string }>("select pg_get_viewdef($1::regclass) as d", [made]);
      const before = (row?.d ?? "").replace(from, to);
      expect(before).not.toBe(row?.d);
      await db.query(`create or replace view ${made} as ${before}`);
    }
    expect(await open()).toEqual([1, "told"]);
    await db.query("set role rowhouse_owner; select access.renew_views(); reset role");
    expect(await open()).toEqual([0, "refused"]);
  });
});
