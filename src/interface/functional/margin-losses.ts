// Losses that ask for a margin: hinge, ranking, triplet, embedding and multi-class forms.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { floatOperands, minimum } from '../tensor/arithmetic.ts';
import { castNode, numberNode, wrap } from '../tensor/handle.ts';
import { indexNode } from '../tensor/index-values.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { softplusNode } from './softplus.ts';
import { distanceNode, pairwiseDistance } from './distance.ts';
import {
  checkTargetShape,
  elementwiseLoss,
  hinge,
  lossOperands,
  type LossOptions,
  reduceLoss,
  weighted,
} from './reduction.ts';

export interface MarginOptions extends LossOptions {
  readonly margin?: number | undefined;
}

/** `input` where the target is 1, max(0, margin - input) where it is -1. */
export function hingeEmbeddingLoss(
  input: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  const { margin = 1 } = options;
  return elementwiseLoss('hingeEmbeddingLoss', input, target, options, (x, y) => {
    const zero = ops.constant(0, x.dtype);
    const far = hinge(ops.sub(numberNode(margin, x.dtype), x));
    const notPositive = ops.notEqual(y, ops.constant(1, x.dtype));
    const notNegative = ops.notEqual(y, ops.constant(-1, x.dtype));
    return ops.add(ops.select(notPositive, far, zero), ops.select(notNegative, x, zero));
  });
}

/** log(1 + exp(-target * input)), targets 1 and -1. */
export function softMarginLoss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  return elementwiseLoss('softMarginLoss', input, target, options, (x, y) =>
    softplusNode(ops.neg(ops.mul(x, y))),
  );
}

/** Mean over classes of binary cross entropies of the scores [N, C]. */
export function multilabelSoftMarginLoss(
  input: Tensor,
  target: Tensor,
  options: LossOptions & { weight?: Tensor | null } = {},
): Tensor {
  const op = 'multilabelSoftMarginLoss';
  const [x, y] = lossOperands(op, input, target);
  const one = ops.constant(1, x.dtype);
  const positive = ops.mul(y, softplusNode(ops.neg(x)));
  const negative = ops.mul(ops.sub(one, y), softplusNode(x));
  const losses = weighted(op, ops.add(positive, negative), options.weight);
  const classes = x.shape.at(-1) ?? 1;
  const mean = ops.mul(ops.sum(losses, -1), ops.constant(1 / classes, x.dtype));
  return wrap(reduceLoss(op, mean, options.reduction));
}

/** max(0, -target * (x1 - x2) + margin): which of two should rank higher. */
export function marginRankingLoss(
  x1: Tensor,
  x2: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  const op = 'marginRankingLoss';
  const { margin = 0 } = options;
  const [a, b] = floatOperands(op, x1, x2);
  const y = castNode(nodeOf(op, target), a.dtype);
  const gap = ops.mul(ops.neg(y), ops.sub(a, b));
  const losses = hinge(ops.add(gap, numberNode(margin, a.dtype)));
  return wrap(reduceLoss(op, losses, options.reduction));
}

export interface TripletOptions extends MarginOptions {
  /** Order of the distance; default 2. */
  readonly p?: number | undefined;
  /** Added to differences; default 1e-6. */
  readonly eps?: number | undefined;
  /** Whether the nearer of anchor and positive counts against the negative. */
  readonly swap?: boolean | undefined;
}

/** max(0, |anchor - positive| - |anchor - negative| + margin) along the last axis. */
export function tripletMarginLoss(
  anchor: Tensor,
  positive: Tensor,
  negative: Tensor,
  options: TripletOptions = {},
): Tensor {
  const op = 'tripletMarginLoss';
  const { margin = 1, p = 2, eps = 1e-6, swap = false } = options;
  const [a, b] = floatOperands(op, anchor, positive);
  const c = castNode(nodeOf(op, negative), a.dtype);
  const near = distanceNode(a, b, p, eps, false);
  let far = distanceNode(a, c, p, eps, false);
  if (swap) far = ops.minimum(far, distanceNode(b, c, p, eps, false));
  const losses = hinge(ops.add(ops.sub(near, far), numberNode(margin, a.dtype)));
  return wrap(reduceLoss(op, losses, options.reduction));
}

