// Placement and vectorization must not change a single bit of what random kernels compute.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
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
