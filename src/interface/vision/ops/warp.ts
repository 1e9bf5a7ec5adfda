// Images read at computed places: remapping, affine and perspective maps, rotation.
import { checkKeys, checkNumber, checkOption } from '../../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import {
  type PointInterpolation,
  pointTaps,
  readPoints,
  type Surroundings,
} from '../../functional/sampling.ts';
import { perAxis, type Sizes } from '../../functional/windows.ts';
import { tensor } from '../../tensor/creation.ts';
import { numberNode, wrap } from '../../tensor/handle.ts';
import { indexNode } from '../../tensor/index-values.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { floatNode } from '../../tensor/unary.ts';

const INTERPOLATIONS = ['nearest', 'bilinear', 'bicubic'] as const;
const BORDERS = ['replicate', 'constant', 'reflect', 'reflect101', 'wrap'] as const;

export interface WarpOptions {
  /** Default bilinear. */
  readonly interpolation?: PointInterpolation;
  /**
   * What lies outside: the border pixels (default), `value`, the image mirrored with or without its
   * border pixels twice, or the image again.
   */
  readonly borderMode?: (typeof BORDERS)[number];
  /** The value of border mode constant; default 0. */
  readonly value?: number;
}

const OPTIONS = ['interpolation', 'borderMode', 'value'] as const;

const OUTSIDE: Readonly<Record<(typeof BORDERS)[number], Surroundings>> = {
  replicate: 'edge',
  constant: 'nothing',
  reflect: 'mirrorEdge',
  reflect101: 'mirrorCentre',
  wrap: 'wrap',
};

/** Images [n, c, h, w] with at least a pixel. */
function imagesOf(op: string, x: Tensor): Node {
  const node = floatNode(op, x);
  if (node.shape.length === 4 && !node.shape.slice(2).includes(0)) return node;
  throw new ShapeError(`takes images [n, c, h, w], got ${formatShape(node.shape)}`, { op });
}

/** Images read at `x` and `y`, [n, ...] each, in pixels: [n, c, ...]. */
function readAt(op: string, images: Node, x: Node, y: Node, options: WarpOptions): Node {
  const { interpolation = 'bilinear', borderMode = 'replicate', value = 0 } = options;
  checkOption(op, 'interpolation', interpolation, INTERPOLATIONS);
  checkOption(op, 'borderMode', borderMode, BORDERS);
  checkNumber(op, 'value', value, [-Infinity]);
  const [n, channels, ...space] = images.shape as readonly [number, number, ...number[]];
  const lengths = x.shape.slice(1);
  const points = [y, x].map((point) => ops.reshape(point, [n, sizeOf(lengths)]));
  const taps = pointTaps(points, space, { interpolation, outside: OUTSIDE[borderMode] });
  // Outside is 0 of what is read: of the difference to the value that should be there.
  const offset = borderMode === 'constant' && value !== 0 ? numberNode(value, images.dtype) : null;
  const read = readPoints(offset === null ? images : ops.sub(images, offset), taps);
  return ops.reshape(offset === null ? read : ops.add(read, offset), [n, channels, ...lengths]);
}

/**
 * Images x [n, c, h, w] read at `map` [n, oh, ow, 2], whose pairs (x, y) count pixels: [n, c, oh, ow]. The
 * centre of the first pixel is (0, 0). Gradients flow to both.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 2], [3, 4]]]]);
 * remap(x, tensor([[[[0.5, 0.5], [1, 0]]]])); // => [[[[2.5, 2]]]]
 * ```
 */
export function remap(x: Tensor, map: Tensor, options: WarpOptions = {}): Tensor {
  const op = 'remap';
  checkKeys(op, options, OPTIONS);
  const images = imagesOf(op, x);
  const places = floatNode(op, map);
  const { shape } = places;
  if (shape.length !== 4 || shape[0] !== images.shape[0] || shape[3] !== 2) {
    throw new ShapeError(
      `the map must be [${images.shape[0]}, oh, ow, 2], got ${formatShape(shape)}`,
      { op },
    );
  }
  const part = (k: number): Node => ops.reshape(ops.narrowAxis(places, 3, k, 1), shape.slice(0, 3));
  return wrap(readAt(op, images, part(0), part(1), options));
}

