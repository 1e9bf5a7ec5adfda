// Shapes: what tells them, what changes them, and what lays elements out anew. On the host, exactly,
// where the elements are known: models compute the arguments of Reshape this way.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { type Shape, formatShape, sizeOf } from '../../../base/shape.ts';
import * as T from '../../tensor/index.ts';
import { flag, int, ints, required, text } from '../attributes.ts';
import {
  broadcastOf,
  broadcastPlaces,
  pick,
  placesOf,
  reshaped,
  stridesOf,
} from '../host-arrays.ts';
import { type Call, HOST_LIMIT, type Operator, checkAxis, defineOperator } from '../operator.ts';
import { type ElementArray, newElements } from '../tensor-data.ts';
import { SequenceValue, TensorValue } from '../values.ts';
import { as } from './results.ts';

/** The shape that Reshape asks for: 0 keeps a size, -1 is what is left. */
export function targetShape(from: Shape, wanted: readonly number[], allowZero: boolean): number[] {
  const shape = wanted.map((size, axis) => {
    if (size !== 0 || allowZero) return size;
    const kept = from[axis];
    if (kept !== undefined) return kept;
    throw new ShapeError(`size 0 at axis ${axis} keeps none of ${formatShape(from)}`);
  });
  const open = shape.filter((size) => size === -1).length;
  if (open > 1 || shape.some((size) => size < -1)) {
    throw new ShapeError(`${formatShape(wanted)} is no shape`);
  }
  if (open === 1) {
    const rest = shape.reduce((product, size) => (size === -1 ? product : product * size), 1);
    const size = rest === 0 ? 0 : sizeOf(from) / rest;
    if (!Number.isInteger(size)) {
      throw new ShapeError(`${formatShape(from)} does not fill ${formatShape(wanted)}`);
    }
    shape[shape.indexOf(-1)] = size;
  }
  if (sizeOf(shape) !== sizeOf(from)) {
    throw new ShapeError(`${formatShape(from)} does not fill ${formatShape(wanted)}`);
  }
  return shape;
}

/** A value in another shape; what is known stays known. */
export function reshapeValue(value: TensorValue, shape: Shape): TensorValue {
  if (value.known !== null) return TensorValue.ofArray(reshaped(value.known, shape));
  return as(value.type, value.tensor.reshape(shape));
}

/** Axes counted from the front, in order; throws for one that is named twice. */
function readAxes(axes: readonly number[], rank: number): number[] {
  const positive = axes.map((axis) => checkAxis(axis, rank));
  if (new Set(positive).size !== positive.length) {
    throw new ShapeError(`an axis stands twice in ${formatShape(axes)}`);
  }
  return positive.sort((a, b) => a - b);
}

function squeezed(value: TensorValue, axes: readonly number[] | undefined): TensorValue {
  const { shape, rank } = value;
  const taken =
    axes === undefined
      ? new Set(shape.flatMap((size, axis) => (size === 1 ? [axis] : [])))
      : new Set(readAxes(axes, rank));
  for (const axis of taken) {
    if (shape[axis] !== 1) {
      throw new ShapeError(`axis ${axis} of ${formatShape(shape)} is not of size 1`);
    }
  }
  return reshapeValue(
    value,
    shape.filter((_, axis) => !taken.has(axis)),
  );
}

function unsqueezed(value: TensorValue, axes: readonly number[]): TensorValue {
  const rest = [...value.shape];
  const shape: number[] = [];
  const added = new Set(readAxes(axes, value.rank + axes.length));
  for (let axis = 0; axis < value.rank + axes.length; axis++) {
    shape.push(added.has(axis) ? 1 : (rest.shift() as number));
  }
  return reshapeValue(value, shape);
}

function transposed(call: Call<{ perm: readonly number[] | undefined }>): readonly number[] {
  const { rank } = call.value(0);
  const perm = call.attributes.perm ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
  if (perm.length !== rank || new Set(perm).size !== rank) {
    throw new ShapeError(`perm ${formatShape(perm)} for ${rank} axes`);
  }
  return perm.map((axis) => checkAxis(axis, rank));
}

