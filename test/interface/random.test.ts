// Random tensors: repeatable, fixed when they are made, with the right distributions.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import {
  bernoulli,
  F,
  full,
  Generator,
  manualSeed,
  rand,
  randint,
  randn,
  randperm,
  tensor,
} from 'tengen';
import { checkLeaks, expectValues } from './support.ts';

checkLeaks();

describe('streams', () => {
  test('a seed repeats, the next draw differs', () => {
    manualSeed(7);
    const first = rand(4).arraySync();
    const second = rand(4).arraySync();
    manualSeed(7);
    expect(rand(4).arraySync()).toEqual(first);
    expect(rand(4).arraySync()).toEqual(second);
    expect(first).not.toEqual(second);
  });

  test('numbers are fixed when the tensor is made, not when it is computed', () => {
    manualSeed(7);
    const [a, b] = [rand(4), rand(4)];
    const early = b.arraySync();
    const late = a.arraySync();
    manualSeed(7);
    expect(rand(4).arraySync()).toEqual(late);
    expect(rand(4).arraySync()).toEqual(early);
    expect(a.arraySync()).toEqual(late);
  });

  test('a generator of its own, saved and restored', () => {
    const generator = new Generator(3);
    rand([5], { generator }).arraySync();
    const state = generator.getState();
    const next = randn([3], { generator }).arraySync();
    generator.setState(state);
    expect(randn([3], { generator }).arraySync()).toEqual(next);
    manualSeed(1);
    const before = tg.defaultGenerator.getState();
    rand([5], { generator });
    expect(tg.defaultGenerator.getState()).toEqual(before);
    expect(() => new Generator(-1)).toThrow('the seed must be an integer');
  });

  test('drawing does not compile anew', () => {
    rand(6).arraySync();
    const { planMisses } = tg.stats();
    for (let i = 0; i < 3; i++) rand(6).arraySync();
    expect(tg.stats().planMisses).toBe(planMisses);
  });

  test('every device draws the same', () => {
    const draw = (device: string): unknown => {
      manualSeed(5);
      tg.setDefaultDevice(device);
      try {
        return [rand(9).arraySync(), randint(-5, 5, [9]).arraySync(), randperm(9).arraySync()];
      } finally {
        tg.setDefaultDevice('auto');
      }
    };
    expect(draw('interp')).toEqual(draw('wasm'));
  });
});

describe('distributions', () => {
  const moments = (x: tg.Tensor): [number, number] => [x.mean().itemSync(), x.std().itemSync()];

  test('uniform, normal, their scaled forms', () => {
    manualSeed(0);
    const [mean, deviation] = moments(rand(10_000));
    expect(mean).toBeCloseTo(0.5, 1);
    expect(deviation).toBeCloseTo(Math.sqrt(1 / 12), 1);
    const u = tg.uniform(-3, -1, [1000]);
    expect(u.min().itemSync()).toBeGreaterThanOrEqual(-3);
    expect(u.max().itemSync()).toBeLessThan(-1);
    const [normalMean, normalDeviation] = moments(randn(10_000));
    expect(Math.abs(normalMean)).toBeLessThan(0.05);
    expect(Math.abs(normalDeviation - 1)).toBeLessThan(0.05);
    const [scaledMean, scaledDeviation] = moments(tg.normal(5, 2, [10_000]));
    expect(Math.abs(scaledMean - 5)).toBeLessThan(0.1);
    expect(Math.abs(scaledDeviation - 2)).toBeLessThan(0.1);
    expect(randn([3], { dtype: 'float64' }).dtype).toBe('float64');
    expect(() => rand([3], { dtype: 'int32' })).toThrow('hint: use randint()');
    expect(() => tg.uniform(1, 0, [1])).toThrow('low 1 exceeds high 0');
  });

  test('integers, permutations, coins', () => {
    manualSeed(0);
    const dice = randint(1, 7, [600]);
    expectValues(dice.min(), 1);
    expectValues(dice.max(), 6);
    expect(Math.min(...(tg.bincount(dice).arraySync() as number[]).slice(1))).toBeGreaterThan(60);
    expectValues(randperm(50).sort().values.eq(tg.arange(50)).all(), true);
    expect(randperm(0).shape).toEqual([0]);
    expect(() => randint(3, 3, [1])).toThrow('there are no integers in [3, 3)');
    const coins = bernoulli(full([1000], 0.25));
    expect(coins.mean().itemSync()).toBeCloseTo(0.25, 1);
    expectValues(bernoulli(tensor([0, 1])), [0, 1]);
  });
});

describe('dropout', () => {
  test('keeps the mean, drops nothing outside of training', () => {
    manualSeed(0);
    const x = full([10_000], 2);
    const y = F.dropout(x, { p: 0.25 });
    expect(y.mean().itemSync()).toBeCloseTo(2, 1);
    expectValues(y.eq(0).float().mean().sub(0.25).abs().lt(0.02), true);
    expectValues(F.dropout(tensor([1]), { training: false }), [1]);
    expectValues(F.dropout(tensor([1, 2]), { p: 1 }), [0, 0]);
    expect(() => F.dropout(x, { p: 1.5 })).toThrow('p must be a number in [0, 1]');
    const channels = F.dropout2d(tg.ones(8, 8, 3, 3)).sum([2, 3]);
    expectValues(channels.eq(0).logicalOr(channels.eq(18)).all(), true);
  });

  test('the gradient drops the same elements', () => {
    manualSeed(2);
    const x = tensor([1, 1, 1, 1, 1, 1, 1, 1], { requiresGrad: true });
    const y = F.dropout(x);
    y.sum().backward();
    expectValues(y, x.grad?.arraySync());
  });
});
