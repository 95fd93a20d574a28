import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

const GUIDE = readFileSync(
  fileURLToPath(new URL("../docs/changing-definitions.md", import.meta.url)),
  "utf8",
);

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
});
afterAll(() => db.drop());

test("every statement of the guide does what the guide says", async () => {
  const outcomes: unknown[] = [];
  for (const [, block] of GUIDE.matchAll(/```sql\n([\s\S]*?)```/g))
    for (const statement of (block as string).split(/;\n/).filter((s) => s.trim()))
      outcomes.push(await db.query(statement));
  expect(outcomes[4]).toEqual([{ name: "Ada", next: "37" }]);
  expect(outcomes[6]).toEqual([{ fullname: "Ada", age: "36", fax: "1" }]);
  expect(outcomes[9]).toEqual([{ full_name: "Ada Lovelace", fullname: "Ada Lovelace" }]);
  expect(outcomes[12]).toEqual([{ name: "Oslo Works" }]);
  expect(outcomes[15]).toEqual([
    {
      offenders: [],
      message: expect.stringContaining("would not come back by to_text(round(price / 100, 2)): 1"),
    },
  ]);
  expect(outcomes[17]).toEqual([{ price: null }, { price: "400" }, { price: "450" }]);
  expect(outcomes[19]).toEqual([{ price: null }, { price: "4.00" }, { price: "4.50" }]);
  expect(outcomes[21]).toMatchObject([{ kind: "convert_storage", state: "waiting" }]);
  expect(outcomes[23]).toMatchObject([{ full_name: "Ada Lovelace", age: "36", fax: "1" }]);
  for (const misfit of [
    '{"kind": "person", "name": "x", "vat": "y"}',
    '{"kind": "company", "name": "x"}',
    '{"kind": "robot", "name": "x"}',
  ])
    await expect(db.query("select data.insert('acme/crm/parties', $1)", [misfit])).rejects.toThrow(
      "not valid",
    );
});
