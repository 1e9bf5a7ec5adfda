// Pairs of images made into one, with their labels; shapes drawn over images.
import { checkKeys, checkNumber } from '../../../base/checks.ts';
import { isFloat } from '../../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../../base/errors.ts';
import { formatShape, sameShape } from '../../../base/shape.ts';
import { Module } from '../../nn/module.ts';
import { nodeOf } from '../../tensor/arguments.ts';
import { where } from '../../tensor/arithmetic.ts';
import { arange, full, tensor } from '../../tensor/creation.ts';
import { beta } from '../../tensor/draws.ts';
import type { Generator } from '../../tensor/generator.ts';
import { uniform } from '../../tensor/random.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { asImages, type AugmentOptions, imageSizes, workingDType } from './chance.ts';

/** Labels [n, ...] of both, weighed by shares [n] of the first; integers become floats. */
function mixLabels(op: string, share: Tensor, first: Tensor, second: Tensor): Tensor {
  const [a, b] = [nodeOf(op, first), nodeOf(op, second)];
  const n = share.shape[0]!;
  if (a.shape[0] !== n || !sameShape(a.shape, b.shape)) {
    throw new ShapeError(
      `labels ${formatShape(a.shape)} and ${formatShape(b.shape)} are not [${n}, ...] both`,
      { op },
    );
  }
  const dtype = isFloat(a.dtype) ? a.dtype : 'float32';
  const part = share.to(dtype).reshape([n, ...a.shape.slice(1).map(() => 1)]);
  return first
    .to(dtype)
    .mul(part)
    .add(second.to(dtype).mul(part.neg().add(1)));
}

/** What mixing layers share: shares of a beta distribution, one for each image. */
abstract class Mixing extends Module {
  readonly beta: number;
  readonly generator: Generator | undefined;

  constructor(concentration: number, options: AugmentOptions = {}) {
    super();
    const op = new.target.name;
    checkKeys(op, options, ['generator']);
    this.beta = checkNumber(op, 'beta', concentration, [Number.MIN_VALUE]);
    this.generator = options.generator;
  }

  /** Shares [n] of the first images. */
  protected shares(n: number): Tensor {
    return beta(full([n], this.beta), this.beta, { generator: this.generator });
  }

  /** Throws ShapeError unless both are images of the same sizes. */
  protected check(first: Tensor, second: Tensor): readonly [number, number, number, number] {
    const op = this.constructor.name;
    const sizes = imageSizes(op, first);
    const other = imageSizes(op, second);
    if (sameShape(sizes, other)) return sizes;
    throw new ShapeError(
      `images ${formatShape(sizes)} and ${formatShape(other)} differ in their sizes`,
      { op },
    );
  }

  override describe(): string {
    return `${this.constructor.name}(${this.beta})`;
  }
}

/**
 * Mixes images [n, c, h, w], and labels [n] or [n, classes], of two batches (Zhang et al. 2018):
 * `λ first + (1 - λ) second`, with λ drawn for each image from a beta distribution of parameters
 * (beta, beta). Gives [images, labels]; integer labels become float32: one-hot ones make sense.
 *
 * @example
 * const [x, y] = [ones(2, 3, 4, 4), zeros(2, 3, 4, 4)];
 * const [data, label] = new Mixup(0.4).forward(x, ones(2), y, zeros(2));
 * data.mean([1, 2, 3]).sub(label).abs().lt(1e-5); // => [true, true]
 */
export class Mixup extends Mixing {
  forward(data1: Tensor, label1: Tensor, data2: Tensor, label2: Tensor): [Tensor, Tensor] {
    const op = 'Mixup';
    const [n] = this.check(data1, data2);
    const share = this.shares(n);
    const dtype = workingDType(data1);
    const part = share.to(dtype).reshape(n, 1, 1, 1);
    const mixed = data1
      .to(dtype)
      .mul(part)
      .add(data2.to(dtype).mul(part.neg().add(1)));
    return [asImages(op, mixed, data1.dtype), mixLabels(op, share, label1, label2)];
  }
}

/**
 * Puts a box of the second images into the first ones (Yun et al. 2019): its sides are sqrt(1 - λ) of the
 * image's, with λ drawn as by `Mixup`, its middle is anywhere, and what lies outside is cut off. Labels
 * are weighed by what is left of each image. Gives [images, labels].
 *
 * @example
 * const [x, y] = [ones(2, 3, 8, 8), zeros(2, 3, 8, 8)];
 * const [data, label] = new Cutmix(1).forward(x, ones(2), y, zeros(2));
 * data.mean([1, 2, 3]).sub(label).abs().lt(1e-5); // => [true, true]
 */
