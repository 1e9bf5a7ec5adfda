// Indexing: `x.at(...)` reads, `x.set([...], value)` gives a copy in which that part is replaced.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { broadcastShapes, formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeLike, nodeOf } from './arguments.ts';
import { castNode, type TensorLike, wrap } from './handle.ts';
import {
  type AxisIndex,
  flatIndex,
  type IndexArgument,
  readIndices,
  type Slice,
} from './index-argument.ts';
import { indexNode } from './index-values.ts';
import { assignRows } from './scattering.ts';
import type { Tensor } from './tensor.ts';

type Range = Slice | null;

/** Integers and ranges applied; axes to be gathered stay whole. */
function sliceBasic(node: Node, indices: readonly AxisIndex[]): Node {
  const ranges: Range[] = [];
  const shape: number[] = [];
  let axis = 0;
  const rangeOf = (entry: AxisIndex): Range => {
    if (entry.kind === 'integer') {
      const { index } = entry;
      return { start: index, stop: index + 1, step: undefined } as Slice;
    }
    return entry.kind === 'range' ? entry.range : null;
  };
  for (const entry of indices) if (entry.kind !== 'newAxis') ranges.push(rangeOf(entry));
  const sliced = ops.slice(node, ranges);
  for (const entry of indices) {
    if (entry.kind === 'newAxis') shape.push(1);
    else {
      if (entry.kind !== 'integer') shape.push(sliced.shape[axis] as number);
      axis++;
    }
  }
  return ops.reshape(sliced, shape);
}

/** Reads at index tensors: in place where they stand side by side, else their axes come first. */
function gatherAxes(op: string, node: Node, gathers: readonly (Node | null)[]): Node {
  const axes = gathers.flatMap((index, axis) => (index === null ? [] : [axis]));
  const [first] = axes;
  if (first === undefined) return node;
  const given = axes.map((axis) => gathers[axis] as Node);
  const shape = broadcastShapes(op, ...given.map((index) => index.shape));
  const sizes = axes.map((axis) => node.shape[axis] as number);
  if (sizeOf(sizes) === 0 && sizeOf(shape) > 0) {
    throw new ShapeError(`reads from ${formatShape(node.shape)}, which has no elements`, { op });
  }
  const flat = ops.expand(flatIndex(given, sizes), shape);
  const adjacent = axes.every((axis, i) => axis === first + i);
  let moved = node;
  if (!adjacent) {
    const rest = node.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
    moved = ops.permute(node, [...axes, ...rest]);
  }
  const at = adjacent ? first : 0;
  const after = moved.shape.slice(at + axes.length);
  const merged = ops.reshape(moved, [...moved.shape.slice(0, at), sizeOf(sizes), ...after]);
  return ops.take(merged, flat, at);
}

/** The gathers of each axis after integers are dropped and new axes added. */
function gathersOf(indices: readonly AxisIndex[]): (Node | null)[] {
  return indices.flatMap((entry) => {
    if (entry.kind === 'integer') return [];
    return [entry.kind === 'gather' ? entry.index : null];
  });
}

/** `x` at indices, as a node. */
function atNode(op: string, node: Node, indices: readonly AxisIndex[]): Node {
  return gatherAxes(op, sliceBasic(node, indices), gathersOf(indices));
}

/**
 * The part of `x` at the given indices, one per axis: integers (the axis is dropped), ranges,
 * null (a new axis), '...', integer arrays or tensors (which broadcast together), bool masks
 * (whose values are read at once). As in NumPy and PyTorch, index arrays that stand side by side
 * are replaced in place, and otherwise their axes come first; plain integers never count as arrays.
 * Throws ShapeError for an index out of range that the host knows.
 *
 * @example
 * ```ts
 * const x = tensor([[1, 2, 3], [4, 5, 6]]);
 * at(x, 1); // => [4, 5, 6]
 * at(x, ':', -1); // => [3, 6]
 * at(x, '...', slice(null, null, -1)); // => [[3, 2, 1], [6, 5, 4]]
 * at(x, ':', [0, 2]); // => [[1, 3], [4, 6]]
 * at(x, x.gt(2)); // => [3, 4, 5, 6]
 * at(x, null, 0).shape; // => [1, 3]
 * ```
 */
export function at(x: Tensor, ...indices: readonly IndexArgument[]): Tensor {
  const node = nodeOf('at', x);
  return wrap(atNode('at', node, readIndices('at', node.shape, indices)));
}

/** Value broadcast to the shape of the part that it replaces. */
function valueFor(op: string, value: TensorLike, node: Node, shape: Shape): Node {
  const given = nodeLike(op, value, node.dtype);
  const common = broadcastShapes(op, given.shape, shape);
  // Leading axes of size 1 are dropped, as in an assignment in NumPy.
  const trimmed =
    common.length > shape.length
      ? ops.reshape(given, given.shape.slice(given.shape.length - shape.length))
      : given;
  return ops.expand(trimmed, shape);
}

