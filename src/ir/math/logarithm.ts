// log and its family, and pow, in float32. Coefficients: scripts/experiments/fit.ts.
import type { Expression } from '../expression.ts';
import { exp, LN2_HIGH, LN2_LOW } from './exponential.ts';
import type { MathEmitter, Pair } from './emitter.ts';

const LOG = [
  0.333333135, -0.250001669, 0.200022221, -0.16659373, 0.142096385, -0.125495955, 0.121083319,
  -0.10910809, 0.0532699749,
];

const ASINH = [
  -0.166666567, 0.0749952421, -0.0445652381, 0.029770609, -0.0197025966, 0.0104533099,
  -0.00298277056,
];
const ATANH = [0.333332986, 0.200026155, 0.142207593, 0.118415281, 0.0506473146, 0.177739039];

/** sqrt(1/2) as bits: mantissas are taken from [sqrt(1/2), sqrt(2)), around 1. */
const SMALLEST_MANTISSA_BITS = 0x3f3504f3;
const SMALLEST_NORMAL = 2 ** -126;

/** x = (1 + f) 2^exponent with f in [-0.293, 0.415), for positive finite x. */
interface Split {
  readonly f: Expression;
  readonly exponent: Expression;
}

/** Takes apart a positive normal number. */
function splitNormal(m: MathEmitter, x: Expression): { mantissa: Expression; power: Expression } {
  const power = m.binary('shr', m.sub(m.bits(x), SMALLEST_MANTISSA_BITS), 23);
  return { mantissa: m.float(m.sub(m.bits(x), m.binary('shl', power, 23))), power };
}

function splitPositive(m: MathEmitter, x: Expression): Split {
  const tiny = m.compare('lt', x, SMALLEST_NORMAL);
  const { mantissa, power } = splitNormal(m, m.select(tiny, m.mul(x, 2 ** 23), x));
  const exponent = m.add(m.convert(power), m.select(tiny, -23, 0));
  return { f: m.sub(mantissa, 1), exponent };
}

/** log(1 + f) = f + tail, for f in [-0.293, 0.415]. */
function logTail(m: MathEmitter, f: Expression): Expression {
  const square = m.mul(f, f);
  return m.fma(m.mul(f, square), m.polynomial(f, LOG), m.mul(square, -0.5));
}

/** `finite` where x is positive and finite; else what any logarithm is there. */
function atEdges(m: MathEmitter, x: Expression, finite: Expression): Expression {
  const positive = m.compare('gt', x, 0);
  const beyond = m.select(positive, x, NaN);
  const edge = m.select(m.isZero(x), -Infinity, beyond);
  return m.select(m.both(positive, m.compare('lt', x, Infinity)), finite, edge);
}

/** exponent * ln 2 + f + tail: the first two add up without loss while the sum is below 1. */
function assemble(m: MathEmitter, { f, exponent }: Split, tail = logTail(m, f)): Expression {
  const small = m.fma(exponent, LN2_LOW, tail);
  return m.add(m.fma(exponent, LN2_HIGH, f), small);
}

export function log(m: MathEmitter, x: Expression): Expression {
  return atEdges(m, x, assemble(m, splitPositive(m, x)));
}

/** (f + tail) * scale + exponent * unit, where `scale` and `unit` are given in two parts. */
function scaledLog(
  m: MathEmitter,
  x: Expression,
  scale: readonly [number, number],
  unit: readonly [number, number],
): Expression {
  const { f, exponent } = splitPositive(m, x);
  let small = m.fma(f, scale[1], m.mul(logTail(m, f), scale[0] + scale[1]));
  if (unit[1] !== 0) small = m.fma(exponent, unit[1], small);
  // The head of f times the head of the scale is exact.
  const { high, low } = m.split(f);
  small = m.fma(low, scale[0], small);
  const sum = m.fastTwoSum(m.mul(exponent, unit[0]), m.mul(high, scale[0]));
  return atEdges(m, x, m.add(sum.high, m.add(sum.low, small)));
}

