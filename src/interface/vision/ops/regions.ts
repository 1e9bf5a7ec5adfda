// Features of regions of interest, of one size whatever the region's.
import {
  checkInteger,
  checkKeys,
  checkNumber,
  checkOption,
  POSITIVE,
} from '../../../base/checks.ts';
import { ShapeError } from '../../../base/errors.ts';
import { formatShape, sizeOf } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import type { RegionAttrs } from '../../../graph/ops/regions.ts';
import { perAxis, type Sizes } from '../../functional/windows.ts';
import { pointTaps } from '../../functional/sampling.ts';
import { castNode, isTensor, listOf, wrap } from '../../tensor/handle.ts';
import { rangeNode } from '../../tensor/index-values.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { floatNode } from '../../tensor/unary.ts';

/** Regions as rows [k, 5] = (image, x1, y1, x2, y2), or for each image its boxes [k, 4]. */
export type Regions = Tensor | readonly Tensor[];

export interface RoiPoolOptions {
  /** Height and width of the result. */
  readonly outputSize: Sizes;
  /** Size of the features per size of the image that the boxes are in; default 1. */
  readonly spatialScale?: number;
}

export interface RoiAlignOptions extends RoiPoolOptions {
  /** Samples per bin and axis; default -1: one for each pixel that a bin spans. */
  readonly samplingRatio?: number;
}

const POOL_KEYS = ['outputSize', 'spatialScale'] as const;
const ALIGN_KEYS = [...POOL_KEYS, 'samplingRatio'] as const;

function regionsNode(op: string, boxes: Regions, images: number): Node {
  if (isTensor(boxes)) {
    const node = floatNode(op, boxes);
    if (node.shape.length !== 2 || node.shape[1] !== 5) {
      throw new ShapeError(`takes regions [k, 5], got ${formatShape(node.shape)}`, {
        op,
        hint: 'rows are (image, x1, y1, x2, y2); or give a list of boxes [k, 4], one per image',
      });
    }
    return inImages(op, node, images);
  }
  const list = listOf(op, boxes, 'boxes, one per image', `${op}(x, [boxes])`);
  if (list.length !== images) {
    throw new ShapeError(`boxes of ${list.length} images for a batch of ${images}`, { op });
  }
  const rows = list.map((item, image) => {
    const node = castNode(floatNode(op, item), 'float32');
    if (node.shape.length !== 2 || node.shape[1] !== 4) {
      throw new ShapeError(`boxes of an image are [k, 4], got ${formatShape(node.shape)}`, { op });
    }
    return ops.concat([ops.full([node.shape[0]!, 1], image, node.dtype), node], 1);
  });
  return rows.length === 0 ? ops.full([0, 5], 0, 'float32') : ops.concat(rows, 0);
}

/** The same regions; a run in which one names an image that there is not throws. */
function inImages(op: string, regions: Node, images: number): Node {
  const column = ops.narrowAxis(regions, 1, 0, 1);
  const image = castNode(rangeNode(op, castNode(column, 'int32'), images), regions.dtype);
  return ops.concat([image, ops.narrowAxis(regions, 1, 1, 4)], 1);
}

/** Features [n, c, h, w] and regions, checked. */
export function regionOperands(
  op: string,
  x: Tensor,
  boxes: Regions,
): { features: Node; regions: Node } {
  const features = floatNode(op, x);
  if (features.shape.length !== 4 || features.shape.slice(2).includes(0)) {
    throw new ShapeError(`takes features [n, c, h, w], got ${formatShape(features.shape)}`, { op });
  }
  const regions = ops.detach(regionsNode(op, boxes, features.shape[0]!));
  return { features, regions };
}

