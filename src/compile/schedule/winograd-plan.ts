// Sizes of a Winograd convolution: tiles, blocks of them, and where the parts of each lie in memory.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Target } from '../../ir/kernel.ts';
import type { ContractionContext } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { dimensionsOf } from './convolution.ts';
import { roundUp } from './loops.ts';
import type { Matrix, ShortConvolution } from './winograd-transform.ts';

/**
 * Tiles are counted rows of tiles first: tile ((set * tilesHigh + ty) * tilesWide + tx) * group + g
 * lies in image set * group + g. Images are grouped where rows of tiles alone are too short to fill
 * vectors.
 */
export interface WinogradPlan {
  readonly context: ContractionContext;
  readonly transform: ShortConvolution;
  /** Rows of a tile, of what it reads of the source, and how that is transformed. */
  readonly step: number;
  readonly window: number;
  readonly tileMatrix: Matrix;
  /** Products per tile, channel and output: the transform's size squared. */
  readonly positions: number;
  readonly backward: boolean;
  readonly images: number;
  /** Channels that are summed, and channels of the result. */
  readonly depth: number;
  readonly outputs: number;
  /** Space sizes of the source and of the result, and zeros before the source. */
  readonly source: readonly [number, number];
  readonly result: readonly [number, number];
  readonly before: readonly [number, number];
  /** Images whose tiles interleave, and the number of such sets. */
  readonly group: number;
  readonly sets: number;
  readonly tilesHigh: number;
  readonly tilesWide: number;
  /** Tiles whose sources are consecutive, and all tiles. */
  readonly run: number;
  readonly tiles: number;
  /** Lanes of a vector, and of the vectors that transform the source. */
  readonly lanes: number;
  readonly sourceLanes: number;
  /** Register tile: output channels by vectors of tiles. */
  readonly rows: number;
  readonly vectors: number;
  /** Tiles of the register tile, and of a block. */
  readonly width: number;
  readonly block: number;
  readonly blocks: number;
  /** Panels of `rows` output channels: all, and those whose products are kept at a time. */
  readonly panels: number;
  readonly partPanels: number;
  readonly parts: number;
  /** Whether a grid item transforms its own tiles; else a kernel before does it for all. */
  readonly fused: boolean;
  /** Elements of one phase plane of a channel: (tilesHigh + 1) * (tilesWide + 1) * group. */
  readonly plane: number;
  /** From one position to the next in transformed filters, tiles and products; row of a channel. */
  readonly filterStride: number;
  readonly tilePitch: number;
  readonly tileStride: number;
  readonly productStride: number;
}

/** Arrays [position][...] are an odd number of cache lines apart: else all fall into one set. */
const SKEW = 16;

/** Elements from one position to the next of transformed tiles. */
export function tileStrideOf(depth: number, tilePitch: number): number {
  return depth * tilePitch + SKEW;
}

export function winogradPlan(
  context: ContractionContext,
  geometry: ConvolutionGeometry,
  transform: ShortConvolution,
): WinogradPlan {
  const { node, target } = context;
  const d = dimensionsOf(node, geometry);
  const backward = geometry.role === 'backwardData';
  const [source, result] = (backward ? [d.result, d.space] : [d.space, d.result]) as [
    readonly [number, number],
    readonly [number, number],
  ];
  const before = [0, 1].map((axis) => {
    const padding = geometry.padding[2 * axis] as number;
    return backward ? transform.taps - 1 - padding : padding;
  }) as [number, number];
  const depth = backward ? d.outputs : d.inputs;
  const outputs = backward ? d.inputs : d.outputs;
  const lanes = target.vectorBytes / 4;
  const tilesHigh = Math.ceil(result[0] / transform.outputs);
  const tilesWide = Math.ceil(result[1] / transform.outputs);
  const group = largestDivisor(d.images, Math.ceil(Math.min(lanes, 8) / tilesWide));
  const sets = d.images / group;
  const run = tilesWide * group;
  const tiles = sets * tilesHigh * run;
  const positions = transform.size ** 2;
  const { rows, vectors } = registerTile(outputs, tiles, target);
  const width = vectors * lanes;
  const block = blockOf(tiles, width, depth * outputs);
  const blocks = Math.ceil(tiles / block);
  const sourceLanes = Math.min(lanes, powerOfTwo(run));
  const fused = blocks >= 8;
  const panels = Math.ceil(outputs / rows);
  // Products of a part stay in the second-level cache; without many blocks, parts are grid items too.
  const most = Math.max(1, Math.floor((96 * 1024) / (positions * rows * block)));
  const wanted = fused ? 1 : Math.ceil(16 / blocks);
  const parts = Math.min(panels, Math.max(Math.ceil(panels / most), wanted));
  const partPanels = Math.ceil(panels / parts);
  const aligned = run % sourceLanes === 0 && block % sourceLanes === 0;
  // Vectors at the end of a run write past it: into what is written next, or else into a gap.
  const tilePitch = block + (fused || aligned ? 0 : sourceLanes);
  return {
    context,
    transform,
    step: transform.outputs,
    window: transform.size,
    tileMatrix: transform.input,
    positions,
    backward,
    images: d.images,
    depth,
    outputs,
    source,
    result,
    before,
    group,
    sets,
    tilesHigh,
    tilesWide,
    run,
    tiles,
    lanes,
    sourceLanes,
    rows,
    vectors,
    width,
    block,
    blocks,
    panels,
    partPanels,
    parts: Math.ceil(panels / partPanels),
    fused,
    plane: (tilesHigh + 1) * (tilesWide + 1) * group,
    filterStride: partPanels * rows * depth + SKEW,
    tilePitch,
    tileStride: tileStrideOf(depth, tilePitch),
    productStride: partPanels * rows * block + SKEW,
  };
}

