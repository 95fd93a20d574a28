import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type JsonWebKey,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { promisify } from "node:util";
import { deriveKey } from "./master-key.ts";

/** Whatever runs one statement: a pg Pool, Client or PoolClient. */
export interface Database {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
}

/** The key that signs, and all whose signatures are accepted, by kid. */
export interface SigningKeys {
  kid: string;
  privateKey: KeyObject;
  publicKeys: ReadonlyMap<string, KeyObject>;
  jwks: { keys: JsonWebKey[] };
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * The RS256 keys of this database, made when there are none. Private keys reach the database encrypted
 * (AES-256-GCM under a key derived from the master key, bound to the kid), and public keys are computed from
 * them: a key that somebody writes into the table signs nothing. Throws when the master key is another one.
 */
export async function loadSigningKeys(database: Database, masterKey: Buffer): Promise<SigningKeys> {
  const key = deriveKey(masterKey, "signing keys");
  let rows = await listKeys(database);
  if (rows[0]?.retired_at !== null) {
    await offerKey(database, key);
    rows = await listKeys(database);
  }
  const active = rows[0];
  if (!active) throw new Error("The database did not keep the signing key");
  const opened = rows.map((row) => ({ kid: row.kid, privateKey: open(row, key) }));
  const publicKeys = new Map(opened.map(({ kid, privateKey }) => [kid, createPublicKey(privateKey)]));
  return {
    kid: active.kid,
    privateKey: (opened[0] as { privateKey: KeyObject }).privateKey,
    publicKeys,
    jwks: { keys: [...publicKeys.values()].map(publicJwk) },
  };
}

interface KeyRow {
  kid: string;
  private_key: Buffer;
  retired_at: Date | null;
}

async function listKeys(database: Database): Promise<KeyRow[]> {
  const { rows } = await database.query("select kid, private_key, retired_at from auth.list_signing_keys()");
  return rows as KeyRow[];
}

async function offerKey(database: Database, key: Buffer): Promise<void> {
  const { privateKey, publicKey } = await promisify(generateKeyPair)("rsa", { modulusLength: 2048 });
  const jwk = publicJwk(publicKey);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(jwk.kid as string));
  const sealed = Buffer.concat([
    cipher.update(privateKey.export({ type: "pkcs8", format: "der" })),
    cipher.final(),
  ]);
  await database.query("select auth.offer_signing_key($1, $2, $3)", [
    jwk.kid,
    JSON.stringify(jwk),
    Buffer.concat([nonce, cipher.getAuthTag(), sealed]),
  ]);
}

function open({ kid, private_key: sealed }: KeyRow, key: Buffer): KeyObject {
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
      .setAAD(Buffer.from(kid))
      .setAuthTag(sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    const der = Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
    return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  } catch (cause) {
    throw new Error(
      "The master key is not the one this database's signing keys were encrypted with. Put the right ROWHOUSE_MASTER_KEY (or master.key) back.",
      { cause },
    );
  }
}

/** kid is the RFC 7638 thumbprint of the key. */
function publicJwk(key: KeyObject): JsonWebKey {
  const { kty, n, e } = key.export({ format: "jwk" });
  const kid = createHash("sha256").update(JSON.stringify({ e, kty, n })).digest("base64url");
  return { kty, n, e, kid, alg: "RS256", use: "sig" };
}
