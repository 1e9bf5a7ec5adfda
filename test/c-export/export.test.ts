// What exported C looks like, what its functions refuse, and what exportC refuses.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { F, manualSeed, nn, noGrad, optim, randn, tensor } from 'tengen';
import { describe, expect, it } from 'vitest';
import { type CModel, exportC } from '../../src/backends/c/export.ts';
import { capitals, commented, identifier, quoted } from '../../src/backends/c/names.ts';
import { cTarget } from '../../src/backends/c/targets.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import type { ExportRequest } from '../../src/runtime/export.ts';
import { runOnceOn } from '../../src/runtime/run-once.ts';
import { bytes, capture, type Captured, casesOf } from './capture.ts';
import { MODELS } from './models.ts';
import { make, missing, temporaryFolder, writeFiles } from './toolchains.ts';

const folder = temporaryFolder();
const noGcc = missing('make') ?? missing('gcc');
const runOnce = runOnceOn(new InterpDevice());

function modelOf(captured: Captured, more: Partial<ExportRequest> & { name: string }): CModel {
  const target = cTarget('scalar', 'strict');
  return {
    request: { ...captured.request, runOnce, ...more },
    plans: new Map([['scalar', captured.exported(target, more.allWeights !== true)]]),
  };
}

/** A classifier that is trained on the device: two programs with the same weights. */
async function trainable(): Promise<CModel[]> {
  manualSeed(1);
  const model = new nn.Linear(3, 2);
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.5 });
  const x = randn(4, 3);
  const labels = tensor([0, 1, 1, 0], { dtype: 'int32' });
  const forward = capture({ x }, () => noGrad(() => ({ scores: model.forward(x) })));
  const step = capture({ x, labels }, () => {
    const loss = F.crossEntropy(model.forward(x), labels);
    loss.backward();
    optimizer.step();
    return { loss };
  }).withLimits('labels', { least: 0, below: 2 });
  const weights = forward.request.weights.map((weight, i) => ({ ...weight, name: `w${i}` }));
  const places = step.request.weights.map(({ bytes: own }) =>
    weights.findIndex((each) => Buffer.compare(each.bytes, own) === 0),
  );
  const stepWeights = weights.map((weight, i) => {
    return { ...weight, binding: step.request.weights[places.indexOf(i)]!.binding };
  });
  return [
    modelOf(forward, { name: 'net', weights, allWeights: true }),
    modelOf(step, {
      name: 'net-train',
      weights: stepWeights,
      allWeights: true,
      testCases: await casesOf(step, 'strict', [[bytes(x), bytes(labels)]]),
    }),
  ];
}

function compileAndRun(where: string, main: string, library: string): string {
  writeFileSync(join(where, 'own.c'), main);
  const args = ['-std=c99', '-Wall', '-Wextra', '-Werror', 'own.c', library, '-lm', '-o', 'own'];
  execFileSync('gcc', args, { cwd: where });
  return execFileSync('./own', { cwd: where, encoding: 'utf8' });
}

describe('names in C', () => {
  it('become identifiers', () => {
    expect(['mnist', 'my-model v2', '3d', 'int', '', '_x'].map(identifier)).toEqual([
      'mnist',
      'my_model_v2',
      'model_3d',
      'model_int',
      'model_',
      'x',
    ]);
    expect(capitals(['a b', 'a-b', 'ünit', ''])).toEqual(['A_B', 'A_B_2', '_NIT', '3']);
  });

  it('are quoted byte by byte, and end no comment', () => {
    expect(quoted('a"b\\ü1?')).toBe('"a\\042b\\134\\303\\2741\\077"');
    expect(commented('x */ int main\n\\')).toBe('x * / int main /');
  });
});

