// Fast short convolutions: the three linear transforms of Cook and Toom, from interpolation points,
// and how a transform is written in the kernel IR.
import type { Builder } from '../../ir/builder.ts';
import type { Expression, Variable } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import { multiplyAdd } from './loops.ts';

export type Matrix = readonly (readonly number[])[];

/**
 * F(outputs, taps): y = result * ((filter * g) o (input * d)), where o multiplies element by element,
 * is y[i] = sum over j of d[i + j] * g[j].
 */
export interface ShortConvolution {
  readonly outputs: number;
  readonly taps: number;
  /** Number of products: outputs + taps - 1. */
  readonly size: number;
  readonly result: Matrix;
  readonly filter: Matrix;
  readonly input: Matrix;
}

/** F(outputs, taps) from outputs + taps - 2 different points; infinity is the last one. */
export function cookToom(
  outputs: number,
  taps: number,
  points: readonly number[],
): ShortConvolution {
  const size = outputs + taps - 1;
  /** Coefficients of the product of (x - p) over the points other than number `without`. */
  const product = (without: number): number[] => {
    let polynomial = [1];
    points.forEach((point, index) => {
      if (index === without) return;
      const next = [...polynomial.map((value) => -point * value), 0];
      polynomial.forEach((value, power) => {
        next[power + 1] = (next[power + 1] as number) + value;
      });
      polynomial = next;
    });
    return polynomial;
  };
  const powers = (point: number, count: number): number[] =>
    Array.from({ length: count }, (_, power) => point ** power);
  const atInfinity = (count: number): number[] =>
    Array.from({ length: count }, (_, power) => (power === count - 1 ? 1 : 0));
  const filter = points.map((point, index) => {
    let scale = 1;
    points.forEach((other, which) => {
      if (which !== index) scale *= point - other;
    });
    return powers(point, taps).map((value) => value / scale);
  });
  const columns = [...points.map((point) => powers(point, outputs)), atInfinity(outputs)];
  const input = points.map((_, index) => [...product(index), 0]);
  return {
    outputs,
    taps,
    size,
    result: tidy(
      Array.from({ length: outputs }, (_, i) => columns.map((column) => column[i] ?? 0)),
    ),
    filter: tidy([...filter, atInfinity(taps)]),
    input: tidy([...input, product(-1)]),
  };
}

/** Takes rounding errors off: numbers that are equal or opposite become exactly so. */
function tidy(matrix: Matrix): Matrix {
  return matrix.map((row) => row.map((value) => Number(value.toPrecision(14)) + 0));
}

/**
 * Points for windows of 3. Those of F(4, 3) are each other's inverses: large and small powers balance,
 * and the error is a third of that of 0, 1, -1, 2, -2.
 */
const POINTS2 = [0, 1, -1];
const POINTS4 = [0, Math.SQRT1_2, -Math.SQRT1_2, Math.SQRT2, -Math.SQRT2];
export const F2 = cookToom(2, 3, POINTS2);
export const F4 = cookToom(4, 3, POINTS4);
/** The same with the roles of filter and result exchanged: 3 results of tiles of 2 and of 4. */
export const FILTER2 = cookToom(3, 2, POINTS2);
export const FILTER4 = cookToom(3, 4, POINTS4);

/** Statements that compute `matrix * values`, and the variables that hold the result. */
export interface Transformed {
  readonly statements: readonly Statement[];
  readonly values: readonly Expression[];
}

/** Writes transforms for vectors of some width. */
export class TransformWriter {
  readonly #builder: Builder;
  readonly #target: Target;
  #count = 0;

  constructor(builder: Builder, target: Target) {
    this.#builder = builder;
    this.#target = target;
  }

  /** `matrix * values * transposed matrix`, of values [row][column]. */
  square(
    matrix: Matrix,
    values: readonly (readonly Expression[])[],
  ): {
    readonly statements: readonly Statement[];
    readonly values: readonly (readonly Expression[])[];
  } {
    const statements: Statement[] = [];
    const columns = (values[0] as readonly Expression[]).map((_, column) => {
      const made = this.apply(
        matrix,
        values.map((row) => row[column] as Expression),
      );
      statements.push(...made.statements);
      return made.values;
    });
    const rows = matrix.map((_, row) => {
      const made = this.apply(
        matrix,
        columns.map((column) => column[row] as Expression),
      );
      statements.push(...made.statements);
      return made.values;
    });
    return { statements, values: rows };
  }

