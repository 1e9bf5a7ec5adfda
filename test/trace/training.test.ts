// Training steps in every mode of trace: the same losses and weights, bit for bit, as without.
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { amp, F, nn, optim, tensor, type Tensor, trace, type TraceOptions } from 'tengen';
import { checkLeaks } from '../interface/support.ts';

checkLeaks();

type Step = (x: Tensor, y: Tensor) => Tensor | { loss: Tensor; accuracy: Tensor };

/** A small convolutional network with everything that has a state: statistics, dropout. */
class SmallNet extends nn.Module {
  conv = new nn.Conv2d(1, 4, 3, { padding: 1 });
  bn = new nn.BatchNorm2d(4);
  dropout = new nn.Dropout(0.25);
  fc = new nn.Linear(4 * 4 * 4, 10);

  forward(x: Tensor): Tensor {
    const features = F.maxPool2d(F.relu(this.bn.forward(this.conv.forward(x))), 2);
    return this.fc.forward(this.dropout.forward(features.flatten(1)));
  }
}

function batch(step: number): [Tensor, Tensor] {
  const pixels = Float32Array.from({ length: 6 * 64 }, (_, i) => Math.sin(i * (step + 1) * 0.37));
  const labels = Array.from({ length: 6 }, (_, i) => (i * 7 + step) % 10);
  return [tensor(pixels, { shape: [6, 1, 8, 8] }), tensor(labels, { dtype: 'int32' })];
}

const MODES: [string, TraceOptions | null][] = [
  ['off', null],
  ['compared', {}],
  ['symbolic', { symbolic: true }],
  ['without host', { withoutHost: true }],
  ['without host, symbolic', { withoutHost: true, symbolic: true }],
];

interface Outcome {
  readonly losses: number[];
  readonly accuracies: number[];
  /** Fingerprint of all weights, statistics and states. */
  readonly weights: string;
  readonly misses: number;
}

/** Five steps: what was read of each, all weights and statistics, and plans compiled after the second. */
function train(
  options: TraceOptions | null,
  make: (model: SmallNet) => { step: Step; parts?: { stateDict(): unknown } },
): Outcome {
  tg.manualSeed(3);
  const model = new SmallNet();
  const { step: plain, parts } = make(model);
  const step = options === null ? plain : trace(plain, options);
  const losses: number[] = [];
  const accuracies: number[] = [];
  let misses = 0;
  for (let i = 0; i < 5; i++) {
    const before = tg.stats().planMisses;
    const result = step(...batch(i));
    if ('loss' in result) {
      losses.push(result.loss.itemSync());
      accuracies.push(result.accuracy.itemSync());
    } else losses.push(result.itemSync());
    if (i >= 2) misses += tg.stats().planMisses - before;
  }
  const state = Object.entries(model.stateDict()).map(([name, x]) => [name, x.arraySync()]);
  const others = JSON.stringify(parts?.stateDict(), (_, value: unknown) =>
    value instanceof tg.Tensor ? value.arraySync() : value,
  );
  // A text of that length is no help in a message.
  const weights = createHash('sha256')
    .update(JSON.stringify([state, others]))
    .digest('hex');
  return { losses, accuracies, weights, misses };
}

