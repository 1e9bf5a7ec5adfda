// Derivative of a convolution by its filter as dot products of flat rows, for groups of few channels -
// depthwise ones above all - and for inputs of few channels, where vectors of channels would stand
// mostly empty. dy lies on the rows of the padded input with zeros in between; the input is apart by
// its phases of the stride, so that every tap is the same row at another offset. Any rank and dilation.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import type { ContractionContext } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { flatten, unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { convolutionSchedule, type Dimensions, dimensionsOf } from './convolution.ts';
import {
  bounded,
  ENOUGH_ITEMS,
  joinLanes,
  loop,
  loopBetween,
  loopIndex,
  multiplyAdd,
  roundUp,
} from './loops.ts';
import { offsetStage, padStage } from './padded-rows.ts';
import { accumulatorOf } from './product-problem.ts';
import { paddedSizes, phaseOffsets } from './windows.ts';

/** Phases of the stride: more are left to other schedules. */
const MOST_PHASES = 16;

interface Plan {
  readonly context: ContractionContext;
  readonly d: Dimensions;
  readonly dtype: 'float32' | 'float64';
  readonly lanes: number;
  /** Sizes of one phase of the padded input, and of dy on its rows. */
  readonly sizes: readonly number[];
  readonly step: readonly number[];
  readonly before: readonly number[];
  /** Elements of a channel of x, and of dy. */
  readonly length: number;
  readonly span: number;
  /** Where each tap's row starts in a channel of x. */
  readonly taps: readonly number[];
  /** The derivative of a group is outputs x width; the register tile is rows x columns of it. */
  readonly width: number;
  readonly rows: number;
  readonly columns: number;
  readonly rowTiles: number;
  readonly columnTiles: number;
  /** Groups of images that are summed apart, and images of one. */
  readonly splits: number;
  readonly images: number;
}

/** How long a step of a register tile takes, in multiply-adds of whole vectors. */
function stepTime(rows: number, columns: number): number {
  return rows * columns + 0.6 * (rows + columns);
}

/** The register tile that takes least time for a derivative of outputs x width. */
function tileFor(
  target: Target,
  outputs: number,
  width: number,
): { readonly rows: number; readonly columns: number } {
  let best = { rows: 1, columns: 1 };
  let least = Infinity;
  for (let rows = 1; rows <= Math.min(outputs, 6); rows++) {
    for (let columns = 1; columns <= Math.min(width, 12); columns++) {
      const loaded = target.foldsSplats ? rows + 1 : rows + columns;
      if (rows * columns + loaded > target.vectorRegisters) break;
      const tiles = Math.ceil(outputs / rows) * Math.ceil(width / columns);
      const time = tiles * stepTime(rows, columns);
      if (time < least) {
        least = time;
        best = { rows, columns };
      }
    }
  }
  return best;
}

function planOf(context: ContractionContext, geometry: ConvolutionGeometry): Plan {
  const { node, target } = context;
  const d = dimensionsOf(node, geometry);
  const dtype = accumulatorOf(node.dtype) as Plan['dtype'];
  const lanes = target.vectorBytes / (dtype === 'float64' ? 8 : 4);
  const step = geometry.stride;
  const sizes = paddedSizes(d, geometry).map((size, axis) => {
    return Math.ceil(size / (step[axis] as number));
  });
  const along = (tap: number, axis: number): number => tap * (geometry.dilation[axis] as number);
  const taps = phaseOffsets(d.kernel, along, step, sizes);
  const span = roundUp((d.result[0] as number) * sizeOf(sizes.slice(1)), lanes);
  const width = d.inputs * sizeOf(d.kernel);
  const { rows, columns } = tileFor(target, d.outputs, width);
  const rowTiles = Math.ceil(d.outputs / rows);
  const columnTiles = Math.ceil(width / columns);
  const items = d.groups * rowTiles * columnTiles;
  const most = Math.min(d.images, Math.max(1, Math.ceil(ENOUGH_ITEMS / items)));
  const images = Math.ceil(d.images / most);
  return {
    context,
    d,
    dtype,
    lanes,
    sizes,
    step,
    before: d.kernel.map((_, axis) => geometry.padding[2 * axis] as number),
    length: Math.max(sizeOf(step) * sizeOf(sizes), span + Math.max(...taps)),
    span,
    taps,
    width,
    rows,
    columns,
    rowTiles,
    columnTiles,
    splits: Math.ceil(d.images / images),
    images,
  };
}

/** Which part of the derivative an item computes, and from which images. */
interface Place {
  readonly split: Expression;
  readonly group: Expression;
  readonly firstRow: Expression;
  readonly firstColumn: Expression;
}

