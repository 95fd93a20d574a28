import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startCluster } from "./cluster.ts";

export default async function globalSetup() {
  // All that tests keep in temporary folders lies in this one; reaper.mjs ends and removes what they leave.
  const run = mkdtempSync(join(tmpdir(), "rowhouse-run-"));
  chmodSync(run, 0o711); // some tests run as another user, in folders they open to him
  const reaper = spawn(process.execPath, [fileURLToPath(new URL("reaper.mjs", import.meta.url)), run], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  reaper.unref();
  reaper.stdin.unref();
  process.env.TMPDIR = run;
  process.env.TEMP = run;
  const cluster = await startCluster();
  process.env.TEST_CLUSTER = JSON.stringify({
    operatorUrl: cluster.operatorUrl,
    gatewayPassword: cluster.gatewayPassword,
    workerPassword: cluster.workerPassword,
  });
  globalThis.rowhouseTestCluster = cluster;
}
