// Image transforms on `[channels, height, width]` arrays. Randomness comes from the caller's generator.
import { checkInteger, checkNumber, describeValue } from '../../base/checks.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { type Random, sinCos } from './random.ts';

/** An image: bytes 0-255 or floats, `[channels, height, width]`. */
export interface ImageArray {
  readonly data: Float32Array | Uint8Array;
  readonly shape: readonly number[];
}

/**
 * Makes a new image of an image; the input stays as it is. All chance is drawn from `random`, so that
 * a sample's augmentation depends on seed, epoch and index alone.
 */
export interface Transform {
  (image: ImageArray, random: Random): ImageArray;
  /** True if every pixel is treated by itself, by value and channel: lets datasets use a table. */
  readonly pointwise?: boolean;
}

/** A height and width, or one number for both. */
export type Size = number | readonly [height: number, width: number];

function sizePair(op: string, size: Size): readonly [number, number] {
  const [height, width] = Array.isArray(size) ? (size as readonly number[]) : [size, size];
  return [checkInteger(op, 'size', height, 1), checkInteger(op, 'size', width, 1)];
}

function imageShape(op: string, image: ImageArray): readonly [number, number, number] {
  const [channels, height, width] = image.shape;
  if (
    image.shape.length !== 3 ||
    channels === undefined ||
    height === undefined ||
    width === undefined ||
    channels * height * width !== image.data.length
  ) {
    throw new ShapeError(
      `expected an image [channels, height, width], got ${formatShape(image.shape)} with ${image.data.length} values`,
      { op },
    );
  }
  return [channels, height, width];
}

function emptyLike(image: ImageArray, length: number): Float32Array | Uint8Array {
  return image.data instanceof Float32Array ? new Float32Array(length) : new Uint8Array(length);
}

function pointwise(apply: (image: ImageArray) => ImageArray): Transform {
  return Object.assign((image: ImageArray) => apply(image), { pointwise: true });
}

/** One transform after the other. */
export function compose(...transforms: readonly Transform[]): Transform {
  for (const transform of transforms) {
    if (typeof transform === 'function') continue;
    throw new ArgumentError(`expected a transform, got ${describeValue(transform)}`, {
      op: 'compose',
      hint: 'give them one by one: compose(first, second)',
    });
  }
  const apply = (image: ImageArray, random: Random): ImageArray =>
    transforms.reduce((current, transform) => transform(current, random), image);
  return Object.assign(apply, {
    pointwise: transforms.every((transform) => transform.pointwise === true),
  });
}

/** Bytes 0-255 become floats 0-1 (divided by 255); floats stay as they are. */
export function toFloat(): Transform {
  return pointwise(({ data, shape }) => {
    if (data instanceof Float32Array) return { data, shape };
    return { data: Float32Array.from(data, (value) => value / 255), shape };
  });
}

/** One number for all channels, or one for each. Throws ArgumentError unless they are finite. */
function numbersOf(name: string, given: number | readonly number[]): readonly number[] {
  const list = Array.isArray(given) ? (given as readonly number[]) : [given as number];
  for (const value of list) checkNumber('normalize', name, value, [-Infinity]);
  return list;
}

/**
 * `(x - mean) / std` per channel, on floats.
 *
 * @param mean one value per channel, or one for all
 * @param std as `mean`, none of them zero
 */
export function normalize(
  mean: number | readonly number[],
  std: number | readonly number[],
): Transform {
  const means = numbersOf('mean', mean);
  const stds = numbersOf('std', std);
  if (stds.some((value) => !(Math.abs(value) > 0))) {
    throw new ArgumentError(`std must not be zero, got [${stds.join(', ')}]`, { op: 'normalize' });
  }
  return pointwise((image) => {
    const [channels, height, width] = imageShape('normalize', image);
    if (!(image.data instanceof Float32Array)) {
      throw new DTypeError('the image has bytes', { op: 'normalize', hint: 'put toFloat() first' });
    }
    for (const list of [means, stds]) {
      if (list.length === 1 || list.length === channels) continue;
      throw new ShapeError(`${list.length} values for ${channels} channel(s)`, { op: 'normalize' });
    }
    const result = new Float32Array(image.data.length);
    const plane = height * width;
    for (let channel = 0; channel < channels; channel++) {
      const shift = (means.length === 1 ? means[0] : means[channel]) as number;
      const scale = 1 / ((stds.length === 1 ? stds[0] : stds[channel]) as number);
      for (let index = channel * plane; index < (channel + 1) * plane; index++) {
        result[index] = ((image.data[index] as number) - shift) * scale;
      }
    }
    return { data: result, shape: image.shape };
  });
}

