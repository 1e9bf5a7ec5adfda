// Whole images: size, flips, quarter turns, normalization.
import { checkInteger, checkKeys, checkOption } from '../../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import { interpolate } from '../../functional/interpolate.ts';
import type { Sizes } from '../../functional/windows.ts';
import { nodeOf } from '../../tensor/arguments.ts';
import { tensor } from '../../tensor/creation.ts';
import { wrap } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { floatNode } from '../../tensor/unary.ts';

function planes(op: string, node: Node): Node {
  if (node.shape.length >= 2) return node;
  throw new ShapeError(`takes images [.., height, width], got ${formatShape(node.shape)}`, { op });
}

export interface ResizeOptions {
  /** Default bilinear. */
  readonly interpolation?: 'nearest' | 'nearest-exact' | 'bilinear' | 'bicubic' | 'area';
  /** Whether pixels that get lost are averaged in; default false. */
  readonly antialias?: boolean;
}

/**
 * Images [.., c, h, w] of another size: [height, width], or the length of the shorter side, the other
 * in proportion. Positions are those of pixel centres.
 *
 * @example
 * ```ts
 * resize(zeros(3, 20, 30), 10).shape; // => [3, 10, 15]
 * resize(tensor([[[[1, 3]]]]), [1, 4]); // => [[[[1, 1.5, 2.5, 3]]]]
 * ```
 */
export function resize(x: Tensor, size: Sizes, options: ResizeOptions = {}): Tensor {
  const op = 'resize';
  checkKeys(op, options, ['interpolation', 'antialias']);
  const { interpolation = 'bilinear', antialias = false } = options;
  const { shape } = nodeOf(op, x);
  if (shape.length < 3 || shape.slice(-2).includes(0)) {
    throw new ShapeError(`takes images [.., channels, height, width], got ${formatShape(shape)}`, {
      op,
    });
  }
  const [channels, height, width] = shape.slice(-3) as [number, number, number];
  let target = size;
  if (typeof size === 'number') {
    const short = checkInteger(op, 'size', size, 1);
    const long = Math.trunc((short * Math.max(height, width)) / Math.min(height, width));
    target = width <= height ? [long, short] : [short, long];
  }
  const lead = shape.slice(0, -3);
  const count = lead.reduce((a, b) => a * b, 1);
  const batched = x.reshape(count, channels, height, width);
  const resized = interpolate(batched, { size: target, mode: interpolation, antialias });
  return resized.reshape([...lead, ...resized.shape.slice(1)]);
}

/**
 * Images [.., h, w] with left and right exchanged.
 *
 * @example
 * ```ts
 * hflip(tensor([[1, 2], [3, 4]])); // => [[2, 1], [4, 3]]
 * ```
 */
export function hflip(x: Tensor): Tensor {
  const node = planes('hflip', nodeOf('hflip', x));
  return wrap(ops.flip(node, [node.shape.length - 1]));
}

/**
 * Images [.., h, w] with top and bottom exchanged.
 *
 * @example
 * ```ts
 * vflip(tensor([[1, 2], [3, 4]])); // => [[3, 4], [1, 2]]
 * ```
 */
export function vflip(x: Tensor): Tensor {
  const node = planes('vflip', nodeOf('vflip', x));
  return wrap(ops.flip(node, [node.shape.length - 2]));
}

/**
 * Images [.., h, w] by a quarter turn, clockwise unless said otherwise.
 *
 * @example
 * ```ts
 * rot90(tensor([[1, 2], [3, 4]])); // => [[3, 1], [4, 2]]
 * rot90(tensor([[1, 2], [3, 4]]), { clockwise: false }); // => [[2, 4], [1, 3]]
 * ```
 */
export function rot90(x: Tensor, options: { readonly clockwise?: boolean } = {}): Tensor {
  checkKeys('rot90', options, ['clockwise']);
  const { clockwise = true } = options;
  checkOption('rot90', 'clockwise', clockwise, 'boolean');
  const node = planes('rot90', nodeOf('rot90', x));
  const last = node.shape.length - 1;
  return wrap(ops.flip(ops.transpose(node), [clockwise ? last : last - 1]));
}

/**
 * Images [.., c, h, w] less `mean` and by `std` of each channel. Throws ArgumentError where a deviation
 * is 0.
 *
 * @example
 * ```ts
 * normalize(tensor([[[1, 3]], [[5, 7]]]), [2, 5], [1, 2]); // => [[[-1, 1]], [[0, 1]]]
 * ```
 */
export function normalize(x: Tensor, mean: readonly number[], std: readonly number[]): Tensor {
  const op = 'normalize';
  const node = floatNode(op, x);
  const channels = node.shape.at(-3);
  if (node.shape.length < 3 || mean.length !== std.length) {
    throw new ShapeError(
      `takes images [.., c, h, w] and as many means as deviations, got ${formatShape(node.shape)}, ${mean.length} and ${std.length}`,
      { op },
    );
  }
  if (mean.length !== channels && mean.length !== 1) {
    throw new ShapeError(`${mean.length} means for ${channels} channels`, { op });
  }
  if (!std.every((value) => value !== 0 && Number.isFinite(value))) {
    throw new ArgumentError(`deviations must be numbers other than 0, got [${std.join(', ')}]`, {
      op,
    });
  }
  const column = (values: readonly number[]): Node =>
    tensor(Float64Array.from(values), { shape: [values.length, 1, 1], dtype: node.dtype }).node;
  return wrap(ops.div(ops.sub(node, column(mean)), column(std)));
}
