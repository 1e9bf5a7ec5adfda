// SqueezeNet 1.0 and 1.1 (Iandola et al. 2016).
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { cat } from '../tensor/joining.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type ClassifierOptions, conv, initialize } from './blocks.ts';

export interface SqueezeNetOptions extends ClassifierOptions {
  /** Before the classifier; default 0.5. */
  readonly dropout?: number;
}

/** Squeezes to few channels, then expands by 1x1 and by 3x3 convolutions side by side. */
class Fire extends nn.Module {
  readonly squeeze: nn.Conv2d;
  readonly expand1x1: nn.Conv2d;
  readonly expand3x3: nn.Conv2d;

  /** `expanded`: channels of each half of the result. */
  constructor(inChannels: number, squeezed: number, expanded: number) {
    super();
    this.squeeze = conv(inChannels, squeezed, 1, { bias: true });
    this.expand1x1 = conv(squeezed, expanded, 1, { bias: true });
    this.expand3x3 = conv(squeezed, expanded, 3, { bias: true });
  }

  forward(x: Tensor): Tensor {
    const squeezed = F.relu(this.squeeze.forward(x));
    const halves = [this.expand1x1.forward(squeezed), this.expand3x3.forward(squeezed)];
    return F.relu(cat(halves, 1));
  }
}

const pool = (): nn.Layer => new nn.MaxPool2d(3, { stride: 2, ceilMode: true });

/** Squeezed channels, and those of each expansion, of fires 2 to 9. */
const FIRES = [
  [16, 64],
  [16, 64],
  [32, 128],
  [32, 128],
  [48, 192],
  [48, 192],
  [64, 256],
  [64, 256],
] as const;

/** Number of channels of the stem, its kernel, and the fires behind which pools stand. */
const VERSIONS = {
  '1.0': { stem: 96, kernel: 7, pools: [2, 6] },
  '1.1': { stem: 64, kernel: 3, pools: [1, 3] },
} as const;

/**
 * SqueezeNet (Iandola et al. 2016, https://arxiv.org/abs/1602.07360): images [batch, 3, height,
 * width], of some 21 pixels or more, to scores [batch, numClasses], which are not negative.
 */
export class SqueezeNet extends nn.Module {
  readonly features: nn.Sequential;
  readonly classifier: nn.Sequential;

  constructor(version: '1.0' | '1.1', options: SqueezeNetOptions = {}) {
    super();
    const { numClasses = 1000, dropout = 0.5 } = options;
    const { stem, kernel, pools } = VERSIONS[version];
    const first = conv(3, stem, kernel, { stride: 2, padding: 0, bias: true });
    this.features = new nn.Sequential(first, new nn.ReLU(), pool());
    let channels: number = stem;
    for (const [i, [squeezed, expanded]] of FIRES.entries()) {
      this.features.append(new Fire(channels, squeezed, expanded));
      channels = 2 * expanded;
      if (i === pools[0] || i === pools[1]) this.features.append(pool());
    }
    const classes = checkInteger('vision.SqueezeNet', 'numClasses', numClasses, 1);
    const last = conv(channels, classes, 1, { bias: true });
    this.classifier = new nn.Sequential(
      new nn.Dropout(dropout),
      last,
      new nn.ReLU(),
      new nn.AdaptiveAvgPool2d(1),
    );
    initialize(this, {
      convolution: (weight) => {
        if (weight === last.weight) nn.init.normal(weight, 0, 0.01);
        else nn.init.kaimingUniform(weight);
      },
    });
  }

  forward(images: Tensor): Tensor {
    return this.classifier.forward(this.features.forward(images)).flatten(1);
  }
}

/**
 * SqueezeNet 1.0 (Iandola et al. 2016): [batch, 3, h, w] to [batch, numClasses]; 1.2 million
 * parameters.
 *
 * @example
 * squeezenet1_0({ numClasses: 10 }).forward(zeros([1, 3, 32, 32])).shape; // => [1, 10]
 */
export function squeezenet1_0(options: SqueezeNetOptions = {}): SqueezeNet {
  return new SqueezeNet('1.0', options);
}

/**
 * SqueezeNet 1.1: as 1.0 at 2.4 times fewer operations; [batch, 3, h, w] to [batch, numClasses]; 1.2
 * million parameters.
 */
export function squeezenet1_1(options: SqueezeNetOptions = {}): SqueezeNet {
  return new SqueezeNet('1.1', options);
}
