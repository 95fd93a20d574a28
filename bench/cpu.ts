import { readdirSync, readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100;

/** CPU seconds that a process has used so far; with those of its children that have ended, where asked for. */
export function cpuOf(pid: number, andEndedChildren = false): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const ticks = fields.slice(11, andEndedChildren ? 15 : 13).map(Number);
  return ticks.reduce((sum, part) => sum + part, 0) / TICKS_PER_SECOND;
}

/** CPU seconds of all processes, ended ones too, of the PostgreSQL whose postmaster is `pid`. */
export function cpuOfPostgres(pid: number): number {
  let total = cpuOf(pid, true);
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const [, parent] = readFileSync(`/proc/${name}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ");
      if (Number(parent) === pid) total += cpuOf(Number(name));
    } catch {
      // It ended meanwhile.
    }
  }
  return total;
}
