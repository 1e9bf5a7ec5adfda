// Transcendental functions of one operand: the kernel IR computes them by polynomials.
import type { MathUnary } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { makeNode, NO_ATTRS, type Sample } from '../op.ts';
import { add, div, mul, neg, sub } from './arithmetic.ts';
import { less, select } from './compare.ts';
import { constant } from './creation.ts';
import { unarySamples } from './samples.ts';
import * as special from './special.ts';
import { defineUnary, reciprocal, rsqrt, square } from './unary.ts';

interface Domain {
  readonly low?: number;
  readonly high?: number;
  readonly special?: readonly number[];
  /** Looser than 1e-5: why stands where it is given. */
  readonly tolerance?: number;
}

function defineMath(
  name: MathUnary,
  summary: string,
  apply: (x: number) => number,
  gradient: (grad: Node, x: Node, y: Node) => Node,
  domain: Domain = {},
) {
  return defineUnary({
    name,
    summary,
    cost: 20,
    emit: (builder, x) => builder.unary(name, x),
    apply,
    gradient,
    samples: (): readonly Sample[] =>
      unarySamples({ special: [0, -0, Infinity, -Infinity], ...domain }),
  });
}

const times = (x: Node, factor: number): Node => mul(x, constant(factor, x.dtype));
const plus = (x: Node, term: number): Node => add(x, constant(term, x.dtype));
const oneMinus = (x: Node): Node => sub(constant(1, x.dtype), x);

const EDGES = [0, -0, Infinity, -Infinity];
const POSITIVE: Domain = { low: 0.05, high: 12, special: [...EDGES, 1, -1, 1e-30, 1e30] };
const UNIT: Domain = { low: -0.95, high: 0.95, special: [...EDGES, 1, -1, 2] };

