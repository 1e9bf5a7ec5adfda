// Order: sorting, the largest elements, running sums and extremes, searches.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis, reducedShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, type KeepDims, nodeOf } from './arguments.ts';
import { valuesNow } from './conversion.ts';
import { castNode, wrap } from './handle.ts';
import { indexNode } from './index-values.ts';
import type { ValuesAndIndices } from './reductions.ts';
import type { Tensor } from './tensor.ts';

export interface SortOptions {
  /** Largest first. */
  readonly descending?: boolean;
  /** Equal elements keep their order; they always do. */
  readonly stable?: boolean;
}

/** An operand with at least one axis, the normalized axis, and its own shape to go back to. */
function alongAxis(
  op: string,
  x: Tensor,
  axis: number,
): { node: Node; axis: number; scalar: boolean } {
  const given = nodeOf(op, x);
  const scalar = given.shape.length === 0;
  const node = scalar ? ops.reshape(given, [1]) : given;
  return { node, axis: normalizeAxis(op, axis, node.shape.length), scalar };
}

function pair(node: Node, indices: Node, axis: number, scalar: boolean): ValuesAndIndices {
  const values = ops.gather(node, indices, axis);
  const shape = scalar ? [] : values.shape;
  return { values: wrap(ops.reshape(values, shape)), indices: wrap(ops.reshape(indices, shape)) };
}

/**
 * Sorted along an axis, and where each element stood (int32). Stable; NaN counts as the largest.
 *
 * @example
 * ```ts
 * sort(tensor([3, 1, 2])).values; // => [1, 2, 3]
 * sort(tensor([3, 1, 2])).indices; // => [1, 2, 0]
 * ```
 */
export function sort(x: Tensor, axis = -1, options: SortOptions = {}): ValuesAndIndices {
  const given = alongAxis('sort', x, axis);
  const order = ops.argsort(given.node, given.axis, options.descending === true);
  return pair(given.node, order, given.axis, given.scalar);
}

/** int32 positions that sort `x` along an axis. */
export function argsort(x: Tensor, axis = -1, options: SortOptions = {}): Tensor {
  const { node, axis: normal, scalar } = alongAxis('argsort', x, axis);
  const order = ops.argsort(node, normal, options.descending === true);
  return wrap(scalar ? ops.reshape(order, []) : order);
}

function checkCount(op: string, node: Node, axis: number, k: number, low: number): void {
  const size = node.shape[axis] as number;
  if (!Number.isInteger(k) || k < low || k > size) {
    throw new ShapeError(
      `k must lie between ${low} and ${size}, the size of axis ${axis} of ${formatShape(node.shape)}, got ${k}`,
      { op },
    );
  }
}

/** The `k` largest elements along an axis in order, and their positions. */
export function topk(
  x: Tensor,
  k: number,
  axis = -1,
  options: { largest?: boolean; sorted?: boolean } = {},
): ValuesAndIndices {
  const given = alongAxis('topk', x, axis);
  checkCount('topk', given.node, given.axis, k, 0);
  const order = ops.topkIndices(given.node, k, given.axis, options.largest !== false);
  return pair(given.node, order, given.axis, given.scalar);
}

/** Position, with its axis, of the k-th smallest element. */
function kthPosition(node: Node, axis: number, k: number): Node {
  return ops.narrowAxis(ops.topkIndices(node, k, axis, false), axis, k - 1, 1);
}

function pickAt(
  node: Node,
  position: Node,
  axis: number,
  scalar: boolean,
  keepdims: boolean,
): ValuesAndIndices {
  const shape = scalar ? [] : reducedShape(node.shape, [axis], keepdims);
  const values = ops.reshape(ops.gather(node, position, axis), shape);
  return { values: wrap(values), indices: wrap(ops.reshape(position, shape)) };
}

/** The k-th smallest element along an axis (k counts from 1), and its position. */
export function kthvalue(
  x: Tensor,
  k: number,
  axis = -1,
  options: KeepDims = {},
): ValuesAndIndices {
  const { node, axis: normal, scalar } = alongAxis('kthvalue', x, axis);
  checkCount('kthvalue', node, normal, k, 1);
  const position = kthPosition(node, normal, k);
  return pickAt(node, position, normal, scalar, options.keepdims === true);
}

/** Position of the lower median; of a NaN where there is one. */
function medianPosition(node: Node, axis: number): Node {
  const size = node.shape[axis] as number;
  if (size === 0) {
    throw new ShapeError(`axis ${axis} of ${formatShape(node.shape)} has no elements`, {
      op: 'median',
    });
  }
  const position = kthPosition(node, axis, Math.floor((size - 1) / 2) + 1);
  if (!isFloat(node.dtype)) return position;
  const isNaN = ops.isNaN(node);
  return ops.select(ops.any(isNaN, axis, true), ops.argmax(isNaN, axis, true), position);
}

