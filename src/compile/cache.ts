// Finds compiled plans again: a hash finds the bucket, then the whole key is compared.
import { hashWords } from '../base/hash.ts';

export interface CacheCounters {
  hits: number;
  misses: number;
  /** Time that callers reported for filling the cache, in milliseconds. */
  compileMs: number;
}

/** A link of its bucket's chain and of the list by age. */
interface Slot<T> {
  readonly words: Int32Array;
  readonly hash: number;
  readonly value: T;
  nextInBucket: Slot<T> | null;
  older: Slot<T> | null;
  newer: Slot<T> | null;
}

/**
 * Plans by key, the least recently used dropped beyond `limit`. A hit allocates nothing.
 *
 * @example
 * const cache = new PlanCache<string>(64);
 * cache.insert(Int32Array.of(1, 2, 3), 3, 'plan');
 * cache.lookup(Int32Array.of(1, 2, 3, 99), 3); // => 'plan'
 */
export class PlanCache<T> {
  readonly counters: CacheCounters = { hits: 0, misses: 0, compileMs: 0 };
  readonly #limit: number;
  readonly #dropped: ((value: T) => void) | undefined;
  readonly #buckets = new Map<number, Slot<T>>();
  #oldest: Slot<T> | null = null;
  #newest: Slot<T> | null = null;
  #size = 0;

  /** `dropped` is told of every entry that leaves the cache. */
  constructor(limit: number, dropped?: (value: T) => void) {
    this.#limit = Math.max(1, limit);
    this.#dropped = dropped;
  }

  get size(): number {
    return this.#size;
  }

  /** The entry whose key is the first `length` words of `words`. */
  lookup(words: Int32Array, length: number): T | undefined {
    const slot = this.#find(words, length, hashWords(words, length));
    if (slot === null) {
      this.counters.misses++;
      return undefined;
    }
    this.counters.hits++;
    if (slot !== this.#newest) {
      this.#unlink(slot);
      this.#append(slot);
    }
    return slot.value;
  }

  /** Adds an entry, or replaces the one with this key; the words are copied. */
  insert(words: Int32Array, length: number, value: T): void {
    const hash = hashWords(words, length);
    const known = this.#find(words, length, hash);
    if (known !== null) this.#remove(known);
    const slot: Slot<T> = {
      words: words.slice(0, length),
      hash,
      value,
      nextInBucket: this.#buckets.get(hash) ?? null,
      older: null,
      newer: null,
    };
    this.#buckets.set(hash, slot);
    this.#append(slot);
    this.#size++;
    while (this.#size > this.#limit && this.#oldest !== null) this.#remove(this.#oldest);
  }

  /** Drops everything. */
  clear(): void {
    while (this.#oldest !== null) this.#remove(this.#oldest);
  }

  #find(words: Int32Array, length: number, hash: number): Slot<T> | null {
    let slot = this.#buckets.get(hash) ?? null;
    while (slot !== null && !sameWords(slot.words, words, length)) slot = slot.nextInBucket;
    return slot;
  }

  #remove(slot: Slot<T>): void {
    this.#unlink(slot);
    const first = this.#buckets.get(slot.hash) ?? null;
    if (first === slot) {
      if (slot.nextInBucket === null) this.#buckets.delete(slot.hash);
      else this.#buckets.set(slot.hash, slot.nextInBucket);
    } else {
      let before = first;
      while (before !== null && before.nextInBucket !== slot) before = before.nextInBucket;
      if (before !== null) before.nextInBucket = slot.nextInBucket;
    }
    this.#size--;
    this.#dropped?.(slot.value);
  }

  #unlink(slot: Slot<T>): void {
    if (slot.older === null) this.#oldest = slot.newer;
    else slot.older.newer = slot.newer;
    if (slot.newer === null) this.#newest = slot.older;
    else slot.newer.older = slot.older;
    slot.older = null;
    slot.newer = null;
  }

  #append(slot: Slot<T>): void {
    slot.older = this.#newest;
    if (this.#newest === null) this.#oldest = slot;
    else this.#newest.newer = slot;
    this.#newest = slot;
  }
}

function sameWords(known: Int32Array, words: Int32Array, length: number): boolean {
  if (known.length !== length) return false;
  for (let i = 0; i < length; i++) if (known[i] !== words[i]) return false;
  return true;
}
