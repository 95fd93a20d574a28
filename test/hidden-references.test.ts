import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Call } from "./harness/crm.ts";
import { nowhere, startNorth, storages } from "./harness/posts.ts";

// What was promised of relations: who refers to a record is not told whether one that they do not see is there.

let north: Awaited<ReturnType<typeof startNorth>>;
beforeAll(async () => {
  north = await startNorth();
  for (const storage of storages) {
    const define = (entity: string, properties: object, more: object = {}) =>
      north.run("select data.define_entity('acme/crm', $1, $2)", [
        entity,
        { type: "object", "x-storage": storage, properties, ...more },
      ]);
    const region = { type: "string" };
    await define(`firms_${storage}_kind`, {
      title: { type: "string" },
      region,
      number: { type: "string", "x-unique": true },
      email: { type: "string", "x-unique": true, "x-pii": true },
    });
    const to = (field: string, more: object = {}) => ({
      "x-relation": { entity: `firms_${storage}_kind`, field, ...more },
    });
    const id = { type: "string", format: "uuid" };
    await define(`deals_${storage}_kind`, {
      title: { type: "string" },
      region,
      firm_id: { ...id, ...to("id", { name: "firm", inverse: "deals" }) },
      firm_number: { type: "string", ...to("number", { name: "numbered", inverse: "numbered_deals" }) },
      firm_email: { type: "string", ...to("email", { name: "written", inverse: "written_deals" }) },
      firms: {
        type: "array",
        items: id,
        "x-relation": { entity: `firms_${storage}_kind`, many: true, inverse: "many_deals" },
      },
    });
    await north.run("select data.insert($1, $2)", [
      `acme/crm/firms_${storage}_kind`,
      JSON.stringify([
        { title: "seen", region: "north", number: "seen-number", email: "n@x.test" },
        { title: "free", region: "north", number: "free-number", email: "f@x.test" },
        { title: "hidden", region: "south", number: "hidden-number", email: "s@x.test" },
      ]),
    ]);
  }
});
afterAll(() => north?.stop());

