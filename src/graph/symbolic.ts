// One description for every size of declared dimensions: recordings at several sizes are laid over each
// other, and a number that follows the sizes becomes an expression of them. Works on any tree of plain
// data, so on graphs as data (record.ts) and on what is recorded beside them.
import {
  CONSTANT,
  formatSizes,
  OVER,
  productAt,
  RECIPROCAL,
  type SizeExpression,
  type Sizes,
  substituteSizes,
} from '../base/size-expression.ts';

/** Plain data in which numbers may be expressions. */
export type SymbolicOf<T> = T extends number
  ? number | SizeExpression
  : T extends string | boolean | null | undefined
    ? T
    : T extends readonly (infer E)[]
      ? readonly SymbolicOf<E>[]
      : { readonly [K in keyof T]: SymbolicOf<T[K]> };

/** A recording and the sizes that it was made at. */
export interface SizedSample<T> {
  readonly sizes: Sizes;
  readonly value: T;
}

/** Where recordings differ in what is no expression of the sizes. */
export class SizeConflict extends Error {
  override name = 'SizeConflict';
  /** Keys from the root to the value. */
  readonly path: readonly (string | number)[];
  /** What stands there at which sizes. */
  readonly text: string;

  constructor(path: readonly (string | number)[], text: string) {
    super(text);
    this.path = path;
    this.text = text;
  }
}

/** Divisors that are tried. */
const MAX_DIVISOR = 1024;
/** Relative difference at which two reals are the same number. */
const REAL_TOLERANCE = 1e-12;

/** The data at these sizes. */
export function instantiate<T>(symbolic: SymbolicOf<T>, sizes: Sizes): T {
  return substituteSizes(symbolic, sizes) as T;
}

// ---- unifying ---------------------------------------------------------------------------------

/** Products of dimensions: none, each, each pair... */
function products(dims: readonly string[]): string[] {
  return Array.from({ length: 2 ** dims.length }, (_, mask) => {
    const factors = dims.filter((_name, i) => (mask & (1 << i)) !== 0);
    return factors.length === 0 ? CONSTANT : factors.join('*');
  });
}

/** Expressions that are sums of these terms, as a system of equations that is solved quickly. */
class Basis {
  readonly #products: readonly string[];
  readonly #rows: readonly (readonly number[])[];
  /** Samples that determine the coefficients, and the inverse of their rows; null if there are too few. */
  readonly #solver: { readonly chosen: readonly number[]; readonly inverse: number[][] } | null;

  constructor(terms: readonly string[], samples: readonly Sizes[]) {
    this.#products = terms;
    this.#rows = samples.map((sizes) => terms.map((product) => productAt(product, sizes)));
    this.#solver = invertible(this.#rows, terms.length);
  }

  get isSolvable(): boolean {
    return this.#solver !== null;
  }

  /** Coefficients of the values at the samples. */
  solve(values: readonly number[]): number[] | null {
    if (this.#solver === null) return null;
    const { chosen, inverse } = this.#solver;
    return inverse.map((row) =>
      row.reduce((sum, factor, i) => sum + factor * (values[chosen[i] as number] as number), 0),
    );
  }

  /** Coefficients as whole numbers over the least common divisor. */
  rational(coefficients: readonly number[]): SizeExpression | null {
    for (let over = 1; over <= MAX_DIVISOR; over++) {
      const scaled = coefficients.map((value) => value * over);
      if (scaled.some((value) => Math.abs(value - Math.round(value)) > 1e-6)) continue;
      return this.#expression(scaled.map(Math.round), over);
    }
    return null;
  }

  /** Coefficients that are all but rational are taken to be so. */
  rounded(coefficients: readonly number[]): SizeExpression {
    const cleaned = coefficients.map((value) => (Math.abs(value) < 1e-13 ? 0 : value));
    return this.rational(cleaned) ?? this.#expression(cleaned, 1);
  }

  #expression(factors: readonly number[], over: number): SizeExpression {
    const terms = this.#products.flatMap((product, i) => {
      const factor = factors[i] as number;
      return factor === 0 ? [] : [[product, factor] as const];
    });
    return { size: Object.fromEntries(over === 1 ? terms : [...terms, [OVER, over]]) };
  }

  /** What the sum of an expression is at the samples. */
  sums({ size }: SizeExpression): number[] {
    const over = size[OVER] ?? 1;
    const factors = this.#products.map((product) => size[product] ?? 0);
    return this.#rows.map(
      (row) => row.reduce((sum, product, i) => sum + product * (factors[i] as number), 0) / over,
    );
  }
}

