// Renders expressions: constants, arithmetic, comparisons, selection and the shuffling of lanes.
import { CompileError, internalError } from '../../base/errors.ts';
import {
  isFloatType,
  type Binary,
  type BinaryOp,
  type Bitcast,
  type CompareOp,
  type Constant,
  type Expression,
  type Extract,
  type FusedMultiplyAdd,
  type Lanes,
  type Load,
  type Select,
  type Splat,
  type Unary,
} from '../../ir/expression.ts';
import {
  checkLanes,
  type Context,
  floatShape,
  integerShape,
  narrowMask,
  withLocals,
} from './context.ts';
import { emitConvert } from './convert.ts';
import { emitLaneLoads, emitLoad, emitSplatLoad, hasLaneLoad } from './memory.ts';

/** Pushes the value of an expression. */
export function emitExpression(context: Context, expression: Expression): void {
  checkLanes(expression);
  switch (expression.kind) {
    case 'constant':
      emitConstant(context, expression);
      break;
    case 'variable':
      context.f.get(context.localOf(expression));
      break;
    case 'unary':
      emitUnary(context, expression);
      break;
    case 'binary':
      emitBinary(context, expression);
      break;
    case 'select':
      emitSelect(context, expression);
      break;
    case 'fma':
      emitFma(context, expression);
      break;
    case 'convert':
      emitConvert(context, expression);
      break;
    case 'bitcast':
      emitBitcast(context, expression);
      break;
    case 'load':
      emitLoad(context, expression);
      break;
    case 'splat':
      emitSplat(context, expression);
      break;
    case 'lanes':
      emitLanes(context, expression);
      break;
    case 'extract':
      emitExtract(context, expression);
      break;
    default:
      expression satisfies never;
  }
}

function emitConstant({ f }: Context, { value, type: register, lanes }: Constant): void {
  const vector = lanes > 1;
  switch (register) {
    case 'f32':
      if (vector) f.f32x4(value);
      else f.f32(value);
      break;
    case 'f64':
      if (vector) f.f64x2(value);
      else f.f64(value);
      break;
    case 'i32':
    case 'u32':
      if (vector) f.i32x4(value);
      else f.i32(value);
      break;
    case 'bool':
      if (vector) f.i32x4(value === 0 ? 0 : -1);
      else f.i32(value === 0 ? 0 : 1);
      break;
    default:
      register satisfies never;
  }
}

const FLOAT_UNARY = {
  neg: 'neg',
  abs: 'abs',
  sqrt: 'sqrt',
  floor: 'floor',
  ceil: 'ceil',
  trunc: 'trunc',
  round: 'nearest',
} as const;

type ExactFloatUnary = keyof typeof FLOAT_UNARY;

function isExactFloatUnary(op: string): op is ExactFloatUnary {
  return op in FLOAT_UNARY;
}

function emitUnary(context: Context, expression: Unary): void {
  const { f } = context;
  const { op, operand, type, lanes } = expression;
  if (isFloatType(type)) {
    if (!isExactFloatUnary(op)) throw notDecomposed(op, type);
    context.emit(operand);
    f.op(`${floatShape(expression)}.${FLOAT_UNARY[op]}` as const);
    return;
  }
  switch (op) {
    case 'not':
      context.emit(operand);
      if (lanes > 1) f.op('v128.not');
      else if (type === 'bool') f.op('i32.eqz');
      else f.i32(-1).op('i32.xor');
      break;
    case 'neg':
      if (lanes > 1) {
        context.emit(operand);
        f.op('i32x4.neg');
      } else {
        f.i32(0);
        context.emit(operand);
        f.op('i32.sub');
      }
      break;
    case 'abs':
      context.emit(operand);
      if (type === 'i32') absolute(context, lanes);
      break;
    case 'floor':
    case 'ceil':
    case 'trunc':
    case 'round':
      // Integers are whole already.
      context.emit(operand);
      break;
    default:
      throw notDecomposed(op, type);
  }
}

