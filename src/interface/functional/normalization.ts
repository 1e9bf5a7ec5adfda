// Normalization layers as functions.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import {
  formatShape,
  normalizeAxes as sortedAxes,
  normalizeAxis,
  sameShape,
  type Shape,
  sizeOf,
} from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { withoutTracking } from '../../graph/op.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { widened } from '../tensor/autocast.ts';
import { castNode, numberNode, tensorOn, wrap } from '../tensor/handle.ts';
import { meanNode, momentNodes, reducedCount } from '../tensor/reductions.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';

export interface AffineOptions {
  /** Factor of the normalized value. */
  readonly weight?: Tensor | null | undefined;
  /** Added after the factor. */
  readonly bias?: Tensor | null | undefined;
  /** Added to the variance; default 1e-5. */
  readonly eps?: number | undefined;
}

/** Weight or bias as a node of `dtype` and `shape`; null if there is none. */
function affineNode(
  op: string,
  name: string,
  given: Tensor | null | undefined,
  like: Node,
  expected: Shape,
  shape: Shape,
): Node | null {
  if (given === undefined || given === null) return null;
  const node = castNode(nodeOf(op, given), like.dtype);
  if (!sameShape(node.shape, expected)) {
    throw new ShapeError(
      `${name} is ${formatShape(node.shape)}, expected ${formatShape(expected)}`,
      {
        op,
      },
    );
  }
  return ops.reshape(node, shape);
}

/** (x - mean) / sqrt(variance + eps) * weight + bias. */
function normalizeNode(
  node: Node,
  mean: Node,
  variance: Node,
  eps: number,
  weight: Node | null,
  bias: Node | null,
): Node {
  const inverse = ops.rsqrt(ops.add(variance, numberNode(eps, node.dtype)));
  const scale = weight === null ? inverse : ops.mul(inverse, weight);
  const scaled = ops.mul(ops.sub(node, mean), scale);
  return bias === null ? scaled : ops.add(scaled, bias);
}

// ---- over the batch ---------------------------------------------------------------------------

export interface BatchNormOptions extends AffineOptions {
  /** Whether statistics are those of the batch, and the running ones are updated. */
  readonly training?: boolean | undefined;
  /** Share of the batch in the new running statistics; default 0.1. */
  readonly momentum?: number | undefined;
  /**
   * Makes the statistics those of several batches, as one that is spread over processes: given this
   * batch's sums [2 channels + 1], it returns the sums over all of them, with a gradient.
   */
  readonly allReduce?: ((sums: Tensor) => Tensor) | null | undefined;
}

/** Statistics per channel, all of shape [1, channels, 1, ...]. */
interface ChannelMoments {
  readonly mean: Node;
  readonly variance: Node;
}

/**
 * Mean and population variance in one pass over `node`: sums of differences from `shift` and of
 * their squares. Any shift is exact in theory; one near the mean avoids cancellation.
 */
function onePassMoments(node: Node, axes: readonly number[], shift: Node): ChannelMoments {
  const scale = ops.constant(1 / reducedCount(node, axes), node.dtype);
  const difference = ops.sub(node, shift);
  const first = ops.mul(ops.sum(difference, axes, true), scale);
  const second = ops.mul(ops.sum(ops.mul(difference, difference), axes, true), scale);
  const zero = ops.constant(0, node.dtype);
  const variance = ops.maximum(ops.sub(second, ops.mul(first, first)), zero);
  return { mean: ops.add(first, shift), variance };
}

/** The moments over all processes, and the number of elements behind them. */
interface SyncedMoments extends ChannelMoments {
  readonly count: Node;
}

/**
 * Moments from sums that `allReduce` adds up over processes: the count, differences from `shift` and their
 * squares. The shift must be the same everywhere. Without one, a first round finds the mean.
 */
