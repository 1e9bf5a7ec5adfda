// Builds interned expressions for one kernel; simplifies as it builds.
import { byteSize, type DType } from '../base/dtype.ts';
import { internalError } from '../base/errors.ts';
import {
  type BinaryOp,
  type Buffer,
  type CompareOp,
  type Expression,
  type UnaryOp,
  type ValueType,
  type Variable,
  valueTypeOf,
} from './expression.ts';
import { foldBinary, foldUnary } from './fold.ts';
import { boundsOf, linearForm, type LinearForm, registerBounds, wrappedSum } from './linear.ts';

const COMPARE: ReadonlySet<string> = new Set(['eq', 'ne', 'lt', 'le', 'gt', 'ge']);

type Draft<E> = E extends Expression ? Omit<E, 'id'> : never;

export class Builder {
  readonly #interned = new Map<string, Expression>();
  #nextId: number;

  /** `firstId` is above every id of a kernel that this builder goes on with (see `highestId`). */
  constructor(firstId = 0) {
    this.#nextId = firstId;
  }

  /** An expression equal to `draft`: the one made before, if there is one. */
  #intern(key: string, draft: Draft<Expression>): Expression {
    const known = this.#interned.get(key);
    if (known !== undefined) return known;
    const made: Expression = { id: this.#nextId++, ...draft };
    this.#interned.set(key, made);
    return made;
  }

