// ShuffleNetV2 (Ma et al. 2018).
import { ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { cat } from '../tensor/joining.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { ClassifierOptions } from './blocks.ts';

export type ShuffleNetV2Options = ClassifierOptions;

/** Channels of stem, of stages 2 to 4, and of the last convolution. */
export type ShuffleNetV2Channels = readonly [number, number, number, number, number];

/** Blocks in stages 2 to 4. */
const REPEATS = [4, 8, 4] as const;

/** PyTorch's own start of convolutions: this family keeps it. */
function pointwise(inChannels: number, outChannels: number): nn.Layer[] {
  return [
    new nn.Conv2d(inChannels, outChannels, 1, { bias: false }),
    new nn.BatchNorm2d(outChannels),
    new nn.ReLU(),
  ];
}

function depthwise(channels: number, stride: number): nn.Layer[] {
  const options = { stride, padding: 1, groups: channels, bias: false };
  return [new nn.Conv2d(channels, channels, 3, options), new nn.BatchNorm2d(channels)];
}

/** Two branches whose channels are shuffled; at stride 1 one of them passes half the input on. */
class InvertedResidual extends nn.Module {
  readonly branch1: nn.Sequential;
  readonly branch2: nn.Sequential;
  readonly stride: number;

  constructor(inChannels: number, outChannels: number, stride: number) {
    super();
    const half = outChannels / 2;
    this.stride = stride;
    this.branch1 = new nn.Sequential(
      ...(stride === 1 ? [] : [...depthwise(inChannels, stride), ...pointwise(inChannels, half)]),
    );
    this.branch2 = new nn.Sequential(
      ...pointwise(stride === 1 ? half : inChannels, half),
      ...depthwise(half, stride),
      ...pointwise(half, half),
    );
  }

  forward(x: Tensor): Tensor {
    const [left, right] = this.stride === 1 ? x.chunk(2, 1) : [x, x];
    if (left === undefined || right === undefined) {
      throw new ShapeError(`no channels to split in ${formatShape(x.shape)}`, {
        op: 'vision.ShuffleNetV2',
      });
    }
    const joined = cat([this.branch1.forward(left), this.branch2.forward(right)], 1);
    return F.channelShuffle(joined, 2);
  }
}

/**
 * ShuffleNetV2 (Ma et al. 2018, https://arxiv.org/abs/1807.11164): images [batch, 3, height, width]
 * to scores [batch, numClasses].
 *
 * @example
 * const model = new ShuffleNetV2([8, 16, 32, 64, 128], { numClasses: 10 });
 * model.forward(zeros([2, 3, 32, 32])).shape; // => [2, 10]
 */
export class ShuffleNetV2 extends nn.Module {
  readonly conv1: nn.Sequential;
  readonly maxpool = new nn.MaxPool2d(3, { stride: 2, padding: 1 });
  readonly stage2: nn.Sequential;
  readonly stage3: nn.Sequential;
  readonly stage4: nn.Sequential;
  readonly conv5: nn.Sequential;
  readonly fc: nn.Linear;

  constructor(channels: ShuffleNetV2Channels, options: ShuffleNetV2Options = {}) {
    super();
    const [stem, second, third, fourth, last] = channels;
    this.conv1 = new nn.Sequential(
      new nn.Conv2d(3, stem, 3, { stride: 2, padding: 1, bias: false }),
      new nn.BatchNorm2d(stem),
      new nn.ReLU(),
    );
    this.stage2 = ShuffleNetV2.#stage(stem, second, REPEATS[0]);
    this.stage3 = ShuffleNetV2.#stage(second, third, REPEATS[1]);
    this.stage4 = ShuffleNetV2.#stage(third, fourth, REPEATS[2]);
    this.conv5 = new nn.Sequential(...pointwise(fourth, last));
    this.fc = new nn.Linear(last, options.numClasses ?? 1000);
  }

  static #stage(inChannels: number, outChannels: number, count: number): nn.Sequential {
    const blocks = Array.from({ length: count - 1 }, () => {
      return new InvertedResidual(outChannels, outChannels, 1);
    });
    return new nn.Sequential(new InvertedResidual(inChannels, outChannels, 2), ...blocks);
  }

  forward(images: Tensor): Tensor {
    let x = this.maxpool.forward(this.conv1.forward(images));
    for (const part of [this.stage2, this.stage3, this.stage4, this.conv5]) x = part.forward(x);
    return this.fc.forward(x.mean([2, 3]));
  }
}

/** ShuffleNetV2 of half the width: [batch, 3, h, w] to [batch, numClasses]; 1.4 million parameters. */
export function shufflenetV2_x0_5(options: ShuffleNetV2Options = {}): ShuffleNetV2 {
  return new ShuffleNetV2([24, 48, 96, 192, 1024], options);
}

/** ShuffleNetV2: [batch, 3, h, w] to [batch, numClasses]; 2.3 million parameters. */
export function shufflenetV2_x1_0(options: ShuffleNetV2Options = {}): ShuffleNetV2 {
  return new ShuffleNetV2([24, 116, 232, 464, 1024], options);
}

/** ShuffleNetV2 of 1.5 times the width: [batch, 3, h, w] to [batch, numClasses]; 3.5 million parameters. */
export function shufflenetV2_x1_5(options: ShuffleNetV2Options = {}): ShuffleNetV2 {
  return new ShuffleNetV2([24, 176, 352, 704, 1024], options);
}

/** ShuffleNetV2 of twice the width: [batch, 3, h, w] to [batch, numClasses]; 7.4 million parameters. */
export function shufflenetV2_x2_0(options: ShuffleNetV2Options = {}): ShuffleNetV2 {
  return new ShuffleNetV2([24, 244, 488, 976, 2048], options);
}
