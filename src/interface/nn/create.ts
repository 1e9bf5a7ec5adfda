// Small helpers of layers: empty parameters and buffers, descriptions, checks.
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

/** The number of groups, which must divide the channels. */
export function checkGroups(
  op: string,
  groups: number,
  inChannels: number,
  outChannels: number,
): number {
  checkInteger(op, 'groups', groups, 1);
  if (inChannels % groups === 0 && outChannels % groups === 0) return groups;
  throw new ArgumentError(
    `${groups} groups do not divide ${inChannels} and ${outChannels} channels`,
    { op },
  );
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
