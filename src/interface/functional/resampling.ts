// Resampling along single axes: which elements each position of the result is made of, as tables that
// the host computes in double precision. Any map from positions to source coordinates will do, so
// that PyTorch's, ONNX's and image libraries' ways to resize differ in their tables alone.
import { isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { tensor } from '../tensor/creation.ts';

/**
 * Position o of the result is the sum over k of `weight[k * length + o] * x[index[k * length + o]]`;
 * all indices are in range.
 */
export interface AxisTaps {
  /** Elements of the source along the axis. */
  readonly size: number;
  /** Elements of the result along the axis. */
  readonly length: number;
  /** Taps per position. */
  readonly count: number;
  readonly index: Int32Array;
  readonly weight: Float64Array;
}

/** What lies outside: the outermost elements go on, or nothing is there and the rest is rescaled. */
export type Outside = 'edge' | 'exclude';

/** `count` taps from each of `firsts` on, weighed by `weigh`; `rescale`: to a sum of 1. */
function tapsFrom(
  size: number,
  firsts: readonly number[],
  count: number,
  weigh: (position: number, at: number) => number,
  outside: Outside,
  rescale = outside === 'exclude',
): AxisTaps {
  const length = firsts.length;
  const index = new Int32Array(count * length);
  const weight = new Float64Array(count * length);
  for (let o = 0; o < length; o++) {
    let total = 0;
    for (let k = 0; k < count; k++) {
      const at = (firsts[o] as number) + k;
      const inside = at >= 0 && at < size;
      const share = inside || outside === 'edge' ? weigh(o, at) : 0;
      total += share;
      index[k * length + o] = Math.min(Math.max(at, 0), size - 1);
      weight[k * length + o] = share;
    }
    if (!rescale || total === 0) continue;
    for (let k = 0; k < count; k++) (weight[k * length + o] as number) /= total;
  }
  return { size, length, count, index, weight };
}

/** The element at each of `positions`, integers that are moved into range. */
export function nearestTaps(size: number, positions: readonly number[]): AxisTaps {
  return tapsFrom(size, positions, 1, () => 1, 'edge');
}

/** Linear interpolation at `positions`: the centre of element i is at i. */
export function linearTaps(
  size: number,
  positions: readonly number[],
  outside: Outside = 'edge',
): AxisTaps {
  const weigh = (o: number, at: number): number => 1 - Math.abs((positions[o] as number) - at);
  return tapsFrom(size, positions.map(Math.floor), 2, weigh, outside);
}

/** The cubic convolution kernel (Keys 1981) at distance `x`; `a` is its slope at 1. */
export function cubicKernel(x: number, a: number): number {
  const d = Math.abs(x);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/** Cubic convolution at `positions`, by four elements each. */
export function cubicTaps(
  size: number,
  positions: readonly number[],
  options: { readonly a?: number; readonly outside?: Outside } = {},
): AxisTaps {
  const { a = -0.75, outside = 'edge' } = options;
  const weigh = (o: number, at: number): number => cubicKernel((positions[o] as number) - at, a);
  const firsts = positions.map((position) => Math.floor(position) - 1);
  return tapsFrom(size, firsts, 4, weigh, outside);
}

/**
 * Every element within `radius * scale` of a position, weighed by `kernel` stretched by `scale`: a
 * low-pass filter where the result has fewer elements. Weights are rescaled to a sum of 1.
 */
export function filterTaps(
  size: number,
  positions: readonly number[],
  filter: {
    /** Weight at a distance, zero from `radius` on. */
    readonly kernel: (distance: number) => number;
    readonly radius: number;
    readonly scale: number;
    readonly outside?: Outside;
  },
): AxisTaps {
  const { kernel, radius, scale, outside = 'exclude' } = filter;
  const reach = radius * scale;
  const firsts = positions.map((position) => Math.floor(position - reach + 1));
  const count = firsts.reduce(
    (most, first, o) => Math.max(most, Math.floor((positions[o] as number) + reach + 1) - first),
    1,
  );
  const weigh = (o: number, at: number): number => kernel((at - (positions[o] as number)) / scale);
  return tapsFrom(size, firsts, count, weigh, outside, true);
}

/** The triangle of linear interpolation, for `filterTaps`. */
export const LINEAR_FILTER = {
  kernel: (distance: number): number => Math.max(0, 1 - Math.abs(distance)),
  radius: 1,
} as const;

/** More taps than this are a product with a matrix: reading them one by one costs as much. */
const SPARSE_TAPS = 32;

/** The whole factor by which elements are repeated in a row, or 0 if that is not what happens. */
function repeats({ size, length, count, index }: AxisTaps): number {
  const factor = length / size;
  if (count !== 1 || !Number.isInteger(factor)) return 0;
  return index.every((at, o) => at === Math.floor(o / factor)) ? factor : 0;
}

/** Whether position o is element o and nothing else. */
function isIdentity({ size, length, index, weight }: AxisTaps): boolean {
  if (size !== length) return false;
  return index.every((at, i) => (i < length ? at === i && weight[i] === 1 : weight[i] === 0));
}

/** `x` with each element along `axis` `factor` times. */
function repeatAlong(x: Node, axis: number, factor: number): Node {
  const { shape } = x;
  const before = shape.slice(0, axis + 1);
  const after = shape.slice(axis + 1);
  const wide = ops.expand(ops.reshape(x, [...before, 1, ...after]), [...before, factor, ...after]);
  return ops.reshape(
    wide,
    shape.map((size, i) => (i === axis ? size * factor : size)),
  );
}

/** `x`, [.., size, ..], as [.., length, ..] by `taps` along `axis`. */
export function resampleAxis(x: Node, axis: number, taps: AxisTaps): Node {
  const { size, length, count, index, weight } = taps;
  if (x.shape[axis] !== size) {
    throw new ShapeError(`axis ${axis} of ${formatShape(x.shape)} has not ${size} elements`, {
      op: 'resample',
    });
  }
  if (isIdentity(taps)) return x;
  if (count === 1 && weight.every((share) => share === 1)) {
    const factor = repeats(taps);
    if (factor > 0) return repeatAlong(x, axis, factor);
    return ops.take(x, tensor(index).node, axis);
  }
  const { dtype } = x;
  if (!isFloat(dtype)) {
    throw new DTypeError(`has no weighted mean of ${dtype}`, { op: 'resample' });
  }

  const outer = x.shape.slice(0, axis);
  const inner = x.shape.slice(axis + 1);
  const shape = [...outer, length, ...inner];
  const flat = ops.reshape(x, [1, sizeOf(outer), size, sizeOf(inner)]);
  if (count > SPARSE_TAPS) {
    const matrix = new Float64Array(length * size);
    index.forEach((at, i) => {
      (matrix[(i % length) * size + at] as number) += weight[i] as number;
    });
    return ops.reshape(
      productAlong(flat, tensor(matrix, { shape: [length, size], dtype }).node),
      shape,
    );
  }
  const table = [1, count, length];
  const indices = tensor(index, { shape: table }).node;
  const weights = tensor(weight, { shape: table, dtype }).node;
  return ops.reshape(ops.readTaps(flat, indices, weights), shape);
}

/** `matrix` [length, size] applied to axis 2 of `x` [1, outer, size, inner]. */
function productAlong(x: Node, matrix: Node): Node {
  const [, outer, size, inner] = x.shape as readonly [number, number, number, number];
  const [length] = matrix.shape as readonly [number, number];
  if (inner === 1) return ops.matmul(ops.reshape(x, [outer, size]), ops.transpose(matrix));
  const each = ops.expand(ops.reshape(matrix, [1, length, size]), [outer, length, size]);
  return ops.matmul(each, ops.reshape(x, [outer, size, inner]));
}

/**
 * Resamples several axes, one after another: first those that shrink, and then, last axis first,
 * those that grow, so that little is in between.
 */
export function resampleAxes(
  x: Node,
  axes: readonly (readonly [axis: number, taps: AxisTaps])[],
): Node {
  const shrinks = ({ size, length }: AxisTaps): boolean => length < size;
  const first = axes.filter(([, taps]) => shrinks(taps));
  const then = axes.filter(([, taps]) => !shrinks(taps)).toReversed();
  return [...first, ...then].reduce((node, [axis, taps]) => resampleAxis(node, axis, taps), x);
}
