import {
  loadOneWithPgClient,
  type PgCodec,
  type PgSelectQueryBuilder,
  type PgSelectStep,
  sqlValueWithCodec,
  TYPES,
} from "postgraphile/@dataplan/pg";
import { lambda, object } from "postgraphile/grafast";
import { type SQL, sql } from "postgraphile/pg-sql2";
import { extendSchema, gql } from "postgraphile/utils";
import { parseExactly } from "./exactness.ts";
import { orderBy } from "./ordering.ts";
import { counting } from "./used.ts";

/** The search function of an entity (smart tag @search), where it has fields with x-search. */
function searchFunction(codec: PgCodec | undefined): { schema: string; name: string } | null {
  const name = codec?.extensions?.tags?.search;
  const schema = codec?.extensions?.pg?.schemaName;
  return typeof name === "string" && schema ? { schema, name } : null;
}

/** Lists of entities with x-search take `search`: what it finds, the best first unless `orderBy` says otherwise. */
const searchArgument: GraphileConfig.Plugin = {
  name: "SearchArgumentPlugin",
  after: ["PgConnectionArgOrderByPlugin", "SortArgumentPlugin"], // an explicit order comes first
  schema: {
    hooks: {
      GraphQLObjectType_fields_field_args(args, build, { scope, Self }) {
        const {
          isPgFieldConnection,
          isKeptRecords,
          pgFieldResource: resource,
          fieldName,
        } = scope as typeof scope & { isKeptRecords?: true };
        const found = isPgFieldConnection && !isKeptRecords ? searchFunction(resource?.codec) : null;
        if (!found) return args;
        const call = sql.identifier(found.schema, found.name);
        return build.extend(
          args,
          {
            search: {
              type: build.graphql.GraphQLString,
              description:
                'Words, "a phrase", -not this, one or another; the last word may be unfinished, misspelt words are found too. The best match first.',
              applyPlan(_parent, $connection, argument) {
                // When it runs, as a literal would be planned, and come before an orderBy that is a variable.
                ($connection.getSubplan() as PgSelectStep).apply(
                  lambda(argument.getRaw(), (text) => (builder: PgSelectQueryBuilder) => {
                    if (text != null) searchFor(builder, call, text);
                  }),
                );
              },
            },
          },
          `Adding search to ${fieldName} of ${Self.name}`,
        );
      },
    },
  },
};

function searchFor(builder: PgSelectQueryBuilder, call: SQL, text: unknown): void {
  const alias = sql.identifier(Symbol("search"));
  builder.join({
    type: "inner",
    from: sql`${call}(${sqlValueWithCodec(text, TYPES.text)})`,
    alias,
    conditions: [sql`${alias}.id = ${builder.alias}.id`],
  });
  orderBy(builder, { fragment: sql`${alias}.rank`, codec: TYPES.float, direction: "DESC", nullable: false });
}

type Hits = { data: Record<string, unknown>[] };

/** Query.search of an app: one ranked list over its entities, as data.search makes it. */
const searchApp = (appId: string) =>
  extendSchema((build) => {
    const { pgRegistry } = build.input;
    const executor = Object.values(pgRegistry.pgExecutors)[0];
    const searched = Object.values(pgRegistry.pgResources)
      .filter(({ parameters, codec }) => !parameters && searchFunction(codec))
      .map(({ codec }) => codec.extensions?.pg?.name ?? "");
    if (!executor || searched.length === 0) return { typeDefs: [] };
    return {
      typeDefs: gql`
        "A record that a search found."
        type SearchHit {
          entity: String!
          id: UUID!
          "Comparable between entities; the best match has the highest."
          rank: Float!
          "The record's first searched field."
          title: String
          "By field: HTML with the words that were found in <mark>, everything else escaped."
          snippets: JSON!
          record: JSON!
        }
        extend type Query {
          "Searches the entities that have fields with x-search, or those named: one list, the best first."
          search(q: String!, entities: [String!], first: Int): [SearchHit!]
        }
      `,
      objects: {
        Query: {
          plans: {
            search(_$root, fieldArgs) {
              const $query = lambda(
                object({
                  q: fieldArgs.getRaw("q"),
                  entities: fieldArgs.getRaw("entities"),
                  limit: fieldArgs.getRaw("first"),
                }),
                (query) => JSON.stringify(query),
              );
              const $hits = loadOneWithPgClient(executor, $query, (client, queries) =>
                Promise.all(
                  queries.map(async (query) => {
                    const { rows } = await client.query<{ hits: string }>({
                      text: "select data.search($1::text, $2::jsonb)::text as hits",
                      values: [appId, query],
                    });
                    return (parseExactly(rows[0]?.hits ?? "") as Hits).data;
                  }),
                ),
              );
              const $used = lambda(fieldArgs.getRaw("entities"), (entities) =>
                ((entities as string[] | null) ?? searched).map((entity) => ({
                  entity,
                  operation: "search" as const,
                })),
              );
              return counting($hits, $used);
            },
          },
        },
      },
    };
  }, "SearchAppPlugin");

/** Search in the schema of an app. */
export const search = (appId: string): GraphileConfig.Plugin[] => [searchArgument, searchApp(appId)];
