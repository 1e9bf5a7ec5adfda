// Reshape, expand and its adjoint, the sum: the three that every gradient of a broadcast needs.
import { type DType, isFloat } from '../../base/dtype.ts';
import { ShapeError } from '../../base/errors.ts';
import {
  checkShape,
  formatShape,
  normalizeAxes,
  reducedShape,
  sameShape,
  type Shape,
  sizeOf,
} from '../../base/shape.ts';
import type { Expression } from '../../ir/expression.ts';
import { valueTypeOf } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode } from '../op.ts';
import { cast } from './cast.ts';
import { flatten, unflatten } from './emit.ts';
import { elementAt, fillReference, forEachIndex, flatPosition, wrapInteger } from './reference.ts';
import { randomTensor, tensorOf, withAttrs } from './samples.ts';

const reshapeOp = defineOp({
  name: 'reshape',
  summary: 'the same elements in row-major order under another shape',
  attrs: { shape: 'ints' },
  infer: ([x], { shape }) => {
    checkShape('reshape', shape);
    if (sizeOf(shape) !== sizeOf(x!.shape)) {
      throw new ShapeError(
        `${formatShape(x!.shape)} has ${sizeOf(x!.shape)} element(s), ${formatShape(shape)} has ${sizeOf(shape)}`,
        { op: 'reshape' },
      );
    }
    return { shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs }) => [reshape(grad, inputs[0]!.shape)],
  lower: {
    kind: 'indexed',
    view: true,
    emit: (context, indices, { shape }, node) => {
      const source = node.inputs[0]!.shape;
      return context.read(0, reshapedIndices(context.builder, indices, shape, source));
    },
  },
  reference: ([x]) => x!.data.slice(),
  samples: () => [
    withAttrs({ shape: [3, 2] }, randomTensor([2, 3])),
    withAttrs({ shape: [] }, randomTensor([1, 1])),
    withAttrs({ shape: [1, 1] }, randomTensor([])),
    withAttrs({ shape: [0, 5] }, randomTensor([3, 0])),
    withAttrs({ shape: [2, 1, 3, 4] }, randomTensor([6, 4])),
    withAttrs({ shape: [6, 4] }, randomTensor([2, 3, 4], { dtype: 'int32' })),
    withAttrs({ shape: [4] }, randomTensor([2, 2], { dtype: 'bool' })),
  ],
  cost: 0,
});

/**
 * Indices into `source` of the element at `indices` of `target`. Axes are matched group by group,
 * so that a split or a merge of some axes leaves the others alone.
 */
function reshapedIndices(
  builder: Parameters<typeof flatten>[0],
  indices: readonly Expression[],
  target: Shape,
  source: Shape,
): Expression[] {
  const result: Expression[] = [];
  let t = 0;
  let s = 0;
  while (s < source.length) {
    const firstT = t;
    const firstS = s;
    let sizeS = source[s++]!;
    let sizeT = t < target.length ? target[t++]! : 1;
    while (sizeS !== sizeT) {
      if (sizeS < sizeT && s < source.length) sizeS *= source[s++]!;
      else if (t < target.length) sizeT *= target[t++]!;
      else break;
    }
    // Only without elements do the groups not meet: any index is as good as another.
    const groupT = target.slice(firstT, t);
    const groupS = source.slice(firstS, s);
    const flat = flatten(builder, indices.slice(firstT, t), groupT);
    result.push(...unflatten(builder, flat, groupS));
  }
  return result;
}

/** The same elements under another shape of the same size. Throws ShapeError otherwise. */
export function reshape(x: Node, shape: Shape): Node {
  if (sameShape(x.shape, shape)) return x;
  return makeNode(reshapeOp, [x], { shape });
}

const expandOp = defineOp({
  name: 'expand',
  summary: 'repeats axes of size 1, and adds axes in front',
  attrs: { shape: 'ints' },
  infer: ([x], { shape }) => {
    const shift = shape.length - x!.shape.length;
    const fits =
      shift >= 0 && x!.shape.every((size, axis) => size === 1 || size === shape[axis + shift]);
    if (!fits) {
      throw new ShapeError(`${formatShape(x!.shape)} does not expand to ${formatShape(shape)}`, {
        op: 'expand',
        hint: 'sizes must be equal or 1, aligned at the last axis',
      });
    }
    return { shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs }) => [sumTo(grad, inputs[0]!.shape)],
  lower: {
    kind: 'indexed',
    view: true,
    emit: (context, indices, { shape }, node) => {
      const source = node.inputs[0]!.shape;
      const shift = shape.length - source.length;
      return context.read(
        0,
        source.map((size, axis) =>
          size === 1 ? context.builder.constant(0) : indices[axis + shift]!,
        ),
      );
    },
  },
  reference: ([x], { shape }, output) => {
    const shift = shape.length - x!.shape.length;
    return fillReference(output, (indices) =>
      elementAt(
        x!,
        x!.shape.map((size, axis) => (size === 1 ? 0 : indices[axis + shift]!)),
      ),
    );
  },
  samples: () => [
    withAttrs({ shape: [2, 3] }, randomTensor([3])),
    withAttrs({ shape: [2, 3] }, randomTensor([2, 1])),
    withAttrs({ shape: [4] }, randomTensor([])),
    withAttrs({ shape: [0, 3] }, randomTensor([1, 3])),
    withAttrs({ shape: [0, 3] }, randomTensor([0, 1])),
    withAttrs({ shape: [2, 3, 4] }, randomTensor([3, 1], { dtype: 'int32' })),
  ],
  cost: 0,
});

