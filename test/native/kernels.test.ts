// Kernels of every width, each a unit and all in shared translation units, called in this process:
// what the interpreter computes, bit for bit.
import { describe, expect, it } from 'vitest';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { type LoadedUnit, missingTools } from '../../src/backends/native/compile-cache.ts';
import { allocateAligned, requireForeign } from '../../src/backends/native/foreign.ts';
import { renderUnit } from '../../src/backends/native/renderer.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { randomKernel, randomViews } from '../ir/random.ts';
import { targetOf } from '../ir/support.ts';
import { openCache, temporaryFolder } from './support.ts';

const missing = missingTools() ?? undefined;

const SIGNATURE = { parameters: ['buffer', 'i64', 'i64'], result: 'void' } as const;

/** Runs the whole grid of a kernel on arrays. */
function run(
  kernel: Kernel,
  unit: LoadedUnit,
  scratchBytes: number,
  views: readonly (Float32Array | Int32Array)[],
): void {
  const foreign = requireForeign();
  const scratch = allocateAligned(foreign, scratchBytes);
  const addresses = views.map((view) => foreign.addressOf(view.buffer) + view.byteOffset);
  const table = new BigUint64Array([...addresses, scratch.address].map((each) => BigInt(each)));
  unit.function('kernel', SIGNATURE)(table, 0, kernel.gridSize);
  // The scratch must be reachable until the call is over.
  expect(scratch.buffer.byteLength).toBeGreaterThan(0);
}

describe.skipIf(missing !== undefined)(`kernels as units ${missing ?? ''}`, () => {
  const folder = temporaryFolder();

  it('give the bits of the interpreter', () => {
    const { cache } = openCache(folder, { parallel: 2 });
    const kernels = [4, 16, 32, 64].flatMap((vectorBytes) =>
      Array.from({ length: 12 }, (_, n) => {
        const seed = vectorBytes * 1000 + n;
        const kernel = randomKernel(seed, { vector: true, fma: n % 2 === 0 });
        return { seed, kernel: prepareKernel(kernel, targetOf(vectorBytes, true)) };
      }),
    );
    const rendered = kernels.map(({ kernel }) => renderUnit(kernel));
    const loaded = cache.load(rendered.map(({ unit }) => unit));
    expect(cache.statistics.compilations).toBeLessThanOrEqual(2);
    kernels.forEach(({ seed, kernel }, n) => {
      const wanted = randomViews(seed);
      new InterpreterProgram(kernel).run(wanted);
      const got = randomViews(seed);
      run(kernel, loaded[n] as LoadedUnit, rendered[n]?.scratchBytes ?? 0, got);
      got.forEach((view, which) => {
        const want = wanted[which] ?? [];
        const different = view.findIndex((value, i) => !Object.is(value, want[i]));
        const where = `seed ${seed}[${which}][${different}]: ${view[different]}, not ${want[different]}`;
        expect(different < 0 ? 'equal' : where).toBe('equal');
      });
    });
  });
});
