// Strict numerics: products and convolutions have the same bits on targets of every width, also where the
// schedules differ that targets can use. Long sums, few results: where work is cut into pieces.
import { describe, expect, test } from 'vitest';
import type { Node } from '../../src/graph/node.ts';
import * as ops from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { leafFor } from '../support/graphs.ts';
import { compileRoots, execute, targetOf } from './harness.ts';

type Shape = readonly number[];

/** The bits of an op of two random inputs on a target of a width. */
function bitsAt(
  vectorBytes: number,
  shapes: readonly [Shape, Shape],
  build: (a: Node, b: Node) => Node,
): Float64Array {
  const inputs = shapes.map((shape, seed) => randomTensor(shape, { seed: seed + 1 }));
  const leaves = inputs.map(leafFor);
  const target = targetOf({ vectorBytes, numerics: 'strict', fma: false });
  const { program, compiled } = compileRoots([build(leaves[0]!, leaves[1]!)], {}, target);
  const values = new Map(leaves.map((leaf, i) => [leaf, inputs[i]!]));
  return execute(program, compiled, values)[0]!;
}

const window = { groups: 1, stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1] };
const strided = { ...window, stride: [2, 2] };

describe.each<[string, readonly [Shape, Shape], (a: Node, b: Node) => Node]>([
  [
    'a convolution',
    [
      [1, 300, 3, 3],
      [8, 300, 3, 3],
    ],
    (x, w) => ops.convolution(x, w, window),
  ],
  [
    'one by 2',
    [
      [1, 300, 4, 4],
      [16, 300, 3, 3],
    ],
    (x, w) => ops.convolution(x, w, strided),
  ],
  [
    'one of 1 by 1',
    [
      [1, 3000, 2, 2],
      [8, 3000, 1, 1],
    ],
    (x, w) => ops.convolution(x, w, { ...window, padding: [0, 0, 0, 0] }),
  ],
  [
    'its gradient by the data',
    [
      [1, 300, 3, 3],
      [300, 8, 3, 3],
    ],
    (dy, w) => ops.convolutionBackwardData(dy, w, window, [3, 3]),
  ],
  [
    'its gradient by the filter',
    [
      [8, 4, 24, 24],
      [8, 4, 24, 24],
    ],
    (x, dy) => ops.convolutionBackwardFilter(x, dy, window, [3, 3]),
  ],
  [
    'a product',
    [
      [8, 5000],
      [5000, 8],
    ],
    (a, b) => ops.matmul(a, b),
  ],
  [
    'a row by a matrix',
    [
      [1, 5000],
      [5000, 8],
    ],
    (a, b) => ops.matmul(a, b),
  ],
])('%s', (_name, shapes, build) => {
  const expected = bitsAt(16, shapes, build);
  test.each([4, 32, 64])('vectors of %i bytes', (vectorBytes) => {
    expect(bitsAt(vectorBytes, shapes, build)).toEqual(expected);
  });
});
