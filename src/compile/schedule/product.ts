// The matrix-product schedule, written once in the kernel IR: pack both operands into panels,
// multiply by register tiles, run the fused epilogue over a finished block. Tile sizes are
// parameters; operands and results are reached through callbacks, so that prologue and epilogue
// fuse, and a convolution is the same schedule with other callbacks.
import { byteSize, type DType } from '../../base/dtype.ts';
import type { Builder } from '../../ir/builder.ts';
import {
  type Buffer,
  type Expression,
  valueTypeOf,
  type ValueType,
  type Variable,
} from '../../ir/expression.ts';
import { branch, type Statement, type Target } from '../../ir/kernel.ts';
import { dependsOn } from '../../ir/linear.ts';
import type { ContractionContext } from '../lower/contraction.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import {
  bounded,
  CACHE_LINE,
  isWorthPrefetching,
  loop,
  loopBetween,
  loopIndex,
  multiplyAdd,
  roundUp,
} from './loops.ts';
import {
  accumulatorOf,
  layoutOf,
  type ProductProblem,
  type ProductSizes,
  transposedCopy,
} from './product-problem.ts';

/** Slices are multiples of so many steps along k. */
const SLICE_UNIT = 32;

/** Register and cache tiles. */
export interface ProductTiles {
  /** Rows of the register tile. */
  readonly rows: number;
  /** Vectors per row of the register tile. */
  readonly vectors: number;
  /** Rows and columns of the block that one grid item computes; multiples of the tile. */
  readonly blockRows: number;
  readonly blockColumns: number;
  /** Steps along k of the slices that stay in cache. */
  readonly blockDepth: number;
}

/** Tiles for a target: fill the registers, keep a panel of b in the first-level cache. */
export function chooseTiles(sizes: ProductSizes, target: Target, dtype: DType): ProductTiles {
  const lanes = Math.max(1, target.vectorBytes / (dtype === 'float64' ? 8 : 4));
  const { rows, vectors } = registerTileFor(target);
  const width = vectors * lanes;
  const perItem = (size: number, tile: number, limit: number): number => {
    const tiles = Math.ceil(size / tile);
    const most = Math.max(1, Math.floor(limit / tile));
    // Equal blocks: 5 tiles in blocks of at most 4 become 3 and 2, not 4 and 1.
    return Math.ceil(tiles / Math.ceil(tiles / most)) * tile;
  };
  let blockRows = perItem(sizes.m, rows, 64);
  let blockColumns = perItem(sizes.n, width, 96);
  const items = (): number =>
    sizes.batch * Math.ceil(sizes.m / blockRows) * Math.ceil(sizes.n / blockColumns);
  // Enough items to share among threads; decided by shape alone, so results do not depend on it.
  while (items() < 16 && (blockRows > 2 * rows || blockColumns > 2 * width)) {
    if (blockRows / rows >= blockColumns / width) {
      blockRows = perItem(sizes.m, rows, Math.max(rows, blockRows / 2));
    } else blockColumns = perItem(sizes.n, width, Math.max(width, blockColumns / 2));
  }
  // A slice of a panel of b takes half of the first-level cache: all rows of the block pass by it.
  const inHalf = target.cacheBytes.l1 / 2 / (width * (dtype === 'float64' ? 8 : 4));
  const blockDepth = Math.min(sizes.k, roundUp(inHalf, SLICE_UNIT));
  return { rows, vectors, blockRows, blockColumns, blockDepth };
}

/**
 * The register tile with the most arithmetic per load that does not spill. WebAssembly engines
 * issue a loop body's loads first, so a row of splats is live beside the accumulators; C compilers
 * fold the splat into the multiply (docs/decisions/0003-one-module-per-plan.md has the measurements).
 */
