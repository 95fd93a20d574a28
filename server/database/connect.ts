import { createHmac } from "node:crypto";
import { startEmbedded } from "../embedded/postgres.ts";
import type { Settings } from "../settings.ts";

/** How to reach the database, as its operator and as the gateway. stop() ends an embedded server that we started. */
export interface Database {
  operatorUrl: string;
  gatewayUrl: string;
  gatewayPassword: string;
  embedded: boolean;
  stop(): Promise<void>;
}

/** The server that DATABASE_URL names, or the embedded one (started when it does not run yet). */
export async function openDatabase(settings: Settings, masterKey: Buffer): Promise<Database> {
  if (settings.DATABASE_URL) {
    const password =
      settings.ROWHOUSE_GATEWAY_PASSWORD ||
      createHmac("sha256", masterKey).update("rowhouse_gateway").digest("base64url");
    return {
      operatorUrl: settings.DATABASE_URL,
      gatewayUrl: gatewayUrl(settings.DATABASE_URL, password),
      gatewayPassword: password,
      embedded: false,
      stop: async () => {},
    };
  }
  const server = await startEmbedded(settings.ROWHOUSE_DIR);
  return {
    operatorUrl: server.operatorUrl,
    gatewayUrl: gatewayUrl(server.operatorUrl, server.gatewayPassword),
    gatewayPassword: server.gatewayPassword,
    embedded: true,
    stop: server.stop,
  };
}

/** The same database, as the login of the gateway. */
export function gatewayUrl(operatorUrl: string, password: string): string {
  const url = new URL(operatorUrl);
  url.username = "rowhouse_gateway";
  url.password = password;
  return url.href;
}
