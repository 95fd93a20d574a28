import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { type Call, type Crm, sendTo } from "./harness/crm.ts";
import { refusal } from "./harness/failure.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";
import { startPosts, storages } from "./harness/posts.ts";

// What the author of a form was promised: who may create and not read creates, and is told the id of what they wrote.

let crm: Crm & { entity(storage: string): string };
let gateway: TestGateway;
beforeAll(async () => {
  crm = await startPosts();
  gateway = await startGateway(crm.db, {}, 5, true);
  crm.tokens.quinn = await crm.gateway.token("quinn@acme.test", "acme");
});
afterAll(async () => {
  await gateway?.stop();
  await crm?.stop();
});

const run = (sql: string, values: unknown[] = []) => crm.db.query(sql, values);
const send = (path: string, call: Call = {}) =>
  sendTo(gateway, crm.tokens, `/api/v1/sites/acme/apps/crm/${path}`, { as: "quinn", ...call });
const graphql = async (query: string, as: string | null = "quinn") =>
  (await send("graphql", { method: "POST", body: { query }, as })).json as unknown as {
    // biome-ignore lint/suspicious/noExplicitAny: the shape of a reply is what the tests assert
    data: any;
    errors?: { message: string; extensions: { status: number } }[];
  };
const stored = async (entity: string) =>
  (await run(`select title from acme_crm.${entity} where title like 'new%' order by title`)).map(
    (row) => row.title,
  );
const may = (...permissions: unknown[]) =>
  run("select access.define_role('acme', $1), access.assign_role('acme', 'quinn@acme.test', 'form')", [
    { name: "form", permissions },
  ]);

