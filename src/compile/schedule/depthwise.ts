// Convolutions of few channels per group, depthwise ones above all: nothing is shared between channels,
// so each row of results is computed where it stands, in vectors along the row, from padded rows.
// Forward, and by data once for each phase of the stride.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import { type Buffer, type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Stage } from '../lower/kernel-builder.ts';
import { convolutionSchedule, dimensionsOf } from './convolution.ts';
import { bounded, loop, loopBetween, loopIndex, multiplyAdd } from './loops.ts';
import {
  paddedSource,
  phaseOffsets,
  plainSource,
  resultIndices,
  type Source,
  sourceStages,
  startInSource,
  stridesOf,
  type TapAxis,
  tapCounts,
  tapOffsetsOf,
  weightIndices,
  type WindowPlan,
  windowPlan,
  type Windows,
  windowsOf,
  windowStart,
} from './windows.ts';
import { padRows } from './padded-rows.ts';

/** Products of one result that are written out one after the other. */
const MOST_PRODUCTS = 64;
/** Lines that are computed side by side: a row of the source that several of them read is loaded once. */
const LINES_TOGETHER = 4;
/** Groups of one item at most, if they are small: what was just stored is not read at once, which stalls. */
const GROUPS_TOGETHER = 4;
/** Elements of the source that one grid item reads, about. */
const ITEM_ELEMENTS = 4096;

/** What an item computes of a group: one of its groups, or a part of its lines. */
interface Item {
  readonly image: Expression;
  readonly group: Expression;
  /** Which of the item's groups this is. */
  readonly within: Expression;
  /** The item's number among those of its channel. */
  readonly part: Expression;
}

/** How an item reads the windows of its lines. */
interface Reader {
  readonly buffer: Buffer;
  /** What makes a group readable. */
  before(item: Item): readonly Statement[];
  /** Where the window of a position begins; `line` is its number in the item. */
  start(item: Item, line: Expression, position: readonly Expression[]): Expression;
  /** From there to an element of a channel at a tap. */
  offset(channel: number, tap: number): number;
}

/** How a stage reads, and how many lines an item has: as it likes, or a multiple of something. */
interface Access {
  readonly lines: number;
  /** Groups of one item: the rows of all are made before any is read. */
  readonly groups: number;
  reader(kernel: ContractionKernel): Reader;
}

/** From memory: rows padded beforehand, or the operand itself. */
function memoryAccess(plan: WindowPlan, windows: Windows, source: Source): Access {
  const { results, step } = windows;
  const offsets = tapOffsetsOf(windows, source.space);
  const lines = Math.floor(ITEM_ELEMENTS / (results.at(-1) as number));
  return {
    lines: Math.max(1, Math.min(sizeOf(results.slice(0, -1)), lines)),
    groups: 1,
    reader: (kernel) => ({
      buffer: source.buffer(kernel),
      before: () => [],
      start: ({ image, group }, _, position) =>
        startInSource(kernel.builder, plan, source, step, { image, group, position }),
      offset: (channel, tap) => channel * source.channel + (offsets[tap] as number),
    }),
  };
}

