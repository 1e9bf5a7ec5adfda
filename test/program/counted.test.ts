// Steps of optimizers in program files: what the host counts, a program counts itself.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load, type LoadOptions } from '../../src/lite-node.ts';
import { configure, F, manualSeed, nn, optim, randn, type Tensor, trace } from '../../src/node.ts';

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

/** Runs a file beside the function that it was made of. */
async function compare(subject: Training, before: number, options: LoadOptions = {}) {
  const { step, inputs } = subject;
  for (let i = 0; i < before; i++) step(...inputs);
  const model = await dumped(subject, options);
  const values = { input0: await inputs[0].data(), input1: await inputs[1].data() };
  for (let i = 0; i < STEPS; i++) {
    const { loss, weight } = step(...inputs);
    const outputs = await model.run(values);
    expect(outputs['loss']!.data, `loss of step ${i}`).toEqual(await loss.data());
    expect(outputs['weight']!.data, `weights after step ${i}`).toEqual(await weight.data());
  }
  const header = model.header;
  model.dispose();
  return header;
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
  'Adagrad with lrDecay': (net) =>
    new optim.Adagrad(net.parameters(), { lr: 0.1, lrDecay: 0.1 }),
  ASGD: (net) => new optim.ASGD(net.parameters(), { lr: 0.1, lambd: 0.01, t0: 3 }),
  Adafactor: (net) => new optim.Adafactor(net.parameters(), { lr: 0.3 }),
  Lion: (net) => new optim.Lion(net.parameters(), { lr: 0.01 }),
  RMSprop: (net) => new optim.RMSprop(net.parameters(), { lr: 0.01, momentum: 0.5 }),
  Rprop: (net) => new optim.Rprop(net.parameters(), { lr: 0.01 }),
  Adadelta: (net) => new optim.Adadelta(net.parameters(), { lr: 0.5 }),
};

describe.each(Object.entries(OPTIMIZERS))('%s', (_, make) => {
  test.each([0, 3])('n runs are n steps of the function, bit for bit, from step %i', async (before) => {
    await compare(training(make), before);
  });
});
