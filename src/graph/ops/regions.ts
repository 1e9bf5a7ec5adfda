// Means and maxima of images over the bins of regions: RoI align and RoI pool, plain and position
// sensitive (He et al. 2017, Girshick 2015, Dai et al. 2016).
import { isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, makeNode, type ReferenceTensor, type Sample } from '../op.ts';
import { elementAt, fillReference, flatPosition, forEachIndex } from './reference.ts';
import {
  lowerRegionAdd,
  lowerRegionBest,
  lowerRegionMean,
  lowerRegionPositions,
} from './region-lowering.ts';
import { bestAt, maximumAt, tapsOfBin } from './region-reference.ts';
import { distinctTensor, randomTensor, tensorOf } from './samples.ts';

const REGIONS = {
  /** `align`: bilinear samples between pixels. `pool`: all pixels that a bin touches. */
  kind: ['align', 'pool'],
  height: 'int',
  width: 'int',
  spatialScale: 'float',
  /** Samples per bin and axis; 0: one for each pixel that a bin spans. */
  samples: 'int',
  /** Whether coordinates are those of pixel edges, so that centres are half a pixel further. */
  aligned: 'flag',
  /** Whether each bin reads a channel of its own. */
  positionSensitive: 'flag',
} as const;

/** How regions are divided into bins and read. */
export type RegionAttrs = AttrsOf<typeof REGIONS>;

function checkRegions(op: string, x: Node, regions: Node): void {
  if (x.shape.length !== 4 || regions.shape.length !== 2 || regions.shape[1] !== 5) {
    throw new ShapeError(
      `takes [n, c, h, w] and regions [k, 5], got ${formatShape(x.shape)} and ${formatShape(regions.shape)}`,
      { op },
    );
  }
  if (!isFloat(x.dtype) || !isFloat(regions.dtype)) {
    throw new DTypeError(`takes floats, not ${x.dtype} and ${regions.dtype}`, { op });
  }
  if (sizeOf(x.shape) === 0 && x.shape[1] !== 0 && regions.shape[0] !== 0) {
    throw new ShapeError(`nothing to read in ${formatShape(x.shape)}`, { op });
  }
}

/** Channel that bin (row, column) of channel `c` reads. */
function channelOf(attrs: RegionAttrs, c: number, row: number, column: number): number {
  return attrs.positionSensitive ? (c * attrs.height + row) * attrs.width + column : c;
}

/** Regions count as constants, as PyTorch has it. */
const CONSTANT = [1];

const regionMeanOp = defineOp({
  name: 'regionMean',
  summary: 'means over the bins of regions [k, 5] = (image, x1, y1, x2, y2)',
  attrs: REGIONS,
  infer: ([x, regions], { height, width, positionSensitive }) => {
    checkRegions('regionMean', x!, regions!);
    const channels = x!.shape[1]!;
    const bins = positionSensitive ? height * width : 1;
    if (channels % bins !== 0) {
      throw new ShapeError(`${channels} channels are no multiple of ${height} x ${width} bins`, {
        op: 'regionMean',
      });
    }
    return { shape: [regions!.shape[0]!, channels / bins, height, width], dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs }) => {
    const [x, regions] = inputs as readonly [Node, Node];
    return [regionAdd(grad, regions, attrs, x.shape), null];
  },
  lower: {
    kind: 'custom',
    evaluations: () => [2, 20],
    lower: (context, attrs, node) => lowerRegionMean(context, node, attrs),
  },
  reference: ([x, regions], attrs, output) =>
    fillReference(output, ([r, c, row, column]) => {
      const channel = channelOf(attrs, c!, row!, column!);
      const { batch, taps } = tapsOfBin(regions!, r!, row!, column!, attrs, x!.shape);
      return taps.reduce(
        (sum, { y, x: at, weight }) => sum + weight * elementAt(x!, [batch, channel, y, at]),
        0,
      );
    }),
  samples: () =>
    regionSamples().map(({ attrs, channels, regions, dtype = 'float32' }) => ({
      inputs: [randomTensor([2, channels, 5, 6], { dtype }), regions],
      attrs,
      constantInputs: CONSTANT,
    })),
});