/** From rows that the item itself pads: they stay in the cache, and with a stride their phases apart. */
function ownAccess(plan: WindowPlan, windows: Windows, before: readonly number[]): Access | null {
  const { d, backward, depth, outputs, padded, dtype } = plan;
  const { results, step, taps } = windows;
  if (depth !== 1 || outputs !== 1 || results.length < 2) return null;
  const along = (tap: number, axis: number): number => {
    const { source, sourceStep } = taps[axis] as TapAxis;
    return source + tap * sourceStep;
  };
  const [{ count }] = taps as readonly [TapAxis, ...TapAxis[]];
  const reach = Math.max(0, ...Array.from({ length: count }, (_, tap) => along(tap, 0)));
  const inner = sizeOf(results.slice(1));
  const fits = Math.floor(ITEM_ELEMENTS / (inner * sizeOf(step)));
  const parts = Math.ceil((results[0] as number) / Math.max(1, fits));
  const rows = Math.ceil((results[0] as number) / parts);
  const [scale, ...scales] = step as readonly [number, ...number[]];
  const high = Math.ceil(((rows - 1) * scale + reach + 1) / scale);
  const sizes = [high, ...scales.map((by, axis) => Math.ceil((padded[axis + 1] as number) / by))];
  const length = sizeOf(step) * sizeOf(sizes);
  if (length > 4 * ITEM_ELEMENTS) return null;
  const offsets = phaseOffsets(tapCounts(windows), along, step, sizes);
  const groups = parts === 1 ? groupsTogether(d.groups, length) : 1;
  return {
    lines: rows * sizeOf(results.slice(1, -1)),
    groups,
    reader(kernel) {
      const { builder } = kernel;
      const buffer = kernel.privateArray('window', dtype, groups * length);
      const ones = step.map(() => 1);
      const padding = { before, padded: sizes, step };
      return {
        buffer,
        before: ({ image, group, within, part }) =>
          padRows(kernel, backward ? d.result : d.space, padding, {
            operand: 0,
            image,
            channel: group,
            buffer,
            start: builder.scale(within, length),
            first: builder.scale(part, rows * scale),
          }),
        start: ({ within }, line, position) => {
          const own = unflatten(builder, line, [rows, ...results.slice(1, -1)]);
          const at = [...own, position.at(-1) as Expression];
          return windowStart(builder, builder.scale(within, length), at, ones, stridesOf(sizes));
        },
        offset: (_, tap) => offsets[tap] as number,
      };
    },
  };
}

/** Groups whose rows of `length` elements are made before any is read. */
function groupsTogether(groups: number, length: number): number {
  let together = 1;
  while (
    groups % (2 * together) === 0 &&
    2 * together <= GROUPS_TOGETHER &&
    2 * together * length <= ITEM_ELEMENTS
  ) {
    together *= 2;
  }
  return together;
}

/** One grid item: some rows of one channel of one image, or all of a few channels. */
function rowsStage(plan: WindowPlan, windows: Windows, access: Access, suffix: string): Stage {
  const { context, d, outputs } = plan;
  const kernel = context.newKernel(`${context.name}_rows${suffix}`);
  const { builder } = kernel;
  const outer = windows.results.slice(0, -1);
  const length = windows.results.at(-1) as number;
  const lines = sizeOf(outer);
  const linesPerItem = access.lines;
  const parts = Math.ceil(lines / linesPerItem);
  const sets = d.groups / access.groups;
  const items = d.images * sets * outputs * parts;
  const grid = loopIndex(builder, 'item', items);
  const [image, set, output, part] = unflatten(builder, grid, [d.images, sets, outputs, parts]);
  const firstLine = builder.scale(part, linesPerItem);
  const end = bounded(builder, firstLine, linesPerItem, lines);
  const reader = access.reader(kernel);
  const eachGroup = (body: (item: Item) => readonly Statement[]): readonly Statement[] => {
    const within = loopIndex(builder, 'group', access.groups);
    const group = builder.add(builder.scale(set, access.groups), within);
    const statements = body({ image, group, within, part });
    return statements.length === 0 ? [] : [loop(builder, within, access.groups, statements)];
  };
  const compute = (item: Item): readonly Statement[] =>
    inBlocks(builder, LINES_TOGETHER, linesPerItem, end, (block) => {
      const column = loopIndex(builder, 'column', length);
      const stores = block.flatMap((line) => {
        const position = [...unflatten(builder, builder.add(firstLine, line), outer), column];
        const start = reader.start(item, line, position);
        const sum = windowSum(plan, windows, kernel, reader, { ...item, output, start });
        const channel = builder.add(builder.scale(item.group, outputs), output);
        return kernel.writeElement(
          [image, channel, ...resultIndices(builder, windows, position)],
          sum,
        );
      });
      return { ...loop(builder, column, length, stores, true), repeatable: context.mayRepeat };
    });
  return kernel.finish(grid, items, [...eachGroup(reader.before), ...eachGroup(compute)]);
}

