// What becomes one kernel: counts for the graphs that people write.
import { describe, expect, test } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { compileRoots, execute, type RootSpec, targetOf } from './harness.ts';

const f32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'float32' });
const c = (value: number): Node => g.constant(value, 'float32');

/** Names of the kernels, stages of one main op counted once. */
function kernelsOf(roots: readonly RootSpec[]): string[] {
  const { compiled } = compileRoots(roots);
  return compiled.kernels
    .filter(
      ({ schedule }) => !/\((\d+) of (\d+)\)$/.test(schedule) || /\((\d+) of \1\)$/.test(schedule),
    )
    .map(({ name }) => name);
}

/** The plan gives what the reference gives. */
function expectCorrect(roots: readonly RootSpec[], leaves: readonly Node[]): void {
  const { program, compiled } = compileRoots(roots);
  const values = new Map(
    leaves.map((leaf, i) => [leaf, randomTensor(leaf.shape, { seed: i + 1 })]),
  );
  const nodes = roots.map((root) => ('node' in root ? root.node : root));
  const expected = evaluateReference(nodes, values);
  const results = execute(program, compiled, values);
  nodes.forEach((node, i) => {
    const wanted = expected.get(node)!.data;
    wanted.forEach((value, k) => {
      expect(Math.abs(results[i]![k]! - value)).toBeLessThanOrEqual(1e-4 * (1 + Math.abs(value)));
    });
  });
}

describe('elementwise', () => {
  test('relu(x * w + b) is one kernel', () => {
    const [x, w, b] = [f32(8, 40), f32(40), f32(8, 1)];
    const root = g.relu(g.add(g.mul(x, w), b));
    expect(kernelsOf([root])).toHaveLength(1);
    expectCorrect([root], [x, w, b]);
  });

  test('views never cost a kernel of their own', () => {
    const x = f32(4, 6, 10);
    const moved = g.flip(g.permute(g.reshape(x, [6, 4, 10]), [2, 0, 1]), 0);
    const root = g.neg(g.pad(g.narrowAxis(moved, 0, 2, 7), [1, 0, 0], [0, 1, 0], 3));
    expect(kernelsOf([root])).toHaveLength(1);
    expectCorrect([root], [x]);
  });

  test('SGD with momentum: one kernel per parameter, one pass over its memory', () => {
    const lr = g.scalar(0.1, 'float32');
    const roots: RootSpec[] = [];
    const leaves: Node[] = [];
    for (const size of [64, 48]) {
      const [p, m, grad] = [f32(size, 10), f32(size, 10), f32(size, 10)];
      const next = g.add(g.mul(c(0.9), m), grad);
      roots.push({ node: next, over: m }, { node: g.sub(p, g.mul(lr, next)), over: p });
      leaves.push(p, m, grad);
    }
    expect(kernelsOf(roots)).toHaveLength(2);
    const { compiled } = compileRoots(roots);
    expect(compiled.plan.arenaBytes).toBe(0);
    expect(compiled.plan.bindings).toHaveLength(6);
    expectCorrect(roots, leaves);
  });

  test('Adam: both moments and the parameter in one kernel', () => {
    const [p, m, v, grad] = [f32(30, 10), f32(30, 10), f32(30, 10), f32(30, 10)];
    const m2 = g.add(g.mul(c(0.9), m), g.mul(c(0.1), grad));
    const v2 = g.add(g.mul(c(0.999), v), g.mul(c(0.001), g.square(grad)));
    const update = g.div(m2, g.add(g.sqrt(g.abs(v2)), c(1e-8)));
    const roots = [
      { node: m2, over: m },
      { node: v2, over: v },
      { node: g.sub(p, g.mul(g.scalar(0.01, 'float32'), update)), over: p },
    ];
    expect(kernelsOf(roots)).toHaveLength(1);
  });

  test('an expensive value that several kernels need is computed once', () => {
    const x = f32(64, 64);
    const costly = g.tanh(g.exp(x));
    const roots = [g.sum(costly, [0]), g.sum(g.mul(costly, costly), [1]), g.transpose(costly)];
    const { compiled } = compileRoots(roots);
    const times = compiled.kernels.filter(({ ops }) => ops.includes('tanh'));
    expect(times).toHaveLength(1);
  });

  test('a cheap value that several kernels need is computed again', () => {
    const x = f32(64, 64);
    const cheap = g.neg(x);
    expect(kernelsOf([g.sum(cheap, [0]), g.sum(cheap, [1])])).toHaveLength(2);
  });
});