const expOp = defineMath('exp', 'e^x', Math.exp, (grad, _x, y) => mul(grad, y), {
  low: -4,
  high: 4,
  special: [...EDGES, 88, 89, -87, -104],
});
const exp2Op = defineMath(
  'exp2',
  '2^x',
  (x) => 2 ** x,
  (grad, _x, y) => times(mul(grad, y), Math.LN2),
  { special: [...EDGES, 127, 128, 3, -3] },
);
const expm1Op = defineMath(
  'expm1',
  'e^x - 1, exact near 0',
  Math.expm1,
  (grad, _x, y) => mul(grad, plus(y, 1)),
  { special: [...EDGES, 1e-6, -1e-6, 1e-20, -40] },
);
const logOp = defineMath('log', 'ln x', Math.log, (grad, x) => div(grad, x), POSITIVE);
const log2Op = defineMath(
  'log2',
  'log₂ x',
  Math.log2,
  (grad, x) => div(grad, times(x, Math.LN2)),
  POSITIVE,
);
const log10Op = defineMath(
  'log10',
  'log₁₀ x',
  Math.log10,
  (grad, x) => div(grad, times(x, Math.LN10)),
  POSITIVE,
);
const log1pOp = defineMath(
  'log1p',
  'ln(1 + x), exact near 0',
  Math.log1p,
  (grad, x) => div(grad, plus(x, 1)),
  { low: -0.9, high: 9, special: [...EDGES, -1, -2, 1e-6, -1e-6, 1e-20] },
);
const sinOp = defineMath('sin', 'sine', Math.sin, (grad, x) => mul(grad, cos(x)), {
  low: -7,
  high: 7,
});
const cosOp = defineMath('cos', 'cosine', Math.cos, (grad, x) => neg(mul(grad, sin(x))), {
  low: -7,
  high: 7,
});
const tanOp = defineMath(
  'tan',
  'tangent',
  Math.tan,
  (grad, _x, y) => mul(grad, plus(square(y), 1)),
  { low: -1.2, high: 1.2 },
);
const asinOp = defineMath(
  'asin',
  'inverse sine',
  Math.asin,
  (grad, x) => mul(grad, rsqrt(oneMinus(square(x)))),
  UNIT,
);
const acosOp = defineMath(
  'acos',
  'inverse cosine',
  Math.acos,
  (grad, x) => neg(mul(grad, rsqrt(oneMinus(square(x))))),
  UNIT,
);
const atanOp = defineMath(
  'atan',
  'inverse tangent',
  Math.atan,
  (grad, x) => div(grad, plus(square(x), 1)),
  { low: -6, high: 6 },
);
const sinhOp = defineMath('sinh', 'hyperbolic sine', Math.sinh, (grad, x) => mul(grad, cosh(x)), {
  special: [...EDGES, 1e-6, 89, 100],
});
const coshOp = defineMath('cosh', 'hyperbolic cosine', Math.cosh, (grad, x) => mul(grad, sinh(x)), {
  special: [...EDGES, 89, 100],
});
const tanhOp = defineMath(
  'tanh',
  'hyperbolic tangent',
  Math.tanh,
  (grad, _x, y) => mul(grad, oneMinus(square(y))),
  { special: [...EDGES, 1e-6, 20, -20] },
);
const asinhOp = defineMath(
  'asinh',
  'inverse hyperbolic sine',
  Math.asinh,
  (grad, x) => mul(grad, rsqrt(plus(square(x), 1))),
  { low: -5, high: 5, special: [...EDGES, 1e-6, 1e10, -1e10] },
);
const acoshOp = defineMath(
  'acosh',
  'inverse hyperbolic cosine',
  Math.acosh,
  (grad, x) => mul(grad, rsqrt(plus(square(x), -1))),
  { low: 1.1, high: 9, special: [1, 0.5, Infinity, 1e10] },
);
const atanhOp = defineMath(
  'atanh',
  'inverse hyperbolic tangent',
  Math.atanh,
  (grad, x) => div(grad, oneMinus(square(x))),
  UNIT,
);
const sigmoidOp = defineMath(
  'sigmoid',
  '1 / (1 + e^-x)',
  (x) => 1 / (1 + Math.exp(-x)),
  (grad, _x, y) => mul(grad, mul(y, oneMinus(y))),
  { low: -6, high: 6, special: [...EDGES, 100, -80] },
);
const erfOp = defineMath(
  'erf',
  'error function',
  special.erf,
  (grad, x) => times(mul(grad, exp(neg(square(x)))), 2 / Math.sqrt(Math.PI)),
  { special: [...EDGES, 1e-6, 5, -5] },
);
const erfcOp = defineMath(
  'erfc',
  '1 - erf(x), exact for large x',
  special.erfc,
  (grad, x) => times(mul(grad, exp(neg(square(x)))), -2 / Math.sqrt(Math.PI)),
  { special: [...EDGES, 3, 5, -5] },
);
const erfinvOp = defineMath(
  'erfinv',
  'inverse error function',
  special.erfinv,
  (grad, _x, y) => times(mul(grad, exp(square(y))), Math.sqrt(Math.PI) / 2),
  UNIT,
);
const lgammaOp = defineMath(
  'lgamma',
  'ln |Γ(x)|',
  special.lgamma,
  (grad, x) => mul(grad, digamma(x)),
  { low: 0.1, high: 8, special: [...EDGES, 1, 2, -1, -0.5, -1.5, 30] },
);
const digammaOp = defineMath(
  'digamma',
  'derivative of lgamma',
  special.digamma,
  (grad, x) => mul(grad, trigamma(x)),
  { low: 0.1, high: 8, special: [0, -0, Infinity, -1, -0.5, -1.5, 30] },
);

/**
 * The derivative of digamma: reflected to x ≥ 1/2, shifted up by six steps, then the asymptotic
 * series (DLMF 5.15.8, 5.15.6).
 */
export function trigamma(x: Node): Node {
  const half = constant(0.5, x.dtype);
  const reflected = less(x, half);
  const z = select(reflected, oneMinus(x), x);
  let total: Node | undefined;
  for (let step = 0; step < 6; step++) {
    const term = square(reciprocal(plus(z, step)));
    total = total === undefined ? term : add(total, term);
  }
  const inverse = reciprocal(plus(z, 6));
  const r = square(inverse);
  let series = times(r, 5 / 66);
  for (const coefficient of [-1 / 30, 1 / 42, -1 / 30, 1 / 6]) {
    series = mul(r, plus(series, coefficient));
  }
  // 1/z + 1/(2 z²) + (1/z) (B2/z² + B4/z⁴ + ...)
  const tail = add(mul(inverse, plus(series, 1)), times(r, 0.5));
  const value = add(total!, tail);
  // The untaken branch must stay finite: its gradient would be NaN * 0.
  const angle = times(select(reflected, x, half), Math.PI);
  const mirror = times(square(reciprocal(sin(angle))), Math.PI * Math.PI);
  return select(reflected, sub(mirror, value), value);
}

