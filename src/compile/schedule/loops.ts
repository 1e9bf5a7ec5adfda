// Small pieces that schedules are written with.
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { For, Statement, Target } from '../../ir/kernel.ts';

/** Grid items that are enough to share among threads. */
export const ENOUGH_ITEMS = 16;

/** Bytes of a cache line. */
export const CACHE_LINE = 64;

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
): For {
  return loopBetween(index, builder.constant(0), builder.constant(count), body, vector);
}

/** A loop over [start, end). */
export function loopBetween(
  index: Variable,
  start: Expression,
  end: Expression,
  body: readonly Statement[],
  vector = false,
): For {
  return { kind: 'for', index, start, end, step: 1, body, vector };
}

/** `size`, or as much of it as is left of `limit` from `first`: the end of a loop over a block. */
export function bounded(
  builder: Builder,
  first: Expression,
  size: number,
  limit: number,
): Expression {
  if (limit % size === 0) return builder.constant(size);
  return builder.min(builder.constant(size), builder.sub(builder.constant(limit), first));
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

/** How far ahead of what is read memory is told: a page, further than processors look. */
const BYTES_AHEAD = 4096;

/** Whether memory is to be told of `bytes` that are read in a row: not if a second-level cache holds them. */
export function isWorthPrefetching({ prefetches, cacheBytes }: Target, bytes: number): boolean {
  return prefetches === true && bytes > cacheBytes.l2;
}

/**
 * Tells a target that can be told that float32 of `buffer` will go on being read from `index`, where
 * all that is read in a row is `bytes`.
 */
export function prefetchAhead(
  builder: Builder,
  target: Target,
  buffer: Buffer,
  index: Expression,
  bytes: number,
): Statement[] {
  if (!isWorthPrefetching(target, bytes)) return [];
  return [{ kind: 'prefetch', buffer, index: builder.offset(index, BYTES_AHEAD / 4) }];
}

/** Gives values names, in the order in which they are needed. */
export function naming(
  builder: Builder,
  statements: Statement[],
): (label: string, value: Expression) => Variable {
  return (label, value) => {
    const { type, lanes, min, max } = value;
    const variable = builder.variable(label, type, { lanes, min, max });
    statements.push({ kind: 'let', variable, value });
    return variable;
  };
}

/**
 * The sum of a vector's lanes: halves are added, and their halves. What `extend` adds to them on the
 * way has as many lanes as are left.
 */
export function joinLanes(
  builder: Builder,
  vector: Variable,
  statements: Statement[],
  extend: (sum: Variable, name: (value: Expression) => Variable) => Variable = (sum) => sum,
): Expression {
  const label = naming(builder, statements);
  const name = (value: Expression): Variable => label('part', value);
  let sum = extend(vector, name);
  while (sum.lanes > 1) {
    const half = sum.lanes / 2;
    const whole = sum;
    const [low, high] = [0, half].map((start) =>
      builder.lanes(Array.from({ length: half }, (_, i) => builder.extract(whole, start + i))),
    ) as [Expression, Expression];
    sum = extend(name(builder.add(low, high)), name);
  }
  return sum;
}

/** The smallest multiple of `unit` that is at least `size`. */
export function roundUp(size: number, unit: number): number {
  return Math.ceil(size / unit) * unit;
}
