// Orders along an axis: positions after sorting, of the k first, and of values in a sorted sequence.
import { DTypeError, ShapeError } from '../../base/errors.ts';
import type { DType } from '../../base/dtype.ts';
import { formatShape, normalizeAxis, type Shape } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import {
  defineOp,
  type KernelBody,
  type KernelContext,
  makeNode,
  type ReferenceTensor,
  type Bounds,
} from '../op.ts';
import { loop, unflatten } from './emit.ts';
import { elementAt, fillReference, splitAtAxis } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { narrowAxis } from './slicing.ts';

/** Whether b stands strictly before a; NaN counts as the largest number, as in PyTorch. */
function precedes(a: number, b: number, descending: boolean): boolean {
  if (descending) return Number.isNaN(b) ? !Number.isNaN(a) : b > a;
  return Number.isNaN(a) ? !Number.isNaN(b) : b < a;
}

function emitPrecedes(
  builder: Builder,
  a: Expression,
  b: Expression,
  descending: boolean,
): Expression {
  const plain = builder.compare(descending ? 'gt' : 'lt', b, a);
  if (a.type !== 'f32' && a.type !== 'f64') return plain;
  const [larger, smaller] = descending ? [b, a] : [a, b];
  const larges = builder.compare('ne', larger, larger);
  const smalls = builder.compare('eq', smaller, smaller);
  return builder.or(plain, builder.and(larges, smalls));
}

/** Keys are compared as numbers: bool as int32, halves as float32. */
function keyDType(dtype: DType): DType {
  if (dtype === 'bool') return 'int32';
  return dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype;
}

interface Rows {
  readonly item: Variable;
  readonly gridSize: number;
  readonly length: number;
  /** Indices of element `along` of this grid item's row. */
  at(along: Expression): Expression[];
}

/** One grid item for each row along `axis`. */
function rowGrid(builder: Builder, shape: Shape, axis: number): Rows {
  const rest = shape.filter((_, i) => i !== axis);
  const gridSize = rest.reduce((a, b) => a * b, 1);
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const indices = unflatten(builder, item, rest);
  return {
    item,
    gridSize,
    length: shape[axis]!,
    at: (along) => [...indices.slice(0, axis), along, ...indices.slice(axis)],
  };
}

/** Runs `order` over the positions of every row along the axis. */
function rowsReference(
  x: ReferenceTensor,
  axis: number,
  count: number,
  order: (row: readonly number[]) => readonly number[],
): Float64Array {
  const { outer, axisSize, inner } = splitAtAxis(x.shape, axis);
  const data = new Float64Array(outer * count * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const row = Array.from(
        { length: axisSize },
        (_, k) => x.data[(o * axisSize + k) * inner + i]!,
      );
      order(row).forEach((position, k) => {
        if (k < count) data[(o * count + k) * inner + i] = position;
      });
    }
  }
  return data;
}

function sortedPositions(row: readonly number[], descending: boolean): number[] {
  const positions = row.map((_, i) => i);
  return positions.sort((i, j) => {
    if (precedes(row[i]!, row[j]!, descending)) return 1;
    return precedes(row[j]!, row[i]!, descending) ? -1 : i - j;
  });
}

// ---- argsort ----------------------------------------------------------------------------------

/** Where a sort's data lies: two halves that passes alternate between. */
interface SortPlaces {
  /** Start of the half that is read, of the half that is written, and the length of sorted runs. */
  readonly source: Variable;
  readonly target: Variable;
  readonly width: Variable;
  /** Number of pairs of runs. */
  readonly pairs: Variable;
  readonly keys: Buffer;
  readonly order: Buffer;
}

