import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { sendTo } from "./harness/crm.ts";
import { startNorth, storages } from "./harness/posts.ts";

// Error messages are no oracles: whatever is asked or tried, a hidden record and none are told in the same words.

let north: Awaited<ReturnType<typeof startNorth>>;
const run = (sql: string, values: unknown[] = []) => north.crm.db.query(sql, values);
const pat = "pat@acme.test";
const nowhere = "01900000-0000-7000-8000-000000000000";

beforeAll(async () => {
  north = await startNorth();
});
afterAll(() => north?.stop());

describe.each(storages)("in %s storage", (storage) => {
  const entity = `posts_${storage}_kind`;
  const path = `acme/crm/${entity}`;
  const Type = storage === "jsonb" ? "PostsJsonbKind" : "PostsFlatKind";
  const field = `${Type[0]?.toLowerCase()}${Type.slice(1)}`;
  let hidden: string;
  beforeAll(async () => {
    hidden = String((await run(`select id from acme_crm.${entity} where title = 'p2'`))[0]?.id);
  });
  const asked: [string, (id: string) => Promise<unknown>][] = [
    [
      "REST, GET",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, `/api/v1/sites/acme/apps/crm/${entity}/${id}`, { as: "pat" }),
    ],
    [
      "REST, DELETE",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, `/api/v1/sites/acme/apps/crm/${entity}/${id}`, {
          as: "pat",
          method: "DELETE",
        }),
    ],
    [
      "REST, PATCH",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, `/api/v1/sites/acme/apps/crm/${entity}/${id}`, {
          as: "pat",
          method: "PATCH",
          body: {},
        }),
    ],
    [
      "REST, PATCH with a version",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, `/api/v1/sites/acme/apps/crm/${entity}/${id}`, {
          as: "pat",
          method: "PATCH",
          body: { title: "x" },
          headers: { "if-match": 'W/"7"' },
        }),
    ],
    [
      "REST, a bad change",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, `/api/v1/sites/acme/apps/crm/${entity}/${id}`, {
          as: "pat",
          method: "PATCH",
          body: { title: 7 },
        }),
    ],
    [
      "REST, a transaction",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, "/api/v1/sites/acme/apps/crm/transaction", {
          as: "pat",
          method: "POST",
          body: { operations: [{ operation: "delete", entity, id }] },
        }),
    ],
    [
      "REST, explain",
      (id) =>
        sendTo(
          north.gateway,
          north.crm.tokens,
          `/api/v1/sites/acme/access/explain?account=${pat}&entity=crm/${entity}&action=read&record=${id}`,
          { as: "pat" },
        ),
    ],
    [
      "GraphQL, a record",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, "/api/v1/sites/acme/apps/crm/graphql", {
          as: "pat",
          method: "POST",
          body: { query: `{ ${field}(id: "${id}") { id } }` },
        }),
    ],
    [
      "GraphQL, a change",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, "/api/v1/sites/acme/apps/crm/graphql", {
          as: "pat",
          method: "POST",
          body: {
            query: `mutation { update${Type}(input: {id: "${id}", patch: {title: "x"}}) { ${field} { id } } }`,
          },
        }),
    ],
    [
      "GraphQL, a deletion",
      (id) =>
        sendTo(north.gateway, north.crm.tokens, "/api/v1/sites/acme/apps/crm/graphql", {
          as: "pat",
          method: "POST",
          body: { query: `mutation { delete${Type}(input: {id: "${id}"}) { ${field} { id } } }` },
        }),
    ],
    [
      "psql, data.get",
      (id) =>
        north.crm.db.as("acme", pat, (client) =>
          client.query("select data.get($1, $2)", [path, id]).then(
            ({ rows }) => rows,
            ({ code, message, detail, hint }) => ({ code, message, detail, hint }),
          ),
        ),
    ],
    [
      "psql, data.delete",
      (id) =>
        north.crm.db.as("acme", pat, (client) =>
          client.query("select data.delete($1, $2)", [path, id]).then(
            ({ rows }) => rows,
            ({ code, message, detail, hint }) => ({ code, message, detail, hint }),
          ),
        ),
    ],
    [
      "psql, a lock",
      (id) =>
        north.crm.db.as("acme", pat, (client) =>
          client.query(`select title from acme_crm.${entity} where id = $1 for update`, [id]).then(
            ({ rows }) => rows,
            ({ code, message }) => ({ code, message }),
          ),
        ),
    ],
    [
      "psql, access.allows",
      (id) =>
        north.crm.db.as("acme", pat, (client) =>
          client.query("select access.allows($1, 'update', $2::uuid)", [path, id]).then(
            ({ rows }) => rows,
            ({ code, message }) => ({ code, message }),
          ),
        ),
    ],
    [
      "psql, access.explain",
      (id) =>
        north.crm.db.as("acme", pat, (client) =>
          client.query(`select access.explain('${pat}', $1, 'delete', $2)`, [path, id]).then(
            ({ rows }) => rows,
            ({ code, message }) => ({ code, message }),
          ),
        ),
    ],
  ];
  test.each(asked)("%s: a hidden record and none are told in the same words", async (_door, ask) => {
    const answers = [];
    for (const id of [hidden, nowhere]) {
      const answer = (await ask(id)) as { status?: number; text?: string };
      answers.push(
        (answer.status ? `${answer.status} ${answer.text}` : JSON.stringify(answer))
          .replaceAll(id, "{id}")
          .replace(/"request_id":"[^"]*"/, ""),
      );
    }
    expect(answers[0]).toBe(answers[1]);
  });
});
