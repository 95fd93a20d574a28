import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";
import { isAlive } from "../server/embedded/users.ts";
import { cloneDatabase } from "./harness/database.ts";

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));

test("a test run that is killed leaves no PostgreSQL and no folder", async () => {
  const run = mkdtempSync(join(tmpdir(), "interrupted-"));
  const script = `import { startEmbedded } from ${JSON.stringify(file("../server/embedded/postgres.ts"))};
    await startEmbedded(${JSON.stringify(join(run, "cluster"))}, ["fsync=off"]); console.log("up"); setInterval(() => {}, 1000);`;
  const reaper = spawn(process.execPath, [file("harness/reaper.mjs"), run], { detached: true });
  const reaped = once(reaper, "exit");
  const killed = spawn(process.execPath, ["--input-type=module", "-e", script], {
    env: { ...process.env, TMPDIR: run },
  });
  await once(killed.stdout, "data");
  const postmaster = Number.parseInt(readFileSync(join(run, "cluster/postgres/postmaster.pid"), "utf8"), 10);
  killed.kill("SIGKILL");
  await once(killed, "exit");
  expect(isAlive(postmaster)).toBe(true);
  reaper.stdin.end();
  expect(await reaped).toEqual([0, null]);
  expect(isAlive(postmaster)).toBe(false);
  expect(existsSync(run)).toBe(false);
});

test("a test that fails in a transaction holds up no other test: its database goes all the same", async () => {
  const [db, other] = [await cloneDatabase(), await cloneDatabase()];
  await (await db.pool.connect()).query("begin; select pg_current_xact_id()");
  await db.drop();
  expect(await other.query("select from pg_stat_activity where datname = $1", [db.name])).toEqual([]);
  expect(db.name).toMatch(/^test_interrupted_run_/);
  await other.drop();
});
