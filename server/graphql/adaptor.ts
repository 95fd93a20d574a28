import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import pg, { type Pool, type PoolClient } from "pg";
import type { PgClient, PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import { Problem } from "../http/problem.ts";

const STATEMENTS_KEPT = 100; // prepared statements of GraphQL on one connection; about 20 kB each in PostgreSQL

const preparedOn = new WeakMap<PoolClient, LRUCache<string, true>>();

/**
 * How PostGraphile reaches PostgreSQL: begin, claims and role in one round trip, then its statements, then commit.
 * `salt` names the definition: a view whose column types changed must not meet statements prepared before.
 */
export function transactions(pool: Pool, salt: string): WithPgClient {
  const withPgClient = async <T>(
    settings: Record<string, string | undefined> | null,
    work: (client: PgClient) => T | Promise<T>,
  ): Promise<T> => {
    const client = await pool.connect();
    let broken: Error | undefined;
    try {
      await client.query(`begin;${claims(settings ?? {})}`);
      const result = await work(clientFor(client, salt, 1));
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
  return `select ${calls.join(", ")}`;
}

function clientFor(client: PoolClient, salt: string, level: number): PgClient {
  return {
    rawClient: client,
    async query<TData>({ text, name, values, arrayMode }: PgClientQuery): Promise<PgClientResult<TData>> {
      const { rows, rowCount } = await client.query({
        text,
        values: values as unknown[],
        ...(arrayMode ? { rowMode: "array" as const } : {}),
        ...(name ? { name: keep(client, createHash("md5").update(salt).update(name).digest("hex")) } : {}),
      });
      if (rowCount === 0 && /^\s*(update|delete)\b/.test(text)) throw unknownRecord();
      return { rows: rows as TData[], rowCount, notices: [] } as unknown as PgClientResult<TData>;
    },
    async withTransaction<T>(work: (inner: PgClient) => Promise<T>): Promise<T> {
      await client.query(`savepoint s${level}`);
      try {
        const result = await work(clientFor(client, salt, level + 1));
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
