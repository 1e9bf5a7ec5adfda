// The functions that decompose must have an answer for, so that a missing one is a type error.
import type { BinaryOp, Expression, MathUnary } from '../expression.ts';
import type { MathEmitter } from './emitter.ts';

export type MathUnaryTable = Readonly<
  Record<MathUnary, (m: MathEmitter, x: Expression) => Expression>
>;

export type MathBinaryTable = Readonly<
  Record<
    Extract<BinaryOp, 'pow' | 'atan2' | 'fmod'>,
    (m: MathEmitter, x: Expression, y: Expression) => Expression
  >
>;
