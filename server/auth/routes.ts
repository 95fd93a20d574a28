import express from "express";
import { envText } from "../http/env.ts";
import { Problem } from "../http/problem.ts";
import { bearerToken, readJsonText, requests } from "../http/request.ts";
import type { Database } from "./signing-keys.ts";
import type { Session, Tokens } from "./tokens.ts";

const BODY_BYTES = 16 * 1024;

/** What auth.sign_up, log_in and refresh answer. */
type Outcome =
  | { session: Session }
  | { problem: { status: number; message: string; hint: string; code: string; retry_after?: number } };

/**
 * POST /api/v1/auth/{signup,login,refresh,logout} and GET /.well-known/jwks.json, to be mounted at the root
 * before any body parser. Errors are Problems, passed on to the app's error handler.
 */
export function authRoutes({ pool, tokens }: { pool: Database; tokens: Tokens }): express.Router {
  const router = express.Router();

  router.post("/api/v1/auth/signup", async (req, res) => {
    const { email, password, site } = await readTexts(req, ["email", "password"], ["site"]);
    const session = await opened(req, pool, "auth.sign_up($2, $3, $4)", [email, password, site]);
    send(res, 201, tokens.issue(session));
  });

  router.post("/api/v1/auth/login", async (req, res) => {
    const { email, password, site } = await readTexts(req, ["email", "password"], ["site"]);
    const session = await opened(req, pool, "auth.log_in($2, $3, $4)", [email, password, site]);
    send(res, 200, tokens.issue(session));
  });

  router.post("/api/v1/auth/refresh", async (req, res) => {
    const { refresh_token } = await readTexts(req, ["refresh_token"], []);
    const { jti } = tokens.verifyRefresh(refresh_token);
    const session = await opened(req, pool, "auth.refresh($2)", [jti]);
    send(res, 200, tokens.issue(session));
  });

  // By the access token in the Authorization header, or by a refresh token in the body.
  router.post("/api/v1/auth/logout", async (req, res) => {
    const bearer = bearerToken(req);
    const { sid } = bearer
      ? tokens.verify(bearer)
      : tokens.verifyRefresh((await readTexts(req, ["refresh_token"], [])).refresh_token);
    await call(req, pool, "auth.log_out($2)", [sid]);
    res.status(204).end();
  });

  router.get("/.well-known/jwks.json", (_req, res) => {
    res.set("cache-control", "public, max-age=300").json(tokens.jwks);
  });

  return router;
}

/** Calls a function that knows where the request came from; its values begin with $2. */
async function call(req: express.Request, pool: Database, call: string, values: unknown[]): Promise<unknown> {
  const { env } = requests.get(req) ?? {};
  const { rows } = await pool.query(`select ${call} as outcome from set_config('rowhouse.env', $1, true)`, [
    env ? envText(env, null) : "",
    ...values,
  ]);
  return (rows[0] as { outcome: unknown }).outcome;
}

async function opened(
  req: express.Request,
  pool: Database,
  name: string,
  values: unknown[],
): Promise<Session> {
  const outcome = (await call(req, pool, name, values)) as Outcome;
  if ("session" in outcome) return outcome.session;
  const { status, message, hint, code, retry_after } = outcome.problem;
  throw new Problem(status, message, {
    hint,
    code,
    ...(retry_after && { headers: { "retry-after": String(retry_after) } }),
  });
}

/** The texts of a JSON body: those required, those that may be missing (null), nothing else. Throws a 400 Problem. */
async function readTexts<R extends string, O extends string>(
  req: express.Request,
  required: R[],
  optional: O[],
): Promise<Record<R, string> & Record<O, string | null>> {
  const body = parse(await readJsonText(req, BODY_BYTES));
  const known: string[] = [...required, ...optional];
  const errors = [
    ...known.flatMap((name) => {
      const value = body[name];
      if (typeof value === "string" && !value.includes("\0")) return [];
      if ((value ?? null) === null && !required.includes(name as R)) return [];
      return [{ pointer: `/${name}`, message: value === undefined ? "is required" : "must be text" }];
    }),
    ...Object.keys(body)
      .filter((name) => !known.includes(name))
      .map((name) => ({
        pointer: `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`,
        message: "is not known",
      })),
  ];
  if (errors.length > 0) {
    throw new Problem(400, "The body is not what is expected here", {
      code: "invalid_body",
      hint: `A JSON object with ${required.join(", ")}${optional.length ? ` and, if you like, ${optional.join(", ")}` : ""}.`,
      errors,
    });
  }
  return Object.fromEntries(known.map((name) => [name, body[name] ?? null])) as Record<R, string> &
    Record<O, string | null>;
}

function parse(text: string): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) {
      return Object.assign(Object.create(null), body) as Record<string, unknown>;
    }
  } catch {
    // Said below; the text may hold a password, so it is not repeated.
  }
  throw new Problem(400, "The body is not a JSON object", { code: "invalid_json" });
}

function send(res: express.Response, status: number, body: object): void {
  res.status(status).set("cache-control", "no-store").json(body);
}
