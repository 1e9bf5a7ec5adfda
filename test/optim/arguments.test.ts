// What optimizers, schedules and clipping refuse: on the caller's line, before anything is computed.
import { describe, expect, test } from 'vitest';
import { ArgumentError, nn, optim, ShapeError, type Tensor, tensor } from 'tengen';

const parameter = (...values: number[]): nn.Parameter =>
  new nn.Parameter(Float32Array.from(values), [values.length]);
const values = (x: Tensor): number[] => Array.from(x.dataSync());

/** As a program without types would call it. */
type Untyped = new (...given: readonly unknown[]) => object;
const make = (name: keyof typeof optim, ...given: readonly unknown[]): object =>
  new (optim[name] as Untyped)(...given);

function expectRefusal(run: () => unknown, message: string): void {
  expect(run).toThrow(ArgumentError);
  expect(run).toThrow(message);
}

describe('settings', () => {
  test.each([
    ['SGD', { lr: NaN }, 'SGD: lr must be a number of at least 0, got NaN'],
    ['SGD', { lr: undefined }, 'lr must be a number of at least 0, got undefined'],
    ['SGD', { lr: '0.1' }, "got '0.1'"],
    ['SGD', { lr: Infinity }, 'got Infinity'],
    ['SGD', { momentum: -1 }, 'momentum must be'],
    ['SGD', { weightDecay: -1 }, 'weightDecay must be'],
    ['SGD', { nesterov: true }, 'nesterov takes a momentum'],
    ['SGD', { maximize: 1 }, 'maximize must be true or false, got 1'],
    ['SGD', 0.1, 'expected a record of options, got 0.1'],
    ['Adam', { lr: undefined }, 'lr must be'],
    ['Adam', { betas: [1, 0.9] }, 'beta1 must be a number in [0, 1), got 1'],
    ['Adam', { betas: [0.9] }, 'betas must be a pair'],
    ['AdamW', { eps: -1 }, 'AdamW: eps must be'],
    ['RMSprop', { alpha: 2 }, 'alpha must be a number in [0, 1], got 2'],
    [
      'Adam',
      { learningRate: 1 },
      "Adam: there is no option 'learningRate'. hint: did you mean lr?",
    ],
    ['SGD', { betas: [0, 0] }, "there is no option 'betas'. hint: it takes lr, momentum"],
  ] as const)('%s %o', (name, options, message) => {
    expectRefusal(() => make(name, [parameter(1)], options), message);
  });

  test('the rate of SGD is 1e-3 if none is given, and those of groups are checked too', () => {
    expect(new optim.SGD([parameter(1)]).paramGroups[0]?.lr).toBe(1e-3);
    const params = [parameter(1)];
    expectRefusal(() => new optim.SGD([{ params, lr: NaN }]), 'lr must be');
    expectRefusal(() => make('SGD', [{ params, learningRate: 1 }]), 'did you mean lr?');
    const adam = new optim.Adam([{ params, betas: [0.5, 0.25] }]);
    expect(adam.paramGroups[0]).toMatchObject({ beta1: 0.5, beta2: 0.25 });
  });

  test('a setting spoilt between steps is found before the weights are', () => {
    const w = parameter(1);
    const sgd = new optim.SGD([w]);
    const [group] = sgd.paramGroups;
    w.grad = tensor([1]);
    if (group !== undefined) group.lr = NaN;
    expectRefusal(() => sgd.step(), 'lr must be');
    expect(values(w)).toEqual([1]);
  });
});

describe('parameters', () => {
  const w = parameter(1);
  test.each([
    [
      new nn.Linear(1, 1),
      'expected a list of parameters, got Linear. hint: pass model.parameters()',
    ],
    [undefined, 'expected a list of parameters, got undefined'],
    [w, 'got Parameter. hint: pass model.parameters(), or [x]'],
    [[w.mul(2)], 'is not a parameter. hint: wrap it with new nn.Parameter(x)'],
    [[new nn.Linear(1, 1)], 'Linear is not a parameter'],
    [[1], '1 is not a parameter'],
    [[{ lr: 1 }], 'or groups: { params, lr }'],
    [[{ params: [w] }, w], 'Parameter is not a group'],
  ])('%s', (given, message) => {
    expectRefusal(() => make('SGD', given), message);
  });

  test('a group added later takes what it leaves out from the optimizer', () => {
    const sgd = new optim.SGD([w], { lr: 0.5 });
    sgd.addParamGroup({ params: [parameter(2)], momentum: 0.9 });
    expect(sgd.paramGroups[1]).toMatchObject({ lr: 0.5, momentum: 0.9, nesterov: false });
  });
});

