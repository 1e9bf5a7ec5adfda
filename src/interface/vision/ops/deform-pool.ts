// Deformable pooling of regions (Dai et al. 2017): bins that move by offsets, which another layer computes.
import { checkInteger, checkKeys, checkNumber, POSITIVE } from '../../../base/checks.ts';
import { ShapeError } from '../../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import { pointTaps } from '../../functional/sampling.ts';
import { perAxis, type Sizes } from '../../functional/windows.ts';
import { Module } from '../../nn/module.ts';
import { castNode, wrap } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { floatNode } from '../../tensor/unary.ts';
import { regionOperands, type Regions, type RoiPoolOptions } from './regions.ts';

export interface DeformPsRoiPoolOptions extends RoiPoolOptions {
  /** Parts of a region with an offset of their own, along each axis; default the sizes of the result. */
  readonly partSize?: Sizes;
  /** Samples of a bin along each axis; default 4. */
  readonly samplesPerPart?: number;
  /** What offsets are multiplied by, besides the region's size; default 0.1. */
  readonly offsetScale?: number;
  /** Channels are read by position in a grid of so many groups along each axis; default 1: they are not. */
  readonly groupSize?: number;
}

const OP = 'deformPsRoiPool';
const KEYS = [
  'outputSize',
  'spatialScale',
  'partSize',
  'samplesPerPart',
  'offsetScale',
  'groupSize',
] as const;

interface Geometry {
  readonly bins: readonly [number, number];
  readonly parts: readonly [number, number];
  readonly samples: number;
  readonly groups: number;
  /** Classes of channels, which have offsets of their own. */
  readonly classes: number;
  readonly channels: number;
  readonly spatialScale: number;
  readonly offsetScale: number;
}

function geometryOf(
  x: Node,
  regions: Node,
  offset: Node | null,
  options: DeformPsRoiPoolOptions,
): Geometry {
  checkKeys(OP, options, KEYS);
  const { spatialScale = 1, samplesPerPart = 4, offsetScale = 0.1, groupSize = 1 } = options;
  const bins = perAxis(OP, 'outputSize', options.outputSize, 2, 1) as [number, number];
  const parts = perAxis(OP, 'partSize', options.partSize ?? bins, 2, 1) as [number, number];
  const samples = checkInteger(OP, 'samplesPerPart', samplesPerPart, 1);
  const groups = checkInteger(OP, 'groupSize', groupSize, 1);
  checkNumber(OP, 'spatialScale', spatialScale, POSITIVE);
  checkNumber(OP, 'offsetScale', offsetScale, [-Infinity]);
  const channels = x.shape[1]! / (groups * groups);
  if (!Number.isInteger(channels)) {
    throw new ShapeError(`${x.shape[1]} channels are no multiple of ${groups} x ${groups} groups`, {
      op: OP,
    });
  }
  const count = regions.shape[0]!;
  const classes = offset === null ? 1 : (offset.shape[1] ?? 0) / 2;
  const fits =
    offset === null ||
    (Number.isInteger(classes) &&
      classes >= 1 &&
      channels % classes === 0 &&
      sameShape(offset.shape, [count, 2 * classes, ...parts]));
  if (!fits) {
    throw new ShapeError(
      `offsets are ${formatShape(offset?.shape ?? [])}, not ${formatShape([count, 2, ...parts])} for one class of channels`,
      { op: OP, hint: 'two offsets, x and y, for each part, class by class' },
    );
  }
  return { bins, parts, samples, groups, classes, channels, spatialScale, offsetScale };
}

/** The part, or the group, that each bin along an axis belongs to. */
function binsTo(count: number, bins: number): readonly number[] {
  return Array.from({ length: bins }, (_, bin) =>
    Math.min(Math.floor((bin * count) / bins), count - 1),
  );
}

