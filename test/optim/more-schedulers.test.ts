// Cycles, chains and sequences of schedules: PyTorch 1.13's rates; what they share and refuse.
import { describe, expect, test } from 'vitest';
import { ArgumentError, nn, optim } from 'tengen';

const sgd = (): optim.SGD =>
  new optim.SGD([new nn.Parameter(new Float32Array(1), [1])], { lr: 1, momentum: 0.9 });

interface Stepper {
  step(): void;
  lastLr(): number[];
}

const falling = (o: optim.SGD): optim.Scheduler => new optim.ExponentialLR(o, { gamma: 0.9 });
const low = (o: optim.SGD): optim.Scheduler =>
  new optim.ConstantLR(o, { factor: 0.1, totalIters: 2 });

const CASES: [string, (o: optim.SGD) => Stepper, number[], number[] | null][] = [
  [
    'CyclicLR',
    (o) => new optim.CyclicLR(o, { baseLr: 0.1, maxLr: 0.5, stepSizeUp: 2, stepSizeDown: 3 }),
    [0.1, 0.3, 0.5, 0.366667, 0.233333, 0.1, 0.3, 0.5, 0.366667],
    [0.9, 0.85, 0.8, 0.833333, 0.866667, 0.9, 0.85, 0.8, 0.833333],
  ],
  [
    'CyclicLR, halved each cycle',
    (o) => new optim.CyclicLR(o, { baseLr: 0.1, maxLr: 0.5, stepSizeUp: 2, mode: 'triangular2' }),
    [0.1, 0.3, 0.5, 0.3, 0.1, 0.2, 0.3, 0.2, 0.1],
    [0.9, 0.85, 0.8, 0.85, 0.9, 0.875, 0.85, 0.875, 0.9],
  ],
  [
    'CyclicLR, falling each step',
    (o) =>
      new optim.CyclicLR(o, {
        baseLr: 0.1,
        maxLr: 0.5,
        stepSizeUp: 2,
        mode: 'expRange',
        gamma: 0.9,
        cycleMomentum: false,
      }),
    [0.1, 0.28, 0.424, 0.2458, 0.1, 0.218098, 0.312576, 0.195659, 0.1],
    null,
  ],
  [
    'SequentialLR',
    (o) =>
      new optim.SequentialLR(
        o,
        [low(o), falling(o), new optim.StepLR(o, { stepSize: 1, gamma: 0.5 })],
        [2, 5],
      ),
    [0.1, 0.1, 1, 0.9, 0.81, 1, 0.5, 0.25, 0.125],
    null,
  ],
  [
    'ChainedScheduler',
    (o) => new optim.ChainedScheduler(o, [low(o), falling(o)]),
    [0.1, 0.09, 0.81, 0.729, 0.6561, 0.59049, 0.531441, 0.478297, 0.430467],
    null,
  ],
  [
    'MultiplicativeLR',
    (o) => new optim.MultiplicativeLR(o, (epoch) => 0.95 ** epoch),
    [1, 0.95, 0.857375, 0.735092, 0.598737, 0.463291, 0.340562, 0.237827, 0.157779],
    null,
  ],
  [
    'SWALR',
    (o) => new optim.SWALR(o, { swaLr: 0.05, annealEpochs: 4 }),
    [1, 0.860876, 0.525, 0.189124, 0.05, 0.05],
    null,
  ],
  [
    'SWALR, straight',
    (o) => new optim.SWALR(o, { swaLr: 0.05, annealEpochs: 4, annealStrategy: 'linear' }),
    [1, 0.7625, 0.525, 0.2875, 0.05, 0.05],
    null,
  ],
];

describe('rates', () => {
  test.each(CASES)('%s', (_, make, rates, momenta) => {
    const optimizer = sgd();
    const schedule = make(optimizer);
    for (const [epoch, rate] of rates.entries()) {
      expect(schedule.lastLr()[0], `epoch ${epoch}`).toBeCloseTo(rate, 5);
      const momentum = optimizer.paramGroups[0]?.momentum;
      expect(momentum).toBeCloseTo(momenta?.[epoch] ?? 0.9, 5);
      schedule.step();
    }
  });
});

describe('state and mistakes', () => {
  test('a sequence goes on where another was', () => {
    const make = (o: optim.SGD) => new optim.SequentialLR(o, [low(o), falling(o)], [2]);
    const [first, second] = [make(sgd()), make(sgd())];
    for (let i = 0; i < 4; i++) first.step();
    second.loadStateDict(first.stateDict());
    second.step();
    first.step();
    expect(second.lastLr()).toEqual(first.lastLr());
    expect(() => second.loadStateDict({})).toThrow('another kind of schedule');
  });

  test('schedules of one optimizer share what the rate was before the first', () => {
    const optimizer = sgd();
    low(optimizer);
    expect(optimizer.paramGroups[0]?.lr).toBeCloseTo(0.1, 10);
    expect(falling(optimizer).rate(2, 1)).toBeCloseTo(1.8, 10);
    const chain = new optim.ChainedScheduler(optimizer, [falling(optimizer)]);
    chain.step();
    expect(chain.lastLr()[0]).toBeCloseTo(0.9, 10);
  });

  test('what is refused', () => {
    const optimizer = sgd();
    const one = falling(optimizer);
    expect(() => new optim.SequentialLR(optimizer, [one, low(optimizer)], [])).toThrow(
      '2 schedules need 1 rising milestones',
    );
    expect(() => new optim.SequentialLR(optimizer, [one], [3])).toThrow(ArgumentError);
    expect(() => new optim.ChainedScheduler(optimizer, [])).toThrow(ArgumentError);
    expect(() => new optim.ChainedScheduler(sgd(), [one])).toThrow('different optimizers');
    expect(() => new optim.CyclicLR(optimizer, { baseLr: 0, maxLr: 1, stepSizeDown: 0 })).toThrow(
      'stepSizeDown',
    );
    expect(() => new optim.SWALR(optimizer, { swaLr: -1 })).toThrow(ArgumentError);
  });
});
