// What each pass of the compiler brings: networks with all passes, with none, and with all but one,
// in turn in one process. What is timed is the program, as files and replays run it; building the graph
// anew costs the same with any passes.
//   npm run passes [-- --only resnet18,photo] [--device native] [--threads 2] [--rounds 15] [--json FILE]
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import {
  configure,
  evaluate,
  F,
  nn,
  noGrad,
  type PassName,
  passes,
  type PassSwitches,
  setPasses,
  tensor,
  type Tensor,
} from 'tengen';
import { mobilenetV2, resnet18, shufflenetV2_x1_0 } from 'tengen/vision';
import { evaluator } from '../src/interface/transform/install.ts';
import { settings } from '../src/interface/transform/settings.ts';
import { median, noise } from './harness.ts';
import { filled } from './networks.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'resnet18,shufflenet_v2,mobilenet_v2,photo,lstm' },
    device: { type: 'string', default: 'native' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '15' },
    json: { type: 'string' },
  },
});
configure({ device: values.device, threads: Number(values.threads) });
// One plan for each setting: what they keep must not push each other out.
settings.keptBytes = 2 ** 33;

type Subject = () => () => Tensor;
type Network = nn.Module & { forward(image: Tensor): Tensor };

function network(build: () => Network): Subject {
  return () => {
    const model = filled(build);
    model.eval();
    const image = tensor(noise(3 * 224 * 224, 3), { shape: [1, 3, 224, 224] });
    return () => model.forward(image);
  };
}

/** A photograph's bytes as a decoder gives them: cast, scaled, laid out, resized, normalised. */
function photo(): () => Tensor {
  const model = filled(resnet18);
  model.eval();
  const [height, width] = [256, 341];
  const bytes = Uint8Array.from(noise(height * width * 3, 4), (value) => (value + 0.5) * 255);
  const pixels = tensor(bytes, { shape: [1, height, width, 3] });
  const mean = tensor([0.485, 0.456, 0.406], { shape: [1, 3, 1, 1] });
  const deviation = tensor([0.229, 0.224, 0.225], { shape: [1, 3, 1, 1] });
  evaluate(pixels, mean, deviation);
  return () => {
    const planes = pixels.to('float32').div(255).permute([0, 3, 1, 2]);
    const image = F.interpolate(planes, { size: [224, 224], mode: 'bilinear' });
    return model.forward(image.sub(mean).div(deviation));
  };
}

/** The last state of a recurrent layer, whose values at all other times nobody reads. */
function lstm(): () => Tensor {
  const layer = filled(() => new nn.LSTM(128, 256, { batchFirst: true }));
  const sequence = tensor(noise(64 * 128, 5), { shape: [1, 64, 128] });
  return () => layer.forward(sequence)[1][0];
}

const SUBJECTS: Readonly<Record<string, Subject>> = {
  resnet18: network(resnet18),
  shufflenet_v2: network(shufflenetV2_x1_0),
  mobilenet_v2: network(mobilenetV2),
  photo,
  lstm,
};

interface Setting {
  readonly name: string;
  readonly switches: PassSwitches;
}

function settingsOf(): Setting[] {
  const names = Object.keys(passes()) as PassName[];
  return [
    { name: 'all', switches: 'all' },
    { name: 'none', switches: 'none' },
    ...names.map((name) => ({ name: `all but ${name}`, switches: { [name]: false } })),
    { name: 'only elementwiseFusion', switches: { elementwiseFusion: true } },
  ];
}

function choose({ name, switches }: Setting): void {
  setPasses(name.startsWith('only') ? 'none' : 'all');
  setPasses(switches);
}

interface Row {
  readonly subject: string;
  readonly passes: string;
  readonly medianMs: number;
  readonly minMs: number;
  readonly overAll: number;
  readonly kernels: number;
  readonly arenaBytes: number;
  readonly unplannedBytes: number;
  /** Largest difference from the results without passes, relative to the largest of them. */
  readonly difference: number;
}

function measure(subject: string, build: Subject): Row[] {
  const result = build();
  const all = settingsOf().map((setting) => {
    choose(setting);
    for (let i = 0; i < 2; i++) noGrad(result).dataSync();
    // Its memory stays bound: the program can be run again as it is.
    const value = noGrad(result);
    const output = value.dataSync() as Float32Array;
    const { entry } = evaluator().recent[0]!;
    const { compiled, executable, bindings, scalars } = entry;
    return {
      setting,
      output,
      compiled,
      value,
      run: () => executable.run(bindings, scalars),
      times: [] as number[],
    };
  });
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const { run, times } of all) {
      // The first brings its weights back into the caches.
      run();
      for (let i = 0; i < 3; i++) {
        const start = performance.now();
        run();
        times.push(performance.now() - start);
      }
    }
  }
  const plain = all.find(({ setting }) => setting.name === 'none')!.output;
  const largest = plain.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const base = median(all[0]!.times);
  return all.map(({ setting, output, compiled, times }) => ({
    subject,
    passes: setting.name,
    medianMs: median(times),
    minMs: Math.min(...times),
    overAll: median(times) / base,
    kernels: compiled.kernels.length,
    arenaBytes: compiled.plan.arenaBytes,
    unplannedBytes: compiled.unplannedBytes,
    difference:
      output.reduce((most, value, i) => Math.max(most, Math.abs(value - plain[i]!)), 0) / largest,
  }));
}

function print(rows: readonly Row[]): void {
  const header = ['passes', 'ms', 'over all', 'shortest, ms', 'over all'];
  header.push('kernels', 'arena, MB', 'of the sum', 'difference');
  const [all, none] = rows as [Row, Row];
  console.log(`\n${rows[0]!.subject}, ${values.device}, ${values.threads} threads\n`);
  console.log(`| ${header.join(' | ')} |\n|${header.map(() => ' --- ').join('|')}|`);
  for (const row of rows) {
    const cells = [
      row.passes,
      row.medianMs.toPrecision(3),
      row.overAll.toFixed(2),
      row.minMs.toPrecision(3),
      (row.minMs / all.minMs).toFixed(2),
      row.kernels,
      (row.arenaBytes / 1e6).toFixed(2),
      (row.arenaBytes / row.unplannedBytes).toFixed(2),
      row.difference.toExponential(1),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
  const [medians, shortest] = [all.medianMs / none.medianMs, all.minMs / none.minMs];
  console.log(
    `\nall over none: ${medians.toFixed(2)} by medians, ${shortest.toFixed(2)} by the shortest`,
  );
}

const table: Row[] = [];
for (const name of values.only.split(',')) {
  const build = SUBJECTS[name];
  if (build === undefined) {
    throw new Error(`${name} is none of ${Object.keys(SUBJECTS).join(', ')}`);
  }
  const rows = measure(name, build);
  print(rows);
  table.push(...rows);
}
if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(table, null, 1));
