// Products that read their operands in place: every shape, width and epilogue against the references.
import { describe, expect, test } from 'vitest';
import type { DType } from '../../src/base/dtype.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import { add, matmul, mul, relu, tanh, transpose } from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import type { Kernel, Target } from '../../src/ir/kernel.ts';
import { forEachStatement } from '../../src/ir/walk.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { expectClose, leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { compileRoots, execute, targetOf } from './harness.ts';

interface Case {
  readonly sizes: readonly [number, number, number];
  readonly batch?: readonly number[];
  readonly transposed?: string;
  readonly dtype?: DType;
  readonly epilogue?: (product: Node, leaf: (shape: readonly number[]) => Node) => Node;
}

function graphOf({
  sizes: [m, k, n],
  batch = [],
  transposed = '',
  dtype = 'float32',
  epilogue,
}: Case) {
  const values = new Map<Node, ReferenceTensor>();
  const leaf = (shape: readonly number[]): Node => {
    const value = randomTensor(shape, { dtype, seed: values.size + 1 });
    const node = leafFor(value);
    values.set(node, value);
    return node;
  };
  const a = transposed.includes('a') ? transpose(leaf([...batch, k, m])) : leaf([...batch, m, k]);
  const b = transposed.includes('b') ? transpose(leaf([...batch, n, k])) : leaf([...batch, k, n]);
  const product = matmul(a, b);
  return { root: epilogue === undefined ? product : epilogue(product, leaf), values };
}

function run(which: Case, target: Target) {
  const { root, values } = graphOf(which);
  const { program, compiled } = compileRoots([root], {}, target);
  for (const kernel of compiled.plan.kernels) verifyKernel(kernel, { decomposed: true });
  const [actual] = execute(program, compiled, values);
  const expected = evaluateReference([root], values).get(root);
  const { kernels } = compiled.plan;
  return { actual: actual!, expected: expected!, schedule: compiled.kernels[0]!.schedule, kernels };
}

const WIDTHS = [16, 32, 64].flatMap((vectorBytes) =>
  [true, false].map((fma) => ({
    vectorBytes,
    fma,
    foldsSplats: fma,
    vectorRegisters: vectorBytes === 64 ? 32 : 16,
  })),
);

function check(which: Case, schedule: string): void {
  for (const width of WIDTHS) {
    const result = run(which, targetOf(width));
    const name = `${JSON.stringify(which)} at ${width.vectorBytes}`;
    expect(result.schedule, name).toBe(schedule);
    const tolerance = which.dtype === 'float64' ? 1e-12 : 2e-5;
    const scale = tolerance * Math.sqrt(which.sizes[1]) * 4;
    expectClose(result.actual, result.expected.data, { relative: scale, absolute: scale }, name);
  }
}

const SIZES: readonly (readonly [number, number, number])[] = [
  [4, 4, 4],
  [5, 7, 4],
  [13, 5, 17],
  [7, 4, 33],
  [31, 9, 45],
  [6, 16, 64],
  [37, 6, 131],
];

describe('unpacked products', () => {
  test.each(SIZES)('%i x %i x %i', (m, k, n) => {
    check({ sizes: [m, k, n] }, 'unpacked product');
    check({ sizes: [m, k, n], transposed: 'a' }, 'unpacked product');
    check({ sizes: [m, k, n], batch: [3, 2] }, 'unpacked product');
  });

  test('more grid items than one along each axis', () => {
    check({ sizes: [70, 33, 75] }, 'unpacked product');
  });

  test('doubles and integers', () => {
    for (const dtype of ['float64', 'int32'] as const) {
      check({ sizes: [9, 6, 21], dtype }, 'unpacked product');
      check({ sizes: [5, 11, 38], dtype, batch: [2] }, 'unpacked product');
    }
  });

  test('epilogues, short and long', () => {
    const bias: Case['epilogue'] = (y, leaf) => relu(add(y, leaf([y.shape.at(-1)!])));
    const long: Case['epilogue'] = (y, leaf) =>
      mul(tanh(add(y, leaf([y.shape.at(-1)!]))), leaf(y.shape));
    for (const epilogue of [bias, long]) {
      check({ sizes: [13, 5, 39], epilogue }, 'unpacked product');
      check({ sizes: [8, 8, 70], batch: [2], epilogue }, 'unpacked product');
    }
  });

  test('strict numerics: sums of every width are those in the order of k', () => {
    for (const [m, k, n] of [
      [13, 21, 37],
      [64, 65, 66],
    ] as const) {
      const { values } = graphOf({ sizes: [m, k, n] });
      const [a, b] = [...values.values()].map(({ data }) => data) as [Float64Array, Float64Array];
      const expected = Float64Array.from({ length: m * n }, (_, i) => {
        let sum = 0;
        for (let step = 0; step < k; step++) {
          const product = a[Math.floor(i / n) * k + step]! * b[step * n + (i % n)]!;
          sum = Math.fround(sum + Math.fround(product));
        }
        return sum;
      });
      for (const width of WIDTHS) {
        const target = targetOf({ ...width, fma: false, numerics: 'strict' });
        const { actual, schedule } = run({ sizes: [m, k, n] }, target);
        expect(schedule).toBe('unpacked product');
        expect(actual).toEqual(expected);
      }
    }
  });
});

