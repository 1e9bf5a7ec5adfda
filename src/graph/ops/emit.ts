// What lowerings share: constants shaped like a value, integer wrap, loops.
import type { DType } from '../../base/dtype.ts';
import type { Shape } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';

/** `value` with the register type and the lanes of `like`. */
export function constantLike(builder: Builder, like: Expression, value: number): Expression {
  return builder.constant(value, like.type, like.lanes);
}

/** Wraps an i32 result to the narrow integer that stores it; other dtypes pass. */
export function narrow(builder: Builder, value: Expression, dtype: DType): Expression {
  if (dtype === 'uint8') return builder.and(value, constantLike(builder, value, 255));
  if (dtype !== 'int8' && dtype !== 'int16') return value;
  if (value.min >= (dtype === 'int8' ? -128 : -32768)) {
    if (value.max <= (dtype === 'int8' ? 127 : 32767)) return value;
  }
  const bits = constantLike(builder, value, dtype === 'int8' ? 24 : 16);
  return builder.binary('shr', builder.binary('shl', value, bits), bits);
}

/** Rounds a float register to the precision of `dtype`, ties to even; wide floats pass. */
export function roundToHalf(builder: Builder, value: Expression, dtype: DType): Expression {
  const bits = builder.bitcast(value, 'u32');
  const word = (number: number): Expression => builder.constant(number, 'u32', value.lanes);
  const roundAt = (shift: number): Expression => {
    const odd = builder.and(builder.binary('shr', bits, word(shift)), word(1));
    const up = builder.add(builder.add(bits, word(2 ** (shift - 1) - 1)), odd);
    const kept = builder.and(up, word((0xffffffff << shift) >>> 0));
    return builder.bitcast(kept, 'f32');
  };
  const isNaN = builder.compare('ne', value, value);
  if (dtype === 'bfloat16') return builder.select(isNaN, value, roundAt(16));
  if (dtype !== 'float16') return value;
  const magnitude = builder.unary('abs', value);
  const sign = builder.and(bits, word(0x80000000));
  const signed = (positive: Expression): Expression =>
    builder.bitcast(builder.or(builder.bitcast(positive, 'u32'), sign), 'f32');
  // Below 2^-14 halves are multiples of 2^-24, the spacing of floats next to a half.
  const half = constantLike(builder, value, 0.5);
  const tiny = signed(builder.sub(builder.add(magnitude, half), half));
  const infinite = signed(constantLike(builder, value, Infinity));
  const normal = builder.select(
    builder.compare('lt', magnitude, constantLike(builder, value, 2 ** -14)),
    tiny,
    roundAt(13),
  );
  const tooLarge = builder.compare('ge', magnitude, constantLike(builder, value, 65520));
  return builder.select(isNaN, value, builder.select(tooLarge, infinite, normal));
}

/** A loop over [0, size). */
export function loop(
  builder: Builder,
  name: string,
  size: number,
  body: (index: Expression) => readonly Statement[],
  options: { vector?: boolean } = {},
): Statement[] {
  if (size <= 0) return [];
  if (size === 1) return [...body(builder.constant(0))];
  const index = builder.variable(name, 'i32', { min: 0, max: size - 1 });
  const statement: Statement = {
    kind: 'for',
    index,
    start: builder.constant(0),
    end: builder.constant(size),
    step: 1,
    body: body(index),
    ...(options.vector === true ? { vector: true } : {}),
  };
  return [statement];
}

/** Loops over all indices of `shape`; the last one may run in vectors. */
export function loops(
  builder: Builder,
  name: string,
  shape: Shape,
  body: (indices: readonly Expression[]) => readonly Statement[],
  options: { vector?: boolean } = {},
): Statement[] {
  const nest = (indices: readonly Expression[]): readonly Statement[] => {
    const axis = indices.length;
    if (axis === shape.length) return body(indices);
    return loop(builder, `${name}${axis}`, shape[axis]!, (index) => nest([...indices, index]), {
      vector: options.vector === true && axis === shape.length - 1,
    });
  };
  return [...nest([])];
}

/** The indices of row-major position `flat` in `shape`. */
export function unflatten(builder: Builder, flat: Expression, shape: Shape): Expression[] {
  const indices: Expression[] = new Array<Expression>(shape.length);
  let rest = flat;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis]!;
    if (axis === 0) {
      indices[axis] = size === 1 ? builder.constant(0) : rest;
      break;
    }
    const divisor = builder.constant(Math.max(size, 1));
    indices[axis] = builder.rem(rest, divisor);
    rest = builder.div(rest, divisor);
  }
  return indices;
}

/** Row-major position of `indices` in `shape`. */
export function flatten(
  builder: Builder,
  indices: readonly Expression[],
  shape: Shape,
): Expression {
  let flat: Expression = builder.constant(0);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    flat = builder.add(flat, builder.scale(indices[axis]!, stride));
    stride *= shape[axis]!;
  }
  return flat;
}
