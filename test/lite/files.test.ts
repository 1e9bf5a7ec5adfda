// Program files of every version, and files that are damaged or hostile.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { FormatError, ShapeError, TengenError } from '../../src/base/errors.ts';
import { FORMAT_VERSION, HEADER_KEY } from '../../src/interface/lite/header.ts';
import '../../src/interp.ts';
import { type NamedArrays, SafetensorsFile, serializeSafetensors } from '../../src/io.ts';
import { load, type LoadOptions } from '../../src/lite-node.ts';
import { getDevice } from '../../src/runtime/registry.ts';
import { goldenPath } from './golden-model.ts';

const versions = Array.from({ length: FORMAT_VERSION }, (_, i) => i + 1);
const present = new Uint8Array(readFileSync(goldenPath(FORMAT_VERSION)));

/** A linear congruential generator: the same mutations every time. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe.each(versions)('files of version %i', (version) => {
  const bytes = new Uint8Array(readFileSync(goldenPath(version)));

  test.each<LoadOptions>([{}, { numerics: 'strict' }, { threads: 1 }, { device: 'interp' }])(
    'load and pass their own tests: %o',
    async (options) => {
      const model = await load(bytes, options);
      expect(model.name).toBe('golden');
      expect(model.metadata).toEqual({ about: 'a file of every kind of thing' });
      expect(model.inputs).toEqual([
        { name: 'image', dtype: 'float32', shape: [2, 2, 6, 6] },
        { name: 'index', dtype: 'int32', shape: [2] },
      ]);
      // From the state in the file, which this model keeps.
      expect((await model.check()).passed).toBe(true);
      const image = new Float32Array(144);
      expect((await model.run({ image, index: [0, 0] }))['count']!.data[0]).toBe(1);
      await expect(model.run({ image, index: [0, 9] })).rejects.toThrow(ShapeError);
      expect((await model.run({ image, index: [0, 0] }))['count']!.data[0]).toBe(2);
      model.dispose();
    },
  );
});

describe('damaged files', () => {
  // Work of some ten seconds: several times that beside other programs.
  test(
    'of 10,000 none does more than throw FormatError, and all memory comes back',
    { timeout: 180_000 },
    async () => {
      const random = randomOf(5);
      await (await load(present)).dispose();
      const before = getDevice('wasm').memory().allocated;
      const start = 8 + new DataView(present.buffer).getUint32(0, true);
      let refused = 0;
      for (let trial = 0; trial < 10_000; trial++) {
        const short = trial % 7 === 0;
        const broken = present.slice(0, short ? random(present.length) : present.length);
        // Half of the damage in the header, where most of what can break is.
        for (let k = random(4); k >= 0; k--) {
          const end = trial % 2 === 0 ? Math.min(start, broken.length) : broken.length;
          if (end > 0) broken[random(end)] = random(256);
        }
        try {
          (await load(broken)).dispose();
        } catch (error) {
          if (!(error instanceof FormatError)) {
            expect.fail(`mutation ${trial}: ${String((error as Error).stack)}`);
          }
          refused++;
        }
      }
      expect(refused).toBeGreaterThan(5000);
      expect(getDevice('wasm').memory().allocated).toBe(before);
    },
  );
});

describe('hostile files', () => {
  /** The file with another header, and no stored programs: the graph is compiled. */
  async function rewritten(change: (header: Record<string, unknown>) => void): Promise<Uint8Array> {
    const file = await SafetensorsFile.open(present);
    const header = JSON.parse(file.metadata.get(HEADER_KEY)!) as Record<string, unknown>;
    change(header);
    const tensors: NamedArrays = await file.readAll();
    return serializeSafetensors(tensors, { metadata: { [HEADER_KEY]: JSON.stringify(header) } });
  }

  /** Every number in JSON. */
  function numbersIn(json: object): { of: Record<string, unknown>; key: string }[] {
    const of = json as Record<string, unknown>;
    return Object.keys(of).flatMap((key) => {
      const value = of[key];
      if (typeof value === 'number') return [{ of, key }];
      return typeof value === 'object' && value !== null ? numbersIn(value) : [];
    });
  }

  test('graphs with wrong numbers are refused, or compute within their memory', async () => {
    const random = randomOf(9);
    for (let trial = 0; trial < 400; trial++) {
      const bytes = await rewritten((header) => {
        header['stored'] = [];
        const places = numbersIn(header);
        for (let k = random(2); k >= 0; k--) {
          const { of, key } = places[random(places.length)]!;
          const value = of[key] as number;
          of[key] = [-1, 0, 1, 2, 3, 7, value + 1, value - 1, 2 ** 31, 2 ** 60][random(10)];
        }
      });
      try {
        const model = await load(bytes, { device: 'interp' });
        await model.run({ image: new Float32Array(144), index: [1, 2] });
        model.dispose();
      } catch (error) {
        if (error instanceof TengenError) continue;
        expect.fail(`mutation ${trial}: ${String((error as Error).stack)}`);
      }
    }
  });

  test('stored programs with a true checksum and false code are refused or run', async () => {
    const { crc32 } = await import('../../src/interface/io/crc32.ts');
    const file = await SafetensorsFile.open(present);
    const random = randomOf(3);
    const all = await file.readAll();
    let refused = 0;
    for (let trial = 0; trial < 500; trial++) {
      const header = JSON.parse(file.metadata.get(HEADER_KEY)!) as {
        stored: { tensor: string; checksum: number }[];
      };
      const tensors: Record<string, { data: Uint8Array | Float32Array; shape: number[] }> = {};
      for (const [name, { data, shape }] of all) {
        tensors[name] = { data: data.slice() as Uint8Array, shape: [...shape] };
      }
      for (const record of header.stored) {
        const { data } = tensors[record.tensor]!;
        for (let k = random(3); k >= 0; k--) data[random(data.length)] = random(256);
        record.checksum = crc32(data as Uint8Array);
      }
      const metadata = { [HEADER_KEY]: JSON.stringify(header) };
      const bytes = await serializeSafetensors(tensors, { metadata });
      try {
        (await load(bytes)).dispose();
      } catch (error) {
        if (!(error instanceof FormatError)) {
          expect.fail(`mutation ${trial}: ${String((error as Error).stack)}`);
        }
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(100);
  });
});
