// The reverse walk itself: paths, sharing, broadcasting, cut-offs, order.
import { describe, expect, test } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import * as ops from '../../src/graph/ops/index.ts';
import { checkGradients } from '../support/gradient-check.ts';
import { leafFor, tensor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';

const f64 = (...shape: number[]): Node => leafFor({ shape, dtype: 'float64' });

function value(node: Node, given: readonly (readonly [Node, ReferenceTensor])[]): number[] {
  return [...evaluateReference([node], new Map(given)).get(node)!.data];
}

const one = ops.constant(1, 'float64');

describe('gradients', () => {
  test('sums over every path to a shared node', () => {
    const x = f64();
    const square = ops.mul(x, x);
    const y = ops.add(ops.mul(square, x), square);
    const [dx] = gradients([y], [one], [x]);
    expect(value(dx!, [[x, tensor([], [3])]])).toEqual([3 * 9 + 2 * 3]);
  });

  test('adds up outputs, weighted by their cotangents', () => {
    const x = f64();
    const [dx] = gradients([ops.exp(x), ops.neg(x)], [one, ops.constant(5, 'float64')], [x]);
    expect(value(dx!, [[x, tensor([], [0])]])).toEqual([1 - 5]);
  });

  test('an output that is itself a target receives its cotangent', () => {
    const x = f64();
    const y = ops.exp(x);
    const [dy, dx] = gradients([y], [one], [y, x]);
    expect(value(dy!, [])).toEqual([1]);
    expect(value(dx!, [[x, tensor([], [0])]])).toEqual([1]);
  });

  test('has the shape of its target, whatever was broadcast', () => {
    const x = f64(3, 1);
    const y = f64(2, 1, 4);
    const product = ops.mul(x, y);
    const [dx, dy] = gradients([product], [ops.full(product.shape, 1, 'float64')], [x, y]);
    expect([dx!.shape, dy!.shape]).toEqual([
      [3, 1],
      [2, 1, 4],
    ]);
  });

  test('is null where no path leads, also through what has no derivative', () => {
    const x = f64(3);
    const other = f64(3);
    const index = ops.argmax(x, 0, true);
    const [dx, dOther] = gradients([ops.gather(other, index, 0)], [f64(1)], [x, other]);
    expect(dx).toBeNull();
    expect(dOther!.shape).toEqual([3]);
  });

  test('stops at detached values', () => {
    const x = f64();
    const y = ops.mul(ops.detach(ops.exp(x)), x);
    const [dx] = gradients([y], [one], [x]);
    expect(value(dx!, [[x, tensor([], [1])]])).toEqual([Math.E]);
    expect(gradients([ops.detach(ops.exp(x))], [one], [x])).toEqual([null]);
  });

  test('refuses a path through an op without a derivative, and says what to do', () => {
    const x = f64(3);
    expect(() => gradients([ops.argmax(x)], [ops.constant(1, 'int32')], [x])).toThrow(
      /argmax: has no gradient: a position is an integer. hint: detach\(\)/,
    );
  });

  test('walks graphs deeper than the stack', () => {
    const x = f64();
    let y: Node = x;
    for (let i = 0; i < 30_000; i++) y = ops.add(y, one);
    const [dx] = gradients([y], [one], [x]);
    expect(value(dx!, [])).toEqual([1]);
  });

  test('third derivatives', () => {
    const x = f64();
    const y = ops.mul(ops.sin(x), ops.mul(x, x));
    const derivative = (node: Node): Node => gradients([node], [one], [x])[0]!;
    const third = derivative(derivative(derivative(y)));
    // (x² sin x)''' = (6 - x²) cos x - 6 x sin x
    const at = 0.7;
    const expected = (6 - at * at) * Math.cos(at) - 6 * at * Math.sin(at);
    expect(value(third, [[x, tensor([], [at])]])[0]).toBeCloseTo(expected, 12);
  });

  test('a network of many ops agrees with differences to second order', () => {
    const shapes = { x: [2, 3, 5, 5], w: [4, 3, 3, 3], v: [16, 6] };
    const leaves = Object.values(shapes).map((shape) => f64(...shape)) as [Node, Node, Node];
    const [x, w, v] = leaves;
    const window = { stride: [2, 2], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 };
    const pool = { kernel: [2, 2], stride: [1, 1], padding: [0, 0, 0, 0], dilation: [1, 1] };
    const hidden = ops.tanh(ops.convolution(x, w, window));
    const pooled = ops.sumPool(ops.mul(hidden, ops.sigmoid(hidden)), pool);
    const scores = ops.matmul(ops.reshape(pooled, [2, 16]), v);
    const shifted = ops.sub(scores, ops.detach(ops.max(scores, 1, true)));
    const loss = ops.sub(ops.log(ops.sum(ops.exp(shifted), 1, true)), shifted);
    const values = new Map(
      leaves.map((leaf, i) => {
        const size = leaf.shape.reduce((a, b) => a * b, 1);
        const data = Array.from({ length: size }, (_, k) => Math.sin(k * 1.7 + i) / 2);
        return [leaf, tensor(leaf.shape, data)];
      }),
    );
    expect(() => checkGradients([loss], values, { order: 2 }, 'network')).not.toThrow();
  });
});