function flattened(value: TensorValue, axis: number): TensorValue {
  const from = axis === value.rank ? axis : checkAxis(axis, value.rank);
  const lead = sizeOf(value.shape.slice(0, from));
  return reshapeValue(value, [lead, sizeOf(value.shape.slice(from))]);
}

/** Sizes to which Expand broadcasts: one that is 1 leaves the other as it is. */
function expandedShape(call: Call): number[] {
  return broadcastOf([call.shape(0), call.numbers(1)]);
}

function shapeRange(call: Call<{ start: number; end: number | undefined }>): number[] {
  const { rank, shape } = call.value(0);
  const bound = (axis: number): number =>
    Math.min(rank, Math.max(0, axis < 0 ? axis + rank : axis));
  const { start, end } = call.attributes;
  return shape.slice(bound(start), bound(end ?? rank));
}

/** Lists of known elements, joined. */
function concatHost(arrays: readonly ElementArray[]): ElementArray | undefined {
  const [first] = arrays;
  if (first === undefined || arrays.some(({ shape }) => shape.length !== 1)) return undefined;
  const size = arrays.reduce((sum, { data }) => sum + data.length, 0);
  const data = newElements(first.type, size);
  let at = 0;
  for (const array of arrays) {
    for (const value of array.data) Reflect.set(data, at++, value);
  }
  return { type: first.type, shape: [size], data };
}

/** Sizes of the parts of Split. */
function partSizes(call: Call, axis: number, given: readonly number[] | undefined): number[] {
  const length = call.shape(0)[axis] ?? 0;
  if (given !== undefined) {
    const sum = given.reduce((a, b) => a + b, 0);
    if (sum !== length || given.some((size) => size < 0)) {
      throw new ShapeError(`parts of ${formatShape(given)} for an axis of ${length}`);
    }
    return [...given];
  }
  const count = call.outputs.length;
  // Where it does not come out even the last part is smaller.
  const size = Math.ceil(length / count);
  return Array.from({ length: count }, (_, i) => Math.max(0, Math.min(size, length - i * size)));
}

export function splitValue(
  value: TensorValue,
  axis: number,
  sizes: readonly number[],
): TensorValue[] {
  const { known } = value;
  if (known !== null && value.size <= HOST_LIMIT) {
    let start = 0;
    const strides = stridesOf(value.shape);
    return sizes.map((size) => {
      const shape = value.shape.map((length, i) => (i === axis ? size : length));
      const places = placesOf(shape, strides, start * (strides[axis] ?? 1));
      start += size;
      return TensorValue.ofArray(pick(known, places, shape));
    });
  }
  if (sizes.length === 1) return [value];
  return value.tensor.split(sizes, axis).map((part) => as(value.type, part));
}

function tile(call: Call, repeats: readonly number[]): TensorValue {
  const { rank } = call.value(0);
  if (repeats.length !== rank || repeats.some((count) => count < 0)) {
    throw new ShapeError(`repeats ${formatShape(repeats)} for ${rank} axes`);
  }
  if (repeats.length === 0) return call.value(0);
  return as(call.type(0), call.tensor(0).repeat(repeats));
}

interface Blocks {
  readonly n: number;
  readonly c: number;
  readonly h: number;
  readonly w: number;
}

function imageShape(call: Call): Blocks {
  const [n, c, h, w] = call.shape(0);
  if (call.value(0).rank !== 4) {
    throw new ShapeError(`expected [n, c, h, w], got ${formatShape(call.shape(0))}`);
  }
  return { n: n ?? 0, c: c ?? 0, h: h ?? 0, w: w ?? 0 };
}

function depthToSpace(call: Call<{ blocksize: number; mode: string }>): TensorValue {
  const { n, c, h, w } = imageShape(call);
  const { blocksize: b, mode } = call.attributes;
  const depth = c / (b * b);
  if (b < 1 || !Number.isInteger(depth)) {
    throw new ShapeError(`${c} channels do not make blocks of ${b} by ${b}`);
  }
  const x = call.tensor(0);
  const parts =
    mode === 'CRD'
      ? x.reshape([n, depth, b, b, h, w]).permute([0, 1, 4, 2, 5, 3])
      : x.reshape([n, b, b, depth, h, w]).permute([0, 3, 4, 1, 5, 2]);
  return as(call.type(0), parts.reshape([n, depth, h * b, w * b]));
}

