import { PgAggregatesPreset } from "@graphile/pg-aggregates";
import {
  PgBooleanFilter,
  type PgCodec,
  type PgResource,
  type PgSelectQueryBuilder,
  type PgSelectSingleStep,
  type PgSelectStep,
  TYPES,
} from "postgraphile/@dataplan/pg";
import type { FieldArgs } from "postgraphile/grafast";
import { GraphQLInt, GraphQLNonNull, GraphQLString } from "postgraphile/graphql";
import { type SQL, sql } from "postgraphile/pg-sql2";

type Connection = { cloneSubplanWithoutPagination(mode: "aggregate"): PgSelectStep };
type Spec = {
  id: string;
  humanLabel: string;
  HumanLabel: string;
  isSuitableType(codec: PgCodec): boolean;
  sqlAggregateWrap(value: SQL, codec: PgCodec): SQL;
  pgTypeCodecModifier?(codec: PgCodec): PgCodec;
};

const BUCKETS = ["hour", "day", "week", "month", "quarter", "year"];
const ZONE = "rowhouse.timezone";

const isNumber = (codec: PgCodec) =>
  codec === TYPES.int || codec === TYPES.bigint || codec === TYPES.numeric || codec === TYPES.float;
const isOrdered = (codec: PgCodec) =>
  isNumber(codec) || codec === TYPES.text || codec === TYPES.date || codec === TYPES.timestamptz;
const exact = (codec: PgCodec): PgCodec => (codec === TYPES.float ? TYPES.float : TYPES.numeric);

// As db/data/aggregate.sql computes them: exact, and null where there is nothing to sum.
const SPECS: Spec[] = [
  {
    id: "sum",
    humanLabel: "sum",
    HumanLabel: "Sum",
    isSuitableType: isNumber,
    sqlAggregateWrap: (value) => sql`sum(${value})`,
    pgTypeCodecModifier: exact,
  },
  {
    id: "avg",
    humanLabel: "average",
    HumanLabel: "Average",
    isSuitableType: isNumber,
    sqlAggregateWrap: (value, codec) =>
      codec === TYPES.float
        ? sql`avg(${value})`
        : sql`trim_scale(sum(${value}) * 1.0000000000000000 / count(${value}))`,
    pgTypeCodecModifier: exact,
  },
  {
    id: "min",
    humanLabel: "minimum",
    HumanLabel: "Minimum",
    isSuitableType: isOrdered,
    sqlAggregateWrap: (value) => sql`min(${value})`,
  },
  {
    id: "max",
    humanLabel: "maximum",
    HumanLabel: "Maximum",
    isSuitableType: isOrdered,
    sqlAggregateWrap: (value) => sql`max(${value})`,
  },
  {
    id: "distinctCount",
    humanLabel: "number of different values",
    HumanLabel: "Number of different values",
    isSuitableType: () => true,
    sqlAggregateWrap: (value) => sql`count(distinct ${value})::int`,
    pgTypeCodecModifier: () => TYPES.int,
  },
];

/** @graphile/pg-aggregates without filters and orders of other lists by aggregates, with which a schema took 7.2 MB; so 4.7, without 3.5. */
export const aggregatesPreset: GraphileConfig.Preset = {
  plugins: (PgAggregatesPreset.plugins ?? []).filter(
    ({ name }) => !/^PgAggregates(FilterRelationalAggregates|OrderByAggregates|SmartTags)Plugin$/.test(name),
  ),
};

