// Trains the digit reader on MNIST, or on drawn digits, from the command line: see --help.
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { ArgumentError, env, type TraceOptions } from 'tengen';
import {
  type Dataset,
  datasets,
  type DownloadProgress,
  type ImageDataset,
  type LabelledImage,
} from 'tengen/data';
import { save } from 'tengen/io';
import { formatBytes, formatPercent, ProgressBar } from 'tengen/terminal';
import {
  abortedByInterrupt,
  checkpointBeside,
  configureBy,
  joinNegative,
  median,
  numberAfter,
  runCommand,
  withoutUndefined,
} from '../command.ts';
import { checkWritable } from '../files.ts';
import { greyLevels } from './pixels.ts';
import { type Result, type RunOptions, type Settings, TrainingRun } from './training.ts';

const HELP = `Trains a convolutional network to read digits.

  npm run mnist -- --data DIR [options]

  --data DIR        folder with MNIST's IDX files, plain or gzipped; or the word strokes:
                    digits drawn by program, for which no file is needed
  --download        fetch the files that are missing in DIR
  --train-size N    use the first N training images   (strokes: draw N; default 10000)
  --test-size N     use the first N test images       (strokes: draw N; default 2000)
  --epochs N        passes over the training images   (default 3)
  --batch N         images per step                   (default 64)
  --lr X            highest learning rate             (default 0.05)
  --seed N          of weights and order              (default 0)
  --device NAME     native, wasm or interp            (default: the fastest there is)
  --threads N       default: one per core
  --numerics MODE   fast, or strict: the same bits on every device and thread count
  --trace MODE      make the step static: compared (with its program, on every step), symbolic,
                    without-host (replayed alone), or off: the same bits   (default off)
  --save FILE       where the weights go              (default out/mnist/digits.safetensors)
  --resume FILE     go on from a checkpoint, which --save FILE has beside it
  --json FILE       write what was measured
  --help            this text

Ctrl-C ends the run after the step in hand and writes a checkpoint.`;

const OPTIONS = {
  data: { type: 'string' },
  download: { type: 'boolean', default: false },
  'train-size': { type: 'string' },
  'test-size': { type: 'string' },
  epochs: { type: 'string' },
  batch: { type: 'string' },
  lr: { type: 'string' },
  seed: { type: 'string' },
  device: { type: 'string' },
  threads: { type: 'string' },
  numerics: { type: 'string', default: 'fast' },
  trace: { type: 'string', default: 'off' },
  save: { type: 'string', default: 'out/mnist/digits.safetensors' },
  resume: { type: 'string' },
  json: { type: 'string' },
  help: { type: 'boolean', default: false },
} as const;

const DEFAULTS: Settings = { epochs: 3, batch: 64, lr: 0.05, seed: 0 };

const TRACES: Readonly<Record<string, TraceOptions | undefined>> = {
  off: undefined,
  compared: {},
  symbolic: { symbolic: true },
  'without-host': { withoutHost: true },
};

type Flags = ReturnType<typeof readFlags>;

function readFlags() {
  return parseArgs({ args: joinNegative(process.argv.slice(2)), options: OPTIONS }).values;
}

/** Shows one bar per file that is being fetched. */
function downloadBars(): (state: DownloadProgress) => void {
  let file = '';
  let bar: ProgressBar | undefined;
  return (state) => {
    if (state.file !== file) {
      bar?.close();
      file = state.file;
      const total = state.totalBytes;
      bar = new ProgressBar({ label: file, unit: 'B', ...(total === undefined ? {} : { total }) });
    }
    bar?.update(state.receivedBytes);
  };
}

function firstOf(images: ImageDataset, count: number | undefined): Dataset<LabelledImage> {
  if (count === undefined || count >= images.length) return images;
  return images.subset(Array.from({ length: count }, (_, i) => i));
}

