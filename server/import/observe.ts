import type { Inferred } from "./infer.ts";
import { KeySet } from "./keys.ts";
import { snakeCase } from "./names.ts";
import type { Source } from "./read.ts";
import type { SourceFile } from "./source.ts";
import { Kinds, textOf } from "./values.ts";

// What keys are called (see singleKey): values of others are compared only where somebody asks.
const LIKE_A_KEY = /(^|_)(id|key|code|no|number|uuid|sku|slug|email|name)$/;

/** What is known of a property's values without holding them. */
export type Column = {
  /** What the file calls it. */
  key: string;
  kinds: Kinds;
  /** The values, while each comes once and in every record; undefined when they are not compared, or not unique. */
  unique: KeySet | undefined;
  isCompared: boolean;
  /** The values, unique or not. */
  keys?: KeySet;
};

/** What was seen of a list of records. */
export type List = { name: string; count: number; columns: Map<string, Column> };

/** Reads a file once. Throws ImportErrors. */
export async function listsOf(file: SourceFile, progress: (records: number) => void): Promise<List[]> {
  const lists = new Map<string, List>();
  let read = 0;
  for await (const { list: name, records } of file.read()) {
    const list = lists.get(name) ?? { name, count: 0, columns: new Map() };
    lists.set(name, list);
    for (const record of records) see(list, record, file.texts);
    read += records.length;
    progress(read);
  }
  return [...lists.values()];
}

function see(list: List, record: Source, texts: boolean): void {
  for (const key of Object.keys(record)) {
    const value = record[key];
    const column = list.columns.get(key) ?? newColumn(key, texts);
    if (column.kinds.count === 0) list.columns.set(key, column);
    if (value === null) continue;
    if (column.unique && (column.kinds.count < list.count || column.unique.add(textOf(value)) > 0)) {
      column.unique.forget();
      column.unique = undefined;
    }
    column.kinds.see(value);
  }
  list.count++;
}

function newColumn(key: string, texts: boolean): Column {
  const isCompared = LIKE_A_KEY.test(snakeCase(key));
  return { key, kinds: new Kinds(texts), unique: isCompared ? new KeySet() : undefined, isCompared };
}

/** Whether no two records have the same values of these properties, and all have them. Reads the file where it must. */
export async function isUnique(one: Inferred, names: string[]): Promise<boolean> {
  const columns = names.map((name) => one.columns.get(name));
  if (columns.some((column) => column?.kinds.count !== one.count)) return false;
  const [first] = columns;
  if (columns.length === 1 && first?.isCompared) return first.unique !== undefined;
  const seen = new KeySet();
  try {
    for await (const { list, records } of one.file.read()) {
      if (list !== one.source) continue;
      for (const record of records)
        if (seen.add(JSON.stringify(columns.map((column) => textOf(record[column?.key as string])))) > 0)
          return false;
    }
    return true;
  } finally {
    seen.forget();
  }
}

/** The values of a property; reads the file where they were not remembered. */
export async function keysOf(one: Inferred, name: string): Promise<KeySet> {
  const column = one.columns.get(name);
  if (!column) return new KeySet();
  column.keys ??= column.unique;
  if (column.keys) return column.keys;
  column.keys = new KeySet();
  for await (const { list, records } of one.file.read()) {
    if (list !== one.source) continue;
    for (const record of records)
      if (Object.hasOwn(record, column.key) && record[column.key] !== null)
        column.keys.add(textOf(record[column.key]));
  }
  return column.keys;
}
