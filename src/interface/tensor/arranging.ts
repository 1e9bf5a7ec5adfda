// Arranging tensors: axes by other names, stacking, cutting in even parts, grids and combinations.
import { type DType, promote } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf } from './arguments.ts';
import { type CreationOptions, tensor } from './creation.ts';
import { castNode, listOf, wrap } from './handle.ts';
import { cat } from './joining.ts';
import { flip, meshgrid, movedim, reshape, transpose } from './shaping.ts';
import type { Tensor } from './tensor.ts';

// ---- axes -------------------------------------------------------------------------------------

/** Two axes exchanged: `transpose` by NumPy's name. */
export function swapaxes(x: Tensor, axis0: number, axis1: number): Tensor {
  return transpose(x, axis0, axis1);
}

/** Axes moved to other positions: `movedim` by NumPy's name. */
export function moveaxis(
  x: Tensor,
  source: number | readonly number[],
  destination: number | readonly number[],
): Tensor {
  return movedim(x, source, destination);
}

/** All elements in one axis. */
export function ravel(x: Tensor): Tensor {
  return reshape(x, -1);
}

/** Columns in reverse order. */
export function fliplr(x: Tensor): Tensor {
  if (nodeOf('fliplr', x).shape.length < 2) {
    throw new ShapeError(`takes two axes or more, got ${formatShape(x.shape)}`, { op: 'fliplr' });
  }
  return flip(x, 1);
}

/** Rows in reverse order. */
export function flipud(x: Tensor): Tensor {
  if (nodeOf('flipud', x).shape.length < 1) {
    throw new ShapeError('takes one axis or more, got a number', { op: 'flipud' });
  }
  return flip(x, 0);
}

/** With at least one axis. */
export function atleast1d(x: Tensor): Tensor {
  return nodeOf('atleast1d', x).shape.length >= 1 ? x : reshape(x, 1);
}

/** With at least two axes: a vector becomes a row. */
export function atleast2d(x: Tensor): Tensor {
  const { shape } = nodeOf('atleast2d', x);
  return shape.length >= 2 ? x : reshape(x, [1, shape[0] ?? 1]);
}

/**
 * With at least three axes: a vector [n] becomes [1, n, 1], a matrix [m, n] becomes [m, n, 1].
 *
 * @example
 * ```ts
 * atleast3d(tensor([1, 2])).shape; // => [1, 2, 1]
 * ```
 */
export function atleast3d(x: Tensor): Tensor {
  const { shape } = nodeOf('atleast3d', x);
  if (shape.length >= 3) return x;
  return reshape(x, shape.length === 2 ? [...shape, 1] : [1, shape[0] ?? 1, 1]);
}

// ---- stacking and cutting ---------------------------------------------------------------------

/** Side by side: along the second axis, vectors along their only one. */
export function hstack(tensors: readonly Tensor[]): Tensor {
  const list = listOf('hstack', tensors).map(atleast1d);
  return cat(list, (list[0]?.ndim ?? 1) === 1 ? 0 : 1);
}

/**
 * One below the other: along the first axis, where vectors are rows.
 *
 * @example
 * ```ts
 * vstack([tensor([1, 2]), tensor([3, 4])]); // => [[1, 2], [3, 4]]
 * ```
 */
export function vstack(tensors: readonly Tensor[]): Tensor {
  return cat(listOf('vstack', tensors).map(atleast2d), 0);
}

/** Along the third axis. */
export function dstack(tensors: readonly Tensor[]): Tensor {
  return cat(listOf('dstack', tensors).map(atleast3d), 2);
}

/** Columns of a matrix: vectors, or matrices side by side. */
export function columnStack(tensors: readonly Tensor[]): Tensor {
  const columns = listOf('columnStack', tensors).map((x) =>
    nodeOf('columnStack', x).shape.length < 2 ? reshape(x, [x.size, 1]) : x,
  );
  return cat(columns, 1);
}