describe.each(storages)("in %s storage", (storage) => {
  const entity = `posts_${storage}_kind`;
  beforeEach(async () => {
    await run(`delete from acme_crm.${entity} where title like 'new%'`);
    await may(`crm/${entity}:create`);
  });

  test("a record by REST: 201 with its id and nothing more", async () => {
    const answer = await send(entity, { method: "POST", body: { title: "new", region: "north" } });
    expect([answer.status, answer.json]).toEqual([201, { id: expect.stringMatching(/^[0-9a-f-]{36}$/) }]);
    expect(answer.headers.location).toBe(`/api/v1/sites/acme/apps/crm/${entity}/${answer.json.id}`);
    expect(await stored(entity)).toEqual(["new"]);
    expect((await send(`${entity}/${answer.json.id}`)).status).toBe(404);
    expect((await send(entity)).json.data).toEqual([]);
  });

  test("a list by REST, in its order, with the ids that were given", async () => {
    const given = "0197f7a0-0000-7000-8000-000000000001";
    await run(`delete from acme_crm.${entity} where id = $1`, [given]);
    const answer = await send(entity, {
      method: "POST",
      body: [{ title: "new 1", id: given }, { title: "new 2" }],
    });
    expect([answer.status, answer.json]).toEqual([201, [{ id: given }, { id: expect.any(String) }]]);
    expect(await stored(entity)).toEqual(["new 1", "new 2"]);
    // Taken: that much is told, as to anybody whose id is taken.
    expect((await send(entity, { method: "POST", body: { title: "new 3", id: given } })).status).toBe(409);
  });

  test("what is wrong is told by pointer, and nothing is written", async () => {
    const one = await send(entity, { method: "POST", body: { region: 1 } });
    expect(one.status).toBe(422);
    const answer = await send(entity, {
      method: "POST",
      body: [{ title: "new" }, { region: "x" }, { title: 3 }],
    });
    expect(answer).toMatchObject({ status: 422 });
    expect(
      (answer.json as unknown as { errors: { pointer: string }[] }).errors.map((e) => e.pointer),
    ).toEqual(["/1/title", "/2/title"]);
    expect(await stored(entity)).toEqual([]);
  });

  test("a transaction whose operations refer to one another", async () => {
    const answer = await send("transaction", {
      method: "POST",
      body: {
        operations: [
          { operation: "insert", entity, data: { title: "new 1" }, as: "first" },
          { operation: "insert", entity, data: { title: "new 2", region: { $ref: "first.id" } } },
        ],
      },
    });
    expect(answer.json.data).toEqual([{ id: expect.any(String) }, { id: expect.any(String) }]);
    expect((await run(`select region from acme_crm.${entity} where title = 'new 2'`))[0]?.region).toBe(
      answer.json.data[0]?.id,
    );
    // Not even what they wrote themselves is read back by a reference.
    const read = await send("transaction", {
      method: "POST",
      body: {
        operations: [
          { operation: "insert", entity, data: { title: "new 3" }, as: "first" },
          { operation: "insert", entity, data: { title: { $ref: "first.title" } } },
        ],
      },
    });
    expect(read.status).toBe(422);
  });

  test("GraphQL creates one, and many", async () => {
    const types =
      storage === "jsonb" ? ["PostsJsonbKind", "PostsJsonbKinds"] : ["PostsFlatKind", "PostsFlatKinds"];
    const fields = `id region createdBy`;
    const field = `${types[0]?.[0]?.toLowerCase()}${types[0]?.slice(1)}`;
    const one = await graphql(
      `mutation { create${types[0]}(input: {${field}: {title: "new", region: "x"}}) { ${field} { ${fields} } } }`,
    );
    expect(one.errors).toBeUndefined();
    expect(one.data[`create${types[0]}`][field]).toEqual({
      id: expect.any(String),
      region: null,
      createdBy: null,
    });
    const many = await graphql(
      `mutation { create${types[1]}(input: {records: [{title: "new 1"}, {title: "new 2"}]}) { inserted records { ${fields} } } }`,
    );
    expect(many.errors).toBeUndefined();
    expect(many.data[`create${types[1]}`]).toEqual({ inserted: 2, records: [null, null] });
    expect(await stored(entity)).toEqual(["new", "new 1", "new 2"]);
  });

  test("psql inserts into the view, with and without returning, and by data.insert", async () => {
    await crm.db.as("acme", "quinn@acme.test", async (client) => {
      expect(
        (await client.query(`insert into acme_crm.${entity} (title) values ('new 1'), ('new 2')`)).rowCount,
      ).toBe(2);
      const { rows } = await client.query(
        `insert into acme_crm.${entity} (title) values ('new 3') returning id, title, created_by`,
      );
      expect(rows).toEqual([{ id: expect.any(String), title: null, created_by: null }]);
      const [made] = (
        await client.query('select data.insert($1, \'{"title": "new 4"}\') as r', [`acme/crm/${entity}`])
      ).rows;
      expect(made.r).toEqual({ id: expect.any(String) });
    });
    expect(await stored(entity)).toEqual(["new 1", "new 2", "new 3", "new 4"]);
    expect(
      await run(`select distinct created_by is null as is from acme_crm.${entity} where title like 'new%'`),
    ).toEqual([{ is: false }]);
  });

  test("an upsert is refused clearly, one that would insert as well as one that would change", async () => {
    await may(`crm/${entity}:create`, `crm/${entity}:update`);
    const upsert = () =>
      send(`${entity}?key=id`, {
        method: "PUT",
        body: [{ id: "0197f7a0-0000-7000-8000-00000000000a", title: "new" }],
      });
    for (let time = 0; time < 2; time++) {
      expect(await upsert()).toMatchObject({ status: 403, json: { code: "forbidden" } });
      expect((await upsert()).text).toContain("may not read");
    }
    expect(await stored(entity)).toEqual([]);
    await may(`crm/${entity}:create`);
    expect((await upsert()).status).toBe(403);
  });

  test("who may read some sees those whole, and the ids of the others, in the order written", async () => {
    await may(`crm/${entity}:create`, { permission: `crm/${entity}:read`, condition: { region: "north" } });
    const answer = await send(entity, {
      method: "POST",
      body: [
        { title: "new 1", region: "north" },
        { title: "new 2", region: "south" },
        { title: "new 3", region: "north" },
      ],
    });
    expect(answer.status).toBe(201);
    expect(answer.json).toEqual([
      expect.objectContaining({ title: "new 1", version: 1 }),
      { id: expect.any(String) },
      expect.objectContaining({ title: "new 3", version: 1 }),
    ]);
    expect(
      (await send(entity, { method: "POST", body: { title: "new 4", region: "north" } })).json,
    ).toMatchObject({ title: "new 4" });
    expect((await send(entity, { method: "POST", body: { title: "new 5", region: "south" } })).json).toEqual({
      id: expect.any(String),
    });
    // A record that one may see only because of the condition is not seen by asking for its id again.
    expect((await send(`${entity}/${(answer.json as unknown as { id: string }[])[1]?.id}`)).status).toBe(404);
  });

  test("a denial of some records keeps them from being shown to their writer, not from being written", async () => {
    await may(`crm/${entity}:create`, `crm/${entity}:read`);
    await run("select access.define_policy('acme', $1)", [
      {
        name: "south",
        effect: "deny",
        entities: [`crm/${entity}`],
        actions: ["read"],
        condition: { region: "south" },
      },
    ]);
    const answer = await send(entity, {
      method: "POST",
      body: [{ title: "new 1" }, { title: "new 2", region: "south" }],
    });
    await run("select access.drop_policy('acme', 'south')");
    expect(answer.json).toEqual([expect.objectContaining({ title: "new 1" }), { id: expect.any(String) }]);
    expect(
      (await send(entity, { method: "POST", body: { title: "new 3", region: "south" } })).json,
    ).toMatchObject({ title: "new 3" });
  });

  test("who may not create is refused as before", async () => {
    await may(`crm/${entity}:read`);
    expect((await send(entity, { method: "POST", body: { title: "new" } })).status).toBe(403);
    await may({ permission: `crm/${entity}:create`, condition: { region: "north" } });
    expect((await send(entity, { method: "POST", body: { title: "new", region: "south" } })).status).toBe(
      403,
    );
    expect((await send(entity, { method: "POST", body: { title: "new", region: "north" } })).json).toEqual({
      id: expect.any(String),
    });
    const refused = await crm.db.as("acme", "quinn@acme.test", (client) =>
      refusal(client.query(`select * from acme_crm.${entity}_insert_unseen('[{"title": "new"}]')`)),
    );
    expect(refused.code).toBe("42501");
    expect(await stored(entity)).toEqual(["new"]);
  });
});

