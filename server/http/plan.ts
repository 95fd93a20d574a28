import { Problem } from "./problem.ts";

// A query string becomes a shape, which names fields and operators and is what a compiled statement is cached by, and
// the values it is run with. What the shape means, and whether it means anything, SQL says (data.compile).

/** What can be done with records; the words of data.compile. */
export type Operation =
  | "find"
  | "search"
  | "aggregate"
  | "find_union"
  | "aggregate_union"
  | "get"
  | "insert"
  | "insert_list"
  | "replace"
  | "update"
  | "delete"
  | "update_list"
  | "update_where"
  | "delete_where"
  | "upsert"
  | "restore"
  | "purge"
  | "history";

/** A shape (JSON text) and the text parameters that belong to it, in order. */
export type Plan = { shape: string; values: string[] };

type Json = null | boolean | string | RawNumber | Json[] | JsonObject;
type JsonObject = { [key: string]: Json };
type RawNumber = { readonly rawJSON: string };

// Source text access of JSON.parse (ES2026, in Node 24), which TypeScript's library does not know yet: a number keeps
// the digits it was written with.
const json = JSON as unknown as {
  parse(text: string, reviver: (key: string, value: unknown, context: { source: string }) => unknown): Json;
  rawJSON(text: string): RawNumber;
  isRawJSON(value: unknown): value is RawNumber;
};

const filterDepth = 64;
/** Operators whose operand is a filter, and not a value. */
const filtersInside = new Set(["$not", "$some", "$every", "$none"]);
const aggregateParameters = "filter group aggregate having timezone sort limit offset page cursor".split(" ");
const allowed = {
  find: [
    "q",
    "filter",
    "sort",
    "select",
    "expand",
    "limit",
    "offset",
    "page",
    "cursor",
    "count",
    "deleted",
    "as_of",
  ],
  search: ["q", "entities", "limit"],
  aggregate: [...aggregateParameters],
  find_union: ["entities", "nullable", "filter", "sort", "select", "limit", "offset", "page", "cursor"],
  aggregate_union: ["entities", "nullable", ...aggregateParameters],
  get: ["select", "expand", "as_of"],
  insert: [],
  insert_list: ["return"],
  replace: [],
  update: [],
  delete: [],
  update_list: [],
  update_where: ["filter", "max", "return"],
  delete_where: ["filter", "max", "return"],
  upsert: ["key", "return"],
  restore: [],
  purge: [],
  history: ["limit", "before"],
} satisfies Record<Operation, string[]>;

/** Plans a request's query string. Throws a 400 Problem that names the parameter. */
export function planQuery(operation: Operation, queryString: string): Plan {
  const query = readParameters(queryString, allowed[operation]);
  if (operation === "history") {
    return { shape: "{}", values: [query.get("limit") ?? "", query.get("before") ?? ""] };
  }
  const values: string[] = [];
  const shape: string[] = [];
  for (const name of ["filter", "having"]) {
    const filter = query.get(name);
    if (filter !== undefined) shape.push(`"${name}":${filterShape(name, filter, values)}`);
  }
  const sort = query.get("sort");
  if (sort !== undefined) shape.push(`"sort":${JSON.stringify(readSort(sort))}`);
  for (const name of ["select", "expand", "entities", "nullable", "key"]) {
    const list = query.get(name);
    if (list !== undefined) shape.push(`"${name}":${JSON.stringify(readNames(name, list))}`);
  }
  for (const name of ["group", "aggregate"]) {
    const terms = query.get(name);
    if (terms !== undefined) shape.push(`"${name}":${readTerms(name, terms)}`);
  }
  for (const name of ["count", "deleted", "timezone", "max", "return"]) {
    const word = query.get(name);
    if (word !== undefined) shape.push(`"${name}":${JSON.stringify(word)}`);
  }
  for (const name of ["q", "as_of", "limit", "offset", "page", "cursor"]) {
    const value = query.get(name);
    if (value === undefined) continue;
    // A limit is part of the statement: as a parameter it would cost a generic plan, and a check per row.
    if (name === "limit" && /^(0|[1-9]\d{0,2}|1000)$/.test(value)) {
      shape.push(`"limit":${value}`);
      continue;
    }
    shape.push(`"${name}":true`);
    values.push(value);
  }
  return { shape: `{${shape.join(",")}}`, values };
}

function readParameters(queryString: string, names: string[]): Map<string, string> {
  const query = new Map<string, string>();
  if (queryString === "") return query;
  for (const [name, value] of new URLSearchParams(queryString)) {
    if (!names.includes(name)) {
      throw new Problem(400, `There is no query parameter ${JSON.stringify(name.slice(0, 60))} here`, {
        code: "unknown_parameter",
        hint:
          names.length > 0 ? `Allowed here: ${names.join(", ")}.` : "This request takes no query parameters.",
      });
    }
    if (query.has(name))
      throw bad(name, `${name} is given more than once`, "Give every query parameter once.");
    query.set(name, value);
  }
  return query;
}

