// Loads and stores: storage types widen to register types and back, halves included.
import type { DType } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { Expression, Load } from '../../ir/expression.ts';
import type { Store } from '../../ir/kernel.ts';
import { checkLanes, type Context, withLocals } from './context.ts';
import type { FunctionBuilder } from './encoder.ts';

/** Pushes the loaded value. */
export function emitLoad(context: Context, load: Load): void {
  checkLanes(load);
  if (load.lanes === 1) loadScalar(context, load);
  else loadVector(context, load);
}

function loadScalar(context: Context, { buffer, index }: Load): void {
  const { f } = context;
  const offset = context.address(buffer, index);
  switch (buffer.dtype) {
    case 'float32':
      f.memory('f32.load', offset);
      break;
    case 'float64':
      f.memory('f64.load', offset);
      break;
    case 'int32':
    case 'uint32':
      f.memory('i32.load', offset);
      break;
    case 'int16':
      f.memory('i32.load16_s', offset);
      break;
    case 'int8':
      f.memory('i32.load8_s', offset);
      break;
    case 'uint8':
      f.memory('i32.load8_u', offset);
      break;
    case 'bool':
      f.memory('i32.load8_u', offset).i32(0).op('i32.ne');
      break;
    case 'bfloat16':
      f.memory('i32.load16_u', offset).i32(16).op('i32.shl').op('f32.reinterpret_i32');
      break;
    case 'float16':
      f.memory('i32.load16_u', offset).op('i32x4.splat');
      halfToFloat(f);
      f.lane('f32x4.extract_lane', 0);
      break;
    default:
      buffer.dtype satisfies never;
  }
}

function loadVector(context: Context, { buffer, index, lanes }: Load): void {
  const { f } = context;
  const { dtype } = buffer;
  switch (dtype) {
    case 'float32':
    case 'int32':
    case 'uint32':
      f.memory(lanes === 4 ? 'v128.load' : 'v128.load64_zero', context.address(buffer, index));
      break;
    case 'float64':
      f.memory('v128.load', context.address(buffer, index));
      break;
    case 'int16':
      loadWords(context, buffer, index, lanes, true);
      break;
    case 'bfloat16':
      loadWords(context, buffer, index, lanes, false);
      f.i32(16).op('i32x4.shl');
      break;
    case 'float16':
      loadWords(context, buffer, index, lanes, false);
      halfToFloat(f);
      break;
    case 'int8':
      loadBytes(context, buffer, index, lanes);
      f.op('i16x8.extend_low_i8x16_s').op('i32x4.extend_low_i16x8_s');
      break;
    case 'uint8':
    case 'bool':
      loadBytes(context, buffer, index, lanes);
      f.op('i16x8.extend_low_i8x16_u').op('i32x4.extend_low_i16x8_u');
      if (dtype === 'bool') {
        f.i32x4(0).op('i32x4.ne');
        if (lanes === 2) f.op('i64x2.extend_low_i32x4_s');
      }
      break;
    default:
      dtype satisfies never;
  }
}

/** 2 or 4 elements of 16 bits, extended to 32. */
function loadWords(
  context: Context,
  buffer: Load['buffer'],
  index: Expression,
  lanes: number,
  signed: boolean,
): void {
  const offset = context.address(buffer, index);
  if (lanes === 4) {
    context.f.memory(signed ? 'v128.load16x4_s' : 'v128.load16x4_u', offset);
  } else {
    context.f.memory('v128.load32_zero', offset);
    context.f.op(signed ? 'i32x4.extend_low_i16x8_s' : 'i32x4.extend_low_i16x8_u');
  }
}

/** 2 or 4 bytes at the start of a vector. */
function loadBytes(
  context: Context,
  buffer: Load['buffer'],
  index: Expression,
  lanes: number,
): void {
  const { f } = context;
  const offset = context.address(buffer, index);
  if (lanes === 4) f.memory('v128.load32_zero', offset);
  else f.i32x4(0).memoryLane('v128.load16_lane', offset, 0);
}