test("a form of a public app: nobody in particular fills it in, and sees nothing", async () => {
  await run("select access.grant_permission('acme', 'anonymous', 'crm/posts_flat_kind:create')");
  const answer = await send("posts_flat_kind", { method: "POST", body: { title: "new" }, as: null });
  expect([answer.status, answer.json]).toEqual([201, { id: expect.any(String) }]);
  expect((await send("posts_flat_kind", { as: null })).json.data).toEqual([]);
  const reply = await graphql(
    'mutation { createPostsFlatKind(input: {postsFlatKind: {title: "new"}}) { postsFlatKind { id status } } }',
    null,
  );
  expect(reply.data.createPostsFlatKind.postsFlatKind).toEqual({ id: expect.any(String), status: null });
  // A required property cannot be null in GraphQL: the record is made, and its answer says so by an error.
  const required = await graphql(
    'mutation { createPostsFlatKind(input: {postsFlatKind: {title: "new"}}) { postsFlatKind { id title } } }',
    null,
  );
  expect(required.errors?.[0]?.message).toMatch(/non-nullable field PostsFlatKind.title/);
  await run("select access.revoke_permission('acme', 'anonymous', 'crm/posts_flat_kind:create')");
  expect((await send("posts_flat_kind", { method: "POST", body: { title: "new" }, as: null })).status).toBe(
    401,
  );
});
