// What the native device needs of the machine: its processor, compiled kernels, and the C runtime
// that runs plans. There is one of each in a process.
import { DeviceError } from '../../base/errors.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { type CompileCache, missingTools, sharedCompileCache } from './compile-cache.ts';
import { requireForeign } from './foreign.ts';
import { unitOf } from './kernel-units.ts';
import { PAIR_UNIT_SOURCE, PAIRS_SOURCE } from './pairs.ts';
import { RUNTIME_SOURCE } from './runtime-source.ts';
import { requireToolchain, type Toolchain } from './toolchain.ts';

export interface LoadedKernels {
  /** Of each kernel's function, in order. */
  readonly addresses: readonly number[];
  /** Scratch that a thread needs for any of them. */
  readonly scratchBytes: number;
  /** How many of them were compiled or found on disk, rather than known to this process. */
  readonly added: number;
}

export interface NativeHost {
  readonly toolchain: Toolchain;
  readonly cache: CompileCache;
  /** Makes sure of so many threads, the caller's included; says how many there are. */
  start(threads: number): number;
  /** @throws CompileError with what the compiler said. */
  kernels(kernels: readonly Kernel[]): LoadedKernels;
  /** Runs the plan whose block is at `address`, after all that was submitted. */
  run(address: number): void;
  /** Queues a plan to run beside the program; gives a ticket. Its memory must stay alive. */
  submit(address: number): number;
  done(ticket: number): boolean;
  wait(ticket: number): void;
  waitAsync(ticket: number): Promise<void>;
  /** What multiplies bfloat16: 0 for nothing, 1 for vectors, 2 for tiles. Found out when first asked. */
  pairUnit(): 0 | 1 | 2;
  /** Asks for large pages; the system may ignore it. */
  useLargePages(address: number, bytes: number): void;
}

let unavailable: string | null | undefined;
let host: NativeHost | undefined;

/** In one line why there can be no native device, or null. Finds out by making the runtime. */
export function nativeUnavailable(): string | null {
  if (unavailable !== undefined) return unavailable;
  unavailable = missingTools();
  if (unavailable === null) {
    try {
      host = openHost();
    } catch (error) {
      // A compiler that answers but does not work, a disk without room for anything.
      const text = error instanceof Error ? error.message : String(error);
      unavailable = text.split('\n').slice(0, 2).join(' ');
    }
  }
  return unavailable;
}

/** @throws DeviceError if there can be no native device. */
export function nativeHost(): NativeHost {
  const reason = nativeUnavailable();
  if (host === undefined) throw new DeviceError(reason ?? 'no native device', { op: 'native' });
  return host;
}

function openHost(): NativeHost {
  const foreign = requireForeign();
  const cache = sharedCompileCache();
  const names = ['start', 'run', 'submit', 'done', 'wait', 'use_large_pages'].map(
    (name) => `tengen_${name}`,
  );
  const [runtime] = cache.load([
    { declarations: [], definition: RUNTIME_SOURCE, exports: names, alone: true },
  ]);
  if (runtime === undefined)
    throw new DeviceError('the runtime was not compiled', { op: 'native' });
  const start = runtime.function('tengen_start', { parameters: ['i32'], result: 'i32' });
  const run = runtime.function('tengen_run', { parameters: ['address'], result: 'i32' });
  const submit = runtime.function('tengen_submit', { parameters: ['address'], result: 'u32' });
  const done = runtime.function('tengen_done', { parameters: ['u32'], result: 'i32' });
  const useLargePages = runtime.function('tengen_use_large_pages', {
    parameters: ['f64', 'f64'],
    result: 'i32',
  });
  const signature = { parameters: ['u32'], result: 'i32' } as const;
  const wait = runtime.function('tengen_wait', signature);
  const waitAsync = foreign.asyncFunctionAt(runtime.address('tengen_wait'), signature);
  let pairUnit: 0 | 1 | 2 | undefined;
  let last = 0;
  // The end of the process takes memory away that a plan under way still reads.
  process.once('exit', () => wait(last));
  return {
    toolchain: requireToolchain(),
    cache,
    start,
    pairUnit: () => (pairUnit ??= findPairUnit(cache)),
    kernels: (kernels) => loadKernels(cache, kernels),
    run,
    submit: (address) => (last = submit(address)),
    done: (ticket) => done(ticket) !== 0,
    wait,
    useLargePages,
    waitAsync: async (ticket) => {
      if (done(ticket) === 0) await waitAsync(ticket);
    },
  };
}

/** Kernels are compiled as this probe is, so what works here works there. */
function findPairUnit(cache: CompileCache): 0 | 1 | 2 {
  const [unit] = cache.load([
    {
      declarations: [PAIRS_SOURCE],
      definition: PAIR_UNIT_SOURCE,
      exports: ['pair_unit'],
      alone: true,
    },
  ]);
  const found = unit?.function('pair_unit', { parameters: [], result: 'i32' })();
  return found === 1 || found === 2 ? found : 0;
}

function loadKernels(cache: CompileCache, kernels: readonly Kernel[]): LoadedKernels {
  let scratchBytes = 0;
  const units = kernels.map((kernel) => {
    const rendered = unitOf(kernel);
    scratchBytes = Math.max(scratchBytes, rendered.scratchBytes);
    return rendered.unit;
  });
  const known = cache.statistics.loaded;
  const loaded = cache.load(units);
  return {
    addresses: loaded.map((unit) => unit.address('kernel')),
    scratchBytes,
    added: units.length - (cache.statistics.loaded - known),
  };
}
