// Pools over the last axes: maxima, means, p-norms, and the way back from maxima.
import { checkNumber, POSITIVE } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkPool } from '../../graph/ops/pooling.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { numberNode, wrap } from '../tensor/handle.ts';
import { indexNode } from '../tensor/index-values.ts';
import type { ValuesAndIndices } from '../tensor/reductions.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { checkSpaceAxes, perAxis, type Sizes } from './windows.ts';

export interface MaxPoolOptions {
  /** Step of the window; default its size. */
  readonly stride?: Sizes | null;
  /** Border of -Infinity, at most half the window; default 0. */
  readonly padding?: Sizes;
  /** Distance between the window's elements; default 1. */
  readonly dilation?: Sizes;
  /** Whether a last window may reach over the end. */
  readonly ceilMode?: boolean;
  /** Whether positions within the space axes are returned too. */
  readonly returnIndices?: boolean;
}

/** As given to `maxPool2d(x, size, { returnIndices: true })`. */
export type WithIndices = MaxPoolOptions & { readonly returnIndices: true };

interface PoolGeometry {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  /** As the user gave it, one number for both sides. */
  readonly sides: readonly number[];
  /** With what a last window needs beyond the end. */
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
}

function readGeometry(
  op: string,
  node: Node,
  rank: number,
  kernelSize: Sizes,
  options: MaxPoolOptions,
): PoolGeometry {
  checkSpaceAxes(op, node.shape, rank);
  const kernel = perAxis(op, 'kernelSize', kernelSize, rank, 1);
  const stride = perAxis(op, 'stride', options.stride ?? kernel, rank, 1);
  const sides = perAxis(op, 'padding', options.padding ?? 0, rank, 0);
  const dilation = perAxis(op, 'dilation', options.dilation ?? 1, rank, 1);
  sides.forEach((side, axis) => {
    if (side * 2 > (kernel[axis] as number)) {
      throw new ArgumentError(`padding ${side} is more than half of the window ${kernel[axis]}`, {
        op,
      });
    }
  });
  const space = node.shape.slice(-rank);
  const padding = sides.flatMap((side, axis) => {
    const after = options.ceilMode === true ? overhang(space, axis) : 0;
    return [side, side + after];
  });
  function overhang(sizes: readonly number[], axis: number): number {
    const step = stride[axis] as number;
    const side = sides[axis] as number;
    const span = (dilation[axis] as number) * ((kernel[axis] as number) - 1) + 1;
    const length = sizes[axis] as number;
    let count = Math.ceil((length + 2 * side - span) / step) + 1;
    // The last window must start within the input or its left border.
    if ((count - 1) * step >= length + side) count--;
    return Math.max(0, (count - 1) * step + span - (length + 2 * side));
  }
  const geometry = { kernel, stride, sides, padding, dilation };
  // Here and not where the node is made: the user called `op`.
  checkPool(op, node.shape, geometry);
  return geometry;
}

function maxPool(
  op: string,
  rank: number,
  x: Tensor,
  kernelSize: Sizes,
  options: MaxPoolOptions,
): Tensor | ValuesAndIndices {
  const node = nodeOf(op, x);
  const window = readGeometry(op, node, rank, kernelSize, options);
  const values = wrap(ops.maxPool(node, window));
  if (options.returnIndices !== true) return values;
  return { values, indices: wrap(ops.maxPoolIndices(node, window)) };
}

/** Maxima over windows of [.., channels, length]. */
export function maxPool1d(x: Tensor, kernelSize: Sizes, options: WithIndices): ValuesAndIndices;
export function maxPool1d(x: Tensor, kernelSize: Sizes, options?: MaxPoolOptions): Tensor;
export function maxPool1d(
  x: Tensor,
  kernelSize: Sizes,
  options: MaxPoolOptions = {},
): Tensor | ValuesAndIndices {
  return maxPool('maxPool1d', 1, x, kernelSize, options);
}

/**
 * Maxima over windows of [.., channels, height, width].
 *
 * @example
 * ```ts
 * maxPool2d(tensor([[[1, 2], [3, 4]]]), 2); // => [[[4]]]
 * ```
 */
