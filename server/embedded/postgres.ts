import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { findBinaries } from "./binaries.ts";
import { explained } from "./folder.ts";
import { give, type Identity, unprivilegedIdentity } from "./unprivileged.ts";
import { alone, enter, isAlive } from "./users.ts";

const RETRY_MS = 10_000;
const STOP_MS = 8_000;

/** What is kept in `<dir>/postgres.json` (0600): generated once, never changed. */
interface Kept {
  port: number;
  operatorPassword: string;
  gatewayPassword: string;
}

/** A running embedded PostgreSQL. stop() ends it when no other process uses it any more. */
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
  const data = join(root, "postgres");
  try {
    mkdirSync(root, { recursive: true });
    accessSync(root, constants.W_OK);
  } catch (error) {
    throw explained(error, dir);
  }
  return alone(root, async () => {
    const kept = await keptSettings(root);
    const operatorUrl = `postgres://rowhouse:${kept.operatorPassword}@127.0.0.1:${kept.port}/rowhouse`;
    await up(root, data, kept, operatorUrl, extra);
    const leave = enter(root);
    return {
      operatorUrl,
      gatewayPassword: kept.gatewayPassword,
      stop: () =>
        alone(root, async () => {
          const pid = postmaster(data);
          if (leave() && pid) await stop(pid);
        }),
    };
  });
}

/** Starts the server unless it runs already: for another process, or as the orphan of one that was killed. */
async function up(
  root: string,
  data: string,
  kept: Kept,
  operatorUrl: string,
  extra: string[],
): Promise<void> {
  if (postmaster(data) && (await accepts(operatorUrl))) return;
  const identity = unprivilegedIdentity(findBinaries());
  if (!existsSync(join(data, "PG_VERSION")))
    initialize(root, data, kept.operatorPassword, identity, !extra.includes("fsync=off"));
  give(data, identity);
  await run(root, data, kept, identity, operatorUrl, extra);
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
  writeFileSync(draft, JSON.stringify(kept), { mode: 0o600, flush: true });
  chmodSync(draft, 0o600);
  renameSync(draft, file);
  return kept;
}

/** Synced to disk, so that a power cut after the first start loses nothing: initdb takes 0.49 s instead of 0.40. */
function initialize(root: string, data: string, password: string, identity: Identity, sync: boolean): void {
  const draft = `${data}.new`; // an initdb that was cut short leaves this, never half a `postgres`
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  give(draft, identity);
  const secret = join(root, `initdb-${process.pid}`);
  writeFileSync(secret, password, { mode: 0o600 });
  if (identity.uid !== undefined) chownSync(secret, identity.uid, identity.uid);
  const [folder, pwfile] = [openAt(draft, 3, identity), openAt(secret, 4, identity)];
  const [program, args] = command(identity, "initdb", [
    ...["-D", folder.path, "-U", "rowhouse", "-A", "scram-sha-256", `--pwfile=${pwfile.path}`, "-E", "UTF8"],
    ...["--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"],
    ...(sync ? [] : ["--no-sync"]),
  ]);
  const result = spawnSync(program, args, {
    encoding: "utf8",
    cwd: "/",
    uid: identity.uid,
    gid: identity.gid,
    stdio: ["ignore", "pipe", "pipe", folder.fd, pwfile.fd],
  });
  for (const { fd } of [folder, pwfile]) closeSync(fd);
  rmSync(secret, { force: true });
  if (result.status !== 0) {
    throw new Error(`initdb failed: ${(result.stderr || result.error?.message || "").slice(0, 500)}`);
  }
  renameSync(draft, data);
  if (sync && process.platform !== "win32") syncFolder(root);
}

/** Makes the names in a folder last, those of the files above all that hold the passwords. */
function syncFolder(folder: string): void {
  const open = openSync(folder, "r");
  fsyncSync(open);
  closeSync(open);
}

/** How the child names a path: nobody may not walk through a 0700 home, but may use what was opened for it. */
function openAt(path: string, fd: number, identity: Identity): { fd: number; path: string } {
  const open = openSync(path, "r");
  return { fd: open, path: identity.uid === undefined ? path : `/proc/self/fd/${fd}` };
}

async function run(
  root: string,
  data: string,
  kept: Kept,
  identity: Identity,
  operatorUrl: string,
  extra: string[],
): Promise<void> {
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
    // A server that was still recovering when we first asked.
    if (postmaster(data) && (await accepts(operatorUrl))) return createDatabase(operatorUrl);
    const log = openSync(join(root, "postgres.log"), "a", 0o600);
    const folder = openAt(data, 3, identity);
    const [program, args] = command(identity, "postgres", [
      ...["-D", folder.path],
      ...settings.flatMap((setting) => ["-c", setting]),
    ]);
    const child = spawn(program, args, {
      stdio: ["ignore", log, log, folder.fd],
      cwd: "/",
      detached: true,
      uid: identity.uid,
      gid: identity.gid,
    });
    child.on("error", () => {}); // seen as a child that did not come up
    child.unref();
    for (const fd of [log, folder.fd]) closeSync(fd);
    if (await cameUp(child, operatorUrl, deadline)) return createDatabase(operatorUrl);
    if (Date.now() > deadline) {
      throw new Error(
        `PostgreSQL did not start within ${RETRY_MS / 1000} s; see ${join(root, "postgres.log")}`,
      );
    }
    await sleep(200);
  }
}

async function cameUp(child: ChildProcess, operatorUrl: string, deadline: number): Promise<boolean> {
  while (Date.now() < deadline) {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return false;
    if (await accepts(operatorUrl)) return true;
    await sleep(25);
  }
  child.kill("SIGINT");
  return false;
}

function command(identity: Identity, program: string, args: string[]): [string, string[]] {
  const [first, ...rest] = [...identity.prefix, join(identity.binaries, program), ...args];
  return [first as string, rest];
}

async function accepts(operatorUrl: string): Promise<boolean> {
  const client = new pg.Client({
    connectionString: operatorUrl.replace(/\/rowhouse$/, "/postgres"),
    connectionTimeoutMillis: 2000,
  });
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
  for (const [signal, patience] of [
    ["SIGINT", STOP_MS],
    ["SIGQUIT", 2000],
    ["SIGKILL", 2000],
  ] as const) {
    if (!isAlive(pid)) return;
    process.kill(pid, signal);
    const deadline = Date.now() + patience;
    while (isAlive(pid) && Date.now() < deadline) await sleep(20);
  }
}

/** The process id of the server that runs in this folder. Its id may belong to another process by now: look. */
function postmaster(data: string): number | undefined {
  const file = join(data, "postmaster.pid");
  if (!existsSync(file)) return undefined;
  const pid = Number.parseInt(readFileSync(file, "utf8"), 10);
  if (!(pid > 0) || !isAlive(pid)) return undefined;
  if (process.platform !== "linux") return pid;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(data) ? pid : undefined;
  } catch {
    return undefined;
  }
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
