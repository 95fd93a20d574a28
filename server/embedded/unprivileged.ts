import { accessSync, chownSync, constants, statSync } from "node:fs";
import { dirname } from "node:path";
import { spawnSync } from "node:child_process";

const NOBODY = 65534;

/** How to run a program that refuses root: what to put before the command, and which uid to give the child. */
export interface Identity {
  prefix: string[];
  uid?: number;
  gid?: number;
}

/**
 * PostgreSQL refuses to run as root. A user namespace makes root somebody else without changing who owns the files, so
 * a clone under a 0700 home works; without namespaces the child becomes nobody, who must be able to reach the folder.
 */
export function unprivilegedIdentity(folder: string, binaries: string): Identity {
  if (process.getuid?.() !== 0) return { prefix: [] };
  const unshare = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
  if (spawnSync(unshare[0] as string, [...unshare.slice(1), "true"]).status === 0) return { prefix: unshare };
  for (const path of [folder, binaries]) {
    if (!reachableByAll(path)) {
      throw new Error(
        `PostgreSQL does not run as root, and the user nobody cannot reach ${path}. Run rowhouse as an ordinary user, ` +
          "set ROWHOUSE_DIR to a folder that everybody can enter, or set DATABASE_URL.",
      );
    }
  }
  chownSync(folder, NOBODY, NOBODY);
  return { prefix: [], uid: NOBODY, gid: NOBODY };
}

function reachableByAll(path: string): boolean {
  accessSync(path, constants.F_OK);
  for (let at = dirname(path); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}
