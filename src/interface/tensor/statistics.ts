// Statistics along axes: quantiles, what ignores NaN, the most frequent value, covariances, integrals.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import {
  formatShape,
  normalizeAxes,
  normalizeAxis,
  reducedShape,
  sizeOf,
} from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { type AxisArgument, type KeepDims, nodeOf } from './arguments.ts';
import { valuesNow } from './conversion.ts';
import { castNode, isTensor, numberNode, wrap } from './handle.ts';
import { amax, amin, normNode, type ValuesAndIndices } from './reductions.ts';
import { sort } from './sorting.ts';
import type { Tensor } from './tensor.ts';
import { floatNode } from './unary.ts';

// ---- without NaN ------------------------------------------------------------------------------

function withoutNaN(node: Node): { values: Node; present: Node } {
  const isNaN = ops.isNaN(node);
  const values = ops.select(isNaN, ops.constant(0, node.dtype), node);
  return { values, present: ops.logicalNot(isNaN) };
}

/** Sum of the elements that are not NaN. */
export function nansum(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  const node = nodeOf('nansum', x);
  const values = isFloat(node.dtype) ? withoutNaN(node).values : node;
  return wrap(ops.sum(values, axis ?? undefined, options.keepdims === true));
}

/**
 * Mean of the elements that are not NaN; NaN of none.
 *
 * @example
 * ```ts
 * nanmean(tensor([1, NaN, 3])); // => 2
 * ```
 */
export function nanmean(x: Tensor, axis?: AxisArgument | null, options: KeepDims = {}): Tensor {
  const node = floatNode('nanmean', x);
  const { values, present } = withoutNaN(node);
  const axes = normalizeAxes('nanmean', axis ?? undefined, node.shape.length);
  const kept = options.keepdims === true;
  const count = ops.sum(castNode(present, node.dtype), axes, kept);
  return wrap(ops.div(ops.sum(values, axes, kept), count));
}

// ---- quantiles --------------------------------------------------------------------------------

export interface QuantileOptions extends KeepDims {
  /** What is taken between two elements. Default 'linear'. */
  readonly interpolation?: 'linear' | 'lower' | 'higher' | 'midpoint' | 'nearest';
}

/** `node` with `axis` last, or all of it as one row. */
function asRows(op: string, node: Node, axis: number | undefined | null): Node {
  if (axis === undefined || axis === null) return ops.reshape(node, [sizeOf(node.shape)]);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const order = node.shape.map((_, i) => i).filter((i) => i !== normal);
  return ops.permute(node, [...order, normal]);
}

function sortedRows(rows: Node): Node {
  return ops.gather(rows, ops.argsort(rows, -1), rows.shape.length - 1);
}

/** Elements of sorted rows [.., n] at real positions [.., k]. */
function between(rows: Node, position: Node, interpolation: string): Node {
  const axis = rows.shape.length - 1;
  const at = (place: Node): Node => ops.gather(rows, ops.cast(place, 'int32'), axis);
  const low = ops.floor(position);
  const high = ops.ceil(position);
  switch (interpolation) {
    case 'lower':
      return at(low);
    case 'higher':
      return at(high);
    case 'nearest':
      return at(ops.round(position));
    default: {
      const half = ops.constant(0.5, rows.dtype);
      const share =
        interpolation === 'midpoint'
          ? ops.select(ops.equal(low, high), ops.constant(0, rows.dtype), half)
          : ops.sub(position, low);
      const first = at(low);
      return ops.add(first, ops.mul(share, ops.sub(at(high), first)));
    }
  }
}

const INTERPOLATIONS: readonly string[] = ['linear', 'lower', 'higher', 'midpoint', 'nearest'];

