// EfficientNet-B0 (Tan and Le 2019).
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  type ClassifierOptions,
  convNorm,
  fanOutNormal,
  initialize,
  linear,
  silu,
  SqueezeExcitation,
  StochasticDepth,
} from './blocks.ts';

export interface EfficientNetOptions extends ClassifierOptions {
  /** Before the classifier; default 0.2. */
  readonly dropout?: number;
  /**
   * Probability that the last block is left out for an image in training; it grows in even steps from
   * 0 at the first. Default 0.2.
   */
  readonly stochasticDepth?: number;
}

/** Stages of the paper's table 1: expansion, kernel, stride of the first block, channels, blocks. */
const STAGES = [
  [1, 3, 1, 16, 1],
  [6, 3, 2, 24, 2],
  [6, 5, 2, 40, 2],
  [6, 3, 2, 80, 3],
  [6, 5, 1, 112, 3],
  [6, 5, 2, 192, 4],
  [6, 3, 1, 320, 1],
] as const;

interface BlockSizes {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly expansion: number;
  readonly kernel: number;
  readonly stride: number;
}

/** Expands, filters each channel, gates, projects; a shortcut joins the narrow ends. */
class MBConv extends nn.Module {
  readonly block: nn.Sequential;
  readonly stochasticDepth: StochasticDepth;
  readonly hasShortcut: boolean;

  constructor(sizes: BlockSizes, dropped: number) {
    super();
    const { inChannels, outChannels, expansion, kernel, stride } = sizes;
    const expanded = inChannels * expansion;
    const squeezed = Math.max(1, Math.floor(inChannels / 4));
    this.hasShortcut = stride === 1 && inChannels === outChannels;
    this.block = new nn.Sequential(
      ...(expansion === 1 ? [] : [convNorm(inChannels, expanded, 1, { activation: silu })]),
      convNorm(expanded, expanded, kernel, { stride, groups: expanded, activation: silu }),
      new SqueezeExcitation(expanded, squeezed, { activation: silu }),
      convNorm(expanded, outChannels, 1),
    );
    this.stochasticDepth = new StochasticDepth(dropped);
  }

  forward(x: Tensor): Tensor {
    const y = this.block.forward(x);
    return this.hasShortcut ? this.stochasticDepth.forward(y).add(x) : y;
  }
}

/**
 * EfficientNet-B0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946): images [batch, 3, height,
 * width] to scores [batch, numClasses].
 */
export class EfficientNet extends nn.Module {
  readonly features: nn.Sequential;
  readonly avgpool = new nn.AdaptiveAvgPool2d(1);
  readonly classifier: nn.Sequential;

  constructor(options: EfficientNetOptions = {}) {
    super();
    const { numClasses = 1000, dropout = 0.2, stochasticDepth = 0.2 } = options;
    const total = STAGES.reduce((sum, [, , , , count]) => sum + count, 0);
    let made = 0;
    let inChannels = 32;
    this.features = new nn.Sequential(convNorm(3, inChannels, 3, { stride: 2, activation: silu }));
    for (const [expansion, kernel, firstStride, outChannels, count] of STAGES) {
      const stage = new nn.Sequential();
      for (let i = 0; i < count; i++) {
        const stride = i === 0 ? firstStride : 1;
        const sizes = { inChannels, outChannels, expansion, kernel, stride };
        stage.append(new MBConv(sizes, (stochasticDepth * made) / total));
        made += 1;
        inChannels = outChannels;
      }
      this.features.append(stage);
    }
    this.features.append(convNorm(inChannels, 4 * inChannels, 1, { activation: silu }));
    this.classifier = new nn.Sequential(
      new nn.Dropout(dropout),
      linear(4 * inChannels, checkInteger('vision.EfficientNet', 'numClasses', numClasses, 1)),
    );
    const bound = 1 / Math.sqrt(numClasses);
    initialize(this, {
      convolution: fanOutNormal,
      linear: (weight) => nn.init.uniform(weight, -bound, bound),
    });
  }

  forward(images: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(images)).flatten(1));
  }
}

/**
 * EfficientNet-B0 (Tan and Le 2019): [batch, 3, height, width] to [batch, numClasses]; 5.3 million
 * parameters.
 *
 * @example no-run: draws four million numbers
 * const model = efficientnetB0({ numClasses: 10 });
 * model.forward(zeros([2, 3, 64, 64])).shape; // => [2, 10]
 */
export function efficientnetB0(options: EfficientNetOptions = {}): EfficientNet {
  return new EfficientNet(options);
}
