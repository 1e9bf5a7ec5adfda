// Images moved: flips, turns, crops and borders, sizes, maps.
import { checkKeys, checkNumber, checkOption } from '../../../base/checks.ts';
import { ArgumentError } from '../../../base/errors.ts';
import { pad } from '../../functional/padding.ts';
import type { Sizes } from '../../functional/windows.ts';
import { describeOptions } from '../../nn/create.ts';
import { Module } from '../../nn/module.ts';
import { where } from '../../tensor/arithmetic.ts';
import { full } from '../../tensor/creation.ts';
import type { Generator } from '../../tensor/generator.ts';
import { stack } from '../../tensor/joining.ts';
import { uniform } from '../../tensor/random.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { hflip, resize, type ResizeOptions, rot90, vflip } from '../ops/images.ts';
import { remap, rotate, type RotateOptions, warpAffine, type WarpOptions } from '../ops/warp.ts';
import {
  type Amount,
  asImages,
  type AugmentOptions,
  checkAmount,
  describeAmount,
  drawAmount,
  imageSizes,
  workingDType,
} from './chance.ts';

export interface FlipOptions {
  /** Exchanges top and bottom; default true. */
  readonly vertical?: boolean;
  /** Exchanges left and right; default true. */
  readonly horizontal?: boolean;
}

/**
 * Flips images [n, c, h, w].
 *
 * @example
 * new Flip({ vertical: false }).forward(tensor([[[[1, 2], [3, 4]]]])); // => [[[[2, 1], [4, 3]]]]
 */
export class Flip extends Module {
  readonly vertical: boolean;
  readonly horizontal: boolean;

  constructor(options: FlipOptions = {}) {
    super();
    checkKeys('Flip', options, ['vertical', 'horizontal']);
    const { vertical = true, horizontal = true } = options;
    checkOption('Flip', 'vertical', vertical, 'boolean');
    checkOption('Flip', 'horizontal', horizontal, 'boolean');
    this.vertical = vertical;
    this.horizontal = horizontal;
  }

  forward(x: Tensor): Tensor {
    imageSizes('Flip', x);
    const upright = this.vertical ? vflip(x) : x;
    return this.horizontal ? hflip(upright) : upright;
  }

  override describe(): string {
    const { vertical, horizontal } = this;
    return `Flip(${describeOptions({ vertical, horizontal })})`;
  }
}

/** What flips by chance share. */
abstract class RandomFlip extends Module {
  readonly p: number;
  readonly generator: Generator | undefined;

  constructor(p = 0.5, options: AugmentOptions = {}) {
    super();
    const op = new.target.name;
    checkKeys(op, options, ['generator']);
    this.p = checkNumber(op, 'p', p, [0, 1]);
    this.generator = options.generator;
  }

  protected abstract flipped(x: Tensor): Tensor;

  forward(x: Tensor): Tensor {
    const [n] = imageSizes(this.constructor.name, x);
    const draws = uniform(0, 1, [n, 1, 1, 1], { generator: this.generator });
    return where(draws.lt(this.p), this.flipped(x), x);
  }

  override describe(): string {
    return `${this.constructor.name}(p=${this.p})`;
  }
}

/**
 * Exchanges left and right of each image [n, c, h, w] with probability `p`.
 *
 * @example
 * new RandomHorizontalFlip(1).forward(tensor([[[[1, 2]]]])); // => [[[[2, 1]]]]
 */
export class RandomHorizontalFlip extends RandomFlip {
  protected flipped(x: Tensor): Tensor {
    return hflip(x);
  }
}

/**
 * Exchanges top and bottom of each image [n, c, h, w] with probability `p`.
 *
 * @example
 * new RandomVerticalFlip(0).forward(tensor([[[[1], [2]]]])); // => [[[[1], [2]]]]
 */
export class RandomVerticalFlip extends RandomFlip {
  protected flipped(x: Tensor): Tensor {
    return vflip(x);
  }
}

/**
 * Images [n, c, h, w] of another size: see `resize`.
 *
 * @example
 * new Resize([2, 3]).forward(ones(1, 3, 4, 4)).shape; // => [1, 3, 2, 3]
 */
export class Resize extends Module {
  readonly size: Sizes;
  readonly options: ResizeOptions;

  constructor(size: Sizes, options: ResizeOptions = {}) {
    super();
    checkKeys('Resize', options, ['interpolation', 'antialias']);
    this.size = size;
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return asImages('Resize', resize(x.to(workingDType(x)), this.size, this.options), x.dtype);
  }

  override describe(): string {
    return `Resize([${[this.size].flat().join(', ')}])`;
  }
}

/**
 * Images [n, c, h, w] by a quarter turn: see `rot90`.
 *
 * @example
 * new Rot90().forward(tensor([[[[1, 2]]]])); // => [[[[1], [2]]]]
 */
