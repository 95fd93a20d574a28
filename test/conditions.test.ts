import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
});
afterAll(() => db.drop());
test("smoke", async () => {
  for (const t of [
    "author_id = current_user.id and status in ('draft','review')",
    "not (a = 1 or b <> 'x') and c between 1 and 5",
    "$env.ip in cidr '10.0.0.0/8' or tags contains 'x'",
    "region in $account.attributes.regions and action = 'read'",
    "region not in current_user.attributes.regions",
    "address.city like 'O%' and company.city is not null and active",
    "name = '$account.id'",
    "\"action\" = 1 and current_user.roles contains 'editor'",
  ]) {
    const [r] = await db.query("select access.parse_condition($1) as c, access.condition_text(access.parse_condition($1)) as t, access.condition_uses(access.parse_condition($1)) u, access.condition_fields(access.parse_condition($1)) f", [t]);
    console.log(t, "\n", JSON.stringify(r));
  }
  expect(1).toBe(1);
});
