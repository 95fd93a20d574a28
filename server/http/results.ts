import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";

/** What was answered: JSON text and its ETag. */
export type Result = { text: string; etag: string };

const overhead = 300; // bytes of an entry beside its text: key, ETag, the cache's own

/**
 * Results of reads of entities with x-cache-ttl. What a result belongs to is said by SQL at every request: a text that
 * changes with the reader's rights and with the records (data.with_cache), so nothing here has to be thrown away in time.
 */
export class Results {
  readonly #kept: LRUCache<string, Result> | null;

  /** `size` in bytes; 0 keeps nothing. */
  constructor(size: number) {
    this.#kept =
      size === 0
        ? null
        : new LRUCache({
            maxSize: size,
            maxEntrySize: Math.ceil(size / 4),
            // Texts that are not Latin-1 take two bytes a character.
            sizeCalculation: ({ text }) => 2 * text.length + overhead,
          });
  }

  get isOn(): boolean {
    return this.#kept !== null;
  }

  /** The name of a result: the app's definition, what SQL says of rights and records, the operation with its values. */
  nameOf(parts: readonly unknown[]): string {
    return hash("sha256", JSON.stringify(parts), "base64url");
  }

  get(name: string): Result | undefined {
    return this.#kept?.get(name);
  }

  /** `ttl` in seconds. */
  keep(name: string, result: Result, ttl: number): void {
    this.#kept?.set(name, result, { ttl: ttl * 1_000 });
  }
}
