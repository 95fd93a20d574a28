import {
  type ArgumentNode,
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  isInterfaceType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
  TypeInfo,
  visit,
  visitWithTypeInfo,
} from "postgraphile/graphql";
import { type Limits, tooMuch } from "./limits.ts";

/** Gives every list that says neither `first` nor `last` the default page, so that no query reads a whole entity. */
export function withPages(schema: GraphQLSchema, document: DocumentNode, limits: Limits): DocumentNode {
  const outer = Math.min(limits.ROWHOUSE_GRAPHQL_DEFAULT_PAGE, limits.ROWHOUSE_GRAPHQL_PAGE);
  const inner = Math.min(limits.ROWHOUSE_GRAPHQL_INNER_PAGE, limits.ROWHOUSE_GRAPHQL_PAGE);
  const typeInfo = new TypeInfo(schema);
  return visit(
    document,
    visitWithTypeInfo(typeInfo, {
      Field: {
        enter(node): FieldNode | undefined {
          if (!isList(typeInfo.getFieldDef()) || page(node)) return undefined;
          const first: ArgumentNode = {
            kind: Kind.ARGUMENT,
            name: { kind: Kind.NAME, value: "first" },
            value: {
              kind: Kind.INT,
              value: String(typeInfo.getParentType() === schema.getQueryType() ? outer : inner),
            },
          };
          return { ...node, arguments: [...(node.arguments ?? []), first] };
        },
      },
    }),
  );
}

// A property may be named first, and a record be found by it; no property is an Int.
function isList(field: GraphQLField<unknown, unknown> | null | undefined): boolean {
  return field?.args.some(({ name, type }) => name === "first" && getNamedType(type).name === "Int") ?? false;
}

function page(node: FieldNode): ArgumentNode | undefined {
  return node.arguments?.find(
    ({ name, value }) => /^(first|last)$/.test(name.value) && value.kind !== Kind.NULL,
  );
}

/** Refuses an operation whose nested lists could come to more records than the limit, or that aggregates too often. */
export function refuseTooManyRecords(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Record<string, unknown>,
  limits: Limits,
): void {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
  }
  const defaults = new Map(
    operation.variableDefinitions?.map((v) => [v.variable.name.value, v.defaultValue]),
  );

  function size(node: FieldNode): number {
    const value = page(node)?.value;
    if (!value) return 1;
    let count = value.kind === Kind.INT ? Number(value.value) : Number.NaN;
    if (value.kind === Kind.VARIABLE) {
      const fallback = defaults.get(value.name.value);
      const given =
        variables[value.name.value] ?? (fallback?.kind === Kind.INT ? Number(fallback.value) : null);
      count = typeof given === "number" ? given : Number.NaN;
    }
    if (Number.isNaN(count)) {
      throw tooMuch(
        "has a list whose first or last is no number",
        "ROWHOUSE_GRAPHQL_PAGE",
        limits,
        "Say how many records you want.",
      );
    }
    if (count > limits.ROWHOUSE_GRAPHQL_PAGE) {
      throw tooMuch(
        `asks for ${count} records in one list`,
        "ROWHOUSE_GRAPHQL_PAGE",
        limits,
        "Page with after: endCursor.",
      );
    }
    return Math.max(1, count);
  }

  /** The records of a batch mutation are a list without pages, of as many as one mutation may write. */
  function isBatch(node: FieldNode, level: number): boolean {
    return level === 1 && operation.operation === "mutation" && node.name.value === "records";
  }

  let aggregates = 0;

  function count(
    selectionSet: SelectionSetNode,
    times: number,
    type: GraphQLNamedType | null | undefined,
    level: number,
  ): number {
    let total = 0;
    for (const selection of selectionSet.selections) {
      if (selection.kind === Kind.FIELD) {
        if (
          selection.selectionSet &&
          /^(aggregates|groupedAggregates|aggregateUnion)$/.test(selection.name.value)
        )
          aggregates++;
        if (aggregates > limits.ROWHOUSE_GRAPHQL_AGGREGATES) {
          throw tooMuch(
            "aggregates too often",
            "ROWHOUSE_GRAPHQL_AGGREGATES",
            limits,
            "Ask for several aggregates in one field, or send several requests.",
          );
        }
        const field =
          isObjectType(type) || isInterfaceType(type) ? type.getFields()[selection.name.value] : undefined;
        const paged = isList(field) && page(selection) !== undefined;
        const here = paged
          ? times * size(selection)
          : isBatch(selection, level)
            ? times * limits.ROWHOUSE_GRAPHQL_BATCH
            : times;
        if (paged) total += here;
        if (selection.selectionSet)
          total += count(selection.selectionSet, here, field && getNamedType(field.type), level + 1);
      } else {
        const inner =
          selection.kind === Kind.FRAGMENT_SPREAD ? fragments.get(selection.name.value) : selection;
        const on = inner?.typeCondition?.name.value;
        if (inner) total += count(inner.selectionSet, times, on ? schema.getType(on) : type, level);
      }
      if (total > limits.ROWHOUSE_GRAPHQL_RECORDS) {
        throw tooMuch(
          "could come to too many records",
          "ROWHOUSE_GRAPHQL_RECORDS",
          limits,
          "Ask for shorter lists with first, or for less at once.",
        );
      }
    }
    return total;
  }
  count(operation.selectionSet, 1, schema.getRootType(operation.operation), 0);
}
