// Between tensors and host arrays: the only place where files and datasets touch Tensor.
import { DTypeError } from '../../base/errors.ts';
import { Tensor, tensor } from '../tensor/index.ts';
import { type HostArray, type TypedHostArray, typedHostArray } from './host-array.ts';

export { Tensor };

/** True for a Tensor. */
export function isTensor(value: unknown): value is Tensor {
  return value instanceof Tensor;
}

/** The values of a tensor in host memory; waits for its device. */
export async function toHostArray(value: Tensor): Promise<TypedHostArray> {
  return { data: await value.data(), shape: value.shape, dtype: value.dtype };
}

/** A tensor of the values of `array`. */
export function fromHostArray(array: HostArray): Tensor {
  const { data, shape, dtype } = typedHostArray('tensor', array);
  const result = tensor(data, { shape, dtype });
  if (result.dtype !== dtype) throw new DTypeError(`internal: ${dtype} became ${result.dtype}`);
  return result;
}
