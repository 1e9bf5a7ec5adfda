// Derivative of a convolution by its filter with vectors of output channels: dy is turned around once,
// so that a position is a vector of channels, and the register tile multiplies it by single elements of
// the padded input, one row for each (channel, tap). Sums run over positions in registers, over images
// in a block that stays in cache. Any stride, dilation and groups.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { flatten, unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { convolutionSchedule, type Dimensions, dimensionsOf } from './convolution.ts';
import { ENOUGH_ITEMS, loop, loopBetween, loopIndex, multiplyAdd } from './loops.ts';
import { offsetStage, padStage } from './padded-rows.ts';
import { tileForWidth } from './product.ts';
import { accumulatorOf } from './product-problem.ts';
import { paddedSizes, stridesOf, tapOffsetsOf, windowsOf, windowStart } from './windows.ts';

/** Bytes of the block of sums of one grid item: with a part of dy it stays in the second-level cache. */
const BLOCK_BYTES = 96 * 1024;
/** Positions that are summed in registers between two visits of the block, at least. */
const POSITIONS = 128;
/** Positions of dy that are turned around together. */
const TURNED = 64;

interface Plan {
  readonly context: ContractionContext;
  readonly d: Dimensions;
  readonly dtype: 'float32' | 'float64';
  readonly lanes: number;
  /** Rows of the register tile, vectors in a row, and channels in a row. */
  readonly rows: number;
  readonly vectors: number;
  readonly width: number;
  readonly panels: number;
  readonly padded: readonly number[];
  readonly step: readonly number[];
  /** Rows of the derivative, (channel, tap), and register tiles of them in one item. */
  readonly m: number;
  readonly tiles: number;
  readonly ranges: number;
  /** Groups of images that are summed apart, and images of one. */
  readonly splits: number;
  readonly images: number;
}

function planOf(context: ContractionContext, geometry: ConvolutionGeometry): Plan {
  const { node, target } = context;
  const d = dimensionsOf(node, geometry);
  const dtype = accumulatorOf(node.dtype) as Plan['dtype'];
  const bytes = dtype === 'float64' ? 8 : 4;
  const lanes = target.vectorBytes / bytes;
  const { rows, vectors } = tileForWidth(target, Math.ceil(d.outputs / lanes));
  const width = vectors * lanes;
  const panels = Math.ceil(d.outputs / width);
  const m = d.inputs * sizeOf(d.kernel);
  const all = Math.ceil(m / rows);
  const most = Math.max(1, Math.floor(BLOCK_BYTES / (rows * width * bytes)));
  const ranges = Math.ceil(all / most);
  const items = d.groups * panels * ranges;
  const splits = Math.min(d.images, Math.max(1, Math.ceil(ENOUGH_ITEMS / items)));
  const images = Math.ceil(d.images / splits);
  return {
    context,
    d,
    dtype,
    lanes,
    rows,
    vectors,
    width,
    panels,
    padded: paddedSizes(d, geometry),
    step: geometry.stride,
    m,
    tiles: Math.ceil(all / ranges),
    ranges,
    splits: Math.ceil(d.images / images),
    images,
  };
}

/** Turns dy around: [image, group, panel][position][channel], zero beyond the last channel. */
function turnStage(plan: Plan, target: Scratch): Stage {
  const { context, d, width, panels } = plan;
  const kernel = context.newKernel(`${context.name}_turn`);
  const { builder } = kernel;
  const buffer = kernel.scratch(target, 'write');
  const positions = sizeOf(d.result);
  const parts = Math.ceil(positions / TURNED);
  const items = d.images * d.groups * panels * parts;
  const grid = loopIndex(builder, 'item', items);
  const set = builder.div(grid, builder.constant(parts));
  const first = builder.scale(builder.rem(grid, builder.constant(parts)), TURNED);
  const panel = builder.rem(set, builder.constant(panels));
  const imageGroup = builder.div(set, builder.constant(panels));
  const image = builder.div(imageGroup, builder.constant(d.groups));
  const group = builder.rem(imageGroup, builder.constant(d.groups));
  const type = valueTypeOf(plan.dtype);
  const last = builder.min(
    builder.constant(width),
    builder.sub(builder.constant(d.outputs), builder.scale(panel, width)),
  );
  const count = builder.min(
    builder.constant(TURNED),
    builder.sub(builder.constant(positions), first),
  );
  const over = (start: Expression, end: Expression, copied: boolean): Statement => {
    const along = loopIndex(builder, 'along', width);
    const within = loopIndex(builder, 'position', TURNED);
    const position = builder.add(first, within);
    const channel = builder.add(
      builder.scale(group, d.outputs),
      builder.add(builder.scale(panel, width), along),
    );
    const at = unflatten(builder, position, d.result);
    const line = builder.add(builder.scale(set, positions), position);
    const store: Statement = {
      kind: 'store',
      buffer,
      index: builder.add(builder.scale(line, width), along),
      value: copied
        ? builder.convert(kernel.read(1, [image, channel, ...at]), type)
        : builder.constant(0, type),
    };
    return loopBetween(along, start, end, [
      loopBetween(within, builder.constant(0), count, [store]),
    ]);
  };
  const body = [over(builder.constant(0), last, true)];
  if (d.outputs % width !== 0) body.push(over(last, builder.constant(width), false));
  return kernel.finish(grid, items, body);
}

