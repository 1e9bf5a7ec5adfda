// What the schedules with vectors of output channels share: packed weights and the register tile.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type For, type Statement, type Target } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionKernel, PlainOperand } from '../lower/contraction.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { bounded, loop, loopBetween, loopIndex, multiplyAdd, prefetchAhead } from './loops.ts';
import { transposedCopy } from './product-problem.ts';
import { tileForWidth } from './product.ts';
import { channelReader } from './transpose.ts';
import {
  lanesOf,
  stridesOf,
  tapCounts,
  weightIndices,
  type WindowPlan,
  windowPlan,
  type Windows,
} from './windows.ts';

/** Steps of the sum over channels and taps between two visits of the block. */
export const SLICE = 640;

/** Weights in panels of `width` output channels. */
export interface PanelPlan extends WindowPlan {
  readonly lanes: number;
  readonly width: number;
  readonly panels: number;
}

export interface ChannelPlan extends PanelPlan {
  /** Rows of the register tile, and vectors of channels in a row. */
  readonly rows: number;
  readonly vectors: number;
}

export function channelPlan(
  context: ContractionContext,
  geometry: ConvolutionGeometry,
): ChannelPlan {
  const plan = windowPlan(context, geometry);
  const lanes = lanesOf(plan);
  const { rows, vectors } = tileForWidth(context.target, Math.ceil(plan.outputs / lanes));
  const width = vectors * lanes;
  return { ...plan, lanes, rows, vectors, width, panels: Math.ceil(plan.outputs / width) };
}

/** Steps of the sum that one item of the copy of weights takes, about. */
const COPIED_STEPS = 96;

/** Where a grid item's part of the panels begins. */
interface WeightPart {
  readonly group: Expression;
  readonly panel: Expression;
  readonly firstChannel: Expression;
  /** Channels of all items, but for the last. */
  readonly channels: number;
  readonly target: Buffer;
}

/**
 * Copies the weights of one phase into panels [group, panel][channel * taps][width]. An item copies a
 * few channels of all outputs of a panel.
 */
export function weightStage(
  plan: PanelPlan,
  windows: Windows,
  target: Scratch,
  suffix: string,
): Stage {
  const { context, d, depth, outputs, panels, width } = plan;
  const kernel = context.newKernel(`${context.name}_packWeight${suffix}`);
  const { builder } = kernel;
  const inRows = weightsInRows(plan);
  const channels = inRows ? wholeParts(depth, sizeOf(d.kernel)) : partOf(depth, windows);
  const parts = Math.ceil(depth / channels);
  const grid = loopIndex(builder, 'item', d.groups * panels * parts);
  const set = builder.div(grid, builder.constant(parts));
  const part: WeightPart = {
    panel: builder.rem(set, builder.constant(panels)),
    group: builder.div(set, builder.constant(panels)),
    firstChannel: builder.scale(builder.rem(grid, builder.constant(parts)), channels),
    channels,
    target: kernel.scratch(target, 'write'),
  };
  const whole = Math.floor(outputs / width);
  const body =
    inRows && whole === panels
      ? turnWeights(plan, kernel, part)
      : inRows && whole > 0
        ? [
            branch(
              builder.compare('lt', part.panel, builder.constant(whole)),
              turnWeights(plan, kernel, part),
              copyWeights(plan, kernel, windows, part),
            ),
          ]
        : copyWeights(plan, kernel, windows, part);
  return kernel.finish(grid, d.groups * panels * parts, body);
}

/** Channels that an item copies element by element. */
function partOf(depth: number, windows: Windows): number {
  return Math.min(depth, Math.max(1, Math.floor(COPIED_STEPS / sizeOf(tapCounts(windows)))));
}

/** Channels that an item copies so that all items take as many, if it can be in whole cache lines. */
function wholeParts(depth: number, taps: number): number {
  let best = 1;
  for (let channels = 1; channels <= depth && channels * taps <= 2 * COPIED_STEPS; channels++) {
    if (depth % channels !== 0) continue;
    const isBetter = (channels * taps) % 16 === 0 || (best * taps) % 16 !== 0;
    if (isBetter) best = channels;
  }
  return best;
}

/** Whether the weights of each output lie in memory as the sum goes through them. */
function weightsInRows({ context, backward, d, dtype }: PanelPlan): boolean {
  const plain = backward ? null : context.plainOperand(1);
  if (plain === null || plain.value.dtype !== dtype) return false;
  const within = [d.inputs, ...d.kernel];
  const expected = stridesOf(within);
  return within.every((size, axis) => size === 1 || plain.strides[axis + 1] === expected[axis]);
}