  constant(number: number, type: ValueType = 'i32', lanes = 1): Expression {
    // What the register holds: otherwise folding would differ from computing.
    const value = type === 'f32' ? Math.fround(number) : number;
    const key = `c${type}${lanes}:${Object.is(value, -0) ? '-0' : value}`;
    const bound = type === 'i32' && lanes === 1;
    return this.#intern(key, {
      kind: 'constant',
      type,
      lanes,
      value,
      min: bound ? value : -Infinity,
      max: bound ? value : Infinity,
    });
  }

  /** A fresh variable. A loop index states its bounds, inclusive. */
  variable(
    name: string,
    type: ValueType = 'i32',
    options: { lanes?: number; mutable?: boolean; min?: number; max?: number } = {},
  ): Variable {
    const { lanes = 1, mutable = false, min = -Infinity, max = Infinity } = options;
    return { kind: 'variable', id: this.#nextId++, name, type, lanes, mutable, min, max };
  }

  buffer(
    name: string,
    dtype: DType,
    access: Buffer['access'],
    options: { space?: Buffer['space']; length?: number } = {},
  ): Buffer {
    const { space = 'argument', length } = options;
    return { id: this.#nextId++, name, dtype, space, access, length };
  }

  unary(op: UnaryOp, operand: Expression): Expression {
    const { type, lanes } = operand;
    if (operand.kind === 'constant') {
      const value = foldUnary(op, operand.value, type);
      if (value !== undefined) return this.constant(value, type, lanes);
    }
    if (operand.kind === 'unary' && operand.op === op && (op === 'neg' || op === 'not')) {
      return operand.operand;
    }
    return this.#intern(`u${op}:${operand.id}`, {
      kind: 'unary',
      op,
      operand,
      type,
      lanes,
      min: -Infinity,
      max: Infinity,
    });
  }

  binary(op: BinaryOp, left: Expression, right: Expression): Expression {
    if (left.type !== right.type || left.lanes !== right.lanes) {
      throw internalError(
        `${op} of ${left.type}x${left.lanes} and ${right.type}x${right.lanes} in the kernel IR`,
      );
    }
    if (left.kind === 'constant' && right.kind === 'constant') {
      const value = foldBinary(op, left.value, right.value, left.type);
      if (value !== undefined) {
        return this.constant(value, COMPARE.has(op) ? 'bool' : left.type, left.lanes);
      }
    }
    if (left.type === 'i32' && left.lanes === 1) {
      const simple = this.#simplifyIndex(op, left, right);
      if (simple !== undefined) return simple;
    } else {
      const simple = simplifyValue(op, left, right);
      if (simple !== undefined) return simple;
    }
    return this.#rawBinary(op, left, right);
  }

  #rawBinary(op: BinaryOp, left: Expression, right: Expression): Expression {
    const compare = COMPARE.has(op);
    const { min, max } =
      !compare && left.type === 'i32' && left.lanes === 1
        ? binaryBounds(op, left, right)
        : { min: -Infinity, max: Infinity };
    return this.#intern(`b${op}:${left.id},${right.id}`, {
      kind: 'binary',
      op,
      left,
      right,
      type: compare ? 'bool' : left.type,
      lanes: left.lanes,
      min,
      max,
    });
  }

  #simplifyIndex(op: BinaryOp, left: Expression, right: Expression): Expression | undefined {
    switch (op) {
      case 'add':
      case 'sub': {
        const sum = combine(linearForm(left), linearForm(right), op === 'add' ? 1 : -1);
        return this.fromLinear(this.#joinRemainders(sum));
      }
      case 'mul':
        if (left.kind === 'constant') return this.binary('mul', right, left);
        if (right.kind !== 'constant') return undefined;
        return this.fromLinear(combine(EMPTY, linearForm(left), right.value));
      case 'div':
      case 'rem':
        return right.kind === 'constant' && right.value > 0 && left.min >= 0
          ? this.#divide(op, left, right.value)
          : undefined;
      case 'min':
        if (left.max <= right.min) return left;
        return right.max <= left.min ? right : undefined;
      case 'max':
        if (left.min >= right.max) return left;
        return right.min >= left.max ? right : undefined;
      case 'eq':
      case 'ne':
      case 'lt':
      case 'le':
      case 'gt':
      case 'ge':
        return this.#compareBounds(op, left, right);
      default:
        return undefined;
    }
  }

  /**
   * What splitting an axis and merging it again leaves: `(x / d) * c * d + (x % d) * c` is `x * c`,
   * and `((x / d) % e) * c * d + (x % d) * c` is `(x % (d * e)) * c`.
   */
  #joinRemainders(form: LinearForm): LinearForm {
    for (const [atom, coefficient] of form.terms) {
      if (atom.kind !== 'binary' || atom.op !== 'rem' || atom.right.kind !== 'constant') continue;
      const divisor = atom.right.value;
      const quotient = this.binary('div', atom.left, atom.right);
      for (const [other, scale] of form.terms) {
        if (scale !== coefficient * divisor) continue;
        let whole: Expression;
        if (other === quotient) whole = atom.left;
        else if (
          other.kind === 'binary' &&
          other.op === 'rem' &&
          other.left === quotient &&
          other.right.kind === 'constant' &&
          atom.left.min >= 0
        ) {
          whole = this.binary('rem', atom.left, this.constant(divisor * other.right.value));
        } else continue;
        const rest = new Map(form.terms);
        rest.delete(atom);
        rest.delete(other);
        const partial = { terms: rest, constant: form.constant };
        return this.#joinRemainders(combine(partial, linearForm(whole), coefficient));
      }
    }
    return form;
  }

  #compareBounds(op: CompareOp, left: Expression, right: Expression): Expression | undefined {
    const truth = (value: boolean): Expression => this.constant(value ? 1 : 0, 'bool');
    if (left === right) return truth(op === 'eq' || op === 'le' || op === 'ge');
    // What is not bounded may wrap: then x + 1 is not always more than x.
    if (!isBounded(left) || !isBounded(right)) return undefined;
    const { min, max } = boundsOf(combine(linearForm(left), linearForm(right), -1));
    switch (op) {
      case 'lt':
        return max < 0 ? truth(true) : min >= 0 ? truth(false) : undefined;
      case 'ge':
        return min >= 0 ? truth(true) : max < 0 ? truth(false) : undefined;
      case 'le':
        return max <= 0 ? truth(true) : min > 0 ? truth(false) : undefined;
      case 'gt':
        return min > 0 ? truth(true) : max <= 0 ? truth(false) : undefined;
      case 'eq':
        return min > 0 || max < 0 ? truth(false) : undefined;
      case 'ne':
        return min > 0 || max < 0 ? truth(true) : undefined;
      default:
        op satisfies never;
        return undefined;
    }
  }

  /** `left / divisor` or `left % divisor` of a non-negative dividend. */
  #divide(op: 'div' | 'rem', left: Expression, divisor: number): Expression | undefined {
    if (divisor === 1) return op === 'div' ? left : this.constant(0);
    if (left.max < divisor) return op === 'div' ? this.constant(0) : left;
    // Split into multiples of the divisor and a rest; exact when the rest is within [0, divisor).
    const form = linearForm(left);
    const quotient = new Map<Expression, number>();
    const rest = new Map<Expression, number>();
    for (const [atom, coefficient] of form.terms) {
      if (coefficient % divisor === 0) quotient.set(atom, coefficient / divisor);
      else rest.set(atom, coefficient);
    }
    const whole = Math.floor(form.constant / divisor);
    const restForm: LinearForm = { terms: rest, constant: form.constant - whole * divisor };
    if (quotient.size > 0 || whole !== 0) {
      const { min } = boundsOf(restForm);
      const quotientForm = { terms: quotient, constant: whole };
      if (min >= 0 && boundsOf(quotientForm).min >= 0) {
        const remainder = this.fromLinear(restForm);
        const divided = this.binary('div', remainder, this.constant(divisor));
        if (op === 'rem') return this.binary('rem', remainder, this.constant(divisor));
        return this.binary('add', this.fromLinear(quotientForm), divided);
      }
    }
    if (left.kind === 'binary' && left.right.kind === 'constant' && left.left.min >= 0) {
      const inner = left.right.value;
      if (left.op === 'div' && op === 'div') {
        return this.binary('div', left.left, this.constant(inner * divisor));
      }
      if (left.op === 'rem' && op === 'rem' && inner % divisor === 0) {
        return this.binary('rem', left.left, this.constant(divisor));
      }
    }
    return undefined;
  }

  /** The canonical expression of a linear form: older atoms first, the constant last. */
  fromLinear(form: LinearForm): Expression {
    const atoms = [...form.terms].filter(([, coefficient]) => coefficient !== 0);
    atoms.sort(([a], [b]) => a.id - b.id);
    let sum: Expression | undefined;
    for (const [atom, coefficient] of atoms) {
      const term =
        coefficient === 1 ? atom : this.#rawBinary('mul', atom, this.constant(coefficient));
      sum = sum === undefined ? term : this.#rawBinary('add', sum, term);
    }
    if (sum === undefined) return this.constant(form.constant);
    return form.constant === 0 ? sum : this.#rawBinary('add', sum, this.constant(form.constant));
  }

  add(left: Expression, right: Expression): Expression {
    return this.binary('add', left, right);
  }
  sub(left: Expression, right: Expression): Expression {
    return this.binary('sub', left, right);
  }
  mul(left: Expression, right: Expression): Expression {
    return this.binary('mul', left, right);
  }
  div(left: Expression, right: Expression): Expression {
    return this.binary('div', left, right);
  }
  rem(left: Expression, right: Expression): Expression {
    return this.binary('rem', left, right);
  }
  min(left: Expression, right: Expression): Expression {
    return this.binary('min', left, right);
  }
  max(left: Expression, right: Expression): Expression {
    return this.binary('max', left, right);
  }
  and(left: Expression, right: Expression): Expression {
    return this.binary('and', left, right);
  }
  or(left: Expression, right: Expression): Expression {
    return this.binary('or', left, right);
  }
  compare(op: CompareOp, left: Expression, right: Expression): Expression {
    return this.binary(op, left, right);
  }

  /** `value + number` for index arithmetic. */
  offset(value: Expression, by: number): Expression {
    return this.add(value, this.constant(by));
  }
  /** `value * number` for index arithmetic. */
  scale(value: Expression, by: number): Expression {
    return this.mul(value, this.constant(by));
  }

  select(condition: Expression, whenTrue: Expression, whenFalse: Expression): Expression {
    if (condition.kind === 'constant') return condition.value === 0 ? whenFalse : whenTrue;
    if (whenTrue === whenFalse) return whenTrue;
    return this.#intern(`s:${condition.id},${whenTrue.id},${whenFalse.id}`, {
      kind: 'select',
      condition,
      whenTrue,
      whenFalse,
      type: whenTrue.type,
      lanes: whenTrue.lanes,
      min: Math.min(whenTrue.min, whenFalse.min),
      max: Math.max(whenTrue.max, whenFalse.max),
    });
  }

  fma(a: Expression, b: Expression, c: Expression): Expression {
    return this.#intern(`f:${a.id},${b.id},${c.id}`, {
      kind: 'fma',
      a,
      b,
      c,
      type: a.type,
      lanes: a.lanes,
      min: -Infinity,
      max: Infinity,
    });
  }

  convert(operand: Expression, type: ValueType): Expression {
    if (operand.type === type) return operand;
    if (operand.kind === 'constant') {
      const value = convertNumber(operand.value, type, operand.type);
      return this.constant(value, type, operand.lanes);
    }
    const bounded = type === 'i32' && operand.type === 'bool' && operand.lanes === 1;
    return this.#intern(`v${type}:${operand.id}`, {
      kind: 'convert',
      operand,
      type,
      lanes: operand.lanes,
      min: bounded ? 0 : -Infinity,
      max: bounded ? 1 : Infinity,
    });
  }

  bitcast(operand: Expression, type: ValueType): Expression {
    if (operand.type === type) return operand;
    if (operand.kind === 'bitcast' && operand.operand.type === type) return operand.operand;
    return this.#intern(`t${type}:${operand.id}`, {
      kind: 'bitcast',
      operand,
      type,
      lanes: operand.lanes,
      min: -Infinity,
      max: Infinity,
    });
  }

  load(buffer: Buffer, index: Expression, lanes = 1): Expression {
    return this.#intern(`l${buffer.id}:${index.id}x${lanes}`, {
      kind: 'load',
      buffer,
      index,
      type: valueTypeOf(buffer.dtype),
      lanes,
      ...loadBounds(buffer.dtype, lanes),
    });
  }

  splat(operand: Expression, lanes: number): Expression {
    if (lanes === 1 || operand.lanes === lanes) return operand;
    if (operand.kind === 'constant') return this.constant(operand.value, operand.type, lanes);
    return this.#intern(`p${lanes}:${operand.id}`, {
      kind: 'splat',
      operand,
      type: operand.type,
      lanes,
      min: -Infinity,
      max: Infinity,
    });
  }

  lanes(operands: readonly Expression[]): Expression {
    const first = operands[0];
    if (first === undefined) throw internalError('a vector of no lanes');
    if (operands.length === 1) return first;
    if (operands.every((operand) => operand === first)) return this.splat(first, operands.length);
    return this.#intern(`n:${operands.map((operand) => operand.id).join(',')}`, {
      kind: 'lanes',
      operands,
      type: first.type,
      lanes: operands.length,
      min: -Infinity,
      max: Infinity,
    });
  }

  extract(operand: Expression, lane: number): Expression {
    if (operand.lanes === 1) return operand;
    if (operand.kind === 'splat') return operand.operand;
    if (operand.kind === 'lanes') return operand.operands[lane] as Expression;
    if (operand.kind === 'constant') return this.constant(operand.value, operand.type);
    return this.#intern(`x${lane}:${operand.id}`, {
      kind: 'extract',
      operand,
      lane,
      type: operand.type,
      lanes: 1,
      min: -Infinity,
      max: Infinity,
    });
  }
}

