// MobileNetV3, small and large (Howard et al. 2019).
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  checkWidth,
  type ClassifierOptions,
  convNorm,
  fanOutNormal,
  hardswish,
  initialize,
  linear,
  makeDivisible,
  relu,
  smallNormal,
  SqueezeExcitation,
} from './blocks.ts';

export interface MobileNetV3Options extends ClassifierOptions {
  /** Factor of all numbers of channels, which are rounded to multiples of 8; default 1. */
  readonly widthMult?: number;
  /** Before the last layer; default 0.2. */
  readonly dropout?: number;
}

/** Kernel, expanded channels, channels, whether a gate, activation, stride: a row of the paper. */
type Row = readonly [number, number, number, boolean, 'relu' | 'hardswish', 1 | 2];

/** The paper's table 1. */
const LARGE: readonly Row[] = [
  [3, 16, 16, false, 'relu', 1],
  [3, 64, 24, false, 'relu', 2],
  [3, 72, 24, false, 'relu', 1],
  [5, 72, 40, true, 'relu', 2],
  [5, 120, 40, true, 'relu', 1],
  [5, 120, 40, true, 'relu', 1],
  [3, 240, 80, false, 'hardswish', 2],
  [3, 200, 80, false, 'hardswish', 1],
  [3, 184, 80, false, 'hardswish', 1],
  [3, 184, 80, false, 'hardswish', 1],
  [3, 480, 112, true, 'hardswish', 1],
  [3, 672, 112, true, 'hardswish', 1],
  [5, 672, 160, true, 'hardswish', 2],
  [5, 960, 160, true, 'hardswish', 1],
  [5, 960, 160, true, 'hardswish', 1],
];

/** The paper's table 2. */
const SMALL: readonly Row[] = [
  [3, 16, 16, true, 'relu', 2],
  [3, 72, 24, false, 'relu', 2],
  [3, 88, 24, false, 'relu', 1],
  [5, 96, 40, true, 'hardswish', 2],
  [5, 240, 40, true, 'hardswish', 1],
  [5, 240, 40, true, 'hardswish', 1],
  [5, 120, 48, true, 'hardswish', 1],
  [5, 144, 48, true, 'hardswish', 1],
  [5, 288, 96, true, 'hardswish', 2],
  [5, 576, 96, true, 'hardswish', 1],
  [5, 576, 96, true, 'hardswish', 1],
];

const norm: nn.BatchNormOptions = { eps: 0.001, momentum: 0.01 };

/** Expands, filters each channel, gates, projects; a shortcut joins the narrow ends. */
class InvertedResidual extends nn.Module {
  readonly block: nn.Sequential;
  readonly hasShortcut: boolean;

  constructor(inChannels: number, row: Row, width: number) {
    super();
    const [kernel, baseExpanded, baseOut, hasGate, name, stride] = row;
    const expanded = makeDivisible(baseExpanded * width);
    const outChannels = makeDivisible(baseOut * width);
    const activation = name === 'relu' ? relu : hardswish;
    this.hasShortcut = stride === 1 && inChannels === outChannels;
    const layers: nn.Layer[] = [];
    if (expanded !== inChannels)
      layers.push(convNorm(inChannels, expanded, 1, { norm, activation }));
    layers.push(
      convNorm(expanded, expanded, kernel, { stride, groups: expanded, norm, activation }),
    );
    if (hasGate) {
      const squeezed = makeDivisible(Math.floor(expanded / 4));
      layers.push(new SqueezeExcitation(expanded, squeezed, { scale: () => new nn.Hardsigmoid() }));
    }
    layers.push(convNorm(expanded, outChannels, 1, { norm }));
    this.block = new nn.Sequential(...layers);
  }

  forward(x: Tensor): Tensor {
    const y = this.block.forward(x);
    return this.hasShortcut ? y.add(x) : y;
  }
}

/**
 * MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244): images [batch, 3, height,
 * width] to scores [batch, numClasses].
 */
export class MobileNetV3 extends nn.Module {
  readonly features: nn.Sequential;
  readonly avgpool = new nn.AdaptiveAvgPool2d(1);
  readonly classifier: nn.Sequential;

  constructor(kind: 'small' | 'large', options: MobileNetV3Options = {}) {
    super();
    const op = 'vision.MobileNetV3';
    const { numClasses = 1000, dropout = 0.2 } = options;
    const width = checkWidth(op, options.widthMult ?? 1);
    const activation = hardswish;
    let channels = makeDivisible(16 * width);
    this.features = new nn.Sequential(convNorm(3, channels, 3, { stride: 2, norm, activation }));
    for (const row of kind === 'small' ? SMALL : LARGE) {
      this.features.append(new InvertedResidual(channels, row, width));
      channels = makeDivisible(row[2] * width);
    }
    this.features.append(convNorm(channels, 6 * channels, 1, { norm, activation }));
    const last = makeDivisible((kind === 'small' ? 1024 : 1280) * width);
    this.classifier = new nn.Sequential(
      linear(6 * channels, last),
      new nn.Hardswish(),
      new nn.Dropout(dropout),
      linear(last, checkInteger(op, 'numClasses', numClasses, 1)),
    );
    initialize(this, { convolution: fanOutNormal, linear: smallNormal });
  }

  forward(images: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(images)).flatten(1));
  }
}

/**
 * MobileNetV3 small (Howard et al. 2019): [batch, 3, height, width] to [batch, numClasses]; 2.5
 * million parameters.
 *
 * @example
 * const model = mobilenetV3Small({ numClasses: 10, widthMult: 0.25 });
 * model.forward(zeros([2, 3, 32, 32])).shape; // => [2, 10]
 */
export function mobilenetV3Small(options: MobileNetV3Options = {}): MobileNetV3 {
  return new MobileNetV3('small', options);
}

/**
 * MobileNetV3 large (Howard et al. 2019): [batch, 3, height, width] to [batch, numClasses]; 5.5
 * million parameters.
 */
export function mobilenetV3Large(options: MobileNetV3Options = {}): MobileNetV3 {
  return new MobileNetV3('large', options);
}
