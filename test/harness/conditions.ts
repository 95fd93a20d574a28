/** A JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** What a condition can ask about beside the record. */
export type World = { account: Record<string, Json>; env: Record<string, Json>; action: string };

type Truth = boolean | null; // null: cannot be evaluated

/** What stands for a related record that its reader may not see. */
export const HIDDEN = "?";

const isUuid = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/;
const isDate = /^\d{4}-\d{2}-\d{2}$/;
const fits: Record<string, (value: Json) => boolean> = {
  text: (value) => typeof value === "string",
  int8: (value) => Number.isInteger(value) && Math.abs(value as number) < 2 ** 63,
  numeric: (value) => typeof value === "number",
  boolean: (value) => typeof value === "boolean",
  uuid: (value) => typeof value === "string" && isUuid.test(value),
  date: (value) => typeof value === "string" && isDate.test(value),
};
const types: Record<string, string> = {
  level: "int8",
  twice: "int8",
  amount: "numeric",
  active: "boolean",
  due: "date",
  owner_id: "uuid",
};

/** Whether a condition holds for a record: the reference that the SQL compiler is compared with. */
export function evaluate(
  condition: Record<string, unknown>,
  record: Record<string, Json>,
  world: World,
): Truth {
  return all(
    Object.entries(condition).map(([key, value]) => {
      if (key === "$and") return all((value as never[]).map((c) => evaluate(c, record, world)));
      if (key === "$or") return not(all((value as never[]).map((c) => not(evaluate(c, record, world)))));
      if (key === "$not") return not(evaluate(value as never, record, world));
      return all(
        Object.entries(value as Record<string, Json>).map(([op, operand]) =>
          compare(key, op, operand, record, world),
        ),
      );
    }),
  );
}

function all(parts: Truth[]): Truth {
  return parts.includes(false) ? false : parts.includes(null) ? null : true;
}
const not = (truth: Truth): Truth => (truth === null ? null : !truth);

function lookUp(path: string, from: Json | undefined): Json {
  const found = path
    .split(".")
    .reduce<Json | undefined>(
      (value, key) => (value && typeof value === "object" && !Array.isArray(value) ? value[key] : undefined),
      from,
    );
  return found ?? null;
}

function compare(key: string, op: string, operand: Json, record: Record<string, Json>, world: World): Truth {
  if (op === "$ne") return not(compare(key, "$eq", operand, record, world));
  if (op === "$nin") return not(compare(key, "$in", operand, record, world));
  const reference = typeof operand === "string" && /^\$(account|env|record)\./.test(operand) ? operand : null;
  if (key.startsWith("$") && reference?.startsWith("$record.")) {
    const flipped = op === "$contains" ? "$in" : op;
    return compare(reference.slice(8), flipped, key, record, world);
  }
  if (key.includes(".") && record[key.split(".", 1)[0] as string] === HIDDEN) return null;
  const plain = (value: Json): Json =>
    value && typeof value === "object" && "$literal" in value ? (value.$literal as Json) : value;
  const value =
    key === "$action" ? world.action : lookUp(key.replace(/^\$/, ""), key.startsWith("$") ? world : record);
  if (op === "$exists") return (value !== null) === operand;
  const right = reference
    ? lookUp(reference.replace(/^\$(record\.)?/, ""), reference.startsWith("$record.") ? record : world)
    : Array.isArray(operand)
      ? operand.map(plain)
      : plain(operand);
  if (op === "$cidr") return inNetworks(value, [operand].flat() as string[]);
  if (key.startsWith("$")) return compareKnown(key, op, value, right);
  return compareField(key, op, value, right, reference !== null && !reference.startsWith("$record."));
}

/** A record's missing value is known to be missing; what the account lacks is unknown. */
function compareField(field: string, op: string, value: Json, right: Json, isUnknownable: boolean): Truth {
  const isFitting = fits[types[field] ?? "text"] as (value: Json) => boolean;
  if (op === "$in") {
    if (!Array.isArray(right)) return isUnknownable ? null : false;
    const usable = right.filter(isFitting);
    if (value !== null && usable.includes(value)) return true;
    return usable.length < right.length ? null : false;
  }
  if (isUnknownable && !isFitting(right)) return null;
  if (value === null || right === null) return false;
  return holds(op, value, right);
}

function compareKnown(key: string, op: string, value: Json, right: Json): Truth {
  if (op === "$contains") {
    if (!Array.isArray(value) || typeof right !== "string") return null;
    return value.includes(right);
  }
  const example = op === "$in" ? (right as Json[])[0] : key === "$account.attributes.region" ? "" : right;
  if (typeof value !== typeof example || value === null || right === null || typeof right === "undefined")
    return null;
  if (op === "$in") return (right as Json[]).includes(value);
  return typeof right === typeof example ? holds(op, value, right) : null;
}

function holds(op: string, left: Json, right: Json): boolean {
  if (op === "$eq") return left === right;
  if (op === "$contains") return (left as string).includes(right as string);
  const [a, b] = [left as number, right as number];
  return op === "$gt" ? a > b : op === "$gte" ? a >= b : op === "$lt" ? a < b : a <= b;
}

const networks: Record<string, RegExp> = {
  "10.0.0.0/8": /^(::ffff:)?10\./,
  "127.0.0.0/8": /^(::ffff:)?127\./,
  "10.1.0.0/16": /^(::ffff:)?10\.1\./,
  "::/0": /^(?!::ffff:\d).*:/,
};
function inNetworks(ip: Json, list: string[]): Truth {
  if (typeof ip !== "string" || ip === "x") return null;
  return list.some((network) => networks[network]?.test(ip));
}
