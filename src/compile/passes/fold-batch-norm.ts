// Batch-norm folding: what a convolution or product is multiplied by and shifted by per channel goes
// into its weights and into one bias, if all of that follows from parameters which stay as they are.
// It is then computed once, ahead of the runs (`memory/prepared.ts`). Results round differently, and
// would depend on whether somebody reads the convolution's own result: strict numerics do without.
import { Node } from '../../graph/node.ts';
import { add, div, mul, neg, sub } from '../../graph/ops/arithmetic.ts';
import { reshape } from '../../graph/ops/broadcast.ts';
import type { RewriteContext, Rule } from './rewrite.ts';

/** The axes of the channels in the result and in the weights. */
interface Channels {
  readonly result: number;
  readonly weight: number;
}

/** A convolution or product of what is computed and weights, which may be other ones. */
interface Weighted {
  readonly node: Node;
  readonly channels: Channels;
}

/** `product` and what is added to it per channel. */
interface Shifted {
  readonly product: Weighted;
  readonly shift: Node;
}

function channelsOf(node: Node): Channels | null {
  const { lower } = node.op;
  const weight = node.inputs[1] as Node;
  if (lower.kind === 'matmul') {
    if (weight.shape.length !== 2) return null;
    return { result: node.shape.length - 1, weight: 1 };
  }
  if (lower.kind !== 'convolution') return null;
  const { role, groups } = lower.geometry(node.attrs, node);
  if (role === 'forward') return { result: 1, weight: 0 };
  // A transposed convolution. In groups its channels are no axis of the weights.
  return role === 'backwardData' && groups === 1 ? { result: 1, weight: 1 } : null;
}

function weighted(node: Node, context: RewriteContext): Weighted | null {
  if (context.isLeaf(node) || !context.usedOnce(node)) return null;
  // In a half the weights would round once more.
  if (node.dtype !== 'float32' && node.dtype !== 'float64') return null;
  const channels = channelsOf(node);
  if (channels === null) return null;
  const [input, weight] = node.inputs as readonly [Node, Node];
  if (weight.dtype !== node.dtype) return null;
  return context.isConstant(weight) && !context.isConstant(input) ? { node, channels } : null;
}

/** Whether `value` is known ahead, and one number for each channel or for all. */
function isPerChannel(value: Node, { node, channels }: Weighted, context: RewriteContext): boolean {
  if (value.dtype !== node.dtype || !context.isConstant(value)) return false;
  const first = node.shape.length - value.shape.length;
  return first >= 0 && value.shape.every((size, i) => size === 1 || first + i === channels.result);
}

function shifted(node: Node, context: RewriteContext): Shifted | null {
  const { name } = node.op;
  if (name !== 'add' && name !== 'sub') return null;
  if (context.isLeaf(node) || !context.usedOnce(node)) return null;
  const [left, right] = node.inputs as readonly [Node, Node];
  const product = weighted(left, context);
  if (product !== null && isPerChannel(right, product, context)) {
    return { product, shift: name === 'add' ? right : neg(right) };
  }
  const other = name === 'add' ? weighted(right, context) : null;
  return other !== null && isPerChannel(left, other, context)
    ? { product: other, shift: left }
    : null;
}

type Scale = typeof mul;

/** The same product with the weights of each channel multiplied, or divided, by its factor. */
function scaled({ node, channels }: Weighted, factor: Node, by: Scale): Node {
  const { op, inputs, attrs, shape, dtype, tracked, device } = node;
  const [input, weight] = inputs as readonly [Node, Node];
  const size = factor.shape.find((length) => length > 1) ?? 1;
  const spread = weight.shape.map((_, axis) => (axis === channels.weight ? size : 1));
  const weights = by(weight, reshape(factor, spread));
  return new Node(op, [input, weights], attrs, shape, dtype, tracked, device);
}

/** (product + shift) * factor or / factor, as the product of other weights + another shift. */
function foldFactor(value: Node, factor: Node, node: Node, context: RewriteContext): Node | null {
  const by: Scale = node.op.name === 'mul' ? mul : div;
  const product = weighted(value, context);
  if (product !== null) {
    if (!isPerChannel(factor, product, context)) return null;
    return scaled(product, factor, by);
  }
  const sum = shifted(value, context);
  if (sum === null || !isPerChannel(factor, sum.product, context)) return null;
  return add(by(sum.product.node, factor), by(sum.shift, factor));
}

/** Two shifts as one. */
function foldShift(value: Node, more: Node, node: Node, context: RewriteContext): Node | null {
  const sum = shifted(value, context);
  if (sum === null || !isPerChannel(more, sum.product, context)) return null;
  const by = node.op.name === 'add' ? add : sub;
  return add(sum.product.node, by(sum.shift, more));
}

export const foldBatchNorm: Rule = {
  name: 'batch-norm-folding',
  apply(node, context) {
    if (context.numerics !== 'fast') return null;
    const [left, right] = node.inputs as readonly [Node, Node];
    switch (node.op.name) {
      case 'mul':
        return foldFactor(left, right, node, context) ?? foldFactor(right, left, node, context);
      case 'div':
        return foldFactor(left, right, node, context);
      case 'add':
        return foldShift(left, right, node, context) ?? foldShift(right, left, node, context);
      case 'sub':
        return foldShift(left, right, node, context);
      default:
        return null;
    }
  },
};
