// sin, cos, tan and their inverses in float32. Coefficients: scripts/experiments/fit.ts.
import type { Expression } from '../expression.ts';
import { nearestInteger } from './exponential.ts';
import type { MathEmitter, Pair } from './emitter.ts';

const SIN = [-0.166666552, 0.00833218824, -0.000195181259];
const COS = [0.0416666456, -0.00138873095, 0.0000244324256];
const TAN = [
  0.333333492, 0.133326739, 0.0540591776, 0.0212845076, 0.0108325072, 0.0000911543393,
  0.00437647663,
];
const ASIN = [0.166667521, 0.0749530643, 0.0454697721, 0.0241807699, 0.0421664305];
const ATAN = [
  -0.333332986, 0.199985296, -0.142640129, 0.109508544, -0.0839919075, 0.0578786097, -0.0310933143,
  0.0108661754, -0.00178212777,
];

const HALF_PI = Math.PI / 2;
/** What float64 loses of pi/2. */
const HALF_PI_LOW = 6.123233995736766e-17;

/** pi/2 cut into parts of `bits` bits, the last one rounded to float32. */
function partsOfHalfPi(bits: number, count: number): readonly number[] {
  const parts: number[] = [];
  let rest = HALF_PI;
  let unit = 2 ** (1 - bits);
  for (let part = 1; part < count; part++) {
    const head = Math.trunc(rest / unit) * unit;
    parts.push(head);
    rest -= head;
    unit *= 2 ** -bits;
  }
  return [...parts, Math.fround(rest + HALF_PI_LOW)];
}

/** x = quadrant * pi/2 + r + low, with |r| <= pi/4 and `low` below its last bit. */
interface Reduced {
  readonly r: Expression;
  readonly low: Expression;
  readonly quadrant: Expression;
}

/**
 * Subtracts multiples of pi/2, in parts of 24 bits, for |x| up to LARGEST_ANGLE. The first difference
 * is exact; what the second loses is kept.
 */
function reduce(m: MathEmitter, x: Expression): Reduced {
  const { float: k, integer: quadrant } = nearestInteger(m, x, 2 / Math.PI);
  const [first = 0, second = 0, third = 0] = partsOfHalfPi(24, 3);
  const difference = m.fused ? m.fma(k, -first, x) : exactDifference(m, x, k, first);
  const product = m.twoProduct(k, m.c(-second));
  const sum = m.twoSum(difference, product.high);
  const rest = m.fma(k, -third, m.add(sum.low, product.low));
  return corrected(m, m.fastTwoSum(sum.high, rest), quadrant);
}

/**
 * The product of a large angle rounds to a quadrant that may not be the nearest: one more goes off,
 * exactly, because what remains is then more than half of it.
 */
function corrected(m: MathEmitter, rest: Pair, quadrant: Expression): Reduced {
  const { float: k, integer } = nearestInteger(m, rest.high, 2 / Math.PI);
  const head = Math.fround(HALF_PI);
  const difference = m.fma(k, -head, rest.high);
  const { high, low } = m.fastTwoSum(difference, m.fma(k, head - HALF_PI, rest.low));
  return { r: high, low, quadrant: m.add(quadrant, integer) };
}

/** x - k * part, which is a number of at most 24 bits, without fma: no step of it rounds. */
function exactDifference(m: MathEmitter, x: Expression, k: Expression, part: number): Expression {
  const product = m.twoProduct(k, m.c(-part));
  return m.add(m.add(x, product.high), product.low);
}

function sinPolynomial(m: MathEmitter, r: Expression, square: Expression): Expression {
  return m.fma(m.mul(square, r), m.polynomial(square, SIN), r);
}

function cosPolynomial(m: MathEmitter, square: Expression): Expression {
  const tail = m.mul(m.mul(square, square), m.polynomial(square, COS));
  return m.add(m.fma(square, -0.5, 1), tail);
}

/** The sine of x + turns * pi/2. */
function sinTurned(m: MathEmitter, x: Expression, turns: number): Expression {
  const { r, quadrant } = reduce(m, x);
  const turned = turns === 0 ? quadrant : m.add(quadrant, turns);
  const square = m.mul(r, r);
  const odd = m.compare('ne', m.binary('and', turned, 1), m.i(0));
  const value = m.select(odd, cosPolynomial(m, square), sinPolynomial(m, r, square));
  const sign = m.binary('shl', m.binary('and', turned, 2), 30);
  const signed = m.float(m.binary('xor', m.bits(value), sign));
  return inRange(m, x, signed);
}

/** Largest argument that `reduce` takes apart rightly: up to here quadrants are known exactly. */
const LARGEST_ANGLE = 2 ** 22;

