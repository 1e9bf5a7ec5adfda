// The IR's operations on single numbers, written down as plainly as possible: what every renderer
// must agree with.
import { internalError } from '../../base/errors.ts';
import { convertNumber } from '../../ir/builder.ts';
import type { BinaryOp, UnaryOp, ValueType } from '../../ir/expression.ts';
import { foldBinary, foldUnary, roundHalfEven } from '../../ir/fold.ts';

const floats = new Float32Array(2);
const words = new Uint32Array(floats.buffer);
const doubles = new Float64Array(1);
const doubleWords = new BigUint64Array(doubles.buffer);

/** A unary operation on one number. */
export function unaryFunction(op: UnaryOp, type: ValueType): (value: number) => number {
  if (op === 'round') return roundHalfEven;
  if (foldUnary(op, 1, type) === undefined) {
    throw internalError(`${op} of ${type} was not decomposed`);
  }
  return (value) => foldUnary(op, value, type) as number;
}

/** A binary operation on two numbers. Integer division by zero is an `internal:` error. */
export function binaryFunction(
  op: BinaryOp,
  type: ValueType,
): (left: number, right: number) => number {
  if (op === 'mulHigh') {
    return (left, right) => Number((BigInt(left) * BigInt(right)) >> 32n);
  }
  if (op === 'pow' || op === 'atan2' || op === 'fmod') {
    throw internalError(`${op} was not decomposed`);
  }
  return (left, right) => {
    const value = foldBinary(op, left, right, type);
    if (value === undefined) throw internalError(`${op} of ${left} by ${right}`);
    return value;
  };
}

/** A numeric conversion of one number. */
export function convertFunction(from: ValueType, to: ValueType): (value: number) => number {
  return (value) => convertNumber(value, to, from);
}

/** The same 32 bits read as another type. */
export function bitcastFunction(from: ValueType, to: ValueType): (value: number) => number {
  return (value) => {
    if (from === 'f32') floats[0] = value;
    else words[0] = value;
    const bits = words[0] ?? 0;
    if (to === 'f32') return floats[0] ?? 0;
    return to === 'i32' ? bits | 0 : bits;
  };
}

/** `a * b + c`, rounded once. */
export function fusedMultiplyAdd(a: number, b: number, c: number, type: ValueType): number {
  return type === 'f32' ? fma32(a, b, c) : fma64(a, b, c);
}

/**
 * The product of two floats is exact in float64. Their sum with `c` is rounded to odd, which a
 * second rounding to float32 cannot disturb (Boldo and Melquiond, 2008).
 */
function fma32(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  if (!Number.isFinite(sum)) return Math.fround(sum);
  const shadow = sum - product;
  const error = product - (sum - shadow) + (c - shadow);
  if (error === 0) return Math.fround(sum);
  doubles[0] = sum;
  const bits = doubleWords[0] ?? 0n;
  if ((bits & 1n) === 0n) {
    const away = error > 0 === sum > 0;
    doubleWords[0] = away ? bits + 1n : bits - 1n;
  }
  return Math.fround(doubles[0]);
}

/** Exact integers and one rounding at the end. */
function fma64(a: number, b: number, c: number): number {
  const direct = a * b + c;
  if (!Number.isFinite(a) || !Number.isFinite(b) || !Number.isFinite(c)) return direct;
  if (a === 0 || b === 0) return direct;
  const x = toInteger(a);
  const y = toInteger(b);
  const z = toInteger(c);
  const productScale = x.exponent + y.exponent;
  const scale = c === 0 ? productScale : Math.min(productScale, z.exponent);
  const product = (x.mantissa * y.mantissa) << BigInt(productScale - scale);
  const sum = product + (c === 0 ? 0n : z.mantissa << BigInt(z.exponent - scale));
  return sum === 0n ? direct : fromInteger(sum, scale);
}

/** `value` as mantissa * 2^exponent. */
function toInteger(value: number): { mantissa: bigint; exponent: number } {
  doubles[0] = value;
  const bits = doubleWords[0] ?? 0n;
  const biased = Number((bits >> 52n) & 0x7ffn);
  const fraction = bits & 0xfffffffffffffn;
  const magnitude = biased === 0 ? fraction : fraction | 0x10000000000000n;
  return {
    mantissa: bits >> 63n === 0n ? magnitude : -magnitude,
    exponent: Math.max(biased, 1) - 1075,
  };
}

/** mantissa * 2^exponent, rounded to nearest even, subnormals included. */
function fromInteger(mantissa: bigint, exponent: number): number {
  const negative = mantissa < 0n;
  let magnitude = negative ? -mantissa : mantissa;
  const bits = magnitude.toString(2).length;
  // Keep 53 bits, or fewer where the result is subnormal.
  const drop = Math.max(bits - 53, -1074 - exponent, 0);
  if (drop > 0) {
    const half = 1n << BigInt(drop - 1);
    const rest = magnitude & ((1n << BigInt(drop)) - 1n);
    magnitude >>= BigInt(drop);
    if (rest > half || (rest === half && (magnitude & 1n) === 1n)) magnitude += 1n;
  }
  // Two factors: one alone may overflow or underflow although the product does not.
  const power = exponent + drop;
  const first = Math.max(-1000, Math.min(1000, power));
  const value = Number(magnitude) * 2 ** first * 2 ** (power - first);
  return negative ? -value : value;
}