/** Pixels of an image of `size` as x and y, [1, h, w] each, though of broadcast sizes. */
function pixelGrid(size: readonly number[], like: Node): [Node, Node] {
  const [height, width] = size as readonly [number, number];
  return [ops.iota([1, 1, width], 2, like.dtype), ops.iota([1, height, 1], 1, like.dtype)];
}

/** Rows of matrices [n, rows, 3] applied to (x, y, 1): [n, h, w] each. */
function mapped(matrix: Node, size: readonly number[]): Node[] {
  const [n, rows] = matrix.shape as readonly [number, number];
  const [x, y] = pixelGrid(size, matrix);
  return Array.from({ length: rows }, (_, row) => {
    const entry = (k: number): Node =>
      ops.reshape(ops.narrowAxis(ops.narrowAxis(matrix, 1, row, 1), 2, k, 1), [n, 1, 1]);
    const sum = ops.add(ops.mul(entry(0), x), ops.mul(entry(1), y));
    return ops.expand(ops.add(sum, entry(2)), [n, ...size]);
  });
}

function matricesOf(op: string, matrix: Tensor, count: number | null, rows: number): Node {
  const node = floatNode(op, matrix);
  const n = count ?? node.shape[0] ?? 0;
  if (sameShape(node.shape, [n, rows, 3])) return node;
  throw new ShapeError(`matrices must be [${n}, ${rows}, 3], got ${formatShape(node.shape)}`, {
    op,
  });
}

/**
 * Images x [n, c, h, w] under affine maps [n, 2, 3], which lead from pixels (x, y) of the result to
 * pixels of x: [n, c, ...size]. Gradients flow to both.
 *
 * @example
 * ```ts
 * const left = tensor([[[1, 0, 1], [0, 1, 0]]]);
 * warpAffine(tensor([[[[1, 2, 3]]]]), left, [1, 3]); // => [[[[2, 3, 3]]]]
 * ```
 */
export function warpAffine(
  x: Tensor,
  matrix: Tensor,
  size: Sizes,
  options: WarpOptions = {},
): Tensor {
  const op = 'warpAffine';
  checkKeys(op, options, OPTIONS);
  const images = imagesOf(op, x);
  const lengths = perAxis(op, 'size', size, 2, 1);
  const matrices = matricesOf(op, matrix, images.shape[0]!, 2);
  const [u, v] = mapped(matrices, lengths) as [Node, Node];
  return wrap(readAt(op, images, u, v, options));
}

export interface WarpPerspectiveOptions extends WarpOptions {
  /** Which image each matrix is for, [n matrices] of int32; default one each. */
  readonly matIdx?: Tensor | null;
}

/**
 * Images x [n, c, h, w] under perspective maps [n, 3, 3], from pixels of the result to those of x:
 * [n, c, ...size]. Points at infinity read (0, 0). Gradients flow to both.
 *
 * @example
 * ```ts
 * const half = tensor([[[1, 0, 0], [0, 1, 0], [0, 0, 2]]]);
 * warpPerspective(tensor([[[[1, 2, 3]]]]), half, [1, 3]); // => [[[[1, 1.5, 2]]]]
 * ```
 */
