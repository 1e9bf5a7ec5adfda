// Writing at positions, in masks, slices and diagonals; and tensors compared as wholes.
import { ShapeError } from '../../base/errors.ts';
import {
  broadcastShapes,
  formatShape,
  normalizeAxis,
  sameShape,
  sizeOf,
} from '../../base/shape.ts';
import * as ops from '../../graph/ops/index.ts';
import { type CloseOptions, isclose } from './arithmetic.ts';
import { nodeLike, nodeOf } from './arguments.ts';
import { valuesNow } from './conversion.ts';
import { castNode, promoteOperands, tensorOn, type TensorLike, wrap } from './handle.ts';
import { indexNode } from './index-values.ts';
import { setAt } from './indexing.ts';
import { slice } from './index-argument.ts';
import { assignRows, indexCopy } from './scattering.ts';
import { nonzero } from './selection.ts';
import type { Tensor } from './tensor.ts';

/**
 * x with `source` at positions of the flattened tensor; of equal positions the last one stays, or with
 * `accumulate` all are added.
 *
 * @example
 * ```ts
 * put(tensor([[1, 2], [3, 4]]), tensor([0, 3], { dtype: 'int32' }), tensor([9, 8])); // => [[9, 2], [3, 8]]
 * ```
 */
export function put(
  x: Tensor,
  index: Tensor,
  source: Tensor,
  options: { accumulate?: boolean } = {},
): Tensor {
  const op = 'put';
  const node = nodeOf(op, x);
  const size = sizeOf(node.shape);
  const positions = indexNode(op, index, size, { wrapNegative: true });
  const count = sizeOf(positions.shape);
  const values = castNode(nodeOf(op, source), node.dtype);
  if (sizeOf(values.shape) !== count) {
    throw new ShapeError(`${sizeOf(values.shape)} values for ${count} positions`, { op });
  }
  if (count === 0) return wrap(node);
  const flat = ops.reshape(node, [size]);
  const [rows, added] = [ops.reshape(positions, [count]), ops.reshape(values, [count])];
  const result =
    options.accumulate === true
      ? ops.add(flat, ops.addRows(added, rows, 0, size))
      : assignRows(flat, rows, added, 0);
  return wrap(ops.reshape(result, node.shape));
}

/**
 * x with `value` in the rows of a vector of positions along an axis.
 *
 * @example
 * ```ts
 * indexFill(tensor([[1, 2], [3, 4]]), 1, tensor([0], { dtype: 'int32' }), -1); // => [[-1, 2], [-1, 4]]
 * ```
 */
export function indexFill(x: Tensor, axis: number, index: Tensor, value: TensorLike): Tensor {
  const op = 'indexFill';
  const node = nodeOf(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const count = sizeOf(nodeOf(op, index).shape);
  const filling = nodeLike(op, value, node.dtype);
  if (filling.shape.length > 0) {
    throw new ShapeError(`the value must be a number, got ${formatShape(filling.shape)}`, { op });
  }
  const shape = node.shape.map((size, i) => (i === normal ? count : size));
  return indexCopy(x, axis, index, tensorOn(ops.expand(filling, shape)));
}

/**
 * x with the elements of `source`, one after the other, where the mask is true. The mask broadcasts to x.
 *
 * @example
 * ```ts
 * maskedScatter(tensor([1, 2, 3]), tensor([true, false, true]), tensor([9, 8])); // => [9, 2, 8]
 * ```
 */
export function maskedScatter(x: Tensor, mask: Tensor, source: Tensor): Tensor {
  const op = 'maskedScatter';
  const node = nodeOf(op, x);
  const shape = broadcastShapes(op, node.shape, nodeOf(op, mask).shape);
  const size = sizeOf(shape);
  const values = castNode(nodeOf(op, source), node.dtype);
  const count = sizeOf(values.shape);
  const chosen = ops.reshape(ops.expand(ops.toBool(mask.node), shape), [size]);
  if (size === 0) return wrap(ops.expand(node, shape));
  const flat = ops.reshape(ops.expand(node, shape), [size]);
  // How many are chosen before: the place of each in the source.
  const place = ops.sub(ops.cumsum(ops.cast(chosen, 'int32'), 0), ops.constant(1, 'int32'));
  const needed = ops.select(chosen, place, ops.constant(0, 'int32'));
  const checked = indexNode(op, tensorOn(needed), Math.max(count, 1));
  if (count === 0) return wrap(ops.reshape(flat, shape));
  const taken = ops.take(ops.reshape(values, [count]), checked, 0);
  return wrap(ops.reshape(ops.select(chosen, taken, flat), shape));
}

/** x with `source` as the slice at `index` along an axis. */
export function selectScatter(x: Tensor, source: Tensor, axis: number, index: number): Tensor {
  const normal = normalizeAxis('selectScatter', axis, nodeOf('selectScatter', x).shape.length);
  return setAt(x, [...new Array<':'>(normal).fill(':'), index], source);
}

/**
 * x with `source` in the range along an axis.
 *
 * @example
 * ```ts
 * sliceScatter(tensor([1, 2, 3, 4]), tensor([8, 9]), 0, 1, 3); // => [1, 8, 9, 4]
 * ```
 */
export function sliceScatter(
  x: Tensor,
  source: Tensor,
  axis = 0,
  start?: number,
  end?: number,
  step = 1,
): Tensor {
  const normal = normalizeAxis('sliceScatter', axis, nodeOf('sliceScatter', x).shape.length);
  return setAt(x, [...new Array<':'>(normal).fill(':'), slice(start, end, step)], source);
}

/** Positions of nonzero elements: int32 [count, axes]; `nonzero` by NumPy's name. */
export function argwhere(x: Tensor): Tensor {
  return nonzero(x);
}

// ---- wholes -----------------------------------------------------------------------------------

/**
 * Whether two tensors have the same shape and elements, read at once: a boolean. NaN equals nothing.
 * Throws DeviceError on devices that are read asynchronously.
 *
 * @example
 * ```ts
 * equal(tensor([1, 2]), tensor([1, 2])); // => true
 * ```
 */
export function equal(a: Tensor, b: Tensor): boolean {
  const [x, y] = promoteOperands('equal', a, b);
  nodeOf('equal', a);
  nodeOf('equal', b);
  if (!sameShape(x.shape, y.shape)) return false;
  return valuesNow('equal', tensorOn(ops.all(ops.equal(x, y))))[0] !== 0;
}

/**
 * Whether all elements are close, as `isclose` with the same tolerances says, read at once: a boolean.
 * Both broadcast.
 */
export function allclose(a: Tensor, b: Tensor, options: CloseOptions = {}): boolean {
  nodeOf('allclose', a);
  nodeOf('allclose', b);
  return valuesNow('allclose', tensorOn(ops.all(isclose(a, b, options).node)))[0] !== 0;
}
