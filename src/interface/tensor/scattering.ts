// Reading and writing along one axis at index tensors: gather, scatter and their relatives.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import {
  broadcastShapes,
  formatShape,
  normalizeAxis,
  type Shape,
  sizeOf,
} from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeLike, nodeOf } from './arguments.ts';
import { castNode, numberNode, type TensorLike, wrap } from './handle.ts';
import { indexNode } from './index-values.ts';
import type { Tensor } from './tensor.ts';

/** Numbers have one axis for the purpose of indexing along it. */
function atLeastOne(node: Node): Node {
  return node.shape.length === 0 ? ops.reshape(node, [1]) : node;
}

/** Throws unless the index has the rank of `shape` and fits it beside `axis`. */
function checkIndexShape(op: string, index: Node, shape: Shape, axis: number): void {
  const fits =
    index.shape.length === shape.length &&
    index.shape.every((size, i) => i === axis || size <= (shape[i] as number));
  if (!fits) {
    throw new ShapeError(
      `the index ${formatShape(index.shape)} does not fit ${formatShape(shape)} beside axis ${axis}`,
      { op, hint: 'it needs as many axes, none longer but the indexed one' },
    );
  }
}

/** The leading part of `node` that an index of `shape` reaches beside `axis`. */
function cropBeside(node: Node, shape: Shape, axis: number): Node {
  return ops.slice(
    node,
    node.shape.map((size, i) => (i === axis || size === shape[i] ? null : { stop: shape[i] })),
  );
}

/** `result[i][j] = x[index[i][j]][j]` for axis 0, and so on: the index has the result's shape. */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  const op = 'gather';
  const node = atLeastOne(nodeOf(op, x));
  const normal = normalizeAxis(op, axis, node.shape.length);
  const given = indexNode(op, index, node.shape[normal] as number);
  const positions = atLeastOne(given);
  checkIndexShape(op, positions, node.shape, normal);
  const source = cropBeside(node, positions.shape, normal);
  return wrap(ops.reshape(ops.gather(source, positions, normal), given.shape));
}

/** As `gather`, with index and `x` broadcast; without an axis in the flattened tensor. */
export function takeAlongDim(x: Tensor, index: Tensor, axis?: number): Tensor {
  const op = 'takeAlongDim';
  const node = nodeOf(op, x);
  if (axis === undefined) {
    const size = sizeOf(node.shape);
    const flat = indexNode(op, index, size, { wrapNegative: true });
    return wrap(ops.take(ops.reshape(node, [size]), ops.reshape(flat, [sizeOf(flat.shape)]), 0));
  }
  const normal = normalizeAxis(op, axis, node.shape.length);
  const length = node.shape[normal] as number;
  const positions = indexNode(op, index, length, { wrapNegative: true });
  const beside = (shape: Shape): number[] => shape.map((size, i) => (i === normal ? 1 : size));
  if (positions.shape.length !== node.shape.length) {
    throw new ShapeError(
      `the index ${formatShape(positions.shape)} has not as many axes as ${formatShape(node.shape)}`,
      { op },
    );
  }
  const common = broadcastShapes(op, beside(node.shape), beside(positions.shape));
  const withAxis = (size: number): number[] => common.map((n, i) => (i === normal ? size : n));
  const source = ops.expand(node, withAxis(length));
  const wanted = ops.expand(positions, withAxis(positions.shape[normal] as number));
  return wrap(ops.gather(source, wanted, normal));
}

/** A vector of positions along an axis. */
function rowIndex(op: string, index: Tensor, size: number): Node {
  const node = indexNode(op, index, size);
  if (node.shape.length > 1) {
    throw new ShapeError(`the index must be a vector, got ${formatShape(node.shape)}`, { op });
  }
  return atLeastOne(node);
}

/** Slices of `x` along an axis, at the positions of a vector. */
export function indexSelect(x: Tensor, axis: number, index: Tensor): Tensor {
  const op = 'indexSelect';
  const node = nodeOf(op, x);
  const source = atLeastOne(node);
  const normal = normalizeAxis(op, axis, source.shape.length);
  const rows = rowIndex(op, index, source.shape[normal] as number);
  const result = ops.take(source, rows, normal);
  return wrap(node.shape.length === 0 ? ops.reshape(result, []) : result);
}

