// Regions of images and windows that are moved.
import { ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import * as F from '../../functional/index.ts';
import { cat } from '../../tensor/index.ts';
import { deformConv2d } from '../../vision/ops/deform-conv.ts';
import { roiAlign, roiAlignCorners, roiPool } from '../../vision/ops/regions.ts';
import { float, int, ints, required, text } from '../attributes.ts';
import { type Call, type Operator, defineOperator } from '../operator.ts';
import type { TensorValue } from '../values.ts';
import { as } from './results.ts';
import {
  WINDOW_ATTRIBUTES,
  GROUP,
  type WindowAttributes,
  readWindows,
  spaceOf,
} from './windows.ts';

interface AlignAttributes {
  readonly aligned: boolean;
  readonly mode: 'avg' | 'max';
  readonly output_height: number;
  readonly output_width: number;
  readonly sampling_ratio: number;
  readonly spatial_scale: number;
}

/** Means, or maxima, over the bins of regions [count, 4], each in the image that the third input says. */
function align(call: Call<AlignAttributes>): TensorValue {
  const {
    aligned,
    mode,
    sampling_ratio: samplingRatio,
    spatial_scale: spatialScale,
  } = call.attributes;
  const outputSize = [call.attributes.output_height, call.attributes.output_width] as const;
  const x = call.tensor(0);
  const boxes = call.tensor(1).to(x.dtype);
  const images = call.tensor(2);
  if (x.ndim !== 4 || boxes.ndim !== 2 || boxes.shape[1] !== 4) {
    throw new ShapeError(`regions ${formatShape(boxes.shape)} of ${formatShape(x.shape)}`);
  }
  const regions = cat([images.to(x.dtype).unsqueeze(1), boxes], 1);
  const options = { outputSize, spatialScale, samplingRatio, aligned };
  // The standard's maxima are of weighted pixels, not of interpolated values.
  const result =
    mode === 'max' ? roiAlignCorners(x, regions, options) : roiAlign(x, regions, options);
  return as(call.type(0), result);
}

type DeformAttributes = WindowAttributes & {
  readonly group: number;
  readonly offset_group: number;
};

function deformConvolution(call: Call<DeformAttributes>): TensorValue {
  let x = call.tensor(0);
  const weight = call.tensor(1);
  const space = spaceOf(x.shape);
  if (space.length !== 2) throw new ShapeError(`expected images, got ${formatShape(x.shape)}`);
  const { stride, padding, dilation } = readWindows(space, weight.shape.slice(2), call.attributes);
  const [top = 0, bottom = 0, left = 0, right = 0] = padding;
  const even = top === bottom && left === right;
  // Offsets are relative, so an uneven border can be laid around the image first.
  if (!even) x = F.pad(x, [left, right, top, bottom]);
  const result = deformConv2d(x, call.tensor(2), weight, call.optional(3), {
    stride,
    padding: even ? [top, left] : 0,
    dilation,
    mask: call.optional(4),
  });
  return as(call.type(0), result);
}

const ALIGN = {
  mode: text<'avg' | 'max'>('avg', ['avg', 'max']),
  output_height: int(1),
  output_width: int(1),
  sampling_ratio: int(0),
  spatial_scale: float(1),
};

export const regions: readonly Operator[] = [
  defineOperator({
    name: 'RoiAlign',
    since: 10,
    until: 15,
    inputs: 3,
    attributes: ALIGN,
    run: (call) => align(call.with({ ...call.attributes, aligned: false })),
  }),
  defineOperator({
    name: 'RoiAlign',
    since: 16,
    inputs: 3,
    attributes: {
      ...ALIGN,
      coordinate_transformation_mode: text<'half_pixel' | 'output_half_pixel'>('half_pixel', [
        'half_pixel',
        'output_half_pixel',
      ]),
    },
    run: (call) => {
      const aligned = call.attributes.coordinate_transformation_mode === 'half_pixel';
      return align(call.with({ ...call.attributes, aligned }));
    },
  }),
  defineOperator({
    name: 'MaxRoiPool',
    since: 1,
    inputs: 2,
    attributes: { pooled_shape: required(ints()), spatial_scale: float(1) },
    run: (call) => {
      const { pooled_shape: outputSize, spatial_scale: spatialScale } = call.attributes;
      return as(
        call.type(0),
        roiPool(call.tensor(0), call.tensor(1), { outputSize, spatialScale }),
      );
    },
  }),
  defineOperator({
    name: 'DeformConv',
    since: 19,
    inputs: [3, 5],
    attributes: { ...WINDOW_ATTRIBUTES, ...GROUP, offset_group: int(1) },
    run: deformConvolution,
  }),
];
