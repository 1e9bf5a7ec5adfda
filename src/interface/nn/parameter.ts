// Parameters and buffers: tensors that live as long as their module.
import { byteSize, type DType, newTypedArray, type TypedArray } from '../../base/dtype.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import { input } from '../../graph/ops/leaf.ts';
import { Storage } from '../../runtime/storage.ts';
import { claimStorage } from '../tensor/handle.ts';
import { Tensor } from '../tensor/tensor.ts';

function persistentLeaf(values: TypedArray | Tensor, shape: Shape, dtype: DType, tracked: boolean) {
  const host = newTypedArray(dtype, sizeOf(shape));
  const source = values instanceof Tensor ? values.dataSync() : values;
  if (source.length !== host.length) {
    throw new ShapeError(`${source.length} values do not fill ${formatShape(shape)}`, {
      op: tracked ? 'Parameter' : 'Buffer',
    });
  }
  host.set(source);
  const storage = new Storage(host.length * byteSize(dtype), new Uint8Array(host.buffer));
  storage.persistent = true;
  storage.tracked = tracked;
  storage.label = tracked ? 'a parameter' : 'a buffer';
  return input(storage, 0, shape, dtype, tracked, null);
}

/** A tensor that is trained: gradients are computed for it, optimizers update it. */
export class Parameter extends Tensor {
  /** `values`: a tensor, or the elements in row-major order with `shape`. Copied. */
  constructor(values: Tensor);
  constructor(values: TypedArray, shape: Shape, dtype?: DType);
  constructor(values: Tensor | TypedArray, shape?: Shape, dtype: DType = 'float32') {
    super(
      values instanceof Tensor
        ? persistentLeaf(values, values.shape, values.dtype, true)
        : persistentLeaf(values, shape ?? [values.length], dtype, true),
    );
    claimStorage(this);
  }
}

/** A tensor that belongs to a module and is saved with it, but is not trained. */
export class Buffer extends Tensor {
  constructor(values: Tensor);
  constructor(values: TypedArray, shape: Shape, dtype?: DType);
  constructor(values: Tensor | TypedArray, shape?: Shape, dtype: DType = 'float32') {
    super(
      values instanceof Tensor
        ? persistentLeaf(values, values.shape, values.dtype, false)
        : persistentLeaf(values, shape ?? [values.length], dtype, false),
    );
    claimStorage(this);
  }
}
