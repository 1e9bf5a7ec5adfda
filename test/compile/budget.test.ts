// Budgets on graphs of any form: values are the same to the bit, whatever runs again, and whatever
// leaves are overwritten on the way.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BudgetError } from '../../src/base/errors.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { Simulator, instancesOf, isBlocked } from '../../src/compile/memory/timeline.ts';
import { orderForMemory } from '../../src/compile/memory/reorder.ts';
import type { Unit, Units, Value } from '../../src/compile/memory/units.ts';
import { leafFor } from '../support/graphs.ts';
import { compileRoots, execute, type RootSpec } from './harness.ts';

const SIZE = 6;

/** A chain of products, sums and functions with shortcuts, walked back as gradients would be. */
function trainingLike(
  choices: readonly number[],
  overwrite: boolean,
): { roots: RootSpec[]; values: Map<Node, ReferenceTensor> } {
  const values = new Map<Node, ReferenceTensor>();
  const leaf = (seed: number): Node => {
    const node = leafFor({ shape: [SIZE, SIZE], dtype: 'float32' });
    values.set(node, randomTensor(node.shape, { seed, low: -1, high: 1 }));
    return node;
  };
  const weights = choices.map((_, i) => leaf(i + 2));
  const states = [leaf(1)];
  choices.forEach((choice, i) => {
    const last = states.at(-1)!;
    const product = g.matmul(last, weights[i]!);
    const next = choice % 3 === 0 ? g.tanh(product) : g.relu(product);
    const centred = choice % 2 === 0 ? next : g.sub(next, g.sum(next, [0], true));
    states.push(choice % 5 === 0 && i > 1 ? g.add(centred, states.at(-2)!) : centred);
  });
  let grad = g.square(states.at(-1)!);
  const roots: RootSpec[] = [g.sum(grad)];
  for (let i = choices.length - 1; i >= 0; i--) {
    const weight = weights[i]!;
    const step = g.matmul(g.transpose(states[i]!), grad);
    const updated = g.sub(weight, g.mul(step, g.constant(0.01, 'float32')));
    grad = g.mul(g.matmul(grad, g.transpose(weight)), g.tanh(states[i]!));
    roots.push(overwrite ? { node: updated, over: weight } : updated);
  }
  return { roots, values };
}

const chain = fc.array(fc.nat(29), { minLength: 2, maxLength: 9 });

describe('random steps under a budget', () => {
  test.each([
    ['overwriting their weights', true],
    ['leaving them', false],
  ])('give the same bits, %s', (_, overwrite) => {
    let repeated = 0;
    const property = fc.property(
      chain,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (list, part) => {
        const { roots, values } = trainingLike(list, overwrite);
        const plain = compileRoots(roots);
        const expected = execute(plain.program, plain.compiled, values);
        const most = plain.compiled.plan.arenaBytes;
        if (most === 0) return;
        let least = most;
        try {
          compileRoots(roots, { memoryBudget: 1 });
        } catch (error) {
          if (!(error instanceof BudgetError)) throw error;
          least = Math.min(most, error.smallest);
        }
        for (const memoryBudget of [Math.ceil(least + (most - least) * part), 'sqrt'] as const) {
          const { program, compiled } = compileRoots(roots, { memoryBudget });
          const { budget, plan } = compiled;
          expect(plan.arenaBytes).toBe(budget!.arenaBytes);
          expect(plan.arenaBytes).toBeLessThanOrEqual(
            memoryBudget === 'sqrt' ? most : memoryBudget,
          );
          expect(plan.dispatches).toHaveLength(
            plain.compiled.plan.dispatches.length + budget!.recomputed,
          );
          repeated += budget!.recomputed;
          expect(execute(program, compiled, values)).toEqual(expected);
        }
      },
    );
    fc.assert(property, { numRuns: 20, seed: 3 });
    expect(repeated).toBeGreaterThan(0);
  });
});

// ---- the search's model of a program ----------------------------------------------------------

