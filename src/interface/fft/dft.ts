// Discrete Fourier transforms. A length is split into factors; each is a product with a matrix of roots
// of unity, so that the matrix product does the work, and gradients are its own (Cooley and Tukey,
// 1965). Inside, real and imaginary parts are rows of their own, [.., 2, n], which runs in vectors.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { factorTables, root, rootMatrix } from './tables.ts';

/** Up to this length a transform is one product with a matrix. */
const LONGEST_FACTOR = 64;
/** Up to this length one product is still cheaper than three transforms of more than twice the length. */
const LONGEST_PRIME = 250;

/** The direction: exp(-2πi ..) forward, exp(2πi ..) back. Neither is scaled. */
export type Sign = 1 | -1;

interface Options {
  readonly sign: Sign;
  /** The input holds real numbers: [.., n], without the axis of parts. */
  readonly realInput: boolean;
  /** Only real parts are wanted: [.., n]. */
  readonly realOutput: boolean;
  /** Only this many results are wanted. */
  readonly outputs: number;
}

/** The factor of `n` to begin with: the one that leaves the fewest, most equal stages. */
export function firstFactor(n: number): number {
  if (n <= LONGEST_FACTOR) return n;
  const stages = Math.ceil(Math.log(n) / Math.log(LONGEST_FACTOR));
  const wanted = Math.log(n) / stages;
  let best = 1;
  for (let factor = 2; factor <= LONGEST_FACTOR; factor++) {
    if (n % factor !== 0) continue;
    const distance = Math.abs(Math.log(factor) - wanted);
    if (best === 1 || distance < Math.abs(Math.log(best) - wanted)) best = factor;
  }
  return best === 1 ? n : best;
}

/** Products with factors: (a + ib)(c + id) = [a, b][c, c] + [b, a][-d, d]. */
function turn(x: Node, [same, crossed]: readonly [Node, Node]): Node {
  return ops.add(ops.mul(x, same), ops.mul(ops.flip(x, x.shape.length - 2), crossed));
}

/** One product with a matrix of roots. */
function direct(x: Node, n: number, options: Options): Node {
  const { sign, realInput, realOutput, outputs } = options;
  const lead = x.shape.slice(0, realInput ? -1 : -2);
  const matrix = rootMatrix(x, n, sign, { realInput, realOutput, outputs });
  const rows = ops.reshape(x, [sizeOf(lead), matrix.shape[0] as number]);
  const product = ops.matmul(rows, matrix);
  return ops.reshape(product, [...lead, ...(realOutput ? [] : [2]), outputs]);
}

/**
 * With n = n1 n2: transforms of n1 over every n2-th element, factors, transforms of n2. Element
 * j1 n2 + j2 goes in, k1 + n1 k2 comes out.
 */
function split(x: Node, n: number, n1: number, options: Options): Node {
  const n2 = n / n1;
  const { sign, realInput, realOutput, outputs } = options;
  const lead = x.shape.slice(0, realInput ? -1 : -2);
  const rank = lead.length;
  const front = lead.map((_, axis) => axis);
  const order = (...axes: number[]): number[] => [...front, ...axes.map((axis) => rank + axis)];
  const grid = ops.reshape(x, [...lead, ...(realInput ? [] : [2]), n1, n2]);
  const columns = ops.permute(grid, realInput ? order(1, 0) : order(2, 0, 1));
  const first = direct(columns, n1, { sign, realInput, realOutput: false, outputs: n1 });
  const factors = factorTables(x, `turn ${n} ${sign}`, [n2, n1], (j, k) => {
    const [cosine, sine] = root(j * k, n);
    return [cosine, sign * sine];
  });
  const rows = ops.permute(turn(first, factors), order(2, 1, 0));
  const second = transform(rows, n2, { sign, realInput: false, realOutput, outputs: n2 });
  const inOrder = ops.permute(second, realOutput ? order(1, 0) : order(1, 2, 0));
  const whole = ops.reshape(inOrder, [...lead, ...(realOutput ? [] : [2]), n]);
  return outputs === n ? whole : ops.narrowAxis(whole, whole.shape.length - 1, 0, outputs);
}

/** From [.., 2, n] to [.., 2, outputs], or without the axis of parts where numbers are real. */
function transform(x: Node, n: number, options: Options): Node {
  const factor = firstFactor(n);
  if (factor < n) return split(x, n, factor, options);
  return n <= LONGEST_PRIME ? direct(x, n, options) : chirp(x, n, options);
}

/**
 * Any length by a convolution (Bluestein, 1970): j k = (j² + k² - (k - j)²) / 2, and the convolution
 * with exp(±πi m² / n) is a product of transforms of a power of two.
 */
