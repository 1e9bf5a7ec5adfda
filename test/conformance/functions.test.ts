// What the functions around the primitives do before a node is made: ranges, shortcuts, messages.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DTypeError, ShapeError } from '../../src/base/errors.ts';
import type { Node } from '../../src/graph/node.ts';
import * as ops from '../../src/graph/ops/index.ts';
import { leafFor, tensor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';

const f32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'float32' });
const i32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'int32' });

/** Evaluates a function of 0, 1, 2, ... in the given shape. */
function ofRamp(shape: readonly number[], build: (x: Node) => Node) {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Array.from({ length: size }, (_, i) => i);
  const leaf = leafFor({ shape, dtype: 'float64' });
  const node = build(leaf);
  return evaluateReference([node], new Map([[leaf, tensor(shape, values)]])).get(node)!;
}

describe('slice', () => {
  /** Python's slice, by walking. */
  function walked(length: number, start?: number, stop?: number, step = 1): number[] {
    const picked: number[] = [];
    const clip = (value: number, low: number, high: number) =>
      Math.min(Math.max(value < 0 ? value + length : value, low), high);
    const [low, high] = step > 0 ? [0, length] : [-1, length - 1];
    const first = start === undefined ? (step > 0 ? 0 : length - 1) : clip(start, low, high);
    const end = stop === undefined ? (step > 0 ? length : -1) : clip(stop, low, high);
    for (let i = first; step > 0 ? i < end : i > end; i += step) picked.push(i);
    return picked;
  }

  test('any range picks what Python picks', () => {
    const bound = fc.option(fc.integer({ min: -9, max: 9 }), { nil: undefined });
    const step = fc.integer({ min: -4, max: 4 }).filter((value) => value !== 0);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 7 }), bound, bound, step, (length, start, stop, by) => {
        const { data } = ofRamp([length], (x) => ops.slice(x, [{ start, stop, step: by }]));
        expect([...data]).toEqual(walked(length, start, stop, by));
      }),
    );
  });

  test('whole ranges make no node; bad ones say why', () => {
    const x = f32(3, 4);
    expect(ops.slice(x, [null, { start: 0 }])).toBe(x);
    expect(() => ops.slice(x, [{ step: 0 }])).toThrow(/nonzero integer, got 0/);
    expect(() => ops.slice(x, [{ start: 0.5 }])).toThrow(/must be integers, got 0.5/);
    expect(() => ops.slice(x, [null, null, null])).toThrow(/3 ranges for 2/);
    expect(() => ops.narrowAxis(x, 1, 2, 3)).toThrow(/3 element\(s\) from 2 by 1 leave axis 1/);
  });
});

describe('shapes', () => {
  test('negative padding cuts off', () => {
    const { shape, data } = ofRamp([2, 3], (x) => ops.pad(x, [-1, 1], [0, -2], 9));
    expect([shape, [...data]]).toEqual([
      [1, 2],
      [9, 3],
    ]);
    expect(() => ops.pad(f32(2), [-2], [-1])).toThrow(/cuts more than \[2\]/);
    expect(() => ops.pad(f32(2), [1, 1], [0, 0])).toThrow(/2 of 1 axes/);
  });

  test('permutations', () => {
    const x = f32(2, 3, 4);
    expect(ops.permute(x, [0, 1, 2])).toBe(x);
    expect(ops.permute(x, [-1, 0, 1]).shape).toEqual([4, 2, 3]);
    expect(() => ops.permute(x, [0, 0, 1])).toThrow(/axis appears twice/);
    expect(() => ops.permute(x, [0, 1])).toThrow(/2 axes for 3/);
    expect(() => ops.permute(x, [0, 1, 3])).toThrow(/axis 3 is out of range/);
  });

  test('what changes nothing makes no node', () => {
    const x = f32(2, 1);
    expect(ops.reshape(x, [2, 1])).toBe(x);
    expect(ops.expand(x, [2, 1])).toBe(x);
    expect(ops.sumTo(x, [2, 1])).toBe(x);
    expect(ops.cast(x, 'float32')).toBe(x);
    expect(ops.flip(x, [1])).toBe(x);
    expect(ops.pad(x, [0, 0], [0, 0])).toBe(x);
    expect(ops.concat([x])).toBe(x);
    expect(ops.max(x, [])).toBe(x);
  });

  test('sumTo is the adjoint of broadcasting', () => {
    expect([...ofRamp([2, 3], (x) => ops.sumTo(x, [3])).data]).toEqual([3, 5, 7]);
    expect([...ofRamp([2, 3], (x) => ops.sumTo(x, [2, 1])).data]).toEqual([3, 12]);
    expect([...ofRamp([2, 3], (x) => ops.sumTo(x, [])).data]).toEqual([15]);
    expect(ofRamp([0, 3], (x) => ops.sumTo(x, [1, 3])).shape).toEqual([1, 3]);
  });
});

