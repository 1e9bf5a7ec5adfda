// Replaces mathematical functions by polynomials and exact operations, so that every target computes
// the same function.
import { internalError } from '../base/errors.ts';
import type { Builder } from './builder.ts';
import { type Binary, type Expression, operandsOf, type Unary } from './expression.ts';
import type { Kernel, Target } from './kernel.ts';
import { DOUBLE_BINARY, DOUBLE_UNARY } from './math/double.ts';
import { MathEmitter } from './math/emitter.ts';
import * as exponential from './math/exponential.ts';
import { fmod, mulHigh } from './math/integer.ts';
import * as logarithm from './math/logarithm.ts';
import * as special from './math/special.ts';
import * as trigonometry from './math/trigonometry.ts';
import type { MathBinaryTable, MathUnaryTable } from './math/table.ts';
import { mapExpressions, rebuild } from './rewrite.ts';
import { isBasicUnary } from './verify.ts';

const SINGLE_UNARY: MathUnaryTable = {
  exp: (m, x) => exponential.exp(m, x),
  exp2: exponential.exp2,
  expm1: exponential.expm1,
  log: logarithm.log,
  log2: logarithm.log2,
  log10: logarithm.log10,
  log1p: logarithm.log1p,
  sin: trigonometry.sin,
  cos: trigonometry.cos,
  tan: trigonometry.tan,
  asin: trigonometry.asin,
  acos: trigonometry.acos,
  atan: trigonometry.atan,
  sinh: exponential.sinh,
  cosh: exponential.cosh,
  tanh: exponential.tanh,
  asinh: logarithm.asinh,
  acosh: logarithm.acosh,
  atanh: logarithm.atanh,
  sigmoid: exponential.sigmoid,
  erf: special.erf,
  erfc: special.erfc,
  erfinv: special.erfinv,
  lgamma: special.lgamma,
  digamma: special.digamma,
};

const SINGLE_BINARY: MathBinaryTable = {
  pow: logarithm.pow,
  atan2: trigonometry.atan2,
  fmod,
};

/**
 * The kernel without mathematical functions. `mulHigh` stays if the renderer has it.
 *
 * Errors in float32, in units of the last place: at most 2, but for erfinv (4), and lgamma and digamma
 * (8, relative to max(1, |value|)). sin, cos and tan are NaN beyond |x| = 2^17 (2^22 where the target
 * has fma). Where the target reassociates, these are a few units more. In float64: 1e-14 relative; lgamma and digamma 1e-13, relative to max(1, |value|); fmod is
 * NaN for quotients beyond 2^150.
 */
export function decompose(
  kernel: Kernel,
  target: Target,
  builder: Builder,
  options: { readonly mulHigh?: boolean } = {},
): Kernel {
  const decomposer = new Decomposer(builder, target, options.mulHigh === true);
  const body = mapExpressions(kernel.body, (expression) => decomposer.expression(expression));
  return body === kernel.body ? kernel : { ...kernel, body };
}

class Decomposer {
  readonly #builder: Builder;
  readonly #target: Target;
  readonly #hasMulHigh: boolean;
  readonly #done = new Map<Expression, Expression>();

  constructor(builder: Builder, target: Target, hasMulHigh: boolean) {
    this.#builder = builder;
    this.#target = target;
    this.#hasMulHigh = hasMulHigh;
  }

  expression(expression: Expression): Expression {
    const known = this.#done.get(expression);
    if (known !== undefined) return known;
    let changed = false;
    const operands = operandsOf(expression).map((operand) => {
      const made = this.expression(operand);
      changed ||= made !== operand;
      return made;
    });
    const inner = changed ? rebuild(this.#builder, expression, operands) : expression;
    const result = this.#top(inner);
    this.#done.set(expression, result);
    return result;
  }

  #top(expression: Expression): Expression {
    if (expression.kind === 'unary') return this.#unary(expression);
    return expression.kind === 'binary' ? this.#binary(expression) : expression;
  }

  #unary(expression: Unary): Expression {
    const { op, operand } = expression;
    if (isBasicUnary(op)) return expression;
    const table = operand.type === 'f64' ? DOUBLE_UNARY : SINGLE_UNARY;
    return table[op](this.#emitter(operand), operand);
  }

  #binary(expression: Binary): Expression {
    const { op, left, right } = expression;
    if (op === 'mulHigh' && !this.#hasMulHigh) return mulHigh(this.#builder, left, right);
    if (op !== 'pow' && op !== 'atan2' && op !== 'fmod') return expression;
    const table = left.type === 'f64' ? DOUBLE_BINARY : SINGLE_BINARY;
    return table[op](this.#emitter(left), left, right);
  }

  #emitter({ type, lanes }: Expression): MathEmitter {
    if (type !== 'f32' && type !== 'f64') throw internalError(`a function of ${type}`);
    const { fma, reassociates } = this.#target;
    const numerics = { fused: fma, reordered: reassociates === true };
    return new MathEmitter(this.#builder, type, lanes, numerics);
  }
}
