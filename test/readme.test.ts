import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { settingsTable } from "../server/settings.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const README = readFileSync(join(ROOT, "README.md"), "utf8");
// The house needs no psql; the tour shows it where there is one.
const HAS_PSQL = spawnSync("psql", ["--version"]).status === 0;
let dir: string;
let env: NodeJS.ProcessEnv;
let server: ChildProcess;
let stderr = "";

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-readme-"));
  env = {
    ...process.env,
    ROWHOUSE_DIR: join(dir, "rowhouse"),
    ROWHOUSE_PORT: String(await freePort()),
    ROWHOUSE_LOG_LEVEL: "warn",
  };
  server = spawn(process.execPath, ["bin/rowhouse.mjs", "start"], { cwd: ROOT, env });
  await new Promise<void>((done, fail) => {
    server.stderr?.on("data", (chunk) => {
      stderr += chunk;
      if (stderr.includes("Rowhouse is up")) done();
    });
    server.on("exit", () => fail(new Error(stderr)));
  });
});
afterAll(async () => {
  server.removeAllListeners("exit");
  const gone = new Promise((done) => server.on("exit", done));
  server.kill("SIGINT");
  await gone;
  rmSync(dir, { recursive: true, force: true });
});

function freePort(): Promise<number> {
  return new Promise((done) => {
    const probe = createServer();
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => done(port));
    });
  });
}

/** The tour's commands in one shell, each preceded by a mark, so that its output can be told apart. */
function runTour(): string[] {
  const tour = README.slice(README.indexOf("## Five minutes"), README.indexOf("## Addresses"));
  const blocks = [...tour.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, commands]) => commands as string);
  const script = blocks
    .filter((block) => HAS_PSQL || !block.includes("rowhouse psql"))
    .map((block) => `echo; echo "=== block"\n${block}`)
    .join("\n")
    .replaceAll(":4000", `:${env.ROWHOUSE_PORT}`)
    .replaceAll("parts.json", join(dir, "parts.json"));
  const result = spawnSync("bash", ["-e", "-c", script], {
    cwd: ROOT,
    env,
    encoding: "utf8",
    timeout: 120_000,
  });
  if (result.status !== 0) throw new Error(`${result.stdout}\n${result.stderr}`);
  return result.stdout.split("=== block\n").slice(1);
}

test("every command of the five-minute tour works as printed", () => {
  const outputs = runTour();
  const next = () => outputs.shift();
  const [demo, list, orders, found, graphql] = [next(), next(), next(), next(), next()];
  const psql = HAS_PSQL ? next() : "Carrot cake | 24.00";
  const [refused, imported, foreign] = [next(), next(), next()];
  const defined = HAS_PSQL ? next() : '"name":"Smith & Sons"';
  expect(demo).toContain("vic@demo.test");
  expect(list).toContain('"name":"Carrot cake","price":24.00');
  expect(orders).toMatch(/"customer":\{.*"lines":\[\{.*"product":\{/);
  expect(found).toMatch(/<mark>Carrot<\/mark> cake[\s\S]*"state":"open","count":\d/);
  expect(graphql).toContain('"totalCount"');
  expect(psql).toContain("Carrot cake | 24.00");
  expect(refused).toMatch(/"status":403.*"hint":"Your roles here: viewer/);
  expect(imported).toMatch(/1 entities +2 +0 +0[\s\S]*"price":0.10/);
  expect(foreign).toMatch(/"status":404/);
  expect(defined).toContain('"name":"Smith & Sons"');
}, 180_000);

test("help and mistakes say what to do", () => {
  const rowhouse = (args: string[], more: NodeJS.ProcessEnv = {}) =>
    spawnSync(process.execPath, ["bin/rowhouse.mjs", ...args], {
      cwd: ROOT,
      env: { ...env, ...more },
      encoding: "utf8",
    });
  const all = rowhouse(["--help"]).stdout;
  for (const command of ["start", "migrate", "psql", "import", "export", "types", "token", "demo"]) {
    expect(all).toContain(command);
    const { stdout } = rowhouse([command, "--help"]);
    expect(stdout).toContain("Usage: rowhouse");
    expect(stdout.includes("ROWHOUSE_BODY_LIMIT")).toBe(command === "start");
  }
  expect(rowhouse(["start"], { ROWHOUSE_PROT: "1" })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("ROWHOUSE_PROT is not a setting"),
  });
  expect(rowhouse(["start"], { ROWHOUSE_PORT: "x" })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("ROWHOUSE_PORT=x cannot be used"),
  });
  expect(rowhouse(["start"])).toMatchObject({ status: 1, stderr: expect.stringContaining("is in use") });
  expect(rowhouse(["psql"], { PATH: "/nowhere" })).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("apt install postgresql-client"),
  });
  expect(rowhouse(["token", "--site", "demo", "--account", "nobody@demo.test"])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("nobody@demo.test"),
  });
});

test("the README's table is the list of settings", () => {
  expect(README).toContain(settingsTable());
});
