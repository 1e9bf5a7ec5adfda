// Images through small filters: emboss, sharpen, blur, contrast, dilation.
import { checkInteger, checkKeys, checkNumber, checkOption } from '../../../base/checks.ts';
import { ArgumentError } from '../../../base/errors.ts';
import { conv2d } from '../../functional/convolution.ts';
import { pad } from '../../functional/padding.ts';
import { perAxis, type Sizes } from '../../functional/windows.ts';
import { Module } from '../../nn/module.ts';
import { maximum } from '../../tensor/arithmetic.ts';
import { tensor } from '../../tensor/creation.ts';
import type { Generator } from '../../tensor/generator.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import {
  type Amount,
  asImages,
  type AugmentOptions,
  checkAmount,
  describeAmount,
  drawAmount,
  imageSizes,
  workingDType,
} from './chance.ts';

type Kernel3 = readonly (readonly [number, number, number])[];

/** Each channel through a 3 x 3 kernel; the image is mirrored at its borders. */
function filtered(x: Tensor, kernel: Kernel3): Tensor {
  const channels = x.shape[1]!;
  const one = tensor(kernel.flat(), { dtype: x.dtype }).reshape(1, 1, 3, 3);
  return conv2d(x, one.expand([channels, 1, 3, 3]), null, { groups: channels });
}

/**
 * Blends images with what a 3 x 3 filter makes of them, whose kernel grows linearly with an amount:
 * `fixed + amount * growing`.
 */
export abstract class ActiveBlur extends Module {
  readonly alpha: Amount;
  readonly amount: Amount;
  readonly generator: Generator | undefined;
  protected abstract readonly fixed: Kernel3;
  protected abstract readonly growing: Kernel3;

  constructor(alpha: Amount, amount: Amount, options: AugmentOptions, name: string) {
    super();
    const op = new.target.name;
    checkKeys(op, options, ['generator']);
    this.alpha = checkAmount(op, 'alpha', alpha, [0, 1]);
    this.amount = checkAmount(op, name, amount);
    this.generator = options.generator;
  }

  forward(x: Tensor): Tensor {
    const op = this.constructor.name;
    const [n] = imageSizes(op, x);
    const dtype = workingDType(x);
    const images = x.to(dtype);
    const draw = (amount: Amount): Tensor =>
      drawAmount(amount, [n, 1, 1, 1], dtype, this.generator);
    const mirrored = pad(images, [1, 1, 1, 1], { mode: 'reflect' });
    const effect = filtered(mirrored, this.fixed).add(
      filtered(mirrored, this.growing).mul(draw(this.amount)),
    );
    return asImages(op, images.add(effect.sub(images).mul(draw(this.alpha))), x.dtype);
  }

  override describe(): string {
    return `${this.constructor.name}(${describeAmount(this.alpha)}, ${describeAmount(this.amount)})`;
  }
}

/**
 * Embosses images [n, c, h, w]: light falls from the upper left. `alpha` from 0 (the image itself) to 1
 * (all of the effect), `strength` in proportion to the light; amounts [low, high] are drawn for each image.
 *
 * @example
 * new Emboss([0.5, 1], [0.5, 1.5]).forward(zeros(2, 3, 8, 8)).shape; // => [2, 3, 8, 8]
 * new Emboss(0, 1).forward(tensor([[[[1, 2], [3, 4]]]])); // => [[[[1, 2], [3, 4]]]]
 */
export class Emboss extends ActiveBlur {
  protected readonly fixed: Kernel3 = [
    [-1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ];
  protected readonly growing: Kernel3 = [
    [-1, -1, 0],
    [-1, 0, 1],
    [0, 1, 1],
  ];

  constructor(alpha: Amount, strength: Amount, options: AugmentOptions = {}) {
    super(alpha, strength, options, 'strength');
  }
}

/**
 * Sharpens images [n, c, h, w]: the filter has `8 + lightness` in its middle and -1 around it, so that a
 * lightness of 1 keeps the brightness. `alpha` from 0 (the image itself) to 1 (all of the effect); amounts
 * [low, high] are drawn for each image.
 *
 * @example
 * new Sharpen([0, 1], [0.75, 1.5]).forward(zeros(2, 3, 8, 8)).shape; // => [2, 3, 8, 8]
 * new Sharpen(1, 1).forward(ones(1, 1, 2, 2)); // => [[[[1, 1], [1, 1]]]]
 */
export class Sharpen extends ActiveBlur {
  protected readonly fixed: Kernel3 = [
    [-1, -1, -1],
    [-1, 8, -1],
    [-1, -1, -1],
  ];
  protected readonly growing: Kernel3 = [
    [0, 0, 0],
    [0, 1, 0],
    [0, 0, 0],
  ];

