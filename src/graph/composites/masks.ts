// Masks and selections by position.
import type { DType } from '../../base/dtype.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import {
  add,
  cast,
  constant,
  equal,
  iota,
  lessEqual,
  greaterEqual,
  reshape,
  select,
} from '../ops/index.ts';

/** Bool [rows, columns]: true on and below the diagonal (`upper`: on and above). */
export function triangleMask(rows: number, columns: number, diagonal = 0, upper = false): Node {
  const column = iota([1, columns], 1, 'int32');
  const row = add(iota([rows, 1], 0, 'int32'), constant(diagonal, 'int32'));
  return upper ? greaterEqual(column, row) : lessEqual(column, row);
}

function triangle(op: string, x: Node, diagonal: number, upper: boolean): Node {
  const [rows, columns] = x.shape.slice(-2);
  if (rows === undefined || columns === undefined) {
    throw new ShapeError(`${formatShape(x.shape)} is no matrix`, { op });
  }
  return select(triangleMask(rows, columns, diagonal, upper), x, constant(0, x.dtype));
}

/** The last two axes' lower triangle, zeros above `diagonal`. */
export function tril(x: Node, diagonal = 0): Node {
  return triangle('tril', x, diagonal, false);
}

/** The last two axes' upper triangle, zeros below `diagonal`. */
export function triu(x: Node, diagonal = 0): Node {
  return triangle('triu', x, diagonal, true);
}

/** A new last axis of `classes`: 1 at each index (int32), else 0. */
export function oneHot(index: Node, classes: number, dtype: DType = 'int32'): Node {
  const shape: Shape = [...index.shape, 1];
  return cast(equal(reshape(index, shape), iota([classes], 0, 'int32')), dtype);
}
