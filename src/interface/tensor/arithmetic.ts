// Elementwise arithmetic, comparison and logic of tensors and numbers, with PyTorch's promotion.
import { type DType, isFloat } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { castNode, promoteOperands, type TensorLike, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

type BinaryNode = (a: Node, b: Node) => Node;

function binary(op: string, build: BinaryNode, a: TensorLike, b: TensorLike): Tensor {
  const [left, right] = promoteOperands(op, a, b);
  return wrap(build(left, right));
}

/** As `binary`, with integers and bools made float32 first: true division, powers of e. */
function floatBinary(op: string, build: BinaryNode, a: TensorLike, b: TensorLike): Tensor {
  const [left, right] = promoteOperands(op, a, b);
  const dtype: DType = isFloat(left.dtype) ? left.dtype : 'float32';
  return wrap(build(castNode(left, dtype), castNode(right, dtype)));
}

/** `a + b`, broadcast. */
export function add(a: TensorLike, b: TensorLike): Tensor {
  return binary('add', ops.add, a, b);
}

/** `a - b`, broadcast. */
export function sub(a: TensorLike, b: TensorLike): Tensor {
  return binary('sub', ops.sub, a, b);
}

/** `a * b`, broadcast. */
export function mul(a: TensorLike, b: TensorLike): Tensor {
  return binary('mul', ops.mul, a, b);
}

/** True division; integers become float32. */
export function div(a: TensorLike, b: TensorLike): Tensor {
  return floatBinary('div', ops.div, a, b);
}
