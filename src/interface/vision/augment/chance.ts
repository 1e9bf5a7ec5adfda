// What augmentations share: images, numbers that are fixed or drawn for each image, and results in the
// dtype of the image.
import { checkNumber } from '../../../base/checks.ts';
import { type DType, isFloat } from '../../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../../base/errors.ts';
import { formatShape, type Shape } from '../../../base/shape.ts';
import { nodeOf } from '../../tensor/arguments.ts';
import { full } from '../../tensor/creation.ts';
import type { Generator } from '../../tensor/generator.ts';
import { uniform } from '../../tensor/random.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** One number for all images, or [low, high): drawn for each image. */
export type Amount = number | readonly [low: number, high: number];

export interface AugmentOptions {
  /** Whose numbers are drawn; default the global generator, which `manualSeed` seeds. */
  readonly generator?: Generator | undefined;
}

/** Sizes of images [n, c, h, w]. Throws ShapeError. */
export function imageSizes(
  op: string,
  x: Tensor,
): readonly [n: number, c: number, h: number, w: number] {
  const { shape } = nodeOf(op, x);
  if (shape.length === 4) return shape as readonly [number, number, number, number];
  throw new ShapeError(`takes images [n, c, h, w], got ${formatShape(shape)}`, { op });
}

/** The dtype in which images are computed: their own, or float32 for integers. */
export function workingDType(x: Tensor): DType {
  return isFloat(x.dtype) ? x.dtype : 'float32';
}

const RANGES: Readonly<Partial<Record<DType, readonly [number, number]>>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  int16: [-32768, 32767],
  // The largest float32 below 2 ** 31.
  int32: [-(2 ** 31), 2 ** 31 - 128],
};

/** Computed images in the dtype of those that came: integers are rounded and kept in their range. */
export function asImages(op: string, result: Tensor, dtype: DType): Tensor {
  if (isFloat(dtype)) return result.to(dtype);
  const range = RANGES[dtype];
  if (range === undefined) throw new DTypeError(`takes images, not ${dtype}`, { op });
  return result
    .round()
    .clamp(...range)
    .to(dtype);
}

/** Checks an amount: numbers within `bounds`, the low one first. */
export function checkAmount(
  op: string,
  name: string,
  amount: Amount,
  bounds: readonly [low: number, high?: number] = [-Infinity],
): Amount {
  if (!Array.isArray(amount)) {
    checkNumber(op, name, amount, bounds);
    return amount;
  }
  const list = amount as readonly unknown[];
  if (list.length !== 2) {
    throw new ArgumentError(`${name} must be a number or [low, high], got ${list.length} numbers`, {
      op,
    });
  }
  for (const bound of list) checkNumber(op, name, bound, bounds);
  const [low, high] = amount as readonly [number, number];
  if (low > high) throw new ArgumentError(`${name}: low ${low} exceeds high ${high}`, { op });
  return amount;
}

/** An amount as a tensor of `shape`, one number for each element if it is drawn. */
export function drawAmount(
  amount: Amount,
  shape: Shape,
  dtype: DType,
  generator: Generator | undefined,
): Tensor {
  if (!Array.isArray(amount)) return full(shape, amount as number, { dtype });
  const [low, high] = amount as readonly [number, number];
  return uniform(low, high, shape, { dtype, generator });
}

/** An amount as text, for descriptions. */
export function describeAmount(amount: Amount): string {
  return Array.isArray(amount) ? `[${amount.join(', ')}]` : String(amount);
}
