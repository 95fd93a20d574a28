import type { ClientBase } from "pg";
import type { Batch } from "./lines.ts";

/** What is wrong with a line. */
export type LineError = { line: number; pointer: string; message: string };
/** What an import did. `errors` are the first 1,000 of the lines that were skipped. */
export type Imported = {
  inserted: number;
  updated: number;
  unchanged: number;
  skipped: number;
  errors: LineError[];
};

const LISTED = 1000;

/**
 * Writes batches into an entity (acme/crm/contacts) with the rights of the session; the caller holds the transaction.
 * @param progress is told after each batch what was done so far.
 * Throws pg's errors: RH422 lists the wrong lines when `onError` is stop.
 */
export async function importBatches(
  client: ClientBase,
  entity: string,
  batches: AsyncIterable<Batch>,
  { key, onError }: { key: string[] | null; onError: string },
  progress: (done: Imported) => void = () => {},
): Promise<Imported> {
  const total: Imported = { inserted: 0, updated: 0, unchanged: 0, skipped: 0, errors: [] };
  for await (const { columns, lines } of batches) {
    const { rows } = await client.query<{ done: Imported }>({
      name: "import_lines",
      text: "select data.import_lines($1, $2, $3, $4, $5) as done",
      values: [entity, JSON.stringify(lines), columns, key, onError],
    });
    const done = rows[0]?.done as Imported;
    for (const name of ["inserted", "updated", "unchanged", "skipped"] as const) total[name] += done[name];
    total.errors.push(...done.errors.slice(0, LISTED - total.errors.length));
    progress(total);
  }
  return total;
}
