// Conversions of what moves elements: shapes, slices, padding, joins; and of constants.
import type { Node } from '../../../graph/node.ts';
import { sizeOf } from '../../../base/shape.ts';
import { type Conversions, convert, entriesOf, sizesOf, type Step } from './conversion.ts';
import { numberIn, type TracedGraph } from './graph.ts';
import { isFixed, type Varying } from './sizes.ts';
import { type GraphWriter, numbersTensor } from './writer.ts';

/** Beyond any axis, in either direction. */
const BEYOND = 2147483647;

/** Sizes for Expand: 1 leaves an axis as it is. */
export function expandSizes(source: readonly Varying[], target: readonly Varying[]): Varying[] {
  const shift = target.length - source.length;
  return target.map((sizes, axis) => {
    const own = source[axis - shift];
    return own !== undefined && own.every((size, trace) => size === sizes[trace]) ? [1] : sizes;
  });
}

/** One value in all places of a shape. */
export function filled(
  writer: GraphWriter,
  value: number,
  dtype: Node['dtype'],
  sizes: readonly Varying[],
): string {
  if (sizes.length === 0) return writer.number(value, dtype);
  const tensor = numbersTensor([value], dtype, [1]);
  return writer.add('ConstantOfShape', [writer.list(sizes)], { value: { tensor } });
}

function full({ writer, graph, node }: Step<{ readonly value: number }>): string {
  const sizes = sizesOf(graph, node);
  const values = graph.vary(node, numberIn);
  if (node.shape.length === 0) return writer.scalar(values, node.dtype);
  if (isFixed(values)) return filled(writer, values[0] as number, node.dtype, sizes);
  return writer.add('Expand', [writer.scalar(values, node.dtype), writer.list(sizes)]);
}

function iota({ writer, graph, node, attrs }: Step<{ readonly axis: number }>): string {
  const sizes = sizesOf(graph, node);
  const { axis } = attrs;
  const length = sizes[axis] as Varying;
  const limit = isFixed(length)
    ? writer.number(length[0] as number, 'int64')
    : writer.add('Reshape', [writer.integer(length), writer.integers([])]);
  const range = writer.add('Range', [writer.number(0, 'int64'), limit, writer.number(1, 'int64')]);
  const numbers = writer.cast(range, node.dtype);
  if (sizes.length === 1) return numbers;
  const column = node.shape.map((_, i) => (i === axis ? -1 : 1));
  const placed = writer.add('Reshape', [numbers, writer.integers(column)]);
  const target = sizes.map((size, i) => (i === axis ? [1] : size));
  return writer.add('Expand', [placed, writer.list(target)]);
}

// ---- slices -----------------------------------------------------------------------------------

/** A position along an axis: from its end if only that distance is fixed. */
function position(at: Varying, length: Varying): Varying {
  if (isFixed(at)) return at;
  const fromEnd = at.map((value, trace) => value - (length[trace] as number));
  return isFixed(fromEnd) && (fromEnd[0] as number) < 0 ? fromEnd : at;
}

interface AxisRange {
  readonly axis: number;
  readonly start: Varying;
  readonly end: Varying;
  readonly step: number;
}

/** What a slice takes along one axis; null if that is all of it. */
function axisRange(graph: TracedGraph, node: Node, axis: number): AxisRange | null {
  const length = sizesOf(graph, node.inputs[0] as Node)[axis] as Varying;
  const start = entriesOf(graph, node, 'start')[axis] as Varying;
  const size = entriesOf(graph, node, 'size')[axis] as Varying;
  const step = (node.attrs['step'] as readonly number[])[axis] as number;
  const each = length.map((_, trace) => trace);
  const last = each.map((trace) => (start[trace] as number) + ((size[trace] as number) - 1) * step);
  if (each.every((trace) => size[trace] === length[trace] && start[trace] === 0)) return null;
  if (size.every((count) => count === 0)) return { axis, start: [0], end: [0], step: 1 };
  const toEnd = each.every((trace) => (last[trace] as number) + step >= (length[trace] as number));
  const end = last.map((value) => value + 1);
  return {
    axis,
    start: position(start, length),
    end: toEnd ? [BEYOND] : position(end, length),
    step,
  };
}

function slice({ writer, graph, node, inputs }: Step<unknown>): string {
  const ranges = node.shape.flatMap((_, axis) => axisRange(graph, node, axis) ?? []);
  const x = inputs[0] as string;
  if (ranges.length === 0) return x;
  const operands = [
    x,
    writer.list(ranges.map(({ start }) => start)),
    writer.list(ranges.map(({ end }) => end)),
    writer.integers(ranges.map(({ axis }) => axis)),
  ];
  if (ranges.some(({ step }) => step !== 1)) {
    operands.push(writer.integers(ranges.map(({ step }) => step)));
  }
  return writer.add('Slice', operands);
}

