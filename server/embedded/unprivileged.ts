import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  lchownSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";

const NOBODY = 65534;
const COPIES = "/var/tmp";

/** How to run a program that refuses root: what to put before the command, and which uid to give the child. */
export interface Identity {
  prefix: string[];
  uid?: number;
  gid?: number;
  /** Who owns the data, as seen from here; unset leaves it as it is. */
  owner?: number;
  /** Where that user finds the programs. */
  binaries: string;
}

/**
 * PostgreSQL refuses to run as root. A user namespace makes root somebody else without changing who owns the files, so
 * a clone under a 0700 home works. Without namespaces (Docker's default) the child becomes nobody: the data folder is
 * given to it and reached through an open descriptor, and the programs are copied where it can read them.
 */
export function unprivilegedIdentity(binaries: string): Identity {
  if (process.getuid?.() !== 0) return { prefix: [], binaries };
  const unshare = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
  if (spawnSync(unshare[0] as string, [...unshare.slice(1), "true"]).status === 0) {
    return { prefix: unshare, owner: 0, binaries };
  }
  const readable = reachableByAll(join(binaries, "postgres"))
    ? binaries
    : join(copyOf(dirname(binaries)), "bin");
  return { prefix: [], uid: NOBODY, gid: NOBODY, owner: NOBODY, binaries: readable };
}

/** Gives the data folder to the user the server runs as: they differ once a machine gains or loses namespaces. */
export function give(folder: string, { owner }: Identity): void {
  if (owner === undefined || statSync(folder).uid === owner) return;
  // The folder itself comes last: a change that was cut short is done again.
  for (const name of [...readdirSync(folder, { recursive: true, encoding: "utf8" }), "."]) {
    lchownSync(join(folder, name), owner, owner);
  }
}

function reachableByAll(path: string): boolean {
  for (let at = path; ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/** A copy that everybody can read and only root can have made: what lies there under another owner is not used. */
function copyOf(native: string): string {
  const { version } = JSON.parse(readFileSync(join(dirname(native), "package.json"), "utf8")) as {
    version: string;
  };
  const copy = join(COPIES, `rowhouse-postgres-${version}`);
  if (isOurs(copy)) return copy;
  const draft = mkdtempSync(`${copy}-`);
  cpSync(native, draft, { recursive: true, verbatimSymlinks: true });
  for (const entry of readdirSync(draft, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    // What an umask of 077 took away when npm unpacked it.
    if (!entry.isSymbolicLink()) chmodSync(file, statSync(file).mode & 0o100 ? 0o755 : 0o644);
  }
  chmodSync(draft, 0o755);
  try {
    renameSync(draft, copy);
  } catch {
    if (!isOurs(copy)) return draft; // somebody sits on the name
    rmSync(draft, { recursive: true, force: true });
  }
  return copy;
}

function isOurs(copy: string): boolean {
  const found = lstatSync(copy, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === 0 && (found.mode & 0o022) === 0;
}
