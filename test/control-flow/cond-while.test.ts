// `cond` and `whileLoop`: values and gradients against JavaScript's own, within each other, and what
// is refused.
import { describe, expect, test } from 'vitest';
import {
  cond,
  configure,
  grad,
  manualSeed,
  memory,
  nn,
  rand,
  resetStats,
  scan,
  setDefaultDevice,
  stats,
  tensor,
  type Tensor,
  trace,
  where,
  whileLoop,
  zeros,
} from 'tengen';
import 'tengen/interp';
import 'tengen/native';
import { engine } from '../../src/interface/tensor/engine.ts';
import { checkLeaks, expectValues, ints } from '../interface/support.ts';
import { asList, DEVICES } from './support.ts';

configure({ device: 'wasm', numerics: 'strict' });
checkLeaks();

describe('cond', () => {
  const f = (x: Tensor) =>
    cond(
      x.sum().gt(0),
      (v) => v.exp(),
      (v) => v.mul(v),
      [x],
    );

  test('the branch that the predicate says, with its gradients', () => {
    for (const list of [
      [1, 2],
      [-1, -2],
    ]) {
      const x = tensor(list);
      const positive = list[0]! > 0;
      const direct = (v: Tensor) => (positive ? v.exp() : v.mul(v));
      expect(asList(f(x))).toEqual(asList(direct(x)));
      const slope = grad((v: Tensor) => f(v).sum());
      const bend = grad((v: Tensor) => slope(v).mul(v).sum());
      expectValues(slope(x), grad((v: Tensor) => direct(v).sum())(x).arraySync());
      expectValues(
        bend(x),
        grad((v: Tensor) =>
          grad((u: Tensor) => direct(u).sum())(v)
            .mul(v)
            .sum(),
        )(x).arraySync(),
      );
    }
  });

  test('one plan for both; trees; what is closed over has gradients', () => {
    const [w, b] = [tensor([2, 3]), tensor([5, 7])];
    const g = (flag: Tensor, p: Tensor, q: Tensor) =>
      cond(
        flag,
        () => ({ a: p.mul(q), list: [p] }),
        () => ({ a: p.add(1), list: [q.mul(q)] }),
      );
    const total = (flag: Tensor) => (p: Tensor, q: Tensor) => {
      const { a, list } = g(flag, p, q);
      return a.sum().add(list[0]!.sum());
    };
    const flags = [tensor(true), tensor(false)];
    expectValues(g(flags[0]!, w, b).a, [10, 21]);
    resetStats();
    expectValues(g(flags[1]!, w, b).a, [3, 4]);
    expect(stats()).toMatchObject({ planMisses: 0, planHits: 1 });
    expectValues(grad(total(flags[0]!))(w, b), [6, 8]);
    expectValues(grad((q: Tensor) => total(flags[0]!)(w, q))(b), [2, 3]);
    expectValues(grad((q: Tensor) => total(flags[1]!)(w, q))(b), [10, 14]);
    expectValues(grad((p: Tensor) => total(flags[1]!)(p, b))(w), [1, 1]);
  });

  test('a predicate may be a boolean, a number of one element, or change from run to run', () => {
    const pick = (p: Tensor | boolean) =>
      cond(
        p,
        () => tensor(1),
        () => tensor(2),
      );
    expectValues(pick(true), 1);
    expectValues(pick(false), 2);
    expectValues(pick(tensor([[3]])), 1);
    expectValues(pick(ints([0])), 2);
  });

  test('results that are operands, constants, or the same; branches without elements', () => {
    const x = tensor([1, 2]);
    const [a, b, c] = cond(
      tensor(false),
      () => [x, x, zeros(0)],
      () => [x.neg(), x.neg(), zeros(0)],
    );
    expectValues(a!, [-1, -2]);
    expectValues(b!, [-1, -2]);
    expect(c!.shape).toEqual([0]);
  });

  test('what is drawn in a branch, and indices that are checked only if it is taken', () => {
    manualSeed(4);
    const drawn = cond(
      tensor(true),
      () => rand(100),
      () => zeros(100),
    );
    const mean = drawn.mean().itemSync() as number;
    expect(mean).toBeGreaterThan(0.3);
    expect(mean).toBeLessThan(0.7);
    const table = tensor([10, 20, 30]);
    const look = (take: boolean, index: number) => {
      const at = ints([index]).add(0);
      return cond(
        tensor(take),
        () => table.indexSelect(0, at.add(1)),
        () => zeros(1),
      );
    };
    expectValues(look(true, 1), [30]);
    expectValues(look(false, 2), [0]);
    expect(() => look(true, 2).arraySync()).toThrow(/index 3 is out of range for size 3/);
  });

  test.each([
    [
      'shapes that differ',
      () =>
        cond(
          tensor(true),
          () => ({ a: zeros(2) }),
          () => ({ a: zeros(3) }),
        ),
      /cond: result\.a is float32 \[2\] in the first branch and float32 \[3\] in the second/,
    ],
    [
      'dtypes that differ',
      () =>
        cond(
          tensor(true),
          () => zeros(2),
          () => ints([1, 2]),
        ),
      /result is float32 \[2\] in the first branch and int32 \[2\]/,
    ],
    [
      'trees that differ',
      () =>
        cond(
          tensor(true),
          () => [zeros(2)],
          () => [zeros(2), zeros(2)],
        ),
      /the first branch has nothing where the second has result\[1\]/,
    ],
    [
      'a predicate of several elements',
      () =>
        cond(
          tensor([true, false]),
          () => zeros(1),
          () => zeros(1),
        ),
      /the condition is bool \[2\], not a single value.*any\(\)/s,
    ],
    [
      'operands without a list',
      () =>
        cond(
          tensor(true),
          (x: Tensor) => x,
          (x: Tensor) => x,
          tensor(1) as never,
        ),
      /operands are Tensor, not a list/,
    ],
    [
      'an assignment',
      () => {
        const p = new nn.Parameter(tensor(1));
        return cond(
          tensor(true),
          () => p.assign(tensor(2)),
          () => tensor(1),
        );
      },
      /assigned to inside a loop or branch/,
    ],
  ] as [string, () => unknown, RegExp][])('refuses %s', (_name, run, message) => {
    expect(run).toThrow(message);
    engine().step();
  });
});