describe('errors name the op, the shapes and what to do', () => {
  test.each<[string, () => Node, typeof ShapeError | typeof DTypeError, string]>([
    [
      'matmul',
      () => ops.matmul(f32(2, 3), f32(4, 5)),
      ShapeError,
      'matmul: inner sizes differ, [2,3] @ [4,5] (3 vs 4). hint: transpose the second argument?',
    ],
    [
      'matmul batch',
      () => ops.matmul(f32(2, 3, 4), f32(3, 4, 5)),
      ShapeError,
      'batch sizes differ',
    ],
    ['add', () => ops.add(f32(2, 3), f32(2)), ShapeError, 'add: shapes [2,3] and [2]'],
    ['dtypes', () => ops.mul(f32(2), i32(2)), DTypeError, 'mul: operands are float32 and int32'],
    [
      'exp',
      () => ops.exp(i32(2)),
      DTypeError,
      "exp: takes floats, not int32. hint: cast to 'float32'",
    ],
    ['select', () => ops.select(f32(1), f32(1), f32(1)), DTypeError, 'not bool'],
    ['max', () => ops.max(f32(0, 2), 0), ShapeError, 'max: no elements to choose from in [0,2]'],
    ['reshape', () => ops.reshape(f32(4), [3]), ShapeError, 'has 4 element(s), [3] has 3'],
    ['size', () => ops.full([-1], 0, 'float32'), ShapeError, 'non-negative integers'],
    ['concat', () => ops.concat([f32(2, 3), f32(2, 4)], 0), ShapeError, 'differ beside axis 0'],
    [
      'gather',
      () => ops.gather(f32(2, 3), f32(2, 3), 1),
      DTypeError,
      'index is float32, not int32',
    ],
    ['take', () => ops.take(f32(0, 3), i32(2)), ShapeError, 'axis without elements'],
    ['topk', () => ops.topkIndices(f32(3), 4), ShapeError, 'topk: k = 4 of 3'],
    ['sum', () => ops.sum(f32(3), 1), ShapeError, 'axis 1 is out of range'],
    ['sum twice', () => ops.sum(f32(3), [0, 0]), ShapeError, 'axis appears twice'],
    [
      'convolution channels',
      () =>
        ops.convolution(f32(1, 3, 8), f32(4, 2, 3), {
          stride: [1],
          padding: [0, 0],
          dilation: [1],
          groups: 1,
        }),
      ShapeError,
      'has 3 channels, weight [4,2,3] takes 2 * 1',
    ],
    [
      'convolution size',
      () =>
        ops.convolution(f32(1, 3, 2), f32(4, 3, 3), {
          stride: [1],
          padding: [0, 0],
          dilation: [1],
          groups: 1,
        }),
      ShapeError,
      'kernel [3] is larger than the padded input [1,3,2]',
    ],
    [
      'pool',
      () => ops.maxPool(f32(1, 2), { kernel: [3], stride: [1], padding: [0, 0], dilation: [1] }),
      ShapeError,
      'maxPool: window [3] is larger',
    ],
  ])('%s', (_name, build, type, message) => {
    expect(build).toThrow(type);
    expect(build).toThrow(message);
  });
});

describe('corner cases of reductions', () => {
  test('any and all of nothing', () => {
    expect([...ofRamp([0, 2], (x) => ops.any(x, 0)).data]).toEqual([0, 0]);
    expect([...ofRamp([0, 2], (x) => ops.all(x, 0)).data]).toEqual([1, 1]);
    expect([...ofRamp([2, 2], (x) => ops.all(x, 1)).data]).toEqual([0, 1]);
  });

  test('no axes', () => {
    expect([...ofRamp([2], (x) => ops.argmax(x, [])).data]).toEqual([0, 0]);
    expect(ops.sum(i32(2), []).dtype).toBe('int32');
    expect(ops.sum(leafFor({ shape: [2], dtype: 'bool' }), []).dtype).toBe('int32');
  });
});
