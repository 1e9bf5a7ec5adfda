// The kernel IR's expressions: typed, immutable, interned by the Builder of one kernel, so that
// equal expressions are the same object. Index arithmetic is kept in a linear normal form.
import type { DType } from '../base/dtype.ts';

/** What a value is in a register. Narrow storage types widen on load and narrow on store. */
export type ValueType = 'f32' | 'f64' | 'i32' | 'u32' | 'bool';

export function isFloatType(type: ValueType): type is 'f32' | 'f64' {
  return type === 'f32' || type === 'f64';
}

/** Exact operations that every target has. */
export type BasicUnary = 'neg' | 'abs' | 'sqrt' | 'floor' | 'ceil' | 'trunc' | 'round' | 'not';

/** Functions that `decompose` turns into polynomials and exact operations. */
export type MathUnary =
  | 'exp'
  | 'exp2'
  | 'expm1'
  | 'log'
  | 'log2'
  | 'log10'
  | 'log1p'
  | 'sin'
  | 'cos'
  | 'tan'
  | 'asin'
  | 'acos'
  | 'atan'
  | 'sinh'
  | 'cosh'
  | 'tanh'
  | 'asinh'
  | 'acosh'
  | 'atanh'
  | 'sigmoid'
  | 'erf'
  | 'erfc'
  | 'erfinv'
  | 'lgamma'
  | 'digamma';

export type UnaryOp = BasicUnary | MathUnary;

/**
 * `div` of integers truncates, `rem` has the dividend's sign (as C and WebAssembly); index
 * arithmetic is non-negative. `min`/`max` of floats propagate NaN. `mulHigh` is the upper word of
 * a u32 product. `pow` and `atan2` are decomposed; `fmod` is exact as C's.
 */
export type BinaryOp =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'rem'
  | 'min'
  | 'max'
  | 'and'
  | 'or'
  | 'xor'
  | 'shl'
  | 'shr'
  | 'mulHigh'
  | 'pow'
  | 'atan2'
  | 'fmod'
  | CompareOp;

export type CompareOp = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge';

interface Base {
  /** Creation order; operands always have smaller ids. */
  readonly id: number;
  readonly type: ValueType;
  /** 1 for scalars, else the number of vector lanes. A bool vector is a lane mask. */
  readonly lanes: number;
  /** Bounds of an i32 scalar, infinite elsewhere. */
  readonly min: number;
  readonly max: number;
}

/** A number in every lane. */
export interface Constant extends Base {
  readonly kind: 'constant';
  readonly value: number;
}

/** A loop index, the grid index, an immutable `let` or a mutable local. */
export interface Variable extends Base {
  readonly kind: 'variable';
  readonly name: string;
  readonly mutable: boolean;
}

export interface Unary extends Base {
  readonly kind: 'unary';
  readonly op: UnaryOp;
  readonly operand: Expression;
}

export interface Binary extends Base {
  readonly kind: 'binary';
  readonly op: BinaryOp;
  readonly left: Expression;
  readonly right: Expression;
}

/** Lane by lane; both branches are evaluated, so loads inside must have safe indices. */
export interface Select extends Base {
  readonly kind: 'select';
  readonly condition: Expression;
  readonly whenTrue: Expression;
  readonly whenFalse: Expression;
}

/** `a * b + c` with one rounding. Only on targets that have it, only in fast numerics. */
export interface FusedMultiplyAdd extends Base {
  readonly kind: 'fma';
  readonly a: Expression;
  readonly b: Expression;
  readonly c: Expression;
}

/**
 * Numeric conversion. Float to integer truncates and saturates, NaN gives 0; between i32 and u32
 * the bits stay; to bool is `!= 0`, and bool gives 0 or 1.
 */
export interface Convert extends Base {
  readonly kind: 'convert';
  readonly operand: Expression;
}

/** The same 32 bits seen as another type. */
export interface Bitcast extends Base {
  readonly kind: 'bitcast';
  readonly operand: Expression;
}

/** `lanes` consecutive elements from `index` (in elements), unaligned. */
export interface Load extends Base {
  readonly kind: 'load';
  readonly buffer: Buffer;
  readonly index: Expression;
}

/** A scalar in every lane. */
export interface Splat extends Base {
  readonly kind: 'splat';
  readonly operand: Expression;
}

/** A vector from its lanes' scalars. */
export interface Lanes extends Base {
  readonly kind: 'lanes';
  readonly operands: readonly Expression[];
}

/** One lane of a vector. */
export interface Extract extends Base {
  readonly kind: 'extract';
  readonly operand: Expression;
  readonly lane: number;
}

export type Expression =
  | Constant
  | Variable
  | Unary
  | Binary
  | Select
  | FusedMultiplyAdd
  | Convert
  | Bitcast
  | Load
  | Splat
  | Lanes
  | Extract;

/**
 * Memory a kernel reads or writes. `argument`s are bound by the plan; `workgroup` and `private`
 * arrays live as long as one grid item (on CPUs both are per-thread scratch).
 */
export interface Buffer {
  readonly id: number;
  readonly name: string;
  readonly dtype: DType;
  readonly space: 'argument' | 'workgroup' | 'private';
  readonly access: 'read' | 'write' | 'readwrite';
  /** Elements; needed for `workgroup` and `private` arrays. */
  readonly length: number | undefined;
}

/** The type a stored element has in registers. */
export function valueTypeOf(dtype: DType): ValueType {
  switch (dtype) {
    case 'float32':
    case 'float16':
    case 'bfloat16':
      return 'f32';
    case 'float64':
      return 'f64';
    case 'int8':
    case 'uint8':
    case 'int16':
    case 'int32':
      return 'i32';
    case 'uint32':
      return 'u32';
    case 'bool':
      return 'bool';
    default:
      dtype satisfies never;
      throw new Error('internal: unknown dtype');
  }
}

/** The sub-expressions of an expression, in order. */
export function operandsOf(expression: Expression): readonly Expression[] {
  switch (expression.kind) {
    case 'constant':
    case 'variable':
      return [];
    case 'unary':
    case 'convert':
    case 'bitcast':
    case 'splat':
    case 'extract':
      return [expression.operand];
    case 'binary':
      return [expression.left, expression.right];
    case 'select':
      return [expression.condition, expression.whenTrue, expression.whenFalse];
    case 'fma':
      return [expression.a, expression.b, expression.c];
    case 'load':
      return [expression.index];
    case 'lanes':
      return expression.operands;
    default:
      expression satisfies never;
      throw new Error('internal: unknown expression');
  }
}