/** The median (of an even count the lower); with an axis, along it and with its position. */
export function median(x: Tensor): Tensor;
export function median(x: Tensor, axis: number, options?: KeepDims): ValuesAndIndices;
export function median(
  x: Tensor,
  axis?: number,
  options: KeepDims = {},
): Tensor | ValuesAndIndices {
  if (axis === undefined) {
    const given = nodeOf('median', x);
    const flat = ops.reshape(given, [sizeOf(given.shape)]);
    return wrap(ops.reshape(ops.gather(flat, medianPosition(flat, 0), 0), []));
  }
  const { node, axis: normal, scalar } = alongAxis('median', x, axis);
  return pickAt(node, medianPosition(node, normal), normal, scalar, options.keepdims === true);
}

// ---- running values ---------------------------------------------------------------------------

/** A scan along an axis; numbers have one element to scan. */
function scan(
  op: string,
  x: Tensor,
  axis: number,
  run: (node: Node, axis: number) => Node,
): Tensor {
  const { node, axis: normal, scalar } = alongAxis(op, x, axis);
  const result = run(node, normal);
  return wrap(scalar ? ops.reshape(result, []) : result);
}

/** Running sum along an axis; integers and bools add in int32. */
export function cumsum(x: Tensor, axis: number): Tensor {
  return scan('cumsum', x, axis, (node, normal) => ops.cumsum(node, normal));
}

/** Running product along an axis; integers and bools multiply in int32. */
export function cumprod(x: Tensor, axis: number): Tensor {
  return scan('cumprod', x, axis, (node, normal) => ops.cumprod(node, normal));
}

/** Logarithm of the running sum of exponentials along an axis, without overflow. */
export function logcumsumexp(x: Tensor, axis: number): Tensor {
  return scan('logcumsumexp', x, axis, (node, normal) =>
    ops.logCumSumExp(isFloat(node.dtype) ? node : castNode(node, 'float32'), normal),
  );
}

/** The largest element so far along an axis, and where it stood (the last of equals). */
export function cummax(x: Tensor, axis: number): ValuesAndIndices {
  const given = alongAxis('cummax', x, axis);
  return pair(given.node, ops.runningExtreme(given.node, given.axis), given.axis, given.scalar);
}

/** The smallest element so far along an axis, and where it stood (the last of equals). */
export function cummin(x: Tensor, axis: number): ValuesAndIndices {
  const given = alongAxis('cummin', x, axis);
  const where = ops.runningExtreme(given.node, given.axis, true);
  return pair(given.node, where, given.axis, given.scalar);
}

// ---- searches and counts ----------------------------------------------------------------------

/**
 * Where values would be inserted into sorted sequences [.., n] so that these stay sorted: int32,
 * before equal elements, or after them with `right`. `values` may be a number.
 */
export function searchsorted(
  sorted: Tensor,
  values: Tensor | number,
  options: { right?: boolean } = {},
): Tensor {
  const op = 'searchsorted';
  const sequence = nodeOf(op, sorted);
  const wanted =
    typeof values === 'number'
      ? ops.full([], values, sequence.dtype)
      : castNode(nodeOf(op, values), sequence.dtype);
  return wrap(ops.searchSorted(sequence, wanted, options.right === true));
}

/**
 * How often each integer from 0 occurs in a vector: int32, or sums of `weights`. The length is one
 * more than the largest value, read at once, and at least `minlength`.
 */
export function bincount(
  x: Tensor,
  options: { weights?: Tensor | null; minlength?: number } = {},
): Tensor {
  const op = 'bincount';
  const { weights = null, minlength = 0 } = options;
  checkInteger(op, 'minlength', minlength, 0);
  const given = nodeOf(op, x);
  if (given.shape.length !== 1) {
    throw new ShapeError(`takes a vector, got ${formatShape(given.shape)}`, { op });
  }
  const known = valuesNow(op, x);
  let size = minlength;
  for (let i = 0; i < known.length; i++) {
    const value = known[i] as number;
    if (value < 0) throw new ArgumentError(`values must not be negative, got ${value}`, { op });
    size = Math.max(size, value + 1);
  }
  const dtype = weights === null ? 'int32' : weights.dtype;
  if (known.length === 0) return wrap(ops.full([size], 0, dtype));
  const index = indexNode(op, x, size);
  const added = weights === null ? ops.full(given.shape, 1, 'int32') : nodeOf(op, weights);
  return wrap(ops.addRows(added, index, 0, size));
}