function quantiles(
  op: string,
  x: Tensor,
  q: number | readonly number[] | Tensor,
  axis: number | null | undefined,
  options: QuantileOptions,
  ignoreNaN: boolean,
): Tensor {
  const { interpolation = 'linear', keepdims = false } = options;
  if (!INTERPOLATIONS.includes(interpolation)) {
    throw new ArgumentError(`interpolation must be one of ${INTERPOLATIONS.join(', ')}`, { op });
  }
  const single = typeof q === 'number' || (isTensor(q) && q.ndim === 0);
  const wanted = typeof q === 'number' ? [q] : Array.from(isTensor(q) ? valuesNow(op, q) : q);
  for (const share of wanted) {
    if (!(share >= 0 && share <= 1)) {
      throw new ArgumentError(`q must lie between 0 and 1, got ${share}`, { op });
    }
  }
  const node = floatNode(op, x);
  const rows = asRows(op, node, axis);
  const length = rows.shape.at(-1) as number;
  if (length === 0) {
    throw new ShapeError(`${formatShape(node.shape)} has no elements along the axis`, { op });
  }
  const { dtype } = node;
  const sorted = sortedRows(rows);
  const lead = rows.shape.slice(0, -1);
  const isNaN = ops.isNaN(rows);
  const one = ops.constant(1, dtype);
  const count = ignoreNaN
    ? ops.sum(castNode(ops.logicalNot(isNaN), dtype), -1, true)
    : ops.full([...lead, 1], length, dtype);
  const last = ops.maximum(ops.sub(count, one), ops.constant(0, dtype));
  const results = wanted.map((share) => {
    const position = ops.mul(last, ops.constant(share, dtype));
    const found = between(sorted, position, interpolation);
    // A row with a NaN has no quantile; without NaN the first one stands behind all others.
    const undefinedRow = ignoreNaN
      ? ops.equal(count, ops.constant(0, dtype))
      : ops.any(isNaN, -1, true);
    return ops.select(undefinedRow, ops.constant(NaN, dtype), found);
  });
  const every = axis === undefined || axis === null;
  const axes = every ? node.shape.map((_, i) => i) : [normalizeAxis(op, axis, node.shape.length)];
  const shape = reducedShape(node.shape, axes, keepdims);
  const parts = results.map((value) => ops.reshape(value, [1, ...shape]));
  const joined = parts.length === 0 ? ops.full([0, ...shape], 0, dtype) : ops.concat(parts, 0);
  return wrap(single ? ops.reshape(joined, shape) : joined);
}

/**
 * Quantiles along an axis, or of all elements: `q` from 0 to 1. Several q (an array or a vector) give
 * a new first axis. NaN where there is one.
 *
 * @example
 * ```ts
 * quantile(tensor([1, 2, 3, 4]), 0.5); // => 2.5
 * quantile(tensor([[1, 2], [3, 4]]), [0, 1], 1); // => [[1, 3], [2, 4]]
 * ```
 */
export function quantile(
  x: Tensor,
  q: number | readonly number[] | Tensor,
  axis?: number | null,
  options: QuantileOptions = {},
): Tensor {
  return quantiles('quantile', x, q, axis, options, false);
}

/** As `quantile`, of the elements that are not NaN; NaN of none. */
export function nanquantile(
  x: Tensor,
  q: number | readonly number[] | Tensor,
  axis?: number | null,
  options: QuantileOptions = {},
): Tensor {
  return quantiles('nanquantile', x, q, axis, options, true);
}

/** The lower median of the elements that are not NaN. */
export function nanmedian(x: Tensor, axis?: number | null, options: KeepDims = {}): Tensor {
  return quantiles('nanmedian', x, 0.5, axis, { ...options, interpolation: 'lower' }, true);
}

// ---- order ------------------------------------------------------------------------------------

/**
 * The most frequent value along an axis (the smallest of several), and where it stands last.
 *
 * @example
 * ```ts
 * mode(tensor([3, 1, 3, 2])).values; // => 3
 * ```
 */
