// The same elements under another shape or order. Nothing is copied: views fold into the kernels
// that read them.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import {
  broadcastShapes,
  checkShape,
  formatShape,
  normalizeAxes,
  normalizeAxis,
  type Shape,
  sizeOf,
} from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf, readIntegers, resolveShape } from './arguments.ts';
import { listOf, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

/** `reshape(x, [2, -1])` or `reshape(x, 2, -1)`: the same elements, row-major; -1 is worked out. */
export function reshape(x: Tensor, ...shape: (number | Shape)[]): Tensor {
  const node = nodeOf('reshape', x);
  const given = readIntegers('reshape', shape);
  return wrap(ops.reshape(node, [...resolveShape('reshape', given, node.shape)]));
}

/** As `reshape`: tensors have no strides that a view could break. */
export function view(x: Tensor, ...shape: (number | Shape)[]): Tensor {
  return reshape(x, ...shape);
}

/** Joins the axes from `start` to `end` into one; all by default. */
export function flatten(x: Tensor, start = 0, end = -1): Tensor {
  const { shape } = nodeOf('flatten', x);
  if (shape.length === 0) return reshape(x, [1]);
  const first = normalizeAxis('flatten', start, shape.length);
  const last = normalizeAxis('flatten', end, shape.length);
  if (first > last) {
    throw new ArgumentError(`start axis ${start} comes after end axis ${end}`, { op: 'flatten' });
  }
  const joined = sizeOf(shape.slice(first, last + 1));
  return reshape(x, [...shape.slice(0, first), joined, ...shape.slice(last + 1)]);
}

/** Splits an axis into several, of which one size may be -1. */
export function unflatten(x: Tensor, axis: number, sizes: Shape): Tensor {
  const { shape } = nodeOf('unflatten', x);
  const normal = normalizeAxis('unflatten', axis, shape.length);
  const inner = resolveShape('unflatten', sizes, [shape[normal] as number]);
  if (sizeOf(inner) !== shape[normal]) {
    throw new ShapeError(
      `${formatShape(inner)} does not split axis ${axis} of ${formatShape(shape)}`,
      {
        op: 'unflatten',
      },
    );
  }
  return reshape(x, [...shape.slice(0, normal), ...inner, ...shape.slice(normal + 1)]);
}

/** Drops axes of size 1: all of them, or those named (others than 1 stay). */
export function squeeze(x: Tensor, axis?: number | readonly number[]): Tensor {
  const { shape } = nodeOf('squeeze', x);
  const axes = shape.length === 0 ? [] : normalizeAxes('squeeze', axis, shape.length);
  return reshape(
    x,
    shape.filter((size, i) => size !== 1 || !axes.includes(i)),
  );
}

/** Adds an axis of size 1 before position `axis`; -1 adds it at the end. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const { shape } = nodeOf('unsqueeze', x);
  const normal = normalizeAxis('unsqueeze', axis, shape.length + 1);
  return reshape(x, [...shape.slice(0, normal), 1, ...shape.slice(normal)]);
}

/** Swaps two axes, the last two by default. */
export function transpose(x: Tensor, axis0 = -2, axis1 = -1): Tensor {
  return wrap(ops.transpose(nodeOf('transpose', x), axis0, axis1));
}

/** The transpose of a matrix; of a vector or a number: itself. */
export function t(x: Tensor): Tensor {
  const node = nodeOf('t', x);
  if (node.shape.length > 2) {
    throw new ShapeError(`takes at most 2 dimensions, got ${formatShape(node.shape)}`, {
      op: 't',
      hint: 'use transpose() or permute()',
    });
  }
  return wrap(node.shape.length < 2 ? node : ops.transpose(node));
}

/** Axis i of the result is axis `axes[i]` of `x`: `permute(x, 0, 2, 1)`. */
export function permute(x: Tensor, ...axes: (number | readonly number[])[]): Tensor {
  return wrap(ops.permute(nodeOf('permute', x), readIntegers('permute', axes)));
}

/** Moves axes to other positions; the others keep their order. */
export function movedim(
  x: Tensor,
  source: number | readonly number[],
  destination: number | readonly number[],
): Tensor {
  const node = nodeOf('movedim', x);
  const rank = node.shape.length;
  const list = (axes: number | readonly number[]): number[] => {
    const given = typeof axes === 'number' ? [axes] : axes;
    normalizeAxes('movedim', given, rank);
    return given.map((axis) => normalizeAxis('movedim', axis, rank));
  };
  const [from, to] = [list(source), list(destination)];
  if (from.length !== to.length) {
    throw new ArgumentError(`${from.length} axes cannot move to ${to.length} places`, {
      op: 'movedim',
    });
  }
  const rest = node.shape.map((_, axis) => axis).filter((axis) => !from.includes(axis));
  const order = new Array<number>(rank).fill(-1);
  to.forEach((place, i) => (order[place] = from[i] as number));
  return wrap(
    ops.permute(
      node,
      order.map((axis) => (axis < 0 ? (rest.shift() as number) : axis)),
    ),
  );
}

/** Repeats axes of size 1 and adds axes in front; -1 keeps an axis as it is. */
export function expand(x: Tensor, ...shape: (number | Shape)[]): Tensor {
  const node = nodeOf('expand', x);
  const given = readIntegers('expand', shape);
  const shift = given.length - node.shape.length;
  const sizes = given.map((size, axis) => {
    if (size !== -1) return size;
    const own = node.shape[axis - shift];
    if (own !== undefined) return own;
    throw new ShapeError('-1 keeps an axis, and a new one has no size yet', { op: 'expand' });
  });
  return wrap(ops.expand(node, sizes));
}

/** `x` repeated to `shape` by the rules of broadcasting. */
export function broadcastTo(x: Tensor, ...shape: (number | Shape)[]): Tensor {
  return expand(x, ...shape);
}

/** All tensors repeated to their common shape. */
export function broadcastTensors(...tensors: readonly Tensor[]): Tensor[] {
  const nodes = tensors.map((x) => nodeOf('broadcastTensors', x));
  const shape = broadcastShapes('broadcastTensors', ...nodes.map((node) => node.shape));
  return nodes.map((node) => wrap(ops.expand(node, shape)));
}

/** `x` with the shape of `other`, by broadcasting. */
export function expandAs(x: Tensor, other: Tensor): Tensor {
  return expand(x, other.shape);
}

/** Sizes of both, aligned at the last axis and filled with 1. */
function alignedRepeats(op: string, shape: Shape, repeats: readonly number[]): [Shape, Shape] {
  for (const count of repeats) checkInteger(op, 'a count', count, 0);
  const rank = Math.max(shape.length, repeats.length);
  const pad = (sizes: Shape): Shape => [
    ...new Array<number>(rank - sizes.length).fill(1),
    ...sizes,
  ];
  return [pad(shape), pad(repeats)];
}

function repeatNode(op: string, node: Node, repeats: readonly number[]): Node {
  const [shape, counts] = alignedRepeats(op, node.shape, repeats);
  const interleaved = shape.flatMap((size) => [1, size]);
  const expanded = shape.flatMap((size, axis) => [counts[axis] as number, size]);
  const whole = shape.map((size, axis) => size * (counts[axis] as number));
  return ops.reshape(ops.expand(ops.reshape(node, interleaved), expanded), whole);
}

/** The whole tensor `repeats[axis]` times along each axis: `repeat(x, 2, 3)`. */
export function repeat(x: Tensor, ...repeats: (number | readonly number[])[]): Tensor {
  const node = nodeOf('repeat', x);
  const counts = readIntegers('repeat', repeats);
  if (counts.length < node.shape.length) {
    throw new ShapeError(`${counts.length} counts for ${node.shape.length} dimension(s)`, {
      op: 'repeat',
      hint: 'give one for each axis, or use tile()',
    });
  }
  return wrap(repeatNode('repeat', node, counts));
}

/** As `repeat`, where missing counts in front are 1. */
export function tile(x: Tensor, ...repeats: (number | readonly number[])[]): Tensor {
  return wrap(repeatNode('tile', nodeOf('tile', x), readIntegers('tile', repeats)));
}

/** Reads axes backwards. */
export function flip(x: Tensor, ...axes: (number | readonly number[])[]): Tensor {
  return wrap(ops.flip(nodeOf('flip', x), readIntegers('flip', axes)));
}

/** Moves elements along axes by `shifts`, those that fall off coming in at the other end. */
export function roll(
  x: Tensor,
  shifts: number | readonly number[],
  axes?: number | readonly number[],
): Tensor {
  const node = nodeOf('roll', x);
  if (axes === undefined) {
    if (typeof shifts !== 'number') {
      throw new ArgumentError('several shifts need as many axes', { op: 'roll' });
    }
    const flat = rollAxis(ops.reshape(node, [sizeOf(node.shape)]), 0, shifts);
    return wrap(ops.reshape(flat, node.shape));
  }
  const shiftList = typeof shifts === 'number' ? [shifts] : shifts;
  const axisList = typeof axes === 'number' ? [axes] : axes;
  if (shiftList.length !== axisList.length) {
    throw new ArgumentError(`${shiftList.length} shifts for ${axisList.length} axes`, {
      op: 'roll',
    });
  }
  let result = node;
  axisList.forEach((axis, i) => {
    const normal = normalizeAxis('roll', axis, node.shape.length);
    result = rollAxis(result, normal, shiftList[i] as number);
  });
  return wrap(result);
}

function rollAxis(node: Node, axis: number, shift: number): Node {
  checkInteger('roll', 'a shift', shift, -Infinity);
  const size = node.shape[axis] as number;
  const by = size === 0 ? 0 : ((shift % size) + size) % size;
  if (by === 0) return node;
  const tail = ops.narrowAxis(node, axis, size - by, by);
  return ops.concat([tail, ops.narrowAxis(node, axis, 0, size - by)], axis);
}

/** Turns the plane of two axes by `k` quarters, from the first towards the second. */
export function rot90(x: Tensor, k = 1, axes: readonly [number, number] = [0, 1]): Tensor {
  const node = nodeOf('rot90', x);
  const [first, second] = axes.map((axis) => normalizeAxis('rot90', axis, node.shape.length)) as [
    number,
    number,
  ];
  if (first === second) throw new ArgumentError('the two axes are the same', { op: 'rot90' });
  switch (((k % 4) + 4) % 4) {
    case 1:
      return wrap(ops.transpose(ops.flip(node, [second]), first, second));
    case 2:
      return wrap(ops.flip(node, [first, second]));
    case 3:
      return wrap(ops.flip(ops.transpose(node, first, second), [second]));
    default:
      return wrap(node);
  }
}

// ---- triangles and diagonals ------------------------------------------------------------------

function triangle(op: 'tril' | 'triu', x: Tensor, diagonal: number): Tensor {
  const node = nodeOf(op, x);
  const rank = node.shape.length;
  if (rank < 2) {
    throw new ShapeError(`needs at least 2 dimensions, got ${formatShape(node.shape)}`, { op });
  }
  const plane = node.shape.slice(rank - 2);
  const row = ops.add(ops.iota(plane, 0, 'int32'), ops.constant(diagonal, 'int32'));
  const column = ops.iota(plane, 1, 'int32');
  const kept = op === 'tril' ? ops.lessEqual(column, row) : ops.greaterEqual(column, row);
  return wrap(ops.select(kept, node, ops.constant(0, node.dtype)));
}

/** The lower triangle of the last two axes, zeros above `diagonal`. */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return triangle('tril', x, diagonal);
}

