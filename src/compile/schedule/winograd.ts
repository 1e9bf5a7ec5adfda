// Convolutions of 3 x 3 windows by Winograd's minimal filtering (Lavin and Gray, arXiv:1509.09308):
// filters and tiles of the source are transformed, multiplied position by position as matrices, and
// the products transformed back. F(2x2, 3x3) does 2.25 times less multiplications, F(4x4, 3x3) 4
// times. Forward and backwardData: stride 1, no dilation, one group.
//
// Largest error on normal data, relative to the largest result, with 64, 256, 512 channels:
// F(2x2, 3x3) 0.4e-6, 0.5e-6, 1.0e-6; F(4x4, 3x3) 1.7e-6, 2.0e-6, 3.4e-6; the plain sum, channel after
// channel, 0.9e-6, 1.4e-6, 2.2e-6.
import { internalError } from '../../base/errors.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionSchedule } from '../lower/contraction.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { dimensionsOf, geometryOf } from './convolution.ts';
import { loop, loopBetween, loopIndex, multiplyAdd, prefetchAhead } from './loops.ts';
import { filterCost, type FilterPlan, filterPlan, filterStages } from './winograd-filter.ts';
import { finishPart } from './winograd-finish.ts';
import { winogradCost, type WinogradPlan, winogradPlan } from './winograd-plan.ts';
import {
  filterStage,
  phaseStage,
  tilesOfBlock,
  tileStage,
  transformTiles,
} from './winograd-stages.ts';
import { F2, F4, FILTER2, FILTER4, type ShortConvolution } from './winograd-transform.ts';

function isUsable({ node, target }: ContractionContext, deepest: number): boolean {
  const geometry = geometryOf(node);
  if (geometry === null) return false;
  if (node.dtype !== 'float32' || node.inputs.some(({ dtype }) => dtype !== 'float32'))
    return false;
  if (target.numerics !== 'fast' || target.vectorBytes < 16 || target.workgroups) return false;
  if (geometry.groups !== 1) return false;
  if ([...geometry.stride, ...geometry.dilation].some((step) => step !== 1)) return false;
  const d = dimensionsOf(node, geometry);
  if (d.kernel.length !== 2 || d.kernel.some((size) => size !== 3)) return false;
  // The sums of the filter's derivative are over positions, however many there are.
  if (geometry.role === 'backwardFilter') return true;
  const backward = geometry.role === 'backwardData';
  if (backward && geometry.padding.some((padding) => padding > 2)) return false;
  return (backward ? d.outputs : d.inputs) <= deepest;
}

/** The plan of either kind, or null for other nodes. */
function planFor(context: ContractionContext, transforms: Transforms): Plan | null {
  const geometry = geometryOf(context.node);
  if (geometry === null) return null;
  return geometry.role === 'backwardFilter'
    ? { filter: filterPlan(context, geometry, transforms.filter) }
    : { windows: winogradPlan(context, geometry, transforms.windows) };
}

type Plan = { readonly filter: FilterPlan } | { readonly windows: WinogradPlan };

/** For results of tiles, and for the filter's derivative. */
interface Transforms {
  readonly windows: ShortConvolution;
  readonly filter: ShortConvolution;
}

function schedule(name: string, transforms: Transforms, deepest: number): ContractionSchedule {
  return {
    name,
    // Which results share a tile, and so an error, is a matter of position.
    reproducible: false,
    usable: (context) => isUsable(context, deepest),
    cost: (context) => {
      const plan = planFor(context, transforms);
      if (plan === null) return Infinity;
      return 'filter' in plan ? filterCost(plan.filter) : winogradCost(plan.windows);
    },
    lower: (context) => {
      const plan = planFor(context, transforms);
      if (plan === null) throw internalError(`${name} of something else`);
      return 'filter' in plan ? filterStages(plan.filter) : stagesOf(plan.windows);
    },
  };
}

/** F(2x2, 3x3): more accurate than a plain sum, which is longer. */
export const winograd2 = schedule('winograd 2x2', { windows: F2, filter: FILTER2 }, Infinity);

/** F(4x4, 3x3); the error grows with the number of channels. */
export const winograd4 = schedule('winograd 4x4', { windows: F4, filter: FILTER4 }, 512);

function stagesOf(plan: WinogradPlan): Stage[] {
  const { transform, positions, blocks } = plan;
  const float = (name: string, length: number): Scratch => ({ name, dtype: 'float32', length });
  const filters = float('filters', plan.parts * positions * plan.filterStride);
  const planes = plan.sets * plan.depth * transform.outputs ** 2;
  // The last vector of a run reads past the last plane.
  const phases = float('phases', planes * plan.plane + plan.sourceLanes);
  const stages = [filterStage(plan, filters), phaseStage(plan, phases)];
  if (plan.fused) return [...stages, productStage(plan, filters, phases, null)];
  const tiles = float('tiles', blocks * positions * plan.tileStride);
  return [...stages, tileStage(plan, phases, tiles), productStage(plan, filters, phases, tiles)];
}

/** What the products of one part of the outputs work with. */
interface Part {
  readonly filters: Buffer;
  readonly tiles: Buffer;
  /** Offset of the block in `tiles`. */
  readonly base: Expression;
  readonly products: Buffer;
  /** Which part it is, and how many panels it has. */
  readonly number: Expression;
  readonly panels: Expression;
  /** Register tiles of the block that hold tiles at all. */
  readonly columns: Expression;
}