/** Offsets of the bins, [classes, k, bins along y, bins along x]. */
function offsetOfBins(offset: Node, axis: 0 | 1, { bins, parts, classes }: Geometry): Node {
  const [count] = offset.shape as readonly [number];
  const apart = ops.reshape(offset, [count, classes, 2, parts[0], parts[1]]);
  // x comes first.
  const own = ops.reshape(ops.narrowAxis(apart, 2, 1 - axis, 1), [count, classes, ...parts]);
  const chosen = [0, 1].reduce((node, side) => {
    const rows = binsTo(parts[side]!, bins[side]!).map((part) =>
      ops.narrowAxis(node, 2 + side, part, 1),
    );
    return ops.concat(rows, 2 + side);
  }, own);
  return ops.permute(chosen, [1, 0, 2, 3]);
}

/** Where samples lie along an axis, [classes, k, bins, bins, samples, samples]. */
function pointsAlong(regions: Node, offset: Node | null, axis: 0 | 1, geometry: Geometry): Node {
  const { bins, samples, spatialScale, offsetScale, classes } = geometry;
  const { dtype } = regions;
  const number = (value: number): Node => ops.constant(value, dtype);
  const count = regions.shape[0]!;
  // Corners are rounded to pixels, halves up.
  const corner = (k: number, more: number): Node => {
    const side = ops.narrowAxis(regions, 1, k, 1);
    const pixel = ops.add(ops.floor(ops.add(side, number(0.5))), number(more));
    const scaled = ops.sub(ops.mul(pixel, number(spatialScale)), number(0.5));
    return ops.reshape(scaled, [1, count, 1, 1, 1, 1]);
  };
  const start = corner(axis === 0 ? 2 : 1, 0);
  const end = corner(axis === 0 ? 4 : 3, 1);
  const length = ops.maximum(ops.sub(end, start), number(0.1));
  const width = ops.div(length, number(bins[axis]));
  const along = (position: number, size: number): Node =>
    ops.iota(
      [1, 1, 1, 1, 1, 1].map((one, i) => (i === position ? size : one)),
      position,
      dtype,
    );
  const inBin = ops.mul(along(4 + axis, samples), number(1 / samples));
  const place = ops.mul(ops.add(along(2 + axis, bins[axis]), inBin), width);
  let points = ops.add(start, place);
  if (offset !== null) {
    const moved = ops.mul(offsetOfBins(offset, axis, geometry), number(offsetScale));
    const shape = [classes, count, bins[0], bins[1], 1, 1];
    points = ops.add(points, ops.mul(ops.reshape(moved, shape), length));
  }
  return ops.expand(points, [classes, count, bins[0], bins[1], samples, samples]);
}

/** Which of the images' groups of channels each point reads, times the size of an image. */
function planesOf(regions: Node, size: number, { bins, groups, samples }: Geometry): Node {
  const count = regions.shape[0]!;
  const image = castNode(ops.narrowAxis(regions, 1, 0, 1), 'int32');
  const number = (value: number): Node => ops.constant(value, 'int32');
  const first = ops.mul(image, number(groups * groups));
  const side = (axis: 0 | 1): Node => {
    const shape = axis === 0 ? [1, 1, bins[0], 1, 1, 1] : [1, 1, 1, bins[1], 1, 1];
    const list = binsTo(groups, bins[axis]).map((group) => ops.full([1], group, 'int32'));
    return ops.reshape(ops.concat(list, 0), shape);
  };
  const group = ops.add(ops.mul(side(0), number(groups)), side(1));
  const plane = ops.add(ops.reshape(first, [1, count, 1, 1, 1, 1]), group);
  const whole = [1, count, bins[0], bins[1], samples, samples];
  return ops.expand(ops.mul(plane, number(size)), whole);
}