/** The part of a panel whose outputs all exist, out of rows: squares turned around in registers. */
function turnWeights(
  plan: PanelPlan,
  kernel: ContractionKernel,
  { group, panel, firstChannel, channels, target }: WeightPart,
): readonly Statement[] {
  const { context, d, depth, outputs, panels, width, lanes } = plan;
  const { builder } = kernel;
  const plain = context.plainOperand(1) as PlainOperand;
  const along = plain.strides[0] as number;
  const taps = sizeOf(d.kernel);
  const first = builder.scale(firstChannel, taps);
  const output = builder.add(builder.scale(group, outputs), builder.scale(panel, width));
  const set = builder.add(builder.scale(group, panels), panel);
  const base = builder.add(builder.offset(builder.scale(output, along), plain.offset), first);
  const layout = { buffer: kernel.buffer(plain.value), base, along, depth: 1 };
  return transposedCopy(builder, layout, {
    buffer: target,
    width,
    depth: channels * taps,
    lanes,
    count: 1,
    first: () => builder.constant(0),
    start: () => builder.scale(builder.add(builder.scale(set, depth * taps), first), width),
  });
}

/**
 * The part of a panel element by element: forward one output after the other, whose taps are neighbours
 * in memory; by data one channel after the other, whose outputs are. Otherwise every line would be
 * fetched often.
 */
function copyWeights(
  plan: PanelPlan,
  kernel: ContractionKernel,
  windows: Windows,
  { group, panel, firstChannel, channels, target }: WeightPart,
): readonly Statement[] {
  const { backward, depth, outputs, panels, width } = plan;
  const { builder } = kernel;
  const taps = sizeOf(tapCounts(windows));
  const set = builder.add(builder.scale(group, panels), panel);
  const type = valueTypeOf(plan.dtype);
  const zero = builder.constant(0);
  const lastChannel = bounded(builder, firstChannel, channels, depth);
  const lastOutput = bounded(builder, builder.scale(panel, width), width, outputs);
  /** Loops over what an item covers of its outputs from `start` to `end`. */
  const everywhere = (start: Expression, end: Expression, copied: boolean): Statement => {
    const within = loopIndex(builder, 'channel', channels);
    const tap = loopIndex(builder, 'tap', taps);
    const along = loopIndex(builder, 'along', width);
    const channel = builder.add(firstChannel, within);
    const output = builder.add(builder.scale(panel, width), along);
    const indices = weightIndices(builder, plan, windows, { group, output, channel, tap });
    const step = builder.add(builder.scale(channel, taps), tap);
    const line = builder.add(builder.scale(set, depth * taps), step);
    const store: Statement = {
      kind: 'store',
      buffer: target,
      index: builder.add(builder.scale(line, width), along),
      value: copied ? builder.convert(kernel.read(1, indices), type) : builder.constant(0, type),
    };
    const inner = loop(builder, tap, taps, [store]);
    return backward
      ? loopBetween(within, zero, lastChannel, [loopBetween(along, start, end, [inner])])
      : loopBetween(along, start, end, [loopBetween(within, zero, lastChannel, [inner])]);
  };
  const copies = everywhere(zero, lastOutput, true);
  // Outputs of the last panel that do not exist.
  const clears = everywhere(lastOutput, builder.constant(width), false);
  return outputs % width === 0 ? [copies] : [copies, clears];
}

export interface Tile {
  readonly rows: Buffer;
  readonly weights: Buffer;
  readonly offsets: Buffer;
  /** Sums, `width` of them for each position. */
  readonly block: Buffer;
  readonly tile: Expression;
  /** Which panel of weights, over all groups. */
  readonly panel: Expression;
  readonly slice: Expression;
  readonly slices: number;
  readonly steps: number;
  /** Where the window of a position starts in the source, and where its sums begin in the block. */
  placeOf(
    position: Expression,
    row: number,
  ): { readonly start: Expression; readonly cell: Expression };
}