  constructor(alpha: Amount, lightness: Amount, options: AugmentOptions = {}) {
    super(alpha, lightness, options, 'lightness');
  }
}

export interface LinearContrastOptions extends AugmentOptions {
  /** Whether each channel has an amount of its own; default false. */
  readonly perChannel?: boolean;
  /** The value that stays; default 127 for bytes, otherwise 0. */
  readonly center?: number;
}

/**
 * Scales what pixels differ from `center` by `alpha`: `center + alpha (v - center)`. An alpha [low, high]
 * is drawn for each image, or for each of its channels.
 *
 * @example
 * new LinearContrast(2).forward(tensor([[[[127, 130, 10]]]], { dtype: 'uint8' })); // => [[[[127, 133, 0]]]]
 * new LinearContrast(0.5, { center: 0.5 }).forward(ones(1, 1, 1, 1)); // => [[[[0.75]]]]
 */
export class LinearContrast extends Module {
  readonly alpha: Amount;
  readonly perChannel: boolean;
  readonly center: number | undefined;
  readonly generator: Generator | undefined;

  constructor(alpha: Amount, options: LinearContrastOptions = {}) {
    super();
    const op = 'LinearContrast';
    checkKeys(op, options, ['perChannel', 'center', 'generator']);
    const { perChannel = false, center, generator } = options;
    this.alpha = checkAmount(op, 'alpha', alpha);
    checkOption(op, 'perChannel', perChannel, 'boolean');
    this.perChannel = perChannel;
    if (center !== undefined) checkNumber(op, 'center', center, [-Infinity]);
    this.center = center;
    this.generator = generator;
  }

  forward(x: Tensor): Tensor {
    const op = 'LinearContrast';
    const [n, c] = imageSizes(op, x);
    const dtype = workingDType(x);
    const center = this.center ?? (x.dtype === 'uint8' ? 127 : 0);
    const shape = [n, this.perChannel ? c : 1, 1, 1];
    const alpha = drawAmount(this.alpha, shape, dtype, this.generator);
    return asImages(op, x.to(dtype).sub(center).mul(alpha).add(center), x.dtype);
  }

  override describe(): string {
    return `LinearContrast(${describeAmount(this.alpha)})`;
  }
}

/** Weights [n, size] of a Gaussian of these deviations [n, 1], which sum to 1. */
function gaussianWeights(sigma: Tensor, size: number): Tensor {
  const places = Float64Array.from({ length: size }, (_, i) => -((i - (size - 1) / 2) ** 2) / 2);
  const exponents = tensor(places, { shape: [1, size], dtype: sigma.dtype }).div(sigma.square());
  const weights = exponents.exp();
  return weights.div(weights.sum(1, { keepdims: true }));
}

/** Each image [n, c, h, w] along one axis with weights of its own; mirrored at the borders. */
function blurAxis(x: Tensor, axis: 2 | 3, weights: Tensor): Tensor {
  const [n, size] = weights.shape as readonly [number, number];
  const half = (size - 1) / 2;
  const sides = axis === 3 ? [half, half] : [0, 0, half, half];
  const mirrored = pad(x, sides, { mode: 'reflect' });
  let total: Tensor | null = null;
  for (let k = 0; k < size; k++) {
    const weight = weights.narrow(1, k, 1).reshape(n, 1, 1, 1);
    const part = mirrored.narrow(axis, k, x.shape[axis]!).mul(weight);
    total = total === null ? part : total.add(part);
  }
  return total as Tensor;
}

/**
 * Blurs images [n, c, h, w] by a Gaussian window of odd sizes [height, width], as torchvision's. The image
 * is mirrored at its borders. A deviation [low, high], in pixels, is drawn for each image.
 *
 * @example
 * new GaussianBlur(3, [0.1, 2]).forward(ones(1, 1, 2, 3)); // => [[[[1.000, 1.000, 1.000], [1.000, 1.000, 1.000]]]]
 */
export class GaussianBlur extends Module {
  readonly kernelSize: readonly number[];
  readonly sigma: Amount;
  readonly generator: Generator | undefined;

