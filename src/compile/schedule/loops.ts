// Small pieces that schedules are written with.
import type { Builder } from '../../ir/builder.ts';
import type { Expression, Variable } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';

/** A loop index over [0, count). */
export function loopIndex(builder: Builder, name: string, count: number): Variable {
  return builder.variable(name, 'i32', { min: 0, max: Math.max(0, count - 1) });
}

/** A loop over [0, count). */
export function loop(
  builder: Builder,
  index: Variable,
  count: number,
  body: readonly Statement[],
  vector = false,
): Statement {
  return {
    kind: 'for',
    index,
    start: builder.constant(0),
    end: builder.constant(count),
    step: 1,
    body,
    vector,
  };
}

/** `a * b + sum`, fused where the target may. */
export function multiplyAdd(
  builder: Builder,
  target: Target,
  a: Expression,
  b: Expression,
  sum: Expression,
): Expression {
  const float = a.type === 'f32' || a.type === 'f64';
  return target.fma && float ? builder.fma(a, b, sum) : builder.add(sum, builder.mul(a, b));
}

/** The smallest multiple of `unit` that is at least `size`. */
export function roundUp(size: number, unit: number): number {
  return Math.ceil(size / unit) * unit;
}
