// Elementwise functions of two and three operands: arithmetic, comparison, logic, bits, choice.
// Operands broadcast; dtypes are promoted as in PyTorch, and numbers are weak.
import { type DType, isFloat, promote, promoteWithNumber } from '../../base/dtype.ts';
import { ArgumentError, DTypeError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeLike, nodeOf } from './arguments.ts';
import { autocast } from './autocast.ts';
import {
  castNode,
  isTensor,
  numberNode,
  promoteOperands,
  type TensorLike,
  wrap,
} from './handle.ts';
import { logaddexpNode, xlogyNode } from './logarithms.ts';
import type { Tensor } from './tensor.ts';

type BinaryNode = (a: Node, b: Node) => Node;

function binary(op: string, build: BinaryNode, a: TensorLike, b: TensorLike): Tensor {
  const [left, right] = promoteOperands(op, a, b);
  return wrap(build(left, right));
}

/** Both operands as one float dtype: integers and bools become float32. */
export function floatOperands(op: string, a: TensorLike, b: TensorLike): [Node, Node] {
  const [left, right] = promoteOperands(op, a, b);
  const dtype: DType = isFloat(left.dtype) ? left.dtype : 'float32';
  return [autocast(op, castNode(left, dtype)), autocast(op, castNode(right, dtype))];
}

function floatBinary(op: string, build: BinaryNode, a: TensorLike, b: TensorLike): Tensor {
  const [left, right] = floatOperands(op, a, b);
  return wrap(build(left, right));
}

/** The node of `b` times a plain factor, which is a slot of the plan. */
function scaled(op: string, b: TensorLike, alpha: number): TensorLike {
  if (alpha === 1) return b;
  return isTensor(b) ? binary(op, ops.mul, b, alpha) : Number(b) * alpha;
}

// ---- arithmetic -------------------------------------------------------------------------------

/** `a + alpha * b`. */
export function add(a: TensorLike, b: TensorLike, options: { alpha?: number } = {}): Tensor {
  return binary('add', ops.add, a, scaled('add', b, options.alpha ?? 1));
}

/** `a - alpha * b`. */
export function sub(a: TensorLike, b: TensorLike, options: { alpha?: number } = {}): Tensor {
  return binary('sub', ops.sub, a, scaled('sub', b, options.alpha ?? 1));
}

/** `b - alpha * a`. */
export function rsub(a: TensorLike, b: TensorLike, options: { alpha?: number } = {}): Tensor {
  return sub(b, a, options);
}

/** `a * b`. */
export function mul(a: TensorLike, b: TensorLike): Tensor {
  return binary('mul', ops.mul, a, b);
}

export interface DivOptions {
  /** Round the quotient toward zero or down; integers then stay integers. */
  readonly roundingMode?: 'trunc' | 'floor' | null;
}

/** `a / b`; without a rounding mode integers become float32. */
export function div(a: TensorLike, b: TensorLike, options: DivOptions = {}): Tensor {
  const mode = options.roundingMode ?? null;
  if (mode === null) return floatBinary('div', ops.div, a, b);
  return binary('div', mode === 'floor' ? ops.floorDivide : ops.truncDivide, a, b);
}

/** The largest integer not above `a / b`. */
export function floorDivide(a: TensorLike, b: TensorLike): Tensor {
  return binary('floorDivide', ops.floorDivide, a, b);
}

/** `a - b * floor(a / b)`: the sign of `b`, as Python's `%`. */
export function remainder(a: TensorLike, b: TensorLike): Tensor {
  return binary('remainder', ops.remainder, a, b);
}

/** `a - b * trunc(a / b)`: the sign of `a`, as JavaScript's `%`. */
export function fmod(a: TensorLike, b: TensorLike): Tensor {
  return binary('fmod', ops.fmod, a, b);
}

/** Small whole exponents become products: exact, and with gradients everywhere. */
function powerByNumber(base: Node, exponent: number): Node | null {
  const one = (): Node => ops.full(base.shape, 1, base.dtype);
  switch (exponent) {
    case 0:
      // Of the base's history, though its value does not count: the gradient is 0, not an error.
      return ops.select(ops.constant(1, 'bool'), one(), base);
    case 1:
      return ops.copy(base);
    case 2:
      return ops.mul(base, base);
    case 3:
      return ops.mul(ops.mul(base, base), base);
    case 0.5:
      return isFloat(base.dtype) ? ops.sqrt(base) : null;
    case -1:
      return isFloat(base.dtype) ? ops.reciprocal(base) : null;
    default:
      return null;
  }
}

/** `a ** b`. Integers to a negative power throw DTypeError where the exponent is a number. */
export function pow(a: TensorLike, b: TensorLike): Tensor {
  if (isTensor(a) && typeof b === 'number') {
    const dtype = promoteWithNumber(a.dtype, b);
    const base = autocast('pow', castNode(a.node, dtype));
    if (!isFloat(dtype) && b < 0) {
      throw new DTypeError(`${a.dtype} to the negative power ${b}`, {
        op: 'pow',
        hint: 'cast to float32 first',
      });
    }
    return wrap(powerByNumber(base, b) ?? ops.pow(base, numberNode(b, dtype)));
  }
  return binary('pow', ops.pow, a, b);
}

