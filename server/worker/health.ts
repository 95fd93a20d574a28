import { createServer, type Server } from "node:http";
import type { Pool } from "pg";
import type { Readiness } from "../http/context.ts";
import { sendJson } from "../http/response.ts";
import type { Operator } from "./operator.ts";
import type { Worker } from "./worker.ts";

/**
 * Whether a process can do its work. Its own worker is asked; a process without one asks SQL whether some worker has
 * reported within 30 s, unless it is the operator's, which needs none.
 */
export async function readiness(
  pool: Pool,
  { worker, operator }: { worker?: Worker | null; operator?: Operator | null },
): Promise<Readiness> {
  const checks: Record<string, string> = {};
  let someWorkerReports = false;
  try {
    const { rows } = await pool.query<{ alive: boolean }>("select rowhouse.worker_is_alive() as alive");
    someWorkerReports = rows[0]?.alive === true;
    checks.database = "ok";
    checks.migrations = "ok";
  } catch (error) {
    const code = (error as { code?: string }).code ?? "";
    checks.database = /^(08|53|57|E)/.test(code) || code === "" ? "not reachable" : "ok";
    checks.migrations = checks.database === "ok" ? "not installed" : "unknown";
  }
  if (operator) checks.operator = operator.isRunning() ? "ok" : "not running";
  else if (worker) checks.worker = worker.isRunning() ? "ok" : "not running";
  else if (checks.migrations !== "ok") checks.worker = "unknown";
  else checks.worker = someWorkerReports ? "ok" : "none has reported for 30 s";
  return { ready: Object.values(checks).every((check) => check === "ok"), checks };
}

/** GET /health and /health/ready of a process that has no gateway, and nothing else. */
export function createHealthServer(ready: () => Promise<Readiness>): Server {
  return createServer(async (req, res) => {
    const path = req.url?.split("?")[0];
    if (path === "/health") return sendJson(res, 200, '{"status":"ok"}');
    if (path !== "/health/ready") return sendJson(res, 404, '{"status":"no_route"}');
    const { ready: isReady, checks } = await ready();
    sendJson(res, isReady ? 200 : 503, JSON.stringify({ status: isReady ? "ready" : "unavailable", checks }));
  });
}
