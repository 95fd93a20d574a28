import { randomUUID } from "node:crypto";
import { type Runner, run, Logger as WorkerLogger } from "graphile-worker";
import type { Pool } from "pg";
import type { Logger } from "pino";
import {
  deleteExpiredRecords,
  deleteExpiredTokens,
  endDelegations,
  keepAudit,
  resumeOperations,
  runOperation,
  sealAudit,
  verifyDomains,
} from "./tasks.ts";

/** A running worker. */
export interface Worker {
  isRunning(): boolean;
  stop(): Promise<void>;
}

// Hourly clean-up; claimed domains are looked up every five minutes until their proof is found.
const CRONTAB = [
  "7 * * * * delete_expired_tokens",
  "17 * * * * delete_expired_records",
  "37 * * * * end_delegations",
  "*/5 * * * * verify_domains",
  "* * * * * resume_operations",
  "* * * * * seal_audit",
  "27 * * * * keep_audit",
].join("\n");

const REPORT_MS = 10_000;

/** Starts the worker in this process; the pool logs in as rowhouse_worker. Batching runs a job again after a crash: tasks are idempotent. */
export async function startWorker(pool: Pool, log: Logger): Promise<Worker> {
  let running = true;
  const runner: Runner = await run({
    pgPool: pool,
    noHandleSignals: true,
    crontab: CRONTAB,
    taskList: {
      delete_expired_tokens: deleteExpiredTokens,
      delete_expired_records: deleteExpiredRecords,
      end_delegations: endDelegations,
      verify_domains: verifyDomains,
      run_operation: runOperation,
      resume_operations: resumeOperations,
      seal_audit: sealAudit,
      keep_audit: keepAudit,
    },
    logger: new WorkerLogger(
      () => (level, message) =>
        log[level === "warning" ? "warn" : level === "info" ? "debug" : level]({ part: "worker" }, message),
    ),
    preset: {
      worker: {
        concurrentJobs: 10,
        // 19–34 thousand jobs a second against 2–3 thousand with the defaults (DESIGN 3.12).
        localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
        completeJobBatchDelay: 5,
        failJobBatchDelay: 5,
      },
    },
  });
  runner.promise.then(
    () => {
      running = false;
    },
    (error) => {
      running = false;
      log.error({ part: "worker", err: error }, "The worker stopped");
    },
  );
  const id = randomUUID();
  const report = async () => {
    if (!running) return;
    await pool
      .query("select rowhouse.report_worker($1)", [id])
      .catch((error: Error) =>
        log.warn({ part: "worker", message: error.message }, "The worker cannot report"),
      );
  };
  await report();
  const timer = setInterval(report, REPORT_MS);
  return {
    isRunning: () => running,
    stop: async () => {
      clearInterval(timer);
      if (running) await runner.stop();
      await pool.query("select rowhouse.forget_worker($1)", [id]).catch(() => {}); // else it is missed after 30 s
    },
  };
}