/** Aggregates of connections: ours, with date buckets in a time zone, and groups in pages that the limits count. */
export const aggregates: GraphileConfig.Plugin = {
  name: "AggregatesPlugin",
  after: [
    "PgAggregatesSpecsPlugin",
    "PgAggregatesAddHavingAggregateTypesPlugin",
    "PgAggregatesAddConnectionGroupedAggregatesPlugin",
    "PgAggregatesInflectorsPlugin",
  ],
  inflection: {
    replace: {
      aggregateContainerType(_previous, _options, { resource }) {
        return `${this.tableType(resource.codec)}Aggregates`;
      },
      aggregateType(_previous, _options, { resource, aggregateSpec }) {
        return `${this.tableType(resource.codec)}${capital(aggregateSpec.id)}Aggregates`;
      },
      aggregateGroupByType(_previous, _options, { resource }) {
        return `${this.tableType(resource.codec)}GroupBy`;
      },
      aggregateGroupByAttributeEnum(_previous, _options, { attributeName }) {
        return attributeName.toUpperCase();
      },
      aggregateHavingInputType(_previous, _options, { resource }) {
        return `${this.tableType(resource.codec)}HavingInput`;
      },
      aggregateHavingAggregateInputType(_previous, _options, { resource, aggregateSpec }) {
        return `${this.tableType(resource.codec)}Having${capital(aggregateSpec.id)}Input`;
      },
    },
  },
  schema: {
    hooks: {
      build(build) {
        const { inflection } = build as GraphileBuild.Build;
        return Object.assign(build, {
          pgAggregateSpecs: SPECS,
          pgAggregateGroupBySpecs: [],
          // Numbers only: theirs would offer the average of dates, and fail. That of whole numbers is compared as a decimal.
          pgHavingFilterTypeNameForCodec: (codec: PgCodec) =>
            isNumber(codec)
              ? inflection.aggregateHavingFilterInputType(codec === TYPES.float ? "float" : "bigfloat")
              : null,
        });
      },
      GraphQLObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        if (!scope.isPgAggregateContainerType) return fields;
        const count = fieldWithHooks({ fieldName: "count" }, () => ({
          description: "How many records there are",
          type: new GraphQLNonNull(GraphQLInt),
          plan: ($group: PgSelectSingleStep) => $group.select(sql`count(*)::int`, TYPES.int),
        }));
        return build.extend(fields, { count }, "Adding count to aggregates");
      },
      GraphQLInputObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        if (!scope.isPgAggregateHavingInputType) return fields;
        const count = fieldWithHooks({ fieldName: "count" }, () => ({
          type: build.getInputTypeByName(build.inflection.aggregateHavingFilterInputType("bigfloat")),
          apply: ($having: ConstructorParameters<typeof PgBooleanFilter>[0]) =>
            new PgBooleanFilter($having, sql`count(*)`),
        }));
        return build.extend(fields, { count }, "Adding count to having");
      },
      GraphQLEnumType_values(values, build, { scope }) {
        const attributes = (scope.pgTypeResource as PgResource | undefined)?.codec.attributes;
        if (!scope.isPgAggregateGroupEnum || !attributes) return values;
        const buckets = Object.entries(attributes).flatMap(([name, { codec }]) =>
          (codec === TYPES.timestamptz ? BUCKETS : codec === TYPES.date ? BUCKETS.slice(1) : []).map(
            // Two underscores, which no property has: due and due_month may both be.
            (bucket) => [`${name}__${bucket}`.toUpperCase(), bucketValue(name, codec as PgCodec, bucket)],
          ),
        );
        return build.extend(values, Object.fromEntries(buckets), "Adding date buckets");
      },
      GraphQLObjectType_fields_field(field, _build, { scope }) {
        if (scope.fieldName !== "groupedAggregates" || !scope.isConnectionType) return field;
        return {
          ...field,
          description: "Groups of the records that match the connection's filter, largest first",
          args: {
            ...field.args,
            timezone: {
              type: GraphQLString,
              description: "Where the days of buckets begin: Europe/Oslo. UTC unless told",
            },
            first: { type: GraphQLInt, description: "How many groups" },
          },
          plan: planGroups,
        };
      },
    },
  },
};

function planGroups($connection: Connection, args: FieldArgs): PgSelectStep {
  const $groups = $connection.cloneSubplanWithoutPagination("aggregate");
  $groups.setMeta(ZONE, $groups.placeholder(args.getRaw("timezone") as never, TYPES.text));
  $groups.setFirst(args.getRaw("first") as never);
  $groups.orderBy({ fragment: sql`count(*)`, codec: TYPES.bigint, direction: "DESC" });
  // By the oldest record where equal, so that a page is always the same.
  $groups.orderBy({
    fragment: sql`min(${$groups.alias}.id::text)`,
    codec: TYPES.text,
    direction: "ASC",
  });
  return $groups;
}

function bucketValue(name: string, codec: PgCodec, bucket: string): object {
  const apply = (builder: PgSelectQueryBuilder) => {
    const value = sql`${builder.alias}.${sql.identifier(name)}`;
    const unit = sql.literal(bucket);
    const zone = sql`data.timezone(coalesce(${builder.getMetaRaw(ZONE) as SQL}, 'UTC'))`;
    const local = codec === TYPES.date ? sql`${value}::timestamp` : sql`${value} at time zone ${zone}`;
    const fragment =
      bucket === "hour"
        ? sql`(to_json(date_trunc(${unit}, ${value}, ${zone})) #>> '{}')`
        : sql`date_trunc(${unit}, ${local})::date::text`;
    builder.groupBy({ fragment, codec: TYPES.text });
  };
  return { extensions: { grafast: { apply } } };
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
