// Layers that resize.
import * as F from '../functional/index.ts';
import type { Sizes } from '../functional/windows.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

export type UpsampleOptions = Omit<F.InterpolateOptions, 'antialias'>;

/**
 * Resizes the space axes: see `F.interpolate`.
 *
 * @example
 * ```ts
 * const up = new nn.Upsample({ scaleFactor: 2, mode: 'bilinear' });
 * up.forward(ones(1, 3, 4, 4)).shape; // => [1, 3, 8, 8]
 * ```
 */
export class Upsample extends Module {
  readonly options: UpsampleOptions;

  constructor(options: UpsampleOptions) {
    super();
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return F.interpolate(x, this.options);
  }

  override describe(): string {
    const { size, scaleFactor, mode = 'nearest' } = this.options;
    const target = size ?? scaleFactor;
    const name = size === undefined || size === null ? 'scaleFactor' : 'size';
    return `${this.constructor.name}(${name}: ${String(target)}, mode: ${mode})`;
  }
}

/** Where an upsampling goes: to a size, or by a factor. */
export interface UpsampleTarget {
  readonly size?: Sizes;
  readonly scaleFactor?: Sizes;
}

/** Resizes images by repeating pixels. */
export class UpsamplingNearest2d extends Upsample {
  constructor(target: UpsampleTarget) {
    super({ ...target, mode: 'nearest' });
  }
}

/** Resizes images bilinearly; the corner pixels stay where they are. */
export class UpsamplingBilinear2d extends Upsample {
  constructor(target: UpsampleTarget) {
    super({ ...target, mode: 'bilinear', alignCorners: true });
  }
}
