// A map that forgets what was used longest ago, and counts.

export class Recent<V> {
  readonly #entries = new Map<string, V>();
  readonly #size: number;
  hits = 0;
  misses = 0;
  evictions = 0;

  constructor(size: number) {
    this.#size = size;
  }

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  set(key: string, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    const [oldest] = this.#entries.keys();
    if (this.#entries.size <= this.#size || oldest === undefined) return;
    this.#entries.delete(oldest);
    this.evictions++;
  }

  values(): V[] {
    return [...this.#entries.values()];
  }

  clear(): void {
    this.#entries.clear();
  }
}
