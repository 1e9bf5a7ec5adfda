// The usual training loop in the orders in which people write it: results are right, and from the
// second step on no kernel of the forward pass runs twice (docs/deferred.md, rules a to c).
import { beforeEach, describe, expect, test } from 'vitest';
import { DisposedError, F, manualSeed, nn, optim, stats, type Tensor, tensor } from 'tengen';

const BATCH = 8;

/** Small, with everything that training assigns: parameters, momenta, running statistics. */
class Net extends nn.Module {
  fc1 = new nn.Linear(4, 16);
  norm = new nn.BatchNorm1d(16);
  fc2 = new nn.Linear(16, 3);
  forward(x: Tensor): Tensor {
    return this.fc2.forward(F.relu(this.norm.forward(this.fc1.forward(x))));
  }
}

function batchOf(step: number): [Tensor, Tensor] {
  const features = Float32Array.from({ length: BATCH * 4 }, (_, i) => Math.sin(i * 1.7 + step));
  const classes = Int32Array.from({ length: BATCH }, (_, i) => (i + step) % 3);
  return [tensor(features, { shape: [BATCH, 4] }), tensor(classes)];
}

interface Loop {
  readonly model: Net;
  readonly optimizer: optim.SGD;
}

function newLoop(): Loop {
  manualSeed(1);
  const model = new Net();
  return { model, optimizer: new optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 }) };
}

/** What one step computed: the loss, and the class scores that belong to it. */
interface Observed {
  readonly loss: number;
  readonly scores: number[];
}

type Step = (loop: Loop, step: number) => Promise<Partial<Observed>>;

const orders: Record<string, Step> = {
  'nothing is read': async ({ model, optimizer }, step) => {
    const [x, y] = batchOf(step);
    const loss = F.crossEntropy(model.forward(x), y);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return {};
  },
  '(a) loss and metric before step(), read after it': async ({ model, optimizer }, step) => {
    const [x, y] = batchOf(step);
    const scores = model.forward(x);
    const loss = F.crossEntropy(scores, y);
    const right = scores.argmax(1).eq(y).float().mean();
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    expect(await right.item()).toBeGreaterThanOrEqual(0);
    return { loss: await loss.item() };
  },
  '(b) scores used after step()': async ({ model, optimizer }, step) => {
    const [x, y] = batchOf(step);
    const scores = model.forward(x);
    const loss = F.crossEntropy(scores, y);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return { loss: await loss.item(), scores: Array.from(await scores.mul(1).data()) };
  },
  '(c) loss read before backward': async ({ model, optimizer }, step) => {
    const [x, y] = batchOf(step);
    const loss = F.crossEntropy(model.forward(x), y);
    const value = await loss.item();
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return { loss: value };
  },
};

/**
 * Kernels beyond those of a loop that reads nothing. A second forward pass would be seven. Used
 * scores are one kernel; a loss read early cuts the plan in two, and what was one kernel across
 * the cut is two.
 */
const EXTRA: Readonly<Record<string, number>> = {
  '(b) scores used after step()': 1,
  '(c) loss read before backward': 3,
};

const STEPS = 6;

/** Runs a loop; per step what was observed, and how many kernels and plans it took. */
async function run(step: Step): Promise<{ observed: Partial<Observed>[]; kernels: number[] }> {
  const loop = newLoop();
  const observed: Partial<Observed>[] = [];
  const kernels: number[] = [];
  for (let i = 0; i < STEPS; i++) {
    const before = stats().kernelsExecuted;
    observed.push(await step(loop, i));
    kernels.push(stats().kernelsExecuted - before);
  }
  return { observed, kernels };
}

describe('the usual loop', () => {
  const expected: Observed[] = [];
  let plainKernels = 0;

  beforeEach(async () => {
    if (expected.length > 0) return;
    // Truth: every value is read where it is made, by a second, separate forward pass.
    const loop = newLoop();
    for (let i = 0; i < STEPS; i++) {
      const [x, y] = batchOf(i);
      const copy = new Net();
      copy.loadStateDict(loop.model.stateDict());
      const scores = copy.forward(x);
      const loss = await F.crossEntropy(scores, y).item();
      expected.push({ loss, scores: Array.from(await scores.data()) });
      await orders['nothing is read']?.(loop, i);
    }
    const { kernels } = await run(orders['nothing is read'] as Step);
    plainKernels = kernels.at(-1) ?? 0;
  });

  test.each(Object.keys(orders))('%s', async (name) => {
    const { observed, kernels } = await run(orders[name] as Step);
    for (const [i, { loss, scores }] of observed.entries()) {
      const truth = expected[i] as Observed;
      if (loss !== undefined) expect(loss, `loss of step ${i}`).toBeCloseTo(truth.loss, 5);
      for (const [j, score] of (scores ?? []).entries()) {
        expect(score, `score ${j} of step ${i}`).toBeCloseTo(truth.scores[j] ?? NaN, 4);
      }
    }
    // The first step may compute twice, and learns; the second is like all that follow.
    expect(new Set(kernels.slice(1)).size, kernels.join()).toBe(1);
    const extra = (kernels.at(-1) ?? 0) - plainKernels;
    expect(extra, `${kernels.join()} against ${plainKernels}`).toBeLessThanOrEqual(
      EXTRA[name] ?? 0,
    );
  });

  test('from the second step on there is no new plan', async () => {
    for (const step of Object.values(orders)) {
      const loop = newLoop();
      for (let i = 0; i < 2; i++) await step(loop, i);
      const before = stats().planMisses;
      for (let i = 2; i < STEPS; i++) await step(loop, i);
      expect(stats().planMisses - before).toBe(0);
    }
  });

  test('a value of two steps ago throws and says how to keep it', async () => {
    const { model, optimizer } = newLoop();
    const train = (i: number): Tensor => {
      const [x, y] = batchOf(i);
      const scores = model.forward(x);
      const loss = F.crossEntropy(scores, y);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return scores;
    };
    const old = train(0);
    train(1);
    train(2);
    await expect(old.mul(2).data()).rejects.toThrow(DisposedError);
    await expect(old.mul(2).data()).rejects.toThrow('keep(');
  });

  test('what was kept stays readable', async () => {
    const { model, optimizer } = newLoop();
    const kept: Tensor[] = [];
    for (let i = 0; i < 4; i++) {
      const [x, y] = batchOf(i);
      const scores = model.forward(x).keep();
      kept.push(scores);
      const loss = F.crossEntropy(scores, y);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
    }
    const first = Array.from(await (kept[0] as Tensor).data());
    for (const [j, score] of first.entries()) {
      expect(score).toBeCloseTo(expected[0]?.scores[j] ?? NaN, 4);
    }
  });
});
