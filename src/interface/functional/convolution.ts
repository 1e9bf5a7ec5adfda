// Linear layers and convolutions as functions.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { isFloat, promote } from '../../base/dtype.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import { matmulNode, productOperands } from '../tensor/linear-algebra.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { bothSides, perAxis, type Sizes, withBatch } from './windows.ts';

export { bilinear } from '../tensor/linear-algebra.ts';

/**
 * `x @ weightᵀ + bias`: x [..., in], weight [out, in] (or [in]), bias [out].
 * Throws ShapeError with both shapes if they do not fit.
 *
 * @example
 * ```ts
 * linear(tensor([[1, 2]]), tensor([[3, 4], [5, 6]])); // => [[11, 17]]
 * ```
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  const [input, w] = productOperands('linear', x, weight);
  const inputs = w.shape[w.shape.length - 1];
  if (w.shape.length > 2 || input.shape.length === 0 || input.shape.at(-1) !== inputs) {
    throw new ShapeError(
      `weight ${formatShape(w.shape)} takes rows of ${inputs ?? 0}, got ${formatShape(input.shape)}`,
      { op: 'linear', hint: 'the last axis of x must be the last axis of the weight' },
    );
  }
  const product = matmulNode('linear', input, w.shape.length === 2 ? ops.transpose(w) : w);
  return wrap(withBias('linear', product, bias, product.shape.length - 1));
}

/** Adds a bias along `axis`. */
function withBias(op: string, node: Node, bias: Tensor | null | undefined, axis: number): Node {
  if (bias === undefined || bias === null) return node;
  const given = castNode(nodeOf(op, bias), node.dtype);
  const count = axis < 0 ? 1 : (node.shape[axis] as number);
  if (given.shape.length > 1 || (given.shape[0] ?? 1) !== count) {
    throw new ShapeError(`bias ${formatShape(given.shape)} does not fit ${count} output(s)`, {
      op,
    });
  }
  const tail = new Array<number>(Math.max(node.shape.length - 1 - axis, 0)).fill(1);
  return ops.add(node, ops.reshape(given, axis < 0 ? [] : [count, ...tail]));
}

export interface ConvolutionOptions {
  /** Steps of the window; default 1. */
  readonly stride?: Sizes;
  /** Zeros on both sides; `same` keeps the size (stride 1), `valid` is 0. Default 0. */
  readonly padding?: Sizes | 'same' | 'valid';
  /** Distance between the window's elements; default 1. */
  readonly dilation?: Sizes;
  /** Groups of channels that do not see each other; default 1. */
  readonly groups?: number;
}

/** Zeros before and after each axis, of which `same` may need one more after. */
function convolutionPadding(
  op: string,
  padding: Sizes | 'same' | 'valid',
  kernel: readonly number[],
  stride: readonly number[],
  dilation: readonly number[],
): number[] {
  if (padding === 'valid') return kernel.flatMap(() => [0, 0]);
  if (padding !== 'same') {
    return bothSides(perAxis(op, 'padding', padding, kernel.length, 0));
  }
  if (stride.some((step) => step !== 1)) {
    throw new ArgumentError(`padding 'same' needs stride 1, got [${stride.join(',')}]`, { op });
  }
  return kernel.flatMap((size, axis) => {
    const total = (dilation[axis] as number) * (size - 1);
    return [total >> 1, total - (total >> 1)];
  });
}

/** Both operands in one float dtype. */
function operands(op: string, x: Tensor, weight: Tensor): [Node, Node] {
  const [a, b] = [nodeOf(op, x), nodeOf(op, weight)];
  const common = promote(a.dtype, b.dtype);
  const dtype = isFloat(common) ? common : 'float32';
  return [castNode(a, dtype), castNode(b, dtype)];
}

function checkWeight(op: string, weight: Node, spaceRank: number, groups: number): void {
  if (weight.shape.length !== spaceRank + 2) {
    throw new ShapeError(
      `the weight must have ${spaceRank + 2} axes, got ${formatShape(weight.shape)}`,
      { op },
    );
  }
  checkInteger(op, 'groups', groups, 1);
}

