import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const LOCK_PATIENCE_MS = 30_000;
let sequence = 0;

/** Runs work while no other process starts or stops the server of `root`. A lock whose holder died is void. */
export async function alone<T>(root: string, work: () => Promise<T>): Promise<T> {
  const lock = join(root, "lock");
  const deadline = Date.now() + LOCK_PATIENCE_MS;
  while (!take(lock)) {
    if (Date.now() > deadline) {
      throw new Error(`Another rowhouse has been starting or stopping PostgreSQL in ${root} for 30 s.`);
    }
    await sleep(25);
  }
  try {
    return await work();
  } finally {
    rmSync(lock, { force: true });
  }
}

function take(lock: string): boolean {
  const draft = `${lock}.${process.pid}.${sequence++}`;
  writeFileSync(draft, self(), { mode: 0o600 });
  try {
    linkSync(draft, lock); // unlike open and write, it shows the file with its content
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    removeIfDead(lock);
    return false;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Moves the lock aside before it judges it, so that two who find it dead do not remove each other's new one. */
function removeIfDead(lock: string): void {
  if (isLive(contentOf(lock))) return;
  const aside = `${lock}.dead.${process.pid}.${sequence++}`;
  try {
    renameSync(lock, aside);
    if (isLive(contentOf(aside))) linkSync(aside, lock);
  } catch (error) {
    if (!["ENOENT", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** Notes that this process uses the server; the returned function takes it back and says whether nobody is left. */
export function enter(root: string): () => boolean {
  const folder = join(root, "users");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const note = join(folder, String(process.pid));
  writeFileSync(note, self(), { mode: 0o600 });
  return () => {
    rmSync(note, { force: true });
    for (const name of readdirSync(folder)) {
      if (isLive(contentOf(join(folder, name)))) return false;
      rmSync(join(folder, name), { force: true });
    }
    return true;
  };
}

/** Whether a process runs; one that ended and only waits for its parent does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return process.platform !== "linux" || born(pid) !== "";
}

// A process id alone is not a name: after a restart, in a container above all, somebody else has it.
const self = () => `${process.pid} ${born(process.pid)}`;

function isLive(name: string | undefined): boolean {
  const [pid, birth = ""] = (name ?? "").split(" ");
  return Number(pid) > 0 && isAlive(Number(pid)) && born(Number(pid)) === birth;
}

/** When a process was started, in clock ticks since boot; empty where /proc does not say, and for a zombie. */
function born(pid: number): string {
  const stat = contentOf(`/proc/${pid}/stat`) ?? "";
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? "" : (fields[19] ?? "");
}

function contentOf(file: string): string | undefined {
  try {
    return existsSync(file) ? readFileSync(file, "utf8") : undefined;
  } catch {
    return undefined; // gone meanwhile
  }
}
