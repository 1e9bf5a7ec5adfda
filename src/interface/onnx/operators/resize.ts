// Resizing and sampling: Resize with all its conventions, Upsample, GridSample, AffineGrid, Col2Im.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape, sizeOf } from '../../../base/shape.ts';
import * as F from '../../functional/index.ts';
import {
  type AxisTaps,
  LINEAR_FILTER,
  cubicKernel,
  cubicTaps,
  filterTaps,
  linearTaps,
  nearestTaps,
  resampleAxes,
} from '../../functional/resampling.ts';
import { wrap } from '../../tensor/handle.ts';
import { full, where } from '../../tensor/index.ts';
import { flag, float, floats, int, ints, required, text } from '../attributes.ts';
import { placesOf, stridesOf } from '../host-arrays.ts';
import { type Call, type Operator, defineOperator } from '../operator.ts';
import { TensorValue, isFloatType } from '../values.ts';
import { as } from './results.ts';
import { pairPads } from './windows.ts';

const COORDINATES = [
  'half_pixel',
  'half_pixel_symmetric',
  'pytorch_half_pixel',
  'align_corners',
  'asymmetric',
  'tf_half_pixel_for_nn',
  'tf_crop_and_resize',
] as const;
const NEAREST = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'] as const;
const POLICIES = ['stretch', 'not_larger', 'not_smaller'] as const;

interface ResizeAttributes {
  readonly antialias: boolean;
  readonly coordinate_transformation_mode: (typeof COORDINATES)[number];
  readonly cubic_coeff_a: number;
  readonly exclude_outside: boolean;
  readonly extrapolation_value: number;
  readonly mode: 'nearest' | 'linear' | 'cubic';
  readonly nearest_mode: (typeof NEAREST)[number];
}

/** One axis to resize. */
interface AxisResize {
  readonly axis: number;
  readonly size: number;
  readonly length: number;
  /** Elements of the result per element of the source. */
  readonly scale: number;
  /** Where the region of interest starts and ends, as fractions of the axis. */
  readonly region: readonly [number, number];
}

/** Where element `o` of the result lies in the source. */
function position(mode: ResizeAttributes['coordinate_transformation_mode'], resize: AxisResize) {
  const { size, length, scale, region } = resize;
  const exact = scale * size;
  switch (mode) {
    case 'half_pixel':
      return (o: number) => (o + 0.5) / scale - 0.5;
    case 'half_pixel_symmetric': {
      const offset = (size / 2) * (1 - length / exact);
      return (o: number) => offset + (o + 0.5) / scale - 0.5;
    }
    case 'pytorch_half_pixel':
      return (o: number) => (length > 1 ? (o + 0.5) / scale - 0.5 : 0);
    case 'align_corners':
      return (o: number) => (length > 1 ? (o * (size - 1)) / (exact - 1) : 0);
    case 'asymmetric':
      return (o: number) => o / scale;
    case 'tf_half_pixel_for_nn':
      return (o: number) => (o + 0.5) / scale;
    case 'tf_crop_and_resize': {
      const [start, end] = region;
      const span = (end - start) * (size - 1);
      return (o: number) =>
        start * (size - 1) + (length > 1 ? (o * span) / (length - 1) : span / 2);
    }
    default:
      return mode satisfies never;
  }
}

function nearest(mode: ResizeAttributes['nearest_mode'], at: number): number {
  switch (mode) {
    case 'round_prefer_floor':
      return Math.ceil(at - 0.5);
    case 'round_prefer_ceil':
      return Math.floor(at + 0.5);
    case 'floor':
      return Math.floor(at);
    case 'ceil':
      return Math.ceil(at);
    default:
      return mode satisfies never;
  }
}

function tapsOf(attributes: ResizeAttributes, resize: AxisResize, places: number[]): AxisTaps {
  const { mode, antialias, cubic_coeff_a: a } = attributes;
  const { size, scale } = resize;
  if (mode === 'nearest') {
    return nearestTaps(
      size,
      places.map((at) => nearest(attributes.nearest_mode, at)),
    );
  }
  const outside = attributes.exclude_outside ? 'exclude' : 'edge';
  if (antialias && scale < 1) {
    const kernel = (x: number): number => cubicKernel(x, a);
    const filter = mode === 'linear' ? LINEAR_FILTER : { kernel, radius: 2 };
    return filterTaps(size, places, { ...filter, scale: 1 / scale, outside });
  }
  if (mode === 'linear') return linearTaps(size, places, outside);
  return cubicTaps(size, places, { a, outside });
}

