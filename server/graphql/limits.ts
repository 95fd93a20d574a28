import {
  type DocumentNode,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from "postgraphile/graphql";

/** What a document may ask for. Each limit is reached long before the work it bounds would hurt others. */
export const LIMITS = {
  characters: 100_000, // of the document
  tokens: 5_000,
  depth: 12, // levels of fields
  fields: 500, // after fragments are spread
  rootFields: 20, // each is a transaction, and all of them run at once
  page: 1_000, // records of one list
  defaultPage: 100, // records of a list that says neither first nor last
  innerPage: 20, // the same, for lists of related records
  records: 100_000, // that nested lists may come to
} as const;

const INTROSPECTION_DEPTH = 20; // what GraphiQL asks

type Size = { depth: number; fields: number };

/** An error that says which limit was passed. */
export function tooMuch(what: string, limit: number, hint: string): GraphQLError {
  return new GraphQLError(`This query ${what}: the limit is ${limit}`, {
    extensions: { code: "query_too_large", status: 400, hint },
  });
}

/**
 * Refuses documents that are too deep or too large, before anything expensive looks at them. Fragments are measured
 * once each, so that fragments which double at every level cost nothing here.
 */
export function refuseTooLarge(document: DocumentNode): void {
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
        if (isIntrospection && inner.depth > INTROSPECTION_DEPTH) throw tooDeep();
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
    if (size.fields > LIMITS.fields)
      throw tooMuch("asks for too many fields", LIMITS.fields, "Ask for less at once.");
    return size;
  }

  for (const definition of document.definitions) {
    if (definition.kind !== Kind.OPERATION_DEFINITION) continue;
    const { depth } = measure(definition.selectionSet);
    if (depth > LIMITS.depth) throw tooDeep();
    refuseManyRoots(definition, (name) => ofFragment(name).fields);
  }
  // A fragment that nothing uses is validated all the same.
  for (const name of fragments.keys()) if (ofFragment(name).depth > INTROSPECTION_DEPTH) throw tooDeep();
}

function refuseManyRoots(operation: OperationDefinitionNode, fieldsOf: (fragment: string) => number): void {
  let roots = 0;
  for (const selection of operation.selectionSet.selections) {
    roots += selection.kind === Kind.FRAGMENT_SPREAD ? Math.max(1, fieldsOf(selection.name.value)) : 1;
    if (selection.kind === Kind.INLINE_FRAGMENT) roots += selection.selectionSet.selections.length;
  }
  if (roots > LIMITS.rootFields) {
    throw tooMuch("has too many fields at its root", LIMITS.rootFields, "Send several requests.");
  }
}

function tooDeep(): GraphQLError {
  return tooMuch(
    "is nested too deeply",
    LIMITS.depth,
    "Ask for the inner records by their ids in another request.",
  );
}
