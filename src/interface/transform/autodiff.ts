// Public faces of reverse mode: backward, GradManager, grad, valueAndGrad, vjp, hvp.
import { checkFunction } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { withoutTracking } from '../../graph/op.ts';
import { alias, copy, full } from '../../graph/ops/index.ts';
import { accumulateGrad, type BackwardOptions, gradientNodes } from '../tensor/backward.ts';
import { tensorOn, wrap } from '../tensor/handle.ts';
import { Tensor } from '../tensor/tensor.ts';

/** Runs `body` without recording history: nothing made inside can be differentiated. */
export function noGrad<T>(body: () => T): T {
  return withoutTracking(checkFunction('noGrad', body));
}

/**
 * Gradients of `output` by each of `inputs`, as PyTorch's `autograd.grad`.
 * Null where `output` does not depend on the input.
 */
export function gradientsOf(
  output: Tensor,
  inputs: readonly Tensor[],
  options: BackwardOptions = {},
): (Tensor | null)[] {
  const nodes = inputs.map((tensor) => tensor.node);
  return gradientNodes('grad', output, nodes, options).map((node) =>
    node === null ? null : wrap(node),
  );
}

type GradientCallback = (parameter: Tensor, gradient: Tensor) => Tensor | void;

/**
 * Computes gradients of losses by the tensors attached to it, and adds them to `tensor.grad`.
 *
 * @example
 * ```ts
 * import { GradManager, nn, tensor } from 'tengen';
 *
 * const w = new nn.Parameter(tensor([3]));
 * const manager = new GradManager().attach([w]);
 * manager.backward(w.mul(w).sum());
 * await w.grad?.array(); // => [6]
 * ```
 */
export class GradManager {
  readonly #attached = new Map<Tensor, readonly GradientCallback[]>();

  /** Attaches tensors; each callback sees a gradient before it is added, and may replace it. */
  attach(tensors: Iterable<Tensor> | Tensor, callbacks: readonly GradientCallback[] = []): this {
    const list = tensors instanceof Tensor ? [tensors] : [...tensors];
    for (const item of list) {
      if (!item.tracked) {
        throw new ArgumentError('only parameters can be attached', {
          op: 'GradManager.attach',
          hint: 'wrap the tensor with new nn.Parameter(x)',
        });
      }
      this.#attached.set(item, [...(this.#attached.get(item) ?? []), ...callbacks]);
    }
    return this;
  }

  /** The attached tensors, in order. */
  attached(): Tensor[] {
    return [...this.#attached.keys()];
  }

  /** Adds the gradients of `loss` (one element, or with a cotangent) to `grad` of the attached. */
  backward(loss: Tensor, options: BackwardOptions = {}): void {
    const targets = this.attached();
    const nodes = targets.map((target) => target.node);
    const results = gradientNodes('backward', loss, nodes, options);
    targets.forEach((target, i) => {
      const node = results[i];
      if (node === null || node === undefined) return;
      let gradient = wrap(node);
      for (const callback of this.#attached.get(target) ?? []) {
        gradient = callback(target, gradient) ?? gradient;
      }
      accumulateGrad(target, gradient, options.createGraph === true);
    });
  }
}

/** A tracked stand-in for a value: gradients can be asked for by it. Computes nothing. */
function trackedAlias(value: Tensor): Tensor {
  if (value.node.storage !== null) return tensorOn(alias(value.node, true));
  const node = copy(value.node);
  node.tracked = true;
  return tensorOn(node);
}

export interface GradOptions {
  /** Which arguments to differentiate by; the first by default. */
  readonly argnums?: readonly number[];
  /** Whether the gradients can be differentiated again. */
  readonly createGraph?: boolean;
}

/**
 * Turns `fn`, whose result has one element, into a function that returns its value and its
 * gradients by the chosen arguments.
 */
export function valueAndGrad<A extends readonly Tensor[]>(
  fn: (...args: A) => Tensor,
  options: GradOptions = {},
): (...args: A) => { value: Tensor; grads: Tensor[] } {
  checkFunction('grad', fn);
  const argnums = options.argnums ?? [0];
  return (...args) => {
    // Arguments that carry history already (inside another grad) are differentiated as they are.
    const inputs = args.map((arg, i) =>
      argnums.includes(i) && !arg.tracked ? trackedAlias(arg) : arg,
    );
    const value = fn(...(inputs as readonly Tensor[] as A));
    const wanted = argnums.map((index) => {
      const input = inputs[index];
      if (input === undefined) {
        throw new ArgumentError(`there is no argument ${index}`, { op: 'valueAndGrad' });
      }
      return input;
    });
    // History is kept where an outer function may differentiate again.
    const createGraph = options.createGraph ?? args.some((arg) => arg.tracked);
    const grads = gradientsOf(value, wanted, { createGraph }).map(
      (gradient, i) => gradient ?? zeros(wanted[i] as Tensor),
    );
    return { value, grads };
  };
}

function zeros(like: Tensor): Tensor {
  return wrap(full(like.shape, 0, like.dtype));
}

/**
 * The gradient of `fn` by its first argument. `grad(grad(f))` gives second derivatives.
 *
 * @example
 * ```ts
 * import { grad, tensor } from 'tengen';
 *
 * const slope = grad((x) => x.mul(x).mul(x).sum());
 * await slope(tensor([2])).array(); // => [12]
 * ```
 */
export function grad<A extends readonly Tensor[]>(
  fn: (...args: A) => Tensor,
  options: GradOptions = {},
): (...args: A) => Tensor {
  const both = valueAndGrad(fn, options);
  return (...args) => both(...args).grads[0] as Tensor;
}

/** The result of `fn`, and a function that maps a cotangent of it to gradients of the inputs. */
export function vjp<A extends readonly Tensor[]>(
  fn: (...args: A) => Tensor,
  ...args: A
): { value: Tensor; pullback: (cotangent: Tensor) => Tensor[] } {
  checkFunction('vjp', fn);
  const inputs = args.map((arg) => (arg.tracked ? arg : trackedAlias(arg)));
  const value = fn(...(inputs as readonly Tensor[] as A));
  return {
    value,
    pullback: (cotangent) =>
      gradientsOf(value, inputs, { cotangent }).map(
        (gradient, i) => gradient ?? zeros(inputs[i] as Tensor),
      ),
  };
}

/** Hessian-vector product of a function with a one-element result: d/dx (grad f(x) . vector). */
export function hvp(fn: (x: Tensor) => Tensor, x: Tensor, vector: Tensor): Tensor {
  checkFunction('hvp', fn);
  const at = x.tracked ? x : trackedAlias(x);
  const [first] = gradientsOf(fn(at), [at], { createGraph: true });
  if (first === null || first === undefined) return zeros(x);
  const [second] = gradientsOf(first, [at], { cotangent: vector });
  return second ?? zeros(x);
}
