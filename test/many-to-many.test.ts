import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { expire } from "./harness/aging.ts";
import { base, type Crm, startCrm } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGraphql } from "./harness/graphql.ts";

// A property with "x-relation": {"many": true} is a list of ids, and a table of links with true foreign keys.

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
  for (const storage of ["jsonb", "flat"]) {
    await crm.db.query("select access.create_role('acme', $1, $2)", [
      `no-labels-${storage}`,
      [`crm/posts_${storage}s:*`, `crm/kept_${storage}s:*`],
    ]);
    await crm.db.account(`kim@${storage}.test`);
    await crm.db.query("select tenancy.add_member('acme', $1, $2)", [
      `kim@${storage}.test`,
      `no-labels-${storage}`,
    ]);
    crm.tokens[`kim_${storage}`] = await crm.gateway.token(`kim@${storage}.test`, "acme");
  }
});
afterAll(() => crm.stop());

const rows = <T extends object = Record<string, unknown>>(sql: string, values?: unknown[]) =>
  crm.db.query<T>(sql, values);
const nobody = "00000000-0000-4000-8000-000000000000";

describe.each(["jsonb", "flat"])("in %s storage", (storage) => {
  const posts = `posts_${storage}s`;
  const labels = `labels_${storage}s`;
  const tags = { "x-relation": { entity: labels, many: true } };
  const define = (name: string, properties: object, more: object = {}) =>
    rows("select data.define_entity('acme/crm', $1, $2)", [
      name,
      { type: "object", "x-storage": storage, properties, ...more },
    ]);
  const label = { name: { type: "string", "x-unique": true } };
  const post = { title: { type: "string", "x-unique": true }, tags };
  const insert = async (name: string, records: object[]) =>
    (
      await rows<{ id: string }>(
        "select r.v->>'id' as id from jsonb_array_elements(data.insert($1, $2)) with ordinality r (v, n) order by n",
        [`acme/crm/${name}`, JSON.stringify(records)],
      )
    ).map(({ id }) => id);
  const send = async (method: string, path: string, body?: unknown, as = "ann") => {
    const answer = await crm.send(`${base}/${path}`, { method, body, as });
    return { status: answer.status, ...answer.json } as Record<string, unknown> & { id: string };
  };
  const titles = async (entity: string, filter: object, as = "ann") => {
    const answer = await crm.send(
      `${base}/${entity}?sort=${entity === posts ? "title" : "name"}&filter=${encodeURIComponent(JSON.stringify(filter))}`,
      { as },
    );
    return answer.status === 200
      ? answer.json.data.map((row) => row.title ?? row.name).join(" ")
      : `${answer.status} ${answer.json.code}`;
  };
  let id: Record<string, string> = {};

  beforeAll(async () => {
    await define(labels, label, { "x-ttl": true });
    await define(posts, post);
    const made = await insert(labels, [{ name: "red" }, { name: "blue" }, { name: "green" }]);
    id = Object.fromEntries(["red", "blue", "green"].map((name, i) => [name, made[i] as string]));
    const [one, two, three] = await insert(posts, [
      { title: "one", tags: [id.red, id.blue] },
      { title: "two", tags: [id.blue] },
      { title: "three" },
    ]);
    Object.assign(id, { one, two, three });
  });

  test("the list reads as it was written, and only what is sent changes", async () => {
    const made = await send("POST", posts, { title: "new", tags: [id.green, id.red?.toUpperCase()] });
    expect(made).toMatchObject({ status: 201, tags: [id.green, id.red] });
    const path = `${posts}/${made.id}`;
    expect(await send("PATCH", path, { title: "newer" })).toMatchObject({ tags: [id.green, id.red] });
    expect(await send("PATCH", path, { tags: [id.red, id.blue, id.green] })).toMatchObject({
      tags: [id.red, id.blue, id.green],
      version: 3,
    });
    expect(await send("GET", path)).toMatchObject({ tags: [id.red, id.blue, id.green] });
    expect(await send("PATCH", path, { tags: null })).toMatchObject({ tags: [] });
    expect(await send("PUT", path, { title: "newest", tags: [id.blue] })).toMatchObject({ tags: [id.blue] });
    expect(await send("PUT", path, { title: "newest" })).toMatchObject({ tags: [] });
    // The view of psql, and a record sent back whole.
    const ann = await crm.db.as("acme", "ann@acme.test", async (client) => {
      await client.query(`update acme_crm.${posts} set tags = $2 where id = $1`, [
        made.id,
        JSON.stringify([id.red]),
      ]);
      const whole = await client.query("select data.get($1, $2) as r", [`acme/crm/${posts}`, made.id]);
      const again = await client.query("select data.update($1, $2, $3) as r", [
        `acme/crm/${posts}`,
        made.id,
        whole.rows[0].r,
      ]);
      await client.query(`insert into acme_crm.${posts} (title, tags) values ('of psql', $1)`, [
        JSON.stringify([id.blue]),
      ]);
      await client.query(`delete from acme_crm.${posts} where title in ('of psql', 'newest')`);
      return again.rows[0].r;
    });
    expect(ann).toMatchObject({ tags: [id.red] });
  });

  test.each<[string, unknown, string]>([
    ["a text that is no UUID", ["'; drop table x"], "validation_failed"],
    ["no list", "red", "validation_failed"],
    ["a list of lists", [[nobody]], "validation_failed"],
    ["the same twice", [nobody, nobody], "validation_failed"],
    ["null within", [null], "validation_failed"],
    ["what does not exist", [nobody], "missing_reference"],
  ])("refused: %s", async (_title, list, code) => {
    for (const [method, path, body] of [
      ["POST", posts, { title: "bad", tags: list }],
      ["PATCH", `${posts}/${id.one}`, { tags: list }],
    ] as const)
      expect(await send(method, path, body)).toMatchObject({
        status: 422,
        code,
        errors: [{ pointer: expect.stringMatching(/^\/tags/) }],
      });
    expect(await send("GET", `${posts}/${id.one}`)).toMatchObject({ tags: [id.red, id.blue] });
  });

  test("the id of a record of another entity, of another tenant, and too many are refused", async () => {
    for (const other of [id.one, crm.ids.company, crm.ids.Ada])
      expect(await send("PATCH", `${posts}/${id.one}`, { tags: [other] })).toMatchObject({
        status: 422,
        code: "missing_reference",
      });
    const [foreign] = await rows<{ id: string }>("select id from beta_crm.contacts limit 1");
    expect(await send("PATCH", `${posts}/${id.one}`, { tags: [foreign?.id] })).toMatchObject({ status: 422 });
    const failure = await refusal(
      rows(
        "select data.update($1, $2, jsonb_build_object('tags', (select jsonb_agg(gen_random_uuid()) from generate_series(1, 10001))))",
        [`acme/crm/${posts}`, id.one],
      ),
    );
    expect(failure.message).toContain("/tags must have at most 10000 items");
  });

  test.each<[object, string]>([
    [{ tags: { $some: { name: "red" } } }, "one"],
    [{ tags: { $some: {} } }, "one two"],
    [{ tags: { $none: { name: "red" } } }, "three two"],
    [{ tags: { $every: { name: "blue" } } }, "three two"],
    [{ tags: { $exists: false } }, "three"],
    [{ "tags.name": "blue" }, "one two"],
    [{ "tags.name": { $in: ["red", "green"] } }, "one"],
    [{ tags: { $some: { [posts]: { $some: { title: "two" } } } } }, "one two"],
    [{ "tags.name": "x' or true --" }, ""],
    [{ tags: { $any: {} } }, "400 unknown_operator"],
    [{ "tags.nothing": 1 }, "400 unknown_field"],
  ])("posts by their labels: %j", async (filter, expected) => {
    expect(await titles(posts, filter)).toBe(expected);
  });

  test.each<[object, string]>([
    [{ [posts]: { $some: { title: "one" } } }, "blue red"],
    [{ [posts]: { $none: { title: "one" } } }, "green"],
    [{ [posts]: { $every: { title: "one" } } }, "green red"],
    [{ [`${posts}.title`]: "two" }, "blue"],
  ])("labels by their posts: %j", async (filter, expected) => {
    expect(await titles(labels, filter)).toBe(expected);
  });

  test("by the id alone, expanded both ways, and found in psql", async () => {
    expect(await titles(posts, { tags: { $contains: id.red } })).toBe("one");
    const one = await send("GET", `${posts}/${id.one}?expand=tags.${posts}`);
    expect(one.tags).toMatchObject([
      { name: "red", [posts]: [{ title: "one" }] },
      { name: "blue", [posts]: [{ title: "one" }, { title: "two" }] },
    ]);
    expect((await send("GET", `${labels}/${id.blue}?expand=${posts}`))[posts]).toMatchObject([
      { title: "one", tags: [id.red, id.blue] },
      { title: "two" },
    ]);
    const [found] = await rows<{ r: { data: object[] } }>("select data.find($1, $2) as r", [
      `acme/crm/${posts}`,
      { filter: { "tags.name": "red" }, select: ["title", "tags"], expand: [] },
    ]);
    expect(found?.r.data).toEqual([{ title: "one", tags: [id.red, id.blue] }]);
    const counted = await send(
      "GET",
      `${posts}?count=estimated&filter=${encodeURIComponent('{"tags":{"$some":{}}}')}`,
    );
    expect(counted.meta).toMatchObject({ count: expect.any(Number) });
  });

  test("a batch of a thousand is linked by one statement; an upsert of the same changes nothing", async () => {
    const client = await crm.db.pool.connect();
    try {
      await client.query("begin; set local track_functions = 'all'");
      const before =
        "select coalesce(sum(calls), 0)::int as calls from pg_stat_xact_user_functions where funcname = $1";
      await client.query(
        `select data.insert($1, (select jsonb_agg(jsonb_build_object('title', 'batch ' || g, 'tags', $2::jsonb)) from generate_series(1, 1000) g))`,
        [`acme/crm/${posts}`, JSON.stringify([id.green, id.red])],
      );
      expect((await client.query(before, [`${posts}_link`])).rows).toEqual([{ calls: 1 }]);
      const linked = await client.query(
        `select count(*)::int as n, count(distinct source_id)::int as s from acme_crm.${posts}__links_tags`,
      );
      expect(linked.rows).toEqual([{ n: 2003, s: 1002 }]);
      const upsert = async (list: unknown[]) =>
        (
          await client.query("select data.upsert($1, $2, '{title}')->'meta' as m", [
            `acme/crm/${posts}`,
            JSON.stringify([
              { title: "batch 1", tags: list },
              { title: "batch x", tags: list },
            ]),
          ])
        ).rows[0].m;
      expect(await upsert([id.green, id.red])).toEqual({ inserted: 1, updated: 0, unchanged: 1 });
      expect(await upsert([id.red, id.green])).toEqual({ inserted: 0, updated: 2, unchanged: 0 });
      const many = await client.query("select data.update_where($1, $2, $3, 2000, true) as r", [
        `acme/crm/${posts}`,
        { title: { $like: "batch%" } },
        { tags: [id.blue] },
      ]);
      expect(many.rows[0].r.meta).toEqual({ updated: 1001 });
      expect(many.rows[0].r.data[0].tags).toEqual([id.blue]);
      const list = await client.query("select data.update_list($1, $2) as r", [
        `acme/crm/${posts}`,
        JSON.stringify([
          { id: id.two, tags: [id.red] },
          { id: id.three, title: "3" },
        ]),
      ]);
      expect(list.rows[0].r).toMatchObject([{ tags: [id.red] }, { title: "3", tags: [] }]);
    } finally {
      await client.query("rollback");
      client.release();
    }
  });

  test("who may not read labels sees none of them, and cannot link them", async () => {
    const kim = `kim_${storage}`;
    expect(await send("GET", `${posts}/${id.one}`, undefined, kim)).toMatchObject({ tags: [] });
    expect(await titles(posts, { tags: { $some: {} } }, kim)).toBe("");
    const refused = await send("PATCH", `${posts}/${id.one}`, { tags: [id.green] }, kim);
    const missing = await send("PATCH", `${posts}/${id.one}`, { tags: [nobody] }, kim);
    expect([refused.status, refused.code]).toEqual([422, "missing_reference"]);
    expect({ ...refused, request_id: 0 }).toEqual({ ...missing, request_id: 0 });
    // What kim sends back is the list as kim sees it: the others' links stay.
    expect(await send("PATCH", `${posts}/${id.one}`, { tags: [] }, kim)).toMatchObject({ tags: [] });
    expect(await send("GET", `${posts}/${id.one}`)).toMatchObject({ tags: [id.red, id.blue] });
    expect(await send("PATCH", `${posts}/${id.one}`, { tags: [] }, "vic")).toMatchObject({ status: 403 });
    expect(await send("GET", `${posts}/${id.one}`, undefined, "bob")).toMatchObject({ status: 404 });
    const direct = await crm.db.as("acme", "ann@acme.test", async (client) => [
      await client.query(`select from acme_crm.${posts}__links_tags`).catch((e) => e.code),
      await client.query(`delete from acme_crm.${posts}__linked_tags`).catch((e) => e.code),
      (await client.query(`select from acme_crm.${posts}__linked_tags`)).rowCount,
    ]);
    expect(direct).toEqual(["42501", "42501", 3]);
    const hidden = await crm.db.as(
      "acme",
      `kim@${storage}.test`,
      async (client) => (await client.query(`select from acme_crm.${posts}__linked_tags`)).rowCount,
    );
    expect(hidden).toBe(0);
  });

  test("who may read some labels, or own posts alone, is told of no link beyond them", async () => {
    const role = async (email: string, permissions: unknown[]) => {
      const name = (email.split("@")[0] as string).concat("-", storage);
      await rows("select access.define_role('acme', $1)", [{ name, permissions }]);
      await crm.db.account(email);
      await rows(
        "select tenancy.add_member('acme', $1, 'viewer'), access.revoke_role('acme', $1, 'viewer')",
        [email],
      );
      await rows("select access.assign_role('acme', $1, $2)", [email, name]);
      crm.tokens[name] = await crm.gateway.token(email, "acme");
      return name;
    };
    const rob = await role(`rob@${storage}.test`, [
      `crm/${posts}:read`,
      `crm/${posts}:update`,
      { permission: `crm/${labels}:read`, condition: { name: { $in: ["blue", "green"] } } },
    ]);
    const sue = await role(`sue@${storage}.test`, [
      `crm/${posts}:read:own`,
      `crm/${posts}:create`,
      `crm/${labels}:read`,
    ]);
    expect(await send("GET", `${posts}/${id.one}?expand=tags`, undefined, rob)).toMatchObject({
      tags: [{ name: "blue" }],
    });
    expect(await titles(posts, { tags: { $some: {} } }, rob)).toBe("one two");
    expect(await titles(posts, { "tags.name": "red" }, rob)).toBe("");
    expect(await titles(posts, { tags: { $contains: id.red } }, rob)).toBe("");
    expect(await send("PATCH", `${posts}/${id.one}`, { tags: [id.red] }, rob)).toMatchObject({
      code: "missing_reference",
    });
    expect(await send("PATCH", `${posts}/${id.one}`, { tags: [id.green] }, rob)).toMatchObject({
      tags: [id.green],
    });
    expect((await send("GET", `${posts}/${id.one}`)).tags).toEqual(
      expect.arrayContaining([id.red, id.green]),
    );
    await send("PATCH", `${posts}/${id.one}`, { tags: [id.red, id.blue] });
    expect(await send("POST", posts, { title: "sue's", tags: [id.red] }, sue)).toMatchObject({
      status: 201,
      tags: [id.red],
    });
    expect(await titles(labels, { [posts]: { $some: {} } }, sue)).toBe("red");
    expect((await send("GET", `${labels}/${id.red}?expand=${posts}`, undefined, sue))[posts]).toMatchObject([
      { title: "sue's" },
    ]);
    const direct = await crm.db.as(
      "acme",
      `sue@${storage}.test`,
      async (client) => (await client.query(`select target_id from acme_crm.${posts}__linked_tags`)).rows,
    );
    expect(direct).toEqual([{ target_id: id.red }]);
    await rows(`delete from acme_crm.${posts} where title = $1`, ["sue's"]);
    const failure = await refusal(
      rows("select access.define_role('acme', $1)", [
        {
          name: `tagged-${storage}`,
          permissions: [{ permission: `crm/${posts}:read`, condition: { tags: { $contains: id.red } } }],
        },
      ]),
    );
    expect(failure.message).toContain("list of links");
  });

  test("a label that has expired or is deleted is in no list; restrict keeps it from being deleted", async () => {
    const [brief] = await insert(labels, [{ name: "brief" }]);
    await send("PATCH", `${posts}/${id.three}`, { tags: [brief, id.green] });
    await send("PATCH", `${labels}/${brief}`, { expires_at: new Date(Date.now() + 3_600_000) });
    await expire(crm.db, `${labels}_${storage}`, "expires_at is not null");
    expect(await send("GET", `${posts}/${id.three}`)).toMatchObject({ tags: [id.green] });
    expect(await send("PATCH", `${posts}/${id.three}`, { tags: [brief] })).toMatchObject({
      code: "missing_reference",
    });
    await rows("call data.delete_expired()");
    expect((await crm.send(`${base}/${labels}/${id.green}`, { method: "DELETE" })).status).toBe(204);
    expect(await send("GET", `${posts}/${id.three}`)).toMatchObject({ tags: [] });
    await define(posts, { ...post, tags: { "x-relation": { ...tags["x-relation"], onDelete: "restrict" } } });
    expect(await send("DELETE", `${labels}/${id.red}`)).toMatchObject({
      status: 409,
      code: "still_referenced",
    });
    const [held] = await insert(labels, [{ name: "held", expires_at: new Date(Date.now() + 3_600_000) }]);
    await send("PATCH", `${posts}/${id.three}`, { tags: [held] });
    await expire(crm.db, `${labels}_${storage}`, `id = '${held}'`);
    await rows("call data.delete_expired()");
    expect(await rows(`select from acme_crm.${labels}_${storage} where name = 'held'`)).toHaveLength(1);
    await send("PATCH", `${posts}/${id.three}`, { tags: [] });
    await define(posts, post);
  });

  test("links follow their property through plans, conversions, drop and rollback", async () => {
    const change = async (properties: object) => {
      const [p] = await rows<{ p: { plan: string; loses_data: boolean; statements: string[] } }>(
        "select data.plan($1, $2) as p",
        [`acme/crm/${posts}`, { type: "object", "x-storage": now, properties }],
      );
      await rows("select data.apply($1, true)", [p?.p.plan]);
      return p?.p;
    };
    let now = storage;
    const of = async (field: string) => (await send("GET", `${posts}/${id.one}`))[field];
    const { title } = post;
    await change({ title, marks: { ...tags, "x-renamed-from": "tags" } });
    expect(await of("marks")).toEqual([id.red, id.blue]);
    const dropped = await change({ title });
    expect(dropped).toMatchObject({ loses_data: true });
    expect(await of("marks")).toBeUndefined();
    // A new property begins empty.
    await change({ title, others: tags });
    expect(await of("others")).toEqual([]);
    await rows("select data.rollback($1, (select version - 2 from data.entities where name = $2))", [
      `acme/crm/${posts}`,
      posts,
    ]);
    expect(await of("marks")).toEqual([id.red, id.blue]);
    for (const entity of [posts, labels, posts, labels]) {
      const [e] = await rows<{ storage: string }>("select storage from data.entities where name = $1", [
        entity,
      ]);
      const other = e?.storage === "flat" ? "jsonb" : "flat";
      await rows("select data.convert_storage($1, $2)", [`acme/crm/${entity}`, other]);
      await rows("call data.run_operations()");
      if (entity === posts) now = other;
      expect(await rows("select state, error from data.operations order by created_at desc limit 1")).toEqual(
        [{ state: "done", error: null }],
      );
      expect(await of("marks")).toEqual([id.red, id.blue]);
      expect(await send("PATCH", `${posts}/${id.one}`, { marks: [id.blue] })).toMatchObject({
        marks: [id.blue],
      });
      expect(await send("PATCH", `${posts}/${id.one}`, { marks: [id.red, id.blue] })).toMatchObject({
        marks: [id.red, id.blue],
      });
      expect(await titles(labels, { [posts]: { $some: { title: "one" } } })).toBe("blue red");
    }
    const failure = await refusal(rows("select data.drop_entity($1, $2)", [`acme/crm/${labels}`, labels]));
    expect(failure).toMatchObject({ code: "RH409", message: expect.stringContaining(`${posts}.marks`) });
    await change({ title, tags: { ...tags, "x-renamed-from": "marks" } });
    await rows("select data.compact($1)", [`acme/crm/${posts}`]);
    await rows("call data.run_operations()");
    expect(
      await rows("select from pg_class where relkind = 'r' and relname like $1", [`${posts}\\_\\_links%`]),
    ).toHaveLength(1);
  });

  test("the lists are in history, and come back with what was deleted", async () => {
    const kept = `kept_${storage}s`;
    await define(kept, { note: { type: "string" }, tags }, { "x-soft-delete": true, "x-history": true });
    const [one] = await insert(kept, [{ note: "a", tags: [id.red, id.blue] }]);
    await send("PATCH", `${kept}/${one}`, { tags: [id.blue] });
    await send("PATCH", `${kept}/${one}`, { note: "b" });
    const history = async (as = "ann") =>
      ((await send("GET", `${kept}/${one}/history`, undefined, as)).data as Record<string, unknown>[]).map(
        (r) => r.changes,
      );
    expect(await history()).toEqual([
      { note: { old: "a", new: "b" } },
      { tags: { old: [id.red, id.blue], new: [id.blue] } },
      undefined,
    ]);
    // No id of a label is told to who may not read labels.
    expect(JSON.stringify(await history(`kim_${storage}`))).not.toContain(id.blue);
    const past = await send(
      "GET",
      `${kept}/${one}?as_of=${encodeURIComponent(new Date().toISOString())}`,
      undefined,
      `kim_${storage}`,
    );
    expect(past).toMatchObject({ note: "b", tags: [] });
    expect((await crm.send(`${base}/${kept}/${one}`, { method: "DELETE" })).status).toBe(204);
    const deleted = await send("GET", `${kept}?deleted=only`);
    expect(deleted.data).toMatchObject([{ tags: [id.blue] }]);
    expect(await send("POST", `${kept}/${one}/restore`)).toMatchObject({ tags: [id.blue] });
    // A label that is gone meanwhile does not keep the record from coming back.
    const [gone] = await insert(labels, [{ name: "gone" }]);
    await send("PATCH", `${kept}/${one}`, { tags: [gone, id.red] });
    await send("DELETE", `${kept}/${one}`);
    await send("DELETE", `${labels}/${gone}`);
    expect(await send("POST", `${kept}/${one}/restore`)).toMatchObject({ tags: [id.red] });
    await rows("select data.drop_entity($1, $2)", [`acme/crm/${kept}`, kept]);
  });

  test("links are counted by a rollup, exported before and imported after what they lead to, and typed", async () => {
    await define(
      labels,
      { ...label, posts: { type: "integer", "x-rollup": { relation: posts, function: "count" } } },
      {
        "x-ttl": true,
        "x-storage": (await rows("select storage from data.entities where name = $1", [labels]))[0]?.storage,
      },
    );
    expect(await send("GET", `${labels}/${id.blue}`)).toMatchObject({ posts: 2 });
    const [{ order } = { order: [] as string[] }] = await rows<{ order: string[] }>(
      "select array(select data.export_entities('acme/crm')) as order",
    );
    expect(order.indexOf(labels)).toBeLessThan(order.indexOf(posts));
    const csv = (await crm.send(`${base}/${posts}/export?format=csv&select=title,tags&sort=title`)).text;
    expect(csv).toContain(`one,"[""${id.red}"", ""${id.blue}""]"`);
    // What was exported, either way, is imported again: by its ids, after the links were taken away.
    for (const [format, type] of [
      ["csv", "text/csv"],
      ["ndjson", "application/x-ndjson"],
    ] as const) {
      const file = (await crm.send(`${base}/${posts}/export?format=${format}&select=id,title,tags`)).text;
      await rows("select data.update_where($1, '{}', '{\"tags\": []}', 100)", [`acme/crm/${posts}`]);
      const done = await crm.send(`${base}/${posts}/import?key=id`, {
        method: "POST",
        headers: { "content-type": type },
        body: Buffer.from(file),
      });
      expect([done.status, done.text]).toEqual([200, expect.stringContaining('"updated":')]);
      expect(await send("GET", `${posts}/${id.one}`)).toMatchObject({ tags: [id.red, id.blue] });
    }
    const [types] = await rows<{ t: string }>("select data.typescript_types('acme/crm') as t");
    expect(types?.t).toMatch(
      new RegExp(
        `tags: \\(string\\)\\[\\] \\| Labels${storage === "flat" ? "Flat" : "Jsonb"}\\w*\\[\\];`,
        "i",
      ),
    );
    const [api] = await rows<{ a: { components: { schemas: Record<string, never> } } }>(
      "select data.openapi('acme/crm') as a",
    );
    expect(JSON.stringify(api?.a.components.schemas)).toContain('"maxItems":10000');
  });

  test("lists and both directions use indexes under row-level security", async () => {
    const many = `many_${storage}s`;
    await define(many, { title: { type: "string" }, tags });
    await rows(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('name', 'l' || g)) from generate_series(1, 5000) g))`,
      [`acme/crm/${labels}`],
    );
    await rows(
      `select data.insert($1, (select jsonb_agg(jsonb_build_object('title', 't' || g, 'tags',
         (select jsonb_agg(id) from (select id from acme_crm.${labels} where name in ('l' || g, 'l' || (g % 40) + 1) order by name) x))) from generate_series(1, 5000) g))`,
      [`acme/crm/${many}`],
    );
    await rows("analyze");
    const plan = (name: string, shape: object, ...values: string[]) =>
      crm.db.as("acme", "ann@acme.test", async (client) => {
        const { rows: found } = await client.query(
          "select data.compile('crm', $1, 'find', $2)->>'sql' as sql",
          [name, shape],
        );
        await client.query(`prepare q as ${found[0].sql}`);
        const explained = await client.query(
          `explain (analyze, buffers off, timing off, summary off, costs off) execute q${values.length ? `(${values.map((v) => `'${v}'`).join(", ")})` : ""}`,
        );
        await client.query("deallocate q");
        return explained.rows.map((row) => row["QUERY PLAN"]).join("\n") as string;
      });
    for (const [name, shape, ...values] of [
      [many, { limit: 20 }],
      [many, { limit: 20, expand: ["tags"] }],
      [labels, { limit: 20, expand: [many] }],
      [many, { filter: { "tags.name": { $param: 1 } } }, "l4711"],
      [labels, { filter: { [many]: { $some: { id: { $param: 1 } } } } }, nobody],
      [many, { filter: { tags: { $contains: { $param: 1 } } } }, id.red as string],
    ] as [string, object, ...string[]][]) {
      const text = await plan(name, shape, ...values);
      expect([name, shape, text.match(/Seq Scan on \w+/g)]).toEqual([name, shape, null]);
      expect(text).toContain(`${many}__links_tags`);
    }
    await rows("select data.drop_entity($1, $2)", [`acme/crm/${many}`, many]);
  });

  test("an entity is linked with itself, by two properties", async () => {
    const people = `people_${storage}s`;
    const self = (name: string) => ({ "x-relation": { entity: people, many: true, inverse: `${name}_of` } });
    await define(people, { title: { type: "string" } });
    await define(people, { title: { type: "string" }, friends: self("friends"), foes: self("foes") });
    const [a, b, c] = await insert(people, [{ title: "a" }, { title: "b" }, { title: "c" }]);
    await rows("select data.update_list($1, $2)", [
      `acme/crm/${people}`,
      JSON.stringify([
        { id: a, friends: [c, b], foes: [a] },
        { id: b, friends: [a] },
      ]),
    ]);
    for (const other of [storage === "flat" ? "jsonb" : "flat", storage]) {
      expect(await send("GET", `${people}/${a}?expand=friends.friends,foes_of,friends_of`)).toMatchObject({
        friends: [
          { title: "c", friends: [] },
          { title: "b", friends: [{ title: "a", foes: [a] }] },
        ],
        foes: [a],
        foes_of: [{ title: "a" }],
        friends_of: [{ title: "b" }],
      });
      await rows("select data.convert_storage($1, $2)", [`acme/crm/${people}`, other]);
      await rows("call data.run_operations()");
    }
    // In one transaction, what is linked may be made just before.
    await rows("select data.transaction('acme/crm', $1)", [
      JSON.stringify([
        { operation: "insert", as: "new", entity: people, data: { title: "d" } },
        { operation: "insert", entity: people, data: { title: "e", friends: [{ $ref: "new.id" }, a] } },
      ]),
    ]);
    expect(await send("GET", `${people}?filter={"friends.title":"d"}`)).toMatchObject({
      data: [{ title: "e" }],
    });
    await rows("select data.drop_entity($1, $2)", [`acme/crm/${people}`, people]);
    expect(await rows("select from pg_class where relname like $1", [`${people}%`])).toEqual([]);
  });

  test("a cached list is dropped when what it is linked with goes", async () => {
    const [things, parts] = [`things_${storage}s`, `parts_${storage}s`];
    await define(parts, { name: { type: "string" } }, { "x-cache-ttl": 60 });
    await define(things, { parts: { "x-relation": { entity: parts, many: true } } }, { "x-cache-ttl": 60 });
    const [part] = await insert(parts, [{ name: "p" }]);
    await insert(things, [{ parts: [part] }]);
    const list = async () => {
      const answer = await crm.send(`${base}/${things}?select=parts`);
      return [answer.headers["x-cache"], answer.json.data];
    };
    await list();
    expect(await list()).toEqual(["hit", [{ parts: [part] }]]);
    await send("DELETE", `${parts}/${part}`);
    expect((await list())[1]).toEqual([{ parts: [] }]);
    const [explained] = await rows<{ e: object }>("select data.explain($1, $2) as e", [
      `acme/crm/${things}`,
      { filter: { parts: { $some: { name: "p" } } } },
    ]);
    expect(JSON.stringify(explained?.e)).toContain("read");
    // A property that is dropped keeps nothing from being dropped.
    const [p] = await rows<{ p: { plan: string } }>("select data.plan($1, $2) as p", [
      `acme/crm/${things}`,
      { type: "object", "x-storage": storage, properties: { name: { type: "string" } } },
    ]);
    await rows("select data.apply($1, true)", [p?.p.plan]);
    await rows("select data.drop_entity($1, $2)", [`acme/crm/${parts}`, parts]);
    const failure = await refusal(rows("select data.rollback($1, 1)", [`acme/crm/${things}`]));
    expect(failure.message).toContain("There is no entity");
    await rows("select data.drop_entity($1, $2)", [`acme/crm/${things}`, things]);
  });

  test("the longest names do, and an app with links is dropped whole", async () => {
    await rows("select tenancy.create_app('acme', $1)", [`long-${storage}`]);
    const app = `acme/long-${storage}`;
    const [left, right, field] = ["l".repeat(45), "r".repeat(45), `${"f".repeat(53)}_ids`] as const;
    const at = (entity: string, properties: object) => [
      app,
      entity,
      { type: "object", "x-storage": storage, properties },
    ];
    const linked = { "x-relation": { entity: right, many: true, name: "rights", inverse: "lefts" } };
    await rows("select data.define_entity($1, $2, $3)", at(right, { name: { type: "string" } }));
    await rows(
      "select data.define_entity($1, $2, $3)",
      at(left, {
        [field]: linked,
        [`${field}2`]: { "x-relation": { ...linked["x-relation"], name: "others", inverse: "other_lefts" } },
      }),
    );
    const [r] = await rows<{ id: string }>("select data.insert($1, '{\"name\": \"r\"}')->>'id' as id", [
      `${app}/${right}`,
    ]);
    await rows("select data.insert($1, $2)", [
      `${app}/${left}`,
      { [field]: [r?.id], [`${field}2`]: [r?.id] },
    ]);
    const [p] = await rows<{ p: { plan: string } }>("select data.plan($1, $2) as p", [
      `${app}/${left}`,
      {
        type: "object",
        "x-storage": storage,
        properties: {
          [`${field}2`]: {
            "x-relation": { ...linked["x-relation"], name: "others", inverse: "other_lefts" },
          },
        },
      },
    ]);
    await rows("select data.apply($1, true)", [p?.p.plan]);
    await rows("select data.rollback($1, 1)", [`${app}/${left}`]);
    const found = await rows<{ r: { data: object[] } }>("select data.find($1, $2) as r", [
      `${app}/${left}`,
      { expand: ["rights"], filter: { "others.name": "r" } },
    ]);
    expect(found[0]?.r.data).toMatchObject([{ [field]: [r?.id], rights: [{ name: "r" }] }]);
    await rows("select tenancy.drop_app($1, $1)", [app]);
  });

  test.each<[string, object, string]>([
    [
      "an entity that is not there",
      { ...post, x: { "x-relation": { entity: "no'body", many: true } } },
      "There is no entity",
    ],
    [
      "set null",
      { ...post, x: { "x-relation": { entity: labels, many: true, onDelete: "set null" } } },
      "must be cascade",
    ],
    ["a default", { ...post, x: { ...tags, default: [] } }, "cannot be required"],
    ["an index", { ...post, x: { ...tags, "x-index": true } }, "cannot be required"],
    ["another type", { ...post, x: { ...tags, type: "string" } }, "not supported for string"],
    [
      "a field",
      { ...post, x: { "x-relation": { entity: labels, many: true, field: "name" } } },
      "by their id",
    ],
    [
      "many that is no boolean",
      { ...post, x: { "x-relation": { entity: labels, many: "yes" } } },
      "true or false",
    ],
    [
      "a name that is another property",
      { ...post, x: { "x-relation": { entity: labels, many: true, name: "title" } } },
      "another property",
    ],
    [
      "a name that injects",
      { ...post, x: { "x-relation": { entity: labels, many: true, name: "a; drop" } } },
      "lower-case",
    ],
    ["an alias", { ...post, x: { type: "array", "x-alias": "tags" } }, "alias"],
    ["texts that become links", { ...post, title: { ...tags } }, "title"],
    ["a computed field of it", { ...post, x: { type: "integer", "x-computed": "length(tags)" } }, "tags"],
  ])("not defined: %s", async (_title, properties, message) => {
    const failure = await refusal(define(posts, properties));
    expect([failure.message, failure.code]).toEqual([
      expect.stringContaining(message),
      expect.stringMatching(/^RH4/),
    ]);
  });
});

test("GraphQL has the records both ways, filters by them and writes the ids", async () => {
  const graphql = await startGraphql(crm.db);
  try {
    const ask = async (query: string, variables: object = {}, email = "ann@acme.test") => {
      const reply = await graphql.ask("acme/crm", email, query, variables);
      return reply.errors.length ? reply.errors : reply.data;
    };
    for (const [name, tags] of [
      ["films", { name: "actors", inverse: "films" }],
      ["plays", { inverse: "plays" }],
    ] as const)
      await rows("select data.define_entity('acme/crm', $1, $2)", [
        name === "films" ? "actors" : "stages",
        { type: "object", properties: { name: { type: "string" } } },
      ]).then(() =>
        rows("select data.define_entity('acme/crm', $1, $2)", [
          name,
          {
            type: "object",
            properties: {
              title: { type: "string", "x-unique": true },
              [name === "films" ? "actor_ids" : "stages"]: {
                "x-relation": { entity: name === "films" ? "actors" : "stages", many: true, ...tags },
              },
            },
          },
        ]),
      );
    const made = await rows<{ id: string }>(
      'select r.v->>\'id\' as id from jsonb_array_elements(data.insert(\'acme/crm/stages\', \'[{"name": "big"}, {"name": "small"}]\')) r (v)',
    );
    const [big, small] = made.map(({ id }) => id);
    const created = await ask(
      `mutation ($ids: [UUID!]) { createPlay(input: {play: {title: "Hamlet", stages: $ids}}) { play { id title stages(orderBy: NAME_ASC) { nodes { name plays { nodes { title } } } } } } }`,
      { ids: [small, big] },
    );
    expect(created).toMatchObject({
      createPlay: {
        play: {
          title: "Hamlet",
          stages: {
            nodes: [
              { name: "big", plays: { nodes: [{ title: "Hamlet" }] } },
              { name: "small", plays: { nodes: [{ title: "Hamlet" }] } },
            ],
          },
        },
      },
    });
    const { id } = created.createPlay.play;
    // In the order in which they were written, unless told.
    const order = async (args: string, variables?: string | null | string[]) =>
      (
        await ask(
          `query ${variables === undefined ? "" : "($by: [StageOrderBy!])"} { plays { nodes { stages${args} { nodes { name } } } } }`,
          variables === undefined ? {} : { by: variables },
        )
      ).plays.nodes[0].stages.nodes.map(({ name }: { name: string }) => name);
    expect(await order("")).toEqual(["small", "big"]);
    expect(await order("(first: 1)")).toEqual(["small"]);
    expect(await order("(orderBy: NAME_ASC)")).toEqual(["big", "small"]);
    expect(await order("(orderBy: $by)", "NAME_ASC")).toEqual(["big", "small"]);
    for (const none of [null, [], "NATURAL"])
      expect([none, await order("(orderBy: $by)", none)]).toEqual([none, ["small", "big"]]);
    expect(
      await ask(
        `mutation ($id: UUID!, $ids: [UUID!]) { updatePlay(input: {id: $id, patch: {stages: $ids}}) { play { stages(first: 1) { totalCount nodes { name } } } } }`,
        { id, ids: [big] },
      ),
    ).toMatchObject({ updatePlay: { play: { stages: { totalCount: 1, nodes: [{ name: "big" }] } } } });
    expect(
      await ask(
        `mutation ($n: [UUID!]) { createPlays(input: {records: [{title: "Lear", stages: $n}, {title: "Faust"}]}) { inserted records { title stages { nodes { name } } } } }`,
        { n: [big, small] },
      ),
    ).toMatchObject({
      createPlays: { inserted: 2, records: [{ stages: { nodes: [{}, {}] } }, { stages: { nodes: [] } }] },
    });
    for (const [filter, expected] of [
      [`{stages: {some: {name: {equalTo: "small"}}}}`, "Lear"],
      [`{stages: {none: {name: {equalTo: "small"}}}}`, "Faust Hamlet"],
      [`{stages: {every: {name: {equalTo: "big"}}}}`, "Faust Hamlet"],
      [`{stagesExist: false}`, "Faust"],
      [`{stages: {some: {plays: {some: {title: {equalTo: "Hamlet"}}}}}}`, "Hamlet Lear"],
    ])
      expect([
        filter,
        (await ask(`{ plays(orderBy: TITLE_ASC, filter: ${filter}) { nodes { title } } }`)).plays.nodes
          .map((n: { title: string }) => n.title)
          .join(" "),
      ]).toEqual([filter, expected]);
    expect(
      await ask(`{ stages(filter: {plays: {some: {title: {equalTo: "Lear"}}}}) { totalCount } }`),
    ).toEqual({
      stages: { totalCount: 2 },
    });
    expect(
      await ask(
        `mutation { updatePlays(input: {filter: {stages: {some: {name: {equalTo: "small"}}}}, patch: {stages: []}, max: 5}) { updated } }`,
      ),
    ).toEqual({ updatePlays: { updated: 1 } });
    expect(
      await ask(`mutation { deletePlays(input: {filter: {stagesExist: false}, max: 5}) { deleted } }`),
    ).toEqual({ deletePlays: { deleted: 2 } });
    // Under a name of its own, the list of ids is there too.
    const [actor] = await rows<{ id: string }>(
      "select data.insert('acme/crm/actors', '{\"name\": \"Ada\"}')->>'id' as id",
    );
    expect(
      await ask(
        `mutation ($ids: [UUID!]) { createFilm(input: {film: {title: "M", actorIds: $ids}}) { film { actorIds actors { nodes { name } } } } }`,
        { ids: [actor?.id] },
      ),
    ).toEqual({ createFilm: { film: { actorIds: [actor?.id], actors: { nodes: [{ name: "Ada" }] } } } });
    expect(
      await ask(
        `mutation ($ids: [UUID!]) { createFilm(input: {film: {title: "N", actorIds: $ids}}) { film { title } } }`,
        {
          ids: [nobody],
        },
      ),
    ).toMatchObject([{ message: expect.stringContaining("refers to a record that does not exist") }]);
    expect(
      await ask(
        `mutation { createFilm(input: {film: {title: "N"}}) { film { title } } }`,
        {},
        "vic@acme.test",
      ),
    ).toMatchObject([{ message: expect.any(String) }]);
  } finally {
    await graphql.stop();
  }
});