export function maxPool2d(x: Tensor, kernelSize: Sizes, options: WithIndices): ValuesAndIndices;
export function maxPool2d(x: Tensor, kernelSize: Sizes, options?: MaxPoolOptions): Tensor;
export function maxPool2d(
  x: Tensor,
  kernelSize: Sizes,
  options: MaxPoolOptions = {},
): Tensor | ValuesAndIndices {
  return maxPool('maxPool2d', 2, x, kernelSize, options);
}

/** Maxima over windows of [.., channels, depth, height, width]. */
export function maxPool3d(x: Tensor, kernelSize: Sizes, options: WithIndices): ValuesAndIndices;
export function maxPool3d(x: Tensor, kernelSize: Sizes, options?: MaxPoolOptions): Tensor;
export function maxPool3d(
  x: Tensor,
  kernelSize: Sizes,
  options: MaxPoolOptions = {},
): Tensor | ValuesAndIndices {
  return maxPool('maxPool3d', 3, x, kernelSize, options);
}

// ---- means ------------------------------------------------------------------------------------

export interface AvgPoolOptions {
  /** Step of the window; default its size. */
  readonly stride?: Sizes | null;
  /** Border of zeros, at most half the window; default 0. */
  readonly padding?: Sizes;
  /** Whether a last window may reach over the end. */
  readonly ceilMode?: boolean;
  /** Whether the border counts as elements; default true. */
  readonly countIncludePad?: boolean;
  /** Divides by this in place of the number of elements. */
  readonly divisorOverride?: number | null;
}

/** How many elements each window counts, or null if all count the same. */
function windowCounts(
  node: Node,
  rank: number,
  window: PoolGeometry,
  includePad: boolean,
): Node | null {
  const { sides, padding } = window;
  const padded = sides.some((side) => side > 0);
  const overhangs = sides.some((side, axis) => (padding[2 * axis + 1] as number) > side);
  if (!overhangs && (includePad || !padded)) return null;
  const space = node.shape.slice(-rank);
  const inside = includePad ? space.map((size, axis) => size + 2 * (sides[axis] as number)) : space;
  const border = includePad
    ? padding.map((amount, i) => amount - (sides[i >> 1] as number))
    : padding;
  return ops.sumPool(ops.full(inside, 1, node.dtype), { ...window, padding: border });
}

function avgPool(
  op: string,
  rank: number,
  x: Tensor,
  kernelSize: Sizes,
  options: AvgPoolOptions,
): Tensor {
  const node = floatNode(op, x);
  const { divisorOverride, countIncludePad = true, ...rest } = options;
  const window = readGeometry(op, node, rank, kernelSize, rest);
  const total = ops.sumPool(node, window);
  if (divisorOverride !== undefined && divisorOverride !== null) {
    if (divisorOverride === 0) throw new ArgumentError('divisorOverride must not be 0', { op });
    return wrap(ops.div(total, numberNode(divisorOverride, node.dtype)));
  }
  const counts = windowCounts(node, rank, window, countIncludePad);
  if (counts !== null) return wrap(ops.div(total, counts));
  return wrap(ops.mul(total, ops.constant(1 / sizeOf(window.kernel), node.dtype)));
}

/** Means over windows of [.., channels, length]. */
export function avgPool1d(x: Tensor, kernelSize: Sizes, options: AvgPoolOptions = {}): Tensor {
  return avgPool('avgPool1d', 1, x, kernelSize, options);
}

/** Means over windows of [.., channels, height, width]. */
export function avgPool2d(x: Tensor, kernelSize: Sizes, options: AvgPoolOptions = {}): Tensor {
  return avgPool('avgPool2d', 2, x, kernelSize, options);
}

/** Means over windows of [.., channels, depth, height, width]. */
export function avgPool3d(x: Tensor, kernelSize: Sizes, options: AvgPoolOptions = {}): Tensor {
  return avgPool('avgPool3d', 3, x, kernelSize, options);
}

// ---- p-norms and the way back -----------------------------------------------------------------