export class Rot90 extends Module {
  readonly clockwise: boolean;

  constructor(options: { readonly clockwise?: boolean } = {}) {
    super();
    checkKeys('Rot90', options, ['clockwise']);
    const { clockwise = true } = options;
    checkOption('Rot90', 'clockwise', clockwise, 'boolean');
    this.clockwise = clockwise;
  }

  forward(x: Tensor): Tensor {
    return rot90(x, { clockwise: this.clockwise });
  }

  override describe(): string {
    return `Rot90(clockwise=${this.clockwise})`;
  }
}

export interface RotateLayerOptions extends RotateOptions, AugmentOptions {}

/**
 * Turns images [n, c, h, w] by an angle in degrees against the clock, or by one of [low, high) that is drawn
 * for each image: see `rotate`. A result that grows (`expand`) has one angle for all.
 *
 * @example
 * new Rotate(90).forward(tensor([[[[1, 2], [3, 4]]]])); // => [[[[2, 4], [1, 3]]]]
 * new Rotate([-30, 30], { interpolation: 'bilinear' }).forward(ones(2, 3, 8, 8)).shape; // => [2, 3, 8, 8]
 */
export class Rotate extends Module {
  readonly angle: Amount;
  readonly options: RotateOptions;
  readonly generator: Generator | undefined;

  constructor(angle: Amount, options: RotateLayerOptions = {}) {
    super();
    const op = 'Rotate';
    const { generator, ...rest } = options;
    checkKeys(op, rest, ['interpolation', 'expand', 'center', 'fill']);
    this.angle = checkAmount(op, 'angle', angle);
    if (typeof angle !== 'number' && rest.expand === true) {
      throw new ArgumentError('images that grow have one angle, not one of a range', { op });
    }
    this.options = rest;
    this.generator = generator;
  }

  forward(x: Tensor): Tensor {
    const op = 'Rotate';
    const [n, , height, width] = imageSizes(op, x);
    const images = x.to(workingDType(x));
    const { angle, options } = this;
    if (typeof angle === 'number') return asImages(op, rotate(images, angle, options), x.dtype);
    const { interpolation = 'nearest', center, fill = 0 } = options;
    const radians = drawAmount(angle, [n], 'float32', this.generator).mul(Math.PI / 180);
    const [cos, sin] = [radians.cos(), radians.sin()];
    // Pixel (i, j) has its centre at (j + 0.5, i + 0.5); the point (cx, cy) stays.
    const [cx, cy] = center ?? [width / 2, height / 2];
    const [dx, dy] = [0.5 - cx, 0.5 - cy];
    const rows = [
      [
        cos,
        sin.neg(),
        cos
          .mul(dx)
          .sub(sin.mul(dy))
          .add(cx - 0.5),
      ],
      [
        sin,
        cos,
        sin
          .mul(dx)
          .add(cos.mul(dy))
          .add(cy - 0.5),
      ],
    ];
    const matrix = stack(
      rows.map((row) => stack(row, 1)),
      1,
    );
    const warp = { interpolation, borderMode: 'constant', value: fill } as const;
    return asImages(op, warpAffine(images, matrix, [height, width], warp), x.dtype);
  }

  override describe(): string {
    return `Rotate(${describeAmount(this.angle)})`;
  }
}

/**
 * Images [n, c, h, w] read at a map [n, oh, ow, 2]: see `remap`.
 *
 * @example
 * new Remap().forward(tensor([[[[1, 2]]]]), tensor([[[[0.5, 0]]]])); // => [[[[1.5]]]]
 */
export class Remap extends Module {
  readonly options: WarpOptions;

  constructor(options: WarpOptions = {}) {
    super();
    checkKeys('Remap', options, ['interpolation', 'borderMode', 'value']);
    this.options = options;
  }

  forward(x: Tensor, map: Tensor): Tensor {
    return asImages('Remap', remap(x.to(workingDType(x)), map, this.options), x.dtype);
  }

  override describe(): string {
    return `Remap(${describeOptions({ ...this.options })})`;
  }
}

export interface CropAndPadOptions extends AugmentOptions {
  /** Pixels at each side, or [top, right, bottom, left]: added, or cut off where negative. */
  readonly px?: Amount | readonly [Amount, Amount, Amount, Amount];
  /** The same in parts of the height or width. */
  readonly percent?: Amount | readonly [Amount, Amount, Amount, Amount];
  /** What is added: `value` (default), the border repeated, or the image mirrored. */
  readonly mode?: 'constant' | 'replicate' | 'reflect101';
  /** Default 0. */
  readonly value?: number;
  /** Whether the result is brought back to the size of the image; default true. */
  readonly keepSize?: boolean;
  readonly interpolation?: WarpOptions['interpolation'];
}

