// What the kernels of matrix decompositions share: one grid item for each matrix of a batch, which
// works in arrays of its own, and short words for the statements it is made of.
import type { DType } from '../../base/dtype.ts';
import { type Shape, sizeOf } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import {
  type Buffer,
  type CompareOp,
  type Expression,
  type ValueType,
  type Variable,
  valueTypeOf,
} from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import { emitReduction } from '../../ir/reduce.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { unflatten } from './emit.ts';

/** Indices and loop bounds may be plain numbers. */
export type Index = Expression | number;

/** Statements under construction for matrices of one dtype. */
export class MatrixCode {
  readonly context: KernelContext;
  readonly builder: Builder;
  readonly dtype: DType;
  readonly type: ValueType;
  /** Spacing of numbers at 1. */
  readonly epsilon: number;

  constructor(context: KernelContext, dtype: DType) {
    this.context = context;
    this.builder = context.builder;
    this.dtype = dtype;
    this.type = valueTypeOf(dtype);
    this.epsilon = dtype === 'float64' ? 2 ** -52 : 2 ** -23;
  }

  // ---- expressions ----------------------------------------------------------------------------

  number(value: number): Expression {
    return this.builder.constant(value, this.type);
  }
  index(value: Index): Expression {
    return typeof value === 'number' ? this.builder.constant(value) : value;
  }
  /** `row * width + column`. */
  place(row: Index, width: number, column: Index): Expression {
    const { builder } = this;
    return builder.add(builder.scale(this.index(row), width), this.index(column));
  }
  load(buffer: Buffer, index: Index): Expression {
    return this.builder.load(buffer, this.index(index));
  }
  add(a: Expression, b: Expression): Expression {
    return this.builder.add(a, b);
  }
  sub(a: Expression, b: Expression): Expression {
    return this.builder.sub(a, b);
  }
  mul(a: Expression, b: Expression): Expression {
    return this.builder.mul(a, b);
  }
  div(a: Expression, b: Expression): Expression {
    return this.builder.div(a, b);
  }
  sqrt(a: Expression): Expression {
    return this.builder.unary('sqrt', a);
  }
  abs(a: Expression): Expression {
    return this.builder.unary('abs', a);
  }
  neg(a: Expression): Expression {
    return this.builder.unary('neg', a);
  }
  compare(op: CompareOp, a: Expression, b: Index): Expression {
    const other = typeof b === 'number' ? this.builder.constant(b, a.type) : b;
    return this.builder.compare(op, a, other);
  }
  select(condition: Expression, a: Expression, b: Expression): Expression {
    return this.builder.select(condition, a, b);
  }
  /** `a * b + c`, with one rounding where the target may. */
  multiplyAdd(a: Expression, b: Expression, c: Expression): Expression {
    const { builder } = this;
    return this.context.target.fma ? builder.fma(a, b, c) : builder.add(c, builder.mul(a, b));
  }

  // ---- statements -----------------------------------------------------------------------------

  /** An array of its own for each matrix. */
  array(name: string, length: number, dtype: DType = this.dtype): Buffer {
    return this.context.scratch(name, dtype, Math.max(length, 1));
  }
  store(buffer: Buffer, index: Index, value: Expression): Statement {
    return { kind: 'store', buffer, index: this.index(index), value };
  }
  /** Binds a value at this place: what is stored later does not change it. */
  bind(into: Statement[], name: string, value: Expression): Variable {
    const variable = this.builder.variable(name, value.type);
    into.push({ kind: 'let', variable, value });
    return variable;
  }
  /** A variable that `set` changes. */
  declare(into: Statement[], name: string, value: Expression): Variable {
    const variable = this.builder.variable(name, value.type, { mutable: true });
    into.push({ kind: 'declare', variable, value });
    return variable;
  }
  set(variable: Variable, value: Expression): Statement {
    return { kind: 'assign', variable, value };
  }
  when(condition: Expression, yes: readonly Statement[], no: readonly Statement[] = []): Statement {
    return branch(condition, yes, no);
  }

  /** A loop over [start, end), where both are at least 0 and at most `limit`. */
  range(
    name: string,
    [start, end, limit]: readonly [Index, Index, number],
    body: (index: Expression, into: Statement[]) => void,
    options: { vector?: boolean } = {},
  ): Statement[] {
    const [from, to] = [this.index(start), this.index(end)];
    if (limit <= 0 || (to.kind === 'constant' && to.value <= from.min)) return [];
    const bounds = { min: Math.max(from.min, 0), max: Math.min(to.max, limit) - 1 };
    const index = this.builder.variable(name, 'i32', bounds);
    const statements: Statement[] = [];
    body(index, statements);
    const vector = options.vector === true ? { vector: true } : {};
    return [{ kind: 'for', index, start: from, end: to, step: 1, body: statements, ...vector }];
  }