export function warpPerspective(
  x: Tensor,
  matrix: Tensor,
  size: Sizes,
  options: WarpPerspectiveOptions = {},
): Tensor {
  const op = 'warpPerspective';
  const { matIdx = null, ...rest } = options;
  checkKeys(op, options, [...OPTIONS, 'matIdx']);
  let images = imagesOf(op, x);
  const lengths = perAxis(op, 'size', size, 2, 1);
  const matrices = matricesOf(op, matrix, matIdx === null ? images.shape[0]! : null, 3);
  if (matIdx !== null) {
    const index = indexNode(op, matIdx, images.shape[0]!);
    if (!sameShape(index.shape, [matrices.shape[0]!])) {
      throw new ShapeError(
        `matIdx ${formatShape(index.shape)} is not one for each of ${matrices.shape[0]} matrices`,
        { op },
      );
    }
    images = ops.take(images, index, 0);
  }
  const [u, v, w] = mapped(matrices, lengths) as [Node, Node, Node];
  const zero = ops.constant(0, w.dtype);
  const infinite = ops.equal(w, zero);
  const divisor = ops.select(infinite, ops.constant(1, w.dtype), w);
  const point = (value: Node): Node => ops.select(infinite, zero, ops.div(value, divisor));
  return wrap(readAt(op, images, point(u), point(v), rest));
}

// ---- rotation ---------------------------------------------------------------------------------

export interface RotateOptions {
  /** Default nearest. */
  readonly interpolation?: PointInterpolation;
  /** Whether the result grows to hold all of the image. */
  readonly expand?: boolean;
  /** The point (x, y) that stays, in pixels from the upper left corner; default the middle. */
  readonly center?: readonly [x: number, y: number] | null;
  /** What stands where the image was turned away; default 0. */
  readonly fill?: number;
}

/** Sizes that hold a turned image, whole pixels of the old grid: as torchvision and PIL. */
function turnedSize(height: number, width: number, cos: number, sin: number): [number, number] {
  const extent = (size: number, a: number, b: number): number => {
    const half = (Math.abs(a) + Math.abs(b)) / 2;
    // A ten-thousandth of a pixel is rounding.
    const cut = (value: number): number => Math.trunc(value * 1e4) / 1e4;
    return Math.ceil(cut(size / 2 + half)) - Math.floor(cut(size / 2 - half));
  };
  return [extent(height, width * sin, height * cos), extent(width, width * cos, height * sin)];
}

/**
 * Images x [n, c, h, w] turned by `angle` degrees against the clock, as torchvision's rotate; but where
 * interpolation meets `fill`, it is between the two.
 *
 * @example
 * ```ts
 * rotate(tensor([[[[1, 2], [3, 4]]]]), 90); // => [[[[2, 4], [1, 3]]]]
 * ```
 */
export function rotate(x: Tensor, angle: number, options: RotateOptions = {}): Tensor {
  const op = 'rotate';
  checkKeys(op, options, ['interpolation', 'expand', 'center', 'fill']);
  checkNumber(op, 'angle', angle, [-Infinity]);
  const { interpolation = 'nearest', expand = false, center = null, fill = 0 } = options;
  checkOption(op, 'expand', expand, 'boolean');
  if (expand && center !== null) {
    throw new ArgumentError('a result that grows has its own center', { op });
  }
  const images = imagesOf(op, x);
  const [, , height, width] = images.shape as readonly [number, number, number, number];
  const radians = (angle * Math.PI) / 180;
  const [cos, sin] = [Math.cos(radians), Math.sin(radians)];
  const size = expand ? turnedSize(height, width, cos, sin) : [height, width];
  const [cx, cy] = center ?? [width / 2, height / 2];
  const [ox, oy] = expand ? [size[1]! / 2, size[0]! / 2] : [cx, cy];
  // Pixel (i, j) has its centre at (j + 0.5, i + 0.5).
  const [dx, dy] = [0.5 - ox, 0.5 - oy];
  const rows = [
    [cos, -sin, cx - 0.5 + cos * dx - sin * dy],
    [sin, cos, cy - 0.5 + sin * dx + cos * dy],
  ];
  const n = images.shape[0]!;
  const matrix = tensor([rows], { dtype: images.dtype === 'float64' ? 'float64' : 'float32' }).node;
  const [u, v] = mapped(ops.expand(matrix, [n, 2, 3]), size) as [Node, Node];
  const warp = { interpolation, borderMode: 'constant', value: fill } as const;
  return wrap(readAt(op, images, u, v, warp));
}
