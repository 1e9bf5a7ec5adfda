// Prints the polynomial coefficients of src/ir/math: minimax fits by Remez' exchange algorithm.
// Run: npx tsx scripts/experiments/fit.ts [name]
import { fits, type Fit } from './fit-functions.ts';

/** Solves a dense linear system by elimination with partial pivoting. */
function solve(matrix: number[][], right: number[]): number[] {
  const n = right.length;
  const rows = matrix.map((row, i) => [...row, right[i] ?? 0]);
  const at = (i: number, j: number): number => rows[i]?.[j] ?? 0;
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let i = column + 1; i < n; i++) {
      if (Math.abs(at(i, column)) > Math.abs(at(pivot, column))) pivot = i;
    }
    [rows[column], rows[pivot]] = [rows[pivot] ?? [], rows[column] ?? []];
    for (let i = 0; i < n; i++) {
      if (i === column) continue;
      const factor = at(i, column) / at(column, column);
      rows[i] = (rows[i] ?? []).map((value, j) => value - factor * at(column, j));
    }
  }
  return right.map((_, i) => at(i, n) / at(i, i));
}

interface Approximation {
  readonly coefficients: number[];
  readonly error: number;
}

/**
 * Minimax fit of `target(x) ~ sum of c[k] * x^powers[k]` under `weight`, some coefficients given.
 * Starts from Chebyshev nodes; exchanges all extrema of the error until they level out.
 */
function remez(fit: Fit, given: readonly (number | undefined)[]): Approximation {
  const { from, to, powers } = fit;
  const scale = Math.max(Math.abs(from), Math.abs(to));
  const free = powers.map((_, k) => k).filter((k) => given[k] === undefined);
  const target = (x: number): number => {
    let value = fit.target(x);
    for (const [k, coefficient] of given.entries()) {
      if (coefficient !== undefined) value -= coefficient * x ** (powers[k] ?? 0);
    }
    return value;
  };
  const count = free.length + 1;
  let nodes = Array.from({ length: count }, (_, i) => {
    const u = Math.cos((Math.PI * (2 * (count - i) - 1)) / (2 * count));
    return (from + to) / 2 + (u * (to - from)) / 2;
  });
  let scaled: number[] = [];
  const evaluate = (x: number): number =>
    free.reduce((sum, k, i) => sum + (scaled[i] ?? 0) * (x / scale) ** (powers[k] ?? 0), 0);
  const errorAt = (x: number): number => (evaluate(x) - target(x)) * fit.weight(x);
  let error = 0;
  for (let round = 0; round < 40; round++) {
    const matrix = nodes.map((x, i) => [
      ...free.map((k) => (x / scale) ** (powers[k] ?? 0)),
      (i % 2 === 0 ? 1 : -1) / fit.weight(x),
    ]);
    scaled = solve(matrix, nodes.map(target)).slice(0, free.length);
    const extrema = alternatingExtrema(errorAt, from, to);
    const sizes = extrema.map((x) => Math.abs(errorAt(x)));
    error = Math.max(...sizes);
    if (extrema.length < count) break;
    // Drop the smaller end until as many remain as are needed.
    while (extrema.length > count) {
      const first = Math.abs(errorAt(extrema[0] ?? 0));
      const last = Math.abs(errorAt(extrema.at(-1) ?? 0));
      if (first < last) extrema.shift();
      else extrema.pop();
    }
    nodes = extrema;
    const kept = nodes.map((x) => Math.abs(errorAt(x)));
    if (Math.max(...kept) / Math.min(...kept) < 1.001) break;
  }
  const coefficients = powers.map((power, k) => {
    const known = given[k];
    return known ?? (scaled[free.indexOf(k)] ?? 0) / scale ** power;
  });
  return { coefficients, error };
}

/** One extremum for each run of equal sign of the error. */
function alternatingExtrema(f: (x: number) => number, from: number, to: number): number[] {
  const samples = 4000;
  const extrema: number[] = [];
  let best = from;
  let sign = Math.sign(f(from));
  for (let i = 0; i <= samples; i++) {
    // Denser towards the ends, as the extrema are.
    const x = (from + to) / 2 - (Math.cos((Math.PI * i) / samples) * (to - from)) / 2;
    const value = f(x);
    if (Math.sign(value) !== sign && value !== 0) {
      extrema.push(best);
      best = x;
      sign = Math.sign(value);
    } else if (Math.abs(value) > Math.abs(f(best))) best = x;
  }
  extrema.push(best);
  return extrema;
}

/** The largest error of given coefficients, on a dense grid. */
function errorOf(fit: Fit, coefficients: readonly number[]): number {
  let error = 0;
  for (let i = 0; i <= 20000; i++) {
    const x = fit.from + ((fit.to - fit.from) * i) / 20000;
    const value = coefficients.reduce((sum, c, k) => sum + c * x ** (fit.powers[k] ?? 0), 0);
    error = Math.max(error, Math.abs((value - fit.target(x)) * fit.weight(x)));
  }
  return error;
}

/**
 * Rounds to float32: the first `n` coefficients one by one, each time fitting the others again, the
 * rest at once. Which n is best differs, so all are tried.
 */
function fitFloat32(fit: Fit): Approximation & { readonly unrounded: number } {
  const given: (number | undefined)[] = [...(fit.given ?? [])];
  let result = remez(fit, given);
  const unrounded = result.error;
  let best: Approximation | undefined;
  for (let n = 0; n < fit.powers.length - 1; n++) {
    const coefficients = result.coefficients.map(Math.fround);
    const error = errorOf(fit, coefficients);
    if (best === undefined || error < best.error) best = { coefficients, error };
    given[n] ??= coefficients[n];
    result = remez(fit, given);
  }
  if (best === undefined) throw new Error('nothing to fit');
  return { ...best, unrounded };
}

const bits = (error: number): string => Math.log2(error).toFixed(2);
const wanted = process.argv[2];
for (const fit of fits) {
  if (wanted !== undefined && !fit.name.startsWith(wanted)) continue;
  const { coefficients, error, unrounded } = fitFloat32(fit);
  const list = coefficients.map((c) => Number(c.toPrecision(9))).join(', ');
  process.stdout.write(
    `${fit.name}: error 2^${bits(error)} (before rounding 2^${bits(unrounded)})\n  [${list}]\n`,
  );
}
