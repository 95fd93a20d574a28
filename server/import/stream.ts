import type { ClientBase } from "pg";
import type { Batch } from "./lines.ts";
import { ImportError } from "./read.ts";

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

/** A line of an app's export: its entity, and the record's text. */
const TAGGED = /^\{"entity":"([a-z][a-z0-9_]*)","record":(\{.*\})\}\s*$/s;

/** Whether a line is one of an app's export, {"entity", "record"}. */
export function isTagged(line: string): boolean {
  return TAGGED.test(line);
}

/** As importBatches, for an app (acme/crm): each line of NDJSON says its entity. */
export async function importTagged(
  client: ClientBase,
  app: string,
  batches: AsyncIterable<Batch>,
  options: { key: string[] | null; onError: string },
  progress: (done: Imported) => void = () => {},
): Promise<Imported> {
  let entity = "";
  const total: Imported = { inserted: 0, updated: 0, unchanged: 0, skipped: 0, errors: [] };
  for await (const { lines } of batches) {
    const runs: { entity: string; lines: Batch["lines"] }[] = [];
    for (const [number, text] of lines) {
      const [, name = entity, record = null] = TAGGED.exec(String(text)) ?? [];
      if (name === "")
        throw new ImportError(`Line ${number} does not say its entity: {"entity": …, "record": {…}}.`);
      if (name !== entity || runs.length === 0) runs.push({ entity: name, lines: [] });
      entity = name;
      runs.at(-1)?.lines.push([number, record]);
    }
    for (const run of runs) {
      const one = (async function* () {
        yield { columns: null, lines: run.lines };
      })();
      add(total, await importBatches(client, `${app}/${run.entity}`, one, options));
    }
    progress(total);
  }
  return total;
}

function add(total: Imported, done: Imported): void {
  for (const name of ["inserted", "updated", "unchanged", "skipped"] as const) total[name] += done[name];
  total.errors.push(...done.errors.slice(0, LISTED - total.errors.length));
}

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
    add(total, rows[0]?.done as Imported);
    progress(total);
  }
  return total;
}
