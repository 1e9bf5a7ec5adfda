// Losses between numbers: squared, absolute and robust errors, likelihoods, divergences.
import { checkNumber, POSITIVE } from '../../base/checks.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { xlogyNode } from '../tensor/logarithms.ts';
import { castNode, numberNode, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { elementwiseLoss, lossOperands, type LossOptions, reduceLoss } from './reduction.ts';

/**
 * Squared differences.
 *
 * @example
 * ```ts
 * mseLoss(tensor([1, 2]), tensor([3, 2])); // => 2
 * ```
 */
export function mseLoss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  return elementwiseLoss('mseLoss', input, target, options, (x, y) => {
    const difference = ops.sub(x, y);
    return ops.mul(difference, difference);
  });
}

/** Absolute differences. */
export function l1Loss(input: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  return elementwiseLoss('l1Loss', input, target, options, (x, y) => ops.abs(ops.sub(x, y)));
}

/** Squared below `beta` (over 2 beta), absolute above (less beta / 2). */
export function smoothL1Loss(
  input: Tensor,
  target: Tensor,
  options: LossOptions & { beta?: number } = {},
): Tensor {
  const { beta = 1 } = options;
  checkNumber('smoothL1Loss', 'beta', beta);
  if (beta === 0) return l1Loss(input, target, options);
  return elementwiseLoss('smoothL1Loss', input, target, options, (x, y) => {
    const difference = ops.sub(x, y);
    const size = ops.abs(difference);
    const limit = numberNode(beta, x.dtype);
    const half = ops.constant(0.5, x.dtype);
    const square = ops.div(ops.mul(ops.mul(difference, difference), half), limit);
    return ops.select(ops.less(size, limit), square, ops.sub(size, ops.mul(limit, half)));
  });
}

/** Half the square below `delta`, delta * (|d| - delta / 2) above (Huber 1964). */
export function huberLoss(
  input: Tensor,
  target: Tensor,
  options: LossOptions & { delta?: number } = {},
): Tensor {
  const { delta = 1 } = options;
  checkNumber('huberLoss', 'delta', delta, POSITIVE);
  return elementwiseLoss('huberLoss', input, target, options, (x, y) => {
    const difference = ops.sub(x, y);
    const size = ops.abs(difference);
    const limit = numberNode(delta, x.dtype);
    const half = ops.constant(0.5, x.dtype);
    const square = ops.mul(ops.mul(difference, difference), half);
    const line = ops.mul(limit, ops.sub(size, ops.mul(limit, half)));
    return ops.select(ops.lessEqual(size, limit), square, line);
  });
}

export interface KlDivOptions {
  /** `batchmean` divides the sum by the first axis, which is the mathematical divergence. */
  readonly reduction?: 'mean' | 'sum' | 'none' | 'batchmean' | undefined;
  /** Whether the target, too, is a logarithm. */
  readonly logTarget?: boolean;
}

/** Kullback-Leibler divergence: `input` holds log-probabilities, `target` probabilities. */
export function klDiv(input: Tensor, target: Tensor, options: KlDivOptions = {}): Tensor {
  const [x, y] = lossOperands('klDiv', input, target);
  const { reduction = 'mean', logTarget = false } = options;
  const losses = logTarget
    ? ops.mul(ops.exp(y), ops.sub(y, x))
    : ops.sub(xlogyNode(y, y), ops.mul(y, x));
  if (reduction !== 'batchmean') return wrap(reduceLoss('klDiv', losses, reduction));
  const batch = Math.max(x.shape[0] ?? 1, 1);
  return wrap(ops.mul(ops.sum(losses), ops.constant(1 / batch, x.dtype)));
}

export interface PoissonOptions extends LossOptions {
  /** Whether `input` is the logarithm of the rate; default true. */
  readonly logInput?: boolean;
  /** Whether Stirling's term of the target is added. */
  readonly full?: boolean;
  /** Keeps the logarithm finite where `logInput` is false; default 1e-8. */
  readonly eps?: number;
}

/** Negative log-likelihood of counts under a Poisson distribution. */
export function poissonNllLoss(
  input: Tensor,
  target: Tensor,
  options: PoissonOptions = {},
): Tensor {
  const { logInput = true, full = false, eps = 1e-8 } = options;
  return elementwiseLoss('poissonNllLoss', input, target, options, (x, y) => {
    const likelihood = logInput
      ? ops.sub(ops.exp(x), ops.mul(y, x))
      : ops.sub(x, ops.mul(y, ops.log(ops.add(x, numberNode(eps, x.dtype)))));
    return full ? ops.add(likelihood, stirling(y)) : likelihood;
  });
}

/** log(y!) by Stirling's formula, 0 for y up to 1. */
function stirling(y: Node): Node {
  const one = ops.constant(1, y.dtype);
  const large = ops.greater(y, one);
  const safe = ops.select(large, y, one);
  const logarithm = ops.log(ops.mul(safe, ops.constant(2 * Math.PI, y.dtype)));
  const half = ops.mul(logarithm, ops.constant(0.5, y.dtype));
  const term = ops.add(ops.sub(ops.mul(safe, ops.log(safe)), safe), half);
  return ops.select(large, term, ops.constant(0, y.dtype));
}

export interface GaussianOptions extends LossOptions {
  /** Whether the constant log(2π) / 2 is added. */
  readonly full?: boolean;
  /** Smallest variance that is used; default 1e-6. */
  readonly eps?: number;
}

/** Negative log-likelihood under normal distributions of given variances. */
export function gaussianNllLoss(
  input: Tensor,
  target: Tensor,
  variance: Tensor,
  options: GaussianOptions = {},
): Tensor {
  const op = 'gaussianNllLoss';
  const [x, y] = lossOperands(op, input, target);
  const { full = false, eps = 1e-6 } = options;
  let spread = castNode(nodeOf(op, variance), x.dtype);
  if (spread.shape.length === x.shape.length - 1) {
    spread = ops.reshape(spread, [...spread.shape, 1]);
  }
  // The floor moves the value, not the slope: a gradient must still be able to raise the variance.
  const floor = ops.relu(ops.sub(numberNode(eps, x.dtype), spread));
  const used = ops.add(spread, ops.detach(floor));
  const difference = ops.sub(x, y);
  const error = ops.div(ops.mul(difference, difference), used);
  const half = ops.constant(0.5, x.dtype);
  const likelihood = ops.mul(ops.add(ops.log(used), error), half);
  const constant = ops.constant(full ? 0.5 * Math.log(2 * Math.PI) : 0, x.dtype);
  return wrap(reduceLoss(op, full ? ops.add(likelihood, constant) : likelihood, options.reduction));
}
