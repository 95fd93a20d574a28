import { spawnSync } from "node:child_process";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { pino } from "pino";
import { type Browser, chromium, type Page } from "playwright-core";
import { issueDevelopmentToken } from "../server/auth/development.ts";
import { openTokens } from "../server/auth/tokens.ts";
import { readSettings } from "../server/settings.ts";
import { type Rowhouse, startServer } from "../server/start.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";

// CHROMIUM names the browser and makes it a must, as in CI; without it, what the PATH has is taken.
const onPath = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
  .map((name) => spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim())
  .find(Boolean);
const BROWSER = process.env.CHROMIUM ?? onPath;
const describeInBrowser = BROWSER ? describe : describe.skip;
const WHERE = BROWSER
  ? "in a browser"
  : "in a browser (skipped: no Chromium here; install it, or set CHROMIUM)";

const masterKey = Buffer.alloc(32, 7);
const crm = "/api/v1/sites/acme/apps/crm/graphql";
const password = "a long enough passphrase 1";
let db: TestDatabase;
let server: Rowhouse;
let token: string;

const start = (env: NodeJS.ProcessEnv) =>
  startServer({
    settings: readSettings({ ROWHOUSE_PORT: "0", ...env }),
    logins: { gatewayUrl: db.gatewayUrl },
    only: "gateway",
    masterKey: () => masterKey,
    log: pino({ level: "silent" }),
  });

beforeAll(async () => {
  db = await cloneDatabase();
  await db.site("acme");
  await db.query("select data.define_entity('acme/crm', 'contacts', $1)", [
    { type: "object", properties: { name: { type: "string" }, extra: { type: "object" } } },
  ]);
  server = await start({});
  await fetch(`${server.url}/api/v1/auth/signup`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ email: "ann@acme.test", password }),
  });
  await db.query("select tenancy.add_member('acme', 'ann@acme.test', 'admin')");
  const settings = readSettings({});
  const tokens = await openTokens({ pool: db.pool, masterKey, settings });
  token = (await issueDevelopmentToken(db.pool, tokens, { email: "ann@acme.test", site: "acme" }))
    .access_token;
});
afterAll(async () => {
  await server?.stop();
  await db?.drop();
});

describe("GraphiQL is for development", () => {
  afterEach(() => {
    process.env.NODE_ENV = "test";
  });

  test.each([
    ["development", {}, 200],
    ["production", {}, 405],
    ["production", { ROWHOUSE_GRAPHIQL: "true" }, 200],
    ["development", { ROWHOUSE_GRAPHIQL: "false" }, 405],
  ])("NODE_ENV=%s and %j: %d", async (mode, env, status) => {
    process.env.NODE_ENV = mode;
    const other = await start(env);
    const got = [];
    for (const path of ["/graphql", crm]) got.push((await fetch(other.url + path)).status);
    const asset = (await fetch(`${other.url}/graphql/assets/ruru.js`)).status;
    await other.stop();
    expect([...got, asset]).toEqual([status, status, status]);
  });
});

describeInBrowser(`GraphiQL ${WHERE}`, () => {
  let browser: Browser;
  let page: Page;
  let complaints: string[];
  let hosts: Set<string>;

  beforeAll(async () => {
    const isRoot = process.getuid?.() === 0;
    browser = await chromium.launch({
      executablePath: BROWSER as string,
      args: isRoot ? ["--no-sandbox"] : [],
    });
  });
  afterAll(() => browser?.close());

  beforeEach(async () => {
    page = await browser.newPage();
    complaints = [];
    hosts = new Set();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("requestfailed", (request) => {
      const why = request.failure()?.errorText;
      // Leaving a page aborts what it still loads.
      if (why !== "net::ERR_ABORTED") complaints.push(`${request.url()} ${why}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 400) complaints.push(`${response.status()} ${response.url()}`);
    });
    page.on("request", (request) => {
      if (!/^(data|blob):/.test(request.url())) hosts.add(new URL(request.url()).origin);
    });
  });
  afterEach(async () => {
    await page?.close();
    expect([...hosts]).toEqual([new URL(server.url).origin]);
  });

  /** Types a query as a developer would, runs it, and returns what the page shows. */
  async function run(query: string, shows: string): Promise<string> {
    await page.locator(".graphiql-query-editor .monaco-editor").first().click();
    await page.keyboard.press("Control+A");
    await page.keyboard.press("Delete");
    await page.keyboard.insertText(query);
    await page.keyboard.press("Control+Enter");
    const result = page.locator(".result-window .view-lines");
    await result.filter({ hasText: shows }).waitFor({ timeout: 20_000 });
    return ((await result.textContent()) ?? "").replaceAll("\u00a0", " ");
  }

  const command = () => page.locator("#command").textContent();
  const signedIn = () => page.getByText("Signed in as ann@acme.test").waitFor();

  test("an app, with a token: a mutation, a query, all digits of a number, sign out", async () => {
    await page.goto(server.url + crm);
    expect(await command()).toBe("npx rowhouse token --site acme --account you@example.com");
    await page.getByLabel("access token").fill(`Bearer ${token} `);
    await page.getByRole("button", { name: "Use token" }).click();
    await signedIn();
    await run(
      `mutation { createContact(input: { contact: { name: "Ada", extra: { n: 12345678901234567890 } } }) { contact { version } } }`,
      "version",
    );
    expect(await run("{ contacts { nodes { name extra } } }", "nodes")).toContain("12345678901234567890");
    // The schema is known: the documentation shows it.
    await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
    await page.getByRole("link", { name: "Mutation" }).waitFor();
    await page.reload();
    await signedIn();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("button", { name: "Log in" }).waitFor();
    expect(await page.locator("#ruru-root").isVisible()).toBe(false);
    expect(complaints).toEqual([]);
  });

  test("the control plane, with e-mail and password", async () => {
    await page.goto(`${server.url}/graphql`);
    expect(await command()).toBe("npx rowhouse token --site acme --account you@example.com");
    await page.getByLabel("E-mail").fill("ann@acme.test");
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Log in" }).click();
    await signedIn();
    expect(await run("{ sites { nodes { name } } }", "nodes")).toContain('"acme"');
    expect(complaints).toEqual([]);
  });

  test("an app, with e-mail and password; an authorization header of one's own wins", async () => {
    await page.goto(server.url + crm);
    await page.getByLabel("E-mail").fill("ann@acme.test");
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Log in" }).click();
    await signedIn();
    await run("{ contacts { totalCount } }", "totalCount");
    expect(complaints).toEqual([]);
    await page.getByRole("button", { name: "Headers", exact: true }).click();
    await page
      .locator('.graphiql-editor[aria-label="Headers"]:visible, .graphiql-editor-tool .monaco-editor:visible')
      .last()
      .click();
    await page.keyboard.insertText('{"authorization": "Bearer nonsense"}');
    expect(await run("{ contacts { totalCount } } ", "token")).toContain("401");
  });

  test("a token that is not good is told, and may be given again", async () => {
    await page.goto(server.url + crm);
    await page.getByLabel("access token").fill("nonsense");
    await page.getByRole("button", { name: "Use token" }).click();
    await page.locator("#problem", { hasText: "token" }).waitFor();
    await page.getByLabel("access token").fill(token);
    await page.getByRole("button", { name: "Use token" }).click();
    await signedIn();
    expect(await page.locator("#problem").isVisible()).toBe(false);
  });
});