describe('reductions', () => {
  test('softmax takes at most three kernels', () => {
    const x = f32(64, 100);
    const e = g.exp(g.sub(x, g.max(x, [1], true)));
    expect(kernelsOf([g.div(e, g.sum(e, [1], true))]).length).toBeLessThanOrEqual(3);
  });

  test('chains fuse in front of and behind a sum', () => {
    const x = f32(16, 50);
    const root = g.sqrt(g.add(g.mul(g.sum(g.square(g.add(x, c(1))), [1]), c(1 / 50)), c(1e-5)));
    expect(kernelsOf([root])).toEqual(['sum_sqrt']);
    expectCorrect([root], [x]);
  });

  test('sums over the same axes of the same input are one pass', () => {
    const x = f32(8, 4, 30);
    const roots = [g.sum(x, [0, 2]), g.sum(g.square(x), [0, 2]), g.max(x, [0, 2])];
    expect(kernelsOf(roots)).toHaveLength(1);
    expectCorrect(roots, [x]);
  });

  test('sums over other axes are not', () => {
    const x = f32(8, 30);
    expect(kernelsOf([g.sum(x, [0]), g.sum(x, [1])])).toHaveLength(2);
  });

  test('a long sum of few results runs in pieces, the same ones every time', () => {
    const x = f32(300, 1000);
    const { compiled } = compileRoots([g.sum(x)]);
    expect(compiled.kernels.map(({ schedule }) => schedule)).toEqual([
      'reduction in pieces (1 of 2)',
      'reduction in pieces (2 of 2)',
    ]);
    expectCorrect([g.sum(x)], [x]);
  });
});

describe('contractions', () => {
  test('bias and activation run at the end of a product', () => {
    const [x, w, b] = [f32(20, 30), f32(40, 30), f32(40)];
    const root = g.relu(g.add(g.matmul(x, g.transpose(w)), b));
    expect(kernelsOf([root])).toHaveLength(1);
    expectCorrect([root], [x, w, b]);
  });

  test('bias and activation run at the end of a convolution, also when two kernels read them', () => {
    const [x, w, b] = [f32(2, 3, 8, 8), f32(4, 3, 3, 3), f32(4, 1, 1)];
    const window = { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 };
    const y = g.relu(g.add(g.convolution(x, w, window), b));
    const roots = [g.sum(y, [0, 2, 3]), g.max(y, [1])];
    expect(kernelsOf(roots)).toHaveLength(3);
    const { compiled } = compileRoots(roots);
    expect(compiled.kernels.find(({ ops }) => ops.includes('relu'))?.ops).toContain('convolution');
    expectCorrect(roots, [x, w, b]);
  });

  test("a weight's update runs at the end of its gradient", () => {
    const [x, w] = [f32(16, 12), f32(5, 12)];
    const loss = g.sum(g.square(g.matmul(x, g.transpose(w))));
    const [grad] = gradients([loss], [c(1)], [w]);
    const roots = [{ node: g.sub(w, g.mul(c(0.1), grad!)), over: w }];
    const names = kernelsOf(roots);
    expect(names).toHaveLength(2);
    expectCorrect(roots, [x, w]);
  });
});

describe('batch norm', () => {
  const norm = (x: Node, gamma: Node, beta: Node): Node => {
    const count = x.shape[0]! * x.shape[2]! * x.shape[3]!;
    const mean = g.mul(g.sum(x, [0, 2, 3], true), c(1 / count));
    const centred = g.sub(x, mean);
    const variance = g.mul(g.sum(g.square(centred), [0, 2, 3], true), c(1 / count));
    const scale = g.div(gamma, g.sqrt(g.add(variance, c(1e-5))));
    return g.add(g.mul(centred, scale), beta);
  };

  test('training forward: statistics and result in one kernel, channel by channel', () => {
    const leaves = [f32(4, 8, 10, 10), f32(8, 1, 1), f32(8, 1, 1)] as const;
    const root = g.relu(norm(...leaves));
    expect(kernelsOf([root])).toHaveLength(1);
    expectCorrect([root], leaves);
  });
});

