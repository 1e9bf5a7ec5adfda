// Deformable convolution as a layer.
import { perAxis, type Sizes } from '../../functional/windows.ts';
import { checkGroups, newParameter } from '../../nn/create.ts';
import * as init from '../../nn/init.ts';
import { Module } from '../../nn/module.ts';
import type { Parameter } from '../../nn/parameter.ts';
import { checkInteger } from '../../tensor/arguments.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { deformConv2d, type DeformConvOptions } from './deform-conv.ts';

export interface DeformConvLayerOptions extends Omit<DeformConvOptions, 'mask'> {
  readonly groups?: number;
  /** Whether there is an additive bias; default true. */
  readonly bias?: boolean;
}

/**
 * Convolution whose window's elements read at places moved by offsets, which another layer computes:
 * see `deformConv2d`. Parameters are torchvision's.
 *
 * @example
 * ```ts
 * const layer = new DeformConv2d(3, 8, 3, { padding: 1 });
 * layer.forward(ones(1, 3, 6, 6), zeros(1, 18, 6, 6)).shape; // => [1, 8, 6, 6]
 * ```
 */
export class DeformConv2d extends Module {
  readonly options: Omit<DeformConvOptions, 'mask'>;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: DeformConvLayerOptions = {},
  ) {
    super();
    const op = 'DeformConv2d';
    const { groups = 1, bias = true, ...rest } = options;
    checkInteger(op, 'inChannels', inChannels, 1);
    checkInteger(op, 'outChannels', outChannels, 1);
    checkGroups(op, groups, inChannels, outChannels);
    this.options = rest;
    const kernel = perAxis(op, 'kernelSize', kernelSize, 2, 1);
    this.weight = newParameter([outChannels, inChannels / groups, ...kernel]);
    this.bias = bias ? newParameter([outChannels]) : null;
    this.resetParameters();
  }

  /** Draws weight and bias anew. */
  resetParameters(): void {
    init.resetWeightAndBias(this.weight, this.bias);
  }

  forward(x: Tensor, offset: Tensor, mask: Tensor | null = null): Tensor {
    return deformConv2d(x, offset, this.weight, this.bias, { ...this.options, mask });
  }

  override describe(): string {
    return `DeformConv2d(weight=[${this.weight.shape.join(', ')}])`;
  }
}
