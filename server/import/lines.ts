import { once } from "node:events";
import { parse } from "csv-parse";
import { delimiterOf } from "./delimiter.ts";
import { jsonElements } from "./json.ts";
import { ImportError, rawNumber } from "./read.ts";

/** Formats that records of one entity are read from; the "lines" of JSON, a list, are the places of its records, from 1. */
export const LINE_FORMATS = ["ndjson", "csv", "json"] as const;
export type LineFormat = (typeof LINE_FORMATS)[number];

/** Encodings that can be named; a byte order mark goes before. */
export const ENCODINGS = ["utf-8", "utf-16le", "utf-16be", "latin1"] as const;
export type Encoding = (typeof ENCODINGS)[number];

/** Lines for data.import_lines: their numbers and texts, or cells where there are columns. */
export type Batch = { columns: string[] | null; lines: [number, string | null | (string | null)[]][] };

const RECORDS = 1000;
const CHARACTERS = 4_000_000;

/** Reads bytes as batches of lines, of which one is held at a time. Throws ImportErrors that name the line. */
export async function* batches(
  bytes: AsyncIterable<Buffer>,
  options: { format: LineFormat; encoding: Encoding; lineLimit: number },
): AsyncGenerator<Batch> {
  const texts = decoded(bytes, options.encoding);
  const read = { csv: rows, ndjson: lines, json: elements }[options.format];
  const numbered: AsyncIterable<[number, string | (string | null)[]]> = read(texts, options.lineLimit);
  let columns: string[] | null = null;
  let batch: Batch["lines"] = [];
  let characters = 0;
  for await (const [number, value] of numbered) {
    if (options.format === "csv" && columns === null) {
      columns = distinct(value as string[]);
      continue;
    }
    if (Array.isArray(value) && columns && value.length !== columns.length)
      throw new ImportError(`Line ${number} has ${value.length} columns, and the header ${columns.length}.`);
    batch.push([number, hasNul(value) ? null : value]);
    characters += typeof value === "string" ? value.length : JSON.stringify(value).length;
    if (batch.length < RECORDS && characters < CHARACTERS) continue;
    yield { columns, lines: batch };
    [batch, characters] = [[], 0];
  }
  if (batch.length > 0) yield { columns, lines: batch };
}

// Text of PostgreSQL cannot hold it, and the whole batch would fail for it.
function hasNul(value: string | null | (string | null)[]): boolean {
  return Array.isArray(value) ? value.some(hasNul) : value?.includes("\0") === true;
}

/** Text of bytes; a byte order mark goes before the encoding that is named. Throws ImportErrors for what is not of it. */
export async function* decoded(bytes: AsyncIterable<Buffer>, named: Encoding): AsyncGenerator<string> {
  let head: Buffer | null = Buffer.alloc(0);
  let decoder = new TextDecoder(named, { fatal: true });
  const decode = (chunk?: Buffer) => {
    try {
      return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch (cause) {
      throw new ImportError(
        `The text is not valid ${decoder.encoding}; name its encoding: ${ENCODINGS.join(", ")}.`,
        {
          cause,
        },
      );
    }
  };
  for await (const chunk of bytes) {
    if (head === null) {
      yield decode(chunk);
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < 3) continue;
    const mark = marked(head);
    const looks = !mark && named === "utf-8" ? unmarked(head) : undefined;
    if (looks)
      throw new ImportError(`The text looks like ${looks} without a byte order mark; name its encoding.`);
    decoder = new TextDecoder(mark ?? named, { fatal: true });
    yield decode(head);
    head = null;
  }
  if (head) yield decode(head);
  yield decode();
}

function marked(head: Buffer): Encoding | undefined {
  if (head[0] === 0xff && head[1] === 0xfe) return "utf-16le";
  if (head[0] === 0xfe && head[1] === 0xff) return "utf-16be";
  return head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf ? "utf-8" : undefined;
}

// Text of most languages has bytes that are zero in UTF-16, on one side, and never in UTF-8.
function unmarked(head: Buffer): Encoding | undefined {
  const zeros: [number, number] = [0, 0];
  const start = head.subarray(0, 1000);
  for (const [n, byte] of start.entries()) if (byte === 0) zeros[n % 2 === 0 ? 0 : 1]++;
  if (zeros[1] > start.length / 8) return "utf-16le";
  return zeros[0] > start.length / 8 ? "utf-16be" : undefined;
}

/** Lines that are not blank, with their numbers. */
export async function* lines(texts: AsyncIterable<string>, limit: number): AsyncGenerator<[number, string]> {
  let rest = "";
  let number = 0;
  for await (const text of texts) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() as string;
    if (rest.length > limit) throw tooLong(number + 1, limit);
    for (const line of parts) {
      number++;
      if (line.length > limit) throw tooLong(number, limit);
      if (line.trim() !== "") yield [number, line];
    }
  }
  if (rest.trim() !== "") yield [number + 1, rest];
}