/** Merges each pair of neighbouring runs, without branches: what comes first is not predictable. */
function mergePass(
  builder: Builder,
  length: number,
  { source, target, width, pairs, keys, order }: SortPlaces,
  comesFirst: (left: Expression, right: Expression) => Expression,
): Statement {
  const type = valueTypeOf(keys.dtype);
  const last = builder.constant(length - 1);
  const whole = builder.constant(length);
  const pair = builder.variable('pair', 'i32', { min: 0, max: length - 1 });
  const low = builder.variable('low');
  const middle = builder.variable('middle');
  const high = builder.variable('high');
  const left = builder.variable('left', 'i32', { mutable: true });
  const right = builder.variable('right', 'i32', { mutable: true });
  const place = builder.variable('place');
  const leftKey = builder.variable('leftKey', type);
  const rightKey = builder.variable('rightKey', type);
  const takeLeft = builder.variable('takeLeft', 'bool');
  const taken = builder.variable('taken');
  const safe = (index: Expression): Expression => builder.add(source, builder.min(index, last));
  const both = builder.add(width, width);
  const index = builder.add(target, place);
  const step = builder.convert(takeLeft, 'i32');
  const mergeOne: Statement[] = [
    { kind: 'let', variable: leftKey, value: builder.load(keys, safe(left)) },
    { kind: 'let', variable: rightKey, value: builder.load(keys, safe(right)) },
    {
      kind: 'let',
      variable: takeLeft,
      value: builder.and(
        builder.compare('lt', left, middle),
        builder.or(builder.compare('ge', right, high), comesFirst(leftKey, rightKey)),
      ),
    },
    { kind: 'let', variable: taken, value: safe(builder.select(takeLeft, left, right)) },
    { kind: 'store', buffer: keys, index, value: builder.select(takeLeft, leftKey, rightKey) },
    { kind: 'store', buffer: order, index, value: builder.load(order, taken) },
    { kind: 'assign', variable: left, value: builder.add(left, step) },
    { kind: 'assign', variable: right, value: builder.offset(builder.sub(right, step), 1) },
  ];
  return {
    kind: 'for',
    index: pair,
    start: builder.constant(0),
    end: pairs,
    step: 1,
    body: [
      { kind: 'let', variable: low, value: builder.mul(pair, both) },
      { kind: 'let', variable: middle, value: builder.min(builder.add(low, width), whole) },
      { kind: 'let', variable: high, value: builder.min(builder.add(low, both), whole) },
      { kind: 'declare', variable: left, value: low },
      { kind: 'declare', variable: right, value: middle },
      { kind: 'for', index: place, start: low, end: high, step: 1, body: mergeOne },
    ],
  };
}

/** Merge sort of keys with their positions, bottom up. */
function lowerArgsort(
  context: KernelContext,
  node: Node,
  axis: number,
  descending: boolean,
): KernelBody {
  const { builder } = context;
  const rows = rowGrid(builder, node.shape, axis);
  const { length } = rows;
  const dtype = keyDType(node.inputs[0]!.dtype);
  const number = (value: number): Expression => builder.constant(value);
  const mutable = (name: string): Variable => builder.variable(name, 'i32', { mutable: true });
  const places: SortPlaces = {
    source: mutable('source'),
    target: mutable('target'),
    width: mutable('width'),
    pairs: mutable('pairs'),
    keys: context.scratch('keys', dtype, Math.max(2 * length, 1)),
    order: context.scratch('order', 'int32', Math.max(2 * length, 1)),
  };
  const { source, target, width, pairs, keys, order } = places;
  const set = (variable: Variable, value: Expression): Statement => ({
    kind: 'assign',
    variable,
    value,
  });
  const merge = mergePass(builder, length, places, (left, right) =>
    builder.unary('not', emitPrecedes(builder, left, right, descending)),
  );
  const passes = Math.ceil(Math.log2(Math.max(length, 1)));
  const body: Statement[] = [
    ...loop(builder, 'start', length, (index) => {
      const value = builder.convert(context.read(0, rows.at(index)), valueTypeOf(dtype));
      return [
        { kind: 'store', buffer: keys, index, value },
        { kind: 'store', buffer: order, index, value: index },
      ];
    }),
    { kind: 'declare', variable: source, value: number(0) },
    { kind: 'declare', variable: target, value: number(length) },
    { kind: 'declare', variable: width, value: number(1) },
    { kind: 'declare', variable: pairs, value: number(Math.ceil(length / 2)) },
    ...loop(builder, 'pass', passes, () => [
      merge,
      set(source, builder.sub(number(length), source)),
      set(target, builder.sub(number(length), target)),
      set(width, builder.add(width, width)),
      set(pairs, builder.binary('shr', builder.offset(pairs, 1), number(1))),
    ]),
    ...loop(builder, 'result', length, (index) =>
      context.write(rows.at(index), builder.load(order, builder.add(source, index))),
    ),
  ];
  return { gridIndex: rows.item, gridSize: rows.gridSize, body };
}

