// Windows that move over space axes: what kernel_shape, strides, pads and auto_pad mean.
import { ShapeError } from '../../../base/errors.ts';
import { type Shape, formatShape } from '../../../base/shape.ts';
import { int, ints, text } from '../attributes.ts';

export const AUTO_PAD = ['NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID'] as const;

/** The attributes that say where windows lie. */
export const WINDOW_ATTRIBUTES = {
  auto_pad: text('NOTSET', AUTO_PAD),
  dilations: ints(),
  kernel_shape: ints(),
  pads: ints(),
  strides: ints(),
};

export const GROUP = { group: int(1) };

export interface WindowAttributes {
  readonly auto_pad: (typeof AUTO_PAD)[number];
  readonly dilations?: readonly number[] | undefined;
  readonly kernel_shape: readonly number[] | undefined;
  readonly pads: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
}

/** Windows with everything settled; `padding` is [before, after] for each axis in turn. */
export interface Windows {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
}

/** One positive number for each space axis. */
function perAxis(name: string, given: readonly number[] | undefined, rank: number): number[] {
  if (given === undefined || given.length === 0) return new Array<number>(rank).fill(1);
  if (given.length !== rank || given.some((value) => !(value >= 1))) {
    throw new ShapeError(`${name} ${formatShape(given)} for ${rank} axes of space`);
  }
  return [...given];
}

/** ONNX lists all pads before the axes, then all after: [b0, b1, a0, a1] becomes [b0, a0, b1, a1]. */
export function pairPads(pads: readonly number[], rank: number): number[] {
  if (pads.length !== 2 * rank) {
    throw new ShapeError(`pads ${formatShape(pads)} for ${rank} axes`);
  }
  return Array.from({ length: 2 * rank }, (_, i) => pads[(i >> 1) + (i & 1) * rank] ?? 0);
}

/** Space axes of [n, c, ...space]. */
export function spaceOf(shape: Shape): number[] {
  if (shape.length < 3) {
    throw new ShapeError(`expected [n, c, ...space], got ${formatShape(shape)}`);
  }
  return shape.slice(2);
}

/** What the attributes mean for an input of the given space and a kernel. */
export function readWindows(
  space: readonly number[],
  kernelShape: readonly number[],
  attributes: WindowAttributes,
): Windows {
  const rank = space.length;
  const kernel = perAxis('kernel_shape', kernelShape, rank);
  const stride = perAxis('strides', attributes.strides, rank);
  const dilation = perAxis('dilations', attributes.dilations, rank);
  const { auto_pad: auto, pads } = attributes;
  if (auto === 'NOTSET' || auto === 'VALID') {
    const given = auto === 'NOTSET' && pads !== undefined && pads.length > 0;
    const padding = given ? pairPads(pads, rank) : new Array<number>(2 * rank).fill(0);
    if (padding.some((amount) => amount < 0)) throw new ShapeError('negative pads of a window');
    return { kernel, stride, padding, dilation };
  }
  const padding = space.flatMap((size, axis) => {
    const step = stride[axis] ?? 1;
    const span = (dilation[axis] ?? 1) * ((kernel[axis] ?? 1) - 1) + 1;
    const total = Math.max(0, (Math.ceil(size / step) - 1) * step + span - size);
    const less = total >> 1;
    return auto === 'SAME_UPPER' ? [less, total - less] : [total - less, less];
  });
  return { kernel, stride, padding, dilation };
}
