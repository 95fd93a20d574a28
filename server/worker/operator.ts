import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";

/** What does with the operator's login what no other may: it runs the statements that operations wait for. */
export interface Operator {
  isRunning(): boolean;
  /** A statement that is being run is stopped; whoever comes next begins it again. */
  stop(): Promise<void>;
}

const POLL_MS = 1_000;
const REPORT_MS = 5_000;
const WATCH_MS = 250;
const RETRY_MS = 2_000;

// As SQL functions have it: statements name everything in full. It waits for transactions that are older than it, never longer
// than this for one of them, and nobody waits for it.
const SESSION = `set role rowhouse_owner; set search_path = ''; set timezone = 'UTC'; set statement_timeout = 0;
  set lock_timeout = '5min'; set maintenance_work_mem = '256MB'; set client_min_messages = warning`;

/** Starts it in this process. Of several processes one does the work, the others wait for its end. */
export function startOperator(operatorUrl: string, log: Logger): Operator {
  const id = randomUUID();
  const ending = new AbortController();
  let running = false;
  const wait = (ms: number) => sleep(ms, undefined, { signal: ending.signal }).catch(() => {});

  async function work(build: pg.Client, watch: pg.Client): Promise<void> {
    running = true;
    // The lock is the session's that builds: as long as a killed process's statement runs, nobody begins another.
    const lock = "select pg_catalog.pg_try_advisory_lock(hashtextextended('rowhouse.operator', 0)) as mine";
    while (!ending.signal.aborted && !(await build.query(lock)).rows[0].mine) await wait(RETRY_MS);
    let reported = 0;
    while (!ending.signal.aborted) {
      if (Date.now() - reported > REPORT_MS) {
        await watch.query("select rowhouse.report_operator($1)", [id]);
        reported = Date.now();
      }
      const { rows } = await watch.query<{ operation: string | null; statement: string }>(
        "select * from data.next_statement()",
      );
      const next = rows[0];
      if (next?.operation) await runStatement(build, watch, next.operation, next.statement);
      await wait(POLL_MS);
    }
  }

  async function runStatement(build: pg.Client, watch: pg.Client, operation: string, statement: string) {
    let over = false;
    // The extended protocol takes one statement and no more.
    const done = build
      .query({ text: statement, queryMode: "extended" } as pg.QueryConfig)
      .then(() => undefined)
      .catch((error: pg.DatabaseError) => error)
      .finally(() => {
        over = true;
      });
    const process = (build as pg.Client & { processID: number }).processID;
    let reported = 0;
    while (!over) {
      await Promise.race([done, wait(WATCH_MS)]);
      if (over) break;
      if (Date.now() - reported > REPORT_MS) {
        await watch.query("select rowhouse.report_operator($1)", [id]);
        reported = Date.now();
      }
      const { rows } = await watch.query<{ goes_on: boolean }>(
        "select data.watch_statement($1, $2, (select to_jsonb(p) from pg_stat_progress_create_index p where p.pid = $2)) as goes_on",
        [operation, process],
      );
      if (ending.signal.aborted || !rows[0]?.goes_on) {
        await watch.query("select pg_cancel_backend($1)", [process]);
        await sleep(WATCH_MS);
      }
    }
    const error = await done;
    if (error && !error.code) throw error; // the connection
    if (statement.startsWith("create "))
      await watch.query("select data.end_statement($1, $2, $3)", [operation, error?.code, error?.message]);
    log[error ? "warn" : "info"](
      { part: "operator", operation, ...(error && { message: error.message }) },
      statement,
    );
  }

  const loop = (async () => {
    while (!ending.signal.aborted) {
      const clients = [0, 1].map(() => new pg.Client({ connectionString: operatorUrl }));
      for (const client of clients) client.on("error", () => {});
      const [build, watch] = clients as [pg.Client, pg.Client];
      try {
        await Promise.all(clients.map((client) => client.connect()));
        await build.query(SESSION);
        await work(build, watch);
      } catch (error) {
        if (!ending.signal.aborted)
          log.warn({ part: "operator", message: (error as Error).message }, "It begins again in a moment");
      }
      running = false;
      await Promise.all(clients.map((client) => client.end().catch(() => {})));
      await wait(RETRY_MS);
    }
  })();
  return {
    isRunning: () => running,
    stop: async () => {
      ending.abort();
      await loop;
    },
  };
}