function isBounded({ min, max }: Expression): boolean {
  return min > -Infinity && max < Infinity;
}

const EMPTY: LinearForm = { terms: new Map(), constant: 0 };

/** `a + scale * b`. */
function combine(a: LinearForm, b: LinearForm, scale: number): LinearForm {
  const terms = new Map(a.terms);
  for (const [atom, coefficient] of b.terms) {
    const sum = wrappedSum(terms.get(atom) ?? 0, scale, coefficient);
    if (sum === 0) terms.delete(atom);
    else terms.set(atom, sum);
  }
  return { terms, constant: wrappedSum(a.constant, scale, b.constant) };
}

function binaryBounds(
  op: BinaryOp,
  left: Expression,
  right: Expression,
): {
  min: number;
  max: number;
} {
  switch (op) {
    case 'add':
      return registerBounds(left.min + right.min, left.max + right.max);
    case 'sub':
      return registerBounds(left.min - right.max, left.max - right.min);
    case 'mul': {
      const corners = [
        product(left.min, right.min),
        product(left.min, right.max),
        product(left.max, right.min),
        product(left.max, right.max),
      ];
      return registerBounds(Math.min(...corners), Math.max(...corners));
    }
    case 'div':
      return right.kind === 'constant' && right.value > 0 && left.min >= 0
        ? { min: Math.floor(left.min / right.value), max: Math.floor(left.max / right.value) }
        : { min: -Infinity, max: Infinity };
    case 'rem':
      return right.kind === 'constant' && right.value > 0 && left.min >= 0
        ? { min: 0, max: Math.min(left.max, right.value - 1) }
        : { min: -Infinity, max: Infinity };
    case 'min':
      return { min: Math.min(left.min, right.min), max: Math.min(left.max, right.max) };
    case 'max':
      return { min: Math.max(left.min, right.min), max: Math.max(left.max, right.max) };
    default:
      return { min: -Infinity, max: Infinity };
  }
}

