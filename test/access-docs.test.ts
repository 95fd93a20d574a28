import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { guideText, runGuide } from "./harness/guide.ts";

const guide = guideText("access.md");
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  for (const name of ["ann", "bob"]) await db.account(`${name}@paper.test`);
});
afterAll(() => db.drop());

test("docs/access.md says what happens", async () => {
  expect(await runGuide(db, guide)).toBeGreaterThan(35);
});

test("it names every ready-made policy and every permission of the control plane", async () => {
  const known = await db.query<{ name: string }>(
    "select name from access.ready_made_policies() union all select unnest(string_to_array(access.control_permissions(), ', '))",
  );
  expect(known.length).toBeGreaterThan(12);
  expect(known.filter(({ name }) => !guide.includes(`\`${name}\``))).toEqual([]);
});
