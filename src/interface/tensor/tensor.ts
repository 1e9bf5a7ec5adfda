// The Tensor class: the methods that users call, each one line over a free function.
import type { Node } from '../../graph/node.ts';
import * as arithmetic from './arithmetic.ts';
import { setTensorConstructor, TensorHandle, type TensorLike } from './handle.ts';

export class Tensor extends TensorHandle {
  /** `this + other`, broadcast. */
  add(other: TensorLike): Tensor {
    return arithmetic.add(this, other);
  }
  /** `this - other`, broadcast. */
  sub(other: TensorLike): Tensor {
    return arithmetic.sub(this, other);
  }
  /** `this * other`, broadcast. */
  mul(other: TensorLike): Tensor {
    return arithmetic.mul(this, other);
  }
  /** `this / other`, broadcast; integers become float32. */
  div(other: TensorLike): Tensor {
    return arithmetic.div(this, other);
  }
}

setTensorConstructor((node: Node) => new Tensor(node));
