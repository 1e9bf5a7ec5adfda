// erf and its family, log gamma and digamma in float32. Coefficients: scripts/experiments/fit.ts.
import type { Expression } from '../expression.ts';
import { decayTimes } from './exponential.ts';
import type { MathEmitter } from './emitter.ts';
import { log } from './logarithm.ts';
import { sin, tan } from './trigonometry.ts';

/** erf(x) / x - 1 in x^2, for |x| < 1.15. */
export const ERF_SMALL = [
  0.128379151, -0.376125276, 0.112825826, -0.02681664, 0.00512595894, -0.0007525853,
  0.0000643502353,
];
/** erfc(x)^(1/4), for 1.15 <= x <= 3.93. */
const ERFC_ROOT = [
  1.00435257, -0.303326905, -0.0745874196, -0.0376928598, 0.0571501739, -0.0182672404,
  0.00217208755, -0.0000196184646, -0.0000103022667,
];
/** (1 + 2 x) e^(x^2) erfc(x) in (x - 4) / (x + 4), for x >= 0. */
export const ERFCX = [
  1.23299515, -0.139620885, 0.0153751774, 0.0680844039, -0.100951999, 0.0939601362, -0.0667998195,
  0.0355885215, -0.0161566716, 0.00851843599, 0.00267439894, 0.000605653273,
];
/** erfinv(x) / x in w - 2.5 and in sqrt(w) - 3, where w = -log(1 - x^2). */
export const ERFINV_CENTRAL = [
  1.50140941, 0.246640638, -0.00417765696, -0.0012535156, 0.000218562243, -0.00000450859943,
  -0.00000351878748, 3.67804574e-7, 2.77404233e-8, -1.72589565e-9,
];
export const ERFINV_TAIL = [
  2.83297682, 1.00167477, 0.00944430567, -0.00763427652, 0.00569495698, -0.00361085404,
  0.00146533689, -0.0000325008696, -0.000294646889, 0.0000999551921,
];
/** lgamma(2 + t) / t for |t| <= 1/2. */
export const LGAMMA = [
  0.422784328, 0.322467029, -0.0673514754, 0.0205813739, -0.00740171177, 0.00288015069,
  -0.00108996045, 0.000568888965, -0.000438911811,
];

/** By polynomial below 1.15; above, 1 minus the fourth power of a polynomial. */
export function erf(m: MathEmitter, x: Expression): Expression {
  const small = m.fma(x, m.polynomial(m.mul(x, x), ERF_SMALL), x);
  const magnitude = m.abs(x);
  const root = m.polynomial(m.atMost(magnitude, 3.93), ERFC_ROOT);
  const square = m.mul(root, root);
  const large = m.sub(m.c(1), m.mul(square, square));
  return m.select(m.compare('lt', magnitude, 1.15), small, m.copySign(large, x));
}

/**
 * 1 - erf below 3/4; above, e^(-x^2) times a polynomial in (x - 4) / (x + 4), as Shepherd and
 * Laframboise (1981) do.
 */
export function erfc(m: MathEmitter, x: Expression): Expression {
  const magnitude = m.atMost(m.abs(x), 10.5);
  const square = m.twoProduct(magnitude, magnitude);
  const q = m.div(m.sub(magnitude, 4), m.add(magnitude, 4));
  const [first = 0, ...others] = ERFCX;
  const above = m.fastTwoSum(m.c(first), m.mul(q, m.polynomial(q, others)));
  const below = m.twoSum(m.c(1), m.add(magnitude, magnitude));
  const scaled = m.divPairs(above, below);
  const exponent = { high: m.neg(square.high), low: m.neg(square.low) };
  const value = decayTimes(m, exponent, scaled);
  const tail = m.select(m.compare('lt', x, 0), m.sub(m.c(2), value), value);
  // 1 - x is exact where it matters, and the rest is small.
  const rest = m.mul(x, m.polynomial(m.mul(x, x), ERF_SMALL));
  const central = m.sub(m.sub(m.c(1), x), rest);
  return m.select(m.compare('lt', m.abs(x), 0.75), central, tail);
}

/** x times a polynomial in w = -log(1 - x^2), or in its root near the ends (after Giles, 2012). */
export function erfinv(m: MathEmitter, x: Expression): Expression {
  const w = m.neg(log(m, m.mul(m.sub(m.c(1), x), m.add(x, 1))));
  const tail = m.compare('gt', w, 5);
  const central = m.polynomial(m.sub(w, 2.5), ERFINV_CENTRAL);
  const outer = m.polynomial(m.sub(m.sqrt(w), 3), ERFINV_TAIL);
  const value = m.mul(x, m.select(tail, outer, central));
  const end = m.compare('eq', m.abs(x), 1);
  return m.select(end, m.mul(x, Infinity), value);
}