function attrsOf(
  op: string,
  options: RoiAlignOptions & { readonly aligned?: boolean },
  fixed: Pick<RegionAttrs, 'kind' | 'positionSensitive'>,
): RegionAttrs {
  const { outputSize, spatialScale = 1, samplingRatio = -1, aligned = false } = options;
  const [height, width] = perAxis(op, 'outputSize', outputSize, 2, 1) as [number, number];
  checkNumber(op, 'spatialScale', spatialScale, POSITIVE);
  checkOption(op, 'aligned', aligned, 'boolean');
  const samples = Math.max(checkInteger(op, 'samplingRatio', samplingRatio, -Infinity), 0);
  return { ...fixed, height, width, spatialScale, samples, aligned };
}

export interface RoiAlignModeOptions extends RoiAlignOptions {
  /** Whether coordinates are those of pixel edges; default false. */
  readonly aligned?: boolean;
  /** What is made of the samples of a bin: their mean, or the largest; default avg. */
  readonly mode?: 'avg' | 'max';
}

/** Samples of one axis: where the first of each bin lies, how far they are apart, and how many. */
function samplesAlong(
  regions: Node,
  [from, to]: readonly [number, number],
  bins: number,
  { samples, aligned, spatialScale }: RegionAttrs,
) {
  const { dtype } = regions;
  const number = (value: number): Node => ops.constant(value, dtype);
  const side = (k: number): Node =>
    ops.sub(
      ops.mul(ops.narrowAxis(regions, 1, k, 1), number(spatialScale)),
      number(aligned ? 0.5 : 0),
    );
  const start = side(from);
  const extent = ops.sub(side(to), start);
  const length = aligned ? extent : ops.maximum(extent, number(1));
  const width = ops.div(length, number(bins));
  const count = samples > 0 ? number(samples) : ops.maximum(ops.ceil(width), number(1));
  const first = ops.add(start, ops.mul(ops.iota([1, bins], 1, dtype), width));
  return { first, step: ops.div(width, count), count };
}

/** Where the samples that `best` numbers lie along both axes, as [c, k * bins] of whole and half pixels. */
function bestPoints(best: Node, regions: Node, attrs: RegionAttrs): readonly [Node, Node] {
  const [k, c, height, width] = best.shape as readonly [number, number, number, number];
  const { dtype } = regions;
  const down = samplesAlong(regions, [2, 4], height, attrs);
  const across = samplesAlong(regions, [1, 3], width, attrs);
  const each = (x: Node, shape: readonly number[]): Node => ops.reshape(x, shape);
  const columns = each(ops.expand(across.count, [k, 1]), [k, 1, 1, 1]);
  const number = castNode(ops.maximum(best, ops.constant(0, 'int32')), dtype);
  const half = ops.constant(0.5, dtype);
  // Halves keep the quotient of whole numbers away from its steps.
  const i = ops.floor(ops.div(ops.add(number, half), columns));
  const j = ops.sub(number, ops.mul(i, columns));
  const place = (axis: typeof down, shape: readonly number[], at: Node): Node => {
    const step = each(axis.step, [k, 1, 1, 1]);
    const point = ops.add(each(axis.first, shape), ops.mul(ops.add(at, half), step));
    const bins = [c, k * height * width];
    return each(ops.permute(ops.expand(point, [k, c, height, width]), [1, 0, 2, 3]), bins);
  };
  return [place(down, [k, 1, height, 1], i), place(across, [k, 1, 1, width], j)];
}

/**
 * Maxima of the samples: their numbers by a kernel, then each is read where it lies. With `corners`, of
 * the four weighted pixels of each sample the largest.
 */
