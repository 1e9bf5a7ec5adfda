// Constant folding of the exact operations. Transcendental functions are never folded here:
// their value is defined by the polynomials that the kernel would run.
import { isFloatType, type BinaryOp, type UnaryOp, type ValueType } from './expression.ts';

/** Rounds a double to what a register of this type holds; integers wrap. */
function wrap(value: number, register: ValueType): number {
  switch (register) {
    case 'f32':
      return Math.fround(value);
    case 'f64':
      return value;
    case 'i32':
      return value | 0;
    case 'u32':
      return value >>> 0;
    case 'bool':
      return value === 0 ? 0 : 1;
    default:
      register satisfies never;
      return value;
  }
}

/** Rounds to the nearest integer, ties to even. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  if (value === -0.5) return -0;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** The value of an exact unary operation on a constant, or undefined if it is not folded. */
export function foldUnary(op: UnaryOp, value: number, type: ValueType): number | undefined {
  switch (op) {
    case 'neg':
      return wrap(-value, type);
    case 'abs':
      return wrap(Math.abs(value), type);
    case 'sqrt':
      return wrap(Math.sqrt(value), type);
    case 'floor':
      return Math.floor(value);
    case 'ceil':
      return Math.ceil(value);
    case 'trunc':
      return Math.trunc(value);
    case 'not':
      return type === 'bool' ? (value === 0 ? 1 : 0) : wrap(~value, type);
    default:
      return undefined;
  }
}

/** The value of an exact binary operation on constants, or undefined if it is not folded. */
export function foldBinary(
  op: BinaryOp,
  left: number,
  right: number,
  type: ValueType,
): number | undefined {
  const float = isFloatType(type);
  switch (op) {
    case 'add':
      return wrap(left + right, type);
    case 'sub':
      return wrap(left - right, type);
    case 'mul':
      return float ? wrap(left * right, type) : wrap(Math.imul(left, right), type);
    case 'div':
      if (float) return wrap(left / right, type);
      return right === 0 ? undefined : wrap(Math.trunc(left / right), type);
    case 'rem':
      return float || right === 0 ? undefined : wrap(left % right, type);
    case 'min':
      return Math.min(left, right);
    case 'max':
      return Math.max(left, right);
    case 'and':
      return wrap(left & right, type);
    case 'or':
      return wrap(left | right, type);
    case 'xor':
      return wrap(left ^ right, type);
    case 'shl':
      return wrap(left << right, type);
    case 'shr':
      return type === 'u32' ? left >>> right : left >> right;
    case 'eq':
      return left === right ? 1 : 0;
    case 'ne':
      return left !== right ? 1 : 0;
    case 'lt':
      return left < right ? 1 : 0;
    case 'le':
      return left <= right ? 1 : 0;
    case 'gt':
      return left > right ? 1 : 0;
    case 'ge':
      return left >= right ? 1 : 0;
    case 'mulHigh':
    case 'pow':
    case 'atan2':
    case 'fmod':
      return undefined;
    default:
      op satisfies never;
      return undefined;
  }
}
