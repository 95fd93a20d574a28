import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { guideText } from "./harness/guide.ts";

const guide = guideText("masks.md");
let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme", { "ann@acme.test": "editor", "rex@acme.test": "viewer" });
  await db.query("select access.revoke_role('acme', 'rex@acme.test', 'viewer')");
});
afterAll(() => db?.drop());

test("docs/masks.md says what is shown", async () => {
  const blocks = [...guide.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql]) => sql as string);
  expect(blocks).toHaveLength(4);
  const [setUp = "", rules = "", compared = "", listed = ""] = blocks;
  await db.query(setUp);
  const asAnn = (sql: string) =>
    db.as("acme", "ann@acme.test", async (client) =>
      (await client.query(sql)).rows.map((row) => Object.values(row)),
    );
  const [insert = "", ...queries] = compared.trim().split("\n");
  await db.query(insert);
  for (const line of queries) {
    const [sql = "", told = ""] = line.split(" -- ");
    const says = JSON.stringify(await asAnn(sql.replace("max(born)", "max(born)::text")));
    expect([line, says]).toEqual([line, told.startsWith("none") ? "[]" : `[["${told}"]]`]);
  }
  const [asked = "", told] = listed.trim().split(" -- ");
  expect((await db.query(asked)).map((row) => JSON.stringify(Object.values(row)[0]))).toEqual([told]);
  await db.query("delete from acme_crm.people where name = 'Bea'");
  await db.query(rules);
  const seen = async (email: string) =>
    db.as("acme", email, async (client) => {
      const { rows } = await client.query(
        "select name, email, phone, born::text, ssn, salary::int from acme_crm.people",
      );
      return rows[0];
    });
  const masked = {
    name: "Ada",
    email: "a***@example.com",
    phone: "****1234",
    born: "1990-01-01",
    salary: 100,
  };
  expect(await seen("ann@acme.test")).toEqual({ ...masked, ssn: expect.stringMatching(/^[0-9a-f]{32}$/) });
  await db.query("select access.assign_role('acme', 'rex@acme.test', 'reception')");
  expect(await seen("rex@acme.test")).toEqual({
    name: "Ada",
    email: null,
    phone: "****1234",
    born: null,
    ssn: null,
    salary: null,
  });
  await db.query("select access.assign_role('acme', 'rex@acme.test', 'hr')");
  expect(await seen("rex@acme.test")).toEqual({
    ...masked,
    email: "ada@example.com",
    born: "1990-05-17",
    ssn: "***-1120",
  });
});

test("the masks of the guide are those there are", async () => {
  const names = [...guide.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(names).toHaveLength(6);
  for (const name of names)
    expect(await db.query("select access.is_mask($1) as is", [name])).toEqual([{ is: true }]);
});
