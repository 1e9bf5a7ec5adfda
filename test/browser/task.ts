// What the browser test trains and checks: the same code in pages and in Node.
import { configure, env, manualSeed, noGrad, optim } from 'tengen';
import { DataLoader, datasets } from 'tengen/data';
import { load, serialize } from 'tengen/io';
import { DigitNet, evaluate, trainEpoch } from '../../examples/mnist/model.ts';
import { greyLevels } from '../../examples/mnist/pixels.ts';

const SEED = 1;
const EPOCHS = 2;
const BATCH = 64;
const TRAIN_IMAGES = 5_000;
const TEST_IMAGES = 2_000;

export interface Trained {
  readonly accuracy: number;
  /** Scores of all test images, [TEST_IMAGES, 10]. */
  readonly scores: Float32Array;
  /** The weights as a safetensors file. */
  readonly weights: Uint8Array;
  readonly threads: number;
  readonly threadsReason: string;
  readonly isolated: boolean;
  readonly seconds: number;
}

function testBatches() {
  const images = datasets.strokes({ size: TEST_IMAGES, split: 'test', transform: greyLevels });
  return new DataLoader(images, { batchSize: 250 });
}

async function scoresOf(model: DigitNet): Promise<Float32Array> {
  model.eval();
  const scores = new Float32Array(TEST_IMAGES * 10);
  let at = 0;
  for await (const [images] of testBatches()) {
    const batch = await noGrad(() => model.forward(images)).data();
    scores.set(batch, at);
    at += batch.length;
  }
  return scores;
}

/** Trains on drawn digits in strict numerics. `onStep` is told of every step. */
export async function trainDigits(onStep: (step: number, loss: number) => void): Promise<Trained> {
  const start = performance.now();
  configure({ numerics: 'strict' });
  manualSeed(SEED);
  const model = new DigitNet();
  const train = datasets.strokes({ size: TRAIN_IMAGES, transform: greyLevels });
  const options = { batchSize: BATCH, shuffle: true, seed: SEED, dropLast: true };
  const loader = new DataLoader(train, options);
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.05, momentum: 0.9 });
  const schedule = new optim.OneCycleLR(optimizer, {
    maxLr: 0.05,
    totalSteps: EPOCHS * loader.length,
    cycleMomentum: false,
  });
  let step = 0;
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    for await (const { loss } of trainEpoch(model, optimizer, schedule, loader)) {
      onStep(++step, loss);
      // A turn of the event loop: pages deliver messages, and start workers, only between them.
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  const { accuracy } = await evaluate(model, testBatches());
  const { threads, threadsReason } = env();
  return {
    accuracy,
    scores: await scoresOf(model),
    weights: await serialize(model.stateDict()),
    threads,
    threadsReason,
    isolated: globalThis.crossOriginIsolated === true,
    seconds: (performance.now() - start) / 1000,
  };
}

/** Scores by weights that were saved elsewhere, in strict numerics. */
export async function scoresBySaved(weights: Uint8Array): Promise<Float32Array> {
  configure({ numerics: 'strict' });
  const model = new DigitNet();
  model.loadStateDict(await load(weights));
  return scoresOf(model);
}
