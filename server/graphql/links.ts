import {
  type PgCodec,
  type PgCondition,
  type PgResource,
  type PgSelectQueryBuilder,
  type PgSelectSingleStep,
  TYPES,
} from "postgraphile/@dataplan/pg";
import { connection, lambda, type Step } from "postgraphile/grafast";
import { type GraphQLInputObjectType, GraphQLNonNull, type GraphQLObjectType } from "postgraphile/graphql";
import { orderBy } from "./ordering.ts";

type Link = { name: string; view: string; own: string; other: string; from: PgResource; to: PgResource };

declare global {
  namespace GraphileBuild {
    interface Build {
      /** Relations of many to many, in both directions. */
      links: readonly Link[];
    }
  }
}

/** What the smart tags @link of the views say (data.comment_view): name|inverse name|view of the links|target. */
function linksOf(resources: readonly PgResource[]): Link[] {
  const entities = new Map(
    resources.filter((r) => !r.parameters).map((r) => [r.codec.extensions?.pg?.name, r] as const),
  );
  return [...entities.values()].flatMap((from) => {
    const tag = from.codec.extensions?.tags?.link;
    return (Array.isArray(tag) ? tag : [tag]).flatMap((text) => {
      const [name, inverse, view, target] = typeof text === "string" ? text.split("|") : [];
      const to = entities.get(target);
      if (!name || !inverse || !view || !to) return [];
      return [
        { name, view, own: "source_id", other: "target_id", from, to },
        { name: inverse, view, own: "target_id", other: "source_id", from: to, to: from },
      ];
    });
  });
}

const ofType = (links: readonly Link[], codec: PgCodec | undefined) =>
  links.filter(({ from }) => codec && from.codec === codec);

/** Connections, and filters by some, every and none, for relations of many to many (x-relation with many). */
export const links: GraphileConfig.Plugin = {
  name: "LinksPlugin",
  after: ["PgConnectionArgFilterBackwardRelationsPlugin"],
  schema: {
    hooks: {
      build(build) {
        return build.extend(
          build,
          { links: linksOf(Object.values(build.input.pgRegistry.pgResources) as PgResource[]) },
          "Adding links",
        );
      },
      init(_, build) {
        for (const { from, to } of build.links) {
          const name = build.inflection.filterManyType(from.codec as never, to as never);
          if (build.getTypeMetaByName(name)) continue;
          build.registerInputObjectType(
            name,
            { foreignTable: to, isPgConnectionFilterMany: true } as never,
            () => ({ name, description: "Which of the related records match." }),
            `Adding ${name}`,
          );
        }
        return _;
      },
      GraphQLObjectType_fields(fields, build, { Self, scope: { isPgClassType, pgCodec }, fieldWithHooks }) {
        if (!isPgClassType) return fields;
        const { sql } = build;
        for (const { name, view, own, other, from, to } of ofType(build.links, pgCodec)) {
          const type = build.getTypeByName(
            build.inflection.tableConnectionType(to.codec as never),
          ) as GraphQLObjectType;
          const from_ = sql.identifier(from.codec.extensions?.pg?.schemaName ?? "", view);
          fields = build.extend(
            fields,
            {
              [name]: fieldWithHooks(
                {
                  fieldName: name,
                  pgFieldResource: to,
                  isPgFieldConnection: true,
                  isPgManyRelationConnectionField: true,
                },
                {
                  type: new GraphQLNonNull(type),
                  description: `The ${build.inflection.allRowsConnection(to as never)} it is linked with.`,
                  plan($record: PgSelectSingleStep, args: { getRaw(name: string): Step }) {
                    const $found = to.find();
                    const alias = sql.identifier(Symbol("link"));
                    $found.join({
                      type: "inner",
                      from: from_,
                      alias,
                      conditions: [
                        sql`${alias}.${sql.identifier(other)} = ${$found.alias}.id`,
                        sql`${alias}.${sql.identifier(own)} = ${$found.placeholder($record.get("id"))}`,
                      ],
                    });
                    // As it was written, where nothing else is asked for.
                    if (own === "source_id")
                      $found.apply(
                        lambda(
                          [args.getRaw("orderBy"), args.getRaw("sort")],
                          ([by, sort]) =>
                            (builder: PgSelectQueryBuilder) => {
                              if (
                                !/^(NATURAL)?$/.test(String(by ?? "")) ||
                                (sort as unknown[] | null)?.length
                              )
                                return;
                              orderBy(builder, {
                                fragment: sql`${alias}.position`,
                                codec: TYPES.int,
                                direction: "ASC",
                                nullable: false,
                              });
                            },
                        ),
                      );
                    return connection($found);
                  },
                } as never,
              ),
            },
            `Adding ${name} to ${Self.name}`,
          );
        }
        return fields;
      },
      GraphQLInputObjectType_fields(fields, build, { Self, scope, fieldWithHooks }) {
        if (!scope.isPgConnectionFilter) return fields;
        const { sql } = build;
        for (const { name, view, own, other, from, to } of ofType(build.links, scope.pgCodec)) {
          const type = build.getTypeByName(
            build.inflection.filterManyType(from.codec as never, to as never),
          ) as GraphQLInputObjectType;
          const schema = from.codec.extensions?.pg?.schemaName ?? "";
          // As a table with the id of the record it is linked with, it is filtered like one that refers to it.
          const source = `~${own}`;
          const linked = sql`(select t.*, l.${sql.identifier(own)} as ${sql.identifier(source)} from ${sql.identifier(schema, view)} l join ${to.from as never} t on t.id = l.${sql.identifier(other)})`;
          fields = build.extend(
            fields,
            {
              [name]: fieldWithHooks({ fieldName: name, isPgConnectionFilterField: true } as never, () => ({
                type,
                description: `Filter by the records of ${name}.`,
                apply($where: PgCondition, value: unknown) {
                  if (value === null || typeof value !== "object") throw new Error(`${name} is an object`);
                  const $related = $where.andPlan();
                  $related.extensions.pgFilterRelation = {
                    tableExpression: linked,
                    alias: to.name,
                    localAttributes: ["id"],
                    remoteAttributes: [source],
                  };
                  return $related;
                },
              })),
              [`${name}Exist`]: fieldWithHooks(
                { fieldName: `${name}Exist`, isPgConnectionFilterField: true } as never,
                () => ({
                  type: build.graphql.GraphQLBoolean,
                  description: `Whether there are any of ${name}.`,
                  apply($where: PgCondition, value: unknown) {
                    if (typeof value !== "boolean") return;
                    const $found = $where.existsPlan({
                      tableExpression: linked,
                      alias: to.name,
                      equals: value,
                    });
                    $found.where(sql`${$where.alias}.id = ${$found.alias}.${sql.identifier(source)}`);
                  },
                }),
              ),
            },
            `Adding ${name} to ${Self.name}`,
          );
        }
        return fields;
      },
    },
  },
};
