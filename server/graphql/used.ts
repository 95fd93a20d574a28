import type { PgCodec, PgResource } from "postgraphile/@dataplan/pg";
import { context, lambda, type Step } from "postgraphile/grafast";
import {
  type DocumentNode,
  type FragmentDefinitionNode,
  type GraphQLSchema,
  getNamedType,
  Kind,
  type OperationDefinitionNode,
  TypeInfo,
  visit,
  visitWithTypeInfo,
} from "postgraphile/graphql";
import type { Operation } from "../http/plan.ts";
import { upperCamel } from "./inflection.ts";

/** What was done with an entity, in the words of data.compile. */
export type Used = { entity: string; operation: Operation };

declare global {
  namespace Grafast {
    interface Context {
      used?(one: Used): void;
    }
  }
}

const writes: Record<string, Operation> = {
  create: "insert",
  update: "update",
  delete: "delete",
  upsert: "upsert",
  restore: "restore",
  purge: "purge",
};

/** Notes in the schema which entity a type shows, and what a mutation does with which: usedBy reads it. */
export const usedEntities: GraphileConfig.Plugin = {
  name: "UsedEntitiesPlugin",
  schema: {
    hooks: {
      GraphQLObjectType(type, _build, { scope }) {
        const { isPgClassType, isConnectionType, isPgAggregateContainerType, pgCodec, pgTypeResource } =
          scope as typeof scope & { pgTypeResource?: PgResource };
        const codec = (pgCodec ?? pgTypeResource?.codec) as PgCodec | undefined;
        const entity = codec?.extensions?.pg?.name;
        if (!entity || !(isPgClassType || isConnectionType || isPgAggregateContainerType)) return type;
        return { ...type, extensions: { ...type.extensions, entity } };
      },
      GraphQLObjectType_fields_field(field, build, { scope }) {
        const { isRootMutation, fieldName } = scope;
        const [, verb, type] = /^([a-z]+)([A-Z].*)$/.exec(isRootMutation ? fieldName : "") ?? [];
        const operation = verb && Object.hasOwn(writes, verb) ? writes[verb] : undefined;
        if (!operation) return field;
        const { inflection } = build;
        const resource = (Object.values(build.input.pgRegistry.pgResources) as PgResource[]).find(
          (one) =>
            !one.parameters &&
            [
              inflection.tableType(one.codec as never),
              upperCamel(inflection.allRowsConnection(one as never)),
            ].includes(type ?? ""),
        );
        const entity = resource?.codec.extensions?.pg?.name;
        return entity
          ? { ...field, extensions: { ...field.extensions, used: { entity, operation } } }
          : field;
      },
    },
  },
};

/** A result that counts, when it is there, as these: for what only the values of a query tell. */
export const counting = ($result: Step, $used: Step<readonly Used[]>): Step =>
  lambda([$result, $used, context().get("used")], ([result, used, note]) => {
    for (const one of used) note?.(one);
    return result;
  });

/** What an operation of a valid document reads, or writes if it is a mutation, each once; what counting tells aside. */
export function usedBy(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
): Used[] {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions)
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
  const found = new Map<string, Used>();
  const visited = new Set<string>();

  function read(node: OperationDefinitionNode | FragmentDefinitionNode): void {
    const typeInfo = new TypeInfo(schema);
    visit(
      node,
      visitWithTypeInfo(typeInfo, {
        Field() {
          const written = typeInfo.getFieldDef()?.extensions.used as Used | undefined;
          const type = typeInfo.getType();
          const entity = type && (getNamedType(type).extensions.entity as string | undefined);
          const used: Used | undefined =
            operation.operation === "mutation" ? written : entity ? { entity, operation: "find" } : undefined;
          if (used) found.set(`${used.operation} ${used.entity}`, used);
        },
        FragmentSpread({ name }) {
          const fragment = visited.has(name.value) ? undefined : fragments.get(name.value);
          visited.add(name.value);
          if (fragment) read(fragment);
        },
      }),
    );
  }
  read(operation);
  return [...found.values()];
}
