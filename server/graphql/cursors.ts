import { createHash } from "node:crypto";
import type { PgCodec, PgResource, PgSelectQueryBuilder, PgSelectStep } from "postgraphile/@dataplan/pg";
import { lambda, type Step } from "postgraphile/grafast";
import { type SQL, sql } from "postgraphile/pg-sql2";
import { Problem } from "../http/problem.ts";
import { allKeys, columnKey, type Key, type List, orderBy, primaryKey } from "./ordering.ts";

type Value = string | number | boolean | null;
type Apply = (list: List) => void;
type Connection = { getSubplan(): PgSelectStep };

/**
 * The rows after or before a cursor, by a condition of ours: @dataplan/pg 1.1.2 takes nulls for first where they are last, and so
 * lost every record without a value. It still makes the cursors, and orders. An order by a unique field is unique only where the
 * field has a value, so that the primary key stays the last key of every other order.
 */
export const cursors: GraphileConfig.Plugin = {
  name: "CursorsWithIdPlugin",
  after: [
    "PgOrderAllAttributesPlugin",
    "PgFirstLastBeforeAfterArgsPlugin",
    "PgConnectionArgOrderByPlugin",
    "SearchArgumentPlugin",
    "SortArgumentPlugin",
  ],
  schema: {
    hooks: {
      GraphQLEnumType_values(values, build, { scope }) {
        const codec = scope.isPgRowSortEnum ? (scope.pgCodec as PgCodec | undefined) : undefined;
        if (!codec) return values;
        const primary = primaryKey(build.pgTableResource(codec as never) as PgResource | null);
        for (const [attributeName, attribute] of Object.entries(codec.attributes ?? {})) {
          const isUnique = primary.length === 1 && primary[0] === attributeName;
          for (const direction of ["ASC", "DESC"] as const) {
            const variant = direction.toLowerCase() as "asc" | "desc";
            const name = build.inflection.orderByAttributeEnum({
              codec: codec as never,
              attributeName,
              variant,
            });
            const grafast = values[name]?.extensions?.grafast as { apply: Apply } | undefined;
            if (grafast)
              grafast.apply = (list) =>
                orderBy(list, columnKey(list.alias, attributeName, attribute, direction), isUnique);
          }
        }
        return values;
      },
      GraphQLObjectType_fields_field_args(args, _build, { scope }) {
        const { isPgFieldConnection, pgFieldResource: resource } = scope;
        const { after, before, ...others } = args;
        if (!isPgFieldConnection || !resource || !after) return args;
        const applyPlan =
          (isAfter: boolean) => (_: unknown, $list: Connection, argument: { getRaw(): Step }) => {
            const $planned = $list.getSubplan();
            $planned.apply(
              lambda(argument.getRaw(), (cursor) => (builder: PgSelectQueryBuilder) => {
                if (cursor == null || builder.mode === "aggregate") return;
                const keys = allKeys($planned, builder, resource as PgResource);
                builder.where(rowsBeyond(keys, valuesOf(String(cursor), keys), isAfter));
              }),
            );
          };
        // Last, when everything has ordered the list.
        return {
          ...others,
          ...(before ? { before: { ...before, applyPlan: applyPlan(false) } } : {}),
          after: { ...after, applyPlan: applyPlan(true) },
        } as never;
      },
    },
  },
};

/** The values of a cursor, one a key. It begins with a hash of the keys, as @dataplan/pg makes it. */
function valuesOf(cursor: string, keys: Key[]): Value[] {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, "base64").toString("utf8"));
  } catch {
    parts = null;
  }
  const [digest, ...values] = Array.isArray(parts) ? parts : [];
  if (
    digest !== digestOf(keys) ||
    values.length !== keys.length ||
    values.some((value) => typeof value === "object" && value !== null)
  ) {
    throw new Problem(400, "This cursor does not belong to this list", {
      code: "invalid_cursor",
      hint: "Use endCursor or startCursor of a page in the same order, unchanged.",
    });
  }
  return values;
}

function digestOf(keys: Key[]): string {
  const texts = keys.map(({ fragment }) => sql.compile(fragment).text);
  return createHash("sha256").update(JSON.stringify(texts)).digest("hex").slice(0, 10);
}

function rowsBeyond(keys: Key[], values: Value[], isAfter: boolean): SQL {
  const [first] = keys;
  const inTypes = keys.map(({ codec }, i) => sql`${sql.value(values[i] ?? null)}::${codec.sqlType}`);
  if (keys.every(({ nullable, direction }) => !nullable && direction === first?.direction)) {
    const row = sql.join(
      keys.map(({ fragment }) => fragment),
      ", ",
    );
    return sql`(${row}) ${grows(first, isAfter) ? sql`>` : sql`<`} (${sql.join(inTypes, ", ")})`;
  }
  // From the last key to the first: beyond it, or equal in it and beyond those that follow.
  const condition = keys.reduceRight((rest: SQL | null, key, i) => {
    const value = values[i] === null ? null : (inTypes[i] as SQL);
    const here = beyond(key, value, isAfter);
    const equal = value === null ? sql`${key.fragment} is null` : sql`${key.fragment} = ${value}`;
    const alternatives = [...(here ? [here] : []), ...(rest ? [sql`(${equal} and (${rest}))`] : [])];
    return alternatives.length > 0 ? sql.join(alternatives, " or ") : null;
  }, null);
  return condition ?? sql.false;
}

/** Beyond a value in one key; null where there is nothing. */
function beyond({ fragment, nullable, direction }: Key, value: SQL | null, isAfter: boolean): SQL | null {
  const toNulls = grows({ direction }, isAfter);
  if (value === null) return toNulls ? null : sql`${fragment} is not null`;
  if (!toNulls) return sql`${fragment} < ${value}`;
  return nullable ? sql`(${fragment} > ${value} or ${fragment} is null)` : sql`${fragment} > ${value}`;
}

const grows = (key: Pick<Key, "direction"> | undefined, isAfter: boolean) =>
  (key?.direction === "ASC") === isAfter;
