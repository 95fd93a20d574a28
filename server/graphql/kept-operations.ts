import { loadOneWithPgClient, type PgResource, sideEffectWithPgClient } from "postgraphile/@dataplan/pg";
import { access, type FieldArgs, lambda, object, type Step } from "postgraphile/grafast";
import { parse } from "postgraphile/graphql";
import { extendSchema } from "postgraphile/utils";
import { parseExactly } from "./exactness.ts";
import { lowerCamel } from "./inflection.ts";
import { keptOf } from "./kept.ts";

/** Restoring and purging deleted records, and what happened to a record. */
export const keptOperations = (appId: string) =>
  extendSchema((build) => {
    const { pgExecutors, pgResources } = build.input.pgRegistry;
    const executor = Object.values(pgExecutors)[0];
    const typeDefs: string[] = [];
    const plans: { Query: Record<string, unknown>; Mutation: Record<string, unknown> } = {
      Query: {},
      Mutation: {},
    };
    const objects: Record<string, { plans: object }> = {};
    if (!executor) return { typeDefs: [] };
    const call = {
      text: "select data.graphql_kept($1::text, $2::text, $3::text, $4::uuid, $5::jsonb)::text as body",
      values: (entity: string, operation: string, id: unknown, query: object = {}) => [
        appId,
        entity,
        operation,
        id,
        JSON.stringify(query),
      ],
    };
    for (const resource of Object.values(pgResources) as PgResource[]) {
      const kept = keptOf(resource);
      if (!kept) continue;
      const type = build.inflection.tableType(resource.codec as never);
      const write = (operation: string) => (_root: Step, args: FieldArgs) =>
        sideEffectWithPgClient(
          executor,
          access(args.getRaw("input"), "id") as Step<string>,
          async (client, id) => {
            await client.query({ text: call.text, values: call.values(kept.entity, operation, id) });
            return { id };
          },
        );
      typeDefs.push(`
        input Purge${type}Input { id: UUID! }
        type Purge${type}Payload { id: UUID! }
        extend type Mutation {
          "Deletes for good what is kept of a deleted record, for those who may delete."
          purge${type}(input: Purge${type}Input!): Purge${type}Payload
        }`);
      plans.Mutation[`purge${type}`] = write("purge");
      if (kept.deleted) {
        typeDefs.push(`
          input Restore${type}Input { id: UUID! }
          type Restore${type}Payload { ${lowerCamel(type)}: ${type} }
          extend type Mutation {
            "Brings a deleted record back, and those that went with it, for those who may delete."
            restore${type}(input: Restore${type}Input!): Restore${type}Payload
          }`);
        plans.Mutation[`restore${type}`] = write("restore");
        objects[`Restore${type}Payload`] = {
          plans: { [lowerCamel(type)]: ($done: Step) => resource.get({ id: access($done, "id") } as never) },
        };
      }
      if (kept.asOf) {
        typeDefs.push(`
          extend type Query {
            "The changes of a record, newest first; those before a version, for the next page."
            ${lowerCamel(type)}History(id: UUID!, first: Int, before: Int): [RecordChange!]
          }`);
        plans.Query[`${lowerCamel(type)}History`] = (_root: Step, args: FieldArgs) => {
          const $asked = lambda(
            object({ id: args.getRaw("id"), limit: args.getRaw("first"), before: args.getRaw("before") }),
            (asked) => JSON.stringify(asked),
          );
          return loadOneWithPgClient(executor, $asked, (client, asked) =>
            Promise.all(
              asked.map(async (one) => {
                const { id, ...query } = JSON.parse(one);
                const { rows } = await client.query<{ body: string }>({
                  text: call.text,
                  values: call.values(kept.entity, "history", id, query),
                });
                return (parseExactly(rows[0]?.body ?? "") as { data: unknown[] }).data;
              }),
            ),
          );
        };
      }
    }
    if (Object.keys(plans.Query).length > 0) {
      typeDefs.push(`
        "What was done to a record."
        type RecordChange {
          "The record's version after it."
          version: Int!
          "insert, update, delete or restore"
          operation: String!
          at: ${build.inflection.builtin("Datetime")}!
          "The account that did it."
          by: UUID
          "By field: {old, new}; of updates."
          changes: JSON
        }`);
    }
    if (typeDefs.length === 0) return { typeDefs: [] };
    // Types that are not extended may not be named.
    for (const [name, fields] of Object.entries(plans))
      if (Object.keys(fields).length > 0) objects[name] = { plans: fields };
    return { typeDefs: parse(typeDefs.join("\n")), objects: objects as never };
  }, "KeptOperationsPlugin");