/** The sum over the channels and taps of a window that begins at `start`. */
function windowSum(
  plan: WindowPlan,
  windows: Windows,
  kernel: ContractionKernel,
  reader: Reader,
  at: { readonly group: Expression; readonly output: Expression; readonly start: Expression },
): Expression {
  const { builder } = kernel;
  const type = valueTypeOf(plan.dtype);
  const taps = sizeOf(tapCounts(windows));
  let sum: Expression = builder.constant(0, type);
  for (let channel = 0; channel < plan.depth; channel++) {
    for (let tap = 0; tap < taps; tap++) {
      const indices = weightIndices(builder, plan, windows, {
        group: at.group,
        output: at.output,
        channel: builder.constant(channel),
        tap: builder.constant(tap),
      });
      const weight = builder.convert(kernel.read(1, indices), type);
      const x = builder.load(reader.buffer, builder.offset(at.start, reader.offset(channel, tap)));
      sum = multiplyAdd(builder, plan.context.target, x, weight, sum);
    }
  }
  return sum;
}

/** Lines 0 to `end` in blocks of `together`, and the rest of them one by one. */
function inBlocks(
  builder: Builder,
  together: number,
  most: number,
  end: Expression,
  body: (lines: readonly Expression[]) => Statement,
): readonly Statement[] {
  const statements: Statement[] = [];
  let first: Expression = builder.constant(0);
  if (most >= together) {
    const blocks = builder.div(end, builder.constant(together));
    const block = loopIndex(builder, 'block', Math.floor(most / together));
    const start = builder.scale(block, together);
    const lines = Array.from({ length: together }, (_, i) => builder.offset(start, i));
    statements.push(loopBetween(block, first, blocks, [body(lines)]));
    first = builder.scale(blocks, together);
  }
  if (first === end) return statements;
  const line = loopIndex(builder, 'line', most);
  return [...statements, loopBetween(line, first, end, [body([line])])];
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = windowPlan(context, geometry);
  const { before, phases } = windowsOf(plan.d, geometry);
  const present = phases.filter(({ results }) => sizeOf(results) > 0);
  const [only, ...more] = present;
  const own = only === undefined || more.length > 0 ? null : ownAccess(plan, only, before);
  const plain = plainSource(plan);
  // Vectors run along rows.
  const source = plain?.space.at(-1) === 1 ? plain : paddedSource(plan);
  if (own !== null && (source.rows !== null || only?.step.some((step) => step !== 1))) {
    return [rowsStage(plan, only as Windows, own, '')];
  }
  return [
    ...sourceStages(plan, source, before),
    ...present.map((windows, phase) => {
      const suffix = present.length === 1 ? '' : String(phase);
      return rowsStage(plan, windows, memoryAccess(plan, windows, source), suffix);
    }),
  ];
}

/** Forward and by data, for groups of few channels. */
export const depthwiseConvolution = convolutionSchedule({
  name: 'depthwise convolution',
  reproducible: true,
  byFilter: false,
  usable: ({ node }, geometry) => {
    const d = dimensionsOf(node, geometry);
    const depth = geometry.role === 'backwardData' ? d.outputs : d.inputs;
    return depth * sizeOf(d.kernel) <= MOST_PRODUCTS;
  },
  cost: (context, geometry) => {
    const { target } = context;
    const { d, backward, depth, outputs, padded } = windowPlan(context, geometry);
    const results = backward ? d.space : d.result;
    const taps = sizeOf(d.kernel) / (backward ? sizeOf(geometry.stride) : 1);
    const lines = d.images * d.groups * outputs * sizeOf(results.slice(0, -1));
    const row = results.at(-1) as number;
    // What is left of a row after whole vectors is computed by one more that overlaps.
    const lanes = target.vectorBytes / 4;
    const vectors = Math.floor(row / lanes) + (row % lanes === 0 ? 0 : row < lanes ? 2 : 1);
    // Weights that do not fit in registers are spread out again for every vector.
    const spread = depth * taps <= 12 ? 1 : 3;
    const products = lines * vectors * lanes * depth * taps * spread;
    const copied = d.images * d.groups * depth * sizeOf(padded);
    return (
      products / (0.85 * multiplyAddsPerNanosecond(target)) +
      copied / elementsPerNanosecond(target) +
      lines * (target.foldsSplats ? 3 : 8)
    );
  },
  lower: stagesOf,
});
