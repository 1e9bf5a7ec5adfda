// Convolutions and their transposes.
import { ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import * as ops from '../../../graph/ops/index.ts';
import * as F from '../../functional/index.ts';
import { wrap } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/index.ts';
import { ints } from '../attributes.ts';
import { type Call, type Operator, defineOperator } from '../operator.ts';
import type { TensorValue } from '../values.ts';
import { as } from './results.ts';
import {
  GROUP,
  WINDOW_ATTRIBUTES,
  type WindowAttributes,
  pairPads,
  readWindows,
  spaceOf,
} from './windows.ts';

export type ConvolutionAttributes = WindowAttributes & { readonly group: number };

/** Cross-correlation of [n, c, ...space] with [out, c / group, ...kernel] and a bias of [out]. */
export function convolve(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  attributes: ConvolutionAttributes,
): Tensor {
  const { group } = attributes;
  const space = spaceOf(x.shape);
  const [outputs = 0, perGroup = 0, ...kernel] = weight.shape;
  const { kernel_shape: given } = attributes;
  const fits =
    kernel.length === space.length &&
    perGroup * group === x.shape[1] &&
    outputs % group === 0 &&
    (given === undefined || given.every((size, axis) => size === kernel[axis]));
  if (!fits) {
    throw new ShapeError(
      `weight ${formatShape(weight.shape)} in ${group} group(s) does not fit ${formatShape(x.shape)}`,
    );
  }
  const { stride, padding, dilation } = readWindows(space, kernel, attributes);
  const size = ops.windowOutputSize(space, kernel, { stride, padding, dilation });
  if (size.some((length) => length < 1)) {
    throw new ShapeError(`the kernel ${formatShape(kernel)} does not fit ${formatShape(space)}`);
  }
  const window = { stride, padding, dilation, groups: group };
  const result = wrap(ops.convolution(x.node, weight.node, window));
  return bias === null ? result : result.add(alongChannels(bias, space.length));
}

/** [c] as [c, 1, ..], to broadcast along channels. */
export function alongChannels(x: Tensor, spaceRank: number): Tensor {
  return x.reshape([-1, ...new Array<number>(spaceRank).fill(1)]);
}

type TransposedAttributes = ConvolutionAttributes & {
  readonly output_padding: readonly number[] | undefined;
  readonly output_shape: readonly number[] | undefined;
};

/** What is taken off the full result of a transposed convolution: [before, after] for each axis. */
function transposedPads(
  full: readonly number[],
  space: readonly number[],
  stride: readonly number[],
  extra: readonly number[],
  attributes: TransposedAttributes,
): number[] {
  const { auto_pad: auto, pads, output_shape: wanted } = attributes;
  const rank = space.length;
  const given = wanted !== undefined && wanted.length > 0;
  if (!given && (auto === 'NOTSET' || auto === 'VALID')) {
    const none = auto === 'VALID' || pads === undefined || pads.length === 0;
    return none ? new Array<number>(2 * rank).fill(0) : pairPads(pads, rank);
  }
  const target = given
    ? wanted.slice(-rank)
    : space.map((size, axis) => size * (stride[axis] ?? 1));
  return full.flatMap((size, axis) => {
    const total = size + (extra[axis] ?? 0) - (target[axis] ?? 0);
    const less = Math.floor(total / 2);
    // SAME_UPPER puts the odd one at the end, as a convolution does.
    return auto === 'SAME_UPPER' ? [less, total - less] : [total - less, less];
  });
}

interface Transposed {
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly group: number;
  readonly pads: readonly number[];
  readonly extra: readonly number[];
  readonly full: readonly number[];
}

function transpose(x: Tensor, weight: Tensor, place: Transposed): Tensor {
  const { stride, dilation, group, pads, extra, full } = place;
  const window = { stride, dilation, groups: group };
  const plain = pads.every((amount) => amount >= 0);
  const size = full.map(
    (length, axis) =>
      length - (pads[2 * axis] ?? 0) - (pads[2 * axis + 1] ?? 0) + (extra[axis] ?? 0),
  );
  if (size.some((length) => length < 1)) {
    throw new ShapeError(`the result would have the sizes ${formatShape(size)}`);
  }
  if (plain && extra.every((more, axis) => more < (stride[axis] ?? 1))) {
    const padded = { ...window, padding: pads };
    return wrap(ops.convolutionBackwardData(x.node, weight.node, padded, size));
  }
  const unpadded = { ...window, padding: new Array<number>(2 * full.length).fill(0) };
  const result = wrap(ops.convolutionBackwardData(x.node, weight.node, unpadded, full));
  // Negative amounts cut off, positive ones are zeros beyond the last window.
  const amounts = full.flatMap((_, i) => {
    const axis = full.length - 1 - i;
    return [-(pads[2 * axis] ?? 0), (extra[axis] ?? 0) - (pads[2 * axis + 1] ?? 0)];
  });
  return F.pad(result, amounts);
}

/** Transpose of a convolution: weight [c, out / group, ...kernel]. */
function convolveTransposed(call: Call<TransposedAttributes>): TensorValue {
  const { group, strides, dilations, output_padding: outputPadding } = call.attributes;
  const [x, weight] = [call.tensor(0), call.tensor(1)];
  const space = spaceOf(x.shape);
  const kernel = weight.shape.slice(2);
  if (weight.shape[0] !== x.shape[1] || kernel.length !== space.length) {
    throw new ShapeError(
      `weight ${formatShape(weight.shape)} does not fit ${formatShape(x.shape)}`,
    );
  }
  const valid = { auto_pad: 'VALID', pads: undefined, kernel_shape: undefined } as const;
  const { stride, dilation } = readWindows(space, kernel, { ...valid, strides, dilations });
  const extra = space.map((_, axis) => outputPadding?.[axis] ?? 0);
  const full = space.map(
    (size, axis) =>
      (size - 1) * (stride[axis] ?? 1) + (dilation[axis] ?? 1) * ((kernel[axis] ?? 1) - 1) + 1,
  );
  const pads = transposedPads(full, space, stride, extra, call.attributes);
  const result = transpose(x, weight, { stride, dilation, group, pads, extra, full });
  const bias = call.optional(2);
  const biased = bias === null ? result : result.add(alongChannels(bias, space.length));
  return as(call.type(0), biased);
}

export const convolutions: readonly Operator[] = [
  defineOperator({
    name: 'Conv',
    since: 1,
    inputs: [2, 3],
    attributes: { ...WINDOW_ATTRIBUTES, ...GROUP },
    run: (call) =>
      as(call.type(0), convolve(call.tensor(0), call.tensor(1), call.optional(2), call.attributes)),
  }),
  defineOperator({
    name: 'ConvTranspose',
    since: 1,
    inputs: [2, 3],
    attributes: {
      ...WINDOW_ATTRIBUTES,
      ...GROUP,
      output_padding: ints(),
      output_shape: ints(),
    },
    run: convolveTransposed,
  }),
];
