// Kernels of every width, each a unit and all in shared translation units, called in this process:
// what the interpreter computes, bit for bit.
import { describe, expect, it } from 'vitest';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { type LoadedUnit, missingTools } from '../../src/backends/native/compile-cache.ts';
import { allocateAligned, requireForeign } from '../../src/backends/native/foreign.ts';
import { renderUnit } from '../../src/backends/native/renderer.ts';
import { transposeVectors } from '../../src/compile/schedule/transpose.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression } from '../../src/ir/expression.ts';
import type { Kernel, Statement } from '../../src/ir/kernel.ts';
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

  it.each([4, 8, 16])('choose lanes: squares of %i turned around', (lanes) => {
    const { cache } = openCache(folder, { parallel: 1 });
    for (const dtype of ['float32', 'int32'] as const) {
      const builder = new Builder();
      const source = builder.buffer('source', dtype, 'read');
      const result = builder.buffer('result', dtype, 'write');
      const gridIndex = builder.variable('item', 'i32', { min: 0, max: 0 });
      const at = (i: number): Expression => builder.constant(i * lanes);
      const rows = Array.from({ length: lanes }, (_, i) => builder.load(source, at(i), lanes));
      const { statements, values } = transposeVectors(builder, rows);
      const stores = values.map((value, i): Statement => ({
        kind: 'store',
        buffer: result,
        index: at(i),
        value,
      }));
      const body = [...statements, ...stores];
      const buffers = [source, result];
      const kernel = { name: 'turn', buffers, scratch: [], gridIndex, gridSize: 1, body };
      const prepared = prepareKernel(kernel, targetOf(4 * lanes, true));
      const rendered = renderUnit(prepared);
      expect(rendered.unit.definition).toContain(`choose_x${lanes}(`);
      const [unit] = cache.load([rendered.unit]);
      const views = [0, 1].map(() => Int32Array.from({ length: lanes ** 2 }, (_, i) => 1e9 + i));
      run(prepared, unit as LoadedUnit, rendered.scratchBytes, views);
      const wanted = Array.from({ length: lanes ** 2 }, (_, i) => {
        return 1e9 + (i % lanes) * lanes + Math.floor(i / lanes);
      });
      expect([...(views[1] as Int32Array)]).toEqual(wanted);
    }
  });

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
