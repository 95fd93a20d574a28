import type { Database } from "./signing-keys.ts";
import type { Session, TokenResponse, Tokens } from "./tokens.ts";

const HOURS = 12;

/**
 * An access token of 12 hours, without a password, for `rowhouse token`. `operator` must be connected as the
 * operator. Throws SQL's RH404 when there is no such account, or it is no member of the site (name or UUID).
 */
export async function issueDevelopmentToken(
  operator: Database,
  tokens: Tokens,
  who: { email: string; site?: string | undefined },
): Promise<TokenResponse> {
  const { rows } = await operator.query("select auth.open_development_session($1, $2, $3) as result", [
    who.email,
    who.site ?? null,
    HOURS,
  ]);
  const { session } = (rows[0] as { result: { session: Session } }).result;
  return tokens.issue(session, HOURS * 3600);
}