export class Cutmix extends Mixing {
  forward(data1: Tensor, label1: Tensor, data2: Tensor, label2: Tensor): [Tensor, Tensor] {
    const op = 'Cutmix';
    const [n, , height, width] = this.check(data1, data2);
    const side = this.shares(n).neg().add(1).sqrt();
    const { generator } = this;
    /** First pixel and the one behind the last, [n] each, along an axis of this length. */
    const span = (length: number): [Tensor, Tensor] => {
      const middle = uniform(0, length, [n], { generator }).floor();
      const half = side.mul(length).floor().div(2).floor();
      return [middle.sub(half).clamp(0, length), middle.add(half).clamp(0, length)];
    };
    const [top, bottom] = span(height);
    const [left, right] = span(width);
    const within = (low: Tensor, high: Tensor, shape: readonly number[]): Tensor => {
      const places = arange(0, Math.max(...shape)).reshape(shape);
      const [from, to] = [low.reshape(n, 1, 1, 1), high.reshape(n, 1, 1, 1)];
      return places.ge(from).logicalAnd(places.lt(to));
    };
    const box = within(top, bottom, [1, 1, height, 1]).logicalAnd(
      within(left, right, [1, 1, 1, width]),
    );
    const area = bottom.sub(top).mul(right.sub(left));
    const share = area.div(-height * width).add(1);
    const mixed = where(box, data2.to(data1.dtype), data1);
    return [mixed, mixLabels(op, share, label1, label2)];
  }
}

export interface FillPolyOptions {
  /** What is put inside: one number, or one for each channel. Default 0. */
  readonly value?: number | readonly number[];
}

/**
 * Fills polygons in images [n, c, h, w]: pixels whose centres lie inside, where an edge that is crossed an
 * even number of times is outside. `points` [n, corners, 2], or [corners, 2] for all images, are (x, y)
 * in pixels, (0, 0) in the middle of the first.
 *
 * @example
 * const triangle = tensor([[-1, -1], [3, -1], [-1, 3]]);
 * new FillPoly({ value: 9 }).forward(zeros(1, 1, 3, 3), triangle); // => [[[[9, 9, 0], [9, 0, 0], [0, 0, 0]]]]
 */
export class FillPoly extends Module {
  readonly value: readonly number[];

  constructor(options: FillPolyOptions = {}) {
    super();
    const op = 'FillPoly';
    checkKeys(op, options, ['value']);
    const { value = 0 } = options;
    this.value = Array.isArray(value) ? (value as readonly number[]) : [value as number];
    for (const one of this.value) checkNumber(op, 'value', one, [-Infinity]);
    if (this.value.length === 0) throw new ArgumentError('value has no numbers', { op });
  }

  forward(x: Tensor, points: Tensor): Tensor {
    const op = 'FillPoly';
    const [n, channels, height, width] = imageSizes(op, x);
    const { shape } = nodeOf(op, points);
    const corners = shape.at(-2) ?? 0;
    const isShared = sameShape(shape, [corners, 2]);
    if (!isShared && !sameShape(shape, [n, corners, 2])) {
      throw new ShapeError(
        `points must be [${n}, corners, 2] or [corners, 2], got ${formatShape(shape)}`,
        { op },
      );
    }
    if (corners < 3)
      throw new ShapeError(`a polygon has at least 3 corners, got ${corners}`, { op });
    if (this.value.length !== 1 && this.value.length !== channels) {
      throw new ShapeError(`${this.value.length} values for ${channels} channels`, { op });
    }
    const lead = isShared ? 1 : n;
    const places = points.to('float32').reshape(lead, corners, 2);
    const part = (k: number): Tensor => places.select(2, k).reshape(lead, corners, 1, 1);
    const [x1, y1] = [part(0), part(1)];
    const [x2, y2] = [x1.roll(-1, 1), y1.roll(-1, 1)];
    const column = arange(0, width).reshape(1, 1, 1, width);
    const row = arange(0, height).reshape(1, 1, height, 1);
    // A ray to the right crosses edges that pass the row and lie right of the pixel.
    const passes = y1.gt(row).ne(y2.gt(row));
    const at = row.sub(y1).mul(x2.sub(x1)).div(y2.sub(y1)).add(x1);
    const crossings = passes.logicalAnd(column.lt(at)).int().sum(1, { keepdims: true });
    const value = tensor(this.value, { dtype: 'float32' }).reshape(1, this.value.length, 1, 1);
    return where(crossings.remainder(2).eq(1), asImages(op, value, x.dtype), x);
  }

  override describe(): string {
    return `FillPoly(value=[${this.value.join(', ')}])`;
  }
}