/** The upper triangle of the last two axes, zeros below `diagonal`. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return triangle('triu', x, diagonal);
}

export interface DiagonalOptions {
  /** Above the main diagonal if positive, below if negative. */
  readonly offset?: number;
  /** The two axes of the plane; by default the first two, or the last two of `diagEmbed`. */
  readonly dim1?: number;
  readonly dim2?: number;
}

/** The diagonal of the plane of two axes, as a new last axis. */
export function diagonal(x: Tensor, options: DiagonalOptions = {}): Tensor {
  return wrap(diagonalNode('diagonal', nodeOf('diagonal', x), options));
}

export function diagonalNode(op: string, node: Node, options: DiagonalOptions): Node {
  const rank = node.shape.length;
  const { offset = 0, dim1 = 0, dim2 = 1 } = options;
  if (rank < 2) {
    throw new ShapeError(`needs at least 2 dimensions, got ${formatShape(node.shape)}`, { op });
  }
  const first = normalizeAxis(op, dim1, rank);
  const second = normalizeAxis(op, dim2, rank);
  if (first === second) throw new ArgumentError('the two axes are the same', { op });
  const rest = node.shape
    .map((_, axis) => axis)
    .filter((axis) => axis !== first && axis !== second);
  const moved = ops.permute(node, [...rest, first, second]);
  const outer = rest.map((axis) => node.shape[axis] as number);
  const rows = node.shape[first] as number;
  const columns = node.shape[second] as number;
  const [row, column] = offset >= 0 ? [0, offset] : [-offset, 0];
  const count = Math.max(0, Math.min(rows - row, columns - column));
  if (count === 0) return ops.full([...outer, 0], 0, node.dtype);
  // In row-major order the diagonal's elements stand columns + 1 apart.
  const flat = ops.reshape(moved, [...outer, rows * columns]);
  const start = row * columns + column;
  const stop = start + (count - 1) * (columns + 1) + 1;
  return ops.slice(flat, [...outer.map(() => null), { start, stop, step: columns + 1 }]);
}

