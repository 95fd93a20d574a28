import pg, { type ClientBase, type Pool, type PoolClient } from "pg";
import { Problem } from "../http/problem.ts";
import { type Caller, countGuess } from "../http/query.ts";
import type { Tenant } from "../http/tenant.ts";

/** What bounds exports and imports: how many at once, for how long, and for how long nothing may move (both in seconds). */
export type Bounds = { atOnce: number; seconds: number; stallSeconds: number };

/** The app that a session opened: its id, its path, site/app, and whether some of what is read in it is written down. */
export type OpenApp = { id: string; path: string; noted: boolean };

/** A transaction of its own as a member of a site, for what takes longer than a request. */
export class Sessions {
  readonly #pool: Pool;
  readonly #bounds: Bounds;
  #open = 0;

  constructor(pool: Pool, bounds: Bounds) {
    this.#pool = pool;
    this.#bounds = bounds;
  }

  get stallSeconds(): number {
    return this.#bounds.stallSeconds;
  }

  /**
   * Runs work in one transaction under the caller's row-level security, with the app it opened. `left` ends it: the
   * connection is closed, and PostgreSQL ends the query within 2 s. Throws what work throws, pg's RH401 and RH404, and a
   * 503 Problem when too many are open.
   */
  async run<T>(
    mode: "read only" | "read write",
    caller: Caller,
    tenant: Tenant,
    left: AbortSignal,
    work: (client: PoolClient, app: OpenApp) => Promise<T>,
  ): Promise<T> {
    if (this.#open >= this.#bounds.atOnce) throw tooMany();
    this.#open++;
    try {
      const client = await this.#pool.connect();
      let ended = false;
      const end = (broken: boolean) => {
        if (!ended) client.release(broken);
        ended = true;
      };
      const leave = () => end(true);
      left.addEventListener("abort", leave);
      try {
        if (left.aborted) throw new Problem(400, "The request was given up", { code: "aborted" });
        const app = await this.#begin(client, mode, caller, tenant);
        const result = await work(client, app);
        await client.query("commit");
        end(false);
        return result;
      } catch (error) {
        await rollback(client, ended).then(end, leave);
        await countGuess(this.#pool, caller, tenant, error);
        throw error;
      } finally {
        left.removeEventListener("abort", leave);
        end(true);
      }
    } finally {
      this.#open--;
    }
  }

  /**
   * Runs work in a transaction that is committed before this one goes on and sees what it sees: what is noted there stays when
   * the reader of an export leaves. On a connection of its own, or transfers that hold all of the pool's would wait for each other.
   */
  async beside(
    client: PoolClient,
    caller: Caller,
    tenant: Tenant,
    left: AbortSignal,
    work: (client: ClientBase) => Promise<unknown>,
  ): Promise<void> {
    const { rows } = await client.query<{ id: string }>("select pg_export_snapshot() as id");
    const other = new pg.Client(this.#pool.options);
    other.on("error", () => {});
    const leave = () => void other.end();
    left.addEventListener("abort", leave);
    try {
      await other.connect();
      await this.#begin(other, "read only", caller, tenant, rows[0]?.id);
      await work(other);
      await other.query("commit");
    } finally {
      left.removeEventListener("abort", leave);
      await other.end();
    }
  }

  async #begin(
    client: ClientBase,
    mode: string,
    caller: Caller,
    tenant: Tenant,
    snapshot?: string,
  ): Promise<OpenApp> {
    const milliseconds = this.#bounds.seconds * 1000;
    await client.query(`begin isolation level ${mode === "read only" ? "repeatable read" : "read committed"} read write;
      ${snapshot ? `set transaction snapshot ${pg.escapeLiteral(snapshot)};` : ""}
      set local statement_timeout = ${milliseconds};
      set local idle_in_transaction_session_timeout = ${this.#bounds.stallSeconds * 1000};
      set local client_connection_check_interval = '2s'; set local timezone = 'UTC'`);
    const { rows } = await client.query<OpenApp>(
      `select r.app_id as id, concat(r.site_name, '/', r.app_name) as path, set_config('rowhouse.account', $2::text, true), set_config('rowhouse.site', r.site_id::text, true),
         set_config('rowhouse.env', $5::text, true), set_config('rowhouse.roles', access.roles_of(r.site_id, $2::uuid)::text, true),
         n.noted, set_config('transaction_read_only', case when $6::boolean and not n.noted then 'on' else 'off' end, true),
         set_config('role', r.role_name, true)
       from tenancy.open_request($1::uuid, $2::uuid, $3::text, $4::text) r, lateral (select audit.notes_reads(r.app_id)) n (noted)`,
      [caller.session, caller.account, tenant.site, tenant.app, caller.env, mode === "read only"],
    );
    return rows[0] as OpenApp;
  }
}

/** Whether the connection is of no use any more. */
async function rollback(client: PoolClient, ended: boolean): Promise<boolean> {
  if (!ended) await client.query("rollback");
  return false;
}

function tooMany(): Problem {
  return new Problem(503, "Too many exports and imports are running", {
    code: "too_many_transfers",
    hint: "Try again when one has ended; ROWHOUSE_TRANSFERS says how many may run at once.",
    headers: { "retry-after": "5" },
  });
}
