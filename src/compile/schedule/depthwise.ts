// Convolutions of few channels per group, depthwise ones above all: nothing is shared between channels,
// so each row of results is computed where it stands, in vectors along the row, from padded rows.
// Forward, and by data once for each phase of the stride.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import { type Buffer, type Expression, valueTypeOf } from '../../ir/expression.ts';
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
/** Elements of the source that one grid item reads, about. */
const ITEM_ELEMENTS = 4096;

/** How an item reads the windows of its lines. */
interface Reader {
  readonly buffer: Buffer;
  /** What makes it readable. */
  readonly before: readonly Statement[];
  readonly start: Expression;
  /** From there to an element of a channel at a tap. */
  offset(channel: number, tap: number): number;
}

/** Which lines of which channel an item computes, and where one of them is. */
interface Line {
  readonly image: Expression;
  readonly group: Expression;
  /** The item's number among those of its channel, and the line's in the item. */
  readonly part: Expression;
  readonly within: Expression;
  readonly position: readonly Expression[];
}

/** How a stage reads, and how many lines an item has: as it likes, or a multiple of something. */
interface Access {
  readonly lines: number;
  reader(kernel: ContractionKernel, line: Line): Reader;
}

/** From memory: rows padded beforehand, or the operand itself. */
function memoryAccess(plan: WindowPlan, windows: Windows, source: Source): Access {
  const { results, step } = windows;
  const offsets = tapOffsetsOf(windows, source.space);
  const lines = Math.floor(ITEM_ELEMENTS / (results.at(-1) as number));
  return {
    lines: Math.max(1, Math.min(sizeOf(results.slice(0, -1)), lines)),
    reader: (kernel, line) => ({
      buffer: source.buffer(kernel),
      before: [],
      start: startInSource(kernel.builder, plan, source, step, line),
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
  return {
    lines: rows * sizeOf(results.slice(1, -1)),
    reader(kernel, { image, group, part, within, position }) {
      const { builder } = kernel;
      const buffer = kernel.privateArray('window', dtype, length);
      const own = unflatten(builder, within, [rows, ...results.slice(1, -1)]);
      const ones = step.map(() => 1);
      const zero = builder.constant(0);
      return {
        buffer,
        before: padRows(
          kernel,
          backward ? d.result : d.space,
          { before, padded: sizes, step },
          {
            operand: 0,
            image,
            channel: group,
            buffer,
            start: zero,
            first: builder.scale(part, rows * scale),
          },
        ),
        start: windowStart(builder, zero, [...own, position.at(-1)!], ones, stridesOf(sizes)),
        offset: (_, tap) => offsets[tap] as number,
      };
    },
  };
}

/** One grid item: some rows of one channel of one image. */
function rowsStage(plan: WindowPlan, windows: Windows, access: Access, suffix: string): Stage {
  const { context, d, depth, outputs } = plan;
  const kernel = context.newKernel(`${context.name}_rows${suffix}`);
  const { builder } = kernel;
  const outer = windows.results.slice(0, -1);
  const length = windows.results.at(-1) as number;
  const lines = sizeOf(outer);
  const linesPerItem = access.lines;
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
  const firstLine = builder.scale(part, linesPerItem);
  const column = loopIndex(builder, 'column', length);
  const position = [...unflatten(builder, builder.add(firstLine, within), outer), column];
  const reader = access.reader(kernel, { image, group, part, within, position });
  const type = valueTypeOf(plan.dtype);
  let sum: Expression = builder.constant(0, type);
  const taps = sizeOf(tapCounts(windows));
  for (let channel = 0; channel < depth; channel++) {
    for (let tap = 0; tap < taps; tap++) {
      const indices = weightIndices(builder, plan, windows, {
        group,
        output,
        channel: builder.constant(channel),
        tap: builder.constant(tap),
      });
      const weight = builder.convert(kernel.read(1, indices), type);
      const x = builder.load(
        reader.buffer,
        builder.offset(reader.start, reader.offset(channel, tap)),
      );
      sum = multiplyAdd(builder, context.target, x, weight, sum);
    }
  }
  const to = [
    image,
    builder.add(builder.scale(group, outputs), output),
    ...resultIndices(builder, windows, position),
  ];
  const write = loop(builder, column, length, kernel.writeElement(to, sum), true);
  const row: Statement = { ...write, repeatable: context.mayRepeat };
  const end = bounded(builder, firstLine, linesPerItem, lines);
  const body = loopBetween(within, builder.constant(0), end, [row]);
  return kernel.finish(grid, items, [...reader.before, body]);
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
