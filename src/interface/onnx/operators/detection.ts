// What is decided on the host from values that are read: suppressed boxes, distinct elements.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { flag, int } from '../attributes.ts';
import { pick, placesOf, stridesOf } from '../host-arrays.ts';
import { type Call, type Operator, defineOperator } from '../operator.ts';
import type { ElementArray } from '../tensor-data.ts';
import { TensorValue, decodeValues, isWideInteger } from '../values.ts';

type Box = readonly [x1: number, y1: number, x2: number, y2: number];

/** A box by its corners, in order, from two opposite corners or centre and size. */
function boxOf(values: ArrayLike<number>, at: number, centred: boolean): Box {
  const [a = 0, b = 0, c = 0, d = 0] = Array.from({ length: 4 }, (_, i) => values[at + i] ?? 0);
  // Centre: x, y, width, height. Corners: y, x, y, x.
  if (centred) return [a - c / 2, b - d / 2, a + c / 2, b + d / 2];
  return [Math.min(b, d), Math.min(a, c), Math.max(b, d), Math.max(a, c)];
}

const areaOf = ([x1, y1, x2, y2]: Box): number => (x2 - x1) * (y2 - y1);

/** Common area over the area of both. */
function overlap(a: Box, b: Box): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const common = width * height;
  const union = areaOf(a) + areaOf(b) - common;
  return union > 0 ? common / union : 0;
}

/** [batch, class, box] of the boxes that are kept, best first within a class. */
function suppress(call: Call<{ center_point_box: number }>): TensorValue {
  const [boxes, scores] = [call.value(0), call.value(1)];
  const [batch = 0, count = 0, four] = boxes.shape;
  const classes = scores.shape[1] ?? 0;
  const fits = boxes.rank === 3 && scores.rank === 3 && four === 4;
  if (!fits || scores.shape[0] !== batch || scores.shape[2] !== count) {
    throw new ShapeError(`boxes ${formatShape(boxes.shape)}, scores ${formatShape(scores.shape)}`);
  }
  const limit = call.has(2) ? (call.numbers(2)[0] ?? 0) : 0;
  const threshold = call.has(3) ? (call.numbers(3)[0] ?? 0) : 0;
  const least = call.has(4) ? (call.numbers(4)[0] ?? -Infinity) : -Infinity;
  const corners = decodeValues(boxes.read());
  const values = decodeValues(scores.read());
  const centred = call.attributes.center_point_box === 1;
  const chosen: number[] = [];
  for (let item = 0; item < batch; item++) {
    const all = Array.from({ length: count }, (_, i) =>
      boxOf(corners, (item * count + i) * 4, centred),
    );
    for (let kind = 0; kind < classes; kind++) {
      const start = (item * classes + kind) * count;
      const order = Array.from({ length: count }, (_, i) => i)
        .filter((i) => (values[start + i] ?? 0) > least)
        .sort((i, j) => (values[start + j] ?? 0) - (values[start + i] ?? 0) || i - j);
      const kept: number[] = [];
      for (const candidate of order) {
        if (kept.length >= limit) break;
        const box = all[candidate] as Box;
        if (kept.some((other) => overlap(all[other] as Box, box) > threshold)) continue;
        kept.push(candidate);
        chosen.push(item, kind, candidate);
      }
    }
  }
  return TensorValue.ofNumbers(chosen, [chosen.length / 3, 3]);
}

/** Compares slices element by element; NaN comes last. */
function compareSlices(
  data: ArrayLike<number | bigint | string>,
  a: readonly number[],
  b: readonly number[],
): number {
  for (const [i, place] of a.entries()) {
    const x = data[place] ?? 0;
    const y = data[b[i] ?? 0] ?? 0;
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
    if (Number.isNaN(x)) return 1;
    if (Number.isNaN(y)) return -1;
    return x < y ? -1 : 1;
  }
  return 0;
}

/** Distinct elements, or slices along an axis: themselves, first places, places of each, counts. */
function unique(call: Call<{ axis: number | undefined; sorted: boolean }>): TensorValue[] {
  const value = call.value(0);
  const array: ElementArray = value.read();
  const { axis: given, sorted } = call.attributes;
  const axis = given === undefined ? null : call.axis(given);
  const shape = axis === null ? [value.size] : array.shape;
  const along = axis ?? 0;
  const strides = stridesOf(shape);
  const beside = shape.map((size, i) => (i === along ? 1 : size));
  const slices = Array.from({ length: shape[along] ?? 0 }, (_, i) =>
    placesOf(beside, strides, i * (strides[along] ?? 1)),
  );
  const exact = array.type === 'string' || isWideInteger(array.type);
  const data = exact ? array.data : decodeValues(array);
  const order = slices.map((_, i) => i);
  const compare = (i: number, j: number): number =>
    compareSlices(data, slices[i] ?? [], slices[j] ?? []);
  order.sort((i, j) => compare(i, j) || i - j);
  // Neighbours in order that are equal are one group, whose first place comes first.
  const groups: number[][] = [];
  for (const i of order) {
    const last = groups.at(-1);
    if (last !== undefined && compare(last[0] ?? 0, i) === 0) last.push(i);
    else groups.push([i]);
  }
  if (!sorted) groups.sort((a, b) => (a[0] ?? 0) - (b[0] ?? 0));
  const inverse = new Array<number>(slices.length).fill(0);
  for (const [group, members] of groups.entries()) for (const i of members) inverse[i] = group;
  const firsts = groups.map(([first]) => first ?? 0);
  const target = shape.map((size, i) => (i === along ? groups.length : size));
  const places = placesOf(
    target.map((size, i) => (i === along ? 1 : size)),
    strides,
  );
  // Laid out as the result: outer axes, the distinct ones, inner axes.
  const inner = shape.slice(along + 1).reduce((a, b) => a * b, 1);
  const laid: number[] = [];
  for (let outer = 0; outer * inner < places.length; outer++) {
    for (const first of firsts) {
      const slice = slices[first] ?? [];
      laid.push(...slice.slice(outer * inner, (outer + 1) * inner));
    }
  }
  return [
    TensorValue.ofArray(pick(array, laid, target)),
    TensorValue.ofNumbers(firsts),
    TensorValue.ofNumbers(inverse),
    TensorValue.ofNumbers(groups.map((members) => members.length)),
  ];
}

export const detection: readonly Operator[] = [
  defineOperator({
    name: 'NonMaxSuppression',
    since: 10,
    inputs: [2, 5],
    attributes: { center_point_box: int(0) },
    run: suppress,
  }),
  defineOperator({
    name: 'Unique',
    since: 11,
    inputs: 1,
    outputs: [1, 4],
    attributes: { axis: int(), sorted: flag(true) },
    run: (call) => {
      if (call.value(0).size > 1 << 24) throw new FormatError('more elements than are sorted here');
      return unique(call);
    },
  }),
];