function absolute({ f }: Context, lanes: number): void {
  if (lanes > 1) {
    f.op('i32x4.abs');
    return;
  }
  withLocals(f, ['i32'], (value = 0) => {
    f.set(value).i32(0).get(value).op('i32.sub').get(value);
    f.get(value).i32(0).op('i32.lt_s').op('select');
  });
}

function notDecomposed(op: string, type: string): Error {
  return internalError(`${op} of ${type} reached the WebAssembly renderer undecomposed`);
}

const FLOAT_BINARY = {
  add: 'add',
  sub: 'sub',
  mul: 'mul',
  div: 'div',
  min: 'min',
  max: 'max',
} as const;
const FLOAT_COMPARE = { eq: 'eq', ne: 'ne', lt: 'lt', le: 'le', gt: 'gt', ge: 'ge' } as const;

function isFloatBinary(op: string): op is keyof typeof FLOAT_BINARY {
  return op in FLOAT_BINARY;
}

function isCompare(op: string): op is CompareOp {
  return op in FLOAT_COMPARE;
}

function emitBinary(context: Context, expression: Binary): void {
  const { left } = expression;
  if (isCompare(expression.op)) emitCompare(context, expression, expression.op);
  else if (isFloatType(left.type)) emitFloatBinary(context, expression);
  else if (left.type === 'bool') emitBoolBinary(context, expression);
  else emitIntegerBinary(context, expression);
}

function emitOperands(context: Context, { left, right }: Binary): void {
  context.emit(left);
  context.emit(right);
}

function emitCompare(context: Context, expression: Binary, op: CompareOp): void {
  const { f } = context;
  const { left } = expression;
  const { type, lanes } = left;
  emitOperands(context, expression);
  if (isFloatType(type)) {
    f.op(`${floatShape(left)}.${FLOAT_COMPARE[op]}` as const);
    if (type === 'f32' && lanes === 2) f.op('i64x2.extend_low_i32x4_s');
    return;
  }
  const shape = integerShape(left);
  if (op === 'eq' || op === 'ne') f.op(`${shape}.${op}` as const);
  // A true mask is all ones, so bools compare as unsigned numbers too.
  else f.op(`${shape}.${op}_${type === 'i32' ? 's' : 'u'}` as const);
  if (lanes === 2 && type !== 'bool') f.op('i64x2.extend_low_i32x4_s');
}

function emitFloatBinary(context: Context, expression: Binary): void {
  const { f } = context;
  const { op, left, right, lanes, type } = expression;
  if (!isFloatBinary(op)) throw notDecomposed(op, left.type);
  if ((op === 'min' || op === 'max') && lanes > 1) {
    if (right.kind === 'constant' && emitBound(context, op, left, right)) return;
    if (left.kind === 'constant' && emitBound(context, op, right, left)) return;
  }
  emitOperands(context, expression);
  f.op(`${floatShape({ type, lanes })}.${FLOAT_BINARY[op]}` as const);
}

/**
 * min or max of a vector with a constant as one instruction, pmin or pmax (`x < c ? c : x`), which
 * keeps a NaN in x; f32x4.max takes eight. Only where the sign of a zero cannot differ.
 */
function emitBound(
  context: Context,
  op: 'min' | 'max',
  left: Expression,
  right: Constant,
): boolean {
  const { f } = context;
  const { value } = right;
  const shape = left.type === 'f64' ? 'f64x2' : 'f32x4';
  if (Number.isNaN(value) || (op === 'min' && Object.is(value, -0))) return false;
  context.emit(left);
  context.emit(right);
  f.op(`${shape}.p${op}` as const);
  // max(-0, 0) is 0, and -0 + 0 is 0 as well.
  if (op === 'max' && Object.is(value, 0)) {
    context.emit(right);
    f.op(`${shape}.add` as const);
  }
  return true;
}

/** Computes each lane of a binary operation as a scalar, which `lane` pushes. */
function emitLaneByLane(
  context: Context,
  expression: Binary,
  computeLane: (left: number, right: number, lane: number) => void,
): void {
  const { f } = context;
  const { type, lanes } = expression;
  const shape = type === 'f64' ? 'f64x2' : type === 'f32' ? 'f32x4' : 'i32x4';
  emitOperands(context, expression);
  withLocals(f, ['v128', 'v128'], (left = 0, right = 0) => {
    f.set(right).set(left);
    computeLane(left, right, 0);
    f.op(`${shape}.splat` as const);
    for (let lane = 1; lane < lanes; lane++) {
      computeLane(left, right, lane);
      f.lane(`${shape}.replace_lane`, lane);
    }
  });
}

