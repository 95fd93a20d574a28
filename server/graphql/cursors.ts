import { LRUCache } from "lru-cache";
import type { PgCodec, PgSelectQueryBuilder } from "postgraphile/@dataplan/pg";

/** An order by a unique field is unique only where the field has a value, so that the id stays the last key of every other order. */
export const cursorsWithId: GraphileConfig.Plugin = {
  name: "CursorsWithIdPlugin",
  after: ["PgOrderAllAttributesPlugin"],
  schema: {
    hooks: {
      GraphQLEnumType_values(values, build, { scope }) {
        const codec = scope.isPgRowSortEnum ? (scope.pgCodec as PgCodec | undefined) : undefined;
        for (const attributeName of Object.keys(codec?.attributes ?? {})) {
          if (attributeName === "id") continue;
          for (const direction of ["ASC", "DESC"] as const) {
            const variant = direction.toLowerCase() as "asc" | "desc";
            const name = build.inflection.orderByAttributeEnum({
              codec: codec as never,
              attributeName,
              variant,
            });
            const grafast = values[name]?.extensions?.grafast as { apply: Apply } | undefined;
            if (grafast)
              grafast.apply = (builder) => builder.orderBy({ attribute: attributeName, direction });
          }
        }
        return values;
      },
    },
  },
};

type Apply = (builder: PgSelectQueryBuilder) => void;

// What @dataplan/pg 1.1.2 writes for rows after a cursor, where a key may be null.
const BORDER = /(\((\S+) [<>] (\S+)\)) or \(\2 is (not )?null and \3 is (not )?null\)/g;

const mended = new LRUCache<string, string>({ max: 1_000 });

/**
 * A statement of which the rows after a cursor are the right ones: @dataplan/pg 1.1.2 takes nulls for first where they are last, and
 * so lost every record without a value. Only the statement's text tells where. The order stays, and so does the index that it is read from.
 */
export function withNulls(text: string): string {
  if (!text.includes(" null and ")) return text;
  let right = mended.get(text);
  if (right === undefined) {
    right = text.replace(
      BORDER,
      (_, compared: string, key: string, value: string, isNot?: string) =>
        `${compared} or (${key} is ${isNot ? "" : "not "}null and ${value} is ${isNot ? "not " : ""}null)`,
    );
    mended.set(text, right);
  }
  return right;
}