/** 1 - cos where the target is 1, max(0, cos - margin) where it is -1. */
export function cosineEmbeddingLoss(
  x1: Tensor,
  x2: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  const op = 'cosineEmbeddingLoss';
  const { margin = 0 } = options;
  const [a, b] = floatOperands(op, x1, x2);
  const y = nodeOf(op, target);
  const squared = (node: Node): Node =>
    ops.add(ops.sum(ops.mul(node, node), -1), ops.constant(1e-12, a.dtype));
  const product = ops.sum(ops.mul(a, b), -1);
  const cosine = ops.div(product, ops.sqrt(ops.mul(squared(a), squared(b))));
  const zero = ops.constant(0, a.dtype);
  const near = ops.sub(ops.constant(1, a.dtype), cosine);
  const far = hinge(ops.sub(cosine, numberNode(margin, a.dtype)));
  const isNear = ops.equal(y, ops.constant(1, y.dtype));
  const isFar = ops.equal(y, ops.constant(-1, y.dtype));
  const losses = ops.add(ops.select(isNear, near, zero), ops.select(isFar, far, zero));
  return wrap(reduceLoss(op, losses, options.reduction));
}

/** Scores as rows [N, C], whether or not there is a batch. */
function rows(op: string, node: Node): Node {
  if (node.shape.length === 2) return node;
  if (node.shape.length === 1) return ops.reshape(node, [1, node.shape[0] as number]);
  throw new ShapeError(`takes scores [N, C] or [C], got ${formatShape(node.shape)}`, { op });
}

export interface MultiMarginOptions extends MarginOptions {
  /** 1 or 2: the power of the hinge. */
  readonly p?: number | undefined;
  /** A factor for each class. */
  readonly weight?: Tensor | null | undefined;
}

/** Mean over the other classes of max(0, margin - score of the target + score)^p. */
export function multiMarginLoss(
  input: Tensor,
  target: Tensor,
  options: MultiMarginOptions = {},
): Tensor {
  const op = 'multiMarginLoss';
  const { p = 1, margin = 1, weight } = options;
  if (p !== 1 && p !== 2) throw new ArgumentError(`p must be 1 or 2, got ${p}`, { op });
  const node = floatNode(op, input);
  const x = rows(op, node);
  const [count, classes] = x.shape as readonly [number, number];
  checkTargetShape(op, node, nodeOf(op, target), node.shape.slice(0, -1));
  const index = ops.reshape(indexNode(op, target, classes), [count, 1]);
  const chosen = ops.gather(x, index, 1);
  const gap = ops.add(ops.sub(x, chosen), numberNode(margin, x.dtype));
  const positive = ops.relu(gap);
  let losses = p === 2 ? ops.mul(positive, positive) : positive;
  if (weight !== undefined && weight !== null) {
    const factors = castNode(nodeOf(op, weight), x.dtype);
    losses = ops.mul(losses, ops.take(factors, index, 0));
  }
  const isTarget = ops.equal(ops.iota([1, classes], 1, 'int32'), index);
  const others = ops.select(isTarget, ops.constant(0, x.dtype), losses);
  const mean = ops.mul(ops.sum(others, 1), ops.constant(1 / classes, x.dtype));
  return wrap(reduceLoss(op, ops.reshape(mean, node.shape.slice(0, -1)), options.reduction));
}

/**
 * Hinges between every target class and every other one. A row of `target` lists classes, and ends
 * at the first -1.
 */
