// Steps of optimizers in program files: what the host counts, a program counts itself.
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load, type LoadOptions } from '../../src/lite-node.ts';
import {
  amp,
  configure,
  excludeFromTrace,
  F,
  manualSeed,
  nn,
  optim,
  randn,
  type Tensor,
  tensor,
  trace,
} from '../../src/node.ts';

const STEPS = 12;

beforeAll(() => configure({ device: 'wasm', numerics: 'strict' }));
afterAll(() => configure({ numerics: 'fast' }));

interface Stepping {
  step(): boolean;
  zeroGrad(): void;
}

/** A training step of a small network, its loss and a parameter after it. */
function training(make: (net: nn.Module) => Stepping, dtype: 'float32' | 'float64' = 'float32') {
  manualSeed(4);
  const net = new nn.Sequential(new nn.Linear(3, 5), new nn.Tanh(), new nn.Linear(5, 1));
  if (dtype === 'float64') net.to('float64');
  const optimizer = make(net);
  const step = (x: Tensor, y: Tensor) => {
    const loss = F.mseLoss(net.forward(x), y);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return { loss, weight: [...net.parameters()][0]!.mul(1) };
  };
  const inputs = [randn([6, 3], { dtype }), randn([6, 1], { dtype })] as const;
  return { net, step, inputs };
}

type Training = ReturnType<typeof training>;

async function dumped({ net, step, inputs }: Training, options: LoadOptions = {}) {
  const { bytes } = await trace(step).dump(null, { inputs, module: net, testCases: [] });
  return load(bytes!, { numerics: 'strict', ...options });
}

/** Runs a file beside the function that it was made of: which steps differ, and what the file says. */
async function compare(subject: Training, before: number, options: LoadOptions = {}) {
  const { step, inputs } = subject;
  for (let i = 0; i < before; i++) step(...inputs);
  const model = await dumped(subject, options);
  const values = { input0: await inputs[0].data(), input1: await inputs[1].data() };
  const differing: string[] = [];
  const losses = new Set<number>();
  for (let i = 0; i < STEPS; i++) {
    const expected = step(...inputs);
    const outputs = await model.run(values);
    for (const name of ['loss', 'weight'] as const) {
      const [data, wanted] = [outputs[name]!.data, await expected[name].data()];
      if (!data.every((value, at) => Object.is(value, wanted[at]))) {
        differing.push(`${name} of step ${i}: ${String(data)} is not ${String(wanted)}`);
      }
    }
    losses.add(await expected.loss.item());
  }
  // They are steps.
  expect(losses.size).toBe(STEPS);
  const { header } = model;
  model.dispose();
  return { header, differing };
}

const OPTIMIZERS: Record<string, (net: nn.Module) => Stepping> = {
  Adam: (net) => new optim.Adam(net.parameters(), { lr: 0.01 }),
  'Adam with amsgrad': (net) =>
    new optim.Adam(net.parameters(), { lr: 0.01, amsgrad: true, weightDecay: 0.1 }),
  AdamW: (net) => new optim.AdamW(net.parameters(), { lr: 0.01 }),
  Adamax: (net) => new optim.Adamax(net.parameters(), { lr: 0.01 }),
  NAdam: (net) => new optim.NAdam(net.parameters(), { lr: 0.01 }),
  RAdam: (net) => new optim.RAdam(net.parameters(), { lr: 0.01 }),
  Lamb: (net) => new optim.Lamb(net.parameters(), { lr: 0.01, weightDecay: 0.1 }),
  SGD: (net) => new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9 }),
  'SGD with dampening': (net) =>
    new optim.SGD(net.parameters(), { lr: 0.1, momentum: 0.9, dampening: 0.5 }),
  'Adagrad with lrDecay': (net) => new optim.Adagrad(net.parameters(), { lr: 0.1, lrDecay: 0.1 }),
  ASGD: (net) => new optim.ASGD(net.parameters(), { lr: 0.1, lambd: 0.01, t0: 3 }),
  Adafactor: (net) => new optim.Adafactor(net.parameters(), { lr: 0.3 }),
  Lion: (net) => new optim.Lion(net.parameters(), { lr: 0.01 }),
  RMSprop: (net) => new optim.RMSprop(net.parameters(), { lr: 0.01, momentum: 0.5 }),
  Rprop: (net) => new optim.Rprop(net.parameters(), { lr: 0.01 }),
  Adadelta: (net) => new optim.Adadelta(net.parameters(), { lr: 0.5 }),
};

