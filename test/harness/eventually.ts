import { setTimeout as sleep } from "node:timers/promises";
import type { TestDatabase } from "./database.ts";

const PATIENCE_MS = 60_000; // of a machine that does much else at once; jest's own limit of a test is twice that

/** Asks again and again until the answer is one of which `isSo` holds, by default a truthy one; returns it. Throws after a minute. */
export async function eventually<T>(
  ask: () => Promise<T> | T,
  isSo: (answer: T) => boolean = Boolean,
): Promise<T> {
  for (const end = Date.now() + PATIENCE_MS; ; await sleep(20)) {
    const answer = await ask();
    if (isSo(answer)) return answer;
    if (Date.now() > end) throw new Error(`Still ${JSON.stringify(answer)} after a minute: ${ask}`);
  }
}

/** Waits until a statement that matches waits for a lock, or pauses before it asks for it again. */
export function untilBlocked(db: Pick<TestDatabase, "query">, statement: string): Promise<unknown> {
  return eventually(
    () =>
      db.query(
        `select query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state = 'active'
           and query ~ $1 and (wait_event_type = 'Lock' or wait_event = 'PgSleep')`,
        [statement],
      ),
    (waiting) => waiting.length > 0,
  );
}
