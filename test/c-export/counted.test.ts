// Steps that count, as C: the bits of the function they were made of, step by step.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportToC } from 'tengen/export';
import { configure, F, manualSeed, nn, optim, randn, type Tensor, trace } from 'tengen';
import { missing, temporaryFolder, writeFiles } from './toolchains.ts';

const noGcc = missing('make') ?? missing('gcc');
const STEPS = 10;
const folder = temporaryFolder();
beforeAll(() => configure({ device: 'wasm', numerics: 'strict' }));
afterAll(() => configure({ numerics: 'fast' }));

type Make = (params: Iterable<Tensor>) => { step(): boolean; zeroGrad(): void };
const OPTIMIZERS: Record<string, Make> = {
  AdamW: (params) => new optim.AdamW(params, { lr: 0.0625 }),
  NAdam: (params) => new optim.NAdam(params, { lr: 0.0625 }),
  RAdam: (params) => new optim.RAdam(params, { lr: 0.0625 }),
};

/** Runs the step and prints the bits of the losses. */
const MAIN = `#include <stdio.h>
#include <stdint.h>
#include "step.h"
static union { unsigned char bytes[65536]; double align; } w;
int main(void) {
  static float x[18], y[6], loss;
  double rate = 0.0625;
  const void* in[3] = { x, y, &rate }; void* out[1] = { &loss };
  FILE* file = fopen("step.weights", "rb");
  size_t bytes = fread(w.bytes, 1, sizeof w.bytes, file);
  int i;
  union { float f; uint32_t u; } bits;
  fclose(file);
  for (i = 0; i < 18; i++) x[i] = (float)((i * 7) % 11) / 8 - 0.5f;
  for (i = 0; i < 6; i++) y[i] = (float)((i * 5) % 7) / 4;
  if (step_init(w.bytes, bytes) != 0) return 1;
  for (i = 0; i < ${STEPS}; i++) {
    if (step_run(in, out) != 0) return 2;
    bits.f = loss;
    printf("%u ", (unsigned)bits.u);
  }
  return 0;
}
`;

describe.skipIf(noGcc !== undefined)(`exported steps ${noGcc ?? ''}`, () => {
  it.each(Object.entries(OPTIMIZERS))('of %s', async (name, make) => {
    manualSeed(7);
    const net = new nn.Sequential(new nn.Linear(3, 4), new nn.Tanh(), new nn.Linear(4, 1));
    const optimizer = make(net.parameters());
    const step = (x: Tensor, y: Tensor): Tensor => {
      const loss = F.mseLoss(net.forward(x), y);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss;
    };
    const { bytes } = await trace(step, { name: 'step' }).dump(null, {
      inputs: [randn(6, 3), randn(6, 1)],
      names: { inputs: ['x', 'y'] },
      module: net,
    });
    const numbers = { learning_rate: 0.0625 };
    const exported = await exportToC(bytes!, { numerics: 'strict', variants: ['scalar'], numbers });
    expect(exported.files.get('step.h')).toContain('learning_rate: float64 []');
    const where = join(folder, name);
    writeFiles(where, exported);
    writeFileSync(join(where, 'own.c'), MAIN);
    execFileSync('make', ['CC=gcc', 'CFLAGS=-O1', 'libstep_scalar.a'], { cwd: where });
    const flags = ['-std=c99', '-Wall', '-Wextra', '-Werror'];
    execFileSync('gcc', [...flags, 'own.c', 'libstep_scalar.a', '-lm', '-o', 'own'], {
      cwd: where,
    });
    const printed = execFileSync('./own', { cwd: where, encoding: 'utf8' });
    const [x, y] = [randn(6, 3), randn(6, 1)];
    x.setData(Float32Array.from({ length: 18 }, (_, i) => ((i * 7) % 11) / 8 - 0.5));
    y.setData(Float32Array.from({ length: 6 }, (_, i) => ((i * 5) % 7) / 4));
    const expected: number[] = [];
    for (let i = 0; i < STEPS; i++) {
      const loss = (await step(x, y).data()) as Float32Array<ArrayBuffer>;
      expected.push(new Uint32Array(loss.buffer, loss.byteOffset, 1)[0]!);
    }
    expect(new Set(expected).size).toBe(STEPS);
    expect(printed.trim().split(' ').map(Number)).toEqual(expected);
  });
});
