// Products of a few rows with a matrix whose columns run along k in memory, as x @ weight.T: every
// result is a dot product of two contiguous rows, so that b is read once, in order, by whole vectors,
// and never copied. Sums run per vector lane.
import { internalError } from '../../base/errors.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import { branch, type Statement, type Target } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionSchedule } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import type { Stage } from '../lower/kernel-builder.ts';
import {
  bounded,
  ENOUGH_ITEMS,
  joinLanes,
  loop,
  loopBetween,
  loopIndex,
  multiplyAdd,
  roundUp,
} from './loops.ts';
import { matmulProblem } from './matmul.ts';
import {
  accumulatorOf,
  type Layout,
  layoutOf,
  type ProductProblem,
  type ProductSizes,
  layoutsOf,
} from './product-problem.ts';

/** Rows of a at most: a grid item holds the results of all of them. */
const MOST_ROWS = 128;
/** Columns of one grid item at most. */
const COLUMNS = 64;

/**
 * Steps of k between two visits of a tile, so that the rows and columns of an item stay in the first-level
 * cache meanwhile; longer sums lie in memory as vectors, of so many bytes at most.
 */
const SLICE = 512;
const PARTIAL_BYTES = 64 * 1024;

/** Dot products that run side by side: rows of a by columns of b. */
interface DotTile {
  readonly rows: number;
  readonly columns: number;
  /** In multiply-adds of vectors, for one vector of k and all results. */
  readonly cost: number;
}

function tileFor({ m, n }: ProductSizes, target: Target): DotTile {
  let best: DotTile = { rows: 1, columns: 1, cost: Infinity };
  const step = (rows: number, columns: number): number =>
    rows === 0 || columns === 0 ? 0 : Math.max(rows * columns, 8) + 0.1 * (rows + columns);
  for (let rows = 1; rows <= Math.min(m, 8); rows++) {
    for (let columns = 1; columns <= Math.min(n, 8); columns++) {
      // One column's vector is loaded after the other.
      if (rows * columns + rows + 1 > target.vectorRegisters) break;
      const down = (width: number): number =>
        Math.floor(m / rows) * step(rows, width) + step(m % rows, width);
      const cost = Math.floor(n / columns) * down(columns) + down(n % columns);
      if (cost < best.cost) best = { rows, columns, cost };
    }
  }
  return best;
}

/** Products with transposed matrices, as dot products. */
export const dotProduct: ContractionSchedule = {
  name: 'dot product',
  reproducible: false,
  usable: (context) => {
    const { node, target } = context;
    if (node.op.lower.kind !== 'matmul' || target.workgroups || target.vectorBytes < 16) {
      return false;
    }
    // Sums run per vector lane: not the same on every width, so not in strict numerics.
    if (target.numerics !== 'fast' || accumulatorOf(node.dtype) !== 'float32') return false;
    const problem = matmulProblem(node);
    const { m, n, k } = problem.sizes;
    if (m < 2 || m > MOST_ROWS || n < 2 || k < target.vectorBytes / 4) return false;
    const strides = layoutsOf(context, problem);
    return strides !== null && strides.a.depth === 1 && strides.b.depth === 1;
  },
  cost: ({ node, target }) => {
    const { sizes } = matmulProblem(node);
    const { batch, m, n, k } = sizes;
    const lanes = target.vectorBytes / 4;
    const steps = Math.ceil(k / lanes);
    // Adding the lanes of a sum takes some ten instructions.
    const joining = batch * m * n * 5 * lanes;
    const multiplying = batch * tileFor(sizes, target).cost * steps * lanes;
    return (
      (multiplying / 0.8 + joining) / multiplyAddsPerNanosecond(target) +
      (batch * (0.5 * n * k + m * n)) / elementsPerNanosecond(target)
    );
  },
  lower: (context) => [dotStage(context, matmulProblem(context.node))],
};

interface Plan {
  readonly context: ContractionContext;
  readonly builder: Builder;
  readonly sizes: ProductSizes;
  readonly lanes: number;
  readonly a: Layout;
  readonly b: Layout;
  /** Results of one grid item, in rows of `width`. */
  readonly block: Buffer;
  readonly width: number;
  /** Their sums so far, a vector each, where k goes in slices; and which slice of how many it is. */
  readonly partials: Buffer | null;
  readonly slice: Variable;
  readonly slices: number;
}

