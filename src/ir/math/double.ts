// The same functions in float64, to about 1e-14. Written with float64 arithmetic and comparisons
// alone, so that its vectors need no integers; series and recurrences instead of fits. Not fast.
import type { Expression } from '../expression.ts';
import type { MathEmitter } from './emitter.ts';
import { assemblePair, powOf } from './logarithm.ts';
import type { MathBinaryTable, MathUnaryTable } from './table.ts';

const LN2_HIGH = Math.trunc(Math.LN2 * 2 ** 32) / 2 ** 32;
/** The rest of ln 2, with what float64 loses of it. */
const LN2_LOW = Math.LN2 - LN2_HIGH + 2.3190468138462996e-17;

const range = (count: number): readonly number[] => Array.from({ length: count }, (_, k) => k);

function inverseFactorial(n: number): number {
  let product = 1;
  for (let k = 2; k <= n; k++) product *= k;
  return 1 / product;
}

/** 2^k for an integer-valued float, |k| <= 1023, by repeated squaring. */
function powerOfTwo(m: MathEmitter, k: Expression): Expression {
  const negative = m.compare('lt', k, 0);
  let rest = m.abs(k);
  let result = m.c(1);
  for (let bit = 512; bit >= 1; bit /= 2) {
    const set = m.compare('ge', rest, bit);
    const factor = m.select(negative, 2 ** -bit, 2 ** bit);
    result = m.select(set, m.mul(result, factor), result);
    rest = m.select(set, m.sub(rest, bit), rest);
  }
  return result;
}

function scaleByPowerOfTwo(m: MathEmitter, x: Expression, k: Expression): Expression {
  const half = m.builder.unary('trunc', m.mul(k, 0.5));
  return m.mul(m.mul(x, powerOfTwo(m, half)), powerOfTwo(m, m.sub(k, half)));
}

function nearest(m: MathEmitter, x: Expression): Expression {
  return m.builder.unary('round', x);
}

/** x = k ln 2 + r, |r| <= ln 2 / 2. */
function reduceExp(m: MathEmitter, x: Expression): { k: Expression; r: Expression } {
  const k = nearest(m, m.mul(x, Math.LOG2E));
  return { k, r: m.fma(k, -LN2_LOW, m.fma(k, -LN2_HIGH, x)) };
}

const EXP_SERIES = range(14).map(inverseFactorial);

function exp(m: MathEmitter, x: Expression, low?: Expression): Expression {
  const { k, r } = reduceExp(m, m.atLeast(m.atMost(x, 710), -746));
  const exact = low === undefined ? r : m.add(r, low);
  return scaleByPowerOfTwo(m, m.polynomial(exact, EXP_SERIES), k);
}

function exp2(m: MathEmitter, x: Expression): Expression {
  const bounded = m.atLeast(m.atMost(x, 1025), -1076);
  const k = nearest(m, bounded);
  const r = m.mul(m.sub(bounded, k), Math.LN2);
  return scaleByPowerOfTwo(m, m.polynomial(r, EXP_SERIES), k);
}

/** 2^k (e^r - 1) + (2^k - 1), halved so that k = 1024 does not overflow. */
function expm1(m: MathEmitter, x: Expression): Expression {
  const { k, r } = reduceExp(m, m.atLeast(m.atMost(x, 710), -40));
  const q = m.mul(r, m.polynomial(r, EXP_SERIES.slice(1)));
  const half = powerOfTwo(m, m.sub(k, 1));
  const sum = m.fma(half, q, m.sub(half, 0.5));
  return m.select(m.isZero(x), x, m.add(sum, sum));
}

