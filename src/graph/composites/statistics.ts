// Means and variances over axes.
import { isFloat } from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import { normalizeAxes, reducedShape } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import {
  add,
  constant,
  detach,
  mul,
  narrowAxis,
  relu,
  reshape,
  square,
  sub,
  sum,
} from '../ops/index.ts';

type Axes = number | readonly number[];

function checkFloat(op: string, x: Node): void {
  if (isFloat(x.dtype)) return;
  throw new DTypeError(`takes floats, not ${x.dtype}`, { op, hint: "cast to 'float32' first" });
}

function countOf(x: Node, axes: readonly number[]): number {
  return axes.reduce((count, axis) => count * x.shape[axis]!, 1);
}

/** Mean over axes (all by default); of nothing, NaN. */
export function mean(x: Node, axes?: Axes, keepdims = false): Node {
  checkFloat('mean', x);
  const normal = normalizeAxes('mean', axes, x.shape.length);
  if (normal.length === 0) return x;
  return mul(sum(x, normal, keepdims), constant(1 / countOf(x, normal), x.dtype));
}

/**
 * Variance over axes (all by default), in two passes: sum((x - mean)²) / (count - correction).
 * NaN where the divisor is not positive.
 */
export function variance(x: Node, axes?: Axes, correction = 1, keepdims = false): Node {
  checkFloat('variance', x);
  const normal = normalizeAxes('variance', axes, x.shape.length);
  const centered = sub(x, mean(x, normal, true));
  const divisor = Math.max(countOf(x, normal) - correction, 0);
  const total = sum(square(centered), normal, true);
  const result = mul(total, constant(1 / divisor, x.dtype));
  return reshape(result, reducedShape(x.shape, normal, keepdims));
}

/**
 * Mean and biased variance over axes, kept with size 1, from one pass over memory: sums of d and d²
 * for d = x - shift, where the shift is the first element of each slice (Chan, Golub and LeVeque,
 * 1983: shifted data). Good to float32's precision unless a slice's first element is an outlier by
 * thousands of deviations; `variance` takes two passes and has no such limit.
 */
export function moments(x: Node, axes: Axes): { mean: Node; variance: Node } {
  checkFloat('moments', x);
  const normal = normalizeAxes('moments', axes, x.shape.length);
  const count = countOf(x, normal);
  if (count === 0) {
    return { mean: mean(x, normal, true), variance: variance(x, normal, 0, true) };
  }
  // Both results are the same for any shift, so that no gradient runs through it.
  const shift = detach(normal.reduce((part, axis) => narrowAxis(part, axis, 0, 1), x));
  const distance = sub(x, shift);
  const scale = constant(1 / count, x.dtype);
  const first = mul(sum(distance, normal, true), scale);
  const second = mul(sum(square(distance), normal, true), scale);
  // Rounding must not make a variance negative.
  return { mean: add(shift, first), variance: relu(sub(second, square(first))) };
}
