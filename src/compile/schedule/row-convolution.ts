// Convolutions with vectors along the rows of the result: the register tile multiplies single weights of
// a few channels by neighbouring elements of the padded input, and results are written as they lie.
// With a stride along the rows, these are apart by their phase, so that what a vector reads is a vector.
// Forward, where rows of the result are whole vectors; any stride, dilation and groups.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import { type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { type ChannelPlan, efficiencyOf, weightStage } from './channel-tile.ts';
import { convolutionSchedule } from './convolution.ts';
import { bounded, loop, loopBetween, loopIndex, multiplyAdd } from './loops.ts';
import { offsetStage, padStage } from './padded-rows.ts';
import {
  paddedSource,
  plainSource,
  type Source,
  startInSource,
  type TapAxis,
  tapCounts,
  tapOffsets,
  windowPlan,
  type WindowPlan,
  type Windows,
  windowsOf,
} from './windows.ts';

/** Multiply-adds of vectors that one grid item does, about. */
const ITEM_WORK = 32 * 1024;

/** `width` is the number of channels of a tile, `vectors` how many vectors of each. */
interface RowPlan extends ChannelPlan {
  /** Vectors of a channel of the result, and how many of them are one item's. */
  readonly count: number;
  readonly block: number;
}

function rowPlan(context: ContractionContext, geometry: ConvolutionGeometry): RowPlan {
  const plan = windowPlan(context, geometry);
  const { target } = context;
  const { d, depth, outputs, dtype } = plan;
  const lanes = lanesOf(plan);
  // Sums, the vectors that they share, and one weight at a time.
  const width = target.vectorRegisters >= 32 ? 8 : 4;
  const count = sizeOf(d.result) / lanes;
  const vectors = Math.min(count, Math.floor((target.vectorRegisters - 1) / (width + 1)));
  const work = depth * sizeOf(d.kernel) * width * vectors;
  const tiles = Math.max(1, Math.round(ITEM_WORK / work));
  const block = Math.min(tiles, Math.ceil(count / vectors)) * vectors;
  const panels = Math.ceil(outputs / width);
  return { ...plan, dtype, lanes, rows: 1, vectors, width, panels, count, block };
}

function lanesOf({ context, dtype }: WindowPlan): number {
  return context.target.vectorBytes / (dtype === 'float64' ? 8 : 4);
}

/** What is read, how far the window moves in it, where its taps are, and what makes it. */
interface Rows {
  readonly source: Source;
  readonly step: readonly number[];
  readonly taps: number[];
  readonly stages: readonly Stage[];
}

/** The operand or its padded copy; with a stride along the rows a copy with their phases apart. */
function rowsOf(plan: RowPlan, windows: Windows, before: readonly number[]): Rows {
  const { context, padded } = plan;
  const last = padded.length - 1;
  const stride = windows.step[last] as number;
  const phases = padded.map((_, axis) => (axis === last ? stride : 1));
  const sizes = padded.map((size, axis) => Math.ceil(size / (phases[axis] as number)));
  const source = operandInRows(plan, windows) ?? paddedSource({ ...plan, padded: sizes }, stride);
  const taps = tapOffsets(tapCounts(windows), (tap, axis) => {
    const at = tap * (windows.taps[axis] as TapAxis).sourceStep;
    const by = phases[axis] as number;
    return (at % by) * sizeOf(sizes) + Math.floor(at / by) * (source.space[axis] as number);
  });
  const { rows, channel } = source;
  const padding = { before, padded: sizes, step: phases, length: channel };
  return {
    source,
    step: [...windows.step.slice(0, last), 1],
    taps,
    stages: rows === null ? [] : [padStage(context, 'pad', 0, rows, padding)],
  };
}

/** The operand itself if its rows are vectors for every tap. */
function operandInRows(plan: WindowPlan, { step }: Windows): Source | null {
  const plain = step.at(-1) === 1 ? plainSource(plan) : null;
  return plain?.space.at(-1) === 1 ? plain : null;
}

