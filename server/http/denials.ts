import type { Pool } from "pg";
import type { Logger } from "pino";
import { envText } from "./env.ts";
import type { Request } from "./request.ts";

/** What was said to who was refused. */
export type Denial = { status: number; code: string; reason: string };

type Noted = Denial & Record<string, unknown> & { not_recorded: number };

const windowMs = 1_000;
const perSite = 10; // a window
const mostSites = 100; // a window: who names sites at random is counted together

/**
 * Refused requests (401, 403, and 429 for guessing), for the audit log: written a second later in a transaction of their own, so that no answer
 * waits. Of more than 10 a second for one site the rest is only counted. What a killed process had not written is lost.
 */
export class Denials {
  readonly #pool: Pool;
  readonly #log: Logger;
  readonly #sites = new Map<string, Noted[]>();
  #timer: NodeJS.Timeout | null = null;

  constructor(pool: Pool, log: Logger) {
    this.#pool = pool;
    this.#log = log;
  }

  note(request: Request, denial: Denial): void {
    const { status, code } = denial;
    if (status !== 401 && status !== 403 && code !== "too_many_guesses") return;
    const named = request.site ?? "";
    const site = this.#sites.has(named) || this.#sites.size < mostSites ? named : "";
    const noted = this.#sites.get(site) ?? [];
    this.#sites.set(site, noted);
    const last = noted.at(-1);
    if (last && noted.length >= perSite) {
      last.not_recorded++;
      return;
    }
    noted.push({
      ...denial,
      at: new Date().toISOString(),
      site: request.site,
      app: request.app,
      account: request.claims?.sub ?? null,
      env: JSON.parse(envText(request.env, request.claims?.sid ?? null)) as unknown,
      method: request.method,
      path: request.path.slice(0, 300).replaceAll("\0", ""),
      not_recorded: 0,
    });
    this.#timer ??= setTimeout(() => void this.flush(), windowMs).unref();
  }

  /** Writes what waits. */
  async flush(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const waiting = [...this.#sites.values()].flat();
    this.#sites.clear();
    if (waiting.length === 0) return;
    await this.#pool
      .query("select audit.note_denied($1::jsonb)", [JSON.stringify(waiting)])
      .catch((error: Error) =>
        this.#log.error(
          { message: error.message, denials: waiting.length },
          "Refused requests could not be put into the audit log",
        ),
      );
  }
}
