import { LRUCache } from "lru-cache";
import {
  loadOneWithPgClient,
  type PgCodecAttribute,
  type PgExecutor,
  type PgResource,
  type PgSelectQueryBuilder,
  type PgSelectStep,
} from "postgraphile/@dataplan/pg";
import { lambda, type Step } from "postgraphile/grafast";
import { GraphQLInputObjectType, GraphQLList, GraphQLNonNull } from "postgraphile/graphql";
import { type SQL, sql } from "postgraphile/pg-sql2";
import { columnKey, isComparable, orderBy } from "./ordering.ts";
import type { Compared } from "./seen.ts";

type Direction = "ASC" | "DESC";
type Sort = { [field: string]: Direction | Sort };
/** What the fields of a sort type stand for. */
type Fields = Map<
  string,
  { name: string; attribute: PgCodecAttribute } | { relation: string; to: PgResource }
>;
type Connection = { getSubplan(): PgSelectStep };

const taken = new LRUCache<string, true>({ max: 1_000 }); // sorts that SQL has taken: it is asked once of each
const fieldsOf = new WeakMap<PgResource, Fields>();
const joined = new WeakMap<PgSelectQueryBuilder, Map<string, SQL>>();

/** Lists take `sort: [{company: {city: ASC}}, {name: DESC}]`: by fields of the record and of those it refers to, as far as REST's sort reaches. */
export const sort: GraphileConfig.Plugin = {
  name: "SortArgumentPlugin",
  after: ["PgConnectionArgOrderByPlugin"], // which comes first
  schema: {
    hooks: {
      init(_, build) {
        build.registerEnumType(
          "SortDirection",
          {},
          () => ({
            description: "ASC: the smallest first, those without a value last. DESC: the other way round.",
            values: { ASC: {}, DESC: {} },
          }),
          "SortArgumentPlugin",
        );
        for (const resource of Object.values(build.input.pgRegistry.pgResources) as PgResource[]) {
          const type = typeOf(build, resource);
          if (!type || build.getTypeMetaByName(type)) continue;
          build.registerInputObjectType(
            type,
            {},
            () => ({
              description: "What to sort by: one field of the record, or of a record it refers to.",
              isOneOf: true,
              fields: () =>
                Object.fromEntries(
                  [...fields(build, resource)].map(([field, of]) => [
                    field,
                    {
                      type: build.getInputTypeByName(
                        "to" in of ? (typeOf(build, of.to) as string) : "SortDirection",
                      ),
                    },
                  ]),
                ),
            }),
            "SortArgumentPlugin",
          );
        }
        return _;
      },
      GraphQLObjectType_fields_field_args(args, build, { scope, Self }) {
        const { isPgFieldConnection, pgFieldResource, fieldName } = scope;
        const resource = isPgFieldConnection ? (pgFieldResource as PgResource | undefined) : undefined;
        const name = resource && typeOf(build, resource);
        const type = name ? build.getTypeByName(name) : undefined;
        const executor = Object.values(build.input.pgRegistry.pgExecutors)[0];
        if (!resource || !executor || !(type instanceof GraphQLInputObjectType)) return args;
        return build.extend(
          args,
          {
            sort: {
              description: "By what to sort; after orderBy, where both are given.",
              type: new GraphQLList(new GraphQLNonNull(type)),
              applyPlan: (_: unknown, $list: Connection, argument: { getRaw(): Step }) =>
                $list.getSubplan().apply(
                  lambda(checked(executor, argument.getRaw()), (asked) => (builder: PgSelectQueryBuilder) => {
                    if (builder.mode === "aggregate") return;
                    for (const one of asked) {
                      const compared = sortBy(builder, builder.alias, resource, one, []);
                      for (const condition of build.unseen?.(compared) ?? []) builder.where(condition);
                    }
                  }),
                ),
            } as never,
          },
          `Adding sort to ${fieldName} of ${Self.name}`,
        );
      },
    },
  },
};

