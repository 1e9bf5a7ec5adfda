// The gradient of one result by the parameters it was made from: `backward`, and what the other
// faces of reverse mode share.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { gradients } from '../../graph/autodiff/gradients.ts';
import { newMark, type Node } from '../../graph/node.ts';
import { withoutTracking } from '../../graph/op.ts';
import { expand, full } from '../../graph/ops/index.ts';
import { add } from './arithmetic.ts';
import { openBodies } from '../../graph/bodies.ts';
import { engine } from './engine.ts';
import { ownerOf, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

export interface BackwardOptions {
  /** Gradient of the final result by the given tensor; needed unless it has one element. */
  readonly cotangent?: Tensor;
  /** Whether the gradients can be differentiated again. */
  readonly createGraph?: boolean;
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
    return expand(full([], 1, output.dtype), output.shape);
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
 * Gradients of `output` by each of `targets`, null where no path leads. The output is kept, so
 * that it can be read after a step without a second pass.
 */
export function gradientNodes(
  op: string,
  output: Tensor,
  targets: readonly Node[],
  options: BackwardOptions,
): (Node | null)[] {
  const cotangent = cotangentFor(op, output, options.cotangent);
  // In a body nothing is computed on its own.
  const inside = openBodies().length > 0;
  if (!inside) engine().keep(output.node);
  const compute = (): (Node | null)[] => gradients([output.node], [cotangent], targets);
  const results = options.createGraph === true ? compute() : withoutTracking(compute);
  // Whoever reads one reads the next: each alone would cost a plan and a pass of its own.
  const siblings = [output.node, ...results.filter((node) => node !== null)];
  for (const node of results) if (node !== null && !inside) node.siblings = siblings;
  return results;
}

/** `tensor.grad += gradient`. */
export function accumulateGrad(target: Tensor, gradient: Tensor, createGraph: boolean): void {
  const before = target.grad;
  if (before === null) target.grad = gradient;
  else if (createGraph) target.grad = add(before, gradient);
  else target.grad = withoutTracking(() => add(before, gradient));
}

/** Stored values below `output` that gradients may be asked for, each node once. */
function trackedLeaves(output: Node): Node[] {
  const mark = newMark();
  const leaves: Node[] = [];
  const stack: Node[] = [output];
  output.mark = mark;
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (node.inputs.length === 0 && node.storage !== null) leaves.push(node);
    for (let i = 0; i < node.inputs.length; i++) {
      const input = node.inputs[i] as Node;
      if (!input.tracked || input.mark === mark) continue;
      input.mark = mark;
      stack.push(input);
    }
  }
  return leaves;
}

/**
 * Adds the gradient of `output` to `grad` of every parameter that it was made from. `output` has
 * one element, or a cotangent of its shape is given. Throws if it depends on no parameter.
 *
 * @example
 * ```ts
 * const w = tensor([2, 3], { requiresGrad: true });
 * backward(w.mul(w).sum());
 * w.grad; // => [4, 6]
 * ```
 */
export function backward(output: Tensor, options: BackwardOptions = {}): void {
  const leaves = output.tracked ? trackedLeaves(output.node) : [];
  const owned = leaves.flatMap((leaf) => {
    const owner = ownerOf(leaf);
    return owner === null ? [] : [{ leaf, owner }];
  });
  if (owned.length === 0) throw independent();
  const nodes = owned.map(({ leaf }) => leaf);
  const results = gradientNodes('backward', output, nodes, options);
  if (results.every((node) => node === null)) throw independent();
  owned.forEach(({ owner }, i) => {
    const node = results[i];
    if (node === null || node === undefined) return;
    accumulateGrad(owner, wrap(node), options.createGraph === true);
  });
}

function independent(): ArgumentError {
  return new ArgumentError('the result does not depend on any parameter', {
    op: 'backward',
    hint: 'was it made inside noGrad(), from detached values or integers, or before the last step()?',
  });
}