interface RegionSample {
  readonly attrs: RegionAttrs;
  readonly channels: number;
  readonly regions: ReferenceTensor;
  readonly dtype?: 'float32' | 'float64';
}

function regionSamples(): RegionSample[] {
  const some = tensorOf(
    [4, 5],
    [0, 0.5, 0.25, 4.5, 3.75, 1, -1.5, 1, 2.25, 8, 1, 3, 3, 3.125, 2.5, 0, 7, 1, 9, 2],
  );
  const one = tensorOf([1, 5], [1, 1, 1, 4, 3]);
  const none = tensorOf([0, 5], []);
  const base = {
    kind: 'align',
    height: 2,
    width: 3,
    spatialScale: 1,
    samples: 2,
    aligned: false,
    positionSensitive: false,
  } as const;
  const all: RegionSample[] = [
    { attrs: base, channels: 2, regions: some },
    { attrs: { ...base, samples: 0, aligned: true }, channels: 1, regions: some },
    { attrs: { ...base, samples: 0, spatialScale: 0.5 }, channels: 2, regions: one },
    { attrs: { ...base, positionSensitive: true, aligned: true }, channels: 12, regions: some },
    { attrs: { ...base, kind: 'pool', positionSensitive: true }, channels: 6, regions: some },
    { attrs: { ...base, height: 1, width: 1 }, channels: 1, regions: one, dtype: 'float64' },
    { attrs: base, channels: 19, regions: one },
    { attrs: base, channels: 2, regions: none },
    { attrs: base, channels: 0, regions: one },
  ];
  return all;
}

const ADD = { ...REGIONS, imageHeight: 'int', imageWidth: 'int', batch: 'int' } as const;

const regionAddOp = defineOp({
  name: 'regionAdd',
  summary: 'adjoint of regionMean: bins spread over the pixels they are means of',
  attrs: ADD,
  infer: ([dy], { height, width, positionSensitive, batch, imageHeight, imageWidth }) => {
    if (dy!.shape.length !== 4 || dy!.shape[2] !== height || dy!.shape[3] !== width) {
      throw new ShapeError(`${formatShape(dy!.shape)} is not of ${height} by ${width} bins`, {
        op: 'regionAdd',
      });
    }
    const channels = dy!.shape[1]! * (positionSensitive ? height * width : 1);
    return { shape: [batch, channels, imageHeight, imageWidth], dtype: dy!.dtype };
  },
  gradient: ({ grad, inputs, attrs }) => [regionMean(grad, inputs[1]!, ownAttrs(attrs)), null],
  lower: {
    kind: 'custom',
    evaluations: () => [1, 20],
    lower: (context, attrs, node) => lowerRegionAdd(context, node, attrs),
  },
  reference: ([dy, regions], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachIndex(dy!.shape, ([r, c, row, column], flat) => {
      const channel = channelOf(attrs, c!, row!, column!);
      const { batch, taps } = tapsOfBin(regions!, r!, row!, column!, attrs, output.shape);
      for (const { y, x, weight } of taps) {
        data[flatPosition(output.shape, [batch, channel, y, x])]! += weight * dy!.data[flat]!;
      }
    });
    return data;
  },
  samples: (): Sample<AttrsOf<typeof ADD>>[] =>
    regionSamples().map(({ attrs, channels, regions, dtype = 'float32' }) => {
      const { height, width, positionSensitive } = attrs;
      const own = channels / (positionSensitive ? height * width : 1);
      const shape = [regions.shape[0]!, own, height, width];
      return {
        inputs: [randomTensor(shape, { dtype }), regions],
        attrs: { ...attrs, batch: 2, imageHeight: 5, imageWidth: 6 },
        constantInputs: CONSTANT,
      };
    }),
});

function ownAttrs({ batch: _, imageHeight: _h, imageWidth: _w, ...own }: AttrsOf<typeof ADD>) {
  return own;
}

