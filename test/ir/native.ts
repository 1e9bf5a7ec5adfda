// Compiles rendered C and runs it in a child process: arrays go in and out through files.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { fromBfloat16Bits, fromFloat16Bits, type TypedArray } from '../../src/base/dtype.ts';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { C_FLAGS, renderC } from '../../src/backends/native/renderer.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { targetOf } from './support.ts';

/** Why C cannot be compiled here, or undefined if it can. */
export function compilerMissing(): string | undefined {
  const { error, status } = spawnSync('cc', ['--version'], { stdio: 'ignore' });
  return error === undefined && status === 0 ? undefined : 'there is no C compiler';
}

/** Flags for the processor's vectors; none elsewhere than on x86, where C is scalar or NEON. */
export function vectorFlags(): readonly string[] {
  if (process.arch !== 'x64') return [];
  const flags = readFileSync('/proc/cpuinfo', 'utf8');
  const has = (name: string): boolean => new RegExp(`\\b${name}\\b`).test(flags);
  return ['sse4_1', 'avx2', 'fma', 'avx512f', 'avx512vl', 'avx512dq', 'avx512bw']
    .filter(has)
    .map((name) => `-m${name.replace('_', '.')}`);
}

/** Reads each kernel's arrays from stdin, runs the whole grid, and writes the arrays to stdout. */
const DRIVER = `
#include <stdio.h>
#include <stdlib.h>
int main(void) {
  static void (*const kernels[])(void**, long, long) = { KERNELS };
  for (unsigned k = 0; k < sizeof kernels / sizeof *kernels; k++) {
    long head[2];
    if (fread(head, sizeof head, 1, stdin) != 1) return 1;
    void* buffers[64];
    long sizes[64];
    for (long i = 0; i < head[0]; i++) {
      if (fread(&sizes[i], sizeof(long), 1, stdin) != 1) return 1;
      buffers[i] = malloc(sizes[i] + 64);
      if (sizes[i] > 0 && fread(buffers[i], sizes[i], 1, stdin) != 1) return 1;
    }
    buffers[head[0]] = aligned_alloc(64, SCRATCH);
    kernels[k](buffers, 0, head[1]);
    for (long i = 0; i < head[0]; i++) fwrite(buffers[i], sizes[i], 1, stdout);
  }
  return 0;
}
`;

/** Runs kernels, already prepared, as C; the arrays are overwritten with what they hold then. */
export function runNative(
  kernels: readonly Kernel[],
  views: readonly (readonly TypedArray[])[],
  flags: readonly string[] = vectorFlags(),
): void {
  const folder = mkdtempSync(join(tmpdir(), 'tengen-c-'));
  try {
    const { source, scratchBytes } = renderC(kernels);
    const driver = DRIVER.replace('KERNELS', kernels.map((_, n) => `kernel_${n}`).join(', '));
    const scratch = String(Math.max(64, scratchBytes));
    writeFileSync(join(folder, 'k.c'), source + driver.replace('SCRATCH', scratch));
    const output = join(folder, 'k');
    const warnings = [
      '-Wall',
      '-Werror',
      '-Wno-unused-function',
      '-Wno-unused-variable',
      '-Wno-unused-but-set-variable',
    ];
    execFileSync('cc', [
      ...C_FLAGS,
      ...flags,
      ...warnings,
      join(folder, 'k.c'),
      '-o',
      output,
      '-lm',
    ]);
    const input = kernels.flatMap((kernel, n) => {
      const arrays = views[n] ?? [];
      const head = BigInt64Array.of(BigInt(arrays.length), BigInt(kernel.gridSize));
      const parts = arrays.flatMap((array) => [
        bytesOf(BigInt64Array.of(BigInt(array.byteLength))),
        bytesOf(array),
      ]);
      return [bytesOf(head), ...parts];
    });
    const results = execFileSync(output, {
      input: Buffer.concat(input),
      maxBuffer: 1 << 28,
      timeout: 60_000,
    });
    let offset = 0;
    for (const array of views.flat()) {
      bytesOf(array).set(results.subarray(offset, offset + array.byteLength));
      offset += array.byteLength;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function bytesOf(array: TypedArray | BigInt64Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

export interface Run {
  readonly name: string;
  readonly kernel: Kernel;
  readonly views: readonly TypedArray[];
}

/** Prepares for a width, runs everything in one process, and compares every array. */
export function expectSame(runs: readonly Run[], vectorBytes: number, fma: boolean): void {
  const target = targetOf(vectorBytes, fma);
  const kernels = runs.map(({ kernel }) => prepareKernel(kernel, target, { verify: verifyKernel }));
  const wanted = runs.map(({ views }) => views.map((view) => view.slice()));
  kernels.forEach((kernel, n) => new InterpreterProgram(kernel).run(wanted[n] ?? []));
  const got = runs.map(({ views }) => views.map((view) => view.slice()));
  runNative(kernels, got);
  runs.forEach(({ name }, n) => {
    got[n]?.forEach((array, which) => {
      const want = wanted[n]?.[which] ?? new Float32Array();
      // Halves are bits, and which NaN an operation gives is not specified.
      const dtype = runs[n]?.kernel.buffers[which]?.dtype;
      const read =
        dtype === 'float16'
          ? fromFloat16Bits
          : dtype === 'bfloat16'
            ? fromBfloat16Bits
            : (value: number) => value;
      const different = Array.from(array, read).findIndex(
        (value, i) => !Object.is(value, read(want[i] ?? NaN)),
      );
      const where = `${name}[${which}][${different}]: ${array[different]}, not ${want[different]}`;
      expect(different < 0 ? 'equal' : where).toBe('equal');
    });
  });
}
