// Arrays in host memory with a shape: what files hold and datasets give, before it is a Tensor.
import { type DType, type TypedArray, byteSize } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { type Shape, checkShape, formatShape, sizeOf } from '../../base/shape.ts';

/**
 * A typed array seen as a row-major array of `shape`. Without `dtype` the array's own type counts;
 * say it for what a typed array cannot tell: bool, float16 and bfloat16.
 */
export interface HostArray {
  readonly data: TypedArray;
  readonly shape: Shape;
  readonly dtype?: DType | undefined;
}

/** A {@link HostArray} whose element type is settled. */
export interface TypedHostArray extends HostArray {
  readonly dtype: DType;
}

/** True for the eight kinds of typed array that tensors and files are made of. */
export function isTypedArray(value: unknown): value is TypedArray {
  return (
    value instanceof Float32Array ||
    value instanceof Uint8Array ||
    value instanceof Int32Array ||
    value instanceof Float64Array ||
    value instanceof Int8Array ||
    value instanceof Int16Array ||
    value instanceof Uint16Array ||
    value instanceof Uint32Array
  );
}

/** True for `{ data, shape }` with a typed array and a list of numbers. */
export function isHostArray(value: unknown): value is HostArray {
  if (typeof value !== 'object' || value === null) return false;
  if (!('data' in value) || !('shape' in value)) return false;
  return isTypedArray(value.data) && Array.isArray(value.shape);
}

/** The dtype a typed array stands for; `undefined` for Uint16Array, which could be either half. */
export function dtypeOfTypedArray(data: TypedArray): DType | undefined {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Uint8Array) return 'uint8';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int8Array) return 'int8';
  if (data instanceof Int16Array) return 'int16';
  if (data instanceof Uint32Array) return 'uint32';
  return undefined;
}

/**
 * Settles the dtype of an array and checks its length against its shape.
 *
 * @throws ShapeError if the length is not the product of the sizes.
 * @throws DTypeError if the dtype is not the array's, or not given for a Uint16Array.
 */
export function typedHostArray(op: string, array: HostArray): TypedHostArray {
  const { data, shape } = array;
  checkShape(op, shape);
  if (sizeOf(shape) !== data.length) {
    throw new ShapeError(`${data.length} elements do not fill shape ${formatShape(shape)}`, { op });
  }
  const dtype = array.dtype ?? dtypeOfTypedArray(data);
  if (dtype === undefined) {
    throw new DTypeError('a Uint16Array holds the bits of a half, but of which', {
      op,
      hint: "give dtype: 'float16' or 'bfloat16'",
    });
  }
  if (byteSize(dtype) !== data.BYTES_PER_ELEMENT) {
    throw new DTypeError(`${data.constructor.name} cannot hold ${dtype}`, { op });
  }
  return { data, shape, dtype };
}

/** The bytes behind a typed array, without a copy. */
export function bytesOf(data: TypedArray): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** The array in memory of its own: what was read from a larger piece is copied out of it. */
export function ownedArray(array: TypedHostArray): TypedHostArray {
  const { data } = array;
  return data.byteLength === data.buffer.byteLength ? array : { ...array, data: data.slice() };
}
