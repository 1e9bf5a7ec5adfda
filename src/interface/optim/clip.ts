// Gradient clipping by norm and by value.
import { checkNumber, POSITIVE } from '../../base/checks.ts';
import { withoutTracking } from '../../graph/op.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { listParameters } from './optimizer.ts';

/**
 * Scales all gradients so that their joint norm is at most `maxNorm` (Pascanu et al. 2013).
 * Returns the norm before clipping, as a tensor: reading it costs nothing extra after `step()`.
 * @param normType p of the p-norm; Infinity for the largest magnitude.
 */
export function clipGradNorm(
  parameters: Iterable<Tensor>,
  maxNorm: number,
  options: { normType?: number } = {},
): Tensor | null {
  const { normType = 2 } = options;
  const op = 'clipGradNorm';
  // Infinity clips nothing: for those who want the norm alone.
  if (maxNorm !== Infinity) checkNumber(op, 'maxNorm', maxNorm);
  if (normType !== Infinity) checkNumber(op, 'normType', normType, POSITIVE);
  const clipped = withGradients(op, parameters);
  return withoutTracking(() => {
    let total: Tensor | null = null;
    for (const { grad } of clipped) {
      if (grad === null) continue;
      const part = partialNorm(grad, normType);
      if (total === null) total = part;
      else total = normType === Infinity ? total.maximum(part) : total.add(part);
    }
    if (total === null) return null;
    const norm = finishNorm(total, normType);
    // PyTorch's 1e-6 keeps the factor finite at zero norm.
    const factor = norm.add(1e-6).reciprocal().mul(maxNorm).minimum(1);
    for (const parameter of clipped) {
      if (parameter.grad !== null) parameter.grad = parameter.grad.mul(factor);
    }
    // Asked for by whoever clips, and used by the clipping: a step must keep it.
    return norm.keep();
  });
}

function partialNorm(grad: Tensor, normType: number): Tensor {
  if (normType === Infinity) return grad.abs().max();
  if (normType === 2) return grad.mul(grad).sum();
  if (normType === 1) return grad.abs().sum();
  return grad.abs().pow(normType).sum();
}

function finishNorm(total: Tensor, normType: number): Tensor {
  if (normType === Infinity || normType === 1) return total;
  return normType === 2 ? total.sqrt() : total.pow(1 / normType);
}

/** Limits every element of every gradient to [-limit, limit]. */
export function clipGradValue(parameters: Iterable<Tensor>, limit: number): void {
  checkNumber('clipGradValue', 'limit', limit);
  const clipped = withGradients('clipGradValue', parameters);
  withoutTracking(() => {
    for (const parameter of clipped) {
      if (parameter.grad !== null) {
        parameter.grad = parameter.grad.maximum(-limit).minimum(limit);
      }
    }
  });
}

function withGradients(op: string, parameters: Iterable<Tensor>): Tensor[] {
  const list = listParameters(op, parameters) as readonly Tensor[];
  return list.filter((parameter) => parameter.grad !== null);
}