const regionPositionsOp = defineOp({
  name: 'regionPositions',
  summary: 'where in its image the maximum of each bin is, row-major; -1 for an empty bin',
  attrs: { height: 'int', width: 'int', spatialScale: 'float' },
  infer: ([x, regions], { height, width }) => {
    checkRegions('regionPositions', x!, regions!);
    return { shape: [regions!.shape[0]!, x!.shape[1]!, height, width], dtype: 'int32' };
  },
  gradient: { nonDifferentiable: 'a position is an integer' },
  lower: {
    kind: 'custom',
    evaluations: () => [2, 20],
    lower: (context, attrs, node) => lowerRegionPositions(context, node, attrs),
  },
  reference: ([x, regions], attrs, output) =>
    fillReference(output, ([r, c, row, column]) =>
      maximumAt(x!, regions!, { r: r!, c: c!, row: row!, column: column! }, attrs),
    ),
  samples: () => {
    const sample = (regions: ReferenceTensor, channels: number, spatialScale: number) => ({
      inputs: [distinctTensor([2, channels, 5, 6]), regions],
      attrs: { height: 2, width: 3, spatialScale },
    });
    return [...regionSamples().slice(0, 3), ...regionSamples().slice(5)].map(
      ({ regions, channels, attrs }) => sample(regions, channels, attrs.spatialScale),
    );
  },
});

const regionBestOp = defineOp({
  name: 'regionBest',
  summary: 'which sample of each bin is the largest, row-major; -1 if a bin has none',
  attrs: { ...REGIONS, corners: 'flag' },
  infer: ([x, regions], { height, width }) => {
    checkRegions('regionBest', x!, regions!);
    return { shape: [regions!.shape[0]!, x!.shape[1]!, height, width], dtype: 'int32' };
  },
  gradient: { nonDifferentiable: 'a number of a sample is an integer' },
  lower: {
    kind: 'custom',
    evaluations: () => [8, 20],
    lower: (context, attrs, node) => lowerRegionBest(context, node, attrs),
  },
  reference: ([x, regions], attrs, output) =>
    fillReference(output, ([r, c, row, column]) =>
      bestAt(x!, regions!, { r: r!, c: c!, row: row!, column: column! }, attrs),
    ),
  samples: () => {
    // Samples at irregular places: elsewhere several are equal but for rounding.
    const odd = tensorOf(
      [3, 5],
      [0, 0.53, 0.27, 4.61, 3.79, 1, -1.37, 1.09, 2.23, 8.31, 0, 7.43, 1.17, 9.19, 2.57],
    );
    const [base, dense, , , , , , none, empty] = regionSamples();
    const made = [
      { ...base!, regions: odd },
      { ...dense!, regions: odd },
      { ...none!, channels: 1 },
      { ...empty!, regions: odd },
    ];
    return made.flatMap(({ regions, channels, attrs }) =>
      [false, true].map((corners) => ({
        inputs: [distinctTensor([2, channels, 5, 6]), regions],
        attrs: { ...attrs, corners },
      })),
    );
  },
});

/**
 * Means of x [n, c, h, w] over the bins of regions [k, 5], rows (image, x1, y1, x2, y2): [k, c, height,
 * width]. No gradient flows to the regions.
 */
export function regionMean(x: Node, regions: Node, attrs: RegionAttrs): Node {
  return makeNode(regionMeanOp, [x, regions], attrs);
}

/** The adjoint of `regionMean`: an image of the given shape. */
export function regionAdd(dy: Node, regions: Node, attrs: RegionAttrs, shape: Shape): Node {
  const [batch, , imageHeight, imageWidth] = shape as readonly [number, number, number, number];
  return makeNode(regionAddOp, [dy, regions], { ...attrs, batch, imageHeight, imageWidth });
}

/** Positions of the maxima over the bins of regions, within each image; int32 [k, c, height, width]. */
export function regionPositions(
  x: Node,
  regions: Node,
  attrs: Pick<RegionAttrs, 'height' | 'width' | 'spatialScale'>,
): Node {
  return makeNode(regionPositionsOp, [x, regions], attrs);
}

/**
 * Numbers of the largest samples of regions' bins, int32 [k, c, height, width]: row-major among the
 * samples of a bin; with `corners` of the largest weighted pixel, four for each sample.
 */
export function regionBest(
  x: Node,
  regions: Node,
  attrs: RegionAttrs & { readonly corners: boolean },
): Node {
  return makeNode(regionBestOp, [x, regions], attrs);
}
