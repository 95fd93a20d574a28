import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import type { Claims } from "./context.ts";
import { Problem, unauthenticated } from "./problem.ts";

/** A site and an app, each by name or UUID; the site may be missing when the app is a UUID. */
export type Tenant = { site: string | null; app: string };

/** One place of a request that names a tenant, and how to speak of it. */
type Source = { site: string | null; app: string | null; says: string };

const uuid = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
const rememberedFor = 5_000; // ms; a domain or a name that moves is followed after that

/** Finds the tenant of a request by path, by X-Tenant-ID and X-App-ID, and by host. */
export class Tenants {
  readonly #pool: Pool;
  readonly #baseDomain: string | null;
  readonly #hosts = new LRUCache<string, string>({ max: 5_000, ttl: rememberedFor });
  /** The last Host header seen that names no tenant, as most requests send the same. */
  #silentHost: string | undefined;
  readonly #ids = new LRUCache<string, string>({ max: 5_000, ttl: rememberedFor });

  /** `baseDomain`: the domain of which `acme.<baseDomain>` is the site acme; empty for none. */
  constructor(pool: Pool, baseDomain: string) {
    this.#pool = pool;
    this.#baseDomain = baseDomain.toLowerCase() || null;
  }

  /** `path` is what the path says, if it names a tenant. Throws a 400 Problem when sources are missing or disagree. */
  find(path: Tenant | null, headers: IncomingHttpHeaders, claims: Claims | null): Tenant | Promise<Tenant> {
    const onlyPath = headers["x-tenant-id"] === undefined && headers["x-app-id"] === undefined;
    if (path && onlyPath && headers.host === this.#silentHost) return path;
    return this.#findAmong(path, headers, claims);
  }

  async #findAmong(
    path: Tenant | null,
    headers: IncomingHttpHeaders,
    claims: Claims | null,
  ): Promise<Tenant> {
    const sources: Source[] = [];
    if (path) sources.push({ ...path, says: `the path says ${quoted(`${path.site}/${path.app}`)}` });
    sources.push(...headerSources(headers));
    const host = await this.#hostSource(headers.host);
    if (host) sources.push(host);

    const sites = sources.flatMap((source) => source.site ?? []);
    const apps = sources.flatMap((source) => source.app ?? []);
    const site = sites[0] ?? null;
    const app = apps[0];
    if (app === undefined || (site === null && !uuid.test(app))) throw incomplete(app === undefined);
    const sameText = sites.every((other) => other === site) && apps.every((other) => other === app);
    if (sources.length === 1 || (sameText && !(uuid.test(app) && site !== null))) return { site, app };

    if (!claims) throw unauthenticated();
    const addresses = sources.map((source) => ({
      site: source.site ?? (source.app !== null && uuid.test(source.app) ? null : site),
      app: source.app ?? app,
    }));
    const ids = await Promise.all(addresses.map((address) => this.#idsOf(address, claims)));
    if (ids[0] === "" || ids.some((other) => other !== ids[0])) throw disagreement(sources);
    return { site, app };
  }

  /** The ids of a site and an app as this account sees them: unknown and hidden look the same, an empty text. */
  async #idsOf(address: Tenant, claims: Claims): Promise<string> {
    const key = JSON.stringify([claims.sub, address.site, address.app]);
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const ids = await this.#pool
      .query<{ ids: string }>(
        `select concat(r.site_id, '/', r.app_id) as ids from tenancy.open_request($1::uuid, $2::uuid, $3, $4) r`,
        [claims.sid, claims.sub, address.site, address.app],
      )
      .then(
        (result) => result.rows[0]?.ids ?? "",
        (error: { code?: string }) => {
          if (error.code === "RH404") return "";
          throw error;
        },
      );
    this.#ids.set(key, ids);
    return ids;
  }

  async #hostSource(header: string | undefined): Promise<Source | null> {
    const host = header?.replace(/:\d+$/, "").replace(/\.$/, "").toLowerCase();
    if (!host || host === "localhost" || host === this.#baseDomain || isIP(host.replace(/^\[|\]$/g, ""))) {
      this.#silentHost = header;
      return null;
    }
    const says = `the host name says ${quoted(host)}`;
    if (this.#baseDomain && host.endsWith(`.${this.#baseDomain}`)) {
      return { site: host.slice(0, -this.#baseDomain.length - 1), app: null, says };
    }
    const [site, app] = (await this.#siteOfHost(host)).split("/");
    return site ? { site, app: app ?? null, says } : null;
  }

  async #siteOfHost(host: string): Promise<string> {
    const known = this.#hosts.get(host);
    if (known !== undefined) return known;
    const result = await this.#pool.query<{ site: string | null }>(
      "select tenancy.site_of_host($1) as site",
      [host],
    );
    const site = result.rows[0]?.site ?? "";
    this.#hosts.set(host, site);
    return site;
  }

  /** What path and host say about an app without asking who asks: for CORS, where a preflight has no token. */
  async findUnasked(path: Tenant | null, headers: IncomingHttpHeaders): Promise<Tenant | null> {
    if (path) return path;
    const sources = [...headerSources(headers), (await this.#hostSource(headers.host)) ?? []].flat();
    const site = sources.find((source) => source.site !== null)?.site ?? null;
    const app = sources.find((source) => source.app !== null)?.app;
    return app ? { site, app } : null;
  }
}

function headerSources(headers: IncomingHttpHeaders): Source[] {
  const sources: Source[] = [];
  const tenantId = headers["x-tenant-id"];
  const appId = headers["x-app-id"];
  if (typeof tenantId === "string" && tenantId !== "") {
    sources.push({ site: tenantId, app: null, says: `X-Tenant-ID says ${quoted(tenantId)}` });
  }
  if (typeof appId === "string" && appId !== "") {
    const slash = appId.indexOf("/");
    sources.push({
      site: slash < 0 ? null : appId.slice(0, slash),
      app: appId.slice(slash + 1),
      says: `X-App-ID says ${quoted(appId)}`,
    });
  }
  return sources;
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function incomplete(appIsMissing: boolean): Problem {
  return new Problem(
    400,
    appIsMissing
      ? "The request does not say which app it is for"
      : "The request does not say which site it is for",
    {
      code: "tenant_missing",
      hint: "Use /api/v1/sites/{site}/apps/{app}/…, or the headers X-Tenant-ID and X-App-ID (X-App-ID alone when it is a UUID or site/app).",
    },
  );
}

function disagreement(sources: Source[]): Problem {
  return new Problem(
    400,
    `The request names more than one app: ${sources.map((source) => source.says).join(", ")}`,
    {
      code: "tenant_mismatch",
      hint: "Name the site and the app once, or the same everywhere.",
    },
  );
}
