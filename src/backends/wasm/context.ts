// What the parts of the renderer share while they emit one kernel.
import { isFloatType, type Buffer, type Expression, type Variable } from '../../ir/expression.ts';
import { internalError } from '../../base/errors.ts';
import type { FunctionBuilder, WasmType } from './encoder.ts';
import type { Helpers } from './helpers.ts';

export interface Context {
  readonly f: FunctionBuilder;
  readonly helpers: Helpers;
  /** Whether the module may hold relaxed SIMD instructions. */
  readonly relaxed: boolean;
  /** The local that holds a variable. */
  localOf(variable: Variable): number;
  /** Pushes the address of `buffer[index]` but for the immediate offset, which is returned. */
  address(buffer: Buffer, index: Expression): number;
  /** Pushes the value of an expression. */
  emit(expression: Expression): void;
}

/** Register types by lanes: vectors of 2 lanes hold 64-bit values or the low half of 32-bit ones. */
export type FloatShape = 'f32' | 'f64' | 'f32x4' | 'f64x2';
export type IntegerShape = 'i32' | 'i32x4';

export function wasmTypeOf({ type, lanes }: Pick<Expression, 'type' | 'lanes'>): WasmType {
  if (lanes > 1) return 'v128';
  return isFloatType(type) ? type : 'i32';
}

/** Throws unless values of this type and number of lanes fit one register. */
export function checkLanes({ type, lanes }: Pick<Expression, 'type' | 'lanes'>): void {
  if (lanes === 1 || lanes === 2 || (lanes === 4 && type !== 'f64')) return;
  throw internalError(`a vector of ${lanes} ${type} does not fit a 128-bit register`);
}

export function floatShape({ type, lanes }: Pick<Expression, 'type' | 'lanes'>): FloatShape {
  if (lanes === 1) return type === 'f64' ? 'f64' : 'f32';
  return type === 'f64' ? 'f64x2' : 'f32x4';
}

export function integerShape({ lanes }: Pick<Expression, 'lanes'>): IntegerShape {
  return lanes === 1 ? 'i32' : 'i32x4';
}

/**
 * Runs `body` with temporary locals. Operands must be on the stack or in locals before: nothing
 * that `body` emits may be interleaved with another use of the same temporaries.
 */
export function withLocals(
  f: FunctionBuilder,
  types: readonly WasmType[],
  body: (...locals: number[]) => void,
): void {
  const locals = types.map((type) => f.local(type));
  body(...locals);
  for (const local of locals) f.release(local);
}

/** Bytes that pick every 64-bit mask's low word: a 2-lane mask for 32-bit lanes. */
const LOW_WORDS = [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11];

/** A 2-lane mask on the stack becomes one for 32-bit lanes. */
export function narrowMask(f: FunctionBuilder): void {
  withLocals(f, ['v128'], (mask = 0) => {
    f.tee(mask).get(mask).shuffle(LOW_WORDS);
  });
}
