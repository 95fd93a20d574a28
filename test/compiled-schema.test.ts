import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

// What of JSON Schema is compiled into an expression gives the answers of the interpreter.

const SUITE = new URL("json-schema/", import.meta.url);
type Group = { description: string; schema: unknown; tests: { data: unknown; valid: boolean }[] };

let db: TestDatabase;
beforeAll(async () => {
  db = await cloneDatabase();
});
afterAll(() => db.drop());

async function compiled(schema: string): Promise<string | null> {
  const [row] = await db.query<{ f: string | null }>(
    "select data.fits(s, '(v.value)', coalesce(case jsonb_typeof(s) when 'object' then s->'$defs' end, '{}'), false) as f from (select $1::jsonb) x (s)",
    [schema],
  );
  return row?.f ?? null;
}

test("every case of the official suite whose schema is compiled has the interpreter's answer", async () => {
  let [cases, all] = [0, 0];
  const wrong: unknown[] = [];
  const files = readdirSync(SUITE).filter((file) => file.endsWith(".json"));
  for (const file of files) {
    for (const group of JSON.parse(readFileSync(new URL(file, SUITE), "utf8")) as Group[]) {
      all += group.tests.length;
      const schema = JSON.stringify(group.schema);
      const values = group.tests.map((one) => JSON.stringify(one.data));
      if (/\\u0000/.test(schema + values)) continue; // no text of PostgreSQL
      const [supported] = await db.query<{ p: unknown[] }>(
        "select data.unsupported_keywords($1::jsonb) as p",
        [schema],
      );
      if (supported?.p.length !== 0) continue;
      const expression = await compiled(schema);
      if (expression === null) continue;
      const rows = await db.query<{ quick: boolean; full: boolean }>(
        `select ${expression} as quick, data.validate($1::jsonb, v.value) = '[]' as full from unnest($2::jsonb[]) with ordinality v (value, n) order by n`,
        [schema, values],
      );
      for (const [n, { quick, full }] of rows.entries())
        if (quick !== full || full !== group.tests[n]?.valid)
          wrong.push([file, group.description, values[n], quick, full]);
      cases += rows.length;
    }
  }
  expect(wrong).toEqual([]);
  expect(cases / all).toBeGreaterThan(0.6);
});