/** Which part of the derivative an item computes, and from which images. */
interface Place {
  readonly split: Expression;
  readonly group: Expression;
  readonly panel: Expression;
  readonly firstTile: Expression;
}

function placeOf({ d, panels, ranges, tiles }: Plan, builder: Builder, grid: Expression): Place {
  const range = builder.rem(grid, builder.constant(ranges));
  const rest = builder.div(grid, builder.constant(ranges));
  const panel = builder.rem(rest, builder.constant(panels));
  const splitGroup = builder.div(rest, builder.constant(panels));
  return {
    panel,
    firstTile: builder.scale(range, tiles),
    group: builder.rem(splitGroup, builder.constant(d.groups)),
    split: builder.div(splitGroup, builder.constant(d.groups)),
  };
}

interface Buffers {
  readonly rows: Buffer;
  readonly turned: Buffer;
  readonly offsets: Buffer;
  readonly block: Buffer;
}

/** Sums of products for a range of (channel, tap), a panel of channels and a group of images. */
function sumStage(
  plan: Plan,
  scratch: { rows: Scratch; turned: Scratch; offsets: Scratch; partial: Scratch },
): Stage {
  const { context, d, width, panels, ranges, tiles, rows, splits, images } = plan;
  const kernel = context.newKernel(`${context.name}_sums`);
  const { builder } = kernel;
  const items = splits * d.groups * panels * ranges;
  const grid = loopIndex(builder, 'item', items);
  const place = placeOf(plan, builder, grid);
  const block = kernel.privateArray('block', plan.dtype, tiles * rows * width);
  const inRegisters = Math.max(1, Math.min(images, Math.ceil(POSITIONS / sizeOf(d.result))));
  const visits = Math.ceil(images / inRegisters);
  const visit = loopIndex(builder, 'visit', visits);
  const tile = loopIndex(builder, 'tile', tiles);
  const body = registerTile(
    plan,
    builder,
    {
      rows: kernel.scratch(scratch.rows, 'read'),
      turned: kernel.scratch(scratch.turned, 'read'),
      offsets: kernel.scratch(scratch.offsets, 'read'),
      block,
    },
    { place, tile, visit, visits, inRegisters },
  );
  return kernel.finish(grid, items, [
    loop(builder, visit, visits, [loop(builder, tile, tiles, body)]),
    ...(splits === 1
      ? writeResults(plan, kernel, place, (row, channel) =>
          builder.load(block, builder.add(builder.scale(row, width), channel)),
        )
      : keepSums(plan, builder, grid, block, kernel.scratch(scratch.partial, 'write'))),
  ]);
}

interface TilePlace {
  readonly place: Place;
  readonly tile: Expression;
  readonly visit: Expression;
  readonly visits: number;
  readonly inRegisters: number;
}

