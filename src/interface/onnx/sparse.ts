// Sparse tensors of a file, written out: the framework computes with dense ones.
import { FormatError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { SparseTensorProto } from './messages.ts';
import { type ElementArray, decodeTensor, newElements } from './tensor-data.ts';

/** A sparse tensor may be so many times larger than what is stored of it. */
const MAX_GROWTH = 4096;

/** The dense values of a sparse tensor. Throws FormatError for indices outside of it. */
export function decodeSparse(proto: SparseTensorProto): ElementArray {
  if (proto.values === undefined || proto.indices === undefined) {
    throw new FormatError('a sparse tensor without values or indices');
  }
  const values = decodeTensor(proto.values);
  const indices = decodeTensor(proto.indices);
  const shape = [...proto.dims];
  const size = sizeOf(shape);
  const count = values.data.length;
  if (shape.some((length) => length < 0) || size > MAX_GROWTH * Math.max(count, 256)) {
    throw new FormatError(`a sparse tensor of shape ${formatShape(shape)} with ${count} values`);
  }
  const perIndex = indices.shape.length === 2 ? shape.length : 1;
  if (indices.data.length !== count * perIndex) {
    throw new FormatError(`${count} sparse values with ${indices.data.length} indices`);
  }
  const data = newElements(values.type, size);
  for (let item = 0; item < count; item++) {
    let at = 0;
    for (let part = 0; part < perIndex; part++) {
      const index = Number(indices.data[item * perIndex + part]);
      const length = perIndex === 1 ? size : (shape[part] ?? 0);
      if (!(index >= 0 && index < length)) {
        throw new FormatError(`a sparse value at ${index} of ${length}`);
      }
      at = perIndex === 1 ? index : at * length + index;
    }
    Reflect.set(data, at, values.data[item]);
  }
  return { type: values.type, shape, data };
}
