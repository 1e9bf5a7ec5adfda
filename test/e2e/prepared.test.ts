// What follows from parameters alone - packed weights, tables - is computed once and kept, and never
// outlives a change of the parameters.
import { describe, expect, test } from 'vitest';
import {
  clearPlans,
  evaluate,
  explain,
  F,
  manualSeed,
  memory,
  nn,
  noGrad,
  optim,
  randn,
  resetStats,
  stats,
  tensor,
} from 'tengen';
import type { Tensor } from 'tengen';
import { settings } from '../../src/interface/transform/settings.ts';

class Net extends nn.Module {
  conv = new nn.Conv2d(8, 16, 3, { padding: 1 });
  fc = new nn.Linear(16, 5);
  forward(x: Tensor): Tensor {
    return this.fc.forward(F.relu(this.conv.forward(x)).mean([2, 3]));
  }
}

function kernelsOf(run: () => unknown): number {
  resetStats();
  run();
  return stats().kernelsExecuted;
}

describe('what follows from parameters alone', () => {
  manualSeed(1);
  const model = new Net();
  const x = randn([2, 8, 12, 12]);
  evaluate(x);
  const infer = (): number[] => [...(noGrad(() => model.forward(x)).dataSync() as Float32Array)];

  test('runs once', () => {
    const first = kernelsOf(infer);
    const again = kernelsOf(infer);
    expect(again).toBeLessThan(first);
    expect(explain()).toMatch(/\d more kernels run once and again when parameters change/);
    model.conv.weight.setData((model.conv.weight.dataSync() as Float32Array).slice());
    expect(kernelsOf(infer)).toBe(first);
    expect(kernelsOf(infer)).toBe(again);
  });

  test('follows every change of a parameter', () => {
    const before = infer();
    const weight = (model.conv.weight.dataSync() as Float32Array).slice();
    model.conv.weight.setData(weight.map((value) => -value));
    const after = infer();
    expect(after).not.toEqual(before);
    model.conv.weight.setData(weight);
    expect(infer()).toEqual(before);
    const optimizer = new optim.SGD(model.parameters(), { lr: 0.5 });
    F.crossEntropy(model.forward(x), tensor(Int32Array.from([1, 2]))).backward();
    optimizer.step();
    const trained = infer();
    expect(trained).not.toEqual(before);
    const fresh = new Net();
    fresh.loadStateDict(model.stateDict());
    expect([...(noGrad(() => fresh.forward(x)).dataSync() as Float32Array)]).toEqual(trained);
  });

  test('holds for what batch norm makes of its statistics, and follows them', () => {
    const norm = new nn.BatchNorm2d(8);
    norm.eval();
    // Large enough that computing 1 / deviation again for every position would cost more.
    const image = randn([1, 8, 64, 64]);
    evaluate(image);
    const normed = (): number[] => {
      const result = noGrad(() =>
        F.relu(norm.forward(F.conv2d(image, model.conv.weight.narrow(0, 0, 8)))),
      );
      return [...(result.dataSync() as Float32Array)];
    };
    const before = normed();
    const again = kernelsOf(normed);
    expect(explain()).toMatch(/ more kernels run once/);
    expect(explain()).not.toContain('rsqrt');
    norm.runningVar?.setData(new Float32Array(8).fill(4));
    const after = normed();
    expect(kernelsOf(normed)).toBe(again);
    const halved = before.map(
      (value) => (value * Math.sqrt(1 + norm.eps)) / Math.sqrt(4 + norm.eps),
    );
    after.forEach((value, i) => expect(value).toBeCloseTo(halved[i] as number, 5));
  });

  test('is not kept where it is much larger than what it is made of', () => {
    const bias = new nn.Parameter(tensor([1, 2]));
    const expanded = (): unknown =>
      noGrad(() => bias.reshape(2, 1).expand(2, 400_000).cumsum(1).sum().dataSync());
    expanded();
    const again = kernelsOf(expanded);
    expect(kernelsOf(expanded)).toBe(again);
    expect(explain()).toContain('cumsum');
  });

  test('products of constant weights are packed, and measured without the packing', () => {
    const rows = randn([64, 300]);
    const weight = new nn.Parameter(randn([200, 300]));
    evaluate(rows, weight);
    const product = (): unknown => noGrad(() => rows.matmul(weight.t()).dataSync());
    product();
    product();
    expect(explain()).toMatch(/packed product/);
    expect(explain()).toMatch(/1 more kernels run once/);
  });

  test('another model of the same structure has its own', () => {
    const mine = infer();
    const other = new Net();
    const theirs = [...(noGrad(() => other.forward(x)).dataSync() as Float32Array)];
    expect(theirs).not.toEqual(mine);
    expect(infer()).toEqual(mine);
  });
});

test('what many plans keep is bounded, and computed again after it gave way', () => {
  const weight = new nn.Parameter(randn([300, 400]));
  const rows = [64, 65, 66].map((count) => randn([count, 400]));
  evaluate(weight, ...rows);
  const product = (x: Tensor): number[] => {
    return [...(noGrad(() => x.matmul(weight.t())).dataSync() as Float32Array)];
  };
  const first = rows.map(product);
  const runs = (which: number): number => kernelsOf(() => product(rows[which] as Tensor));
  const kept = [0, 1, 2].map(runs);
  expect(explain({ plans: 1 })).toMatch(/1 more kernels run once/);
  const { keptBytes } = settings;
  try {
    // Room for one of them.
    settings.keptBytes = 4 * 400 * 320;
    clearPlans();
    expect(rows.map(product)).toEqual(first);
    expect(runs(2)).toBe(kept[2]);
    expect(runs(0)).toBe((kept[0] as number) + 1);
    expect(runs(0)).toBe(kept[0]);
    const { allocated } = memory();
    expect(rows.map(product)).toEqual(first);
    expect(memory().allocated).toBeLessThanOrEqual(allocated + 4 * 400 * 66);
  } finally {
    settings.keptBytes = keptBytes;
  }
});

describe('a plan that is compiled again', () => {
  test('for leaves that are no parameters, with less to bind than before', () => {
    const values = Float32Array.from({ length: 64 * 64 }, (_, i) => ((i % 7) - 3) / 4);
    const program = (x: Tensor, first: Tensor, second: Tensor) => {
      const product = x.matmul(first.exp().t());
      return { product, sum: product.matmul(second.exp().t()).sum() };
    };
    const x = tensor(values).reshape(64, 64).clone();
    evaluate(x);
    const weight = () => new nn.Parameter(values, [64, 64]).detach();
    const once = program(x, weight(), weight());
    const expected = once.sum.itemSync();
    // Wanted afterwards: the plan keeps it from its next run on, so it is compiled again.
    const product = once.product.dataSync();
    const plain = () => tensor(values, { shape: [64, 64] });
    const again = program(x, plain(), plain());
    expect(again.sum.itemSync()).toBe(expected);
    expect(again.product.dataSync()).toEqual(product);
  });
});
