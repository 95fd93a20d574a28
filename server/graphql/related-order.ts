import { type PgCodec, type PgResource, type PgSelectQueryBuilder, TYPES } from "postgraphile/@dataplan/pg";
import type { GraphQLEnumValueConfigMap } from "postgraphile/graphql";
import { type SQL, sql } from "postgraphile/pg-sql2";
import type { Compared } from "./seen.ts";

/** Orders by fields of the record that a record refers to: COMPANY__NAME_ASC, as REST's sort=company.name; no related record counts as null. */
export const relatedOrder: GraphileConfig.Plugin = {
  name: "RelatedOrderPlugin",
  after: ["PgOrderAllAttributesPlugin"],
  schema: {
    hooks: {
      GraphQLEnumType_values(values, build, { scope }) {
        const resource =
          scope.isPgRowSortEnum && scope.pgCodec ? build.pgTableResource(scope.pgCodec as never) : null;
        if (!resource) return values;
        const added: GraphQLEnumValueConfigMap = {};
        for (const [name, relation] of Object.entries((resource as PgResource).getRelations())) {
          if (relation.isReferencee || !relation.isUnique) continue;
          const { codec } = relation.remoteResource as PgResource;
          const own = build.inflection.singleRelation({
            registry: resource.registry,
            codec: resource.codec,
            relationName: name,
          } as never);
          for (const [attributeName, attribute] of Object.entries(codec.attributes ?? {})) {
            if (!SOME.has(attribute.codec)) continue;
            if (!build.behavior.pgCodecAttributeMatches([codec, attributeName] as never, "attribute:orderBy"))
              continue;
            for (const direction of ["ASC", "DESC"] as const) {
              // Two underscores, which no property has: what the relation and what the field is called is plain.
              const value = `${upperSnake(own)}__${build.inflection.orderByAttributeEnum({ codec: codec as never, attributeName, variant: direction.toLowerCase() as "asc" })}`;
              added[value] = {
                extensions: {
                  grafast: { apply: by(name, attributeName, attribute.codec, direction) },
                  compares: [
                    [resource.codec, relation.localAttributes],
                    [codec, [...relation.remoteAttributes, attributeName]],
                  ] satisfies Compared[],
                },
              };
            }
          }
        }
        return build.extend(values, added, `Adding orders by related records to ${scope.pgCodec?.name}`);
      },
    },
  },
};

/** Something of each type that can be compared. */
const SOME = new Map<PgCodec, SQL>([
  [TYPES.text, sql`''`],
  [TYPES.int, sql`0`],
  [TYPES.bigint, sql`0`],
  [TYPES.numeric, sql`0`],
  [TYPES.float, sql`0`],
  [TYPES.boolean, sql`false`],
  [TYPES.date, sql`'epoch'`],
  [TYPES.timestamptz, sql`'epoch'`],
  [TYPES.uuid, sql`'00000000-0000-0000-0000-000000000000'`],
]);

// Whether there is a value is a key of its own, as @dataplan/pg 1.1 takes the wrong rows after a cursor at the border to nulls.
function by(relation: string, attribute: string, codec: PgCodec, direction: "ASC" | "DESC") {
  return (builder: PgSelectQueryBuilder) => {
    const value = sql`${builder.singleRelation(relation)}.${sql.identifier(attribute)}`;
    builder.orderBy({ fragment: sql`(${value} is null)`, codec: TYPES.boolean, direction, nullable: false });
    builder.orderBy({
      fragment: sql`coalesce(${value}, ${SOME.get(codec) ?? sql.null}::${codec.sqlType})`,
      codec,
      direction,
      nullable: false,
    });
  };
}

function upperSnake(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();
}