function emitBoolBinary(context: Context, expression: Binary): void {
  const { op, lanes } = expression;
  const logic: Partial<Record<BinaryOp, 'and' | 'or' | 'xor'>> = {
    and: 'and',
    mul: 'and',
    min: 'and',
    or: 'or',
    max: 'or',
    xor: 'xor',
  };
  const wanted = logic[op];
  if (wanted === undefined) throw notDecomposed(op, 'bool');
  emitOperands(context, expression);
  context.f.op(`${lanes === 1 ? 'i32' : 'v128'}.${wanted}` as const);
}

function emitIntegerBinary(context: Context, expression: Binary): void {
  const { f } = context;
  const { op, lanes, type } = expression;
  switch (op) {
    case 'add':
    case 'sub':
    case 'mul':
      emitOperands(context, expression);
      f.op(`${integerShape(expression)}.${op}` as const);
      break;
    case 'and':
    case 'or':
    case 'xor':
      emitOperands(context, expression);
      f.op(`${lanes === 1 ? 'i32' : 'v128'}.${op}` as const);
      break;
    case 'min':
    case 'max':
      emitIntegerBound(context, expression, op);
      break;
    case 'shl':
    case 'shr':
      emitShift(context, expression, op);
      break;
    case 'mulHigh':
      emitMulHigh(context, expression);
      break;
    case 'div':
    case 'rem':
      if (lanes === 1) emitDivision(context, expression, op);
      else emitVectorDivision(context, expression, op);
      break;
    default:
      throw notDecomposed(op, type);
  }
}

function emitIntegerBound(context: Context, expression: Binary, op: 'min' | 'max'): void {
  const { f } = context;
  const sign = expression.type === 'i32' ? 's' : 'u';
  emitOperands(context, expression);
  if (expression.lanes > 1) {
    f.op(`i32x4.${op}_${sign}` as const);
    return;
  }
  withLocals(f, ['i32', 'i32'], (left = 0, right = 0) => {
    f.set(right).tee(left).get(right).get(left).get(right);
    f.op(`i32.${op === 'min' ? 'lt' : 'gt'}_${sign}` as const).op('select');
  });
}

function emitShift(context: Context, expression: Binary, op: 'shl' | 'shr'): void {
  const { f } = context;
  const { left, right, lanes, type } = expression;
  const name = op === 'shl' ? 'shl' : type === 'i32' ? 'shr_s' : 'shr_u';
  if (lanes === 1) {
    emitOperands(context, expression);
    f.op(`i32.${name}` as const);
    return;
  }
  // SIMD shifts take one count for all lanes.
  if (right.kind === 'constant' || right.kind === 'splat') {
    context.emit(left);
    if (right.kind === 'constant') f.i32(right.value);
    else context.emit(right.operand);
    f.op(`i32x4.${name}` as const);
    return;
  }
  emitLaneByLane(context, expression, (value, count, lane) => {
    f.get(value).lane('i32x4.extract_lane', lane).get(count).lane('i32x4.extract_lane', lane);
    f.op(`i32.${name}` as const);
  });
}

/** Bytes that gather the high words of two vectors of 64-bit products. */
const HIGH_WORDS = [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31];

function emitMulHigh(context: Context, expression: Binary): void {
  const { f } = context;
  if (expression.type !== 'u32') {
    throw new CompileError(`mulHigh is defined for uint32, not for ${expression.type}`);
  }
  if (expression.lanes === 1) {
    context.emit(expression.left);
    f.op('i64.extend_i32_u');
    context.emit(expression.right);
    f.op('i64.extend_i32_u').op('i64.mul').i64(32n).op('i64.shr_u').op('i32.wrap_i64');
    return;
  }
  emitOperands(context, expression);
  withLocals(f, ['v128', 'v128'], (left = 0, right = 0) => {
    f.set(right).set(left);
    f.get(left).get(right).op('i64x2.extmul_low_i32x4_u');
    f.get(left).get(right).op('i64x2.extmul_high_i32x4_u');
    f.shuffle(HIGH_WORDS);
  });
}

