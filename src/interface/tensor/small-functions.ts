// Functions made of others that stand nowhere else: extremes that pass over NaN, signs of infinities,
// products of vectors, what is written on diagonals, polygamma, dtypes and shapes that result.
import { checkInteger } from '../../base/checks.ts';
import { type DType, isDType, isFloat, promote } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import {
  broadcastShapes as commonShape,
  formatShape,
  normalizeAxis,
  type Shape,
  sizeOf,
} from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from './arguments.ts';
import { floatOperands, mul } from './arithmetic.ts';
import { castNode, numberNode, promoteOperands, type TensorLike, wrap } from './handle.ts';
import { indexNode } from './index-values.ts';
import { type ProductScales, bmm, tensordot } from './linear-algebra.ts';
import { normNode } from './reductions.ts';
import { scatterReduce, type ScatterReduction } from './scattering.ts';
import type { DiagonalOptions } from './shaping.ts';
import { diagEmbed, diagonal, flatten } from './shaping.ts';
import { tensorSplit } from './arranging.ts';
import type { Tensor } from './tensor.ts';
import { floatNode } from './unary.ts';

// ---- elementwise ------------------------------------------------------------------------------

function withoutNaN(
  op: string,
  a: TensorLike,
  b: TensorLike,
  choose: (x: Node, y: Node) => Node,
): Tensor {
  const [x, y] = promoteOperands(op, a, b);
  if (!isFloat(x.dtype)) return wrap(choose(x, y));
  // NaN gives way to the other operand; where both are, it stays.
  const left = ops.select(ops.isNaN(x), y, x);
  const right = ops.select(ops.isNaN(y), x, y);
  return wrap(choose(left, right));
}

/**
 * The larger of two numbers; of a number and NaN the number. `maximum` gives NaN there.
 *
 * @example
 * fmax(tensor([1, NaN, NaN]), tensor([2, 3, NaN])); // => [2, 3, NaN]
 */
export function fmax(a: TensorLike, b: TensorLike): Tensor {
  return withoutNaN('fmax', a, b, ops.maximum);
}

/** The smaller of two numbers; of a number and NaN the number. */
export function fmin(a: TensorLike, b: TensorLike): Tensor {
  return withoutNaN('fmin', a, b, ops.minimum);
}

function isInfinity(op: string, x: Tensor, which: number): Tensor {
  const node = nodeOf(op, x);
  if (!isFloat(node.dtype)) return wrap(ops.full(node.shape, 0, 'bool'));
  return wrap(ops.equal(node, ops.constant(which, node.dtype)));
}

/** Whether elements are Infinity. */
export function isposinf(x: Tensor): Tensor {
  return isInfinity('isposinf', x, Infinity);
}

/** Whether elements are -Infinity. */
export function isneginf(x: Tensor): Tensor {
  return isInfinity('isneginf', x, -Infinity);
}

/**
 * The n-th derivative of `digamma`: n = 0 is digamma itself. From n = 2 on for positive x only, by the
 * shifted asymptotic series (DLMF 5.15.8); elsewhere NaN.
 *
 * @example
 * polygamma(1, tensor([1])); // => [1.645]
 */
export function polygamma(n: number, x: Tensor): Tensor {
  const op = 'polygamma';
  checkInteger(op, 'n', n, 0);
  const node = floatNode(op, x);
  if (n === 0) return wrap(ops.digamma(node));
  if (n === 1) return wrap(ops.trigamma(node));
  const wide = castNode(node, node.dtype === 'float64' ? 'float64' : 'float32');
  return wrap(castNode(polygammaNode(n, wide), node.dtype));
}

/** Bernoulli numbers B2, B4, ... */
const BERNOULLI = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730];
/** How far x is shifted before the series is taken. */
const SHIFT = 10;

function polygammaNode(n: number, x: Node): Node {
  const number = (value: number): Node => ops.constant(value, x.dtype);
  const positive = ops.greater(x, number(0));
  // The branch that is not taken must stay finite, for the sake of its gradient.
  const z = ops.select(positive, x, number(1));
  const power = (base: Node, exponent: number): Node => ops.pow(base, number(exponent));
  let sum = power(z, -n - 1);
  for (let k = 1; k < SHIFT; k++) sum = ops.add(sum, power(ops.add(z, number(k)), -n - 1));
  const far = ops.add(z, number(SHIFT));
  const leading = ops.mul(power(far, -n), number(1 / n));
  let series = ops.add(leading, ops.mul(power(far, -n - 1), number(0.5)));
  // B2k (n+1)(n+2)...(n+2k-1) / (2k)! / x^(n+2k)
  let factor = (n + 1) / 2;
  BERNOULLI.forEach((bernoulli, k) => {
    series = ops.add(series, ops.mul(power(far, -n - 2 * k - 2), number(bernoulli * factor)));
    factor *= ((n + 2 * k + 2) * (n + 2 * k + 3)) / ((2 * k + 3) * (2 * k + 4));
  });
  let factorial = 1;
  for (let k = 2; k <= n; k++) factorial *= k;
  const value = ops.mul(ops.add(sum, series), number(n % 2 === 0 ? -factorial : factorial));
  return ops.select(positive, value, number(NaN));
}

