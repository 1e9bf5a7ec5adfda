// IDX files: every element type, gzipped or not; whatever is wrong is said with its place.
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import { parseIdx, readIdx } from '../../src/interface/data/idx.ts';
import { Mutator } from './mutate.ts';

/** An IDX file of `code` with `shape` and the given data bytes. */
function idx(code: number, shape: number[], data: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * shape.length + data.length);
  bytes.set([0, 0, code, shape.length]);
  const view = new DataView(bytes.buffer);
  shape.forEach((size, axis) => view.setUint32(4 + 4 * axis, size));
  bytes.set(data, 4 + 4 * shape.length);
  return bytes;
}

async function errorOf(bytes: Uint8Array): Promise<FormatError> {
  const error = await readIdx(bytes).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(FormatError);
  return error as FormatError;
}

describe('element types', () => {
  it.each([
    ['uint8', 0x08, [1, 255], Uint8Array.of(1, 255)],
    ['int8', 0x09, [1, 255], Int8Array.of(1, -1)],
    ['int16', 0x0b, [1, 2, 255, 254], Int16Array.of(258, -2)],
    ['int32', 0x0c, [0, 0, 1, 2, 255, 255, 255, 254], Int32Array.of(258, -2)],
    ['float32', 0x0d, [0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0], Float32Array.of(1, -2)],
    [
      'float64',
      0x0e,
      [0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0],
      Float64Array.of(1, -2),
    ],
  ])('%s, big-endian', async (dtype, code, bytes, values) => {
    const file = idx(code, [2, 1], bytes);
    const expected = { data: values, shape: [2, 1], dtype };
    expect(parseIdx(file)).toEqual(expected);
    expect(await readIdx(file)).toEqual(expected);
    expect(await readIdx(gzipSync(file))).toEqual(expected);
  });

  it('reads an empty array and one of many axes', async () => {
    expect(await readIdx(gzipSync(idx(8, [0, 28, 28], [])))).toMatchObject({ shape: [0, 28, 28] });
    const shape = Array.from({ length: 255 }, () => 1);
    expect(parseIdx(idx(8, shape, [7]))).toMatchObject({ shape, data: Uint8Array.of(7) });
  });

  it('reads unaligned and large files', async () => {
    const data = Uint8Array.from({ length: 1_000_000 }, (_, i) => (i * 31) >> 3);
    const read = await readIdx(gzipSync(idx(8, [1000, 1000], data)));
    expect(Buffer.compare(read.data as Uint8Array, data)).toBe(0);
    const shifted = new Uint8Array(21);
    shifted.set(idx(0x0c, [2], [0, 0, 0, 1, 0, 0, 0, 2]), 3);
    expect(parseIdx(shifted.subarray(3, 19)).data).toEqual(Int32Array.of(1, 2));
  });
});

describe('files that are not right', () => {
  it.each<[string, Uint8Array, RegExp, number]>([
    ['nothing', new Uint8Array(0), /ends inside its header/, 0],
    ['three bytes', Uint8Array.of(0, 0, 8), /ends inside its header/, 3],
    ['half a header', Uint8Array.of(0, 0, 8, 2, 0, 0, 0, 1, 0), /ends inside its header/, 9],
    ['another first byte', Uint8Array.of(1, 0, 8, 1), /two zero bytes/, 0],
    ['another second byte', Uint8Array.of(0, 1, 8, 1), /two zero bytes/, 1],
    ['an unknown type', Uint8Array.of(0, 0, 0x0a, 1), /unknown IDX element type 0x0a/, 2],
    ['no axis', Uint8Array.of(0, 0, 8, 0, 1), /at least one axis/, 3],
    ['too little data', idx(8, [3, 2], [1, 2, 3, 4, 5]), /takes 18 bytes, there are 17/, 17],
    ['too much data', idx(8, [3], [1, 2, 3, 4]), /goes on after its data/, 11],
    ['sizes that overflow', idx(0x0e, [0xffffffff, 0xffffffff], []), /overflows at axis 1/, 8],
  ])('%s', async (_name, bytes, reason, offset) => {
    const plain = await errorOf(bytes);
    expect(plain.message).toMatch(reason);
    expect(plain.offset).toBe(offset);
    const zipped = await errorOf(gzipSync(bytes));
    expect(zipped.message).toMatch(reason);
    expect(zipped.offset).toBe(offset);
  });

  it('a gzip stream cut off or damaged', async () => {
    const data = Uint8Array.from({ length: 300_000 }, (_, i) => Math.imul(i, 2654435761) >>> 24);
    const file = gzipSync(idx(8, [300_000], data));
    const cut = await errorOf(file.subarray(0, file.length >> 1));
    expect(cut.message).toMatch(/damaged or cut off/);
    expect(cut.offset).toBeGreaterThan(0);
    const damaged = file.slice();
    damaged.fill(0xff, 1000, 1100);
    expect((await errorOf(damaged)).message).toMatch(/damaged or cut off|goes on|truncated/);
  });

  it('a bomb: stops at what the header promises', async () => {
    const bomb = gzipSync(idx(8, [1000], new Uint8Array(64 << 20)));
    expect(bomb.length).toBeLessThan(100_000);
    const before = process.memoryUsage().arrayBuffers;
    const start = performance.now();
    const error = await errorOf(bomb);
    expect(error.message).toMatch(/goes on after its data/);
    expect(error.offset).toBe(1008);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 << 20);
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it('a header that promises what no gzip file of this size can hold', async () => {
    const before = process.memoryUsage().arrayBuffers;
    const error = await errorOf(gzipSync(idx(8, [0x7fffffff], new Uint8Array(1000))));
    expect(error.message).toMatch(/truncated IDX file: \[2147483647\]/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });
});

describe('IDX under mutation', () => {
  const valid = idx(
    8,
    [4, 3, 3],
    Uint8Array.from({ length: 36 }, (_, i) => i),
  );

  it('10,000 mutations parse or give FormatError', () => {
    const mutator = new Mutator(1998);
    let accepted = 0;
    for (let round = 0; round < 10_000; round++) {
      const bytes = mutator.mutate(valid);
      try {
        const { data } = parseIdx(bytes);
        expect(data.byteLength).toBeLessThan(bytes.byteLength);
        accepted++;
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        expect(error.offset).toBeLessThanOrEqual(bytes.byteLength);
      }
    }
    expect(accepted).toBeGreaterThan(100);
    expect(accepted).toBeLessThan(9000);
  });

  it('1,000 mutations of a gzipped file parse or give FormatError', async () => {
    const mutator = new Mutator(2026);
    const zipped = gzipSync(valid);
    let refused = 0;
    for (let round = 0; round < 1000; round++) {
      await readIdx(mutator.mutate(zipped)).catch((error: unknown) => {
        if (!(error instanceof FormatError)) throw error;
        refused++;
      });
    }
    expect(refused).toBeGreaterThan(500);
  });
});
