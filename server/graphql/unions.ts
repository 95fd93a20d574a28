import { loadOneWithPgClient } from "postgraphile/@dataplan/pg";
import { access, type FieldArgs, lambda, object, type Step } from "postgraphile/grafast";
import { extendSchema, gql } from "postgraphile/utils";
import { parseExactly } from "./exactness.ts";
import { counting } from "./used.ts";

const common = ["entities", "nullable", "filter", "sort"];
const asked = {
  find_union: [...common, "select"],
  aggregate_union: [...common, "group", "aggregate", "having", "timezone"],
};

/** Query.findUnion and aggregateUnion of an app: one query over several entities, as data.find_union and data.aggregate_union make it. */
export const unions = (appId: string): GraphileConfig.Plugin =>
  extendSchema((build) => {
    const executor = Object.values(build.input.pgRegistry.pgExecutors)[0];
    if (!executor) return { typeDefs: [] };

    const plan = (operation: keyof typeof asked) => (_root: Step, args: FieldArgs) => {
      const given = Object.fromEntries(asked[operation].map((name) => [name, args.getRaw(name)]));
      const $query = lambda(
        object({ ...given, limit: args.getRaw("first"), cursor: args.getRaw("after") }),
        (query) => JSON.stringify(query, (_key, value) => value ?? undefined),
      );
      const $page = loadOneWithPgClient(executor, $query, (client, queries) =>
        Promise.all(
          queries.map(async (query) => {
            const { rows } = await client.query<{ body: string }>({
              text: `select data.${operation}($1::text, $2::jsonb)::text as body`,
              values: [appId, query],
            });
            return parseExactly(rows[0]?.body ?? "") as object;
          }),
        ),
      );
      const $used = lambda(args.getRaw("entities"), (entities) =>
        (entities as string[]).map((entity) => ({ entity, operation })),
      );
      return counting($page, $used);
    };
    const page = {
      nodes: ($page: Step) => access($page, "data"),
      nextCursor: ($page: Step) => access($page, ["meta", "next_cursor"]),
    };
    return {
      typeDefs: gql`
        "A field with its direction: asc, or desc."
        input UnionSort { field: String! direction: String }
        "A record of one of several entities."
        type UnionRecord {
          entity: String!
          "The fields selected, by their names in the definition."
          fields: JSON!
        }
        type UnionPage { nodes: [UnionRecord!]! "after, for the next page." nextCursor: String }
        "Groups, each an object of its keys and aggregates."
        type UnionGroups { nodes: [JSON!]! "after, for the next page." nextCursor: String }
        extend type Query {
          "Records of several entities in one list. Fields and filter are as in REST: what all have, with one type; a nullable field is null where there is none."
          findUnion(entities: [String!]!, select: [String!], nullable: [String!], filter: JSON, sort: [UnionSort!], first: Int, after: String): UnionPage
          "Groups the records of several entities; entity is a field. group, aggregate and having are as in REST."
          aggregateUnion(entities: [String!]!, group: JSON, aggregate: JSON, having: JSON, nullable: [String!], filter: JSON, sort: [UnionSort!], timezone: String, first: Int, after: String): UnionGroups
        }
      `,
      objects: {
        Query: { plans: { findUnion: plan("find_union"), aggregateUnion: plan("aggregate_union") } },
        UnionPage: { plans: page },
        UnionGroups: { plans: page },
        UnionRecord: {
          plans: {
            entity: ($row: Step) => access($row, "entity"),
            fields: ($row: Step) => lambda($row, withoutEntity),
          },
        },
      },
    };
  }, "UnionsPlugin");

function withoutEntity(row: unknown): object {
  const { entity, ...fields } = row as Record<string, unknown>;
  return fields;
}
