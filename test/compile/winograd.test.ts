// Winograd convolutions: the bilinear identity, and every case against the reference evaluator.
import { afterAll, describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import {
  cookToom,
  F2,
  F4,
  FILTER2,
  FILTER4,
  type Matrix,
} from '../../src/compile/schedule/winograd-transform.ts';
import type { AlgorithmPolicy } from '../../src/compile/tune/algorithms.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import * as g from '../../src/graph/ops/index.ts';
import {
  convolution,
  convolutionBackwardData,
  convolutionBackwardFilter,
} from '../../src/graph/ops/convolution.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import type { Target } from '../../src/ir/kernel.ts';
import type { Device } from '../../src/runtime/device.ts';
import { leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { runGraph } from '../support/run-graph.ts';
import { compileRoots, targetOf } from './harness.ts';

describe('transforms', () => {
  const times = (matrix: Matrix, vector: readonly number[]): number[] =>
    matrix.map((row) => row.reduce((sum, value, i) => sum + value * vector[i]!, 0));

  test.each([
    ['F(2, 3)', F2],
    ['F(4, 3)', F4],
    ['F(3, 2)', FILTER2],
    ['F(3, 4)', FILTER4],
    ['F(6, 3)', cookToom(6, 3, [0, 1, -1, 2, -2, 0.5, -0.5])],
    ['F(1, 1)', cookToom(1, 1, [])],
  ])('%s is a short convolution', (_name, f) => {
    for (let j = 0; j < f.taps; j++) {
      for (let i = 0; i < f.size; i++) {
        // Bilinear: unit vectors say it all.
        const taps = Array.from({ length: f.taps }, (_, at) => (at === j ? 1 : 0));
        const data = Array.from({ length: f.size }, (_, at) => (at === i ? 1 : 0));
        const filter = times(f.filter, taps);
        const products = times(f.input, data).map((value, at) => value * filter[at]!);
        times(f.result, products).forEach((value, output) => {
          expect(value).toBeCloseTo(output + j === i ? 1 : 0, 11);
        });
      }
    }
  });
});

/** Chooses one schedule by name, whatever the estimates. */
function only(name: string, chosen: string[] = []): AlgorithmPolicy {
  class Times extends Map<string, number> {
    override has(): boolean {
      return true;
    }
    override get(schedule: string): number {
      chosen.push(schedule);
      return schedule === name ? 0 : 1;
    }
  }
  const tuner = { lookup: () => new Times(), measure: () => null, remember: () => undefined };
  return { reproducible: false, workspaceLimit: Infinity, tuner };
}

const f32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'float32' });

const known = new WeakMap<Node, Float64Array>();

/** By the reference evaluator, which computes it for the first of the devices and schedules alone. */
function expectedOf(root: Node, values: ReadonlyMap<Node, ReferenceTensor>): Float64Array {
  const before = known.get(root);
  if (before !== undefined) return before;
  const expected = evaluateReference([root], values).get(root)!.data;
  known.set(root, expected);
  return expected;
}

/** Largest error relative to the largest expected value. */
function errorOf(
  device: Device,
  schedule: string,
  root: Node,
  values: ReadonlyMap<Node, ReferenceTensor>,
): number {
  const chosen: string[] = [];
  const actual = runGraph(device, [root], values, { algorithms: only(schedule, chosen) });
  expect(chosen).toContain(schedule);
  const expected = expectedOf(root, values);
  const found = actual.get(root)!.data;
  let largest = 0;
  let error = 0;
  expected.forEach((value, i) => {
    largest = Math.max(largest, Math.abs(value));
    // A NaN is an error too.
    error = Math.abs(found[i]! - value) <= error ? error : Math.abs(found[i]! - value);
  });
  return error / (largest || 1);
}

/** Batch, channels, outputs, height, width, padding (top, bottom, left, right). */
type Case = readonly [
  n: number,
  c: number,
  o: number,
  h: number,
  w: number,
  padding: readonly [number, number, number, number],
];

const CASES: readonly Case[] = [
  [1, 1, 1, 3, 3, [0, 0, 0, 0]],
  [1, 2, 3, 1, 1, [1, 1, 1, 1]],
  [2, 3, 5, 7, 9, [0, 0, 0, 0]],
  [1, 5, 7, 11, 13, [1, 1, 1, 1]],
  [3, 4, 17, 5, 6, [2, 2, 2, 2]],
  [2, 7, 9, 8, 3, [0, 1, 2, 1]],
  // Enough tiles for grid items that transform their own; runs that end within blocks.
  [1, 6, 10, 67, 61, [1, 1, 1, 1]],
  [16, 3, 4, 12, 10, [1, 1, 1, 1]],
  // Images side by side in a vector; a batch without small divisors.
  [32, 5, 6, 4, 4, [1, 1, 1, 1]],
  [7, 20, 33, 4, 2, [1, 1, 1, 1]],
];