/** Puts the last axis on the diagonal of a new plane of two axes, zeros elsewhere. */
export function diagEmbed(x: Tensor, options: DiagonalOptions = {}): Tensor {
  const node = nodeOf('diagEmbed', x);
  const rank = node.shape.length;
  if (rank === 0) throw new ShapeError('needs at least 1 dimension', { op: 'diagEmbed' });
  const { offset = 0, dim1 = -2, dim2 = -1 } = options;
  const embedded = embedDiagonal(node, offset);
  const first = normalizeAxis('diagEmbed', dim1, rank + 1);
  const second = normalizeAxis('diagEmbed', dim2, rank + 1);
  if (first === second) throw new ArgumentError('the two axes are the same', { op: 'diagEmbed' });
  const rest = Array.from({ length: rank - 1 }, (_, axis) => axis);
  const order = Array.from({ length: rank + 1 }, (_, axis) => {
    if (axis === first) return rank - 1;
    return axis === second ? rank : (rest.shift() as number);
  });
  return wrap(ops.permute(embedded, order));
}

/** The last axis [.., n] on the diagonal of [.., m, m], m = n + |offset|. */
function embedDiagonal(node: Node, offset: number): Node {
  const rank = node.shape.length;
  const outer = node.shape.slice(0, rank - 1);
  const count = node.shape[rank - 1] as number;
  const size = count + Math.abs(offset);
  const start = offset >= 0 ? offset : -offset * size;
  const end = size * size - start - (count === 0 ? 0 : (count - 1) * (size + 1) + 1);
  const zeros = outer.map(() => 0);
  const flat = ops.pad(node, [...zeros, start], [...zeros, Math.max(end, 0)], 0, [...zeros, size]);
  return ops.reshape(flat, [...outer, size, size]);
}

