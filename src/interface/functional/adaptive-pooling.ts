// Pools whose windows are chosen so that the result has given sizes.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { wrap } from '../tensor/handle.ts';
import type { ValuesAndIndices } from '../tensor/reductions.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { checkSpaceAxes } from './windows.ts';

/** Sizes of the result; null keeps an axis. */
export type OutputSize = number | readonly (number | null)[];

function readSizes(op: string, node: Node, rank: number, given: OutputSize): number[] {
  checkSpaceAxes(op, node.shape, rank);
  const list = Array.isArray(given) ? (given as readonly (number | null)[]) : [given as number];
  const space = node.shape.slice(-rank);
  const sizes =
    list.length === 1 ? new Array<number | null>(rank).fill(list[0] as number | null) : list;
  if (sizes.length !== rank) {
    throw new ArgumentError(`${list.length} output sizes for ${rank} space axes`, { op });
  }
  return sizes.map((size, axis) => {
    const wanted = checkInteger(op, 'outputSize', size === null ? space[axis] : size, 0);
    if (space[axis] === 0) {
      throw new ShapeError(`an axis of ${formatShape(node.shape)} is empty`, { op });
    }
    return wanted;
  });
}

/** Regular windows that do the same, where every size divides. */
function regularWindow(space: readonly number[], sizes: readonly number[]) {
  if (sizes.some((size, axis) => size === 0 || (space[axis] as number) % size !== 0)) return null;
  const kernel = space.map((length, axis) => length / (sizes[axis] as number));
  return {
    kernel,
    stride: kernel,
    padding: space.flatMap(() => [0, 0]),
    dilation: space.map(() => 1),
  };
}

/** Largest window along an axis of `length` cut into `size` parts, part i from ⌊i·L/n⌋ to ⌈(i+1)·L/n⌉. */
function largestWindow(length: number, size: number): number {
  let largest = 0;
  for (let i = 0; i < size; i++) {
    const start = Math.floor((i * length) / size);
    largest = Math.max(largest, Math.ceil(((i + 1) * length) / size) - start);
  }
  return largest;
}

/**
 * Positions [size, window] that each part of an axis reads; short parts repeat their last one.
 * Computed in the graph, so that nothing is uploaded.
 */
function partPositions(length: number, size: number): { index: Node; repeated: Node } {
  const shape = [size, largestWindow(length, size)];
  const part = ops.iota(shape, 0, 'int32');
  const integer = (value: number): Node => ops.constant(value, 'int32');
  const start = ops.floorDivide(ops.mul(part, integer(length)), integer(size));
  const next = ops.mul(ops.add(part, integer(1)), integer(length));
  const last = ops.floorDivide(ops.sub(next, integer(1)), integer(size));
  const wanted = ops.add(start, ops.iota(shape, 1, 'int32'));
  return { index: ops.minimum(wanted, last), repeated: ops.greater(wanted, last) };
}

// ---- means ------------------------------------------------------------------------------------

/** Means of the parts of one axis: gathered, and divided by how many there are. */
function averageParts(node: Node, axis: number, size: number): Node {
  const { index, repeated } = partPositions(node.shape[axis] as number, size);
  const inner = node.shape.length - axis - 1;
  const widen = (table: Node): Node =>
    ops.reshape(table, [...table.shape, ...new Array<number>(inner).fill(1)]);
  const gathered = ops.take(node, index, axis);
  const zero = ops.constant(0, node.dtype);
  const total = ops.sum(ops.select(widen(repeated), zero, gathered), axis + 1);
  const counted = ops.cast(ops.logicalNot(repeated), node.dtype);
  const counts = ops.sum(counted, 1);
  return ops.div(total, ops.reshape(counts, [size, ...new Array<number>(inner).fill(1)]));
}

function adaptiveAvgPool(op: string, rank: number, x: Tensor, outputSize: OutputSize): Tensor {
  const node = floatNode(op, x);
  const sizes = readSizes(op, node, rank, outputSize);
  const first = node.shape.length - rank;
  const space = node.shape.slice(first);
  if (sizes.every((size) => size === 1)) {
    const axes = space.map((_, axis) => axis + first);
    const total = ops.sum(node, axes, true);
    return wrap(ops.mul(total, ops.constant(1 / sizeOf(space), node.dtype)));
  }
  const window = regularWindow(space, sizes);
  if (window !== null) {
    const scale = ops.constant(1 / sizeOf(window.kernel), node.dtype);
    return wrap(ops.mul(ops.sumPool(node, window), scale));
  }
  let result = node;
  sizes.forEach((size, axis) => {
    if (size === 0) {
      const shape = result.shape.map((length, i) => (i === first + axis ? 0 : length));
      result = ops.full(shape, 0, node.dtype);
    } else if (size !== space[axis]) result = averageParts(result, first + axis, size);
  });
  return wrap(result);
}

/** Means over equal parts of [.., channels, length], as many as `outputSize`. */
export function adaptiveAvgPool1d(x: Tensor, outputSize: OutputSize): Tensor {
  return adaptiveAvgPool('adaptiveAvgPool1d', 1, x, outputSize);
}

/**
 * Means over equal parts of [.., channels, height, width], as many as `outputSize`.
 *
 * @example
 * ```ts
 * adaptiveAvgPool2d(tensor([[[1, 2], [3, 4]]]), 1); // => [[[2.5]]]
 * ```
 */
