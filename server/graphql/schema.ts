import "./environment.ts";
import { PgSimplifyInflectionPreset } from "@graphile/simplify-inflection";
import type { Pool } from "pg";
import { makeSchema } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import type { GraphQLSchema } from "postgraphile/graphql";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { PostGraphileConnectionFilterPreset } from "postgraphile-plugin-connection-filter";
import { aggregates, aggregatesPreset } from "./aggregates.ts";
import { cursors } from "./cursors.ts";
import { exactNumbers } from "./exactness.ts";
import { namesFromSmartTags, namesOfShares, unusedNames } from "./inflection.ts";
import { type IntrospectionScope, schemasOf, scopedIntrospection } from "./introspection.ts";
import { linkIdLists } from "./link-ids.ts";
import { links } from "./links.ts";

/** A built schema and the preset it runs with. */
export type Built = { schema: GraphQLSchema; resolvedPreset: GraphileConfig.ResolvedPreset };

const PLANNING_MS = 2_000; // of one document; ours take 5–50
const EXECUTION_MS = 30_000; // like the site role's statement_timeout

/** Builds the GraphQL schema of a scope; `pool` logs in as a role that may read the catalogs, no more. */
export async function buildSchema(
  pool: Pool,
  scope: IntrospectionScope,
  plugins: GraphileConfig.Plugin[] = [],
): Promise<Built> {
  const { schema, resolvedPreset } = await makeSchema({
    extends: [
      PostGraphileAmberPreset,
      PgSimplifyInflectionPreset,
      PostGraphileConnectionFilterPreset,
      ...(scope.role ? [] : [aggregatesPreset]),
    ],
    plugins: [
      scopedIntrospection(pool, scope),
      namesFromSmartTags,
      namesOfShares(schemasOf(scope)),
      unusedNames,
      exactNumbers,
      links,
      linkIdLists,
      cursors,
      ...(scope.role ? [] : [aggregates]),
      ...plugins,
    ],
    disablePlugins: [
      "PgIntrospectionPlugin", // ours instead
      "SwallowErrorsPlugin", // a build that cannot make everything fails, and the one before keeps serving
      "PgConditionArgumentPlugin", // `filter` does that
      "PgOrderByPrimaryKeyPlugin", // ID_ASC does that
      "PgLtreePlugin",
      ...(scope.role ? [] : ["PgRBACPlugin"]),
      "BuiltinScalarConnectionsPlugin",
      "NodeAccessorPlugin", // contact(id:) does that
      "PgNodeIdAttributesPlugin",
    ],
    pgServices: [makePgService({ pool, schemas: [...scope.schemas, ...schemasOf(scope)], pubsub: false })],
    gather: { pgStrictFunctions: true },
    schema: {
      pgMutationPayloadRelations: false,
      retryOnInitFail: false,
      defaultBehavior: "-query:resource:list -list",
      connectionFilterRelations: true,
      connectionFilterAllowEmptyObjectInput: true,
    },
    grafast: { explain: false, timeouts: { planning: PLANNING_MS, execution: EXECUTION_MS } },
  });
  return { schema, resolvedPreset };
}