function syncedMoments(
  node: Node,
  axes: readonly number[],
  shift: Node | null,
  allReduce: (sums: Tensor) => Tensor,
): SyncedMoments {
  const channels = node.shape[1] as number;
  const shape = node.shape.map((size, axis) => (axis === 1 ? size : 1));
  const local = ops.full([1], reducedCount(node, axes), node.dtype);
  const round = (from: Node): SyncedMoments => {
    const difference = ops.sub(node, from);
    const total = (x: Node): Node => ops.reshape(ops.sum(x, axes), [channels]);
    const sums = [local, total(difference), total(ops.mul(difference, difference))];
    const packed = ops.concat(sums, 0);
    const reduced = nodeOf('batchNorm', allReduce(wrap(packed)));
    if (!sameShape(reduced.shape, packed.shape)) {
      throw new ShapeError(
        `allReduce was given ${formatShape(packed.shape)} and returned ${formatShape(reduced.shape)}`,
        { op: 'batchNorm' },
      );
    }
    const all = castNode(reduced, node.dtype);
    const count = ops.narrowAxis(all, 0, 0, 1);
    const average = (start: number): Node =>
      ops.reshape(ops.div(ops.narrowAxis(all, 0, start, channels), count), shape);
    const [first, second] = [average(1), average(1 + channels)];
    const zero = ops.constant(0, node.dtype);
    const variance = ops.maximum(ops.sub(second, ops.mul(first, first)), zero);
    return { mean: ops.add(first, from), variance, count };
  };
  return round(shift ?? ops.detach(round(ops.full(shape, 0, node.dtype)).mean));
}

/** The first element of each channel: near enough to its mean to subtract it. */
function sampleShift(node: Node): Node {
  let shift = node;
  node.shape.forEach((_, axis) => {
    if (axis !== 1) shift = ops.narrowAxis(shift, axis, 0, 1);
  });
  return ops.detach(shift);
}

/** running += momentum * (batch - running), with the unbiased variance. */
function updateRunning(
  running: Tensor | null | undefined,
  value: Node,
  momentum: number,
  correction: number,
): void {
  if (running === null || running === undefined) return;
  withoutTracking(() => {
    const { dtype, shape } = running;
    const batch = castNode(ops.reshape(value, shape), dtype);
    const kept = ops.mul(running.node, numberNode(1 - momentum, dtype));
    const added = ops.mul(batch, numberNode(momentum * correction, dtype));
    running.assign(tensorOn(ops.add(kept, added)));
  });
}

function checkStatistics(
  op: string,
  runningMean: Tensor | null | undefined,
  runningVar: Tensor | null | undefined,
): void {
  if ((runningMean ?? null) === null && (runningVar ?? null) === null) return;
  if ((runningMean ?? null) === null || (runningVar ?? null) === null) {
    throw new ArgumentError('running mean and variance come together', { op });
  }
}

/**
 * Batch normalization over all axes but the second (Ioffe and Szegedy 2015): x [n, channels, ...].
 * In training the statistics are those of the batch, and the running ones, if given, move towards
 * them. Throws ShapeError if there is only one value per channel to train on.
 */
