// log and its family, and pow, in float32. Coefficients: scripts/experiments/fit.ts.
import type { Expression } from '../expression.ts';
import { exp, LN2_HIGH, LN2_LOW } from './exponential.ts';
import type { MathEmitter, Pair } from './emitter.ts';

const LOG = [
  0.333333135, -0.250001669, 0.200022221, -0.16659373, 0.142096385, -0.125495955, 0.121083319,
  -0.10910809, 0.0532699749,
];

/** 2/3 as bits: mantissas are taken from [2/3, 4/3), around 1. */
const TWO_THIRDS_BITS = 0x3f2aaaab;
const SMALLEST_NORMAL = 2 ** -126;

/** x = (1 + f) 2^exponent with f in [-1/3, 1/3), for positive finite x. */
interface Split {
  readonly f: Expression;
  readonly exponent: Expression;
}

/** Takes apart a positive normal number. */
function splitNormal(m: MathEmitter, x: Expression): { mantissa: Expression; power: Expression } {
  const power = m.binary('shr', m.sub(m.bits(x), TWO_THIRDS_BITS), 23);
  return { mantissa: m.float(m.sub(m.bits(x), m.binary('shl', power, 23))), power };
}

function splitPositive(m: MathEmitter, x: Expression): Split {
  const tiny = m.compare('lt', x, SMALLEST_NORMAL);
  const { mantissa, power } = splitNormal(m, m.select(tiny, m.mul(x, 2 ** 23), x));
  const exponent = m.add(m.convert(power), m.select(tiny, -23, 0));
  return { f: m.sub(mantissa, 1), exponent };
}

/** log(1 + f) = f + tail, for f in [-1/3, 1/3]. */
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

/** f + tail + exponent * ln 2. */
function assemble(m: MathEmitter, { f, exponent }: Split): Expression {
  const small = m.fma(exponent, LN2_LOW, logTail(m, f));
  return m.fma(exponent, LN2_HIGH, m.add(f, small));
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
  let small = m.fma(f, scale[1], m.mul(logTail(m, f), scale[0]));
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
  const lost = m.sub(x, m.sub(u, 1));
  const scale = m.float(m.binary('shl', m.sub(m.i(127), power), 23));
  const f = m.fma(lost, scale, m.sub(mantissa, 1));
  const finite = assemble(m, { f, exponent: m.convert(power) });
  return m.select(m.isZero(x), x, atEdges(m, u, finite));
}

/** log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))); for large x, log(2 |x|). */
export function asinh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const large = m.compare('gt', magnitude, 2 ** 28);
  const square = m.mul(magnitude, magnitude);
  const root = m.sqrt(m.add(square, 1));
  const inner = m.add(magnitude, m.div(square, m.add(root, 1)));
  const value = log1p(m, m.select(large, magnitude, inner));
  return m.copySign(m.add(value, m.select(large, Math.LN2, 0)), x);
}

/** log1p(t + sqrt(2 t + t^2)) with t = x - 1; for large x, log(2 x). */
export function acosh(m: MathEmitter, x: Expression): Expression {
  const large = m.compare('gt', x, 2 ** 28);
  const t = m.sub(x, 1);
  const inner = m.add(t, m.sqrt(m.fma(t, t, m.add(t, t))));
  const value = log1p(m, m.select(large, x, inner));
  return m.add(value, m.select(large, Math.LN2, 0));
}

/** log1p(2 x / (1 - x)) / 2. */
export function atanh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const ratio = m.div(m.add(magnitude, magnitude), m.sub(m.c(1), magnitude));
  return m.copySign(m.mul(log1p(m, ratio), 0.5), x);
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
  const s = m.div(f, below.high);
  const back = m.twoProduct(s, below.high);
  const rest = m.sub(m.sub(m.sub(f, back.high), back.low), m.mul(s, below.low));
  const sLow = m.div(rest, below.high);
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
