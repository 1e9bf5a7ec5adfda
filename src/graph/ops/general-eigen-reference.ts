// Eigenvalues as roots of the characteristic polynomial, eigenvectors by inverse iteration: slow and for
// small matrices only, but nothing that the kernel does. The oracle of general-eigen.ts.
import { identityOf, productOf, type Rows } from './matrix-parts.ts';

type Complex = readonly [re: number, im: number];

const plus = ([a, b]: Complex, [c, d]: Complex): Complex => [a + c, b + d];
const minus = ([a, b]: Complex, [c, d]: Complex): Complex => [a - c, b - d];
const times = ([a, b]: Complex, [c, d]: Complex): Complex => [a * c - b * d, a * d + b * c];
const over = ([a, b]: Complex, [c, d]: Complex): Complex => {
  const square = c * c + d * d;
  return [(a * c + b * d) / square, (b * c - a * d) / square];
};

/** Coefficients of det(λ - A), the highest first, by Faddeev and LeVerrier. */
function characteristic(a: Rows): number[] {
  const size = a.length;
  const coefficients = [1];
  let m = identityOf(size);
  for (let k = 1; k <= size; k++) {
    const product = productOf(a, m);
    const trace = product.reduce((sum, row, i) => sum + row[i]!, 0);
    const coefficient = -trace / k;
    coefficients.push(coefficient);
    m = product.map((row, i) => row.map((value, j) => value + (i === j ? coefficient : 0)));
  }
  return coefficients;
}

/** All roots at once (Durand 1960, Kerner 1966). */
function rootsOf(coefficients: readonly number[]): Complex[] {
  const size = coefficients.length - 1;
  const radius = 1 + Math.max(0, ...coefficients.slice(1).map(Math.abs));
  let roots = Array.from({ length: size }, (_, k): Complex => {
    const angle = (2 * Math.PI * k) / size + 0.4;
    return [radius * 0.5 * Math.cos(angle), radius * 0.5 * Math.sin(angle)];
  });
  const value = (x: Complex): Complex =>
    coefficients.reduce<Complex>((sum, c) => plus(times(sum, x), [c, 0]), [0, 0]);
  for (let round = 0; round < 500; round++) {
    roots = roots.map((root, i) => {
      const others = roots.reduce<Complex>(
        (product, other, j) => (i === j ? product : times(product, minus(root, other))),
        [1, 0],
      );
      return minus(root, over(value(root), others));
    });
  }
  return roots;
}

/** The solution of a complex system, by elimination with the largest pivots. */
function solved(matrix: readonly (readonly Complex[])[], right: readonly Complex[]): Complex[] {
  const size = matrix.length;
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  for (let k = 0; k < size; k++) {
    let best = k;
    for (let i = k + 1; i < size; i++) {
      if (Math.hypot(...rows[i]![k]!) > Math.hypot(...rows[best]![k]!)) best = i;
    }
    [rows[k], rows[best]] = [rows[best]!, rows[k]!];
    if (Math.hypot(...rows[k]![k]!) === 0) rows[k]![k] = [1e-300, 0];
    for (let i = k + 1; i < size; i++) {
      const factor = over(rows[i]![k]!, rows[k]![k]!);
      for (let j = k; j <= size; j++) {
        rows[i]![j] = minus(rows[i]![j]!, times(factor, rows[k]![j]!));
      }
    }
  }
  const x = right.map((): Complex => [0, 0]);
  for (let i = size - 1; i >= 0; i--) {
    let rest = rows[i]![size]!;
    for (let j = i + 1; j < size; j++) rest = minus(rest, times(rows[i]![j]!, x[j]!));
    x[i] = over(rest, rows[i]![i]!);
  }
  return x;
}

/** Of length 1, with its first notable component real and positive. */
function normalized(vector: readonly Complex[]): Complex[] {
  const sizes = vector.map((value) => Math.hypot(...value));
  const length = Math.hypot(...sizes);
  const enough = 0.6 * Math.max(...sizes);
  const chosen = vector[sizes.findIndex((size) => size >= enough)]!;
  const phase = over([Math.hypot(...chosen), 0], chosen);
  return vector.map((value) => over(times(value, phase), [length, 0]));
}

function vectorOf(a: Rows, root: Complex): Complex[] {
  // Beside the root, so that the system can be solved.
  const near = plus(root, [1e-11, root[1] === 0 ? 0 : 1e-11]);
  const shifted = a.map((row, i) =>
    row.map((value, j): Complex => (i === j ? minus([value, 0], near) : [value, 0])),
  );
  let vector = a.map((_, i): Complex => [1 + 0.3 * i, 0]);
  for (let round = 0; round < 3; round++) vector = normalized(solved(shifted, vector));
  return vector;
}

/** Eigenvalues and vectors in the order and with the phases that the op promises. */
export function complexEigen(matrix: Rows): {
  values: readonly Complex[];
  vectors: readonly (readonly Complex[])[];
} {
  const scale = Math.max(0, ...matrix.flat().map(Math.abs));
  if (matrix.flat().some((value) => !Number.isFinite(value))) {
    const nothing: Complex = [NaN, NaN];
    const vector = matrix.map(() => nothing);
    return { values: vector, vectors: matrix.map(() => vector) };
  }
  const a = matrix.map((row) => row.map((value) => value / (scale || 1)));
  const isReal = ([, im]: Complex): boolean => Math.abs(im) < 1e-9;
  const values = rootsOf(characteristic(a))
    .map((root): Complex => (isReal(root) ? [root[0], 0] : root))
    .sort((x, y) => (Math.abs(x[0] - y[0]) < 1e-9 ? y[1] - x[1] : x[0] - y[0]));
  return {
    values: values.map(([re, im]): Complex => [re * scale, im * scale]),
    vectors: values.map((root) => vectorOf(a, root)),
  };
}
