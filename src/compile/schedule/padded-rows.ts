// Images copied into rows with their padding, so that every tap of a kernel of stride 1 is the same
// flat row at another offset.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { flatten, unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { bounded, ENOUGH_ITEMS, loop, loopBetween, loopIndex } from './loops.ts';

/**
 * Rows with zeros around. With a step they are apart by their phase: element q of an axis goes to
 * q / step of phase q % step, so that windows which move by the step move by one in every phase. A
 * channel is then [phases, ...padded], where `padded` are the sizes of one phase.
 */
export interface Padding {
  readonly before: readonly number[];
  readonly padded: readonly number[];
  readonly step?: readonly number[];
}

/** One channel that is copied: where from and where to. */
export interface PaddedChannel {
  readonly operand: number;
  readonly image: Expression;
  readonly channel: Expression;
  readonly buffer: Buffer;
  readonly start: Expression;
  /** The first padded element of the first axis, if not all are copied: a multiple of the step. */
  readonly first?: Expression;
  /** How many from there on, of rows that lie among all of the channel's; `most` at most. */
  readonly lines?: { readonly count: Expression; readonly most: number };
}

/** Elements that a part has at least. */
const LEAST_PART = 2048;

/** Sets `count` elements from `start` on. */
function fill(
  builder: Builder,
  buffer: Buffer,
  start: Expression,
  count: number,
  value: (at: Variable) => Expression,
): Statement[] {
  if (count <= 0) return [];
  const index = loopIndex(builder, 'column', count);
  const store: Statement = {
    kind: 'store',
    buffer,
    index: builder.add(start, index),
    value: value(index),
  };
  return [{ ...loop(builder, index, count, [store], true), repeatable: true }];
}

/** Copies one channel of [images, channels, ...space] into rows; the prologue fuses here. */
export function padRows(
  kernel: ContractionKernel,
  space: readonly number[],
  { before, padded: sizes, step = sizes.map(() => 1) }: Padding,
  { operand, image, channel, buffer, start, first, lines }: PaddedChannel,
): Statement[] {
  const { builder } = kernel;
  const type = valueTypeOf(buffer.dtype);
  const put = (from: Expression, count: number, value: (at: Variable) => Expression): Statement[] =>
    fill(builder, buffer, builder.add(start, from), count, value);
  const zero = (): Expression => builder.constant(0, type);
  // Row by row, and within a row border, copy, border: the copy has no bounds to check.
  const last = sizes.length - 1;
  const outer = sizes.slice(0, last).map((size, axis) => size * (step[axis] as number));
  if (lines !== undefined) outer[0] = lines.most;
  const at = outer.map((size, axis) => loopIndex(builder, `s${axis}`, size));
  let inside: Expression = builder.constant(1, 'bool');
  const padded = at.map((position, axis) =>
    axis === 0 && first !== undefined ? builder.add(first, position) : position,
  );
  const indices = padded.map((position, axis) => {
    const size = space[axis] as number;
    const index = builder.offset(position, -(before[axis] as number));
    inside = builder.and(inside, builder.compare('ge', index, builder.constant(0)));
    inside = builder.and(inside, builder.compare('lt', index, builder.constant(size)));
    return builder.min(builder.max(index, builder.constant(0)), builder.constant(size - 1));
  });
  const apart = (lines === undefined ? at : padded).map((position, axis) => {
    const by = builder.constant(step[axis] as number);
    return { phase: builder.rem(position, by), index: builder.div(position, by) };
  });
  const rowLength = sizes[last] as number;
  const stride = step[last] as number;
  const border = before[last] as number;
  const width = space[last] as number;
  const rowOf = (phase: number): Expression => {
    const plane = [...apart.map((part) => part.phase), builder.constant(phase)];
    const row = [...apart.map((part) => part.index), builder.constant(0)];
    return flatten(builder, [...plane, ...row], [...step, ...sizes]);
  };
  const phases = Array.from({ length: stride }, (_, phase) => phase);
  const copy = phases.flatMap((phase) => {
    const row = rowOf(phase);
    // The columns of this phase that lie in the source.
    const low = Math.min(rowLength, Math.max(0, Math.ceil((border - phase) / stride)));
    const most = Math.ceil((width + border - phase) / stride);
    const high = Math.max(low, Math.min(rowLength, most));
    return [
      ...put(row, low, zero),
      ...put(builder.offset(row, low), high - low, (column) => {
        const from = builder.offset(builder.scale(column, stride), low * stride + phase - border);
        return builder.convert(kernel.read(operand, [image, channel, ...indices, from]), type);
      }),
      ...put(builder.offset(row, high), rowLength - high, zero),
    ];
  });
  const outside = phases.flatMap((phase) => put(rowOf(phase), rowLength, zero));
  let body: Statement[] = inside.kind === 'constant' ? copy : [branch(inside, copy, outside)];
  for (let axis = at.length - 1; axis >= 0; axis--) {
    const all = builder.constant(outer[axis] as number);
    const end = axis === 0 && lines !== undefined ? lines.count : all;
    body = [loopBetween(at[axis] as Variable, builder.constant(0), end, body)];
  }
  return body;
}

