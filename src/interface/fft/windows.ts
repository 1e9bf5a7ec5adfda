// Windows: weights that fade a piece of a signal in and out.
import { checkInteger, checkNumber } from '../../base/checks.ts';
import { type CreationOptions, tensor } from '../tensor/creation.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface WindowOptions extends CreationOptions {
  /** One period of a periodic function (default), for transforms; false: symmetric, for filters. */
  readonly periodic?: boolean;
}

/** `weight` at x from 0 to 1 over a window of `length`. */
function windowOf(
  op: string,
  length: number,
  { periodic = true, ...options }: WindowOptions,
  weight: (x: number) => number,
): Tensor {
  checkInteger(op, 'the length', length, 0);
  const span = periodic ? length : length - 1;
  const values = Float64Array.from({ length }, (_, i) => (length === 1 ? 1 : weight(i / span)));
  return tensor(values, { dtype: 'float32', ...options });
}

/** Σ terms[k] (-1)^k cos(2π k x). */
function cosines(terms: readonly number[]): (x: number) => number {
  return (x) =>
    terms.reduce(
      (total, term, k) => total + (k % 2 === 0 ? term : -term) * Math.cos(2 * Math.PI * k * x),
      0,
    );
}

/**
 * Hann's window: (1 - cos(2π x)) / 2.
 *
 * @example
 * ```ts
 * hannWindow(4); // => [0, 0.5, 1, 0.5]
 * ```
 */
export function hannWindow(length: number, options: WindowOptions = {}): Tensor {
  return windowOf('hannWindow', length, options, (x) => Math.sin(Math.PI * x) ** 2);
}

/** Hamming's window: alpha - beta cos(2π x), 0.54 and 0.46 by default. */
export function hammingWindow(
  length: number,
  options: WindowOptions & { alpha?: number; beta?: number } = {},
): Tensor {
  const { alpha = 0.54, beta = 0.46, ...rest } = options;
  return windowOf('hammingWindow', length, rest, cosines([alpha, beta]));
}

/** Blackman's window: 0.42 - 0.5 cos(2π x) + 0.08 cos(4π x). */
export function blackmanWindow(length: number, options: WindowOptions = {}): Tensor {
  return windowOf('blackmanWindow', length, options, cosines([0.42, 0.5, 0.08]));
}

/** Bartlett's window: a triangle from 0 to 1 to 0. */
export function bartlettWindow(length: number, options: WindowOptions = {}): Tensor {
  return windowOf('bartlettWindow', length, options, (x) => 1 - Math.abs(2 * x - 1));
}

/** The modified Bessel function of order 0, by its power series. */
function besselI0(x: number): number {
  let term = 1;
  let total = 1;
  for (let k = 1; term > total * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    total += term;
  }
  return total;
}

/** Kaiser's window: I0(beta √(1 - (2x - 1)²)) / I0(beta), beta 12 by default. */
export function kaiserWindow(
  length: number,
  options: WindowOptions & { beta?: number } = {},
): Tensor {
  const { beta = 12, ...rest } = options;
  checkNumber('kaiserWindow', 'beta', beta, [-700, 700]);
  const end = besselI0(beta);
  return windowOf('kaiserWindow', length, rest, (x) => {
    const inside = Math.max(0, 1 - (2 * x - 1) ** 2);
    return besselI0(beta * Math.sqrt(inside)) / end;
  });
}