/** Where ranges and integers point, from 0 steps: first index, count and step, and whether reversed. */
function placeRanges(
  node: Node,
  indices: readonly AxisIndex[],
): { before: number[]; after: number[]; interior: number[]; flipped: number[]; shape: number[] } {
  const place = { before: [], after: [], interior: [], flipped: [], shape: [] } as {
    before: number[];
    after: number[];
    interior: number[];
    flipped: number[];
    shape: number[];
  };
  let axis = 0;
  for (const entry of indices) {
    if (entry.kind === 'newAxis') continue;
    const length = node.shape[axis] as number;
    const range =
      entry.kind === 'integer'
        ? { start: entry.index, size: 1, step: 1 }
        : ops.resolveRange(entry.kind === 'range' ? entry.range : {}, length);
    const step = Math.abs(range.step);
    const backwards = range.step < 0;
    const first = backwards ? range.start + (range.size - 1) * range.step : range.start;
    const start = range.size === 0 ? 0 : first;
    const span = range.size === 0 ? 0 : (range.size - 1) * step + 1;
    if (backwards) place.flipped.push(axis);
    place.before.push(start);
    place.after.push(length - start - span);
    place.interior.push(step - 1);
    place.shape.push(range.size);
    axis++;
  }
  return place;
}

/** Replaces a region of ranges: the value is spread out by padding, and chosen where it stands. */
function setRegion(node: Node, indices: readonly AxisIndex[], value: Node): Node {
  const { before, after, interior, flipped, shape } = placeRanges(node, indices);
  if (sizeOf(shape) === 0) return node;
  const placed = ops.flip(ops.reshape(value, shape), flipped);
  const spread = ops.pad(placed, before, after, 0, interior);
  const inside = ops.pad(ops.full(shape, 1, 'bool'), before, after, 0, interior);
  return ops.select(inside, spread, node);
}

/** Row-major positions in `node` of the elements at the indices. */
function flatPositions(op: string, node: Node, indices: readonly AxisIndex[]): Node {
  const every = ops.reshape(ops.iota([sizeOf(node.shape)], 0, 'int32'), node.shape);
  return atNode(op, every, indices);
}

/**
 * A copy of `x` in which the part at `indices` (as for `at`) is `value`, which broadcasts to it.
 * Where an index occurs twice, the last value stays. Gradients flow to both.
 *
 * @example
 * ```ts
 * setAt(tensor([1, 2, 3, 4]), ['1:3'], 0); // => [1, 0, 0, 4]
 * setAt(tensor([1, 2, 3, 4]), [[0, 3]], tensor([9, 8])); // => [9, 2, 3, 8]
 * ```
 */
export function setAt(x: Tensor, indices: readonly IndexArgument[], value: TensorLike): Tensor {
  const op = 'set';
  const node = nodeOf(op, x);
  const read = readIndices(op, node.shape, indices);
  if (!read.some(({ kind }) => kind === 'gather')) {
    const { shape } = sliceBasic(node, read);
    return wrap(setRegion(node, read, valueFor(op, value, node, shape)));
  }
  const positions = flatPositions(op, node, read);
  const filled = valueFor(op, value, node, positions.shape);
  const count = sizeOf(positions.shape);
  const flat = ops.reshape(node, [sizeOf(node.shape)]);
  const result = assignRows(flat, ops.reshape(positions, [count]), ops.reshape(filled, [count]), 0);
  return wrap(ops.reshape(result, node.shape));
}

/**
 * A copy of `x` with `values` at index tensors, one for each of the first axes, which broadcast
 * together. With `accumulate` the values are added to what is there, repeated indices too.
 */
export function indexPut(
  x: Tensor,
  indices: readonly Tensor[],
  values: TensorLike,
  options: { accumulate?: boolean } = {},
): Tensor {
  const op = 'indexPut';
  const node = nodeOf(op, x);
  if (indices.length === 0 || indices.length > node.shape.length) {
    throw new ArgumentError(`${indices.length} index tensors for ${formatShape(node.shape)}`, {
      op,
    });
  }
  if (options.accumulate !== true) return setAt(x, [...indices], values);
  const read = readIndices(op, node.shape, [...indices]);
  const positions = flatPositions(op, node, read);
  const filled = valueFor(op, values, node, positions.shape);
  const size = sizeOf(node.shape);
  const count = sizeOf(positions.shape);
  if (count === 0) return wrap(node);
  const index = ops.reshape(positions, [count]);
  const added = ops.addRows(ops.reshape(filled, [count]), index, 0, size);
  return wrap(ops.add(node, ops.reshape(added, node.shape)));
}

/** Elements of the flattened `x` at int positions, in the shape of the index. */
export function take(x: Tensor, index: Tensor): Tensor {
  const node = nodeOf('take', x);
  const size = sizeOf(node.shape);
  const positions = indexNode('take', index, size, { wrapNegative: true });
  return wrap(ops.take(ops.reshape(node, [size]), castNode(positions, 'int32'), 0));
}