/** Copies the window of `height` x `width` whose corner is at (top, left); outside it is `fill`. */
function window(
  image: ImageArray,
  top: number,
  left: number,
  height: number,
  width: number,
  fill: number,
): ImageArray {
  const [channels, sourceHeight, sourceWidth] = imageShape('crop', image);
  const data = emptyLike(image, channels * height * width);
  if (fill !== 0) data.fill(fill);
  const from = Math.max(0, left);
  const to = Math.min(sourceWidth, left + width);
  for (let channel = 0; channel < channels; channel++) {
    for (let row = Math.max(0, -top); row < height && row + top < sourceHeight; row++) {
      if (to <= from) break;
      const source = (channel * sourceHeight + row + top) * sourceWidth;
      const target = (channel * height + row) * width + from - left;
      data.set(image.data.subarray(source + from, source + to), target);
    }
  }
  return { data, shape: [channels, height, width] };
}

/** Adds `padding` pixels of value `fill` on every side, or `[top, right, bottom, left]`. */
export function pad(
  padding: number | readonly [top: number, right: number, bottom: number, left: number],
  fill = 0,
): Transform {
  const sides = Array.isArray(padding)
    ? (padding as readonly number[])
    : Array.from({ length: 4 }, () => padding as number);
  for (const side of sides) checkInteger('pad', 'padding', side, 0);
  const [top = 0, right = 0, bottom = 0, left = 0] = sides;
  return (image) => {
    const [, height, width] = imageShape('pad', image);
    return window(image, -top, -left, height + top + bottom, width + left + right, fill);
  };
}

/** The middle `size` of an image; where the image is smaller, it is padded with zeros. */
export function centerCrop(size: Size): Transform {
  const [height, width] = sizePair('centerCrop', size);
  return (image) => {
    const [, sourceHeight, sourceWidth] = imageShape('centerCrop', image);
    const top = Math.round((sourceHeight - height) / 2);
    const left = Math.round((sourceWidth - width) / 2);
    return window(image, top, left, height, width, 0);
  };
}

/** A random window of `size`, after padding every side by `padding` pixels of `fill`. */
export function randomCrop(
  size: Size,
  options: { readonly padding?: number; readonly fill?: number } = {},
): Transform {
  const [height, width] = sizePair('randomCrop', size);
  const { padding = 0, fill = 0 } = options;
  return (image, random) => {
    const [, sourceHeight, sourceWidth] = imageShape('randomCrop', image);
    const rangeY = sourceHeight + 2 * padding - height;
    const rangeX = sourceWidth + 2 * padding - width;
    if (rangeY < 0 || rangeX < 0) {
      throw new ShapeError(
        `${height} x ${width} does not fit in ${sourceHeight} x ${sourceWidth} with padding ${padding}`,
        { op: 'randomCrop' },
      );
    }
    const top = random.below(rangeY + 1) - padding;
    const left = random.below(rangeX + 1) - padding;
    return window(image, top, left, height, width, fill);
  };
}

/** Mirrors left and right with `probability`. */
export function randomHorizontalFlip(probability = 0.5): Transform {
  return (image, random) => {
    const [channels, height, width] = imageShape('randomHorizontalFlip', image);
    if (random.float() >= probability) return image;
    const data = image.data.slice();
    for (let row = 0; row < channels * height; row++) {
      data.subarray(row * width, (row + 1) * width).reverse();
    }
    return { data, shape: image.shape };
  };
}

/** What {@link randomAffine} may do; each range is drawn from uniformly. */
export interface RandomAffineOptions {
  /** Clockwise rotation: at most this many degrees either way, or a range. Default 0. */
  readonly degrees?: number | readonly [number, number];
  /** Shift: at most these fractions of height and width either way. Default none. */
  readonly translate?: readonly [vertical: number, horizontal: number];
  /** Range of the scale. Default 1. */
  readonly scale?: readonly [number, number];
  /** Horizontal shear: at most this many degrees either way, or a range. Default 0. */
  readonly shear?: number | readonly [number, number];
  /** Value outside the image. Default 0. */
  readonly fill?: number;
}

const RADIANS = Math.PI / 180;

function symmetric(range: number | readonly [number, number]): readonly [number, number] {
  return typeof range === 'number' ? [-range, range] : range;
}