describe('products with a transposed matrix', () => {
  test.each([
    [5, 16, 48],
    [9, 35, 131],
    [37, 50, 67],
    [70, 6, 9],
  ] as const)('%i x %i x %i, copied in the product', (m, k, n) => {
    for (const dtype of ['int32', 'float64'] as const) {
      check({ sizes: [m, k, n], batch: [2], transposed: 'b', dtype }, 'unpacked product');
    }
    for (const width of WIDTHS) {
      const target = targetOf({ ...width, fma: false, numerics: 'strict' });
      const result = run({ sizes: [m, k, n], transposed: 'ab' }, target);
      expect(result.schedule).toBe('unpacked product');
      const tolerance = { relative: 1e-4, absolute: 1e-4 };
      expectClose(result.actual, result.expected.data, tolerance, String(width.vectorBytes));
    }
  });

  test('steps far apart: rows copied in the product', () => {
    const [m, k, n] = [1024, 16, 129];
    for (const width of WIDTHS.filter(({ fma, vectorBytes }) => fma && vectorBytes !== 32)) {
      const which: Case = { sizes: [m, k, n], transposed: 'a' };
      const { actual, expected, kernels, schedule } = run(which, targetOf(width));
      expectClose(actual, expected.data, { relative: 1e-4, absolute: 1e-4 }, 'rows');
      expect(schedule).toBe('unpacked product');
      expect(kernels[0]!.scratch.map(({ name }) => name)).toContain('rows');
    }
  });

  test.each([
    [4, 1040, 50],
    [9, 1035, 19],
  ] as const)('%i x %i x %i, packed', (m, k, n) => {
    for (const width of WIDTHS) {
      const target = targetOf({ ...width, fma: false, numerics: 'strict' });
      for (const batch of [[], [2]]) {
        const result = run({ sizes: [m, k, n], batch, transposed: 'b' }, target);
        expect(result.schedule).toBe('packed product (1 of 3)');
        const tolerance = { relative: 1e-3, absolute: 1e-3 };
        expectClose(result.actual, result.expected.data, tolerance, String(width.vectorBytes));
      }
    }
  });
});

describe('operands that no cache holds', () => {
  const cacheBytes = { l1: 1024, l2: 1024 };
  const prefetchesOf = (kernels: readonly Kernel[]): number => {
    let count = 0;
    for (const { body } of kernels) {
      forEachStatement(body, ({ kind }) => {
        if (kind === 'prefetch') count++;
      });
    }
    return count;
  };

  test.each([true, false])(
    'memory is told ahead where the target can be told: %s',
    (prefetches) => {
      const which: Case = { sizes: [9, 1035, 19], transposed: 'b' };
      const target = targetOf({ numerics: 'strict', prefetches, cacheBytes });
      const { actual, expected, schedule, kernels } = run(which, target);
      expect(schedule).toBe('packed product (1 of 3)');
      expectClose(actual, expected.data, { relative: 1e-3, absolute: 1e-3 }, 'product');
      if (prefetches) expect(prefetchesOf(kernels)).toBeGreaterThan(0);
      else expect(prefetchesOf(kernels)).toBe(0);
    },
  );

  test('not where a cache holds it', () => {
    const which: Case = { sizes: [9, 1035, 19], transposed: 'b' };
    const { kernels } = run(which, targetOf({ numerics: 'strict', prefetches: true }));
    expect(prefetchesOf(kernels)).toBe(0);
  });
});

describe('dot products', () => {
  const few: readonly (readonly [number, number, number])[] = [
    [2, 16, 2],
    [3, 17, 5],
    [4, 64, 64],
    [5, 31, 7],
    [8, 100, 131],
    [11, 145, 67],
    [2, 33, 1000],
  ];
  test.each(few)('%i x %i x %i', (m, k, n) => {
    check({ sizes: [m, k, n], transposed: 'b' }, 'dot product');
    check({ sizes: [m, k, n], transposed: 'b', batch: [3] }, 'dot product');
  });

  test('an epilogue', () => {
    const epilogue: Case['epilogue'] = (y, leaf) => tanh(add(y, leaf([y.shape.at(-1)!])));
    check({ sizes: [5, 98, 77], transposed: 'b', epilogue }, 'dot product');
  });

  // Sums in slices of k; with 4, columns at the edge are computed twice, and each sum is kept once.
  test.each([
    [4, 1600, 9],
    [11, 1543, 13],
    [2, 800, 130],
  ] as const)('%i x %i x %i, in slices', (m, k, n) => {
    check({ sizes: [m, k, n], transposed: 'b' }, 'dot product');
    check({ sizes: [m, k, n], transposed: 'b', batch: [2] }, 'dot product');
  });

  test('not in strict numerics, whose sums have one order at every width', () => {
    const target = targetOf({ vectorBytes: 32, numerics: 'strict' });
    expect(run({ sizes: [4, 64, 64], transposed: 'b' }, target).schedule).not.toBe('dot product');
  });
});