function alignedMaxima(features: Node, regions: Node, attrs: RegionAttrs, corners: boolean): Node {
  const [n, c, ...space] = features.shape as readonly [number, number, number, number];
  const found = ops.regionBest(ops.detach(features), regions, { ...attrs, corners });
  const four = ops.constant(4, 'int32');
  const best = corners ? ops.floorDivide(found, four) : found;
  const [k, , height, width] = best.shape as readonly [number, number, number, number];
  const points = bestPoints(best, regions, attrs);
  let inside: Node = ops.greaterEqual(
    ops.reshape(ops.permute(best, [1, 0, 2, 3]), [c, k * height * width]),
    ops.constant(0, 'int32'),
  );
  const clipped = points.map((point, axis) => {
    const size = space[axis]!;
    const [low, high] = [ops.constant(-1, point.dtype), ops.constant(size, point.dtype)];
    const within = ops.logicalAnd(ops.greaterEqual(point, low), ops.lessEqual(point, high));
    inside = ops.logicalAnd(inside, within);
    return ops.clamp(point, ops.constant(0, point.dtype), ops.constant(size - 1, point.dtype));
  });
  const taps = pointTaps(clipped, space, { interpolation: 'bilinear', outside: 'edge' });
  const image = castNode(ops.narrowAxis(regions, 1, 0, 1), 'int32');
  const from = ops.mul(image, ops.constant(sizeOf(space), 'int32'));
  const spread = ops.reshape(ops.expand(from, [k, height * width]), [1, 1, k * height * width]);
  const rows = ops.reshape(ops.permute(features, [1, 0, 2, 3]), [c, 1, n * sizeOf(space), 1]);
  let weight = castNode(taps.weight, features.dtype);
  if (corners) {
    const corner = ops.reshape(ops.permute(found, [1, 0, 2, 3]), [c, 1, k * height * width]);
    const own = ops.equal(ops.iota([1, 4, 1], 1, 'int32'), ops.remainder(corner, four));
    weight = ops.select(own, weight, ops.constant(0, weight.dtype));
  }
  const read = ops.readTaps(rows, ops.add(taps.index, spread), weight, false);
  const values = ops.reshape(read, [c, k * height * width]);
  const some = ops.select(inside, values, ops.constant(0, features.dtype));
  return ops.permute(ops.reshape(some, [c, k, height, width]), [1, 0, 2, 3]);
}

/**
 * Means of x [n, c, h, w] over the bins of regions: [k, c, ...outputSize]. Samples lie between pixels
 * and are interpolated (He et al. 2017), as torchvision.ops.roi_align; `aligned` moves them by half a
 * pixel, to where they should have been. With `mode` max the largest sample of each bin, as MegEngine's.
 * The gradient flows to x.
 *
 * Throws ShapeError for wrong shapes, and when it runs, if a region is in an image that there is not.
 *
 * @example
 * ```ts
 * const x = tensor([[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]]);
 * const region = tensor([[0, 0, 0, 2, 2]]);
 * roiAlign(x, region, { outputSize: 1, samplingRatio: 2 }); // => [[[[4]]]]
 * roiAlign(x, [tensor([[0, 0, 2, 2]])], { outputSize: 1, aligned: true }); // => [[[[2]]]]
 * ```
 */
export function roiAlign(x: Tensor, boxes: Regions, options: RoiAlignModeOptions): Tensor {
  const op = 'roiAlign';
  checkKeys(op, options, [...ALIGN_KEYS, 'aligned', 'mode']);
  const { mode = 'avg' } = options;
  checkOption(op, 'mode', mode, ['avg', 'max']);
  const { features, regions } = regionOperands(op, x, boxes);
  const attrs = attrsOf(op, options, { kind: 'align', positionSensitive: false });
  if (mode === 'avg') return wrap(ops.regionMean(features, regions, attrs));
  return wrap(alignedMaxima(features, regions, attrs, false));
}

/**
 * As `roiAlign`, of each bin the largest of all samples' weighted pixels: the maxima of ONNX's RoiAlign,
 * which are not those of interpolated values.
 */
export function roiAlignCorners(
  x: Tensor,
  boxes: Regions,
  options: Omit<RoiAlignModeOptions, 'mode'>,
): Tensor {
  const { features, regions } = regionOperands('roiAlign', x, boxes);
  const attrs = attrsOf('roiAlign', options, { kind: 'align', positionSensitive: false });
  return wrap(alignedMaxima(features, regions, attrs, true));
}

