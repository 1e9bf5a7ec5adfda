// Which frequency stands where in a transform, and moving zero to the middle.
import { checkInteger } from '../../base/checks.ts';
import { normalizeAxes } from '../../base/shape.ts';
import { type AxisArgument, nodeOf } from '../tensor/arguments.ts';
import { type CreationOptions, tensor } from '../tensor/creation.ts';
import { roll } from '../tensor/shaping.ts';
import type { Tensor } from '../tensor/tensor.ts';

/**
 * Frequencies of the results of `fft` over `n` samples that are `d` apart: 0, 1, ..., -2, -1, over n d.
 *
 * @example
 * ```ts
 * fftfreq(4); // => [0, 0.25, -0.5, -0.25]
 * ```
 */
export function fftfreq(n: number, d = 1, options: CreationOptions = {}): Tensor {
  checkInteger('fftfreq', 'n', n, 0);
  const first = Math.ceil(n / 2);
  const values = Array.from({ length: n }, (_, k) => (k < first ? k : k - n) / (n * d));
  return tensor(Float64Array.from(values), { dtype: 'float32', ...options });
}

/** Frequencies of the results of `rfft`: 0, 1, ..., n/2, over n d. */
export function rfftfreq(n: number, d = 1, options: CreationOptions = {}): Tensor {
  checkInteger('rfftfreq', 'n', n, 0);
  const values = Array.from({ length: Math.floor(n / 2) + 1 }, (_, k) => k / (n * d));
  return tensor(Float64Array.from(n === 0 ? [] : values), { dtype: 'float32', ...options });
}

function shifted(op: string, x: Tensor, axes: AxisArgument | undefined, back: boolean): Tensor {
  const { shape } = nodeOf(op, x);
  const list = normalizeAxes(op, axes, shape.length);
  const by = list.map((axis) => {
    const half = Math.floor((shape[axis] as number) / 2);
    return back ? -half : half;
  });
  return list.length === 0 ? x : roll(x, by, list);
}

/**
 * The zero frequency in the middle of each axis (all by default). These are axes of the tensor as it is:
 * of complex numbers leave the last one out.
 *
 * @example
 * ```ts
 * fftshift(fftfreq(4)); // => [-0.5, -0.25, 0, 0.25]
 * ```
 */
export function fftshift(x: Tensor, axes?: AxisArgument): Tensor {
  return shifted('fftshift', x, axes, false);
}

/** The inverse of `fftshift`. */
export function ifftshift(x: Tensor, axes?: AxisArgument): Tensor {
  return shifted('ifftshift', x, axes, true);
}