describe('states', () => {
  function trained(optimizer: (w: nn.Parameter) => optim.Adam, w = parameter(1, 2)) {
    const adam = optimizer(w);
    w.grad = w.mul(2);
    adam.step();
    return { adam, w };
  }
  const adam = (w: nn.Parameter): optim.Adam => new optim.Adam([w], { lr: 0.5 });

  test('of another kind: both are named', () => {
    const state = trained(adam).adam.stateDict();
    const sgd = new optim.SGD([parameter(1, 2)]);
    expectRefusal(
      () => sgd.loadStateDict(state),
      'SGD.loadStateDict: the state is of Adam, this is SGD',
    );
    // Files of before had no name: their settings tell.
    const { optimizer: _, ...old } = state;
    expectRefusal(() => sgd.loadStateDict(old), "there is no option 'beta1'");
    expect(sgd.paramGroups[0]).not.toHaveProperty('beta1');
    expectRefusal(
      () => sgd.loadStateDict({} as never),
      'expected what stateDict() gave, got Object',
    );
  });

  test('that do not fit change nothing', () => {
    const { adam: own } = trained(adam);
    const before = JSON.stringify(own.stateDict());
    const first = trained(adam, parameter(1, 2, 3)).adam.stateDict();
    expect(() => own.loadStateDict(first)).toThrow(ShapeError);
    expect(() => own.loadStateDict(first)).toThrow(
      'expAvg of parameter 0 is [3], the parameter [2]',
    );
    const second = trained((w) => new optim.Adam([w], { lr: 0.25 })).adam.stateDict();
    const { expAvg, expAvgSq } = second.state['0'] as Record<string, Tensor>;
    const broken = (state: object): optim.OptimizerState =>
      ({ ...second, state: { 0: state } }) as never;
    expectRefusal(
      () => own.loadStateDict(broken({ step: NaN, expAvg })),
      'step must be an integer',
    );
    expectRefusal(
      () => own.loadStateDict(broken({ step: 1, expAvg: 'x' })),
      "as expAvg of parameter 0, got 'x'",
    );
    expAvgSq?.dispose();
    expect(() => own.loadStateDict(second)).toThrow('disposed');
    expect(JSON.stringify(own.stateDict())).toBe(before);
  });

  test('replace all that was there', () => {
    const { adam: own, w } = trained(adam);
    own.loadStateDict(new optim.Adam([w]).stateDict());
    expect(own.stateDict().state).toEqual({});
    const { adam: other } = trained(adam);
    own.loadStateDict(other.stateDict());
    expect(JSON.stringify(own.stateDict())).toBe(JSON.stringify(other.stateDict()));
  });
});

describe('schedules', () => {
  test.each([
    ['StepLR', { stepSize: 0 }, 'StepLR: stepSize must be an integer of at least 1, got 0'],
    ['StepLR', { stepSize: 1.5 }, 'got 1.5'],
    ['StepLR', {}, 'stepSize must be an integer of at least 1, got undefined'],
    ['StepLR', 30, 'expected a record of options, got 30. hint: it takes { stepSize, gamma }'],
    ['StepLR', { step: 3 }, 'did you mean stepSize?'],
    ['MultiStepLR', { milestones: 3 }, 'milestones must be a list of integers, got 3'],
    ['MultiStepLR', { milestones: [0.5] }, 'list of integers, got Array'],
    ['ExponentialLR', { gamma: NaN }, 'gamma must be'],
    ['ConstantLR', { factor: -1 }, 'factor must be'],
    ['LinearLR', { totalIters: 0 }, 'totalIters must be'],
    ['PolynomialLR', { power: NaN }, 'power must be'],
    ['CosineAnnealingLR', { tMax: 0 }, 'tMax must be'],
    ['CosineAnnealingWarmRestarts', { t0: 1, tMult: 0.5 }, 'tMult must be'],
    ['LambdaLR', { factor: 1 }, 'expected a function of the epoch, got Object'],
    ['OneCycleLR', { totalSteps: 10 }, 'maxLr must be'],
    [
      'OneCycleLR',
      { maxLr: 1, totalSteps: 10, pctStart: 2 },
      'pctStart must be a number in [0, 1]',
    ],
    ['OneCycleLR', { maxLr: 1, totalSteps: 9, divFactor: 0 }, 'divFactor must be a number above 0'],
    ['ReduceLROnPlateau', { factor: 1 }, 'factor must be a number in [0, 1), got 1'],
    ['ReduceLROnPlateau', { mode: 'less' }, "mode must be min or max, got 'less'"],
  ] as const)('%s %o', (name, options, message) => {
    expectRefusal(() => make(name, new optim.SGD([parameter(1)]), options), message);
  });

  test('take optimizers, states and numbers', () => {
    expectRefusal(
      () => make('StepLR', [parameter(1)], { stepSize: 1 }),
      'expected an optimizer, got Array',
    );
    const sgd = new optim.SGD([parameter(1)]);
    const plateau = new optim.ReduceLROnPlateau(sgd);
    expectRefusal(
      () => plateau.step(tensor(1) as never),
      'expected the metric as a number, got Tensor',
    );
    expectRefusal(() => plateau.loadStateDict(null as never), 'another kind of schedule');
  });

  test.each([0, 0.1, 1])('one cycle with a rise of %d has a rate at every step', (pctStart) => {
    const sgd = new optim.SGD([parameter(1)]);
    const schedule = new optim.OneCycleLR(sgd, { maxLr: 1, totalSteps: 10, pctStart });
    for (let step = 0; step < 10; step++) {
      expect(sgd.paramGroups[0]?.lr).toBeGreaterThan(0);
      schedule.step();
    }
    expect(sgd.paramGroups[0]?.lr).not.toBeNaN();
  });
});

test('clipping expectRefusal nonsense, and takes Infinity for the norm alone', () => {
  const w = parameter(3, 4);
  w.grad = tensor([3, 4]);
  expectRefusal(() => optim.clipGradNorm([w], NaN), 'clipGradNorm: maxNorm must be');
  expectRefusal(() => optim.clipGradNorm([w], -1), 'got -1');
  expectRefusal(
    () => optim.clipGradNorm([w], 1, { normType: 0 }),
    'normType must be a number above 0',
  );
  expectRefusal(() => optim.clipGradValue([w], NaN), 'clipGradValue: limit must be');
  expectRefusal(() => optim.clipGradNorm(w as never, 1), 'or [x] for a single one');
  expect(values(optim.clipGradNorm([w], Infinity) as Tensor)).toEqual([5]);
  expect(values(w.grad)).toEqual([3, 4]);
});
