// Slices with steps, their adjoint (padding, also between elements), flips and joins.
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxes, normalizeAxis, type Shape } from '../../base/shape.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import {
  type AttrsOf,
  defineOp,
  type GradientContext,
  type KernelBody,
  type KernelContext,
  makeNode,
  type Sample,
  unionOf,
} from '../op.ts';
import { full } from './creation.ts';
import { loop, loops, unflatten } from './emit.ts';
import { elementAt, fillReference, storedValue } from './reference.ts';
import { randomTensor, withAttrs } from './samples.ts';

const sliceOp = defineOp({
  name: 'slice',
  summary: 'every step-th element from a start, along each axis',
  attrs: { start: 'ints', size: 'ints', step: 'ints' },
  infer: ([x], { start, size, step }) => {
    const rank = x!.shape.length;
    if ([start, size, step].some((list) => list.length !== rank)) {
      throw new ShapeError(`a place for each axis of ${formatShape(x!.shape)} is wanted`, {
        op: 'slice',
      });
    }
    for (let axis = 0; axis < size.length; axis++) {
      const first = start[axis]!;
      const count = size[axis]!;
      const stride = step[axis]!;
      if (count === 0) continue;
      const last = first + (count - 1) * stride;
      if (first >= 0 && count > 0 && stride >= 1 && last < x!.shape[axis]!) continue;
      throw new ShapeError(
        `${count} element(s) from ${first} by ${stride} leave axis ${axis} of ${formatShape(x!.shape)}`,
        { op: 'slice' },
      );
    }
    return { shape: size, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs }) => {
    const { start, size, step } = attrs;
    const after = inputs[0]!.shape.map((length, axis) =>
      size[axis] === 0 ? length : length - 1 - start[axis]! - (size[axis]! - 1) * step[axis]!,
    );
    const before = start.map((first, axis) => (size[axis] === 0 ? 0 : first));
    return [
      pad(
        grad,
        before,
        after,
        0,
        step.map((stride) => stride - 1),
      ),
    ];
  },
  lower: {
    kind: 'indexed',
    view: true,
    emit: (context, indices, { start, step }) =>
      context.read(
        0,
        indices.map((index, axis) =>
          context.builder.offset(context.builder.scale(index, step[axis]!), start[axis]!),
        ),
      ),
  },
  reference: ([x], { start, step }, output) =>
    fillReference(output, (indices) =>
      elementAt(
        x!,
        indices.map((index, axis) => start[axis]! + index * step[axis]!),
      ),
    ),
  samples: () => [
    withAttrs({ start: [1], size: [3], step: [1] }, randomTensor([5])),
    withAttrs({ start: [0, 1], size: [2, 2], step: [2, 3] }, randomTensor([4, 5])),
    withAttrs({ start: [1, 0, 0], size: [1, 3, 2], step: [1, 1, 2] }, randomTensor([2, 3, 4])),
    withAttrs({ start: [0], size: [0], step: [1] }, randomTensor([0])),
    withAttrs({ start: [3], size: [0], step: [1] }, randomTensor([3])),
    withAttrs({ start: [0], size: [1], step: [1] }, randomTensor([1], { dtype: 'float64' })),
    withAttrs(
      { start: [2, 0], size: [3, 7], step: [1, 1] },
      randomTensor([6, 7], { dtype: 'int32' }),
    ),
  ],
  cost: 0,
});

/** What a slice from `start` to before `stop` by `step` is, along one axis. */
export interface SliceRange {
  /** May be negative, counted from the end; beyond the ends it is moved to them. Default: the end it starts from. */
  readonly start?: number | undefined;
  readonly stop?: number | undefined;
  /** Not 0; negative runs backwards. Default 1. */
  readonly step?: number | undefined;
}

function checkBound(value: number): void {
  if (Number.isInteger(value) || Math.abs(value) === Infinity) return;
  throw new ShapeError(`bounds must be integers, got ${value}`, { op: 'slice' });
}

/** A bound counted from the start and moved into [low, high]. */
function clipBound(value: number, length: number, low: number, high: number): number {
  checkBound(value);
  const fromStart = value < 0 ? value + length : value;
  return Math.min(Math.max(fromStart, low), high);
}