interface Padded extends Padding {
  /** Elements of a channel: as many as its rows have, or more. */
  readonly length: number;
}

/** Padded elements of the first axis that one item copies: few channels are padded in parts. */
function linesPerItem(channels: number, { padded, length, step = [] }: Padded): number {
  const all = (padded[0] as number) * (step[0] ?? 1);
  // Lines of one phase only, so that a part may begin at any of them.
  if (padded.length < 2 || (step[0] ?? 1) !== 1 || length > sizeOf(step) * sizeOf(padded))
    return all;
  const parts = Math.min(Math.ceil(ENOUGH_ITEMS / channels), Math.floor(length / LEAST_PART));
  return Math.ceil(all / Math.max(1, parts));
}

/** Copies all channels. Each takes `length` elements: what lies behind its rows is zero too. */
export function padStage(
  context: ContractionContext,
  name: string,
  operand: number,
  target: Scratch,
  padding: Padded,
): Stage {
  const { padded, length, step = [] } = padding;
  const kernel = context.newKernel(`${context.name}_${name}`);
  const { builder } = kernel;
  const buffer = kernel.scratch(target, 'write');
  const { shape } = context.node.inputs[operand] as Node;
  const [images, channels, ...space] = shape as readonly [number, number, ...number[]];
  const lines = (padded[0] as number) * (step[0] ?? 1);
  const most = linesPerItem(images * channels, padding);
  const parts = Math.ceil(lines / most);
  const grid = loopIndex(builder, 'item', images * channels * parts);
  const [image, channel, part] = unflatten(builder, grid, [images, channels, parts]);
  const start = builder.scale(builder.div(grid, builder.constant(parts)), length);
  const first = builder.scale(part, most);
  const some =
    parts > 1 ? { first, lines: { count: bounded(builder, first, most, lines), most } } : {};
  const all = sizeOf(step) * sizeOf(padded);
  return kernel.finish(grid, images * channels * parts, [
    ...padRows(kernel, space, padding, { operand, image, channel, buffer, start, ...some }),
    ...fill(builder, buffer, builder.offset(start, all), length - all, () =>
      builder.constant(0, valueTypeOf(target.dtype)),
    ),
  ]);
}

/** Writes the offset of each (channel, tap) in the padded rows: the inner loop's only indirection. */
export function offsetStage(
  context: ContractionContext,
  target: Scratch,
  depth: number,
  rows: number,
  taps: number[],
) {
  const kernel = context.newKernel(`${context.name}_offsets`);
  const { builder } = kernel;
  const buffer = kernel.scratch(target, 'write');
  const grid = loopIndex(builder, 'item', 1);
  const channel = loopIndex(builder, 'channel', depth);
  const stores = taps.map((offset, tap): Statement => ({
    kind: 'store',
    buffer,
    index: builder.offset(builder.scale(channel, taps.length), tap),
    value: builder.offset(builder.scale(channel, rows), offset),
  }));
  return kernel.finish(grid, 1, [loop(builder, channel, depth, stores)]);
}
