import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { guideText, runGuide } from "./harness/guide.ts";

// Its section on validation is run by validation.test.ts.
const guide = guideText("data.md").split("## Validation")[0] as string;
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
});
afterAll(() => db.drop());

test("docs/data.md says what happens", async () => {
  expect(await runGuide(db, guide)).toBeGreaterThan(8);
});

test("docs/data.md names every function of expressions", async () => {
  const failure = await db.query("select data.compile_call('nothing', '[]', 1)").catch((error) => error);
  const list: string[] = failure.hint.replace(/^Functions: |\.$/g, "").split(/[, ()]+/);
  const table = guide.slice(guide.indexOf("## Expressions"), guide.indexOf("## Rules"));
  expect(list.filter((name) => !new RegExp(`\\b${name}\\b`).test(table))).toEqual([]);
});
