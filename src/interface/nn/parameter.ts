// Parameters and buffers: tensors that live as long as their module.
import { type DType, isFloat, type TypedArray } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import { input } from '../../graph/ops/leaf.ts';
import { Storage } from '../../runtime/storage.ts';
import { encodeNumbers } from '../tensor/encode.ts';
import { claimStorage, notTensor } from '../tensor/handle.ts';
import { Tensor } from '../tensor/tensor.ts';

type Values = Tensor | TypedArray;

/** A stored value of its own; shape and dtype are for values that have none. */
function persistentLeaf(tracked: boolean, values: Values, shape?: Shape, dtype: DType = 'float32') {
  const op = tracked ? 'nn.Parameter' : 'nn.Buffer';
  if (values instanceof Tensor) {
    return leafOf(op, tracked, values.dataSync(), values.shape, values.dtype);
  }
  if (typeof (values as TypedArray | undefined)?.length !== 'number') {
    notTensor(op, values, 'a tensor or a typed array');
  }
  return leafOf(op, tracked, values, shape ?? [values.length], dtype);
}

function leafOf(op: string, tracked: boolean, values: TypedArray, shape: Shape, dtype: DType) {
  if (tracked && !isFloat(dtype)) {
    throw new DTypeError(`only floats have gradients, not ${dtype}`, { op });
  }
  if (values.length !== sizeOf(shape)) {
    throw new ShapeError(`${values.length} values do not fill ${formatShape(shape)}`, { op });
  }
  const host = encodeNumbers(op, values, dtype);
  const storage = new Storage(host.byteLength, new Uint8Array(host.buffer));
  storage.persistent = true;
  storage.tracked = tracked;
  storage.label = tracked ? 'a parameter' : 'a buffer';
  return input(storage, 0, shape, dtype, tracked, null);
}

/** A tensor that is trained: gradients are computed for it, optimizers update it. */
export class Parameter extends Tensor {
  /**
   * `values`: a tensor, or the elements in row-major order with `shape`. Copied. Throws DTypeError
   * unless they are floats.
   */
  constructor(values: Tensor);
  constructor(values: TypedArray, shape: Shape, dtype?: DType);
  constructor(values: Values, shape?: Shape, dtype?: DType) {
    super(persistentLeaf(true, values, shape, dtype));
    claimStorage(this);
  }
}

/** A tensor that belongs to a module and is saved with it, but is not trained. */
export class Buffer extends Tensor {
  constructor(values: Tensor);
  constructor(values: TypedArray, shape: Shape, dtype?: DType);
  constructor(values: Values, shape?: Shape, dtype?: DType) {
    super(persistentLeaf(false, values, shape, dtype));
    claimStorage(this);
  }
}