/** Positive finite x as mantissa in [sqrt 1/2, sqrt 2) times 2^exponent, by repeated scaling. */
function takeApart(
  m: MathEmitter,
  x: Expression,
): { readonly mantissa: Expression; readonly exponent: Expression } {
  const tiny = m.compare('lt', x, 2 ** -1022);
  let mantissa = m.select(tiny, m.mul(x, 2 ** 54), x);
  let exponent = m.select(tiny, -54, 0);
  for (let bit = 512; bit >= 1; bit /= 2) {
    const above = m.compare('ge', mantissa, 2 ** bit);
    const below = m.compare('lt', mantissa, 2 ** (1 - bit));
    const factor = m.select(above, 2 ** -bit, m.select(below, 2 ** bit, 1));
    mantissa = m.mul(mantissa, factor);
    exponent = m.add(exponent, m.select(above, bit, m.select(below, -bit, 0)));
  }
  const upper = m.compare('ge', mantissa, Math.SQRT2);
  const lower = m.compare('lt', mantissa, Math.SQRT1_2);
  return {
    mantissa: m.mul(mantissa, m.select(upper, 0.5, m.select(lower, 2, 1))),
    exponent: m.add(exponent, m.select(upper, 1, m.select(lower, -1, 0))),
  };
}

/** 2 atanh(s) = 2 s + 2 s^3 / 3 + ... for s = f / (2 + f), |s| < 0.172. */
const LOG_SERIES = range(12).map((k) => 2 / (2 * k + 3));

function logMantissa(m: MathEmitter, mantissa: Expression): Expression {
  const f = m.sub(mantissa, 1);
  const s = m.div(f, m.add(f, 2));
  const square = m.mul(s, s);
  // 2 s = f - s f keeps f's digits.
  return m.sub(f, m.mul(s, m.sub(f, m.mul(square, m.polynomial(square, LOG_SERIES)))));
}

function atEdges(m: MathEmitter, x: Expression, finite: Expression): Expression {
  const positive = m.compare('gt', x, 0);
  const edge = m.select(m.isZero(x), -Infinity, m.select(positive, x, NaN));
  return m.select(m.both(positive, m.compare('lt', x, Infinity)), finite, edge);
}

function finiteLog(m: MathEmitter, x: Expression): Expression {
  const { mantissa, exponent } = takeApart(m, x);
  const small = m.fma(exponent, LN2_LOW, logMantissa(m, mantissa));
  return m.fma(exponent, LN2_HIGH, small);
}

function log(m: MathEmitter, x: Expression): Expression {
  return atEdges(m, x, finiteLog(m, x));
}

function log2(m: MathEmitter, x: Expression): Expression {
  const { mantissa, exponent } = takeApart(m, x);
  return atEdges(m, x, m.fma(logMantissa(m, mantissa), Math.LOG2E, exponent));
}

function log10(m: MathEmitter, x: Expression): Expression {
  const { mantissa, exponent } = takeApart(m, x);
  const fractionLog = m.mul(logMantissa(m, mantissa), Math.LOG10E);
  return atEdges(m, x, m.fma(exponent, Math.log10(2), fractionLog));
}

/** log(u) for u = 1 + x, plus what rounding u lost. */
function log1p(m: MathEmitter, x: Expression): Expression {
  const u = m.add(x, 1);
  const lost = m.sub(x, m.sub(u, 1));
  const value = m.add(finiteLog(m, u), m.div(lost, m.select(m.isZero(u), 1, u)));
  return m.select(m.isZero(x), x, atEdges(m, u, value));
}

function sigmoid(m: MathEmitter, x: Expression): Expression {
  const decay = exp(m, m.neg(m.abs(x)));
  return m.div(m.select(m.compare('lt', x, 0), decay, 1), m.add(decay, 1));
}

function tanh(m: MathEmitter, x: Expression): Expression {
  const t = expm1(m, m.mul(m.abs(x), -2));
  return m.copySign(m.div(m.neg(t), m.add(t, 2)), x);
}

/** e^|x| / 2 without overflow before its time. */
function halfExp(m: MathEmitter, x: Expression): Expression {
  const root = exp(m, m.mul(m.abs(x), 0.5));
  return m.mul(m.mul(root, 0.5), root);
}