/** Fits numbers at samples of sizes by expressions. */
export class SizeSystem {
  readonly #whole: Basis;
  readonly #samples: readonly Sizes[];
  readonly #dims: readonly string[];
  #fractions: Basis | null = null;

  constructor(dims: readonly string[], samples: readonly Sizes[]) {
    this.#dims = dims;
    this.#samples = samples;
    this.#whole = new Basis(products(dims), samples);
  }

  /** Whether there are enough samples, and one more that checks what they say. */
  get isDetermined(): boolean {
    return this.#whole.isSolvable && this.#samples.length > 2 ** this.#dims.length;
  }

  /** The expression with these values, one per sample; null if there is none. */
  fit(values: readonly number[]): SizeExpression | null {
    return (
      (values.every(Number.isInteger) ? this.#fitWhole(values) : null) ?? this.#fitReal(values)
    );
  }

  #fitWhole(values: readonly number[]): SizeExpression | null {
    const coefficients = this.#whole.solve(values);
    const expression = coefficients === null ? null : this.#whole.rational(coefficients);
    if (expression === null) return null;
    return this.#whole.sums(expression).every((sum, i) => sum === values[i]) ? expression : null;
  }

  /** Sums of sizes or of their reciprocals, or one over such a sum: means, unbiased estimates. */
  #fitReal(values: readonly number[]): SizeExpression | null {
    if (this.#samples.some((sizes) => this.#dims.some((name) => sizes[name] === 0))) return null;
    const names = this.#dims.map((name) => `${RECIPROCAL}${name}`);
    this.#fractions ??= new Basis(products(names), this.#samples);
    for (const basis of [this.#whole, this.#fractions]) {
      const direct = basis.solve(values);
      if (direct !== null) {
        const expression = { ...basis.rounded(direct), real: true } as const;
        if (isClose(basis.sums(expression), values)) return expression;
      }
      const inverse = values.includes(0) ? null : basis.solve(values.map((value) => 1 / value));
      if (inverse === null) continue;
      const expression = { ...basis.rounded(inverse), of: 1, real: true } as const;
      const sums = basis.sums(expression).map((sum) => 1 / sum);
      if (isClose(sums, values)) return expression;
    }
    return null;
  }
}

function isClose(values: readonly number[], expected: readonly number[]): boolean {
  return values.every((value, i) => {
    const other = expected[i] as number;
    return Math.abs(value - other) <= REAL_TOLERANCE * Math.max(Math.abs(value), Math.abs(other));
  });
}

/** Rows that are independent, and the inverse of the matrix that they make. */
function invertible(
  rows: readonly (readonly number[])[],
  count: number,
): { chosen: number[]; inverse: number[][] } | null {
  const chosen: number[] = [];
  const reduced: number[][] = [];
  rows.forEach((row, index) => {
    if (chosen.length === count) return;
    const rest = [...row];
    for (const other of reduced) {
      const pivot = other.findIndex((value) => Math.abs(value) > 1e-9);
      const factor = (rest[pivot] as number) / (other[pivot] as number);
      for (let i = 0; i < rest.length; i++) {
        rest[i] = (rest[i] as number) - factor * (other[i] as number);
      }
    }
    const scale = Math.max(1, ...row.map(Math.abs));
    if (rest.every((value) => Math.abs(value) < 1e-9 * scale)) return;
    chosen.push(index);
    reduced.push(rest.map((value) => (Math.abs(value) < 1e-9 * scale ? 0 : value)));
  });
  if (chosen.length < count) return null;
  return { chosen, inverse: inverseOf(chosen.map((i) => rows[i] as readonly number[])) };
}

/** Gauss and Jordan, with the largest pivot. */
function inverseOf(matrix: readonly (readonly number[])[]): number[][] {
  const size = matrix.length;
  const work = matrix.map((row, i) => [
    ...row,
    ...Array.from({ length: size }, (_, k) => +(k === i)),
  ]);
  for (let column = 0; column < size; column++) {
    let best = column;
    for (let row = column + 1; row < size; row++) {
      const [a, b] = [work[row]?.[column] as number, work[best]?.[column] as number];
      if (Math.abs(a) > Math.abs(b)) best = row;
    }
    const pivotRow = work[best] as number[];
    work[best] = work[column] as number[];
    work[column] = pivotRow;
    const pivot = pivotRow[column] as number;
    for (let i = 0; i < 2 * size; i++) pivotRow[i] = (pivotRow[i] as number) / pivot;
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const other = work[row] as number[];
      const factor = other[column] as number;
      for (let i = 0; i < 2 * size; i++) {
        other[i] = (other[i] as number) - factor * (pivotRow[i] as number);
      }
    }
  }
  return work.map((row) => row.slice(size));
}