describe.each(storages)("in %s storage", (storage) => {
  const [entity, firms] = [`deals_${storage}_kind`, `firms_${storage}_kind`];
  const path = `acme/crm/${entity}`;
  const Type = storage === "jsonb" ? "DealsJsonbKind" : "DealsFlatKind";
  const field = `${Type[0]?.toLowerCase()}${Type.slice(1)}`;
  const firm: Record<string, string> = {};
  let mine = "";
  beforeAll(async () => {
    for (const { id, title } of await north.run(`select id, title from acme_crm.${firms}`))
      firm[String(title)] = String(id);
    const [deal] = await north.run(
      `insert into acme_crm.${entity} (title, region) values ('mine', 'north') returning id`,
    );
    mine = String(deal?.id);
  });
  const rest =
    (path: () => string, method: string, body: (values: object) => unknown, type = "application/json") =>
    (values: object) =>
      north.send(`apps/crm/${path()}`, {
        method,
        body: body(values),
        headers: { "content-type": type },
      } as Call);
  const camel = (values: object) =>
    JSON.stringify(values)
      .replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
      .replace(/"(\w+)":/g, "$1:");
  const graphql = (query: (values: string) => string) => (values: object) =>
    north.send("apps/crm/graphql", { method: "POST", body: { query: query(camel(values)) } });
  const psql = (sql: string, given: (values: object) => unknown[]) => (values: object) =>
    north.told(sql, given(values));
  const doors: [string, (values: object) => Promise<unknown>][] = [
    [
      "REST, POST",
      rest(
        () => entity,
        "POST",
        (v) => v,
      ),
    ],
    [
      "REST, a list",
      rest(
        () => `${entity}?return=ids`,
        "POST",
        (v) => [v],
      ),
    ],
    [
      "REST, PATCH",
      rest(
        () => `${entity}/${mine}`,
        "PATCH",
        (v) => v,
      ),
    ],
    [
      "REST, an upsert",
      rest(
        () => `${entity}?key=id`,
        "PUT",
        (v) => [{ id: mine, ...v }],
      ),
    ],
    [
      "REST, a transaction",
      rest(
        () => "transaction",
        "POST",
        (data) => [{ operation: "insert", entity, data }],
      ),
    ],
    [
      "REST, an import",
      rest(
        () => `${entity}/import?on_error=skip`,
        "POST",
        (v) => `${JSON.stringify(v)}\n`,
        "application/x-ndjson",
      ),
    ],
    ["GraphQL", graphql((v) => `mutation { create${Type}(input: {${field}: ${v}}) { ${field} { id } } }`)],
    [
      "GraphQL, a change",
      graphql((v) => `mutation { update${Type}(input: {id: "${mine}", patch: ${v}}) { ${field} { id } } }`),
    ],
    ["psql, data.insert", psql("select data.insert($1, $2)", (v) => [path, v])],
    ["psql, data.update", psql("select data.update($1, $2, $3)", (v) => [path, mine, v])],
    [
      "psql, the view",
      psql(
        `update acme_crm.${entity} set firm_id = ($2::jsonb->>'firm_id')::uuid, firm_number = $2::jsonb->>'firm_number',
           firm_email = $2::jsonb->>'firm_email', firms = $2::jsonb->'firms' where id = $1`,
        (v) => [mine, v],
      ),
    ],
  ];
  const words = (told: unknown, ...values: string[]) => {
    const { text, status } = told as { text?: string; status?: number };
    let words = text === undefined ? JSON.stringify(told) : `${status} ${text}`;
    for (const value of values)
      words = words.replaceAll(`"${value}"`, "<value>").replaceAll(value, "<value>");
    return words.replace(/"request_id":"[^"]*"/, "");
  };

  test.each(doors)(
    "%s: a hidden record and none are referred to with the same answer",
    async (_door, write) => {
      for (const [name, hidden, none] of [
        ["firm_id", firm.hidden, nowhere],
        ["firm_number", "hidden-number", "no-number"],
        ["firms", firm.hidden, nowhere],
      ] as const) {
        const of = (value: string) => ({
          title: "t",
          region: "north",
          [name]: name === "firms" ? [value] : value,
        });
        const [one, other] = [await write(of(String(hidden))), await write(of(none))];
        expect([name, words(one, String(hidden), none)]).toEqual([name, words(other, String(hidden), none)]);
        expect(words(one)).toMatch(/refers? to|foreign key|missing_reference|does not exist/);
        expect(words(one)).not.toMatch(/"skipped":0|^201/);
      }
    },
  );

  test.each(doors)(
    "%s: who sees a field of the other entity masked does not refer by it",
    async (_door, write) => {
      const answers = [];
      for (const value of ["n@x.test", "s@x.test", "no@x.test"])
        answers.push(words(await write({ title: "t", region: "north", firm_email: value }), value));
      expect(answers).toEqual(Array(3).fill(answers[0]));
      expect(answers[0]).toMatch(/refers? to|foreign key/);
    },
  );

  test("who sees the fields refers by them, and what was referred to stays", async () => {
    await north.run('select data.update($1, $2, \'{"firm_email": "n@x.test"}\')', [path, mine]);
    const kept = { title: "kept", region: "north", firm_email: "n@x.test", firm_number: "seen-number" };
    expect((await north.send(`apps/crm/${entity}/${mine}`, { method: "PUT", body: kept })).status).toBe(200);
    await north.run(
      "select access.grant_permission('acme', 'north', 'crm/*:read', null, '{\"unmasked\": [\"email\"]}')",
    );
    const told = [];
    for (const firm_email of ["n@x.test", "no@x.test"])
      told.push(
        (await north.send(`apps/crm/${entity}`, { method: "POST", body: { region: "north", firm_email } }))
          .status,
      );
    await north.run("select access.revoke_permission('acme', 'north', 'crm/*:read')");
    expect(told).toEqual([201, 422]);
  });

  test("who deletes is told that something refers to a record, never what", async () => {
    await north.run(
      `insert into acme_crm.${entity} (title, region, firm_id) values ('in the south', 'south', $1)`,
      [firm.seen],
    );
    const told = await north.send(`apps/crm/${firms}/${firm.seen}`, { method: "DELETE" });
    expect([told.status, told.json.code]).toEqual([409, "still_referenced"]);
    expect(told.text).not.toMatch(/south|deals/);
    expect((await north.send(`apps/crm/${firms}/${firm.free}`, { method: "DELETE" })).status).toBe(204);
    const inPsql = JSON.stringify(
      await north.told("select data.delete($1, $2)", [`acme/crm/${firms}`, firm.seen]),
    );
    expect(inPsql).not.toMatch(/south|Key \(/);
  });
});
