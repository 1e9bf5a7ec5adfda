// Picking and placing elements by index: Gather, Scatter, Slice, Pad and their kin.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { type Shape, formatShape, sameShape, sizeOf } from '../../../base/shape.ts';
import * as F from '../../functional/index.ts';
import * as T from '../../tensor/index.ts';
import type { Tensor } from '../../tensor/index.ts';
import { float, int, ints, required, text } from '../attributes.ts';
import { pick, placesOf, stridesOf } from '../host-arrays.ts';
import { type Call, HOST_LIMIT, type Operator, checkAxis, defineOperator } from '../operator.ts';
import type { ElementArray } from '../tensor-data.ts';
import { TensorValue } from '../values.ts';
import { as } from './results.ts';

/** Indices counted from the front; those known are checked here, others by the run. */
export function positive(value: TensorValue, size: number): Tensor {
  if (value.known !== null) {
    const numbers = value.numbers();
    const low = numbers.some((index) => index < 0);
    const wrong = numbers.find((index) => !(index >= -size && index < size));
    if (wrong !== undefined)
      throw new ShapeError(`index ${wrong} is out of range for size ${size}`);
    if (!low && value.type !== 'int64') return value.tensor;
    const fixed = Int32Array.from(numbers, (index) => (index < 0 ? index + size : index));
    // Kept at the value: every run of a model names the same memory.
    let made = fixedIndices.get(value);
    if (made?.size !== size) {
      made = { size, tensor: TensorValue.ofNumbers(fixed, value.shape, 'int32').tensor };
      fixedIndices.set(value, made);
    }
    return made.tensor;
  }
  const index = value.tensor.dtype === 'int32' ? value.tensor : value.tensor.to('int32');
  return T.where(index.lt(0), index.add(size), index);
}

const fixedIndices = new WeakMap<TensorValue, { size: number; tensor: Tensor }>();

function gather(call: Call<{ axis: number }>): TensorValue {
  const [data, indices] = [call.value(0), call.value(1)];
  const axis = call.axis(call.attributes.axis);
  const size = data.shape[axis] ?? 0;
  const shape = [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)];
  const index = positive(indices, size);
  if (indices.rank === 1) return as(data.type, data.tensor.indexSelect(axis, index));
  return as(data.type, data.tensor.indexSelect(axis, index.reshape([-1])).reshape(shape));
}

function gatherHost(call: Call<{ axis: number }>): ElementArray {
  const [data, indices] = [call.value(0), call.value(1)];
  const axis = call.axis(call.attributes.axis);
  const size = data.shape[axis] ?? 0;
  const strides = stridesOf(data.shape);
  const [before, after] = [data.shape.slice(0, axis), data.shape.slice(axis + 1)];
  const chosen = indices.numbers().map((index) => {
    if (index >= -size && index < size) return index < 0 ? index + size : index;
    throw new ShapeError(`index ${index} is out of range for size ${size}`);
  });
  const inner = placesOf(after, strides.slice(axis + 1));
  const places = placesOf(before, strides.slice(0, axis)).flatMap((start) =>
    chosen.flatMap((index) => inner.map((place) => start + index * (strides[axis] ?? 1) + place)),
  );
  return pick(data.read(), places, [...before, ...indices.shape, ...after]);
}

/** Rows of the first axes of a tensor, and where index vectors of length `depth` point among them. */
function flatRows(
  value: TensorValue,
  indices: TensorValue,
  batch: number,
): { rows: Tensor; flat: Tensor; rest: Shape; count: Shape } {
  const depth = indices.shape.at(-1) ?? 0;
  const count = indices.shape.slice(0, -1);
  if (indices.rank === 0 || depth + batch > value.rank || depth < 1) {
    throw new ShapeError(
      `indices ${formatShape(indices.shape)} into ${formatShape(value.shape)}, ${batch} batch axes`,
    );
  }
  const lead = value.shape.slice(0, batch);
  if (!sameShape(lead, indices.shape.slice(0, batch))) {
    throw new ShapeError(
      `batch axes of ${formatShape(value.shape)} and ${formatShape(indices.shape)} differ`,
    );
  }
  const sizes = value.shape.slice(batch, batch + depth);
  const rest = value.shape.slice(batch + depth);
  const strides = stridesOf(sizes);
  const parts = sizes.map((size, part) => {
    const column = columnOf(indices, part);
    return positive(column, size).mul(strides[part] ?? 1);
  });
  let flat = parts.reduce((a, b) => a.add(b));
  if (batch > 0) {
    const offsets = T.arange(sizeOf(lead)).mul(sizeOf(sizes));
    flat = flat.add(offsets.reshape([...lead, ...count.slice(batch).map(() => 1)]));
  }
  const rows = value.tensor.reshape([sizeOf(lead) * sizeOf(sizes), sizeOf(rest)]);
  return { rows, flat: flat.reshape([sizeOf(count)]), rest, count };
}

