// Placement and vectorization must not change a single bit of what random kernels compute.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import { place } from '../../src/ir/place.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { printKernel } from '../../src/ir/print.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { randomKernel, randomViews } from './random.ts';
import { targetOf } from './support.ts';

function outputOf(kernel: Kernel, seed: number): Float32Array {
  const views = randomViews(seed);
  new InterpreterProgram(kernel).run(views);
  return views.at(-1) as Float32Array;
}

/** Two kernels leave the same bits; only which NaN they leave is nobody's business. */
function expectEqualOutput(actual: Kernel, expected: Kernel, seed: number): void {
  const got = outputOf(actual, seed);
  const want = outputOf(expected, seed);
  const different = got.findIndex((value, i) => !Object.is(value, want[i]));
  const where =
    different < 0 ? 'equal' : `[${different}]: ${got[different]}, not ${want[different]}`;
  expect(where).toBe('equal');
}

describe('place', () => {
  it('keeps every bit of random kernels', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const kernel = randomKernel(seed, { fma: seed % 2 === 0 });
        verifyKernel(kernel);
        const placed = place(kernel);
        verifyKernel(placed);
        expectEqualOutput(placed, kernel, seed);
      }),
      { numRuns: 400 },
    );
  });
});

/** out[2 i + 1] and out[2 i] for i < trips, from x[2 i] and y[i]. */
function everySecond(trips: number, repeatable: boolean): Kernel {
  const b = new Builder();
  const x = b.buffer('x', 'float32', 'read');
  const y = b.buffer('y', 'float32', 'read');
  const out = b.buffer('out', 'float32', 'write');
  const i = b.variable('i', 'i32', { min: 0, max: trips - 1 });
  const twice = b.scale(i, 2);
  const value = b.variable('value', 'f32');
  return {
    name: 'everySecond',
    buffers: [x, y, out],
    scratch: [],
    gridIndex: b.variable('item', 'i32', { min: 0, max: 0 }),
    gridSize: 1,
    body: [
      {
        kind: 'for',
        index: i,
        start: b.constant(0),
        end: b.constant(trips),
        step: 1,
        vector: true,
        repeatable,
        body: [
          { kind: 'store', buffer: out, index: b.offset(twice, 1), value: b.load(x, twice) },
          { kind: 'let', variable: value, value: b.mul(b.load(y, i), b.load(x, twice)) },
          { kind: 'store', buffer: out, index: twice, value },
        ],
      },
    ],
  };
}

describe('stores of every second element', () => {
  for (const vectorBytes of [16, 32, 64]) {
    it.each([3, 4, 7, 8, 14, 16, 21, 40, 61])(
      `are whole vectors of ${vectorBytes} bytes, for %i iterations`,
      (trips) => {
        for (const repeatable of [false, true]) {
          const kernel = everySecond(trips, repeatable);
          const prepared = prepareKernel(kernel, targetOf(vectorBytes), { verify: verifyKernel });
          const [got, want] = [prepared, kernel].map((version) => {
            const views = [2 * trips, trips, 2 * trips].map((length, which) =>
              Float32Array.from({ length }, (_, i) => which * 100 + i),
            );
            new InterpreterProgram(version).run(views);
            return views[2];
          });
          expect(got).toEqual(want);
          // With overlapping vectors nothing is left for single elements.
          if (repeatable && trips >= 4)
            expect(printKernel(prepared)).not.toMatch(/b2\[[^:\]]*\] =/);
        }
      },
    );
  }
});

describe('vectorize', () => {
  for (const vectorBytes of [16, 32, 64]) {
    it(`keeps every bit of random kernels, with vectors of ${vectorBytes} bytes`, () => {
      let vectors = 0;
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const kernel = randomKernel(seed, { vector: true });
          const prepared = prepareKernel(kernel, targetOf(vectorBytes), { verify: verifyKernel });
          if (/: (2|4|8|16)\]/.test(printKernel(prepared))) vectors++;
          expectEqualOutput(prepared, kernel, seed);
        }),
        { seed: 20261123, numRuns: 200 },
      );
      // Not a test of the scalar path only.
      expect(vectors).toBeGreaterThan(20);
    });
  }
});
