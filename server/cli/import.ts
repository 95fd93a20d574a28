import { SingleBar } from "cli-progress";
import { type Command, Option } from "commander";
import type { Client } from "pg";
import { importLines, isAppExport } from "../import/file.ts";
import { type Inferred, infer } from "../import/infer.ts";
import { ENCODINGS, type Encoding, LINE_FORMATS, type LineFormat } from "../import/lines.ts";
import { ensureApp, type Loaded, load } from "../import/load.ts";
import { readOverrides } from "../import/overrides.ts";
import { ImportError } from "../import/read.ts";
import { SourceFile } from "../import/source.ts";
import type { Imported } from "../import/stream.ts";
import type { Settings } from "../settings.ts";
import { asOperator } from "./operator.ts";

const EXAMPLES = `
The file is JSON ({"Customer": [{…}], "Invoice": [{…}]} or [{…}]), NDJSON (.ndjson, .jsonl) or CSV (.csv).
Types, keys and relations are inferred from values and names. To change them:
  rowhouse import acme/crm data.json --dry-run > schema.json    print what is inferred, and edit it
  rowhouse import acme/crm data.json --schema schema.json       use it
In that file a property with a type or enum replaces the inferred one, another one adds to it ({"minimum": 0};
{"x-relation": null} takes away), and null leaves the property out. "key" says what identifies a record, and
{"names": {"Inv": "invoice"}} beside "entities" how a list of the file is called.

Importing again updates the records that are there, by their key. A broken record stops the import; nothing is kept.

Into an entity that exists, with wrong lines left out and listed where wanted (- reads standard input, with --format):
  rowhouse import acme/crm/contacts contacts.csv --on-error skip
  rowhouse import acme/crm/contacts contacts.ndjson --key email
Records that are there, by --key (default: id), are updated. What rowhouse export writes can be read so;
a whole app's NDJSON into an app that has the entities: rowhouse import acme/copy crm.ndjson`;

interface Options {
  schema?: string;
  entity?: string;
  dryRun?: boolean;
  format?: LineFormat;
  onError: string;
  key?: string;
  encoding: Encoding;
  account?: string;
}

/** `rowhouse import`: a file of records becomes entities of an app. */
export function importCommand(program: Command): void {
  program
    .command("import")
    .description("create an app's entities from a JSON, NDJSON or CSV file and load its records")
    .argument("<app>", "site/app, created when missing, for example acme/crm; or site/app/entity")
    .argument("<file>", "the file to read")
    .option("--schema <file>", "definitions that replace parts of what is inferred")
    .option("--entity <name>", "the entity of a file that is one list (default: the file's name)")
    .option("--dry-run", "print the inferred definitions and change nothing")
    .addOption(
      new Option("--format <format>", "of lines (default: by the file's name)").choices(LINE_FORMATS),
    )
    .addOption(
      new Option("--on-error <what>", "stop: nothing is imported; skip: wrong lines are left out and listed")
        .choices(["stop", "skip"])
        .default("stop"),
    )
    .option("--key <fields>", "what identifies records, with commas between (default: id)")
    .addOption(
      new Option("--encoding <name>", "of a file without a byte order mark")
        .choices(ENCODINGS)
        .default("utf-8"),
    )
    .option("--account <email>", "import with this account's rights (default: as the operator)")
    .addHelpText("after", EXAMPLES)
    .action(async (app: string, file: string, options: Options) => {
      if (app.split("/").length === 3 || (await isAppExport(file))) {
        const imported = await asOperator(({ client }) =>
          importLines(client, app, file, options, plainCount),
        );
        for (const { line, pointer, message } of imported.errors)
          console.error(`line ${line}: ${pointer} ${message}`);
        const { inserted, updated, unchanged, skipped } = imported;
        console.log(`inserted ${inserted}, updated ${updated}, unchanged ${unchanged}, skipped ${skipped}`);
        return;
      }
      const inferred = await inferFile(file, options, readProgress());
      if (options.dryRun) {
        for (const one of inferred) console.error(describe(one));
        const entities = Object.fromEntries(
          inferred.map((one) => [one.entity, { key: one.key, ...one.definition }]),
        );
        console.log(JSON.stringify({ entities }, null, 2));
        return;
      }
      await asOperator(async ({ client, settings }) => {
        const loaded = await importInto(client, app, inferred);
        report(app, inferred, loaded, settings);
      });
    });
}

/** Reads a file and infers its entities, with the user's definitions laid over them. */
export async function inferFile(
  file: string,
  options: Partial<Pick<Options, "schema" | "entity" | "encoding">>,
  progress?: (records: number) => void,
): Promise<Inferred[]> {
  const overrides = options.schema ? readOverrides(options.schema) : undefined;
  const inferred = await infer(new SourceFile(file, options.entity, options.encoding), overrides, progress);
  if (inferred.every((one) => one.count === 0)) throw new ImportError(`${file} holds no records.`);
  return inferred;
}

