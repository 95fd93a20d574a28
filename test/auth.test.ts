import { createPublicKey, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import jwt from "jsonwebtoken";
import pg from "pg";
import pino from "pino";
import { issueDevelopmentToken } from "../server/auth/development.ts";
import { readMasterKey } from "../server/auth/master-key.ts";
import { authRoutes } from "../server/auth/routes.ts";
import { type Claims, openTokens, type TokenResponse, type Tokens } from "../server/auth/tokens.ts";
import { createApp } from "../server/http/app.ts";
import { readSettings } from "../server/settings.ts";
import { cloneDatabase, type TestDatabase } from "./harness/database.ts";
import { eventually } from "./harness/eventually.ts";

const settings = readSettings({ ROWHOUSE_BODY_LIMIT: "1000000" });
const masterKey = randomBytes(32);
const password = "correct horse battery";

let db: TestDatabase;
let gateway: pg.Pool;
let tokens: Tokens;
let server: Server;
let url: string;

beforeAll(async () => {
  db = await cloneDatabase();
  await db.query("select tenancy.create_organization('acme')");
  for (const site of ["closed", "open", "broken"])
    await db.query("select tenancy.create_site('acme', $1)", [site]);
  for (const site of ["closed", "open"]) await db.query("select tenancy.create_app($1, 'crm')", [site]);
  await db.query("select data.define_entity($1, 'notes', $2)", [
    "open/crm",
    { type: "object", properties: { text: { type: "string" } } },
  ]);
  await db.query("select data.define_entity($1, 'notes', $2)", [
    "closed/crm",
    { type: "object", properties: { text: { type: "string" } } },
  ]);
  await db.query(
    `select tenancy.update_site_settings('open', '{"signup": {"allowed": true, "role": "editor"}}')`,
  );
  await db.query(
    `select tenancy.update_site_settings('broken', '{"signup": {"allowed": true, "role": "gone"}}')`,
  );
  gateway = new pg.Pool({ connectionString: db.gatewayUrl, max: 8 });
  gateway.on("error", () => {}); // end() does not wait for its connections, and the database is dropped right then
  tokens = await openTokens({ pool: gateway, masterKey, settings });
  const app = createApp({
    pool: gateway,
    settings,
    log: pino({ level: "silent" }),
    tokens,
    graphql: { appHandler: async () => {}, controlHandler: async () => {} },
    ready: async () => ({ ready: true, checks: {} }),
    auth: authRoutes({ pool: gateway, tokens }),
  });
  server = createServer(app).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  await new Promise((resolve) => server?.close(resolve));
  await gateway?.end();
  await db?.drop();
});

type Answer = { status: number; body: TokenResponse & Record<string, unknown>; headers: Headers };

async function post(action: string, body: unknown, bearer?: string): Promise<Answer> {
  const response = await fetch(`${url}/api/v1/auth/${action}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(bearer && { authorization: `Bearer ${bearer}` }) },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : {}, headers: response.headers };
}

async function notes(bearer: string, site = "open"): Promise<number> {
  const response = await fetch(`${url}/api/v1/sites/${site}/apps/crm/notes`, {
    headers: { authorization: `Bearer ${bearer}` },
  });
  await response.text();
  return response.status;
}

let people = 0;
async function person(site: string | null = "open"): Promise<{ email: string } & TokenResponse> {
  people += 1;
  const email = `person${people}@acme.test`;
  const { status, body } = await post("signup", { email, password, ...(site && { site }) });
  expect(status).toBe(201);
  return { email, ...body };
}

describe("signing up", () => {
  test("makes an account that is logged in, and no member of anything", async () => {
    const { access_token, refresh_token, account, token_type, expires_in } = await person(null);
    expect({ token_type, expires_in }).toEqual({ token_type: "Bearer", expires_in: 900 });
    expect(refresh_token).toBeDefined();
    const claims = await tokens.verify(access_token);
    expect(claims).toMatchObject({ sub: account.id, email: account.email, roles: [], type: "access" });
    expect(claims.tenant_id).toBeUndefined();
    expect(claims.exp - claims.iat).toBe(900);
    expect(await notes(access_token)).toBe(404);
  });

  test("at a site that allows it gives the role the site chose", async () => {
    const { access_token } = await person("open");
    const [site] = await db.query<{ id: string }>("select id from tenancy.sites where name = 'open'");
    expect(await tokens.verify(access_token)).toMatchObject({ roles: ["editor"], tenant_id: site?.id });
    expect(await notes(access_token)).toBe(200);
  });

  test.each([
    ["a site that does not allow it", { site: "closed" }, 403, "signup_not_allowed"],
    ["a site whose role is gone", { site: "broken" }, 403, "signup_not_allowed"],
    ["a site that does not exist", { site: "nowhere" }, 404, "not_found"],
    ["SQL as a site", { site: "open' or true --" }, 404, "not_found"],
    ["no email address", { email: "ann at acme" }, 400, "invalid_credentials"],
    ["a short password", { password: "seven77" }, 400, "invalid_credentials"],
    ["a password bcrypt would cut off", { password: "ü".repeat(37) }, 400, "invalid_credentials"],
    ["a password that is no text", { password: 12345678 }, 400, "invalid_body"],
    ["a NUL in the email", { email: "a\0@acme.test" }, 400, "invalid_body"],
    ["an unknown property", { role: "admin" }, 400, "invalid_body"],
  ])("is refused for %s, and no account is left", async (_case, change, status, code) => {
    const body = { email: "refused@acme.test", password, ...change };
    expect(await post("signup", body)).toMatchObject({ status, body: { code } });
    expect(await db.query("select from auth.accounts where email = 'refused@acme.test'")).toEqual([]);
  });

  test("lists every problem by its pointer", async () => {
    const { body } = await post("signup", { email: "x", password: "y" });
    expect(body.errors).toMatchObject([{ pointer: "/email" }, { pointer: "/password" }]);
  });

  test.each(["", "[]", "{", '{"__proto__": {"email": "a@b.c"}}'])(
    "answers 400 to the body %j",
    async (body) => {
      expect(await post("signup", body)).toMatchObject({ status: 400 });
    },
  );

  test("an existing account joins an open site with its own password only", async () => {
    const { email } = await person(null);
    expect(await post("signup", { email, password })).toMatchObject({
      status: 409,
      body: { code: "email_taken" },
    });
    const wrong = await post("signup", { email, password: "not the password", site: "open" });
    expect(wrong).toMatchObject({ status: 409, body: { code: "email_taken" } });
    const joined = await post("signup", { email: email.toUpperCase(), password, site: "open" });
    expect(joined.status).toBe(201);
    expect(await notes(joined.body.access_token)).toBe(200);
  });

  test("twice at once makes one account", async () => {
    const body = { email: "twice@acme.test", password };
    const answers = await Promise.all([post("signup", body), post("signup", body)]);
    expect(answers.map((a) => a.status).sort()).toEqual([201, 409]);
  });
});

describe("logging in", () => {
  test("works with the email in any case, for the account or for one of its sites by name and UUID", async () => {
    const { email } = await person("open");
    const [site] = await db.query<{ id: string }>("select id from tenancy.sites where name = 'open'");
    const account = await post("login", { email: email.toUpperCase(), password });
    expect(account.status).toBe(200);
    expect(account.headers.get("cache-control")).toBe("no-store");
    for (const name of ["open", site?.id]) {
      const { body } = await post("login", { email, password, site: name });
      expect(await tokens.verify(body.access_token)).toMatchObject({ tenant_id: site?.id });
    }
  });

  test("says the same of an unknown email and a wrong password, in the same time", async () => {
    const { email } = await person();
    const timed = async (address: string) => {
      const start = performance.now();
      const answer = await post("login", { email: address, password: "not the password" });
      return {
        answer: { ...answer.body, request_id: "" },
        status: answer.status,
        ms: performance.now() - start,
      };
    };
    // The shortest of several: what else the machine does only lengthens them.
    const best = { wrong: Number.POSITIVE_INFINITY, unknown: Number.POSITIVE_INFINITY };
    for (let n = 0; n < 3 || (n < 9 && best.unknown < best.wrong / 3); n++) {
      const [wrong, unknown] = [await timed(email), await timed(`un${n}@acme.test`)];
      expect(wrong).toMatchObject({ status: 401, answer: { code: "wrong_credentials" } });
      expect([unknown.status, unknown.answer]).toEqual([wrong.status, wrong.answer]);
      best.wrong = Math.min(best.wrong, wrong.ms);
      best.unknown = Math.min(best.unknown, unknown.ms);
    }
    expect(best.unknown).toBeGreaterThan(best.wrong / 3);
  });

  test("does not tell a site that is not the account's from one that does not exist", async () => {
    const { email } = await person("open");
    const closed = await post("login", { email, password, site: "closed" });
    const nowhere = await post("login", { email, password, site: "nowhere" });
    expect(closed.status).toBe(404);
    expect({ ...closed.body, request_id: "" }).toEqual({ ...nowhere.body, request_id: "" });
  });

  test.each([true, false])(
    "stops guessing after ten failures, also in parallel (account exists: %s)",
    async (exists) => {
      const email = exists ? (await person()).email : "nobody@acme.test";
      const guesses = await Promise.all(
        Array.from({ length: 14 }, (_, n) => post("login", { email, password: `wrong guess ${n}` })),
      );
      expect(guesses.filter((g) => g.status === 401)).toHaveLength(10);
      const last = await post("login", { email, password });
      expect(last).toMatchObject({ status: 429, body: { code: "too_many_attempts" } });
      expect(Number(last.headers.get("retry-after"))).toBeGreaterThan(0);
      await db.query("update auth.failed_logins set window_ends_at = now()");
      expect((await post("login", { email, password })).status).toBe(exists ? 200 : 401);
    },
  );

  test("an account without a password cannot log in", async () => {
    await db.account("robot@acme.test");
    expect((await post("login", { email: "robot@acme.test", password: "" })).status).toBe(401);
  });
});

describe("refreshing", () => {
  test("gives new tokens each time, with the roles of today", async () => {
    const { email, refresh_token } = await person("open");
    await db.query("select access.assign_role('open', $1, 'viewer')", [email]);
    const first = await post("refresh", { refresh_token });
    expect(first.status).toBe(200);
    expect((await tokens.verify(first.body.access_token)).roles).toEqual(["editor", "viewer"]);
    const second = await post("refresh", { refresh_token: first.body.refresh_token });
    expect(second.status).toBe(200);
    expect(await notes(second.body.access_token)).toBe(200);
  });

  test("with a used token ends the whole family, for good", async () => {
    const { refresh_token } = await person("open");
    const next = await post("refresh", { refresh_token });
    const again = await post("refresh", { refresh_token });
    expect(again).toMatchObject({ status: 401, body: { code: "session_ended" } });
    expect((await post("refresh", { refresh_token: next.body.refresh_token })).status).toBe(401);
    expect(await notes(next.body.access_token)).toBe(401);
  });

  test("twice at the same moment: one wins, then the family ends", async () => {
    const { refresh_token } = await person("open");
    const answers = await Promise.all(Array.from({ length: 6 }, () => post("refresh", { refresh_token })));
    const winners = answers.filter((answer) => answer.status === 200);
    expect(winners).toHaveLength(1);
    expect(await notes(winners[0]?.body.access_token ?? "")).toBe(401);
  });

  test("ends when the membership has ended", async () => {
    const { email, access_token, refresh_token } = await person("open");
    await db.query("select tenancy.remove_member('open', $1)", [email]);
    expect(await notes(access_token)).toBe(404);
    expect((await post("refresh", { refresh_token })).status).toBe(401);
  });
});

describe("a session ends", () => {
  test.each(["access", "refresh"] as const)(
    "by logging out with the %s token, access token included",
    async (kind) => {
      const { access_token, refresh_token } = await person("open");
      expect(await notes(access_token)).toBe(200);
      const answer = kind === "access" ? post("logout", {}, access_token) : post("logout", { refresh_token });
      expect((await answer).status).toBe(204);
      expect(await notes(access_token)).toBe(401);
      expect((await post("refresh", { refresh_token })).status).toBe(401);
    },
  );

  test("when its account is deleted", async () => {
    const { account, access_token, refresh_token, email } = await person("open");
    await db.query("update auth.accounts set deleted_at = now() where id = $1", [account.id]);
    expect(await notes(access_token)).toBe(401);
    expect((await post("refresh", { refresh_token })).status).toBe(401);
    expect((await post("login", { email, password })).status).toBe(401);
  });

  test("and what has no effect any more is deleted, nothing else", async () => {
    const { access_token } = await person("open");
    const [before] = await db.query("select count(*)::int as live from auth.sessions where ended_at is null");
    await db.query("update auth.sessions set expires_at = now() - interval '1 s' where ended_at is not null");
    await gateway.query("select auth.delete_expired()");
    const [after] = await db.query("select count(*)::int as live from auth.sessions");
    expect(after).toEqual(before);
    expect(await notes(access_token)).toBe(200);
  });
});

describe("tokens", () => {
  const b64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

  test("that were forged, changed, have expired or are of another kind are refused", async () => {
    const { access_token, refresh_token } = await person("open");
    const [head = "", body = "", signature = ""] = access_token.split(".");
    const claims = jwt.decode(access_token) as Claims;
    const header = JSON.parse(Buffer.from(head, "base64url").toString());
    const jwk = tokens.jwks.keys[0] ?? {};
    const pem = createPublicKey({ key: jwk, format: "jwk" })
      .export({ type: "spki", format: "pem" })
      .toString();
    const hs256 = `${b64({ ...header, alg: "HS256" })}.${body}`;
    const { createHmac } = await import("node:crypto");
    const other = await openTokens({ pool: keyless(), masterKey, settings });
    const foreignIssuer = await openTokens({
      pool: gateway,
      masterKey,
      settings: { ROWHOUSE_URL: "https://other" },
    });
    const session = { id: claims.sid, account_id: claims.sub, email: claims.email, site_id: null, roles: [] };
    const attacks: Record<string, string> = {
      "alg none": `${b64({ ...header, alg: "none" })}.${body}.`,
      "alg none, signature kept": `${b64({ ...header, alg: "none" })}.${body}.${signature}`,
      "HS256 with the public key": `${hs256}.${createHmac("sha256", pem).update(hs256).digest("base64url")}`,
      tampered: `${head}.${b64({ ...claims, roles: ["admin"] })}.${signature}`,
      "another kid": `${b64({ ...header, kid: "x" })}.${body}.${signature}`,
      "no kid": `${b64({ alg: "RS256", typ: "at+jwt" })}.${body}.${signature}`,
      "an embedded key": `${b64({ ...header, kid: undefined, jwk })}.${body}.${signature}`,
      "refresh as access": refresh_token ?? "",
      expired: tokens.issue({ ...session, refresh_token: null, expires_in: 900 }, -1).access_token,
      "another installation's": other.issue({ ...session, refresh_token: null, expires_in: 900 })
        .access_token,
      "another issuer's": foreignIssuer.issue({ ...session, refresh_token: null, expires_in: 900 })
        .access_token,
      "no token": "abc",
      "a huge one": `${head}.${"a".repeat(9000)}.${signature}`,
    };
    const [oldHead, oldBody] = (attacks.expired as string).split(".");
    attacks["expired, of another signature"] = `${oldHead}.${oldBody}.${signature}`;
    for (const [name, token] of Object.entries(attacks)) {
      const response = await fetch(`${url}/api/v1/sites/open/apps/crm/notes`, {
        headers: { authorization: `Bearer ${token}` },
      });
      const { code } = (await response.json()) as { code: string };
      // Only who holds a real token learns that it was one, and that refreshing helps.
      const expected = name === "expired" ? "token_expired" : "invalid_token";
      expect({ name, status: response.status, code }).toEqual({ name, status: 401, code: expected });
    }
    expect(await notes(access_token)).toBe(200);
    const asRefresh = await post("refresh", { refresh_token: access_token });
    expect(asRefresh).toMatchObject({ status: 401, body: { code: "invalid_token" } });
    const asLogout = await post("logout", {}, refresh_token);
    expect(asLogout.status).toBe(401);
  });

  test("of one site do not open another, though the account is a member of both", async () => {
    const { email, access_token } = await person("open");
    await db.query("select tenancy.add_member('closed', $1)", [email]);
    expect(await notes(access_token, "closed")).toBe(404);
    const { body } = await post("login", { email, password, site: "closed" });
    expect(await notes(body.access_token, "closed")).toBe(200);
    expect(await notes(body.access_token, "open")).toBe(404);
  });

  test("expire in the cache of verified tokens as well", async () => {
    const { access_token } = await person("open");
    const { sid, sub, email } = tokens.verify(access_token);
    const session = {
      id: sid,
      account_id: sub,
      email,
      site_id: null,
      roles: [],
      refresh_token: null,
      expires_in: 900,
    };
    const short = tokens.issue(session, 2).access_token; // of two full seconds one may be over at once
    tokens.verify(short);
    const { exp } = jwt.decode(short) as { exp: number };
    await eventually(() => Date.now() >= exp * 1_000);
    expect(() => tokens.verify(short)).toThrow(
      expect.objectContaining({ status: 401, code: "token_expired" }),
    );
  });

  test("verify with the published keys, which are public only", async () => {
    const { access_token } = await person();
    const response = await fetch(`${url}/.well-known/jwks.json`);
    const { keys } = (await response.json()) as { keys: Record<string, string>[] };
    const kid = jwt.decode(access_token, { complete: true })?.header.kid;
    const key = keys.find((one) => one.kid === kid) ?? {};
    expect(Object.keys(key).sort()).toEqual(["alg", "e", "kid", "kty", "n", "use"]);
    const published = createPublicKey({ key, format: "jwk" });
    expect(
      jwt.verify(access_token, published, { algorithms: ["RS256"], audience: "rowhouse" }),
    ).toBeDefined();
  });

  test("for development last twelve hours, for members only, opened by the operator only", async () => {
    const { email } = await person("open");
    const token = await issueDevelopmentToken(db.pool, tokens, { email, site: "open" });
    expect(token.expires_in).toBe(12 * 3600);
    expect(token.refresh_token).toBeUndefined();
    expect(await notes(token.access_token)).toBe(200);
    await expect(issueDevelopmentToken(db.pool, tokens, { email, site: "closed" })).rejects.toMatchObject({
      code: "RH404",
    });
    await expect(issueDevelopmentToken(gateway, tokens, { email })).rejects.toMatchObject({ code: "42501" });
    await post("logout", {}, token.access_token);
    expect(await notes(token.access_token)).toBe(401);
  });
});

describe("keys", () => {
  test("private ones are not readable in the database, and open with the right master key only", async () => {
    const [row] = await db.query<{ private_key: Buffer; dump: string }>(
      "select private_key, k::text as dump from auth.signing_keys k",
    );
    expect(row?.dump).not.toMatch(/PRIVATE KEY/);
    // PKCS#8 begins with a SEQUENCE and the OID of rsaEncryption.
    expect(row?.private_key.includes(Buffer.from("2a864886f70d010101", "hex"))).toBe(false);
    await expect(openTokens({ pool: gateway, masterKey: randomBytes(32), settings })).rejects.toThrow(
      "master key",
    );
  });

  test("gateways that start together end up with one", async () => {
    const fresh = await cloneDatabase();
    const pool = new pg.Pool({ connectionString: fresh.gatewayUrl, max: 4 });
    pool.on("error", () => {});
    const all = await Promise.all([1, 2, 3].map(() => openTokens({ pool, masterKey, settings })));
    expect(new Set(all.map((one) => one.jwks.keys[0]?.kid)).size).toBe(1);
    expect(await fresh.query("select from auth.signing_keys")).toHaveLength(1);
    await pool.end();
    await fresh.drop();
  });

  test("nobody but the gateway's functions reaches sessions, tokens and keys", async () => {
    const { email } = await person("open");
    for (const table of ["sessions", "refresh_tokens", "failed_logins", "signing_keys"]) {
      await expect(gateway.query(`select * from auth.${table}`)).rejects.toMatchObject({ code: "42501" });
      await db.as("open", email, async (client) => {
        await expect(client.query(`select * from auth.${table}`)).rejects.toMatchObject({ code: "42501" });
      });
    }
    await db.as("open", email, async (client) => {
      for (const call of [
        "list_signing_keys()",
        "log_out(uuidv7())",
        "log_in('a', 'b')",
        "delete_expired()",
      ]) {
        await expect(client.query(`select auth.${call}`)).rejects.toMatchObject({ code: "42501" });
      }
      await expect(client.query("select password_hash from auth.accounts")).rejects.toMatchObject({
        code: "42501",
      });
    });
  });

  test("the master key is made once, 0600, or given as base64 or hex; anything else is refused", () => {
    const dir = mkdtempSync(join(tmpdir(), "rowhouse-key-"));
    try {
      const made = readMasterKey({ ROWHOUSE_MASTER_KEY: "", ROWHOUSE_DIR: join(dir, "new") });
      expect(made).toHaveLength(32);
      expect(readMasterKey({ ROWHOUSE_MASTER_KEY: "", ROWHOUSE_DIR: join(dir, "new") })).toEqual(made);
      expect(statSync(join(dir, "new", "master.key")).mode & 0o777).toBe(0o600);
      for (const text of [made.toString("hex"), made.toString("base64"), made.toString("base64url")]) {
        expect(readMasterKey({ ROWHOUSE_MASTER_KEY: text, ROWHOUSE_DIR: dir })).toEqual(made);
      }
      expect(() => readMasterKey({ ROWHOUSE_MASTER_KEY: "secret", ROWHOUSE_DIR: dir })).toThrow(
        "32 random bytes",
      );
      writeFileSync(join(dir, "master.key"), "");
      expect(() => readMasterKey({ ROWHOUSE_MASTER_KEY: "", ROWHOUSE_DIR: dir })).toThrow(
        "master.key is not a master key",
      );
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

/** A database of another installation: keeps the key it is offered in memory. */
function keyless() {
  const rows: unknown[] = [];
  return {
    async query(text: string, values: unknown[] = []) {
      if (text.includes("offer_signing_key"))
        rows.push({ kid: values[0], private_key: values[2], retired_at: null });
      return { rows };
    },
  };
}
