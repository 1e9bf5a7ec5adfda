// Convolutions of few channels per group, depthwise ones above all: nothing is shared between channels,
// so each row of results is computed where it stands, in vectors along the row, from padded rows.
// Forward, and by data once for each phase of the stride.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type {
  ContractionContext,
  ContractionKernel,
  ContractionSchedule,
} from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { type Dimensions, dimensionsOf, geometryOf } from './convolution.ts';
import { loop, loopIndex, multiplyAdd } from './loops.ts';
import { padStage } from './padded-rows.ts';
import { accumulatorOf } from './product.ts';
import { paddedSizes, stridesOf, tapOffsetsOf, type Windows, windowsOf } from './windows.ts';

/** Products of one result that are written out one after the other. */
const MOST_PRODUCTS = 64;
/** Results of one grid item, about. */
const ITEM_RESULTS = 4096;

interface Plan {
  readonly context: ContractionContext;
  readonly d: Dimensions;
  readonly backward: boolean;
  readonly dtype: 'float32' | 'float64' | 'int32';
  /** Channels that are summed, and channels of the result, per group. */
  readonly depth: number;
  readonly outputs: number;
  readonly padded: readonly number[];
}

function planOf(context: ContractionContext, geometry: ConvolutionGeometry): Plan {
  const d = dimensionsOf(context.node, geometry);
  const backward = geometry.role === 'backwardData';
  return {
    context,
    d,
    backward,
    dtype: accumulatorOf(context.node.dtype) as Plan['dtype'],
    depth: backward ? d.outputs : d.inputs,
    outputs: backward ? d.inputs : d.outputs,
    padded: paddedSizes(d, geometry),
  };
}

/** Channel (group, within) of an operand that has `count` channels a group. */
function channelAt(
  builder: Builder,
  group: Expression,
  count: number,
  within: Expression,
): Expression {
  return builder.add(builder.scale(group, count), within);
}

/** The weight between two channels of a group at a tap of the phase. */
function weightAt(
  plan: Plan,
  kernel: ContractionKernel,
  windows: Windows,
  at: { group: Expression; output: Expression; channel: number; tap: number },
): Expression {
  const { builder } = kernel;
  const counts = windows.taps.map(({ count }) => count);
  const tap = unflatten(builder, builder.constant(at.tap), counts).map((index, axis) => {
    const { first, step } = windows.taps[axis] as Windows['taps'][number];
    return builder.offset(builder.scale(index, step), first);
  });
  const channel = builder.constant(at.channel);
  const indices = plan.backward
    ? [channelAt(builder, at.group, plan.depth, channel), at.output, ...tap]
    : [channelAt(builder, at.group, plan.outputs, at.output), channel, ...tap];
  return builder.convert(kernel.read(1, indices), valueTypeOf(plan.dtype));
}

/** One grid item: some rows of one channel of one image. */
function rowsStage(plan: Plan, windows: Windows, rows: Scratch, suffix: string): Stage {
  const { context, d, depth, outputs, padded } = plan;
  const kernel = context.newKernel(`${context.name}_rows${suffix}`);
  const { builder } = kernel;
  const source = kernel.scratch(rows, 'read');
  const outer = windows.results.slice(0, -1);
  const length = windows.results.at(-1) as number;
  const lines = sizeOf(outer);
  const linesPerItem = Math.max(1, Math.min(lines, Math.floor(ITEM_RESULTS / length)));
  const parts = Math.ceil(lines / linesPerItem);
  const items = d.images * d.groups * outputs * parts;
  const grid = loopIndex(builder, 'item', items);
  const part = builder.rem(grid, builder.constant(parts));
  const channels = builder.div(grid, builder.constant(parts));
  const output = builder.rem(channels, builder.constant(outputs));
  const imageGroup = builder.div(channels, builder.constant(outputs));
  const group = builder.rem(imageGroup, builder.constant(d.groups));
  const image = builder.div(imageGroup, builder.constant(d.groups));
  const within = loopIndex(builder, 'line', linesPerItem);
  const line = builder.add(builder.scale(part, linesPerItem), within);
  const column = loopIndex(builder, 'column', length);
  const coordinates = [...unflatten(builder, line, outer), column];
  const strides = stridesOf(padded);
  let start = builder.scale(imageGroup, depth * sizeOf(padded));
  coordinates.forEach((coordinate, axis) => {
    const step = (windows.step[axis] as number) * (strides[axis] as number);
    start = builder.add(start, builder.scale(coordinate, step));
  });
  const type = valueTypeOf(plan.dtype);
  let sum: Expression = builder.constant(0, type);
  const offsets = tapOffsetsOf(windows, stridesOf(padded));
  for (let channel = 0; channel < depth; channel++) {
    offsets.forEach((offset, tap) => {
      const weight = weightAt(plan, kernel, windows, { group, output, channel, tap });
      const at = builder.offset(start, channel * sizeOf(padded) + offset);
      sum = multiplyAdd(builder, context.target, builder.load(source, at), weight, sum);
    });
  }
  const result = coordinates.map((coordinate, axis) =>
    builder.offset(
      builder.scale(coordinate, windows.scale[axis] as number),
      windows.shift[axis] as number,
    ),
  );
  const to = [image, channelAt(builder, group, outputs, output), ...result];
  const row = loop(builder, column, length, [...kernel.writeElement(to, sum)], true);
  return kernel.finish(grid, items, [upTo(builder, within, linesPerItem, lines, part, [row])]);
}