function sortInputs(): ReferenceTensor[] {
  return [
    randomTensor([7]),
    randomTensor([3, 5]),
    randomTensor([2, 9, 3], { dtype: 'float64' }),
    randomTensor([40], { dtype: 'int32', low: 0, high: 6 }),
    randomTensor([2, 33], { dtype: 'uint32' }),
    randomTensor([11], { dtype: 'bool' }),
    randomTensor([20], { dtype: 'int8' }),
    randomTensor([1]),
    tensorOf([8], [NaN, 1, -Infinity, 0, -0, Infinity, NaN, 1]),
  ];
}

function positionsBelow(length: number): Bounds {
  return { min: 0, max: Math.max(length - 1, 0) };
}

const argsortOp = defineOp({
  name: 'argsort',
  summary: 'positions along an axis in sorted order, stable; NaN is the largest',
  attrs: { axis: 'int', descending: 'flag' },
  infer: ([x]) => ({ shape: x!.shape, dtype: 'int32' }),
  gradient: { nonDifferentiable: 'positions are integers' },
  bounds: (_inputs, { axis }, node) => positionsBelow(node.inputs[0]!.shape[axis]!),
  lower: {
    kind: 'custom',
    evaluations: () => [1],
    lower: (context, { axis, descending }, node) => lowerArgsort(context, node, axis, descending),
  },
  reference: ([x], { axis, descending }) =>
    rowsReference(x!, axis, x!.shape[axis]!, (row) => sortedPositions(row, descending)),
  samples: () => [
    ...sortInputs().flatMap((x) => [
      { inputs: [x], attrs: { axis: x.shape.length - 1, descending: false } },
      { inputs: [x], attrs: { axis: 0, descending: true } },
    ]),
    { inputs: [randomTensor([0, 3])], attrs: { axis: 0, descending: false } },
  ],
});

/**
 * Positions (int32) along `axis` that sort `x`. Stable: equal elements keep their order. NaN counts
 * as the largest number.
 */
export function argsort(x: Node, axis = -1, descending = false): Node {
  const normal = normalizeAxis('argsort', axis, x.shape.length);
  return makeNode(argsortOp, [x], { axis: normal, descending });
}

// ---- the k first ------------------------------------------------------------------------------

