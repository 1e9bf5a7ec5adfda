// Every schedule of convolutions, forced, against the reference evaluator on awkward shapes: in all
// three roles, with something fused before and after, on every width of vectors.
import { afterAll, describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import type { DType } from '../../src/base/dtype.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import {
  convolution,
  convolutionBackwardData,
  convolutionBackwardFilter,
} from '../../src/graph/ops/convolution.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import type { Target } from '../../src/ir/kernel.ts';
import type { Device } from '../../src/runtime/device.ts';
import { leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { only, runGraph } from '../support/run-graph.ts';
import { compileRoots, targetOf } from './harness.ts';

interface Case {
  readonly name: string;
  readonly x: readonly number[];
  readonly weight: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation?: readonly number[];
  readonly groups?: number;
}

const CASES: readonly Case[] = [
  {
    name: 'one element',
    x: [1, 1, 1, 1],
    weight: [1, 1, 1, 1],
    stride: [1, 1],
    padding: [0, 0, 0, 0],
  },
  { name: '3x3', x: [2, 3, 7, 9], weight: [5, 3, 3, 3], stride: [1, 1], padding: [1, 1, 1, 1] },
  { name: '1x1', x: [2, 5, 7, 7], weight: [19, 5, 1, 1], stride: [1, 1], padding: [0, 0, 0, 0] },
  {
    name: '1x1, stride 2',
    x: [3, 5, 8, 9],
    weight: [18, 5, 1, 1],
    stride: [2, 2],
    padding: [0, 0, 0, 0],
  },
  {
    name: '3x3, stride 2',
    x: [2, 4, 11, 13],
    weight: [17, 4, 3, 3],
    stride: [2, 2],
    padding: [1, 1, 1, 1],
  },
  {
    name: '7x7, stride 2',
    x: [1, 3, 23, 19],
    weight: [8, 3, 7, 7],
    stride: [2, 2],
    padding: [3, 3, 3, 3],
  },
  {
    name: 'strides 3 and 1',
    x: [1, 2, 13, 17],
    weight: [3, 2, 5, 2],
    stride: [3, 1],
    padding: [2, 0, 1, 1],
  },
  {
    name: 'stride beyond the kernel',
    x: [1, 3, 11, 11],
    weight: [4, 3, 2, 2],
    stride: [3, 3],
    padding: [0, 0, 0, 0],
  },
  {
    name: 'dilation',
    x: [2, 2, 13, 11],
    weight: [3, 2, 3, 3],
    stride: [1, 1],
    padding: [2, 2, 2, 2],
    dilation: [2, 3],
  },
  {
    name: 'dilation and stride',
    x: [1, 2, 17, 19],
    weight: [3, 2, 3, 3],
    stride: [2, 3],
    padding: [3, 1, 2, 4],
    dilation: [2, 3],
  },
  {
    name: 'padding beyond the kernel',
    x: [1, 2, 4, 5],
    weight: [3, 2, 2, 2],
    stride: [1, 1],
    padding: [3, 3, 2, 4],
  },
  {
    name: 'tiny images',
    x: [17, 6, 2, 2],
    weight: [33, 6, 3, 3],
    stride: [1, 1],
    padding: [1, 1, 1, 1],
  },
  {
    name: 'depthwise',
    x: [2, 6, 9, 21],
    weight: [6, 1, 3, 3],
    stride: [1, 1],
    padding: [1, 1, 1, 1],
    groups: 6,
  },
  {
    name: 'depthwise, stride 2',
    x: [3, 5, 11, 14],
    weight: [5, 1, 3, 3],
    stride: [2, 2],
    padding: [1, 1, 1, 1],
    groups: 5,
  },
  {
    name: 'depthwise, two outputs',
    x: [1, 3, 8, 8],
    weight: [6, 1, 5, 5],
    stride: [1, 1],
    padding: [2, 2, 2, 2],
    groups: 3,
  },
  {
    name: 'groups',
    x: [2, 12, 7, 7],
    weight: [15, 4, 3, 3],
    stride: [1, 1],
    padding: [1, 1, 1, 1],
    groups: 3,
  },
  {
    name: 'groups, stride 2',
    x: [2, 8, 9, 9],
    weight: [38, 4, 3, 3],
    stride: [2, 2],
    padding: [1, 1, 1, 1],
    groups: 2,
  },
  {
    name: 'panels of channels, the last not whole',
    x: [1, 16, 7, 6],
    weight: [100, 16, 3, 3],
    stride: [2, 2],
    padding: [1, 1, 1, 1],
  },
  {
    name: 'rows of whole vectors, stride 2',
    x: [2, 3, 9, 63],
    weight: [19, 3, 5, 3],
    stride: [2, 2],
    padding: [2, 2, 1, 1],
  },
  {
    name: 'rows of seven vectors, groups',
    x: [1, 4, 5, 112],
    weight: [10, 2, 3, 3],
    stride: [1, 1],
    padding: [1, 1, 1, 1],
    groups: 2,
  },
  {
    name: 'rows without padding, strides 2 and 3',
    x: [1, 3, 8, 98],
    weight: [9, 3, 2, 5],
    stride: [2, 3],
    padding: [0, 0, 0, 0],
  },
  { name: 'one axis', x: [2, 3, 37], weight: [9, 3, 5], stride: [2], padding: [2, 1] },
  {
    name: 'three axes',
    x: [1, 2, 4, 5, 6],
    weight: [3, 2, 2, 3, 3],
    stride: [1, 2, 1],
    padding: [0, 1, 1, 1, 1, 0],
  },
];

const SCHEDULES = [
  'channel convolution',
  'channel filter',
  'depthwise convolution',
  'row convolution',
  'unpacked product',
  'dot filter',
  'implicit product',
] as const;

/** A case's graphs, what they are given, and what is expected of each. */
interface Subject {
  readonly roots: readonly Node[];
  readonly values: ReadonlyMap<Node, ReferenceTensor>;
  readonly expected: ReadonlyMap<Node, ReferenceTensor>;
}

/** The reference takes longer than most devices: each subject is computed once for all of them. */
const subjects = new Map<string, Subject>();

function subjectOf(which: Case, dtype: DType): Subject {
  const key = `${which.name} ${dtype}`;
  let subject = subjects.get(key);
  if (subject === undefined) {
    const { leaves, roots } = graphsOf(which, dtype);
    const values = new Map(
      leaves.map((leaf, i) => [leaf, randomTensor(leaf.shape, { dtype, seed: i })]),
    );
    subject = { roots, values, expected: evaluateReference(roots, values) };
    subjects.set(key, subject);
  }
  return subject;
}

/** Whether a schedule computes a root on a target when it is asked to. */
function computes(schedule: string, root: Node, target: Target): boolean {
  const { compiled } = compileRoots([root], { algorithms: only(schedule, new Set()) }, target);
  return compiled.kernels.some((kernel) => kernel.schedule.startsWith(schedule));
}

/** Largest error relative to the largest expected value; null if the schedule is not usable. */
function errorOf(
  device: Device,
  schedule: string,
  root: Node,
  { values, expected }: Subject,
): number | null {
  if (!computes(schedule, root, device.target('fast'))) return null;
  const actual = runGraph(device, [root], values, { algorithms: only(schedule, new Set()) });
  const found = actual.get(root)!.data;
  let largest = 0;
  let error = 0;
  expected.get(root)!.data.forEach((value, i) => {
    largest = Math.max(largest, Math.abs(value));
    // A NaN is an error too.
    error = Math.abs(found[i]! - value) <= error ? error : Math.abs(found[i]! - value);
  });
  return error / (largest || 1);
}

/** The case in its three roles, plain and with neighbours that fuse. */
function graphsOf({ x, weight, groups = 1, ...rest }: Case, dtype: DType) {
  const window = { dilation: rest.stride.map(() => 1), ...rest, groups };
  const a = leafFor({ shape: x, dtype });
  const w = leafFor({ shape: weight, dtype });
  const y = convolution(a, w, window);
  const dy = leafFor({ shape: y.shape, dtype });
  const bias = leafFor({ shape: [weight[0]!, ...rest.stride.map(() => 1)], dtype });
  const residual = leafFor({ shape: y.shape, dtype });
  const space = x.slice(2);
  const fused = g.add(g.relu(g.add(convolution(g.neg(a), w, window), bias)), residual);
  return {
    leaves: [a, w, dy, bias, residual],
    roots: [
      y,
      fused,
      convolutionBackwardData(dy, w, window, space),
      g.neg(convolutionBackwardData(g.mul(dy, residual), w, window, space)),
      convolutionBackwardFilter(a, dy, window, weight.slice(2)),
      g.neg(convolutionBackwardFilter(g.relu(a), g.mul(dy, residual), window, weight.slice(2))),
    ],
  };
}

const devices: readonly (readonly [string, () => Device])[] = [
  ['interp, 16 bytes', () => new InterpDevice({ vectorBytes: 16 })],
  ['interp, 32 bytes', () => new InterpDevice({ vectorBytes: 32 })],
  ['interp, 64 bytes', () => new InterpDevice({ vectorBytes: 64 })],
  ['wasm', () => new WasmDevice({ threads: 1 })],
  ['native', () => new NativeDevice({ threads: 2 })],
];

describe.each(devices)('%s', (_name, create) => {
  const device = create();
  afterAll(() => {
    expect(device.memory().allocated).toBe(0);
    device.close();
  });

  describe.each(SCHEDULES)('%s', (schedule) => {
    let used = 0;

    test.each(CASES)('$name', (which) => {
      const subject = subjectOf(which, 'float32');
      const errors = subject.roots.map((root) => errorOf(device, schedule, root, subject));
      used += errors.filter((error) => error !== null).length;
      expect(Math.max(...errors.map((error) => error ?? 0))).toBeLessThan(2e-6);
    });

    test('is usable for some of them', () => expect(used).toBeGreaterThan(0));

    test.each(['float64', 'float16'] as const)('%s', (dtype) => {
      const subject = subjectOf(
        CASES.find(({ name }) => name === 'groups')!,
        dtype,
      );
      const errors = subject.roots.map((root) => errorOf(device, schedule, root, subject) ?? 0);
      expect(Math.max(...errors)).toBeLessThan(dtype === 'float64' ? 1e-14 : 2e-3);
    });
  });
});

describe('strict numerics', () => {
  const strict: readonly Device[] = [
    new InterpDevice({ vectorBytes: 16 }),
    new InterpDevice({ vectorBytes: 64 }),
    new WasmDevice({ threads: 2 }),
    new NativeDevice({ threads: 2 }),
  ];
  afterAll(() => strict.forEach((device) => device.close()));

  const REPRODUCIBLE = [
    'channel convolution',
    'depthwise convolution',
    'implicit product',
    'row convolution',
    'unpacked product',
  ];

  test.each(REPRODUCIBLE)('%s: the same bits', { timeout: 120_000 }, (schedule) => {
    let used = 0;
    for (const which of CASES) {
      const { roots, values } = subjectOf(which, 'float32');
      for (const root of roots) {
        if (!computes(schedule, root, targetOf({ numerics: 'strict' }))) continue;
        used++;
        const algorithms = only(schedule, new Set());
        const results = strict.map((device) =>
          runGraph(device, [root], values, { numerics: 'strict', algorithms }).get(root),
        );
        for (const other of results) expect(other?.data).toEqual(results[0]?.data);
      }
    }
    expect(used).toBeGreaterThan(0);
  });
});