/** Repeats axes of size 1 to `shape`; new axes stand in front. Throws ShapeError. */
export function expand(x: Node, shape: Shape): Node {
  if (sameShape(x.shape, shape)) return x;
  checkShape('expand', shape);
  return makeNode(expandOp, [x], { shape });
}

/** The dtype that sums and products accumulate in: small integers and bool give int32. */
export function accumulatedDType(dtype: DType): DType {
  return isFloat(dtype) || dtype === 'uint32' ? dtype : 'int32';
}

const sumOp = defineOp({
  name: 'sum',
  summary: 'sum over axes',
  attrs: { axes: 'ints', keepdims: 'flag' },
  infer: ([x], { axes, keepdims }) => ({
    shape: reducedShape(x!.shape, axes, keepdims),
    dtype: accumulatedDType(x!.dtype),
  }),
  gradient: ({ grad, inputs, attrs }) => {
    const x = inputs[0]!;
    return isFloat(x.dtype) ? [restoreReduced(grad, x.shape, attrs.axes)] : [null];
  },
  lower: {
    kind: 'reduce',
    reduction: ({ axes, keepdims }, node) => {
      const type = valueTypeOf(node.dtype);
      return {
        axes,
        keepdims,
        accumulators: [{ type, identity: 0 }],
        map: (builder, value) => [builder.convert(value, type)],
        combine: (builder, [a], [b]) => [builder.add(a!, b!)],
        finish: (_builder, [value]) => value!,
      };
    },
  },
  reference: ([x], { axes }, output) => sumReference(x!.shape, x!.data, axes, output.dtype),
  samples: () => [
    withAttrs({ axes: [0, 1], keepdims: false }, randomTensor([3, 4])),
    withAttrs({ axes: [0], keepdims: false }, randomTensor([3, 4])),
    withAttrs({ axes: [1], keepdims: true }, randomTensor([3, 4, 2])),
    withAttrs({ axes: [0, 2], keepdims: false }, randomTensor([3, 2, 5])),
    withAttrs({ axes: [0], keepdims: false }, randomTensor([0])),
    withAttrs({ axes: [1], keepdims: false }, randomTensor([2, 0])),
    withAttrs({ axes: [0], keepdims: true }, randomTensor([2, 0])),
    withAttrs({ axes: [0], keepdims: false }, randomTensor([1])),
    withAttrs({ axes: [0], keepdims: false }, randomTensor([1000])),
    withAttrs({ axes: [1], keepdims: false }, randomTensor([3, 70], { dtype: 'float64' })),
    withAttrs(
      { axes: [0], keepdims: false },
      randomTensor([300], { dtype: 'int8', low: 90, high: 120 }),
    ),
    withAttrs({ axes: [0], keepdims: false }, randomTensor([7], { dtype: 'bool' })),
    withAttrs({ axes: [0], keepdims: false }, randomTensor([7], { dtype: 'uint32' })),
    {
      inputs: [tensorOf([2, 2], [Infinity, 1, NaN, -Infinity])],
      attrs: { axes: [1], keepdims: false },
      skipGradient: 'infinities',
    },
  ],
});

function sumReference(
  shape: Shape,
  data: Float64Array,
  axes: readonly number[],
  dtype: DType,
): Float64Array {
  const kept = reducedShape(shape, axes, true);
  const sums = new Float64Array(sizeOf(kept));
  forEachIndex(shape, (indices, flat) => {
    const target = indices.map((index, axis) => (axes.includes(axis) ? 0 : index));
    const position = flatPosition(kept, target);
    sums[position] = wrapInteger(dtype, sums[position]! + data[flat]!);
  });
  return sums;
}

/** A reduced value (or its gradient) repeated along the reduced `axes` of `shape`. */
export function restoreReduced(reduced: Node, shape: Shape, axes: readonly number[]): Node {
  return expand(reshape(reduced, reducedShape(shape, axes, true)), shape);
}

/** Sum over axes (all by default). Integers and bool accumulate in int32. */
export function sum(x: Node, axes?: number | readonly number[], keepdims = false): Node {
  const normal = normalizeAxes('sum', axes, x.shape.length);
  if (normal.length === 0) return cast(x, accumulatedDType(x.dtype));
  return makeNode(sumOp, [x], { axes: normal, keepdims });
}

/** The adjoint of broadcasting: sums `x` to `shape`, which must broadcast to x's shape. */
export function sumTo(x: Node, shape: Shape): Node {
  if (sameShape(x.shape, shape)) return x;
  const shift = x.shape.length - shape.length;
  const axes: number[] = [];
  for (let axis = 0; axis < x.shape.length; axis++) {
    if (axis < shift || (shape[axis - shift] === 1 && x.shape[axis] !== 1)) axes.push(axis);
  }
  return reshape(axes.length === 0 ? x : makeNode(sumOp, [x], { axes, keepdims: true }), shape);
}
