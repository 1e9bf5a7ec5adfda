// What image models share: convolution with normalization and activation, gates, how weights start.
import { ArgumentError } from '../../base/errors.ts';
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { ones } from '../tensor/creation.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Options of every classifier here. */
export interface ClassifierOptions {
  /** Number of scores per image; default 1000. */
  readonly numClasses?: number;
}

/** Makes one activation layer. */
export type Activation = () => nn.Layer;

export const relu: Activation = () => new nn.ReLU();
export const relu6: Activation = () => new nn.ReLU6();
export const silu: Activation = () => new nn.SiLU();
export const hardswish: Activation = () => new nn.Hardswish();

/**
 * A convolution whose weights are still zeros: `initialize` draws them, once. A bias only if asked.
 * Padding keeps the size at stride 1, unless given.
 */
export function conv(
  inChannels: number,
  outChannels: number,
  kernelSize: number,
  options: nn.ConvOptions = {},
): nn.Conv2d {
  const padding = (kernelSize - 1) >> 1;
  return nn.init.skip(
    () => new nn.Conv2d(inChannels, outChannels, kernelSize, { padding, bias: false, ...options }),
  );
}

/** A linear layer whose weights are still zeros: `initialize` draws them, once. */
export function linear(inFeatures: number, outFeatures: number): nn.Linear {
  return nn.init.skip(() => new nn.Linear(inFeatures, outFeatures));
}

export interface ConvNormOptions {
  readonly stride?: number;
  readonly groups?: number;
  readonly norm?: nn.BatchNormOptions;
  /** None by default. */
  readonly activation?: Activation;
}

/** Convolution without bias, batch normalization, activation: items 0, 1 and 2. */
export function convNorm(
  inChannels: number,
  outChannels: number,
  kernelSize: number,
  options: ConvNormOptions = {},
): nn.Sequential {
  const { stride = 1, groups = 1, norm = {}, activation } = options;
  const layers = new nn.Sequential(
    conv(inChannels, outChannels, kernelSize, { stride, groups }),
    new nn.BatchNorm2d(outChannels, norm),
  );
  return activation === undefined ? layers : layers.append(activation());
}

/** How the weights of a model start, by kind of layer; biases and normalizations are neutral. */
export interface Initialization {
  readonly convolution: (weight: Tensor) => unknown;
  /** Left out for PyTorch's own start, which `nn.Linear` has drawn. */
  readonly linear?: (weight: Tensor) => unknown;
}

/** He et al. 2015, by the number of outputs: the usual start of convolutions. */
export const fanOutNormal = (weight: Tensor): unknown =>
  nn.init.kaimingNormal(weight, { mode: 'fanOut', nonlinearity: 'relu' });

export const smallNormal = (weight: Tensor): unknown => nn.init.normal(weight, 0, 0.01);

/** Draws the weights of all convolutions and linear layers below `model`; biases become 0. */
export function initialize(model: nn.Module, rules: Initialization): void {
  for (const module of model.modules()) {
    const isLinear = module instanceof nn.Linear;
    if (!isLinear && !(module instanceof nn.Conv2d)) continue;
    const rule = isLinear ? rules.linear : rules.convolution;
    if (rule === undefined) continue;
    rule(module.weight);
    if (module.bias !== null) nn.init.zeros(module.bias);
  }
}

/**
 * The multiple of `divisor` next to `channels`, but never less than nine tenths of it
 * (Sandler et al. 2018).
 */
export function makeDivisible(channels: number, divisor = 8): number {
  const rounded = Math.max(divisor, Math.floor((channels + divisor / 2) / divisor) * divisor);
  return rounded < 0.9 * channels ? rounded + divisor : rounded;
}

/** A width multiplier. Throws ArgumentError unless it is a positive number. */
export function checkWidth(op: string, width: number): number {
  if (width > 0 && Number.isFinite(width)) return width;
  throw new ArgumentError(`widthMult must be a positive number, got ${width}`, { op });
}

export interface GateOptions {
  /** Between the two convolutions; default ReLU. */
  readonly activation?: Activation;
  /** What makes factors of their result; default Sigmoid. */
  readonly scale?: Activation;
}

/**
 * Squeeze and excitation (Hu et al. 2018): scales each channel of [batch, channels, h, w] by a
 * factor computed from the means of all channels.
 */
export class SqueezeExcitation extends nn.Module {
  readonly avgpool = new nn.AdaptiveAvgPool2d(1);
  readonly fc1: nn.Conv2d;
  readonly fc2: nn.Conv2d;
  readonly activation: nn.Layer;
  readonly scaleActivation: nn.Layer;

  constructor(channels: number, squeezed: number, options: GateOptions = {}) {
    super();
    this.fc1 = conv(channels, squeezed, 1, { bias: true });
    this.fc2 = conv(squeezed, channels, 1, { bias: true });
    this.activation = (options.activation ?? relu)();
    this.scaleActivation = (options.scale ?? (() => new nn.Sigmoid()))();
  }

  forward(x: Tensor): Tensor {
    const squeezed = this.activation.forward(this.fc1.forward(this.avgpool.forward(x)));
    return x.mul(this.scaleActivation.forward(this.fc2.forward(squeezed)));
  }
}

/**
 * Stochastic depth (Huang et al. 2016): in training, replaces whole items of the batch by zeros with
 * probability `p` and scales the others by 1 / (1 - p).
 */
export class StochasticDepth extends nn.Dropout {
  override forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return x;
    const kept = ones([x.shape[0] ?? 1, ...x.shape.slice(1).map(() => 1)], { dtype: x.dtype });
    return x.mul(F.dropout(kept, { p: this.p, training: true }));
  }
}