/** Every 100,000 records: how many were read. */
function readProgress(): (records: number) => void {
  let said = 0;
  return (records) => {
    if (records - said < 100_000) return;
    said = records;
    console.error(`Read ${records} records.`);
  };
}

/** Imports in one transaction, with a progress bar on a terminal. */
export async function importInto(client: Client, app: string, inferred: Inferred[]): Promise<Loaded[]> {
  for (const one of inferred) console.error(describe(one));
  const total = inferred.reduce((sum, one) => sum + one.count, 0);
  const bar = process.stderr.isTTY
    ? new SingleBar({
        format: "{bar} {value} of {total} records, {eta_formatted} left",
        stream: process.stderr,
      })
    : undefined;
  await client.query("begin");
  try {
    const created = await ensureApp(client, app);
    for (const what of created) console.error(`Created ${what}.`);
    bar?.start(total, 0);
    const loaded = await load(
      client,
      app,
      inferred,
      bar ? (done, entity) => (entity === null ? bar.stop() : bar.increment(done)) : plainProgress(inferred),
    );
    await client.query("commit");
    return loaded;
  } catch (error) {
    await client.query("rollback");
    throw error instanceof ImportError ? error : explain(error as Error);
  } finally {
    bar?.stop();
  }
}

/** Every 10,000 records: how many are done. */
function plainCount(done: Imported): void {
  const count = done.inserted + done.updated + done.unchanged + done.skipped;
  if (count % 10_000 < 1000) console.error(`${count} records`);
}

/** Without a terminal: a line per entity, and one per 10,000 records of a long one. */
function plainProgress(inferred: Inferred[]): (done: number, entity: string | null) => void {
  const counts = new Map<string, number>();
  return (done, entity) => {
    if (entity === null) return console.error("Checking relations.");
    const count = (counts.get(entity) ?? 0) + done;
    counts.set(entity, count);
    const total = inferred.find((one) => one.entity === entity)?.count;
    if (count === total || count % 10_000 === 0) console.error(`Loaded ${count} of ${total} ${entity}.`);
  };
}

function explain(error: Error): Error {
  const { detail } = error as { detail?: string };
  const more = detail && !detail.startsWith("{") ? ` (${detail})` : "";
  return Object.assign(new Error(`Nothing was imported. ${error.message}${more}`, { cause: error }), {
    hint: (error as { hint?: string }).hint,
  });
}

function describe(one: Inferred): string {
  const fields = Object.entries(one.definition.properties).map(([name, property]) => {
    const type = property.enum ? "enum" : (property.format ?? property.type);
    const size = property.format === "decimal" ? `(${property.precision},${property.scale})` : "";
    const relation = property["x-relation"]
      ? ` → ${property["x-relation"].entity}.${property["x-relation"].field}`
      : "";
    return `    ${name.padEnd(28)} ${type}${size}${one.definition.required.includes(name) ? "" : "?"}${relation}`;
  });
  const notes = one.notes.map((note) => `    note: ${note}`);
  return [
    `  ${one.entity}: ${one.count} records, key ${one.key.join(" + ") || "unknown"}`,
    ...fields,
    ...notes,
  ].join("\n");
}

function report(app: string, inferred: Inferred[], loaded: Loaded[], settings: Settings): void {
  const [site] = app.split("/");
  const rows = loaded.map(
    (l) =>
      `  ${l.entity.padEnd(28)} ${String(l.inserted).padStart(9)} ${String(l.updated).padStart(9)} ${String(l.unchanged).padStart(9)}`,
  );
  const sum = (name: "inserted" | "updated" | "unchanged") => loaded.reduce((total, l) => total + l[name], 0);
  const url = settings.ROWHOUSE_URL || `http://127.0.0.1:${settings.ROWHOUSE_PORT}`;
  const path = `${url}/api/v1/sites/${site}/apps/${app.split("/")[1]}`;
  console.log(`
  ${"entity".padEnd(28)}  inserted   updated unchanged
${rows.join("\n")}
  ${`${inferred.length} entities`.padEnd(28)} ${String(sum("inserted")).padStart(9)} ${String(sum("updated")).padStart(9)} ${String(sum("unchanged")).padStart(9)}

Try it:
  TOKEN=$(npx rowhouse token --site ${site} --account you@example.com --role admin)
  curl -H "authorization: Bearer $TOKEN" "${path}/${loaded[0]?.entity}?limit=3"
  npx rowhouse psql -- -c "select data.find('${app}/${loaded[0]?.entity}', '{\\"limit\\": 3}')"
  GraphQL: ${path}/graphql`);
}
