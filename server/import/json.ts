import { getManyValues, type Many, none } from "stream-chain/defs.js";
import { jsonParser } from "stream-json/core/parser.js";
import { ImportError } from "./read.ts";

/** An element of a list of a JSON document, or, without value, the list's beginning. */
export type JsonElement = { list: string | null; value?: unknown; line: number };

type Token = { name: string; value: string };
type Container = unknown[] | Record<string, unknown>;

/** A text that is no JSON, and the line where that shows. */
export class JsonError extends ImportError {
  readonly line: number;

  constructor(line: number, cause: Error) {
    const message = cause.message.replace(/^Parser (cannot parse input: |has )/, "");
    super(`Line ${line} is not valid JSON: ${message}`, { cause });
    this.line = line;
  }
}

const DEPTH = 500; // levels in an element; JSON.stringify overflows its stack at about 7,000

/**
 * The elements of a JSON text that is a list, or an object of lists, piece by piece; one element and a piece are held at a
 * time. `number` makes a value of a number's text, `limit` is the longest element in characters, `name` what messages call the text. Throws ImportErrors that
 * name the line.
 */
export async function* jsonElements(
  texts: AsyncIterable<string>,
  { name, limit, number }: { name: string; limit: number; number: (text: string) => unknown },
): AsyncGenerator<JsonElement[]> {
  const parse = jsonParser({ packValues: true, streamValues: false }) as (text: unknown) => unknown;
  const lists = new Lists(name, number);
  let line = 1;
  let held = 0;
  const elements = (text: unknown) => {
    try {
      const tokens = parse(text);
      const found = tokens === none ? [] : lists.take(getManyValues(tokens as Many<Token>), line);
      held = found.length > 0 ? 0 : held + (text === none ? 0 : (text as string).length);
      if (held > limit) throw new ImportError(`a record is longer than ${limit} characters`);
      return found;
    } catch (cause) {
      if (!(cause instanceof ImportError)) throw new JsonError(line, cause as Error);
      throw new ImportError(`Line ${line}: ${cause.message}`, { cause });
    }
  };
  for await (const text of texts) {
    for (const piece of text.split(/(?<=\n)/)) {
      const found = elements(piece);
      if (piece.endsWith("\n")) line++;
      if (found.length > 0) yield found;
    }
  }
  const last = elements(none);
  if (last.length > 0) yield last;
}

/** Puts tokens together to the elements of lists. */
class Lists {
  readonly #name: string;
  readonly #number: (text: string) => unknown;
  readonly #seen = new Set<string | null>();
  #depth = 0; // of lists: 1 in an object of lists, 2 in its lists; a document that is a list begins at 1
  #list: string | null = null;
  readonly #stack: { container: Container; key: string }[] = [];
  #container: Container | undefined;
  #key = "";

  constructor(name: string, number: (text: string) => unknown) {
    this.#name = name;
    this.#number = number;
  }

  take(tokens: Token[], line: number): JsonElement[] {
    const out: JsonElement[] = [];
    for (const { name, value } of tokens) {
      if (this.#depth < 2 && !this.#container) this.#enter(name, value, line, out);
      else if (name === "startObject" || name === "startArray") this.#open(name === "startObject" ? {} : []);
      else if (name === "keyValue") this.#key = value;
      else if (name === "endObject" || name === "endArray") {
        if (!this.#container) this.#depth = this.#list === null ? 0 : 1;
        else this.#close(line, out);
      } else this.#put(name === "numberValue" ? this.#number(value) : value, line, out);
    }
    return out;
  }

  #enter(name: string, value: string, line: number, out: JsonElement[]): void {
    if (name === "keyValue" && this.#depth === 1) this.#list = value;
    else if (name === "startObject" && this.#depth === 0) this.#depth = 1;
    else if (name === "endObject" && this.#depth === 1) this.#depth = 0;
    else if (name !== "startArray")
      throw new ImportError(
        this.#depth === 0
          ? `${this.#name} holds no records: expected {"Entity": [records…]} or [records…].`
          : `"${this.#list}" in ${this.#name} is no list of records: expected {"${this.#list}": [{…}, …]}.`,
      );
    else {
      if (this.#seen.has(this.#list))
        throw new ImportError(`"${this.#list}" is in ${this.#name} twice; make it one list.`);
      this.#seen.add(this.#list);
      this.#depth = 2;
      out.push({ list: this.#list, line });
    }
  }

  #open(container: Container): void {
    if (this.#stack.length >= DEPTH)
      throw new ImportError(`a record is nested more than ${DEPTH} levels deep`);
    if (this.#container) this.#stack.push({ container: this.#container, key: this.#key });
    this.#container = container;
  }

  #close(line: number, out: JsonElement[]): void {
    const done = this.#container;
    const outer = this.#stack.pop();
    this.#container = outer?.container;
    this.#key = outer?.key ?? "";
    this.#put(done, line, out);
  }

  #put(value: unknown, line: number, out: JsonElement[]): void {
    if (!this.#container) out.push({ list: this.#list, value, line });
    else if (Array.isArray(this.#container)) this.#container.push(value);
    else if (this.#key === "__proto__")
      Object.defineProperty(this.#container, this.#key, {
        value,
        writable: true,
        enumerable: true,
        configurable: true,
      });
    else this.#container[this.#key] = value;
  }
}