function checkSource(op: string, source: Node, expected: Shape): void {
  if (source.shape.length !== expected.length || source.shape.some((n, i) => n !== expected[i])) {
    throw new ShapeError(
      `the source is ${formatShape(source.shape)}, expected ${formatShape(expected)}`,
      { op },
    );
  }
}

/** x with `alpha * source[i]` added at `index[i]` along an axis; repeated indices add up. */
export function indexAdd(
  x: Tensor,
  axis: number,
  index: Tensor,
  source: Tensor,
  options: { alpha?: number } = {},
): Tensor {
  const op = 'indexAdd';
  const node = nodeOf(op, x);
  const whole = atLeastOne(node);
  const normal = normalizeAxis(op, axis, whole.shape.length);
  const rows = rowIndex(op, index, whole.shape[normal] as number);
  const { alpha = 1 } = options;
  let values = atLeastOne(castNode(nodeOf(op, source), node.dtype));
  const count = rows.shape[0] as number;
  checkSource(
    op,
    values,
    whole.shape.map((n, i) => (i === normal ? count : n)),
  );
  if (alpha !== 1) values = ops.mul(values, numberNode(alpha, node.dtype));
  const added = ops.addRows(values, rows, normal, whole.shape[normal] as number);
  return wrap(ops.add(node, ops.reshape(added, node.shape)));
}

/** `node` with `values` in the rows of `index`; of equal indices the last one stays. */
export function assignRows(node: Node, index: Node, values: Node, axis: number): Node {
  const count = index.shape[0] as number;
  if (count === 0) return node;
  const size = node.shape[axis] as number;
  // Which value each row takes: the last that names it, or a negative number for none.
  const writer = ops.scatterReduce(ops.iota([count], 0, 'int32'), index, 0, size, 'max');
  const zero = ops.constant(0, 'int32');
  const taken = ops.take(values, ops.maximum(writer, zero), axis);
  const tail = node.shape.slice(axis + 1).map(() => 1);
  const written = ops.reshape(ops.greaterEqual(writer, zero), [size, ...tail]);
  return ops.select(written, taken, node);
}

/** x with `source[i]` in place of row `index[i]` along an axis. */
export function indexCopy(x: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
  const op = 'indexCopy';
  const node = nodeOf(op, x);
  const whole = atLeastOne(node);
  const normal = normalizeAxis(op, axis, whole.shape.length);
  const rows = rowIndex(op, index, whole.shape[normal] as number);
  const values = atLeastOne(castNode(nodeOf(op, source), node.dtype));
  const count = rows.shape[0] as number;
  checkSource(
    op,
    values,
    whole.shape.map((n, i) => (i === normal ? count : n)),
  );
  return wrap(ops.reshape(assignRows(whole, rows, values, normal), node.shape));
}

// ---- scatter ----------------------------------------------------------------------------------

interface Scatter {
  readonly node: Node;
  readonly whole: Node;
  readonly axis: number;
  readonly index: Node;
  readonly values: Node;
  readonly size: number;
}

/** Reads the arguments that all scatters share; the source is cropped to the index. */
function readScatter(
  op: string,
  x: Tensor,
  axis: number,
  index: Tensor,
  source: TensorLike,
): Scatter {
  const node = nodeOf(op, x);
  const whole = atLeastOne(node);
  const normal = normalizeAxis(op, axis, whole.shape.length);
  const size = whole.shape[normal] as number;
  const positions = atLeastOne(indexNode(op, index, size));
  checkIndexShape(op, positions, whole.shape, normal);
  const given = atLeastOne(nodeLike(op, source, node.dtype));
  let values: Node;
  if (typeof source === 'number' || typeof source === 'boolean') {
    values = ops.expand(given, positions.shape);
  } else {
    const fits =
      given.shape.length === positions.shape.length &&
      positions.shape.every((n, i) => n <= (given.shape[i] as number));
    if (!fits) {
      throw new ShapeError(
        `the source ${formatShape(given.shape)} does not cover the index ${formatShape(positions.shape)}`,
        { op },
      );
    }
    values = cropBeside(given, positions.shape, -1);
  }
  return { node, whole, axis: normal, index: positions, values, size };
}

/** A scattered result, which covers the index beside the axis, padded to the whole. */
function padBeside(result: Node, whole: Node, value: number): Node {
  const zeros = whole.shape.map(() => 0);
  const after = whole.shape.map((size, i) => size - (result.shape[i] as number));
  return after.every((amount) => amount === 0) ? result : ops.pad(result, zeros, after, value);
}

