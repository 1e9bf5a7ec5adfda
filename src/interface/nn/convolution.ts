// Convolution layers of one to three spatial axes.
import { ArgumentError } from '../../base/errors.ts';
import * as F from '../functional/index.ts';
import { perAxis, type Sizes } from '../functional/windows.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkGroups, describeOptions, newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

/** What stands outside of the image. */
export type PaddingMode = 'zeros' | 'reflect' | 'replicate' | 'circular';

export interface ConvOptions {
  /** Step of the kernel; default 1. */
  readonly stride?: Sizes;
  /** Added on both sides of each axis; `same` keeps the size, `valid` is 0. Default 0. */
  readonly padding?: Sizes | 'same' | 'valid';
  /** Distance between kernel elements; default 1. */
  readonly dilation?: Sizes;
  /** Groups of channels that do not see each other; default 1. */
  readonly groups?: number;
  /** Whether there is an additive bias; default true. */
  readonly bias?: boolean;
  /** Default `zeros`. */
  readonly paddingMode?: PaddingMode;
}

function isEverywhere(sizes: readonly number[] | string, value: number): boolean {
  return typeof sizes !== 'string' && sizes.every((size) => size === value);
}

/** What the convolution layers share. Weight [outChannels, inChannels / groups, ...kernelSize]. */
abstract class Convolution extends Module {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[] | 'same' | 'valid';
  readonly dilation: readonly number[];
  readonly groups: number;
  readonly paddingMode: PaddingMode;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    axes: number,
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvOptions,
  ) {
    super();
    const op = this.#name();
    const { stride = 1, padding = 0, dilation = 1, groups = 1, paddingMode = 'zeros' } = options;
    this.inChannels = checkInteger(op, 'inChannels', inChannels, 1);
    this.outChannels = checkInteger(op, 'outChannels', outChannels, 1);
    this.kernelSize = perAxis(op, 'kernelSize', kernelSize, axes, 1);
    this.stride = perAxis(op, 'stride', stride, axes, 1);
    this.padding = typeof padding === 'string' ? padding : perAxis(op, 'padding', padding, axes, 0);
    this.dilation = perAxis(op, 'dilation', dilation, axes, 1);
    this.groups = checkGroups(op, groups, inChannels, outChannels);
    this.paddingMode = paddingMode;
    this.#check(op);
    this.weight = newParameter([outChannels, inChannels / groups, ...this.kernelSize]);
    this.bias = options.bias === false ? null : newParameter([outChannels]);
    this.resetParameters();
  }

  #name(): string {
    return `nn.${this.constructor.name}`;
  }

  #check(op: string): void {
    const { padding, stride, paddingMode } = this;
    if (typeof padding === 'string' && padding !== 'same' && padding !== 'valid') {
      throw new ArgumentError(`padding must be numbers, 'same' or 'valid', got '${padding}'`, {
        op,
      });
    }
    if (padding === 'same' && stride.some((step) => step !== 1)) {
      throw new ArgumentError(`padding 'same' needs stride 1, got [${stride.join(', ')}]`, { op });
    }
    if (!['zeros', 'reflect', 'replicate', 'circular'].includes(paddingMode)) {
      throw new ArgumentError(`unknown paddingMode '${paddingMode}'`, {
        op,
        hint: 'zeros, reflect, replicate or circular',
      });
    }
  }

  /** Draws weight and bias anew. */
  resetParameters(): void {
    init.resetWeightAndBias(this.weight, this.bias);
  }

  /** Input and padding as the convolution proper takes them: modes other than zeros pad first. */
  protected padded(x: Tensor): { input: Tensor; padding: readonly number[] | 'same' | 'valid' } {
    if (this.paddingMode === 'zeros') return { input: x, padding: this.padding };
    // PyTorch's order: the last axis first, its two sides next to each other.
    const sides = this.kernelSize.map((size, axis): [number, number] => {
      if (this.padding === 'valid') return [0, 0];
      if (this.padding !== 'same') return [this.padding[axis] ?? 0, this.padding[axis] ?? 0];
      const total = (this.dilation[axis] ?? 1) * (size - 1);
      return [total >> 1, total - (total >> 1)];
    });
    const input = F.pad(x, sides.reverse().flat(), { mode: this.paddingMode });
    return { input, padding: 'valid' };
  }

  override describe(): string {
    const { padding, dilation, groups, paddingMode } = this;
    const options = describeOptions({
      kernelSize: this.kernelSize,
      stride: this.stride,
      padding: isEverywhere(padding, 0) ? undefined : padding,
      dilation: isEverywhere(dilation, 1) ? undefined : dilation,
      groups: groups === 1 ? undefined : groups,
      bias: this.bias === null ? false : undefined,
      paddingMode: paddingMode === 'zeros' ? undefined : paddingMode,
    });
    return `${this.constructor.name}(${this.inChannels}, ${this.outChannels}, ${options})`;
  }
}

/** Convolution of [batch, channels, length] or [channels, length]. */
export class Conv1d extends Convolution {
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvOptions = {},
  ) {
    super(1, inChannels, outChannels, kernelSize, options);
  }

  forward(x: Tensor): Tensor {
    const { input, padding } = this.padded(x);
    const { stride, dilation, groups } = this;
    return F.conv1d(input, this.weight, this.bias, { stride, padding, dilation, groups });
  }
}

