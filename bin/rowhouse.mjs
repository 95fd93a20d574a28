#!/usr/bin/env node
// Plain JavaScript that any Node can read: runs server/main.ts under a Node that is new enough.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

// Grafast reads it while it is loaded; its development checks are for those who write plans.
process.env.GRAPHILE_ENV ??= "production";

const NEEDED = [22, 18];
const [major, minor] = process.versions.node.split(".").map(Number);
const platform = process.platform === "win32" ? "win" : process.platform;
const pinned = fileURLToPath(
  new URL(
    `../node_modules/node-${platform}-${process.arch}/bin/node${platform === "win" ? ".exe" : ""}`,
    import.meta.url,
  ),
);
const main = fileURLToPath(new URL("../server/main.ts", import.meta.url));

if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) {
  await import(main);
} else if (existsSync(pinned)) {
  const child = spawn(pinned, [main, ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
} else {
  console.error(`rowhouse needs Node ${NEEDED.join(".")} or newer; this is ${process.versions.node}.`);
  console.error("Run npm ci without --omit=optional, or install Node 24.");
  process.exit(1);
}
