// The plan cache: whole keys are compared, the least recently used entry goes first.
import { describe, expect, test } from 'vitest';
import { PlanCache } from '../../src/compile/cache.ts';
import { hashWords } from '../../src/base/hash.ts';

const words = (...numbers: number[]): Int32Array => Int32Array.from(numbers);

describe('PlanCache', () => {
  test('finds what was inserted, by the first words only', () => {
    const cache = new PlanCache<string>(4);
    const key = words(1, 2, 3);
    expect(cache.lookup(key, 3)).toBeUndefined();
    cache.insert(key, 3, 'a');
    key[0] = 9;
    expect(cache.lookup(words(1, 2, 3, 4), 3)).toBe('a');
    expect(cache.lookup(words(1, 2, 3, 4), 4)).toBeUndefined();
    expect(cache.counters).toEqual({ hits: 1, misses: 2, compileMs: 0 });
  });

  test('keys with equal hashes stay apart', () => {
    // FNV multiplies by an odd number: for every first word there is a second one that collides.
    const a = words(1, 7);
    const target = hashWords(a, 2);
    const prime = 0x01000193;
    let inverse = 1;
    for (let i = 0; i < 5; i++) inverse = Math.imul(inverse, 2 - Math.imul(prime, inverse));
    const second = Math.imul(target, inverse) ^ Math.imul(0x811c9dc5 ^ 2, prime);
    const b = words(2, second);
    expect(hashWords(b, 2)).toBe(target);
    const cache = new PlanCache<string>(4);
    cache.insert(a, 2, 'a');
    expect(cache.lookup(b, 2)).toBeUndefined();
    cache.insert(b, 2, 'b');
    expect([cache.lookup(a, 2), cache.lookup(b, 2)]).toEqual(['a', 'b']);
    cache.insert(a, 2, 'c');
    expect([cache.lookup(a, 2), cache.lookup(b, 2), cache.size]).toEqual(['c', 'b', 2]);
  });

  test('drops the least recently used, and says so', () => {
    const dropped: string[] = [];
    const cache = new PlanCache<string>(2, (value) => dropped.push(value));
    cache.insert(words(1), 1, 'a');
    cache.insert(words(2), 1, 'b');
    expect(cache.lookup(words(1), 1)).toBe('a');
    cache.insert(words(3), 1, 'c');
    expect(dropped).toEqual(['b']);
    expect(cache.lookup(words(2), 1)).toBeUndefined();
    cache.clear();
    expect(dropped).toEqual(['b', 'a', 'c']);
    expect(cache.size).toBe(0);
  });

  test('a thousand keys in a cache of ten', () => {
    const cache = new PlanCache<number>(10);
    for (let i = 0; i < 1000; i++) cache.insert(words(i, i * i), 2, i);
    expect(cache.size).toBe(10);
    for (let i = 0; i < 1000; i++) {
      expect(cache.lookup(words(i, i * i), 2)).toBe(i < 990 ? undefined : i);
    }
  });
});
