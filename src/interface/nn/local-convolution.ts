// Convolution with weights of their own at each place, and within regions.
import { ArgumentError } from '../../base/errors.ts';
import { windowOutputSize } from '../../graph/ops/index.ts';
import * as F from '../functional/index.ts';
import { bothSides, perAxis, type Sizes } from '../functional/windows.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkGroups, newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

export interface LocalConvOptions extends F.LocalConvolutionOptions {
  readonly groups?: number;
  /** Whether there is an additive bias per channel; default true. */
  readonly bias?: boolean;
}

/**
 * Convolution of images of one size whose weights differ from place to place:
 * see `F.localConv2d`. Weight [groups, oh, ow, in / groups, kh, kw, out / groups].
 *
 * @example
 * ```ts
 * const layer = new nn.LocalConv2d(3, 4, [8, 8], 3, { padding: 1 });
 * layer.forward(ones(1, 3, 8, 8)).shape; // => [1, 4, 8, 8]
 * ```
 */
export class LocalConv2d extends Module {
  readonly kernelSize: readonly number[];
  readonly options: F.LocalConvolutionOptions;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    inChannels: number,
    outChannels: number,
    inputSize: Sizes,
    kernelSize: Sizes,
    options: LocalConvOptions = {},
  ) {
    super();
    const op = 'nn.LocalConv2d';
    const { groups = 1, bias = true, ...rest } = options;
    checkInteger(op, 'inChannels', inChannels, 1);
    checkInteger(op, 'outChannels', outChannels, 1);
    checkGroups(op, groups, inChannels, outChannels);
    this.kernelSize = perAxis(op, 'kernelSize', kernelSize, 2, 1);
    this.options = rest;
    const places = windowOutputSize(perAxis(op, 'inputSize', inputSize, 2, 1), this.kernelSize, {
      stride: perAxis(op, 'stride', rest.stride ?? 1, 2, 1),
      padding: bothSides(perAxis(op, 'padding', rest.padding ?? 0, 2, 0)),
      dilation: perAxis(op, 'dilation', rest.dilation ?? 1, 2, 1),
    });
    if (places.some((length) => length < 1)) {
      throw new ArgumentError('the kernel does not fit the images', { op });
    }
    const window = [inChannels / groups, ...this.kernelSize];
    this.weight = newParameter([groups, ...places, ...window, outChannels / groups]);
    this.bias = bias ? newParameter([outChannels]) : null;
    this.resetParameters();
  }

  /** Draws weight and bias anew, as a convolution's with the same window. */
  resetParameters(): void {
    const [, , , ...window] = this.weight.shape;
    const fanIn = window.slice(0, -1).reduce((a, b) => a * b, 1);
    const bound = 1 / Math.sqrt(fanIn);
    init.uniform(this.weight, -bound, bound);
    if (this.bias !== null) init.uniform(this.bias, -bound, bound);
  }

  forward(x: Tensor): Tensor {
    return F.localConv2d(x, this.weight, this.bias, this.options);
  }

  override describe(): string {
    return `LocalConv2d(weight=[${this.weight.shape.join(', ')}])`;
  }
}

export interface RegionConvOptions extends F.RegionConvolutionOptions {
  /** Whether there is an additive bias per channel; default true. */
  readonly bias?: boolean;
}

/**
 * Convolution in which a pixel sees those of its own region: see `F.regionRestrictedConv`. Weight
 * [out, in / groups, kh, kw].
 *
 * @example
 * const layer = new nn.RegionRestrictedConv(4, 4, 3, { padding: 1, groups: 4 });
 * const regions = zeros([2, 8, 8], { dtype: 'int32' });
 * layer.forward(ones(2, 4, 8, 8), regions, regions).shape; // => [2, 4, 8, 8]
 */
export class RegionRestrictedConv extends Module {
  readonly options: F.RegionConvolutionOptions;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: RegionConvOptions = {},
  ) {
    super();
    const op = 'nn.RegionRestrictedConv';
    const { bias = true, ...rest } = options;
    checkInteger(op, 'inChannels', inChannels, 1);
    checkInteger(op, 'outChannels', outChannels, 1);
    const groups = checkGroups(op, rest.groups ?? 1, inChannels, outChannels);
    this.options = rest;
    const window = perAxis(op, 'kernelSize', kernelSize, 2, 1);
    this.weight = newParameter([outChannels, inChannels / groups, ...window]);
    this.bias = bias ? newParameter([outChannels]) : null;
    this.resetParameters();
  }

  /** Draws weight and bias anew. */
  resetParameters(): void {
    init.resetWeightAndBias(this.weight, this.bias);
  }

  forward(x: Tensor, rin: Tensor, rout: Tensor): Tensor {
    return F.regionRestrictedConv(x, this.weight, rin, rout, this.bias, this.options);
  }

  override describe(): string {
    return `RegionRestrictedConv(weight=[${this.weight.shape.join(', ')}])`;
  }
}
