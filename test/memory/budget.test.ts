// Memory budgets: plans fit, results keep their bits, and what cannot fit says what can.
import { afterEach, describe, expect, test } from 'vitest';
import {
  ArgumentError,
  BudgetError,
  clearPlans,
  configure,
  evaluate,
  explain,
  F,
  manualSeed,
  nn,
  optim,
  planMemory,
  randn,
  resetStats,
  scan,
  setDefaultDevice,
  setMemoryBudget,
  setNumerics,
  stats,
  type Tensor,
  tensor,
  trace,
  zeros,
} from 'tengen';
import 'tengen/interp';
import { parseBytes } from '../../src/base/bytes.ts';

configure({ device: 'wasm', threads: 1 });

afterEach(() => {
  setMemoryBudget(null);
  setNumerics('fast');
  setDefaultDevice('wasm');
  clearPlans();
});

const BATCH = 4;

class Block extends nn.Module {
  conv1: nn.Conv2d;
  bn1: nn.BatchNorm2d;
  conv2: nn.Conv2d;
  bn2: nn.BatchNorm2d;
  constructor(channels: number) {
    super();
    this.conv1 = new nn.Conv2d(channels, channels, 3, { padding: 1, bias: false });
    this.bn1 = new nn.BatchNorm2d(channels);
    this.conv2 = new nn.Conv2d(channels, channels, 3, { padding: 1, bias: false });
    this.bn2 = new nn.BatchNorm2d(channels);
  }
  forward(x: Tensor): Tensor {
    const inner = F.relu(this.bn1.forward(this.conv1.forward(x)));
    return F.relu(this.bn2.forward(this.conv2.forward(inner)).add(x));
  }
}

/** A residual network with dropout: has convolutions, reductions, random numbers, running statistics. */
class Net extends nn.Module {
  stem: nn.Conv2d;
  blocks: nn.Sequential;
  dropout = new nn.Dropout(0.3);
  head: nn.Linear;
  constructor(depth: number, channels = 4) {
    super();
    this.stem = new nn.Conv2d(3, channels, 3, { padding: 1 });
    this.blocks = new nn.Sequential(...Array.from({ length: depth }, () => new Block(channels)));
    this.head = new nn.Linear(channels, 3);
  }
  forward(x: Tensor): Tensor {
    const features = this.dropout.forward(this.blocks.forward(this.stem.forward(x)) as Tensor);
    return this.head.forward(features.mean([2, 3]));
  }
}

interface Training {
  readonly model: Net;
  /** Makes a step and returns its loss. */
  readonly step: () => Tensor;
}

function newTraining(depth: number, size = 8, make: 'sgd' | 'adam' = 'sgd'): Training {
  manualSeed(11);
  const model = new Net(depth);
  const parameters = model.parameters();
  const optimizer =
    make === 'sgd'
      ? new optim.SGD(parameters, { lr: 0.05, momentum: 0.9 })
      : new optim.Adam(parameters, { lr: 0.01 });
  const pixels = Float32Array.from({ length: BATCH * 3 * size * size }, (_, i) => Math.sin(i * i));
  const x = tensor(pixels, { shape: [BATCH, 3, size, size] });
  const y = tensor(Int32Array.of(0, 1, 2, 0));
  const step = (): Tensor => {
    const loss = F.crossEntropy(model.forward(x), y);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return loss;
  };
  return { model, step };
}