describe('what exportC makes', () => {
  it('is C99 that people can read', async () => {
    const x = tensor([1, 2, 3]);
    const captured = capture({ x }, () => ({ y: x.mul(2).add(1).clamp(0, 5) }));
    const { files, arenaBytes } = await exportC([modelOf(captured, { name: 'line' })]);
    expect([...files.keys()].sort()).toEqual([
      'Makefile',
      'line.h',
      'line_main.c',
      'line_scalar.c',
    ]);
    expect(arenaBytes.get('line_scalar')).toBe(0);
    const source = files.get('line_scalar.c') as string;
    expect(source.slice(source.indexOf('static void k0'))).toMatchInlineSnapshot(`
      "static void k0_clamp(const f32_mem* b0, const f32_mem* b1, const f32_mem* b2, f32_mem* b3) {
        for (long v0 = 0; v0 < 1; v0++) {
          const float v1 = *(b1 + 0);
          const float v2 = *(b2 + 0);
          for (long v3 = 0; v3 < 3; v3++) {
            *(b3 + v3) = min_f32_s(max_constant_eq_f32_s(((*(b0 + v3)) * v1) + (1.0f), 0.0f), v2);
          }
        }
      }

      static const uint32_t number0 = 0x40000000u; /* 2 */
      static const uint32_t number1 = 0x40a00000u; /* 5 */

      int line_init(const void* block, size_t bytes) {
        (void)block;
        return bytes == 0 ? LINE_OK : LINE_WRONG_WEIGHTS;
      }

      int line_run(const void* const* inputs, void* const* outputs) {
        k0_clamp((const f32_mem*)(inputs[0]), (const f32_mem*)(&number0), (const f32_mem*)(&number1), (f32_mem*)(outputs[0]));
        return LINE_OK;
      }

      static const line_tensor input_table[] = {
        { "x", "float32", 1, { 3 }, 12u, 0u }
      };
      static const line_tensor output_table[] = {
        { "y", "float32", 1, { 3 }, 12u, 0u }
      };

      const line_model* line_info(void) {
        static const line_model model = {
          "scalar", "strict",
          1, input_table,
          1, output_table,
          0, NULL,
          0u, 0u
        };
        return &model;
      }
      "
    `);
    expect(files.get('line.h')).toContain('inputs[0]  x: float32 [3], 12 bytes');
    expect(files.get('line.h')).toContain('#define LINE_OUTPUT_Y 0');
  });

  it('holds weights that are prepared, and not what they were made of', async () => {
    manualSeed(2);
    const model = new nn.Sequential(new nn.Conv2d(3, 8, 3), new nn.BatchNorm2d(8));
    model.eval();
    const x = randn(1, 3, 8, 8);
    const captured = capture({ x }, () => noGrad(() => ({ y: model.forward(x) })));
    const target = cTarget('sse', 'fast');
    const { prepared } = captured.compile(target);
    expect(prepared?.kept.length).toBeGreaterThan(0);
    const { files } = await exportC([
      {
        request: { ...captured.request, name: 'conv', runOnce },
        plans: new Map([['sse', captured.exported(target)]]),
      },
    ]);
    const source = files.get('conv_sse.c') as string;
    for (const { kernels } of prepared === null ? [] : [prepared.plan]) {
      for (const { name } of kernels) expect(source).not.toContain(`_${name}(`);
    }
    expect(files.get('conv.weights')).toBeInstanceOf(Uint8Array);
  });

  it('refuses what does not fit', async () => {
    const x = tensor([1, 2, 3]);
    const captured = capture({ x }, () => ({ y: x.mul(2) }));
    const model = modelOf(captured, { name: 'twice' });
    await expect(exportC([])).rejects.toThrow('export to C: no programs');
    await expect(exportC([model, model])).rejects.toThrow('two programs are named twice in C');
    await expect(exportC([{ ...model, plans: new Map() }])).rejects.toThrow('no variants');
    const short = modelOf(captured, {
      name: 'twice',
      testCases: [{ inputs: [new Uint8Array(8)], outputs: [new Uint8Array(12)] }],
    });
    await expect(exportC([short])).rejects.toThrow(
      "test case 0, input 'x' has 8 bytes, its shape has 12",
    );
    const [first] = captured.request.outputs;
    const doubled = modelOf(captured, { name: 'twice', outputs: [first!, first!] });
    await expect(exportC([doubled])).rejects.toThrow("two outputs are named 'y'");
    await expect(
      exportC([modelOf(captured, { name: 'twice', scalars: new Float64Array(0) })]),
    ).rejects.toThrow('0 numbers for a program of 1');
  });
});

