// What matrix ops share on the graph: checks, triangles, diagonals, and several matrices in one value.
import type { DType } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import type { ReferenceTensor } from '../op.ts';
import { div, mul } from './arithmetic.ts';
import { reshape } from './broadcast.ts';
import { equal, greater, greaterEqual, select } from './compare.ts';
import { constant, full, iota } from './creation.ts';
import { transpose } from './permute.ts';
import { sum } from './broadcast.ts';
import { randomTensor, type RandomOptions } from './samples.ts';
import { narrowAxis } from './slicing.ts';

/** Axes before the last two. */
export function batchOf(shape: Shape): readonly number[] {
  return shape.slice(0, -2);
}

/** Sizes of the last two axes. Throws unless there are two, of float32 or float64. */
export function matrixSizes(op: string, x: Node): readonly [number, number] {
  if (x.shape.length < 2) {
    throw new ShapeError(`takes matrices [.., m, n], got ${formatShape(x.shape)}`, { op });
  }
  if (x.dtype !== 'float32' && x.dtype !== 'float64') {
    throw new DTypeError(`takes float32 or float64, not ${x.dtype}`, {
      op,
      hint: "cast to 'float32' first",
    });
  }
  return x.shape.slice(-2) as [number, number];
}

/** Size of square matrices. Throws ShapeError of others. */
export function squareSize(op: string, x: Node): number {
  const [rows, columns] = matrixSizes(op, x);
  if (rows === columns) return rows;
  throw new ShapeError(`takes square matrices, got ${formatShape(x.shape)}`, { op });
}

/** Throws unless both have one dtype and the same leading sizes. */
export function checkAlike(op: string, a: Node, b: Node): void {
  if (a.dtype !== b.dtype) {
    throw new DTypeError(`operands are ${a.dtype} and ${b.dtype}`, { op });
  }
  if (sameShape(batchOf(a.shape), batchOf(b.shape))) return;
  throw new ShapeError(`batch sizes differ, ${formatShape(a.shape)} and ${formatShape(b.shape)}`, {
    op,
  });
}

// ---- several matrices in one value ------------------------------------------------------------

/** The matrices that lie one behind the other in the last axis of `packed`. */
export function unpack(packed: Node, sizes: readonly Shape[]): Node[] {
  const batch = packed.shape.slice(0, -1);
  let start = 0;
  return sizes.map((size) => {
    const count = sizeOf(size);
    const part = narrowAxis(packed, batch.length, start, count);
    start += count;
    return reshape(part, [...batch, ...size]);
  });
}

// ---- parts of matrices ------------------------------------------------------------------------

/** Whether an element stands on the diagonal or below it; `strict`: below it. */
function isBelow(x: Node, strict: boolean): Node {
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const row = iota([rows, columns], 0, 'int32');
  const column = iota([rows, columns], 1, 'int32');
  return strict ? greater(row, column) : greaterEqual(row, column);
}

/** Zeros above the diagonal; `strict`: on it too. */
export function lowerPart(x: Node, strict = false): Node {
  return select(isBelow(x, strict), x, constant(0, x.dtype));
}

/** Zeros below the diagonal; `strict`: on it too. */
export function upperPart(x: Node, strict = false): Node {
  return select(isBelow(x, !strict), constant(0, x.dtype), x);
}

function onDiagonal(rows: number, columns: number): Node {
  return equal(iota([rows, columns], 0, 'int32'), iota([rows, columns], 1, 'int32'));
}

/** Zeros off the diagonal. */
export function diagonalPart(x: Node): Node {
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  return select(onDiagonal(rows, columns), x, constant(0, x.dtype));
}

/** The main diagonal as a vector. */
export function diagonalOf(x: Node): Node {
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  // Rows beyond the diagonal have none of it; columns beyond it add nothing.
  const reached = rows > columns ? narrowAxis(x, x.shape.length - 2, 0, columns) : x;
  return sum(diagonalPart(reached), -1);
}

/** Identity matrices. */
export function identity(batch: Shape, size: number, dtype: DType): Node {
  const one = full([...batch, size, size], 1, dtype);
  return select(onDiagonal(size, size), one, constant(0, dtype));
}

/** Columns (`axis` -1) or rows (-2) times the elements of a vector. */
export function scaleAxis(x: Node, vector: Node, axis: -1 | -2): Node {
  const batch = vector.shape.slice(0, -1);
  const size = vector.shape.at(-1)!;
  return mul(x, reshape(vector, axis === -1 ? [...batch, 1, size] : [...batch, size, 1]));
}

/** 1/x, and 0 for 0: terms that a tie or a zero leaves undefined are left out. */
export function reciprocalOrZero(x: Node): Node {
  const zero = constant(0, x.dtype);
  const one = constant(1, x.dtype);
  const isZero = equal(x, zero);
  return select(isZero, zero, div(one, select(isZero, one, x)));
}

/** The transpose of the last two axes. */
export function flipped(x: Node): Node {
  return transpose(x, -2, -1);
}

// ---- samples and references -------------------------------------------------------------------

/** Random matrices with `shift` added on the diagonal: well conditioned if it is large. */
export function shiftedTensor(
  shape: Shape,
  shift: number,
  options: RandomOptions = {},
): ReferenceTensor {
  const made = randomTensor(shape, options);
  const [rows, columns] = shape.slice(-2) as [number, number];
  const data = made.data.map((value, flat) => {
    const column = flat % columns;
    const row = Math.floor(flat / columns) % rows;
    const moved = row === column ? value + shift : value;
    return made.dtype === 'float32' ? Math.fround(moved) : moved;
  });
  return { ...made, data };
}

/** A matrix as rows, for the reference implementations. */
export type Rows = number[][];

/** The matrices of a batch, one by one. */
export function matricesOf({ shape, data }: ReferenceTensor): Rows[] {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const count = sizeOf(batchOf(shape));
  return Array.from({ length: count }, (_, k) =>
    Array.from({ length: rows }, (_row, i) =>
      Array.from({ length: columns }, (_column, j) => data[(k * rows + i) * columns + j]!),
    ),
  );
}

/** Product of matrices as rows. */
export function productOf(a: Rows, b: Rows): Rows {
  return a.map((row) =>
    (b[0] ?? []).map((_, j) => row.reduce((total, value, k) => total + value * b[k]![j]!, 0)),
  );
}

export function transposeOf(a: Rows, columns = a[0]?.length ?? 0): Rows {
  return Array.from({ length: columns }, (_, j) => a.map((row) => row[j]!));
}

export function identityOf(size: number): Rows {
  return Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (_column, j) => (i === j ? 1 : 0)),
  );
}
