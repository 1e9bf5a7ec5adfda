// Trains a character-level GPT on a text, and lets it write, from the command line: see --help.
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { ArgumentError, env } from 'tengen';
import { save } from 'tengen/io';
import { formatBytes, plot } from 'tengen/terminal';
import { generate, type GenerateOptions } from 'tengen/text';
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
import { Characters, readText, type Vocabulary } from './characters.ts';
import { type Result, type RunOptions, type Settings, SIZES, TrainingRun } from './training.ts';

const HELP = `Trains a small GPT to write as a text does, character by character.

  npm run gpt -- --data DIR [options]

  --data DIR        folder with the text: one .txt file
  --steps N         training steps                    (default 1000)
  --batch N         windows of 128 characters a step  (default 32)
  --lr X            highest learning rate             (default 0.003)
  --dropout X       share of elements dropped         (default 0)
  --seed N          of weights, windows and samples   (default 0)
  --device NAME     native, wasm or interp            (default: the fastest there is)
  --threads N       default: one per core
  --numerics MODE   fast, or strict: the same bits on every device and thread count
  --save FILE       where the weights go              (default out/gpt/gpt.safetensors)
  --resume FILE     go on from a checkpoint, which --save FILE has beside it; a finished
                    one only writes
  --json FILE       write what was measured
  --sample N        characters to write at the end    (default 500)
  --temperature X   below 1 safer, above 1 wilder     (default 0.8)
  --topK N          write only with the N best characters at each place
  --prompt TEXT     what the sample begins with       (default: a line break)
  --help            this text

Ctrl-C ends the run after the step in hand and writes a checkpoint.`;

const OPTIONS = {
  data: { type: 'string' },
  steps: { type: 'string' },
  batch: { type: 'string' },
  lr: { type: 'string' },
  dropout: { type: 'string' },
  seed: { type: 'string' },
  device: { type: 'string' },
  threads: { type: 'string' },
  numerics: { type: 'string', default: 'fast' },
  save: { type: 'string', default: 'out/gpt/gpt.safetensors' },
  resume: { type: 'string' },
  json: { type: 'string' },
  sample: { type: 'string' },
  temperature: { type: 'string' },
  topK: { type: 'string' },
  prompt: { type: 'string', default: '\n' },
  help: { type: 'boolean', default: false },
} as const;

const DEFAULTS: Settings = { steps: 1000, batch: 32, lr: 0.003, dropout: 0, seed: 0 };

type Flags = ReturnType<typeof readFlags>;

function readFlags() {
  return parseArgs({ args: joinNegative(process.argv.slice(2)), options: OPTIONS }).values;
}

/** Settings from flags; those left out are undefined. */
function givenSettings(flags: Flags): Partial<Settings> {
  const dropout = numberAfter(flags, 'dropout', 0, 'a number');
  if (dropout !== undefined && dropout >= 1) {
    throw new ArgumentError(`--dropout ${dropout}: expected a number below 1`);
  }
  return withoutUndefined<Settings>({
    steps: numberAfter(flags, 'steps', 1),
    batch: numberAfter(flags, 'batch', 1),
    lr: numberAfter(flags, 'lr', 0, 'a number'),
    dropout,
    seed: numberAfter(flags, 'seed', 0),
  });
}

/** Writes the sample as it comes; resolves to it, and to milliseconds per character. */
async function write(
  run: TrainingRun,
  vocabulary: Vocabulary,
  prompt: string,
  options: GenerateOptions,
) {
  const ids = vocabulary.encode(prompt);
  let sample = '';
  const times: number[] = [];
  process.stdout.write(`\n${prompt.trimStart()}`);
  let start = performance.now();
  for await (const token of generate(run.model, ids, options)) {
    const character = vocabulary.decode([token]);
    times.push(performance.now() - start);
    process.stdout.write(character);
    sample += character;
    start = performance.now();
  }
  process.stdout.write('\n\n');
  return { sample, msPerCharacter: median(times) };
}

/** What --json writes. */
function report(run: TrainingRun, result: Result, text: Characters) {
  const { device, threads, numerics } = env();
  return {
    heldOutLoss: result.heldOutLoss,
    lossCurve: run.lossCurve,
    stepMsMedian: median(result.stepMs),
    trainSeconds: result.trainSeconds,
    planMissesAfterWarmUp: result.planMissesAfterWarmUp,
    peakRssMb: process.resourceUsage().maxRSS / 1024,
    settings: {
      ...run.settings,
      ...SIZES,
      trainCharacters: text.trainLength,
      heldOutCharacters: text.heldOutLength,
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
  const writing: GenerateOptions = {
    maxNewTokens: numberAfter(flags, 'sample', 0) ?? 500,
    temperature: numberAfter(flags, 'temperature', 0, 'a number') ?? 0.8,
    topK: numberAfter(flags, 'topK', 1),
  };
  // Before anything is read or trained: a run must not find out at its end.
  await checkWritable('--save', flags.save);
  if (flags.json !== undefined) await checkWritable('--json', flags.json);
  if (flags.data === undefined) {
    throw new ArgumentError('--data DIR is missing', { hint: 'a folder with one .txt file' });
  }
  const text = new Characters(await readText(flags.data), SIZES.contextLength);
  const { vocabulary } = text;
  if (flags.prompt === '') throw new ArgumentError('--prompt is empty');
  vocabulary.encode(flags.prompt);
  const checkpoint = checkpointBeside(flags.save);
  const options: RunOptions = { text, checkpoint, signal: abortedByInterrupt() };
  const run =
    flags.resume === undefined
      ? new TrainingRun({ ...DEFAULTS, ...given }, options)
      : await TrainingRun.resume(flags.resume, options, given);
  const { device, threads } = env();
  const size = run.model.parameters().reduce((sum, parameter) => sum + parameter.size, 0);
  console.log(
    `${text.trainLength} characters to learn from, ${text.heldOutLength} held out; ` +
      `${size} parameters; ${device}, ${threads} thread${threads === 1 ? '' : 's'}`,
  );

  const result = await run.train();
  if (result.interrupted) {
    console.log(`interrupted. Go on with: --resume ${checkpoint} and the same --data`);
    process.exitCode = 130;
    return;
  }
  await save(flags.save, run.model.stateDict());
  if (process.stdout.isTTY && run.lossCurve.length > 1) {
    console.log(plot(run.lossCurve, { title: 'loss', xLabel: 'step', smoothing: 0.9 }));
  }
  const seed = run.settings.seed;
  const { sample, msPerCharacter } = await write(run, vocabulary, flags.prompt, {
    ...writing,
    seed,
  });
  const measured = { ...report(run, result, text), sample, msPerCharacter };
  if (flags.json !== undefined)
    await writeFile(flags.json, `${JSON.stringify(measured, null, 1)}\n`);
  console.log(`held-out loss   ${measured.heldOutLoss.toFixed(4)}`);
  if (result.stepMs.length > 0) {
    console.log(`step            ${measured.stepMsMedian.toFixed(1)} ms (median)`);
    console.log(`training        ${measured.trainSeconds.toFixed(0)} s`);
  }
  if (sample !== '') console.log(`writing         ${msPerCharacter.toFixed(2)} ms a character`);
  console.log(`peak memory     ${formatBytes(measured.peakRssMb * 1024 * 1024)}`);
  console.log(`weights         ${flags.save}`);
}

await runCommand(async () => {
  const flags = readFlags();
  if (flags.help) console.log(HELP);
  else await main(flags);
});
