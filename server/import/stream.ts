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

/**
 * Writes batches with the rights of the session; the caller holds the transaction. While PostgreSQL writes one, the next is
 * read. `write` sends a batch; with onError stop the wrong lines are looked for to the end of the input, or until there are
 * 1,000, and then all is refused: RH422 lists them.
 */
async function importAll(
  client: ClientBase,
  batches: AsyncIterable<Batch>,
  onError: string,
  write: (batch: Batch) => Promise<Imported>,
  progress: (done: Imported) => void,
): Promise<Imported> {
  const total: Imported = { inserted: 0, updated: 0, unchanged: 0, skipped: 0, errors: [] };
  let writing: Promise<Imported> | undefined;
  const settle = async () => {
    if (!writing) return;
    add(total, await writing);
    writing = undefined;
    progress(total);
  };
  const refuse = () => client.query("select data.refuse_import($1)", [JSON.stringify(total.errors)]);
  try {
    for await (const batch of batches) {
      await settle();
      if (onError === "stop" && total.errors.length >= LISTED) break;
      writing = write(batch);
      writing.catch(() => {}); // said when it is settled
    }
    await settle();
  } catch (error) {
    await writing?.catch(() => {}); // the transaction is the caller's again
    throw error;
  }
  if (onError === "stop" && total.errors.length > 0) await refuse();
  return total;
}

function add(total: Imported, done: Imported): void {
  for (const name of ["inserted", "updated", "unchanged", "skipped"] as const) total[name] += done[name];
  total.errors.push(...done.errors.slice(0, LISTED - total.errors.length));
}

/** Writes batches into an entity (acme/crm/contacts). `progress` is told after each what was done so far. Throws pg's errors. */
export function importBatches(
  client: ClientBase,
  entity: string,
  batches: AsyncIterable<Batch>,
  options: { key: string[] | null; onError: string },
  progress: (done: Imported) => void = () => {},
): Promise<Imported> {
  const write = (batch: Batch) => importBatch(client, entity, batch, options);
  return importAll(client, batches, options.onError, write, progress);
}

// Wrong lines are collected over all batches, so that stop tells of more than the first.
async function importBatch(
  client: ClientBase,
  entity: string,
  { columns, lines }: Batch,
  { key, onError }: { key: string[] | null; onError: string },
): Promise<Imported> {
  const { rows } = await client.query<{ done: Imported }>({
    name: "import_lines",
    text: "select data.import_lines($1, $2, $3, $4, $5) as done",
    values: [entity, JSON.stringify(lines), columns, key, onError === "stop" ? "list" : onError],
  });
  return rows[0]?.done as Imported;
}

/** A line of an app's export: its entity, and the record's text. */
const TAGGED = /^\{"entity":"([a-z][a-z0-9_]*)","record":(\{.*\})\}\s*$/s;

/** Whether a line is one of an app's export, {"entity", "record"}. */
export function isTagged(line: string): boolean {
  return TAGGED.test(line);
}

/** As importBatches, for an app (acme/crm): each line of NDJSON says its entity. */
export function importTagged(
  client: ClientBase,
  app: string,
  batches: AsyncIterable<Batch>,
  options: { key: string[] | null; onError: string },
  progress: (done: Imported) => void = () => {},
): Promise<Imported> {
  let entity = "";
  const write = async ({ lines }: Batch) => {
    const runs: { entity: string; lines: Batch["lines"] }[] = [];
    for (const [number, text] of lines) {
      const [, name = entity, record = null] = TAGGED.exec(String(text)) ?? [];
      if (name === "")
        throw new ImportError(`Line ${number} does not say its entity: {"entity": …, "record": {…}}.`);
      if (name !== entity || runs.length === 0) runs.push({ entity: name, lines: [] });
      entity = name;
      runs.at(-1)?.lines.push([number, record]);
    }
    const total: Imported = { inserted: 0, updated: 0, unchanged: 0, skipped: 0, errors: [] };
    for (const run of runs)
      add(
        total,
        await importBatch(client, `${app}/${run.entity}`, { columns: null, lines: run.lines }, options),
      );
    return total;
  };
  return importAll(client, batches, options.onError, write, progress);
}
