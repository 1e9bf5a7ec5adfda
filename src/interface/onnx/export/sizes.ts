// Numbers that follow sizes: a function is traced at several sizes of its dynamic axes, and what a
// number of its graph is in each trace tells how it is computed from them.

/** The number that one place of the graph holds in each trace, in the order of the grid's points. */
export type Varying = readonly number[];

/** A sum of products of sizes, over one divisor: `(3 * batch * time + 2) / 4`. */
export interface Polynomial {
  /** Factor of each product; bit i of the key: whether symbol i is in it. */
  readonly terms: ReadonlyMap<number, number>;
  readonly divisor: number;
}

/** The sizes at which a function is traced. */
export interface Grid {
  /** Names of the dynamic axes. */
  readonly symbols: readonly string[];
  /**
   * Sizes of the symbols in each trace. The first 2^n are the corners: bit i of the index says
   * whether symbol i has its second size. The others check what the corners say.
   */
  readonly points: readonly (readonly number[])[];
}

/** Without dynamic axes there is one trace. */
export const ONE_TRACE: Grid = { symbols: [], points: [[]] };

/** Largest divisor that is looked for: sizes are divided by strides and windows. */
const MAX_DIVISOR = 1024;

/** Whether a number is the same in all traces. */
export function isFixed(values: Varying): boolean {
  return values.every((value) => Object.is(value, values[0]));
}

/** Factors of all products of symbols, by interpolation between the corners. */
function interpolate({ symbols, points }: Grid, values: Varying): number[] {
  const factors = values.slice(0, 2 ** symbols.length);
  symbols.forEach((_, symbol) => {
    const bit = 1 << symbol;
    const low = points[0]?.[symbol] as number;
    const high = points[bit]?.[symbol] as number;
    for (let corner = 0; corner < factors.length; corner++) {
      if ((corner & bit) !== 0) continue;
      const atLow = factors[corner] as number;
      const slope = ((factors[corner | bit] as number) - atLow) / (high - low);
      factors[corner | bit] = slope;
      factors[corner] = atLow - slope * low;
    }
  });
  return factors;
}

function isNearInteger(value: number): boolean {
  return Math.abs(value - Math.round(value)) < 1e-6;
}

/** The value of a polynomial at given sizes. */
export function evaluatePolynomial({ terms, divisor }: Polynomial, sizes: Varying): number {
  let total = 0;
  for (const [product, factor] of terms) {
    let term = factor;
    for (let symbol = 0; 1 << symbol <= product; symbol++) {
      if ((product & (1 << symbol)) !== 0) term *= sizes[symbol] as number;
    }
    total += term;
  }
  return total / divisor;
}

/**
 * The polynomial that gives `values`, integers, at every point of the grid; null if there is none that
 * is linear in each symbol.
 */
export function fitPolynomial(grid: Grid, values: Varying): Polynomial | null {
  if (!values.every(Number.isSafeInteger)) return null;
  const factors = interpolate(grid, values);
  let divisor = 1;
  while (!factors.every((factor) => isNearInteger(factor * divisor))) {
    if (++divisor > MAX_DIVISOR) return null;
  }
  const terms = new Map<number, number>();
  factors.forEach((factor, product) => {
    const integer = Math.round(factor * divisor);
    if (integer !== 0) terms.set(product, integer);
  });
  const polynomial = { terms, divisor };
  const fits = grid.points.every(
    (sizes, point) => evaluatePolynomial(polynomial, sizes) === values[point],
  );
  return fits ? polynomial : null;
}

/** In words, for messages and names of axes: `2 * batch + 1`. */
export function formatPolynomial(
  { terms, divisor }: Polynomial,
  symbols: readonly string[],
): string {
  const parts = [...terms].map(([product, factor]) => {
    const names = symbols.filter((_, symbol) => (product & (1 << symbol)) !== 0);
    const factors = factor === 1 && names.length > 0 ? names : [String(factor), ...names];
    return factors.join(' * ');
  });
  const sum = parts.length === 0 ? '0' : parts.join(' + ');
  if (divisor === 1) return sum;
  return parts.length > 1 ? `(${sum}) / ${divisor}` : `${sum} / ${divisor}`;
}
