// Convolutions with vectors along the rows of the result: the register tile multiplies single weights of
// a few channels by neighbouring elements of the padded input, and results are written as they lie.
// With a stride along the rows, these are apart by their phase, so that what a vector reads is a vector.
// Forward, where rows of the result are whole vectors; any stride, dilation and groups.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import { type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { efficiencyOf, type PanelPlan, weightStage } from './channel-tile.ts';
import { convolutionSchedule } from './convolution.ts';
import {
  bounded,
  CACHE_LINE,
  ENOUGH_ITEMS,
  loop,
  loopBetween,
  loopIndex,
  multiplyAdd,
  naming,
} from './loops.ts';
import { offsetStage, padStage } from './padded-rows.ts';
import {
  lanesOf,
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
/** Channels that share what a tile reads for which a copy of that pays, and its bytes at most. */
const LEAST_CHANNELS = 32;
const COPY_BYTES = 128 * 1024;
/** Bytes of what a tile reads that stay in the first-level cache from panel to panel without a copy. */
const NEAR_BYTES = 12 * 1024;

/** `width` is the number of channels of a tile. */
interface RowPlan extends PanelPlan {
  /** Vectors of each channel of a tile. */
  readonly vectors: number;
  /** Steps of the sum. */
  readonly steps: number;
  /** Vectors of a channel of the result, and how many of them are one item's. */
  readonly count: number;
  readonly block: number;
  /** Panels of an item. */
  readonly chunk: number;
  /**
   * How tiles read: what stays near by itself where it lies, as what is copied side by side for all
   * panels of the item, or from afar.
   */
  readonly reading: 'near' | 'copied' | 'far';
}

function rowPlan(context: ContractionContext, geometry: ConvolutionGeometry): RowPlan {
  const plan = windowPlan(context, geometry);
  const { target } = context;
  const { d, depth, outputs } = plan;
  const lanes = lanesOf(plan);
  // Sums, the vectors that they share, and one weight at a time.
  const width = target.vectorRegisters >= 32 ? 8 : 4;
  const count = sizeOf(d.result) / lanes;
  const vectors = Math.min(count, Math.floor((target.vectorRegisters - 1) / (width + 1)));
  const panels = Math.ceil(outputs / width);
  const steps = depth * sizeOf(d.kernel);
  const tiles = Math.ceil(count / vectors);
  const common = { ...plan, lanes, vectors, width, panels, steps, count };
  // With few tiles the panels of each are shared among threads, too.
  const parts = Math.min(panels, Math.ceil(ENOUGH_ITEMS / (d.images * d.groups * tiles)));
  const chunk = Math.ceil(panels / parts);
  const bytes = steps * vectors * target.vectorBytes;
  // Taps along a row read the same lines, all but those of another phase.
  const taps = Math.min(geometry.stride.at(-1) as number, d.kernel.at(-1) as number);
  const rows = depth * sizeOf(d.kernel.slice(0, -1)) * taps;
  const near = rows * (vectors * target.vectorBytes + CACHE_LINE) <= NEAR_BYTES;
  if (!near && chunk * width >= LEAST_CHANNELS && bytes <= COPY_BYTES) {
    return { ...common, block: vectors, chunk, reading: 'copied' };
  }
  const together = Math.max(1, Math.round(ITEM_WORK / (steps * width * vectors)));
  const block = Math.min(together, tiles) * vectors;
  return { ...common, block, chunk: 1, reading: near ? 'near' : 'far' };
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

/** What step k of a tile reads. */
interface Elements {
  /** What is done once for a tile, and in each step. */
  readonly before: readonly Statement[];
  readonly each: readonly Statement[];
  readonly vectors: readonly Expression[];
}

/** The vectors of step k, where they lie in the source. */
function fromSource(plan: RowPlan, kernel: ContractionKernel, at: Tile, k: Expression): Elements {
  const { lanes, vectors } = plan;
  const { builder } = kernel;
  const { source, step } = at.rows;
  const before: Statement[] = [];
  const each: Statement[] = [];
  const [once, always] = [naming(builder, before), naming(builder, each)];
  const offset = always('offset', builder.load(kernel.scratch(at.offsets, 'read'), k));
  const loaded = Array.from({ length: vectors }, (_, v) => {
    const position = positionOf(plan, kernel, builder.offset(at.first, v));
    const { image, group } = at;
    const start = startInSource(builder, plan, source, step, { image, group, position });
    const index = builder.add(once(`start${v}`, start), offset);
    return always(`x${v}`, builder.load(source.buffer(kernel), index, lanes));
  });
  return { before, each, vectors: loaded };
}

/** Copies what a tile reads, step by step side by side; and how it is read from there. */
function copiedElements(
  plan: RowPlan,
  kernel: ContractionKernel,
  at: Tile,
): { readonly copy: readonly Statement[]; elements(k: Expression): Elements } {
  const { lanes, vectors, steps, dtype } = plan;
  const { builder } = kernel;
  const window = kernel.privateArray('window', dtype, steps * vectors * lanes);
  const place = (k: Expression, v: number): Expression =>
    builder.offset(builder.scale(k, vectors * lanes), v * lanes);
  const k = loopIndex(builder, 'k', steps);
  const { before, each, vectors: read } = fromSource(plan, kernel, at, k);
  const stores = read.map((value, v): Statement => {
    return { kind: 'store', buffer: window, index: place(k, v), value };
  });
  return {
    copy: [...before, loop(builder, k, steps, [...each, ...stores])],
    elements(step) {
      const list: Statement[] = [];
      const name = naming(builder, list);
      const loaded = read.map((_, v) => name(`x${v}`, builder.load(window, place(step, v), lanes)));
      return { before: [], each: list, vectors: loaded };
    },
  };
}

/** Sums of `width` channels of `vectors` vectors of results, in registers. */
function registerTile(
  plan: RowPlan,
  kernel: ContractionKernel,
  at: Tile,
  elementsOf: (k: Expression) => Elements,
): { readonly statements: readonly Statement[]; readonly sums: readonly (readonly Variable[])[] } {
  const { context, lanes, width, panels, steps } = plan;
  const { builder } = kernel;
  const type = valueTypeOf(plan.dtype);
  const k = loopIndex(builder, 'k', steps);
  const elements = elementsOf(k);
  const before = [...elements.before];
  const body = [...elements.each];
  const name = naming(builder, body);
  const panel = builder.add(builder.scale(at.group, panels), at.panel);
  const line = builder.scale(builder.add(builder.scale(panel, steps), k), width);
  const packed = kernel.scratch(at.weights, 'read');
  const sums = Array.from({ length: width }, (_, channel) => {
    const weight = builder.splat(builder.load(packed, builder.offset(line, channel)), lanes);
    const spread = name(`w${channel}`, weight);
    return elements.vectors.map((x, v) => {
      const sum = builder.variable(`sum${channel}_${v}`, type, { lanes, mutable: true });
      before.push({ kind: 'declare', variable: sum, value: builder.constant(0, type, lanes) });
      const value = multiplyAdd(builder, context.target, x, spread, sum);
      body.push({ kind: 'assign', variable: sum, value });
      return sum;
    });
  });
  return { statements: [...before, loop(builder, k, steps, body)], sums };
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
  const channel = loopIndex(builder, 'channel', width);
  const firstChannel = builder.scale(at.panel, width);
  const inGroup = builder.add(firstChannel, channel);
  const output = builder.add(builder.scale(at.group, outputs), inGroup);
  const places: Statement[] = [];
  const name = naming(builder, places);
  const writes = Array.from({ length: vectors }, (_, v): readonly Statement[] => {
    const vector = builder.offset(at.first, v);
    const position = positionOf(plan, kernel, vector).map((index) => name('place', index));
    const start = position.at(-1) as Variable;
    const index = builder.scale(builder.offset(builder.scale(channel, vectors), v), lanes);
    const write = kernel.writeVector(
      (lane) => [at.image, output, ...position.slice(0, -1), builder.add(start, lane)],
      builder.load(block, index, lanes),
    );
    if (count % vectors === 0) return write;
    return [branch(builder.compare('lt', vector, builder.constant(count)), write)];
  });
  const lastChannel = bounded(builder, firstChannel, width, outputs);
  const all = loopBetween(channel, builder.constant(0), lastChannel, writes.flat());
  return [...stores, ...places, all];
}

/** One grid item: a block of vectors of the channels of some panels. */
function multiplyStage(plan: RowPlan, of: Pick<Tile, 'rows' | 'weights' | 'offsets'>): Stage {
  const { context, d, panels, count, block, chunk, vectors } = plan;
  const kernel = context.newKernel(`${context.name}_rows`);
  const { builder } = kernel;
  const shape = [d.images, d.groups, Math.ceil(count / block), Math.ceil(panels / chunk)] as const;
  const grid = loopIndex(builder, 'item', sizeOf(shape));
  const [image, group, which, part] = unflatten(builder, grid, shape);
  const start = builder.scale(which, block);
  const left = bounded(builder, start, block, count);
  const tiles = builder.div(builder.offset(left, vectors - 1), builder.constant(vectors));
  const tile = loopIndex(builder, 'tile', block / vectors);
  const first = builder.add(start, builder.scale(tile, vectors));
  const firstPanel = builder.scale(part, chunk);
  const within = loopIndex(builder, 'panel', chunk);
  const panel = builder.add(firstPanel, within);
  const at: Tile = { ...of, image, group, panel, first };
  const source = plan.reading === 'copied' ? copiedElements(plan, kernel, at) : null;
  const elements = source?.elements ?? ((k) => fromSource(plan, kernel, at, k));
  const { statements, sums } = registerTile(plan, kernel, at, elements);
  const zero = builder.constant(0);
  return kernel.finish(grid, sizeOf(shape), [
    loopBetween(tile, zero, tiles, [
      ...(source?.copy ?? []),
      loopBetween(within, zero, bounded(builder, firstPanel, chunk, panels), [
        ...statements,
        ...writeTile(plan, kernel, at, sums),
      ]),
    ]),
  ]);
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = rowPlan(context, geometry);
  const { d, depth, dtype, lanes, panels, width, steps } = plan;
  const { before, phases } = windowsOf(d, geometry);
  const [windows] = phases as [Windows];
  const rows = rowsOf(plan, windows, before);
  const length = d.groups * panels * steps * width;
  const weights: Scratch = { name: 'weights', dtype, length };
  const offsets: Scratch = { name: 'offsets', dtype: 'int32', length: steps };
  return [
    ...rows.stages,
    weightStage({ ...plan, lanes: Math.min(lanes, width) }, windows, weights, ''),
    offsetStage(context, offsets, depth, rows.source.channel, rows.taps),
    multiplyStage(plan, { rows, weights, offsets }),
  ];
}

/** Estimated nanoseconds. */
function costOf(context: ContractionContext, geometry: ConvolutionGeometry): number {
  const plan = rowPlan(context, geometry);
  const { d, depth, lanes, panels, chunk, width, vectors, steps, count, padded } = plan;
  const { target } = context;
  const positions = d.images * d.groups * Math.ceil(count / vectors) * vectors * lanes;
  const work = positions * panels * width * steps;
  const { phases } = windowsOf(d, geometry);
  const plain = operandInRows(plan, phases[0] as Windows) !== null;
  const padding = plain ? 0 : d.images * d.groups * depth * sizeOf(padded);
  const copies = plan.reading === 'copied' ? positions * steps * Math.ceil(panels / chunk) : 0;
  const packed = context.isConstant(1) ? 0 : d.groups * panels * width * steps;
  const waits = plan.reading === 'far' ? 0.6 : 1;
  const reached = waits * efficiencyOf(target, width, vectors);
  return (
    work / (reached * multiplyAddsPerNanosecond(target)) +
    (positions * panels * width) / (target.vectorBytes >= 32 ? 2.5 : 1.25) +
    // From one cache to the next: vectors, one after the other.
    copies / (4 * elementsPerNanosecond(target)) +
    (padding + 2 * packed) / elementsPerNanosecond(target)
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
