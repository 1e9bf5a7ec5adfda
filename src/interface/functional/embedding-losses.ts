// Losses that move vectors apart or together: contrastive forms, centres of classes.
import { checkKeys, checkNumber, POSITIVE } from '../../base/checks.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { floatOperands } from '../tensor/arithmetic.ts';
import { castNode, numberNode, wrap } from '../tensor/handle.ts';
import { indexNode } from '../tensor/index-values.ts';
import { matmulNode } from '../tensor/linear-algebra.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { distanceNode } from './distance.ts';
import { normNode } from '../tensor/reductions.ts';
import {
  checkTargetShape,
  hinge,
  lossOperands,
  type LossOptions,
  reduceLoss,
} from './reduction.ts';
import type { MarginOptions } from './margin-losses.ts';
import { logSoftmaxNode } from './softmax.ts';

/**
 * Half the squared distance d of what is alike, half of max(0, margin - d)² of what is not (Hadsell,
 * Chopra and LeCun 2006): x1 and x2 [.., size], `target` [..] is 1 where they are alike and 0 where
 * they are not. `margin` is 1 unless given. Throws ShapeError for other shapes.
 *
 * @example
 * const [a, b] = [tensor([[0, 0], [0, 0]]), tensor([[3, 4], [0.3, 0.4]])];
 * contrastiveLoss(a, b, tensor([1, 0]), { reduction: 'none' }); // => [12.500, 0.125]
 */
export function contrastiveLoss(
  x1: Tensor,
  x2: Tensor,
  target: Tensor,
  options: MarginOptions = {},
): Tensor {
  const op = 'contrastiveLoss';
  checkKeys(op, options, ['margin', 'reduction']);
  const { margin = 1 } = options;
  checkNumber(op, 'margin', margin);
  const [a, b] = lossOperands(op, x1, x2);
  if (a.shape.length === 0) throw new ShapeError('takes vectors [.., size], got numbers', { op });
  const alike = castNode(nodeOf(op, target), a.dtype);
  checkTargetShape(op, a, alike, a.shape.slice(0, -1));
  const difference = ops.sub(a, b);
  const squared = ops.sum(ops.mul(difference, difference), -1);
  // The small number in the distance keeps its gradient finite where both are the same.
  const distance = distanceNode(a, b, 2, 1e-6, false);
  const gap = hinge(ops.sub(numberNode(margin, a.dtype), distance));
  const one = ops.constant(1, a.dtype);
  const both = ops.add(ops.mul(alike, squared), ops.mul(ops.sub(one, alike), ops.mul(gap, gap)));
  const losses = ops.mul(both, ops.constant(0.5, a.dtype));
  return wrap(reduceLoss(op, losses, options.reduction));
}

export interface InfoNceOptions extends LossOptions {
  /** Divides the similarities; default 0.07. */
  readonly temperature?: number | undefined;
  /** Whether vectors are brought to length 1 first, so that products are cosines; default true. */
  readonly normalize?: boolean | undefined;
}

function unit(node: Node): Node {
  const length = ops.maximum(normNode(node, 2, [1], true), ops.constant(1e-12, node.dtype));
  return ops.div(node, length);
}

/**
 * How badly each query [n, size] finds its key [n, size] among the keys of all: the cross entropy of
 * their products over `temperature` (van den Oord et al. 2018; with images and texts as queries and
 * keys, one half of CLIP's loss).
 *
 * @example
 * const [q, k] = [tensor([[1, 0], [0, 1]]), tensor([[2, 0], [0, 3]])];
 * infoNceLoss(q, k, { temperature: 1 }); // => 0.313
 */