/**
 * Parts along an axis: so many, of which the first are longer by one where it does not come out even; or cut
 * at the given places.
 *
 * @example
 * ```ts
 * tensorSplit(tensor([1, 2, 3, 4, 5]), 2); // => [[1, 2, 3], [4, 5]]
 * tensorSplit(tensor([1, 2, 3, 4, 5]), [1, 3]); // => [[1], [2, 3], [4, 5]]
 * ```
 */
export function tensorSplit(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const op = 'tensorSplit';
  const node = nodeOf(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const length = node.shape[normal] as number;
  let places: number[];
  if (typeof parts === 'number') {
    checkInteger(op, 'the number of parts', parts, 1);
    const [size, longer] = [Math.floor(length / parts), length % parts];
    places = Array.from({ length: parts - 1 }, (_, i) => (i + 1) * size + Math.min(i + 1, longer));
  } else {
    places = parts.map((place) => {
      checkInteger(op, 'a place', place, -Infinity);
      return Math.min(Math.max(place < 0 ? place + length : place, 0), length);
    });
  }
  const starts = [0, ...places];
  return starts.map((start, i) => {
    const end = Math.max(starts[i + 1] ?? length, start);
    return wrap(ops.narrowAxis(node, normal, start, end - start));
  });
}

/** `tensorSplit` along the second axis, of vectors along their only one. */
export function hsplit(x: Tensor, parts: number | readonly number[]): Tensor[] {
  return tensorSplit(x, parts, nodeOf('hsplit', x).shape.length === 1 ? 0 : 1);
}

/** `tensorSplit` along the first of at least two axes. */
export function vsplit(x: Tensor, parts: number | readonly number[]): Tensor[] {
  const { shape } = nodeOf('vsplit', x);
  if (shape.length >= 2) return tensorSplit(x, parts, 0);
  throw new ShapeError(`takes two axes or more, got ${formatShape(shape)}`, { op: 'vsplit' });
}

// ---- matrices by rule -------------------------------------------------------------------------

/**
 * Matrices along the diagonal, zeros elsewhere. Vectors are rows, numbers single elements.
 *
 * @example
 * ```ts
 * blockDiag([tensor([[1, 2]]), tensor([[3], [4]])]); // => [[1, 2, 0], [0, 0, 3], [0, 0, 4]]
 * ```
 */
export function blockDiag(tensors: readonly Tensor[]): Tensor {
  const op = 'blockDiag';
  const blocks = listOf(op, tensors).map((x) => {
    const { shape } = nodeOf(op, x);
    if (shape.length > 2) throw new ShapeError(`takes matrices, got ${formatShape(shape)}`, { op });
    return atleast2d(x);
  });
  const [first] = blocks;
  if (first === undefined) return wrap(ops.full([1, 0], 0, 'float32'));
  const width = blocks.reduce((total, { shape }) => total + (shape[1] as number), 0);
  const dtype = blocks.reduce<DType>((all, { dtype: own }) => promote(all, own), first.dtype);
  let before = 0;
  const rows = blocks.map(({ node }) => {
    const own = node.shape[1] as number;
    const padded = ops.pad(castNode(node, dtype), [0, before], [0, width - before - own]);
    before += own;
    return padded;
  });
  return wrap(ops.concat(rows, 0));
}

/**
 * Powers of the elements of a vector [n] as columns: [n, count], falling, or rising with `increasing`.
 *
 * @example
 * ```ts
 * vander(tensor([1, 2, 3]), 3); // => [[1, 1, 1], [4, 2, 1], [9, 3, 1]]
 * ```
 */
export function vander(x: Tensor, count?: number, options: { increasing?: boolean } = {}): Tensor {
  const op = 'vander';
  const node = nodeOf(op, x);
  if (node.shape.length !== 1) {
    throw new ShapeError(`takes a vector, got ${formatShape(node.shape)}`, { op });
  }
  const size = node.shape[0] as number;
  const wanted = checkInteger(op, 'the number of columns', count ?? size, 0);
  if (wanted === 0) return wrap(ops.full([size, 0], 0, node.dtype));
  const column = ops.reshape(node, [size, 1]);
  const powers = [ops.full([size, 1], 1, node.dtype)];
  while (powers.length < wanted) powers.push(ops.mul(powers.at(-1) as Node, column));
  if (options.increasing !== true) powers.reverse();
  return wrap(ops.concat(powers, 1));
}

function triangleIndices(
  op: string,
  rows: number,
  columns: number,
  keep: (row: number, column: number) => boolean,
): Tensor {
  checkInteger(op, 'rows', rows, 0);
  checkInteger(op, 'columns', columns, 0);
  const [i, j]: [number[], number[]] = [[], []];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!keep(row, column)) continue;
      i.push(row);
      j.push(column);
    }
  }
  return tensor(Int32Array.from([...i, ...j]), { shape: [2, i.length] });
}

