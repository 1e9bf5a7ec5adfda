// Ten thousand damaged files of each format: each still loads, or is a FormatError - no crash, hang or bloat.
import '../../src/index.ts';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import { GgufFile } from '../../src/interface/io/gguf.ts';
import { NpzFile, parseNpy } from '../../src/interface/io/npy.ts';
import { PtFile } from '../../src/interface/io/pt.ts';
import { ShardedFile } from '../../src/interface/io/sharded.ts';
import { serialize } from '../../src/interface/io/checkpoint.ts';
import type { WeightsFile } from '../../src/interface/io/weights-file.ts';
import { tensor } from '../../src/interface/tensor/index.ts';
import { Mutator } from '../data/mutate.ts';
import { readFixture } from './fixtures.ts';

const MUTATIONS = 10_000;

/** Views may overlap up to this, and blocks of two bits grow to floats. */
const MAX_BYTES = 1 << 27;

/** Reads all of a file. Returns whether that went well; errors other than FormatError are thrown. */
async function readsAll(open: () => Promise<WeightsFile>, fileSize: number): Promise<boolean> {
  try {
    const file = await open();
    let bytes = 0;
    for (const name of file.tensors.keys()) bytes += (await file.read(name)).data.byteLength;
    expect(bytes).toBeLessThan(MAX_BYTES);
    return true;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    expect(error.message).not.toMatch(/internal:/);
    if (error.offset !== undefined) {
      expect(error.offset).toBeGreaterThanOrEqual(0);
      expect(error.offset).toBeLessThanOrEqual(fileSize);
    }
    return false;
  }
}

const openers: readonly [string, (bytes: Uint8Array) => Promise<WeightsFile>][] = [
  ['state.pt', (bytes) => PtFile.open(bytes)],
  ['state-legacy.pt', (bytes) => PtFile.open(bytes)],
  ['arrays.npz', (bytes) => NpzFile.open(bytes)],
  ['tensors.gguf', (bytes) => GgufFile.open(bytes)],
];

describe('files under mutation', () => {
  it.each(openers)(`${MUTATIONS} mutations of %s`, async (name, open) => {
    const valid = readFixture(name);
    const mutator = new Mutator(20_27);
    let accepted = 0;
    let slowest = 0;
    for (let round = 0; round < MUTATIONS; round++) {
      const file = mutator.mutate(valid);
      const start = performance.now();
      if (await readsAll(() => open(file), file.length)) accepted++;
      slowest = Math.max(slowest, performance.now() - start);
    }
    // Damage to values goes unseen, damage to structure must not: both must occur.
    expect(accepted).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(MUTATIONS);
    expect(slowest).toBeLessThan(5000);
  });

  it(`${MUTATIONS} mutations of a pickle inside its archive are looked at`, async () => {
    // Most damage to an archive hits its directory: here the pickle alone is damaged, in its place.
    const valid = readFixture('state.pt');
    const start = Buffer.from(valid).indexOf('PK\x03\x04') + 64;
    const end = Buffer.from(valid).indexOf('PK\x03\x04', start);
    const mutator = new Mutator(7);
    let accepted = 0;
    for (let round = 0; round < MUTATIONS; round++) {
      const part = mutator.mutate(valid.subarray(start, end)).subarray(0, end - start);
      const file = valid.slice();
      file.set(part, start);
      if (await readsAll(() => PtFile.open(file), file.length)) accepted++;
    }
    expect(accepted).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(MUTATIONS);
  });

  it(`${MUTATIONS} mutations of a .npy file`, () => {
    const valid = readFixture('version2.npy');
    const mutator = new Mutator(3);
    let accepted = 0;
    for (let round = 0; round < MUTATIONS; round++) {
      const file = mutator.mutate(valid);
      try {
        expect(parseNpy(file).data.byteLength).toBeLessThanOrEqual(2 * file.length);
        accepted++;
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
    }
    expect(accepted).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(MUTATIONS);
  });

  it('2,000 mutations of a compressed archive', async () => {
    // Each starts several decompressors of the platform, which is slow.
    const valid = readFixture('arrays-compressed.npz');
    const mutator = new Mutator(5);
    let accepted = 0;
    for (let round = 0; round < 2000; round++) {
      const file = mutator.mutate(valid);
      if (await readsAll(() => NpzFile.open(file), file.length)) accepted++;
    }
    expect(accepted).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(2000);
  });

  it(`${MUTATIONS} mutations of an index`, async () => {
    const shard = await serialize({ a: tensor([1]), b: tensor([2]) });
    const text =
      '{"metadata": {"total_size": 8}, "weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}';
    const valid = new TextEncoder().encode(text);
    const mutator = new Mutator(9);
    const asked = new Set<string>();
    for (let round = 0; round < MUTATIONS; round++) {
      const file = mutator.mutate(valid);
      const shards = (name: string): Uint8Array => {
        asked.add(name);
        return shard;
      };
      await readsAll(
        () => ShardedFile.open(file, { shard: shards }),
        Math.max(file.length, shard.length),
      );
    }
    expect(asked.size).toBeGreaterThan(2);
    for (const name of asked) expect(name).not.toMatch(/\.\.(\/|$)|^\/|[\\:\0]/);
  });
});