/** The first 12 bits of a number, and the rest. */
function heads(value: number): readonly [number, number] {
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 11);
  const high = Math.trunc(value / unit) * unit;
  return [high, value - high];
}

export function log2(m: MathEmitter, x: Expression): Expression {
  return scaledLog(m, x, heads(Math.LOG2E), [1, 0]);
}

export function log10(m: MathEmitter, x: Expression): Expression {
  return scaledLog(m, x, heads(Math.LOG10E), heads(Math.log10(2)));
}

/** log of u = 1 + x, where f gets back what rounding u lost. */
export function log1p(m: MathEmitter, x: Expression): Expression {
  const u = m.add(x, 1);
  const { mantissa, power } = splitNormal(m, u);
  // Where sums are reordered, (x + 1) - 1 would become x; u is positive where it counts.
  const lost = m.sub(x, m.sub(m.reordered ? m.abs(u) : u, 1));
  // Nothing is lost of large numbers, whose scale would not be a normal number.
  const biased = m.builder.max(m.sub(m.i(127), power), m.i(0));
  const scale = m.float(m.binary('shl', biased, 23));
  const { high: f, low } = m.twoSum(m.sub(mantissa, 1), m.mul(lost, scale));
  const tail = m.add(logTail(m, f), low);
  const finite = assemble(m, { f, exponent: m.convert(power) }, tail);
  return m.select(m.isZero(x), x, atEdges(m, u, finite));
}

/** By polynomial below 3/4; then log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))); at last log(2 |x|). */
export function asinh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const large = m.compare('gt', magnitude, 2 ** 28);
  const square = m.mul(magnitude, magnitude);
  const root = m.sqrt(m.add(square, 1));
  const inner = m.add(magnitude, m.div(square, m.add(root, 1)));
  const value = m.add(log1p(m, m.select(large, magnitude, inner)), m.select(large, Math.LN2, 0));
  const small = m.compare('lt', magnitude, 0.75);
  return m.copySign(m.select(small, odd(m, magnitude, ASINH), value), x);
}

/** x + x^3 (c[0] + c[1] x^2 + ...). */
function odd(m: MathEmitter, x: Expression, coefficients: readonly number[]): Expression {
  const square = m.mul(x, x);
  return m.fma(m.mul(square, x), m.polynomial(square, coefficients), x);
}

/** log1p(t + sqrt(2 t + t^2)) with t = x - 1; for large x, log(2 x). */
export function acosh(m: MathEmitter, x: Expression): Expression {
  const large = m.compare('gt', x, 2 ** 28);
  const t = m.sub(x, 1);
  const inner = m.add(t, m.sqrt(m.fma(t, t, m.add(t, t))));
  const value = log1p(m, m.select(large, x, inner));
  return m.select(m.compare('lt', x, 1), NaN, m.add(value, m.select(large, Math.LN2, 0)));
}

/** By polynomial below 1/2; above, log1p(2 x / (1 - x)) / 2. */
export function atanh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const ratio = m.div(m.add(magnitude, magnitude), m.sub(m.c(1), magnitude));
  const value = m.mul(log1p(m, ratio), 0.5);
  const small = m.compare('lt', magnitude, 0.5);
  return m.copySign(m.select(small, odd(m, magnitude, ATANH), value), x);
}

/** The logarithm of a positive finite float32 to about 34 bits. */
function logPair(m: MathEmitter, x: Expression): Pair {
  const tiny = m.compare('lt', x, SMALLEST_NORMAL);
  const { mantissa, power } = splitNormal(m, m.select(tiny, m.mul(x, 2 ** 23), x));
  const exponent = m.add(m.convert(power), m.select(tiny, -23, 0));
  const third = Math.fround(2 / 3);
  return assemblePair(m, mantissa, exponent, {
    third: [third, 2 / 3 - third],
    series: [0.4, 2 / 7, 2 / 9, 2 / 11, 2 / 13],
    ln2: [LN2_HIGH, LN2_LOW],
  });
}

