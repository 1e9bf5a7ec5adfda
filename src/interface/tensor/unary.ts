// Elementwise functions of one operand. Floats keep their dtype; where the result is not whole,
// integers and bools become float32.
import { checkNumber } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from './arguments.ts';
import { castNode, numberNode, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

type UnaryNode = (x: Node) => Node;

function unary(op: string, build: UnaryNode, x: Tensor): Tensor {
  return wrap(build(nodeOf(op, x)));
}

/** The operand as a float: integers and bools become float32. */
export function floatNode(op: string, x: Tensor): Node {
  const node = nodeOf(op, x);
  return isFloat(node.dtype) ? node : castNode(node, 'float32');
}

function floatUnary(op: string, build: UnaryNode, x: Tensor): Tensor {
  return wrap(build(floatNode(op, x)));
}

/** `-x`. */
export function neg(x: Tensor): Tensor {
  return unary('neg', ops.neg, x);
}
/** `|x|`. */
export function abs(x: Tensor): Tensor {
  return unary('abs', ops.abs, x);
}
/** -1, 0 or 1. */
export function sign(x: Tensor): Tensor {
  return unary('sign', ops.sign, x);
}
/** `x * x`. */
export function square(x: Tensor): Tensor {
  return unary('square', ops.square, x);
}
/** The largest integer not above x. */
export function floor(x: Tensor): Tensor {
  return unary('floor', ops.floor, x);
}
/** The smallest integer not below x. */
export function ceil(x: Tensor): Tensor {
  return unary('ceil', ops.ceil, x);
}
/** x without its fraction. */
export function trunc(x: Tensor): Tensor {
  return unary('trunc', ops.trunc, x);
}
/** The nearest integer, ties to even; with `decimals`, the nearest number of so many places. */
export function round(x: Tensor, options: { decimals?: number } = {}): Tensor {
  const { decimals = 0 } = options;
  if (decimals === 0) return unary('round', ops.round, x);
  const node = floatNode('round', x);
  const factor = numberNode(10 ** Math.abs(decimals), node.dtype);
  const [up, down] = decimals > 0 ? [ops.mul, ops.div] : [ops.div, ops.mul];
  return wrap(down(ops.round(up(node, factor)), factor));
}
/** `x - trunc(x)`. */
export function frac(x: Tensor): Tensor {
  return unary('frac', (node) => ops.sub(node, ops.trunc(node)), x);
}
/** √x. */
export function sqrt(x: Tensor): Tensor {
  return floatUnary('sqrt', ops.sqrt, x);
}
/** 1 / √x. */
export function rsqrt(x: Tensor): Tensor {
  return floatUnary('rsqrt', ops.rsqrt, x);
}
/** 1 / x. */
export function reciprocal(x: Tensor): Tensor {
  return floatUnary('reciprocal', ops.reciprocal, x);
}
/** e ** x. */
export function exp(x: Tensor): Tensor {
  return floatUnary('exp', ops.exp, x);
}
/** 2 ** x. */
export function exp2(x: Tensor): Tensor {
  return floatUnary('exp2', ops.exp2, x);
}
/** exp(x) - 1, precise near 0. */
export function expm1(x: Tensor): Tensor {
  return floatUnary('expm1', ops.expm1, x);
}
/** The natural logarithm. */
export function log(x: Tensor): Tensor {
  return floatUnary('log', ops.log, x);
}
/** The logarithm to base 2. */
export function log2(x: Tensor): Tensor {
  return floatUnary('log2', ops.log2, x);
}
/** The logarithm to base 10. */
export function log10(x: Tensor): Tensor {
  return floatUnary('log10', ops.log10, x);
}
/** log(1 + x), precise near 0. */
export function log1p(x: Tensor): Tensor {
  return floatUnary('log1p', ops.log1p, x);
}
/** Sine of an angle in radians; NaN for |x| > 2^22, where no quadrant is known exactly. */
export function sin(x: Tensor): Tensor {
  return floatUnary('sin', ops.sin, x);
}
/** Cosine of an angle in radians; NaN for |x| > 2^22, where no quadrant is known exactly. */
export function cos(x: Tensor): Tensor {
  return floatUnary('cos', ops.cos, x);
}
/** Tangent of an angle in radians; NaN for |x| > 2^22, where no quadrant is known exactly. */
export function tan(x: Tensor): Tensor {
  return floatUnary('tan', ops.tan, x);
}
/** The angle whose sine is x. */
export function asin(x: Tensor): Tensor {
  return floatUnary('asin', ops.asin, x);
}
/** The angle whose cosine is x. */
export function acos(x: Tensor): Tensor {
  return floatUnary('acos', ops.acos, x);
}
/** The angle whose tangent is x. */
export function atan(x: Tensor): Tensor {
  return floatUnary('atan', ops.atan, x);
}
/** Hyperbolic sine. */
export function sinh(x: Tensor): Tensor {
  return floatUnary('sinh', ops.sinh, x);
}
/** Hyperbolic cosine. */
export function cosh(x: Tensor): Tensor {
  return floatUnary('cosh', ops.cosh, x);
}
/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return floatUnary('tanh', ops.tanh, x);
}
/** Inverse of sinh. */
export function asinh(x: Tensor): Tensor {
  return floatUnary('asinh', ops.asinh, x);
}
/** Inverse of cosh. */
export function acosh(x: Tensor): Tensor {
  return floatUnary('acosh', ops.acosh, x);
}
/** Inverse of tanh. */
export function atanh(x: Tensor): Tensor {
  return floatUnary('atanh', ops.atanh, x);
}
/** The error function. */
export function erf(x: Tensor): Tensor {
  return floatUnary('erf', ops.erf, x);
}
/** 1 - erf(x), precise for large x. */
export function erfc(x: Tensor): Tensor {
  return floatUnary('erfc', ops.erfc, x);
}
/** Inverse of erf on [-1, 1]. */
export function erfinv(x: Tensor): Tensor {
  return floatUnary('erfinv', ops.erfinv, x);
}
/** log|Γ(x)|. */
export function lgamma(x: Tensor): Tensor {
  return floatUnary('lgamma', ops.lgamma, x);
}
/** Derivative of lgamma. */
export function digamma(x: Tensor): Tensor {
  return floatUnary('digamma', ops.digamma, x);
}
/** 1 / (1 + exp(-x)). */
export function sigmoid(x: Tensor): Tensor {
  return floatUnary('sigmoid', ops.sigmoid, x);
}
/** log(x / (1 - x)); with `eps`, x is first kept within [eps, 1 - eps]. */
export function logit(x: Tensor, options: { eps?: number } = {}): Tensor {
  const { eps } = options;
  if (eps !== undefined) checkNumber('logit', 'eps', eps, [0, 0.5]);
  return floatUnary(
    'logit',
    (node) => {
      const { dtype } = node;
      const p =
        eps === undefined
          ? node
          : ops.clamp(node, numberNode(eps, dtype), numberNode(1 - eps, dtype));
      return ops.log(ops.div(p, ops.sub(ops.constant(1, dtype), p)));
    },
    x,
  );
}
/** max(x, 0). */
export function relu(x: Tensor): Tensor {
  return unary('relu', ops.relu, x);
}
/** Whether an element is NaN. */
export function isnan(x: Tensor): Tensor {
  return unary('isnan', ops.isNaN, x);
}
/** Whether an element is plus or minus infinity. */
export function isinf(x: Tensor): Tensor {
  return unary('isinf', ops.isInf, x);
}
/** Whether an element is neither NaN nor infinite. */
export function isfinite(x: Tensor): Tensor {
  return unary(
    'isfinite',
    (node) => {
      if (!isFloat(node.dtype)) return ops.full(node.shape, 1, 'bool');
      return ops.less(ops.abs(node), ops.constant(Infinity, node.dtype));
    },
    x,
  );
}