/**
 * Means of x [n, c, h, w] over bins of regions that `offset` moves (Dai et al. 2017): [k, c, ...outputSize],
 * or with `groupSize` g, position sensitive, [k, c / g², ...outputSize]. `offset` [k, 2 * classes,
 * ...partSize] holds x and y for each part of a region, in shares of its size times `offsetScale`, for
 * each class of channels; null: none moves. Samples outside do not count, and a bin without any is 0. As
 * MegEngine's deformable_psroi_pooling; gradients flow to x and to the offsets.
 *
 * @example
 * ```ts
 * const x = tensor([[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]]);
 * const region = tensor([[0, 0, 0, 1, 1]]);
 * const options = { outputSize: 1, samplesPerPart: 2 };
 * deformPsRoiPool(x, region, null, options); // => [[[[1]]]]
 * const offset = tensor([[[[5]], [[0]]]]); // half of the region to the right
 * deformPsRoiPool(x, region, offset, options); // => [[[[1.75]]]]
 * ```
 */
export function deformPsRoiPool(
  x: Tensor,
  boxes: Regions,
  offset: Tensor | null,
  options: DeformPsRoiPoolOptions,
): Tensor {
  const { features, regions } = regionOperands(OP, x, boxes);
  const { dtype } = features;
  const moved = offset === null ? null : castNode(floatNode(OP, offset), regions.dtype);
  const geometry = geometryOf(features, regions, moved, options);
  const { bins, samples, groups, classes, channels } = geometry;
  const [n, , ...space] = features.shape as readonly [number, number, number, number];
  const count = regions.shape[0]!;
  const result = [count, channels, bins[0], bins[1]];
  if (sizeOf(result) === 0) return wrap(ops.full(result, 0, dtype));
  const size = sizeOf(space);
  const places = count * bins[0] * bins[1] * samples * samples;
  const flat = (node: Node, lead: number): Node => ops.reshape(node, [lead, places]);
  let inside: Node | null = null;
  const points = ([0, 1] as const).map((axis) => {
    const point = flat(pointsAlong(regions, moved, axis, geometry), classes);
    const number = (value: number): Node => ops.constant(value, point.dtype);
    const within = ops.logicalAnd(
      ops.greaterEqual(point, number(-0.5)),
      ops.lessEqual(point, number(space[axis]! - 0.5)),
    );
    inside = inside === null ? within : ops.logicalAnd(inside, within);
    return ops.clamp(point, number(0), number(space[axis]! - 1));
  });
  const taps = pointTaps(points, space, { interpolation: 'bilinear', outside: 'edge' });
  const planes = ops.reshape(flat(planesOf(regions, size, geometry), 1), [1, 1, places]);
  const counts = castNode(inside!, dtype);
  const weight = ops.mul(castNode(taps.weight, dtype), ops.reshape(counts, [classes, 1, places]));
  // Images and groups of channels one behind the other: a row for each channel of the result.
  const each = channels / classes;
  const apart = ops.reshape(features, [n, classes, each, groups * groups, size]);
  const rows = ops.reshape(ops.permute(apart, [1, 2, 0, 3, 4]), [
    classes,
    each,
    n * groups * groups * size,
    1,
  ]);
  const read = ops.readTaps(rows, ops.add(taps.index, planes), weight, false);
  const perBin = [count, bins[0], bins[1], samples * samples];
  const sums = ops.sum(ops.reshape(read, [classes, each, ...perBin]), -1);
  const number = ops.sum(ops.reshape(counts, [classes, 1, ...perBin]), -1);
  const means = ops.div(sums, ops.maximum(number, ops.constant(1, dtype)));
  const ordered = ops.permute(means, [2, 0, 1, 3, 4]);
  return wrap(ops.reshape(ordered, result));
}

/** `deformPsRoiPool` as a module. */
export class DeformPSRoIPool extends Module {
  readonly options: DeformPsRoiPoolOptions;

  constructor(options: DeformPsRoiPoolOptions) {
    super();
    checkKeys(OP, options, KEYS);
    this.options = options;
  }

  forward(x: Tensor, boxes: Regions, offset: Tensor | null = null): Tensor {
    return deformPsRoiPool(x, boxes, offset, this.options);
  }
}