export function mode(x: Tensor, axis = -1, options: KeepDims = {}): ValuesAndIndices {
  const op = 'mode';
  const given = nodeOf(op, x);
  const node = given.shape.length === 0 ? ops.reshape(given, [1]) : given;
  const normal = normalizeAxis(op, axis, node.shape.length);
  const length = node.shape[normal] as number;
  if (length === 0) {
    throw new ShapeError(`axis ${axis} of ${formatShape(node.shape)} has no elements`, { op });
  }
  const order = ops.argsort(node, normal);
  const sorted = ops.gather(node, order, normal);
  // How many equal elements have come in a row: the first to have the most is the smallest of its kind.
  const later = ops.narrowAxis(sorted, normal, 1, length - 1);
  const earlier = ops.narrowAxis(sorted, normal, 0, length - 1);
  const first = node.shape.map((size, i) => (i === normal ? 1 : size));
  const goesOn = ops.concat(
    [ops.full(first, 0, 'float32'), ops.cast(ops.equal(later, earlier), 'float32')],
    normal,
  );
  const run = ops.linearScan(ops.full(node.shape, 1, 'float32'), goesOn, normal);
  const place = ops.argmax(run, normal, true);
  const shape =
    given.shape.length === 0 ? [] : reducedShape(node.shape, [normal], options.keepdims === true);
  const pick = (from: Node): Tensor => wrap(ops.reshape(ops.gather(from, place, normal), shape));
  return { values: pick(sorted), indices: pick(order) };
}

/** Sorted along the first axis. */
export function msort(x: Tensor): Tensor {
  return sort(x, 0).values;
}

/** The smallest and the largest element, of all or along axes. */
export function aminmax(
  x: Tensor,
  axis?: AxisArgument | null,
  options: KeepDims = {},
): { min: Tensor; max: Tensor } {
  return { min: amin(x, axis, options), max: amax(x, axis, options) };
}

/**
 * Slices along an axis with a p-norm above `maxnorm`, scaled down to it.
 *
 * @example
 * ```ts
 * renorm(tensor([[3, 4], [0.3, 0.4]]), 2, 0, 1); // => [[0.600, 0.800], [0.300, 0.400]]
 * ```
 */
