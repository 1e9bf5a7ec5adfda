// Noise that is added to images.
import { checkKeys, checkNumber, checkOption } from '../../../base/checks.ts';
import type { DType } from '../../../base/dtype.ts';
import type { Shape } from '../../../base/shape.ts';
import { describeOptions } from '../../nn/create.ts';
import { Module } from '../../nn/module.ts';
import { full } from '../../tensor/creation.ts';
import { poisson } from '../../tensor/draws.ts';
import type { Generator } from '../../tensor/generator.ts';
import { normal, uniform } from '../../tensor/random.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { asImages, type AugmentOptions, imageSizes, workingDType } from './chance.ts';

export interface NoiseOptions extends AugmentOptions {
  /** Whether each channel has noise of its own; otherwise they share that of their pixel. Default false. */
  readonly perChannel?: boolean;
}

/** Adds what `sample` draws, one number for each pixel or for each pixel and channel. */
export abstract class AdditiveElemwise extends Module {
  readonly perChannel: boolean;
  readonly generator: Generator | undefined;

  constructor(options: NoiseOptions = {}) {
    super();
    const { perChannel = false, generator } = options;
    checkOption(this.constructor.name, 'perChannel', perChannel, 'boolean');
    this.perChannel = perChannel;
    this.generator = generator;
  }

  /** Noise of this shape and dtype. */
  abstract sample(shape: Shape, dtype: DType): Tensor;

  forward(x: Tensor): Tensor {
    const op = this.constructor.name;
    const [n, c, h, w] = imageSizes(op, x);
    const dtype = workingDType(x);
    const noise = this.sample([n, this.perChannel ? c : 1, h, w], dtype);
    return asImages(op, x.to(dtype).add(noise), x.dtype);
  }
}

/** Noise around a mean, of some spread. */
abstract class NoiseAround extends AdditiveElemwise {
  readonly mean: number;
  readonly std: number;
  readonly #name: string;

  constructor(
    name: string,
    options: NoiseOptions & { readonly mean?: number; readonly std?: number },
  ) {
    checkKeys(name, options, ['mean', 'std', 'perChannel', 'generator']);
    super(options);
    this.#name = name;
    this.mean = checkNumber(name, 'mean', options.mean ?? 0, [-Infinity]);
    this.std = checkNumber(name, 'std', options.std ?? 1);
  }

  override describe(): string {
    const { mean, std, perChannel } = this;
    return `${this.#name}(${describeOptions({ mean, std, perChannel })})`;
  }
}

export interface GaussianNoiseOptions extends NoiseOptions {
  /** Default 0. */
  readonly mean?: number;
  /** Standard deviation; default 1. */
  readonly std?: number;
}

/**
 * Adds normal noise to images [n, c, h, w]. Integer images are rounded and stay within their range.
 *
 * @example
 * const noise = new AdditiveGaussianNoise({ mean: 2, std: 0 });
 * noise.forward(tensor([[[[1, 254]]]], { dtype: 'uint8' })); // => [[[[3, 255]]]]
 */
export class AdditiveGaussianNoise extends NoiseAround {
  constructor(options: GaussianNoiseOptions = {}) {
    super('AdditiveGaussianNoise', options);
  }

  sample(shape: Shape, dtype: DType): Tensor {
    return normal(this.mean, this.std, shape, { dtype, generator: this.generator });
  }
}

export interface LaplaceNoiseOptions extends NoiseOptions {
  /** Default 0. */
  readonly mean?: number;
  /** Scale b of the density exp(-|x - mean| / b) / 2b; default 1. MegEngine names it so. */
  readonly std?: number;
}

/**
 * Adds Laplace noise to images [n, c, h, w]. Integer images are rounded and stay within their range.
 *
 * @example
 * new AdditiveLaplaceNoise({ std: 0.1 }).forward(zeros(2, 3, 4, 4)).shape; // => [2, 3, 4, 4]
 */
export class AdditiveLaplaceNoise extends NoiseAround {
  constructor(options: LaplaceNoiseOptions = {}) {
    super('AdditiveLaplaceNoise', options);
  }

  sample(shape: Shape, dtype: DType): Tensor {
    // The inverse of the distribution function; 1 - |u| lies in [0, 1), and must not be 0.
    const unit = uniform(-1, 1, shape, { dtype, generator: this.generator });
    const size = unit
      .abs()
      .neg()
      .add(1)
      .clamp(2 ** -24)
      .log()
      .neg();
    return unit.sign().mul(size).mul(this.std).add(this.mean);
  }
}

export interface PoissonNoiseOptions extends NoiseOptions {
  /** Mean of the counts that are added; default 1. */
  readonly lam?: number;
}

/**
 * Adds counts of a Poisson distribution to images [n, c, h, w]. Integer images stay within their range.
 *
 * @example
 * new AdditivePoissonNoise({ lam: 0 }).forward(ones(1, 1, 1, 2)); // => [[[[1, 1]]]]
 */
export class AdditivePoissonNoise extends AdditiveElemwise {
  readonly lam: number;

  constructor(options: PoissonNoiseOptions = {}) {
    const op = 'AdditivePoissonNoise';
    checkKeys(op, options, ['lam', 'perChannel', 'generator']);
    super(options);
    this.lam = checkNumber(op, 'lam', options.lam ?? 1);
  }

  sample(shape: Shape, dtype: DType): Tensor {
    return poisson(full(shape, this.lam, { dtype }), { generator: this.generator });
  }

  override describe(): string {
    const { lam, perChannel } = this;
    return `AdditivePoissonNoise(${describeOptions({ lam, perChannel })})`;
  }
}