export function multilabelMarginLoss(
  input: Tensor,
  target: Tensor,
  options: LossOptions = {},
): Tensor {
  const op = 'multilabelMarginLoss';
  const node = floatNode(op, input);
  const x = rows(op, node);
  checkTargetShape(op, node, nodeOf(op, target), node.shape);
  const [count, classes] = x.shape as readonly [number, number];
  const labels = ops.reshape(castNode(nodeOf(op, target), 'int32'), [count, classes]);
  const zero = ops.constant(0, 'int32');
  const ended = ops.cumsum(castNode(ops.less(labels, zero), 'int32'), 1);
  const valid = ops.equal(ended, zero);
  const index = ops.select(valid, labels, zero);
  const scores = ops.reshape(ops.gather(x, index, 1), [count, classes, 1]);
  const places = ops.iota([1, 1, classes], 2, 'int32');
  const hits = ops.logicalAnd(
    ops.equal(ops.reshape(index, [count, classes, 1]), places),
    ops.reshape(valid, [count, classes, 1]),
  );
  const isTarget = ops.reshape(ops.any(hits, 1), [count, 1, classes]);
  const gaps = ops.relu(
    ops.add(ops.sub(ops.reshape(x, [count, 1, classes]), scores), ops.constant(1, x.dtype)),
  );
  const counts = ops.logicalAnd(ops.reshape(valid, [count, classes, 1]), ops.logicalNot(isTarget));
  const total = ops.sum(ops.select(counts, gaps, ops.constant(0, x.dtype)), [1, 2]);
  const mean = ops.mul(total, ops.constant(1 / classes, x.dtype));
  return wrap(reduceLoss(op, ops.reshape(mean, node.shape.slice(0, -1)), options.reduction));
}

export interface TripletDistanceOptions extends LossOptions {
  /** Distance of two batches, one number each; default the Euclidean one. */
  readonly distanceFunction?: ((a: Tensor, b: Tensor) => Tensor) | undefined;
  /** Default 1. */
  readonly margin?: number | undefined;
  /** Take the positive for the anchor where it is nearer to the negative; default false. */
  readonly swap?: boolean | undefined;
}

/**
 * max(0, distance(anchor, positive) - distance(anchor, negative) + margin), by any distance.
 *
 * @example
 * const manhattan = (a: Tensor, b: Tensor) => a.sub(b).abs().sum(-1);
 * const [anchor, near, far] = [tensor([[0, 0]]), tensor([[1, 1]]), tensor([[2, 0.5]])];
 * tripletMarginWithDistanceLoss(anchor, near, far, { distanceFunction: manhattan }); // => 0.5
 */
export function tripletMarginWithDistanceLoss(
  anchor: Tensor,
  positive: Tensor,
  negative: Tensor,
  options: TripletDistanceOptions = {},
): Tensor {
  const op = 'tripletMarginWithDistanceLoss';
  const { margin = 1, swap = false } = options;
  const distance = options.distanceFunction ?? pairwiseDistance;
  const near = distance(anchor, positive);
  let far = distance(anchor, negative);
  if (swap) far = minimum(far, distance(positive, negative));
  const [a, b] = lossOperands(op, near, far);
  const losses = hinge(ops.add(ops.sub(a, b), numberNode(margin, a.dtype)));
  return wrap(reduceLoss(op, losses, options.reduction));
}

export interface HingeOptions extends LossOptions {
  /** Of the hinges: their sum, or that of their squares. Default L1. */
  readonly norm?: 'L1' | 'L2' | undefined;
}

/**
 * max(0, 1 - input * target), summed over classes: scores [batch, classes], targets 1 or -1. The
 * mean is over the batch.
 *
 * @example
 * hingeLoss(tensor([[0.5, -2]]), tensor([[1, -1]])); // => 0.5
 */
export function hingeLoss(input: Tensor, target: Tensor, options: HingeOptions = {}): Tensor {
  const op = 'hingeLoss';
  const { norm = 'L1' } = options;
  if (norm !== 'L1' && norm !== 'L2') {
    throw new ArgumentError(`norm must be L1 or L2, got '${String(norm)}'`, { op });
  }
  const [x, y] = lossOperands(op, input, target);
  if (x.shape.length === 0) {
    throw new ShapeError('takes [.., classes], got a number', { op });
  }
  const hinges = hinge(ops.sub(ops.constant(1, x.dtype), ops.mul(x, y)));
  const losses = ops.sum(norm === 'L2' ? ops.mul(hinges, hinges) : hinges, -1);
  return wrap(reduceLoss(op, losses, options.reduction));
}
