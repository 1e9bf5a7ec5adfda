// Short words for writing numerical code in the IR: one type, one lane count, fma where allowed.
import type { Builder } from '../builder.ts';
import type { BinaryOp, CompareOp, Expression, ValueType } from '../expression.ts';

/** A sum of two numbers that holds what one could not: `low` is below half an ulp of `high`. */
export interface Pair {
  readonly high: Expression;
  readonly low: Expression;
}

/** Emits arithmetic of one float type and lane count. */
export class MathEmitter {
  readonly builder: Builder;
  readonly type: 'f32' | 'f64';
  readonly lanes: number;
  /** Whether fma may be used. */
  readonly fused: boolean;
  /** Whether sums may be reordered behind our back. */
  readonly reordered: boolean;

  constructor(
    builder: Builder,
    type: 'f32' | 'f64',
    lanes: number,
    numerics: { readonly fused: boolean; readonly reordered: boolean },
  ) {
    this.builder = builder;
    this.type = type;
    this.lanes = lanes;
    this.fused = numerics.fused;
    this.reordered = numerics.reordered;
  }

  /** A float constant in every lane. */
  c(value: number): Expression {
    const rounded = this.type === 'f32' ? Math.fround(value) : value;
    return this.builder.constant(rounded, this.type, this.lanes);
  }
  /** An i32 constant in every lane. */
  i(value: number, type: ValueType = 'i32'): Expression {
    return this.builder.constant(value, type, this.lanes);
  }

  binary(op: BinaryOp, a: Expression, b: Expression | number): Expression {
    return this.builder.binary(op, a, typeof b === 'number' ? this.#like(a, b) : b);
  }
  add(a: Expression, b: Expression | number): Expression {
    return this.binary('add', a, b);
  }
  sub(a: Expression, b: Expression | number): Expression {
    return this.binary('sub', a, b);
  }
  mul(a: Expression, b: Expression | number): Expression {
    return this.binary('mul', a, b);
  }
  div(a: Expression, b: Expression | number): Expression {
    return this.binary('div', a, b);
  }
  neg(a: Expression): Expression {
    return this.builder.unary('neg', a);
  }
  abs(a: Expression): Expression {
    return this.builder.unary('abs', a);
  }
  sqrt(a: Expression): Expression {
    return this.builder.unary('sqrt', a);
  }
  compare(op: CompareOp, a: Expression, b: Expression | number): Expression {
    return this.binary(op, a, b);
  }
  select(
    condition: Expression,
    whenTrue: Expression | number,
    whenFalse: Expression | number,
  ): Expression {
    const yes = typeof whenTrue === 'number' ? this.c(whenTrue) : whenTrue;
    const no = typeof whenFalse === 'number' ? this.c(whenFalse) : whenFalse;
    return this.builder.select(condition, yes, no);
  }

  /** `a * b + c`, fused where the target allows it. */
  fma(a: Expression, b: Expression | number, c: Expression | number): Expression {
    const factor = typeof b === 'number' ? this.c(b) : b;
    const addend = typeof c === 'number' ? this.c(c) : c;
    if (this.fused) return this.builder.fma(a, factor, addend);
    return this.add(this.mul(a, factor), addend);
  }

  /** c[0] + c[1] x + c[2] x^2 + ... by Horner's rule. */
  polynomial(x: Expression, coefficients: readonly number[]): Expression {
    let sum = this.c(coefficients.at(-1) ?? 0);
    for (const coefficient of coefficients.slice(0, -1).toReversed()) {
      sum = this.fma(sum, x, coefficient);
    }
    return sum;
  }

  /** `min(a, limit)` that keeps a NaN in `a`. */
  atMost(a: Expression, limit: number): Expression {
    return this.select(this.compare('lt', this.c(limit), a), limit, a);
  }
  /** `max(a, limit)` that keeps a NaN in `a`. */
  atLeast(a: Expression, limit: number): Expression {
    return this.select(this.compare('gt', this.c(limit), a), limit, a);
  }

  /** The bits of a float32 as i32. */
  bits(a: Expression): Expression {
    return this.builder.bitcast(a, 'i32');
  }
  /** i32 bits as a float32. */
  float(a: Expression): Expression {
    return this.builder.bitcast(a, 'f32');
  }
  /** The float nearest an i32. */
  convert(a: Expression): Expression {
    return this.builder.convert(a, this.type);
  }

  /** `magnitude`, which is not negative, with the sign of `sign`. */
  copySign(magnitude: Expression, sign: Expression): Expression {
    if (this.type === 'f64') {
      // Also right for -0, as no magnitude is asked for there that is not 0.
      const negative = this.compare('lt', sign, 0);
      return this.select(
        negative,
        this.neg(magnitude),
        this.select(this.isZero(sign), sign, magnitude),
      );
    }
    const bit = this.binary('and', this.bits(sign), -0x80000000);
    return this.float(this.binary('or', this.bits(magnitude), bit));
  }

  isZero(a: Expression): Expression {
    return this.compare('eq', a, 0);
  }
  isNaN(a: Expression): Expression {
    return this.compare('ne', a, a);
  }
  both(a: Expression, b: Expression): Expression {
    return this.binary('and', a, b);
  }
  either(a: Expression, b: Expression): Expression {
    return this.binary('or', a, b);
  }

  /** a + b exactly, for |a| >= |b| or a = 0. */
  fastTwoSum(a: Expression, b: Expression): Pair {
    const high = this.add(a, b);
    return { high, low: this.sub(b, this.sub(high, a)) };
  }

  /** a + b exactly. */
  twoSum(a: Expression, b: Expression): Pair {
    const high = this.add(a, b);
    const shadow = this.sub(high, a);
    const low = this.add(this.sub(a, this.sub(high, shadow)), this.sub(b, shadow));
    return { high, low };
  }

  /** a * b exactly, barring overflow and underflow. */
  twoProduct(a: Expression, b: Expression): Pair {
    const high = this.mul(a, b);
    if (this.fused) return { high, low: this.builder.fma(a, b, this.neg(high)) };
    const x = this.split(a);
    const y = this.split(b);
    let low = this.sub(this.mul(x.high, y.high), high);
    low = this.add(low, this.mul(x.high, y.low));
    low = this.add(low, this.mul(x.low, y.high));
    return { high, low: this.add(low, this.mul(x.low, y.low)) };
  }

  /** a / b to nearly twice the digits. */
  divPairs(a: Pair, b: Pair): Pair {
    const high = this.div(a.high, b.high);
    const back = this.twoProduct(high, b.high);
    const rest = this.add(this.sub(this.sub(a.high, back.high), back.low), a.low);
    return { high, low: this.div(this.sub(rest, this.mul(high, b.low)), b.high) };
  }

  /** `a` as two numbers of half the digits, whose products are exact. */
  split(a: Expression): Pair {
    const high =
      this.type === 'f32'
        ? this.float(this.binary('and', this.bits(a), -0x1000))
        : this.#splitDouble(a);
    return { high, low: this.sub(a, high) };
  }

  #splitDouble(a: Expression): Expression {
    const scaled = this.mul(a, 134217729);
    return this.sub(scaled, this.sub(scaled, a));
  }

  #like(other: Expression, value: number): Expression {
    return other.type === this.type ? this.c(value) : this.i(value, other.type);
  }
}