/** The smaller of both; NaN wins. */
export function minimum(a: TensorLike, b: TensorLike): Tensor {
  return binary('minimum', ops.minimum, a, b);
}

/** The larger of both; NaN wins. */
export function maximum(a: TensorLike, b: TensorLike): Tensor {
  return binary('maximum', ops.maximum, a, b);
}

/** The angle of the point (b, a), from -π to π. */
export function atan2(a: TensorLike, b: TensorLike): Tensor {
  return floatBinary('atan2', ops.atan2, a, b);
}

/** `sqrt(a² + b²)` without overflow on the way. */
export function hypot(a: TensorLike, b: TensorLike): Tensor {
  return floatBinary(
    'hypot',
    (x, y) => {
      const [ax, ay] = [ops.abs(x), ops.abs(y)];
      const large = ops.maximum(ax, ay);
      const small = ops.minimum(ax, ay);
      const zero = ops.constant(0, x.dtype);
      const one = ops.constant(1, x.dtype);
      const plain = ops.logicalOr(ops.equal(large, zero), ops.isInf(large));
      const ratio = ops.select(plain, zero, ops.div(small, ops.select(plain, one, large)));
      return ops.mul(large, ops.sqrt(ops.add(one, ops.mul(ratio, ratio))));
    },
    a,
    b,
  );
}

/** `log(exp(a) + exp(b))` without overflow. */
export function logaddexp(a: TensorLike, b: TensorLike): Tensor {
  return floatBinary('logaddexp', logaddexpNode, a, b);
}

/** `a * log(b)`, 0 where `a` is 0 (unless `b` is NaN). */
export function xlogy(a: TensorLike, b: TensorLike): Tensor {
  return floatBinary('xlogy', xlogyNode, a, b);
}

/** `x + value * a * b`. */
export function addcmul(
  x: Tensor,
  a: TensorLike,
  b: TensorLike,
  options: { value?: number } = {},
): Tensor {
  return add(x, mul(a, b), { alpha: options.value ?? 1 });
}

/** `x + value * a / b`. */
export function addcdiv(
  x: Tensor,
  a: TensorLike,
  b: TensorLike,
  options: { value?: number } = {},
): Tensor {
  return add(x, div(a, b), { alpha: options.value ?? 1 });
}

/** `start + weight * (end - start)`. */
export function lerp(start: Tensor, end: Tensor, weight: TensorLike): Tensor {
  const [from, to] = floatOperands('lerp', start, end);
  const factor = nodeLike('lerp', weight, from.dtype);
  return wrap(ops.add(from, ops.mul(factor, ops.sub(to, from))));
}

/** `x` kept between `low` and `high`; either may be left out (null). NaN stays. */
export function clamp(x: Tensor, low?: TensorLike | null, high?: TensorLike | null): Tensor {
  const hasLow = low !== undefined && low !== null;
  const hasHigh = high !== undefined && high !== null;
  if (!hasLow && !hasHigh) throw new ArgumentError('give low, high or both', { op: 'clamp' });
  let { dtype } = nodeOf('clamp', x);
  for (const bound of [low, high]) {
    if (isTensor(bound)) dtype = promote(dtype, bound.dtype);
    else if (typeof bound === 'number' && Number.isFinite(bound)) {
      dtype = promoteWithNumber(dtype, bound);
    }
  }
  const node = castNode(x.node, dtype);
  if (hasLow && hasHigh) {
    return wrap(ops.clamp(node, nodeLike('clamp', low, dtype), nodeLike('clamp', high, dtype)));
  }
  const one = nodeLike('clamp', (hasLow ? low : high) as TensorLike, dtype);
  if (!isFloat(dtype)) return wrap(hasLow ? ops.maximum(node, one) : ops.minimum(node, one));
  // With one bound open the gradient at the bound still passes whole, as in PyTorch.
  const open = ops.constant(hasLow ? Infinity : -Infinity, dtype);
  return wrap(hasLow ? ops.clamp(node, one, open) : ops.clamp(node, open, one));
}

// ---- comparison -------------------------------------------------------------------------------

/** `a == b` elementwise: bool. */
export function eq(a: TensorLike, b: TensorLike): Tensor {
  return binary('eq', ops.equal, a, b);
}
/** `a != b` elementwise: bool. */
export function ne(a: TensorLike, b: TensorLike): Tensor {
  return binary('ne', ops.notEqual, a, b);
}
/** `a < b` elementwise: bool. */
export function lt(a: TensorLike, b: TensorLike): Tensor {
  return binary('lt', ops.less, a, b);
}
/** `a <= b` elementwise: bool. */
export function le(a: TensorLike, b: TensorLike): Tensor {
  return binary('le', ops.lessEqual, a, b);
}
/** `a > b` elementwise: bool. */
export function gt(a: TensorLike, b: TensorLike): Tensor {
  return binary('gt', ops.greater, a, b);
}
/** `a >= b` elementwise: bool. */
export function ge(a: TensorLike, b: TensorLike): Tensor {
  return binary('ge', ops.greaterEqual, a, b);
}