/** Distance to the nearest integer, with its sign. */
function fraction(m: MathEmitter, x: Expression): Expression {
  return m.sub(x, m.builder.unary('round', x));
}

/**
 * log |gamma|. Up to 8, x is moved into [1.5, 2.5] by gamma's recurrence and a polynomial is used;
 * above, Stirling's series; negative x by reflection.
 */
export function lgamma(m: MathEmitter, given: Expression): Expression {
  const x = m.abs(given);
  const large = m.compare('gt', x, 8);
  let product = m.c(1);
  let t = x;
  for (let step = 0; step < 2; step++) {
    const low = m.compare('lt', t, 1.5);
    product = m.select(low, m.mul(product, t), product);
    t = m.select(low, m.add(t, 1), t);
  }
  const raised = m.compare('lt', x, 1.5);
  for (let step = 0; step < 6; step++) {
    const high = m.compare('gt', t, 2.5);
    t = m.select(high, m.sub(t, 1), t);
    product = m.select(high, m.mul(product, t), product);
  }
  const logarithm = log(m, m.select(large, x, product));
  // t - 2 without what rounding t lost.
  const below = m.select(m.compare('lt', x, 0.5), x, m.sub(x, 1));
  const offset = m.select(raised, below, m.sub(t, 2));
  const base = m.mul(offset, m.polynomial(offset, LGAMMA));
  const moved = m.add(base, m.select(raised, m.neg(logarithm), logarithm));
  const inverse = m.div(m.c(1), x);
  const series = m.polynomial(m.mul(inverse, inverse), [1 / 12, -1 / 360, 1 / 1260]);
  const constant = Math.log(2 * Math.PI) / 2 - 0.5;
  const correction = m.fma(inverse, series, constant);
  const stirling = m.fma(m.sub(x, 0.5), m.sub(logarithm, 1), correction);
  const finite = m.select(large, stirling, moved);
  // x (log x - 1) is infinity - infinity at the end of the scale.
  const positive = m.select(m.compare('eq', x, Infinity), Infinity, finite);
  const sine = m.abs(sin(m, m.mul(fraction(m, x), Math.PI)));
  const reflected = m.sub(m.sub(m.c(Math.log(Math.PI)), log(m, m.mul(x, sine))), positive);
  const pole = m.select(m.isZero(sine), Infinity, reflected);
  // At -infinity there is no fraction to reflect with; C says infinity.
  const reflects = m.builder.and(m.compare('lt', given, 0), m.compare('gt', given, -Infinity));
  return m.select(reflects, pole, positive);
}

/**
 * The derivative of log gamma: asymptotic series above 6, where the recurrence brings smaller x, all
 * its fractions in one; negative x by reflection.
 */
export function digamma(m: MathEmitter, given: Expression): Expression {
  const negative = m.compare('lt', given, 0);
  const x = m.select(negative, m.sub(m.c(1), given), given);
  // 1/(x + 1) + 1/(x + 2) + ... = (product)' / product
  let product = m.add(x, 1);
  let derivative = m.c(1);
  for (let step = 2; step < 6; step++) {
    const next = m.add(x, step);
    derivative = m.fma(derivative, next, product);
    product = m.mul(product, next);
  }
  const small = m.compare('lt', x, 6);
  const z = m.select(small, m.add(x, 6), x);
  const fractions = m.add(m.div(derivative, product), m.div(m.c(1), x));
  const inverse = m.div(m.c(1), z);
  const square = m.mul(inverse, inverse);
  const series = m.mul(square, m.polynomial(square, [1 / 12, -1 / 120, 1 / 252, -1 / 240]));
  const asymptotic = m.sub(m.sub(log(m, z), m.mul(inverse, 0.5)), series);
  const positive = m.sub(asymptotic, m.select(small, fractions, 0));
  const part = fraction(m, given);
  const cotangent = m.div(m.c(Math.PI), tan(m, m.mul(part, Math.PI)));
  const reflected = m.select(m.isZero(part), NaN, m.sub(positive, cotangent));
  // At zero the pole takes the sign of the zero.
  const pole = m.neg(m.div(m.c(1), given));
  return m.select(m.isZero(given), pole, m.select(negative, reflected, positive));
}
