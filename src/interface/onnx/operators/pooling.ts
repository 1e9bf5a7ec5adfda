// Pools over windows and over everything.
import { ShapeError } from '../../../base/errors.ts';
import { formatShape, sizeOf } from '../../../base/shape.ts';
import * as ops from '../../../graph/ops/index.ts';
import * as F from '../../functional/index.ts';
import { wrap } from '../../tensor/handle.ts';
import { type Tensor, arange, full } from '../../tensor/index.ts';
import { flag, float, int, ints, required } from '../attributes.ts';
import { stridesOf } from '../host-arrays.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import type { TensorValue } from '../values.ts';
import { as } from './results.ts';
import {
  WINDOW_ATTRIBUTES,
  type WindowAttributes,
  type Windows,
  pairPads,
  readWindows,
  spaceOf,
} from './windows.ts';

type PoolAttributes = WindowAttributes & {
  readonly ceil_mode: boolean;
  readonly kernel_shape: readonly number[];
};

/** The windows of a pool; with `ceil_mode` the padding after reaches as far as the last window. */
function poolWindows(x: Tensor, attributes: PoolAttributes): { windows: Windows; sides: number[] } {
  const space = spaceOf(x.shape);
  const windows = readWindows(space, attributes.kernel_shape, attributes);
  const { kernel, stride, padding, dilation } = windows;
  const grown = [...padding];
  for (const [axis, size] of space.entries()) {
    const [before = 0, after = 0] = padding.slice(2 * axis, 2 * axis + 2);
    const step = stride[axis] ?? 1;
    const span = (dilation[axis] ?? 1) * ((kernel[axis] ?? 1) - 1) + 1;
    const over = size + before + after - span;
    if (over < 0) throw new ShapeError(`a window of ${span} on ${size + before + after} elements`);
    if (!attributes.ceil_mode) continue;
    let count = Math.ceil(over / step);
    // A window that starts in the padding after the input is left out.
    if (count * step >= size + before) count--;
    grown[2 * axis + 1] = after + Math.max(0, count * step - over);
  }
  return { windows: { ...windows, padding: grown }, sides: [...padding] };
}

/** Amounts in the order of F.pad, last axis first. */
function padAmounts(padding: readonly number[]): number[] {
  const rank = padding.length / 2;
  return padding.map((_, i) => padding[2 * (rank - 1 - (i >> 1)) + (i & 1)] ?? 0);
}

/** The lowest value of a dtype, which no maximum takes. */
const LOWEST: Readonly<Record<string, number>> = { int8: -128, uint8: 0, int32: -(2 ** 31) };

function maxPool(call: Call<PoolAttributes & { storage_order: number }>): Result[] {
  let x = call.tensor(0);
  const { windows } = poolWindows(x, call.attributes);
  const space = spaceOf(x.shape);
  const { padding, kernel } = windows;
  const wide = padding.some((amount, i) => amount * 2 > (kernel[i >> 1] ?? 1));
  let window = windows;
  if (wide && !call.wants(1)) {
    // Padding of more than half a window is laid around the input.
    const value = LOWEST[x.dtype] ?? -Infinity;
    x = F.pad(x, padAmounts(padding), { value });
    window = { ...windows, padding: padding.map(() => 0) };
  }
  const values = as(call.type(0), wrap(ops.maxPool(x.node, window)));
  if (!call.wants(1)) return [values];
  const within = wrap(ops.maxPoolIndices(x.node, window));
  return [values, as('int64', flatIndices(within, x, space, call.attributes.storage_order === 1))];
}

/** Places within the whole input, of places within its space; with column-major space on demand. */
function flatIndices(
  within: Tensor,
  x: Tensor,
  space: readonly number[],
  columnMajor: boolean,
): Tensor {
  let place = within;
  if (columnMajor) {
    const strides = stridesOf(space);
    const columns = stridesOf([...space].reverse()).reverse();
    place = strides
      .map((step, axis) =>
        within
          .floorDivide(step)
          .remainder(space[axis] ?? 1)
          .mul(columns[axis] ?? 1),
      )
      .reduce((a, b) => a.add(b));
  }
  const lead = x.shape.slice(0, 2);
  const offsets = arange(sizeOf(lead)).mul(sizeOf(space));
  return place.add(offsets.reshape([...lead, ...space.map(() => 1)]));
}

/** How many elements each window counts, [...space]. */
function windowCounts(
  x: Tensor,
  windows: Windows,
  sides: readonly number[],
  withPad: boolean,
): Tensor {
  const space = spaceOf(x.shape);
  const size = withPad
    ? space.map((length, axis) => length + (sides[2 * axis] ?? 0) + (sides[2 * axis + 1] ?? 0))
    : space;
  const padding = withPad
    ? windows.padding.map((amount, i) => amount - (sides[i] ?? 0))
    : windows.padding;
  const ones = full([1, 1, ...size], 1, { dtype: x.dtype });
  return wrap(ops.sumPool(ones.node, { ...windows, padding }));
}

