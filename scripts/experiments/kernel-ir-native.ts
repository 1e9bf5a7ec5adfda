// Part (b) of experiment 1: the product schedule as C, compiled by cc, timed by a small driver, its
// inner loop looked at in the disassembly.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProductTiles } from '../../src/compile/schedule/product.ts';
import type { ProductSizes } from '../../src/compile/schedule/product-problem.ts';
import type { Target } from '../../src/ir/kernel.ts';
import type { Location } from '../../src/runtime/plan.ts';
import { C_FLAGS, renderC } from '../../src/backends/native/renderer.ts';
import {
  noise,
  productProgram,
  type ProductProgram,
  referenceElement,
} from './kernel-ir-product.ts';

export function nativeTarget(vectorBytes: 32 | 64): Target {
  return {
    name: `avx${vectorBytes === 32 ? '2' : '512'}`,
    vectorBytes,
    fma: true,
    numerics: 'fast',
    vectorRegisters: vectorBytes / 2,
    foldsSplats: true,
    workgroups: false,
    cacheBytes: { l1: 32768, l2: 1048576 },
  };
}

export interface NativeResult {
  readonly tiles: ProductTiles;
  /** Of the whole product, by processor time, and of the multiply kernel alone in short calls. */
  readonly gflops: number;
  readonly kernelGflops: number;
  /** Of a loop of 256-bit multiply-adds in registers, measured in turn with the above. */
  readonly limit: number;
  readonly loop: InnerLoop;
  readonly worstError: number;
}

/** The loop with the most multiply-adds: what else is in it. */
export interface InnerLoop {
  readonly fma: number;
  readonly instructions: number;
  /** Accesses of the stack, which would be spilled registers. */
  readonly stack: number;
}