function placeOf(plan: Plan, builder: Builder, grid: Expression): Place {
  const shape = [plan.splits, plan.d.groups, plan.rowTiles, plan.columnTiles] as const;
  const [split, group, rowTile, columnTile] = unflatten(builder, grid, shape);
  return {
    split,
    group,
    // The last tile begins early: what it has in common with the one before is computed twice.
    firstRow: builder.min(
      builder.scale(rowTile, plan.rows),
      builder.constant(plan.d.outputs - plan.rows),
    ),
    firstColumn: builder.min(
      builder.scale(columnTile, plan.columns),
      builder.constant(plan.width - plan.columns),
    ),
  };
}

interface Sources {
  readonly x: Buffer;
  readonly dy: Buffer;
  readonly offsets: Buffer;
}

/** Vector sums of one register tile over the images of one split. */
function dotTile(
  plan: Plan,
  builder: Builder,
  sources: Sources,
  place: Place,
): { readonly statements: Statement[]; readonly sums: Variable[][] } {
  const { context, d, lanes, rows, columns, length, span, taps, columnTiles } = plan;
  const type = valueTypeOf(plan.dtype);
  const within = loopIndex(builder, 'image', plan.images);
  const image = builder.add(builder.scale(place.split, plan.images), within);
  const imageGroup = builder.add(builder.scale(image, d.groups), place.group);
  const p = builder.variable('p', 'i32', { min: 0, max: span - lanes });
  const before: Statement[] = [];
  const body: Statement[] = [];
  const sums = Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (_, column) => {
      const sum = builder.variable(`sum${row}_${column}`, type, { lanes, mutable: true });
      before.push({ kind: 'declare', variable: sum, value: builder.constant(0, type, lanes) });
      return sum;
    }),
  );
  const gradients = sums.map((_, row) => {
    const output = builder.offset(place.firstRow, row);
    const line = builder.add(builder.scale(imageGroup, d.outputs), output);
    const variable = builder.variable(`dy${row}`, type, { lanes });
    const index = builder.add(builder.scale(line, span), p);
    body.push({ kind: 'let', variable, value: builder.load(sources.dy, index, lanes) });
    return variable;
  });
  const start = builder.scale(imageGroup, d.inputs * length);
  for (let column = 0; column < columns; column++) {
    let offset: Expression;
    if (columnTiles === 1) {
      const channel = Math.floor(column / taps.length);
      offset = builder.constant(channel * length + (taps[column % taps.length] as number));
    } else {
      const named = builder.variable(`offset${column}`, 'i32', { min: 0 });
      const at = builder.offset(place.firstColumn, column);
      before.push({ kind: 'let', variable: named, value: builder.load(sources.offsets, at) });
      offset = named;
    }
    const x = builder.variable(`x${column}`, type, { lanes });
    const index = builder.add(builder.add(start, offset), p);
    body.push({ kind: 'let', variable: x, value: builder.load(sources.x, index, lanes) });
    gradients.forEach((dy, row) => {
      const sum = sums[row]?.[column] as Variable;
      const value = multiplyAdd(builder, context.target, x, dy, sum);
      body.push({ kind: 'assign', variable: sum, value });
    });
  }
  const positions: Statement = {
    kind: 'for',
    index: p,
    start: builder.constant(0),
    end: builder.constant(span),
    step: lanes,
    body,
  };
  const end = bounded(builder, builder.scale(place.split, plan.images), plan.images, d.images);
  const images = loopBetween(within, builder.constant(0), end, [positions]);
  return { statements: [...before, images], sums };
}

/** One grid item: one register tile of one group, over the images of one split. */
function dotStage(plan: Plan, x: Scratch, dy: Scratch, offsets: Scratch, sums: Scratch): Stage {
  const { context, d, rows, columns, splits } = plan;
  const kernel = context.newKernel(`${context.name}_dots`);
  const { builder } = kernel;
  const items = splits * d.groups * plan.rowTiles * plan.columnTiles;
  const grid = loopIndex(builder, 'item', items);
  const place = placeOf(plan, builder, grid);
  const sources: Sources = {
    x: kernel.scratch(x, 'read'),
    dy: kernel.scratch(dy, 'read'),
    offsets: kernel.scratch(offsets, 'read'),
  };
  const tile = dotTile(plan, builder, sources, place);
  const buffer = kernel.scratch(sums, 'write');
  const stores: Statement[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = builder.offset(builder.scale(grid, rows * columns), row * columns + column);
      const value = joinLanes(builder, tile.sums[row]?.[column] as Variable, stores);
      stores.push({ kind: 'store', buffer, index: at, value });
    }
  }
  return kernel.finish(grid, items, [...tile.statements, ...stores]);
}

