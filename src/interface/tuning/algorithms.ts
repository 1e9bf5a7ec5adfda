// Which schedule computes a product or a convolution: `setAlgorithms`, measuring on the device, and
// what was measured, kept in a file where there are files.
import { viewTypedArray } from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import type { AlgorithmPolicy, Tuner } from '../../compile/tune/algorithms.ts';
import type { Device } from '../../runtime/device.ts';
import type { Trial } from '../../compile/tune/trial.ts';
import { openAlgorithmStore } from './algorithm-store.ts';

export interface AlgorithmOptions {
  /**
   * `heuristic`: by estimate, without measuring. `profile`: each usable schedule is measured once on
   * this device, and the fastest is remembered; the first run of a plan takes longer.
   */
  readonly strategy?: 'heuristic' | 'profile';
  /**
   * Only schedules in which an element's result does not depend on the sizes around it (a batch's
   * other images, say). Results never depend on the number of threads.
   */
  readonly reproducible?: boolean;
  /** Most bytes of memory that one product or convolution takes beside its operands and result. */
  readonly workspaceLimit?: number;
  /** Most milliseconds spent in measuring, for the whole process; then estimates decide. */
  readonly timeLimit?: number;
}

const DEFAULTS = {
  strategy: 'heuristic',
  reproducible: false,
  workspaceLimit: Infinity,
  timeLimit: 20_000,
} satisfies Required<AlgorithmOptions>;

let chosen: Required<AlgorithmOptions> = DEFAULTS;
let chosenKey = keyOf(DEFAULTS);
let spent = 0;

/**
 * Says how the schedules of products and convolutions are chosen. What is left out goes back to its
 * default: `heuristic`, not restricted to reproducible schedules, any workspace, 20 s of measuring.
 *
 * @throws ArgumentError if an option is none of its values.
 *
 * @example
 * ```ts
 * setAlgorithms({ strategy: 'profile', workspaceLimit: 64 * 2 ** 20 });
 * algorithms().strategy; // => 'profile'
 * setAlgorithms({});
 * ```
 */
export function setAlgorithms(options: AlgorithmOptions): void {
  chosen = completeAlgorithms('setAlgorithms', options);
  chosenKey = keyOf(chosen);
}

/** All options, with defaults for those left out. Throws ArgumentError if one is none of its values. */
export function completeAlgorithms(
  op: string,
  options: AlgorithmOptions,
): Required<AlgorithmOptions> {
  const next = { ...DEFAULTS, ...options };
  if (next.strategy !== 'heuristic' && next.strategy !== 'profile') {
    throw new ArgumentError(
      `the strategy is 'heuristic' or 'profile', got '${String(next.strategy)}'`,
      { op, hint: 'reproducible and workspaceLimit are options of their own' },
    );
  }
  for (const name of ['workspaceLimit', 'timeLimit'] as const) {
    if (typeof next[name] !== 'number' || !(next[name] >= 0)) {
      throw new ArgumentError(`${name} is ${String(next[name])}, not a number from 0`, { op });
    }
  }
  return next;
}

/** How schedules are chosen now. */
export function algorithms(): Required<AlgorithmOptions> {
  return { ...chosen };
}

/** Text that differs between policies under which plans may differ. */
export function policyKey(): string {
  return chosenKey;
}

function keyOf({ strategy, reproducible, workspaceLimit }: Required<AlgorithmOptions>): string {
  return `${strategy}:${reproducible ? 1 : 0}:${workspaceLimit}`;
}

/** The policy for compiling a plan for `device`, by default as `setAlgorithms` said. */
export function policyFor(
  device: Device,
  options: Required<AlgorithmOptions> = chosen,
): AlgorithmPolicy {
  const { strategy, reproducible, workspaceLimit, timeLimit } = options;
  const tuner = strategy === 'profile' ? tunerFor(device, timeLimit) : undefined;
  return { reproducible, workspaceLimit, tuner };
}

function tunerFor(device: Device, timeLimit: number): Tuner {
  const store = openAlgorithmStore(device.fingerprint ?? device.name);
  return {
    lookup: (key) => store.get(key),
    remember: (key, times) => store.set(key, times),
    measure: (trial) => {
      if (spent >= timeLimit) return null;
      const start = performance.now();
      const time = measureTrial(device, trial);
      spent += performance.now() - start;
      return time;
    },
  };
}

/** Runs of one candidate at least and at most, and about how many milliseconds they may take. */
const LEAST_RUNS = 3;
const MOST_RUNS = 50;
const RUNS_MS = 30;

/** The shortest of several runs, in milliseconds: what disturbs a run makes it longer. */
function measureTrial(device: Device, { plan, ahead }: Trial): number {
  const executable = device.load(plan);
  const buffers = plan.bindings.map(({ bytes }) => {
    const buffer = device.allocate(bytes);
    device.write(buffer, 0, ordinaryNumbers(bytes));
    return buffer;
  });
  const scalars = new Float64Array(plan.scalars.length).fill(1);
  try {
    if (ahead !== null) {
      const before = device.load(ahead);
      before.run(buffers, scalars);
      before.dispose();
    }
    let best = Infinity;
    const begin = performance.now();
    for (let run = 0; run < MOST_RUNS; run++) {
      const start = performance.now();
      executable.run(buffers, scalars);
      best = Math.min(best, performance.now() - start);
      if (run + 1 >= LEAST_RUNS && performance.now() - begin > RUNS_MS) break;
    }
    return best;
  } finally {
    executable.dispose();
    for (const buffer of buffers) device.free(buffer);
  }
}

/**
 * Bytes that are small floats and, read as indices, small numbers: denormals, infinities and NaN
 * would be measured instead of the schedule.
 */
function ordinaryNumbers(bytes: number): Uint8Array {
  const padded = new ArrayBuffer(Math.ceil(bytes / 4) * 4);
  const floats = viewTypedArray('float32', padded, 0, padded.byteLength / 4);
  for (let i = 0; i < floats.length; i++) floats[i] = ((i * 37) % 64) / 64 + 0.5;
  return new Uint8Array(padded, 0, bytes);
}
