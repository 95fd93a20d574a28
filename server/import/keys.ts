const FIRST = 1024; // places

let remembered = 0;

/** A set of texts by 64 bits of hash: at a million, one in 40 million such sets takes two for the same. */
export class KeySet {
  /** How many values all sets together remember, in about 16 bytes each. */
  static limit = 8_000_000;
  #places = new Uint32Array(2 * FIRST);
  #counts: Uint32Array | undefined;
  #size = 0;
  /** Whether there were too many to remember all: has says true for those it does not know. */
  isFull = false;

  /** `counts` when add is to say how often a text was there. */
  constructor(counts = false) {
    if (counts) this.#counts = new Uint32Array(FIRST);
  }

  get size(): number {
    return this.#size;
  }

  /** Adds a text and returns how often it was there before; without counts 1 stands for any number. */
  add(text: string): number {
    const [place, isNew] = this.#find(text);
    const before = isNew ? 0 : (this.#counts?.[place] ?? 1);
    if (isNew && this.isFull) return 0;
    if (isNew) this.#insert(place);
    if (this.#counts) this.#counts[place] = before + 1;
    if (isNew && this.#size * 5 > this.#places.length * 1.5) this.#grow();
    return before;
  }

  has(text: string): boolean {
    return this.isFull || !this.#find(text)[1];
  }

  /** Makes room for other sets. */
  forget(): void {
    remembered -= this.#size;
    this.#places = new Uint32Array(2);
    this.#size = 0;
  }

  #insert(place: number): void {
    this.#places[2 * place] = low;
    this.#places[2 * place + 1] = high;
    this.#size++;
    remembered++;
    if (remembered >= KeySet.limit) this.isFull = true;
  }

  #find(text: string): [number, boolean] {
    hash(text);
    const mask = this.#places.length / 2 - 1;
    for (let place = low & mask; ; place = (place + 1) & mask) {
      const [a, b] = [this.#places[2 * place], this.#places[2 * place + 1]];
      if (a === 0 && b === 0) return [place, true];
      if (a === low && b === high) return [place, false];
    }
  }

  #grow(): void {
    const [old, counts] = [this.#places, this.#counts];
    this.#places = new Uint32Array(old.length * 2);
    if (counts) this.#counts = new Uint32Array(counts.length * 2);
    const mask = old.length - 1;
    for (let from = 0; from < old.length; from += 2) {
      const [a, b] = [old[from] as number, old[from + 1] as number];
      if (a === 0 && b === 0) continue;
      let place = a & mask;
      while (this.#places[2 * place] !== 0 || this.#places[2 * place + 1] !== 0) place = (place + 1) & mask;
      this.#places[2 * place] = a;
      this.#places[2 * place + 1] = b;
      if (counts && this.#counts) this.#counts[place] = counts[from / 2] as number;
    }
  }
}

let low = 0;
let high = 0;

// cyrb53's two halves, whole.
function hash(text: string): void {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (let n = 0; n < text.length; n++) {
    const code = text.charCodeAt(n);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  low = a >>> 0;
  high = (b | 1) >>> 0; // never both 0: a free place
}