export function batchNorm(
  x: Tensor,
  runningMean?: Tensor | null,
  runningVar?: Tensor | null,
  options: BatchNormOptions = {},
): Tensor {
  const op = 'batchNorm';
  const given = floatNode(op, x);
  // Statistics in a half would not do; the result is one again.
  const node = widened(given);
  const { training = false, momentum = 0.1, eps = 1e-5 } = options;
  if (node.shape.length < 2) {
    throw new ShapeError(`takes [batch, channels, ...], got ${formatShape(node.shape)}`, { op });
  }
  checkStatistics(op, runningMean, runningVar);
  const channels = node.shape[1] as number;
  const shape = node.shape.map((size, axis) => (axis === 1 ? size : 1));
  const expected = [channels];
  const known = (name: string, given: Tensor | null | undefined): Node | null =>
    affineNode(op, name, given, node, expected, shape);
  const weight = known('the weight', options.weight);
  const bias = known('the bias', options.bias);
  const mean = known('the running mean', runningMean);
  const variance = known('the running variance', runningVar);
  if (!training) {
    if (mean === null || variance === null) {
      throw new ArgumentError('needs running statistics outside of training', { op });
    }
    return wrap(castNode(normalizeNode(node, mean, variance, eps, weight, bias), given.dtype));
  }
  const axes = node.shape.map((_, axis) => axis).filter((axis) => axis !== 1);
  const { allReduce } = options;
  if (allReduce !== undefined && allReduce !== null) {
    const { count, ...all } = syncedMoments(node, axes, mean, allReduce);
    const one = ops.constant(1, node.dtype);
    const unbiased = ops.div(count, ops.maximum(ops.sub(count, one), one));
    updateRunning(runningMean, all.mean, momentum, 1);
    updateRunning(runningVar, ops.mul(all.variance, unbiased), momentum, 1);
    return wrap(
      castNode(normalizeNode(node, all.mean, all.variance, eps, weight, bias), given.dtype),
    );
  }
  const count = reducedCount(node, axes);
  if (count === 1) {
    throw new ShapeError(
      `needs more than one value per channel in training, got ${formatShape(node.shape)}`,
      { op, hint: 'use a larger batch, or eval()' },
    );
  }
  if (count === 0) return wrap(castNode(node, given.dtype));
  const moments = onePassMoments(node, axes, mean ?? sampleShift(node));
  updateRunning(runningMean, moments.mean, momentum, 1);
  updateRunning(runningVar, moments.variance, momentum, count / (count - 1));
  return wrap(
    castNode(normalizeNode(node, moments.mean, moments.variance, eps, weight, bias), given.dtype),
  );
}

export interface InstanceNormOptions extends AffineOptions {
  /** Statistics of each sample; otherwise the running ones. Default true. */
  readonly useInputStats?: boolean | undefined;
  readonly momentum?: number | undefined;
}

/** Normalization of each channel of each sample (Ulyanov et al. 2016): x [n, channels, ...space]. */
export function instanceNorm(
  x: Tensor,
  runningMean?: Tensor | null,
  runningVar?: Tensor | null,
  options: InstanceNormOptions = {},
): Tensor {
  const op = 'instanceNorm';
  const given = floatNode(op, x);
  // Statistics in a half would not do; the result is one again.
  const node = widened(given);
  const { useInputStats = true, momentum = 0.1, eps = 1e-5 } = options;
  if (node.shape.length < 3) {
    throw new ShapeError(`takes [batch, channels, ...space], got ${formatShape(node.shape)}`, {
      op,
    });
  }
  checkStatistics(op, runningMean, runningVar);
  const shape = node.shape.map((size, axis) => (axis === 1 ? size : 1));
  const expected = [node.shape[1] as number];
  const known = (name: string, given: Tensor | null | undefined): Node | null =>
    affineNode(op, name, given, node, expected, shape);
  const weight = known('the weight', options.weight);
  const bias = known('the bias', options.bias);
  if (!useInputStats) {
    const mean = known('the running mean', runningMean);
    const variance = known('the running variance', runningVar);
    if (mean === null || variance === null) {
      throw new ArgumentError('needs running statistics if useInputStats is false', { op });
    }
    return wrap(castNode(normalizeNode(node, mean, variance, eps, weight, bias), given.dtype));
  }
  const axes = node.shape.map((_, axis) => axis).slice(2);
  const count = reducedCount(node, axes);
  if (count === 1) {
    throw new ShapeError(`needs more than one value per channel, got ${formatShape(node.shape)}`, {
      op,
    });
  }
  const { mean, variance } = momentNodes(node, axes, 0);
  updateRunning(runningMean, meanNode(mean, [0], true), momentum, 1);
  updateRunning(runningVar, meanNode(variance, [0], true), momentum, count / (count - 1));
  return wrap(castNode(normalizeNode(node, mean, variance, eps, weight, bias), given.dtype));
}

// ---- over the features ------------------------------------------------------------------------

