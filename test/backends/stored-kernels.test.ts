// Kernels as bytes and back: the same WebAssembly comes of them, and broken bytes are told.
import { describe, expect, test } from 'vitest';
import { renderProgram } from '../../src/backends/wasm/program.ts';
import { FormatError } from '../../src/base/errors.ts';
import { type Attrs, makeNode } from '../../src/graph/op.ts';
import { readKernels } from '../../src/ir/kernel-reader.ts';
import { writeKernels } from '../../src/ir/kernel-writer.ts';
import type { Plan } from '../../src/runtime/plan.ts';
import { WORK_LIMITS } from '../../src/runtime/work-sharing.ts';
import { compileRoots, targetOf } from '../compile/harness.ts';
import { computedOps, leafFor } from '../support/graphs.ts';

/** Plans of all samples of an op, as the WebAssembly backend would get them. */
function plansOf(op: ReturnType<typeof computedOps>[number]): Plan[] {
  const target = targetOf({ fma: true, name: 'wasm', vectorRegisters: 15, mulHigh: true });
  return op.samples().map((sample) => {
    const node = makeNode(op, sample.inputs.map(leafFor), sample.attrs as Attrs);
    return compileRoots([node], {}, target).compiled.plan;
  });
}

/** As text: comparing long arrays element by element would take most of the time. */
const codeOf = (plan: Plan): string => {
  const { code } = renderProgram(plan, { relaxed: true, limits: WORK_LIMITS, pool: undefined });
  return Buffer.from(code).toString('latin1');
};

const withKernels = computedOps().filter(({ lower }) => lower.kind !== 'host');

describe('stored kernels', () => {
  test.each(withKernels.map((op) => [op.name, op] as const))('%s', (_name, op) => {
    for (const plan of plansOf(op)) {
      const kernels = readKernels(writeKernels(plan.kernels));
      expect(codeOf({ ...plan, kernels }) === codeOf(plan)).toBe(true);
    }
  });

  test('broken bytes give FormatError, or kernels', () => {
    const add = withKernels.find(({ name }) => name === 'softmax' || name === 'matmul')!;
    const bytes = writeKernels(plansOf(add)[0]!.kernels);
    let refused = 0;
    let seed = 1;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    for (let trial = 0; trial < 3000; trial++) {
      const broken = trial % 5 === 0 ? bytes.slice(0, random(bytes.length)) : bytes.slice();
      for (let k = random(3); k >= 0; k--) broken[random(broken.length)] = random(256);
      try {
        readKernels(broken);
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(500);
  });
});
