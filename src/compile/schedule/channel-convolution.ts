// Convolutions with a vector of output channels for every position: the register tile multiplies the
// weights of neighbouring channels by single elements of the padded input. No junk columns, no packed
// images, any stride, dilation and groups; the price is that a block of results is turned around when
// it is written. Backward by data is the same once for each phase of the stride.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { ContractionContext } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { fitsBlock, phasesStage } from './channel-phases.ts';
import { convolutionSchedule } from './convolution.ts';
import { loop, loopIndex, roundUp } from './loops.ts';
import { offsetStage } from './padded-rows.ts';
import {
  type ChannelPlan,
  channelPlan,
  efficiencyOf,
  registerTile,
  SLICE,
  weightStage,
  writeResults,
} from './channel-tile.ts';
import {
  paddedSource,
  plainSource,
  resultIndices,
  type Source,
  sourceStages,
  startInSource,
  tapCounts,
  tapOffsetsOf,
  type Windows,
  windowsOf,
} from './windows.ts';

/** Bytes of the block of sums that one grid item works on: it stays in the first-level cache. */
const BLOCK_BYTES = 24 * 1024;

/** What a grid item covers. */
interface Blocks {
  readonly positions: number;
  /** Positions and images of one item. */
  readonly block: number;
  readonly images: number;
  /** Items along positions and along images. */
  readonly perImage: number;
  readonly imageBlocks: number;
}

function blocksOf({ d, rows, width, dtype }: ChannelPlan, results: readonly number[]): Blocks {
  const positions = sizeOf(results);
  const fits = Math.floor(BLOCK_BYTES / (width * (dtype === 'float64' ? 8 : 4)));
  const most = Math.max(rows, Math.min(192, fits) - (Math.min(192, fits) % rows));
  if (positions > most / 2) {
    const perImage = Math.ceil(positions / most);
    const block = roundUp(Math.ceil(positions / perImage), rows);
    return { positions, block, images: 1, perImage, imageBlocks: d.images };
  }
  const images = Math.max(1, Math.min(d.images, Math.floor(most / positions)));
  const block = roundUp(images * positions, rows);
  return { positions, block, images, perImage: 1, imageBlocks: Math.ceil(d.images / images) };
}

/** Where an item's results are: its images, group, panel of channels and first position. */
interface Place {
  readonly image: Expression;
  readonly group: Expression;
  readonly panel: Expression;
  readonly start: Expression;
}

function placeOf(plan: ChannelPlan, builder: Builder, grid: Expression, blocks: Blocks): Place {
  const { d, panels } = plan;
  const sets = builder.constant(d.groups * panels);
  const set = builder.rem(grid, sets);
  const at = builder.div(grid, sets);
  const perImage = builder.constant(blocks.perImage);
  return {
    group: builder.div(set, builder.constant(panels)),
    panel: builder.rem(set, builder.constant(panels)),
    image: builder.scale(builder.div(at, perImage), blocks.images),
    start: builder.scale(builder.rem(at, perImage), blocks.block),
  };
}

/** One grid item: a block of positions by a panel of channels. */
function multiplyStage(
  plan: ChannelPlan,
  windows: Windows,
  source: Source,
  scratch: { weights: Scratch; offsets: Scratch },
  suffix: string,
): Stage {
  const { context, d, width, panels, rows, lanes } = plan;
  const kernel = context.newKernel(`${context.name}_channels${suffix}`);
  const { builder } = kernel;
  const blocks = blocksOf(plan, windows.results);
  const items = blocks.imageBlocks * blocks.perImage * d.groups * panels;
  const grid = loopIndex(builder, 'item', items);
  const place = placeOf(plan, builder, grid, blocks);
  const block = kernel.privateArray('block', plan.dtype, roundUp(blocks.block, lanes) * width);
  const steps = plan.depth * sizeOf(tapCounts(windows));
  const slices = Math.ceil(steps / SLICE);
  const slice = loopIndex(builder, 'slice', slices);
  const tile = loopIndex(builder, 'tile', blocks.block / rows);
  const body = registerTile(plan, kernel, {
    block,
    rows: source.buffer(kernel),
    weights: kernel.scratch(scratch.weights, 'read'),
    offsets: kernel.scratch(scratch.offsets, 'read'),
    tile,
    panel: builder.add(builder.scale(place.group, panels), place.panel),
    slice,
    slices,
    steps,
    placeOf: (position) => ({
      start: startOf(plan, builder, source, { windows, blocks, place }, position),
      cell: builder.scale(position, width),
    }),
  });
  return kernel.finish(grid, items, [
    loop(builder, slice, slices, [loop(builder, tile, blocks.block / rows, body)]),
    ...writeResults(plan, kernel, {
      ...place,
      block,
      images: blocks.images,
      positions: blocks.images === 1 ? blocks.block : blocks.positions,
      all: blocks.positions,
      indicesOf(position) {
        return resultIndices(builder, windows, unflatten(builder, position, windows.results));
      },
    }),
  ]);
}

