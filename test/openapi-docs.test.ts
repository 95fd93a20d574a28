import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Browser, chromium } from "playwright-core";
import { base, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway } from "./harness/gateway.ts";

const onPath = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
  .map((name) => spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim())
  .find(Boolean);
const BROWSER = process.env.CHROMIUM ?? onPath;
let crm: Crm;
beforeAll(async () => {
  crm = await startCrm();
});
afterAll(() => crm?.stop());

test.each([
  [{ ROWHOUSE_DOCS: "true" }, 200, 200],
  [{ ROWHOUSE_DOCS: "false" }, 401, 404],
])("%j: %d", async (env, page, asset) => {
  const gateway = await startGateway(crm.db, env);
  const get = (path: string) => sendTo(gateway, crm.tokens, path, { as: null });
  const got = [(await get(`${base}/docs`)).status, (await get("/openapi/assets/swagger-ui.css")).status];
  await gateway.stop();
  expect(got).toEqual([page, asset]);
});

test.each([
  "/openapi/assets/../../package.json",
  "/openapi/assets/%2e%2e/docs.ts",
  "/openapi/assets/constructor",
  "/openapi/assets/",
])("%s is no file of the page", async (path) => {
  expect((await crm.send(path, { as: null })).status).toBe(404);
});

(BROWSER ? describe : describe.skip)("in a browser", () => {
  let browser: Browser;
  beforeAll(async () => {
    const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
    browser = await chromium.launch({ executablePath: BROWSER as string, args });
  });
  afterAll(() => browser?.close());

  test("the page asks for a token, shows the app's operations, asks no other server, and runs no code of a definition", async () => {
    await crm.db.query("select data.define_entity('acme/crm', 'notes', $1)", [
      {
        type: "object",
        description: "<img src=x onerror=\"document.title='taken'\"> [x](javascript:alert(1))",
        properties: { text: { type: "string" } },
      },
    ]);
    const page = await browser.newPage();
    const complaints: string[] = [];
    const hosts = new Set<string>();
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => {
      // The event handler of the description above is to be blocked.
      const expected = /inline event handler/.test(message.text());
      if (/Content Security Policy/.test(message.text()) && !expected) complaints.push(message.text());
    });
    page.on("request", (request) => {
      if (!/^(data|blob):/.test(request.url())) hosts.add(new URL(request.url()).origin);
    });
    await page.goto(`${crm.gateway.url}${base}/docs`);
    await page.locator("input[name=token]").fill("nonsense");
    await page.locator("button", { hasText: "Use token" }).click();
    await page.locator("#problem", { hasText: /token/i }).waitFor();
    await page.locator("input[name=token]").fill(crm.tokens.ann as string);
    await page.locator("button", { hasText: "Use token" }).click();
    await page.locator("#operations-contacts-list_contacts").waitFor();
    await page.locator("#operations-contacts-list_contacts .opblock-summary").click();
    await page.locator("button.try-out__btn").first().click();
    await page.locator("button.execute").first().click();
    await page.locator(".live-responses-table", { hasText: "200" }).waitFor();
    expect(await page.title()).toBe("REST of Rowhouse");
    expect(await page.locator('a[href^="javascript:"]').count()).toBe(0);
    expect([...hosts]).toEqual([crm.gateway.url]);
    expect(complaints).toEqual([]);
    await page.close();
  });
});