/** The trailing axes that `normalizedShape` names. */
function trailingAxes(op: string, node: Node, normalizedShape: number | Shape): number[] {
  const list = Array.isArray(normalizedShape) ? (normalizedShape as Shape) : [normalizedShape];
  const wanted = list.map((size) => checkInteger(op, 'normalizedShape', size, 0));
  const first = node.shape.length - wanted.length;
  if (wanted.length === 0 || first < 0 || !sameShape(node.shape.slice(first), wanted)) {
    throw new ShapeError(
      `normalizes ${formatShape(wanted)}, but x ${formatShape(node.shape)} does not end so`,
      { op },
    );
  }
  return wanted.map((_, axis) => first + axis);
}

/** Normalization over `axes`, with a weight and a bias of these axes in the order in which they are given. */
function normalizeOver(
  op: string,
  x: Tensor,
  axesOf: (node: Node) => readonly number[],
  options: AffineOptions,
): Tensor {
  const given = floatNode(op, x);
  // Statistics in a half would not do; the result is one again.
  const node = widened(given);
  const axes = axesOf(node);
  const expected = axes.map((axis) => node.shape[axis]!);
  const inOrder = axes.map((_, at) => at).toSorted((a, b) => axes[a]! - axes[b]!);
  const broadcast = node.shape
    .map((size, axis) => (axes.includes(axis) ? size : 1))
    .slice(Math.min(...axes));
  const affine = (name: string, one: Tensor | null | undefined): Node | null => {
    const known = affineNode(op, name, one, node, expected, expected);
    return known === null ? null : ops.reshape(ops.permute(known, inOrder), broadcast);
  };
  const weight = affine('the weight', options.weight);
  const bias = affine('the bias', options.bias);
  const { mean, variance } = momentNodes(node, axes, 0);
  return wrap(
    castNode(normalizeNode(node, mean, variance, options.eps ?? 1e-5, weight, bias), given.dtype),
  );
}

/** Normalization over the trailing axes (Ba et al. 2016). */
export function layerNorm(
  x: Tensor,
  normalizedShape: number | Shape,
  options: AffineOptions = {},
): Tensor {
  const axesOf = (node: Node): number[] => trailingAxes('layerNorm', node, normalizedShape);
  return normalizeOver('layerNorm', x, axesOf, options);
}

/**
 * Normalization over any axes, negative ones from the end: (x - mean) / sqrt(variance + eps) * weight +
 * bias, with the variance of the population. Weight and bias have the sizes of `axes`, in their order.
 * Throws ShapeError for an axis that x has not, or that is named twice.
 *
 * @example
 * const x = tensor([[1, 2], [3, 6]]);
 * generalNorm(x, 0, { eps: 0 }); // => [[-1, -1], [1, 1]]
 */
export function generalNorm(
  x: Tensor,
  axes: number | readonly number[],
  options: AffineOptions = {},
): Tensor {
  const op = 'generalNorm';
  const list = Array.isArray(axes) ? (axes as readonly number[]) : [axes as number];
  if (list.length === 0) throw new ArgumentError('needs at least one axis', { op });
  const axesOf = ({ shape }: Node): number[] => {
    // Throws where one is out of range or named twice; the order of the list stays.
    sortedAxes(op, list, shape.length);
    return list.map((axis) => normalizeAxis(op, axis, shape.length));
  };
  return normalizeOver(op, x, axesOf, options);
}

export interface RmsNormOptions {
  readonly weight?: Tensor | null | undefined;
  /** Added to the mean square; default the dtype's machine epsilon, as in PyTorch. */
  readonly eps?: number | null | undefined;
}

const MACHINE_EPSILON: Readonly<Record<string, number>> = {
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
  float32: 2 ** -23,
  float64: 2 ** -52,
};