/**
 * The data with expressions in the places of numbers that follow the sizes. Everything else must be the
 * same at all sizes.
 *
 * @throws SizeConflict where it is not.
 */
export function unify<T>(
  dims: readonly string[],
  samples: readonly SizedSample<T>[],
): SymbolicOf<T> {
  const system = new SizeSystem(
    dims,
    samples.map(({ sizes }) => sizes),
  );
  const conflict = (
    path: readonly (string | number)[],
    values: readonly unknown[],
  ): SizeConflict => {
    const first = JSON.stringify(values[0]);
    const other = values.findIndex((value) => JSON.stringify(value) !== first);
    const shown = [0, Math.max(other, 1), values.length - 1].filter(
      (at, i, all) => all.indexOf(at) === i,
    );
    const text = shown
      .map((at) => `${short(values[at])} at ${formatSizes((samples[at] as SizedSample<T>).sizes)}`)
      .join(', ');
    return new SizeConflict(path, text);
  };
  const visit = (values: readonly unknown[], path: readonly (string | number)[]): unknown => {
    const [first] = values;
    if (values.every((value) => typeof value === 'number')) {
      if (values.every((value) => Object.is(value, first))) return first;
      const expression = system.fit(values as readonly number[]);
      if (expression === null) throw conflict(path, values);
      return expression;
    }
    if (typeof first !== 'object' || first === null) {
      if (values.every((value) => value === first)) return first;
      throw conflict(path, values);
    }
    if (Array.isArray(first)) {
      const lists = values.filter((value) => Array.isArray(value));
      if (lists.some((list) => list.length !== first.length) || lists.length < values.length) {
        throw conflict(path, values);
      }
      return first.map((_, i) =>
        visit(
          lists.map((list: readonly unknown[]) => list[i]),
          [...path, i],
        ),
      );
    }
    const records = values as readonly Readonly<Record<string, unknown>>[];
    const names = Object.keys(first);
    for (const record of records) {
      const isRecord = typeof record === 'object' && record !== null && !Array.isArray(record);
      if (!isRecord || Object.keys(record).join() !== names.join()) throw conflict(path, values);
    }
    return Object.fromEntries(
      names.map((name) => [
        name,
        visit(
          records.map((record) => record[name]),
          [...path, name],
        ),
      ]),
    );
  };
  return visit(
    samples.map(({ value }) => value),
    [],
  ) as SymbolicOf<T>;
}

function short(value: unknown): string {
  if (Array.isArray(value)) return `${value.length} long`;
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
