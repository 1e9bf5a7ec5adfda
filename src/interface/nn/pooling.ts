// Pooling layers: maxima and means over windows, and to a given output size.
import * as F from '../functional/index.ts';
import { perAxis, type Sizes } from '../functional/windows.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { describeOptions } from './create.ts';
import { Module } from './module.ts';

export interface MaxPoolOptions {
  /** Step of the window; default its size. */
  readonly stride?: Sizes;
  /** Border of minus infinity, at most half the window; default 0. */
  readonly padding?: Sizes;
  /** Distance between elements of the window; default 1. */
  readonly dilation?: Sizes;
  /** Whether a last, incomplete window counts. */
  readonly ceilMode?: boolean;
}

abstract class MaxPool extends Module {
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly ceilMode: boolean;

  constructor(axes: number, kernelSize: Sizes, options: MaxPoolOptions) {
    super();
    const op = `nn.${this.constructor.name}`;
    this.kernelSize = perAxis(op, 'kernelSize', kernelSize, axes, 1);
    this.stride = perAxis(op, 'stride', options.stride ?? kernelSize, axes, 1);
    this.padding = perAxis(op, 'padding', options.padding ?? 0, axes, 0);
    this.dilation = perAxis(op, 'dilation', options.dilation ?? 1, axes, 1);
    this.ceilMode = options.ceilMode ?? false;
  }

  protected get options() {
    const { stride, padding, dilation, ceilMode } = this;
    return { stride, padding, dilation, ceilMode };
  }

  override describe(): string {
    const { kernelSize } = this;
    return `${this.constructor.name}(${describeOptions({ kernelSize, ...this.options })})`;
  }
}

/** Maxima over windows of [batch, channels, length] or without batch. */
export class MaxPool1d extends MaxPool {
  constructor(kernelSize: Sizes, options: MaxPoolOptions = {}) {
    super(1, kernelSize, options);
  }
  forward(x: Tensor): Tensor {
    return F.maxPool1d(x, this.kernelSize, this.options);
  }
}

/**
 * Maxima over windows of [batch, channels, height, width] or without batch.
 *
 * @example
 * new MaxPool2d(2).forward(tensor([[[1, 2], [3, 4]]])); // => [[[4]]]
 */
export class MaxPool2d extends MaxPool {
  constructor(kernelSize: Sizes, options: MaxPoolOptions = {}) {
    super(2, kernelSize, options);
  }
  forward(x: Tensor): Tensor {
    return F.maxPool2d(x, this.kernelSize, this.options);
  }
}

/** Maxima over windows of [batch, channels, depth, height, width] or without batch. */
export class MaxPool3d extends MaxPool {
  constructor(kernelSize: Sizes, options: MaxPoolOptions = {}) {
    super(3, kernelSize, options);
  }
  forward(x: Tensor): Tensor {
    return F.maxPool3d(x, this.kernelSize, this.options);
  }
}

export interface AvgPoolOptions {
  /** Step of the window; default its size. */
  readonly stride?: Sizes;
  /** Border of zeros, at most half the window; default 0. */
  readonly padding?: Sizes;
  /** Whether a last, incomplete window counts. */
  readonly ceilMode?: boolean;
  /** Whether the border counts in the mean; default true. */
  readonly countIncludePad?: boolean;
}

abstract class AvgPool extends Module {
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly ceilMode: boolean;
  readonly countIncludePad: boolean;

  constructor(axes: number, kernelSize: Sizes, options: AvgPoolOptions) {
    super();
    const op = `nn.${this.constructor.name}`;
    this.kernelSize = perAxis(op, 'kernelSize', kernelSize, axes, 1);
    this.stride = perAxis(op, 'stride', options.stride ?? kernelSize, axes, 1);
    this.padding = perAxis(op, 'padding', options.padding ?? 0, axes, 0);
    this.ceilMode = options.ceilMode ?? false;
    this.countIncludePad = options.countIncludePad ?? true;
  }

  protected get options() {
    const { stride, padding, ceilMode, countIncludePad } = this;
    return { stride, padding, ceilMode, countIncludePad };
  }

  override describe(): string {
    const { kernelSize, stride, padding } = this;
    return `${this.constructor.name}(${describeOptions({ kernelSize, stride, padding })})`;
  }
}

/** Means over windows of [batch, channels, length] or without batch. */
export class AvgPool1d extends AvgPool {
  constructor(kernelSize: Sizes, options: AvgPoolOptions = {}) {
    super(1, kernelSize, options);
  }
  forward(x: Tensor): Tensor {
    return F.avgPool1d(x, this.kernelSize, this.options);
  }
}

/** Means over windows of [batch, channels, height, width] or without batch. */
export class AvgPool2d extends AvgPool {
  constructor(kernelSize: Sizes, options: AvgPoolOptions = {}) {
    super(2, kernelSize, options);
  }
  forward(x: Tensor): Tensor {
    return F.avgPool2d(x, this.kernelSize, this.options);
  }
}

