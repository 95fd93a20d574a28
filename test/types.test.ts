import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { refusal } from "./harness/failure.ts";

const TSC = fileURLToPath(new URL("../node_modules/.bin/tsc", import.meta.url));
let db: TestDatabase;
let dir: string;
let types: string;

beforeAll(async () => {
  db = await cloneDatabase();
  dir = mkdtempSync(join(tmpdir(), "rowhouse-types-"));
  for (const site of ["acme", "beta"])
    await db.query(
      `select tenancy.create_organization('${site}'), tenancy.create_site('${site}', '${site}')`,
    );
  await db.query("select tenancy.create_app('acme', 'crm')");
  await db.account("vic@acme.test");
  await db.account("bob@beta.test");
  await db.query("select tenancy.add_member('acme', 'vic@acme.test', 'viewer')");
  await db.query("select tenancy.add_member('beta', 'bob@beta.test', 'admin')");
  const define = (name: string, properties: object, required: string[], description?: string) =>
    db.query("select data.define_entity('acme/crm', $1, $2)", [
      name,
      { type: "object", ...(description && { description }), required, properties },
    ]);
  await define(
    "companies",
    { name: { type: "string", "x-unique": true } },
    ["name"],
    "*/ alert(1); /* a company",
  );
  await define(
    "contacts",
    {
      name: { type: "string", description: "The name */ export const evil = 1; /*" },
      kind: { enum: ["person", 'we"ird\n`$' + "{1}`"] },
      age: { type: "integer" },
      balance: { type: "number", format: "decimal", precision: 30, scale: 2 },
      active: { type: "boolean", default: true },
      born: { type: "string", format: "date" },
      tags: { type: "array", items: { type: "string" } },
      address: {
        type: "object",
        required: ["city"],
        properties: { city: { type: "string" }, 'floor "1"; //': { type: ["integer", "null"] } },
      },
      extra: { type: "object" },
      company_id: { type: "string", format: "uuid", "x-relation": { entity: "companies" } },
    },
    ["name", "kind", "active"],
  );
  await db.query("select data.define_entity('acme/crm', 'pages', $1)", [
    { type: "object", "x-soft-delete": true, "x-history": true, properties: {} },
  ]);
  await define("records", { array: { type: "array", items: { type: "object" } } }, []);
  types = (await db.query<{ t: string }>("select data.typescript_types('acme/crm') as t"))[0]?.t ?? "";
});
afterAll(async () => {
  await db.drop();
  rmSync(dir, { recursive: true, force: true });
});

/** What tsc says of code that uses the types; empty when it compiles. */
function compile(code: string): string {
  writeFileSync(join(dir, "crm.ts"), types);
  writeFileSync(join(dir, "use.ts"), `import type { Company, Contact, Entities } from "./crm.ts";\n${code}`);
  const args = [
    "--noEmit",
    "--strict",
    "--allowImportingTsExtensions",
    "--module",
    "nodenext",
    "--types",
    "",
    join(dir, "use.ts"),
  ];
  return spawnSync(TSC, args, { encoding: "utf8", cwd: dir }).stdout;
}

const insert = (value: string) => `const x: Entities["contacts"]["insert"] = ${value};`;
test.each<[string, string, string | null]>([
  ["an insert of what is required, the default left out", insert('{ name: "Ann", kind: "person" }'), null],
  ["an insert that lacks a name", insert('{ kind: "person" }'), "'name' is missing"],
  ["an enum's other value", insert('{ name: "Ann", kind: "robot" }'), "not assignable"],
  ["a property that does not exist", insert('{ name: "Ann", kind: "person", agee: 1 }'), "agee"],
  ["a null for what is not required", insert('{ name: "Ann", kind: "person", age: null }'), null],
  ["a null for what is required", insert('{ name: null, kind: "person" }'), "not assignable"],
  ["an update of one", 'const x: Entities["contacts"]["update"] = { age: 3, version: 2 };', null],
  [
    "reading a record, nested and related",
    `declare const c: Contact; declare const f: Company;
     const a: [string, number | null | undefined, string | undefined, Contact | undefined, string[] | null, number] =
       [c.id, c.age, c.company?.name, f.contacts?.[0], c.tags, c.version];
     const floor: number | null | undefined = c.address?.["floor \\"1\\"; //"];`,
    null,
  ],
  [
    "deleted records and history, of entities that keep them",
    `import type { Page, RecordChange } from "./crm.ts"; declare const p: Page; declare const h: RecordChange;
     const a: [string | undefined, string | null | undefined, unknown] = [p.deleted_at, p.deleted_by, h.changes?.title?.old];`,
    null,
  ],
  [
    "deleted records of an entity that keeps none",
    "declare const c: Contact; const a = c.deleted_at;",
    "deleted_at",
  ],
  [
    "a value that may be absent, used as if it were there",
    "declare const c: Contact; const n: number = c.age;",
    "null",
  ],
])("%s", (_title, code, message) => {
  const said = compile(code);
  if (message === null) expect(said).toBe("");
  else expect(said).toContain(message);
});

test("nothing that a definition says becomes code", () => {
  expect(compile(`import * as all from "./crm.ts"; const names: Record<string, never> = { ...all };`)).toBe(
    "",
  );
});

test("only for those who may see the app", async () => {
  await db.as("acme", "vic@acme.test", async (client) => {
    const { rows } = await client.query("select data.typescript_types('acme/crm') as t");
    expect(rows[0].t).toBe(types);
  });
  await db.as("beta", "bob@beta.test", async (client) => {
    for (const name of ["typescript_types", "openapi"])
      expect((await refusal(client.query(`select data.${name}('acme/crm')`))).code).toBe("RH404");
  });
});