/** e^x. */
export function exp(x: Node): Node {
  return makeNode(expOp, [x], NO_ATTRS);
}
/** 2^x. */
export function exp2(x: Node): Node {
  return makeNode(exp2Op, [x], NO_ATTRS);
}
/** e^x - 1, exact near 0. */
export function expm1(x: Node): Node {
  return makeNode(expm1Op, [x], NO_ATTRS);
}
/** Natural logarithm. */
export function log(x: Node): Node {
  return makeNode(logOp, [x], NO_ATTRS);
}
/** Logarithm to base 2. */
export function log2(x: Node): Node {
  return makeNode(log2Op, [x], NO_ATTRS);
}
/** Logarithm to base 10. */
export function log10(x: Node): Node {
  return makeNode(log10Op, [x], NO_ATTRS);
}
/** ln(1 + x), exact near 0. */
export function log1p(x: Node): Node {
  return makeNode(log1pOp, [x], NO_ATTRS);
}
/** Sine of radians. */
export function sin(x: Node): Node {
  return makeNode(sinOp, [x], NO_ATTRS);
}
/** Cosine of radians. */
export function cos(x: Node): Node {
  return makeNode(cosOp, [x], NO_ATTRS);
}
/** Tangent of radians. */
export function tan(x: Node): Node {
  return makeNode(tanOp, [x], NO_ATTRS);
}
/** Inverse sine, in [-π/2, π/2]. */
export function asin(x: Node): Node {
  return makeNode(asinOp, [x], NO_ATTRS);
}
/** Inverse cosine, in [0, π]. */
export function acos(x: Node): Node {
  return makeNode(acosOp, [x], NO_ATTRS);
}
/** Inverse tangent, in [-π/2, π/2]. */
export function atan(x: Node): Node {
  return makeNode(atanOp, [x], NO_ATTRS);
}
/** Hyperbolic sine. */
export function sinh(x: Node): Node {
  return makeNode(sinhOp, [x], NO_ATTRS);
}
/** Hyperbolic cosine. */
export function cosh(x: Node): Node {
  return makeNode(coshOp, [x], NO_ATTRS);
}
/** Hyperbolic tangent. */
export function tanh(x: Node): Node {
  return makeNode(tanhOp, [x], NO_ATTRS);
}
/** Inverse hyperbolic sine. */
export function asinh(x: Node): Node {
  return makeNode(asinhOp, [x], NO_ATTRS);
}
/** Inverse hyperbolic cosine; NaN below 1. */
export function acosh(x: Node): Node {
  return makeNode(acoshOp, [x], NO_ATTRS);
}
/** Inverse hyperbolic tangent; NaN outside [-1, 1]. */
export function atanh(x: Node): Node {
  return makeNode(atanhOp, [x], NO_ATTRS);
}
/** 1 / (1 + e^-x). */
export function sigmoid(x: Node): Node {
  return makeNode(sigmoidOp, [x], NO_ATTRS);
}
/** Error function. */
export function erf(x: Node): Node {
  return makeNode(erfOp, [x], NO_ATTRS);
}
/** Complementary error function. */
export function erfc(x: Node): Node {
  return makeNode(erfcOp, [x], NO_ATTRS);
}
/** Inverse error function; NaN outside [-1, 1]. */
export function erfinv(x: Node): Node {
  return makeNode(erfinvOp, [x], NO_ATTRS);
}
/** ln |Γ(x)|. */
export function lgamma(x: Node): Node {
  return makeNode(lgammaOp, [x], NO_ATTRS);
}
/** Derivative of lgamma. */
export function digamma(x: Node): Node {
  return makeNode(digammaOp, [x], NO_ATTRS);
}