export function adaptiveAvgPool2d(x: Tensor, outputSize: OutputSize): Tensor {
  return adaptiveAvgPool('adaptiveAvgPool2d', 2, x, outputSize);
}

/** Means over equal parts of [.., channels, depth, height, width], as many as `outputSize`. */
export function adaptiveAvgPool3d(x: Tensor, outputSize: OutputSize): Tensor {
  return adaptiveAvgPool('adaptiveAvgPool3d', 3, x, outputSize);
}

// ---- maxima -----------------------------------------------------------------------------------

/** All parts side by side: [lead, ...sizes, window], and where in space each element stood. */
function gatherParts(
  node: Node,
  first: number,
  sizes: readonly number[],
): { parts: Node; positions: Node } {
  const space = node.shape.slice(first);
  const lead = sizeOf(node.shape.slice(0, first));
  let parts = ops.reshape(node, [lead, ...space]);
  let flat: Node = ops.constant(0, 'int32');
  const windows: number[] = [];
  sizes.forEach((size, axis) => {
    const { index } = partPositions(space[axis] as number, size);
    // Axis pairs (size, window) take the place of each space axis in turn.
    parts = ops.take(parts, index, 1 + 2 * axis);
    windows.push(index.shape[1] as number);
    const shape = sizes.flatMap((_, i) => (i === axis ? [...index.shape] : [1, 1]));
    const scaled = ops.mul(flat, ops.constant(space[axis] as number, 'int32'));
    flat = ops.add(scaled, ops.reshape(index, shape));
  });
  const evens = sizes.map((_, axis) => 2 * axis);
  const odds = sizes.map((_, axis) => 2 * axis + 1);
  const order = [...evens, ...odds];
  const whole = [...sizes, sizeOf(windows)];
  const pairs = sizes.flatMap((size, axis) => [size, windows[axis] as number]);
  const positions = ops.reshape(ops.permute(ops.expand(flat, pairs), order), whole);
  const moved = ops.permute(parts, [0, ...order.map((axis) => axis + 1)]);
  return {
    parts: ops.reshape(moved, [lead, ...whole]),
    positions: ops.expand(positions, [lead, ...whole]),
  };
}

function adaptiveMaxPool(
  op: string,
  rank: number,
  x: Tensor,
  outputSize: OutputSize,
  returnIndices: boolean,
): Tensor | ValuesAndIndices {
  const node = nodeOf(op, x);
  const sizes = readSizes(op, node, rank, outputSize);
  const first = node.shape.length - rank;
  const shape = [...node.shape.slice(0, first), ...sizes];
  const window = regularWindow(node.shape.slice(first), sizes);
  if (sizeOf(shape) === 0) {
    const values = wrap(ops.full(shape, 0, node.dtype));
    return returnIndices ? { values, indices: wrap(ops.full(shape, 0, 'int32')) } : values;
  }
  if (window !== null) {
    const values = wrap(ops.maxPool(node, window));
    return returnIndices ? { values, indices: wrap(ops.maxPoolIndices(node, window)) } : values;
  }
  const { parts, positions } = gatherParts(node, first, sizes);
  const where = ops.argmax(parts, -1, true);
  const values = wrap(ops.reshape(ops.gather(parts, where, -1), shape));
  if (!returnIndices) return values;
  return { values, indices: wrap(ops.reshape(ops.gather(positions, where, -1), shape)) };
}

interface WithIndices {
  readonly returnIndices: true;
}
interface AdaptiveOptions {
  /** Whether positions within the space axes are returned too. */
  readonly returnIndices?: boolean;
}

/** Maxima over equal parts of [.., channels, length], as many as `outputSize`. */
export function adaptiveMaxPool1d(
  x: Tensor,
  size: OutputSize,
  options: WithIndices,
): ValuesAndIndices;
export function adaptiveMaxPool1d(x: Tensor, size: OutputSize, options?: AdaptiveOptions): Tensor;
export function adaptiveMaxPool1d(
  x: Tensor,
  size: OutputSize,
  options: AdaptiveOptions = {},
): Tensor | ValuesAndIndices {
  return adaptiveMaxPool('adaptiveMaxPool1d', 1, x, size, options.returnIndices === true);
}

/** Maxima over equal parts of [.., channels, height, width], as many as `outputSize`. */
export function adaptiveMaxPool2d(
  x: Tensor,
  size: OutputSize,
  options: WithIndices,
): ValuesAndIndices;
export function adaptiveMaxPool2d(x: Tensor, size: OutputSize, options?: AdaptiveOptions): Tensor;
export function adaptiveMaxPool2d(
  x: Tensor,
  size: OutputSize,
  options: AdaptiveOptions = {},
): Tensor | ValuesAndIndices {
  return adaptiveMaxPool('adaptiveMaxPool2d', 2, x, size, options.returnIndices === true);
}

/** Maxima over equal parts of [.., channels, depth, height, width], as many as `outputSize`. */
export function adaptiveMaxPool3d(
  x: Tensor,
  size: OutputSize,
  options: WithIndices,
): ValuesAndIndices;
export function adaptiveMaxPool3d(x: Tensor, size: OutputSize, options?: AdaptiveOptions): Tensor;
export function adaptiveMaxPool3d(
  x: Tensor,
  size: OutputSize,
  options: AdaptiveOptions = {},
): Tensor | ValuesAndIndices {
  return adaptiveMaxPool('adaptiveMaxPool3d', 3, x, size, options.returnIndices === true);
}
