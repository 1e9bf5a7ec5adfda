// Softmax and its relatives along one axis.
import { ArgumentError } from '../../base/errors.ts';
import { normalizeAxis } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { inFloat32 } from '../tensor/autocast.ts';
import { wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';

/** x minus its largest value along the axis, which no gradient needs to see. */
function shifted(node: Node, axis: number): Node {
  return ops.sub(node, ops.detach(ops.max(node, axis, true)));
}

/** log(softmax(x)) of a float node. */
export function logSoftmaxNode(node: Node, axis: number): Node {
  if (node.shape[axis] === 0) return node;
  return inFloat32(node, (wide) => {
    const centered = shifted(wide, axis);
    return ops.sub(centered, ops.log(ops.sum(ops.exp(centered), axis, true)));
  });
}

/** exp(x) / sum(exp(x)) of a float node. */
export function softmaxNode(node: Node, axis: number): Node {
  if (node.shape[axis] === 0) return node;
  return inFloat32(node, (wide) => {
    const powers = ops.exp(shifted(wide, axis));
    // One division a row: the sum is at least 1.
    return ops.mul(powers, ops.reciprocal(ops.sum(powers, axis, true)));
  });
}

function along(
  op: string,
  build: (node: Node, axis: number) => Node,
  x: Tensor,
  axis: number,
): Tensor {
  if (typeof axis !== 'number') {
    throw new ArgumentError('name the axis that sums to one', { op, hint: `${op}(x, -1)` });
  }
  const node = floatNode(op, x);
  if (node.shape.length === 0) {
    return wrap(ops.reshape(build(ops.reshape(node, [1]), 0), []));
  }
  return wrap(build(node, normalizeAxis(op, axis, node.shape.length)));
}

/**
 * exp(x) / sum(exp(x)) along an axis, without overflow.
 *
 * @example
 * ```ts
 * softmax(tensor([0, 0]), -1); // => [0.5, 0.5]
 * ```
 */
export function softmax(x: Tensor, axis: number): Tensor {
  return along('softmax', softmaxNode, x, axis);
}

/** log(softmax(x)), precise also where softmax is tiny. */
export function logSoftmax(x: Tensor, axis: number): Tensor {
  return along('logSoftmax', logSoftmaxNode, x, axis);
}

/** softmax(-x). */
export function softmin(x: Tensor, axis: number): Tensor {
  return along('softmin', (node, normal) => softmaxNode(ops.neg(node), normal), x, axis);
}