function registerTile(
  plan: Plan,
  builder: Builder,
  buffers: Buffers,
  at: TilePlace,
): readonly Statement[] {
  const { context, lanes, rows, vectors, width, m } = plan;
  const type = valueTypeOf(plan.dtype);
  const before: Statement[] = [];
  const after: Statement[] = [];
  const sums: Variable[][] = [];
  const offsets: Variable[] = [];
  const cell = builder.scale(at.tile, rows * width);
  const firstRow = builder.scale(builder.add(at.place.firstTile, at.tile), rows);
  const later = builder.compare('gt', at.visit, builder.constant(0));
  for (let row = 0; row < rows; row++) {
    const offset = builder.variable(`offset${row}`, 'i32', { min: 0 });
    // Beyond the edge stands the last row: computed again, and not stored.
    const own = builder.min(builder.offset(firstRow, row), builder.constant(m - 1));
    before.push({ kind: 'let', variable: offset, value: builder.load(buffers.offsets, own) });
    offsets.push(offset);
    sums.push(
      Array.from({ length: vectors }, (_, v) => {
        const sum = builder.variable(`sum${row}_${v}`, type, { lanes, mutable: true });
        const index = builder.offset(cell, row * width + v * lanes);
        before.push({ kind: 'declare', variable: sum, value: builder.constant(0, type, lanes) });
        if (at.visits > 1) {
          const value = builder.load(buffers.block, index, lanes);
          before.push(branch(later, [{ kind: 'assign', variable: sum, value }]));
        }
        after.push({ kind: 'store', buffer: buffers.block, index, value: sum });
        return sum;
      }),
    );
  }
  return [
    ...before,
    overPositions(plan, builder, at, (x, dy) => {
      const body: Statement[] = [];
      const vector = Array.from({ length: vectors }, (_, v) => {
        const variable = builder.variable(`dy${v}`, type, { lanes });
        const value = builder.load(buffers.turned, builder.offset(dy, v * lanes), lanes);
        body.push({ kind: 'let', variable, value });
        return variable;
      });
      sums.forEach((line, row) => {
        const variable = builder.variable(`x${row}`, type, { lanes });
        const element = builder.load(buffers.rows, builder.add(offsets[row] as Variable, x));
        body.push({ kind: 'let', variable, value: builder.splat(element, lanes) });
        line.forEach((sum, v) => {
          const value = multiplyAdd(builder, context.target, variable, vector[v] as Variable, sum);
          body.push({ kind: 'assign', variable: sum, value });
        });
      });
      return body;
    }),
    ...after,
  ];
}

/** Loops over the images and positions of one visit; `body` gets where x and dy of a position are. */
function overPositions(
  plan: Plan,
  builder: Builder,
  { place, visit, inRegisters }: TilePlace,
  body: (x: Expression, dy: Expression) => Statement[],
): Statement {
  const { d, padded, step, panels, width, images } = plan;
  const within = loopIndex(builder, 'image', inRegisters);
  const inSplit = builder.add(builder.scale(visit, inRegisters), within);
  const image = builder.add(builder.scale(place.split, images), inSplit);
  const imageGroup = builder.add(builder.scale(image, d.groups), place.group);
  const at = d.result.map((size, axis) => loopIndex(builder, `s${axis}`, size));
  const source = builder.scale(imageGroup, d.inputs * sizeOf(padded));
  const x = windowStart(builder, source, at, step, stridesOf(padded));
  const set = builder.add(builder.scale(imageGroup, panels), place.panel);
  const line = builder.add(builder.scale(set, sizeOf(d.result)), flatten(builder, at, d.result));
  let nest = body(x, builder.scale(line, width));
  for (let axis = at.length - 1; axis >= 0; axis--) {
    nest = [loop(builder, at[axis] as Variable, d.result[axis] as number, nest)];
  }
  const left = builder.sub(builder.constant(images), builder.scale(visit, inRegisters));
  const all = builder.sub(builder.constant(d.images), builder.sub(image, within));
  const end = builder.min(builder.min(builder.constant(inRegisters), left), all);
  return loopBetween(within, builder.constant(0), end, nest);
}

/** Copies the block to where the sums of all groups of images lie. */
function keepSums(
  plan: Plan,
  builder: Builder,
  grid: Expression,
  block: Buffer,
  partial: Buffer,
): Statement[] {
  const cells = plan.tiles * plan.rows * plan.width;
  const cell = loopIndex(builder, 'cell', cells);
  const index = builder.add(builder.scale(grid, cells), cell);
  const store: Statement = {
    kind: 'store',
    buffer: partial,
    index,
    value: builder.load(block, cell),
  };
  return [loop(builder, cell, cells, [store], true)];
}

