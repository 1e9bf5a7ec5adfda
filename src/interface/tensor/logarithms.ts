// Logarithmic functions of two nodes that need care at zero and infinity.
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';

/** log(exp(x) + exp(y)) without overflow. */
export function logaddexpNode(x: Node, y: Node): Node {
  const large = ops.maximum(x, y);
  const zero = ops.constant(0, x.dtype);
  // Two equal infinities: their difference is NaN, the answer is that infinity.
  const difference = ops.neg(ops.abs(ops.sub(x, y)));
  const gap = ops.select(ops.logicalAnd(ops.isInf(x), ops.equal(x, y)), zero, difference);
  return ops.add(large, ops.log1p(ops.exp(gap)));
}

/** x * log(y), 0 where x is 0 (unless y is NaN). */
export function xlogyNode(x: Node, y: Node): Node {
  const zero = ops.constant(0, x.dtype);
  const one = ops.constant(1, x.dtype);
  const skip = ops.logicalAnd(ops.equal(x, zero), ops.logicalNot(ops.isNaN(y)));
  return ops.select(skip, zero, ops.mul(x, ops.log(ops.select(skip, one, y))));
}
