/** A record as it stands in the file; numbers that JavaScript would round or respell are kept as text in a raw number. */
export type Source = Record<string, unknown>;

/** A file that cannot be imported; the message names the place. */
export class ImportError extends Error {}

/** JSON.parse that keeps the text of numbers that a double cannot hold. */
export function parseExactly(text: string): unknown {
  const parse = JSON.parse as (
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ) => unknown;
  return parse(text, (_key, value, { source }) =>
    typeof value === "number" && source !== undefined && String(value) !== source
      ? rawNumber(plainNumber(source))
      : value,
  );
}

/** A number by its text, as parseExactly reads it. */
export function exactNumber(text: string): number | object {
  const value = Number(text);
  return String(value) === text ? value : rawNumber(plainNumber(text));
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
