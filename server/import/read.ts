import { readFileSync, statSync } from "node:fs";
import { basename, extname } from "node:path";
import { parse as parseCsv } from "csv-parse/sync";
import { delimiterOf } from "./delimiter.ts";

/** A record as it stands in the file; numbers that JavaScript would round or respell are kept as text in a raw number. */
export type Source = Record<string, unknown>;
/** A list of records and the name the file gives it. `lines` are their line numbers, where a record is a line. */
export interface SourceList {
  name: string;
  records: Source[];
  lines?: number[];
  texts: boolean;
}

/** A file that cannot be imported; the message names the place. */
export class ImportError extends Error {}

const LIMIT = 512 * 1024 * 1024 - 24; // the longest string of V8

/** Reads a JSON, NDJSON or CSV file whole. `entity` names the list where the file does not. */
export function readSource(file: string, entity?: string): SourceList[] {
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined) throw new ImportError(`There is no file ${file}.`);
  if (size > LIMIT)
    throw new ImportError(
      `${file} has ${size} bytes; at most ${LIMIT} can be read at once. Split it into several files.`,
    );
  const text = readFileSync(file, "utf8").replace(/^\uFEFF/, "");
  const name = entity ?? basename(file, extname(file));
  const lists = read(text, name, file);
  if (lists.every((list) => list.records.length === 0)) throw new ImportError(`${file} holds no records.`);
  return lists;
}

function read(text: string, name: string, file: string): SourceList[] {
  switch (extname(file).toLowerCase()) {
    case ".csv":
    case ".tsv":
      return [readCsv(text, name)];
    case ".ndjson":
    case ".jsonl":
      return [readNdjson(text, name)];
    default:
      return readJson(text, name, file);
  }
}

function readJson(text: string, name: string, file: string): SourceList[] {
  let document: unknown;
  try {
    document = parseExactly(text);
  } catch (error) {
    throw new ImportError(`${file} is not valid JSON: ${place(text, error as Error)}`, { cause: error });
  }
  if (Array.isArray(document)) return [{ name, records: recordsOf(document, name), texts: false }];
  if (!isRecord(document))
    throw new ImportError(`${file} holds no records: expected {"Entity": [records…]} or [records…].`);
  return Object.entries(document).map(([key, value]) => {
    if (!Array.isArray(value))
      throw new ImportError(`"${key}" in ${file} is no list of records: expected {"${key}": [{…}, …]}.`);
    return { name: key, records: recordsOf(value, key), texts: false };
  });
}

function readNdjson(text: string, name: string): SourceList {
  const records: Source[] = [];
  const lines: number[] = [];
  text.split(/\r?\n/).forEach((line, index) => {
    if (line.trim() === "") return;
    let value: unknown;
    try {
      value = parseExactly(line);
    } catch (error) {
      throw new ImportError(
        `Record ${records.length + 1} of ${name} (line ${index + 1}) is not valid JSON: ${(error as Error).message}`,
        { cause: error },
      );
    }
    if (!isRecord(value))
      throw new ImportError(
        `Record ${records.length + 1} of ${name} (line ${index + 1}) is not an object: ${excerpt(value)}`,
      );
    records.push(value);
    lines.push(index + 1);
  });
  return { name, records, lines, texts: false };
}

function readCsv(text: string, name: string): SourceList {
  try {
    const delimiter = delimiterOf(text);
    const rows = parseCsv(text, {
      columns: distinctColumns,
      delimiter,
      info: true,
      skip_empty_lines: true,
    }) as {
      record: Source;
      info: { lines: number };
    }[];
    return {
      name,
      records: rows.map(({ record }) =>
        Object.fromEntries(Object.entries(record).map(([key, value]) => [key, value === "" ? null : value])),
      ),
      lines: rows.map(({ info }) => info.lines),
      texts: true,
    };
  } catch (error) {
    if (error instanceof ImportError) throw error;
    const { message, lines, records } = error as Error & { lines?: number; records?: number };
    throw new ImportError(
      `Record ${(records ?? 0) + 1} of ${name} (line ${lines ?? "?"}) is not valid CSV: ${message}`,
      { cause: error },
    );
  }
}

