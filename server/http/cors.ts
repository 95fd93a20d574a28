import type { IncomingMessage, ServerResponse } from "node:http";
import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import { headersOf } from "./response.ts";
import type { Tenant } from "./tenant.ts";

const rememberedFor = 5_000; // ms until a changed list of origins is followed

/** Cross-origin access per app: the origins are the app's setting cors.origins, none by default. */
export class Cors {
  readonly #pool: Pool;
  readonly #origins = new LRUCache<string, readonly string[]>({ max: 2_000, ttl: rememberedFor });

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Sets the headers that let a page of an allowed origin read the response. */
  async allow(tenant: Tenant | null, req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { origin } = req.headers;
    if (origin === undefined) return;
    const headers = headersOf(res);
    headers.vary = "Origin";
    if (!tenant) return;
    const origins = await this.#originsOf(tenant);
    if (!origins.includes(origin) && !origins.includes("*")) return;
    headers["access-control-allow-origin"] = origin;
    headers["access-control-expose-headers"] = "ETag, Location, X-Request-Id, Retry-After, X-Cache";
    headers["cross-origin-resource-policy"] = "cross-origin";
    if (req.method !== "OPTIONS") return;
    headers["access-control-allow-methods"] = "GET, HEAD, POST, PUT, PATCH, DELETE";
    headers["access-control-allow-headers"] =
      "Authorization, Content-Type, If-Match, If-None-Match, X-Tenant-ID, X-App-ID, X-Request-Id";
    headers["access-control-max-age"] = "600";
  }

  async #originsOf({ site, app }: Tenant): Promise<readonly string[]> {
    const key = JSON.stringify([site, app]);
    const known = this.#origins.get(key);
    if (known) return known;
    const result = await this.#pool.query<{ origins: string[] | null }>(
      "select tenancy.cors_origins($1, $2) as origins",
      [site, app],
    );
    const origins = result.rows[0]?.origins ?? [];
    this.#origins.set(key, origins);
    return origins;
  }
}
