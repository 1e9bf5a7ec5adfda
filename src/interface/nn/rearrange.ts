// Layers that move elements: padding, pixel and channel shuffles, sliding blocks.
import * as F from '../functional/index.ts';
import type { Sizes } from '../functional/windows.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

type Sides = number | readonly number[];

abstract class Padding extends Module {
  /** Sizes of the sides, the last axis first: [left, right, top, bottom, ...]. */
  readonly padding: readonly number[];

  constructor(axes: number, padding: Sides) {
    super();
    this.padding =
      typeof padding === 'number' ? Array.from({ length: 2 * axes }, () => padding) : padding;
  }

  override describe(): string {
    return `${this.constructor.name}([${this.padding.join(', ')}])`;
  }
}

/** Zeros around the last axis; one size, or [left, right]. */
export class ZeroPad1d extends Padding {
  constructor(padding: Sides) {
    super(1, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding);
  }
}

/** Zeros around the last two axes; one size, or [left, right, top, bottom]. */
export class ZeroPad2d extends Padding {
  constructor(padding: Sides) {
    super(2, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding);
  }
}

/** Zeros around the last three axes; one size, or [left, right, top, bottom, front, back]. */
export class ZeroPad3d extends Padding {
  constructor(padding: Sides) {
    super(3, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding);
  }
}

/** A mirror image around the last axis; one size, or [left, right]. */
export class ReflectionPad1d extends Padding {
  constructor(padding: Sides) {
    super(1, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'reflect' });
  }
}

/** A value around the last axis; one size, or [left, right]. */
export class ConstantPad1d extends Padding {
  readonly value: number;

  constructor(padding: Sides, value: number) {
    super(1, padding);
    this.value = value;
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { value: this.value });
  }
}

/** A value around the last two axes; one size, or [left, right, top, bottom]. */
export class ConstantPad2d extends Padding {
  readonly value: number;

  constructor(padding: Sides, value: number) {
    super(2, padding);
    this.value = value;
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { value: this.value });
  }
}

/** A value around the last three axes; one size, or [left, right, top, bottom, front, back]. */
export class ConstantPad3d extends Padding {
  readonly value: number;

  constructor(padding: Sides, value: number) {
    super(3, padding);
    this.value = value;
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { value: this.value });
  }
}

/** A mirror image around the last two axes; one size, or [left, right, top, bottom]. */
export class ReflectionPad2d extends Padding {
  constructor(padding: Sides) {
    super(2, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'reflect' });
  }
}

/** A mirror image around the last three axes; one size, or [left, right, top, bottom, front, back]. */
export class ReflectionPad3d extends Padding {
  constructor(padding: Sides) {
    super(3, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'reflect' });
  }
}

/** The edge repeated around the last axis; one size, or [left, right]. */
export class ReplicationPad1d extends Padding {
  constructor(padding: Sides) {
    super(1, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'replicate' });
  }
}

/** The edge repeated around the last two axes; one size, or [left, right, top, bottom]. */
export class ReplicationPad2d extends Padding {
  constructor(padding: Sides) {
    super(2, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'replicate' });
  }
}

/** The edge repeated around the last three axes; one size, or [left, right, top, bottom, front, back]. */
export class ReplicationPad3d extends Padding {
  constructor(padding: Sides) {
    super(3, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'replicate' });
  }
}

/** The other side around the last axis; one size, or [left, right]. */
export class CircularPad1d extends Padding {
  constructor(padding: Sides) {
    super(1, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'circular' });
  }
}

/** The other side around the last two axes; one size, or [left, right, top, bottom]. */
export class CircularPad2d extends Padding {
  constructor(padding: Sides) {
    super(2, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'circular' });
  }
}

/** The other side around the last three axes; one size, or [left, right, top, bottom, front, back]. */
export class CircularPad3d extends Padding {
  constructor(padding: Sides) {
    super(3, padding);
  }

  forward(x: Tensor): Tensor {
    return F.pad(x, this.padding, { mode: 'circular' });
  }
}

/** [.., c * r * r, h, w] to [.., c, h * r, w * r] (Shi et al. 2016). */
export class PixelShuffle extends Module {
  readonly upscaleFactor: number;

  constructor(upscaleFactor: number) {
    super();
    this.upscaleFactor = upscaleFactor;
  }

  forward(x: Tensor): Tensor {
    return F.pixelShuffle(x, this.upscaleFactor);
  }

  override describe(): string {
    return `PixelShuffle(upscaleFactor=${this.upscaleFactor})`;
  }
}

/** [.., c, h * r, w * r] to [.., c * r * r, h, w]. */
export class PixelUnshuffle extends Module {
  readonly downscaleFactor: number;

  constructor(downscaleFactor: number) {
    super();
    this.downscaleFactor = downscaleFactor;
  }

  forward(x: Tensor): Tensor {
    return F.pixelUnshuffle(x, this.downscaleFactor);
  }

  override describe(): string {
    return `PixelUnshuffle(downscaleFactor=${this.downscaleFactor})`;
  }
}

/** Deals the channels of each group out to all groups (Zhang et al. 2018). */
export class ChannelShuffle extends Module {
  readonly groups: number;

  constructor(groups: number) {
    super();
    this.groups = groups;
  }

  forward(x: Tensor): Tensor {
    return F.channelShuffle(x, this.groups);
  }

  override describe(): string {
    return `ChannelShuffle(groups=${this.groups})`;
  }
}

/** Sliding blocks of images as columns: [n, c, h, w] to [n, c * kernel, blocks]. */
export class Unfold extends Module {
  readonly kernelSize: Sizes;
  readonly #options: F.UnfoldOptions;

  constructor(kernelSize: Sizes, options: F.UnfoldOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.#options = options;
  }

  forward(x: Tensor): Tensor {
    return F.unfold(x, this.kernelSize, this.#options);
  }
}

/** Columns summed into images: [n, c * kernel, blocks] to [n, c, ...outputSize]. */
export class Fold extends Module {
  readonly outputSize: Sizes;
  readonly kernelSize: Sizes;
  readonly #options: F.UnfoldOptions;

  constructor(outputSize: Sizes, kernelSize: Sizes, options: F.UnfoldOptions = {}) {
    super();
    this.outputSize = outputSize;
    this.kernelSize = kernelSize;
    this.#options = options;
  }

  forward(x: Tensor): Tensor {
    return F.fold(x, this.outputSize, this.kernelSize, this.#options);
  }
}

/** Sliding blocks of images: [n, c, h, w] to [n, c, oh, ow, kh, kw]. */
export class SlidingWindow extends Module {
  readonly kernelSize: Sizes;
  readonly #options: F.UnfoldOptions;

  constructor(kernelSize: Sizes, options: F.UnfoldOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.#options = options;
  }

  forward(x: Tensor): Tensor {
    return F.slidingWindow(x, this.kernelSize, this.#options);
  }
}

/** Blocks summed into images: [n, c, oh, ow, kh, kw] to [n, c, ...outputSize]. */
export class SlidingWindowTranspose extends Module {
  readonly outputSize: Sizes;
  readonly kernelSize: Sizes;
  readonly #options: F.UnfoldOptions;

  constructor(outputSize: Sizes, kernelSize: Sizes, options: F.UnfoldOptions = {}) {
    super();
    this.outputSize = outputSize;
    this.kernelSize = kernelSize;
    this.#options = options;
  }

  forward(x: Tensor): Tensor {
    return F.slidingWindowTranspose(x, this.outputSize, this.kernelSize, this.#options);
  }
}
