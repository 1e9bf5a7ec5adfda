// Values of images at computed points: grid samples, warps, deformed windows. Coordinates count
// pixels: the centre of the first one is at 0.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { castNode } from '../tensor/handle.ts';

export type PointInterpolation = 'nearest' | 'bilinear' | 'bicubic';

/**
 * What lies outside the image: nothing, the nearest pixel, the image mirrored at the centres or at the
 * outer edges of its border pixels, or the image again.
 */
export type Surroundings = 'nothing' | 'edge' | 'mirrorCentre' | 'mirrorEdge' | 'wrap';

export interface PointOptions {
  readonly interpolation: PointInterpolation;
  readonly outside: Surroundings;
  /** Slope of the cubic kernel at distance 1; default -0.75. */
  readonly cubicSlope?: number;
}

/** A number beside `like`. */
function numberAs(like: Node, value: number): Node {
  return ops.constant(value, like.dtype);
}

/** Moves coordinates to [0, size - 1]; no gradient where they were moved, or at the ends. */
function clip(x: Node, size: number): Node {
  const [low, high] = [numberAs(x, 0), numberAs(x, size - 1)];
  const inside = ops.logicalAnd(ops.greater(x, low), ops.less(x, high));
  return ops.select(inside, x, ops.clamp(ops.detach(x), low, high));
}

/** Mirrors coordinates at `low` and at `low + span`, as often as it takes. */
function mirror(x: Node, low: number, span: number): Node {
  if (span === 0) return ops.zerosLike(x);
  const zero = numberAs(x, 0);
  const from = ops.sub(x, numberAs(x, low));
  const away = ops.select(ops.less(from, zero), ops.neg(from), from);
  const length = numberAs(x, span);
  const flips = ops.floor(ops.div(ops.detach(away), length));
  const rest = ops.sub(away, ops.mul(flips, length));
  const pairs = ops.floor(ops.mul(flips, numberAs(x, 0.5)));
  const even = ops.equal(ops.mul(pairs, numberAs(x, 2)), flips);
  const back = ops.sub(length, rest);
  return ops.add(ops.select(even, rest, back), numberAs(x, low));
}

/** Coordinates brought into the image where `outside` repeats it. */
function fold(x: Node, size: number, outside: Surroundings): Node {
  switch (outside) {
    case 'nothing':
      return x;
    case 'edge':
      return clip(x, size);
    case 'mirrorCentre':
      return clip(mirror(x, 0, size - 1), size);
    case 'mirrorEdge':
      return clip(mirror(x, -0.5, size), size);
    case 'wrap': {
      const period = numberAs(x, size);
      const turns = ops.floor(ops.div(ops.detach(x), period));
      return ops.sub(x, ops.mul(turns, period));
    }
    default:
      outside satisfies never;
      return x;
  }
}

/** Taps of one axis: their positions, weights, and which exist (null: all). */
interface Taps {
  readonly index: Node;
  readonly weight: Node | null;
  readonly inside: Node | null;
}

/**
 * Taps of the axis number `axis` of `rank`. `point` is [batch, 1, .., 1, points]; the taps stand along
 * axis 1 + `axis`, so that those of all axes broadcast.
 */
function tapsOf(
  point: Node,
  size: number,
  axis: number,
  { interpolation, outside, cubicSlope = -0.75 }: PointOptions,
): Taps {
  // A cubic's taps are brought into the image one by one, and so are those that wrap around.
  const late = interpolation === 'bicubic' || outside === 'wrap';
  const at = late ? point : fold(point, size, outside);
  const still = ops.detach(at);
  const base = interpolation === 'nearest' ? ops.round(still) : ops.floor(still);
  const count = interpolation === 'nearest' ? 1 : interpolation === 'bilinear' ? 2 : 4;
  const steps = point.shape.map((_, i) => (i === axis + 1 ? count : 1));
  const order = ops.iota(steps, axis + 1, point.dtype);
  const offset = count === 4 ? ops.sub(order, numberAs(order, 1)) : order;
  const where = count === 1 ? base : ops.add(base, offset);
  const place = late ? fold(where, size, outside) : where;
  const [first, last] = [numberAs(place, 0), numberAs(place, size - 1)];
  const within =
    outside === 'nothing'
      ? ops.logicalAnd(ops.greaterEqual(place, first), ops.lessEqual(place, last))
      : null;
  const weight =
    interpolation === 'nearest'
      ? null
      : weightsOf(ops.sub(at, base), offset, interpolation, cubicSlope);
  return { index: castNode(ops.clamp(place, first, last), 'int32'), weight, inside: within };
}

