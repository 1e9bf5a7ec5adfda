// Experiment 3: one WebAssembly module per plan. What compiling 200 kernels costs as one module
// and as 200, what V8's baseline tier costs, and when a kernel leaves it.
//   npx tsx scripts/experiments/modules.ts          (prints JSON lines; about a minute)
import { spawnSync } from 'node:child_process';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { elementwise, kernelMixture, microKernel } from './kernels.ts';
import { encodeModule } from './tiny-wasm.ts';
import type { TinyFunction } from './tiny-wasm.ts';

type Kernel = (...values: number[]) => void;

const KERNELS = 200;
const median = (values: number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
const print = (record: object): void => console.log(JSON.stringify(record));

function newMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: 64, maximum: 65536, shared: true });
}

function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): WebAssembly.Instance {
  return new WebAssembly.Instance(module, { env: { memory, wait: () => undefined } });
}

function milliseconds(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

// Arguments that make one call of each kernel short (a few microseconds when optimized).
const BUSY = [1024, 65536, 262144, 256, 50] as const;
const SMALL: Readonly<Record<string, readonly number[]>> = {
  product: [1024, 65536, 262144, 256, 1],
  elementwise: [1024, 65536, 64],
};

/** Compile and instance times, and the first two executions of all kernels. */
function compileTimes(label: string): void {
  const memory = newMemory();
  const rows: Record<string, number[]> = {};
  const note = (key: string, value: number): void => void (rows[key] ??= []).push(value);
  let bytes = 0;
  for (let repeat = 0; repeat < 5; repeat++) {
    const functions = kernelMixture(KERNELS, repeat + 1);
    const whole = encodeModule(functions);
    const parts = functions.map((fn) => encodeModule([fn]));
    bytes = whole.length;
    note(
      'bytesOfAllSingle',
      parts.reduce((sum, part) => sum + part.length, 0),
    );
    let module: WebAssembly.Module | undefined;
    let instance: WebAssembly.Instance | undefined;
    note(
      'oneModuleMs',
      milliseconds(() => (module = new WebAssembly.Module(whole))),
    );
    note(
      'oneInstanceMs',
      milliseconds(() => (instance = instantiate(module as WebAssembly.Module, memory))),
    );
    let modules: WebAssembly.Module[] = [];
    note(
      'singleModulesMs',
      milliseconds(() => (modules = parts.map((part) => new WebAssembly.Module(part)))),
    );
    note(
      'singleInstancesMs',
      milliseconds(() => modules.forEach((each) => void instantiate(each, memory))),
    );
    const kernels = Object.values((instance as WebAssembly.Instance).exports) as Kernel[];
    const all = (): void => kernels.forEach((kernel) => kernel(1024, 65536, 16, 16, 1));
    note('firstRunOfAllMs', milliseconds(all));
    note('secondRunOfAllMs', milliseconds(all));
  }
  const medians = Object.fromEntries(
    Object.entries(rows).map(([key, values]) => [key, round(median(values), 3)]),
  );
  print({ measure: 'compile', flags: label, kernels: KERNELS, bytes, ...medians });
}

// V8 caches native modules by their bytes, so every module of the experiment must differ.
let modulesMade = 0;

function single(kind: string): { module: WebAssembly.Module; kernel: Kernel } {
  const seed = 1000 + modulesMade++;
  const fn: TinyFunction =
    kind === 'product'
      ? microKernel({ rows: 4, vectors: 2, unroll: 1, relaxed: false }, seed, 'kernel')
      : elementwise(seed, 12, 'kernel');
  const module = new WebAssembly.Module(encodeModule([fn]));
  return { module, kernel: instantiate(module, memoryOfTiers).exports['kernel'] as Kernel };
}
const memoryOfTiers = newMemory();

const pauseMs = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Nanoseconds of one small call, as the median of a burst. */
function callTime(kernel: Kernel, values: readonly number[], calls = 400): number {
  const times: number[] = [];
  for (let i = 0; i < calls; i++) times.push(milliseconds(() => kernel(...values)));
  return median(times) * 1e6;
}

/** Baseline against optimized, and how many calls until the optimized code is used. */
async function tiers(kind: string, pause: boolean): Promise<void> {
  const values = SMALL[kind] as readonly number[];
  const calls: number[] = [];
  const totals: number[] = [];
  const ratios: number[] = [];
  let optimized = 0;
  for (let repeat = 0; repeat < 7; repeat++) {
    const { kernel } = single(kind);
    const times: number[] = [];
    const start = performance.now();
    const ends: number[] = [];
    for (let i = 0; i < 3000; i++) {
      times.push(milliseconds(() => kernel(...values)));
      ends.push(performance.now() - start);
      if (pause && i % 100 === 99) await pauseMs(1);
    }
    optimized = median(times.slice(-500));
    const baseline = median(times.slice(1, 21));
    ratios.push(baseline / optimized);
    const switched = times.findIndex(
      (_, i) => median(times.slice(i, i + 9)) < (baseline + optimized) / 2,
    );
    calls.push(switched);
    totals.push(ends[Math.max(switched, 0)] as number);
  }
  print({
    measure: 'tier-up by calls',
    kernel: kind,
    pause,
    optimizedCallUs: round(optimized * 1e3, 3),
    baselineOverOptimized: round(median(ratios)),
    callsUntilOptimized: median(calls),
    msUntilOptimized: round(median(totals)),
  });
}

/** One call that runs long, against the same work in many calls of a fresh module. */
function longCall(): void {
  const values = SMALL['product'] as readonly number[];
  const tiles = 60_000;
  const work = (kernel: Kernel, slices: number): void => {
    const slice = [...values.slice(0, 4), tiles / slices];
    for (let i = 0; i < slices; i++) kernel(...slice);
  };
  const { kernel } = single('product');
  const calls = Array.from({ length: 8 }, () => milliseconds(() => work(kernel, 1)));
  const sliced = [1, 4, 20, 100, 1000].map((slices) => {
    const times = Array.from({ length: 5 }, () => {
      const fresh = single('product').kernel;
      return milliseconds(() => work(fresh, slices));
    });
    return [slices, round(median(times))];
  });
  print({
    measure: 'one long call',
    firstCallsMs: calls.slice(0, 3).map((time) => round(time)),
    settledMs: round(median(calls.slice(-4))),
    sameWorkInFreshModuleMs: Object.fromEntries(sliced) as object,
  });
}

const SHARED_TASK = `
const { parentPort, workerData } = require('node:worker_threads');
const { modules, memory, values } = workerData;
parentPort.postMessage(modules.map((module) => {
  const { kernel } = new WebAssembly.Instance(module, { env: { memory, wait() {} } }).exports;
  const times = [];
  for (let i = 0; i < 9; i++) {
    const start = performance.now();
    kernel(...values);
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[4] * 1e6;
}));
`;

/** Whether a worker that gets a module is served by the code the main thread made hot. */
async function sharedTiers(): Promise<void> {
  const values = BUSY;
  const { module, kernel } = single('product');
  const cold = single('product').module;
  const hot = callTime(kernel, values, 500);
  const worker = new Worker(SHARED_TASK, {
    eval: true,
    workerData: { modules: [module, cold], memory: memoryOfTiers, values },
  });
  const [first, other] = await new Promise<number[]>((resolve) => worker.once('message', resolve));
  print({
    measure: 'tiers across threads',
    mainHotCallUs: round(hot / 1e3),
    workerFirstCallsOfHotModuleUs: round((first as number) / 1e3),
    workerFirstCallsOfColdModuleUs: round((other as number) / 1e3),
  });
  await worker.terminate();
}

/** Flags set at run time, after V8 has compiled other modules: do later modules obey? */
function flagsAtRunTime(): void {
  const values = [...BUSY.slice(0, 4), 8];
  const probe = (label: string): void => {
    const rows: number[][] = [];
    for (let repeat = 0; repeat < 9; repeat++) {
      let kernel: Kernel | undefined;
      const compile = milliseconds(() => (kernel = single('product').kernel));
      const run = (): number => milliseconds(() => kernel?.(...values));
      const first = run();
      // Few enough calls to stay within the baseline tier's budget.
      const next = median([run(), run(), run()]);
      for (let i = 0; i < 300; i++) run();
      rows.push([compile, first, next, median(Array.from({ length: 99 }, run))]);
    }
    const column = (index: number): number => median(rows.map((row) => row[index] as number));
    print({
      measure: 'flags at run time',
      flags: label,
      compileMs: round(column(0), 3),
      firstCallMs: round(column(1), 3),
      next3CallsUs: round(column(2) * 1e3),
      after300CallsUs: round(column(3) * 1e3),
    });
  };
  probe('default');
  for (const [flags, undo] of [
    ['--no-liftoff', '--liftoff'],
    ['--no-wasm-lazy-compilation', '--wasm-lazy-compilation'],
    ['--no-wasm-dynamic-tiering', '--wasm-dynamic-tiering'],
    ['--wasm-tiering-budget=20000', '--wasm-tiering-budget=1800000'],
    ['--no-wasm-tier-up', '--wasm-tier-up'],
  ] as const) {
    setFlagsFromString(flags);
    probe(flags);
    setFlagsFromString(undo);
  }
  probe('default again');
}

/** What register tiles reach: TurboFan spills accumulators once the operands of a block are many. */
function tiles(): void {
  setFlagsFromString('--experimental-wasm-relaxed-simd');
  for (const [rows, vectors, unroll] of [
    [3, 3, 1],
    [4, 2, 1],
    [2, 4, 1],
    [3, 2, 1],
    [5, 2, 1],
    [6, 2, 1],
    [4, 3, 1],
    [3, 3, 2],
    [4, 2, 2],
  ] as const) {
    const speed = (relaxed: boolean): number => {
      const fn = microKernel({ rows, vectors, unroll, relaxed }, 1000 + modulesMade++, 'kernel');
      const module = new WebAssembly.Module(encodeModule([fn]));
      const kernel = instantiate(module, memoryOfTiers).exports['kernel'] as Kernel;
      const count = 100;
      const bursts = Array.from({ length: 5 }, () =>
        callTime(kernel, [1024, 65536, 262144, 256, count], 200),
      );
      // The best of five medians: other load on the machine only ever slows a burst.
      return round((2 * rows * vectors * 4 * 256 * count) / Math.min(...bursts), 1);
    };
    const registers = rows + vectors + rows * vectors;
    const tile = `${rows}x${vectors * 4} unroll ${unroll}`;
    print({ measure: 'register tiles', tile, registers, fma: speed(true), mulAdd: speed(false) });
  }
}

function child(task: string, flags: string): void {
  const script = fileURLToPath(import.meta.url);
  const list = flags === '' ? [] : flags.split(' ');
  const args = [...list, '--import', 'tsx', script, task, flags === '' ? 'default' : flags];
  const result = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${task} ${flags}: ${result.stderr}`);
  process.stdout.write(result.stdout);
}

async function main(): Promise<void> {
  const [task, label = ''] = process.argv.slice(2);
  if (task === 'compile') return compileTimes(label);
  for (const flags of [
    '',
    '--no-wasm-lazy-compilation',
    '--no-liftoff',
    '--no-liftoff --no-wasm-lazy-compilation',
    '--no-wasm-dynamic-tiering --no-wasm-lazy-compilation',
  ]) {
    child('compile', flags);
  }
  for (const kind of ['product', 'elementwise']) {
    for (const pause of [false, true]) await tiers(kind, pause);
  }
  longCall();
  await sharedTiers();
  flagsAtRunTime();
  tiles();
}

await main();
