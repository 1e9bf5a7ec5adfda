// Random loops and choices, within each other too, against the same computation written out: the
// same bits in strict numerics, on every device, with and without fusion, on several threads.
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import * as g from '../../src/graph/ops/index.ts';
import { randomTensor } from '../../src/graph/ops/samples.ts';
import { outsideOfBranch, parameterLike } from '../../src/graph/subgraph.ts';
import type { Device } from '../../src/runtime/device.ts';
import { computedOps, leafFor } from '../support/graphs.ts';
import { runGraph } from '../support/run-graph.ts';

const N = 4;

/** Numbers that a test case is made of, taken one after the other. */
class Choices {
  readonly #numbers: readonly number[];
  #next = 0;

  constructor(numbers: readonly number[]) {
    this.#numbers = numbers;
  }

  below(limit: number): number {
    return (this.#numbers[this.#next++ % this.#numbers.length] as number) % limit;
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}

/** What a loop is made of; `body` gives the next carries and what is kept. */
interface LoopParts {
  readonly inits: readonly Node[];
  readonly slices: readonly Node[];
  readonly trips: number;
  readonly backwards: boolean;
  body(carries: readonly Node[], parts: readonly Node[]): { next: Node[]; each: Node[] };
  /** Whether another iteration follows; null: always. */
  readonly goesOn: ((carries: readonly Node[]) => Node) | null;
}

/** How loops and choices are made: as such, or written out. */
interface Form {
  loop(parts: LoopParts): Node[];
  choose(predicate: Node, branches: readonly [() => Node[], () => Node[]]): Node[];
}

const asRegions: Form = {
  loop({ inits, slices, trips, backwards, body, goesOn }) {
    const carried = inits.map((init) => ({ init, parameter: parameterLike(init) }));
    const sliced = slices.map((of) => ({ of, parameter: parameterLike(of, true) }));
    const { next, each } = body(
      carried.map(({ parameter }) => parameter),
      sliced.map(({ parameter }) => parameter),
    );
    const carries: g.Carry[] = carried.map((carry, k) => ({ ...carry, next: next[k] as Node }));
    if (goesOn !== null) {
      const [first, zero] = [goesOn(inits), g.constant(0, 'int32')];
      const count = parameterLike(zero);
      const more = g.add(count, g.constant(1, 'int32'));
      carries.push({ parameter: parameterLike(first), init: first, next: goesOn(next) });
      carries.push({ parameter: count, init: zero, next: more });
    }
    const conditions = { condition: inits.length, counter: inits.length + 1 };
    const made = g.loop({
      carries,
      slices: sliced,
      each,
      trips,
      backwards,
      ...(goesOn === null ? {} : conditions),
    });
    return [...next.map((_, k) => made.final(k)), ...each.map((_, k) => made.each(k))];
  },
  choose(predicate, branches) {
    const build = (branch: () => Node[]): g.Branch => {
      const isOutside = outsideOfBranch(g.scalar(0, 'float32').id);
      return { outputs: branch(), isOutside };
    };
    const then = build(branches[0]);
    const chosen = g.choice(predicate, [then, build(branches[1])]);
    return then.outputs.map((_, k) => chosen(k));
  },
};

const writtenOut: Form = {
  loop({ inits, slices, trips, backwards, body, goesOn }) {
    let carries = [...inits];
    let runs = goesOn?.(carries);
    const kept: Node[][] = [];
    for (let i = 0; i < trips; i++) {
      const at = backwards ? trips - 1 - i : i;
      const parts = slices.map((of) => g.reshape(g.narrowAxis(of, 0, at, 1), of.shape.slice(1)));
      const { next, each } = body(carries, parts);
      if (runs !== undefined && goesOn !== null) {
        const [active, before] = [runs, carries];
        carries = next.map((value, k) => g.select(active, value, before[k] as Node));
        runs = g.logicalAnd(active, goesOn(carries));
      } else carries = next;
      each.forEach((value, k) => {
        (kept[k] ??= [])[at] = g.reshape(value, [1, ...value.shape]);
      });
    }
    return [...carries, ...kept.map((parts) => g.concat(parts))];
  },
  choose(predicate, [then, otherwise]) {
    const other = otherwise();
    return then().map((value, k) => g.select(predicate, value, other[k] as Node));
  },
};

/** The next value of a pool of [N] vectors; `deep`: how many regions may still be opened. */
function grow(pool: Node[], choices: Choices, form: Form, matrix: Node, deep: number): void {
  const a = choices.of(pool);
  const b = choices.of(pool);
  switch (choices.below(deep > 0 ? 11 : 8)) {
    case 0:
      pool.push(g.add(a, b));
      break;
    case 1:
      pool.push(g.sub(g.constant(1, 'float32'), g.mul(a, b)));
      break;
    case 2:
      pool.push(g.tanh(a));
      break;
    case 3:
      pool.push(g.reshape(g.matmul(g.reshape(a, [1, N]), matrix), [N]));
      break;
    case 4:
      pool.push(g.select(g.less(a, b), a, g.neg(b)));
      break;
    case 5:
      pool.push(g.mul(a, g.sum(b)));
      break;
    case 6:
      pool.push(g.flip(a));
      break;
    case 7:
      pool.push(g.mul(a, g.constant(0.5, 'float32')));
      break;
    case 8:
    case 9:
      pool.push(...randomLoop(pool, choices, form, matrix, deep - 1).slice(0, 1));
      break;
    default: {
      const numbers = Array.from({ length: 12 }, () => choices.below(1000));
      const branch = (offset: number) => (): Node[] => {
        const inner = [...pool];
        const own = new Choices(numbers.slice(offset));
        for (let i = 0; i < 2; i++) grow(inner, own, form, matrix, deep - 1);
        return [inner.at(-1) as Node];
      };
      const predicate = g.less(g.sum(a), g.sum(b));
      pool.push(...form.choose(predicate, [branch(0), branch(6)]));
    }
  }
}

function randomLoop(
  outer: readonly Node[],
  choices: Choices,
  form: Form,
  matrix: Node,
  deep: number,
): Node[] {
  const trips = 1 + choices.below(4);
  const inits = Array.from({ length: 1 + choices.below(3) }, () => choices.of(outer));
  const mayEnd = choices.below(3) === 0;
  const slices = Array.from({ length: mayEnd ? 0 : choices.below(3) }, () => {
    const rows = Array.from({ length: trips }, () => g.reshape(choices.of(outer), [1, N]));
    return g.concat(rows);
  });
  const numbers = Array.from({ length: 40 }, () => choices.below(1000));
  const backwards = choices.below(2) === 1;
  const captured = choices.of(outer);
  return form.loop({
    inits,
    slices,
    trips,
    backwards,
    goesOn: mayEnd
      ? ([first]) => g.less(g.sum(g.tanh(first as Node)), g.constant(0.7, 'float32'))
      : null,
    body(carries, parts) {
      const own = new Choices(numbers);
      const pool = [...carries, ...parts, captured];
      for (let i = 0; i < 4; i++) grow(pool, own, form, matrix, deep);
      return {
        next: carries.map(() => own.of(pool)),
        each: Array.from({ length: mayEnd ? 0 : own.below(3) }, () => own.of(pool)),
      };
    },
  });
}

interface Case {
  readonly roots: readonly Node[];
  readonly values: Map<Node, ReferenceTensor>;
}

function caseOf(numbers: readonly number[], form: Form, differentiated: boolean): Case {
  const choices = new Choices(numbers);
  const values = new Map<Node, ReferenceTensor>();
  const leaf = (shape: readonly number[], seed: number): Node => {
    const value = randomTensor(shape, { low: -1, high: 1, seed, dtype: 'float32' });
    const node = leafFor(value);
    values.set(node, value);
    return node;
  };
  const leaves = [leaf([N], 1), leaf([N], 2), leaf([N, N], 3)];
  const [x, y, matrix] = leaves as [Node, Node, Node];
  const results = randomLoop([x, y, g.add(x, y)], choices, form, matrix, 2);
  if (!differentiated) return { roots: results, values };
  const total = results
    .map((result) => g.sum(g.tanh(result)))
    .reduce((sum, next) => g.add(sum, next));
  const found = gradients([total], [g.constant(1, 'float32')], leaves);
  return { roots: found.map((grad, i) => grad ?? g.zerosLike(leaves[i] as Node)), values };
}

function expectSame(actual: ReferenceTensor, expected: ReferenceTensor, relative: number): void {
  expect(actual.shape).toEqual(expected.shape);
  expected.data.forEach((wanted, i) => {
    const found = actual.data[i] as number;
    if (Object.is(found, wanted) || found === wanted) return;
    // Written out, what is not chosen has a gradient of zero, and that times infinity is NaN.
    if (relative > 0 && Number.isNaN(wanted)) return;
    expect(Math.abs(found - wanted), `${found}, expected ${wanted}`).toBeLessThanOrEqual(
      relative * (1 + Math.abs(wanted)),
    );
  });
}

const numbers = fc.array(fc.nat(1_000_000), { minLength: 60, maxLength: 60 });

const devices: readonly (readonly [string, () => Device])[] = [
  ['interp', () => new InterpDevice({ vectorBytes: 16 })],
  ['wasm', () => new WasmDevice({ threads: 1 })],
  ...(nativeUnavailable() === null
    ? ([
        [
          'native, two threads',
          () => new NativeDevice({ threads: 2, limits: { dispatch: 0, plan: 0 } }),
        ],
      ] as const)
    : []),
];

test('regions are left out of the tests of ops', () => {
  expect(computedOps().some(({ name }) => name === 'loop' || name === 'choice')).toBe(false);
});

describe.each(devices)('%s', (name, create) => {
  const device = create();
  afterAll(() => {
    expect(device.memory().allocated).toBe(0);
    device.close();
  });
  const runs = name === 'native, two threads' ? 6 : 30;

  test.each([true, false])('values, fusion %s: the bits of what is written out', (fusion) => {
    fc.assert(
      fc.property(numbers, (list) => {
        const [region, written] = [caseOf(list, asRegions, false), caseOf(list, writtenOut, false)];
        const options = { numerics: 'strict', fusion } as const;
        const actual = runGraph(device, region.roots, region.values, options);
        const expected = runGraph(device, written.roots, written.values, options);
        region.roots.forEach((root, i) => {
          // Written out, a result may be a leaf.
          const node = written.roots[i] as Node;
          expectSame(actual.get(root)!, (expected.get(node) ?? written.values.get(node))!, 0);
        });
      }),
      { numRuns: runs },
    );
  });

  test('gradients', () => {
    fc.assert(
      fc.property(numbers, (list) => {
        const [region, written] = [caseOf(list, asRegions, true), caseOf(list, writtenOut, true)];
        const options = { numerics: 'strict' } as const;
        const actual = runGraph(device, region.roots, region.values, options);
        const expected = runGraph(device, written.roots, written.values, options);
        region.roots.forEach((root, i) => {
          const found = actual.get(root) ?? region.values.get(root)!;
          // The sums of a gradient are added up in another order.
          expectSame(found, expected.get(written.roots[i] as Node)!, 2e-4);
        });
      }),
      { numRuns: runs },
    );
  });
});