/** Keeps the k best so far in order; an element that is worse than all costs one comparison. */
function lowerTopk(
  context: KernelContext,
  node: Node,
  { axis, k, largest }: { axis: number; k: number; largest: boolean },
): KernelBody {
  const { builder } = context;
  const x = node.inputs[0]!;
  const rows = rowGrid(builder, x.shape, axis);
  const dtype = keyDType(x.dtype);
  const keys = context.scratch('keys', dtype, k);
  const positions = context.scratch('positions', 'int32', k);
  const zero = builder.constant(0);
  const candidate = builder.variable('candidate', valueTypeOf(dtype));
  const beats = (place: Expression): Expression =>
    builder.or(
      builder.compare('lt', builder.load(positions, place), zero),
      emitPrecedes(builder, builder.load(keys, place), candidate, largest),
    );
  const put = (place: Expression, key: Expression, position: Expression): Statement[] => [
    { kind: 'store', buffer: keys, index: place, value: key },
    { kind: 'store', buffer: positions, index: place, value: position },
  ];
  const insert = (along: Expression): Statement[] => [
    // From the worst place up: whatever the candidate beats moves down by one.
    ...loop(builder, 'step', k - 1, (step) => {
      const place = builder.sub(builder.constant(k - 1), step);
      const above = builder.offset(place, -1);
      const moves = builder.variable('moves', 'bool');
      const stays = builder.variable('stays', 'bool');
      const fromAbove = put(place, builder.load(keys, above), builder.load(positions, above));
      return [
        { kind: 'let', variable: moves, value: beats(above) },
        { kind: 'let', variable: stays, value: builder.unary('not', beats(place)) },
        branch(moves, fromAbove, [branch(stays, [], put(place, candidate, along))]),
      ];
    }),
    branch(beats(zero), put(zero, candidate, along)),
  ];
  const key = builder.constant(0, valueTypeOf(dtype));
  const body: Statement[] = [
    ...loop(builder, 'place', k, (place) => put(place, key, builder.constant(-1))),
    ...loop(builder, 'along', rows.length, (along) => [
      {
        kind: 'let',
        variable: candidate,
        value: builder.convert(context.read(0, rows.at(along)), valueTypeOf(dtype)),
      },
      branch(beats(builder.constant(k - 1)), insert(along)),
    ]),
    ...loop(builder, 'result', k, (place) =>
      context.write(rows.at(place), builder.load(positions, place)),
    ),
  ];
  return { gridIndex: rows.item, gridSize: rows.gridSize, body };
}

const topkIndicesOp = defineOp({
  name: 'topkIndices',
  summary: 'positions along an axis of the k largest (or smallest), in order',
  attrs: { axis: 'int', k: 'int', largest: 'flag' },
  infer: ([x], { axis, k }) => {
    const length = x!.shape[axis]!;
    if (k < 1 || k > length) {
      throw new ShapeError(`k = ${k} of ${length} along axis ${axis}`, { op: 'topk' });
    }
    return { shape: x!.shape.map((size, i) => (i === axis ? k : size)), dtype: 'int32' };
  },
  gradient: { nonDifferentiable: 'positions are integers' },
  bounds: (_inputs, { axis }, node) => positionsBelow(node.inputs[0]!.shape[axis]!),
  lower: {
    kind: 'custom',
    evaluations: () => [1],
    lower: (context, attrs, node) => lowerTopk(context, node, attrs),
  },
  reference: ([x], { axis, k, largest }) =>
    rowsReference(x!, axis, k, (row) => sortedPositions(row, largest)),
  samples: () => [
    ...sortInputs().flatMap((x) => [
      { inputs: [x], attrs: { axis: x.shape.length - 1, k: 1, largest: false } },
      { inputs: [x], attrs: { axis: 0, k: Math.min(x.shape[0]!, 3), largest: true } },
    ]),
    { inputs: [randomTensor([5, 0])], attrs: { axis: 0, k: 2, largest: true } },
  ],
});

/** Up to this many, inserting into a short list is cheaper than sorting everything. */
const SHORT_LIST = 64;

/** Positions (int32) along `axis` of the `k` largest (or smallest) elements, in order. */
export function topkIndices(x: Node, k: number, axis = -1, largest = true): Node {
  const normal = normalizeAxis('topk', axis, x.shape.length);
  const length = x.shape[normal]!;
  if (!Number.isInteger(k) || k < 0 || k > length) {
    throw new ShapeError(`k = ${k} of ${length} along axis ${axis}`, { op: 'topk' });
  }
  if (k >= 1 && k <= SHORT_LIST) {
    return makeNode(topkIndicesOp, [x], { axis: normal, k, largest });
  }
  return narrowAxis(argsort(x, normal, largest), normal, 0, k);
}

// ---- binary search ----------------------------------------------------------------------------

