import { TYPES } from "postgraphile/@dataplan/pg";
import {
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  getNamedType,
  Kind,
  TypeInfo,
  type ValueNode,
  type VariableDefinitionNode,
  visit,
  visitWithTypeInfo,
} from "postgraphile/graphql";

const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON(text: string): { rawJSON: string };
  isRawJSON(value: unknown): value is { rawJSON: string };
};

// Only such numbers can be rounded. JSON.parse with a reviver takes ten times as long as without.
const ROUNDED = /[\d.]{16}|\d[eE][+-]?\d/;

/**
 * Parses JSON without rounding: a number that a 64-bit float cannot hold is kept as its text (JSON.rawJSON), which exact
 * decimals, big integers and JSON take as it is, and Float and Int refuse. Throws a SyntaxError, and a GraphQLError for
 * exponents of four digits, with which ten bytes become 130 kB in PostgreSQL.
 */
export function parseExactly(text: string): unknown {
  if (!ROUNDED.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) =>
    typeof value === "number" && context?.source !== undefined ? exact(context.source) : value,
  );
}

const LONGEST = 400; // characters; the trimming below is quadratic, and no double needs more

function exact(source: string): unknown {
  const value = Number(source);
  if (isExact(value, source)) return value;
  if (/[eE][+-]?\d{4}/.test(source))
    throw new GraphQLError(`${source.slice(0, 40)} has too large an exponent`);
  return rawJSON(source);
}

// The codecs of PostGraphile are JSON.parse and JSON.stringify; the latter writes what rawJSON holds as it is.
for (const codec of [TYPES.json, TYPES.jsonb]) Object.assign(codec, { fromPg: parseExactly });

function isExact(value: number, source: string): boolean {
  return source.length <= LONGEST && Number.isFinite(value) && digits(String(value)) === digits(source);
}

/** The significant digits and the exponent of a decimal literal: 1.50e3 and 1500 are the same. */
function digits(source: string): string {
  const [, sign, whole = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source) ?? [];
  const all = whole + fraction;
  const trimmed = all.replace(/0+$/, "");
  const significant = trimmed.replace(/^0+/, "");
  return significant === ""
    ? "0"
    : `${sign}${significant}e${Number(exponent) - fraction.length + all.length - trimmed.length}`;
}

function numeral(pattern: RegExp, what: string) {
  const check = (text: string) => {
    if (!pattern.test(text) || text.length > 200)
      throw new GraphQLError(`${JSON.stringify(text.slice(0, 40))} is not ${what}`);
    return text;
  };
  return {
    parseValue(value: unknown) {
      if (isRawJSON(value)) return check(value.rawJSON);
      if (typeof value === "string" || typeof value === "number") return check(String(value));
      throw new GraphQLError(`Expected ${what} as a number or a string`);
    },
    parseLiteral(node: ValueNode) {
      if (node.kind === Kind.STRING || node.kind === Kind.INT || node.kind === Kind.FLOAT)
        return check(node.value);
      throw new GraphQLError(`Expected ${what} as a number or a string`);
    },
  };
}

function ofLiteral(node: ValueNode, variables?: Record<string, unknown> | null): unknown {
  switch (node.kind) {
    case Kind.INT:
    case Kind.FLOAT:
      return exact(node.value);
    case Kind.STRING:
    case Kind.BOOLEAN:
      return node.value;
    case Kind.LIST:
      return node.values.map((item) => ofLiteral(item, variables));
    case Kind.OBJECT: {
      // As in PostGraphile: no prototype, so that a field __proto__ is a field.
      const object: Record<string, unknown> = Object.create(null);
      for (const { name, value } of node.fields) object[name.value] = ofLiteral(value, variables);
      return object;
    }
    case Kind.VARIABLE:
      return variables?.[node.name.value];
    default:
      return null;
  }
}

/** BigFloat, BigInt and JSON take numbers in a query's text or its variables, BigFloat and BigInt strings too; none rounds them. */
export const exactNumbers: GraphileConfig.Plugin = {
  name: "ExactNumbersPlugin",
  schema: {
    hooks: {
      GraphQLScalarType(config, build) {
        const { inflection } = build;
        if (config.name === inflection.builtin("BigFloat")) {
          Object.assign(config, numeral(/^-?\d+(\.\d+)?([eE][+-]?\d{1,3})?$/, "a decimal number"), {
            description:
              "An exact decimal number. Given as a string; taken as a string or a number, never rounded.",
          });
        } else if (config.name === inflection.builtin("BigInt")) {
          Object.assign(config, numeral(/^-?\d+$/, "a whole number"), {
            description: "A whole number of up to 64 bits. Given as a string; taken as a string or a number.",
          });
        } else if (config.name === inflection.builtin("JSON")) {
          Object.assign(config, {
            parseLiteral: ofLiteral,
            description: "Any JSON value, as it is and not as text. Numbers are never rounded.",
          });
        }
        return config;
      },
    },
  },
};

/**
 * Makes variables of the numbers within JSON literals that would be rounded: Grafast reads the insides of objects and
 * lists itself, with parseFloat, and leaves only variables and their defaults to the scalar. For a valid document.
 */
export function withExactLiterals(
  schema: GraphQLSchema,
  document: DocumentNode,
  query: string,
): DocumentNode {
  if (!ROUNDED.test(query)) return document;
  const typeInfo = new TypeInfo(schema);
  const definitions: VariableDefinitionNode[] = [];

  const name = (prefix: string): string => (query.includes(`$${prefix}`) ? name(`${prefix}_`) : prefix);
  const prefix = name("exact");

  const isJson = () => {
    const type = typeInfo.getInputType();
    return type != null && getNamedType(type).name === "JSON";
  };
  const outsourced = (node: ValueNode): ValueNode =>
    visit(node, {
      enter(inner) {
        if (inner.kind !== Kind.INT && inner.kind !== Kind.FLOAT) return undefined;
        if (!isRawJSON(exact(inner.value))) return undefined;
        const variable = {
          kind: Kind.VARIABLE,
          name: { kind: Kind.NAME, value: `${prefix}${definitions.length}` },
        } as const;
        const type = { kind: Kind.NAMED_TYPE, name: { kind: Kind.NAME, value: "JSON" } } as const;
        definitions.push({ kind: Kind.VARIABLE_DEFINITION, variable, type, defaultValue: inner });
        return variable;
      },
    });

  const rewritten = visit(
    document,
    visitWithTypeInfo(typeInfo, {
      VariableDefinition: () => false,
      ObjectValue: { enter: (node) => (isJson() ? outsourced(node) : undefined) },
      ListValue: { enter: (node) => (isJson() ? outsourced(node) : undefined) },
    }),
  );
  return {
    ...rewritten,
    definitions: rewritten.definitions.map((definition) =>
      definition.kind === Kind.OPERATION_DEFINITION
        ? { ...definition, variableDefinitions: [...(definition.variableDefinitions ?? []), ...definitions] }
        : definition,
    ),
  };
}