/** First index, count and step of a range over `length` elements, by Python's rules. */
export function resolveRange(
  range: SliceRange,
  length: number,
): { start: number; size: number; step: number } {
  const step = range.step ?? 1;
  if (!Number.isInteger(step) || step === 0) {
    throw new ShapeError(`the step must be a nonzero integer, got ${step}`, { op: 'slice' });
  }
  const low = step < 0 ? -1 : 0;
  const high = step < 0 ? length - 1 : length;
  const { start: from, stop: to } = range;
  const start = from === undefined ? (step < 0 ? high : low) : clipBound(from, length, low, high);
  const stop = to === undefined ? (step < 0 ? low : high) : clipBound(to, length, low, high);
  return { start, size: Math.max(0, Math.ceil((stop - start) / step)), step };
}

/**
 * `x[start:stop:step]` along the leading axes, one range (or null for all) per axis; Python's
 * rules, negative steps included. Throws ShapeError for more ranges than axes or a step of 0.
 */
export function slice(x: Node, ranges: readonly (SliceRange | null)[]): Node {
  const rank = x.shape.length;
  if (ranges.length > rank) {
    throw new ShapeError(`${ranges.length} ranges for ${rank} dimension(s)`, { op: 'slice' });
  }
  const start = new Array<number>(rank).fill(0);
  const size = [...x.shape];
  const step = new Array<number>(rank).fill(1);
  const flipped: number[] = [];
  let whole = true;
  for (let axis = 0; axis < ranges.length; axis++) {
    const given = ranges[axis];
    if (given === null || given === undefined) continue;
    const range = resolveRange(given, x.shape[axis]!);
    const last = range.start + (range.size - 1) * range.step;
    if (range.step < 0) flipped.push(axis);
    start[axis] = range.size === 0 ? 0 : Math.min(range.start, last);
    size[axis] = range.size;
    step[axis] = range.size > 1 ? Math.abs(range.step) : 1;
    if (range.size !== x.shape[axis]) whole = false;
  }
  const result = whole ? x : makeNode(sliceOp, [x], { start, size, step });
  return flipped.length === 0 ? result : flip(result, flipped);
}

/** `count` elements from `start` along one axis, which must be there. Throws ShapeError. */
export function narrowAxis(x: Node, axis: number, start: number, count: number): Node {
  const normal = normalizeAxis('narrow', axis, x.shape.length);
  if (start === 0 && count === x.shape[normal]) return x;
  return makeNode(sliceOp, [x], {
    start: x.shape.map((_, i) => (i === normal ? start : 0)),
    size: x.shape.map((length, i) => (i === normal ? count : length)),
    step: x.shape.map(() => 1),
  });
}

