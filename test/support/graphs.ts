// Makes leaves for tests of the graph, and compares values.
import { expect } from 'vitest';
import { isFloat } from '../../src/base/dtype.ts';
import { sizeOf, type Shape } from '../../src/base/shape.ts';
import type { Node } from '../../src/graph/node.ts';
import { allOps, type ReferenceTensor, type TestedOp } from '../../src/graph/op.ts';
import { input } from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';

/** Ops that have samples. Loops and choices hold graphs and have tests of their own: test/control-flow. */
export function computedOps(): TestedOp[] {
  return allOps().filter(({ lower }) => !['leaf', 'region', 'result'].includes(lower.kind));
}

let storageId = 0;

/** A leaf that stands for a stored value of the same shape and dtype. */
export function leafFor({ shape, dtype }: Pick<ReferenceTensor, 'shape' | 'dtype'>): Node {
  return input({ storageId: ++storageId }, 0, shape, dtype, isFloat(dtype), null);
}

/** Random numbers in [-1, 1) for a cotangent. */
export function randomLike(node: Node, seed: number): ReferenceTensor {
  return randomTensor(node.shape, { dtype: node.dtype, low: -1, high: 1, seed });
}

export function tensor(
  shape: Shape,
  values: readonly number[],
  dtype: ReferenceTensor['dtype'] = 'float64',
): ReferenceTensor {
  if (sizeOf(shape) !== values.length) throw new Error('data does not fit the shape');
  return { shape, dtype, data: Float64Array.from(values) };
}

/** Fails with the first place where values differ by more than `absolute + relative * |expected|`. */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: { relative: number; absolute: number },
  what: string,
): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    if (Object.is(a, e) || a === e) continue;
    if (Math.abs(a - e) <= tolerance.absolute + tolerance.relative * Math.abs(e)) continue;
    expect.fail(`${what}: element ${i} is ${a}, expected ${e}`);
  }
}