  constructor(kernelSize: Sizes, sigma: Amount = [0.1, 2], options: AugmentOptions = {}) {
    super();
    const op = 'GaussianBlur';
    checkKeys(op, options, ['generator']);
    this.kernelSize = oddSizes(op, kernelSize);
    this.sigma = checkAmount(op, 'sigma', sigma, [Number.MIN_VALUE]);
    this.generator = options.generator;
  }

  forward(x: Tensor): Tensor {
    const op = 'GaussianBlur';
    const [n] = imageSizes(op, x);
    const dtype = workingDType(x);
    const sigma = drawAmount(this.sigma, [n, 1], dtype, this.generator);
    const [height, width] = this.kernelSize as readonly [number, number];
    const rows = blurAxis(x.to(dtype), 2, gaussianWeights(sigma, height));
    return asImages(op, blurAxis(rows, 3, gaussianWeights(sigma, width)), x.dtype);
  }

  override describe(): string {
    return `GaussianBlur([${this.kernelSize.join(', ')}], ${describeAmount(this.sigma)})`;
  }
}

function oddSizes(op: string, given: Sizes): readonly number[] {
  const sizes = perAxis(op, 'kernelSize', given, 2, 1);
  if (sizes.every((size) => size % 2 === 1)) return sizes;
  throw new ArgumentError(`kernelSize must be odd, got [${sizes.join(', ')}]`, { op });
}

export interface DilationOptions {
  /** Elements [height][width] of the window that count, those other than 0; default all. */
  readonly kernel?: readonly (readonly number[])[] | null;
  /** How often it is done; default 1. */
  readonly iterations?: number;
}

/**
 * Dilates images [n, c, h, w]: a pixel becomes the largest in a window of odd sizes around it. Nothing
 * outside of the image counts.
 *
 * @example
 * const cross = [[0, 1, 0], [1, 1, 1], [0, 1, 0]];
 * new Dilation(3, { kernel: cross }).forward(tensor([[[[0, 0, 0], [0, 0, 5], [1, 0, 0]]]]));
 * // => [[[[0, 0, 5], [1, 5, 5], [1, 1, 5]]]]
 */
export class Dilation extends Module {
  readonly kernelSize: readonly number[];
  readonly kernel: readonly (readonly number[])[] | null;
  readonly iterations: number;

  constructor(kernelSize: Sizes = 3, options: DilationOptions = {}) {
    super();
    const op = 'Dilation';
    checkKeys(op, options, ['kernel', 'iterations']);
    const { kernel = null, iterations = 1 } = options;
    this.kernelSize = oddSizes(op, kernelSize);
    const [height, width] = this.kernelSize as readonly [number, number];
    const fits =
      kernel === null ||
      (kernel.length === height &&
        kernel.every((row) => row.length === width) &&
        kernel.flat().some((value) => value !== 0));
    if (!fits) {
      throw new ArgumentError(`the kernel must have ${height} rows of ${width}, not all 0`, { op });
    }
    this.kernel = kernel;
    this.iterations = checkInteger(op, 'iterations', iterations, 0);
  }

  forward(x: Tensor): Tensor {
    const op = 'Dilation';
    imageSizes(op, x);
    let result = x.to(workingDType(x));
    for (let i = 0; i < this.iterations; i++) result = this.#once(result);
    return asImages(op, result, x.dtype);
  }

  #once(x: Tensor): Tensor {
    const [height, width] = this.kernelSize as readonly [number, number];
    const { kernel } = this;
    if (kernel === null) {
      // A rectangle is a column of rows.
      const rows = largestOf(x, [1, width], () => true);
      return largestOf(rows, [height, 1], () => true);
    }
    return largestOf(x, [height, width], (i, j) => kernel[i]![j] !== 0);
  }

  override describe(): string {
    return `Dilation([${this.kernelSize.join(', ')}], iterations=${this.iterations})`;
  }
}

/** The largest of the window's elements that count. */
function largestOf(
  x: Tensor,
  [height, width]: readonly [number, number],
  counts: (i: number, j: number) => boolean,
): Tensor {
  const [top, left] = [(height - 1) / 2, (width - 1) / 2];
  const around = pad(x, [left, left, top, top], { value: -Infinity });
  let largest: Tensor | null = null;
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      if (!counts(i, j)) continue;
      const part = around.narrow(2, i, x.shape[2]!).narrow(3, j, x.shape[3]!);
      largest = largest === null ? part : maximum(largest, part);
    }
  }
  return largest as Tensor;
}
