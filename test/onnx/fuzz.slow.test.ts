// Broken files: whatever is changed in a model, loading gives a typed error or a model, at once.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FormatError, TengenError } from '../../src/base/errors.ts';
import '../../src/index.ts';
import { type OnnxModel, UnsupportedError, load } from '../../src/interface/onnx/index.ts';
import { TensorValue, type Value } from '../../src/interface/onnx/values.ts';
import { FIXTURES } from './models.ts';

const files = Object.keys(FIXTURES).map((name): [string, Uint8Array] => [
  name,
  new Uint8Array(readFileSync(new URL(`fixtures/${name}.onnx`, import.meta.url))),
]);

/** Numbers in [0, 1), the same in every run. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Bytes that matter: ends of ranges, long varints, keys of nested fields. */
const SPECIAL = [0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x2a, 0x32, 0x3a, 0x08, 0x10];

function mutate(bytes: Uint8Array, random: () => number): Uint8Array {
  let result = bytes.slice();
  const changes = 1 + Math.floor(random() * 3);
  for (let i = 0; i < changes; i++) {
    const at = Math.floor(random() * result.length);
    const kind = Math.floor(random() * 6);
    if (kind === 0) result[at] = Math.floor(random() * 256);
    else if (kind === 1) result[at] = (result[at] ?? 0) ^ (1 << Math.floor(random() * 8));
    else if (kind === 2) result[at] = SPECIAL[Math.floor(random() * SPECIAL.length)] ?? 0;
    else if (kind === 3) result = result.slice(0, at);
    else {
      const length = Math.floor(random() * 16);
      const from = Math.floor(random() * bytes.length);
      const piece = kind === 4 ? bytes.slice(from, from + length) : new Uint8Array(0);
      const rest = result.slice(at + (kind === 5 ? length : 0));
      result = Uint8Array.from([...result.slice(0, at), ...piece, ...rest]);
    }
    if (result.length === 0) return result;
  }
  return result;
}

/** Small inputs of the declared types, for models that survived. */
function inputsFor({ inputs }: OnnxModel): Map<string, Value> {
  return new Map(
    inputs.map(({ name, type, shape }): [string, Value] => {
      const sizes = (shape ?? []).map((size) => (typeof size === 'number' ? Math.min(size, 8) : 2));
      const count = sizes.reduce((a, b) => a * b, 1);
      const values = new Float64Array(Math.min(count, 4096)).fill(1);
      const fits = count === values.length ? sizes : [values.length];
      return [name, TensorValue.ofNumbers(values, fits, type ?? 'float32')];
    }),
  );
}

describe('fixtures', () => {
  for (const [name, bytes] of files) {
    it(`${name} is what the builder writes, and loads`, async () => {
      expect(bytes).toEqual(FIXTURES[name]);
      const model = await load(bytes);
      for (const value of model.execute(inputsFor(model))) {
        expect(value?.kind === 'tensor' && value.read().data.length).toBeGreaterThan(0);
      }
    });
  }
});

describe('mutations', () => {
  for (const [index, [name, bytes]] of files.entries()) {
    it(`of ${name} give a typed error or a model`, { timeout: 120_000 }, async () => {
      const random = randomNumbers(index + 1);
      const counts = { format: 0, unsupported: 0, loaded: 0 };
      let longest = 0;
      for (let round = 0; round < 3400; round++) {
        const file = mutate(bytes, random);
        const start = performance.now();
        const outcome = await load(file).catch((error: unknown) => error);
        if (outcome instanceof FormatError) counts.format++;
        else if (outcome instanceof UnsupportedError) counts.unsupported++;
        else if (outcome instanceof Error) throw outcome;
        else {
          counts.loaded++;
          run(outcome as OnnxModel);
        }
        longest = Math.max(longest, performance.now() - start);
      }
      expect(counts.format).toBeGreaterThan(100);
      expect(counts.unsupported).toBeGreaterThan(10);
      expect(counts.loaded).toBeGreaterThan(100);
      // A hang or a huge allocation takes far longer, even on a busy machine.
      expect(longest).toBeLessThan(10_000);
    });
  }
});

/** What loads either builds its computation or says in a typed error why not. */
function run(model: OnnxModel): void {
  try {
    model.execute(inputsFor(model));
  } catch (error) {
    if (!(error instanceof TengenError)) throw error;
  }
}