async function openData(flags: Flags): Promise<Pick<RunOptions, 'train' | 'test'>> {
  const trainSize = numberAfter(flags, 'train-size', 1);
  const testSize = numberAfter(flags, 'test-size', 1);
  const { data: root, download } = flags;
  if (root === undefined) {
    throw new ArgumentError('--data DIR is missing', {
      hint: 'a folder with the MNIST files (or an empty one, with --download), or: --data strokes',
    });
  }
  if (root === 'strokes') {
    return {
      train: datasets.strokes({ size: trainSize ?? 10_000, transform: greyLevels }),
      test: datasets.strokes({ size: testSize ?? 2_000, split: 'test', transform: greyLevels }),
    };
  }
  const options = { root, download, transform: greyLevels, onProgress: downloadBars() };
  const train = await datasets.mnist(options);
  const test = await datasets.mnist({ ...options, split: 'test' });
  return { train: firstOf(train, trainSize), test: firstOf(test, testSize) };
}

/** Settings from flags; those left out are undefined. */
function givenSettings(flags: Flags): Partial<Settings> {
  return withoutUndefined<Settings>({
    epochs: numberAfter(flags, 'epochs', 1),
    batch: numberAfter(flags, 'batch', 2),
    lr: numberAfter(flags, 'lr', 0, 'a number'),
    seed: numberAfter(flags, 'seed', 0),
  });
}

function traceOptions({ trace }: Flags): TraceOptions | undefined {
  if (Object.hasOwn(TRACES, trace)) return TRACES[trace];
  throw new ArgumentError(`--trace ${trace}: expected ${Object.keys(TRACES).join(', ')}`);
}

/** What --json writes. */
function report(run: TrainingRun, result: Result, data: Pick<RunOptions, 'train' | 'test'>) {
  const { device, threads, numerics } = env();
  return {
    testAccuracy: result.testAccuracies.at(-1) ?? null,
    testAccuracies: result.testAccuracies,
    lossCurve: run.lossCurve,
    stepMsMedian: median(result.stepMs),
    planMissesAfterFirstEpoch: result.planMissesAfterFirstEpoch,
    peakRssMb: process.resourceUsage().maxRSS / 1024,
    settings: {
      ...run.settings,
      trainImages: data.train.length,
      testImages: data.test.length,
      device,
      threads,
      numerics,
      node: process.version,
    },
  };
}

async function main(flags: Flags): Promise<void> {
  await configureBy(flags);
  const given = givenSettings(flags);
  const tracing = traceOptions(flags);
  // Before anything is fetched or trained: a run must not find out at its end.
  await checkWritable('--save', flags.save);
  if (flags.json !== undefined) await checkWritable('--json', flags.json);
  const data = await openData(flags);
  const checkpoint = checkpointBeside(flags.save);
  const options: RunOptions = { ...data, checkpoint, trace: tracing, signal: abortedByInterrupt() };
  const run =
    flags.resume === undefined
      ? new TrainingRun({ ...DEFAULTS, ...given }, options)
      : await TrainingRun.resume(flags.resume, options, given);
  const { device, threads } = env();
  console.log(
    `${data.train.length} images, ${device}, ${threads} thread${threads === 1 ? '' : 's'}`,
  );

  const result = await run.train();
  if (result.interrupted) {
    console.log(`interrupted. Go on with: --resume ${checkpoint} and the same --data`);
    process.exitCode = 130;
    return;
  }
  await save(flags.save, run.model.stateDict());
  const measured = report(run, result, data);
  if (flags.json !== undefined)
    await writeFile(flags.json, `${JSON.stringify(measured, null, 1)}\n`);
  console.log(`test accuracy   ${formatPercent(measured.testAccuracy ?? Number.NaN)}`);
  console.log(`step            ${measured.stepMsMedian.toFixed(1)} ms (median)`);
  console.log(`peak memory     ${formatBytes(measured.peakRssMb * 1024 * 1024)}`);
  console.log(`weights         ${flags.save}`);
}

await runCommand(async () => {
  const flags = readFlags();
  if (flags.help) console.log(HELP);
  else await main(flags);
});