export interface CloseOptions {
  /** Allowed relative difference; default 1e-5. */
  readonly rtol?: number;
  /** Allowed absolute difference; default 1e-8. */
  readonly atol?: number;
  /** Whether NaN equals NaN. */
  readonly equalNaN?: boolean;
}

/** `|a - b| <= atol + rtol * |b|` elementwise: bool. */
export function isclose(a: Tensor, b: Tensor, options: CloseOptions = {}): Tensor {
  const [x, y] = floatOperands('isclose', a, b);
  const { dtype } = x;
  const allowed = ops.add(
    numberNode(options.atol ?? 1e-8, dtype),
    ops.mul(numberNode(options.rtol ?? 1e-5, dtype), ops.abs(y)),
  );
  const near = ops.lessEqual(ops.abs(ops.sub(x, y)), allowed);
  const finite = ops.logicalNot(ops.isInf(y));
  let close = ops.logicalOr(ops.equal(x, y), ops.logicalAnd(near, finite));
  if (options.equalNaN === true) {
    close = ops.logicalOr(close, ops.logicalAnd(ops.isNaN(x), ops.isNaN(y)));
  }
  return wrap(close);
}

// ---- logic and bits ---------------------------------------------------------------------------

function logical(op: string, build: BinaryNode, a: TensorLike, b: TensorLike): Tensor {
  const side = (value: TensorLike): Node =>
    isTensor(value) ? ops.toBool(value.node) : ops.constant(nodeFlag(op, value), 'bool');
  return wrap(build(side(a), side(b)));
}

function nodeFlag(op: string, value: unknown): number {
  if (typeof value === 'number' || typeof value === 'boolean') return value ? 1 : 0;
  throw new ArgumentError('expected a tensor, a number or a boolean', { op });
}

/** Whether both are nonzero. */
export function logicalAnd(a: TensorLike, b: TensorLike): Tensor {
  return logical('logicalAnd', ops.logicalAnd, a, b);
}
/** Whether either is nonzero. */
export function logicalOr(a: TensorLike, b: TensorLike): Tensor {
  return logical('logicalOr', ops.logicalOr, a, b);
}
/** Whether exactly one is nonzero. */
export function logicalXor(a: TensorLike, b: TensorLike): Tensor {
  return logical('logicalXor', ops.logicalXor, a, b);
}
/** Whether `x` is zero. */
export function logicalNot(x: Tensor): Tensor {
  return wrap(ops.logicalNot(nodeOf('logicalNot', x)));
}
/** Bits set in both; of bools: and. */
export function bitwiseAnd(a: TensorLike, b: TensorLike): Tensor {
  return binary('bitwiseAnd', ops.bitwiseAnd, a, b);
}
/** Bits set in either; of bools: or. */
export function bitwiseOr(a: TensorLike, b: TensorLike): Tensor {
  return binary('bitwiseOr', ops.bitwiseOr, a, b);
}
/** Bits set in exactly one; of bools: exclusive or. */
export function bitwiseXor(a: TensorLike, b: TensorLike): Tensor {
  return binary('bitwiseXor', ops.bitwiseXor, a, b);
}
/** All bits flipped; of bools: not. */
export function bitwiseNot(x: Tensor): Tensor {
  return wrap(ops.bitwiseNot(nodeOf('bitwiseNot', x)));
}
/** Bits of `a` moved up by `b` places. */
export function bitwiseLeftShift(a: TensorLike, b: TensorLike): Tensor {
  return binary('bitwiseLeftShift', ops.shiftLeft, a, b);
}
/** Bits of `a` moved down by `b` places, with the sign kept. */
export function bitwiseRightShift(a: TensorLike, b: TensorLike): Tensor {
  return binary('bitwiseRightShift', ops.shiftRight, a, b);
}

// ---- choice -----------------------------------------------------------------------------------

/** `a` where `condition` is nonzero, else `b`; all three broadcast. */
export function where(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  const chosen = ops.toBool(nodeOf('where', condition));
  if (isTensor(a) || isTensor(b)) {
    const [left, right] = promoteOperands('where', a, b);
    return wrap(ops.select(chosen, left, right));
  }
  const bools = typeof a === 'boolean' && typeof b === 'boolean';
  const dtype: DType = bools ? 'bool' : 'float32';
  return wrap(ops.select(chosen, nodeLike('where', a, dtype), nodeLike('where', b, dtype)));
}

/** `value` where `mask` is nonzero, else `x`, whose dtype stays. */
export function maskedFill(x: Tensor, mask: Tensor, value: TensorLike): Tensor {
  const { node } = x;
  const filling = nodeLike('maskedFill', value, node.dtype);
  return wrap(ops.select(ops.toBool(nodeOf('maskedFill', mask)), filling, node));
}
