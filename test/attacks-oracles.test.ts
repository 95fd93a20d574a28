import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Call } from "./harness/crm.ts";
import { nowhere, pat, startNorth, storages } from "./harness/posts.ts";

// Error messages are no oracles: whatever is asked or tried, a hidden record and none are told in the same words.

let north: Awaited<ReturnType<typeof startNorth>>;

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
    hidden = String((await north.run(`select id from acme_crm.${entity} where title = 'p2'`))[0]?.id);
  });
  const rest = (call?: Call) => (id: string) => north.send(`apps/crm/${entity}/${id}`, call);
  const graphql = (query: (id: string) => string) => (id: string) =>
    north.send("apps/crm/graphql", { method: "POST", body: { query: query(id) } });
  const psql =
    (sql: string, ...values: unknown[]) =>
    (id: string) =>
      north.told(sql, [id, ...values]);
  const asked: [string, (id: string) => Promise<unknown>][] = [
    ["REST, GET", rest()],
    ["REST, DELETE", rest({ method: "DELETE" })],
    ["REST, PATCH", rest({ method: "PATCH", body: {} })],
    [
      "REST, PATCH with a version",
      rest({ method: "PATCH", body: { title: "x" }, headers: { "if-match": 'W/"7"' } }),
    ],
    ["REST, a bad change", rest({ method: "PATCH", body: { title: 7 } })],
    [
      "REST, a transaction",
      (id) =>
        north.send("apps/crm/transaction", {
          method: "POST",
          body: { operations: [{ operation: "delete", entity, id }] },
        }),
    ],
    [
      "REST, explain",
      (id) => north.send(`access/explain?account=${pat}&entity=crm/${entity}&action=read&record=${id}`),
    ],
    ["GraphQL, a record", graphql((id) => `{ ${field}(id: "${id}") { id } }`)],
    [
      "GraphQL, a change",
      graphql(
        (id) => `mutation { update${Type}(input: {id: "${id}", patch: {title: "x"}}) { ${field} { id } } }`,
      ),
    ],
    [
      "GraphQL, a deletion",
      graphql((id) => `mutation { delete${Type}(input: {id: "${id}"}) { ${field} { id } } }`),
    ],
    ["psql, data.get", psql("select data.get($2, $1)", path)],
    ["psql, data.delete", psql("select data.delete($2, $1)", path)],
    ["psql, a lock", psql(`select title from acme_crm.${entity} where id = $1 for update`)],
    ["psql, access.allows", psql("select access.allows($2, 'update', $1::uuid)", path)],
    ["psql, access.explain", psql(`select access.explain('${pat}', $2, 'delete', $1)`, path)],
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
