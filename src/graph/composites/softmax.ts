// Exponentials normalized along axes, shifted by the maximum so that nothing overflows.
import { isFloat } from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import { normalizeAxes, reducedShape } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import {
  add,
  constant,
  detach,
  div,
  exp,
  isInf,
  log,
  max,
  reshape,
  select,
  sub,
  sum,
} from '../ops/index.ts';

type Axes = number | readonly number[];

function checkFloat(op: string, x: Node): void {
  if (isFloat(x.dtype)) return;
  throw new DTypeError(`takes floats, not ${x.dtype}`, { op, hint: "cast to 'float32' first" });
}

/** The maximum along the axes, kept, without a gradient: any shift gives the same result. */
function shiftOf(x: Node, axes: readonly number[]): Node {
  return detach(max(x, axes, true));
}

function isEmpty(x: Node, axes: readonly number[]): boolean {
  return axes.some((axis) => x.shape[axis] === 0);
}

/** exp(x) / sum(exp(x)) along the axes; a row of -inf alone gives NaN, as in PyTorch. */
export function softmax(x: Node, axes: Axes): Node {
  checkFloat('softmax', x);
  const normal = normalizeAxes('softmax', axes, x.shape.length);
  if (isEmpty(x, normal)) return x;
  const powers = exp(sub(x, shiftOf(x, normal)));
  return div(powers, sum(powers, normal, true));
}

/** log(softmax(x)) along the axes, exact where softmax underflows. */
export function logSoftmax(x: Node, axes: Axes): Node {
  checkFloat('logSoftmax', x);
  const normal = normalizeAxes('logSoftmax', axes, x.shape.length);
  if (isEmpty(x, normal)) return x;
  const shifted = sub(x, shiftOf(x, normal));
  return sub(shifted, log(sum(exp(shifted), normal, true)));
}

/** log(sum(exp(x))) over axes (all by default); of -inf alone, or of nothing, -inf. */
export function logSumExp(x: Node, axes?: Axes, keepdims = false): Node {
  checkFloat('logSumExp', x);
  const normal = normalizeAxes('logSumExp', axes, x.shape.length);
  if (normal.length === 0) return x;
  if (isEmpty(x, normal)) return log(sum(exp(x), normal, keepdims));
  const largest = shiftOf(x, normal);
  // An infinite maximum is its own result; shifting by it would give NaN.
  const shift = select(isInf(largest), constant(0, x.dtype), largest);
  const result = add(log(sum(exp(sub(x, shift)), normal, true)), shift);
  return reshape(result, reducedShape(x.shape, normal, keepdims));
}