/**
 * Beyond the reduction's range neighbouring float32 numbers are far apart on the circle. What is
 * returned there is NaN, not a number that looks like a sine.
 */
function inRange(m: MathEmitter, x: Expression, value: Expression): Expression {
  return m.select(m.compare('le', m.abs(x), m.c(LARGEST_ANGLE)), value, NaN);
}

export function sin(m: MathEmitter, x: Expression): Expression {
  // sin(-0) is -0, which the polynomial loses in its sum.
  return m.select(m.isZero(x), x, sinTurned(m, x, 0));
}

export function cos(m: MathEmitter, x: Expression): Expression {
  return sinTurned(m, x, 1);
}

/** The tangent of r, or in odd quadrants -1 / tan r. */
export function tan(m: MathEmitter, x: Expression): Expression {
  const { r, low, quadrant } = reduce(m, x);
  const square = m.mul(r, r);
  // The derivative, 1 + tan^2 r, weighs what r lost.
  const correction = m.fma(m.mul(square, r), m.polynomial(square, TAN), m.fma(low, square, low));
  const value = m.add(r, correction);
  const odd = m.compare('ne', m.binary('and', quadrant, 1), m.i(0));
  const turned = m.select(odd, m.div(m.c(-1), value), value);
  return m.select(m.isZero(x), x, inRange(m, x, turned));
}

/** By polynomial up to 1/2; above, pi/2 - 2 asin(sqrt((1 - |x|) / 2)). */
export function asin(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const large = m.compare('gt', magnitude, 0.5);
  const value = asinHalf(m, magnitude, large);
  const complement = m.add(m.fma(value, -2, HALF_PI), Math.fround(HALF_PI - Math.fround(HALF_PI)));
  return m.copySign(m.select(large, complement, value), x);
}

/** asin of |x|, or where `large`, half the arc cosine of |x|. */
function asinHalf(m: MathEmitter, magnitude: Expression, large: Expression): Expression {
  const halved = m.mul(m.sub(m.c(1), magnitude), 0.5);
  const square = m.select(large, halved, m.mul(magnitude, magnitude));
  const root = m.select(large, m.sqrt(halved), magnitude);
  return m.fma(m.mul(root, square), m.polynomial(square, ASIN), root);
}

export function acos(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const large = m.compare('gt', magnitude, 0.5);
  const value = asinHalf(m, magnitude, large);
  const negative = m.compare('lt', x, 0);
  const low = HALF_PI - Math.fround(HALF_PI);
  // Up to 1/2: pi/2 - asin x. Above: 2 v. Below -1/2: pi - 2 v.
  const signed = m.select(negative, m.neg(value), value);
  const central = m.sub(m.c(HALF_PI), m.sub(signed, low));
  const twice = m.add(value, value);
  const outer = m.select(negative, m.sub(m.c(Math.PI), m.sub(twice, 2 * low)), twice);
  return m.select(large, outer, central);
}

/** The arc tangent of a ratio in [0, 1]. */
function atanRatio(m: MathEmitter, ratio: Expression): Expression {
  const square = m.mul(ratio, ratio);
  return m.fma(m.mul(square, ratio), m.polynomial(square, ATAN), ratio);
}

/** pi/2 - value, to the last bit of pi/2. */
function complementary(m: MathEmitter, value: Expression): Expression {
  const low = HALF_PI - Math.fround(HALF_PI);
  return m.sub(m.c(HALF_PI), m.sub(value, low));
}

export function atan(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const large = m.compare('gt', magnitude, 1);
  const value = atanRatio(m, m.select(large, m.div(m.c(1), magnitude), magnitude));
  return m.copySign(m.select(large, complementary(m, value), value), x);
}

/** The angle of (x, y), with C's rules for zeros and infinities. */
export function atan2(m: MathEmitter, y: Expression, x: Expression): Expression {
  const rise = m.abs(y);
  const run = m.abs(x);
  const steep = m.compare('gt', rise, run);
  const longer = m.select(steep, rise, run);
  const shorter = m.select(steep, run, rise);
  // Equal infinities, like equal numbers, make 45 degrees; two zeros make 0.
  const quotient = m.div(shorter, m.select(m.isZero(longer), 1, longer));
  const infinite = m.compare('eq', shorter, Infinity);
  const value = atanRatio(m, m.select(infinite, 1, quotient));
  const acute = m.select(steep, complementary(m, value), value);
  const behind = m.compare('lt', m.bits(x), m.i(0));
  const low = 2 * (HALF_PI - Math.fround(HALF_PI));
  const angle = m.select(behind, m.sub(m.c(Math.PI), m.sub(acute, low)), acute);
  const defined = m.select(m.isNaN(x), x, angle);
  return m.copySign(m.select(m.isNaN(y), y, defined), y);
}
