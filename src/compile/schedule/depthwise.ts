// Convolutions of few channels per group, depthwise ones above all: nothing is shared between channels,
// so each row of results is computed where it stands, in vectors along the row, from padded rows.
// Forward, and by data once for each phase of the stride.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionSchedule } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Stage } from '../lower/kernel-builder.ts';
import { dimensionsOf, geometryOf } from './convolution.ts';
import { loop, loopBetween, loopIndex, multiplyAdd } from './loops.ts';
import {
  paddedSizes,
  paddedSource,
  plainSource,
  resultIndices,
  type Source,
  sourceStages,
  startInSource,
  tapOffsetsOf,
  weightIndices,
  type WindowPlan,
  windowPlan,
  type Windows,
  windowsOf,
} from './windows.ts';

/** Products of one result that are written out one after the other. */
const MOST_PRODUCTS = 64;
/** Results of one grid item, about. */
const ITEM_RESULTS = 4096;

/** One grid item: some rows of one channel of one image. */
function rowsStage(plan: WindowPlan, windows: Windows, source: Source, suffix: string): Stage {
  const { context, d, depth, outputs } = plan;
  const kernel = context.newKernel(`${context.name}_rows${suffix}`);
  const { builder } = kernel;
  const buffer = source.buffer(kernel);
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
  const where = { image, group, position: coordinates };
  const start = startInSource(builder, plan, source, windows.step, where);
  const type = valueTypeOf(plan.dtype);
  let sum: Expression = builder.constant(0, type);
  const offsets = tapOffsetsOf(windows, source.space);
  for (let channel = 0; channel < depth; channel++) {
    offsets.forEach((offset, tap) => {
      const indices = weightIndices(builder, plan, windows, {
        group,
        output,
        channel: builder.constant(channel),
        tap: builder.constant(tap),
      });
      const weight = builder.convert(kernel.read(1, indices), type);
      const at = builder.offset(start, channel * source.channel + offset);
      sum = multiplyAdd(builder, context.target, builder.load(buffer, at), weight, sum);
    });
  }
  const to = [
    image,
    builder.add(builder.scale(group, outputs), output),
    ...resultIndices(builder, windows, coordinates),
  ];
  const write = loop(builder, column, length, kernel.writeElement(to, sum), true);
  const row: Statement = { ...write, repeatable: context.mayRepeat };
  const left = builder.sub(builder.constant(lines), builder.scale(part, linesPerItem));
  const end = builder.min(builder.constant(linesPerItem), left);
  return kernel.finish(grid, items, [loopBetween(within, builder.constant(0), end, [row])]);
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = windowPlan(context, geometry);
  const { before, phases } = windowsOf(plan.d, geometry);
  const plain = plainSource(plan);
  // Vectors run along rows.
  const source = plain?.space.at(-1) === 1 ? plain : paddedSource(plan);
  const present = phases.filter(({ results }) => sizeOf(results) > 0);
  return [
    ...sourceStages(plan, source, before),
    ...present.map((windows, phase) =>
      rowsStage(plan, windows, source, present.length === 1 ? '' : String(phase)),
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
    const depth = backward ? d.outputs : d.inputs;
    const taps = sizeOf(d.kernel) / (backward ? sizeOf(geometry.stride) : 1);
    const lines =
      d.images * d.groups * (backward ? d.inputs : d.outputs) * sizeOf(results.slice(0, -1));
    const row = results.at(-1) as number;
    // What is left of a row after whole vectors is computed by one more that overlaps.
    const lanes = target.vectorBytes / 4;
    const vectors = Math.floor(row / lanes) + (row % lanes === 0 ? 0 : row < lanes ? 2 : 1);
    // Weights that do not fit in registers are spread out again for every vector.
    const spread = depth * taps <= 12 ? 1 : 3;
    const products = lines * vectors * lanes * depth * taps * spread;
    const copied = d.images * d.groups * depth * sizeOf(paddedSizes(d, geometry));
    return (
      products / (0.85 * multiplyAddsPerNanosecond(target)) +
      copied / elementsPerNanosecond(target) +
      lines * (target.foldsSplats ? 3 : 8)
    );
  },
  lower: (context) => {
    const geometry = geometryOf(context.node);
    if (geometry === null) throw internalError('depthwise convolution of something else');
    return stagesOf(context, geometry);
  },
};
