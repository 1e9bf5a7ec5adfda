// What the reference implementations share: plain loops over float64 tensors, as obvious as can be.
import {
  type DType,
  fromBfloat16Bits,
  fromFloat16Bits,
  toBfloat16Bits,
  toFloat16Bits,
} from '../../base/dtype.ts';
import { contiguousStrides, type Shape, sizeOf } from '../../base/shape.ts';
import type { ReferenceTensor } from '../op.ts';

/** The shape and dtype that a reference implementation has to fill. */
export interface ReferenceOutput {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** The value that `dtype` stores for `value`: floats round, integers wrap, bool is nonzero. */
export function storedValue(dtype: DType, value: number): number {
  switch (dtype) {
    case 'float64':
      return value;
    case 'float32':
      return Math.fround(value);
    case 'float16':
      return fromFloat16Bits(toFloat16Bits(value));
    case 'bfloat16':
      return fromBfloat16Bits(toBfloat16Bits(value));
    case 'bool':
      return value === 0 ? 0 : 1;
    case 'int8':
    case 'uint8':
    case 'int16':
    case 'int32':
    case 'uint32':
      return wrapInteger(dtype, Math.trunc(value));
    default:
      dtype satisfies never;
      return value;
  }
}

/** An integer result as its dtype stores it; floats stay as exact as float64 is. */
export function wrapInteger(dtype: DType, value: number): number {
  switch (dtype) {
    case 'int8':
      return (value << 24) >> 24;
    case 'uint8':
      return value & 255;
    case 'int16':
      return (value << 16) >> 16;
    case 'int32':
      return value | 0;
    case 'uint32':
      return value >>> 0;
    case 'bool':
      return value === 0 ? 0 : 1;
    case 'float32':
    case 'float16':
    case 'bfloat16':
    case 'float64':
      return value;
    default:
      dtype satisfies never;
      return value;
  }
}

/** Calls `visit` for every index of `shape` in row-major order; `indices` is reused. */
export function forEachIndex(
  shape: Shape,
  visit: (indices: readonly number[], flat: number) => void,
): void {
  const indices = shape.map(() => 0);
  const size = sizeOf(shape);
  for (let flat = 0; flat < size; flat++) {
    visit(indices, flat);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      indices[axis] = indices[axis]! + 1;
      if (indices[axis]! < shape[axis]!) break;
      indices[axis] = 0;
    }
  }
}

/** Row-major position of `indices`. */
export function flatPosition(shape: Shape, indices: readonly number[]): number {
  let flat = 0;
  for (let axis = 0; axis < shape.length; axis++) flat = flat * shape[axis]! + indices[axis]!;
  return flat;
}

/** The element at `indices`. */
export function elementAt(tensor: ReferenceTensor, indices: readonly number[]): number {
  return tensor.data[flatPosition(tensor.shape, indices)]!;
}

/** Fills a result from a function of its indices. */
export function fillReference(
  output: ReferenceOutput,
  value: (indices: readonly number[], flat: number) => number,
): Float64Array {
  const data = new Float64Array(sizeOf(output.shape));
  forEachIndex(output.shape, (indices, flat) => {
    data[flat] = wrapInteger(output.dtype, value(indices, flat));
  });
  return data;
}

/** Applies a function to broadcast inputs, element by element. */
export function broadcastReference(
  inputs: readonly ReferenceTensor[],
  output: ReferenceOutput,
  apply: (...values: number[]) => number,
): Float64Array {
  const strides = inputs.map(({ shape }) => {
    const own = contiguousStrides(shape);
    const shift = output.shape.length - shape.length;
    return output.shape.map((_, axis) =>
      axis < shift || shape[axis - shift] === 1 ? 0 : own[axis - shift]!,
    );
  });
  const values = inputs.map(() => 0);
  return fillReference(output, (indices) => {
    for (let i = 0; i < inputs.length; i++) {
      let position = 0;
      for (let axis = 0; axis < indices.length; axis++) {
        position += strides[i]![axis]! * indices[axis]!;
      }
      values[i] = inputs[i]!.data[position]!;
    }
    return apply(...values);
  });
}

/**
 * Splits `shape` at `axis` into sizes before, at and after it: element (o, a, i) stands at
 * `(o * axisSize + a) * inner + i`.
 */
export function splitAtAxis(
  shape: Shape,
  axis: number,
): { outer: number; axisSize: number; inner: number } {
  return {
    outer: sizeOf(shape.slice(0, axis)),
    axisSize: shape[axis] ?? 1,
    inner: sizeOf(shape.slice(axis + 1)),
  };
}
