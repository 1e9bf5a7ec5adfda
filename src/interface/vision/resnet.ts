// ResNet (He et al. 2016) and ResNeXt (Xie et al. 2017).
import { ArgumentError } from '../../base/errors.ts';
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type ClassifierOptions, conv, convNorm, fanOutNormal, initialize } from './blocks.ts';

export interface ResNetOptions extends ClassifierOptions {
  /**
   * `imagenet` (default): 7x7 convolution of stride 2 and max pooling, to a quarter of the size.
   * `cifar`: 3x3 convolution of stride 1 and no pooling, for images of some 32 pixels.
   */
  readonly stem?: 'imagenet' | 'cifar';
  /** Whether each block starts as the identity (Goyal et al. 2017): its last weight is 0. */
  readonly zeroInitResidual?: boolean;
}

/** How blocks are made; the named models fix it. */
export interface ResNetLayout {
  readonly block: 'basic' | 'bottleneck';
  /** Blocks in each of the four stages. */
  readonly layers: readonly [number, number, number, number];
  /** Groups of the 3x3 convolutions of bottlenecks; default 1. */
  readonly groups?: number;
  /** Channels per group in the first stage; default 64. */
  readonly widthPerGroup?: number;
}

interface BlockSizes {
  readonly inChannels: number;
  readonly channels: number;
  readonly stride: number;
  readonly width: number;
  readonly groups: number;
}

/** Brings the input to the shape of the output where they differ. */
function shortcut(sizes: BlockSizes, outChannels: number): nn.Sequential | null {
  const { inChannels, stride } = sizes;
  if (stride === 1 && inChannels === outChannels) return null;
  return convNorm(inChannels, outChannels, 1, { stride });
}

/** Two 3x3 convolutions beside a shortcut. */
class BasicBlock extends nn.Module {
  readonly conv1: nn.Conv2d;
  readonly bn1: nn.BatchNorm2d;
  readonly conv2: nn.Conv2d;
  readonly bn2: nn.BatchNorm2d;
  readonly downsample: nn.Sequential | null;

  constructor(sizes: BlockSizes) {
    super();
    const { inChannels, channels, stride } = sizes;
    this.conv1 = conv(inChannels, channels, 3, { stride });
    this.bn1 = new nn.BatchNorm2d(channels);
    this.conv2 = conv(channels, channels, 3);
    this.bn2 = new nn.BatchNorm2d(channels);
    this.downsample = shortcut(sizes, channels);
  }

  /** The weight that is 0 where the block starts as the identity. */
  get lastNorm(): nn.BatchNorm2d {
    return this.bn2;
  }

  forward(x: Tensor): Tensor {
    const inner = F.relu(this.bn1.forward(this.conv1.forward(x)));
    const residual = this.bn2.forward(this.conv2.forward(inner));
    return F.relu(residual.add(this.downsample?.forward(x) ?? x));
  }
}

/** A 3x3 convolution between two 1x1 beside a shortcut; the 3x3 has the stride (version 1.5). */
class Bottleneck extends nn.Module {
  readonly conv1: nn.Conv2d;
  readonly bn1: nn.BatchNorm2d;
  readonly conv2: nn.Conv2d;
  readonly bn2: nn.BatchNorm2d;
  readonly conv3: nn.Conv2d;
  readonly bn3: nn.BatchNorm2d;
  readonly downsample: nn.Sequential | null;

  constructor(sizes: BlockSizes) {
    super();
    const { inChannels, channels, stride, width, groups } = sizes;
    this.conv1 = conv(inChannels, width, 1);
    this.bn1 = new nn.BatchNorm2d(width);
    this.conv2 = conv(width, width, 3, { stride, groups });
    this.bn2 = new nn.BatchNorm2d(width);
    this.conv3 = conv(width, 4 * channels, 1);
    this.bn3 = new nn.BatchNorm2d(4 * channels);
    this.downsample = shortcut(sizes, 4 * channels);
  }

  /** The weight that is 0 where the block starts as the identity. */
  get lastNorm(): nn.BatchNorm2d {
    return this.bn3;
  }

  forward(x: Tensor): Tensor {
    let inner = F.relu(this.bn1.forward(this.conv1.forward(x)));
    inner = F.relu(this.bn2.forward(this.conv2.forward(inner)));
    const residual = this.bn3.forward(this.conv3.forward(inner));
    return F.relu(residual.add(this.downsample?.forward(x) ?? x));
  }
}

/** Stage 0 to 3 of a network: its first block halves the size, except in stage 0. */
function makeStage(stage: number, layout: ResNetLayout): nn.Sequential {
  const { groups = 1, widthPerGroup = 64 } = layout;
  const isBasic = layout.block === 'basic';
  const expansion = isBasic ? 1 : 4;
  const channels = 64 << stage;
  const width = Math.floor((channels * widthPerGroup) / 64) * groups;
  const count = checkInteger('vision.ResNet', 'layers', layout.layers[stage] ?? 0, 1);
  const blocks = Array.from({ length: count }, (_, i) => {
    const before = stage === 0 ? 64 : (channels / 2) * expansion;
    const inChannels = i === 0 ? before : channels * expansion;
    const stride = i === 0 && stage > 0 ? 2 : 1;
    const sizes = { inChannels, channels, stride, width, groups };
    return isBasic ? new BasicBlock(sizes) : new Bottleneck(sizes);
  });
  return new nn.Sequential(...blocks);
}

