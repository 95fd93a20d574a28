import { createReadStream } from "node:fs";
import { access } from "node:fs/promises";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import type { ClientBase } from "pg";
import { batches, type Encoding, LINE_FORMATS, type LineFormat } from "./lines.ts";
import { ImportError } from "./read.ts";
import { type Imported, importBatches, importTagged, isTagged } from "./stream.ts";

const LINE = 64 * 1024 * 1024; // characters
const FORMATS: Record<string, LineFormat> = {
  ".csv": "csv",
  ".tsv": "csv",
  ".ndjson": "ndjson",
  ".jsonl": "ndjson",
  ".json": "json",
};

/** How a file of records is read. */
export type FileOptions = {
  format?: LineFormat;
  encoding: Encoding;
  onError: string;
  key?: string;
  account?: string;
};

/** Whether a file is the export of an app as NDJSON. */
export async function isAppExport(file: string): Promise<boolean> {
  if (!/\.(ndjson|jsonl)$/i.test(file)) return false;
  const input = createReadStream(file, { encoding: "utf8" });
  input.on("error", () => {}); // a file that is not there is said by whoever reads it
  for await (const line of createInterface({ input })) {
    input.destroy();
    return isTagged(line);
  }
  return false;
}

/** Imports a file of records (- for standard input) into an entity (acme/crm/contacts), or an app's export into an app (acme/crm), in one transaction, holding a batch at a time. */
export async function importLines(
  client: ClientBase,
  entity: string,
  file: string,
  { format = FORMATS[extname(file).toLowerCase()], encoding, onError, key, account }: FileOptions,
  progress: (done: Imported) => void,
): Promise<Imported> {
  if (!format)
    throw new ImportError(
      `${file} is neither .json, .ndjson, .jsonl, .csv nor .tsv: say --format ${LINE_FORMATS.join(" or ")}.`,
    );
  const exists =
    file === "-" ||
    (await access(file).then(
      () => true,
      () => false,
    ));
  if (!exists) throw new ImportError(`There is no file ${file}.`);
  const bytes: AsyncIterable<Buffer> = file === "-" ? process.stdin : createReadStream(file);
  if (account) await client.query("call tenancy.enter($1, $2)", [entity.split("/")[0], account]);
  try {
    await client.query(
      "begin; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0",
    );
    const read = batches(bytes, { format, encoding, lineLimit: LINE });
    const importAll = entity.split("/").length === 2 ? importTagged : importBatches;
    const done = await importAll(client, entity, read, { key: key?.split(",") ?? null, onError }, progress);
    await client.query("commit");
    return done;
  } catch (error) {
    await client.query("rollback");
    throw withLines(error as Error & { detail?: string });
  } finally {
    if (account) await client.query("call tenancy.leave()");
  }
}

/** The error with every wrong line that it lists. */
function withLines(error: Error & { detail?: string; hint?: string }): Error {
  if (!error.detail?.startsWith("{")) return error;
  const { errors } = JSON.parse(error.detail) as {
    errors?: { line?: number; pointer: string; message: string }[];
  };
  const lines = errors?.filter((one) => one.line !== undefined) ?? [];
  if (lines.length === 0) return error;
  const text = lines.map(({ line, pointer, message }) => `  line ${line}: ${pointer} ${message}`).join("\n");
  return Object.assign(new ImportError(`Nothing was imported.\n${text}`, { cause: error }), {
    hint: error.hint,
  });
}