/** Of a vector: the matrix with it on the diagonal; of a matrix: its diagonal. */
export function diag(x: Tensor, offset = 0): Tensor {
  const node = nodeOf('diag', x);
  if (node.shape.length === 1) return wrap(embedDiagonal(node, offset));
  if (node.shape.length === 2) return wrap(diagonalNode('diag', node, { offset }));
  throw new ShapeError(`takes a vector or a matrix, got ${formatShape(node.shape)}`, {
    op: 'diag',
  });
}

/** Coordinate tensors of the grid that vectors span. */
export function meshgrid(
  tensors: readonly Tensor[],
  options: { indexing?: 'ij' | 'xy' } = {},
): Tensor[] {
  const nodes = listOf('meshgrid', tensors).map((x) => {
    const node = nodeOf('meshgrid', x);
    if (node.shape.length > 1) {
      throw new ShapeError(`takes vectors, got ${formatShape(node.shape)}`, { op: 'meshgrid' });
    }
    return ops.reshape(node, [sizeOf(node.shape)]);
  });
  const swap = options.indexing === 'xy' && nodes.length >= 2;
  const shape = nodes.map((node) => node.shape[0] as number);
  return nodes.map((node, i) => {
    const grid = ops.expand(
      ops.reshape(
        node,
        shape.map((size, axis) => (axis === i ? size : 1)),
      ),
      shape,
    );
    return wrap(swap ? ops.transpose(grid, 0, 1) : grid);
  });
}

/** Throws unless `shape` is a list of sizes; for callers that build shapes by arithmetic. */
export function checkSizes(op: string, shape: Shape): Shape {
  checkShape(op, shape);
  return shape;
}
