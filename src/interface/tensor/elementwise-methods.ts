// Elementwise methods of Tensor, each one line over a free function of the same name.
import * as arithmetic from './arithmetic.ts';
import { TensorHandle, type TensorLike } from './handle.ts';
import type { Tensor } from './tensor.ts';
import * as unary from './unary.ts';

export class ElementwiseMethods extends TensorHandle {
  // ---- arithmetic -----------------------------------------------------------------------------

  /** `this + alpha * other`, broadcast. */
  add(this: Tensor, other: TensorLike, options?: { alpha?: number }): Tensor {
    return arithmetic.add(this, other, options);
  }
  /** `this - alpha * other`, broadcast. */
  sub(this: Tensor, other: TensorLike, options?: { alpha?: number }): Tensor {
    return arithmetic.sub(this, other, options);
  }
  /** `other - alpha * this`, broadcast. */
  rsub(this: Tensor, other: TensorLike, options?: { alpha?: number }): Tensor {
    return arithmetic.rsub(this, other, options);
  }
  /** `this * other`, broadcast. */
  mul(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.mul(this, other);
  }
  /** `this / other`, broadcast; integers become float32 unless a rounding mode is given. */
  div(this: Tensor, other: TensorLike, options?: arithmetic.DivOptions): Tensor {
    return arithmetic.div(this, other, options);
  }
  /** The largest integer not above `this / other`. */
  floorDivide(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.floorDivide(this, other);
  }
  /** The rest of the division, with the sign of `other`. */
  remainder(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.remainder(this, other);
  }
  /** The rest of the division, with the sign of `this`. */
  fmod(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.fmod(this, other);
  }
  /** `this ** other`. */
  pow(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.pow(this, other);
  }
  /** The smaller of both; NaN wins. */
  minimum(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.minimum(this, other);
  }
  /** The larger of both; NaN wins. */
  maximum(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.maximum(this, other);
  }
  /** The angle of the point (other, this). */
  atan2(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.atan2(this, other);
  }
  /** `sqrt(this² + other²)`. */
  hypot(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.hypot(this, other);
  }
  /** `log(exp(this) + exp(other))`. */
  logaddexp(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.logaddexp(this, other);
  }
  /** `this * log(other)`, 0 where `this` is 0. */
  xlogy(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.xlogy(this, other);
  }
  /** `this + value * a * b`. */
  addcmul(this: Tensor, a: TensorLike, b: TensorLike, options?: { value?: number }): Tensor {
    return arithmetic.addcmul(this, a, b, options);
  }
  /** `this + value * a / b`. */
  addcdiv(this: Tensor, a: TensorLike, b: TensorLike, options?: { value?: number }): Tensor {
    return arithmetic.addcdiv(this, a, b, options);
  }
  /** `this + weight * (end - this)`. */
  lerp(this: Tensor, end: Tensor, weight: TensorLike): Tensor {
    return arithmetic.lerp(this, end, weight);
  }
  /** Kept between `low` and `high`, of which one may be left out. */
  clamp(this: Tensor, low?: TensorLike | null, high?: TensorLike | null): Tensor {
    return arithmetic.clamp(this, low, high);
  }

  // ---- comparison, logic, bits ----------------------------------------------------------------

  /** `this == other` elementwise: bool. */
  eq(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.eq(this, other);
  }
  /** `this != other` elementwise: bool. */
  ne(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.ne(this, other);
  }
  /** `this < other` elementwise: bool. */
  lt(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.lt(this, other);
  }
  /** `this <= other` elementwise: bool. */
  le(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.le(this, other);
  }
  /** `this > other` elementwise: bool. */
  gt(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.gt(this, other);
  }
  /** `this >= other` elementwise: bool. */
  ge(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.ge(this, other);
  }
  /** Whether elements are nearly equal. */
  isclose(this: Tensor, other: Tensor, options?: arithmetic.CloseOptions): Tensor {
    return arithmetic.isclose(this, other, options);
  }
  /** Whether both are nonzero. */
  logicalAnd(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.logicalAnd(this, other);
  }
  /** Whether either is nonzero. */
  logicalOr(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.logicalOr(this, other);
  }
  /** Whether exactly one is nonzero. */
  logicalXor(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.logicalXor(this, other);
  }
  /** Whether an element is zero. */
  logicalNot(this: Tensor): Tensor {
    return arithmetic.logicalNot(this);
  }
  /** Bits set in both. */
  bitwiseAnd(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.bitwiseAnd(this, other);
  }
  /** Bits set in either. */
  bitwiseOr(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.bitwiseOr(this, other);
  }
  /** Bits set in exactly one. */
  bitwiseXor(this: Tensor, other: TensorLike): Tensor {
    return arithmetic.bitwiseXor(this, other);
  }
  /** All bits flipped. */
  bitwiseNot(this: Tensor): Tensor {
    return arithmetic.bitwiseNot(this);
  }
  /** Bits moved up by `places`. */
  bitwiseLeftShift(this: Tensor, places: TensorLike): Tensor {
    return arithmetic.bitwiseLeftShift(this, places);
  }
  /** Bits moved down by `places`, the sign kept. */
  bitwiseRightShift(this: Tensor, places: TensorLike): Tensor {
    return arithmetic.bitwiseRightShift(this, places);
  }
  /** `this` where `condition` is nonzero, else `other`. */
  where(this: Tensor, condition: Tensor, other: TensorLike): Tensor {
    return arithmetic.where(condition, this, other);
  }
  /** `value` where `mask` is nonzero. */
  maskedFill(this: Tensor, mask: Tensor, value: TensorLike): Tensor {
    return arithmetic.maskedFill(this, mask, value);
  }

