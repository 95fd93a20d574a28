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

const DATE = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/;
const DATE_TIME = /^\d{4}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)?$/;
const UUID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
const EMAIL = /^[^@\s]{1,64}@[^@\s]+\.[^@\s.]+$/;
const MAX_INT8 = 9223372036854775807n;

/** The narrowest kind that all values (none of them null) have; `texts` when numbers and booleans come as text, as in CSV. */
export function kindOf(values: unknown[], texts: boolean): Kind {
  if (values.length === 0) return "string";
  const all = (test: (value: unknown) => boolean) => values.every(test);
  const number = (value: unknown) => (texts ? plainNumber(value) : numberText(value));
  if (all((v) => typeof v === "boolean" || (texts && (v === "true" || v === "false")))) return "boolean";
  if (all((v) => isInteger(number(v)))) return "integer";
  if (all((v) => /^-?\d{1,24}(\.\d{1,8})?$/.test(number(v) ?? ""))) return "decimal";
  if (all((v) => number(v) !== undefined)) return "number";
  if (all((v) => Array.isArray(v))) return "array";
  if (all((v) => typeof v === "object" && !Array.isArray(v) && numberText(v) === undefined)) return "object";
  if (all((v) => typeof v === "string")) {
    const text = (pattern: RegExp) => all((v) => pattern.test(v as string));
    if (text(DATE)) return "date";
    if (text(DATE_TIME)) return "date-time";
    if (text(UUID)) return "uuid";
    if (text(EMAIL)) return "email";
  }
  return "string";
}

/** The schema of a property of this kind; decimals get room for a million times the largest value. */
export function schemaOf(kind: Kind, values: unknown[]): Record<string, unknown> {
  switch (kind) {
    case "decimal": {
      const parts = values.map((value) => (numberText(value) ?? String(value)).replace("-", "").split("."));
      const whole = Math.max(...parts.map((p) => (p[0] as string).length));
      const scale = Math.max(2, ...parts.map((p) => p[1]?.length ?? 0));
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

/** The value as a record of this kind holds it. */
export function valueAs(kind: Kind, value: unknown): unknown {
  switch (kind) {
    case "boolean":
      return value === true || value === "true";
    case "integer":
    case "decimal":
    case "number":
      return typeof value === "string" ? rawNumber(value) : value;
    case "date-time":
      return rfc3339(value as string);
    case "string":
      return typeof value === "string" ? value : (numberText(value) ?? JSON.stringify(value));
    default:
      return value;
  }
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
