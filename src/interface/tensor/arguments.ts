// Reading of arguments: what users may write in several ways becomes one form here, and what is
// wrong is named before anything is built.
import type { DType } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { checkShape, formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { autocast } from './autocast.ts';
import {
  castNode,
  isTensor,
  notTensor,
  numberNode,
  numberOf,
  TENSOR_OR_NUMBER,
  type TensorLike,
} from './handle.ts';
import type { Tensor } from './tensor.ts';

export { checkInteger } from '../../base/checks.ts';

/** One axis or several; negative ones count from the end. */
export type AxisArgument = number | readonly number[];

/** Whether reduced axes stay, with size 1. */
export interface KeepDims {
  readonly keepdims?: boolean;
}

/**
 * The node of a tensor argument, in the dtype that mixed precision has for `op`. Throws
 * ArgumentError for anything else.
 */
export function nodeOf(op: string, value: Tensor): Node {
  return isTensor(value) ? autocast(op, value.node) : notTensor(op, value);
}

/** The node of a tensor or number beside `like`, whose dtype a number takes. */
export function nodeLike(op: string, value: TensorLike, dtype: DType): Node {
  if (isTensor(value)) return castNode(value.node, dtype);
  return numberNode(Number(numberOf(op, value, TENSOR_OR_NUMBER)), dtype);
}

/** `(2, 3)` and `([2, 3])` mean the same. */
export function readIntegers(
  op: string,
  values: readonly (number | readonly number[])[],
): readonly number[] {
  const first = values[0];
  const list = values.length === 1 && typeof first === 'object' ? first : values;
  for (const value of list) {
    if (typeof value !== 'number' || !Number.isInteger(value)) {
      throw new ArgumentError(`expected integers, got ${String(value)}`, { op });
    }
  }
  return list as readonly number[];
}

/** Fills in the one -1 of a shape that must hold `size` elements. */
export function resolveShape(
  op: string,
  given: readonly number[],
  shape: Shape,
): readonly number[] {
  const unknown = given.indexOf(-1);
  if (unknown < 0) {
    checkShape(op, given);
    return given;
  }
  const known = sizeOf(given.filter((_, axis) => axis !== unknown));
  const size = sizeOf(shape);
  if (given.includes(-1, unknown + 1)) {
    throw new ShapeError(`only one size can be -1, got ${formatShape(given)}`, { op });
  }
  if (known === 0 || size % known !== 0) {
    throw new ShapeError(
      `${formatShape(shape)} has ${size} element(s), ${formatShape(given)} does not divide them`,
      { op },
    );
  }
  const result = given.map((length, axis) => (axis === unknown ? size / known : length));
  checkShape(op, result);
  return result;
}
