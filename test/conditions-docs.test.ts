import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

const guide = readFileSync(new URL("../docs/conditions.md", import.meta.url), "utf8");
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.account("ann@north.test");
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

test("docs/conditions.md says what happens", async () => {
  expect(statements.length).toBeGreaterThan(12);
  for (const { statement, answer } of statements) {
    const outcome = await db.pool.query({ text: statement, rowMode: "array" }).then(
      (result) => (result.rows as unknown[][]).flat().map(said).join(", "),
      (error: Error) => `error: ${error.message}`,
    );
    if (answer === undefined) expect(outcome).not.toMatch(/^error/);
    else if (answer.startsWith("error: ")) {
      expect(outcome).toMatch(/^error/);
      expect(outcome).toContain(answer.slice("error: ".length));
    } else expect(outcome).toBe(answer);
  }
});

test("what the text of a condition knows is what the guide names", async () => {
  const texts = [...guide.matchAll(/^\| `([^|]*)` \|/gm)].flatMap(([, cell]) =>
    (cell as string).split("`, `"),
  );
  const conditions = texts.filter((text) => /\s/.test(text));
  expect(conditions.length).toBeGreaterThan(6);
  for (const text of conditions) await db.query("select access.parse_condition($1)", [text]);
});
