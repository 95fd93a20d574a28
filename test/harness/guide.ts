import { readFileSync } from "node:fs";
import { expect } from "@jest/globals";
import type { TestDatabase } from "./database.ts";

/** The text of a guide of docs/. */
export const guideText = (name: string): string =>
  readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");

/** Runs every statement of a guide's sql blocks as the operator: what stands behind "-- " is what it answers, or "error: …" what it says. Returns how many there were. */
export async function runGuide(db: TestDatabase, guide: string): Promise<number> {
  const statements = [...guide.matchAll(/```sql\n([\s\S]*?)```/g)].flatMap(([, sql]) => [
    ...(sql as string).matchAll(/([\s\S]+?;)(?: -- (.*))?\n/g),
  ]);
  for (const [, text, answer] of statements) {
    const statement = (text as string).trim();
    const outcome = await db.pool.query({ text: statement, rowMode: "array" }).then(
      (result) => (result.rows as unknown[][]).flat().map(said).join(", "),
      (error: Error) => `error: ${error.message}`,
    );
    if (answer === undefined)
      expect([statement, outcome]).toEqual([statement, expect.not.stringMatching(/^error/)]);
    else if (answer.startsWith("error: ")) {
      expect([statement, outcome]).toEqual([statement, expect.stringMatching(/^error/)]);
      expect(outcome).toContain(answer.slice("error: ".length));
    } else expect([statement, outcome]).toEqual([statement, answer]);
  }
  return statements.length;
}

const said = (value: unknown) =>
  value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