describe('rows', () => {
  const softmax = (x: Node): Node => {
    const e = g.exp(g.sub(x, g.max(x, [-1], true)));
    return g.div(e, g.sum(e, [-1], true));
  };

  test('softmax is one kernel that goes through each row in phases', () => {
    const x = f32(64, 100);
    const { compiled } = compileRoots([softmax(x)]);
    expect(compiled.kernels.map(({ schedule }) => schedule)).toEqual(['rows in 2 phases']);
    expectCorrect([softmax(x)], [x]);
  });

  test('layer norm and its gradients', () => {
    const [x, gamma, beta] = [f32(20, 48), f32(48), f32(48)];
    const mean = g.mul(g.sum(x, [1], true), c(1 / 48));
    const centred = g.sub(x, mean);
    const variance = g.mul(g.sum(g.square(centred), [1], true), c(1 / 48));
    const y = g.add(g.mul(g.div(centred, g.sqrt(g.add(variance, c(1e-5)))), gamma), beta);
    expect(kernelsOf([y])).toHaveLength(1);
    const grads = gradients([y], [f32(20, 48)], [x, gamma, beta]).map((grad) => grad!);
    const weight = f32(20, 48);
    const weighted = gradients([y], [weight], [x]).map((grad) => grad!);
    expect(kernelsOf(weighted)).toHaveLength(1);
    expect(grads).toHaveLength(3);
    expectCorrect([y, ...weighted], [x, gamma, beta, weight]);
  });

  test('few long rows stay apart, so that threads can share them', () => {
    const x = f32(4, 50_000);
    expect(kernelsOf([softmax(x)]).length).toBeGreaterThan(1);
  });

  test('a running value per row is overwritten in the kernel that computes it', () => {
    const [x, running] = [f32(32, 40), f32(32)];
    const mean = g.mul(g.sum(x, [1]), c(1 / 40));
    const next = g.add(g.mul(running, c(0.9)), g.mul(mean, c(0.1)));
    const centred = g.sub(x, g.reshape(mean, [32, 1]));
    const roots = [
      g.square(g.sub(centred, g.reshape(running, [32, 1]))),
      { node: next, over: running },
    ];
    expect(kernelsOf(roots)).toHaveLength(1);
    expectCorrect(roots, [x, running]);
  });
});

describe('results in place', () => {
  test('a leaf that others read later is overwritten at the end', () => {
    const [a, b] = [f32(5), f32(5)];
    const roots = [
      { node: g.add(b, c(0)), over: a },
      { node: g.add(a, c(0)), over: b },
    ];
    expectCorrect(roots, [a, b]);
  });

  test('a leaf that is read at other positions is not overwritten meanwhile', () => {
    const x = f32(50);
    const roots = [{ node: g.add(x, g.flip(x)), over: x }];
    expectCorrect(roots, [x]);
    const sums = [{ node: g.div(x, g.sum(g.abs(x))), over: x }];
    expectCorrect(sums, [x]);
  });

  test('roots that are leaves, equal, or constants', () => {
    const x = f32(7);
    expectCorrect([g.copy(x), g.neg(x), g.neg(x), g.full([3], 2, 'float32')], [x]);
  });
});

test('the same program gives the same plan', () => {
  const make = () => {
    const [x, w] = [f32(16, 12), f32(5, 12)];
    const y = g.relu(g.matmul(x, g.transpose(w)));
    const loss = g.sum(g.square(g.sub(y, g.max(y, [1], true))));
    return compileRoots([loss, ...gradients([loss], [c(1)], [x, w]).map((grad) => grad!)]).compiled;
  };
  const [first, second] = [make(), make()];
  expect(second.plan.dispatches).toEqual(first.plan.dispatches);
  expect(second.plan.arenaBytes).toBe(first.plan.arenaBytes);
  expect(second.kernels).toEqual(first.kernels);
});

test('kernels depend on shapes alone, not on how many threads there are', () => {
  // The target knows no threads; a grid that depended on them would have to get them from it.
  expect(Object.keys(targetOf())).not.toContain('threads');
});

test('stored tells which values are in memory', () => {
  const x = f32(4, 4);
  const hidden = g.neg(x);
  const root = g.abs(hidden);
  const { program, compiled } = compileRoots([root]);
  expect(compiled.stored[program.nodes.indexOf(root)]).toBe(1);
  expect(compiled.stored[program.nodes.indexOf(hidden)]).toBe(0);
  expect(compiled.stored[program.nodes.indexOf(x)]).toBe(0);
});

test('what stands between two contractions ends the first: the second reads plain memory', () => {
  const [x, w, v] = [f32(6, 9), f32(9, 12), f32(12, 5)];
  // Used by three others, and still all that anything is computed from.
  const sum = g.add(g.matmul(x, w), c(0.5));
  const clipped = g.select(g.greater(sum, c(1)), c(1), g.select(g.less(sum, c(0)), c(0), sum));
  const root = g.matmul(clipped, v);
  const { program, compiled } = compileRoots([root]);
  const stored = program.nodes.filter((_, i) => compiled.stored[i] === 1);
  expect(stored).toEqual([clipped, root]);
  expectCorrect([root], [x, w, v]);
  // What something else needs too is stored itself.
  const both = g.sum(sum, [1]);
  expect(kernelsOf([root, both])).toHaveLength(3);
  expectCorrect([root, both], [x, w, v]);
});