describe.each(Object.entries(OPTIMIZERS))('%s', (_, make) => {
  test.each([0, 3])(
    'n runs are n steps of the function, bit for bit, from step %i',
    async (before) => {
      expect((await compare(training(make), before)).differing).toEqual([]);
    },
  );
});

describe('what a dump leaves behind on the host', () => {
  const state = (optimizer: optim.Adam) =>
    Object.values(optimizer.stateDict().state).map(({ step }) => step);

  test('nothing: no count, no gradient, no weight, with test cases or without', async () => {
    let adam!: optim.Adam;
    const subject = training((net) => (adam = new optim.Adam(net.parameters(), { lr: 0.1 })));
    const { net, step, inputs } = subject;
    const read = () => Promise.all([...net.parameters()].map((param) => param.data()));
    for (const before of [0, 2]) {
      for (let i = 0; i < before; i++) step(...inputs);
      const kept = step(...inputs).loss.add(1);
      net.zeroGrad();
      const [weights, counts] = [await read(), state(adam)];
      for (const testCases of [[], [inputs, inputs]]) {
        await trace(step).dump(null, { inputs, module: net, testCases });
        expect(state(adam)).toEqual(counts);
        expect(await read()).toEqual(weights);
        expect([...net.parameters()].map(({ grad }) => grad)).toEqual(weights.map(() => null));
      }
      expect((await kept.item()) > 1).toBe(true);
    }
  });

  test('test cases are steps from the state in the file, and check() does not move a model on', async () => {
    const subject = training((net) => new optim.Adam(net.parameters(), { lr: 0.1 }));
    const { net, step, inputs } = subject;
    const { bytes, difference } = await trace(step).dump(null, {
      inputs,
      module: net,
      testCases: [inputs, inputs, inputs],
    });
    expect(difference).toBeLessThan(1e-6);
    const model = await load(bytes!, { numerics: 'strict' });
    const values = { input0: await inputs[0].data(), input1: await inputs[1].data() };
    for (let i = 0; i < 4; i++) {
      const report = await model.check();
      expect(report.passed).toBe(true);
      expect(report.cases).toHaveLength(3);
      expect((await model.run(values))['loss']!.data).toEqual(await step(...inputs).loss.data());
    }
  });

  test('a failed one leaves nothing either', async () => {
    let adam!: optim.Adam;
    const { net, step, inputs } = training((net) => (adam = new optim.Adam(net.parameters())));
    const failing = (x: Tensor, y: Tensor) => {
      const { loss } = step(x, y);
      return loss.itemSync();
    };
    await expect(
      trace(failing as never as typeof step).dump(null, { inputs, module: net }),
    ).rejects.toThrow('reads a value');
    expect(state(adam)).toEqual([]);
    expect(step(...inputs).loss.itemSync()).toBeGreaterThan(0);
  });
});