/**
 * Residual network (He et al. 2016, https://arxiv.org/abs/1512.03385): images [batch, 3, height,
 * width] to scores [batch, numClasses]. Throws ArgumentError where the layout is impossible.
 *
 * @example
 * const layout = { block: 'basic', layers: [1, 1, 1, 1] } as const; // resnet10
 * const model = new ResNet(layout, { numClasses: 10, stem: 'cifar' });
 * model.forward(zeros([2, 3, 16, 16])).shape; // => [2, 10]
 */
export class ResNet extends nn.Module {
  readonly conv1: nn.Conv2d;
  readonly bn1 = new nn.BatchNorm2d(64);
  readonly maxpool: nn.Layer;
  readonly layer1: nn.Sequential;
  readonly layer2: nn.Sequential;
  readonly layer3: nn.Sequential;
  readonly layer4: nn.Sequential;
  readonly avgpool = new nn.AdaptiveAvgPool2d(1);
  readonly fc: nn.Linear;

  constructor(layout: ResNetLayout, options: ResNetOptions = {}) {
    super();
    const { numClasses = 1000, stem = 'imagenet', zeroInitResidual = false } = options;
    if (stem !== 'imagenet' && stem !== 'cifar') {
      throw new ArgumentError(`stem must be 'imagenet' or 'cifar', got '${String(stem)}'`, {
        op: 'vision.ResNet',
      });
    }
    const { block, groups = 1, widthPerGroup = 64 } = layout;
    if (block === 'basic' && (groups !== 1 || widthPerGroup !== 64)) {
      throw new ArgumentError('basic blocks have one group of width 64', {
        op: 'vision.ResNet',
        hint: "block: 'bottleneck'",
      });
    }
    const isSmall = stem === 'cifar';
    this.conv1 = isSmall ? conv(3, 64, 3) : conv(3, 64, 7, { stride: 2 });
    this.maxpool = isSmall ? new nn.Identity() : new nn.MaxPool2d(3, { stride: 2, padding: 1 });
    this.layer1 = makeStage(0, layout);
    this.layer2 = makeStage(1, layout);
    this.layer3 = makeStage(2, layout);
    this.layer4 = makeStage(3, layout);
    this.fc = new nn.Linear(block === 'basic' ? 512 : 2048, numClasses);
    initialize(this, { convolution: fanOutNormal });
    if (zeroInitResidual) this.#zeroResiduals();
  }

  #zeroResiduals(): void {
    for (const module of this.modules()) {
      const isBlock = module instanceof BasicBlock || module instanceof Bottleneck;
      const weight = isBlock ? module.lastNorm.weight : null;
      if (weight !== null) nn.init.zeros(weight);
    }
  }

  forward(images: Tensor): Tensor {
    let x = F.relu(this.bn1.forward(this.conv1.forward(images)));
    x = this.maxpool.forward(x);
    for (const stage of [this.layer1, this.layer2, this.layer3, this.layer4]) x = stage.forward(x);
    return this.fc.forward(this.avgpool.forward(x).flatten(1));
  }
}

/**
 * ResNet-18 (He et al. 2016): [batch, 3, height, width] to [batch, numClasses]; 11.7 million
 * parameters.
 *
 * @example no-run: draws eleven million numbers
 * const model = resnet18({ numClasses: 10, stem: 'cifar' });
 * model.forward(zeros([8, 3, 32, 32])).shape; // => [8, 10]
 */
export function resnet18(options: ResNetOptions = {}): ResNet {
  return new ResNet({ block: 'basic', layers: [2, 2, 2, 2] }, options);
}

/** ResNet-34 (He et al. 2016): [batch, 3, h, w] to [batch, numClasses]; 21.8 million parameters. */
export function resnet34(options: ResNetOptions = {}): ResNet {
  return new ResNet({ block: 'basic', layers: [3, 4, 6, 3] }, options);
}

/** ResNet-50 (He et al. 2016): [batch, 3, h, w] to [batch, numClasses]; 25.6 million parameters. */
export function resnet50(options: ResNetOptions = {}): ResNet {
  return new ResNet({ block: 'bottleneck', layers: [3, 4, 6, 3] }, options);
}

/** ResNet-101 (He et al. 2016): [batch, 3, h, w] to [batch, numClasses]; 44.5 million parameters. */
export function resnet101(options: ResNetOptions = {}): ResNet {
  return new ResNet({ block: 'bottleneck', layers: [3, 4, 23, 3] }, options);
}

/** ResNet-152 (He et al. 2016): [batch, 3, h, w] to [batch, numClasses]; 60.2 million parameters. */
export function resnet152(options: ResNetOptions = {}): ResNet {
  return new ResNet({ block: 'bottleneck', layers: [3, 8, 36, 3] }, options);
}

/**
 * ResNeXt-50 with 32 groups of width 4 (Xie et al. 2017, https://arxiv.org/abs/1611.05431):
 * [batch, 3, h, w] to [batch, numClasses]; 25.0 million parameters.
 */
export function resnext50_32x4d(options: ResNetOptions = {}): ResNet {
  const layers = [3, 4, 6, 3] as const;
  return new ResNet({ block: 'bottleneck', layers, groups: 32, widthPerGroup: 4 }, options);
}

/**
 * ResNeXt-101 with 32 groups of width 8 (Xie et al. 2017): [batch, 3, h, w] to [batch, numClasses];
 * 88.8 million parameters.
 */
export function resnext101_32x8d(options: ResNetOptions = {}): ResNet {
  const layers = [3, 4, 23, 3] as const;
  return new ResNet({ block: 'bottleneck', layers, groups: 32, widthPerGroup: 8 }, options);
}