function bad(name: string, detail: string, hint: string): Problem {
  return new Problem(400, detail, {
    code: `invalid_${name}`,
    hint,
    errors: [{ parameter: name, message: detail }],
  });
}

function parse(name: string, text: string, hint: string): Json {
  try {
    return json.parse(text, (_key, value, context) =>
      typeof value === "number" ? json.rawJSON(context.source) : value,
    );
  } catch {
    throw bad(name, `${name} is not valid JSON`, hint);
  }
}

function filterShape(name: string, text: string, values: string[]): string {
  const hint = `For example ${name}={"age":{"$gte":18}}, percent-encoded.`;
  const filter = parse(name, text, hint);
  if (filter === null || typeof filter !== "object" || Array.isArray(filter) || json.isRawJSON(filter)) {
    throw bad(name, `${name} is not a JSON object`, hint);
  }
  return splitLiterals(filter, values, 0);
}

// Every literal becomes {"$param": n}; null stays, as it compiles to another predicate. A list, and an operator's
// object, is one literal: its JSON text.
function splitLiterals(value: Json, values: string[], depth: number): string {
  if (depth > filterDepth)
    throw bad("filter", "filter is nested too deeply", "Nest $and, $or and $not less deeply.");
  if (value === null) return "null";
  if (typeof value === "string") return placeholder(value, values);
  if (typeof value === "boolean") return placeholder(String(value), values);
  if (json.isRawJSON(value)) return placeholder(value.rawJSON, values);
  if (Array.isArray(value)) return placeholder(JSON.stringify(value), values);
  const parts = Object.entries(value).map(([key, inner]) => {
    let shape: string;
    if ((key === "$and" || key === "$or") && Array.isArray(inner)) {
      shape = `[${inner.map((part) => splitLiterals(part, values, depth + 1)).join(",")}]`;
    } else if (key.startsWith("$") && !filtersInside.has(key) && isObject(inner)) {
      shape = placeholder(JSON.stringify(inner), values);
    } else {
      shape = splitLiterals(inner, values, depth + 1);
    }
    return `${JSON.stringify(key)}:${shape}`;
  });
  return `{${parts.join(",")}}`;
}

function placeholder(value: string, values: string[]): string {
  values.push(value);
  return `{"$param":${values.length}}`;
}

function isObject(value: Json): value is JsonObject {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !json.isRawJSON(value);
}

function readNames(name: string, text: string): string[] {
  const hint = `${name}=id,name or ${name}=["id","name"], percent-encoded.`;
  if (!text.trimStart().startsWith("[")) return splitNames(text);
  const names = parse(name, text, hint);
  if (!Array.isArray(names) || !names.every((item) => typeof item === "string")) {
    throw bad(name, `${name} is not a list of names`, hint);
  }
  return names;
}

/** What to group by and what to compute: a list, or JSON as SQL takes it. */
function readTerms(name: string, text: string): string {
  const hint = `${name}=${name === "group" ? "status,created_at:month" : "count,sum(total)"}, or JSON, percent-encoded.`;
  return JSON.stringify(/^\s*[[{]/.test(text) ? parse(name, text, hint) : splitNames(text));
}

function splitNames(text: string): string[] {
  return text.split(",").map((item) => item.trim());
}

type SortKey = { field: string; direction: string };

function readSort(text: string): SortKey[] {
  const hint = 'sort=-created_at,name or sort=[{"field":"created_at","direction":"desc"}], percent-encoded.';
  if (!text.trimStart().startsWith("[")) return splitNames(text).map(shortSortKey);
  const keys = parse("sort", text, hint);
  if (!Array.isArray(keys)) throw bad("sort", "sort is not a list", hint);
  return keys.map((key) => {
    if (typeof key === "string") return shortSortKey(key);
    if (!isObject(key)) throw bad("sort", "sort is not a list of fields with a direction", hint);
    const { field, direction = "asc", ...others }: JsonObject = key as JsonObject;
    if (typeof field !== "string" || typeof direction !== "string" || Object.keys(others).length > 0) {
      throw bad("sort", "sort is not a list of fields with a direction", hint);
    }
    return { field, direction };
  });
}

function shortSortKey(key: string): SortKey {
  if (key.startsWith("-")) return { field: key.slice(1), direction: "desc" };
  return { field: key.startsWith("+") ? key.slice(1) : key, direction: "asc" };
}
