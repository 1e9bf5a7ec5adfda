// How losses become one number, and what they share.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { floatOperands } from '../tensor/arithmetic.ts';
import { inFloat32 } from '../tensor/autocast.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** `mean` of all elements, their `sum`, or the elements themselves. */
export type Reduction = 'mean' | 'sum' | 'none';

export interface LossOptions {
  /** Default mean. */
  readonly reduction?: Reduction | undefined;
}

/** Applies a reduction to the losses of single elements. */
export function reduceLoss(op: string, losses: Node, reduction: Reduction = 'mean'): Node {
  switch (reduction) {
    case 'none':
      return losses;
    case 'sum':
      return ops.sum(losses);
    case 'mean':
      return inFloat32(losses, (wide) =>
        ops.mul(ops.sum(wide), ops.constant(1 / sizeOf(losses.shape), wide.dtype)),
      );
    default:
      reduction satisfies never;
      throw new ArgumentError(`reduction must be mean, sum or none, got '${String(reduction)}'`, {
        op,
      });
  }
}

/** Input and target of a loss in one float dtype. Throws ShapeError unless their shapes are equal. */
export function lossOperands(op: string, input: Tensor, target: Tensor): [Node, Node] {
  nodeOf(op, input);
  nodeOf(op, target);
  const [x, y] = floatOperands(op, input, target);
  if (sameShape(x.shape, y.shape)) return [x, y];
  // [N, 1] against [N] would broadcast to [N, N]: hardly ever what is meant.
  throw new ShapeError(`shapes differ, ${formatShape(x.shape)} and ${formatShape(y.shape)}`, {
    op,
    hint: 'reshape() one of them, or expand() it if broadcasting is meant',
  });
}

/** A loss that is a function of input and target at each place. */
export function elementwiseLoss(
  op: string,
  input: Tensor,
  target: Tensor,
  options: LossOptions,
  build: (x: Node, y: Node) => Node,
): Tensor {
  const [x, y] = lossOperands(op, input, target);
  return wrap(reduceLoss(op, build(x, y), options.reduction));
}

/** An optional factor of the losses. */
export function weighted(op: string, losses: Node, weight: Tensor | null | undefined): Node {
  if (weight === undefined || weight === null) return losses;
  return ops.mul(losses, castNode(nodeOf(op, weight), losses.dtype));
}

/** max(x, 0) with slope 1 at 0, as PyTorch's clamp has it. */
export function hinge(x: Node): Node {
  const zero = ops.constant(0, x.dtype);
  return ops.select(ops.greaterEqual(x, zero), x, zero);
}

/** Throws unless `target` has the shape `expected`. */
export function checkTargetShape(
  op: string,
  input: Node,
  target: Node,
  expected: readonly number[],
): void {
  if (sameShape(target.shape, expected)) return;
  throw new ShapeError(
    `targets are ${formatShape(target.shape)}, for input ${formatShape(input.shape)} they must be ${formatShape(expected)}`,
    { op },
  );
}
