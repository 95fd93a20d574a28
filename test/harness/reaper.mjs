// Outlives a test run that was interrupted or killed and ends what it left: PostgreSQL servers of its own session, above
// all. argv: the run's folder. Standard input closes when the run ends, however it ends.
import { readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE_MS = 10_000;
const run = process.argv[2];

for await (const _ of process.stdin);
const deadline = Date.now() + PATIENCE_MS;
let signal = "SIGINT"; // to a postmaster: end now, without waiting for clients
for (let left = processesOf(run); left.length > 0 && Date.now() < deadline + 1000; left = processesOf(run)) {
  for (const pid of left) send(pid, signal);
  for (let n = 0; n < 20 && processesOf(run).length > 0; n++) await sleep(50);
  if (Date.now() > deadline) signal = "SIGKILL";
}
rmSync(run, { recursive: true, force: true, maxRetries: 5 });

/** Processes that have the run's folder as TMPDIR, or work in it. Where there is no /proc: the servers' own notes. */
function processesOf(folder) {
  if (process.platform !== "linux") return postmastersIn(folder);
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      return (
        readFileSync(`/proc/${pid}/environ`, "utf8").includes(`=${folder}`) ||
        readlinkSync(`/proc/${pid}/cwd`).startsWith(folder)
      );
    } catch {
      return false; // gone, or not ours
    }
  });
}

function postmastersIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((file) => file.name === "postmaster.pid")
    .map((file) => Number.parseInt(readFileSync(`${file.parentPath}/${file.name}`, "utf8"), 10))
    .filter((pid) => send(pid, 0));
}

function send(pid, which) {
  try {
    return process.kill(Number(pid), which);
  } catch {
    return false;
  }
}
