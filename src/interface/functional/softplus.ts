// log(1 + exp(x)), which many activations and losses are made of.
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';

/**
 * log(1 + exp(x)) without overflow. Both branches keep their slope at 0, where a form with |x|
 * would lose it.
 */
export function softplusNode(x: Node): Node {
  const zero = ops.constant(0, x.dtype);
  const positive = ops.greater(x, zero);
  const small = ops.log1p(ops.exp(ops.select(positive, zero, x)));
  const large = ops.add(x, ops.log1p(ops.exp(ops.neg(ops.select(positive, x, zero)))));
  return ops.select(positive, large, small);
}