function sinh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const t = expm1(m, m.atMost(magnitude, 25));
  const small = m.mul(m.add(t, m.div(t, m.add(t, 1))), 0.5);
  const large = m.compare('gt', magnitude, 20);
  return m.copySign(m.select(large, halfExp(m, x), small), x);
}

function cosh(m: MathEmitter, x: Expression): Expression {
  const half = halfExp(m, x);
  return m.add(half, m.div(m.c(0.25), half));
}

function asinh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const large = m.compare('gt', magnitude, 2 ** 500);
  const square = m.mul(magnitude, magnitude);
  const root = m.sqrt(m.add(square, 1));
  const inner = m.add(magnitude, m.div(square, m.add(root, 1)));
  const value = log1p(m, m.select(large, magnitude, inner));
  return m.copySign(m.add(value, m.select(large, Math.LN2, 0)), x);
}

function acosh(m: MathEmitter, x: Expression): Expression {
  const large = m.compare('gt', x, 2 ** 500);
  const t = m.sub(x, 1);
  const inner = m.add(t, m.sqrt(m.fma(t, t, m.add(t, t))));
  const value = m.add(log1p(m, m.select(large, x, inner)), m.select(large, Math.LN2, 0));
  return m.select(m.compare('lt', x, 1), NaN, value);
}

function atanh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const ratio = m.div(m.add(magnitude, magnitude), m.sub(m.c(1), magnitude));
  return m.copySign(m.mul(log1p(m, ratio), 0.5), x);
}

/** pi/2 in parts whose products with a quadrant below 2^22 are exact. */
const HALF_PI = Math.PI / 2;
const HALF_PI_HEAD = Math.trunc(HALF_PI * 2 ** 29) / 2 ** 29;
const HALF_PI_LOW = 6.123233995736766e-17;
const HALF_PI_PARTS = [HALF_PI_HEAD, HALF_PI - HALF_PI_HEAD, HALF_PI_LOW];
const LARGEST_ANGLE = 2 ** 22;

const SIN_SERIES = range(9).map((k) => (k % 2 === 0 ? -1 : 1) * inverseFactorial(2 * k + 3));
const COS_SERIES = range(9).map((k) => (k % 2 === 0 ? 1 : -1) * inverseFactorial(2 * k + 4));

/** Sine and cosine of what remains of x, and the quadrant, 0 to 3. */
function quadrants(
  m: MathEmitter,
  x: Expression,
): { readonly sine: Expression; readonly cosine: Expression; readonly quadrant: Expression } {
  const k = nearest(m, m.mul(x, 2 / Math.PI));
  const r = HALF_PI_PARTS.reduce((rest, part) => m.fma(k, -part, rest), x);
  const square = m.mul(r, r);
  const sine = m.fma(m.mul(square, r), m.polynomial(square, SIN_SERIES), r);
  const tail = m.mul(m.mul(square, square), m.polynomial(square, COS_SERIES));
  const cosine = m.add(m.fma(square, -0.5, 1), tail);
  const turns = m.builder.unary('floor', m.mul(k, 0.25));
  return { sine, cosine, quadrant: m.sub(k, m.mul(turns, 4)) };
}

function inRange(m: MathEmitter, x: Expression, value: Expression): Expression {
  return m.select(m.compare('le', m.abs(x), m.c(LARGEST_ANGLE)), value, NaN);
}

function isOdd(m: MathEmitter, quadrant: Expression): Expression {
  return m.either(m.compare('eq', quadrant, 1), m.compare('eq', quadrant, 3));
}

function sin(m: MathEmitter, x: Expression): Expression {
  const { sine, cosine, quadrant } = quadrants(m, x);
  const value = m.select(isOdd(m, quadrant), cosine, sine);
  const signed = m.select(m.compare('ge', quadrant, 2), m.neg(value), value);
  return m.select(m.isZero(x), x, inRange(m, x, signed));
}