function product(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : a * b;
}

/** Identities that keep every bit, NaN and signed zeros included. */
function simplifyValue(op: BinaryOp, left: Expression, right: Expression): Expression | undefined {
  if (right.kind === 'constant') {
    if ((op === 'mul' || op === 'div') && right.value === 1) return left;
    if (op === 'sub' && Object.is(right.value, 0)) return left;
    if (left.type === 'bool') {
      if (op === 'and') return right.value === 0 ? right : left;
      if (op === 'or') return right.value === 0 ? left : right;
    }
    if (op === 'shr' || op === 'shl') return right.value === 0 ? left : undefined;
  }
  if (left.kind === 'constant') {
    if (op === 'mul' && left.value === 1) return right;
    if (left.type === 'bool') {
      if (op === 'and') return left.value === 0 ? left : right;
      if (op === 'or') return left.value === 0 ? right : left;
    }
  }
  if (left === right && left.type === 'bool' && (op === 'and' || op === 'or')) return left;
  return undefined;
}

/**
 * The number `value` becomes in another register type. Between integers the bits stay and the sign
 * is read anew (-1 becomes 4294967295); floats saturate.
 */
export function convertNumber(value: number, target: ValueType, source: ValueType = 'f64'): number {
  if (source === 'i32' && target === 'u32') return value >>> 0;
  if (source === 'u32' && target === 'i32') return value | 0;
  switch (target) {
    case 'f32':
      return Math.fround(value);
    case 'f64':
      return value;
    case 'bool':
      return value === 0 ? 0 : 1;
    case 'i32':
      return Number.isNaN(value)
        ? 0
        : Math.trunc(Math.min(Math.max(value, -2147483648), 2147483647));
    case 'u32':
      return Number.isNaN(value) ? 0 : Math.trunc(Math.min(Math.max(value, 0), 4294967295));
    default:
      target satisfies never;
      throw internalError('unknown value type');
  }
}

function loadBounds(dtype: DType, lanes: number): { min: number; max: number } {
  if (lanes === 1 && byteSize(dtype) < 4) {
    if (dtype === 'uint8') return { min: 0, max: 255 };
    if (dtype === 'int8') return { min: -128, max: 127 };
    if (dtype === 'int16') return { min: -32768, max: 32767 };
  }
  return { min: -Infinity, max: Infinity };
}