export function registerTileFor(target: Target): { rows: number; vectors: number } {
  let best = { rows: 1, vectors: 1 };
  let bestIntensity = 0;
  for (let rows = 1; rows <= 8; rows++) {
    for (let vectors = 1; vectors <= 4; vectors++) {
      const splats = target.foldsSplats ? 1 : rows;
      if (splats + vectors + rows * vectors > target.vectorRegisters) continue;
      const intensity = (rows * vectors) / (rows + vectors);
      if (intensity > bestIntensity) {
        bestIntensity = intensity;
        best = { rows, vectors };
      }
    }
  }
  return best;
}

/** The register tile for rows of `vectors` vectors: the best one that throws little of them away. */
export function tileForWidth(target: Target, vectors: number): { rows: number; vectors: number } {
  let best = { rows: 1, vectors: 1 };
  let bestValue = 0;
  for (let width = 1; width <= Math.min(vectors, 6); width++) {
    for (let rows = 1; rows <= 14; rows++) {
      const splats = target.foldsSplats ? 1 : rows;
      if (splats + width + rows * width > target.vectorRegisters) break;
      // Fewer than about ten sums in flight wait for each other; loads cost a part of a sum.
      const sums = rows * width;
      const busy = Math.min(1, sums / 10) * (sums / (sums + 0.25 * (width + rows * 0.5)));
      const used = vectors / (Math.ceil(vectors / width) * width);
      if (busy * used <= bestValue) continue;
      best = { rows, vectors: width };
      bestValue = busy * used;
    }
  }
  return best;
}

/**
 * Estimated nanoseconds of `productStages`. `packing` is how much dearer packing a and b is than copying
 * them: 1 for a matrix, more for elements that are looked for, 0 for what is packed once for many runs.
 */
export function productCost(
  sizes: ProductSizes,
  target: Target,
  packing: { readonly a: number; readonly b: number },
): number {
  const { batch, m, n, k } = sizes;
  const { rows, vectors } = registerTileFor(target);
  const width = vectors * Math.max(1, target.vectorBytes / 4);
  const wholeM = Math.ceil(m / rows) * rows;
  const wholeN = Math.ceil(n / width) * width;
  const packed = batch * (wholeM * k * packing.a + wholeN * k * packing.b);
  return (
    (batch * wholeM * wholeN * k) / (0.85 * multiplyAddsPerNanosecond(target)) +
    (packed + batch * m * n) / elementsPerNanosecond(target)
  );
}

/** Stages that compute the product: pack a, pack b, multiply. Sums run over k in order. */
export function productStages(
  contraction: ContractionContext,
  problem: ProductProblem,
  tiles: ProductTiles = chooseTiles(problem.sizes, contraction.target, problem.dtype),
): Stage[] {
  const { sizes } = problem;
  const accumulator = accumulatorOf(problem.dtype);
  const lanes = Math.max(1, contraction.target.vectorBytes / (accumulator === 'float64' ? 8 : 4));
  const width = tiles.vectors * lanes;
  const context: ProductContext = {
    contraction,
    problem,
    tiles,
    dtype: accumulator,
    type: valueTypeOf(accumulator),
    width,
    steps: sizes.k,
    stepA: tiles.rows,
    stepB: width,
    ...sharedOperands(contraction, problem),
    multiply: (builder, buffers, at) => registerTile(context, lanes, builder, buffers, at),
  };
  const { packedA, packedB } = panelsOf(context, accumulator);
  return [
    packStage(context, 'A', packedA, tiles.rows),
    packStage(context, 'B', packedB, width),
    multiplyStage(context, packedA, packedB),
  ];
}

/** How many matrices each operand has, those that are the same for every batch counted once. */
export function sharedOperands(
  contraction: ContractionContext,
  problem: ProductProblem,
): Pick<ProductContext, 'batchA' | 'batchB'> {
  const { batch } = problem.sizes;
  return {
    batchA: isShared(contraction, problem, 'A') ? 1 : batch,
    batchB: isShared(contraction, problem, 'B') ? 1 : batch,
  };
}

