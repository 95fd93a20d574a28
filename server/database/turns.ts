import { availableParallelism } from "node:os";

// Twenty backends at once on two cores took 112 µs of CPU for a read by id and 290 for a page of 20, six of them 91 and 229:
// they push each other out of the caches. Only for reads: commits of many connections share their writes to the disk.

const perCore = 3;
const period = 10; // ms; a statement counts as short for one to two of them

type Run = (end: () => void) => void;

/** Lets few statements run at once while they are short. Nobody waits more than 20 ms for slow ones. */
export class Turns {
  readonly #atOnce: number;
  readonly #waiting: Run[] = [];
  #now = 0;
  /** Statements under way that began in this period, and in the one before. */
  #young = 0;
  #older = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(atOnce: number = perCore * availableParallelism()) {
    this.#atOnce = atOnce;
  }

  /** Calls `run` when it is its turn; that calls `end` once. */
  take(run: Run): void {
    if (this.#young + this.#older < this.#atOnce) {
      this.#start(run);
      return;
    }
    this.#waiting.push(run);
    this.#timer ??= setInterval(() => this.#tick(), period);
  }

  #start(run: Run): void {
    const began = this.#now;
    this.#young++;
    run(() => this.#end(began));
  }

  #end(began: number): void {
    if (began === this.#now) this.#young--;
    else if (began === this.#now - 1) this.#older--;
    this.#startWaiting();
  }

  #startWaiting(): void {
    while (this.#young + this.#older < this.#atOnce) {
      const next = this.#waiting.shift();
      if (!next) return;
      this.#start(next);
    }
  }

  #tick(): void {
    this.#now++;
    this.#older = this.#young;
    this.#young = 0;
    this.#startWaiting();
    if (this.#waiting.length > 0 || !this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}
