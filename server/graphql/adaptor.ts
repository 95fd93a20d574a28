import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import pg, { type Pool, type PoolClient } from "pg";
import type { PgClient, PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import { noteTaken } from "../database/guesses.ts";
import { type Bound, runWithin, type Statement } from "../database/pipelined.ts";
import { guessed, Problem } from "../http/problem.ts";

const STATEMENTS_KEPT = 100; // prepared statements of GraphQL on one connection; about 20 kB each in PostgreSQL

const preparedOn = new WeakMap<PoolClient, LRUCache<string, true>>();

/** The roles that an account holds, as the setting rowhouse.roles; none outside of an app, where the tables are asked. */
function held(account: string, site: string, role: string): string {
  const [siteId, accountId] = [`nullif(${site}, '')::uuid`, `nullif(${account}, '')::uuid`];
  return `case when ${role} = 'rowhouse_account' then '' when ${accountId} is null then access.roles_of(${siteId}, null)::text
    else coalesce((select k.role_ids from access.known_roles k where k.site_id = ${siteId} and k.account_id = ${accountId}),
      access.remember_roles(${siteId}, ${accountId}))::text end`;
}

const readingStatement: Statement = {
  name: "reading",
  // What it holds comes first: it may be remembered, which is a write.
  text: `select set_config('rowhouse.roles', ${held("$1::text", "$2::text", "$3::text")}, true),
    set_config('transaction_read_only', $5::text, true), set_config('rowhouse.account', $1::text, true),
    set_config('rowhouse.site', $2::text, true), set_config('rowhouse.env', $4::text, true), set_config('role', $3::text, true)`,
};

/**
 * How PostGraphile reaches PostgreSQL. A statement of a query is a transaction of its own, in one round trip; a mutation is
 * begin and claims, its statements, and commit.
 * `salt` names the definition: a view whose column types changed must not meet statements prepared before.
 */
export function transactions(pool: Pool, salt: string): WithPgClient {
  const names = new LRUCache<string, string>({ max: 1_000 });
  // A text that PostGraphile gives no name gets one too: a statement without a name would be parsed each time.
  const nameOf = (key: string): string => {
    let name = names.get(key);
    if (name === undefined) {
      name = createHash("md5").update(salt).update(key).digest("hex");
      names.set(key, name);
    }
    return name;
  };
  const withPgClient = async <T>(
    settings: Record<string, string | undefined> | null,
    work: (client: PgClient) => T | Promise<T>,
  ): Promise<T> => {
    if (settings?.transaction_read_only !== undefined) return work(reader(pool, settings, nameOf));
    try {
      return await inTransaction(settings ?? {}, work);
    } catch (error) {
      const told = await noteTaken(pool, contextOf({ ...settings, transaction_read_only: "off" }), error);
      throw told ? guessed(told) : error;
    }
  };
  const inTransaction = async <T>(
    settings: Record<string, string | undefined>,
    work: (client: PgClient) => T | Promise<T>,
  ): Promise<T> => {
    const client = await pool.connect();
    let broken: Error | undefined;
    try {
      await client.query(`begin;${claims(settings)}`);
      const result = await work(clientFor(client, nameOf, 1));
      await client.query("commit");
      return result;
    } catch (error) {
      await client.query("rollback").catch((cause: Error) => {
        broken = cause;
      });
      throw error;
    } finally {
      client.release(broken);
    }
  };
  return Object.assign(withPgClient, { release: () => {} }) as WithPgClient;
}

function contextOf(settings: Record<string, string | undefined>): Bound {
  return {
    statement: readingStatement,
    values: [
      settings["rowhouse.account"],
      settings["rowhouse.site"],
      settings.role,
      settings["rowhouse.env"] ?? "",
      settings.transaction_read_only,
    ],
  };
}

/** Runs every statement with its claims under one Sync. */
function reader(
  pool: Pool,
  settings: Record<string, string | undefined>,
  nameOf: (key: string) => string,
): PgClient {
  const context = contextOf(settings);
  const client: PgClient = {
    rawClient: undefined,
    async query<TData>({ text, name, values, arrayMode }: PgClientQuery): Promise<PgClientResult<TData>> {
      const query = {
        statement: { name: `q${nameOf(name ?? text)}`, text, isRead: true },
        values: (values ?? []) as unknown[],
      };
      const { rows, fields } = await runWithin(pool, context, query, true);
      const parsers = fields.map(({ dataTypeID }) => pg.types.getTypeParser(dataTypeID, "text"));
      const parsed = rows.map((row) => row.map((value, i) => (value === null ? null : parsers[i]?.(value))));
      const named = arrayMode
        ? parsed
        : parsed.map((row) => Object.fromEntries(fields.map((field, i) => [field.name, row[i]])));
      return { rows: named, rowCount: rows.length, notices: [] } as unknown as PgClientResult<TData>;
    },
    // Nothing is written: there is nothing to take back.
    withTransaction: async <T>(work: (inner: PgClient) => Promise<T>): Promise<T> => work(client),
  } as PgClient;
  return client;
}

// One statement, so that EXECUTE on set_config is checked before the role changes; the role comes last.
function claims(settings: Record<string, string | undefined>): string {
  const { role, ...rest } = settings;
  const entries = Object.entries(role === undefined ? rest : { ...rest, role }).filter(
    ([, value]) => value !== undefined,
  );
  if (entries.length === 0) return "";
  const calls = entries.map(
    ([name, value]) => `set_config(${pg.escapeLiteral(name)}, ${pg.escapeLiteral(String(value))}, true)`,
  );
  const text = (name: string) => pg.escapeLiteral(settings[name] ?? "");
  const roles = held(text("rowhouse.account"), text("rowhouse.site"), text("role"));
  return `select set_config('rowhouse.roles', ${roles}, true), ${calls.join(", ")}`;
}

function clientFor(client: PoolClient, nameOf: (key: string) => string, level: number): PgClient {
  return {
    rawClient: client,
    async query<TData>({ text, name, values, arrayMode }: PgClientQuery): Promise<PgClientResult<TData>> {
      const { rows, rowCount } = await client.query({
        text,
        values: values as unknown[],
        ...(arrayMode ? { rowMode: "array" as const } : {}),
        ...(name ? { name: keep(client, nameOf(name)) } : {}),
      });
      if (rowCount === 0 && /^\s*(update|delete)\b/.test(text)) throw unknownRecord();
      return { rows: rows as TData[], rowCount, notices: [] } as unknown as PgClientResult<TData>;
    },
    async withTransaction<T>(work: (inner: PgClient) => Promise<T>): Promise<T> {
      await client.query(`savepoint s${level}`);
      try {
        const result = await work(clientFor(client, nameOf, level + 1));
        await client.query(`release savepoint s${level}`);
        return result;
      } catch (error) {
        await client.query(`rollback to savepoint s${level}`);
        throw error;
      }
    },
  } as PgClient;
}

// A connection serves many apps: what was not used for long is deallocated, or each backend would keep them all.
function keep(client: PoolClient, name: string): string {
  let kept = preparedOn.get(client);
  if (!kept) {
    const { connection } = client as unknown as {
      connection?: { parsedStatements?: Record<string, unknown> };
    };
    kept = new LRUCache({
      max: STATEMENTS_KEPT,
      dispose: (_value, old, reason) => {
        if (reason !== "evict" || !connection?.parsedStatements?.[old]) return;
        // Not within this transaction's statement: queued behind it. In a failed transaction it stays prepared, and known.
        client.query(`deallocate ${pg.escapeIdentifier(old)}`).then(
          () => delete connection.parsedStatements?.[old],
          () => {},
        );
      },
    });
    preparedOn.set(client, kept);
  }
  if (!kept.get(name)) kept.set(name, true);
  return name;
}

function unknownRecord(): Problem {
  return new Problem(404, "There is no such record that you may see", {
    code: "not_found",
    hint: "Check the id; it may have been deleted.",
  });
}
