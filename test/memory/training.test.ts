// Training holds the same memory however long it lasts: device bytes to the byte, reachable memory but
// for compiled code, in synchronous and in asynchronous loops.
import { getHeapSpaceStatistics } from 'node:v8';
import { describe, expect, test } from 'vitest';
import {
  configure,
  F,
  manualSeed,
  memory,
  nn,
  optim,
  resetStats,
  stats,
  type Tensor,
  tensor,
} from 'tengen';
import { collected } from '../support/collect.ts';

configure({ threads: 1 });

const BATCH = 16;
const INPUTS = 64;

/** Has all that training assigns: parameters, optimizer states, running statistics. */
class Net extends nn.Module {
  fc1 = new nn.Linear(INPUTS, 128);
  norm = new nn.BatchNorm1d(128);
  fc2 = new nn.Linear(128, 10);
  forward(x: Tensor): Tensor {
    return this.fc2.forward(F.relu(this.norm.forward(this.fc1.forward(x))));
  }
}

interface Loop {
  readonly model: Net;
  readonly optimizer: optim.Adam;
}

function newLoop(): Loop {
  manualSeed(3);
  const model = new Net();
  return { model, optimizer: new optim.Adam(model.parameters(), { lr: 1e-3 }) };
}

function forward({ model }: Loop, step: number): { scores: Tensor; loss: Tensor } {
  const values = Float32Array.from({ length: BATCH * INPUTS }, (_, i) => Math.sin(i + step));
  const classes = Int32Array.from({ length: BATCH }, (_, i) => (i + step) % 10);
  const scores = model.forward(tensor(values, { shape: [BATCH, INPUTS] }));
  return { scores, loss: F.crossEntropy(scores, tensor(classes)) };
}

function update({ optimizer }: Loop, loss: Tensor): void {
  optimizer.zeroGrad();
  loss.backward();
  optimizer.step();
}

type Step = (loop: Loop, step: number) => void;

const orders: Record<string, Step> = {
  'nothing is read': (loop, step) => update(loop, forward(loop, step).loss),
  '(a) loss read after step()': (loop, step) => {
    const { loss } = forward(loop, step);
    update(loop, loss);
    loss.itemSync();
  },
  '(b) scores used after step()': (loop, step) => {
    const { scores, loss } = forward(loop, step);
    update(loop, loss);
    scores.argmax(1).dataSync();
  },
  '(c) loss read before backward': (loop, step) => {
    const { loss } = forward(loop, step);
    loss.itemSync();
    update(loop, loss);
  },
  'metrics that nobody reads': (loop, step) => {
    const { scores, loss } = forward(loop, step);
    scores.argmax(1).float().mean();
    update(loop, loss);
  },
};

describe('bytes on the device', () => {
  test.each(Object.keys(orders))('%s: constant from the third step on', (name) => {
    const step = orders[name] as Step;
    const loop = newLoop();
    const bytes: number[] = [];
    for (let i = 0; i < 200; i++) {
      step(loop, i);
      const { allocated, reserved } = memory();
      if (i >= 2) bytes.push(allocated + reserved);
    }
    expect(new Set(bytes).size, [...new Set(bytes)].join()).toBe(1);
  });

  test('a step holds two copies of the parameters, the optimizer states and its batch', async () => {
    await collected();
    const before = memory().allocated;
    const loop = newLoop();
    let elements = 0;
    for (const { shape } of loop.model.parameters()) elements += shape.reduce((a, b) => a * b, 1);
    const step = orders['nothing is read'] as Step;
    for (let i = 0; i < 5; i++) step(loop, i);
    const held = memory().allocated - before;
    const [parameters, states] = [2 * 4 * elements, 2 * 4 * elements];
    const batch = BATCH * INPUTS * 4 + BATCH * 4;
    // Running statistics are assigned like parameters: two copies of mean and variance.
    const statistics = 2 * 2 * 4 * 128;
    // Of Adam's other words (step counts) there are a few a parameter.
    expect(held).toBeGreaterThanOrEqual(parameters + states);
    expect(held).toBeLessThanOrEqual(parameters + states + batch + statistics + 1024);
  });

  test('a model and its optimizer that are dropped give their memory back', async () => {
    await collected();
    const train = (): void => {
      const loop = newLoop();
      for (let i = 0; i < 3; i++) (orders['(a) loss read after step()'] as Step)(loop, i);
    };
    train();
    await collected();
    const before = memory().allocated;
    for (let i = 0; i < 5; i++) train();
    await collected(() => memory().allocated <= before);
    expect(memory().allocated).toBeLessThanOrEqual(before);
  });
});

describe('memory of the process', () => {
  /** What is reachable now: the collector is asked for it, so its timing does not matter. */
  const reachable = (): number => {
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };

  test.each([
    ['synchronous', false],
    ['asynchronous', true],
  ])('%s loop: steps leave nothing reachable behind', async (_, pause) => {
    const loop = newLoop();
    const step = orders['(a) loss read after step()'] as Step;
    const run = async (from: number, to: number): Promise<void> => {
      for (let i = from; i < to; i++) {
        step(loop, i);
        if (pause && i % 10 === 9) await new Promise<void>((resolve) => setImmediate(resolve));
      }
    };
    await run(0, 400);
    const before = reachable();
    await run(400, 1000);
    // A leak of one small tensor a step (4 kB) would be 2.4 MB; compiled code comes and goes with 0.4 MB.
    expect(reachable() - before).toBeLessThan(1e6);
  });
});

test('a step is garbage for the young collector: nothing of it grows old', () => {
  const loop = newLoop();
  const old = (): number =>
    getHeapSpaceStatistics()
      .filter(({ space_name: name }) => name === 'old_space' || name === 'large_object_space')
      .reduce((sum, { space_used_size: used }) => sum + used, 0);
  const step = orders['nothing is read'] as Step;
  for (let i = 0; i < 300; i++) step(loop, i);
  globalThis.gc?.();
  const before = old();
  const count = 1000;
  for (let i = 0; i < count; i++) step(loop, i);
  // One step's graph has about 130 kB; 9 kB a step grew old when a map's outgrown tables held it.
  expect((old() - before) / count).toBeLessThan(3000);
});

test('a loop that runs on hits its plan every time and computes the same kernels', () => {
  const loop = newLoop();
  const step = orders['(a) loss read after step()'] as Step;
  for (let i = 0; i < 2; i++) step(loop, i);
  resetStats();
  for (let i = 0; i < 100; i++) step(loop, i);
  const { planMisses, planHits, kernelsExecuted } = stats();
  expect(planMisses).toBe(0);
  expect(planHits).toBe(100);
  expect(kernelsExecuted % 100).toBe(0);
});
