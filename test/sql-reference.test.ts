import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { sqlReference, undocumented } from "../docs/sql.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
});
afterAll(() => db.drop());

test("docs/sql.md is what the database says: npm run docs", async () => {
  const written = readFileSync(new URL("../docs/sql.md", import.meta.url), "utf8");
  expect(written).toBe(await sqlReference(db.pool));
});

test("every function says what it is, and one that does not would be noticed", async () => {
  expect(await undocumented(db.pool)).toEqual([]);
  await db.query("create function data.silent(a int) returns int language sql as 'select a'");
  expect(await undocumented(db.pool)).toEqual(["data.silent(a integer)"]);
});

test("what an account may call has a heading, with arguments, result and errors", async () => {
  const written = readFileSync(new URL("../docs/sql.md", import.meta.url), "utf8");
  expect(written).toMatch(
    /### data\.import_lines\n\n```sql\ndata\.import_lines\(entity text, lines jsonb.*→ jsonb\n```\n\n.*\n\nErrors: RH400, RH403, RH404, RH413, RH422, RH429\./,
  );
  expect(written).not.toContain("### auth.log_in");
});