/** Which tile of `size` an index of `limit` is in, and where: the last tile begins early. */
function tileOf(
  builder: Builder,
  index: Expression,
  size: number,
  limit: number,
): { readonly tile: Expression; readonly within: Expression } {
  const tile = builder.div(index, builder.constant(size));
  const first = builder.min(builder.scale(tile, size), builder.constant(limit - size));
  return { tile, within: builder.sub(index, first) };
}

/** Adds up the groups of images in order, and runs the epilogue. */
function finishStage(plan: Plan, sums: Scratch): Stage {
  const { context, d, width, splits, rows, columns, rowTiles, columnTiles } = plan;
  const kernel = context.newKernel(`${context.name}_sumSplits`);
  const { builder } = kernel;
  const buffer = kernel.scratch(sums, 'read');
  const outputs = d.groups * d.outputs;
  const grid = loopIndex(builder, 'output', outputs);
  const column = loopIndex(builder, 'column', width);
  const row = tileOf(builder, builder.rem(grid, builder.constant(d.outputs)), rows, d.outputs);
  const across = tileOf(builder, column, columns, width);
  const group = builder.div(grid, builder.constant(d.outputs));
  const tile = flatten(builder, [group, row.tile, across.tile], [d.groups, rowTiles, columnTiles]);
  const within = builder.add(builder.scale(row.within, columns), across.within);
  const at = builder.add(builder.scale(tile, rows * columns), within);
  const cells = d.groups * rowTiles * columnTiles * rows * columns;
  let sum = builder.load(buffer, at);
  for (let split = 1; split < splits; split++) {
    const partial = builder.load(buffer, builder.offset(at, split * cells));
    sum = builder.add(sum, partial);
  }
  const [channel, ...tap] = unflatten(builder, column, [d.inputs, ...d.kernel]);
  const body = [...kernel.writeElement([grid, channel, ...tap], sum)];
  return kernel.finish(grid, outputs, [loop(builder, column, width, body, true)]);
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = planOf(context, geometry);
  const { d, dtype, sizes, step, before, length, span, width, splits } = plan;
  const channels = d.images * d.groups;
  const x: Scratch = { name: 'rows', dtype, length: channels * d.inputs * length };
  const dy: Scratch = { name: 'gradients', dtype, length: channels * d.outputs * span };
  const offsets: Scratch = { name: 'offsets', dtype: 'int32', length: width };
  const sums: Scratch = {
    name: 'sums',
    dtype,
    length: splits * d.groups * plan.rowTiles * plan.columnTiles * plan.rows * plan.columns,
  };
  const padded = [d.result[0] as number, ...sizes.slice(1)];
  const zeros = padded.map(() => 0);
  return [
    padStage(context, 'splitInput', 0, x, { before, step, padded: sizes, length }),
    padStage(context, 'padGradient', 1, dy, { before: zeros, padded, length: span }),
    ...(plan.columnTiles === 1
      ? []
      : [offsetStage(context, offsets, d.inputs, length, [...plan.taps])]),
    dotStage(plan, x, dy, offsets, sums),
    finishStage(plan, sums),
  ];
}

function costOf(context: ContractionContext, geometry: ConvolutionGeometry): number {
  const plan = planOf(context, geometry);
  const { d, rows, columns, rowTiles, columnTiles, span, length, width, splits } = plan;
  const { target } = context;
  const channels = d.images * d.groups;
  const steps = channels * rowTiles * columnTiles * span;
  const copied = channels * (d.inputs * length + d.outputs * span);
  const joined = splits * d.groups * d.outputs * width;
  return (
    (steps * stepTime(rows, columns)) / multiplyAddsPerNanosecond(target) +
    (copied * (sizeOf(plan.step) === 1 ? 1 : 1.5)) / elementsPerNanosecond(target) +
    joined * (target.vectorBytes / 8)
  );
}

/** By filter, of any stride, dilation and number of groups. */
export const dotFilter = convolutionSchedule({
  name: 'dot filter',
  // Sums run per vector lane, and over groups of images, whose number depends on the shape.
  reproducible: false,
  byFilter: true,
  usable: ({ node, target }, { stride }) => {
    if (target.vectorBytes < 16 || target.numerics !== 'fast') return false;
    return sizeOf(stride) <= MOST_PHASES && accumulatorOf(node.dtype) !== 'int32';
  },
  cost: costOf,
  lower: stagesOf,
});
