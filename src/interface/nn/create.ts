// Small helpers of layers: empty parameters and buffers, sizes per axis, descriptions.
import { type DType, newTypedArray } from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import { type Shape, sizeOf } from '../../base/shape.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { Buffer, Parameter } from './parameter.ts';

/** A parameter filled with `value`. */
export function newParameter(shape: Shape, value = 0): Parameter {
  return new Parameter(new Float32Array(sizeOf(shape)).fill(value), shape);
}

/** A buffer filled with `value`. */
export function newBuffer(shape: Shape, value = 0, dtype: DType = 'float32'): Buffer {
  return new Buffer(newTypedArray(dtype, sizeOf(shape)).fill(value), shape, dtype);
}

/** One size for all spatial axes, or one per axis. */
export type Sizes = number | readonly number[];

/** A size per axis: one number stands for all. Throws ArgumentError. */
export function perAxis(
  op: string,
  name: string,
  value: Sizes,
  axes: number,
  low: number,
): readonly number[] {
  const list = typeof value === 'number' ? Array.from({ length: axes }, () => value) : value;
  if (list.length !== axes) {
    throw new ArgumentError(`${name} has ${list.length} sizes for ${axes} axes`, { op });
  }
  for (const size of list) checkInteger(op, name, size, low);
  return list;
}

/** `name=value` of each entry that is not undefined, for descriptions. */
export function describeOptions(options: Readonly<Record<string, unknown>>): string {
  return Object.entries(options)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${describeOption(value)}`)
    .join(', ');
}

function describeOption(value: unknown): string {
  if (!Array.isArray(value)) return String(value);
  const [first] = value;
  const isOne = value.length > 0 && value.every((item) => item === first);
  return isOne ? String(first) : `[${value.join(', ')}]`;
}
