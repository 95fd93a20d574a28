import {
  type PgCodec,
  type PgCodecAttribute,
  type PgResource,
  type PgSelectQueryBuilder,
  type PgSelectStep,
  TYPES,
} from "postgraphile/@dataplan/pg";
import { type SQL, sql } from "postgraphile/pg-sql2";

/** What a list is ordered by. Nulls come last where ascending, first where descending, as everywhere in PostgreSQL. */
export type Key = { fragment: SQL; codec: PgCodec; direction: "ASC" | "DESC"; nullable: boolean };

/** A list while it is planned, or while it runs: what is written in the document orders the one, variables the other. */
export type List = PgSelectStep | PgSelectQueryBuilder;
type Order = { keys: Key[]; isUnique: boolean };

const orders = new WeakMap<List, Order>();

/** Orders a list, and remembers by what, as the rows after a cursor are found by the same keys. `isUnique`: no two records have it. */
export function orderBy(list: List, key: Key, isUnique = false): void {
  if (list.mode === "aggregate") return;
  const order = orders.get(list) ?? { keys: [], isUnique: false };
  orders.set(list, order);
  order.keys.push(key);
  order.isUnique ||= isUnique;
  list.orderBy(key);
  if (isUnique) list.setOrderIsUnique();
}

/** The key of a column of `alias`. */
export function columnKey(
  alias: SQL,
  name: string,
  { codec, notNull }: Pick<PgCodecAttribute, "codec" | "notNull">,
  direction: Key["direction"],
): Key {
  return { fragment: sql`${alias}.${sql.identifier(name)}`, codec, direction, nullable: !notNull };
}

/** All keys of a running list: those it was ordered by and, where they are not unique, the primary key, as @dataplan/pg adds it. */
export function allKeys($planned: PgSelectStep, builder: PgSelectQueryBuilder, resource: PgResource): Key[] {
  const found = [orders.get($planned), orders.get(builder)];
  const keys = found.flatMap((order) => order?.keys ?? []);
  if (found.some((order) => order?.isUnique)) return keys;
  return [
    ...keys,
    ...primaryKey(resource).map((name) => ({
      ...columnKey(
        builder.alias,
        name,
        resource.codec.attributes?.[name] as PgCodecAttribute,
        keys[0]?.direction ?? "ASC",
      ),
      nullable: false,
    })),
  ];
}

/** The columns of a resource's primary key. */
export function primaryKey(resource: PgResource | null): readonly string[] {
  return resource?.uniques[0]?.attributes ?? [];
}

const COMPARABLE = new Set<PgCodec>([
  TYPES.text,
  TYPES.int,
  TYPES.bigint,
  TYPES.numeric,
  TYPES.float,
  TYPES.boolean,
  TYPES.date,
  TYPES.timestamptz,
  TYPES.uuid,
]);

/** Whether the values of a type have an order that users know. */
export function isComparable(codec: PgCodec): boolean {
  return COMPARABLE.has(codec);
}
