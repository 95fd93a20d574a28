import {
  type DocumentNode,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  type SelectionSetNode,
} from "postgraphile/graphql";
import { SETTINGS, type Settings } from "../settings.ts";

/** What a document may ask for. Each limit is reached long before the work it bounds would hurt others. */
export type Limits = Pick<
  Settings,
  | "ROWHOUSE_GRAPHQL_CHARACTERS"
  | "ROWHOUSE_GRAPHQL_TOKENS"
  | "ROWHOUSE_GRAPHQL_DEPTH"
  | "ROWHOUSE_GRAPHQL_FIELDS"
  | "ROWHOUSE_GRAPHQL_ROOT_FIELDS"
  | "ROWHOUSE_GRAPHQL_PAGE"
  | "ROWHOUSE_GRAPHQL_DEFAULT_PAGE"
  | "ROWHOUSE_GRAPHQL_INNER_PAGE"
  | "ROWHOUSE_GRAPHQL_RECORDS"
  | "ROWHOUSE_GRAPHQL_AGGREGATES"
  | "ROWHOUSE_GRAPHQL_BATCH"
>;

const INTROSPECTION_DEPTH = 20; // what GraphiQL asks

type Size = { depth: number; fields: number };

/** An error that says which limit was passed, by the name of its setting. */
export function tooMuch(what: string, name: keyof Limits, limits: Limits, hint: string): GraphQLError {
  return new GraphQLError(`This query ${what}: the limit is ${limits[name]} ${SETTINGS[name].unit}`, {
    extensions: { code: "query_too_large", status: 400, hint, limit: { setting: name, value: limits[name] } },
  });
}

/**
 * Refuses documents that are too deep or too large, before anything expensive looks at them. Fragments are measured
 * once each, so that fragments which double at every level cost nothing here.
 */
export function refuseTooLarge(document: DocumentNode, limits: Limits): void {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
  }
  const measured = new Map<string, Size | null>();

  function ofFragment(name: string): Size {
    const known = measured.get(name);
    if (known) return known;
    const fragment = fragments.get(name);
    // Unknown fragments and cycles are told by validation.
    if (known === null || !fragment) return { depth: 0, fields: 0 };
    measured.set(name, null);
    const size = measure(fragment.selectionSet);
    measured.set(name, size);
    return size;
  }

  function measure(selectionSet: SelectionSetNode): Size {
    const size = { depth: 0, fields: 0 };
    for (const selection of selectionSet.selections) {
      if (selection.kind === Kind.FIELD) {
        const inner = selection.selectionSet ? measure(selection.selectionSet) : { depth: 0, fields: 0 };
        const isIntrospection = selection.name.value.startsWith("__");
        if (isIntrospection && inner.depth > INTROSPECTION_DEPTH) throw tooDeep(limits);
        size.depth = Math.max(size.depth, isIntrospection ? 1 : inner.depth + 1);
        size.fields += inner.fields + 1;
      } else {
        const inner =
          selection.kind === Kind.FRAGMENT_SPREAD
            ? ofFragment(selection.name.value)
            : measure(selection.selectionSet);
        size.depth = Math.max(size.depth, inner.depth);
        size.fields += inner.fields;
      }
    }
    if (size.fields > limits.ROWHOUSE_GRAPHQL_FIELDS)
      throw tooMuch("asks for too much", "ROWHOUSE_GRAPHQL_FIELDS", limits, "Ask for less at once.");
    return size;
  }

  for (const definition of document.definitions) {
    if (definition.kind !== Kind.OPERATION_DEFINITION) continue;
    const { depth } = measure(definition.selectionSet);
    if (depth > limits.ROWHOUSE_GRAPHQL_DEPTH) throw tooDeep(limits);
    const roots = countRoots(definition.selectionSet, (name) => ofFragment(name).fields);
    if (roots > limits.ROWHOUSE_GRAPHQL_ROOT_FIELDS) {
      throw tooMuch(
        "asks for too much at its root",
        "ROWHOUSE_GRAPHQL_ROOT_FIELDS",
        limits,
        "Send several requests.",
      );
    }
  }
  // A fragment that nothing uses is validated all the same.
  for (const name of fragments.keys())
    if (ofFragment(name).depth > INTROSPECTION_DEPTH) throw tooDeep(limits);
}

function countRoots(selectionSet: SelectionSetNode, fieldsOf: (fragment: string) => number): number {
  let roots = 0;
  for (const selection of selectionSet.selections) {
    if (selection.kind === Kind.FRAGMENT_SPREAD) roots += Math.max(1, fieldsOf(selection.name.value));
    else roots += selection.kind === Kind.FIELD ? 1 : countRoots(selection.selectionSet, fieldsOf);
  }
  return roots;
}

function tooDeep(limits: Limits): GraphQLError {
  return tooMuch(
    "is nested too deeply",
    "ROWHOUSE_GRAPHQL_DEPTH",
    limits,
    "Ask for the inner records by their ids in another request.",
  );
}
