import { randomUUID } from "node:crypto";
import jwt from "jsonwebtoken";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { Problem } from "../http/problem.ts";
import type { Settings } from "../settings.ts";
import { type Database, loadSigningKeys, type SigningKeys } from "./signing-keys.ts";

const AUDIENCE = "rowhouse";
const ACCESS_SECONDS = 15 * 60;
const TOKEN_LENGTH = 8192; // characters; ours have about 900
const REMEMBERED_TOKENS = 10_000; // about 20 MB

// RFC 8725 3.11: the header's typ tells one kind of token from the other, before the claims do.
const HEADER_TYPE = { access: "at+jwt", refresh: "rt+jwt" } as const;

const claimsSchema = z.object({
  sub: z.uuid(),
  sid: z.uuid(),
  tenant_id: z.uuid().optional(),
  email: z.string(),
  roles: z.array(z.string()),
  type: z.enum(["access", "refresh"]),
  iss: z.string(),
  aud: z.string(),
  iat: z.number(),
  exp: z.number(),
  jti: z.uuid(),
});

/** What a token says: sub is the account, tenant_id the site it is good for (any, without), sid its session; times in seconds. */
export type Claims = z.infer<typeof claimsSchema>;

/** A session as SQL describes it (auth.describe_session). */
export interface Session {
  id: string;
  account_id: string;
  email: string;
  site_id: string | null;
  roles: string[];
  /** jti of the refresh token, where the session has one. */
  refresh_token: string | null;
  /** Seconds until the session and its refresh token expire. */
  expires_in: number;
}

/** What a client gets for a session; expires_in is the access token's, in seconds. */
export interface TokenResponse {
  access_token: string;
  refresh_token?: string;
  token_type: "Bearer";
  expires_in: number;
  account: { id: string; email: string };
}

type Kind = Claims["type"];

/** Opens the signing keys (making the first one) and returns what signs and verifies with them. */
export async function openTokens(options: {
  pool: Database;
  masterKey: Buffer;
  settings: Pick<Settings, "ROWHOUSE_URL">;
}): Promise<Tokens> {
  return new Tokens(
    await loadSigningKeys(options.pool, options.masterKey),
    options.settings.ROWHOUSE_URL || "rowhouse",
  );
}

/** Signs and verifies tokens. Whether a token's session is still open is asked in SQL, with each request. */
export class Tokens {
  /** The public keys, as /.well-known/jwks.json shows them. */
  readonly jwks: SigningKeys["jwks"];
  readonly #keys: SigningKeys;
  readonly #issuer: string;
  // Verifying costs 65 µs, a look here 1 µs. Access tokens only.
  readonly #verified = new LRUCache<string, Claims>({ max: REMEMBERED_TOKENS });

  constructor(keys: SigningKeys, issuer: string) {
    this.#keys = keys;
    this.#issuer = issuer;
    this.jwks = keys.jwks;
  }

  /** The claims of an access token. Throws a 401 Problem (invalid_token, token_expired). */
  verify(token: string): Claims {
    const known = this.#verified.get(token);
    if (known && known.exp * 1000 > Date.now()) return known;
    const claims = this.#verify(token, "access");
    this.#verified.set(token, claims);
    return claims;
  }

  /** The claims of a refresh token. Throws a 401 Problem (invalid_token, token_expired). */
  verifyRefresh(token: string): Claims {
    return this.#verify(token, "refresh");
  }

  /** Signs the tokens of a session; `accessSeconds` is how long the access token is good. */
  issue(session: Session, accessSeconds = ACCESS_SECONDS): TokenResponse {
    const seconds = Math.min(accessSeconds, session.expires_in);
    return {
      access_token: this.#sign(session, "access", randomUUID(), seconds),
      ...(session.refresh_token && {
        refresh_token: this.#sign(session, "refresh", session.refresh_token, session.expires_in),
      }),
      token_type: "Bearer",
      expires_in: seconds,
      account: { id: session.account_id, email: session.email },
    };
  }

  #sign(session: Session, type: Kind, jti: string, seconds: number): string {
    const { email, roles, site_id } = session;
    return jwt.sign(
      { type, sid: session.id, ...(site_id && { tenant_id: site_id }), email, roles },
      this.#keys.privateKey,
      {
        algorithm: "RS256",
        header: { alg: "RS256", typ: HEADER_TYPE[type], kid: this.#keys.kid },
        subject: session.account_id,
        issuer: this.#issuer,
        audience: AUDIENCE,
        jwtid: jti,
        expiresIn: seconds,
      },
    );
  }

  #verify(token: string, type: Kind): Claims {
    try {
      const header = token.length <= TOKEN_LENGTH ? jwt.decode(token, { complete: true })?.header : undefined;
      const key = this.#keys.publicKeys.get(header?.kid ?? "");
      if (!key || header?.typ !== HEADER_TYPE[type]) throw new Error(`not one of our ${type} tokens`);
      const claims = claimsSchema.parse(
        jwt.verify(token, key, { algorithms: ["RS256"], issuer: this.#issuer, audience: AUDIENCE }),
      );
      if (claims.type !== type) throw new Error(`a token of type ${claims.type}`);
      return claims;
    } catch (cause) {
      throw refusal(type, cause);
    }
  }
}

function refusal(type: Kind, cause: unknown): Problem {
  const expired = cause instanceof jwt.TokenExpiredError;
  return new Problem(401, `The ${type} token ${expired ? "has expired" : "is not valid"}`, {
    code: expired ? "token_expired" : "invalid_token",
    hint:
      type === "access"
        ? "Refresh it: POST /api/v1/auth/refresh, or log in."
        : "Log in: POST /api/v1/auth/login.",
    headers: { "www-authenticate": 'Bearer error="invalid_token"' },
    cause,
  });
}
