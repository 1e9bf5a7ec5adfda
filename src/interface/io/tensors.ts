// Between tensors and host arrays: the only place where files and datasets touch Tensor.
import { fromBytes } from '../tensor/handle.ts';
import { Tensor, isTensor } from '../tensor/index.ts';
import { type HostArray, type TypedHostArray, bytesOf, typedHostArray } from './host-array.ts';

export { Tensor, isTensor };

/** The values of a tensor in host memory; waits for its device. */
export async function toHostArray(value: Tensor): Promise<TypedHostArray> {
  return { data: await value.data(), shape: value.shape, dtype: value.dtype };
}

/** A tensor of the values of `array`, copied. */
export function fromHostArray(array: HostArray): Tensor {
  return adoptHostArray({ ...array, data: array.data.slice() });
}

/** A tensor that takes over the memory of `array`: for arrays that nobody else holds. */
export function adoptHostArray(array: HostArray): Tensor {
  const { data, shape, dtype } = typedHostArray('tensor', array);
  return fromBytes(bytesOf(data), [...shape], dtype);
}