function resize(
  value: TensorValue,
  resizes: readonly AxisResize[],
  attributes: ResizeAttributes,
): TensorValue {
  const { coordinate_transformation_mode: coordinates, mode } = attributes;
  for (const { size, length } of resizes) {
    if (size >= 1 && length >= 1) continue;
    throw new ShapeError(`an axis of ${size} cannot become one of ${length}`);
  }
  const needsFloat = mode !== 'nearest' && !isFloatType(value.type);
  const x = needsFloat ? value.tensor.float() : value.tensor;
  const outsides: { axis: number; flags: number[] }[] = [];
  const taps = resizes.map((each): readonly [number, AxisTaps] => {
    const at = position(coordinates, each);
    const places = Array.from({ length: each.length }, (_, o) => at(o));
    if (coordinates === 'tf_crop_and_resize') {
      const flags = places.map((place) => (place < 0 || place > each.size - 1 ? 1 : 0));
      if (flags.includes(1)) outsides.push({ axis: each.axis, flags });
    }
    return [each.axis, tapsOf(attributes, each, places)];
  });
  let result = wrap(resampleAxes(x.node, taps));
  for (const { axis, flags } of outsides) {
    const shape = result.shape.map((_, i) => (i === axis ? flags.length : 1));
    const outside = TensorValue.ofNumbers(flags, shape, 'bool').tensor;
    result = where(outside, attributes.extrapolation_value, result);
  }
  return as(value.type, result);
}

/** Axes, lengths and scales that the inputs of Resize ask for. */
function readResizes(
  call: Call<{
    axes: readonly number[] | undefined;
    keep_aspect_ratio_policy: (typeof POLICIES)[number];
  }>,
): AxisResize[] {
  const { shape, rank } = call.value(0);
  const axes = (call.attributes.axes ?? shape.map((_, axis) => axis)).map((axis) =>
    call.axis(axis),
  );
  const given = (index: number): number[] | undefined => {
    const numbers = call.optionalNumbers(index);
    return numbers === undefined || numbers.length === 0 ? undefined : numbers;
  };
  const [regions, scales, sizes] = [given(1), given(2), given(3)];
  if ((scales === undefined) === (sizes === undefined)) {
    throw new FormatError('either scales or sizes must be given');
  }
  const list = scales ?? sizes ?? [];
  if (list.length !== axes.length) {
    throw new ShapeError(`${formatShape(list)} for ${axes.length} of ${rank} axes`);
  }
  const policy = call.attributes.keep_aspect_ratio_policy;
  const ratios = axes.map((axis, i) => (sizes?.[i] ?? 0) / (shape[axis] ?? 1));
  const common = policy === 'not_larger' ? Math.min(...ratios) : Math.max(...ratios);
  return axes.map((axis, i) => {
    const size = shape[axis] ?? 0;
    const region = [regions?.[i] ?? 0, regions?.[i + axes.length] ?? 1] as const;
    const scale = scales?.[i] ?? (policy === 'stretch' ? (ratios[i] ?? 1) : common);
    if (!(scale > 0)) throw new ShapeError(`axis ${axis} is scaled by ${scale}`);
    // Just below a whole number by the rounding of a float32 scale is that number.
    const floor = Math.floor(size * scale + 1e-6);
    const length =
      scales !== undefined
        ? floor
        : policy === 'stretch'
          ? (sizes?.[i] ?? 0)
          : Math.floor(scale * size + 0.5);
    return { axis, size, length, scale, region };
  });
}

/** What Upsample and the first Resize do: positions start at the corner. */
function upsample(call: Call, scales: readonly number[], mode: 'nearest' | 'linear'): TensorValue {
  const { shape, rank } = call.value(0);
  if (scales.length !== rank) throw new ShapeError(`${formatShape(scales)} for ${rank} axes`);
  const resizes = shape.map((size, axis): AxisResize => {
    const scale = scales[axis] ?? 1;
    if (!(scale > 0)) throw new ShapeError(`axis ${axis} is scaled by ${scale}`);
    return { axis, size, length: Math.floor(size * scale + 1e-6), scale, region: [0, 1] };
  });
  return resize(call.value(0), resizes, {
    antialias: false,
    coordinate_transformation_mode: 'asymmetric',
    cubic_coeff_a: -0.75,
    exclude_outside: false,
    extrapolation_value: 0,
    mode,
    nearest_mode: 'floor',
  });
}

const LINEAR_MODES = text<'nearest' | 'linear' | 'bilinear'>('nearest', [
  'nearest',
  'linear',
  'bilinear',
]);
const linearMode = (mode: string): 'nearest' | 'linear' => (mode === 'nearest' ? mode : 'linear');

const SAMPLING = {
  bilinear: 'bilinear',
  linear: 'bilinear',
  nearest: 'nearest',
  bicubic: 'bicubic',
  cubic: 'bicubic',
} as const;
type SamplingMode = keyof typeof SAMPLING;
const SAMPLING_MODES = Object.keys(SAMPLING) as SamplingMode[];

interface Col2ImAttributes {
  readonly dilations: readonly number[] | undefined;
  readonly pads: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
}