/** Compiles, runs and checks relu(a @ b + bias). */
export function runNative(
  sizes: ProductSizes,
  target: Target,
  tiles?: ProductTiles,
  seconds = 1.5,
): NativeResult {
  const program = productProgram(sizes, target, tiles);
  const { plan } = program;
  const folder = mkdtempSync(join(tmpdir(), 'kernel-ir-'));
  try {
    const [source, object, executable] = ['c', 'o', 'run'].map((name) => join(folder, `k.${name}`));
    const rendered = renderC(plan.kernels);
    const main = driver(sizes, program, rendered.scratchBytes, seconds);
    writeFileSync(source as string, `${rendered.source}\n${main}`);
    const features = target.vectorBytes === 64 ? ['-mavx512f', '-mprefer-vector-width=512'] : [];
    const flags = [...C_FLAGS, '-O3', '-mavx2', '-mfma', ...features];
    execFileSync('cc', [...flags, '-c', source as string, '-o', object as string]);
    execFileSync('cc', [object as string, '-o', executable as string]);
    const only = `--disassemble=kernel_${plan.kernels.length - 1}`;
    const text = execFileSync('objdump', ['--no-show-raw-insn', only, object as string], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    const output = execFileSync(executable as string, { encoding: 'utf8', maxBuffer: 1 << 28 });
    const { full, part, limit, values } = JSON.parse(output) as DriverOutput;
    return {
      tiles: program.tiles,
      gflops: full,
      kernelGflops: part,
      limit,
      loop: innerLoop(text),
      worstError: worstError(sizes, values),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface DriverOutput {
  readonly full: number;
  readonly part: number;
  readonly limit: number;
  /** Every SAMPLE-th element of the result. */
  readonly values: readonly number[];
}

const SAMPLE = 997;

function worstError(sizes: ProductSizes, values: readonly number[]): number {
  const { m, n, k } = sizes;
  const [a, b, bias] = [noise(m * k, 1), noise(k * n, 2), noise(n, 3)];
  let worst = 0;
  values.forEach((value, i) => {
    const at = i * SAMPLE;
    const expected = referenceElement(sizes, a, b, bias, Math.floor(at / n), at % n);
    worst = Math.max(worst, Math.abs(value - expected));
  });
  return worst;
}

function driver(
  { m, n, k }: ProductSizes,
  { plan, tiles }: ProductProgram,
  scratchBytes: number,
  seconds: number,
): string {
  const pointer = (location: Location): string => {
    if (location.space === 'arena') return `arena + ${location.offset / 4}`;
    if (location.space === 'binding') return `bindings[${location.index}]`;
    throw new Error('the product has no scalars');
  };
  const call = (kernel: number, locations: readonly Location[], items: number): string =>
    `{ void *buffers[] = {${[...locations.map(pointer), 'memory'].join(', ')}}; kernel_${kernel}(buffers, 0, ${items}); }`;
  const run = plan.dispatches.map(({ kernel, arguments: locations }) => {
    const grid = plan.kernels[kernel]?.gridSize ?? 0;
    return call(kernel, locations, grid);
  });
  // As many items of the last kernel as take about half a millisecond: few are interrupted.
  const itemFlop = 2 * tiles.blockRows * tiles.blockColumns * k;
  const last = plan.kernels.length - 1;
  const blocks = Math.floor(n / tiles.blockColumns);
  const items = Math.max(1, Math.min(Math.round(5e7 / itemFlop), blocks));
  const lastCall = call(last, plan.dispatches[last]?.arguments ?? [], items);
  return `
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static double now(int clock) { struct timespec t; clock_gettime(clock, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static float *reals(long count) { return aligned_alloc(64, (count * 4 + 127) / 64 * 64); }
static float *noise(long count, uint32_t state) {
  float *values = reals(count);
  for (long i = 0; i < count; i++) { state = state * 1664525u + 1013904223u; values[i] = (float)(state / 4294967296.0 - 0.5); }
  return values;
}
static void limit(void) {
  asm volatile("mov $20000, %%rcx\\n 1:\\n ${Array.from({ length: 12 }, (_, i) => `vfmadd213ps %%ymm14, %%ymm13, %%ymm${i}\\n`).join(' ')} dec %%rcx\\n jnz 1b\\n" ::: "rcx", ${Array.from({ length: 16 }, (_, i) => `"xmm${i}"`).join(', ')});
}
int main(void) {
  float *bindings[] = {noise(${m * k}, 1), noise(${k * n}, 2), noise(${n}, 3), reals(${m * n})};
  float *arena = reals(${plan.arenaBytes / 4}), *memory = reals(${scratchBytes / 4 + 16});
  double full = 1e9, part = 1e9, top = 1e9, begin = now(CLOCK_MONOTONIC);
  while (now(CLOCK_MONOTONIC) - begin < ${seconds}) {
    double t = now(CLOCK_THREAD_CPUTIME_ID);
    ${run.join('\n    ')}
    t = now(CLOCK_THREAD_CPUTIME_ID) - t;
    if (t < full) full = t;
    for (int i = 0; i < 40; i++) {
      t = now(CLOCK_MONOTONIC);
      ${lastCall}
      t = now(CLOCK_MONOTONIC) - t;
      if (t < part) part = t;
      t = now(CLOCK_MONOTONIC);
      limit();
      t = now(CLOCK_MONOTONIC) - t;
      if (t < top) top = t;
    }
  }
  ${run.join('\n  ')}
  printf("{\\"full\\": %.2f, \\"part\\": %.2f, \\"limit\\": %.2f, \\"values\\": [", ${2 * m * n * k} / full / 1e9, ${itemFlop * items} / part / 1e9, 20000.0 * 12 * 16 / top / 1e9);
  for (long i = 0; i < ${m * n}; i += ${SAMPLE}) printf("%s%.9g", i == 0 ? "" : ", ", bindings[3][i]);
  printf("]}\\n");
  return 0;
}
`;
}

/** Finds the tightest backward jump around the most multiply-adds. */
function innerLoop(disassembly: string): InnerLoop {
  const lines = disassembly
    .split('\n')
    .map((line) => /^\s*([0-9a-f]+):\s+(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, address = '0', text = '']) => ({ address: Number.parseInt(address, 16), text }));
  const position = new Map(lines.map(({ address }, i) => [address, i]));
  let best: InnerLoop = { fma: 0, instructions: 0, stack: 0 };
  lines.forEach(({ address, text }, i) => {
    const jump = /^j\w+\s+([0-9a-f]+)/.exec(text);
    const target = jump === null ? NaN : Number.parseInt(jump[1] ?? '', 16);
    const start = position.get(target);
    if (!(target < address) || start === undefined) return;
    const body = lines.slice(start, i + 1);
    // Only innermost loops: no other backward jump inside.
    const nested = body.slice(0, -1).some(({ address: from, text: inner }) => {
      const to = Number.parseInt(/^j\w+\s+([0-9a-f]+)/.exec(inner)?.[1] ?? '', 16);
      return to <= from && to >= target;
    });
    const fma = body.filter((line) => line.text.startsWith('vfmadd')).length;
    if (nested || fma < best.fma) return;
    const stack = body.filter((line) => /\(%r[sb]p/.test(line.text)).length;
    best = { fma, instructions: body.length, stack };
  });
  return best;
}
