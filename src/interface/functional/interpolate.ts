// Resizing of signals, images and volumes.
import { checkKeys, checkNumber, checkOption, POSITIVE } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { adaptiveAvgPool1d, adaptiveAvgPool2d, adaptiveAvgPool3d } from './adaptive-pooling.ts';
import {
  type AxisTaps,
  cubicKernel,
  cubicTaps,
  filterTaps,
  LINEAR_FILTER,
  linearTaps,
  nearestTaps,
  resampleAxes,
} from './resampling.ts';
import { perAxis, type Sizes } from './windows.ts';

const MODES = [
  'nearest',
  'nearest-exact',
  'linear',
  'bilinear',
  'bicubic',
  'trilinear',
  'area',
] as const;

export type InterpolationMode = (typeof MODES)[number];

export interface InterpolateOptions {
  /** Space sizes of the result; this or `scaleFactor`. */
  readonly size?: Sizes | null;
  /** Factor of each space axis; the result has floor(size * factor) elements. */
  readonly scaleFactor?: Sizes | null;
  /** Default nearest. */
  readonly mode?: InterpolationMode;
  /** Whether the centres of the corner elements stay where they are, in place of their outer edges. */
  readonly alignCorners?: boolean | null;
  /** Whether positions follow from the result's sizes in place of `scaleFactor` as given. */
  readonly recomputeScaleFactor?: boolean | null;
  /** Whether elements that get lost are averaged in: bilinear and bicubic, where the image shrinks. */
  readonly antialias?: boolean;
}

const OPTIONS = [
  'size',
  'scaleFactor',
  'mode',
  'alignCorners',
  'recomputeScaleFactor',
  'antialias',
] as const;

/** Space axes that a mode is made for; null: any of 1 to 3. */
const RANKS: Readonly<Record<InterpolationMode, number | null>> = {
  nearest: null,
  'nearest-exact': null,
  area: null,
  linear: 1,
  bilinear: 2,
  bicubic: 2,
  trilinear: 3,
};

/** One axis to resize. */
interface Resize {
  readonly size: number;
  readonly length: number;
  /** Source elements per element of the result. */
  readonly scale: number;
}

/** Sizes and scales of the space axes. */
function resizesOf(op: string, space: readonly number[], options: InterpolateOptions): Resize[] {
  const { size = null, scaleFactor = null, alignCorners, recomputeScaleFactor } = options;
  if ((size === null) === (scaleFactor === null)) {
    throw new ArgumentError('takes either size or scaleFactor', { op });
  }
  if (scaleFactor === null && recomputeScaleFactor === true) {
    throw new ArgumentError('recomputeScaleFactor needs a scaleFactor', { op });
  }
  const factors = scaleFactor === null ? null : factorsOf(op, scaleFactor, space.length);
  const lengths =
    factors === null
      ? perAxis(op, 'size', size as Sizes, space.length, 1)
      : space.map((old, axis) => Math.floor(old * (factors[axis] as number)));
  return space.map((old, axis) => {
    const length = lengths[axis] as number;
    if (old < 1 || length < 1) {
      throw new ShapeError(`cannot resize ${formatShape(space)} to ${formatShape(lengths)}`, {
        op,
      });
    }
    const given = recomputeScaleFactor === true ? undefined : factors?.[axis];
    let scale = given === undefined ? old / length : 1 / given;
    if (alignCorners === true) scale = length > 1 ? (old - 1) / (length - 1) : 0;
    return { size: old, length, scale };
  });
}

function factorsOf(op: string, given: Sizes, rank: number): readonly number[] {
  const list = Array.isArray(given) ? (given as readonly number[]) : [given as number];
  if (list.length !== rank && list.length !== 1) {
    throw new ArgumentError(`scaleFactor has ${list.length} numbers for ${rank} space axes`, {
      op,
    });
  }
  for (const factor of list) checkNumber(op, 'scaleFactor', factor, POSITIVE);
  return list.length === rank ? list : new Array<number>(rank).fill(list[0] as number);
}

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}

/**
 * Where elements of the result lie in the source. The positions of `nearest` are whole: PyTorch
 * computes them in the precision of the image, which is what decides between two neighbours.
 */
function nearestPositions({ length, scale }: Resize, exact: boolean, double: boolean): number[] {
  const round = double ? (value: number): number => value : Math.fround;
  const step = round(scale);
  return range(length).map((o) => Math.floor(round(round(exact ? o + 0.5 : o) * step)));
}

function positionsOf({ length, scale }: Resize, alignCorners: boolean): number[] {
  return range(length).map((o) => (alignCorners ? o * scale : (o + 0.5) * scale - 0.5));
}

/** Slope of the cubic kernel where it filters; elsewhere it is -0.75. */
const FILTER_SLOPE = -0.5;

