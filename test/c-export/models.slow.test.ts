// Whole programs as C: strict numerics give the bits of WebAssembly and native code in every variant, by
// every compiler, on another processor; fast numerics are close. Sanitizers and warnings are silent.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { exportC, type ExportCOptions } from '../../src/backends/c/export.ts';
import { C_VARIANTS, cTarget, type CVariant } from '../../src/backends/c/targets.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { runOnceOn } from '../../src/runtime/run-once.ts';
import { casesOf } from './capture.ts';
import { type ExampleModel, MODELS } from './models.ts';
import { armMissing, make, missing, runsHere, temporaryFolder, writeFiles } from './toolchains.ts';

const folder = temporaryFolder();
const runOnce = runOnceOn(new InterpDevice());

async function write(
  { name, captured, runs }: ExampleModel,
  numerics: 'strict' | 'fast',
  variants: readonly CVariant[],
  options: ExportCOptions & { readonly where?: string } = {},
): Promise<string> {
  const testCases = await casesOf(captured, numerics, runs);
  const packed = name !== 'training';
  const plans = new Map(
    variants.map((variant) => [variant, captured.exported(cTarget(variant, numerics), packed)]),
  );
  const request = { ...captured.request, name, testCases, runOnce };
  const where = join(folder, options.where ?? `${name}-${numerics}`);
  writeFiles(where, await exportC([{ request, plans }], options));
  return where;
}

const SAME = 'max relative difference: 0 (tolerance 0): passed';
const CLOSE = /max relative difference: [\d.e-]+ \(tolerance 1e-05\): passed/;
const noMake = missing('make');
const noGcc = noMake ?? missing('gcc');
const noClang = noMake ?? missing('clang');
const noArm = armMissing();

describe.each(Object.entries(MODELS))('%s', { timeout: 240_000 }, (_name, create) => {
  let model: ExampleModel;
  beforeAll(() => {
    model = create();
  });

  it.skipIf(noGcc !== undefined)(`strict, gcc, sanitizers ${noGcc ?? ''}`, async () => {
    const variants = C_VARIANTS.filter(runsHere);
    const where = await write(model, 'strict', variants);
    for (const variant of variants) {
      // Compiling with sanitizers takes several times as long: in the narrowest and the widest.
      const sanitized = variant === 'scalar' || variant === variants.at(-1);
      const flags = sanitized ? ['CFLAGS=-O1', 'SANITIZE=address,undefined'] : [];
      expect(make(where, 'test', 'CC=gcc', `VARIANT=${variant}`, ...flags)).toContain(SAME);
    }
  });

  it.skipIf(noClang !== undefined)(`fast, clang ${noClang ?? ''}`, async () => {
    const variants = C_VARIANTS.filter(runsHere);
    const where = await write(model, 'fast', variants);
    for (const variant of variants) {
      const printed = make(where, 'test', 'CC=clang', `VARIANT=${variant}`);
      expect(printed).toMatch(CLOSE);
    }
  });

  it.skipIf(noArm !== undefined)(`strict, 64-bit ARM ${noArm ?? ''}`, async () => {
    const where = await write(model, 'strict', ['neon'], { where: `${model.name}-arm` });
    const flags = ['CC=aarch64-linux-gnu-gcc', 'LDFLAGS=-static', 'RUN=qemu-aarch64'];
    expect(make(where, 'test', ...flags)).toContain(SAME);
  });

  it.skipIf(nativeUnavailable() !== null)('native code gives the same bits', async () => {
    const device = new NativeDevice({ threads: 2 });
    const expected = await casesOf(model.captured, 'strict', model.runs);
    const found = await model.captured.run(device, 'strict', model.runs);
    device.close();
    expect(found).toEqual(expected);
  });
});

describe.skipIf(noGcc !== undefined)(
  `the network of MNIST ${noGcc ?? ''}`,
  { timeout: 240_000 },
  () => {
    it('has at most 40 KB of code', async () => {
      const variants = (['scalar', 'sse', 'avx'] as const).filter(runsHere);
      const where = await write(MODELS.digits(), 'fast', variants, { where: 'size' });
      for (const variant of variants) {
        make(where, `libmnist_${variant}.a`, 'CC=gcc', `VARIANT=${variant}`);
        const { stdout } = spawnSync('size', [join(where, `mnist_${variant}.o`)], {
          encoding: 'utf8',
        });
        // Code and constants, then data that is not zero.
        const [text, data] = (stdout.split('\n')[1] ?? '').trim().split(/\s+/).map(Number);
        expect(text).toBeGreaterThan(1000);
        expect((text ?? 0) + (data ?? 0)).toBeLessThanOrEqual(40 * 1024);
      }
    });

    it('calls nothing but libm, and no heap', async () => {
      const where = await write(MODELS.digits(), 'fast', ['scalar'], { where: 'symbols' });
      make(where, 'libmnist_scalar.a', 'CC=gcc', 'VARIANT=scalar');
      const { stdout } = spawnSync('nm', [join(where, 'mnist_scalar.o')], { encoding: 'utf8' });
      const named = (kind: string): string[] =>
        [...stdout.matchAll(new RegExp(` ${kind} (\\w+)`, 'g'))].map(([, name]) => name ?? '');
      expect(named('T').sort()).toEqual(['mnist_info', 'mnist_init', 'mnist_run']);
      const known = ['_GLOBAL_OFFSET_TABLE_', 'memcmp', 'memcpy', 'memset', 'sqrtf'];
      expect(named('U').filter((name) => !known.includes(name))).toEqual([]);
    });

    it('takes weights that are compiled in', async () => {
      const options = { weights: 'array', where: 'array' } as const;
      const where = await write(MODELS.digits(), 'strict', ['scalar'], options);
      expect(make(where, 'test', 'CC=gcc', 'VARIANT=scalar')).toContain(SAME);
      expect(readFileSync(join(where, 'mnist_main.c'), 'utf8')).not.toContain('fopen');
    });
  },
);
