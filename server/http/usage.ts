import type { Pool } from "pg";
import type { Logger } from "pino";
import type { Operation } from "./plan.ts";
import type { Caller } from "./query.ts";

type Used = {
  app: string;
  entity: string;
  operation: Counted;
  account: string;
  env: string;
  requests: number;
};

/** The words of data.compile, and what it does not compile. */
export type Counted = Operation | "export";

const mostKept = 20_000; // accounts × entities × operations in a window, about 5 MB; what is more is not counted
const perCall = 500;

/**
 * Counts requests for access.usage, in memory: 0.26 µs each. Which actions they were and which rules
 * concerned them is worked out in SQL, once a window;
 * what a killed process had not told is lost.
 */
export class Usage {
  readonly #pool: Pool;
  readonly #log: Logger;
  readonly #window: number;
  #counts = new Map<string, Used>();
  #timer: NodeJS.Timeout | null = null;

  /** `window` in seconds; 0 counts nothing. */
  constructor(pool: Pool, log: Logger, window: number) {
    this.#pool = pool;
    this.#log = log;
    this.#window = window;
  }

  /** `app`: its id, or site/app as a request names them. */
  note(
    app: string,
    entity: string,
    operation: Counted,
    { account, env }: Pick<Caller, "account" | "env">,
  ): void {
    if (this.#window === 0 || account === null) return;
    const key = `${account} ${app} ${operation} ${entity}`;
    const used = this.#counts.get(key);
    if (used) used.requests++;
    else if (this.#counts.size < mostKept)
      this.#counts.set(key, { app, entity, operation, account, env, requests: 1 });
    this.#timer ??= setTimeout(() => void this.flush(), this.#window * 1_000).unref();
  }

  /** Tells what was counted. */
  async flush(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const counts = [...this.#counts.values()];
    this.#counts = new Map();
    try {
      for (let from = 0; from < counts.length; from += perCall)
        await this.#pool.query("select access.note_used($1::jsonb)", [
          JSON.stringify(counts.slice(from, from + perCall)),
        ]);
    } catch (error) {
      this.#log.error({ message: (error as Error).message }, "The use of access rules could not be counted");
    }
  }
}