function tapsOf(
  mode: Exclude<InterpolationMode, 'area'>,
  resize: Resize,
  double: boolean,
  { alignCorners, antialias }: InterpolateOptions,
): AxisTaps {
  const { size, scale } = resize;
  if (mode === 'nearest' || mode === 'nearest-exact') {
    return nearestTaps(size, nearestPositions(resize, mode === 'nearest-exact', double));
  }
  const cubic = mode === 'bicubic';
  if (antialias === true) {
    const filter = cubic
      ? { kernel: (distance: number) => cubicKernel(distance, FILTER_SLOPE), radius: 2 }
      : LINEAR_FILTER;
    // The filter's centres do not move with alignCorners: as PyTorch.
    const centres = positionsOf(resize, false);
    return filterTaps(size, centres, { ...filter, scale: Math.max(scale, 1) });
  }
  const positions = positionsOf(resize, alignCorners === true);
  if (cubic) return cubicTaps(size, positions);
  // An axis that keeps its size is left alone, whatever its factor: as PyTorch.
  if (size === resize.length) return nearestTaps(size, range(size));
  return linearTaps(
    size,
    positions.map((position) => Math.max(position, 0)),
  );
}

function areaPool(x: Tensor, lengths: readonly number[]): Tensor {
  if (lengths.length === 1) return adaptiveAvgPool1d(x, lengths);
  return lengths.length === 2 ? adaptiveAvgPool2d(x, lengths) : adaptiveAvgPool3d(x, lengths);
}

/** Throws ArgumentError for options that a mode does not have. */
function checkMode(op: string, rank: number, mode: InterpolationMode, options: InterpolateOptions) {
  const { alignCorners = null, antialias = false } = options;
  const wanted = RANKS[mode];
  if (wanted !== null && wanted !== rank) {
    throw new ArgumentError(`mode '${mode}' takes ${wanted} space axes, there are ${rank}`, {
      op,
      hint: 'linear is for [n, c, length], bilinear and bicubic for images, trilinear for volumes',
    });
  }
  if (wanted === null && alignCorners !== null) {
    throw new ArgumentError(`mode '${mode}' has no alignCorners`, { op });
  }
  if (antialias && mode !== 'bilinear' && mode !== 'bicubic') {
    throw new ArgumentError(`mode '${mode}' has no antialias`, { op });
  }
}

function spaceOf(op: string, { shape }: Node): readonly number[] {
  if (shape.length >= 3 && shape.length <= 5) return shape.slice(2);
  throw new ShapeError(`takes [batch, channels, 1 to 3 space axes], got ${formatShape(shape)}`, {
    op,
  });
}

/**
 * Resizes the space axes of x [n, c, length], [n, c, height, width] or [n, c, depth, height, width],
 * as torch.nn.functional.interpolate. `nearest` takes any dtype, the rest floats. Positions are
 * computed in double precision; one axis is resized after another.
 *
 * Throws ShapeError where a size is 0, ArgumentError for options that do not go together, DTypeError
 * for a weighted mean of integers.
 *
 * @example
 * ```ts
 * const x = tensor([[[1, 2, 3]]]);
 * interpolate(x, { scaleFactor: 2 }); // => [[[1, 1, 2, 2, 3, 3]]]
 * interpolate(x, { size: 5, mode: 'linear', alignCorners: true }); // => [[[1, 1.5, 2, 2.5, 3]]]
 * interpolate(tensor([[[[1, 3], [5, 7]]]]), { size: 1, mode: 'area' }); // => [[[[4]]]]
 * ```
 */
export function interpolate(x: Tensor, options: InterpolateOptions = {}): Tensor {
  const op = 'interpolate';
  const node = nodeOf(op, x);
  checkKeys(op, options, OPTIONS);
  const { mode = 'nearest', antialias = false } = options;
  checkOption(op, 'mode', mode, MODES);
  checkOption(op, 'antialias', antialias, 'boolean');
  for (const name of ['alignCorners', 'recomputeScaleFactor'] as const) {
    checkOption(op, name, options[name] ?? false, 'boolean');
  }
  const space = spaceOf(op, node);
  checkMode(op, space.length, mode, options);
  const resizes = resizesOf(op, space, options);
  if (mode !== 'nearest' && mode !== 'nearest-exact' && !isFloat(node.dtype)) {
    throw new DTypeError(`mode '${mode}' takes floats, not ${node.dtype}`, {
      op,
      hint: 'x.float(), or mode nearest',
    });
  }
  if (mode === 'area') {
    return areaPool(
      x,
      resizes.map(({ length }) => length),
    );
  }
  const double = node.dtype === 'float64';
  const axes = resizes.map(
    (resize, axis) => [axis + 2, tapsOf(mode, resize, double, options)] as const,
  );
  return wrap(resampleAxes(node, axes));
}