function chirp(x: Node, n: number, options: Options): Node {
  const { sign, realInput, realOutput, outputs } = options;
  const lead = x.shape.slice(0, realInput ? -1 : -2);
  const rank = lead.length;
  const length = 2 ** Math.ceil(Math.log2(2 * n - 1));
  const name = `chirp ${n} ${sign}`;
  const pairsOf = (data: Float64Array) => (_: number, k: number) =>
    [data[2 * k] as number, data[2 * k + 1] as number] as const;
  const own = one(factorTables(x, name, [1, n], pairsOf(chirpFactors(n, sign))));
  const numbers = chirpSpectrum(n, length, sign === 1 ? -1 : 1);
  const spectrum = one(factorTables(x, `${name} spectrum`, [1, length], pairsOf(numbers)));
  const parts = realInput ? withZeros(x) : x;
  const after = [...zeros(rank + 1), length - n];
  const padded = ops.pad(turn(parts, own), zeros(rank + 2), after);
  const whole = { realInput: false, realOutput: false, outputs: length };
  const product = turn(transform(padded, length, { ...whole, sign: -1 }), spectrum);
  const back = transform(product, length, { ...whole, sign: 1 });
  const result = turn(ops.narrowAxis(back, rank + 1, 0, n), own);
  const wanted = outputs === n ? result : ops.narrowAxis(result, rank + 1, 0, outputs);
  return realOutput ? ops.reshape(ops.narrowAxis(wanted, rank, 0, 1), [...lead, outputs]) : wanted;
}

/** Tables of one row, without the axis of rows. */
function one(tables: readonly [Node, Node]): readonly [Node, Node] {
  const [re, im] = tables.map((x) => ops.reshape(x, x.shape.slice(1)));
  return [re as Node, im as Node];
}

/** Real numbers [.., n] with imaginary parts: [.., 2, n]. */
function withZeros(x: Node): Node {
  const rank = x.shape.length;
  const row = ops.reshape(x, [...x.shape.slice(0, -1), 1, x.shape.at(-1) as number]);
  const after = zeros(rank + 1);
  after[rank - 1] = 1;
  return ops.pad(row, zeros(rank + 1), after);
}

const zeros = (count: number): number[] => new Array<number>(count).fill(0);

/** exp(±πi j² / n). */
function chirpFactors(n: number, sign: Sign): Float64Array {
  const data = new Float64Array(2 * n);
  for (let j = 0; j < n; j++) {
    // The period is 2n: j² stays small, and the angle exact.
    const angle = (Math.PI * ((j * j) % (2 * n))) / n;
    data[2 * j] = Math.cos(angle);
    data[2 * j + 1] = sign * Math.sin(angle);
  }
  return data;
}

/** The transform of exp(±πi m² / n) for -n < m < n, around the end, divided by the length. */
function chirpSpectrum(n: number, length: number, sign: Sign): Float64Array {
  const factors = chirpFactors(n, sign);
  const data = new Float64Array(2 * length);
  for (let m = 0; m < n; m++) {
    for (const place of m === 0 ? [0] : [m, length - m]) {
      data[2 * place] = (factors[2 * m] as number) / length;
      data[2 * place + 1] = (factors[2 * m + 1] as number) / length;
    }
  }
  return hostTransform(data);
}

/** A transform of 2^k pairs on the host, forward, by halves. */
function hostTransform(x: Float64Array): Float64Array {
  const n = x.length / 2;
  if (n === 1) return x;
  const half = (offset: number): Float64Array =>
    hostTransform(
      Float64Array.from({ length: n }, (_, i) => x[4 * (i >> 1) + 2 * offset + (i & 1)] as number),
    );
  const [even, odd] = [half(0), half(1)];
  const result = new Float64Array(2 * n);
  for (let k = 0; k < n / 2; k++) {
    const angle = (-2 * Math.PI * k) / n;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    const [a, b] = [odd[2 * k] as number, odd[2 * k + 1] as number];
    const [re, im] = [a * c - b * s, a * s + b * c];
    result[2 * k] = (even[2 * k] as number) + re;
    result[2 * k + 1] = (even[2 * k + 1] as number) + im;
    result[2 * k + n] = (even[2 * k] as number) - re;
    result[2 * k + n + 1] = (even[2 * k + 1] as number) - im;
  }
  return result;
}

/** Pairs in the last axis as parts in the axis before, or back. */
function swapped(x: Node): Node {
  return ops.transpose(x, -2, -1);
}

/** [.., n, 2] to [.., n, 2], without a factor. */
export function complexTransform(x: Node, sign: Sign): Node {
  const n = x.shape.at(-2) as number;
  return swapped(
    transform(swapped(x), n, { sign, realInput: false, realOutput: false, outputs: n }),
  );
}

/** Real [.., n] to the first n/2 + 1 results [.., n/2 + 1, 2]; the others are their conjugates. */
export function realTransform(x: Node, sign: Sign): Node {
  const n = x.shape.at(-1) as number;
  const outputs = Math.floor(n / 2) + 1;
  return swapped(transform(x, n, { sign, realInput: true, realOutput: false, outputs }));
}

/** The real parts [.., n] of the transform of what has [.., n/2 + 1, 2] as its first half. */
export function halfTransform(x: Node, n: number, sign: Sign): Node {
  const rank = x.shape.length;
  const mirrored = n - (x.shape.at(-2) as number);
  let whole = swapped(x);
  if (mirrored > 0) {
    const inner = ops.flip(ops.narrowAxis(whole, rank - 1, 1, mirrored), rank - 1);
    const real = ops.narrowAxis(inner, rank - 2, 0, 1);
    const imaginary = ops.neg(ops.narrowAxis(inner, rank - 2, 1, 1));
    whole = ops.concat([whole, ops.concat([real, imaginary], rank - 2)], rank - 1);
  }
  return transform(whole, n, { sign, realInput: false, realOutput: true, outputs: n });
}
