import { type PgResource, sideEffectWithPgClient } from "postgraphile/@dataplan/pg";
import { access, each, lambda, type Step } from "postgraphile/grafast";
import { parse } from "postgraphile/graphql";
import { extendSchema } from "postgraphile/utils";
import { upperCamel } from "./inflection.ts";

/** What data.graphql_batch answers. */
type Batch = { ids: string[]; inserted?: number; updated?: number; unchanged?: number; deleted?: number };

const operations = {
  create: "insert_list",
  update: "update_where",
  delete: "delete_where",
  upsert: "upsert",
};

/** Mutations of many records at once, per entity: createContacts, updateContacts, deleteContacts, upsertContacts. */
export const batches = (appId: string, most: number): GraphileConfig.Plugin =>
  extendSchema((build) => {
    const upTo = most.toLocaleString("en");
    const { inflection } = build;
    const { pgExecutors, pgResources } = build.input.pgRegistry;
    const executor = Object.values(pgExecutors)[0];
    const entities = Object.values(pgResources).filter(
      ({ parameters, codec }) =>
        !parameters && typeof codec.extensions?.tags?.singular === "string" && !codec.extensions.tags.shared, // another site's, only read
    ) as PgResource[];
    if (!executor || entities.length === 0) return { typeDefs: [] };

    const typeDefs: string[] = [];
    const mutations: Record<string, (root: Step, args: { getRaw(name: string): Step }) => Step> = {};
    const payloads: Record<string, { plans: { records($batch: Step): Step } }> = {};
    for (const resource of entities) {
      const type = inflection.tableType(resource.codec);
      const types = upperCamel(inflection.allRowsConnection(resource));
      typeDefs.push(`
        "Creates up to ${upTo} records, all or nothing."
        input Create${types}Input { records: [${type}Input!]! }
        "Changes every record that matches, if they are max or fewer."
        input Update${types}Input {
          "Which records; {} is all of them."
          filter: ${type}Filter!
          patch: ${type}Patch!
          "How many records may match at most, up to ${upTo}: when more do, nothing is written."
          max: Int!
        }
        "Deletes every record that matches, if they are max or fewer."
        input Delete${types}Input {
          "Which records; {} is all of them."
          filter: ${type}Filter!
          "How many records may match at most, up to ${upTo}: when more do, nothing is deleted."
          max: Int!
        }
        "Creates or changes up to ${upTo} records, all or nothing."
        input Upsert${types}Input {
          records: [${type}Patch!]!
          "What identifies a record: unique fields."
          key: [String!]!
        }
        type Create${types}Payload { records: [${type}]! inserted: Int! }
        type Update${types}Payload { records: [${type}]! updated: Int! }
        type Delete${types}Payload { ids: [UUID!]! deleted: Int! }
        type Upsert${types}Payload { records: [${type}]! inserted: Int! updated: Int! unchanged: Int! }
        extend type Mutation {
          create${types}(input: Create${types}Input!): Create${types}Payload
          update${types}(input: Update${types}Input!): Update${types}Payload
          delete${types}(input: Delete${types}Input!): Delete${types}Payload
          upsert${types}(input: Upsert${types}Input!): Upsert${types}Payload
        }`);
      for (const [verb, operation] of Object.entries(operations)) {
        mutations[`${verb}${types}`] = (_root, args) => {
          const $input = lambda(args.getRaw("input"), (input) => JSON.stringify(input));
          return sideEffectWithPgClient(executor, $input, async (client, input) => {
            const { rows } = await client.query<{ batch: string }>({
              text: "select data.graphql_batch($1::text, $2::text, $3::text, $4::jsonb, $5::int)::text as batch",
              values: [appId, resource.codec.extensions?.pg?.name, operation, input, most],
            });
            return JSON.parse(rows[0]?.batch ?? "{}") as Batch;
          });
        };
        if (verb === "delete") continue;
        payloads[`${upperCamel(verb)}${types}Payload`] = {
          plans: { records: ($batch) => each(access($batch, "ids"), ($id) => resource.get({ id: $id })) },
        };
      }
    }
    return { typeDefs: parse(typeDefs.join("\n")), objects: { Mutation: { plans: mutations }, ...payloads } };
  }, "BatchMutationsPlugin");
