// Elements as files store them, little-endian, to the arrays of tensors; and views with strides packed.
import { type TypedArray, viewTypedArray } from '../../base/dtype.ts';
import { ArgumentError, FormatError, internalError } from '../../base/errors.ts';
import { contiguousStrides, sizeOf } from '../../base/shape.ts';
import { FILE_DTYPE_INFO, type FileDType } from './safetensors-header.ts';

/** Throws ArgumentError on machines whose typed arrays are not the files' bytes. */
export function requireLittleEndian(): void {
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) {
    throw new ArgumentError('weight files need a little-endian machine');
  }
}

/**
 * `bytes` as an array of the dtype in memory: a view of them where alignment and type allow it. 64-bit
 * integers are narrowed with a range check, U16 is widened. `name` and `byteOffset` (where the bytes
 * begin in their file, if that means anything) go into messages.
 *
 * @throws FormatError for an integer out of range, and a BOOL other than 0 and 1.
 */
export function decodeElements(
  name: string,
  fileDType: FileDType,
  bytes: Uint8Array,
  byteOffset?: number,
): TypedArray {
  const { bytes: itemSize, dtype } = FILE_DTYPE_INFO[fileDType];
  const aligned = bytes.byteOffset % itemSize === 0 ? bytes : bytes.slice();
  const count = bytes.byteLength / itemSize;
  switch (fileDType) {
    case 'I64':
    case 'U64':
      return narrow(name, fileDType, aligned, byteOffset);
    case 'U16':
      return Int32Array.from(new Uint16Array(aligned.buffer, aligned.byteOffset, count));
    case 'BOOL': {
      const wrong = aligned.findIndex((value) => value > 1);
      if (wrong >= 0) {
        throw new FormatError(
          `tensor '${name}': a BOOL of ${aligned[wrong]}`,
          place(byteOffset, wrong),
        );
      }
      return aligned;
    }
    case 'F64':
    case 'F32':
    case 'F16':
    case 'BF16':
    case 'I32':
    case 'I16':
    case 'I8':
    case 'U32':
    case 'U8':
      return viewTypedArray(dtype, aligned.buffer, aligned.byteOffset, count);
    default:
      fileDType satisfies never;
      throw internalError('unknown file dtype');
  }
}

function place(byteOffset: number | undefined, distance: number): { offset?: number } {
  return byteOffset === undefined ? {} : { offset: byteOffset + distance };
}

/** 64-bit integers as 32-bit ones: the high word may only repeat the sign. */
function narrow(
  name: string,
  fileDType: 'I64' | 'U64',
  bytes: Uint8Array,
  byteOffset: number | undefined,
): Int32Array | Uint32Array {
  const signed = fileDType === 'I64';
  const count = bytes.byteLength / 8;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, count * 2);
  const result = signed ? new Int32Array(count) : new Uint32Array(count);
  for (let index = 0; index < count; index++) {
    const low = words[2 * index] as number;
    const high = words[2 * index + 1] as number;
    if (high !== (signed ? low >> 31 : 0)) {
      const value = new DataView(bytes.buffer, bytes.byteOffset + 8 * index, 8);
      const exact = signed ? value.getBigInt64(0, true) : value.getBigUint64(0, true);
      throw new FormatError(
        `tensor '${name}': element ${index} is ${exact}, outside ${FILE_DTYPE_INFO[fileDType].dtype}`,
        place(byteOffset, 8 * index),
      );
    }
    result[index] = low;
  }
  return result;
}

/** Whether elements with these strides lie one after the other, in row-major order. */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  const packed = contiguousStrides(shape);
  return shape.every((size, axis) => size === 1 || strides[axis] === packed[axis]);
}

/** Elements from the first to the last of a view, counting those between. */
export function viewExtent(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((sum, size, axis) => sum + (size - 1) * (strides[axis] ?? 0), 1);
}

/** Bytes as units of 1, 2 or 4: elements of 8 are moved as two units, as they are. */
function unitsOf(bytes: Uint8Array, unit: number): Uint8Array | Uint16Array | Uint32Array {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % unit === 0 ? bytes : bytes.slice();
  if (unit === 1) return new Uint8Array(buffer, byteOffset, byteLength);
  if (unit === 2) return new Uint16Array(buffer, byteOffset, byteLength / 2);
  return new Uint32Array(buffer, byteOffset, byteLength / 4);
}

/**
 * The bytes of a view, in row-major order. `bytes` starts at the view's first element and holds its
 * whole {@link viewExtent}; strides count elements of `itemSize` bytes (1, 2, 4 or 8) and are not
 * negative.
 */
export function packView(
  bytes: Uint8Array,
  itemSize: number,
  shape: readonly number[],
  strides: readonly number[],
): Uint8Array {
  const count = sizeOf(shape);
  if (isContiguous(shape, strides)) return bytes.subarray(0, count * itemSize);
  const result = new Uint8Array(count * itemSize);
  const unit = Math.min(itemSize, 4);
  const from = unitsOf(bytes, unit);
  const to = unitsOf(result, unit);
  // Two units of an element are one more axis.
  const sizes = itemSize === 8 ? [...shape, 2] : shape;
  const steps = itemSize === 8 ? [...strides.map((stride) => 2 * stride), 1] : strides;
  const outer = sizes.slice(0, -1);
  const inner = sizes.at(-1) ?? 1;
  const step = steps.at(-1) ?? 0;
  const index = outer.map(() => 0);
  let start = 0;
  for (let row = 0; row < to.length; row += inner) {
    for (let i = 0; i < inner; i++) to[row + i] = from[start + i * step] as number;
    for (let axis = outer.length - 1; axis >= 0; axis--) {
      const stride = steps[axis] ?? 0;
      const size = outer[axis] ?? 0;
      start += stride;
      index[axis] = (index[axis] ?? 0) + 1;
      if ((index[axis] ?? 0) < size) break;
      start -= stride * size;
      index[axis] = 0;
    }
  }
  return result;
}
