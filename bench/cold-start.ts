// Process start to first prediction of a dumped model, over a process that does nothing. In turn, on a
// built package: npm run cold-start [-- --rounds N]. The bar is 150 ms for the digit reader.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'tsdown';
import { DigitNet } from '../examples/mnist/model.ts';
import { withoutTestParts } from '../scripts/strip-test-parts.ts';
import { noGrad, type Tensor, trace, zeros } from '../src/node.ts';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '15' }, json: { type: 'boolean', default: false } },
});
const rounds = Number(values.rounds);
const folder = mkdtempSync(join(tmpdir(), 'tengen-cold-'));

/** Milliseconds of a fresh process. */
function run(script: string): number {
  const start = performance.now();
  const { status, stderr } = spawnSync(process.execPath, [script], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the process failed: ${stderr}`);
  return performance.now() - start;
}

const median = (list: readonly number[]): number =>
  list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)] as number;

try {
  const model = new DigitNet();
  model.eval();
  const read = trace((x: Tensor) => noGrad(() => model.forward(x)), { name: 'digits' });
  const file = join(folder, 'digits.tengen');
  await read.dump(file, { inputs: [zeros([1, 1, 28, 28])], module: model });
  await build({
    config: false,
    entry: { lite: fileURLToPath(new URL('../src/lite-node.ts', import.meta.url)) },
    outDir: folder,
    format: 'esm',
    platform: 'node',
    minify: true,
    dts: false,
    clean: false,
    report: false,
    logLevel: 'error',
    plugins: [withoutTestParts],
    external: ['koffi'],
    outExtensions: () => ({ js: '.mjs' }),
  });
  const empty = join(folder, 'empty.mjs');
  const first = join(folder, 'first.mjs');
  writeFileSync(empty, '');
  writeFileSync(
    first,
    `import { load } from './lite.mjs';
const model = await load(${JSON.stringify(file)});
const { output } = await model.run(new Float32Array(784));
if (output.data.length !== 10) process.exitCode = 1;
process.exit();
`,
  );
  run(first);
  const times: { empty: number[]; first: number[] } = { empty: [], first: [] };
  for (let i = 0; i < rounds; i++) {
    times.empty.push(run(empty));
    times.first.push(run(first));
  }
  const [nothing, prediction] = [median(times.empty), median(times.first)];
  const report = { empty: nothing, prediction, over: prediction - nothing, bar: 150 };
  if (values.json) console.log(JSON.stringify(report));
  else {
    console.log(
      `an empty process ${nothing.toFixed(0)} ms, to the first prediction ${prediction.toFixed(0)} ms: ${report.over.toFixed(0)} ms over it (bar 150), medians of ${rounds}`,
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
