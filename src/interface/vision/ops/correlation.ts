// Correlation of two images over a square of displacements (Dosovitskiy et al. 2015, FlowNet).
import { checkInteger, checkKeys, checkOption } from '../../../base/checks.ts';
import { isFloat } from '../../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../../base/errors.ts';
import { formatShape, sameShape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import { nodeOf } from '../../tensor/arguments.ts';
import { castNode, promoteOperands, wrap } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';

export interface CorrelationOptions {
  /** Side of the patches that are compared, odd; default 1. */
  readonly kernelSize?: number;
  /** Largest displacement in both directions; default 1. */
  readonly maxDisplacement?: number;
  /** Step between patches of the first image; default 1. */
  readonly stride1?: number;
  /** Step between displacements; default 1. */
  readonly stride2?: number;
  /** Zeros around both images; default 0. */
  readonly padSize?: number;
  /** Whether patches are multiplied (default), or their absolute difference is taken. */
  readonly isMultiply?: boolean;
}

const OP = 'correlation';

/** Absolute differences in place of products: one displacement after another. */
function differences(a: Node, b: Node, count: number, step: number): Node {
  const [, , height, width] = a.shape as readonly [number, number, number, number];
  const parts: Node[] = [];
  for (let i = 0; i < count; i++) {
    const rows = ops.narrowAxis(b, 2, i * step, height);
    for (let j = 0; j < count; j++) {
      const moved = ops.narrowAxis(rows, 3, j * step, width);
      parts.push(ops.sum(ops.abs(ops.sub(a, moved)), [1], true));
    }
  }
  return ops.concat(parts, 1);
}

/** Two images of one shape and one float dtype. */
function imagesOf(data1: Tensor, data2: Tensor): [Node, Node] {
  nodeOf(OP, data1);
  nodeOf(OP, data2);
  const [first, second] = promoteOperands(OP, data1, data2).map((node) =>
    isFloat(node.dtype) ? node : castNode(node, 'float32'),
  ) as [Node, Node];
  if (first.shape.length === 4 && sameShape(first.shape, second.shape)) return [first, second];
  throw new ShapeError(
    `takes two images [n, c, h, w] of one shape, got ${formatShape(first.shape)} and ${formatShape(second.shape)}`,
    { op: OP },
  );
}

/**
 * How well patches of `data1` [n, c, h, w] fit those of `data2`, moved by every displacement up to
 * `maxDisplacement` in steps of `stride2`: [n, displacements², oh, ow], rows of displacements from the
 * upper left. Sums are divided by the elements of a patch. As MegEngine's correlation. Gradients flow
 * to both; with `isMultiply: false` the graph grows with the number of displacements.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 2, 3]]]]);
 * correlation(x, x, { padSize: 1 }).at(0, 3, 0); // => [0, 2, 6]
 * ```
 */
export function correlation(
  data1: Tensor,
  data2: Tensor,
  options: CorrelationOptions = {},
): Tensor {
  checkKeys(OP, options, [
    'kernelSize',
    'maxDisplacement',
    'stride1',
    'stride2',
    'padSize',
    'isMultiply',
  ]);
  const { isMultiply = true } = options;
  checkOption(OP, 'isMultiply', isMultiply, 'boolean');
  const kernel = checkInteger(OP, 'kernelSize', options.kernelSize ?? 1, 1);
  const most = checkInteger(OP, 'maxDisplacement', options.maxDisplacement ?? 1, 0);
  const stride = checkInteger(OP, 'stride1', options.stride1 ?? 1, 1);
  const step = checkInteger(OP, 'stride2', options.stride2 ?? 1, 1);
  const border = checkInteger(OP, 'padSize', options.padSize ?? 0, 0);
  if (kernel % 2 === 0)
    throw new ArgumentError(`kernelSize must be odd, got ${kernel}`, { op: OP });
  const [first, second] = imagesOf(data1, data2);
  const sides = [0, 0, border, border];
  const [a, b] = [ops.pad(first, sides, sides), ops.pad(second, sides, sides)];
  const space = a.shape.slice(2).map((size) => size - 2 * most);
  if (space.some((size) => size < kernel)) {
    throw new ShapeError(
      `${formatShape(first.shape)} is too small for displacements of ${most} and patches of ${kernel}`,
      { op: OP, hint: 'a larger padSize' },
    );
  }
  const radius = Math.floor(most / step);
  const inner = (node: Node, margin: number): Node =>
    [2, 3].reduce(
      (part, axis) => ops.narrowAxis(part, axis, most - margin, space[axis - 2]! + 2 * margin),
      node,
    );
  const count = 2 * radius + 1;
  const [left, right] = [inner(a, 0), inner(b, radius * step)];
  const volume = isMultiply
    ? ops.costVolume(left, right, { count, step })
    : differences(left, right, count, step);
  const window = {
    kernel: [kernel, kernel],
    stride: [stride, stride],
    padding: [0, 0, 0, 0],
    dilation: [1, 1],
  };
  const sums = kernel === 1 && stride === 1 ? volume : ops.sumPool(volume, window);
  const elements = kernel * kernel * Math.max(first.shape[1]!, 1);
  return wrap(ops.mul(sums, ops.constant(1 / elements, sums.dtype)));
}