/** Bits of the losses and of everything that three steps change. */
function bitsOf({ model, step }: Training, steps = 3): Uint8Array {
  const losses = Array.from({ length: steps }, () => step().dataSync());
  const state = Object.values(model.stateDict()).map((x) => x.dataSync());
  const parts = [...losses, ...state].map(
    (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  );
  return Uint8Array.from(parts.flatMap((bytes) => [...bytes]));
}

/** The plan of the step among those that ran: the one with the largest arena without a budget. */
function stepMemory() {
  const [largest] = planMemory({ plans: 8 }).sort((a, b) => b.unbudgetedBytes - a.unbudgetedBytes);
  return largest!;
}

function unbudgeted(depth: number, size?: number, make?: 'sgd' | 'adam') {
  const bits = bitsOf(newTraining(depth, size, make));
  return { bits, bytes: stepMemory().arenaBytes };
}

/** The smallest budget, as the error says it. */
function smallestFor(depth: number, size?: number, make?: 'sgd' | 'adam'): number {
  setMemoryBudget(1);
  try {
    newTraining(depth, size, make).step();
  } catch (error) {
    if (error instanceof BudgetError) return error.smallest;
    throw error;
  }
  throw new Error('everything fits into one byte');
}

describe('training under a budget', () => {
  for (const numerics of ['fast', 'strict'] as const) {
    test(`gives the same bits, whatever the budget, in ${numerics} numerics`, () => {
      setNumerics(numerics);
      const { bits, bytes } = unbudgeted(4);
      const least = smallestFor(4);
      expect(least).toBeLessThan(bytes * 0.7);
      for (const budget of [(bytes + least) / 2, least, 'sqrt'] as const) {
        setMemoryBudget(budget);
        expect(bitsOf(newTraining(4))).toEqual(bits);
        const memory = stepMemory();
        expect(memory.arenaBytes).toBeLessThanOrEqual(budget === 'sqrt' ? bytes * 0.75 : budget);
        expect(memory.recomputedKernels).toBeGreaterThan(0);
        expect(memory.budget).toBe(budget === 'sqrt' ? budget : Math.floor(budget));
      }
    });
  }

  test('with Adam, and on the interpreter', () => {
    setDefaultDevice('interp');
    const { bits, bytes } = unbudgeted(1, 4, 'adam');
    const least = smallestFor(1, 4, 'adam');
    expect(least).toBeLessThan(bytes);
    setMemoryBudget(least);
    expect(bitsOf(newTraining(1, 4, 'adam'))).toEqual(bits);
    expect(stepMemory().recomputedKernels).toBeGreaterThan(0);
    expect(stepMemory().arenaBytes).toBeLessThanOrEqual(least);
  });

  test('two thirds of the memory cost little, and the report says what', () => {
    const { bytes } = unbudgeted(4);
    setMemoryBudget(bytes * 0.67);
    newTraining(4).step().dataSync();
    const memory = stepMemory();
    expect(memory.unbudgetedBytes).toBe(bytes);
    expect(memory.savedBytes).toBe(bytes - memory.arenaBytes);
    expect(memory.extraFlops).toBeGreaterThan(0);
    expect(memory.extraFlops).toBeLessThan(memory.flops * 0.2);
    expect(memory.lowerBound).toBeLessThanOrEqual(memory.arenaBytes);
    const text = explain({ plans: 8 });
    expect(text).toMatch(/memory budget .*B less than without it, for \d+ kernels that run again/);
    expect(text).toContain(', again');
  });

  test('what fits anyway stays as it is', () => {
    const { bytes } = unbudgeted(1);
    setMemoryBudget(2 * bytes);
    newTraining(1).step().dataSync();
    const memory = stepMemory();
    expect(memory).toMatchObject({ extraFlops: 0, recomputedKernels: 0, savedBytes: 0 });
    expect(explain({ plans: 8 })).toContain('fits as it is');
  });

  test('a budget is part of what plans are found by', () => {
    const training = newTraining(1);
    const settle = (): void => {
      for (let i = 0; i < 4; i++) training.step().dataSync();
      resetStats();
    };
    settle();
    setMemoryBudget(stepMemory().arenaBytes * 0.9);
    training.step().dataSync();
    expect(stats().planMisses).toBeGreaterThan(0);
    settle();
    training.step().dataSync();
    setMemoryBudget(null);
    training.step().dataSync();
    expect(stats().planMisses).toBe(0);
  });
});

describe('what does not fit', () => {
  test('is an error with the smallest budget, which works', () => {
    const { bits } = unbudgeted(2);
    const training = newTraining(2);
    setMemoryBudget(1000);
    const before = training.model.stem.weight.dataSync().slice();
    let smallest = 0;
    try {
      training.step();
      expect.unreachable();
    } catch (error) {
      if (!(error instanceof BudgetError)) throw error;
      smallest = error.smallest;
      expect(error.message).toContain(`the least that works is ${smallest}`);
    }
    // Nothing was assigned, and the next step begins from there.
    expect(training.model.stem.weight.dataSync()).toEqual(before);
    setMemoryBudget(smallest);
    expect(bitsOf(newTraining(2))).toEqual(bits);
    expect(stepMemory().arenaBytes).toBeLessThanOrEqual(smallest);
    setMemoryBudget(smallest - 1);
    expect(() => newTraining(2).step()).toThrow(BudgetError);
  });

  test('is no step: the optimizer has not counted it', async () => {
    const train = async (mishaps: number): Promise<number[]> => {
      manualSeed(3);
      const model = new nn.Linear(4, 3);
      const optimizer = new optim.Adam(model.parameters(), { lr: 0.1 });
      const x = randn(6, 4);
      const step = (label: number): void => {
        optimizer.zeroGrad();
        // Computed, so that only the run knows it.
        const labels = tensor([label, 0, 1, 2, 0, 1], { dtype: 'int32' }).add(0);
        F.crossEntropy(model.forward(x), labels).backward();
        optimizer.step();
      };
      for (let i = 0; i < 2 * mishaps; i++) {
        if (i % 2 === 0) setMemoryBudget(10);
        expect(() => step(i % 2 === 0 ? 2 : 5)).toThrow(/too few|out of range/);
        setMemoryBudget(null);
      }
      for (let i = 0; i < 3; i++) step(2);
      return [...(await model.weight.data())];
    };
    expect(await train(2)).toEqual(await train(0));
  });

  test('budgets that are none', () => {
    for (const budget of ['plenty', '', '-5MB', '5 apples', 0, -1, NaN, Infinity, '0MB', '1e3']) {
      expect(() => setMemoryBudget(budget), String(budget)).toThrow(ArgumentError);
    }
    expect(() => configure({ memoryBudget: 'much' })).toThrow('memoryBudget must be a number of');
    expect(() => trace((x: Tensor) => x, { memoryBudget: 'much' })).toThrow(ArgumentError);
  });

  test('texts for bytes', () => {
    const bytes = (text: string | number): number => parseBytes('test', 'x', text);
    expect(['512MB', '1.5GB', '64 kB', '100', '7b', '1 MiB', '2g', 10.9].map(bytes)).toEqual([
      512e6,
      1.5e9,
      64e3,
      100,
      7,
      2 ** 20,
      2e9,
      10,
    ]);
  });
});

describe('one traced function', () => {
  test('has a budget of its own', () => {
    const { bits, bytes } = unbudgeted(2);
    const training = newTraining(2);
    const budget = Math.round(bytes * 0.9);
    const step = trace(training.step, { memoryBudget: budget });
    expect(bitsOf({ model: training.model, step })).toEqual(bits);
    expect(stepMemory().budget).toBe(budget);
    expect(step.explain()).toContain('memory budget');
    evaluate(randn([3, 3]).add(1));
    expect(planMemory()[0]?.budget).toBeNull();
  });

  test('computes its results before it returns', () => {
    const layer = new nn.Linear(8, 8);
    const predict = trace((x: Tensor) => F.relu(layer.forward(x)), { memoryBudget: '1MB' });
    predict(randn([4, 8]));
    expect(planMemory()[0]?.budget).toBe(1e6);
  });
});

test('loops are run again as a whole', () => {
  const run = (): Uint8Array => {
    manualSeed(5);
    const cell = new nn.Linear(12, 12);
    const xs = randn([10, 6, 12]);
    const layers = 4;
    let sequence = xs;
    for (let i = 0; i < layers; i++) {
      const [, outputs] = scan(
        (h: Tensor, x: Tensor) => {
          const next = cell.forward(h).add(x).tanh();
          return [next, next.mul(2)];
        },
        zeros([6, 12]),
        sequence,
      );
      sequence = outputs as Tensor;
    }
    sequence.square().mean().backward();
    const data = cell.weight.grad!.dataSync();
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  };
  const bits = run();
  const { arenaBytes } = stepMemory();
  let budget = arenaBytes * 0.9;
  setMemoryBudget(budget);
  try {
    expect(run()).toEqual(bits);
  } catch (error) {
    if (!(error instanceof BudgetError)) throw error;
    budget = error.smallest;
    expect(budget).toBeLessThanOrEqual(arenaBytes);
    setMemoryBudget(budget);
    expect(run()).toEqual(bits);
  }
});