/**
 * The logarithm of `ndtr`, precise also where that is tiny.
 *
 * @example
 * logNdtr(tensor([0, -30])); // => [-0.693, -454.321]
 */
export function logNdtr(x: Tensor): Tensor {
  const node = floatNode('logNdtr', x);
  const dtype = node.dtype === 'float64' ? 'float64' : 'float32';
  const wide = castNode(node, dtype);
  const number = (value: number): Node => ops.constant(value, dtype);
  const edge = number(dtype === 'float64' ? -20 : -10);
  const isFar = ops.less(wide, edge);
  const isUpper = ops.greater(wide, number(-1));
  const tail = (z: Node): Node => ops.mul(ops.erfc(ops.mul(z, number(Math.SQRT1_2))), number(0.5));
  const upper = ops.log1p(ops.neg(tail(ops.select(isUpper, wide, number(0)))));
  const within = ops.logicalOr(isFar, isUpper);
  const middle = ops.log(tail(ops.neg(ops.select(within, number(-2), wide))));
  // The asymptotic series of Mills' ratio (DLMF 7.12.1).
  const far = ops.select(isFar, wide, edge);
  const r = ops.reciprocal(ops.mul(far, far));
  let series = number(-945);
  for (const coefficient of [105, -15, 3, -1]) {
    series = ops.add(ops.mul(series, r), number(coefficient));
  }
  const correction = ops.log1p(ops.mul(series, r));
  const square = ops.mul(ops.mul(far, far), number(-0.5));
  const leading = ops.sub(square, ops.log(ops.neg(far)));
  const below = ops.add(ops.sub(leading, number(0.5 * Math.log(2 * Math.PI))), correction);
  return wrap(castNode(ops.select(isFar, below, ops.select(isUpper, upper, middle)), node.dtype));
}

// ---- products and distances -------------------------------------------------------------------

/**
 * Sums of products over the last axes of both.
 *
 * @example
 * inner(tensor([1, 2]), tensor([[3, 4], [5, 6]])); // => [11, 17]
 */
export function inner(a: Tensor, b: Tensor): Tensor {
  const [x, y] = [nodeOf('inner', a), nodeOf('inner', b)];
  if (x.shape.length === 0 || y.shape.length === 0) return mul(a, b);
  return tensordot(a, b, [[-1], [-1]]);
}

/** `beta * input + alpha * (v1 ⊗ v2)`: the outer product of two vectors added. */
export function addr(input: Tensor, v1: Tensor, v2: Tensor, scales: ProductScales = {}): Tensor {
  const op = 'addr';
  const [x, y] = vectors(op, v1, v2);
  const { alpha = 1, beta = 1 } = scales;
  const product = ops.mul(ops.reshape(x, [x.shape[0]!, 1]), ops.reshape(y, [1, y.shape[0]!]));
  return scaledSum(op, input, product, alpha, beta);
}

function vectors(op: string, a: Tensor, b: Tensor): [Node, Node] {
  const both = promoteOperands(op, a, b);
  for (const { shape } of both) {
    if (shape.length === 1) continue;
    throw new ShapeError(`takes vectors, got ${formatShape(shape)}`, { op });
  }
  return both;
}

function scaledSum(op: string, input: Tensor, product: Node, alpha: number, beta: number): Tensor {
  const times = (node: Node, factor: number): Node =>
    factor === 1 ? node : ops.mul(node, numberNode(factor, node.dtype));
  const scaled = times(product, alpha);
  const start = castNode(nodeOf(op, input), product.dtype);
  if (beta === 0) return wrap(scaled);
  return wrap(ops.add(times(ops.expand(start, product.shape), beta), scaled));
}

/** `beta * input + alpha * Σ a[i] @ b[i]` over a batch of matrices. */
export function addbmm(input: Tensor, a: Tensor, b: Tensor, scales: ProductScales = {}): Tensor {
  const { alpha = 1, beta = 1 } = scales;
  return scaledSum('addbmm', input, ops.sum(bmm(a, b).node, 0), alpha, beta);
}

/** The p-norm of a - b, which broadcast, over all elements. */
export function dist(a: Tensor, b: Tensor, p = 2): Tensor {
  const [x, y] = floatOperands('dist', a, b);
  const difference = ops.sub(x, y);
  const flat = ops.reshape(difference, [sizeOf(difference.shape)]);
  return wrap(normNode(flat, p, [0], false));
}

/**
 * The p-norms of the differences of all pairs of rows [n, size], i < j: [n (n - 1) / 2].
 *
 * @example
 * pdist(tensor([[0, 0], [3, 4], [0, 1]])); // => [5.000, 1.000, 4.243]
 */
