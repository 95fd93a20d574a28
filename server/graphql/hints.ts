import {
  GraphQLError,
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isObjectType,
} from "postgraphile/graphql";

const NAMES = 60; // of a hint

/** The errors; those of graphql-js that name something that there is not tell what there is. */
export function withHints(schema: GraphQLSchema, errors: readonly GraphQLError[]): readonly GraphQLError[] {
  for (const error of errors) {
    const cause = error.originalError ?? error;
    if (!(cause instanceof GraphQLError)) continue;
    const hint = hintFor(schema, error);
    if (hint) cause.extensions.hint ??= hint;
  }
  return errors;
}

function hintFor(schema: GraphQLSchema, { message }: GraphQLError): string | undefined {
  const [, on, field] = /Unknown argument "\w+" on field "(\w+)\.(\w+)"/.exec(message) ?? [];
  if (on && field) {
    const type = schema.getType(on);
    const args = isObjectType(type) ? (type.getFields()[field]?.args ?? []) : [];
    return args.length > 0
      ? `${field} takes ${listed(args.map(({ name }) => name))}`
      : `${field} takes no arguments.`;
  }
  const [, named] =
    /(?:is not defined by type|Cannot query field "\w+" on type|Expected value of type|Expected type|OneOf type|does not exist in) "(\w+)!?"/.exec(
      message,
    ) ?? [];
  const type = named ? schema.getType(named) : undefined;
  if (isObjectType(type) || isInterfaceType(type) || isInputObjectType(type))
    return `${named} has ${listed(Object.keys(type.getFields()))}`;
  return isEnumType(type) ? `${named} is ${listed(type.getValues().map(({ name }) => name))}` : undefined;
}

function listed(names: string[]): string {
  const more = names.length > NAMES ? ` and ${names.length - NAMES} more` : "";
  return `${names.slice(0, NAMES).join(", ")}${more}.`;
}