const padOp = defineOp({
  name: 'pad',
  summary: 'a value before, after and between the elements of each axis',
  attrs: { before: 'ints', after: 'ints', interior: 'ints', value: 'float' },
  infer: ([x], { before, after, interior }) => ({
    shape: x!.shape.map((length, axis) => {
      const between = Math.max(length - 1, 0) * interior[axis]!;
      return before[axis]! + length + between + after[axis]!;
    }),
    dtype: x!.dtype,
  }),
  gradient: ({ grad, inputs, attrs }) => {
    const size = inputs[0]!.shape;
    const step = attrs.interior.map((gap) => gap + 1);
    const start = attrs.before.map((first, axis) => (size[axis] === 0 ? 0 : first));
    return [makeNode(sliceOp, [grad], { start, size, step })];
  },
  bounds: ([x], { value }) => unionOf([x!, { min: value, max: value }]),
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, indices, { before, interior, value }, node) => {
      const { builder } = context;
      const outside = builder.constant(value, valueTypeOf(node.dtype));
      const lengths = node.inputs[0]!.shape;
      if (lengths.includes(0)) return outside;
      let inside: Expression = builder.constant(1, 'bool');
      const source = indices.map((index, axis) => {
        const step = interior[axis]! + 1;
        const last = (lengths[axis]! - 1) * step;
        const from = builder.offset(index, -before[axis]!);
        const lower = builder.compare('ge', from, builder.constant(0));
        const upper = builder.compare('le', from, builder.constant(last));
        inside = builder.and(inside, builder.and(lower, upper));
        // Both branches of a select are evaluated: the index must be safe outside, too.
        const safe = builder.min(builder.max(from, builder.constant(0)), builder.constant(last));
        const element = builder.div(safe, builder.constant(step));
        const hits = builder.compare('eq', builder.scale(element, step), safe);
        inside = builder.and(inside, hits);
        return element;
      });
      const element = context.read(0, source);
      if (element.type !== 'bool') return builder.select(inside, element, outside);
      return value === 0
        ? builder.and(inside, element)
        : builder.or(builder.unary('not', inside), element);
    },
  },
  reference: ([x], { before, interior, value }, output) =>
    fillReference(output, (indices) => {
      const source = indices.map((index, axis) => (index - before[axis]!) / (interior[axis]! + 1));
      const inside = source.every(
        (index, axis) => Number.isInteger(index) && index >= 0 && index < x!.shape[axis]!,
      );
      return inside ? elementAt(x!, source) : value;
    }),
  samples: () => {
    const plain = { after: [0], interior: [0], value: 0 };
    return [
      withAttrs({ ...plain, before: [2], after: [1] }, randomTensor([3])),
      withAttrs(
        { before: [0, 1], after: [2, 0], interior: [0, 0], value: -1.5 },
        randomTensor([2, 3]),
      ),
      withAttrs(
        { before: [1, 0], after: [0, 3], interior: [1, 2], value: 0 },
        randomTensor([3, 2]),
      ),
      withAttrs({ ...plain, before: [2] }, randomTensor([0])),
      withAttrs({ ...plain, before: [0], interior: [3] }, randomTensor([1])),
      withAttrs({ ...plain, before: [1], value: 7 }, randomTensor([5], { dtype: 'int8' })),
      withAttrs({ ...plain, before: [1], value: 1 }, randomTensor([5], { dtype: 'bool' })),
      {
        ...withAttrs(
          { ...plain, before: [1], value: -Infinity },
          randomTensor([5], { dtype: 'float64' }),
        ),
        skipGradient: 'an infinite constant',
      },
    ];
  },
  cost: 3,
});

/**
 * Puts `before[axis]` and `after[axis]` copies of `value` around each axis, and `interior[axis]`
 * between its elements. Negative amounts cut off. Throws ShapeError when they cut too much.
 */
export function pad(
  x: Node,
  before: readonly number[],
  after: readonly number[],
  value = 0,
  interior?: readonly number[],
): Node {
  if (before.length !== x.shape.length || after.length !== x.shape.length) {
    throw new ShapeError(`amounts for ${before.length} of ${x.shape.length} axes`, { op: 'pad' });
  }
  const cut = (amounts: readonly number[]) => amounts.map((amount) => Math.max(-amount, 0));
  const [cutBefore, cutAfter] = [cut(before), cut(after)];
  const positive = (amounts: readonly number[]) => amounts.map((amount) => Math.max(amount, 0));
  const [front, back] = [positive(before), positive(after)];
  const gaps = interior ?? x.shape.map(() => 0);
  // Without gaps it is cheaper to cut first; with gaps the cut may fall between two elements.
  const spread = gaps.some((amount) => amount > 0);
  const source = spread ? x : cutOff(x, cutBefore, cutAfter);
  const nothing = [...front, ...back, ...gaps].every((amount) => amount === 0);
  if (nothing) return source;
  const padded = makeNode(padOp, [source], {
    before: front,
    after: back,
    interior: gaps,
    value: storedValue(x.dtype, value),
  });
  return spread ? cutOff(padded, cutBefore, cutAfter) : padded;
}

/** Without its first and last elements along each axis. */
function cutOff(x: Node, before: readonly number[], after: readonly number[]): Node {
  if (before.every((amount) => amount === 0) && after.every((amount) => amount === 0)) return x;
  const size = x.shape.map((length, axis) => length - before[axis]! - after[axis]!);
  if (size.some((length) => length < 0)) {
    throw new ShapeError(`cuts more than ${formatShape(x.shape)} has`, { op: 'pad' });
  }
  return makeNode(sliceOp, [x], { start: before, size, step: x.shape.map(() => 1) });
}

