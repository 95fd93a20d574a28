import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { SETTINGS } from "../server/settings.ts";

const BIN = fileURLToPath(new URL("../bin/rowhouse.mjs", import.meta.url));
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-cli-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const env = (folder: string, extra: Record<string, string> = {}) => ({
  PATH: process.env.PATH,
  HOME: dir,
  ROWHOUSE_DIR: join(dir, folder),
  ROWHOUSE_PORT: "0",
  ...extra,
});
const rowhouse = (args: string[], extra?: Record<string, string>) =>
  spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8", env: env("none", extra) });

function processesIn(folder: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(folder);
    } catch {
      return false;
    }
  });
}

test("rowhouse start --help names every setting", () => {
  const { stdout, status } = rowhouse(["start", "--help"]);
  expect(status).toBe(0);
  for (const name of Object.keys(SETTINGS)) expect(stdout).toContain(name);
});

test.each([
  ["an unknown variable", { ROWHOUSE_PROT: "1" }, /ROWHOUSE_PROT is not a setting.*ROWHOUSE_PORT/],
  ["a value out of range", { ROWHOUSE_PORT: "70000" }, /ROWHOUSE_PORT=70000 cannot be used/],
])("%s ends with 2 and says what is allowed", (_what, extra, message) => {
  const { stderr, status } = rowhouse(["start"], extra);
  expect(stderr).toMatch(message);
  expect(status).toBe(2);
});

test.each([
  ["a folder below a file", { ROWHOUSE_DIR: join(BIN, "below") }, /Cannot write in ROWHOUSE_DIR/, 1],
  ["no URL at all", { DATABASE_URL: "localhost" }, /DATABASE_URL=localhost cannot be used/, 2],
  ["another database's URL", { DATABASE_URL: "mysql://a:b@localhost/c" }, /It is postgres:\/\/ URL/, 2],
  ["no server", { DATABASE_URL: "postgres://a:b@127.0.0.1:1/c" }, /No PostgreSQL answers there/, 1],
  ["no such address", { ROWHOUSE_HOST: "192.0.2.1", DATABASE_URL: "" }, /no address 192\.0\.2\.1/, 1],
])("start with %s says what to do", (_what, extra, message, code) => {
  const { stderr, status } = rowhouse(["start"], extra);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(status).toBe(code);
});

test("a second start in the same folder says that the port is in use, and the first goes on", async () => {
  const child = spawn(process.execPath, [BIN, "start"], { env: env("twice") });
  const ended = once(child, "exit");
  let text = "";
  child.stderr.on("data", (chunk) => {
    text += chunk;
  });
  const address = () => /Gateway +(http:\S+)/.exec(text)?.[1];
  while (!address() && child.exitCode === null) await sleep(20);
  const url = address() as string;
  const again = rowhouse(["start"], { ROWHOUSE_DIR: join(dir, "twice"), ROWHOUSE_PORT: new URL(url).port });
  expect(again.stderr).toContain(`Port ${new URL(url).port} is in use. Set ROWHOUSE_PORT`);
  expect(again.status).toBe(1);
  const { checks } = (await (await fetch(`${url}/health/ready`)).json()) as { checks: unknown };
  expect(checks).toEqual({ worker: "ok", database: "ok", migrations: "ok" });
  child.kill("SIGINT");
  expect(await ended).toEqual([0, null]);
  expect(processesIn(join(dir, "twice"))).toEqual([]);
});

test("an unknown command is refused with help", () => {
  const { stderr, status } = rowhouse(["begin"]);
  expect(stderr).toContain("unknown command 'begin'");
  expect(status).toBe(1);
});

test.each([
  ["start", "SIGINT", "Rowhouse is up", 0],
  ["start", "SIGTERM", "", 0],
  ["migrate", "SIGINT", "", 130],
] as const)("%s leaves no process after %s (waiting for '%s')", async (command, signal, awaited, code) => {
  const folder = `${command}-${signal}`;
  const child = spawn(process.execPath, [BIN, command], { env: env(folder) });
  const ended = once(child, "exit");
  let text = "";
  child.stderr.on("data", (chunk) => {
    text += chunk;
  });
  // As soon as PostgreSQL is there, or when the banner says that everything is.
  const reached = () =>
    awaited ? text.includes(awaited) : processesIn(join(dir, folder, "postgres")).length > 0;
  while (!reached() && child.exitCode === null) await sleep(20);
  child.kill(signal);
  expect(await ended).toEqual([code, null]);
  expect(processesIn(join(dir, folder))).toEqual([]);
});