/** Largest finite numbers, which stand for infinities unless others are given. */
const LARGEST: Readonly<Record<string, number>> = {
  float16: 65504,
  bfloat16: 3.3895313892515355e38,
  float32: 3.4028234663852886e38,
  float64: Number.MAX_VALUE,
};

export interface NanToNumOptions {
  /** Stands for NaN; default 0. */
  readonly nan?: number;
  /** Stands for infinity; default the largest finite number. */
  readonly posinf?: number;
  /** Stands for minus infinity; default the smallest finite number. */
  readonly neginf?: number;
}

/** Replaces NaN and infinities by numbers. */
export function nanToNum(x: Tensor, options: NanToNumOptions = {}): Tensor {
  const node = nodeOf('nanToNum', x);
  const { dtype } = node;
  if (!isFloat(dtype)) return wrap(node);
  const largest = LARGEST[dtype] as number;
  const replace = (value: Node, when: Node, by: number): Node =>
    ops.select(when, numberNode(by, dtype), value);
  const high = ops.equal(node, ops.constant(Infinity, dtype));
  const low = ops.equal(node, ops.constant(-Infinity, dtype));
  const bounded = replace(
    replace(node, high, options.posinf ?? largest),
    low,
    options.neginf ?? -largest,
  );
  return wrap(replace(bounded, ops.isNaN(node), options.nan ?? 0));
}