function convolve(
  op: string,
  spaceRank: number,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null | undefined,
  options: ConvolutionOptions,
): Tensor {
  const [input, w] = operands(op, x, weight);
  const { groups = 1 } = options;
  checkWeight(op, w, spaceRank, groups);
  const { batched, unbatch } = withBatch(op, input, spaceRank);
  const channels = batched.shape[1] as number;
  const [outputs, perGroup] = w.shape as readonly [number, number];
  if (perGroup * groups !== channels || outputs % groups !== 0) {
    const grouped = groups === 1 ? '' : ` in ${groups} groups`;
    throw new ShapeError(
      `weight ${formatShape(w.shape)}${grouped} takes ${perGroup * groups} channels, x ${formatShape(input.shape)} has ${channels}`,
      { op },
    );
  }
  const kernel = w.shape.slice(2);
  const stride = perAxis(op, 'stride', options.stride ?? 1, spaceRank, 1);
  const dilation = perAxis(op, 'dilation', options.dilation ?? 1, spaceRank, 1);
  const padding = convolutionPadding(op, options.padding ?? 0, kernel, stride, dilation);
  const size = batched.shape.slice(2);
  const output = ops.windowOutputSize(size, kernel, { stride, padding, dilation });
  if (output.some((length) => length < 1)) {
    throw new ShapeError(
      `the kernel ${formatShape(kernel)} does not fit ${formatShape(size)} with padding [${padding.join(',')}]`,
      { op, hint: 'add padding, or use a smaller kernel or dilation' },
    );
  }
  const result = ops.convolution(batched, w, { stride, padding, dilation, groups });
  return wrap(unbatch(withBias(op, result, bias, 1)));
}

/** Cross-correlation of x [n, in, length] with weight [out, in / groups, kernel]. */
export function conv1d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: ConvolutionOptions = {},
): Tensor {
  return convolve('conv1d', 1, x, weight, bias, options);
}

/** Cross-correlation of x [n, in, height, width] with weight [out, in / groups, kh, kw]. */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: ConvolutionOptions = {},
): Tensor {
  return convolve('conv2d', 2, x, weight, bias, options);
}

/** Cross-correlation of x [n, in, depth, height, width] with weight [out, in / groups, ...]. */
export function conv3d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: ConvolutionOptions = {},
): Tensor {
  return convolve('conv3d', 3, x, weight, bias, options);
}

export interface TransposedConvolutionOptions {
  readonly stride?: Sizes;
  /** Taken off both sides of the full result; default 0. */
  readonly padding?: Sizes;
  /** Added to one side of the result, smaller than stride or dilation; default 0. */
  readonly outputPadding?: Sizes;
  readonly groups?: number;
  readonly dilation?: Sizes;
}

function convolveTransposed(
  op: string,
  spaceRank: number,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null | undefined,
  options: TransposedConvolutionOptions,
): Tensor {
  const [input, w] = operands(op, x, weight);
  const { groups = 1 } = options;
  checkWeight(op, w, spaceRank, groups);
  const { batched, unbatch } = withBatch(op, input, spaceRank);
  const channels = batched.shape[1] as number;
  if (w.shape[0] !== channels || channels % groups !== 0) {
    throw new ShapeError(
      `weight ${formatShape(w.shape)} takes ${w.shape[0]} channels, x ${formatShape(input.shape)} has ${channels}`,
      { op, hint: 'a transposed weight is [in, out / groups, ...kernel]' },
    );
  }
  const stride = perAxis(op, 'stride', options.stride ?? 1, spaceRank, 1);
  const dilation = perAxis(op, 'dilation', options.dilation ?? 1, spaceRank, 1);
  const sides = perAxis(op, 'padding', options.padding ?? 0, spaceRank, 0);
  const extra = perAxis(op, 'outputPadding', options.outputPadding ?? 0, spaceRank, 0);
  const size = sides.map((side, axis) => {
    const step = stride[axis] as number;
    const spacing = dilation[axis] as number;
    const more = extra[axis] as number;
    if (more >= Math.max(step, spacing)) {
      throw new ArgumentError(`outputPadding ${more} must be below stride or dilation`, { op });
    }
    const length = batched.shape[axis + 2] as number;
    const kernel = w.shape[axis + 2] as number;
    return (length - 1) * step - 2 * side + spacing * (kernel - 1) + more + 1;
  });
  if (size.some((length) => length < 1)) {
    throw new ShapeError(`the result would have the sizes ${formatShape(size)}`, { op });
  }
  const padding = bothSides(sides);
  const window = { stride, padding, dilation, groups };
  const result = ops.convolutionBackwardData(batched, w, window, size);
  return wrap(unbatch(withBias(op, result, bias, 1)));
}

/** Transposed convolution of [n, in, length]: weight [in, out / groups, kernel]. */
export function convTranspose1d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: TransposedConvolutionOptions = {},
): Tensor {
  return convolveTransposed('convTranspose1d', 1, x, weight, bias, options);
}

/** Transposed convolution of [n, in, height, width]: weight [in, out / groups, kh, kw]. */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: TransposedConvolutionOptions = {},
): Tensor {
  return convolveTransposed('convTranspose2d', 2, x, weight, bias, options);
}

/** Transposed convolution of [n, in, depth, height, width]. */
export function convTranspose3d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: TransposedConvolutionOptions = {},
): Tensor {
  return convolveTransposed('convTranspose3d', 3, x, weight, bias, options);
}
