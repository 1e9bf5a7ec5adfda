// Reads saved weights and recognizes drawn digits. As a script it prints one line of JSON:
//   npx tsx examples/mnist/predict.ts FILE [images]
import { createHash } from 'node:crypto';
import { noGrad } from 'tengen';
import { DataLoader, datasets } from 'tengen/data';
import { load } from 'tengen/io';
import { type Batches, DigitNet, evaluate } from './model.ts';
import { greyLevels } from './pixels.ts';

/** What the demo compares between processes. */
export interface Predictions {
  readonly accuracy: number;
  readonly answers: readonly number[];
  /** SHA-256 of the scores of all images, bit for bit. */
  readonly fingerprint: string;
}

/** The test images of the demo. */
export function testImages(size: number) {
  return datasets.strokes({ size, split: 'test', transform: greyLevels });
}

/** Answers to all batches, and a fingerprint of the scores behind them. */
export async function predict(model: DigitNet, batches: Batches): Promise<Predictions> {
  const { accuracy, answers } = await evaluate(model, batches);
  const hash = createHash('sha256');
  for await (const [images] of batches) {
    hash.update(await noGrad(() => model.forward(images)).data());
  }
  return { accuracy, answers, fingerprint: hash.digest('hex') };
}

async function main(file: string, size: number): Promise<void> {
  const model = new DigitNet();
  model.loadStateDict(await load(file));
  const batches = new DataLoader(testImages(size), { batchSize: 200 });
  console.log(JSON.stringify(await predict(model, batches)));
}

if (process.argv[1] === import.meta.filename) {
  const [, , file, size = '2000'] = process.argv;
  if (file === undefined) {
    console.error('which file? npx tsx examples/mnist/predict.ts FILE [images]');
    process.exitCode = 1;
  } else {
    await main(file, Number(size));
  }
}
