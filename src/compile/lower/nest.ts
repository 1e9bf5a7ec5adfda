// Loop nests and their distribution over the parallel grid. Everything depends on sizes alone, never
// on the number of threads: the same work is done in the same order everywhere.
import type { Builder } from '../../ir/builder.ts';
import type { Expression, Variable } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Axis } from './axes.ts';
import { unflatten } from './indexing.ts';

/** Work of one grid item at least, in additions: below, meeting costs more than it saves. */
const GRAIN = 16_384;
/** Grid items at most: enough to share evenly among threads. */
const MOST_ITEMS = 48;
/** Pieces of a split innermost loop are multiples of this, so that vectors and cache lines fit. */
const PIECE = 64;

export interface Nest {
  readonly gridIndex: Variable;
  readonly gridSize: number;
  /** What stands for the index variables of the axes inside the nest. */
  readonly replaced: ReadonlyMap<Expression, Expression>;
  /** The loops around `body`, in which the variables have been replaced. */
  wrap(body: readonly Statement[]): readonly Statement[];
}

export interface NestOptions {
  /** Arithmetic of the whole iteration space, to choose the number of grid items. */
  readonly work: number;
  /** Whether the innermost loop runs in vectors. */
  readonly vector: boolean;
  /** Pieces into which the innermost loop may be split are multiples of this. */
  readonly piece?: number;
}

/** Grid items worth having for so much work. */
export function itemsFor(work: number): number {
  return Math.max(1, Math.min(MOST_ITEMS, Math.floor(work / GRAIN)));
}

/** One loop of the nest, or a part of the grid. */
interface Level {
  readonly variable: Variable;
  readonly size: number;
}

/** Loops over `axes`, outer to inner, and the grid over the outer ones. */
export function planNest(builder: Builder, axes: readonly Axis[], options: NestOptions): Nest {
  const replaced = new Map<Expression, Expression>();
  const levels = axes.map((axis): Level => {
    const last = axis.variables.at(-1) as Variable;
    if (axis.variables.length === 1) return { variable: last, size: axis.size };
    for (const variable of axis.variables) replaced.set(variable, builder.constant(0));
    const bounds = { min: 0, max: axis.size - 1 };
    const variable = builder.variable(last.name, 'i32', bounds);
    replaced.set(last, variable);
    return { variable, size: axis.size };
  });
  return distribute(builder, levels, replaced, options);
}

function distribute(
  builder: Builder,
  levels: readonly Level[],
  replaced: Map<Expression, Expression>,
  options: NestOptions,
): Nest {
  const items = itemsFor(options.work);
  if (items === 1 || levels.length === 0) return serial(builder, levels, replaced, options);
  let prefix = 0;
  let rows = 1;
  while (prefix < levels.length - 1 && rows < items) rows *= (levels[prefix++] as Level).size;
  return rows >= items
    ? overRows(builder, levels, prefix, rows, items, replaced, options)
    : overPieces(builder, levels, rows, items, replaced, options);
}

function loop(
  builder: Builder,
  level: Level,
  body: readonly Statement[],
  vector: boolean,
  range: { readonly start: Expression; readonly end: Expression } = {
    start: builder.constant(0),
    end: builder.constant(level.size),
  },
): Statement[] {
  const { start, end } = range;
  return [{ kind: 'for', index: level.variable, start, end, step: 1, body, vector }];
}

function loops(
  builder: Builder,
  levels: readonly Level[],
  body: readonly Statement[],
  vector: boolean,
): readonly Statement[] {
  let result = body;
  for (let i = levels.length - 1; i >= 0; i--) {
    const innermost = i === levels.length - 1;
    result = loop(builder, levels[i] as Level, result, vector && innermost);
  }
  return result;
}

/** Everything in one grid item. */
function serial(
  builder: Builder,
  levels: readonly Level[],
  replaced: Map<Expression, Expression>,
  { vector }: NestOptions,
): Nest {
  return {
    gridIndex: builder.variable('item', 'i32', { min: 0, max: 0 }),
    gridSize: 1,
    replaced,
    wrap: (body) => loops(builder, levels, body, vector),
  };
}

/** The first `prefix` loops become rows, of which every grid item takes some. */
function overRows(
  builder: Builder,
  levels: readonly Level[],
  prefix: number,
  rows: number,
  items: number,
  replaced: Map<Expression, Expression>,
  { vector }: NestOptions,
): Nest {
  const chunk = Math.ceil(rows / items);
  const gridSize = Math.ceil(rows / chunk);
  const gridIndex = builder.variable('item', 'i32', { min: 0, max: gridSize - 1 });
  const outer = levels.slice(0, prefix);
  const inner = levels.slice(prefix);
  // A single loop keeps its variable; several are found from the row's number.
  const single = outer.length === 1 && chunk > 1 ? (outer[0] as Level) : undefined;
  const row =
    single?.variable ??
    (chunk === 1 ? gridIndex : builder.variable('row', 'i32', { min: 0, max: rows - 1 }));
  if (single === undefined) replaceByRow(builder, outer, row, replaced);
  const wrap = (body: readonly Statement[]): readonly Statement[] => {
    const nested = loops(builder, inner, body, vector);
    if (chunk === 1) return nested;
    const start = builder.scale(gridIndex, chunk);
    const full = builder.offset(start, chunk);
    const end = rows % chunk === 0 ? full : builder.min(full, builder.constant(rows));
    return loop(builder, { variable: row, size: rows }, nested, false, { start, end });
  };
  return { gridIndex, gridSize, replaced, wrap };
}

/** Splits the innermost loop into pieces: a grid item is one piece of one row. */
function overPieces(
  builder: Builder,
  levels: readonly Level[],
  rows: number,
  items: number,
  replaced: Map<Expression, Expression>,
  { vector, piece = PIECE }: NestOptions,
): Nest {
  const innermost = levels[levels.length - 1] as Level;
  const wanted = Math.ceil(items / rows);
  const length = Math.ceil(innermost.size / wanted / piece) * piece;
  const pieces = Math.ceil(innermost.size / length);
  const gridSize = rows * pieces;
  const gridIndex = builder.variable('item', 'i32', { min: 0, max: gridSize - 1 });
  const outer = levels.slice(0, -1);
  const row = builder.div(gridIndex, builder.constant(pieces));
  replaceByRow(builder, outer, row, replaced);
  const start = builder.scale(builder.rem(gridIndex, builder.constant(pieces)), length);
  const full = builder.offset(start, length);
  const end =
    innermost.size % length === 0 ? full : builder.min(full, builder.constant(innermost.size));
  return {
    gridIndex,
    gridSize,
    replaced,
    wrap: (body) => loop(builder, innermost, body, vector, { start, end }),
  };
}

/** The variables of `levels` as expressions of the number of the row they make up. */
function replaceByRow(
  builder: Builder,
  levels: readonly Level[],
  row: Expression,
  replaced: Map<Expression, Expression>,
): void {
  const indices = unflatten(
    builder,
    row,
    levels.map(({ size }) => size),
  );
  const byVariable = new Map(levels.map(({ variable }, i) => [variable, indices[i] as Expression]));
  levels.forEach(({ variable }, i) => replaced.set(variable, indices[i] as Expression));
  // Axes that run as one were replaced by their loop's variable before.
  for (const [key, value] of replaced) {
    const index = value.kind === 'variable' ? byVariable.get(value) : undefined;
    if (index !== undefined) replaced.set(key, index);
  }
}
