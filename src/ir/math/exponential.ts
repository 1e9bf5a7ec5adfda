// exp and its family in float32. Coefficients: scripts/experiments/fit.ts.
import type { Expression } from '../expression.ts';
import type { MathEmitter, Pair } from './emitter.ts';

/** Adding this rounds a float32 below 2^22 to an integer, found in the low bits of the sum. */
export const ROUNDING = 12582912;
const ROUNDING_BITS = 0x4b400000;

/** ln 2 in two parts: products of the first with an integer below 2^9 are exact. */
export const LN2_HIGH = 0.693145751953125;
export const LN2_LOW = 1.4286068203094173e-6;

const EXP = [0.49999994, 0.166665167, 0.0416681021, 0.00836919248, 0.00138388935];
const EXPM1 = [0.49999997, 0.16666539, 0.041667752, 0.00836710632, 0.00138367352];
const EXP2 = [0.693147242, 0.240226552, 0.0555027239, 0.00961706322, 0.00134182221, 0.000158199575];
const SINH = [0.166666672, 0.00833331048, 0.000198428912, 0.00000278226707];
const TANH = [-0.333332807, 0.133314058, -0.0537365153, 0.0206281673, -0.0056922962];

/** The float nearest an integer, and that integer, for |x * scale| < 2^22. */
export function nearestInteger(
  m: MathEmitter,
  x: Expression,
  scale: number,
): { readonly float: Expression; readonly integer: Expression } {
  if (m.reordered) {
    // (t + c) - c would become t.
    const rounded = m.builder.unary('round', m.mul(x, scale));
    return { float: rounded, integer: m.builder.convert(rounded, 'i32') };
  }
  const shifted = m.fma(x, scale, ROUNDING);
  return {
    float: m.sub(shifted, ROUNDING),
    integer: m.sub(m.bits(shifted), ROUNDING_BITS),
  };
}

/** 2^k as a float, for k in [-126, 127]. */
export function powerOfTwo(m: MathEmitter, k: Expression): Expression {
  return m.float(m.binary('shl', m.add(k, 127), 23));
}

/** x * 2^k for k in [-252, 254], in two steps so that subnormal and infinite results come out. */
export function scaleByPowerOfTwo(m: MathEmitter, x: Expression, k: Expression): Expression {
  const half = m.binary('shr', k, 1);
  return m.mul(m.mul(x, powerOfTwo(m, half)), powerOfTwo(m, m.sub(k, half)));
}

/** x as k * ln 2 + r with |r| <= ln 2 / 2, and e^r - 1. `low` is added to x. */
function reduced(
  m: MathEmitter,
  x: Expression,
  low?: Expression,
): { readonly power: Expression; readonly tail: Expression } {
  const { float, integer } = nearestInteger(m, x, Math.LOG2E);
  let r = m.fma(float, -LN2_LOW, m.fma(float, -LN2_HIGH, x));
  if (low !== undefined) r = m.add(r, low);
  return { power: integer, tail: m.fma(m.mul(r, r), m.polynomial(r, EXP), r) };
}

/** e^(x + low), any x; `low` is a small correction. */
export function exp(m: MathEmitter, x: Expression, low?: Expression): Expression {
  const { power, tail } = reduced(m, m.atLeast(m.atMost(x, 89), -104), low);
  return scaleByPowerOfTwo(m, m.add(tail, 1), power);
}

/** e^(x + low) * (factor + factorLow) for x <= 0, with the roundings of a product alone. */
export function decayTimes(m: MathEmitter, x: Pair, factor: Pair): Expression {
  const { power, tail } = reduced(m, m.atLeast(x.high, -126), x.low);
  const value = m.add(m.fma(tail, factor.high, factor.low), factor.high);
  return scaleByPowerOfTwo(m, value, power);
}

/** e^x for |x| <= 87, where one scaling is enough. */
function expWithin(m: MathEmitter, x: Expression): Expression {
  const { power, tail } = reduced(m, x);
  return m.mul(m.add(tail, 1), powerOfTwo(m, power));
}

export function exp2(m: MathEmitter, x: Expression): Expression {
  const bounded = m.atLeast(m.atMost(x, 129), -151);
  const { float, integer } = nearestInteger(m, bounded, 1);
  const value = m.polynomial(m.sub(bounded, float), [1, ...EXP2]);
  return scaleByPowerOfTwo(m, value, integer);
}

/** e^x - 1 = 2^k (e^r - 1) + (2^k - 1), halved so that k = 128 does not overflow. */
export function expm1(m: MathEmitter, x: Expression): Expression {
  const bounded = m.atLeast(m.atMost(x, 89), -18);
  const { float, integer } = nearestInteger(m, bounded, Math.LOG2E);
  const r = m.fma(float, -LN2_LOW, m.fma(float, -LN2_HIGH, bounded));
  const q = m.fma(m.mul(r, r), m.polynomial(r, EXPM1), r);
  const half = powerOfTwo(m, m.sub(integer, 1));
  const sum = m.fma(half, q, m.sub(half, 0.5));
  // x itself where it is so small that 2^k - 1 = 0: keeps -0.
  return m.select(m.isZero(x), x, m.add(sum, sum));
}

/** 1 / (1 + e^-x), for negative x as e^x / (1 + e^x), which does not lose the small end. */
export function sigmoid(m: MathEmitter, x: Expression): Expression {
  const decay = exp(m, m.neg(m.abs(x)));
  const above = m.select(m.compare('lt', x, 0), decay, 1);
  const { high, low } = m.fastTwoSum(m.c(1), decay);
  const quotient = m.div(above, high);
  // What the sum lost matters most where it is near 1, so that dividing by it once more is idle.
  return m.fma(quotient, m.neg(low), quotient);
}

/** By polynomial below 0.625, else 1 - 2 / (e^2|x| + 1). */
export function tanh(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.abs(x);
  const square = m.mul(x, x);
  const small = m.fma(m.mul(square, magnitude), m.polynomial(square, TANH), magnitude);
  const growth = expWithin(m, m.atMost(m.add(magnitude, magnitude), 20));
  const large = m.sub(m.c(1), m.div(m.c(2), m.add(growth, 1)));
  return m.copySign(m.select(m.compare('lt', magnitude, 0.625), small, large), x);
}

/** e^|x| / 2, finite wherever sinh and cosh are. */
function halfExp(m: MathEmitter, magnitude: Expression): Expression {
  const { power, tail } = reduced(m, m.atMost(magnitude, 91));
  return scaleByPowerOfTwo(m, m.add(tail, 1), m.sub(power, 1));
}

export function sinh(m: MathEmitter, x: Expression): Expression {
  const y = m.mul(x, x);
  const small = m.fma(m.mul(y, x), m.polynomial(y, SINH), x);
  const magnitude = m.abs(x);
  const half = halfExp(m, magnitude);
  const large = m.sub(half, m.div(m.c(0.25), half));
  return m.select(m.compare('lt', magnitude, 1), small, m.copySign(large, x));
}

export function cosh(m: MathEmitter, x: Expression): Expression {
  const half = halfExp(m, m.abs(x));
  return m.add(half, m.div(m.c(0.25), half));
}
