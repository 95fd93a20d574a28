import type { ClientBase } from "pg";
import { to as copyTo } from "pg-copy-streams";
import { withCrlf } from "./crlf.ts";

/** The formats of exports. */
export const FORMATS = ["json", "ndjson", "csv"] as const;
export type Format = (typeof FORMATS)[number];

/** What is exported: an entity by a query (a shape and its values, as plan.ts makes them), or every entity of an app. */
export type Wanted =
  | { app: string; entity: string; format: string; shape: string; values: string[] | null }
  | { app: string; entity: null; format: string };

/** A COPY statement and the entity it writes. */
export type ExportStatement = { entity: string; sql: string };

/** The statements of an export, compiled with the rights of the session; noted: noteExport ran before. Throws pg's errors: RH400, RH404. */
export async function exportStatements(
  client: ClientBase,
  wanted: Wanted,
  noted = false,
): Promise<ExportStatement[]> {
  const { rows } =
    wanted.entity === null
      ? await client.query<ExportStatement>(
          `select e as entity, data.export_statement($1::text || '/' || e, $2, tagged => true, noted => $3) as sql
           from data.export_entities($1) with ordinality x (e, n) order by n`,
          [wanted.app, wanted.format, noted],
        )
      : await client.query<ExportStatement>(
          "select $2::text as entity, data.export_statement($1::text || '/' || $2, $3, $4, $5, noted => $6) as sql",
          [wanted.app, wanted.entity, wanted.format, wanted.shape, wanted.values, noted],
        );
  return rows;
}

/** Writes down which records an export will show, where that is asked for. Throws pg's errors. */
export async function noteExport(client: ClientBase, wanted: Wanted): Promise<void> {
  if (wanted.entity === null)
    await client.query("select data.note_export($1::text || '/' || e) from data.export_entities($1) x (e)", [
      wanted.app,
    ]);
  else
    await client.query("select data.note_export($1::text || '/' || $2, $3, $4)", [
      wanted.app,
      wanted.entity,
      wanted.shape,
      wanted.values,
    ]);
}

/**
 * Runs the statements and yields what they write, no faster than it is taken. `whole`: an app, so that JSON is an object of
 * lists. Records pass unparsed: JSON gets its brackets here, CSV the line ends of RFC 4180.
 */
export async function* exported(
  client: ClientBase,
  statements: ExportStatement[],
  format: Format,
  whole: boolean,
): AsyncGenerator<Buffer | string> {
  for (const [index, { entity, sql }] of statements.entries()) {
    const records = client.query(copyTo(sql));
    // Whoever reads hears of errors; the listener is for those that come when nobody reads any more.
    records.on("error", () => {});
    if (format === "csv") yield* withCrlf(records);
    else if (format === "ndjson") yield* records;
    else {
      if (whole) yield `${index === 0 ? "{" : ","}${JSON.stringify(entity)}:`;
      yield* list(records);
    }
  }
  if (format === "json") yield whole ? (statements.length === 0 ? "{}\n" : "}\n") : "\n";
}

/** Every record begins with a comma; the first one's becomes the bracket. */
async function* list(records: AsyncIterable<Buffer>): AsyncGenerator<Buffer | string> {
  let empty = true;
  for await (const chunk of records) {
    yield empty ? Buffer.concat([Buffer.from("["), chunk.subarray(1)]) : chunk;
    empty = false;
  }
  yield empty ? "[]" : "]";
}
