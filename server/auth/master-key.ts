import { hkdfSync, randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { explained } from "../embedded/folder.ts";
import { type Settings, SettingsError } from "../settings.ts";

/**
 * The 32 bytes of ROWHOUSE_MASTER_KEY, else of `<ROWHOUSE_DIR>/master.key`, which is made once (0600).
 * Throws SettingsError when what is there is no key.
 */
export function readMasterKey(settings: Pick<Settings, "ROWHOUSE_MASTER_KEY" | "ROWHOUSE_DIR">): Buffer {
  if (settings.ROWHOUSE_MASTER_KEY)
    return parseMasterKey(settings.ROWHOUSE_MASTER_KEY, "ROWHOUSE_MASTER_KEY");
  const file = resolve(settings.ROWHOUSE_DIR, "master.key");
  try {
    return parseMasterKey(readOrMake(file), file);
  } catch (error) {
    throw explained(error, settings.ROWHOUSE_DIR);
  }
}

/** A key for one purpose: what a purpose's key protects cannot be read with another's. */
export function deriveKey(masterKey: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", masterKey, "", `rowhouse ${purpose}`, 32));
}

function parseMasterKey(text: string, source: string): Buffer {
  const trimmed = text.trim();
  const key = /^[0-9a-fA-F]{64}$/.test(trimmed)
    ? Buffer.from(trimmed, "hex")
    : /^[A-Za-z0-9+/_-]{43}=?$/.test(trimmed)
      ? Buffer.from(trimmed, "base64")
      : null;
  if (key?.length === 32) return key;
  throw new SettingsError(
    `${source} is not a master key: it must be 32 random bytes as base64 or hex, for example from "openssl rand -base64 32".`,
  );
}

// link() fails where the name is taken: of processes that start together one makes the key, whole.
function readOrMake(file: string): string {
  const existing = readIfThere(file);
  if (existing !== null) return existing;
  const folder = join(file, "..");
  mkdirSync(folder, { recursive: true });
  const draft = join(folder, `.master.key.${process.pid}.${randomBytes(4).toString("hex")}`);
  writeFileSync(draft, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600, flag: "wx", flush: true });
  try {
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readFileSync(file, "utf8");
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
