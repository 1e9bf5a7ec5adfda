// Declared dimensions: one program for all sizes.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { dim, F, nn, optim, spec, tensor, type Tensor, trace } from 'tengen';
import { recordGraph, graphOf } from '../../src/graph/record.ts';
import { instantiate, unify } from '../../src/graph/symbolic.ts';
import { checkLeaks, expectValues } from '../interface/support.ts';

checkLeaks();

describe('laying data over each other', () => {
  const at = (n: number, t = 1) => ({ n, t });

  test('sums of products over divisors, and fractions', () => {
    const make = (n: number, t: number) => ({
      same: [1, 'x', true, null],
      sizes: [n, 3 * t, n * t, 2 * n * t + n - 5],
      half: (n * 3) / 2,
      mean: 1 / (n * t),
      unbiased: (0.1 * n * t) / (n * t - 1),
      scale: 0.1 * n,
    });
    const points = [at(2, 3), at(4, 3), at(2, 5), at(4, 5), at(6, 7)];
    const symbolic = unify(
      ['n', 't'],
      points.map(({ n, t }) => ({ sizes: { n, t }, value: make(n, t) })),
    );
    for (const [n, t] of [
      [8, 9],
      [100, 1],
      [2, 64],
    ] as const) {
      const made = instantiate<ReturnType<typeof make>>(symbolic, { n, t });
      const expected = make(n, t);
      expect(made).toEqual({ ...expected, scale: made.scale, unbiased: made.unbiased });
      expect(made.unbiased).toBeCloseTo(expected.unbiased, 12);
      expect(made.scale).toBeCloseTo(expected.scale, 12);
    }
    expect(() => instantiate(symbolic, { n: 3, t: 2 })).toThrow('3*n / 2 is not whole at n=3, t=2');
    expect(() => instantiate(symbolic, { n: 4 })).toThrow("the size of 't' is not known");
  });

  test('what is no such number is a conflict that says where', () => {
    const lay = (make: (n: number) => unknown): unknown =>
      unify(
        ['n'],
        [4, 5, 7].map((n) => ({ sizes: { n }, value: make(n) })),
      );
    expect(() => lay((n) => ({ a: [0, n * n] }))).toThrow('16 at n=4, 25 at n=5, 49 at n=7');
    expect(() => lay((n) => Math.floor(n / 2))).toThrow('2 at n=4, 3 at n=7');
    expect(() => lay((n) => Array.from({ length: n }, () => 0))).toThrow('4 long at n=4');
    expect(() => lay((n) => (n > 4 ? 'more' : 'less'))).toThrow('"less" at n=4, "more" at n=5');
    expect(() => lay((n) => ({ [`key${n}`]: 1 }))).toThrow('n=5');
    expect(() => lay((n) => (n === 7 ? {} : []))).toThrow('n=7');
    expect(lay(() => NaN)).toBeNaN();
  });

  test('graphs as data', () => {
    const w = tensor([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    const build = (n: number): Tensor =>
      tg
        .zeros([n, 3])
        .add(1)
        .matmul(w)
        .reshape(n * 2)
        .narrow(0, 0, n)
        .sum();
    const records = [4, 5, 7].map((n) => ({
      sizes: { n },
      value: recordGraph([build(n).node]).record,
    }));
    const symbolic = unify(['n'], records);
    const [output] = graphOf(
      instantiate<(typeof records)[0]['value']>(symbolic, { n: 10 }),
      [w.node],
      [],
    ).outputs;
    const expected = recordGraph([build(10).node]).record;
    expect(recordGraph([output as NonNullable<typeof output>]).record).toEqual(expected);
  });
});

class Net extends nn.Module {
  conv = new nn.Conv2d(1, 2, 3, { padding: 1 });
  bn = new nn.BatchNorm2d(2);
  fc = new nn.Linear(2 * 2 * 2, 3);
  forward(x: Tensor): Tensor {
    const features = F.maxPool2d(F.relu(this.bn.forward(this.conv.forward(x))), 2);
    return F.logSoftmax(this.fc.forward(features.flatten(1)), 1);
  }
}

const images = (n: number): Tensor =>
  tg
    .arange(n * 16, { dtype: 'float32' })
    .sin()
    .reshape(n, 1, 4, 4);

describe('without host', () => {
  test('inference: recorded at once for all sizes, 1 and 0 included', () => {
    tg.manualSeed(0);
    const model = new Net();
    model.eval();
    let calls = 0;
    const fn = trace(
      (x: Tensor) => {
        calls++;
        const scores = model.forward(x);
        return { scores, best: scores.argmax(1), mean: scores.mean(), rows: x.shape[0] };
      },
      { withoutHost: true, inputs: [spec([dim('batch', { min: 0 }), 1, 4, 4])] },
    );
    fn(images(4));
    const recorded = calls;
    for (const n of [1, 2, 9, 33, 4, 0]) {
      const { scores, best, mean, rows } = fn(images(n));
      const expected = model.forward(images(n));
      expect(rows).toBe(n);
      expect(scores.arraySync()).toEqual(expected.arraySync());
      expect(best.arraySync()).toEqual(expected.argmax(1).arraySync());
      expect(mean.itemSync()).toEqual(expected.mean().itemSync());
    }
    expect(calls).toBe(recorded);
    expect(fn.stats).toMatchObject({ recordings: 1, misses: 1, hits: 6 });
  });

  test('gradients, two dimensions, attention, constants', () => {
    tg.manualSeed(1);
    const layer = new nn.MultiheadAttention(4, 2, { batchFirst: true });
    const [batch, time] = [dim('batch'), dim('time', { max: 64 })];
    const fn = trace((x: Tensor) => layer.forward(x, x, x)[0], {
      captureAsConst: true,
      inputs: [spec([batch, time, 4])],
    });
    for (const [b, t] of [
      [2, 3],
      [3, 5],
      [1, 7],
      [4, 2],
      [5, 11],
    ] as const) {
      const data = tg
        .arange(b * t * 4, { dtype: 'float32' })
        .cos()
        .reshape(b, t, 4)
        .arraySync();
      const x = tensor(data, { requiresGrad: true });
      const y = tensor(data, { requiresGrad: true });
      const out = fn(x);
      const expected = layer.forward(y, y, y)[0];
      expectValues(out, expected.arraySync());
      out.sum().backward();
      expected.sum().backward();
      expectValues(x.grad as Tensor, (y.grad as Tensor).arraySync());
    }
    expect(fn.stats.recordings).toBe(1);
    expect(() => fn(tg.zeros([1, 65, 4]))).toThrow("'time' is 65, declared is from 1 to 64");
  });

  test('a training step learns from the first sizes it is called with', () => {
    const run = (traced: boolean): unknown => {
      tg.manualSeed(2);
      const model = new Net();
      const dropout = new nn.Dropout(0.5);
      const adam = new optim.Adam(model.parameters(), { lr: 0.01 });
      let calls = 0;
      const plain = (x: Tensor, y: Tensor): Tensor => {
        calls++;
        const loss = F.nllLoss(model.forward(dropout.forward(x)), y);
        adam.zeroGrad();
        loss.backward();
        adam.step();
        return loss;
      };
      const batch = dim('batch');
      const inputs = [spec([batch, 1, 4, 4]), spec([batch], 'int32')];
      const step = traced ? trace(plain, { withoutHost: true, inputs }) : plain;
      const losses = [8, 8, 5, 3, 8, 6, 5, 10].map((n) => {
        const labels = Array.from({ length: n }, (_, i) => i % 3);
        return step(images(n), tensor(labels, { dtype: 'int32' })).itemSync();
      });
      if (traced) expect(calls).toBe(3);
      return [losses, model.parameters().map((p) => p.arraySync())];
    };
    expect(run(true)).toEqual(run(false));
  });

  test('loops', () => {
    const fn = trace(
      (xs: Tensor) =>
        tg.scan((sum: Tensor, x: Tensor) => [sum.add(x), sum.mul(2)], tg.zeros(2), xs),
      { withoutHost: true, inputs: [spec([dim('steps'), 2])] },
    );
    for (const n of [3, 4, 6, 9]) {
      const [last, all] = fn(tg.ones([n, 2]));
      expectValues(last, [n, n]);
      expectValues(
        all,
        Array.from({ length: n }, (_, i) => [2 * i, 2 * i]),
      );
    }
    expect(fn.stats.recordings).toBe(1);
  });

  test('a function that is no program for all sizes: operation and line', () => {
    const pairs = trace(
      function pairs(x: Tensor) {
        return x.narrow(0, 0, Math.floor((x.shape[0] as number) / 2));
      },
      { withoutHost: true, inputs: [spec([dim('n')])] },
    );
    expect(() => pairs(tg.ones(4))).toThrow(
      /pairs is no program for all sizes: size\.0 of operation 1, slice, is 2 at n=4, 3 at n=7.*\(recorded at .*dims\.test\.ts:\d+/,
    );
    const even = trace((x: Tensor) => x.narrow(0, 0, (x.shape[0] as number) / 2), {
      withoutHost: true,
      inputs: [spec([dim('n', { sizes: [2, 4, 8, 16] })])],
    });
    expectValues(even(tensor([1, 2, 3, 4])), [1, 2]);
    expectValues(even(tensor([1, 2])), [1]);
    expect(even(tg.ones(16)).shape).toEqual([8]);
    expect(() => even(tg.ones(6))).toThrow("'n' is 6, declared are 2, 4, 8, 16");
    const branches = trace((x: Tensor) => ((x.shape[0] as number) > 4 ? x.exp() : x.sin()), {
      withoutHost: true,
      inputs: [spec([dim('n')])],
    });
    expect(() => branches(tg.ones(4))).toThrow('operation 1');
  });
});

describe('compared', () => {
  test('all sizes are one recording; what does not follow them is a mismatch with its line', () => {
    let sharp = false;
    const fn = trace(
      function scaled(x: Tensor) {
        const n = x.shape[0] as number;
        const flat = x.reshape(n * 2);
        return (sharp ? flat.exp() : flat.sin()).div(n).add(tg.full([1], 1 / n));
      },
      { inputs: [spec([dim('n'), 2])] },
    );
    const expectRight = (n: number): void =>
      expectValues(
        fn(tg.zeros([n, 2])),
        Array.from({ length: 2 * n }, () => 1 / n),
      );
    for (const n of [3, 5, 4, 9, 3, 1, 20]) expectRight(n);
    expect(fn.stats).toMatchObject({ recordings: 1, hits: 3, misses: 4, retraces: 0 });
    sharp = true;
    expect(() => fn(tg.zeros([7, 2]))).toThrow(
      /is exp float32 \[14\].*was sin float32.*recorded at/,
    );
    sharp = false;
    expectRight(7);
  });

  test('a training loop with a smaller last batch', () => {
    const w = new nn.Parameter(tensor([1, 2]));
    const sgd = new optim.SGD([w], { lr: 0.01 });
    const step = trace(
      (x: Tensor) => {
        const loss = x.matmul(w).square().mean();
        sgd.zeroGrad();
        loss.backward();
        sgd.step();
        return loss;
      },
      { inputs: [spec([dim('batch'), 2])] },
    );
    for (const n of [8, 8, 3, 8, 5, 7, 2]) step(tg.ones([n, 2])).itemSync();
    expect(step.stats).toMatchObject({ recordings: 1, misses: 3, hits: 4 });
  });

  test('what is found to be no program is an error, or recorded again where that is allowed', () => {
    const halves = (x: Tensor): Tensor => x.narrow(0, 0, Math.floor((x.shape[0] as number) / 2));
    const inputs = [spec([dim('n')])];
    const strict = trace(halves, { inputs });
    strict(tg.ones(4));
    strict(tg.ones(5));
    expect(() => strict(tg.ones(9))).toThrow(
      /no program for all sizes: a number of operation 1, slice/,
    );
    const lenient = trace(halves, { inputs, retrace: true });
    for (const n of [4, 5, 9]) lenient(tg.ones(n));
    expect(lenient.stats).toMatchObject({ recordings: 2, retraces: 1 });
  });
});

describe('declarations', () => {
  test('trees of specs; sizes must agree', () => {
    const batch = dim('batch');
    const fn = trace(
      (input: { x: Tensor; more: Tensor[]; factor: number }, y: Tensor) =>
        input.x
          .add(input.more[0] as Tensor)
          .mul(input.factor)
          .add(y),
      { withoutHost: true, inputs: [{ x: spec([batch, 2]), more: [spec([batch, 2])] }, null] },
    );
    const call = (n: number, m = n) =>
      fn({ x: tg.ones([n, 2]), more: [tg.ones([m, 2])], factor: 3 }, tensor([1, 2]));
    for (const n of [2, 3, 7])
      expectValues(
        call(n),
        Array.from({ length: n }, () => [7, 8]),
      );
    expect(fn.stats.recordings).toBe(1);
    expect(() => call(3, 4)).toThrow("'batch' is 3, and 4 in tensor 1, [4,2]");
  });

  test.each([
    [() => dim('two words'), "a dimension has a word for its name, not 'two words'"],
    [() => dim('n', { min: 5, max: 2 }), 'max must be an integer of at least 5'],
    [() => dim('n', { sizes: [] }), 'must be a list of sizes'],
    [() => spec([1.5]), 'a size must be an integer'],
    [() => spec([1], 'float31' as 'float32'), 'dtype'],
    [
      () => trace((x: Tensor) => x, { inputs: [spec([dim('n')]), spec([dim('n')])] }),
      "two dimensions 'n'",
    ],
  ])('mistakes: %#', (make, message) => {
    expect(make).toThrow(message);
  });

  test('arguments that are not as declared', () => {
    const fn = trace((x: Tensor | number) => x, { inputs: [spec([dim('n'), 3])] });
    expect(() => fn(tg.ones([2, 4]))).toThrow('tensor 0 is [2,4], declared is float32 [n,3]');
    expect(() => fn(tg.ones([2, 3], { dtype: 'int32' }))).toThrow('tensor 0 is int32');
    expect(() => fn(5)).toThrow('argument 0 is 5, inputs declares float32 [n,3]');
    const none = trace((x: Tensor) => x, { inputs: { 1: spec([dim('n')]) } });
    expect(() => none(tg.ones(2))).toThrow("no tensor of the arguments has the dimension 'n'");
  });
});