  // ---- one operand ----------------------------------------------------------------------------

  /** `-this`. */
  neg(this: Tensor): Tensor {
    return unary.neg(this);
  }
  /** The magnitude. */
  abs(this: Tensor): Tensor {
    return unary.abs(this);
  }
  /** -1, 0 or 1. */
  sign(this: Tensor): Tensor {
    return unary.sign(this);
  }
  /** `this * this`. */
  square(this: Tensor): Tensor {
    return unary.square(this);
  }
  /** The largest integer not above. */
  floor(this: Tensor): Tensor {
    return unary.floor(this);
  }
  /** The smallest integer not below. */
  ceil(this: Tensor): Tensor {
    return unary.ceil(this);
  }
  /** Without the fraction. */
  trunc(this: Tensor): Tensor {
    return unary.trunc(this);
  }
  /** The nearest integer (or number of `decimals` places), ties to even. */
  round(this: Tensor, options?: { decimals?: number }): Tensor {
    return unary.round(this, options);
  }
  /** The fraction. */
  frac(this: Tensor): Tensor {
    return unary.frac(this);
  }
  /** The square root. */
  sqrt(this: Tensor): Tensor {
    return unary.sqrt(this);
  }
  /** One over the square root. */
  rsqrt(this: Tensor): Tensor {
    return unary.rsqrt(this);
  }
  /** `1 / this`. */
  reciprocal(this: Tensor): Tensor {
    return unary.reciprocal(this);
  }
  /** `e ** this`. */
  exp(this: Tensor): Tensor {
    return unary.exp(this);
  }
  /** `2 ** this`. */
  exp2(this: Tensor): Tensor {
    return unary.exp2(this);
  }
  /** `exp(this) - 1`, precise near 0. */
  expm1(this: Tensor): Tensor {
    return unary.expm1(this);
  }
  /** The natural logarithm. */
  log(this: Tensor): Tensor {
    return unary.log(this);
  }
  /** The logarithm to base 2. */
  log2(this: Tensor): Tensor {
    return unary.log2(this);
  }
  /** The logarithm to base 10. */
  log10(this: Tensor): Tensor {
    return unary.log10(this);
  }
  /** `log(1 + this)`, precise near 0. */
  log1p(this: Tensor): Tensor {
    return unary.log1p(this);
  }
  /** Sine of an angle in radians. */
  sin(this: Tensor): Tensor {
    return unary.sin(this);
  }
  /** Cosine of an angle in radians. */
  cos(this: Tensor): Tensor {
    return unary.cos(this);
  }
  /** Tangent of an angle in radians. */
  tan(this: Tensor): Tensor {
    return unary.tan(this);
  }
  /** Inverse sine. */
  asin(this: Tensor): Tensor {
    return unary.asin(this);
  }
  /** Inverse cosine. */
  acos(this: Tensor): Tensor {
    return unary.acos(this);
  }
  /** Inverse tangent. */
  atan(this: Tensor): Tensor {
    return unary.atan(this);
  }
  /** Hyperbolic sine. */
  sinh(this: Tensor): Tensor {
    return unary.sinh(this);
  }
  /** Hyperbolic cosine. */
  cosh(this: Tensor): Tensor {
    return unary.cosh(this);
  }
  /** Hyperbolic tangent. */
  tanh(this: Tensor): Tensor {
    return unary.tanh(this);
  }
  /** Inverse hyperbolic sine. */
  asinh(this: Tensor): Tensor {
    return unary.asinh(this);
  }
  /** Inverse hyperbolic cosine. */
  acosh(this: Tensor): Tensor {
    return unary.acosh(this);
  }
  /** Inverse hyperbolic tangent. */
  atanh(this: Tensor): Tensor {
    return unary.atanh(this);
  }
  /** The error function. */
  erf(this: Tensor): Tensor {
    return unary.erf(this);
  }
  /** `1 - erf(this)`. */
  erfc(this: Tensor): Tensor {
    return unary.erfc(this);
  }
  /** Inverse of the error function. */
  erfinv(this: Tensor): Tensor {
    return unary.erfinv(this);
  }
  /** Logarithm of the gamma function's magnitude. */
  lgamma(this: Tensor): Tensor {
    return unary.lgamma(this);
  }
  /** Derivative of lgamma. */
  digamma(this: Tensor): Tensor {
    return unary.digamma(this);
  }
  /** `1 / (1 + exp(-this))`. */
  sigmoid(this: Tensor): Tensor {
    return unary.sigmoid(this);
  }
  /** `log(this / (1 - this))`. */
  logit(this: Tensor, options?: { eps?: number }): Tensor {
    return unary.logit(this, options);
  }
  /** `max(this, 0)`. */
  relu(this: Tensor): Tensor {
    return unary.relu(this);
  }
  /** Whether an element is NaN. */
  isnan(this: Tensor): Tensor {
    return unary.isnan(this);
  }
  /** Whether an element is infinite. */
  isinf(this: Tensor): Tensor {
    return unary.isinf(this);
  }
  /** Whether an element is neither NaN nor infinite. */
  isfinite(this: Tensor): Tensor {
    return unary.isfinite(this);
  }
  /** NaN and infinities replaced by numbers. */
  nanToNum(this: Tensor, options?: unary.NanToNumOptions): Tensor {
    return unary.nanToNum(this, options);
  }
}