function divisionHelper(op: 'div' | 'rem', signed: boolean) {
  if (op === 'div') return signed ? 'divideSigned' : 'divideUnsigned';
  return signed ? 'remainderSigned' : 'remainderUnsigned';
}

/** Scalar division; a divisor that may be zero (or -1) goes through a function that cannot trap. */
function emitDivision(context: Context, expression: Binary, op: 'div' | 'rem'): void {
  const { f, helpers } = context;
  const { left, right, type } = expression;
  const signed = type === 'i32' && !(left.min >= 0 && right.min >= 0);
  if (right.kind === 'constant' && right.value !== 0 && (!signed || right.value !== -1)) {
    const { value } = right;
    context.emit(left);
    const powerOfTwo = value > 0 && value <= 2 ** 30 && (value & (value - 1)) === 0;
    if (!signed && powerOfTwo) {
      if (op === 'div') f.i32(31 - Math.clz32(value)).op('i32.shr_u');
      else f.i32(value - 1).op('i32.and');
    } else {
      f.i32(value).op(`i32.${op}_${signed ? 's' : 'u'}` as const);
    }
    return;
  }
  emitOperands(context, expression);
  f.call(helpers.index(divisionHelper(op, signed)));
}

function emitVectorDivision(context: Context, expression: Binary, op: 'div' | 'rem'): void {
  const { f, helpers } = context;
  const { right, type } = expression;
  const plain = right.kind === 'constant' && right.value !== 0 && right.value !== -1;
  const sign = type === 'i32' ? 's' : 'u';
  emitLaneByLane(context, expression, (dividend, divisor, lane) => {
    f.get(dividend).lane('i32x4.extract_lane', lane);
    if (plain) {
      f.i32(right.value).op(`i32.${op}_${sign}` as const);
    } else {
      f.get(divisor).lane('i32x4.extract_lane', lane);
      f.call(helpers.index(divisionHelper(op, type === 'i32')));
    }
  });
}

/**
 * `a < b ? a : b` of vectors, and so on, as one instruction, which does exactly this: pmin(x, y) is
 * `y < x ? y : x`, and pmax `x < y ? y : x`.
 */
function emitBetter(context: Context, { condition, whenTrue, whenFalse }: Select): boolean {
  const { lanes, type } = whenTrue;
  if ((type !== 'f32' || lanes !== 4) && (type !== 'f64' || lanes !== 2)) return false;
  if (condition.kind !== 'binary' || (condition.op !== 'lt' && condition.op !== 'gt')) return false;
  const { left, right, op } = condition;
  const same = left === whenTrue && right === whenFalse;
  if (!same && (left !== whenFalse || right !== whenTrue)) return false;
  context.emit(whenFalse);
  context.emit(whenTrue);
  context.f.op(`${type === 'f64' ? 'f64x2' : 'f32x4'}.${(op === 'lt') === same ? 'pmin' : 'pmax'}`);
  return true;
}

function emitSelect(context: Context, expression: Select): void {
  const { f } = context;
  if (emitBetter(context, expression)) return;
  const { condition, whenTrue, whenFalse, lanes, type } = expression;
  context.emit(whenTrue);
  context.emit(whenFalse);
  context.emit(condition);
  if (condition.lanes === 1) {
    f.op('select');
    return;
  }
  if (lanes === 2 && (type === 'f32' || type === 'i32' || type === 'u32')) narrowMask(f);
  // Masks are all ones or all zeros, where both instructions agree; on x86 the relaxed one is
  // a single instruction.
  f.op(context.relaxed ? 'i32x4.relaxed_laneselect' : 'v128.bitselect');
}