export function renorm(x: Tensor, p: number, axis: number, maxnorm: number): Tensor {
  const op = 'renorm';
  if (!(p > 0) || !(maxnorm >= 0)) {
    throw new ArgumentError(
      `p must be positive and maxnorm not negative, got ${p} and ${maxnorm}`,
      {
        op,
      },
    );
  }
  const node = floatNode(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const axes = node.shape.map((_, i) => i).filter((i) => i !== normal);
  const norms = normNode(node, p, axes, true);
  const limit = numberNode(maxnorm, node.dtype);
  // As PyTorch, which keeps the divisor away from zero.
  const factor = ops.div(limit, ops.add(norms, ops.constant(1e-7, node.dtype)));
  const one = ops.constant(1, node.dtype);
  return wrap(ops.mul(node, ops.select(ops.greater(norms, limit), factor, one)));
}

// ---- covariance -------------------------------------------------------------------------------

export interface CovarianceOptions {
  /** The divisor is the number of observations minus this. Default 1. */
  readonly correction?: number;
  /** Integers: how often each observation was made. */
  readonly fweights?: Tensor | null;
  /** How much each observation counts. */
  readonly aweights?: Tensor | null;
}

function covariance(op: string, x: Tensor, options: CovarianceOptions): Node {
  const given = floatNode(op, x);
  if (given.shape.length > 2) {
    throw new ShapeError(
      `takes a vector or [variables, observations], got ${formatShape(given.shape)}`,
      {
        op,
      },
    );
  }
  const { dtype } = given;
  const rows = given.shape.length === 2 ? given : ops.reshape(given, [1, sizeOf(given.shape)]);
  const count = rows.shape[1] as number;
  const { correction = 1, fweights = null, aweights = null } = options;
  const read = (weights: Tensor): Node => {
    const node = castNode(nodeOf(op, weights), dtype);
    if (node.shape.length === 1 && node.shape[0] === count) return node;
    throw new ShapeError(`weights ${formatShape(node.shape)} for ${count} observations`, { op });
  };
  const f = fweights === null ? null : read(fweights);
  const a = aweights === null ? null : read(aweights);
  const both = f !== null && a !== null ? ops.mul(f, a) : (f ?? a);
  const weights = both ?? ops.full([count], 1, dtype);
  const total = ops.sum(weights);
  const mean = ops.div(ops.sum(ops.mul(rows, weights), 1, true), total);
  const centered = ops.sub(rows, mean);
  const product = ops.matmul(ops.mul(centered, weights), ops.transpose(centered));
  let bias = ops.constant(correction, dtype);
  if (a !== null) bias = ops.mul(bias, ops.div(ops.sum(ops.mul(weights, a)), total));
  const divisor = ops.maximum(ops.sub(total, bias), ops.constant(0, dtype));
  return ops.reshape(ops.div(product, divisor), given.shape.length === 2 ? product.shape : []);
}

/**
 * Covariances of variables, the rows of x [variables, observations]; of a vector its variance.
 *
 * @example
 * ```ts
 * cov(tensor([[0, 1, 2], [2, 1, 0]])); // => [[1, -1], [-1, 1]]
 * ```
 */
export function cov(x: Tensor, options: CovarianceOptions = {}): Tensor {
  return wrap(covariance('cov', x, options));
}

/** Pearson's correlations of the rows of x [variables, observations]. */
export function corrcoef(x: Tensor): Tensor {
  const all = covariance('corrcoef', x, {});
  if (all.shape.length === 0) return wrap(ops.div(all, all));
  const size = all.shape[0] as number;
  const deviation = ops.sqrt(ops.diagonalOf(all));
  const scale = ops.mul(ops.reshape(deviation, [size, 1]), deviation);
  const one = ops.constant(1, all.dtype);
  return wrap(ops.clamp(ops.div(all, scale), ops.neg(one), one));
}

// ---- integrals --------------------------------------------------------------------------------

export interface TrapezoidOptions {
  /** Distance of neighbours, where no places are given. Default 1. */
  readonly dx?: number;
  readonly axis?: number;
}

/** Areas between neighbours along the axis. */
function areas(op: string, y: Tensor, x: Tensor | undefined, options: TrapezoidOptions) {
  const node = floatNode(op, y);
  const { dx = 1, axis = -1 } = options;
  const normal = normalizeAxis(op, axis, node.shape.length);
  const size = node.shape[normal] as number;
  const count = Math.max(size - 1, 0);
  const pair = (values: Node, along: number): readonly [Node, Node] => [
    ops.narrowAxis(values, along, size > 0 ? 1 : 0, count),
    ops.narrowAxis(values, along, 0, count),
  ];
  const [later, earlier] = pair(node, normal);
  const middle = ops.mul(ops.add(later, earlier), ops.constant(0.5, node.dtype));
  if (x === undefined) return { areas: ops.mul(middle, numberNode(dx, node.dtype)), axis: normal };
  const places = castNode(nodeOf(op, x), node.dtype);
  const vector = places.shape.length === 1;
  const along = vector ? 0 : normal;
  if (places.shape[along] !== size || (!vector && places.shape.length !== node.shape.length)) {
    throw new ShapeError(
      `places ${formatShape(places.shape)} do not fit ${formatShape(node.shape)} along axis ${axis}`,
      { op },
    );
  }
  const [after, before] = pair(places, along);
  const widths = ops.sub(after, before);
  const shape = vector ? node.shape.map((_, i) => (i === normal ? count : 1)) : widths.shape;
  return { areas: ops.mul(middle, ops.reshape(widths, shape)), axis: normal };
}

/**
 * The integral along an axis (the last by default) by the trapezoidal rule: at places `x`, a vector or
 * of y's shape, or `dx` apart.
 *
 * @example
 * ```ts
 * trapezoid(tensor([1, 2, 3])); // => 4
 * trapezoid(tensor([1, 2, 3]), tensor([0, 1, 3])); // => 6.5
 * ```
 */
export function trapezoid(y: Tensor, x?: Tensor, options: TrapezoidOptions = {}): Tensor {
  const found = areas('trapezoid', y, x, options);
  return wrap(ops.sum(found.areas, found.axis));
}

/** The running integral: one less along the axis than y. */
export function cumulativeTrapezoid(y: Tensor, x?: Tensor, options: TrapezoidOptions = {}): Tensor {
  const found = areas('cumulativeTrapezoid', y, x, options);
  return wrap(ops.cumsum(found.areas, found.axis));
}
