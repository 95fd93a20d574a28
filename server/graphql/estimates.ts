import { loadOneWithPgClient, type PgResource } from "postgraphile/@dataplan/pg";
import { type FieldArgs, lambda, object, type Step } from "postgraphile/grafast";
import { parse } from "postgraphile/graphql";
import { extendSchema } from "postgraphile/utils";

/** How many records there are about, per entity, as REST's count=estimated: contactsEstimate(filter, search). */
export const estimates = (appId: string): GraphileConfig.Plugin =>
  extendSchema((build) => {
    const { inflection } = build;
    const { pgExecutors, pgResources } = build.input.pgRegistry;
    const executor = Object.values(pgExecutors)[0];
    const entities = (Object.values(pgResources) as PgResource[]).filter(
      ({ parameters, codec }) =>
        !parameters && typeof codec.extensions?.tags?.singular === "string" && !codec.extensions.tags.shared,
    );
    if (!executor || entities.length === 0) return { typeDefs: [] };
    const plans: Record<string, (root: Step, args: FieldArgs) => Step> = {};
    const fields = entities.map((resource) => {
      const name = `${inflection.allRowsConnection(resource as never)}Estimate`;
      const isSearched = typeof resource.codec.extensions?.tags?.search === "string";
      plans[name] = (_root, args) => {
        const $asked = lambda(
          object({ filter: args.getRaw("filter"), ...(isSearched ? { q: args.getRaw("search") } : {}) }),
          (asked) => JSON.stringify(asked),
        );
        return loadOneWithPgClient(executor, $asked, (client, questions) =>
          Promise.all(
            questions.map(async (asked) => {
              const { rows } = await client.query<{ estimate: object }>({
                text: "select data.graphql_estimate($1::text, $2::text, $3::jsonb) as estimate",
                values: [appId, resource.codec.extensions?.pg?.name, asked],
              });
              return rows[0]?.estimate;
            }),
          ),
        );
      };
      return `"About how many records match: exact below 1,000 or where it costs little."
        ${name}(filter: ${inflection.tableType(resource.codec as never)}Filter${isSearched ? ", search: String" : ""}): CountEstimate`;
    });
    return {
      typeDefs: parse(`
        "How many records there are."
        type CountEstimate { count: Int! "Whether PostgreSQL's statistics said so; otherwise they were counted." isEstimate: Boolean! }
        extend type Query { ${fields.join("\n")} }`),
      objects: { Query: { plans } },
    };
  }, "EstimatesPlugin");
