// Checks models against PyTorch: `npm run torch-parity -- DIR`, with what export.py wrote.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { evaluate, nn, noGrad, setDefaultDevice, type Tensor, tensor } from '../../src/node.ts';
import { load, readNpy } from '../../src/io.ts';
import * as onnx from '../../src/onnx.ts';
import { table } from '../../src/terminal.ts';
import * as vision from '../../src/vision.ts';

const USAGE = `Usage: npm run torch-parity -- DIR [options]

Loads the weights that scripts/torch-parity/export.py wrote to DIR into Tengen's own models, imports
the same models from ONNX, and compares the logits of both with PyTorch's. Ends in "N passed, N failed,
N skipped". Exit code 1 if any failed.

  --model name,...      only these models
  --device name         native, wasm (default: the best there is)
  --tolerance x         largest difference, relative to the largest logit; default 1e-4
  --help                this text`;

/** Tengen's model of each name that torchvision has. */
const BUILDERS: Readonly<Record<string, () => nn.Layer>> = {
  resnet18: vision.resnet18,
  resnet34: vision.resnet34,
  resnet50: vision.resnet50,
  resnet101: vision.resnet101,
  resnet152: vision.resnet152,
  resnext50_32x4d: vision.resnext50_32x4d,
  resnext101_32x8d: vision.resnext101_32x8d,
  mobilenet_v2: vision.mobilenetV2,
  mobilenet_v3_small: vision.mobilenetV3Small,
  mobilenet_v3_large: vision.mobilenetV3Large,
  efficientnet_b0: vision.efficientnetB0,
  shufflenet_v2_x0_5: vision.shufflenetV2_x0_5,
  shufflenet_v2_x1_0: vision.shufflenetV2_x1_0,
  shufflenet_v2_x1_5: vision.shufflenetV2_x1_5,
  shufflenet_v2_x2_0: vision.shufflenetV2_x2_0,
  squeezenet1_0: vision.squeezenet1_0,
  squeezenet1_1: vision.squeezenet1_1,
  vgg11: vision.vgg11,
  vgg13: vision.vgg13,
  vgg16: vision.vgg16,
  vgg19: vision.vgg19,
  vgg11_bn: vision.vgg11Bn,
  vgg16_bn: vision.vgg16Bn,
  vit_b_16: vision.vitB16,
  vit_b_32: vision.vitB32,
  vit_l_16: vision.vitL16,
  vit_l_32: vision.vitL32,
  vit_h_14: vision.vitH14,
  swin_t: vision.swinT,
  swin_s: vision.swinS,
  swin_b: vision.swinB,
};

interface Row {
  readonly model: string;
  readonly way: string;
  readonly absolute: number;
  readonly relative: number;
  readonly load: number;
  readonly first: number;
  readonly again: number;
  readonly verdict: 'pass' | 'FAIL' | 'skip';
  readonly note: string;
}

interface Expected {
  readonly images: Tensor;
  readonly logits: ArrayLike<number>;
}

async function readExpected(path: string): Promise<Expected> {
  const { data, shape } = await readNpy(`${path}.input.npy`);
  const logits = await readNpy(`${path}.logits.npy`);
  const images = tensor(data).reshape([...shape]);
  evaluate(images);
  const half = logits.data.length / 2;
  const moved = largest(logits.data.subarray(0, half), logits.data.subarray(half));
  // A comparison of logits that do not depend on the images would say nothing.
  if (moved < 0.001 * largest(logits.data)) throw new Error(`${path}: all images give one answer`);
  return { images, logits: logits.data };
}

/** The largest magnitude of `a`, or of its difference from `b`; NaN if there is one. */
function largest(a: ArrayLike<number>, b?: ArrayLike<number>): number {
  let found = 0;
  for (let i = 0; i < a.length; i++) {
    const value = Math.abs((a[i] ?? NaN) - (b === undefined ? 0 : (b[i] ?? NaN)));
    if (Number.isNaN(value)) return NaN;
    found = Math.max(found, value);
  }
  return found;
}

type Forward = (images: Tensor) => Tensor;