function averagePool(call: Call<PoolAttributes & { count_include_pad: boolean }>): TensorValue {
  const x = call.tensor(0);
  const { windows, sides } = poolWindows(x, call.attributes);
  const total = wrap(ops.sumPool(x.node, windows));
  const grown = windows.padding.some((amount, i) => amount !== sides[i]);
  const withPad = call.attributes.count_include_pad;
  const padded = sides.some((amount) => amount > 0);
  if (grown || (padded && !withPad)) {
    return as(call.type(0), total.div(windowCounts(x, windows, sides, withPad)));
  }
  return as(call.type(0), total.mul(1 / sizeOf(windows.kernel)));
}

function lpPool(call: Call<PoolAttributes & { p: number }>): TensorValue {
  const { p } = call.attributes;
  const x = call.tensor(0);
  const { windows } = poolWindows(x, call.attributes);
  const total = wrap(ops.sumPool(x.abs().pow(p).node, windows));
  return as(call.type(0), total.pow(1 / p));
}

/** Over all of space, which stays as axes of size 1. */
function globally(name: string, compute: (x: Tensor, axes: number[]) => Tensor): Operator {
  return defineOperator({
    name,
    since: 1,
    inputs: 1,
    run: (call) => {
      const axes = spaceOf(call.shape(0)).map((_, axis) => axis + 2);
      return as(call.type(0), compute(call.tensor(0), axes));
    },
  });
}

interface UnpoolAttributes {
  readonly kernel_shape: readonly number[];
  readonly pads: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
}

/** Puts values to the places that MaxPool gave, zeros elsewhere. */
function maxUnpool(call: Call<UnpoolAttributes>): TensorValue {
  const x = call.tensor(0);
  const space = spaceOf(x.shape);
  const rank = space.length;
  const { kernel, stride } = readWindows(space, call.attributes.kernel_shape, {
    ...call.attributes,
    auto_pad: 'VALID',
  });
  const { pads } = call.attributes;
  const sides = pads === undefined ? new Array<number>(2 * rank).fill(0) : pairPads(pads, rank);
  const smallest = space.map(
    (size, axis) =>
      (size - 1) * (stride[axis] ?? 1) -
      (sides[2 * axis] ?? 0) -
      (sides[2 * axis + 1] ?? 0) +
      (kernel[axis] ?? 1),
  );
  const lead = x.shape.slice(0, 2);
  // The places count within the smallest result, whatever the size of the one that is asked for.
  const places = call.tensor(1).reshape([-1]);
  const size = sizeOf([...lead, ...smallest]);
  const spread = full([size], 0, { dtype: x.dtype }).scatter(0, places, x.reshape([-1]));
  const result = spread.reshape([...lead, ...smallest]);
  const wanted = call.optionalNumbers(2);
  if (wanted === undefined) return as(call.type(0), result);
  const after = smallest.map((length, axis) => (wanted[axis + 2] ?? length) - length);
  if (wanted.length !== rank + 2 || after.some((amount) => amount < 0)) {
    throw new ShapeError(`output_shape ${formatShape(wanted)}, at least ${formatShape(smallest)}`);
  }
  if (after.every((amount) => amount === 0)) return as(call.type(0), result);
  const amounts = after.flatMap((_, i) => [0, after[rank - 1 - i] ?? 0]);
  return as(call.type(0), F.pad(result, amounts));
}

const POOL = { ...WINDOW_ATTRIBUTES, kernel_shape: required(ints()) };

export const pooling: readonly Operator[] = [
  defineOperator({
    name: 'MaxPool',
    since: 1,
    inputs: 1,
    outputs: [1, 2],
    attributes: { ...POOL, ceil_mode: flag(), storage_order: int(0) },
    run: maxPool,
  }),
  defineOperator({
    name: 'AveragePool',
    since: 1,
    inputs: 1,
    attributes: { ...POOL, ceil_mode: flag(), count_include_pad: flag() },
    run: averagePool,
  }),
  defineOperator({
    name: 'LpPool',
    since: 2,
    inputs: 1,
    attributes: { ...POOL, ceil_mode: flag(), p: int(2) },
    run: lpPool,
  }),
  globally('GlobalAveragePool', (x, axes) => x.mean(axes, { keepdims: true })),
  globally('GlobalMaxPool', (x, axes) => x.amax(axes, { keepdims: true })),
  defineOperator({
    name: 'GlobalLpPool',
    since: 1,
    inputs: 1,
    attributes: { p: float(2) },
    run: (call) => {
      const axes = spaceOf(call.shape(0)).map((_, axis) => axis + 2);
      return call.tensor(0).norm(call.attributes.p, axes, { keepdims: true });
    },
  }),
  defineOperator({
    name: 'MaxUnpool',
    since: 9,
    inputs: [2, 3],
    attributes: { kernel_shape: required(ints()), pads: ints(), strides: ints() },
    run: maxUnpool,
  }),
];