/** A scalar load into every lane at once, where there is an instruction for it. */
export function emitSplatLoad(context: Context, load: Load): boolean {
  switch (load.buffer.dtype) {
    case 'float32':
    case 'int32':
    case 'uint32':
      context.f.memory('v128.load32_splat', context.address(load.buffer, load.index));
      return true;
    case 'float64':
      context.f.memory('v128.load64_splat', context.address(load.buffer, load.index));
      return true;
    default:
      return false;
  }
}

/** Four or two scalar loads of 32-bit elements, each into its lane. */
export function emitLaneLoads(context: Context, loads: readonly Load[]): void {
  const { f } = context;
  const [first, ...others] = loads;
  if (first === undefined) throw internalError('a vector of no lanes');
  withLocals(f, ['v128'], (vector = 0) => {
    f.memory('v128.load32_zero', context.address(first.buffer, first.index)).set(vector);
    others.forEach((load, i) => {
      const offset = context.address(load.buffer, load.index);
      f.get(vector).memoryLane('v128.load32_lane', offset, i + 1);
      f.set(vector);
    });
    f.get(vector);
  });
}

/** Whether `emitLaneLoads` can read elements of this type. */
export function hasLaneLoad(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'int32' || dtype === 'uint32';
}

/** Writes a value; narrow integers wrap, halves round to nearest even. */
export function emitStore(context: Context, { buffer, index, value }: Store): void {
  checkLanes(value);
  const offset = context.address(buffer, index);
  context.emit(value);
  if (value.lanes === 1) storeScalar(context.f, buffer.dtype, offset);
  else storeVector(context.f, buffer.dtype, offset, value.lanes);
}

function storeScalar(f: FunctionBuilder, dtype: DType, offset: number): void {
  switch (dtype) {
    case 'float32':
      f.memory('f32.store', offset);
      break;
    case 'float64':
      f.memory('f64.store', offset);
      break;
    case 'int32':
    case 'uint32':
      f.memory('i32.store', offset);
      break;
    case 'int16':
      f.memory('i32.store16', offset);
      break;
    case 'int8':
    case 'uint8':
    case 'bool':
      f.memory('i32.store8', offset);
      break;
    case 'bfloat16':
    case 'float16':
      f.op('f32x4.splat');
      if (dtype === 'float16') floatToHalf(f);
      else floatToBfloat(f);
      f.lane('i32x4.extract_lane', 0).memory('i32.store16', offset);
      break;
    default:
      dtype satisfies never;
  }
}

/** Bytes that gather the low byte, or the low two, of each 32-bit lane. */
const LOW_BYTE = [0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12];
const LOW_HALF = [0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13];
const LOW_BYTE_OF_64 = [0, 8, 0, 8, 0, 8, 0, 8, 0, 8, 0, 8, 0, 8, 0, 8];

function storeVector(f: FunctionBuilder, dtype: DType, offset: number, lanes: number): void {
  switch (dtype) {
    case 'float32':
    case 'int32':
    case 'uint32':
      storeBytes(f, offset, lanes * 4);
      break;
    case 'float64':
      storeBytes(f, offset, lanes * 8);
      break;
    case 'bfloat16':
    case 'float16':
      if (dtype === 'float16') floatToHalf(f);
      else floatToBfloat(f);
      pick(f, LOW_HALF);
      storeBytes(f, offset, lanes * 2);
      break;
    case 'int16':
      pick(f, LOW_HALF);
      storeBytes(f, offset, lanes * 2);
      break;
    case 'int8':
    case 'uint8':
      pick(f, LOW_BYTE);
      storeBytes(f, offset, lanes);
      break;
    case 'bool':
      pick(f, lanes === 4 ? LOW_BYTE : LOW_BYTE_OF_64);
      f.i32x4(0x01010101).op('v128.and');
      storeBytes(f, offset, lanes);
      break;
    default:
      dtype satisfies never;
  }
}

