// Losses against classes: cross entropy in its forms.
import { checkNumber } from '../../base/checks.ts';
import { ShapeError } from '../../base/errors.ts';
import { isFloat } from '../../base/dtype.ts';
import { formatShape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, numberNode, wrap } from '../tensor/handle.ts';
import { rangeNode } from '../tensor/index-values.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { softplusNode } from './softplus.ts';
import {
  checkTargetShape,
  lossOperands,
  type LossOptions,
  type Reduction,
  reduceLoss,
  weighted,
} from './reduction.ts';
import { logSoftmaxNode } from './softmax.ts';

export interface NllOptions extends LossOptions {
  /** A factor for each class [C]. */
  readonly weight?: Tensor | null | undefined;
  /** Targets of this value count for nothing; default -100. */
  readonly ignoreIndex?: number | undefined;
}

export interface CrossEntropyOptions extends NllOptions {
  /** Share of the target that is spread over all classes; default 0. */
  readonly labelSmoothing?: number | undefined;
}

/** The axis of classes: the second, or the only one. */
function classAxis(op: string, node: Node): number {
  if (node.shape.length === 0) throw new ShapeError('the input has no axis of classes', { op });
  return node.shape.length === 1 ? 0 : 1;
}

/** What class targets pick from log-probabilities. */
interface Picked {
  /** -log p of the target, with its class weight; 0 where ignored. Shape of the targets. */
  readonly losses: Node;
  /** Weight of each target, 0 where ignored. */
  readonly weights: Node;
  /** True where a target counts, with the axis of classes as size 1. */
  readonly counted: Node;
}

function classWeights(op: string, weight: Tensor, like: Node, axis: number): Node {
  const node = castNode(nodeOf(op, weight), like.dtype);
  const classes = like.shape[axis] as number;
  if (!sameShape(node.shape, [classes])) {
    throw new ShapeError(`weight is ${formatShape(node.shape)}, expected [${classes}]`, { op });
  }
  return ops.reshape(
    node,
    like.shape.map((size, i) => (i === axis ? size : 1)),
  );
}

/**
 * Picks by comparing every class with the target: the comparison fuses into the softmax before and
 * its gradient after, where a gather would need a pass of its own.
 */
function pick(
  op: string,
  logProbabilities: Node,
  axis: number,
  target: Tensor,
  options: NllOptions,
): Picked {
  const { ignoreIndex = -100 } = options;
  const given = nodeOf(op, target);
  const shape = logProbabilities.shape;
  const expected = shape.filter((_, i) => i !== axis);
  checkTargetShape(op, logProbabilities, given, expected);
  const unit = shape.map((size, i) => (i === axis ? 1 : size));
  const targets = castNode(given, 'int32');
  const promised = rangeNode(op, targets, shape[axis] as number, { except: ignoreIndex });
  const labels = ops.reshape(promised, unit);
  const { dtype } = logProbabilities;
  const zero = ops.constant(0, dtype);
  const classes = ops.iota(
    shape.map((size, i) => (i === axis ? size : 1)),
    axis,
    'int32',
  );
  const isTarget = ops.equal(classes, labels);
  const counted = ops.notEqual(labels, ops.constant(ignoreIndex, 'int32'));
  const chosen = ops.select(ops.logicalAnd(isTarget, counted), ops.neg(logProbabilities), zero);
  const { weight } = options;
  if (weight === undefined || weight === null) {
    const weights = ops.reshape(castNode(counted, dtype), expected);
    return { losses: ops.sum(chosen, axis), weights, counted };
  }
  const factors = classWeights(op, weight, logProbabilities, axis);
  const used = ops.select(ops.logicalAnd(isTarget, counted), ops.expand(factors, shape), zero);
  return {
    losses: ops.sum(ops.mul(chosen, factors), axis),
    weights: ops.sum(used, axis),
    counted,
  };
}

/** The weighted mean, the sum, or the losses themselves. */
function reduceWeighted(
  op: string,
  losses: Node,
  weights: Node,
  reduction: Reduction = 'mean',
): Node {
  if (reduction === 'mean') return ops.div(ops.sum(losses), ops.sum(weights));
  return reduceLoss(op, losses, reduction);
}

/** -log p of the target classes: `input` holds log-probabilities [N, C, ...], `target` [N, ...]. */
export function nllLoss(input: Tensor, target: Tensor, options: NllOptions = {}): Tensor {
  const node = floatNode('nllLoss', input);
  const axis = classAxis('nllLoss', node);
  const { losses, weights } = pick('nllLoss', node, axis, target, options);
  return wrap(reduceWeighted('nllLoss', losses, weights, options.reduction));
}

/**
 * Softmax cross entropy of scores [N, C, ...] (or [C]) against classes [N, ...] (integers), or
 * against probabilities of the shape of the scores. Computed from log-softmax, so large scores do
 * not overflow. Throws ShapeError for a class out of range that the host knows.
 *
 * @example
 * ```ts
 * const scores = tensor([[2, 0], [0, 2]]);
 * crossEntropy(scores, tensor([0, 1], { dtype: 'int32' })); // => 0.127
 * ```
 */
