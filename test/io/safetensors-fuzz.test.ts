// Ten thousand damaged files: each is either still valid or a FormatError - no crash, hang or bloat.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import type { HostArray } from '../../src/interface/io/host-array.ts';
import { parseSafetensors, serializeSafetensors } from '../../src/interface/io/safetensors.ts';
import { Mutator } from '../data/mutate.ts';

const MUTATIONS = 10_000;

/** Parses, and checks that what came out is no bigger than what went in. Returns whether valid. */
function parseOrFormatError(file: Uint8Array): boolean {
  try {
    const { tensors } = parseSafetensors(file);
    let bytes = 0;
    for (const { data } of tensors.values()) bytes += data.byteLength;
    // U16 doubles when it widens; nothing grows more.
    expect(bytes).toBeLessThanOrEqual(2 * file.length);
    return true;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    expect(error.message).not.toMatch(/^internal:/);
    if (error.offset !== undefined) {
      expect(error.offset).toBeGreaterThanOrEqual(0);
      expect(error.offset).toBeLessThanOrEqual(file.length);
    }
    return false;
  }
}

describe('safetensors under mutation', () => {
  it(`${MUTATIONS} mutations of a valid file parse or give FormatError, quickly`, async () => {
    const valid = await serializeSafetensors(
      {
        'conv.weight': {
          data: Float32Array.from({ length: 18 }, (_, i) => i),
          shape: [2, 1, 3, 3],
        },
        'conv.bias': { data: new Uint16Array(2), shape: [2], dtype: 'bfloat16' },
        mask: { data: Uint8Array.of(0, 1, 1), shape: [3], dtype: 'bool' },
        empty: { data: new Int8Array(0), shape: [0, 4] },
      },
      { metadata: { format: 'pt', note: 'a "quoted" note' } },
    );
    const mutator = new Mutator(20_26);
    let accepted = 0;
    let slowest = 0;
    for (let round = 0; round < MUTATIONS; round++) {
      const file = mutator.mutate(valid);
      const start = performance.now();
      if (parseOrFormatError(file)) accepted++;
      slowest = Math.max(slowest, performance.now() - start);
    }
    // Changes in the data are valid files, changes in the header hardly ever: both must occur.
    expect(accepted).toBeGreaterThan(MUTATIONS / 100);
    expect(accepted).toBeLessThan(MUTATIONS / 2);
    expect(slowest).toBeLessThan(5000);
  });

  it('arbitrary bytes and arbitrary headers give FormatError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        parseOrFormatError(bytes);
      }),
      { numRuns: 500, seed: 7 },
    );
    fc.assert(
      fc.property(fc.json(), fc.uint8Array({ maxLength: 32 }), (json, data) => {
        const header = new TextEncoder().encode(json);
        const file = new Uint8Array(8 + header.length + data.length);
        new DataView(file.buffer).setUint32(0, header.length, true);
        file.set(header, 8);
        file.set(data, 8 + header.length);
        parseOrFormatError(file);
      }),
      { numRuns: 500, seed: 7 },
    );
  });

  it('any tensors survive the round trip', async () => {
    const array = fc
      .tuple(
        fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
        fc.constantFrom(
          Float32Array,
          Float64Array,
          Int8Array,
          Uint8Array,
          Int16Array,
          Int32Array,
          Uint32Array,
        ),
        fc.integer(),
      )
      .map(([shape, Kind, seed]): HostArray => {
        const length = shape.reduce((a, b) => a * b, 1);
        const data = new Kind(length);
        for (let i = 0; i < length; i++) data[i] = Math.imul(seed, i + 1) >> 3;
        return { data, shape };
      });
    const names = fc
      .string({ unit: 'binary', maxLength: 8 })
      .filter((name) => name !== '__metadata__');
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(names, array), { maxLength: 6 }),
        fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), { maxKeys: 4 }),
        async (pairs, record) => {
          const tensors = new Map(pairs);
          const metadata = new Map(Object.entries(record));
          const read = parseSafetensors(await serializeSafetensors(tensors, { metadata }));
          expect(read.metadata).toEqual(metadata);
          expect(read.tensors.size).toBe(tensors.size);
          for (const [name, { data, shape }] of tensors) {
            expect(read.tensors.get(name)).toMatchObject({ data, shape });
          }
        },
      ),
      { numRuns: 200, seed: 11 },
    );
  });
});
