// VGG (Simonyan and Zisserman 2015), with and without batch normalization.
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  type ClassifierOptions,
  conv,
  fanOutNormal,
  initialize,
  linear,
  smallNormal,
} from './blocks.ts';

export interface VGGOptions extends ClassifierOptions {
  /** After both hidden layers of the classifier; default 0.5. */
  readonly dropout?: number;
}

/** What the named models fix. */
export interface VGGLayout {
  /** Convolutions in each of the five stages. */
  readonly layers: readonly [number, number, number, number, number];
  /** Whether batch normalization follows each convolution; default false. */
  readonly batchNorm?: boolean;
}

const CHANNELS = [64, 128, 256, 512, 512] as const;

/**
 * VGG (Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556): images [batch, 3, height,
 * width], of 32 pixels or more, to scores [batch, numClasses]. The classifier alone has 120 million
 * parameters: `nn.init.skip` leaves out drawing them where they are loaded.
 */
export class VGG extends nn.Module {
  readonly features = new nn.Sequential();
  readonly avgpool = new nn.AdaptiveAvgPool2d(7);
  readonly classifier: nn.Sequential;

  constructor(layout: VGGLayout, options: VGGOptions = {}) {
    super();
    const op = 'vision.VGG';
    const { numClasses = 1000, dropout = 0.5 } = options;
    let channels = 3;
    for (const [stage, outChannels] of CHANNELS.entries()) {
      const count = checkInteger(op, 'layers', layout.layers[stage] ?? 0, 1);
      for (let i = 0; i < count; i++) {
        this.features.append(conv(channels, outChannels, 3, { bias: true }));
        if (layout.batchNorm === true) this.features.append(new nn.BatchNorm2d(outChannels));
        this.features.append(new nn.ReLU());
        channels = outChannels;
      }
      this.features.append(new nn.MaxPool2d(2));
    }
    this.classifier = new nn.Sequential(
      linear(channels * 7 * 7, 4096),
      new nn.ReLU(),
      new nn.Dropout(dropout),
      linear(4096, 4096),
      new nn.ReLU(),
      new nn.Dropout(dropout),
      linear(4096, checkInteger(op, 'numClasses', numClasses, 1)),
    );
    initialize(this, { convolution: fanOutNormal, linear: smallNormal });
  }

  forward(images: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(images)).flatten(1));
  }
}

/**
 * VGG-11 (Simonyan and Zisserman 2015): [batch, 3, h, w] to [batch, numClasses]; 133 million
 * parameters.
 *
 * @example no-run: half a gigabyte of weights
 * const model = nn.init.skip(() => vgg11({ numClasses: 10 }));
 * model.forward(zeros([1, 3, 64, 64])).shape; // => [1, 10]
 */
export function vgg11(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [1, 1, 2, 2, 2] }, options);
}

/** VGG-13: [batch, 3, h, w] to [batch, numClasses]; 133 million parameters. */
export function vgg13(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [2, 2, 2, 2, 2] }, options);
}

/** VGG-16: [batch, 3, h, w] to [batch, numClasses]; 138 million parameters. */
export function vgg16(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [2, 2, 3, 3, 3] }, options);
}

/** VGG-19: [batch, 3, h, w] to [batch, numClasses]; 144 million parameters. */
export function vgg19(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [2, 2, 4, 4, 4] }, options);
}

/** VGG-11 with batch normalization (Ioffe and Szegedy 2015). */
export function vgg11Bn(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [1, 1, 2, 2, 2], batchNorm: true }, options);
}

/** VGG-13 with batch normalization (Ioffe and Szegedy 2015). */
export function vgg13Bn(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [2, 2, 2, 2, 2], batchNorm: true }, options);
}

/** VGG-16 with batch normalization (Ioffe and Szegedy 2015). */
export function vgg16Bn(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [2, 2, 3, 3, 3], batchNorm: true }, options);
}

/** VGG-19 with batch normalization (Ioffe and Szegedy 2015). */
export function vgg19Bn(options: VGGOptions = {}): VGG {
  return new VGG({ layers: [2, 2, 4, 4, 4], batchNorm: true }, options);
}
