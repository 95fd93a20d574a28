import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const HAS_PSQL = spawnSync("psql", ["--version"]).status === 0;
let dir: string;
let env: NodeJS.ProcessEnv;
let server: ChildProcess;
let url: string;
let printed: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "rowhouse-demo-"));
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  env = {
    ...process.env,
    ROWHOUSE_DIR: join(dir, "rowhouse"),
    ROWHOUSE_PORT: `${port}`,
    ROWHOUSE_LOG_LEVEL: "warn",
  };
  server = spawn(process.execPath, ["bin/rowhouse.mjs", "start"], { cwd: ROOT, env });
  let stderr = "";
  await new Promise<void>((done, fail) => {
    server.stderr?.on("data", (chunk) => {
      stderr += chunk;
      if (stderr.includes("Rowhouse is up")) done();
    });
    server.on("exit", () => fail(new Error(stderr)));
  });
  printed = demo().stdout;
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

const demo = () =>
  spawnSync(process.execPath, ["bin/rowhouse.mjs", "demo"], {
    cwd: ROOT,
    env,
    encoding: "utf8",
    timeout: 110_000,
  });

async function request(path: string, method: string, token: string | null, body?: unknown) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const response = await fetch(`${url}${path}`, {
    method,
    headers,
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

test("the printed requests work as printed", () => {
  const commands = printed.split("\n").filter((line) => /^ {2}(TOKEN=|curl|npx)/.test(line));
  expect(commands).toHaveLength(6);
  const script = commands
    .filter((line) => HAS_PSQL || !line.includes("psql"))
    .map((line) => `${line}; echo; echo ===`)
    .join("\n");
  const { stdout, status } = spawnSync("bash", ["-e", "-c", script], {
    cwd: ROOT,
    env,
    encoding: "utf8",
    timeout: 110_000,
  });
  const [, products, orders, refused, graphql, psql] = stdout.split("===\n");
  expect(status).toBe(0);
  expect(JSON.parse(products as string).data).toHaveLength(3);
  expect(products).toContain('"price":24.00');
  const [open] = JSON.parse(orders as string).data;
  expect(open).toMatchObject({ state: "open", customer: { number: open.customer_number } });
  expect(open.lines[0].product.sku).toBe(open.lines[0].product_sku);
  expect(JSON.parse(refused as string)).toMatchObject({ status: 403 });
  expect(JSON.parse(graphql as string)).toMatchObject({
    data: { orders: { nodes: [{ customer: {} }, {}] } },
  });
  if (HAS_PSQL) expect(psql).toContain("24.00");
});

test("running it again changes nothing", async () => {
  const again = demo();
  expect(again.status).toBe(0);
  expect(again.stdout).toBe(printed);
  const login = await request("/api/v1/auth/login", "POST", null, account("ada"));
  const { body } = await request(
    "/api/v1/sites/demo/apps/bakery/products?limit=100",
    "GET",
    login.body.access_token,
  );
  expect(new Set(body.data.map((one: { sku: string }) => one.sku)).size).toBe(body.data.length);
  expect(body.data.every((one: { version: number }) => one.version === 1)).toBe(true);
});

const account = (name: string) => ({ email: `${name}@demo.test`, password: "rowhouse-demo", site: "demo" });

describe("the three accounts have different rights", () => {
  const product = { sku: "TEST-1", name: "Test", kind: "roll", price: 1.25, active: true };
  test.each([
    ["vic", { read: 200, write: 403, define: false }],
    ["ed", { read: 200, write: 201, define: false }],
    ["ada", { read: 200, write: 201, define: true }],
  ])("%s", async (name, may) => {
    const login = await request("/api/v1/auth/login", "POST", null, account(name));
    expect(login.status).toBe(200);
    const token = login.body.access_token;
    const products = "/api/v1/sites/demo/apps/bakery/products";
    expect((await request(products, "GET", token)).status).toBe(may.read);
    const written = await request(products, "POST", token, { ...product, sku: `TEST-${name}` });
    expect(written.status).toBe(may.write);
    if (written.status === 201) {
      expect(written.body.price).toBe(1.25);
      expect((await request(`${products}/${written.body.id}`, "DELETE", token)).status).toBe(204);
    }
    const defined = await request("/graphql", "POST", token, {
      query: "mutation($i: DefineEntityInput!) { defineEntity(input: $i) { clientMutationId } }",
      variables: {
        i: {
          app: "demo/bakery",
          name: `notes_of_${name}`,
          schema: { type: "object", properties: { text: { type: "string" } } },
        },
      },
    });
    expect([defined.status, JSON.stringify(defined.body)]).toEqual([
      200,
      may.define ? expect.not.stringContaining("errors") : expect.stringMatching(/RH403|403|owner|admin/),
    ]);
  });

  test("a wrong password opens nothing", async () => {
    const login = await request("/api/v1/auth/login", "POST", null, {
      ...account("ada"),
      password: "guess-guess",
    });
    expect(login.status).toBe(401);
  });
});
