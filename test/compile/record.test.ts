// Graphs as data and back: every op, bodies of loops, and what no file may hold.
import { describe, expect, test } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import { Linearization } from '../../src/graph/linearize.ts';
import type { Node } from '../../src/graph/node.ts';
import { type Attrs, makeNode } from '../../src/graph/op.ts';
import * as ops from '../../src/graph/ops/index.ts';
import {
  type GraphRecord,
  graphOf,
  parseGraphRecord,
  recordGraph,
} from '../../src/graph/record.ts';
import { scan, type Tensor, tensor } from '../../src/node.ts';
import { computedOps, leafFor } from '../support/graphs.ts';

/** The words that identify what leads to some nodes. */
function keyOf(roots: readonly Node[]): number[] {
  const linear = new Linearization();
  linear.reset();
  for (const root of roots) linear.add(root);
  return Array.from(linear.key.words.subarray(0, linear.key.length));
}

function throughJson(roots: readonly Node[]): readonly Node[] {
  const { record, leaves, scalars } = recordGraph(roots);
  const json: unknown = JSON.parse(JSON.stringify(record));
  return graphOf(parseGraphRecord(json), leaves, scalars).outputs;
}

describe('records of graphs', () => {
  test.each(computedOps().map((op) => [op.name, op] as const))('%s', (_name, op) => {
    for (const sample of op.samples()) {
      const node = makeNode(op, sample.inputs.map(leafFor), sample.attrs as Attrs);
      if (op.lower.kind === 'host') {
        expect(() => recordGraph([node])).toThrow('no file can hold');
        continue;
      }
      expect(keyOf(throughJson([node]))).toEqual(keyOf([node]));
    }
  });

  test('numbers that JSON lacks', () => {
    for (const value of [Infinity, -Infinity, NaN, -0, 0.1]) {
      const [again] = throughJson([ops.constant(value, 'float32')]);
      expect(again!.attrs['value']).toBe(value);
    }
  });

  test('a loop with what its body takes from outside', () => {
    const factor = tensor([2, 3]);
    const rows = tensor([
      [1, 2],
      [3, 4],
    ]);
    const [last] = scan(
      (state: Tensor, x: Tensor) => [state.mul(factor).add(x), null] as const,
      tensor([1, 1]),
      rows,
    );
    expect(keyOf(throughJson([last.node]))).toEqual(keyOf([last.node]));
  });
});

describe('what is refused', () => {
  const x = leafFor({ shape: [2, 3], dtype: 'float32' });
  const { record, leaves } = recordGraph([ops.reshape(ops.exp(x), [3, 2])]);
  const changed = (change: (json: Record<string, unknown>) => void): GraphRecord => {
    const json = JSON.parse(JSON.stringify(record)) as Record<string, unknown>;
    change(json);
    return parseGraphRecord(json);
  };
  const node = (json: Record<string, unknown>, i: number): Record<string, unknown> =>
    (json['nodes'] as Record<string, unknown>[])[i]!;

  test.each<[string, (json: Record<string, unknown>) => void, RegExp]>([
    ['no nodes', (json) => delete json['nodes'], /nodes and outputs/],
    ['an output that is not there', (json) => (json['outputs'] = [9]), /positions of nodes/],
    ['an input from later', (json) => (node(json, 1)['inputs'] = [1]), /positions of nodes/],
    [
      'an unknown op',
      (json) => (node(json, 1)['op'] = 'launch'),
      /node 1: there is no op 'launch'/,
    ],
    ['an unknown dtype', (json) => (node(json, 0)['dtype'] = 'int4'), /no dtype int4/],
    ['a size below zero', (json) => (node(json, 0)['shape'] = [-1]), /list of sizes/],
    ['a size of 2^40', (json) => (node(json, 0)['shape'] = [2 ** 20, 2 ** 20]), /more elements/],
    ['a shape that is not the op’s', (json) => (node(json, 1)['shape'] = [2, 2]), /is said to be/],
    ['attributes that do not fit', (json) => (node(json, 2)['attrs'] = { shape: [5] }), /reshape/],
    ['a missing attribute', (json) => delete node(json, 2)['attrs'], /'shape' is missing/],
    ['an unknown one', (json) => (node(json, 1)['attrs'] = { x: 1 }), /'x' is unknown/],
    ['one of another kind', (json) => (node(json, 2)['attrs'] = { shape: 6 }), /of another kind/],
  ])('%s', (_what, change, message) => {
    const read = (): unknown => graphOf(changed(change), leaves, []);
    expect(read).toThrow(FormatError);
    expect(read).toThrow(message);
  });
});

test('a loop whose counts are not those of its body is refused', () => {
  const dtype = 'float32';
  const record = (attrs: object): unknown => ({
    nodes: [
      { op: 'input', dtype, shape: [2] },
      {
        op: 'loop',
        inputs: [0],
        dtype: 'bool',
        shape: [0],
        attrs: {
          body: {
            parameters: 1,
            nodes: [
              { op: 'parameter', dtype, shape: [2] },
              { op: 'add', inputs: [0, 0], dtype, shape: [2] },
            ],
            outputs: [1],
            guards: [],
          },
          carries: 1,
          slices: 0,
          trips: 3,
          backwards: false,
          condition: -1,
          counter: -1,
          ...attrs,
        },
      },
      { op: 'result', inputs: [1], attrs: { index: 0 }, dtype, shape: [2] },
    ],
    outputs: [2],
  });
  const read = (attrs: object): unknown =>
    graphOf(
      parseGraphRecord(record(attrs)),
      [ops.input({ storageId: -1 }, 0, [2], dtype, false, null)],
      [],
    );
  expect(() => read({})).not.toThrow();
  const wrong = [
    { carries: 2 },
    { carries: -1 },
    { slices: 1 },
    { trips: -1 },
    { condition: 0 },
    { counter: 4 },
  ];
  for (const attrs of wrong) expect(() => read(attrs), JSON.stringify(attrs)).toThrow(FormatError);
});
