// datasets.strokes(): handwritten-looking digits drawn by program, for use where there are no files.
import { checkInteger, checkKeys } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { ImageDataset } from './image-dataset.ts';
import { Random, permutation, sinCos } from './random.ts';
import { GLYPHS, type Glyph, type Stroke } from './stroke-glyphs.ts';
import type { Transform } from './transforms.ts';

/** Options of {@link strokes}. */
export interface StrokesOptions {
  /** Number of images. Default 10,000. */
  readonly size?: number;
  /** Default 0. */
  readonly seed?: number;
  /** Height and width in pixels. Default 28. */
  readonly imageSize?: number;
  /** The two splits share no image. Default `train`. */
  readonly split?: 'train' | 'test';
  readonly transform?: Transform;
}

const DIGITS = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

/** Straight pieces that a curve is cut into between two of its points. */
const PIECES = 5;

/**
 * Ten thousand digits, or as many as you like, drawn from a seed: as a data set for demos and tests
 * they need no file and no network. Images `[1, 28, 28]` of uint8 like MNIST's, classes in equal
 * number; the same seed gives the same bytes everywhere.
 *
 * @example
 * import { datasets, transforms } from 'tengen/data';
 *
 * const { toFloat } = transforms;
 * const train = datasets.strokes({ size: 200, seed: 1, transform: toFloat() });
 * const test = datasets.strokes({ size: 20, seed: 1, split: 'test', transform: toFloat() });
 * [train.length, test.length]; // => [200, 20]
 */
export function strokes(options: StrokesOptions = {}): ImageDataset {
  checkKeys('datasets.strokes', options, ['size', 'seed', 'imageSize', 'split', 'transform']);
  const { size = 10_000, seed = 0, imageSize = 28, split = 'train' } = options;
  checkInteger('datasets.strokes', 'size', size, 0);
  checkInteger('datasets.strokes', 'imageSize', imageSize, 8);
  checkInteger('datasets.strokes', 'seed', seed, -Infinity);
  if (split !== 'train' && split !== 'test') {
    throw new ArgumentError(`split must be 'train' or 'test', got ${String(split)}`, {
      op: 'datasets.strokes',
    });
  }
  const stream = split === 'train' ? 0 : 1;
  const plane = imageSize * imageSize;
  const images = new Uint8Array(size * plane);
  const labels = new Uint8Array(size);
  const pen = new Pen(imageSize);
  for (let start = 0; start < size; start += 10) {
    // Every ten images hold every digit once.
    const digits = permutation(10, new Random(seed, stream, start, 1));
    for (let index = start; index < Math.min(size, start + 10); index++) {
      const digit = digits[index - start] as number;
      labels[index] = digit;
      const target = images.subarray(index * plane, (index + 1) * plane);
      drawDigit(pen, digit, new Random(seed, stream, index), target);
    }
  }
  return new ImageDataset({
    images,
    imageShape: [1, imageSize, imageSize],
    labels,
    classes: DIGITS,
    transform: options.transform,
  });
}

/** Draws one digit in a random hand. */
function drawDigit(pen: Pen, digit: number, random: Random, target: Uint8Array): void {
  const glyphs = GLYPHS[digit] as readonly Glyph[];
  const glyph = glyphs[random.below(glyphs.length)] as Glyph;
  const hand = randomHand(random, pen.size);
  pen.clear();
  for (const stroke of glyph) pen.draw(placePoints(stroke, hand, random), hand, random);
  pen.develop(target, random);
}

/** What all strokes of a digit have in common. */
interface Hand {
  /** Place in the unit box to pixels: `x' = xx x + xy y + dx`. */
  readonly xx: number;
  readonly xy: number;
  readonly yx: number;
  readonly yy: number;
  readonly dx: number;
  readonly dy: number;
  /** How far points stray, in the unit box. */
  readonly jitter: number;
  /** A slow bend of the whole digit: amplitude and phase. */
  readonly bend: number;
  readonly phase: number;
  /** Radius of the pen in pixels. */
  readonly radius: number;
}

function randomHand(random: Random, size: number): Hand {
  const unit = size / 28;
  const height = random.uniform(15.5, 21) * unit;
  const width = height * random.uniform(0.42, 0.9);
  const turn = sinCos(random.bell() * 0.13);
  const slant = random.bell() * 0.2 - 0.1;
  const radius = random.uniform(0.7, 1.75) * unit;
  // The slant leans the vertical; the turn then rotates both axes.
  const lean = -slant * turn.cos - turn.sin;
  const rise = turn.cos - slant * turn.sin;
  const halfX = (Math.abs(width * turn.cos) + Math.abs(height * lean)) / 2;
  const halfY = (Math.abs(width * turn.sin) + Math.abs(height * rise)) / 2;
  // A hand that writes wide and slanted writes smaller, to stay on the sheet.
  const room = size / 2 - radius - unit;
  const fit = Math.min(1, room / halfX, room / halfY);
  const xx = fit * width * turn.cos;
  const yx = fit * width * turn.sin;
  const xy = fit * height * lean;
  const yy = fit * height * rise;
  const centreX = size / 2 + clamp(random.bell() * 1.3 * unit, room - fit * halfX);
  const centreY = size / 2 + clamp(random.bell() * 1.3 * unit, room - fit * halfY);
  return {
    xx,
    xy,
    yx,
    yy,
    dx: centreX - (xx + xy) / 2,
    dy: centreY - (yx + yy) / 2,
    jitter: random.uniform(0.01, 0.045),
    bend: random.bell() * 0.035,
    phase: random.uniform(0, 6.28),
    radius,
  };
}