const flipOp = defineOp({
  name: 'flip',
  summary: 'axes read backwards',
  attrs: { axes: 'ints' },
  infer: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  gradient: ({ grad, attrs }) => [flip(grad, attrs.axes)],
  lower: {
    kind: 'indexed',
    view: true,
    emit: (context, indices, { axes }, node) =>
      context.read(
        0,
        indices.map((index, axis) =>
          axes.includes(axis)
            ? context.builder.sub(context.builder.constant(node.shape[axis]! - 1), index)
            : index,
        ),
      ),
  },
  reference: ([x], { axes }, output) =>
    fillReference(output, (indices) =>
      elementAt(
        x!,
        indices.map((index, axis) => (axes.includes(axis) ? x!.shape[axis]! - 1 - index : index)),
      ),
    ),
  samples: () => [
    withAttrs({ axes: [0] }, randomTensor([5])),
    withAttrs({ axes: [1] }, randomTensor([3, 4])),
    withAttrs({ axes: [0, 2] }, randomTensor([2, 1, 4], { dtype: 'float64' })),
    withAttrs({ axes: [1] }, randomTensor([2, 0])),
    withAttrs({ axes: [0] }, randomTensor([6], { dtype: 'int32' })),
  ],
  cost: 0,
});

/** `x` read backwards along `axes`. */
export function flip(x: Node, axes?: number | readonly number[]): Node {
  const normal = normalizeAxes('flip', axes, x.shape.length).filter((axis) => x.shape[axis] !== 1);
  return normal.length === 0 ? x : makeNode(flipOp, [x], { axes: normal });
}

// ---- joins ------------------------------------------------------------------------------------

const JOIN = { axis: 'int' } as const;

function inferConcat(
  inputs: readonly Node[],
  axis: number,
  op = 'concat',
): { shape: Shape; dtype: Node['dtype'] } {
  const first = inputs[0]!;
  let length = 0;
  for (const x of inputs) {
    if (x.dtype !== first.dtype) {
      throw new DTypeError(`parts are ${first.dtype} and ${x.dtype}`, { op });
    }
    const fits =
      x.shape.length === first.shape.length &&
      x.shape.every((size, i) => i === axis || size === first.shape[i]);
    if (!fits) {
      throw new ShapeError(
        `parts ${formatShape(first.shape)} and ${formatShape(x.shape)} differ beside axis ${axis}`,
        { op },
      );
    }
    length += x.shape[axis]!;
  }
  return { shape: first.shape.map((size, i) => (i === axis ? length : size)), dtype: first.dtype };
}

function concatGradient({ grad, inputs, attrs, needs }: GradientContext<AttrsOf<typeof JOIN>>) {
  let start = 0;
  return inputs.map((x, i) => {
    const length = x.shape[attrs.axis]!;
    const part = needs(i) ? narrowAxis(grad, attrs.axis, start, length) : null;
    start += length;
    return part;
  });
}

const concatReference: Parameters<typeof defineOp<typeof JOIN>>[0]['reference'] = (
  inputs,
  { axis },
  output,
) =>
  fillReference(output, (indices) => {
    let along = indices[axis]!;
    for (const x of inputs) {
      const length = x.shape[axis]!;
      if (along < length) {
        return elementAt(
          x,
          indices.map((index, i) => (i === axis ? along : index)),
        );
      }
      along -= length;
    }
    throw new Error('internal: beyond the last part');
  });

const joinSamples = (shapes: readonly Shape[], axis: number, dtype: Node['dtype'] = 'float32') =>
  withAttrs({ axis }, ...shapes.map((shape, seed) => randomTensor(shape, { dtype, seed })));

function concatSamples(): Sample<AttrsOf<typeof JOIN>>[] {
  return [
    joinSamples([[2], [3]], 0),
    joinSamples(
      [
        [2, 3],
        [2, 1],
      ],
      1,
    ),
    joinSamples(
      [
        [1, 3],
        [2, 3],
        [0, 3],
      ],
      0,
    ),
    joinSamples(
      [
        [2, 2, 2],
        [2, 3, 2],
      ],
      1,
      'float64',
    ),
    joinSamples([[4], [2], [1]], 0, 'int32'),
    joinSamples([[3], [3]], 0, 'bool'),
    joinSamples([[0], [0]], 0),
    joinSamples(
      [
        [2, 3],
        [2, 1],
        [2, 2],
        [2, 5],
        [2, 4],
        [2, 0],
      ],
      1,
    ),
    joinSamples(
      [
        [2, 3],
        [1, 3],
        [4, 3],
        [2, 3],
        [1, 3],
        [1, 3],
      ],
      0,
    ),
  ];
}