/** One number of each index vector. */
function columnOf(indices: TensorValue, part: number): TensorValue {
  const shape = indices.shape.slice(0, -1);
  const depth = indices.shape.at(-1) ?? 1;
  if (indices.known !== null && indices.size <= HOST_LIMIT) {
    const places = Array.from({ length: sizeOf(shape) }, (_, i) => i * depth + part);
    return TensorValue.ofArray(pick(indices.known, places, shape));
  }
  return as(indices.type, indices.tensor.select(-1, part));
}

function gatherND(call: Call<{ batch_dims: number }>): TensorValue {
  const data = call.value(0);
  const { rows, flat, rest, count } = flatRows(data, call.value(1), call.attributes.batch_dims);
  return as(data.type, rows.indexSelect(0, flat).reshape([...count, ...rest]));
}

const SCATTERS = ['none', 'add', 'mul', 'max', 'min'] as const;
const REDUCTION = text('none', SCATTERS);
const REDUCE_NAMES = { mul: 'prod', max: 'amax', min: 'amin' } as const;

type ScatterAttributes = { readonly reduction: (typeof SCATTERS)[number] };

function scatterND(call: Call<ScatterAttributes>): TensorValue {
  const { reduction } = call.attributes;
  const data = call.value(0);
  const { rows, flat } = flatRows(data, call.value(1), 0);
  const width = rows.shape[1] ?? 1;
  const updates = call.tensor(2).reshape([flat.size, width]);
  let result: Tensor;
  if (reduction === 'none') result = rows.indexCopy(0, flat, updates);
  else if (reduction === 'add') result = rows.indexAdd(0, flat, updates);
  else {
    const index = flat.reshape([-1, 1]).expand([flat.size, width]);
    result = rows.scatterReduce(0, index, updates, REDUCE_NAMES[reduction]);
  }
  return as(data.type, result.reshape(data.shape));
}

function scatterElements(call: Call<ScatterAttributes & { axis: number }>): TensorValue {
  const { reduction } = call.attributes;
  const data = call.value(0);
  const axis = call.axis(call.attributes.axis);
  const index = positive(call.value(1), data.shape[axis] ?? 0);
  const updates = call.tensor(2);
  if (!sameShape(index.shape, updates.shape)) {
    throw new ShapeError(
      `indices ${formatShape(index.shape)} for updates ${formatShape(updates.shape)}`,
    );
  }
  const x = data.tensor;
  if (reduction === 'none') return as(data.type, x.scatter(axis, index, updates));
  if (reduction === 'add') return as(data.type, x.scatterAdd(axis, index, updates));
  return as(data.type, x.scatterReduce(axis, index, updates, REDUCE_NAMES[reduction]));
}

