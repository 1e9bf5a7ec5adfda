// How long runs take: warm-up, repeats, percentiles; and several candidates by turns, so that what slows
// the machine for a while slows them all.

export interface Timing {
  readonly runs: number;
  readonly mean: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** Of times in milliseconds; percentiles are the least time that so many runs stayed within. */
export function timingOf(times: readonly number[]): Timing {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN;
  const sum = sorted.reduce((total, time) => total + time, 0);
  return {
    runs: sorted.length,
    mean: sum / sorted.length,
    min: at(0),
    p50: at(0.5),
    p90: at(0.9),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  };
}

/** Times of `repeat` rounds, each of one run of every candidate, after `warmup` rounds. */
export async function timeByTurns(
  candidates: readonly (() => Promise<unknown>)[],
  warmup: number,
  repeat: number,
  onRound: (round: number) => void = () => {},
): Promise<number[][]> {
  const times = candidates.map((): number[] => []);
  for (let round = -warmup; round < repeat; round++) {
    if (round >= 0) onRound(round);
    for (const [i, run] of candidates.entries()) {
      const start = performance.now();
      await run();
      if (round >= 0) times[i]?.push(performance.now() - start);
    }
  }
  return times;
}

/** Milliseconds in three decimals. */
export const ms = (time: number): string => time.toFixed(3);
