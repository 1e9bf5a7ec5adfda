// Loops that join values at computed positions, always in the same order.
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { loop, unflatten } from './emit.ts';
import { splitAtAxis } from './reference.ts';

/** An index moved into [0, size). */
export function clampIndex(builder: Builder, index: Expression, size: number): Expression {
  const low = builder.max(index, builder.constant(0));
  return builder.min(low, builder.constant(Math.max(size - 1, 0)));
}

/** Columns that share one pass over the index. */
const COLUMNS = 64;
/** Elements of scratch that a grid item may hold, unless a single column needs more. */
const SCRATCH_ELEMENTS = 1 << 14;
/** The same where an index counts for a whole row: more rows need fewer passes over the index. */
const ROW_SCRATCH_ELEMENTS = 1 << 16;

/** How values that meet in one place are joined, and what stands where none comes. */
export interface Meeting {
  readonly initial: number;
  combine(builder: Builder, known: Expression, value: Expression): Expression;
}

export const ADDING: Meeting = {
  initial: 0,
  combine: (builder, known, value) => builder.add(known, value),
};

/** A block of rows and columns of the result that one grid item owns, in scratch. */
export interface Tile {
  readonly item: Variable;
  readonly gridSize: number;
  /** Indices before the axis. */
  readonly before: readonly Expression[];
  readonly firstRow: Expression;
  readonly totals: Buffer;
  /** A loop over the tile's columns, with the indices after the axis. */
  overColumns(
    vector: boolean,
    body: (column: Expression, after: readonly Expression[]) => readonly Statement[],
  ): Statement[];
  /** Position in scratch. */
  place(row: Expression, column: Expression): Expression;
  /** Fills scratch with a number. */
  clear(value: number): Statement[];
  /** Writes scratch to the result. */
  finish(): Statement[];
}

/**
 * Divides the result along `axis` into tiles of `rows` by `columns`, or by as many as scratch should
 * hold.
 */
export function makeTile(
  context: KernelContext,
  node: Node,
  axis: number,
  rows: number,
  wanted: number,
): Tile {
  const { builder } = context;
  const { outer, axisSize, inner } = splitAtAxis(node.shape, axis);
  const most = Math.min(inner, COLUMNS, Math.floor(SCRATCH_ELEMENTS / rows));
  const columns = wanted === Infinity ? Math.max(1, most) : wanted;
  const grid = [outer, Math.ceil(axisSize / rows), Math.ceil(inner / columns)];
  const gridSize = grid.reduce((a, b) => a * b, 1);
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const [slice, rowBlock, columnBlock] = unflatten(builder, item, grid);
  const before = unflatten(builder, slice!, node.shape.slice(0, axis));
  const firstRow = builder.scale(rowBlock!, rows);
  const firstColumn = builder.scale(columnBlock!, columns);
  const wide = node.dtype === 'float16' || node.dtype === 'bfloat16' ? 'float32' : node.dtype;
  const totals = context.scratch('totals', wide, rows * columns);
  const overColumns: Tile['overColumns'] = (vector, body) =>
    partialLoop(builder, 'column', columns, inner, firstColumn, vector, (column) => {
      const flat = builder.add(firstColumn, column);
      return body(column, unflatten(builder, flat, node.shape.slice(axis + 1)));
    });
  const place: Tile['place'] = (row, column) => builder.add(builder.scale(row, columns), column);
  const clear: Tile['clear'] = (number) => {
    const value = builder.constant(number, valueTypeOf(wide));
    const body = (index: Expression): Statement[] => [
      { kind: 'store', buffer: totals, index, value },
    ];
    return loop(builder, 'slot', rows * columns, body, { vector: true });
  };
  const finish: Tile['finish'] = () =>
    partialLoop(builder, 'result', rows, axisSize, firstRow, false, (row) =>
      overColumns(true, (column, after) => {
        const indices = [...before, builder.add(firstRow, row), ...after];
        return context.write(indices, builder.load(totals, place(row, column)));
      }),
    );
  return { item, gridSize, before, firstRow, totals, overColumns, place, clear, finish };
}

