// Row-major positions and indices as expressions.
import type { Shape } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';

/** Row-major position of `indices` in `shape`; i32. */
export function flatten(
  builder: Builder,
  indices: readonly Expression[],
  shape: Shape,
): Expression {
  let flat: Expression = builder.constant(0);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1) {
      flat = builder.add(flat, builder.scale(indices[axis] as Expression, stride));
    }
    stride *= shape[axis] as number;
  }
  return flat;
}

/** One index for each axis of a shape. */
export type IndicesOf<S extends Shape> = { -readonly [Axis in keyof S]: Expression };

/** The indices of row-major position `flat` in `shape`: as many as are written there. */
export function unflatten<const S extends Shape>(
  builder: Builder,
  flat: Expression,
  shape: S,
): IndicesOf<S>;
export function unflatten(builder: Builder, flat: Expression, shape: Shape): Expression[] {
  const indices = new Array<Expression>(shape.length).fill(builder.constant(0));
  let first = 0;
  while (first < shape.length && shape[first] === 1) first++;
  let rest = flat;
  for (let axis = shape.length - 1; axis >= first; axis--) {
    const size = Math.max(shape[axis] as number, 1);
    if (size === 1) continue;
    if (axis === first) {
      indices[axis] = rest;
      break;
    }
    indices[axis] = builder.rem(rest, builder.constant(size));
    rest = builder.div(rest, builder.constant(size));
  }
  return indices;
}
