import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { validate } from "@readme/openapi-parser";
import { base, type Crm, startCrm } from "./harness/crm.ts";

let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());
const path = `${base}/openapi.json`;
type Parameter = { name: string; required?: boolean; example?: string };
type Operation = {
  operationId: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { example: unknown }> };
};
type Document = {
  openapi: string;
  servers: { url: string }[];
  paths: Record<string, Record<string, Operation> & { parameters?: Parameter[] }>;
  components: { schemas: Record<string, { properties: Record<string, unknown> }> };
};
const document = async () => JSON.parse((await crm.send(path)).text) as Document;

test("it is valid OpenAPI 3.1, and says what the app has", async () => {
  const doc = await document();
  const result = await validate(structuredClone(doc) as never);
  expect(result).toMatchObject({ valid: true, specification: "OpenAPI" });
  expect(doc.openapi).toMatch(/^3\.1/);
  expect(Object.keys(doc.paths)).toEqual(
    expect.arrayContaining(["/contacts", "/contacts/{id}", "/contacts/export", "/companies", "/export"]),
  );
  expect(doc.components.schemas.contacts?.properties).toHaveProperty("balance");
});

test("the validator would notice: a document with a dangling reference is refused", async () => {
  const doc = JSON.parse(
    (await crm.send(path)).text.replace('"#/components/responses/problem"', '"#/components/responses/none"'),
  );
  expect(await validate(doc).catch(() => ({ valid: false }))).toMatchObject({ valid: false });
});

test("every address in it answers, and the example of an insert can be inserted", async () => {
  const doc = await document();
  const root = doc.servers[0]?.url;
  for (const [address, item] of Object.entries(doc.paths)) {
    if (!item.get || address.includes("{id}")) continue;
    const required = [...(item.parameters ?? []), ...(item.get.parameters ?? [])].filter((p) => p.required);
    const query = required.map((p) => `${p.name}=${p.example}`).join("&");
    expect([address, (await crm.send(`${root}${address}?${query}`)).status]).toEqual([address, 200]);
  }
  const body = doc.paths["/companies"]?.post?.requestBody?.content["application/json"]?.example;
  expect((await crm.send(`${root}/companies`, { method: "POST", body })).status).toBe(201);
});

test("entities that keep deleted records or history say so, and only they; every example of it answers", async () => {
  const define = (name: string, more: object) =>
    crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      name,
      { type: "object", properties: { title: { type: "string", "x-search": true } }, ...more },
    ]);
  await define("pages", { "x-soft-delete": true, "x-history": true });
  await define("drafts", { "x-soft-delete": true });
  await define("logs", { "x-history": true });
  const doc = await document();
  expect(await validate(structuredClone(doc) as never)).toMatchObject({ valid: true });
  const parts = Object.keys(doc.paths).filter((address) => /\/(restore|purge|history)$/.test(address));
  expect(parts.sort()).toEqual([
    "/drafts/{id}/purge",
    "/drafts/{id}/restore",
    "/logs/{id}/history",
    "/logs/{id}/purge",
    "/pages/{id}/history",
    "/pages/{id}/purge",
    "/pages/{id}/restore",
  ]);
  const parameters = (address: string) =>
    (doc.paths[address]?.get?.parameters ?? [])
      .map((parameter) => (parameter as unknown as { $ref: string }).$ref.replace(/.*\//, ""))
      .filter((name) => /^(as_of|deleted)$/.test(name))
      .join();
  const of = (name: string) => [parameters(`/${name}`), parameters(`/${name}/{id}`)];
  expect([of("pages"), of("drafts"), of("logs"), of("contacts")]).toEqual([
    ["as_of,deleted", "as_of"],
    ["deleted", ""],
    ["as_of", "as_of"],
    ["", ""],
  ]);

  // What the document says is what happens.
  const root = doc.servers[0]?.url;
  const { id } = (await crm.send(`${root}/pages`, { method: "POST", body: { title: "a" } })).json;
  const { components } = doc as unknown as { components: { parameters: Record<string, Parameter> } };
  const asOf = components.parameters.as_of?.example;
  expect((await crm.send(`${root}/pages?as_of=${asOf}`)).json.data).toEqual([]);
  expect((await crm.send(`${root}/pages/${id}?as_of=${asOf}`)).status).toBe(404);
  await crm.send(`${root}/pages/${id}`, { method: "DELETE" });
  const [deleted] = (await crm.send(`${root}/pages?deleted=only`)).json.data;
  expect(Object.keys(deleted ?? {})).toEqual(
    expect.arrayContaining(Object.keys(doc.components.schemas["page.deleted"]?.properties ?? { none: 1 })),
  );
  const before = components.parameters.before?.example;
  expect((await crm.send(`${root}/pages/${id}/history?limit=100&before=${before}`)).json.data).toHaveLength(
    2,
  );
  expect((await crm.send(`${root}/pages/${id}/restore`, { method: "POST" })).status).toBe(200);
  await crm.send(`${root}/pages/${id}`, { method: "DELETE" });
  expect((await crm.send(`${root}/pages/${id}/purge`, { method: "POST" })).status).toBe(204);
});

test("an ETag tells whether it is the same; a definition that changes changes it", async () => {
  const first = await crm.send(path);
  const etag = String(first.headers.etag);
  const again = await crm.send(path, { headers: { "if-none-match": etag } });
  expect([again.status, again.text]).toEqual([304, ""]);
  await crm.db.query("select data.define_entity('acme/crm', 'notes', $1)", [
    {
      type: "object",
      properties: { text: { type: "string", examples: ["</script><script>alert(1)</script>"] } },
    },
  ]);
  const changed = await crm.send(path, { headers: { "if-none-match": etag } });
  expect([changed.status, changed.text.includes("/notes/{id}")]).toEqual([200, true]);
});

test.each([
  ["another tenant's", "/api/v1/sites/beta/apps/crm/openapi.json", "ann", 404],
  ["an unknown app's", "/api/v1/sites/acme/apps/none/openapi.json", "ann", 404],
  ["without a token", path, null, 401],
])("%s is refused", async (_title, address, as, status) => {
  expect((await crm.send(address, { as })).status).toBe(status);
});
test("it can only be read", async () => {
  expect((await crm.send(path, { method: "POST", body: {} })).status).toBe(405);
});