  /** `matrix * values`; what points of opposite sign have in common is computed once. */
  apply(matrix: Matrix, values: readonly Expression[]): Transformed {
    const statements: Statement[] = [];
    const name = (value: Expression): Variable => {
      const { type, lanes } = value;
      const variable = this.#builder.variable(`t${this.#count++}`, type, { lanes });
      statements.push({ kind: 'let', variable, value });
      return variable;
    };
    const shared = this.#shareColumns(matrix, values, name);
    const results: Expression[] = [];
    for (let row = 0; row < shared.matrix.length; row++) {
      const own = shared.matrix[row] as readonly number[];
      const next = shared.matrix[row + 1];
      if (next === undefined || !isMirrored(own, next)) {
        results.push(name(this.#sum(own, shared.values)));
        continue;
      }
      const even = own.map((value, i) => (value === next[i] ? value : 0));
      const odd = own.map((value, i) => (value === next[i] ? 0 : value));
      const a = name(this.#sum(even, shared.values));
      const b = name(this.#sum(odd, shared.values));
      results.push(name(this.#builder.add(a, b)), name(this.#builder.sub(a, b)));
      row++;
    }
    return { statements, values: results };
  }

  /** Replaces pairs of values that all rows add or subtract by their sum and difference. */
  #shareColumns(
    matrix: Matrix,
    values: readonly Expression[],
    name: (value: Expression) => Variable,
  ): { readonly matrix: Matrix; readonly values: readonly Expression[] } {
    const builder = this.#builder;
    const columns = values.map((_, column) => matrix.map((row) => row[column] as number));
    const newColumns: number[][] = [];
    const newValues: Expression[] = [];
    for (let column = 0; column < columns.length; column++) {
      const own = columns[column] as number[];
      const next = columns[column + 1];
      const value = values[column] as Expression;
      if (next === undefined || !isMirrored(own, next)) {
        newColumns.push(own);
        newValues.push(value);
        continue;
      }
      const other = values[column + 1] as Expression;
      newColumns.push(
        own.map((factor, i) => (factor === next[i] ? factor : 0)),
        own.map((factor, i) => (factor === next[i] ? 0 : factor)),
      );
      newValues.push(name(builder.add(value, other)), name(builder.sub(value, other)));
      column++;
    }
    return {
      matrix: matrix.map((_, row) => newColumns.map((column) => column[row] as number)),
      values: newValues,
    };
  }

  /** The sum of `factors[i] * values[i]`, from a term that needs no product if there is one. */
  #sum(factors: readonly number[], values: readonly Expression[]): Expression {
    const builder = this.#builder;
    const { type, lanes } = values[0] as Expression;
    const terms = factors.flatMap((factor, i) =>
      factor === 0 ? [] : [{ factor, value: values[i] as Expression }],
    );
    const plain = terms.findIndex(({ factor }) => factor === 1);
    const [first] = terms.splice(Math.max(plain, 0), 1);
    if (first === undefined) return builder.constant(0, type, lanes);
    const constant = (factor: number): Expression => builder.constant(factor, type, lanes);
    let sum = builder.mul(first.value, constant(first.factor));
    for (const { factor, value } of terms) {
      if (factor === 1) sum = builder.add(sum, value);
      else if (factor === -1) sum = builder.sub(sum, value);
      else sum = multiplyAdd(builder, this.#target, value, constant(factor), sum);
    }
    return sum;
  }
}

/** Whether two rows are equal up to signs, and both have common and opposite elements of weight. */
function isMirrored(a: readonly number[], b: readonly number[]): boolean {
  const same = a.some((value, i) => value !== 0 && value === b[i]);
  const opposite = a.some((value, i) => value !== 0 && value === -(b[i] as number));
  return same && opposite && a.every((value, i) => Math.abs(value) === Math.abs(b[i] as number));
}