/**
 * Joins rows in scratch, one after another, so that the order is always the same; parallel over
 * what stands before the axis and over blocks of columns after it.
 */
export function lowerScatter(
  context: KernelContext,
  node: Node,
  axis: number,
  count: number,
  meeting: Meeting,
  /** The index for the value at `indices`. */
  readIndex: (indices: readonly Expression[]) => Expression,
): KernelBody {
  const { builder } = context;
  const { axisSize } = splitAtAxis(node.shape, axis);
  const rows = Math.max(axisSize, 1);
  const tile = makeTile(context, node, axis, rows, Infinity);
  const join = (row: Expression): Statement[] =>
    tile.overColumns(false, (column, after) => {
      const at = [...tile.before, row, ...after];
      const target = builder.variable('target', 'i32', { min: 0, max: rows - 1 });
      const index = tile.place(target, column);
      const known = builder.load(tile.totals, index);
      const value = meeting.combine(builder, known, context.read(0, at));
      return [
        { kind: 'let', variable: target, value: clampIndex(builder, readIndex(at), axisSize) },
        { kind: 'store', buffer: tile.totals, index, value },
      ];
    });
  const body = [
    ...tile.clear(meeting.initial),
    ...loop(builder, 'row', count, join),
    ...tile.finish(),
  ];
  return { gridIndex: tile.item, gridSize: tile.gridSize, body };
}

/** Columns that one grid item of `lowerAddRows` takes. */
const ROW_COLUMNS = 256;

/**
 * Adds whole rows at a one-dimensional index (input 1). A grid item goes through the index and adds
 * what falls into its tile.
 */
export function lowerAddRows(
  context: KernelContext,
  node: Node,
  axis: number,
  count: number,
): KernelBody {
  const { builder } = context;
  const { axisSize, inner } = splitAtAxis(node.shape, axis);
  const columns = Math.max(1, Math.min(inner, ROW_COLUMNS));
  const rows = Math.max(1, Math.min(axisSize, Math.floor(ROW_SCRATCH_ELEMENTS / columns)));
  const tile = makeTile(context, node, axis, rows, columns);
  const add = (row: Expression): Statement[] => {
    const target = builder.variable('target');
    const own = builder.variable('own', 'i32', { min: 0, max: rows - 1 });
    const addRow: Statement[] = [
      { kind: 'let', variable: own, value: target },
      ...tile.overColumns(true, (column, after) => {
        const index = tile.place(own, column);
        const term = context.read(0, [...tile.before, row, ...after]);
        const value = builder.add(builder.load(tile.totals, index), term);
        return [{ kind: 'store', buffer: tile.totals, index, value }];
      }),
    ];
    const low = builder.compare('ge', target, builder.constant(0));
    const high = builder.compare('lt', target, builder.constant(rows));
    const index = clampIndex(builder, context.read(1, [row]), axisSize);
    return [
      { kind: 'let', variable: target, value: builder.sub(index, tile.firstRow) },
      ...(rows >= axisSize ? addRow : [branch(builder.and(low, high), addRow)]),
    ];
  };
  const body = [...tile.clear(0), ...loop(builder, 'row', count, add), ...tile.finish()];
  return { gridIndex: tile.item, gridSize: tile.gridSize, body };
}

/** A loop over a block of `length` from `first`, cut off where `total` ends. */
function partialLoop(
  builder: Builder,
  name: string,
  length: number,
  total: number,
  first: Expression,
  vector: boolean,
  body: (index: Expression) => readonly Statement[],
): Statement[] {
  if (total % length === 0) return loop(builder, name, length, body, { vector });
  const index = builder.variable(name, 'i32', { min: 0, max: length - 1 });
  const end = builder.min(builder.constant(length), builder.sub(builder.constant(total), first));
  return [
    { kind: 'for', index, start: builder.constant(0), end, step: 1, body: body(index), vector },
  ];
}
