// One process that changes its device or its threads on the way: values follow, plans do not outlive
// their device, and the bits are those of a process that stayed.
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  clearPlans,
  configure,
  F,
  grad,
  manualSeed,
  memory,
  nn,
  noGrad,
  optim,
  randn,
  setDefaultDevice,
  stats,
  type Tensor,
  tensor,
  trace,
  zeros,
} from 'tengen';
import 'tengen/interp';
import { collected } from '../support/collect.ts';

configure({ device: 'wasm', threads: 1, numerics: 'strict' });
afterEach(() => setDefaultDevice('wasm'));

const listOf = (x: Tensor): number[] => [...x.dataSync()].map(Number);

describe('a device made anew', () => {
  test('does not run plans of the one before', () => {
    manualSeed(1);
    const first = listOf(randn([3]).add(1));
    configure({ threads: 1 });
    manualSeed(1);
    expect(listOf(randn([3]).add(1))).toEqual(first);
    configure({ threads: 2 });
    manualSeed(1);
    expect(listOf(randn([3]).add(1))).toEqual(first);
    configure({ threads: 1 });
  });

  test('memory that plans reuse holds no values', () => {
    expect(listOf(tensor([1, 2]).add(1))).toEqual([2, 3]);
    configure({ threads: 1 });
    expect(memory().allocated).toBe(0);
    expect(listOf(tensor([1, 2]).add(1))).toEqual([2, 3]);
  });

  test('is refused while values are on it', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    const optimizer = new optim.SGD([w], { lr: 1 });
    w.sum().backward();
    optimizer.step();
    expect(() => configure({ threads: 1 })).toThrow("device 'wasm' holds values");
    expect(listOf(w)).toEqual([0, 1]);
    w.dispose();
  });
});

class Net extends nn.Module {
  first = new nn.Linear(6, 5);
  norm = new nn.BatchNorm1d(5);
  second = new nn.Linear(5, 3);
  forward(x: Tensor): Tensor {
    return this.second.forward(F.relu(this.norm.forward(this.first.forward(x))));
  }
}

/** All that a training loop does, on the devices by turns; what it read. */
function train(devices: readonly string[]): number[][] {
  manualSeed(5);
  const read: number[][] = [];
  let turn = 0;
  const next = (): void => setDefaultDevice(devices[turn++ % devices.length] as string);
  next();
  const model = new Net();
  const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
  const step = (x: Tensor, y: Tensor): Tensor => {
    optimizer.zeroGrad();
    const loss = F.crossEntropy(model.forward(x), y);
    loss.backward();
    optimizer.step();
    return loss;
  };
  const traced = trace(step);
  for (let i = 0; i < 12; i++) {
    const x = tensor(
      Float32Array.from({ length: 24 }, (_, k) => Math.sin(k + i)),
      { shape: [4, 6] },
    );
    const y = tensor(Int32Array.from({ length: 4 }, (_, k) => (k + i) % 3));
    next();
    const loss = i % 3 === 0 ? traced(x, y) : step(x, y);
    if (i % 2 === 0) next();
    const before = model.second.weight.mul(2);
    read.push(listOf(loss));
    if (i === 4) {
      // Overwritten from the host between two devices, twice.
      for (const each of model.parameters()) each.setData(each.mul(0.5).dataSync());
      next();
      for (const each of model.parameters()) each.setData(each.mul(1.5).dataSync());
    }
    if (i === 7) for (const each of model.parameters()) each.assign(randn(each.shape));
    next();
    model.eval();
    noGrad(() => read.push(listOf(model.forward(x).add(randn([3])))));
    model.train();
    read.push(listOf(before));
  }
  for (const value of Object.values(model.stateDict())) read.push(listOf(value));
  return read;
}

describe('the default device changes', () => {
  let stayed: number[][];
  beforeAll(() => {
    stayed = train(['wasm']);
  });

  test.each([
    ['at every turn', ['wasm', 'interp']],
    ['in pairs', ['interp', 'interp', 'wasm']],
    ['rarely', ['interp', 'wasm', 'wasm', 'wasm', 'wasm', 'wasm', 'wasm', 'interp']],
  ])('%s: training, evaluation, traces and weights from the host', (_, devices) => {
    expect(train(devices)).toEqual(stayed);
  });

  test('values without a device are computed on the new one', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    const squared = grad((x: Tensor) => x.mul(x).sum());
    setDefaultDevice('interp');
    expect(listOf(squared(w) as Tensor)).toEqual([2, 4]);
    setDefaultDevice('wasm');
    const before = stats().runs;
    expect(listOf(squared(w) as Tensor)).toEqual([2, 4]);
    expect(stats().runs).toBeGreaterThan(before);
    expect(listOf(w)).toEqual([1, 2]);
  });

  test('large results follow, those that are on both devices too', () => {
    const large = noGrad(() => zeros([700, 700]).add(3));
    expect(large.sum().itemSync()).toBe(3 * 490_000);
    const there = large.to('interp');
    expect(there.device).toBe('interp');
    expect(there.narrow(0, 0, 1).sum().itemSync()).toBe(2100);
    expect(large.add(1).sum().itemSync()).toBe(4 * 490_000);
    expect(there.narrow(0, 0, 1).mul(2).sum().itemSync()).toBe(4200);
    large.dispose();
  });

  test('results that wait on several devices are all computed by a step', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    const optimizer = new optim.SGD([w], { lr: 1 });
    const there = tensor([1, 2]).to('interp').mul(3);
    const here = tensor([1, 2]).to('wasm').mul(5);
    w.sum().backward();
    optimizer.step();
    expect(listOf(w)).toEqual([0, 1]);
    expect([listOf(there), listOf(here)]).toEqual([
      [3, 6],
      [5, 10],
    ]);
  });
});

test('the interpreter counts what the collector freed', async () => {
  setDefaultDevice('interp');
  await collected();
  clearPlans();
  const before = memory().allocated;
  for (let i = 0; i < 10; i++) expect(listOf(zeros([100]).add(i))[0]).toBe(i);
  expect(memory().allocated - before).toBeGreaterThan(0);
  clearPlans();
  await collected(() => memory().allocated <= before);
  expect(memory().allocated).toBeLessThanOrEqual(before);
});