function flip({ writer, attrs: { axes }, inputs }: Step<{ readonly axes: readonly number[] }>) {
  const each = (value: number): string => writer.integers(axes.map(() => value));
  const operands = [inputs[0] as string, each(-1), each(-BEYOND), writer.integers(axes), each(-1)];
  return writer.add('Slice', operands);
}

// ---- padding ----------------------------------------------------------------------------------

interface PadAttrs {
  readonly interior: readonly number[];
  readonly value: number;
}

function padAround(
  { writer, node, attrs }: Step<PadAttrs>,
  x: string,
  before: readonly Varying[],
  after: readonly Varying[],
): string {
  const amounts = [...before, ...after];
  if (amounts.every((amount) => isFixed(amount) && amount[0] === 0)) return x;
  return writer.add('Pad', [x, writer.list(amounts), writer.number(attrs.value, node.dtype)], {
    mode: 'constant',
  });
}

/** Between elements: each gets an axis of its own, which is padded, and the last gap is cut off. */
function padBetween(step: Step<PadAttrs>, x: string): string {
  const { writer, graph, node, attrs } = step;
  const { interior } = attrs;
  const source = sizesOf(graph, node.inputs[0] as Node);
  const apart = writer.reshape(
    x,
    source,
    source.flatMap((sizes) => [sizes, [1]]),
  );
  const none: Varying[] = interior.flatMap(() => [[0], [0]]);
  const gaps: Varying[] = interior.flatMap((gap) => [[0], [gap]]);
  const padded = padAround(step, apart, none, gaps);
  const pairs = source.flatMap((sizes, axis) => [sizes, [(interior[axis] as number) + 1]]);
  const joined = source.map((sizes, axis) =>
    sizes.map((size) => size * ((interior[axis] as number) + 1)),
  );
  return writer.reshape(padded, pairs, joined);
}

function pad(step: Step<PadAttrs>): string {
  const { graph, node, attrs, inputs } = step;
  const x = inputs[0] as string;
  const before = entriesOf(graph, node, 'before');
  const after = entriesOf(graph, node, 'after');
  if (attrs.interior.every((gap) => gap === 0)) return padAround(step, x, before, after);
  if (sizeOf(node.inputs[0]?.shape ?? []) === 0) {
    return filled(step.writer, attrs.value, node.dtype, sizesOf(graph, node));
  }
  const cut = after.map((amounts, axis) =>
    amounts.map((amount) => amount - (attrs.interior[axis] as number)),
  );
  return padAround(step, padBetween(step, x), before, cut);
}

/** One triangle, and its mirror image without the diagonal. */
function mirrorTriangle({
  writer,
  node,
  attrs,
  inputs,
}: Step<{ readonly upper: boolean }>): string {
  const upper = attrs.upper ? 1 : 0;
  const triangle = writer.add('Trilu', inputs, { upper });
  const beyond = writer.number(attrs.upper ? 1 : -1, 'int64');
  const strict = writer.add('Trilu', [inputs[0] as string, beyond], { upper });
  const perm = node.shape.map((_, axis) => axis);
  perm.push(...perm.splice(-2).toReversed());
  return writer.add('Add', [triangle, writer.add('Transpose', [strict], { perm })]);
}

const concat = convert({ axis: 'int' }, ({ writer, attrs, inputs }) =>
  writer.add('Concat', inputs, { axis: attrs.axis }),
);

export const SHAPING: Conversions = {
  full: convert({ shape: 'ints', value: 'float', dtype: 'dtype' }, full, ['shape', 'value']),
  iota: convert({ shape: 'ints', axis: 'int', dtype: 'dtype' }, iota, ['shape']),
  reshape: convert(
    { shape: 'ints' },
    ({ writer, graph, node, inputs }) =>
      writer.reshape(
        inputs[0] as string,
        sizesOf(graph, node.inputs[0] as Node),
        sizesOf(graph, node),
      ),
    ['shape'],
  ),
  expand: convert(
    { shape: 'ints' },
    ({ writer, graph, node, inputs }) => {
      const source = sizesOf(graph, node.inputs[0] as Node);
      const target = expandSizes(source, sizesOf(graph, node));
      return writer.add('Expand', [inputs[0] as string, writer.list(target)]);
    },
    ['shape'],
  ),
  permute: convert({ axes: 'ints' }, ({ writer, attrs, inputs }) =>
    writer.add('Transpose', inputs, { perm: attrs.axes }),
  ),
  slice: convert({ start: 'ints', size: 'ints', step: 'ints' }, slice, ['start', 'size']),
  flip: convert({ axes: 'ints' }, flip),
  pad: convert({ before: 'ints', after: 'ints', interior: 'ints', value: 'float' }, pad, [
    'before',
    'after',
  ]),
  mirrorTriangle: convert({ upper: 'flag' }, mirrorTriangle),
  concat,
  concatMany: concat,
};
