// Programs as one WebAssembly module with its loader, in another process: the bits of the device.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exportWasm, type ExportWasmOptions } from '../../src/backends/wasm/export.ts';
import { wasmTarget } from '../../src/backends/wasm/device.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { runOnceOn } from '../../src/runtime/run-once.ts';
import { casesOf } from './capture.ts';
import { type ExampleModel, MODELS } from './models.ts';
import { temporaryFolder, writeFiles } from './toolchains.ts';

const folder = temporaryFolder();

async function write(
  { name, captured, runs }: ExampleModel,
  numerics: 'strict' | 'fast',
  options: ExportWasmOptions = {},
): Promise<{ readonly where: string; readonly files: ReadonlyMap<string, string | Uint8Array> }> {
  const testCases = await casesOf(captured, numerics, runs);
  const exported = captured.exported(wasmTarget(numerics, false), name !== 'training');
  const request = {
    ...captured.request,
    name,
    testCases,
    runOnce: runOnceOn(new InterpDevice()),
  };
  const files = await exportWasm(request, exported, options);
  const where = join(folder, `${name}-${options.weights ?? 'inside'}`);
  writeFiles(where, { files });
  return { where, files };
}

const node = (where: string, script: string): string =>
  execFileSync(process.execPath, [script], { cwd: where, encoding: 'utf8' });

/** Runs statements with `model`, and prints what they return as JSON. */
function inNode(where: string, name: string, statements: string): unknown {
  writeFileSync(
    join(where, 'own.js'),
    `import { load } from './${name}.js';
const model = await load();
const attempt = (f) => { try { return f(); } catch (error) { return error.name + ': ' + error.message; } };
console.log(JSON.stringify(await (async () => { ${statements} })()));`,
  );
  return JSON.parse(node(where, 'own.js'));
}

const SAME = 'max relative difference: 0 (tolerance 0): passed';

describe('WebAssembly with its loader', () => {
  it.each(Object.entries(MODELS))('%s', async (_name, create) => {
    const model = create();
    const { where, files } = await write(model, 'strict');
    expect([...files.keys()].sort()).toEqual(
      ['.d.ts', '.js', '.wasm', '_test.js']
        .map((end) => `${model.name}${end}`)
        .concat('package.json')
        .sort(),
    );
    expect(node(where, `${model.name}_test.js`)).toContain(SAME);
  });

  it('takes weights from a file, and says which are not its own', async () => {
    const { where } = await write(MODELS.gru(), 'strict', { weights: 'beside' });
    expect(node(where, 'gru_test.js')).toContain(SAME);
    const other = `return load({ weights: new Uint8Array(100) }).catch((error) => error.message);`;
    expect(inNode(where, 'gru', other)).toMatch(/^gru: these are not the weights of this program/);
  });

  it('refuses what does not fit, and says what was expected', async () => {
    const { where } = await write(MODELS.transformer(), 'strict');
    const answers = inNode(
      where,
      'transformer',
      `return [
        attempt(() => model.run({ tokens: new Float32Array(14) })),
        attempt(() => model.run({ tokens: new Int32Array(13) })),
        attempt(() => model.run({ words: new Int32Array(14) })),
        attempt(() => model.run({})),
        attempt(() => model.run({ tokens: new Int32Array(14).fill(11) })),
        Object.keys(model.run({ tokens: new Int32Array(14) })),
      ];`,
    );
    expect(answers).toEqual([
      'TypeError: transformer: input tokens: int32 [2, 7] takes a Int32Array of 14, not Float32Array of 14',
      'TypeError: transformer: input tokens: int32 [2, 7] takes a Int32Array of 14, not Int32Array of 13',
      "TypeError: transformer has no input 'words': tokens: int32 [2, 7]",
      'TypeError: transformer: input tokens: int32 [2, 7] takes a Int32Array of 14, not undefined',
      'RangeError: transformer: 11 in input tokens is not at least 0 and less than 11',
      ['probabilities'],
    ]);
  });

  it('notices indices that are out of range as they are computed', async () => {
    const { where } = await write(MODELS.checked(), 'strict');
    const statements = `return [0.4, 1].map((x) =>
      attempt(() => model.run({ x: Float32Array.of(x) }).picked[0]));`;
    const wrong = 'RangeError: checked: 4 is not at least 0 and less than 3';
    expect(inNode(where, 'checked', statements)).toEqual([20, wrong]);
  });

  it('trains, with weights that can be read', async () => {
    const { where } = await write(MODELS.training(), 'strict');
    const statements = `
      const images = Float32Array.from({ length: 384 }, (_, i) => Math.sin(i));
      const labels = Int32Array.of(0, 1, 2, 3, 4, 0);
      const before = Object.values(model.weights).map((each) => each.slice());
      const losses = Array.from({ length: 5 }, () =>
        model.run({ images, labels, learning_rate: 0.1 }).loss[0]);
      const changed = Object.values(model.weights).map((each, i) =>
        each.some((value, k) => value !== before[i][k]));
      return [losses[4] < losses[0], changed.every((each) => each), changed.length];`;
    expect(inNode(where, 'training', statements)).toEqual([true, true, 8]);
  });
});
