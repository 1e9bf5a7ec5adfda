// Reductions over axes.
import { ShapeError } from '../../../base/errors.ts';
import { sizeOf } from '../../../base/shape.ts';
import { type Tensor, cat, full } from '../../tensor/index.ts';
import { flag, int, ints } from '../attributes.ts';
import { placesOf, reshaped, stridesOf } from '../host-arrays.ts';
import { type Call, type Operator, checkAxis, defineOperator } from '../operator.ts';
import type { ElementArray } from '../tensor-data.ts';
import { type TensorValue, isWideInteger } from '../values.ts';
import { as } from './results.ts';

type Reduce = (x: Tensor, axes: number[], options: { keepdims: boolean }) => Tensor;

/** How integers are reduced on the host. */
type HostReduce = (values: bigint[]) => bigint | undefined;

/** Axes to reduce over; null for none at all. */
function readAxes(
  rank: number,
  given: readonly number[] | undefined,
  emptyIsNone: boolean,
): number[] | null {
  if (given === undefined || given.length === 0) {
    return emptyIsNone ? null : Array.from({ length: rank }, (_, axis) => axis);
  }
  const axes = given.map((axis) => checkAxis(axis, rank));
  if (new Set(axes).size !== axes.length) throw new ShapeError('an axis is reduced twice');
  return axes;
}

function reduce(
  call: Call,
  compute: Reduce,
  axes: number[] | null,
  keepdims: boolean,
  none: (x: Tensor) => Tensor,
): TensorValue {
  const value = call.value(0);
  if (axes === null) return as(value.type, none(value.tensor));
  // Of a number there are no axes to reduce: the operation is still applied.
  if (value.rank === 0) {
    return as(value.type, compute(value.tensor.reshape([1]), [0], { keepdims: false }));
  }
  return as(value.type, compute(value.tensor, axes, { keepdims }));
}

function reduceHost(
  array: ElementArray,
  axes: number[] | null,
  keepdims: boolean,
  compute: HostReduce,
): ElementArray | undefined {
  if (axes === null || !isWideInteger(array.type)) return undefined;
  const { shape } = array;
  const strides = stridesOf(shape);
  const kept = shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const places = (list: number[], offset = 0): number[] =>
    placesOf(
      list.map((axis) => shape[axis] ?? 0),
      list.map((axis) => strides[axis] ?? 0),
      offset,
    );
  const values: bigint[] = [];
  for (const start of places(kept)) {
    const value = compute(places(axes, start).map((place) => BigInt(array.data[place] ?? 0)));
    if (value === undefined) return undefined;
    values.push(value);
  }
  const target = keepdims
    ? shape.map((size, axis) => (axes.includes(axis) ? 1 : size))
    : kept.map((axis) => shape[axis] ?? 0);
  const data = array.type === 'int64' ? BigInt64Array.from(values) : BigUint64Array.from(values);
  return reshaped({ ...array, data }, target);
}

interface Reduction {
  readonly name: string;
  readonly compute: Reduce;
  /** The version from which the axes are an input. */
  readonly axesInput: number;
  readonly host?: HostReduce;
  /** What reducing over no axes at all still does to the elements. */
  readonly none?: (x: Tensor) => Tensor;
}

function reduction({ name, compute, axesInput, host, none = (x) => x }: Reduction): Operator[] {
  return [
    defineOperator({
      name,
      since: 1,
      until: axesInput - 1,
      inputs: 1,
      attributes: { axes: ints(), keepdims: flag(true) },
      run: (call) => {
        const axes = readAxes(call.value(0).rank, call.attributes.axes, false);
        return reduce(call, compute, axes, call.attributes.keepdims, none);
      },
      host: (call) =>
        host &&
        reduceHost(
          call.value(0).read(),
          readAxes(call.value(0).rank, call.attributes.axes, false),
          call.attributes.keepdims,
          host,
        ),
    }),
    defineOperator({
      name,
      since: axesInput,
      inputs: [1, 2],
      attributes: { keepdims: flag(true), noop_with_empty_axes: flag() },
      run: (call) => {
        const { keepdims, noop_with_empty_axes: noop } = call.attributes;
        const axes = readAxes(call.value(0).rank, call.optionalNumbers(1), noop);
        return reduce(call, compute, axes, keepdims, none);
      },
      host: (call) => {
        const { keepdims, noop_with_empty_axes: noop } = call.attributes;
        const axes = readAxes(call.value(0).rank, call.optionalNumbers(1), noop);
        return host && reduceHost(call.value(0).read(), axes, keepdims, host);
      },
    }),
  ];
}

/** The largest or smallest, also over nothing, where it is the end of the type's range. */
function extreme(largest: boolean): Reduce {
  return (x, axes, options) => {
    const isBool = x.dtype === 'bool';
    if (axes.some((axis) => x.shape[axis] === 0)) {
      const shape = x.shape.flatMap((size, axis) => {
        if (!axes.includes(axis)) return [size];
        return options.keepdims ? [1] : [];
      });
      return full(shape, endOf(x.dtype, largest), { dtype: x.dtype });
    }
    const values = isBool ? x.to('uint8') : x;
    const result = largest ? values.amax(axes, options) : values.amin(axes, options);
    return isBool ? result.to('bool') : result;
  };
}