/** A tile of channels and vectors, and where it belongs. */
interface Tile {
  readonly rows: Rows;
  readonly weights: Scratch;
  readonly offsets: Scratch;
  /** Steps of the sum. */
  readonly steps: number;
  readonly image: Expression;
  readonly group: Expression;
  readonly panel: Expression;
  /** The first vector of the tile, of all of a channel. */
  readonly first: Expression;
}

/** Space indices of where vector number `vector` of a channel of the result begins. */
function positionOf(
  { d, lanes, count }: RowPlan,
  kernel: ContractionKernel,
  vector: Expression,
): Expression[] {
  const { builder } = kernel;
  // Beyond the last stands the last: computed again, and not written.
  const safe = builder.min(vector, builder.constant(count - 1));
  const perRow = (d.result.at(-1) as number) / lanes;
  const place = unflatten(builder, safe, [...d.result.slice(0, -1), perRow]);
  const last = builder.scale(place.at(-1) as Expression, lanes);
  return [...place.slice(0, -1), last];
}

/** Sums of `width` channels of `vectors` vectors of results, in registers. */
function registerTile(
  plan: RowPlan,
  kernel: ContractionKernel,
  at: Tile,
): { readonly statements: readonly Statement[]; readonly sums: readonly (readonly Variable[])[] } {
  const { context, lanes, vectors, width, panels } = plan;
  const { builder } = kernel;
  const type = valueTypeOf(plan.dtype);
  const { source, step } = at.rows;
  const before: Statement[] = [];
  const body: Statement[] = [];
  const name = (list: Statement[], label: string, value: Expression): Variable => {
    const variable = builder.variable(label, value.type, { lanes: value.lanes, min: value.min });
    list.push({ kind: 'let', variable, value });
    return variable;
  };
  const k = loopIndex(builder, 'k', at.steps);
  const offset = name(body, 'offset', builder.load(kernel.scratch(at.offsets, 'read'), k));
  const elements = Array.from({ length: vectors }, (_, v) => {
    const position = positionOf(plan, kernel, builder.offset(at.first, v));
    const { image, group } = at;
    const start = startInSource(builder, plan, source, step, { image, group, position });
    const index = builder.add(name(before, `start${v}`, start), offset);
    return name(body, `x${v}`, builder.load(source.buffer(kernel), index, lanes));
  });
  const panel = builder.add(builder.scale(at.group, panels), at.panel);
  const line = builder.scale(builder.add(builder.scale(panel, at.steps), k), width);
  const packed = kernel.scratch(at.weights, 'read');
  const sums = Array.from({ length: width }, (_, channel) => {
    const weight = builder.splat(builder.load(packed, builder.offset(line, channel)), lanes);
    const spread = name(body, `w${channel}`, weight);
    return elements.map((x, v) => {
      const sum = builder.variable(`sum${channel}_${v}`, type, { lanes, mutable: true });
      before.push({ kind: 'declare', variable: sum, value: builder.constant(0, type, lanes) });
      const value = multiplyAdd(builder, context.target, x, spread, sum);
      body.push({ kind: 'assign', variable: sum, value });
      return sum;
    });
  });
  return { statements: [...before, loop(builder, k, at.steps, body)], sums };
}

/** Runs the epilogue on a tile: through memory, so that it is there once and not for every vector. */
function writeTile(
  plan: RowPlan,
  kernel: ContractionKernel,
  at: Tile,
  sums: readonly (readonly Variable[])[],
): readonly Statement[] {
  const { lanes, vectors, width, outputs, count, dtype } = plan;
  const { builder } = kernel;
  const block = kernel.privateArray('block', dtype, width * vectors * lanes);
  const stores = sums.flatMap((ofChannel, channel) =>
    ofChannel.map((value, v): Statement => {
      const index = builder.constant((channel * vectors + v) * lanes);
      return { kind: 'store', buffer: block, index, value };
    }),
  );
  const v = loopIndex(builder, 'vector', vectors);
  const channel = loopIndex(builder, 'channel', width);
  const position = positionOf(plan, kernel, builder.add(at.first, v));
  const firstChannel = builder.scale(at.panel, width);
  const inGroup = builder.add(firstChannel, channel);
  const output = builder.add(builder.scale(at.group, outputs), inGroup);
  const index = builder.scale(builder.add(builder.scale(channel, vectors), v), lanes);
  const write = kernel.writeVector(
    (lane) => [
      at.image,
      output,
      ...position.slice(0, -1),
      builder.add(position.at(-1) as Expression, lane),
    ],
    builder.load(block, index, lanes),
  );
  const zero = builder.constant(0);
  const lastVector = bounded(builder, at.first, vectors, count);
  const lastChannel = bounded(builder, firstChannel, width, outputs);
  const ofVector = loopBetween(channel, zero, lastChannel, write);
  return [...stores, loopBetween(v, zero, lastVector, [ofVector])];
}

