// Starts of parameters beyond the usual ones: orthogonal, truncated normal, identities, sparse.
import { checkInteger, checkNumber, POSITIVE } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { defaultGenerator, type Generator } from '../tensor/generator.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { isSkipped } from './init.ts';

interface From {
  readonly generator?: Generator;
}

/** Rows of at least two axes, the others joined. */
function matrixSizes(op: string, tensor: Tensor): readonly [rows: number, columns: number] {
  const [rows, ...rest] = tensor.shape;
  if (rows === undefined || rest.length === 0) {
    throw new ShapeError(`takes two axes or more, got ${formatShape(tensor.shape)}`, { op });
  }
  return [rows, rest.reduce((product, size) => product * size, 1)];
}

/** Makes rows orthonormal one after the other; twice, so that rounding does not add up. */
function orthonormalize(rows: Float64Array[]): void {
  rows.forEach((row, i) => {
    for (let pass = 0; pass < 2; pass++) {
      for (const before of rows.slice(0, i)) {
        const share = row.reduce((sum, value, k) => sum + value * before[k]!, 0);
        for (let k = 0; k < row.length; k++) row[k]! -= share * before[k]!;
      }
    }
    const length = Math.hypot(...row);
    for (let k = 0; k < row.length; k++) row[k]! /= length;
  });
}

/**
 * Fills with a matrix of orthonormal rows, or columns if there are more rows (Saxe et al. 2013), times
 * `gain`; axes from the second on are joined. Drawn uniformly among all such matrices.
 *
 * @example
 * const weight = nn.init.orthogonal(zeros([2, 3]));
 * const product = weight.matmul(weight.t()).round();
 * product; // => [[1, 0], [0, 1]]
 */
export function orthogonal(tensor: Tensor, gain = 1, from: From = {}): Tensor {
  const op = 'init.orthogonal';
  const [rows, columns] = matrixSizes(op, tensor);
  checkNumber(op, 'gain', gain, [-Infinity]);
  if (isSkipped() || tensor.size === 0) return tensor;
  const generator = from.generator ?? defaultGenerator;
  const [few, many] = [Math.min(rows, columns), Math.max(rows, columns)];
  const drawn = generator.hostNormal(few * many, 0, 1);
  const vectors = Array.from({ length: few }, (_, i) =>
    Float64Array.from(drawn.subarray(i * many, (i + 1) * many)),
  );
  orthonormalize(vectors);
  const data = new Float64Array(rows * columns);
  vectors.forEach((vector, i) => {
    vector.forEach((value, k) => {
      data[rows <= columns ? i * columns + k : k * columns + i] = gain * value;
    });
  });
  return tensor.setData(data);
}

/**
 * Fills with normal numbers that lie in [low, high]: what falls outside is drawn again. Throws
 * ArgumentError unless low is below high.
 */
export function truncNormal(
  tensor: Tensor,
  mean = 0,
  deviation = 1,
  low = -2,
  high = 2,
  from: From = {},
): Tensor {
  const op = 'init.truncNormal';
  checkNumber(op, 'mean', mean, [-Infinity]);
  checkNumber(op, 'deviation', deviation, POSITIVE);
  if (!(low < high)) throw new ArgumentError(`low ${low} is not below high ${high}`, { op });
  const [from0, to0] = [(low - mean) / deviation, (high - mean) / deviation];
  if (!(from0 < 6 && to0 > -6)) {
    throw new ArgumentError(`[${low}, ${high}] is more than six deviations from the mean ${mean}`, {
      op,
      hint: 'bounds are absolute, not in deviations',
    });
  }
  if (isSkipped()) return tensor;
  const generator = from.generator ?? defaultGenerator;
  const [a, b] = [normalShare(from0), normalShare(to0)];
  if (b - a < 0.1) {
    // Between narrow bounds by the inverse of the distribution function: one draw each.
    const units = generator.hostUniform(tensor.size, 0, 1);
    return tensor.setData(
      Float64Array.from(units, (unit) => {
        const value = mean + deviation * normalQuantile(a + (b - a) * unit);
        return Math.min(Math.max(value, low), high);
      }),
    );
  }
  const values = generator.hostNormal(tensor.size, mean, deviation);
  let outside = placesOutside(values, low, high);
  while (outside.length > 0) {
    const again = generator.hostNormal(outside.length, mean, deviation);
    for (const [i, place] of outside.entries()) values[place] = again[i]!;
    outside = outside.filter((place) => !(values[place]! >= low && values[place]! <= high));
  }
  return tensor.setData(values);
}