function emitFma(context: Context, { a, b, c, type, lanes }: FusedMultiplyAdd): void {
  const { f } = context;
  if (!context.relaxed) throw internalError('fma for a target without it');
  const shape = type === 'f64' ? 'f64x2' : 'f32x4';
  for (const operand of [a, b, c]) {
    context.emit(operand);
    // There is no scalar instruction: lane 0 of the vector one gives the same rounding.
    if (lanes === 1) f.op(`${shape}.splat` as const);
  }
  f.op(`${shape}.relaxed_madd` as const);
  if (lanes === 1) f.lane(`${shape}.extract_lane`, 0);
}

function emitBitcast(context: Context, { operand, type, lanes }: Bitcast): void {
  const { f } = context;
  context.emit(operand);
  const from = operand.type;
  if (lanes > 1 || from === type) return;
  if (from === 'f32') f.op('i32.reinterpret_f32');
  else if (type === 'f32') f.op('f32.reinterpret_i32');
}

function emitSplat(context: Context, { operand, type }: Splat): void {
  const { f } = context;
  if (operand.kind === 'load' && emitSplatLoad(context, operand)) return;
  context.emit(operand);
  if (type === 'f32') f.op('f32x4.splat');
  else if (type === 'f64') f.op('f64x2.splat');
  else f.op('i32x4.splat');
  // A true lane of a mask is all ones, whatever its width.
  if (type === 'bool') f.op('i32x4.neg');
}

function emitLanes(context: Context, { operands, type, lanes }: Lanes): void {
  const { f } = context;
  if (type === 'bool') {
    emitMaskLanes(context, operands, lanes);
    return;
  }
  if (lanes === 4 && emitLaneChoice(context, operands)) return;
  const loads = operands.filter((operand): operand is Load => operand.kind === 'load');
  if (loads.length === lanes && loads.every((load) => hasLaneLoad(load.buffer.dtype))) {
    emitLaneLoads(context, loads);
    return;
  }
  if (type === 'i32' && operands.every((operand) => operand.kind === 'constant')) {
    f.i32x4(...operands.map((operand) => (operand.kind === 'constant' ? operand.value : 0)));
    return;
  }
  const shape = type === 'f64' ? 'f64x2' : type === 'f32' ? 'f32x4' : 'i32x4';
  operands.forEach((operand, lane) => {
    context.emit(operand);
    if (lane === 0) f.op(`${shape}.splat` as const);
    else f.lane(`${shape}.replace_lane`, lane);
  });
}

/** Lanes taken from one or two vectors of 32-bit lanes are one shuffle. */
function emitLaneChoice(context: Context, operands: readonly Expression[]): boolean {
  const sources: Expression[] = [];
  const bytes: number[] = [];
  for (const operand of operands) {
    if (operand.kind !== 'extract' || operand.operand.lanes !== 4) return false;
    if (!sources.includes(operand.operand)) sources.push(operand.operand);
    const first = 16 * sources.indexOf(operand.operand) + 4 * operand.lane;
    bytes.push(first, first + 1, first + 2, first + 3);
  }
  const [low, high = low] = sources;
  if (low === undefined || high === undefined || sources.length > 2) return false;
  context.emit(low);
  context.emit(high);
  context.f.shuffle(bytes);
  return true;
}

/** A mask from bool scalars: 0 or 1 in each lane, compared with zero. */
function emitMaskLanes(context: Context, operands: readonly Expression[], lanes: number): void {
  const { f } = context;
  operands.forEach((operand, lane) => {
    context.emit(operand);
    if (lane === 0) f.op('i32x4.splat');
    else f.lane('i32x4.replace_lane', lane);
  });
  f.i32x4(0).op('i32x4.ne');
  if (lanes === 2) f.op('i64x2.extend_low_i32x4_s');
}

function emitExtract(context: Context, { operand, lane, type }: Extract): void {
  const { f } = context;
  context.emit(operand);
  if (type === 'f32') f.lane('f32x4.extract_lane', lane);
  else if (type === 'f64') f.lane('f64x2.extract_lane', lane);
  else if (type !== 'bool') f.lane('i32x4.extract_lane', lane);
  else
    f.lane('i32x4.extract_lane', operand.lanes === 2 ? lane * 2 : lane)
      .i32(1)
      .op('i32.and');
}
