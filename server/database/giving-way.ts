import { setTimeout as sleep } from "node:timers/promises";

// Who waits for one of our locks and is waited for by us is ended as the victim of a deadlock after a second: in the first
// attempts we give way before that. The later ones outwait long readers, and PostgreSQL ends an autovacuum that is in their way.
const PATIENCE_MS = [200, 200, 400, 400, 400, 800, 800, 800, 2_000, 5_000, 10_000, 20_000];
const PAUSE_MS = 200;
const IN_THE_WAY = ["40P01", "55P03"]; // deadlock detected, lock not available

/**
 * Changes what requests use meanwhile: work that meets a deadlock, or waits for a lock for longer than it was told to,
 * is begun again. It is to leave nothing of an attempt that failed.
 * @throws when something was in the way each time, for three quarters of a minute.
 */
export async function givingWay<T>(
  work: (lockTimeoutMs: number) => Promise<T>,
  patience: number[] = PATIENCE_MS,
): Promise<T> {
  let cause: unknown;
  for (const lockTimeoutMs of patience) {
    try {
      return await work(lockTimeoutMs);
    } catch (error) {
      if (!IN_THE_WAY.includes((error as { code?: string }).code ?? "")) throw error;
      cause = error;
    }
    await sleep(PAUSE_MS);
  }
  throw new Error(
    "Rowhouse's tables are in use without a pause. End transactions that have been open for long (pg_stat_activity.xact_start), then start again.",
    { cause },
  );
}