describe.skipIf(noGcc !== undefined)(`the functions ${noGcc ?? ''}`, { timeout: 120_000 }, () => {
  it('notice indices that are out of range as they are computed', async () => {
    const where = join(folder, 'checked');
    const { captured, name } = MODELS.checked();
    writeFiles(where, await exportC([modelOf(captured, { name })], { weights: 'array' }));
    make(where, 'libchecked_scalar.a', 'CC=gcc', 'VARIANT=scalar');
    const main = `#include <stdio.h>
#include "checked.h"
int main(void) {
  float x = 0.4f, picked = 0;
  const void* in[CHECKED_INPUTS] = { &x };
  void* out[CHECKED_OUTPUTS] = { &picked };
  int first, second;
  checked_init(NULL, 0);
  first = checked_run(in, out);
  x = 1;
  second = checked_run(in, out);
  printf("%d %g %d\\n", first, (double)picked, second == CHECKED_OUT_OF_RANGE);
  return 0;
}
`;
    expect(compileAndRun(where, main, 'libchecked_scalar.a')).toMatch(/^0 .* 1\n$/);
  });

  it('train on the device, use what was trained, and refuse what is wrong', async () => {
    const where = join(folder, 'train');
    writeFiles(where, await exportC(await trainable(), { weights: 'binary' }));
    const printed = make(where, 'test', 'CC=gcc', 'VARIANT=scalar', 'CFLAGS=-O1');
    expect(printed).toContain('max relative difference: 0 (tolerance 0): passed');
    const main = `#include <stdio.h>
#include <stdint.h>
#include "net.h"
#include "net_train.h"
static union { unsigned char bytes[4096]; double align; } weights;
int main(void) {
  static float x[12] = { 1, 2, 3, -1, 0, 2, 2, 2, 1, 0, 1, 0 }, before[8], after[8], loss[2];
  static int32_t labels[4] = { 0, 1, 1, 0 };
  const void* in[1] = { x }; void* out[1] = { before };
  const void* train_in[2] = { x, labels }; void* train_out[1] = { loss };
  FILE* file = fopen("net.weights", "rb");
  size_t bytes = fread(weights.bytes, 1, sizeof weights.bytes, file);
  int i, same = 1;
  fclose(file);
  printf("%d ", net_run(in, out) == NET_NO_WEIGHTS);
  printf("%d ", net_init(weights.bytes, bytes - 1) == NET_WRONG_WEIGHTS);
  weights.bytes[0]++;
  printf("%d ", net_init(weights.bytes, bytes) == NET_WRONG_WEIGHTS);
  weights.bytes[0]--;
  printf("%d ", net_init(weights.bytes, bytes) | net_train_init(weights.bytes, bytes) | net_run(in, out));
  labels[2] = 2;
  printf("%d ", net_train_run(train_in, train_out) == NET_TRAIN_OUT_OF_RANGE);
  labels[2] = 1;
  net_train_run(train_in, train_out);
  for (i = 0; i < 20; i++) { train_out[0] = loss + 1; net_train_run(train_in, train_out); }
  out[0] = after;
  net_run(in, out);
  for (i = 0; i < 8; i++) same &= before[i] == after[i];
  printf("%d %d %s %d\\n", loss[1] < loss[0], same, net_train_info()->weights[0].name,
         (int)net_train_info()->weights[0].offset);
  return 0;
}
`;
    const library = 'libnet_scalar.a';
    expect(compileAndRun(where, main, library)).toBe('1 1 1 0 1 1 0 w0 64\n');
  });
});