  /** Sums over [start, end) of what `terms` gives for each index. */
  sums(
    into: Statement[],
    [start, end, limit]: readonly [Index, Index, number],
    terms: (index: Expression) => readonly (readonly [Expression, Expression])[],
  ): readonly Expression[] {
    const bounds = { min: 0, max: Math.max(limit - 1, 0) };
    const index = this.builder.variable('inner', 'i32', bounds);
    const products = terms(index);
    const { statements, results } = emitReduction(this.builder, this.context.target, {
      loops: [{ index, start: this.index(start), end: this.index(end) }],
      accumulators: products.map((_, i) => ({ name: `sum${i}`, type: this.type, identity: 0 })),
      step: (running) => running.map((sum, i) => this.multiplyAdd(...products[i]!, sum)),
      combine: (a, b) => a.map((sum, i) => this.builder.add(sum, b[i]!)),
    });
    into.push(...statements);
    return results;
  }

  // ---- whole matrices -------------------------------------------------------------------------

  /** Fills `rows * columns` places of an array, row by row, the last axis in vectors. */
  fill(
    buffer: Buffer,
    [rows, columns]: readonly [number, number],
    value: (row: Expression, column: Expression) => Expression,
  ): Statement[] {
    return this.range('row', [0, rows, rows], (row, outer) => {
      outer.push(
        ...this.range(
          'column',
          [0, columns, columns],
          (column, inner) =>
            inner.push(this.store(buffer, this.place(row, columns, column), value(row, column))),
          { vector: true },
        ),
      );
    });
  }

  /** Gives `rows * columns` elements of the result, from place `offset` of its last axis on. */
  give(
    batch: readonly Expression[],
    offset: number,
    sizes: readonly [number, number],
    value: (row: Expression, column: Expression, into: Statement[]) => Expression,
  ): Statement[] {
    return this.#write(sizes, value, (row, column) => [
      ...batch,
      this.builder.offset(this.place(row, sizes[1], column), offset),
    ]);
  }

  /** Gives a result whose last two axes are those of a matrix. */
  giveMatrix(
    batch: readonly Expression[],
    sizes: readonly [number, number],
    value: (row: Expression, column: Expression, into: Statement[]) => Expression,
  ): Statement[] {
    return this.#write(sizes, value, (row, column) => [...batch, row, column]);
  }

  #write(
    [rows, columns]: readonly [number, number],
    value: (row: Expression, column: Expression, into: Statement[]) => Expression,
    at: (row: Expression, column: Expression) => readonly Expression[],
  ): Statement[] {
    return this.range('row', [0, rows, rows], (row, outer) => {
      outer.push(
        ...this.range(
          'column',
          [0, columns, columns],
          (column, inner) => {
            const element = this.bind(inner, 'element', value(row, column, inner));
            inner.push(...this.context.write(at(row, column), element));
          },
          { vector: true },
        ),
      );
    });
  }

  /**
   * A factor that brings huge and tiny matrices to where squares neither overflow nor vanish: a power
   * of two, and 1 for all usual ones. `largest`: the largest magnitude, NaN if there is one.
   */
  scaleFor(largest: Expression): { down: Expression; up: Expression } {
    const [edge, power] = this.dtype === 'float64' ? [2 ** 300, 2 ** 600] : [2 ** 40, 2 ** 80];
    const big = this.compare('gt', largest, edge);
    const tiny = this.compare('lt', largest, 1 / edge);
    const pick = (ifBig: number, ifTiny: number): Expression =>
      this.select(big, this.number(ifBig), this.select(tiny, this.number(ifTiny), this.number(1)));
    return { down: pick(1 / power, power), up: pick(power, 1 / power) };
  }

  /** The largest magnitude in the first `length` places of an array; NaN if there is one. */
  largest(into: Statement[], buffer: Buffer, length: number): Variable {
    const found = this.declare(into, 'largest', this.number(0));
    into.push(
      ...this.range('place', [0, length, length], (place, body) => {
        body.push(this.set(found, this.builder.max(found, this.abs(this.load(buffer, place)))));
      }),
    );
    return found;
  }
}

/** One grid item for each matrix: the result is `[...batch, values]`. */
export function overMatrices(
  context: KernelContext,
  dtype: DType,
  batch: Shape,
  write: (code: MatrixCode, batch: readonly Expression[]) => readonly Statement[],
): KernelBody {
  const { builder } = context;
  const gridSize = sizeOf(batch);
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const code = new MatrixCode(context, dtype);
  return { gridIndex: item, gridSize, body: write(code, unflatten(builder, item, batch)) };
}
