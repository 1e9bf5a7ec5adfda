// From a function to a program file to C and WebAssembly, through the package's entry.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { F, manualSeed, nn, noGrad, optim, randint, randn, tensor, trace } from 'tengen';
import { exportToC, exportToWasm } from 'tengen/export';
import { describe, expect, it } from 'vitest';
import { make, missing, temporaryFolder, writeFiles } from './toolchains.ts';

const folder = temporaryFolder();
const noGcc = missing('make') ?? missing('gcc');
const SAME = 'max relative difference: 0 (tolerance 0): passed';

const node = (where: string, script: string): string =>
  execFileSync(process.execPath, [script], { cwd: where, encoding: 'utf8' });

const model = (): nn.Sequential =>
  new nn.Sequential(new nn.Linear(6, 8), new nn.ReLU(), new nn.Linear(8, 3));

/** A classifier and its training step, as files. */
async function classifier(): Promise<{ readonly forward: Uint8Array; readonly step: Uint8Array }> {
  manualSeed(1);
  const net = model();
  const optimizer = new optim.SGD(net.parameters(), { lr: 0.125, momentum: 0.5 });
  const x = randn(4, 6);
  const labels = randint(0, 3, [4]);
  const forward = trace((input: typeof x) => noGrad(() => net.forward(input)), { name: 'net' });
  const train = trace(
    (input: typeof x, truth: typeof x) => {
      const loss = F.crossEntropy(net.forward(input), truth);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss;
    },
    { name: 'net_train' },
  );
  const inputs = { inputs: ['x'], outputs: ['scores'] };
  const first = await forward.dump(null, { inputs: [x], names: inputs, module: net });
  const second = await train.dump(null, {
    inputs: [x, labels],
    names: { inputs: ['x', 'labels'], outputs: ['loss'] },
    module: net,
    testCases: [],
  });
  return { forward: first.bytes!, step: second.bytes! };
}

/** A function that draws random numbers. */
async function noisy(): Promise<Uint8Array> {
  manualSeed(3);
  const x = randn(3, 5);
  const fn = trace((input: typeof x) => F.dropout(input, { p: 0.5 }).add(randn(3, 5)), {
    name: 'noisy',
  });
  const { bytes } = await fn.dump(null, { inputs: [x], testCases: [[x], [x]] });
  return bytes!;
}

describe('program files', () => {
  it.skipIf(noGcc !== undefined)(
    `become C that trains ${noGcc ?? ''}`,
    async () => {
      const { forward, step } = await classifier();
      const exported = await exportToC(forward, {
        train: step,
        numerics: 'strict',
        variants: ['scalar'],
        numbers: { learning_rate: 0.125 },
      });
      const where = join(folder, 'trains');
      writeFiles(where, exported);
      expect(make(where, 'test', 'CC=gcc', 'CFLAGS=-O1')).toContain(SAME);
      const header = exported.files.get('net_train.h') as string;
      expect(header).toContain(
        'labels: int32 [4], 16 bytes, each at least 0 and less than 3, or -100',
      );
      expect(header).toContain('learning_rate: float32 []');
      // In place: weights need no second memory.
      expect(exported.files.get('net_train_scalar.c')).not.toContain('memcpy(weights');
      expect([...exported.files.keys()]).toContain('net.weights');
      writeFileSync(
        join(where, 'own.c'),
        `#include <stdio.h>
#include <stdint.h>
#include "net.h"
#include "net_train.h"
static union { unsigned char bytes[8192]; double align; } w;
int main(void) {
  static float x[24], scores[12], loss, rate = 0.5f;
  static int32_t labels[4] = { 0, 1, 2, 0 };
  const void* in[2] = { x, NULL }; void* out[1] = { scores };
  const void* train_in[3] = { x, labels, &rate }; void* train_out[1] = { &loss };
  FILE* file = fopen("net.weights", "rb");
  size_t bytes = fread(w.bytes, 1, sizeof w.bytes, file);
  int i, k, right = 0;
  fclose(file);
  for (i = 0; i < 24; i++) x[i] = (float)((i * 7 + i / 6 * 3) % 11) / 5 - 1;
  printf("%d ", net_init(w.bytes, bytes) | net_train_init(w.bytes, bytes));
  for (i = 0; i < 300; i++) net_train_run(train_in, train_out);
  net_run(in, out);
  for (i = 0; i < 4; i++) {
    int best = 0;
    for (k = 1; k < 3; k++) if (scores[3 * i + k] > scores[3 * i + best]) best = k;
    right += best == labels[i];
  }
  printf("%d right, loss below 0.1: %d\\n", right, loss < 0.1f);
  return 0;
}
`,
      );
      const flags = ['-std=c99', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined'];
      execFileSync('gcc', [...flags, 'own.c', 'libnet_scalar.a', '-lm', '-o', 'own'], {
        cwd: where,
      });
      expect(execFileSync('./own', { cwd: where, encoding: 'utf8' })).toBe(
        '0 4 right, loss below 0.1: 1\n',
      );
    },
    120_000,
  );

  it('become WebAssembly with a loader', async () => {
    const { forward } = await classifier();
    const where = join(folder, 'module');
    writeFiles(where, { files: await exportToWasm(forward, { numerics: 'strict' }) });
    expect(node(where, 'net_test.js')).toContain(SAME);
  });

  it.skipIf(noGcc !== undefined)(
    `draw new numbers in every run ${noGcc ?? ''}`,
    async () => {
      const file = await noisy();
      const where = join(folder, 'noisy');
      const options = { numerics: 'strict', variants: ['scalar'], weights: 'array' } as const;
      writeFiles(where, await exportToC(file, options));
      const printed = make(where, 'test', 'CC=gcc', 'CFLAGS=-O1');
      expect(printed).toContain('case 1, output: max difference 0');
      expect(printed).toContain(SAME);
      const beside = join(folder, 'noisy-module');
      writeFiles(beside, { files: await exportToWasm(file, { numerics: 'strict' }) });
      expect(node(beside, 'noisy_test.js')).toContain(SAME);
      writeFileSync(
        join(beside, 'own.js'),
        `import { load } from './noisy.js';
const model = await load();
const input = new Float32Array(15);
const [a, b] = [model.run({ input }).output, model.run({ input }).output];
model.weights.random_state.set([0, 0, 0, 0]);
const c = model.run({ input }).output;
console.log(a.some((value, i) => value !== b[i]), a.every((value, i) => value === c[i]));`,
      );
      expect(node(beside, 'own.js')).toBe('true true\n');
    },
    120_000,
  );

  it('are refused with the reason', async () => {
    const { forward } = await classifier();
    await expect(exportToC(new Uint8Array(5))).rejects.toThrow(/byte|truncated|header/);
    await expect(exportToC(forward, { sizes: { batch: 2 } })).rejects.toThrow(
      "there is no dimension 'batch'",
    );
    await expect(exportToC(forward, { numbers: { rate: 7 } })).rejects.toThrow(
      "no float number of net is 7 (for 'rate')",
    );
    const other = await exportToWasm(forward, { name: 'my net' });
    expect([...other.keys()]).toContain('my_net.wasm');
    expect(tensor([1]).shape).toEqual([1]);
  });
});
