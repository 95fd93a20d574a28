import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";

/** Where a request comes from: what conditions on $env and the audit log are told. */
export type Env = {
  ip: string | null;
  user_agent: string | null;
  origin: string | null;
  request_id: string;
  /** Method and address, with the query string: what a read asked for. */
  request: string;
};

const longest = 500; // characters of a header that are kept

/**
 * Reads where a request comes from. `proxies`: how many in front of us are trusted to have added the address they saw to
 * X-Forwarded-For; with 0 nothing that a client sends counts.
 */
export function readEnv(req: IncomingMessage, proxies: number, requestId: string): Env {
  const { headers } = req;
  return {
    ip: (proxies > 0 && forwarded(headers["x-forwarded-for"], proxies)) || address(req.socket.remoteAddress),
    user_agent: headers["user-agent"]?.slice(0, longest) ?? null,
    origin: headers.origin?.slice(0, longest) ?? null,
    request_id: requestId,
    request: `${req.method} ${req.url}`.slice(0, 2 * longest),
  };
}

/** As the database is told: the setting rowhouse.env. */
export function envText(env: Env, session: string | null): string {
  return JSON.stringify({ ...env, session });
}

// Each proxy adds on the right whom it was called by: what stands further left than trusted ones wrote is the client's word.
function forwarded(header: string | string[] | undefined, proxies: number): string | null {
  const hops = String(header ?? "").split(",");
  return address(hops[Math.max(0, hops.length - proxies)]);
}

/** An address without port, zone and the prefix of IPv4 in IPv6; null for what is none. */
function address(text: string | undefined): string | null {
  const bare = (text ?? "")
    .trim()
    .replace(/^\[(.*)\](:\d+)?$|^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1$3")
    .replace(/%.*$/, "")
    .replace(/^::ffff:(?=\d+\.)/i, "");
  return isIP(bare) ? bare : null;
}
