// The focal loss (Lin et al. 2017).
import { checkKeys, checkNumber } from '../../../base/checks.ts';
import * as ops from '../../../graph/ops/index.ts';
import { type LossOptions, lossOperands, reduceLoss } from '../../functional/reduction.ts';
import { softplusNode } from '../../functional/softplus.ts';
import { numberNode, wrap } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';

export interface FocalLossOptions extends LossOptions {
  /** Weight of positives, 1 - alpha that of negatives; below 0: none. Default 0.25. */
  readonly alpha?: number;
  /** How much what is easy counts less; default 2. */
  readonly gamma?: number;
}

/**
 * Binary cross entropy of sigmoid(scores), scaled by (1 - p)^gamma, p the probability of the target: as
 * torchvision.ops.sigmoid_focal_loss, whose `reduction` is none by default. Targets are 0 or 1, of the
 * shape of the scores.
 *
 * @example
 * ```ts
 * sigmoidFocalLoss(tensor([0, 4]), tensor([1, 0])); // => [0.0433, 2.906]
 * ```
 */
export function sigmoidFocalLoss(
  scores: Tensor,
  targets: Tensor,
  options: FocalLossOptions = {},
): Tensor {
  const op = 'sigmoidFocalLoss';
  checkKeys(op, options, ['alpha', 'gamma', 'reduction']);
  const { alpha = 0.25, gamma = 2, reduction = 'none' } = options;
  checkNumber(op, 'alpha', alpha, [-Infinity, 1]);
  checkNumber(op, 'gamma', gamma);
  const [x, y] = lossOperands(op, scores, targets);
  const one = ops.constant(1, x.dtype);
  const p = ops.sigmoid(x);
  const entropy = ops.add(ops.mul(ops.sub(one, y), x), softplusNode(ops.neg(x)));
  const negative = ops.sub(one, y);
  const right = ops.add(ops.mul(p, y), ops.mul(ops.sub(one, p), negative));
  let losses = ops.mul(entropy, ops.pow(ops.sub(one, right), numberNode(gamma, x.dtype)));
  if (alpha >= 0) {
    const [a, b] = [numberNode(alpha, x.dtype), numberNode(1 - alpha, x.dtype)];
    losses = ops.mul(losses, ops.add(ops.mul(a, y), ops.mul(b, negative)));
  }
  return wrap(reduceLoss(op, losses, reduction));
}