/**
 * Convolution of [batch, channels, height, width] or [channels, height, width].
 *
 * @example
 * const layer = new Conv2d(3, 8, 3, { stride: 2, padding: 1 });
 * layer.forward(zeros([1, 3, 32, 32])).shape; // => [1, 8, 16, 16]
 * String(layer); // => 'Conv2d(3, 8, kernelSize=3, stride=2, padding=1)'
 */
export class Conv2d extends Convolution {
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvOptions = {},
  ) {
    super(2, inChannels, outChannels, kernelSize, options);
  }

  forward(x: Tensor): Tensor {
    const { input, padding } = this.padded(x);
    const { stride, dilation, groups } = this;
    return F.conv2d(input, this.weight, this.bias, { stride, padding, dilation, groups });
  }
}

/** Convolution of [batch, channels, depth, height, width] or without batch. */
export class Conv3d extends Convolution {
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvOptions = {},
  ) {
    super(3, inChannels, outChannels, kernelSize, options);
  }

  forward(x: Tensor): Tensor {
    const { input, padding } = this.padded(x);
    const { stride, dilation, groups } = this;
    return F.conv3d(input, this.weight, this.bias, { stride, padding, dilation, groups });
  }
}

export interface ConvTransposeOptions {
  /** Step of the kernel in the output; default 1. */
  readonly stride?: Sizes;
  /** Cut off on both sides of each axis of the output; default 0. */
  readonly padding?: Sizes;
  /** Added at the end of each axis of the output, below the stride; default 0. */
  readonly outputPadding?: Sizes;
  /** Groups of channels that do not see each other; default 1. */
  readonly groups?: number;
  /** Whether there is an additive bias; default true. */
  readonly bias?: boolean;
  /** Distance between kernel elements; default 1. */
  readonly dilation?: Sizes;
}

/** What the transposed layers share. Weight [inChannels, outChannels / groups, ...kernelSize]. */
abstract class TransposedConvolution extends Module {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly outputPadding: readonly number[];
  readonly groups: number;
  readonly dilation: readonly number[];
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    axes: number,
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvTransposeOptions,
  ) {
    super();
    const op = `nn.${this.constructor.name}`;
    const { stride = 1, padding = 0, outputPadding = 0, groups = 1, dilation = 1 } = options;
    this.inChannels = checkInteger(op, 'inChannels', inChannels, 1);
    this.outChannels = checkInteger(op, 'outChannels', outChannels, 1);
    this.kernelSize = perAxis(op, 'kernelSize', kernelSize, axes, 1);
    this.stride = perAxis(op, 'stride', stride, axes, 1);
    this.padding = perAxis(op, 'padding', padding, axes, 0);
    this.outputPadding = perAxis(op, 'outputPadding', outputPadding, axes, 0);
    this.groups = checkGroups(op, groups, inChannels, outChannels);
    this.dilation = perAxis(op, 'dilation', dilation, axes, 1);
    this.weight = newParameter([inChannels, outChannels / groups, ...this.kernelSize]);
    this.bias = options.bias === false ? null : newParameter([outChannels]);
    this.resetParameters();
  }

  /** Draws weight and bias anew. */
  resetParameters(): void {
    init.resetWeightAndBias(this.weight, this.bias);
  }

  protected get options() {
    const { stride, padding, outputPadding, groups, dilation } = this;
    return { stride, padding, outputPadding, groups, dilation };
  }

  override describe(): string {
    const { kernelSize, stride, padding, outputPadding } = this;
    const options = describeOptions({
      kernelSize,
      stride,
      padding: isEverywhere(padding, 0) ? undefined : padding,
      outputPadding: isEverywhere(outputPadding, 0) ? undefined : outputPadding,
      groups: this.groups === 1 ? undefined : this.groups,
      dilation: isEverywhere(this.dilation, 1) ? undefined : this.dilation,
      bias: this.bias === null ? false : undefined,
    });
    return `${this.constructor.name}(${this.inChannels}, ${this.outChannels}, ${options})`;
  }
}

/** Transposed convolution of [batch, channels, length] or without batch. */
export class ConvTranspose1d extends TransposedConvolution {
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvTransposeOptions = {},
  ) {
    super(1, inChannels, outChannels, kernelSize, options);
  }

  forward(x: Tensor): Tensor {
    return F.convTranspose1d(x, this.weight, this.bias, this.options);
  }
}

/**
 * Transposed convolution of [batch, channels, height, width] or without batch: it maps shapes as
 * the gradient of a convolution does.
 *
 * @example
 * const layer = new ConvTranspose2d(8, 3, 4, { stride: 2, padding: 1 });
 * layer.forward(zeros([1, 8, 16, 16])).shape; // => [1, 3, 32, 32]
 */
export class ConvTranspose2d extends TransposedConvolution {
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvTransposeOptions = {},
  ) {
    super(2, inChannels, outChannels, kernelSize, options);
  }

  forward(x: Tensor): Tensor {
    return F.convTranspose2d(x, this.weight, this.bias, this.options);
  }
}

/** Transposed convolution of [batch, channels, depth, height, width] or without batch. */
export class ConvTranspose3d extends TransposedConvolution {
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvTransposeOptions = {},
  ) {
    super(3, inChannels, outChannels, kernelSize, options);
  }

  forward(x: Tensor): Tensor {
    return F.convTranspose3d(x, this.weight, this.bias, this.options);
  }
}
