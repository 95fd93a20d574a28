import type { PgResource } from "postgraphile/@dataplan/pg";

// Inflectors of @graphile/pg-aggregates that its index does not declare.
type Details = { resource: PgResource; aggregateSpec: { id: string }; attributeName: string };

declare global {
  namespace GraphileBuild {
    interface Inflection {
      aggregateContainerType(details: Details): string;
      aggregateType(details: Details): string;
      aggregateGroupByType(details: Details): string;
      aggregateGroupByAttributeEnum(details: Details): string;
      aggregateHavingInputType(details: Details): string;
      aggregateHavingAggregateInputType(details: Details): string;
      aggregateHavingFilterInputType(spec: string): string;
    }
  }
}