/** Puts columns of windows back into an image; what overlaps adds up. */
function col2im(call: Call<Col2ImAttributes>): TensorValue {
  const [image, block] = [call.numbers(1), call.numbers(2)];
  const rank = image.length;
  const [batch = 0, rows = 0, count = 0] = call.shape(0);
  const { dilations, pads, strides } = call.attributes;
  const padding = pads === undefined ? new Array<number>(2 * rank).fill(0) : pairPads(pads, rank);
  const padded = image.map(
    (size, axis) => size + (padding[2 * axis] ?? 0) + (padding[2 * axis + 1] ?? 0),
  );
  const windows = padded.map((size, axis) => {
    const span = (dilations?.[axis] ?? 1) * ((block[axis] ?? 1) - 1) + 1;
    return Math.floor((size - span) / (strides?.[axis] ?? 1)) + 1;
  });
  const channels = rows / sizeOf(block);
  if (!Number.isInteger(channels) || sizeOf(windows) !== count || block.length !== rank) {
    throw new ShapeError(
      `columns ${formatShape(call.shape(0))} do not make ${formatShape(image)} of ${formatShape(block)}`,
    );
  }
  const steps = stridesOf(padded);
  const inner = placesOf(
    windows,
    steps.map((step, axis) => step * (strides?.[axis] ?? 1)),
  );
  const starts = placesOf(
    block,
    steps.map((step, axis) => step * (dilations?.[axis] ?? 1)),
  );
  const places = starts.flatMap((start) => inner.map((place) => start + place));
  const index = TensorValue.ofNumbers(places, [places.length], 'int32').tensor;
  const columns = call.tensor(0).reshape([batch, channels, places.length]);
  const empty = full([batch, channels, sizeOf(padded)], 0, { dtype: columns.dtype });
  let result = empty.indexAdd(2, index, columns).reshape([batch, channels, ...padded]);
  for (const [axis, size] of image.entries()) {
    result = result.narrow(axis + 2, padding[2 * axis] ?? 0, size);
  }
  return as(call.type(0), result);
}

const RESIZE = {
  antialias: flag(),
  axes: ints(),
  coordinate_transformation_mode: text('half_pixel', COORDINATES),
  cubic_coeff_a: float(-0.75),
  exclude_outside: flag(),
  extrapolation_value: float(0),
  keep_aspect_ratio_policy: text('stretch', POLICIES),
  mode: text<'nearest' | 'linear' | 'cubic'>('nearest', ['nearest', 'linear', 'cubic']),
  nearest_mode: text('round_prefer_floor', NEAREST),
};

export const resizing: readonly Operator[] = [
  defineOperator({
    name: 'Resize',
    since: 11,
    inputs: [1, 4],
    attributes: RESIZE,
    constants: [1, 2, 3],
    run: (call) => resize(call.value(0), readResizes(call), call.attributes),
  }),
  defineOperator({
    name: 'Resize',
    since: 10,
    until: 10,
    inputs: 2,
    attributes: { mode: LINEAR_MODES },
    constants: [1],
    run: (call) => upsample(call, call.numbers(1), linearMode(call.attributes.mode)),
  }),
  defineOperator({
    name: 'Upsample',
    since: 9,
    inputs: 2,
    attributes: { mode: LINEAR_MODES },
    constants: [1],
    run: (call) => upsample(call, call.numbers(1), linearMode(call.attributes.mode)),
  }),
  defineOperator({
    name: 'Upsample',
    since: 7,
    until: 8,
    inputs: 1,
    attributes: { mode: LINEAR_MODES, scales: required(floats()) },
    run: (call) => upsample(call, call.attributes.scales, linearMode(call.attributes.mode)),
  }),
  defineOperator({
    name: 'GridSample',
    since: 16,
    inputs: 2,
    attributes: {
      align_corners: flag(),
      mode: text<SamplingMode>('bilinear', SAMPLING_MODES),
      padding_mode: text<'zeros' | 'border' | 'reflection'>('zeros', [
        'zeros',
        'border',
        'reflection',
      ]),
    },
    run: (call) => {
      const { align_corners: alignCorners, mode, padding_mode: paddingMode } = call.attributes;
      const options = { mode: SAMPLING[mode], paddingMode, alignCorners };
      const x = call.tensor(0);
      const grid = call.tensor(1).to(x.dtype);
      return as(call.type(0), F.gridSample(x, grid, options));
    },
  }),
  defineOperator({
    name: 'AffineGrid',
    since: 20,
    inputs: 2,
    attributes: { align_corners: int(0) },
    run: (call) => {
      const alignCorners = call.attributes.align_corners !== 0;
      return as(call.type(0), F.affineGrid(call.tensor(0), call.numbers(1), { alignCorners }));
    },
  }),
  defineOperator({
    name: 'Col2Im',
    since: 18,
    inputs: 3,
    attributes: { dilations: ints(), pads: ints(), strides: ints() },
    run: col2im,
  }),
];