/** Where the window of a position of the block starts in the source. */
function startOf(
  plan: ChannelPlan,
  builder: Builder,
  source: Source,
  at: { readonly windows: Windows; readonly blocks: Blocks; readonly place: Place },
  position: Expression,
): Expression {
  const { d } = plan;
  const { blocks, place, windows } = at;
  // Beyond the edge stands the last position: computed again, and not stored.
  const inItem = builder.min(position, builder.constant(blocks.images * blocks.positions - 1));
  const { group } = place;
  if (blocks.images === 1) {
    const own = builder.add(place.start, inItem);
    const safe = builder.min(own, builder.constant(blocks.positions - 1));
    const position = unflatten(builder, safe, windows.results);
    const where = { image: place.image, group, position };
    return startInSource(builder, plan, source, windows.step, where);
  }
  const shape = [blocks.images, ...windows.results] as const;
  const [within, ...coordinates] = unflatten(builder, inItem, shape);
  const own = builder.add(place.image, within);
  const image = builder.min(own, builder.constant(d.images - 1));
  return startInSource(builder, plan, source, windows.step, {
    image,
    group,
    position: coordinates,
  });
}

/** Results of a phase that no tap reaches. */
function emptyStage(plan: ChannelPlan, windows: Windows, suffix: string): Stage {
  const { context, d, outputs } = plan;
  const kernel = context.newKernel(`${context.name}_untouched${suffix}`);
  const { builder } = kernel;
  const items = d.images * d.groups * outputs;
  const grid = loopIndex(builder, 'item', items);
  const channels = builder.constant(d.groups * outputs);
  const position = loopIndex(builder, 'position', sizeOf(windows.results));
  const coordinates = unflatten(builder, position, windows.results);
  const result = resultIndices(builder, windows, coordinates);
  const at = [builder.div(grid, channels), builder.rem(grid, channels), ...result];
  const zero = builder.constant(0, valueTypeOf(plan.dtype));
  const body = [...kernel.writeElement(at, zero)];
  return kernel.finish(grid, items, [loop(builder, position, sizeOf(windows.results), body, true)]);
}

function stagesOf(context: ContractionContext, geometry: ConvolutionGeometry): Stage[] {
  const plan = channelPlan(context, geometry);
  const { d, depth, panels, width } = plan;
  const { before, phases } = windowsOf(d, geometry);
  const source = plainSource(plan) ?? paddedSource(plan);
  const stages = sourceStages(plan, source, before);
  const present = phases.filter(({ results }) => sizeOf(results) > 0);
  const merged = present.length > 1 && fitsBlock(plan, geometry.stride);
  const prepared = present.map((windows, phase) => {
    const suffix = present.length === 1 ? '' : String(phase);
    const taps = sizeOf(tapCounts(windows));
    const steps = depth * taps;
    if (taps === 0) {
      if (!merged) stages.push(emptyStage(plan, windows, suffix));
      return { windows, steps, weights: null, offsets: null };
    }
    const weights: Scratch = {
      name: 'weights',
      dtype: plan.dtype,
      length: d.groups * panels * steps * width,
    };
    const offsets: Scratch = { name: 'offsets', dtype: 'int32', length: steps };
    stages.push(
      weightStage(plan, windows, weights, suffix),
      offsetStage(context, offsets, depth, source.channel, tapOffsetsOf(windows, source.space)),
    );
    if (!merged) stages.push(multiplyStage(plan, windows, source, { weights, offsets }, suffix));
    return { windows, steps, weights, offsets };
  });
  if (merged) stages.push(phasesStage(plan, source, prepared));
  return stages;
}

/** Elements of a channel of the source. */
function positionsRead({ d, backward }: ChannelPlan): number {
  return sizeOf(backward ? d.result : d.space);
}

/** Estimated nanoseconds. */
function costOf(context: ContractionContext, geometry: ConvolutionGeometry): number {
  const plan = channelPlan(context, geometry);
  const { d, depth, outputs, panels, width, rows } = plan;
  const { target } = context;
  const results = plan.backward ? d.space : d.result;
  const positions = d.images * d.groups * sizeOf(results);
  const taps = sizeOf(d.kernel) / (plan.backward ? sizeOf(geometry.stride) : 1);
  const blocks = blocksOf(plan, results);
  const computed = blocks.block / Math.min(blocks.block, blocks.images * blocks.positions) || 1;
  const work = positions * computed * panels * width * depth * taps;
  const turned = positions * outputs;
  // The operand itself is read by every panel, where a copy would be in a cache nearer by.
  const copied =
    plainSource(plan) === null
      ? d.images * d.groups * depth * sizeOf(plan.padded)
      : d.images * d.groups * depth * positionsRead(plan);
  const packed = context.isConstant(1) ? 0 : d.groups * panels * width * depth * sizeOf(d.kernel);
  return (
    work / (efficiencyOf(target, rows, plan.vectors) * multiplyAddsPerNanosecond(target)) +
    turned / (target.vectorBytes >= 32 ? 2 : 1) +
    (copied + 2 * packed) / elementsPerNanosecond(target)
  );
}

/** Forward and by data, of any stride, dilation and number of groups. */
export const channelConvolution = convolutionSchedule({
  name: 'channel convolution',
  reproducible: true,
  byFilter: false,
  usable: ({ target }) => target.vectorBytes >= 16,
  cost: costOf,
  lower: stagesOf,
});
