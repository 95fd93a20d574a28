import { createWriteStream } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Command, Option } from "commander";
import type { ClientBase } from "pg";
import { exported, exportStatements, FORMATS, type Format, type Wanted } from "../export/export.ts";
import { asOperator } from "./operator.ts";

const EXAMPLES = `
Examples:
  rowhouse export acme/crm --output crm.json                          every entity, {"contacts": […], …}
  rowhouse export acme/crm/contacts --format csv > contacts.csv       one entity
  rowhouse export acme/crm/contacts --filter '{"age": {"$gte": 18}}' --sort '[{"field": "name"}]'
  rowhouse export acme/crm --format csv --output folder               a file per entity
  rowhouse export acme/crm --account ann@acme.test                    with exactly her rights

What is exported can be imported again: rowhouse import --help. A file appears under its name when it is
complete; what is cut short exits with 1. CSV opened in a spreadsheet: see docs/in-and-out.md on formulas.`;

interface Options {
  format: Format;
  output?: string;
  filter?: string;
  sort?: string;
  select?: string;
  account?: string;
}

/** `rowhouse export`: the records of an entity or an app. */
export function exportCommand(program: Command): void {
  program
    .command("export")
    .description("write the records of an entity or a whole app as JSON, NDJSON or CSV")
    .argument("<path>", "site/app or site/app/entity, for example acme/crm/contacts")
    .addOption(new Option("--format <format>", "how records are written").choices(FORMATS).default("json"))
    .option("--output <file>", "the file to write, a folder for an app as CSV (default: standard output)")
    .option("--filter <json>", "only records that fit, of one entity")
    .option("--sort <json>", "their order")
    .option("--select <fields>", "only these fields, with commas between")
    .option("--account <email>", "export what this account may read (default: everything)")
    .addHelpText("after", EXAMPLES)
    .action(async (path: string, options: Options) => {
      await asOperator(({ client }) => exportPath(client, path, options, process.stdout));
    });
}

/** Exports in one snapshot; `standard` is written when no file is named. Throws when the export is not whole. */
export async function exportPath(
  client: ClientBase,
  path: string,
  options: Options,
  standard: NodeJS.WritableStream,
): Promise<void> {
  const [site, name, entity = null, ...rest] = path.split("/");
  if (!site || !name || entity === "" || rest.length > 0)
    throw new Error(`"${path}" names neither an app nor an entity; write acme/crm or acme/crm/contacts.`);
  const { format, output } = options;
  const query = queryOf(options);
  if (entity === null && query !== "{}")
    throw new Error("--filter, --sort and --select are for one entity: acme/crm/contacts.");
  if (entity === null && format === "csv" && !output)
    throw new Error("An app as CSV is a file per entity: name a folder with --output.");
  if (options.account) await client.query("call tenancy.enter($1, $2)", [site, options.account]);
  // Not read only: what is read may have to be written down.
  await client.query("begin isolation level repeatable read; set local statement_timeout = 0");
  try {
    await client.query("set local timezone = 'UTC'");
    const app = `${site}/${name}`;
    const wanted: Wanted =
      entity === null ? { app, entity, format } : { app, entity, format, shape: query, values: null };
    const statements = await exportStatements(client, wanted);
    if (entity === null && format === "csv" && output) {
      await mkdir(output, { recursive: true });
      for (const statement of statements)
        await write(exported(client, [statement], format, false), join(output, `${statement.entity}.csv`));
    } else {
      const chunks = exported(client, statements, format, entity === null);
      if (output) await write(chunks, output);
      else await pipeline(Readable.from(chunks), standard, { end: false });
    }
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    if (options.account) await client.query("call tenancy.leave()");
  }
}

function queryOf({ filter, sort, select }: Options): string {
  const parts = { filter, sort, select: select && JSON.stringify(select.split(",").map((s) => s.trim())) };
  const members = Object.entries(parts).flatMap(([name, text]) => {
    if (text === undefined) return [];
    try {
      JSON.parse(text);
    } catch (cause) {
      throw new Error(`--${name} is not valid JSON: ${(cause as Error).message}`, { cause });
    }
    return `"${name}":${text}`; // as written: numbers keep their digits
  });
  return `{${members.join(",")}}`;
}

/** Under another name until it is complete. */
async function write(chunks: AsyncIterable<Buffer | string>, file: string): Promise<void> {
  const part = `${file}.part`;
  try {
    await pipeline(Readable.from(chunks), createWriteStream(part));
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}