/** Grid items: (batch, columns). Each computes all rows of its columns, then runs the epilogue. */
function dotStage(context: ContractionContext, problem: ProductProblem): Stage {
  const { sizes } = problem;
  const { m, n } = sizes;
  const kernel = context.newKernel(`${context.name}_dots`);
  const { builder } = kernel;
  const tile = tileFor(sizes, context.target);
  const lanes = context.target.vectorBytes / 4;
  const slices = sizes.k > SLICE + SLICE / 2 ? Math.ceil(sizes.k / SLICE) : 1;
  const most = slices > 1 ? PARTIAL_BYTES / (m * context.target.vectorBytes) : COLUMNS;
  const perItem = Math.min(COLUMNS, Math.ceil((n * sizes.batch) / ENOUGH_ITEMS), n);
  const width = Math.max(
    tile.columns,
    Math.min(roundUp(perItem, tile.columns), Math.floor(most / tile.columns) * tile.columns),
  );
  const blocks = Math.ceil(n / width);
  const grid = loopIndex(builder, 'item', sizes.batch * blocks);
  const batch = builder.div(grid, builder.constant(blocks));
  const blockN = builder.rem(grid, builder.constant(blocks));
  const a = layoutOf(problem, kernel, 'A', batch);
  const b = layoutOf(problem, kernel, 'B', batch);
  if (a === null || b === null) throw internalError('dot products of what is not in memory');
  const block = kernel.privateArray('dots', 'float32', m * width);
  const partials =
    slices > 1 ? kernel.privateArray('partials', 'float32', m * width * lanes) : null;
  const slice = loopIndex(builder, 'slice', slices);
  const plan: Plan = {
    context,
    builder,
    sizes,
    lanes,
    a,
    b,
    block,
    width,
    partials,
    slice,
    slices,
  };
  const first = builder.scale(blockN, width);
  const exist = bounded(builder, first, width, n);
  const row = loopIndex(builder, 'row', m);
  const column = loopIndex(builder, 'column', width);
  const value = builder.load(block, builder.add(builder.scale(row, width), column));
  const stores = problem.store(kernel, batch, row, builder.add(first, column), value);
  return kernel.finish(grid, sizes.batch * blocks, [
    loop(builder, slice, slices, blockOfDots(plan, tile, first, exist)),
    loop(builder, row, m, [loopBetween(column, builder.constant(0), exist, stores, true)]),
  ]);
}

/** All dot products of the `exist` columns from `first` on. */
function blockOfDots(
  plan: Plan,
  tile: DotTile,
  first: Expression,
  exist: Expression,
): readonly Statement[] {
  const { builder, width, sizes } = plan;
  const { rows, columns } = tile;
  const left = sizes.n % width;
  const zero = builder.constant(0);
  /** The tiles of `high` rows: all of them read the same rows of a, which stay nearest by. */
  const across = (high: number, row: Expression): readonly Statement[] => {
    const dots = (wide: number, unit: Expression, inBlock: Expression): readonly Statement[] => {
      const column = builder.add(first, inBlock);
      return dotTile(plan, { rows: high, columns: wide }, { row, unit, inBlock, column });
    };
    const panel = loopIndex(builder, 'panel', width / columns);
    if (left === 0 || left >= columns) {
      // At the edge the last columns that exist are computed again: they go to the item's own block.
      const last = builder.sub(exist, builder.constant(columns));
      const at = builder.min(builder.scale(panel, columns), last);
      const count = builder.div(builder.offset(exist, columns - 1), builder.constant(columns));
      return [loopBetween(panel, zero, count, dots(columns, panel, at))];
    }
    // The last item has fewer columns than a tile.
    const column = loopIndex(builder, 'column', width);
    const few = [loopBetween(column, zero, exist, dots(1, column, column))];
    const isWhole = builder.compare('eq', exist, builder.constant(width));
    if (isWhole.kind === 'constant') return few;
    const all = dots(columns, panel, builder.scale(panel, columns));
    return [branch(isWhole, [loop(builder, panel, width / columns, all)], few)];
  };
  const full = Math.floor(sizes.m / rows);
  const rest = sizes.m % rows;
  const row = loopIndex(builder, 'row', full);
  return [
    loop(builder, row, full, across(rows, builder.scale(row, rows))),
    ...(rest === 0 ? [] : across(rest, builder.constant(sizes.m - rest))),
  ];
}

