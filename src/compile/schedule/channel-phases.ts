// By data of a stride with vectors of channels: one grid item computes all phases of some rows of the
// result into one block, each sum where it belongs, and writes the rows whole. Phase after phase over
// everything would write every line of the result once for each, element by element.
import { sizeOf } from '../../base/shape.ts';
import { type Buffer, type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionKernel } from '../lower/contraction.ts';
import { flatten, unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { type ChannelPlan, registerTile, SLICE, writeResults } from './channel-tile.ts';
import { loop, loopIndex, roundUp } from './loops.ts';
import { resultIndices, type Source, startInSource, type Windows } from './windows.ts';

/** Bytes of the block of one grid item, about; it is visited once for each slice of the sum. */
const BLOCK_BYTES = 64 * 1024;
/** With more than this for the rows of a single step of the stride, phases are left apart. */
const MOST_BYTES = 160 * 1024;

/** One phase and where what it multiplies is kept; without taps it has neither. */
export interface Phase {
  readonly windows: Windows;
  readonly steps: number;
  readonly weights: Scratch | null;
  readonly offsets: Scratch | null;
}

/** What a grid item covers: images, and of each some rows of every phase. */
interface Blocks {
  readonly images: number;
  readonly rows: number;
  readonly imageBlocks: number;
  readonly rowBlocks: number;
  /** Rows of the result, and elements of one. */
  readonly lines: number;
  readonly inner: number;
}

function bytesOf({ dtype, width }: ChannelPlan): number {
  return width * (dtype === 'float64' ? 8 : 4);
}

/** Whether all phases of a row fit a block. */
export function fitsBlock(plan: ChannelPlan, stride: readonly number[]): boolean {
  const inner = sizeOf(plan.d.space.slice(1));
  return (stride[0] as number) * inner * bytesOf(plan) <= MOST_BYTES;
}

function blocksOf(plan: ChannelPlan, phases: readonly Phase[]): Blocks {
  const { d, rows: tile } = plan;
  const inner = sizeOf(d.space.slice(1));
  const scale = phases[0]?.windows.scale[0] as number;
  const rowsInAll = Math.max(...phases.map(({ windows }) => windows.results[0] as number));
  const most = Math.max(1, Math.floor(BLOCK_BYTES / (bytesOf(plan) * scale * inner)));
  // Rows of tiles that end within a tile are computed for nothing.
  const wasted = (images: number, rows: number): number => {
    const blocks = Math.ceil(d.images / images) * Math.ceil(rowsInAll / rows);
    let computed = 0;
    for (const { windows, steps } of phases) {
      const positions = images * rows * sizeOf(windows.results.slice(1));
      computed += blocks * Math.ceil(positions / tile) * tile * steps;
    }
    return computed;
  };
  let best = { images: 1, rows: Math.min(rowsInAll, most) };
  let least = Infinity;
  const consider = (images: number, rows: number): void => {
    const computed = wasted(images, rows);
    if (computed < least * 0.99) {
      least = computed;
      best = { images, rows };
    }
  };
  for (let rows = Math.min(rowsInAll, most); rows >= 1 && rows > most / 4; rows--) {
    consider(1, rows);
  }
  const most2 = Math.min(d.images, Math.floor(most / rowsInAll));
  for (let images = most2; images > 1 && images > most2 / 4; images--) consider(images, rowsInAll);
  return {
    ...best,
    imageBlocks: Math.ceil(d.images / best.images),
    rowBlocks: Math.ceil(rowsInAll / best.rows),
    lines: scale * best.rows,
    inner,
  };
}

/** Where an item's results are. */
interface Place {
  readonly image: Expression;
  readonly row: Expression;
  readonly group: Expression;
  readonly panel: Expression;
}

/** The sums of one phase of an item. */
function phaseSums(
  plan: ChannelPlan,
  kernel: ContractionKernel,
  { windows, steps, weights, offsets }: Phase,
  at: { readonly source: Source; readonly blocks: Blocks; readonly place: Place; block: Buffer },
): Statement[] {
  // No tap reaches this phase: the block was cleared.
  if (weights === null || offsets === null) return [];
  const { d, rows, panels, width } = plan;
  const { builder } = kernel;
  const { blocks, place } = at;
  const count = blocks.images * blocks.rows * sizeOf(windows.results.slice(1));
  const tiles = Math.ceil(count / rows);
  const tile = loopIndex(builder, 'tile', tiles);
  const slices = Math.ceil(steps / SLICE);
  const slice = loopIndex(builder, 'slice', slices);
  const cells = blocks.images * blocks.lines * blocks.inner;
  const body = registerTile(plan, kernel, {
    block: at.block,
    rows: at.source.buffer(kernel),
    weights: kernel.scratch(weights, 'read'),
    offsets: kernel.scratch(offsets, 'read'),
    tile,
    panel: builder.add(builder.scale(place.group, panels), place.panel),
    slice,
    slices,
    steps,
    placeOf(position, row) {
      const safe = builder.min(position, builder.constant(count - 1));
      const [image, line, ...rest] = unflatten(builder, safe, [
        blocks.images,
        blocks.rows,
        ...windows.results.slice(1),
      ]);
      const real = resultIndices(builder, windows, [line, ...rest]);
      const shape = [blocks.images, blocks.lines, ...d.space.slice(1)];
      const cell = builder.scale(flatten(builder, [image, ...real], shape), width);
      // What lies beyond the last position goes to cells of its own.
      const exists = builder.compare('lt', position, builder.constant(count));
      const beyond = builder.constant((cells + row) * width);
      return {
        start: startInSource(builder, plan, at.source, windows.step, {
          // Images and rows beyond the last are computed from the last, and not stored.
          image: builder.min(builder.add(place.image, image), builder.constant(d.images - 1)),
          group: place.group,
          position: [
            builder.min(
              builder.add(place.row, line),
              builder.constant((windows.results[0] as number) - 1),
            ),
            ...rest,
          ],
        }),
        cell: builder.select(exists, cell, beyond),
      };
    },
  });
  return [loop(builder, slice, slices, [loop(builder, tile, tiles, body)])];
}

/** All phases: one grid item is a block of rows by a panel of channels. */
export function phasesStage(plan: ChannelPlan, source: Source, phases: readonly Phase[]): Stage {
  const { context, d, width, panels, rows, dtype, lanes } = plan;
  const kernel = context.newKernel(`${context.name}_channels`);
  const { builder } = kernel;
  const blocks = blocksOf(plan, phases);
  const shape = [blocks.imageBlocks, blocks.rowBlocks, d.groups, panels] as const;
  const items = sizeOf(shape);
  const grid = loopIndex(builder, 'item', items);
  const [imageBlock, rowBlock, group, panel] = unflatten(builder, grid, shape);
  const place: Place = {
    image: builder.scale(imageBlock, blocks.images),
    row: builder.scale(rowBlock, blocks.rows),
    group,
    panel,
  };
  const cells = roundUp(blocks.images * blocks.lines * blocks.inner + rows, lanes) * width;
  const block = kernel.privateArray('block', dtype, cells);
  const clear = loopIndex(builder, 'cell', cells);
  const zero = builder.constant(0, valueTypeOf(dtype));
  const cleared: Statement = { kind: 'store', buffer: block, index: clear, value: zero };
  const needed = phases.some(({ weights }) => weights === null);
  const at = { source, blocks, place, block };
  return kernel.finish(grid, items, [
    ...(needed ? [loop(builder, clear, cells, [cleared], true)] : []),
    ...phases.flatMap((phase) => phaseSums(plan, kernel, phase, at)),
    ...writeResults(plan, kernel, {
      ...place,
      block,
      images: blocks.images,
      positions: blocks.lines * blocks.inner,
      start: builder.scale(place.row, (blocks.lines / blocks.rows) * blocks.inner),
      all: sizeOf(d.space),
      indicesOf: (position) => unflatten(builder, position, d.space),
    }),
  ]);
}
