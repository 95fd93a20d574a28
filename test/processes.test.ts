import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase, testCluster } from "./harness/database.ts";

const BIN = fileURLToPath(new URL("../bin/rowhouse.mjs", import.meta.url));
const MASTER_KEY = "07".repeat(32);
const running: ChildProcess[] = [];
let db: TestDatabase;
let dir: string;

beforeAll(async () => {
  db = await cloneDatabase();
  dir = mkdtempSync(join(tmpdir(), "rowhouse-processes-"));
});
afterAll(async () => {
  for (const child of running) child.kill("SIGKILL");
  await db.drop();
  rmSync(dir, { recursive: true, force: true });
});

const env = (extra: Record<string, string>) => ({
  PATH: process.env.PATH,
  ROWHOUSE_DIR: join(dir, "unused"),
  ROWHOUSE_PORT: "0",
  ROWHOUSE_WORKER_PORT: "0",
  ...extra,
});

/** Starts a part and waits for its banner. */
async function start(only: string, extra: Record<string, string>) {
  const child = spawn(process.execPath, [BIN, "start", "--only", only], { env: env(extra) });
  running.push(child);
  let text = "";
  child.stderr.on("data", (chunk) => {
    text += chunk;
  });
  child.stdout.resume();
  while (!/Ctrl-C/.test(text)) {
    if (child.exitCode !== null) throw new Error(text);
    await sleep(20);
  }
  const url = /Health +(\S+)\/ready/.exec(text)?.[1] as string;
  return {
    child,
    text,
    url,
    ready: async () => {
      const response = await fetch(`${url}/ready`);
      return [response.status, ((await response.json()) as { checks: unknown }).checks];
    },
    async stop() {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      return (await ended)[0];
    },
  };
}

test("gateway and worker run apart, each with its own login alone, and know of each other through SQL", async () => {
  const ok = { database: "ok", migrations: "ok", worker: "ok" };
  const missed = { ...ok, worker: "none has reported for 30 s" };
  const gateway = await start("gateway", { DATABASE_URL: db.gatewayUrl, ROWHOUSE_MASTER_KEY: MASTER_KEY });
  expect(gateway.text).not.toContain("Note:");
  expect(await gateway.ready()).toEqual([503, missed]);

  const worker = await start("worker", { DATABASE_URL: db.workerUrl });
  expect(await worker.ready()).toEqual([200, ok]);
  expect(await gateway.ready()).toEqual([200, ok]);
  expect((await fetch(worker.url)).status).toBe(200);
  expect((await fetch(worker.url.replace("/health", "/api/v1/auth/login"))).status).toBe(404);
  const logins = await db.query(
    "select distinct usename from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and usename <> 'rowhouse' order by 1",
  );
  expect(logins).toEqual([{ usename: "rowhouse_gateway" }, { usename: "rowhouse_worker" }]);

  worker.child.kill("SIGKILL");
  await once(worker.child, "exit");
  await db.query("update rowhouse.workers set seen_at = seen_at - interval '31 s'"); // as if we had waited
  expect(await gateway.ready()).toEqual([503, missed]);
  const next = await start("worker", { DATABASE_URL: db.workerUrl });
  expect(await gateway.ready()).toEqual([200, ok]);
  expect(await next.stop()).toBe(0);
  expect(await gateway.ready()).toEqual([503, missed]);
  expect(await gateway.stop()).toBe(0);
  // The worker needs no master key, so it made none.
  expect(existsSync(join(dir, "unused"))).toBe(false);
});

test("a process that may not migrate says when another version did", async () => {
  await db.query("update rowhouse.installed set content_hash = 'another'");
  const worker = await start("worker", { DATABASE_URL: db.workerUrl });
  expect(worker.text).toContain("Note: The database was migrated by another version");
  await worker.stop();
});

const run = (args: string[], extra: Record<string, string>) =>
  spawnSync(process.execPath, [BIN, ...args], {
    encoding: "utf8",
    env: env({ ROWHOUSE_MASTER_KEY: MASTER_KEY, ...extra }),
  });

test.each([
  ["start", "the gateway's login runs no worker", /use rowhouse start --only gateway/],
  ["start --only worker", "nor a worker alone", /use rowhouse start --only gateway/],
  ["migrate", "nor migrates", /Everything else needs the operator's login/],
  ["token --site acme --account ann@acme.test", "nor issues tokens", /needs the operator's login/],
])("%s: %s", (command, _what, message) => {
  const { stderr, status } = run(command.split(" "), { DATABASE_URL: db.gatewayUrl });
  expect(stderr).toMatch(message);
  expect(status).toBe(2);
});

test("a database where nobody migrated, or another password, is said with what to do", async () => {
  const empty = new URL(db.workerUrl);
  empty.pathname = "/postgres";
  const wrong = new URL(db.gatewayUrl);
  wrong.password = "wrong";
  for (const [only, url] of [
    ["worker", empty],
    ["gateway", wrong],
  ] as const) {
    const { stderr, status } = run(["start", "--only", only], { DATABASE_URL: url.href });
    expect(stderr).toContain("run rowhouse migrate as the operator first");
    expect(stderr).not.toContain(testCluster().operatorUrl);
    expect(status).toBe(1);
  }
});
