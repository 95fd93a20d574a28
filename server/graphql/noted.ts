import type { Pool } from "pg";
import {
  loadOneWithPgClient,
  type PgClient,
  type PgCodec,
  type PgExecutor,
  PgSelectSingleStep,
  type PgSelectStep,
} from "postgraphile/@dataplan/pg";
import { lambda, type Step } from "postgraphile/grafast";
import { getNamedType, isLeafType } from "postgraphile/graphql";

/** A view of which the log tells what is read: its entity, or the share that it is. */
export type NotedView = { schema: string; name: string; entity: string; share: string | null };

type Connection = { getSubplan(): PgSelectStep };
type Note = (client: PgClient, ids: readonly unknown[]) => Promise<true[]>;
type Plan = ($parent: Step, ...more: unknown[]) => Step;

/** The views of an app of which the log tells what is read. */
export async function notedViews(pool: Pool, appId: string): Promise<NotedView[]> {
  const { rows } = await pool.query<NotedView>(
    "select schema, name, entity, share from audit.noted_views($1)",
    [appId],
  );
  return rows;
}

/**
 * Shows no value of a record, nor a cursor, which holds some, before the log tells that the record was seen: one statement for
 * all records at one place of a query.
 */
export function noted(views: readonly NotedView[]): GraphileConfig.Plugin {
  const notes = new Map(views.map((view) => [`${view.schema}.${view.name}`, noteOf(view)]));
  const noteFor = (codec: PgCodec | undefined) => {
    const { schemaName, name } = codec?.extensions?.pg ?? {};
    return notes.get(`${schemaName}.${name}`);
  };
  const gated = ($value: Step, $id: Step, executor: PgExecutor, note: Note) =>
    lambda([$value, loadOneWithPgClient(executor, $id, note)], ([value]) => value, true);

  const ofRecord =
    (plan: Plan, note: Note): Plan =>
    ($record, ...more) => {
      const $value = plan($record, ...more);
      return $record instanceof PgSelectSingleStep
        ? gated($value, $record.get("id"), $record.resource.executor, note)
        : $value;
    };
  const ofCursor =
    (plan: Plan, connectionOf: ($parent: never) => Connection): Plan =>
    ($parent, ...more) => {
      const { resource } = connectionOf($parent as never).getSubplan();
      const note = noteFor(resource?.codec);
      const $cursor = plan($parent, ...more);
      return note ? gated($cursor, lambda($cursor, idIn, true), resource.executor, note) : $cursor;
    };

  return {
    name: "NotedPlugin",
    after: ["SeenPlugin"],
    schema: {
      hooks: {
        GraphQLObjectType_fields_field(field, _build, { scope }) {
          const { fieldName, isPgClassType, pgCodec, isCursorField } = scope as typeof scope & {
            isCursorField?: true;
          };
          const { isPageInfoStartCursorField, isPageInfoEndCursorField } = scope as {
            isPageInfoStartCursorField?: true;
            isPageInfoEndCursorField?: true;
          };
          const plan = (field.plan ??
            (($parent: { get(name: string): Step }) => $parent.get(fieldName))) as Plan;
          const note = isPgClassType && noteFor(pgCodec as PgCodec | undefined);
          const changed =
            note && isLeafType(getNamedType(field.type))
              ? ofRecord(plan, note)
              : notes.size > 0 && isCursorField
                ? ofCursor(plan, ($edge: { getConnectionStep(): Connection }) => $edge.getConnectionStep())
                : notes.size > 0 && (isPageInfoStartCursorField || isPageInfoEndCursorField)
                  ? ofCursor(plan, connectionOfPage)
                  : null;
          return changed ? ({ ...field, plan: changed } as typeof field) : field;
        },
      },
    },
  };
}

const noteOf =
  ({ entity, share }: NotedView): Note =>
  async (client, ids) => {
    const known = ids.filter((id) => id !== null);
    if (known.length === 0) return ids.map(() => true);
    await client.query({
      text: share
        ? "select audit.note_share($1::uuid, 'seen', $2::uuid[], 'graphql')"
        : "select audit.note_seen($1::uuid, $2::uuid[], 'graphql')",
      values: [share ?? entity, known],
    });
    return ids.map(() => true);
  };

/** The primary key is the last key of every order (cursors.ts), and so the last value of a cursor. */
function idIn(cursor: unknown): string | null {
  if (typeof cursor !== "string") return null;
  const keys = JSON.parse(Buffer.from(cursor, "base64").toString("utf8")) as string[];
  return keys.at(-1) ?? null;
}

function connectionOfPage($info: { getDepOptions(id: number): { step: Connection } }): Connection {
  return $info.getDepOptions(0).step;
}