function cos(m: MathEmitter, x: Expression): Expression {
  const { sine, cosine, quadrant } = quadrants(m, x);
  const value = m.select(isOdd(m, quadrant), sine, cosine);
  const negative = m.either(m.compare('eq', quadrant, 1), m.compare('eq', quadrant, 2));
  return inRange(m, x, m.select(negative, m.neg(value), value));
}

function tan(m: MathEmitter, x: Expression): Expression {
  const { sine, cosine, quadrant } = quadrants(m, x);
  const odd = isOdd(m, quadrant);
  const above = m.select(odd, m.neg(cosine), sine);
  const value = m.div(above, m.select(odd, sine, cosine));
  return m.select(m.isZero(x), x, inRange(m, x, value));
}

/** Two halvings of the angle leave a ratio below 0.2. */
const ATAN_SERIES = range(13).map((k) => (k % 2 === 0 ? 1 : -1) / (2 * k + 1));

function atanRatio(m: MathEmitter, ratio: Expression): Expression {
  const halve = (t: Expression): Expression => m.div(t, m.add(m.sqrt(m.fma(t, t, 1)), 1));
  const quarter = halve(halve(ratio));
  const square = m.mul(quarter, quarter);
  return m.mul(m.mul(quarter, m.polynomial(square, ATAN_SERIES)), 4);
}

/** The angle of (x, y) for y >= 0; `behind` tells whether x has its sign bit set. */
function angle(m: MathEmitter, rise: Expression, run: Expression, behind: Expression): Expression {
  const steep = m.compare('gt', rise, run);
  const longer = m.select(steep, rise, run);
  const shorter = m.select(steep, run, rise);
  const quotient = m.div(shorter, m.select(m.isZero(longer), 1, longer));
  const infinite = m.compare('eq', shorter, Infinity);
  const value = atanRatio(m, m.select(infinite, 1, quotient));
  const acute = m.select(steep, m.sub(m.c(HALF_PI), m.sub(value, HALF_PI_LOW)), value);
  return m.select(behind, m.sub(m.c(Math.PI), m.sub(acute, 2 * HALF_PI_LOW)), acute);
}

function atan(m: MathEmitter, x: Expression): Expression {
  const forward = m.compare('lt', m.c(1), m.c(0));
  return m.copySign(angle(m, m.abs(x), m.c(1), forward), x);
}

/** Whether the sign bit is set: -0 shows its sign when it divides. */
function isNegative(m: MathEmitter, x: Expression): Expression {
  const reciprocal = m.div(m.c(1), x);
  return m.compare('lt', m.select(m.isZero(x), reciprocal, x), 0);
}

function atan2(m: MathEmitter, y: Expression, x: Expression): Expression {
  const magnitude = angle(m, m.abs(y), m.abs(x), isNegative(m, x));
  const signed = m.select(isNegative(m, y), m.neg(magnitude), magnitude);
  return m.select(m.either(m.isNaN(x), m.isNaN(y)), NaN, signed);
}

function asin(m: MathEmitter, x: Expression): Expression {
  const other = m.sqrt(m.mul(m.sub(m.c(1), x), m.add(x, 1)));
  return m.copySign(atan2(m, m.abs(x), other), x);
}

function acos(m: MathEmitter, x: Expression): Expression {
  return atan2(m, m.sqrt(m.mul(m.sub(m.c(1), x), m.add(x, 1))), x);
}

function pow(m: MathEmitter, x: Expression, y: Expression): Expression {
  const { mantissa, exponent } = takeApart(m, m.abs(x));
  const logarithm = assemblePair(m, mantissa, exponent, {
    third: [2 / 3, 3.700743415417188e-17],
    series: range(11).map((k) => 2 / (2 * k + 5)),
    ln2: [LN2_HIGH, LN2_LOW],
  });
  return powOf(m, x, y, { logarithm, exp, negative: isNegative(m, x) });
}