/** Where a tile is: its first row, its number in the item, its first column there and of all. */
interface TilePlace {
  readonly row: Expression;
  readonly unit: Expression;
  readonly inBlock: Expression;
  readonly column: Expression;
}

/** The dot products of a tile: whole vectors, then the rest of k, then the sum of the lanes. */
function dotTile(
  plan: Plan,
  size: { readonly rows: number; readonly columns: number },
  { row, unit, inBlock, column }: TilePlace,
): readonly Statement[] {
  const { builder, context, lanes, a, b, partials, slice, slices } = plan;
  const { m, k: depth } = plan.sizes;
  const whole = Math.floor(depth / lanes) * lanes;
  const k = builder.variable('k', 'i32', { min: 0, max: depth - 1 });
  const at = (layout: Layout, line: Expression, i: number, step: Expression): Expression =>
    builder.add(
      layout.base,
      builder.add(builder.scale(builder.offset(line, i), layout.along), step),
    );
  const declared: Statement[] = [];
  const loaded: Statement[] = [];
  const kept: Statement[] = [];
  const body: Statement[] = [];
  const after: Statement[] = [];
  const fromA = Array.from({ length: size.rows }, (_, r) => {
    const variable = builder.variable(`a${r}`, 'f32', { lanes });
    const value = builder.load(a.buffer, at(a, row, r, k), lanes);
    body.push({ kind: 'let', variable, value });
    return variable;
  });
  for (let c = 0; c < size.columns; c++) {
    const line = builder.variable(`b${c}`, 'f32', { lanes });
    const value = builder.load(b.buffer, at(b, column, c, k), lanes);
    body.push({ kind: 'let', variable: line, value });
    fromA.forEach((x, r) => {
      const sum = builder.variable(`sum${r}_${c}`, 'f32', { lanes, mutable: true });
      declared.push({ kind: 'declare', variable: sum, value: builder.constant(0, 'f32', lanes) });
      if (partials !== null) {
        // By the number of the tile: where columns are computed twice, their sums are two.
        const mine = builder.offset(builder.scale(unit, size.columns), c);
        const line = builder.add(builder.scale(mine, m), builder.offset(row, r));
        const index = builder.scale(line, lanes);
        const value = builder.load(partials, index, lanes);
        loaded.push({ kind: 'assign', variable: sum, value });
        kept.push({ kind: 'store', buffer: partials, index, value: sum });
      }
      const next = multiplyAdd(builder, context.target, x, line, sum);
      body.push({ kind: 'assign', variable: sum, value: next });
      const joined = join(plan, sum, after, whole, (step, width) => [
        builder.load(a.buffer, at(a, row, r, builder.constant(step)), width),
        builder.load(b.buffer, at(b, column, c, builder.constant(step)), width),
      ]);
      const index = builder.add(
        builder.scale(builder.offset(row, r), plan.width),
        builder.offset(inBlock, c),
      );
      after.push({ kind: 'store', buffer: plan.block, index, value: joined });
    });
  }
  const start = builder.scale(slice, SLICE);
  const all = builder.constant(whole);
  const end = partials === null ? all : builder.min(builder.offset(start, SLICE), all);
  const sums: Statement = { kind: 'for', index: k, start, end, step: lanes, body };
  if (partials === null) return [...declared, sums, ...after];
  return [
    ...declared,
    branch(builder.compare('gt', slice, builder.constant(0)), loaded),
    sums,
    branch(builder.compare('lt', slice, builder.constant(slices - 1)), kept, after),
  ];
}

/** Adds up the lanes of a sum, and on the way the products from `from` to the end of k. */
function join(
  { builder, context, sizes }: Plan,
  sum: Variable,
  statements: Statement[],
  from: number,
  factors: (step: number, lanes: number) => readonly [Expression, Expression],
): Expression {
  let step = from;
  return joinLanes(builder, sum, statements, (part, name) => {
    const { lanes } = part;
    let value = part;
    if (lanes === 2) return value;
    for (; sizes.k - step >= lanes; step += lanes) {
      const [x, y] = factors(step, lanes);
      value = name(multiplyAdd(builder, context.target, x, y, value));
    }
    return value;
  });
}
