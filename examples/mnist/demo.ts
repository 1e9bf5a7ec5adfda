// npm run demo: a network learns drawn digits, is saved, and gives the same answers in a fresh
// process. Needs no file and no network.
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { env } from 'tengen';
import { DataLoader, datasets } from 'tengen/data';
import { save } from 'tengen/io';
import { colors, formatDuration, formatPercent, imageGrid, plot } from 'tengen/terminal';
import { greyLevels } from './pixels.ts';
import { predict, type Predictions, testImages } from './predict.ts';
import { TrainingRun } from './training.ts';

const TRAIN_IMAGES = 6_000;
const TEST_IMAGES = 2_000;
const WANTED_ACCURACY = 0.97;
const folder = 'out/demo';
const weights = join(folder, 'digits.safetensors');

const started = performance.now();
const paint = colors();
const heading = (text: string): void => console.log(`\n${paint.bold(text)}`);

const { device, threads } = env();
heading('1  Learn');
console.log(
  `A convolutional network learns ${TRAIN_IMAGES} drawn digits: ${device}, ` +
    `${threads} thread${threads === 1 ? '' : 's'}. The first step compiles the kernels.`,
);
await mkdir(folder, { recursive: true });
const test = testImages(TEST_IMAGES);
const run = new TrainingRun(
  { epochs: 2, batch: 64, lr: 0.05, seed: 1 },
  {
    train: datasets.strokes({ size: TRAIN_IMAGES, transform: greyLevels }),
    test,
    checkpoint: join(folder, 'digits.checkpoint.safetensors'),
  },
);
await run.train();
console.log(
  plot(run.lossCurve, { title: 'loss', xLabel: 'step', logY: true, smoothing: 0.9, height: 10 }),
);

heading('2  Look');
const batches = new DataLoader(test, { batchSize: 200 });
const before = await predict(run.model, batches);
console.log(drawSome(before));

heading('3  Save, and load in a fresh process');
await save(weights, run.model.stateDict());
const after = await predictElsewhere();
const identical = after.fingerprint === before.fingerprint;
console.log(
  identical
    ? `the scores of all ${TEST_IMAGES} test images are identical, bit for bit`
    : 'the scores DIFFER from those of this process',
);

const enough = before.accuracy >= WANTED_ACCURACY;
heading(`${formatPercent(before.accuracy)} of ${TEST_IMAGES} test images read rightly`);
console.log(`in ${formatDuration(performance.now() - started)}`);
console.log(`
weights   ${weights}
model     examples/mnist/model.ts

Next: change the model and run this again; train on real digits with
  npm run mnist -- --data data/mnist --download
or read docs/deferred.md, on when things are computed.`);
if (!identical || !enough) {
  console.error(
    `demo failed: ${identical ? 'accuracy below 97 %' : 'other predictions after loading'}`,
  );
  process.exitCode = 1;
}

/** Ten digits with the answers below; a wrong answer among them if there is one. */
function drawSome({ answers }: Predictions): string {
  const wrong = answers.findIndex((answer, i) => answer !== test.labels[i]);
  const places = Array.from({ length: 10 }, (_, i) => (i === 9 && wrong >= 0 ? wrong : i));
  const [, height, width] = test.imageShape;
  return imageGrid(
    places.map((place) => {
      const isRight = answers[place] === test.labels[place];
      return {
        pixels: test.images.subarray(place * height * width, (place + 1) * height * width),
        width,
        height,
        label: isRight ? `${answers[place]}` : `${answers[place]}, is ${test.labels[place]}`,
        labelColor: isRight ? ('green' as const) : ('red' as const),
      };
    }),
    { columns: 5, imageWidth: 14 },
  );
}

/** The same weights and images in a process that never saw the training. */
async function predictElsewhere(): Promise<Predictions> {
  const script = fileURLToPath(new URL('predict.ts', import.meta.url));
  const args = [...process.execArgv, script, weights, String(TEST_IMAGES)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return JSON.parse(stdout) as Predictions;
}
