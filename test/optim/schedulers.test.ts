// Schedules: the rates of each epoch by formula, what they leave alone, and their state.
import { describe, expect, test } from 'vitest';
import { nn, optim, resetStats, stats, tensor } from 'tengen';

const sgd = (lr = 1): optim.SGD =>
  new optim.SGD([new nn.Parameter(new Float32Array(1), [1])], { lr, momentum: 0.9 });

function rates(make: (optimizer: optim.SGD) => optim.Scheduler, epochs: number, lr = 1): number[] {
  const optimizer = sgd(lr);
  const schedule = make(optimizer);
  return Array.from({ length: epochs }, () => {
    const rate = schedule.lastLr()[0] ?? NaN;
    schedule.step();
    return rate;
  });
}

function expectRates(actual: readonly number[], expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, value] of expected.entries())
    expect(actual[i], `epoch ${i}`).toBeCloseTo(value, 10);
}

describe('rates', () => {
  test('steps and milestones', () => {
    expectRates(
      rates((o) => new optim.StepLR(o, { stepSize: 2, gamma: 0.5 }), 5),
      [1, 1, 0.5, 0.5, 0.25],
    );
    const milestones = [1, 3];
    expectRates(
      rates((o) => new optim.MultiStepLR(o, { milestones }), 5),
      [1, 0.1, 0.1, 0.01, 0.01],
    );
    expectRates(
      rates((o) => new optim.ExponentialLR(o, { gamma: 0.5 }), 3),
      [1, 0.5, 0.25],
    );
  });

  test('warm-up: constant and linear', () => {
    const constant = rates((o) => new optim.ConstantLR(o, { factor: 0.5, totalIters: 2 }), 4);
    expectRates(constant, [0.5, 0.5, 1, 1]);
    const linear = rates((o) => new optim.LinearLR(o, { startFactor: 0.2, totalIters: 4 }), 6);
    expectRates(linear, [0.2, 0.4, 0.6, 0.8, 1, 1]);
    const power = rates((o) => new optim.PolynomialLR(o, { totalIters: 4, power: 2 }), 6);
    expectRates(power, [1, 0.5625, 0.25, 0.0625, 0, 0]);
    const lambda = rates((o) => new optim.LambdaLR(o, (epoch) => 1 / (1 + epoch)), 3, 2);
    expectRates(lambda, [2, 1, 2 / 3]);
  });

  test('cosines', () => {
    const half = rates((o) => new optim.CosineAnnealingLR(o, { tMax: 4, etaMin: 0.2 }), 5);
    const at = (share: number): number => 0.2 + 0.4 * (1 + Math.cos(Math.PI * share));
    expectRates(half, [1, at(0.25), at(0.5), at(0.75), 0.2]);
    const restarts = rates((o) => new optim.CosineAnnealingWarmRestarts(o, { t0: 1, tMult: 2 }), 5);
    const from1 = (share: number): number => (1 + Math.cos(Math.PI * share)) / 2;
    expectRates(restarts, [1, 1, 0.5, 1, from1(0.25)]);
  });

  test('one cycle: rises, falls, and moves momentum the other way', () => {
    const optimizer = sgd();
    const schedule = new optim.OneCycleLR(optimizer, {
      maxLr: 1,
      totalSteps: 11,
      pctStart: 3 / 11,
    });
    const [lrs, momenta]: [number[], number[]] = [[], []];
    for (let step = 0; step < 11; step++) {
      lrs.push(optimizer.paramGroups[0]?.lr ?? NaN);
      momenta.push(optimizer.paramGroups[0]?.momentum ?? NaN);
      schedule.step();
    }
    expect([lrs[0], lrs[2], lrs[10]].map((lr) => Number(lr?.toPrecision(6)))).toEqual([
      0.04, 1, 4e-6,
    ]);
    expect([momenta[0], momenta[2], momenta[10]]).toEqual([0.95, 0.85, 0.95]);
    expect(lrs[6]).toBeCloseTo((1 + 4e-6) / 2, 6);
    expect(() => schedule.step()).toThrow('OneCycleLR: step 12 of 11');
  });

  test('plateau: after patience runs out, and not below the least rate', () => {
    const optimizer = sgd();
    const schedule = new optim.ReduceLROnPlateau(optimizer, {
      patience: 1,
      factor: 0.5,
      minLr: 0.3,
    });
    const lrs = [5, 4, 4, 4, 4, 4, 3].map((metric) => {
      schedule.step(metric);
      return schedule.lastLr()[0];
    });
    expect(lrs).toEqual([1, 1, 1, 0.5, 0.5, 0.3, 0.3]);
  });
});

describe('state', () => {
  test('a schedule goes on where another was', () => {
    const first = new optim.OneCycleLR(sgd(), { maxLr: 1, totalSteps: 10 });
    for (let i = 0; i < 4; i++) first.step();
    const second = new optim.OneCycleLR(sgd(), { maxLr: 1, totalSteps: 10 });
    second.loadStateDict(first.stateDict());
    expect(second.lastLr()).toEqual(first.lastLr());
    first.step();
    second.step();
    expect(second.lastLr()).toEqual(first.lastLr());
    expect(() => second.loadStateDict({ best: 1 })).toThrow('another kind of schedule');
  });

  test('another rate is not another plan', () => {
    const w = new nn.Parameter(new Float32Array([1]), [1]);
    const optimizer = new optim.AdamW([w], { lr: 0.1 });
    const schedule = new optim.CosineAnnealingLR(optimizer, { tMax: 10 });
    const step = (): void => {
      optimizer.zeroGrad();
      w.mul(tensor([2]))
        .sum()
        .backward();
      optimizer.step();
      schedule.step();
    };
    step();
    step();
    resetStats();
    for (let i = 0; i < 5; i++) step();
    expect(stats().planMisses).toBe(0);
    expect(stats().planHits).toBe(5);
  });
});