/** A random rotation, scale, shear and shift about the centre, sampled bilinearly. */
export function randomAffine(options: RandomAffineOptions): Transform {
  const degrees = symmetric(options.degrees ?? 0);
  const shear = symmetric(options.shear ?? 0);
  const scale = options.scale ?? [1, 1];
  const [shiftY, shiftX] = options.translate ?? [0, 0];
  if (!(scale[0] > 0 && scale[1] > 0)) {
    throw new ArgumentError(`scale must be positive, got ${scale.join(' to ')}`, {
      op: 'randomAffine',
    });
  }
  return (image, random) => {
    const [, height, width] = imageShape('randomAffine', image);
    const rotation = sinCos(random.uniform(...degrees) * RADIANS);
    const factor = random.uniform(...scale);
    const slope = sinCos(random.uniform(...shear) * RADIANS);
    const dy = random.uniform(-shiftY, shiftY) * height;
    const dx = random.uniform(-shiftX, shiftX) * width;
    const tangent = slope.sin / slope.cos;
    // Output to input is the inverse of scale * rotation * shear, in closed form.
    const a = rotation.cos / factor;
    const b = rotation.sin / factor;
    return warp(image, [a + tangent * b, b - tangent * a, -b, a], dy, dx, options.fill ?? 0);
  };
}

/** A random rotation of at most `degrees` either way, or in a range. */
export function randomRotation(degrees: number | readonly [number, number], fill = 0): Transform {
  return randomAffine({ degrees, fill });
}

/** Bilinear lookup of each output pixel at `matrix` (xx, xy, yx, yy) times its place, centred. */
function warp(
  image: ImageArray,
  [xx, xy, yx, yy]: readonly [number, number, number, number],
  dy: number,
  dx: number,
  fill: number,
): ImageArray {
  const [channels, height, width] = imageShape('warp', image);
  const data = emptyLike(image, image.data.length);
  const centreY = (height - 1) / 2;
  const centreX = (width - 1) / 2;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const u = x - centreX - dx;
      const v = y - centreY - dy;
      const sourceX = xx * u + xy * v + centreX;
      const sourceY = yx * u + yy * v + centreY;
      for (let channel = 0; channel < channels; channel++) {
        const plane = channel * height * width;
        const value = bilinear(image.data, plane, height, width, sourceY, sourceX, fill);
        store(data, plane + y * width + x, value);
      }
    }
  }
  return { data, shape: image.shape };
}

/** Bytes are rounded: a typed array would cut the fraction off. */
function store(data: Float32Array | Uint8Array, index: number, value: number): void {
  data[index] = data instanceof Float32Array ? value : Math.floor(value + 0.5);
}

function bilinear(
  data: ArrayLike<number>,
  plane: number,
  height: number,
  width: number,
  y: number,
  x: number,
  fill: number,
): number {
  const top = Math.floor(y);
  const left = Math.floor(x);
  const fy = y - top;
  const fx = x - left;
  const at = (row: number, column: number): number =>
    row < 0 || row >= height || column < 0 || column >= width
      ? fill
      : (data[plane + row * width + column] as number);
  return (
    (1 - fy) * ((1 - fx) * at(top, left) + fx * at(top, left + 1)) +
    fy * ((1 - fx) * at(top + 1, left) + fx * at(top + 1, left + 1))
  );
}

/** Scales to `size`, bilinearly, pixel centres aligned (`align_corners=False`), no antialiasing. */
export function resize(size: Size): Transform {
  const [height, width] = sizePair('resize', size);
  return (image) => {
    const [channels, sourceHeight, sourceWidth] = imageShape('resize', image);
    const data = emptyLike(image, channels * height * width);
    for (let channel = 0; channel < channels; channel++) {
      const plane = channel * sourceHeight * sourceWidth;
      for (let y = 0; y < height; y++) {
        const sourceY = clampedCentre(y, sourceHeight, height);
        for (let x = 0; x < width; x++) {
          const sourceX = clampedCentre(x, sourceWidth, width);
          const value = bilinear(image.data, plane, sourceHeight, sourceWidth, sourceY, sourceX, 0);
          store(data, (channel * height + y) * width + x, value);
        }
      }
    }
    return { data, shape: [channels, height, width] };
  };
}

/** Where output pixel `index` lies in the input, kept inside it. */
function clampedCentre(index: number, source: number, target: number): number {
  return Math.min(source - 1, Math.max(0, ((index + 0.5) * source) / target - 0.5));
}