/** Exact for quotients below 2^150: three steps of long division. NaN beyond. */
function fmod(m: MathEmitter, x: Expression, y: Expression): Expression {
  const dividend = m.abs(x);
  const divisor = m.abs(y);
  let rest = dividend;
  for (const shift of [100, 50, 0]) {
    const step = m.mul(divisor, 2 ** shift);
    const quotient = m.builder.unary('trunc', m.div(rest, step));
    const product = m.twoProduct(quotient, step);
    const left = m.sub(m.sub(rest, product.high), product.low);
    const raised = m.select(m.compare('lt', left, 0), m.add(left, step), left);
    const reduced = m.select(m.compare('ge', raised, step), m.sub(raised, step), raised);
    // A step beyond the largest number is beyond the dividend too.
    rest = m.select(m.compare('lt', rest, step), rest, reduced);
  }
  const undefinedResult = m.either(
    m.builder.unary('not', m.compare('gt', divisor, 0)),
    m.builder.unary('not', m.compare('lt', rest, divisor)),
  );
  return m.select(undefinedResult, NaN, m.copySign(rest, x));
}

const ERF_SERIES = range(24).map(
  (k) => ((2 / Math.sqrt(Math.PI)) * (k % 2 === 0 ? 1 : -1) * inverseFactorial(k)) / (2 * k + 1),
);
const STEP = 0.5;
const NODES = 13;

/**
 * erfc(x) for x >= 1 by the trapezoidal rule on its integral, which converges exponentially (Goodwin,
 * 1949): h x / pi e^(-x^2) sum of e^(-k^2 h^2) / (x^2 + k^2 h^2), and a pole's residue.
 */
function erfcTail(m: MathEmitter, x: Expression): Expression {
  const square = m.twoProduct(x, x);
  let sum = m.div(m.c(1), square.high);
  for (let k = 1; k <= NODES; k++) {
    const node = (k * STEP) ** 2;
    sum = m.add(sum, m.div(m.c(2 * Math.exp(-node)), m.add(square.high, node)));
  }
  const decay = exp(m, m.neg(square.high), m.neg(square.low));
  const trapezoids = m.mul(m.mul(m.mul(x, STEP / Math.PI), decay), sum);
  const growth = exp(m, m.mul(x, (2 * Math.PI) / STEP));
  // The pole is inside for x < pi / h only.
  const residue = m.select(m.compare('lt', x, 6), m.div(m.c(2), m.sub(growth, 1)), 0);
  return m.sub(trapezoids, residue);
}

/** erf and erfc of a number that is not negative. */
function errorFunctions(
  m: MathEmitter,
  x: Expression,
): { readonly erf: Expression; readonly erfc: Expression } {
  const bounded = m.atMost(x, 28);
  const small = m.compare('lt', bounded, 1);
  const central = m.mul(bounded, m.polynomial(m.mul(bounded, bounded), ERF_SERIES));
  const tail = erfcTail(m, m.atLeast(bounded, 1));
  const erf = m.select(small, central, m.sub(m.c(1), tail));
  return { erf, erfc: m.select(small, m.sub(m.c(1), central), tail) };
}

function erf(m: MathEmitter, x: Expression): Expression {
  return m.copySign(errorFunctions(m, m.abs(x)).erf, x);
}

function erfc(m: MathEmitter, x: Expression): Expression {
  const { erfc: value } = errorFunctions(m, m.abs(x));
  return m.select(m.compare('lt', x, 0), m.sub(m.c(2), value), value);
}

/** Winitzki's estimate, good to 2e-3, and three steps of Halley's method. */
function erfinv(m: MathEmitter, x: Expression): Expression {
  const p = m.abs(x);
  const q = m.sub(m.c(1), p);
  const logarithm = log(m, m.mul(q, m.add(p, 1)));
  const a = 0.147;
  const t = m.fma(logarithm, 0.5, 2 / (Math.PI * a));
  const root = m.sqrt(m.sub(m.mul(t, t), m.div(logarithm, a)));
  let value = m.sqrt(m.sub(root, t));
  for (let step = 0; step < 3; step++) {
    const functions = errorFunctions(m, value);
    const central = m.compare('lt', p, 0.5);
    const error = m.select(central, m.sub(functions.erf, p), m.sub(q, functions.erfc));
    const slope = m.mul(exp(m, m.neg(m.mul(value, value))), 2 / Math.sqrt(Math.PI));
    const newton = m.div(error, slope);
    value = m.sub(value, m.div(newton, m.fma(value, newton, 1)));
  }
  const ended = m.select(m.compare('eq', p, 1), Infinity, value);
  return m.copySign(m.select(m.isZero(p), 0, m.select(m.compare('gt', p, 1), NaN, ended)), x);
}