describe('whileLoop', () => {
  const grow = (limit: number) => (x: Tensor) =>
    whileLoop(
      (v: Tensor) => v.sum().lt(limit),
      (v: Tensor) => v.mul(v).add(v),
      x,
      { maxIterations: 8 },
    );
  const written = (limit: number) => (x: Tensor) => {
    for (let i = 0; i < 8 && (x.sum().itemSync() as number) < limit; i++) x = x.mul(x).add(x);
    return x;
  };

  test.each(DEVICES)('as often as the values say, in one plan, on %s', (device) => {
    setDefaultDevice(device);
    try {
      const count = (limit: Tensor) =>
        whileLoop(
          ({ i }: { i: Tensor; odd: Tensor }) => i.lt(limit),
          ({ i, odd }) => ({ i: i.add(1), odd: odd.logicalNot() }),
          { i: ints(0), odd: tensor(false) },
        );
      expectValues(count(ints(0)).i, 0);
      resetStats();
      for (const limit of [1, 2, 7, 100]) {
        const { i, odd } = count(ints(limit));
        expectValues(i, limit);
        expectValues(odd, limit % 2 === 1);
      }
      expect(stats().planMisses).toBe(0);
      const x = tensor([0.5, 1.2, 0.7]);
      expect(asList(grow(100)(x))).toEqual(asList(written(100)(x)));
    } finally {
      setDefaultDevice('wasm');
    }
  });

  test('gradients of the iterations that were made, of any order', () => {
    const x = tensor([0.5, 1.2, 0.7]);
    for (const limit of [0, 3, 100, 1e30]) {
      const [actual, expected] = [grow(limit), written(limit)].map((fn) =>
        grad((v: Tensor) => fn(v).sum()),
      ) as [(v: Tensor) => Tensor, (v: Tensor) => Tensor];
      if (limit === 1e30) {
        // Eight squarings: the limit of iterations, and numbers beyond float32.
        const small = tensor([0.01, 0.02]);
        expectValues(actual(small), expected(small).arraySync());
        continue;
      }
      expectValues(actual(x), expected(x).arraySync());
      const twice = (slope: (v: Tensor) => Tensor) =>
        grad((v: Tensor) => slope(v).mul(v).sum())(x).arraySync();
      expectValues(tensor(twice(actual) as number[]), twice(expected));
    }
  });

  test('gradients by what is closed over', () => {
    const w = tensor(1.5);
    const f = (p: Tensor) =>
      whileLoop(
        (v: Tensor) => v.lt(10),
        (v: Tensor) => v.mul(p),
        tensor(1),
        { maxIterations: 20 },
      );
    expectValues(f(w), 1.5 ** 6);
    expectValues(grad(f)(w), 6 * 1.5 ** 5);
    expectValues(grad(grad(f))(w), 30 * 1.5 ** 4);
  });

  test('without a bound a gradient is refused, with what to do', () => {
    const f = (x: Tensor) =>
      whileLoop(
        (v: Tensor) => v.lt(10),
        (v: Tensor) => v.mul(2),
        x,
      );
    expectValues(f(tensor(3)), 12);
    expect(() => grad(f)(tensor(3))).toThrow(/whileLoop: has no gradient.*maxIterations/s);
  });

  test('in a scan, with a scan and a choice in it', () => {
    const steps = (x: Tensor) =>
      scan(
        (total: Tensor, start: Tensor) => {
          const { n, count } = whileLoop(
            ({ n: v }: { n: Tensor; count: Tensor }) => v.gt(1),
            ({ n: v, count: c }) => {
              const [half] = scan((h: Tensor) => [h.mul(0.5), null], v, null, { length: 1 });
              const even = v.remainder(2).lt(0.5);
              return {
                n: cond(
                  even,
                  () => half,
                  () => v.mul(3).add(1),
                ),
                count: c.add(1),
              };
            },
            { n: start, count: ints(0) },
          );
          return [total.add(n), count];
        },
        tensor(0),
        x,
      );
    const [total, counts] = steps(tensor([1, 2, 3, 6, 7, 27]));
    expectValues(counts, [0, 1, 7, 8, 16, 111]);
    expectValues(total, 6);
  });

  test('greedy generation is one plan, traced too', () => {
    manualSeed(7);
    const [embedding, head] = [new nn.Embedding(6, 8), new nn.Linear(8, 6)];
    const next = (token: Tensor) => head.forward(embedding.forward(token)).argmax(-1);
    const length = 5;
    const generate = (first: Tensor): Tensor => {
      const start = { tokens: zeros([length], { dtype: 'int32' }), token: first, i: ints(0) };
      const at = (i: Tensor) => tensor([0, 1, 2, 3, 4], { dtype: 'int32' }).eq(i);
      return whileLoop(
        ({ i }: typeof start) => i.lt(length),
        ({ tokens, token, i }) => {
          const chosen = next(token);
          return { tokens: where(at(i), chosen, tokens), token: chosen, i: i.add(1) };
        },
        start,
      ).tokens;
    };
    const expected: number[] = [];
    let token = ints(2);
    for (let i = 0; i < length; i++) {
      token = next(token);
      expected.push(token.itemSync() as number);
    }
    expect(asList(generate(ints(2)))).toEqual(expected);
    const traced = trace(generate, { withoutHost: true });
    expect(asList(traced(ints(2)))).toEqual(expected);
    expect(asList(traced(ints(3)))).toEqual(asList(generate(ints(3))));
  });

  test('numbers that are drawn differ between iterations', () => {
    manualSeed(8);
    const { list } = whileLoop(
      ({ i }: { i: Tensor; list: Tensor }) => i.lt(6),
      ({ i, list: l }) => ({
        i: i.add(1),
        list: where(tensor([0, 1, 2, 3, 4, 5]).eq(i), rand(1), l),
      }),
      { i: tensor(0), list: zeros(6) },
    );
    expect(new Set(asList(list)).size).toBe(6);
  });

  test('memory is the same after many runs', () => {
    const run = (n: number): number =>
      whileLoop(
        ({ i }: { i: Tensor; v: Tensor }) => i.lt(n),
        ({ i, v }) => ({ i: i.add(1), v: v.mul(1.5).tanh() }),
        { i: tensor(0), v: rand(64) },
      )
        .v.sum()
        .itemSync() as number;
    run(2);
    run(3);
    engine().step();
    const before = memory().allocated;
    resetStats();
    for (let i = 0; i < 20; i++) run(2 + i);
    engine().step();
    expect(stats().planMisses).toBe(0);
    expect(memory().allocated).toBeLessThanOrEqual(before);
  });

  test.each([
    [
      'another shape',
      () =>
        whileLoop(
          (v: Tensor) => v.sum().lt(1),
          (v: Tensor) => v.reshape([2, 1]),
          zeros(2),
        ),
      /whileLoop: value is float32 \[2\] in init and float32 \[2,1\]/,
    ],
    [
      'a condition of several elements',
      () =>
        whileLoop(
          (v: Tensor) => v.lt(1),
          (v: Tensor) => v,
          zeros(2),
        ),
      /the condition is bool \[2\], not a single value/,
    ],
    [
      'a condition that is read',
      () =>
        whileLoop(
          ((v: Tensor) => (v.itemSync() as number) < 1) as never,
          (v: Tensor) => v.add(1),
          zeros(),
        ),
      /known only while the loop runs/,
    ],
    [
      'a negative bound',
      () =>
        whileLoop(
          (v: Tensor) => v.lt(1),
          (v: Tensor) => v.add(1),
          zeros(),
          { maxIterations: -1 },
        ),
      /maxIterations/,
    ],
    [
      'no function',
      () => whileLoop(null as never, (v: Tensor) => v, zeros()),
      /expected a function/,
    ],
  ] as [string, () => unknown, RegExp][])('refuses %s', (_name, run, message) => {
    expect(run).toThrow(message);
    engine().step();
  });
});