interface Graphs {
  readonly roots: readonly Node[];
  readonly values: ReadonlyMap<Node, ReferenceTensor>;
}

const graphs = new Map<string, Graphs>();

/** A convolution alone and amid other operations, and both of its gradients: once for all devices. */
function graphsOf(sizes: Case): Graphs {
  const key = JSON.stringify(sizes);
  const before = graphs.get(key);
  if (before !== undefined) return before;
  const [n, c, o, h, w, padding] = sizes;
  const window = { stride: [1, 1], padding: [...padding], dilation: [1, 1], groups: 1 };
  const [x, weight, bias] = [f32(n, c, h, w), f32(o, c, 3, 3), f32(o, 1, 1)];
  const values = new Map(
    [x, weight, bias].map((leaf, i) => [leaf, randomTensor(leaf.shape, { seed: i + 1 })]),
  );
  const y = convolution(x, weight, window);
  const dy = f32(...y.shape);
  values.set(dy, randomTensor(y.shape, { seed: 4 }));
  const roots = [
    y,
    g.relu(g.add(convolution(g.neg(x), weight, window), bias)),
    convolutionBackwardFilter(x, dy, window, [3, 3]),
    convolutionBackwardData(dy, weight, window, [h, w]),
  ];
  const made = { roots, values };
  graphs.set(key, made);
  return made;
}

const devices: readonly (readonly [string, () => Device])[] = [
  ['interp, 16 bytes', () => new InterpDevice({ vectorBytes: 16 })],
  ['interp, 32 bytes', () => new InterpDevice({ vectorBytes: 32 })],
  ['interp, 64 bytes', () => new InterpDevice({ vectorBytes: 64 })],
  ['wasm', () => new WasmDevice({ threads: 1 })],
  ['native', () => new NativeDevice({ threads: 2 })],
];

/** Numbers of the normal distribution, the same each time. */
function normalTensor(shape: readonly number[], seed: number): ReferenceTensor {
  const at = (which: number): Float64Array =>
    randomTensor(shape, { dtype: 'float64', low: 0, high: 1, seed: 2 * seed + which }).data;
  const [radius, angle] = [at(0), at(1)];
  const data = radius.map((value, i) =>
    Math.fround(Math.sqrt(-2 * Math.log(1 - value)) * Math.cos(2 * Math.PI * angle[i]!)),
  );
  return { shape, dtype: 'float32', data };
}

describe('accuracy on normal data', () => {
  const device = new WasmDevice({ threads: 1 });
  afterAll(() => device.close());

  test.each([
    ['winograd 2x2', 64, 1e-6],
    ['winograd 2x2', 512, 2e-6],
    ['winograd 4x4', 64, 3e-6],
    ['winograd 4x4', 512, 5e-6],
  ] as const)('%s, %i channels', (schedule, channels, tolerance) => {
    const [x, weight] = [f32(1, channels, 10, 9), f32(16, channels, 3, 3)];
    const window = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 };
    const values = new Map([x, weight].map((leaf, i) => [leaf, normalTensor(leaf.shape, i + 1)]));
    const y = convolution(x, weight, window);
    expect(errorOf(device, schedule, y, values)).toBeLessThan(tolerance);
  });
});

describe('the choice', () => {
  const window = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 };
  const scheduleOf = (target: Partial<Target>, n: number, c: number, o: number, h: number) => {
    const y = convolution(f32(n, c, h, h), f32(o, c, 3, 3), window);
    const { compiled } = compileRoots([y], {}, targetOf({ vectorBytes: 32, ...target }));
    return compiled.kernels.at(-1)!.schedule;
  };

  test('is for many channels and tiles, and never for strict numerics', () => {
    expect(scheduleOf({}, 1, 64, 64, 56)).toContain('winograd 4x4');
    expect(scheduleOf({}, 1, 512, 512, 7)).toContain('winograd 2x2');
    expect(scheduleOf({}, 8, 1024, 64, 28)).toContain('winograd 2x2');
    expect(scheduleOf({}, 64, 1, 32, 28)).not.toContain('winograd');
    expect(scheduleOf({ numerics: 'strict' }, 1, 64, 64, 56)).not.toContain('winograd');
    expect(scheduleOf({ vectorBytes: 4 }, 1, 64, 64, 56)).not.toContain('winograd');
  });
});

describe.each(devices)('%s', (_name, create) => {
  const device = create();
  afterAll(() => {
    expect(device.memory().allocated).toBe(0);
    device.close();
  });

  describe.each([
    ['winograd 2x2', 1e-6],
    ['winograd 4x4', 5e-6],
  ] as const)('%s', (schedule, tolerance) => {
    test.each(CASES)('%i images, %i to %i channels, %i x %i, padding %o', (...sizes) => {
      const { roots, values } = graphsOf(sizes);
      for (const root of roots) {
        expect(errorOf(device, schedule, root, values)).toBeLessThan(tolerance);
      }
    });
  });
});
