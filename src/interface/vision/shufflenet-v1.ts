// ShuffleNet, the first (Zhang et al. 2018). torchvision has none: the names here are our own.
import { ArgumentError } from '../../base/errors.ts';
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { cat } from '../tensor/joining.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkWidth, type ClassifierOptions } from './blocks.ts';

/** Channels of stages 2 to 4 by number of groups: the paper's table 1. */
const CHANNELS = {
  1: [144, 288, 576],
  2: [200, 400, 800],
  3: [240, 480, 960],
  4: [272, 544, 1088],
  8: [384, 768, 1536],
} as const;

/** Blocks in stages 2 to 4. */
const REPEATS = [4, 8, 4] as const;

export interface ShuffleNetV1Options extends ClassifierOptions {
  /** Groups of the 1x1 convolutions; default 3. */
  readonly groups?: keyof typeof CHANNELS;
  /** Factor of all numbers of channels: the paper's are 0.25, 0.5, 1, 1.5 and 2. Default 1. */
  readonly widthMult?: number;
}

interface UnitSizes {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly stride: 1 | 2;
  readonly groups: number;
  /** Groups of the first convolution: 1 in the first unit, which has few channels. */
  readonly firstGroups: number;
}

/** Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1, beside a shortcut; stride 2 appends it. */
class ShuffleUnit extends nn.Module {
  readonly conv1: nn.Conv2d;
  readonly bn1: nn.BatchNorm2d;
  readonly conv2: nn.Conv2d;
  readonly bn2: nn.BatchNorm2d;
  readonly conv3: nn.Conv2d;
  readonly bn3: nn.BatchNorm2d;
  readonly stride: 1 | 2;
  readonly groups: number;

  constructor(sizes: UnitSizes) {
    super();
    const { inChannels, outChannels, stride, groups, firstGroups } = sizes;
    const hidden = outChannels / 4;
    // The shortcut of stride 2 brings the other channels.
    const own = stride === 2 ? outChannels - inChannels : outChannels;
    const depthwise = { stride, padding: 1, groups: hidden, bias: false };
    this.stride = stride;
    this.groups = groups;
    this.conv1 = new nn.Conv2d(inChannels, hidden, 1, { groups: firstGroups, bias: false });
    this.bn1 = new nn.BatchNorm2d(hidden);
    this.conv2 = new nn.Conv2d(hidden, hidden, 3, depthwise);
    this.bn2 = new nn.BatchNorm2d(hidden);
    this.conv3 = new nn.Conv2d(hidden, own, 1, { groups, bias: false });
    this.bn3 = new nn.BatchNorm2d(own);
  }

  forward(x: Tensor): Tensor {
    let y = F.relu(this.bn1.forward(this.conv1.forward(x)));
    y = this.bn2.forward(this.conv2.forward(F.channelShuffle(y, this.groups)));
    y = this.bn3.forward(this.conv3.forward(y));
    if (this.stride === 1) return F.relu(y.add(x));
    return F.relu(cat([F.avgPool2d(x, 3, { stride: 2, padding: 1 }), y], 1));
  }
}

/**
 * ShuffleNet (Zhang et al. 2018, https://arxiv.org/abs/1707.01083): images [batch, 3, height, width]
 * to scores [batch, numClasses]. Throws ArgumentError where width and groups do not fit.
 */
export class ShuffleNetV1 extends nn.Module {
  readonly conv1: nn.Conv2d;
  readonly bn1: nn.BatchNorm2d;
  readonly maxpool = new nn.MaxPool2d(3, { stride: 2, padding: 1 });
  readonly stage2: nn.Sequential;
  readonly stage3: nn.Sequential;
  readonly stage4: nn.Sequential;
  readonly fc: nn.Linear;

  constructor(options: ShuffleNetV1Options = {}) {
    super();
    const op = 'vision.ShuffleNetV1';
    const { numClasses = 1000, groups = 3 } = options;
    if (!Object.hasOwn(CHANNELS, groups)) {
      throw new ArgumentError(`groups must be 1, 2, 3, 4 or 8, got ${String(groups)}`, { op });
    }
    const width = checkWidth(op, options.widthMult ?? 1);
    const [second, third, fourth] = CHANNELS[groups].map((channels) => channels * width) as [
      number,
      number,
      number,
    ];
    const stem = 24 * width;
    if ([stem, second / 4 / groups].some((size) => !Number.isInteger(size))) {
      throw new ArgumentError(`widthMult ${width} and ${groups} groups give no whole channels`, {
        op,
        hint: 'the paper has 0.25, 0.5, 1, 1.5 and 2 with 3 groups',
      });
    }
    this.conv1 = new nn.Conv2d(3, stem, 3, { stride: 2, padding: 1, bias: false });
    this.bn1 = new nn.BatchNorm2d(stem);
    this.stage2 = ShuffleNetV1.#stage(stem, second, groups, 0);
    this.stage3 = ShuffleNetV1.#stage(second, third, groups, 1);
    this.stage4 = ShuffleNetV1.#stage(third, fourth, groups, 2);
    this.fc = new nn.Linear(fourth, numClasses);
  }

  static #stage(before: number, outChannels: number, groups: number, stage: 0 | 1 | 2) {
    const units = Array.from({ length: REPEATS[stage] }, (_, i) => {
      const stride = i === 0 ? 2 : 1;
      const inChannels = i === 0 ? before : outChannels;
      const firstGroups = i === 0 && stage === 0 ? 1 : groups;
      return new ShuffleUnit({ inChannels, outChannels, stride, groups, firstGroups });
    });
    return new nn.Sequential(...units);
  }

  forward(images: Tensor): Tensor {
    let x = this.maxpool.forward(F.relu(this.bn1.forward(this.conv1.forward(images))));
    for (const stage of [this.stage2, this.stage3, this.stage4]) x = stage.forward(x);
    return this.fc.forward(x.mean([2, 3]));
  }
}

/**
 * ShuffleNet (Zhang et al. 2018): [batch, 3, height, width] to [batch, numClasses]; 1.9 million
 * parameters with 3 groups.
 *
 * @example
 * const model = shufflenetV1({ numClasses: 10, groups: 3, widthMult: 0.25 });
 * model.forward(zeros([2, 3, 32, 32])).shape; // => [2, 10]
 */
export function shufflenetV1(options: ShuffleNetV1Options = {}): ShuffleNetV1 {
  return new ShuffleNetV1(options);
}
