// Blocks of attention: matrices of one head in scratch, and products of them in register tiles.
// Queries lie along vectors, so that each lane does what a scalar target would, in the same order:
// results have the same bits whatever the width of vectors.
import type { DType } from '../../base/dtype.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, valueTypeOf, type ValueType } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import type { KernelContext } from '../op.ts';

/** Rows of scratch come in multiples of this, so that register tiles need no rest. */
export const ROW_UNIT = 8;
/** Columns come in multiples of the widest vector, on every target. */
export const COLUMN_UNIT = 16;

export function roundUp(size: number, unit: number): number {
  return Math.ceil(size / unit) * unit;
}

/** A matrix in scratch, row-major; `first` is where it begins. */
export interface Block {
  readonly buffer: Buffer;
  readonly width: number;
  readonly first?: Expression;
}

/** c[row, column] (+)= sum over k < depth of a[row, k] * b[k, column]. */
export interface BlockProduct {
  readonly rows: Expression;
  readonly depth: Expression;
  /** Element [row, k] of a, a scalar. */
  a(row: Expression, k: Expression): Expression;
  readonly b: Block;
  readonly c: Block;
  readonly columns: number;
  /** What sums start from, a vector; c itself if nothing is said. */
  start?(c: Expression, column: Expression): Expression;
  /** What is stored for a sum, a vector. */
  finish?(sum: Expression, row: Expression, column: Expression): Expression;
}

type Body = (index: Expression) => readonly Statement[];

/** Writes the loops of one kernel over blocks. */
export class BlockWriter {
  readonly context: KernelContext;
  readonly builder: Builder;
  readonly target: Target;
  readonly dtype: DType;
  readonly type: ValueType;
  readonly lanes: number;

  constructor(context: KernelContext, dtype: DType) {
    this.context = context;
    this.builder = context.builder;
    this.target = context.target;
    this.dtype = dtype;
    this.type = valueTypeOf(dtype);
    this.lanes = Math.max(1, this.target.vectorBytes / (dtype === 'float64' ? 8 : 4));
  }

  block(name: string, rows: number, width: number): Block {
    return { buffer: this.context.scratch(name, this.dtype, rows * width), width };
  }

  index({ width, first }: Block, row: Expression, column: Expression): Expression {
    const { builder } = this;
    const inside = builder.add(builder.scale(row, width), column);
    return first === undefined ? inside : builder.add(first, inside);
  }

  load(block: Block, row: Expression, column: Expression, lanes = 1): Expression {
    return this.builder.load(block.buffer, this.index(block, row, column), lanes);
  }

  store(block: Block, row: Expression, column: Expression, value: Expression): Statement {
    const index = this.index(block, row, column);
    return { kind: 'store', buffer: block.buffer, index, value };
  }

  number(value: number, lanes = 1): Expression {
    return this.builder.constant(value, this.type, lanes);
  }

  /** A loop over [0, end). */
  loop(
    name: string,
    end: Expression | number,
    body: Body,
    options: { readonly vector?: true } = {},
  ): Statement {
    const { builder } = this;
    const bound = typeof end === 'number' ? builder.constant(end) : end;
    const index = builder.variable(name, 'i32', { min: 0, max: Math.max(0, bound.max - 1) });
    const start = builder.constant(0);
    const { vector = false } = options;
    return { kind: 'for', index, start, end: bound, step: 1, body: body(index), vector };
  }

  /** A loop over the vectors of a row of `width`. */
  vectors(name: string, width: number, body: Body): Statement {
    const { builder, lanes } = this;
    return this.loop(name, width / lanes, (index) => body(builder.scale(index, lanes)));
  }

  fill(block: Block, rows: number, value: number): Statement {
    const size = rows * block.width;
    const zero = this.builder.constant(0);
    return this.vectors('clear', size, (at) => [
      this.store(block, zero, at, this.number(value, this.lanes)),
    ]);
  }

  /** The register tile for rows of `vectors` vectors with the most arithmetic per load. */
  #tile(vectors: number): { readonly rows: number; readonly across: number } {
    const { vectorRegisters, foldsSplats } = this.target;
    let best = { rows: 1, across: 1 };
    let most = 0;
    for (let across = 1; across <= 6; across++) {
      for (let rows = 1; rows <= ROW_UNIT; rows *= 2) {
        const splats = foldsSplats === true ? 1 : rows;
        const fits = splats + across + rows * across <= vectorRegisters;
        const intensity = (rows * across) / (rows + across);
        if (vectors % across !== 0 || !fits || intensity <= most) continue;
        best = { rows, across };
        most = intensity;
      }
    }
    return best;
  }

  product(product: BlockProduct): Statement {
    const { builder, lanes } = this;
    const tile = this.#tile(product.columns / lanes);
    const width = tile.across * lanes;
    const count = builder.div(
      builder.offset(product.rows, tile.rows - 1),
      builder.constant(tile.rows),
    );
    return this.loop('tileColumn', product.columns / width, (column) => [
      this.loop('tileRow', count, (row) =>
        this.#registers(product, tile, builder.scale(row, tile.rows), builder.scale(column, width)),
      ),
    ]);
  }

  #registers(
    { depth, a, b, c, start, finish }: BlockProduct,
    tile: { readonly rows: number; readonly across: number },
    firstRow: Expression,
    firstColumn: Expression,
  ): readonly Statement[] {
    const { builder, lanes, target, type } = this;
    const columns = Array.from({ length: tile.across }, (_, v) =>
      builder.offset(firstColumn, v * lanes),
    );
    const before: Statement[] = [];
    const after: Statement[] = [];
    const sums = Array.from({ length: tile.rows }, (_, r) => {
      const row = builder.offset(firstRow, r);
      return columns.map((column, v) => {
        const sum = builder.variable(`sum${r}_${v}`, type, { lanes, mutable: true });
        const old = this.load(c, row, column, lanes);
        const value = start === undefined ? old : start(old, column);
        before.push({ kind: 'declare', variable: sum, value });
        after.push(this.store(c, row, column, finish?.(sum, row, column) ?? sum));
        return sum;
      });
    });
    const steps = this.loop('k', depth, (k) => {
      const inner: Statement[] = [];
      const across = columns.map((column, v) => {
        const variable = builder.variable(`b${v}`, type, { lanes });
        inner.push({ kind: 'let', variable, value: this.load(b, k, column, lanes) });
        return variable;
      });
      sums.forEach((row, r) => {
        const scalar = a(builder.offset(firstRow, r), k);
        const variable = builder.variable(`a${r}`, type, { lanes });
        inner.push({ kind: 'let', variable, value: builder.splat(scalar, lanes) });
        row.forEach((sum, v) => {
          const value = target.fma
            ? builder.fma(variable, across[v]!, sum)
            : builder.add(sum, builder.mul(variable, across[v]!));
          inner.push({ kind: 'assign', variable: sum, value });
        });
      });
      return inner;
    });
    return [...before, steps, ...after];
  }
}