export function pdist(x: Tensor, p = 2): Tensor {
  const op = 'pdist';
  const node = floatNode(op, x);
  const [count] = node.shape;
  if (node.shape.length !== 2 || count === undefined) {
    throw new ShapeError(`takes rows [n, size], got ${formatShape(node.shape)}`, { op });
  }
  if (!(p >= 0)) throw new ArgumentError(`p must not be negative, got ${p}`, { op });
  const pairs = (count * (count - 1)) / 2;
  if (pairs === 0) return wrap(ops.full([0], 0, node.dtype));
  const size = node.shape[1]!;
  const parts: Node[] = [];
  for (let i = 0; i + 1 < count; i++) {
    const row = ops.expand(ops.narrowAxis(node, 0, i, 1), [count - 1 - i, size]);
    parts.push(ops.sub(row, ops.narrowAxis(node, 0, i + 1, count - 1 - i)));
  }
  return wrap(normNode(ops.concat(parts, 0), p, [1], false));
}

// ---- diagonals and pieces ---------------------------------------------------------------------

/** A matrix with the elements of `x`, flattened, on a diagonal. */
export function diagflat(x: Tensor, offset = 0): Tensor {
  return diagEmbed(flatten(x), { offset });
}

/**
 * `x` with `source` in the place of a diagonal, of whose shape it is.
 *
 * @example
 * diagonalScatter(tensor([[1, 2], [3, 4]]), tensor([8, 9])); // => [[8, 2], [3, 9]]
 */
export function diagonalScatter(x: Tensor, source: Tensor, options: DiagonalOptions = {}): Tensor {
  const op = 'diagonalScatter';
  const node = nodeOf(op, x);
  const { shape } = diagonal(x, options);
  const given = nodeOf(op, source);
  if (formatShape(given.shape) !== formatShape(shape)) {
    throw new ShapeError(
      `the diagonal is ${formatShape(shape)}, the source ${formatShape(given.shape)}`,
      { op },
    );
  }
  // Positions of the diagonal among all elements, as the diagonal of positions.
  const size = sizeOf(node.shape);
  const order = wrap(ops.reshape(ops.iota([size], 0, 'int32'), node.shape));
  const index = indexNode(op, diagonal(order, options).reshape([-1]), Math.max(size, 1));
  const values = ops.reshape(castNode(given, node.dtype), [sizeOf(shape)]);
  const ones = ops.full([sizeOf(shape)], 1, 'int32');
  const touched = ops.greater(ops.addRows(ones, index, 0, size), ops.constant(0, 'int32'));
  const placed = ops.addRows(values, index, 0, size);
  const flat = ops.reshape(node, [size]);
  return wrap(ops.reshape(ops.select(touched, placed, flat), node.shape));
}

/** Parts of a tensor of three axes or more along its third: their number, or where to cut. */
export function dsplit(x: Tensor, parts: number | readonly number[]): Tensor[] {
  if (nodeOf('dsplit', x).shape.length < 3) {
    throw new ShapeError(`takes three axes or more, got ${formatShape(x.shape)}`, {
      op: 'dsplit',
    });
  }
  return tensorSplit(x, parts, 2);
}

/**
 * Joins rows of `source` that meet at each index along an axis, as `scatterReduce` joins elements: the
 * index [n] names a row for each of source's.
 */
export function indexReduce(
  x: Tensor,
  axis: number,
  index: Tensor,
  source: Tensor,
  reduce: ScatterReduction,
  options: { includeSelf?: boolean } = {},
): Tensor {
  const op = 'indexReduce';
  const node = nodeOf(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const rows = indexNode(op, index, node.shape[normal]!);
  const given = nodeOf(op, source);
  const expected = node.shape.map((size, i) => (i === normal ? (rows.shape[0] ?? 1) : size));
  if (rows.shape.length !== 1 || formatShape(given.shape) !== formatShape(expected)) {
    throw new ShapeError(
      `the source is ${formatShape(given.shape)}, for index ${formatShape(rows.shape)} it must be ${formatShape(expected)}`,
      { op },
    );
  }
  const unit = expected.map((size, i) => (i === normal ? size : 1));
  const whole = wrap(ops.expand(ops.reshape(rows, unit), expected));
  return scatterReduce(x, normal, whole, source, reduce, options);
}

// ---- what results -----------------------------------------------------------------------------

/**
 * The dtype of a result of two tensors with these dtypes.
 *
 * @example
 * promoteTypes('int32', 'float16'); // => 'float16'
 */
export function promoteTypes(a: DType, b: DType): DType {
  for (const dtype of [a, b]) {
    if (!isDType(dtype)) {
      throw new DTypeError(`there is no dtype '${String(dtype)}'`, { op: 'promoteTypes' });
    }
  }
  return promote(a, b);
}

/**
 * The shape that shapes have in common when they broadcast. Throws ShapeError if they do not.
 *
 * @example
 * broadcastShapes([2, 1], [3]); // => [2, 3]
 */
export function broadcastShapes(...shapes: readonly Shape[]): number[] {
  return commonShape('broadcastShapes', ...shapes);
}
