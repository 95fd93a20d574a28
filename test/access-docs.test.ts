import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

const guide = readFileSync(new URL("../docs/access.md", import.meta.url), "utf8");
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  for (const name of ["ann", "bob"]) await db.account(`${name}@paper.test`);
});
afterAll(() => db.drop());

const statements = [...guide.matchAll(/```sql\n([\s\S]*?)```/g)].flatMap(([, sql]) =>
  [...(sql as string).matchAll(/([\s\S]+?;)(?: -- (.*))?\n/g)].map(([, statement, answer]) => ({
    statement: (statement as string).trim(),
    answer,
  })),
);
const said = (value: unknown) =>
  value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);

test("docs/access.md says what happens", async () => {
  expect(statements.length).toBeGreaterThan(35);
  for (const { statement, answer } of statements) {
    const outcome = await db.pool.query({ text: statement, rowMode: "array" }).then(
      (result) => (result.rows as unknown[][]).flat().map(said).join(", "),
      (error: Error) => `error: ${error.message}`,
    );
    if (answer === undefined)
      expect([statement, outcome]).toEqual([statement, expect.not.stringMatching(/^error/)]);
    else if (answer.startsWith("error: ")) {
      expect(outcome).toMatch(/^error/);
      expect(outcome).toContain(answer.slice("error: ".length));
    } else expect([statement, outcome]).toEqual([statement, answer]);
  }
});

test("it names every ready-made policy and every permission of the control plane", async () => {
  const known = await db.query<{ name: string }>(
    "select name from access.ready_made_policies() union all select unnest(string_to_array(access.control_permissions(), ', '))",
  );
  expect(known.length).toBeGreaterThan(12);
  expect(known.filter(({ name }) => !guide.includes(`\`${name}\``))).toEqual([]);
});