function endOf(dtype: string, lowest: boolean): number {
  const bits = /^u?int(\d+)$/.exec(dtype)?.[1];
  if (dtype === 'bool') return lowest ? 0 : 1;
  if (bits === undefined) return lowest ? -Infinity : Infinity;
  if (dtype.startsWith('u')) return lowest ? 0 : 2 ** Number(bits) - 1;
  return lowest ? -(2 ** (Number(bits) - 1)) : 2 ** (Number(bits) - 1) - 1;
}

/** The mean of integers is cut off. */
const mean: Reduce = (x, axes, options) => {
  if (x.dtype.includes('float')) return x.mean(axes, options);
  const count = sizeOf(axes.map((axis) => x.shape[axis] ?? 1));
  return x.sum(axes, options).div(count, { roundingMode: 'trunc' });
};

const sameDType =
  (compute: Reduce): Reduce =>
  (x, axes, options) =>
    compute(x, axes, options).to(x.dtype);

/** In floats, also for integers. */
const inFloat =
  (compute: Reduce): Reduce =>
  (x, axes, options) =>
    compute(x.dtype.includes('float') ? x : x.to('float64'), axes, options);

const largestOf: HostReduce = (values) =>
  values.length === 0 ? undefined : values.reduce((a, b) => (a > b ? a : b));
const smallestOf: HostReduce = (values) =>
  values.length === 0 ? undefined : values.reduce((a, b) => (a < b ? a : b));

/** ArgMax and ArgMin; with `select_last_index` the last of equals. */
function argument(name: string, largest: boolean): Operator {
  return defineOperator({
    name,
    since: 1,
    inputs: 1,
    attributes: { axis: int(0), keepdims: flag(true), select_last_index: flag() },
    run: (call) => {
      const { keepdims, select_last_index: last } = call.attributes;
      const axis = call.axis(call.attributes.axis);
      const x = last ? call.tensor(0).flip(axis) : call.tensor(0);
      const found = largest ? x.argmax(axis, { keepdims }) : x.argmin(axis, { keepdims });
      return as('int64', last ? found.rsub((call.shape(0)[axis] ?? 1) - 1) : found);
    },
  });
}

export const reductions: readonly Operator[] = [
  ...reduction({
    name: 'ReduceSum',
    axesInput: 13,
    compute: sameDType((x, axes, options) => x.sum(axes, options)),
    host: (values) => values.reduce((a, b) => a + b, 0n),
  }),
  ...reduction({
    name: 'ReduceProd',
    axesInput: 18,
    compute: sameDType((x, axes, options) => x.prod(axes, options)),
    host: (values) => values.reduce((a, b) => a * b, 1n),
  }),
  ...reduction({ name: 'ReduceMax', axesInput: 18, compute: extreme(true), host: largestOf }),
  ...reduction({ name: 'ReduceMin', axesInput: 18, compute: extreme(false), host: smallestOf }),
  ...reduction({ name: 'ReduceMean', axesInput: 18, compute: mean }),
  ...reduction({
    name: 'ReduceL1',
    axesInput: 18,
    compute: sameDType((x, axes, options) => x.abs().sum(axes, options)),
    none: (x) => x.abs(),
  }),
  ...reduction({
    name: 'ReduceL2',
    axesInput: 18,
    compute: inFloat((x, axes, options) => x.square().sum(axes, options).sqrt()),
    none: (x) => x.abs(),
  }),
  ...reduction({
    name: 'ReduceSumSquare',
    axesInput: 18,
    compute: sameDType((x, axes, options) => x.square().sum(axes, options)),
    none: (x) => x.square(),
  }),
  ...reduction({
    name: 'ReduceLogSum',
    axesInput: 18,
    compute: inFloat((x, axes, options) => x.sum(axes, options).log()),
    none: (x) => x.log(),
  }),
  ...reduction({
    name: 'ReduceLogSumExp',
    axesInput: 18,
    compute: inFloat((x, axes, options) => x.logsumexp(axes, options)),
  }),
  argument('ArgMax', true),
  argument('ArgMin', false),
  defineOperator({
    name: 'CumSum',
    since: 11,
    inputs: 2,
    attributes: { exclusive: flag(), reverse: flag() },
    run: (call) => cumulative(call, (x, axis) => x.cumsum(axis), 0),
  }),
  defineOperator({
    name: 'CumProd',
    since: 26,
    inputs: 2,
    attributes: { exclusive: flag(), reverse: flag() },
    run: (call) => cumulative(call, (x, axis) => x.cumprod(axis), 1),
  }),
];

/** A running sum or product; `exclusive` leaves the element itself out, `reverse` starts at the end. */
function cumulative(
  call: Call<{ exclusive: boolean; reverse: boolean }>,
  compute: (x: Tensor, axis: number) => Tensor,
  neutral: number,
): TensorValue {
  const { exclusive, reverse } = call.attributes;
  const axis = call.axis(call.number(1));
  const given = reverse ? call.tensor(0).flip(axis) : call.tensor(0);
  let x = given;
  const length = x.shape[axis] ?? 0;
  if (exclusive && length > 0) {
    const shape = x.shape.map((size, i) => (i === axis ? 1 : size));
    const first = full(shape, neutral, { dtype: x.dtype });
    x = cat([first, given.narrow(axis, 0, length - 1)], axis);
  }
  const result = compute(x, axis);
  return as(call.type(0), reverse ? result.flip(axis) : result);
}