/** Memory for both operands in panels. */
export function panelsOf(
  context: ProductContext,
  dtype: DType,
): { readonly packedA: Scratch; readonly packedB: Scratch } {
  const { steps, stepA, stepB, batchA, batchB } = context;
  return {
    packedA: { name: 'packedA', dtype, length: batchA * panelCount(context, 'A') * steps * stepA },
    packedB: { name: 'packedB', dtype, length: batchB * panelCount(context, 'B') * steps * stepB },
  };
}

/** Panels of one matrix. */
export function panelCount({ problem, tiles, width }: ProductContext, side: 'A' | 'B'): number {
  return side === 'A'
    ? Math.ceil(problem.sizes.m / tiles.rows)
    : Math.ceil(problem.sizes.n / width);
}

/** Whether an operand is the same matrix for every batch: then it is packed once. */
function isShared(
  contraction: ContractionContext,
  problem: ProductProblem,
  side: 'A' | 'B',
): boolean {
  if (problem.sizes.batch === 1) return true;
  const kernel = contraction.newKernel('probe');
  const { builder } = kernel;
  const batch = loopIndex(builder, 'batch', problem.sizes.batch);
  const k = loopIndex(builder, 'k', problem.sizes.k);
  const along = loopIndex(builder, 'along', side === 'A' ? problem.sizes.m : problem.sizes.n);
  const value =
    side === 'A' ? problem.readA(kernel, batch, along, k) : problem.readB(kernel, batch, k, along);
  return !dependsOn(value, batch);
}

/** A product, and how its tiles are multiplied. */
export interface ProductContext {
  readonly contraction: ContractionContext;
  readonly problem: ProductProblem;
  readonly tiles: ProductTiles;
  /** dtype of the sums. */
  readonly dtype: DType;
  readonly type: ValueType;
  /** Columns of the register tile. */
  readonly width: number;
  /** Steps along k, and the elements that a panel of each operand holds for one. */
  readonly steps: number;
  readonly stepA: number;
  readonly stepB: number;
  readonly batchA: number;
  readonly batchB: number;
  /** Adds some steps of two panels to a tile of the block. */
  multiply(builder: Builder, buffers: TileBuffers, at: TilePlaces): readonly Statement[];
}

export interface TileBuffers {
  readonly packedA: Buffer;
  readonly packedB: Buffer;
  readonly block: Buffer;
}

/** Where the panels begin, the steps from and to which they are multiplied, and the tile's corner. */
export interface TilePlaces {
  readonly a: Expression;
  readonly b: Expression;
  readonly start: Expression;
  readonly end: Expression;
  readonly corner: Expression;
}

/**
 * Copies an operand into panels of `width` rows (of a) or columns (of b): element (along, k) of
 * panel p goes to ((batch * panels + p) * K + k) * width + along. Beyond the edge stand zeros.
 */