/** Rows and columns (int32 [2, count]) of the lower triangle of a matrix, up to a diagonal. */
export function trilIndices(rows: number, columns: number, offset = 0): Tensor {
  return triangleIndices('trilIndices', rows, columns, (i, j) => j - i <= offset);
}

/** Rows and columns (int32 [2, count]) of the upper triangle of a matrix, from a diagonal on. */
export function triuIndices(rows: number, columns: number, offset = 0): Tensor {
  return triangleIndices('triuIndices', rows, columns, (i, j) => j - i >= offset);
}

// ---- combinations -----------------------------------------------------------------------------

/**
 * All pairs, triples .. of elements of vectors, one from each: [product of lengths, vectors].
 *
 * @example
 * ```ts
 * cartesianProd([tensor([1, 2]), tensor([3, 4])]); // => [[1, 3], [1, 4], [2, 3], [2, 4]]
 * ```
 */
export function cartesianProd(tensors: readonly Tensor[]): Tensor {
  const op = 'cartesianProd';
  const list = listOf(op, tensors);
  for (const x of list) {
    const { shape } = nodeOf(op, x);
    if (shape.length !== 1)
      throw new ShapeError(`takes vectors, got ${formatShape(shape)}`, { op });
  }
  if (list.length === 0) throw new ArgumentError('got no tensors', { op });
  if (list.length === 1) return list[0] as Tensor;
  const grids = meshgrid(list, { indexing: 'ij' });
  return cat(
    grids.map((grid) => reshape(grid, [grid.size, 1])),
    1,
  );
}

/**
 * All choices of `r` elements of a vector, in order: [count, r]; `withReplacement` an element may be
 * chosen again.
 *
 * @example
 * ```ts
 * combinations(tensor([1, 2, 3])); // => [[1, 2], [1, 3], [2, 3]]
 * ```
 */
export function combinations(
  x: Tensor,
  r = 2,
  options: { withReplacement?: boolean } = {},
): Tensor {
  const op = 'combinations';
  const node = nodeOf(op, x);
  if (node.shape.length !== 1) {
    throw new ShapeError(`takes a vector, got ${formatShape(node.shape)}`, { op });
  }
  checkInteger(op, 'r', r, 0);
  const size = node.shape[0] as number;
  const again = options.withReplacement === true ? 0 : 1;
  const places: number[] = [];
  let count = 0;
  const choose = (chosen: readonly number[], from: number): void => {
    if (chosen.length === r) {
      places.push(...chosen);
      count++;
      return;
    }
    for (let i = from; i < size; i++) choose([...chosen, i], i + again);
  };
  choose([], 0);
  if (places.length === 0) return wrap(ops.full([r === 0 ? 0 : count, r], 0, node.dtype));
  const index = tensor(Int32Array.from(places), { shape: [count, r] }).node;
  return wrap(ops.take(node, index, 0));
}

// ---- ranges -----------------------------------------------------------------------------------

/**
 * `steps` numbers from base^start to base^end, both included, evenly apart in their logarithm.
 *
 * @example
 * ```ts
 * logspace(0, 2, 3); // => [1, 10, 100]
 * ```
 */
export function logspace(
  start: number,
  end: number,
  steps: number,
  base = 10,
  options: CreationOptions = {},
): Tensor {
  checkInteger('logspace', 'steps', steps, 0);
  const values = Float64Array.from({ length: steps }, (_, i) =>
    Math.pow(base, steps === 1 ? start : start + ((end - start) * i) / (steps - 1)),
  );
  return tensor(values, { dtype: 'float32', ...options });
}