describe('the state of a file', () => {
  test('has one count, by name, for all parameters', async () => {
    const { header } = await compare(
      training((net) => new optim.AdamW(net.parameters())),
      2,
    );
    const counts = header.leaves.filter((leaf) => 'tensor' in leaf && leaf.tensor.includes('step'));
    expect(counts).toEqual([
      { kind: 'weight', tensor: 'optimizer.step', update: expect.any(Number) },
    ]);
  });

  test('has none where no number follows from it', async () => {
    for (const make of [OPTIMIZERS['SGD']!, OPTIMIZERS['Lion']!]) {
      const { header } = await compare(training(make), 0);
      expect(JSON.stringify(header.leaves)).not.toContain('optimizer.step');
    }
  });

  test('counts for each optimizer, and again for parameters that joined later', async () => {
    const { header, differing } = await compare(
      training((net) => {
        const [a, b, c, d] = [...net.parameters()] as [Tensor, Tensor, Tensor, Tensor];
        const one = new optim.Adam([a, b], { lr: 0.01 });
        const other = new optim.NAdam([c], { lr: 0.02 });
        // Three steps ahead of the others.
        const late = new optim.Adam([d], { lr: 0.05 });
        one.addParamGroup({ params: [new nn.Parameter(randn(2))] });
        for (let i = 0; i < 3; i++) {
          d.sum().backward();
          late.step();
          late.zeroGrad();
        }
        late.addParamGroup({ params: [new nn.Parameter(randn(2))] });
        const all = [one, other, late];
        return {
          step: () => all.map((each) => each.step()).every(Boolean),
          zeroGrad: () => all.forEach((each) => each.zeroGrad()),
        };
      }),
      0,
    );
    expect(differing).toEqual([]);
    const names = header.leaves.flatMap((leaf) => ('tensor' in leaf ? [leaf.tensor] : []));
    expect(names.filter((name) => name.startsWith('optimizer')).sort()).toEqual([
      'optimizer.momentumProduct',
      'optimizer.step',
      'optimizer.step2',
      'optimizer.step3',
    ]);
  });

  test('moves on twice where a run has two steps', async () => {
    const subject = training((net) => new optim.Adam(net.parameters(), { lr: 0.05 }));
    const twice = (x: Tensor, y: Tensor) => {
      subject.step(x, y);
      return subject.step(x, y);
    };
    expect((await compare({ ...subject, step: twice }, 0)).differing).toEqual([]);
  });

  test('names that a module has are left to it', async () => {
    class Odd extends nn.Module {
      weight0 = new nn.Linear(2, 2);
      weight1 = new nn.Parameter(randn(2));

      override forward(x: Tensor): Tensor {
        return this.weight0.forward(x);
      }
    }
    const odd = new Odd();
    const own = randn(2);
    const module = {
      *namedParameters() {
        yield ['weight0', odd.weight1] as const;
        yield ['weight2', odd.weight0.weight] as const;
        yield ['optimizer.step', odd.weight0.bias!] as const;
      },
      namedBuffers: () => [],
    };
    const adam = new optim.Adam([odd.weight1, odd.weight0.weight, odd.weight0.bias!]);
    const step = (x: Tensor) => {
      const loss = odd.weight0.forward(x.mul(own)).mul(odd.weight1).mul(own.exp()).sum();
      adam.zeroGrad();
      loss.backward();
      adam.step();
      return loss;
    };
    const inputs = [randn(3, 2)] as const;
    const { bytes } = await trace(step).dump(null, { inputs, module, testCases: [] });
    const model = await load(bytes!, { numerics: 'strict' });
    const names = model.header.leaves.flatMap((leaf) => ('tensor' in leaf ? [leaf.tensor] : []));
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(
      expect.arrayContaining(['weight0', 'weight2', 'optimizer.step', 'optimizer.step2']),
    );
    for (let i = 0; i < 3; i++) {
      const { output } = await model.run(await inputs[0].data());
      expect(output!.data).toEqual(await step(...inputs).data());
    }
  });
});

test.skipIf(nativeUnavailable() !== null)('the same bits on native', async () => {
  for (const make of [OPTIMIZERS['NAdam']!, OPTIMIZERS['RAdam']!]) {
    const { differing } = await compare(training(make), 1, { device: 'native' });
    expect(differing).toEqual([]);
  }
});

