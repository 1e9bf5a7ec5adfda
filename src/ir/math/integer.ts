// The upper half of a product, and C's fmod.
import type { Builder } from '../builder.ts';
import type { Expression } from '../expression.ts';
import { powerOfTwo, scaleByPowerOfTwo } from './exponential.ts';
import type { MathEmitter } from './emitter.ts';

/** The upper 32 bits of a product of two u32, from products of 16-bit halves. */
export function mulHigh(builder: Builder, a: Expression, b: Expression): Expression {
  const constant = (value: number): Expression => builder.constant(value, 'u32', a.lanes);
  const low = (x: Expression): Expression => builder.and(x, constant(0xffff));
  const high = (x: Expression): Expression => builder.binary('shr', x, constant(16));
  const bottom = high(builder.mul(low(a), low(b)));
  const left = builder.add(builder.mul(high(a), low(b)), bottom);
  const right = builder.add(builder.mul(low(a), high(b)), low(left));
  const top = builder.mul(high(a), high(b));
  return builder.add(builder.add(top, high(left)), high(right));
}

/** Bits of the quotient that one step settles. */
const QUOTIENT_BITS = 22;
/** Steps for the longest quotient of two float32, 2^276. */
const STEPS = 13;

/** A float32 as mantissa in [1, 2) times 2^exponent; meaningless for 0, infinity and NaN. */
function takeApart(m: MathEmitter, x: Expression): { mantissa: Expression; exponent: Expression } {
  const tiny = m.compare('lt', x, 2 ** -126);
  const normal = m.select(tiny, m.mul(x, 2 ** 24), x);
  const power = m.sub(m.binary('shr', m.bits(normal), 23), 127);
  const mantissa = m.float(m.sub(m.bits(normal), m.binary('shl', power, 23)));
  return { mantissa, exponent: m.sub(power, m.builder.select(tiny, m.i(24), m.i(0))) };
}

/**
 * The exact remainder of x / y with the sign of x: long division, 22 bits of the quotient a step.
 * Every remainder is a multiple of y's last bit and below y, hence a float32.
 */
export function fmod(m: MathEmitter, x: Expression, y: Expression): Expression {
  const dividend = m.abs(x);
  const divisor = m.abs(y);
  const over = takeApart(m, dividend);
  const under = takeApart(m, divisor);
  let rest = over.mantissa;
  let digits = m.builder.max(m.sub(over.exponent, under.exponent), m.i(0));
  rest = remainderStep(m, rest, under.mantissa);
  for (let step = 0; step < STEPS; step++) {
    const now = m.builder.min(digits, m.i(QUOTIENT_BITS));
    digits = m.sub(digits, now);
    rest = remainderStep(m, m.mul(rest, powerOfTwo(m, now)), under.mantissa);
  }
  const scaled = scaleByPowerOfTwo(m, rest, under.exponent);
  const smaller = m.compare('lt', dividend, divisor);
  const magnitude = m.select(smaller, dividend, scaled);
  const undefinedResult = m.either(
    m.either(m.isZero(divisor), m.isNaN(y)),
    m.builder.unary('not', m.compare('lt', dividend, Infinity)),
  );
  return m.copySign(m.select(undefinedResult, NaN, magnitude), x);
}

/** rest mod divisor, for a quotient below 2^24. */
function remainderStep(m: MathEmitter, rest: Expression, divisor: Expression): Expression {
  const quotient = m.builder.unary('trunc', m.div(rest, divisor));
  const product = m.twoProduct(quotient, divisor);
  const left = m.sub(m.sub(rest, product.high), product.low);
  const raised = m.select(m.compare('lt', left, 0), m.add(left, divisor), left);
  return m.select(m.compare('ge', raised, divisor), m.sub(raised, divisor), raised);
}
