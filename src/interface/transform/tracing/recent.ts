// A map that forgets what was used longest ago, and counts that.

export class Recent<V> {
  readonly #entries = new Map<string, V>();
  readonly #size: number;
  evictions = 0;

  constructor(size: number) {
    this.#size = size;
  }

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
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

  clear(): void {
    this.#entries.clear();
  }
}
