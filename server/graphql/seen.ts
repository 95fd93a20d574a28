import type { Pool } from "pg";
import type {
  PgCodec,
  PgRegistry,
  PgResource,
  PgResourceUnique,
  PgSelectQueryBuilder,
  PgSelectSingleStep,
} from "postgraphile/@dataplan/pg";
import { GraphQLNonNull, getNullableType } from "postgraphile/graphql";
import { type SQL, sql } from "postgraphile/pg-sql2";

/** An entity with fields that some readers see masked or hidden; a new record must have those that are required. */
export type Maskable = { name: string; id: string; fields: string[]; required: string[] };

/** What a filter or an order compares: attributes of a table. */
export type Compared = [codec: PgCodec, attributes: readonly string[]];

declare global {
  namespace GraphileBuild {
    interface Build {
      /** The conditions to ask before such attributes are compared, where somebody may not see one of them. */
      unseen?(compared: readonly Compared[]): SQL[];
    }
  }
}

type Modifier = { parent?: Modifier } & Pick<PgSelectQueryBuilder, "where">;
type Apply = (modifier: Modifier, value: unknown, ...more: unknown[]) => unknown;

/** The entities of an app of which not everybody sees every field. */
export async function maskableEntities(pool: Pool, appId: string): Promise<Maskable[]> {
  const { rows } = await pool.query<Maskable>(
    "select name, id, fields, required from access.maskable_entities($1)",
    [appId],
  );
  return rows;
}

/**
 * Filters, orders, groups, aggregates and look-ups by a field that somebody may not see ask access.require_seen before
 * anything is read, as the statements of REST do (access.seen_condition): 403, and not records whose masks compare.
 */
export function seen(maskable: readonly Maskable[]): GraphileConfig.Plugin {
  const byName = new Map(maskable.map((entity) => [entity.name, entity]));

  const condition = ([codec, attributes]: Compared): SQL | null => {
    const entity = byName.get(codec.extensions?.pg?.name ?? "");
    const fields = attributes.filter((name) => entity?.fields.includes(name));
    if (!entity || fields.length === 0) return null;
    const names = sql.join(
      fields.map((name) => sql.literal(name)),
      ", ",
    );
    return sql`(select access.require_seen(${sql.literal(entity.id)}::uuid, array[${names}]::text[]))`;
  };
  const conditions = (compared: readonly Compared[]) =>
    compared.map(condition).filter((found) => found !== null);

  // On the statement itself: under an or it would be asked only of the rows that the rest leaves.
  const asking = (apply: Apply | undefined, compared: readonly Compared[]): Apply | undefined => {
    const needed = conditions(compared);
    if (!apply || needed.length === 0) return apply;
    return (modifier, value, ...more) => {
      const inner = apply(modifier, value, ...more);
      let root = modifier;
      while (root.parent) root = root.parent;
      for (const one of needed) root.where(one);
      return inner;
    };
  };

  return {
    name: "SeenPlugin",
    after: [
      "PgOrderAllAttributesPlugin",
      "PgAggregatesAddGroupByAggregateEnumValuesForAttributesPlugin",
      "AggregatesPlugin",
      "CursorsWithIdPlugin",
      "RelatedOrderPlugin",
    ],
    schema: {
      hooks: {
        build: (build) => build.extend(build, { unseen: conditions }, "Adding unseen"),
        GraphQLInputObjectType_fields_field(config, build, { scope, Self }) {
          const field = config as typeof config & { apply?: Apply };
          const { fieldName, isPgConnectionFilter, pgCodec } = scope as typeof scope & { fieldName: string };
          const { isPgRowType, isPgPatch, isPgBaseInput } = scope;
          if (isPgRowType && !isPgPatch && !isPgBaseInput && pgCodec) {
            // Null is what some are shown of it, not what anybody may send.
            const attribute = attributeOf(build, pgCodec as PgCodec, fieldName);
            const mustBe = byName.get(pgCodec.extensions?.pg?.name ?? "")?.required.includes(attribute);
            return mustBe ? { ...field, type: new GraphQLNonNull(getNullableType(field.type)) } : field;
          }
          const compared = isPgConnectionFilter
            ? comparedBy(build, pgCodec as PgCodec).get(fieldName)
            : havingBy(build, Self.name, fieldName);
          const apply = asking(field.apply, compared ?? []);
          return apply && apply !== field.apply ? { ...field, apply } : field;
        },
        GraphQLEnumType_values(values, _build, { scope }) {
          const codec = (
            scope.isPgRowSortEnum
              ? scope.pgCodec
              : scope.isPgAggregateGroupEnum && (scope.pgTypeResource as PgResource | undefined)?.codec
          ) as PgCodec | undefined;
          if (!codec) return values;
          for (const [name, value] of Object.entries(values)) {
            const { grafast, compares } = (value.extensions ?? {}) as {
              grafast?: { apply: Apply };
              compares?: Compared[];
            };
            // An order has its direction at its end, a group perhaps a bucket: DUE_ASC, DUE__MONTH.
            const ending = scope.isPgRowSortEnum ? /_(ASC|DESC)$/ : /__[A-Z]+$/;
            const attribute = Object.keys(codec.attributes ?? {}).find(
              (own) => own.toUpperCase() === name.replace(ending, ""),
            );
            const apply = asking(grafast?.apply, compares ?? (attribute ? [[codec, [attribute]]] : []));
            if (grafast && apply) grafast.apply = apply;
          }
          return values;
        },
        GraphQLObjectType_fields_field(field, build, { scope }) {
          const { fieldName, pgTypeResource, pgFieldResource, isPgConnectionAggregateField } =
            scope as typeof scope & {
              isPgConnectionAggregateField?: true;
              pgTypeResource?: PgResource;
              pgFieldResource?: PgResource;
              pgFieldResourceUnique?: PgResourceUnique;
            };
          const unique = (scope as { pgFieldResourceUnique?: PgResourceUnique }).pgFieldResourceUnique;
          const compared: Compared[] =
            isPgConnectionAggregateField && pgTypeResource
              ? [[pgTypeResource.codec, [attributeOf(build, pgTypeResource.codec, fieldName)]]]
              : scope.isPgRowByUniqueConstraintField && pgFieldResource && unique
                ? [[pgFieldResource.codec, unique.attributes]]
                : [];
          const needed = conditions(compared);
          const plan = field.plan as ((...args: unknown[]) => unknown) | undefined;
          if (!plan || needed.length === 0) return field;
          return {
            ...field,
            plan(...args: unknown[]) {
              const $planned = plan(...args);
              const $record = (isPgConnectionAggregateField ? args[0] : $planned) as PgSelectSingleStep;
              for (const one of needed) $record.getClassStep().where(one);
              return $planned;
            },
          } as typeof field;
        },
      },
    },
  };
}

