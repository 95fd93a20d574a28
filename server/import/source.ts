import { createReadStream } from "node:fs";
import { basename, extname } from "node:path";
import { JsonError, jsonElements } from "./json.ts";
import { decoded, distinct, type Encoding, lines, rows } from "./lines.ts";
import { exactNumber, ImportError, numberText, parseExactly, type Source } from "./read.ts";

/** Some records of a list, in the file's order; the first has number `first`, from 1. `lines` where a record is a line. */
export type SourceBatch = { list: string; first: number; records: Source[]; lines?: number[] };

const RECORDS = 1000;
const LINE = 64 * 1024 * 1024; // characters

/** A JSON, NDJSON or CSV file that is read as often as needed, a batch of records at a time. */
export class SourceFile {
  readonly path: string;
  /** Whether numbers and booleans come as text, as in CSV. */
  readonly texts: boolean;
  readonly #name: string;
  readonly #encoding: Encoding;

  /** `entity` names the list where the file does not. */
  constructor(path: string, entity?: string, encoding: Encoding = "utf-8") {
    this.path = path;
    this.texts = /^\.[ct]sv$/i.test(extname(path));
    this.#name = entity ?? basename(path, extname(path));
    this.#encoding = encoding;
  }

  /** Reads from the beginning; a list begins with a batch, of no records where it has none. Throws ImportErrors. */
  async *read(): AsyncGenerator<SourceBatch> {
    const batches = this.texts
      ? this.#csv()
      : /\.(ndjson|jsonl)$/i.test(this.path)
        ? this.#ndjson()
        : this.#json();
    try {
      yield* batches;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT")
        throw new ImportError(`There is no file ${this.path}.`);
      throw error;
    }
  }

  #texts(): AsyncGenerator<string> {
    return decoded(createReadStream(this.path), this.#encoding);
  }

  async *#json(): AsyncGenerator<SourceBatch> {
    let batch: SourceBatch = { list: this.#name, first: 1, records: [] };
    try {
      const options = { name: this.path, limit: LINE, number: exactNumber };
      for await (const elements of jsonElements(this.#texts(), options)) {
        for (const element of elements) {
          if (!("value" in element)) {
            if (batch.records.length > 0) yield batch;
            batch = { list: element.list ?? this.#name, first: 1, records: [] };
            yield batch;
            batch = { ...batch, records: [] };
            continue;
          }
          if (!isRecord(element.value))
            throw new ImportError(
              `Record ${batch.first + batch.records.length} of ${batch.list} is not an object: ${excerpt(element.value)}`,
            );
          batch.records.push(element.value);
          if (batch.records.length < RECORDS) continue;
          yield batch;
          batch = { list: batch.list, first: batch.first + batch.records.length, records: [] };
        }
      }
    } catch (error) {
      throw error instanceof JsonError ? await this.#place(error) : error;
    }
    if (batch.records.length > 0) yield batch;
  }

  /** The error with its column: the file is read again, and the line in question character by character. */
  async #place(error: JsonError): Promise<Error> {
    const { line, cause } = error;
    let [number, column, near] = [1, 0, ""];
    const characters = async function* (texts: AsyncIterable<string>) {
      for await (const text of texts)
        for (const piece of text.split(/(?<=\n)/)) {
          for (const part of number === line ? piece : [piece]) {
            if (number === line) column++;
            near = `${near}${part}`.slice(-40);
            yield part;
          }
          if (piece.endsWith("\n")) number++;
        }
    };
    try {
      const options = { name: this.path, limit: LINE, number: exactNumber };
      for await (const _ of jsonElements(characters(this.#texts()), options));
    } catch {
      const message = (cause as Error).message.replace(/^Parser (cannot parse input: |has )/, "");
      return new ImportError(
        `${this.path} is not valid JSON: ${message} at line ${line}, column ${column}, near ${JSON.stringify(near)}`,
        { cause },
      );
    }
    return error;
  }

  async *#ndjson(): AsyncGenerator<SourceBatch> {
    yield { list: this.#name, first: 1, records: [], lines: [] };
    yield* this.#batches(lines(this.#texts(), LINE), (line, number, record) => {
      let value: unknown;
      try {
        value = parseExactly(line);
      } catch (cause) {
        throw new ImportError(
          `Record ${record} of ${this.#name} (line ${number}) is not valid JSON: ${(cause as Error).message}`,
          { cause },
        );
      }
      if (isRecord(value)) return value;
      throw new ImportError(
        `Record ${record} of ${this.#name} (line ${number}) is not an object: ${excerpt(value)}`,
      );
    });
  }

  async *#csv(): AsyncGenerator<SourceBatch> {
    yield { list: this.#name, first: 1, records: [], lines: [] };
    let columns: string[] | undefined;
    const toRecord = (cells: (string | null)[], number: number, record: number) => {
      if (!columns) {
        columns = distinct(cells);
        return undefined;
      }
      if (cells.length !== columns.length)
        throw new ImportError(
          `Record ${record} of ${this.#name} (line ${number}) is not valid CSV: it has ${cells.length} columns, and the header ${columns.length}`,
        );
      return Object.fromEntries(columns.map((name, n) => [name, cells[n] === "" ? null : cells[n]]));
    };
    try {
      yield* this.#batches(rows(this.#texts(), LINE), toRecord);
    } catch (error) {
      if (!(error instanceof ImportError)) throw error;
      const message = error.message.replace(/^Line (\d+) is/, `A record of ${this.#name} (line $1) is`);
      throw new ImportError(message, { cause: error });
    }
  }

  async *#batches<T>(
    numbered: AsyncIterable<[number, T]>,
    toRecord: (value: T, line: number, record: number) => Source | undefined,
  ): AsyncGenerator<SourceBatch> {
    let batch = { list: this.#name, first: 1, records: [] as Source[], lines: [] as number[] };
    for await (const [line, value] of numbered) {
      const record = toRecord(value, line, batch.first + batch.records.length);
      if (!record) continue;
      batch.records.push(record);
      batch.lines.push(line);
      if (batch.records.length < RECORDS) continue;
      yield batch;
      batch = { list: this.#name, first: batch.first + batch.records.length, records: [], lines: [] };
    }
    if (batch.records.length > 0) yield batch;
  }
}

function isRecord(value: unknown): value is Source {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && numberText(value) === undefined
  );
}

function excerpt(value: unknown): string {
  return (JSON.stringify(value) ?? "undefined").slice(0, 80);
}