function packStage(
  context: ProductContext,
  side: 'A' | 'B',
  scratch: Scratch,
  width: number,
): Stage {
  const { contraction, problem } = context;
  const panels = panelCount(context, side);
  const { sizes } = problem;
  const batch = side === 'A' ? context.batchA : context.batchB;
  const kernel = contraction.newKernel(`${contraction.name}_pack${side}`);
  const { builder } = kernel;
  const packed = kernel.scratch(scratch, 'write');
  const limit = side === 'A' ? sizes.m : sizes.n;
  // Neighbouring panels share cache lines of a row-major b: one item packs several of them.
  const group = side === 'B' ? Math.min(4, panels) : 1;
  const groups = Math.ceil(panels / group);
  const grid = loopIndex(builder, 'item', batch * groups);
  const batchIndex = builder.div(grid, builder.constant(groups));
  const item = builder.rem(grid, builder.constant(groups));

  /** Copies the item's panels for one k; at the edge some are missing or end in zeros. */
  const copyAll = (atEdge: boolean): Statement => {
    const k = loopIndex(builder, 'k', sizes.k);
    const read = (position: Expression): Expression =>
      builder.convert(
        side === 'A'
          ? problem.readA(kernel, batchIndex, position, k)
          : problem.readB(kernel, batchIndex, k, position),
        context.type,
      );
    const copyPanel = (member: Expression): Statement[] => {
      const panel = builder.add(builder.scale(item, group), member);
      const start = builder.scale(
        builder.add(builder.scale(batchIndex, panels), panel),
        sizes.k * width,
      );
      const target = builder.add(start, builder.scale(k, width));
      const copy = (along: Expression): Statement => {
        const position = builder.add(builder.scale(panel, width), along);
        const index = builder.add(target, along);
        if (!atEdge) return { kind: 'store', buffer: packed, index, value: read(position) };
        const value = builder.select(
          builder.compare('lt', position, builder.constant(limit)),
          read(builder.min(position, builder.constant(limit - 1))),
          builder.constant(0, context.type),
        );
        return { kind: 'store', buffer: packed, index, value };
      };
      // A few scalars in a row: where each comes from is then found once, outside the loop over k.
      if (side === 'A' && !atEdge) {
        return Array.from({ length: width }, (_, along) => copy(builder.constant(along)));
      }
      const along = loopIndex(builder, 'along', width);
      const whole = loop(builder, along, width, [copy(along)], true);
      const exists = builder.compare('lt', panel, builder.constant(panels));
      return [exists.kind === 'constant' ? whole : branch(exists, [whole])];
    };
    const member = loopIndex(builder, 'panel', group);
    const panelsOfItem =
      group === 1
        ? copyPanel(builder.constant(0))
        : [loop(builder, member, group, copyPanel(member))];
    return loop(builder, k, sizes.k, panelsOfItem);
  };

  const layout = layoutOf(problem, kernel, side, batchIndex);
  const transposed =
    side === 'B' && layout !== null && layout.depth === 1 && layout.along !== 1
      ? transposedCopy(builder, layout, {
          buffer: packed,
          width,
          depth: sizes.k,
          lanes: width / context.tiles.vectors,
          count: group,
          first: (member) => builder.scale(builder.add(builder.scale(item, group), member), width),
          start: (member) =>
            builder.scale(
              builder.add(
                builder.scale(batchIndex, panels),
                builder.add(builder.scale(item, group), member),
              ),
              sizes.k * width,
            ),
        })
      : null;
  const inside = Math.floor(limit / (width * group));
  const isInside = builder.compare('lt', item, builder.constant(inside));
  const whole = (): readonly Statement[] => transposed ?? [copyAll(false)];
  const body: readonly Statement[] =
    inside === groups
      ? whole()
      : inside === 0
        ? [copyAll(true)]
        : [branch(isInside, whole(), [copyAll(true)])];
  return kernel.finish(grid, batch * groups, body);
}