/** `rows` positions by `vectors` vectors of channels, summed over one slice of channels and taps. */
export function registerTile(plan: ChannelPlan, kernel: ContractionKernel, at: Tile): Statement[] {
  const { context, lanes, rows, vectors, width } = plan;
  const { builder } = kernel;
  const type = valueTypeOf(plan.dtype);
  const before: Statement[] = [];
  const after: Statement[] = [];
  const k = builder.variable('k', 'i32', { min: 0, max: at.steps - 1 });
  const offset = builder.variable('offset', 'i32', { min: 0 });
  const body: Statement[] = [{ kind: 'let', variable: offset, value: builder.load(at.offsets, k) }];
  const line = builder.add(builder.scale(at.panel, at.steps), k);
  const bytes = 4 * plan.d.groups * plan.panels * width * at.steps;
  const weights = Array.from({ length: vectors }, (_, v) => {
    const variable = builder.variable(`w${v}`, type, { lanes });
    const index = builder.offset(builder.scale(line, width), v * lanes);
    body.push({ kind: 'let', variable, value: builder.load(at.weights, index, lanes) });
    body.push(...prefetchAhead(builder, context.target, at.weights, index, bytes));
    return variable;
  });
  for (let row = 0; row < rows; row++) {
    const start = builder.variable(`start${row}`, 'i32', { min: 0 });
    const position = builder.offset(builder.scale(at.tile, rows), row);
    const place = at.placeOf(position, row);
    before.push({ kind: 'let', variable: start, value: place.start });
    const x = builder.variable(`x${row}`, type, { lanes });
    const element = builder.load(at.rows, builder.add(start, offset));
    body.push({ kind: 'let', variable: x, value: builder.splat(element, lanes) });
    weights.forEach((weight, v) => {
      const sum = builder.variable(`sum${row}_${v}`, type, { lanes, mutable: true });
      const index = builder.offset(place.cell, v * lanes);
      const zero = builder.constant(0, type, lanes);
      const later = builder.compare('gt', at.slice, builder.constant(0));
      before.push({ kind: 'declare', variable: sum, value: zero });
      if (at.slices > 1) {
        const loaded: Statement = {
          kind: 'assign',
          variable: sum,
          value: builder.load(at.block, index, lanes),
        };
        before.push(branch(later, [loaded]));
      }
      const value = multiplyAdd(builder, context.target, x, weight, sum);
      body.push({ kind: 'assign', variable: sum, value });
      after.push({ kind: 'store', buffer: at.block, index, value: sum });
    });
  }
  const begin = builder.scale(at.slice, SLICE);
  const end = builder.min(builder.offset(begin, SLICE), builder.constant(at.steps));
  return [...before, loopBetween(k, begin, end, body), ...after];
}

/** Share of the multiply-adds' limit that a register tile reaches: loads take slots, too. */
export function efficiencyOf(target: Target, rows: number, vectors: number): number {
  const loads = target.foldsSplats ? vectors : rows + vectors;
  return Math.min(0.95, (rows * vectors) / (rows * vectors + 0.25 * loads));
}

/** Results of a panel of channels that a grid item has summed, and where they belong. */
export interface Results {
  /** Sums, `width` of them for each of `positions` positions of `images` images. */
  readonly block: Buffer;
  readonly images: number;
  readonly positions: number;
  readonly image: Expression;
  readonly group: Expression;
  readonly panel: Expression;
  /** The first position, of how many in all, and the result's space indices of each. */
  readonly start: Expression;
  readonly all: number;
  indicesOf(position: Expression): readonly Expression[];
}

/** Turns a block of sums around, channel by channel, and runs the epilogue. */
export function writeResults(
  plan: ChannelPlan,
  kernel: ContractionKernel,
  at: Results,
): Statement[] {
  const { d, width, lanes, outputs } = plan;
  const { builder } = kernel;
  const most = Math.min(at.positions, at.all);
  const channels = Math.min(width, outputs);
  const image = loopIndex(builder, 'image', at.images);
  const channel = loopIndex(builder, 'channel', channels);
  const position = loopIndex(builder, 'position', most);
  const sizes = { positions: at.images * at.positions, width, lanes };
  const { statements, element } = channelReader(kernel, at.block, sizes, outputs);
  const value = element(channel, builder.add(builder.scale(image, at.positions), position));
  const firstChannel = builder.scale(at.panel, width);
  const inGroup = builder.add(firstChannel, channel);
  const indices = [
    builder.add(at.image, image),
    builder.add(builder.scale(at.group, outputs), inGroup),
    ...at.indicesOf(builder.add(at.start, position)),
  ];
  const upTo = (
    index: Variable,
    first: Expression,
    size: number,
    limit: number,
    body: readonly Statement[],
    vector = false,
  ): For => {
    const end = bounded(builder, first, size, limit);
    return loopBetween(index, builder.constant(0), end, body, vector);
  };
  const store = kernel.writeElement(indices, value);
  const vectors = upTo(position, at.start, most, at.all, store, true);
  const positions: Statement = { ...vectors, repeatable: plan.context.mayRepeat };
  const all = upTo(channel, firstChannel, channels, outputs, [positions]);
  return [...statements, upTo(image, at.image, at.images, d.images, [all])];
}
