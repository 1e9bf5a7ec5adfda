// A checkpoint holds a whole run: model, optimizer, schedule, random numbers and loader position
// go through a file's bytes, and training continues to the same bits.
import { expect, test } from 'vitest';
import { defaultGenerator, F, manualSeed, nn, optim, type Tensor } from 'tengen';
import { DataLoader, type LoaderState } from 'tengen/data';
import { loadCheckpoint, serializeCheckpoint } from 'tengen/io';

/** With everything that could be forgotten: running statistics, dropout, two groups, momenta. */
class Net extends nn.Module {
  body = new nn.Sequential(
    new nn.Linear(3, 8),
    new nn.BatchNorm1d(8),
    new nn.ReLU(),
    new nn.Dropout(0.3),
  );
  head = new nn.Linear(8, 2);
  forward(x: Tensor): Tensor {
    return this.head.forward(this.body.forward(x));
  }
}

type Sample = [Float32Array, number];
const samples: Sample[] = Array.from({ length: 40 }, (_, i) => [
  Float32Array.of(Math.sin(i), Math.cos(3 * i), i % 3),
  i % 2,
]);

interface Saved {
  readonly model: nn.StateDict;
  readonly optimizer: optim.OptimizerState;
  readonly schedule: optim.SchedulerState;
  readonly generator: { seed: number; offset: number };
  readonly loader: LoaderState;
}

function newRun() {
  manualSeed(11);
  const model = new Net();
  const optimizer = new optim.AdamW(
    [
      { params: model.body.parameters(), weightDecay: 0 },
      { params: model.head.parameters(), lr: 0.02 },
    ],
    { lr: 0.01, amsgrad: true },
  );
  const schedule = new optim.OneCycleLR(optimizer, { maxLr: 0.05, totalSteps: 20 });
  const loader = new DataLoader(samples, { batchSize: 5, shuffle: true, seed: 4 });

  /** Trains `steps` steps, over the ends of epochs; `done` sees the run before the loop is left. */
  async function train(steps: number, done?: () => Promise<void>): Promise<void> {
    let left = steps;
    while (left > 0) {
      for await (const [x, y] of loader) {
        const loss = F.crossEntropy(model.forward(x), y);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        schedule.step();
        if (--left === 0) {
          await done?.();
          return;
        }
      }
    }
  }

  const save = (): Promise<Uint8Array> =>
    serializeCheckpoint({
      model: model.stateDict(),
      optimizer: optimizer.stateDict(),
      schedule: schedule.stateDict(),
      generator: defaultGenerator.getState(),
      loader: loader.state(),
    } satisfies Saved);

  async function restore(bytes: Uint8Array): Promise<void> {
    const saved = await loadCheckpoint<Saved>(bytes);
    model.loadStateDict(saved.model);
    optimizer.loadStateDict(saved.optimizer);
    schedule.loadStateDict(saved.schedule);
    loader.loadState(saved.loader);
    defaultGenerator.setState(saved.generator);
  }

  const weights = (): number[][] =>
    Object.values(model.stateDict()).map((value) => Array.from(value.dataSync()));
  return { train, save, restore, weights };
}

test.each([3, 8, 13])('saved after step %i, restored, and trained on', async (at) => {
  const whole = newRun();
  await whole.train(20);

  const first = newRun();
  let bytes: Uint8Array = new Uint8Array();
  await first.train(at, async () => {
    bytes = await first.save();
  });
  const second = newRun();
  await second.restore(bytes);
  await second.train(20 - at);
  expect(second.weights()).toEqual(whole.weights());
});