/** One grid item: a block of vectors of a few channels. */
function multiplyStage(
  plan: RowPlan,
  of: Pick<Tile, 'rows' | 'weights' | 'offsets' | 'steps'>,
): Stage {
  const { context, d, panels, count, block, vectors } = plan;
  const kernel = context.newKernel(`${context.name}_rows`);
  const { builder } = kernel;
  const blocks = Math.ceil(count / block);
  const shape = [d.images, d.groups, blocks, panels];
  const grid = loopIndex(builder, 'item', sizeOf(shape));
  const [image, group, which, panel] = unflatten(builder, grid, shape) as [
    Expression,
    Expression,
    Expression,
    Expression,
  ];
  const start = builder.scale(which, block);
  const left = bounded(builder, start, block, count);
  const tiles = builder.div(builder.offset(left, vectors - 1), builder.constant(vectors));
  const tile = loopIndex(builder, 'tile', block / vectors);
  const first = builder.add(start, builder.scale(tile, vectors));
  const at: Tile = { ...of, image, group, panel, first };
  const { statements, sums } = registerTile(plan, kernel, at);
  return kernel.finish(grid, sizeOf(shape), [
    loopBetween(tile, builder.constant(0), tiles, [
      ...statements,
      ...writeTile(plan, kernel, at, sums),
    ]),
  ]);
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = rowPlan(context, geometry);
  const { d, depth, dtype, lanes, panels, width } = plan;
  const { before, phases } = windowsOf(d, geometry);
  const [windows] = phases as [Windows];
  const steps = depth * sizeOf(d.kernel);
  const rows = rowsOf(plan, windows, before);
  const length = d.groups * panels * steps * width;
  const weights: Scratch = { name: 'weights', dtype, length };
  const offsets: Scratch = { name: 'offsets', dtype: 'int32', length: steps };
  return [
    ...rows.stages,
    weightStage({ ...plan, lanes: Math.min(lanes, width) }, windows, weights, ''),
    offsetStage(context, offsets, depth, rows.source.channel, rows.taps),
    multiplyStage(plan, { rows, weights, offsets, steps }),
  ];
}

/** Estimated nanoseconds. */
function costOf(context: ContractionContext, geometry: ConvolutionGeometry): number {
  const plan = rowPlan(context, geometry);
  const { d, depth, lanes, panels, width, vectors, count, padded } = plan;
  const { target } = context;
  const computed = Math.ceil(count / vectors) * vectors * lanes * panels * width;
  const work = d.images * d.groups * computed * depth * sizeOf(d.kernel);
  const { phases } = windowsOf(d, geometry);
  const plain = operandInRows(plan, phases[0] as Windows) !== null;
  const copied = plain ? 0 : d.images * d.groups * depth * sizeOf(padded);
  const packed = context.isConstant(1) ? 0 : d.groups * panels * width * depth * sizeOf(d.kernel);
  return (
    work / (efficiencyOf(target, width, vectors) * multiplyAddsPerNanosecond(target)) +
    (copied + 2 * packed) / elementsPerNanosecond(target)
  );
}

/** Forward, where rows of the result are whole vectors. */
export const rowConvolution = convolutionSchedule({
  name: 'row convolution',
  reproducible: true,
  byFilter: false,
  usable: (context, geometry) => {
    if (geometry.role !== 'forward' || context.target.vectorBytes < 16) return false;
    const plan = windowPlan(context, geometry);
    return (plan.d.result.at(-1) as number) % lanesOf(plan) === 0;
  },
  cost: costOf,
  lower: stagesOf,
});
