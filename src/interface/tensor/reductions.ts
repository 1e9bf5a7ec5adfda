// Reductions: one value from many along axes. `axis` is a number, a list, or left out for all;
// negative axes count from the end, and `keepdims` leaves reduced axes with size 1.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError } from '../../base/errors.ts';
import { normalizeAxes, normalizeAxis, reducedShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { type AxisArgument, type KeepDims, nodeOf } from './arguments.ts';
import { inFloat32, widened } from './autocast.ts';
import { castNode, numberNode, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';
import { floatNode } from './unary.ts';

/** Values along an axis and where they stood. */
export interface ValuesAndIndices {
  readonly values: Tensor;
  /** int32 positions along the axis. */
  readonly indices: Tensor;
}

/** Number of elements that are reduced to one. */
export function reducedCount(node: Node, axes: readonly number[]): number {
  let count = 1;
  for (const axis of axes) count *= node.shape[axis] as number;
  return count;
}

/** Mean over normalized axes as a node; the count is a constant of the shape. */
export function meanNode(node: Node, axes: readonly number[], keepdims: boolean): Node {
  if (axes.length === 0) return node;
  return inFloat32(node, (wide) => {
    const total = ops.sum(wide, axes, keepdims);
    return ops.mul(total, ops.constant(1 / reducedCount(node, axes), wide.dtype));
  });
}

/** Sum; integers and bools accumulate in int32. */
export function sum(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  return wrap(ops.sum(nodeOf('sum', x), axis ?? undefined, options.keepdims === true));
}

/** Mean; integers become float32. */
export function mean(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  const node = floatNode('mean', x);
  const axes = normalizeAxes('mean', axis ?? undefined, node.shape.length);
  return wrap(meanNode(node, axes, options.keepdims === true));
}

/** Product; integers and bools multiply in int32. */
export function prod(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  return wrap(ops.prod(nodeOf('prod', x), axis ?? undefined, options.keepdims === true));
}

function extreme(
  op: 'max' | 'min',
  x: Tensor,
  axis: number | null | undefined,
  options: KeepDims,
): Tensor | ValuesAndIndices {
  const node = nodeOf(op, x);
  if (axis === undefined || axis === null) {
    return wrap(op === 'max' ? ops.max(node) : ops.min(node));
  }
  if (node.shape.length === 0) {
    normalizeAxes(op, [], 0);
    return { values: wrap(node), indices: wrap(ops.full([], 0, 'int32')) };
  }
  const normal = normalizeAxis(op, axis, node.shape.length);
  const find = op === 'max' ? ops.argmax : ops.argmin;
  const where = find(node, normal, true);
  const shape = reducedShape(node.shape, [normal], options.keepdims === true);
  // Gathered at the position, so that among ties only the reported one receives the gradient.
  const values = ops.reshape(ops.gather(node, where, normal), shape);
  return { values: wrap(values), indices: wrap(ops.reshape(where, shape)) };
}

/**
 * The largest element of all; with `axis`, the largest along it and its position (the first of
 * equals, which alone receives the gradient). Throws ShapeError of nothing.
 *
 * @example
 * ```ts
 * max(tensor([[1, 5], [7, 2]])); // => 7
 * max(tensor([[1, 5], [7, 2]]), 1).indices; // => [1, 0]
 * ```
 */
export function max(x: Tensor): Tensor;
export function max(x: Tensor, axis: number, options?: KeepDims): ValuesAndIndices;
export function max(x: Tensor, axis?: number, options: KeepDims = {}): Tensor | ValuesAndIndices {
  return extreme('max', x, axis, options);
}

/** The smallest element; else as `max`. */
export function min(x: Tensor): Tensor;
export function min(x: Tensor, axis: number, options?: KeepDims): ValuesAndIndices;
export function min(x: Tensor, axis?: number, options: KeepDims = {}): Tensor | ValuesAndIndices {
  return extreme('min', x, axis, options);
}

/** The largest values along axes; equal ones share the gradient. */
export function amax(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  return wrap(ops.max(nodeOf('amax', x), axis ?? undefined, options.keepdims === true));
}

/** The smallest values along axes; equal ones share the gradient. */
export function amin(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  return wrap(ops.min(nodeOf('amin', x), axis ?? undefined, options.keepdims === true));
}

/** int32 position of the first largest element, in the flattened tensor if no axis is given. */
export function argmax(x: Tensor, axis?: number | null, options: KeepDims = {}): Tensor {
  return wrap(ops.argmax(nodeOf('argmax', x), axis ?? undefined, options.keepdims === true));
}

/** int32 position of the first smallest element, in the flattened tensor if no axis is given. */
export function argmin(x: Tensor, axis?: number | null, options: KeepDims = {}): Tensor {
  return wrap(ops.argmin(nodeOf('argmin', x), axis ?? undefined, options.keepdims === true));
}

/** Whether all elements are nonzero. */
export function all(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  return wrap(ops.all(nodeOf('all', x), axis ?? undefined, options.keepdims === true));
}

/** Whether any element is nonzero. */
export function any(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  return wrap(ops.any(nodeOf('any', x), axis ?? undefined, options.keepdims === true));
}

/** int32 number of nonzero elements. */
export function countNonzero(
  x: Tensor,
  axis?: AxisArgument | null,
  options: KeepDims = {},
): Tensor {
  const flags = ops.toBool(nodeOf('countNonzero', x));
  return wrap(ops.sum(flags, axis ?? undefined, options.keepdims === true));
}

// ---- moments ----------------------------------------------------------------------------------

export interface VarianceOptions extends KeepDims {
  /** The divisor is the count minus this: 1 (default) is unbiased, 0 of the population. */
  readonly correction?: number;
}

/** Variance and mean (both with reduced axes kept) over normalized axes. */
export function momentNodes(
  node: Node,
  axes: readonly number[],
  correction: number,
): { variance: Node; mean: Node } {
  const average = meanNode(node, axes, true);
  const centered = ops.sub(node, average);
  const squares = ops.sum(ops.mul(centered, centered), axes, true);
  const divisor = Math.max(reducedCount(node, axes) - correction, 0);
  const variance = ops.mul(squares, ops.constant(1 / divisor, node.dtype));
  return { variance, mean: average };
}

function moments(
  op: string,
  x: Tensor,
  axis: AxisArgument | null | undefined,
  options: VarianceOptions,
): { variance: Node; mean: Node } {
  const node = floatNode(op, x);
  const axes = normalizeAxes(op, axis ?? undefined, node.shape.length);
  const wide = widened(node);
  const { variance, mean: average } = momentNodes(wide, axes, options.correction ?? 1);
  const shape = reducedShape(node.shape, axes, options.keepdims === true);
  const finish = (result: Node): Node => castNode(ops.reshape(result, shape), node.dtype);
  return { variance: finish(variance), mean: finish(average) };
}

/** Variance, unbiased unless `correction` is 0; NaN of one element. */
export function variance(
  x: Tensor,
  axis?: AxisArgument | null,
  options: VarianceOptions = {},
): Tensor {
  return wrap(moments('var', x, axis, options).variance);
}

/** Standard deviation: the root of the variance. Of equal elements the gradient is 0. */
export function std(x: Tensor, axis?: AxisArgument | null, options: VarianceOptions = {}): Tensor {
  return wrap(rootOfSum(moments('std', x, axis, options).variance, ops.sqrt));
}

/** `[variance, mean]`. */
export function varMean(
  x: Tensor,
  axis?: AxisArgument | null,
  options: VarianceOptions = {},
): [Tensor, Tensor] {
  const both = moments('varMean', x, axis, options);
  return [wrap(both.variance), wrap(both.mean)];
}

/** `[standard deviation, mean]`. */
export function stdMean(
  x: Tensor,
  axis?: AxisArgument | null,
  options: VarianceOptions = {},
): [Tensor, Tensor] {
  const both = moments('stdMean', x, axis, options);
  return [wrap(rootOfSum(both.variance, ops.sqrt)), wrap(both.mean)];
}

// ---- norms and exponentials -------------------------------------------------------------------

/** The p-norm over normalized axes; of a zero vector the gradient is 0, as in PyTorch. */
export function normNode(node: Node, p: number, axes: readonly number[], keepdims: boolean): Node {
  const { dtype } = node;
  const zero = ops.constant(0, dtype);
  if (p === Infinity) return ops.max(ops.abs(node), axes, keepdims);
  if (p === -Infinity) return ops.min(ops.abs(node), axes, keepdims);
  if (p === 0) return ops.sum(castNode(ops.notEqual(node, zero), dtype), axes, keepdims);
  if (p === 1) return ops.sum(ops.abs(node), axes, keepdims);
  if (p === 2) {
    const total = ops.sum(ops.mul(node, node), axes, keepdims);
    return rootOfSum(total, ops.sqrt);
  }
  const power = numberNode(p, dtype);
  const magnitude = ops.abs(node);
  // |x|^p has no slope at 0 for p < 1; a detour by 1 keeps NaN out of the gradient.
  const isZero = ops.equal(magnitude, zero);
  const safe = ops.select(isZero, ops.constant(1, dtype), magnitude);
  const raised = ops.select(
    isZero,
    p > 0 ? zero : ops.constant(Infinity, dtype),
    ops.pow(safe, power),
  );
  const total = ops.sum(raised, axes, keepdims);
  return rootOfSum(total, (value) => ops.pow(value, numberNode(1 / p, dtype)));
}

/** A root whose gradient at 0 is 0 in place of infinity. */
function rootOfSum(total: Node, root: (value: Node) => Node): Node {
  const zero = ops.constant(0, total.dtype);
  const isZero = ops.equal(total, zero);
  return ops.select(isZero, zero, root(ops.select(isZero, ops.constant(1, total.dtype), total)));
}

/** The p-norm of the elements along the axes (2 by default; Infinity for the largest). */
export function norm(
  x: Tensor,
  p: number | 'fro' = 2,
  axis?: AxisArgument | null,
  options: KeepDims = {},
): Tensor {
  const node = nodeOf('norm', x);
  if (!isFloat(node.dtype)) {
    throw new DTypeError(`takes floats, not ${node.dtype}`, {
      op: 'norm',
      hint: "cast to 'float32' first",
    });
  }
  const order = p === 'fro' ? 2 : p;
  if (typeof order !== 'number' || Number.isNaN(order)) {
    throw new ArgumentError(`p must be a number or 'fro', got ${String(p)}`, { op: 'norm' });
  }
  const axes = normalizeAxes('norm', axis ?? undefined, node.shape.length);
  return wrap(normNode(node, order, axes, options.keepdims === true));
}

/** log(sum(exp(x))) over normalized axes, shifted by the maximum. */
export function logsumexpNode(node: Node, axes: readonly number[], keepdims: boolean): Node {
  if (axes.length === 0) return node;
  if (reducedCount(node, axes) === 0) {
    return ops.log(ops.sum(ops.exp(node), axes, keepdims));
  }
  const { dtype } = node;
  const largest = ops.detach(ops.max(node, axes, true));
  const shift = ops.select(ops.isInf(largest), ops.constant(0, dtype), largest);
  const total = ops.log(ops.sum(ops.exp(ops.sub(node, shift)), axes, true));
  return ops.reshape(ops.add(total, shift), reducedShape(node.shape, axes, keepdims));
}

/** log(sum(exp(x))) without overflow. */
export function logsumexp(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  const node = floatNode('logsumexp', x);
  const axes = normalizeAxes('logsumexp', axis ?? undefined, node.shape.length);
  return wrap(logsumexpNode(node, axes, options.keepdims === true));
}