export function infoNceLoss(query: Tensor, keys: Tensor, options: InfoNceOptions = {}): Tensor {
  const op = 'infoNceLoss';
  checkKeys(op, options, ['temperature', 'normalize', 'reduction']);
  const { temperature = 0.07, normalize = true } = options;
  checkNumber(op, 'temperature', temperature, POSITIVE);
  const [a, b] = lossOperands(op, query, keys);
  const count = a.shape[0];
  if (a.shape.length !== 2 || count === undefined) {
    throw new ShapeError(`takes vectors [n, size], got ${formatShape(a.shape)}`, { op });
  }
  const [q, k] = normalize ? [unit(a), unit(b)] : [a, b];
  const products = matmulNode(op, q, ops.transpose(k));
  const scores = ops.mul(products, numberNode(1 / temperature, a.dtype));
  const own = ops.diagonalOf(logSoftmaxNode(scores, 1));
  return wrap(reduceLoss(op, ops.neg(own), options.reduction));
}

/**
 * Half the squared distance of each vector [n, size] from the centre of its class (Wen et al. 2016):
 * `target` [n] are classes, `centers` [classes, size]. Both vectors and centres get gradients; the
 * paper's own rule for centres divides theirs by one more than how often a class is met.
 *
 * @example
 * const centers = tensor([[0, 0], [1, 1]]);
 * const target = tensor([1, 0], { dtype: 'int32' });
 * centerLoss(tensor([[1, 3], [0, 2]]), target, centers); // => 2
 */
export function centerLoss(
  input: Tensor,
  target: Tensor,
  centers: Tensor,
  options: LossOptions = {},
): Tensor {
  const op = 'centerLoss';
  checkKeys(op, options, ['reduction']);
  const [x, table] = floatOperands(op, input, centers);
  const [classes, size] = table.shape;
  const fits = x.shape.length === 2 && table.shape.length === 2 && x.shape[1] === size;
  if (!fits || classes === undefined) {
    throw new ShapeError(
      `takes vectors [n, size] and centres [classes, size], got ${formatShape(x.shape)} and ${formatShape(table.shape)}`,
      { op },
    );
  }
  checkTargetShape(op, x, nodeOf(op, target), x.shape.slice(0, 1));
  const chosen = ops.take(table, indexNode(op, target, classes), 0);
  const difference = ops.sub(x, chosen);
  const squared = ops.sum(ops.mul(difference, difference), 1);
  const losses = ops.mul(squared, ops.constant(0.5, x.dtype));
  return wrap(reduceLoss(op, losses, options.reduction));
}

/**
 * Shares of the samples whose class is among the `k` best scores [n, classes], for each k of
 * `topk`: as MegEngine's metric of that name.
 *
 * @example
 * const scores = tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]);
 * const target = tensor([2, 0], { dtype: 'int32' });
 * topkAccuracy(scores, target, [1, 2]); // => [0.5, 1]
 */
export function topkAccuracy(
  scores: Tensor,
  target: Tensor,
  topk: number | readonly number[] = 1,
): Tensor {
  const op = 'topkAccuracy';
  const node = floatNode(op, scores);
  const [count, classes] = node.shape;
  if (node.shape.length !== 2 || count === undefined || classes === undefined) {
    throw new ShapeError(`takes scores [n, classes], got ${formatShape(node.shape)}`, { op });
  }
  const given = nodeOf(op, target);
  if (!sameShape(given.shape, [count])) checkTargetShape(op, node, given, [count]);
  const list = typeof topk === 'number' ? [topk] : topk;
  for (const k of list) checkNumber(op, 'topk', k, [1, classes, 'integer']);
  const index = ops.reshape(indexNode(op, target, classes), [count, 1]);
  const own = ops.gather(ops.detach(node), index, 1);
  // Of equal scores the one that stands before counts as better: what topk() would list.
  const place = ops.iota([1, classes], 1, 'int32');
  const before = ops.logicalAnd(ops.equal(node, own), ops.less(place, index));
  const better = ops.logicalOr(ops.greater(node, own), before);
  const rank = ops.sum(castNode(better, 'int32'), 1, true);
  const limits = ops.concat(
    list.map((k) => ops.full([1, 1], k, 'int32')),
    1,
  );
  const hits = castNode(ops.less(rank, limits), 'float32');
  const shares = ops.mul(ops.sum(hits, 0), ops.constant(1 / count, 'float32'));
  return wrap(typeof topk === 'number' ? ops.reshape(shares, []) : shares);
}