/**
 * Cuts off the sides of images [n, c, h, w] or adds to them, and brings them back to their size. Amounts
 * [low, high] are drawn for each image and side, in parts of pixels. With `keepSize: false` amounts are
 * whole numbers, the same for all images.
 *
 * @example
 * new CropAndPad({ px: -1, keepSize: false }).forward(ones(1, 3, 6, 8)).shape; // => [1, 3, 4, 6]
 * new CropAndPad({ percent: [-0.2, 0.2] }).forward(ones(2, 3, 6, 8)).shape; // => [2, 3, 6, 8]
 * new CropAndPad({ px: [0, 1, 0, 1], keepSize: false, value: 5 }).forward(ones(1, 1, 1, 1)); // => [[[[5, 1, 5]]]]
 */
export class CropAndPad extends Module {
  /** Amounts at top, right, bottom and left. */
  readonly sides: readonly Amount[];
  readonly inPercent: boolean;
  readonly options: CropAndPadOptions;

  constructor(options: CropAndPadOptions) {
    super();
    const op = 'CropAndPad';
    checkKeys(op, options, [
      'px',
      'percent',
      'mode',
      'value',
      'keepSize',
      'interpolation',
      'generator',
    ]);
    const { px, percent, mode = 'constant', value = 0, keepSize = true } = options;
    const given = px ?? percent;
    if (given === undefined || (px !== undefined && percent !== undefined)) {
      throw new ArgumentError('needs px or percent, one of them', { op });
    }
    this.inPercent = px === undefined;
    const isEach = Array.isArray(given) && given.length === 4;
    this.sides = isEach ? (given as readonly Amount[]) : new Array<Amount>(4).fill(given as Amount);
    // Less than half of each side goes away, so that something is left.
    const bounds = this.inPercent ? ([-0.499, 10] as const) : ([-Infinity] as const);
    const name = this.inPercent ? 'percent' : 'px';
    for (const side of this.sides) checkAmount(op, name, side, bounds);
    checkOption(op, 'mode', mode, ['constant', 'replicate', 'reflect101']);
    checkNumber(op, 'value', value, [-Infinity]);
    checkOption(op, 'keepSize', keepSize, 'boolean');
    if (!keepSize && !this.sides.every((side) => typeof side === 'number')) {
      throw new ArgumentError('with keepSize false, amounts are the same for all images', { op });
    }
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    const [n, , height, width] = imageSizes('CropAndPad', x);
    const lengths = [height, width, height, width];
    const scaled = (side: Amount, at: number): Amount => {
      const factor = this.inPercent ? lengths[at]! : 1;
      if (typeof side === 'number') return side * factor;
      return [side[0] * factor, side[1] * factor];
    };
    const sides = this.sides.map(scaled);
    const lowest = sides.map((side) => (typeof side === 'number' ? side : side[0]));
    const [top, right, bottom, left] = lowest as [number, number, number, number];
    if (height + top + bottom <= 0 || width + left + right <= 0) {
      throw new ArgumentError(
        `sides [${lowest.join(', ')}] leave nothing of ${height} x ${width}`,
        {
          op: 'CropAndPad',
        },
      );
    }
    if (this.options.keepSize === false) return this.#cut(x, lowest);
    const dtype = workingDType(x);
    const { generator, interpolation = 'bilinear', mode = 'constant', value = 0 } = this.options;
    const [up, east, down, west] = sides.map((side) => drawAmount(side, [n], 'float32', generator));
    // Pixel centres of the result, in pixels of the image: as a resize of what is left.
    const line = (length: number, before: Tensor, after: Tensor): [Tensor, Tensor] => {
      const scale = before.add(after).add(length).div(length);
      return [scale, scale.mul(0.5).sub(before).sub(0.5)];
    };
    const [sx, ox] = line(width, west!, east!);
    const [sy, oy] = line(height, up!, down!);
    const zero = full([n], 0);
    const matrix = stack([stack([sx, zero, ox], 1), stack([zero, sy, oy], 1)], 1);
    const warp = { interpolation, borderMode: mode, value };
    const moved = warpAffine(x.to(dtype), matrix, [height, width], warp);
    return asImages('CropAndPad', moved, x.dtype);
  }

  #cut(x: Tensor, sides: readonly number[]): Tensor {
    const { mode = 'constant', value = 0 } = this.options;
    const whole = sides.map((side) => Math.round(side)) as [number, number, number, number];
    const [top, right, bottom, left] = whole;
    const amounts = [left, right, top, bottom];
    if (mode === 'constant') return pad(x, amounts, { value });
    return pad(x, amounts, { mode: mode === 'reflect101' ? 'reflect' : 'replicate' });
  }

  override describe(): string {
    const sides = this.sides.map(describeAmount).join(', ');
    return `CropAndPad(${this.inPercent ? 'percent' : 'px'}=[${sides}])`;
  }
}
