import type { PgCodecAttribute, PgResource } from "postgraphile/@dataplan/pg";
import type { GraphQLEnumValueConfigMap } from "postgraphile/graphql";
import { columnKey, isComparable, type List, orderBy } from "./ordering.ts";
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
            if (!isComparable(attribute.codec)) continue;
            if (!build.behavior.pgCodecAttributeMatches([codec, attributeName] as never, "attribute:orderBy"))
              continue;
            for (const direction of ["ASC", "DESC"] as const) {
              // Two underscores, which no property has: what the relation and what the field is called is plain.
              const value = `${upperSnake(own)}__${build.inflection.orderByAttributeEnum({ codec: codec as never, attributeName, variant: direction.toLowerCase() as "asc" })}`;
              added[value] = {
                extensions: {
                  grafast: { apply: by(name, attributeName, attribute, direction) },
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

function by(relation: string, name: string, attribute: PgCodecAttribute, direction: "ASC" | "DESC") {
  return (list: List) => {
    if (list.mode === "aggregate") return;
    const key = columnKey(list.singleRelation(relation), name, attribute, direction);
    orderBy(list, { ...key, nullable: true });
  };
}

function upperSnake(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();
}