export interface PairConstants {
  /** 2/3 in two parts. */
  readonly third: readonly [number, number];
  /** 2/5, 2/7, 2/9, ...: the series of log((1 + s) / (1 - s)) beyond its second term. */
  readonly series: readonly number[];
  /** ln 2 in two parts, the first short enough for exact products with exponents. */
  readonly ln2: readonly [number, number];
}

/** log(mantissa) + exponent * ln 2 to half as many digits again as the type has. */
export function assemblePair(
  m: MathEmitter,
  mantissa: Expression,
  exponent: Expression,
  { third, series, ln2 }: PairConstants,
): Pair {
  // s = (mantissa - 1) / (mantissa + 1); log = 2 s + 2/3 s^3 + 2/5 s^5 + ...
  const f = m.sub(mantissa, 1);
  const below = m.twoSum(m.c(1), mantissa);
  const { high: s, low: sLow } = m.divPairs({ high: f, low: m.c(0) }, below);
  const square = m.twoProduct(s, s);
  const squareLow = m.fma(m.add(s, s), sLow, square.low);
  const higher = m.mul(square.high, m.polynomial(square.high, series));
  const b = m.fastTwoSum(m.c(third[0]), higher);
  const bLow = m.add(b.low, third[1]);
  const t = m.twoProduct(square.high, b.high);
  const tLow = m.add(t.low, m.fma(square.high, bLow, m.mul(squareLow, b.high)));
  const w = m.twoProduct(s, t.high);
  const wLow = m.add(w.low, m.fma(s, tLow, m.mul(sLow, t.high)));
  const mantissaLog = m.fastTwoSum(m.add(s, s), w.high);
  const mantissaLow = m.add(mantissaLog.low, m.fma(sLow, 2, wLow));
  const whole = m.twoSum(m.mul(exponent, ln2[0]), mantissaLog.high);
  const low = m.add(whole.low, m.fma(exponent, ln2[1], mantissaLow));
  return m.fastTwoSum(whole.high, low);
}

/** |x|^y as exp(y log |x|), with C's rules for signs, zeros, infinities and NaN. */
export function pow(m: MathEmitter, x: Expression, y: Expression): Expression {
  const negative = m.compare('lt', m.bits(x), m.i(0));
  return powOf(m, x, y, { logarithm: logPair(m, m.abs(x)), exp, negative });
}

/** pow from its parts; `negative` tells whether x has its sign bit set. */
export function powOf(
  m: MathEmitter,
  x: Expression,
  y: Expression,
  parts: {
    readonly logarithm: Pair;
    readonly exp: typeof exp;
    readonly negative: Expression;
  },
): Expression {
  const magnitude = m.abs(x);
  const product = m.twoProduct(y, parts.logarithm.high);
  const low = m.fma(y, parts.logarithm.low, product.low);
  // Where y log x is out of exp's range anyway, the correction may be infinite or NaN.
  const inside = m.compare('lt', m.abs(product.high), 1000);
  const power = parts.exp(m, product.high, m.select(inside, low, 0));
  const one = m.compare('eq', magnitude, 1);
  const extreme = m.either(m.isZero(x), m.compare('eq', magnitude, Infinity));
  // 0 to a negative power and infinity to a positive one are infinite.
  const grows = m.binary('xor', m.isZero(x), m.compare('gt', y, 0));
  let value = m.select(extreme, m.select(grows, Infinity, 0), power);
  value = m.select(one, 1, value);
  const integer = m.compare('eq', m.builder.unary('trunc', y), y);
  const half = m.mul(y, 0.5);
  const odd = m.both(integer, m.compare('ne', m.builder.unary('trunc', half), half));
  value = m.select(m.both(parts.negative, odd), m.neg(value), value);
  const undefinedRoot = m.both(
    m.both(m.compare('lt', x, 0), m.compare('gt', x, -Infinity)),
    m.builder.unary('not', integer),
  );
  value = m.select(undefinedRoot, NaN, value);
  value = m.select(m.either(m.isNaN(x), m.isNaN(y)), NaN, value);
  return m.select(m.either(m.isZero(y), m.compare('eq', x, 1)), 1, value);
}
