// Matrices and comparisons that the tests of tengen/linalg share. Expected numbers are PyTorch's.
import { expect } from 'vitest';
import { grad, type NestedArray, tensor, type Tensor } from 'tengen';

export function f64(data: NestedArray): Tensor {
  return tensor(data, { dtype: 'float64' });
}

export const A = (): Tensor =>
  f64([
    [4, -2, 1],
    [0.5, 3, -1],
    [2, 1, -3],
  ]);
export const B = (): Tensor =>
  f64([
    [1, 2],
    [0, -1],
    [3, 1],
  ]);
/** Tall. */
export const T = (): Tensor =>
  f64([
    [1, 2],
    [3, -1],
    [0.5, 1],
    [-2, 0.25],
  ]);
/** Symmetric positive definite. */
export const S = (): Tensor =>
  f64([
    [4, 1, 0.5],
    [1, 3, -1],
    [0.5, -1, 2],
  ]);
/** Weights that make one number of a matrix. */
export const W = (): Tensor =>
  f64([
    [0.3, -0.7, 0.2],
    [0.5, 0.1, -0.4],
    [-0.6, 0.8, 0.9],
  ]);
/** Of rank 2. */
export const singular = (): Tensor =>
  f64([
    [1, 2, 3],
    [2, 4, 6],
    [1, 0, 1],
  ]);

/** Equal shapes, and elements up to `tolerance` times 1 + their size. */
export function expectClose(actual: Tensor, expected: unknown, tolerance = 1e-7): void {
  const walk = (a: unknown, e: unknown, place: string): void => {
    if (Array.isArray(e)) {
      expect(Array.isArray(a) && a.length, `length at ${place || 'top'}`).toBe(e.length);
      e.forEach((item, i) => walk((a as unknown[])[i], item, `${place}[${i}]`));
      return;
    }
    const [x, y] = [a as number, e as number];
    if (Object.is(x, y)) return;
    const message = `${x} in place of ${y} at ${place || 'top'}`;
    expect(Math.abs(x - y), message).toBeLessThanOrEqual(tolerance * (1 + Math.abs(y)));
  };
  walk(actual.arraySync(), expected, '');
}

/** The gradient of a number by one matrix, against central differences in float64. */
export function checkDifferences(fn: (x: Tensor) => Tensor, at: Tensor, tolerance = 1e-6): void {
  const found = grad(fn)(at).reshape(-1).arraySync() as number[];
  const start = at.reshape(-1).arraySync() as number[];
  start.forEach((value, i) => {
    const moved = (by: number): number => {
      const data = start.slice();
      data[i] = value + by;
      return fn(f64(data).reshape(at.shape)).itemSync();
    };
    const step = 1e-4;
    const wide = (moved(step) - moved(-step)) / (2 * step);
    const near = (moved(step / 2) - moved(-step / 2)) / step;
    const expected = (4 * near - wide) / 3;
    const message = `gradient ${i} is ${found[i]}, differences give ${expected}`;
    expect(Math.abs(found[i]! - expected), message).toBeLessThanOrEqual(
      tolerance * (1 + Math.abs(expected)),
    );
  });
}
