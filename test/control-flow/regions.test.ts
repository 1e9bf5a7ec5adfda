// What the compiler makes of loops and choices: how often kernels run, what is prepared once, and
// where values are.
import { describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { outsideOfBranch, parameterLike } from '../../src/graph/subgraph.ts';
import { itemsOf, type Plan } from '../../src/runtime/plan.ts';
import { compileRoots } from '../compile/harness.ts';
import { leafFor } from '../support/graphs.ts';
import { runGraph } from '../support/run-graph.ts';

const values = new Map<Node, ReferenceTensor>();

function leaf(...shape: number[]): Node {
  const value = randomTensor(shape, { dtype: 'float32', seed: values.size });
  const node = leafFor(value);
  values.set(node, value);
  return node;
}

/** A loop with one carry. */
function repeat(init: Node, trips: number, body: (x: Node) => Node): Node {
  const parameter = parameterLike(init);
  return g.loop({ carries: [{ parameter, init, next: body(parameter) }], trips }).final(0);
}

/** Kernels that one run executes. */
function kernelsRun(...roots: Node[]): number {
  const device = new InterpDevice();
  runGraph(device, roots, values);
  return device.kernelRuns;
}

const planOf = (...roots: Node[]): Plan => compileRoots(roots).compiled.plan;

/** Dispatches in the first loop of a plan. */
function insideFirstLoop(plan: Plan): number {
  for (const item of itemsOf(plan)) if ('loop' in item) return item.items.length;
  throw new Error('there is no loop');
}

describe('choices', () => {
  test('only the branch that is taken runs', () => {
    const x = leaf(8, 8);
    const choose = (flag: number): Node => {
      const isOutside = outsideOfBranch(g.scalar(0, 'float32').id);
      const heavy = repeat(g.matmul(x, x), 50, (y) => g.matmul(y, x));
      return g.choice(g.less(g.scalar(flag, 'float32'), g.constant(0, 'float32')), [
        { outputs: [heavy], isOutside },
        { outputs: [g.neg(x)], isOutside },
      ])(0);
    };
    expect(kernelsRun(choose(1))).toBeLessThan(6);
    expect(kernelsRun(choose(-1))).toBeGreaterThan(50);
  });
});

describe('loops', () => {
  test('a carry that is read at its own position alone is overwritten, others take turns', () => {
    const x = leaf(256);
    const inPlace = planOf(repeat(x, 5, (y) => g.tanh(y)));
    expect(insideFirstLoop(inPlace)).toBe(1);
    // In the result's own memory: no arena, and one copy of what it begins with.
    expect(inPlace).toMatchObject({ arenaBytes: 0, dispatches: { length: 2 } });
    const turning = planOf(repeat(x, 5, (y) => g.flip(y)));
    expect(insideFirstLoop(turning)).toBe(1);
    expect(turning).toMatchObject({ arenaBytes: 2048, dispatches: { length: 3 } });
  });

  test('a carry that stays, and what depends on nothing that changes, cost nothing', () => {
    const [x, w] = [leaf(4, 4), leaf(4, 4)];
    const parameters = [parameterLike(x), parameterLike(w)] as const;
    const [p, q] = parameters;
    const { final } = g.loop({
      carries: [
        { parameter: p, init: x, next: g.add(p, g.matmul(g.exp(w), g.tanh(w))) },
        { parameter: q, init: w, next: q },
      ],
      trips: 10,
    });
    expect(insideFirstLoop(planOf(final(0), final(1)))).toBe(1);
  });

  test('what is not asked for is not kept; without elements nothing runs', () => {
    const x = leaf(64);
    const parameter = parameterLike(x);
    const made = g.loop({
      carries: [{ parameter, init: x, next: g.tanh(parameter) }],
      each: [g.exp(parameter), g.sin(parameter)],
      trips: 6,
    });
    expect(planOf(made.final(0)).arenaBytes).toBe(0);
    expect(planOf(made.each(1)).bindings.map(({ bytes }) => bytes)).toEqual([256, 6 * 256]);
    const empty = leaf(0);
    const plan = planOf(repeat(empty, 9, (y) => g.tanh(y)));
    expect(plan.dispatches).toEqual([]);
    expect(plan.loops).toBeUndefined();
  });

  test('values of an iteration share the arena with those of others, not with what lives on', () => {
    const x = leaf(1024);
    const chain = (y: Node): Node => {
      for (let i = 0; i < 6; i++) y = g.flip(g.add(g.flip(y), x));
      return g.mul(y, g.sum(y));
    };
    const outside = g.flip(g.exp(x));
    const total = g.add(repeat(outside, 4, chain), repeat(g.flip(outside), 4, chain));
    const { compiled } = compileRoots([total]);
    // Two turns of the carry, a value or two on the way, and what waits for the end.
    expect(compiled.plan.arenaBytes).toBeLessThanOrEqual(8 * 4096);
    expect(compiled.arenaLowerBound).toBeLessThanOrEqual(compiled.plan.arenaBytes);
  });

  test('explained with how often they run', () => {
    const x = leaf(16);
    const { compiled } = compileRoots([repeat(x, 7, (y) => g.flip(g.tanh(y)))]);
    expect(compiled.kernels.map(({ schedule }) => schedule)).toEqual([
      'elementwise',
      'elementwise, 7 times',
      'elementwise',
    ]);
  });
});
