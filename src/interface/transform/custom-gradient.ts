// Functions with a gradient of their own.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import { customGradient as customGradientNode } from '../../graph/ops/index.ts';
import { tensorOn, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** What a function with its own gradient returns. */
export interface ValueWithGradient {
  readonly value: Tensor;
  /**
   * Gradients of the arguments for the gradient of the value, in order; null where none flows.
   * Written in tensor operations, so that it can be differentiated again.
   */
  readonly gradient: (cotangent: Tensor) => readonly (Tensor | null)[] | Tensor;
}

/**
 * Turns `fn` into a function that computes the same, but whose gradient is what `fn` says: to
 * replace an unstable derivative, to clip or to reverse it, or to pass straight through a step.
 *
 * @example
 * ```ts
 * // A rounding that pretends to be the identity when differentiated.
 * const roundThrough = customGradient((x) => ({ value: x.round(), gradient: (g) => g }));
 * const slope = grad((x: Tensor) => roundThrough(x).mul(3).sum());
 * slope(tensor([0.4, 1.6])); // => [3, 3]
 * ```
 */
export function customGradient<A extends readonly Tensor[]>(
  fn: (...args: A) => ValueWithGradient,
): (...args: A) => Tensor {
  return (...args) => {
    // What happens inside has no history: the rule replaces it.
    const { value, gradient } = withoutTracking(() => fn(...args));
    const inputs = args.map((x) => x.node);
    const node = customGradientNode(value.node, inputs, (cotangent) => {
      const result = gradient(tensorOn(cotangent));
      const list: readonly (Tensor | null)[] = Array.isArray(result) ? result : [result as Tensor];
      return checked(list, args);
    });
    return wrap(node);
  };
}

function checked(gradients: readonly (Tensor | null)[], args: readonly Tensor[]) {
  if (gradients.length !== args.length) {
    throw new ArgumentError(`${gradients.length} gradient(s) for ${args.length} argument(s)`, {
      op: 'customGradient',
      hint: 'return null for an argument without one',
    });
  }
  return gradients.map((gradient, i) => {
    const arg = args[i] as Tensor;
    if (gradient === null) return null;
    if (!sameShape(gradient.shape, arg.shape) || gradient.dtype !== arg.dtype) {
      throw new ShapeError(
        `gradient ${i} is ${gradient.dtype} ${formatShape(gradient.shape)}, its argument ${arg.dtype} ${formatShape(arg.shape)}`,
        { op: 'customGradient' },
      );
    }
    return gradient.node;
  });
}
