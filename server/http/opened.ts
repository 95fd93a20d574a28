import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import type { Bound, Statement, Texts } from "../database/pipelined.ts";

// A request asks six tables whether its session may open its app, and as whom: 50 µs. What they said is kept here, with the number of
// changes they had seen (access.change_count), what the roles permit (access.plain_rights) and the account's attributes: as long as SQL
// counts the same, they would say the same. 27 µs.

/** The same as was found before; RH001 when anything has changed, or the time is over. */
const againStatement: Statement = {
  name: "again",
  text: `select num_nulls(set_config('rowhouse.account', $1, true), set_config('rowhouse.env', $2, true),
  set_config('rowhouse.site', $3, true), set_config('rowhouse.roles', $4, true), set_config('rowhouse.rights', coalesce($8, ''), true),
  set_config('rowhouse.attributes', coalesce($9, ''), true),
  set_config('role', case when c.changes = $6::bigint and now() < $7::timestamptz then $5 else tenancy.refuse_request() end, true))
from access.change_count($3::text::uuid, $1::text::uuid) c`,
};

/** What was found when an app of a version was opened: site, roles, role, number of changes, end, rights, attributes. */
type Opened = { version: string; found: Texts };

const mostBytes = 32 * 2 ** 20; // who holds 100 roles takes 4 kB, and as much for what they permit
const bytesOf = ({ found }: Opened) => found.reduce((sum, text) => sum + (text?.length ?? 0), 200);

const openedBy = new WeakMap<Pool, LRUCache<string, Opened>>();

/** Which requests have been opened through a pool, by session, account and app. */
export function openedThrough(pool: Pool): LRUCache<string, Opened> {
  let opened = openedBy.get(pool);
  if (!opened) {
    opened = new LRUCache({ max: 20_000, maxSize: mostBytes, sizeCalculation: bytesOf });
    openedBy.set(pool, opened);
  }
  return opened;
}

/** Opens a request as it was opened before. */
export function openAgain(account: string, env: string, { found }: Opened): Bound {
  return { statement: againStatement, values: [account, env, ...found] };
}