/**
 * Maxima of x [n, c, h, w] over the bins of regions, whose corners are rounded to pixels (Girshick
 * 2015): [k, c, ...outputSize], as torchvision.ops.roi_pool. An empty bin is 0.
 *
 * @example
 * ```ts
 * const x = tensor([[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]]);
 * roiPool(x, tensor([[0, 0, 0, 1, 1]]), { outputSize: 1 }); // => [[[[4]]]]
 * ```
 */
export function roiPool(x: Tensor, boxes: Regions, options: RoiPoolOptions): Tensor {
  const op = 'roiPool';
  checkKeys(op, options, POOL_KEYS);
  const { features, regions } = regionOperands(op, x, boxes);
  const { height, width, spatialScale } = attrsOf(op, options, {
    kind: 'pool',
    positionSensitive: false,
  });
  const found = ops.regionPositions(ops.detach(features), regions, { height, width, spatialScale });
  const [n, c, ...space] = features.shape as readonly [number, number, ...number[]];
  const count = found.shape[0]!;
  const image = castNode(ops.narrowAxis(regions, 1, 0, 1), 'int32');
  const from = ops.mul(ops.reshape(image, [count, 1, 1, 1]), ops.constant(sizeOf(space), 'int32'));
  const nothing = ops.constant(-1, 'int32');
  const empty = ops.equal(found, nothing);
  const at = ops.select(empty, nothing, ops.add(found, from));
  // Channels first: then one row holds a channel of all images, and one all its bins.
  const bins = count * height * width;
  const index = ops.reshape(ops.permute(at, [1, 0, 2, 3]), [c, 1, bins]);
  const rows = ops.reshape(ops.permute(features, [1, 0, 2, 3]), [c, 1, n * sizeOf(space), 1]);
  const read = ops.readTaps(rows, index, ops.full([c, 1, bins], 1, features.dtype), true);
  return wrap(ops.permute(ops.reshape(read, [c, count, height, width]), [1, 0, 2, 3]));
}

/**
 * As `roiAlign` with `aligned`, position sensitive: bin (i, j) of channel c reads channel
 * (c * height + i) * width + j of x. As torchvision.ops.ps_roi_align.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1]], [[2]]]]);
 * psRoiAlign(x, tensor([[0, 0, 0, 2, 1]]), { outputSize: [1, 2], samplingRatio: 1 }); // => [[[[1, 2]]]]
 * ```
 */
export function psRoiAlign(x: Tensor, boxes: Regions, options: RoiAlignOptions): Tensor {
  const op = 'psRoiAlign';
  checkKeys(op, options, ALIGN_KEYS);
  const { features, regions } = regionOperands(op, x, boxes);
  const aligned = { ...options, aligned: true };
  const attrs = attrsOf(op, aligned, { kind: 'align', positionSensitive: true });
  checkChannels(op, features, attrs);
  return wrap(ops.regionMean(features, regions, attrs));
}

/**
 * Means over the pixels of each bin, position sensitive as `psRoiAlign` (Dai et al. 2016). As
 * torchvision.ops.ps_roi_pool.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 3], [5, 7]]]]);
 * psRoiPool(x, tensor([[0, 0, 0, 1, 1]]), { outputSize: 1 }); // => [[[[1]]]]
 * ```
 */
export function psRoiPool(x: Tensor, boxes: Regions, options: RoiPoolOptions): Tensor {
  const op = 'psRoiPool';
  checkKeys(op, options, POOL_KEYS);
  const { features, regions } = regionOperands(op, x, boxes);
  const attrs = attrsOf(op, options, { kind: 'pool', positionSensitive: true });
  checkChannels(op, features, attrs);
  return wrap(ops.regionMean(features, regions, attrs));
}

function checkChannels(op: string, { shape }: Node, { height, width }: RegionAttrs): void {
  if (shape[1]! % (height * width) === 0) return;
  throw new ShapeError(`${shape[1]} channels are no multiple of ${height} x ${width} bins`, { op });
}
