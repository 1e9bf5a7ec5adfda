// Calls through FFI, and addresses of memory that V8 owns.
import { afterAll, describe, expect, it } from 'vitest';
import {
  allocateAligned,
  findForeign,
  requireForeign,
  selectForeign,
} from '../../src/backends/native/foreign.ts';
import { missingTools } from '../../src/backends/native/compile-cache.ts';
import type { CUnit } from '../../src/backends/native/units.ts';
import { openCache, temporaryFolder } from './support.ts';

const missing = missingTools() ?? undefined;

const UNIT: CUnit = {
  declarations: ['#include <stdint.h>', '#include <unistd.h>', '#include <string.h>'],
  definition: `
    int first(void* p) { return *(int*)p; }
    void put(void* p, int x) { *(int*)p = x; }
    uintptr_t same(void* p) { return (uintptr_t)p; }
    double half(double x) { return x / 2; }
    unsigned top(void) { return 0xffffffffu; }
    int is_big(int64_t x) { return x == INT64_C(1) << 52; }
    int wait_a_bit(void* p) { usleep(20000); return *(int*)p; }`,
  exports: ['first', 'put', 'same', 'half', 'top', 'is_big', 'wait_a_bit'],
};

describe('the choice of a provider', () => {
  it('is the first that works, or all reasons in one line', () => {
    const nothing = { name: 'a', load: () => 'not here' };
    const elsewhere = { name: 'c', load: () => undefined };
    expect(selectForeign([nothing, elsewhere, { name: 'b', load: () => 'nor here' }])).toBe(
      'shared libraries cannot be called (a: not here; b: nor here)',
    );
  });

  it.skipIf(missing !== undefined)(`finds koffi ${missing ?? ''}`, () => {
    const foreign = requireForeign();
    expect(foreign.name).toMatch(/^koffi 3\./);
    expect(findForeign()).toBe(foreign);
    expect(
      selectForeign([
        { name: 'a', load: () => 'no' },
        { name: 'b', load: () => foreign },
      ]),
    ).toBe(foreign);
  });
});

describe.skipIf(missing !== undefined)(`calls ${missing ?? ''}`, () => {
  const foreign = missing === undefined ? requireForeign() : undefined;
  const loader = foreign as NonNullable<typeof foreign>;
  const folder = temporaryFolder();
  const unit = () => {
    const [loaded] = openCache(folder).cache.load([UNIT]);
    if (loaded === undefined) throw new Error('nothing was loaded');
    return loaded;
  };
  const kept: ArrayBuffer[] = [];
  afterAll(() => kept.splice(0));

  it('pass numbers of every type, and bring them back', () => {
    const u = unit();
    expect(u.function('half', { parameters: ['f64'], result: 'f64' })(5)).toBe(2.5);
    expect(u.function('top', { parameters: [], result: 'u32' })()).toBe(4294967295);
    const isBig = u.function('is_big', { parameters: ['i64'], result: 'i32' });
    expect([isBig(2 ** 52), isBig(2n ** 52n), isBig(1)]).toEqual([1, 1, 0]);
  });

  it('pass buffers, views and addresses as the same place', () => {
    const u = unit();
    const buffer = new ArrayBuffer(64);
    const address = loader.addressOf(buffer);
    const same = u.function('same', { parameters: ['buffer'], result: 'address' });
    expect(same(buffer)).toBe(address);
    expect(same(new Uint8Array(buffer, 8))).toBe(address + 8);
    expect(same(null)).toBe(0);
    const put = u.function('put', { parameters: ['address', 'i32'], result: 'void' });
    expect(put(address + 4, -7)).toBeUndefined();
    expect(new Int32Array(buffer)[1]).toBe(-7);
    expect(loader.addressOf(new ArrayBuffer(0))).toBe(0);
    const shared = new SharedArrayBuffer(16);
    put(loader.addressOf(shared) + 8, 9);
    expect(new Int32Array(shared)[2]).toBe(9);
  });

  it('know where functions are', () => {
    const u = unit();
    const half = loader.functionAt(u.address('half'), { parameters: ['f64'], result: 'f64' });
    expect(half(3)).toBe(1.5);
    expect(() => u.address('nothing')).toThrow('exports first, put');
    expect(() => loader.open('/nonexistent/library.so')).toThrow('cannot load /nonexistent');
  });

  it('run beside the event loop', async () => {
    const buffer = new ArrayBuffer(64);
    new Int32Array(buffer)[0] = 42;
    const signature = { parameters: ['address'], result: 'i32' } as const;
    const slow = loader.asyncFunctionAt(unit().address('wait_a_bit'), signature);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const values = await Promise.all([
      slow(loader.addressOf(buffer)),
      slow(loader.addressOf(buffer)),
    ]);
    clearInterval(timer);
    expect(values).toEqual([42, 42]);
    expect(ticks).toBeGreaterThan(2);
  });

  it('find aligned memory', () => {
    for (const [bytes, cleared] of [
      [0, true],
      [1, false],
      [1000, true],
      [5_000_000, false],
    ] as const) {
      const memory = allocateAligned(loader, bytes, { cleared });
      expect(memory.address % 64).toBe(0);
      expect(memory.byteOffset + bytes).toBeLessThanOrEqual(memory.buffer.byteLength);
      expect(loader.addressOf(memory.buffer) + memory.byteOffset).toBe(memory.address);
    }
  });

  it('find code after its library was let go', () => {
    const { gc } = globalThis;
    if (gc === undefined) throw new Error('run with --expose-gc, as vitest.config.ts says');
    const address = unit().address('half');
    for (let round = 0; round < 3; round++) gc();
    expect(loader.functionAt(address, { parameters: ['f64'], result: 'f64' })(7)).toBe(3.5);
  });

  it('find bytes where they were, after garbage collections', () => {
    const { gc } = globalThis;
    if (gc === undefined) throw new Error('run with --expose-gc, as vitest.config.ts says');
    const first = unit().function('first', { parameters: ['address'], result: 'i32' });
    // Small ones too, and one taken from a view: V8 keeps small views in its moving heap at first.
    const buffers = [4, 64, 4096, 10_000_000].map((bytes) => new ArrayBuffer(bytes));
    buffers.push(new Int32Array(4).buffer);
    const addresses = buffers.map((buffer, i) => {
      new Int32Array(buffer)[0] = 1000 + i;
      return loader.addressOf(buffer);
    });
    for (let round = 0; round < 5; round++) {
      kept.push(...Array.from({ length: 2000 }, () => new Int32Array(16).buffer));
      kept.splice(0, 1000);
      // Young objects move twice before they are old; a full collection may compact the old ones.
      gc({ type: 'minor' });
      gc();
    }
    expect(addresses.map((address) => first(address))).toEqual([1000, 1001, 1002, 1003, 1004]);
    expect(buffers.map((buffer) => loader.addressOf(buffer))).toEqual(addresses);
  });
});
