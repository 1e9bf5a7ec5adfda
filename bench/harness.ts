// What every benchmark shares: timing with warm-up, medians, and rows of results.
import { evaluate, noGrad, type Tensor } from 'tengen';

export interface Row {
  readonly workload: string;
  readonly peer: string;
  readonly threads: number;
  readonly medianMs: number;
  readonly minMs: number;
  readonly runs: number;
  /** Arithmetic of one run, if it is known. */
  readonly gflops?: number;
  /** Most memory that the process ever held. */
  readonly peakRssMb?: number;
  readonly notes?: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? high : (high + (sorted[middle - 1] ?? NaN)) / 2;
}

export interface TimingOptions {
  /** Runs before timing starts: plans compile, kernels reach the optimizing tier. */
  readonly warmup?: number;
  /** Least number of timed runs, and for how long to go on. */
  readonly runs?: number;
  readonly milliseconds?: number;
}

/** Times of single runs in milliseconds. */
export function time(run: () => void, options: TimingOptions = {}): number[] {
  const { warmup = 5, runs = 10, milliseconds = 1500 } = options;
  for (let i = 0; i < warmup; i++) run();
  const times: number[] = [];
  const begin = performance.now();
  while (times.length < runs || performance.now() - begin < milliseconds) {
    const start = performance.now();
    run();
    times.push(performance.now() - start);
    if (times.length >= 2000) break;
  }
  return times;
}

/**
 * Times of computing `result`, each freed when the next begins, as Python does by itself: a result
 * that waits for the garbage collector costs fresh pages, which take longer to clear than a softmax.
 */
export function timeResult(result: () => Tensor, options: TimingOptions = {}): number[] {
  return time(() => {
    using value = noGrad(result);
    evaluate(value);
  }, options);
}

export function rowOf(
  workload: string,
  threads: number,
  times: readonly number[],
  flop?: number,
): Row {
  const medianMs = median(times);
  return {
    workload,
    peer: 'tengen',
    threads,
    medianMs,
    minMs: Math.min(...times),
    runs: times.length,
    ...(flop === undefined ? {} : { gflops: flop / medianMs / 1e6 }),
  };
}

/** Reproducible noise in [-0.5, 0.5). */
export function noise(length: number, seed = 1): Float32Array {
  const values = new Float32Array(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 4294967296 - 0.5;
  }
  return values;
}