export function crossEntropy(
  input: Tensor,
  target: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const op = 'crossEntropy';
  const node = floatNode(op, input);
  const axis = classAxis(op, node);
  const { labelSmoothing = 0, reduction = 'mean' } = options;
  checkNumber('crossEntropy', 'labelSmoothing', labelSmoothing, [0, 1]);
  const logProbabilities = logSoftmaxNode(node, axis);
  if (isFloat(nodeOf(op, target).dtype)) {
    return wrap(softCrossEntropy(op, logProbabilities, axis, target, options));
  }
  const { losses, weights, counted } = pick(op, logProbabilities, axis, target, options);
  const hard = reduceWeighted(op, losses, weights, reduction);
  if (labelSmoothing === 0) return wrap(hard);
  const { dtype } = node;
  const every = weightedEntropy(op, logProbabilities, axis, options);
  const masked = ops.select(ops.reshape(counted, losses.shape), every, ops.constant(0, dtype));
  const smooth = reduceWeighted(op, masked, weights, reduction);
  const classes = node.shape[axis] as number;
  return wrap(
    ops.add(
      ops.mul(hard, numberNode(1 - labelSmoothing, dtype)),
      ops.mul(smooth, numberNode(labelSmoothing / classes, dtype)),
    ),
  );
}

/** Sum over classes of -log p, each with its class weight. */
function weightedEntropy(
  op: string,
  logProbabilities: Node,
  axis: number,
  { weight }: NllOptions,
): Node {
  const negative = ops.neg(logProbabilities);
  if (weight === undefined || weight === null) return ops.sum(negative, axis);
  return ops.sum(ops.mul(negative, classWeights(op, weight, logProbabilities, axis)), axis);
}

function softCrossEntropy(
  op: string,
  logProbabilities: Node,
  axis: number,
  target: Tensor,
  options: CrossEntropyOptions,
): Node {
  const { labelSmoothing = 0, reduction = 'mean', weight } = options;
  const { dtype, shape } = logProbabilities;
  const given = castNode(nodeOf(op, target), dtype);
  checkTargetShape(op, logProbabilities, given, shape);
  const classes = shape[axis] as number;
  let goal = given;
  if (labelSmoothing > 0) {
    goal = ops.add(
      ops.mul(given, numberNode(1 - labelSmoothing, dtype)),
      numberNode(labelSmoothing / classes, dtype),
    );
  }
  let products = ops.neg(ops.mul(goal, logProbabilities));
  if (weight !== undefined && weight !== null) {
    products = ops.mul(products, classWeights(op, weight, logProbabilities, axis));
  }
  const losses = ops.sum(products, axis);
  if (reduction !== 'mean') return reduceLoss(op, losses, reduction);
  return ops.mul(ops.sum(losses), ops.constant(classes / sizeOf(shape), dtype));
}

// ---- two classes ------------------------------------------------------------------------------

export interface BceOptions extends LossOptions {
  /** A factor for each element. */
  readonly weight?: Tensor | null | undefined;
}

/** log(x) of at least -100, so that a certain mistake stays finite. */
function boundedLog(x: Node): Node {
  const low = ops.constant(-100, x.dtype);
  const positive = ops.greater(x, ops.constant(0, x.dtype));
  const logarithm = ops.log(ops.select(positive, x, ops.constant(1, x.dtype)));
  return ops.select(positive, ops.maximum(logarithm, low), low);
}

/** Cross entropy of probabilities against targets between 0 and 1. */
export function binaryCrossEntropy(
  input: Tensor,
  target: Tensor,
  options: BceOptions = {},
): Tensor {
  const op = 'binaryCrossEntropy';
  const [x, y] = lossOperands(op, input, target);
  const one = ops.constant(1, x.dtype);
  const hit = ops.mul(y, boundedLog(x));
  const miss = ops.mul(ops.sub(one, y), boundedLog(ops.sub(one, x)));
  // A certain and right answer has neither loss nor slope: PyTorch's (x - y) / (x (1 - x)) is 0.
  const zero = ops.constant(0, x.dtype);
  const certain = ops.equal(ops.mul(x, ops.sub(one, x)), zero);
  const right = ops.logicalAnd(certain, ops.equal(x, y));
  const entropy = ops.select(right, zero, ops.neg(ops.add(hit, miss)));
  const losses = weighted(op, entropy, options.weight);
  return wrap(reduceLoss(op, losses, options.reduction));
}

/** Cross entropy of sigmoid(input), computed from the scores so that nothing overflows. */
export function binaryCrossEntropyWithLogits(
  input: Tensor,
  target: Tensor,
  options: BceOptions & { posWeight?: Tensor | null } = {},
): Tensor {
  const op = 'binaryCrossEntropyWithLogits';
  const [x, y] = lossOperands(op, input, target);
  const { posWeight } = options;
  const one = ops.constant(1, x.dtype);
  // -log sigmoid(x) = softplus(-x); -log(1 - sigmoid(x)) = x + softplus(-x).
  let positive = softplusNode(ops.neg(x));
  if (posWeight !== undefined && posWeight !== null) {
    const extra = ops.sub(castNode(nodeOf(op, posWeight), x.dtype), one);
    positive = ops.mul(positive, ops.add(ops.mul(extra, y), one));
  }
  const losses = ops.add(ops.mul(ops.sub(one, y), x), positive);
  return wrap(reduceLoss(op, weighted(op, losses, options.weight), options.reduction));
}