async function compare(
  model: string,
  way: string,
  expected: Expected,
  tolerance: number,
  build: () => Promise<Forward>,
): Promise<Row> {
  const start = performance.now();
  const forward = await build();
  const loaded = performance.now();
  const run = async (): Promise<ArrayLike<number>> => {
    const logits = await noGrad(() => forward(expected.images)).data();
    return logits;
  };
  const logits = await run();
  const ran = performance.now();
  await run();
  const done = performance.now();
  const absolute = largest(logits, expected.logits);
  const relative =
    logits.length === expected.logits.length ? absolute / largest(expected.logits) : NaN;
  return {
    model,
    way,
    absolute,
    relative,
    load: loaded - start,
    first: ran - loaded,
    again: done - ran,
    verdict: relative <= tolerance ? 'pass' : 'FAIL',
    note: '',
  };
}

function refused(model: string, way: string, verdict: 'FAIL' | 'skip', note: string): Row {
  const none = { absolute: NaN, relative: NaN, load: NaN, first: NaN, again: NaN };
  return { model, way, ...none, verdict, note };
}

async function loadModule(model: string, path: string): Promise<Forward> {
  const build = BUILDERS[model];
  if (build === undefined) throw new Error(`Tengen has no ${model}`);
  const module = nn.init.skip(build);
  module.loadStateDict(await load(`${path}.pt`));
  module.eval();
  return (images) => module.forward(images);
}

async function loadGraph(path: string): Promise<Forward> {
  const module = await onnx.load(`${path}.onnx`);
  const output = module.outputs[0]?.name ?? '';
  return (images) => module.run(images)[output] as Tensor;
}

async function checkModel(directory: string, model: string, tolerance: number): Promise<Row[]> {
  const path = join(directory, model);
  const expected = await readExpected(path);
  const ways: [string, string, () => Promise<Forward>][] = [
    ['.pt', `${path}.pt`, () => loadModule(model, path)],
    ['.onnx', `${path}.onnx`, () => loadGraph(path)],
  ];
  const rows: Row[] = [];
  for (const [way, file, build] of ways) {
    if (!existsSync(file)) {
      rows.push(refused(model, way, 'skip', 'no such file'));
      continue;
    }
    const row = await compare(model, way, expected, tolerance, build).catch((error: unknown) =>
      refused(model, way, 'FAIL', error instanceof Error ? error.message : String(error)),
    );
    console.log(`${row.verdict} ${model} ${way} ${row.note}`);
    rows.push(row);
  }
  return rows;
}

function report(rows: readonly Row[]): string {
  const number = (value: number): string => (Number.isNaN(value) ? '-' : value.toExponential(1));
  const ms = (value: number): string => (Number.isNaN(value) ? '-' : `${Math.round(value)}`);
  const cells = rows.map((row) => [
    row.model,
    row.way,
    number(row.absolute),
    number(row.relative),
    ms(row.load),
    ms(row.first),
    ms(row.again),
    row.verdict,
  ]);
  const head = ['model', 'from', 'max abs', 'max rel', 'load ms', 'first ms', 'again ms', ''];
  const count = (verdict: Row['verdict']): number =>
    rows.filter((row) => row.verdict === verdict).length;
  const totals = `${count('pass')} passed, ${count('FAIL')} failed, ${count('skip')} skipped`;
  return `${table(cells, { head })}\n${totals}`;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: { type: 'string' },
      device: { type: 'string' },
      tolerance: { type: 'string', default: '1e-4' },
      help: { type: 'boolean', default: false },
    },
  });
  const [directory] = positionals;
  const tolerance = Number(values.tolerance);
  if (values.help || directory === undefined || positionals.length > 1 || !(tolerance > 0)) {
    console.log(USAGE);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  if (values.device !== undefined) setDefaultDevice(values.device);
  const manifest = JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8')) as {
    readonly models: readonly { readonly name: string }[];
  };
  const wanted = values.model?.split(',');
  const rows: Row[] = [];
  for (const { name } of manifest.models) {
    if (wanted !== undefined && !wanted.includes(name)) continue;
    rows.push(...(await checkModel(directory, name, tolerance)));
  }
  console.log(report(rows));
  if (rows.length === 0 || rows.some((row) => row.verdict === 'FAIL')) process.exitCode = 1;
}

await main();