/**
 * x with `source` written at the index along an axis: `x[index[i][j]][j] = source[i][j]` for axis
 * 0. Of equal indices the last one stays. `source` may be a number.
 */
export function scatter(x: Tensor, axis: number, index: Tensor, source: TensorLike): Tensor {
  const given = readScatter('scatter', x, axis, index, source);
  const { node, whole, values, size } = given;
  const count = given.index.shape[given.axis] as number;
  if (sizeOf(given.index.shape) === 0) return wrap(node);
  const order = ops.iota(given.index.shape, given.axis, 'int32');
  const writer = ops.scatterReduce(order, given.index, given.axis, size, 'max');
  const zero = ops.constant(0, 'int32');
  const safe = ops.minimum(ops.maximum(writer, zero), ops.constant(count - 1, 'int32'));
  const taken = ops.gather(values, safe, given.axis);
  const written = padBeside(ops.greaterEqual(writer, zero), whole, 0);
  return wrap(ops.reshape(ops.select(written, padBeside(taken, whole, 0), whole), node.shape));
}

/** x with `source` added at the index along an axis; equal indices add up. */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, source: TensorLike): Tensor {
  const {
    node,
    whole,
    axis: normal,
    index: rows,
    values,
    size,
  } = readScatter('scatterAdd', x, axis, index, source);
  if (sizeOf(rows.shape) === 0) return wrap(node);
  const added = padBeside(ops.scatterAdd(values, rows, normal, size), whole, 0);
  return wrap(ops.reshape(ops.add(whole, added), node.shape));
}

/** How elements that meet at one place are joined. */
export type ScatterReduction = 'sum' | 'prod' | 'mean' | 'amax' | 'amin';

/**
 * Joins the elements of `source` that meet at each index along an axis, with what is there unless
 * `includeSelf` is false. Places that no index names keep their value.
 */
export function scatterReduce(
  x: Tensor,
  axis: number,
  index: Tensor,
  source: Tensor,
  reduce: ScatterReduction,
  options: { includeSelf?: boolean } = {},
): Tensor {
  const op = 'scatterReduce';
  const { includeSelf = true } = options;
  const given = readScatter(op, x, axis, index, source);
  const { node, whole, size } = given;
  if (sizeOf(given.index.shape) === 0) return wrap(node);
  const { dtype } = node;
  const ones = ops.full(given.index.shape, 1, 'int32');
  const counts = padBeside(ops.scatterAdd(ones, given.index, given.axis, size), whole, 0);
  const touched = ops.greater(counts, ops.constant(0, 'int32'));
  const joined = joinScattered(op, given, reduce);
  const merged = includeSelf ? mergeWithSelf(whole, joined, reduce) : joined;
  let result = merged;
  if (reduce === 'mean') {
    const own = ops.constant(includeSelf ? 1 : 0, 'int32');
    const total = ops.maximum(ops.add(counts, own), ops.constant(1, 'int32'));
    const divisor = castNode(total, dtype);
    result = isFloat(dtype) ? ops.div(merged, divisor) : ops.floorDivide(merged, divisor);
  }
  return wrap(ops.reshape(ops.select(touched, result, whole), node.shape));
}

function joinScattered(op: string, given: Scatter, reduce: ScatterReduction): Node {
  const { whole, values, index, axis, size } = given;
  switch (reduce) {
    case 'sum':
    case 'mean':
      return padBeside(ops.scatterAdd(values, index, axis, size), whole, 0);
    case 'prod':
      return padBeside(ops.scatterReduce(values, index, axis, size, 'prod'), whole, 1);
    case 'amax':
      return padBeside(ops.scatterReduce(values, index, axis, size, 'max'), whole, 0);
    case 'amin':
      return padBeside(ops.scatterReduce(values, index, axis, size, 'min'), whole, 0);
    default:
      reduce satisfies never;
      throw new ArgumentError(
        `reduce must be sum, prod, mean, amax or amin, got ${String(reduce)}`,
        {
          op,
        },
      );
  }
}

function mergeWithSelf(whole: Node, joined: Node, reduce: ScatterReduction): Node {
  switch (reduce) {
    case 'sum':
    case 'mean':
      return ops.add(whole, joined);
    case 'prod':
      return ops.mul(whole, joined);
    case 'amax':
      return ops.maximum(whole, joined);
    case 'amin':
      return ops.minimum(whole, joined);
    default:
      reduce satisfies never;
      return joined;
  }
}
