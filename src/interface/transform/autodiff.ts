// Public faces of reverse mode: backward, GradManager, grad, valueAndGrad, vjp, hvp.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { gradients } from '../../graph/autodiff/gradients.ts';
import type { Node } from '../../graph/node.ts';
import { withoutTracking } from '../../graph/op.ts';
import { expand, full } from '../../graph/ops/index.ts';
import { inputOp } from '../../graph/ops/leaf.ts';
import { Node as GraphNode } from '../../graph/node.ts';
import { NO_ATTRS } from '../../graph/op.ts';
import { add } from '../tensor/arithmetic.ts';
import { engine } from '../tensor/engine.ts';
import { tensorOn, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface BackwardOptions {
  /** Gradient of the final result by the given tensor; needed unless it has one element. */
  readonly cotangent?: Tensor;
  /** Whether the gradients can be differentiated again. */
  readonly createGraph?: boolean;
}

/** Runs `body` without recording history: nothing made inside can be differentiated. */
export function noGrad<T>(body: () => T): T {
  return withoutTracking(body);
}

function cotangentFor(op: string, output: Tensor, given: Tensor | undefined): Node {
  if (!isFloat(output.dtype)) {
    throw new DTypeError(`gradients need a float result, got ${output.dtype}`, { op });
  }
  if (given === undefined) {
    if (output.size !== 1) {
      throw new ShapeError(`the result is ${formatShape(output.shape)}, not a single number`, {
        op,
        hint: 'reduce it with sum() or mean(), or pass a cotangent of its shape',
      });
    }
    return output.shape.length === 0
      ? full([], 1, output.dtype)
      : expand(full([], 1, output.dtype), output.shape);
  }
  if (!sameShape(given.shape, output.shape) || given.dtype !== output.dtype) {
    throw new ShapeError(
      `the cotangent is ${given.dtype} ${formatShape(given.shape)}, the result ${output.dtype} ${formatShape(output.shape)}`,
      { op },
    );
  }
  return given.node;
}

/**
 * Gradients of `output` by `targets`: zero-filled where no path leads. The output is kept, so that
 * it can be read after a step without a second pass.
 */
function gradientTensors(
  op: string,
  output: Tensor,
  targets: readonly Node[],
  options: BackwardOptions,
): (Node | null)[] {
  const cotangent = cotangentFor(op, output, options.cotangent);
  engine().keep(output.node);
  const compute = (): (Node | null)[] => gradients([output.node], [cotangent], targets);
  return options.createGraph === true ? compute() : withoutTracking(compute);
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
  return gradientTensors('grad', output, nodes, options).map((node) =>
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
    const list = Symbol.iterator in tensors ? [...tensors] : [tensors];
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
    const results = gradientTensors('backward', loss, nodes, options);
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

/** `tensor.grad += gradient`. */
export function accumulateGrad(target: Tensor, gradient: Tensor, createGraph: boolean): void {
  const before = target.grad;
  if (before === null) target.grad = gradient;
  else if (createGraph) target.grad = add(before, gradient);
  else target.grad = withoutTracking(() => add(before, gradient));
}

/** A tracked stand-in for a value: gradients can be asked for by it. */
function trackedAlias(value: Tensor): Tensor {
  if (value.node.storage === null) engine().evaluate([value.node]);
  const { storage, version, shape, dtype, device } = value.node;
  const node = new GraphNode(inputOp, [], NO_ATTRS, shape, dtype, true, device);
  node.storage = storage;
  node.version = version;
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
  const at = x.tracked ? x : trackedAlias(x);
  const [first] = gradientsOf(fn(at), [at], { createGraph: true });
  if (first === null || first === undefined) return zeros(x);
  const [second] = gradientsOf(first, [at], { cotangent: vector });
  return second ?? zeros(x);
}
