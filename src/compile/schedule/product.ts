// The matrix-product schedule, written once in the kernel IR: pack both operands into panels,
// multiply by register tiles, run the fused epilogue over a finished block. Tile sizes are
// parameters; operands and results are reached through callbacks, so that prologue and epilogue
// fuse, and a convolution is the same schedule with other callbacks.
import type { DType } from '../../base/dtype.ts';
import { Builder } from '../../ir/builder.ts';
import {
  type Buffer,
  type Expression,
  valueTypeOf,
  type ValueType,
  type Variable,
} from '../../ir/expression.ts';
import type { Kernel, Statement, Target } from '../../ir/kernel.ts';

/** Sizes of `batch` products [m, k] @ [k, n]. */
export interface ProductSizes {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Register and cache tiles. */
export interface ProductTiles {
  /** Rows of the register tile. */
  readonly rows: number;
  /** Vectors per row of the register tile. */
  readonly vectors: number;
  /** Rows and columns of the block that one grid item computes; multiples of the tile. */
  readonly blockRows: number;
  readonly blockColumns: number;
  /** Length of the slices of k that stay in cache. */
  readonly blockDepth: number;
}

/** Reads of one operand inside one kernel, as scalar expressions; indices are in range. */
export type ReadElement = (batch: Expression, row: Expression, column: Expression) => Expression;

/** Opens an operand or the result for one kernel: declares its buffers with the kernel. */
export interface ProductAccess {
  openA(builder: Builder): { read: ReadElement; buffers: readonly Buffer[] };
  openB(builder: Builder): { read: ReadElement; buffers: readonly Buffer[] };
  openResult(builder: Builder): {
    store(
      batch: Expression,
      row: Expression,
      column: Expression,
      value: Expression,
    ): readonly Statement[];
    buffers: readonly Buffer[];
  };
  /** Whether operand a (or b) is the same matrix for every batch: then it is packed once. */
  readonly sharedA: boolean;
  readonly sharedB: boolean;
}

/** The kernels of a product, in order, and the scratch they share. */
export interface ProductStages {
  readonly packA: Kernel;
  readonly packB: Kernel;
  readonly multiply: Kernel;
  /** Elements of the packed operands; buffers are the last of each pack kernel's `buffers`. */
  readonly packedA: number;
  readonly packedB: number;
}

/** The accumulator's dtype for operands of `dtype`. */
export function accumulatorOf(dtype: DType): DType {
  return dtype === 'float64' ? 'float64' : valueTypeOf(dtype) === 'f32' ? 'float32' : 'int32';
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
  return { rows, vectors, blockRows, blockColumns, blockDepth: Math.min(sizes.k, 512) };
}

/**
 * The register tile with the most arithmetic per load that does not spill. WebAssembly engines
 * issue a loop body's loads first, so a row of splats is live beside the accumulators; C compilers
 * fold the splat into the multiply (docs/decisions/0001-kernel-ir.md has the measurements).
 */
export function registerTileFor(target: Target): { rows: number; vectors: number } {
  let best = { rows: 1, vectors: 1 };
  let bestIntensity = 0;
  for (let rows = 1; rows <= 8; rows++) {
    for (let vectors = 1; vectors <= 4; vectors++) {
      const splats = target.foldsSplats ? 1 : rows + (target.fma ? 0 : 1);
      if (splats + vectors + rows * vectors > target.vectorRegisters - 1) continue;
      const intensity = (rows * vectors) / (rows + vectors);
      if (intensity > bestIntensity) {
        bestIntensity = intensity;
        best = { rows, vectors };
      }
    }
  }
  return best;
}

/** Kernels that compute the product. Sums run over k in order, whatever the tiles. */
export function productStages(
  name: string,
  sizes: ProductSizes,
  dtype: DType,
  access: ProductAccess,
  target: Target,
  tiles: ProductTiles = chooseTiles(sizes, target, dtype),
): ProductStages {
  const context: Context = {
    name,
    sizes,
    access,
    target,
    tiles,
    dtype: accumulatorOf(dtype),
    type: valueTypeOf(accumulatorOf(dtype)),
    lanes: Math.max(1, target.vectorBytes / (accumulatorOf(dtype) === 'float64' ? 8 : 4)),
  };
  const batchA = access.sharedA ? 1 : sizes.batch;
  const batchB = access.sharedB ? 1 : sizes.batch;
  const width = tiles.vectors * context.lanes;
  const panelsA = Math.ceil(sizes.m / tiles.rows);
  const panelsB = Math.ceil(sizes.n / width);
  return {
    packA: packKernel(context, 'A', batchA, panelsA, tiles.rows),
    packB: packKernel(context, 'B', batchB, panelsB, width),
    multiply: multiplyKernel(context, panelsA, panelsB),
    packedA: batchA * panelsA * sizes.k * tiles.rows,
    packedB: batchB * panelsB * sizes.k * width,
  };
}

interface Context {
  readonly name: string;
  readonly sizes: ProductSizes;
  readonly access: ProductAccess;
  readonly target: Target;
  readonly tiles: ProductTiles;
  readonly dtype: DType;
  readonly type: ValueType;
  readonly lanes: number;
}

/** A loop index over [0, count). */
function loopIndex(builder: Builder, name: string, count: number): Variable {
  return builder.variable(name, 'i32', { min: 0, max: Math.max(0, count - 1) });
}

function loop(
  builder: Builder,
  index: Variable,
  count: number,
  body: readonly Statement[],
  vector = false,
): Statement {
  return {
    kind: 'for',
    index,
    start: builder.constant(0),
    end: builder.constant(count),
    step: 1,
    body,
    vector,
  };
}

/**
 * Copies an operand into panels of `width` rows (of a) or columns (of b): element (along, k) of
 * panel p goes to ((batch * panels + p) * K + k) * width + along. Beyond the edge stand zeros.
 */
function packKernel(
  context: Context,
  side: 'A' | 'B',
  batch: number,
  panels: number,
  width: number,
): Kernel {
  const { sizes, access, dtype } = context;
  const builder = new Builder();
  const { read, buffers } = side === 'A' ? access.openA(builder) : access.openB(builder);
  const packed = builder.buffer(`packed${side}`, dtype, 'write');
  const limit = side === 'A' ? sizes.m : sizes.n;
  // Neighbouring panels share cache lines of a row-major b: one item packs several of them.
  const group = side === 'B' ? Math.min(4, panels) : 1;
  const groups = Math.ceil(panels / group);
  const grid = loopIndex(builder, 'item', batch * groups);
  const batchIndex = builder.div(grid, builder.constant(groups));
  const k = loopIndex(builder, 'k', sizes.k);
  const member = loopIndex(builder, 'panel', group);
  const panel = builder.add(
    builder.scale(builder.rem(grid, builder.constant(groups)), group),
    member,
  );
  const along = loopIndex(builder, 'along', width);
  const position = builder.add(builder.scale(panel, width), along);
  const inside = builder.compare('lt', position, builder.constant(limit));
  const safe = builder.min(position, builder.constant(limit - 1));
  const value = side === 'A' ? read(batchIndex, safe, k) : read(batchIndex, k, safe);
  const converted = builder.convert(value, context.type);
  const panelStart = builder.scale(
    builder.add(builder.scale(batchIndex, panels), panel),
    sizes.k * width,
  );
  const target = builder.add(builder.add(panelStart, builder.scale(k, width)), along);
  const store: Statement = {
    kind: 'store',
    buffer: packed,
    index: target,
    value: builder.select(inside, converted, builder.constant(0, context.type)),
  };
  const copyPanel = loop(builder, along, width, [store], true);
  const guarded: Statement =
    panels % group === 0
      ? copyPanel
      : {
          kind: 'if',
          condition: builder.compare('lt', panel, builder.constant(panels)),
          then: [copyPanel],
          otherwise: [],
        };
  return {
    name: `${context.name}_pack${side}`,
    buffers: [...buffers, packed],
    scratch: [],
    gridIndex: grid,
    gridSize: batch * groups,
    body: [loop(builder, k, sizes.k, [loop(builder, member, group, [guarded])])],
  };
}

/** One grid item computes one block of one product: all depth slices, then the epilogue. */
function multiplyKernel(context: Context, panelsA: number, panelsB: number): Kernel {
  const { sizes, tiles, access, dtype, lanes } = context;
  const builder = new Builder();
  const packedA = builder.buffer('packedA', dtype, 'read');
  const packedB = builder.buffer('packedB', dtype, 'read');
  const result = access.openResult(builder);
  const width = tiles.vectors * lanes;
  const block = builder.buffer('block', dtype, 'readwrite', {
    space: 'private',
    length: tiles.blockRows * tiles.blockColumns,
  });
  const blocksM = Math.ceil(sizes.m / tiles.blockRows);
  const blocksN = Math.ceil(sizes.n / tiles.blockColumns);
  const perBatch = blocksM * blocksN;
  const grid = loopIndex(builder, 'item', sizes.batch * perBatch);
  const batch = builder.div(grid, builder.constant(perBatch));
  const within = builder.rem(grid, builder.constant(perBatch));
  const blockM = builder.div(within, builder.constant(blocksN));
  const blockN = builder.rem(within, builder.constant(blocksN));

  const multiply = multiplySlices(context, builder, { packedA, packedB, block }, (tile) => ({
    a: builder.add(
      access.sharedA ? builder.constant(0) : builder.scale(batch, panelsA),
      builder.min(
        builder.add(builder.scale(blockM, tiles.blockRows / tiles.rows), tile.row),
        builder.constant(panelsA - 1),
      ),
    ),
    b: builder.add(
      access.sharedB ? builder.constant(0) : builder.scale(batch, panelsB),
      builder.min(
        builder.add(builder.scale(blockN, tiles.blockColumns / width), tile.column),
        builder.constant(panelsB - 1),
      ),
    ),
  }));

  const row = loopIndex(builder, 'row', tiles.blockRows);
  const column = loopIndex(builder, 'column', tiles.blockColumns);
  const firstRow = builder.scale(blockM, tiles.blockRows);
  const firstColumn = builder.scale(blockN, tiles.blockColumns);
  const value = builder.load(block, builder.add(builder.scale(row, tiles.blockColumns), column));
  const finish = result.store(
    batch,
    builder.add(firstRow, row),
    builder.add(firstColumn, column),
    value,
  );
  const bounded = (index: Variable, first: Expression, size: number, limit: number) =>
    limit % size === 0
      ? builder.constant(size)
      : builder.min(builder.constant(size), builder.sub(builder.constant(limit), first));
  const epilogue: Statement = {
    kind: 'for',
    index: row,
    start: builder.constant(0),
    end: bounded(row, firstRow, tiles.blockRows, sizes.m),
    step: 1,
    body: [
      {
        kind: 'for',
        index: column,
        start: builder.constant(0),
        end: bounded(column, firstColumn, tiles.blockColumns, sizes.n),
        step: 1,
        body: finish,
        vector: true,
      },
    ],
  };
  return {
    name: `${context.name}_multiply`,
    buffers: [packedA, packedB, ...result.buffers],
    scratch: [block],
    gridIndex: grid,
    gridSize: sizes.batch * perBatch,
    body: [...multiply, epilogue],
  };
}

/** Clears the block and adds every depth slice of every register tile to it. */
function multiplySlices(
  context: Context,
  builder: Builder,
  buffers: { packedA: Buffer; packedB: Buffer; block: Buffer },
  panelOf: (tile: { row: Variable; column: Variable }) => { a: Expression; b: Expression },
): readonly Statement[] {
  const { sizes, tiles, lanes, type } = context;
  const width = tiles.vectors * lanes;
  const cells = tiles.blockRows * tiles.blockColumns;
  const clear = loopIndex(builder, 'clear', cells);
  const clearing = loop(
    builder,
    clear,
    cells,
    [{ kind: 'store', buffer: buffers.block, index: clear, value: builder.constant(0, type) }],
    true,
  );
  const slices = Math.ceil(sizes.k / tiles.blockDepth);
  const slice = loopIndex(builder, 'slice', slices);
  const tile = {
    column: loopIndex(builder, 'tileColumn', tiles.blockColumns / width),
    row: loopIndex(builder, 'tileRow', tiles.blockRows / tiles.rows),
  };
  const panel = panelOf(tile);
  const start = builder.scale(slice, tiles.blockDepth);
  const end =
    sizes.k % tiles.blockDepth === 0
      ? builder.offset(start, tiles.blockDepth)
      : builder.min(builder.offset(start, tiles.blockDepth), builder.constant(sizes.k));
  const corner = builder.add(
    builder.scale(tile.row, tiles.rows * tiles.blockColumns),
    builder.scale(tile.column, width),
  );
  const body = registerTile(context, builder, buffers, {
    a: builder.scale(panel.a, sizes.k * tiles.rows),
    b: builder.scale(panel.b, sizes.k * width),
    start,
    end,
    corner,
  });
  return [
    clearing,
    loop(builder, slice, slices, [
      loop(builder, tile.column, tiles.blockColumns / width, [
        loop(builder, tile.row, tiles.blockRows / tiles.rows, body),
      ]),
    ]),
  ];
}

/** rows x vectors named accumulators: loaded from the block, summed over k, stored back. */
function registerTile(
  context: Context,
  builder: Builder,
  buffers: { packedA: Buffer; packedB: Buffer; block: Buffer },
  at: { a: Expression; b: Expression; start: Expression; end: Expression; corner: Expression },
): readonly Statement[] {
  const { sizes, tiles, lanes, type, target } = context;
  const width = tiles.vectors * lanes;
  const before: Statement[] = [];
  const inner: Statement[] = [];
  const after: Statement[] = [];
  const k = builder.variable('k', 'i32', { min: 0, max: sizes.k - 1 });
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
      const value =
        target.fma && (type === 'f32' || type === 'f64')
          ? builder.fma(a, b, sum)
          : builder.add(sum, builder.mul(a, b));
      inner.push({ kind: 'assign', variable: sum, value });
      after.push({ kind: 'store', buffer: buffers.block, index: cell, value: sum });
    }
  }
  return [
    ...before,
    { kind: 'for', index: k, start: at.start, end: at.end, step: 1, body: inner },
    ...after,
  ];
}
