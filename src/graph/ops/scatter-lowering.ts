// Loops that join values at computed positions, always in the same order.
import type { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
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
  /** The index for row `along` and column `indices` of the values. */
  readIndex: (indices: readonly Expression[]) => Expression,
): KernelBody {
  const { builder } = context;
  const { outer, axisSize, inner } = splitAtAxis(node.shape, axis);
  const fitting = Math.floor(SCRATCH_ELEMENTS / Math.max(axisSize, 1));
  const columns = Math.max(1, Math.min(inner, COLUMNS, fitting));
  const blocks = Math.ceil(inner / columns);
  const gridSize = outer * blocks;
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const divisor = builder.constant(Math.max(blocks, 1));
  const before = unflatten(builder, builder.div(item, divisor), node.shape.slice(0, axis));
  const first = builder.scale(builder.rem(item, divisor), columns);
  const wide = node.dtype === 'float16' || node.dtype === 'bfloat16' ? 'float32' : node.dtype;
  const totals = context.scratch('totals', wide, Math.max(axisSize * columns, 1));

  const overColumns = (
    body: (column: Expression, after: readonly Expression[]) => readonly Statement[],
    vector: boolean,
  ): Statement[] => {
    const after = (column: Expression): Expression[] =>
      unflatten(builder, builder.add(first, column), node.shape.slice(axis + 1));
    return partialLoop(builder, 'column', columns, inner, first, vector, (column) =>
      body(column, after(column)),
    );
  };
  const place = (row: Expression, column: Expression): Expression =>
    builder.add(builder.scale(row, columns), column);

  const initial = builder.constant(meeting.initial, valueTypeOf(wide));
  const body: Statement[] = [
    ...loop(
      builder,
      'slot',
      axisSize * columns,
      (index) => [{ kind: 'store', buffer: totals, index, value: initial }],
      { vector: true },
    ),
    ...loop(builder, 'row', count, (row) =>
      overColumns((column, after) => {
        const at = [...before, row, ...after];
        const target = builder.variable('target', 'i32', {
          min: 0,
          max: Math.max(axisSize - 1, 0),
        });
        const value = clampIndex(builder, readIndex(at), axisSize);
        const index = place(target, column);
        const known = builder.load(totals, index);
        const joined = meeting.combine(builder, known, context.read(0, at));
        return [
          { kind: 'let', variable: target, value },
          { kind: 'store', buffer: totals, index, value: joined },
        ];
      }, false),
    ),
    ...loop(builder, 'result', axisSize, (row) =>
      overColumns(
        (column, after) =>
          context.write([...before, row, ...after], builder.load(totals, place(row, column))),
        true,
      ),
    ),
  ];
  return { gridIndex: item, gridSize, body };
}

/** Columns that one grid item of `lowerAddRows` takes. */
const ROW_COLUMNS = 256;

/**
 * Adds whole rows at a one-dimensional index (input 1). A grid item owns a block of rows and columns
 * of the result in scratch, goes through the index and adds what falls into its block.
 */
export function lowerAddRows(
  context: KernelContext,
  node: Node,
  axis: number,
  count: number,
): KernelBody {
  const { builder } = context;
  const { outer, axisSize, inner } = splitAtAxis(node.shape, axis);
  const columns = Math.max(1, Math.min(inner, ROW_COLUMNS));
  const rows = Math.max(1, Math.min(axisSize, Math.floor(ROW_SCRATCH_ELEMENTS / columns)));
  const grid = [outer, Math.ceil(axisSize / rows), Math.ceil(inner / columns)];
  const gridSize = grid.reduce((a, b) => a * b, 1);
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const [slice, rowBlock, columnBlock] = unflatten(builder, item, grid) as [
    Expression,
    Expression,
    Expression,
  ];
  const before = unflatten(builder, slice, node.shape.slice(0, axis));
  const firstRow = builder.scale(rowBlock, rows);
  const firstColumn = builder.scale(columnBlock, columns);
  const wide = node.dtype === 'float16' || node.dtype === 'bfloat16' ? 'float32' : node.dtype;
  const totals = context.scratch('totals', wide, rows * columns);

  const overColumns = (
    body: (column: Expression, after: readonly Expression[]) => readonly Statement[],
  ): Statement[] =>
    partialLoop(builder, 'column', columns, inner, firstColumn, true, (column) =>
      body(
        column,
        unflatten(builder, builder.add(firstColumn, column), node.shape.slice(axis + 1)),
      ),
    );
  const place = (row: Expression, column: Expression): Expression =>
    builder.add(builder.scale(row, columns), column);

  const add = (row: Expression): Statement[] => {
    const target = builder.variable('target');
    const own = builder.variable('own', 'i32', { min: 0, max: rows - 1 });
    const index = clampIndex(builder, context.read(1, [row]), axisSize);
    const addRow: Statement[] = [
      { kind: 'let', variable: own, value: target },
      ...overColumns((column, after) => {
        const slot = place(own, column);
        const value = builder.add(
          builder.load(totals, slot),
          context.read(0, [...before, row, ...after]),
        );
        return [{ kind: 'store', buffer: totals, index: slot, value }];
      }),
    ];
    const low = builder.compare('ge', target, builder.constant(0));
    const high = builder.compare('lt', target, builder.constant(rows));
    return [
      { kind: 'let', variable: target, value: builder.sub(index, firstRow) },
      ...(rows >= axisSize ? addRow : [branch(builder.and(low, high), addRow)]),
    ];
  };
  const value = builder.constant(0, valueTypeOf(wide));
  const clear = (index: Expression): Statement[] => [
    { kind: 'store', buffer: totals, index, value },
  ];
  const body: Statement[] = [
    ...loop(builder, 'slot', rows * columns, clear, { vector: true }),
    ...loop(builder, 'row', count, add),
    ...partialLoop(builder, 'result', rows, axisSize, firstRow, false, (row) =>
      overColumns((column, after) =>
        context.write(
          [...before, builder.add(firstRow, row), ...after],
          builder.load(totals, place(row, column)),
        ),
      ),
    ),
  ];
  return { gridIndex: item, gridSize, body };
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
