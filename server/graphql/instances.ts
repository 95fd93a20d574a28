import { LRUCache } from "lru-cache";
import type { Pool } from "pg";
import type { Logger } from "pino";
import { Problem } from "../http/problem.ts";
import { allows } from "./allows.ts";
import { batches } from "./batches.ts";
import { Endpoint } from "./endpoint.ts";
import { estimates } from "./estimates.ts";
import { keptLists } from "./kept.ts";
import { keptOperations } from "./kept-operations.ts";
import type { Limits } from "./limits.ts";
import { noted, notedViews } from "./noted.ts";
import { relatedOrder } from "./related-order.ts";
import { buildSchema } from "./schema.ts";
import { search } from "./search.ts";
import { maskableEntities, seen } from "./seen.ts";
import { sort } from "./sort.ts";
import { transaction } from "./transaction.ts";
import { unions } from "./unions.ts";
import { usedEntities } from "./used.ts";

/** An app as tenancy.open_request describes it. */
export type App = {
  app_id: string;
  app_name: string;
  site_name: string;
  schema_name: string;
  definition_version: string;
};

type Instance = { version: bigint; endpoint: Endpoint };
type Failure = { version: bigint; retryAt: number };

const RETRY_MS = 5_000; // a definition that could not be built is not tried again at every request
const HEAP_PER_APP = 5; // MB, measured
const HEAP_SHARE = 0.5; // of what Node may use

/**
 * The GraphQL endpoints of apps: built on first use, one at a time (a build keeps the event loop busy for 150 ms), and
 * replaced when the definition changed, but only by one that could be built. What is no longer referenced, by this
 * cache or a running request, is garbage: an endpoint holds no connection.
 */
export class Instances {
  readonly #pool: Pool;
  readonly #limits: Limits;
  readonly #log: Logger;
  readonly #kept: LRUCache<string, Instance>;
  readonly #building = new Map<string, { version: bigint; built: Promise<Endpoint> }>();
  readonly #failed = new LRUCache<string, Failure>({ max: 1_000 });
  #queue: Promise<unknown> = Promise.resolve();

  constructor(pool: Pool, log: Logger, limits: Limits, apps: number, heapLimitMegabytes: number) {
    this.#pool = pool;
    this.#limits = limits;
    this.#log = log;
    const fit = Math.max(1, Math.floor((heapLimitMegabytes * HEAP_SHARE) / HEAP_PER_APP));
    this.#kept = new LRUCache({ max: Math.min(apps, fit) });
  }

  /** The endpoint of the app's current definition; the last good one when that cannot be built. Throws a 503 Problem. */
  async of(app: App): Promise<Endpoint> {
    const version = BigInt(app.definition_version);
    const kept = this.#kept.get(app.app_id);
    if (kept && kept.version >= version) return kept.endpoint;
    const failure = this.#failed.get(app.app_id);
    if (failure && failure.version >= version && failure.retryAt > Date.now()) return this.#lastGood(app);
    try {
      return await this.#build(app, version);
    } catch {
      return this.#lastGood(app);
    }
  }

  /** Forgets an app, for example because it was dropped. */
  forget(appId: string): void {
    this.#kept.delete(appId);
    this.#failed.delete(appId);
  }

  /** Whether this process has an endpoint for the app. */
  has(appId: string): boolean {
    return this.#kept.has(appId);
  }

  #lastGood(app: App): Endpoint {
    const kept = this.#kept.get(app.app_id);
    if (kept) return kept.endpoint;
    throw new Problem(503, "The GraphQL schema of this app could not be built", {
      code: "schema_unavailable",
      hint: "REST works; the log says what is wrong with the definition.",
    });
  }

  #build(app: App, version: bigint): Promise<Endpoint> {
    const running = this.#building.get(app.app_id);
    if (running && running.version >= version) return running.built;
    const built = this.#queue.then(() => this.#buildNow(app, version));
    this.#queue = built.catch(() => {});
    const entry = { version, built };
    this.#building.set(app.app_id, entry);
    const done = () => {
      if (this.#building.get(app.app_id) === entry) this.#building.delete(app.app_id);
    };
    built.then(done, done);
    return built;
  }

  async #buildNow(app: App, version: bigint): Promise<Endpoint> {
    const started = performance.now();
    const about = { site: app.site_name, app: app.app_name, definition_version: app.definition_version };
    try {
      const shares = await this.#pool.query<{ view: string }>("select access.graphql_shares($1) as view", [
        app.app_id,
      ]);
      const views = shares.rows.map(({ view }) => view);
      const built = await buildSchema(this.#pool, { schemas: [app.schema_name], views }, [
        ...search(app.app_id),
        batches(app.app_id, this.#limits.ROWHOUSE_GRAPHQL_BATCH),
        keptLists,
        keptOperations(app.app_id),
        relatedOrder,
        sort,
        unions(app.app_id),
        transaction(app.app_id),
        estimates(app.app_id),
        allows(app.app_name),
        usedEntities,
        seen(await maskableEntities(this.#pool, app.app_id)),
        noted(await notedViews(this.#pool, app.app_id)),
      ]);
      const { rows } = await this.#pool.query<{ noted: boolean }>("select audit.notes_reads($1) as noted", [
        app.app_id,
      ]);
      const salt = `${app.app_id}/${version}`;
      const endpoint = new Endpoint(built, this.#pool, this.#limits, salt, rows[0]?.noted);
      const kept = this.#kept.get(app.app_id);
      if (!kept || kept.version <= version) this.#kept.set(app.app_id, { version, endpoint });
      this.#failed.delete(app.app_id);
      this.#log.info(
        { ...about, ms: Math.round(performance.now() - started) },
        "Built an app's GraphQL schema",
      );
      return endpoint;
    } catch (error) {
      this.#failed.set(app.app_id, { version, retryAt: Date.now() + RETRY_MS });
      this.#log.error(
        { ...about, err: error instanceof Error ? { message: error.message, stack: error.stack } : error },
        this.#kept.has(app.app_id)
          ? "An app's GraphQL schema could not be built; the one before keeps serving"
          : "An app's GraphQL schema could not be built",
      );
      throw error;
    }
  }
}