/** The texts of the elements of a JSON list, with their places. */
async function* elements(texts: AsyncIterable<string>, limit: number): AsyncGenerator<[number, string]> {
  let number = 0;
  const exact = (text: string) => (String(Number(text)) === text ? Number(text) : rawNumber(text));
  for await (const found of jsonElements(texts, { name: "the text", limit, number: exact }))
    for (const element of found) {
      if (element.list !== null)
        throw new ImportError(`Line ${element.line}: expected a list of records, [{…}, …].`);
      if ("value" in element) yield [++number, JSON.stringify(element.value)];
    }
}

/** Rows of CSV, with the numbers of the lines they end on, the header too. */
// An empty cell is absent, an empty text is "": as data.export_statement writes them.
export async function* rows(
  texts: AsyncIterable<string>,
  limit: number,
): AsyncGenerator<[number, (string | null)[]]> {
  const iterator = texts[Symbol.asyncIterator]();
  let start = "";
  for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
    start += next.value;
    if (start.includes("\n") || start.length > limit) break;
  }
  const parser = parse({
    delimiter: delimiterOf(start),
    info: true,
    skip_empty_lines: true,
    relax_column_count: true,
    max_record_size: limit,
    cast: (value, { quoting }) => (value === "" && !quoting ? null : value),
  });
  const feed = (async () => {
    const write = async (text: string) => {
      if (parser.write(text)) return;
      const left = new AbortController();
      const { signal } = left;
      await Promise.race([once(parser, "drain", { signal }), once(parser, "close", { signal })]).catch(
        () => {},
      );
      left.abort();
    };
    await write(start);
    for (let next = await iterator.next(); !next.done && !parser.destroyed; next = await iterator.next())
      await write(next.value);
    parser.end();
  })();
  feed.catch((error: Error) => parser.destroy(error));
  let before = 0;
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: (string | null)[];
      info: { lines: number };
    }>) {
      before = info.lines;
      yield [info.lines, record];
    }
  } catch (error) {
    if (error instanceof ImportError) throw error;
    const { message, lines: line, code } = error as Error & { lines?: number; code?: string };
    // The parser is at the end of the text by then.
    if (code === "CSV_QUOTE_NOT_CLOSED")
      throw new ImportError(
        `Line ${before + 1} is not valid CSV: a quote that opens there, or in a line below, does not end.`,
        { cause: error },
      );
    throw new ImportError(`Line ${line ?? "?"} is not valid CSV: ${message}`, { cause: error });
  } finally {
    parser.destroy();
  }
}

/** The names of columns. Throws an ImportError when two have one. */
export function distinct(header: (string | null)[]): string[] {
  const names = header.map((name) => (name ?? "").trim());
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined)
    throw new ImportError(`Two columns are called "${twice}" (line 1); rename one, or one would be lost.`);
  return names;
}

function tooLong(line: number, limit: number): ImportError {
  return new ImportError(`Line ${line} is longer than ${limit} characters.`);
}