function distinctColumns(header: string[]): string[] {
  const twice = header.find((name, index) => header.indexOf(name) !== index);
  if (twice !== undefined)
    throw new ImportError(`Two columns are called "${twice}" (line 1); rename one, or one would be lost.`);
  return header;
}

/** JSON.parse that keeps the text of numbers that a double cannot hold. */
function parseExactly(text: string): unknown {
  const parse = JSON.parse as (
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ) => unknown;
  return parse(text, (_key, value, { source }) =>
    typeof value !== "number" || source === undefined || String(value) === source
      ? value
      : rawNumber(plainNumber(source)),
  );
}

/** A number by its text; JSON.stringify writes the text. */
export function rawNumber(text: string): object {
  return (JSON as unknown as { rawJSON(text: string): object }).rawJSON(text);
}

/** The text of a number or of a raw number, without exponent; undefined for anything else. */
export function numberText(value: unknown): string | undefined {
  if (typeof value === "number") return plainNumber(String(value));
  const { isRawJSON } = JSON as unknown as { isRawJSON(value: unknown): value is { rawJSON: string } };
  return isRawJSON(value) ? value.rawJSON : undefined;
}

/** `1.5e3` → `1500`, `12e-3` → `0.012`; a number without exponent stays as it is. */
function plainNumber(text: string): string {
  const [, sign, whole, fraction = "", exponent] = /^(-?)(\d+)(?:\.(\d+))?[eE]([+-]?\d+)$/.exec(text) ?? [];
  if (whole === undefined) return text;
  const shift = Number(exponent);
  if (Math.abs(shift) > 400) throw new ImportError(`the number ${text} is beyond what can be stored`);
  const digits = "0".repeat(Math.max(0, -shift)) + whole + fraction + "0".repeat(Math.max(0, shift));
  const point = Math.max(0, -shift) + whole.length + shift;
  const left = digits.slice(0, point).replace(/^0+(?=\d)/, "") || "0";
  const right = digits.slice(point).replace(/0+$/, "");
  return `${sign}${left}${right && `.${right}`}`;
}

function recordsOf(values: unknown[], name: string): Source[] {
  const wrong = values.findIndex((value) => !isRecord(value));
  if (wrong >= 0)
    throw new ImportError(`Record ${wrong + 1} of ${name} is not an object: ${excerpt(values[wrong])}`);
  return values as Source[];
}

function isRecord(value: unknown): value is Source {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && numberText(value) === undefined
  );
}

function excerpt(value: unknown): string {
  return (JSON.stringify(value) ?? "undefined").slice(0, 80);
}

function place(text: string, error: Error): string {
  const position = errorPosition(text);
  const before = text.slice(0, position);
  const line = before.split("\n").length;
  const near = JSON.stringify(text.slice(Math.max(0, position - 40), position + 20));
  return `${error.message.replace(/, \.*"[\s\S]*$/, "")} at line ${line}, column ${position - before.lastIndexOf("\n")}, near ${near}`;
}

// V8 tells the position of some errors only. A prefix that ends before the error fails for being cut off, one that
// contains it fails for the error: half the text at a time finds where that changes.
function errorPosition(text: string): number {
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (isCutOff(text.slice(0, middle))) low = middle;
    else high = middle - 1;
  }
  return low;
}

function isCutOff(prefix: string): boolean {
  try {
    JSON.parse(prefix);
    return true;
  } catch (error) {
    const { message } = error as Error;
    return (
      /Unexpected end|Unterminated/.test(message) ||
      Number(/at position (\d+)/.exec(message)?.[1]) >= prefix.length
    );
  }
}
