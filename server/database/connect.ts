import { createHmac } from "node:crypto";
import { readMasterKey } from "../auth/master-key.ts";
import { startEmbedded } from "../embedded/postgres.ts";
import { type Settings, SettingsError } from "../settings.ts";

/** The three logins of a database, as postgres:// URLs with passwords. */
export interface Logins {
  operatorUrl: string;
  gatewayUrl: string;
  workerUrl: string;
}

/** How to reach the database. stop() ends an embedded server that nobody else uses. */
export interface Database extends Logins {
  embedded: boolean;
  stop(): Promise<void>;
}

/** A part of the server that may run in a process of its own, with a login of its own. */
export type Part = "gateway" | "worker";

/** What rowhouse start --only runs: the operator has no login but DATABASE_URL's. */
export type Only = Part | "operator";

const ROLES = { gateway: "rowhouse_gateway", worker: "rowhouse_worker" } as const;

/** The server that DATABASE_URL names, or the embedded one (started when it does not run yet), as its operator. */
export async function openDatabase(settings: Settings): Promise<Database> {
  const own = ownLogin(settings);
  if (own) {
    throw new SettingsError(
      `DATABASE_URL logs in as ${ROLES[own.part]}: with it, only rowhouse start --only ${own.part} runs. Everything else needs the operator's login.`,
    );
  }
  const worker = passwordOf("worker", settings);
  if (settings.DATABASE_URL) {
    return {
      ...logins(settings.DATABASE_URL, { gateway: passwordOf("gateway", settings), worker }),
      embedded: false,
      stop: async () => {},
    };
  }
  const server = await startEmbedded(settings.ROWHOUSE_DIR);
  return {
    ...logins(server.operatorUrl, { gateway: server.gatewayPassword, worker }),
    embedded: true,
    stop: server.stop,
  };
}

/** Where DATABASE_URL logs in as the gateway or the worker: which, and its URL with a password. Else null. */
export function ownLogin(settings: Settings): { part: Part; url: string } | null {
  if (!settings.DATABASE_URL) return null;
  const url = new URL(settings.DATABASE_URL);
  const part = (["gateway", "worker"] as const).find((name) => ROLES[name] === url.username);
  if (!part) return null;
  url.password ||= passwordOf(part, settings);
  return { part, url: url.href };
}

/** The same database, as its three logins. */
export function logins(operatorUrl: string, passwords: Record<Part, string>): Logins {
  return {
    operatorUrl,
    gatewayUrl: loginUrl(operatorUrl, "gateway", passwords.gateway),
    workerUrl: loginUrl(operatorUrl, "worker", passwords.worker),
  };
}

function loginUrl(operatorUrl: string, part: Part, password: string): string {
  const url = new URL(operatorUrl);
  url.username = ROLES[part];
  url.password = password;
  return url.href;
}

function passwordOf(part: Part, settings: Settings): string {
  const given = { gateway: settings.ROWHOUSE_GATEWAY_PASSWORD, worker: settings.ROWHOUSE_WORKER_PASSWORD };
  return given[part] || createHmac("sha256", readMasterKey(settings)).update(ROLES[part]).digest("base64url");
}
