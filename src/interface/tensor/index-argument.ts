// What stands between the brackets of `x.at(...)`: reading it, and turning it into slices and
// index tensors.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { isInteger } from '../../base/dtype.ts';
import { formatShape, type Shape, sameShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { valuesNow } from './conversion.ts';
import { tensor } from './creation.ts';
import { isTensor } from './handle.ts';
import { indexNode } from './index-values.ts';
import { checkIndex } from './joining.ts';
import type { Tensor } from './tensor.ts';

/** A range of an axis by Python's rules; made by `slice`. */
export class Slice {
  readonly start: number | undefined;
  readonly stop: number | undefined;
  readonly step: number | undefined;
  constructor(start?: number | null, stop?: number | null, step?: number | null) {
    this.start = start ?? undefined;
    this.stop = stop ?? undefined;
    this.step = step ?? undefined;
  }
  toString(): string {
    const text = (value: number | undefined): string => (value === undefined ? '' : String(value));
    const step = this.step === undefined ? '' : `:${this.step}`;
    return `${text(this.start)}:${text(this.stop)}${step}`;
  }
}

/**
 * The range `start:stop:step` of an axis, each of which may be left out or null. Negative bounds
 * count from the end, a negative step runs backwards.
 */
export function slice(start?: number | null, stop?: number | null, step?: number | null): Slice {
  return new Slice(start, stop, step);
}

/** Nested arrays of integers, or of booleans (a mask). */
export type IndexArray = readonly (number | boolean | IndexArray)[];

/**
 * One place between the brackets: an integer drops its axis; ':' or a range keeps it; null adds an
 * axis of size 1; '...' stands for all axes not named; arrays and tensors of integers pick
 * elements and broadcast together; booleans are a mask. Text like '1:5' or '::-1' is a range.
 */
export type IndexArgument =
  | number
  | ':'
  | '...'
  | null
  | Slice
  | IndexArray
  | Tensor
  | `${number | ''}:${number | ''}`
  | `${number | ''}:${number | ''}:${number | ''}`;

/** What becomes of one axis of the operand, or (newAxis) of none. */
export type AxisIndex =
  | { readonly kind: 'integer'; readonly index: number }
  | { readonly kind: 'range'; readonly range: Slice }
  | { readonly kind: 'newAxis' }
  | { readonly kind: 'gather'; readonly index: Node };

const RANGE = /^(-?\d*):(-?\d*)(?::(-?\d*))?$/;

function parseRange(op: string, text: string): Slice {
  const match = RANGE.exec(text.trim());
  if (match === null) {
    throw new ArgumentError(`'${text}' is no index`, {
      op,
      hint: "':', '...', or a range like '1:5'",
    });
  }
  const bound = (part: string | undefined): number | null =>
    part === undefined || part === '' ? null : Number(part);
  return new Slice(bound(match[1]), bound(match[2]), bound(match[3]));
}

/** The index arrays that a mask stands for: one per axis of the mask, in row-major order. */
function maskPositions(op: string, mask: Tensor, shape: Shape, axis: number): Tensor[] {
  const covered = shape.slice(axis, axis + mask.ndim);
  if (!sameShape(covered, mask.shape)) {
    throw new ShapeError(
      `the mask is ${formatShape(mask.shape)}, the axes it stands for are ${formatShape(covered)}`,
      { op },
    );
  }
  return positionsOf(valuesNow(op, mask), mask.shape);
}

/** Row-major positions of nonzero values, as one int32 vector per axis. */
export function positionsOf(values: ArrayLike<number>, shape: Shape): Tensor[] {
  const flat: number[] = [];
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) flat.push(i);
  const columns = shape.map(() => new Int32Array(flat.length));
  flat.forEach((position, row) => {
    let rest = position;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const size = shape[axis] as number;
      (columns[axis] as Int32Array)[row] = rest % size;
      rest = Math.floor(rest / size);
    }
  });
  return columns.map((column) => tensor(column));
}

function toIndexTensor(op: string, given: IndexArray): Tensor {
  const read = tensor(given.length === 0 ? new Int32Array(0) : given);
  if (read.dtype === 'bool' || given.length === 0) return read;
  const values = read.dataSync();
  for (let i = 0; i < values.length; i++) {
    if (!Number.isInteger(values[i])) {
      throw new ArgumentError(`indices are integers, got ${values[i]}`, { op });
    }
  }
  return tensor(Int32Array.from(values), { shape: read.shape });
}

/** How many axes of the operand an argument uses up. */
function axesUsed(argument: IndexArgument | Tensor): number {
  if (argument === null || argument === '...') return 0;
  return isTensor(argument) && argument.dtype === 'bool' ? argument.ndim : 1;
}

/**
 * Reads the arguments against the shape of the operand: one entry per axis and per new axis, with
 * '...' written out and masks replaced by their positions. Throws ShapeError for too many indices
 * and for those out of range.
 */
export function readIndices(
  op: string,
  shape: Shape,
  given: readonly IndexArgument[],
): AxisIndex[] {
  const args = given.map((argument) =>
    Array.isArray(argument) ? toIndexTensor(op, argument as IndexArray) : argument,
  ) as readonly (Exclude<IndexArgument, IndexArray> | Tensor)[];
  const used = args.reduce((sum: number, argument) => sum + axesUsed(argument), 0);
  if (used > shape.length) {
    throw new ShapeError(`${used} indices for ${formatShape(shape)}`, { op });
  }
  if (args.indexOf('...') !== args.lastIndexOf('...')) {
    throw new ArgumentError("only one '...' may be given", { op });
  }
  const result: AxisIndex[] = [];
  let axis = 0;
  const fill = (count: number): void => {
    for (let i = 0; i < count; i++) result.push({ kind: 'range', range: new Slice() });
    axis += count;
  };
  for (const argument of args) {
    if (argument === '...') fill(shape.length - used);
    else if (argument === null) result.push({ kind: 'newAxis' });
    else {
      const entries = readOne(op, shape, axis, argument);
      result.push(...entries);
      axis += entries.length;
    }
  }
  fill(shape.length - axis);
  return result;
}

function readOne(
  op: string,
  shape: Shape,
  axis: number,
  argument: Exclude<IndexArgument, IndexArray | null> | Tensor,
): AxisIndex[] {
  const size = shape[axis] as number;
  if (typeof argument === 'number') {
    return [{ kind: 'integer', index: checkIndex(op, argument, size, axis) }];
  }
  if (typeof argument === 'string') return [{ kind: 'range', range: parseRange(op, argument) }];
  if (argument instanceof Slice) return [{ kind: 'range', range: argument }];
  if (!isTensor(argument)) {
    throw new ArgumentError(`${String(argument)} is no index`, { op });
  }
  if (argument.dtype === 'bool') {
    return maskPositions(op, argument, shape, axis).map((positions) => ({
      kind: 'gather',
      index: positions.node,
    }));
  }
  if (!isInteger(argument.dtype)) {
    throw new ArgumentError(`indices are integers or a bool mask, got ${argument.dtype}`, { op });
  }
  return [{ kind: 'gather', index: indexNode(op, argument, size, { wrapNegative: true }) }];
}

/** Flat row-major index of broadcast index tensors over `sizes`. */
export function flatIndex(indices: readonly Node[], sizes: Shape): Node {
  return indices.reduce((flat, index, i) =>
    ops.add(ops.mul(flat, ops.constant(sizes[i] as number, 'int32')), index),
  );
}
