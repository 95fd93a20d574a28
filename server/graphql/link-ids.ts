import { type PgCodec, type PgCodecAttribute, TYPES } from "postgraphile/@dataplan/pg";
import { sql } from "postgraphile/pg-sql2";
import { parseExactly } from "./exactness.ts";

/** A list of links (x-relation with many): jsonb in the view, [UUID!] in GraphQL. */
const linkIds = {
  name: "linkIds",
  sqlType: sql`jsonb`,
  fromPg: parseExactly,
  toPg: JSON.stringify,
  attributes: undefined,
  arrayOfCodec: TYPES.uuid,
  executor: null,
  extensions: { listItemNonNull: true },
} as unknown as PgCodec;

type Found = { attribute: PgCodecAttribute };

/** Gives the lists of links their type; data.comment_view marks them as what no filter and no order compares. */
export const linkIdLists = {
  name: "LinkIdListsPlugin",
  gather: {
    hooks: {
      pgCodecs_attribute(_info: unknown, { attribute }: Found) {
        const { behavior } = attribute.extensions?.tags ?? {};
        if (
          attribute.codec === TYPES.jsonb &&
          /-attribute:filterBy -attribute:orderBy/.test(String(behavior))
        )
          attribute.codec = linkIds;
      },
    },
  },
} as GraphileConfig.Plugin;