/** The largest divisor of `count` that is at most `limit`. */
export function largestDivisor(count: number, limit: number): number {
  let divisor = Math.max(1, Math.min(count, limit));
  while (count % divisor !== 0) divisor--;
  return divisor;
}

/** The smallest power of two that is at least `count`, but no less than 4. */
function powerOfTwo(count: number): number {
  let power = 4;
  while (power < count) power *= 2;
  return power;
}

/** The register tile that wastes least at the edges, for as few loads as possible. */
function registerTile(
  outputs: number,
  tiles: number,
  target: Target,
): { rows: number; vectors: number } {
  const lanes = target.vectorBytes / 4;
  let best = { rows: 1, vectors: 1 };
  let least = Infinity;
  for (let vectors = 1; vectors <= 4; vectors++) {
    for (let rows = 1; rows <= 16; rows++) {
      const splats = target.foldsSplats === true ? 1 : rows;
      if (splats + vectors + rows * vectors > target.vectorRegisters) break;
      const idle = Math.max(1, 8 / (rows * vectors));
      const loads = 1 / rows + 1 / vectors;
      const cells = roundUp(outputs, rows) * roundUp(tiles, vectors * lanes);
      const cost = cells * idle * (1 + 0.3 * loads);
      if (cost < least) {
        least = cost;
        best = { rows, vectors };
      }
    }
  }
  return best;
}

/** Tiles of a block: more where many filters are read anew for each. */
function blockOf(tiles: number, width: number, filters: number): number {
  const limit = filters > 128 * 128 ? 128 : 64;
  const all = Math.ceil(tiles / width);
  const most = Math.max(1, Math.floor(limit / width));
  return Math.ceil(all / Math.ceil(all / most)) * width;
}

/** Estimated nanoseconds of all kernels on one thread. */
export function winogradCost(plan: WinogradPlan): number {
  const { context, positions, depth, outputs, tiles, transform } = plan;
  const { target } = context;
  const wholeTiles = roundUp(tiles, plan.width);
  const products = positions * wholeTiles * roundUp(outputs, plan.rows) * depth;
  const peak = multiplyAddsPerNanosecond(target);
  const output = ((outputs * tiles) / plan.lanes) * passes(plan.lanes) * operationTime(plan);
  const copied = plan.images * depth * sizeOf(plan.source);
  const written = outputs * tiles * transform.outputs ** 2;
  const filters = depth * outputs * positions;
  const shared = plan.fused ? 0 : positions * depth * wholeTiles;
  const elements = elementsPerNanosecond(target);
  return (
    products / (0.9 * peak) +
    transformTime(plan) +
    output +
    (copied + written + shared) / elements +
    (context.isConstant(1) ? 0 : filters / (4 * elements)) +
    fromMemory(target, filters, 12) +
    fromMemory(target, 2 * copied + written, 10) +
    // Filters that stay in no cache near the core are read again for each block.
    (4 * filters > target.cacheBytes.l2 / 2 ? (plan.blocks * filters) / 40 : 0)
  );
}

/** Estimated nanoseconds of copying an operand and transforming its tiles into memory. */
export function tileCost(plan: WinogradPlan): number {
  const { context, positions, depth, tiles } = plan;
  const { target } = context;
  const copied = plan.images * depth * sizeOf(plan.source);
  const transformed = positions * depth * tiles;
  return (
    transformTime(plan) +
    (copied + 0.5 * transformed) / elementsPerNanosecond(target) +
    fromMemory(target, copied + transformed, 12)
  );
}

/** Nanoseconds of vector operations of a transform of every tile. */
function transformTime(plan: WinogradPlan): number {
  const vectors = Math.ceil(plan.run / plan.sourceLanes) * passes(plan.sourceLanes);
  return plan.depth * (plan.tiles / plan.run) * vectors * operationTime(plan);
}

/** Loads, stores, and about one operation per element and direction, for one vector of tiles. */
function operationTime({ context, positions }: WinogradPlan): number {
  const { target } = context;
  const peak = multiplyAddsPerNanosecond(target);
  return (4 * positions) / (0.5 * (peak / (Math.min(target.vectorBytes, 32) / 4)));
}

/** Of vectors of 64 bytes half as many pass. */
function passes(lanes: number): number {
  return Math.max(1, lanes / 8);
}

/** Nanoseconds for `bytes` of traffic per element of data that caches only hold in part. */
function fromMemory(target: Target, elements: number, bytes: number): number {
  const size = (4 * elements) / target.cacheBytes.l2;
  const missing = Math.max(0, Math.min(1, (size - 8) / 24));
  return (elements * bytes * missing) / 24;
}