/** x over the root of its mean square along the trailing axes (Zhang and Sennrich 2019). */
export function rmsNorm(
  x: Tensor,
  normalizedShape: number | Shape,
  options: RmsNormOptions = {},
): Tensor {
  const given = floatNode('rmsNorm', x);
  // Statistics in a half would not do; the result is one again.
  const node = widened(given);
  const axes = trailingAxes('rmsNorm', node, normalizedShape);
  const shape = node.shape.slice(axes[0]);
  const weight = affineNode('rmsNorm', 'the weight', options.weight, node, shape, shape);
  const eps = options.eps ?? (MACHINE_EPSILON[given.dtype] as number);
  const meanSquare = meanNode(ops.mul(node, node), axes, true);
  const result = ops.mul(node, ops.rsqrt(ops.add(meanSquare, numberNode(eps, node.dtype))));
  return wrap(castNode(weight === null ? result : ops.mul(result, weight), given.dtype));
}

/** Normalization of groups of channels of each sample (Wu and He 2018): x [n, channels, ...]. */
export function groupNorm(x: Tensor, numGroups: number, options: AffineOptions = {}): Tensor {
  const op = 'groupNorm';
  const given = floatNode(op, x);
  // Statistics in a half would not do; the result is one again.
  const node = widened(given);
  const channels = node.shape[1];
  if (channels === undefined) {
    throw new ShapeError(`takes [batch, channels, ...], got ${formatShape(node.shape)}`, { op });
  }
  if (!Number.isInteger(numGroups) || numGroups < 1 || channels % numGroups !== 0) {
    throw new ArgumentError(`${numGroups} groups do not divide ${channels} channels`, { op });
  }
  const shape = node.shape.map((size, axis) => (axis === 1 ? size : 1));
  const weight = affineNode(op, 'the weight', options.weight, node, [channels], shape);
  const bias = affineNode(op, 'the bias', options.bias, node, [channels], shape);
  const batch = node.shape[0] as number;
  const perGroup = sizeOf(node.shape.slice(1)) / numGroups;
  const grouped = ops.reshape(node, [batch, numGroups, perGroup]);
  const { mean, variance } = momentNodes(grouped, [2], 0);
  const normalized = normalizeNode(grouped, mean, variance, options.eps ?? 1e-5, null, null);
  const whole = ops.reshape(normalized, node.shape);
  const scaled = weight === null ? whole : ops.mul(whole, weight);
  return wrap(castNode(bias === null ? scaled : ops.add(scaled, bias), given.dtype));
}

export interface LocalResponseNormOptions {
  /** Default 1e-4. */
  readonly alpha?: number;
  /** Default 0.75. */
  readonly beta?: number;
  /** Default 1. */
  readonly k?: number;
}

/** x / (k + alpha * mean of squares of `size` neighbouring channels) ** beta. */
export function localResponseNorm(
  x: Tensor,
  size: number,
  options: LocalResponseNormOptions = {},
): Tensor {
  const op = 'localResponseNorm';
  const given = floatNode(op, x);
  // Statistics in a half would not do; the result is one again.
  const node = widened(given);
  const { alpha = 1e-4, beta = 0.75, k = 1 } = options;
  const rank = node.shape.length;
  if (rank < 3) {
    throw new ShapeError(`takes [batch, channels, ...space], got ${formatShape(node.shape)}`, {
      op,
    });
  }
  checkInteger(op, 'size', size, 1);
  const [batch, channels] = node.shape as readonly [number, number];
  const space = sizeOf(node.shape.slice(2));
  const squares = ops.reshape(ops.mul(node, node), [batch, channels, space]);
  const total = ops.sumPool(squares, {
    kernel: [size, 1],
    stride: [1, 1],
    padding: [Math.floor(size / 2), Math.floor((size - 1) / 2), 0, 0],
    dilation: [1, 1],
  });
  const mean = ops.mul(ops.reshape(total, node.shape), ops.constant(1 / size, node.dtype));
  const base = ops.add(ops.mul(mean, numberNode(alpha, node.dtype)), numberNode(k, node.dtype));
  return wrap(castNode(ops.div(node, ops.pow(base, numberNode(beta, node.dtype))), given.dtype));
}