const concatOp = defineOp({
  name: 'concat',
  summary: 'few parts one after another along an axis; fuses into what reads it',
  attrs: JOIN,
  infer: (inputs, { axis }) => inferConcat(inputs, axis),
  gradient: concatGradient,
  bounds: unionOf,
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, indices, { axis }, node) => {
      const { builder } = context;
      let end = node.shape[axis]!;
      let result: Expression | undefined;
      for (let part = node.inputs.length - 1; part >= 0; part--) {
        const length = node.inputs[part]!.shape[axis]!;
        if (length === 0) continue;
        const start = end - length;
        const from = builder.offset(indices[axis]!, -start);
        const low = builder.max(from, builder.constant(0));
        const safe = builder.min(low, builder.constant(length - 1));
        const element = context.read(
          part,
          indices.map((index, i) => (i === axis ? safe : index)),
        );
        const beyond = builder.compare('ge', indices[axis]!, builder.constant(end));
        if (result === undefined) result = element;
        else if (element.type !== 'bool') result = builder.select(beyond, result, element);
        else {
          const before = builder.unary('not', beyond);
          result = builder.or(builder.and(beyond, result), builder.and(before, element));
        }
        end = start;
      }
      return result ?? builder.constant(0, valueTypeOf(node.dtype));
    },
  },
  reference: concatReference,
  samples: concatSamples,
  cost: 4,
});

/** Copies each part in a loop of its own: one read per element, however many parts there are. */
function lowerConcatMany(context: KernelContext, axis: number, node: Node): KernelBody {
  const { builder } = context;
  const outer = node.shape.slice(0, axis);
  const inner = node.shape.slice(axis + 1);
  const outerSize = outer.reduce((a, b) => a * b, 1);
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(outerSize - 1, 0) });
  const outerIndices = unflatten(builder, item, outer);
  const body: Statement[] = [];
  let start = 0;
  node.inputs.forEach((x, part) => {
    const length = x.shape[axis]!;
    const offset = start;
    start += length;
    body.push(
      ...loop(
        builder,
        `part${part}`,
        length,
        (along) =>
          loops(
            builder,
            'inner',
            inner,
            (rest) =>
              context.write(
                [...outerIndices, builder.offset(along, offset), ...rest],
                context.read(part, [...outerIndices, along, ...rest]),
              ),
            { vector: true },
          ),
        { vector: inner.length === 0 },
      ),
    );
  });
  return { gridIndex: item, gridSize: outerSize, body };
}

const concatManyOp = defineOp({
  name: 'concatMany',
  summary: 'many parts one after another along an axis; a copy',
  attrs: JOIN,
  infer: (inputs, { axis }) => inferConcat(inputs, axis),
  gradient: concatGradient,
  bounds: unionOf,
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => node.inputs.map(() => 1),
    lower: (context, { axis }, node) => lowerConcatMany(context, axis, node),
  },
  reference: concatReference,
  samples: concatSamples,
});

/** Up to this many parts, choosing at every element costs less than a copy. */
const FUSED_PARTS = 4;

/**
 * Parts one after another along `axis`; `op` is who asks, for messages. Throws ShapeError unless they agree beside the axis,
 * DTypeError unless their dtypes are equal.
 */
export function concat(parts: readonly Node[], axis = 0, op = 'concat'): Node {
  const first = parts[0];
  if (first === undefined) throw new ShapeError('nothing to join', { op });
  const normal = normalizeAxis(op, axis, first.shape.length);
  if (parts.length === 1) return first;
  const { shape, dtype } = inferConcat(parts, normal, op);
  if (shape.includes(0)) return full(shape, 0, dtype);
  return makeNode(parts.length <= FUSED_PARTS ? concatOp : concatManyOp, parts, { axis: normal });
}