function fraction(m: MathEmitter, x: Expression): Expression {
  return m.sub(x, nearest(m, x));
}

/** Stirling's series from 12 on; gamma's recurrence below; reflection for negative x. */
function lgamma(m: MathEmitter, given: Expression): Expression {
  const x = m.abs(given);
  let z = x;
  let product = m.c(1);
  for (let step = 0; step < 12; step++) {
    const low = m.compare('lt', z, 12);
    product = m.select(low, m.mul(product, z), product);
    z = m.select(low, m.add(z, 1), z);
  }
  const inverse = m.div(m.c(1), z);
  const coefficients = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156];
  const series = m.mul(inverse, m.polynomial(m.mul(inverse, inverse), coefficients));
  const constant = Math.log(2 * Math.PI) / 2 - 0.5;
  const scaled = m.mul(m.sub(z, 0.5), m.sub(log(m, z), 1));
  const stirling = m.add(scaled, m.add(series, constant));
  const finite = m.sub(stirling, log(m, product));
  const positive = m.select(m.compare('eq', x, Infinity), Infinity, finite);
  const sine = m.abs(sin(m, m.mul(fraction(m, x), Math.PI)));
  const reflected = m.sub(m.sub(m.c(Math.log(Math.PI)), log(m, m.mul(x, sine))), positive);
  const pole = m.select(m.isZero(sine), Infinity, reflected);
  // At -infinity there is no fraction to reflect with; C says infinity.
  const reflects = m.builder.and(m.compare('lt', given, 0), m.compare('gt', given, -Infinity));
  return m.select(reflects, pole, positive);
}

/** Asymptotic series from 12 on; the recurrence's fractions in one below; reflection. */
function digamma(m: MathEmitter, given: Expression): Expression {
  const negative = m.compare('lt', given, 0);
  const x = m.select(negative, m.sub(m.c(1), given), given);
  const small = m.compare('lt', x, 12);
  let product = m.atMost(x, 12);
  let derivative = m.c(1);
  for (let step = 1; step < 12; step++) {
    const next = m.add(m.atMost(x, 12), step);
    derivative = m.fma(derivative, next, product);
    product = m.mul(product, next);
  }
  const z = m.select(small, m.add(x, 12), x);
  const fractions = m.select(small, m.div(derivative, product), 0);
  const inverse = m.div(m.c(1), z);
  const square = m.mul(inverse, inverse);
  const coefficients = [1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12];
  const series = m.mul(square, m.polynomial(square, coefficients));
  const asymptotic = m.sub(m.sub(log(m, z), m.mul(inverse, 0.5)), series);
  const positive = m.sub(asymptotic, fractions);
  const part = fraction(m, given);
  const cotangent = m.div(m.c(Math.PI), tan(m, m.mul(part, Math.PI)));
  const reflected = m.select(m.isZero(part), NaN, m.sub(positive, cotangent));
  const pole = m.neg(m.div(m.c(1), given));
  return m.select(m.isZero(given), pole, m.select(negative, reflected, positive));
}

export const DOUBLE_UNARY: MathUnaryTable = {
  exp: (m, x) => exp(m, x),
  exp2,
  expm1,
  log,
  log2,
  log10,
  log1p,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  sigmoid,
  erf,
  erfc,
  erfinv,
  lgamma,
  digamma,
};

export const DOUBLE_BINARY: MathBinaryTable = { pow, atan2, fmod };
