// Operations in plain TypeScript: arrays in, an array out.
import {
  type DType,
  fromBfloat16Bits,
  fromFloat16Bits,
  type TypedArray,
} from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import { type Shape, sizeOf } from '../../base/shape.ts';
import type { HostTensor } from '../../graph/op.ts';
import { encodeNumbers } from '../tensor/encode.ts';

/** An input of a host function: row-major; halves as a Float32Array, bools as 0 and 1. */
export interface HostInput {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: TypedArray;
}

/** What a host function fills: zeros at first. */
export interface HostOutput {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: TypedArray;
}

/** Halves decoded; everything else as it is stored. */
function readable({ shape, dtype, data }: HostTensor): HostInput {
  if (dtype !== 'float16' && dtype !== 'bfloat16') return { shape, dtype, data };
  const decode = dtype === 'float16' ? fromFloat16Bits : fromBfloat16Bits;
  return { shape, dtype, data: Float32Array.from(data, decode) };
}

/** Calls a user's function on what a graph's node reads and writes. */
export function callHost(
  op: string,
  inputs: readonly HostTensor[],
  output: HostTensor,
  body: (inputs: readonly HostInput[], output: HostOutput) => unknown,
): void {
  const { shape, dtype, data } = output;
  const isHalf = dtype === 'float16' || dtype === 'bfloat16';
  const filled = isHalf ? new Float32Array(sizeOf(shape)) : data;
  const result = body(inputs.map(readable), { shape, dtype, data: filled });
  if (result !== undefined) {
    throw new ArgumentError('the host function returns something', {
      op,
      hint: 'it fills output.data, at once: it cannot wait for anything',
    });
  }
  if (isHalf) data.set(encodeNumbers(op, filled, dtype));
  else if (dtype === 'bool') for (let i = 0; i < data.length; i++) data[i] = data[i] === 0 ? 0 : 1;
}