/** A part of an axis: `count` elements from `start`, `step` apart. */
interface Part {
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

/** What starts, ends and steps mean for each axis. */
function sliceParts(
  shape: Shape,
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[] | undefined,
  steps: readonly number[] | undefined,
): Part[] {
  const parts: Part[] = shape.map((count) => ({ start: 0, step: 1, count }));
  const lengths = [ends.length, axes?.length ?? starts.length, steps?.length ?? starts.length];
  if (lengths.some((length) => length !== starts.length)) {
    throw new ShapeError(
      `${starts.length} starts, with ${lengths.join(', ')} ends, axes and steps`,
    );
  }
  for (const [i, given] of starts.entries()) {
    const axis = checkAxis(axes?.[i] ?? i, shape.length);
    const size = shape[axis] ?? 0;
    const step = steps?.[i] ?? 1;
    if (step === 0) throw new ShapeError('a slice with step 0');
    // Going back, a slice starts at most at the last element and ends at least before the first.
    const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
    const clamp = (value: number, least: number): number =>
      Math.min(high, Math.max(least, value < 0 ? value + size : value));
    const start = clamp(given, 0);
    const end = clamp(ends[i] ?? 0, low);
    const count = size === 0 ? 0 : Math.max(0, Math.ceil((end - start) / step));
    parts[axis] = { start, step, count };
  }
  return parts;
}

function sliced(value: TensorValue, parts: readonly Part[]): TensorValue {
  const { known, shape } = value;
  const target = parts.map(({ count }) => count);
  if (sameShape(target, shape) && parts.every(({ step }) => step === 1)) return value;
  if (known !== null && sizeOf(target) <= HOST_LIMIT) {
    const strides = stridesOf(shape);
    const offset = parts.reduce((sum, { start }, axis) => sum + start * (strides[axis] ?? 0), 0);
    const steps = parts.map(({ step }, axis) => step * (strides[axis] ?? 0));
    const places = sizeOf(target) === 0 ? [] : placesOf(target, steps, offset);
    return TensorValue.ofArray(pick(known, places, target));
  }
  let x = value.tensor;
  const back = parts.flatMap(({ step }, axis) => (step < 0 ? [axis] : []));
  if (back.length > 0) x = x.flip(back);
  const ranges = parts.map(({ start, step, count }, axis) => {
    const from = step < 0 ? (shape[axis] ?? 0) - 1 - start : start;
    const stride = Math.abs(step);
    const end = count === 0 ? from : from + (count - 1) * stride + 1;
    return T.slice(from, end, stride);
  });
  return as(value.type, x.at(...ranges));
}

const PAD_MODES = ['constant', 'reflect', 'edge', 'wrap'] as const;
type PadMode = (typeof PAD_MODES)[number];
const FRAMEWORK_MODES = {
  constant: 'constant',
  reflect: 'reflect',
  edge: 'replicate',
  wrap: 'circular',
} as const;

/** pads: before each of the axes, then after each. */
export function padValue(
  value: TensorValue,
  pads: readonly number[],
  axes: readonly number[] | undefined,
  mode: PadMode,
  fill: number,
): TensorValue {
  const { rank } = value;
  const named = axes ?? Array.from({ length: rank }, (_, axis) => axis);
  if (pads.length !== 2 * named.length) {
    throw new ShapeError(`pads ${formatShape(pads)} for ${named.length} axes`);
  }
  const amounts = new Array<number>(2 * rank).fill(0);
  for (const [i, given] of named.entries()) {
    const at = 2 * (rank - 1 - checkAxis(given, rank));
    amounts[at] = pads[i] ?? 0;
    amounts[at + 1] = pads[i + named.length] ?? 0;
  }
  if (amounts.every((amount) => amount === 0)) return value;
  return as(value.type, F.pad(value.tensor, amounts, { mode: FRAMEWORK_MODES[mode], value: fill }));
}

function oneHot(call: Call<{ axis: number }>): TensorValue {
  const indices = call.value(0);
  const depth = call.number(1);
  const values = call.tensor(2).reshape([-1]);
  if (!(depth >= 1)) throw new ShapeError(`a depth of ${depth}`);
  const axis = checkAxis(call.attributes.axis, indices.rank + 1);
  const given = indices.tensor.unsqueeze(axis);
  const index = T.where(given.lt(0), given.add(depth), given);
  const after = new Array<number>(indices.rank - axis).fill(1);
  const classes = T.arange(depth)
    .to(index.dtype)
    .reshape([depth, ...after]);
  return as(call.type(2), T.where(index.eq(classes), values.select(0, 1), values.select(0, 0)));
}

/** The rows where the condition, which is read, holds. */
function compress(call: Call<{ axis: number | undefined }>): TensorValue {
  const { axis } = call.attributes;
  const chosen = call.numbers(1).flatMap((flag, index) => (flag === 0 ? [] : [index]));
  const index = TensorValue.ofNumbers(chosen, [chosen.length], 'int32').tensor;
  if (axis !== undefined) {
    return as(call.type(0), call.tensor(0).indexSelect(call.axis(axis), index));
  }
  return as(call.type(0), call.tensor(0).reshape([-1]).indexSelect(0, index));
}

function reverseSequence(call: Call<{ batch_axis: number; time_axis: number }>): TensorValue {
  const { batch_axis: batch, time_axis: time } = call.attributes;
  const x = call.tensor(0);
  if (batch + time !== 1) throw new ShapeError('batch and time axes must be 0 and 1');
  const steps = x.shape[time] ?? 0;
  const lengths = call.tensor(1).to('int32').unsqueeze(time);
  const places = T.arange(steps).to('int32').unsqueeze(batch);
  const source = T.where(places.lt(lengths), lengths.sub(places).sub(1), places);
  const rest = x.shape.slice(2);
  const index = source.reshape([...source.shape, ...rest.map(() => 1)]).expand(x.shape);
  return as(call.type(0), x.gather(time, index));
}

function trilu(call: Call<{ upper: number }>): TensorValue {
  const offset = call.has(1) ? call.number(1) : 0;
  const [rows = 0, columns = 0] = call.shape(0).slice(-2);
  // Beyond the corners every offset means the same.
  const k = Math.min(columns, Math.max(-rows, offset));
  const x = call.tensor(0);
  return as(call.type(0), call.attributes.upper === 0 ? x.tril(k) : x.triu(k));
}

/** Cuts out the middle, or pads around it with zeros. */
function centerCropPad(call: Call<{ axes: readonly number[] | undefined }>): TensorValue {
  const value = call.value(0);
  const sizes = call.numbers(1);
  const axes = (call.attributes.axes ?? value.shape.map((_, axis) => axis)).map((axis) =>
    call.axis(axis),
  );
  if (axes.length !== sizes.length)
    throw new ShapeError(`${sizes.length} sizes, ${axes.length} axes`);
  const parts: Part[] = value.shape.map((count) => ({ start: 0, step: 1, count }));
  const pads = new Array<number>(2 * axes.length).fill(0);
  for (const [i, axis] of axes.entries()) {
    const [size = 0, wanted = 0] = [value.shape[axis], sizes[i]];
    if (wanted <= size) parts[axis] = { start: (size - wanted) >> 1, step: 1, count: wanted };
    else {
      pads[i] = (wanted - size) >> 1;
      pads[i + axes.length] = wanted - size - (pads[i] ?? 0);
    }
  }
  return padValue(sliced(value, parts), pads, axes, 'constant', 0);
}

/** Writes updates into a cache along an axis, at a place for each batch item. */
function tensorScatter(call: Call<{ axis: number; mode: string }>): TensorValue {
  const [past, update] = [call.value(0), call.value(1)];
  const axis = call.axis(call.attributes.axis);
  const length = past.shape[axis] ?? 0;
  const [steps = 0] = update.shape.slice(axis);
  const batch = past.shape[0] ?? 0;
  const start = call.has(2) ? call.tensor(2).to('int32') : T.full([batch], 0, { dtype: 'int32' });
  let place = start.reshape([batch, 1]).add(T.arange(steps).to('int32').reshape([1, steps]));
  if (call.attributes.mode === 'circular') place = place.remainder(length);
  const shape = update.shape.map((size, i) => (i === 0 ? batch : i === axis ? size : 1));
  const index = place.reshape(shape).expand(update.shape);
  return as(past.type, past.tensor.scatter(axis, index, update.tensor));
}

const axisAttribute = { axis: int(0) };

export const indexing: readonly Operator[] = [
  defineOperator({
    name: 'Gather',
    since: 1,
    inputs: 2,
    attributes: axisAttribute,
    run: gather,
    host: gatherHost,
  }),
  defineOperator({
    name: 'GatherElements',
    since: 11,
    inputs: 2,
    attributes: axisAttribute,
    run: (call) => {
      const axis = call.axis(call.attributes.axis);
      const index = positive(call.value(1), call.shape(0)[axis] ?? 0);
      return as(call.type(0), call.tensor(0).gather(axis, index));
    },
  }),
  defineOperator({
    name: 'GatherND',
    since: 11,
    inputs: 2,
    attributes: { batch_dims: int(0) },
    run: gatherND,
  }),
  ...(['Scatter', 'ScatterElements'] as const).map((name) =>
    defineOperator({
      name,
      since: name === 'Scatter' ? 9 : 11,
      inputs: 3,
      attributes: { ...axisAttribute, reduction: REDUCTION },
      run: scatterElements,
    }),
  ),
  defineOperator({
    name: 'ScatterND',
    since: 11,
    inputs: 3,
    attributes: { reduction: REDUCTION },
    run: scatterND,
  }),
  defineOperator({
    name: 'TensorScatter',
    since: 24,
    inputs: [2, 3],
    attributes: { axis: int(-2), mode: text('linear', ['linear', 'circular']) },
    run: tensorScatter,
  }),
  defineOperator({
    name: 'Slice',
    since: 1,
    until: 9,
    inputs: 1,
    attributes: { axes: ints(), ends: required(ints()), starts: required(ints()) },
    run: (call) => {
      const { axes, ends, starts } = call.attributes;
      return sliced(call.value(0), sliceParts(call.shape(0), starts, ends, axes, undefined));
    },
  }),
  defineOperator({
    name: 'Slice',
    since: 10,
    inputs: [3, 5],
    run: (call) => {
      const [axes, steps] = [call.optionalNumbers(3), call.optionalNumbers(4)];
      const parts = sliceParts(call.shape(0), call.numbers(1), call.numbers(2), axes, steps);
      return sliced(call.value(0), parts);
    },
  }),
  defineOperator({
    name: 'Pad',
    since: 2,
    until: 10,
    inputs: 1,
    attributes: {
      mode: text('constant', PAD_MODES),
      pads: required(ints()),
      value: float(0),
    },
    run: (call) => {
      const { mode, pads, value } = call.attributes;
      return padValue(call.value(0), pads, undefined, mode, value);
    },
  }),
  defineOperator({
    name: 'Pad',
    since: 11,
    inputs: [2, 4],
    attributes: { mode: text('constant', PAD_MODES) },
    constants: [2],
    run: (call) => {
      const fill = call.has(2) && call.value(2).size > 0 ? call.number(2) : 0;
      const [pads, axes] = [call.numbers(1), call.optionalNumbers(3)];
      return padValue(call.value(0), pads, axes, call.attributes.mode, fill);
    },
  }),
  defineOperator({
    name: 'OneHot',
    since: 9,
    inputs: 3,
    attributes: { axis: int(-1) },
    run: oneHot,
  }),
  defineOperator({
    name: 'TopK',
    since: 1,
    until: 9,
    inputs: 1,
    outputs: 2,
    attributes: { axis: int(-1), k: required(int()) },
    run: (call) => topK(call, call.attributes.k, true),
  }),
  defineOperator({
    name: 'TopK',
    since: 10,
    inputs: 2,
    outputs: [1, 2],
    attributes: { axis: int(-1), largest: int(1), sorted: int(1) },
    run: (call) => topK(call, call.number(1), call.attributes.largest !== 0),
  }),
  defineOperator({
    name: 'NonZero',
    since: 9,
    inputs: 1,
    run: (call) => as('int64', call.tensor(0).nonzero().transpose(0, 1)),
  }),
  defineOperator({
    name: 'Compress',
    since: 9,
    inputs: 2,
    attributes: { axis: int() },
    run: compress,
  }),
  defineOperator({
    name: 'ReverseSequence',
    since: 10,
    inputs: 2,
    attributes: { batch_axis: int(1), time_axis: int(0) },
    run: reverseSequence,
  }),
  defineOperator({
    name: 'Trilu',
    since: 14,
    inputs: [1, 2],
    attributes: { upper: int(1) },
    run: trilu,
  }),
  defineOperator({
    name: 'CenterCropPad',
    since: 18,
    inputs: 2,
    attributes: { axes: ints() },
    run: centerCropPad,
  }),
];

function topK(call: Call<{ axis: number }>, k: number, largest: boolean): TensorValue[] {
  const axis = call.axis(call.attributes.axis);
  if (!(k >= 0 && k <= (call.shape(0)[axis] ?? 0))) {
    throw new FormatError(`the ${k} largest of ${call.shape(0)[axis] ?? 0}`);
  }
  const { values, indices } = call.tensor(0).topk(k, axis, { largest });
  return [as(call.type(0), values), as('int64', indices)];
}