function lpPool(
  op: string,
  rank: number,
  x: Tensor,
  p: number,
  kernelSize: Sizes,
  options: { stride?: Sizes | null; ceilMode?: boolean },
): Tensor {
  checkNumber(op, 'the order', p, POSITIVE);
  const node = floatNode(op, x);
  const window = readGeometry(op, node, rank, kernelSize, options);
  const order = numberNode(p, node.dtype);
  const total = ops.sumPool(ops.pow(node, order), window);
  // The sign detour keeps PyTorch's value for odd orders, and 0 in place of NaN.
  const magnitude = ops.mul(ops.sign(total), ops.relu(ops.abs(total)));
  return wrap(ops.pow(magnitude, numberNode(1 / p, node.dtype)));
}

/** Sums of p-th powers over windows of [.., channels, length], and the p-th root. */
export function lpPool1d(
  x: Tensor,
  normType: number,
  kernelSize: Sizes,
  options: { stride?: Sizes | null; ceilMode?: boolean } = {},
): Tensor {
  return lpPool('lpPool1d', 1, x, normType, kernelSize, options);
}

/** Sums of p-th powers over windows of [.., channels, height, width], and the p-th root. */
export function lpPool2d(
  x: Tensor,
  normType: number,
  kernelSize: Sizes,
  options: { stride?: Sizes | null; ceilMode?: boolean } = {},
): Tensor {
  return lpPool('lpPool2d', 2, x, normType, kernelSize, options);
}

export interface MaxUnpoolOptions {
  readonly stride?: Sizes | null;
  readonly padding?: Sizes;
  /** Space sizes of the result; default the smallest that the windows fit. */
  readonly outputSize?: readonly number[];
}

function maxUnpool(
  op: string,
  rank: number,
  x: Tensor,
  indices: Tensor,
  kernelSize: Sizes,
  options: MaxUnpoolOptions,
): Tensor {
  const node = nodeOf(op, x);
  if (!sameShape(node.shape, indices.shape)) {
    throw new ShapeError(
      `values are ${formatShape(node.shape)}, their positions ${formatShape(indices.shape)}`,
      { op },
    );
  }
  const kernel = perAxis(op, 'kernelSize', kernelSize, rank, 1);
  const stride = perAxis(op, 'stride', options.stride ?? kernel, rank, 1);
  const sides = perAxis(op, 'padding', options.padding ?? 0, rank, 0);
  const space = node.shape.slice(-rank);
  const lead = node.shape.slice(0, -rank);
  const smallest = space.map(
    (size, axis) =>
      (size - 1) * (stride[axis] as number) -
      2 * (sides[axis] as number) +
      (kernel[axis] as number),
  );
  const size = options.outputSize?.slice(-rank) ?? smallest;
  const index = indexNode(op, indices, sizeOf(size));
  const flat = (value: Node): Node => ops.reshape(value, [sizeOf(lead), sizeOf(space)]);
  const spread = ops.scatterAdd(flat(node), flat(index), 1, sizeOf(size));
  return wrap(ops.reshape(spread, [...lead, ...size]));
}

/** Puts values back to where `maxPool1d` with `returnIndices` found them, zeros elsewhere. */
export function maxUnpool1d(
  x: Tensor,
  indices: Tensor,
  kernelSize: Sizes,
  options: MaxUnpoolOptions = {},
): Tensor {
  return maxUnpool('maxUnpool1d', 1, x, indices, kernelSize, options);
}

/** Puts values back to where `maxPool2d` with `returnIndices` found them, zeros elsewhere. */
export function maxUnpool2d(
  x: Tensor,
  indices: Tensor,
  kernelSize: Sizes,
  options: MaxUnpoolOptions = {},
): Tensor {
  return maxUnpool('maxUnpool2d', 2, x, indices, kernelSize, options);
}

/** Puts values back to where `maxPool3d` with `returnIndices` found them, zeros elsewhere. */
export function maxUnpool3d(
  x: Tensor,
  indices: Tensor,
  kernelSize: Sizes,
  options: MaxUnpoolOptions = {},
): Tensor {
  return maxUnpool('maxUnpool3d', 3, x, indices, kernelSize, options);
}
