// npm leaves optional packages of other platforms out of the lock file where the registry at hand lacks them, and npm ci
// then refuses the file. This adds them, with the version their parent asks for. Run it after changing a dependency.
import { readFileSync, writeFileSync } from "node:fs";

const SYSTEMS = ["android", "darwin", "linux", "win32", "freebsd", "openharmony"];
const PROCESSORS = ["arm64", "x64", "arm", "ia32", "ppc64", "s390x", "riscv64", "loong64"];
const file = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(file, "utf8"));

for (const [path, parent] of Object.entries({ ...lock.packages })) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    const at = `node_modules/${name}`;
    if (lock.packages[at] || lock.packages[`${path}/${at}`]) continue;
    const parts = name.split(/[-/]/);
    const only = (list) => list.filter((item) => parts.includes(item)).slice(0, 1);
    lock.packages[at] = {
      version: version.replace(/^[\^~]/, ""),
      cpu: only(PROCESSORS),
      ...(parts.includes("musl") && { libc: ["musl"] }),
      ...(parent.dev && { dev: true }),
      optional: true,
      os: only(SYSTEMS),
    };
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
