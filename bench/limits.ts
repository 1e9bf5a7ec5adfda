// The arithmetic limits of this machine, in GFLOP/s of float32 on one and on two threads: other
// benchmarks state their figures as a share of these.
//   npx tsx bench/limits.ts          (prints one JSON object; the C limits need `cc`)
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { WorkerPool } from '../src/runtime/workers.ts';
import type { RunPart } from '../src/runtime/workers.ts';
import { V128, encodeModule, op } from '../scripts/experiments/tiny-wasm.ts';

// Enough independent accumulators to hide the latency of a multiplication and an addition.
const ACCUMULATORS = 12;
const LANES = 4;
const TURNS = 2_000_000;
// The best of many short runs: other load on the machine only ever slows one.
const REPEATS = 120;

/** Limit on one and on two threads; `null` where the machine cannot do it. */
type Limit = readonly [number, number] | null;

/** Every accumulator becomes accumulator * a + b, everything in registers, TURNS times. */
function limitModule(relaxed: boolean): WebAssembly.Module {
  const [turns, a, b, first] = [2, 3, 4, 5];
  const code: number[] = [];
  const sum: number[] = [...op.get(2), ...op.splatConst(0)];
  for (let i = 0; i < ACCUMULATORS; i++) {
    const accumulator = op.get(first + i);
    code.push(...accumulator, ...op.get(a));
    if (relaxed) code.push(...op.get(b), ...op.f32x4madd);
    else code.push(...op.f32x4mul, ...op.get(b), ...op.f32x4add);
    code.push(...op.set(first + i));
    sum.push(...accumulator, ...op.f32x4add);
  }
  const body = [
    ...op.splatConst(0.5),
    ...op.set(a),
    ...op.splatConst(0.25),
    ...op.set(b),
    ...op.i32(TURNS),
    ...op.set(turns),
    ...op.loop([
      ...code,
      ...op.get(turns),
      ...op.i32(1),
      ...op.sub,
      ...op.tee(turns),
      ...op.branchIf(0),
    ]),
    ...op.i32(0),
    ...op.set(turns),
    ...sum,
    // Parameter 2, the table, was used as the counter and is 0 again: the sum goes to the start.
    ...op.v128store(0),
  ];
  const locals = Array<number>(2 + ACCUMULATORS).fill(V128);
  const bytes = encodeModule([{ parameters: 3, locals, body, exportAs: 'run' }]);
  return new WebAssembly.Module(bytes);
}

function wasmLimit(relaxed: boolean): Promise<Limit> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const pool = WorkerPool.create({ memory, barrierAddress: 64, threads: 2 });
  const module = limitModule(relaxed);
  const id = pool.register(module);
  const run = new WebAssembly.Instance(module, pool.imports).exports['run'] as RunPart;
  if (pool.waitUntilReady(id, 10_000) !== 1) throw new Error('the worker did not come up');
  const best = (threads: number): number => {
    let fastest = Number.POSITIVE_INFINITY;
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      const start = performance.now();
      pool.run(id, run, 0, threads);
      fastest = Math.min(fastest, performance.now() - start);
    }
    const flop = 2 * LANES * ACCUMULATORS * TURNS * threads;
    return Number((flop / fastest / 1e6).toFixed(1));
  };
  const limit: Limit = [best(1), best(2)];
  return pool.close().then(() => limit);
}

function cProgram(): string {
  const registers = Array.from({ length: ACCUMULATORS }, (_, i) => i);
  const clobbers = Array.from({ length: 16 }, (_, i) => `"xmm${i}"`).join(',');
  const kernel = (name: string, register: string): string => {
    const fma = registers
      .map((i) => `vfmadd213ps %%${register}14, %%${register}13, %%${register}${i}\\n`)
      .join(' ');
    const clear = [...registers, 13, 14]
      .map((i) => `vxorps %%xmm${i}, %%xmm${i}, %%xmm${i}\\n`)
      .join(' ');
    return `static void ${name}(void) { asm volatile("${clear} mov %0, %%rcx\\n 1:\\n ${fma} dec %%rcx\\n jnz 1b\\n" :: "r"(TURNS) : "rcx", ${clobbers}); }`;
  };
  return `
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#define TURNS ${TURNS}L
${kernel('fma128', 'xmm')}
${kernel('avx2', 'ymm')}
${kernel('avx512', 'zmm')}
typedef void (*Kernel)(void);
static pthread_barrier_t start;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static void *part(void *kernel) { pthread_barrier_wait(&start); ((Kernel)kernel)(); return 0; }
static double seconds(Kernel kernel, int threads) {
  pthread_t other;
  if (threads == 2) { pthread_barrier_init(&start, 0, 2); pthread_create(&other, 0, part, (void *)kernel); pthread_barrier_wait(&start); }
  double begin = now();
  kernel();
  if (threads == 2) pthread_join(other, 0);
  return now() - begin;
}
static void limit(const char *name, Kernel kernel, int lanes, int supported, const char *end) {
  printf("\\"%s\\": ", name);
  if (!supported) { printf("null%s", end); return; }
  double best[2] = {0, 0};
  for (int repeat = 0; repeat < ${REPEATS}; repeat++)
    for (int threads = 1; threads <= 2; threads++) {
      double rate = 2.0 * lanes * ${ACCUMULATORS} * TURNS * threads / seconds(kernel, threads) / 1e9;
      if (rate > best[threads - 1]) best[threads - 1] = rate;
    }
  printf("[%.1f, %.1f]%s", best[0], best[1], end);
}
int main(void) {
  printf("{");
  limit("fma128", fma128, 4, __builtin_cpu_supports("fma"), ", ");
  limit("avx2", avx2, 8, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), ", ");
  limit("avx512", avx512, 16, __builtin_cpu_supports("avx512f"), "}");
  return 0;
}
`;
}

/** The limits a C program reaches; nothing where there is no compiler or another instruction set. */
function nativeLimits(): Readonly<Record<string, Limit>> {
  if (process.arch !== 'x64') return {};
  const folder = mkdtempSync(join(tmpdir(), 'limits-'));
  try {
    const source = join(folder, 'limits.c');
    const program = join(folder, 'limits');
    writeFileSync(source, cProgram());
    try {
      execFileSync('cc', ['--version'], { stdio: 'ignore' });
    } catch {
      return {};
    }
    execFileSync('cc', ['-O2', '-pthread', source, '-o', program]);
    return JSON.parse(execFileSync(program, { encoding: 'utf8' })) as Record<string, Limit>;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

setFlagsFromString('--experimental-wasm-relaxed-simd');
const wasmRelaxed = await wasmLimit(true);
const wasmMulAdd = await wasmLimit(false);
console.log(JSON.stringify({ unit: 'GFLOP/s', wasmRelaxed, wasmMulAdd, ...nativeLimits() }));
