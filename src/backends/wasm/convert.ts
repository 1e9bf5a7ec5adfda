// Conversions between register types, scalar and vector.
import { internalError } from '../../base/errors.ts';
import type { Convert, ValueType } from '../../ir/expression.ts';
import { type Context, narrowMask } from './context.ts';
import type { FunctionBuilder } from './encoder.ts';
import type { PlainOp } from './opcodes.ts';

type Conversion = PlainOp | 'none';
type Numeric = Exclude<ValueType, 'bool'>;

const SCALAR: Readonly<Record<Numeric, Readonly<Record<Numeric, Conversion>>>> = {
  f32: {
    f32: 'none',
    f64: 'f64.promote_f32',
    i32: 'i32.trunc_sat_f32_s',
    u32: 'i32.trunc_sat_f32_u',
  },
  f64: {
    f32: 'f32.demote_f64',
    f64: 'none',
    i32: 'i32.trunc_sat_f64_s',
    u32: 'i32.trunc_sat_f64_u',
  },
  i32: { f32: 'f32.convert_i32_s', f64: 'f64.convert_i32_s', i32: 'none', u32: 'none' },
  u32: { f32: 'f32.convert_i32_u', f64: 'f64.convert_i32_u', i32: 'none', u32: 'none' },
};

const VECTOR: Readonly<Record<Numeric, Readonly<Record<Numeric, Conversion>>>> = {
  f32: {
    f32: 'none',
    f64: 'f64x2.promote_low_f32x4',
    i32: 'i32x4.trunc_sat_f32x4_s',
    u32: 'i32x4.trunc_sat_f32x4_u',
  },
  f64: {
    f32: 'f32x4.demote_f64x2_zero',
    f64: 'none',
    i32: 'i32x4.trunc_sat_f64x2_s_zero',
    u32: 'i32x4.trunc_sat_f64x2_u_zero',
  },
  i32: {
    f32: 'f32x4.convert_i32x4_s',
    f64: 'f64x2.convert_low_i32x4_s',
    i32: 'none',
    u32: 'none',
  },
  u32: {
    f32: 'f32x4.convert_i32x4_u',
    f64: 'f64x2.convert_low_i32x4_u',
    i32: 'none',
    u32: 'none',
  },
};

/** Pushes the converted operand. */
export function emitConvert(context: Context, { operand, type, lanes }: Convert): void {
  const { f } = context;
  const from = operand.type;
  context.emit(operand);
  if (from === type) return;
  if (type === 'bool') {
    toBool(f, from, lanes);
  } else if (from === 'bool') {
    fromBool(f, type, lanes);
  } else {
    const op = (lanes === 1 ? SCALAR : VECTOR)[from][type];
    if (op !== 'none') f.op(op);
  }
}

function toBool(f: FunctionBuilder, from: ValueType, lanes: number): void {
  switch (from) {
    case 'f32':
      if (lanes === 1) f.f32(0).op('f32.ne');
      else f.f32x4(0).op('f32x4.ne');
      break;
    case 'f64':
      if (lanes === 1) f.f64(0).op('f64.ne');
      else f.f64x2(0).op('f64x2.ne');
      return;
    case 'i32':
    case 'u32':
      if (lanes === 1) f.i32(0).op('i32.ne');
      else f.i32x4(0).op('i32x4.ne');
      break;
    case 'bool':
      return;
    default:
      from satisfies never;
      throw internalError('unknown value type');
  }
  if (lanes === 2) f.op('i64x2.extend_low_i32x4_s');
}

function fromBool(f: FunctionBuilder, type: Numeric, lanes: number): void {
  if (lanes === 1) {
    if (type === 'f32') f.op('f32.convert_i32_u');
    else if (type === 'f64') f.op('f64.convert_i32_u');
    return;
  }
  // A mask has all bits of a true lane set: what is left of the pattern of 1 is the number.
  if (type === 'f64') {
    f.f64x2(1).op('v128.and');
    return;
  }
  if (lanes === 2) narrowMask(f);
  if (type === 'f32') f.f32x4(1);
  else f.i32x4(1);
  f.op('v128.and');
}
