// Loop nests visit every element exactly once, however they are cut into grid items; large shapes
// that are cut give what small ones give.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { sizeOf } from '../../src/base/shape.ts';
import { type Axis, collapse, indexVariables } from '../../src/compile/lower/axes.ts';
import { flatten } from '../../src/compile/lower/indexing.ts';
import { planNest } from '../../src/compile/lower/nest.ts';
import { UseCollector } from '../../src/compile/lower/uses.ts';
import type { Node } from '../../src/graph/node.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Kernel, Statement } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { mapExpressions, substitute } from '../../src/ir/rewrite.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { compileRoots, execute, targetOf } from './harness.ts';

/** Runs a kernel on one buffer of float32. */
function runKernel(kernel: Kernel, values: Float32Array): Float32Array {
  const device = new InterpDevice();
  const buffer = device.allocate(values.byteLength);
  device.write(buffer, 0, new Uint8Array(values.buffer.slice(0)));
  const executable = device.load({
    kernels: [prepareKernel(kernel, targetOf(), { verify: verifyKernel })],
    dispatches: [{ kernel: 0, arguments: [{ space: 'binding', index: 0 }] }],
    arenaBytes: 0,
    bindings: [{ bytes: values.byteLength, access: 'readwrite' }],
    scalars: [],
  });
  executable.run([buffer], new Float64Array());
  return new Float32Array(device.view(buffer).slice().buffer);
}

/** A kernel that adds one to every element of `shape`, with axes in a given order. */
function counting(
  shape: readonly number[],
  turn: number,
  work: number,
  piece: number,
  merge: boolean,
): Kernel {
  const builder = new Builder();
  const out = builder.buffer('out', 'float32', 'readwrite');
  const { indices, variables } = indexVariables(builder, 'i', shape);
  const position = flatten(builder, indices, shape);
  const value = builder.add(builder.load(out, position), builder.constant(1, 'f32'));
  const body: Statement[] = [{ kind: 'store', buffer: out, index: position, value }];
  const collector = new UseCollector(variables);
  collector.access('store', position, 4);
  collector.value(value);
  const axes: Axis[] = merge
    ? collapse(variables, collector.uses)
    : variables.map((variable, i) => ({
        variables: [variable],
        joined: true,
        size: variable.max + 1,
        positions: [i],
      }));
  const turned = axes.map((_, i) => axes[(i + turn) % axes.length]!);
  const nest = planNest(builder, turned, { work, vector: true, piece });
  const memo = new Map(nest.replaced);
  const replaced = mapExpressions(body, (expression) => substitute(builder, expression, memo));
  return {
    name: 'count',
    buffers: [out],
    scratch: [],
    gridIndex: nest.gridIndex,
    gridSize: nest.gridSize,
    body: nest.wrap(replaced),
  };
}

describe('planNest', () => {
  test('every element once', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 23 }), { maxLength: 4 }),
        fc.nat(3),
        fc.constantFrom(0, 40_000, 300_000, 1e9),
        fc.constantFrom(1, 16, 64),
        fc.boolean(),
        (shape, turn, work, piece, merge) => {
          fc.pre(sizeOf(shape) <= 6000);
          const kernel = counting(shape, turn, work, piece, merge);
          const counts = runKernel(kernel, new Float32Array(sizeOf(shape)));
          expect(counts.every((count) => count === 1)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('much work becomes many grid items, little work one', () => {
    expect(counting([40, 50], 0, 1e9, 64, false).gridSize).toBeGreaterThanOrEqual(16);
    expect(counting([5000], 0, 1e9, 64, false).gridSize).toBeGreaterThanOrEqual(16);
    expect(counting([3, 700], 0, 1e9, 64, false).gridSize).toBeGreaterThanOrEqual(16);
    expect(counting([40, 50], 0, 1000, 64, false).gridSize).toBe(1);
  });
});

describe('collapse', () => {
  test('axes join where every use sees one index', () => {
    const builder = new Builder();
    const { indices, variables } = indexVariables(builder, 'i', [2, 3, 4, 5]);
    const collector = new UseCollector(variables);
    collector.access('store', flatten(builder, indices, [2, 3, 4, 5]), 4);
    expect(collapse(variables, collector.uses).map(({ size }) => size)).toEqual([120]);
    // A value for each of the second axis: it stands alone.
    collector.access('load', indices[1]!, 4);
    expect(collapse(variables, collector.uses).map(({ size }) => size)).toEqual([2, 3, 20]);
    // The last one inside a comparison.
    collector.value(builder.compare('lt', indices[3]!, builder.constant(2)));
    expect(collapse(variables, collector.uses).map(({ size }) => size)).toEqual([2, 3, 4, 5]);
  });
});

test('columns side by side give the bits of columns one by one', () => {
  const x = leafFor({ shape: [70, 45], dtype: 'float32' });
  const values = new Map([[x, randomTensor([70, 45])]]);
  const [wide, narrow] = [16, 4].map((vectorBytes) => {
    const { program, compiled } = compileRoots([g.sum(x, [0])], {}, targetOf({ vectorBytes }));
    return execute(program, compiled, values)[0];
  });
  expect(wide).toEqual(narrow);
});

describe('shapes that are cut into pieces', () => {
  const cases: readonly (readonly [string, readonly number[], (x: Node) => Node])[] = [
    ['a long row', [60_000], (x) => g.sum(x)],
    ['three long rows', [3, 20_000], (x) => g.sum(x, [1])],
    ['long columns', [20_000, 3], (x) => g.sum(x, [0])],
    ['wide columns', [900, 70], (x) => g.sum(x, [0], true)],
    ['outer and inner axes', [40, 6, 200], (x) => g.sum(x, [0, 2])],
    ['a middle axis', [6, 400, 20], (x) => g.max(x, [1])],
    ['positions of the largest', [2, 20_000], (x) => g.argmax(x, [1])],
    ['positions over all axes', [150, 200], (x) => g.argmin(x)],
    ['a transposed row', [200, 150], (x) => g.sum(g.transpose(x), [1])],
    ['truth', [40_000], (x) => g.any(g.greater(x, g.constant(3, 'float32')), [0])],
    ['a short last axis', [9000, 3], (x) => g.sum(x, [1])],
    ['elementwise', [70, 900], (x) => g.add(x, g.transpose(g.reshape(x, [900, 70])))],
    ['broadcasting', [30, 40, 50], (x) => g.mul(x, g.max(x, [0, 2], true))],
  ];
  test.each(cases)('%s', (_name, shape, make) => {
    const x = leafFor({ shape, dtype: 'float32' });
    const { data, ...rest } = randomTensor(shape, { low: -4, high: 4 });
    const values = new Map([[x, { ...rest, data: data.map(Math.round) }]]);
    const root = make(x);
    const expected = evaluateReference([root], values).get(root)!.data;
    for (const numerics of ['fast', 'strict'] as const) {
      const { program, compiled } = compileRoots([root], {}, targetOf({ numerics }));
      expect(execute(program, compiled, values)[0]).toEqual(expected);
    }
  });
});
