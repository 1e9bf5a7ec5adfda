// Products and convolutions in bfloat16: of operands that bfloat16 holds exactly they are those of
// float32, and others are rounded to it first.
import { afterAll, describe, expect, test } from 'vitest';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { fromBfloat16Bits, toBfloat16Bits } from '../../src/base/dtype.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import type { Device } from '../../src/runtime/device.ts';
import { leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { only, runGraph } from '../support/run-graph.ts';

type Values = Map<Node, ReferenceTensor>;

/** A leaf of float32 whose values bfloat16 holds. */
function exactLeaf(values: Values, shape: readonly number[]): Node {
  const { data } = randomTensor(shape, { dtype: 'bfloat16', seed: values.size + 3 });
  const value: ReferenceTensor = { shape, dtype: 'float32', data };
  const node = leafFor(value);
  values.set(node, value);
  return node;
}

function compute(device: Device, root: Node, values: Values, schedule = 'bfloat16 product') {
  const seen = new Set<string>();
  const options = { algorithms: only(schedule, seen), pairs: true };
  const data = runGraph(device, [root], values, options).get(root)!.data;
  return { data, usable: seen.has(schedule) };
}

function expectSame(device: Device, root: Node, values: Values): void {
  const { data, usable } = compute(device, root, values);
  expect(usable).toBe(true);
  const expected = evaluateReference([root], values).get(root)!.data;
  const largest = Math.max(...expected.map(Math.abs));
  // What is left is the order of float32 sums.
  data.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(largest * 1e-5));
}

const PRODUCTS: [string, readonly number[], readonly number[], string?][] = [
  ['one block', [32, 32], [32, 32]],
  ['blocks', [96, 64], [64, 128]],
  ['edges everywhere', [37, 45], [45, 70]],
  ['several slices of k', [33, 1100], [1100, 40]],
  ['transposed b', [40, 70], [50, 70], 'b'],
  ['transposed a', [70, 40], [70, 50], 'a'],
  ['batches', [3, 20, 34], [3, 34, 17]],
  ['one matrix for all batches', [3, 20, 34], [1, 34, 17], 'repeated b'],
];

const CONVOLUTIONS = [
  { name: '3x3', x: [2, 16, 9, 11], w: [18, 16, 3, 3], stride: [1, 1], padding: [1, 1, 1, 1] },
  { name: 'stride 2', x: [2, 17, 9, 12], w: [16, 17, 3, 3], stride: [2, 2], padding: [1, 1, 0, 2] },
  { name: '1x1', x: [2, 16, 7, 7], w: [33, 16, 1, 1], stride: [1, 1], padding: [0, 0, 0, 0] },
  {
    name: 'groups, dilation',
    x: [1, 32, 10, 9],
    w: [34, 16, 3, 2],
    stride: [1, 2],
    padding: [2, 1, 0, 1],
    dilation: [2, 3],
    groups: 2,
  },
] as const;

const reason = nativeUnavailable();
const devices: readonly (readonly [string, () => Device])[] = [
  ['interp', () => new InterpDevice({ vectorBytes: 16 })],
  ...(reason === null ? [['native', () => new NativeDevice({ threads: 2 })] as const] : []),
];

describe.each(devices)('%s', (name, create) => {
  const device = create();
  afterAll(() => expect(device.memory().allocated).toBe(0));

  // Each kernel of the native device takes a compiler's time; the interpreter has seen them all.
  const few = <T>(all: readonly T[], some: readonly number[]): T[] =>
    name === 'native' ? some.map((i) => all[i] as T) : [...all];

  test.each(few(PRODUCTS, [2, 6]))('product: %s', (_case, a, b, transposed = '') => {
    const values: Values = new Map();
    const [left, right] = [exactLeaf(values, a), exactLeaf(values, b)];
    const root = g.matmul(
      transposed === 'a' ? g.transpose(left) : left,
      transposed === 'b'
        ? g.transpose(right)
        : transposed === 'repeated b'
          ? g.expand(right, [3, 34, 17])
          : right,
    );
    expectSame(device, g.relu(root), values);
  });

  test.each(few(CONVOLUTIONS, [3]))('convolution: $name', ({ x, w, ...rest }) => {
    const window = { dilation: [1, 1], groups: 1, ...rest };
    const values: Values = new Map();
    const [a, weight] = [exactLeaf(values, x), exactLeaf(values, w)];
    const y = g.convolution(a, weight, window);
    expectSame(device, y, values);
    const dy = exactLeaf(values, y.shape);
    expectSame(device, g.convolutionBackwardData(dy, weight, window, x.slice(2)), values);
    expectSame(device, g.convolutionBackwardFilter(a, dy, window, w.slice(2)), values);
  });

  test('operands are rounded to the nearest, ties to even; NaN and infinity pass', () => {
    const numbers = [1 + 2 ** -8, 1 + 3 * 2 ** -8, -1.0001, 3.3e38, NaN, Infinity, 2 ** -100, 0.1];
    const data = Float64Array.from({ length: 256 }, (_, i) => {
      return i < numbers.length * 16 && i % 16 === 0 ? Math.fround(numbers[i / 16]!) : 0;
    });
    const values: Values = new Map();
    const a: ReferenceTensor = { shape: [16, 16], dtype: 'float32', data };
    const ones = Float64Array.from({ length: 256 }, (_, i) => (i % 17 === 0 ? 1 : 0));
    const identity: ReferenceTensor = { shape: [16, 16], dtype: 'float32', data: ones };
    const [left, right] = [leafFor(a), leafFor(identity)];
    values.set(left, a).set(right, identity);
    const { data: found } = compute(device, g.matmul(left, right), values);
    numbers.forEach((number, i) => {
      expect(found[i * 16]).toBe(fromBfloat16Bits(toBfloat16Bits(number)));
    });
  });

  test('is not there without leave, for other dtypes, and for what is tiny', () => {
    const schedules = (root: Node, values: Values, pairs: boolean): Set<string> => {
      const seen = new Set<string>();
      runGraph(device, [root], values, { algorithms: only('bfloat16 product', seen), pairs });
      return seen;
    };
    const values: Values = new Map();
    const large = g.matmul(exactLeaf(values, [32, 32]), exactLeaf(values, [32, 32]));
    expect(schedules(large, values, true)).toContain('bfloat16 product');
    expect(schedules(large, values, false)).not.toContain('bfloat16 product');
    const tiny = g.matmul(exactLeaf(values, [8, 32]), exactLeaf(values, [32, 32]));
    expect(schedules(tiny, values, true)).not.toContain('bfloat16 product');
  });
});
