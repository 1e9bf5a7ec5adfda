// Matrix products that read both operands where they lie: for matrices that fit in the second-level
// cache, or with so few rows that a copy would cost as much as it saves. Columns that do not fill a
// register tile are computed by narrower vectors and scalars, so that nothing is read or written
// beyond an edge. A transposed b is copied by the grid item that needs it, a tile's columns at a time;
// so are the rows of a transposed a whose steps the caches would not hold.
import { internalError } from '../../base/errors.ts';
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement, type Target } from '../../ir/kernel.ts';
import { forEachExpression } from '../../ir/walk.ts';
import type {
  ContractionContext,
  ContractionKernel,
  ContractionSchedule,
} from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { flatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { geometryOf, pointwiseProblem } from './convolution.ts';
import {
  bounded,
  ENOUGH_ITEMS,
  loop,
  loopBetween,
  loopIndex,
  multiplyAdd,
  roundUp,
} from './loops.ts';
import { matmulProblem } from './matmul.ts';
import { padStage } from './padded-rows.ts';
import {
  accumulatorOf,
  type Layout,
  layoutOf,
  type ProductProblem,
  type ProductSizes,
  layoutsOf,
  transposedCopy,
} from './product-problem.ts';

/** Longest k that is summed in one go: b's columns of a tile then stay in the caches. */
const LONGEST = 1024;
/** Rows of a for which a copy of a large b is not worth its time. */
const FEW_ROWS = 128;
/** Multiply-adds of one grid item at least. */
const GRAIN = 32_768;
/** Expressions of an epilogue that are written out once for every vector of a tile. */
const SHORT = 30;

/** A register tile; `pieces` are the widths of the vectors in a row, in elements. */
interface Tile {
  readonly rows: number;
  readonly pieces: readonly number[];
}

/** Multiply-adds of vectors that a step of a register tile takes the time of. */
function stepCost(rows: number, vectors: number): number {
  // Fewer than about eight sums wait for each other; loads come two at a time, and cost a little.
  return Math.max(rows * vectors, rows + vectors, 8) + 0.15 * (vectors + rows);
}

/** Widths of the vectors that cover `columns`: whole ones, then halves, then scalars. */
function piecesOf(columns: number, lanes: number): readonly number[] {
  const pieces: number[] = [];
  let left = columns;
  for (let width = lanes; width >= Math.min(4, lanes) && width > 1; width /= 2) {
    for (; left >= width; left -= width) pieces.push(width);
  }
  for (; left > 0; left--) pieces.push(1);
  return pieces;
}

interface Shape {
  readonly rows: number;
  readonly vectors: number;
  /** In multiply-adds of vectors, for one step of k. */
  readonly cost: number;
}

/** The register tile that takes the least time for [m, n]. */
function shapeFor(sizes: ProductSizes, target: Target, lanes: number): Shape {
  const columns = Math.ceil(sizes.n / lanes);
  let best: Shape = { rows: 1, vectors: 1, cost: Infinity };
  for (let vectors = 1; vectors <= Math.min(columns, 6); vectors++) {
    const rest = piecesOf(sizes.n % (vectors * lanes), lanes).length;
    for (let rows = 1; rows <= Math.min(sizes.m, 14); rows++) {
      const splats = target.foldsSplats ? 1 : rows;
      const registers = (width: number): number => splats + width + rows * width;
      if (registers(Math.max(vectors, rest)) > target.vectorRegisters) break;
      const across = (height: number): number =>
        height === 0
          ? 0
          : Math.floor(columns / vectors) * stepCost(height, vectors) +
            (rest === 0 ? 0 : stepCost(height, rest));
      const cost = Math.floor(sizes.m / rows) * across(rows) + across(sizes.m % rows);
      if (cost < best.cost) best = { rows, vectors, cost };
    }
  }
  return best;
}

function lanesOf(target: Target, problem: ProductProblem): number {
  return Math.max(1, target.vectorBytes / byteSize(accumulatorOf(problem.dtype)));
}

/** Cache lines that a first-level cache of eight ways of 4 KB holds if they are so many bytes apart. */
function linesHeld(bytes: number): number {
  const powerOfTwo = bytes & -bytes;
  return (8 * 4096) / Math.min(4096, Math.max(64, powerOfTwo));
}

/** Whether reading b in place is worth it: it is read a few times only, or stays in the cache. */
function isSmall(
  sizes: ProductSizes,
  target: Target,
  lanes: number,
  bytes: number,
  stride: number,
): boolean {
  const { m, n, k } = sizes;
  const { rows, vectors } = shapeFor(sizes, target, lanes);
  if (m <= 2 * rows) return true;
  if (k > LONGEST) return false;
  const lines = Math.ceil((vectors * lanes * bytes) / 64);
  if (k * lines <= 2 * linesHeld(stride * bytes)) return true;
  // A tile narrower than two cache lines leaves much of what it fetches unused.
  const wide = vectors * lanes * bytes >= 128;
  const { l2 } = target.cacheBytes;
  if (!wide) return (stride * bytes) % 4096 !== 0 && k * n * bytes <= l2 / 4;
  return m <= FEW_ROWS || k * n * bytes <= l2;
}

/** What is multiplied, and the copy of an image that is more than plain memory. */
interface Source {
  readonly problem: Required<ProductProblem>;
  readonly copy: Scratch | null;
}

/** A matrix product, or a convolution that is nothing else. */
function sourceOf(context: ContractionContext): Source | null {
  const { node } = context;
  if (node.op.lower.kind === 'matmul') return { problem: matmulProblem(node), copy: null };
  const geometry = geometryOf(node);
  const problem = geometry === null ? null : pointwiseProblem(node, geometry);
  if (problem === null || layoutsOf(context, problem) !== null) {
    return problem === null ? null : { problem, copy: null };
  }
  const { batch, k, n } = problem.sizes;
  const copy: Scratch = {
    name: 'rows',
    dtype: accumulatorOf(problem.dtype),
    length: batch * k * n,
  };
  const readB: ProductProblem['readB'] = (kernel, image, channel, position) => {
    const index = flatten(kernel.builder, [image, channel, position], [batch, k, n]);
    return kernel.builder.load(kernel.scratch(copy, 'read'), index);
  };
  return { problem: { ...problem, readB }, copy };
}

function knownSource(context: ContractionContext): Source {
  const source = sourceOf(context);
  if (source === null) throw internalError('an unpacked product of something else');
  return source;
}

/** The image's channels, one after the other. */
function copyStages(context: ContractionContext, copy: Scratch | null): Stage[] {
  if (copy === null) return [];
  const padded = context.node.inputs[0]!.shape.slice(2);
  const before = padded.map(() => 0);
  return [padStage(context, 'pad', 0, copy, { before, padded, length: sizeOf(padded) })];
}

/** Products of matrices that are not copied first. */
export const unpackedProduct: ContractionSchedule = {
  name: 'unpacked product',
  reproducible: true,
  usable: (context) => {
    const { target } = context;
    if (target.workgroups || target.vectorBytes < 16) return false;
    const problem = sourceOf(context)?.problem;
    if (problem === undefined) return false;
    const { m, n, k } = problem.sizes;
    // The same bounds as the packed product's: sums of strict numerics are then in one order.
    if (m < 4 || n < 4 || k < 4) return false;
    const strides = layoutsOf(context, problem);
    if (strides === null) return false;
    if (strides.b.along !== 1) return strides.b.depth === 1 && k <= LONGEST;
    const lanes = lanesOf(target, problem);
    const bytes = byteSize(accumulatorOf(problem.dtype));
    return isSmall(problem.sizes, target, lanes, bytes, strides.b.depth);
  },
  cost: (context) => {
    const { target } = context;
    const { problem, copy } = knownSource(context);
    const { batch, m, n, k } = problem.sizes;
    const lanes = lanesOf(target, problem);
    const { cost, rows } = shapeFor(problem.sizes, target, lanes);
    const layouts = layoutsOf(context, problem);
    const transposed = layouts?.b.along !== 1;
    const { down, across } = divisionsFor(problem.sizes, target, lanes, transposed);
    const rowsCopied =
      layouts !== null && copiesRows(layouts, problem, across.perBlock)
        ? batch * m * k * across.blocks
        : 0;
    const copied = rowsCopied + (transposed ? batch * k * n * down.blocks : (copy?.length ?? 0));
    const read = batch * k * n * Math.min(2, Math.ceil(m / rows));
    return (
      (batch * cost * lanes * k) / (0.95 * multiplyAddsPerNanosecond(target)) +
      (batch * m * n + copied + (m <= 2 * rows ? 0.5 * read : 0)) / elementsPerNanosecond(target)
    );
  },
  lower(context) {
    const { problem, copy } = knownSource(context);
    return [...copyStages(context, copy), unpackedStage(context, problem)];
  },
};

/**
 * Whether an item copies its rows of a transposed a first: if one step lies so far from the next that
 * a cache holds few of them, and there is more than one tile of columns to read them for.
 */
function copiesRows(
  { a, b }: { readonly a: Layout; readonly b: Layout },
  { sizes, dtype }: ProductProblem,
  tilesAcross: number,
): boolean {
  if (a.along !== 1 || b.along !== 1 || tilesAcross < 2) return false;
  return sizes.k > linesHeld(a.depth * byteSize(accumulatorOf(dtype)));
}

/** What the tiles of one kernel share. */
interface Plan {
  readonly context: ContractionContext;
  readonly problem: Required<ProductProblem>;
  readonly kernel: ContractionKernel;
  readonly lanes: number;
  readonly batch: Expression;
  readonly a: Layout;
  readonly b: Layout;
  /** Whether `a` is a copy of the item's rows alone. */
  readonly ownRows: boolean;
  /** Where a tile's columns of b are copied to, if b is transposed. */
  readonly panel: Buffer | null;
  /** The sums of a tile, for epilogues that run in a loop. */
  readonly sums: Buffer;
}

/** Grid items: (batch, rows, columns); each runs through its register tiles. */
function unpackedStage(context: ContractionContext, problem: Required<ProductProblem>): Stage {
  const { sizes } = problem;
  const kernel = context.newKernel(`${context.name}_product`);
  const { builder } = kernel;
  const lanes = lanesOf(context.target, problem);
  const { rows, vectors } = shapeFor(sizes, context.target, lanes);
  const width = vectors * lanes;
  const transposed = layoutsOf(context, problem)?.b.along !== 1;
  const { down, across } = divisionsFor(sizes, context.target, lanes, transposed);
  const items = sizes.batch * down.blocks * across.blocks;
  const grid = loopIndex(builder, 'item', items);
  const batch = builder.div(grid, builder.constant(down.blocks * across.blocks));
  const within = builder.rem(grid, builder.constant(down.blocks * across.blocks));
  const stored = layoutOf(problem, kernel, 'A', batch);
  const b = layoutOf(problem, kernel, 'B', batch);
  if (stored === null || b === null) throw internalError('an unpacked product of packed operands');
  const dtype = accumulatorOf(problem.dtype);
  const sums = kernel.privateArray('sums', dtype, rows * width);
  const panel = transposed ? kernel.privateArray('panel', dtype, sizes.k * width) : null;
  const blockOfRows = builder.div(within, builder.constant(across.blocks));
  const ownRows = copiesRows({ a: stored, b }, problem, across.perBlock);
  const copy = ownRows ? rowsCopy(kernel, problem, stored, blockOfRows, down, lanes) : null;
  const a = copy?.layout ?? stored;
  const plan: Plan = { context, problem, kernel, lanes, batch, a, b, ownRows, panel, sums };
  const rowLoops = (column: Expression, pieces: readonly number[]): readonly Statement[] => [
    ...copyColumns(plan, column, pieces),
    ...tilesOf(builder, 'row', blockOfRows, down, {
      whole: (row, within) => registerTile(plan, { rows, pieces }, row, within, column),
      rest: (row, within) =>
        registerTile(plan, { rows: sizes.m % rows, pieces }, row, within, column),
    }),
  ];
  const body = tilesOf(
    builder,
    'column',
    builder.rem(within, builder.constant(across.blocks)),
    across,
    {
      whole: (column) => rowLoops(column, piecesOf(width, lanes)),
      rest: (column) => rowLoops(column, piecesOf(sizes.n % width, lanes)),
    },
  );
  return kernel.finish(grid, items, [...(copy?.statements ?? []), ...body]);
}

/** An axis in tiles, and these in blocks, one for each grid item. */
interface Division {
  readonly size: number;
  readonly tile: number;
  readonly tiles: number;
  perBlock: number;
  blocks: number;
}

/** Blocks of about `wanted` tiles, equal as far as they can be: a last one of two tiles is waste. */
function divide(size: number, tile: number, wanted: number): Division {
  const tiles = Math.ceil(size / tile);
  const perBlock = Math.ceil(tiles / Math.max(1, Math.round(tiles / wanted)));
  return { size, tile, tiles, perBlock, blocks: Math.ceil(tiles / perBlock) };
}

/** The grid: blocks of tiles along both axes, enough of them to share; by sizes and target alone. */
function divisionsFor(
  sizes: ProductSizes,
  target: Target,
  lanes: number,
  transposed: boolean,
): { readonly down: Division; readonly across: Division } {
  const { rows, vectors } = shapeFor(sizes, target, lanes);
  const across = divide(sizes.n, vectors * lanes, 1);
  // Every block of rows copies the columns again.
  const high = transposed ? Math.max(256, sizes.m / ENOUGH_ITEMS) : 64;
  const down = divide(sizes.m, rows, Math.max(1, Math.floor(high / rows)));
  const items = (): number => sizes.batch * down.blocks * across.blocks;
  const work = sizes.batch * sizes.m * sizes.n * sizes.k;
  const wanted = Math.min(ENOUGH_ITEMS, Math.max(1, Math.floor(work / GRAIN)));
  while (items() >= 2 * wanted && across.perBlock < across.tiles) {
    across.perBlock *= 2;
    across.blocks = Math.ceil(across.tiles / across.perBlock);
  }
  while (!transposed && items() < wanted && down.perBlock > 2) {
    down.perBlock = Math.ceil(down.perBlock / 2);
    down.blocks = Math.ceil(down.tiles / down.perBlock);
  }
  if (transposed && items() >= 2 * down.blocks * wanted) {
    down.perBlock = down.tiles;
    down.blocks = 1;
  }
  return { down, across };
}

/** A copy of the rows of one block of a transposed a: the steps lie side by side. */
function rowsCopy(
  kernel: ContractionKernel,
  { sizes, dtype }: ProductProblem,
  from: Layout,
  block: Expression,
  { tile, perBlock }: Division,
  lanes: number,
): { readonly layout: Layout; readonly statements: readonly Statement[] } {
  const { builder } = kernel;
  const high = perBlock * tile;
  const pitch = roundUp(high, lanes);
  const buffer = kernel.privateArray('rows', accumulatorOf(dtype), sizes.k * pitch);
  const k = loopIndex(builder, 'k', sizes.k);
  const along = loopIndex(builder, 'along', high);
  const first = builder.scale(block, high);
  const source = builder.add(from.base, builder.scale(k, from.depth));
  const copy: Statement = {
    kind: 'store',
    buffer,
    index: builder.add(builder.scale(k, pitch), along),
    value: builder.load(from.buffer, builder.add(source, builder.add(first, along))),
  };
  const zero = builder.constant(0);
  const line = loopBetween(along, zero, bounded(builder, first, high, sizes.m), [copy], true);
  return {
    layout: { buffer, base: zero, along: 1, depth: pitch },
    statements: [loop(builder, k, sizes.k, [line])],
  };
}

/** Copies the columns of a tile, if b is transposed. */
function copyColumns(
  { kernel, problem, lanes, b, panel }: Plan,
  column: Expression,
  pieces: readonly number[],
): readonly Statement[] {
  if (panel === null) return [];
  return transposedCopy(kernel.builder, b, {
    buffer: panel,
    width: widthOf(pieces),
    depth: problem.sizes.k,
    lanes,
    count: 1,
    first: () => column,
    start: () => kernel.builder.constant(0),
  });
}

function widthOf(pieces: readonly number[]): number {
  return pieces.reduce((total, width) => total + width, 0);
}

/**
 * Runs through the tiles of one block; what is left at the end of the axis has a body of its own.
 * Bodies get where a tile begins, on the axis and in the block.
 */
function tilesOf(
  builder: Builder,
  name: string,
  block: Expression,
  { size, tile, tiles, perBlock, blocks }: Division,
  bodies: {
    whole(first: Expression, within: Expression): readonly Statement[];
    rest(first: Expression, within: Expression): readonly Statement[];
  },
): readonly Statement[] {
  const full = Math.floor(size / tile);
  const result: Statement[] = [];
  if (full > 0) {
    const before = builder.scale(block, perBlock);
    const index = loopIndex(builder, name, perBlock);
    // Never less: the loop ends at the last whole tile. It tells the bounds of what is read.
    const at = builder.min(builder.add(before, index), builder.constant(full - 1));
    const end =
      blocks * perBlock === full
        ? builder.constant(perBlock)
        : builder.min(builder.constant(perBlock), builder.sub(builder.constant(full), before));
    const body = bodies.whole(builder.scale(at, tile), builder.scale(index, tile));
    result.push(loopBetween(index, builder.constant(0), end, body));
  }
  if (full < tiles) {
    const within = (full - (blocks - 1) * perBlock) * tile;
    const body = bodies.rest(builder.constant(full * tile), builder.constant(within));
    const isLast = builder.compare('eq', block, builder.constant(blocks - 1));
    result.push(...(isLast.kind === 'constant' ? body : [branch(isLast, body)]));
  }
  return result;
}

/** One register tile over all of k, and what becomes of its sums. */
function registerTile(
  plan: Plan,
  tile: Tile,
  row: Expression,
  within: Expression,
  column: Expression,
): readonly Statement[] {
  const { kernel, problem, context, a, b } = plan;
  const { builder } = kernel;
  const type = valueTypeOf(accumulatorOf(problem.dtype));
  const k = loopIndex(builder, 'k', problem.sizes.k);
  const declared: Statement[] = [];
  const body: Statement[] = [];
  const starts = startsOf(tile.pieces);
  const line =
    plan.panel === null
      ? builder.add(b.base, builder.add(column, builder.scale(k, b.depth)))
      : builder.scale(k, widthOf(tile.pieces));
  const fromB = tile.pieces.map((lanes, piece) => {
    const variable = builder.variable(`b${piece}`, type, { lanes });
    const index = builder.offset(line, starts[piece]!);
    const value = builder.load(plan.panel ?? b.buffer, index, lanes);
    body.push({ kind: 'let', variable, value });
    return variable;
  });
  const sums: Variable[][] = [];
  for (let r = 0; r < tile.rows; r++) {
    const at = builder.add(
      builder.scale(builder.offset(plan.ownRows ? within : row, r), a.along),
      builder.scale(k, a.depth),
    );
    const scalar = builder.load(a.buffer, builder.add(a.base, at));
    const splats = new Map<number, Expression>();
    const line: Variable[] = [];
    tile.pieces.forEach((lanes, piece) => {
      const sum = builder.variable(`sum${r}_${piece}`, type, { lanes, mutable: true });
      declared.push({ kind: 'declare', variable: sum, value: builder.constant(0, type, lanes) });
      let splat = splats.get(lanes);
      if (splat === undefined) {
        const named = builder.variable(`a${r}x${lanes}`, type, { lanes });
        body.push({ kind: 'let', variable: named, value: builder.splat(scalar, lanes) });
        splats.set(lanes, (splat = named));
      }
      const next = multiplyAdd(builder, context.target, splat, fromB[piece]!, sum);
      body.push({ kind: 'assign', variable: sum, value: next });
      line.push(sum);
    });
    sums.push(line);
  }
  return [
    ...declared,
    loop(builder, k, problem.sizes.k, body),
    ...finishTile(plan, tile, row, column, sums),
  ];
}

function startsOf(pieces: readonly number[]): readonly number[] {
  let next = 0;
  return pieces.map((width) => {
    next += width;
    return next - width;
  });
}

/** The epilogue: from registers if it is short, else in a loop over the tile in memory. */
function finishTile(
  plan: Plan,
  tile: Tile,
  row: Expression,
  column: Expression,
  sums: readonly (readonly Variable[])[],
): readonly Statement[] {
  const { kernel, problem, batch } = plan;
  const { builder } = kernel;
  const starts = startsOf(tile.pieces);
  const straight = sums.flatMap((line, r) =>
    line.flatMap((sum, piece) =>
      problem.storeVector(
        kernel,
        batch,
        builder.offset(row, r),
        builder.offset(column, starts[piece]!),
        sum,
      ),
    ),
  );
  let size = 0;
  forEachExpression(straight, () => size++);
  if (size <= SHORT * tile.rows * tile.pieces.length) return straight;
  const columns = widthOf(tile.pieces);
  const keep = sums.flatMap((line, r) =>
    line.map((value, piece): Statement => {
      const index = builder.constant(r * columns + starts[piece]!);
      return { kind: 'store', buffer: plan.sums, index, value };
    }),
  );
  const down = loopIndex(builder, 'row', tile.rows);
  const across = loopIndex(builder, 'column', columns);
  const value = builder.load(plan.sums, builder.add(builder.scale(down, columns), across));
  const stores = problem.store(
    kernel,
    batch,
    builder.add(row, down),
    builder.add(column, across),
    value,
  );
  return [...keep, loop(builder, down, tile.rows, [loop(builder, across, columns, stores, true)])];
}
