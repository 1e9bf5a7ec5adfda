// Elementwise functions made of others: signs, angles, integers' divisors, Bessel functions.
import { type DType, isFloat, isInteger } from '../../base/dtype.ts';
import { ArgumentError, DTypeError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { floatOperands } from './arithmetic.ts';
import { nodeOf } from './arguments.ts';
import { castNode, numberNode, promoteOperands, type TensorLike, wrap } from './handle.ts';
import { logaddexpNode, xlogyNode } from './logarithms.ts';
import type { Tensor } from './tensor.ts';
import { floatNode } from './unary.ts';

// ---- signs and steps --------------------------------------------------------------------------

/** Whether an element has its sign bit set: also -0. */
function isNegative(node: Node): Node {
  const zero = ops.constant(0, node.dtype);
  if (!isFloat(node.dtype)) return ops.less(node, zero);
  // 1 / -0 is minus infinity.
  const inverse = ops.div(ops.constant(1, node.dtype), node);
  const isZero = ops.equal(node, zero);
  return ops.less(ops.select(isZero, inverse, node), zero);
}

/** Whether the sign is negative: true for -0 too. NaN counts as positive. */
export function signbit(x: Tensor): Tensor {
  const node = nodeOf('signbit', x);
  return wrap(node.dtype === 'bool' ? ops.full(node.shape, 0, 'bool') : isNegative(node));
}

/**
 * The magnitude of `a` with the sign of `b`, where -0 is negative. The gradient by `a` is 1 or -1, at 0 it
 * is 0; none flows to `b`.
 *
 * @example
 * ```ts
 * copysign(tensor([1, -2]), tensor([-1, 1])); // => [-1, 2]
 * ```
 */
export function copysign(a: TensorLike, b: TensorLike): Tensor {
  const [x, y] = floatOperands('copysign', a, b);
  const magnitude = ops.abs(x);
  return wrap(ops.select(isNegative(ops.detach(y)), ops.neg(magnitude), magnitude));
}

/** 0 where `x` is negative, 1 where it is positive, `values` where it is 0; 0 for NaN, as in PyTorch. */
export function heaviside(x: Tensor, values: TensorLike): Tensor {
  const [node, at] = promoteOperands('heaviside', x, values);
  const zero = ops.constant(0, node.dtype);
  const step = ops.select(ops.greater(node, zero), ops.constant(1, node.dtype), zero);
  return wrap(ops.select(ops.equal(node, zero), at, step));
}

// ---- angles and logarithms --------------------------------------------------------------------

/** Degrees as radians. */
export function deg2rad(x: Tensor): Tensor {
  const node = floatNode('deg2rad', x);
  return wrap(ops.mul(node, ops.constant(Math.PI / 180, node.dtype)));
}

/** Radians as degrees. */
export function rad2deg(x: Tensor): Tensor {
  const node = floatNode('rad2deg', x);
  return wrap(ops.mul(node, ops.constant(180 / Math.PI, node.dtype)));
}

/**
 * sin(πx) / (πx), 1 at 0.
 *
 * @example
 * ```ts
 * sinc(tensor([0, 0.5, 1])); // => [1.000, 0.637, 0.000]
 * ```
 */
export function sinc(x: Tensor): Tensor {
  const node = floatNode('sinc', x);
  const { dtype } = node;
  const square = ops.mul(ops.mul(node, node), ops.constant(Math.PI ** 2, dtype));
  // Near 0 by its series, whose derivatives are there too.
  const near = ops.less(ops.abs(node), ops.constant(dtype === 'float64' ? 1e-3 : 1e-2, dtype));
  const one = ops.constant(1, dtype);
  const angle = ops.mul(ops.select(near, one, node), ops.constant(Math.PI, dtype));
  const series = polynomial(square, [1, -1 / 6, 1 / 120, -1 / 5040]);
  return wrap(ops.select(near, series, ops.div(ops.sin(angle), angle)));
}

/** a * log(1 + b), 0 where `a` is 0 (unless `b` is NaN). */
export function xlog1py(a: TensorLike, b: TensorLike): Tensor {
  const [x, y] = floatOperands('xlog1py', a, b);
  const zero = ops.constant(0, x.dtype);
  const skip = ops.logicalAnd(ops.equal(x, zero), ops.logicalNot(ops.isNaN(y)));
  return wrap(ops.select(skip, zero, ops.mul(x, ops.log1p(ops.select(skip, zero, y)))));
}

/** -x log(x): 0 at 0, minus infinity below. */
export function entr(x: Tensor): Tensor {
  const node = floatNode('entr', x);
  const zero = ops.constant(0, node.dtype);
  const one = ops.constant(1, node.dtype);
  const below = ops.less(node, zero);
  const value = ops.neg(xlogyNode(node, ops.select(below, one, node)));
  return wrap(ops.select(below, ops.constant(-Infinity, node.dtype), value));
}

/** log2(2^a + 2^b) without overflow. */
export function logaddexp2(a: TensorLike, b: TensorLike): Tensor {
  const [x, y] = floatOperands('logaddexp2', a, b);
  const ln2 = ops.constant(Math.LN2, x.dtype);
  const sum = logaddexpNode(ops.mul(x, ln2), ops.mul(y, ln2));
  return wrap(ops.mul(sum, ops.constant(Math.LOG2E, x.dtype)));
}

/** a * 2^b. */
export function ldexp(a: TensorLike, b: TensorLike): Tensor {
  const [x, y] = floatOperands('ldexp', a, b);
  return wrap(ops.mul(x, ops.exp2(y)));
}

/** a ** b in float64 if an operand is, else in float32. */
export function floatPower(a: TensorLike, b: TensorLike): Tensor {
  const [x, y] = floatOperands('floatPower', a, b);
  return wrap(ops.pow(x, y));
}

/** The probability that a standard normal number is at most x. */
export function ndtr(x: Tensor): Tensor {
  const node = floatNode('ndtr', x);
  const scaled = ops.mul(node, ops.constant(-Math.SQRT1_2, node.dtype));
  return wrap(ops.mul(ops.erfc(scaled), ops.constant(0.5, node.dtype)));
}

/** log of the multivariate gamma function: Σ lgamma(x - i/2) for i < p, plus p (p - 1) / 4 log π. */
export function mvlgamma(x: Tensor, p: number): Tensor {
  const op = 'mvlgamma';
  if (!Number.isInteger(p) || p < 1) {
    throw new ArgumentError(`p must be a positive integer, got ${String(p)}`, { op });
  }
  const node = floatNode(op, x);
  let total = ops.constant((p * (p - 1) * Math.log(Math.PI)) / 4, node.dtype);
  for (let i = 0; i < p; i++) {
    total = ops.add(total, ops.lgamma(ops.sub(node, ops.constant(i / 2, node.dtype))));
  }
  return wrap(total);
}

// ---- integers ---------------------------------------------------------------------------------

function integers(op: string, a: TensorLike, b: TensorLike): readonly [Node, Node, DType] {
  const [x, y] = promoteOperands(op, a, b);
  if (!isInteger(x.dtype) || x.dtype === 'uint32') {
    throw new DTypeError(`takes integers of up to 32 bits with a sign, not ${x.dtype}`, {
      op,
      hint: "cast to 'int32' first",
    });
  }
  return [castNode(x, 'int32'), castNode(y, 'int32'), x.dtype];
}

/** Steps of Euclid's algorithm that numbers of each width can need: of Fibonacci's, the most. */
const EUCLID: Readonly<Record<string, number>> = { int8: 11, uint8: 13, int16: 23, int32: 46 };

function divisor(x: Node, y: Node, steps: number): Node {
  const zero = ops.constant(0, 'int32');
  let [large, small] = [ops.abs(x), ops.abs(y)];
  for (let step = 0; step < steps; step++) {
    const done = ops.equal(small, zero);
    const rest = ops.remainder(large, ops.select(done, ops.constant(1, 'int32'), small));
    [large, small] = [ops.select(done, large, small), ops.select(done, zero, rest)];
  }
  return large;
}

/**
 * The greatest common divisor of integers; of 0 and 0 it is 0.
 *
 * @example
 * ```ts
 * gcd(tensor([12, 0], { dtype: 'int32' }), tensor([18, 5], { dtype: 'int32' })); // => [6, 5]
 * ```
 */
export function gcd(a: TensorLike, b: TensorLike): Tensor {
  const [x, y, dtype] = integers('gcd', a, b);
  return wrap(castNode(divisor(x, y, EUCLID[dtype] as number), dtype));
}

/** The least common multiple of integers; 0 if one is 0. */
export function lcm(a: TensorLike, b: TensorLike): Tensor {
  const [x, y, dtype] = integers('lcm', a, b);
  const zero = ops.constant(0, 'int32');
  const one = ops.constant(1, 'int32');
  const common = divisor(x, y, EUCLID[dtype] as number);
  const safe = ops.select(ops.equal(common, zero), one, common);
  return wrap(castNode(ops.abs(ops.mul(ops.truncDivide(x, safe), y)), dtype));
}

// ---- Bessel functions -------------------------------------------------------------------------

/** Σ terms[k] x^k by Horner's scheme. */
function polynomial(x: Node, terms: readonly number[]): Node {
  return terms.reduceRight<Node | null>(
    (sum, term) =>
      sum === null
        ? ops.constant(term, x.dtype)
        : ops.add(ops.mul(sum, x), ops.constant(term, x.dtype)),
    null,
  ) as Node;
}

/** Where the power series ends and the asymptotic one begins, and terms of both, by dtype. */
function besselTerms(dtype: DType, order: 0 | 1) {
  const [edge, count, far] = dtype === 'float64' ? [20, 50, 26] : [9, 26, 12];
  const series: number[] = [];
  let term = 1;
  for (let k = 0; k < count; k++) {
    series.push(term);
    term /= (k + 1) * (k + 1 + order);
  }
  // Abramowitz and Stegun 9.7.1: e^x / sqrt(2 pi x) times this polynomial of 1/x.
  const asymptotic: number[] = [];
  let share = 1;
  for (let k = 0; k < far; k++) {
    asymptotic.push(share);
    share *= ((2 * k + 1) ** 2 - 4 * order) / (8 * (k + 1));
  }
  return { edge, series, asymptotic };
}

/** The modified Bessel function of order 0 or 1, times exp(-|x|) if `scaled`. */
function bessel(op: string, x: Tensor, order: 0 | 1, scaled: boolean): Tensor {
  const given = floatNode(op, x);
  const half = given.dtype === 'float16' || given.dtype === 'bfloat16';
  const node = half ? castNode(given, 'float32') : given;
  const { dtype } = node;
  const { edge, series, asymptotic } = besselTerms(dtype, order);
  const magnitude = ops.abs(node);
  const limit = numberNode(edge, dtype);
  const isFar = ops.greater(magnitude, limit);
  const near = ops.select(isFar, limit, node);
  const quarter = ops.mul(ops.mul(near, near), ops.constant(0.25, dtype));
  const power = polynomial(quarter, series);
  const first = order === 0 ? power : ops.mul(ops.mul(near, ops.constant(0.5, dtype)), power);
  const inner = scaled ? ops.mul(first, ops.exp(ops.neg(ops.abs(near)))) : first;
  const outside = ops.select(isFar, magnitude, limit);
  const inverse = ops.div(ops.constant(1, dtype), outside);
  const root = ops.sqrt(ops.mul(inverse, ops.constant(1 / (2 * Math.PI), dtype)));
  const tail = ops.mul(root, polynomial(inverse, asymptotic));
  // In two halves, so that it overflows no sooner than the result.
  const grown = ops.exp(ops.mul(outside, ops.constant(0.5, dtype)));
  const large = scaled ? tail : ops.mul(ops.mul(tail, grown), grown);
  const signed =
    order === 0 ? large : ops.select(ops.less(node, ops.constant(0, dtype)), ops.neg(large), large);
  return wrap(castNode(ops.select(isFar, signed, inner), given.dtype));
}

/** The modified Bessel function of the first kind of order 0. */
export function i0(x: Tensor): Tensor {
  return bessel('i0', x, 0, false);
}
/** `i0` times exp(-|x|). */
export function i0e(x: Tensor): Tensor {
  return bessel('i0e', x, 0, true);
}
/** The modified Bessel function of the first kind of order 1. */
export function i1(x: Tensor): Tensor {
  return bessel('i1', x, 1, false);
}
/** `i1` times exp(-|x|). */
export function i1e(x: Tensor): Tensor {
  return bessel('i1e', x, 1, true);
}
