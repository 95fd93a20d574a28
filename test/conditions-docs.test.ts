import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { guideText, runGuide } from "./harness/guide.ts";

const guide = guideText("conditions.md");
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.account("ann@north.test");
});
afterAll(() => db.drop());

test("docs/conditions.md says what happens", async () => {
  expect(await runGuide(db, guide)).toBeGreaterThan(12);
});

test("what the text of a condition knows is what the guide names", async () => {
  const texts = [...guide.matchAll(/^\| `([^|]*)` \|/gm)].flatMap(([, cell]) =>
    (cell as string).split("`, `"),
  );
  const conditions = texts.filter((text) => /\s/.test(text));
  expect(conditions.length).toBeGreaterThan(6);
  for (const text of conditions) await db.query("select access.parse_condition($1)", [text]);
});