function attributeOf(build: GraphileBuild.Build, codec: PgCodec, fieldName: string): string {
  const names = Object.keys(codec.attributes ?? {});
  return names.find((attributeName) => named(build, codec, attributeName) === fieldName) ?? "";
}

const named = ({ inflection }: GraphileBuild.Build, codec: PgCodec, attributeName: string) =>
  inflection.attribute({ codec: codec as never, attributeName });

/** What each field of an entity's filter compares: its own attribute, or what a relation stands on, on both sides. */
function comparedBy(build: GraphileBuild.Build, codec: PgCodec): Map<string, Compared[]> {
  const { inflection } = build;
  const registry = build.input.pgRegistry as PgRegistry;
  const found = new Map<string, Compared[]>();
  for (const attributeName of Object.keys(codec.attributes ?? {}))
    found.set(named(build, codec, attributeName), [[codec, [attributeName]]]);
  for (const [relationName, relation] of Object.entries(registry.pgRelations[codec.name] ?? {})) {
    const details = { registry, codec, relationName } as never;
    const [name, exists] = !relation.isReferencee
      ? [inflection.singleRelation(details), "Exists"]
      : relation.isUnique
        ? [inflection.singleRelationBackwards(details), "Exists"]
        : [inflection._manyRelation(details), "Exist"];
    const compared: Compared[] = [
      [codec, relation.localAttributes],
      [relation.remoteResource.codec, relation.remoteAttributes],
    ];
    found.set(name, compared);
    found.set(`${name}${exists}`, compared);
  }
  for (const { name, view, from } of build.links) {
    if (from.codec !== codec) continue;
    // In either direction by the list of ids that the links are written in.
    const source = build.links.find((link) => link.view === view && link.own === "source_id");
    if (!source) continue;
    const list = Object.keys(source.from.codec.attributes ?? {}).filter((attribute) =>
      view.endsWith(`__linked_${attribute}`),
    );
    const compared: Compared[] = [[source.from.codec, list]];
    found.set(name, compared);
    found.set(`${name}Exist`, compared);
  }
  return found;
}

/** What a field of having computes from: its type is known by its name only. */
function havingBy(build: GraphileBuild.Build, typeName: string, fieldName: string): Compared[] {
  const { inflection } = build;
  for (const resource of Object.values(build.input.pgRegistry.pgResources) as PgResource[]) {
    if (resource.parameters || !resource.codec.attributes) continue;
    for (const aggregateSpec of build.pgAggregateSpecs ?? []) {
      const details = { resource, aggregateSpec, attributeName: "" } as never;
      const name = inflection.aggregateHavingAggregateInputType(details);
      if (name === typeName) return [[resource.codec, [attributeOf(build, resource.codec, fieldName)]]];
    }
  }
  return [];
}
