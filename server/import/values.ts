import { numberText, rawNumber } from "./read.ts";

/** What the values of a property are. */
export type Kind =
  | "boolean"
  | "integer"
  | "decimal"
  | "number"
  | "date"
  | "date-time"
  | "uuid"
  | "email"
  | "string"
  | "array"
  | "object";

const DATE = /^\d{4}-\d\d-\d\d$/;
// PostgreSQL keeps microseconds: with more digits a value stays text rather than be rounded.
const DATE_TIME =
  /^(\d{4}-\d\d-\d\d)[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?([Zz]|[+-](0\d|1[0-4]):?[0-5]\d)?$/;
const UUID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
const EMAIL = /^[^@\s]{1,64}@[^@\s]+\.[^@\s.]+$/;
const PLAIN_NUMBER = /^-?\d+(\.\d+)?$/;
const MAX_INT8 = 9223372036854775807n;

const ZONE = /([Zz]|[+-]\d\d:?\d\d)$/;

type Test = (value: unknown, number: string | undefined) => boolean;
const text =
  (test: (value: string) => boolean): Test =>
  (value) =>
    typeof value === "string" && test(value);

// The narrowest first. A number that is none of the others is a decimal, what is nothing of these is text.
const TESTS: Record<string, Test> = {
  boolean: (value) => typeof value === "boolean",
  integer: (_, number) => isInteger(number),
  short: (_, number) => number !== undefined && /^-?\d{1,24}(\.\d{1,8})?$/.test(number),
  double: (_, number) => isDouble(number),
  numeric: (_, number) => number !== undefined,
  array: (value) => Array.isArray(value),
  object: (value) => typeof value === "object" && !Array.isArray(value) && numberText(value) === undefined,
  date: text((value) => DATE.test(value) && isDay(value)),
  "date-time": text((value) => DATE_TIME.test(value) && isDay(value.slice(0, 10))),
  uuid: text((value) => UUID.test(value)),
  email: text((value) => EMAIL.test(value) && value.length <= 254),
};

/** What the values seen so far have in common; remembers no value. */
export class Kinds {
  /** How many values there were; null is none. */
  count = 0;
  /** Whether a time among them had no zone. */
  hasUnzoned = false;
  readonly #texts: boolean;
  readonly #left = new Map(Object.entries(TESTS));
  #whole = 1;
  #scale = 2;

  /** `texts` when numbers and booleans come as text, as in CSV. */
  constructor(texts: boolean) {
    this.#texts = texts;
  }

  see(value: unknown): void {
    this.count++;
    if (this.#left.size === 0) return;
    const number = this.#texts ? plainNumber(value) : numberText(value);
    const seen = this.#texts && (value === "true" || value === "false") ? value === "true" : value;
    for (const [name, test] of this.#left)
      if (!test(name === "boolean" ? seen : value, number)) this.#left.delete(name);
    if (number !== undefined && this.#left.has("numeric")) {
      const point = number.indexOf(".");
      const length = number.length - (number.startsWith("-") ? 1 : 0);
      this.#whole = Math.max(this.#whole, point < 0 ? length : length - (number.length - point));
      this.#scale = Math.max(this.#scale, point < 0 ? 0 : number.length - point - 1);
    }
    if (!this.hasUnzoned && this.#left.has("date-time")) this.hasUnzoned = !ZONE.test(value as string);
  }

  /** The narrowest kind that all values have. */
  get kind(): Kind {
    const [first] = this.count === 0 ? [] : this.#left.keys();
    if (first === undefined) return "string";
    if (first === "short") return "decimal";
    if (first === "double") return this.#left.has("numeric") ? "number" : "string";
    return first === "numeric" ? "decimal" : (first as Kind);
  }

  /** The schema of a property with these values; decimals get room for a million times the largest one. */
  get schema(): Record<string, unknown> {
    return schemaOf(this.kind, this.#whole, this.#scale);
  }
}

function schemaOf(kind: Kind, whole: number, scale: number): Record<string, unknown> {
  switch (kind) {
    case "decimal":
      return { type: "number", format: "decimal", precision: Math.max(12, whole + 6 + scale), scale };
    case "date":
    case "date-time":
    case "uuid":
    case "email":
      return { type: "string", format: kind };
    default:
      return { type: kind };
  }
}

/** What a property's definition says its values are. */
export function kindOfProperty({ type, format }: Record<string, unknown>): Kind {
  const types = (Array.isArray(type) ? type : [type]).filter((t) => t !== "null");
  return ((format ?? types[0]) as Kind | undefined) ?? "string";
}

/** A value of the file as a record of this kind holds it; what does not fit stays as it is, for the validation to name. */
export function valueAs(kind: Kind, value: unknown): unknown {
  const text = typeof value === "string" ? value : undefined;
  switch (kind) {
    case "boolean":
      return text === "true" ? true : text === "false" ? false : value;
    case "integer":
    case "decimal":
    case "number":
      return text !== undefined && PLAIN_NUMBER.test(text) ? rawNumber(withoutZeros(text)) : value;
    case "date-time":
      return text !== undefined && DATE_TIME.test(text) ? rfc3339(text) : value;
    case "uuid":
      return text?.toLowerCase() ?? value;
    case "string":
    case "email":
    case "date":
      return text ?? numberText(value) ?? JSON.stringify(value);
    default:
      return value;
  }
}

/** The text by which two values are compared: keys, relations. */
export function textOf(value: unknown): string {
  const text = numberText(value) ?? (typeof value === "object" ? JSON.stringify(value) : String(value));
  return UUID.test(text) ? text.toLowerCase() : text;
}

// JSON has no 007.
const withoutZeros = (text: string) => text.replace(/^(-?)0+(?=\d)/, "$1");

/** Whether a double holds the number with all its digits. */
function isDouble(text: string | undefined): boolean {
  if (text === undefined) return false;
  const digits = (t: string) => (t.includes(".") ? t.replace(/\.?0+$/, "") : t).replace(/^-0$/, "0");
  return digits(numberText(Number(text)) ?? "") === digits(text);
}

function isDay(text: string): boolean {
  const [year, month, day] = text.split("-").map(Number) as [number, number, number];
  return (
    year > 0 && month > 0 && month < 13 && day > 0 && day <= new Date(Date.UTC(year, month, 0)).getUTCDate()
  );
}

// Leading zeros are a sign of a code (00123), not of a number.
function plainNumber(value: unknown): string | undefined {
  return typeof value === "string" && /^-?(0|[1-9]\d*)(\.\d+)?$/.test(value) ? value : undefined;
}

function isInteger(text: string | undefined): boolean {
  if (text === undefined || !/^-?\d{1,19}$/.test(text)) return false;
  const value = BigInt(text);
  return value <= MAX_INT8 && value >= -MAX_INT8 - 1n;
}

function rfc3339(text: string): string {
  const [, date, time, zone] = /^(\d{4}-\d\d-\d\d)[T ]([\d:.]+)([Zz]|[+-]\d\d:?\d\d)?$/.exec(
    text,
  ) as unknown as string[];
  const seconds = (time as string).length === 5 ? `${time}:00` : time;
  const offset = zone === undefined ? "Z" : zone.replace(/^([+-]\d\d)(\d\d)$/, "$1:$2");
  return `${date}T${seconds}${offset}`;
}
