import { type PgResource, type PgSelectSingleStep, pgSelect, TYPES } from "postgraphile/@dataplan/pg";
import { connection, constant, type FieldArgs, type Step } from "postgraphile/grafast";
import { GraphQLNonNull, type GraphQLOutputType } from "postgraphile/graphql";
import { type SQL, sql } from "postgraphile/pg-sql2";
import { camel, lowerCamel, upperCamel } from "./inflection.ts";

type Kept = { entity: string; deleted: SQL | null; asOf: SQL | null };
const known = new WeakMap<PgResource, Kept | null>();

/** What an entity keeps (smart tags @softDelete and @history): the relation of deleted records, the function of former ones. */
export function keptOf(resource: PgResource): Kept | null {
  const { codec, parameters } = resource;
  const { name, schemaName } = codec.extensions?.pg ?? {};
  const { softDelete, history } = codec.extensions?.tags ?? {};
  const kept = known.get(resource);
  if (kept !== undefined || parameters || !name || !schemaName) return kept ?? null;
  const found =
    softDelete || history
      ? {
          entity: name,
          deleted: softDelete ? sql.identifier(schemaName, `${name}__deleted`) : null,
          asOf: history ? sql.identifier(schemaName, `${name}_as_of`) : null,
        }
      : null;
  known.set(resource, found);
  return found;
}

/** Lists of deleted records and of records as of a time, in the connections of the records there are. */
export const keptLists: GraphileConfig.Plugin = {
  name: "KeptListsPlugin",
  schema: {
    hooks: {
      GraphQLObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        const { inflection } = build;
        if (scope.isPgClassType) {
          const resource =
            scope.pgCodec && (build.pgTableResource(scope.pgCodec as never) as PgResource | null);
          const kept = resource && keptOf(resource);
          if (!kept?.deleted) return fields;
          const column = (
            name: string,
            codec: typeof TYPES.timestamptz | typeof TYPES.uuid,
            description: string,
          ) =>
            fieldWithHooks({ fieldName: camel(name) }, () => ({
              description,
              type: build.getGraphQLTypeByPgCodec(codec, "output") as GraphQLOutputType,
              plan: ($record: PgSelectSingleStep) =>
                isOf($record, kept.deleted)
                  ? $record.select(sql`${$record.getClassStep().alias}.${sql.identifier(name)}`, codec)
                  : constant(null),
            }));
          return build.extend(
            fields,
            {
              deletedAt: column(
                "deleted_at",
                TYPES.timestamptz,
                "When it was deleted, in lists of deleted records",
              ),
              deletedBy: column(
                "deleted_by",
                TYPES.uuid,
                "The account that deleted it, in lists of deleted records",
              ),
            },
            "Adding deletedAt and deletedBy",
          );
        }
        if (!scope.isRootQuery) return fields;
        // Anew for every field: graphile-build remembers who extended an object.
        const needed = (...names: ("Datetime" | "UUID")[]) =>
          Object.fromEntries(
            names.map((name) => [
              name === "UUID" ? "id" : "at",
              { type: new GraphQLNonNull(build.getInputTypeByName(inflection.builtin(name))) },
            ]),
          );
        let all = fields;
        for (const resource of Object.values(build.input.pgRegistry.pgResources) as PgResource[]) {
          const kept = keptOf(resource);
          const type = build.getOutputTypeByName(inflection.tableConnectionType(resource.codec as never));
          const many = inflection.allRowsConnection(resource as never);
          const list = (
            fieldName: string,
            description: string,
            args: object,
            plan: (args: FieldArgs) => Step,
          ) =>
            build.extend(
              all,
              {
                [fieldName]: fieldWithHooks(
                  {
                    fieldName,
                    isPgFieldConnection: true,
                    isKeptRecords: true,
                    pgFieldResource: resource,
                  } as never,
                  () =>
                    ({
                      description,
                      type,
                      args,
                      plan: (_root: Step, given: FieldArgs) => plan(given),
                    }) as never,
                ),
              },
              `Adding ${fieldName}`,
            );
          const { deleted, asOf } = kept ?? {};
          if (deleted) {
            all = list(
              `deleted${upperCamel(many)}`,
              "Deleted records that can be restored, for those who may delete",
              {},
              () => connection(pgSelect({ resource, identifiers: [], from: deleted })),
            );
          }
          if (asOf) {
            const then = (given: FieldArgs, more: object[] = []) =>
              [...more, { step: given.getRaw("at"), pgCodec: TYPES.timestamptz }] as never;
            all = list(
              `${many}AsOf`,
              "The records as they were at a time; what they refer to is as it is now",
              needed("Datetime"),
              (given) =>
                connection(
                  pgSelect({
                    resource,
                    identifiers: [],
                    args: then(given),
                    from: (time) => sql`${asOf}(${placeholder(time)})`,
                  }),
                ),
            );
            const one = `${lowerCamel(inflection.tableType(resource.codec as never))}AsOf`;
            all = build.extend(
              all,
              {
                [one]: fieldWithHooks({ fieldName: one }, () => ({
                  description: "A record as it was at a time",
                  type: build.getOutputTypeByName(inflection.tableType(resource.codec as never)) as never,
                  args: needed("UUID", "Datetime"),
                  plan: (_root: Step, given: FieldArgs) =>
                    pgSelect({
                      resource,
                      identifiers: [],
                      args: then(given, [{ step: given.getRaw("id"), pgCodec: TYPES.uuid }]),
                      from: (uuid, time) => sql`${asOf}(${placeholder(uuid)}, ${placeholder(time)})`,
                    }).single(),
                })),
              },
              `Adding ${one}`,
            );
          }
        }
        return all;
      },
    },
  },
};

const placeholder = (argument: { placeholder: SQL } | undefined): SQL => argument?.placeholder ?? sql.null;

function isOf($record: PgSelectSingleStep, from: SQL | null): boolean {
  return ($record.getClassStep() as unknown as { from: unknown }).from === from;
}