/** Grid items: blocks of tiles, each with all outputs if it transforms its tiles itself. */
function productStage(
  plan: WinogradPlan,
  filters: Scratch,
  phases: Scratch,
  shared: Scratch | null,
): Stage {
  const { context, positions, blocks, parts, partPanels, panels } = plan;
  const kernel = context.newKernel(`${context.name}_winograd`);
  const { builder } = kernel;
  const perBlock = shared === null ? 1 : parts;
  const grid = loopIndex(builder, 'item', blocks * perBlock);
  const block = builder.div(grid, builder.constant(perBlock));
  const { start, end } = tilesOfBlock(plan, builder, block);
  const blockSize = positions * plan.tileStride;
  const tiles =
    shared === null
      ? kernel.privateArray('tiles', 'float32', blockSize)
      : kernel.scratch(shared, 'read');
  const part =
    shared === null
      ? loopIndex(builder, 'part', parts)
      : builder.rem(grid, builder.constant(perBlock));
  const firstPanel = builder.scale(part, partPanels);
  const left = builder.sub(builder.constant(panels), firstPanel);
  const products = kernel.privateArray('products', 'float32', positions * plan.productStride);
  const width = builder.constant(plan.width);
  const used = builder.offset(builder.sub(end, start), plan.width - 1);
  const body = [
    ...multiply(plan, builder, {
      filters: kernel.scratch(filters, 'read'),
      tiles,
      base: shared === null ? builder.constant(0) : builder.scale(block, blockSize),
      products,
      number: part,
      panels: builder.min(left, builder.constant(partPanels)),
      columns: builder.div(used, width),
    }),
    ...finishPart(plan, kernel, { products, firstPanel, start, end }),
  ];
  if (shared !== null) return kernel.finish(grid, blocks * perBlock, body);
  const transformed = transformTiles(plan, builder, {
    block,
    start,
    end,
    channels: { first: builder.constant(0), count: plan.depth },
    phases: kernel.scratch(phases, 'read'),
    target: tiles,
    base: builder.constant(0),
  });
  return kernel.finish(grid, blocks, [
    ...transformed,
    loop(builder, part as Variable, parts, body),
  ]);
}

/** All products of a part: [position][output of the part][tile]. */
function multiply(plan: WinogradPlan, builder: Builder, part: Part): readonly Statement[] {
  const { rows, depth, width, block, positions, partPanels } = plan;
  const position = loopIndex(builder, 'position', positions);
  const column = loopIndex(builder, 'column', block / width);
  const panel = loopIndex(builder, 'panel', partPanels);
  const ofPosition = builder.add(builder.scale(part.number, positions), position);
  const across = builder.scale(column, width);
  const tile = registerTile(plan, builder, part, {
    filters: builder.add(
      builder.scale(ofPosition, plan.filterStride),
      builder.scale(panel, depth * rows),
    ),
    tiles: builder.add(builder.add(part.base, builder.scale(position, plan.tileStride)), across),
    products: builder.add(
      builder.add(builder.scale(position, plan.productStride), builder.scale(panel, rows * block)),
      across,
    ),
  });
  const zero = builder.constant(0);
  return [
    loop(builder, position, positions, [
      loopBetween(column, zero, part.columns, [loopBetween(panel, zero, part.panels, tile)]),
    ]),
  ];
}

/** `rows` outputs by `vectors` vectors of tiles, summed over the channels. */
function registerTile(
  plan: WinogradPlan,
  builder: Builder,
  part: Part,
  at: { filters: Expression; tiles: Expression; products: Expression },
): readonly Statement[] {
  const { rows, vectors, lanes, depth, block, context } = plan;
  const k = loopIndex(builder, 'k', depth);
  const before: Statement[] = [];
  const inner: Statement[] = [];
  const after: Statement[] = [];
  const line = builder.add(at.tiles, builder.scale(k, plan.tilePitch));
  const columns = Array.from({ length: vectors }, (_, v) => {
    const variable = builder.variable(`v${v}`, 'f32', { lanes });
    const value = builder.load(part.tiles, builder.offset(line, v * lanes), lanes);
    inner.push({ kind: 'let', variable, value });
    return variable;
  });
  const filters = builder.add(at.filters, builder.scale(k, rows));
  const bytes = 4 * plan.positions * plan.outputs * depth;
  inner.push(...prefetchAhead(builder, context.target, part.filters, filters, bytes));
  for (let row = 0; row < rows; row++) {
    const filter = builder.variable(`u${row}`, 'f32', { lanes });
    const index = builder.offset(filters, row);
    const value = builder.splat(builder.load(part.filters, index), lanes);
    inner.push({ kind: 'let', variable: filter, value });
    columns.forEach((tile, v) => {
      const sum = builder.variable(`sum${row}_${v}`, 'f32', { lanes, mutable: true });
      before.push({ kind: 'declare', variable: sum, value: builder.constant(0, 'f32', lanes) });
      const next = multiplyAdd(builder, context.target, filter, tile, sum);
      inner.push({ kind: 'assign', variable: sum, value: next });
      const cell = builder.offset(at.products, row * block + v * lanes);
      after.push({ kind: 'store', buffer: part.products, index: cell, value: sum });
    });
  }
  return [...before, loop(builder, k, depth, inner), ...after];
}
