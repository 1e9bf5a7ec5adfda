// Values made from nothing: constants and index ramps.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { checkShape, formatShape, normalizeAxis, type Shape } from '../../base/shape.ts';
import { valueTypeOf } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode } from '../op.ts';
import { withinDType } from '../bounds.ts';
import { fillReference, storedValue } from './reference.ts';

const fullOp = defineOp({
  name: 'full',
  summary: 'one value everywhere',
  attrs: { shape: 'ints', value: 'float', dtype: 'dtype' },
  infer: (_inputs, { shape, dtype }) => {
    checkShape('full', shape);
    return { shape, dtype };
  },
  gradient: () => [],
  lower: {
    kind: 'indexed',
    view: false,
    emit: ({ builder }, _indices, { value, dtype }) => builder.constant(value, valueTypeOf(dtype)),
  },
  bounds: (_inputs, { value }) => (Number.isNaN(value) ? null : { min: value, max: value }),
  reference: (_inputs, { value }, output) => fillReference(output, () => value),
  samples: () => [
    { inputs: [], attrs: { shape: [], value: 1.5, dtype: 'float32' } },
    { inputs: [], attrs: { shape: [0], value: 1, dtype: 'float32' } },
    { inputs: [], attrs: { shape: [2, 3], value: -Infinity, dtype: 'float32' } },
    { inputs: [], attrs: { shape: [3], value: NaN, dtype: 'float64' } },
    { inputs: [], attrs: { shape: [2, 2], value: -7, dtype: 'int8' } },
    { inputs: [], attrs: { shape: [4], value: 4294967295, dtype: 'uint32' } },
    { inputs: [], attrs: { shape: [4], value: 1, dtype: 'bool' } },
    { inputs: [], attrs: { shape: [2], value: 0.5, dtype: 'float16' } },
  ],
  cost: 0,
});

const iotaOp = defineOp({
  name: 'iota',
  summary: 'the index along one axis',
  attrs: { shape: 'ints', axis: 'int', dtype: 'dtype' },
  infer: (_inputs, { shape, axis, dtype }) => {
    if (dtype === 'bool') throw new DTypeError('an index is not a bool', { op: 'iota' });
    if (axis < 0 || axis >= shape.length) {
      throw new ShapeError(`there is no axis ${axis} in ${formatShape(shape)}`, { op: 'iota' });
    }
    return { shape, dtype };
  },
  gradient: () => [],
  lower: {
    kind: 'indexed',
    view: false,
    emit: ({ builder }, indices, { axis, dtype }) =>
      builder.convert(indices[axis]!, valueTypeOf(dtype)),
  },
  bounds: (_inputs, { shape, axis, dtype }) => {
    const max = Math.max(shape[axis]! - 1, 0);
    return isFloat(dtype) ? null : withinDType({ min: 0, max }, dtype);
  },
  reference: (_inputs, { axis }, output) => fillReference(output, (indices) => indices[axis]!),
  samples: () => [
    { inputs: [], attrs: { shape: [5], axis: 0, dtype: 'float32' } },
    { inputs: [], attrs: { shape: [0, 2], axis: 1, dtype: 'int32' } },
    { inputs: [], attrs: { shape: [3, 1, 4], axis: 2, dtype: 'int32' } },
    { inputs: [], attrs: { shape: [3, 4], axis: 0, dtype: 'uint8' } },
    { inputs: [], attrs: { shape: [1], axis: 0, dtype: 'float64' } },
  ],
  cost: 1,
});

/** A tensor of one value, rounded to what `dtype` stores. */
export function full(shape: Shape, value: number, dtype: DType): Node {
  const stored = isFloat(dtype) ? value : storedValue(dtype, value);
  return makeNode(fullOp, [], { shape, value: stored, dtype });
}

/** A constant of shape [] that broadcasts to anything. */
export function constant(value: number, dtype: DType): Node {
  return full([], value, dtype);
}

/** Zeros with the shape and dtype of `node`. */
export function zerosLike(node: Node): Node {
  return full(node.shape, 0, node.dtype);
}

/** Element (..., i, ...) is i, the index along `axis`. */
export function iota(shape: Shape, axis: number, dtype: DType): Node {
  checkShape('iota', shape);
  return makeNode(iotaOp, [], { shape, axis: normalizeAxis('iota', axis, shape.length), dtype });
}