/** Runs the epilogue over an item's part of the derivative. */
function writeResults(
  plan: Plan,
  kernel: ContractionKernel,
  place: Place,
  valueAt: (row: Expression, channel: Expression) => Expression,
): Statement[] {
  const { d, width, tiles, rows, m } = plan;
  const { builder } = kernel;
  const channel = loopIndex(builder, 'channel', Math.min(width, d.outputs));
  const row = loopIndex(builder, 'row', Math.min(m, tiles * rows));
  const firstRow = builder.scale(place.firstTile, rows);
  const firstChannel = builder.scale(place.panel, width);
  const output = builder.add(
    builder.scale(place.group, d.outputs),
    builder.add(firstChannel, channel),
  );
  const at = unflatten(builder, builder.add(firstRow, row), [d.inputs, ...d.kernel]);
  const store = [...kernel.writeElement([output, ...at], valueAt(row, channel))];
  const zero = builder.constant(0);
  const lastRow = builder.min(
    builder.constant(tiles * rows),
    builder.sub(builder.constant(m), firstRow),
  );
  const lastChannel = builder.min(
    builder.constant(width),
    builder.sub(builder.constant(d.outputs), firstChannel),
  );
  return [loopBetween(channel, zero, lastChannel, [loopBetween(row, zero, lastRow, store, true)])];
}

/** Adds up the groups of images in order. */
function finishStage(plan: Plan, scratch: Scratch): Stage {
  const { context, d, width, panels, ranges, tiles, rows, splits } = plan;
  const kernel = context.newKernel(`${context.name}_sumSplits`);
  const { builder } = kernel;
  const partial = kernel.scratch(scratch, 'read');
  const items = d.groups * panels * ranges;
  const cells = tiles * rows * width;
  const grid = loopIndex(builder, 'item', items);
  const place = placeOf(plan, builder, grid);
  const body = writeResults(plan, kernel, place, (row, channel) => {
    const cell = builder.add(
      builder.scale(grid, cells),
      builder.add(builder.scale(row, width), channel),
    );
    let sum = builder.load(partial, cell);
    for (let split = 1; split < splits; split++) {
      sum = builder.add(sum, builder.load(partial, builder.offset(cell, split * items * cells)));
    }
    return sum;
  });
  return kernel.finish(grid, items, body);
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = planOf(context, geometry);
  const { d, dtype, padded, panels, width, splits, ranges, tiles } = plan;
  const { before, phases } = windowsOf(d, geometry);
  const [windows] = phases;
  if (windows === undefined) throw internalError('a convolution without windows');
  const length = sizeOf(padded);
  const rows: Scratch = { name: 'rows', dtype, length: d.images * d.groups * d.inputs * length };
  const turned: Scratch = {
    name: 'turned',
    dtype,
    length: d.images * d.groups * panels * sizeOf(d.result) * width,
  };
  const offsets: Scratch = { name: 'offsets', dtype: 'int32', length: plan.m };
  const partial: Scratch = {
    name: 'partial',
    dtype,
    length: splits * d.groups * panels * ranges * tiles * plan.rows * width,
  };
  const sums = sumStage(plan, { rows, turned, offsets, partial });
  return [
    padStage(context, 'pad', 0, rows, { before, padded, length }),
    turnStage(plan, turned),
    offsetStage(context, offsets, d.inputs, length, tapOffsetsOf(windows, stridesOf(padded))),
    sums,
    ...(splits === 1 ? [] : [finishStage(plan, partial)]),
  ];
}

function costOf(context: ContractionContext, geometry: ConvolutionGeometry): number {
  const plan = planOf(context, geometry);
  const { d, panels, width, ranges, tiles, rows, vectors, padded, splits, m } = plan;
  const { target } = context;
  const positions = d.images * sizeOf(d.result);
  const loads = target.foldsSplats ? vectors : rows + vectors;
  const efficiency = Math.min(0.92, (rows * vectors) / (rows * vectors + 0.25 * loads));
  const work = d.groups * panels * width * ranges * tiles * rows * positions;
  const copied = d.images * d.groups * d.inputs * sizeOf(padded);
  const turned = positions * d.groups * d.outputs;
  return (
    work / (efficiency * multiplyAddsPerNanosecond(target)) +
    copied / elementsPerNanosecond(target) +
    turned / 1.5 +
    (d.groups * d.outputs * m * (splits + 1)) / 2
  );
}

/** By filter, of any stride, dilation and number of groups. */
export const channelFilter = convolutionSchedule({
  name: 'channel filter',
  // Images are summed by groups, whose number depends on the shape.
  reproducible: false,
  byFilter: true,
  usable: ({ node, target }) => {
    if (target.vectorBytes < 16 || target.numerics !== 'fast') return false;
    return accumulatorOf(node.dtype) !== 'int32';
  },
  cost: costOf,
  lower: stagesOf,
});
