// The words of kernels as bytes: the order of each list is part of the format (docs/format.md), so words
// are added at the end and never moved. Written by kernel-writer.ts, read by kernel-reader.ts.
import type { BasicUnary, BinaryOp, Buffer, Expression, ValueType } from './expression.ts';
import type { Statement } from './kernel.ts';

/** Changes when files written before can no longer be read. */
export const KERNEL_FORMAT = 1;

export const TYPES = ['f32', 'f64', 'i32', 'u32', 'bool'] as const satisfies readonly ValueType[];

/** `again` is something that was written before. */
export const EXPRESSIONS = [
  'again',
  'constant',
  'unary',
  'binary',
  'select',
  'fma',
  'convert',
  'bitcast',
  'load',
  'splat',
  'lanes',
  'extract',
] as const satisfies readonly (Exclude<Expression['kind'], 'variable'> | 'again')[];

export const STATEMENTS = [
  'for',
  'if',
  'let',
  'declare',
  'assign',
  'store',
  'barrier',
] as const satisfies readonly Exclude<Statement['kind'], 'multiplyPairs'>[];

export const UNARY = [
  'neg',
  'abs',
  'sqrt',
  'floor',
  'ceil',
  'trunc',
  'round',
  'not',
] as const satisfies readonly BasicUnary[];

/** Those that `decompose` leaves. */
export const BINARY = [
  'add',
  'sub',
  'mul',
  'div',
  'rem',
  'min',
  'max',
  'and',
  'or',
  'xor',
  'shl',
  'shr',
  'mulHigh',
  'fmod',
  'eq',
  'ne',
  'lt',
  'le',
  'gt',
  'ge',
] as const satisfies readonly BinaryOp[];

export const SPACES = [
  'argument',
  'workgroup',
  'private',
] as const satisfies readonly Buffer['space'][];
export const ACCESSES = [
  'read',
  'write',
  'readwrite',
] as const satisfies readonly Buffer['access'][];

/** Flags of a `for`. */
export const VECTOR = 1;
export const REPEATABLE = 2;

/** Flags of bounds: which of them are finite. */
export const HAS_MIN = 1;
export const HAS_MAX = 2;
