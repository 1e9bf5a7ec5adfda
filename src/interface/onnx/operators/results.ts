// Small words that the operators share.
import { ArgumentError } from '../../../base/errors.ts';
import type { Tensor } from '../../tensor/index.ts';
import type { ElementType } from '../tensor-data.ts';
import { TensorValue } from '../values.ts';

/** A result of a type that its dtype does not tell: int64 is computed as int32. */
export function as(type: ElementType, tensor: Tensor): TensorValue {
  return TensorValue.ofTensor(tensor, type);
}

/** A wrapped result of unsigned 16-bit arithmetic, which is computed in 32 bits. */
export function wrapped(type: ElementType, tensor: Tensor): TensorValue {
  return as(type, type === 'uint16' ? tensor.bitwiseAnd(0xffff) : tensor);
}

/** The whole number nearest to zero of a quotient; throws for one by zero. */
export function wideQuotient(a: bigint, b: bigint): bigint {
  if (b === 0n) throw new ArgumentError('division of an integer by zero');
  return a / b;
}

/** The number of a tensor of one element if it is known on the host, else the tensor. */
export function scalarOr(value: TensorValue): Tensor | number {
  if (value.known === null || value.size !== 1 || value.rank > 0) return value.tensor;
  return value.numbers()[0] ?? 0;
}
