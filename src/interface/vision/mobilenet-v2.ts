// MobileNetV2 (Sandler et al. 2018).
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  checkWidth,
  type ClassifierOptions,
  conv,
  convNorm,
  fanOutNormal,
  initialize,
  linear,
  makeDivisible,
  relu6,
  smallNormal,
} from './blocks.ts';

export interface MobileNetV2Options extends ClassifierOptions {
  /** Factor of all numbers of channels, which are rounded to multiples of 8; default 1. */
  readonly widthMult?: number;
  /** Before the classifier; default 0.2. */
  readonly dropout?: number;
}

/** Stages of the paper's table 2: expansion, channels, blocks, stride of the first block. */
const STAGES = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

/** Expands, filters each channel, projects; a shortcut joins the narrow ends. */
class InvertedResidual extends nn.Module {
  readonly conv: nn.Sequential;
  readonly hasShortcut: boolean;

  constructor(inChannels: number, outChannels: number, stride: number, expansion: number) {
    super();
    const hidden = inChannels * expansion;
    const activation = relu6;
    this.hasShortcut = stride === 1 && inChannels === outChannels;
    this.conv = new nn.Sequential(
      ...(expansion === 1 ? [] : [convNorm(inChannels, hidden, 1, { activation })]),
      convNorm(hidden, hidden, 3, { stride, groups: hidden, activation }),
      conv(hidden, outChannels, 1),
      new nn.BatchNorm2d(outChannels),
    );
  }

  forward(x: Tensor): Tensor {
    const y = this.conv.forward(x);
    return this.hasShortcut ? y.add(x) : y;
  }
}

/**
 * MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381): images [batch, 3, height,
 * width] to scores [batch, numClasses].
 */
export class MobileNetV2 extends nn.Module {
  readonly features: nn.Sequential;
  readonly classifier: nn.Sequential;

  constructor(options: MobileNetV2Options = {}) {
    super();
    const op = 'vision.MobileNetV2';
    const { numClasses = 1000, dropout = 0.2 } = options;
    const width = checkWidth(op, options.widthMult ?? 1);
    const activation = relu6;
    let channels = makeDivisible(32 * width);
    this.features = new nn.Sequential(convNorm(3, channels, 3, { stride: 2, activation }));
    for (const [expansion, base, count, firstStride] of STAGES) {
      const outChannels = makeDivisible(base * width);
      for (let i = 0; i < count; i++) {
        const stride = i === 0 ? firstStride : 1;
        this.features.append(new InvertedResidual(channels, outChannels, stride, expansion));
        channels = outChannels;
      }
    }
    const last = makeDivisible(1280 * Math.max(1, width));
    this.features.append(convNorm(channels, last, 1, { activation }));
    this.classifier = new nn.Sequential(
      new nn.Dropout(dropout),
      linear(last, checkInteger(op, 'numClasses', numClasses, 1)),
    );
    initialize(this, { convolution: fanOutNormal, linear: smallNormal });
  }

  forward(images: Tensor): Tensor {
    return this.classifier.forward(this.features.forward(images).mean([2, 3]));
  }
}

/**
 * MobileNetV2 (Sandler et al. 2018): [batch, 3, height, width] to [batch, numClasses]; 3.5 million
 * parameters.
 *
 * @example
 * const model = mobilenetV2({ numClasses: 10, widthMult: 0.25 });
 * model.forward(zeros([2, 3, 32, 32])).shape; // => [2, 10]
 */
export function mobilenetV2(options: MobileNetV2Options = {}): MobileNetV2 {
  return new MobileNetV2(options);
}