/** Weights of taps at whole offsets from a point that is `part` of a pixel beyond offset 0. */
function weightsOf(
  part: Node,
  offset: Node,
  interpolation: 'bilinear' | 'bicubic',
  a: number,
): Node {
  const one = numberAs(part, 1);
  // Differences whose signs are known: at 0 and 1 the slope is that from within.
  const before = ops.lessEqual(offset, numberAs(offset, 0));
  const distance = ops.select(before, ops.sub(part, offset), ops.sub(offset, part));
  if (interpolation === 'bilinear') return ops.sub(one, distance);
  const polynomial = (...coefficients: readonly number[]): Node => {
    const [highest, ...rest] = coefficients.map((value) => numberAs(part, value));
    return rest.reduce((sum, next) => ops.add(ops.mul(sum, distance), next), highest as Node);
  };
  const inner = ops.logicalAnd(
    ops.greaterEqual(offset, numberAs(offset, 0)),
    ops.lessEqual(offset, one),
  );
  return ops.select(inner, polynomial(a + 2, -a - 3, 0, 1), polynomial(a, -5 * a, 8 * a, -4 * a));
}

/** What points read: for `readPoints`. */
export interface PointTaps {
  /** int32 [batch, taps, points], positions in the flattened space; -1: nothing. */
  readonly index: Node;
  /** [batch, taps, points]. */
  readonly weight: Node;
  readonly holes: boolean;
}

/**
 * What is read at points of an image with the sizes `space`. `points` holds one node [batch, points]
 * per space axis, in order; gradients flow to them through the weights.
 */
export function pointTaps(
  points: readonly Node[],
  space: readonly number[],
  options: PointOptions,
): PointTaps {
  const rank = space.length;
  const [batch, count] = (points[0] as Node).shape as readonly [number, number];
  const ones = new Array<number>(rank).fill(1);
  const taps = points.map((point, axis) =>
    tapsOf(ops.reshape(point, [batch, ...ones, count]), space[axis] as number, axis, options),
  );
  let flat: Node | null = null;
  let weight: Node | null = null;
  let inside: Node | null = null;
  taps.forEach((tap, axis) => {
    const stride = ops.constant(sizeOf(space.slice(axis + 1)), 'int32');
    const step = ops.mul(tap.index, stride);
    flat = flat === null ? step : ops.add(flat, step);
    if (tap.weight !== null) weight = weight === null ? tap.weight : ops.mul(weight, tap.weight);
    if (tap.inside !== null)
      inside = inside === null ? tap.inside : ops.logicalAnd(inside, tap.inside);
  });
  const each =
    options.interpolation === 'nearest' ? 1 : options.interpolation === 'bilinear' ? 2 : 4;
  const shape = [batch, ...ones.map(() => each), count];
  const table = [batch, each ** rank, count];
  const index = inside === null ? flat! : ops.select(inside, flat!, ops.constant(-1, 'int32'));
  const { dtype } = points[0] as Node;
  return {
    index: ops.reshape(ops.expand(index, shape), table),
    weight: ops.reshape(
      weight === null ? ops.full(shape, 1, dtype) : ops.expand(weight, shape),
      table,
    ),
    holes: inside !== null,
  };
}

/** Values of x [batch, channels, ...space] at taps, [batch, channels, points]. */
export function readPoints(x: Node, { index, weight, holes }: PointTaps): Node {
  const [batch, channels, ...space] = x.shape as readonly [number, number, ...number[]];
  const flat = ops.reshape(x, [batch, channels, sizeOf(space), 1]);
  const read = ops.readTaps(flat, index, castNode(weight, x.dtype), holes);
  return ops.reshape(read, [batch, channels, index.shape[2] as number]);
}
