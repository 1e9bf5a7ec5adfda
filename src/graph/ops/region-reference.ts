// Which pixels a region's bin is made of, in plain TypeScript: the oracle of regions.ts.
import type { Shape } from '../../base/shape.ts';
import type { ReferenceTensor } from '../op.ts';
import { elementAt } from './reference.ts';
import type { RegionAttrs } from './regions.ts';

interface Tap {
  readonly y: number;
  readonly x: number;
  readonly weight: number;
}

function roundAway(value: number): number {
  return Math.sign(value) * Math.floor(Math.abs(value) + 0.5);
}

/** A point as up to two pixels of an axis; none if it is more than a pixel outside. */
function between(at: number, size: number): { at: number; weight: number }[] {
  if (!(at >= -1 && at <= size)) return [];
  const inside = Math.max(at, 0);
  const low = Math.min(Math.floor(inside), size - 1);
  const high = Math.min(low + 1, size - 1);
  const part = low === size - 1 ? 0 : inside - low;
  return [
    { at: low, weight: 1 - part },
    { at: high, weight: part },
  ];
}

/** Samples of one axis: points of a bin, or the pixels it covers. */
function axisTaps(
  from: number,
  to: number,
  bin: number,
  bins: number,
  size: number,
  attrs: RegionAttrs,
): { readonly groups: { at: number; weight: number }[][]; readonly count: number } {
  const { kind, spatialScale, aligned, positionSensitive } = attrs;
  if (kind === 'pool') {
    const [low, high] = poolRange(from, to, bin, bins, size, spatialScale, positionSensitive);
    const count = Math.max(high - low, 0);
    const groups = Array.from({ length: count }, (_, i) => [{ at: low + i, weight: 1 }]);
    return { groups, count };
  }
  const offset = aligned ? 0.5 : 0;
  const start = from * spatialScale - offset;
  const extent = to * spatialScale - offset - start;
  const length = aligned ? extent : Math.max(extent, 1);
  const width = length / bins;
  const count = attrs.samples > 0 ? attrs.samples : Math.ceil(width);
  const groups = Array.from({ length: Math.max(count, 0) }, (_, i) =>
    between(start + bin * width + ((i + 0.5) * width) / count, size),
  );
  return { groups, count };
}

/** Pixels [low, high) of a bin. */
export function poolRange(
  from: number,
  to: number,
  bin: number,
  bins: number,
  size: number,
  spatialScale: number,
  positionSensitive: boolean,
): readonly [number, number] {
  const start = roundAway(from * spatialScale);
  const end = roundAway(to * spatialScale);
  const length = Math.max(end - start + (positionSensitive ? 0 : 1), 1);
  const width = length / bins;
  const last = positionSensitive ? size - 1 : size;
  const clip = (value: number): number => Math.min(Math.max(value, 0), last);
  return [clip(Math.floor(bin * width) + start), clip(Math.ceil((bin + 1) * width) + start)];
}

/** Region `r`: its image, which is one of those that there are, and two corners. */
function regionOf(
  regions: ReferenceTensor,
  r: number,
  images: Shape,
): readonly [image: number, x1: number, y1: number, x2: number, y2: number] {
  const [image, x1, y1, x2, y2] = [0, 1, 2, 3, 4].map((k) => elementAt(regions, [r, k]));
  return [Math.min(Math.max(Math.trunc(image!), 0), images[0]! - 1), x1!, y1!, x2!, y2!];
}

/** Pixels and weights of bin (row, column) of region `r`, and the image it is in. */
export function tapsOfBin(
  regions: ReferenceTensor,
  r: number,
  row: number,
  column: number,
  attrs: RegionAttrs,
  image: Shape,
): { readonly batch: number; readonly taps: readonly Tap[] } {
  const [batch, x1, y1, x2, y2] = regionOf(regions, r, image);
  const down = axisTaps(y1, y2, row, attrs.height, image[2]!, attrs);
  const across = axisTaps(x1, x2, column, attrs.width, image[3]!, attrs);
  const count = Math.max(down.count * across.count, 1);
  const taps = down.groups.flatMap((ys) =>
    across.groups.flatMap((xs) =>
      ys.flatMap((y) =>
        xs.map((x) => ({ y: y.at, x: x.at, weight: (y.weight * x.weight) / count })),
      ),
    ),
  );
  return { batch, taps };
}

/** Row-major position of a bin's first maximum, or -1. */
export function maximumAt(
  x: ReferenceTensor,
  regions: ReferenceTensor,
  at: { readonly r: number; readonly c: number; readonly row: number; readonly column: number },
  { height, width, spatialScale }: Pick<RegionAttrs, 'height' | 'width' | 'spatialScale'>,
): number {
  const [image, x1, y1, x2, y2] = regionOf(regions, at.r, x.shape);
  const [, , rows, columns] = x.shape as readonly [number, number, number, number];
  const [top, bottom] = poolRange(y1, y2, at.row, height, rows, spatialScale, false);
  const [left, right] = poolRange(x1, x2, at.column, width, columns, spatialScale, false);
  let found = -1;
  let best = -Infinity;
  for (let y = top; y < bottom; y++) {
    for (let i = left; i < right; i++) {
      const value = elementAt(x, [image, at.c, y, i]);
      if (value > best) [found, best] = [y * columns + i, value];
    }
  }
  return found;
}

/** Number of a bin's first largest sample, or corner of a sample; -1 if there is none. */
export function bestAt(
  x: ReferenceTensor,
  regions: ReferenceTensor,
  at: { readonly r: number; readonly c: number; readonly row: number; readonly column: number },
  attrs: RegionAttrs & { readonly corners: boolean },
): number {
  const [image, x1, y1, x2, y2] = regionOf(regions, at.r, x.shape);
  const [, , rows, columns] = x.shape as readonly [number, number, number, number];
  const down = axisTaps(y1, y2, at.row, attrs.height, rows, attrs).groups;
  const across = axisTaps(x1, x2, at.column, attrs.width, columns, attrs).groups;
  let found = -1;
  let best = -Infinity;
  down.forEach((ys, i) => {
    across.forEach((xs, j) => {
      // What is outside counts as nothing, four times.
      const terms = [0, 1].flatMap((a) =>
        [0, 1].map((b) => {
          const [y, point] = [ys[a], xs[b]];
          if (y === undefined || point === undefined) return 0;
          return y.weight * point.weight * elementAt(x, [image, at.c, y.at, point.at]);
        }),
      );
      const sample = i * across.length + j;
      const values = attrs.corners ? terms : [terms.reduce((sum, term) => sum + term, 0)];
      values.forEach((value, corner) => {
        if (value > best) [found, best] = [attrs.corners ? 4 * sample + corner : sample, value];
      });
    });
  });
  return found;
}
