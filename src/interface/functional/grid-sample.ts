// Sampling at the points of a grid, and the grids of affine maps (Jaderberg et al. 2015).
import { checkKeys, checkOption } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { checkShape, formatShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { pointTaps, readPoints, type Surroundings } from './sampling.ts';

export interface GridSampleOptions {
  /** Default bilinear, which for volumes is trilinear; bicubic is for images. */
  readonly mode?: 'bilinear' | 'nearest' | 'bicubic';
  /** What lies outside: zeros (default), the border pixels, or the image mirrored. */
  readonly paddingMode?: 'zeros' | 'border' | 'reflection';
  /** Whether -1 and 1 are the centres of the corner pixels, in place of their outer edges. */
  readonly alignCorners?: boolean;
}

const MODES = ['bilinear', 'nearest', 'bicubic'] as const;
const PADDINGS = ['zeros', 'border', 'reflection'] as const;

/** [-1, 1] as pixels: whole numbers are centres. */
function pixels(x: Node, size: number, alignCorners: boolean): Node {
  const shifted = ops.add(x, ops.constant(1, x.dtype));
  if (alignCorners) return ops.mul(shifted, ops.constant((size - 1) / 2, x.dtype));
  const scaled = ops.mul(shifted, ops.constant(size / 2, x.dtype));
  return ops.sub(scaled, ops.constant(0.5, x.dtype));
}

function checkGrid(op: string, x: Node, grid: Node, mode: string): void {
  const rank = x.shape.length - 2;
  if (rank !== 2 && rank !== 3) {
    throw new ShapeError(`takes images or volumes with batch, got ${formatShape(x.shape)}`, { op });
  }
  if (mode === 'bicubic' && rank !== 2) {
    throw new ArgumentError('bicubic is for images, not for volumes', { op });
  }
  const fits =
    grid.shape.length === rank + 2 && grid.shape[0] === x.shape[0] && grid.shape.at(-1) === rank;
  if (!fits) {
    throw new ShapeError(
      `grid ${formatShape(grid.shape)} does not fit ${formatShape(x.shape)}: the last axis holds ${rank} coordinates`,
      { op, hint: 'a grid is [batch, ...sizes of the result, coordinates], x first' },
    );
  }
  if (x.shape.slice(2).includes(0)) {
    throw new ShapeError(`nothing to sample in ${formatShape(x.shape)}`, { op });
  }
}

/**
 * Values of x [n, c, (depth,) height, width] at `grid` [n, ..., 2 or 3]: points whose coordinates (x
 * first) are -1 and 1 at opposite borders. As torch.nn.functional.grid_sample, its gradients by x and
 * grid included. Throws ShapeError where they do not fit.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 2], [3, 4]]]]);
 * gridSample(x, tensor([[[[0, 0], [-1, -1]]]]), { alignCorners: true }); // => [[[[2.5, 1]]]]
 * gridSample(x, tensor([[[[0, -3]]]]), { paddingMode: 'border' }); // => [[[[1.5]]]]
 * ```
 */
export function gridSample(x: Tensor, grid: Tensor, options: GridSampleOptions = {}): Tensor {
  const op = 'gridSample';
  checkKeys(op, options, ['mode', 'paddingMode', 'alignCorners']);
  const { mode = 'bilinear', paddingMode = 'zeros', alignCorners = false } = options;
  checkOption(op, 'mode', mode, MODES);
  checkOption(op, 'paddingMode', paddingMode, PADDINGS);
  checkOption(op, 'alignCorners', alignCorners, 'boolean');
  const node = floatNode(op, x);
  const points = floatNode(op, grid);
  checkGrid(op, node, points, mode);
  const [batch, channels, ...space] = node.shape as readonly [number, number, ...number[]];
  const lengths = points.shape.slice(1, -1);
  const axes = space.map((size, axis) => {
    const coordinate = ops.narrowAxis(points, points.shape.length - 1, space.length - 1 - axis, 1);
    return ops.reshape(pixels(coordinate, size, alignCorners), [batch, sizeOf(lengths)]);
  });
  const mirrored = alignCorners ? 'mirrorCentre' : 'mirrorEdge';
  const outside: Surroundings =
    paddingMode === 'zeros' ? 'nothing' : paddingMode === 'border' ? 'edge' : mirrored;
  const taps = pointTaps(axes, space, { interpolation: mode, outside });
  return wrap(ops.reshape(readPoints(node, taps), [batch, channels, ...lengths]));
}

/** Centres of the pixels along `axis` of `shape`, in [-1, 1]. */
function centres(shape: readonly number[], axis: number, alignCorners: boolean, like: Node): Node {
  const size = shape[axis] as number;
  if (alignCorners && size === 1) return ops.full(shape, 0, like.dtype);
  const step = alignCorners ? 2 / (size - 1) : 2 / size;
  const first = alignCorners ? -1 : 1 / size - 1;
  const scaled = ops.mul(ops.iota(shape, axis, like.dtype), ops.constant(step, like.dtype));
  return ops.add(scaled, ops.constant(first, like.dtype));
}

/**
 * Points for `gridSample` that an affine map gives: theta [n, 2, 3] for `size` [n, c, h, w], or
 * [n, 3, 4] for [n, c, d, h, w]. The map goes from the result's coordinates to those of the source.
 *
 * @example
 * ```ts
 * const identity = tensor([[[1, 0, 0], [0, 1, 0]]]);
 * affineGrid(identity, [1, 1, 1, 2]); // => [[[[-0.5, 0], [0.5, 0]]]]
 * ```
 */
export function affineGrid(
  theta: Tensor,
  size: readonly number[],
  options: { readonly alignCorners?: boolean } = {},
): Tensor {
  const op = 'affineGrid';
  checkKeys(op, options, ['alignCorners']);
  const { alignCorners = false } = options;
  checkOption(op, 'alignCorners', alignCorners, 'boolean');
  const node = nodeOf(op, theta);
  checkShape(op, size);
  const rank = size.length - 2;
  const [batch = 0, , ...space] = size;
  if ((rank !== 2 && rank !== 3) || size.includes(0)) {
    throw new ShapeError(`size must be [n, c, h, w] or [n, c, d, h, w], got ${formatShape(size)}`, {
      op,
    });
  }
  if (!isFloat(node.dtype) || formatShape(node.shape) !== formatShape([batch, rank, rank + 1])) {
    throw new ShapeError(
      `theta must be ${formatShape([batch, rank, rank + 1])} of floats for ${formatShape(size)}, got ${formatShape(node.shape)} of ${node.dtype}`,
      { op },
    );
  }
  const ones = space.map(() => 1);
  const column = (j: number): Node =>
    ops.reshape(ops.narrowAxis(node, 2, j, 1), [batch, ...ones, rank]);
  let total = ops.expand(column(rank), [batch, ...space, rank]);
  for (let j = 0; j < rank; j++) {
    const axis = rank - 1 - j;
    const length = space[axis] as number;
    const shape = [1, ...ones.map((one, i) => (i === axis ? length : one)), 1];
    total = ops.add(total, ops.mul(column(j), centres(shape, axis + 1, alignCorners, node)));
  }
  return wrap(total);
}
