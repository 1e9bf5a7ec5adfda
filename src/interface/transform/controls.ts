// Control over evaluation, devices and numerics, and what they report about themselves.
import { checkFunction, checkInteger, checkKeys, describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { formatExplanation } from '../../compile/explain.ts';
import {
  ALL_PASSES,
  NO_PASSES,
  PASS_NAMES,
  type PassName,
  type Passes,
} from '../../compile/passes/switches.ts';
import type { Device } from '../../runtime/device.ts';
import {
  configureDevice,
  defaultDeviceName,
  preferredDeviceName,
  getDevice,
  listBackends,
  setDefaultDevice as setDefault,
} from '../../runtime/registry.ts';
import { threadsAvailable } from '../../runtime/host-threads.ts';
import { engine } from '../tensor/engine.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Entry } from './entry.ts';
import type { EvaluatorStats } from './evaluator.ts';
import { evaluator } from './install.ts';
import { memoryBudgetOf, type MemoryBudgetOption, settings } from './settings.ts';

/** `fast`: fused multiply-add where there is one. `strict`: the same bits on every CPU device. */
export type Numerics = 'fast' | 'strict';

/** What products and convolutions of float32 may be computed in. */
export type Precision = 'float32' | 'bfloat16';

/**
 * Computes tensors now, together, as one plan. Reading a value does the same for that value alone.
 *
 * @example
 * ```ts
 * const x = tensor([1, 2]);
 * const [a, b] = [x.add(1), x.mul(2)];
 * evaluate(a, b);
 * ```
 */
export function evaluate(...tensors: readonly Tensor[]): void {
  engine().evaluate(tensors.map((x) => x.node));
}

/** Keeps a value beyond the steps after which its weights are gone. Returns it. */
export function keep(x: Tensor): Tensor {
  return x.keep();
}

/** Chooses between the fastest results and the same bits on every device and thread count. */
export function setNumerics(numerics: Numerics): void {
  if (numerics !== 'fast' && numerics !== 'strict') {
    throw new ArgumentError(`numerics are 'fast' or 'strict', got '${String(numerics)}'`, {
      op: 'setNumerics',
    });
  }
  settings.numerics = numerics;
}

/**
 * Whether products and convolutions of float32 may be computed of operands rounded to bfloat16 (8 bits
 * of precision), with float32 sums: several times as fast on processors with units for it (AMX,
 * AVX-512 BF16), and used where it is estimated, or measured, to be the fastest way. Never on by
 * itself. `strict` numerics do not use it. `env().precision` says what is done here, and why.
 *
 * @throws ArgumentError if it is neither 'float32' nor 'bfloat16'.
 *
 * @example
 * ```ts
 * setPrecision('bfloat16');
 * const product = randn([64, 64]).matmul(randn([64, 64]));
 * product.dtype; // => 'float32'
 * setPrecision('float32');
 * env().precision; // => 'float32'
 * ```
 */
export function setPrecision(precision: Precision): void {
  if (precision !== 'float32' && precision !== 'bfloat16') {
    throw new ArgumentError(
      `the precision is 'float32' or 'bfloat16', got '${String(precision)}'`,
      { op: 'setPrecision' },
    );
  }
  settings.precision = precision;
}

/**
 * Most bytes for what a plan holds while it runs, beside parameters, inputs and results: a number, or a
 * text like `'512MB'`. What does not fit is computed again by the same kernels, so that results keep
 * their bits. `'sqrt'`: as little as segments of the forward pass allow. `null`: no limit.
 * `trace(step, { memoryBudget })` does the same for one function. docs/memory.md has the details.
 *
 * @throws ArgumentError if it is none of these. What cannot be made to fit throws BudgetError, with the
 * smallest budget that works, when it is computed.
 *
 * @example
 * ```ts
 * setMemoryBudget('1MB');
 * randn([100, 100]).matmul(randn([100, 100])).shape; // => [100, 100]
 * setMemoryBudget(null);
 * setMemoryBudget('plenty'); // throws ArgumentError: setMemoryBudget: memoryBudget must be
 * ```
 */
export function setMemoryBudget(budget: MemoryBudgetOption): void {
  settings.memoryBudget = memoryBudgetOf('setMemoryBudget', budget);
}

/**
 * The device on which values without one are computed from now on; those that exist are taken along when
 * they are used. `'auto'` goes back to the preferred one.
 * Throws DeviceError if it does not exist or cannot run here.
 */
export function setDefaultDevice(name: string): void {
  setDefault(name);
}

/** Settings of `configure`; what is left out stays as it is. */
export interface Configuration {
  readonly device?: string | undefined;
  /** Threads of that device, the caller's included. */
  readonly threads?: number | undefined;
  readonly numerics?: Numerics | undefined;
  /** Of products and convolutions: see `setPrecision`. */
  readonly precision?: Precision | undefined;
  /** Passes of the compiler: see `setPasses`. */
  readonly passes?: PassSwitches | undefined;
  /** Of every plan: see `setMemoryBudget`. */
  readonly memoryBudget?: MemoryBudgetOption | undefined;
}

const CONFIGURATION = [
  'device',
  'threads',
  'numerics',
  'precision',
  'passes',
  'memoryBudget',
] satisfies readonly (keyof Configuration)[];

/** Passes by name, and whether each is on; `'all'` or `'none'` of them. */
export type PassSwitches = 'all' | 'none' | Partial<Passes>;

/**
 * Switches passes of the compiler on or off; those that are not named stay as they are. All are on by
 * default. A pass saves time or memory and changes no result but for rounding, so one is switched off
 * to find out what it brings, or whether it is to blame. `explain()` says what was done.
 *
 * @throws ArgumentError if there is no pass of that name.
 *
 * @example
 * ```ts
 * setPasses({ batchNormFolding: false });
 * passes().batchNormFolding; // => false
 * setPasses('none');
 * setPasses({ ...passes(), weightPacking: true });
 * setPasses('all');
 * setPasses(JSON.parse('{"foldBatchNorm": true}')); // throws ArgumentError: setPasses: there is no option 'foldBatchNorm'
 * ```
 */
export function setPasses(switches: PassSwitches): void {
  const op = 'setPasses';
  if (typeof switches === 'string') {
    if (switches !== 'all' && switches !== 'none') {
      throw new ArgumentError(`passes are 'all', 'none' or a record, got '${String(switches)}'`, {
        op,
      });
    }
    settings.passes = switches === 'all' ? ALL_PASSES : NO_PASSES;
    return;
  }
  checkKeys(op, switches, PASS_NAMES);
  const next: Record<PassName, boolean> = { ...settings.passes };
  for (const name of PASS_NAMES) {
    const on: unknown = switches[name];
    if (on === undefined) continue;
    if (typeof on !== 'boolean') {
      throw new ArgumentError(`${name} is true or false, got ${describeValue(on)}`, { op });
    }
    next[name] = on;
  }
  settings.passes = next;
}

/** Which passes of the compiler are on. */
export function passes(): Passes {
  return { ...settings.passes };
}

/**
 * Chooses device, threads, numerics and the like, at the start of a program as a rule. Other `threads` make
 * the device anew and drop its plans.
 *
 * @throws ArgumentError if a setting is none of its values.
 * @throws DeviceError if there is no such device, or if values are on one whose threads are to change.
 */
export function configure(options: Configuration): void {
  checkKeys('configure', options, CONFIGURATION);
  const { device = defaultDeviceName() } = options;
  const name = device === 'auto' ? preferredDeviceName() : device;
  if (options.numerics !== undefined) setNumerics(options.numerics);
  if (options.precision !== undefined) setPrecision(options.precision);
  if (options.passes !== undefined) setPasses(options.passes);
  if (options.memoryBudget !== undefined) setMemoryBudget(options.memoryBudget);
  if (options.threads !== undefined) {
    checkInteger('configure', 'threads', options.threads, 1);
    // They run on the device as it was, and the memory that they reuse holds no values.
    evaluator().clearPlans(name);
    configureDevice(name, { threads: options.threads });
  }
  if (options.device !== undefined) setDefault(options.device);
}

export interface Environment {
  /** The default device. */
  readonly device: string;
  readonly threads: number;
  /** Where the number of threads comes from, or why there is only one. */
  readonly threadsReason: string;
  /** Whether kernels use fused multiply-add of relaxed SIMD (device `wasm`, fast numerics). */
  readonly relaxedSimd: boolean;
  readonly numerics: Numerics;
  /** What products and convolutions of float32 are computed in. */
  readonly precision: Precision;
  /** Why: what was asked for, and what the device has. */
  readonly precisionReason: string;
  /** All devices, the preferred one first, and why any cannot run. */
  readonly devices: readonly { readonly name: string; readonly unavailable: string | null }[];
}

/** What tensors are computed with here. */
export function env(): Environment {
  const device = getDevice(defaultDeviceName());
  return {
    device: device.name,
    threads: device.threads,
    threadsReason: threadsAvailable().reason,
    relaxedSimd: device.name === 'wasm' && device.target('fast').fma,
    numerics: settings.numerics,
    ...precisionHere(device),
    devices: listBackends(),
  };
}

function precisionHere(device: Device): Pick<Environment, 'precision' | 'precisionReason'> {
  if (settings.precision === 'float32') {
    return { precision: 'float32', precisionReason: 'nothing else was asked for' };
  }
  const precisionReason =
    settings.numerics === 'strict'
      ? "'bfloat16' was asked for, but not with strict numerics"
      : device.target('fast', true).pairSpeed === undefined
        ? `'bfloat16' was asked for, but ${device.name} has no units for it here (AMX or AVX-512 BF16)`
        : null;
  return precisionReason === null
    ? { precision: 'bfloat16', precisionReason: 'asked for, where it is faster' }
    : { precision: 'float32', precisionReason };
}

export interface MemoryUse {
  /** Bytes of values on the default device. */
  readonly allocated: number;
  /** Bytes held for arenas and code. */
  readonly reserved: number;
}

/** Memory that the default device holds. Host copies of small results are not counted. */
export function memory(): MemoryUse {
  return getDevice(defaultDeviceName()).memory();
}

/** Values that wait for a gradient between plans, while there is a memory budget. */
export interface HeldMemory {
  /** Bytes of what could be given up. */
  readonly bytes: number;
  /** How often a value was given up, and how often one was computed again because it was read or used. */
  readonly evictions: number;
  readonly restorations: number;
}

/**
 * What is held between plans: results of `debug.eager`, values read on the way, values that plans learned
 * to keep. Under a budget of bytes some are given up and computed again (docs/memory.md).
 *
 * @example
 * ```ts
 * heldMemory().bytes >= 0; // => true
 * ```
 */
export function heldMemory(): HeldMemory {
  const { bytes, evictions, restorations } = evaluator().held;
  return { bytes, evictions, restorations };
}

/** Drops all compiled plans and the memory they hold. What runs again is compiled again. */
export function clearPlans(): void {
  evaluator().clearPlans();
}

/** Counters since the start or the last `resetStats`: runs, plan hits and misses, kernels. */
export function stats(): Readonly<EvaluatorStats> {
  return { ...evaluator().stats };
}

/** Sets all counters to zero. */
export function resetStats(): void {
  const counters = evaluator().stats;
  for (const name of Object.keys(counters) as (keyof EvaluatorStats)[]) counters[name] = 0;
  const { held } = evaluator();
  held.evictions = 0;
  held.restorations = 0;
}

/**
 * The plans that ran last, newest first: their kernels, what fused and why not more, their memory,
 * and how many values they learned to keep for later.
 */
export function explain(options: { plans?: number } = {}): string {
  const { plans = 1 } = options;
  const recent = evaluator().recent.slice(0, plans);
  if (recent.length === 0) return 'nothing was computed yet';
  return recent.map(({ entry, device }) => explainEntry(entry, device)).join('\n\n');
}

/** What `explain` says of one plan. */
export function explainEntry(entry: Entry, device: Device): string {
  const kept = entry.learnedRoots.length;
  const learned = kept === 0 ? '' : `, keeps ${kept} value${kept === 1 ? '' : 's'} it learned`;
  const runs = `${entry.runs} run${entry.runs === 1 ? '' : 's'}`;
  const { measured } = entry;
  const hasTimes = measured !== null && measured.dispatches.length > 0;
  const times = hasTimes ? measured.dispatches.map((sum) => sum / measured.runs) : undefined;
  return `plan on ${device.name}: ${runs}${learned}\n${formatExplanation(entry.compiled, times)}`;
}

/** The memory of one plan. All in bytes, but for the arithmetic. */
export interface PlanMemory {
  /** What the plan holds while it runs, beside parameters, inputs and results. */
  readonly arenaBytes: number;
  /** The most that is alive at once: no arena can be smaller, in this order of kernels. */
  readonly lowerBound: number;
  /** The budget it was made under, and the arena without it; the same if it fits anyway. */
  readonly budget: number | 'sqrt' | null;
  readonly unbudgetedBytes: number;
  readonly savedBytes: number;
  /** Kernels that run again, their arithmetic, and the arithmetic without them. */
  readonly recomputedKernels: number;
  readonly extraFlops: number;
  readonly flops: number;
  /** How long it took to find out what to run again. */
  readonly searchMs: number;
}

/**
 * What the plans that ran last need, the newest first: the figures behind `explain()`.
 *
 * @example
 * ```ts
 * const x = randn([64, 64]);
 * evaluate(x.matmul(x).matmul(x));
 * const [memory] = planMemory();
 * memory?.budget; // => null
 * ```
 */
export function planMemory(options: { plans?: number } = {}): PlanMemory[] {
  const { plans = 1 } = options;
  return evaluator()
    .recent.slice(0, plans)
    .map(({ entry: { compiled } }) => {
      const { plan, arenaLowerBound, budget, kernels } = compiled;
      const { arenaBytes } = plan;
      const unbudgetedBytes = budget?.unbudgetedBytes ?? arenaBytes;
      return {
        arenaBytes,
        lowerBound: arenaLowerBound,
        budget: budget?.budget ?? null,
        unbudgetedBytes,
        savedBytes: unbudgetedBytes - arenaBytes,
        recomputedKernels: budget?.recomputed ?? 0,
        extraFlops: budget?.extraFlops ?? 0,
        flops: budget?.flops ?? kernels.reduce((sum, { flops }) => sum + flops, 0),
        searchMs: budget?.searchMs ?? 0,
      };
    });
}

/**
 * Runs `work` and measures every kernel that it executes; `explain()` then shows the times, the mean
 * of all runs, and what each kernel reaches. Kernels run one after the other meanwhile. Devices that
 * cannot measure (wasm) just run.
 *
 * @example
 * ```ts
 * const x = randn([64, 64]);
 * await profile(() => evaluate(x.matmul(x)));
 * explain(); // has the columns ms and reached
 * ```
 */
export async function profile(work: () => unknown): Promise<void> {
  checkFunction('profile', work);
  const before = settings.profiling;
  settings.profiling = true;
  try {
    await work();
  } finally {
    settings.profiling = before;
  }
}

/** Switches for finding mistakes. Each costs time; none changes results. */
export const debug = {
  /** Compute every operation as soon as it is made, so that a debugger sees values. */
  get eager(): boolean {
    return settings.eager;
  },
  set eager(on: boolean) {
    settings.eager = on;
  },
  /** Throw at the first operation that makes a NaN or an infinity, naming it and its inputs. */
  get checkNaN(): boolean {
    return settings.checkNaN;
  },
  set checkNaN(on: boolean) {
    settings.checkNaN = on;
  },
  /** Whether operations are joined into kernels: off only to find out whether that matters. */
  get fusion(): boolean {
    return settings.fusion;
  },
  set fusion(on: boolean) {
    settings.fusion = on;
  },
};
