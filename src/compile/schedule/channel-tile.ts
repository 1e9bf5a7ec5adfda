// What the schedules with vectors of output channels share: packed weights and the register tile.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement, type Target } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { type Dimensions, dimensionsOf } from './convolution.ts';
import { loop, loopIndex, multiplyAdd } from './loops.ts';
import { accumulatorOf, tileForWidth } from './product.ts';
import { paddedSizes, stridesOf, type Windows } from './windows.ts';

/** Steps of the sum over channels and taps between two visits of the block. */
export const SLICE = 640;

export interface Plan {
  readonly context: ContractionContext;
  readonly d: Dimensions;
  readonly backward: boolean;
  readonly dtype: 'float32' | 'float64' | 'int32';
  readonly lanes: number;
  readonly rows: number;
  readonly vectors: number;
  readonly width: number;
  /** Channels that are summed, and channels of the result, per group. */
  readonly depth: number;
  readonly outputs: number;
  readonly panels: number;
  readonly padded: readonly number[];
}

export function planOf(context: ContractionContext, geometry: ConvolutionGeometry): Plan {
  const d = dimensionsOf(context.node, geometry);
  const backward = geometry.role === 'backwardData';
  const dtype = accumulatorOf(context.node.dtype) as Plan['dtype'];
  const lanes = context.target.vectorBytes / (dtype === 'float64' ? 8 : 4);
  const outputs = backward ? d.inputs : d.outputs;
  const { rows, vectors } = tileForWidth(context.target, Math.ceil(outputs / lanes));
  return {
    context,
    d,
    backward,
    dtype,
    lanes,
    rows,
    vectors,
    width: vectors * lanes,
    depth: backward ? d.outputs : d.inputs,
    outputs,
    panels: Math.ceil(outputs / (vectors * lanes)),
    padded: paddedSizes(d, geometry),
  };
}

/**
 * Copies the weights of one phase into panels [group, panel][channel * taps][width]. An item copies a
 * few channels of all outputs: forward one output after the other, whose taps are neighbours in memory;
 * by data one channel after the other, whose outputs are. Otherwise every line would be fetched often.
 */
export function weightStage(plan: Plan, windows: Windows, target: Scratch, suffix: string): Stage {
  const { context, backward, d, depth, outputs, panels, width } = plan;
  const kernel = context.newKernel(`${context.name}_packWeight${suffix}`);
  const { builder } = kernel;
  const buffer = kernel.scratch(target, 'write');
  const counts = windows.taps.map(({ count }) => count);
  const taps = sizeOf(counts);
  const channels = Math.min(depth, Math.max(1, Math.floor(96 / taps)));
  const parts = Math.ceil(depth / channels);
  const grid = loopIndex(builder, 'item', d.groups * panels * parts);
  const set = builder.div(grid, builder.constant(parts));
  const panel = builder.rem(set, builder.constant(panels));
  const group = builder.div(set, builder.constant(panels));
  const firstChannel = builder.scale(builder.rem(grid, builder.constant(parts)), channels);
  const type = valueTypeOf(plan.dtype);
  const zero = builder.constant(0);
  const lastChannel = builder.min(
    builder.constant(channels),
    builder.sub(builder.constant(depth), firstChannel),
  );
  const lastOutput = builder.min(
    builder.constant(width),
    builder.sub(builder.constant(outputs), builder.scale(panel, width)),
  );
  const counted = (
    index: Variable,
    start: Expression,
    end: Expression,
    body: readonly Statement[],
  ): Statement => ({ kind: 'for', index, start, end, step: 1, body });
  /** Loops over what an item covers of its outputs from `start` to `end`. */
  const everywhere = (start: Expression, end: Expression, copied: boolean): Statement => {
    const within = loopIndex(builder, 'channel', channels);
    const tap = loopIndex(builder, 'tap', taps);
    const along = loopIndex(builder, 'along', width);
    const channel = builder.add(firstChannel, within);
    const output = builder.add(builder.scale(panel, width), along);
    const at = unflatten(builder, tap, counts).map((index, axis) => {
      const { first, step } = windows.taps[axis] as Windows['taps'][number];
      return builder.offset(builder.scale(index, step), first);
    });
    const indices = backward
      ? [builder.add(builder.scale(group, depth), channel), output, ...at]
      : [builder.add(builder.scale(group, outputs), output), channel, ...at];
    const step = builder.add(builder.scale(channel, taps), tap);
    const line = builder.add(builder.scale(set, depth * taps), step);
    const store: Statement = {
      kind: 'store',
      buffer,
      index: builder.add(builder.scale(line, width), along),
      value: copied ? builder.convert(kernel.read(1, indices), type) : builder.constant(0, type),
    };
    const inner = loop(builder, tap, taps, [store]);
    return backward
      ? counted(within, zero, lastChannel, [counted(along, start, end, [inner])])
      : counted(along, start, end, [counted(within, zero, lastChannel, [inner])]);
  };
  const copies = everywhere(zero, lastOutput, true);
  // Outputs of the last panel that do not exist.
  const clears = everywhere(lastOutput, builder.constant(width), false);
  const body = outputs % width === 0 ? [copies] : [copies, clears];
  return kernel.finish(grid, d.groups * panels * parts, body);
}