const searchSortedOp = defineOp({
  name: 'searchSorted',
  summary: 'where each value belongs in a sorted sequence',
  attrs: { right: 'flag' },
  infer: ([sequence, values]) => {
    if (sequence!.dtype !== values!.dtype || sequence!.dtype === 'bool') {
      throw new DTypeError(
        `takes numbers of one dtype, not ${sequence!.dtype} and ${values!.dtype}`,
        {
          op: 'searchSorted',
        },
      );
    }
    const lead = sequence!.shape.slice(0, -1);
    const fits =
      sequence!.shape.length === 1 ||
      (sequence!.shape.length === values!.shape.length &&
        lead.every((size, axis) => size === values!.shape[axis]));
    if (!fits) {
      throw new ShapeError(
        `sequence ${formatShape(sequence!.shape)} and values ${formatShape(values!.shape)} differ before the last axis`,
        { op: 'searchSorted' },
      );
    }
    return { shape: values!.shape, dtype: 'int32' };
  },
  gradient: { nonDifferentiable: 'positions are integers' },
  bounds: (_inputs, _attrs, node) => positionsBelow(node.inputs[0]!.shape.at(-1)! + 1),
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, indices, { right }, node) => {
      const { builder } = context;
      const { shape } = node.inputs[0]!;
      const length = shape.at(-1)!;
      const lead = shape.length === 1 ? [] : indices.slice(0, -1);
      const value = context.read(1, indices);
      let found: Expression = builder.constant(0);
      for (let step = 2 ** Math.floor(Math.log2(Math.max(length, 1))); step >= 1; step /= 2) {
        if (length === 0) break;
        const next = builder.offset(found, step);
        const inRange = builder.compare('le', next, builder.constant(length));
        const at = builder.min(builder.offset(next, -1), builder.constant(length - 1));
        const element = context.read(0, [...lead, at]);
        // "Not at or beyond": a NaN value belongs at the end.
        const beyond = builder.compare(right ? 'gt' : 'ge', element, value);
        const go = builder.and(inRange, builder.unary('not', beyond));
        found = builder.select(go, next, found);
      }
      return found;
    },
  },
  reference: ([sequence, values], { right }, output) =>
    fillReference(output, (indices, flat) => {
      const length = sequence!.shape.at(-1)!;
      const lead = sequence!.shape.length === 1 ? [] : indices.slice(0, -1);
      const value = values!.data[flat]!;
      let found = 0;
      while (found < length) {
        const element = elementAt(sequence!, [...lead, found]);
        if (right ? element > value : element >= value) break;
        found++;
      }
      return found;
    }),
  samples: () => {
    const sorted = (x: ReferenceTensor): ReferenceTensor => ({
      ...x,
      data: x.data.slice().sort((a, b) => a - b),
    });
    return [
      {
        inputs: [sorted(randomTensor([9])), randomTensor([2, 5], { seed: 3 })],
        attrs: { right: false },
      },
      {
        inputs: [tensorOf([4], [1, 2, 2, 5]), tensorOf([6], [0, 1, 2, 5, 9, NaN])],
        attrs: { right: true },
      },
      {
        inputs: [tensorOf([4], [1, 2, 2, 5]), tensorOf([6], [0, 1, 2, 5, 9, NaN])],
        attrs: { right: false },
      },
      {
        inputs: [
          tensorOf([2, 3], [1, 2, 3, 4, 5, 6], 'int32'),
          tensorOf([2, 2], [2, 9, 5, 0], 'int32'),
        ],
        attrs: { right: false },
      },
      { inputs: [tensorOf([1], [1]), tensorOf([3], [0, 1, 2])], attrs: { right: false } },
      { inputs: [tensorOf([0], []), tensorOf([2], [0, 1])], attrs: { right: false } },
      { inputs: [tensorOf([2], [0, 1]), tensorOf([0], [])], attrs: { right: false } },
      {
        inputs: [
          sorted(randomTensor([70], { dtype: 'float64' })),
          randomTensor([9], { dtype: 'float64' }),
        ],
        attrs: { right: true },
      },
    ];
  },
  cost: 30,
});

/**
 * For each value the number (int32) of elements of the sorted `sequence` that are smaller (`right`:
 * not larger). `sequence` has one dimension, or the leading sizes of `values`.
 */
export function searchSorted(sequence: Node, values: Node, right = false): Node {
  return makeNode(searchSortedOp, [sequence, values], { right });
}
