// Reading of arguments: what users may write in several ways becomes one form here, and what is
// wrong is named before anything is built.
import type { DType } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { checkShape, formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { castNode, isTensor, numberNode, type TensorLike } from './handle.ts';
import type { Tensor } from './tensor.ts';

/** One axis or several; negative ones count from the end. */
export type AxisArgument = number | readonly number[];

/** Whether reduced axes stay, with size 1. */
export interface KeepDims {
  readonly keepdims?: boolean;
}

/** What a value is, for messages. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array; wrap it with tensor()';
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}; wrap it with tensor()`;
  return typeof value === 'object' ? value.constructor.name : typeof value;
}

/** The node of a tensor argument. Throws ArgumentError for anything else. */
export function nodeOf(op: string, value: Tensor): Node {
  if (isTensor(value)) return value.node;
  throw new ArgumentError(`expected a tensor, got ${describeValue(value)}`, { op });
}

/** The node of a tensor or number beside `like`, whose dtype a number takes. */
export function nodeLike(op: string, value: TensorLike, dtype: DType): Node {
  if (isTensor(value)) return castNode(value.node, dtype);
  if (typeof value === 'number' || typeof value === 'boolean') {
    return numberNode(Number(value), dtype);
  }
  throw new ArgumentError(`expected a tensor or a number, got ${describeValue(value)}`, { op });
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

/** An integer within bounds. Throws ArgumentError. */
export function checkInteger(op: string, name: string, value: number, low: number): number {
  if (!Number.isInteger(value) || value < low) {
    throw new ArgumentError(`${name} must be an integer of at least ${low}, got ${value}`, { op });
  }
  return value;
}
