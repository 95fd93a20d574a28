import type { Pool } from "pg";
import { noteTaken } from "../database/guesses.ts";
import { type Bound, runWithin, type Statement, type Texts } from "../database/pipelined.ts";
import type { Claims } from "./context.ts";
import { type Env, envText } from "./env.ts";
import { openAgain, openedThrough } from "./opened.ts";
import { guessed } from "./problem.ts";

export type { Statement, Texts };

// The role comes last: it may not set anything. rowhouse.env costs 2 µs (17.1 with it, 15.2 without). One number comes
// back, not five texts: 3 µs.
const context = (
  from: string,
  roles: string,
  role: string,
  more = "",
) => `select num_nulls(set_config('rowhouse.account', coalesce($2::text, ''), true),
  set_config('rowhouse.env', $5::text, true), set_config('rowhouse.site', r.site_id::text, true),
  set_config('rowhouse.roles', ${roles}::text, true),
  set_config('role', ${role}, true))${more}
from ${from}`;

/** For an app by name or UUID: raises what is wrong. */
const openStatement: Statement = {
  name: "open",
  text: context(
    "tenancy.open_request($1::uuid, $2::uuid, $3::text, $4::text) r",
    "access.roles_of(r.site_id, $2::uuid)",
    "r.role_name",
  ),
};

/** For an app as it was when a statement was compiled; RH001 when that is not so any more. Tells what it found, as openAgain takes it. */
const reopenStatement: Statement = {
  name: "reopen",
  text: context(
    `(values (1)) one left join tenancy.open_requests r on r.session_id = $1::uuid and r.account_id = $2::uuid
  and r.app_id = $3::uuid and r.definition_version = $4::bigint`,
    "coalesce(r.held_role_ids, access.remember_roles(r.site_id, $2::uuid))",
    "coalesce(r.role_name, tenancy.refuse_request())",
    `, r.site_id::text, r.held_role_ids::text, r.role_name, r.changes::text, r.until::text,
  case when r.until is not null then access.plain_rights(r.site_id, r.held_role_ids) end,
  case when r.until is not null then access.kept_attributes(r.site_id, $2::uuid) end`,
  ),
};

/** For the control plane: the account's role, when its session is live. */
const controlStatement: Statement = {
  name: "control",
  text: `select set_config('rowhouse.account', $2::text, true), set_config('rowhouse.env', $4::text, true),
  set_config('rowhouse.site', $3::text, true), set_config('role', r.role_name, true)
from tenancy.open_control($1::uuid) r (role_name)`,
};

/** The same for nobody: an app where somebody granted anonymous something. */
const reopenPublicStatement: Statement = {
  name: "reopen_public",
  text: context(
    `(values ($1::uuid)) one left join access.open_public_requests r on r.app_id = $3::uuid and r.definition_version = $4::bigint`,
    "access.roles_of(r.site_id, null)",
    "coalesce(r.role_name, tenancy.refuse_request())",
  ),
};

/** Who asks and from where: a session and its account, or nobody, and the setting rowhouse.env. */
export type Caller = { session: string | null; account: string | null; env: string };

/** Who asks, by the claims of a token, if there was one, and where the request came from. */
export function callerOf(claims: Claims | null, env: Env): Caller {
  const session = claims?.sid ?? null;
  return { session, account: claims?.sub ?? null, env: envText(env, session) };
}

/** The app that a statement is for: as a request names it, or as it was when a statement was compiled. */
export type AppAsked = { site: string | null; app: string } | { appId: string; version: string };

/** Runs one statement of the control plane as an account, in one round trip. Throws pg's DatabaseError: RH401, and what the statement raises. */
export async function queryControl(
  pool: Pool,
  { session, account, env }: Caller,
  { tenant_id: site }: Claims,
  statement: Statement,
  values: Texts,
): Promise<Texts[]> {
  const context: Bound = { statement: controlStatement, values: [session, account, site ?? "", env] };
  return (await runWithin(pool, context, { statement, values }, false)).rows;
}

/** Opens an app for a caller, whatever was opened before. */
function opening({ session, account, env }: Caller, app: AppAsked): Bound {
  return "appId" in app
    ? {
        statement: account === null ? reopenPublicStatement : reopenStatement,
        values: [session, account, app.appId, app.version, env],
      }
    : { statement: openStatement, values: [session, account, app.site, app.app, env] };
}

/**
 * Runs one statement as a member of a site, in one round trip, and returns its rows as text.
 * Throws pg's DatabaseError: RH401 and RH404 where the app is named, RH001 where what is known of it is no longer so,
 * whatever the statement raises, or an error of the connection; a 429 Problem for one guess too many.
 */
export async function queryAs(
  pool: Pool,
  caller: Caller,
  app: AppAsked,
  statement: Statement,
  values: Texts,
): Promise<Texts[]> {
  try {
    return await runAs(pool, caller, app, { statement, values });
  } catch (error) {
    await countGuess(pool, caller, app, error);
    throw error;
  }
}

async function runAs(pool: Pool, caller: Caller, app: AppAsked, query: Bound): Promise<Texts[]> {
  const run = (context: Bound) => runWithin(pool, context, query, false);
  const { session, account, env } = caller;
  if (!("appId" in app) || account === null) return (await run(opening(caller, app))).rows;
  const opened = openedThrough(pool);
  const key = `${session} ${account} ${app.appId}`;
  const before = opened.get(key);
  if (before?.version === app.version) {
    try {
      return (await run(openAgain(account, env, before))).rows;
    } catch (error) {
      if ((error as { code?: unknown }).code !== "RH001") throw error;
      opened.delete(key); // nothing was done: it is opened anew
    }
  }
  const { rows, context } = await run(opening(caller, app));
  const found = context.slice(1);
  const until = found[4];
  if (until) opened.set(key, { version: app.version, found });
  return rows;
}

/** Counts a write that failed, if it was a guess. Throws a 429 Problem for one too many, and pg's errors. */
export async function countGuess(pool: Pool, caller: Caller, app: AppAsked, failure: unknown): Promise<void> {
  const told = await noteTaken(pool, opening(caller, app), failure);
  if (told) throw guessed(told);
}
