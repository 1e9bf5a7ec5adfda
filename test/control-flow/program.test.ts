// Loops as a part of programs: plans, memory, tracing, what is drawn and promised inside.
import { describe, expect, test } from 'vitest';
import {
  clearPlans,
  configure,
  customGradient,
  debug,
  evaluate,
  explain,
  F,
  manualSeed,
  memory,
  nn,
  optim,
  profile,
  rand,
  randn,
  resetStats,
  scan,
  setDefaultDevice,
  stats,
  tensor,
  trace,
  valueAndGrad,
  zeros,
  type Tensor,
} from 'tengen';
import { defineOp } from 'tengen/extend';
import * as linalg from 'tengen/linalg';
import 'tengen/interp';
import 'tengen/native';
import { engine } from '../../src/interface/tensor/engine.ts';
import { checkLeaks, expectValues, ints } from '../interface/support.ts';
import { asList, cellOf, DEVICES, writtenOut } from './support.ts';

configure({ device: 'wasm', numerics: 'strict' });
checkLeaks();

describe('inside a program', () => {
  test('training holds memory and finds its plan again; steps equal those written out', () => {
    const train = (useScan: boolean): number[] => {
      manualSeed(9);
      const [w, u] = [new nn.Parameter(randn(3, 3)), new nn.Parameter(randn(3, 3))];
      const optimizer = new optim.SGD([w, u], { lr: 0.1, momentum: 0.9 });
      const losses: number[] = [];
      for (let step = 0; step < 6; step++) {
        const xs = rand(4, 2, 3);
        const cell = cellOf(w, u);
        const last = useScan
          ? scan((h: Tensor, x: Tensor) => [cell(h, x), null], zeros(2, 3), xs)[0]
          : writtenOut(cell, zeros(2, 3), xs).at(-1)!;
        const loss = last.sub(0.5).square().mean();
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        losses.push(loss.itemSync() as number);
        if (step === 2) resetStats();
      }
      expect(stats().planMisses).toBe(0);
      return losses;
    };
    const [actual, expected] = [train(true), train(false)];
    actual.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
  });

  test('memory is the same after many runs; one more length is one more plan', () => {
    const run = (length: number): number =>
      scan((s: Tensor, x: Tensor) => [s.add(x.sum()), x.mul(s)], tensor(0), rand(length, 8))[0]
        .sum()
        .itemSync() as number;
    run(5);
    run(5);
    engine().step();
    const before = memory().allocated;
    resetStats();
    for (let i = 0; i < 20; i++) run(5);
    engine().step();
    expect(stats().planMisses).toBe(0);
    expect(memory().allocated).toBeLessThanOrEqual(before);
    run(6);
    expect(stats().planMisses).toBeGreaterThan(0);
    clearPlans();
  });

  test('traced, with numbers as slots', () => {
    const f = trace((xs: Tensor, factor: number) =>
      scan((s: Tensor, x: Tensor) => [s.mul(factor).add(x), s], tensor(0), xs),
    );
    expectValues(f(tensor([1, 2, 3]), 2)[0], 11);
    expectValues(f(tensor([1, 2, 3]), 3)[0], 18);
    expect(f.stats.recordings).toBe(1);
    const g = trace(
      (xs: Tensor) => scan((s: Tensor, x: Tensor) => [s.add(x), s], tensor(0), xs)[1],
      { withoutHost: true },
    );
    expectValues(g(tensor([1, 2, 3])), [0, 1, 3]);
    expectValues(g(tensor([4, 5, 6])), [0, 4, 9]);
    const h = trace(
      (xs: Tensor, plus: boolean) =>
        scan((s: Tensor, x: Tensor) => [plus ? s.add(x) : s.sub(x), null], tensor(0), xs)[0],
    );
    h(tensor([1, 2]), true);
    expect(() => h(tensor([1, 2]), false).arraySync()).not.toThrow();
    const w = new nn.Parameter(tensor(3));
    const through = customGradient((x: Tensor) => ({ value: x, gradient: (c) => c.mul(w) }));
    const own = trace(
      (xs: Tensor) =>
        scan((s: Tensor, x: Tensor) => [s.add(through(x.mul(w))), null], tensor(0), xs),
      { withoutHost: true },
    );
    expect(() => own(tensor([1, 2]))).toThrow(/custom gradient, which a replay cannot call/);
    const changing = { plus: true };
    const k = trace(
      (xs: Tensor) =>
        scan(
          (s: Tensor, x: Tensor) => [changing.plus ? s.add(x) : s.sub(x), null],
          tensor(0),
          xs,
        )[0],
    );
    k(tensor([1, 2]));
    changing.plus = false;
    expect(() => k(tensor([1, 2]))).toThrow(/body=\{ sub.*was.*body=\{ add/);
  });

  test('both results in one pass, whichever is read; explained and measured', async () => {
    const [last, all] = scan((s: Tensor, x: Tensor) => [s.add(x), s], tensor(0), tensor([1, 2, 3]));
    expectValues(last, 6);
    resetStats();
    expectValues(all, [0, 1, 3]);
    expect(stats().runs).toBe(0);
    expect(explain()).toContain('3 times');
    setDefaultDevice(DEVICES.at(-1)!);
    await profile(() =>
      evaluate(scan((s: Tensor) => [s.add(1), null], rand(1000), null, { length: 7 })[0]),
    );
    setDefaultDevice('wasm');
    if (DEVICES.includes('native')) expect(explain()).toMatch(/ms in kernels/);
  });

  test('op by op, and watched for NaN', () => {
    debug.eager = true;
    try {
      const [last, all] = scan((s: Tensor, x: Tensor) => [s.add(x), s], tensor(0), tensor([1, 2]));
      expectValues(last, 3);
      expectValues(all, [0, 1]);
    } finally {
      debug.eager = false;
    }
    debug.checkNaN = true;
    try {
      expect(() =>
        scan((s: Tensor) => [s.sub(1), s.sqrt()], tensor(1), null, { length: 3 }),
      ).toThrow(/NaN/);
    } finally {
      debug.checkNaN = false;
    }
  });
});

describe('what is drawn and promised inside', () => {
  test('each iteration draws other numbers, the same again for the same seed', () => {
    const draw = (): [number[], number[]] => {
      manualSeed(1);
      const body = (s: Tensor) => [s, [rand(3), rand(3)]] as [Tensor, Tensor[]];
      const [, [a, b]] = scan(body, tensor(0), null, { length: 4 }) as unknown as [
        Tensor,
        [Tensor, Tensor],
      ];
      return [asList(a), asList(b)];
    };
    const [a, b] = draw();
    expect(new Set([...a, ...b]).size).toBe(24);
    expect(draw()).toEqual([a, b]);
    const nested = scan(
      (s: Tensor) => [s, scan((t: Tensor) => [t, rand(2)], tensor(0), null, { length: 3 })[1]],
      tensor(0),
      null,
      { length: 3 },
    )[1] as unknown as Tensor;
    expect(new Set(asList(nested)).size).toBe(18);
  });

  test('dropout has the gradient of the mask that it drew', () => {
    manualSeed(2);
    const f = (x: Tensor) =>
      scan((s: Tensor) => [s.add(F.dropout(x, { p: 0.5 })), null], zeros(50), null, {
        length: 3,
      })[0];
    const x = rand(50).add(0.5);
    const { value, grads } = valueAndGrad((v: Tensor) => {
      const drawn = f(v);
      return drawn.mul(v.detach()).sum();
    })(x);
    // Linear in x: what it gives is the gradient times x.
    expect(value.itemSync() as number).toBeCloseTo(grads[0]!.mul(x).sum().itemSync() as number, 3);
  });

  test('other promises, and operations on the host', () => {
    const inverses = (scale: number) =>
      scan(
        (m: Tensor) => [m.mul(scale), linalg.inv(m)],
        tensor([
          [2, 0],
          [0, 4],
        ]),
        null,
        { length: 2 },
      )[1];
    expectValues(inverses(2).at(1), [
      [0.25, 0],
      [0, 0.125],
    ]);
    expect(() => inverses(0).arraySync()).toThrow(/singular/);
    const onHost = defineOp({
      name: 'test.onHost',
      inputs: ['x'],
      shape: ([x]) => x!,
      host: ([x], _attrs, output) => output.data.set(x!.data as Float32Array),
      gradient: { nonDifferentiable: 'a test' },
    });
    expect(() => scan((s: Tensor) => [onHost(s), null], zeros(2), null, { length: 2 })).toThrow(
      /test\.onHost: runs on the host/,
    );
    const x = zeros(2);
    expectValues(
      scan((s: Tensor) => [s.add(onHost(x)).add(1), null], zeros(2), null, { length: 2 })[0],
      [2, 2],
    );
  });

  test('indices that are computed are checked in every iteration', () => {
    const table = tensor([10, 20, 30]);
    const f = (start: number, length: number) =>
      scan((i: Tensor) => [i.add(1), table.indexSelect(0, i.reshape([1]))], ints(start), null, {
        length,
      })[1] as unknown as Tensor;
    expectValues(f(0, 3), [[10], [20], [30]]);
    expect(() => f(1, 3).arraySync()).toThrow(/index 3 is out of range for size 3/);
    expect(() => f(-1, 2).arraySync()).toThrow(/out of range/);
    expectValues(f(2, 1), [[30]]);
    const embedding = new nn.Embedding(4, 2);
    const look = (ids: number[]) =>
      scan((s: Tensor, id: Tensor) => [s.add(embedding.forward(id)), null], zeros(2), ints(ids))[0];
    look([0, 3]).arraySync();
    expect(() => look([0, 4]).arraySync()).toThrow(/index 4 is out of range for size 4/);
    // What is known of the whole is looked at before the run, and costs no kernel in it.
    look([1, 2]).arraySync();
    expect(explain()).not.toContain('min');
  });
});