/** What was asked, once SQL has taken it: how many fields and relations there may be is its to say. */
function checked(executor: PgExecutor, $asked: Step): Step<Sort[]> {
  const $text = lambda($asked, (asked) => (asked == null ? null : JSON.stringify(asked)));
  return loadOneWithPgClient(executor, $text, (client, all) =>
    Promise.all(
      all.map(async (text): Promise<Sort[]> => {
        if (text === null) return [];
        if (!taken.has(text)) {
          await client.query({ text: "select data.graphql_sort($1::jsonb)", values: [text] });
          taken.set(text, true);
        }
        return JSON.parse(text);
      }),
    ),
  );
}

function typeOf(build: GraphileBuild.Build, resource: PgResource): string | null {
  if (resource.parameters || typeof resource.codec.extensions?.tags?.singular !== "string") return null;
  return `${build.inflection.tableType(resource.codec as never)}Sort`;
}

function fields(build: GraphileBuild.Build, resource: PgResource): Fields {
  const known = fieldsOf.get(resource);
  if (known) return known;
  const { codec, registry } = resource;
  const found: Fields = new Map();
  for (const [name, attribute] of Object.entries(codec.attributes ?? {})) {
    if (
      isComparable(attribute.codec) &&
      build.behavior.pgCodecAttributeMatches([codec, name] as never, "attribute:orderBy")
    )
      found.set(build.inflection.attribute({ codec, attributeName: name } as never), { name, attribute });
  }
  for (const [name, { isReferencee, isUnique, remoteResource }] of Object.entries(resource.getRelations())) {
    const to = remoteResource as PgResource;
    if (isReferencee || !isUnique || !typeOf(build, to)) continue;
    found.set(build.inflection.singleRelation({ registry, codec, relationName: name } as never), {
      relation: name,
      to,
    });
  }
  fieldsOf.set(resource, found);
  return found;
}

/** Sorts, and tells by what: attributes, and those that the relations on the way stand on. */
function sortBy(
  builder: PgSelectQueryBuilder,
  alias: SQL,
  resource: PgResource,
  one: Sort,
  path: string[],
): Compared[] {
  const [[field, asked]] = Object.entries(one) as [[string, Direction | Sort]]; // the type is one of
  const of = fieldsOf.get(resource)?.get(field);
  if (!of) throw new Error(`There is no ${field} to sort by`);
  if ("to" in of) {
    const way = [...path, of.relation];
    const { localAttributes, remoteAttributes } = resource.getRelation(of.relation);
    return [
      [resource.codec, localAttributes as string[]],
      [of.to.codec, remoteAttributes as string[]],
      ...sortBy(builder, related(builder, alias, resource, way), of.to, asked as Sort, way),
    ];
  }
  const key = columnKey(alias, of.name, of.attribute, asked as Direction);
  orderBy(builder, path.length > 0 ? { ...key, nullable: true } : key);
  return [[resource.codec, [of.name]]];
}

/** The alias of the record that a way of relations ends at, joined once. */
function related(builder: PgSelectQueryBuilder, from: SQL, resource: PgResource, way: string[]): SQL {
  const relation = way.at(-1) as string;
  if (way.length === 1) return builder.singleRelation(relation);
  const aliases = joined.get(builder) ?? new Map<string, SQL>();
  joined.set(builder, aliases);
  const known = aliases.get(way.join("/"));
  if (known) return known;
  const { remoteResource, localAttributes, remoteAttributes } = resource.getRelation(relation);
  const alias = sql.identifier(Symbol(relation));
  builder.join({
    type: "left",
    from: (remoteResource as PgResource).from as SQL,
    alias,
    conditions: (localAttributes as string[]).map(
      (own, i) =>
        sql`${from}.${sql.identifier(own)} = ${alias}.${sql.identifier(remoteAttributes[i] as string)}`,
    ),
  });
  aliases.set(way.join("/"), alias);
  return alias;
}
