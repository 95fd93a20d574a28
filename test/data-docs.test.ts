import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

// Its section on validation is run by validation.test.ts.
const guide = readFileSync(new URL("../docs/data.md", import.meta.url), "utf8").split(
  "## Validation",
)[0] as string;
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.query("select tenancy.create_organization('acme')");
  await db.query("select tenancy.create_site('acme', 'acme')");
  await db.query("select tenancy.create_app('acme', 'crm')");
});
afterAll(() => db.drop());

const statements = [...guide.matchAll(/```sql\n([\s\S]*?)```/g)].flatMap(([, sql]) =>
  [...(sql as string).matchAll(/([\s\S]+?;)(?: -- (.*))?\n/g)].map(([, statement, answer]) => ({
    statement: (statement as string).trim(),
    answer,
  })),
);

test("docs/data.md says what happens", async () => {
  expect(statements.length).toBeGreaterThan(8);
  for (const { statement, answer } of statements) {
    const outcome = await db.pool.query({ text: statement, rowMode: "array" }).then(
      (result) => (result.rows as unknown[][]).flat().map(String).join(", "),
      (error: Error) => `error: ${error.message}`,
    );
    if (answer === undefined) expect(outcome).not.toMatch(/^error/);
    else if (answer.startsWith("error: ")) {
      expect(outcome).toMatch(/^error/);
      expect(outcome).toContain(answer.slice("error: ".length));
    } else expect(outcome).toBe(answer);
  }
});

test("docs/data.md names every function of expressions", async () => {
  const failure = await db.query("select data.compile_call('nothing', '[]', 1)").catch((error) => error);
  const list: string[] = failure.hint.replace(/^Functions: |\.$/g, "").split(/[, ()]+/);
  const table = guide.slice(guide.indexOf("## Expressions"), guide.indexOf("## Rules"));
  expect(list.filter((name) => !new RegExp(`\\b${name}\\b`).test(table))).toEqual([]);
});