/** Means over windows of [batch, channels, depth, height, width] or without batch. */
export class AvgPool3d extends AvgPool {
  constructor(kernelSize: Sizes, options: AvgPoolOptions = {}) {
    super(3, kernelSize, options);
  }
  forward(x: Tensor): Tensor {
    return F.avgPool3d(x, this.kernelSize, this.options);
  }
}

abstract class AdaptivePool extends Module {
  readonly outputSize: readonly number[];

  constructor(axes: number, outputSize: Sizes) {
    super();
    this.outputSize = perAxis(`nn.${this.constructor.name}`, 'outputSize', outputSize, axes, 1);
  }

  override describe(): string {
    return `${this.constructor.name}(${describeOptions({ outputSize: this.outputSize })})`;
  }
}

/** Means over equal parts of [..., length], as many as `outputSize`. */
export class AdaptiveAvgPool1d extends AdaptivePool {
  constructor(outputSize: Sizes) {
    super(1, outputSize);
  }
  forward(x: Tensor): Tensor {
    return F.adaptiveAvgPool1d(x, this.outputSize);
  }
}

/**
 * Means over equal parts of [..., height, width], as many as `outputSize`.
 *
 * @example
 * new AdaptiveAvgPool2d(1).forward(zeros([2, 8, 7, 5])).shape; // => [2, 8, 1, 1]
 */
export class AdaptiveAvgPool2d extends AdaptivePool {
  constructor(outputSize: Sizes) {
    super(2, outputSize);
  }
  forward(x: Tensor): Tensor {
    return F.adaptiveAvgPool2d(x, this.outputSize);
  }
}

/** Means over equal parts of [..., depth, height, width], as many as `outputSize`. */
export class AdaptiveAvgPool3d extends AdaptivePool {
  constructor(outputSize: Sizes) {
    super(3, outputSize);
  }
  forward(x: Tensor): Tensor {
    return F.adaptiveAvgPool3d(x, this.outputSize);
  }
}

/** Maxima over equal parts of [..., length], as many as `outputSize`. */
export class AdaptiveMaxPool1d extends AdaptivePool {
  constructor(outputSize: Sizes) {
    super(1, outputSize);
  }
  forward(x: Tensor): Tensor {
    return F.adaptiveMaxPool1d(x, this.outputSize);
  }
}

/** Maxima over equal parts of [..., height, width], as many as `outputSize`. */
export class AdaptiveMaxPool2d extends AdaptivePool {
  constructor(outputSize: Sizes) {
    super(2, outputSize);
  }
  forward(x: Tensor): Tensor {
    return F.adaptiveMaxPool2d(x, this.outputSize);
  }
}

/** Maxima over equal parts of [..., depth, height, width], as many as `outputSize`. */
export class AdaptiveMaxPool3d extends AdaptivePool {
  constructor(outputSize: Sizes) {
    super(3, outputSize);
  }
  forward(x: Tensor): Tensor {
    return F.adaptiveMaxPool3d(x, this.outputSize);
  }
}

/** Maxima over windows drawn at random: see `F.fractionalMaxPool2d`. */
export class FractionalMaxPool2d extends Module {
  readonly kernelSize: Sizes;
  readonly options: Omit<F.FractionalPoolOptions, 'returnIndices'>;

  constructor(kernelSize: Sizes, options: Omit<F.FractionalPoolOptions, 'returnIndices'>) {
    super();
    this.kernelSize = kernelSize;
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return F.fractionalMaxPool2d(x, this.kernelSize, this.options);
  }
}

abstract class MaxUnpool extends Module {
  readonly kernelSize: Sizes;
  readonly options: Omit<F.MaxUnpoolOptions, 'outputSize'>;

  constructor(kernelSize: Sizes, options: Omit<F.MaxUnpoolOptions, 'outputSize'> = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = options;
  }

  protected optionsFor(outputSize: readonly number[] | undefined): F.MaxUnpoolOptions {
    return outputSize === undefined ? this.options : { ...this.options, outputSize };
  }
}

/** Puts values back to where a `maxPool1d` found them: see `F.maxUnpool1d`. */
export class MaxUnpool1d extends MaxUnpool {
  forward(x: Tensor, indices: Tensor, outputSize?: readonly number[]): Tensor {
    return F.maxUnpool1d(x, indices, this.kernelSize, this.optionsFor(outputSize));
  }
}

/** Puts values back to where a `maxPool2d` found them: see `F.maxUnpool2d`. */
export class MaxUnpool2d extends MaxUnpool {
  forward(x: Tensor, indices: Tensor, outputSize?: readonly number[]): Tensor {
    return F.maxUnpool2d(x, indices, this.kernelSize, this.optionsFor(outputSize));
  }
}

/** Puts values back to where a `maxPool3d` found them: see `F.maxUnpool3d`. */
export class MaxUnpool3d extends MaxUnpool {
  forward(x: Tensor, indices: Tensor, outputSize?: readonly number[]): Tensor {
    return F.maxUnpool3d(x, indices, this.kernelSize, this.optionsFor(outputSize));
  }
}
