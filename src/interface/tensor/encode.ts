// From JavaScript's numbers to the bits that a dtype stores.
import {
  byteSize,
  type DType,
  isFloat,
  newTypedArray,
  toBfloat16Bits,
  toFloat16Bits,
  type TypedArray,
} from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';

/** The range of an integer dtype. */
function rangeOf(dtype: DType): readonly [number, number] {
  const bits = byteSize(dtype) * 8;
  return dtype.startsWith('u') ? [0, 2 ** bits - 1] : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
}

/**
 * Numbers as the host array that stores `dtype`: halves encoded, bools 0 or 1, integers checked. An
 * array of the kind that stores it holds its bits.
 */
export function encodeNumbers(op: string, values: ArrayLike<number>, dtype: DType): TypedArray {
  const host = newTypedArray(dtype, values.length);
  if (values.constructor === host.constructor && dtype !== 'bool') host.set(values);
  else if (dtype === 'float16' || dtype === 'bfloat16') {
    const encode = dtype === 'float16' ? toFloat16Bits : toBfloat16Bits;
    for (let i = 0; i < values.length; i++) host[i] = encode(values[i] as number);
  } else if (dtype === 'bool') {
    for (let i = 0; i < values.length; i++) host[i] = values[i] === 0 ? 0 : 1;
  } else if (isFloat(dtype)) host.set(values);
  else {
    const [low, high] = rangeOf(dtype);
    for (let i = 0; i < values.length; i++) {
      const value = Math.trunc(values[i] as number);
      if (!(value >= low && value <= high)) {
        throw new DTypeError(`${values[i]} does not fit ${dtype}`, {
          op,
          hint: `${dtype} holds ${low} to ${high}`,
        });
      }
      host[i] = value;
    }
  }
  return host;
}