/** What the windows read: padded rows of its own, or the operand itself where nothing is padded. */
export interface Source {
  buffer(kernel: ContractionKernel): Buffer;
  readonly offset: number;
  /** In elements; `space` has one for each axis. */
  readonly image: number;
  readonly channel: number;
  readonly space: readonly number[];
  /** The copy, if there is one. */
  readonly rows: Scratch | null;
}

/** The operand itself if it is plain memory and every window lies inside. */
export function plainSource(plan: Plan): Source | null {
  const { context, d, backward, padded, dtype } = plan;
  const space = backward ? d.result : d.space;
  if (padded.some((size, axis) => size !== space[axis])) return null;
  const plain = context.plainOperand(0);
  if (plain === null || plain.value.dtype !== dtype) return null;
  if (plain.strides.some((stride) => stride < 0)) return null;
  const [image = 0, channel = 0, ...strides] = plain.strides;
  return {
    buffer: (kernel) => kernel.buffer(plain.value),
    offset: plain.offset,
    image,
    channel,
    space: strides,
    rows: null,
  };
}

/** Where plain memory is not enough: padded rows. */
export function paddedSource({ d, padded, depth, dtype }: Plan): Source {
  const length = sizeOf(padded);
  const channels = d.groups * depth;
  const rows: Scratch = { name: 'rows', dtype, length: d.images * channels * length };
  return {
    buffer: (kernel) => kernel.scratch(rows, 'read'),
    offset: 0,
    image: channels * length,
    channel: length,
    space: stridesOf(padded),
    rows,
  };
}

/** Where the window of a position starts in the source. */
export function windowStart(
  { depth }: Plan,
  builder: Builder,
  source: Source,
  step: readonly number[],
  at: {
    readonly image: Expression;
    readonly group: Expression;
    readonly coordinates: readonly Expression[];
  },
): Expression {
  let start = builder.offset(builder.scale(at.image, source.image), source.offset);
  start = builder.add(start, builder.scale(at.group, depth * source.channel));
  at.coordinates.forEach((coordinate, axis) => {
    const by = (step[axis] as number) * (source.space[axis] as number);
    start = builder.add(start, builder.scale(coordinate, by));
  });
  return start;
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
export function registerTile(plan: Plan, kernel: ContractionKernel, at: Tile): Statement[] {
  const { context, lanes, rows, vectors, width } = plan;
  const { builder } = kernel;
  const type = valueTypeOf(plan.dtype);
  const before: Statement[] = [];
  const after: Statement[] = [];
  const k = builder.variable('k', 'i32', { min: 0, max: at.steps - 1 });
  const offset = builder.variable('offset', 'i32', { min: 0 });
  const body: Statement[] = [{ kind: 'let', variable: offset, value: builder.load(at.offsets, k) }];
  const line = builder.add(builder.scale(at.panel, at.steps), k);
  const weights = Array.from({ length: vectors }, (_, v) => {
    const variable = builder.variable(`w${v}`, type, { lanes });
    const index = builder.offset(builder.scale(line, width), v * lanes);
    body.push({ kind: 'let', variable, value: builder.load(at.weights, index, lanes) });
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
  return [...before, { kind: 'for', index: k, start: begin, end, step: 1, body }, ...after];
}

/** Share of the multiply-adds' limit that a register tile reaches: loads take slots, too. */
export function efficiencyOf(target: Target, rows: number, vectors: number): number {
  const loads = target.foldsSplats ? vectors : rows + vectors;
  return Math.min(0.95, (rows * vectors) / (rows * vectors + 0.25 * loads));
}