function placesOutside(values: Float32Array, low: number, high: number): number[] {
  const places: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (!(values[i]! >= low && values[i]! <= high)) places.push(i);
  }
  return places;
}

/** Share of a standard normal distribution below x, by its series. */
function normalShare(x: number): number {
  // Marsaglia (2004): x φ(x) (1 + x²/3 + x⁴/15 + ..), which converges everywhere.
  let term = x;
  let sum = x;
  for (let k = 3; Math.abs(term) > 1e-17 * Math.abs(sum) && k < 400; k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  if (x > 8) return 1;
  if (x < -8) return 0;
  return 0.5 + sum * Math.exp(-0.5 * x * x) * 0.3989422804014327;
}

/** The inverse of `normalShare`, by bisection. */
function normalQuantile(share: number): number {
  let [low, high] = [-8, 8];
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (normalShare(middle) < share) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Fills a matrix with the identity. */
export function eye(tensor: Tensor): Tensor {
  const [, columns, ...more] = tensor.shape;
  if (columns === undefined || more.length > 0) {
    throw new ShapeError(`takes a matrix, got ${formatShape(tensor.shape)}`, { op: 'init.eye' });
  }
  const data = new Float64Array(tensor.size);
  for (let i = 0; i < Math.min(tensor.shape[0]!, columns); i++) data[i * columns + i] = 1;
  return tensor.setData(data);
}

/**
 * Fills the weight [out, in, ...space] of a convolution so that it passes its channels on: 1 in the
 * middle of each kernel from channel i to i, within each of `groups`.
 *
 * @example
 * nn.init.dirac(zeros([2, 1, 3])); // => [[[0, 1, 0]], [[0, 0, 0]]]
 */
export function dirac(tensor: Tensor, groups = 1): Tensor {
  const op = 'init.dirac';
  const [out, into, ...space] = tensor.shape;
  if (out === undefined || into === undefined || space.length === 0 || space.length > 3) {
    throw new ShapeError(`takes three to five axes, got ${formatShape(tensor.shape)}`, { op });
  }
  checkInteger(op, 'groups', groups, 1);
  if (out % groups !== 0) {
    throw new ArgumentError(`${groups} groups do not divide ${out} channels`, { op });
  }
  const size = space.reduce((product, length) => product * length, 1);
  const middle = space.reduce((place, length) => place * length + (length >> 1), 0);
  const data = new Float64Array(tensor.size);
  const each = out / groups;
  for (let group = 0; group < groups; group++) {
    for (let i = 0; i < Math.min(each, into); i++) {
      data[((group * each + i) * into + i) * size + middle] = 1;
    }
  }
  return tensor.setData(data);
}

/**
 * Fills a matrix with normal numbers of which the share `sparsity` of each column is 0 (Martens 2010).
 */
export function sparse(
  tensor: Tensor,
  sparsity: number,
  deviation = 0.01,
  from: From = {},
): Tensor {
  const op = 'init.sparse';
  const [rows, columns, ...more] = tensor.shape;
  if (rows === undefined || columns === undefined || more.length > 0) {
    throw new ShapeError(`takes a matrix, got ${formatShape(tensor.shape)}`, { op });
  }
  checkNumber(op, 'sparsity', sparsity, [0, 1]);
  if (isSkipped()) return tensor;
  const generator = from.generator ?? defaultGenerator;
  const data = Float64Array.from(generator.hostNormal(tensor.size, 0, deviation));
  const zeros = Math.ceil(sparsity * rows);
  for (let column = 0; column < columns; column++) {
    const keys = generator.hostUniform(rows, 0, 1);
    const order = Array.from(keys, (_, i) => i).sort((i, j) => keys[i]! - keys[j]!);
    for (const row of order.slice(0, zeros)) data[row * columns + column] = 0;
  }
  return tensor.setData(data);
}