function spaceToDepth(call: Call<{ blocksize: number; mode: string }>): TensorValue {
  const { n, c, h, w } = imageShape(call);
  const { blocksize: b } = call.attributes;
  if (b < 1 || h % b !== 0 || w % b !== 0) {
    throw new ShapeError(`${h} by ${w} does not make blocks of ${b} by ${b}`);
  }
  const parts = call.tensor(0).reshape([n, c, h / b, b, w / b, b]);
  const isRow = call.attributes.mode === 'CRD';
  const moved = parts.permute(isRow ? [0, 1, 3, 5, 2, 4] : [0, 3, 5, 1, 2, 4]);
  return as(call.type(0), moved.reshape([n, c * b * b, h / b, w / b]));
}

function concat(call: Call, axis: number): TensorValue {
  const values = call.values();
  const at = call.axis(axis);
  const filled = values.filter(({ size, rank }) => size > 0 || rank !== 1);
  if (filled.length === 1 && filled[0] !== undefined) return filled[0];
  return as(
    call.type(0),
    T.cat(
      values.map(({ tensor }) => tensor),
      at,
    ),
  );
}

export const shaping: readonly Operator[] = [
  defineOperator({
    name: 'Shape',
    since: 1,
    inputs: 1,
    attributes: { start: int(0), end: int() },
    run: (call) => TensorValue.ofNumbers(shapeRange(call)),
  }),
  defineOperator({
    name: 'Size',
    since: 1,
    inputs: 1,
    run: (call) => TensorValue.ofNumbers([call.value(0).size], []),
  }),
  defineOperator({
    name: 'Reshape',
    since: 5,
    inputs: 2,
    attributes: { allowzero: flag() },
    run: (call) => {
      const shape = targetShape(call.shape(0), call.numbers(1), call.attributes.allowzero);
      return reshapeValue(call.value(0), shape);
    },
  }),
  defineOperator({
    name: 'Reshape',
    since: 1,
    until: 4,
    inputs: 1,
    attributes: { shape: ints([]), consumed_inputs: ints() },
    run: (call) =>
      reshapeValue(call.value(0), targetShape(call.shape(0), call.attributes.shape, false)),
  }),
  defineOperator({
    name: 'Squeeze',
    since: 1,
    until: 12,
    inputs: 1,
    attributes: { axes: ints() },
    run: (call) => squeezed(call.value(0), call.attributes.axes),
  }),
  defineOperator({
    name: 'Squeeze',
    since: 13,
    inputs: [1, 2],
    run: (call) => squeezed(call.value(0), call.optionalNumbers(1)),
  }),
  defineOperator({
    name: 'Unsqueeze',
    since: 1,
    until: 12,
    inputs: 1,
    attributes: { axes: required(ints()) },
    run: (call) => unsqueezed(call.value(0), call.attributes.axes),
  }),
  defineOperator({
    name: 'Unsqueeze',
    since: 13,
    inputs: 2,
    run: (call) => unsqueezed(call.value(0), call.numbers(1)),
  }),
  defineOperator({
    name: 'Flatten',
    since: 1,
    inputs: 1,
    attributes: { axis: int(1) },
    run: (call) => flattened(call.value(0), call.attributes.axis),
  }),
  defineOperator({
    name: 'Transpose',
    since: 1,
    inputs: 1,
    attributes: { perm: ints() },
    run: (call) => as(call.type(0), call.tensor(0).permute(transposed(call))),
    host: (call) => {
      const perm = transposed(call);
      const array = call.value(0).read();
      const strides = stridesOf(array.shape);
      const shape = perm.map((axis) => array.shape[axis] ?? 0);
      const places = placesOf(
        shape,
        perm.map((axis) => strides[axis] ?? 0),
      );
      return pick(array, places, shape);
    },
  }),
  defineOperator({
    name: 'Expand',
    since: 8,
    inputs: 2,
    run: (call) => as(call.type(0), call.tensor(0).expand(expandedShape(call))),
    host: (call) => {
      const shape = expandedShape(call);
      if (sizeOf(shape) > HOST_LIMIT) return undefined;
      const array = call.value(0).read();
      return pick(array, broadcastPlaces(array.shape, shape), shape);
    },
  }),
  defineOperator({
    name: 'Tile',
    since: 6,
    inputs: 2,
    run: (call) => tile(call, call.numbers(1)),
  }),
  defineOperator({
    name: 'Tile',
    since: 1,
    until: 5,
    inputs: 3,
    run: (call) => {
      const axis = call.axis(call.number(2));
      return tile(
        call,
        call.shape(0).map((_, i) => (i === axis ? call.number(1) : 1)),
      );
    },
  }),
  defineOperator({
    name: 'Concat',
    since: 4,
    inputs: [1, 65_536],
    attributes: { axis: required(int()) },
    run: (call) => concat(call, call.attributes.axis),
    host: (call) => concatHost(call.values().map((value) => value.read())),
  }),
  defineOperator({
    name: 'Concat',
    since: 1,
    until: 3,
    inputs: [1, 65_536],
    attributes: { axis: int(1) },
    run: (call) => concat(call, call.attributes.axis),
  }),
  defineOperator({
    name: 'Split',
    since: 2,
    until: 12,
    inputs: 1,
    outputs: [1, 65_536],
    attributes: { axis: int(0), split: ints() },
    run: (call) => {
      const axis = call.axis(call.attributes.axis);
      return splitValue(call.value(0), axis, partSizes(call, axis, call.attributes.split));
    },
  }),
  defineOperator({
    name: 'Split',
    since: 13,
    inputs: [1, 2],
    outputs: [1, 65_536],
    attributes: { axis: int(0), num_outputs: int() },
    run: (call) => {
      const { axis, num_outputs: count } = call.attributes;
      if (count !== undefined && count !== call.outputs.length) {
        throw new FormatError(`num_outputs is ${count}, there are ${call.outputs.length}`);
      }
      const at = call.axis(axis);
      return splitValue(call.value(0), at, partSizes(call, at, call.optionalNumbers(1)));
    },
  }),
  defineOperator({
    name: 'DepthToSpace',
    since: 1,
    inputs: 1,
    attributes: { blocksize: required(int()), mode: text('DCR', ['DCR', 'CRD']) },
    run: depthToSpace,
  }),
  defineOperator({
    name: 'SpaceToDepth',
    since: 1,
    inputs: 1,
    // The mode is said from version 28 on.
    attributes: { blocksize: required(int()), mode: text('DCR', ['DCR', 'CRD']) },
    run: spaceToDepth,
  }),
  defineOperator({
    name: 'Identity',
    since: 1,
    inputs: 1,
    run: (call) => call.any(0),
  }),
  defineOperator({
    name: 'SplitToSequence',
    since: 11,
    inputs: [1, 2],
    attributes: { axis: int(0), keepdims: flag(true) },
    run: (call) => {
      const value = call.value(0);
      const axis = call.axis(call.attributes.axis);
      const length = value.shape[axis] ?? 0;
      const given = call.optionalNumbers(1) ?? new Array<number>(length).fill(1);
      const whole = call.has(1) && call.value(1).rank === 0;
      const step = given[0] ?? 1;
      if (whole && !(step >= 1)) throw new ShapeError(`parts of size ${step}`);
      const sizes = whole
        ? Array.from({ length: Math.ceil(length / step) }, (_, i) =>
            Math.min(step, length - i * step),
          )
        : given;
      const parts = splitValue(value, axis, partSizes(call, axis, sizes));
      const drop = !call.has(1) && !call.attributes.keepdims;
      return new SequenceValue(drop ? parts.map((x) => squeezed(x, [axis])) : parts, value.type);
    },
  }),
];
