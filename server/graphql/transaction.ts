import { sideEffectWithPgClient } from "postgraphile/@dataplan/pg";
import { type FieldArgs, lambda, type Step } from "postgraphile/grafast";
import { extendSchema, gql } from "postgraphile/utils";
import { parseExactly } from "./exactness.ts";
import { counting, type Used } from "./used.ts";

const distinct = (operations: unknown): Used[] => {
  const found = new Map<string, Used>();
  for (const { entity, operation } of operations as Used[])
    found.set(`${operation} ${entity}`, { entity, operation });
  return [...found.values()];
};

/** Mutation.transaction of an app: several operations in order, all or nothing, as data.transaction runs them. */
export const transaction = (appId: string): GraphileConfig.Plugin =>
  extendSchema((build) => {
    const executor = Object.values(build.input.pgRegistry.pgExecutors)[0];
    if (!executor) return { typeDefs: [] };
    return {
      typeDefs: gql`
        extend type Mutation {
          "Runs up to 1,000 operations in order, all or nothing: {operation: insert, update, replace, delete or upsert, entity, id, data, version, key, as}, named as in REST. {\\"$ref\\": \\"order.id\\"} is what an earlier operation gave. Returns each operation's record, null for delete."
          transaction(operations: [JSON!]!): [JSON]
        }
      `,
      objects: {
        Mutation: {
          plans: {
            transaction(_root: Step, args: FieldArgs) {
              const $operations = lambda(args.getRaw("operations"), (list) => JSON.stringify(list));
              const $records = sideEffectWithPgClient(executor, $operations, async (client, operations) => {
                const { rows } = await client.query<{ body: string }>({
                  text: "select data.run_transaction($1::text, $2::jsonb) as body",
                  values: [appId, operations],
                });
                return (parseExactly(rows[0]?.body ?? "") as { data: unknown[] }).data;
              });
              return counting($records, lambda(args.getRaw("operations"), distinct));
            },
          },
        },
      },
    };
  }, "TransactionPlugin");
