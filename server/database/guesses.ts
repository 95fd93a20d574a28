import type { Pool } from "pg";
import { type Bound, runWithin, type Statement } from "./pipelined.ts";

/** What is to be said of a write instead of that a value is taken, as SQL says it. */
export type Guessed = { status: number; message: string; hint: string; code: string; retry_after: number };

const noteStatement: Statement = {
  name: "note_guess",
  text: "select access.note_guess($1::text, $2::text, $3::text)::text",
};

/**
 * Tells SQL that a unique index refused a write, which was rolled back with whatever it would have counted: `context` makes
 * the writer of a connection. SQL decides whether it was a guess, and whether one too many. Throws pg's errors, and then
 * nothing must be answered of the write.
 */
export async function noteTaken(pool: Pool, context: Bound, failure: unknown): Promise<Guessed | null> {
  const { code, schema, table, constraint } = failure as Record<string, string | undefined>;
  if (code !== "23505") return null;
  const values = [schema ?? null, table ?? null, constraint ?? null];
  const { rows } = await runWithin(pool, context, { statement: noteStatement, values }, false);
  const said = rows[0]?.[0];
  return said ? (JSON.parse(said) as { problem: Guessed }).problem : null;
}
