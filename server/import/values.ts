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

/** The narrowest kind that all values (none of them null) have; `texts` when numbers and booleans come as text, as in CSV. */
export function kindOf(values: unknown[], texts: boolean): Kind {
  if (values.length === 0) return "string";
  const all = (test: (value: unknown) => boolean) => values.every(test);
  const number = (value: unknown) => (texts ? plainNumber(value) : numberText(value));
  if (all((v) => typeof v === "boolean" || (texts && (v === "true" || v === "false")))) return "boolean";
  if (all((v) => isInteger(number(v)))) return "integer";
  if (all((v) => /^-?\d{1,24}(\.\d{1,8})?$/.test(number(v) ?? ""))) return "decimal";
  if (all((v) => number(v) !== undefined)) return all((v) => isDouble(number(v))) ? "number" : "decimal";
  if (all((v) => Array.isArray(v))) return "array";
  if (all((v) => typeof v === "object" && !Array.isArray(v) && numberText(v) === undefined)) return "object";
  if (all((v) => typeof v === "string")) {
    const text = (pattern: RegExp) => all((v) => pattern.test(v as string));
    if (text(DATE) && all((v) => isDay(v as string))) return "date";
    if (text(DATE_TIME) && all((v) => isDay((v as string).slice(0, 10)))) return "date-time";
    if (text(UUID)) return "uuid";
    if (text(EMAIL) && all((v) => (v as string).length <= 254)) return "email";
  }
  return "string";
}

/** The schema of a property of this kind; decimals get room for a million times the largest value. */
export function schemaOf(kind: Kind, values: unknown[]): Record<string, unknown> {
  switch (kind) {
    case "decimal": {
      let [whole, scale] = [1, 2];
      for (const value of values) {
        const [left, right = ""] = (numberText(value) ?? String(value)).replace("-", "").split(".") as [
          string,
        ];
        whole = Math.max(whole, left.length);
        scale = Math.max(scale, right.length);
      }
      return { type: "number", format: "decimal", precision: Math.max(12, whole + 6 + scale), scale };
    }
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
