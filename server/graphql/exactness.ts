import { GraphQLError, Kind, type ValueNode } from "postgraphile/graphql";

const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON(text: string): { rawJSON: string };
  isRawJSON(value: unknown): value is { rawJSON: string };
};

/**
 * Parses a request's JSON without rounding: a number that a 64-bit float cannot hold is kept as its text, which exact
 * decimals and big integers take as it is, and Float and Int refuse.
 */
export function parseExactly(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) =>
    typeof value === "number" && context?.source !== undefined && !isExact(value, context.source)
      ? rawJSON(context.source)
      : value,
  );
}

function isExact(value: number, source: string): boolean {
  return Number.isFinite(value) && digits(String(value)) === digits(source);
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

/** BigFloat and BigInt take numbers and strings, in a query's text or its variables, and never round them. */
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
        }
        return config;
      },
    },
  },
};