/** One grid item computes one block of one product: all depth slices, then the epilogue. */
export function multiplyStage(
  context: ProductContext,
  scratchA: Scratch,
  scratchB: Scratch,
): Stage {
  const { contraction, problem, tiles, dtype, width } = context;
  const panelsA = panelCount(context, 'A');
  const panelsB = panelCount(context, 'B');
  const { sizes } = problem;
  const kernel = contraction.newKernel(`${contraction.name}_multiply`);
  const { builder } = kernel;
  const packedA = kernel.scratch(scratchA, 'read');
  const packedB = kernel.scratch(scratchB, 'read');
  const cells = tiles.blockRows * tiles.blockColumns;
  const block = kernel.privateArray('block', dtype, cells);
  const blocksM = Math.ceil(sizes.m / tiles.blockRows);
  const blocksN = Math.ceil(sizes.n / tiles.blockColumns);
  const perBatch = blocksM * blocksN;
  const grid = loopIndex(builder, 'item', sizes.batch * perBatch);
  const batch = builder.div(grid, builder.constant(perBatch));
  const within = builder.rem(grid, builder.constant(perBatch));
  // What is left to a thread is a part of the larger operand and all of the smaller one.
  const inner = sizes.n > sizes.m ? blocksM : blocksN;
  const [outer, along] = [
    builder.div(within, builder.constant(inner)),
    builder.rem(within, builder.constant(inner)),
  ];
  const [blockM, blockN] = sizes.n > sizes.m ? [along, outer] : [outer, along];

  const firstPanelA = builder.scale(blockM, tiles.blockRows / tiles.rows);
  const firstPanelB = builder.scale(blockN, tiles.blockColumns / width);
  const panel = (
    batches: number,
    panels: number,
    first: Expression,
    tile: Expression,
  ): Expression =>
    builder.add(
      batches === 1 ? builder.constant(0) : builder.scale(batch, panels),
      // Never less: the loops end at the last panel. It tells the bounds of what is read.
      builder.min(builder.add(first, tile), builder.constant(panels - 1)),
    );
  const multiply = multiplySlices(
    context,
    builder,
    { packedA, packedB, block },
    {
      rows: bounded(builder, firstPanelA, tiles.blockRows / tiles.rows, panelsA),
      columns: bounded(builder, firstPanelB, tiles.blockColumns / width, panelsB),
      a: (row) => panel(context.batchA, panelsA, firstPanelA, row),
      b: (column) => panel(context.batchB, panelsB, firstPanelB, column),
    },
  );

  const row = loopIndex(builder, 'row', tiles.blockRows);
  const column = loopIndex(builder, 'column', tiles.blockColumns);
  const firstRow = builder.scale(blockM, tiles.blockRows);
  const firstColumn = builder.scale(blockN, tiles.blockColumns);
  const value = builder.load(block, builder.add(builder.scale(row, tiles.blockColumns), column));
  const finish = problem.store(
    kernel,
    batch,
    builder.add(firstRow, row),
    builder.add(firstColumn, column),
    value,
  );
  const zero = builder.constant(0);
  const lastRow = bounded(builder, firstRow, tiles.blockRows, sizes.m);
  const lastColumn = bounded(builder, firstColumn, tiles.blockColumns, sizes.n);
  const epilogue = loopBetween(row, zero, lastRow, [
    loopBetween(column, zero, lastColumn, finish, true),
  ]);
  return kernel.finish(grid, sizes.batch * perBatch, [...multiply, epilogue]);
}

/** The register tiles of a block: how many there are, and the panels they multiply. */
interface BlockPanels {
  readonly rows: Expression;
  readonly columns: Expression;
  a(row: Expression): Expression;
  b(column: Expression): Expression;
}

/** Clears the block and adds every depth slice of every register tile to it. */
function multiplySlices(
  context: ProductContext,
  builder: Builder,
  buffers: TileBuffers,
  panels: BlockPanels,
): readonly Statement[] {
  const { tiles, width, type, steps } = context;
  const cells = tiles.blockRows * tiles.blockColumns;
  const clear = loopIndex(builder, 'clear', cells);
  const clearing = loop(
    builder,
    clear,
    cells,
    [{ kind: 'store', buffer: buffers.block, index: clear, value: builder.constant(0, type) }],
    true,
  );
  const slices = Math.ceil(steps / tiles.blockDepth);
  const slice = loopIndex(builder, 'slice', slices);
  const column = loopIndex(builder, 'tileColumn', tiles.blockColumns / width);
  const row = loopIndex(builder, 'tileRow', tiles.blockRows / tiles.rows);
  const start = builder.scale(slice, tiles.blockDepth);
  const end =
    steps % tiles.blockDepth === 0
      ? builder.offset(start, tiles.blockDepth)
      : builder.min(builder.offset(start, tiles.blockDepth), builder.constant(steps));
  const corner = builder.add(
    builder.scale(row, tiles.rows * tiles.blockColumns),
    builder.scale(column, width),
  );
  const b = builder.scale(panels.b(column), steps * context.stepB);
  const body = context.multiply(builder, buffers, {
    a: builder.scale(panels.a(row), steps * context.stepA),
    b,
    start,
    end,
    corner,
  });
  const zero = builder.constant(0);
  // The panel of b stays in the first-level cache while the rows of the block pass by.
  const ahead = prefetchNextPanel(context, builder, buffers.packedB, {
    from: builder.add(b, builder.scale(start, context.stepB)),
    row,
  });
  const allRows = loopBetween(row, zero, panels.rows, [...ahead, ...body]);
  const allColumns = loopBetween(column, zero, panels.columns, [allRows]);
  return [clearing, loop(builder, slice, slices, [allColumns])];
}

