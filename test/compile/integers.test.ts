// Integer tensors wrap like 32-bit registers, fused or not, though index arithmetic shares their IR.
import { describe, expect, test } from 'vitest';
import type { Node } from '../../src/graph/node.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { compileRoots, execute } from './harness.ts';

const c = (value: number): Node => g.constant(value, 'int32');

const cases: readonly (readonly [string, (x: Node, y: Node) => Node])[] = [
  ['a product of large factors', (x) => g.mul(g.mul(x, c(100_000)), c(100_003))],
  [
    'a sum of large multiples',
    (x, y) => g.add(g.mul(x, c(2_000_000_011)), g.mul(y, c(2_000_000_033))),
  ],
  ['differences that cancel', (x, y) => g.sub(g.add(x, y), x)],
  ['repeated addition', (x) => [...Array(40).keys()].reduce<Node>((sum) => g.add(sum, sum), x)],
  ['a comparison after wrapping', (x) => g.cast(g.less(g.mul(x, c(1_000_000_007)), x), 'int32')],
  [
    'division and remainder',
    (x, y) => g.add(g.mul(g.truncDivide(x, c(7)), c(7)), g.remainder(y, c(5))),
  ],
];

describe('int32', () => {
  test.each(cases)('%s', (_name, make) => {
    const [x, y] = [
      leafFor({ shape: [50], dtype: 'int32' }),
      leafFor({ shape: [50], dtype: 'int32' }),
    ];
    const values = new Map(
      [x, y].map((leaf, i) => [
        leaf,
        randomTensor([50], {
          dtype: 'int32',
          low: -2_000_000_000,
          high: 2_000_000_000,
          seed: i + 1,
        }),
      ]),
    );
    const root = make(x, y);
    const expected = evaluateReference([root], values).get(root)!.data;
    for (const fusion of [true, false]) {
      const { program, compiled } = compileRoots([root], { fusion });
      expect(execute(program, compiled, values)[0]).toEqual(expected);
    }
  });
});
