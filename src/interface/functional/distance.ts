// Similarities and distances of vectors along an axis.
import { ArgumentError } from '../../base/errors.ts';
import { broadcastShapes, normalizeAxis } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { floatOperands } from '../tensor/arithmetic.ts';
import { numberNode, wrap } from '../tensor/handle.ts';
import { normNode } from '../tensor/reductions.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';

/** Cosine of the angle between vectors, of whose norms each is at least `eps`. */
export function cosineNode(x: Node, y: Node, axis: number, eps: number): Node {
  const floor = numberNode(eps, x.dtype);
  const length = (node: Node): Node => ops.maximum(normNode(node, 2, [axis], true), floor);
  const product = ops.mul(ops.div(x, length(x)), ops.div(y, length(y)));
  return ops.sum(product, axis);
}

/** Cosine of the angle between vectors along `axis` (default 1). */
export function cosineSimilarity(
  x1: Tensor,
  x2: Tensor,
  options: { axis?: number; eps?: number } = {},
): Tensor {
  const [a, b] = floatOperands('cosineSimilarity', x1, x2);
  const { axis = 1, eps = 1e-8 } = options;
  const shape = broadcastShapes('cosineSimilarity', a.shape, b.shape);
  const normal = normalizeAxis('cosineSimilarity', axis, shape.length);
  return wrap(cosineNode(ops.expand(a, shape), ops.expand(b, shape), normal, eps));
}

export interface PairwiseDistanceOptions {
  /** Order of the norm; default 2. */
  readonly p?: number;
  /** Added to the difference; default 1e-6. */
  readonly eps?: number;
  readonly keepdims?: boolean;
}

/** The p-norm of x1 - x2 + eps along the last axis. */
export function pairwiseDistance(
  x1: Tensor,
  x2: Tensor,
  options: PairwiseDistanceOptions = {},
): Tensor {
  const [a, b] = floatOperands('pairwiseDistance', x1, x2);
  const { p = 2, eps = 1e-6, keepdims = false } = options;
  return wrap(distanceNode(a, b, p, eps, keepdims));
}

export function distanceNode(a: Node, b: Node, p: number, eps: number, keepdims: boolean): Node {
  const difference = ops.add(ops.sub(a, b), numberNode(eps, a.dtype));
  return normNode(difference, p, [difference.shape.length - 1], keepdims);
}

/** x over its p-norm along `axis` (default 1), of at least `eps`. */
export function normalize(
  x: Tensor,
  options: { p?: number; axis?: number; eps?: number } = {},
): Tensor {
  const node = floatNode('normalize', x);
  const { p = 2, axis = 1, eps = 1e-12 } = options;
  if (Number.isNaN(p)) throw new ArgumentError('p is NaN', { op: 'normalize' });
  const normal = normalizeAxis('normalize', axis, node.shape.length);
  const length = ops.maximum(normNode(node, p, [normal], true), numberNode(eps, node.dtype));
  return wrap(ops.div(node, length));
}