describe('the same bits in all modes', () => {
  const check = (make: Parameters<typeof train>[1], leftOut?: string): void => {
    const [[, off], ...others] = MODES as [(typeof MODES)[0], ...typeof MODES];
    const expected = train(off, make);
    expect(new Set(expected.losses).size).toBe(5);
    for (const [name, options] of others) {
      if (name === leftOut) continue;
      expect(train(options, make), name).toEqual({ ...expected, misses: expect.any(Number) });
      expect(train(options, make).misses, `${name}: plans compiled late`).toBe(0);
    }
  };

  test('Adam with a schedule, clipping, and a metric', () => {
    check((model) => {
      const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
      const schedule = new optim.CosineAnnealingLR(optimizer, { tMax: 5 });
      const step: Step = (x, y) => {
        const scores = model.forward(x);
        const loss = F.crossEntropy(scores, y);
        const accuracy = scores.argmax(1).eq(y).float().mean();
        optimizer.zeroGrad();
        loss.backward();
        optim.clipGradNorm(model.parameters(), 1);
        optimizer.step();
        schedule.step();
        return { loss, accuracy };
      };
      return { step, parts: optimizer };
    });
  });

  test.each([
    ['SGD', (p: nn.Parameter[]) => new optim.SGD(p, { lr: 0.05, momentum: 0.9, dampening: 0.1 })],
    ['AdamW', (p: nn.Parameter[]) => new optim.AdamW(p, { lr: 0.01 })],
    ['NAdam', (p: nn.Parameter[]) => new optim.NAdam(p, { lr: 0.01 })],
    ['RAdam', (p: nn.Parameter[]) => new optim.RAdam(p, { lr: 0.01 })],
    ['Adagrad', (p: nn.Parameter[]) => new optim.Adagrad(p, { lr: 0.01, lrDecay: 0.1 })],
    ['Adafactor', (p: nn.Parameter[]) => new optim.Adafactor(p, { lr: 0.01 })],
    ['ASGD', (p: nn.Parameter[]) => new optim.ASGD(p, { lr: 0.01, t0: 2 })],
  ])('%s without host', (_name, make) => {
    const build = (model: SmallNet) => {
      const optimizer = make(model.parameters() as nn.Parameter[]);
      const step: Step = (x, y) => {
        const loss = F.crossEntropy(model.forward(x), y);
        loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
        return loss;
      };
      return { step, parts: optimizer as { stateDict(): unknown } };
    };
    expect(train({ withoutHost: true }, build)).toEqual(train(null, build));
  });

  test('mixed precision with a scaler whose scale falls and grows', () => {
    const make = (model: SmallNet) => {
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.05 });
      const scaler = new amp.GradScaler({ initScale: 2 ** 127, growthInterval: 2 });
      const step: Step = (x, y) => {
        const loss = amp.autocast({ dtype: 'bfloat16' }, () => F.crossEntropy(model.forward(x), y));
        optimizer.zeroGrad();
        scaler.scale(loss).backward();
        scaler.step(optimizer);
        scaler.update();
        return loss;
      };
      return { step, parts: scaler };
    };
    check(make, 'symbolic');
    // Whether the step was made has to be read.
    expect(() => train({ symbolic: true }, make)).toThrow('reads a value while it is traced');
  });

  test('averaged weights, and two optimizers that take turns', () => {
    check((model) => {
      const average = new nn.AveragedModel(model, { decay: 0.9 });
      const first = new optim.SGD(model.conv.parameters(), { lr: 0.05 });
      const second = new optim.Adam(model.fc.parameters(), { lr: 0.01 });
      const step: Step = (x, y) => {
        const loss = F.crossEntropy(model.forward(x), y);
        model.zeroGrad();
        loss.backward();
        first.step();
        const again = F.crossEntropy(model.forward(x), y);
        model.zeroGrad();
        again.backward();
        second.step();
        average.updateParameters();
        return loss;
      };
      return { step, parts: { stateDict: () => average.averages() } };
    });
  });

  test('halves trained as float32 copies', () => {
    const make = (model: SmallNet) => {
      model.to('bfloat16');
      const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
      const step: Step = (x, y) => {
        const loss = F.crossEntropy(model.forward(x.to('bfloat16')).float(), y);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss;
      };
      return { step, parts: optimizer };
    };
    // What plans have learned to keep is rounded to a half where it is kept.
    const fresh = (options: TraceOptions | null): Outcome => {
      tg.clearPlans();
      return train(options, make);
    };
    const expected = fresh(null);
    for (const options of [{}, { withoutHost: true }]) expect(fresh(options)).toEqual(expected);
  });
});

describe('without host', () => {
  test('a rate that somebody changes is seen at once', () => {
    const w = new nn.Parameter(tensor([8]));
    const sgd = new optim.SGD([w], { lr: 0.5 });
    let runs = 0;
    const step = trace(
      () => {
        runs++;
        sgd.zeroGrad();
        const loss = w.mul(1).sum();
        loss.backward();
        sgd.step();
        return loss;
      },
      { withoutHost: true },
    );
    step();
    (sgd.paramGroups[0] as { lr: number }).lr = 2;
    step();
    expect([w.itemSync(), runs]).toEqual([5.5, 1]);
  });

  test('gradients add up, and whether there are some makes two programs', () => {
    const w = new nn.Parameter(tensor([1, 2]));
    const backward = trace(
      (x: Tensor) => {
        w.mul(x).sum().backward();
      },
      { withoutHost: true },
    );
    backward(tensor([1, 1]));
    backward(tensor([10, 20]));
    backward(tensor([100, 200]));
    expect(w.grad?.arraySync()).toEqual([111, 221]);
    expect(backward.stats).toMatchObject({ recordings: 2, hits: 1 });
    w.grad = null;
    backward(tensor([5, 6]));
    expect(w.grad).not.toBeNull();
    expect((w.grad as unknown as Tensor).arraySync()).toEqual([5, 6]);
    expect(backward.stats.recordings).toBe(2);
  });

  test('gradients accumulated over batches, with a step now and then', () => {
    const run = (traced: boolean): unknown => {
      const w = new nn.Parameter(tensor([1]));
      const accumulator = new optim.GradientAccumulator(new optim.SGD([w], { lr: 0.1 }), 3);
      const plain = (x: Tensor): void => void accumulator.backward(w.mul(w).mul(x).sum());
      const step = traced ? trace(plain, { withoutHost: true }) : plain;
      for (let i = 0; i < 7; i++) step(tensor([i]));
      accumulator.flush();
      return w.itemSync();
    };
    expect(run(true)).toBe(run(false));
  });

  test('a step by a state of its own: a recurrent cell', () => {
    tg.manualSeed(1);
    const cell = new nn.GRUCell(3, 4);
    const inputs = [0, 1, 2, 3].map((i) => tensor([[i, 1, -i]]));
    const run = (options: TraceOptions | null): unknown => {
      const state = tg.zeros([1, 4]);
      const plain = (x: Tensor): Tensor => {
        state.assign(cell.forward(x, state));
        return state.mul(2);
      };
      const step = options === null ? plain : trace(plain, options);
      return inputs.map((x) => step(x).arraySync());
    };
    const expected = run(null);
    for (const options of [{}, { symbolic: true }, { withoutHost: true }]) {
      expect(run(options)).toEqual(expected);
    }
  });
});
