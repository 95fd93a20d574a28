import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base } from "./harness/crm.ts";
import { startGraphql } from "./harness/graphql.ts";
import { startPeople, storages } from "./harness/people.ts";

// What was promised of types and documents: what a mask may show, they allow; what must be sent, they still ask for.

const TSC = fileURLToPath(new URL("../node_modules/.bin/tsc", import.meta.url));
const properties = {
  name: { type: "string", description: "What it is called." },
  email: { type: "string", format: "email", "x-pii": true },
  level: { type: "string", enum: ["low", "high"], "x-mask": "redact" },
  code: { type: "string", pattern: "^[A-Z]{9}$", "x-mask": "***-{last4}", description: "Its code." },
  pay: { type: "integer", minimum: 1, "x-pii": true },
  fired: { type: "boolean", "x-mask": "null" },
  born: { type: "string", format: "date", "x-pii": true },
  tags: { type: "array", items: { type: "string" }, "x-mask": "null" },
  home: { type: "object", properties: { city: { type: "string" } }, "x-mask": "null" },
  label: { type: "string", "x-computed": "name || ' ' || code" },
};
const required = ["name", "email", "level", "code", "pay", "fired", "born", "tags", "home"];
const record = {
  name: "Ada",
  email: "ada@x.test",
  level: "low",
  code: "ABCDEFGHI",
  pay: 7,
  fired: false,
  born: "1990-05-17",
  tags: ["a"],
  home: { city: "Oslo" },
};

type Schema = { anyOf?: object[]; description?: string; readOnly?: boolean };
type Document = {
  components: { schemas: Record<string, { properties: Record<string, Schema>; required: string[] }> };
};

let crm: Awaited<ReturnType<typeof startPeople>>;
let graphql: Awaited<ReturnType<typeof startGraphql>>;
let dir: string;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-masks-"));
  crm = await startPeople();
  for (const storage of storages) {
    await crm.db.query("select data.define_entity('acme/crm', $1, $2)", [
      `staff_${storage}_kind`,
      { type: "object", required, properties, "x-storage": storage },
    ]);
    await crm.db.query("select data.insert($1, $2)", [`acme/crm/staff_${storage}_kind`, record]);
  }
  graphql = await startGraphql(crm.db);
});
afterAll(async () => {
  await graphql?.stop();
  await crm?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const violations = async (document: Document, schema: object, value: unknown) =>
  (
    await crm.db.query("select data.validate($1, $2, true) as errors", [
      JSON.stringify({ ...schema, components: document.components }),
      JSON.stringify(value),
    ])
  )[0]?.errors;

describe.each(storages)("in %s storage", (storage) => {
  const entity = `staff_${storage}_kind`;
  const type = `Staff${storage === "jsonb" ? "Jsonb" : "Flat"}Kind`;
  const read = async (as: string) => (await crm.send(`${base}/${entity}`, { as })).json.data[0];

  test("the OpenAPI document allows what each reader is answered, and says that it may be masked", async () => {
    const { text } = await crm.send(`${base}/openapi.json`);
    expect(text).toContain("openapi");
    const document = JSON.parse(text) as Document;
    const { properties: shown, required: always } = document.components.schemas[entity] as never as {
      properties: Record<string, Schema>;
      required: string[];
    };
    expect(always).toEqual(expect.arrayContaining(required));
    expect(shown.name).toEqual(properties.name);
    expect(shown.code).toEqual({
      anyOf: [properties.code, { type: "string" }, { type: "null" }],
      description: "Its code. Masked or null for whom it is not meant.",
    });
    expect(shown.pay?.anyOf).toEqual([properties.pay, { type: "null" }]);
    expect(shown.label).toMatchObject({
      readOnly: true,
      description: "Masked or null for whom it is not meant.",
    });
    for (const as of ["ann", "otto"]) {
      const value = (await read(as)) as Record<string, unknown>;
      expect(value.email).toBe(as === "ann" ? "a***@x.test" : "ada@x.test");
      expect(
        await violations(document, { type: "object", properties: shown, required: always }, value),
      ).toEqual([]);
    }
    const sent = document.components.schemas[`${entity}.insert`] as never as {
      properties: Record<string, Schema>;
      required: string[];
    };
    expect([sent.properties.pay, sent.properties.level]).toEqual([properties.pay, properties.level]);
    expect(sent.required.sort()).toEqual([...required].sort());
  });

  test("TypeScript's types allow it too", async () => {
    const [row] = await crm.db.query<{ t: string }>("select data.typescript_types('acme/crm') as t");
    writeFileSync(join(dir, `${type}.ts`), row?.t ?? "");
    const compile = (code: string) => {
      const file = join(dir, `${type}-use.ts`);
      writeFileSync(file, `import type { ${type}, Entities } from "./${type}.ts";\n${code}`);
      const args = [
        "--noEmit",
        "--strict",
        "--allowImportingTsExtensions",
        "--module",
        "nodenext",
        "--types",
        "",
        file,
      ];
      return spawnSync(TSC, args, { encoding: "utf8", cwd: dir }).stdout;
    };
    for (const as of ["ann", "otto"])
      expect(compile(`export const one: ${type} = ${JSON.stringify(await read(as))};`)).toBe("");
    expect(compile(`export const pay = (one: ${type}): number => one.pay;`)).toContain("null");
    expect(compile(`export const name = (one: ${type}): string => one.name;`)).toBe("");
    const insert = (more: object) =>
      compile(
        `export const one: Entities["${entity}"]["insert"] = ${JSON.stringify({ ...record, ...more })};`,
      );
    expect([insert({}), insert({ level: "none" }), insert({ pay: null })]).toEqual([
      "",
      expect.stringContaining('"none"'),
      expect.stringContaining("null"),
    ]);
    expect(row?.t).toContain("/** Its code. Masked or null for whom it is not meant. */");
  });

  test("GraphQL answers whole records with masks in them, and its types say null; what must be sent it asks for", async () => {
    const fields = Object.keys(properties).filter((name) => name !== "home");
    const list = `staff${storage === "jsonb" ? "Jsonb" : "Flat"}Kinds`;
    const answer = await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `{ ${list} { nodes { ${fields.join(" ")} home } } }`,
    );
    expect(answer.errors).toEqual([]);
    expect(answer.data[list].nodes[0]).toEqual({
      name: "Ada",
      email: "a***@x.test",
      level: "***",
      code: "***-FGHI",
      pay: null,
      fired: null,
      born: "1990-01-01",
      tags: null,
      home: null,
      label: null,
    });
    const { data } = await graphql.ask(
      "acme/crm",
      "ann@acme.test",
      `{ out: __type(name: "${type}") { fields { name type { kind } } } in: __type(name: "${type}Input") { inputFields { name type { kind } } } }`,
    );
    type Field = { name: string; type: { kind: string } };
    const nonNull = (of: Field[]) =>
      of
        .filter(({ name, type: { kind } }) => kind === "NON_NULL" && name in properties)
        .map(({ name }) => name);
    expect(nonNull(data.out.fields)).toEqual(["name"]);
    expect(nonNull(data.in.inputFields).sort()).toEqual([...required].sort());
  });
});
