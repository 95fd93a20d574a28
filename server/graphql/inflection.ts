/** invoice_line becomes invoiceLine: the same as rowhouse.camel in SQL, which refuses names that would meet. */
export function camel(name: string): string {
  return name
    .split(/_+/)
    .map((part, index) => (index === 0 ? part : part.charAt(0).toUpperCase() + part.slice(1)))
    .join("");
}

/** invoice_line becomes InvoiceLine. */
export function upperCamel(name: string): string {
  const text = camel(name);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** InvoiceLine becomes invoiceLine. */
export function lowerCamel(type: string): string {
  return type.charAt(0).toLowerCase() + type.slice(1);
}

type Tags = Record<string, unknown> | undefined;
type Named = { name: string; extensions?: { tags?: Tags } };

function tag(tags: Tags, name: string): string | undefined {
  const value = tags?.[name];
  return typeof value === "string" ? value : undefined;
}

/** Types of GraphQL that apps can have; the others step aside, so that points, lines and times can be entities. */
const OWN_TYPES =
  /^(Query|Mutation|Subscription|Node|PageInfo|Cursor|NATURAL|BigInt|BigFloat|Date|Datetime|JSON|UUID)$/;

/**
 * Names of an app's schema. SQL decides singular and plural (smart tags @singular and @plural) so that it can refuse
 * names that would collide; `id` stays id.
 */
export const namesFromSmartTags: GraphileConfig.Plugin = {
  name: "NamesFromSmartTagsPlugin",
  after: ["PgSimplifyInflectionPlugin"],
  inflection: {
    replace: {
      builtin: (_previous, _options, name) => (OWN_TYPES.test(name) ? name : `_${name}`),
      _schemaPrefix: () => "",
      nodeIdFieldName: () => "nodeId",
      _attributeName(_previous, _options, { attributeName, codec }) {
        return this.coerceToGraphQLName(
          tag(codec.attributes[attributeName]?.extensions?.tags, "name") ?? attributeName,
        );
      },
      attribute(_previous, _options, details) {
        return camel(this._attributeName(details));
      },
      _singularizedCodecName(previous, _options, codec) {
        return tag((codec as Named).extensions?.tags, "singular") ?? previous?.(codec) ?? codec.name;
      },
      _singularizedResourceName(previous, _options, resource) {
        const tags = (resource.codec as Named).extensions?.tags;
        return (
          (resource.parameters ? undefined : tag(tags, "singular")) ?? previous?.(resource) ?? resource.name
        );
      },
      tableType(previous, _options, codec) {
        const singular = tag((codec as Named).extensions?.tags, "singular");
        return singular ? upperCamel(singular) : (previous?.(codec) ?? upperCamel(codec.name));
      },
      allRowsConnection(previous, _options, resource) {
        const plural = tag((resource.codec as Named).extensions?.tags, "plural");
        return plural ? camel(plural) : (previous?.(resource) ?? camel(resource.name));
      },
      rowByUnique(previous, _options, details) {
        const singular = tag((details.resource.codec as Named).extensions?.tags, "singular");
        if (!singular) return previous?.(details) ?? camel(details.resource.name);
        const by = details.unique.isPrimary
          ? ""
          : `By${details.unique.attributes.map(upperCamel).join("And")}`;
        return camel(singular) + by;
      },
      orderByAttributeEnum(_previous, _options, { attributeName, variant }) {
        return `${attributeName}_${variant}`.toUpperCase();
      },
    },
  },
};

/** NodeAccessorPlugin is off, and @graphile/simplify-inflection complains when its inflector is not there. */
export const unusedNames: GraphileConfig.Plugin = {
  name: "UnusedNamesPlugin",
  before: ["PgSimplifyInflectionPlugin"],
  inflection: { add: { nodeById: (_options, typeName) => `${typeName}ByNodeId` } },
};

/** A view of another site's may be called as one of the app's: those of these schemas have names of their own. */
export function namesOfShares(schemas: string[]): GraphileConfig.Plugin {
  return {
    name: "NamesOfSharesPlugin",
    after: ["NamesFromSmartTagsPlugin"],
    inflection: {
      replace: {
        _schemaPrefix: (_previous, _options, { pgNamespace }) =>
          schemas.includes(pgNamespace.nspname) ? "shared_" : "",
      },
    },
  };
}
