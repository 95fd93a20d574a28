import { randomBytes } from "node:crypto";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { findBinaries } from "./binaries.ts";
import { type Identity, unprivilegedIdentity } from "./unprivileged.ts";

const RETRY_MS = 10_000;
const STOP_MS = 8_000;

/** What is kept in `<dir>/postgres.json` (0600): generated once, never changed. */
interface Kept {
  port: number;
  operatorPassword: string;
  gatewayPassword: string;
}

/** A running embedded PostgreSQL. stop() ends it unless another live process owns it. */
export interface Embedded {
  operatorUrl: string;
  gatewayPassword: string;
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL 18 under `dir`, or attaches to the one that already runs there.
 * @param extra further `name=value` server settings, for tests.
 * @throws when no binaries are installed or the server does not come up within 10 s.
 */
export async function startEmbedded(dir: string, extra: string[] = []): Promise<Embedded> {
  const root = resolve(dir);
  mkdirSync(root, { recursive: true });
  const binaries = findBinaries();
  const data = join(root, "postgres");
  const kept = await keptSettings(root);
  const operatorUrl = `postgres://rowhouse:${kept.operatorPassword}@127.0.0.1:${kept.port}/rowhouse`;
  const owner = join(root, "owner.pid");
  const foreign = livePid(owner);
  if (foreign && foreign !== process.pid && (await accepts(operatorUrl))) {
    return { operatorUrl, gatewayPassword: kept.gatewayPassword, stop: async () => {} };
  }
  writeFileSync(owner, String(process.pid), { mode: 0o600 });
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const identity = unprivilegedIdentity(data, binaries);
  if (!existsSync(join(data, "PG_VERSION"))) initialize(binaries, data, kept.operatorPassword, identity);
  const pid = await run(binaries, root, data, kept, identity, operatorUrl, extra);
  return {
    operatorUrl,
    gatewayPassword: kept.gatewayPassword,
    stop: async () => {
      await stop(pid);
      rmSync(owner, { force: true });
    },
  };
}

async function keptSettings(root: string): Promise<Kept> {
  const file = join(root, "postgres.json");
  if (existsSync(file)) return JSON.parse(readFileSync(file, "utf8")) as Kept;
  const kept = {
    port: await freePort(),
    operatorPassword: randomBytes(24).toString("base64url"),
    gatewayPassword: randomBytes(24).toString("base64url"),
  };
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(kept), { mode: 0o600 });
  chmodSync(draft, 0o600);
  renameSync(draft, file);
  return kept;
}

function initialize(binaries: string, data: string, password: string, identity: Identity): void {
  const pwfile = join(data, "..", `initdb-${process.pid}`);
  writeFileSync(pwfile, password, { mode: 0o600 });
  if (identity.uid !== undefined) chownSync(pwfile, identity.uid, identity.gid as number);
  const result = spawnSync(
    ...command(identity, join(binaries, "initdb"), [
      ...["-D", data, "-U", "rowhouse", "-A", "scram-sha-256", `--pwfile=${pwfile}`, "-E", "UTF8"],
      ...["--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
    ]),
    { encoding: "utf8", uid: identity.uid, gid: identity.gid },
  );
  rmSync(pwfile, { force: true });
  if (result.status !== 0) {
    throw new Error(`initdb failed: ${result.stderr || result.error?.message}`);
  }
}

async function run(
  binaries: string,
  root: string,
  data: string,
  kept: Kept,
  identity: Identity,
  operatorUrl: string,
  extra: string[],
): Promise<number> {
  const settings = [
    `port=${kept.port}`,
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_preload_libraries=pg_stat_statements",
    "max_connections=200",
    "jit=off",
    "timezone=UTC",
    "password_encryption=scram-sha-256",
    "log_min_messages=warning",
    ...extra,
  ];
  const deadline = Date.now() + RETRY_MS;
  for (;;) {
    // An orphan of a killed gateway still serves this folder: take it over.
    const orphan = postmasterPid(data);
    if (orphan && isAlive(orphan) && (await accepts(operatorUrl))) return orphan;
    const log = openSync(join(root, "postgres.log"), "a", 0o600);
    const child = spawn(
      ...command(identity, join(binaries, "postgres"), ["-D", data, ...settings.flatMap((s) => ["-c", s])]),
      { stdio: ["ignore", log, log], detached: true, uid: identity.uid, gid: identity.gid },
    );
    child.unref();
    if (await cameUp(child, operatorUrl, deadline)) {
      await createDatabase(operatorUrl);
      return child.pid as number;
    }
    if (Date.now() > deadline) {
      throw new Error(`PostgreSQL did not start within ${RETRY_MS / 1000} s; see ${join(root, "postgres.log")}`);
    }
    await sleep(200);
  }
}

async function cameUp(child: ChildProcess, operatorUrl: string, deadline: number): Promise<boolean> {
  while (Date.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null) return false;
    if (await accepts(operatorUrl)) return true;
    await sleep(25);
  }
  child.kill("SIGINT");
  return false;
}

function command(identity: Identity, program: string, args: string[]): [string, string[]] {
  const [first, ...rest] = [...identity.prefix, program, ...args];
  return [first as string, rest];
}

async function accepts(operatorUrl: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: operatorUrl.replace(/\/rowhouse$/, "/postgres"), connectionTimeoutMillis: 2000 });
  client.on("error", () => {});
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

async function createDatabase(operatorUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: operatorUrl.replace(/\/rowhouse$/, "/postgres") });
  await client.connect();
  try {
    const { rowCount } = await client.query("select from pg_database where datname = 'rowhouse'");
    if (!rowCount) await client.query("create database rowhouse");
  } finally {
    await client.end();
  }
}

/** SIGINT is PostgreSQL's fast shutdown; what has not ended after 8 s is killed (and recovers at the next start). */
async function stop(pid: number): Promise<void> {
  for (const [signal, patience] of [["SIGINT", STOP_MS], ["SIGQUIT", 2000], ["SIGKILL", 2000]] as const) {
    if (!isAlive(pid)) return;
    process.kill(pid, signal);
    const deadline = Date.now() + patience;
    while (isAlive(pid) && Date.now() < deadline) await sleep(20);
  }
}

function postmasterPid(data: string): number | undefined {
  const file = join(data, "postmaster.pid");
  if (!existsSync(file)) return undefined;
  return Number.parseInt(readFileSync(file, "utf8"), 10) || undefined;
}

function livePid(file: string): number | undefined {
  if (!existsSync(file)) return undefined;
  const pid = Number.parseInt(readFileSync(file, "utf8"), 10);
  return pid && isAlive(pid) ? pid : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  if (process.platform !== "linux") return true;
  const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, "utf8") : "";
  return stat !== "" && !/\) Z /.test(stat);
}

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer();
    server.once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}