/**
 * Memory is told, a part with every tile of rows, of the slice of the next panel of b: what a tile takes
 * is long enough for its part to come.
 */
function prefetchNextPanel(
  { contraction, tiles, steps, stepB, problem }: ProductContext,
  builder: Builder,
  packedB: Buffer,
  at: { readonly from: Expression; readonly row: Expression },
): readonly Statement[] {
  const { target } = contraction;
  const { n, k } = problem.sizes;
  if (!isWorthPrefetching(target, 4 * n * k)) return [];
  const line = CACHE_LINE / byteSize(packedB.dtype);
  const lines = Math.ceil((tiles.blockDepth * stepB) / line);
  const part = Math.ceil(lines / (tiles.blockRows / tiles.rows));
  const which = loopIndex(builder, 'line', part);
  const number = builder.add(builder.scale(at.row, part), which);
  const index = builder.add(builder.offset(at.from, steps * stepB), builder.scale(number, line));
  return [loop(builder, which, part, [{ kind: 'prefetch', buffer: packedB, index }])];
}

/** rows x vectors named accumulators: loaded from the block, summed over k, stored back. */
function registerTile(
  context: ProductContext,
  lanes: number,
  builder: Builder,
  buffers: TileBuffers,
  at: TilePlaces,
): readonly Statement[] {
  const { tiles, type, width, steps } = context;
  const { target } = context.contraction;
  const before: Statement[] = [];
  const inner: Statement[] = [];
  const after: Statement[] = [];
  const k = builder.variable('k', 'i32', { min: 0, max: steps - 1 });
  const fromB: Variable[] = [];
  for (let v = 0; v < tiles.vectors; v++) {
    const index = builder.offset(builder.add(at.b, builder.scale(k, width)), v * lanes);
    const variable = builder.variable(`b${v}`, type, { lanes });
    fromB.push(variable);
    inner.push({ kind: 'let', variable, value: builder.load(buffers.packedB, index, lanes) });
  }
  for (let row = 0; row < tiles.rows; row++) {
    const index = builder.offset(builder.add(at.a, builder.scale(k, tiles.rows)), row);
    const a = builder.variable(`a${row}`, type, { lanes });
    const scalar = builder.load(buffers.packedA, index);
    inner.push({ kind: 'let', variable: a, value: builder.splat(scalar, lanes) });
    for (let v = 0; v < tiles.vectors; v++) {
      const cell = builder.offset(at.corner, row * tiles.blockColumns + v * lanes);
      const sum = builder.variable(`sum${row}_${v}`, type, { lanes, mutable: true });
      before.push({
        kind: 'declare',
        variable: sum,
        value: builder.load(buffers.block, cell, lanes),
      });
      const b = fromB[v] as Variable;
      const value = multiplyAdd(builder, target, a, b, sum);
      inner.push({ kind: 'assign', variable: sum, value });
      after.push({ kind: 'store', buffer: buffers.block, index: cell, value: sum });
    }
  }
  return [...before, loopBetween(k, at.start, at.end, inner), ...after];
}