test('float64, and halves that are trained as float32', async () => {
  const wide = training((net) => new optim.NAdam(net.parameters(), { lr: 0.01 }), 'float64');
  expect((await compare(wide, 1)).differing).toEqual([]);
  for (const before of [0, 2]) {
    manualSeed(2);
    const weight = new nn.Parameter(randn([4], { dtype: 'float16' }));
    const adam = new optim.Adam([weight], { lr: 0.05 });
    const step = (x: Tensor) => {
      const loss = weight.float().sub(x).square().sum();
      adam.zeroGrad();
      loss.backward();
      adam.step();
      return loss;
    };
    const x = randn(4);
    for (let i = 0; i < before; i++) step(x);
    const { bytes } = await trace(step).dump(null, { inputs: [x], testCases: [] });
    const model = await load(bytes!, { numerics: 'strict' });
    for (let i = 0; i < STEPS; i++) {
      const { output } = await model.run(await x.data());
      expect(output!.data).toEqual(await step(x).data());
    }
  }
});

describe('what the host would do differently in each call is refused', () => {
  const x = randn(2);
  const dump = (fn: (x: Tensor) => unknown) =>
    trace(fn as (x: Tensor) => Tensor).dump(null, { inputs: [x], testCases: [] });
  const weight = new nn.Parameter(randn(2));
  const sgd = new optim.SGD([weight], { lr: 0.1 });
  const loss = (input: Tensor) => weight.mul(input).sum();

  test('schedules, scalers, accumulators, seeds', async () => {
    const schedule = new optim.StepLR(sgd, { stepSize: 1 });
    const scaler = new amp.GradScaler();
    const accumulator = new optim.GradientAccumulator(sgd, 2);
    const cases: [(x: Tensor) => unknown, RegExp][] = [
      [() => schedule.step(), /does StepLR.step, which/],
      [() => scaler.update(), /does GradScaler.update/],
      [(input) => accumulator.backward(loss(input)), /does GradientAccumulator/],
      [() => manualSeed(1), /does manualSeed/],
      [(input) => excludeFromTrace((y) => y.add(1), input), /leaves out/],
    ];
    for (const [fn, message] of cases) {
      sgd.zeroGrad();
      const both = (input: Tensor): Tensor => {
        fn(input);
        return input.add(1);
      };
      await expect(dump(both)).rejects.toThrow(message);
    }
    await expect(dump((input) => scaler.scale(loss(input)))).rejects.toThrow(/keeps on the host/);
    expect(schedule.epoch).toBe(0);
    expect(sgd.paramGroups[0]!.lr).toBe(0.1);
  });

  test('numbers, structure and data that follow a counter of its own', async () => {
    let count = 0;
    await expect(dump((input) => input.mul(count++ * 0.5 + 3))).rejects.toThrow(
      /number that changes from call to call: 3, then 3.5 \(in mul\)/,
    );
    await expect(dump((input) => (count++ % 2 === 0 ? input.exp() : input.log()))).rejects.toThrow(
      /another program when it is called again/,
    );
    await expect(dump((input) => input.mul(tensor([count++, 1])))).rejects.toThrow(
      /makes a tensor on the host that differs/,
    );
    const table = tensor([1, 2]);
    await expect(dump((input) => input.mul(table).add(tensor([3, 4])))).resolves.toBeDefined();
  });

  test('an optimizer that counts by itself', async () => {
    class Own extends optim.Optimizer<{ lr: number }> {
      constructor(params: Tensor[]) {
        super(params, { lr: 0.5 });
      }
      protected update(param: Tensor, grad: Tensor, { lr }: { lr: number }, step: number): void {
        this.assign(param, param.sub(grad.mul(lr / step)));
      }
    }
    const own = new Own([weight]);
    const step = (input: Tensor) => {
      own.zeroGrad();
      loss(input).backward();
      own.step();
      return input.add(1);
    };
    await expect(dump(step)).rejects.toThrow(
      /number that changes from call to call: 0.5, then 0.25/,
    );
  });

  test('gradients from before', async () => {
    const step = (input: Tensor) => {
      loss(input).backward();
      sgd.step();
      return input.add(1);
    };
    loss(x).backward();
    await expect(dump(step)).rejects.toThrow(/a gradient from before the call/);
    sgd.zeroGrad();
    await expect(dump(step)).resolves.toBeDefined();
  });
});