function pick(f: FunctionBuilder, bytes: readonly number[]): void {
  withLocals(f, ['v128'], (vector = 0) => {
    f.tee(vector).get(vector).shuffle(bytes);
  });
}

/** Stores the first `count` bytes of the vector on the stack. */
function storeBytes(f: FunctionBuilder, offset: number, count: number): void {
  if (count === 16) f.memory('v128.store', offset);
  else if (count === 8) f.memoryLane('v128.store64_lane', offset, 0);
  else if (count === 4) f.memoryLane('v128.store32_lane', offset, 0);
  else f.lane('i32x4.extract_lane', 0).memory('i32.store16', offset);
}

/**
 * Four binary16 numbers in the low halves of 32-bit lanes become float32. Shifted into place, the
 * bits are the number times 2^-112 (subnormals included), so one exact multiplication is left;
 * infinities and NaN get their exponent by hand.
 */
function halfToFloat(f: FunctionBuilder): void {
  withLocals(f, ['v128', 'v128'], (bits = 0, magnitude = 0) => {
    f.tee(bits).i32x4(0x7fff).op('v128.and').tee(magnitude);
    f.i32(13)
      .op('i32x4.shl')
      .f32x4(2 ** 112)
      .op('f32x4.mul');
    f.get(magnitude).i32x4(0x7bff).op('i32x4.gt_s').i32x4(0x7f800000).op('v128.and');
    f.op('v128.or');
    f.get(bits).i32x4(0x8000).op('v128.and').i32(16).op('i32x4.shl').op('v128.or');
  });
}

/**
 * Four float32 become binary16 in the low halves of 32-bit lanes, to nearest even. Subnormal
 * results are rounded by adding 0.5, whose last place is the smallest half.
 */
function floatToHalf(f: FunctionBuilder): void {
  withLocals(f, ['v128', 'v128', 'v128'], (bits = 0, magnitude = 0, result = 0) => {
    f.tee(bits).i32x4(0x7fffffff).op('v128.and').tee(magnitude);
    // Normal: rebias by 112 and round by hand.
    f.i32x4(0xfff - 0x38000000).op('i32x4.add');
    f.get(magnitude).i32(13).op('i32x4.shr_u').i32x4(1).op('v128.and').op('i32x4.add');
    f.i32(13).op('i32x4.shr_s').set(result);
    f.get(magnitude).f32x4(0.5).op('f32x4.add').i32x4(0x3f000000).op('i32x4.sub');
    f.get(result).get(magnitude).i32x4(0x38800000).op('i32x4.lt_s').op('v128.bitselect');
    f.set(result);
    f.i32x4(0x7c00).get(result).get(magnitude).i32x4(0x477fefff).op('i32x4.gt_s');
    f.op('v128.bitselect').set(result);
    f.i32x4(0x7e00).get(result).get(magnitude).i32x4(0x7f800000).op('i32x4.gt_s');
    f.op('v128.bitselect');
    f.get(bits).i32(16).op('i32x4.shr_u').i32x4(0x8000).op('v128.and').op('v128.or');
  });
}

/** Four float32 become bfloat16 in the low halves of 32-bit lanes, to nearest even. */
function floatToBfloat(f: FunctionBuilder): void {
  withLocals(f, ['v128', 'v128'], (bits = 0, high = 0) => {
    f.tee(bits).i32(16).op('i32x4.shr_u').set(high);
    f.get(high).i32x4(0x40).op('v128.or');
    f.get(bits).i32x4(0x7fff).op('i32x4.add').get(high).i32x4(1).op('v128.and').op('i32x4.add');
    f.i32(16).op('i32x4.shr_u');
    f.get(bits).i32x4(0x7fffffff).op('v128.and').i32x4(0x7f800000).op('i32x4.gt_s');
    f.op('v128.bitselect');
  });
}