/** A loop over an item's lines, fewer in the last item. */
function upTo(
  builder: Builder,
  index: Variable,
  count: number,
  all: number,
  part: Expression,
  body: readonly Statement[],
): Statement {
  const left = builder.sub(builder.constant(all), builder.scale(part, count));
  const end = builder.min(builder.constant(count), left);
  return { kind: 'for', index, start: builder.constant(0), end, step: 1, body };
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = planOf(context, geometry);
  const { d, padded, depth } = plan;
  const { before, phases } = windowsOf(d, geometry);
  const length = sizeOf(padded);
  const rows: Scratch = {
    name: 'rows',
    dtype: plan.dtype,
    length: d.images * d.groups * depth * length,
  };
  const present = phases.filter(({ results }) => sizeOf(results) > 0);
  return [
    padStage(context, 'pad', 0, rows, { before, padded, length }),
    ...present.map((windows, phase) =>
      rowsStage(plan, windows, rows, present.length === 1 ? '' : String(phase)),
    ),
  ];
}

/** Forward and by data, for groups of few channels. */
export const depthwiseConvolution: ContractionSchedule = {
  name: 'depthwise convolution',
  reproducible: true,
  usable: ({ node, target }) => {
    const geometry = geometryOf(node);
    if (geometry === null || geometry.role === 'backwardFilter' || target.workgroups) return false;
    const d = dimensionsOf(node, geometry);
    const depth = geometry.role === 'backwardData' ? d.outputs : d.inputs;
    return d.images > 0 && sizeOf(d.result) > 0 && depth * sizeOf(d.kernel) <= MOST_PRODUCTS;
  },
  cost: ({ node, target }) => {
    const geometry = geometryOf(node);
    if (geometry === null) return Infinity;
    const d = dimensionsOf(node, geometry);
    const backward = geometry.role === 'backwardData';
    const results = backward ? d.space : d.result;
    const taps = sizeOf(d.kernel) / (backward ? sizeOf(geometry.stride) : 1);
    const positions = d.images * d.groups * sizeOf(results);
    const products = positions * d.inputs * d.outputs * taps;
    const row = results.at(-1) as number;
    // What is left of a row after whole vectors is computed by one more that overlaps.
    const lanes = target.vectorBytes / 4;
    const vectors = Math.floor(row / lanes) + (row % lanes === 0 ? 0 : row < lanes ? 2 : 1);
    const waste = (vectors * lanes) / row;
    return (
      (products * Math.max(1, waste)) / (0.4 * multiplyAddsPerNanosecond(target)) +
      (positions * (d.inputs + d.outputs)) / elementsPerNanosecond(target)
    );
  },
  lower: (context) => {
    const geometry = geometryOf(context.node);
    if (geometry === null) throw internalError('depthwise convolution of something else');
    return stagesOf(context, geometry);
  },
};