/** Units by what they read and write; values 0, 1, ... are written in order. */
function unitsOf(
  list: readonly { reads: number[]; writes: number[]; sources?: number[]; targets?: number[] }[],
): Units {
  const units = list.map(({ reads, writes, sources = [], targets = [] }): Unit => ({
    items: [],
    reads,
    writes,
    sources,
    targets,
    inner: 0,
    shares: [],
    flops: 10,
    cost: 1,
  }));
  const values: Value[] = [];
  list.forEach(({ writes }, writer) => {
    for (const value of writes) {
      const readers = list.flatMap(({ reads }, unit) => (reads.includes(value) ? [unit] : []));
      values[value] = {
        key: leafFor({ shape: [8], dtype: 'float32' }),
        bytes: 64,
        writer,
        readers,
      };
    }
  });
  return { units, values, numberOf: new Map(values.map(({ key }, i) => [key, i])), bindings: 4 };
}

describe('what runs when', () => {
  // Three steps forward, three back: value i+3 needs value i and the gradient before.
  const steps = unitsOf([
    { reads: [], writes: [0], sources: [0] },
    { reads: [0], writes: [1], sources: [1] },
    { reads: [1], writes: [2], sources: [2] },
    { reads: [2], writes: [3] },
    { reads: [3, 1], writes: [4], sources: [1], targets: [1] },
    { reads: [4, 0], writes: [5], sources: [0], targets: [0] },
    { reads: [5], writes: [6] },
    { reads: [6], writes: [] },
  ]);
  const drop = (value: number, after: number): number => value * steps.units.length + after;

  test('a value that is given up is computed again before its next use', () => {
    const timeline = new Simulator(steps).run([drop(1, 2)]);
    if (isBlocked(timeline)) throw new Error('blocked');
    expect([...timeline.unit]).toEqual([0, 1, 2, 3, 1, 4, 5, 6, 7]);
    expect([...timeline.at]).toEqual([0, 1, 2, 3, 4, 4, 5, 6, 7]);
    expect(timeline.extraFlops).toBe(10);
    // Value 1 twice: the second one is what unit 4 reads.
    const [, second] = [...timeline.value.keys()].filter((i) => timeline.value[i] === 1);
    expect([...instancesOf(timeline, 5)]).toContain(second);
  });

  test('a chain is computed again as a whole, and its parts are there for their own uses', () => {
    const timeline = new Simulator(steps).run([drop(1, 2), drop(0, 1)]);
    if (isBlocked(timeline)) throw new Error('blocked');
    expect([...timeline.unit]).toEqual([0, 1, 2, 3, 0, 1, 4, 5, 6, 7]);
  });

  test('what was overwritten is not read again', () => {
    // Unit 0 reads binding 1 here, which unit 4 overwrites before value 0 is wanted.
    const late = {
      ...steps,
      units: steps.units.map((unit, i) => (i === 0 ? { ...unit, sources: [1] } : unit)),
    };
    expect(new Simulator(late).run([drop(0, 1)])).toEqual({ blocked: 0, wanted: 0 });
  });

  test('what frees more than it makes runs at once', () => {
    // Unit 3 reads values 0 and 1 for the last time, and is listed last.
    const listed = unitsOf([
      { reads: [], writes: [0] },
      { reads: [0], writes: [1] },
      { reads: [1], writes: [2] },
      { reads: [2], writes: [3] },
      { reads: [3], writes: [] },
      { reads: [0, 1], writes: [] },
    ]);
    expect(orderForMemory(listed)).toEqual([0, 1, 5, 2, 3, 4]);
  });

  test('an overwritten binding waits for its readers', () => {
    const listed = unitsOf([
      { reads: [], writes: [0], sources: [0] },
      { reads: [], writes: [1], sources: [0] },
      { reads: [0], writes: [], targets: [0] },
      { reads: [1], writes: [] },
    ]);
    const order = orderForMemory(listed);
    expect(order.indexOf(2)).toBeGreaterThan(order.indexOf(1));
  });
});