function clamp(value: number, limit: number): number {
  return Math.min(limit, Math.max(-limit, value));
}

/** The points of a stroke in pixels, after this hand's irregularities. */
function placePoints(stroke: Stroke, hand: Hand, random: Random): Float64Array {
  const points = new Float64Array(stroke.length);
  for (let place = 0; place < stroke.length; place += 2) {
    const x = (stroke[place] as number) + random.bell() * hand.jitter;
    const y = (stroke[place + 1] as number) + random.bell() * hand.jitter;
    const bentX = x + hand.bend * sinCos(5 * y + hand.phase).sin;
    const bentY = y + hand.bend * sinCos(5 * x + hand.phase).cos;
    points[place] = hand.xx * bentX + hand.xy * bentY + hand.dx;
    points[place + 1] = hand.yx * bentX + hand.yy * bentY + hand.dy;
  }
  return points;
}

/** A sheet of paper and what is drawn on it. */
class Pen {
  readonly size: number;
  private readonly ink: Float32Array;

  constructor(size: number) {
    this.size = size;
    this.ink = new Float32Array(size * size);
  }

  clear(): void {
    this.ink.fill(0);
  }

  /** A smooth curve through the points, with pressure that changes along it. */
  draw(points: Float64Array, hand: Hand, random: Random): void {
    const count = points.length / 2;
    const pressure = 1 + random.bell() * 0.08;
    const change = random.bell() * 0.12;
    let fromX = points[0] as number;
    let fromY = points[1] as number;
    for (let span = 0; span < count - 1; span++) {
      for (let piece = 1; piece <= PIECES; piece++) {
        const along = piece / PIECES;
        const toX = curve(points, 0, span, count, along);
        const toY = curve(points, 1, span, count, along);
        const progress = (span + along) / (count - 1) - 0.5;
        this.line(fromX, fromY, toX, toY, hand.radius * (pressure + change * progress));
        fromX = toX;
        fromY = toY;
      }
    }
  }

  /** A line with round ends and a soft edge one pixel wide; the darkest ink stays. */
  private line(x0: number, y0: number, x1: number, y1: number, radius: number): void {
    const { ink, size } = this;
    const reach = radius + 0.5;
    const top = Math.max(0, Math.ceil(Math.min(y0, y1) - reach - 0.5));
    const bottom = Math.min(size - 1, Math.floor(Math.max(y0, y1) + reach - 0.5));
    const left = Math.max(0, Math.ceil(Math.min(x0, x1) - reach - 0.5));
    const right = Math.min(size - 1, Math.floor(Math.max(x0, x1) + reach - 0.5));
    const dx = x1 - x0;
    const dy = y1 - y0;
    const scale = 1 / (dx * dx + dy * dy + 1e-12);
    const reachSquared = reach * reach;
    for (let row = top; row <= bottom; row++) {
      const py = row + 0.5 - y0;
      for (let column = left; column <= right; column++) {
        const px = column + 0.5 - x0;
        let along = (px * dx + py * dy) * scale;
        along = along < 0 ? 0 : along > 1 ? 1 : along;
        const ex = px - along * dx;
        const ey = py - along * dy;
        const squared = ex * ex + ey * ey;
        if (squared >= reachSquared) continue;
        const cover = reach - Math.sqrt(squared);
        const place = row * size + column;
        const value = cover > 1 ? 1 : cover;
        if (value > (ink[place] as number)) ink[place] = value;
      }
    }
  }

  /** The sheet as bytes: a little blur, a random darkness, and grain where there is ink. */
  develop(target: Uint8Array, random: Random): void {
    const { ink, size } = this;
    const blur = random.uniform(0, 0.14);
    const centre = 255 * random.uniform(0.86, 1) * (1 - 4 * blur * 0.5);
    const side = 255 * blur * 0.5;
    const grain = random.uniform(0, 14);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        const place = row * size + column;
        const up = row > 0 ? (ink[place - size] as number) : 0;
        const down = row < size - 1 ? (ink[place + size] as number) : 0;
        const before = column > 0 ? (ink[place - 1] as number) : 0;
        const after = column < size - 1 ? (ink[place + 1] as number) : 0;
        let value = centre * (ink[place] as number) + side * (up + down + before + after);
        if (value === 0) continue;
        value += (random.float() - 0.5) * 2 * grain;
        target[place] = value <= 0 ? 0 : value >= 255 ? 255 : Math.floor(value + 0.5);
      }
    }
  }
}

/** Catmull-Rom: a curve through all points; `axis` is 0 for x, 1 for y. */
function curve(
  points: Float64Array,
  axis: number,
  span: number,
  count: number,
  along: number,
): number {
  const at = (index: number): number =>
    points[2 * Math.min(count - 1, Math.max(0, index)) + axis] as number;
  const a = at(span - 1);
  const b = at(span);
  const c = at(span + 1);
  const d = at(span + 2);
  return (
    b + 0.5 * along * (c - a + along * (2 * a - 5 * b + 4 * c - d + along * (3 * (b - c) + d - a)))
  );
}
